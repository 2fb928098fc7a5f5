//! The crate says what the slow reference in `fixtures/targeting/reference.py` says.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use lab_crdt_model::SpanError;
use lab_crdt_selector::{Expr, Fleet, Group, OwnedTarget, Trust, parse};
use serde_json::Value;

struct Fixture {
    fleet: Fleet,
    queries: Vec<Value>,
}

impl Fixture {
    fn read(text: &str) -> Self {
        let json: Value = serde_json::from_str(text).unwrap();
        let nodes = json["nodes"]
            .as_array()
            .unwrap()
            .iter()
            .map(target)
            .collect();
        let groups = json["groups"].as_object().unwrap();
        let groups = groups
            .iter()
            .map(|(name, value)| (name.clone(), group(value)))
            .collect();
        Self {
            fleet: Fleet::new(nodes, groups),
            queries: json["queries"].as_array().unwrap().clone(),
        }
    }
}

fn texts(value: &Value) -> Vec<String> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .map(|v| v.as_str().unwrap().to_owned())
        .collect()
}

fn target(value: &Value) -> OwnedTarget {
    OwnedTarget {
        name: value["name"].as_str().unwrap().to_owned(),
        labels: texts(&value["labels"])
            .iter()
            .map(|l| l.parse().unwrap())
            .collect(),
        attrs: value["attrs"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(k, v)| (k.clone(), texts(v)))
            .collect(),
        host: value["host"].as_str().map(str::to_owned),
        uses: texts(&value["uses"]).into_iter().collect(),
    }
}

fn group(value: &Value) -> Group {
    let expr = |key: &str| value[key].as_str().map(|text| parse(text).unwrap());
    Group {
        include: expr("include"),
        exclude: expr("exclude"),
        members: texts(&value["members"])
            .into_iter()
            .collect::<BTreeSet<_>>(),
    }
}

/// An error in the words of the fixture. What a regular expression lacks is said differently by
/// every library.
fn words(error: &SpanError) -> BTreeMap<&'static str, Value> {
    let mut words = BTreeMap::from([
        ("code", error.code.into()),
        ("message", error.message.clone().into()),
        ("start", error.span.start.into()),
        ("end", error.span.end.into()),
        ("label", error.label.clone().into()),
        ("help", error.help.clone().into()),
    ]);
    if error.code == "Q021" {
        words.insert("message", Value::Null);
    }
    words
}

fn wanted(value: &Value) -> BTreeMap<&'static str, Value> {
    let keys = ["code", "message", "start", "end", "label", "help"];
    let mut words: BTreeMap<_, _> = keys
        .into_iter()
        .map(|key| (key, value[key].clone()))
        .collect();
    if value["code"] == "Q021" {
        words.insert("message", Value::Null);
    }
    words
}

fn differences(fixture: &Fixture) -> Vec<String> {
    let mut out = Vec::new();
    for want in &fixture.queries {
        let text = want["query"].as_str().unwrap();
        let mut differ = |what: &str, ours: String, theirs: String| {
            if ours != theirs {
                out.push(format!(
                    "{text:?}: {what}\n    ours   {ours}\n    theirs {theirs}"
                ));
            }
        };
        let parsed = parse(text);
        let expr: &Expr = match &parsed {
            Ok(expr) => expr,
            Err(error) => {
                differ(
                    "error",
                    format!("{:?}", words(error)),
                    format!("{:?}", wanted(&want["error"])),
                );
                continue;
            }
        };
        differ(
            "normal form",
            expr.to_string(),
            want["normal"].as_str().unwrap_or("").to_owned(),
        );
        match fixture.fleet.check(expr, Trust::Any, false) {
            Err(error) => {
                differ(
                    "error",
                    format!("{:?}", words(&error)),
                    format!("{:?}", wanted(&want["error"])),
                );
            }
            Ok(()) => {
                let ours: Vec<_> = fixture.fleet.select(expr).into_iter().collect();
                differ(
                    "nodes",
                    format!("{ours:?}"),
                    format!("{:?}", texts(&want["nodes"])),
                );
                differ(
                    "error",
                    "none".to_owned(),
                    want.get("error")
                        .map_or("none".to_owned(), Value::to_string),
                );
            }
        }
        let ours = fixture.fleet.check(expr, Trust::Trusted, false).err();
        let ours = ours.map_or("none".to_owned(), |e| format!("{:?}", words(&e)));
        let theirs = want
            .get("distrust")
            .map_or("none".to_owned(), |e| format!("{:?}", wanted(e)));
        differ("distrust", ours, theirs);
    }
    out
}

fn agree(text: &str) {
    let fixture = Fixture::read(text);
    let differences = differences(&fixture);
    let shown: Vec<_> = differences.iter().take(20).map(String::as_str).collect();
    assert!(
        differences.is_empty(),
        "{} of {}:\n{}",
        differences.len(),
        fixture.queries.len(),
        shown.join("\n")
    );
}

#[test]
fn written_queries_agree_with_the_reference() {
    agree(include_str!("fixtures/targeting/home.json"));
}

#[test]
fn random_queries_agree_with_the_reference() {
    agree(include_str!("fixtures/targeting/random.json"));
}
