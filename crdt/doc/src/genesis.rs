//! What is the same on every replica before the first edit: actors and the 256 maps.

use automerge::legacy::{Key, ObjectId, Op, OpId, OpType, SortedVec};
use automerge::{ActorId, Change, ExpandedChange, ObjId, ObjType};
use lab_crdt_model::{AuthorId, MeshId, Path, StatementId};
use std::num::NonZeroU64;

/// How many maps there are, and so the largest operation counter of the genesis change.
pub(crate) const SHARDS: u32 = 256;

/// The actor of an author, or of a branch of an author who forked.
pub(crate) fn actor(mesh: &MeshId, author: &AuthorId, branch: Option<&StatementId>) -> ActorId {
    let mut hasher = blake3::Hasher::new();
    hasher
        .update(b"lab/actor/1")
        .update(mesh.as_bytes())
        .update(author.as_bytes());
    if let Some(first) = branch {
        hasher.update(first.as_bytes());
    }
    ActorId::from(&hasher.finalize().as_bytes()[..16])
}

/// The actor of the genesis change.
pub(crate) fn genesis_actor(mesh: &MeshId) -> ActorId {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"lab/genesis/1").update(mesh.as_bytes());
    ActorId::from(&hasher.finalize().as_bytes()[..16])
}

/// The change that makes the maps `00` to `ff` under the root.
pub(crate) fn genesis(mesh: &MeshId) -> Change {
    let operations = (0..SHARDS)
        .map(|shard| Op {
            action: OpType::Make(ObjType::Map),
            obj: ObjectId::Root,
            key: Key::from(format!("{shard:02x}")),
            pred: SortedVec::new(),
            insert: false,
        })
        .collect();
    Change::from(ExpandedChange {
        operations,
        actor_id: genesis_actor(mesh),
        hash: None,
        seq: 1,
        start_op: NonZeroU64::MIN,
        time: 0,
        message: None,
        deps: Vec::new(),
        extra_bytes: Vec::new(),
        author: None,
    })
}

/// In which map a path lives.
pub(crate) fn shard(path: &Path) -> u8 {
    blake3::hash(path.as_str().as_bytes()).as_bytes()[0]
}

/// The operation that made a map, for writing into it.
pub(crate) fn shard_op(genesis: &ActorId, shard: u8) -> ObjectId {
    ObjectId::Id(OpId::new(u64::from(shard) + 1, genesis))
}

/// The same, for reading.
pub(crate) fn shard_object(genesis: &ActorId, shard: u8) -> ObjId {
    ObjId::Id(u64::from(shard) + 1, genesis.clone(), 0)
}
