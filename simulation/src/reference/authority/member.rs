//! Who is a member, under which name, and which tokens let whom in.

use std::collections::{BTreeMap, BTreeSet};

use lab_crdt_log::{Body, Invite, Join, WitnessRule};
use lab_crdt_model::view::{MemberState, Role};
use lab_crdt_model::{AuthorId, Hlc, Label, NodeId, StatementId, Wall};

use super::{Right, Root, Said, Set, Token, Verdict, is_asked};

/// Someone who joined.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Membership {
    /// Unique among those who are not revoked.
    pub name: String,
    /// Machine or person's device.
    pub role: Role,
    /// Where it stands, leases aside.
    pub state: MemberState,
    /// Labels that it was let in with.
    pub labels: Vec<Label>,
    /// Its join or admission.
    pub join: StatementId,
    /// The stamp of that statement.
    pub joined_at: Hlc,
    /// Since when it is a member, by those who saw it join.
    pub since: Option<Wall>,
    /// When its lease ends.
    pub not_after: Option<Wall>,
    /// A laptop's operator key.
    pub operator_key: Option<AuthorId>,
    /// Its token; `None` for those whom an admin let in by key.
    pub invite: Option<StatementId>,
    /// As many as its token asks for have seen it.
    is_seen: bool,
    /// It was a full member until it was revoked.
    was_member: bool,
}

impl Membership {
    /// Whether it may hold links at a time.
    pub fn is_live_at(&self, now: Wall) -> bool {
        use MemberState::{Member, Probation, Suspended};
        matches!(self.state, Member | Suspended | Probation)
            && self.not_after.is_none_or(|end| now <= end)
    }

    /// Where it stands at a time.
    pub fn state_at(&self, now: Wall) -> MemberState {
        let is_over = self.not_after.is_some_and(|end| now > end);
        let can_end = matches!(self.state, MemberState::Member | MemberState::Probation);
        if can_end && is_over {
            MemberState::Expired
        } else {
            self.state
        }
    }
}

/// Whether a newcomer is the machine that a token asks for, as far as it says.
fn is_the_machine(invite: &Invite, join: &Join) -> bool {
    let Some(asked) = &invite.binding else {
        return true;
    };
    let Some(has) = &join.hardware else {
        return false;
    };
    let lower = |text: &Option<String>| text.as_ref().map(|t| t.to_lowercase());
    (asked.mac.is_none() || has.macs.iter().any(|mac| Some(*mac) == asked.mac))
        && (asked.serial.is_none() || lower(&asked.serial) == lower(&has.serial))
}

/// What laptops may write: by all that is known, and by what is agreed on alone.
#[derive(Default)]
struct Writing {
    known: BTreeMap<StatementId, Right>,
    agreed: BTreeMap<StatementId, Right>,
}

/// Who saw a join, and when first.
type Words = BTreeMap<StatementId, BTreeMap<NodeId, Wall>>;
type Joins<'a> = BTreeMap<StatementId, (&'a Said, &'a Join, &'a Invite)>;

impl Verdict {
    /// Tokens, members, and what laptops may write. Laptops may make tokens for nodes, so there are two rounds.
    pub(super) fn admit(&mut self, root: &Root, set: &Set) {
        let mut writing = Writing::default();
        for is_first in [true, false] {
            for s in set.values() {
                let Body::Invite(invite) = &s.body else {
                    continue;
                };
                let may = self.may_invite(root, s, invite, is_first);
                let token = self.tokens.entry(s.id).or_insert_with(|| Token {
                    author: s.author,
                    is_effective: false,
                    is_revoked: false,
                    uses_max: invite.uses_max,
                    used_by: Vec::new(),
                });
                token.is_effective |= may;
            }
            self.members = self.members_of(root, set, &self.revoked);
            self.let_laptops_write(root, set, &mut writing);
        }
        for s in set.values() {
            let Body::RevokeInvite(r) = &s.body else {
                continue;
            };
            let is_by_admin = self.is_by_admin(root, s);
            let is_allowed = self.is_allowed(&s.author, &s.id);
            if let Some(token) = self.tokens.get_mut(&r.invite) {
                token.is_revoked |= is_by_admin || (token.author == s.author && is_allowed);
            }
        }
        for (node, m) in &self.members {
            if let Some(token) = m.invite.and_then(|i| self.tokens.get_mut(&i))
                && m.is_seen
            {
                token.used_by.push(*node);
            }
        }
    }

    fn let_laptops_write(&mut self, root: &Root, set: &Set, writing: &mut Writing) {
        for (join, right) in self.rights_of_laptops(set, &self.members, &self.revoked) {
            writing.known.entry(join).or_insert(right);
        }
        let agreed: Set = set
            .iter()
            .filter(|(id, _)| self.agreed.contains(id))
            .map(|(id, s)| (*id, s.clone()))
            .collect();
        let invites = set
            .iter()
            .filter(|(_, s)| matches!(s.body, Body::Invite(_)))
            .map(|(id, s)| (*id, s.clone()));
        let seen: Set = invites.chain(agreed).collect();
        let members = self.members_of(root, &seen, &self.ended);
        for (join, right) in self.rights_of_laptops(set, &members, &self.ended) {
            writing.agreed.entry(join).or_insert(right);
        }
        let joins: BTreeSet<StatementId> = [&writing.known, &writing.agreed]
            .into_iter()
            .flat_map(|rights| rights.keys().copied())
            .collect();
        for join in joins {
            let right = match (writing.agreed.get(&join), writing.known.get(&join)) {
                (Some(agreed), Some(_)) => agreed.clone(),
                (Some(agreed), None) => Right {
                    allowed: Some(self.agreed_of(set, agreed.subject)),
                    ..agreed.clone()
                },
                (None, Some(known)) => known.clone(),
                (None, None) => continue,
            };
            self.rights.insert(join, right);
            self.end_right(root, set, join);
        }
    }

    /// What laptops may write if these are the members and these keys at an end.
    fn rights_of_laptops(
        &self,
        set: &Set,
        members: &BTreeMap<NodeId, Membership>,
        revoked: &BTreeSet<AuthorId>,
    ) -> Vec<(StatementId, Right)> {
        let mut out = Vec::new();
        for m in members.values() {
            let Some((key, invite)) = m.operator_key.zip(m.invite) else {
                continue;
            };
            let Some(Body::Invite(terms)) = set.get(&invite).map(|s| &s.body) else {
                continue;
            };
            if m.state != MemberState::Member && !(m.was_member && revoked.contains(&key)) {
                continue;
            }
            let issuer = self.rights.get(&set[&invite].under);
            let ends = [m.not_after, issuer.and_then(|r| r.not_after)];
            let right = Right {
                subject: key,
                rights: terms.rights,
                scope: terms.scope.clone(),
                not_after: ends.into_iter().flatten().min(),
                allowed: None,
            };
            out.push((m.join, right));
        }
        out
    }

    fn members_of(
        &self,
        root: &Root,
        set: &Set,
        revoked: &BTreeSet<AuthorId>,
    ) -> BTreeMap<NodeId, Membership> {
        let mut out: BTreeMap<NodeId, Membership> = BTreeMap::new();
        let said = |s: &&Said| self.is_allowed(&s.author, &s.id);
        for s in set.values().filter(said) {
            if let Body::Admit(admit) = &s.body
                && self.is_by_admin(root, s)
            {
                out.entry(admit.node).or_insert_with(|| Membership {
                    name: admit.name.clone(),
                    role: admit.role,
                    state: MemberState::Member,
                    labels: admit.labels.clone(),
                    join: s.id,
                    joined_at: s.hlc,
                    since: Some(s.hlc.wall()),
                    not_after: None,
                    operator_key: None,
                    invite: None,
                    is_seen: true,
                    was_member: false,
                });
            }
        }
        let mut joins = Joins::new();
        let mut confirmed: BTreeSet<StatementId> = BTreeSet::new();
        for s in set.values().filter(said) {
            match &s.body {
                Body::Join(join)
                    if self
                        .tokens
                        .get(&join.invite)
                        .is_some_and(|t| t.is_effective) =>
                {
                    if let Some(Body::Invite(invite)) = set.get(&join.invite).map(|i| &i.body)
                        && is_the_machine(invite, join)
                    {
                        joins.insert(s.id, (s, join, invite));
                    }
                }
                Body::Confirm(c) if self.may_confirm(root, s) => drop(confirmed.insert(c.join)),
                _ => {}
            }
        }
        let (seen_at, words) = self.witnessed(root, set, &joins, &confirmed, out.keys().copied());
        for (id, (s, join, invite)) in &joins {
            let uses = seen_at
                .keys()
                .filter(|other| joins[*other].1.invite == join.invite)
                .count();
            let is_confirmed = confirmed.contains(id);
            let state = if !words.contains_key(id) {
                MemberState::Seen
            } else if !seen_at.contains_key(id) {
                MemberState::Probation
            } else if uses > usize::from(invite.uses_max) && !is_confirmed {
                MemberState::Suspended
            } else if invite.confirm && !is_confirmed {
                MemberState::Probation
            } else {
                MemberState::Member
            };
            let lease = seen_at.get(id).filter(|_| invite.lease_ms > 0);
            let node = s.author.node();
            out.entry(node).or_insert_with(|| Membership {
                name: invite
                    .name
                    .clone()
                    .unwrap_or_else(|| format!("n-{}", node.short())),
                role: invite.role,
                state,
                labels: invite.labels.clone(),
                join: *id,
                joined_at: s.hlc,
                since: seen_at.get(id).copied(),
                not_after: lease.map(|at| Wall(at.0.saturating_add(invite.lease_ms))),
                operator_key: join.operator_key.filter(|_| invite.role == Role::Laptop),
                invite: Some(join.invite),
                is_seen: seen_at.contains_key(id),
                was_member: false,
            });
        }
        for (node, m) in &mut out {
            if revoked.contains(&node.author()) {
                m.was_member = m.state == MemberState::Member;
                m.state = MemberState::Revoked;
            }
        }
        self.name(root, &mut out);
        out
    }

    /// Joins that as many registrars saw as have to, with the time of the last of these; and every join that any saw.
    /// Registrars are members, or joins that were seen.
    fn witnessed(
        &self,
        root: &Root,
        set: &Set,
        joins: &Joins<'_>,
        confirmed: &BTreeSet<StatementId>,
        admitted: impl Iterator<Item = NodeId>,
    ) -> (BTreeMap<StatementId, Wall>, Words) {
        let mut registrars: BTreeSet<NodeId> = admitted.collect();
        let mut words = Words::new();
        let mut seen_at: BTreeMap<StatementId, Wall> = BTreeMap::new();
        loop {
            let before = (registrars.len(), words.clone());
            for s in set.values().filter(|s| self.is_allowed(&s.author, &s.id)) {
                let Body::Witness(w) = &s.body else { continue };
                let Some((join, _, invite)) = joins.get(&w.join) else {
                    continue;
                };
                let by = s.author.node();
                if s.author == join.author
                    || !registrars.contains(&by)
                    || !is_asked(root, invite, by, w.seen_at)
                {
                    continue;
                }
                let of_join = words.entry(w.join).or_default();
                let first = of_join.entry(by).or_insert(w.seen_at);
                *first = w.seen_at.min(*first);
                let mut times: Vec<Wall> = of_join.values().copied().collect();
                times.sort();
                // More than half of those whom the root record names.
                let is_quorum = invite.witness == WitnessRule::Quorum;
                let half = root.in_force.registrars.len() / 2;
                let Some(at) = times.get(if is_quorum { half } else { 0 }) else {
                    continue;
                };
                seen_at.insert(w.join, *at);
                if !invite.confirm || confirmed.contains(&w.join) {
                    registrars.insert(join.author.node());
                }
            }
            if before == (registrars.len(), words.clone()) {
                return (seen_at, words);
            }
        }
    }

    /// Gives everyone who is not revoked a name of its own. First come those who were seen; of these, those whom an
    /// admin let in; of these, full members; of equals, the lowest statement.
    fn name(&self, root: &Root, members: &mut BTreeMap<NodeId, Membership>) {
        let mut order: Vec<_> = members
            .iter()
            .filter(|(_, m)| m.state != MemberState::Revoked)
            .map(|(node, m)| {
                let token = m.invite.and_then(|i| self.tokens.get(&i));
                let is_by_operator = token.is_some_and(|t| !root.admins.contains(&t.author));
                let is_full = m.state == MemberState::Member;
                let last = [MemberState::Probation, MemberState::Seen];
                let rank = last
                    .iter()
                    .position(|s| *s == m.state)
                    .map_or(0, |at| at + 1);
                (rank, is_by_operator, !is_full, m.join, *node)
            })
            .collect();
        order.sort();
        let mut taken: BTreeSet<String> = BTreeSet::new();
        let mut next: BTreeMap<String, u32> = BTreeMap::new();
        for (.., node) in order {
            let Some(m) = members.get_mut(&node) else {
                continue;
            };
            let wanted = m.name.clone();
            while !taken.insert(m.name.clone()) {
                let number = next.entry(wanted.clone()).or_insert(2);
                m.name = format!("{wanted}-{number}");
                *number += 1;
            }
        }
    }
}
