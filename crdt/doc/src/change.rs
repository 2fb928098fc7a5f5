//! From an edit to its automerge change, and back.

use std::collections::BTreeMap;
use std::num::NonZeroU64;

use automerge::legacy::{Key, ObjectId, Op as ChangeOp, OpId, OpType};
use automerge::{ActorId, Change, ChangeHash, ExpandedChange, ScalarValue};
use lab_crdt_model::{AuthorId, Field, Hlc, Op, Path, StatementId, Wall};

use crate::edit::Edit;
use crate::error::DocError;
use crate::genesis::{self, SHARDS};
use crate::graph::{Graph, Step};
use crate::view::{View, Write};
use crate::{Candidate, graph};

/// The first bytes of `extra_bytes`: a tag that automerge does not take for an author of its own
/// (that is `1`), and a version.
const EXTRA_TAG: [u8; 2] = [b'L', 1];

/// Builds the change of an edit that has its place in the graph, and carries it into graph and
/// view. `touched` is called with each path that it acts on. There is room for its operations: the
/// caller has asked [`Graph::op_max`].
pub(crate) fn build<'a>(
    edit: &'a Edit,
    step: &Step,
    genesis: (&ActorId, ChangeHash),
    graph: &mut Graph,
    view: &mut View,
    mut touched: impl FnMut(&'a Path),
) -> Change {
    let (genesis_actor, genesis_hash) = genesis;
    let node = graph.node(step.index);
    let parents = || node.parents.iter().map(|parent| graph.node(*parent));
    let before = parents()
        .map(|parent| parent.op_max)
        .max()
        .unwrap_or(SHARDS);
    let mut deps: Vec<ChangeHash> = parents().map(|parent| parent.hash).collect();
    if deps.is_empty() {
        deps.push(genesis_hash);
    }

    let mut operations = Vec::new();
    let mut op = before;
    for (path, field) in last_of_each_path(&edit.ops) {
        let superseded = view.visible_in(path, &step.past, graph);
        if field.is_none() && superseded.is_empty() {
            // Automerge keeps a deletion only in what it deletes: one of nothing would be lost by a
            // save.
            continue;
        }
        op += 1;
        operations.push(ChangeOp {
            action: field.map_or(OpType::Delete, |field| {
                OpType::Put(ScalarValue::from(write_field(field)))
            }),
            obj: genesis::shard_op(genesis_actor, genesis::shard(path)),
            key: Key::from(path.as_str()),
            pred: superseded
                .iter()
                .map(|write| op_id(*write, graph))
                .collect(),
            insert: false,
        });
        let new = field.map(|field| {
            let candidate = Candidate {
                field: field.clone(),
                statement: edit.id,
                author: edit.author,
                at: edit.at,
            };
            (op, candidate)
        });
        view.change(path, step.index, &superseded, new, graph);
        touched(path);
    }

    let change = Change::from(ExpandedChange {
        operations,
        actor_id: graph.actor(node.actor).id.clone(),
        hash: None,
        seq: u64::from(node.seq),
        start_op: NonZeroU64::MIN.saturating_add(u64::from(before)),
        time: edit.at.wall().0.cast_signed(),
        message: (!edit.message.is_empty()).then(|| edit.message.clone()),
        deps,
        extra_bytes: write_extra(edit, node.seq == 1),
        author: None,
    });
    graph.seal(step.index, op, change.hash());
    change
}

/// The edit that a change was built from, but for what had no effect (redundant parents, removals
/// of nothing, operations overtaken by later ones on the same path).
///
/// `authors` holds who wrote the first change of each actor, `ids` the statements of changes that
/// came before.
pub(crate) fn unbuild(
    change: &Change,
    authors: &mut BTreeMap<ActorId, (AuthorId, Option<StatementId>)>,
    ids: &BTreeMap<ChangeHash, StatementId>,
    genesis_hash: ChangeHash,
) -> Result<Edit, DocError> {
    let expanded = change.decode();
    let extra =
        read_extra(&expanded.extra_bytes).ok_or(DocError::Foreign("unknown notes on a change"))?;
    if let Some(writer) = extra.writer {
        authors.insert(expanded.actor_id.clone(), writer);
    }
    let (author, branch) = *authors
        .get(&expanded.actor_id)
        .ok_or(DocError::Foreign("a change of an unknown author"))?;
    let mut parents = Vec::new();
    for dep in expanded.deps.iter().filter(|dep| **dep != genesis_hash) {
        parents.push(
            *ids.get(dep)
                .ok_or(DocError::Foreign("a change before its dependencies"))?,
        );
    }
    let mut ops = Vec::with_capacity(expanded.operations.len());
    for op in expanded.operations {
        ops.push(read_op(op).ok_or(DocError::Foreign("an operation that is no edit"))?);
    }
    let wall = Hlc::from_wall(Wall(expanded.time.cast_unsigned()));
    Ok(Edit {
        id: extra.id,
        author,
        branch,
        at: Hlc(wall.0 | u64::from(extra.counter)),
        message: expanded.message.unwrap_or_default(),
        parents,
        ops,
    })
}

/// The text that stands in the document for a field.
pub(crate) fn write_field(field: &Field) -> String {
    serde_json::to_string(field).expect("a field is texts, numbers and lists, which JSON can hold")
}

/// Reads such a text.
pub(crate) fn read_field(text: &str) -> Option<Field> {
    serde_json::from_str(text).ok()
}

fn last_of_each_path(ops: &[Op]) -> BTreeMap<&Path, Option<&Field>> {
    ops.iter()
        .map(|op| match op {
            Op::Set { path, field } => (path, Some(field)),
            Op::Unset { path } => (path, None),
        })
        .collect()
}

fn op_id(write: Write, graph: &Graph) -> OpId {
    let actor: &graph::Actor = graph.actor(graph.node(write.edit).actor);
    OpId::new(u64::from(write.op), &actor.id)
}

fn read_op(op: ChangeOp) -> Option<Op> {
    let (Key::Map(key), ObjectId::Id(_)) = (op.key, op.obj) else {
        return None;
    };
    let path: Path = key.as_str().parse().ok()?;
    match op.action {
        OpType::Put(ScalarValue::Str(text)) => Some(Op::Set {
            path,
            field: read_field(&text)?,
        }),
        OpType::Delete => Some(Op::Unset { path }),
        OpType::Make(_)
        | OpType::Increment(_)
        | OpType::Put(_)
        | OpType::MarkBegin(_)
        | OpType::MarkEnd(_) => None,
    }
}

struct Extra {
    id: StatementId,
    /// The part of the stamp that is no wall time.
    counter: u16,
    writer: Option<(AuthorId, Option<StatementId>)>,
}

/// `L`, version, statement id, counter of the stamp; on the first change of an actor also its
/// author and, if it has one, its branch.
fn write_extra(edit: &Edit, is_first: bool) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(36);
    bytes.extend(EXTRA_TAG);
    bytes.extend(edit.id.as_bytes());
    bytes.extend(((edit.at.0 & 0xffff) as u16).to_be_bytes());
    if is_first {
        bytes.extend(edit.author.as_bytes());
        bytes.extend(edit.branch.iter().flat_map(|first| first.0));
    }
    bytes
}

fn read_extra(bytes: &[u8]) -> Option<Extra> {
    let rest = bytes.strip_prefix(&EXTRA_TAG)?;
    let (id, rest) = rest.split_first_chunk()?;
    let (counter, rest) = rest.split_first_chunk()?;
    let writer = if rest.is_empty() {
        None
    } else {
        let (author, rest) = rest.split_first_chunk()?;
        let branch = if rest.is_empty() {
            None
        } else {
            Some(StatementId(rest.try_into().ok()?))
        };
        Some((AuthorId(*author), branch))
    };
    Some(Extra {
        id: StatementId(*id),
        counter: u16::from_be_bytes(*counter),
        writer,
    })
}
