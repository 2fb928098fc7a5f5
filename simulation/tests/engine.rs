//! The engine itself: what must be the same, is.

use lab_crdt_model::Value;
use lab_simulation::{Options, ProcessFault, StoreKind, World};

/// A little of everything: edits, a power cut, a partition, a pause.
fn life(options: Options) -> World {
    let mut w = World::form(options, 6);
    w.run_for(10_000);
    let admin = w.admin.clone();
    for n in 0..6 {
        let path = format!("on/all/params/p{n}");
        let _reply = admin.set(&mut w, n, &path, Value::Int(n as i64));
    }
    w.apply_process(2, &ProcessFault::Restart { after_ms: 3_000 });
    w.partition(&[0, 1], &[3, 4, 5]);
    w.run_for(20_000);
    let _reply = admin.set(&mut w, 0, "label/n3/role=web", Value::Bool(true));
    w.pause(4, 7_000);
    w.run_for(10_000);
    w.heal();
    w.run_for(30_000);
    assert!(w.are_equal());
    w
}

#[test]
fn agents_that_share_steps_do_the_same_as_agents_that_do_not() {
    let hash = |is_sharing| {
        let options = Options {
            is_sharing,
            ..Options::homelab(11)
        };
        life(options).trace_hash()
    };

    assert_eq!(hash(true), hash(false));
}

#[test]
fn another_seed_gives_another_trace_and_the_same_one_the_same() {
    let hash = |seed| life(Options::homelab(seed)).trace_hash();

    assert_eq!(hash(12), hash(12));
    assert_ne!(hash(12), hash(13));
}

#[test]
fn every_kind_of_store_carries_a_mesh_through_a_power_cut() {
    for store in [
        StoreKind::Model,
        StoreKind::Real,
        StoreKind::Mixed(3),
        StoreKind::Lean,
    ] {
        let options = Options {
            store,
            ..Options::homelab(14)
        };

        let mut w = life(options);

        assert_eq!(
            w.value(2, "label/n3/role=web").as_deref(),
            Some("true"),
            "{store:?}"
        );
    }
}

#[test]
fn frames_that_waited_for_a_path_come_in_the_order_in_which_they_were_sent() {
    // Held frames are numbered: a later one that found the path open waits for them.
    for seed in 0..10 {
        let mut w = World::form(Options::homelab(seed), 3);
        w.run_for(10_000);
        let admin = w.admin.clone();
        w.partition(&[0], &[1, 2]);
        for n in 0..20 {
            let path = format!("on/all/params/p{n}");
            let _reply = admin.set(&mut w, 0, &path, Value::Int(n));
        }
        w.heal();
        assert!(w.run_until(20_000, |w| w.are_equal()), "seed {seed}");
    }
}
