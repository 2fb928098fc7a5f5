//! The overlay and the push. The one file that knows `iroh_gossip::proto`.
//!
//! HyParView keeps a few symmetric neighbours out of all members, PlumTree broadcasts over them. By itself the
//! overlay never merges again after a long partition; `session.rs` keeps re-joining members of the roster.
//!
//! The crate keeps what it is told about peers and announced ids without bound, so that its input is limited
//! here: ids outside the roster are dropped, announcements are rationed per peer, and what it has given up on
//! is purged once a minute.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use iroh_gossip::proto::topic::{self, Command, Event, InEvent, OutEvent, Timer};
use iroh_gossip::proto::{Config as TopicConfig, Scope};
use lab_crdt_model::{Mono, NodeId};
use n0_future::time::{Duration, Instant};
use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};

use crate::message::v1::{CONTENT_BYTES_MAX, Message, Overlay, Swarm};

/// How often what the crate has given up on is purged, milliseconds.
const PURGE_MS: u64 = 60_000;
/// How long payloads are kept for peers that ask again, seconds.
const CACHE_S: u64 = 10;
/// Bytes round a content in the largest message.
const ENVELOPE_BYTES: usize = 96;

/// What the overlay asks for.
#[derive(Debug)]
pub(crate) enum GossipOut {
    /// A frame for a peer, linked or not.
    Send { to: NodeId, frame: Bytes },
    /// A content arrived that was not seen before.
    Received { from: NodeId, content: Bytes },
    /// A neighbour was won.
    Up,
    /// A neighbour was lost.
    Down,
}

pub(crate) struct Gossip {
    me: NodeId,
    neighbours_max: usize,
    graft_ms: u64,
    anchor: Instant,
    topic: topic::State<NodeId, ChaCha12Rng>,
    rng: ChaCha12Rng,
    timers: BTreeMap<(Mono, u64), Timer<NodeId>>,
    timer_seq: u64,
    purge_at: Mono,
    neighbours: BTreeSet<NodeId>,
    out: Vec<GossipOut>,
}

impl Gossip {
    #[expect(
        clippy::disallowed_methods,
        reason = "the gossip crate's Instant cannot be built from a number; only differences to this one are used"
    )]
    pub(crate) fn new(
        me: NodeId,
        neighbours_max: usize,
        graft_ms: u64,
        mut rng: ChaCha12Rng,
        now: Mono,
    ) -> Self {
        let topic = Self::topic(me, neighbours_max, graft_ms, &mut rng);
        Self {
            me,
            neighbours_max,
            graft_ms,
            anchor: Instant::now(),
            topic,
            rng,
            timers: BTreeMap::new(),
            timer_seq: 0,
            purge_at: now.plus_ms(PURGE_MS),
            neighbours: BTreeSet::new(),
            out: Vec::new(),
        }
    }

    fn topic(
        me: NodeId,
        neighbours_max: usize,
        graft_ms: u64,
        rng: &mut ChaCha12Rng,
    ) -> topic::State<NodeId, ChaCha12Rng> {
        let mut config = TopicConfig {
            max_message_size: CONTENT_BYTES_MAX + ENVELOPE_BYTES,
            ..TopicConfig::default()
        };
        config.membership.active_view_capacity = neighbours_max;
        // A neighbour request may need a dial, which takes up to four seconds.
        config.membership.neighbor_request_timeout = Duration::from_secs(5);
        config.broadcast.graft_timeout_1 = Duration::from_millis(graft_ms);
        config.broadcast.graft_timeout_2 = Duration::from_millis(graft_ms / 2);
        config.broadcast.message_cache_retention = Duration::from_secs(CACHE_S);
        // Each eviction is a wake-up of an idle machine.
        config.broadcast.cache_evict_interval = Duration::from_secs(5);
        let mut seed = [0; 32];
        rng.fill_bytes(&mut seed);
        topic::State::with_rng(me, None, config, ChaCha12Rng::from_seed(seed))
    }

    /// Current neighbours.
    pub(crate) const fn neighbours(&self) -> &BTreeSet<NodeId> {
        &self.neighbours
    }

    /// How many neighbours are wanted.
    pub(crate) const fn neighbours_max(&self) -> usize {
        self.neighbours_max
    }

    /// Starts over with another number of neighbours; the former ones are forgotten.
    pub(crate) fn resize(&mut self, neighbours_max: usize) {
        self.neighbours_max = neighbours_max;
        self.topic = Self::topic(self.me, neighbours_max, self.graft_ms, &mut self.rng);
        self.timers.clear();
        self.neighbours.clear();
    }

    /// Asks `peer` to take us in.
    pub(crate) fn join(&mut self, peer: NodeId, now: Mono) {
        self.handle(InEvent::Command(Command::Join(vec![peer])), now);
    }

    /// Pushes `content` to everyone.
    pub(crate) fn broadcast(&mut self, content: Bytes, now: Mono) {
        self.handle(
            InEvent::Command(Command::Broadcast(content, Scope::Swarm)),
            now,
        );
    }

    /// Tells the neighbours that we leave.
    pub(crate) fn quit(&mut self, now: Mono) {
        self.handle(InEvent::Command(Command::Quit), now);
    }

    /// The link to `peer` is gone, or could not be made.
    pub(crate) fn disconnected(&mut self, peer: NodeId, now: Mono) {
        self.handle(InEvent::PeerDisconnected(peer), now);
    }

    /// A message of a linked member. Nodes that `is_member` does not know are dropped from it.
    pub(crate) fn receive(
        &mut self,
        from: NodeId,
        mut overlay: Overlay,
        is_member: impl Fn(&NodeId) -> bool,
        now: Mono,
    ) {
        match &mut overlay {
            Overlay::Swarm(Swarm::ForwardJoin { peer, .. }) if !is_member(&peer.0) => return,
            Overlay::Swarm(Swarm::Shuffle { origin, .. }) if !is_member(origin) => return,
            Overlay::Swarm(Swarm::Shuffle { nodes, .. } | Swarm::ShuffleReply { nodes }) => {
                nodes.retain(|(node, _)| is_member(node));
            }
            _ => {}
        }
        if let Some(message) = translate(&overlay) {
            self.handle(InEvent::RecvMessage(from, message), now);
        }
    }

    /// Runs the timers that are due.
    pub(crate) fn wake(&mut self, now: Mono) {
        while let Some(entry) = self.timers.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let timer = entry.remove();
            self.handle(InEvent::TimerExpired(timer), now);
        }
        if now >= self.purge_at {
            self.purge_at = now.plus_ms(PURGE_MS);
            // The crate drops ids that nobody can send any more only when some peer disconnects.
            self.handle(InEvent::PeerDisconnected(self.me), now);
        }
    }

    pub(crate) fn deadline(&self) -> Mono {
        self.timers
            .first_key_value()
            .map_or(self.purge_at, |(key, _)| key.0.min(self.purge_at))
    }

    /// What was asked for since the last call.
    pub(crate) fn take(&mut self) -> Vec<GossipOut> {
        std::mem::take(&mut self.out)
    }

    fn handle(&mut self, event: InEvent<NodeId>, now: Mono) {
        let instant = self.anchor + Duration::from_nanos(now.0);
        for event in self.topic.handle(event, instant) {
            match event {
                OutEvent::SendMessage(to, message) if to != self.me => {
                    if let Some(overlay) = untranslate(&message) {
                        let frame = Message::Overlay(overlay).encode();
                        self.out.push(GossipOut::Send { to, frame });
                    }
                }
                OutEvent::EmitEvent(Event::NeighborUp(peer)) => {
                    self.neighbours.insert(peer);
                    self.out.push(GossipOut::Up);
                }
                OutEvent::EmitEvent(Event::NeighborDown(peer)) => {
                    self.neighbours.remove(&peer);
                    self.out.push(GossipOut::Down);
                }
                OutEvent::EmitEvent(Event::Received(event)) => {
                    self.out.push(GossipOut::Received {
                        from: event.delivered_from,
                        content: event.content,
                    });
                }
                OutEvent::ScheduleTimer(delay, timer) => {
                    let ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
                    self.timer_seq += 1;
                    self.timers.insert((now.plus_ms(ms), self.timer_seq), timer);
                }
                // Links are closed by `session.rs`, once nothing needs them.
                OutEvent::SendMessage(..)
                | OutEvent::DisconnectPeer(_)
                | OutEvent::PeerData(..) => {}
            }
        }
    }
}

fn translate(overlay: &Overlay) -> Option<topic::Message<NodeId>> {
    postcard::from_bytes(&postcard::to_stdvec(overlay).ok()?).ok()
}

/// `None` for what a peer would refuse, such as a payload that has come too many hops.
fn untranslate(message: &topic::Message<NodeId>) -> Option<Overlay> {
    let overlay: Overlay = postcard::from_bytes(&postcard::to_stdvec(message).ok()?).ok()?;
    overlay.check().is_ok().then_some(overlay)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::v1;

    fn id(n: u8) -> NodeId {
        NodeId([n; 32])
    }

    #[test]
    fn our_mirror_of_every_overlay_message_is_exact() {
        let (a, b) = (id(3), id(4));
        for overlay in [
            Overlay::Swarm(Swarm::Join(None)),
            Overlay::Swarm(Swarm::ForwardJoin {
                peer: (a, None),
                ttl: 6,
            }),
            Overlay::Swarm(Swarm::Shuffle {
                origin: a,
                nodes: vec![(b, None)],
                ttl: 6,
            }),
            Overlay::Swarm(Swarm::ShuffleReply {
                nodes: vec![(b, None)],
            }),
            Overlay::Swarm(Swarm::Neighbor {
                priority: v1::Priority::Low,
                data: None,
            }),
            Overlay::Swarm(Swarm::Disconnect {
                alive: true,
                respond: false,
            }),
            Overlay::Push(v1::Push::Payload {
                id: [8; 32],
                content: Bytes::from_static(b"content"),
                scope: v1::Scope::Swarm(3),
            }),
            Overlay::Push(v1::Push::Prune),
            Overlay::Push(v1::Push::Graft {
                id: Some([8; 32]),
                round: 2,
            }),
            Overlay::Push(v1::Push::IHave(vec![([8; 32], 2)])),
        ] {
            let theirs = translate(&overlay).expect("the crate reads it");
            assert_eq!(untranslate(&theirs), Some(overlay));
        }
    }

    #[test]
    fn strangers_in_a_shuffle_never_enter_the_views() {
        let mut gossip = Gossip::new(id(1), 5, 80, ChaCha12Rng::from_seed([1; 32]), Mono(0));
        let shuffle = Swarm::ShuffleReply {
            nodes: (10..60).map(|n| (id(n), None)).collect(),
        };
        gossip.receive(
            id(2),
            Overlay::Swarm(shuffle),
            |node| node.0[0] == 11,
            Mono(0),
        );
        let asked: Vec<_> = gossip
            .take()
            .into_iter()
            .filter_map(|out| match out {
                GossipOut::Send { to, .. } => Some(to),
                _ => None,
            })
            .collect();
        assert_eq!(asked, [id(11)]);
    }
}
