//! Which machines a query selects, and why.

use serde::Serialize;

use super::picture::{Picture, Selection};

/// One selected machine.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct TargetRow {
    /// Its name.
    pub(crate) name: String,
    /// The parts of the query that matched.
    pub(crate) why: Vec<String>,
}

/// The answer of `lab target`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct TargetView {
    /// The normal form, when it helps to see it.
    pub(crate) reads_as: Option<String>,
    /// The machines.
    pub(crate) rows: Vec<TargetRow>,
    /// How many there are in all.
    pub(crate) of: usize,
    /// How many match only because they lack a key.
    pub(crate) by_absence: usize,
    /// Facts and status that the query looks at.
    pub(crate) observed: Vec<String>,
    /// Selected machines that are silent, with the age in milliseconds.
    pub(crate) silent: Vec<(String, Option<u64>)>,
    /// Whether to show reasons.
    pub(crate) is_why: bool,
}

impl TargetView {
    /// What `selection` selects.
    pub(crate) fn new(picture: &Picture, selection: &Selection, is_why: bool) -> Self {
        let rows = selection.names.iter().map(|name| TargetRow {
            name: name.clone(),
            why: picture.why(&selection.expr, name),
        });
        let silent = picture
            .machines
            .iter()
            .filter(|m| selection.names.contains(&m.name) && m.is_node() && !m.is_heard())
            .map(|m| (m.name.clone(), m.seen_ms));
        let is_observed = |key: &&str| key.starts_with("fact.") || key.starts_with("status.");
        Self {
            reads_as: selection.expr.reads_as().or_else(|| {
                (selection.line.normal != selection.line.given)
                    .then(|| selection.line.normal.clone())
            }),
            rows: rows.collect(),
            of: picture.machines.len(),
            by_absence: selection.by_absence,
            observed: selection
                .expr
                .keys()
                .into_iter()
                .filter(is_observed)
                .map(str::to_owned)
                .collect(),
            silent: silent.collect(),
            is_why,
        }
    }
}
