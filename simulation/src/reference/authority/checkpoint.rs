//! What most of the present admins agreed on, and what fewer of them cannot take back.

use std::collections::BTreeSet;

use lab_crdt_log::Body;
use lab_crdt_model::{AuthorId, StatementId};

use super::{Root, Set, Verdict, kept};

/// Whether more than half of the present admins are among these.
pub(super) fn is_most(root: &Root, by: &BTreeSet<AuthorId>) -> bool {
    let present: BTreeSet<AuthorId> = root.in_force.admins.iter().map(|a| a.key).collect();
    by.intersection(&present).count() > present.len() / 2
}

impl Verdict {
    /// Admins, present or former, who say or co-sign something that an admin said, as far as they were not cut before.
    pub(super) fn stand_behind(
        &self,
        root: &Root,
        set: &Set,
        what: StatementId,
    ) -> BTreeSet<AuthorId> {
        let is_admins = |author: &AuthorId, under: &StatementId| {
            *under == root.under && root.admins.contains(author)
        };
        if !set
            .get(&what)
            .is_some_and(|s| is_admins(&s.author, &s.under))
        {
            return BTreeSet::new();
        }
        set.values()
            .filter(|s| match &s.body {
                Body::CoSign(c) => c.proposal == what,
                _ => s.id == what,
            })
            .filter(|s| is_admins(&s.author, &s.under) && self.is_allowed(&s.author, &s.id))
            .map(|s| s.author)
            .collect()
    }

    /// Looks for checkpoints that most of the present admins stand behind, and notes what these cover.
    pub(super) fn agree(&mut self, root: &Root, set: &Set) {
        let present: BTreeSet<AuthorId> = root.in_force.admins.iter().map(|a| a.key).collect();
        for s in set.values() {
            let Body::Checkpoint(checkpoint) = &s.body else {
                continue;
            };
            let by = self.stand_behind(root, set, s.id);
            let said_by_admin = s.under == root.under && root.admins.contains(&s.author);
            if !said_by_admin {
                continue;
            }
            if is_most(root, &by) {
                for head in checkpoint.heads.iter().filter_map(|head| set.get(head)) {
                    let chain = kept(set, head.author, Some(head.id));
                    self.agreed.extend(chain.into_iter().flatten());
                }
            }
            let by = by.intersection(&present).copied().collect();
            self.checkpoints.insert(s.id, by);
        }
    }

    /// What of a chain stays when it is cut: with less weight than most of the admins have, also what these agreed on.
    pub(super) fn kept_of(
        &self,
        set: &Set,
        key: AuthorId,
        head: Option<StatementId>,
        is_heavy: bool,
    ) -> Option<BTreeSet<StatementId>> {
        let mut out = kept(set, key, head)?;
        if !is_heavy {
            out.extend(self.agreed_of(set, key));
        }
        Some(out)
    }

    /// What is agreed on of one author.
    pub(super) fn agreed_of(&self, set: &Set, key: AuthorId) -> BTreeSet<StatementId> {
        let is_theirs = |id: &&StatementId| set[*id].author == key;
        self.agreed.iter().filter(is_theirs).copied().collect()
    }
}
