//! Nothing that a disk damaged is taken for data: every statement and report bears its author's signature, and a
//! start reads only what was written.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::oracle::evidence::Rota;
use crate::oracle::{Note, Oracle, Seen, Verdict, What, short};
use crate::reference::known::{Known, are_same, kept};
use crate::reference::{envelope, registers};

/// Most envelopes remembered as sound.
const SOUND_MAX: usize = 200_000;

#[derive(Debug, Default)]
pub(super) struct Corruption {
    rota: Rota,
    sound: BTreeSet<[u8; 32]>,
    /// The same by where bytes lie, and what each node held when all of it was sound.
    sound_here: Known<()>,
    right: BTreeMap<usize, [Vec<Bytes>; 2]>,
    started: BTreeSet<usize>,
}

impl Corruption {
    fn is_sound(&mut self, bytes: &Bytes, check: impl FnOnce(&Bytes) -> bool) -> bool {
        if self.sound_here.get(bytes).is_some() {
            return true;
        }
        let hash = *blake3::hash(bytes).as_bytes();
        if self.sound.contains(&hash) {
            self.sound_here.put(bytes, ());
            return true;
        }
        if !check(bytes) {
            return false;
        }
        if self.sound.len() >= SOUND_MAX {
            self.sound.clear();
        }
        self.sound_here.put(bytes, ());
        self.sound.insert(hash)
    }

    fn check(&mut self, seen: &mut dyn Seen, node: usize) -> Verdict {
        let mesh = seen.mesh();
        let held = [seen.statements(node), seen.registers(node)].map(Option::unwrap_or_default);
        let is_known = |right: &[Vec<Bytes>; 2]| {
            let mut both = right.iter().zip(&held);
            both.all(|(right, held)| are_same(right, held))
        };
        if self.right.get(&node).is_some_and(is_known) {
            return Ok(());
        }
        for bytes in &held[0] {
            if !self.is_sound(bytes, |b| envelope::open(&mesh, b).is_some()) {
                let id = envelope::id_of(bytes);
                let what = format!(
                    "expected only signed statements, seen {id:?} of {} bytes, which nobody signed",
                    bytes.len()
                );
                return self.broken(seen, Some(node), what);
            }
        }
        for bytes in &held[1] {
            if !self.is_sound(bytes, |b| registers::open(&mesh, b).is_some()) {
                let what = format!(
                    "expected only signed reports, seen {} of {} bytes, which nobody signed",
                    short(blake3::hash(bytes).as_bytes()),
                    bytes.len()
                );
                return self.broken(seen, Some(node), what);
            }
        }
        self.right.insert(node, held.map(kept));
        Ok(())
    }
}

impl Oracle for Corruption {
    fn name(&self) -> &'static str {
        "corruption_is_never_silent"
    }

    fn note(&mut self, _seen: &mut dyn Seen, note: &Note) -> Verdict {
        if note.what == What::Started {
            self.started.insert(note.node);
        }
        Ok(())
    }

    fn sample(&mut self, seen: &mut dyn Seen) -> Verdict {
        let started = std::mem::take(&mut self.started);
        for node in &started {
            let audit = seen.audit(*node);
            let found = audit
                .invented
                .first()
                .map(|r| ("nothing that was never written", r))
                .or_else(|| audit.lost.first().map(|r| ("all that was written", r)));
            if let Some((expected, record)) = found {
                let what = format!("expected a start to read {expected}, seen: {record}");
                return self.broken(seen, Some(*node), what);
            }
            self.check(seen, *node)?;
        }
        for node in self.rota.turn(seen.count()) {
            self.check(seen, node)?;
        }
        Ok(())
    }

    fn end(&mut self, seen: &mut dyn Seen) -> Verdict {
        (0..seen.count()).try_for_each(|node| self.check(seen, node))
    }
}

#[cfg(test)]
mod tests {
    use lab_crdt_model::report::Section;

    use super::*;
    use crate::oracle::fake::{Fake, note};

    fn flipped(bytes: &Bytes, at: usize) -> Bytes {
        let mut bytes = bytes.to_vec();
        bytes[at] ^= 1;
        bytes.into()
    }

    #[test]
    fn a_flipped_bit_in_a_statement_or_report_is_noticed() {
        let mut fake = Fake::new(1);
        let said = fake.says("on/all/params/a");
        let report = fake.report(0, Section::Beacon, 1, 1);
        fake.hold_all(0);
        fake.node(0).registers.push(report.clone());
        assert!(Corruption::default().sample(&mut fake).is_ok());
        for at in [130, said.len() - 1] {
            fake.node(0).statements = vec![flipped(&said, at)];
            assert!(Corruption::default().sample(&mut fake).is_err());
        }
        fake.hold_all(0);
        fake.node(0).registers.push(flipped(&report, 45));
        assert!(Corruption::default().end(&mut fake).is_err());
    }

    #[test]
    fn a_start_that_reads_what_nobody_wrote_is_noticed() {
        let mut fake = Fake::new(1);
        let mut oracle = Corruption::default();
        fake.node(0).audit.invented.push("meta/root".into());
        assert!(oracle.sample(&mut fake).is_ok());
        oracle.note(&mut fake, &note(0, What::Started)).unwrap();
        let violation = oracle.sample(&mut fake).unwrap_err();
        assert!(violation.what.contains("meta/root"));
    }
}
