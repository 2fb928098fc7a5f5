//! All oracles at one table.

use crate::oracle::{Limits, Note, Oracle, Phase, Seen, Violation, all};

/// Runs oracles over a world and keeps the first violation of each: later ones are mostly its consequences.
#[derive(Debug)]
pub struct Panel {
    oracles: Vec<(Box<dyn Oracle>, bool)>,
    violations: Vec<Violation>,
    /// How many of them were taken.
    taken: usize,
}

impl Panel {
    /// Every oracle there is.
    pub fn new(limits: &Limits) -> Self {
        Self::of(all(limits))
    }

    /// Only these.
    pub fn of(oracles: Vec<Box<dyn Oracle>>) -> Self {
        Self {
            oracles: oracles.into_iter().map(|o| (o, false)).collect(),
            violations: Vec::new(),
            taken: 0,
        }
    }

    /// Leaves out oracles by name, for runs that break on purpose what they guard.
    pub fn without(&mut self, names: &[&str]) {
        self.oracles.retain(|(o, _)| !names.contains(&o.name()));
    }

    /// The names of all oracles.
    pub fn names(&self) -> Vec<&'static str> {
        self.oracles.iter().map(|(o, _)| o.name()).collect()
    }

    /// The run enters a phase.
    pub fn phase(&mut self, seen: &mut dyn Seen, phase: &Phase) {
        for (oracle, _) in &mut self.oracles {
            oracle.phase(seen, phase);
        }
    }

    /// Something happened.
    pub fn note(&mut self, seen: &mut dyn Seen, note: &Note) {
        self.each(|oracle| oracle.note(seen, note));
    }

    /// Looks around.
    pub fn sample(&mut self, seen: &mut dyn Seen) {
        self.each(|oracle| oracle.sample(seen));
    }

    /// Looks around for the last time.
    pub fn end(&mut self, seen: &mut dyn Seen) {
        self.each(|oracle| oracle.end(seen));
    }

    /// What was found, at most one of each oracle, in the order in which it was found.
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// What was found since the last call.
    pub fn take(&mut self) -> Vec<Violation> {
        let from = std::mem::replace(&mut self.taken, self.violations.len());
        self.violations[from..].to_vec()
    }

    fn each(&mut self, mut judge: impl FnMut(&mut dyn Oracle) -> Result<(), Violation>) {
        for (oracle, is_done) in self.oracles.iter_mut().filter(|(_, is_done)| !is_done) {
            if let Err(violation) = judge(oracle.as_mut()) {
                *is_done = true;
                self.violations.push(violation);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::oracle::What;
    use crate::oracle::fake::{Fake, note};

    #[test]
    fn every_oracle_has_a_sentence_of_its_own_for_a_name() {
        let names = Panel::new(&Limits::default()).names();
        let all: BTreeSet<&str> = names.iter().copied().collect();
        assert_eq!((names.len(), all.len()), (29, 29));
        let is_sentence = |name: &str| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        assert!(names.iter().all(|name| is_sentence(name)));
    }

    #[test]
    fn an_oracle_speaks_once_and_silences_nobody_else() {
        let mut fake = Fake::new(2);
        let mut panel = Panel::new(&Limits::default());
        panel.sample(&mut fake);
        assert_eq!(panel.violations(), []);
        for _ in 0..3 {
            let panicked = note(0, What::Panicked("once".into()));
            panel.note(&mut fake, &panicked);
        }
        assert_eq!(panel.violations().len(), 1);
        fake.node(1).memory = u64::MAX;
        panel.sample(&mut fake);
        assert_eq!(panel.violations().len(), 2);
        assert_eq!(panel.violations()[1].oracle, "memory_stays_bounded");
        assert_eq!((panel.take().len(), panel.take().len()), (2, 0));
    }

    #[test]
    fn an_oracle_that_is_left_out_says_nothing() {
        let mut fake = Fake::new(1);
        let mut panel = Panel::new(&Limits::default());
        panel.without(&["no_panic"]);
        panel.note(&mut fake, &note(0, What::Panicked("again".into())));
        assert_eq!(panel.violations(), []);
    }
}
