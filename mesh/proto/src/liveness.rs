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
use lab_crdt_model::{Mono, NodeId, mutant, reached, sometimes};
use rand_chacha::ChaCha12Rng;

use crate::backoff::{below, jitter};
use crate::config::Config;
use crate::message::v1::Content;
use crate::roster::Roster;

/// Worst local health: time-outs are nine times as long.
const HEALTH_MAX: u64 = 8;
/// A failed dial is no ground for suspicion if the node was heard this lately, milliseconds.
const DIAL_DOUBT_MS: u64 = 5_000;
/// How long after the start failed dials of those we never heard of say nothing: all may be starting, milliseconds.
const START_DOUBT_MS: u64 = 30_000;
/// How long after a pause failed dials are no ground for suspicion, milliseconds.
const PAUSE_DOUBT_MS: u64 = 10_000;
/// After a longer pause nothing that was heard before it says who lives now, milliseconds: peers gave our links up,
/// and with them what they had to tell.
const PAUSE_FORGET_MS: u64 = 10_000;
/// We refute at most this often, milliseconds.
const REFUTE_MS: u64 = 300;
/// Confirmations that are told apart; further ones change nothing.
const CONFIRMERS_MAX: usize = 3;
/// Places for wishes that are kept while there are none.
const OUT_KEPT: usize = 16;
/// Watchers pronounce their verdicts within this time, milliseconds.
const VERDICT_MS: u64 = 400;
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
    /// So many of whom nothing was known are alive, says a peer.
    Learned { alive_count: usize },
    /// Someone suspects us.
    Refute,
}

#[derive(Debug)]
struct Watch {
    heard: Mono,
    next: Mono,
    ping: Option<Ping>,
    rtt_us: Option<u64>,
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
    pub(crate) roster: Roster,
    watches: BTreeMap<NodeId, Watch>,
    suspicions: BTreeMap<NodeId, Suspicion>,
    health: u64,
    seq: u32,
    push_seq: u64,
    started: Mono,
    refuted: Option<Mono>,
    paused: Option<Mono>,
    /// Whether the last pause was so long that we missed what peers told.
    is_pause_long: bool,
    rng: ChaCha12Rng,
    out: Vec<LiveOut>,
}

impl Liveness {
    pub(crate) fn new(me: NodeId, rng: ChaCha12Rng, push_seq: u64, now: Mono) -> Self {
        Self {
            me,
            roster: Roster::new(me),
            watches: BTreeMap::new(),
            suspicions: BTreeMap::new(),
            health: 0,
            seq: 0,
            push_seq,
            started: now,
            refuted: None,
            paused: None,
            is_pause_long: false,
            rng,
            out: Vec::new(),
        }
    }

    /// Moves what was asked for since the last call to `out`.
    pub(crate) fn take(&mut self, out: &mut Vec<LiveOut>) {
        out.append(&mut self.out);
        self.out.shrink_to(OUT_KEPT);
    }

    /// Local health: 0 is good, 8 is worst.
    pub(crate) const fn health(&self) -> u64 {
        self.health
    }

    /// No longer a member.
    pub(crate) fn remove(&mut self, node: &NodeId) {
        self.watches.remove(node);
        self.suspicions.remove(node);
    }

    pub(crate) fn opinion(&self, node: &NodeId) -> Opinion {
        self.roster.opinion(node)
    }

    /// When a peer was last heard: to the nanosecond on a link, else roughly.
    pub(crate) fn heard(&self, node: &NodeId) -> Option<Mono> {
        let watch = self.watches.get(node).map(|it| it.heard);
        watch.or_else(|| self.roster.heard(node))
    }

    /// Round trip on the link to `node`, microseconds.
    pub(crate) fn rtt_us(&self, node: &NodeId) -> Option<u64> {
        self.watches.get(node)?.rtt_us
    }

    pub(crate) fn link_up(&mut self, node: NodeId, config: &Config, now: Mono) {
        let next = now.plus_ms(jitter(&mut self.rng, config.ping_ms, 10));
        self.watches.insert(
            node,
            Watch {
                heard: now,
                next,
                ping: None,
                rtt_us: None,
            },
        );
        self.hear(node, now);
    }

    /// Whether we know nothing of the peer any more: a link that a pause outlived may have ended at any time in it.
    pub(crate) fn link_down(&mut self, node: &NodeId, now: Mono) -> bool {
        let Some(watch) = self.watches.remove(node) else {
            return false;
        };
        if self.is_forgetful(now) && self.opinion(node) == Opinion::Alive {
            self.forget(*node, now);
            return true;
        }
        // While a link was up, only the link was told when its peer was heard.
        self.roster.hear(node, watch.heard);
        false
    }

    /// Anything arrived from a linked peer.
    pub(crate) fn frame(&mut self, node: NodeId, config: &Config, now: Mono) {
        let Some(watch) = self.watches.get_mut(&node) else {
            return;
        };
        watch.heard = now;
        watch.next = now.plus_ms(jitter(&mut self.rng, config.ping_ms, 10));
        if watch.ping.take_if(|ping| ping.is_second).is_some() {
            reached!("a second ping was answered");
            self.health = (self.health + 1).min(HEALTH_MAX);
        }
        // Who has a link is alive or suspected; when it was heard is known by the link.
        if self.suspicions.contains_key(&node) {
            self.hear(node, now);
        }
    }

    pub(crate) fn pong(&mut self, node: NodeId, seq: u32, now: Mono) {
        let Some(watch) = self.watches.get_mut(&node) else {
            return;
        };
        if let Some(ping) = watch.ping.take_if(|ping| ping.seq == seq) {
            let us = now.0.saturating_sub(ping.sent.0) / 1000;
            watch.rtt_us = Some(us);
            self.health = self.health.saturating_sub(1);
        }
    }

    /// A beacon of `node` that is newer than any before, as far as the replica knows. One that was pushed says that
    /// it lives. One that was pulled, or waited for us while we were paused, may be older than its silence: of one
    /// held for down it says that it lived for longer than we know. Whether we know nothing of it now.
    pub(crate) fn beacon(
        &mut self,
        node: NodeId,
        counter: u64,
        is_pulled: bool,
        now: Mono,
    ) -> bool {
        if self.roster.counter(&node).is_none_or(|it| counter <= it) {
            return false;
        }
        self.roster.set_counter(&node, counter);
        let opinion = self.opinion(&node);
        let is_doubtful = matches!(opinion, Opinion::Unknown | Opinion::Down);
        if !(is_doubtful && (is_pulled || self.is_forgetful(now))) {
            self.hear(node, now);
            return false;
        }
        sometimes!(
            opinion == Opinion::Down,
            "an old beacon came of one who was held for dead"
        );
        self.forget(node, now);
        true
    }

    fn forget(&mut self, node: NodeId, now: Mono) {
        self.roster.forget_heard(&node);
        self.change(node, Opinion::Unknown, now);
    }

    fn is_forgetful(&self, now: Mono) -> bool {
        let is_lately = |at| now.ms_since(at) < PAUSE_DOUBT_MS;
        self.is_pause_long && self.paused.is_some_and(is_lately)
    }

    fn hear(&mut self, node: NodeId, now: Mono) {
        self.roster.hear(&node, now);
        let was_suspected = self.suspicions.remove(&node).is_some();
        sometimes!(was_suspected, "a suspicion was refuted");
        self.change(node, Opinion::Alive, now);
    }

    fn change(&mut self, node: NodeId, opinion: Opinion, now: Mono) {
        if self.roster.set(&node, opinion, now) {
            self.out.push(LiveOut::Changed { node, opinion });
        }
    }

    /// Our own evidence against `node`.
    fn suspect(&mut self, node: NodeId, config: &Config, now: Mono) {
        if mutant!("M51") {
            return;
        }
        let Some(counter) = self.roster.counter(&node) else {
            return;
        };
        if self.opinion(&node) == Opinion::Down {
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
        let is_settled = suspicion.confirmers.len() >= CONFIRMERS_MAX;
        if !suspicion.confirmers.insert(by) {
            return false;
        }
        if is_settled {
            // Enough have said so; whoever watches too only notes that it agrees.
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
        // Watchers do not speak at once either: mostly the first one's verdict spares the others theirs.
        let slack = if suspicion.confirmers.contains(&self.me) {
            below(&mut self.rng, VERDICT_MS)
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
            reached!("this node heard that others suspect it");
            self.health = (self.health + 1).min(HEALTH_MAX);
            self.refute(now);
            return;
        }
        let Some(known) = self.roster.counter(&node) else {
            return;
        };
        if by == self.me || counter < known || self.opinion(&node) == Opinion::Down {
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
            let is_ours = |it: &Suspicion| it.confirmers.contains(&self.me);
            if matches!(content, Content::Down { .. })
                && self.suspicions.get(&node).is_some_and(is_ours)
            {
                self.suspicions.remove(&node);
                self.change(node, Opinion::Down, now);
            } else {
                self.doubt(node, by, config, now);
            }
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
        let is_unheard = self.roster.heard(&node).is_none();
        let known = self.roster.counter(&node);
        if is_unheard
            && self.opinion(&node) == Opinion::Unknown
            && known.is_some_and(|it| counter >= it)
        {
            self.change(node, Opinion::Down, now);
        }
    }

    /// What a peer thinks of all members. Believed only about those of whom we know nothing.
    pub(crate) fn view(&mut self, alive: &[u8], down: &[u8], now: Mono) {
        let (alive_count, downs) = self.roster.learn(alive, down, now);
        if alive_count > 0 {
            self.out.push(LiveOut::Learned { alive_count });
        }
        for node in downs {
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

    /// A dial that began at `began` failed.
    pub(crate) fn dial_failed(&mut self, node: NodeId, began: Mono, config: &Config, now: Mono) {
        if self
            .paused
            .is_some_and(|at| now.ms_since(at) < PAUSE_DOUBT_MS)
        {
            return;
        }
        let is_start = now.ms_since(self.started) < START_DOUBT_MS;
        match self.opinion(&node) {
            Opinion::Unknown if is_start && self.roster.len() >= config.full_mesh_max => {
                reached!("a dial failed while all may be starting");
            }
            // Nobody has heard of it since we started: no news for the others.
            Opinion::Unknown => self.change(node, Opinion::Down, now),
            Opinion::Alive => {
                // What was learned while the dial was under way is newer than what the dial says.
                let seen = self.heard(&node).max(self.roster.since(&node));
                let is_newer = seen.is_some_and(|at| at > began);
                sometimes!(is_newer, "a dial failed to one who came up meanwhile");
                if !is_newer && seen.is_none_or(|at| now.ms_since(at) >= DIAL_DOUBT_MS) {
                    self.suspect(node, config, now);
                }
            }
            Opinion::Suspect | Opinion::Down => {}
        }
    }

    /// Timers were late by `gap_ms`: we were paused or starved, and what we missed proves nothing.
    /// Whether there is anyone now of whom we know nothing.
    pub(crate) fn late(&mut self, gap_ms: u64, config: &Config, now: Mono) -> bool {
        self.health = (self.health + 1).min(HEALTH_MAX);
        self.is_pause_long = gap_ms >= PAUSE_FORGET_MS || self.is_forgetful(now);
        self.paused = Some(now);
        if gap_ms >= PAUSE_FORGET_MS {
            let is_lost = |it: &&NodeId| {
                self.opinion(it) == Opinion::Alive && !self.watches.contains_key(*it)
            };
            let lost: Vec<NodeId> = self.roster.nodes().filter(is_lost).copied().collect();
            sometimes!(
                !lost.is_empty(),
                "a long pause left members of whom nothing is known"
            );
            for node in lost {
                self.forget(node, now);
            }
        }
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
        self.roster.count(Opinion::Unknown) > 0
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
            reached!("a suspicion became a verdict");
            self.change(node, Opinion::Down, now);
            if suspicion.confirmers.contains(&self.me) {
                let counter = self.roster.counter(&node).unwrap_or(0);
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
        let Some(watch) = self.watches.get_mut(&node) else {
            return;
        };
        let rtt_ms = watch.rtt_us.unwrap_or(0) / 1000;
        let wait = config.ping_timeout_ms.max(6 * rtt_ms) * (1 + self.health);
        let wait = if mutant!("M24") { 1 } else { wait };
        let is_second = match watch.ping {
            None => false,
            Some(first) if !first.is_second => true,
            Some(_) => {
                watch.ping = None;
                watch.next = now.plus_ms(jitter(&mut self.rng, config.ping_ms, 10));
                // One silent peer says something about the peer; most of them, about us.
                let fresh = |it: &&Watch| now.ms_since(it.heard) < 2 * config.ping_ms;
                if self.watches.values().filter(fresh).count() * 2 < self.watches.len() {
                    reached!("most peers are silent at once");
                    self.health = (self.health + 1).min(HEALTH_MAX);
                }
                reached!("a peer answered neither of two pings");
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
