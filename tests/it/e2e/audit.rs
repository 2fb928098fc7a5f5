//! What machines record of what happened: it is there, it is whole, and others hold it.

use serde_json::Value as Json;

use crate::support::{LATER, SOON, TestLab};

const MOTD: &str =
    "lab: 1\nset: home\nlabels:\n  all:\n    files: { /etc/motd: { content: \"hello\" } }\n";

/// The items of an export, as lines.
fn items(export: &str) -> Vec<Json> {
    let lines = export
        .lines()
        .map(|l| serde_json::from_str::<Json>(l).expect("a line"));
    lines.filter(|line| line["type"] == "item").collect()
}

#[test]
fn hand_ins_are_recorded_with_the_user_and_any_change_of_an_export_is_found() {
    let lab = TestLab::of(1);
    let uid = format!("uid {}", rustix::process::geteuid().as_raw());
    let motd = lab.write("motd.yaml", MOTD);
    lab.cli(0, &["label", "add", "canary", "-t", "n1"]).ok();
    lab.cli(0, &["apply", "-f", &motd, "-y"]).ok();

    lab.until("the file is recorded", SOON, || {
        lab.cli(0, &["audit", "--what", "config"])
            .ok()
            .contains("/etc/motd")
    });
    let export = lab.cli(0, &["audit", "-o", "ndjson"]).ok();
    let all = items(&export);
    let seqs: Vec<u64> = all.iter().filter_map(|item| item["seq"].as_u64()).collect();
    assert_eq!(seqs, (1..=all.len() as u64).collect::<Vec<_>>());
    assert_eq!(all[0]["what"], "start");
    let changes: Vec<_> = all.iter().filter(|item| item["what"] == "change").collect();
    assert!(changes.len() >= 2, "{export}");
    for change in &changes {
        assert_eq!(change["via"], uid.as_str());
        let outcome = change["outcome"].as_str().unwrap();
        assert!(outcome.starts_with("taken: "), "{outcome}");
    }
    let by_user = lab
        .cli(0, &["audit", "--who", uid.trim_start_matches("uid ")])
        .ok();
    assert!(
        by_user.contains("change") && !by_user.contains("start"),
        "{by_user}"
    );
    assert!(
        lab.cli(0, &["audit", "--since", "2h", "--node", "n1"])
            .ok()
            .contains("start")
    );
    lab.cli(0, &["audit", "--node", "nobody"]).ends_with(3);

    lab.cli(0, &["audit", "verify"]).ok();
    let verify = |text: &str| {
        let file = lab.write("export.ndjson", text);
        lab.cli(0, &["audit", "verify", "-f", &file])
    };
    verify(&export).ok();
    let lines: Vec<&str> = export.lines().collect();
    let without = |at: usize| {
        let kept = lines.iter().enumerate().filter(|(n, _)| *n != at);
        kept.map(|(_, line)| *line).collect::<Vec<_>>().join("\n")
    };
    // The first line says what the others are.
    let said = verify(&without(2)).ends_with(1).said();
    assert!(said.contains("record 2 is missing"), "{said}");
    verify(&without(1)).ends_with(1);
    let at = export.find("\"bytes\":\"").unwrap() + 200;
    let mut changed = export.clone().into_bytes();
    changed[at] = if changed[at] == b'0' { b'1' } else { b'0' };
    verify(&String::from_utf8(changed).unwrap()).ends_with(1);
    verify(&export.replace(&uid, "uid 4242")).ends_with(1);
}

#[test]
fn a_killed_machine_goes_on_with_its_chain_where_it_ended() {
    let lab = TestLab::of(1);
    for n in 0..3 {
        lab.cli(0, &["label", "add", &format!("try-{n}"), "-t", "n1"])
            .ok();
        lab.kill(0);
        lab.start(0);
    }
    lab.cli(0, &["audit", "verify"]).ok();
    let all = items(&lab.cli(0, &["audit", "-o", "ndjson"]).ok());
    let count = |what: &str| all.iter().filter(|item| item["what"] == what).count();
    assert_eq!((count("start"), count("lost")), (4, 0));
    assert!(count("change") >= 3);
}

#[test]
fn an_audit_node_holds_the_chains_of_others_also_of_a_machine_that_is_down() {
    let lab = TestLab::of(3);
    lab.cli(0, &["label", "add", "lab.role/audit", "-t", "n3"])
        .ok();
    lab.cli(1, &["label", "add", "canary", "-t", "n2"]).ok();
    let held = |args: &[&str]| {
        items(
            &lab.cli(2, &[&["audit", "-o", "ndjson"], args].concat())
                .ok(),
        )
    };
    let changes = ["--node", "n2", "--what", "change"];
    lab.until("the audit node has it", LATER, || {
        !held(&changes).is_empty()
    });
    lab.kill(1);

    assert!(!held(&changes).is_empty());
    assert!(
        lab.cli(2, &["audit", "verify", "--node", "n2"])
            .ok()
            .contains("whole")
    );
    lab.cli(2, &["audit", "verify"]).ok();
    // Who is no audit node has its own chain alone.
    let other = items(&lab.cli(0, &["audit", "-o", "ndjson"]).ok());
    let view = lab.view(0);
    assert!(other.iter().all(|item| item["node"] == view.me.to_string()));
}
