//! Steps that many replicas of one process take alike, computed once.
//!
//! A simulator holds thousands of agents that take in the same statements. What follows from a state and an input is
//! a pure function, so its result can be kept under a hash of both and shared. A [`Memo`] is such a store of results;
//! clones of one handle share it. A daemon has [`Memo::none`], which keeps nothing and costs nothing.
//!
//! Nothing may depend on what a memo holds but speed and memory. To prove that, every so often a result that was found
//! is computed again and must come out the same; if it does not, the memo panics.
//!
//! Bounded: what was not used for as long as it takes to fill half of the room is dropped. Replicas that hold a
//! dropped result keep it, later ones compute theirs.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// The name of a step: a hash of what it starts from and what comes in.
pub type StepKey = [u8; 32];

type Shared = Arc<dyn Any + Send + Sync>;

/// What an entry costs besides its value, bytes.
const ENTRY_BYTES: usize = 128;

/// Results of steps, shared by all clones of this handle. See the module.
#[derive(Clone, Default)]
pub struct Memo(Option<Arc<Mutex<Store>>>);

/// What a memo did so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MemoFigures {
    /// Results found.
    pub hits: u64,
    /// Results not found.
    pub misses: u64,
    /// Results computed again and compared.
    pub checked: u64,
    /// Results kept now.
    pub entries: usize,
    /// Estimated bytes of what is kept now.
    pub bytes: usize,
}

#[derive(Default)]
struct Store {
    young: BTreeMap<StepKey, (Shared, usize)>,
    old: BTreeMap<StepKey, (Shared, usize)>,
    young_bytes: usize,
    old_bytes: usize,
    half_bytes: usize,
    check_one_in: u64,
    figures: MemoFigures,
}

impl Store {
    fn get(&mut self, key: &StepKey) -> Option<Shared> {
        let found = if let Some((value, _)) = self.young.get(key) {
            Some(Arc::clone(value))
        } else if let Some((value, bytes)) = self.old.remove(key) {
            self.old_bytes -= bytes;
            self.insert(*key, Arc::clone(&value), bytes);
            Some(value)
        } else {
            None
        };
        if found.is_some() {
            self.figures.hits += 1;
        } else {
            self.figures.misses += 1;
        }
        found
    }

    /// Returns what was dropped to make room, for the caller to free without the lock.
    fn insert(
        &mut self,
        key: StepKey,
        value: Shared,
        bytes: usize,
    ) -> BTreeMap<StepKey, (Shared, usize)> {
        if let Some((_, former)) = self.young.insert(key, (value, bytes)) {
            self.young_bytes -= former;
        }
        self.young_bytes += bytes;
        if self.young_bytes <= self.half_bytes {
            return BTreeMap::new();
        }
        self.old_bytes = std::mem::take(&mut self.young_bytes);
        let young = std::mem::take(&mut self.young);
        std::mem::replace(&mut self.old, young)
    }
}

impl Memo {
    /// Keeps nothing.
    pub const fn none() -> Self {
        Self(None)
    }

    /// Keeps results of about `bytes` bytes; of those found, computes one in `check_one_in` again (0: none).
    pub fn new(bytes: usize, check_one_in: u64) -> Self {
        Self(Some(Arc::new(Mutex::new(Store {
            half_bytes: bytes / 2,
            check_one_in,
            ..Store::default()
        }))))
    }

    /// Whether results are kept at all.
    pub const fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// What it did so far.
    pub fn figures(&self) -> MemoFigures {
        self.with(|store| MemoFigures {
            entries: store.young.len() + store.old.len(),
            bytes: store.young_bytes + store.old_bytes,
            ..store.figures
        })
        .unwrap_or_default()
    }

    fn with<T>(&self, work: impl FnOnce(&mut Store) -> T) -> Option<T> {
        let store = self.0.as_ref()?;
        let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
        Some(work(&mut store))
    }

    /// The result of a step, if it is known.
    ///
    /// # Panics
    /// When two kinds of step have one name.
    pub fn get<T: Any + Send + Sync>(&self, key: &StepKey) -> Option<Arc<T>> {
        let found = self.with(|store| store.get(key))??;
        Some(
            found
                .downcast()
                .expect("each kind of step has its own names"),
        )
    }

    /// Keeps a result of about `bytes` bytes, those aside that others hold anyway.
    pub fn put<T: Any + Send + Sync>(&self, key: StepKey, value: &Arc<T>, bytes: usize) {
        let shared: Shared = Arc::<T>::clone(value);
        let dropped = self.with(|store| store.insert(key, shared, bytes + ENTRY_BYTES));
        drop(dropped);
    }

    /// The result of a step: the known one, or else computed and kept.
    ///
    /// # Panics
    /// When a known result is computed again and comes out otherwise: something that the name of the step leaves out
    /// has changed it.
    pub fn step<T: Any + Send + Sync>(
        &self,
        key: impl FnOnce() -> StepKey,
        compute: impl FnOnce() -> T,
        bytes: impl FnOnce(&T) -> usize,
        is_same: impl FnOnce(&T, &T) -> bool,
    ) -> Arc<T> {
        if !self.is_on() {
            return Arc::new(compute());
        }
        let key = key();
        if let Some(known) = self.get::<T>(&key) {
            if self.is_check_due() {
                assert!(
                    is_same(&known, &compute()),
                    "a remembered step came out otherwise: {}",
                    std::any::type_name::<T>()
                );
            }
            return known;
        }
        let value = Arc::new(compute());
        let bytes = bytes(&value);
        self.put(key, &value, bytes);
        value
    }

    /// Whether the result found last is one of those to be computed again. Counts it as checked.
    pub(crate) fn is_check_due(&self) -> bool {
        self.with(|store| {
            let hits = store.figures.hits;
            let is_due = store.check_one_in > 0 && hits.is_multiple_of(store.check_one_in);
            store.figures.checked += u64::from(is_due);
            is_due
        })
        .unwrap_or(false)
    }
}

impl PartialEq for Memo {
    /// Whether results are kept in the same place.
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (None, None) => true,
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (None, Some(_)) | (Some(_), None) => false,
        }
    }
}

impl Eq for Memo {}

impl fmt::Debug for Memo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memo")
            .field("is_on", &self.is_on())
            .finish()
    }
}

/// The name of a step: its kind and what decides over its result.
pub fn step_key(kind: &'static str, parts: &[&[u8]]) -> StepKey {
    let mut hasher = blake3::Hasher::new();
    hasher.update(kind.as_bytes());
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u64) -> StepKey {
        step_key("test", &[&n.to_le_bytes()])
    }

    fn square(memo: &Memo, n: u64) -> u64 {
        *memo.step(|| key(n), || n * n, |_| 100, |a, b| a == b)
    }

    #[test]
    fn a_step_is_computed_once_and_shared_by_all_handles() {
        let memo = Memo::new(1 << 20, 0);
        let other = memo.clone();
        let a = memo.step(|| key(1), || 5u64, |_| 0, |a, b| a == b);
        let b = other.step(
            || key(1),
            || unreachable!("it is known"),
            |_: &u64| 0,
            |a, b| a == b,
        );
        assert!(Arc::ptr_eq(&a, &b));
        assert_eq!(memo.figures().hits, 1);
    }

    #[test]
    fn without_a_memo_everything_is_computed() {
        let mut count = 0;
        for _ in 0..3 {
            Memo::none().step(|| key(1), || count += 1, |()| 0, |(), ()| true);
        }
        assert_eq!(count, 3);
    }

    #[test]
    fn what_is_not_used_is_dropped_and_the_room_stays_bounded() {
        let memo = Memo::new(100_000, 0);
        for n in 0..10_000 {
            assert_eq!(square(&memo, n), n * n);
            assert_eq!(square(&memo, 3), 9);
        }
        let figures = memo.figures();
        assert!(figures.bytes <= 100_000 + 1_000, "{figures:?}");
        assert!(figures.hits >= 9_990, "what is used stays: {figures:?}");
    }

    #[test]
    #[should_panic(expected = "came out otherwise")]
    fn a_planted_wrong_result_is_found() {
        let memo = Memo::new(1 << 20, 1);
        memo.put(key(4), &Arc::new(17u64), 0);
        square(&memo, 4);
    }
}
