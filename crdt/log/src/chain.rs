//! One author's statements: a chain, or a tree once the author has forked it.
//!
//! A fork (two statements with one predecessor) shows a stolen or rolled-back key. Nothing in the statements
//! tells the thief's branch from the owner's, so what is here is never dropped for what comes later: at most
//! four branches are kept, those that came first. Replicas may differ in what lies beyond that until an admin
//! names the branch that counts.

use std::collections::{BTreeMap, BTreeSet};

use imbl::OrdMap;
use lab_crdt_model::limit::FORK_BRANCHES_MAX;
use lab_crdt_model::{StatementId, reached};

/// The position of a tip that stands for "send no more of this author": it has reached a limit at the receiver.
pub(crate) const NO_MORE: u64 = u64::MAX;

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Chain {
    /// Predecessors, by position and statement; more than one at a position only where branches run side by side.
    by_seq: OrdMap<(u64, StatementId), StatementId>,
    /// Ends of all branches with their positions, ascending by id.
    tips: Vec<(StatementId, u64)>,
    /// The first position with two statements.
    fork_at: Option<u64>,
    /// From the first fork on: the first statement of the branch that each statement is on. Only while forked.
    branches: OrdMap<StatementId, StatementId>,
}

const LAST: StatementId = StatementId([0xff; 32]);

impl Chain {
    pub(crate) fn len(&self) -> usize {
        self.by_seq.len()
    }

    /// The statements at a position, with their predecessors.
    fn place(&self, seq: u64) -> impl Iterator<Item = (&StatementId, &StatementId)> {
        let range = (seq, StatementId::ZERO)..=(seq, LAST);
        self.by_seq.range(range).map(|((_, id), prev)| (id, prev))
    }

    /// Whether a statement after `prev` would begin a branch.
    pub(crate) fn is_branching(&self, seq: u64, prev: &StatementId) -> bool {
        self.place(seq).any(|(_, p)| p == prev)
    }

    /// Whether two statements anywhere have one predecessor.
    pub(crate) const fn is_forked(&self) -> bool {
        self.fork_at.is_some()
    }

    /// Whether no further branch is kept.
    pub(crate) fn is_full(&self) -> bool {
        self.tips.len() >= FORK_BRANCHES_MAX
    }

    /// Takes in a statement whose predecessor is here. Returns whether it began a branch.
    pub(crate) fn insert(&mut self, seq: u64, id: StatementId, prev: StatementId) -> bool {
        let is_branching = self.is_branching(seq, &prev);
        self.by_seq.insert((seq, id), prev);
        self.tips.retain(|(tip, _)| *tip != prev);
        self.tips.push((id, seq));
        self.tips.sort_unstable();
        if is_branching {
            reached!("a chain was forked");
            self.fork_at = Some(self.fork_at.map_or(seq, |at| at.min(seq)));
            self.label_branches();
        } else if let Some(first) = self.branches.get(&prev).copied() {
            self.branches.insert(id, first);
        }
        is_branching
    }

    /// Of the children of one statement the one with the lowest id continues its branch, the others begin one.
    fn label_branches(&mut self) {
        self.branches.clear();
        let Some(at) = self.fork_at else { return };
        let mut continued: BTreeSet<StatementId> = BTreeSet::new();
        for ((_, id), prev) in self.by_seq.range((at, StatementId::ZERO)..) {
            // Predecessors at one position are never those at another.
            if !continued.insert(*prev) {
                self.branches.insert(*id, *id);
            } else if let Some(first) = self.branches.get(prev).copied() {
                self.branches.insert(*id, first);
            }
        }
    }

    /// Ends of all branches with their positions, ascending by id. They describe the whole set.
    pub(crate) fn tips(&self) -> &[(StatementId, u64)] {
        &self.tips
    }

    /// The ends of a part of the chain with their positions, ascending by id. With every statement, the part holds those
    /// before it.
    pub(crate) fn tips_of(&self, part: &BTreeSet<StatementId>) -> Vec<(u64, StatementId)> {
        // Mostly it is one path, and its length gives its end.
        let last = (part.len() as u64).checked_sub(1);
        let end = last.and_then(|seq| Some((seq, self.at(seq).find(|id| part.contains(id))?)));
        if end.is_some() || part.is_empty() {
            return end.into_iter().collect();
        }
        let ends: BTreeMap<StatementId, u64> = self
            .tips
            .iter()
            .filter_map(|(tip, seq)| {
                let mut back = self.before(tip, *seq).zip((0..=*seq).rev());
                back.find(|(id, _)| part.contains(id))
            })
            .collect();
        let is_inner = |(id, seq): &(&StatementId, &u64)| {
            let mut others = ends.iter().filter(|(other, at)| other != id && *at > seq);
            others
                .any(|(other, at)| self.before(other, *at).nth((at - **seq) as usize) == Some(**id))
        };
        let ends = ends.iter().filter(|end| !is_inner(end));
        ends.map(|(id, seq)| (*seq, *id)).collect()
    }

    /// The statement to continue: the longest branch, of equals the one with the lowest id.
    pub(crate) fn head(&self) -> Option<(StatementId, u64)> {
        self.tips
            .iter()
            .copied()
            .min_by_key(|(id, seq)| (std::cmp::Reverse(*seq), *id))
    }

    pub(crate) fn contains(&self, seq: u64, id: &StatementId) -> bool {
        self.by_seq.contains_key(&(seq, *id))
    }

    /// `head` and everything before it in its chain, latest first; empty if `head` is not here.
    pub(crate) fn before(
        &self,
        head: &StatementId,
        seq: u64,
    ) -> impl Iterator<Item = StatementId> + '_ {
        let mut next = Some((*head, seq));
        std::iter::from_fn(move || {
            let (at, seq) = next?;
            let prev = self.by_seq.get(&(seq, at))?;
            next = seq.checked_sub(1).map(|seq| (*prev, seq));
            Some(at)
        })
    }

    /// The same as a list.
    pub(crate) fn ancestors(&self, head: &StatementId, seq: u64) -> Vec<StatementId> {
        self.before(head, seq).collect()
    }

    /// The first statement of the branch that `id` is on; `None` on the one that took the lowest id at every fork.
    pub(crate) fn branch(&self, id: &StatementId) -> Option<StatementId> {
        self.branches.get(id).copied()
    }

    /// The statements at a position.
    pub(crate) fn at(&self, seq: u64) -> impl Iterator<Item = StatementId> + '_ {
        self.place(seq).map(|(id, _)| *id)
    }

    /// Everything that `tips` of a peer do not cover, by position; a tip that is unknown here counts as a copy of
    /// what is here below its position. (Where that is wrong the peer asks for what is missing.)
    pub(crate) fn beyond(&self, tips: &[(u64, StatementId)]) -> Vec<StatementId> {
        if tips.iter().any(|(seq, _)| *seq == NO_MORE) {
            return Vec::new();
        }
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
        let from = self.fork_at.map_or(assumed, |at| at.min(assumed));
        self.by_seq
            .range((from, StatementId::ZERO)..)
            .map(|((seq, id), _)| (*seq, *id))
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

    fn id(n: u8) -> StatementId {
        StatementId([n; 32])
    }

    fn linear(n: u8) -> Chain {
        let mut chain = Chain::default();
        for i in 0..n {
            let prev = if i == 0 { StatementId::ZERO } else { id(i) };
            assert!(!chain.insert(u64::from(i), id(i + 1), prev));
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
    fn a_fork_drops_nothing_and_names_its_branches() {
        let mut chain = linear(200);
        assert!(chain.insert(100, id(250), id(100)));
        for n in 210..=211 {
            assert!(!chain.is_full());
            assert!(chain.insert(100, id(n), id(100)));
        }
        assert!(chain.is_full());
        assert_eq!((chain.len(), chain.tips().len()), (203, 4));
        assert_eq!(chain.branch(&id(150)), None);
        assert_eq!(chain.branch(&id(210)), Some(id(210)));
        assert!(!chain.insert(101, id(212), id(210)));
        assert_eq!(chain.branch(&id(212)), Some(id(210)));
        assert_eq!(chain.branch(&id(90)), None);
        assert!(chain.beyond(&[(NO_MORE, id(0))]).is_empty());
    }

    #[test]
    fn a_later_branch_with_a_lower_id_renames_the_others() {
        let (mut a, mut b) = (Chain::default(), Chain::default());
        let inserts = [
            (0, 9, 0),
            (1, 8, 9),
            (1, 3, 9),
            (2, 7, 8),
            (2, 4, 8),
            (0, 1, 0),
        ];
        for (chain, order) in [(&mut a, [0, 1, 2, 3, 4, 5]), (&mut b, [5, 0, 2, 1, 4, 3])] {
            for at in order {
                let (seq, of, prev) = inserts[at];
                chain.insert(seq, id(of), id(prev));
            }
        }
        assert_eq!(a.branches, b.branches);
        assert_eq!(a.branch(&id(1)), None);
        assert_eq!(a.branch(&id(3)), Some(id(9)));
        assert_eq!(a.branch(&id(4)), Some(id(8)));
        assert_eq!(a.branch(&id(7)), Some(id(7)));
    }
}
