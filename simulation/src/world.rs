//! Machines, links, disks, clocks and people: the other driver of the agent, beside the daemon.
//!
//! One loop over a queue of things to come. Each hands one [`Input`] to one agent, drains its outputs and carries
//! them out on the models: frames go through [`Network`], batches to a [`Drive`](crate::disk::Drive), effects
//! change a machine's files. Nothing here decides what an agent does.
//!
//! ```
//! use lab_simulation::World;
//! let mut world = World::found(7);
//! world.grow(3);
//! assert!(world.are_equal());
//! ```

mod bare;
mod carry;
mod found;
pub(crate) mod host;
mod link;
mod process;
mod see;
mod step;
pub(crate) mod store;
pub(crate) mod tamper;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

use bytes::Bytes;
use lab_agent_core::{Command, CommandId, Config, Input, Reply, StoreId};
use lab_crdt_log::RootRecord;
use lab_crdt_model::link::Channel;
use lab_crdt_model::{AuthorId, MeshId, Mono, NodeId, Standing};

use crate::clock::START_NS;
use crate::network::{self, Network};
use crate::note::{Note, What};
use crate::person::Person;
use crate::trace::{Record, Trace, kind};
use host::Host;
use link::Link;
pub use store::StoreKind;
use tamper::Tamper;

/// What a world is made of.
#[derive(Clone, Debug)]
pub struct Options {
    /// Everything random follows from it.
    pub seed: u64,
    /// How disks are made.
    pub store: StoreKind,
    /// How machines reach each other.
    pub network: network::Config,
    /// Figures of the agents.
    pub agent: Config,
    /// Whether notes are kept for [`World::take_notes`].
    pub is_noted: bool,
    /// What a step of an agent takes of a processor, nanoseconds; what it asks for comes after that.
    pub step_ns: u64,
    /// Whether agents share what equal replicas hold, and compute common steps once: the same results for less memory
    /// and time. What is shared is checked now and then.
    pub is_sharing: bool,
    /// Processors that all agents share, as agents of one machine do; 0: each has one of its own.
    pub cores: usize,
}

impl Options {
    /// A homelab on one network, with model disks.
    pub fn homelab(seed: u64) -> Self {
        Self {
            seed,
            store: StoreKind::Model,
            network: network::Config::default(),
            agent: Config::homelab("0.1.0"),
            is_noted: false,
            step_ns: 0,
            is_sharing: true,
            cores: 0,
        }
    }
}

/// Node keys are random already.
#[derive(Default, Debug)]
pub(crate) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for (n, byte) in bytes.iter().take(8).enumerate() {
            self.0 ^= u64::from(*byte) << (8 * n);
        }
    }

    fn write_usize(&mut self, _length: usize) {}
}

/// Looked up only, never walked.
type ByKey = HashMap<NodeId, u32, BuildHasherDefault<KeyHasher>>;

#[derive(Debug)]
enum Happening {
    Wake {
        node: u32,
    },
    Frame {
        slot: u32,
        serial: u64,
        is_to_high: bool,
        frame: link::Framed,
    },
    Input {
        node: u32,
        life: u32,
        input: Box<Input>,
    },
    /// A step that took its time is done.
    Step {
        node: u32,
        life: u32,
    },
    Connect {
        from: u32,
        life: u32,
        to: u32,
        channel: Channel,
        is_relayed: bool,
    },
    /// The next batch that waits reaches the disk.
    Write {
        node: u32,
        life: u32,
    },
    Stored {
        node: u32,
        life: u32,
        id: StoreId,
        result: Box<Result<(), String>>,
    },
    /// The driver of a node learns that a link is gone.
    Down {
        node: u32,
        life: u32,
        peer: u32,
        channel: Channel,
        serial: u64,
        why: &'static str,
    },
    /// Whether a link that was silent for long is dead.
    LinkCheck {
        slot: u32,
        serial: u64,
    },
    /// Held frames are sent again.
    Retry {
        slot: u32,
        serial: u64,
    },
    NetworkChange,
    Resume {
        node: u32,
        paused_until: Mono,
    },
    Process {
        node: u32,
        fault: Box<host::ProcessFault>,
    },
}

/// A world of agents. See the module.
pub struct World {
    options: Options,
    now: Mono,
    wheel: crate::wheel::Wheel<Happening>,
    hosts: Vec<Host>,
    by_key: ByKey,
    network: Network,
    network_change_at: Option<Mono>,
    /// When each of the shared processors is free.
    cores: Vec<Mono>,
    links: Vec<Link>,
    free_slots: Vec<u32>,
    /// Links with held frames or a path that is closed.
    troubled: BTreeSet<u32>,
    serial: u64,
    replies: BTreeMap<CommandId, Reply>,
    command_id: u64,
    trace: Trace,
    notes: Vec<Note>,
    mesh: MeshId,
    token_count: u64,
    /// The admin who founded the mesh.
    pub admin: Person,
    /// Frames and payload bytes sent by all nodes.
    pub sent: (u64, u64),
    /// Everyone may link to everyone, members or not: a gate that was forgotten.
    pub is_gate_open: bool,
    root: Vec<u8>,
    /// What it says.
    record: RootRecord,
    /// Machines of adversaries.
    tampers: BTreeMap<u32, Box<dyn Tamper>>,
    /// Of this moment.
    views: Vec<see::ViewOf>,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World")
            .field("now", &self.now)
            .field("nodes", &self.hosts.len())
            .finish_non_exhaustive()
    }
}

impl World {
    /// How many machines there are, dead ones included.
    pub fn len(&self) -> usize {
        self.hosts.len()
    }

    /// Never: a world begins with one machine.
    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }

    /// True time.
    pub const fn now(&self) -> Mono {
        self.now
    }

    /// True milliseconds since the world began.
    pub const fn now_ms(&self) -> u64 {
        (self.now.0 - START_NS) / 1_000_000
    }

    /// What the world was made of.
    pub const fn options(&self) -> &Options {
        &self.options
    }

    /// The mesh.
    pub const fn mesh(&self) -> MeshId {
        self.mesh
    }

    /// The record of everything that happened.
    pub const fn trace(&mut self) -> &mut Trace {
        &mut self.trace
    }

    /// A hash of everything that happened.
    pub fn trace_hash(&self) -> [u8; 32] {
        self.trace.digest()
    }

    /// Lets `ms` milliseconds pass.
    pub fn run_for(&mut self, ms: u64) {
        let end = self.now.plus_ms(ms);
        while self.step(end) {}
        self.now = end;
    }

    /// Lets time pass until then, to the nanosecond; a time that is over is no time.
    pub fn run_to(&mut self, at: Mono) {
        while self.step(at) {}
        self.now = self.now.max(at);
    }

    /// Lets time pass until `done`, at most `ms` milliseconds; returns whether it came true. Looks every 5 ms.
    pub fn run_until(&mut self, ms: u64, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        let end = self.now.plus_ms(ms);
        let mut next_check = self.now;
        loop {
            if self.now >= next_check {
                if done(self) {
                    return true;
                }
                next_check = self.now.plus_ms(5);
            }
            if !self.step(end) {
                self.now = end;
                return done(self);
            }
        }
    }

    /// Hands a command in over the local socket of a node. A node that is down never answers.
    pub fn send_command(&mut self, node: usize, command: Command) -> CommandId {
        self.command_id += 1;
        let id = CommandId(self.command_id);
        self.record(node, kind::COMMAND, 0, id.0, 0);
        let is_submit = matches!(command, Command::Submit { .. });
        if let Command::Submit { statements, .. } = &command
            && self.options.is_noted
        {
            let statements = statements.clone();
            self.note(
                node,
                What::Submitted {
                    command: id,
                    statements,
                },
            );
        }
        // A node that is down or stands still answers later or never.
        let is_able = self.hosts[node].is_up() && !self.hosts[node].is_paused();
        if matches!(command, Command::View(_)) && is_able {
            self.note(node, What::Asked { command: id });
        }
        self.hosts[node].asked.insert(id, is_submit);
        self.input(node, Input::Command { id, command });
        id
    }

    /// Whose devices a node lets ask over the remote API.
    pub fn devices(&self, node: usize) -> &BTreeMap<AuthorId, Standing> {
        &self.hosts[node].devices
    }

    /// The answer to a command, if it is there.
    pub fn take_reply(&mut self, id: CommandId) -> Option<Reply> {
        self.replies.remove(&id)
    }

    /// Asks a node something and waits for the answer, at most ten seconds.
    pub fn ask(&mut self, node: usize, command: Command) -> Reply {
        let id = self.send_command(node, command);
        self.run_until(10_000, |w| w.replies.contains_key(&id));
        self.take_reply(id).unwrap_or(Reply::Refused {
            code: "SIM",
            why: "no answer".into(),
        })
    }

    /// What happened since the last call, oldest first; nothing unless the options say that notes are kept.
    pub fn take_notes(&mut self) -> Vec<Note> {
        std::mem::take(&mut self.notes)
    }

    /// Things to come.
    pub const fn queue_len(&self) -> usize {
        self.wheel.len()
    }

    fn note(&mut self, node: usize, what: What) {
        if self.options.is_noted {
            self.notes.push(Note {
                at: self.now,
                node,
                what,
            });
        }
    }

    fn record(&mut self, node: usize, kind: u16, flags: u16, a: u64, b: u64) {
        self.trace.add(Record {
            at: self.now.0,
            node: node as u32,
            kind,
            flags,
            a,
            b,
        });
    }

    fn push(&mut self, at: Mono, happening: Happening) {
        self.wheel.push(at.0.max(self.now.0), happening);
    }

    fn push_in(&mut self, us: u64, happening: Happening) {
        self.push(Mono(self.now.0 + us * 1000), happening);
    }
}
