use lab_agent_core::{config_of, intent_of};
use lab_crdt_config::NodeFacts;
use lab_crdt_model::view::CandidateView;
use lab_crdt_model::{AuthorId, Field, Path};

use super::*;

struct Rng(u64);

impl Rng {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }

    fn of<T: Clone>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())].clone()
    }
}

fn field(segments: &[&str], value: Value, at: u64) -> FieldView {
    FieldView {
        path: Path::new(segments).unwrap(),
        candidates: vec![CandidateView {
            field: Field::new(value, "person:ana"),
            statement: StatementId([at as u8; 32]),
            author: AuthorId([1; 32]),
            at: Hlc(at),
        }],
    }
}

fn term(key: &str, one_of: bool) -> Value {
    let kind = if one_of {
        (
            "one-of",
            Value::List(vec![Value::text("web"), Value::text("db")]),
        )
    } else {
        ("many", Value::Bool(true))
    };
    let map = [("key", Value::text(key)), kind];
    Value::Map(map.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
}

const LABELS: [&str; 6] = ["role=web", "role=db", "site=a", "site=b", "canary", "lab.x"];

fn random(rng: &mut Rng) -> Vec<FieldView> {
    let mut out: BTreeMap<Path, FieldView> = BTreeMap::new();
    for n in 0..4 + rng.below(40) {
        let on = rng.of(&["all", "role=web", "role=db", "site=a", "canary"]);
        let file = rng.of(&["/etc/motd", "/etc/a", "no", "/etc/../x"]);
        let name = rng.of(&["n1", "n2"]);
        let text = rng.of(&[
            "plain",
            "hello {node.name}",
            "{params.p} {vars.v}",
            "{role.v}{all.v}",
            "a { b } {{node.name}",
            "{node.ip}",
        ]);
        let key = rng.of(&["p", "v"]);
        let value = rng.of(&[
            Value::Int(1),
            Value::text("two"),
            Value::Bool(true),
            Value::List(vec![]),
        ]);
        let yes = Value::Bool(rng.below(4) > 0);
        let label = rng.of(&LABELS);
        let f = match rng.below(16) {
            0..4 => (vec!["label", name, label], yes),
            4 => (vec!["on", on, "files", file, "content"], Value::text(text)),
            5 | 6 => (vec!["on", on, "files", file, "template"], Value::text(text)),
            7 => {
                let mode = rng.of(&["0644", "644", "1777", "x"]);
                (vec!["on", on, "files", file, "mode"], Value::text(mode))
            }
            8 => {
                let owner = rng.of(&["root", "a:b", ":"]);
                (vec!["on", on, "files", file, "owner"], Value::text(owner))
            }
            9 => (vec!["on", on, "params", key], value),
            10 => (vec!["on", on, "vars", key], value),
            11 => (vec!["node", name, "params", key], value),
            12 => {
                let over = vec![Value::text(rng.of(&LABELS))];
                (vec!["on", on, "over"], Value::List(over))
            }
            13 => {
                let section = rng.of(&["files", "params", "vars"]);
                let item = if section == "files" { file } else { key };
                (vec!["on", on, "without", section, item], yes)
            }
            14 => {
                let terms = match rng.below(3) {
                    0 => vec![term("site", false), term("role", true)],
                    1 => vec![term("role", false), term("site", true)],
                    _ => vec![Value::Int(1)],
                };
                (vec!["vocabulary"], Value::List(terms))
            }
            _ => (vec!["on", on, "params", key], yes),
        };
        let f = field(&f.0, f.1, n as u64);
        out.insert(f.path.clone(), f);
    }
    out.into_values().collect()
}

#[test]
fn both_evaluators_agree_on_random_declarations() {
    let mut rng = Rng(7);
    let (mut contents, mut held) = (0, 0);
    for seed in 0..3000 {
        let fields = random(&mut rng);
        let birth = vec![rng.of(&LABELS).to_owned()];
        let (intent, _) = intent_of(&fields);
        let config = config_of(&intent, "n1", &birth, None);
        let facts = NodeFacts::new("n1", &config.labels);
        let (rendered, _) = lab_crdt_config::files(&config.effective, &facts);
        let mut theirs: BTreeMap<String, File> = config
            .effective
            .files
            .keys()
            .map(|path| (path.clone(), File::Held))
            .collect();
        theirs.extend(
            rendered
                .into_iter()
                .map(|f| (f.path, File::Content(f.content))),
        );
        let ours = files("n1", &birth, &fields).unwrap();
        assert_eq!(ours, theirs, "declarations {seed}: {fields:#?}");
        contents += ours.values().filter(|f| **f != File::Held).count();
        held += ours.values().filter(|f| **f == File::Held).count();
    }
    assert!(contents > 500 && held > 500, "{contents} {held}");
}

#[test]
fn groups_with_parameters_are_not_judged() {
    let fields = [field(&["group", "web", "params", "p"], Value::Int(1), 1)];
    assert_eq!(files("n1", &[], &fields), None);
}
