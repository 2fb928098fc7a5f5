//! What a replica takes for intent is exactly what the slow reference makes of the statements that it holds.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use lab_agent_core::ViewMask;
use lab_crdt_model::StatementId;
use lab_crdt_model::view::ReplicaView;

use crate::oracle::{Digests, Limits, Oracle, Seen, Verdict};
use crate::reference::authority::Verdict as Authority;
use crate::reference::envelope;

#[derive(Debug)]
pub(super) struct Authorised {
    every: u64,
    samples: u64,
    /// What was found right lately.
    right: BTreeSet<Digests>,
}

impl Authorised {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            every: limits.reference_every.max(1),
            samples: 0,
            right: BTreeSet::new(),
        }
    }

    fn check(&mut self, seen: &mut dyn Seen, node: usize) -> Verdict {
        let Some(mut digests) = seen.digests(node) else {
            return Ok(());
        };
        digests.registers = [0; 32];
        if self.right.contains(&digests) {
            return Ok(());
        }
        let mask = ViewMask {
            roster: true,
            fields: true,
            reports: false,
            history_count: u32::MAX,
            chains: false,
        };
        let (Some(view), Some(all)) = (seen.view(node, mask), seen.statements(node)) else {
            return Ok(());
        };
        let shown: BTreeSet<StatementId> = view.history.iter().map(|c| c.id).collect();
        let held: BTreeSet<StatementId> = all.iter().filter_map(envelope::id_shared).collect();
        if shown != held {
            // What is told of the statements is a little older than what is shown: next time.
            return Ok(());
        }
        if let Err(what) = judge(seen, &view, &all) {
            return self.broken(seen, Some(node), what);
        }
        if self.right.len() >= 64 {
            self.right.clear();
        }
        self.right.insert(digests);
        Ok(())
    }
}

fn judge(seen: &dyn Seen, view: &ReplicaView, all: &[Bytes]) -> Result<(), String> {
    // What came late is judged by another oracle: here it is what the replica says.
    let late = view.operators.iter().filter_map(|o| o.late.as_ref());
    let late = late.flat_map(|l| l.changes.iter().copied()).collect();
    let reference = Authority::of_late(seen.mesh(), &seen.root(), all, &late);
    if let Some(change) = view
        .history
        .iter()
        .find(|c| !reference.admissible.contains(&c.id))
    {
        return Err(format!(
            "expected {:?} ({} by {:?}) never to be stored: nobody gave its author any standing, or it breaks its chain",
            change.id, change.kind, change.author
        ));
    }
    for change in view.history.iter().filter(|c| c.kind == "edit") {
        let counts = reference.edits.contains_key(&change.id);
        if counts != change.is_effective {
            return Err(format!(
                "expected {:?} of {:?} {}, seen {} ({})",
                change.id,
                change.author,
                if counts { "to count" } else { "to be void" },
                if change.is_effective {
                    "counting"
                } else {
                    "void"
                },
                change.why_not.as_deref().unwrap_or("no reason"),
            ));
        }
    }
    let standing = reference.standing();
    let shown: BTreeMap<String, BTreeSet<StatementId>> = view
        .fields
        .iter()
        .map(|f| {
            let ids = f.candidates.iter().map(|c| c.statement).collect();
            (f.path.as_str().to_owned(), ids)
        })
        .collect();
    let paths: BTreeSet<&String> = standing.keys().chain(shown.keys()).collect();
    for path in paths {
        if standing.get(path) != shown.get(path) {
            return Err(format!(
                "expected at {path} the values of {:?}, seen {:?}",
                standing.get(path),
                shown.get(path)
            ));
        }
    }
    members(view, &reference)
}

fn members(view: &ReplicaView, reference: &Authority) -> Result<(), String> {
    if view.members.len() != reference.members.len() {
        return Err(format!(
            "expected {} members, seen {}",
            reference.members.len(),
            view.members.len()
        ));
    }
    for shown in &view.members {
        let Some(m) = reference.members.get(&shown.node) else {
            return Err(format!("expected {:?} not to be a member", shown.node));
        };
        let labels: Vec<String> = m.labels.iter().map(ToString::to_string).collect();
        let want = (&m.name, m.state_at(view.at), &labels, m.join, m.not_after);
        let have = (
            &shown.name,
            shown.state,
            &shown.labels,
            shown.join,
            shown.not_after,
        );
        if want != have {
            return Err(format!(
                "expected of member {:?} {want:?}, seen {have:?}",
                shown.node
            ));
        }
    }
    Ok(())
}

impl Oracle for Authorised {
    fn name(&self) -> &'static str {
        "only_authorised_intent_counts"
    }

    fn sample(&mut self, seen: &mut dyn Seen) -> Verdict {
        self.samples += 1;
        if !self.samples.is_multiple_of(self.every) || seen.count() == 0 {
            return Ok(());
        }
        let turn = (self.samples / self.every) as usize % seen.count();
        self.check(seen, turn)
    }

    fn end(&mut self, seen: &mut dyn Seen) -> Verdict {
        // What was right may be wrong by now, though no statement came: leases end.
        self.right.clear();
        for node in 0..seen.count() {
            self.check(seen, node)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use lab_crdt_model::Value;
    use lab_crdt_model::view::{CandidateView, ChangeView, FieldView, MemberView};

    use super::*;
    use crate::oracle::fake::{Fake, key, set};

    /// A node that shows what the reference says.
    fn shown(fake: &mut Fake) {
        fake.hold_all(0);
        let reference = Authority::of(fake.mesh(), &fake.root(), &fake.said);
        let mut view = fake.node(0).view.clone();
        view.history = fake
            .said
            .iter()
            .filter_map(|b| envelope::read(b))
            .map(|s| ChangeView {
                id: s.id,
                author: s.author,
                at: s.hlc,
                kind: s.body.word().to_owned(),
                message: String::new(),
                ops: vec![],
                is_effective: reference.edits.contains_key(&s.id),
                why_not: None,
                is_concurrent: false,
            })
            .collect();
        view.fields = reference
            .standing()
            .into_iter()
            .map(|(path, ids)| FieldView {
                path: path.parse().unwrap(),
                candidates: ids
                    .into_iter()
                    .map(|id| CandidateView {
                        field: lab_crdt_model::Field::new(Value::Bool(true), "person:ana"),
                        statement: id,
                        author: reference.edits[&id].author,
                        at: reference.edits[&id].at,
                    })
                    .collect(),
            })
            .collect();
        view.members = reference
            .members
            .iter()
            .map(|(node, m)| MemberView {
                node: *node,
                name: m.name.clone(),
                role: m.role,
                state: m.state,
                labels: vec![],
                join: m.join,
                joined_at: m.joined_at,
                not_after: None,
            })
            .collect();
        fake.node(0).view = view;
    }

    fn verdict(fake: &mut Fake) -> Verdict {
        Authorised::new(&Limits::default()).end(fake)
    }

    #[test]
    fn a_replica_that_shows_what_was_said_is_right() {
        let mut fake = Fake::new(1);
        fake.says("on/all/params/a");
        fake.says("on/all/params/a");
        fake.says("on/all/params/b");
        shown(&mut fake);
        assert_eq!(fake.node(0).view.fields.len(), 2);
        assert!(verdict(&mut fake).is_ok());
    }

    #[test]
    fn a_stranger_in_the_store_is_noticed() {
        let mut fake = Fake::new(1);
        fake.sign(77, set("on/all/params/evil", Value::Bool(true)));
        shown(&mut fake);
        let violation = verdict(&mut fake).unwrap_err();
        assert!(violation.what.contains("never to be stored"), "{violation}");
    }

    #[test]
    fn an_edit_that_counts_without_right_is_noticed() {
        let mut fake = Fake::new(1);
        let grant = lab_crdt_log::Grant {
            subject: crate::oracle::fake::author(&key(10)),
            name: "bob".into(),
            rights: lab_crdt_log::Rights::ALL,
            scope: vec!["on/web".into()],
            not_after: None,
        };
        let grant = fake.sign(crate::oracle::fake::ADMIN, lab_crdt_log::Body::Grant(grant));
        let under = envelope::id_of(&grant).unwrap();
        let body = set("on/all/params/x", Value::Bool(true));
        fake.sign_under(&key(10), under, vec![], body);
        shown(&mut fake);
        assert!(verdict(&mut fake).is_ok());
        fake.node(0).view.history.last_mut().unwrap().is_effective = true;
        let violation = verdict(&mut fake).unwrap_err();
        assert!(violation.what.contains("to be void"), "{violation}");
    }

    #[test]
    fn a_superseded_value_that_stands_and_a_value_that_is_missing_are_noticed() {
        let mut fake = Fake::new(1);
        let first = fake.says("on/all/params/a");
        fake.says("on/all/params/a");
        shown(&mut fake);
        let good = fake.node(0).view.fields.clone();
        fake.node(0).view.fields[0].candidates[0].statement = envelope::id_of(&first).unwrap();
        assert!(verdict(&mut fake).is_err());
        fake.node(0).view.fields.clear();
        assert!(verdict(&mut fake).is_err());
        fake.node(0).view.fields = good;
        assert!(verdict(&mut fake).is_ok());
    }

    #[test]
    fn a_member_in_another_state_is_noticed() {
        let mut fake = Fake::new(2);
        shown(&mut fake);
        assert!(verdict(&mut fake).is_ok());
        fake.node(0).view.members[0].state = lab_crdt_model::view::MemberState::Suspended;
        assert!(verdict(&mut fake).is_err());
    }
}
