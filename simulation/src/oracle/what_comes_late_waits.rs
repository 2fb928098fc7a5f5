//! What is said under a grant that ends counts wherever it was heard in time, and wherever half of those who are asked
//! heard it in time. Elsewhere it waits for an admin.

use std::collections::{BTreeMap, BTreeSet};

use lab_agent_core::ViewMask;
use lab_crdt_model::limit::LATE_MS;
use lab_crdt_model::{StatementId, Wall};

use crate::oracle::evidence::{Rota, Trust};
use crate::oracle::{Harm, Note, Oracle, Seen, Verdict, What};
use crate::reference::authority::Verdict as Authority;
use crate::reference::envelope;

/// How far clocks of machines are apart, and how long a word takes to get round, milliseconds.
const MARGIN_MS: u64 = 20_000;
const EDIT: u8 = 1;

/// When something came to a node, by its own clock: between two looks.
#[derive(Clone, Copy, Debug)]
struct Came {
    after: Wall,
    by: Wall,
}

#[derive(Debug, Default)]
pub(super) struct Latecomers {
    trust: Trust,
    rota: Rota,
    came: BTreeMap<usize, BTreeMap<StatementId, Came>>,
    looked: BTreeMap<usize, ([u8; 32], Wall)>,
    is_clock_off: bool,
}

impl Latecomers {
    fn look(&mut self, seen: &mut dyn Seen, node: usize) {
        let Some(digests) = seen.digests(node) else {
            return;
        };
        let now = seen.wall(node);
        let last = self.looked.insert(node, (digests.statements, now));
        if last.is_some_and(|(digest, _)| digest == digests.statements) {
            return;
        }
        let Some(all) = seen.statements(node) else {
            return;
        };
        let came = self.came.entry(node).or_default();
        for s in all.iter().filter_map(envelope::read_shared) {
            if s.kind == EDIT && s.under.0 != seen.mesh().0 {
                let after = last.map_or(Wall(0), |(_, at)| at);
                came.entry(s.id).or_insert(Came { after, by: now });
            }
        }
    }

    /// Whether something came late to a node; `None` when that cannot be told.
    fn is_late(&self, node: usize, id: &StatementId, end: Wall) -> Option<bool> {
        let came = self.came.get(&node)?.get(id);
        let late = end.0.saturating_add(LATE_MS);
        match came {
            None => Some(true),
            Some(came) if came.by.0 < late => Some(false),
            Some(came) if came.after.0 > late => Some(true),
            Some(_) => None,
        }
    }

    fn judge(&self, seen: &mut dyn Seen, node: usize) -> Result<(), String> {
        let mask = ViewMask {
            roster: true,
            ..ViewMask::default()
        };
        let (Some(view), Some(all)) = (seen.view(node, mask), seen.statements(node)) else {
            return Ok(());
        };
        let waiting: BTreeSet<StatementId> = view
            .operators
            .iter()
            .filter_map(|o| o.late.as_ref())
            .flat_map(|late| late.changes.iter().copied())
            .collect();
        let root = seen.root();
        let reference = Authority::of_late(seen.mesh(), &root, &all, &waiting);
        for s in all.iter().filter_map(envelope::read_shared) {
            let Some(right) = reference.rights.get(&s.under) else {
                continue;
            };
            let Some(end) = right.not_after.filter(|_| right.allowed.is_none()) else {
                continue;
            };
            let is_settled = seen.wall(node).0 > end.0.saturating_add(LATE_MS + MARGIN_MS);
            let Some(is_late) = self.is_late(node, &s.id, end).filter(|_| is_settled) else {
                continue;
            };
            let asked = reference.asked(&root.registrars, &s.under, end);
            let nodes = (0..seen.count()).filter(|n| asked.contains(&seen.id(*n)));
            let nodes: Vec<usize> = nodes.collect();
            let heard: Option<Vec<bool>> = nodes
                .iter()
                .map(|n| {
                    let can_tell = self.trust.is_honest(*n) && seen.is_up(*n);
                    let is_late = self.is_late(*n, &s.id, end).filter(|_| can_tell);
                    is_late.map(|is_late| !is_late)
                })
                .collect();
            let Some(heard) = heard else { continue };
            let count = heard.iter().filter(|heard| **heard).count();
            let is_known = count > 0 && 2 * count >= heard.len();
            let counts_at_all = s.hlc.wall() < end && s.author == right.subject;
            let must_wait = is_late && !is_known && counts_at_all;
            if must_wait != waiting.contains(&s.id) && s.kind == EDIT && counts_at_all {
                return Err(format!(
                    "expected {:?} of {:?}, whose grant ended at {end}, {}: it came {} here, and {count} of {} that are asked had it in time",
                    s.id,
                    s.author,
                    if must_wait {
                        "to wait for an admin"
                    } else {
                        "not to wait"
                    },
                    if is_late { "late" } else { "in time" },
                    heard.len(),
                ));
            }
        }
        Ok(())
    }
}

impl Oracle for Latecomers {
    fn name(&self) -> &'static str {
        "what_comes_late_waits"
    }

    fn note(&mut self, _seen: &mut dyn Seen, note: &Note) -> Verdict {
        self.trust.note(note);
        self.is_clock_off |= note.what == What::Broken(Harm::Clock);
        Ok(())
    }

    fn sample(&mut self, seen: &mut dyn Seen) -> Verdict {
        for node in self.rota.turn(seen.count()) {
            self.look(seen, node);
        }
        Ok(())
    }

    fn end(&mut self, seen: &mut dyn Seen) -> Verdict {
        for node in 0..seen.count() {
            self.look(seen, node);
        }
        if self.is_clock_off {
            return Ok(());
        }
        for node in (0..seen.count()).filter(|n| self.trust.is_honest(*n)) {
            if seen.is_up(node)
                && let Err(what) = self.judge(seen, node)
            {
                return self.broken(seen, Some(node), what);
            }
        }
        Ok(())
    }
}
