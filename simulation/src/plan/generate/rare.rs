//! Draws what hardly ever comes together by chance, each in a few plans.
//!
//! From a stream of its own: plans without any of it are what they were.

use std::collections::BTreeSet;

use lab_crdt_model::Value;

use super::Choose;
use crate::plan::{
    Act, Action, Family, Fault, NetworkFault, Plan, ProcessFault, Right, Scope, Trouble,
};
use crate::seed::Rng;

/// Someone who may set labels and nothing else.
const NARROW: u8 = 9;
/// Someone whose key is cut at two places.
const TWICE_CUT: u8 = 10;

/// Adds it, all during chaos. Nobody speaks at machines out of `rotten`.
pub(super) fn add(dice: &mut Rng, plan: &mut Plan, rotten: &BTreeSet<usize>) {
    let honest: Vec<usize> = (0..plan.options.nodes)
        .filter(|n| !rotten.contains(n))
        .collect();
    if honest.len() < 2 || plan.phases.chaos_ms < 40_000 {
        return;
    }
    if dice.chance(150) {
        lacking_right(dice, plan, &honest);
    }
    if dice.chance(150) {
        two_cuts(dice, plan, &honest);
    }
    if dice.chance(60) {
        feast(dice, plan, &honest);
    }
    if plan.options.families.contains(&Family::Crash) && dice.chance(500) {
        shut_down(dice, plan);
    }
}

fn moment(dice: &mut Rng, plan: &Plan, before_end_ms: u64) -> u64 {
    dice.range(plan.phases.chaos_at()..plan.phases.core_at() - before_end_ms)
}

fn say(plan: &mut Plan, at_ms: u64, who: u8, node: usize, what: Act) {
    plan.actions.push(Action {
        at_ms,
        who,
        node,
        what,
    });
}

fn set(path: &str, value: u64) -> Act {
    Act::Set {
        path: path.to_owned(),
        value: Value::Int(value as i64),
    }
}

fn grant(plan: &mut Plan, to: u8, node: usize, rights: &[Right]) {
    let what = Act::Grant {
        to,
        rights: rights.to_vec(),
        scope: vec![String::new()],
        ends_ms: None,
    };
    say(plan, 3_500 + u64::from(to) * 100, 0, node, what);
}

fn lacking_right(dice: &mut Rng, plan: &mut Plan, honest: &[usize]) {
    grant(plan, NARROW, *dice.choose(honest), &[Right::Labels]);
    for n in 0..2 {
        let (at, node) = (moment(dice, plan, 1), *dice.choose(honest));
        say(plan, at, NARROW, node, set("on/all/params/narrow", n));
    }
}

/// An admin revokes a key here and, having heard nothing of it there, once more; its owner goes on elsewhere.
fn two_cuts(dice: &mut Rng, plan: &mut Plan, honest: &[usize]) {
    let rights = [Right::Labels, Right::Config];
    grant(plan, TWICE_CUT, *dice.choose(honest), &rights);
    let at = moment(dice, plan, 30_000);
    let path = "on/all/params/twice-cut";
    for n in 0..4 {
        let node = *dice.choose(honest);
        say(plan, at + n * 900, TWICE_CUT, node, set(path, n));
    }
    let cut_at = at + 1_500 + dice.below(2_000);
    let apart = Scope::Only([*dice.choose(honest)].into());
    plan.faults.push(Fault {
        at_ms: at + dice.below(3_000),
        plus_us: 0,
        for_ms: 10_000,
        nodes: Vec::new(),
        what: Trouble::Network(NetworkFault::Isolate { hosts: apart }),
    });
    for n in 0..2 {
        let what = Act::RevokeOperator {
            of: TWICE_CUT,
            is_cut: dice.chance(300),
        };
        let node = *dice.choose(honest);
        say(plan, cut_at + n * dice.range(500..20_000), 0, node, what);
    }
    for n in 0..3 {
        let (when, node) = (cut_at + n * 1_500, *dice.choose(honest));
        say(plan, when, TWICE_CUT, node, set(path, 10 + n));
    }
}

/// A machine hears nothing while more is said than fits into one message: few long values that are no config, as all
/// others would take minutes of processor time.
fn feast(dice: &mut Rng, plan: &mut Plan, honest: &[usize]) {
    let at = moment(dice, plan, 30_000);
    let hungry = *dice.choose(honest);
    let others: Vec<usize> = honest.iter().copied().filter(|n| *n != hungry).collect();
    plan.faults.push(Fault {
        at_ms: at,
        plus_us: 0,
        for_ms: 20_000,
        nodes: Vec::new(),
        what: Trouble::Network(NetworkFault::Isolate {
            hosts: Scope::Only([hungry].into()),
        }),
    });
    let node = *dice.choose(&others);
    for n in 0..dice.range(8..14) {
        let what = Act::Bulk {
            prefix: format!("nowhere/feast{n}-"),
            count: 4,
            value: Value::text("x".repeat(10_000)),
        };
        say(plan, at + 1_000 + n * 1_000, 0, node, what);
    }
}

/// A machine is shut down in order, and started again.
fn shut_down(dice: &mut Rng, plan: &mut Plan) {
    plan.faults.push(Fault {
        at_ms: moment(dice, plan, 1),
        plus_us: 0,
        for_ms: dice.range(100..40_000),
        nodes: vec![dice.below(plan.options.nodes as u64) as usize],
        what: Trouble::Process(ProcessFault::ShutDown),
    });
}
