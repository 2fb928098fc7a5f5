//! A local network that falls apart and comes together again.

use std::collections::BTreeSet;

use lab_crdt_model::view::Liveness;

use super::network::{Network, is_left_out, mesh};
use crate::support::{SOON, TestLab};

#[test]
fn edits_on_both_sides_of_a_partition_are_all_there_after_it_heals() {
    if is_left_out() {
        return;
    }
    let (lab, network) = mesh(5);
    let bob = lab.operator("bob", &[]);
    let (left, right) = ([0, 1, 2], [3, 4]);

    network.partition(&right);
    lab.until_seen(0, 3, Liveness::Down);
    lab.until_seen(3, 0, Liveness::Down);
    for n in 0..5 {
        lab.cli(n % 3, &["label", "add", &format!("left{n}"), "-t", "n5"])
            .ok();
        lab.cli_as(
            &bob,
            3 + n % 2,
            &["label", "add", &format!("right{n}"), "-t", "n1"],
        )
        .ok();
        lab.until("each side is whole", SOON, || {
            lab.are_equal(&left) && lab.are_equal(&right)
        });
    }
    let file = lab.write(
        "x.yaml",
        "lab: 1\nset: x\nlabels:\n  right0:\n    files: { /etc/side: { content: right } }\n",
    );
    lab.cli_as(&bob, 4, &["apply", "-f", &file, "-y", "--no-wait"]);
    assert!(!lab.are_equal(&[0, 3]));
    assert!(!lab.has_label(0, "n1", "right0") && !lab.has_label(3, "n5", "left0"));

    network.heal();

    // Within 60 s.
    lab.until("the mesh is whole", SOON, || lab.is_whole());
    let mut histories = BTreeSet::new();
    for at in 0..5 {
        for n in 0..5 {
            assert!(
                lab.has_label(at, "n5", &format!("left{n}")),
                "n{} lacks left{n}",
                at + 1
            );
            assert!(
                lab.has_label(at, "n1", &format!("right{n}")),
                "n{} lacks right{n}",
                at + 1
            );
        }
        let history = lab.history(at).history;
        assert!(history.iter().all(|c| c.is_effective), "{history:?}");
        histories.insert(history.into_iter().map(|c| c.id).collect::<BTreeSet<_>>());
    }
    assert_eq!(histories.len(), 1, "the same history everywhere");
    // What was declared on the other side is done on the machine it is for.
    let side = lab.agents[0].root.join("etc/side");
    lab.until("the file is there", SOON, || side.exists());
    drop((lab, network));
}

#[test]
fn one_person_who_edits_on_both_sides_of_a_partition_loses_nothing() {
    if is_left_out() {
        return;
    }
    let (lab, network) = mesh(4);
    network.partition(&[2, 3]);
    lab.until_seen(0, 2, Liveness::Down);
    lab.until_seen(2, 0, Liveness::Down);
    lab.cli(0, &["label", "add", "left", "-t", "n4"]).ok();
    lab.cli(2, &["label", "add", "right", "-t", "n4"]).ok();
    network.heal();
    lab.until("the mesh is whole", SOON, || lab.is_whole());
    for at in 0..4 {
        assert!(
            lab.has_label(at, "n4", "left") && lab.has_label(at, "n4", "right"),
            "n{}",
            at + 1
        );
    }
    // The key can still be used, on any machine.
    for at in 0..4 {
        lab.cli(at, &["label", "add", &format!("after{at}"), "-t", "n4"])
            .ok();
        lab.until("the mesh is whole", SOON, || lab.is_whole());
    }
    drop((lab, network));
}

#[test]
fn a_typed_token_finds_the_mesh_on_the_local_network() {
    if is_left_out() {
        return;
    }
    let (mut lab, mut network) = (TestLab::empty(), Network::new());
    lab.found("n1", network.seat());
    let token = lab.token(0, &["create", "n2", "--typed", "--label", "role=web"]);
    assert!(token.starts_with("LAB1-") && token.len() == 28, "{token}");

    // No address is given, and none is in the token: members are found by multicast DNS.
    let joiner = lab.agent("n2", network.seat());
    // As people type: lower case, and `o` for `0`.
    let typed = token.to_lowercase().replace('0', "o");
    let joined = lab
        .join_with(&joiner, &typed.replacen("lab1", "LAB1", 1))
        .ok();
    assert_eq!(joined.trim(), "n2");
    lab.agents.push(joiner);
    lab.start(1);
    lab.until_whole();
    assert!(lab.has_label(0, "n2", "role=web"));
    drop((lab, network));
}

#[test]
fn a_wrong_typed_token_lets_nobody_in() {
    if is_left_out() {
        return;
    }
    let (mut lab, mut network) = (TestLab::empty(), Network::new());
    let (mut other, seat) = (TestLab::empty(), network.seat());
    lab.found("n1", network.seat());
    // A good token of a mesh that is gone; only this one is on the network.
    other.found("o1", seat);
    let token = other.token(0, &["create", "n2", "--typed"]);
    other.kill(0);
    let digest = lab.view(0).digest;
    let joiner = lab.agent("n2", network.seat());
    let ran = lab.join_within(&joiner, &token, "8s");
    assert!(ran.code == 1 || ran.code == 6, "{}", ran.said());
    assert!(ran.err.contains("hint: "), "{}", ran.err);
    assert_eq!(lab.view(0).digest, digest);
    drop((lab, other, network));
}

#[test]
fn an_agent_that_was_off_during_edits_catches_up() {
    if is_left_out() {
        return;
    }
    let (lab, network) = mesh(3);
    lab.kill(2);
    for n in 0..20 {
        lab.cli(n % 2, &["label", "add", &format!("e{n}"), "-t", "n3"])
            .ok();
        lab.until("the two that are left are equal", SOON, || {
            lab.are_equal(&[0, 1])
        });
    }
    lab.start(2);
    lab.until_whole();
    assert!((0..20).all(|n| lab.has_label(2, "n3", &format!("e{n}"))));
    drop((lab, network));
}

#[test]
fn a_machine_that_moves_to_another_address_is_found_again() {
    if is_left_out() {
        return;
    }
    let (mut lab, mut network) = mesh(3);
    lab.stop(2);
    lab.agents[2].seat = network.seat();
    lab.start(2);
    lab.cli(2, &["label", "add", "moved", "-t", "n3"]).ok();
    lab.until("the others have it", SOON, || {
        (0..2).all(|at| lab.has_label(at, "n3", "moved"))
    });
    lab.until_whole();
    lab.until_seen(0, 2, Liveness::Alive);
    drop((lab, network));
}
