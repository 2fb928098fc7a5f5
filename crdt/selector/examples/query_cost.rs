//! Prints what queries cost over 10,000 and 100,000 nodes, in microseconds: `cargo run --release -p
//! lab-crdt-selector --example query_cost`. The aim is 2 ms for a query over 10,000 nodes.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a benchmark measures and prints"
)]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use lab_crdt_selector::{Fleet, Group, OwnedTarget, parse};

const QUERIES: [&str; 17] = [
    "all",
    "nuc7",
    "nuc12*",
    "*77",
    "role=web",
    "role!=web",
    "role in (web, dns) and site!=attic except has canary",
    "role=w*",
    "env=prod,role=web,site=home",
    "@rollout",
    "@{web,dns} except @canary",
    "fact.mem.total ge 16GiB and fact.cpu.cores >= 8",
    "node.ip in 10.0.20.0/24",
    "name=~/^nuc[0-9]+5$/",
    "on(role=hypervisor)",
    "sample(20%, env=prod)",
    "first(3, @web)",
];

fn main() {
    for count in [1_000, 10_000, 100_000] {
        let started = Instant::now();
        let mut fleet = Fleet::new((0..count).map(node).collect(), groups());
        println!(
            "{count} nodes, indexed in {} ms",
            started.elapsed().as_millis()
        );
        println!(
            "{:>10} {:>10} {:>10} {:>8}  query",
            "set µs", "names µs", "trusted µs", "nodes"
        );
        for text in QUERIES {
            let expr = parse(text).expect("a query");
            let found = fleet.count(&expr);
            let set = median(|| {
                black_box(fleet.count(&expr));
            });
            let names = median(|| drop(black_box(fleet.select(&expr))));
            let trusted = median(|| drop(black_box(fleet.entitles(&expr))));
            println!(
                "{:>10.1} {:>10.1} {:>10.1} {found:>8}  {text}",
                micros(set),
                micros(names),
                micros(trusted)
            );
        }
        let expr = parse("@rollout").expect("a query");
        let mut turn = 0;
        let change = median(|| {
            turn += 1;
            let mut changed = node(turn % count);
            changed
                .labels
                .push(format!("turn={turn}").parse().expect("a label"));
            fleet.upsert(changed);
        });
        let changed_query = median(|| {
            turn += 1;
            let mut changed = node(turn % count);
            changed
                .labels
                .push(format!("turn={turn}").parse().expect("a label"));
            fleet.upsert(changed);
            black_box(fleet.count(&expr));
        });
        let parsing = median(|| drop(black_box(parse(QUERIES[6]))));
        println!(
            "{:>10.1} one label changed\n{:>10.1} the same, then @rollout\n{:>10.1} parse\n",
            micros(change),
            micros(changed_query),
            micros(parsing)
        );
    }
}

fn node(i: usize) -> OwnedTarget {
    let pick = |values: &[&str], step: usize| values[i / step % values.len()].to_owned();
    let mut labels = vec![
        format!(
            "role={}",
            pick(
                &["web", "dns", "db", "ci", "media", "hypervisor", "backup"],
                1
            )
        ),
        format!("site={}", pick(&["home", "attic", "aws"], 7)),
        format!("env={}", pick(&["prod", "prod", "prod", "dev"], 3)),
        format!("rack=r{}", i / 40),
    ];
    if i.is_multiple_of(50) {
        labels.push("canary".to_owned());
    }
    let mut attrs = BTreeMap::new();
    let mut set = |key: &str, value: String| attrs.insert(key.to_owned(), vec![value]);
    set("fact.os.name", pick(&["debian", "ubuntu"], 5));
    set(
        "fact.os.version",
        pick(&["12.5", "13.0", "11.9", "24.04"], 11),
    );
    set(
        "fact.mem.total",
        pick(&["4GiB", "8GiB", "16GiB", "64GiB"], 13),
    );
    set("fact.cpu.cores", pick(&["2", "4", "8", "16"], 17));
    set(
        "node.ip",
        format!("10.{}.{}.{}", i / 65_536, i / 256 % 256, i % 256),
    );
    set("node.seen", format!("{}s", i % 61));
    set("status.health", pick(&["ok", "ok", "ok", "degraded"], 19));
    OwnedTarget {
        name: format!("nuc{i}"),
        labels: labels.iter().map(|l| l.parse().expect("a label")).collect(),
        attrs,
        host: i.is_multiple_of(3).then(|| format!("nuc{}", i / 2)),
        uses: i
            .is_multiple_of(4)
            .then(|| "secret/tls".to_owned())
            .into_iter()
            .collect(),
    }
}

fn groups() -> BTreeMap<String, Group> {
    let group = |include: &str, exclude: &str| Group {
        include: Some(parse(include).expect("a query")),
        exclude: Some(parse(exclude).expect("a query")),
        members: ["nuc1".to_owned()].into(),
    };
    let rows = [
        ("web", "role=web", "none"),
        ("dns", "role=dns", "none"),
        ("prod", "env=prod", "none"),
        ("canary", "has canary", "none"),
        ("critical", "role in (db, hypervisor)", "none"),
        ("rollout", "@prod", "@canary or @critical"),
    ];
    rows.into_iter()
        .map(|(name, include, exclude)| (name.to_owned(), group(include, exclude)))
        .collect()
}

fn median(mut work: impl FnMut()) -> Duration {
    let mut times: Vec<Duration> = (0..31)
        .map(|_| {
            let started = Instant::now();
            work();
            started.elapsed()
        })
        .collect();
    times.sort();
    times[times.len() / 2]
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
