//! What a checkpoint holds against fewer than a majority of the admins, in words.

use lab_crdt_model::view::{HeldView, ReplicaView};
use lab_crdt_model::{AuthorId, StatementId};

use super::Context;
use crate::print::count;

/// How many admins can do what fewer cannot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Majority {
    /// More than half of them.
    pub(crate) need: usize,
    /// All of them.
    pub(crate) admins: usize,
}

impl Majority {
    /// Of the root record in force.
    pub(crate) fn of(view: &ReplicaView) -> Self {
        let admins = view.operators.iter().filter(|o| o.is_admin).count();
        Self {
            need: admins / 2 + 1,
            admins,
        }
    }
}

/// The revocation of a key or a grant that other admins began and a checkpoint holds: at `head`, or else the one on
/// which most agree.
pub(super) fn begun<'a>(
    view: &'a ReplicaView,
    key: &AuthorId,
    grant: Option<&StatementId>,
    head: Option<Option<StatementId>>,
) -> Option<&'a HeldView> {
    let fits = |h: &&HeldView| {
        h.revocation.is_some()
            && h.key == *key
            && h.grant.as_ref() == grant
            && head.is_none_or(|head| h.head == head)
    };
    view.held
        .iter()
        .filter(fits)
        .max_by_key(|h| h.signers.len())
}

/// Says how much of what a revocation names stays, and who can change that. `signers` counts whoever says so by then.
pub(super) fn tell(
    context: Context<'_>,
    majority: Majority,
    signers: usize,
    held: u32,
    command: &str,
) {
    if held == 0 {
        return;
    }
    let more = majority.need.saturating_sub(signers);
    let (statements, admins) = (count(held as usize, "statement"), count(more, "more admin"));
    context.ui.warn(&format!(
        "a checkpoint holds {statements} of that, which stay until {admins} say the same: {command}"
    ));
}
