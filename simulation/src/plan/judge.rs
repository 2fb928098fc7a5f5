//! Who looks at a run: those who judge it, those who show it, and those who spoil it.

use lab_crdt_model::Mono;

use crate::note::Note;
use crate::person::Person;
use crate::plan::{Action, Phase};
use crate::world::World;

pub use crate::oracle::Violation;

/// Judges a run as it goes.
pub trait Judges {
    /// A part of the run begins. `healed` are the nodes that heal with it: nobody, the core, or everyone.
    fn phase(&mut self, world: &mut World, phase: Phase, healed: &[usize]) {
        let _ = (world, phase, healed);
    }

    /// Something happened.
    fn note(&mut self, world: &mut World, note: &Note) {
        let _ = (world, note);
    }

    /// Someone did something and got an answer, or none.
    fn acted(&mut self, world: &mut World, action: &Action, answer: &Answer) {
        let _ = (world, action, answer);
    }

    /// Looks around.
    fn sample(&mut self, world: &mut World) {
        let _ = world;
    }

    /// Looks around for the last time.
    fn end(&mut self, world: &mut World) {
        let _ = world;
    }

    /// What was found since the last call.
    fn take(&mut self) -> Vec<Violation>;
}

/// Nobody judges; panics are still found.
impl Judges for () {
    fn take(&mut self) -> Vec<Violation> {
        Vec::new()
    }
}

/// Several judges.
impl<A: Judges, B: Judges> Judges for (A, B) {
    fn phase(&mut self, world: &mut World, phase: Phase, healed: &[usize]) {
        self.0.phase(world, phase, healed);
        self.1.phase(world, phase, healed);
    }

    fn note(&mut self, world: &mut World, note: &Note) {
        self.0.note(world, note);
        self.1.note(world, note);
    }

    fn acted(&mut self, world: &mut World, action: &Action, answer: &Answer) {
        self.0.acted(world, action, answer);
        self.1.acted(world, action, answer);
    }

    fn sample(&mut self, world: &mut World) {
        self.0.sample(world);
        self.1.sample(world);
    }

    fn end(&mut self, world: &mut World) {
        self.0.end(world);
        self.1.end(world);
    }

    fn take(&mut self) -> Vec<Violation> {
        let mut all = self.0.take();
        all.extend(self.1.take());
        all
    }
}

/// Shows a run as it goes: progress, timelines, pictures. Does not change it.
pub trait Observer {
    /// A part of the run begins.
    fn phase(&mut self, world: &mut World, phase: Phase) {
        let _ = (world, phase);
    }

    /// Something happened.
    fn note(&mut self, note: &Note) {
        let _ = note;
    }

    /// Someone did something and got an answer, or none.
    fn acted(&mut self, at: Mono, action: &Action, answer: &Answer) {
        let _ = (at, action, answer);
    }

    /// Looks around.
    fn sample(&mut self, world: &mut World) {
        let _ = world;
    }
}

/// Nobody looks.
impl Observer for () {}

/// What became of an action.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// It is done and durable, or read.
    Done,
    /// It was refused.
    Refused {
        /// Stable code.
        code: &'static str,
        /// Why.
        why: String,
    },
    /// Nobody answered: it may have happened or not.
    Unknown,
    /// It was not even tried, for this reason.
    Left(&'static str),
}

/// Someone who breaks rules. Holds what keys it was given, no others.
pub trait Adversary {
    /// The name by which plans call it.
    fn name(&self) -> &str;

    /// It is its turn.
    fn act(&mut self, world: &mut World, turn: &Turn);
}

/// What an adversary has to work with.
#[derive(Clone, Debug)]
pub struct Turn {
    /// The machine.
    pub node: usize,
    /// Whose key it stole, as far as the plan granted that person anything.
    pub person: Person,
    /// A number from the plan.
    pub with: u64,
}
