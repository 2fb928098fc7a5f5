//! Reads audit records byte by byte, and looks whether they are one chain.

use bytes::Bytes;
use ed25519_dalek::{Signature, VerifyingKey};
use lab_crdt_model::{MeshId, NodeId, StatementId};

const HEADER: usize = 85;
/// The place of the kind of a hand-in among the kinds.
const HAND_IN: u8 = 2;
/// A record names so many statements at most: the first ones and the last one.
const NAMED_MAX: usize = 8;

/// Where a chain ends: the number and hash of its newest record.
pub type End = (u64, [u8; 32]);

/// Looks at the records behind an end, in order.
///
/// # Errors
/// What is wrong, in words.
pub fn follow(mesh: MeshId, node: NodeId, mut end: End, records: &[Bytes]) -> Result<End, String> {
    for bytes in records {
        let seq = number(bytes).ok_or("a record is too short")?;
        let (signed, signature) = bytes.split_at(bytes.len() - 64);
        if bytes[1..33] != node.0 {
            return Err(format!("record {seq} is of another node"));
        }
        if seq != end.0 + 1 {
            return Err(format!("record {} is followed by record {seq}", end.0));
        }
        if bytes[41..73] != end.1 {
            return Err(format!("record {seq} does not name the one before it"));
        }
        let context = [&b"lab/audit/1\0"[..], &mesh.0, signed].concat();
        let is_signed = VerifyingKey::from_bytes(&node.0).is_ok_and(|key| {
            Signature::from_slice(signature).is_ok_and(|s| key.verify_strict(&context, &s).is_ok())
        });
        if !is_signed {
            return Err(format!("record {seq} is not signed"));
        }
        end = (seq, *blake3::hash(bytes).as_bytes());
    }
    Ok(end)
}

/// The number of a record.
pub fn number(bytes: &[u8]) -> Option<u64> {
    if bytes.len() < HEADER + 64 {
        return None;
    }
    Some(u64::from_be_bytes(bytes[33..41].try_into().ok()?))
}

/// Whether a record says that a statement was handed in.
pub fn names(bytes: &[u8], id: &StatementId) -> bool {
    let body = bytes.get(HEADER..bytes.len().saturating_sub(64));
    body.is_some_and(|body| body.windows(32).any(|window| window == id.0))
}

/// Those of statements that were handed in together that a record has to name.
pub fn named(ids: &[StatementId]) -> Vec<StatementId> {
    match ids {
        [first @ .., last] if ids.len() > NAMED_MAX => {
            let first = first.iter().take(NAMED_MAX - 1);
            first.chain([last]).copied().collect()
        }
        _ => ids.to_vec(),
    }
}

/// Whether a record says that something was handed in.
pub fn is_hand_in(bytes: &[u8]) -> bool {
    // Who asked, a user of the machine with their number, and then the kind.
    let body = bytes.get(HEADER..).unwrap_or_default();
    let [1, 0, rest @ ..] = body else {
        return false;
    };
    let number = rest.iter().position(|b| b & 0x80 == 0);
    number.is_some_and(|at| rest.get(at + 1) == Some(&HAND_IN))
}
