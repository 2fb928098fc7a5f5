//! What no minority of the admins can annul: who stands behind what, and what their checkpoints cover.

use std::collections::{BTreeMap, BTreeSet};

use lab_crdt_model::{AuthorId, StatementId, mutant, reached};

use crate::body::Body;
use crate::envelope::Statement;
use crate::resolve::Authority;
use crate::root::RootRecord;
use crate::state::State;

/// An admin's word on what the history is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CheckpointState {
    /// Admins of the root record in force who stand behind it, and whom neither the root keys nor a majority cut before.
    pub signers: BTreeSet<AuthorId>,
    /// They are more than half of the admins: no fewer can annul what it covers.
    pub is_effective: bool,
}

/// The end of a key or a grant by too few admins to undo all that they name: a checkpoint holds some of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Held {
    /// The statement that ends it; `None` for one that was only supposed.
    pub revocation: Option<StatementId>,
    /// Whose statements.
    pub key: AuthorId,
    /// The grant that it ends; `None` when it ends the key.
    pub grant: Option<StatementId>,
    /// The last statement that should still count.
    pub head: Option<StatementId>,
    /// Admins of the root record in force who say so.
    pub signers: BTreeSet<AuthorId>,
    /// What counts all the same.
    pub statements: BTreeSet<StatementId>,
}

/// Who of the admins stands behind what: its author, and whoever co-signed it, each with the statement that says so.
pub(crate) struct Signatures<'a> {
    by: BTreeMap<StatementId, Vec<(AuthorId, StatementId)>>,
    /// Admins of the root record in force.
    admins: BTreeSet<&'a AuthorId>,
}

/// Whether other admins may stand behind it as well.
pub(crate) const fn can_be_co_signed(body: &Body) -> bool {
    matches!(
        body,
        Body::Revoke(_) | Body::RevokeGrant(_) | Body::Checkpoint(_)
    )
}

impl<'a> Signatures<'a> {
    pub(crate) fn new(
        log: &State,
        record: &'a RootRecord,
        by_admin: &impl Fn(&Statement) -> bool,
    ) -> Self {
        let said = || log.acts().filter(|s| by_admin(s));
        let mut by: BTreeMap<StatementId, Vec<(AuthorId, StatementId)>> = said()
            .filter(|s| can_be_co_signed(&s.body))
            .map(|s| (s.id, vec![(s.author, s.id)]))
            .collect();
        for s in said() {
            if let Body::CoSign(c) = &s.body
                && let Some(by) = by.get_mut(&c.proposal)
            {
                by.push((s.author, s.id));
            }
        }
        let admins = record.admins.iter().map(|a| &a.key).collect();
        Self { by, admins }
    }

    /// Every signature, cut or not.
    pub(crate) fn all(&self, id: &StatementId) -> &[(AuthorId, StatementId)] {
        self.by.get(id).map_or(&[], |by| by)
    }

    /// Whoever signed it on the right side of every cut so far.
    pub(crate) fn allowed(&self, out: &Authority, id: &StatementId) -> BTreeSet<AuthorId> {
        let allowed = self.all(id).iter().filter(|(a, s)| out.is_allowed(a, s));
        allowed.map(|(a, _)| *a).collect()
    }

    /// Those of some who are admins under the root record in force.
    pub(crate) fn in_force(&self, signers: &BTreeSet<AuthorId>) -> BTreeSet<AuthorId> {
        let in_force = signers.iter().filter(|a| self.admins.contains(a));
        in_force.copied().collect()
    }

    /// Whether they are more than half of the admins.
    pub(crate) fn is_majority(&self, signers: &BTreeSet<AuthorId>) -> bool {
        2 * self.in_force(signers).len() > self.admins.len()
    }
}

/// What effective checkpoints cover: by author, statements with their positions; each covers itself and what is before it
/// in its chain.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Covered(BTreeMap<AuthorId, BTreeMap<StatementId, u64>>);

impl Covered {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All that is covered of an author.
    pub(crate) fn of(&self, log: &State, author: &AuthorId) -> BTreeSet<StatementId> {
        let mut all = BTreeSet::new();
        if let (Some(heads), Some(chain)) = (self.0.get(author), log.chain(author)) {
            for (head, seq) in heads {
                let new = chain.before(head, *seq).take_while(|id| !all.contains(id));
                all.extend(new.collect::<Vec<_>>());
            }
        }
        all
    }

    /// Whether a statement is covered.
    pub(crate) fn has(&self, log: &State, author: &AuthorId, id: &StatementId) -> bool {
        let (Some(heads), Some(chain), Some(stored)) =
            (self.0.get(author), log.chain(author), log.stored(id))
        else {
            return false;
        };
        let is_before = |(head, seq): (&StatementId, &u64)| {
            let Some(back) = seq.checked_sub(stored.seq) else {
                return false;
            };
            !chain.is_forked()
                || usize::try_from(back)
                    .is_ok_and(|back| chain.before(head, *seq).nth(back) == Some(*id))
        };
        heads.iter().any(is_before)
    }
}

/// Finds the checkpoints that more than half of the admins stand behind, once every cut that has as much weight is made.
/// Nothing that fewer say changes which ones these are.
pub(crate) fn weigh_checkpoints(log: &State, signatures: &Signatures<'_>, out: &mut Authority) {
    for s in log.acts() {
        let Body::Checkpoint(checkpoint) = &s.body else {
            continue;
        };
        if signatures.all(&s.id).is_empty() {
            continue;
        }
        let signers = signatures.in_force(&signatures.allowed(out, &s.id));
        let is_effective =
            signatures.is_majority(&signers) || (mutant!("R24") && !signers.is_empty());
        let state = CheckpointState {
            signers,
            is_effective,
        };
        out.checkpoints.insert(s.id, state);
        if !is_effective {
            continue;
        }
        reached!("a majority of the admins stands behind a checkpoint");
        for head in &checkpoint.heads {
            if let Some(stored) = log.stored(head) {
                let of_author = out.covered.0.entry(stored.author).or_default();
                of_author.insert(*head, stored.seq);
            } else {
                reached!("a checkpoint names what is not here yet");
                out.awaited.insert(*head);
            }
        }
    }
}
