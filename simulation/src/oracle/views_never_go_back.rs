//! What a node knows only grows, over restarts too: statements, numbers of reports, its own incarnation.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use lab_crdt_model::report::Section;
use lab_crdt_model::{Mono, NodeId, StatementId};

use crate::oracle::evidence::{Rota, Trust};
use crate::oracle::{Note, Oracle, Seen, Verdict, What, short};
use crate::reference::known::{are_same, kept};
use crate::reference::{envelope, registers};

/// Time in which a start has read its disk and what was being written is decided, milliseconds.
const LOAD_MS: u64 = 5_000;

/// What a node once knew.
#[derive(Debug, Default)]
struct Mark {
    /// Statements since its last start.
    held: BTreeSet<u32>,
    digest: [u8; 32],
    /// It started and was not looked at since.
    is_fresh: bool,
    /// What its disk held when it had just started, and when that was: it must come to know all of it.
    durable: Option<(Mono, BTreeSet<u32>)>,
    /// Numbers of reports since its last start.
    seqs: BTreeMap<(NodeId, Section), u64>,
    /// Its reports when they were looked at last.
    reports: Vec<Bytes>,
}

/// Reports of one incarnation: the first and last number seen.
type Span = (u64, u64);

#[derive(Debug, Default)]
pub(super) struct Watermarks {
    trust: Trust,
    rota: Rota,
    /// Short numbers for statements: there are many nodes, and each remembers many.
    numbers: BTreeMap<StatementId, u32>,
    marks: BTreeMap<usize, Mark>,
    /// Every report ever seen, by node and number.
    reports: BTreeMap<(NodeId, u64), [u8; 32]>,
    incarnations: BTreeMap<NodeId, BTreeMap<u64, Span>>,
}

impl Watermarks {
    fn number(&mut self, ids: impl IntoIterator<Item = StatementId>) -> BTreeSet<u32> {
        ids.into_iter()
            .map(|id| {
                let next = self.numbers.len() as u32;
                *self.numbers.entry(id).or_insert(next)
            })
            .collect()
    }

    fn name(&self, number: u32) -> String {
        let found = self.numbers.iter().find(|(_, n)| **n == number);
        found.map_or(String::new(), |(id, _)| format!("{id:?}"))
    }

    fn statements(&mut self, seen: &mut dyn Seen, node: usize) -> Verdict {
        let Some(digests) = seen.digests(node) else {
            return Ok(());
        };
        let is_known = self
            .marks
            .get(&node)
            .is_some_and(|m| m.digest == digests.statements && !m.held.is_empty());
        if !is_known && let Some(all) = seen.statements(node) {
            let ids: Vec<StatementId> = all.iter().filter_map(envelope::id_shared).collect();
            let held = self.number(ids);
            let mark = self.marks.entry(node).or_default();
            let before = std::mem::replace(&mut mark.held, held);
            mark.digest = digests.statements;
            let now = &self.marks[&node].held;
            if let Some(lost) = before.iter().find(|n| !now.contains(n)) {
                let what = format!(
                    "expected every statement of {} that were here, seen {} (digest {}) without {}",
                    before.len(),
                    now.len(),
                    short(&digests.statements),
                    self.name(*lost)
                );
                return self.broken(seen, Some(node), what);
            }
        }
        let mark = self.marks.entry(node).or_default();
        if std::mem::take(&mut mark.is_fresh)
            && self.trust.is_honest(node)
            && let Some(durable) = seen.durable(node)
        {
            let durable = self.number(durable);
            let mark = self.marks.entry(node).or_default();
            mark.durable = Some((seen.now(), durable));
        }
        let mark = self.marks.entry(node).or_default();
        let is_due = |(at, _): &mut (Mono, _)| seen.now().ms_since(*at) >= LOAD_MS;
        if let Some((_, durable)) = mark.durable.take_if(is_due)
            && let Some(lost) = durable.iter().find(|n| !self.marks[&node].held.contains(n))
        {
            let what = format!(
                "expected the {} statements that its disk held when it started, seen {} without {}",
                durable.len(),
                self.marks[&node].held.len(),
                self.name(*lost)
            );
            return self.broken(seen, Some(node), what);
        }
        Ok(())
    }

    fn reports(&mut self, seen: &mut dyn Seen, node: usize) -> Verdict {
        let Some(all) = seen.registers(node) else {
            return Ok(());
        };
        // The very same: whatever speaks against them now was seen elsewhere later, and noticed there.
        let mark = self.marks.entry(node).or_default();
        if are_same(&mark.reports, &all) {
            return Ok(());
        }
        let owners: BTreeMap<NodeId, usize> = (0..seen.count()).map(|n| (seen.id(n), n)).collect();
        for report in all.iter().filter_map(registers::read_shared) {
            let is_honest = owners
                .get(&report.node)
                .is_some_and(|owner| self.trust.is_honest(*owner));
            let mark = self.marks.entry(node).or_default();
            let last = mark.seqs.entry((report.node, report.section)).or_default();
            if report.seq < *last {
                let what = format!(
                    "expected report {:?} {last} of {:?} or a newer one, seen {}",
                    report.section, report.node, report.seq
                );
                return self.broken(seen, Some(node), what);
            }
            *last = report.seq;
            if !is_honest {
                continue;
            }
            let first = *self
                .reports
                .entry((report.node, report.seq))
                .or_insert(report.hash);
            if first != report.hash {
                let what = format!(
                    "expected {:?} to use number {} once, seen two reports: {} and {}",
                    report.node,
                    report.seq,
                    short(&first),
                    short(&report.hash)
                );
                return self.broken(seen, Some(node), what);
            }
            let spans = self.incarnations.entry(report.node).or_default();
            let span = spans
                .entry(report.incarnation)
                .or_insert((report.seq, report.seq));
            *span = (span.0.min(report.seq), span.1.max(report.seq));
            let span = *span;
            let other = spans.iter().find(|(incarnation, other)| {
                **incarnation != report.incarnation && other.0 <= span.1 && span.0 <= other.1
            });
            if let Some((other, _)) = other {
                let what = format!(
                    "expected the incarnations of {:?} one after the other, seen {other:x} and {:x} mixed",
                    report.node, report.incarnation
                );
                return self.broken(seen, Some(node), what);
            }
        }
        self.marks.entry(node).or_default().reports = kept(all);
        Ok(())
    }
}

impl Oracle for Watermarks {
    fn name(&self) -> &'static str {
        "views_never_go_back"
    }

    fn note(&mut self, _seen: &mut dyn Seen, note: &Note) -> Verdict {
        self.trust.note(note);
        let mark = self.marks.entry(note.node).or_default();
        match &note.what {
            What::Killed | What::Started => {
                *mark = Mark {
                    is_fresh: note.what == What::Started,
                    ..Mark::default()
                };
            }
            What::Broken(crate::oracle::Harm::LossyDisk) => mark.durable = None,
            _ => {}
        }
        Ok(())
    }

    fn sample(&mut self, seen: &mut dyn Seen) -> Verdict {
        for node in self.rota.turn(seen.count()) {
            self.statements(seen, node)?;
            self.reports(seen, node)?;
        }
        Ok(())
    }

    fn end(&mut self, seen: &mut dyn Seen) -> Verdict {
        for node in 0..seen.count() {
            self.statements(seen, node)?;
            self.reports(seen, node)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::fake::{Fake, note};

    fn grown() -> (Fake, Watermarks) {
        let mut fake = Fake::new(2);
        let mut oracle = Watermarks::default();
        fake.says("on/all/params/a");
        fake.hold_all(0);
        fake.node(0).digests.statements = [1; 32];
        assert!(oracle.sample(&mut fake).is_ok());
        (fake, oracle)
    }

    #[test]
    fn a_set_that_grows_is_fine_and_one_that_shrinks_is_not() {
        let (mut fake, mut oracle) = grown();
        fake.says("on/all/params/b");
        fake.hold_all(0);
        fake.node(0).digests.statements = [2; 32];
        assert!(oracle.sample(&mut fake).is_ok());
        fake.node(0).statements.pop();
        fake.node(0).digests.statements = [1; 32];
        assert_eq!(oracle.sample(&mut fake).unwrap_err().node, Some(0));
    }

    #[test]
    fn a_restart_may_forget_what_was_not_durable_only() {
        for is_read in [true, false] {
            let (mut fake, mut oracle) = grown();
            let durable = fake.node(0).statements[0].clone();
            fake.node(0).durable = [envelope::id_of(&durable).unwrap()].into();
            oracle.note(&mut fake, &note(0, What::Killed)).unwrap();
            fake.node(0).statements = if is_read { vec![durable] } else { vec![] };
            fake.node(0).digests.statements = [3; 32];
            oracle.note(&mut fake, &note(0, What::Started)).unwrap();
            assert!(oracle.sample(&mut fake).is_ok());
            fake.pass_ms(6_000);
            assert_eq!(oracle.sample(&mut fake).is_ok(), is_read);
        }
    }

    #[test]
    fn a_report_that_gets_older_is_noticed() {
        let (mut fake, mut oracle) = grown();
        fake.node(0).registers = vec![fake.report(1, Section::Status, 7, 5)];
        assert!(oracle.sample(&mut fake).is_ok());
        fake.node(0).registers = vec![fake.report(1, Section::Status, 7, 4)];
        assert!(oracle.sample(&mut fake).is_err());
    }

    #[test]
    fn a_number_used_twice_is_noticed_even_on_two_nodes() {
        let (mut fake, mut oracle) = grown();
        fake.node(0).registers = vec![fake.report(1, Section::Status, 7, 5)];
        fake.node(1).registers = vec![fake.report(1, Section::Beacon, 7, 5)];
        assert!(oracle.sample(&mut fake).is_err());
    }

    #[test]
    fn incarnations_that_mix_are_noticed_unless_a_disk_was_copied() {
        for is_copied in [false, true] {
            let (mut fake, mut oracle) = grown();
            if is_copied {
                let copied = note(1, What::Broken(crate::oracle::Harm::LossyDisk));
                oracle.note(&mut fake, &copied).unwrap();
            }
            let mut verdicts = Vec::new();
            for (incarnation, seq) in [(7, 1), (8, 2), (7, 3)] {
                fake.node(0).registers = vec![fake.report(1, Section::Beacon, incarnation, seq)];
                verdicts.push(oracle.sample(&mut fake).is_ok());
            }
            assert_eq!(verdicts, [true, true, is_copied]);
        }
    }
}
