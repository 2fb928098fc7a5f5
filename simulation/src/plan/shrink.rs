//! Makes failing plans short.
//!
//! Delta debugging (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", IEEE Transactions on
//! Software Engineering 28(2), 2002) on actions and faults, then fewer nodes, earlier times, simpler options, and
//! round again while it helps. A candidate counts if the same oracle fails. Deterministic: the same plan, the same
//! test and the same number of runs give the same result.

use std::collections::BTreeSet;

use crate::network;
use crate::plan::{Plan, Store, loss_is_possible};

/// How long a search may go on.
pub struct Budget<'a> {
    /// Runs at most.
    pub runs: u32,
    /// Asked before every run: whether time is up. Ends the search early, and then its result depends on the machine.
    pub is_over: &'a mut dyn FnMut() -> bool,
}

impl std::fmt::Debug for Budget<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Budget")
            .field("runs", &self.runs)
            .finish_non_exhaustive()
    }
}

/// What a search gave.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shrunk {
    /// The shortest plan found that fails the same oracle.
    pub plan: Plan,
    /// Runs that it took.
    pub runs: u32,
    /// Whether nothing shorter was left to try.
    pub is_minimal: bool,
}

/// The shortest plan found for which `fails` still holds; `fails` runs a plan and says whether the same oracle fails.
pub fn shrink(
    plan: &Plan,
    budget: &mut Budget<'_>,
    fails: &mut dyn FnMut(&Plan) -> bool,
) -> Shrunk {
    let mut search = Search {
        best: plan.clone(),
        runs: 0,
        budget,
        fails,
    };
    loop {
        let before = search.best.clone();
        search.cut_tail();
        search.drop_faults();
        search.drop_actions();
        search.drop_nodes();
        search.simplify();
        search.pull_together();
        if search.is_over() || search.best == before {
            break;
        }
    }
    let is_minimal = !search.is_over();
    let mut plan = search.best;
    plan.limits.is_loss_expected = loss_is_possible(&plan);
    Shrunk {
        plan,
        runs: search.runs,
        is_minimal,
    }
}

struct Search<'a, 'b> {
    best: Plan,
    runs: u32,
    budget: &'a mut Budget<'b>,
    fails: &'a mut dyn FnMut(&Plan) -> bool,
}

impl Search<'_, '_> {
    fn is_over(&mut self) -> bool {
        self.runs >= self.budget.runs || (self.budget.is_over)()
    }

    /// Takes a candidate if it is another plan that makes sense and still fails.
    fn takes(&mut self, candidate: Plan) -> bool {
        if candidate == self.best || candidate.check().is_err() || self.is_over() {
            return false;
        }
        self.runs += 1;
        let fails = (self.fails)(&candidate);
        if fails {
            self.best = candidate;
        }
        fails
    }

    fn change(&mut self, change: impl FnOnce(&mut Plan)) -> bool {
        let mut candidate = self.best.clone();
        change(&mut candidate);
        candidate.sort();
        self.takes(candidate)
    }

    /// Half of the chaos at a time, from the end.
    fn cut_tail(&mut self) {
        while self.change(|p| {
            p.phases.chaos_ms /= 2;
            let end = p.phases.core_at();
            p.actions.retain(|a| a.at_ms < end);
            p.faults.retain(|f| f.at_ms < end);
        }) {}
    }

    fn drop_actions(&mut self) {
        self.ddmin(|p| p.actions.len(), |p, keep| retain(&mut p.actions, keep));
    }

    fn drop_faults(&mut self) {
        self.ddmin(|p| p.faults.len(), |p, keep| retain(&mut p.faults, keep));
    }

    /// Leaves out pieces of a list, smaller and smaller ones, as long as the plan fails.
    fn ddmin(&mut self, len: fn(&Plan) -> usize, keep: fn(&mut Plan, &dyn Fn(usize) -> bool)) {
        let mut pieces = 1;
        loop {
            let count = len(&self.best);
            if count == 0 || self.is_over() {
                return;
            }
            let size = count.div_ceil(pieces);
            let mut is_shorter = false;
            // From the end: what comes late matters least often.
            for piece in (0..count.div_ceil(size)).rev() {
                let out = piece * size..(piece + 1) * size;
                if self.change(|p| keep(p, &|n| !out.contains(&n))) {
                    is_shorter = true;
                    break;
                }
            }
            if is_shorter {
                pieces = pieces.saturating_sub(1).max(1);
            } else if size == 1 {
                return;
            } else {
                pieces = (pieces * 2).min(count);
            }
        }
    }

    /// First down to few at once, then one by one.
    fn drop_nodes(&mut self) {
        let needed = |p: &Plan| {
            let mut named: BTreeSet<usize> = p.actions.iter().flat_map(|a| a.nodes()).collect();
            named.extend(p.faults.iter().flat_map(|f| f.nodes.iter().copied()));
            named
        };
        let named = needed(&self.best);
        let unnamed: Vec<usize> = (0..self.best.options.nodes)
            .filter(|n| !named.contains(n))
            .collect();
        for count in [unnamed.len(), unnamed.len().saturating_sub(1)] {
            let gone: BTreeSet<usize> = unnamed.iter().rev().take(count).copied().collect();
            if self.without(&gone) {
                break;
            }
        }
        let mut node = self.best.options.nodes;
        while node > 0 {
            node -= 1;
            if self.best.options.nodes > 1 {
                self.without(&BTreeSet::from([node]));
            }
        }
    }

    fn without(&mut self, gone: &BTreeSet<usize>) -> bool {
        let candidate = without_nodes(&self.best, gone);
        self.takes(candidate)
    }

    fn simplify(&mut self) {
        self.change(|p| p.options.store = Store::Model);
        self.change(|p| p.options.network = network::Config::default());
        self.change(|p| p.phases.core.clear());
        self.change(|p| {
            p.options.families.clear();
            p.options.biases.clear();
        });
        for at in 0..self.best.faults.len() {
            self.change(|p| p.faults[at].plus_us = 0);
            while self.best.faults[at].for_ms > 10 && self.change(|p| p.faults[at].for_ms /= 2) {}
            let mut n = 0;
            while n < self.best.faults[at].nodes.len() {
                if self.best.faults[at].nodes.len() < 2
                    || !self.change(|p| {
                        p.faults[at].nodes.remove(n);
                    })
                {
                    n += 1;
                }
            }
        }
        for at in 0..self.best.actions.len() {
            self.change(|p| p.actions[at].who = 0);
            let last = at.min(self.best.actions.len() - 1);
            if self.best.actions[last].joins().is_none() {
                self.change(|p| p.actions[last].node = 0);
            }
        }
    }

    /// Shortens what lies between: the waits before actions and faults, and the phases.
    fn pull_together(&mut self) {
        let mut moments: BTreeSet<u64> = self.best.actions.iter().map(|a| a.at_ms).collect();
        moments.extend(self.best.faults.iter().map(|f| f.at_ms));
        for moment in moments.into_iter().rev() {
            let before = self.before(moment);
            for gap in [1, 100, 1_000] {
                if moment > before + gap {
                    let earlier = moment - before - gap;
                    if self.change(|p| pull(p, moment, earlier)) {
                        break;
                    }
                }
            }
        }
        let end = |p: &Plan| {
            let actions = p.actions.iter().map(|a| a.at_ms + 1);
            actions.chain(p.faults.iter().map(|f| f.at_ms + 1)).max()
        };
        self.change(|p| {
            let end = end(p).unwrap_or_default();
            p.phases.chaos_ms = end.saturating_sub(p.phases.warm_up_ms).max(1);
        });
        for _ in 0..8 {
            let mut is_shorter = self.change(|p| p.phases.heal_ms = (p.phases.heal_ms / 2).max(1));
            is_shorter |= self.change(|p| p.phases.core_ms /= 2);
            if !is_shorter {
                break;
            }
        }
    }

    /// The last moment before one at which something happens.
    fn before(&self, moment: u64) -> u64 {
        let actions = self.best.actions.iter().map(|a| a.at_ms);
        let all = actions.chain(self.best.faults.iter().map(|f| f.at_ms));
        all.filter(|at| *at < moment).max().unwrap_or_default()
    }
}

fn retain<T>(list: &mut Vec<T>, keep: &dyn Fn(usize) -> bool) {
    let mut at = 0;
    list.retain(|_| {
        at += 1;
        keep(at - 1)
    });
}

/// Everything from a moment on happens earlier.
fn pull(plan: &mut Plan, from: u64, by: u64) {
    for action in plan.actions.iter_mut().filter(|a| a.at_ms >= from) {
        action.at_ms -= by;
    }
    for fault in plan.faults.iter_mut().filter(|f| f.at_ms >= from) {
        fault.at_ms -= by;
    }
    if plan.phases.chaos_at() >= from {
        plan.phases.warm_up_ms -= by;
    } else {
        plan.phases.chaos_ms = plan.phases.chaos_ms.saturating_sub(by).max(1);
    }
}

/// The plan without some of its nodes: what needs them is left out, the others are counted anew.
pub(crate) fn without_nodes(plan: &Plan, gone: &BTreeSet<usize>) -> Plan {
    let number = |n: usize| (!gone.contains(&n)).then(|| n - gone.range(..n).count());
    let mut out = plan.clone();
    out.options.nodes -= gone.range(..plan.options.nodes).count();
    out.actions = plan
        .actions
        .iter()
        .filter_map(|a| a.renumbered(&number))
        .collect();
    out.faults = plan
        .faults
        .iter()
        .filter_map(|f| f.renumbered(&number))
        .collect();
    out.phases.core = plan.phases.core.iter().filter_map(|n| number(*n)).collect();
    out
}

#[cfg(test)]
mod tests;
