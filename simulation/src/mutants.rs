//! Seeded bugs, and the proof that an oracle finds each.
//!
//! A mutant is a known bug next to the right code, asleep until it is woken by name. Each names the oracle that has to
//! see it, and the plans on which that is tried: an oracle that finds nothing in a world with its bug is worth nothing.
//! The same plan is run without any bug first; a mutant counts as killed only by what the sound program does not do.

mod plans;
mod players;
mod table;

use std::collections::{BTreeMap, BTreeSet};

use crate::oracle::Violation;
use crate::plan::{Outcome, Plan, run_with};

pub use table::{MUTANTS, RESOLVER};

/// Stands for an oracle: the same plan is run twice, and both runs must be the same byte by byte.
pub const META: &str = "two_runs_are_equal";

/// A seeded bug.
#[derive(Clone, Copy, Debug)]
pub struct Mutant {
    /// As in the code.
    pub name: &'static str,
    /// What it does wrong, in one sentence.
    pub story: &'static str,
    /// Which oracle has to see it.
    pub oracle: &'static str,
    /// Which other oracles may see it first, and why.
    pub also: &'static [(&'static str, &'static str)],
    /// Plans on which it shows, by seed.
    pub plan: fn(u64) -> Plan,
}

/// What became of a mutant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fate {
    /// The oracle that saw it; `None` when none of those that should did.
    pub oracle: Option<&'static str>,
    /// What that oracle said.
    pub what: String,
    /// Plans that were run with the bug awake.
    pub seeds: u64,
    /// Processor time of these runs, milliseconds.
    pub cpu_ms: u64,
    /// Other oracles that saw something.
    pub others: BTreeSet<&'static str>,
    /// What oracles say of the same plans without any bug, by seed. Must be empty: it is a bug, or a wrong oracle.
    pub spoiled: BTreeMap<u64, Violation>,
}

/// Remembers what oracles say of plans without any bug: many mutants share a plan.
#[derive(Clone, Debug, Default)]
pub struct Controls(BTreeMap<[u8; 32], Vec<Violation>>);

impl Controls {
    fn of(&mut self, plan: &Plan) -> &[Violation] {
        let name = *blake3::hash(plan.write().as_bytes()).as_bytes();
        self.0.entry(name).or_insert_with(|| {
            wake(None);
            play(plan).violations
        })
    }
}

/// The mutant of that name.
pub fn named(name: &str) -> Option<&'static Mutant> {
    MUTANTS.iter().find(|m| m.name == name)
}

/// Whether seeded bugs are compiled in.
pub const fn are_here() -> bool {
    cfg!(feature = "mutants")
}

/// Runs plans with a bug awake until an oracle that should sees it, for at most so much processor time.
///
/// Without the feature `mutants` every mutant survives.
pub fn kill(mutant: &Mutant, budget_ms: u64, controls: &mut Controls) -> Fate {
    let mut fate = Fate {
        oracle: None,
        what: String::new(),
        seeds: 0,
        cpu_ms: 0,
        others: BTreeSet::new(),
        spoiled: BTreeMap::new(),
    };
    while fate.oracle.is_none() && (fate.seeds == 0 || fate.cpu_ms < budget_ms) {
        let seed = fate.seeds;
        let plan = (mutant.plan)(seed);
        let before = cpu_ms();
        let violations = with(mutant, &plan);
        fate.cpu_ms += cpu_ms() - before;
        fate.seeds += 1;
        if violations.is_empty() {
            continue;
        }
        let sound = controls.of(&plan);
        if let Some(violation) = sound.first() {
            fate.spoiled.insert(seed, violation.clone());
        }
        for violation in violations {
            let is_news = !sound.iter().any(|v| v.oracle == violation.oracle);
            let is_expected = violation.oracle == mutant.oracle
                || mutant
                    .also
                    .iter()
                    .any(|(name, _)| *name == violation.oracle);
            let is_better = fate.oracle.is_none() || violation.oracle == mutant.oracle;
            if is_news && is_expected && is_better {
                fate.oracle = Some(violation.oracle);
                fate.what = violation.to_string();
            } else if is_news {
                fate.others.insert(violation.oracle);
            }
        }
    }
    fate
}

/// What oracles say of a plan with a bug awake.
fn with(mutant: &Mutant, plan: &Plan) -> Vec<Violation> {
    wake(Some(mutant.name));
    let outcome = play(plan);
    let mut violations = outcome.violations;
    if mutant.oracle == META {
        let again = play(plan);
        if again.digest != outcome.digest {
            violations.push(Violation {
                oracle: META,
                at: lab_crdt_model::Mono(0),
                node: None,
                what: "expected two runs of one plan to be equal, seen two digests".to_owned(),
            });
        }
    }
    wake(None);
    violations
}

fn play(plan: &Plan) -> Outcome {
    run_with(plan, &mut plan.panel(), &mut (), &mut players::all())
}

fn wake(name: Option<&'static str>) {
    #[cfg(feature = "mutants")]
    lab_crdt_model::mutant::wake(name);
    #[cfg(not(feature = "mutants"))]
    let _ = name;
}

/// Processor time of this thread, milliseconds. Decides only when to give up.
fn cpu_ms() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000 + time.tv_nsec as u64 / 1_000_000
}

#[cfg(test)]
mod tests;
