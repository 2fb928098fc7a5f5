//! Those who break rules with keys that are valid but limited: an operator's, a node's, none of an admin's.
//!
//! Each acts from one machine, which is theirs from then on ([`World::corrupt`]): oracles leave it out of what must
//! come true and go on judging everyone else. What they send is made in [`forge`], since the product's own encoders
//! write nothing that breaks a limit.
//!
//! | name | what it holds | what it does |
//! |---|---|---|
//! | `equivocator` | an operator | two statements at one place of its chain, told to different peers |
//! | `forger` | nothing | statements and reports of others, changed |
//! | `replayer` | nothing | says again all that it ever heard |
//! | `dater` | an operator | stamps at the beginning and at the end of time |
//! | `flooder` | an operator and a node | many statements and reports, all valid |
//! | `giant` | an operator | the largest that is allowed, and larger |
//! | `cyclist` | an operator | groups that contain each other |
//! | `unstoppable` | an operator | goes on after its revocation |
//! | `liar` | a node | answers pulls with junk, announces what it has not |
//! | `flatterer` | a node | claims to be equal to everyone |
//! | `talker` | a node | opens exchanges and never ends them |
//! | `forwarder` | a node | drops all that it should pass on |
//! | `rooted` | a node | accuses healthy nodes, reports for others, speaks as if it were a person |

mod author;
mod carrier;
pub mod forge;

use lab_agent_core::{Command, Prepared, Reply};
use lab_crdt_model::link::{Channel, Lane};

use bytes::Bytes;

use crate::person::Person;
use crate::plan::{Adversary, Turn};
use crate::world::World;

pub(crate) use author::edit;
pub use author::{Cyclist, Dater, Equivocator, Flooder, Forger, Giant, Pen, Unstoppable};
pub use carrier::{Flatterer, Forwarder, Hole, Liar, Replayer, Rooted, Talker};

/// The names of all, as plans call them.
pub const NAMES: [&str; 13] = [
    "equivocator",
    "forger",
    "replayer",
    "dater",
    "flooder",
    "giant",
    "cyclist",
    "unstoppable",
    "liar",
    "flatterer",
    "talker",
    "forwarder",
    "rooted",
];

/// One of each.
pub fn all() -> Vec<Box<dyn Adversary>> {
    vec![
        Box::new(Equivocator::default()),
        Box::new(Forger),
        Box::new(Replayer::default()),
        Box::new(Dater::default()),
        Box::new(Flooder::default()),
        Box::new(Giant::default()),
        Box::new(Cyclist::default()),
        Box::new(Unstoppable::default()),
        Box::new(Liar),
        Box::new(Flatterer),
        Box::new(Talker),
        Box::new(Forwarder),
        Box::new(Rooted::default()),
        Box::new(crate::skew::Future::default()),
    ]
}

/// Sends frames to every peer of a machine; returns how many took one.
pub fn tell_all(world: &mut World, from: usize, frames: &[Bytes]) -> usize {
    let peers = world.peers(from);
    for peer in &peers {
        tell(world, from, *peer, frames);
    }
    peers.len()
}

/// Sends frames to one peer.
pub fn tell(world: &mut World, from: usize, to: usize, frames: &[Bytes]) {
    for bytes in frames {
        world.inject(from, to, Channel::Mesh, Lane::Bulk, bytes.clone());
    }
}

/// The end of a person's chain as a machine knows it; `None` while it does not answer at once.
pub fn prepared(world: &mut World, node: usize, person: &Person) -> Option<Prepared> {
    let author = person.author();
    if !world.is_up(node) || world.is_paused(node) {
        return None;
    }
    let id = world.send_command(node, Command::Prepare { author });
    match world.take_reply(id) {
        Some(Reply::Prepared(prepared)) => Some(prepared),
        _ => None,
    }
}

/// Makes a machine the adversary's, its frames untouched, unless it is already.
fn take_over(world: &mut World, turn: &Turn) {
    if !world.is_corrupt(turn.node) {
        world.corrupt(turn.node, Box::new(crate::world::tamper::Untouched));
    }
}
