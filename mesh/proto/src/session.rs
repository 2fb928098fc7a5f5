//! Whom to dial, and when: what the overlay needs, the full mesh of a small one, and the re-joining that ends
//! partitions.
//!
//! Every retry waits longer than the one before it, with jitter, up to a limit; nobody is ever given up. The
//! number of dials under way and of frames waiting for a link is bounded.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use lab_crdt_model::{Mono, NodeId, reached, sometimes};
use rand_chacha::ChaCha12Rng;

use crate::backoff::{Backoff, below, jitter};
use crate::config::Config;

/// Most peers that wait for a dial. Further wishes are refused; the overlay then tries someone else.
const WAITING_MAX: usize = 64;
/// Most frames that wait for one link; further ones are dropped.
const FRAMES_MAX: usize = 8;
/// A link that lived this long counts as a success, milliseconds.
const STABLE_MS: u64 = 10_000;

#[derive(Debug)]
pub(crate) struct Session {
    /// Dials under way, and when each began.
    dialing: BTreeMap<NodeId, Mono>,
    waiting: VecDeque<NodeId>,
    frames: BTreeMap<NodeId, Vec<Bytes>>,
    backoffs: BTreeMap<NodeId, Backoff>,
    rejoin_at: Mono,
    lonely_tries: u32,
    is_early: bool,
    was_early: bool,
    rng: ChaCha12Rng,
}

impl Session {
    pub(crate) const fn new(rng: ChaCha12Rng, now: Mono) -> Self {
        Self {
            dialing: BTreeMap::new(),
            waiting: VecDeque::new(),
            frames: BTreeMap::new(),
            backoffs: BTreeMap::new(),
            rejoin_at: now,
            lonely_tries: 0,
            is_early: false,
            was_early: false,
            rng,
        }
    }

    /// Asks for a link to `peer`, and for `frame` to be sent over it. False when it is too early after a
    /// failure (unless `is_urgent`) or too many others wait.
    pub(crate) fn want(
        &mut self,
        peer: NodeId,
        frame: Option<Bytes>,
        is_urgent: bool,
        now: Mono,
    ) -> bool {
        if !self.dialing.contains_key(&peer) && !self.waiting.contains(&peer) {
            let is_early = self
                .backoffs
                .get(&peer)
                .is_some_and(|it| it.not_before() > now);
            sometimes!(
                is_early && is_urgent,
                "a dial does not wait for its back-off"
            );
            if (is_early && !is_urgent) || self.waiting.len() >= WAITING_MAX {
                sometimes!(!is_early, "too many peers wait for a dial");
                return false;
            }
            self.waiting.push_back(peer);
        }
        let frames = self.frames.entry(peer).or_default();
        if let Some(frame) = frame
            && frames.len() < FRAMES_MAX
        {
            frames.push(frame);
        }
        true
    }

    /// Whom to dial now.
    pub(crate) fn next_dial(&mut self, config: &Config, now: Mono) -> Option<NodeId> {
        if self.dialing.len() >= config.dials_max {
            sometimes!(!self.waiting.is_empty(), "a dial waits for others to end");
            return None;
        }
        let peer = self.waiting.pop_front()?;
        self.dialing.insert(peer, now);
        Some(peer)
    }

    /// The frames that waited for this link.
    pub(crate) fn link_up(&mut self, peer: &NodeId) -> Vec<Bytes> {
        self.dialing.remove(peer);
        self.waiting.retain(|it| it != peer);
        self.frames.remove(peer).unwrap_or_default()
    }

    pub(crate) fn link_down(&mut self, peer: NodeId, lived_ms: u64, config: &Config, now: Mono) {
        let backoff = self.backoffs.entry(peer).or_default();
        if lived_ms >= STABLE_MS {
            *backoff = Backoff::default();
            backoff.hold(now.plus_ms(50 + below(&mut self.rng, 200)));
        } else {
            reached!("a link died soon after it came up");
            backoff.fail(
                now,
                config.dial_backoff_min_ms,
                config.dial_backoff_max_ms,
                &mut self.rng,
            );
        }
    }

    /// When the dial that failed began.
    pub(crate) fn dial_failed(&mut self, peer: NodeId, config: &Config, now: Mono) -> Mono {
        let began = self.dialing.remove(&peer).unwrap_or(now);
        self.frames.remove(&peer);
        self.backoffs.entry(peer).or_default().fail(
            now,
            config.dial_backoff_min_ms,
            config.dial_backoff_max_ms,
            &mut self.rng,
        );
        began
    }

    /// Leaves the first dial to the other side for a moment.
    pub(crate) fn defer(&mut self, peer: NodeId, now: Mono) {
        let at = now.plus_ms(200 + below(&mut self.rng, 400));
        self.backoffs.entry(peer).or_default().hold(at);
    }

    /// There is news of how to reach `peer`.
    pub(crate) fn reset(&mut self, peer: &NodeId) {
        self.backoffs.remove(peer);
    }

    /// Forgets a peer altogether.
    pub(crate) fn remove(&mut self, peer: &NodeId) {
        self.dialing.remove(peer);
        self.waiting.retain(|it| it != peer);
        self.frames.remove(peer);
        self.backoffs.remove(peer);
    }

    /// When `peer` may be dialled; `None` while it is being dialled or waits for it.
    pub(crate) fn may_dial_at(&self, peer: &NodeId) -> Option<Mono> {
        if self.dialing.contains_key(peer) || self.waiting.contains(peer) {
            return None;
        }
        Some(self.backoffs.get(peer).map_or(Mono(0), Backoff::not_before))
    }

    pub(crate) const fn rejoin_at(&self) -> Mono {
        self.rejoin_at
    }

    /// Sets the next re-join: soon and then ever slower while `is_lonely`, else at the mean interval `ms`.
    pub(crate) fn schedule_rejoin(&mut self, is_lonely: bool, ms: u64, config: &Config, now: Mono) {
        self.was_early = std::mem::take(&mut self.is_early);
        let ms = if is_lonely {
            let quick = config.rejoin_lonely_ms << self.lonely_tries.min(10);
            self.lonely_tries += 1;
            quick.min(ms)
        } else {
            self.lonely_tries = 0;
            ms
        };
        self.rejoin_at = now.plus_ms(jitter(&mut self.rng, ms, 33));
    }

    /// Forgets old failures, so that memory follows the peers of late.
    pub(crate) fn forget(&mut self, config: &Config, now: Mono) {
        self.backoffs
            .retain(|_, it| now < it.not_before().plus_ms(config.dial_backoff_max_ms));
    }

    /// Whether the last re-join was an early one.
    pub(crate) const fn was_early(&self) -> bool {
        self.was_early
    }

    /// A neighbour was lost or something changed that makes a re-join promising: soon, once.
    pub(crate) fn hurry(&mut self, config: &Config, now: Mono) {
        self.lonely_tries = 0;
        let soon = now.plus_ms(below(&mut self.rng, config.rejoin_lonely_ms + 1));
        if soon < self.rejoin_at {
            self.rejoin_at = soon;
            self.is_early = true;
        }
    }

    /// One of `from`, at random.
    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        let at = below(&mut self.rng, from.len() as u64);
        from.get(usize::try_from(at).unwrap_or(0)).copied()
    }

    /// Up to `count` different ones of `from`, at random.
    pub(crate) fn some<T: Copy>(&mut self, from: &[T], count: usize) -> Vec<T> {
        let mut left = from.to_vec();
        let mut out = Vec::new();
        while out.len() < count && !left.is_empty() {
            let at = usize::try_from(below(&mut self.rng, left.len() as u64)).unwrap_or(0);
            out.push(left.swap_remove(at));
        }
        out
    }

    /// Heads or tails.
    pub(crate) fn flip(&mut self) -> bool {
        below(&mut self.rng, 2) == 0
    }
}
