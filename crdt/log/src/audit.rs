//! What a node did and saw, as signed records in one hash chain per node.
//!
//! ```text
//! 0 ver = 1 | 1 node 32 | 33 seq u64be | 41 prev 32 | 73 at u64be | 81 body_len u32be | body (postcard) | signature 64
//! ```
//!
//! The signature covers `"lab/audit/1\0" ‖ mesh id ‖ everything before it`; the hash of a record is BLAKE3-256 of all
//! its bytes. The first record has number 1 and a zero `prev`; each later one the next number and the hash of the one
//! before. `at` is the node's own clock, milliseconds. A record has at most 1 KiB.
//!
//! Nobody can make a node record something. What is recorded cannot be changed, taken out or cut off any more once
//! someone else holds the head of the chain after it: see [`verify`].

mod act;
mod verify;

use bytes::Bytes;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use lab_crdt_model::limit::AUDIT_RECORD_BYTES_MAX;
use lab_crdt_model::report::AuditHead;
use lab_crdt_model::{MeshId, NodeId, Wall};

pub use act::{Act, Alarm, AuditBody, KINDS};
pub use verify::{Fault, Run, verify};

const CONTEXT: &[u8] = b"lab/audit/1\0";
const HEADER_BYTES: usize = 85;
const SIGNATURE_BYTES: usize = 64;

/// Why bytes are not a record of this mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuditError {
    /// Cut off, too long, with bytes left over, of an unknown format, or without a number.
    #[error("the record is malformed")]
    Malformed,
    /// Not signed by its node for this mesh.
    #[error("the signature does not fit node, content and mesh")]
    Signature,
}

/// A verified record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AuditRecord {
    /// Whose chain.
    pub node: NodeId,
    /// Its place in the chain, from 1.
    pub seq: u64,
    /// The hash of the record before; zero for the first.
    pub prev: [u8; 32],
    /// When, by the node's own clock.
    pub at: Wall,
    /// BLAKE3-256 of the bytes.
    pub hash: [u8; 32],
    /// The whole.
    pub bytes: Bytes,
}

impl AuditRecord {
    /// Verifies and reads one. What it says is read by [`AuditRecord::body`].
    ///
    /// # Errors
    /// See [`AuditError`].
    pub fn open(mesh: &MeshId, bytes: &Bytes) -> Result<Self, AuditError> {
        let record = Self::parse(bytes)?;
        let (signed, signature) = bytes
            .split_last_chunk::<SIGNATURE_BYTES>()
            .ok_or(AuditError::Malformed)?;
        let key =
            VerifyingKey::from_bytes(&record.node.0).map_err(|_cause| AuditError::Signature)?;
        key.verify_strict(
            &[CONTEXT, &mesh.0, signed].concat(),
            &Signature::from_bytes(signature),
        )
        .map_err(|_cause| AuditError::Signature)?;
        Ok(record)
    }

    /// Reads one whose signature was checked before it was stored here.
    ///
    /// # Errors
    /// [`AuditError::Malformed`].
    pub fn parse(bytes: &Bytes) -> Result<Self, AuditError> {
        let fixed: &[u8; HEADER_BYTES] = bytes.first_chunk().ok_or(AuditError::Malformed)?;
        let length = u32::from_be_bytes([fixed[81], fixed[82], fixed[83], fixed[84]]) as usize;
        let u64_at = |at: usize| u64::from_be_bytes(std::array::from_fn(|i| fixed[at + i]));
        let (seq, prev) = (u64_at(33), std::array::from_fn(|i| fixed[41 + i]));
        let is_sound = fixed[0] == 1
            && bytes.len() <= AUDIT_RECORD_BYTES_MAX
            && bytes.len() == HEADER_BYTES + length + SIGNATURE_BYTES
            && seq > 0
            && (seq != 1 || prev == [0; 32]);
        if !is_sound {
            return Err(AuditError::Malformed);
        }
        Ok(Self {
            node: NodeId(std::array::from_fn(|i| fixed[1 + i])),
            seq,
            prev,
            at: Wall(u64_at(73)),
            hash: *blake3::hash(bytes).as_bytes(),
            bytes: bytes.clone(),
        })
    }

    /// The end of a chain that ends with this record.
    pub const fn head(&self) -> AuditHead {
        AuditHead {
            seq: self.seq,
            hash: self.hash,
        }
    }

    /// Where a chain ended before this record.
    pub const fn before(&self) -> AuditHead {
        AuditHead {
            seq: self.seq - 1,
            hash: self.prev,
        }
    }

    /// What it says; `None` if that is of a later version.
    pub fn body(&self) -> Option<AuditBody> {
        let end = self.bytes.len().checked_sub(SIGNATURE_BYTES)?;
        AuditBody::decode(self.bytes.get(HEADER_BYTES..end)?)
    }
}

/// Signs the record that follows `head`. Words that are too long are cut.
pub fn seal_audit(
    mesh: &MeshId,
    key: &SigningKey,
    head: &AuditHead,
    at: Wall,
    body: &AuditBody,
) -> AuditRecord {
    let body = body.encode();
    let node = key.verifying_key().to_bytes();
    let seq = head.seq.saturating_add(1);
    let mut out = Vec::with_capacity(HEADER_BYTES + body.len() + SIGNATURE_BYTES);
    out.push(1);
    out.extend_from_slice(&node);
    out.extend_from_slice(&seq.to_be_bytes());
    out.extend_from_slice(&head.hash);
    out.extend_from_slice(&at.0.to_be_bytes());
    out.extend_from_slice(&(body.len() as u32).to_be_bytes());
    out.extend_from_slice(&body);
    let signature = key.sign(&[CONTEXT, &mesh.0, &out].concat());
    out.extend_from_slice(&signature.to_bytes());
    AuditRecord {
        node: NodeId(node),
        seq,
        prev: head.hash,
        at,
        hash: *blake3::hash(&out).as_bytes(),
        bytes: out.into(),
    }
}

#[cfg(test)]
mod tests;
