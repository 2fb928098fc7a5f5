//! The generated types, and what they have in common on both sides.

use bytes::Bytes;
use lab_crdt_model::limit::STATEMENT_BYTES_MAX;
use tonic::Status;

/// Longest message on the socket, bytes: a full submission.
pub const MESSAGE_BYTES_MAX: usize = SUBMIT_COUNT_MAX * (STATEMENT_BYTES_MAX + 16) + 1024;
/// Most statements in one submission.
pub const SUBMIT_COUNT_MAX: usize = 256;
/// Most keys whose end is considered at a time.
pub const ENDS_MAX: usize = 64;

/// Where the stable code of a refusal travels.
pub(crate) const CODE_KEY: &str = "lab-code";

pub(crate) mod pb {
    #![expect(
        unused_qualifications,
        unreachable_pub,
        clippy::allow_attributes,
        clippy::allow_attributes_without_reason,
        reason = "generated; the interface file is the documentation"
    )]
    tonic::include_proto!("lab.agent.v1");
}

/// Reads a 32-byte id. Whoever sent another length broke the protocol.
pub(crate) fn id32(field: &'static str, bytes: &[u8]) -> Result<[u8; 32], Status> {
    <[u8; 32]>::try_from(bytes).map_err(|_length| {
        Status::invalid_argument(format!("{field} has {} bytes instead of 32", bytes.len()))
    })
}

/// Reads a list of 32-byte ids.
pub(crate) fn ids32(field: &'static str, list: &[Bytes]) -> Result<Vec<[u8; 32]>, Status> {
    list.iter().map(|bytes| id32(field, bytes)).collect()
}

/// The bytes of an id.
pub(crate) fn bytes32(id: &[u8; 32]) -> Bytes {
    Bytes::copy_from_slice(id)
}
