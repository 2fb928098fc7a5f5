//! Tiers, `without`, `over` and contradictions, and the example fleet node by node.

use std::fmt::Write as _;

use lab_crdt_model::Path;
use proptest::prelude::*;

use super::*;
use crate::file::files;
use crate::intent::{labels_of, read};
use crate::parse::{Declarations, Source, parse};

const FLEET: &str = include_str!("../../../../tests/fixtures/fleet/lab.yaml");
const WANT: &str = include_str!("../../../../tests/fixtures/fleet/effective.txt");

fn declare(text: &str) -> Declarations {
    let (declared, diagnostics) = parse(&[Source {
        name: "lab.yaml",
        text,
    }]);
    assert_eq!(diagnostics, []);
    declared
}

fn intent(text: &str) -> Intent {
    let declared = declare(text);
    let (intent, issues) = read(declared.fields().iter().map(|(p, f)| (p, f, &[][..])));
    assert_eq!(issues, []);
    intent
}

fn body(text: &str) -> Intent {
    intent(&format!(
        "lab: 1\nset: s\nvocabulary: [site: {{ one-of: [a, b] }}, role: {{ many: true }}]\n{text}\n"
    ))
}

fn resolve(intent: &Intent, labels: &str) -> Effective {
    let labels: Vec<Label> = labels
        .split_whitespace()
        .map(|label| label.parse().unwrap())
        .collect();
    effective(intent, &NodeFacts::new("n1", &labels), &[])
}

fn json(claims: &[Claim]) -> String {
    claims
        .iter()
        .map(|c| format!(" {}={}", c.from, c.field.value))
        .collect()
}

#[test]
fn the_example_fleet_resolves_as_the_reference_says() {
    let intent = intent(FLEET);
    let mut got = String::new();
    for name in FLEET.lines().filter_map(|line| {
        let name = line.strip_prefix("  ")?.split(':').next()?;
        intent.nodes.contains_key(name).then_some(name)
    }) {
        let (labels, issues) = labels_of(&intent, name, &[]);
        assert_eq!(issues, []);
        let effective = effective(&intent, &NodeFacts::new(name, &labels), &[]);
        for (section, items) in [
            (Section::Classes, &effective.classes),
            (Section::Packages, &effective.packages),
        ] {
            let mut lines = Vec::new();
            for (item, resolved) in items {
                let mut from: Vec<_> = resolved.chosen.iter().chain(&resolved.beaten).collect();
                from.sort_by_key(|claim| &claim.from);
                let from: String = from
                    .iter()
                    .map(|claim| format!(" {}", claim.from))
                    .collect();
                lines.push((item.clone(), format!("{name} {section} {item} from{from}")));
            }
            for removed in effective
                .removed
                .iter()
                .filter(|removed| removed.section == section)
            {
                let text = format!(
                    "{name} {section} {} removed by {}",
                    removed.item, removed.by.from
                );
                lines.push((removed.item.clone(), text));
            }
            lines.sort();
            lines
                .iter()
                .for_each(|(_, line)| _ = writeln!(got, "{line}"));
        }
        for (key, resolved) in &effective.params {
            match &resolved.value {
                None => {
                    let sides = json(&resolved.conflict);
                    _ = writeln!(got, "{name} params {key} CONFLICT{sides}");
                }
                Some(value) => {
                    let from: Vec<_> = resolved.chosen.iter().map(|c| c.from.as_str()).collect();
                    let beats = match &resolved.beaten[..] {
                        [] => String::new(),
                        beaten => format!(" beats{}", json(beaten)),
                    };
                    _ = writeln!(
                        got,
                        "{name} params {key} = {value} from {}{beats}",
                        from.join(" ")
                    );
                }
            }
        }
    }

    assert_eq!(got, WANT);
}

#[test]
fn a_conflict_holds_back_one_value_and_names_both_sides() {
    let intent = intent(FLEET);
    let (labels, _) = labels_of(&intent, "nuc1", &[]);
    let effective = effective(&intent, &NodeFacts::new("nuc1", &labels), &[]);

    assert_eq!(effective.conflicts.len(), 1);
    assert_eq!(effective.conflicts[0].key(), "profile::base::swappiness");
    assert_eq!(effective.issues[0].code, "D021");
    assert!(
        effective.issues[0]
            .help
            .contains("over: [role=dns]  under role=web"),
        "{:?}",
        effective.issues[0]
    );
    assert_eq!(
        effective.params["nginx::worker_processes"].value,
        Some(Value::Int(4))
    );
    assert_eq!(
        effective.alerts["node-gone"]["severity"].value,
        Some(Value::text("critical"))
    );
    assert_eq!(
        effective.alerts["node-gone"]["when"].value,
        Some(Value::text("node.seen > 5m"))
    );
    assert_eq!(
        effective.scoped_vars["site.zone"].value,
        Some(Value::text("home.example.org"))
    );
    assert!(effective.is_protected());
}

#[test]
fn over_settles_a_tier_and_a_circle_of_over_does_not() {
    let text =
        "labels: { role=a: { params: { x: 1 }, over: [role=b] }, role=b: { params: { x: 2 } } }";
    let settled = resolve(&body(text), "role=a role=b");
    assert_eq!(settled.params["x"].value, Some(Value::Int(1)));
    assert_eq!(settled.params["x"].beaten[0].from, "role=b");

    let text = "labels: { role=a: { params: { x: 1 }, over: [role=b] }, role=b: { params: { x: 2 }, over: [role=a] } }";
    assert_eq!(resolve(&body(text), "role=a role=b").conflicts.len(), 1);
    assert_eq!(
        resolve(&body(text), "role=b").params["x"].value,
        Some(Value::Int(2))
    );
}

#[test]
fn over_does_not_beat_a_stronger_tier() {
    let text =
        "labels: { site=a: { params: { x: 1 }, over: [role=b] }, role=b: { params: { x: 2 } } }";
    assert_eq!(
        resolve(&body(text), "site=a role=b").params["x"].value,
        Some(Value::Int(2))
    );
}

#[test]
fn without_removes_equal_and_lower_tiers_and_a_higher_one_adds_again() {
    let text = "labels: { all: { classes: [base, ntp] }, site=a: { classes: [ntp], without: { classes: [base, ntp] } }, role=r: { classes: [base] } }";
    let intent = body(text);

    let removed = resolve(&intent, "site=a");
    assert!(removed.classes.is_empty());
    assert_eq!(removed.removed.len(), 2);
    assert_eq!(removed.removed[1].claims.len(), 2);
    let again = resolve(&intent, "site=a role=r");
    assert_eq!(again.classes.keys().collect::<Vec<_>>(), ["base"]);
}

#[test]
fn without_takes_whole_files_alerts_and_parameters() {
    let text = "labels: { all: { params: { x: 1 }, vars: { v: 1 }, alerts: { a: { severity: info, for: 5m } }, files: { /m: { content: c, mode: \"0600\" } } }, role=r: { without: { params: [x], vars: [v], alerts: [a], files: [/m] } } }";
    let effective = resolve(&body(text), "role=r");

    assert_eq!(effective.values().count(), 0);
    assert!(effective.scoped_vars.is_empty());
    assert_eq!(effective.removed.len(), 4);
}

#[test]
fn fields_of_one_item_merge_by_tier() {
    let text = "labels: { all: { files: { /m: { content: a, mode: \"0600\", owner: root } } }, site=a: { files: { /m: { template: \"{node.name}\" } } }, role=r: { files: { /m: { mode: \"0644\" } } } }";
    let intent = body(text);
    let labels: Vec<Label> = ["site=a", "role=r"]
        .map(|label| label.parse().unwrap())
        .into();
    let node = NodeFacts::new("n1", &labels);
    let (rendered, issues) = files(&effective(&intent, &node, &[]), &node);

    assert_eq!(issues, []);
    assert_eq!(rendered[0].content, b"n1");
    assert_eq!(
        (rendered[0].mode, rendered[0].owner.as_deref()),
        (0o644, Some("root"))
    );
}

#[test]
fn a_file_in_conflict_is_left_out_and_stays_wanted() {
    let text = "labels: { role=a: { files: { /m: { content: a }, /n: { content: c } } }, role=b: { files: { /m: { content: b } } } }";
    let intent = body(text);
    let labels: Vec<Label> = ["role=a", "role=b"]
        .map(|label| label.parse().unwrap())
        .into();
    let node = NodeFacts::new("n1", &labels);
    let effective = effective(&intent, &node, &[]);
    let (rendered, issues) = files(&effective, &node);

    assert_eq!(
        rendered
            .iter()
            .map(|file| file.path.as_str())
            .collect::<Vec<_>>(),
        ["/n"]
    );
    assert_eq!(issues[0].code, "D021");
    assert!(effective.files.contains_key("/m"));
    assert_eq!(effective.conflicts[0].field, "body");
}

#[test]
fn a_file_whose_placeholder_has_no_value_is_left_out() {
    let text = "labels: { all: { files: { /m: { template: \"{site.zone}\" }, /n: { template: \"{node.name}\" } } }, site=a: { vars: { zone: z } } }";
    let intent = body(text);
    let node = NodeFacts::new("n1", &[]);
    let (rendered, issues) = files(&effective(&intent, &node, &[]), &node);

    assert_eq!(rendered.len(), 1);
    assert_eq!(issues[0].code, "D024");
}

#[test]
fn fields_written_by_hand_cannot_make_a_bad_file() {
    for (path, field, value, code) in [
        ("etc/motd", "content", Value::text("x"), "D019"),
        ("/a/../etc/shadow", "content", Value::text("x"), "D019"),
        ("/a\u{85}", "content", Value::text("x"), ""),
        ("/a", "mode", Value::text("0644"), "D025"),
        ("/a", "content", Value::Int(1), "D025"),
        (
            "/a",
            "template",
            Value::text("{params.big}{params.big}"),
            "D024",
        ),
    ] {
        let Ok(at) = Path::new(["on", "all", "files", path, field]) else {
            assert_eq!(code, "");
            continue;
        };
        let big = Path::new(["on", "all", "params", "big"]).unwrap();
        let fields = [
            (at, Field::new(value, "person:a")),
            (big, Field::new(Value::text("x".repeat(20_000)), "person:a")),
        ];
        let (intent, _) = read(fields.iter().map(|(p, f)| (p, f, &[][..])));
        let node = NodeFacts::new("n1", &[]);
        let (rendered, issues) = files(&effective(&intent, &node, &[]), &node);
        assert!(rendered.is_empty(), "{path} {field}");
        assert_eq!(issues[0].code, code, "{path} {field}");
    }
}

#[test]
fn groups_beat_labels_and_the_node_beats_groups() {
    let text = "labels: { role=r: { params: { x: 1, u: 1, z: 1 } } }\ngroups: { outer: { params: { x: 2, u: 2, z: 2 } }, inner: { params: { u: 3, z: 3 } } }\nnodes: { n1: { params: { z: 4 } } }";
    let intent = body(text);
    let labels = ["role=r".parse().unwrap()];
    let groups = ["outer".to_owned(), "inner".to_owned(), "unknown".to_owned()];
    let effective = effective(&intent, &NodeFacts::new("n1", &labels), &groups);

    let values: Vec<_> = ["x", "u", "z"]
        .map(|key| effective.params[key].value.clone().unwrap())
        .into();
    assert_eq!(values, [Value::Int(2), Value::Int(3), Value::Int(4)]);
}

#[test]
fn a_label_without_vocabulary_is_weaker_than_a_listed_one() {
    let text = "labels: { all: { params: { x: 0 } }, rack=1: { params: { x: 1 } }, site=a: { params: { x: 2 } } }";
    let intent = body(text);
    assert_eq!(
        resolve(&intent, "rack=1").params["x"].value,
        Some(Value::Int(1))
    );
    assert_eq!(
        resolve(&intent, "rack=1 site=a").params["x"].value,
        Some(Value::Int(2))
    );
}

#[test]
fn the_hash_follows_values_and_not_their_origin() {
    let one = resolve(
        &body("labels: { all: { params: { x: 1 } }, role=r: {} }"),
        "role=r",
    );
    let moved = resolve(&body("labels: { role=r: { params: { x: 1 } } }"), "role=r");
    let other = resolve(
        &body("labels: { role=r: { params: { x: \"1\" } } }"),
        "role=r",
    );
    assert_eq!(one.hash(), moved.hash());
    assert_ne!(one.hash(), other.hash());
}

#[test]
fn protection_holds_while_labels_disagree() {
    let text = "labels: { role=a: { protect: true }, role=b: { protect: false } }";
    let intent = body(text);
    assert!(resolve(&intent, "role=a role=b").is_protected());
    assert!(!resolve(&intent, "role=b").is_protected());
    assert!(!resolve(&intent, "").is_protected());
}

fn arbitrary_fields() -> impl Strategy<Value = Vec<(Path, Field)>> {
    let label = prop::sample::select(vec!["all", "site=a", "role=a", "role=b", "flag", "x=1"]);
    let rest = prop::sample::select(vec![
        "",
        "/params/x",
        "/params/y",
        "/classes/c",
        "/packages/p",
        "/vars/v",
        "/files/%2Fm/content",
        "/files/%2Fm/template",
        "/files/%2Fm/mode",
        "/alerts/a/severity",
        "/dns/www/zone",
        "/rollout/batch",
        "/protect",
        "/over",
        "/without/params/x",
        "/without/classes/c",
        "/without/files/%2Fm",
        "/strange/a/b/c",
    ]);
    let value = prop_oneof![
        Just(Value::Bool(true)),
        Just(Value::Bool(false)),
        Just(Value::Null),
        (0..3i64).prop_map(Value::Int),
        Just(Value::text("0644")),
        Just(Value::text("{vars.v}{params.x}")),
        Just(Value::List(vec![
            Value::text("role=a"),
            Value::text("role=b")
        ])),
    ];
    let one = (label, rest, value).prop_map(|(label, rest, value)| {
        (
            format!("on/{label}{rest}").parse::<Path>().unwrap(),
            Field::new(value, "person:a"),
        )
    });
    let other = prop::sample::select(vec![
        "vocabulary",
        "label/n1/role=a",
        "label/n1/???",
        "node/n1",
        "node/n1/params/x",
        "group/g/include",
        "zzz",
        "profile/p/extends",
        "secret/s",
        "dns/zones/z/key",
        "set/s",
        "group/g/params/x",
        "node/n1/protect",
    ]);
    let vocabulary = Value::List(vec![Value::Map(
        [
            ("key".to_owned(), Value::text("site")),
            ("one-of".to_owned(), Value::List(vec![Value::text("a")])),
        ]
        .into(),
    )]);
    let any = (
        other,
        prop_oneof![
            Just(vocabulary),
            Just(Value::Bool(true)),
            Just(Value::text("p"))
        ],
    )
        .prop_map(|(path, value)| (path.parse::<Path>().unwrap(), Field::new(value, "set:s")));
    prop::collection::vec(prop_oneof![4 => one, 1 => any], 0..40).prop_map(|fields| {
        let unique: BTreeMap<_, _> = fields.into_iter().collect();
        unique.into_iter().collect()
    })
}

fn arbitrary_labels() -> impl Strategy<Value = Vec<Label>> {
    let labels = vec!["site=a", "site=b", "role=a", "role=b", "flag", "x=1", "y"];
    prop::sample::subsequence(labels, 0..7).prop_map(|labels| {
        labels
            .into_iter()
            .map(|label| label.parse().unwrap())
            .collect()
    })
}

proptest! {
    #[test]
    fn effective_is_independent_of_order_and_never_panics(
        fields in arbitrary_fields(),
        labels in arbitrary_labels(),
        rotate in 0..40usize,
    ) {
        let groups = ["g".to_owned()];
        let node = NodeFacts::new("n1", &labels);
        let (intent, issues) = read(fields.iter().map(|(p, f)| (p, f, &[][..])));
        let first = effective(&intent, &node, &groups);
        let rendered = files(&first, &node);

        let mut turned = fields;
        if !turned.is_empty() {
            let by = rotate % turned.len();
            turned.rotate_left(by);
        }
        turned.reverse();
        let mut back = labels.clone();
        back.reverse();
        let other = NodeFacts::new("n1", &back);
        let (again, same) = read(turned.iter().map(|(p, f)| (p, f, &[][..])));
        prop_assert_eq!(&intent, &again);
        prop_assert_eq!(issues, same);
        let second = effective(&again, &other, &groups);
        prop_assert_eq!(&first, &second);
        prop_assert_eq!(first.hash(), second.hash());
        prop_assert_eq!(rendered, files(&second, &other));
        let text = crate::explain::explain(&intent, &node, &groups, None).render();
        prop_assert!(text.ends_with('\n'));
        intent.selector_groups();
        for name in intent.profiles.keys() {
            intent.profile(name);
        }
    }
}
