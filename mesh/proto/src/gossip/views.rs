//! With whom to keep links: a few members at random out of all, each tie known to both ends.
//!
//! The roster is known to everyone, so there is no need to learn of others by walks and shuffles: who lacks
//! neighbours asks a member picked at random. The asked one agrees while it has room. At first only half of
//! what is lacking is asked for, since as many ask us.

use std::collections::{BTreeMap, BTreeSet};

use lab_crdt_model::{Mono, NodeId};
use rand_chacha::ChaCha12Rng;

use crate::backoff::{below, jitter};
use crate::message::v1::{Overlay, Priority, Swarm};

/// How long an answer is waited for, milliseconds: a dial takes up to four seconds.
const ANSWER_MS: u64 = 5_000;
/// Pause after each round of asking, milliseconds; doubles with each one that won nothing.
const ROUND_MS: u64 = 400;
const ROUND_MS_MAX: u64 = 6_400;
/// Neighbours above what is wanted that are agreed to.
const SPARE: usize = 1;
/// A neighbour is dropped for one that must not be refused at most this often, milliseconds.
const MAKE_ROOM_MS: u64 = 5_000;

/// What changed or is to be said.
#[derive(Debug)]
pub(super) enum ViewOut {
    Send(NodeId, Overlay),
    Up(NodeId),
    Down(NodeId),
}

#[derive(Debug)]
pub(super) struct Views {
    wanted: usize,
    active: BTreeSet<NodeId>,
    /// Whom we asked, and until when we wait for the answer.
    asked: BTreeMap<NodeId, Mono>,
    /// Counts up whenever either may have changed.
    changes: u64,
    ask_at: Mono,
    tries: u32,
    made_room: Option<Mono>,
    rng: ChaCha12Rng,
    pub(super) out: Vec<ViewOut>,
}

impl Views {
    pub(super) const fn new(wanted: usize, rng: ChaCha12Rng, now: Mono) -> Self {
        Self {
            wanted,
            active: BTreeSet::new(),
            asked: BTreeMap::new(),
            changes: 0,
            ask_at: now,
            tries: 0,
            made_room: None,
            rng,
            out: Vec::new(),
        }
    }

    pub(super) const fn active(&self) -> &BTreeSet<NodeId> {
        &self.active
    }

    pub(super) fn is_asked(&self, peer: &NodeId) -> bool {
        self.asked.contains_key(peer)
    }

    pub(super) const fn changes(&self) -> u64 {
        self.changes
    }

    pub(super) const fn wanted(&self) -> usize {
        self.wanted
    }

    pub(super) fn resize(&mut self, wanted: usize, now: Mono) {
        self.wanted = wanted;
        self.ask_at = now;
    }

    /// How many members to ask now. Each call begins a round.
    pub(super) fn lacking(&mut self, now: Mono) -> usize {
        if now < self.ask_at {
            return 0;
        }
        let ms = (ROUND_MS << self.tries.min(10)).min(ROUND_MS_MAX);
        self.tries += 1;
        self.ask_at = now.plus_ms(jitter(&mut self.rng, ms, 50));
        self.asked.retain(|_, until| *until > now);
        self.changes += 1;
        let lacking = self.wanted.saturating_sub(self.active.len());
        lacking.div_ceil(2).saturating_sub(self.asked.len())
    }

    /// When to look again, while neighbours are lacking or too many.
    pub(super) fn deadline(&self) -> Option<Mono> {
        (self.active.len() < self.wanted || self.active.len() > self.wanted + SPARE)
            .then_some(self.ask_at)
    }

    /// Drops one neighbour if there are too many.
    pub(super) fn shed(&mut self, now: Mono) {
        if now >= self.ask_at && self.active.len() > self.wanted + SPARE {
            self.ask_at = now.plus_ms(jitter(&mut self.rng, ROUND_MS, 50));
            self.drop_one(None);
        }
    }

    /// Asks `peer`; if `is_urgent`, so that it cannot refuse.
    pub(super) fn ask(&mut self, peer: NodeId, is_urgent: bool, now: Mono) {
        if self.active.contains(&peer) {
            return;
        }
        self.asked.insert(peer, now.plus_ms(ANSWER_MS));
        self.changes += 1;
        let swarm = if is_urgent {
            Swarm::Neighbor {
                priority: Priority::High,
                data: None,
            }
        } else {
            Swarm::Join(None)
        };
        self.out.push(ViewOut::Send(peer, Overlay::Swarm(swarm)));
    }

    pub(super) fn receive(&mut self, from: NodeId, swarm: &Swarm, now: Mono) {
        self.changes += 1;
        match swarm {
            Swarm::Join(_) => {
                if self.active.contains(&from) || self.active.len() < self.wanted + SPARE {
                    self.agree(from);
                } else {
                    self.refuse(from);
                }
            }
            Swarm::Neighbor {
                priority: Priority::High,
                ..
            } => {
                if !self.active.contains(&from) && self.active.len() >= self.wanted + SPARE {
                    if self
                        .made_room
                        .is_some_and(|at| now.ms_since(at) < MAKE_ROOM_MS)
                    {
                        return self.refuse(from);
                    }
                    self.made_room = Some(now);
                    self.drop_one(Some(from));
                }
                self.agree(from);
            }
            Swarm::Neighbor {
                priority: Priority::Low,
                ..
            } => {
                let was_asked = self.asked.remove(&from).is_some();
                let room = if was_asked {
                    self.wanted + SPARE
                } else {
                    self.wanted
                };
                if self.active.contains(&from) {
                } else if self.active.len() < room {
                    self.add(from);
                } else {
                    self.refuse(from);
                }
            }
            Swarm::Disconnect { .. } => {
                self.asked.remove(&from);
                self.remove(from);
            }
            // Earlier programs walked the mesh to learn of members.
            Swarm::ForwardJoin { .. } | Swarm::Shuffle { .. } | Swarm::ShuffleReply { .. } => {}
        }
    }

    /// A push came from `peer`: it counts us among its neighbours, and should know if it is wrong.
    pub(super) fn pushed(&mut self, peer: NodeId) {
        if !self.active.contains(&peer) && !self.asked.contains_key(&peer) {
            self.refuse(peer);
        }
    }

    fn agree(&mut self, peer: NodeId) {
        self.asked.remove(&peer);
        self.changes += 1;
        let yes = Swarm::Neighbor {
            priority: Priority::Low,
            data: None,
        };
        self.out.push(ViewOut::Send(peer, Overlay::Swarm(yes)));
        self.add(peer);
    }

    fn refuse(&mut self, peer: NodeId) {
        let no = Swarm::Disconnect {
            alive: true,
            respond: false,
        };
        self.out.push(ViewOut::Send(peer, Overlay::Swarm(no)));
    }

    fn add(&mut self, peer: NodeId) {
        if self.active.insert(peer) {
            self.changes += 1;
            self.tries = 0;
            self.out.push(ViewOut::Up(peer));
        }
    }

    /// No longer a neighbour, whoever says so.
    pub(super) fn remove(&mut self, peer: NodeId) {
        if self.active.remove(&peer) {
            self.changes += 1;
            self.out.push(ViewOut::Down(peer));
        }
    }

    /// The link is gone or could not be made.
    pub(super) fn disconnected(&mut self, peer: NodeId) {
        self.asked.remove(&peer);
        self.changes += 1;
        self.remove(peer);
    }

    fn drop_one(&mut self, but: Option<NodeId>) {
        let at = below(&mut self.rng, self.active.len() as u64);
        let at = usize::try_from(at).unwrap_or(0);
        if let Some(peer) = self
            .active
            .iter()
            .filter(|it| Some(**it) != but)
            .nth(at)
            .copied()
        {
            self.refuse(peer);
            self.remove(peer);
        }
    }

    pub(super) fn quit(&mut self) {
        self.changes += 1;
        for peer in std::mem::take(&mut self.active) {
            let bye = Swarm::Disconnect {
                alive: false,
                respond: false,
            };
            self.out.push(ViewOut::Send(peer, Overlay::Swarm(bye)));
            self.out.push(ViewOut::Down(peer));
        }
    }
}

#[cfg(test)]
mod tests {
    use rand_core::SeedableRng;

    use super::*;

    fn node(n: u8) -> NodeId {
        NodeId([n; 32])
    }

    fn views() -> Views {
        Views::new(3, ChaCha12Rng::from_seed([1; 32]), Mono(0))
    }

    const ASK: Swarm = Swarm::Join(None);
    const YES: Swarm = Swarm::Neighbor {
        priority: Priority::Low,
        data: None,
    };
    const MUST: Swarm = Swarm::Neighbor {
        priority: Priority::High,
        data: None,
    };
    const NO: Swarm = Swarm::Disconnect {
        alive: true,
        respond: false,
    };

    fn sent(views: &mut Views) -> Vec<(NodeId, Swarm)> {
        let sends = views.out.drain(..).filter_map(|it| match it {
            ViewOut::Send(to, Overlay::Swarm(swarm)) => Some((to, swarm)),
            _ => None,
        });
        sends.collect()
    }

    #[test]
    fn at_first_half_of_what_is_lacking_is_asked_for() {
        let mut views = views();
        assert_eq!(views.lacking(Mono(0)), 2);
        assert_eq!(views.lacking(Mono(0)), 0, "until the next round");
    }

    #[test]
    fn who_asks_is_taken_in_while_there_is_room() {
        let mut views = views();
        for n in 1..=4 {
            views.receive(node(n), &ASK, Mono(0));
            assert_eq!(sent(&mut views), [(node(n), YES)]);
        }
        views.receive(node(5), &ASK, Mono(0));
        assert_eq!(sent(&mut views), [(node(5), NO)]);
        views.receive(node(1), &ASK, Mono(0));
        assert_eq!(sent(&mut views), [(node(1), YES)], "it is one already");
    }

    #[test]
    fn who_must_not_be_refused_takes_another_place_but_not_again_at_once() {
        let mut views = views();
        (1..=4).for_each(|n| views.receive(node(n), &ASK, Mono(0)));
        sent(&mut views);
        views.receive(node(5), &MUST, Mono(0));
        let said = sent(&mut views);
        assert_eq!((said[0].1.clone(), said[1].clone()), (NO, (node(5), YES)));
        assert_eq!(views.active().len(), 4);
        views.receive(node(6), &MUST, Mono(0));
        assert_eq!(sent(&mut views), [(node(6), NO)]);
    }

    #[test]
    fn two_that_ask_each_other_are_neighbours() {
        let mut views = views();
        views.ask(node(1), false, Mono(0));
        views.receive(node(1), &ASK, Mono(0));
        views.receive(node(1), &YES, Mono(0));
        assert_eq!(sent(&mut views), [(node(1), ASK), (node(1), YES)]);
        assert_eq!(views.active().len(), 1);
    }

    #[test]
    fn who_wrongly_counts_us_as_a_neighbour_is_told() {
        let mut views = views();
        views.pushed(node(1));
        assert_eq!(sent(&mut views), [(node(1), NO)]);
        views.receive(node(1), &ASK, Mono(0));
        sent(&mut views);
        views.pushed(node(1));
        assert_eq!(sent(&mut views), []);
    }

    #[test]
    fn too_many_neighbours_are_dropped_one_by_one() {
        let mut views = Views::new(7, ChaCha12Rng::from_seed([1; 32]), Mono(0));
        (1..=8).for_each(|n| views.receive(node(n), &ASK, Mono(0)));
        views.resize(3, Mono(0));
        let mut now = Mono(0);
        while let Some(at) = views.deadline() {
            now = now.max(at);
            let before = views.active().len();
            views.shed(now);
            assert_eq!(views.active().len(), before - 1);
        }
        assert_eq!(views.active().len(), 4);
    }
}
