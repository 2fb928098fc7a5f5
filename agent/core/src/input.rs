//! Everything that can happen to an agent.

use std::net::SocketAddr;

use bytes::Bytes;
use lab_crdt_model::NodeId;
use lab_crdt_model::link::{Channel, Lane};
use lab_crdt_model::report::Facts;

use crate::command::{Command, CommandId};
use crate::output::{EffectId, StoreId};

/// If it is not here, it cannot change an agent.
#[derive(Debug)]
pub enum Input {
    /// A frame arrived on an authenticated link.
    Frame {
        /// Whose key the link proved.
        from: NodeId,
        /// On which kind of link.
        channel: Channel,
        /// On which of its streams.
        lane: Lane,
        /// The frame, without its length prefix.
        bytes: Bytes,
    },
    /// A link came up or went down, or a dial failed.
    Link {
        /// The other end.
        peer: NodeId,
        /// Which kind.
        channel: Channel,
        /// What happened.
        state: LinkState,
    },
    /// Someone was found on the local network, with where it can be dialled.
    Found {
        /// Who it claims to be; proved only by a link.
        peer: NodeId,
        /// Where.
        addresses: Vec<SocketAddr>,
    },
    /// Our own dialable addresses, at start and whenever an interface changes.
    Addresses(Vec<SocketAddr>),
    /// A person or program asked for something over the local socket.
    Command {
        /// Repeated in the reply.
        id: CommandId,
        /// What.
        command: Command,
    },
    /// The store finished a write.
    Stored {
        /// Which.
        id: StoreId,
        /// Whether it is durable. On failure the driver has reopened the store and the agent writes again.
        result: Result<(), String>,
    },
    /// An effect finished.
    Done {
        /// Which.
        id: EffectId,
        /// With what.
        result: EffectResult,
    },
    /// The deadline passed.
    Wake,
}

/// What happened to a link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LinkState {
    /// It is ready; `address` is where the peer is, when known.
    Up {
        /// Remote address.
        address: Option<SocketAddr>,
    },
    /// It is gone.
    Down {
        /// For people.
        why: String,
    },
    /// It never came up.
    DialFailed {
        /// For people.
        why: String,
    },
}

/// What an effect gave.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EffectResult {
    /// What this machine is.
    Facts(Box<Facts>),
    /// One outcome per file, in the order of the request: wanted ones first, then those to release.
    Files(Vec<FileOutcome>),
}

/// What became of one file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileOutcome {
    /// Its path, as declared.
    pub path: String,
    /// Whether it had to be written or removed.
    pub is_changed: bool,
    /// Why it could not be made so; `None` is success.
    pub error: Option<String>,
}
