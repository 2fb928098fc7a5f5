//! Who followed whom: the edits of a document, their actors, and what each could see.
//!
//! What an edit could see is a version vector: for each actor, how many of its edits. Vectors are
//! kept for every sixteenth edit of an actor only; the others are found by walking back to those.

use std::collections::{BTreeMap, BTreeSet};

use automerge::{ActorId, ChangeHash};
use lab_crdt_model::{AuthorId, Hlc, MeshId, StatementId};

use crate::edit::Edit;
use crate::error::DocError;
use crate::genesis;

/// The place of an edit in order of arrival.
pub(crate) type Index = u32;

/// For each actor, by its number, how many of its edits are meant; actors beyond the end have none.
type Clock = Vec<u32>;

const CLOCK_EVERY: u32 = 16;

/// An edit, reduced to its place.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) id: StatementId,
    pub(crate) at: Hlc,
    /// The number of its actor.
    pub(crate) actor: u32,
    /// Its place among the edits of its actor, from one.
    pub(crate) seq: u32,
    /// The largest operation counter in its past and itself.
    pub(crate) op_max: u32,
    /// Its change.
    pub(crate) hash: ChangeHash,
    /// The heads of its past.
    pub(crate) parents: Box<[Index]>,
}

/// A line of edits that follow each other.
#[derive(Debug, Clone)]
pub(crate) struct Actor {
    pub(crate) id: ActorId,
    pub(crate) author: AuthorId,
    pub(crate) branch: Option<StatementId>,
    edits: Vec<Index>,
}

/// What an edit could see.
#[derive(Debug, Clone)]
pub(crate) enum Past {
    /// Everything that was there before it.
    Everything,
    /// A part.
    Part(Clock),
}

/// An edit that found its place and now waits for its change.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) index: Index,
    pub(crate) past: Past,
}

#[derive(Debug, Clone)]
pub(crate) struct Graph {
    mesh: MeshId,
    nodes: Vec<Node>,
    ids: BTreeMap<StatementId, Index>,
    actors: Vec<Actor>,
    actor_numbers: BTreeMap<(AuthorId, Option<StatementId>), u32>,
    heads: BTreeSet<Index>,
    clocks: BTreeMap<Index, Box<[u32]>>,
}

/// What to go back to when a batch turns out to be unusable.
#[derive(Debug)]
pub(crate) struct Mark {
    len: usize,
    heads: BTreeSet<Index>,
}

impl Graph {
    pub(crate) fn new(mesh: MeshId) -> Self {
        Self {
            mesh,
            nodes: Vec::new(),
            ids: BTreeMap::new(),
            actors: Vec::new(),
            actor_numbers: BTreeMap::new(),
            heads: BTreeSet::new(),
            clocks: BTreeMap::new(),
        }
    }

    /// Gives an edit its place after its parents; `None` if it has one already.
    ///
    /// Its operation counter and its change are unknown until [`seal`](Self::seal).
    pub(crate) fn add(&mut self, edit: &Edit) -> Result<Option<Step>, DocError> {
        if self.ids.contains_key(&edit.id) {
            return Ok(None);
        }
        let index = Index::try_from(self.nodes.len()).map_err(|_overflow| DocError::Full)?;
        let mut parents = BTreeSet::new();
        for parent in &edit.parents {
            let unknown = || DocError::UnknownParent {
                edit: edit.id,
                parent: *parent,
            };
            parents.insert(*self.ids.get(parent).ok_or_else(unknown)?);
        }

        let key = (edit.author, edit.branch);
        let known = self.actor_numbers.get(&key).copied();
        let written = known.map_or(0, |number| self.actor(number).edits.len() as u32);
        let past = if self.heads.is_subset(&parents) {
            parents.clone_from(&self.heads);
            Past::Everything
        } else {
            let clock = self.reduce(&mut parents);
            if known.is_some_and(|number| count(&clock, number) < written) {
                return Err(DocError::Forked {
                    edit: edit.id,
                    author: edit.author,
                });
            }
            Past::Part(clock)
        };

        let number = known.unwrap_or_else(|| self.add_actor(key));
        let seq = written + 1;
        self.actors[number as usize].edits.push(index);
        if seq.is_multiple_of(CLOCK_EVERY) {
            let mut clock = match &past {
                Past::Everything => self.actors.iter().map(|a| a.edits.len() as u32).collect(),
                Past::Part(clock) => clock.clone(),
            };
            raise(&mut clock, number, seq);
            self.clocks.insert(index, clock.into_boxed_slice());
        }
        self.ids.insert(edit.id, index);
        self.heads.retain(|head| !parents.contains(head));
        self.heads.insert(index);
        self.nodes.push(Node {
            id: edit.id,
            at: edit.at,
            actor: number,
            seq,
            op_max: 0,
            hash: ChangeHash([0; 32]),
            parents: parents.into_iter().collect(),
        });
        Ok(Some(Step { index, past }))
    }

    /// Notes what an edit's change turned out to be.
    pub(crate) fn seal(&mut self, index: Index, op_max: u32, hash: ChangeHash) {
        let node = &mut self.nodes[index as usize];
        node.op_max = op_max;
        node.hash = hash;
    }

    pub(crate) fn mark(&self) -> Mark {
        Mark {
            len: self.nodes.len(),
            heads: self.heads.clone(),
        }
    }

    /// Forgets every edit added since the mark.
    pub(crate) fn go_back(&mut self, mark: Mark) {
        for node in self.nodes.drain(mark.len..).rev() {
            self.ids.remove(&node.id);
            let actor = &mut self.actors[node.actor as usize];
            actor.edits.pop();
            if actor.edits.is_empty() {
                // Actors are numbered in order of their first edit, so the one without edits is the
                // last.
                self.actor_numbers.remove(&(actor.author, actor.branch));
                self.actors.truncate(node.actor as usize);
            }
        }
        self.clocks.split_off(&(mark.len as Index));
        self.heads = mark.heads;
    }

    pub(crate) const fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn index(&self, id: &StatementId) -> Option<Index> {
        self.ids.get(id).copied()
    }

    pub(crate) fn node(&self, index: Index) -> &Node {
        &self.nodes[index as usize]
    }

    pub(crate) fn actor(&self, number: u32) -> &Actor {
        &self.actors[number as usize]
    }

    pub(crate) fn actors(&self) -> &[Actor] {
        &self.actors
    }

    pub(crate) fn heads(&self) -> impl Iterator<Item = Index> {
        self.heads.iter().copied()
    }

    /// The largest operation counter of the document.
    pub(crate) fn op_max(&self) -> u32 {
        self.heads()
            .map(|head| self.node(head).op_max)
            .max()
            .unwrap_or(genesis::SHARDS)
    }

    /// Whether an edit that came before belongs to a past.
    pub(crate) fn is_in(&self, index: Index, past: &Past) -> bool {
        match past {
            Past::Everything => true,
            Past::Part(clock) => {
                let node = self.node(index);
                count(clock, node.actor) >= node.seq
            }
        }
    }

    /// The edit of an actor that holds an operation counter.
    pub(crate) fn writer(&self, actor: &Actor, op: u32) -> Option<Index> {
        let at = actor
            .edits
            .partition_point(|edit| self.node(*edit).op_max < op);
        actor.edits.get(at).copied()
    }

    fn add_actor(&mut self, key: (AuthorId, Option<StatementId>)) -> u32 {
        let number = self.actors.len() as u32;
        let (author, branch) = key;
        let id = genesis::actor(&self.mesh, &author, branch.as_ref());
        self.actors.push(Actor {
            id,
            author,
            branch,
            edits: Vec::new(),
        });
        self.actor_numbers.insert(key, number);
        number
    }

    /// Drops the parents that lie in the past of other parents; what all of them could see and they
    /// themselves.
    fn reduce(&self, parents: &mut BTreeSet<Index>) -> Clock {
        // A later edit is never in the past of an earlier one.
        let mut clock = Clock::new();
        let mut heads = BTreeSet::new();
        for parent in parents.iter().rev() {
            let node = self.node(*parent);
            if count(&clock, node.actor) < node.seq {
                heads.insert(*parent);
                self.extend(&mut clock, *parent);
            }
        }
        *parents = heads;
        clock
    }

    /// Adds an edit and its past to a clock that holds whole pasts only.
    fn extend(&self, clock: &mut Clock, index: Index) {
        // The latest first: by the time an edit's turn comes, everything that leads to it is done.
        let mut rest = BTreeSet::from([index]);
        // Kept apart until the end: these are seen, their pasts are not yet.
        let mut walked = Clock::new();
        while let Some(index) = rest.pop_last() {
            let node = self.node(index);
            if count(clock, node.actor) >= node.seq {
                continue;
            }
            if let Some(kept) = self.clocks.get(&index) {
                merge(clock, kept);
            } else {
                raise(&mut walked, node.actor, node.seq);
                rest.extend(&node.parents);
            }
        }
        merge(clock, &walked);
    }
}

fn merge(clock: &mut Clock, other: &[u32]) {
    for (actor, seen) in (0..).zip(other) {
        raise(clock, actor, *seen);
    }
}

fn count(clock: &[u32], actor: u32) -> u32 {
    clock.get(actor as usize).copied().unwrap_or(0)
}

fn raise(clock: &mut Clock, actor: u32, seen: u32) {
    let at = actor as usize;
    if clock.len() <= at {
        clock.resize(at + 1, 0);
    }
    clock[at] = clock[at].max(seen);
}
