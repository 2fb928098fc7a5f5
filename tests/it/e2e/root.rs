//! The root keys and their words: admins come and go, keepers sign one after the other, thieves are put out.

use std::path::{Path, PathBuf};

use lab_crdt_model::Value;
use lab_crdt_model::view::MemberState;

use crate::support::{SOON, Seat, TestLab, author, field, read_key};

/// Makes a key file for a person whom nobody has allowed anything yet.
fn key_of(lab: &TestLab, name: &str) -> (PathBuf, String) {
    let path = lab.path(&format!("{name}.key"));
    let args = ["operator", "key", "--name", name, "--no-passphrase"];
    lab.cli_as(&path, 0, &args).ok();
    let public = author(&read_key(&path)).to_string();
    (path, public)
}

fn words(lab: &TestLab, name: &str) -> String {
    lab.path(name).display().to_string()
}

fn admins(lab: &TestLab, at: usize) -> Vec<String> {
    let shown = lab.cli(at, &["root", "show", "-o", "name"]).ok();
    shown.lines().map(str::to_owned).collect()
}

#[test]
fn a_second_admin_is_made_with_the_root_words_and_taken_out_again_with_what_it_did() {
    let lab = TestLab::of(3);
    let root = words(&lab, "root.words");
    let (ben, public) = key_of(&lab, "ben");
    let args = ["label", "add", "early", "-t", "n1"];
    lab.cli_as(&ben, 0, &args).ends_with(77);

    // Nobody's words, or words of another key, change nothing.
    let other = lab.write(
        "other.words",
        &format!("{} art", "abandon ".repeat(23).trim()),
    );
    for (flags, code) in [
        (vec!["--words-file", other.as_str()], "K017"),
        (vec!["--words-file", "/dev/null"], "K020"),
        (vec!["--no-input"], "K019"),
    ] {
        let mut args = vec!["admin", "add", "ben", public.as_str(), "-y"];
        args.extend(flags);
        let ran = lab.cli(0, &args);
        assert!(ran.err.contains(&format!("error[{code}]")), "{}", ran.err);
    }
    assert_eq!(admins(&lab, 0), ["ana"]);

    let args = ["admin", "add", "ben", &public, "--words-file", &root, "-y"];
    lab.cli(0, &args).ok();
    lab.until("everyone knows ben", SOON, || {
        (0..3).all(|at| admins(&lab, at) == ["ana", "ben"])
    });
    // An admin, on any node, with all that admins may do.
    lab.cli_as(&ben, 2, &["label", "add", "kept", "-t", "n1"])
        .ok();
    lab.until_whole();
    let ran = lab.cli_as(
        &ben,
        2,
        &["label", "add", "gone", "-t", "n1,n2", "-o", "json"],
    );
    ran.ok();
    let history = lab.cli_as(&ben, 2, &["history", "-o", "json"]).json();
    let rows = history["data"].as_array().expect("changes");
    let since = rows[0]["id"].as_str().expect("an id").to_owned();
    lab.until_whole();
    assert!(lab.has_label(0, "n2", "gone"));

    // An agent that is away meanwhile judges the same once it is back.
    lab.kill(1);
    let args = [
        "admin",
        "rm",
        "ben",
        "--since",
        &since,
        "--words-file",
        &root,
        "-y",
    ];
    let ran = lab.cli(0, &args);
    assert!(ran.said().contains("undone"), "{}", ran.said());
    ran.ok();
    lab.start(1);
    lab.until("ben is out everywhere", SOON, || {
        (0..3).all(|at| {
            admins(&lab, at) == ["ana"]
                && lab.has_label(at, "n1", "kept")
                && !lab.has_label(at, "n2", "gone")
        })
    });
    let ran = lab.cli_as(&ben, 1, &["label", "add", "late", "-t", "n1"]);
    ran.ends_with(77);
    // The key is dead for good: whoever comes back has a new one.
    let args = ["admin", "add", "ben", &public, "--words-file", &root, "-y"];
    let ran = lab.cli(0, &args);
    assert!(ran.err.contains("error[K022]"), "{}", ran.err);
    let ran = lab.cli(0, &["admin", "rm", "ana", "--words-file", &root, "-y"]);
    assert!(ran.err.contains("the only admin"), "{}", ran.err);
}

#[test]
fn two_of_three_keepers_sign_one_after_the_other_and_the_old_words_are_worth_nothing() {
    let lab = TestLab::of(2);
    let (old, a, b, c) = (
        words(&lab, "root.words"),
        words(&lab, "a.words"),
        words(&lab, "b.words"),
        words(&lab, "c.words"),
    );
    let mut args = vec!["root", "rotate", "--keys", "3", "--threshold", "2", "-y"];
    for file in [&a, &b, &c] {
        args.extend(["--new-words-file", file]);
    }
    args.extend(["--words-file", &old]);
    lab.cli(0, &args).ok();
    let shown = lab.cli(0, &["root", "show"]).ok();
    assert!(shown.contains("2 of 3 root keys"), "{shown}");
    let doctor = lab.cli(0, &["doctor"]).ok();
    assert!(
        doctor.contains("root record 1, 2 of 3 root keys sign"),
        "{doctor}"
    );

    let (ben, public) = key_of(&lab, "ben");
    let next = lab.path("next.json").display().to_string();
    let add = |more: &[&str]| {
        let mut args = vec!["admin", "add", "ben", public.as_str(), "-y"];
        args.extend(more);
        lab.cli(0, &args)
    };
    assert!(add(&["--words-file", &old]).err.contains("error[K017]"));
    assert!(
        add(&["--words-file", &a])
            .err
            .contains("1 valid signatures of 2")
    );
    assert!(add(&["--words-file", &a, "--out", &next]).ok().is_empty());
    lab.until_whole();
    let publish = ["root", "publish", &next, "-y"];
    let ran = lab.cli(1, &publish);
    assert!(ran.err.contains("error[K019]"), "{}", ran.err);
    // Signing takes no agent: the keeper's device has none.
    let sign = |words: &str| {
        let mut command = lab.command(None, &["root", "sign", &next, "--words-file", words, "-y"]);
        command.env("LAB_SOCKET", "/nowhere/lab.sock");
        crate::support::run(command)
    };
    assert!(sign(&old).err.contains("error[K017]"));
    sign(&c).ok();
    lab.cli(1, &publish).ok();
    lab.until("everyone knows ben", SOON, || {
        (0..2).all(|at| admins(&lab, at) == ["ana", "ben"])
    });
    let ran = lab.cli(0, &publish);
    assert!(ran.err.contains("error[K021]"), "{}", ran.err);
    lab.cli_as(&ben, 0, &["label", "add", "ben", "-t", "n1"])
        .ok();

    // All admin keys are gone: two keepers bring a new one, without any.
    let (eve, public) = key_of(&lab, "eve");
    let args = [
        "admin",
        "add",
        "eve",
        &public,
        "--words-file",
        &b,
        "--words-file",
        &c,
        "-y",
        "--key",
        "/nowhere/no.key",
    ];
    lab.cli(1, &args).ok();
    lab.cli_as(&eve, 1, &["label", "add", "eve", "-t", "n1"])
        .ok();
    lab.until_whole();
    assert!(lab.has_label(0, "n1", "eve") && lab.has_label(0, "n1", "ben"));
    assert_eq!(
        field(&lab.view(0), "label/n1/eve"),
        Some(&Value::Bool(true))
    );
}

/// Two of three registrars must have seen a join: with two of them away nobody gets in, with one away somebody does,
/// and never two with one token.
#[test]
fn a_quorum_of_registrars_lets_in_one_and_only_where_most_of_them_are() {
    let mut lab = TestLab::of(3);
    let root = words(&lab, "root.words");
    let make = ["token", "create", "n4", "--witness", "quorum"];
    let ran = lab.cli(0, &make);
    assert!(ran.err.contains("registrars"), "{}", ran.err);
    let args = [
        "root",
        "registrars",
        "n1",
        "n2",
        "n3",
        "--words-file",
        &root,
        "-y",
    ];
    let said = lab.cli(0, &args).said();
    assert!(said.contains("root record 1 is in force"), "{said}");
    lab.until_whole();
    let token = lab.token(0, &["create", "n4", "--witness", "quorum"]);
    lab.until_whole();

    lab.kill(1);
    lab.kill(2);
    let late = lab.agent("n4", Seat::loopback());
    let alone = lab.join_within(&late, &token, "4s");
    assert!(alone.said().contains("probation"), "{}", alone.said());
    let state = |lab: &TestLab| {
        let view = lab.view(0);
        let n4 = view.members.into_iter().find(|m| m.name == "n4");
        n4.map(|m| m.state)
    };
    assert_eq!(state(&lab), Some(MemberState::Probation), "one of three");
    lab.start(1);
    lab.agents.push(late);
    lab.start(3);
    lab.until("two of three let it in", SOON, || {
        state(&lab) == Some(MemberState::Member)
    });
    let thief = lab.agent("n5", Seat::loopback());
    let refused = lab.join_within(&thief, &token, "10s");
    assert_ne!(refused.code, 0, "{}", refused.out);
    lab.start(2);
    lab.until_whole();
    let names = lab.cli(2, &["node", "list", "-o", "name"]).ok();
    assert_eq!(names, "n1\nn2\nn3\nn4\n");
}

#[test]
fn two_machines_show_the_same_words_and_one_that_leaves_shows_those_of_its_new_mesh() {
    let mut lab = TestLab::of(2);
    let shown = |lab: &TestLab, at: usize| lab.cli(at, &["trust", "words", "-o", "name"]).ok();
    let old = shown(&lab, 0);
    assert_eq!(old.split_whitespace().count(), 6);
    assert_eq!(shown(&lab, 1), old);
    let old_mesh = lab.view(1).mesh;

    // The mesh is founded again, on a machine of its own.
    let new = TestLab::of(1);
    let mesh = new.view(0).mesh.to_string();
    let reset = |lab: &TestLab, mesh: &str, more: &[&str]| {
        lab.cli(1, &[&["trust", "reset", "--mesh", mesh], more].concat())
    };
    let ran = reset(&lab, &mesh, &["-y"]).ends_with(6);
    assert!(ran.err.contains("another agent is running"), "{}", ran.err);
    lab.stop(1);
    // What an agent that is off trusts is still shown.
    assert_eq!(shown(&lab, 1), old);
    for (mesh, more, code, exit) in [
        ("mesh:x", "-y", "C001", 64),
        (old_mesh.to_string().as_str(), "-y", "M015", 6),
        (mesh.as_str(), "--no-input", "C002", 6),
    ] {
        let ran = reset(&lab, mesh, &[more]).ends_with(exit);
        assert!(ran.err.contains(&format!("error[{code}]")), "{}", ran.err);
    }
    assert!(lab.agents[1].data.join("node.key").exists());

    let ran = reset(&lab, &mesh, &["-y", "-o", "json"]).ends_with(0);
    let aside = ran.json()["data"]["aside"].as_str().map(PathBuf::from);
    let aside = aside.expect("where the old folder is");
    assert!(aside.join("agent.redb").exists() && aside.join("node.key").exists());
    assert!(!lab.agents[1].data.exists());
    assert!(ran.err.contains("lab join"), "{}", ran.err);
    lab.cli(1, &["trust", "words"]).ends_with(69);

    let token = new.token(0, &["create", "n2"]);
    lab.join_with(&lab.agents[1], &token).ok();
    lab.start(1);
    assert_eq!(shown(&lab, 1), shown(&new, 0));
    assert_ne!(shown(&lab, 1), old);
    lab.agents.truncate(2);
}

#[test]
fn words_are_tried_without_signing_and_the_doctor_reminds_of_those_that_were_not() {
    let lab = TestLab::of(1);
    let root = words(&lab, "root.words");
    let attempt = |file: &str| lab.cli(0, &["root", "try", "--words-file", file]);
    let wrong = lab.write("wrong.words", &"abandon ".repeat(24));
    let other = lab.write(
        "other.words",
        &format!("{} art", "abandon ".repeat(23).trim()),
    );
    for (file, code, exit) in [(&wrong, "K020", 65), (&other, "K017", 6)] {
        let ran = attempt(file).ends_with(exit);
        assert!(ran.err.contains(&format!("error[{code}]")), "{}", ran.err);
    }
    let before = lab.view(0).statement_count;
    let tried = attempt(&root).ok();
    assert!(tried.contains("the words are those of key:"), "{tried}");
    assert_eq!(lab.view(0).statement_count, before);

    let doctor = |lab: &TestLab| lab.cli(0, &["doctor"]).ok();
    assert!(doctor(&lab).contains("each was tried in half a year"));
    // Half a year and a day goes by.
    let keys = lab.path("home").join(".config/lab/keys");
    let entries = std::fs::read_dir(&keys).expect("the keys");
    let file = entries
        .map(|entry| entry.expect("an entry").path())
        .find(|path| path.extension().is_some_and(|e| e == "tried"))
        .expect("what was tried");
    let text = std::fs::read_to_string(&file).expect("text");
    let (head, at) = text.trim_end().rsplit_once(' ').expect("a time");
    let at: u64 = at.parse().expect("milliseconds");
    let long_ago = at - 181 * 86_400_000;
    std::fs::write(&file, format!("{head} {long_ago}\n")).expect("written");

    let said = doctor(&lab);
    assert!(said.contains("nobody tried the words of"), "{said}");
    assert!(said.contains("lab root try"), "{said}");
    attempt(&root).ok();
    assert!(doctor(&lab).contains("each was tried in half a year"));
}

/// More admins, and where their keys are.
fn more_admins<const N: usize>(lab: &TestLab, names: [&str; N]) -> [PathBuf; N] {
    let root = words(lab, "root.words");
    names.map(|name| {
        let (key, public) = key_of(lab, name);
        let args = ["admin", "add", name, &public, "--words-file", &root, "-y"];
        lab.cli(0, &args).ok();
        key
    })
}

#[test]
fn two_honest_admins_outweigh_one_who_put_both_of_them_out() {
    let lab = TestLab::of(2);
    let [ben, cleo] = more_admins(&lab, ["ben", "cleo"]);
    lab.until_whole();
    let label = |key: &Path, at, label| {
        let args = ["label", "add", label, "-t", "n1"];
        lab.cli_as(key, at, &args)
    };
    label(&ben, 0, "kept").ok();

    // Ana's key is stolen. The thief changes something, and puts both others out before they notice.
    lab.cli(0, &["label", "add", "evil", "-t", "n1"]).ok();
    let history = lab.cli(0, &["history", "-o", "json"]).json();
    let since = history["data"][0]["id"].as_str().expect("an id").to_owned();
    for name in ["ben", "cleo"] {
        lab.cli(0, &["revoke", name, "-y"]).ok();
    }
    lab.until_whole();
    label(&ben, 1, "nothing").ends_with(77);

    // One against one is a draw: all are out. The second voice decides.
    let ran = lab.cli_as(&ben, 1, &["revoke", "ana", "--since", &since, "-y"]);
    assert!(ran.said().contains("nother admin agrees"), "{}", ran.said());
    assert_ne!(ran.code, 0, "{}", ran.said());
    let ran = lab.cli_as(&ben, 1, &["revoke", "ana", "--since", &since, "-y"]);
    assert!(ran.said().contains("said so already"), "{}", ran.said());
    lab.until_whole();
    let ran = lab.cli_as(&cleo, 0, &["revoke", "ana", "-y"]);
    assert!(ran.said().contains("You agree with ben"), "{}", ran.said());
    ran.ok();
    lab.until("ana is out and what she undid is back", SOON, || {
        (0..2).all(|at| lab.has_label(at, "n1", "kept") && !lab.has_label(at, "n1", "evil"))
    });
    label(&ben, 1, "again").ok();
    lab.cli(0, &["label", "add", "late", "-t", "n1"])
        .ends_with(77);
    let list = lab.cli(1, &["admin", "list"]).ok();
    assert!(list.contains("revoked by 2 admins"), "{list}");
}

#[test]
fn what_two_of_three_admins_agreed_on_is_not_undone_by_the_third_until_another_says_so_too() {
    let lab = TestLab::of(2);
    let [ben, cleo] = more_admins(&lab, ["ben", "cleo"]);
    let bob = lab.operator("bob", &[]);
    lab.until_whole();
    lab.cli_as(&bob, 0, &["label", "add", "agreed", "-t", "n1"])
        .ok();
    let history = lab.cli(0, &["history", "-o", "json"]).json();
    let first = history["data"][0]["id"].as_str().expect("an id").to_owned();

    let planned = lab
        .cli(0, &["checkpoint", "--dry-run", "-o", "json"])
        .json();
    assert_eq!(planned["data"]["needed"], 2, "{planned}");
    assert_eq!(planned["data"]["up_to"], first.as_str(), "{planned}");
    lab.cli_as(&bob, 0, &["checkpoint", "-y"]).ends_with(77);
    let made = lab
        .cli(0, &["checkpoint", "create", "-y", "-o", "json"])
        .json();
    let id = made["data"]["id"].as_str().expect("an id").to_owned();
    lab.until_whole();
    let list = lab.cli(1, &["checkpoint", "list"]).ok();
    assert!(list.contains("1 of 3 admins"), "{list}");
    let ran = lab.cli_as(&ben, 1, &["checkpoint", "sign", &id, "-y"]);
    assert!(ran.said().contains("2 of 3 admins"), "{}", ran.said());
    ran.ok();
    lab.until_whole();
    let list = lab.cli(0, &["checkpoint", "list", "-o", "json"]).json();
    assert_eq!(list["data"][0]["effective"], true, "{list}");
    lab.cli_as(&bob, 0, &["label", "add", "later", "-t", "n1"])
        .ok();

    // Cleo's key is stolen, and the thief undoes all that bob ever did.
    let undo = ["revoke", "bob", "--since", &first];
    let dry = lab.cli_as(&cleo, 1, &[&undo[..], &["--dry-run"]].concat());
    assert!(dry.said().contains("1 more admin"), "{}", dry.said());
    lab.cli_as(&cleo, 1, &[&undo[..], &["-y"]].concat()).ok();
    lab.until_whole();
    for at in 0..2 {
        lab.until("what was not agreed on is gone", SOON, || {
            !lab.has_label(at, "n1", "later")
        });
        assert!(lab.has_label(at, "n1", "agreed"));
    }
    lab.cli_as(&bob, 0, &["label", "add", "more", "-t", "n1"])
        .ends_with(77);
    let again = lab.cli_as(&cleo, 1, &[&undo[..], &["-y"]].concat());
    assert!(again.said().contains("said so already"), "{}", again.said());

    // Ben says the same, and now it goes.
    let ran = lab.cli_as(&ben, 0, &["revoke", "bob", "-y"]);
    assert!(ran.said().contains("You agree with cleo"), "{}", ran.said());
    ran.ok();
    lab.until("two of three undo it", SOON, || {
        (0..2).all(|at| !lab.has_label(at, "n1", "agreed"))
    });
}
