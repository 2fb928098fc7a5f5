//! What goes over the socket, in the words of the model.

use std::net::SocketAddr;

use bytes::Bytes;
use lab_crdt_model::{AuthorId, Hlc, MeshId, NodeId, StatementId};

/// Which parts of a replica to show; parts left out are empty.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ViewMask {
    /// Members, operators and invites.
    pub roster: bool,
    /// Effective intent.
    pub fields: bool,
    /// Reports of nodes and the mesh as seen from here.
    pub reports: bool,
    /// How many statements of history, newest first; 0 for none.
    pub history_count: u32,
    /// What a checkpoint made here would name.
    pub chains: bool,
}

impl ViewMask {
    /// Everything but the history.
    pub const ALL: Self = Self {
        roster: true,
        fields: true,
        reports: true,
        history_count: 0,
        chains: false,
    };

    /// The same mask with history.
    #[must_use]
    pub const fn with_history(mut self, count: u32) -> Self {
        self.history_count = count;
        self
    }
}

/// The end of a key, as somebody considers it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct End {
    /// Whose.
    pub key: AuthorId,
    /// The last statement of that key that would still count; none = nothing would.
    pub head: Option<StatementId>,
    /// As if too few admins said so to undo what a checkpoint covers; else as if the root keys said so.
    pub is_limited: bool,
}

/// The end of an author's chain and what the replica has seen: what to sign on top of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Prepared {
    /// Whose chain; as asked.
    pub author: AuthorId,
    /// The mesh the signature is bound to.
    pub mesh: MeshId,
    /// The sequence number of the next statement: 0 for the first.
    pub seq: u64,
    /// The newest statement of the chain, or zero.
    pub prev: StatementId,
    /// Newest edits of others that the author now has seen.
    pub refs: Vec<StatementId>,
    /// The newest stamp seen.
    pub hlc: Hlc,
}

/// The root record in force: what the next one has to follow.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Root {
    /// Its canonical bytes.
    pub record: Bytes,
    /// A statement that carries it, which the next one has to name; none carries the founding record.
    pub carrier: Option<StatementId>,
    /// Root keys signed two records of one version.
    pub is_disputed: bool,
}

/// Who answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Info {
    /// The node.
    pub node: NodeId,
    /// Its mesh.
    pub mesh: MeshId,
    /// The mesh's name.
    pub mesh_name: String,
    /// Version of the agent's program.
    pub version: String,
    /// Milliseconds since the agent started.
    pub uptime_ms: u64,
    /// Whether [`Client::block`](crate::Client::block) is allowed.
    pub allows_faults: bool,
    /// Where the agent can be dialled.
    pub addresses: Vec<SocketAddr>,
    /// Process id of the agent.
    pub pid: u32,
}

/// What a notice is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum NoticeKind {
    /// Statements were added.
    Intent,
    /// A node reported something newer.
    Reports,
    /// This node's opinion of a peer changed.
    Peers,
}

impl NoticeKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Intent, Self::Reports, Self::Peers];
}

/// Something changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Notice {
    /// Counts up with every change, of any kind, since the agent started. Gaps are normal: notices are coalesced.
    pub version: u64,
    /// What changed.
    pub kind: NoticeKind,
}
