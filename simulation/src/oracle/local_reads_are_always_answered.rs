//! Whoever asks a running agent what it knows gets an answer at once, whatever links and disk do.

use std::collections::{BTreeMap, BTreeSet};

use lab_agent_core::{CommandId, ViewMask};
use lab_crdt_model::Mono;

use crate::oracle::evidence::Rota;
use crate::oracle::{Ask, Limits, Note, Oracle, Seen, Verdict, What};

#[derive(Debug)]
pub(super) struct Reads {
    read_ms: u64,
    rota: Rota,
    open: BTreeMap<CommandId, (usize, Mono)>,
    /// Nodes that showed something once, and must from then on.
    shown: BTreeSet<usize>,
}

impl Reads {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            read_ms: limits.read_ms,
            rota: Rota::default(),
            open: BTreeMap::new(),
            shown: BTreeSet::new(),
        }
    }
}

impl Oracle for Reads {
    fn name(&self) -> &'static str {
        "local_reads_are_always_answered"
    }

    fn note(&mut self, _seen: &mut dyn Seen, note: &Note) -> Verdict {
        match &note.what {
            What::Asked {
                command,
                ask: Ask::Read,
            } => drop(self.open.insert(*command, (note.node, note.at))),
            What::Shown { command } | What::Refused { command, .. } => {
                self.open.remove(command);
            }
            // Nobody answers for a dead or paused process; its clients ask again.
            What::Killed | What::Paused | What::Started | What::Resumed => {
                self.open.retain(|_, (node, _)| *node != note.node);
            }
            _ => {}
        }
        Ok(())
    }

    fn sample(&mut self, seen: &mut dyn Seen) -> Verdict {
        let now = seen.now();
        let late = self
            .open
            .iter()
            .find(|(_, (_, at))| now.ms_since(*at) > self.read_ms);
        if let Some((command, (node, at))) = late {
            let what = format!(
                "expected an answer to read {} within {} ms, seen none for {} ms",
                command.0,
                self.read_ms,
                now.ms_since(*at)
            );
            return self.broken(seen, Some(*node), what);
        }
        for node in self.rota.turn(seen.count()) {
            if seen.is_paused(node) {
                continue;
            }
            let is_shown = seen.view(node, ViewMask::default()).is_some();
            let was_shown = self.shown.contains(&node);
            if is_shown {
                self.shown.insert(node);
            }
            if was_shown && !is_shown && seen.is_up(node) {
                let what = "expected a running member to show its replica, seen nothing".to_owned();
                return self.broken(seen, Some(node), what);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::fake::Fake;

    fn asked(fake: &mut Fake) -> Reads {
        let mut oracle = Reads::new(&Limits::default());
        let what = What::Asked {
            command: CommandId(3),
            ask: Ask::Read,
        };
        let at = fake.now();
        oracle.note(fake, &Note { at, node: 0, what }).unwrap();
        oracle
    }

    #[test]
    fn a_read_without_an_answer_is_noticed() {
        let mut fake = Fake::new(1);
        let mut oracle = asked(&mut fake);
        fake.pass_ms(900);
        assert!(oracle.sample(&mut fake).is_ok());
        fake.pass_ms(200);
        assert!(oracle.sample(&mut fake).is_err());

        let mut oracle = asked(&mut fake);
        let (at, what) = (
            fake.now(),
            What::Shown {
                command: CommandId(3),
            },
        );
        oracle.note(&mut fake, &Note { at, node: 0, what }).unwrap();
        fake.pass_ms(5_000);
        assert!(oracle.sample(&mut fake).is_ok());
    }

    #[test]
    fn a_running_member_that_shows_nothing_is_noticed() {
        let mut fake = Fake::new(1);
        let mut oracle = Reads::new(&Limits::default());
        fake.node(0).is_silent = true;
        assert!(oracle.sample(&mut fake).is_ok());
        fake.node(0).is_silent = false;
        assert!(oracle.sample(&mut fake).is_ok());
        fake.node(0).is_silent = true;
        fake.node(0).is_paused = true;
        assert!(oracle.sample(&mut fake).is_ok());
        fake.node(0).is_paused = false;
        assert!(oracle.sample(&mut fake).is_err());
    }
}
