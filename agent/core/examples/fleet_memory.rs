//! What agents of one process cost when they share their steps: memory and time to start, and one edit at all of
//! them.
//!
//! ```text
//! cargo run --release -p lab-agent-core --example fleet_memory -- 1000
//! ```
#![expect(clippy::print_stdout, reason = "a table for people")]
#![expect(
    clippy::disallowed_methods,
    reason = "tells how long things take on this machine"
)]

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use ed25519_dalek::SigningKey;
use lab_agent_core::{
    Agent, Boot, Command, CommandId, Config, Effect, EffectResult, Input, NodeKeys, Output,
};
use lab_crdt_log::{
    Admin, Admit, Body, Draft, Edit, Memo, RootRecord, SignedRoot, seal, seal_register,
};
use lab_crdt_model::report::{Beacon, Facts, Section, Status};
use lab_crdt_model::store::{StoreOp, Table, Tables};
use lab_crdt_model::view::Role;
use lab_crdt_model::{AuthorId, Caller, Field, Hlc, Mono, Now, Op, StatementId, Value, Wall};

const START: u64 = 1_800_000_000_000;

struct Fleet {
    keys: Vec<NodeKeys>,
    image: Arc<Tables>,
    admin: SigningKey,
    root: SignedRoot,
    /// The end of the admin's chain.
    last: (u64, StatementId, Hlc),
}

fn id_of(bytes: &Bytes) -> StatementId {
    StatementId(*blake3::hash(&bytes[..bytes.len() - 64]).as_bytes())
}

/// A store of a mesh whose admin admitted everyone, and where everyone has reported.
fn form(count: usize) -> Fleet {
    let (root_key, admin) = (
        SigningKey::from_bytes(&[200; 32]),
        SigningKey::from_bytes(&[201; 32]),
    );
    let author = |key: &SigningKey| AuthorId(key.verifying_key().to_bytes());
    let record = RootRecord {
        name: "fleet".into(),
        nonce: [1; 16],
        root_keys: vec![author(&root_key)],
        threshold: 1,
        admins: vec![Admin {
            key: author(&admin),
            name: "ana".into(),
        }],
        min_proto: 1,
        ..RootRecord::default()
    };
    let root = SignedRoot::sign(&record, &[&root_key]);
    let mesh = root.mesh();
    let secret = |n: usize| *blake3::hash(&(n as u64).to_le_bytes()).as_bytes();
    let keys: Vec<NodeKeys> = (0..count).map(|n| NodeKeys::new(&secret(n))).collect();
    let mut last = (0, StatementId::ZERO, Hlc::from_wall(Wall(START)));
    let mut statements = Vec::new();
    let mut registers = Vec::new();
    for (n, keys) in keys.iter().enumerate() {
        let admit = Admit {
            node: keys.node(),
            seal_key: keys.seal_key(),
            name: format!("n{n}"),
            role: Role::Node,
            labels: vec![],
        };
        let bytes = say(&root, &admin, &mut last, Body::Admit(admit));
        statements.push((id_of(&bytes).0.to_vec(), bytes.to_vec()));
        let beacon = Beacon {
            incarnation: n as u64,
            wall: Wall(START),
            digest: [1; 32],
            addresses: vec![([10, 0, (n >> 8) as u8, n as u8], 4000).into()],
            link_count: 5,
            version: "0.1.0".into(),
            audit: lab_crdt_model::report::AuditHead::default(),
        };
        let key = SigningKey::from_bytes(&secret(n));
        let bodies = [
            (Section::Beacon, postcard::to_stdvec(&beacon)),
            (Section::Facts, postcard::to_stdvec(&facts(n))),
            (Section::Status, postcard::to_stdvec(&Status::default())),
        ];
        for (seq, (section, body)) in (1..).zip(bodies) {
            let body = body.expect("plain data");
            let bytes = seal_register(&mesh, &key, section, n as u64, seq, &body);
            let mut name = keys.node().0.to_vec();
            name.push(section as u8);
            registers.push((name, bytes.to_vec()));
        }
    }
    let meta = Boot::founding(&root.encode(), &[])
        .into_iter()
        .filter_map(|op| match op {
            StoreOp::Put { key, value, .. } => Some((key, value)),
            StoreOp::Delete { .. } => None,
        });
    let image = Tables::from([
        (Table::Statements, statements),
        (Table::Registers, registers),
        (Table::Meta, meta.collect()),
    ]);
    Fleet {
        keys,
        image: Arc::new(image),
        admin,
        root,
        last,
    }
}

fn facts(n: usize) -> Facts {
    Facts {
        hostname: format!("host{n}"),
        ..Facts::default()
    }
}

fn say(
    root: &SignedRoot,
    key: &SigningKey,
    last: &mut (u64, StatementId, Hlc),
    body: Body,
) -> Bytes {
    let (seq, prev, hlc) = *last;
    let draft = Draft {
        seq,
        prev,
        under: StatementId(root.mesh().0),
        hlc: hlc.next(Wall(START)),
        refs: vec![],
        body,
    };
    let bytes = seal(&root.mesh(), key, &draft).expect("within limits");
    *last = (seq + 1, id_of(&bytes), draft.hlc);
    bytes
}

/// Carries out what concerns this machine alone, until nothing more follows.
fn drain(agent: &mut Agent, now: Now, n: usize) {
    while let Some(output) = agent.poll() {
        match output {
            Output::Store { id, .. } => agent.handle(now, Input::Stored { id, result: Ok(()) }),
            Output::Run {
                id,
                effect: Effect::Facts,
            } => agent.handle(
                now,
                Input::Done {
                    id,
                    result: EffectResult::Facts(Box::new(facts(n))),
                },
            ),
            Output::Run {
                id,
                effect: Effect::Files { .. },
            } => agent.handle(
                now,
                Input::Done {
                    id,
                    result: EffectResult::Files(vec![]),
                },
            ),
            _ => {}
        }
    }
}

fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: Option<u64> = text.split(' ').nth(1).and_then(|t| t.parse().ok());
    pages.unwrap_or(0) * 4096
}

fn main() {
    let count: usize = std::env::args()
        .nth(1)
        .and_then(|a| a.parse().ok())
        .unwrap_or(1_000);
    let clock = Instant::now();
    let mut fleet = form(count);
    println!("{count} members: formed in {:?}", clock.elapsed());
    let memo = Memo::new(1 << 30, 1024);
    let config = Config {
        memo: memo.clone(),
        ..Config::homelab("0.1.0")
    };
    let now = Now {
        mono: Mono(1_000_000_000),
        wall: Wall(START + 60_000),
    };
    let before = resident();
    let mut agents = Vec::new();
    for (n, keys) in fleet.keys.iter().enumerate() {
        let clock = Instant::now();
        let boot = Boot::Imaged {
            image: Arc::clone(&fleet.image),
            tables: Tables::new(),
        };
        let mut seed = [7; 32];
        seed[..8].copy_from_slice(&(n as u64).to_le_bytes());
        let mut agent =
            Agent::new(config.clone(), keys.clone(), boot, seed, now).expect("the image is sound");
        drain(&mut agent, now, n);
        agents.push(agent);
        if n == 0 {
            println!(
                "first boot {:?}, {} MiB",
                clock.elapsed(),
                (resident() - before) >> 20
            );
        }
    }
    let first = resident();
    println!(
        "all booted after {:?}, {:.1} us each; {} MiB in all, {} bytes each; the agents say {} each",
        clock.elapsed(),
        clock.elapsed().as_micros() as f64 / count as f64,
        first >> 20,
        (first - before) / count as u64,
        agents.iter().map(Agent::memory).sum::<usize>() / count,
    );

    for (path, what) in [
        ("label/n1/role=web", "an edit about one node"),
        ("on/all/params/x", "an edit about all"),
    ] {
        let op = Op::Set {
            path: path.parse().expect("a path"),
            field: Field::new(Value::Bool(true), "person:ana"),
        };
        let edit = Body::Edit(Edit {
            message: "set".into(),
            ops: vec![op],
        });
        let statement = say(&fleet.root, &fleet.admin, &mut fleet.last, edit);
        let clock = Instant::now();
        for (n, agent) in agents.iter_mut().enumerate() {
            let command = Command::Submit {
                caller: Caller::Local { uid: 0 },
                statements: vec![statement.clone()],
            };
            let id = CommandId(n as u64);
            agent.handle(now, Input::Command { id, command });
            drain(agent, now, n);
        }
        println!(
            "{what} at every node: {:?}, {:.1} us each",
            clock.elapsed(),
            clock.elapsed().as_micros() as f64 / count as f64
        );
    }
    let equal = agents.windows(2).all(|w| {
        let (a, b) = (w[0].digests(), w[1].digests());
        a.map(|d| (d.statements, d.heads)) == b.map(|d| (d.statements, d.heads))
    });
    println!("all equal: {equal}; {:?}", memo.figures());
    println!("{} MiB in the end", resident() >> 20);
}
