//! What was handed in together is there together or not at all; what was refused for its content is nowhere.

use std::collections::{BTreeMap, BTreeSet};

use lab_agent_core::CommandId;
use lab_crdt_model::StatementId;

use crate::oracle::evidence::Healing;
use crate::oracle::{Ask, Limits, Note, Oracle, Phase, Seen, Verdict, What};
use crate::reference::envelope;

/// The code of a refusal after which nobody knows whether the change is on the disk.
const MAYBE: &str = "M011";

#[derive(Debug)]
struct Handed {
    node: usize,
    ids: Vec<StatementId>,
    /// It was refused for its content, with this.
    refused: Option<String>,
}

#[derive(Debug)]
pub(super) struct Refusals {
    heal_ms: u64,
    healing: Healing,
    handed: BTreeMap<CommandId, Handed>,
    acked: BTreeSet<StatementId>,
}

impl Refusals {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            heal_ms: limits.heal_ms,
            healing: Healing::default(),
            handed: BTreeMap::new(),
            acked: BTreeSet::new(),
        }
    }
}

impl Oracle for Refusals {
    fn name(&self) -> &'static str {
        "a_refused_change_is_never_half_there"
    }

    fn phase(&mut self, seen: &mut dyn Seen, phase: &Phase) {
        self.healing.phase(seen, phase);
    }

    fn note(&mut self, _seen: &mut dyn Seen, note: &Note) -> Verdict {
        match &note.what {
            What::Asked {
                command,
                ask: Ask::Write(ids),
            } => {
                let handed = Handed {
                    node: note.node,
                    ids: ids.clone(),
                    refused: None,
                };
                self.handed.insert(*command, handed);
            }
            What::Acked { command, ids } => {
                // From here on they are promises, which another oracle watches.
                self.handed.remove(command);
                self.acked.extend(ids);
            }
            // What a revoked key said is kept as evidence when it comes another way, with a token that was handed out,
            // say. That it changes nothing is for another oracle.
            What::Refused { command, why, .. } if why.contains("revoked") => {
                self.handed.remove(command);
            }
            What::Refused { command, code, why } if code != MAYBE => {
                if let Some(handed) = self.handed.get_mut(command) {
                    handed.refused = Some(format!("{code}: {why}"));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self, seen: &mut dyn Seen) -> Verdict {
        if self
            .healing
            .ms(seen.now())
            .is_none_or(|ms| ms < self.heal_ms)
        {
            return Ok(());
        }
        // The same statement may have been handed in again, with another outcome.
        let maybe: BTreeSet<StatementId> = self
            .handed
            .values()
            .filter(|h| h.refused.is_none())
            .flat_map(|h| h.ids.iter().copied())
            .collect();
        for node in self.healing.nodes(seen) {
            let Some(all) = seen.statements(node) else {
                continue;
            };
            let held: BTreeSet<StatementId> = all.iter().filter_map(envelope::id_shared).collect();
            for (command, handed) in &self.handed {
                let open = handed.ids.iter().filter(|id| !self.acked.contains(id));
                let (here, gone): (Vec<_>, Vec<_>) = open.partition(|id| held.contains(id));
                let what = match &handed.refused {
                    Some(why) if here.iter().any(|id| !maybe.contains(id)) => format!(
                        "expected nothing of command {}, which node {} refused ({why}), seen {here:?}",
                        command.0, handed.node
                    ),
                    None if !here.is_empty() && !gone.is_empty() => format!(
                        "expected all or nothing of command {}, handed in at node {}, seen {here:?} without {gone:?}",
                        command.0, handed.node
                    ),
                    _ => continue,
                };
                return self.broken(seen, Some(node), what);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::fake::{Fake, note};

    fn verdict(code: Option<&str>, is_there: [bool; 2]) -> Verdict {
        let mut fake = Fake::new(1);
        let mut oracle = Refusals::new(&Limits::default());
        let said = [fake.says("on/all/params/a"), fake.says("on/all/params/b")];
        let ids = said.iter().filter_map(|b| envelope::id_of(b)).collect();
        let command = CommandId(1);
        let asked = What::Asked {
            command,
            ask: Ask::Write(ids),
        };
        oracle.note(&mut fake, &note(0, asked))?;
        if let Some(code) = code {
            let (code, why) = (code.to_owned(), String::new());
            let refused = What::Refused { command, code, why };
            oracle.note(&mut fake, &note(0, refused))?;
        }
        for (bytes, is_there) in said.into_iter().zip(is_there) {
            if is_there {
                fake.node(0).statements.push(bytes);
            }
        }
        oracle.phase(&mut fake, &Phase::Healed);
        fake.pass_ms(61_000);
        oracle.end(&mut fake)
    }

    #[test]
    fn half_of_a_change_is_noticed() {
        for code in [None, Some("M011")] {
            assert!(verdict(code, [true, true]).is_ok());
            assert!(verdict(code, [false, false]).is_ok());
            assert!(verdict(code, [true, false]).is_err());
        }
    }

    #[test]
    fn a_change_that_was_refused_for_its_content_and_is_there_is_noticed() {
        assert!(verdict(Some("M010"), [false, false]).is_ok());
        assert!(verdict(Some("M010"), [true, true]).is_err());
    }
}
