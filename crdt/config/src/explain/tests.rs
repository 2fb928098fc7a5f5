//! Where a value comes from, as a person reads it.

use super::*;
use crate::intent::{labels_of, read};
use crate::parse::{Source, parse};

const FLEET: &str = include_str!("../../../../tests/fixtures/fleet/lab.yaml");

fn explained(node: &str, key: Option<&str>) -> Explanation {
    let (declared, _) = parse(&[Source {
        name: "lab.yaml",
        text: FLEET,
    }]);
    let (intent, _) = read(declared.fields().iter().map(|(p, f)| (p, f, &[][..])));
    let (labels, _) = labels_of(&intent, node, &[]);
    explain(&intent, &NodeFacts::new(node, &labels), &[], key)
}

#[test]
fn a_whole_node_is_one_table() {
    let explanation = explained("nuc1", None);
    let text = explanation.render();

    let mut lines = text.lines();
    assert!(
        lines
            .next()
            .unwrap()
            .starts_with("nuc1  labels site=home env=prod role=dns role=web  desired ")
    );
    let squeezed: Vec<String> = lines
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    for want in [
        "classes openssh::server profile::base all",
        "profile::backup env=prod",
        "nginx profile::web role=web",
        "params nginx::worker_processes = 4 role=web",
        "ntp::servers = [ntp1.home.example.org, ntp2.home.example.org] site=home beats all = [ntp1.home.example.org]",
        "✗ profile::base::swappiness CONFLICT role=dns = 1 role=web = 10",
        "alerts disk-filling for = 30m all",
        "node-gone severity = critical env=prod beats all = warning",
        "1 conflict lab explain nuc1 profile::base::swappiness",
    ] {
        assert!(
            squeezed.iter().any(|line| line == want),
            "no line `{want}` in\n{text}"
        );
    }
    assert_eq!(explanation.conflict_count(), 1);
}

#[test]
fn a_conflict_names_places_owners_and_the_way_out() {
    let want = "\
error[D021]: two wishes of the same tier disagree on profile::base::swappiness
  wish   role=dns       1                        lab.yaml:80:46       set:homelab
  wish   role=web       10                       lab.yaml:69:75       set:homelab
  nuc1 keeps what it applied last
  help: write  over: [role=dns]  under role=web, or give nuc1 its own value of profile::base::swappiness
";
    let got = explained("nuc1", Some("profile::base::swappiness")).render();
    let places = |text: &str| {
        text.split_whitespace()
            .filter(|word| word.starts_with("lab.yaml:"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(places(&got).len(), 2);
    let without = |text: &str| {
        places(text)
            .iter()
            .fold(text.to_owned(), |text, place| text.replace(place, "PLACE"))
    };
    assert_eq!(without(&got), without(want));
}

#[test]
fn a_settled_value_names_whom_it_beats() {
    let text = explained("edge1", Some("nginx::worker_processes")).render();

    assert!(
        text.starts_with("nginx::worker_processes on edge1 is 2\n  from   node edge1"),
        "{text}"
    );
    assert_eq!(text.matches("beats").count(), 2, "{text}");
}

#[test]
fn what_was_removed_says_by_whom() {
    let text = explained("xcp1", Some("profile::backup")).render();

    assert!(
        text.starts_with("profile::backup is removed from xcp1\n  by     role=hypervisor"),
        "{text}"
    );
    assert!(
        explained("xcp1", None)
            .render()
            .contains("without, by role=hypervisor")
    );
}

#[test]
fn an_unknown_key_has_no_lines() {
    assert!(explained("nuc1", Some("nothing::here")).lines.is_empty());
    assert!(!explained("nuc1", Some("params")).lines.is_empty());
    assert!(
        !explained("nuc1", Some("node-gone severity"))
            .lines
            .is_empty()
    );
}
