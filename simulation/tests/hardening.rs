//! What strangers, thieves, failing disks and jumping clocks may not do to an agent.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use bytes::Bytes;
use ed25519_dalek::SigningKey;
use lab_agent_core::{
    Agent, Boot, Command, Config, Effect, EffectResult, Event, Input, LinkState, NodeKeys, Output,
    Reply, StoreId,
};
use lab_crdt_log::{
    Admin, Admit, Body, Draft, Edit, Grant, Revoke, Rights, RootRecord, SignedRoot, seal,
};
use lab_crdt_model::link::{Channel, Lane};
use lab_crdt_model::store::{Batch, StoreOp, Table, Tables};
use lab_crdt_model::token::{Seed, Ticket, Token};
use lab_crdt_model::view::Role;
use lab_crdt_model::{
    AuthorId, Caller, Field, Hardware, Hlc, Mono, NodeId, Now, Op, StatementId, Value, Wall,
};
use lab_mesh_proto::join::{JoinFrame, JoinReply};
use lab_simulation::{Person, World};

const WALL: u64 = 1_800_000_000_000;

fn address(n: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, n], 4000))
}

fn founder() -> (SignedRoot, SigningKey) {
    let (root, admin) = (
        SigningKey::from_bytes(&[200; 32]),
        SigningKey::from_bytes(&[201; 32]),
    );
    let author = |key: &SigningKey| AuthorId(key.verifying_key().to_bytes());
    let record = RootRecord {
        name: "home".into(),
        nonce: [1; 16],
        root_keys: vec![author(&root)],
        threshold: 1,
        admins: vec![Admin {
            key: author(&admin),
            name: "ana".into(),
        }],
        min_proto: 1,
        ..RootRecord::default()
    };
    (SignedRoot::sign(&record, &[&root]), admin)
}

fn drain(agent: &mut Agent) -> Vec<Output> {
    std::iter::from_fn(|| agent.poll()).collect()
}

fn joiner() -> (Agent, NodeId) {
    let named = NodeId([3; 32]);
    let boot = Boot::Joining {
        token: Token::Typed(Seed::Long([9; 16])),
        via: vec![(named, address(1))],
        operator_key: None,
        hardware: Hardware::default(),
    };
    let now = Now {
        mono: Mono(1_000_000_000),
        wall: Wall(WALL),
    };
    let keys = NodeKeys::new(&[5; 32]);
    let mut agent = Agent::new(Config::homelab("0"), keys, boot, [0; 32], now).expect("it boots");
    agent.handle(now, Input::Wake);
    drain(&mut agent);
    (agent, named)
}

fn hear(agent: &mut Agent, from: NodeId, reply: JoinReply) -> Vec<Output> {
    let now = Now {
        mono: Mono(2_000_000_000),
        wall: Wall(WALL),
    };
    agent.handle(
        now,
        Input::Link {
            peer: from,
            channel: Channel::Join,
            state: LinkState::Up { address: None },
        },
    );
    let bytes = JoinFrame::Reply(reply).encode().expect("within limits");
    agent.handle(
        now,
        Input::Frame {
            from,
            channel: Channel::Join,
            lane: Lane::Bulk,
            bytes,
        },
    );
    drain(agent)
}

#[test]
fn nobody_is_let_into_a_mesh_that_did_not_show_that_it_made_the_typed_token() {
    let (mut agent, named) = joiner();
    let welcome = JoinReply::Welcome {
        root: founder().0.encode().into(),
        statements: vec![],
        last: true,
        members: vec![],
    };

    hear(&mut agent, named, welcome);

    assert_eq!(agent.mesh(), None);
}

#[test]
fn a_stranger_on_the_network_cannot_end_a_join_for_good() {
    let refused = || JoinReply::Refused {
        code: 403,
        why: "no".into(),
        is_final: true,
    };
    let is_final = |outputs: Vec<Output>| {
        outputs
            .iter()
            .any(|o| matches!(o, Output::Tell(Event::JoinRefused { is_final: true, .. })))
    };
    let (mut agent, named) = joiner();
    let stranger = NodeId([66; 32]);
    let now = Now {
        mono: Mono(1_500_000_000),
        wall: Wall(WALL),
    };
    let found = Input::Found {
        peer: stranger,
        addresses: vec![address(9)],
    };
    agent.handle(now, found);

    assert!(!is_final(hear(&mut agent, stranger, refused())));
    assert!(is_final(hear(&mut agent, named, refused())));
}

#[test]
fn whoever_was_not_asked_lets_nobody_in() {
    let (root, _) = founder();
    let now = Now {
        mono: Mono(1_000_000_000),
        wall: Wall(WALL),
    };
    let boot = Boot::Joining {
        token: Token::Ticket(Ticket {
            seed: Seed::Long([9; 16]),
            mesh: root.mesh(),
            not_after_s: 0,
            addresses: vec![(NodeId([3; 32]), address(1))],
            invite: vec![],
        }),
        via: vec![],
        operator_key: None,
        hardware: Hardware::default(),
    };
    let keys = NodeKeys::new(&[5; 32]);
    let mut agent = Agent::new(Config::homelab("0"), keys, boot, [0; 32], now).unwrap();
    drain(&mut agent);
    let welcome = JoinReply::Welcome {
        root: root.encode().into(),
        statements: vec![],
        last: true,
        members: vec![(NodeId([66; 32]), vec![address(9)])],
    };

    hear(&mut agent, NodeId([66; 32]), welcome);

    assert_eq!(agent.mesh(), None);
}

#[test]
fn a_stamp_from_the_far_future_ends_nobody_elses_grant() {
    let mut w = World::found(90);
    let admin = w.admin.clone();
    let granted = |w: &mut World, number, name, not_after| {
        let person = Person::new(number, admin.under, name);
        let grant = Grant {
            subject: person.author(),
            name: name.into(),
            rights: Rights::ALL,
            scope: vec![String::new()],
            not_after,
        };
        let Reply::Submitted { ids } = admin.say(w, 0, Body::Grant(grant)) else {
            panic!("the grant is refused")
        };
        Person {
            under: ids[0],
            ..person
        }
    };
    let liar = granted(&mut w, 10, "liar", None);
    let end = Wall(w.wall(0).0 + 3_600_000);
    let carol = granted(&mut w, 11, "carol", Some(end));
    let Reply::Prepared(tail) = w.ask(
        0,
        Command::Prepare {
            author: liar.author(),
        },
    ) else {
        panic!()
    };
    let op = Op::Set {
        path: "on/all/params/x".parse().unwrap(),
        field: Field::new(Value::Int(1), "person:liar"),
    };
    let draft = Draft {
        seq: tail.seq,
        prev: tail.prev,
        under: liar.under,
        hlc: Hlc(u64::MAX),
        refs: vec![],
        body: Body::Edit(Edit {
            message: String::new(),
            ops: vec![op],
        }),
    };
    let statements = vec![seal(&tail.mesh, &liar.key, &draft).unwrap()];
    let reply = w.ask(
        0,
        Command::Submit {
            caller: Caller::Local { uid: 0 },
            statements,
        },
    );
    assert!(matches!(reply, Reply::Submitted { .. }), "{reply:?}");

    let reply = carol.set(&mut w, 0, "on/all/params/y", Value::Int(2));

    assert!(matches!(reply, Reply::Submitted { .. }), "{reply:?}");
    assert_eq!(w.value(0, "on/all/params/y").as_deref(), Some("2"));
}

#[test]
fn revoking_the_key_that_admitted_the_fleet_evicts_nobody() {
    let mut w = World::found(91);
    w.grow(3);
    let admin = w.admin.clone();
    admin.set(&mut w, 0, "on/all/params/x", Value::Int(1));
    assert!(w.run_until(10_000, |w| w.are_equal()));
    let Reply::Prepared(tail) = w.ask(
        0,
        Command::Prepare {
            author: admin.author(),
        },
    ) else {
        panic!()
    };
    let revoke = Revoke {
        key: admin.author(),
        head: Some(tail.prev),
        reason: "lost".into(),
    };

    admin.say(&mut w, 0, Body::Revoke(revoke));
    w.run_for(60_000);

    for node in 0..3 {
        assert!(w.is_member(node), "{node}");
        assert_eq!(w.value(node, "on/all/params/x").as_deref(), Some("1"));
    }
    assert!(w.are_equal());
    let late = admin.set(&mut w, 0, "on/all/params/x", Value::Int(2));
    assert!(matches!(late, Reply::Refused { .. }), "{late:?}");
}

#[derive(Default)]
struct Disk(BTreeMap<(Table, Vec<u8>), Vec<u8>>);

impl Disk {
    fn apply(&mut self, batch: Batch) {
        for op in batch {
            match op {
                StoreOp::Put { table, key, value } => self.0.insert((table, key), value),
                StoreOp::Delete { table, key } => self.0.remove(&(table, key)),
            };
        }
    }

    fn boot(&self) -> Boot {
        let mut tables = Tables::new();
        for ((table, key), value) in &self.0 {
            let entry = (key.clone(), value.clone());
            tables.entry(*table).or_default().push(entry);
        }
        Boot::Stored { tables }
    }
}

/// One agent alone, with a disk that refuses some writes and a wall clock that jumps.
fn lonely(seed: u64, mut is_refused: impl FnMut(u64, u64) -> bool) {
    let (root, admin) = founder();
    let keys = NodeKeys::new(&[7; 32]);
    let admit = Admit {
        node: keys.node(),
        seal_key: keys.seal_key(),
        name: "n0".into(),
        role: Role::Node,
        labels: vec![],
    };
    let draft = Draft {
        seq: 0,
        prev: StatementId::ZERO,
        under: StatementId(root.mesh().0),
        hlc: Hlc::from_wall(Wall(WALL)),
        refs: vec![],
        body: Body::Admit(admit),
    };
    let admit: Bytes = seal(&root.mesh(), &admin, &draft).expect("within limits");
    let mut disk = Disk::default();
    disk.apply(Boot::founding(&root.encode(), &[admit]));
    let mut mono = Mono(1_000_000_000);
    let config = Config::homelab("0");
    let now = |mono: Mono, step: u64| Now {
        mono,
        // Back and forth by up to an hour.
        wall: Wall(WALL + mono.0 / 1_000_000 - (step * 7_919 % 3_600_000)),
    };
    let boot = disk.boot();
    let mut agent =
        Agent::new(config.clone(), keys.clone(), boot, [1; 32], now(mono, 0)).expect("it boots");
    let (mut writes, mut written) = (VecDeque::<(StoreId, Batch)>::new(), 0);
    for step in 0..1500u64 {
        let mut inputs = VecDeque::new();
        for output in drain(&mut agent) {
            match output {
                Output::Store { id, batch } => writes.push_back((id, batch)),
                Output::Run { id, effect } => {
                    let result = match effect {
                        Effect::Facts => EffectResult::Facts(Box::default()),
                        Effect::Files { .. } => EffectResult::Files(vec![]),
                    };
                    inputs.push_back(Input::Done { id, result });
                }
                _ => {}
            }
        }
        // Several writes may be under way before the store gets to them.
        if step % 3 == seed % 3 {
            for (id, batch) in writes.drain(..) {
                written += 1;
                let result = if is_refused(written, step) {
                    Err("full".to_owned())
                } else {
                    disk.apply(batch);
                    Ok(())
                };
                inputs.push_back(Input::Stored { id, result });
            }
        }
        if step % 2 == 0 && step < 1400 {
            inputs.push_back(Input::Addresses(vec![address((step / 2 % 200) as u8)]));
        }
        for input in inputs {
            agent.handle(now(mono, step), input);
        }
        if agent
            .deadline()
            .is_some_and(|d| d.why != "outputs wait" && d.at <= mono)
        {
            agent.handle(now(mono, step), Input::Wake);
            let next = agent.deadline().filter(|d| d.why != "outputs wait");
            assert!(
                next.is_none_or(|d| d.at > mono),
                "woken in vain, step {step}: {next:?}"
            );
        }
        mono = mono.plus_ms(100);
    }
    assert!(written > 100, "{written}");
    let again = Agent::new(config, keys, disk.boot(), [2; 32], now(mono, 0)).expect("it boots");
    assert_eq!(again.digests(), agent.digests());
}

#[test]
fn a_store_that_fails_now_and_then_is_never_left_with_an_older_value() {
    for seed in 0..6u64 {
        let mut x = seed * 77 + 1;
        lonely(seed, move |_, step| {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            step < 1401 && x >> 62 == 0
        });
    }
}

#[test]
fn a_store_that_fails_for_long_is_written_in_full_once_it_works() {
    lonely(1, |_, step| (100..1300).contains(&step));
}
