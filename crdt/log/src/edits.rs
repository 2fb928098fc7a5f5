//! Which edits count, and the nearest edits that count among what each had seen.

use std::collections::BTreeSet;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use lab_crdt_model::{AuthorId, Hlc, Op, StatementId, mutant, reached, sometimes};

use crate::body::{Body, Kind};
use crate::envelope::{Statement, parse};
use crate::resolve::Authority;
use crate::state::State;

/// An edit that counts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EffectiveEdit {
    /// Which statement.
    pub id: StatementId,
    /// Who.
    pub author: AuthorId,
    /// For a branch of a forked chain other than the one that took the lowest id at every fork: its first statement.
    pub branch: Option<StatementId>,
    /// The author's stamp.
    pub at: Hlc,
    /// The author's words.
    pub message: String,
    /// Nearest effective edits in its past.
    pub parents: Vec<StatementId>,
    /// What it does.
    pub ops: Vec<Op>,
}

/// What to do with a document built from earlier edits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Edits {
    /// It is up to date.
    Unchanged,
    /// These come on top, in causal order.
    Append(Vec<EffectiveEdit>),
    /// Build it again from these, in causal order: something that counted does not count any more, or the past
    /// of something changed.
    Rebuild(Vec<EffectiveEdit>),
}

/// Nearest edits in the past of statements that have any.
type Near = OrdMap<StatementId, Arc<[StatementId]>>;

/// Once it is up to date, a function of the set of statements alone.
#[derive(Debug, Clone, Default)]
pub(crate) struct EditIndex {
    /// Whether they count or not.
    near: Near,
    is_edit: OrdSet<StatementId>,
    frontier: OrdSet<StatementId>,
    verdicts: OrdMap<StatementId, Result<(), &'static str>>,
    /// Of those that count.
    effective_near: Near,
    /// Statements stored since the last update, in order.
    fresh: Vec<StatementId>,
    is_all_stale: bool,
    stale_authors: BTreeSet<AuthorId>,
}

/// What an update did to the edits that count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Change {
    /// Something that counted does not count any more, or the past of something changed.
    pub(crate) is_rebuild: bool,
    /// What counts anew, in causal order.
    pub(crate) append: Vec<StatementId>,
}

impl EditIndex {
    pub(crate) fn store(&mut self, s: &Statement) {
        let past = self.past(s.prev, &s.refs);
        if s.body.kind() == Kind::EDIT {
            for id in &past {
                self.frontier.remove(id);
            }
            self.frontier.insert(s.id);
            self.is_edit.insert(s.id);
            self.near.insert(s.id, past.into());
        } else if !past.is_empty() {
            self.near.insert(s.id, past.into());
        }
        self.fresh.push(s.id);
    }

    /// Nearest edits before a statement: its predecessor and references, or through them.
    fn past(&self, prev: StatementId, refs: &[StatementId]) -> Vec<StatementId> {
        let mut out: Vec<StatementId> = Vec::new();
        for id in std::iter::once(&prev).chain(refs) {
            if self.is_edit.contains(id) {
                out.push(*id);
            } else if let Some(list) = self.near.get(id) {
                out.extend(list.iter());
            }
        }
        out.sort_unstable();
        out.dedup();
        out
    }

    pub(crate) const fn frontier(&self) -> &OrdSet<StatementId> {
        &self.frontier
    }

    pub(crate) fn parents(&self, id: &StatementId) -> &[StatementId] {
        self.near.get(id).map_or(&[], |list| list)
    }

    pub(crate) fn why_not(&self, id: &StatementId) -> Option<&'static str> {
        self.verdicts.get(id).and_then(|v| v.err())
    }

    /// Whether there is nothing to update.
    pub(crate) fn is_settled(&self) -> bool {
        self.fresh.is_empty() && !self.is_all_stale && self.stale_authors.is_empty()
    }

    /// Whether both say the same, as far as can be told without looking at every edit.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        self.frontier == other.frontier
            && self.near.len() == other.near.len()
            && self.verdicts.len() == other.verdicts.len()
            && self.effective_near.len() == other.effective_near.len()
    }

    pub(crate) fn reset(&mut self) {
        self.is_all_stale = true;
    }

    pub(crate) fn authority_changed(&mut self, last: &Authority, next: &Authority) {
        let (last, next) = (last.slices(), next.slices());
        for author in last.keys().chain(next.keys()) {
            if last.get(author) != next.get(author) {
                self.stale_authors.insert(*author);
            }
        }
    }

    /// Judges what is new or was judged under another authority.
    pub(crate) fn update(&mut self, log: &State) -> Change {
        let mut change = Change::default();
        let mut is_changed = std::mem::take(&mut self.is_all_stale);
        if !self.stale_authors.is_empty() {
            reached!("edits are judged again under another authority");
            let stale = std::mem::take(&mut self.stale_authors);
            let known: Vec<StatementId> = self.verdicts.keys().copied().collect();
            for id in known {
                if log.stored(&id).is_some_and(|s| stale.contains(&s.author)) {
                    let verdict = self.judge(log, &id);
                    is_changed |= self.verdicts.insert(id, verdict) != Some(verdict);
                }
            }
        }
        for id in std::mem::take(&mut self.fresh) {
            if log.stored(&id).is_none() {
                continue;
            }
            if self.is_edit.contains(&id) {
                let verdict = self.judge(log, &id);
                sometimes!(verdict.is_err(), "an edit was stored that does not count");
                self.verdicts.insert(id, verdict);
            }
            if !is_changed {
                self.link(&id);
                if self.verdicts.get(&id) == Some(&Ok(())) {
                    change.append.push(id);
                }
            }
        }
        if is_changed {
            self.effective_near.clear();
            for id in log.in_order() {
                self.link(&id);
            }
            change.append.clear();
            change.is_rebuild = !mutant!("M44");
        }
        change
    }

    fn judge(&self, log: &State, id: &StatementId) -> Result<(), &'static str> {
        let Some(s) = log.stored(id).and_then(|s| parse(&s.bytes).ok()) else {
            return Err("it cannot be read");
        };
        match &s.body {
            Body::Edit(edit) => log
                .authority()
                .judge(StatementId(log.mesh().0), &s, &edit.ops),
            _ => Err("it is not an edit"),
        }
    }

    /// Computes the nearest effective edits before `id`, whose own past is linked already.
    fn link(&mut self, id: &StatementId) {
        // `near` of a statement names its nearest edits; replace each that does not count by its own past.
        let mut out: Vec<StatementId> = Vec::new();
        if self.is_edit.contains(id) || self.near.contains_key(id) {
            for edit in self.near.get(id).into_iter().flat_map(|list| list.iter()) {
                if self.verdicts.get(edit) == Some(&Ok(())) {
                    out.push(*edit);
                } else if let Some(list) = self.effective_near.get(edit) {
                    out.extend(list.iter());
                }
            }
        }
        out.sort_unstable();
        out.dedup();
        if out.is_empty() {
            self.effective_near.remove(id);
        } else {
            self.effective_near.insert(*id, out.into());
        }
    }

    /// Those of `ids` that are edits that are here, read.
    pub(crate) fn read(&self, log: &State, ids: &[StatementId]) -> Vec<EffectiveEdit> {
        ids.iter()
            .filter_map(|id| self.effective(log, id))
            .collect()
    }

    /// All that count, in causal order.
    pub(crate) fn all(&self, log: &State) -> Vec<EffectiveEdit> {
        log.in_order()
            .filter(|id| self.verdicts.get(id) == Some(&Ok(())))
            .filter_map(|id| self.effective(log, &id))
            .collect()
    }

    fn effective(&self, log: &State, id: &StatementId) -> Option<EffectiveEdit> {
        let stored = log.stored(id)?;
        let s = parse(&stored.bytes).ok()?;
        let Body::Edit(edit) = s.body else {
            return None;
        };
        Some(EffectiveEdit {
            id: *id,
            author: s.author,
            branch: log.chain(&s.author)?.branch(id),
            at: s.hlc,
            message: edit.message,
            parents: self
                .effective_near
                .get(id)
                .map(|list| list.to_vec())
                .unwrap_or_default(),
            ops: edit.ops,
        })
    }
}
