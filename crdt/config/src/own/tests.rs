//! Whose a field is, and what a declaration set may take away.

use lab_crdt_model::Value;
use proptest::prelude::*;

use super::*;
use crate::parse::{Source, parse};

type Standing = BTreeMap<Path, Vec<Field>>;

fn declare(set: &str, params: &str) -> Declarations {
    let text =
        format!("lab: 1\nset: {set}\nlabels: {{ role=web: {{ params: {{ {params} }} }} }}\n");
    let (declared, diagnostics) = parse(&[Source {
        name: "lab.yaml",
        text: &text,
    }]);
    assert_eq!(diagnostics, [], "{text}");
    declared
}

fn apply(standing: &mut Standing, comparison: &Comparison) {
    for op in comparison.ops() {
        match op {
            Op::Set { path, field } => _ = standing.insert(path, vec![field]),
            Op::Unset { path } => _ = standing.remove(&path),
        }
    }
}

fn field(value: i64, owners: &[&str]) -> Field {
    let owners = owners.iter().map(|owner| (*owner).to_owned()).collect();
    Field {
        value: Value::Int(value),
        owners,
        source: None,
    }
}

fn param(key: &str) -> Path {
    Path::new(["on", "role=web", "params", key]).unwrap()
}

fn kinds(comparison: &Comparison) -> Vec<(ChangeKind, &str)> {
    comparison
        .changes
        .iter()
        .filter_map(|c| Some((c.kind, c.path.as_str().strip_prefix("on/role=web/params/")?)))
        .collect()
}

#[test]
fn the_first_apply_adds_and_the_second_does_nothing() {
    let declared = declare("s", "a: 1, b: 2");
    let mut standing = Standing::new();

    let first = compare(&declared, &standing, &[]);
    assert_eq!(first.count(ChangeKind::Add), declared.fields().len());
    apply(&mut standing, &first);

    let second = compare(&declared, &standing, &[]);
    assert!(second.is_empty());
    assert_eq!(second.unchanged, declared.fields().len());
}

#[test]
fn what_the_set_no_longer_declares_is_removed_and_nothing_else() {
    let mut standing = Standing::new();
    apply(
        &mut standing,
        &compare(&declare("s", "a: 1, b: 2"), &Standing::new(), &[]),
    );
    let other = compare(&declare("other", "c: 3"), &standing, &[]);
    apply(&mut standing, &other);
    standing.insert(param("d"), vec![field(4, &["person:ana"])]);

    let comparison = compare(&declare("s", "a: 1"), &standing, &[]);

    assert_eq!(kinds(&comparison), [(ChangeKind::Remove, "b")]);
    assert!(comparison.conflicts.is_empty());
}

#[test]
fn a_field_of_someone_else_is_a_conflict_until_it_is_taken() {
    let standing = Standing::from([(param("a"), vec![field(9, &["person:ana"])])]);
    let declared = declare("s", "a: 1");

    let comparison = compare(&declared, &standing, &[]);
    assert_eq!(kinds(&comparison), []);
    assert_eq!(comparison.conflicts[0].owner(), "person:ana");
    assert!(comparison.ops().iter().all(|op| op.path() != &param("a")));

    let near = compare(&declared, &standing, &["on/role=we".to_owned()]);
    assert_eq!(near.conflicts.len(), 1);
    let taken = compare(&declared, &standing, &["on/role=web".to_owned()]);
    assert_eq!(kinds(&taken), [(ChangeKind::Change, "a")]);
    assert_eq!(
        taken
            .changes
            .iter()
            .find(|c| c.path == param("a"))
            .unwrap()
            .after
            .as_ref()
            .unwrap()
            .owners,
        ["set:s"]
    );
}

#[test]
fn the_same_value_is_owned_together_and_later_released() {
    let mut standing = Standing::from([(param("a"), vec![field(1, &["person:ana"])])]);

    let together = compare(&declare("s", "a: 1"), &standing, &[]);
    assert_eq!(kinds(&together), [(ChangeKind::CoOwn, "a")]);
    apply(&mut standing, &together);
    assert_eq!(standing[&param("a")][0].owners, ["person:ana", "set:s"]);

    let changed = compare(&declare("s", "a: 2"), &standing, &[]);
    assert_eq!(changed.conflicts.len(), 1);

    let released = compare(&declare("s", ""), &standing, &[]);
    assert_eq!(kinds(&released), [(ChangeKind::Release, "a")]);
    apply(&mut standing, &released);
    assert_eq!(standing[&param("a")][0].owners, ["person:ana"]);
}

#[test]
fn an_empty_set_gives_everything_back() {
    let mut standing = Standing::new();
    apply(
        &mut standing,
        &compare(&declare("s", "a: 1, b: 2"), &Standing::new(), &[]),
    );

    let comparison = compare(&Declarations::empty("s"), &standing, &[]);
    apply(&mut standing, &comparison);

    assert_eq!(comparison.count(ChangeKind::Remove), 4);
    assert!(standing.is_empty());
}

#[test]
fn moving_a_line_is_no_change() {
    let mut standing = Standing::new();
    apply(
        &mut standing,
        &compare(&declare("s", "a: 1, b: 2"), &Standing::new(), &[]),
    );

    assert!(compare(&declare("s", "b: 2, a: 1"), &standing, &[]).is_empty());
}

#[test]
fn a_value_that_lost_owns_nothing() {
    let lost = vec![field(1, &["person:ana"]), field(2, &["set:s"])];
    let standing = Standing::from([(param("a"), lost)]);

    assert_eq!(kinds(&compare(&declare("s", ""), &standing, &[])), []);
}

fn standing() -> impl Strategy<Value = Standing> {
    let owners = prop::sample::subsequence(vec!["person:ana", "set:s", "set:t", "token:1"], 1..4);
    let fields = prop::collection::vec((0..3i64, owners), 1..3).prop_map(|list| {
        list.into_iter()
            .map(|(value, owners)| field(value, &owners))
            .collect::<Vec<_>>()
    });
    prop::collection::btree_map("[a-e]".prop_map(|key| param(&key)), fields, 0..5)
}

proptest! {
    #[test]
    fn comparing_after_applying_changes_nothing(
        mut now in standing(),
        wanted in prop::collection::btree_map("[a-e]", 0..3i64, 0..5),
        takes in any::<bool>(),
    ) {
        let params: Vec<_> = wanted.iter().map(|(key, value)| format!("{key}: {value}")).collect();
        let declared = declare("s", &params.join(", "));
        let take = if takes { vec!["on".to_owned()] } else { Vec::new() };
        let before = now.clone();

        let first = compare(&declared, &now, &take);
        apply(&mut now, &first);
        let second = compare(&declared, &now, &take);

        prop_assert_eq!(&second.changes, &[]);
        prop_assert_eq!(&second.conflicts, &first.conflicts);
        prop_assert!(!takes || first.conflicts.is_empty());
        for (path, fields) in &before {
            let is_ours = fields[0].owners.iter().any(|owner| owner == "set:s");
            if !is_ours && !takes && !declared.fields().contains_key(path) {
                prop_assert_eq!(now.get(path), Some(fields));
            }
        }
        for (path, fields) in &now {
            if fields[0].owners.iter().any(|owner| owner == "set:s") {
                prop_assert!(declared.fields().contains_key(path));
            }
        }
    }
}
