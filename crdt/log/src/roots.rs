//! The root records of a mesh: a line from the founding one on, or a tree once root keys were used twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lab_crdt_model::{AuthorId, MeshId, mutant, reached};

use crate::root::{RootError, RootRecord, SignedRoot};

type Hash = [u8; 32];

/// The record in force, and what its line leaves behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootState {
    /// The record.
    pub record: RootRecord,
    /// Hashes of the founding record, of each one after it, and last of this one.
    pub line: Vec<[u8; 32]>,
    /// Whoever is or was an admin: what they said up to their end counts.
    pub listed: BTreeSet<AuthorId>,
    /// Keys that are or were root keys.
    pub root_keys: BTreeSet<AuthorId>,
    /// Somewhere on the line, enough root keys signed two records of one version: the root keys are not in good hands.
    pub is_disputed: bool,
}

impl RootState {
    /// The hash of the record in force.
    pub fn hash(&self) -> [u8; 32] {
        self.line.last().copied().unwrap_or_default()
    }
}

#[derive(Debug)]
struct Step {
    record: RootRecord,
    /// Keys of the record before that signed it.
    signers: BTreeSet<AuthorId>,
    /// Admins of this record and of all before it.
    listed: BTreeSet<AuthorId>,
}

/// All valid root records that are known.
#[derive(Debug, Clone)]
pub(crate) struct Roots {
    founding: Hash,
    steps: BTreeMap<Hash, Arc<Step>>,
    next: BTreeMap<Hash, BTreeSet<Hash>>,
}

/// A record that follows a known one.
#[derive(Debug)]
pub(crate) struct Sequel {
    hash: Hash,
    step: Step,
}

impl Sequel {
    pub(crate) const fn record(&self) -> &RootRecord {
        &self.step.record
    }
}

impl Roots {
    pub(crate) fn new(mesh: MeshId, record: RootRecord) -> Self {
        let step = Step {
            listed: keys_of(&record),
            signers: BTreeSet::new(),
            record,
        };
        Self {
            founding: mesh.0,
            steps: BTreeMap::from([(mesh.0, Arc::new(step))]),
            next: BTreeMap::new(),
        }
    }

    /// Verifies a record against the one that it names.
    pub(crate) fn check(&self, signed: &SignedRoot) -> Result<Sequel, RootError> {
        let prev = signed.read()?.prev;
        let last = self.steps.get(&prev).ok_or(RootError::Prev)?;
        let (record, signers) = signed.verify_after(&last.record, &last.listed)?;
        let listed = last.listed.union(&keys_of(&record)).copied().collect();
        Ok(Sequel {
            hash: record.hash(),
            step: Step {
                record,
                signers,
                listed,
            },
        })
    }

    /// Takes in a verified record, or further signatures of a known one.
    pub(crate) fn insert(&mut self, sequel: Sequel) {
        let Sequel { hash, mut step } = sequel;
        let siblings = self.next.entry(step.record.prev).or_default();
        siblings.insert(hash);
        if let Some(known) = self.steps.get(&hash) {
            step.signers.extend(&known.signers);
        }
        self.steps.insert(hash, Arc::new(step));
    }

    /// The record in force: from the founding one on, of several with one version the one with more signatures by the
    /// keys of the record before, then the one with the lower hash.
    pub(crate) fn in_force(&self) -> RootState {
        let mut hash = self.founding;
        let mut line = vec![hash];
        let mut root_keys: BTreeSet<AuthorId> = BTreeSet::new();
        let mut is_disputed = false;
        loop {
            let step = &self.steps[&hash];
            root_keys.extend(&step.record.root_keys);
            let siblings = self.next.get(&hash);
            let winner = siblings.into_iter().flatten().min_by_key(|sibling| {
                let signers = self.steps[*sibling].signers.len();
                let signers = if mutant!("R01") { 0 } else { signers };
                (usize::MAX - signers, **sibling)
            });
            if siblings.is_some_and(|all| all.len() > 1) {
                reached!("two root records of one version");
                is_disputed = true;
            }
            match winner {
                Some(next) => {
                    hash = *next;
                    line.push(hash);
                }
                None => {
                    return RootState {
                        record: step.record.clone(),
                        line,
                        listed: step.listed.clone(),
                        root_keys,
                        is_disputed,
                    };
                }
            }
        }
    }
}

fn keys_of(record: &RootRecord) -> BTreeSet<AuthorId> {
    record.admins.iter().map(|a| a.key).collect()
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;
    use crate::root::{Admin, Annul};

    fn key(n: u8) -> SigningKey {
        SigningKey::from_bytes(&[n; 32])
    }

    fn id(n: u8) -> AuthorId {
        AuthorId(key(n).verifying_key().to_bytes())
    }

    fn record(roots: &[u8], threshold: u8, admins: &[u8]) -> RootRecord {
        let mut root_keys: Vec<_> = roots.iter().map(|n| id(*n)).collect();
        root_keys.sort_unstable();
        RootRecord {
            name: "home".into(),
            root_keys,
            threshold,
            admins: admins
                .iter()
                .map(|n| Admin {
                    key: id(*n),
                    name: format!("a{n}"),
                })
                .collect(),
            ..RootRecord::default()
        }
    }

    fn after(last: &RootRecord, change: impl FnOnce(&mut RootRecord)) -> RootRecord {
        let mut next = RootRecord {
            version: last.version + 1,
            prev: last.hash(),
            ..last.clone()
        };
        change(&mut next);
        next
    }

    fn sign(record: &RootRecord, by: &[u8]) -> SignedRoot {
        let keys: Vec<_> = by.iter().map(|n| key(*n)).collect();
        SignedRoot::sign(record, &keys.iter().collect::<Vec<_>>())
    }

    fn founded(record: &RootRecord, by: &[u8]) -> Roots {
        let signed = sign(record, by);
        Roots::new(signed.mesh(), signed.verify().expect("signed"))
    }

    #[test]
    fn a_record_needs_the_keys_of_both_versions() {
        let first = record(&[101, 102, 103], 2, &[1]);
        let roots = founded(&first, &[101, 102]);
        let second = after(&first, |next| {
            next.root_keys = record(&[103, 104], 2, &[]).root_keys;
        });
        for (by, have) in [
            (&[103, 104][..], 1),
            (&[101, 102], 0),
            (&[101, 102, 103], 1),
            (&[101, 101, 104], 1),
        ] {
            let error = roots.check(&sign(&second, by)).expect_err("too few");
            assert_eq!(error, RootError::Threshold { have, need: 2 }, "{by:?}");
        }
        assert!(roots.check(&sign(&second, &[101, 103, 104])).is_ok());
    }

    #[test]
    fn versions_follow_each_other_without_a_gap_and_name_what_they_follow() {
        let first = record(&[101], 1, &[1]);
        let roots = founded(&first, &[101]);
        let skipped = after(&first, |next| next.version = 2);
        assert_eq!(
            roots.check(&sign(&skipped, &[101])).expect_err("a gap"),
            RootError::Sequel { have: 2, need: 1 }
        );
        let stray = after(&first, |next| next.prev = [9; 32]);
        assert_eq!(
            roots.check(&sign(&stray, &[101])).expect_err("stray"),
            RootError::Prev
        );
        // The founding record again is no sequel of itself.
        assert!(roots.check(&sign(&first, &[101])).is_err());
    }

    #[test]
    fn no_admin_is_dropped_in_silence_not_even_after_two_records() {
        let first = record(&[101], 1, &[1, 2]);
        let mut roots = founded(&first, &[101]);
        let silent = after(&first, |next| next.admins.truncate(1));
        assert_eq!(
            roots.check(&sign(&silent, &[101])).expect_err("dropped"),
            RootError::Forgets(id(2))
        );
        let ended = after(&first, |next| {
            next.admins.truncate(1);
            next.annul = vec![Annul {
                key: id(2),
                head: None,
            }];
        });
        roots.insert(roots.check(&sign(&ended, &[101])).expect("sound"));
        let lifted = after(&ended, |next| next.annul.clear());
        assert_eq!(
            roots.check(&sign(&lifted, &[101])).expect_err("lifted"),
            RootError::Forgets(id(2))
        );
        let back = after(&ended, |next| {
            next.annul.clear();
            next.admins = first.admins.clone();
        });
        assert!(roots.check(&sign(&back, &[101])).is_ok());
    }

    #[test]
    fn of_two_records_the_one_with_more_signatures_is_in_force_in_any_order() {
        let first = record(&[101, 102, 103], 1, &[1]);
        let one = after(&first, |next| next.name = "one".into());
        let two = after(&first, |next| next.name = "two".into());
        let on_two = after(&two, |next| next.name = "on two".into());
        let signed = [
            sign(&one, &[101]),
            sign(&two, &[102, 103]),
            sign(&on_two, &[101]),
        ];
        for order in [[0, 1, 2], [1, 0, 2], [1, 2, 0]] {
            let mut roots = founded(&first, &[101]);
            for at in order {
                roots.insert(roots.check(&signed[at]).expect("sound"));
            }
            let state = roots.in_force();
            assert_eq!(state.record.name, "on two");
            assert!(state.is_disputed);
        }
        // Signatures may come apart: one by one they add up.
        let mut roots = founded(&first, &[101]);
        for signed in [
            sign(&one, &[101, 102]),
            sign(&two, &[101]),
            sign(&two, &[102]),
            sign(&two, &[103]),
        ] {
            roots.insert(roots.check(&signed).expect("sound"));
        }
        assert_eq!(roots.in_force().record.name, "two");
    }
}
