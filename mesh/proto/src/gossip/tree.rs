//! Broadcast over the neighbours, after Plumtree: whole payloads along a tree, ids on all other ties.
//!
//! Who gets a payload twice asks the later sender to send only ids; who hears of an id and does not get the
//! payload in time asks for it, which mends the tree. "In time" follows what was measured: how much later than
//! the first word of it payloads have come. What is hardly longer than an id goes to everyone at once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use lab_crdt_model::{Mono, NodeId, mutant, reached};

use crate::backoff::Bucket;
use crate::message::v1::{HOPS_MAX, IDS_MAX, Message, Overlay, Push, Scope};

/// How long payloads are kept for those who ask, milliseconds.
const CACHE_MS: u64 = 10_000;
/// Bytes of payloads kept; the oldest go first.
const CACHE_BYTES_MAX: usize = 1 << 20;
/// How long ids are remembered, milliseconds, and how many; the oldest go first.
const SEEN_MS: u64 = 60_000;
const SEEN_MAX: usize = 16_384;
/// Ids of which the payload is awaited; further ones are pulled.
const MISSING_MAX: usize = 4_096;
/// Peers remembered as having a missing payload.
const SOURCES_MAX: usize = 8;
/// Ids wait this long for more of them, milliseconds; meanwhile the peer may say that it has the payload.
const LAZY_MS: u64 = 10;
/// Who spoke of a payload this long before it came is to send payloads from now on, milliseconds. The tree so
/// follows the quicker ties; whichever is slower is cut off by its first copy.
const SHORTCUT_MS: u64 = 80;
/// From so many late payloads on, their lateness is known.
const LAGS_MIN: u32 = 8;
/// Payloads that came and were not judged yet; they are judged at once, one after the other.
const UNJUDGED_MAX: usize = 64;
/// The wait for a payload before any round trip was measured, microseconds.
const FIRST_US: u64 = 100_000;
/// Contents up to this many bytes are pushed to all neighbours: their id would be as long.
const FLOOD_BYTES_MAX: usize = 128;
/// So many of them per second, and at once; further ones follow the tree. When half of a mesh is gone, there are
/// accusations by the thousand, whose ids share frames.
const FLOODS_PER_S: u64 = 8;
const FLOODS_BURST: u64 = 64;

type Id = [u8; 32];
type Key = [u8; 16];

fn key(id: &Id) -> Key {
    let mut key = [0; 16];
    key.copy_from_slice(&id[..16]);
    key
}

#[derive(Debug, Default)]
struct Peer {
    is_lazy: bool,
    rtt_us: u64,
    ids: Vec<(Id, u16)>,
}

#[derive(Debug)]
struct Missing {
    id: Id,
    since: Mono,
    at: Mono,
    sources: VecDeque<(NodeId, u16)>,
    /// Whom we asked last.
    asked: Option<NodeId>,
}

/// A content that was not seen before, or a frame.
#[derive(Debug)]
pub(super) enum TreeOut {
    Send(NodeId, Bytes),
    Received(NodeId, Id, Bytes),
}

/// A payload that was not seen before and is not passed on until it is known to be good.
#[derive(Debug)]
struct Unjudged {
    id: Id,
    content: Bytes,
    hops: u16,
    knowing: BTreeSet<NodeId>,
}

#[derive(Debug)]
pub(super) struct Tree {
    graft_min_ms: u64,
    graft_max_ms: u64,
    /// How much later than the first word of it a payload comes: mean and deviation, microseconds.
    lag_us: u64,
    lag_dev_us: u64,
    lag_count: u32,
    peers: BTreeMap<NodeId, Peer>,
    seen: BTreeMap<Key, Option<(Bytes, u16)>>,
    seen_order: VecDeque<(Mono, Key)>,
    cached_order: VecDeque<(Mono, Key, usize)>,
    cached_bytes: usize,
    missing: BTreeMap<Key, Missing>,
    /// Never later than what `missing` wants; none while that is empty.
    graft_at: Option<Mono>,
    lazy_at: Option<Mono>,
    floods: Bucket,
    unjudged: VecDeque<Unjudged>,
    pub(super) out: Vec<TreeOut>,
}

impl Tree {
    pub(super) const fn new(graft_min_ms: u64, graft_max_ms: u64) -> Self {
        Self {
            graft_min_ms,
            graft_max_ms,
            lag_us: 0,
            lag_dev_us: 0,
            lag_count: 0,
            peers: BTreeMap::new(),
            seen: BTreeMap::new(),
            seen_order: VecDeque::new(),
            cached_order: VecDeque::new(),
            cached_bytes: 0,
            missing: BTreeMap::new(),
            graft_at: None,
            lazy_at: None,
            floods: Bucket::new(FLOODS_BURST, Mono(0)),
            unjudged: VecDeque::new(),
            out: Vec::new(),
        }
    }

    pub(super) fn up(&mut self, peer: NodeId) {
        self.peers.insert(peer, Peer::default());
    }

    /// A round trip to `peer` was measured.
    pub(super) fn rtt(&mut self, peer: &NodeId, us: u64) {
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.rtt_us = us;
        }
    }

    pub(super) fn down(&mut self, peer: &NodeId) {
        self.peers.remove(peer);
    }

    /// Pushes a content of ours; whole to every neighbour if `is_direct`, which is right where all are neighbours.
    pub(super) fn broadcast(&mut self, content: Bytes, is_direct: bool, now: Mono) {
        let id = *blake3::hash(&content).as_bytes();
        if self.remember(&id, &content, 0, now) {
            let is_whole = is_direct || self.may_flood(&content, now);
            self.forward(id, &content, 0, is_whole, &BTreeSet::new(), now);
        }
    }

    /// Whether a content goes to all neighbours: if it is short, and there are few such.
    fn may_flood(&mut self, content: &Bytes, now: Mono) -> bool {
        content.len() <= FLOOD_BYTES_MAX && self.floods.take(1, FLOODS_PER_S, FLOODS_BURST, now)
    }

    /// Whether it is new.
    fn remember(&mut self, id: &Id, content: &Bytes, hops: u16, now: Mono) -> bool {
        let key = key(id);
        if self.seen.contains_key(&key) {
            return false;
        }
        self.seen.insert(key, Some((content.clone(), hops)));
        self.seen_order.push_back((now.plus_ms(SEEN_MS), key));
        self.cached_order
            .push_back((now.plus_ms(CACHE_MS), key, content.len()));
        self.cached_bytes += content.len();
        self.forget(now);
        true
    }

    fn forget(&mut self, now: Mono) {
        while let Some((until, key, len)) = self.cached_order.front().copied()
            && (until <= now || self.cached_bytes > CACHE_BYTES_MAX)
        {
            self.cached_order.pop_front();
            self.cached_bytes -= len;
            if let Some(content) = self.seen.get_mut(&key) {
                *content = None;
            }
        }
        while let Some((until, key)) = self.seen_order.front().copied()
            && (until <= now || self.seen_order.len() > SEEN_MAX)
        {
            self.seen_order.pop_front();
            self.seen.remove(&key);
        }
    }

    /// To all but those in `knowing`.
    fn forward(
        &mut self,
        id: Id,
        content: &Bytes,
        hops: u16,
        is_whole: bool,
        knowing: &BTreeSet<NodeId>,
        now: Mono,
    ) {
        if hops >= HOPS_MAX {
            return;
        }
        let mut frame = None;
        for (peer, state) in &mut self.peers {
            if knowing.contains(peer) {
                continue;
            }
            if state.is_lazy && !is_whole {
                if state.ids.len() < IDS_MAX {
                    state.ids.push((id, hops));
                    self.lazy_at.get_or_insert(now.plus_ms(LAZY_MS));
                }
                continue;
            }
            let frame = frame.get_or_insert_with(|| payload(id, content, hops));
            self.out.push(TreeOut::Send(*peer, frame.clone()));
        }
    }

    pub(super) fn receive(&mut self, from: NodeId, push: Push, now: Mono) {
        match push {
            Push::Payload { id, content, scope } => {
                let hops = match scope {
                    Scope::Swarm(hops) => hops,
                    Scope::Neighbors => HOPS_MAX,
                };
                self.payload(from, id, content, hops, now);
            }
            Push::Prune => {
                if let Some(peer) = self.peers.get_mut(&from) {
                    peer.is_lazy = true;
                }
            }
            Push::Graft { id, .. } => {
                if let Some(peer) = self.peers.get_mut(&from) {
                    peer.is_lazy = false;
                }
                let Some(id) = id else { return };
                if let Some(Some((content, hops))) = self.seen.get(&key(&id)) {
                    let frame = payload(id, content, *hops);
                    self.out.push(TreeOut::Send(from, frame));
                }
            }
            Push::IHave(ids) => {
                for (id, hops) in ids {
                    self.announced(from, id, hops, now);
                }
            }
        }
    }

    fn payload(&mut self, from: NodeId, id: Id, content: Bytes, hops: u16, now: Mono) {
        let key = key(&id);
        let is_seen = self.seen.contains_key(&key) && !(mutant!("M32") && hops < 3);
        if is_seen {
            if content.len() > FLOOD_BYTES_MAX && !mutant!("M58") && !mutant!("M32") {
                reached!("a payload came twice");
                if let Some(peer) = self.peers.get_mut(&from) {
                    peer.is_lazy = true;
                }
                self.say(from, Push::Prune);
            }
            return;
        }
        // An id that is not that of its content would keep out the one whose it is.
        if *blake3::hash(&content).as_bytes() != id {
            return;
        }
        let hops = hops.saturating_add(1);
        self.remember(&id, &content, hops, now);
        let mut knowing = BTreeSet::from([from]);
        if let Some(missing) = self.missing.remove(&key) {
            // What comes from whom we asked says nothing of how long it would have taken unasked.
            if missing.asked != Some(from) {
                self.measure(now.0.saturating_sub(missing.since.0) / 1_000);
            }
            let lag_ms = now.ms_since(missing.since);
            if missing.asked.is_none()
                && lag_ms > SHORTCUT_MS
                && let Some((first, round)) = missing.sources.front().copied()
                && let Some(peer) = self.peers.get_mut(&first)
                && std::mem::take(&mut peer.is_lazy)
            {
                self.say(first, Push::Graft { id: None, round });
            }
            knowing.extend(missing.sources.iter().map(|it| it.0));
            if self.missing.is_empty() {
                self.graft_at = None;
            }
        }
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.is_lazy &= content.len() <= FLOOD_BYTES_MAX;
        }
        if self.unjudged.len() >= UNJUDGED_MAX {
            self.unjudged.pop_front();
        }
        self.out.push(TreeOut::Received(from, id, content.clone()));
        self.unjudged.push_back(Unjudged {
            id,
            content,
            hops,
            knowing,
        });
    }

    /// What came is good, and goes on to the neighbours; or it is not, and goes to nobody.
    pub(super) fn judged(&mut self, id: &Id, is_good: bool, now: Mono) {
        let Some(at) = self.unjudged.iter().position(|it| it.id == *id) else {
            return;
        };
        let Some(it) = self.unjudged.remove(at) else {
            return;
        };
        if is_good {
            let is_whole = self.may_flood(&it.content, now);
            self.forward(it.id, &it.content, it.hops, is_whole, &it.knowing, now);
        } else if let Some(content) = self.seen.get_mut(&key(id)) {
            *content = None;
        }
    }

    fn announced(&mut self, from: NodeId, id: Id, hops: u16, now: Mono) {
        let key = key(&id);
        if self.seen.contains_key(&key) {
            if let Some(peer) = self.peers.get_mut(&from) {
                peer.ids.retain(|it| it.0 != id);
            }
            return;
        }
        let wait = self.graft_ms();
        if self.missing.len() >= MISSING_MAX && !self.missing.contains_key(&key) {
            return;
        }
        let missing = self.missing.entry(key).or_insert_with(|| Missing {
            id,
            since: now,
            at: now.plus_ms(wait),
            sources: VecDeque::new(),
            asked: None,
        });
        if missing.sources.len() < SOURCES_MAX && missing.sources.iter().all(|it| it.0 != from) {
            missing.sources.push_back((from, hops));
        }
        let at = missing.at;
        self.graft_at = Some(self.graft_at.map_or(at, |it| it.min(at)));
    }

    /// As TCP measures round trips: eighths of each new value, quarters of each deviation.
    const fn measure(&mut self, us: u64) {
        if self.lag_count == 0 {
            (self.lag_us, self.lag_dev_us) = (us, us / 2);
        }
        self.lag_count = self.lag_count.saturating_add(1);
        let off = us.abs_diff(self.lag_us);
        self.lag_us = (self.lag_us * 7 + us) / 8;
        self.lag_dev_us = (self.lag_dev_us * 3 + off) / 4;
    }

    /// How long a payload is awaited after the first word of it, milliseconds.
    pub(super) fn graft_ms(&self) -> u64 {
        let us = if self.lag_count >= LAGS_MIN {
            self.lag_us + self.lag_dev_us
        } else {
            // Where ties are short, payloads hardly ever come late, and the wait stays a matter of round trips.
            let longest = self.peers.values().map(|it| it.rtt_us).max();
            longest
                .filter(|us| *us > 0)
                .map_or(FIRST_US, |us| us * 3 / 2)
        };
        let ms = us / 1_000;
        ms.clamp(self.graft_min_ms, self.graft_max_ms.max(self.graft_min_ms))
    }

    fn say(&mut self, to: NodeId, push: Push) {
        let frame = Message::Overlay(Overlay::Push(push)).encode();
        self.out.push(TreeOut::Send(to, frame));
    }

    pub(super) fn deadline(&self) -> Option<Mono> {
        let forget = self.cached_order.front().map(|it| it.0);
        // Nobody waits for memory: a look every ten seconds does, with whatever else wakes us.
        let forget = forget.map(|at| at.plus_ms(CACHE_MS));
        [self.graft_at, self.lazy_at, forget]
            .into_iter()
            .flatten()
            .min()
    }

    pub(super) fn wake(&mut self, now: Mono) {
        if self.lazy_at.take_if(|at| *at <= now).is_some() {
            let ready: Vec<_> = self
                .peers
                .iter_mut()
                .filter(|(_, it)| !it.ids.is_empty())
                .map(|(peer, it)| (*peer, std::mem::take(&mut it.ids)))
                .collect();
            for (peer, ids) in ready {
                self.say(peer, Push::IHave(ids));
            }
        }
        if self.graft_at.is_some_and(|at| at <= now) {
            self.graft(now);
        }
        if self.cached_order.front().is_some_and(|it| it.0 <= now) {
            self.forget(now);
        }
    }

    fn graft(&mut self, now: Mono) {
        let wait = self.graft_ms();
        let due: Vec<Key> = self
            .missing
            .iter()
            .filter(|(_, it)| it.at <= now)
            .map(|it| *it.0)
            .collect();
        for key in due {
            let Some(missing) = self.missing.get_mut(&key) else {
                continue;
            };
            let Some((source, round)) = missing.sources.pop_front() else {
                self.missing.remove(&key);
                continue;
            };
            reached!("a payload that was announced did not come in time");
            missing.asked = Some(source);
            missing.at = now.plus_ms(wait);
            let id = Some(missing.id);
            if let Some(peer) = self.peers.get_mut(&source) {
                peer.is_lazy = false;
                self.say(source, Push::Graft { id, round });
            } else {
                missing.at = now;
            }
        }
        self.graft_at = self.missing.values().map(|it| it.at).min();
    }
}

fn payload(id: Id, content: &Bytes, hops: u16) -> Bytes {
    let content = content.clone();
    let scope = Scope::Swarm(hops);
    Message::Overlay(Overlay::Push(Push::Payload { id, content, scope })).encode()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(n: u8) -> NodeId {
        NodeId([n; 32])
    }

    fn at(ms: u64) -> Mono {
        Mono(0).plus_ms(ms)
    }

    fn content(n: u8) -> (Id, Bytes) {
        let content = Bytes::from(vec![n; 500]);
        (*blake3::hash(&content).as_bytes(), content)
    }

    fn push(n: u8) -> Push {
        let (id, content) = content(n);
        Push::Payload {
            id,
            content,
            scope: Scope::Swarm(0),
        }
    }

    fn tree() -> Tree {
        let mut tree = Tree::new(30, 500);
        (1..=3).for_each(|n| tree.up(node(n)));
        tree
    }

    /// A payload arrives and is good.
    fn take(tree: &mut Tree, from: NodeId, push: Push, now: Mono) {
        tree.receive(from, push, now);
        let new: Vec<Id> = tree.unjudged.iter().map(|it| it.id).collect();
        for id in new {
            tree.judged(&id, true, now);
        }
    }

    fn sent(tree: &mut Tree) -> Vec<(NodeId, Push)> {
        let sends = tree.out.drain(..).filter_map(|it| match it {
            TreeOut::Send(to, frame) => Some((to, Message::decode(&frame))),
            TreeOut::Received(..) => None,
        });
        let push = |(to, it)| match it {
            Ok(Message::Overlay(Overlay::Push(push))) => (to, push),
            other => panic!("{other:?}"),
        };
        sends.map(push).collect()
    }

    #[test]
    fn a_second_copy_is_answered_by_a_prune_and_goes_no_further() {
        let mut tree = tree();
        take(&mut tree, node(1), push(7), at(0));
        assert_eq!(sent(&mut tree).len(), 2);
        take(&mut tree, node(2), push(7), at(10));
        assert_eq!(sent(&mut tree), [(node(2), Push::Prune)]);
        take(&mut tree, node(1), push(8), at(100));
        let to: Vec<_> = sent(&mut tree).into_iter().map(|it| it.0).collect();
        assert_eq!(to, [node(3)], "only who did not have it first");
        tree.wake(at(200));
        assert!(matches!(&sent(&mut tree)[..], [(to, Push::IHave(_))] if *to == node(2)));
    }

    #[test]
    fn what_is_not_good_is_passed_on_to_nobody_and_not_given_to_who_asks() {
        let mut tree = tree();
        let (id, _) = content(7);
        tree.receive(node(1), push(7), at(0));
        assert_eq!(sent(&mut tree), [], "nobody has judged it");
        tree.judged(&id, false, at(0));
        tree.judged(&id, true, at(0));
        let (round, id) = (1, Some(id));
        tree.receive(node(2), Push::Graft { id, round }, at(1));
        tree.wake(at(1_000));
        assert_eq!(sent(&mut tree), []);
        assert_eq!(tree.unjudged.len(), 0);
    }

    #[test]
    fn what_is_never_judged_is_forgotten() {
        let mut tree = tree();
        for n in 0..200 {
            tree.receive(node(1), push(n), at(0));
        }
        assert_eq!(tree.unjudged.len(), UNJUDGED_MAX);
    }

    #[test]
    fn what_is_said_directly_goes_whole_to_those_who_wanted_ids_too() {
        let mut tree = tree();
        tree.receive(node(2), Push::Prune, at(0));
        tree.broadcast(content(7).1, false, at(0));
        assert_eq!(sent(&mut tree).len(), 2);
        tree.broadcast(content(8).1, true, at(0));
        assert_eq!(sent(&mut tree).len(), 3);
    }

    #[test]
    fn short_contents_go_to_all_unless_there_are_many() {
        let mut tree = tree();
        tree.receive(node(2), Push::Prune, at(0));
        for n in 0..200 {
            tree.broadcast(Bytes::from(vec![n; 80]), false, at(0));
        }
        let to_lazy = sent(&mut tree).iter().filter(|it| it.0 == node(2)).count() as u64;
        assert_eq!(to_lazy, FLOODS_BURST);
        tree.wake(at(100));
        assert!(
            matches!(&sent(&mut tree)[..], [(to, Push::IHave(ids))] if *to == node(2) && ids.len() == 136)
        );
    }

    #[test]
    fn who_says_that_it_has_a_payload_is_not_told_of_it() {
        let mut tree = tree();
        tree.receive(node(2), Push::Prune, at(0));
        let (id, _) = content(7);
        tree.receive(node(2), Push::IHave(vec![(id, 1)]), at(0));
        take(&mut tree, node(1), push(7), at(1));
        assert!(sent(&mut tree).iter().all(|it| it.0 == node(3)));
        tree.wake(at(100));
        assert_eq!(sent(&mut tree), []);
    }

    #[test]
    fn a_payload_that_does_not_come_is_asked_for_at_one_source_after_the_other() {
        let mut tree = tree();
        let (id, _) = content(7);
        tree.receive(node(1), Push::IHave(vec![(id, 1)]), at(0));
        tree.receive(node(2), Push::IHave(vec![(id, 1)]), at(5));
        let wait = tree.graft_ms();
        tree.wake(at(wait - 1));
        assert_eq!(sent(&mut tree), []);
        for (n, ms) in [(1, wait), (2, 2 * wait)] {
            tree.wake(at(ms));
            assert_eq!(
                sent(&mut tree),
                [(
                    node(n),
                    Push::Graft {
                        id: Some(id),
                        round: 1
                    }
                )]
            );
        }
        tree.wake(at(10_000));
        assert_eq!(sent(&mut tree), []);
        assert!(tree.missing.is_empty());
    }

    #[test]
    fn the_wait_for_a_payload_follows_how_late_payloads_come() {
        for (late_ms, from, to) in [(0, 30, 30), (100, 100, 200), (5_000, 500, 500)] {
            let mut tree = tree();
            for n in 0..40 {
                let now = at(u64::from(n) * 10_000);
                let (id, _) = content(n);
                tree.receive(node(1), Push::IHave(vec![(id, 1)]), now);
                take(&mut tree, node(2), push(n), now.plus_ms(late_ms));
            }
            let ms = tree.graft_ms();
            assert!((from..=to).contains(&ms), "{late_ms} ms late: {ms} ms");
        }
    }

    #[test]
    fn before_payloads_came_late_the_wait_follows_round_trips() {
        let mut tree = tree();
        assert_eq!(tree.graft_ms(), FIRST_US / 1_000);
        tree.rtt(&node(1), 1_000);
        assert_eq!(tree.graft_ms(), 30);
        tree.rtt(&node(2), 200_000);
        assert_eq!(tree.graft_ms(), 300);
        tree.down(&node(2));
        assert_eq!(tree.graft_ms(), 30);
    }

    #[test]
    fn who_spoke_long_before_the_payload_came_sends_payloads_from_then_on() {
        let mut tree = tree();
        tree.receive(node(1), Push::Prune, at(0));
        let (id, _) = content(7);
        tree.receive(node(1), Push::IHave(vec![(id, 1)]), at(0));
        take(&mut tree, node(2), push(7), at(SHORTCUT_MS + 1));
        let graft = (node(1), Push::Graft { id: None, round: 1 });
        assert!(sent(&mut tree).contains(&graft));
    }

    #[test]
    fn an_id_that_is_not_of_its_content_is_dropped() {
        let mut tree = tree();
        let ((id, _), (_, other)) = (content(1), content(2));
        tree.receive(
            node(1),
            Push::Payload {
                id,
                content: other,
                scope: Scope::Swarm(0),
            },
            at(0),
        );
        assert!(tree.out.is_empty());
        take(&mut tree, node(1), push(1), at(1));
        assert_eq!(tree.out.len(), 3);
    }

    #[test]
    fn memory_of_payloads_and_ids_is_bounded() {
        let mut tree = Tree::new(30, 500);
        for n in 0..40_000_u32 {
            let content = Bytes::from(n.to_be_bytes().repeat(50));
            tree.broadcast(content, false, at(0));
        }
        assert_eq!(tree.seen.len(), SEEN_MAX);
        assert!(tree.cached_bytes <= CACHE_BYTES_MAX);
        let kept: usize = tree.seen.values().flatten().map(|it| it.0.len()).sum();
        assert_eq!(kept, tree.cached_bytes);
        tree.wake(at(SEEN_MS));
        assert!(tree.seen.is_empty() && tree.seen_order.is_empty());
    }
}
