//! The mesh state machine: routes inputs to its parts and their wishes to the driver.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use lab_crdt_model::limit::PUSH_BYTES_MAX;
use lab_crdt_model::link::{Lane, Reason};
use lab_crdt_model::view::{Liveness as Opinion, PeerView};
use lab_crdt_model::{Mono, NodeId, Now, mutant, reached, sometimes};
use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};

use crate::antientropy::{AntiEntropy, SyncOut};
use crate::backoff::{Bucket, below, jitter};
use crate::config::Config;
use crate::error::FrameError;
use crate::gossip::{Gossip, GossipOut};
use crate::liveness::{LiveOut, Liveness};
use crate::message::v1::{
    CONTENT_BYTES_MAX, Content, Digests, Hello, Message, Overlay, Ping, Push, View,
};
use crate::session::Session;

/// Unreadable frames on one link before it is closed.
const BAD_FRAMES_MAX: u32 = 16;
/// Announced ids accepted from one peer per second, and at once.
const IDS_PER_S: u64 = 128;
const IDS_BURST: u64 = 4096;
/// Rounds of wishes worked off per input; what is left waits for the next one.
const ROUNDS_MAX: usize = 64;
/// Pushes kept while there is no neighbour to push to; the oldest are dropped, and pulled later.
const UNSENT_MAX: usize = 16;
/// Time between two looks at whether the blocked are still believed alive, milliseconds.
const BLOCKED_DOUBT_MS: u64 = 5_100;
/// A member that was not heard of for this long is dialled first when it is time to re-join, milliseconds.
const STALE_MS: u64 = 60_000;
/// Time between two questions for opinions about members of which nothing is known, milliseconds; doubles.
const VIEW_MS_MIN: u64 = 500;
const VIEW_MS_MAX: u64 = 32_000;
/// A member in doubt is dialled about this often by all others together, milliseconds.
const PROBE_MS: u64 = 3_000;
/// From so many members on, one neighbour more is wanted.
const LARGE: [usize; 2] = [500, 5_000];
/// Places for outputs that are kept while there are none: a view may bring one output per member, once.
const OUTBOX_KEPT: usize = 64;
/// Members that a node without any neighbour dials in a round.
const LONELY_DIALS: usize = 8;
/// Members picked at random until one is fit.
const PICKS: usize = 16;

/// Everything that can happen to the mesh.
#[derive(Debug)]
pub enum MeshInput {
    /// The members, replacing the former ones. Links of removed members are closed as revoked. Costs a walk over
    /// all members, unless it is the very set that was told last.
    Roster {
        /// All live members; this node may be among them. Shared, so that many agents of one process hold one.
        members: Arc<BTreeSet<NodeId>>,
    },
    /// There is news of how to reach a member: it may be dialled at once.
    Addresses {
        /// Whom.
        node: NodeId,
    },
    /// A link is ready, whoever dialled. A second one replaces the first.
    LinkUp {
        /// Who, proved by its key.
        peer: NodeId,
        /// Where it is, when known.
        address: Option<SocketAddr>,
    },
    /// A link is gone. Never said of a former link once a later one to the same peer is up.
    LinkDown {
        /// Whose.
        peer: NodeId,
        /// For people.
        why: String,
    },
    /// A dial failed.
    DialFailed {
        /// Whom.
        peer: NodeId,
        /// For people.
        why: String,
    },
    /// A frame arrived.
    Frame {
        /// From whom.
        from: NodeId,
        /// On which stream.
        lane: Lane,
        /// Without the length prefix.
        bytes: Bytes,
    },
    /// Something new of ours. Up to `PUSH_BYTES_MAX` it is pushed whole to everyone; a longer one makes the
    /// neighbours pull at once, and theirs after them. Hand in the new `Digests` before it or soon
    /// after it.
    Broadcast {
        /// Opaque.
        payload: Bytes,
    },
    /// The replica's messages of an exchange; each at most [`frame::BODY_BYTES_MAX`](crate::frame::BODY_BYTES_MAX).
    SyncReply {
        /// The other side.
        to: NodeId,
        /// Opaque.
        messages: Vec<Bytes>,
    },
    /// What our replica holds now.
    Digests {
        /// Of the statements.
        statements: [u8; 32],
        /// Of the registers.
        registers: [u8; 32],
    },
    /// A signed beacon of `node`, newer than any before, was taken in.
    Beacon {
        /// Whose.
        node: NodeId,
        /// Counts up with each beacon of that node.
        counter: u64,
        /// From whom it was pulled: then it may be old. None if it was pushed.
        pulled_from: Option<NodeId>,
    },
    /// Whether a delivered payload is to be passed on: answers each `Deliver`, before anything else is put in.
    Judged {
        /// Of the payload.
        id: [u8; 32],
        /// Someone signed it who may, and it is news.
        is_good: bool,
    },
    /// Someone was found on the local network.
    Found {
        /// Who it claims to be.
        peer: NodeId,
        /// Where.
        addresses: Vec<SocketAddr>,
    },
    /// With whom not to talk, replacing the former set. For demonstrations and tests.
    Block(BTreeSet<NodeId>),
    /// The agent stops: tells the peers. Links are not closed here, so that the words get out.
    Stop,
    /// The deadline passed.
    Wake,
}

/// Everything the mesh asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MeshOutput {
    /// Sends a frame; silently dropped when there is no such link.
    Send {
        /// To whom.
        to: NodeId,
        /// On which stream.
        lane: Lane,
        /// Without the length prefix.
        bytes: Bytes,
    },
    /// Opens a link; answered by `LinkUp` or `DialFailed`.
    Dial {
        /// Whom.
        peer: NodeId,
        /// Where it was found on the local network; may be empty. The driver adds what it knows from elsewhere.
        addresses: Vec<SocketAddr>,
    },
    /// Closes a link; `LinkDown` may follow or not.
    Hangup {
        /// Whose.
        peer: NodeId,
        /// Why, told to the peer.
        why: Reason,
    },
    /// A pushed payload, for the replica. It is passed on once `Judged` says that it is good.
    Deliver {
        /// Who passed it on; not who made it.
        from: NodeId,
        /// For [`MeshInput::Judged`].
        id: [u8; 32],
        /// Opaque.
        payload: Bytes,
    },
    /// A message of an exchange, for the replica.
    SyncMessage {
        /// From whom.
        from: NodeId,
        /// Opaque.
        bytes: Bytes,
    },
    /// The replica should start an exchange with `peer`, by `SyncReply`.
    SyncOpen {
        /// With whom.
        peer: NodeId,
    },
    /// Someone suspects this node: publish a newer beacon now.
    RefuteSuspicion,
    /// An opinion changed.
    Liveness {
        /// About whom.
        node: NodeId,
        /// The new one.
        state: Opinion,
    },
    /// A peer told that so many members of whom nothing was known are alive: said once, where there may be thousands.
    Learned {
        /// How many.
        alive_count: usize,
    },
    /// A live peer has stayed unequal longer than the bound. Said once until it is equal again.
    Diverged {
        /// Who.
        peer: NodeId,
        /// Our digest: of the statements if those differ, else of the registers.
        ours: [u8; 32],
        /// Its digest of the same plane.
        theirs: [u8; 32],
    },
}

/// When the mesh wants to be woken, and what for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Deadline {
    /// At this time or as soon after it as possible.
    pub at: Mono,
    /// For logs and traces.
    pub why: &'static str,
}

/// What was refused or dropped since the start, for metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Frames that could not be read.
    pub bad_frames: u64,
    /// Frames of a kind or version that this program does not know.
    pub unknown_frames: u64,
    /// Pushes and announcements above a peer's ration; they are pulled instead.
    pub rationed: u64,
    /// Messages of exchanges dropped at a limit; they are asked for again.
    pub dropped_sync: u64,
    /// Local health: 0 is good, 8 is worst.
    pub health: u64,
}

#[derive(Debug)]
struct Link {
    address: Option<SocketAddr>,
    up_at: Mono,
    needed_until: Mono,
    is_needed: bool,
    bad_frames: u32,
    pushed: Bucket,
    announced: Bucket,
}

/// The mesh as one node sees it. See the [crate] for the contract.
pub struct Mesh {
    me: NodeId,
    config: Config,
    found: BTreeMap<NodeId, Vec<SocketAddr>>,
    blocked: BTreeSet<NodeId>,
    /// When the blocked count as unreachable: nobody dials them, so no dial will say so.
    doubt_at: Option<Mono>,
    links: BTreeMap<NodeId, Link>,
    /// All links were needed for their neighbours alone, as of so many changes among those.
    minded: Option<u64>,
    visits: BTreeSet<NodeId>,
    unsent: VecDeque<Content>,
    view_at: Option<Mono>,
    /// Whom to ask next, rather than anyone.
    view_from: Option<NodeId>,
    view_tries: u32,
    rng: ChaCha12Rng,
    gossip: Gossip,
    sync: AntiEntropy,
    live: Liveness,
    session: Session,
    outbox: VecDeque<MeshOutput>,
    counts: Counts,
    now: Mono,
    due: Option<Deadline>,
    is_stopping: bool,
}

impl std::fmt::Debug for Mesh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mesh")
            .field("me", &self.me)
            .field("members", &self.live.roster.len())
            .field("links", &self.links.keys())
            .field("neighbours", self.gossip.neighbours())
            .field("due", &self.due)
            .finish_non_exhaustive()
    }
}

impl Mesh {
    /// A mesh without members or links. `rng_seed` decides every random choice; two nodes must not share it.
    pub fn new(me: NodeId, config: Config, rng_seed: [u8; 32], now: Now) -> Self {
        let mut root = ChaCha12Rng::from_seed(rng_seed);
        let mut child = || {
            let mut seed = [0; 32];
            root.fill_bytes(&mut seed);
            ChaCha12Rng::from_seed(seed)
        };
        let gossip = Gossip::new(
            config.full_mesh_max.saturating_sub(1).max(1),
            &config,
            child(),
            now.mono,
        );
        let sync = AntiEntropy::new(child());
        // Pushes of an earlier life of this node must not look like this one's: peers drop what they saw.
        let live = Liveness::new(me, child(), now.wall.0 << 16, now.mono);
        let session = Session::new(child(), now.mono);
        let rng = child();
        Self {
            me,
            config,
            found: BTreeMap::new(),
            blocked: BTreeSet::new(),
            doubt_at: None,
            links: BTreeMap::new(),
            minded: None,
            visits: BTreeSet::new(),
            unsent: VecDeque::new(),
            view_at: None,
            view_from: None,
            view_tries: 0,
            rng,
            gossip,
            sync,
            live,
            session,
            outbox: VecDeque::new(),
            counts: Counts::default(),
            now: now.mono,
            due: None,
            is_stopping: false,
        }
    }

    /// Takes in one input. Time never goes back: an earlier `now` counts as the last one.
    pub fn handle(&mut self, now: Now, input: MeshInput) {
        let now = now.mono.max(self.now);
        self.now = now;
        if let Some(due) = self.due {
            let gap_ms = now.ms_since(due.at);
            if gap_ms > self.config.late_ms {
                reached!("a timer was late");
                if self.live.late(gap_ms, &self.config, now) {
                    self.ask_soon(now);
                }
            }
        }
        self.take_in(input, now);
        if !self.is_stopping {
            self.gossip.wake(now);
            self.doubt(now);
            self.live.wake(&self.config, now);
            self.fill(now);
            self.rejoin(now);
            self.ask_view(now);
        }
        self.sync.wake(&self.config, now);
        self.settle(now);
        self.counts.dropped_sync = self.sync.dropped_count();
        self.counts.health = self.live.health();
        // What is overdue already is due now: it does not show that we were paused.
        self.due = self.next_due().map(|it| Deadline {
            at: it.at.max(now),
            ..it
        });
    }

    /// If a beacon leaves us without an opinion, the peer that had it is asked for its own, and whoever dials everyone
    /// looks for itself.
    fn beacon(&mut self, node: NodeId, counter: u64, pulled_from: Option<NodeId>, now: Mono) {
        let is_pulled = pulled_from.is_some();
        if self.live.beacon(node, counter, is_pulled, now) {
            self.session.reset(&node);
            self.view_from = pulled_from.or(self.view_from);
            self.view_tries = 0;
            self.ask_soon(now);
        }
    }

    /// One question for all of whom we cease to know anything at about the same time.
    fn ask_soon(&mut self, now: Mono) {
        let soon = now.plus_ms(below(&mut self.rng, VIEW_MS_MIN));
        self.view_at = Some(self.view_at.map_or(soon, |at| at.min(soon)));
    }

    fn doubt(&mut self, now: Mono) {
        if self.doubt_at.is_some_and(|at| at <= now) {
            self.doubt_at = Some(now.plus_ms(BLOCKED_DOUBT_MS));
            for peer in &self.blocked {
                self.live.dial_failed(*peer, now, &self.config, now);
            }
        }
    }

    /// The next thing to do for the driver, in order.
    pub fn poll(&mut self) -> Option<MeshOutput> {
        let next = self.outbox.pop_front();
        if next.is_none() && self.outbox.capacity() > OUTBOX_KEPT {
            self.outbox.shrink_to(OUTBOX_KEPT);
        }
        next
    }

    /// When to hand in [`MeshInput::Wake`] at the latest; now, while outputs wait.
    pub fn deadline(&self) -> Option<Deadline> {
        if self.outbox.is_empty() {
            self.due
        } else {
            Some(Deadline {
                at: self.now,
                why: "outputs wait",
            })
        }
    }

    /// Every other member as this node sees it, by id.
    pub fn peers(&self, now: Now) -> Vec<PeerView> {
        let now = now.mono.max(self.now);
        let view = |node: &NodeId| {
            let link = self.links.get(node);
            let known = self.found.get(node);
            PeerView {
                node: *node,
                liveness: self.live.opinion(node),
                since_ms: now.ms_since(self.live.roster.since(node).unwrap_or(now)),
                heard_ms: self.live.heard(node).map(|at| now.ms_since(at)),
                is_linked: link.is_some(),
                rtt_us: self.live.rtt_us(node),
                is_equal: self.sync.is_equal(node),
                address: link
                    .and_then(|it| it.address)
                    .or_else(|| known.and_then(|it| it.first()).copied()),
                clock_ms: None,
            }
        };
        self.live.roster.nodes().map(view).collect()
    }

    /// What this node thinks of another; unknown of strangers.
    pub fn opinion(&self, node: &NodeId) -> Opinion {
        self.live.opinion(node)
    }

    /// Peers with a live link.
    pub fn link_count(&self) -> usize {
        self.links.len()
    }

    /// Whom this node has a link to, and where each is, when known.
    pub fn linked(&self) -> impl Iterator<Item = (NodeId, Option<SocketAddr>)> {
        self.links.iter().map(|(node, it)| (*node, it.address))
    }

    /// Whether a linked peer's newest digest of statements equals ours.
    pub fn is_equal(&self, node: &NodeId) -> Option<bool> {
        self.sync.is_equal(node)
    }

    /// What was refused or dropped since the start.
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    fn take_in(&mut self, input: MeshInput, now: Mono) {
        match input {
            MeshInput::Roster { members } => self.roster(members, now),
            MeshInput::LinkUp { peer, address } => self.link_up(peer, address, now),
            MeshInput::LinkDown { peer, why: _ } => self.link_down(peer, now),
            MeshInput::DialFailed { peer, why: _ } => {
                let began = self.session.dial_failed(peer, &self.config, now);
                self.visits.remove(&peer);
                if !self.links.contains_key(&peer) && !self.blocked.contains(&peer) {
                    self.live.dial_failed(peer, began, &self.config, now);
                    self.gossip.disconnected(peer);
                }
            }
            MeshInput::Frame {
                from,
                lane: _,
                bytes,
            } => self.frame(from, &bytes, now),
            MeshInput::Broadcast { payload } => {
                if payload.len() <= PUSH_BYTES_MAX {
                    self.push(Content::Payload(payload), now);
                } else {
                    self.sync.hint(now);
                }
            }
            MeshInput::Judged { id, is_good } => self.gossip.judged(&id, is_good, now),
            MeshInput::SyncReply { to, messages } => {
                self.sync.reply(to, messages, &self.config, now);
            }
            MeshInput::Digests {
                statements,
                registers,
            } => {
                self.sync.changed(
                    Digests {
                        statements,
                        registers,
                    },
                    now,
                );
            }
            MeshInput::Beacon {
                node,
                counter,
                pulled_from,
            } => self.beacon(node, counter, pulled_from, now),
            MeshInput::Found { peer, addresses } => {
                if self.is_member(&peer) && self.found.get(&peer) != Some(&addresses) {
                    self.found.insert(peer, addresses);
                    self.reachable(&peer, now);
                }
            }
            MeshInput::Addresses { node } => self.reachable(&node, now),
            MeshInput::Block(blocked) => {
                self.blocked = blocked;
                self.doubt_at = (!self.blocked.is_empty()).then(|| now.plus_ms(BLOCKED_DOUBT_MS));
                let cut: Vec<NodeId> = self
                    .links
                    .keys()
                    .filter(|it| self.blocked.contains(it))
                    .copied()
                    .collect();
                for peer in cut {
                    self.hang_up(peer, Reason::Done, now);
                }
            }
            MeshInput::Stop => {
                self.is_stopping = true;
                self.gossip.quit();
                for to in self.links.keys() {
                    let bytes = Message::Goodbye.encode();
                    self.outbox.push_back(MeshOutput::Send {
                        to: *to,
                        lane: Lane::Control,
                        bytes,
                    });
                }
            }
            MeshInput::Wake => {}
        }
    }

    fn is_member(&self, node: &NodeId) -> bool {
        self.live.roster.contains(node)
    }

    /// There is news of how to reach `peer`.
    fn reachable(&mut self, peer: &NodeId, now: Mono) {
        self.session.reset(peer);
        if self.is_member(peer) && !self.links.contains_key(peer) && self.is_lonely() {
            self.session.hurry(&self.config, now);
        }
    }

    fn roster(&mut self, members: Arc<BTreeSet<NodeId>>, now: Mono) {
        let is_first = self.live.roster.len() == 0;
        let (gone, new) = self.live.roster.replace(members, now);
        if gone.is_empty() && new.is_empty() {
            return;
        }
        for node in &gone {
            if self.links.contains_key(node) {
                reached!("a link is closed because its peer was revoked");
                self.hang_up(*node, Reason::Revoked, now);
            }
            self.gossip.disconnected(*node);
            self.live.remove(node);
            self.session.remove(node);
            self.found.remove(node);
            self.visits.remove(node);
        }
        if self.is_small() {
            for node in new.iter().filter(|it| **it < self.me) {
                self.session.defer(*node, now);
            }
        }
        self.view_tries = 0;
        self.view_at = Some(now.plus_ms(VIEW_MS_MIN));
        let wanted = if self.is_small() {
            self.config.full_mesh_max.saturating_sub(1).max(1)
        } else {
            // The tree gets no deeper by much as the mesh grows.
            let len = self.live.roster.len();
            let more = LARGE.iter().filter(|it| len >= **it).count();
            self.config.neighbours_max + more
        };
        if wanted != self.gossip.neighbours_max() {
            self.gossip.resize(wanted, now);
        }
        if is_first && self.is_small() {
            self.session.hurry(&self.config, now);
        }
    }

    fn link_up(&mut self, peer: NodeId, address: Option<SocketAddr>, now: Mono) {
        let frames = self.session.link_up(&peer);
        if !self.is_member(&peer) || self.blocked.contains(&peer) {
            let why = if self.blocked.contains(&peer) {
                Reason::Done
            } else {
                Reason::NotAMember
            };
            self.outbox.push_back(MeshOutput::Hangup { peer, why });
            return;
        }
        self.minded = None;
        let burst = self.config.push_bytes_per_s * 4;
        let former = self.links.insert(
            peer,
            Link {
                address,
                up_at: now,
                needed_until: now,
                is_needed: true,
                bad_frames: 0,
                pushed: Bucket::new(burst, now),
                announced: Bucket::new(IDS_BURST, now),
            },
        );
        sometimes!(
            former.is_some(),
            "a second link to a peer replaced the first"
        );
        // If we held it for down until now, it refutes that, for all who still do.
        let was_down = self.live.opinion(&peer) == Opinion::Down;
        sometimes!(was_down, "one who was held for dead came back");
        let counter = self.live.roster.counter(&peer).unwrap_or(0);
        let down = was_down.then_some((peer, counter)).into_iter().collect();
        self.sync.link_up(peer, &self.config, now);
        self.live.link_up(peer, &self.config, now);
        let digests = self.sync.tell(&peer).unwrap_or(self.sync.ours());
        let hello = Hello {
            capabilities: 0,
            digests,
            down,
        };
        self.send(peer, &Message::Hello(hello));
        for bytes in frames {
            self.outbox.push_back(MeshOutput::Send {
                to: peer,
                lane: Lane::Control,
                bytes,
            });
        }
        if self.is_small() && self.me < peer && !self.gossip.neighbours().contains(&peer) {
            self.gossip.join(peer, true, now);
        }
        if self.live.roster.count(Opinion::Unknown) > 0 {
            self.ask_soon(now);
        }
    }

    fn link_down(&mut self, peer: NodeId, now: Mono) {
        let Some(link) = self.links.remove(&peer) else {
            return;
        };
        let was_neighbour = self.gossip.neighbours().contains(&peer);
        self.session
            .link_down(peer, now.ms_since(link.up_at), &self.config, now);
        self.forget_link(peer, now);
        // A dial that fails is how a crash is told from a mere loss of the link.
        if was_neighbour && !self.is_stopping {
            self.session.want(peer, None, true, now);
        }
    }

    fn forget_link(&mut self, peer: NodeId, now: Mono) {
        self.sync.link_down(&peer);
        if self.live.link_down(&peer, now) {
            self.ask_soon(now);
        }
        self.gossip.disconnected(peer);
        self.visits.remove(&peer);
    }

    fn hang_up(&mut self, peer: NodeId, why: Reason, now: Mono) {
        if let Some(link) = self.links.remove(&peer) {
            self.session
                .link_down(peer, now.ms_since(link.up_at), &self.config, now);
            self.forget_link(peer, now);
            self.outbox.push_back(MeshOutput::Hangup { peer, why });
        }
    }

    fn frame(&mut self, from: NodeId, bytes: &Bytes, now: Mono) {
        let Some(link) = self.links.get_mut(&from) else {
            return;
        };
        let message = match Message::decode(bytes) {
            Ok(message) => message,
            Err(FrameError::Version(_) | FrameError::Kind(_)) => {
                reached!("a frame of a kind unknown here arrived");
                self.counts.unknown_frames += 1;
                self.live.frame(from, &self.config, now);
                return;
            }
            Err(_) => {
                reached!("a malformed frame arrived");
                self.counts.bad_frames += 1;
                link.bad_frames += 1;
                if link.bad_frames >= BAD_FRAMES_MAX {
                    self.hang_up(from, Reason::Protocol, now);
                }
                return;
            }
        };
        if let Message::Pong(pong) = &message {
            self.live.pong(from, pong.seq, now);
            if let Some(us) = self.live.rtt_us(&from) {
                self.gossip.rtt(&from, us);
            }
        }
        self.live.frame(from, &self.config, now);
        match message {
            Message::Hello(hello) => {
                for (node, counter) in hello.down {
                    self.live.hearsay(node, counter, now);
                }
                self.sync.told(from, hello.digests, true, &self.config, now);
                // A member that knows other things than we do may be of another component.
                if self.visits.remove(&from) && hello.digests != self.sync.ours() {
                    reached!("a visit found a member that knows other things");
                    self.gossip.join(from, true, now);
                }
            }
            Message::Ping(ping) => {
                let pong = Ping {
                    seq: ping.seq,
                    digests: self.sync.tell(&from),
                };
                self.send(from, &Message::Pong(pong));
                self.sync
                    .told_by_ping(from, ping.digests, &self.config, now);
            }
            Message::Pong(pong) => {
                self.sync
                    .told_by_ping(from, pong.digests, &self.config, now);
            }
            Message::Announce(it) => {
                self.sync
                    .told(from, it.digests, it.is_pull, &self.config, now);
            }
            Message::Overlay(overlay) => self.overlay(from, overlay, bytes.len(), now),
            Message::Sync(bytes) => {
                if self.sync.receive(from, &self.config, now) {
                    self.outbox
                        .push_back(MeshOutput::SyncMessage { from, bytes });
                }
            }
            Message::AskView => {
                let (alive, down) = self.live.roster.bits();
                let view = View {
                    roster: self.live.roster.digest(),
                    alive: alive.into(),
                    down: down.into(),
                };
                self.send(from, &Message::View(view));
            }
            Message::View(view) => {
                if view.roster == self.live.roster.digest() {
                    reached!("a peer told its opinions of all");
                    let former = self.live.roster.count(Opinion::Unknown);
                    self.live.view(&view.alive, &view.down, now);
                    let unknown = self.live.roster.count(Opinion::Unknown);
                    // Others are learning too: who had news will have more.
                    if unknown > 0 && unknown < former {
                        self.view_tries = 0;
                        self.view_at = Some(now.plus_ms(jitter(&mut self.rng, VIEW_MS_MIN, 30)));
                    }
                }
            }
            Message::Goodbye => {
                reached!("a peer said goodbye");
                self.live.goodbye(from, &self.config, now);
                self.gossip.disconnected(from);
            }
        }
    }

    fn overlay(&mut self, from: NodeId, overlay: Overlay, len: usize, now: Mono) {
        let Some(link) = self.links.get_mut(&from) else {
            return;
        };
        let is_within = match &overlay {
            Overlay::Push(Push::IHave(ids)) => {
                link.announced
                    .take(ids.len() as u64, IDS_PER_S, IDS_BURST, now)
            }
            _ => {
                let per_s = self.config.push_bytes_per_s;
                link.pushed.take(len as u64, per_s, per_s * 4, now)
            }
        };
        if !is_within {
            reached!("a peer pushed more than its ration");
            self.counts.rationed += 1;
            return;
        }
        self.gossip.receive(from, overlay, now);
    }

    fn push(&mut self, content: Content, now: Mono) {
        if self.is_stopping {
            return;
        }
        if self.gossip.neighbours().is_empty() {
            reached!("news waits: there is no neighbour to push to");
            if self.unsent.len() >= UNSENT_MAX {
                self.unsent.pop_front();
            }
            self.unsent.push_back(content);
        } else {
            self.gossip
                .broadcast(content.encode(), self.is_small(), now);
        }
    }

    fn send(&mut self, to: NodeId, message: &Message) {
        self.outbox.push_back(MeshOutput::Send {
            to,
            lane: Lane::Control,
            bytes: message.encode(),
        });
    }

    /// Works off what the parts want, until they want nothing more.
    fn settle(&mut self, now: Mono) {
        let (mut gossip, mut live) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS_MAX {
            self.gossip.take(&mut gossip);
            self.live.take(&mut live);
            if gossip.is_empty() && live.is_empty() {
                break;
            }
            for out in gossip.drain(..) {
                self.gossip_out(out, now);
            }
            for out in live.drain(..) {
                self.live_out(out, now);
            }
        }
        for out in self.sync.take() {
            self.outbox.push_back(match out {
                SyncOut::Open(peer) => MeshOutput::SyncOpen { peer },
                SyncOut::Bulk { to, frame } => MeshOutput::Send {
                    to,
                    lane: Lane::Bulk,
                    bytes: frame,
                },
                SyncOut::Control { to, frame } => MeshOutput::Send {
                    to,
                    lane: Lane::Control,
                    bytes: frame,
                },
                SyncOut::Diverged { peer, ours, theirs } => {
                    // Whoever keeps things from us may be all around us: someone else may know more.
                    self.session.hurry(&self.config, now);
                    let (ours, theirs) = if ours.statements == theirs.statements {
                        (ours.registers, theirs.registers)
                    } else {
                        (ours.statements, theirs.statements)
                    };
                    MeshOutput::Diverged { peer, ours, theirs }
                }
            });
        }
        if self.is_stopping {
            return;
        }
        self.mind_links(now);
        while let Some(peer) = self.session.next_dial(&self.config, now) {
            let addresses = self.found.get(&peer).cloned().unwrap_or_default();
            self.outbox.push_back(MeshOutput::Dial { peer, addresses });
        }
    }

    fn gossip_out(&mut self, out: GossipOut, now: Mono) {
        match out {
            GossipOut::Send { to, frame } => {
                if self.links.contains_key(&to) {
                    let lane = Lane::Control;
                    self.outbox.push_back(MeshOutput::Send {
                        to,
                        lane,
                        bytes: frame,
                    });
                } else {
                    let is_member = self.is_member(&to) && !self.blocked.contains(&to);
                    if !is_member || !self.session.want(to, Some(frame), false, now) {
                        self.gossip.disconnected(to);
                    }
                }
            }
            GossipOut::Received { from, id, content } => match Content::decode(&content) {
                Ok(Content::Payload(payload)) if payload.len() <= PUSH_BYTES_MAX => {
                    self.outbox
                        .push_back(MeshOutput::Deliver { from, id, payload });
                }
                Ok(Content::Payload(_)) | Err(_) => {
                    self.counts.bad_frames += 1;
                    self.gossip.judged(&id, false, now);
                }
                Ok(content) => {
                    self.gossip.judged(&id, true, now);
                    self.live.told(&content, &self.config, now);
                }
            },
            GossipOut::Up => {
                for content in std::mem::take(&mut self.unsent) {
                    // What we thought of others while alone is no news.
                    if matches!(content, Content::Payload(_)) {
                        self.push(content, now);
                    }
                }
            }
            GossipOut::Down => {
                if self.is_lonely() {
                    self.session.hurry(&self.config, now);
                }
            }
        }
    }

    fn live_out(&mut self, out: LiveOut, now: Mono) {
        match out {
            LiveOut::Ping { to, seq } => {
                let ping = Ping {
                    seq,
                    digests: self.sync.tell(&to),
                };
                self.send(to, &Message::Ping(ping));
            }
            LiveOut::Push(content) => {
                // The tree is mended at once; the link stays until the verdict.
                if let Content::Suspect { node, .. } = content {
                    self.gossip.disconnected(node);
                }
                self.push(content, now);
            }
            LiveOut::Changed { node, opinion } => {
                self.outbox.push_back(MeshOutput::Liveness {
                    node,
                    state: opinion,
                });
                match opinion {
                    Opinion::Down => self.hang_up(node, Reason::Done, now),
                    // It may still count us among its neighbours.
                    Opinion::Alive => {
                        let is_old = self.links.get(&node).is_some_and(|it| it.up_at < now);
                        if is_old && !self.gossip.neighbours().contains(&node) {
                            self.gossip.join(node, false, now);
                        }
                        self.look_after_others(1, now);
                    }
                    Opinion::Suspect | Opinion::Unknown => {}
                }
            }
            LiveOut::Learned { alive_count } => {
                self.outbox.push_back(MeshOutput::Learned { alive_count });
                self.look_after_others(alive_count, now);
            }
            // Who stops is rightly believed gone.
            LiveOut::Refute if self.is_stopping => {}
            LiveOut::Refute => self.outbox.push_back(MeshOutput::RefuteSuspicion),
        }
    }

    /// Where `count` came back from, others may be. All see it at once: of all of them, a few look after each that is
    /// still down.
    fn look_after_others(&mut self, count: usize, now: Mono) {
        let roster = &self.live.roster;
        let few = 3 * roster.count(Opinion::Down) * count;
        if below(&mut self.rng, roster.len() as u64) < few as u64 {
            self.session.hurry(&self.config, now);
        }
    }

    /// Whether everyone keeps a link to everyone.
    fn is_small(&self) -> bool {
        self.live.roster.len() < self.config.full_mesh_max
    }

    fn is_lonely(&self) -> bool {
        let wanted = self.gossip.neighbours_max().min(self.live.roster.len());
        self.gossip.neighbours().len() < wanted.div_ceil(2)
    }

    /// Dials what a small mesh lacks and closes what nothing needs.
    fn mind_links(&mut self, now: Mono) {
        let is_small = self.is_small();
        if is_small {
            let lacking: Vec<NodeId> = self.lacking().map(|(node, _)| node).collect();
            for node in lacking {
                self.session.want(node, None, false, now);
            }
        }
        let changes = self.gossip.changes();
        if !is_small && self.minded == Some(changes) && self.sync.is_quiet() {
            return;
        }
        let (gossip, sync, config) = (&self.gossip, &self.sync, &self.config);
        let mut unneeded = Vec::new();
        let mut are_neighbours = !is_small;
        for (peer, link) in &mut self.links {
            let was_needed = link.is_needed;
            let is_tied = gossip.neighbours().contains(peer) || gossip.is_asked(peer);
            are_neighbours &= is_tied;
            link.is_needed = is_small || is_tied || sync.is_busy(peer, config, now);
            if link.is_needed || was_needed {
                link.needed_until = now;
            } else if now.ms_since(link.needed_until) >= config.linger_ms {
                unneeded.push(*peer);
            }
        }
        self.minded = are_neighbours.then_some(changes);
        for peer in unneeded {
            reached!("a link that nobody needs is closed");
            self.hang_up(peer, Reason::Done, now);
        }
    }

    /// Members without a link, and when each may be dialled. Walks over all members.
    fn lacking(&self) -> impl Iterator<Item = (NodeId, Mono)> {
        self.live.roster.nodes().filter_map(|node| {
            if self.links.contains_key(node) || self.blocked.contains(node) {
                return None;
            }
            if mutant!("M23") && self.live.heard(node).is_some() {
                return None;
            }
            Some((*node, self.session.may_dial_at(node)?))
        })
    }

    /// Asks members at random to be neighbours, while there are too few.
    fn fill(&mut self, now: Mono) {
        if self.is_small() || self.gossip.ask_at().is_none_or(|at| at > now) {
            return;
        }
        for _ in 0..self.gossip.lacking(now) {
            let is_fit = |it: &NodeId| {
                !self.gossip.neighbours().contains(it)
                    && !self.gossip.is_asked(it)
                    && !self.blocked.contains(it)
                    && matches!(self.live.opinion(it), Opinion::Alive | Opinion::Unknown)
                    && (self.links.contains_key(it)
                        || self.session.may_dial_at(it).is_some_and(|at| at <= now))
            };
            let count = self.live.roster.len();
            let places = (0..PICKS).map(|_| below(&mut self.rng, count as u64));
            let picked = places
                .filter_map(|at| self.live.roster.at(usize::try_from(at).ok()?))
                .find(is_fit);
            let Some(node) = picked else { return };
            // Whoever has nobody must not be refused for ever.
            let is_alone = self.gossip.neighbours().is_empty();
            self.gossip.join(node, is_alone && self.session.flip(), now);
        }
    }

    /// While we know nothing of some members, asks linked peers what they think of them.
    fn ask_view(&mut self, now: Mono) {
        if self.view_at.take_if(|at| *at <= now).is_none() {
            return;
        }
        if self.live.roster.count(Opinion::Unknown) == 0 {
            self.view_tries = 0;
            return;
        }
        let ms = (VIEW_MS_MIN << self.view_tries.min(10)).min(VIEW_MS_MAX);
        self.view_tries += 1;
        self.view_at = Some(now.plus_ms(jitter(&mut self.rng, ms, 30)));
        let at = below(&mut self.rng, self.links.len() as u64);
        let anyone = self.links.keys().nth(usize::try_from(at).unwrap_or(0));
        let named = self
            .view_from
            .take()
            .filter(|it| self.links.contains_key(it));
        if let Some(peer) = named.or(anyone.copied()) {
            self.send(peer, &Message::AskView);
        }
    }

    /// Every so often, a member that is not a neighbour: what ends partitions and finds returned nodes.
    fn rejoin(&mut self, now: Mono) {
        if now < self.session.rejoin_at() || self.live.roster.len() == 0 {
            return;
        }
        self.session.forget(&self.config, now);
        if mutant!("M25") && !self.is_small() {
            let ms = self.config.rejoin_idle_ms;
            return self.session.schedule_rejoin(false, ms, &self.config, now);
        }
        let roster = &self.live.roster;
        let is_other =
            |it: &NodeId| !self.gossip.neighbours().contains(it) && !self.blocked.contains(it);
        let in_doubt = roster.count(Opinion::Down) + roster.count(Opinion::Suspect);
        let doubtful = if in_doubt > 0 {
            roster.doubtful()
        } else {
            Vec::new()
        };
        let is_whole = !doubtful
            .iter()
            .any(|at| roster.at(*at).is_some_and(|it| !self.blocked.contains(&it)));
        let is_lonely = self.is_lonely();
        // All together look after each doubtful member every few seconds: not each of thousands after the same one.
        let all = roster.len() as u64;
        let probe_ms = PROBE_MS * all / (doubtful.len() as u64).max(1);
        let mean = if is_whole {
            self.config.rejoin_idle_ms
        } else {
            let most = self.config.rejoin_idle_ms.max(self.config.rejoin_ms);
            probe_ms.clamp(self.config.rejoin_ms, most)
        };
        let is_probe = below(&mut self.rng, probe_ms.max(2 * mean).max(1)) < mean;
        self.session
            .schedule_rejoin(is_lonely, mean, &self.config, now);
        if self.is_small() {
            // Dials are due anyway; links that are not neighbours are taken in.
            let linked = self.links.keys().filter(|it| is_other(it));
            let linked: Vec<NodeId> = linked.copied().collect();
            for node in linked {
                if self.live.opinion(&node) == Opinion::Alive {
                    self.gossip.join(node, true, now);
                }
            }
            return;
        }
        if is_lonely && !doubtful.is_empty() {
            // Two who are left of a small mesh must not miss each other for rounds.
            let places = self.session.some(&doubtful, LONELY_DIALS);
            let nodes = places.into_iter().filter_map(|at| roster.at(at));
            let nodes: Vec<NodeId> = nodes.filter(is_other).collect();
            for node in nodes {
                self.rejoin_with(node, now);
            }
            return;
        }
        let target = if !doubtful.is_empty() && (is_probe || is_lonely || self.session.was_early())
        {
            let place = self.session.pick(&doubtful);
            place.and_then(|at| roster.at(at)).filter(is_other)
        } else {
            let before = Mono(now.0.saturating_sub(STALE_MS * 1_000_000));
            let is_dialable = |it: &NodeId| is_other(it) && !self.links.contains_key(it);
            let first = usize::try_from(below(&mut self.rng, roster.len() as u64)).unwrap_or(0);
            let stale = self
                .session
                .flip()
                .then(|| roster.stalest(before, first, is_dialable))
                .flatten();
            stale.or_else(|| {
                let places = (0..PICKS).map(|_| below(&mut self.rng, roster.len() as u64));
                let mut nodes = places.filter_map(|at| roster.at(usize::try_from(at).ok()?));
                nodes.find(is_other)
            })
        };
        let Some(target) = target else { return };
        let is_doubtful = matches!(self.live.opinion(&target), Opinion::Suspect | Opinion::Down);
        if !is_doubtful && !is_lonely {
            // All seems well: look whether it knows what we know, and disturb nobody's views.
            if !self.links.contains_key(&target) && self.session.want(target, None, true, now) {
                self.visits.insert(target);
            }
            return;
        }
        self.rejoin_with(target, now);
    }

    fn rejoin_with(&mut self, node: NodeId, now: Mono) {
        if !self.links.contains_key(&node) {
            self.session.want(node, None, true, now);
        }
        self.gossip.join(node, true, now);
    }

    fn next_due(&self) -> Option<Deadline> {
        let mut due: Option<Deadline> = None;
        let mut add = |at: Option<Mono>, why: &'static str| {
            if let Some(at) = at
                && due.is_none_or(|it| at < it.at)
            {
                due = Some(Deadline { at, why });
            }
        };
        add(self.sync.deadline(&self.config), "compare or send");
        if self.is_stopping {
            return due;
        }
        if self.live.roster.len() > 0 {
            add(self.gossip.deadline(), "overlay timer");
            add(Some(self.session.rejoin_at()), "re-join");
            add(self.view_at, "ask for opinions");
        }
        add(self.live.deadline(), "ping or suspicion");
        add(self.doubt_at, "doubt the blocked");
        if self.is_small() {
            add(self.lacking().map(|(_, at)| at).min(), "dial");
        } else {
            add(self.gossip.ask_at(), "ask for a neighbour");
        }
        if self.minded.is_none() {
            let unneeded = self.links.values().filter(|it| !it.is_needed);
            add(
                unneeded
                    .map(|it| it.needed_until.plus_ms(self.config.linger_ms))
                    .min(),
                "close idle link",
            );
        }
        due
    }
}

const _: () = assert!(CONTENT_BYTES_MAX > PUSH_BYTES_MAX);

#[cfg(test)]
mod tests;
