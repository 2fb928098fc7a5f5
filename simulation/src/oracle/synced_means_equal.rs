//! A node that shows a living peer as equal is right, or finds out soon.

use std::collections::BTreeMap;

use lab_agent_core::ViewMask;
use lab_crdt_model::view::Liveness;
use lab_crdt_model::{Mono, NodeId};

use crate::oracle::evidence::Rota;
use crate::oracle::{Limits, Oracle, Seen, Verdict, short};

#[derive(Debug)]
struct Claim {
    since: Mono,
    ours: [u8; 32],
    theirs: [u8; 32],
}

#[derive(Debug)]
pub(super) struct FalseEqual {
    false_equal_ms: u64,
    rota: Rota,
    claims: BTreeMap<(usize, usize), Claim>,
}

impl FalseEqual {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            false_equal_ms: limits.false_equal_ms,
            rota: Rota::default(),
            claims: BTreeMap::new(),
        }
    }

    fn check(
        &mut self,
        seen: &mut dyn Seen,
        by_id: &BTreeMap<NodeId, usize>,
        node: usize,
    ) -> Verdict {
        let mask = ViewMask {
            reports: true,
            ..ViewMask::default()
        };
        let view = seen.view(node, mask).filter(|_| !seen.is_paused(node));
        let (Some(view), Some(ours)) = (view, seen.digests(node)) else {
            self.claims.retain(|(n, _), _| *n != node);
            return Ok(());
        };
        let now = seen.now();
        for peer in &view.peers {
            let Some(other) = by_id.get(&peer.node).copied() else {
                continue;
            };
            let is_shown = peer.is_equal == Some(true)
                && peer.is_linked
                && peer.liveness == Liveness::Alive
                && !seen.is_paused(other)
                && seen.is_open(node, other)
                && seen.is_open(other, node);
            let theirs = seen
                .digests(other)
                .filter(|t| t.statements != ours.statements);
            let Some(theirs) = theirs.filter(|_| is_shown) else {
                self.claims.remove(&(node, other));
                continue;
            };
            let claim = self.claims.entry((node, other)).or_insert(Claim {
                since: now,
                ours: ours.statements,
                theirs: theirs.statements,
            });
            if (claim.ours, claim.theirs) != (ours.statements, theirs.statements) {
                *claim = Claim {
                    since: now,
                    ours: ours.statements,
                    theirs: theirs.statements,
                };
            }
            let ms = now.ms_since(claim.since);
            if ms > self.false_equal_ms {
                let what = format!(
                    "expected node {other} not to be shown as equal: it holds {}, this one {}, for {} s",
                    short(&theirs.statements),
                    short(&ours.statements),
                    ms / 1000
                );
                return self.broken(seen, Some(node), what);
            }
        }
        Ok(())
    }
}

impl Oracle for FalseEqual {
    fn name(&self) -> &'static str {
        "synced_means_equal"
    }

    fn sample(&mut self, seen: &mut dyn Seen) -> Verdict {
        let by_id = (0..seen.count()).map(|n| (seen.id(n), n)).collect();
        for node in self.rota.turn(seen.count()) {
            self.check(seen, &by_id, node)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::fake::Fake;

    fn shown(is_equal: Option<bool>, is_different: bool, changes: bool) -> bool {
        let mut fake = Fake::new(2);
        let mut oracle = FalseEqual::new(&Limits::default());
        fake.show_peer(0, 1).is_equal = is_equal;
        for n in 0..40u8 {
            if is_different {
                fake.node(1).digests.statements = [if changes { n + 1 } else { 1 }; 32];
            }
            fake.pass_ms(1_000);
            if oracle.sample(&mut fake).is_err() {
                return true;
            }
        }
        false
    }

    #[test]
    fn a_peer_that_is_shown_as_equal_for_long_and_is_not_is_noticed() {
        assert!(shown(Some(true), true, false));
        assert!(!shown(Some(true), false, false));
        assert!(!shown(Some(false), true, false));
        assert!(!shown(None, true, false));
        assert!(!shown(Some(true), true, true));
    }
}
