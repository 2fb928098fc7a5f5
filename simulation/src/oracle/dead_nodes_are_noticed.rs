//! Once links are healed, everyone comes to say of a dead node that it is down.

use std::collections::BTreeMap;

use lab_crdt_model::Mono;
use lab_crdt_model::view::Liveness;

use crate::oracle::evidence::{Healing, Rota};
use crate::oracle::{Limits, Note, Oracle, Phase, Seen, Verdict, What};

#[derive(Debug)]
pub(super) struct Deaths {
    death_ms: u64,
    healing: Healing,
    rota: Rota,
    dead: BTreeMap<usize, Mono>,
    /// When each node was started or went on last: it needs the same time to find out.
    awake: BTreeMap<usize, Mono>,
}

impl Deaths {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            death_ms: limits.death_ms,
            healing: Healing::default(),
            rota: Rota::default(),
            dead: BTreeMap::new(),
            awake: BTreeMap::new(),
        }
    }

    fn check(&self, seen: &mut dyn Seen, node: usize, healed: Mono) -> Verdict {
        let now = seen.now();
        let awake = self.awake.get(&node).copied().unwrap_or_default();
        for (dead, since) in &self.dead {
            let since = healed.max(awake).max(*since);
            if *dead == node || seen.is_up(*dead) || now.ms_since(since) < self.death_ms {
                continue;
            }
            if seen.opinion(node, *dead) == Liveness::Alive {
                let what = format!(
                    "expected node {dead} to be known as dead after {} s, seen alive",
                    now.ms_since(since) / 1000
                );
                return self.broken(seen, Some(node), what);
            }
        }
        Ok(())
    }
}

impl Oracle for Deaths {
    fn name(&self) -> &'static str {
        "dead_nodes_are_noticed"
    }

    fn phase(&mut self, seen: &mut dyn Seen, phase: &Phase) {
        self.healing.phase(seen, phase);
    }

    fn note(&mut self, _seen: &mut dyn Seen, note: &Note) -> Verdict {
        match note.what {
            What::Killed => drop(self.dead.insert(note.node, note.at)),
            What::Started => {
                self.dead.remove(&note.node);
                self.awake.insert(note.node, note.at);
            }
            What::Resumed => drop(self.awake.insert(note.node, note.at)),
            _ => {}
        }
        Ok(())
    }

    fn sample(&mut self, seen: &mut dyn Seen) -> Verdict {
        let Some(healed) = self.healing.since() else {
            return Ok(());
        };
        let nodes = self.healing.nodes(seen);
        for at in self.rota.turn(nodes.len()) {
            self.check(seen, nodes[at], healed)?;
        }
        Ok(())
    }

    fn end(&mut self, seen: &mut dyn Seen) -> Verdict {
        let Some(healed) = self.healing.since() else {
            return Ok(());
        };
        for node in self.healing.nodes(seen) {
            self.check(seen, node, healed)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::fake::Fake;

    #[test]
    fn a_dead_node_that_somebody_takes_for_alive_is_noticed() {
        for liveness in [Liveness::Down, Liveness::Unknown, Liveness::Alive] {
            let mut fake = Fake::new(3);
            let mut oracle = Deaths::new(&Limits::default());
            oracle.phase(&mut fake, &Phase::Healed);
            fake.node(2).is_up = false;
            let killed = Note {
                at: fake.now(),
                node: 2,
                what: What::Killed,
            };
            oracle.note(&mut fake, &killed).unwrap();
            fake.opinions.insert((0, 2), Liveness::Down);
            fake.opinions.insert((1, 2), liveness);
            fake.pass_ms(20_000);
            assert!(oracle.sample(&mut fake).is_ok());
            fake.pass_ms(10_000);
            let is_missed = liveness == Liveness::Alive;
            assert_eq!(oracle.sample(&mut fake).is_err(), is_missed);
        }
    }
}
