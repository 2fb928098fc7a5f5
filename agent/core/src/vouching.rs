//! Saying what was heard of the holder of a grant by its end, so that machines that were away can tell what was said in
//! time.

use std::collections::BTreeSet;
use std::sync::Arc;

use lab_crdt_log::{Authority, Body, Vouch};
use lab_crdt_model::limit::LATE_MS;
use lab_crdt_model::view::MemberState;
use lab_crdt_model::{Mono, Now, StatementId, Wall, mutant, reached};

use crate::boot::NodeKeys;
use crate::replica::Replica;

/// Time until a vouch is tried again that could not be signed, milliseconds.
const AGAIN_MS: u64 = 30_000;

/// Of which grants there is something to say.
#[derive(Default)]
pub(crate) struct Vouching {
    /// Ended grants of which this node says no more, in this life.
    closed: BTreeSet<StatementId>,
    next_at: Option<Mono>,
    seen: Option<Arc<Authority>>,
}

impl Vouching {
    /// When the next grant has ended for long enough.
    pub(crate) const fn deadline(&self) -> Option<Mono> {
        self.next_at
    }

    /// Says what there is to say. Returns whether anything was said.
    pub(crate) fn settle(&mut self, replica: &mut Replica, keys: &NodeKeys, now: Now) -> bool {
        let authority = Arc::clone(replica.log.shared_authority());
        let is_due = self.next_at.is_some_and(|at| at <= now.mono);
        let is_same = self
            .seen
            .as_ref()
            .is_some_and(|a| Arc::ptr_eq(a, &authority));
        if is_same && !is_due {
            return false;
        }
        self.seen = Some(Arc::clone(&authority));
        self.next_at = None;
        let me = keys.node();
        let join = match authority.roster.members.get(&me) {
            Some(m) if m.state == MemberState::Member => m.join,
            _ => return false,
        };
        let mut next: Option<Wall> = None;
        let mut over = Vec::new();
        for (id, grant) in &authority.grants {
            let Some(end) = grant.not_after else {
                continue;
            };
            let end = Wall(end.0.saturating_add(LATE_MS));
            if now.wall < end {
                next = Some(next.map_or(end, |n| n.min(end)));
            } else if !self.closed.contains(id) {
                over.push(*id);
            }
        }
        self.next_at = next.map(|end| now.mono.plus_ms(end.0.saturating_sub(now.wall.0)));
        let mut has_spoken = false;
        for grant in over {
            match replica.log.to_vouch(&grant, &me) {
                Ok(None) => {}
                Err(_not_asked) => {
                    self.closed.insert(grant);
                }
                Ok(Some(heads)) => {
                    let refs = heads.clone();
                    let vouch = Body::Vouch(Vouch {
                        grant,
                        heads,
                        at: now.wall,
                    });
                    if !mutant!("M65") && replica.speak(keys, join, refs, vouch, now) {
                        reached!("a node vouched for what it had heard under a grant");
                        has_spoken = true;
                        self.closed.insert(grant);
                    } else {
                        let again = now.mono.plus_ms(AGAIN_MS);
                        self.next_at = Some(self.next_at.map_or(again, |at| at.min(again)));
                    }
                }
            }
        }
        has_spoken
    }
}
