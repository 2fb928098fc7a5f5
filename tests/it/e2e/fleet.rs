//! The example fleet: everything that can be declared, most of it for later versions to act on.

use crate::support::{SOON, TestLab, field};

fn fleet(lab: &TestLab) -> String {
    lab.write("lab.yaml", include_str!("../../fixtures/fleet/lab.yaml"))
}

#[test]
fn the_example_fleet_parses_applies_and_shows_undone_sections() {
    let mut lab = TestLab::of(1);
    // One machine of the fleet is real, and called as it is declared.
    let nuc1 = lab.join("nuc1", crate::support::Seat::loopback(), &[]);
    lab.until_whole();
    let file = fleet(&lab);

    let plan = lab.cli(0, &["plan", "-f", &file, "-o", "wide"]);
    assert!(
        plan.out
            .contains("on/role=web/params/nginx::worker_processes"),
        "{}",
        plan.said()
    );
    assert_eq!(plan.code, 7, "{}", plan.said());
    let before = lab.view(0).digest;
    lab.cli(0, &["apply", "-f", &file, "-y", "--timeout", "20s"])
        .ends_with(7);
    assert_ne!(lab.view(0).digest, before);
    lab.until_whole();

    // Declared machines that never joined are shown as that, and are no fault.
    let listed = lab.cli(nuc1, &["node", "list"]).ok();
    for name in [
        "nas1",
        "xcp1",
        "nuc2",
        "nuc3",
        "pi1",
        "vm-ci1",
        "vm-media1",
        "edge1",
    ] {
        let line = listed
            .lines()
            .find(|l| l.starts_with(&format!("{name} ")))
            .unwrap_or_default();
        assert!(line.contains("declared, never joined"), "{name}: {listed}");
    }
    let real = listed
        .lines()
        .find(|l| l.starts_with("nuc1 "))
        .unwrap_or_default();
    assert!(
        real.contains("member") && real.contains("role=dns"),
        "{listed}"
    );
    assert!(listed.contains("k3s"), "{listed}");

    // What is declared and not acted on is said to be so.
    let list = "4 alerts, 11 classes, 1 clusters, 2 dns records, 3 dns zones, 1 manifests, 2 packages, 4 profiles, \
                5 providers, 3 rollouts, 7 secrets, 1 stacks";
    for args in [vec!["status"], vec!["plan"], vec!["plan", "-f", &file]] {
        let shown = lab.cli(0, &args).out;
        assert!(
            shown.contains(&format!(
                "declared, not carried out by this version: {list}\n"
            )),
            "{shown}"
        );
    }

    // web (10) against dns (1) on nuc1: a conflict, shown with both.
    let explained = lab
        .cli(0, &["explain", "nuc1", "profile::base::swappiness"])
        .ends_with(7);
    for word in ["role=web", "role=dns", "10", "1"] {
        assert!(explained.out.contains(word), "{}", explained.out);
    }
    // A declared one that settles web against proxy at its own level is in no conflict.
    let edge = lab
        .cli(0, &["explain", "edge1", "nginx::worker_processes"])
        .ok();
    assert!(edge.contains('2'), "{edge}");

    // Queries over declared machines work before they are there.
    let web = lab.cli(0, &["target", "@web", "-o", "name"]).ok();
    assert_eq!(web, "edge1\nnuc1\nnuc2\n");

    // A second apply changes nothing.
    let digest = lab.view(0).digest;
    let again = lab.cli(0, &["plan", "-f", &file, "-o", "json"]).json();
    assert_eq!(
        again["data"]["intent"].as_array().map(Vec::len),
        Some(0),
        "{again:#}"
    );
    lab.cli(0, &["apply", "-f", &file, "-y", "--timeout", "5s"])
        .ends_with(7);
    assert_eq!(lab.view(0).digest, digest);
    assert_eq!(lab.view(nuc1).digest, digest);
}

#[test]
fn what_a_set_no_longer_declares_is_removed_with_a_plan() {
    let lab = TestLab::of(1);
    let text = include_str!("../../fixtures/fleet/lab.yaml");
    let file = fleet(&lab);
    lab.cli(0, &["apply", "-f", &file, "-y", "--no-wait"]);
    assert!(
        lab.view(0)
            .fields
            .iter()
            .any(|f| f.path.is_below("node/edge1"))
    );

    let without = text.split("  edge1:").next().unwrap();
    lab.write("lab.yaml", without);
    let plan = lab.cli(0, &["plan", "-f", &file, "-o", "wide"]);
    assert!(plan.out.contains("no longer declared"), "{}", plan.said());
    lab.cli(0, &["apply", "-f", &file, "-y", "--no-wait"]);
    lab.until("it is gone", SOON, || {
        !lab.view(0)
            .fields
            .iter()
            .any(|f| f.path.is_below("node/edge1"))
    });
    assert!(
        lab.view(0)
            .fields
            .iter()
            .any(|f| f.path.is_below("node/pi1"))
    );
}

#[test]
fn a_set_and_a_person_do_not_overwrite_each_other() {
    let lab = TestLab::of(1);
    let file = lab.write("a.yaml", "lab: 1\nset: a\nlabels:\n  all:\n    params: { x: 1 }\nnodes:\n  n1: { labels: [role=web] }\n");
    lab.cli(0, &["apply", "-f", &file, "-y"]).ok();
    let standing = || {
        let view = lab.view(0);
        ["on/all/params/x", "label/n1/role=web"].map(|path| field(&view, path).cloned())
    };
    let before = standing();
    assert!(before.iter().all(Option::is_some));

    let person = lab
        .cli(0, &["label", "rm", "role=web", "-t", "n1"])
        .ends_with(7);
    assert!(
        person.err.contains("error[D031]") && person.err.contains("set:a"),
        "{}",
        person.err
    );
    let other = lab.write(
        "b.yaml",
        "lab: 1\nset: b\nlabels:\n  all:\n    params: { x: 2 }\n",
    );
    let plan = lab.cli(0, &["plan", "-f", &other]).ends_with(7);
    assert!(
        plan.out.contains("set:a") && plan.out.contains("left alone"),
        "{}",
        plan.out
    );
    lab.cli(0, &["apply", "-f", &other, "-y", "--no-wait"])
        .ends_with(7);
    assert_eq!(standing(), before);

    lab.cli(0, &["apply", "-f", &other, "-y", "--take", "on/all/params"])
        .ok();
    let taken = lab.cli(0, &["explain", "n1", "x"]).ok();
    assert!(taken.contains("set:b") && taken.contains('2'), "{taken}");
}
