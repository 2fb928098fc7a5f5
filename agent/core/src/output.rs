//! Everything an agent can ask of the world.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use lab_crdt_model::link::{Channel, Lane, Reason};
use lab_crdt_model::report::AuditHead;
use lab_crdt_model::store::Batch;
use lab_crdt_model::{AuthorId, NodeId, Standing, StatementId};

use crate::command::{CommandId, Reply};

/// Names a write; counts up from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StoreId(pub u64);

/// Names an effect; counts up from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct EffectId(pub u64);

/// A request to the driver; carried out in the order given.
#[derive(Debug)]
pub enum Output {
    /// Sends a frame; silently dropped when there is no such link.
    Send {
        /// To whom.
        to: NodeId,
        /// On which kind of link.
        channel: Channel,
        /// On which stream.
        lane: Lane,
        /// The frame, without length prefix; at most `FRAME_BYTES_MAX`.
        bytes: Bytes,
    },
    /// Opens a link; answered by `Input::Link`. The driver races all addresses, within 4 s.
    Dial {
        /// Whom.
        peer: NodeId,
        /// Which kind.
        channel: Channel,
        /// Where it may be, best first; may be empty (the driver may know more, from the local network).
        addresses: Vec<SocketAddr>,
    },
    /// Closes a link.
    Hangup {
        /// Whose.
        peer: NodeId,
        /// Which kind.
        channel: Channel,
        /// Why, told to the peer.
        why: Reason,
    },
    /// Who may hold a mesh link from here on, replacing the earlier set; links of others are closed as revoked.
    /// This node may be among them, which means nothing.
    Admit(Arc<BTreeSet<NodeId>>),
    /// Whose devices may ask over the remote API from here on, and as what, replacing the earlier set; connections of
    /// others are closed as revoked.
    AdmitDevices(Arc<BTreeMap<AuthorId, Standing>>),
    /// Makes a batch durable, then answers `Input::Stored`. Batches become durable in order.
    Store {
        /// Repeated in the answer.
        id: StoreId,
        /// What to write.
        batch: Batch,
    },
    /// Does something to this machine, then answers `Input::Done`.
    Run {
        /// Repeated in the answer.
        id: EffectId,
        /// What.
        effect: Effect,
    },
    /// Answers a command.
    Reply {
        /// Which.
        id: CommandId,
        /// With what.
        reply: Reply,
    },
    /// Something people and logs may want to know.
    Tell(Event),
}

/// What only the shell can do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Reads what this machine is.
    Facts,
    /// Makes files as wanted, each atomically; removes those that are no longer ours.
    ///
    /// A file to release is removed only if its content still hashes to what we wrote last.
    Files {
        /// What should be.
        wanted: Vec<FileWanted>,
        /// What we wrote earlier and is no longer declared.
        release: Vec<FileOwned>,
    },
}

/// A file as it should be. Paths are absolute and lie under the agent's configured root.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct FileWanted {
    /// Absolute, without `.` or `..` components.
    pub path: String,
    /// Content, at most 32 KiB.
    pub content: Vec<u8>,
    /// Permission bits, for example `0o644`.
    pub mode: u32,
    /// `user` or `user:group`; `None` leaves the agent's own.
    pub owner: Option<String>,
}

/// A file that we wrote.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct FileOwned {
    /// Where.
    pub path: String,
    /// BLAKE3 of what we wrote.
    pub hash: [u8; 32],
}

/// What happened, for people, logs and audit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// The statement set grew; its digest is new.
    IntentChanged {
        /// The new digest.
        digest: [u8; 32],
    },
    /// A newer report of a node arrived.
    ReportArrived {
        /// Whose.
        node: NodeId,
    },
    /// This machine became a member.
    NodeJoined {
        /// Who: this node or another one.
        node: NodeId,
        /// Its name.
        name: String,
    },
    /// The mesh refused our join.
    JoinRefused {
        /// In the sponsor's words.
        why: String,
        /// Whether trying again may help.
        is_final: bool,
    },
    /// A peer came up, is suspected or went down, in this node's opinion.
    PeerChanged {
        /// Who.
        node: NodeId,
        /// The new opinion.
        liveness: lab_crdt_model::view::Liveness,
    },
    /// Of so many peers of whom nothing was known, another says that they are up.
    PeersLearned {
        /// How many.
        alive_count: usize,
    },
    /// A statement or register changed nothing.
    StatementRefused {
        /// Which, if readable.
        id: Option<StatementId>,
        /// Why.
        why: String,
    },
    /// An author's chain has two branches.
    ForkFound {
        /// Whose.
        author: AuthorId,
    },
    /// Two machines run with the key of one node.
    CloneFound {
        /// Whose key.
        node: NodeId,
    },
    /// A live peer stayed unequal longer than the bound.
    ReplicasDiverged {
        /// Who.
        peer: NodeId,
        /// Our digest.
        ours: [u8; 32],
        /// Its digest.
        theirs: [u8; 32],
    },
    /// The effective config of this node was carried out, or not.
    ConfigApplied {
        /// Hash of the config.
        hash: [u8; 32],
        /// Resources that were changed.
        changed_count: u32,
        /// Resources that failed.
        failed_count: u32,
    },
    /// The audit chain of a node does not hold what the node had told of it.
    AuditWentBack {
        /// Whose.
        node: NodeId,
        /// The head that it had told.
        told: AuditHead,
        /// The head that it tells now.
        tells: AuditHead,
    },
    /// The store refused a write; it will be written again.
    StoreFailed {
        /// In the store's words.
        why: String,
    },
}
