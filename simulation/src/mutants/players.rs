//! Who does what no honest person and no honest machine does; the plans of some mutants need them.

use bytes::Bytes;
use ed25519_dalek::SigningKey;
use lab_agent_core::{Command, Prepared, Reply};
use lab_crdt_log::{Body, Draft, Edit, Kind, WitnessRule, seal};
use lab_crdt_model::report::{AuditHead, Beacon, Section};
use lab_crdt_model::store::{StoreOp, Table};
use lab_crdt_model::token::Token;
use lab_crdt_model::view::Role;
use lab_crdt_model::{Caller, Hlc, StatementId};

use crate::adversary::{forge, tell_all};
use crate::disk::DiskFault;
use crate::plan::{Adversary, Turn};
use crate::world::World;
use crate::world::tamper::Untouched;

/// Statements that the hoarder leaves on a disk.
const HOARD: u64 = 4_500;

/// All of them; each is new in every run.
pub(super) fn all() -> Vec<Box<dyn Adversary>> {
    vec![
        Box::new(Forger),
        Box::new(Newer),
        Box::new(Hoarder),
        Box::new(Hasty),
        Box::new(Sharer::default()),
        Box::new(Copier),
        Box::new(Shouter::default()),
    ]
}

fn prepared(world: &mut World, node: usize) -> Option<Prepared> {
    let author = world.admin.author();
    let command = world.send_command(node, Command::Prepare { author });
    match world.take_reply(command) {
        Some(Reply::Prepared(prepared)) => Some(prepared),
        _ => None,
    }
}

fn nothing() -> Body {
    Body::Edit(Edit {
        message: "nothing".to_owned(),
        ops: Vec::new(),
    })
}

fn id(bytes: &Bytes) -> StatementId {
    StatementId(*blake3::hash(&bytes[..bytes.len() - 64]).as_bytes())
}

/// What lies on the disk of a machine when it starts again.
fn leave(world: &mut World, node: usize, statements: &[Bytes]) {
    world.kill(node);
    let now = world.now();
    if let Some(drive) = world.drive(node) {
        let put = |bytes: &Bytes| StoreOp::Put {
            table: Table::Statements,
            key: id(bytes).0.to_vec(),
            value: bytes.to_vec(),
        };
        let _written = drive.write(now, &statements.iter().map(put).collect());
        drive.stop();
    }
    world.start(node);
}

/// Hands in what the admin never signed.
struct Forger;

impl Adversary for Forger {
    fn name(&self) -> &str {
        "forger"
    }

    fn act(&mut self, world: &mut World, turn: &Turn) {
        let node = turn.node;
        let Some(prepared) = prepared(world, node) else {
            return;
        };
        let wall = world.wall(node);
        let mut statements = world.admin.sign(&prepared, wall, nothing());
        for bytes in &mut statements {
            let mut forged = bytes.to_vec();
            let last = forged.len() - 1;
            forged[last - 40] ^= 1;
            *bytes = forged.into();
        }
        world.send_command(
            node,
            Command::Submit {
                caller: Caller::Local { uid: 0 },
                statements,
            },
        );
    }
}

/// Says something of a kind that this version does not know.
struct Newer;

impl Adversary for Newer {
    fn name(&self) -> &str {
        "newer"
    }

    fn act(&mut self, world: &mut World, turn: &Turn) {
        let node = turn.node;
        let Some(prepared) = prepared(world, node) else {
            return;
        };
        let wall = world.wall(node);
        let body = Body::Unknown(Kind(99), b"from the future".to_vec());
        let statements = world.admin.sign(&prepared, wall, body);
        leave(world, node, &statements);
    }
}

/// Fills a disk with statements whose predecessors nobody has.
struct Hoarder;

impl Adversary for Hoarder {
    fn name(&self) -> &str {
        "hoarder"
    }

    fn act(&mut self, world: &mut World, turn: &Turn) {
        let node = turn.node;
        let (mesh, wall) = (world.mesh(), world.wall(node));
        let key = world.admin.key.clone();
        let statement = |n: u64| {
            let draft = Draft {
                seq: 1_000 + n,
                prev: StatementId(*blake3::hash(&n.to_be_bytes()).as_bytes()),
                under: StatementId(mesh.0),
                hlc: Hlc::from_wall(wall),
                refs: Vec::new(),
                body: nothing(),
            };
            seal(&mesh, &key, &draft).expect("within limits")
        };
        let statements: Vec<Bytes> = (0..HOARD).map(statement).collect();
        // The oracles know by this that the disk is not to be trusted.
        world.apply_disk(node, &DiskFault::BitFlips { count: 0 });
        leave(world, node, &statements);
    }
}

/// Hands the same in twice without waiting for an answer.
struct Hasty;

impl Adversary for Hasty {
    fn name(&self) -> &str {
        "hasty"
    }

    fn act(&mut self, world: &mut World, turn: &Turn) {
        let node = turn.node;
        let Some(prepared) = prepared(world, node) else {
            return;
        };
        let wall = world.wall(node);
        let statements = world.admin.sign(&prepared, wall, nothing());
        for _ in 0..2 {
            let statements = statements.clone();
            world.send_command(
                node,
                Command::Submit {
                    caller: Caller::Local { uid: 0 },
                    statements,
                },
            );
        }
    }
}

/// Makes a token for one machine at its first turn; at its second lets two machines join with it, at two nodes.
#[derive(Default)]
struct Sharer {
    token: Option<Token>,
}

impl Adversary for Sharer {
    fn name(&self) -> &str {
        "sharer"
    }

    fn act(&mut self, world: &mut World, turn: &Turn) {
        let (node, with) = (turn.node, turn.with);
        let Some(Token::Ticket(ticket)) = &self.token else {
            let token = world.token(node, "guest", Role::Node, &[], WitnessRule::Any);
            self.token = Some(token);
            return;
        };
        for sponsor in [node, with as usize] {
            let mut ticket = ticket.clone();
            ticket.addresses = vec![(world.id(sponsor), world.address(sponsor))];
            world.join(Token::Ticket(ticket), None);
        }
    }
}

/// Says with the key of another machine that it lives, as a copy of that machine would.
struct Copier;

impl Adversary for Copier {
    fn name(&self) -> &str {
        "copier"
    }

    fn act(&mut self, world: &mut World, turn: &Turn) {
        let victim = turn.with as usize;
        let (mesh, id) = (world.mesh(), world.id(victim));
        let key = SigningKey::from_bytes(&world.secret(victim));
        let reports = world.reports(turn.node).unwrap_or_default();
        let newest = Section::ALL.map(|section| forge::newest_seq(&reports, &id, section));
        let seq = newest.into_iter().max().unwrap_or(0) + 1;
        let beacon = Beacon {
            incarnation: 1,
            wall: world.wall(turn.node),
            digest: [0; 32],
            addresses: vec![world.address(victim)],
            link_count: 0,
            version: "copy".to_owned(),
            audit: AuditHead::default(),
        };
        let body = postcard::to_stdvec(&beacon).expect("plain values can be written");
        let section = Section::Beacon as u8;
        let report = forge::sign_register(&mesh, &key, section, seq, &body);
        tell_all(world, turn.node, &[forge::push_register(&report)]);
    }
}

/// Reports of its own machine as fast as it can, each newer than the last and no longer than a beacon.
#[derive(Default)]
struct Shouter {
    said: u64,
}

impl Adversary for Shouter {
    fn name(&self) -> &str {
        "shouter"
    }

    fn act(&mut self, world: &mut World, turn: &Turn) {
        if !world.is_corrupt(turn.node) {
            world.corrupt(turn.node, Box::new(Untouched));
        }
        let (mesh, id) = (world.mesh(), world.id(turn.node));
        let key = SigningKey::from_bytes(&world.secret(turn.node));
        let reports = world.reports(turn.node).unwrap_or_default();
        let known = forge::newest_seq(&reports, &id, Section::Facts);
        self.said = self.said.max(known);
        for _ in 0..turn.with {
            self.said += 1;
            let body = [&self.said.to_be_bytes()[..], &[7; 400]].concat();
            let section = Section::Facts as u8;
            let report = forge::sign_register(&mesh, &key, section, self.said, &body);
            tell_all(world, turn.node, &[forge::push_register(&report)]);
        }
    }
}
