//! An agent as a service of its machine.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use lab_crdt_model::view::Liveness;

use crate::support::{SOON, TestLab, now, run};

#[test]
fn an_agent_stops_within_a_second_of_sigterm_and_comes_back_equal() {
    let lab = TestLab::of(3);
    lab.cli(1, &["label", "add", "role=web", "-t", "n2"]).ok();
    lab.until_whole();
    let before = lab.view(1);

    let (status, took) = lab.stop(1);
    let stopped = now();

    assert_eq!(status.code(), Some(0));
    assert!(took <= Duration::from_secs(1), "it took {took:?}");
    assert!(!lab.agents[1].socket().exists() || lab.cli(1, &["status"]).code == 69);
    // It said goodbye: nobody has to find out by waiting for answers.
    lab.until_seen(0, 1, Liveness::Down);
    let noticed = now() - stopped;
    assert!(noticed < Duration::from_secs(5), "it took {noticed:?}");
    lab.start(1);
    let after = lab.view(1);
    assert_eq!(
        (after.digest, after.heads, after.fields),
        (before.digest, before.heads, before.fields)
    );
    lab.until_seen(0, 1, Liveness::Alive);
    lab.until_whole();
}

#[test]
fn a_second_agent_on_the_same_data_is_refused() {
    let lab = TestLab::of(1);
    let before = lab.view(0).digest;

    let second = run(lab.agent_command(&lab.agents[0])).ends_with(6);

    assert!(second.err.contains("error[C031]"), "{}", second.err);
    assert!(
        second.err.contains("another agent is running there"),
        "{}",
        second.err
    );
    assert!(second.err.contains("hint: "), "{}", second.err);
    // The first one is not disturbed: its socket is still its own.
    assert_eq!(lab.view(0).digest, before);
    lab.cli(0, &["label", "add", "canary", "-t", "n1"]).ok();
}

#[test]
fn joining_or_founding_where_a_node_is_already_is_refused() {
    let lab = TestLab::of(1);
    let token = lab.token(0, &["create"]);
    lab.stop(0);
    let key = std::fs::read(lab.agents[0].data.join("node.key")).unwrap();
    for ran in [
        lab.join_with(&lab.agents[0], &token),
        lab.cli(
            0,
            &[
                "init",
                "--name",
                "other",
                "--words-file",
                "other.words",
                "--no-passphrase",
            ],
        ),
    ] {
        let ran = ran.ends_with(6);
        assert!(
            ran.err.contains("error[C031]") && ran.err.contains("there is one already"),
            "{}",
            ran.err
        );
    }
    assert_eq!(
        std::fs::read(lab.agents[0].data.join("node.key")).unwrap(),
        key
    );
    lab.start(0);
}

#[test]
fn keys_and_folders_are_closed_to_others() {
    let lab = TestLab::of(1);
    let mode = |path: std::path::PathBuf| path.metadata().unwrap().permissions().mode() & 0o777;
    let data = &lab.agents[0].data;
    assert_eq!(mode(data.clone()), 0o700);
    assert_eq!(mode(data.join("node.key")), 0o600);
    assert_eq!(mode(data.join("agent.redb")), 0o600);
    assert_eq!(mode(lab.path("root.words")), 0o600);
    let words = std::fs::read_to_string(lab.path("root.words")).unwrap();
    assert_eq!(words.split_whitespace().count(), 24);
    let log = std::fs::read_to_string(lab.path("n1.log")).unwrap();
    assert!(!log.contains("lab1q") && !log.contains("secret"), "{log}");

    lab.stop(0);
    std::fs::set_permissions(
        data.join("node.key"),
        std::fs::Permissions::from_mode(0o644),
    )
    .unwrap();
    let exposed = run(lab.agent_command(&lab.agents[0])).ends_with(77);
    assert!(exposed.err.contains("error[C032]"), "{}", exposed.err);
}

#[test]
fn a_killed_agent_is_seen_down_by_all_and_comes_back() {
    let lab = TestLab::of(4);
    lab.kill(3);
    for at in 0..3 {
        lab.until_seen(at, 3, Liveness::Down);
    }
    let shown = lab.cli(0, &["node", "show", "n4"]).ok();
    assert!(shown.contains("down for"), "{shown}");
    let status = lab.cli(0, &["status", "--exit-code"]).ends_with(2);
    assert!(status.out.contains("silent    n4"), "{}", status.out);
    lab.start(3);
    for at in 0..3 {
        lab.until_seen(at, 3, Liveness::Alive);
    }
    lab.until("nobody accuses anybody", SOON, || {
        (0..4).all(|at| {
            (0..4).all(|other| at == other || lab.sees(at, other) == Some(Liveness::Alive))
        })
    });
}
