//! Writes down what happens in the run of a plan.

use lab_crdt_model::Mono;

use super::engine::{dump, fault_name, first_word};
use super::progress::Reach;
use crate::World;
use crate::network::{Fault as NetworkFault, Scope};
use crate::note::{Note, What};
use crate::plan::{Act, Action, Answer, Fault, Observer, Phase, Plan, Trouble};
use crate::timeline::{MarkKind, Sample, State, Timeline};

/// An observer that keeps a timeline and tells how far the run is.
pub(super) struct Scribe<'a> {
    plan: &'a Plan,
    timeline: Timeline,
    is_kept: bool,
    dumped: Option<usize>,
    dump: Option<String>,
    tick: &'a mut dyn FnMut(Reach),
    /// When the mesh stood, milliseconds since the world began.
    base_ms: u64,
    edited_at_ms: Option<u64>,
}

impl<'a> Scribe<'a> {
    /// For the run of a plan.
    pub(super) fn new(
        plan: &'a Plan,
        is_kept: bool,
        dumped: Option<usize>,
        tick: &'a mut dyn FnMut(Reach),
    ) -> Self {
        let mut timeline = Timeline::new(&format!(
            "seed {}: {}",
            plan.seed,
            plan.options.profile.name()
        ));
        timeline.names = (0..plan.options.nodes).map(|n| format!("n{n}")).collect();
        Self {
            plan,
            timeline,
            is_kept,
            dumped,
            dump: None,
            tick,
            base_ms: 0,
            edited_at_ms: None,
        }
    }

    /// When the mesh stood, milliseconds since the world began.
    pub(super) const fn base_ms(&self) -> u64 {
        self.base_ms
    }

    /// What was written down.
    pub(super) fn done(self) -> (Timeline, Option<String>) {
        (self.timeline, self.dump)
    }

    fn ms(&self, at: Mono) -> u64 {
        (at.0 / 1_000_000).saturating_sub(self.base_ms)
    }

    /// Faults that last, as stretches: the plan knows when they begin and end.
    fn faults(&mut self) {
        let end = self.plan.phases.end_at();
        let healed = self.plan.phases.heal_at();
        for fault in &self.plan.faults {
            let text = fault_name(&fault.what);
            let nodes = reach(fault, self.plan.options.nodes);
            let node = if nodes.len() == 1 {
                Some(nodes[0])
            } else {
                None
            };
            self.timeline.mark(fault.at_ms, node, MarkKind::Note, &text);
            let state = match &fault.what {
                Trouble::Network(fault) if is_cut(fault) => State::Cut,
                Trouble::Network(_) | Trouble::Disk(_) | Trouble::Clock(_) => State::Sick,
                Trouble::Process(_) => continue,
            };
            if fault.for_ms > 0 {
                for node in nodes {
                    self.timeline.begin(fault.at_ms, node, state);
                    let until = (fault.at_ms + fault.for_ms).min(healed).min(end);
                    self.timeline.end(until, node, state);
                }
            }
        }
    }
}

/// Whether a fault closes paths.
const fn is_cut(fault: &NetworkFault) -> bool {
    matches!(
        fault,
        NetworkFault::Partition { .. }
            | NetworkFault::OneWay { .. }
            | NetworkFault::Isolate { .. }
            | NetworkFault::Bridge { .. }
            | NetworkFault::Ring { .. }
            | NetworkFault::Cut { .. }
            | NetworkFault::Flap { .. }
            | NetworkFault::Swizzle { .. }
    )
}

/// Which nodes a fault concerns; of a partition, all groups but the largest.
fn reach(fault: &Fault, count: usize) -> Vec<usize> {
    let of = |scope: &Scope| {
        (0..count)
            .filter(|n| scope.contains(*n))
            .collect::<Vec<_>>()
    };
    match &fault.what {
        Trouble::Network(network) => match network {
            NetworkFault::Partition { groups } => {
                let mut sides: Vec<Vec<usize>> = groups.iter().map(of).collect();
                let rest = |n: &usize| !groups.iter().any(|g| g.contains(*n));
                sides.push((0..count).filter(rest).collect());
                sides.sort_by_key(Vec::len);
                sides.pop();
                sides.concat()
            }
            NetworkFault::OneWay { from, .. } => of(from),
            NetworkFault::Isolate { hosts }
            | NetworkFault::Ring { hosts }
            | NetworkFault::Flap { hosts, .. }
            | NetworkFault::Swizzle { hosts, .. }
            | NetworkFault::Bufferbloat { hosts, .. }
            | NetworkFault::UdpBlocked { hosts }
            | NetworkFault::NatRebind { hosts } => of(hosts),
            NetworkFault::Bridge { left, .. } => of(left),
            NetworkFault::Cut { pairs } => pairs.iter().map(|(a, _)| *a).collect(),
            _ => Vec::new(),
        },
        _ => fault.nodes.clone(),
    }
}

impl Observer for Scribe<'_> {
    fn phase(&mut self, world: &mut World, phase: Phase) {
        if phase == Phase::WarmUp {
            self.base_ms = world.now().0 / 1_000_000;
            if self.is_kept {
                self.faults();
            }
        }
        let at = self.ms(world.now());
        let text = match phase {
            Phase::WarmUp => return,
            Phase::Chaos => "chaos begins",
            Phase::Core => "a core heals",
            Phase::Heal => "all is healed",
        };
        self.timeline.mark(at, None, MarkKind::Fault, text);
    }

    fn note(&mut self, note: &Note) {
        if !self.is_kept {
            return;
        }
        let (at, node) = (self.ms(note.at), note.node);
        match &note.what {
            What::Killed => self.timeline.begin(at, node, State::Down),
            What::Started { life } => {
                if *life == 1 && node >= self.plan.options.nodes {
                    self.timeline.begin(0, node, State::Absent);
                }
                self.timeline.end(at, node, State::Absent);
                self.timeline.end(at, node, State::Down);
            }
            What::NotStarted { why } => {
                let text = format!("does not start: {why}");
                self.timeline.mark(at, Some(node), MarkKind::Note, &text);
            }
            What::Paused => self.timeline.begin(at, node, State::Paused),
            What::Resumed => self.timeline.end(at, node, State::Paused),
            What::Stored { is_ok: false } => {
                self.timeline
                    .mark(at, Some(node), MarkKind::Note, "a write fails");
            }
            _ => {}
        }
    }

    fn acted(&mut self, at: Mono, action: &Action, answer: &Answer) {
        let at = self.ms(at);
        if *answer == Answer::Done {
            self.edited_at_ms.get_or_insert(at);
        }
        if !self.is_kept {
            return;
        }
        let word = first_word(&action.what);
        let kind = match &action.what {
            Act::Join { .. } => MarkKind::Join,
            Act::RevokeOperator { .. } | Act::Decommission { .. } | Act::RevokeToken { .. } => {
                MarkKind::Revoke
            }
            Act::Read(_) | Act::Garbage { .. } | Act::Repeat => MarkKind::Note,
            _ => MarkKind::Edit,
        };
        while self.timeline.names.len() <= action.node {
            let name = format!("n{}", self.timeline.names.len());
            self.timeline.names.push(name);
        }
        let (kind, text) = match answer {
            Answer::Done => (kind, format!("p{} {word}", action.who)),
            Answer::Refused { code, why } => (
                MarkKind::Note,
                format!("p{} {word}: refused {code} {why}", action.who),
            ),
            Answer::Unknown => (MarkKind::Note, format!("p{} {word}: no answer", action.who)),
            Answer::Left(why) => (
                MarkKind::Note,
                format!("p{} {word}: not tried, {why}", action.who),
            ),
        };
        self.timeline.mark(at, Some(action.node), kind, &text);
    }

    fn sample(&mut self, world: &mut World) {
        let at = self.ms(world.now());
        let nodes = world.len();
        let events = (0..nodes).map(|n| world.counters(n).steps).sum();
        (self.tick)(Reach {
            virtual_ms: at,
            nodes: nodes as u64,
            events,
            violations: 0,
        });
        if let Some(node) = self.dumped {
            self.dump = Some(dump(world, node));
        }
        if !self.is_kept {
            return;
        }
        let mut sets: std::collections::BTreeMap<[u8; 32], u32> = std::collections::BTreeMap::new();
        for node in (0..nodes).filter(|n| world.is_up(*n)) {
            if let Some(digests) = world.digests(node) {
                *sets.entry(digests.statements).or_default() += 1;
            }
        }
        if sets.len() <= 1 {
            self.edited_at_ms = None;
        }
        let up: u32 = sets.values().sum();
        self.timeline.sample(Sample {
            at_ms: at,
            digests: sets.len() as u32,
            equal_per_mille: sets.values().max().copied().unwrap_or(0) * 1_000 / up.max(1),
            lag_ms: self
                .edited_at_ms
                .map_or(0, |edited| at.saturating_sub(edited)),
        });
    }
}

impl std::fmt::Debug for Scribe<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scribe").finish_non_exhaustive()
    }
}
