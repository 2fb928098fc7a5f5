//! Statements of kinds that this version does not know are kept and passed on byte by byte, and mean nothing.

use std::collections::BTreeMap;

use bytes::Bytes;
use lab_agent_core::ViewMask;
use lab_crdt_model::StatementId;
use lab_crdt_model::limit::FORK_BRANCHES_MAX;

use crate::oracle::evidence::Healing;
use crate::oracle::{Limits, Oracle, Phase, Seen, Verdict};
use crate::reference::authority::Verdict as Authority;
use crate::reference::envelope::{self, KIND_KNOWN_MAX};

#[derive(Debug)]
pub(super) struct UnknownKinds {
    heal_ms: u64,
    healing: Healing,
}

impl UnknownKinds {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            heal_ms: limits.heal_ms,
            healing: Healing::default(),
        }
    }
}

impl Oracle for UnknownKinds {
    fn name(&self) -> &'static str {
        "unknown_kinds_survive"
    }

    fn phase(&mut self, seen: &mut dyn Seen, phase: &Phase) {
        self.healing.phase(seen, phase);
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
        let mut held: BTreeMap<usize, BTreeMap<StatementId, Bytes>> = BTreeMap::new();
        for node in &nodes {
            let all = seen.statements(*node).unwrap_or_default().into_iter();
            let by_id = all.filter_map(|b| Some((envelope::id_of(&b)?, b)));
            held.insert(*node, by_id.collect());
        }
        let union: BTreeMap<StatementId, Bytes> = held
            .values()
            .flatten()
            .map(|(i, b)| (*i, b.clone()))
            .collect();
        let unknown: Vec<_> = union
            .values()
            .filter_map(envelope::read_shared)
            .filter(|s| s.kind > KIND_KNOWN_MAX)
            .collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let all: Vec<Bytes> = union.values().cloned().collect();
        let authority = Authority::of(seen.mesh(), &seen.root(), &all);
        for node in nodes {
            let me = authority.members.get(&seen.id(node));
            if me.is_none_or(|m| !m.is_live_at(seen.wall(node))) {
                continue;
            }
            let here = &held[&node];
            for s in &unknown {
                let is_told = authority.is_allowed(&s.author, &s.id)
                    && authority
                        .ends
                        .get(&s.author)
                        .is_none_or(|n| *n <= FORK_BRANCHES_MAX);
                if is_told && here.get(&s.id) != union.get(&s.id) {
                    let what = format!(
                        "expected {:?} of unknown kind {} byte by byte, seen {}",
                        s.id,
                        s.kind,
                        if here.contains_key(&s.id) {
                            "other bytes"
                        } else {
                            "nothing"
                        }
                    );
                    return self.broken(seen, Some(node), what);
                }
            }
            let mask = ViewMask {
                fields: true,
                ..ViewMask::default()
            };
            let view = seen.view(node, mask);
            let standing = view.iter().flat_map(|v| &v.fields);
            let meant = standing
                .flat_map(|f| &f.candidates)
                .find(|c| unknown.iter().any(|s| s.id == c.statement));
            if let Some(candidate) = meant {
                let what = format!(
                    "expected {:?} of an unknown kind to mean nothing, seen it as a value",
                    candidate.statement
                );
                return self.broken(seen, Some(node), what);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use lab_crdt_log::{Body, Kind};

    use super::*;
    use crate::oracle::fake::{ADMIN, Fake};

    #[test]
    fn a_statement_of_the_future_that_an_old_node_drops_is_noticed() {
        let mut fake = Fake::new(2);
        let mut oracle = UnknownKinds::new(&Limits::default());
        fake.sign(ADMIN, Body::Unknown(Kind(77), vec![1, 2, 3]));
        fake.hold_all(0);
        fake.hold_all(1);
        oracle.phase(&mut fake, &Phase::Healed);
        fake.pass_ms(61_000);
        assert!(oracle.end(&mut fake).is_ok());
        fake.node(1).statements.pop();
        assert_eq!(oracle.end(&mut fake).unwrap_err().node, Some(1));
    }
}
