//! Everything a person can get wrong: each mistake has a code, a place, a help, its exit code, and changes nothing.

use std::collections::BTreeMap;

use crate::support::{Seat, TestLab};

/// A command line and how it must end: exit code, a code or word of the error, a part of the help.
type Row<'a> = (&'a [&'a str], i32, &'a str, &'a str);

const USAGE: &str = "For more information, try '--help'";
const NAMES: &str = "lower-case letters, digits";
const LENGTH: &str = "write it like 90s, 30m, 12h or 7d";

const COMMANDS: &[Row<'_>] = &[
    // The command line itself.
    (&["frobnicate"], 64, "error: unrecognized subcommand", USAGE),
    (
        &["status", "-o", "xml"],
        64,
        "error: invalid value 'xml'",
        "table, wide, json, yaml, ndjson, name",
    ),
    (
        &["target"],
        64,
        "error: the following required arguments",
        USAGE,
    ),
    (&["label", "add", "canary"], 64, "--target <QUERY>", USAGE),
    (
        &["history", "-n", "many"],
        64,
        "error: invalid value 'many'",
        USAGE,
    ),
    (
        &["doctor", "extra"],
        64,
        "error: unexpected argument 'extra'",
        "Usage: lab doctor",
    ),
    (
        &["agent", "run", "--bind", "nowhere"],
        64,
        "error: invalid value 'nowhere'",
        USAGE,
    ),
    (
        &["completion", "klingon"],
        64,
        "error: invalid value 'klingon'",
        "bash, elvish, fish",
    ),
    (&["apply", "--timeout", "soon"], 64, "error[C001]", LENGTH),
    // Tokens.
    (
        &["join", "hello", "--data", "./new"],
        65,
        "error[M030]",
        "hint: make a new one",
    ),
    (
        &["join", "lab1qqqq", "--data", "./new"],
        65,
        "error[M030]",
        "mistyped or cut off",
    ),
    (
        &["join", "LAB1-AAAA", "--data", "./new"],
        65,
        "error[M030]",
        "20 characters after LAB1-",
    ),
    (
        &["join", "LAB1-AAAAA-BBBBB-CCCCC-DDDDD", "--data", "./new"],
        65,
        "error[M030]",
        "mistyped or cut off",
    ),
    (
        &["join", "LAB1-9ZK4X-UUUUU-CCCCC-DDDDD", "--data", "./new"],
        65,
        "error[M030]",
        "`U` cannot be in a token",
    ),
    (
        &["join", "hello", "--timeout", "soon"],
        64,
        "error[C001]",
        LENGTH,
    ),
    (
        &["join", "hello", "--via", "foo"],
        64,
        "error[C001]",
        "node:k3f9…@10.0.0.1:4747",
    ),
    (
        &["join"],
        64,
        "error: the following required arguments",
        "<TOKEN>",
    ),
    (
        &["token", "create", "--ttl", "8d"],
        64,
        "error[C001]",
        "at most 7d",
    ),
    (
        &["token", "create", "--ttl", "never"],
        64,
        "error[C001]",
        LENGTH,
    ),
    (
        &["token", "create", "--uses", "0"],
        64,
        "error[C001]",
        "--uses is 1 to 100",
    ),
    (
        &["token", "create", "a", "--uses", "2"],
        64,
        "error[C001]",
        "one use",
    ),
    (&["token", "create", "Bad Name"], 65, "error[D012]", NAMES),
    (
        &["token", "create", "n1"],
        6,
        "error[M026]",
        "hint: lab node rm n1",
    ),
    (
        &["token", "create", "--label", "a b"],
        65,
        "error[D013]",
        "a letter or `_`, then",
    ),
    (
        &["token", "create", "--role", "king"],
        64,
        "error: invalid value 'king'",
        "node, laptop",
    ),
    (
        &["token", "create", "--role", "laptop", "--right", "fly"],
        64,
        "error[C001]",
        "labels, config, invite, confirm",
    ),
    (
        &["token", "create", "--scope", "on"],
        64,
        "error[C001]",
        "--role laptop",
    ),
    (
        &["token", "create", "--witness", "two"],
        64,
        "error[C001]",
        "any, one, one=NODE or quorum",
    ),
    (
        &["token", "revoke", "ffff"],
        3,
        "error[M020]",
        "hint: lab token list",
    ),
    // Targets.
    (
        &["label", "add", "canary", "-t", "n11"],
        3,
        "error[Q033]",
        "did you mean `n1`?",
    ),
    (
        &["label", "add", "canary", "-t", "role="],
        65,
        "error[Q018]",
        "use \"\" for the empty value",
    ),
    (
        &["label", "add", "canary", "-t", "role=web and"],
        65,
        "error[Q013]",
        "add a label, name, @group or `(`",
    ),
    (
        &["label", "add", "canary", "-t", "(n1"],
        65,
        "error[Q011]",
        "add `)`",
    ),
    (
        &["label", "add", "canary", "-t", "@nogroup"],
        3,
        "error[Q032]",
        "help: ",
    ),
    (
        &["label", "add", "canary", "-t", "role=webb"],
        3,
        "error[Q050]",
        "hint: lab target 'role=webb'",
    ),
    (
        &["label", "rm", "role=web", "-t", "n1 and not n1"],
        3,
        "error[Q050]",
        "nothing was changed",
    ),
    (
        &["target", "has", "nonesuch"],
        3,
        "error[Q030]",
        "lab label list",
    ),
    (
        &["target", "fact.os.nme=debian"],
        3,
        "error[Q030]",
        "did you mean `fact.os.name`?",
    ),
    (
        &["target", "node.seen > soon"],
        65,
        "error[Q031]",
        "write it like 7d",
    ),
    (&["target", "n1 or or n1"], 65, "error[Q016]", "name=\"or\""),
    (
        &["status", "name ~ x"],
        65,
        "error[Q001]",
        "quote the value",
    ),
    // Names and labels.
    (
        &["label", "add", "bad label", "-t", "n1"],
        65,
        "error[D013]",
        "is not a label key",
    ),
    (
        &["label", "show", "nothing"],
        3,
        "error[Q030]",
        "hint: lab label list",
    ),
    (&["explain", "n9"], 3, "error[Q033]", "did you mean `n1`?"),
    (
        &["explain", "n1", "nothing"],
        3,
        "error[D030]",
        "hint: lab explain n1",
    ),
    (
        &["node", "show", "n11"],
        3,
        "error[Q033]",
        "did you mean `n1`?",
    ),
    (
        &["node", "rm", "n11", "-y"],
        3,
        "error[Q033]",
        "did you mean `n1`?",
    ),
    (
        &["revoke", "nobody", "-y"],
        3,
        "error[M024]",
        "hint: lab operator list",
    ),
    (
        &["operator", "add", "Bob", "key:abc"],
        65,
        "error[D012]",
        NAMES,
    ),
    (
        &["operator", "add", "bob", "key:abc"],
        65,
        "error[K015]",
        "52 characters of base32",
    ),
    (
        &["operator", "rm", "bob", "-y"],
        3,
        "error[M025]",
        "hint: lab operator list",
    ),
    // Questions that nobody is here to answer.
    (&["node", "rm", "n1"], 6, "error[C002]", "hint: add -y"),
    (
        &["operator", "key", "--name", "bob", "--key", "./bob.key"],
        6,
        "error[C002]",
        "--no-passphrase",
    ),
    // What is not there.
    (
        &["plan", "-f", "nowhere.yaml"],
        65,
        "error[C021]",
        "No such file",
    ),
    (
        &["plan", "-f", "."],
        65,
        "error[C021]",
        "holds no .yaml, .yml or .json file",
    ),
    (
        &["status", "--data", "./nowhere"],
        69,
        "error[C010]",
        "hint: start it: lab agent run",
    ),
    (
        &["agent", "run", "--data", "./nowhere", "--no-lan"],
        6,
        "error[C031]",
        "hint: lab join TOKEN",
    ),
    (
        &["agent", "run", "--config", "bad.toml"],
        65,
        "error[C020]",
        "unknown field `thread`",
    ),
    (
        &["agent", "run", "--config", "none.toml"],
        65,
        "error[C020]",
        "No such file",
    ),
    (
        &["init", "--name", "x", "--words-file", "w"],
        6,
        "error[C031]",
        "hint: another folder: --data DIR",
    ),
    (&["init", "--name", "Bad Name"], 65, "error[D012]", NAMES),
    (
        &["label", "add", "canary", "-t", "n1", "--key", "/nowhere"],
        77,
        "error[K002]",
        "hint: ",
    ),
];

/// A declaration and how it must be refused: code, place, help.
const DECLARATIONS: &[(&str, &str, &str, &str)] = &[
    ("set: a\n", "D006", ":1:1", "begin with  lab: 1"),
    ("lab: 1\n", "D006", ":1:1", "write  set: NAME"),
    ("lab: 9\nset: a\n", "D010", ":1:6", "write  lab: 1"),
    (
        "lab: 1\nset: [a\n",
        "D001",
        ":2:6",
        "indentation, quotes and brackets",
    ),
    (
        "lab: 1\nset: a\nlabel:\n  all: {}\n",
        "D003",
        ":3:1",
        "did you mean `labels`?",
    ),
    (
        "lab: 1\nset: a\nlabels:\n  all: {}\n  all: {}\n",
        "D004",
        ":5:3",
        "the first one is in line 4",
    ),
    (
        "lab: 1\nset: a\nlabels:\n  all: { classes: nginx }\n",
        "D005",
        ":4:19",
        "write it like [one, two]",
    ),
    (
        "lab: 1\nset: a\nlabels:\n  all: &x { params: { x: 1 } }\n",
        "D009",
        ":4:11",
        "remove `&…`",
    ),
    (
        "lab: 1\nset: a\nnodes:\n  N1: {}\n",
        "D012",
        ":4:3",
        "lower-case",
    ),
    (
        "lab: 1\nset: a\nvocabulary:\n  - site: { one-of: [home] }\nnodes:\n  n1: { labels: [site=hom] }\n",
        "D014",
        ":6:18",
        "did you mean `site=home`?",
    ),
    (
        "lab: 1\nset: a\nlabels:\n  all:\n    files: { \"/../etc/passwd\": { content: x } }\n",
        "D019",
        ":5:14",
        "an absolute path",
    ),
    (
        "lab: 1\nset: a\ngroups:\n  w: { include: \"role=web and\" }\n",
        "Q013",
        ":4:29",
        "add a label",
    ),
    (
        "lab: 1\nset: a\ngroups:\n  a: { include: \"@b\" }\n  b: { include: \"@a\" }\n",
        "Q034",
        ":4:18",
        "@b → @a → @b",
    ),
];

#[test]
fn bad_input_gets_code_help_and_exit_code() {
    let mut lab = TestLab::empty();
    lab.found("n1", Seat::loopback());
    lab.cli(0, &["label", "add", "role=web", "-t", "n1"]).ok();
    lab.write("bad.toml", "thread = 2\n");
    let before = lab.view(0);
    let mut wrong: BTreeMap<String, String> = BTreeMap::new();
    for (args, code, word, help) in COMMANDS {
        let ran = lab.cli(0, args);
        let is_right = ran.code == *code
            && ran.err.contains(word)
            && ran.err.contains(help)
            && ran.out.is_empty();
        if !is_right {
            let said = format!(
                "wanted {code}, `{word}`, `{help}`; got {}:\n{}",
                ran.code,
                ran.said()
            );
            wrong.insert(ran.line.clone(), said);
        }
        assert_eq!(
            lab.view(0).digest,
            before.digest,
            "`{}` changed something",
            ran.line
        );
    }
    for (text, code, place, help) in DECLARATIONS {
        let file = lab.write("bad.yaml", text);
        for verb in ["plan", "apply"] {
            let ran = lab.cli(0, &[verb, "-f", &file, "-y"]);
            let is_right = ran.code == 65
                && ran.err.contains(&format!("error[{code}]"))
                && ran.err.contains(&format!("bad.yaml{place}"))
                && ran.err.contains(help)
                && ran.err.contains("nothing was changed");
            if !is_right {
                let said = format!(
                    "wanted 65, {code} at {place}, `{help}`; got {}:\n{}",
                    ran.code,
                    ran.said()
                );
                wrong.insert(format!("{verb} of\n{text}"), said);
            }
        }
    }
    let report: String = wrong
        .iter()
        .map(|(line, said)| format!("\n=== {line}\n{said}"))
        .collect();
    assert!(wrong.is_empty(), "{report}");
    let after = lab.view(0);
    assert_eq!(
        (after.digest, after.fields, after.refused),
        (before.digest, before.fields, before.refused)
    );
    assert!(!lab.path("new").join("node.key").exists() && !lab.path("bob.key").exists());
}

#[test]
fn programs_get_the_same_mistakes_as_one_json_envelope() {
    let mut lab = TestLab::empty();
    lab.found("n1", Seat::loopback());
    for (args, code, exit) in [
        (vec!["label", "add", "canary", "-t", "n11"], "Q033", 3),
        (vec!["plan", "-f", "nowhere.yaml"], "C021", 65),
        (vec!["status", "--data", "./nowhere"], "C010", 69),
        (vec!["join", "hello", "--data", "./new"], "M030", 65),
    ] {
        let ran = lab
            .cli(0, &[args.as_slice(), &["-o", "json"]].concat())
            .ends_with(exit);
        let json = ran.json();
        assert_eq!(json["schema"], "lab.error/v1", "{}", ran.out);
        assert_eq!(json["exit"], exit, "{}", ran.out);
        assert_eq!(json["errors"][0]["code"], code, "{}", ran.out);
    }
}

#[test]
fn every_command_that_reads_also_speaks_json() {
    let mut lab = TestLab::empty();
    lab.found("n1", Seat::loopback());
    lab.cli(0, &["label", "add", "role=web", "-t", "n1"]).ok();
    for args in [
        vec!["status"],
        vec!["node", "list"],
        vec!["node", "show", "n1"],
        vec!["label", "list"],
        vec!["label", "show", "role=web"],
        vec!["target", "role=web"],
        vec!["token", "list"],
        vec!["operator", "list"],
        vec!["plan"],
        vec!["explain", "n1"],
        vec!["history"],
        vec!["doctor"],
    ] {
        let json = lab
            .cli(0, &[args.as_slice(), &["-o", "json"]].concat())
            .ends_with(0)
            .json();
        assert!(
            json["schema"].as_str().unwrap().starts_with("lab."),
            "{args:?}: {json}"
        );
        assert_eq!(json["exit"], 0, "{args:?}");
        assert!(!json["data"].is_null(), "{args:?}");
        let lines = lab
            .cli(0, &[args.as_slice(), &["-o", "ndjson"]].concat())
            .ok();
        for line in lines.lines() {
            serde_json::from_str::<serde_json::Value>(line)
                .unwrap_or_else(|e| panic!("{args:?}: {e}: {line}"));
        }
        assert!(
            !lab.cli(0, &args).ok().contains('\u{1b}'),
            "colours in a pipe: {args:?}"
        );
    }
}
