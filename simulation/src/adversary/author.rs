//! Those who misuse a pen: what they sign or change goes out from one machine, past its agent.

use std::collections::BTreeMap;

use bytes::Bytes;
use ed25519_dalek::SigningKey;
use lab_crdt_log::{Body, Edit};
use lab_crdt_model::limit::VALUE_BYTES_MAX;
use lab_crdt_model::report::Section;
use lab_crdt_model::{AuthorId, Field, Hlc, Op, StatementId, Value};

use super::forge::{self, Header};
use super::{prepared, take_over, tell, tell_all};
use crate::person::Person;
use crate::plan::{Adversary, Turn};
use crate::world::World;

/// An edit of one field, as bytes of a body.
pub(crate) fn edit(path: &str, value: Value) -> Vec<u8> {
    let field = Field::new(value, "person:adversary");
    let path = path.parse().expect("a path");
    let ops = vec![Op::Set { path, field }];
    let message = String::new();
    Body::Edit(Edit { message, ops }).encode()
}

/// An author who keeps the end of their own chains, whatever anyone has heard of them.
#[derive(Clone, Debug, Default)]
pub struct Pen {
    ends: BTreeMap<AuthorId, (u64, StatementId)>,
}

impl Pen {
    /// The header of the next statement, and its place in the chain is used up by [`Pen::sign`].
    pub fn next(&mut self, world: &mut World, node: usize, person: &Person) -> Option<Header> {
        let known = prepared(world, node, person)?;
        let (seq, prev) = match self.ends.get(&person.author()) {
            Some((seq, prev)) if *seq >= known.seq => (*seq, *prev),
            _ => (known.seq, known.prev),
        };
        let mut refs = known.refs;
        refs.truncate(16);
        refs.sort_unstable();
        Some(Header {
            kind: 1,
            seq,
            prev,
            under: person.under,
            hlc: known.hlc.next(world.wall(node)),
            refs,
        })
    }

    /// Signs the next statement of a person.
    pub fn sign(&mut self, world: &World, person: &Person, header: &Header, body: &[u8]) -> Bytes {
        let bytes = forge::sign(&world.mesh(), &person.key, header, body);
        let end = (header.seq + 1, forge::id_of(&bytes));
        self.ends.insert(person.author(), end);
        bytes
    }

    /// Signs so many statements in a row, with bodies by number.
    pub fn write(
        &mut self,
        world: &mut World,
        node: usize,
        person: &Person,
        count: u64,
        body: impl Fn(u64) -> Vec<u8>,
    ) -> Vec<Bytes> {
        let mut out = Vec::new();
        for n in 0..count {
            let Some(mut header) = self.next(world, node, person) else {
                break;
            };
            if n > 0 {
                header.refs.clear();
            }
            out.push(self.sign(world, person, &header, &body(n)));
        }
        out
    }
}

/// Sends statements to everyone as a pull would.
fn hand_out(world: &mut World, from: usize, all: &[Bytes]) {
    for chunk in all.chunks(8) {
        tell_all(world, from, &[forge::statements(chunk, false)]);
    }
}

/// Says two things at one place of its chain, to different peers.
#[derive(Clone, Debug, Default)]
pub struct Equivocator {
    pen: Pen,
}

impl Adversary for Equivocator {
    fn name(&self) -> &str {
        "equivocator"
    }

    fn act(&mut self, world: &mut World, turn: &Turn) {
        take_over(world, turn);
        let Some(header) = self.pen.next(world, turn.node, &turn.person) else {
            return;
        };
        let peers = world.peers(turn.node);
        for (half, peers) in peers.chunks(peers.len().div_ceil(2).max(1)).enumerate() {
            let body = edit("on/all/params/two-faced", Value::Int(half as i64));
            let bytes = self.pen.sign(world, &turn.person, &header, &body);
            for peer in peers {
                tell(world, turn.node, *peer, &[forge::push_statement(&bytes)]);
            }
        }
    }
}

/// Changes what others signed.
#[derive(Clone, Copy, Debug)]
pub struct Forger;

impl Adversary for Forger {
    fn name(&self) -> &str {
        "forger"
    }

    fn act(&mut self, world: &mut World, turn: &Turn) {
        take_over(world, turn);
        let admin = world.admin.author();
        let (mesh, under) = (world.mesh(), StatementId(world.mesh().0));
        let thief = SigningKey::from_bytes(&[77; 32]);
        let mut forged = Vec::new();
        for real in world
            .envelopes(turn.node)
            .unwrap_or_default()
            .iter()
            .take(40)
        {
            let end = real.len() - 1;
            let at = [end, end - 40, 3, 40, 100, 116][(turn.with % 6) as usize];
            let mut changed = real.to_vec();
            changed[at.min(end)] ^= 1 << (turn.with % 8);
            forged.push(Bytes::from(changed));
        }
        // A statement in the admin's name by a key of one's own.
        let header = Header {
            kind: 1,
            seq: 10_000,
            prev: StatementId([9; 32]),
            under,
            hlc: Hlc(1 << 60),
            refs: vec![],
        };
        let body = edit("on/all/params/forged", Value::Bool(true));
        let mut bytes = forge::sign(&mesh, &thief, &header, &body).to_vec();
        bytes[2..34].copy_from_slice(&admin.0);
        forged.push(bytes.into());
        // And a stranger's.
        let first = Header {
            seq: 0,
            prev: StatementId::ZERO,
            ..header
        };
        forged.push(forge::sign(&mesh, &thief, &first, &body));
        for bytes in &forged {
            tell_all(world, turn.node, &[forge::push_statement(bytes)]);
        }
        hand_out(world, turn.node, &forged);
        let reports = world.reports(turn.node).unwrap_or_default();
        let mut newer: Vec<Bytes> = Vec::new();
        for report in reports {
            let mut changed = report.to_vec();
            changed[42] ^= 1;
            newer.push(changed.into());
        }
        tell_all(world, turn.node, &[forge::registers(&newer)]);
    }
}

/// Stamps its statements with the beginning and the end of time.
#[derive(Clone, Debug, Default)]
pub struct Dater {
    pen: Pen,
}

impl Adversary for Dater {
    fn name(&self) -> &str {
        "dater"
    }

    fn act(&mut self, world: &mut World, turn: &Turn) {
        take_over(world, turn);
        let stamps = [0, 1, u64::MAX, u64::MAX - 1, u64::MAX >> 16 << 16];
        let mut out = Vec::new();
        for n in 0..2 {
            let Some(mut header) = self.pen.next(world, turn.node, &turn.person) else {
                return;
            };
            header.hlc = Hlc(stamps[((turn.with + n) % 5) as usize]);
            let body = edit(
                &format!("on/all/params/dated{n}"),
                Value::Int(turn.with as i64),
            );
            out.push(self.pen.sign(world, &turn.person, &header, &body));
        }
        hand_out(world, turn.node, &out);
    }
}

/// Says a lot, all of which it may.
#[derive(Clone, Debug, Default)]
pub struct Flooder {
    pen: Pen,
    reports: u64,
}

impl Adversary for Flooder {
    fn name(&self) -> &str {
        "flooder"
    }

    fn act(&mut self, world: &mut World, turn: &Turn) {
        take_over(world, turn);
        let count = 20 + turn.with % 60;
        let fill = "x".repeat(1_000);
        let said = self.pen.write(world, turn.node, &turn.person, count, |n| {
            edit(
                &format!("on/all/params/flood{}", n % 16),
                Value::text(fill.clone()),
            )
        });
        hand_out(world, turn.node, &said);
        let key = SigningKey::from_bytes(&world.secret(turn.node));
        let id = world.id(turn.node);
        let reports = world.reports(turn.node).unwrap_or_default();
        let mesh = world.mesh();
        let from = forge::newest_seq(&reports, &id, Section::Facts).max(self.reports);
        self.reports = from + count;
        for n in 1..=count {
            let body = vec![n as u8; 2_000];
            let report = forge::sign_register(&mesh, &key, Section::Facts as u8, from + n, &body);
            tell_all(world, turn.node, &[forge::push_register(&report)]);
        }
    }
}

/// Says the largest that it may, and larger.
#[derive(Clone, Debug, Default)]
pub struct Giant {
    pen: Pen,
}

impl Giant {
    /// Values so many lists deep, as bytes of a body; deeper than any value can be built.
    fn nested(levels: usize) -> Vec<u8> {
        let mut body = vec![0, 1, 0];
        let path = b"on/all/params/deep";
        body.push(path.len() as u8);
        body.extend_from_slice(path);
        for _ in 0..levels {
            body.extend_from_slice(&[5, 1]);
        }
        body.push(0);
        body.extend_from_slice(&[0, 0]);
        body
    }

    /// What no honest encoder writes.
    pub fn impossible(turn: u64) -> Vec<u8> {
        match turn % 6 {
            0 => Self::nested(9),
            1 => Self::nested(20_000),
            // A list that says that it has 2^60 items.
            2 => {
                let mut body = Self::nested(0);
                let at = body.len() - 3;
                body.truncate(at);
                body.extend_from_slice(&[5, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10]);
                body
            }
            3 => {
                let mut body = vec![0, 1, 1, 0xac, 0x02];
                body.extend(std::iter::repeat_n(b'p', 300));
                body
            }
            4 => vec![0xff; 60_000],
            _ => vec![0; 70_000],
        }
    }
}

impl Adversary for Giant {
    fn name(&self) -> &str {
        "giant"
    }

    fn act(&mut self, world: &mut World, turn: &Turn) {
        take_over(world, turn);
        let Some(header) = self.pen.next(world, turn.node, &turn.person) else {
            return;
        };
        for n in 0..6 {
            // At a place of the chain that stays free: none of these can be stored.
            let bytes = forge::sign(
                &world.mesh(),
                &turn.person.key,
                &header,
                &Self::impossible(n),
            );
            tell_all(world, turn.node, &[forge::statements(&[bytes], false)]);
        }
        let crowded = Header {
            refs: (0..17).map(|n| StatementId([n; 32])).collect(),
            ..header
        };
        let body = edit("on/all/params/crowded", Value::Null);
        let bytes = forge::sign(&world.mesh(), &turn.person.key, &crowded, &body);
        tell_all(world, turn.node, &[forge::statements(&[bytes], false)]);
        let deep = (0..8).fold(Value::Null, |v, _| Value::List(vec![v]));
        let long = format!("on/all/params/{}", "p".repeat(256 - 14));
        let wide = Value::text("w".repeat(VALUE_BYTES_MAX - 2));
        let bodies = [edit("on/all/params/deep", deep), edit(&long, Value::Null)];
        let bodies = bodies.into_iter().chain([edit("on/all/params/wide", wide)]);
        for body in bodies {
            let said = self
                .pen
                .write(world, turn.node, &turn.person, 1, |_| body.clone());
            hand_out(world, turn.node, &said);
        }
    }
}

/// Makes groups that contain each other and themselves.
#[derive(Clone, Debug, Default)]
pub struct Cyclist {
    pen: Pen,
}

impl Adversary for Cyclist {
    fn name(&self) -> &str {
        "cyclist"
    }

    fn act(&mut self, world: &mut World, turn: &Turn) {
        take_over(world, turn);
        let length = 1 + turn.with % 12;
        let said = self.pen.write(world, turn.node, &turn.person, length, |n| {
            let next = (n + 1) % length;
            let word = if turn.with.is_multiple_of(2) {
                "include"
            } else {
                "exclude"
            };
            let path = format!("group/ring{n}/{word}");
            edit(
                &path,
                Value::text(format!("not group:ring{next} or group:ring{next}")),
            )
        });
        hand_out(world, turn.node, &said);
    }
}

/// Goes on saying things, whether anyone took its key away or not.
#[derive(Clone, Debug, Default)]
pub struct Unstoppable {
    pen: Pen,
}

impl Adversary for Unstoppable {
    fn name(&self) -> &str {
        "unstoppable"
    }

    fn act(&mut self, world: &mut World, turn: &Turn) {
        take_over(world, turn);
        let count = 1 + turn.with % 90;
        let said = self.pen.write(world, turn.node, &turn.person, count, |n| {
            edit(
                &format!("on/all/params/still{}", n % 8),
                Value::Int(n as i64),
            )
        });
        hand_out(world, turn.node, &said);
    }
}
