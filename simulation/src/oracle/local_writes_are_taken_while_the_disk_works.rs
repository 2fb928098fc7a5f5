//! A change handed in at a node whose disk works is answered, and never refused for the sake of the disk or of
//! peers that are not there.

use std::collections::{BTreeMap, BTreeSet};

use lab_agent_core::CommandId;
use lab_crdt_model::Mono;

use crate::oracle::{Ask, Harm, Limits, Note, Oracle, Seen, Verdict, What};

/// The codes of refusals that blame the node and not the change.
const BLAMES_THE_DISK: [&str; 2] = ["M011", "M012"];

#[derive(Debug)]
pub(super) struct Writes {
    write_ms: u64,
    open: BTreeMap<CommandId, (usize, Mono)>,
    /// Nodes whose disk or process is broken now.
    broken: BTreeSet<(usize, Harm)>,
    /// When each disk was broken last.
    mended: BTreeMap<usize, Mono>,
    /// Since when every write of a node fails.
    failing: BTreeMap<usize, Mono>,
}

impl Writes {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            write_ms: limits.write_ms,
            open: BTreeMap::new(),
            broken: BTreeSet::new(),
            mended: BTreeMap::new(),
            failing: BTreeMap::new(),
        }
    }

    fn works(&self, node: usize, now: Mono) -> bool {
        !self.broken.iter().any(|(n, _)| *n == node)
            && self
                .mended
                .get(&node)
                .is_none_or(|at| now.ms_since(*at) >= self.write_ms)
    }
}

impl Oracle for Writes {
    fn name(&self) -> &'static str {
        "local_writes_are_taken_while_the_disk_works"
    }

    fn note(&mut self, seen: &mut dyn Seen, note: &Note) -> Verdict {
        match &note.what {
            What::Asked {
                command,
                ask: Ask::Write(_),
            } => drop(self.open.insert(*command, (note.node, note.at))),
            What::Acked { command, .. } => drop(self.open.remove(command)),
            What::Refused { command, code, why } => {
                self.open.remove(command);
                if BLAMES_THE_DISK.contains(&code.as_str()) && self.works(note.node, note.at) {
                    let what = format!(
                        "expected the change to be taken: the disk works; seen {code}: {why}"
                    );
                    return self.broken(seen, Some(note.node), what);
                }
            }
            What::Killed | What::Paused | What::Started | What::Resumed => {
                self.open.retain(|_, (node, _)| *node != note.node);
            }
            What::Broken(harm @ (Harm::Disk | Harm::LossyDisk | Harm::Process)) => {
                self.broken.insert((note.node, *harm));
            }
            What::Mended(harm @ (Harm::Disk | Harm::LossyDisk | Harm::Process)) => {
                let is_disk = *harm != Harm::Process;
                self.broken
                    .retain(|(n, h)| *n != note.node || (*h != Harm::Process) != is_disk);
                self.mended.insert(note.node, note.at);
            }
            // A write that failed outside any fault counts as one, in case its cause is a single error.
            // It does so once: a store that fails on and on is not excused by its own failures.
            What::Stored { is_ok: false } => {
                let first = *self.failing.entry(note.node).or_insert(note.at);
                let mended = self.mended.entry(note.node).or_insert(first);
                *mended = first.max(*mended);
            }
            What::Stored { is_ok: true } => drop(self.failing.remove(&note.node)),
            _ => {}
        }
        Ok(())
    }

    fn sample(&mut self, seen: &mut dyn Seen) -> Verdict {
        let now = seen.now();
        let late = self
            .open
            .iter()
            .find(|(_, (node, at))| now.ms_since(*at) > self.write_ms && self.works(*node, now));
        if let Some((command, (node, at))) = late {
            let what = format!(
                "expected an answer to write {} within {} ms, seen none for {} ms",
                command.0,
                self.write_ms,
                now.ms_since(*at)
            );
            return self.broken(seen, Some(*node), what);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::fake::{Fake, note};

    fn refused(code: &str) -> What {
        What::Refused {
            command: CommandId(1),
            code: code.into(),
            why: "the store of this node refuses writes".into(),
        }
    }

    #[test]
    fn a_refusal_for_a_disk_that_works_is_noticed() {
        for (code, is_broken, is_wrong) in [
            ("M011", false, true),
            ("M011", true, false),
            ("M013", false, false),
        ] {
            let mut fake = Fake::new(1);
            let mut oracle = Writes::new(&Limits::default());
            if is_broken {
                let full = note(0, What::Broken(Harm::Disk));
                oracle.note(&mut fake, &full).unwrap();
            }
            let verdict = oracle.note(&mut fake, &note(0, refused(code)));
            assert_eq!(verdict.is_err(), is_wrong, "{code}");
        }
    }

    #[test]
    fn a_write_without_an_answer_is_noticed() {
        let mut fake = Fake::new(1);
        let mut oracle = Writes::new(&Limits::default());
        let (at, what) = (
            fake.now(),
            What::Asked {
                command: CommandId(1),
                ask: Ask::Write(vec![]),
            },
        );
        oracle.note(&mut fake, &Note { at, node: 0, what }).unwrap();
        fake.pass_ms(9_000);
        assert!(oracle.sample(&mut fake).is_ok());
        fake.pass_ms(2_000);
        assert!(oracle.sample(&mut fake).is_err());
    }
}
