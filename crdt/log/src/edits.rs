//! Which edits count, and the nearest edits that count among what each had seen.

use std::collections::{BTreeMap, BTreeSet};

use lab_crdt_model::{AuthorId, Hlc, Op, StatementId};

use crate::body::{Body, Kind};
use crate::envelope::{Statement, parse};
use crate::log::Log;
use crate::resolve::Authority;

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

#[derive(Debug, Default)]
pub(crate) struct EditIndex {
    /// Nearest edits in the past of every statement that has any, whether they count or not.
    near: BTreeMap<StatementId, Vec<StatementId>>,
    is_edit: BTreeSet<StatementId>,
    frontier: BTreeSet<StatementId>,
    verdicts: BTreeMap<StatementId, Result<(), &'static str>>,
    /// Edits stored since the last update, in order.
    fresh: Vec<StatementId>,
    /// Nearest effective edits in the past of every statement that has any.
    effective_near: BTreeMap<StatementId, Vec<StatementId>>,
    append: Vec<StatementId>,
    is_rebuild: bool,
    is_all_stale: bool,
    stale_authors: BTreeSet<AuthorId>,
}

impl EditIndex {
    pub(crate) fn store(&mut self, s: &Statement) {
        let past = self.past(&self.near, s.prev, &s.refs);
        if s.body.kind() == Kind::EDIT {
            for id in &past {
                self.frontier.remove(id);
            }
            self.frontier.insert(s.id);
            self.is_edit.insert(s.id);
            self.near.insert(s.id, past);
        } else if !past.is_empty() {
            self.near.insert(s.id, past);
        }
        self.fresh.push(s.id);
    }

    /// Nearest edits before a statement: its predecessor and references, or through them.
    fn past(
        &self,
        near: &BTreeMap<StatementId, Vec<StatementId>>,
        prev: StatementId,
        refs: &[StatementId],
    ) -> Vec<StatementId> {
        let mut out: Vec<StatementId> = Vec::new();
        for id in std::iter::once(&prev).chain(refs) {
            if self.is_edit.contains(id) {
                out.push(*id);
            } else if let Some(list) = near.get(id) {
                out.extend(list);
            }
        }
        out.sort_unstable();
        out.dedup();
        out
    }

    pub(crate) const fn frontier(&self) -> &BTreeSet<StatementId> {
        &self.frontier
    }

    pub(crate) fn parents(&self, id: &StatementId) -> Option<&Vec<StatementId>> {
        self.near.get(id)
    }

    pub(crate) fn why_not(&self, id: &StatementId) -> Option<&'static str> {
        self.verdicts.get(id).and_then(|v| v.err())
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
    pub(crate) fn update(&mut self, log: &Log) {
        let mut is_changed = std::mem::take(&mut self.is_all_stale);
        if !self.stale_authors.is_empty() {
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
                self.verdicts.insert(id, verdict);
            }
            if !is_changed {
                self.link(log, &id);
                if self.verdicts.get(&id) == Some(&Ok(())) {
                    self.append.push(id);
                }
            }
        }
        if is_changed {
            self.effective_near.clear();
            for (_, id) in log.in_order() {
                self.link(log, &id);
            }
            self.append.clear();
            self.is_rebuild = true;
        }
    }

    fn judge(&self, log: &Log, id: &StatementId) -> Result<(), &'static str> {
        let Some(s) = log.stored(id).and_then(|s| parse(&s.bytes).ok()) else {
            return Err("it cannot be read");
        };
        match &s.body {
            Body::Edit(edit) => {
                log.authority_as_resolved()
                    .judge(StatementId(log.mesh().0), &s, &edit.ops)
            }
            _ => Err("it is not an edit"),
        }
    }

    /// Computes the nearest effective edits before `id`, whose own past is linked already.
    fn link(&mut self, log: &Log, id: &StatementId) {
        // `near` of a statement names its nearest edits; replace each that does not count by its own past.
        let mut out: Vec<StatementId> = Vec::new();
        if self.is_edit.contains(id) || self.near.contains_key(id) {
            for edit in self.near.get(id).into_iter().flatten() {
                if self.verdicts.get(edit) == Some(&Ok(())) {
                    out.push(*edit);
                } else if let Some(list) = self.effective_near.get(edit) {
                    out.extend(list);
                }
            }
        }
        let _ = log;
        out.sort_unstable();
        out.dedup();
        if out.is_empty() {
            self.effective_near.remove(id);
        } else {
            self.effective_near.insert(*id, out);
        }
    }

    pub(crate) fn take(&mut self, log: &Log) -> Edits {
        if std::mem::take(&mut self.is_rebuild) {
            self.append.clear();
            return Edits::Rebuild(self.all(log));
        }
        let append = std::mem::take(&mut self.append);
        if append.is_empty() {
            return Edits::Unchanged;
        }
        Edits::Append(
            append
                .iter()
                .filter_map(|id| self.effective(log, id))
                .collect(),
        )
    }

    pub(crate) fn all(&self, log: &Log) -> Vec<EffectiveEdit> {
        let counting = log
            .in_order()
            .filter(|(_, id)| self.verdicts.get(id) == Some(&Ok(())));
        counting
            .filter_map(|(_, id)| self.effective(log, &id))
            .collect()
    }

    fn effective(&self, log: &Log, id: &StatementId) -> Option<EffectiveEdit> {
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
            parents: self.effective_near.get(id).cloned().unwrap_or_default(),
            ops: edit.ops,
        })
    }
}
