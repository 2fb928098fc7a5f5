//! Once links are healed, all who are members come to hold the same statements, document and reports.

use std::collections::BTreeMap;

use bytes::Bytes;
use lab_crdt_log::Body;
use lab_crdt_model::limit::FORK_BRANCHES_MAX;
use lab_crdt_model::report::Section;
use lab_crdt_model::{Mono, NodeId, StatementId};

use crate::oracle::evidence::Healing;
use crate::oracle::{Digests, Limits, Oracle, Phase, Seen, Verdict, short};
use crate::reference::authority::Verdict as Authority;
use crate::reference::{envelope, registers};

/// How long a node's own word may be on its way when everything ends, milliseconds.
const VOUCH_MS: u64 = 10_000;

#[derive(Debug)]
pub(super) struct Convergence {
    heal_ms: u64,
    healing: Healing,
    /// The newest report of each node's section on the node itself, when it was there first.
    own: BTreeMap<(NodeId, Section), (u64, Mono)>,
    is_equal: bool,
}

impl Convergence {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            heal_ms: limits.heal_ms,
            healing: Healing::default(),
            own: BTreeMap::new(),
            is_equal: false,
        }
    }

    /// Those who must get on and may: not revoked, witnessed, with a lease that still runs. And whether they can be
    /// expected to be equal: of a chain with too many ends, each replica keeps those that came first.
    fn expected(&self, seen: &mut dyn Seen) -> (Vec<usize>, bool) {
        let nodes = self.healing.nodes(seen);
        let mut all: Vec<Bytes> = Vec::new();
        for node in &nodes {
            all.extend(seen.statements(*node).unwrap_or_default());
        }
        if all.is_empty() {
            return (nodes, true);
        }
        let authority = Authority::of(seen.mesh(), &seen.root(), &all);
        let is_live = |node: &usize| {
            let me = authority.members.get(&seen.id(*node));
            me.is_some_and(|m| m.is_live_at(seen.wall(*node)))
        };
        let is_decided = authority.ends.iter().all(|(author, ends)| {
            *ends <= FORK_BRANCHES_MAX || authority.cuts.contains_key(author)
        });
        (nodes.into_iter().filter(is_live).collect(), is_decided)
    }

    fn groups(seen: &mut dyn Seen, nodes: &[usize]) -> BTreeMap<Option<Digests>, Vec<usize>> {
        let mut groups: BTreeMap<Option<Digests>, Vec<usize>> = BTreeMap::new();
        // Where something came late, documents may differ until an admin decides: another oracle looks at that.
        let late = nodes.iter().filter_map(|node| seen.digests(*node));
        let is_any_late = late.map(|d| d.late).any(|late| late != [0; 32]);
        for node in nodes {
            let digests = seen.digests(*node).map(|mut d| {
                (d.registers, d.late) = ([0; 32], [0; 32]);
                if is_any_late {
                    d.heads = [0; 32];
                }
                d
            });
            groups.entry(digests).or_default().push(*node);
        }
        groups
    }

    /// Whether replicas differ in nothing but what nodes said by themselves just now, at the end of a grant.
    fn is_a_vouch_on_its_way(seen: &mut dyn Seen, nodes: &[usize]) -> bool {
        let mut held: BTreeMap<StatementId, (usize, bool)> = BTreeMap::new();
        let mut count = 0;
        for node in nodes {
            let Some(all) = seen.statements(*node) else {
                continue;
            };
            count += 1;
            let now = seen.wall(*node);
            for s in all.iter().filter_map(envelope::read_shared) {
                let is_young = match &s.body {
                    Body::Vouch(vouch) => vouch.at.0.saturating_add(VOUCH_MS) > now.0,
                    _ => false,
                };
                held.entry(s.id).or_insert((0, is_young)).0 += 1;
            }
        }
        let mut missed = held.values().filter(|(by, _)| *by < count).peekable();
        missed.peek().is_some() && missed.all(|(_, is_young)| *is_young)
    }

    /// Every report that has been there for long has reached everyone.
    fn reports(&self, seen: &mut dyn Seen, nodes: &[usize]) -> Verdict {
        let ids: Vec<NodeId> = nodes.iter().map(|n| seen.id(*n)).collect();
        for node in nodes {
            let Some(held) = seen.registers(*node) else {
                continue;
            };
            let held = registers::newest(&seen.mesh(), &held);
            for ((of, section), (seq, since)) in &self.own {
                let is_due = ids.contains(of) && seen.now().ms_since(*since) >= self.heal_ms;
                let here = held.get(&(*of, *section)).map_or(0, |r| r.seq);
                if is_due && here < *seq {
                    let what = format!(
                        "expected report {section:?} {seq} of {of:?}, which is {} s old, seen {here}",
                        seen.now().ms_since(*since) / 1000
                    );
                    return self.broken(seen, Some(*node), what);
                }
            }
        }
        Ok(())
    }
}

impl Oracle for Convergence {
    fn name(&self) -> &'static str {
        "replicas_converge_when_links_heal"
    }

    fn phase(&mut self, seen: &mut dyn Seen, phase: &Phase) {
        self.healing.phase(seen, phase);
        self.is_equal = false;
    }

    fn sample(&mut self, seen: &mut dyn Seen) -> Verdict {
        let Some(ms) = self.healing.ms(seen.now()) else {
            return Ok(());
        };
        for node in self.healing.nodes(seen) {
            let id = seen.id(node);
            let held = seen.registers(node).unwrap_or_default();
            let is_own =
                |bytes: &Bytes| registers::read_shared(bytes).is_some_and(|r| r.node == id);
            let own: Vec<Bytes> = held.into_iter().filter(is_own).collect();
            for ((_, section), register) in registers::newest(&seen.mesh(), &own) {
                let newest = self.own.entry((id, section)).or_insert((0, Mono(0)));
                if newest.0 < register.seq {
                    *newest = (register.seq, seen.now());
                }
            }
        }
        if self.is_equal {
            return Ok(());
        }
        // Whoever is not a member is looked up only when it matters: that is slow.
        let all = self.healing.nodes(seen);
        self.is_equal = Self::groups(seen, &all).len() <= 1;
        if !self.is_equal && ms >= self.heal_ms {
            self.judge(seen, ms)?;
            self.is_equal = true;
        }
        Ok(())
    }

    fn end(&mut self, seen: &mut dyn Seen) -> Verdict {
        let Some(ms) = self.healing.ms(seen.now()).filter(|ms| *ms >= self.heal_ms) else {
            return Ok(());
        };
        let (nodes, _) = self.expected(seen);
        if !Self::is_a_vouch_on_its_way(seen, &nodes) {
            self.judge(seen, ms)?;
        }
        self.reports(seen, &nodes)
    }
}

impl Convergence {
    fn judge(&self, seen: &mut dyn Seen, ms: u64) -> Verdict {
        let (nodes, is_decided) = self.expected(seen);
        let groups = Self::groups(seen, &nodes);
        if groups.len() <= 1 || !is_decided {
            return Ok(());
        }
        let (most, rest) = {
            let mut groups: Vec<_> = groups.into_iter().collect();
            groups.sort_by_key(|(_, nodes)| std::cmp::Reverse(nodes.len()));
            let most = groups.remove(0);
            (most, groups)
        };
        let print = |digests: &Option<Digests>| {
            digests.as_ref().map_or("nothing".to_owned(), |d| {
                format!("{} (document {})", short(&d.statements), short(&d.heads))
            })
        };
        let what = format!(
            "expected equal replicas {} s after the healing; {} nodes hold {}, {:?} hold {}",
            ms / 1000,
            most.1.len(),
            print(&most.0),
            rest[0].1,
            print(&rest[0].0),
        );
        self.broken(seen, rest[0].1.first().copied(), what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::fake::Fake;

    fn watched(fake: &mut Fake) -> Convergence {
        let mut oracle = Convergence::new(&Limits::default());
        oracle.phase(fake, &Phase::Healed);
        oracle
    }

    #[test]
    fn equal_replicas_are_fine_and_unequal_ones_only_for_a_while() {
        let mut fake = Fake::new(3);
        let mut oracle = watched(&mut fake);
        fake.node(1).digests.statements = [9; 32];
        fake.pass_ms(59_000);
        assert!(oracle.sample(&mut fake).is_ok());
        fake.pass_ms(2_000);
        let violation = oracle.sample(&mut fake).unwrap_err();
        assert_eq!(violation.node, Some(1));
        assert!(violation.what.contains(&short(&[9; 32])), "{violation}");

        fake.node(1).digests = fake.node(0).digests;
        let mut oracle = watched(&mut fake);
        fake.pass_ms(61_000);
        assert!(oracle.sample(&mut fake).is_ok());
        assert!(oracle.end(&mut fake).is_ok());
    }

    #[test]
    fn equal_statements_with_another_document_are_not_equal() {
        let mut fake = Fake::new(2);
        let mut oracle = watched(&mut fake);
        fake.node(1).digests.heads = [4; 32];
        fake.pass_ms(61_000);
        assert!(oracle.end(&mut fake).is_err());
    }

    #[test]
    fn nodes_outside_the_healed_core_may_differ() {
        let mut fake = Fake::new(3);
        let mut oracle = Convergence::new(&Limits::default());
        oracle.phase(&mut fake, &Phase::Core([0, 1].into()));
        fake.node(2).digests.statements = [9; 32];
        fake.pass_ms(61_000);
        assert!(oracle.sample(&mut fake).is_ok());
        assert!(oracle.end(&mut fake).is_ok());
    }

    #[test]
    fn a_report_that_reached_not_everyone_is_noticed() {
        let mut fake = Fake::new(2);
        let mut oracle = watched(&mut fake);
        let old = fake.report(0, Section::Beacon, 1, 4);
        let new = fake.report(0, Section::Beacon, 1, 5);
        fake.node(0).registers = vec![new.clone()];
        fake.node(1).registers = vec![old];
        assert!(oracle.sample(&mut fake).is_ok());
        fake.pass_ms(61_000);
        assert!(oracle.end(&mut fake).is_err());
        fake.node(1).registers = vec![new];
        assert!(oracle.end(&mut fake).is_ok());
    }
}
