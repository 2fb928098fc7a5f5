use lab_agent_core::{Reply, ViewMask};
use lab_crdt_log::{Body, Edit};
use lab_crdt_model::{Field, Value};

use super::*;
use crate::{ProcessFault, World};

type Result = std::result::Result<(), Difference>;

fn set(path: &str, n: i64) -> Op {
    Op::Set {
        path: path.parse().unwrap(),
        field: Field::new(Value::Int(n), "person:ana"),
    }
}

fn say(world: &mut World, node: usize, ops: Vec<Op>) {
    let admin = world.admin.clone();
    let edit = Edit {
        message: String::new(),
        ops,
    };
    let reply = admin.say(world, node, Body::Edit(edit));
    assert!(matches!(reply, Reply::Submitted { .. }), "{reply:?}");
}

/// What stands once all agree, seen from a node.
fn ends(world: &mut World, node: usize) -> BTreeMap<String, BTreeSet<String>> {
    assert!(world.run_until(120_000, |w| w.are_equal()));
    let mask = ViewMask {
        fields: true,
        ..ViewMask::default()
    };
    standing(&world.agent_view(node, mask).unwrap().fields)
}

fn mesh(nodes: usize) -> World {
    let mut world = World::found(5);
    world.grow(nodes);
    world
}

#[test]
fn edits_end_alike_whoever_hands_them_in() {
    let run = |who: &[usize]| {
        let mut world = mesh(3);
        say(&mut world, who[0], vec![set("on/all/params/a", 1)]);
        assert!(world.run_until(60_000, |w| w.are_equal()));
        say(&mut world, who[1], vec![set("on/all/params/a", 2)]);
        ends(&mut world, who[2])
    };
    node_ids_do_not_matter(3, 1, 3, run).unwrap();
}

#[test]
fn an_edit_ends_alike_beside_a_node_that_nobody_reaches() {
    let run = |is_isolated: bool| {
        let mut world = mesh(if is_isolated { 4 } else { 3 });
        if is_isolated {
            world.kill(3);
        }
        say(&mut world, 1, vec![set("on/all/params/a", 1)]);
        ends(&mut world, 0)
    };
    an_isolated_node_does_not_matter(run).unwrap();
}

#[test]
fn a_bulk_edit_ends_like_its_parts() {
    let ops: Vec<Op> = (0..6)
        .map(|n| set(&format!("on/all/params/p{n}"), n))
        .collect();
    let run = |parts: &[Vec<Op>]| {
        let mut world = mesh(2);
        for part in parts {
            say(&mut world, 0, part.clone());
        }
        ends(&mut world, 1)
    };
    a_bulk_edit_equals_its_parts(&ops, 1, 2, run).unwrap();
}

#[test]
fn edits_of_different_paths_end_alike_in_any_order() {
    let actions: Vec<(usize, Op)> = (0..6)
        .map(|n| (n % 2, set(&format!("on/all/params/p{}", n % 4), n as i64)))
        .collect();
    let run = |actions: &[(usize, Op)]| {
        let mut world = mesh(2);
        for (node, op) in actions {
            say(&mut world, *node, vec![op.clone()]);
            assert!(world.run_until(60_000, |w| w.are_equal()));
        }
        ends(&mut world, 1)
    };
    let commute = |a: &(usize, Op), b: &(usize, Op)| a.1.path() != b.1.path();
    commuting_actions_may_change_places(&actions, 1, 2, commute, run).unwrap();
}

#[test]
fn a_crash_at_any_output_ends_like_no_crash() {
    let run = |nth: Option<u64>| {
        let mut world = mesh(2);
        say(&mut world, 1, vec![set("on/all/params/a", 1)]);
        if let Some(nth) = nth {
            let after_ms = 500;
            world.apply_process(1, &ProcessFault::KillAtOutput { nth, after_ms });
        }
        say(&mut world, 0, vec![set("on/all/params/b", 2)]);
        world.run_for(20_000);
        ends(&mut world, 1)
    };
    a_crash_does_not_matter(1..6, run).unwrap();
}

#[test]
fn whatever_ends_differently_is_told() {
    let of_first = |order: &[usize]| order[0];
    let difference = node_ids_do_not_matter(3, 1, 20, of_first).unwrap_err();
    assert_eq!(difference.pair, "node_ids_do_not_matter");
    let is = |is_isolated: bool| is_isolated;
    assert!(an_isolated_node_does_not_matter(is).is_err());
    let ops = [set("a/b", 1), set("a/c", 2)];
    let count = |parts: &[Vec<Op>]| parts.len();
    assert!(a_bulk_edit_equals_its_parts(&ops, 1, 0, count).is_err());
    let last = |actions: &[u8]| actions.last().copied();
    let swap: Result = commuting_actions_may_change_places(&[1, 2, 3], 1, 9, |_, _| true, last);
    assert!(swap.is_err());
    let never = commuting_actions_may_change_places(&[1, 2, 3], 1, 9, |_, _| false, last);
    assert!(never.is_ok());
    let crashed = |point: Option<u64>| point == Some(3);
    let difference = a_crash_does_not_matter(0..5, crashed).unwrap_err();
    assert!(difference.to_string().contains("output 3"));
}
