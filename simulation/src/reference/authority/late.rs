//! What came after the end of its grant: what of it others had heard in time, and what waits.

use std::collections::BTreeSet;

use lab_crdt_log::Body;
use lab_crdt_model::view::{MemberState, Role};
use lab_crdt_model::{NodeId, StatementId, Wall};

use super::{Root, Said, Set, Verdict, kept};

/// How many nodes are asked when nobody is named.
const ASKED_MAX: usize = 5;

impl Verdict {
    /// What waits for an admin.
    pub(super) fn wait(
        &self,
        root: &Root,
        set: &Set,
        late: &BTreeSet<StatementId>,
    ) -> BTreeSet<StatementId> {
        let open = late.difference(&self.agreed);
        let said = open.filter_map(|id| set.get(id));
        let waiting = said.filter(|s| {
            let right = self.rights.get(&s.under);
            let right = right.filter(|r| r.subject == s.author && r.allowed.is_none());
            let end = right.and_then(|r| r.not_after);
            end.is_some_and(|end| !self.is_known_in_time(root, set, s, end))
        });
        waiting.map(|s| s.id).collect()
    }

    /// Whether at least half of those who are asked had heard something by the end of its grant.
    fn is_known_in_time(&self, root: &Root, set: &Set, s: &Said, end: Wall) -> bool {
        let asked = self.asked(&root.in_force.registrars, &s.under, end);
        let has_heard = |node: &&NodeId| {
            let by_node = set
                .values()
                .filter(|v| v.author == node.author() && self.is_allowed(&v.author, &v.id));
            by_node.into_iter().any(|v| match &v.body {
                Body::Vouch(vouch) if vouch.grant == s.under => vouch
                    .heads
                    .iter()
                    .filter(|head| v.refs.contains(head))
                    .filter_map(|head| kept(set, s.author, Some(*head)))
                    .any(|heard| heard.contains(&s.id)),
                _ => false,
            })
        };
        let count = asked.iter().filter(has_heard).count();
        count > 0 && 2 * count >= asked.len()
    }

    /// Registrars, or five machines by the hash of grant and key, that were members before the end.
    pub fn asked(&self, registrars: &[NodeId], grant: &StatementId, end: Wall) -> Vec<NodeId> {
        let mut asked: Vec<([u8; 32], NodeId)> = Vec::new();
        for (node, m) in &self.members {
            let is_there = m.role == Role::Node && m.state == MemberState::Member;
            let is_old = m.since.is_some_and(|since| since < end);
            if is_there && is_old && (registrars.is_empty() || registrars.contains(node)) {
                let place = [&b"lab/vouch/1\0"[..], &grant.0, &node.0].concat();
                asked.push((*blake3::hash(&place).as_bytes(), *node));
            }
        }
        asked.sort_unstable();
        if registrars.is_empty() {
            asked.truncate(ASKED_MAX);
        }
        asked.into_iter().map(|(_, node)| node).collect()
    }
}
