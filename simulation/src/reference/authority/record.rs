//! Which root records are valid, and which of them are in force.

use std::collections::{BTreeMap, BTreeSet};

use lab_crdt_log::{RootRecord, SignedRoot};
use lab_crdt_model::{AuthorId, MeshId};

use crate::reference::envelope::is_signature;

type Hash = [u8; 32];

/// A valid root record.
pub(super) struct Valid {
    pub(super) record: RootRecord,
    /// Root keys of the record before that signed it.
    signers: BTreeSet<AuthorId>,
    /// Whoever is or was an admin.
    pub(super) admins: BTreeSet<AuthorId>,
    /// What is or was a root key.
    pub(super) keys: BTreeSet<AuthorId>,
}

pub(super) struct Records(BTreeMap<Hash, Valid>);

impl Records {
    pub(super) fn founded(mesh: MeshId, record: &RootRecord) -> Self {
        let founding = Valid {
            admins: record.admins.iter().map(|a| a.key).collect(),
            keys: record.root_keys.iter().copied().collect(),
            signers: BTreeSet::new(),
            record: record.clone(),
        };
        Self(BTreeMap::from([(mesh.0, founding)]))
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Valid> {
        self.0.values()
    }

    /// Takes in a record if it is valid.
    pub(super) fn add(&mut self, signed: &SignedRoot) -> bool {
        let hash = hash(signed);
        let Some(valid) = self.valid(signed) else {
            return false;
        };
        match self.0.get_mut(&hash) {
            Some(known) => known.signers.extend(valid.signers),
            None => drop(self.0.insert(hash, valid)),
        }
        true
    }

    fn valid(&self, signed: &SignedRoot) -> Option<Valid> {
        let record = signed.read().ok()?;
        let last = self.0.get(&record.prev)?;
        let message = [b"lab/root/1\0".as_slice(), &signed.record].concat();
        let signers: BTreeSet<AuthorId> = signed
            .signatures
            .iter()
            .filter(|(key, a, b)| {
                let signature: [u8; 64] = [*a, *b].concat().try_into().expect("two halves");
                is_signature(&key.0, &message, &signature)
            })
            .map(|(key, ..)| *key)
            .collect();
        let of = |by: &RootRecord| -> BTreeSet<AuthorId> {
            let keys = by.root_keys.iter().filter(|key| signers.contains(key));
            keys.copied().collect()
        };
        let is_enough = |by: &RootRecord| of(by).len() >= usize::from(by.threshold);
        let mut admins = last.admins.clone();
        let now: BTreeSet<AuthorId> = record.admins.iter().map(|a| a.key).collect();
        let ended: BTreeSet<AuthorId> = record.annul.iter().map(|a| a.key).collect();
        let forgets = admins
            .iter()
            .any(|a| !now.contains(a) && !ended.contains(a));
        if u64::from(record.version) != u64::from(last.record.version) + 1
            || forgets
            || !is_enough(&last.record)
            || !is_enough(&record)
        {
            return None;
        }
        admins.extend(now);
        let mut keys = last.keys.clone();
        keys.extend(record.root_keys.iter().copied());
        Some(Valid {
            signers: of(&last.record),
            record,
            admins,
            keys,
        })
    }

    /// The record in force: of several with one version, the one that more root keys stand behind.
    pub(super) fn in_force(&self, mesh: MeshId) -> &Valid {
        let mut at = mesh.0;
        loop {
            let mut best: Option<(usize, Hash)> = None;
            for (hash, valid) in self.0.iter().filter(|(_, v)| v.record.prev == at) {
                // Ascending: of equal ones, the first stays.
                if best.is_none_or(|(most, _)| valid.signers.len() > most) {
                    best = Some((valid.signers.len(), *hash));
                }
            }
            match best.filter(|(_, next)| *next != mesh.0) {
                Some((_, next)) => at = next,
                None => return &self.0[&at],
            }
        }
    }
}

/// The name of a record.
pub(super) fn hash(signed: &SignedRoot) -> Hash {
    *blake3::hash(&signed.record).as_bytes()
}
