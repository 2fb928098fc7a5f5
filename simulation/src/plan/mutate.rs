//! Plans from plans: what reached something new is changed a little, to reach what lies next to it.

use std::collections::BTreeSet;

use crate::plan::shrink::without_nodes;
use crate::plan::{Action, Plan, loss_is_possible};
use crate::seed::{Rng, rng};

/// A plan like this one: another seed, shifted times, pieces left out or doubled, more or fewer nodes.
pub fn mutate(plan: &Plan, seed: u64) -> Plan {
    let mut dice = rng(seed, "mutation", 0);
    let mut out = plan.clone();
    out.seed = dice.next_u64();
    for _ in 0..dice.range(1..4) {
        match dice.below(6) {
            0 => shift(&mut dice, &mut out),
            1 => squeeze(&mut dice, &mut out),
            2 => drop_some(&mut dice, &mut out),
            3 => double_fault(&mut dice, &mut out),
            4 => resize(&mut dice, &mut out),
            _ => swap_nodes(&mut dice, &mut out),
        }
    }
    finish(out)
}

/// The actions of one plan up to a moment, and of another after it, under the faults of both.
pub fn splice(first: &Plan, second: &Plan, seed: u64) -> Plan {
    let mut dice = rng(seed, "splice", 0);
    let mut out = first.clone();
    out.seed = dice.next_u64();
    let cut = dice.range(first.phases.chaos_at()..first.phases.core_at());
    let nodes = first.nodes();
    let is_known = |a: &&Action| a.joins().is_none() && a.nodes().iter().all(|n| nodes.contains(n));
    out.actions.retain(|a| a.at_ms < cut);
    let end = first.phases.core_at();
    let late = second
        .actions
        .iter()
        .filter(|a| (cut..end).contains(&a.at_ms));
    out.actions.extend(late.filter(is_known).cloned());
    let number = |n: usize| (n < first.options.nodes).then_some(n);
    let faults = second
        .faults
        .iter()
        .filter(|f| f.at_ms < end && dice.chance(500));
    out.faults
        .extend(faults.filter_map(|f| f.renumbered(&number)));
    out.options.families.extend(&second.options.families);
    out.options.biases.extend(&second.options.biases);
    finish(out)
}

fn finish(mut plan: Plan) -> Plan {
    let end = plan.phases.core_at();
    plan.actions.retain(|a| a.at_ms < end);
    plan.faults.retain(|f| f.at_ms < end);
    plan.sort();
    plan.limits.is_loss_expected = loss_is_possible(&plan);
    plan
}

/// Single moments move by up to some seconds, or by a millisecond.
fn shift(dice: &mut Rng, plan: &mut Plan) {
    let from = plan.phases.chaos_at();
    let far = *dice.pick(&[2, 50, 5_000]).unwrap_or(&50);
    let mut moved = |at: &mut u64| {
        if *at > from && dice.chance(300) {
            *at = (*at + dice.below(far)).saturating_sub(far / 2).max(from);
        }
    };
    for action in &mut plan.actions {
        moved(&mut action.at_ms);
    }
    for fault in &mut plan.faults {
        moved(&mut fault.at_ms);
    }
}

/// Everything happens in half the time, or in less.
fn squeeze(dice: &mut Rng, plan: &mut Plan) {
    let (from, by) = (plan.phases.chaos_at(), dice.range(2..10));
    let squeezed = |at: &mut u64| {
        if *at > from {
            *at = from + (*at - from) / by;
        }
    };
    plan.actions.iter_mut().for_each(|a| squeezed(&mut a.at_ms));
    plan.faults.iter_mut().for_each(|f| squeezed(&mut f.at_ms));
}

fn drop_some(dice: &mut Rng, plan: &mut Plan) {
    let per_mille = dice.range(50..500);
    plan.actions.retain(|_| !dice.chance(per_mille));
    plan.faults.retain(|_| !dice.chance(per_mille));
}

fn double_fault(dice: &mut Rng, plan: &mut Plan) {
    let Some(mut fault) = dice.pick(&plan.faults).cloned() else {
        return;
    };
    fault.at_ms += dice.below(10_000);
    fault.for_ms = if dice.chance(500) {
        fault.for_ms / 2
    } else {
        fault.for_ms * 2
    };
    plan.faults.push(fault);
}

fn resize(dice: &mut Rng, plan: &mut Plan) {
    let nodes = plan.options.nodes;
    if nodes > 3 && dice.chance(500) {
        let gone: BTreeSet<usize> = (0..dice.range(1..nodes as u64 / 2 + 1))
            .map(|_| dice.below(nodes as u64) as usize)
            .collect();
        *plan = without_nodes(plan, &gone);
    } else {
        // New ones stand before those that join.
        let more = dice.range(1..nodes as u64 / 2 + 2) as usize;
        let number = |n: usize| Some(if n < nodes { n } else { n + more });
        plan.options.nodes += more;
        plan.actions = plan
            .actions
            .iter()
            .filter_map(|a| a.renumbered(&number))
            .collect();
    }
}

/// Two nodes change places in everything that is done, not in what goes wrong.
fn swap_nodes(dice: &mut Rng, plan: &mut Plan) {
    let nodes = plan.options.nodes as u64;
    let (a, b) = (dice.below(nodes) as usize, dice.below(nodes) as usize);
    let number = |n: usize| {
        Some(match n {
            n if n == a => b,
            n if n == b => a,
            n => n,
        })
    };
    plan.actions = plan
        .actions
        .iter()
        .filter_map(|action| action.renumbered(&number))
        .collect();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Profile, generate};

    #[test]
    fn what_comes_of_sensible_plans_is_sensible() {
        for seed in 0..200 {
            let (a, b) = (
                generate(seed, Profile::Homelab),
                generate(seed + 1, Profile::Homelab),
            );
            for plan in [mutate(&a, seed), splice(&a, &b, seed)] {
                assert_eq!(plan.check(), Ok(()), "seed {seed}");
                assert_eq!(plan.limits.is_loss_expected, loss_is_possible(&plan));
                assert_eq!(Plan::read(&plan.write()), Ok(plan));
            }
            assert_eq!(mutate(&a, seed), mutate(&a, seed));
            assert_ne!(mutate(&a, seed), mutate(&a, seed + 1));
        }
    }
}
