//! What stands at each path, as plain data beside the document.
//!
//! Values that were superseded are gone, but the counters of the operations that wrote them stay,
//! twelve bytes each: an edit whose author was away for long may still name them as what it
//! supersedes.

use std::collections::BTreeMap;

use automerge::ActorId;
use lab_crdt_model::Path;

use crate::Candidate;
use crate::graph::{Graph, Index, Past};

/// The operation that wrote a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Write {
    /// Its counter.
    pub(crate) op: u32,
    /// Its edit.
    pub(crate) edit: Index,
}

#[derive(Debug, Clone)]
struct Superseded {
    write: Write,
    by: Index,
}

#[derive(Debug, Clone, Default)]
struct Entry {
    /// The one in force first.
    visible: Vec<Candidate>,
    /// Beside `visible`.
    writes: Vec<Write>,
    /// Sorted; a write that several edits superseded without seeing each other is here once for
    /// each.
    superseded: Vec<Superseded>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct View {
    entries: BTreeMap<Path, Entry>,
}

impl View {
    pub(crate) fn get(&self, path: &Path) -> &[Candidate] {
        self.entries.get(path).map_or(&[], |entry| &entry.visible)
    }

    pub(crate) fn fields(&self) -> impl Iterator<Item = (&Path, &[Candidate])> {
        self.entries
            .iter()
            .filter(|(_, entry)| !entry.visible.is_empty())
            .map(|(path, entry)| (path, entry.visible.as_slice()))
    }

    /// A path and what lies below it.
    pub(crate) fn fields_below(&self, prefix: Path) -> impl Iterator<Item = (&Path, &[Candidate])> {
        let below = format!("{prefix}/");
        // Nothing sorts before it among the paths below. If it is too long for a path, so are they.
        let first: Option<Path> = format!("{below} ").parse().ok();
        let exact = self.entries.get_key_value(&prefix);
        let others = first.into_iter().flat_map(move |first| {
            let below = below.clone();
            let from_first = self.entries.range(first..);
            from_first.take_while(move |(path, _)| path.as_str().starts_with(&below))
        });
        exact
            .into_iter()
            .chain(others)
            .filter(|(_, entry)| !entry.visible.is_empty())
            .map(|(path, entry)| (path, entry.visible.as_slice()))
    }

    /// The values of a path that were visible in a past.
    pub(crate) fn visible_in(&self, path: &Path, past: &Past, graph: &Graph) -> Vec<Write> {
        let Some(entry) = self.entries.get(path) else {
            return Vec::new();
        };
        if matches!(past, Past::Everything) {
            return entry.writes.clone();
        }
        let is_in = |index| graph.is_in(index, past);
        let standing = entry
            .writes
            .iter()
            .copied()
            .filter(|write| is_in(write.edit));
        let stood = entry
            .superseded
            .chunk_by(|row, next| row.write == next.write)
            .filter(|rows| is_in(rows[0].write.edit) && !rows.iter().any(|row| is_in(row.by)))
            .map(|rows| rows[0].write);
        standing.chain(stood).collect()
    }

    /// Supersedes values and, if there is a new one, puts it in its place.
    pub(crate) fn change(
        &mut self,
        path: &Path,
        by: Index,
        superseded: &[Write],
        new: Option<(u32, Candidate)>,
        graph: &Graph,
    ) {
        let entry = match self.entries.get_mut(path) {
            Some(entry) => entry,
            None => self.entries.entry(path.clone()).or_default(),
        };
        for write in superseded {
            if let Some(at) = entry.writes.iter().position(|other| other == write) {
                entry.writes.remove(at);
                entry.visible.remove(at);
            }
            let at = entry.superseded.partition_point(|row| row.write <= *write);
            entry
                .superseded
                .insert(at, Superseded { write: *write, by });
        }
        if let Some((op, candidate)) = new {
            let write = Write { op, edit: by };
            let rank = rank(write, graph);
            let at = entry
                .writes
                .partition_point(|other| self::rank(*other, graph) > rank);
            // Nearly every path has one value, and there are very many paths.
            entry.writes.reserve_exact(1);
            entry.visible.reserve_exact(1);
            entry.writes.insert(at, write);
            entry.visible.insert(at, candidate);
        }
    }
}

/// Automerge's order of values that stand side by side: the largest is in force.
fn rank(write: Write, graph: &Graph) -> (u32, &ActorId) {
    (write.op, &graph.actor(graph.node(write.edit).actor).id)
}
