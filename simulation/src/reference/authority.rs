//! Who may say what, from the set of statements and the root record alone.
//!
//! Nothing is kept between two calls and nothing is clever: sets are walked until they do not change any more.
//! [`Verdict::of`] takes any bytes; what a replica would never store (strangers, broken chains, forged joins) is
//! left out first. Limits that depend on what came first (ends of a forked chain, quotas) are not modelled: see
//! [`Verdict::ends`] for who has more ends than a replica keeps.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use lab_crdt_log::{Body, Grant, Invite, Rights, RootRecord, WitnessRule};
use lab_crdt_model::view::Role;
use lab_crdt_model::{AuthorId, Hlc, Label, MeshId, NodeId, Op, StatementId, Wall};

use super::envelope::{self, Said};
use checkpoint::is_most;
use set::{admissible, before, causal, ends};

mod checkpoint;
mod late;
mod member;
mod record;
mod set;

pub use member::Membership;

/// What one author may do under one statement.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Right {
    /// Whose.
    pub subject: AuthorId,
    /// What.
    pub rights: Rights,
    /// Where.
    pub scope: Vec<String>,
    /// Until which stamp.
    pub not_after: Option<Wall>,
    /// What still counts after it was taken back; `None` = it was not.
    pub allowed: Option<BTreeSet<StatementId>>,
}

/// A token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Token {
    /// Who made it.
    pub author: AuthorId,
    /// Whether its author was allowed to.
    pub is_effective: bool,
    /// Whether it was taken back.
    pub is_revoked: bool,
    /// How many may join with it.
    pub uses_max: u16,
    /// Who joined with it and was seen by a registrar.
    pub used_by: Vec<NodeId>,
}

/// An edit that counts.
#[derive(Clone, PartialEq, Debug)]
pub struct Counted {
    /// Who.
    pub author: AuthorId,
    /// The author's stamp.
    pub at: Hlc,
    /// Nearest edits in its past that count, ascending.
    pub parents: Vec<StatementId>,
    /// What it does.
    pub ops: Vec<Op>,
}

/// Everything that follows from a set of statements.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Verdict {
    /// Admins of the root record in force that were not revoked.
    pub admins: BTreeSet<AuthorId>,
    /// The version of the root record in force.
    pub root: u32,
    /// Keys that were revoked.
    pub revoked: BTreeSet<AuthorId>,
    /// Of authors that were cut: what still counts.
    pub cuts: BTreeMap<AuthorId, BTreeSet<StatementId>>,
    /// Grants, and laptops that may write.
    pub rights: BTreeMap<StatementId, Right>,
    /// Tokens.
    pub tokens: BTreeMap<StatementId, Token>,
    /// Who joined.
    pub members: BTreeMap<NodeId, Membership>,
    /// Edits that count.
    pub edits: BTreeMap<StatementId, Counted>,
    /// Statements that a replica may hold at all.
    pub admissible: BTreeSet<StatementId>,
    /// How many ends each author's chain has.
    pub ends: BTreeMap<AuthorId, usize>,
    /// What came late, and waits until an admin seals its grant.
    pub waiting: BTreeSet<StatementId>,
    /// Checkpoints: who of the present admins stands behind each.
    pub checkpoints: BTreeMap<StatementId, BTreeSet<AuthorId>>,
    /// What more than half of the present admins agreed on.
    pub agreed: BTreeSet<StatementId>,
    /// Keys that the root keys or more than half of the present admins ended.
    ended: BTreeSet<AuthorId>,
}

/// What authority rests on.
struct Root {
    under: StatementId,
    /// Whoever is or was an admin.
    admins: BTreeSet<AuthorId>,
    /// What is or was a root key.
    keys: BTreeSet<AuthorId>,
    in_force: RootRecord,
}

type Set = BTreeMap<StatementId, Said>;

impl Verdict {
    /// Works everything out, from the founding record on, for a replica to which nothing came late.
    pub fn of(mesh: MeshId, record: &RootRecord, all: &[Bytes]) -> Self {
        Self::of_late(mesh, record, all, &BTreeSet::new())
    }

    /// The same for a replica to which some statements came only after their grant had ended.
    pub fn of_late(
        mesh: MeshId,
        record: &RootRecord,
        all: &[Bytes],
        late: &BTreeSet<StatementId>,
    ) -> Self {
        let read: Set = all
            .iter()
            .filter_map(|bytes| envelope::open(&mesh, bytes))
            .map(|s| (s.id, s))
            .collect();
        let (set, records) = admissible(mesh, record, read);
        let valid = records.in_force(mesh);
        let root = Root {
            under: StatementId(mesh.0),
            admins: valid.admins.clone(),
            keys: valid.keys.clone(),
            in_force: valid.record.clone(),
        };
        let mut out = Self {
            ends: ends(&set),
            admissible: set.keys().copied().collect(),
            ..Self::default()
        };
        out.root = root.in_force.version;
        for end in &root.in_force.annul {
            out.cut(&root, &set, end.key, end.head, true);
        }
        out.weigh_admins(&root, &set);
        out.grant(&root, &set);
        out.admit(&root, &set);
        out.waiting = out.wait(&root, &set, late);
        out.count(&root, &set);
        out
    }

    /// Whether a statement is on the right side of every cut of its author.
    pub fn is_allowed(&self, author: &AuthorId, id: &StatementId) -> bool {
        self.cuts.get(author).is_none_or(|kept| kept.contains(id))
    }

    fn is_by_admin(&self, root: &Root, s: &Said) -> bool {
        s.under == root.under
            && root.admins.contains(&s.author)
            && self.is_allowed(&s.author, &s.id)
    }

    /// What follows from a revocation that counts: by the root keys or most of the admins, or by fewer.
    fn cut(
        &mut self,
        root: &Root,
        set: &Set,
        key: AuthorId,
        head: Option<StatementId>,
        is_heavy: bool,
    ) {
        if root.keys.contains(&key) && !root.admins.contains(&key) {
            return;
        }
        self.revoked.insert(key);
        if is_heavy {
            self.ended.insert(key);
        }
        let Some(kept) = self.kept_of(set, key, head, is_heavy) else {
            return;
        };
        let standing = self.cuts.entry(key).or_insert_with(|| kept.clone());
        *standing = standing.intersection(&kept).copied().collect();
    }

    /// Admins against admins: the more distinct admins say so, the earlier it counts; equal weights count together.
    fn weigh_admins(&mut self, root: &Root, set: &Set) {
        let said = |s: &&Said| s.under == root.under && root.admins.contains(&s.author);
        let mut open: BTreeMap<StatementId, (AuthorId, Option<StatementId>)> = BTreeMap::new();
        for s in set.values().filter(said) {
            if let Body::Revoke(r) = &s.body
                && root.admins.contains(&r.key)
            {
                open.insert(s.id, (r.key, r.head));
            }
        }
        for is_heavy in [true, false] {
            for weight in (1..=root.admins.len()).rev() {
                let due: Vec<_> = open
                    .iter()
                    .map(|(id, what)| (*id, *what, self.stand_behind(root, set, *id)))
                    .filter(|(_, _, by)| by.len() == weight)
                    .filter(|(_, _, by)| !is_heavy || is_most(root, by))
                    .collect();
                for (id, (key, head), _) in due {
                    open.remove(&id);
                    self.cut(root, set, key, head, is_heavy);
                }
            }
            if is_heavy {
                self.agree(root, set);
            }
        }
        let current = root.in_force.admins.iter().map(|a| a.key);
        self.admins = current.filter(|a| !self.revoked.contains(a)).collect();
    }

    /// Grants, and the end of keys and grants, by admins.
    fn grant(&mut self, root: &Root, set: &Set) {
        // No cut of another key changes whether an admin's word counts, so the order does not matter.
        let by_admin: Vec<&Said> = set.values().filter(|s| self.is_by_admin(root, s)).collect();
        for s in &by_admin {
            if let Body::Grant(Grant {
                subject,
                rights,
                scope,
                not_after,
                ..
            }) = &s.body
            {
                let right = Right {
                    subject: *subject,
                    rights: *rights,
                    scope: scope.clone(),
                    not_after: *not_after,
                    allowed: None,
                };
                self.rights.insert(s.id, right);
            }
        }
        for s in set.values() {
            if let Body::Revoke(r) = &s.body
                && !root.admins.contains(&r.key)
            {
                let by = self.stand_behind(root, set, s.id);
                if !by.is_empty() {
                    self.cut(root, set, r.key, r.head, is_most(root, &by));
                }
            }
        }
        let ids: Vec<StatementId> = self.rights.keys().copied().collect();
        for id in ids {
            self.end_right(root, set, id);
        }
    }

    /// Applies what admins say about the end of one grant.
    fn end_right(&mut self, root: &Root, set: &Set, id: StatementId) {
        let Some(right) = self.rights.get(&id) else {
            return;
        };
        let mut allowed = right.allowed.clone();
        for s in set.values() {
            let by = self.stand_behind(root, set, s.id);
            if let Body::RevokeGrant(r) = &s.body
                && r.grant == id
                && !by.is_empty()
                && let Some(kept) = self.kept_of(set, right.subject, r.head, is_most(root, &by))
            {
                allowed = Some(match allowed {
                    None => kept,
                    Some(standing) => standing.intersection(&kept).copied().collect(),
                });
            }
        }
        if let Some(right) = self.rights.get_mut(&id) {
            right.allowed = allowed;
        }
    }

    /// The right under which something is said, as far as author, time and cuts go.
    fn right_of(&self, s: &Said) -> Option<&Right> {
        self.rights.get(&s.under).filter(|right| {
            right.subject == s.author
                && self.is_allowed(&s.author, &s.id)
                && right.allowed.as_ref().is_none_or(|a| a.contains(&s.id))
                && right
                    .not_after
                    .is_none_or(|end| s.hlc < Hlc::from_wall(end))
        })
    }

    fn may_confirm(&self, root: &Root, s: &Said) -> bool {
        self.is_by_admin(root, s)
            || self
                .right_of(s)
                .is_some_and(|r| r.rights.has(Rights::CONFIRM))
    }

    /// Whether a token may be made. Laptops may not let in laptops: `is_first` is for those who got their right
    /// from an admin.
    fn may_invite(&self, root: &Root, s: &Said, invite: &Invite, is_first: bool) -> bool {
        if s.under == root.under {
            return self.is_by_admin(root, s);
        }
        let Some(right) = self.right_of(s).filter(|r| r.rights.has(Rights::INVITE)) else {
            return false;
        };
        let covers = |wanted: &str| right.scope.iter().any(|mine| is_prefix(mine, wanted));
        if invite.labels.iter().any(is_for_admins) {
            return false;
        }
        let may_label = right.rights.has(Rights::LABELS) && covers("label");
        if !may_label && !invite.labels.is_empty() {
            return false;
        }
        match invite.role {
            Role::Node => true,
            Role::Laptop => {
                is_first
                    && invite.lease_ms > 0
                    && right.rights.has(invite.rights)
                    && invite.scope.iter().all(|scope| covers(scope))
            }
        }
    }

    /// Whether an edit counts.
    fn may_edit(&self, root: &Root, s: &Said, ops: &[Op]) -> bool {
        if s.under == root.under {
            return self.is_by_admin(root, s);
        }
        let Some(right) = self.right_of(s).filter(|_| !self.waiting.contains(&s.id)) else {
            return false;
        };
        ops.iter().all(|op| {
            let parts: Vec<String> = op.path().segments().map(|p| p.into_owned()).collect();
            let is_label = parts[0] == "label";
            let need = if is_label {
                Rights::LABELS
            } else {
                Rights::CONFIG
            };
            let is_reserved = is_label && parts.get(2).is_some_and(|l| l.starts_with("lab."));
            let is_inside = right
                .scope
                .iter()
                .any(|mine| is_prefix(mine, op.path().as_str()));
            right.rights.has(need) && !is_reserved && is_inside
        })
    }

    /// Which edits count, and what each stands on.
    fn count(&mut self, root: &Root, set: &Set) {
        let counting: BTreeSet<StatementId> = set
            .values()
            .filter(|s| matches!(&s.body, Body::Edit(edit) if self.may_edit(root, s, &edit.ops)))
            .map(|s| s.id)
            .collect();
        let mut near: BTreeMap<StatementId, BTreeSet<StatementId>> = BTreeMap::new();
        for id in causal(set) {
            let s = &set[&id];
            let mut mine = BTreeSet::new();
            for past in before(s) {
                if counting.contains(&past) {
                    mine.insert(past);
                } else if let Some(theirs) = near.get(&past) {
                    mine.extend(theirs.iter().copied());
                }
            }
            if let Body::Edit(edit) = &s.body
                && counting.contains(&id)
            {
                let counted = Counted {
                    author: s.author,
                    at: s.hlc,
                    parents: mine.iter().copied().collect(),
                    ops: edit.ops.clone(),
                };
                self.edits.insert(id, counted);
            }
            near.insert(id, mine);
        }
    }

    /// Whose devices may ask over the remote API at a time; `true` for admins.
    pub fn devices(&self, now: Wall) -> BTreeMap<AuthorId, bool> {
        let mut out = BTreeMap::new();
        for right in self.rights.values() {
            let is_held = match (&right.allowed, right.not_after) {
                (Some(_), _) => false,
                (None, Some(end)) => now < end,
                (None, None) => true,
            };
            if is_held && !self.revoked.contains(&right.subject) {
                out.insert(right.subject, false);
            }
        }
        for admin in &self.admins {
            out.insert(*admin, true);
        }
        out
    }

    /// What stands at each path: of every edit that counts, what no other edit that counts and had seen it replaced.
    ///
    /// The statements are unordered: which one of several is in force is the document's own rule.
    pub fn standing(&self) -> BTreeMap<String, BTreeSet<StatementId>> {
        let mut past: BTreeMap<StatementId, BTreeSet<StatementId>> = BTreeMap::new();
        let mut open: Vec<StatementId> = self.edits.keys().copied().collect();
        while let Some(id) = open.pop() {
            if past.contains_key(&id) {
                continue;
            }
            let parents = &self.edits[&id].parents;
            let missing: Vec<_> = parents.iter().filter(|p| !past.contains_key(p)).collect();
            if missing.is_empty() {
                let mut mine: BTreeSet<StatementId> = parents.iter().copied().collect();
                for p in parents {
                    mine.extend(past[p].iter().copied());
                }
                past.insert(id, mine);
            } else {
                open.push(id);
                open.extend(missing);
            }
        }
        let mut touching: BTreeMap<&str, Vec<(StatementId, bool)>> = BTreeMap::new();
        for (id, edit) in &self.edits {
            for op in &edit.ops {
                let sets = matches!(op, Op::Set { .. });
                let list = touching.entry(op.path().as_str()).or_default();
                list.push((*id, sets));
            }
        }
        touching
            .into_iter()
            .filter_map(|(path, list)| {
                let stands: BTreeSet<StatementId> = list
                    .iter()
                    .filter(|(id, sets)| {
                        *sets && !list.iter().any(|(other, _)| past[other].contains(id))
                    })
                    .map(|(id, _)| *id)
                    .collect();
                (!stands.is_empty()).then(|| (path.to_owned(), stands))
            })
            .collect()
    }
}

/// What of an author's chain a cut keeps; `None` while the cut itself is not known.
fn kept(set: &Set, key: AuthorId, head: Option<StatementId>) -> Option<BTreeSet<StatementId>> {
    let mut out = BTreeSet::new();
    let Some(head) = head else { return Some(out) };
    let mut at = set.get(&head)?;
    if at.author != key {
        return Some(out);
    }
    loop {
        out.insert(at.id);
        if at.seq == 0 {
            return Some(out);
        }
        at = &set[&at.prev];
    }
}

fn is_for_admins(label: &Label) -> bool {
    label.key.starts_with("lab.")
}

/// Whether a scope covers a path or another scope.
fn is_prefix(scope: &str, path: &str) -> bool {
    let scope = scope.trim_end_matches('/');
    scope.is_empty()
        || path == scope
        || path
            .strip_prefix(scope)
            .is_some_and(|rest| rest.starts_with('/'))
}

/// Who must have seen a join for it to count.
fn is_asked(root: &Root, invite: &Invite, by: NodeId, seen_at: Wall) -> bool {
    seen_at <= invite.not_after
        && match invite.witness {
            WitnessRule::Any => {
                let registrars = &root.in_force.registrars;
                registrars.is_empty() || registrars.contains(&by)
            }
            WitnessRule::One(node) => node == by,
            WitnessRule::Quorum => root.in_force.registrars.contains(&by),
        }
}
