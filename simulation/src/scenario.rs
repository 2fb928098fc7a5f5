//! "What happens when …": questions of people with a few machines at home, answered by running them.
//!
//! A scenario plays with the real agents of seven machines in virtual time. It claims nothing that it did not
//! see: every sentence of its answer is computed from the run, with the times that were measured, and says the
//! opposite when the opposite happened ([`Claim`]).

mod clock;
mod disk;
mod home;
pub mod measure;
mod network;
mod people;
mod power;

use serde::Serialize;

use crate::timeline::Timeline;
pub use home::Home;

/// A question with the code that finds the answer.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// How it is called on the command line.
    pub name: &'static str,
    /// The question.
    pub question: &'static str,
    /// What is played, in a sentence or two.
    pub plot: &'static str,
    /// What the person should do, once it has been seen to go as it should.
    pub advice: &'static str,
    run: fn(&mut Home),
}

/// Something that was to be true, and whether it was.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Claim {
    /// Whether it was.
    pub is_true: bool,
    /// What was seen, in words; it fits what happened either way.
    pub text: String,
}

/// Something that happened.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Line {
    /// When, milliseconds.
    pub at_ms: u64,
    /// What.
    pub text: String,
}

/// A scenario that was played.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Played {
    /// How it is called.
    pub name: &'static str,
    /// The question.
    pub question: &'static str,
    /// What was played.
    pub plot: &'static str,
    /// The seed.
    pub seed: u64,
    /// What happened, in order.
    pub story: Vec<Line>,
    /// The answer.
    pub claims: Vec<Claim>,
    /// What to do, when all went as it should.
    pub advice: &'static str,
    /// A hash of everything that happened, in hexadecimal.
    pub digest: String,
    /// Virtual time, milliseconds, summed over the machines.
    pub node_ms: u64,
    /// For pictures.
    #[serde(skip)]
    pub timeline: Timeline,
}

impl Played {
    /// Whether everything went as it should.
    pub fn is_well(&self) -> bool {
        self.claims.iter().all(|c| c.is_true)
    }
}

impl Scenario {
    /// Plays it.
    pub fn play(&self, seed: u64) -> Played {
        let mut home = Home::new(seed, self.question);
        (self.run)(&mut home);
        home.close(self, seed)
    }

    /// The scenario of a name.
    pub fn named(name: &str) -> Option<Self> {
        ALL.iter().find(|s| s.name == name).copied()
    }
}

/// All of them.
pub const ALL: &[Scenario] = &[
    power::CUT,
    network::WIFI_FLAPS,
    power::NAS_DIES,
    people::LAPTOP_AWAY,
    clock::WRONG,
    disk::ROT,
    disk::FULL,
    network::HOUSE_CUT,
    people::TOKEN_TWICE,
    people::KEY_STOLEN,
    disk::OLD_SNAPSHOT,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_questions_end_as_questions_do() {
        for (n, scenario) in ALL.iter().enumerate() {
            assert!(ALL[n + 1..].iter().all(|s| s.name != scenario.name));
            assert!(scenario.question.ends_with('?'), "{}", scenario.question);
            let is_ended = |text: &str| text.ends_with('.') || text.ends_with(".)");
            assert!(
                is_ended(scenario.plot) && is_ended(scenario.advice),
                "{}",
                scenario.name
            );
        }
    }
}
