//! Standing fields as typed intent, whatever they hold.

use proptest::prelude::*;

use super::*;
use crate::parse::{Source, parse};

const FLEET: &str = include_str!("../../../../tests/fixtures/fleet/lab.yaml");

fn fleet() -> Intent {
    let (declared, _) = parse(&[Source {
        name: "lab.yaml",
        text: FLEET,
    }]);
    let (intent, issues) = read(declared.fields().iter().map(|(p, f)| (p, f, &[][..])));
    assert_eq!(issues, []);
    intent
}

fn stamp(at: u64) -> (Hlc, StatementId) {
    (Hlc(at), StatementId([0; 32]))
}

fn texts(labels: &[Label]) -> Vec<String> {
    labels.iter().map(Label::to_string).collect()
}

#[test]
fn the_example_fleet_reads_back_whole() {
    let intent = fleet();

    let keys: Vec<_> = intent
        .vocabulary
        .iter()
        .map(|term| term.key.as_str())
        .collect();
    assert_eq!(keys, ["site", "env", "role", "canary", "keeper"]);
    assert_eq!(
        intent.term("keeper").unwrap().privileged.as_deref(),
        Some("secrets")
    );
    assert_eq!(
        (
            intent.nodes.len(),
            intent.clusters.len(),
            intent.groups.len()
        ),
        (9, 1, 6)
    );
    assert_eq!(
        (
            intent.secrets.len(),
            intent.zones.len(),
            intent.providers.len()
        ),
        (7, 3, 5)
    );
    assert!(intent.nodes.values().all(|node| node.is_declared));
    assert_eq!(
        texts(&labels_of(&intent, "k3s", &[]).0),
        ["env=prod", "role=k8s", "site=home"]
    );
    assert_eq!(intent.manifests["ingress"]["cluster"].text(), Some("k3s"));
}

#[test]
fn profiles_extend_each_other() {
    let (medium, issues) = fleet().profile("medium");

    assert_eq!(issues, []);
    assert_eq!(medium["memory"].text(), Some("32GiB"));
    assert_eq!(medium["per/aws/volume"].text(), Some("gp3"));
    assert_eq!(medium["per/aws/instance"].text(), Some("m7g.2xlarge"));
    assert_eq!(fleet().profile("nope").1[0].code, "D017");
}

#[test]
fn groups_become_queries_and_a_bad_exclude_empties_its_group() {
    let (groups, issues) = fleet().selector_groups();
    assert_eq!(issues, []);
    assert_eq!(
        groups["frontends"].exclude.as_ref().unwrap().to_string(),
        "site=aws"
    );

    let field = |text: &str| Field::new(Value::text(text), "person:a");
    let fields = [
        ("group/g/include".parse::<Path>().unwrap(), field("all")),
        ("group/g/exclude".parse().unwrap(), field("role=(")),
        (
            "group/g/members/n1".parse().unwrap(),
            Field::new(Value::Bool(true), "person:a"),
        ),
    ];
    let (intent, _) = read(fields.iter().map(|(p, f)| (p, f, &[][..])));
    let (groups, issues) = intent.selector_groups();
    assert_eq!(issues.len(), 1);
    assert!(groups["g"].include.is_none() && groups["g"].members.is_empty());
}

#[test]
fn labels_are_born_added_and_taken_away() {
    let yes = Field::new(Value::Bool(true), "person:a");
    let no = Field::new(Value::Bool(false), "person:a");
    let fields = [
        ("label/n1/role=web".parse::<Path>().unwrap(), yes),
        ("label/n1/canary".parse().unwrap(), no),
    ];
    let (intent, _) = read(fields.iter().map(|(p, f)| (p, f, &[][..])));
    let birth = ["canary", "site=home", "not a label"].map(str::to_owned);
    let (labels, issues) = labels_of(&intent, "n1", &birth);

    assert_eq!(texts(&labels), ["role=web", "site=home"]);
    assert_eq!(issues[0].code, "D013");
}

#[test]
fn of_two_values_of_a_one_of_label_the_last_written_counts() {
    let term = Term {
        key: "site".to_owned(),
        kind: TermKind::OneOf(Vec::new()),
        privileged: None,
    };
    let vocabulary = Field::new(Value::List(vec![term.to_value()]), "set:s");
    let yes = Field::new(Value::Bool(true), "person:a");
    let at: Vec<Path> = [
        "vocabulary",
        "label/n1/site=a",
        "label/n1/site=b",
        "label/n1/site=c",
    ]
    .map(|path| path.parse().unwrap())
    .into();
    let cases: [(&[u64], &str); 3] = [
        (&[5, 9, 7], "site=b"),
        (&[9, 5, 7], "site=a"),
        (&[5, 5, 5], "site=c"),
    ];
    for (stamps, want) in cases {
        let labels = at[1..]
            .iter()
            .zip(stamps)
            .map(|(path, at)| (path, &yes, &[][..], stamp(*at)));
        let fields = std::iter::once((&at[0], &vocabulary, &[][..], stamp(1))).chain(labels);
        let (intent, _) = read(fields);
        let (labels, issues) = labels_of(&intent, "n1", &["site=z".to_owned()]);
        assert_eq!(texts(&labels), [want]);
        assert_eq!(issues[0].code, "D022");
        assert!(
            issues[0].help.starts_with("lab label rm site="),
            "{issues:?}"
        );
    }
}

#[test]
fn values_written_at_the_same_time_are_reported_once() {
    let field = |n| Field::new(Value::Int(n), format!("person:{n}"));
    let path: Path = "on/all/params/x".parse().unwrap();
    let (first, others) = (field(1), [field(2), field(1)]);
    let (intent, issues) = read([(&path, &first, &others[..])]);

    assert_eq!(issues.len(), 1);
    assert_eq!(issues[0].code, "D023");
    assert_eq!(intent.attachments["all"].params["x"].others, [field(2)]);
}

#[test]
fn what_is_not_understood_is_left_out_and_reported() {
    let value = Field::new(Value::text("x"), "person:a");
    let paths: Vec<Path> = [
        "on/all/protect",
        "on/a b/params/x",
        "label/n1/1x",
        "moon/phase",
        "vocabulary",
    ]
    .map(|path| path.parse().unwrap())
    .into();
    let (intent, issues) = read(paths.iter().map(|path| (path, &value, &[][..])));

    assert_eq!(issues.len(), 5);
    assert!(issues.iter().all(|issue| issue.code == "D026"));
    assert_eq!(
        issues
            .iter()
            .filter(|issue| issue.severity == Severity::Info)
            .count(),
        1
    );
    assert!(intent.vocabulary.is_empty() && intent.labels.is_empty());
}

proptest! {
    #[test]
    fn no_field_panics(segments in prop::collection::vec("\\PC{1,8}", 1..6), text in "\\PC{0,20}") {
        let kinds = ["label", "node", "on", "group", "profile", "dns", "vocabulary"];
        for kind in kinds {
            let Ok(path) = Path::new([kind.to_owned()].iter().chain(&segments)) else { continue };
            for value in [Value::text(&text), Value::Bool(true), Value::List(vec![Value::Null])] {
                let field = Field::new(value, "person:a");
                let (intent, _) = read([(&path, &field, &[][..])]);
                labels_of(&intent, &segments[0], std::slice::from_ref(&text));
            }
        }
    }
}
