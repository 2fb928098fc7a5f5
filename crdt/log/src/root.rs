//! The root record: who may appoint whom. Version 0 founds the mesh; its hash is the mesh id.

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use lab_crdt_model::limit::{AUTHORITY_BYTES_MAX, NAME_BYTES_MAX};
use lab_crdt_model::{AuthorId, MeshId, NodeId};
use serde::{Deserialize, Serialize};

const CONTEXT: &[u8] = b"lab/root/1\0";

/// An admin, listed in the root record.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Admin {
    /// The key of one device.
    pub key: AuthorId,
    /// The person or device.
    pub name: String,
}

/// What the root keys sign.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RootRecord {
    /// 0 for the founding record, then contiguous.
    pub version: u32,
    /// Hash of the record before; zero for version 0.
    pub prev: [u8; 32],
    /// What the mesh is called.
    pub name: String,
    /// Random, so that equal founders make different meshes.
    pub nonce: [u8; 16],
    /// Offline keys, 1 to 8, ascending.
    pub root_keys: Vec<AuthorId>,
    /// How many of them must sign a record.
    pub threshold: u8,
    /// Devices that may grant and revoke, 1 to 32.
    pub admins: Vec<Admin>,
    /// Nodes that may witness joins; empty = every member.
    pub registrars: Vec<NodeId>,
    /// The lowest protocol version that may act on restricting statements.
    pub min_proto: u32,
}

/// A root record with its signatures, each by a distinct root key.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SignedRoot {
    /// postcard of the record.
    pub record: Vec<u8>,
    /// Key and signature (two halves of 32 bytes).
    pub signatures: Vec<(AuthorId, [u8; 32], [u8; 32])>,
}

/// Why bytes are not a root record. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RootError {
    /// Does not decode, or not canonically, or breaks a limit.
    #[error("the root record is malformed")]
    Malformed,
    /// Not version 0 of a mesh.
    #[error("the root record is version {0}, a mesh is founded by version 0")]
    Version(u32),
    /// Fewer valid signatures than its own threshold.
    #[error("the root record has {have} valid signatures of {need}")]
    Threshold {
        /// Valid signatures by distinct root keys.
        have: usize,
        /// Needed.
        need: usize,
    },
    /// Another mesh than expected.
    #[error("this is mesh {0}, another one was expected")]
    OtherMesh(MeshId),
}

impl SignedRoot {
    /// Signs a record with the given root keys.
    pub fn sign(record: &RootRecord, keys: &[&SigningKey]) -> Self {
        let bytes =
            postcard::to_stdvec(record).expect("a root record has no encoding that can fail");
        let message = [CONTEXT, &bytes].concat();
        let signatures = keys
            .iter()
            .map(|key| {
                let (a, b) = halves(key.sign(&message).to_bytes());
                (AuthorId(key.verifying_key().to_bytes()), a, b)
            })
            .collect();
        Self {
            record: bytes,
            signatures,
        }
    }

    /// Reads one from bytes; checks nothing but the encoding.
    pub fn decode(bytes: &[u8]) -> Result<Self, RootError> {
        if bytes.len() > AUTHORITY_BYTES_MAX {
            return Err(RootError::Malformed);
        }
        postcard::from_bytes(bytes).map_err(|_cause| RootError::Malformed)
    }

    /// The bytes to keep and to send.
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("a signed root record has no encoding that can fail")
    }

    /// The mesh that this record founds.
    pub fn mesh(&self) -> MeshId {
        MeshId(*blake3::hash(&self.record).as_bytes())
    }

    /// Verifies a founding record: canonical, within limits, enough signatures.
    pub fn verify(&self) -> Result<RootRecord, RootError> {
        let record: RootRecord =
            postcard::from_bytes(&self.record).map_err(|_cause| RootError::Malformed)?;
        let canonical = postcard::to_stdvec(&record).is_ok_and(|bytes| bytes == self.record);
        let sound = canonical
            && (1..=8).contains(&record.root_keys.len())
            && record.root_keys.is_sorted_by(|a, b| a < b)
            && (1..=record.root_keys.len()).contains(&usize::from(record.threshold))
            && (1..=32).contains(&record.admins.len())
            && record.admins.iter().all(|a| a.name.len() <= NAME_BYTES_MAX)
            && record.name.len() <= NAME_BYTES_MAX
            && record.registrars.len() <= 64;
        if !sound {
            return Err(RootError::Malformed);
        }
        if record.version != 0 {
            return Err(RootError::Version(record.version));
        }
        let message = [CONTEXT, &self.record].concat();
        let mut signers: Vec<_> = self
            .signatures
            .iter()
            .filter(|(key, a, b)| {
                record.root_keys.contains(key)
                    && VerifyingKey::from_bytes(&key.0).is_ok_and(|k| {
                        k.verify_strict(&message, &Signature::from_bytes(&whole(a, b)))
                            .is_ok()
                    })
            })
            .map(|(key, _, _)| *key)
            .collect();
        signers.sort_unstable();
        signers.dedup();
        let need = usize::from(record.threshold);
        if signers.len() < need {
            return Err(RootError::Threshold {
                have: signers.len(),
                need,
            });
        }
        Ok(record)
    }
}

fn halves(bytes: [u8; 64]) -> ([u8; 32], [u8; 32]) {
    (
        std::array::from_fn(|i| bytes[i]),
        std::array::from_fn(|i| bytes[32 + i]),
    )
}

fn whole(a: &[u8; 32], b: &[u8; 32]) -> [u8; 64] {
    std::array::from_fn(|i| if i < 32 { a[i] } else { b[i - 32] })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(keys: &[&SigningKey], threshold: u8) -> RootRecord {
        let mut root_keys: Vec<_> = keys
            .iter()
            .map(|k| AuthorId(k.verifying_key().to_bytes()))
            .collect();
        root_keys.sort_unstable();
        RootRecord {
            version: 0,
            prev: [0; 32],
            name: "home".into(),
            nonce: [1; 16],
            admins: vec![Admin {
                key: root_keys[0],
                name: "ana".into(),
            }],
            root_keys,
            threshold,
            registrars: vec![],
            min_proto: 1,
        }
    }

    #[test]
    fn a_threshold_counts_distinct_keys_of_the_record() {
        let (a, b, c) = (
            SigningKey::from_bytes(&[1; 32]),
            SigningKey::from_bytes(&[2; 32]),
            SigningKey::from_bytes(&[3; 32]),
        );
        let record = record(&[&a, &b], 2);

        assert_eq!(
            SignedRoot::sign(&record, &[&a, &b]).verify(),
            Ok(record.clone())
        );
        for signers in [vec![&a], vec![&a, &a], vec![&a, &c]] {
            let error = SignedRoot::sign(&record, &signers).verify().unwrap_err();
            assert_eq!(error, RootError::Threshold { have: 1, need: 2 });
        }
    }

    #[test]
    fn a_changed_record_is_another_mesh_and_unsigned() {
        let a = SigningKey::from_bytes(&[1; 32]);
        let signed = SignedRoot::sign(&record(&[&a], 1), &[&a]);
        let mut other = signed.clone();
        let at = other.record.len() - 1;
        other.record[at] ^= 1;
        assert_ne!(other.mesh(), signed.mesh());
        assert!(other.verify().is_err());
        assert_eq!(SignedRoot::decode(&signed.encode()), Ok(signed));
    }
}
