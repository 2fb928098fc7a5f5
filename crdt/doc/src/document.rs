//! The document: apply edits, look at what stands.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use automerge::{ActorId, Automerge, Change, ChangeHash};
use lab_crdt_model::view::FieldView;
use lab_crdt_model::{Issue, MeshId, Path, StatementId, mutant, sometimes};

use crate::edit::Edit;
use crate::error::DocError;
use crate::graph::{Graph, Step};
use crate::read::{self, Snapshot};
use crate::view::View;
use crate::{Candidate, change, genesis};

/// Operations after which a batch is handed to automerge: an eighth of those in the document,
/// within these.
///
/// Automerge walks much of the document for each batch and needs 5 to 8 KB for each operation while
/// it takes it in. Measured on 120,000 operations: 8,000 at a time are fastest, 2,000 take twice as
/// long, and so do all at once, with ten times the memory.
const BATCH_OPS: std::ops::RangeInclusive<usize> = 1024..=8192;

/// Operations in one batch, and since the last time, after which the automerge document is copied.
///
/// Taking in changes leaves buffers much larger than what is in them, up to 8 KB for each
/// operation; a copy has none of that and costs 4 ms at 120,000 operations.
const LOOSE_OPS_BATCH: usize = 256;
const LOOSE_OPS_MAX: usize = 4096;

/// The effective intent of a mesh, with its history.
///
/// Cheap to read, dear to clone. After an error of [`apply`](Self::apply) that names a bug it is
/// unusable: drop it and build a new one from the effective edits.
#[derive(Clone)]
pub struct Document {
    mesh: MeshId,
    genesis: Genesis,
    automerge: Automerge,
    graph: Graph,
    view: View,
    /// Operations taken in since the automerge document was last copied.
    loose_ops: usize,
}

#[derive(Clone)]
pub(crate) struct Genesis {
    pub(crate) actor: ActorId,
    hash: ChangeHash,
}

/// An empty document of automerge. Its own way to make one draws a random actor from the machine, which is replaced at
/// once here; so that happens once in a process, and never in the middle of an agent's step.
fn blank() -> Automerge {
    static BLANK: OnceLock<Automerge> = OnceLock::new();
    BLANK.get_or_init(Automerge::new).clone()
}

impl Document {
    /// A document without edits. The same on every replica of a mesh.
    pub fn new(mesh: &MeshId) -> Self {
        let change = genesis::genesis(mesh);
        let actor = genesis::genesis_actor(mesh);
        let hash = change.hash();
        let mut automerge = blank().with_actor(actor.clone());
        automerge
            .apply_changes([change])
            .expect("the first change of an empty document depends on nothing and repeats nothing");
        Self {
            mesh: *mesh,
            genesis: Genesis { actor, hash },
            automerge,
            graph: Graph::new(*mesh),
            view: View::default(),
            loose_ops: 0,
        }
    }

    /// Loads what [`save`](Self::save) wrote on this machine.
    ///
    /// Every change is built again from what it says and must come out the same, so a save that
    /// loads is what these rules make of the edits in it. Whether those are still the effective
    /// ones is for the caller to ask ([`contains`](Self::contains), [`len`](Self::len)).
    ///
    /// # Errors
    /// The bytes are damaged, of another mesh or of another version. Build the document from the
    /// edits then.
    pub fn load(mesh: &MeshId, bytes: &[u8]) -> Result<Self, DocError> {
        let mut document = Self::new(mesh);
        let genesis_hash = document.genesis.hash;
        let automerge = guard("load a saved document", || Automerge::load(bytes))?
            .map_err(DocError::Load)?
            .with_actor(document.genesis.actor.clone());
        let changes = guard("read a saved document", || automerge.get_changes(&[]))?;
        let mut authors = BTreeMap::new();
        let mut ids = BTreeMap::new();
        for change in changes
            .iter()
            .filter(|change| change.hash() != genesis_hash)
        {
            let edit = guard("read a saved change", || {
                change::unbuild(change, &mut authors, &ids, genesis_hash)
            })??;
            let Some(step) = document.graph.add(&edit)? else {
                return Err(DocError::Foreign("two changes of one statement"));
            };
            let built = document.build(&edit, &step, |_| ());
            if built.hash() != change.hash() {
                return Err(DocError::Foreign("a change that its edit does not make"));
            }
            ids.insert(change.hash(), edit.id);
        }
        document.automerge = automerge;
        if document.heads() != document.expected_heads() {
            return Err(DocError::Foreign("heads that its changes do not have"));
        }
        Ok(document)
    }

    /// Applies edits, parents before children, and tells which paths they acted on, sorted.
    ///
    /// Edits that are in the document are passed over. Many at once cost far less than one by one.
    ///
    /// # Errors
    /// An unknown parent, a fork, a full document: nothing was changed, for the whole batch. Any
    /// other error is a bug: the document is unusable.
    pub fn apply(&mut self, edits: &[Edit]) -> Result<Vec<Path>, DocError> {
        let mark = self.graph.mark();
        let mut op_max = self.graph.op_max();
        let mut steps = Vec::with_capacity(edits.len());
        for edit in edits {
            op_max = op_max.saturating_add(u32::try_from(edit.ops.len()).unwrap_or(u32::MAX));
            let step = if op_max < u32::MAX {
                self.graph.add(edit)
            } else {
                Err(DocError::Full)
            };
            match step {
                Ok(step) => steps.extend(step.map(|step| (edit, step))),
                Err(error) => {
                    self.graph.go_back(mark);
                    return Err(error);
                }
            }
        }

        let mut touched = BTreeSet::new();
        let mut batch = Vec::new();
        let mut ops = 0;
        for (edit, step) in &steps {
            let change = self.build(edit, step, |path| {
                touched.insert(path);
            });
            ops += change.len();
            batch.push(change);
            let in_document = self.graph.node(step.index).op_max as usize;
            if ops >= (in_document / 8).clamp(*BATCH_OPS.start(), *BATCH_OPS.end()) {
                self.take_in(std::mem::take(&mut batch))?;
                ops = 0;
            }
        }
        self.take_in(batch)?;
        sometimes!(
            self.graph.heads().count() > 1,
            "a document has several heads"
        );
        sometimes!(steps.len() > 10, "many edits came at once");
        Ok(touched.into_iter().cloned().collect())
    }

    /// The heads of the document, sorted; the genesis change when it has no edit.
    ///
    /// Equal on two replicas exactly when they hold the same effective edits.
    pub fn heads(&self) -> Vec<[u8; 32]> {
        self.automerge
            .get_heads()
            .into_iter()
            .map(|hash| hash.0)
            .collect()
    }

    /// Whether an edit is in the document.
    pub fn contains(&self, id: &StatementId) -> bool {
        self.graph.index(id).is_some()
    }

    /// How many edits are in the document.
    pub const fn len(&self) -> usize {
        self.graph.len()
    }

    /// Whether no edit is in the document.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The mesh that the document belongs to.
    pub const fn mesh(&self) -> &MeshId {
        &self.mesh
    }

    /// What stands, by path; each with at least one candidate, the one in force first.
    pub fn fields(&self) -> impl Iterator<Item = (&Path, &[Candidate])> {
        self.view.fields().map(|(path, all)| {
            sometimes!(all.len() > 1, "two values stand at one field");
            let winner = all.get(..1).filter(|_| mutant!("M40"));
            (path, winner.unwrap_or(all))
        })
    }

    /// What stands at a path and below it, in the order of paths.
    pub fn fields_below(&self, prefix: Path) -> impl Iterator<Item = (&Path, &[Candidate])> {
        self.view.fields_below(prefix)
    }

    /// What stands at a path, the one in force first; empty when nothing does.
    pub fn get(&self, path: &Path) -> &[Candidate] {
        self.view.get(path)
    }

    /// Reads everything straight from automerge.
    ///
    /// Never fails: an entry that cannot be understood is left out and reported. Costs a walk
    /// through the whole document; [`fields`](Self::fields) says the same at once.
    pub fn read(&self) -> (Snapshot, Vec<Issue>) {
        read::read(&self.automerge, &self.graph, &self.genesis.actor, None)
    }

    /// What stood when these edits and their pasts were everything; nothing for no edit at all.
    ///
    /// Costs a walk through the whole document.
    ///
    /// # Errors
    /// One of the edits is not in the document.
    pub fn at(&self, heads: &[StatementId]) -> Result<Vec<FieldView>, DocError> {
        let mut hashes = Vec::with_capacity(heads.len().max(1));
        for id in heads {
            let index = self
                .graph
                .index(id)
                .ok_or(DocError::UnknownStatement(*id))?;
            hashes.push(self.graph.node(index).hash);
        }
        if hashes.is_empty() {
            hashes.push(self.genesis.hash);
        }
        let (snapshot, _) = read::read(
            &self.automerge,
            &self.graph,
            &self.genesis.actor,
            Some(&hashes),
        );
        let view = |(path, candidates)| FieldView { path, candidates };
        Ok(snapshot.fields.into_iter().map(view).collect())
    }

    /// The document as bytes, for [`load`](Self::load) on this machine.
    ///
    /// Bytes differ between replicas that are equal: never compare or send them.
    pub fn save(&self) -> Vec<u8> {
        self.automerge.save()
    }

    fn build<'a>(&mut self, edit: &'a Edit, step: &Step, touched: impl FnMut(&'a Path)) -> Change {
        let genesis = (&self.genesis.actor, self.genesis.hash);
        change::build(
            edit,
            step,
            genesis,
            &mut self.graph,
            &mut self.view,
            touched,
        )
    }

    fn take_in(&mut self, changes: Vec<Change>) -> Result<(), DocError> {
        let ops: usize = changes.iter().map(Change::len).sum();
        if !changes.is_empty() {
            guard("apply edits", || self.automerge.apply_changes(changes))?
                .map_err(DocError::Apply)?;
        }
        self.loose_ops += ops;
        if ops >= LOOSE_OPS_BATCH || self.loose_ops >= LOOSE_OPS_MAX {
            self.automerge = self.automerge.clone();
            self.loose_ops = 0;
        }
        Ok(())
    }

    fn expected_heads(&self) -> Vec<[u8; 32]> {
        let mut heads: Vec<_> = self
            .graph
            .heads()
            .map(|head| self.graph.node(head).hash.0)
            .collect();
        if heads.is_empty() {
            heads.push(self.genesis.hash.0);
        }
        heads.sort_unstable();
        heads
    }
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Document")
            .field("mesh", &self.mesh)
            .field("edits", &self.len())
            .finish_non_exhaustive()
    }
}

/// Keeps a panic inside automerge from ending the agent.
fn guard<T>(operation: &'static str, work: impl FnOnce() -> T) -> Result<T, DocError> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|_panic| DocError::Panicked { operation })
}

#[cfg(test)]
mod tests;
