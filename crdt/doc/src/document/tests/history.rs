//! Made-up histories: lines of edits by authors who hear from each other now and then.

use std::collections::{BTreeMap, BTreeSet};

use lab_crdt_model::{AuthorId, Field, Hlc, MeshId, Op, Path, StatementId, Value, Wall};

use crate::Edit;

pub(super) const MESH: MeshId = MeshId([7; 32]);

/// One thing that happens on one line.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) line: usize,
    /// The line it hears from first.
    pub(super) hears: Option<usize>,
    /// Path and value; `None` removes.
    pub(super) ops: Vec<(u8, Option<u8>)>,
}

/// A line of edits: an author, or a branch of one.
#[derive(Clone)]
struct Line {
    author: AuthorId,
    branch: Option<StatementId>,
    /// The newest edit it has seen of each line.
    seen: BTreeMap<usize, usize>,
}

/// Lets `authors` live through `steps`. After `fork_after` steps the first author's chain splits,
/// and the extra line (number `authors`) goes on as its second branch.
pub(super) fn live(authors: usize, fork_after: Option<usize>, steps: &[Step]) -> Vec<Edit> {
    let author = |n: usize| AuthorId([n as u8 + 1; 32]);
    let mut lines: Vec<Line> = (0..authors)
        .map(|n| Line {
            author: author(n),
            branch: None,
            seen: BTreeMap::new(),
        })
        .collect();
    let mut edits: Vec<Edit> = Vec::new();
    for (number, step) in steps.iter().enumerate() {
        if fork_after == Some(number) {
            lines.push(lines[0].clone());
        }
        let line = step.line % lines.len();
        if let Some(from) = step.hears.map(|from| from % lines.len()) {
            for (of, newest) in lines[from].seen.clone() {
                let seen = lines[line].seen.entry(of).or_insert(newest);
                *seen = newest.max(*seen);
            }
        }
        let id = StatementId(*blake3::hash(&(number as u64).to_be_bytes()).as_bytes());
        if line == authors && lines[line].branch.is_none() {
            lines[line].branch = Some(id);
        }
        let Line {
            author,
            branch,
            seen,
        } = &lines[line];
        edits.push(Edit {
            id,
            author: *author,
            branch: *branch,
            at: Hlc::from_wall(Wall(1_700_000_000_000 + number as u64 * 777)).next(Wall(0)),
            message: if number % 3 == 0 {
                String::new()
            } else {
                format!("step {number}")
            },
            parents: seen.values().map(|edit| edits[*edit].id).collect(),
            ops: step.ops.iter().map(op).collect(),
        });
        lines[line].seen.insert(line, number);
    }
    edits
}

fn op((at, value): &(u8, Option<u8>)) -> Op {
    let path = path(*at);
    match value {
        Some(n) => Op::Set {
            path,
            field: Field::new(Value::Int(i64::from(*n)), "person:ada"),
        },
        None => Op::Unset { path },
    }
}

pub(super) fn path(n: u8) -> Path {
    format!("label/nuc{n}/role=web").parse().unwrap()
}

/// A small source of numbers that is the same everywhere.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % end as u64) as usize
    }

    pub(super) fn steps(&mut self, count: usize, lines: usize, paths: usize) -> Vec<Step> {
        let step = |_| Step {
            line: self.below(lines),
            hears: (self.below(3) == 0).then(|| self.below(lines)),
            ops: (0..self.below(4))
                .map(|_| {
                    (
                        self.below(paths) as u8,
                        (self.below(4) > 0).then(|| self.below(256) as u8),
                    )
                })
                .collect(),
        };
        (0..count).map(step).collect()
    }

    /// The same edits in another order that keeps parents before children.
    pub(super) fn deliver(&mut self, edits: &[Edit]) -> Vec<Edit> {
        let mut waiting: Vec<&Edit> = edits.iter().collect();
        let mut delivered = Vec::new();
        let mut known = BTreeSet::new();
        while !waiting.is_empty() {
            let at = self.below(waiting.len());
            // From a random place on, the first one whose parents are known; there always is one.
            let ready = (at..waiting.len())
                .chain(0..at)
                .find(|n| {
                    waiting[*n]
                        .parents
                        .iter()
                        .all(|parent| known.contains(parent))
                })
                .unwrap();
            let edit = waiting.remove(ready);
            known.insert(edit.id);
            delivered.push(edit.clone());
        }
        delivered
    }
}

/// Every edit's past, itself included, by the plainest means.
pub(super) fn pasts(edits: &[Edit]) -> BTreeMap<StatementId, BTreeSet<StatementId>> {
    let mut pasts: BTreeMap<StatementId, BTreeSet<StatementId>> = BTreeMap::new();
    for edit in edits {
        let mut past = BTreeSet::from([edit.id]);
        for parent in &edit.parents {
            past.extend(&pasts[parent]);
        }
        pasts.insert(edit.id, past);
    }
    pasts
}

/// The same edits without the parents that lie in the past of other parents.
pub(super) fn nearest_parents(edits: &[Edit]) -> Vec<Edit> {
    let pasts = pasts(edits);
    let reduce = |edit: &Edit| {
        let is_nearest = |parent: &StatementId| {
            edit.parents
                .iter()
                .all(|other| other == parent || !pasts[other].contains(parent))
        };
        let parents = edit.parents.iter().copied().filter(is_nearest).collect();
        Edit {
            parents,
            ..edit.clone()
        }
    };
    edits.iter().map(reduce).collect()
}

/// Which statements' values stand at each path, by the plainest means.
pub(super) fn standing(edits: &[Edit]) -> BTreeMap<Path, BTreeSet<StatementId>> {
    let pasts = pasts(edits);
    let mut standing: BTreeMap<Path, BTreeSet<StatementId>> = BTreeMap::new();
    for edit in edits {
        for path in edit.ops.iter().map(Op::path).collect::<BTreeSet<_>>() {
            let here = standing.entry(path.clone()).or_default();
            here.retain(|id| !pasts[&edit.id].contains(id));
            if let Some(Op::Set { .. }) = edit.ops.iter().rfind(|op| op.path() == path) {
                here.insert(edit.id);
            }
        }
    }
    standing.retain(|_, here| !here.is_empty());
    standing
}
