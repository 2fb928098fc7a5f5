//! Stories of small meshes, told in virtual time.

use lab_agent_core::{Command, Event, Reply, ViewMask};
use lab_crdt_log::{Act, Alarm, AuditRecord, Body, Grant, Revoke, Rights, WitnessRule};
use lab_crdt_model::view::{Liveness, Role};
use lab_crdt_model::{AuthorId, Caller, NodeId, Standing, Value, Wall};
use lab_simulation::disk::DiskFault;
use lab_simulation::{Person, World};

fn text(t: &str) -> Value {
    Value::text(t)
}

#[test]
fn two_agents_carry_one_label_from_end_to_end() {
    let mut w = World::found(1);
    w.grow(2);
    let admin = w.admin.clone();

    let reply = admin.set(&mut w, 0, "label/n1/role=web", Value::Bool(true));

    assert!(matches!(reply, Reply::Submitted { .. }), "{reply:?}");
    assert!(
        w.run_until(2_000, |w| w.value(1, "label/n1/role=web").as_deref()
            == Some("true"))
    );
    assert!(w.are_equal());
}

#[test]
fn every_node_takes_on_the_files_of_its_labels() {
    let mut w = World::found(2);
    w.grow(3);
    let admin = w.admin.clone();
    admin.set(
        &mut w,
        0,
        "on/role=web/files/%2Fetc%2Fmotd/template",
        text("hello {node.name}"),
    );
    admin.set(&mut w, 2, "label/n1/role=web", Value::Bool(true));
    assert!(w.run_until(5_000, |w| {
        w.files(1)
            .get("/etc/motd")
            .is_some_and(|c| c == b"hello n1")
    }));
    assert!(w.files(2).is_empty());

    admin.set(&mut w, 1, "label/n1/role=web", Value::Bool(false));
    assert!(w.run_until(5_000, |w| w.files(1).is_empty()));
}

#[test]
fn edits_on_both_sides_of_a_partition_are_all_there_after_it_heals() {
    let mut w = World::found(3);
    w.grow(6);
    let admin = w.admin.clone();
    let bob = Person::new(10, admin.under, "bob");
    let grant = Grant {
        subject: bob.author(),
        name: "bob".into(),
        rights: Rights::ALL,
        scope: vec![String::new()],
        not_after: None,
    };
    let Reply::Submitted { ids } = admin.say(&mut w, 0, Body::Grant(grant)) else {
        panic!()
    };
    let bob = Person {
        under: ids[0],
        ..bob
    };
    assert!(w.run_until(5_000, |w| w.are_equal()));

    w.partition(&[0, 1, 2], &[3, 4, 5]);
    w.run_for(60_000);
    for n in 0..10 {
        admin.set(&mut w, 1, &format!("on/all/params/a{n}"), Value::Int(n));
        bob.set(&mut w, 4, &format!("on/all/params/b{n}"), Value::Int(n));
    }
    admin.set(&mut w, 0, "on/all/params/both", Value::Int(1));
    bob.set(&mut w, 5, "on/all/params/both", Value::Int(2));
    w.run_for(30_000);
    assert!(!w.are_equal());

    w.heal();

    assert!(
        w.run_until(60_000, |w| w.are_equal()),
        "not whole within 60 s"
    );
    for node in 0..6 {
        for n in 0..10 {
            assert_eq!(
                w.value(node, &format!("on/all/params/a{n}")),
                Some(n.to_string())
            );
            assert_eq!(
                w.value(node, &format!("on/all/params/b{n}")),
                Some(n.to_string())
            );
        }
        let view = w
            .agent_view(
                node,
                ViewMask {
                    fields: true,
                    ..ViewMask::default()
                },
            )
            .unwrap();
        let both = view
            .fields
            .iter()
            .find(|f| f.path.as_str() == "on/all/params/both")
            .unwrap();
        assert_eq!(
            both.candidates.len(),
            2,
            "both values of a concurrent edit are kept"
        );
    }
}

#[test]
fn an_acknowledged_edit_survives_a_kill_right_after() {
    for seed in 0..20 {
        let mut w = World::found(100 + seed);
        w.grow(3);
        let admin = w.admin.clone();
        let reply = admin.set(&mut w, 1, "on/all/params/x", Value::Int(7));
        assert!(matches!(reply, Reply::Submitted { .. }));
        w.kill(1);
        w.run_for(seed * 1_000);
        w.start(1);
        assert!(w.run_until(60_000, |w| w.are_equal()
            && w.value(0, "on/all/params/x").as_deref() == Some("7")));
    }
}

#[test]
fn a_node_that_was_off_for_hours_of_edits_catches_up() {
    let mut w = World::found(5);
    w.grow(4);
    let admin = w.admin.clone();
    w.kill(3);
    for hour in 0..24 {
        w.run_for(300_000);
        admin.set(
            &mut w,
            hour % 3,
            &format!("on/all/params/h{hour}"),
            Value::Int(hour as i64),
        );
    }
    w.start(3);
    assert!(w.run_until(60_000, |w| w.are_equal()));
}

#[test]
fn a_full_disk_refuses_edits_and_loses_nothing() {
    let mut w = World::found(6);
    w.grow(2);
    let admin = w.admin.clone();
    w.apply_disk(1, &DiskFault::Full { bytes: 0 });
    let reply = admin.set(&mut w, 1, "on/all/params/x", Value::Int(1));
    assert!(
        matches!(&reply, Reply::Refused { code: "M011", why } if why.contains("no space")),
        "{reply:?}"
    );
    assert_eq!(w.value(1, "on/all/params/x"), None);

    // Edits of others still arrive and count; they are made durable once there is room again.
    admin.set(&mut w, 0, "on/all/params/y", Value::Int(2));
    assert!(w.run_until(5_000, |w| w.value(1, "on/all/params/y").is_some()));
    let is_told = |w: &mut World| {
        let view = w.agent_view(1, ViewMask::default()).expect("it runs");
        view.issues.iter().any(|issue| issue.code == "M041")
    };
    assert!(is_told(&mut w));
    w.apply_disk(1, &DiskFault::Heal);
    w.run_for(5_000);
    assert!(!is_told(&mut w));
    w.partition(&[0], &[1]);
    w.kill(1);
    w.start(1);
    assert_eq!(w.value(1, "on/all/params/y").as_deref(), Some("2"));
}

#[test]
fn a_killed_node_is_seen_down_by_all_and_no_other_is_accused() {
    let mut w = World::found(7);
    w.grow(20);
    w.run_for(30_000);
    let dead = w.id(11);
    w.kill(11);
    let start = w.now_ms();
    let sees_down = |w: &mut World, n: usize| {
        let view = w
            .agent_view(
                n,
                ViewMask {
                    reports: true,
                    ..ViewMask::default()
                },
            )
            .unwrap();
        view.peers
            .iter()
            .any(|p| p.node == dead && p.liveness == Liveness::Down)
    };
    assert!(
        w.run_until(10_000, |w| (0..20)
            .filter(|n| *n != 11)
            .all(|n| sees_down(w, n))),
        "not seen down"
    );
    assert!(
        w.now_ms() - start <= 8_000,
        "took {} ms",
        w.now_ms() - start
    );
    for n in (0..20).filter(|n| *n != 11) {
        for (at, event) in w.events(n) {
            // While a mesh forms, a newcomer may be tried before its join is known: that is no accusation.
            if let Event::PeerChanged {
                node,
                liveness: Liveness::Down,
            } = event
                && *at >= start
            {
                assert_eq!(*node, dead, "n{n} accused it at {at} ms");
            }
        }
    }
    w.start(11);
    assert!(w.run_until(60_000, |w| {
        (0..20).filter(|n| *n != 11).all(|n| !sees_down(w, n))
    }));
}

#[test]
fn statements_of_nodes_strangers_and_revoked_operators_change_nothing_anywhere() {
    let mut w = World::found(8);
    w.grow(3);
    let admin = w.admin.clone();
    let bob = Person::new(10, admin.under, "bob");
    let grant = Grant {
        subject: bob.author(),
        name: "bob".into(),
        rights: Rights::ALL,
        scope: vec!["on".into()],
        not_after: None,
    };
    let Reply::Submitted { ids } = admin.say(&mut w, 0, Body::Grant(grant)) else {
        panic!()
    };
    let bob = Person {
        under: ids[0],
        ..bob
    };
    assert!(matches!(
        bob.set(&mut w, 0, "on/all/params/x", Value::Int(1)),
        Reply::Submitted { .. }
    ));
    let refused = |reply: Reply| matches!(reply, Reply::Refused { .. });

    assert!(
        refused(bob.set(&mut w, 0, "group/web/include", text("all"))),
        "outside its scope"
    );
    let stranger = Person::new(66, admin.under, "eve");
    assert!(refused(stranger.set(
        &mut w,
        1,
        "on/all/params/x",
        Value::Int(666)
    )));
    let mut node = Person::new(0, admin.under, "n1");
    node.key = ed25519_dalek::SigningKey::from_bytes(&w.secret(1));
    assert_eq!(NodeId(node.author().0), w.id(1));
    assert!(refused(node.set(
        &mut w,
        1,
        "on/all/params/x",
        Value::Int(666)
    )));
    admin.say(
        &mut w,
        2,
        Body::Revoke(Revoke {
            key: bob.author(),
            head: None,
            reason: "gone".into(),
        }),
    );
    assert!(w.run_until(5_000, |w| w.are_equal()));
    assert!(refused(bob.set(
        &mut w,
        0,
        "on/all/params/x",
        Value::Int(2)
    )));

    for n in 0..3 {
        assert_eq!(
            w.value(n, "on/all/params/x"),
            None,
            "the cut took bob's edit back"
        );
        assert_eq!(w.value(n, "group/web/include"), None);
    }
    let view = w.agent_view(1, ViewMask::default()).unwrap();
    assert!(
        view.refused
            .iter()
            .any(|r| r.author == Some(stranger.author())),
        "refusals are shown"
    );
}

#[test]
fn a_revoked_node_loses_its_links_and_hears_nothing_more() {
    let mut w = World::found(9);
    w.grow(4);
    let admin = w.admin.clone();
    let gone = w.id(3);
    admin.say(
        &mut w,
        0,
        Body::Revoke(Revoke {
            key: AuthorId(gone.0),
            head: None,
            reason: "sold".into(),
        }),
    );
    w.run_for(5_000);
    admin.set(&mut w, 1, "on/all/params/x", Value::Int(1));
    w.run_for(120_000);
    assert_eq!(w.value(2, "on/all/params/x").as_deref(), Some("1"));
    assert_eq!(w.value(3, "on/all/params/x"), None);
}

#[test]
fn a_token_works_once_and_says_who_used_it() {
    let mut w = World::found(10);
    w.grow(2);
    let token = w.token(0, "nas", Role::Node, &["role=storage"], WitnessRule::Any);
    let first = w.join(token.clone(), None);
    assert!(w.run_until(20_000, |w| w.is_member(first)));
    let second = w.join(token, None);
    w.run_for(20_000);
    assert!(!w.is_member(second));
    assert!(
        w.refused_join(second)
            .is_some_and(|why| why.contains("used already, by nas")),
        "{:?}",
        w.refused_join(second)
    );
}

#[test]
fn a_token_with_one_witness_waits_until_that_node_is_there() {
    let mut w = World::found(11);
    w.grow(3);
    let witness = w.id(2);
    let token = w.token(0, "nas", Role::Node, &[], WitnessRule::One(witness));
    w.kill(2);
    let joiner = w.join(token, None);
    w.run_for(40_000);
    assert!(!w.is_member(joiner));
    w.start(2);
    assert!(w.run_until(60_000, |w| w.is_member(joiner)));
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let run = || {
        let mut w = World::found(42);
        w.grow(8);
        let admin = w.admin.clone();
        admin.set(&mut w, 3, "on/all/params/x", Value::Int(1));
        w.partition(&[0, 1, 2, 3], &[4, 5, 6, 7]);
        w.run_for(30_000);
        w.heal();
        w.run_for(30_000);
        w.trace_hash()
    };
    assert_eq!(run(), run());
}

#[test]
fn fifty_nodes_form_a_mesh_and_hear_an_edit_quickly() {
    let mut w = World::found(12);
    w.grow(50);
    w.run_for(60_000);
    let admin = w.admin.clone();
    let before = w.sent.1;
    w.run_for(60_000);
    let idle = (w.sent.1 - before) / 60 / 50;
    assert!(idle < 600, "idle payload {idle} B/s per node");
    admin.set(&mut w, 17, "on/all/params/x", Value::Int(1));
    let start = w.now_ms();
    assert!(w.run_until(3_000, |w| {
        (0..50).all(|n| w.value(n, "on/all/params/x").is_some())
    }));
    assert!(w.now_ms() - start < 1_000, "took {} ms", w.now_ms() - start);
}

/// The oracles above must be able to fail: each of these plants the fault that one of them watches for.
mod an_oracle_fails_when_it_should {
    use super::*;
    use lab_agent_core::Config;

    #[test]
    fn a_disk_that_lies_loses_an_acknowledged_edit() {
        let mut w = World::found(200);
        w.grow(2);
        let admin = w.admin.clone();
        w.partition(&[0], &[1]);
        w.apply_disk(
            1,
            &DiskFault::LyingFsync {
                per_mille: 1000,
                epochs: 1_000_000,
            },
        );
        assert!(matches!(
            admin.set(&mut w, 1, "on/all/params/x", Value::Int(7)),
            Reply::Submitted { .. }
        ));
        w.kill(1);
        // Until what was under way has died with its link.
        w.run_for(20_000);
        w.apply_disk(1, &DiskFault::Heal);
        w.start(1);
        w.heal();
        assert!(!w.run_until(60_000, |w| w.are_equal()
            && w.value(0, "on/all/params/x").is_some()));
    }

    #[test]
    fn without_re_joins_a_long_partition_does_not_heal() {
        let mut config = Config::homelab("0.1.0");
        config.mesh.full_mesh_max = 0;
        config.mesh.rejoin_ms = 14_400_000;
        config.mesh.rejoin_idle_ms = 14_400_000;
        let heals = |config: Config| {
            let mut w = World::found_as(201, config);
            w.grow(12);
            let admin = w.admin.clone();
            w.partition(&[0, 1, 2, 3, 4, 5], &[6, 7, 8, 9, 10, 11]);
            w.run_for(1_800_000);
            admin.set(&mut w, 0, "on/all/params/x", Value::Int(1));
            w.heal();
            w.run_until(60_000, |w| w.are_equal())
        };
        assert!(
            !heals(config.clone()),
            "it healed without the rule that heals"
        );
        config.mesh = Config::homelab("0.1.0").mesh;
        config.mesh.full_mesh_max = 0;
        assert!(heals(config));
    }

    #[test]
    fn without_the_gate_a_revoked_node_still_hears() {
        let mut w = World::found(202);
        w.grow(4);
        w.is_gate_open = true;
        let admin = w.admin.clone();
        let gone = w.id(3);
        admin.say(
            &mut w,
            0,
            Body::Revoke(Revoke {
                key: AuthorId(gone.0),
                head: None,
                reason: "sold".into(),
            }),
        );
        admin.set(&mut w, 1, "on/all/params/x", Value::Int(1));
        w.run_for(120_000);
        let heard = w.value(3, "on/all/params/x").is_some();
        // The agent itself stops talking to the revoked node, with or without the gate of the driver.
        assert!(!heard, "the agent relies on the gate alone");
    }
}

#[test]
fn a_device_may_ask_every_machine_from_its_grant_to_the_end_of_it() {
    let mut w = World::found(61);
    w.grow(3);
    let admin = w.admin.clone();
    let everywhere = |w: &World, who: &Person, standing: Option<Standing>| {
        (0..3).all(|n| w.devices(n).get(&who.author()).copied() == standing)
    };
    assert!(w.run_until(2_000, |w| everywhere(w, &admin, Some(Standing::Admin))));

    // Bob's grant ends by the clock, cy's is taken away with the key, and both at machines of their own accord.
    let people = [10, 11].map(|n| Person::new(n, admin.under, "someone"));
    let [bob, cy] = &people;
    let ends = [Some(Wall(w.wall(0).0 + 20_000)), None];
    for (who, not_after) in people.iter().zip(ends) {
        let grant = Grant {
            subject: who.author(),
            name: who.name.clone(),
            rights: Rights::ALL,
            scope: vec![String::new()],
            not_after,
        };
        let reply = admin.say(&mut w, 1, Body::Grant(grant));
        assert!(matches!(reply, Reply::Submitted { .. }), "{reply:?}");
    }
    assert!(w.run_until(5_000, |w| {
        everywhere(w, bob, Some(Standing::Operator)) && everywhere(w, cy, Some(Standing::Operator))
    }));
    w.kill(2);
    w.start(2);
    assert!(w.run_until(5_000, |w| everywhere(w, bob, Some(Standing::Operator))));

    let revoke = Revoke {
        key: cy.author(),
        head: None,
        reason: String::new(),
    };
    admin.say(&mut w, 0, Body::Revoke(revoke));
    assert!(w.run_until(2_000, |w| everywhere(w, cy, None)));
    assert!(everywhere(&w, bob, Some(Standing::Operator)));
    assert!(w.run_until(22_000, |w| everywhere(w, bob, None)));
    assert!(everywhere(&w, &admin, Some(Standing::Admin)));
}

#[test]
fn a_device_hands_in_nothing_that_another_key_signed() {
    let mut w = World::found(62);
    w.grow(1);
    let admin = w.admin.clone();
    let bob = Person::new(10, admin.under, "bob");
    let author = admin.author();
    let Reply::Prepared(prepared) = w.ask(0, Command::Prepare { author }) else {
        panic!("prepared");
    };
    let wall = w.wall(0);
    let edit = lab_crdt_log::Edit {
        message: "by ana".into(),
        ops: vec![],
    };
    let statements = admin.sign(&prepared, wall, Body::Edit(edit));

    for (caller, is_taken) in [
        (Caller::Device(bob.author()), false),
        (Caller::Device(author), true),
    ] {
        let statements = statements.clone();
        let reply = w.ask(0, Command::Submit { caller, statements });
        let was_taken = matches!(reply, Reply::Submitted { .. });
        assert_eq!(was_taken, is_taken, "{reply:?}");
        let is_refused = matches!(reply, Reply::Refused { code: "M014", .. });
        assert_eq!(is_refused, !is_taken, "{reply:?}");
    }
}

/// The records of a chain that a node keeps.
fn kept(w: &World, by: usize, of: usize) -> Vec<AuditRecord> {
    let id = w.id(of);
    let all = w.audit_records(by).unwrap_or_default();
    all.iter()
        .map(|bytes| AuditRecord::open(&w.mesh(), bytes).expect("a record"))
        .filter(|record| record.node == id)
        .collect()
}

fn acts(records: &[AuditRecord]) -> Vec<Act> {
    records.iter().filter_map(|r| Some(r.body()?.act)).collect()
}

#[test]
fn an_audit_node_of_a_mesh_of_twelve_holds_the_chains_of_all_and_of_one_that_is_down() {
    let mut w = World::found(61);
    w.grow(12);
    let admin = w.admin.clone();
    let has_all = |w: &World| {
        (0..12)
            .filter(|n| *n != 3)
            .all(|n| !kept(w, 3, n).is_empty())
    };
    w.run_for(60_000);
    assert!((0..12).all(|n| w.audit_records(n).unwrap().len() == kept(&w, n, n).len()));

    admin.set(&mut w, 7, "label/n3/lab.role%2Faudit", Value::Bool(true));
    assert!(w.run_until(120_000, |w| has_all(w)));
    admin.set(&mut w, 9, "label/n1/canary", Value::Bool(true));
    let own = kept(&w, 9, 9);
    assert!(matches!(
        acts(&own).last(),
        Some(Act::HandedIn { count: 1, .. })
    ));
    assert!(w.run_until(120_000, |w| kept(w, 3, 9) == own));
    w.kill(9);

    w.kill(3);
    w.run_for(5_000);
    w.start(3);
    w.run_for(20_000);
    assert_eq!(kept(&w, 3, 9), own);
    // Nobody else has any of it.
    assert!(kept(&w, 2, 9).is_empty());
}

#[test]
fn a_store_that_was_rolled_back_is_noticed_by_others_and_says_itself_what_it_lost() {
    let mut w = World::found(62);
    w.grow(4);
    let admin = w.admin.clone();
    w.run_for(60_000);
    w.apply_disk(2, &DiskFault::Snapshot { name: "old".into() });
    for n in 0..5 {
        admin.set(&mut w, 2, &format!("on/all/params/p{n}"), text("v"));
    }
    let before = kept(&w, 2, 2);
    w.run_for(90_000);
    w.kill(2);
    w.apply_disk(2, &DiskFault::Rollback { to: "old".into() });
    w.start(2);
    w.run_for(90_000);

    let lost = acts(&kept(&w, 2, 2))
        .into_iter()
        .find(|act| matches!(act, Act::Lost { .. }));
    let Some(Act::Lost { through, .. }) = lost else {
        panic!("{:?}", acts(&kept(&w, 2, 2)))
    };
    assert_eq!(through, before.last().unwrap().seq);
    let end = kept(&w, 2, 2).last().unwrap().seq;
    assert!(end > through, "{end} {through}");
    for n in [0, 1, 3] {
        let view = w.agent_view(n, ViewMask::default()).unwrap();
        let is_told = view.issues.iter().any(|i| i.code == "M043");
        let is_recorded = acts(&kept(&w, n, n))
            .iter()
            .any(|act| matches!(act, Act::Alarm(Alarm::WentBack { .. })));
        assert!(is_told && is_recorded, "node {n}");
    }
}
