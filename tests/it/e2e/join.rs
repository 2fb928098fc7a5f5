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

/// Two machines with one token, in two halves of a mesh that do not hear each other: both get in, and once the halves
/// meet, both are suspended until a person says which one is theirs.
#[test]
fn a_token_used_in_both_halves_suspends_both_until_a_person_decides() {
    let mut lab = TestLab::of_with(2, &["--allow-faults"]);
    let token = lab.token(0, &["create", "--witness", "any"]);
    lab.until_whole();
    let ids = [lab.view(0).me, lab.view(1).me];
    for (at, peer) in [(0, ids[1]), (1, ids[0])] {
        let blocked = lab.ask(at, async |client| client.block(&[peer]).await);
        blocked.expect("faults are allowed");
    }
    let mine = lab.agent("mine", Seat::loopback());
    lab.join_with(&mine, &token).ok();
    // Whoever let it in is away, so the other one cannot know.
    let first = usize::from(lab.view(1).members.len() == 3);
    lab.kill(first);
    let thief = lab.agent("thief", Seat::loopback());
    lab.join_with(&thief, &token).ok();
    lab.start(first);
    let heal = lab.ask(1 - first, async |client| client.block(&[]).await);
    heal.expect("faults are allowed");
    lab.agents.extend([mine, thief]);
    (2..4).for_each(|at| lab.start(at));
    let suspended = |lab: &TestLab, at: usize| -> Vec<lab_crdt_model::view::MemberView> {
        let members = lab.view(at).members.into_iter();
        members
            .filter(|m| m.state == lab_crdt_model::view::MemberState::Suspended)
            .collect()
    };
    lab.until("both are suspended on both", SOON, || {
        (0..2).all(|at| suspended(&lab, at).len() == 2)
    });

    let tokens = lab.cli(0, &["token", "list", "-o", "json"]).json();
    let rows = tokens["data"].as_array().expect("tokens").clone();
    let row = rows
        .iter()
        .find(|t| t["state"] == "double use")
        .expect("shown");
    let id = row["id"].as_str().expect("an id").to_owned();
    let other = rows.iter().find(|t| t["state"] == "used").expect("n2's");
    let wrong = other["id"].as_str().expect("an id").to_owned();
    let ran = lab.cli(0, &["token", "resolve", &wrong, "--keep-none", "-y"]);
    assert!(ran.err.contains("error[M034]"), "{}", ran.err);
    let ran = lab.cli(0, &["token", "resolve", &id, "--keep", "n1", "-y"]);
    assert!(ran.err.contains("error[M035]"), "{}", ran.err);
    let ran = lab.cli(0, &["token", "resolve", &id, "--no-input"]);
    assert!(ran.err.contains("error[C002]"), "{}", ran.err);

    let mine = lab.view(2).me;
    let keep = mine.to_string();
    lab.cli(0, &["token", "resolve", &id, "--keep", &keep, "-y"])
        .ok();
    let states = |at: usize| {
        let view = lab.view(at);
        let of = |node| {
            view.members
                .iter()
                .find(|m| m.node == node)
                .map(|m| m.state)
        };
        (of(mine), view.members.len())
    };
    lab.until("one stays, one goes", SOON, || {
        (0..3).all(|at| {
            states(at).0 == Some(lab_crdt_model::view::MemberState::Member)
                && suspended(&lab, at).is_empty()
        })
    });
}

/// Writes what `lab join` reads of a machine's hardware.
fn build(agent: &Agent, mac: &str, serial: &str) {
    for (path, text) in [
        ("sys/class/net/eth0/address", mac),
        ("sys/class/net/eth0/addr_assign_type", "0"),
        ("sys/class/net/eth0/device/vendor", "0x1af4"),
        ("sys/class/dmi/id/product_serial", serial),
    ] {
        let path = agent.root.join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("make a folder");
        std::fs::write(path, format!("{text}\n")).expect("write a file");
    }
}

#[test]
fn a_token_for_one_machine_is_refused_on_another_and_works_on_the_right_one() {
    let lab = TestLab::of(1);
    let (mac, serial) = ("52:54:00:12:34:56", "ABC123");
    let token = lab.token(0, &["create", "nuc3", "--mac", mac, "--serial", serial]);
    let tokens = lab.cli(0, &["token", "list", "-o", "json"]).json();
    let binding = format!("MAC {mac} and serial number {serial}");
    assert_eq!(tokens["data"][0]["binding"], binding.as_str());

    let other = lab.agent("other", Seat::loopback());
    build(&other, "52:54:00:00:00:01", serial);
    let words = format!(
        "this token is for the machine with {binding}; this one has MAC 52:54:00:00:00:01 and serial number ABC123"
    );
    refused(&lab, &other, &token, &words);
    let bare = lab.agent("bare", Seat::loopback());
    refused(
        &lab,
        &bare,
        &token,
        "this one has no MAC address and no readable serial number",
    );

    let right = lab.agent("nuc3", Seat::loopback());
    build(&right, mac, serial);
    assert_eq!(lab.join_with(&right, &token).ok().trim(), "nuc3");
}
