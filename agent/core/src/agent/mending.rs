//! A replica whose store lost records: whom it may ask for them, and what it says about it meanwhile.
//!
//! A damaged store may have lost the very statements that say who is a member, this node among them. Then the roster
//! admits too few, or nobody, and a pull that would bring everything back never begins. Whom this node knew in its
//! former life still stands elsewhere in the store: in the address book, and as the authors of reports, of which only
//! those of members are kept. Until the replica is whole again they are talked to like the sponsors of a newcomer,
//! unless the roster knows better.

use super::*;

use lab_crdt_model::Issue;
use lab_crdt_model::view::MemberState;

/// What a store lost, as far as it shows.
pub(super) struct Loss {
    /// Peers of the former life whose place in the roster was lost.
    former: BTreeSet<NodeId>,
}

impl Member {
    /// Looks for traces of lost records in what the store held.
    pub(super) fn look_for_losses(&mut self, me: &NodeId) {
        if !self.sponsors.is_empty() {
            return;
        }
        let Replica { log, registers, .. } = &mut self.replica;
        let name = log.name().unwrap_or_default();
        let authority = Arc::clone(log.shared_authority());
        let reporters = log.memo().step(
            || step_key("lost reporters", &[&name, &registers.digest()]),
            || {
                let mut nodes = registers.nodes();
                nodes.retain(|node| is_lost(&authority, node));
                nodes
            },
            |nodes| 32 * nodes.len(),
            PartialEq::eq,
        );
        let mut former: BTreeSet<NodeId> = self
            .known_addresses
            .keys()
            .filter(|node| is_lost(&authority, node))
            .chain(&*reporters)
            .copied()
            .collect();
        former.remove(me);
        let is_waiting = log.waiting_len() > 0;
        if is_waiting || is_lost(&authority, me) || !former.is_empty() {
            reached!("a store has lost statements");
            self.loss = Some(Loss { former });
        }
    }

    /// Strikes out of the address book whoever has no place in the mesh any more, so that an unknown name in it means
    /// that a record was lost.
    pub(super) fn forget_addresses(&mut self) {
        if self.loss.is_some() || !self.joined_told {
            return;
        }
        let members = &self.replica.log.authority().roster.members;
        let is_gone = |node: &NodeId| {
            let state = members.get(node).map(|m| m.state);
            matches!(state, None | Some(MemberState::Seen | MemberState::Revoked))
        };
        for (node, _) in self.known_addresses.extract_if(.., |node, _| is_gone(node)) {
            reached!("the address book forgets who has no place in the mesh any more");
            let (table, key) = (Table::Addresses, node.0.to_vec());
            self.replica.batch.push(StoreOp::Delete { table, key });
        }
    }

    /// Adds to who is admitted those of the former life who may still be members.
    pub(super) fn admit_former(
        &mut self,
        authority: &Authority,
        admit: &mut Arc<BTreeSet<NodeId>>,
    ) {
        let Some(loss) = &mut self.loss else { return };
        loss.former.retain(|node| is_lost(authority, node));
        if !loss.former.is_empty() {
            reached!("peers of a former life are asked for lost records");
            Arc::make_mut(admit).extend(&loss.former);
        }
    }

    /// Whether what the store lost is back: nothing waits, and a member by the roster holds the same.
    pub(super) fn is_mended(&mut self, me: &NodeId, now: Now) -> bool {
        if self.loss.is_none() || self.replica.log.waiting_len() > 0 {
            return false;
        }
        let members = &self.replica.log.authority().roster.members;
        let is_member = |node: &NodeId| {
            let member = members.get(node);
            member.is_some_and(|m| m.is_admitted_at(now.wall))
        };
        is_member(me)
            && self
                .mesh
                .linked()
                .any(|(node, _)| is_member(&node) && self.mesh.is_equal(&node) == Some(true))
    }

    /// Whether reports of strangers may be those of members whose admission was lost.
    pub(super) fn has_former(&self) -> bool {
        self.loss.as_ref().is_some_and(|it| !it.former.is_empty())
    }

    /// What people should know of the loss.
    pub(super) fn loss_issue(&self, me: &NodeId) -> Option<Issue> {
        self.loss.as_ref()?;
        let place = "replica";
        let count = self.admitted.iter().filter(|node| *node != me).count();
        if count > 0 {
            let what = "the store lost statements; they are asked for again";
            let help = format!("wait until one of {count} machines that it knows can be reached");
            return Some(Issue::warning("M040", place, what).with_help(help));
        }
        let what = "the store lost who the members of the mesh are: there is nobody left to ask";
        Some(
            Issue::error("M040", place, what)
                .with_help("move its folder away and join again: lab join TOKEN"),
        )
    }
}

/// Whether a node would be a member but for what is not here: statements say nothing of it, or that it came and not
/// who saw it. Who has to stay out is known.
fn is_lost(authority: &Authority, node: &NodeId) -> bool {
    let state = authority.roster.members.get(node).map(|m| m.state);
    matches!(state, None | Some(MemberState::Seen)) && !authority.revoked.contains(&node.author())
}

#[cfg(test)]
mod tests;
