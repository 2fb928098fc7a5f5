//! The outermost bytes of every frame: `version u8 | kind u8 | body`.
//!
//! The transport delimits frames and limits their length; here the length is checked again, so that nothing
//! depends on which driver is used. An unknown kind is told apart from a broken body: a newer peer may send it.

use bytes::Bytes;
use lab_crdt_model::limit::FRAME_BYTES_MAX;
use serde::{Serialize, de::DeserializeOwned};

use crate::error::FrameError;

/// The version that this program writes.
pub const VERSION: u8 = 1;
/// Bytes before the body.
pub const HEADER_BYTES: usize = 2;
/// Longest body of a frame on a mesh link, bytes. Messages of a sync exchange must not be longer.
pub const BODY_BYTES_MAX: usize = FRAME_BYTES_MAX - HEADER_BYTES;

/// Puts a header before `body`.
pub(crate) fn seal(kind: u8, body: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(HEADER_BYTES + body.len());
    out.extend_from_slice(&[VERSION, kind]);
    out.extend_from_slice(body);
    out.into()
}

/// Header and `value` as postcard.
pub(crate) fn write<T: Serialize>(kind: u8, value: &T) -> Bytes {
    postcard::to_extend(value, vec![VERSION, kind])
        .expect("invariant: writing plain values to memory cannot fail")
        .into()
}

/// Kind and body of a frame of at most `max` bytes.
pub(crate) fn open(bytes: &Bytes, max: usize) -> Result<(u8, Bytes), FrameError> {
    if bytes.len() > max {
        return Err(FrameError::TooLong {
            len: bytes.len(),
            max,
        });
    }
    match *bytes.get(..HEADER_BYTES).ok_or(FrameError::TooShort)? {
        [VERSION, kind] => Ok((kind, bytes.slice(HEADER_BYTES..))),
        [version, _] => Err(FrameError::Version(version)),
        _ => Err(FrameError::TooShort),
    }
}

/// Reads a body that must be used up.
pub(crate) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, FrameError> {
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Ok(value),
        _ => Err(FrameError::Malformed),
    }
}
