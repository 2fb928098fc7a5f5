//! Where a node's reports went from one life to another and back, people are told that two machines have its key.

use std::collections::BTreeMap;

use lab_agent_core::ViewMask;
use lab_crdt_model::NodeId;

use crate::oracle::evidence::{Rota, Trust};
use crate::oracle::{Note, Oracle, Seen, Verdict, What};

/// Lives remembered of one node, the newest last.
const LIVES_MAX: usize = 4;

#[derive(Debug, Default)]
pub(super) struct Copies {
    /// Of which lives the newest report of a node was, as an observer held it since its start.
    lives: BTreeMap<(usize, NodeId), Vec<u64>>,
    rota: Rota,
    /// Of a machine whose disk was rolled back, old reports come again that it does not know to have written.
    trust: Trust,
}

/// Whose report it is, of which life, and its number.
fn read(report: &[u8]) -> Option<(NodeId, u64, u64)> {
    let number = |at: usize| Some(u64::from_be_bytes(*report.get(at..at + 8)?.first_chunk()?));
    let node = NodeId(*report.get(2..34)?.first_chunk()?);
    Some((node, number(34)?, number(42)?))
}

impl Oracle for Copies {
    fn name(&self) -> &'static str {
        "copied_keys_are_noticed"
    }

    fn note(&mut self, _seen: &mut dyn Seen, note: &Note) -> Verdict {
        self.trust.note(note);
        if matches!(note.what, What::Started | What::Killed) {
            self.lives.retain(|(observer, _), _| *observer != note.node);
        }
        Ok(())
    }

    fn sample(&mut self, seen: &mut dyn Seen) -> Verdict {
        for observer in self.rota.turn(seen.count()) {
            let Some(reports) = seen.registers(observer).filter(|_| seen.is_up(observer)) else {
                continue;
            };
            let mut newest: BTreeMap<NodeId, (u64, u64)> = BTreeMap::new();
            for (node, life, seq) in reports.iter().filter_map(|r| read(r)) {
                let so_far = newest.entry(node).or_insert((seq, life));
                *so_far = (*so_far).max((seq, life));
            }
            for (node, (_, life)) in newest {
                let lives = self.lives.entry((observer, node)).or_default();
                if lives.last() == Some(&life) {
                    continue;
                }
                let is_back = lives.contains(&life);
                lives.retain(|it| *it != life);
                lives.push(life);
                if lives.len() > LIVES_MAX {
                    lives.remove(0);
                }
                let place = (0..seen.count()).find(|n| seen.id(*n) == node);
                let is_sound = place.is_none_or(|n| self.trust.is_honest(n));
                if !is_back || !is_sound {
                    continue;
                }
                let mask = ViewMask {
                    roster: true,
                    ..ViewMask::default()
                };
                let Some(view) = seen.view(observer, mask) else {
                    continue;
                };
                let member = view.members.iter().find(|m| m.node == node);
                let is_told = member.is_none_or(|m| {
                    let mut issues = view.issues.iter();
                    issues.any(|i| i.code == "M046" && i.subject == m.name)
                });
                if !is_told {
                    let what = format!(
                        "expected people to be told that two machines speak for {}: a former life of it went on",
                        node.short()
                    );
                    return self.broken(seen, Some(observer), what);
                }
            }
        }
        Ok(())
    }
}
