//! Words for links between nodes, shared by the protocol, its driver and the agent.

use serde::{Deserialize, Serialize};

/// What a link is for. Each has its own ALPN and its own gate.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Channel {
    /// Members only: push, pull, liveness. ALPN `lab/1`.
    Mesh,
    /// Strangers too: the join conversation. ALPN `lab/join/1`.
    Join,
    /// Members only: audit records for audit nodes. ALPN `lab/audit/1`.
    Audit,
}

/// Two ordered streams of one link, so that bulk never delays a ping.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Lane {
    /// Small and urgent: liveness, push, digests.
    Control,
    /// Large: statements, registers, the join conversation.
    Bulk,
}

/// Why we close a link. The discriminants are QUIC application error codes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[repr(u32)]
pub enum Reason {
    /// No longer needed.
    Done = 0,
    /// The agent stops.
    Stopping = 1,
    /// Another link to the same peer is kept.
    Duplicate = 2,
    /// The peer broke the protocol: an oversized or unreadable frame.
    Protocol = 400,
    /// The peer is not a member of this mesh.
    NotAMember = 403,
    /// The device's key may not ask over the remote API.
    NotEntitled = 404,
    /// The peer was revoked.
    Revoked = 410,
    /// The peer sends faster than we allow.
    Overload = 429,
}
