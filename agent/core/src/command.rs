//! What can be asked of an agent over its local socket, and its answers.

use bytes::Bytes;
use lab_crdt_model::view::ReplicaView;
use lab_crdt_model::{AuthorId, Caller, Hlc, MeshId, NodeId, StatementId};

/// Names a command; chosen by the driver.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CommandId(pub u64);

/// A question or an order.
#[derive(Debug)]
pub enum Command {
    /// Shows the replica. Answered by [`Reply::View`].
    View(ViewMask),
    /// Shows the replica as it would be if some keys were at an end. Answered by [`Reply::View`].
    Suppose {
        /// Which keys, the last statement of each that would still count, and whether too few admins say so to undo what
        /// a checkpoint covers.
        ends: Vec<(AuthorId, Option<StatementId>, bool)>,
        /// What to show.
        mask: ViewMask,
    },
    /// What an author needs to sign its next statement. Answered by [`Reply::Prepared`].
    Prepare {
        /// Whose chain.
        author: AuthorId,
    },
    /// The root record in force. Answered by [`Reply::Root`].
    Root,
    /// Takes in statements that someone signed elsewhere, all or none. Answered by [`Reply::Submitted`] once durable.
    ///
    /// A device may hand in only what its own key signed, and root records, which the root keys sign.
    Submit {
        /// Who hands them in.
        caller: Caller,
        /// Envelopes, in order.
        statements: Vec<Bytes>,
    },
    /// Records of audit chains that are kept here. Answered by [`Reply::Audit`].
    Audit {
        /// Of one node; `None` is all.
        node: Option<NodeId>,
    },
    /// For tests and the demo: behaves as if these peers could not be reached. Replaces the earlier set.
    Block {
        /// Whom.
        peers: Vec<NodeId>,
    },
}

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

/// An answer.
#[derive(Debug)]
pub enum Reply {
    /// The replica.
    View(Box<ReplicaView>),
    /// What to sign on top of.
    Prepared(Prepared),
    /// What the next root record has to follow.
    Root(Root),
    /// The statements are durable here and on their way.
    Submitted {
        /// Their ids, in order.
        ids: Vec<StatementId>,
    },
    /// Audit records, by node and number, then those that contradict others.
    Audit(Vec<Bytes>),
    /// Nothing was changed.
    Refused {
        /// Stable code: `M0xx`.
        code: &'static str,
        /// Why.
        why: String,
    },
    /// Done.
    Ok,
}

/// The root record in force.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Root {
    /// Its canonical bytes.
    pub record: Vec<u8>,
    /// A statement that carries it, which the next one has to name; none carries the founding record.
    pub carrier: Option<StatementId>,
    /// Root keys signed two records of one version.
    pub is_disputed: bool,
}

/// The end of an author's chain and what the replica has seen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Prepared {
    /// The mesh the signature is bound to.
    pub mesh: MeshId,
    /// The sequence number of the next statement: 0 for the first.
    pub seq: u64,
    /// The newest statement of the chain, or zero.
    pub prev: StatementId,
    /// Newest edits of others that the author now has seen; more than 16 have to be merged first.
    pub refs: Vec<StatementId>,
    /// The newest stamp seen.
    pub hlc: Hlc,
}
