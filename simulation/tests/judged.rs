//! Real meshes before all judges: what is right passes, what is broken on purpose is named.

use lab_agent_core::Reply;
use lab_crdt_log::{Body, Grant, Revoke, Rights};
use lab_crdt_model::Value;
use lab_simulation::oracle::{Limits, Panel, Phase};
use lab_simulation::{Options, Person, World};

fn world(seed: u64, nodes: usize) -> World {
    let mut world = World::found_with(Options {
        is_noted: true,
        ..Options::homelab(seed)
    });
    world.grow(nodes);
    world
}

fn assert_clean(panel: &Panel) {
    let told: Vec<String> = panel.violations().iter().map(ToString::to_string).collect();
    assert!(told.is_empty(), "{told:#?}");
}

#[test]
fn a_mesh_at_work_and_at_rest_passes() {
    let mut w = world(1, 4);
    let mut panel = Panel::new(&Limits::default());
    panel.phase(&mut w, &Phase::WarmUp);
    panel.watch(&mut w, 200_000, 250);
    let admin = w.admin.clone();
    for n in 0..4 {
        admin.set(&mut w, n, &format!("on/all/params/p{n}"), Value::Int(1));
        panel.watch(&mut w, 1_000, 250);
    }
    let motd = "on/role=web/files/%2Fetc%2Fmotd/template";
    admin.set(&mut w, 0, motd, Value::text("I am {node.name}"));
    admin.set(&mut w, 3, "label/n2/role=web", Value::Bool(true));
    panel.watch(&mut w, 10_000, 250);
    panel.phase(&mut w, &Phase::Healed);
    panel.watch(&mut w, 300_000, 500);
    panel.end(&mut w);
    assert_clean(&panel);
    assert_eq!(w.files(2).len(), 1);
}

#[test]
fn a_mesh_that_was_parted_robbed_and_restarted_passes_once_it_is_healed() {
    let mut w = world(2, 6);
    let admin = w.admin.clone();
    let mut panel = Panel::new(&Limits::default());
    panel.phase(&mut w, &Phase::Chaos);
    let bob = Person::new(10, admin.under, "bob");
    let grant = Grant {
        subject: bob.author(),
        name: "bob".into(),
        rights: Rights::ALL,
        scope: vec![String::new()],
        not_after: None,
    };
    let Reply::Submitted { ids } = admin.say(&mut w, 0, Body::Grant(grant)) else {
        panic!("the grant was refused")
    };
    let bob = Person {
        under: ids[0],
        ..bob
    };
    panel.watch(&mut w, 5_000, 250);
    w.partition(&[0, 1, 2], &[3, 4, 5]);
    panel.watch(&mut w, 30_000, 250);
    admin.set(&mut w, 0, "on/all/params/a", Value::Int(1));
    bob.set(&mut w, 4, "on/all/params/a", Value::Int(2));
    let first = bob.set(&mut w, 4, "on/all/params/b", Value::Int(2));
    assert!(matches!(first, Reply::Submitted { .. }));
    w.kill(5);
    panel.watch(&mut w, 10_000, 250);
    w.start(5);
    w.pause(1, 20_000);
    let revoke = Revoke {
        key: bob.author(),
        head: None,
        reason: "stolen".into(),
    };
    admin.say(&mut w, 0, Body::Revoke(revoke));
    panel.watch(&mut w, 30_000, 250);
    w.heal();
    panel.phase(&mut w, &Phase::Healed);
    panel.watch(&mut w, 240_000, 250);
    panel.end(&mut w);
    assert_clean(&panel);
    assert_eq!(w.value(4, "on/all/params/a").as_deref(), Some("1"));
}

#[test]
fn a_file_that_nobody_declared_is_named() {
    let mut w = world(3, 2);
    let mut panel = Panel::new(&Limits::default());
    panel.phase(&mut w, &Phase::Healed);
    w.files(1).insert("/etc/odd".to_owned(), b"x".to_vec());
    panel.watch(&mut w, 125_000, 500);
    let named: Vec<_> = panel
        .violations()
        .iter()
        .map(|v| (v.oracle, v.node))
        .collect();
    assert_eq!(named, [("effective_config_matches_the_reference", Some(1))]);
}

#[test]
fn a_partition_that_never_heals_is_named() {
    let mut w = world(4, 4);
    let admin = w.admin.clone();
    let mut panel = Panel::new(&Limits::default());
    w.partition(&[0, 1], &[2, 3]);
    admin.set(&mut w, 0, "on/all/params/a", Value::Int(1));
    panel.phase(&mut w, &Phase::Healed);
    panel.watch(&mut w, 70_000, 250);
    let named: Vec<&str> = panel.violations().iter().map(|v| v.oracle).collect();
    assert!(
        named.contains(&"replicas_converge_when_links_heal"),
        "{named:?}"
    );
}
