//! A token lets in as many as it says, in time: whoever came beyond that does not count until a person confirms.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use lab_agent_core::ViewMask;
use lab_crdt_log::{Body, Invite};
use lab_crdt_model::view::MemberState;
use lab_crdt_model::{NodeId, StatementId};

use crate::oracle::evidence::Rota;
use crate::oracle::{Oracle, Seen, Verdict};
use crate::reference::envelope::{self, Said};

#[derive(Debug, Default)]
pub(super) struct Tokens {
    rota: Rota,
    right: BTreeMap<usize, [u8; 32]>,
}

impl Tokens {
    fn check(&mut self, seen: &mut dyn Seen, node: usize) -> Verdict {
        let Some(digests) = seen.digests(node) else {
            return Ok(());
        };
        if self.right.get(&node) == Some(&digests.statements) {
            return Ok(());
        }
        let mask = ViewMask {
            roster: true,
            ..ViewMask::default()
        };
        let (Some(view), Some(all)) = (seen.view(node, mask), seen.statements(node)) else {
            return Ok(());
        };
        let said: BTreeMap<StatementId, Rc<Said>> = all
            .iter()
            .filter_map(envelope::read_shared)
            .map(|s| (s.id, s))
            .collect();
        let confirmed: BTreeSet<StatementId> = said
            .values()
            .filter_map(|s| match &s.body {
                Body::Confirm(c) => Some(c.join),
                _ => None,
            })
            .collect();
        let mut users: BTreeMap<StatementId, Vec<(NodeId, StatementId)>> = BTreeMap::new();
        for member in &view.members {
            let Some(Body::Join(join)) = said.get(&member.join).map(|s| &s.body) else {
                continue;
            };
            let terms = said.get(&join.invite).map(|s| &s.body);
            let is_confirm_due = matches!(terms, Some(Body::Invite(terms)) if terms.confirm);
            // A lease may end before anybody confirms that there should be one.
            let is_in = match member.state {
                MemberState::Member => true,
                MemberState::Expired => !is_confirm_due || confirmed.contains(&member.join),
                _ => false,
            };
            if is_in {
                let list = users.entry(join.invite).or_default();
                list.push((member.node, member.join));
            }
        }
        for (invite, users) in users {
            let Some(Body::Invite(terms)) = said.get(&invite).map(|s| &s.body) else {
                let what = format!("expected {users:?} to have joined with a token, seen none");
                return self.broken(seen, Some(node), what);
            };
            if let Err(what) = judge(terms, &users, &confirmed, &said) {
                return self.broken(seen, Some(node), format!("token {invite:?}: {what}"));
            }
        }
        self.right.insert(node, digests.statements);
        Ok(())
    }
}

fn judge(
    terms: &Invite,
    users: &[(NodeId, StatementId)],
    confirmed: &BTreeSet<StatementId>,
    said: &BTreeMap<StatementId, Rc<Said>>,
) -> Result<(), String> {
    let surplus = users.iter().find(|(_, join)| !confirmed.contains(join));
    if let Some((node, _)) = surplus.filter(|_| users.len() > usize::from(terms.uses_max)) {
        return Err(format!(
            "expected at most {} members by it, seen {}, of whom {node:?} was never confirmed",
            terms.uses_max,
            users.len()
        ));
    }
    for (node, join) in users {
        let was_seen = said.values().any(|s| {
            matches!(&s.body, Body::Witness(w)
                if w.join == *join && w.seen_at <= terms.not_after && s.author != node.author())
        });
        if !was_seen {
            return Err(format!(
                "expected {node:?} not to be a member: nobody saw its join before the token ended"
            ));
        }
        if terms.confirm && !confirmed.contains(join) {
            return Err(format!(
                "expected {node:?} not to be a member before a person confirms"
            ));
        }
    }
    Ok(())
}

impl Oracle for Tokens {
    fn name(&self) -> &'static str {
        "tokens_admit_once"
    }

    fn sample(&mut self, seen: &mut dyn Seen) -> Verdict {
        let turn = self.rota.turn(seen.count());
        turn.into_iter().try_for_each(|node| self.check(seen, node))
    }

    fn end(&mut self, seen: &mut dyn Seen) -> Verdict {
        (0..seen.count()).try_for_each(|node| self.check(seen, node))
    }
}

#[cfg(test)]
mod tests {
    use lab_crdt_log::{Confirm, Join, Rights, Witness, WitnessRule};
    use lab_crdt_model::view::{MemberView, Role};
    use lab_crdt_model::{Hlc, Wall};

    use super::*;
    use crate::oracle::fake::{ADMIN, Fake, author, key};

    /// Two machines join with a token for one.
    fn joined(fake: &mut Fake) -> Vec<StatementId> {
        let invite = Invite {
            token_key: [1; 32],
            uses_max: 1,
            not_after: Wall(100),
            role: Role::Node,
            name: None,
            labels: vec![],
            rights: Rights::default(),
            scope: vec![],
            lease_ms: 0,
            witness: WitnessRule::Any,
            confirm: false,
            mesh_mac: [0; 32],
            binding: None,
        };
        let id = |bytes: bytes::Bytes| envelope::id_of(&bytes).unwrap();
        let invite = id(fake.sign(ADMIN, Body::Invite(invite)));
        let joins: Vec<StatementId> = [60, 61]
            .map(|n| {
                let join = Join {
                    invite,
                    seal_key: [0; 32],
                    operator_key: None,
                    token_signature: [0; 64],
                    hardware: None,
                };
                id(fake.sign(n, Body::Join(join)))
            })
            .to_vec();
        for join in &joins {
            let witness = Witness {
                join: *join,
                seen_at: Wall(90),
            };
            fake.sign(62, Body::Witness(witness));
        }
        fake.hold_all(0);
        joins
    }

    fn show(fake: &mut Fake, joins: &[StatementId], states: [MemberState; 2]) {
        let members = joins.iter().zip([60, 61]).zip(states);
        fake.node(0).view.members = members
            .map(|((join, n), state)| MemberView {
                node: author(&key(n)).node(),
                name: format!("m{n}"),
                role: Role::Node,
                state,
                labels: vec![],
                join: *join,
                joined_at: Hlc(0),
                not_after: None,
            })
            .collect();
    }

    #[test]
    fn a_second_member_by_a_token_for_one_is_noticed_unless_confirmed() {
        use MemberState::{Member, Suspended};
        let mut fake = Fake::new(1);
        let joins = joined(&mut fake);
        for (states, is_right) in [
            ([Member, Suspended], true),
            ([Suspended, Suspended], true),
            ([Member, Member], false),
        ] {
            show(&mut fake, &joins, states);
            assert_eq!(Tokens::default().end(&mut fake).is_ok(), is_right);
        }
        for join in joins {
            fake.sign(ADMIN, Body::Confirm(Confirm { join }));
        }
        fake.hold_all(0);
        assert!(Tokens::default().end(&mut fake).is_ok());
    }

    #[test]
    fn a_member_whom_nobody_saw_in_time_is_noticed() {
        let mut fake = Fake::new(1);
        let joins = joined(&mut fake);
        show(&mut fake, &joins, [MemberState::Member, MemberState::Seen]);
        assert!(Tokens::default().sample(&mut fake).is_ok());
        fake.node(0)
            .statements
            .retain(|b| !matches!(envelope::read(b).unwrap().body, Body::Witness(_)));
        assert!(Tokens::default().sample(&mut fake).is_err());
    }
}
