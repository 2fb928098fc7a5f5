//! Those who misuse a machine: what it sends, passes on and answers is not what its agent would.

use std::collections::BTreeMap;

use bytes::Bytes;
use ed25519_dalek::SigningKey;
use lab_crdt_log::{Body, Revoke};
use lab_crdt_model::Mono;
use lab_crdt_model::Wall;
use lab_crdt_model::link::{Channel, Lane};
use lab_crdt_model::report::{Beacon, Section};
use lab_crdt_model::{StatementId, Value};

use super::author::{Pen, edit};
use super::{forge, take_over, tell_all};
use crate::person::Person;
use crate::plan::{Adversary, Turn};
use crate::seed;
use crate::world::World;
use crate::world::tamper::{Passing, Tamper, Traffic};

/// Frames that a replayer keeps.
const KEPT_MAX: usize = 2_000;
/// Frames that it says again whenever it is pinged.
const AGAIN: usize = 20;
/// Most reports kept from earlier.
const REPORTS_MAX: usize = 200;

fn kind(frame: &Passing) -> Option<u8> {
    let is_mesh = frame.channel == Channel::Mesh;
    frame.bytes.get(1).copied().filter(|_| is_mesh)
}

const fn to(peer: usize, bytes: Bytes) -> Passing {
    Passing {
        peer,
        channel: Channel::Mesh,
        lane: Lane::Control,
        bytes,
    }
}

/// Bytes that mean nothing and follow from two numbers.
fn junk(a: u64, b: u64) -> [u8; 32] {
    seed::bytes(a, "junk", b)
}

/// Pulls that a liar answers in a second. Every answer may be answered by sixteen messages, so without a bound of its
/// own a lie makes as much traffic as the link carries.
const LIES_PER_S: u64 = 20;

#[derive(Debug)]
struct Lies {
    count: u64,
    second: u64,
    told: u64,
}

impl Tamper for Lies {
    fn sends(&mut self, _now: Mono, frame: Passing, traffic: &mut Traffic) {
        if kind(&frame) != Some(forge::SYNC) {
            traffic.out.push(frame);
        }
    }

    fn hears(&mut self, now: Mono, frame: Passing, traffic: &mut Traffic) {
        self.count += 1;
        let (peer, n) = (frame.peer, self.count);
        match kind(&frame) {
            Some(forge::SYNC) => {
                let second = now.0 / 1_000_000_000;
                if second != self.second {
                    (self.second, self.told) = (second, 0);
                }
                self.told += 1;
                if self.told > LIES_PER_S {
                    return;
                }
                let noise = junk(now.0, n);
                let entries = vec![Bytes::from(noise.repeat(8)); 3];
                let answer = match n % 4 {
                    0 => forge::statements(&entries, true),
                    1 => forge::registers(&entries),
                    2 => forge::want(&[StatementId(noise)]),
                    _ => forge::nodes(n),
                };
                traffic.out.push(to(peer, answer));
            }
            Some(forge::PING | forge::PONG) => {
                let digests = (junk(now.0, n), junk(n, now.0));
                traffic
                    .out
                    .push(to(peer, forge::announce(&digests, n % 2 == 0)));
                let ids: Vec<_> = (0..32).map(|k| (junk(n, k), 1)).collect();
                traffic.out.push(to(peer, forge::i_have(&ids)));
                traffic.inward.push(frame);
            }
            _ => traffic.inward.push(frame),
        }
    }
}

/// Answers pulls with junk, announces what it has not.
#[derive(Clone, Copy, Debug)]
pub struct Liar;

impl Adversary for Liar {
    fn name(&self) -> &str {
        "liar"
    }

    fn act(&mut self, world: &mut World, turn: &Turn) {
        world.corrupt(
            turn.node,
            Box::new(Lies {
                count: turn.with,
                second: 0,
                told: 0,
            }),
        );
    }
}

#[derive(Debug, Default)]
struct Flattery {
    told: BTreeMap<usize, Bytes>,
}

impl Tamper for Flattery {
    fn sends(&mut self, _now: Mono, mut frame: Passing, traffic: &mut Traffic) {
        if kind(&frame) == Some(forge::SYNC) || forge::is_payload(&frame.bytes) {
            return;
        }
        if let (Some(at), Some(theirs)) =
            (forge::digests_at(&frame.bytes), self.told.get(&frame.peer))
        {
            let mut bytes = frame.bytes.to_vec();
            bytes[at..at + 64].copy_from_slice(theirs);
            frame.bytes = bytes.into();
        }
        traffic.out.push(frame);
    }

    fn hears(&mut self, _now: Mono, frame: Passing, traffic: &mut Traffic) {
        if kind(&frame).is_some()
            && let Some(at) = forge::digests_at(&frame.bytes)
        {
            let theirs = frame.bytes.slice(at..at + 64);
            let (statements, registers) = theirs.split_at(32);
            let both = (
                std::array::from_fn(|i| statements[i]),
                std::array::from_fn(|i| registers[i]),
            );
            traffic
                .out
                .push(to(frame.peer, forge::announce(&both, false)));
            self.told.insert(frame.peer, theirs);
        }
        traffic.inward.push(frame);
    }
}

/// Claims to hold just what everyone else holds, and gives nothing away.
#[derive(Clone, Copy, Debug)]
pub struct Flatterer;

impl Adversary for Flatterer {
    fn name(&self) -> &str {
        "flatterer"
    }

    fn act(&mut self, world: &mut World, turn: &Turn) {
        world.corrupt(turn.node, Box::new(Flattery::default()));
    }
}

#[derive(Debug)]
struct Talk {
    count: u64,
}

impl Tamper for Talk {
    fn sends(&mut self, _now: Mono, frame: Passing, traffic: &mut Traffic) {
        if kind(&frame) != Some(forge::SYNC) {
            traffic.out.push(frame);
        }
    }

    fn hears(&mut self, _now: Mono, frame: Passing, traffic: &mut Traffic) {
        if kind(&frame) == Some(forge::SYNC) {
            return;
        }
        self.count += 1;
        traffic.out.push(to(frame.peer, forge::nodes(self.count)));
        traffic.inward.push(frame);
    }
}

/// Opens an exchange whenever it hears anything, and never answers in one.
#[derive(Clone, Copy, Debug)]
pub struct Talker;

impl Adversary for Talker {
    fn name(&self) -> &str {
        "talker"
    }

    fn act(&mut self, world: &mut World, turn: &Turn) {
        world.corrupt(turn.node, Box::new(Talk { count: turn.with }));
    }
}

/// Drops what it should pass on, to some or to all.
#[derive(Clone, Debug)]
pub struct Hole {
    /// Towards whom; nobody named is everyone.
    pub victims: Vec<usize>,
    /// Whether it answers no pulls either.
    pub is_deaf: bool,
}

impl Tamper for Hole {
    fn sends(&mut self, _now: Mono, frame: Passing, traffic: &mut Traffic) {
        let is_meant = self.victims.is_empty() || self.victims.contains(&frame.peer);
        let is_content = match kind(&frame) {
            Some(forge::OVERLAY) => frame.bytes.get(2) == Some(&1),
            Some(forge::SYNC) => self.is_deaf,
            _ => false,
        };
        if !(is_meant && is_content) {
            traffic.out.push(frame);
        }
    }
}

/// Passes nothing on.
#[derive(Clone, Copy, Debug)]
pub struct Forwarder;

impl Adversary for Forwarder {
    fn name(&self) -> &str {
        "forwarder"
    }

    fn act(&mut self, world: &mut World, turn: &Turn) {
        let hole = Hole {
            victims: Vec::new(),
            is_deaf: turn.with % 2 == 1,
        };
        world.corrupt(turn.node, Box::new(hole));
    }
}

#[derive(Debug, Default)]
struct Echo {
    kept: Vec<Bytes>,
    next: usize,
}

impl Tamper for Echo {
    fn sends(&mut self, _now: Mono, frame: Passing, traffic: &mut Traffic) {
        if kind(&frame).is_some() && self.kept.len() < KEPT_MAX {
            self.kept.push(frame.bytes.clone());
        }
        traffic.out.push(frame);
    }

    fn hears(&mut self, _now: Mono, frame: Passing, traffic: &mut Traffic) {
        if kind(&frame).is_some() && self.kept.len() < KEPT_MAX {
            self.kept.push(frame.bytes.clone());
        }
        if kind(&frame) == Some(forge::PING) && !self.kept.is_empty() {
            for _ in 0..AGAIN {
                self.next = (self.next + 1) % self.kept.len();
                traffic
                    .out
                    .push(to(frame.peer, self.kept[self.next].clone()));
            }
        }
        traffic.inward.push(frame);
    }
}

/// Says again what it heard: frames all the time, reports of long ago when it is its turn.
#[derive(Clone, Debug, Default)]
pub struct Replayer {
    reports: Vec<Bytes>,
}

impl Adversary for Replayer {
    fn name(&self) -> &str {
        "replayer"
    }

    fn act(&mut self, world: &mut World, turn: &Turn) {
        if !world.is_corrupt(turn.node) {
            world.corrupt(turn.node, Box::new(Echo::default()));
        }
        let statements = world.envelopes(turn.node).unwrap_or_default();
        for chunk in statements.chunks(16) {
            tell_all(world, turn.node, &[forge::statements(chunk, false)]);
        }
        for report in self.reports.clone() {
            let frames = [forge::push_register(&report), forge::registers(&[report])];
            tell_all(world, turn.node, &frames);
        }
        self.reports
            .extend(world.reports(turn.node).unwrap_or_default());
        self.reports.truncate(REPORTS_MAX);
    }
}

/// Has a machine's key and uses it for everything that a machine may not do.
#[derive(Clone, Debug, Default)]
pub struct Rooted {
    pen: Pen,
    said: u64,
}

impl Rooted {
    /// Accuses everyone else, in its own name and in those of others, as a suspicion or as a verdict.
    pub fn accuse(&mut self, world: &mut World, node: usize, is_verdict: bool) {
        let reports = world.reports(node).unwrap_or_default();
        let everyone: Vec<_> = (0..world.len()).map(|n| world.id(n)).collect();
        for (n, victim) in everyone.iter().enumerate().filter(|(n, _)| *n != node) {
            let known = forge::newest_seq(&reports, victim, Section::Beacon);
            for (by, counter) in [(node, known), (n + 1, u64::MAX), (n + 2, known + 1)] {
                self.said += 1;
                let by = everyone[by % everyone.len()];
                let seq = world.now().0.wrapping_add(self.said);
                let frame = forge::accuse(is_verdict, *victim, counter, by, seq);
                tell_all(world, node, &[frame]);
            }
        }
    }

    fn report(&self, world: &mut World, node: usize) {
        let (mesh, id) = (world.mesh(), world.id(node));
        let key = SigningKey::from_bytes(&world.secret(node));
        let reports = world.reports(node).unwrap_or_default();
        let victims = (0..world.len()).filter(|n| *n != node);
        let beacon = Beacon {
            incarnation: 7,
            wall: Wall(u64::MAX),
            digest: [0xff; 32],
            addresses: victims.take(8).map(|n| world.address(n)).collect(),
            link_count: u16::MAX,
            version: "9".repeat(200),
            audit: lab_crdt_model::report::AuditHead::default(),
        };
        let body = postcard::to_stdvec(&beacon).expect("plain values can be written");
        let seq = forge::newest_seq(&reports, &id, Section::Beacon) + 1_000;
        let mut out = vec![
            forge::sign_register(&mesh, &key, Section::Beacon as u8, seq, &body),
            forge::sign_register(&mesh, &key, Section::Status as u8, seq, &[0xff; 64]),
            forge::sign_register(&mesh, &key, Section::Facts as u8, seq, &[]),
        ];
        // In the names of others, signed with its own key.
        for other in (0..world.len()).filter(|n| *n != node) {
            let real = forge::sign_register(&mesh, &key, Section::Beacon as u8, u64::MAX, &body);
            let mut changed = real.to_vec();
            changed[2..34].copy_from_slice(&world.id(other).0);
            out.push(changed.into());
        }
        tell_all(world, node, &[forge::registers(&out)]);
    }

    fn speak(&mut self, world: &mut World, node: usize) {
        let person = Person {
            key: SigningKey::from_bytes(&world.secret(node)),
            under: StatementId(world.mesh().0),
            name: "rooted".into(),
        };
        let Some(header) = self.pen.next(world, node, &person) else {
            return;
        };
        let admin = world.admin.author();
        let revoke = Body::Revoke(Revoke {
            key: admin,
            head: None,
            reason: String::new(),
        });
        let bodies = [
            (1, edit("on/all/params/rooted", Value::Bool(true))),
            (revoke.kind().0, revoke.encode()),
        ];
        for (kind, body) in bodies {
            let header = forge::Header {
                kind,
                ..header.clone()
            };
            let bytes = forge::sign(&world.mesh(), &person.key, &header, &body);
            let frames = [
                forge::push_statement(&bytes),
                forge::statements(&[bytes], false),
            ];
            tell_all(world, node, &frames);
        }
    }
}

impl Adversary for Rooted {
    fn name(&self) -> &str {
        "rooted"
    }

    fn act(&mut self, world: &mut World, turn: &Turn) {
        take_over(world, turn);
        self.accuse(world, turn.node, turn.with % 2 == 1);
        self.report(world, turn.node);
        self.speak(world, turn.node);
    }
}
