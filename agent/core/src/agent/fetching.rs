//! From whom a replica is getting what it lacks.
//!
//! Who comes back meets all its peers within milliseconds, and each of them opens an exchange. Asked by each for what
//! they have, it would receive the same from all of them. So while one sends, others are not asked. What only they
//! have is not lost: their digests stay unequal, and the next exchange with them asks for it.

use super::*;

/// A peer that was asked and sends nothing for so long is given up, milliseconds.
const FETCH_MS: u64 = 2_000;

/// A peer that was asked for statements.
pub(super) struct Fetch {
    from: NodeId,
    until: Mono,
    /// It was told everything that is held here; there is nothing to add.
    is_whole: bool,
}

impl Member {
    /// An exchange is opened from here.
    pub(super) fn fetch_all(&mut self, from: NodeId, now: Mono) {
        if self.mesh.is_equal(&from) == Some(false) && !self.is_fetching(now) {
            let is_whole = sync::is_told_at_once(&self.replica.log);
            self.fetching = Some(Fetch {
                from,
                until: now.plus_ms(FETCH_MS),
                is_whole,
            });
        }
    }

    /// Whether a peer is to be asked for what it has and this replica lacks.
    pub(super) fn may_fetch(&mut self, from: NodeId, now: Mono) -> bool {
        let may = match &self.fetching {
            Some(it) if it.until > now => it.from == from && !it.is_whole,
            _ => true,
        };
        sometimes!(!may, "what one peer is sending is not asked of another");
        if may {
            self.fetching = Some(Fetch {
                from,
                until: now.plus_ms(FETCH_MS),
                is_whole: false,
            });
        }
        may
    }

    /// The peer sends on, and was told so.
    pub(super) fn fetch_goes_on(&mut self, from: NodeId, now: Mono) {
        if let Some(it) = self.fetching.as_mut().filter(|it| it.from == from) {
            it.until = now.plus_ms(FETCH_MS);
        }
    }

    /// The peer has nothing more to send, or is gone.
    pub(super) fn fetch_ends(&mut self, from: NodeId) {
        self.fetching.take_if(|it| it.from == from);
    }

    /// Whether a peer was asked whose answer is not complete.
    pub(super) fn is_fetching(&self, now: Mono) -> bool {
        self.fetching.as_ref().is_some_and(|it| it.until > now)
    }
}
