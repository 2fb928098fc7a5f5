//! The pull: comparing digests over every link and starting exchanges where they differ.
//!
//! Digests travel with greetings, pings, pongs and announcements. Unequal ones start a grace period in which
//! push usually makes them equal; then the replica is told to open an exchange, whose messages are opaque here.
//! Equality is recorded only when equal digests were seen: ours now, or ours of the last seconds, since a peer
//! that says what we held a moment ago lacks nothing that push will not bring.
//!
//! Bounds: exchanges opened and answered at once, bytes waiting and bytes per second on each link. What does
//! not fit is dropped and asked for again by the next pull.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use lab_crdt_model::{Mono, NodeId, mutant, reached};
use rand_chacha::ChaCha12Rng;

use crate::backoff::{Bucket, below, jitter};
use crate::config::Config;
use crate::frame::{BODY_BYTES_MAX, HEADER_BYTES};
use crate::message::v1::{Announce, Digests, Message};

/// Own digests remembered.
const HISTORY_MAX: usize = 64;
/// How long an own digest counts as "a moment ago", milliseconds.
const HISTORY_MS: u64 = 5_000;
/// Announcements wait this long for more changes, milliseconds.
const ANNOUNCE_MS: u64 = 20;
/// Changes this soon after a message of an exchange count as pulled, milliseconds.
const PULLED_MS: u64 = 500;
/// Changes this soon after a hint are what the hint was about, milliseconds.
const HINTED_MS: u64 = 2_000;
/// Pulled registers are announced at most this often, milliseconds. Pings tell them too.
const REGISTERS_MS: u64 = 1_000;
/// Exchanges with one peer start at most this often, milliseconds.
const OPEN_MS: u64 = 100;
/// Grace when there is nothing to wait for, milliseconds.
const PROMPT_MS: u64 = 4;

/// What anti-entropy asks for.
#[derive(Debug)]
pub(crate) enum SyncOut {
    /// The replica should start an exchange.
    Open(NodeId),
    /// A frame for the bulk lane.
    Bulk { to: NodeId, frame: Bytes },
    /// A frame for the control lane.
    Control { to: NodeId, frame: Bytes },
    /// A live peer has been unequal for too long.
    Diverged {
        peer: NodeId,
        ours: Digests,
        theirs: Digests,
    },
}

#[derive(Debug)]
struct Link {
    /// Newest digests that the peer told, on this link.
    theirs: Option<Digests>,
    /// Newest of ours that we told the peer, on this link.
    told: Option<Digests>,
    /// When equal digests were last seen; when the link came up, before that.
    equal_at: Mono,
    /// When to pull; `None` while there is no reason to.
    due: Option<Mono>,
    /// The peer has what we lack and nobody will push it.
    is_prompt: bool,
    /// Exchanges opened in a row without becoming equal.
    tries: u32,
    /// Last message of an exchange in either direction.
    active: Option<Mono>,
    /// We opened the exchange.
    is_ours: bool,
    opened: Option<Mono>,
    is_reported: bool,
    queue: VecDeque<Bytes>,
    queued_bytes: usize,
    bucket: Bucket,
}

impl Link {
    fn is_active(&self, config: &Config, now: Mono) -> bool {
        self.active
            .is_some_and(|at| now.ms_since(at) < config.pull_idle_ms)
    }

    fn is_busy(&self, config: &Config, now: Mono) -> bool {
        self.due.is_some() || self.is_active(config, now) || !self.queue.is_empty()
    }
}

#[derive(Debug)]
pub(crate) struct AntiEntropy {
    ours: Digests,
    is_known: bool,
    history: VecDeque<(Digests, Mono)>,
    links: BTreeMap<NodeId, Link>,
    /// No link pulls, is about to, or has anything waiting: mostly so, and then nobody looks at each.
    is_quiet: bool,
    announce: Option<Mono>,
    announce_is_pull: bool,
    announced: Option<Mono>,
    pulled_at: Option<Mono>,
    hinted_at: Option<Mono>,
    dropped_count: u64,
    rng: ChaCha12Rng,
    out: Vec<SyncOut>,
}

impl AntiEntropy {
    pub(crate) const fn new(rng: ChaCha12Rng) -> Self {
        Self {
            ours: Digests {
                statements: [0; 32],
                registers: [0; 32],
            },
            is_known: false,
            history: VecDeque::new(),
            links: BTreeMap::new(),
            is_quiet: true,
            announce: None,
            announce_is_pull: false,
            announced: None,
            pulled_at: None,
            hinted_at: None,
            dropped_count: 0,
            rng,
            out: Vec::new(),
        }
    }

    pub(crate) fn take(&mut self) -> Vec<SyncOut> {
        std::mem::take(&mut self.out)
    }

    pub(crate) const fn ours(&self) -> Digests {
        self.ours
    }

    /// Messages of exchanges dropped at a limit.
    pub(crate) const fn dropped_count(&self) -> u64 {
        self.dropped_count
    }

    /// Whether the peer's newest digest of statements equals ours.
    pub(crate) fn is_equal(&self, peer: &NodeId) -> Option<bool> {
        let link = self.links.get(peer)?;
        let theirs = link.theirs?;
        if mutant!("M31") && link.opened.is_some() {
            return Some(true);
        }
        Some(theirs.statements == self.ours.statements)
    }

    /// Whether the link is used by an exchange or is about to be.
    pub(crate) fn is_busy(&self, peer: &NodeId, config: &Config, now: Mono) -> bool {
        !self.is_quiet
            && self
                .links
                .get(peer)
                .is_some_and(|it| it.is_busy(config, now))
    }

    /// Whether no link is busy, for all that is known without a look at each.
    pub(crate) const fn is_quiet(&self) -> bool {
        self.is_quiet
    }

    pub(crate) fn link_up(&mut self, peer: NodeId, config: &Config, now: Mono) {
        self.links.insert(
            peer,
            Link {
                theirs: None,
                told: None,
                equal_at: now,
                due: None,
                is_prompt: false,
                tries: 0,
                active: None,
                is_ours: false,
                opened: None,
                is_reported: false,
                queue: VecDeque::new(),
                queued_bytes: 0,
                bucket: Bucket::new(config.link_burst_bytes, now),
            },
        );
    }

    pub(crate) fn link_down(&mut self, peer: &NodeId) {
        self.links.remove(peer);
    }

    /// Our digests changed.
    pub(crate) fn changed(&mut self, ours: Digests, now: Mono) {
        if ours == self.ours && self.is_known {
            return;
        }
        let is_pulled = self
            .pulled_at
            .is_some_and(|at| now.ms_since(at) < PULLED_MS);
        let is_hinted = self
            .hinted_at
            .is_some_and(|at| now.ms_since(at) < HINTED_MS);
        if self.is_known && (is_hinted || ours.statements != self.ours.statements) {
            self.announce(is_pulled || is_hinted, now);
        } else if self.is_known
            && is_pulled
            && self
                .announced
                .is_none_or(|at| now.ms_since(at) >= REGISTERS_MS)
        {
            self.announce(false, now);
        }
        self.ours = ours;
        self.is_known = true;
        self.history.push_front((ours, now));
        self.history.truncate(HISTORY_MAX);
        for link in self.links.values_mut() {
            if link.theirs == Some(ours) {
                settle(link, now);
            }
        }
    }

    /// Something new of ours will not be pushed whole.
    pub(crate) fn hint(&mut self, now: Mono) {
        self.hinted_at = Some(now);
        self.announce(true, now);
    }

    fn announce(&mut self, is_pull: bool, now: Mono) {
        self.announce_is_pull |= is_pull;
        self.announce.get_or_insert(now.plus_ms(ANNOUNCE_MS));
    }

    /// Our digests if the peer has not been told them on this link; counts as telling them.
    pub(crate) fn tell(&mut self, peer: &NodeId) -> Option<Digests> {
        let link = self.links.get_mut(peer)?;
        let is_news = link.told.replace(self.ours) != Some(self.ours);
        is_news.then_some(self.ours)
    }

    /// A ping or pong came, with digests if they are news.
    pub(crate) fn told_by_ping(
        &mut self,
        peer: NodeId,
        theirs: Option<Digests>,
        config: &Config,
        now: Mono,
    ) {
        let former = self.links.get(&peer).and_then(|it| it.theirs);
        if let Some(theirs) = theirs.or(former) {
            self.told(peer, theirs, false, config, now);
        }
    }

    /// The peer told its digests.
    pub(crate) fn told(
        &mut self,
        peer: NodeId,
        theirs: Digests,
        is_prompt: bool,
        config: &Config,
        now: Mono,
    ) {
        let is_recent = self.history.iter().any(|(digests, at)| {
            *digests == theirs && (*digests == self.ours || now.ms_since(*at) < HISTORY_MS)
        });
        let Some(link) = self.links.get_mut(&peer) else {
            return;
        };
        let is_news = link.theirs != Some(theirs);
        link.theirs = Some(theirs);
        if (theirs == self.ours || is_recent) && !mutant!("M55") {
            settle(link, now);
            return;
        }
        if is_news && link.tries > 0 {
            link.tries = 1;
        }
        let ms = if is_prompt {
            below(&mut self.rng, PROMPT_MS)
        } else {
            jitter(&mut self.rng, config.pull_grace_ms, 50)
        };
        let at = now.plus_ms(ms);
        self.is_quiet = false;
        if is_prompt && (is_news || link.due.is_none()) {
            link.is_prompt = true;
            link.due = Some(link.due.map_or(at, |due| due.min(at)));
        } else if link.due.is_none() {
            link.due = Some(at);
        }
    }

    /// A message of an exchange arrived. Whether it may be handed to the replica.
    pub(crate) fn receive(&mut self, peer: NodeId, config: &Config, now: Mono) -> bool {
        let serving = self
            .links
            .values()
            .filter(|it| !it.is_ours && it.is_active(config, now));
        let is_full = serving.count() >= config.serves_max;
        let Some(link) = self.links.get_mut(&peer) else {
            return false;
        };
        if is_full && !link.is_active(config, now) {
            reached!("too many peers want an exchange at once");
            self.dropped_count += 1;
            return false;
        }
        if !link.is_active(config, now) {
            link.is_ours = false;
        }
        link.active = Some(now);
        self.is_quiet = false;
        self.pulled_at = Some(now);
        true
    }

    /// The replica's messages for a peer.
    pub(crate) fn reply(&mut self, to: NodeId, messages: Vec<Bytes>, config: &Config, now: Mono) {
        let Some(link) = self.links.get_mut(&to) else {
            return;
        };
        for body in messages {
            if body.len() > BODY_BYTES_MAX
                || link.queued_bytes + body.len() > config.link_queue_bytes
            {
                reached!("a message of an exchange was dropped at a limit");
                self.dropped_count += 1;
                continue;
            }
            link.queued_bytes += body.len();
            link.queue.push_back(body);
        }
        link.active = Some(now);
        self.is_quiet = false;
        Self::flush(to, link, config, now, &mut self.out);
    }

    fn flush(to: NodeId, link: &mut Link, config: &Config, now: Mono, out: &mut Vec<SyncOut>) {
        while let Some(body) = link.queue.front() {
            let cost = (body.len() + HEADER_BYTES) as u64;
            if !link
                .bucket
                .take(cost, config.link_bytes_per_s, config.link_burst_bytes, now)
            {
                reached!("an exchange is slowed down to the rate of its link");
                break;
            }
            link.queued_bytes -= body.len();
            link.active = Some(now);
            if let Some(body) = link.queue.pop_front() {
                out.push(SyncOut::Bulk {
                    to,
                    frame: Message::Sync(body).encode(),
                });
            }
        }
    }

    pub(crate) fn deadline(&self, config: &Config) -> Option<Mono> {
        if self.is_quiet {
            return self.announce;
        }
        let of_link = |it: &Link| {
            let flush = it.queue.front().map(|body| {
                let cost = (body.len() + HEADER_BYTES) as u64;
                it.bucket
                    .ready(cost, config.link_bytes_per_s, config.link_burst_bytes)
            });
            let reported = (it.due.is_some() && !it.is_reported)
                .then(|| it.equal_at.plus_ms(config.diverged_ms));
            [it.due, flush, reported].into_iter().flatten().min()
        };
        self.links
            .values()
            .filter_map(of_link)
            .chain(self.announce)
            .min()
    }

    pub(crate) fn wake(&mut self, config: &Config, now: Mono) {
        if self.announce.take_if(|at| *at <= now).is_some() {
            let is_pull = std::mem::take(&mut self.announce_is_pull);
            self.announced = Some(now);
            let frame = Message::Announce(Announce {
                digests: self.ours,
                is_pull,
            })
            .encode();
            for (to, link) in &mut self.links {
                if link.theirs != Some(self.ours) {
                    link.told = Some(self.ours);
                    self.out.push(SyncOut::Control {
                        to: *to,
                        frame: frame.clone(),
                    });
                }
            }
        }
        if self.is_quiet {
            return;
        }
        self.pull(config, now);
        let mut links = self.links.values();
        self.is_quiet = !links.any(|it| it.is_busy(config, now));
    }

    /// Opens exchanges that are due, and goes on with those under way.
    fn pull(&mut self, config: &Config, now: Mono) {
        let mut open = self
            .links
            .values()
            .filter(|it| it.is_ours && it.is_active(config, now))
            .count();
        let ours = self.ours;
        for (peer, link) in &mut self.links {
            Self::flush(*peer, link, config, now, &mut self.out);
            let Some(theirs) = link.theirs else { continue };
            if link.due.is_some()
                && !link.is_reported
                && now.ms_since(link.equal_at) >= config.diverged_ms
            {
                link.is_reported = true;
                self.out.push(SyncOut::Diverged {
                    peer: *peer,
                    ours,
                    theirs,
                });
            }
            if link.due.is_none_or(|due| due > now) {
                continue;
            }
            if mutant!("M55") {
                link.tries = 0;
            } else if theirs == ours {
                settle(link, now);
                continue;
            }
            // An exchange may be about to make us equal; look again when it has fallen silent.
            let rest_ms = if link.is_prompt || mutant!("M55") {
                config.pull_grace_ms / 4
            } else {
                config.pull_idle_ms
            };
            let silent_at = link.active.map_or(now, |at| at.plus_ms(rest_ms));
            if silent_at > now {
                link.due = Some(silent_at.plus_ms(below(&mut self.rng, rest_ms / 4 + 1)));
                continue;
            }
            let earliest = link.opened.map_or(now, |at| at.plus_ms(OPEN_MS));
            if earliest > now {
                link.due = Some(earliest);
                continue;
            }
            // What several peers announce at once is fetched from one of them: the others are compared again
            // after the exchange.
            let limit = if link.tries == 0 { 1 } else { config.pulls_max };
            if open >= limit.min(config.pulls_max) && !mutant!("M55") {
                reached!("a pull waits for another to end");
                link.due =
                    Some(now.plus_ms(jitter(&mut self.rng, config.pull_grace_ms / 4 + 1, 50)));
                continue;
            }
            if mutant!("M52") {
                link.due = None;
                continue;
            }
            open += 1;
            link.is_ours = true;
            link.is_prompt = false;
            link.active = Some(now);
            link.opened = Some(now);
            let wait = config.pull_retry_ms << link.tries.min(3);
            let wait = if mutant!("M55") { 0 } else { wait };
            link.tries = link.tries.saturating_add(1);
            link.due = Some(now.plus_ms(jitter(&mut self.rng, wait, 25)));
            self.out.push(SyncOut::Open(*peer));
        }
    }
}

/// Equal digests were seen.
fn settle(link: &mut Link, now: Mono) {
    link.equal_at = now;
    link.due = None;
    link.is_prompt = false;
    link.tries = 0;
    link.is_reported = false;
    // The exchange that made it so is over.
    if link.queue.is_empty() {
        link.active = None;
    }
}
