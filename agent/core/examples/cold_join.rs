//! What a newcomer to an old mesh costs: verifying every statement, and pulling all of them from one peer.
//!
//! `cargo run --release -p lab-agent-core --example cold_join -- 100000`
//!
//! Twelve operators have each written the same number of edits, in turns, each edit naming the newest one of another.
//! One core; no network and no disk: bytes go from one replica to the other in memory.
#![expect(clippy::print_stdout, reason = "figures for people")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::time::Instant;

use bytes::Bytes;
use ed25519_dalek::SigningKey;
use lab_crdt_doc::Document;
use lab_crdt_log::{
    Admin, Body, Draft, Edit, EffectiveEdit, Grant, Log, Registers, Rights, RootRecord, SignedRoot,
    open, seal, sync,
};
use lab_crdt_model::{AuthorId, Field, Hlc, MeshId, Mono, Op, StatementId, Value};

const OPERATORS: u8 = 12;

fn key(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n; 32])
}

fn author(n: u8) -> AuthorId {
    AuthorId(key(n).verifying_key().to_bytes())
}

/// A chain that grows.
#[derive(Clone, Copy)]
struct End {
    seq: u64,
    prev: StatementId,
}

struct Writer {
    mesh: MeshId,
    clock: u64,
    all: Vec<Bytes>,
}

impl Writer {
    fn say(
        &mut self,
        who: u8,
        end: End,
        under: StatementId,
        refs: Vec<StatementId>,
        body: Body,
    ) -> End {
        self.clock += 1 << 16;
        let draft = Draft {
            seq: end.seq,
            prev: end.prev,
            under,
            hlc: Hlc(self.clock),
            refs,
            body,
        };
        let bytes = seal(&self.mesh, &key(who), &draft).expect("a sound draft");
        let id = open(&self.mesh, &bytes).expect("signed").id;
        self.all.push(bytes);
        End {
            seq: end.seq + 1,
            prev: id,
        }
    }
}

fn main() {
    let count = std::env::args().nth(1).and_then(|n| n.parse().ok());
    let count: usize = count.unwrap_or(100_000);
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
    let all = history(root.mesh(), count);
    println!("{} statements, {:.1} MB", all.len(), size(&all));

    let mut old = Log::new(root.clone()).expect("signed");
    let seconds = timed(|| {
        for bytes in &all {
            old.ingest(bytes, Mono(0)).expect("sound");
        }
    });
    println!(
        "taken in one by one: {seconds:.1} s, {:.0} statements/s",
        all.len() as f64 / seconds
    );
    let seconds = timed(|| {
        for bytes in &all {
            open(&root.mesh(), bytes).expect("signed");
        }
    });
    println!(
        "signatures alone: {seconds:.1} s, {:.0} statements/s",
        all.len() as f64 / seconds
    );

    let mut new = Log::new(root).expect("signed");
    old.authority();
    let mut edits = Vec::new();
    let seconds = timed(|| {
        pull(&old, &mut new);
        new.authority();
        edits = new.effective_edits();
    });
    assert_eq!(new.digest(), old.digest());
    println!("pulled and judged: {seconds:.1} s");
    let mesh = new.mesh();
    let more = timed(|| {
        let mut document = Document::new(&mesh);
        let edits: Vec<_> = edits.drain(..).map(convert).collect();
        document.apply(&edits).expect("a sound history");
    });
    println!(
        "document: {more:.1} s; cold join in all: {:.1} s",
        seconds + more
    );
}

fn history(mesh: MeshId, count: usize) -> Vec<Bytes> {
    let mut writer = Writer {
        mesh,
        clock: 1 << 40,
        all: Vec::with_capacity(count),
    };
    let first = End {
        seq: 0,
        prev: StatementId::ZERO,
    };
    let (mut admin, mut ends, mut grants) = (first, Vec::new(), Vec::new());
    for n in 0..OPERATORS {
        let grant = Grant {
            subject: author(n),
            name: format!("o{n}"),
            rights: Rights::ALL,
            scope: vec![String::new()],
            not_after: None,
        };
        admin = writer.say(101, admin, StatementId(mesh.0), vec![], Body::Grant(grant));
        grants.push(admin.prev);
        ends.push(first);
    }
    let mut newest: Option<StatementId> = None;
    while writer.all.len() < count {
        let at = writer.all.len();
        let who = at % usize::from(OPERATORS);
        let op = Op::Set {
            path: format!("node/n{}/params/p{}", at % 1_000, at % 7)
                .parse()
                .expect("a path"),
            field: Field::new(Value::Int(at as i64), "person:o"),
        };
        let edit = Edit {
            message: "set".into(),
            ops: vec![op],
        };
        let refs = newest.into_iter().collect();
        let end = writer.say(who as u8, ends[who], grants[who], refs, Body::Edit(edit));
        newest = Some(end.prev);
        ends[who] = end;
    }
    writer.all
}

fn pull(old: &Log, new: &mut Log) {
    let none = Registers::default();
    let mut to_old = sync::open(new, &none);
    while let Some(message) = to_old.pop() {
        let answer = sync::answer(old, &none, &message).expect("sound");
        for message in answer.messages {
            let answer = sync::answer(new, &none, &message).expect("sound");
            for bytes in &answer.statements {
                let _known = new.ingest(bytes, Mono(0));
            }
            to_old.extend(answer.messages);
            if let Some(place) = answer.resume {
                new.authority();
                to_old.push(sync::resume(new, &none, place));
            }
        }
    }
}

fn convert(e: EffectiveEdit) -> lab_crdt_doc::Edit {
    lab_crdt_doc::Edit {
        id: e.id,
        author: e.author,
        branch: e.branch,
        at: e.at,
        message: e.message,
        parents: e.parents,
        ops: e.ops,
    }
}

fn size(all: &[Bytes]) -> f64 {
    all.iter().map(Bytes::len).sum::<usize>() as f64 / 1e6
}

fn timed(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}
