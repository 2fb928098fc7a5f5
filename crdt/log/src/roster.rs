//! Who is a member, and which tokens there are: derived from statements, the same on every replica.

use std::collections::BTreeMap;

use lab_crdt_model::view::{MemberState, Role};
use lab_crdt_model::{AuthorId, Hardware, Hlc, Label, NodeId, StatementId, Wall, mutant};

use crate::body::Invite;

/// Someone who joined or was admitted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Its key.
    pub node: NodeId,
    /// Unique among live members.
    pub name: String,
    /// Machine or person's device.
    pub role: Role,
    /// Where it stands, time aside: a laptop whose lease is over is still `Member` here; see [`Member::state_at`].
    pub state: MemberState,
    /// Labels from its token or admission.
    pub labels: Vec<Label>,
    /// Its join or admission.
    pub join: StatementId,
    /// The stamp of that statement.
    pub joined_at: Hlc,
    /// When those who had to witness it had done so, by their clocks; of the admitted the stamp of the admission.
    pub since: Option<Wall>,
    /// When a laptop's lease ends.
    pub not_after: Option<Wall>,
    /// A laptop's operator key.
    pub operator_key: Option<AuthorId>,
    /// What secrets for it are sealed to.
    pub seal_key: [u8; 32],
}

impl Member {
    /// Where it stands at a time.
    pub fn state_at(&self, now: Wall) -> MemberState {
        match (self.state, self.not_after) {
            (MemberState::Member | MemberState::Probation, Some(end))
                if now > end && !mutant!("M48") =>
            {
                MemberState::Expired
            }
            (state, _) => state,
        }
    }

    /// Whether it may hold a mesh link at a time.
    pub fn is_admitted_at(&self, now: Wall) -> bool {
        match self.state_at(now) {
            MemberState::Member | MemberState::Suspended => true,
            MemberState::Probation => !mutant!("M70"),
            MemberState::Seen | MemberState::Expired | MemberState::Revoked => false,
        }
    }
}

/// How far a join has come that is not settled.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JoinState {
    /// Who of those whom the token asks for saw it, and when first by their clocks.
    pub witnesses: BTreeMap<NodeId, Wall>,
    /// How many of them have to.
    pub needed: usize,
    /// Whether a person has to confirm it and has not.
    pub is_confirm_due: bool,
    /// What the newcomer says that it is made of.
    pub hardware: Option<Hardware>,
}

impl JoinState {
    /// Whether enough of them have seen it.
    pub fn is_witnessed(&self) -> bool {
        self.witnesses.len() >= self.needed
    }
}

/// A join token and what became of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InviteState {
    /// The invite.
    pub invite: Invite,
    /// Who made it.
    pub author: AuthorId,
    /// Whether its author was allowed to make it.
    pub is_effective: bool,
    /// Whether it was taken back.
    pub is_revoked: bool,
    /// Who joined with it and was seen by as many as it asks for.
    pub used_by: Vec<NodeId>,
}

impl InviteState {
    /// One word for people: `open`, `used`, `expired`, `revoked`, `double use`, `not allowed`.
    pub fn word_at(&self, now: Wall) -> &'static str {
        let uses = usize::from(self.invite.uses_max);
        if !self.is_effective {
            "not allowed"
        } else if self.used_by.len() > uses {
            "double use"
        } else if self.used_by.len() == uses {
            "used"
        } else if self.is_revoked {
            "revoked"
        } else if now > self.invite.not_after {
            "expired"
        } else {
            "open"
        }
    }
}

/// Members and tokens.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Roster {
    /// By node key.
    pub members: BTreeMap<NodeId, Member>,
    /// By the statement that made them.
    pub invites: BTreeMap<StatementId, InviteState>,
    /// Joins of those who are no full members, or were not when they were revoked.
    pub joins: BTreeMap<StatementId, JoinState>,
    /// When the leases of members and of those on probation end, ascending: between two of them nothing changes by time alone.
    pub lease_ends: Vec<Wall>,
}

impl Roster {
    /// Joins that more witnesses have to see.
    pub fn unwitnessed(&self) -> impl Iterator<Item = StatementId> + '_ {
        let joins = self.joins.iter().filter(|(_, j)| !j.is_witnessed());
        joins.map(|(id, _)| *id)
    }

    /// How many leases are over at a time: while that is the same, so is who is admitted.
    pub fn leases_over(&self, now: Wall) -> usize {
        self.lease_ends.partition_point(|end| now > *end)
    }

    /// The live member with a name.
    pub fn named(&self, name: &str) -> Option<&Member> {
        self.members
            .values()
            .find(|m| m.name == name && m.state != MemberState::Revoked)
    }
}
