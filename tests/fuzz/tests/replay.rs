//! Every target over its corpus, over bytes made of it, and over bytes made of nothing.
//!
//! `LAB_BLESS=1 cargo test -p lab-fuzz` writes the seeds (`corpus/TARGET/seed-…`) again; other files of the corpus
//! were found by libFuzzer and are only read.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use lab_crdt_log::{SignedRoot, sync};
use lab_crdt_model::NodeId;
use lab_crdt_model::token::{Seed, Ticket, print_typed};
use lab_fuzz::{TARGETS, World};
use lab_mesh_proto::audit::{AuditFrame, AuditReply, AuditRequest};
use lab_mesh_proto::join::{
    JOIN_VERSION, JoinFrame, JoinRequest, Offer, Prologue, refusal, welcome,
};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target)
}

/// The files of a target's corpus by name.
fn inputs(target: &str) -> BTreeMap<String, Vec<u8>> {
    let folder = corpus(target);
    let entries =
        fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries
        .map(|entry| {
            let entry = entry.expect("an entry of the corpus");
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, fs::read(entry.path()).expect("a file of the corpus"))
        })
        .collect()
}

fn prefixed(prefix: &[u8], bytes: &[u8]) -> Vec<u8> {
    [prefix, bytes].concat()
}

fn frames() -> Vec<(String, Vec<u8>)> {
    let text = include_str!("../../../mesh/proto/tests/fixtures/message/v1.txt");
    let frames = text
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(name, hex)| {
            let digits: Vec<u8> = hex
                .chars()
                .filter_map(|c| c.to_digit(16))
                .map(|d| d as u8)
                .collect();
            let bytes: Vec<u8> = digits
                .chunks(2)
                .map(|pair| pair[0] << 4 | pair[1])
                .collect();
            (name.to_owned(), prefixed(&[0, bytes.len() as u8], &bytes))
        });
    let mut out: Vec<_> = frames.collect();
    let pause = [15, 250, 15, 250, 26, 0, 27, 0, 12, 3, 13, 5, 30, 9];
    let all: Vec<u8> = out
        .iter()
        .flat_map(|(_, bytes)| prefixed(bytes, &pause))
        .collect();
    out.push(("all".to_owned(), all));
    out
}

fn ticket(invite: &[u8]) -> Vec<u8> {
    let ticket = Ticket {
        seed: Seed::Long([9; 16]),
        mesh: World::get().mesh(),
        not_after_s: 1_800_000_000,
        addresses: vec![(
            NodeId([1; 32]),
            "10.0.0.1:4433".parse().expect("an address"),
        )],
        invite: invite.to_vec(),
    };
    ticket.print().expect("a long seed").into_bytes()
}

/// Sound inputs to begin with, by target.
fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let world = World::get();
    let named = |name: &str, bytes: Vec<u8>| (name.to_owned(), bytes);
    match target {
        "envelope" => {
            let mut out = Vec::new();
            for (at, bytes) in world.statements().iter().enumerate() {
                out.push(named(&format!("heard-{at}"), prefixed(&[0], bytes)));
                out.push(named(&format!("restored-{at}"), prefixed(&[1], bytes)));
                // Kind and what follows the author, then the body: to be signed again.
                let refs = usize::from(bytes[114]);
                let end = 115 + 32 * refs;
                let header = prefixed(&[bytes[1]], &bytes[34..end]);
                let body = &bytes[end + 4..bytes.len() - 64];
                let mut again = vec![2, [0, 0, 0, 1, 1, 0, 3, 2, 0, 0, 3][at]];
                again.extend_from_slice(&header);
                again.extend_from_slice(body);
                out.push(named(&format!("signed-{at}"), again));
            }
            for (at, bytes) in world.registers().iter().enumerate() {
                out.push(named(&format!("register-{at}"), prefixed(&[3], bytes)));
            }
            out
        }
        "frame" => frames(),
        "join_frame" => {
            let statements = world.statements().to_vec();
            let members = [(NodeId([1; 32]), vec!["10.0.0.1:4433".parse().expect("an address")])];
            let reply = welcome(world.root().encode().into(), statements, members).remove(0);
            let invite = world.statements()[5].clone();
            let request = JoinRequest { version: JOIN_VERSION, invite: invite.clone(), join: world.statements()[6].clone() };
            let all = [
                ("prologue", JoinFrame::Prologue(Prologue { token_id: [1; 8], nonce: [2; 16] })),
                ("offer", JoinFrame::Offer(Offer { mesh: world.mesh(), nonce: [2; 16], invite })),
                ("request", JoinFrame::Request(request)),
                ("welcome", JoinFrame::Reply(reply)),
                ("refused", JoinFrame::Reply(refusal(410, "the token was revoked", true))),
            ];
            all.into_iter().map(|(name, frame)| named(name, frame.encode().expect("in bounds").to_vec())).collect()
        }
        "token" => vec![
            named("typed", print_typed(&[1, 2, 3, 250, 251, 0, 0, 9, 77, 255]).into_bytes()),
            named("ticket", ticket(&world.statements()[5])),
            named("ticket-bare", ticket(&[])),
        ],
        "declaration" => vec![
            named("small", b"lab: 1\nset: demo\nlabels:\n  role=web:\n    files:\n      /etc/motd: { template: \"{node.name}\", mode: \"0644\" }\n    params: { x: 1 }\ngroups:\n  web: { include: role=web }\n".to_vec()),
            named("json", br#"{"lab": 1, "set": "demo", "labels": {"all": {"vars": {"zone": "home.example.org"}}}}"#.to_vec()),
            named("fleet", include_bytes!("../../fixtures/fleet/lab.yaml").to_vec()),
        ],
        "selector" => [
            "all",
            "role in web,dns and site!=attic",
            "@web except canary or nuc{1..2}",
            "first(3, role=web) or sample(20%, all)",
            "fact.mem.total >= 4GiB and not node.seen > 1d",
            "node.ip in 10.0.20.0/24 or name =~ /^n.*[0-9]$/i",
            "on(role=storage) or uses(secret/tls-*) or has (env)",
        ]
        .iter()
        .enumerate()
        .map(|(at, text)| named(&at.to_string(), text.as_bytes().to_vec()))
        .collect(),
        "sync_message" => {
            let (full, registers) = (world.replica(usize::MAX), world.reports());
            let (empty, none) = (world.replica(0), lab_crdt_log::Registers::default());
            let mut messages: Vec<Bytes> = sync::open(&empty, &none);
            messages.extend(sync::open(&full, &registers));
            messages.push(sync::want(vec![full.newest().next().expect("a statement")]));
            for message in messages.clone() {
                let of_full = sync::answer(&full, &registers, &message).expect("sound");
                let of_empty = sync::answer(&empty, &none, &message).expect("sound");
                for answer in [of_full, of_empty] {
                    messages.extend(answer.messages.into_iter().chain(answer.ask));
                }
            }
            messages.into_iter().enumerate().map(|(at, m)| named(&at.to_string(), m.to_vec())).collect()
        }
        "audit" => {
            let chain = world.audit_chain();
            let node = chain[0].node;
            let records = chain.iter().map(|r| r.bytes.clone()).collect();
            let reply = AuditReply { node, records, is_last: true };
            let frames = [
                ("request", AuditFrame::Request(AuditRequest { node, after: 3 })),
                ("reply", AuditFrame::Reply(reply)),
            ];
            let frames = frames.into_iter().map(|(name, f)| named(name, prefixed(&[1], &f.encode().expect("in bounds"))));
            let records = chain.iter().map(|r| named(&format!("record-{}", r.seq), prefixed(&[0], &r.bytes)));
            frames.chain(records).collect()
        }
        "root" => {
            let SignedRoot { record, .. } = world.root();
            vec![named("signed", prefixed(&[0], &world.root().encode())), named("record", prefixed(&[1], record))]
        }
        other => panic!("{other} has no seeds"),
    }
}

#[test]
fn the_corpus_holds_the_seeds() {
    #[expect(
        clippy::disallowed_methods,
        reason = "a switch for people who change a format on purpose"
    )]
    let is_blessing = std::env::var("LAB_BLESS").is_ok();
    for (target, _) in TARGETS {
        let seeds = seeds(target);
        if is_blessing {
            let folder = corpus(target);
            fs::create_dir_all(&folder).expect("make the folder of a corpus");
            for (name, bytes) in &seeds {
                fs::write(folder.join(format!("seed-{name}")), bytes).expect("write a seed");
            }
        }
        let inputs = inputs(target);
        // Old seeds stay useful when a writer changes, so they need not be what it writes today.
        for (name, _) in seeds {
            let is_here = inputs.contains_key(&format!("seed-{name}"));
            assert!(is_here, "{target}/seed-{name}: LAB_BLESS=1 writes it");
        }
        let size: usize = inputs.values().map(Vec::len).sum();
        assert!(
            size < 512 * 1024,
            "{target}: a corpus of {size} bytes is too large to be in the repository"
        );
    }
}

#[test]
fn no_input_of_the_corpus_panics() {
    for (target, run) in TARGETS {
        for (name, bytes) in inputs(target) {
            let outcome = std::panic::catch_unwind(|| run(&bytes));
            assert!(outcome.is_ok(), "{target}/{name}");
        }
    }
}

/// One change of an input.
#[derive(Clone, Debug)]
enum Change {
    Flip {
        at: prop::sample::Index,
        bit: u8,
    },
    Put {
        at: prop::sample::Index,
        byte: u8,
    },
    Insert {
        at: prop::sample::Index,
        bytes: Vec<u8>,
    },
    Cut {
        at: prop::sample::Index,
    },
    Remove {
        at: prop::sample::Index,
    },
}

impl Change {
    fn carry_out(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let length = bytes.len();
        match self {
            Self::Flip { at, bit } => bytes[at.index(length)] ^= 1 << (bit % 8),
            Self::Put { at, byte } => bytes[at.index(length)] = *byte,
            Self::Insert { at, bytes: new } => {
                drop(bytes.splice(at.index(length)..at.index(length), new.clone()));
            }
            Self::Cut { at } => bytes.truncate(at.index(length)),
            Self::Remove { at } => drop(bytes.remove(at.index(length))),
        }
    }
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, bit)| Change::Flip { at, bit }),
        (
            at(),
            prop_oneof![
                Just(0u8),
                Just(1),
                Just(127),
                Just(128),
                Just(255),
                any::<u8>()
            ]
        )
            .prop_map(|(at, byte)| Change::Put { at, byte }),
        (at(), prop::collection::vec(any::<u8>(), 1..9))
            .prop_map(|(at, bytes)| Change::Insert { at, bytes }),
        at().prop_map(|at| Change::Cut { at }),
        at().prop_map(|at| Change::Remove { at }),
    ]
}

#[test]
fn no_changed_input_of_the_corpus_panics() {
    for (target, run) in TARGETS {
        let inputs: Vec<Vec<u8>> = inputs(target).into_values().collect();
        let changed = (
            prop::sample::select(inputs),
            prop::collection::vec(change(), 1..6),
        );
        let config = ProptestConfig {
            cases: 1024,
            failure_persistence: None,
            ..ProptestConfig::default()
        };
        let outcome = TestRunner::new(config).run(&changed, |(mut bytes, changes)| {
            for change in &changes {
                change.carry_out(&mut bytes);
            }
            run(&bytes);
            Ok(())
        });
        assert!(
            outcome.is_ok(),
            "{target}: {}",
            outcome.expect_err("it failed")
        );
    }
}

#[test]
fn no_bytes_at_all_panic() {
    for (target, run) in TARGETS {
        let config = ProptestConfig {
            cases: 1024,
            failure_persistence: None,
            ..ProptestConfig::default()
        };
        let outcome =
            TestRunner::new(config).run(&prop::collection::vec(any::<u8>(), 0..400), |bytes| {
                run(&bytes);
                Ok(())
            });
        assert!(
            outcome.is_ok(),
            "{target}: {}",
            outcome.expect_err("it failed")
        );
    }
}

/// A runner that finds nothing proves nothing.
#[test]
fn a_planted_panic_is_found() {
    let planted: lab_fuzz::Target = |data| assert!(data.first() != Some(&7), "planted");
    let config = ProptestConfig {
        cases: 10_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let outcome = TestRunner::new(config).run(&prop::collection::vec(any::<u8>(), 0..4), |bytes| {
        planted(&bytes);
        Ok(())
    });
    assert!(outcome.is_err());
}
