//! What a fleet answers: the mistakes it finds, trust, reasons and changes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use lab_crdt_selector::{Expr, Fleet, Group, OwnedTarget, Target, Trust, parse};

fn node(name: &str, labels: &[&str], attrs: &[(&str, &str)]) -> OwnedTarget {
    let mut out = OwnedTarget {
        name: name.to_owned(),
        ..OwnedTarget::default()
    };
    out.labels = labels.iter().map(|l| l.parse().unwrap()).collect();
    for (key, value) in attrs {
        out.attrs
            .entry((*key).to_owned())
            .or_default()
            .push((*value).to_owned());
    }
    out
}

fn group(include: &str, exclude: &str) -> Group {
    let expr = |text: &str| (!text.is_empty()).then(|| parse(text).unwrap());
    Group {
        include: expr(include),
        exclude: expr(exclude),
        members: BTreeSet::new(),
    }
}

fn groups(rows: &[(&str, &str, &str)]) -> BTreeMap<String, Group> {
    rows.iter()
        .map(|(name, include, exclude)| ((*name).to_owned(), group(include, exclude)))
        .collect()
}

fn home() -> Fleet {
    let mut ci = node("vm-ci1", &["role=ci"], &[]);
    ci.host = Some("xcp1".to_owned());
    ci.uses.insert("secret/token".to_owned());
    let nodes = vec![
        node(
            "nuc1",
            &["role=web", "role=dns", "site=home"],
            &[("fact.os.name", "debian")],
        ),
        node(
            "nuc2",
            &["role=web", "site=attic", "canary"],
            &[("fact.os.name", "ubuntu")],
        ),
        node(
            "pi1",
            &["role=dns", "site=attic"],
            &[("fact.os.name", "debian")],
        ),
        node("edge1", &["role=web"], &[("fact.mem.total", "16GiB")]),
        node("xcp1", &[], &[]),
        ci,
    ];
    let groups = groups(&[
        ("web", "role=web", ""),
        ("debian", "fact.os.name=debian", ""),
        ("safe", "@web", "@debian"),
        ("plain", "@web", "has canary"),
    ]);
    Fleet::new(nodes, groups)
}

fn q(text: &str) -> Expr {
    parse(text).unwrap_or_else(|e| panic!("{}", e.render("query", text)))
}

fn selected(fleet: &Fleet, text: &str) -> String {
    fleet
        .select(&q(text))
        .into_iter()
        .collect::<Vec<_>>()
        .join(" ")
}

fn entitled(fleet: &Fleet, text: &str) -> String {
    fleet
        .entitles(&q(text))
        .into_iter()
        .collect::<Vec<_>>()
        .join(" ")
}

fn mistake(text: &str, trust: Trust) -> String {
    home()
        .check(&q(text), trust, false)
        .expect_err(text)
        .render("query", text)
}

#[test]
fn an_unknown_key_is_refused_with_a_suggestion() {
    let want = "\
error[Q030]: no node has a label `rol`
  ╭─ query
  │ rol=web
  · ─┬─
  ·  ╰─ unknown label key
  ╰─ help: did you mean `role`?  (--allow-unknown accepts it)
";
    assert_eq!(mistake("rol=web", Trust::Any), want);
    assert!(home().check(&q("rol=web"), Trust::Any, true).is_ok());
    assert!(
        home()
            .with_keys(["rol".to_owned()])
            .check(&q("rol=web"), Trust::Any, false)
            .is_ok()
    );
}

#[test]
fn a_group_written_as_a_name_is_refused_with_a_suggestion() {
    let want = "\
error[Q033]: no node is called `web`
  ╭─ query
  │ web
  · ─┬─
  ·  ╰─ unknown name
  ╰─ help: `web` is a group: write `@web`
";
    assert_eq!(mistake("web", Trust::Any), want);
}

#[test]
fn a_value_of_the_wrong_type_is_refused() {
    let want = "\
error[Q031]: `lots` is not a size
  ╭─ query
  │ fact.mem.total > lots
  ·                  ─┬──
  ·                   ╰─ `fact.mem.total` is a size
  ╰─ help: write it like 16GiB
";
    assert_eq!(mistake("fact.mem.total > lots", Trust::Any), want);
}

#[test]
fn facts_cannot_grant_access() {
    let want = "\
error[Q040]: facts cannot grant access
  ╭─ query
  │ role=db and fact.os.name=debian
  ·             ─────┬──────
  ·                  ╰─ reported by the machine itself, so the machine could lie
  ╰─ help: secret and access rules may use labels, names and @groups only
";
    assert_eq!(
        mistake("role=db and fact.os.name=debian", Trust::Trusted),
        want
    );
    for text in [
        "@debian",
        "not @safe",
        "on(xcp1)",
        "uses(secret/token)",
        "has node.ip",
        "first(1, @{de,xx}*)",
    ] {
        let error = home()
            .check(&q(text), Trust::Trusted, false)
            .expect_err(text);
        assert_eq!(error.code, "Q040", "{text}");
    }
    for text in [
        "role=web",
        "@web and name=nuc1",
        "nuc1 @plain",
        "node.name=~/nuc/",
        "all except @web",
    ] {
        assert!(
            home().check(&q(text), Trust::Trusted, false).is_ok(),
            "{text}"
        );
    }
    let error = home()
        .check(&q("@safe"), Trust::Trusted, false)
        .unwrap_err();
    assert_eq!(
        error.label,
        "`@debian` uses `fact.os.name`, which is not declared by an operator"
    );
}

#[test]
fn only_what_is_certain_entitles() {
    let fleet = home();

    assert_eq!(entitled(&fleet, "role=web"), "edge1 nuc1 nuc2");
    assert_eq!(entitled(&fleet, "role=web and fact.os.name=debian"), "");
    assert_eq!(
        entitled(&fleet, "role=web or fact.os.name=debian"),
        "edge1 nuc1 nuc2"
    );
    assert_eq!(entitled(&fleet, "not fact.os.name=debian"), "");
    assert_eq!(entitled(&fleet, "all except @debian"), "");
    assert_eq!(entitled(&fleet, "@safe"), "");
    assert_eq!(entitled(&fleet, "@plain"), "edge1 nuc1");
    assert_eq!(entitled(&fleet, "not on(xcp1)"), "");
    assert_eq!(entitled(&fleet, "not uses(secret/token)"), "");
    assert_eq!(entitled(&fleet, "not @gone"), "");
    assert_eq!(entitled(&fleet, "not node.online=no"), "");
    assert_eq!(
        entitled(&fleet, "name=nuc1 or (role=dns and has status.sync)"),
        "nuc1"
    );
}

#[test]
fn a_count_over_unknown_nodes_entitles_only_those_it_always_reaches() {
    let fleet = home();

    assert_eq!(entitled(&fleet, "first(2, role=web)"), "edge1 nuc1");
    assert_eq!(
        entitled(&fleet, "first(2, role=web or fact.os.name=debian)"),
        "edge1 nuc1"
    );
    assert_eq!(
        entitled(&fleet, "first(1, role=dns or fact.os.name=debian)"),
        ""
    );
    assert_eq!(
        entitled(
            &fleet,
            "first(2, role=dns or (site=attic and has fact.arch))"
        ),
        "nuc1"
    );
    assert_eq!(
        entitled(&fleet, "not first(1, role=web)"),
        "nuc1 nuc2 pi1 vm-ci1 xcp1"
    );
    assert_eq!(
        entitled(&fleet, "sample(100%, role=web)"),
        "edge1 nuc1 nuc2"
    );
}

#[test]
fn circular_groups_select_nothing_even_when_negated() {
    let rows = [
        ("a", "role=web or @b", ""),
        ("b", "all", "@a"),
        ("c", "@a or nuc1", ""),
        ("self", "@self", ""),
    ];
    let mut fleet = home();
    fleet.set_groups(groups(&rows));

    for text in ["@a", "not @a", "@c", "all except @b", "not @self", "not @c"] {
        assert_eq!(selected(&fleet, text), "", "{text}");
        assert_eq!(entitled(&fleet, text), "", "{text}");
        assert_eq!(
            fleet.check(&q(text), Trust::Any, true).unwrap_err().code,
            "Q034",
            "{text}"
        );
    }
    assert_eq!(selected(&fleet, "nuc1 or @a"), "nuc1");
    let error = fleet
        .check(&q("nuc1 or @c"), Trust::Any, false)
        .unwrap_err();
    assert_eq!(error.label, "@a → @b → @a");
    assert_eq!(error.span.start, 8);
}

#[test]
fn long_chains_of_groups_are_followed() {
    let mut rows: BTreeMap<String, Group> = BTreeMap::new();
    rows.insert("g0".to_owned(), group("role=web", ""));
    for i in 1..5000 {
        rows.insert(format!("g{i}"), group(&format!("@g{}", i - 1), ""));
    }
    let mut fleet = home();
    fleet.set_groups(rows);

    assert_eq!(selected(&fleet, "@g4999"), "edge1 nuc1 nuc2");
    assert!(fleet.check(&q("@g4999"), Trust::Trusted, false).is_ok());
}

#[test]
fn matches_by_a_missing_key_are_counted() {
    let fleet = home();
    let missing = |text| fleet.missing_key_matches(&q(text));

    assert_eq!(selected(&fleet, "role!=web"), "pi1 vm-ci1 xcp1");
    assert_eq!(missing("role!=web"), 1);
    assert_eq!(missing("role=web"), 0);
    assert_eq!(missing("site!=attic"), 3);
    assert_eq!(missing("site!=attic and role=web"), 1);
    assert_eq!(missing("role=web or site!=attic"), 2);
    assert_eq!(missing("not has site"), 0);
    assert_eq!(missing("all except fact.os.name=debian"), 3);
}

#[test]
fn what_a_machine_is_made_of_compares_by_meaning_and_any_value_counts() {
    let disks = [
        ("fact.disk.name", "nvme0n1"),
        ("fact.disk.name", "sda"),
        ("fact.disk.size", "250059350016"),
        ("fact.disk.size", "4000787030016"),
        ("fact.disk.count", "2"),
        ("fact.disk.total", "249856000000"),
        ("fact.virt", "none"),
        ("fact.cpu.physical", "4"),
        ("fact.cpu.model", "Intel(R) Core(TM) i5-8259U CPU @ 2.30GHz"),
        ("fact.net.mac", "94:c6:91:00:00:01"),
    ];
    let mut nas = node("nas1", &[], &[]);
    for (key, value) in disks {
        let values = nas.attrs.entry(key.to_owned()).or_default();
        values.push(value.to_owned());
    }
    let vm = node(
        "vm1",
        &[],
        &[("fact.virt", "kvm"), ("fact.disk.count", "10")],
    );
    let fleet = Fleet::new(vec![nas, vm], BTreeMap::new());
    for (query, want) in [
        ("fact.virt=kvm", "vm1"),
        ("fact.virt=none", "nas1"),
        ("fact.disk.name=sda", "nas1"),
        ("fact.disk.size >= 1TB", "nas1"),
        ("fact.disk.size >= 8TB", ""),
        ("fact.disk.total > 200GB", "nas1"),
        ("fact.disk.count >= 9", "vm1"),
        ("fact.cpu.physical > 2", "nas1"),
        ("fact.cpu.model=*i5-8259U*", "nas1"),
        ("fact.net.mac=\"94:c6:91:00:00:01\"", "nas1"),
        ("fact.gpu=nvidia", ""),
    ] {
        assert_eq!(selected(&fleet, query), want, "{query}");
        let known = fleet.check(&q(query), Trust::Any, false);
        assert_eq!(known, Ok(()), "{query}");
    }
    let gone = fleet.check(&q("fact.uptime > 1d"), Trust::Any, false);
    assert!(gone.is_err(), "nothing reports it");
    let near = fleet.check(&q("fact.cpu.vender=intel"), Trust::Any, false);
    assert!(near.unwrap_err().to_string().contains("fact.cpu.vender"));
}

#[test]
fn reasons_name_what_made_a_node_match() {
    let fleet = home();
    let why = |text, node| fleet.why(&q(text), node).join("; ");

    let text = "role=web or role=dns and site=attic";
    assert_eq!(why(text, "nuc1"), "role=web");
    assert_eq!(why(text, "pi1"), "role=dns; site=attic");
    assert_eq!(why(text, "xcp1"), "");
    assert_eq!(why(text, "nowhere"), "");
    assert_eq!(why("role!=web", "pi1"), "role!=web");
    assert_eq!(why("role!=web", "xcp1"), "role!=web (role missing)");
    assert_eq!(
        why("not (role=web or has canary)", "pi1"),
        "role!=web; not has canary"
    );
    assert_eq!(why("@web 'nuc1' pi*", "nuc1"), "@web,nuc1");
    assert_eq!(why("@web except has canary", "nuc1"), "@web");
    assert_eq!(
        why("on(xcp1) and uses(secret/token)", "vm-ci1"),
        "on(xcp1); uses(secret/token)"
    );
    assert_eq!(why("role=web and role=web", "nuc1"), "role=web");
    let reasons = fleet.reasons(&q(text));
    assert_eq!(
        reasons.iter().map(|(name, _)| name).collect::<Vec<_>>(),
        ["edge1", "nuc1", "nuc2", "pi1"]
    );
    assert_eq!(reasons.of("nuc2"), ["role=web"]);
}

#[test]
fn labels_cannot_pose_as_observations() {
    let fleet = Fleet::new(
        vec![node(
            "a",
            &["fact.os.name=debian", "name=b", "node.name=b"],
            &[("role", "web"), ("node.name", "b")],
        )],
        BTreeMap::new(),
    );
    for text in [
        "fact.os.name=debian",
        "name=b",
        "node.name=b",
        "role=web",
        "has role",
    ] {
        assert_eq!(selected(&fleet, text), "", "{text}");
    }
    assert_eq!(selected(&fleet, "name=a"), "a");
}

#[test]
fn a_changed_node_is_found_under_its_new_labels_only() {
    let mut fleet = home();
    assert_eq!(selected(&fleet, "@plain"), "edge1 nuc1");

    fleet.upsert(node("nuc1", &["role=db"], &[]));
    fleet.remove("edge1");
    fleet.upsert(node("web9", &["role=web"], &[]));

    assert_eq!(selected(&fleet, "@plain"), "web9");
    assert_eq!(selected(&fleet, "role=db"), "nuc1");
    assert_eq!(selected(&fleet, "site=home"), "");
    assert_eq!(
        fleet
            .check(&q("edge1"), Trust::Any, false)
            .unwrap_err()
            .code,
        "Q033"
    );
    assert_eq!(fleet.groups_of("web9"), ["plain", "safe", "web"]);
    assert_eq!(fleet.len(), 6);
}

#[test]
fn a_borrowed_target_becomes_an_owned_one() {
    let labels = ["role=web".parse().unwrap()];
    let target = Target {
        name: "a",
        labels: &labels,
        attrs: BTreeMap::new(),
        host: Some("b"),
        uses: BTreeSet::new(),
    };
    let fleet = Fleet::new(vec![target.into(), node("b", &[], &[])], BTreeMap::new());
    assert_eq!(selected(&fleet, "on(b) and role=web"), "a");
    assert!(fleet.matches(&q("node.host=b"), "a"));
    assert_eq!(fleet.count(&q("all")), 2);
}

#[test]
fn an_empty_fleet_answers() {
    let fleet = Fleet::new(Vec::new(), BTreeMap::new());
    assert!(fleet.is_empty());
    for text in [
        "all",
        "not none",
        "first(50%, all)",
        "sample(3, all)",
        "not @x",
        "nuc*",
    ] {
        assert_eq!(selected(&fleet, text), "", "{text}");
    }
}
