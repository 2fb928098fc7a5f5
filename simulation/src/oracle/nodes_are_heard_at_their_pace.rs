//! However often a node reports, others take in and pass on no more of it than so much.

use std::collections::BTreeMap;

use lab_agent_core::Event;
use lab_crdt_model::{Mono, NodeId};

use crate::oracle::{Limits, Note, Oracle, Seen, Verdict, What};

const WINDOW_MS: u64 = 60_000;

#[derive(Debug)]
pub(super) struct Pace {
    per_minute: u64,
    /// When the window of a node that hears another began, and what it took in since.
    heard: BTreeMap<(usize, NodeId), (Mono, u64)>,
}

impl Pace {
    pub(super) const fn new(limits: &Limits) -> Self {
        Self {
            per_minute: limits.reports_per_minute,
            heard: BTreeMap::new(),
        }
    }
}

impl Oracle for Pace {
    fn name(&self) -> &'static str {
        "nodes_are_heard_at_their_pace"
    }

    fn note(&mut self, seen: &mut dyn Seen, note: &Note) -> Verdict {
        let What::Told(Event::ReportArrived { node }) = &note.what else {
            return Ok(());
        };
        let (from, count) = self.heard.entry((note.node, *node)).or_insert((note.at, 0));
        if note.at.ms_since(*from) >= WINDOW_MS {
            (*from, *count) = (note.at, 0);
        }
        *count += 1;
        if *count > self.per_minute {
            let what = format!(
                "expected at most {} reports of one node to be taken in within a minute, seen more of {}",
                self.per_minute,
                node.short()
            );
            return self.broken(seen, Some(note.node), what);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::fake::{Fake, note};

    #[test]
    fn a_node_that_is_heard_without_end_is_noticed() {
        let limits = Limits::default();
        let mut fake = Fake::new(2);
        let mut oracle = Pace::new(&limits);
        let node = fake.id(1);
        let mut hear = |fake: &mut Fake| {
            let told = What::Told(Event::ReportArrived { node });
            let at = fake.now();
            let heard = Note {
                at,
                ..note(0, told)
            };
            oracle.note(fake, &heard)
        };
        for _ in 0..3 {
            for _ in 0..limits.reports_per_minute {
                assert!(hear(&mut fake).is_ok());
            }
            fake.pass_ms(WINDOW_MS);
        }
        for _ in 0..limits.reports_per_minute {
            assert!(hear(&mut fake).is_ok());
        }
        assert!(hear(&mut fake).is_err());
    }
}
