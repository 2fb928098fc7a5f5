//! Laws of the language.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use lab_crdt_selector::{Expr, Fleet, Group, OwnedTarget, Trust, parse};
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use proptest::sample::select;

const LABELS: [&str; 8] = [
    "role=web",
    "role=dns",
    "role=db",
    "site=home",
    "site=attic",
    "canary",
    "rack=3",
    "x=in",
];

/// A node out of small numbers: its name, its labels, what it reports.
fn node(name: u8, labels: &BTreeSet<usize>, os: u8, host: u8) -> OwnedTarget {
    let mut out = OwnedTarget {
        name: format!("nuc{name}"),
        ..OwnedTarget::default()
    };
    out.labels = labels.iter().map(|i| LABELS[*i].parse().unwrap()).collect();
    let reported = ["debian", "ubuntu", ""][usize::from(os % 3)];
    if !reported.is_empty() {
        out.attrs
            .insert("fact.os.name".to_owned(), vec![reported.to_owned()]);
        out.attrs
            .insert("fact.mem.total".to_owned(), vec![format!("{os}GiB")]);
    }
    out.host = (host < 12).then(|| format!("nuc{host}"));
    out.uses = os
        .is_multiple_of(2)
        .then(|| "secret/a".to_owned())
        .into_iter()
        .collect();
    out
}

fn nodes() -> impl Strategy<Value = Vec<OwnedTarget>> {
    let row = (
        0u8..12,
        btree_set(0..LABELS.len(), 0..5),
        any::<u8>(),
        0u8..24,
    );
    vec(
        row.prop_map(|(name, labels, os, host)| node(name, &labels, os, host)),
        0..16,
    )
}

fn groups() -> BTreeMap<String, Group> {
    let rows = [
        ("web", "role=web", "none"),
        ("mixed", "@web or fact.os.name=debian", "site=attic"),
        ("deep", "all", "@mixed"),
        ("loop", "role=db or @loop", "none"),
    ];
    let group = |include, exclude| Group {
        include: Some(parse(include).unwrap()),
        exclude: Some(parse(exclude).unwrap()),
        members: BTreeSet::from(["nuc3".to_owned()]),
    };
    rows.into_iter()
        .map(|(name, include, exclude)| (name.to_owned(), group(include, exclude)))
        .collect()
}

/// A query that parses.
fn query() -> impl Strategy<Value = String> {
    let atoms = vec![
        "all",
        "none",
        "nuc1",
        "nuc1,nuc2",
        "nuc*",
        "nuc{2..5} nuc7",
        "'nuc1'",
        "@web",
        "@mixed",
        "@deep",
        "@loop",
        "@*e*",
        "@gone",
        "role=web",
        "role!=web",
        "role==d*",
        "role in web,dns",
        "role not in (web, 'db')",
        "role=web,site=home",
        "has canary",
        "has(site)",
        "canary=''",
        "x=\"in\"",
        "rack ge 2",
        "name=~/[1-4]$/",
        "site!~'at/?'",
        "fact.os.name=debian",
        "fact.mem.total >= 64GiB",
        "has fact.os.name",
        "uses(secret/a)",
        "uses(secret/*)",
        "\"@web\"",
        "role='a\\*'",
        "nuc{1, 2}",
        "ghost",
        "role=\"\"",
    ];
    let leaf = select(atoms).prop_map(str::to_owned);
    leaf.prop_recursive(5, 24, 3, |inner| {
        let pair = (inner.clone(), inner.clone());
        let not = select(vec!["not ", "!", "NOT "]);
        let joiner = select(vec!["and", "or", "except", "&&", "||", "OR"]);
        prop_oneof![
            3 => (pair, joiner).prop_map(|((a, b), word)| format!("{a} {word} {b}")),
            2 => inner.clone().prop_map(|a| format!("({a})")),
            2 => (not, inner.clone()).prop_map(|(not, a)| format!("{not}{a}")),
            1 => inner.clone().prop_map(|a| format!("on({a})")),
            1 => (select(vec!["first", "sample"]), select(vec!["1", "3", "50%", "0"]), inner)
                .prop_map(|(function, count, a)| format!("{function}({count}, {a})")),
        ]
    })
}

/// Texts made of pieces of the language, most of them wrong.
fn nearly_query() -> impl Strategy<Value = String> {
    let pieces = vec![
        " ",
        " ",
        "(",
        ")",
        ",",
        "=",
        "!=",
        "=~",
        "!~",
        "<",
        ">=",
        "!",
        "&&",
        "||",
        "&",
        "|",
        "~",
        ";",
        "'",
        "\"",
        "\\",
        "/",
        "/i",
        "{",
        "}",
        "[",
        "]",
        "{1..3}",
        "*",
        "?",
        "@",
        "@web",
        "nuc1",
        "role",
        "web",
        "and",
        "or",
        "not",
        "in",
        "has",
        "except",
        "all",
        "first(",
        "sample(2,",
        "on(",
        "uses(",
        "20%",
        "lt",
        "é",
        "\u{2003}",
        "name",
        "fact.mem.total",
        "node.ip",
        "10.0.0.0/8",
        "16GiB",
        "99999999999999999999",
    ];
    vec(select(pieces), 0..40).prop_map(|pieces| pieces.concat())
}

fn use_everything(text: &str) {
    let fleet = Fleet::new(vec![node(1, &BTreeSet::from([0, 3]), 3, 2)], groups());
    match parse(text) {
        Ok(expr) => {
            let _ = fleet
                .check(&expr, Trust::Any, false)
                .map_err(|e| e.render("query", text));
            let _ = fleet
                .check(&expr, Trust::Trusted, true)
                .map_err(|e| e.render("query", text));
            assert_eq!(
                fleet.select(&expr).contains("nuc1"),
                !fleet.why(&expr, "nuc1").is_empty(),
                "{text}"
            );
            assert!(
                fleet.entitles(&expr).is_subset(&fleet.select(&expr)),
                "{text}"
            );
            assert!(fleet.missing_key_matches(&expr) <= 1, "{text}");
            assert_eq!(parse(&expr.to_string()).as_ref(), Ok(&expr), "{text}");
        }
        Err(error) => {
            assert!(error.span.start <= error.span.end, "{text}");
            assert!(error.span.end <= text.len() + 1, "{text}");
            assert!(error.render("query", text).starts_with("error[Q"), "{text}");
        }
    }
}

fn q(text: &str) -> Expr {
    parse(text).unwrap_or_else(|e| panic!("{}", e.render("query", text)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn no_text_panics(text in any::<String>()) {
        use_everything(&text);
    }

    #[test]
    fn no_nearly_right_text_panics(text in nearly_query()) {
        use_everything(&text);
    }

    #[test]
    fn parse_of_print_is_identity(text in query()) {
        let expr = q(&text);
        let printed = expr.to_string();
        prop_assert_eq!(q(&printed).to_string(), printed);
    }

    #[test]
    fn printing_keeps_the_meaning(text in query(), nodes in nodes()) {
        let fleet = Fleet::new(nodes, groups());
        let expr = q(&text);
        let selected = fleet.select(&expr);
        prop_assert_eq!(&fleet.select(&q(&expr.to_string())), &selected);
        if let Some(echo) = expr.reads_as() {
            prop_assert_eq!(fleet.select(&q(&echo)), selected);
        }
    }

    #[test]
    fn sets_obey_their_algebra(a in query(), b in query(), nodes in nodes()) {
        let fleet = Fleet::new(nodes, groups());
        let select = |text: String| fleet.select(&q(&text));
        let neither = select(format!("not ({a}) and not ({b})"));
        prop_assert_eq!(select(format!("not (({a}) or ({b}))")), neither);
        let only_a = select(format!("({a}) and not ({b})"));
        prop_assert_eq!(select(format!("({a}) except ({b})")), only_a);
        prop_assert_eq!(select(format!("not not ({a})")), select(a.clone()));
        prop_assert_eq!(select(format!("({a}) or ({a})")), select(a));
    }

    #[test]
    fn an_updated_index_equals_a_new_one(first in nodes(), second in nodes(), text in query()) {
        let mut updated = Fleet::new(first.clone(), groups());
        let expr = q(&text);
        updated.select(&expr);
        for node in first.iter().take(3) {
            updated.remove(&node.name);
        }
        for node in &second {
            updated.upsert(node.clone());
            updated.select(&expr);
        }

        let mut last: BTreeMap<String, OwnedTarget> = BTreeMap::new();
        let kept = Fleet::new(first.clone(), BTreeMap::new());
        for node in &first {
            last.insert(node.name.clone(), node.clone());
        }
        for node in first.iter().take(3) {
            last.remove(&node.name);
        }
        for node in second {
            last.insert(node.name.clone(), node);
        }
        let rebuilt = Fleet::new(last.into_values().collect(), groups());

        prop_assert!(kept.len() <= 12);
        prop_assert_eq!(updated.select(&expr), rebuilt.select(&expr));
        prop_assert_eq!(updated.entitles(&expr), rebuilt.entitles(&expr));
        prop_assert_eq!(updated.missing_key_matches(&expr), rebuilt.missing_key_matches(&expr));
        prop_assert_eq!(updated.keys(), rebuilt.keys());
    }

    /// Whatever machines report, nobody is entitled who would not be selected.
    #[test]
    fn no_report_changes_who_is_entitled(
        text in query(),
        nodes in nodes(),
        lies in vec((any::<u8>(), 0u8..24), 16),
    ) {
        let expr = q(&text);
        let honest = Fleet::new(nodes.clone(), groups());
        let names = nodes.iter().map(|n| n.name.trim_start_matches("nuc").parse().unwrap());
        let lying = nodes.iter().zip(names).zip(lies).map(|((n, name), (os, host))| {
            OwnedTarget { labels: n.labels.clone(), ..node(name, &BTreeSet::new(), os, host) }
        });
        let lying = Fleet::new(lying.collect(), groups());

        prop_assert_eq!(honest.entitles(&expr), lying.entitles(&expr));
        if !text.contains("@gone") {
            prop_assert!(honest.entitles(&expr).is_subset(&honest.select(&expr)));
            prop_assert!(honest.entitles(&expr).is_subset(&lying.select(&expr)));
        }
    }

    /// What can be declared as an access rule has no unknown part, so both evaluations agree.
    #[test]
    fn accepted_access_rules_entitle_what_they_select(text in query(), nodes in nodes()) {
        let fleet = Fleet::new(nodes, groups());
        let expr = q(&text);
        if fleet.check(&expr, Trust::Trusted, false).is_ok() {
            prop_assert_eq!(fleet.entitles(&expr), fleet.select(&expr));
        }
    }
}
