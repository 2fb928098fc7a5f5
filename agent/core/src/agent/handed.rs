//! How quickly statements may be handed in at this node, by author.
//!
//! Whoever has the key of an operator can sign without end; what is handed in faster than a person works is refused
//! with the time at which there is room again. Admins have ten times as much, and what they say about authority is
//! always taken.

use super::*;

use lab_crdt_log::{Kind, Log, author_of};
use lab_crdt_model::AuthorId;

use crate::rate::{Bucket, Rate};

/// What an operator may hand in: one statement carries up to 4,096 operations.
pub(super) const HANDED: Rate = Rate {
    burst: 600,
    each_ms: 1_000,
};
const BY_ADMIN: Rate = Rate {
    burst: 6_000,
    each_ms: 100,
};
/// Authors whose budget is not whole; with more, they share one.
const AUTHORS_MAX: usize = 1024;

/// How much each author has handed in of late.
#[derive(Debug, Default)]
pub(super) struct Handed(BTreeMap<AuthorId, Bucket>);

/// How many statements of each author count, and at which rate.
pub(super) type Counted = BTreeMap<AuthorId, (u64, Rate)>;

/// What of some statements counts.
pub(super) fn counted(log: &Log, statements: &[Bytes]) -> Counted {
    let mut counted = Counted::new();
    for bytes in statements {
        let Some(author) = author_of(bytes) else {
            continue;
        };
        let is_admin = log.authority_as_resolved().admins.contains(&author);
        if is_admin && Kind(bytes[1]).is_of_authority() {
            continue;
        }
        let rate = if is_admin { BY_ADMIN } else { HANDED };
        counted.entry(author).or_insert((0, rate)).0 += 1;
    }
    counted
}

impl Handed {
    /// Whether there is room for all of it; otherwise when there will be.
    pub(super) fn look(&self, counted: &Counted, now: Mono) -> Result<(), Mono> {
        let ready_at = |(author, (count, rate)): (&AuthorId, &(u64, Rate))| {
            let bucket = self.0.get(author).copied().unwrap_or_default();
            bucket.ready_at(*count, *rate)
        };
        match counted.iter().map(ready_at).max() {
            Some(at) if at > now => Err(at),
            _ => Ok(()),
        }
    }

    /// Counts it.
    pub(super) fn spend(&mut self, counted: &Counted, now: Mono) {
        self.0.retain(|_, bucket| !bucket.is_full(now));
        for (author, (count, rate)) in counted {
            if self.0.len() < AUTHORS_MAX || self.0.contains_key(author) {
                self.0.entry(*author).or_default().spend(*count, *rate, now);
            }
        }
    }
}
