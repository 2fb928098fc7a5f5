//! Nobody says of a node that it is down while it runs and links are whole.

use std::collections::{BTreeMap, BTreeSet};

use lab_agent_core::ViewMask;
use lab_crdt_model::Mono;
use lab_crdt_model::view::{Liveness, MemberState, MemberView};

use crate::oracle::evidence::Rota;
use crate::oracle::{Harm, Limits, Note, Oracle, Phase, Seen, Verdict, What};

#[derive(Debug)]
pub(super) struct Accusations {
    health_ms: u64,
    rota: Rota,
    /// Since when each node is in good health; nodes that never fell ill are not here.
    healthy: BTreeMap<usize, Mono>,
    /// Since when no path is broken on purpose; `None` while one is.
    whole: Option<Mono>,
    broken: BTreeSet<(usize, Harm)>,
    is_chaos: bool,
}

impl Accusations {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            health_ms: limits.health_ms,
            rota: Rota::default(),
            healthy: BTreeMap::new(),
            whole: Some(Mono(0)),
            broken: BTreeSet::new(),
            is_chaos: false,
        }
    }

    fn is_well(&self, seen: &dyn Seen, node: usize) -> bool {
        let since = self.healthy.get(&node).copied().unwrap_or_default();
        seen.is_up(node)
            && !seen.is_paused(node)
            && seen.now().ms_since(since) >= self.health_ms
            && !self.broken.iter().any(|(n, _)| *n == node)
    }
}

impl Oracle for Accusations {
    fn name(&self) -> &'static str {
        "healthy_nodes_are_not_accused"
    }

    fn phase(&mut self, seen: &mut dyn Seen, phase: &Phase) {
        // Paths of nodes outside a healed core are as they are: they are judged after the full healing.
        self.is_chaos = matches!(phase, Phase::Chaos | Phase::Core(_));
        if *phase == Phase::Healed {
            self.broken.clear();
            self.whole = Some(seen.now());
        }
    }

    fn note(&mut self, _seen: &mut dyn Seen, note: &Note) -> Verdict {
        match note.what {
            What::Started | What::Killed | What::Paused | What::Resumed => {
                self.healthy.insert(note.node, note.at);
            }
            What::Broken(harm) => {
                self.broken.insert((note.node, harm));
                if harm == Harm::Network {
                    self.whole = None;
                }
            }
            What::Mended(harm) => {
                // What concerns paths concerns everyone.
                self.broken
                    .retain(|(n, h)| *h != harm || (*n != note.node && harm != Harm::Network));
                self.healthy.insert(note.node, note.at);
                if harm == Harm::Network {
                    self.whole = Some(note.at);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn sample(&mut self, seen: &mut dyn Seen) -> Verdict {
        let is_whole = self
            .whole
            .is_some_and(|since| seen.now().ms_since(since) >= self.health_ms);
        if !is_whole || self.is_chaos {
            return Ok(());
        }
        for node in self.rota.turn(seen.count()) {
            if !self.is_well(seen, node) {
                continue;
            }
            for other in 0..seen.count() {
                let is_reached = seen.is_open(node, other) && seen.is_open(other, node);
                if other == node || !is_reached || !self.is_well(seen, other) {
                    continue;
                }
                if seen.opinion(node, other) == Liveness::Down && are_together(seen, node, other) {
                    let what = format!(
                        "expected node {other}, which runs and is reached, not to be down; seen down"
                    );
                    return self.broken(seen, Some(node), what);
                }
            }
        }
        Ok(())
    }
}

/// Whether each is a member as the other sees it: nobody talks to whoever lost their place, who cannot know why.
fn are_together(seen: &mut dyn Seen, a: usize, b: usize) -> bool {
    let mask = ViewMask {
        roster: true,
        ..ViewMask::default()
    };
    [(a, b), (b, a)].into_iter().all(|(of, about)| {
        let about = seen.id(about);
        // A world that cannot tell has no one without a place.
        seen.view(of, mask).is_none_or(|view| {
            let is_let_in = |m: &MemberView| {
                m.node == about && matches!(m.state, MemberState::Member | MemberState::Suspended)
            };
            // Whose join does not count is not listed at all.
            view.members.is_empty() || view.members.iter().any(is_let_in)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::fake::Fake;

    fn accused(change: impl Fn(&mut Fake, &mut Accusations)) -> bool {
        let mut fake = Fake::new(2);
        let mut oracle = Accusations::new(&Limits::default());
        fake.opinions.insert((0, 1), Liveness::Down);
        fake.pass_ms(40_000);
        change(&mut fake, &mut oracle);
        oracle.sample(&mut fake).is_err()
    }

    #[test]
    fn an_accusation_counts_only_while_all_is_well() {
        assert!(accused(|_, _| {}));
        assert!(!accused(|fake, _| fake.node(1).is_paused = true));
        assert!(!accused(|fake, _| fake.node(1).is_up = false));
        assert!(!accused(|fake, _| fake.shut.extend([(1, 0)])));
        assert!(!accused(|fake, oracle| {
            let at = fake.now();
            let what = What::Resumed;
            oracle.note(fake, &Note { at, node: 1, what }).unwrap();
        }));
        assert!(!accused(|fake, oracle| oracle.phase(fake, &Phase::Chaos)));
        assert!(accused(|fake, oracle| {
            for what in [What::Broken(Harm::Network), What::Mended(Harm::Network)] {
                let at = fake.now();
                oracle.note(fake, &Note { at, node: 1, what }).unwrap();
            }
            fake.pass_ms(31_000);
        }));
    }
}
