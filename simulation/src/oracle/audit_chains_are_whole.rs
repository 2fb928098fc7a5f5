//! The audit chain of every machine is complete and chained, and holds every hand-in that the machine acknowledged.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use lab_crdt_model::StatementId;

use crate::oracle::evidence::{Rota, Trust};
use crate::oracle::{Note, Oracle, Seen, Verdict, What};
use crate::reference::audit::{self, End};

/// What was seen of one chain.
#[derive(Debug, Default)]
struct Chain {
    end: End,
    /// Acknowledged, and not found in a record yet.
    open: BTreeSet<StatementId>,
    acked: BTreeSet<StatementId>,
}

#[derive(Debug, Default)]
pub(super) struct AuditChains {
    trust: Trust,
    rota: Rota,
    chains: BTreeMap<usize, Chain>,
    started: BTreeSet<usize>,
}

impl AuditChains {
    fn look(&mut self, seen: &mut dyn Seen, node: usize) -> Verdict {
        if !self.trust.is_honest(node) {
            return Ok(());
        }
        let Some(records) = seen.audit_chain(node) else {
            return Ok(());
        };
        let chain = self.chains.entry(node).or_default();
        let (mesh, id, end) = (seen.mesh(), seen.id(node), chain.end);
        let what = match behind(&records, end) {
            None => Some(format!(
                "expected record {}, which was there before, in the audit chain; seen {} records",
                end.0,
                records.len()
            )),
            Some(new) => match audit::follow(mesh, id, end, new) {
                Err(why) => Some(format!("expected one whole audit chain; {why}")),
                Ok(next) => {
                    chain.end = next;
                    None
                }
            },
        };
        if let Some(what) = what {
            return self.broken(seen, Some(node), what);
        }
        if chain.open.is_empty() {
            return Ok(());
        }
        let hand_ins: Vec<&Bytes> = records.iter().filter(|r| audit::is_hand_in(r)).collect();
        chain
            .open
            .retain(|id| !hand_ins.iter().any(|record| audit::names(record, id)));
        if let Some(id) = chain.open.first() {
            let what = format!("expected {id:?}, which was acknowledged, in the audit chain");
            return self.broken(seen, Some(node), what);
        }
        Ok(())
    }
}

/// The records behind an end; `None` if it is not among them.
fn behind(records: &[Bytes], end: End) -> Option<&[Bytes]> {
    if end.0 == 0 {
        return Some(records);
    }
    let at = records
        .iter()
        .position(|r| audit::number(r) == Some(end.0))?;
    (*blake3::hash(&records[at]).as_bytes() == end.1).then(|| &records[at + 1..])
}

impl Oracle for AuditChains {
    fn name(&self) -> &'static str {
        "audit_chains_are_whole"
    }

    fn note(&mut self, _seen: &mut dyn Seen, note: &Note) -> Verdict {
        self.trust.note(note);
        match &note.what {
            What::Acked { ids, .. } => {
                let chain = self.chains.entry(note.node).or_default();
                for id in audit::named(ids) {
                    if chain.acked.insert(id) {
                        chain.open.insert(id);
                    }
                }
            }
            What::Started => drop(self.started.insert(note.node)),
            What::Killed => drop(self.started.remove(&note.node)),
            _ => {}
        }
        Ok(())
    }

    fn sample(&mut self, seen: &mut dyn Seen) -> Verdict {
        let mut nodes: BTreeSet<usize> = self.rota.turn(seen.count()).into_iter().collect();
        nodes.extend(std::mem::take(&mut self.started));
        nodes.into_iter().try_for_each(|node| self.look(seen, node))
    }

    fn end(&mut self, seen: &mut dyn Seen) -> Verdict {
        (0..seen.count()).try_for_each(|node| self.look(seen, node))
    }
}

#[cfg(test)]
mod tests {
    use lab_agent_core::CommandId;
    use lab_crdt_log::{Act, AuditBody, AuditRecord, Kind, seal_audit};
    use lab_crdt_model::report::AuditHead;
    use lab_crdt_model::{Caller, Wall};

    use super::*;
    use crate::oracle::Harm;
    use crate::oracle::fake::{Fake, author, key, note};

    /// Records after a head: a start, and a hand-in of each id.
    fn records(fake: &Fake, mut head: AuditHead, ids: &[StatementId]) -> Vec<AuditRecord> {
        let start = Act::Started {
            incarnation: 1,
            version: String::new(),
        };
        let hand_in = |id: &StatementId| Act::handed_in(author(&key(3)), &[(*id, Kind::EDIT)]);
        let acts = [start].into_iter().chain(ids.iter().map(hand_in));
        let mut seal = |act| {
            let caller = Some(Caller::Local { uid: 70_000 });
            let body = AuditBody { caller, act };
            let record = seal_audit(&fake.mesh(), &fake.key(0), &head, Wall(1), &body);
            head = record.head();
            record
        };
        acts.map(&mut seal).collect()
    }

    fn show(fake: &mut Fake, records: &[AuditRecord]) {
        fake.node(0).audit_chain = records.iter().map(|r| r.bytes.clone()).collect();
    }

    fn acked(ids: &[StatementId]) -> Note {
        let acked = What::Acked {
            command: CommandId(1),
            ids: ids.to_vec(),
        };
        note(0, acked)
    }

    const IDS: [StatementId; 2] = [StatementId([4; 32]), StatementId([5; 32])];

    #[test]
    fn a_record_that_is_missing_swapped_or_gone_again_is_noticed() {
        let mut fake = Fake::new(1);
        let whole = records(&fake, AuditHead::default(), &IDS);
        let mut oracle = AuditChains::default();
        show(&mut fake, &whole);
        assert!(oracle.sample(&mut fake).is_ok());
        show(&mut fake, &whole[..2]);
        assert!(oracle.sample(&mut fake).is_err());
        for bad in [
            vec![whole[0].clone(), whole[2].clone()],
            vec![whole[1].clone(), whole[0].clone()],
            vec![whole[1].clone()],
        ] {
            show(&mut fake, &bad);
            assert!(AuditChains::default().sample(&mut fake).is_err());
        }
    }

    #[test]
    fn an_acknowledged_change_without_a_record_is_noticed() {
        for is_there in [true, false] {
            let mut fake = Fake::new(1);
            let mut oracle = AuditChains::default();
            let ids = if is_there { &IDS[..] } else { &IDS[..1] };
            let whole = records(&fake, AuditHead::default(), ids);
            show(&mut fake, &whole);
            oracle.note(&mut fake, &acked(&IDS)).unwrap();
            assert_eq!(oracle.end(&mut fake).is_ok(), is_there);
        }
    }

    #[test]
    fn what_a_lying_disk_lost_is_excused() {
        let mut fake = Fake::new(1);
        let mut oracle = AuditChains::default();
        oracle.note(&mut fake, &acked(&IDS)).unwrap();
        let lying = note(0, What::Broken(Harm::LossyDisk));
        oracle.note(&mut fake, &lying).unwrap();
        assert!(oracle.end(&mut fake).is_ok());
    }
}
