//! Many plans, one after the other, guided by what they reach.
//!
//! A plan that reaches a mark that no plan reached before is kept, and from then on every other plan is a mutation of
//! one that is kept. Nothing here reads a clock or writes a file: whoever calls says when to stop and where to keep.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::plan::{Outcome, Plan, Profile, Violation, generate_sized, mutate, splice};
use crate::seed::rng;

/// What a swarm runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Swarm {
    /// The profile of its plans.
    pub profile: Profile,
    /// How many nodes they have.
    pub nodes: usize,
    /// The seeds; one plan each. Several processes share the work by dividing the seeds.
    pub seeds: Range<u64>,
    /// Out of a thousand plans, how many are mutations once something is kept.
    pub mutation_per_mille: u64,
    /// Plans that earlier swarms kept.
    pub kept: Vec<Plan>,
}

/// What one plan gave.
#[derive(Debug)]
pub struct Finding<'a> {
    /// The seed that it came from.
    pub seed: u64,
    /// The plan.
    pub plan: &'a Plan,
    /// What its run gave.
    pub outcome: &'a Outcome,
    /// Marks that no plan before had reached; if there are any, the plan is worth keeping.
    pub new_marks: Vec<&'static str>,
}

/// What a swarm gave.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// Plans that were run.
    pub plans: u64,
    /// Virtual seconds times nodes.
    pub node_seconds: u64,
    /// Plans that failed, by the oracle that failed first, with their seeds.
    pub failures: BTreeMap<&'static str, Vec<u64>>,
    /// Marks that were reached, and how often in all.
    pub marks: BTreeMap<&'static str, u64>,
    /// Plans that reached something first.
    pub kept: Vec<Plan>,
}

/// Runs a swarm until its seeds are used up or `is_over`. `run` runs one plan; `found` sees every result.
pub fn swarm(
    swarm: &Swarm,
    run: &mut dyn FnMut(&Plan) -> Outcome,
    is_over: &mut dyn FnMut() -> bool,
    found: &mut dyn FnMut(&Finding<'_>),
) -> Report {
    let mut report = Report::default();
    let mut pool = swarm.kept.clone();
    for seed in swarm.seeds.clone() {
        if is_over() {
            break;
        }
        let plan = next(swarm, &pool, seed);
        let outcome = run(&plan);
        report.plans += 1;
        report.node_seconds += outcome.stats.virtual_ms / 1_000 * outcome.stats.nodes;
        if let Some(Violation { oracle, .. }) = outcome.violations.first() {
            report.failures.entry(oracle).or_default().push(seed);
        }
        let mut new_marks = Vec::new();
        for (name, count) in &outcome.marks {
            let all = report.marks.entry(name).or_default();
            if *all == 0 {
                new_marks.push(*name);
            }
            *all += count;
        }
        found(&Finding {
            seed,
            plan: &plan,
            outcome: &outcome,
            new_marks: new_marks.clone(),
        });
        if !new_marks.is_empty() {
            pool.push(plan.clone());
            report.kept.push(plan);
        }
    }
    report
}

/// The plan of a seed, given what is kept.
fn next(swarm: &Swarm, pool: &[Plan], seed: u64) -> Plan {
    let mut dice = rng(seed, "swarm", 0);
    let parent = dice
        .pick(pool)
        .filter(|_| dice_of(seed) < swarm.mutation_per_mille);
    match (parent, dice.pick(pool)) {
        (Some(parent), Some(other)) if dice.chance(300) => splice(parent, other, seed),
        (Some(parent), _) => mutate(parent, seed),
        _ => generate_sized(seed, swarm.profile, swarm.nodes),
    }
}

fn dice_of(seed: u64) -> u64 {
    rng(seed, "swarm mutates", 0).below(1_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Act, Stats};

    /// As if every kind of action were a mark, and a decommission at night a violation.
    fn pretend(plan: &Plan) -> Outcome {
        let mut marks = BTreeMap::new();
        for action in &plan.actions {
            match action.what {
                Act::Bulk { count, .. } if count > 900 => {
                    *marks.entry("a very large edit").or_default() += 1;
                }
                Act::Undo => *marks.entry("an undo").or_default() += 1,
                _ => {}
            }
        }
        let is_bad = plan
            .actions
            .iter()
            .any(|a| matches!(a.what, Act::Decommission { .. }) && a.at_ms % 10 == 0);
        let violation = Violation {
            oracle: "nobody_goes_at_night",
            at: lab_crdt_model::Mono(0),
            node: None,
            what: String::new(),
        };
        Outcome {
            digest: [0; 32],
            violations: is_bad.then_some(violation).into_iter().collect(),
            stats: Stats {
                virtual_ms: 2_000,
                nodes: 3,
                ..Stats::default()
            },
            checkpoints: vec![],
            records: vec![],
            marks,
        }
    }

    fn plain() -> Swarm {
        Swarm {
            profile: Profile::Homelab,
            nodes: 5,
            seeds: 0..100,
            mutation_per_mille: 500,
            kept: Vec::new(),
        }
    }

    #[test]
    fn what_reaches_a_new_mark_is_kept_and_everything_is_counted() {
        let mut seen = Vec::new();
        let report = swarm(&plain(), &mut pretend, &mut || false, &mut |finding| {
            seen.push((finding.seed, finding.new_marks.len()));
        });
        assert_eq!(report.plans, 100);
        assert_eq!(report.node_seconds, 600);
        assert_eq!(seen.len(), 100);
        assert_eq!(seen.iter().map(|(_, new)| new).sum::<usize>(), 2);
        assert!(!report.kept.is_empty() && report.kept.len() <= 2);
        assert!(report.marks.contains_key("a very large edit"));
        assert!(!report.failures["nobody_goes_at_night"].is_empty());
        let again = swarm(&plain(), &mut pretend, &mut || false, &mut |_| {});
        assert_eq!(again, report);
    }

    #[test]
    fn a_swarm_ends_when_its_time_is_up() {
        let mut left = 7;
        let mut is_over = || {
            left -= 1;
            left < 0
        };
        let report = swarm(&plain(), &mut pretend, &mut is_over, &mut |_| {});
        assert_eq!(report.plans, 7);
    }
}
