//! What a drive acknowledged, kept beside it, and what a start is measured against.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use lab_crdt_model::Mono;
use lab_crdt_model::store::{Batch, StoreOp, Table, Tables};

/// Where a record lies.
pub type Place = (Table, Vec<u8>);
/// BLAKE3 of a value; `None` for a record that was deleted.
pub type Content = Option<[u8; 32]>;

/// Most places that a report names; beyond it they are only counted.
const NAMED_MAX: usize = 16;

/// Every record that anybody ever asked a drive to write, as short hashes.
///
/// Share one among all drives of a world: their nodes hold much the same records.
#[derive(Clone, Debug, Default)]
pub struct Ledger(Arc<Mutex<BTreeSet<u64>>>);

impl Ledger {
    fn add(&self, place: &Place, content: &[u8; 32]) {
        self.set().insert(short(place, content));
    }

    fn has(&self, place: &Place, content: &[u8; 32]) -> bool {
        self.set().contains(&short(place, content))
    }

    fn set(&self) -> std::sync::MutexGuard<'_, BTreeSet<u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn short(place: &Place, content: &[u8; 32]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[place.0 as u8]);
    hasher.update(content);
    hasher.update(&place.1);
    let mut out = [0; 8];
    out.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(out)
}

/// Places where something was found that should not be, or the reverse.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Places {
    /// How many in all.
    pub count: usize,
    /// The first sixteen.
    pub first: Vec<Place>,
}

impl Places {
    fn add(&mut self, place: Place) {
        self.count += 1;
        if self.first.len() < NAMED_MAX {
            self.first.push(place);
        }
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.count += other.count;
        let room = NAMED_MAX - self.first.len();
        self.first.extend(other.first.into_iter().take(room));
    }
}

/// A write that is not over yet at a given time, and what was known before it.
#[derive(Clone, Debug)]
struct Underway {
    until: Mono,
    before: Vec<Before>,
}

#[derive(Clone, Debug)]
struct Before {
    place: Place,
    acknowledged: Option<Content>,
    maybe: Option<Vec<Content>>,
    attempted: Content,
}

/// What was acknowledged and what may be there besides.
#[derive(Clone, Debug, Default)]
pub(crate) struct Record {
    acknowledged: BTreeMap<Place, Content>,
    /// What writes that failed or were cut short may have left, since the last good one.
    maybe: BTreeMap<Place, Vec<Content>>,
    underway: VecDeque<Underway>,
    ledger: Ledger,
}

impl Record {
    pub(crate) fn sharing(ledger: &Ledger) -> Self {
        Self {
            ledger: ledger.clone(),
            ..Self::default()
        }
    }

    /// Takes over what another drive was ever asked to write.
    pub(crate) fn learn_from(&self, other: &Self) {
        if !Arc::ptr_eq(&self.ledger.0, &other.ledger.0) {
            let theirs = other.ledger.set().clone();
            self.ledger.set().extend(theirs);
        }
    }

    pub(crate) const fn acknowledged(&self) -> &BTreeMap<Place, Content> {
        &self.acknowledged
    }

    /// Takes note of a write that is over at `until`.
    pub(crate) fn wrote<'a>(
        &mut self,
        until: Mono,
        batches: impl IntoIterator<Item = &'a Batch>,
        is_ok: bool,
    ) {
        let mut before = Vec::new();
        for op in batches.into_iter().flatten() {
            let (place, content) = match op {
                StoreOp::Put { table, key, value } => {
                    let place = (*table, key.clone());
                    let content = *blake3::hash(value).as_bytes();
                    self.ledger.add(&place, &content);
                    (place, Some(content))
                }
                StoreOp::Delete { table, key } => ((*table, key.clone()), None),
            };
            if !is_ok {
                self.maybe.entry(place).or_default().push(content);
                continue;
            }
            before.push(Before {
                acknowledged: self.acknowledged.insert(place.clone(), content),
                maybe: self.maybe.remove(&place),
                place,
                attempted: content,
            });
        }
        if is_ok {
            self.underway.push_back(Underway { until, before });
        }
    }

    /// Forgets how to take back writes that are over.
    pub(crate) fn settle(&mut self, now: Mono) {
        while self.underway.front().is_some_and(|w| w.until <= now) {
            self.underway.pop_front();
        }
    }

    /// Everything under way was cut short: none of it counts as acknowledged, all of it may be there.
    pub(crate) fn cut(&mut self, now: Mono) {
        self.settle(now);
        while let Some(write) = self.underway.pop_back() {
            for before in write.before.into_iter().rev() {
                let mut maybe = self.maybe.remove(&before.place).unwrap_or_default();
                maybe.push(before.attempted);
                maybe.extend(before.maybe.unwrap_or_default());
                match before.acknowledged {
                    Some(content) => {
                        self.acknowledged.insert(before.place.clone(), content);
                    }
                    None => {
                        self.acknowledged.remove(&before.place);
                    }
                }
                self.maybe.insert(before.place, maybe);
            }
        }
    }

    /// Compares what a start found with what it should have, and counts from there.
    ///
    /// The first answer is what was acknowledged and is not there (or was deleted and is), the
    /// second what is there though nobody ever wrote it.
    pub(crate) fn compare(&mut self, tables: &Tables) -> (Places, Places) {
        let (mut lost, mut unknown) = (Places::default(), Places::default());
        let mut found = BTreeMap::new();
        for (table, records) in tables {
            for (key, value) in records {
                let content = *blake3::hash(value).as_bytes();
                let place = (*table, key.clone());
                if !self.ledger.has(&place, &content) {
                    unknown.add(place.clone());
                }
                found.insert(place, Some(content));
            }
        }
        for (place, content) in &self.acknowledged {
            let now = found.get(place).copied().flatten();
            let is_as_told = now == *content
                || (self.maybe.get(place)).is_some_and(|maybe| maybe.contains(&now));
            if place.0 != Table::Quarantine && !is_as_told {
                lost.add(place.clone());
            }
        }
        for place in found.keys() {
            // A record that was never acknowledged and of which no write is open.
            if !self.acknowledged.contains_key(place) && !self.maybe.contains_key(place) {
                lost.add(place.clone());
            }
        }
        // A deleted record need not be remembered any longer: what comes back is a loss above.
        self.acknowledged = found;
        self.maybe.clear();
        self.underway.clear();
        (lost, unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: u8, value: u8) -> StoreOp {
        StoreOp::Put {
            table: Table::Meta,
            key: vec![key],
            value: vec![value],
        }
    }

    fn delete(key: u8) -> StoreOp {
        StoreOp::Delete {
            table: Table::Meta,
            key: vec![key],
        }
    }

    fn tables(records: &[(u8, u8)]) -> Tables {
        let records = records.iter().map(|(k, v)| (vec![*k], vec![*v])).collect();
        Tables::from([(Table::Meta, records)])
    }

    fn counts(record: &Record, found: &[(u8, u8)]) -> (usize, usize) {
        let (lost, unknown) = record.clone().compare(&tables(found));
        (lost.count, unknown.count)
    }

    #[test]
    fn what_was_acknowledged_has_to_be_there() {
        let mut record = Record::default();
        record.wrote(Mono(1), [&vec![put(1, 1), put(2, 2)]], true);
        record.wrote(Mono(2), [&vec![delete(1)]], true);
        record.cut(Mono(2));
        assert_eq!(counts(&record, &[(2, 2)]), (0, 0));
        assert_eq!(counts(&record, &[]), (1, 0));
        assert_eq!(
            counts(&record, &[(1, 1), (2, 2)]),
            (1, 0),
            "deleted and back"
        );
        assert_eq!(counts(&record, &[(2, 9)]), (1, 1), "nobody wrote that");
    }

    #[test]
    fn what_failed_or_was_cut_short_may_be_there_or_not() {
        let mut record = Record::default();
        record.wrote(Mono(1), [&vec![put(1, 1)]], true);
        record.wrote(Mono(2), [&vec![put(1, 2)]], false);
        record.wrote(Mono(9), [&vec![put(1, 3), put(4, 4)]], true);
        assert_eq!(counts(&record, &[(1, 3), (4, 4)]), (0, 0));
        assert_eq!(counts(&record, &[(1, 1)]), (2, 0), "acknowledged already");
        record.cut(Mono(5));
        for found in [&[(1, 1)][..], &[(1, 2)], &[(1, 3), (4, 4)]] {
            assert_eq!(counts(&record, found), (0, 0), "{found:?}");
        }
        assert_eq!(counts(&record, &[]), (1, 0));
    }
}
