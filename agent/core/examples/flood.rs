//! What an operator's key can do to a replica that it floods, and what the bounds leave to everyone else.
//!
//! `cargo run --release -p lab-agent-core --example flood`
//!
//! A thief says a million statements, then a hundred thousand different ones at one place of the chain; an honest
//! operator goes on editing meanwhile. Memory is the resident size of this process, which holds one replica.
#![expect(clippy::print_stdout, reason = "figures for people")]
#![expect(
    clippy::disallowed_methods,
    reason = "a benchmark reads the clock and its own size"
)]

use std::time::Instant;

use bytes::Bytes;
use ed25519_dalek::SigningKey;
use lab_crdt_log::{
    Admin, Body, Draft, Edit, Grant, Log, Rights, RootRecord, SignedRoot, open, seal,
};
use lab_crdt_model::{AuthorId, Field, Hlc, MeshId, Mono, Op, StatementId, Value};

const THIEF: u8 = 1;
const HONEST: u8 = 2;
/// An honest edit comes after so many statements of the thief.
const HONEST_EVERY: u64 = 1_000;

fn key(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n; 32])
}

fn author(n: u8) -> AuthorId {
    AuthorId(key(n).verifying_key().to_bytes())
}

fn edit(text: &str) -> Body {
    let op = Op::Set {
        path: "on/all/params/x".parse().expect("a path"),
        field: Field::new(Value::text(text), "person:o"),
    };
    Body::Edit(Edit {
        message: "set".into(),
        ops: vec![op],
    })
}

/// The end of one chain.
struct Voice {
    mesh: MeshId,
    who: u8,
    under: StatementId,
    seq: u64,
    prev: StatementId,
}

impl Voice {
    fn new(mesh: MeshId, who: u8, under: StatementId) -> Self {
        Self {
            mesh,
            who,
            under,
            seq: 0,
            prev: StatementId::ZERO,
        }
    }

    /// One more statement at the end, which the next one does not follow.
    fn fork(&self, body: Body) -> Bytes {
        let draft = Draft {
            seq: self.seq,
            prev: self.prev,
            under: self.under,
            hlc: Hlc(1 << 40),
            refs: vec![],
            body,
        };
        seal(&self.mesh, &key(self.who), &draft).expect("a sound draft")
    }

    fn say(&mut self, body: Body) -> Bytes {
        let bytes = self.fork(body);
        self.prev = open(&self.mesh, &bytes).expect("signed").id;
        self.seq += 1;
        bytes
    }
}

fn main() {
    let record = RootRecord {
        name: "home".into(),
        root_keys: vec![author(100)],
        threshold: 1,
        admins: vec![Admin {
            key: author(101),
            name: "ana".into(),
        }],
        ..RootRecord::default()
    };
    let root = SignedRoot::sign(&record, &[&key(100)]);
    let mesh = root.mesh();
    let mut log = Log::new(root).expect("signed");
    let mut admin = Voice::new(mesh, 101, StatementId(mesh.0));
    let mut voices = [THIEF, HONEST].map(|who| {
        let grant = Grant {
            subject: author(who),
            name: format!("o{who}"),
            rights: Rights::ALL,
            scope: vec![String::new()],
            not_after: None,
        };
        let bytes = admin.say(Body::Grant(grant));
        log.ingest(&bytes, Mono(0)).expect("sound");
        Voice::new(mesh, who, admin.prev)
    });
    let [thief, honest] = &mut voices;

    let start = log.len();
    let before = resident_mb();
    let (mut spent, mut waited, mut longest) = (0.0, 0.0_f64, 0.0_f64);
    for n in 0..1_000_000_u64 {
        let bytes = thief.say(edit(&format!("evil {n}")));
        spent += timed(|| drop(log.ingest(&bytes, Mono(0))));
        if n % HONEST_EVERY == 0 {
            let bytes = honest.say(edit(&format!("good {n}")));
            let took = timed(|| {
                log.ingest(&bytes, Mono(0)).expect("within its own quota");
                log.authority();
            });
            waited += took;
            longest = longest.max(took);
        }
    }
    println!(
        "1,000,000 statements of one key: {spent:.1} s of this replica, {} kept",
        log.len() - start
    );
    println!(
        "an honest edit meanwhile: {:.3} ms on average, {:.3} ms at most",
        waited * 1e3 / 1_000.0,
        longest * 1e3
    );
    println!("memory: {before} -> {} MB", resident_mb());

    // Another key, which has said nothing yet.
    let grant = Grant {
        subject: author(3),
        name: "o3".into(),
        rights: Rights::ALL,
        scope: vec![String::new()],
        not_after: None,
    };
    let bytes = admin.say(Body::Grant(grant));
    log.ingest(&bytes, Mono(0)).expect("sound");
    let forker = Voice::new(mesh, 3, admin.prev);
    let (kept, before) = (log.len(), resident_mb());
    let mut spent = 0.0;
    for n in 0..100_000_u64 {
        let bytes = forker.fork(edit(&format!("fork {n}")));
        spent += timed(|| drop(log.ingest(&bytes, Mono(0))));
    }
    log.authority();
    println!(
        "100,000 forks of one place: {spent:.1} s of this replica, {} kept",
        log.len() - kept
    );
    println!("memory: {before} -> {} MB", resident_mb());
}

fn timed(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

fn resident_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let kb = line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok());
    kb.unwrap_or(0) / 1024
}
