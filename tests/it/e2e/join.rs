//! How machines come in, and how they do not.

use crate::support::{Agent, SOON, Seat, TestLab, wall};

#[test]
fn five_agents_join_with_tokens_and_a_label_reaches_all() {
    let lab = TestLab::of(5);
    let names = lab.cli(4, &["node", "list", "-o", "name"]).ok();
    assert_eq!(names, "n1\nn2\nn3\nn4\nn5\n");

    lab.cli(2, &["label", "add", "role=web", "-t", "n5"]).ok();

    for at in 0..5 {
        lab.until("the label is everywhere", SOON, || {
            lab.has_label(at, "n5", "role=web")
        });
        assert_eq!(
            lab.cli(at, &["target", "role=web", "-o", "name"]).ok(),
            "n5\n"
        );
    }
    lab.until_whole();
    lab.until("every machine runs what is wanted", SOON, || {
        lab.cli(1, &["status", "--exit-code", "-q"]).code == 0
    });
    let tokens = lab.cli(3, &["token", "list", "-o", "json"]).json();
    let tokens = tokens["data"].as_array().unwrap();
    assert_eq!(tokens.len(), 4);
    assert!(tokens.iter().all(|t| t["state"] == "used"), "{tokens:?}");
}

#[test]
fn labels_of_a_token_are_there_from_the_first_moment() {
    let mut lab = TestLab::of(1);
    let new = lab.join(
        "n2",
        Seat::loopback(),
        &["--label", "role=web", "--label", "site=attic"],
    );

    assert!(lab.has_label(new, "n2", "role=web") && lab.has_label(new, "n2", "site=attic"));
    let query = ["target", "role=web and site=attic", "-o", "name"];
    assert_eq!(lab.cli(0, &query).ok(), "n2\n");

    lab.cli(1, &["label", "rm", "role=web", "-t", "n2"]).ok();
    lab.until("the founder hears of it", SOON, || {
        !lab.has_label(0, "n2", "role=web")
    });
    assert!(lab.has_label(0, "n2", "site=attic"));
}

fn refused(lab: &TestLab, agent: &Agent, token: &str, words: &str) {
    let before = lab.view(0).digest;
    let ran = lab.join_with(agent, token).ends_with(6);
    assert!(
        ran.err.contains("error[M031]") && ran.err.contains(words),
        "{}",
        ran.err
    );
    assert!(ran.err.contains("hint: make a new token"), "{}", ran.err);
    let run = crate::support::run(lab.agent_command(agent)).ends_with(6);
    assert!(run.err.contains("there is none"), "{}", run.err);
    assert_eq!(lab.view(0).digest, before);
    assert_eq!(
        lab.view(0)
            .members
            .iter()
            .filter(|m| m.name == agent.name)
            .count(),
        0
    );
}

#[test]
fn a_used_token_says_who_used_it() {
    let mut lab = TestLab::of(1);
    let token = lab.token(0, &["create"]);
    let first = lab.agent("first", Seat::loopback());
    let name = lab.join_with(&first, &token).ok();
    lab.agents.push(first);
    lab.start(1);
    lab.until_whole();

    let late = lab.agent("late", Seat::loopback());
    refused(
        &lab,
        &late,
        &token,
        &format!("used already, by {}", name.trim()),
    );
}

#[test]
fn a_token_with_two_uses_works_twice() {
    let mut lab = TestLab::of(1);
    let token = lab.token(0, &["create", "--uses", "2", "--label", "role=web"]);
    for name in ["a", "b"] {
        let agent = lab.agent(name, Seat::loopback());
        lab.join_with(&agent, &token).ok();
        lab.agents.push(agent);
        lab.start(lab.agents.len() - 1);
    }
    lab.until_whole();
    assert_eq!(
        lab.cli(0, &["target", "role=web", "-o", "name"])
            .ok()
            .lines()
            .count(),
        2
    );
    let late = lab.agent("late", Seat::loopback());
    refused(&lab, &late, &token, "used already");
}

#[test]
fn a_revoked_token_is_refused() {
    let lab = TestLab::of(1);
    let made = lab.cli(0, &["token", "create", "-o", "json", "-q"]).json();
    let (id, token) = (
        made["data"]["id"].as_str().unwrap(),
        made["data"]["token"].as_str().unwrap(),
    );
    lab.cli(0, &["token", "revoke", &id[..6]]).ok();
    let late = lab.agent("late", Seat::loopback());
    refused(&lab, &late, token, "revoked");
}

#[test]
fn an_expired_token_is_refused() {
    let lab = TestLab::of(1);
    let token = lab.token(0, &["create", "--ttl", "1s"]);
    let end = wall().0 + 1_500;
    lab.until("the token is over", SOON, || wall().0 > end);
    let late = lab.agent("late", Seat::loopback());
    refused(&lab, &late, &token, "expired");
}

#[test]
fn a_token_of_another_mesh_is_refused() {
    let (here, there) = (TestLab::of(1), TestLab::of(1));
    let strange = there.token(0, &["create"]);
    let token = here.token(0, &["create"]);
    let joiner = here.agent("late", Seat::loopback());
    // Nobody of the other mesh is at this address, and a member of this one does not answer for it.
    drop(there);
    let ran = here.join_within(&joiner, &strange, "5s").ends_with(1);
    assert!(ran.err.contains("error[M032]"), "{}", ran.err);
    // The failed attempt leaves nothing that is in the way of the right token.
    here.join_with(&joiner, &token).ok();
}

#[test]
fn a_joining_that_was_broken_off_goes_on_with_the_same_token() {
    let mut lab = TestLab::of(1);
    let token = lab.token(0, &["create", "n2"]);
    let joiner = lab.agent("n2", Seat::loopback());
    lab.kill(0);
    let ran = lab.join_within(&joiner, &token, "3s").ends_with(1);
    assert!(
        ran.err.contains("goes on where it was broken off"),
        "{}",
        ran.err
    );

    lab.start(0);
    lab.join_with(&joiner, &token).ok();
    lab.agents.push(joiner);
    lab.start(1);
    lab.until_whole();
}
