//! Queries as people type them.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use lab_crdt_model::Label;
use lab_crdt_selector::{Fleet, Group, OwnedTarget, Trust, parse};

static FLEET: LazyLock<Fleet> = LazyLock::new(fleet);

/// A targeting query. Its normal form means the same.
pub fn selector(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let expr = match parse(&text) {
        Ok(expr) => expr,
        Err(error) => {
            assert!(
                error.span.start <= error.span.end && error.span.end <= text.len() + 1,
                "{error:?}"
            );
            let _shown = error.render("query", &text);
            return;
        }
    };
    let printed = expr.to_string();
    let again = parse(&printed).unwrap_or_else(|error| panic!("{printed}: {error}"));
    assert_eq!(
        again.to_string(),
        printed,
        "the normal form is its own normal form"
    );

    let fleet = &*FLEET;
    let selected = fleet.select(&expr);
    assert_eq!(fleet.select(&again), selected, "{printed}");
    let _known = fleet.check(&expr, Trust::Any, false);
    if fleet.check(&expr, Trust::Trusted, true).is_ok() {
        assert!(fleet.entitles(&expr).is_subset(&selected), "{printed}");
    }
    if let Some(node) = selected.first() {
        let _why = fleet.why(&expr, node);
    }
    let _count = fleet.missing_key_matches(&expr);
}

fn fleet() -> Fleet {
    let node = |name: &str, labels: &[&str], facts: &[(&str, &str)]| OwnedTarget {
        name: name.to_owned(),
        labels: labels
            .iter()
            .map(|l| l.parse::<Label>().expect("a label"))
            .collect(),
        attrs: facts
            .iter()
            .map(|(k, v)| ((*k).to_owned(), vec![(*v).to_owned()]))
            .collect(),
        host: None,
        uses: ["secret/tls-wild".to_owned()].into(),
    };
    let nodes = vec![
        node(
            "nuc1",
            &["role=web", "site=home", "canary"],
            &[("fact.mem.total", "8589934592"), ("node.seen", "4s")],
        ),
        node(
            "nuc2",
            &["role=web", "role=dns", "site=home"],
            &[("fact.os.version", "12"), ("node.ip", "10.0.20.7")],
        ),
        node("pi1", &["site=attic"], &[("status.health", "ok")]),
        node("nas1", &["role=storage", "env=prod"], &[]),
    ];
    let query = |text: &str| Some(parse(text).expect("a query"));
    let groups = BTreeMap::from([
        (
            "web".to_owned(),
            Group {
                include: query("role=web"),
                exclude: query("canary=x"),
                members: ["pi1".to_owned()].into(),
            },
        ),
        (
            "circle".to_owned(),
            Group {
                include: query("@circle or @web"),
                ..Group::default()
            },
        ),
    ]);
    Fleet::new(nodes, groups)
}
