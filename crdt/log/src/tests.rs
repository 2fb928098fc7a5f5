//! Stories of several authors on several replicas.

use std::collections::BTreeSet;

use bytes::Bytes;
use ed25519_dalek::SigningKey;
use lab_crdt_model::token::Seed;
use lab_crdt_model::view::{MemberState, Role};
use lab_crdt_model::{
    AuthorId, Binding, Field, Hardware, Hlc, Mac, Mono, NodeId, Op, StatementId, Value, Wall,
};
use proptest::prelude::*;

use crate::*;

mod checkpoints;
mod hardening;
mod histories;
mod late;
mod tails;

/// A mesh with one admin, and whoever else a story needs.
struct World {
    root: SignedRoot,
    admin: SigningKey,
    clock: u64,
}

fn key(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n; 32])
}

fn author(key: &SigningKey) -> AuthorId {
    AuthorId(key.verifying_key().to_bytes())
}

fn admins(n: u8) -> Vec<Admin> {
    (1..=n)
        .map(|n| Admin {
            key: author(&key(n)),
            name: format!("a{n}"),
        })
        .collect()
}

impl World {
    fn new() -> Self {
        let admins = vec![Admin {
            key: author(&key(1)),
            name: "ana".into(),
        }];
        Self::with_admins(admins)
    }

    fn with_admins(admins: Vec<Admin>) -> Self {
        let record = RootRecord {
            name: "home".into(),
            nonce: [0; 16],
            root_keys: vec![author(&key(100))],
            threshold: 1,
            admins,
            min_proto: 1,
            ..RootRecord::default()
        };
        Self {
            root: SignedRoot::sign(&record, &[&key(100)]),
            admin: key(1),
            clock: 1000,
        }
    }

    fn replica(&self) -> Log {
        Log::new(self.root.clone()).unwrap()
    }

    fn under_root(&self) -> StatementId {
        StatementId(self.root.mesh().0)
    }

    /// Signs on top of what `log` holds, without taking it in.
    fn draft(&mut self, log: &Log, key: &SigningKey, under: StatementId, body: Body) -> Bytes {
        self.clock += 1;
        let tail = log.tail(&author(key));
        let mut refs = tail.refs;
        refs.truncate(16);
        let hlc = tail.hlc.next(Wall(self.clock));
        seal(
            &self.root.mesh(),
            key,
            &Draft {
                seq: tail.seq,
                prev: tail.prev,
                under,
                hlc,
                refs,
                body,
            },
        )
        .unwrap()
    }

    fn say(
        &mut self,
        log: &mut Log,
        key: &SigningKey,
        under: StatementId,
        body: Body,
    ) -> StatementId {
        let bytes = self.draft(log, key, under, body);
        match log.ingest(&bytes, Mono(0)).unwrap() {
            Outcome::Stored { ids, .. } => ids[0],
            other => panic!("{other:?}"),
        }
    }

    fn admin_says(&mut self, log: &mut Log, body: Body) -> StatementId {
        let (key, under) = (self.admin.clone(), self.under_root());
        self.say(log, &key, under, body)
    }

    fn invite(&self, seed: u8, name: &str) -> (TokenKeys, Invite) {
        let keys = TokenKeys::derive(&Seed::Long([seed; 16]));
        let invite = Invite {
            token_key: keys.public(),
            uses_max: 1,
            not_after: Wall(1_000_000),
            role: Role::Node,
            name: Some(name.into()),
            labels: vec!["role=web".parse().unwrap()],
            rights: Rights::default(),
            scope: vec![],
            lease_ms: 0,
            witness: WitnessRule::Any,
            confirm: false,
            mesh_mac: keys.mesh_mac(&self.root.mesh()),
            binding: None,
        };
        (keys, invite)
    }

    fn join(
        &mut self,
        log: &mut Log,
        node: &SigningKey,
        keys: &TokenKeys,
        invite: StatementId,
        operator: Option<AuthorId>,
    ) -> StatementId {
        self.join_of(log, node, keys, invite, operator, None)
    }

    fn join_of(
        &mut self,
        log: &mut Log,
        node: &SigningKey,
        keys: &TokenKeys,
        invite: StatementId,
        operator: Option<AuthorId>,
        hardware: Option<Hardware>,
    ) -> StatementId {
        let id = NodeId(node.verifying_key().to_bytes());
        let token_signature = keys.sign_join(&self.root.mesh(), &id, &[3; 32], operator.as_ref());
        let join = Join {
            invite,
            seal_key: [3; 32],
            operator_key: operator,
            token_signature,
            hardware,
        };
        self.say(log, node, invite, Body::Join(join))
    }

    fn witness(&mut self, log: &mut Log, node: &SigningKey, join: StatementId) {
        self.say(
            log,
            node,
            join,
            Body::Witness(Witness {
                join,
                seen_at: Wall(2000),
            }),
        );
    }

    /// The admin admits node 50, which may then witness.
    fn with_first_node(&mut self, log: &mut Log) -> SigningKey {
        let node = key(50);
        let admit = Admit {
            node: NodeId(author(&node).0),
            seal_key: [0; 32],
            name: "nas1".into(),
            role: Role::Node,
            labels: vec![],
        };
        self.admin_says(log, Body::Admit(admit));
        node
    }
}

fn set(path: &str, value: i64) -> Body {
    let op = Op::Set {
        path: path.parse().unwrap(),
        field: Field::new(Value::Int(value), "person:ana"),
    };
    Body::Edit(Edit {
        message: String::new(),
        ops: vec![op],
    })
}

fn copy(from: &Log, to: &mut Log) {
    // Pull both ways until nobody has anything to say.
    let (ra, rb) = (Registers::default(), Registers::default());
    let mut queue: Vec<Bytes> = sync::open(to, &rb);
    for _round in 0..400 {
        let mut back = Vec::new();
        for message in queue.drain(..) {
            let answer = sync::answer(from, &ra, &message).unwrap();
            for m in answer.messages.into_iter().chain(answer.ask) {
                let got = sync::answer(to, &rb, &m).unwrap();
                let progress = to.progress();
                for s in got.statements {
                    let _outcome = to.ingest(&s, Mono(0));
                }
                back.extend(got.messages);
                back.extend(got.ask);
                if to.progress() != progress {
                    back.extend(got.resume.map(|r| sync::resume(to, &rb, r)));
                    let wanted = to.wanted(64);
                    if !wanted.is_empty() {
                        back.push(sync::want(wanted));
                    }
                }
            }
        }
        if back.is_empty() {
            return;
        }
        queue = back;
    }
    panic!("the exchange does not end");
}

#[test]
fn an_operator_counts_within_grant_scope_and_time_only() {
    let mut w = World::new();
    let mut log = w.replica();
    let op = key(10);
    let grant = w.admin_says(
        &mut log,
        Body::Grant(Grant {
            subject: author(&op),
            name: "bob".into(),
            rights: Rights::CONFIG.and(Rights::LABELS),
            scope: vec!["on/role=web".into(), "label/nuc1".into()],
            not_after: Some(Wall(5000)),
        }),
    );
    let root = w.under_root();

    let good = w.say(&mut log, &op, grant, set("on/role=web/params/x", 1));
    let label = w.say(&mut log, &op, grant, set("label/nuc1/role=web", 1));
    let outside = w.say(&mut log, &op, grant, set("on/role=webs/params/x", 1));
    let admin_only = w.say(&mut log, &op, grant, set("label/nuc1/lab.role%2Fholder", 1));
    let claims_root = w.say(&mut log, &op, root, set("on/role=web/params/y", 1));
    w.clock = 6000;
    let late = w.say(&mut log, &op, grant, set("on/role=web/params/z", 1));

    log.authority();
    assert_eq!(log.why_not(&good), None);
    assert_eq!(log.why_not(&label), None);
    assert_eq!(
        log.why_not(&outside),
        Some("it is outside the scope of its grant")
    );
    assert_eq!(
        log.why_not(&admin_only),
        Some("labels below lab. are for admins")
    );
    assert_eq!(
        log.why_not(&claims_root),
        Some("its author is not an admin")
    );
    assert_eq!(log.why_not(&late), Some("its grant had expired"));
}

#[test]
fn a_stranger_is_not_even_stored() {
    let mut w = World::new();
    let mut log = w.replica();
    let root = w.under_root();
    let bytes = w.draft(&log, &key(77), root, set("on/all/params/x", 1));
    assert_eq!(log.ingest(&bytes, Mono(0)), Err(Refusal::Stranger));
    assert!(log.is_empty());
}

#[test]
fn a_cut_undoes_what_came_after_and_brings_back_what_was_there() {
    let mut w = World::new();
    let mut log = w.replica();
    let op = key(10);
    let grant = w.admin_says(
        &mut log,
        Body::Grant(Grant {
            subject: author(&op),
            name: "bob".into(),
            rights: Rights::ALL,
            scope: vec![String::new()],
            not_after: None,
        }),
    );
    let before = w.say(&mut log, &op, grant, set("on/all/params/x", 1));
    let stolen = w.say(&mut log, &op, grant, set("on/all/params/x", 666));
    let honest = w.admin_says(&mut log, set("on/all/params/y", 2));
    assert!(matches!(log.take_edits(), Edits::Append(e) if e.len() == 3));

    w.admin_says(
        &mut log,
        Body::Revoke(Revoke {
            key: author(&op),
            head: Some(before),
            reason: "stolen".into(),
        }),
    );
    let afterwards = w.say(&mut log, &op, grant, set("on/all/params/x", 667));

    let Edits::Rebuild(edits) = log.take_edits() else {
        panic!("a cut rebuilds")
    };
    assert_eq!(
        edits.iter().map(|e| e.id).collect::<Vec<_>>(),
        [before, honest]
    );
    // The admin had seen the stolen edit; what counts in its past is the one before.
    assert_eq!(edits[1].parents, [before]);
    assert_eq!(log.why_not(&stolen), Some("its key was revoked"));
    assert_eq!(log.why_not(&afterwards), Some("its key was revoked"));
}

#[test]
fn an_admin_outvoted_by_two_is_out_and_equals_cancel_each_other() {
    let admins: Vec<_> = (1..=3)
        .map(|n| Admin {
            key: author(&key(n)),
            name: format!("a{n}"),
        })
        .collect();
    let mut w = World::with_admins(admins);
    let mut log = w.replica();
    let root = w.under_root();
    let revoke = |n: u8| {
        Body::Revoke(Revoke {
            key: author(&key(n)),
            head: None,
            reason: String::new(),
        })
    };

    w.say(&mut log, &key(1), root, revoke(2));
    w.say(&mut log, &key(2), root, revoke(1));
    assert_eq!(log.authority().admins.len(), 1);

    let proposal = w.say(&mut log, &key(3), root, revoke(1));
    w.say(&mut log, &key(2), root, Body::CoSign(CoSign { proposal }));
    let admins = &log.authority().admins;
    assert!(
        admins.contains(&author(&key(2))) && admins.contains(&author(&key(3))) && admins.len() == 2
    );
}

#[test]
fn a_node_joins_with_token_and_witness_and_gets_its_name_and_labels() {
    let mut w = World::new();
    let mut log = w.replica();
    let first = w.with_first_node(&mut log);
    let (keys, invite) = w.invite(7, "nuc1");
    let invite = w.admin_says(&mut log, Body::Invite(invite));
    let joiner = key(60);

    let join = w.join(&mut log, &joiner, &keys, invite, None);
    let node = NodeId(author(&joiner).0);
    assert_eq!(
        log.authority().roster.members[&node].state,
        MemberState::Seen
    );

    w.witness(&mut log, &first, join);
    let member = log.authority().roster.members[&node].clone();
    assert_eq!(
        (member.state, member.name.as_str()),
        (MemberState::Member, "nuc1")
    );
    assert_eq!(member.labels[0].to_string(), "role=web");
    assert_eq!(
        log.authority().roster.invites[&invite].word_at(Wall(0)),
        "used"
    );
}

#[test]
fn a_join_without_the_token_or_witnessed_by_itself_does_not_count() {
    let mut w = World::new();
    let mut log = w.replica();
    w.with_first_node(&mut log);
    let (keys, invite) = w.invite(7, "nuc1");
    let invite = w.admin_says(&mut log, Body::Invite(invite));
    let (thief, other) = (key(61), TokenKeys::derive(&Seed::Long([8; 16])));
    let id = NodeId(author(&thief).0);
    let signature = other.sign_join(&w.root.mesh(), &id, &[3; 32], None);
    let forged = Join {
        invite,
        seal_key: [3; 32],
        operator_key: None,
        token_signature: signature,
        hardware: None,
    };
    let bytes = w.draft(&log, &thief, invite, Body::Join(forged));
    assert_eq!(log.ingest(&bytes, Mono(0)), Err(Refusal::Token));

    let joiner = key(60);
    let join = w.join(&mut log, &joiner, &keys, invite, None);
    w.witness(&mut log, &joiner, join);
    assert_eq!(
        log.authority().roster.members[&NodeId(author(&joiner).0)].state,
        MemberState::Seen
    );
}

#[test]
fn a_token_for_one_machine_lets_in_no_other() {
    let mut w = World::new();
    let mut log = w.replica();
    let first = w.with_first_node(&mut log);
    let (keys, mut invite) = w.invite(7, "nuc1");
    invite.binding = Some(Binding {
        mac: Some(Mac([2, 0, 0, 0, 0, 1])),
        serial: Some("sn1".into()),
    });
    let invite = w.admin_says(&mut log, Body::Invite(invite));
    let machine = |mac: u8, serial: &str| {
        let mac = Mac([2, 0, 0, 0, 0, mac]);
        Some(Hardware::new([mac], Some(serial.into())))
    };
    let others = [
        (60, None),
        (61, Some(Hardware::default())),
        (62, machine(1, "SN2")),
        (63, machine(2, "SN1")),
    ];
    for (number, hardware) in others {
        let node = key(number);
        let join = w.join_of(&mut log, &node, &keys, invite, None, hardware);
        w.witness(&mut log, &first, join);
        let members = &log.authority().roster.members;
        assert!(!members.contains_key(&NodeId(author(&node).0)), "{number}");
        assert_eq!(log.why_not(&join), Some("its token is for another machine"));
    }

    let node = key(64);
    let join = w.join_of(&mut log, &node, &keys, invite, None, machine(1, "SN1"));
    w.witness(&mut log, &first, join);

    let roster = &log.authority().roster;
    assert_eq!(
        roster.members[&NodeId(author(&node).0)].state,
        MemberState::Member
    );
    assert_eq!(roster.invites[&invite].word_at(Wall(0)), "used");
}

#[test]
fn a_token_used_twice_suspends_both_until_one_is_confirmed() {
    let mut w = World::new();
    let mut log = w.replica();
    let first = w.with_first_node(&mut log);
    let (keys, invite) = w.invite(7, "nuc1");
    let invite = w.admin_says(&mut log, Body::Invite(invite));
    let (a, b) = (key(60), key(61));
    let join_a = w.join(&mut log, &a, &keys, invite, None);
    w.witness(&mut log, &first, join_a);
    let join_b = w.join(&mut log, &b, &keys, invite, None);
    w.witness(&mut log, &first, join_b);
    let state =
        |log: &mut Log, k: &SigningKey| log.authority().roster.members[&NodeId(author(k).0)].state;
    assert_eq!(
        (state(&mut log, &a), state(&mut log, &b)),
        (MemberState::Suspended, MemberState::Suspended)
    );
    assert_eq!(
        log.authority().roster.invites[&invite].word_at(Wall(0)),
        "double use"
    );

    w.admin_says(&mut log, Body::Confirm(Confirm { join: join_a }));
    assert_eq!(
        (state(&mut log, &a), state(&mut log, &b)),
        (MemberState::Member, MemberState::Suspended)
    );
}

#[test]
fn a_laptop_joins_as_an_operator_with_the_rights_of_its_token() {
    let mut w = World::new();
    let mut log = w.replica();
    let first = w.with_first_node(&mut log);
    let (keys, mut invite) = w.invite(9, "ana-laptop");
    invite.role = Role::Laptop;
    invite.rights = Rights::CONFIG;
    invite.scope = vec!["on".into()];
    invite.lease_ms = 60_000;
    let invite = w.admin_says(&mut log, Body::Invite(invite));
    let (device, operator) = (key(70), key(71));
    let join = w.join(&mut log, &device, &keys, invite, Some(author(&operator)));
    w.witness(&mut log, &first, join);
    let good = w.say(&mut log, &operator, join, set("on/all/params/x", 1));
    let outside = w.say(&mut log, &operator, join, set("group/web/include", 1));
    let by_device = w.draft(&log, &device, join, set("on/all/params/x", 2));
    assert_eq!(log.ingest(&by_device, Mono(0)), Err(Refusal::Kind));

    log.authority();
    assert_eq!(log.why_not(&good), None);
    assert!(log.why_not(&outside).is_some());
    let member = &log.authority().roster.members[&NodeId(author(&device).0)];
    assert_eq!(member.state_at(Wall(61_999)), MemberState::Member);
    assert_eq!(member.state_at(Wall(62_001)), MemberState::Expired);
    w.clock = 63_000;
    let late = w.say(&mut log, &operator, join, set("on/all/params/x", 3));
    log.authority();
    assert_eq!(log.why_not(&late), Some("its grant had expired"));
}

#[test]
fn what_a_laptop_said_before_it_was_revoked_still_counts() {
    let mut w = World::new();
    let mut log = w.replica();
    let first = w.with_first_node(&mut log);
    let (keys, mut invite) = w.invite(9, "ana-laptop");
    invite.role = Role::Laptop;
    invite.rights = Rights::CONFIG;
    invite.scope = vec![String::new()];
    invite.lease_ms = 60_000;
    let invite = w.admin_says(&mut log, Body::Invite(invite));
    let (device, operator) = (key(70), key(71));
    let join = w.join(&mut log, &device, &keys, invite, Some(author(&operator)));
    w.witness(&mut log, &first, join);
    let before = w.say(&mut log, &operator, join, set("on/all/params/x", 1));
    let after = w.say(&mut log, &operator, join, set("on/all/params/x", 666));

    let cut = |key: &SigningKey, head| {
        Body::Revoke(Revoke {
            key: author(key),
            head: Some(head),
            reason: "lost".into(),
        })
    };
    w.admin_says(&mut log, cut(&operator, before));
    w.admin_says(&mut log, cut(&device, join));

    let node = NodeId(author(&device).0);
    assert_eq!(
        log.authority().roster.members[&node].state,
        MemberState::Revoked
    );
    assert_eq!(log.why_not(&before), None);
    assert_eq!(log.why_not(&after), Some("its key was revoked"));
}

#[test]
fn statements_wait_for_what_they_refer_to() {
    let mut w = World::new();
    let mut source = w.replica();
    let mut sent = Vec::new();
    for n in 0..5 {
        let id = w.admin_says(&mut source, set("on/all/params/x", n));
        sent.push(source.envelope(&id).unwrap());
    }
    let mut log = w.replica();
    assert_eq!(log.waiting_since(), None);
    for (n, bytes) in sent[1..].iter().rev().enumerate() {
        assert!(matches!(
            log.ingest(bytes, Mono(7 + n as u64)),
            Ok(Outcome::Waiting { .. })
        ));
    }
    assert_eq!((log.len(), log.waiting_len()), (0, 4));
    assert_eq!(log.waiting_since(), Some(Mono(7)));
    assert_eq!(log.wanted(10).len(), 1);
    assert!(
        matches!(log.ingest(&sent[0], Mono(0)), Ok(Outcome::Stored { ids, .. }) if ids.len() == 5)
    );
    assert_eq!(log.digest(), source.digest());
    assert_eq!(log.waiting_len(), 0);
}

#[test]
fn a_fork_is_kept_as_evidence_and_both_branches_are_concurrent() {
    let mut w = World::new();
    let mut a = w.replica();
    w.admin_says(&mut a, set("on/all/params/x", 0));
    let mut b = w.replica();
    copy(&a, &mut b);
    w.admin_says(&mut a, set("on/all/params/x", 1));
    w.admin_says(&mut b, set("on/all/params/x", 2));
    let (mut left, mut right) = (w.replica(), w.replica());
    for (to, order) in [(&mut left, [&a, &b]), (&mut right, [&b, &a])] {
        copy(order[0], to);
        copy(order[1], to);
    }
    assert_eq!(left.digest(), right.digest());
    assert_eq!(left.forked().count(), 1);
    let Edits::Rebuild(mut edits) = left.take_edits() else {
        panic!()
    };
    edits.sort_by_key(|e| e.id);
    assert_eq!(edits.iter().filter(|e| e.branch.is_some()).count(), 1);
    let (Edits::Rebuild(mut other) | Edits::Append(mut other)) = right.take_edits() else {
        panic!()
    };
    other.sort_by_key(|e| e.id);
    assert_eq!(edits, other);
}

#[test]
fn a_large_difference_is_pulled_in_portions() {
    let mut w = World::new();
    let mut a = w.replica();
    for n in 0..300 {
        let text = "x".repeat(4000);
        let op = Op::Set {
            path: format!("on/all/params/p{n}").parse().unwrap(),
            field: Field::new(Value::Text(text), "p"),
        };
        w.admin_says(
            &mut a,
            Body::Edit(Edit {
                message: String::new(),
                ops: vec![op],
            }),
        );
    }
    let mut b = w.replica();
    copy(&a, &mut b);
    assert_eq!(a.digest(), b.digest());
}

#[test]
fn one_difference_among_many_nodes_costs_less_than_a_kilobyte_each_way() {
    let mesh = lab_crdt_model::MeshId([1; 32]);
    let w = World::new();
    let log = w.replica();
    let (mut a, mut b) = (Registers::default(), Registers::default());
    for n in 0..3000u32 {
        let mut seed = [1; 32];
        seed[..4].copy_from_slice(&n.to_be_bytes());
        let key = SigningKey::from_bytes(&seed);
        let bytes = seal_register(
            &mesh,
            &key,
            lab_crdt_model::report::Section::Beacon,
            1,
            1,
            &[],
        );
        a.restore(&bytes).unwrap();
        b.restore(&bytes).unwrap();
        if n == 1234 {
            let newer = seal_register(
                &mesh,
                &key,
                lab_crdt_model::report::Section::Beacon,
                1,
                2,
                &[],
            );
            a.restore(&newer).unwrap();
        }
    }
    let mut to_a = vec![sync::open(&log, &b).pop().unwrap()];
    let (mut sent, mut received, mut rounds) = (0, 0, 0);
    while !to_a.is_empty() {
        rounds += 1;
        sent += to_a.iter().map(Bytes::len).sum::<usize>();
        let to_b: Vec<_> = to_a
            .drain(..)
            .flat_map(|m| sync::answer(&log, &a, &m).unwrap().messages)
            .collect();
        received += to_b.iter().map(Bytes::len).sum::<usize>();
        for m in to_b {
            let answer = sync::answer(&log, &b, &m).unwrap();
            for r in answer.registers {
                b.restore(&r).unwrap();
            }
            to_a.extend(answer.messages);
        }
    }
    assert_eq!(a.digest(), b.digest());
    assert!(
        sent <= 1024 && received <= 1024,
        "{sent} out, {received} in, {rounds} rounds"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// The same statements, delivered to several replicas in any order, repeatedly and in part: the same digest,
    /// the same authority, the same effective edits with the same parents.
    #[test]
    fn replicas_agree_whatever_the_order_of_delivery(seed in any::<u64>(), steps in 10usize..60) {
        let mut x = seed | 1;
        let mut next = move |n: usize| { x ^= x << 13; x ^= x >> 7; x ^= x << 17; (x >> 11) as usize % n };
        let admins: Vec<_> = (1..=2).map(|n| Admin { key: author(&key(n)), name: format!("a{n}") }).collect();
        let mut w = World::with_admins(admins);
        let root = w.under_root();
        let mut replicas: Vec<Log> = (0..3).map(|_| w.replica()).collect();
        let mut grants = vec![root];
        let mut ids: Vec<StatementId> = Vec::new();
        for step in 0..steps {
            // Every author writes on one replica: forks have their own test.
            let at = next(3);
            let who = match at { 0 => [key(1), key(12)][next(2)].clone(), 1 => [key(2), key(13)][next(2)].clone(), _ => key(14) };
            let under = grants[next(grants.len())];
            let body = match next(12) {
                0 | 1 => Body::Grant(Grant { subject: author(&key(12 + next(3) as u8)), name: "x".into(), rights: Rights::ALL, scope: vec![String::new()], not_after: None }),
                2 if !ids.is_empty() => Body::Revoke(Revoke { key: author(&key([1, 2, 12, 13, 14][next(5)])), head: Some(ids[next(ids.len())]).filter(|_| step % 3 > 0), reason: String::new() }),
                3 if !ids.is_empty() => Body::RevokeGrant(RevokeGrant { grant: grants[next(grants.len())], head: None }),
                _ => set(["a", "b", "c"][next(3)], step as i64),
            };
            let is_grant = matches!(body, Body::Grant(_));
            let under = if matches!(body, Body::Edit(_)) { under } else { root };
            let bytes = w.draft(&replicas[at], &who, under, body);
            if let Ok(Outcome::Stored { ids: new, .. }) = replicas[at].ingest(&bytes, Mono(0)) {
                if is_grant { grants.push(new[0]); }
                ids.extend(new);
            }
            replicas[at].take_edits();
            if next(4) == 0 {
                let (a, b) = (next(3), next(3));
                if a != b {
                    let mut to = std::mem::replace(&mut replicas[b], w.replica());
                    copy(&replicas[a], &mut to);
                    replicas[b] = to;
                }
            }
        }
        // Everything reaches everyone, twice round.
        for _ in 0..2 {
            for a in 0..3 {
                for b in 0..3 {
                    if a != b {
                        // What is told of an author follows from authority, so that must be up to date.
                        replicas[a].authority();
                        let mut to = std::mem::replace(&mut replicas[b], w.replica());
                        copy(&replicas[a], &mut to);
                        replicas[b] = to;
                    }
                }
            }
        }
        replicas[0].authority();
        let mut fresh = w.replica();
        // Twice: a grant that waits for evidence comes after what relies on it, which is asked for again then.
        copy(&replicas[0], &mut fresh);
        copy(&replicas[0], &mut fresh);
        fresh.authority();
        let digest = fresh.digest();
        let (Edits::Rebuild(mut want) | Edits::Append(mut want)) = fresh.take_edits() else { return Ok(()) };
        want.sort_by_key(|e| e.id);
        let authority = fresh.authority().clone();
        for replica in &mut replicas {
            prop_assert_eq!(replica.authority(), &authority);
            prop_assert_eq!(replica.digest(), digest);
            replica.take_edits();
            let mut got = replica.effective_edits();
            got.sort_by_key(|e| e.id);
            prop_assert_eq!(&got, &want);
        }
    }

    #[test]
    fn no_pull_message_makes_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let w = World::new();
        let _ignored = sync::answer(&w.replica(), &Registers::default(), &bytes);
    }
}

/// Admins, an operator, nodes that vouch for each other, and edits that refer to all of it.
fn busy_mesh(w: &mut World) -> Log {
    let mut log = w.replica();
    let mut witness = w.with_first_node(&mut log);
    let operator = key(10);
    let grant = Grant {
        subject: author(&operator),
        name: "ben".into(),
        rights: Rights::ALL,
        scope: vec![String::new()],
        not_after: None,
    };
    let under = w.admin_says(&mut log, Body::Grant(grant));
    for n in 0..5 {
        let (keys, invite) = w.invite(n, &format!("n{n}"));
        let invite = w.admin_says(&mut log, Body::Invite(invite));
        let node = key(60 + n);
        let join = w.join(&mut log, &node, &keys, invite, None);
        w.witness(&mut log, &witness, join);
        witness = node;
        let path = format!("on/all/params/x{n}");
        w.say(&mut log, &operator, under, set(&path, 1));
        w.admin_says(&mut log, set("on/all/params/y", i64::from(n)));
    }
    log.authority();
    log
}

proptest! {
    #[test]
    fn whatever_a_store_lost_one_pull_brings_it_back(lost in proptest::collection::btree_set(0usize..27, 1..27)) {
        let mut w = World::new();
        let whole = busy_mesh(&mut w);
        prop_assert_eq!(whole.len(), 27);
        let mut torn = w.replica();
        let kept = whole.newest().enumerate().filter(|(n, _)| !lost.contains(n));
        torn.restore_all(kept.filter_map(|(_, id)| whole.envelope(&id)));
        torn.authority();
        prop_assert_ne!(torn.digest(), whole.digest());
        copy(&whole, &mut torn);
        torn.authority();
        prop_assert_eq!((torn.len(), torn.waiting_len()), (whole.len(), 0));
        prop_assert_eq!(torn.digest(), whole.digest());
    }
}

#[test]
fn a_chain_with_a_hole_is_known_to_be_longer_than_what_is_here() {
    let mut w = World::new();
    let whole = busy_mesh(&mut w);
    let second = whole.newest().rev().nth(1);
    let mut torn = w.replica();
    let kept = whole.newest().filter(|id| Some(*id) != second);
    torn.restore_all(kept.filter_map(|id| whole.envelope(&id)));
    let admin = author(&w.admin);
    assert_eq!(torn.wanted(10), Vec::from_iter(second));
    assert_eq!(
        (torn.is_behind(&admin), whole.is_behind(&admin)),
        (true, false)
    );
}

#[test]
fn an_unknown_kind_is_kept_and_relayed_but_does_nothing() {
    let mut w = World::new();
    let mut a = w.replica();
    let id = w.admin_says(&mut a, Body::Unknown(Kind(200), vec![1, 2, 3]));
    let mut b = w.replica();
    copy(&a, &mut b);
    assert!(b.contains(&id));
    assert_eq!(a.take_edits(), Edits::Unchanged);
    let _stamp = Hlc::default();
}
