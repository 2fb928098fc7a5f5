//! Two machines with the key of one node.
//!
//! Every start of an agent is a life with a number of its own, the incarnation, and the reports of a later life have
//! higher numbers than those of the ones before. A machine that starts again, also from an old copy of its disk, begins
//! a new life and never goes back to a former one. Where an earlier life speaks after a later one there are two
//! machines.

use std::collections::{BTreeMap, VecDeque};

use lab_crdt_model::{Mono, NodeId, mutant, reached};

/// Former lives remembered of one node.
const FORMER_MAX: usize = 4;
/// Nodes of which former lives are remembered: those that began a new one last. Two machines with one key begin anew at
/// every word of the other.
const NODES_MAX: usize = 256;
/// Nobody is called cloned for longer without a new sign of it, milliseconds.
const CLONED_MS: u64 = 24 * 3_600_000;

/// Of which life a report is, and its number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Word {
    pub(crate) incarnation: u64,
    pub(crate) seq: u64,
}

/// What was seen of the lives of other nodes, and of this one.
#[derive(Debug, Default)]
pub(crate) struct Lives {
    former: VecDeque<(NodeId, Vec<u64>)>,
    cloned: BTreeMap<NodeId, Mono>,
}

impl Lives {
    /// A node spoke; `newest` is what it had said last. Says whether it is known only now that there are two of it.
    pub(crate) fn spoke(&mut self, node: NodeId, newest: Word, word: Word, now: Mono) -> bool {
        // What is older than the newest is late, whatever it is.
        if word.seq <= newest.seq || word.incarnation == newest.incarnation {
            return false;
        }
        let at = self.former.iter().position(|it| it.0 == node);
        let mut former = at
            .and_then(|at| self.former.remove(at))
            .map_or_else(Vec::new, |it| it.1);
        let is_back = former.contains(&word.incarnation) && !mutant!("M71");
        former.retain(|it| *it != newest.incarnation);
        former.push(newest.incarnation);
        if former.len() > FORMER_MAX {
            former.remove(0);
        }
        self.former.push_back((node, former));
        if self.former.len() > NODES_MAX {
            self.former.pop_front();
        }
        if !is_back {
            return false;
        }
        reached!("two machines with one key were told apart");
        if self.cloned.len() >= NODES_MAX {
            self.cloned.retain(|_, at| now.ms_since(*at) < CLONED_MS);
        }
        let is_known = self.is_cloned(&node, now);
        if is_known || self.cloned.len() < NODES_MAX {
            self.cloned.insert(node, now);
        }
        !is_known
    }

    /// Whether two machines have run with the key of a node of late.
    pub(crate) fn is_cloned(&self, node: &NodeId, now: Mono) -> bool {
        let at = self.cloned.get(node);
        at.is_some_and(|at| now.ms_since(*at) < CLONED_MS)
    }

    /// All such nodes.
    pub(crate) fn cloned(&self, now: Mono) -> impl Iterator<Item = &NodeId> {
        let is_young = move |at: &Mono| now.ms_since(*at) < CLONED_MS;
        let all = self.cloned.iter();
        all.filter(move |(_, at)| is_young(at))
            .map(|(node, _)| node)
    }

    pub(crate) fn memory(&self) -> usize {
        self.former.capacity() * size_of::<(NodeId, Vec<u64>)>()
            + self.former.len() * FORMER_MAX * size_of::<u64>()
            + self.cloned.len() * size_of::<(NodeId, Mono)>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId([7; 32]);

    /// What is found by the words of one node, by life and number, in the order in which they are taken in.
    fn found(words: &[(u64, u64)]) -> bool {
        let mut lives = Lives::default();
        let mut newest = words[0];
        for (incarnation, seq) in &words[1..] {
            let word = |it: (u64, u64)| Word {
                incarnation: it.0,
                seq: it.1,
            };
            lives.spoke(NODE, word(newest), word((*incarnation, *seq)), Mono(0));
            if *seq > newest.1 {
                newest = (*incarnation, *seq);
            }
        }
        lives.is_cloned(&NODE, Mono(0))
    }

    #[test]
    fn a_node_that_starts_again_is_one_machine() {
        assert!(!found(&[
            (1, 10),
            (1, 11),
            (2, 1_000),
            (3, 2_000),
            (3, 2_001)
        ]));
    }

    #[test]
    fn late_words_of_a_former_life_say_nothing() {
        assert!(!found(&[(1, 10), (2, 1_000), (1, 11), (2, 1_001), (1, 12)]));
    }

    #[test]
    fn a_machine_that_was_rolled_back_is_one_machine() {
        // It begins below what it had said, and goes on above it once it hears of that.
        assert!(!found(&[
            (1, 10),
            (1, 5_000),
            (2, 1_000),
            (2, 5_001),
            (2, 5_002)
        ]));
    }

    #[test]
    fn a_former_life_that_goes_on_after_a_later_one_is_a_second_machine() {
        assert!(found(&[(1, 10), (2, 11), (1, 12)]));
        assert!(found(&[(1, 10), (2, 11), (3, 20), (2, 21)]));
    }

    #[test]
    fn it_is_told_once_and_forgotten_after_a_day_without_a_sign() {
        let mut lives = Lives::default();
        let word = |incarnation, seq| Word { incarnation, seq };
        assert!(!lives.spoke(NODE, word(1, 1), word(2, 2), Mono(0)));
        assert!(lives.spoke(NODE, word(2, 2), word(1, 3), Mono(0)));
        assert!(!lives.spoke(NODE, word(1, 3), word(2, 4), Mono(0)));
        assert!(lives.is_cloned(&NODE, Mono(0).plus_ms(CLONED_MS - 1)));
        assert!(!lives.is_cloned(&NODE, Mono(0).plus_ms(CLONED_MS)));
        assert_eq!(lives.cloned(Mono(0)).count(), 1);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut lives = Lives::default();
        for n in 0..10_000_u64 {
            let mut node = [0; 32];
            node[..8].copy_from_slice(&n.to_be_bytes());
            let word = |incarnation, seq| Word { incarnation, seq };
            lives.spoke(NodeId(node), word(1, 1), word(2, 2), Mono(0));
            lives.spoke(NodeId(node), word(2, 2), word(1, 3), Mono(0));
        }
        assert_eq!(
            (lives.former.len(), lives.cloned.len()),
            (NODES_MAX, NODES_MAX)
        );
    }
}
