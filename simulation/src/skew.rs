//! Programs of later versions in a mesh of today's.
//!
//! [`Future`] speaks from a machine that is otherwise as any other: statements of kinds that nobody knows yet, signed
//! by someone who may sign, reports of unknown sections, edits with operations that do not exist, frames of unknown
//! kinds and versions. Statements of unknown kinds are kept and passed on, byte for byte, and mean nothing; the rest
//! is not understood, and harms nobody.

use bytes::Bytes;
use ed25519_dalek::SigningKey;
use lab_crdt_model::Value;

use crate::adversary::forge::{self, Header};
use crate::adversary::{Pen, edit, tell_all};
use crate::plan::{Adversary, Turn};
use crate::seed;
use crate::world::World;

/// The first kind of statement that this version does not know.
pub const FIRST_KIND: u8 = 17;
/// The first kind of frame that this version does not know.
pub const FIRST_FRAME: u8 = 10;
/// The first section of reports that this version does not know.
pub const FIRST_SECTION: u8 = 4;

/// A later version. See the module.
#[derive(Clone, Debug, Default)]
pub struct Future {
    pen: Pen,
}

impl Future {
    /// Says something of an unknown kind from a machine; returns the envelope, or `None` while the machine is off.
    pub fn say(&mut self, world: &mut World, turn: &Turn, kind: u8, body: &[u8]) -> Option<Bytes> {
        let header = self.pen.next(world, turn.node, &turn.person)?;
        let header = Header { kind, ..header };
        let bytes = self.pen.sign(world, &turn.person, &header, body);
        let one = [bytes.clone()];
        let frame = if bytes.len() < 2_500 {
            forge::push_statement(&bytes)
        } else {
            forge::statements(&one, false)
        };
        tell_all(world, turn.node, &[frame]);
        Some(bytes)
    }

    /// An edit with an operation of a later version after one of today's.
    pub fn later_edit() -> Vec<u8> {
        let mut body = edit("on/all/params/later", Value::Bool(true));
        // Two operations; the second is of a kind that does not exist, with a path.
        body[1] = 2;
        body.extend_from_slice(&[7, 1, b'a']);
        body
    }

    /// A report of a section of a later version.
    pub fn report(world: &World, node: usize, section: u8, seq: u64) -> Bytes {
        let key = SigningKey::from_bytes(&world.secret(node));
        forge::sign_register(&world.mesh(), &key, section, seq, b"of a later version")
    }
}

impl Adversary for Future {
    fn name(&self) -> &str {
        "future"
    }

    fn act(&mut self, world: &mut World, turn: &Turn) {
        let with = turn.with;
        for n in 0..1 + with % 3 {
            let kind = FIRST_KIND + ((with >> 8).wrapping_add(n * 41) % 240) as u8;
            let length = [0, 1, 100, 2_000, 16_000][((with >> 16).wrapping_add(n) % 5) as usize];
            let body: Vec<u8> = seed::bytes(with, "body", n)
                .into_iter()
                .cycle()
                .take(length)
                .collect();
            self.say(world, turn, kind, &body);
        }
        let frame = FIRST_FRAME + (with % 200) as u8;
        let version = 2 + (with % 250) as u8;
        let frames = [
            forge::raw(1, frame, b"of a later version"),
            forge::raw(version, 1, b"of a later version"),
            forge::raw(version, frame, &[]),
        ];
        tell_all(world, turn.node, &frames);
        let section = FIRST_SECTION + (with % 100) as u8;
        let report = Self::report(world, turn.node, section, 1 + with % 1_000);
        let frames = [forge::push_register(&report), forge::registers(&[report])];
        tell_all(world, turn.node, &frames);
        if let Some(header) = self.pen.next(world, turn.node, &turn.person) {
            // Its place in the chain stays free: nobody keeps it.
            let bytes = forge::sign(
                &world.mesh(),
                &turn.person.key,
                &header,
                &Self::later_edit(),
            );
            tell_all(world, turn.node, &[forge::push_statement(&bytes)]);
        }
    }
}
