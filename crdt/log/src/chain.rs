//! One author's statements: a chain, or a tree of bounded size once the author has forked it.
//!
//! A fork (two statements with one position) shows a stolen or rolled-back key. From the first fork on, at most
//! four branches (those with the lowest ids) of 64 statements each are kept, and inside a branch only the child
//! with the lowest id. Which statements are kept is a function of the set alone, so replicas agree.

use std::collections::BTreeMap;

use lab_crdt_model::StatementId;
use lab_crdt_model::limit::{FORK_BRANCHES_MAX, FORK_DEPTH_MAX};

#[derive(Debug, Default)]
pub(crate) struct Chain {
    /// Statements and their predecessors by position; more than one only from the first fork on.
    by_seq: BTreeMap<u64, Vec<(StatementId, StatementId)>>,
    fork_at: Option<u64>,
}

impl Chain {
    pub(crate) fn len(&self) -> usize {
        self.by_seq.values().map(Vec::len).sum()
    }

    pub(crate) const fn is_forked(&self) -> bool {
        self.fork_at.is_some()
    }

    /// Takes in a statement whose predecessor is here. Returns what is no longer kept, perhaps the new one itself.
    pub(crate) fn insert(
        &mut self,
        seq: u64,
        id: StatementId,
        prev: StatementId,
    ) -> Vec<StatementId> {
        let place = self.by_seq.entry(seq).or_default();
        place.push((id, prev));
        place.sort_unstable();
        if place.len() > 1 && self.fork_at.is_none_or(|at| seq < at) {
            self.fork_at = Some(seq);
        }
        if self
            .fork_at
            .is_some_and(|at| seq >= at || self.by_seq.keys().next_back() > Some(&at))
        {
            self.prune()
        } else {
            Vec::new()
        }
    }

    fn prune(&mut self) -> Vec<StatementId> {
        let Some(at) = self.fork_at else {
            return Vec::new();
        };
        let mut removed = Vec::new();
        let mut above: Vec<StatementId> = Vec::new();
        let last = self.by_seq.keys().next_back().copied().unwrap_or(at);
        for seq in at..=last {
            let Some(place) = self.by_seq.get_mut(&seq) else {
                continue;
            };
            let mut kept: Vec<(StatementId, StatementId)> = Vec::new();
            for &(id, prev) in place.iter() {
                let fits = if seq == at {
                    kept.len() < FORK_BRANCHES_MAX
                } else {
                    seq - at < FORK_DEPTH_MAX as u64
                        && above.contains(&prev)
                        && !kept.iter().any(|(_, p)| *p == prev)
                };
                if fits {
                    kept.push((id, prev));
                } else {
                    removed.push(id);
                }
            }
            above = kept.iter().map(|(id, _)| *id).collect();
            *place = kept;
        }
        self.by_seq.retain(|_, place| !place.is_empty());
        removed
    }

    /// Ends of all branches with their positions, ascending by id. They describe the whole set.
    pub(crate) fn tips(&self) -> Vec<(StatementId, u64)> {
        let Some(at) = self.fork_at else {
            return self
                .by_seq
                .iter()
                .next_back()
                .map(|(seq, place)| (place[0].0, *seq))
                .into_iter()
                .collect();
        };
        let mut tips = Vec::new();
        for (seq, place) in self.by_seq.range(at..) {
            let next = self.by_seq.get(&(seq + 1));
            for (id, _) in place {
                if !next.is_some_and(|n| n.iter().any(|(_, prev)| prev == id)) {
                    tips.push((*id, *seq));
                }
            }
        }
        tips.sort_unstable();
        tips
    }

    /// The statement to continue: the longest branch, of equals the one with the lowest id.
    pub(crate) fn head(&self) -> Option<(StatementId, u64)> {
        self.tips()
            .into_iter()
            .min_by_key(|(id, seq)| (std::cmp::Reverse(*seq), *id))
    }

    pub(crate) fn contains(&self, seq: u64, id: &StatementId) -> bool {
        self.by_seq
            .get(&seq)
            .is_some_and(|place| place.iter().any(|(i, _)| i == id))
    }

    /// `head` and everything before it in its chain; empty if `head` is not here.
    pub(crate) fn ancestors(&self, head: &StatementId, seq: u64) -> Vec<StatementId> {
        let (mut at, mut seq, mut out) = (*head, seq, Vec::new());
        while let Some((id, prev)) = self
            .by_seq
            .get(&seq)
            .and_then(|place| place.iter().find(|(id, _)| *id == at))
        {
            out.push(*id);
            if seq == 0 {
                break;
            }
            (at, seq) = (*prev, seq - 1);
        }
        out
    }

    /// The first statement of the branch that `id` is on, unless that is the branch with the lowest id.
    pub(crate) fn branch(&self, id: &StatementId, seq: u64) -> Option<StatementId> {
        let at = self.fork_at.filter(|at| seq >= *at)?;
        let (mut first, mut s) = (*id, seq);
        while s > at {
            first = self.by_seq.get(&s)?.iter().find(|(i, _)| *i == first)?.1;
            s -= 1;
        }
        let lowest = self.by_seq.get(&at)?.first()?.0;
        (first != lowest).then_some(first)
    }

    /// Everything that `tips` of a peer do not cover, by position; a tip that is unknown here counts as a copy of
    /// what is here below its position. (Where that is wrong the peer asks for what is missing.)
    pub(crate) fn beyond(&self, tips: &[(u64, StatementId)]) -> Vec<StatementId> {
        let mut has: Vec<StatementId> = Vec::new();
        let mut assumed = 0;
        for (seq, id) in tips {
            if self.contains(*seq, id) {
                if self.fork_at.is_none() {
                    assumed = assumed.max(seq + 1);
                } else {
                    has.extend(self.ancestors(id, *seq));
                }
            } else {
                // If there is something else at that position here, the peer lacks it.
                assumed = assumed.max(*seq);
            }
        }
        has.sort_unstable();
        self.by_seq
            .iter()
            .filter(|(seq, _)| **seq >= assumed || self.fork_at.is_some())
            .flat_map(|(seq, place)| place.iter().map(move |(id, _)| (*seq, *id)))
            .filter(|(seq, id)| {
                has.binary_search(id).is_err()
                    && (*seq >= assumed || self.fork_at.is_some_and(|at| *seq >= at))
            })
            .map(|(_, id)| id)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(n: u8) -> StatementId {
        StatementId([n; 32])
    }

    fn linear(n: u8) -> Chain {
        let mut chain = Chain::default();
        for i in 0..n {
            let prev = if i == 0 { StatementId::ZERO } else { id(i) };
            assert!(chain.insert(u64::from(i), id(i + 1), prev).is_empty());
        }
        chain
    }

    #[test]
    fn a_chain_without_forks_grows_without_limit() {
        let chain = linear(200);
        assert_eq!(chain.tips(), [(id(200), 199)]);
        assert_eq!(chain.len(), 200);
        assert_eq!(chain.beyond(&[(197, id(198))]), [id(199), id(200)]);
        assert!(chain.beyond(&[(300, id(255))]).is_empty());
    }

    #[test]
    fn a_fork_keeps_four_branches_of_64() {
        let mut chain = linear(200);
        let mut removed = chain.insert(100, id(250), id(100));
        assert_eq!(removed.len(), 200 - 100 - 64);
        for n in 201..=210 {
            removed = chain.insert(100, id(n), id(100));
        }
        assert_eq!(removed.len(), 1);
        assert_eq!(chain.tips().len(), 4);
        assert_eq!(chain.branch(&id(150), 149), None);
        assert_eq!(chain.branch(&id(201), 100), Some(id(201)));
        assert_eq!(chain.branch(&id(90), 89), None);
    }

    proptest! {
        #[test]
        fn what_is_kept_does_not_depend_on_the_order_of_arrival(seed in any::<u64>(), n in 2usize..120) {
            // A random tree of statements; two causal orders of it.
            let mut nodes: Vec<(u64, StatementId, StatementId)> = Vec::new();
            let mut x = seed;
            let mut next = || { x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407); x >> 33 };
            for i in 0..n {
                let (seq, prev) = if i == 0 || next() % 20 == 0 { (0, StatementId::ZERO) } else {
                    let p = if next() % 4 == 0 { nodes[next() as usize % nodes.len()] } else { nodes[nodes.len() - 1] };
                    (p.0 + 1, p.1)
                };
                let mut bytes = [0; 32];
                bytes[..8].copy_from_slice(&next().to_be_bytes());
                bytes[8..16].copy_from_slice(&(i as u64).to_be_bytes());
                nodes.push((seq, StatementId(bytes), prev));
            }
            let by_seq = { let mut o = nodes.clone(); o.sort_by_key(|n| (n.0, n.1)); o };
            // Deliver with retries, as the pull does: what misses its predecessor waits for the next round.
            let mut kept = Vec::new();
            for order in [nodes.clone(), by_seq, nodes.iter().rev().copied().collect()] {
                let mut chain = Chain::default();
                for _round in 0..=n {
                    for (seq, id, prev) in &order {
                        let has_prev = *seq == 0 || chain.contains(seq - 1, prev);
                        if has_prev && !chain.contains(*seq, id) {
                            chain.insert(*seq, *id, *prev);
                        }
                    }
                }
                kept.push(chain.by_seq.clone());
            }
            prop_assert_eq!(&kept[0], &kept[1]);
            prop_assert_eq!(&kept[0], &kept[2]);
        }
    }
}
