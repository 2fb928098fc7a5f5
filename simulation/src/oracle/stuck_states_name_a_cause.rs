//! What does not get on says why: writes that the disk refuses, statements that wait, config that is not carried
//! out, peers that stay unequal.

use std::collections::{BTreeMap, BTreeSet};

use lab_agent_core::{Event, ViewMask};
use lab_crdt_model::view::{Liveness, ReplicaView};
use lab_crdt_model::{Mono, NodeId};

use crate::oracle::evidence::Rota;
use crate::oracle::{Limits, Note, Oracle, Seen, Verdict, What};

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Stuck {
    /// These many statements wait.
    Waiting,
    /// This config is wanted and not carried out.
    Config([u8; 32]),
    /// This living peer is unequal.
    Unequal(NodeId),
}

#[derive(Debug)]
pub(super) struct Causes {
    stuck_ms: u64,
    rota: Rota,
    since: BTreeMap<(usize, Stuck), (Mono, [u8; 32])>,
    /// Peers that a node said stay unequal.
    told: BTreeSet<(usize, NodeId)>,
    /// Nodes whose disk refused a write, which they have not told yet.
    untold: BTreeSet<usize>,
}

impl Causes {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            stuck_ms: limits.stuck_ms,
            rota: Rota::default(),
            since: BTreeMap::new(),
            told: BTreeSet::new(),
            untold: BTreeSet::new(),
        }
    }

    /// What does not get on, and whether a cause is shown.
    fn stuck(&self, node: usize, view: &ReplicaView) -> BTreeMap<Stuck, bool> {
        let mut out = BTreeMap::new();
        if view.pending_count > 0 {
            let is_named = !view.issues.is_empty() || !view.refused.is_empty();
            out.insert(Stuck::Waiting, is_named);
        }
        let own = view.reports.iter().find(|r| r.node == view.me);
        if let Some((status, _)) = own.and_then(|r| r.status.as_ref())
            && status.desired != status.applied
        {
            // A store that takes no writes takes no report either.
            let has_no_store = view.issues.iter().any(|issue| issue.code == "M041");
            let is_named = has_no_store || status.resources.iter().any(|r| !r.message.is_empty());
            out.insert(Stuck::Config(status.desired), is_named);
        }
        for peer in &view.peers {
            let is_unequal = peer.is_equal == Some(false);
            if is_unequal && peer.is_linked && peer.liveness == Liveness::Alive {
                let is_named = self.told.contains(&(node, peer.node));
                out.insert(Stuck::Unequal(peer.node), is_named);
            }
        }
        out
    }
}

impl Oracle for Causes {
    fn name(&self) -> &'static str {
        "stuck_states_name_a_cause"
    }

    fn note(&mut self, _seen: &mut dyn Seen, note: &Note) -> Verdict {
        match &note.what {
            What::Stored { is_ok: false } => drop(self.untold.insert(note.node)),
            What::Told(Event::StoreFailed { .. }) => drop(self.untold.remove(&note.node)),
            What::Told(Event::ReplicasDiverged { peer, .. }) => {
                self.told.insert((note.node, *peer));
            }
            What::Killed | What::Started | What::Paused | What::Resumed => {
                self.untold.remove(&note.node);
                self.told.retain(|(node, _)| *node != note.node);
                self.since.retain(|(node, _), _| *node != note.node);
            }
            _ => {}
        }
        Ok(())
    }

    fn sample(&mut self, seen: &mut dyn Seen) -> Verdict {
        let silent = self.untold.iter().copied().find(|n| !seen.is_paused(*n));
        if let Some(node) = silent {
            self.untold.clear();
            let what = "expected to be told that the disk refused a write, seen nothing".to_owned();
            return self.broken(seen, Some(node), what);
        }
        let now = seen.now();
        let mask = ViewMask {
            reports: true,
            ..ViewMask::default()
        };
        for node in self.rota.turn(seen.count()) {
            let Some(view) = seen.view(node, mask).filter(|_| !seen.is_paused(node)) else {
                self.since.retain(|(n, _), _| *n != node);
                continue;
            };
            let stuck = self.stuck(node, &view);
            self.since
                .retain(|(n, what), _| *n != node || stuck.contains_key(what));
            for (what, is_named) in stuck {
                let standing = self
                    .since
                    .entry((node, what.clone()))
                    .or_insert((now, view.digest));
                // A replica that still takes in statements gets on.
                if standing.1 != view.digest {
                    *standing = (now, view.digest);
                }
                let ms = now.ms_since(standing.0);
                if ms > self.stuck_ms && !is_named {
                    let what = format!(
                        "expected a cause after {} s, seen none for {what:?}",
                        ms / 1000
                    );
                    return self.broken(seen, Some(node), what);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use lab_crdt_model::report::{ResourceReport, ResourceState, Status};
    use lab_crdt_model::view::ReportView;
    use lab_crdt_model::{Issue, Wall};

    use super::*;
    use crate::oracle::fake::{Fake, note};

    fn is_noticed(fake: &mut Fake, told: Option<Event>) -> bool {
        let mut oracle = Causes::new(&Limits::default());
        if let Some(event) = told {
            oracle.note(fake, &note(0, What::Told(event))).unwrap();
        }
        assert!(oracle.sample(fake).is_ok());
        fake.pass_ms(121_000);
        oracle.sample(fake).is_err()
    }

    #[test]
    fn statements_that_wait_without_a_word_are_noticed() {
        let mut fake = Fake::new(1);
        assert!(!is_noticed(&mut fake, None));
        fake.node(0).view.pending_count = 3;
        assert!(is_noticed(&mut fake, None));
        let issue = Issue::warning("M099", "replica", "three statements wait");
        fake.node(0).view.issues.push(issue);
        assert!(!is_noticed(&mut fake, None));
    }

    #[test]
    fn config_that_is_not_carried_out_without_a_word_is_noticed() {
        for message in ["", "no space left on device"] {
            let mut fake = Fake::new(1);
            let status = Status {
                desired: [1; 32],
                resources: vec![ResourceReport {
                    name: "file:/etc/motd".into(),
                    state: ResourceState::Failed,
                    message: message.into(),
                }],
                ..Status::default()
            };
            let report = ReportView {
                node: fake.id(0),
                beacon: None,
                facts: None,
                status: Some((status, Wall(0))),
            };
            fake.node(0).view.reports.push(report);
            assert_eq!(is_noticed(&mut fake, None), message.is_empty());
        }
    }

    #[test]
    fn a_peer_that_stays_unequal_without_a_word_is_noticed() {
        let mut fake = Fake::new(2);
        fake.show_peer(0, 1).is_equal = Some(false);
        assert!(is_noticed(&mut fake, None));
        let told = Event::ReplicasDiverged {
            peer: fake.id(1),
            ours: [0; 32],
            theirs: [1; 32],
        };
        assert!(!is_noticed(&mut fake, Some(told)));
    }

    #[test]
    fn a_refused_write_that_is_not_told_is_noticed() {
        for is_told in [false, true] {
            let mut fake = Fake::new(1);
            let mut oracle = Causes::new(&Limits::default());
            let refused = note(0, What::Stored { is_ok: false });
            oracle.note(&mut fake, &refused).unwrap();
            if is_told {
                let event = Event::StoreFailed { why: "full".into() };
                oracle.note(&mut fake, &note(0, What::Told(event))).unwrap();
            }
            assert_eq!(oracle.sample(&mut fake).is_ok(), is_told);
        }
    }
}
