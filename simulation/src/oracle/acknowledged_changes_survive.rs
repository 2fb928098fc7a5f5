//! What an agent acknowledged is there after every crash of that agent, and in the end everywhere.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use lab_crdt_model::limit::FORK_BRANCHES_MAX;
use lab_crdt_model::{AuthorId, StatementId};

use crate::oracle::evidence::{Healing, Trust};
use crate::oracle::{Limits, Note, Oracle, Phase, Seen, Verdict, What};
use crate::reference::authority::Verdict as Authority;
use crate::reference::envelope;

#[derive(Debug)]
struct Promise {
    by: usize,
    /// Nodes with an honest disk that held it durably at some time.
    kept_by: BTreeSet<usize>,
}

#[derive(Debug)]
pub(super) struct Acknowledged {
    heal_ms: u64,
    healing: Healing,
    trust: Trust,
    promises: BTreeMap<StatementId, Promise>,
    /// Nodes that started since the last sample.
    started: BTreeSet<usize>,
}

impl Acknowledged {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            heal_ms: limits.heal_ms,
            healing: Healing::default(),
            trust: Trust::default(),
            promises: BTreeMap::new(),
            started: BTreeSet::new(),
        }
    }

    /// Whether it is not known yet that anyone but its promiser held it.
    fn is_alone(promise: &Promise) -> bool {
        promise.kept_by.iter().all(|node| *node == promise.by)
    }

    /// What must be there: at least one honest disk held it all the time.
    fn is_due(&self, promise: &Promise) -> bool {
        self.trust.is_honest(promise.by)
            || promise
                .kept_by
                .iter()
                .any(|node| self.trust.is_honest(*node))
    }

    fn held(seen: &mut dyn Seen, node: usize) -> Option<BTreeSet<StatementId>> {
        let all = seen.statements(node)?;
        Some(all.iter().filter_map(envelope::id_shared).collect())
    }
}

impl Oracle for Acknowledged {
    fn name(&self) -> &'static str {
        "acknowledged_changes_survive"
    }

    fn phase(&mut self, seen: &mut dyn Seen, phase: &Phase) {
        self.healing.phase(seen, phase);
    }

    fn note(&mut self, _seen: &mut dyn Seen, note: &Note) -> Verdict {
        self.trust.note(note);
        match &note.what {
            What::Acked { ids, .. } => {
                for id in ids {
                    let promise = Promise {
                        by: note.node,
                        kept_by: BTreeSet::new(),
                    };
                    self.promises.entry(*id).or_insert(promise);
                }
            }
            What::Started => drop(self.started.insert(note.node)),
            What::Killed => drop(self.started.remove(&note.node)),
            _ => {}
        }
        Ok(())
    }

    fn sample(&mut self, seen: &mut dyn Seen) -> Verdict {
        for node in std::mem::take(&mut self.started) {
            if !self.trust.is_honest(node) || seen.digests(node).is_none() {
                continue;
            }
            let Some(held) = Self::held(seen, node) else {
                continue;
            };
            let lost = self
                .promises
                .iter()
                .find(|(id, promise)| promise.by == node && !held.contains(id));
            if let Some((id, _)) = lost {
                let what = format!(
                    "expected {id:?}, which this node acknowledged, after its restart; seen {} statements without it",
                    held.len()
                );
                return self.broken(seen, Some(node), what);
            }
        }
        // Promises of doubtful disks need others who kept them, and those of machines that are put out of the mesh.
        let doubtful: Vec<StatementId> = self
            .promises
            .iter()
            .filter(|(_, p)| !self.is_due(p) || Self::is_alone(p))
            .map(|(id, _)| *id)
            .collect();
        if doubtful.is_empty() {
            return Ok(());
        }
        for node in (0..seen.count()).filter(|n| self.trust.is_honest(*n)) {
            let Some(durable) = seen.durable(node) else {
                continue;
            };
            for id in doubtful.iter().filter(|id| durable.contains(id)) {
                if let Some(promise) = self.promises.get_mut(id) {
                    promise.kept_by.insert(node);
                }
            }
        }
        Ok(())
    }

    fn end(&mut self, seen: &mut dyn Seen) -> Verdict {
        if self
            .healing
            .ms(seen.now())
            .is_none_or(|ms| ms < self.heal_ms)
        {
            return Ok(());
        }
        let nodes = self.healing.nodes(seen);
        let mut all: Vec<Bytes> = Vec::new();
        let mut held: BTreeMap<usize, BTreeSet<StatementId>> = BTreeMap::new();
        for node in &nodes {
            let Some(statements) = seen.statements(*node) else {
                continue;
            };
            let ids = statements.iter().filter_map(envelope::id_shared);
            held.insert(*node, ids.collect());
            all.extend(statements);
        }
        let authority = Authority::of(seen.mesh(), &seen.root(), &all);
        let authors: BTreeMap<StatementId, AuthorId> = all
            .iter()
            .filter_map(envelope::read_shared)
            .map(|s| (s.id, s.author))
            .collect();
        // Beyond a cut, and of chains with more ends than are kept, each replica keeps what came first.
        let is_told = |id: &StatementId| {
            authors.get(id).is_none_or(|author| {
                authority.is_allowed(author, id)
                    && authority
                        .ends
                        .get(author)
                        .is_none_or(|n| *n <= FORK_BRANCHES_MAX)
            })
        };
        let members: Vec<usize> = nodes
            .into_iter()
            .filter(|n| {
                authority
                    .members
                    .get(&seen.id(*n))
                    .is_some_and(|m| m.is_live_at(seen.wall(*n)))
            })
            .collect();
        for (id, promise) in self.promises.iter().filter(|(_, p)| self.is_due(p)) {
            // What only a machine held that was put out of the mesh before it could tell anyone goes with it: whom
            // others took out, they do not talk to.
            let is_out = !members.contains(&promise.by);
            if is_out && !promise.kept_by.iter().any(|n| members.contains(n)) {
                continue;
            }
            for node in &members {
                let is_there = held.get(node).is_none_or(|ids| ids.contains(id));
                if !is_there && is_told(id) {
                    let what = format!(
                        "expected {id:?}, acknowledged by node {}, everywhere; it is not here",
                        promise.by
                    );
                    return self.broken(seen, Some(*node), what);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use lab_agent_core::CommandId;

    use super::*;
    use crate::oracle::Harm;
    use crate::oracle::fake::{Fake, note};

    fn acked(fake: &mut Fake) -> (Acknowledged, Bytes) {
        let mut oracle = Acknowledged::new(&Limits::default());
        let bytes = fake.says("on/all/params/a");
        let ids = vec![envelope::id_of(&bytes).unwrap()];
        let acked = What::Acked {
            command: CommandId(1),
            ids,
        };
        assert!(oracle.note(fake, &note(0, acked)).is_ok());
        (oracle, bytes)
    }

    #[test]
    fn a_change_that_is_gone_after_a_restart_is_noticed() {
        for is_there in [true, false] {
            let mut fake = Fake::new(2);
            let (mut oracle, _) = acked(&mut fake);
            if is_there {
                fake.hold_all(0);
            }
            oracle.note(&mut fake, &note(0, What::Killed)).unwrap();
            oracle.note(&mut fake, &note(0, What::Started)).unwrap();
            assert_eq!(oracle.sample(&mut fake).is_ok(), is_there);
        }
    }

    #[test]
    fn a_change_that_did_not_reach_everyone_is_noticed_in_the_end() {
        let mut fake = Fake::new(2);
        let (mut oracle, _) = acked(&mut fake);
        fake.hold_all(0);
        oracle.phase(&mut fake, &Phase::Healed);
        fake.pass_ms(61_000);
        assert_eq!(oracle.end(&mut fake).unwrap_err().node, Some(1));
        fake.hold_all(1);
        assert!(oracle.end(&mut fake).is_ok());
    }

    #[test]
    fn what_only_a_lying_disk_held_may_be_lost_and_what_another_held_may_not() {
        for is_held_by_another in [false, true] {
            let mut fake = Fake::new(3);
            let (mut oracle, bytes) = acked(&mut fake);
            let lying = note(0, What::Broken(Harm::LossyDisk));
            oracle.note(&mut fake, &lying).unwrap();
            if is_held_by_another {
                fake.node(2).durable = [envelope::id_of(&bytes).unwrap()].into();
            }
            assert!(oracle.sample(&mut fake).is_ok());
            oracle.phase(&mut fake, &Phase::Healed);
            fake.pass_ms(61_000);
            assert_eq!(oracle.end(&mut fake).is_err(), is_held_by_another);
        }
    }
}
