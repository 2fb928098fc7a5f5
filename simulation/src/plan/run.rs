//! Carries plans out.

mod apply;
mod cast;
mod speak;

use std::collections::BTreeMap;

use lab_crdt_model::{Mono, mark, reached, sometimes};

use self::cast::Cast;
use crate::adversary;
use crate::note::What;
use crate::plan::judge::{Adversary, Answer, Judges, Observer, Turn, Violation};
use crate::plan::{Act, Action, Fault, Phase, Plan, Store, panics};
use crate::trace::Record;
use crate::world::{Options, StoreKind, World};

/// A mesh that did not form within this time never will, milliseconds.
const FORM_MS: u64 = 60_000;
/// Time between two looks for answers, milliseconds.
const LOOK_MS: u64 = 2;
/// Happenings at one moment, beyond which time is taken to stand still.
const STILL_MAX: u64 = 1_000_000;
/// Who waits for the answer to what they said before tries again this much later, microseconds.
const RETRY_US: u64 = 1_000;

/// What a run gave.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// A hash of everything that happened.
    pub digest: [u8; 32],
    /// What must hold and did not, in the order in which it was found.
    pub violations: Vec<Violation>,
    /// Figures.
    pub stats: Stats,
    /// Situations that the run reached, by name, and how often.
    pub marks: BTreeMap<&'static str, u64>,
    /// The digest so far, after every [`CHECKPOINT`](crate::trace::CHECKPOINT) records.
    pub checkpoints: Vec<[u8; 32]>,
    /// Records that were asked for by [`keep_in_new_worlds`](crate::trace::keep_in_new_worlds), with their numbers.
    pub records: Vec<(u64, Record)>,
}

impl Outcome {
    /// Whether an oracle failed.
    pub fn fails(&self, oracle: &str) -> bool {
        self.violations.iter().any(|v| v.oracle == oracle)
    }
}

/// Figures of a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Virtual milliseconds, the forming of the mesh included.
    pub virtual_ms: u64,
    /// Machines at the end.
    pub nodes: u64,
    /// Frames sent.
    pub frames: u64,
    /// Payload bytes sent.
    pub bytes: u64,
    /// Inputs that agents handled.
    pub steps: u64,
    /// Starts of agents.
    pub starts: u64,
    /// Actions that were done.
    pub done: u64,
    /// Actions that were refused.
    pub refused: u64,
    /// Actions that nobody answered.
    pub unknown: u64,
    /// Actions that were not tried.
    pub left: u64,
    /// Faults that began.
    pub faults: u64,
}

/// Runs a plan with all oracles and all adversaries.
pub fn run(plan: &Plan, observer: &mut dyn Observer) -> Outcome {
    run_with(plan, &mut plan.panel(), observer, &mut adversary::all())
}

/// Runs a plan with these judges and adversaries. A panic ends the run and is a violation of `no_panic`.
pub fn run_with(
    plan: &Plan,
    judges: &mut dyn Judges,
    observer: &mut dyn Observer,
    adversaries: &mut [Box<dyn Adversary>],
) -> Outcome {
    let _earlier = mark::take();
    let mut run = None;
    let ended = panics::catch(|| {
        let world = World::form(options(plan), plan.options.nodes);
        run.insert(Run::new(plan, world, judges, observer, adversaries))
            .go();
    });
    let mut outcome = Outcome {
        digest: [0; 32],
        violations: Vec::new(),
        stats: Stats::default(),
        marks: mark::take(),
        checkpoints: Vec::new(),
        records: Vec::new(),
    };
    let mut at = Mono(0);
    if let Some(mut run) = run {
        at = run.world.now();
        outcome.digest = run.world.trace_hash();
        outcome.stats = run.figures();
        outcome.checkpoints = run.world.trace().checkpoints().to_vec();
        outcome.records = run.world.trace().kept().to_vec();
        outcome.violations = run.violations;
    }
    if let Err(what) = ended {
        outcome.violations.push(Violation {
            oracle: "no_panic",
            at,
            node: None,
            what,
        });
    }
    outcome
}

fn options(plan: &Plan) -> Options {
    Options {
        store: match plan.options.store {
            Store::Model => StoreKind::Model,
            Store::Real => StoreKind::Real,
            Store::Mixed(count) => StoreKind::Mixed(count as usize),
            Store::Lean => StoreKind::Lean,
        },
        network: plan.options.network.clone(),
        is_noted: true,
        ..Options::homelab(plan.seed)
    }
}

/// What comes next, by time (microseconds since the mesh stood), then rank, then place in the plan.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Step {
    Phase(Phase),
    FaultEnds(usize),
    Act(usize),
    FaultBegins(usize),
    Sample,
    End,
}

struct Run<'a> {
    plan: &'a Plan,
    world: World,
    cast: Cast<'a>,
    judges: &'a mut dyn Judges,
    observer: &'a mut dyn Observer,
    adversaries: &'a mut [Box<dyn Adversary>],
    agenda: std::collections::BTreeSet<(u64, Step)>,
    /// When the mesh stood, nanoseconds.
    base: u64,
    violations: Vec<Violation>,
    stats: Stats,
}

impl<'a> Run<'a> {
    fn new(
        plan: &'a Plan,
        world: World,
        judges: &'a mut dyn Judges,
        observer: &'a mut dyn Observer,
        adversaries: &'a mut [Box<dyn Adversary>],
    ) -> Self {
        let cast = Cast::new(plan, &world);
        Self {
            plan,
            world,
            cast,
            judges,
            observer,
            adversaries,
            agenda: std::collections::BTreeSet::new(),
            base: 0,
            violations: Vec::new(),
            stats: Stats::default(),
        }
    }

    fn go(&mut self) {
        let nodes = self.plan.options.nodes;
        let has_formed = self
            .world
            .run_until(FORM_MS, |w| (0..nodes).all(|n| w.is_up(n)) && w.are_equal());
        if !has_formed {
            return self.violations.push(Violation {
                oracle: "the_mesh_forms",
                at: self.world.now(),
                node: None,
                what: format!("{nodes} nodes did not agree within {FORM_MS} ms"),
            });
        }
        self.base = self.world.now().0;
        self.fill_agenda();
        while let Some((at, step)) = self.agenda.pop_first() {
            self.advance(at);
            match step {
                Step::Phase(phase) => self.phase(phase),
                Step::Act(index) => self.act(at, index),
                Step::FaultBegins(index) => self.fault(index),
                Step::FaultEnds(index) => self.fault_ends(index),
                Step::Sample => {
                    self.judges.sample(&mut self.world);
                    self.observer.sample(&mut self.world);
                }
                Step::End => {
                    self.judges.end(&mut self.world);
                    self.violations.extend(self.judges.take());
                    return;
                }
            }
            self.violations.extend(self.judges.take());
        }
    }

    fn fill_agenda(&mut self) {
        let phases = &self.plan.phases;
        let end = phases.end_at();
        let mut add = |at_ms: u64, step| self.agenda.insert((at_ms * 1_000, step));
        add(0, Step::Phase(Phase::WarmUp));
        add(phases.chaos_at(), Step::Phase(Phase::Chaos));
        if !phases.core.is_empty() {
            add(phases.core_at(), Step::Phase(Phase::Core));
        }
        add(phases.heal_at(), Step::Phase(Phase::Heal));
        add(end, Step::End);
        for at in (0..end).step_by(self.plan.limits.sample_ms as usize) {
            add(at, Step::Sample);
        }
        for (index, action) in self.plan.actions.iter().enumerate() {
            add(action.at_ms.min(end), Step::Act(index));
        }
        let frozen = phases.core_at() * 1_000;
        for (index, fault) in self.plan.faults.iter().enumerate() {
            // Once the core heals, nothing new goes wrong and nothing else heals by itself.
            if fault.start() >= frozen {
                continue;
            }
            self.agenda
                .insert((fault.start(), Step::FaultBegins(index)));
            if let Some(end) = fault.end().filter(|end| *end < frozen) {
                self.agenda.insert((end, Step::FaultEnds(index)));
            }
        }
    }

    /// Lets time pass until so many microseconds after the mesh stood; answers are taken as they come.
    fn advance(&mut self, to_us: u64) {
        let end = Mono(self.base + to_us * 1_000);
        loop {
            let look = if self.cast.is_waiting() {
                self.world.now().plus_ms(LOOK_MS).min(end)
            } else {
                end
            };
            let mut still = (self.world.now(), 0);
            while self.world.step(look) {
                self.tell();
                if still.0 != self.world.now() {
                    still = (self.world.now(), 0);
                }
                still.1 += 1;
                assert!(
                    still.1 < STILL_MAX,
                    "time stands still: someone wakes for ever"
                );
            }
            // The clock shows the moment itself, not that of the last thing that happened.
            self.world.run_to(look);
            self.take_answers();
            if self.world.now() >= end {
                return;
            }
        }
    }

    fn tell(&mut self) {
        for note in self.world.take_notes() {
            if matches!(note.what, What::Started { .. }) {
                self.stats.starts += 1;
            }
            self.judges.note(&mut self.world, &note);
            self.observer.note(&note);
        }
    }

    fn take_answers(&mut self) {
        for (index, answer) in self.cast.answers(&mut self.world) {
            self.answered(index, &answer);
        }
        self.tell();
    }

    fn answered(&mut self, index: usize, answer: &Answer) {
        sometimes!(*answer == Answer::Unknown, "nobody answered a person");
        match answer {
            Answer::Done => self.stats.done += 1,
            Answer::Refused { .. } => self.stats.refused += 1,
            Answer::Unknown => self.stats.unknown += 1,
            Answer::Left(_) => self.stats.left += 1,
        }
        let action = &self.plan.actions[index];
        self.judges.acted(&mut self.world, action, answer);
        self.observer.acted(self.world.now(), action, answer);
    }

    fn act(&mut self, at: u64, index: usize) {
        let action: &Action = &self.plan.actions[index];
        if self.cast.is_busy(action) {
            reached!("a person waits for an answer before they go on");
            self.agenda.insert((at + RETRY_US, Step::Act(index)));
            return;
        }
        let answer = match &action.what {
            Act::Adversary { name, with } => {
                let node = self.cast.place(action.node);
                let player = self.adversaries.iter_mut().find(|a| a.name() == name);
                match (player, node) {
                    (Some(player), Some(node)) => {
                        let person = self.cast.actor(action.who).person.clone();
                        let with = *with;
                        player.act(&mut self.world, &Turn { node, person, with });
                        Some(Answer::Done)
                    }
                    _ => Some(Answer::Left("nobody plays it")),
                }
            }
            _ => self.cast.act(&mut self.world, index),
        };
        if let Some(answer) = answer {
            self.answered(index, &answer);
        }
        self.take_answers();
    }

    fn phase(&mut self, phase: Phase) {
        let healed: Vec<usize> = match phase {
            Phase::WarmUp | Phase::Chaos => Vec::new(),
            Phase::Core => {
                let core = self.plan.phases.core.iter();
                core.filter_map(|n| self.cast.place(*n)).collect()
            }
            Phase::Heal => (0..self.world.len()).collect(),
        };
        if phase == Phase::Heal {
            apply::heal_all(&mut self.world);
        } else if phase == Phase::Core {
            apply::heal(&mut self.world, &healed);
        }
        self.judges.phase(&mut self.world, phase, &healed);
        self.observer.phase(&mut self.world, phase);
        self.tell();
    }

    fn fault(&mut self, index: usize) {
        let fault: &Fault = &self.plan.faults[index];
        self.stats.faults += 1;
        let frozen = self.plan.phases.core_at() * 1_000;
        let lasts = fault.end().is_none_or(|end| end < frozen);
        let cast = &self.cast;
        apply::begin(&mut self.world, fault, lasts, &|n| cast.place(n));
        self.tell();
    }

    fn fault_ends(&mut self, index: usize) {
        let cast = &self.cast;
        apply::end(&mut self.world, &self.plan.faults[index], &|n| {
            cast.place(n)
        });
        self.tell();
    }

    fn figures(&self) -> Stats {
        let steps = (0..self.world.len()).map(|n| self.world.counters(n).steps);
        Stats {
            virtual_ms: self.world.now_ms(),
            nodes: self.world.len() as u64,
            frames: self.world.sent.0,
            bytes: self.world.sent.1,
            steps: steps.sum(),
            ..self.stats
        }
    }
}

#[cfg(test)]
mod tests;
