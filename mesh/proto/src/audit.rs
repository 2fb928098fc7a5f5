//! What two members say on the audit channel: one asks for the records of a node's audit chain, the other sends them.
//!
//! ```text
//! audit node                          any member
//!   Request{node, after}         →
//!                                ←  Reply{node, records, is_last}
//! ```
//!
//! The records are opaque here; whoever asked verifies each before it keeps it. A portion that is not the last is
//! followed by the next request. Who must not ask is hung up on.

use bytes::Bytes;
use lab_crdt_model::NodeId;
use lab_crdt_model::limit::AUDIT_RECORD_BYTES_MAX;
use serde::{Deserialize, Serialize};

use crate::error::FrameError;
use crate::frame::{open, read, write};

/// Longest frame of the conversation, bytes.
pub const AUDIT_FRAME_BYTES_MAX: usize = 128 * 1024;
/// Most bytes of records in one reply: so many as are verified within some tens of milliseconds.
pub const AUDIT_PORTION_BYTES_MAX: usize = 64 * 1024;
/// Most records in one reply: of the shortest, so many fit.
pub const AUDIT_PORTION_MAX: usize = AUDIT_PORTION_BYTES_MAX / 128;

const REQUEST: u8 = 1;
const REPLY: u8 = 2;

/// A frame of the conversation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AuditFrame {
    /// Asks for records.
    Request(AuditRequest),
    /// Sends them.
    Reply(AuditReply),
}

/// Which records are wanted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AuditRequest {
    /// Whose chain.
    pub node: NodeId,
    /// The records after this number; 0 for all.
    pub after: u64,
}

/// The records that follow, as many as fit.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AuditReply {
    /// Whose chain.
    pub node: NodeId,
    /// In the order of their numbers.
    pub records: Vec<Bytes>,
    /// There are no more.
    pub is_last: bool,
}

impl AuditFrame {
    /// The bytes of the frame.
    ///
    /// # Errors
    /// [`FrameError::TooMany`], [`FrameError::TooLong`].
    pub fn encode(&self) -> Result<Bytes, FrameError> {
        self.check()?;
        Ok(match self {
            Self::Request(it) => write(REQUEST, it),
            Self::Reply(it) => write(REPLY, it),
        })
    }

    /// Reads a frame of a member. Bounded by the frame's length; never panics.
    ///
    /// # Errors
    /// Any [`FrameError`]; [`FrameError::Version`] and [`FrameError::Kind`] mean a newer program.
    pub fn decode(bytes: &Bytes) -> Result<Self, FrameError> {
        let (kind, body) = open(bytes, AUDIT_FRAME_BYTES_MAX)?;
        let frame = match kind {
            REQUEST => Self::Request(read(&body)?),
            REPLY => Self::Reply(read(&body)?),
            other => return Err(FrameError::Kind(other)),
        };
        frame.check()?;
        Ok(frame)
    }

    fn check(&self) -> Result<(), FrameError> {
        let Self::Reply(reply) = self else {
            return Ok(());
        };
        if reply.records.len() > AUDIT_PORTION_MAX {
            let max = AUDIT_PORTION_MAX;
            return Err(FrameError::TooMany {
                what: "records",
                max,
            });
        }
        let max = AUDIT_RECORD_BYTES_MAX;
        let long = reply.records.iter().map(Bytes::len).find(|len| *len > max);
        long.map_or(Ok(()), |len| Err(FrameError::TooLong { len, max }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reply(records: Vec<Bytes>) -> AuditFrame {
        AuditFrame::Reply(AuditReply {
            node: NodeId([7; 32]),
            records,
            is_last: true,
        })
    }

    #[test]
    fn frames_read_back_and_too_many_or_too_long_records_are_refused() {
        let request = AuditFrame::Request(AuditRequest {
            node: NodeId([7; 32]),
            after: u64::MAX,
        });
        let full = reply(vec![Bytes::from(vec![1; 128]); AUDIT_PORTION_MAX]);
        for frame in [request, full] {
            let bytes = frame.encode().unwrap();
            assert!(bytes.len() <= AUDIT_FRAME_BYTES_MAX);
            assert_eq!(AuditFrame::decode(&bytes), Ok(frame));
        }
        assert!(
            reply(vec![Bytes::new(); AUDIT_PORTION_MAX + 1])
                .encode()
                .is_err()
        );
        assert!(reply(vec![Bytes::from(vec![1; 1025])]).encode().is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), kind in 0..4u8) {
            if bytes.len() > 2 {
                (bytes[0], bytes[1]) = (1, kind);
            }
            let _ignored = AuditFrame::decode(&bytes.into());
        }
    }
}
