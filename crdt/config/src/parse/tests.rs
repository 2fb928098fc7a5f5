//! Declarations, good ones and a table of bad ones.

use std::collections::BTreeSet;

use lab_crdt_model::Value;
use proptest::prelude::*;

use super::*;

const FLEET: &str = include_str!("../../../../tests/fixtures/fleet/lab.yaml");

fn one(text: &str) -> (Declarations, Vec<Diagnostic>) {
    parse(&[Source {
        name: "lab.yaml",
        text,
    }])
}

fn value(declared: &Declarations, path: &str) -> Value {
    let path = path.parse().unwrap();
    declared
        .fields()
        .get(&path)
        .unwrap_or_else(|| panic!("no field {path}"))
        .value
        .clone()
}

fn source(declared: &Declarations, path: &str) -> String {
    declared.fields()[&path.parse().unwrap()]
        .source
        .clone()
        .unwrap()
}

#[test]
fn the_example_fleet_is_read_without_a_word() {
    let (declared, diagnostics) = one(FLEET);

    assert_eq!(diagnostics, []);
    assert!(declared.is_usable());
    assert_eq!(declared.set(), "homelab");
    assert!(
        declared
            .fields()
            .values()
            .all(|field| field.owners == ["set:homelab"])
    );
    assert_eq!(
        value(&declared, "label/nas1/role=backup"),
        Value::Bool(true)
    );
    assert_eq!(
        value(&declared, "on/role=web/classes/profile::web"),
        Value::Bool(true)
    );
    assert_eq!(
        value(&declared, "on/all/dns/{node.name}/ptr"),
        Value::Bool(true)
    );
    assert_eq!(
        value(&declared, "on/env=dev/without/alerts/node-gone"),
        Value::Bool(true)
    );
    assert_eq!(
        value(&declared, "node/edge1/params/nginx::worker_processes"),
        Value::Int(2)
    );
    assert_eq!(
        value(&declared, "profile/medium/per/aws/instance"),
        Value::text("m7g.2xlarge")
    );
    assert_eq!(
        value(&declared, "profile/metal/per/baremetal"),
        Value::Bool(true)
    );
    assert_eq!(value(&declared, "label/k3s/role=k8s"), Value::Bool(true));
    assert_eq!(
        value(&declared, "group/critical/members/k3s"),
        Value::Bool(true)
    );
    assert_eq!(
        value(&declared, "stack/jellyfin/env/TZ"),
        Value::text("Europe/Madrid")
    );
    assert_eq!(value(&declared, "on/all/rollout/batch"), Value::text("25%"));
    assert_eq!(declared.queries().len(), 15);
}

#[test]
fn every_leaf_knows_its_line_and_column() {
    let (declared, _) = one(FLEET);

    for (path, needle) in [
        (
            "on/role=web/params/profile::base::swappiness",
            "10 }\n    dns:",
        ),
        ("node/pi1/mac", "\"dc:a6:32:00:00:21\""),
        ("label/edge1/role=proxy", "role=proxy]"),
        ("group/frontends/exclude", "\"site=aws\""),
        ("on/all/alerts/disk-filling/prometheus", "'predict_linear"),
    ] {
        let at = FLEET.find(needle).unwrap();
        let (line, column) = Span::new(at, at).line_column(FLEET);
        assert_eq!(
            source(&declared, path),
            format!("lab.yaml:{line}:{column}"),
            "{path}"
        );
    }
}

#[test]
fn the_same_in_json_gives_the_same_fields() {
    let yaml = "lab: 1\nset: s\nlabels:\n  role=web:\n    params: { a: 1, b: [x, 0.5, true], c: { d: \"ä\\n\" } }\n    files:\n      /etc/motd: { content: \"hi\\n\", mode: \"0644\" }\n";
    let json = r#"{"lab":1,"set":"s","labels":{"role=web":{"params":{"a":1,"b":["x",0.5,true],"c":{"d":"ä\n"}},
        "files":{"/etc/motd":{"content":"hi\n","mode":"0644"}}}}}"#;
    let ((a, no), (b, none)) = (one(yaml), one(json));

    assert_eq!((no, none), (Vec::new(), Vec::new()));
    let values = |d: &Declarations| -> Vec<_> {
        d.fields()
            .iter()
            .map(|(path, field)| (path.clone(), field.value.clone()))
            .collect()
    };
    assert_eq!(values(&a), values(&b));
}

#[test]
fn what_generators_write_is_read() {
    let text = "{\n\t\"lab\": 1,\n\t\"set\": \"s\",\n\t\"labels\": {\n\t\t\"all\":{\"params\":{\"a\":\"\\ud83d\\ude00 \\/ \\u00e4\",\"b\":\"12:30\",\"c\":-1.5e+3}}\n\t}\n}\n";
    let (declared, diagnostics) = one(text);
    assert_eq!(diagnostics, []);
    assert_eq!(value(&declared, "on/all/params/a"), Value::text("😀 / ä"));
    assert_eq!(
        value(&declared, "on/all/params/c"),
        Value::Decimal("-1.5e+3".to_owned())
    );

    let windows = "\u{feff}lab: 1\r\nset: s\r\nlabels:\r\n  all:\r\n    params: { a: 1 }\r\n";
    let (declared, diagnostics) = one(windows);
    assert_eq!(diagnostics, []);
    assert_eq!(source(&declared, "on/all/params/a"), "lab.yaml:5:18");
}

#[test]
fn block_scalars_keep_their_lines() {
    let (declared, diagnostics) = one(
        "lab: 1\nset: s\nlabels:\n  all:\n    files:\n      /etc/motd:\n        template: |\n          hi {node.name}\n            x\n        mode: \"0644\"\n",
    );
    assert_eq!(diagnostics, []);
    let path = "on/all/files/%2Fetc%2Fmotd/template";
    assert_eq!(value(&declared, path), Value::text("hi {node.name}\n  x\n"));
}

#[test]
fn a_set_may_be_spread_over_files() {
    let a = Source {
        name: "a.yaml",
        text: "lab: 1\nset: s\nlabels:\n  role=web: { params: { x: 1 } }\n",
    };
    let b = Source {
        name: "b.yaml",
        text: "lab: 1\nset: s\nlabels:\n  role=web: { params: { z: 2 } }\n",
    };
    let (declared, diagnostics) = parse(&[a, b]);
    assert_eq!(diagnostics, []);
    assert_eq!(source(&declared, "on/role=web/params/z"), "b.yaml:4:28");

    let again = Source {
        name: "c.yaml",
        text: "lab: 1\nset: s\nlabels:\n  role=web: { params: { x: 3 } }\n",
    };
    let (declared, diagnostics) = parse(&[a, again]);
    assert!(!declared.is_usable());
    assert_eq!(
        (diagnostics[0].error.code, diagnostics[0].source.as_str()),
        ("D016", "c.yaml")
    );
    assert!(
        diagnostics[0].error.help.contains("a.yaml:4:28"),
        "{:?}",
        diagnostics[0]
    );

    let other = Source {
        name: "d.yaml",
        text: "lab: 1\nset: t\n",
    };
    assert_eq!(parse(&[a, other]).1[0].error.code, "D011");
}

#[test]
fn keys_of_others_and_empty_sections_are_fine() {
    let (declared, diagnostics) = one(
        "x-note: hi\nlab: 1\nset: s\ngroups:\nlabels:\n  x-y: 1\n  all: { x-z: 2, params: { x-real: 3 } }\nnodes:\n  n1:\n",
    );

    assert_eq!(diagnostics, []);
    assert_eq!(value(&declared, "on/all/params/x-real"), Value::Int(3));
    assert_eq!(value(&declared, "node/n1"), Value::Bool(true));
}

#[test]
fn a_mistake_leaves_the_rest_readable_but_not_usable() {
    let (declared, diagnostics) =
        one("lab: 1\nset: s\nlabels:\n  role=web: { clases: [a], params: { x: 1 } }\n");

    assert_eq!(diagnostics.len(), 1);
    assert!(!declared.is_usable());
    assert_eq!(value(&declared, "on/role=web/params/x"), Value::Int(1));
}

#[test]
fn a_typing_mistake_in_a_label_key_is_a_warning() {
    let (declared, diagnostics) = one(
        "lab: 1\nset: s\nvocabulary:\n  - role: { many: true }\nlabels:\n  rol=web: { protect: true }\n  rack=1: {}\n",
    );

    assert!(declared.is_usable());
    assert_eq!(diagnostics.len(), 1);
    assert_eq!(diagnostics[0].severity, Severity::Warning);
    assert_eq!(diagnostics[0].error.help, "did you mean `role`?");
}

#[test]
fn a_message_reads_well() {
    let text = "lab: 1\nset: s\ngroups:\n  web: { include: \"role=web site=home\" }\n";
    let (_, diagnostics) = one(text);

    let want = "error[Q012]: expected `and`, `or` or `except` here\n  ╭─ lab.yaml:4:29\n  │   web: { include: \"role=web site=home\" }\n";
    let rendered = diagnostics[0].error.render("lab.yaml", text);
    assert!(rendered.starts_with(want), "{rendered}");
}

/// A row is a body (after `lab: 1` and `set: s`, so that it begins in line 3), a code, a place and a part of the help.
const MALFORMED: &[(&str, &str, &str, &str)] = &[
    ("a: [1", "D001", "", "brackets"),
    ("  b: 1", "D001", "", "indentation"),
    ("labls: {}", "D003", "3:1", "did you mean `labels`?"),
    ("zzz: {}", "D003", "3:1", "known here: lab, set"),
    (
        "labels: { all: { clases: [] } }",
        "D003",
        "3:18",
        "did you mean `classes`?",
    ),
    (
        "nodes: { n1: { labels: [], providr: aws } }",
        "D003",
        "3:28",
        "did you mean `provider`?",
    ),
    (
        "labels: { all: { files: { /etc/motd: { contents: x } } } }",
        "D003",
        "3:40",
        "did you mean `content`?",
    ),
    (
        "labels: { all: { alerts: { a: { severty: info } } } }",
        "D003",
        "3:33",
        "did you mean `severity`?",
    ),
    (
        "labels: { all: { without: { class: [a] } } }",
        "D003",
        "3:29",
        "did you mean `classes`?",
    ),
    (
        "labels: { all: {}, all: {} }",
        "D004",
        "3:20",
        "the first one is in line 3",
    ),
    (
        "labels:\n  all: {}\n  env=x: {}\n  all: {}",
        "D004",
        "6:3",
        "the first one is in line 4",
    ),
    (
        "labels: { all: { classes: [a, a] } }",
        "D004",
        "3:31",
        "keep one",
    ),
    ("labels: []", "D005", "3:9", "{ key: value }"),
    (
        "labels: { all: { classes: nginx } }",
        "D005",
        "3:27",
        "[one, two]",
    ),
    (
        "labels: { all: { classes: [1] } }",
        "D005",
        "3:28",
        "quote it",
    ),
    (
        "labels: { all: { protect: 1 } }",
        "D005",
        "3:27",
        "true or false",
    ),
    (
        "labels: { all: { params: { a: } } }",
        "D005",
        "3:29",
        "leave the key out",
    ),
    ("nodes: { n1: { image: 12 } }", "D005", "3:23", "quote it"),
    ("profiles: { p: { cpu: four } }", "D005", "3:23", "digits"),
    (
        "vocabulary: [ { role: { many: no-way } } ]",
        "D005",
        "3:31",
        "many: true",
    ),
    (
        "labels: { all: { alerts: { a: {} } } }",
        "D006",
        "3:28",
        "severity",
    ),
    (
        "labels: { all: { dns: [ { zone: z } ] } }",
        "D006",
        "3:25",
        "name: www",
    ),
    (
        "labels: { all: { dns: [ { name: www } ] } }",
        "D006",
        "3:25",
        "zone: NAME",
    ),
    (
        "labels: { all: { protect: yes } }",
        "D007",
        "3:27",
        "true or false",
    ),
    (
        "labels: { all: { params: { a: Off } } }",
        "D007",
        "3:31",
        "\"Off\"",
    ),
    (
        "labels: { all: { params: { on: 1 } } }",
        "D007",
        "3:28",
        "another word",
    ),
    (
        "labels: { all: { params: { a: 0644 } } }",
        "D008",
        "3:31",
        "\"0644\"",
    ),
    (
        "labels: { all: { params: { a: 12:30 } } }",
        "D008",
        "3:31",
        "\"12:30\"",
    ),
    (
        "labels: { all: { params: { a: 2026-01-02 } } }",
        "D008",
        "3:31",
        "\"2026-01-02\"",
    ),
    (
        "labels: { all: { params: { a: 0x1f } } }",
        "D008",
        "3:31",
        "quote it",
    ),
    (
        "labels: { all: { params: { a: 1_000 } } }",
        "D008",
        "3:31",
        "quote it",
    ),
    (
        "labels: { all: { params: { a: 99999999999999999999 } } }",
        "D008",
        "3:31",
        "quote it",
    ),
    (
        "labels: { all: { params: { a: .inf } } }",
        "D008",
        "3:31",
        "quote it",
    ),
    (
        "nodes: { n1: { mac: 1c:69:7a:00:00:11 } }",
        "D008",
        "3:21",
        "\"1c:69:7a:00:00:11\"",
    ),
    (
        "labels: { all: { files: { /a: { content: x, mode: 644 } } } }",
        "D008",
        "3:51",
        "\"0644\"",
    ),
    ("labels: &l { all: {} }", "D009", "3:12", "remove `&…`"),
    ("labels: { all: *l }", "D001", "", ""),
    ("labels: { <<: { a: 1 } }", "D009", "3:11", "extends"),
    ("labels: !include x.yaml", "D009", "3:18", "remove `!…`"),
    ("---\na: 1", "D009", "3:1", "a file of its own"),
    ("labels: { ? [a] : 1 }", "D009", "3:13", "quote it"),
    ("groups: { Web: {} }", "D012", "3:11", "lower-case"),
    ("nodes: { \"a b\": {} }", "D012", "3:10", "lower-case"),
    (
        "labels: { all: { classes: [Nginx] } }",
        "D012",
        "3:28",
        "profile::web",
    ),
    (
        "labels: { all: { packages: [\"-x\"] } }",
        "D012",
        "3:29",
        "letters",
    ),
    (
        "labels: { all: { params: { \"a b\": 1 } } }",
        "D012",
        "3:28",
        "nginx::worker_processes",
    ),
    (
        "labels: { all: { vars: { a.b: 1 } } }",
        "D012",
        "3:26",
        "letter",
    ),
    ("labels: { role=: {} }", "D013", "3:11", "key=value"),
    ("labels: { \"rôle=web\": {} }", "D013", "3:11", "key=value"),
    ("labels: { all=1: {} }", "D013", "3:11", "another word"),
    (
        "vocabulary: [ { 1x: { flag: true } } ]",
        "D013",
        "3:17",
        "key=value",
    ),
    (
        "vocabulary: [ { site: { one-of: [home] } } ]\nlabels: { site=hme: {} }",
        "D014",
        "4:11",
        "did you mean `site=home`?",
    ),
    (
        "vocabulary: [ { site: { one-of: [home, b] } } ]\nnodes: { n1: { labels: [site=home, site=b] } }",
        "D014",
        "4:36",
        "keep one",
    ),
    (
        "vocabulary: [ { canary: { flag: true } } ]\nlabels: { canary=1: {} }",
        "D014",
        "4:11",
        "write  canary",
    ),
    (
        "vocabulary: [ { role: { many: true } } ]\nlabels: { role: {} }",
        "D014",
        "4:11",
        "role=VALUE",
    ),
    (
        "vocabulary: [ { a: { flag: true }, b: { flag: true } } ]",
        "D015",
        "3:15",
        "- role",
    ),
    (
        "vocabulary: [ { a: { flag: true, many: true } } ]",
        "D015",
        "3:17",
        "one-of",
    ),
    ("vocabulary: [ a ]", "D015", "3:15", "- role"),
    (
        "nodes: { k: {} }\nclusters: { k: {} }",
        "D016",
        "4:13",
        "another one",
    ),
    (
        "profiles: { tiny: {} }\nnodes: { n: { profile: tny } }",
        "D017",
        "4:24",
        "did you mean `tiny`?",
    ),
    (
        "groups: { prod: {}, b: { include: \"@prdo\" } }",
        "D017",
        "3:35",
        "did you mean `@prod`?",
    ),
    (
        "secrets: { tok: {} }\nproviders: { aws: { t: \"${secret.tk}\" } }",
        "D017",
        "4:24",
        "did you mean `tok`?",
    ),
    (
        "profiles: { a: { extends: b }, b: { extends: a } }",
        "D018",
        "3:27",
        "extend nothing",
    ),
    (
        "labels: { a: { over: [a] } }",
        "D018",
        "3:23",
        "should lose",
    ),
    ("profiles: { p: { memory: 8GB } }", "D019", "3:26", "8GiB"),
    ("profiles: { p: { memory: 8 } }", "D019", "3:26", "8GiB"),
    ("profiles: { p: { cpu: 0 } }", "D019", "3:23", "between 1"),
    (
        "labels: { all: { rollout: { soak: 5 } } }",
        "D019",
        "3:35",
        "5m",
    ),
    (
        "labels: { all: { rollout: { soak: 5 min } } }",
        "D019",
        "3:35",
        "30s",
    ),
    (
        "labels: { all: { rollout: { batch: 0% } } }",
        "D019",
        "3:36",
        "1% to 100%",
    ),
    (
        "labels: { all: { rollout: { on-failure: puase } } }",
        "D019",
        "3:41",
        "did you mean `pause`?",
    ),
    (
        "labels: { all: { files: { etc/motd: { content: x } } } }",
        "D019",
        "3:27",
        "absolute",
    ),
    (
        "labels: { all: { files: { /a/../b: { content: x } } } }",
        "D019",
        "3:27",
        "absolute",
    ),
    (
        "labels: { all: { files: { /a: { content: x, mode: \"4755\" } } } }",
        "D019",
        "3:51",
        "0777",
    ),
    (
        "labels: { all: { files: { /a: { content: x, owner: \"a b\" } } } }",
        "D019",
        "3:52",
        "user:group",
    ),
    (
        "nodes: { n: { mac: \"1c:69\" } }",
        "D019",
        "3:20",
        "six pairs",
    ),
    (
        "labels: { all: { params: { a: [[[[[[[[[1]]]]]]]]] } } }",
        "D020",
        "3:31",
        "split",
    ),
    (
        "labels: { all: { files: { /a: { template: \"x {hostname}\" } } } }",
        "D024",
        "3:46",
        "{vars.hostname}",
    ),
    (
        "providers: { aws: { t: \"${env.X}\" } }",
        "D024",
        "3:24",
        "${secret.NAME}",
    ),
    (
        "labels: { all: { files: { /a: {} } } }",
        "D025",
        "3:27",
        "content: TEXT",
    ),
    (
        "labels: { all: { files: { /a: { content: x, template: y } } } }",
        "D025",
        "3:45",
        "keep one",
    ),
    (
        "groups: { g: { include: \"role=web,nuc1\" } }",
        "Q019",
        "3:35",
        "name=nuc1",
    ),
    ("groups: { g: { include: '(role=web' } }", "Q011", "", ""),
    (
        "groups: { g: { include: \"\" } }",
        "Q010",
        "3:26",
        "write `all`",
    ),
    (
        "providers: { aws: { executor: \"role=db and fact.os.name=debian\" } }",
        "Q040",
        "3:44",
        "labels, names and @groups",
    ),
    (
        "groups: { a: { include: \"@b\" }, b: { include: \"@a\" } }",
        "Q034",
        "3:26",
        "",
    ),
    (
        "profiles: { p: { per: { baremetal: { match: \"fact.mem.total > lots\" } } } }",
        "Q031",
        "3:63",
        "16GiB",
    ),
];

#[test]
fn malformed_declarations_are_explained() {
    let mut wrong = Vec::new();
    for (body, code, place, help) in MALFORMED {
        let text = format!("lab: 1\nset: s\n{body}\n");
        let (declared, diagnostics) = one(&text);
        let found: Vec<_> = diagnostics
            .iter()
            .map(|d| {
                let (line, column) = d.error.span.line_column(&text);
                (
                    d.error.code,
                    format!("{line}:{column}"),
                    d.error.help.clone(),
                )
            })
            .collect();
        let is_as_wanted = found.iter().any(|(c, p, h)| {
            c == code
                && (place.is_empty() || p == place)
                && h.contains(help)
                && (!h.is_empty() || help.is_empty())
        });
        if !is_as_wanted || declared.is_usable() {
            wrong.push(format!(
                "{body}\n  wanted {code} {place} …{help}…\n  found {found:?}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_file_without_a_head_is_refused() {
    for (text, code) in [
        ("", "D006"),
        ("# nothing\n", "D006"),
        ("[]", "D005"),
        ("set: s\n", "D006"),
        ("lab: 1\n", "D006"),
        ("lab: 2\nset: s\n", "D010"),
        ("lab: \"1\"\nset: s\n", "D010"),
        ("lab: 1\nset: Home Lab\n", "D011"),
        ("lab: 1\nset: 5\n", "D005"),
        ("\u{0}", "D001"),
    ] {
        let (declared, diagnostics) = one(text);
        assert!(!declared.is_usable(), "{text:?}");
        assert_eq!(diagnostics[0].error.code, code, "{text:?} {diagnostics:?}");
    }
}

#[test]
fn hostile_sizes_end_early() {
    let deep = format!(
        "lab: 1\nset: s\nx: {}{}",
        "[".repeat(5000),
        "]".repeat(5000)
    );
    assert_eq!(one(&deep).1[0].error.code, "D001");
    let long = "x".repeat(4 * 1024 * 1024 + 1);
    assert_eq!(one(&long).1[0].error.code, "D002");
    let many = format!("lab: 1\nset: s\nx: [{}]", "1,".repeat(1_100_000));
    assert_eq!(one(&many).1[0].error.code, "D002");
    let wrong = format!(
        "lab: 1\nset: s\nlabels: {{all: {{classes: [{}]}}}}",
        "yes,".repeat(10_000)
    );
    assert_eq!(one(&wrong).1.len(), 200);
    let value = format!(
        "lab: 1\nset: s\nlabels: {{all: {{params: {{a: {}}}}}}}",
        "y".repeat(40_000)
    );
    assert_eq!(one(&value).1[0].error.code, "D020");
    let key = format!(
        "lab: 1\nset: s\nlabels: {{all: {{params: {{{}: 1}}}}}}",
        "y".repeat(300)
    );
    assert_eq!(one(&key).1[0].error.code, "D020");
}

#[test]
fn a_big_fleet_is_read_in_one_go() {
    let mut text = "lab: 1\nset: s\nnodes:\n".to_owned();
    for n in 0..2000 {
        text += &format!("  n{n}: {{ labels: [a=1, b=2, c=3, d=4, e=5, f=6] }}\n");
    }
    let (declared, diagnostics) = one(&text);

    assert_eq!(diagnostics, []);
    assert_eq!(declared.fields().len(), 2000 * 7 + 1);
    let sources: BTreeSet<_> = declared
        .fields()
        .values()
        .map(|field| field.source.clone())
        .collect();
    assert_eq!(sources.len(), 2000 * 7 + 1);
}

fn arbitrary_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        "[0-9]{1,3}\\.[0-9]{1,3}".prop_map(|t| {
            let text = t.trim_start_matches('0');
            Value::Decimal(if text.starts_with('.') {
                format!("0{text}")
            } else {
                text.to_owned()
            })
        }),
        "\\PC{0,12}".prop_map(Value::Text),
        "[ -~\n\t]{0,12}".prop_map(Value::Text),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
            prop::collection::btree_map("[a-z \"{:]{1,6}", inner, 0..4).prop_map(Value::Map),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn parse_of_print_is_identity(values in prop::collection::btree_map("[a-z:_]{1,8}", arbitrary_value(), 1..6)) {
        let params = Value::Map(values.clone());
        let text = format!("{{\"lab\":1,\"set\":\"s\",\"labels\":{{\"all\":{{\"params\":{params}}}}}}}");
        let (declared, diagnostics) = one(&text);

        prop_assert_eq!(&diagnostics, &[], "{}", text);
        for (key, value) in values {
            let path = Path::new(["on", "all", "params", &key]).unwrap();
            prop_assert_eq!(&declared.fields()[&path].value, &value);
        }
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,200}") {
        let (_, diagnostics) = one(&text);
        for diagnostic in diagnostics {
            diagnostic.error.render("f", &text);
        }
    }

    #[test]
    fn no_damaged_fleet_panics(at in 0..FLEET.len(), with in "[\\[\\]{}:,&*!'\"#|>\n -]{0,4}", cut in 0..40usize) {
        let mut bytes = FLEET.as_bytes().to_vec();
        let end = (at + cut).min(bytes.len());
        bytes.splice(at..end, with.bytes());
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let (declared, diagnostics) = one(&text);
        prop_assert_eq!(declared.is_usable(), diagnostics.iter().all(|d| d.severity != Severity::Error));
        for diagnostic in diagnostics {
            diagnostic.error.render("f", &text);
        }
    }
}
