//! The overlay and the push: who our neighbours are ([`views`]) and how news spreads over them ([`tree`]).
//!
//! By itself the overlay does not merge again after a partition; `session.rs` keeps re-joining members of the
//! roster. Every list and memory here is bounded.

mod tree;
mod views;

use std::collections::BTreeSet;

use bytes::Bytes;
use lab_crdt_model::{Mono, NodeId};
use rand_chacha::ChaCha12Rng;

use crate::config::Config;
use crate::message::v1::{Message, Overlay};
use tree::{Tree, TreeOut};
use views::{ViewOut, Views};

/// What the overlay asks for.
#[derive(Debug)]
pub(crate) enum GossipOut {
    /// A frame for a peer, linked or not.
    Send { to: NodeId, frame: Bytes },
    /// A content arrived that was not seen before. It goes on once it is [`Gossip::judged`].
    Received {
        from: NodeId,
        id: [u8; 32],
        content: Bytes,
    },
    /// A neighbour was won.
    Up,
    /// A neighbour was lost.
    Down,
}

#[derive(Debug)]
pub(crate) struct Gossip {
    views: Views,
    tree: Tree,
}

impl Gossip {
    pub(crate) const fn new(
        neighbours_max: usize,
        config: &Config,
        rng: ChaCha12Rng,
        now: Mono,
    ) -> Self {
        Self {
            views: Views::new(neighbours_max, rng, now),
            tree: Tree::new(config.graft_ms, config.graft_max_ms),
        }
    }

    /// Current neighbours.
    pub(crate) const fn neighbours(&self) -> &BTreeSet<NodeId> {
        self.views.active()
    }

    /// How many neighbours are wanted.
    pub(crate) const fn neighbours_max(&self) -> usize {
        self.views.wanted()
    }

    /// Whether `peer` was asked to become a neighbour and may still answer.
    pub(crate) fn is_asked(&self, peer: &NodeId) -> bool {
        self.views.is_asked(peer)
    }

    /// Counts up whenever neighbours or those who were asked may have changed.
    pub(crate) const fn changes(&self) -> u64 {
        self.views.changes()
    }

    /// Wants another number of neighbours.
    pub(crate) fn resize(&mut self, neighbours_max: usize, now: Mono) {
        self.views.resize(neighbours_max, now);
    }

    /// How many members to ask to become neighbours now; each call begins a round of asking.
    pub(crate) fn lacking(&mut self, now: Mono) -> usize {
        self.views.shed(now);
        self.views.lacking(now)
    }

    /// Asks `peer` to be a neighbour.
    pub(crate) fn join(&mut self, peer: NodeId, is_urgent: bool, now: Mono) {
        self.views.ask(peer, is_urgent, now);
    }

    /// Pushes `content` to everyone; whole to each neighbour if `is_direct`.
    pub(crate) fn broadcast(&mut self, content: Bytes, is_direct: bool, now: Mono) {
        self.tree.broadcast(content, is_direct, now);
    }

    /// Tells the neighbours that we leave.
    pub(crate) fn quit(&mut self) {
        self.views.quit();
    }

    /// The link to `peer` is gone, or could not be made.
    pub(crate) fn disconnected(&mut self, peer: NodeId) {
        self.views.disconnected(peer);
    }

    /// A message of a linked member.
    pub(crate) fn receive(&mut self, from: NodeId, overlay: Overlay, now: Mono) {
        match overlay {
            Overlay::Swarm(swarm) => self.views.receive(from, &swarm, now),
            Overlay::Push(push) => {
                self.views.pushed(from);
                self.tree.receive(from, push, now);
            }
        }
    }

    /// What was received is to be passed on, or not.
    pub(crate) fn judged(&mut self, id: &[u8; 32], is_good: bool, now: Mono) {
        self.tree.judged(id, is_good, now);
    }

    /// A round trip to `peer` was measured.
    pub(crate) fn rtt(&mut self, peer: &NodeId, us: u64) {
        self.tree.rtt(peer, us);
    }

    /// Does what is due, but for asking for neighbours.
    pub(crate) fn wake(&mut self, now: Mono) {
        self.tree.wake(now);
    }

    pub(crate) fn deadline(&self) -> Option<Mono> {
        self.tree.deadline()
    }

    /// When to call `lacking`, while there are too few or too many neighbours.
    pub(crate) fn ask_at(&self) -> Option<Mono> {
        self.views.deadline()
    }

    /// Moves what was asked for since the last call to `out`.
    pub(crate) fn take(&mut self, out: &mut Vec<GossipOut>) {
        for it in self.views.out.drain(..) {
            out.push(match it {
                ViewOut::Send(to, overlay) => GossipOut::Send {
                    to,
                    frame: Message::Overlay(overlay).encode(),
                },
                ViewOut::Up(peer) => {
                    self.tree.up(peer);
                    GossipOut::Up
                }
                ViewOut::Down(peer) => {
                    self.tree.down(&peer);
                    GossipOut::Down
                }
            });
        }
        for it in self.tree.out.drain(..) {
            out.push(match it {
                TreeOut::Send(to, frame) => GossipOut::Send { to, frame },
                TreeOut::Received(from, id, content) => GossipOut::Received { from, id, content },
            });
        }
    }
}
