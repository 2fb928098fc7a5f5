//! Who seems alive: pings over existing links, suspicions that others confirm and the suspect refutes.
//!
//! A link on which nothing was heard for a while is pinged by whichever end notices first. Two missed pings are
//! a suspicion, which is pushed to everyone with the newest beacon known of the suspect. Other watchers then
//! ping it at once; each that fails too confirms, which shortens the wait. A newer beacon refutes. At the end
//! of the wait the node is down, in our opinion.
//!
//! Local health (Lifeguard) stretches our time-outs while our own pings fail, while others suspect us, and
//! while our timers fire late. A machine that was paused forgets what it missed and accuses nobody on waking.

use std::collections::{BTreeMap, BTreeSet};

use lab_crdt_model::view::Liveness as Opinion;
use lab_crdt_model::{Mono, NodeId};
use rand_chacha::ChaCha12Rng;

use crate::backoff::jitter;
use crate::config::Config;
use crate::message::v1::Content;

/// Worst local health: time-outs are nine times as long.
const HEALTH_MAX: u64 = 8;
/// A failed dial is no ground for suspicion if the node was heard this lately, milliseconds.
const DIAL_DOUBT_MS: u64 = 5_000;
/// How long after a pause failed dials are no ground for suspicion, milliseconds.
const PAUSE_DOUBT_MS: u64 = 10_000;
/// We refute at most this often, milliseconds.
const REFUTE_MS: u64 = 300;
/// Confirmations that are told apart; further ones change nothing.
const CONFIRMERS_MAX: usize = 3;
/// A witness who heard the node this lately does not believe a suspicion, milliseconds.
const WITNESS_MS: u64 = 300;

/// What liveness asks for.
#[derive(Debug)]
pub(crate) enum LiveOut {
    /// Send a ping.
    Ping { to: NodeId, seq: u32 },
    /// Push this to everyone.
    Push(Content),
    /// An opinion changed.
    Changed { node: NodeId, opinion: Opinion },
    /// Someone suspects us.
    Refute,
}

#[derive(Debug)]
struct Peer {
    opinion: Opinion,
    since: Mono,
    heard: Option<Mono>,
    counter: u64,
    rtt_us: Option<u64>,
}

#[derive(Debug)]
struct Watch {
    heard: Mono,
    next: Mono,
    ping: Option<Ping>,
}

#[derive(Clone, Copy, Debug)]
struct Ping {
    seq: u32,
    sent: Mono,
    deadline: Mono,
    is_second: bool,
}

#[derive(Debug)]
struct Suspicion {
    started: Mono,
    deadline: Mono,
    confirmers: BTreeSet<NodeId>,
}

#[derive(Debug)]
pub(crate) struct Liveness {
    me: NodeId,
    peers: BTreeMap<NodeId, Peer>,
    watches: BTreeMap<NodeId, Watch>,
    suspicions: BTreeMap<NodeId, Suspicion>,
    health: u64,
    seq: u32,
    push_seq: u64,
    refuted: Option<Mono>,
    paused: Option<Mono>,
    rng: ChaCha12Rng,
    out: Vec<LiveOut>,
}

impl Liveness {
    pub(crate) fn new(me: NodeId, rng: ChaCha12Rng, push_seq: u64) -> Self {
        Self {
            me,
            peers: BTreeMap::new(),
            watches: BTreeMap::new(),
            suspicions: BTreeMap::new(),
            health: 0,
            seq: 0,
            push_seq,
            refuted: None,
            paused: None,
            rng,
            out: Vec::new(),
        }
    }

    pub(crate) fn take(&mut self) -> Vec<LiveOut> {
        std::mem::take(&mut self.out)
    }

    /// Local health: 0 is good, 8 is worst.
    pub(crate) const fn health(&self) -> u64 {
        self.health
    }

    pub(crate) fn add(&mut self, node: NodeId, now: Mono) {
        self.peers.entry(node).or_insert(Peer {
            opinion: Opinion::Unknown,
            since: now,
            heard: None,
            counter: 0,
            rtt_us: None,
        });
    }

    pub(crate) fn remove(&mut self, node: &NodeId) {
        self.peers.remove(node);
        self.watches.remove(node);
        self.suspicions.remove(node);
    }

    pub(crate) fn opinion(&self, node: &NodeId) -> Opinion {
        self.peers
            .get(node)
            .map_or(Opinion::Unknown, |peer| peer.opinion)
    }

    /// Opinion, since when, last heard, round trip in microseconds.
    pub(crate) fn facts(
        &self,
        node: &NodeId,
    ) -> Option<(Opinion, Mono, Option<Mono>, Option<u64>)> {
        self.peers
            .get(node)
            .map(|peer| (peer.opinion, peer.since, peer.heard, peer.rtt_us))
    }

    /// Last heard by any means.
    pub(crate) fn heard_at(&self, node: &NodeId) -> Option<Mono> {
        self.peers.get(node).and_then(|peer| peer.heard)
    }

    /// Nodes believed down and their newest known beacons.
    pub(crate) fn down(&self) -> impl Iterator<Item = (NodeId, u64)> {
        let is_down = |peer: &&Peer| peer.opinion == Opinion::Down;
        self.peers
            .iter()
            .filter(move |(_, peer)| is_down(peer))
            .map(|(n, p)| (*n, p.counter))
    }

    pub(crate) fn link_up(&mut self, node: NodeId, config: &Config, now: Mono) {
        let next = now.plus_ms(jitter(&mut self.rng, config.ping_ms, 10));
        self.watches.insert(
            node,
            Watch {
                heard: now,
                next,
                ping: None,
            },
        );
        self.hear(node, now);
    }

    pub(crate) fn link_down(&mut self, node: &NodeId) {
        self.watches.remove(node);
    }

    /// Anything arrived from a linked peer.
    pub(crate) fn frame(&mut self, node: NodeId, config: &Config, now: Mono) {
        let Some(watch) = self.watches.get_mut(&node) else {
            return;
        };
        watch.heard = now;
        watch.next = now.plus_ms(jitter(&mut self.rng, config.ping_ms, 10));
        if watch.ping.take_if(|ping| ping.is_second).is_some() {
            self.health = (self.health + 1).min(HEALTH_MAX);
        }
        self.hear(node, now);
    }

    pub(crate) fn pong(&mut self, node: NodeId, seq: u32, now: Mono) {
        let Some(watch) = self.watches.get_mut(&node) else {
            return;
        };
        if let Some(ping) = watch.ping.take_if(|ping| ping.seq == seq) {
            let us = now.0.saturating_sub(ping.sent.0) / 1000;
            if let Some(peer) = self.peers.get_mut(&node) {
                peer.rtt_us = Some(us);
            }
            self.health = self.health.saturating_sub(1);
        }
    }

    /// A beacon of `node` that is newer than any before, as far as the replica knows.
    pub(crate) fn beacon(&mut self, node: NodeId, counter: u64, now: Mono) {
        if let Some(peer) = self.peers.get_mut(&node)
            && counter > peer.counter
        {
            peer.counter = counter;
            self.hear(node, now);
        }
    }

    fn hear(&mut self, node: NodeId, now: Mono) {
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        peer.heard = Some(now);
        self.suspicions.remove(&node);
        self.change(node, Opinion::Alive, now);
    }

    fn change(&mut self, node: NodeId, opinion: Opinion, now: Mono) {
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        if peer.opinion != opinion {
            peer.opinion = opinion;
            peer.since = now;
            self.out.push(LiveOut::Changed { node, opinion });
        }
    }

    /// Our own evidence against `node`.
    fn suspect(&mut self, node: NodeId, config: &Config, now: Mono) {
        let Some(peer) = self.peers.get(&node) else {
            return;
        };
        let counter = peer.counter;
        if peer.opinion == Opinion::Down {
            return;
        }
        if self.doubt(node, self.me, config, now) {
            self.push_seq += 1;
            let (by, seq) = (self.me, self.push_seq);
            self.out.push(LiveOut::Push(Content::Suspect {
                node,
                counter,
                by,
                seq,
            }));
        }
    }

    /// Notes that `by` suspects `node`; whether that is news.
    fn doubt(&mut self, node: NodeId, by: NodeId, config: &Config, now: Mono) -> bool {
        let suspicion = self.suspicions.entry(node).or_insert_with(|| Suspicion {
            started: now,
            deadline: now,
            confirmers: BTreeSet::new(),
        });
        if suspicion.confirmers.len() >= CONFIRMERS_MAX && by != self.me {
            return false;
        }
        if !suspicion.confirmers.insert(by) {
            return false;
        }
        let (min, max) = (
            config.suspicion_min_ms,
            config.suspicion_max_ms.max(config.suspicion_min_ms),
        );
        let wait = match suspicion.confirmers.len() {
            0 | 1 => max,
            2 => min + (max - min) / 3,
            _ => min,
        };
        // Those who only heard of it leave the verdict to a watcher, unless that one falls silent too.
        let slack = if suspicion.confirmers.contains(&self.me) {
            0
        } else {
            min
        };
        suspicion.deadline = suspicion
            .started
            .plus_ms((wait + slack) * (1 + self.health / 2));
        self.change(node, Opinion::Suspect, now);
        true
    }

    /// A pushed suspicion or verdict of someone else.
    pub(crate) fn told(&mut self, content: &Content, config: &Config, now: Mono) {
        let (&Content::Suspect {
            node, counter, by, ..
        }
        | &Content::Down {
            node, counter, by, ..
        }) = content
        else {
            return;
        };
        if node == self.me {
            self.health = (self.health + 1).min(HEALTH_MAX);
            self.refute(now);
            return;
        }
        let Some(peer) = self.peers.get(&node) else {
            return;
        };
        if by == self.me || counter < peer.counter || peer.opinion == Opinion::Down {
            return;
        }
        if let Some(watch) = self.watches.get_mut(&node) {
            // We can see for ourselves.
            if now.ms_since(watch.heard) < WITNESS_MS {
                return;
            }
            if watch.ping.is_none() {
                watch.next = now;
            }
            self.doubt(node, by, config, now);
            return;
        }
        let is_verdict = matches!(content, Content::Down { .. });
        let long_enough = config.suspicion_min_ms / 2;
        match self.suspicions.get(&node) {
            Some(it) if is_verdict && now.ms_since(it.started) >= long_enough => {
                self.suspicions.remove(&node);
                self.change(node, Opinion::Down, now);
            }
            _ => {
                self.doubt(node, by, config, now);
                if is_verdict && let Some(it) = self.suspicions.get_mut(&node) {
                    it.deadline = it.deadline.min(now.plus_ms(config.suspicion_min_ms));
                }
            }
        }
    }

    fn refute(&mut self, now: Mono) {
        if self.refuted.is_none_or(|at| now.ms_since(at) >= REFUTE_MS) {
            self.refuted = Some(now);
            self.out.push(LiveOut::Refute);
        }
    }

    /// A greeting named `node` as down. Believed only about nodes of which we know nothing.
    pub(crate) fn hearsay(&mut self, node: NodeId, counter: u64, now: Mono) {
        if node == self.me {
            self.refute(now);
            return;
        }
        let Some(peer) = self.peers.get(&node) else {
            return;
        };
        if peer.opinion == Opinion::Unknown && peer.heard.is_none() && counter >= peer.counter {
            self.change(node, Opinion::Down, now);
        }
    }

    /// The peer said that it stops: nothing to wait for but its return.
    pub(crate) fn goodbye(&mut self, node: NodeId, config: &Config, now: Mono) {
        self.watches.remove(&node);
        self.suspect(node, config, now);
        if let Some(it) = self.suspicions.get_mut(&node) {
            it.deadline = it.deadline.min(now.plus_ms(config.suspicion_min_ms / 2));
        }
    }

    /// A dial failed.
    pub(crate) fn dial_failed(&mut self, node: NodeId, config: &Config, now: Mono) {
        let Some(peer) = self.peers.get(&node) else {
            return;
        };
        if self
            .paused
            .is_some_and(|at| now.ms_since(at) < PAUSE_DOUBT_MS)
        {
            return;
        }
        match peer.opinion {
            // Nobody has heard of it since we started: no news for the others.
            Opinion::Unknown => self.change(node, Opinion::Down, now),
            Opinion::Alive
                if peer
                    .heard
                    .is_none_or(|at| now.ms_since(at) >= DIAL_DOUBT_MS) =>
            {
                self.suspect(node, config, now);
            }
            Opinion::Alive | Opinion::Suspect | Opinion::Down => {}
        }
    }

    /// Timers were late by `gap_ms`: we were paused or starved, and what we missed proves nothing.
    pub(crate) fn late(&mut self, gap_ms: u64, config: &Config, now: Mono) {
        self.health = (self.health + 1).min(HEALTH_MAX);
        self.paused = Some(now);
        for watch in self.watches.values_mut() {
            watch.ping = None;
            watch.next = now.plus_ms(jitter(&mut self.rng, config.ping_ms / 2, 90));
        }
        for suspicion in self.suspicions.values_mut() {
            suspicion.started = suspicion.started.plus_ms(gap_ms);
            suspicion.deadline = suspicion
                .deadline
                .plus_ms(gap_ms)
                .max(now.plus_ms(config.suspicion_min_ms));
        }
    }

    pub(crate) fn deadline(&self) -> Option<Mono> {
        let pings = self
            .watches
            .values()
            .map(|it| it.ping.map_or(it.next, |ping| ping.deadline));
        pings
            .chain(self.suspicions.values().map(|it| it.deadline))
            .min()
    }

    pub(crate) fn wake(&mut self, config: &Config, now: Mono) {
        let due: Vec<NodeId> = self
            .watches
            .iter()
            .filter(|(_, it)| it.ping.map_or(it.next, |ping| ping.deadline) <= now)
            .map(|(node, _)| *node)
            .collect();
        for node in due {
            self.ping(node, config, now);
        }
        let due: Vec<NodeId> = self
            .suspicions
            .iter()
            .filter(|(_, it)| it.deadline <= now)
            .map(|(node, _)| *node)
            .collect();
        for node in due {
            let Some(suspicion) = self.suspicions.remove(&node) else {
                continue;
            };
            self.change(node, Opinion::Down, now);
            if suspicion.confirmers.contains(&self.me) {
                let counter = self.peers.get(&node).map_or(0, |peer| peer.counter);
                self.push_seq += 1;
                let (by, seq) = (self.me, self.push_seq);
                self.out.push(LiveOut::Push(Content::Down {
                    node,
                    counter,
                    by,
                    seq,
                }));
            }
        }
    }

    fn ping(&mut self, node: NodeId, config: &Config, now: Mono) {
        let rtt_ms = self
            .peers
            .get(&node)
            .and_then(|peer| peer.rtt_us)
            .unwrap_or(0)
            / 1000;
        let wait = config.ping_timeout_ms.max(4 * rtt_ms) * (1 + self.health);
        let Some(watch) = self.watches.get_mut(&node) else {
            return;
        };
        let is_second = match watch.ping {
            None => false,
            Some(first) if !first.is_second => true,
            Some(_) => {
                watch.ping = None;
                watch.next = now.plus_ms(jitter(&mut self.rng, config.ping_ms, 10));
                // One silent peer says something about the peer; most of them, about us.
                let fresh = |it: &&Watch| now.ms_since(it.heard) < 2 * config.ping_ms;
                if self.watches.values().filter(fresh).count() * 2 < self.watches.len() {
                    self.health = (self.health + 1).min(HEALTH_MAX);
                }
                self.suspect(node, config, now);
                return;
            }
        };
        self.seq = self.seq.wrapping_add(1);
        let wait = if is_second { wait / 2 } else { wait };
        watch.ping = Some(Ping {
            seq: self.seq,
            sent: now,
            deadline: now.plus_ms(wait),
            is_second,
        });
        self.out.push(LiveOut::Ping {
            to: node,
            seq: self.seq,
        });
    }
}
