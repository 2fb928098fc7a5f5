//! Both judges on one history.

use std::collections::{BTreeMap, BTreeSet};

use lab_crdt_log::Log;
use lab_crdt_model::view::MemberState;
use lab_crdt_model::{Mono, Standing, StatementId, Wall};

use super::{History, JOINS};
use crate::reference::authority::{Right, Verdict};

/// How often something happened, over all histories compared.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tally(pub BTreeMap<&'static str, u64>);

impl Tally {
    fn add(&mut self, what: &'static str, count: usize) {
        *self.0.entry(what).or_default() += count as u64;
    }

    /// Adds another one.
    pub fn merge(&mut self, other: &Self) {
        for (what, count) in &other.0 {
            *self.0.entry(what).or_default() += count;
        }
    }
}

impl History {
    /// A replica that heard everything, in an order of its own, until nothing more got in.
    pub fn replica(&mut self) -> Log {
        let mut log = Log::new(self.root.clone()).expect("the root record is signed");
        loop {
            let before = log.len();
            let mut order: Vec<usize> = (0..self.bytes.len()).collect();
            for i in (1..order.len()).rev() {
                order.swap(i, self.rng.below(i + 1));
            }
            for at in order {
                let _refused = log.ingest(&self.bytes[at], Mono(0));
            }
            self.mark_late(&mut log);
            if self.rng.percent(50) {
                log.take_edits();
            }
            if log.len() == before {
                return log;
            }
        }
    }

    /// Tells a replica what of what it holds came late.
    fn mark_late(&self, log: &mut Log) {
        let marked: BTreeSet<StatementId> = log.late().copied().collect();
        let new = self.late.difference(&marked).copied();
        let new: Vec<StatementId> = new.filter(|id| log.contains(id)).collect();
        log.restore_late(new);
    }

    /// Compares what a replica makes of this history with what the reference does.
    ///
    /// # Errors
    /// The first difference.
    pub fn compare(&mut self) -> Result<Tally, String> {
        let reference = Verdict::of_late(self.mesh(), &self.record, &self.bytes, &self.late);
        let mut log = self.replica();
        self.agree(&reference, &mut log)?;
        Ok(self.tally(&reference))
    }

    /// Delivers this history one statement at a time, and after each compares what counts: whatever comes late, at no
    /// step may anything count that what is there does not allow.
    ///
    /// # Errors
    /// The first difference.
    pub fn compare_stepwise(&mut self) -> Result<(), String> {
        let mut log = Log::new(self.root.clone()).expect("the root record is signed");
        let mut order: Vec<usize> = (0..self.bytes.len()).collect();
        for i in (1..order.len()).rev() {
            order.swap(i, self.rng.below(i + 1));
        }
        let mut heard = Vec::new();
        for at in order {
            let before = log.len();
            let _refused = log.ingest(&self.bytes[at], Mono(0));
            if log.len() == before {
                continue;
            }
            self.mark_late(&mut log);
            heard.clear();
            heard.extend(log.newest().filter_map(|id| log.envelope(&id)));
            let reference = Verdict::of_late(self.mesh(), &self.record, &heard, &self.late);
            self.agree(&reference, &mut log)?;
        }
        Ok(())
    }

    /// Lets most of the admins agree on all that there is, and the others, who are thieves, say what they like. Returns
    /// how many edits stood all the time; `None` when most admins were at an end before, or there are no others.
    ///
    /// # Errors
    /// The first edit or right that was agreed on and does not stand any more, or any difference between the judges.
    pub fn compare_robbed(&mut self) -> Result<Option<usize>, String> {
        let held = Verdict::of(self.mesh(), &self.record, &self.bytes).admissible;
        let Some((checkpoint, thieves)) = self.agree_on_all(&held) else {
            return Ok(None);
        };
        let before = Verdict::of(self.mesh(), &self.record, &self.bytes);
        let behind = before.checkpoints.get(&checkpoint);
        if behind.is_none_or(|by| 2 * by.len() <= self.admins.len()) {
            return Ok(None);
        }
        for _ in 0..4 {
            for _ in 0..6 {
                self.rob(&thieves);
            }
            let after = Verdict::of(self.mesh(), &self.record, &self.bytes);
            for (id, edit) in &before.edits {
                same(&format!("edit {id}"), &Some(edit), &after.edits.get(id))?;
            }
            let lost = before
                .rights
                .keys()
                .find(|id| !after.rights.contains_key(*id));
            same("lost right", &None, &lost)?;
        }
        self.compare()?;
        Ok(Some(before.edits.len()))
    }

    fn agree(&self, reference: &Verdict, log: &mut Log) -> Result<(), String> {
        let stored: BTreeSet<StatementId> = log.newest().collect();
        same("stored", &reference.admissible, &stored)?;
        let edits: BTreeMap<_, _> = log
            .effective_edits()
            .into_iter()
            .map(|e| (e.id, (e.author, e.at, e.parents, e.ops)))
            .collect();
        let ours: BTreeMap<_, _> = reference
            .edits
            .iter()
            .map(|(id, e)| (*id, (e.author, e.at, e.parents.clone(), e.ops.clone())))
            .collect();
        same("edits", &ours, &edits)?;
        let version = log.root().version;
        same("root record", &reference.root, &version)?;
        let authority = log.authority();
        same("admins", &reference.admins, &authority.admins)?;
        same("revoked", &reference.revoked, &authority.revoked)?;
        let cuts: BTreeMap<_, _> = authority.cuts().map(|(a, c)| (*a, c.clone())).collect();
        same("cuts", &reference.cuts, &cuts)?;
        let checkpoints = authority.checkpoints.iter();
        let checkpoints = checkpoints.map(|(id, c)| (*id, c.signers.clone()));
        same(
            "checkpoints",
            &reference.checkpoints,
            &checkpoints.collect(),
        )?;
        let grants: BTreeMap<_, _> = authority
            .grants
            .iter()
            .map(|(id, g)| {
                let terms = (g.subject, g.rights, g.scope.clone(), g.not_after);
                (*id, (terms, g.allowed().cloned()))
            })
            .collect();
        let ours: BTreeMap<_, _> = reference
            .rights
            .iter()
            .map(|(id, r)| {
                let terms = (r.subject, r.rights, r.scope.clone(), r.not_after);
                (*id, (terms, r.allowed.clone()))
            })
            .collect();
        same("grants", &ours, &grants)?;
        let ends = reference.rights.values().filter_map(|r| r.not_after);
        let about = |end: Wall| [end.0.saturating_sub(1), end.0, end.0.saturating_add(1)].map(Wall);
        let times: BTreeSet<Wall> = ends.flat_map(about).chain([Wall(0)]).collect();
        let ours: BTreeMap<Wall, _> = times.iter().map(|t| (*t, reference.devices(*t))).collect();
        for (now, mine) in &ours {
            let (devices, next) = authority.devices(*now);
            let devices = devices.into_iter().map(|(k, s)| (k, s == Standing::Admin));
            same("devices", mine, &devices.collect())?;
            // Until the time that was named, nothing changes.
            for (_, later) in ours.range(*now..next.unwrap_or(Wall(u64::MAX))) {
                same("devices later", mine, later)?;
            }
        }
        let members: BTreeMap<_, _> = authority
            .roster
            .members
            .iter()
            .map(|(node, m)| {
                let who = (m.name.clone(), m.role, m.state, m.labels.clone());
                (
                    *node,
                    (who, m.join, m.joined_at, m.not_after, m.operator_key),
                )
            })
            .collect();
        let ours: BTreeMap<_, _> = reference
            .members
            .iter()
            .map(|(node, m)| {
                let who = (m.name.clone(), m.role, m.state, m.labels.clone());
                (
                    *node,
                    (who, m.join, m.joined_at, m.not_after, m.operator_key),
                )
            })
            .collect();
        same("members", &ours, &members)?;
        let tokens: BTreeMap<_, _> = authority
            .roster
            .invites
            .iter()
            .map(|(id, i)| {
                let state = (i.is_effective, i.is_revoked);
                (*id, (i.author, state, i.used_by.clone()))
            })
            .collect();
        let ours: BTreeMap<_, _> = reference
            .tokens
            .iter()
            .map(|(id, t)| {
                let state = (t.is_effective, t.is_revoked);
                (*id, (t.author, state, t.used_by.clone()))
            })
            .collect();
        same("tokens", &ours, &tokens)?;
        let waiting = authority.quarantined().flat_map(|(_, ids)| ids).copied();
        same("waiting", &reference.waiting, &waiting.collect())
    }

    fn tally(&self, reference: &Verdict) -> Tally {
        let mut out = Tally::default();
        out.add("histories", 1);
        out.add("statements", self.bytes.len());
        out.add("admissible", reference.admissible.len());
        out.add("edits that count", reference.edits.len());
        out.add("root records", usize::from(reference.root > 0));
        out.add("keys revoked", reference.revoked.len());
        out.add("statements agreed on", reference.agreed.len());
        let of_revoked = reference.agreed.iter().filter(|id| {
            let cut = reference.cuts.values().find(|kept| kept.contains(id));
            cut.is_some()
        });
        out.add("statements of cut keys agreed on", of_revoked.count());
        out.add("authors cut", reference.cuts.len());
        out.add("grants", reference.rights.len());
        let is_ended = |r: &&Right| r.allowed.is_some();
        out.add(
            "grants ended",
            reference.rights.values().filter(is_ended).count(),
        );
        out.add("edits that came late", self.late.len());
        out.add("edits that wait", reference.waiting.len());
        let joins: BTreeSet<StatementId> = self.of_kind(&JOINS).into_iter().collect();
        let laptops = reference.rights.keys().filter(|id| joins.contains(id));
        out.add("laptops that may write", laptops.count());
        for (name, state) in [
            ("members seen", MemberState::Seen),
            ("members on probation", MemberState::Probation),
            ("members", MemberState::Member),
            ("members suspended", MemberState::Suspended),
            ("members revoked", MemberState::Revoked),
        ] {
            let count = reference.members.values().filter(|m| m.state == state);
            out.add(name, count.count());
        }
        out.add(
            "tokens that count",
            reference.tokens.values().filter(|t| t.is_effective).count(),
        );
        let of_bound = reference.members.values().filter(|m| {
            let is_bound = |id: &StatementId| self.said.iter().any(|s| s.id == *id && s.kind == 15);
            m.invite.as_ref().is_some_and(is_bound)
        });
        out.add("machines of bound tokens", of_bound.count());
        out.add(
            "authors with several ends",
            reference.ends.values().filter(|n| **n > 1).count(),
        );
        out
    }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, ours: &T, theirs: &T) -> Result<(), String> {
    if ours == theirs {
        Ok(())
    } else {
        Err(format!(
            "{what}: the reference says {ours:#?}\nthe replica says {theirs:#?}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agree(seeds: std::ops::Range<u64>) {
        let mut tally = Tally::default();
        let count = seeds.end - seeds.start;
        for seed in seeds {
            match History::new(seed).compare() {
                Ok(more) => tally.merge(&more),
                Err(why) => panic!("seed {seed}: {why}"),
            }
        }
        let at_least = |what: &str, each: u64| {
            let have = tally.0.get(what).copied().unwrap_or(0);
            assert!(
                have * 100 >= count * each,
                "{what}: {have} in {count}: {tally:?}"
            );
        };
        at_least("edits that count", 150);
        at_least("authors cut", 20);
        at_least("root records", 10);
        at_least("statements agreed on", 300);
        at_least("statements of cut keys agreed on", 20);
        at_least("grants ended", 5);
        at_least("laptops that may write", 2);
        at_least("members", 100);
        at_least("members on probation", 1);
        at_least("members suspended", 1);
        at_least("members revoked", 5);
        at_least("tokens that count", 50);
        at_least("machines of bound tokens", 5);
        at_least("authors with several ends", 20);
    }

    #[test]
    fn a_judge_who_knows_another_root_record_disagrees() {
        let disagreements = (0..50).filter(|seed| {
            let mut history = History::new(*seed);
            history.record.admins.clear();
            history.compare().is_err()
        });
        assert!(disagreements.count() >= 45);
    }

    #[test]
    fn at_no_step_of_a_delivery_does_anything_count_that_may_not() {
        for seed in 10_000..10_060 {
            let mut history = History::new(seed);
            for _ in 0..2 {
                if let Err(why) = history.compare_stepwise() {
                    panic!("seed {seed}: {why}");
                }
            }
        }
    }

    #[test]
    fn both_judges_agree_on_what_came_late_at_every_step() {
        let mut tally = Tally::default();
        for seed in 20_000..20_400 {
            let mut history = History::with_late(seed);
            match history.compare() {
                Ok(more) => tally.merge(&more),
                Err(why) => panic!("seed {seed}: {why}"),
            }
            if seed % 5 == 0
                && let Err(why) = history.compare_stepwise()
            {
                panic!("seed {seed}, step by step: {why}");
            }
        }
        assert!(tally.0["edits that wait"] > 40, "{tally:?}");
    }

    #[test]
    fn no_minority_of_admins_changes_what_most_agreed_on_whatever_it_signs() {
        let (mut robbed, mut stood) = (0, 0);
        for seed in 30_000..30_400 {
            let mut history = History::without_new_roots(seed);
            match history.compare_robbed() {
                Ok(None) => {}
                Ok(Some(edits)) => {
                    robbed += 1;
                    stood += edits;
                }
                Err(why) => panic!("seed {seed}: {why}"),
            }
        }
        assert!(robbed >= 100 && stood >= 200, "{robbed}, {stood}");
    }

    // Four tests, so that they run side by side.
    #[test]
    fn both_judges_agree_on_random_histories_1() {
        agree(0..500);
    }

    #[test]
    fn both_judges_agree_on_random_histories_2() {
        agree(500..1000);
    }

    #[test]
    fn both_judges_agree_on_random_histories_3() {
        agree(1000..1500);
    }

    #[test]
    fn both_judges_agree_on_random_histories_4() {
        agree(1500..2000);
    }
}
