//! A queue of things to come, as a timing wheel: constant work per entry, whatever their number.
//!
//! Two levels of 4,096 slots (262 µs and 1.07 s wide) and an ordered overflow beyond 73 minutes. A slot is sorted when
//! time reaches it; what is put into the slot that is open, or before it, waits in a small heap beside it. Entries come
//! out by time, and by order of insertion at one time: never by address or hash.
//!
//! Hierarchical wheels: Varghese and Lauck, "Hashed and hierarchical timing wheels", SOSP 1987.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// Nanoseconds per slot of the near level, as a power of two.
const NEAR_BITS: u32 = 18;
/// Slots per level, as a power of two.
const SLOT_BITS: u32 = 12;
const FAR_BITS: u32 = NEAR_BITS + SLOT_BITS;
const SLOTS: u64 = 1 << SLOT_BITS;

#[derive(Debug)]
struct Entry<T> {
    at: u64,
    seq: u64,
    item: T,
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.seq) == (other.at, other.seq)
    }
}

impl<T> Eq for Entry<T> {}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.seq).cmp(&(other.at, other.seq))
    }
}

#[derive(Debug)]
struct Level<T> {
    slots: Vec<Vec<Entry<T>>>,
    /// One bit per slot that holds something.
    busy: Vec<u64>,
    len: usize,
}

impl<T> Level<T> {
    fn new() -> Self {
        Self {
            slots: (0..SLOTS).map(|_| Vec::new()).collect(),
            busy: vec![0; (SLOTS / 64) as usize],
            len: 0,
        }
    }

    fn put(&mut self, slot: u64, entry: Entry<T>) {
        let at = (slot % SLOTS) as usize;
        self.busy[at / 64] |= 1 << (at % 64);
        self.slots[at].push(entry);
        self.len += 1;
    }

    fn take(&mut self, slot: u64) -> Vec<Entry<T>> {
        let at = (slot % SLOTS) as usize;
        self.busy[at / 64] &= !(1 << (at % 64));
        let taken = std::mem::take(&mut self.slots[at]);
        self.len -= taken.len();
        taken
    }

    /// Gives the storage of a slot back, so that it is not allocated anew each turn of the wheel.
    fn give_back(&mut self, slot: u64, storage: Vec<Entry<T>>) {
        let at = (slot % SLOTS) as usize;
        if self.slots[at].capacity() == 0 && storage.capacity() <= 1024 {
            self.slots[at] = storage;
        }
    }

    /// The first busy slot in `from..to`, absolute numbers at most one turn apart.
    fn next(&self, from: u64, to: u64) -> Option<u64> {
        if self.len == 0 {
            return None;
        }
        let mut at = from;
        while at < to {
            let index = (at % SLOTS) as usize;
            let word = self.busy[index / 64] >> (index % 64);
            if word != 0 {
                let found = at + u64::from(word.trailing_zeros());
                return (found < to).then_some(found);
            }
            at += 64 - (index % 64) as u64;
        }
        None
    }
}

/// Things to come, by time in nanoseconds.
#[derive(Debug)]
pub struct Wheel<T> {
    near: Level<T>,
    far: Level<T>,
    beyond: BTreeMap<(u64, u64), T>,
    /// The near slot that is open, absolute.
    slot: u64,
    /// What was in it, latest first.
    open: Vec<Entry<T>>,
    late: BinaryHeap<Reverse<Entry<T>>>,
    seq: u64,
    len: usize,
}

impl<T> Default for Wheel<T> {
    fn default() -> Self {
        Self {
            near: Level::new(),
            far: Level::new(),
            beyond: BTreeMap::new(),
            slot: 0,
            open: Vec::new(),
            late: BinaryHeap::new(),
            seq: 0,
            len: 0,
        }
    }
}

impl<T> Wheel<T> {
    /// Entries that wait.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing waits.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Puts something in at a time; a time that is over counts as the next one to come.
    pub fn push(&mut self, at: u64, item: T) {
        self.seq += 1;
        self.len += 1;
        let seq = self.seq;
        self.place(Entry { at, seq, item });
    }

    fn place(&mut self, entry: Entry<T>) {
        let slot = entry.at >> NEAR_BITS;
        if slot <= self.slot {
            return self.late.push(Reverse(entry));
        }
        let (far, now) = (entry.at >> FAR_BITS, self.slot >> SLOT_BITS);
        if far == now {
            self.near.put(slot, entry);
        } else if far < now + SLOTS {
            self.far.put(far, entry);
        } else {
            self.beyond.insert((entry.at, entry.seq), entry.item);
        }
    }

    /// The next thing that comes at `until` or earlier, with its time and number.
    pub fn pop(&mut self, until: u64) -> Option<(u64, u64, T)> {
        loop {
            let is_late_next = match (self.late.peek(), self.open.last()) {
                (Some(Reverse(late)), Some(open)) => late < open,
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (None, None) => {
                    if !self.advance(until) {
                        return None;
                    }
                    continue;
                }
            };
            let at = if is_late_next {
                self.late.peek().map(|Reverse(entry)| entry.at)
            } else {
                self.open.last().map(|entry| entry.at)
            };
            if at.is_none_or(|at| at > until) {
                return None;
            }
            let entry = if is_late_next {
                self.late.pop().map(|Reverse(entry)| entry)
            } else {
                self.open.pop()
            };
            let entry = entry?;
            self.len -= 1;
            return Some((entry.at, entry.seq, entry.item));
        }
    }

    /// Opens the next slot that holds something and begins at `until` or earlier.
    fn advance(&mut self, until: u64) -> bool {
        let turn = self.slot >> SLOT_BITS;
        if let Some(slot) = self.near.next(self.slot + 1, (turn + 1) << SLOT_BITS) {
            if slot << NEAR_BITS > until {
                return false;
            }
            let mut entries = self.near.take(slot);
            entries.sort_unstable_by(|a, b| b.cmp(a));
            let storage = std::mem::replace(&mut self.open, entries);
            self.near.give_back(self.slot, storage);
            self.slot = slot;
            return true;
        }
        let far = self.far.next(turn + 1, turn + SLOTS);
        let beyond = self.beyond.keys().next().map(|(at, _)| at >> FAR_BITS);
        let next = match (far, beyond) {
            (Some(far), Some(beyond)) => far.min(beyond),
            (Some(next), None) | (None, Some(next)) => next,
            (None, None) => return false,
        };
        if next << FAR_BITS > until {
            return false;
        }
        // The turn begins with its first slot, which may hold something.
        self.slot = next << SLOT_BITS;
        for entry in self.far.take(next) {
            self.place(entry);
        }
        while let Some(first) = self.beyond.first_entry() {
            if first.key().0 >> FAR_BITS >= next + SLOTS {
                break;
            }
            let ((at, seq), item) = first.remove_entry();
            self.place(Entry { at, seq, item });
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed;

    #[test]
    fn entries_come_out_as_from_an_ordered_map() {
        for case in 0..20 {
            let mut rng = seed::rng(case, "wheel", 0);
            let mut wheel = Wheel::default();
            let mut model: BTreeMap<(u64, u64), u64> = BTreeMap::new();
            let (mut now, mut seq) = (0u64, 0u64);
            for step in 0..4_000u64 {
                let spread = [1_000, 1 << 18, 1 << 22, 1 << 31, 1 << 44][rng.below(5) as usize];
                let at = now + rng.below(spread);
                seq += 1;
                wheel.push(at, step);
                model.insert((at, seq), step);
                if rng.below(3) > 0 {
                    let spread = [1 << 20, 1 << 26, 1 << 33, 1 << 43][rng.below(4) as usize];
                    let until = now + rng.below(spread);
                    let expected = model
                        .first_key_value()
                        .filter(|((at, _), _)| *at <= until)
                        .map(|(key, item)| (key.0, key.1, *item));
                    let got = wheel.pop(until);
                    assert_eq!(got, expected, "case {case} step {step}");
                    if let Some((at, seq, _)) = got {
                        model.remove(&(at, seq));
                        now = now.max(at);
                    } else {
                        now = now.max(until);
                    }
                }
                assert_eq!(wheel.len(), model.len());
            }
            while let Some((at, seq, item)) = wheel.pop(u64::MAX) {
                assert_eq!(model.pop_first(), Some(((at, seq), item)));
            }
            assert!(model.is_empty() && wheel.is_empty());
        }
    }

    #[test]
    fn nothing_comes_before_its_time() {
        let mut wheel = Wheel::default();
        wheel.push(5_000_000_000, "later");
        assert_eq!(wheel.pop(4_999_999_999), None);
        wheel.push(10, "earlier");
        assert_eq!(wheel.pop(10).map(|e| e.2), Some("earlier"));
        assert_eq!(wheel.pop(5_000_000_000).map(|e| e.2), Some("later"));
    }
}
