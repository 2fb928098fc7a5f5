//! Once a node knows that a key was revoked, nothing beyond the cut counts there and the key holds no link.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use lab_agent_core::ViewMask;
use lab_crdt_log::{Body, Revoke};
use lab_crdt_model::{AuthorId, Mono, NodeId, StatementId};

use crate::oracle::evidence::Rota;
use crate::oracle::{Limits, Oracle, Seen, Verdict};
use crate::reference::envelope::{self, Said};

#[derive(Debug)]
pub(super) struct Revocations {
    link_ms: u64,
    rota: Rota,
    right: BTreeMap<usize, [u8; 32]>,
    /// Keys that a node knows to be revoked.
    known: BTreeMap<usize, BTreeSet<NodeId>>,
    /// Since when a link to a revoked key is seen.
    links: BTreeMap<(usize, NodeId), Mono>,
}

type Set = BTreeMap<StatementId, Rc<Said>>;

impl Revocations {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            link_ms: limits.revoked_link_ms,
            rota: Rota::default(),
            right: BTreeMap::new(),
            known: BTreeMap::new(),
            links: BTreeMap::new(),
        }
    }

    /// What was revoked beyond doubt: not an admin's key, by an admin against whom nobody says anything.
    fn revoked<'a>(seen: &dyn Seen, set: &'a Set) -> Vec<&'a Revoke> {
        let root = StatementId(seen.mesh().0);
        let admins: BTreeSet<AuthorId> = seen.root().admins.iter().map(|a| a.key).collect();
        let said: Vec<(&Said, &Revoke)> = set
            .values()
            .filter_map(|s| match &s.body {
                Body::Revoke(r) => Some((&**s, r)),
                _ => None,
            })
            .collect();
        let accused: BTreeSet<AuthorId> = said.iter().map(|(_, r)| r.key).collect();
        said.into_iter()
            .filter(|(s, r)| {
                s.under == root
                    && admins.contains(&s.author)
                    && !accused.contains(&s.author)
                    && !admins.contains(&r.key)
            })
            .map(|(_, r)| r)
            .collect()
    }

    /// What still counts; `None` while the cut is not known.
    fn kept(set: &Set, revoke: &Revoke) -> Option<BTreeSet<StatementId>> {
        let mut out = BTreeSet::new();
        let mut next = revoke.head;
        while let Some(id) = next {
            let s = set.get(&id)?;
            if s.author != revoke.key {
                break;
            }
            out.insert(id);
            next = (s.seq > 0).then_some(s.prev);
        }
        Some(out)
    }

    fn statements(&mut self, seen: &mut dyn Seen, node: usize) -> Verdict {
        let Some(digests) = seen.digests(node) else {
            return Ok(());
        };
        if self.right.get(&node) == Some(&digests.statements) {
            return Ok(());
        }
        let mask = ViewMask {
            fields: true,
            history_count: u32::MAX,
            ..ViewMask::default()
        };
        let Some(all) = seen.statements(node) else {
            return Ok(());
        };
        let set: Set = all
            .iter()
            .filter_map(envelope::read_shared)
            .map(|s| (s.id, s))
            .collect();
        let revoked = Self::revoked(seen, &set);
        // Nothing was revoked: what is shown cannot be wrong.
        let view = if revoked.is_empty() {
            None
        } else {
            let Some(view) = seen.view(node, mask) else {
                return Ok(());
            };
            Some(view)
        };
        let keys = revoked.iter().map(|r| r.key.node()).collect();
        self.known.insert(node, keys);
        let Some(view) = view else {
            self.right.insert(node, digests.statements);
            return Ok(());
        };
        for revoke in revoked {
            let Some(kept) = Self::kept(&set, revoke) else {
                continue;
            };
            let counted = view
                .history
                .iter()
                .filter(|c| c.is_effective && c.author == revoke.key && c.kind == "edit")
                .map(|c| c.id);
            let standing = view
                .fields
                .iter()
                .flat_map(|f| &f.candidates)
                .filter(|c| c.author == revoke.key)
                .map(|c| c.statement);
            if let Some(id) = counted.chain(standing).find(|id| !kept.contains(id)) {
                let what = format!(
                    "expected nothing of {:?} beyond {:?}, where it was revoked, seen {id:?}",
                    revoke.key, revoke.head
                );
                return self.broken(seen, Some(node), what);
            }
        }
        self.right.insert(node, digests.statements);
        Ok(())
    }

    fn links(&mut self, seen: &mut dyn Seen, node: usize) -> Verdict {
        let known = self.known.get(&node).cloned().unwrap_or_default();
        if known.is_empty() || seen.is_paused(node) {
            self.links.retain(|(n, _), _| *n != node);
            return Ok(());
        }
        let mask = ViewMask {
            reports: true,
            ..ViewMask::default()
        };
        let view = seen.view(node, mask);
        let linked: BTreeSet<NodeId> = view
            .iter()
            .flat_map(|v| &v.peers)
            .filter(|p| p.is_linked && known.contains(&p.node))
            .map(|p| p.node)
            .collect();
        self.links
            .retain(|(n, peer), _| *n != node || linked.contains(peer));
        let now = seen.now();
        for peer in linked {
            let since = *self.links.entry((node, peer)).or_insert(now);
            let ms = now.ms_since(since);
            if ms > self.link_ms {
                let what = format!(
                    "expected no link to {peer:?}, which was revoked, seen one for {ms} ms"
                );
                return self.broken(seen, Some(node), what);
            }
        }
        Ok(())
    }
}

impl Oracle for Revocations {
    fn name(&self) -> &'static str {
        "revoked_keys_change_nothing"
    }

    fn sample(&mut self, seen: &mut dyn Seen) -> Verdict {
        for node in self.rota.turn(seen.count()) {
            self.statements(seen, node)?;
            self.links(seen, node)?;
        }
        Ok(())
    }

    fn end(&mut self, seen: &mut dyn Seen) -> Verdict {
        for node in 0..seen.count() {
            self.statements(seen, node)?;
            self.links(seen, node)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use lab_crdt_model::view::ChangeView;
    use lab_crdt_model::{Hlc, Value};

    use super::*;
    use crate::oracle::fake::{ADMIN, Fake, author, key, set};

    fn shown(fake: &mut Fake, effective: &[StatementId]) {
        fake.hold_all(0);
        fake.node(0).view.history = effective
            .iter()
            .map(|id| ChangeView {
                id: *id,
                author: author(&key(10)),
                at: Hlc(0),
                kind: "edit".into(),
                message: String::new(),
                ops: vec![],
                is_effective: true,
                why_not: None,
                is_concurrent: false,
            })
            .collect();
    }

    #[test]
    fn an_edit_beyond_the_cut_that_counts_is_noticed() {
        let mut fake = Fake::new(1);
        let id = |bytes: bytes::Bytes| envelope::id_of(&bytes).unwrap();
        let [first, second] =
            [1, 2].map(|n| id(fake.sign(10, set("on/all/params/a", Value::Int(n)))));
        shown(&mut fake, &[first, second]);
        let limits = Limits::default();
        assert!(Revocations::new(&limits).end(&mut fake).is_ok());
        let revoke = Revoke {
            key: author(&key(10)),
            head: Some(first),
            reason: String::new(),
        };
        fake.sign(ADMIN, Body::Revoke(revoke));
        shown(&mut fake, &[first]);
        assert!(Revocations::new(&limits).end(&mut fake).is_ok());
        shown(&mut fake, &[first, second]);
        let violation = Revocations::new(&limits).end(&mut fake).unwrap_err();
        assert!(violation.what.contains(&format!("{second:?}")));
    }

    #[test]
    fn a_link_to_a_revoked_node_that_stays_is_noticed() {
        let mut fake = Fake::new(2);
        let revoke = Revoke {
            key: fake.id(1).author(),
            head: None,
            reason: String::new(),
        };
        fake.sign(ADMIN, Body::Revoke(revoke));
        fake.hold_all(0);
        fake.show_peer(0, 1);
        let mut oracle = Revocations::new(&Limits::default());
        assert!(oracle.sample(&mut fake).is_ok());
        fake.pass_ms(2_000);
        assert!(oracle.sample(&mut fake).is_err());
        fake.show_peer(0, 1).is_linked = false;
        assert!(oracle.sample(&mut fake).is_ok());
    }
}
