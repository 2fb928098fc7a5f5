//! The members and what is known of each, at 16 bytes a member.
//!
//! The ids are in a set that all agents of a process may share. Beside it lies one fact per member in the same
//! order, found by the first four bytes of the id. A change of the members costs a walk over all; nothing else does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lab_crdt_model::view::Liveness as Opinion;
use lab_crdt_model::{Mono, NodeId};

/// Grain of when a member was last heard, milliseconds: 32 bits last for eight years.
const HEARD_MS: u64 = 64;
/// Grain of since when an opinion is held, milliseconds: 30 bits last for eight years.
const SINCE_MS: u64 = 256;

/// What is known of one member.
#[derive(Clone, Copy, Debug)]
struct Fact {
    key: u32,
    /// `u32::MAX`: see `counters`.
    counter: u32,
    /// 0: never.
    heard: u32,
    /// Two bits of opinion, thirty of time.
    state: u32,
}

impl Fact {
    const fn opinion(&self) -> Opinion {
        match self.state & 3 {
            1 => Opinion::Alive,
            2 => Opinion::Suspect,
            3 => Opinion::Down,
            _ => Opinion::Unknown,
        }
    }

    fn set(&mut self, opinion: Opinion, now: Mono) {
        let bits = match opinion {
            Opinion::Unknown => 0,
            Opinion::Alive => 1,
            Opinion::Suspect => 2,
            Opinion::Down => 3,
        };
        let since =
            u32::try_from(ms(now) / SINCE_MS).map_or(u32::MAX >> 2, |it| it.min(u32::MAX >> 2));
        self.state = since << 2 | bits;
    }
}

fn ms(at: Mono) -> u64 {
    at.ms_since(Mono(0))
}

fn word(node: &NodeId) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&node.0[..8]);
    u64::from_be_bytes(bytes)
}

fn key(node: &NodeId) -> u32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&node.0[..4]);
    u32::from_be_bytes(bytes)
}

/// All members but this node. Places are ranks by id, and change with the members.
#[derive(Debug)]
pub(crate) struct Roster {
    me: NodeId,
    members: Arc<BTreeSet<NodeId>>,
    facts: Vec<Fact>,
    /// Of those whose counter does not fit a fact.
    counters: BTreeMap<NodeId, u64>,
    /// Members of each opinion, by its two bits.
    counts: [usize; 4],
    digest: u64,
}

impl Roster {
    pub(crate) fn new(me: NodeId) -> Self {
        Self {
            me,
            members: Arc::default(),
            facts: Vec::new(),
            counters: BTreeMap::new(),
            counts: [0; 4],
            digest: 0,
        }
    }

    /// Members but this node.
    pub(crate) const fn len(&self) -> usize {
        self.facts.len()
    }

    /// Tells rosters apart, this node's place in them included.
    pub(crate) const fn digest(&self) -> u64 {
        self.digest
    }

    pub(crate) fn contains(&self, node: &NodeId) -> bool {
        *node != self.me && self.members.contains(node)
    }

    /// Takes other members; who is gone and who is new. Nothing is lost about those who stay.
    pub(crate) fn replace(
        &mut self,
        members: Arc<BTreeSet<NodeId>>,
        now: Mono,
    ) -> (Vec<NodeId>, Vec<NodeId>) {
        if Arc::ptr_eq(&members, &self.members) {
            return (Vec::new(), Vec::new());
        }
        let (mut gone, mut new) = (Vec::new(), Vec::new());
        let mut facts = Vec::with_capacity(members.len());
        let mut digest = 0xcbf2_9ce4_8422_2325_u64;
        let me = self.me;
        let mut former = self
            .members
            .iter()
            .filter(|it| **it != me)
            .zip(&self.facts)
            .peekable();
        for node in members.iter() {
            digest = (digest.rotate_left(5) ^ word(node)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            if *node == me {
                continue;
            }
            while let Some((it, _)) = former.next_if(|(it, _)| **it < *node) {
                gone.push(*it);
            }
            if let Some((_, fact)) = former.next_if(|(it, _)| **it == *node) {
                facts.push(*fact);
            } else {
                new.push(*node);
                let mut fact = Fact {
                    key: key(node),
                    counter: 0,
                    heard: 0,
                    state: 0,
                };
                fact.set(Opinion::Unknown, now);
                facts.push(fact);
            }
        }
        gone.extend(former.map(|(it, _)| *it));
        facts.shrink_to_fit();
        self.counts = [0; 4];
        for fact in &facts {
            self.counts[(fact.state & 3) as usize] += 1;
        }
        for node in &gone {
            self.counters.remove(node);
        }
        (self.facts, self.members, self.digest) = (facts, members, digest);
        (gone, new)
    }

    fn place(&self, node: &NodeId) -> Option<usize> {
        if !self.contains(node) {
            return None;
        }
        let key = key(node);
        let first = self.facts.partition_point(|it| it.key < key);
        if self.facts.get(first + 1).is_none_or(|it| it.key != key) {
            return Some(first);
        }
        let me = self.me;
        Some(
            first
                + self
                    .members
                    .range(from(key)..*node)
                    .filter(|it| **it != me)
                    .count(),
        )
    }

    fn fact(&self, node: &NodeId) -> Option<&Fact> {
        self.facts.get(self.place(node)?)
    }

    fn fact_mut(&mut self, node: &NodeId) -> Option<&mut Fact> {
        let place = self.place(node)?;
        self.facts.get_mut(place)
    }

    /// Who is at a place.
    pub(crate) fn at(&self, place: usize) -> Option<NodeId> {
        let key = self.facts.get(place)?.key;
        let before = place - self.facts.partition_point(|it| it.key < key);
        let me = self.me;
        self.members
            .range(from(key)..)
            .filter(|it| **it != me)
            .nth(before)
            .copied()
    }

    /// Everyone, by id.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &NodeId> {
        self.members.iter().filter(|it| **it != self.me)
    }

    pub(crate) fn opinion(&self, node: &NodeId) -> Opinion {
        self.fact(node).map_or(Opinion::Unknown, Fact::opinion)
    }

    /// How many have this opinion of us.
    pub(crate) const fn count(&self, opinion: Opinion) -> usize {
        self.counts[match opinion {
            Opinion::Unknown => 0,
            Opinion::Alive => 1,
            Opinion::Suspect => 2,
            Opinion::Down => 3,
        }]
    }

    /// Sets an opinion; whether it is another one than before.
    pub(crate) fn set(&mut self, node: &NodeId, opinion: Opinion, now: Mono) -> bool {
        let Some(fact) = self.fact_mut(node) else {
            return false;
        };
        if fact.opinion() == opinion {
            return false;
        }
        let former = (fact.state & 3) as usize;
        fact.set(opinion, now);
        let present = (fact.state & 3) as usize;
        self.counts[former] -= 1;
        self.counts[present] += 1;
        true
    }

    pub(crate) fn since(&self, node: &NodeId) -> Option<Mono> {
        self.fact(node)
            .map(|it| Mono(0).plus_ms(u64::from(it.state >> 2) * SINCE_MS))
    }

    /// Last heard by any means, to about a sixteenth of a second.
    pub(crate) fn heard(&self, node: &NodeId) -> Option<Mono> {
        self.fact(node).and_then(heard)
    }

    pub(crate) fn hear(&mut self, node: &NodeId, now: Mono) {
        if let Some(fact) = self.fact_mut(node) {
            fact.heard = u32::try_from(ms(now) / HEARD_MS + 1).unwrap_or(u32::MAX);
        }
    }

    /// As if it had never been heard.
    pub(crate) fn forget_heard(&mut self, node: &NodeId) {
        if let Some(fact) = self.fact_mut(node) {
            fact.heard = 0;
        }
    }

    /// Newest known beacon.
    pub(crate) fn counter(&self, node: &NodeId) -> Option<u64> {
        let counter = self.fact(node)?.counter;
        if counter == u32::MAX {
            return self.counters.get(node).copied();
        }
        Some(u64::from(counter))
    }

    pub(crate) fn set_counter(&mut self, node: &NodeId, counter: u64) {
        if let Some(fact) = self.fact_mut(node) {
            fact.counter = u32::try_from(counter).unwrap_or(u32::MAX);
            if fact.counter == u32::MAX {
                self.counters.insert(*node, counter);
            }
        }
    }

    /// Places of suspects and of those believed down. Walks over all members.
    pub(crate) fn doubtful(&self) -> Vec<usize> {
        let is_doubtful = |it: &&Fact| it.state & 2 != 0;
        let places = self.facts.iter().enumerate();
        places
            .filter(|(_, it)| is_doubtful(it))
            .map(|(at, _)| at)
            .collect()
    }

    /// Who was not heard for longest of those not in doubt that `is_wanted`; of equals, the one next after the
    /// place `first`, lest everyone chooses the same. Walks over all members.
    pub(crate) fn stalest(
        &self,
        before: Mono,
        first: usize,
        is_wanted: impl Fn(&NodeId) -> bool,
    ) -> Option<NodeId> {
        let all = self.nodes().zip(&self.facts).enumerate();
        let stale =
            all.filter(|(_, (_, it))| it.state & 2 == 0 && heard(it).is_none_or(|at| at < before));
        let stale = stale.filter(|(_, (node, _))| is_wanted(node));
        let turn = |at: usize| (at + self.len() - first.min(self.len())) % self.len().max(1);
        let least = stale.min_by_key(|(at, (_, it))| (it.heard, turn(*at)));
        least.map(|(_, (node, _))| *node)
    }

    /// Who is alive and who is down, one bit each by the order of ids, this node among them.
    pub(crate) fn bits(&self) -> (Vec<u8>, Vec<u8>) {
        let bytes = self.members.len().div_ceil(8);
        let (mut alive, mut down) = (vec![0; bytes], vec![0; bytes]);
        let mut facts = self.facts.iter();
        for (at, node) in self.members.iter().enumerate() {
            let opinion = if *node == self.me {
                Opinion::Alive
            } else {
                facts.next().map_or(Opinion::Unknown, Fact::opinion)
            };
            match opinion {
                Opinion::Alive => alive[at / 8] |= 1 << (at % 8),
                Opinion::Down => down[at / 8] |= 1 << (at % 8),
                Opinion::Suspect | Opinion::Unknown => {}
            }
        }
        (alive, down)
    }

    /// Takes another's word for who is alive among those of whom we know nothing at all: how many they are, and who it
    /// says is down.
    pub(crate) fn learn(&mut self, alive: &[u8], down: &[u8], now: Mono) -> (usize, Vec<NodeId>) {
        let is_set =
            |bits: &[u8], at: usize| bits.get(at / 8).is_some_and(|it| it >> (at % 8) & 1 == 1);
        let mut facts = self.facts.iter_mut();
        let (mut alive_count, mut downs) = (0, Vec::new());
        for (at, node) in self.members.iter().enumerate() {
            if *node == self.me {
                continue;
            }
            let Some(fact) = facts.next().filter(|it| it.state & 3 == 0 && it.heard == 0) else {
                continue;
            };
            if is_set(alive, at) {
                fact.set(Opinion::Alive, now);
                alive_count += 1;
            } else if is_set(down, at) {
                downs.push(*node);
            }
        }
        self.counts[0] -= alive_count;
        self.counts[1] += alive_count;
        (alive_count, downs)
    }
}

fn heard(fact: &Fact) -> Option<Mono> {
    let at = u64::from(fact.heard).checked_sub(1)?;
    Some(Mono(0).plus_ms(at * HEARD_MS))
}

/// The least id with these first bytes.
fn from(key: u32) -> NodeId {
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&key.to_be_bytes());
    NodeId(bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const OPINIONS: [Opinion; 4] = [
        Opinion::Unknown,
        Opinion::Alive,
        Opinion::Suspect,
        Opinion::Down,
    ];

    #[test]
    fn a_member_costs_sixteen_bytes() {
        assert_eq!(size_of::<Fact>(), 16);
    }

    /// Ids of which many share their first four bytes.
    fn node(n: u8) -> NodeId {
        let mut bytes = [0; 32];
        (bytes[3], bytes[31]) = (n / 16, n);
        NodeId(bytes)
    }

    proptest! {
        #[test]
        fn a_roster_knows_what_a_map_would_know(
            steps in proptest::collection::vec((0u8..3, 0u8..64, 0usize..4, any::<u64>()), 1..200),
        ) {
            let me = node(20);
            let mut roster = Roster::new(me);
            let mut members = BTreeSet::from([me]);
            let mut plain: BTreeMap<NodeId, (Opinion, u64)> = BTreeMap::new();
            for (what, n, opinion, counter) in steps {
                let it = node(n);
                match what {
                    0 => {
                        if !members.remove(&it) {
                            members.insert(it);
                        }
                        let (gone, new) = roster.replace(Arc::new(members.clone()), Mono(0));
                        gone.iter().for_each(|it| { plain.remove(it); });
                        new.iter().for_each(|it| { plain.insert(*it, (Opinion::Unknown, 0)); });
                    }
                    1 => {
                        let is_new = roster.set(&it, OPINIONS[opinion], Mono(0));
                        let former = plain.get_mut(&it);
                        prop_assert_eq!(is_new, former.as_ref().is_some_and(|it| it.0 != OPINIONS[opinion]));
                        if let Some(former) = former {
                            former.0 = OPINIONS[opinion];
                        }
                    }
                    _ => {
                        let counter = if opinion == 0 { counter } else { counter >> 40 };
                        roster.set_counter(&it, counter);
                        if let Some(former) = plain.get_mut(&it) {
                            former.1 = counter;
                        }
                    }
                }
                prop_assert_eq!(roster.len(), plain.len());
                for (place, (it, (opinion, counter))) in plain.iter().enumerate() {
                    prop_assert_eq!(roster.at(place), Some(*it));
                    prop_assert_eq!(roster.opinion(it), *opinion);
                    prop_assert_eq!(roster.counter(it), Some(*counter));
                }
                for opinion in OPINIONS {
                    prop_assert_eq!(roster.count(opinion), plain.values().filter(|it| it.0 == opinion).count());
                }
            }
        }
    }

    #[test]
    fn bits_tell_another_member_what_it_does_not_know() {
        let members = Arc::new((0..64).map(node).collect::<BTreeSet<_>>());
        let [mut a, mut b] = [3, 40].map(|n| Roster::new(node(n)));
        for it in [&mut a, &mut b] {
            it.replace(Arc::clone(&members), Mono(0));
        }
        assert_eq!(a.digest(), b.digest());
        a.set(&node(9), Opinion::Alive, Mono(0));
        a.set(&node(50), Opinion::Down, Mono(0));
        a.set(&node(51), Opinion::Alive, Mono(0));
        b.set(&node(51), Opinion::Down, Mono(0));
        let (alive, down) = a.bits();
        assert_eq!(b.learn(&alive, &down, Mono(0)), (2, vec![node(50)]));
        let opinions = [3, 9, 50, 51].map(|n| b.opinion(&node(n)));
        assert_eq!(
            opinions,
            [
                Opinion::Alive,
                Opinion::Alive,
                Opinion::Unknown,
                Opinion::Down
            ]
        );
        assert_eq!(
            (b.count(Opinion::Alive), b.count(Opinion::Unknown)),
            (2, 60)
        );
        assert_eq!(b.learn(&alive, &[], Mono(0)), (0, vec![]), "once");
    }
}
