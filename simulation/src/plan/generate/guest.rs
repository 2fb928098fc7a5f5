//! Draws adversaries, and programs of later versions.

use std::collections::BTreeSet;

use super::Choose;
use crate::adversary::NAMES;
use crate::plan::{Act, Action, Family, Plan, Right};
use crate::seed::Rng;

/// The person whose key adversaries stole.
const ROBBED: u8 = 7;
/// The person whose program is of a later version.
const MODERN: u8 = 8;

/// Adds what adversaries and later versions do, all during chaos. Adversaries have machines out of `rotten`.
pub(super) fn add(dice: &mut Rng, plan: &mut Plan, rotten: &BTreeSet<usize>) {
    let honest: Vec<usize> = (0..plan.options.nodes)
        .filter(|n| !rotten.contains(n))
        .collect();
    let owned: Vec<usize> = rotten.iter().copied().collect();
    if honest.is_empty() {
        return;
    }
    if plan.options.families.contains(&Family::Adversary) && !owned.is_empty() {
        let is_revoked = dice.chance(400);
        grant(dice, plan, ROBBED, &honest);
        for _ in 0..dice.range(1..3) {
            let name = *dice.choose(&NAMES);
            let node = *dice.choose(&owned);
            for _ in 0..dice.range(1..6) {
                act(dice, plan, ROBBED, node, name);
            }
        }
        if is_revoked {
            let at_ms = moment(dice, plan);
            let what = Act::RevokeOperator {
                of: ROBBED,
                is_cut: dice.chance(500),
            };
            let node = *dice.choose(&honest);
            push(plan, at_ms, 0, node, what);
        }
    }
    if plan.options.families.contains(&Family::Future) {
        grant(dice, plan, MODERN, &honest);
        let node = *dice.choose(&honest);
        for _ in 0..dice.range(1..5) {
            act(dice, plan, MODERN, node, "future");
        }
    }
}

fn push(plan: &mut Plan, at_ms: u64, who: u8, node: usize, what: Act) {
    plan.actions.push(Action {
        at_ms,
        who,
        node,
        what,
    });
}

fn moment(dice: &mut Rng, plan: &Plan) -> u64 {
    dice.range(plan.phases.chaos_at()..plan.phases.core_at())
}

fn grant(dice: &mut Rng, plan: &mut Plan, to: u8, honest: &[usize]) {
    let what = Act::Grant {
        to,
        rights: vec![Right::Labels, Right::Config],
        scope: vec![String::new()],
        ends_ms: None,
    };
    let node = *dice.choose(honest);
    push(plan, 2_500 + u64::from(to), 0, node, what);
}

fn act(dice: &mut Rng, plan: &mut Plan, who: u8, node: usize, name: &str) {
    let at_ms = moment(dice, plan);
    let what = Act::Adversary {
        name: name.to_owned(),
        with: dice.next_u64(),
    };
    push(plan, at_ms, who, node, what);
}
