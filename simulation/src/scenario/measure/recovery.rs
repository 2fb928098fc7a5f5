//! How long it takes until all is well again, and what that costs.

use lab_crdt_log::WitnessRule;
use lab_crdt_model::Value;
use lab_crdt_model::view::Role;

use super::{Figure, Setup, form, percentile, watch};
use crate::World;
use crate::seed;

const APART_MS: u64 = 1_800_000;

/// Two halves drawn at random are apart for half an hour; someone works in each.
pub(super) fn heal(setup: &Setup) -> Vec<Figure> {
    let mut world = form(setup);
    let admin = world.admin.clone();
    let mut dice = seed::rng(setup.seed, "halves", 0);
    let mut all: Vec<usize> = (0..setup.nodes).collect();
    dice.shuffle(&mut all);
    let (left, right) = all.split_at(setup.nodes / 2);
    world.partition(left, right);
    watch(&mut world, APART_MS / 2, |_| false);
    for (n, half) in [left, right, left].into_iter().enumerate() {
        if let Some(node) = half.first() {
            admin.set(
                &mut world,
                *node,
                &format!("on/role=nobody/params/h{n}"),
                Value::Int(1),
            );
        }
    }
    watch(&mut world, APART_MS / 2, |_| false);
    let (before, start) = (sent(&world), world.now_ms());
    world.heal();
    let is_whole = world.run_until(300_000, |w| w.are_equal());
    let took = is_whole.then(|| world.now_ms() - start);
    watch(&mut world, 60_000, |_| false);
    let cost = (sent(&world) - before) / setup.nodes as u64;
    vec![
        Figure::time("equal", took).at_most(60_000, "60 s"),
        Figure::count("sent per node in the next minute", cost / 1_000, "kB"),
    ]
}

fn sent(world: &World) -> u64 {
    (0..world.len()).map(|n| world.counters(n).bytes_out).sum()
}

/// All nodes lose power at once; ten minutes later they start within five seconds.
pub(super) fn reboot(setup: &Setup) -> Vec<Figure> {
    let mut world = form(setup);
    let admin = world.admin.clone();
    for node in 0..setup.nodes {
        world.kill(node);
    }
    world.run_for(600_000);
    let (before, dialled) = (sent(&world), dials(&world));
    for node in 0..setup.nodes {
        world.start(node);
        if node % (setup.nodes / 50).max(1) == 0 {
            world.run_for(5_000 / setup.nodes.min(50) as u64);
        }
    }
    let start = world.now_ms();
    admin.set(
        &mut world,
        setup.nodes / 2,
        "on/role=nobody/params/up",
        Value::Int(1),
    );
    let is_whole = world.run_until(300_000, |w| w.are_equal());
    let took = is_whole.then(|| world.now_ms() - start);
    watch(&mut world, 30_000, |_| false);
    let nodes = setup.nodes as u64;
    vec![
        Figure::time("a change reaches all", took).at_most(60_000, "60 s"),
        Figure::count(
            "sent per node",
            (sent(&world) - before) / nodes / 1_000,
            "kB",
        ),
        Figure::count("dials per node", (dials(&world) - dialled) / nodes, ""),
    ]
}

fn dials(world: &World) -> u64 {
    (0..world.len()).map(|n| world.counters(n).dials).sum()
}

/// A fifth as many newcomers as there are nodes join within two seconds, each with a token of its own.
pub(super) fn join(setup: &Setup) -> Vec<Figure> {
    let mut world = form(setup);
    let count = (setup.nodes / 5).max(1);
    let tokens: Vec<_> = (0..count)
        .map(|n| {
            world.token(
                n % setup.nodes,
                &format!("new{n}"),
                Role::Node,
                &[],
                WitnessRule::Any,
            )
        })
        .collect();
    let _is_known = world.run_until(30_000, |w| w.are_equal());
    let before = sent(&world);
    let mut begun = Vec::new();
    for token in tokens {
        begun.push((world.join(token, None), world.now_ms()));
        world.run_for(2_000 / count as u64);
    }
    let mut times: Vec<u64> = Vec::new();
    let end = world.now_ms() + 120_000;
    while !begun.is_empty() && world.now_ms() < end {
        world.run_for(20);
        let now = world.now_ms();
        begun.retain(|(node, at)| {
            let is_in = world.is_member(*node);
            if is_in {
                times.push(now - at);
            }
            !is_in
        });
    }
    times.sort_unstable();
    let last = world.now_ms();
    let is_equal = world.run_until(120_000, |w| w.are_equal());
    let settled = is_equal.then(|| world.now_ms() - last);
    vec![
        Figure::count("newcomers", count as u64, ""),
        Figure::time("join p50", percentile(&times, 50)),
        Figure::time("join p99", percentile(&times, 99)),
        Figure::count("not joined", begun.len() as u64, "").at_most(0, "0"),
        Figure::time("equal after the last", settled).at_most(60_000, "60 s"),
        Figure::count(
            "sent per newcomer",
            (sent(&world) - before) / count as u64 / 1_000,
            "kB",
        ),
    ]
}
