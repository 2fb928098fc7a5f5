//! Root records: who may appoint whom. Version 0 founds the mesh; its hash is the mesh id. Each later one is signed
//! by enough root keys of the record before it and by enough of its own, as in TUF (specification, 5.3).

use std::collections::BTreeSet;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use lab_crdt_model::limit::{AUTHORITY_BYTES_MAX, NAME_BYTES_MAX};
use lab_crdt_model::{AuthorId, MeshId, NodeId, StatementId, mutant};
use serde::{Deserialize, Serialize};

const CONTEXT: &[u8] = b"lab/root/1\0";
/// Most keys that a record ends.
const ANNUL_MAX: usize = 128;
/// Most signatures looked at: by all keys of two records.
pub(crate) const SIGNATURES_MAX: usize = 16;

/// An admin, listed in the root record.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Admin {
    /// The key of one device.
    pub key: AuthorId,
    /// The person or device.
    pub name: String,
}

/// The end of a key by the root keys. Nobody can lift it but they.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Annul {
    /// Whose.
    pub key: AuthorId,
    /// The last statement of that key that still counts (the cut); none = nothing counts.
    pub head: Option<StatementId>,
}

/// What the root keys sign.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
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
    /// Keys that end, at most 128, ascending. Whoever was ever an admin and is none any more is among them. None in
    /// version 0, which has no room for them.
    #[serde(skip)]
    pub annul: Vec<Annul>,
}

impl RootRecord {
    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes =
            postcard::to_stdvec(self).expect("a root record has no encoding that can fail");
        if self.version > 0 {
            let annul = postcard::to_stdvec(&self.annul);
            bytes.extend(annul.expect("a list of ids has no encoding that can fail"));
        }
        bytes
    }

    /// The name of this record; of version 0, also that of the mesh.
    pub fn hash(&self) -> [u8; 32] {
        *blake3::hash(&self.encode()).as_bytes()
    }

    /// Reads canonical bytes of a record within its limits.
    pub fn decode(bytes: &[u8]) -> Result<Self, RootError> {
        let malformed = |_cause| RootError::Malformed;
        let (mut record, mut rest): (Self, _) =
            postcard::take_from_bytes(bytes).map_err(malformed)?;
        if record.version > 0 {
            (record.annul, rest) = postcard::take_from_bytes(rest).map_err(malformed)?;
        }
        if rest.is_empty() && record.encode() == bytes && record.is_sound() {
            Ok(record)
        } else {
            Err(RootError::Malformed)
        }
    }

    fn is_sound(&self) -> bool {
        (1..=8).contains(&self.root_keys.len())
            && self.root_keys.is_sorted_by(|a, b| a < b)
            && (1..=self.root_keys.len()).contains(&usize::from(self.threshold))
            && (1..=32).contains(&self.admins.len())
            && self.admins.iter().all(|a| a.name.len() <= NAME_BYTES_MAX)
            && self.name.len() <= NAME_BYTES_MAX
            && self.registrars.len() <= 64
            && self.annul.len() <= ANNUL_MAX
            && self.annul.is_sorted_by(|a, b| a.key < b.key)
            && (self.version == 0 || self.has_one_role_per_key())
    }

    /// A root key that is an admin as well would be on the machine of that admin, and could be revoked by others.
    fn has_one_role_per_key(&self) -> bool {
        let admins: BTreeSet<&AuthorId> = self.admins.iter().map(|a| &a.key).collect();
        admins.len() == self.admins.len() && !self.root_keys.iter().any(|key| admins.contains(key))
    }
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
    /// Not the version after the record that it follows.
    #[error("the root record is version {have}, the next one is version {need}")]
    Sequel {
        /// Its version.
        have: u32,
        /// The one that follows.
        need: u32,
    },
    /// Does not name the record before it, or that record is not known.
    #[error("the root record does not follow a known one")]
    Prev,
    /// Drops an admin without saying what of theirs still counts.
    #[error("the root record drops admin {0} without ending that key")]
    Forgets(AuthorId),
    /// Fewer valid signatures than a threshold: its own, or that of the record before.
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
        let mut signed = Self {
            record: record.encode(),
            signatures: Vec::new(),
        };
        keys.iter().for_each(|key| signed.add(key));
        signed
    }

    /// Adds the signature of one more root key; in place of an older one by the same key.
    pub fn add(&mut self, key: &SigningKey) {
        let by = AuthorId(key.verifying_key().to_bytes());
        let (a, b) = halves(key.sign(&self.message()).to_bytes());
        self.signatures.retain(|(key, ..)| *key != by);
        self.signatures.push((by, a, b));
    }

    fn message(&self) -> Vec<u8> {
        [CONTEXT, &self.record].concat()
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
        MeshId(self.hash())
    }

    /// The name of the record, whether it is sound or not.
    pub fn hash(&self) -> [u8; 32] {
        *blake3::hash(&self.record).as_bytes()
    }

    /// What is signed, whoever signed it.
    pub fn read(&self) -> Result<RootRecord, RootError> {
        RootRecord::decode(&self.record)
    }

    /// Verifies a founding record: canonical, within limits, enough signatures.
    pub fn verify(&self) -> Result<RootRecord, RootError> {
        let record = self.read()?;
        if record.version != 0 {
            return Err(RootError::Version(record.version));
        }
        self.verify_threshold(&record)?;
        Ok(record)
    }

    /// Verifies the record that follows `last`: canonical, within limits, next version, enough signatures by the keys of
    /// both, and nobody of `listed` (all who were ever admins) dropped in silence.
    ///
    /// Returns which keys of `last` signed it, too.
    pub fn verify_after(
        &self,
        last: &RootRecord,
        listed: &BTreeSet<AuthorId>,
    ) -> Result<(RootRecord, BTreeSet<AuthorId>), RootError> {
        let record = self.read()?;
        let need = last.version.saturating_add(1);
        if record.version != need && !mutant!("R13") {
            return Err(RootError::Sequel {
                have: record.version,
                need,
            });
        }
        if record.prev != last.hash() {
            return Err(RootError::Prev);
        }
        let is_kept = |key: &&AuthorId| {
            record.admins.iter().any(|a| a.key == **key)
                || record.annul.iter().any(|a| a.key == **key)
        };
        if let Some(forgotten) = listed.iter().find(|key| !is_kept(key)) {
            return Err(RootError::Forgets(*forgotten));
        }
        let signers = self.verify_threshold(last)?;
        if !mutant!("R12") {
            self.verify_threshold(&record)?;
        }
        Ok((record, signers))
    }

    /// The root keys of a record that signed this, if they are enough for it.
    fn verify_threshold(&self, by: &RootRecord) -> Result<BTreeSet<AuthorId>, RootError> {
        let message = self.message();
        let signers: BTreeSet<AuthorId> = self
            .signatures
            .iter()
            .take(SIGNATURES_MAX)
            .filter(|(key, a, b)| {
                by.root_keys.contains(key)
                    && VerifyingKey::from_bytes(&key.0).is_ok_and(|k| {
                        k.verify_strict(&message, &Signature::from_bytes(&whole(a, b)))
                            .is_ok()
                    })
            })
            .map(|(key, ..)| *key)
            .collect();
        let (have, need) = (signers.len(), usize::from(by.threshold));
        if have < need {
            return Err(RootError::Threshold { have, need });
        }
        Ok(signers)
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
            annul: vec![],
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
