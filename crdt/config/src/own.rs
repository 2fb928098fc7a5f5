//! Which set or person owns which field, what a declaration changes, and what pruning removes.
//!
//! Ownership is recorded in every field, so pruning never guesses: what a set owned and no longer declares is
//! removed, or released when someone else owns it too. A different value in a field of someone else is a conflict
//! that is shown and not carried out, unless it is taken. Only the value in force decides who owns a field;
//! values that lost against it at the same time do not.

use std::collections::{BTreeMap, BTreeSet};

use lab_crdt_model::{Field, Op, Path};

use crate::parse::Declarations;

/// What happens to one field.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ChangeKind {
    /// Nothing stood there.
    Add,
    /// Another value stood there, of ours or taken.
    Change,
    /// Ours alone, and no longer declared.
    Remove,
    /// Ours and someone else's, and no longer declared: the others keep it.
    Release,
    /// Someone else wrote the same value: owned together from here on.
    CoOwn,
}

/// One field that a declaration changes, or would change if it were not someone else's.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Change {
    /// Where.
    pub path: Path,
    /// What happens.
    pub kind: ChangeKind,
    /// What stands there now.
    pub before: Option<Field>,
    /// What will stand there; `None` for nothing.
    pub after: Option<Field>,
}

impl Change {
    /// The edit that carries this out.
    pub fn op(&self) -> Op {
        match &self.after {
            Some(field) => Op::Set {
                path: self.path.clone(),
                field: field.clone(),
            },
            None => Op::Unset {
                path: self.path.clone(),
            },
        }
    }

    /// Who owns what stands there now, for example `person:ana`; empty if nothing does.
    pub fn owner(&self) -> String {
        self.before
            .as_ref()
            .map(|field| field.owners.join(", "))
            .unwrap_or_default()
    }
}

/// The difference between a declaration and what stands.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Comparison {
    /// What applying does, by path.
    pub changes: Vec<Change>,
    /// Fields of others that stand in the way, by path; applying leaves them alone.
    pub conflicts: Vec<Change>,
    /// Fields that are as declared.
    pub unchanged: usize,
}

impl Comparison {
    /// The edits that apply this, by path; conflicts are not among them. May be more than one statement holds.
    pub fn ops(&self) -> Vec<Op> {
        self.changes.iter().map(Change::op).collect()
    }

    /// Whether nothing is to do and nothing is in the way.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.conflicts.is_empty()
    }

    /// How many changes are of a kind.
    pub fn count(&self, kind: ChangeKind) -> usize {
        self.changes
            .iter()
            .filter(|change| change.kind == kind)
            .count()
    }
}

/// Compares a declaration with what stands (the value in force first at every path).
///
/// `take` lists path prefixes such as `on/role=web/params` whose fields are taken over from others. A field that
/// only moved within its file is unchanged.
pub fn compare(
    declared: &Declarations,
    standing: &BTreeMap<Path, Vec<Field>>,
    take: &[String],
) -> Comparison {
    let set = format!("set:{}", declared.set());
    let mut comparison = Comparison::default();
    for (path, field) in declared.fields() {
        let Some(now) = standing.get(path).and_then(|candidates| candidates.first()) else {
            let after = Some(field.clone());
            let change = Change {
                path: path.clone(),
                kind: ChangeKind::Add,
                before: None,
                after,
            };
            comparison.changes.push(change);
            continue;
        };
        let is_ours = now.owners.contains(&set);
        let change = |kind, after| {
            let before = Some(now.clone());
            Change {
                path: path.clone(),
                kind,
                before,
                after: Some(after),
            }
        };
        if now.value == field.value {
            if is_ours {
                comparison.unchanged += 1;
            } else {
                let owners: BTreeSet<_> = now.owners.iter().chain([&set]).cloned().collect();
                let owners = owners.into_iter().collect();
                let source = now.source.clone().or_else(|| field.source.clone());
                let after = Field {
                    value: now.value.clone(),
                    owners,
                    source,
                };
                comparison.changes.push(change(ChangeKind::CoOwn, after));
            }
        } else {
            let is_alone = is_ours && now.owners.len() == 1;
            let change = change(ChangeKind::Change, field.clone());
            if is_alone || take.iter().any(|prefix| path.is_below(prefix)) {
                comparison.changes.push(change);
            } else {
                comparison.conflicts.push(change);
            }
        }
    }
    for (path, candidates) in standing {
        let Some(now) = candidates.first().filter(|now| now.owners.contains(&set)) else {
            continue;
        };
        if declared.fields().contains_key(path) {
            continue;
        }
        let owners: Vec<_> = now
            .owners
            .iter()
            .filter(|owner| **owner != set)
            .cloned()
            .collect();
        let before = Some(now.clone());
        let (kind, after) = if owners.is_empty() {
            (ChangeKind::Remove, None)
        } else {
            (
                ChangeKind::Release,
                Some(Field {
                    owners,
                    ..now.clone()
                }),
            )
        };
        comparison.changes.push(Change {
            path: path.clone(),
            kind,
            before,
            after,
        });
    }
    comparison.changes.sort();
    comparison
}

#[cfg(test)]
mod tests;
