//! How machines come in, and how they do not.

use std::fs::File;

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

/// A token that is typed: one character wrong, two swapped, one left out. None of them asks anybody.
#[test]
fn a_typed_token_with_a_slip_is_noticed_before_anybody_is_asked_and_is_not_spent() {
    let lab = TestLab::of(1);
    let token = lab.token(0, &["create", "n2", "--typed"]);
    let (head, tail) = token.split_at(token.len() - 7);
    let mut tail: Vec<char> = tail.chars().collect();
    let other = if tail[0] == '7' { '8' } else { '7' };
    let text = |tail: &[char]| format!("{head}{}", tail.iter().collect::<String>());
    let wrong = text(&[&[other], &tail[1..]].concat());
    let missing = text(&tail[1..]);
    let at =
        (1..tail.len()).find(|n| tail[*n] != tail[n - 1] && tail[*n] != '-' && tail[n - 1] != '-');
    let at = at.expect("two different characters");
    tail.swap(at, at - 1);
    let joiner = lab.agent("n2", Seat::loopback());
    for bad in [wrong, missing, text(&tail)] {
        let ran = lab.join_with(&joiner, &bad).ends_with(65);
        assert!(ran.err.contains("error[M030]"), "{}", ran.err);
    }
    assert_eq!(
        lab.cli(0, &["token", "list", "-o", "json"]).json()["data"][0]["state"],
        "open"
    );
    let address = lab.agents[0].seat.bind;
    let via = format!("{}@{address}", lab.view(0).me);
    let joined = lab.join_with_flags(&joiner, &token, &["--via", &via]);
    assert_eq!(joined.ok().trim(), "n2");
}

#[test]
fn a_machine_on_probation_shows_its_words_and_is_promoted_by_a_person_who_compares_them() {
    let mut lab = TestLab::of(2);
    let motd = "lab: 1\nset: home\nlabels:\n  role=web:\n    files:\n      /etc/motd: { content: \"hello\\n\" }\n";
    std::fs::write(lab.path("lab.yaml"), motd).expect("write a file");
    lab.cli(0, &["apply", "-f", "lab.yaml", "-y", "--no-wait"])
        .ok();
    let token = lab.token(0, &["create", "pxe1", "--label", "role=web", "--confirm"]);
    let joiner = lab.agent("pxe1", Seat::loopback());
    build(&joiner, "52:54:00:12:34:56", "ABC123");

    // Nobody confirms in time: it has joined all the same, and its agent goes on from there.
    let ran = lab.join_within(&joiner, &token, "6s").ends_with(0);
    let shown = ran
        .err
        .split("this machine shows: ")
        .nth(1)
        .expect("its words");
    let words = shown.lines().next().expect("a line").to_owned();
    assert_eq!(words.split(' ').count(), 4, "{words}");
    assert!(
        ran.err.contains(&format!("compare these words: {words}")),
        "{}",
        ran.err
    );
    assert!(ran.err.contains("on probation"), "{}", ran.err);
    let written = joiner.root.join("etc/motd");
    lab.agents.push(joiner);
    lab.start(2);
    lab.until("it carries out its own config", SOON, || written.exists());
    lab.until("its standing is everywhere", SOON, || {
        (0..3).all(|at| {
            let shown = lab.cli(at, &["node", "show", "pxe1", "-o", "json"]).json();
            shown["data"]["state"] == "on probation"
        })
    });
    for at in 0..3 {
        let ran = lab.cli(at, &["target", "role=web", "-o", "name"]);
        assert_eq!(ran.out.trim(), "", "nobody's target yet");
        assert!(lab.cli(at, &["status", "-a"]).out.contains("probation"));
    }
    assert!(lab.cli(2, &["doctor"]).out.contains(&words));

    let wrong = lab
        .cli(
            0,
            &["node", "confirm", "pxe1", "--words", "zoo zoo zoo zoo"],
        )
        .ends_with(6);
    assert!(wrong.err.contains("error[M039]"), "{}", wrong.err);
    let asked = lab.cli(0, &["node", "confirm", "pxe1", "--no-input"]);
    for text in [&words, "MAC 52:54:00:12:34:56", "ABC123", "made by", "seen"] {
        assert!(asked.err.contains(text), "{text}: {}", asked.err);
    }
    assert!(asked.err.contains("error[C002]"), "{}", asked.err);
    lab.cli(1, &["node", "confirm", "pxe1", "--words", &words])
        .ok();
    lab.until("it is a member, without anything done on it", SOON, || {
        (0..3).all(|at| lab.cli(at, &["target", "role=web", "-o", "name"]).out == "pxe1\n")
    });
}

/// The person is quick: `lab join` still waits and ends by itself.
#[test]
fn a_join_that_waits_for_a_person_ends_when_they_confirm() {
    let lab = TestLab::of(1);
    let token = lab.token(0, &["create", "n2", "--confirm"]);
    let joiner = lab.agent("n2", Seat::loopback());
    let said = lab.path("join.said");
    let mut join = lab.join_command(&joiner, &token, &["--timeout", "60s"]);
    join.stderr(File::create(&said).expect("create a file"));
    let mut join = join.spawn().expect("start a program");
    let said = || std::fs::read_to_string(&said).expect("read a file");
    lab.until("it waits", SOON, || {
        said().contains("waiting for confirmation")
    });
    lab.cli(0, &["node", "confirm", "n2", "-y"]).ok();
    let status = join.wait().expect("it ran");
    assert!(status.success(), "{status}: {}", said());
    assert!(!said().contains("on probation"), "{}", said());

    let late = lab.agent("late", Seat::loopback());
    refused(&lab, &late, &token, "used already, by n2");
}
