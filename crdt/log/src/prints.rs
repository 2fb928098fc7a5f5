//! Fingerprints of a set of keyed items: equal sets have equal digests, and a difference is found by descent.
//!
//! A tree of fan-out 16 over the first four hexadecimal digits of the key (65,536 leaves of the tree, kept
//! sparse). Changing an item costs four hashes; finding one difference among 100,000 items costs four
//! messages of at most 16 × 9 bytes each way.

use std::collections::BTreeMap;

/// Levels below the root.
pub(crate) const DEPTH: usize = 4;

/// Items by key, with a fingerprint for every prefix of up to four hexadecimal digits.
#[derive(Debug, Default)]
pub struct Prints {
    items: BTreeMap<[u8; 32], [u8; 32]>,
    /// Prefix of `n` digits → sum of the item prints below it and their count, at index `n`.
    levels: [BTreeMap<u16, (Sum, u32)>; DEPTH + 1],
}

/// A sum of hashes modulo 2^256, so that adding and removing an item does not look at the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Sum([u64; 4]);

impl Sum {
    fn of(key: &[u8; 32], print: &[u8; 32]) -> Self {
        let hash = blake3::hash(&[b"lab/print/1".as_slice(), key, print].concat());
        let b = hash.as_bytes();
        Self(std::array::from_fn(|i| {
            u64::from_le_bytes(std::array::from_fn(|j| b[8 * i + j]))
        }))
    }

    fn add(&mut self, other: &Self) {
        let mut carry = false;
        for (a, b) in self.0.iter_mut().zip(other.0) {
            let (x, c1) = a.overflowing_add(b);
            let (y, c2) = x.overflowing_add(u64::from(carry));
            (*a, carry) = (y, c1 || c2);
        }
    }

    fn subtract(&mut self, other: &Self) {
        let mut borrow = false;
        for (a, b) in self.0.iter_mut().zip(other.0) {
            let (x, c1) = a.overflowing_sub(b);
            let (y, c2) = x.overflowing_sub(u64::from(borrow));
            (*a, borrow) = (y, c1 || c2);
        }
    }

    fn bytes(&self) -> [u8; 32] {
        std::array::from_fn(|i| self.0[i / 8].to_le_bytes()[i % 8])
    }
}

pub(crate) fn prefix(key: &[u8; 32], digits: usize) -> u16 {
    let all = u16::from_be_bytes([key[0], key[1]]);
    if digits == 0 {
        0
    } else {
        all >> (16 - 4 * digits)
    }
}

impl Prints {
    /// Sets the print of an item; `None` removes it.
    pub fn set(&mut self, key: &[u8; 32], print: Option<[u8; 32]>) {
        let old = match print {
            Some(print) => self.items.insert(*key, print),
            None => self.items.remove(key),
        };
        if old == print {
            return;
        }
        for (digits, level) in self.levels.iter_mut().enumerate() {
            let at = prefix(key, digits);
            let (sum, count) = level.entry(at).or_default();
            if let Some(old) = &old {
                sum.subtract(&Sum::of(key, old));
                *count -= 1;
            }
            if let Some(print) = &print {
                sum.add(&Sum::of(key, print));
                *count += 1;
            }
            if *count == 0 {
                level.remove(&at);
            }
        }
    }

    /// The digest of everything.
    pub fn digest(&self) -> [u8; 32] {
        let (sum, count) = self.levels[0].get(&0).copied().unwrap_or_default();
        *blake3::hash(&[&sum.bytes()[..], &count.to_be_bytes()].concat()).as_bytes()
    }

    /// How many items there are below a prefix of `digits` digits.
    pub(crate) fn count(&self, digits: usize, at: u16) -> u32 {
        self.levels[digits].get(&at).map_or(0, |(_, count)| *count)
    }

    /// Short prints of the (up to 16) children of a prefix that have items.
    pub(crate) fn children(&self, digits: usize, at: u16) -> Vec<(u8, u64)> {
        let Some(level) = self.levels.get(digits + 1) else {
            return Vec::new();
        };
        let first = at << 4;
        level
            .range(first..=first | 15)
            .map(|(child, (sum, _))| {
                (
                    (child & 15) as u8,
                    sum.0[0] ^ sum.0[1] ^ sum.0[2] ^ sum.0[3],
                )
            })
            .collect()
    }

    /// The keys below a prefix.
    pub(crate) fn keys(&self, digits: usize, at: u16) -> Vec<[u8; 32]> {
        let (mut low, mut high) = ([0; 32], [0xff; 32]);
        if digits > 0 {
            let shift = 16 - 4 * digits;
            let first = at << shift;
            low[..2].copy_from_slice(&first.to_be_bytes());
            let last = first | ((1u32 << shift) - 1) as u16;
            high[..2].copy_from_slice(&last.to_be_bytes());
        }
        self.items.range(low..=high).map(|(key, _)| *key).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(n: u32) -> [u8; 32] {
        *blake3::hash(&n.to_be_bytes()).as_bytes()
    }

    proptest! {
        #[test]
        fn the_digest_depends_on_the_set_alone(items in proptest::collection::btree_map(0u32..500, any::<[u8; 32]>(), 0..80), extra in 0u32..500) {
            let mut a = Prints::default();
            let mut b = Prints::default();
            for (k, v) in &items { a.set(&key(*k), Some(*v)); }
            b.set(&key(extra), Some([1; 32]));
            for (k, v) in items.iter().rev() { b.set(&key(*k), Some([9; 32])); b.set(&key(*k), Some(*v)); }
            b.set(&key(extra), items.get(&extra).copied());
            prop_assert_eq!(a.digest(), b.digest());
            let mut below = 0;
            for (child, _) in a.children(0, 0) { below += a.count(1, u16::from(child)); }
            prop_assert_eq!(below as usize, items.len());
        }
    }

    #[test]
    fn keys_below_a_prefix_are_complete() {
        let mut prints = Prints::default();
        for n in 0..2000 {
            prints.set(&key(n), Some([1; 32]));
        }
        for digits in 0..=DEPTH {
            let ends = 1u32 << (4 * digits);
            let total: usize = (0..ends)
                .map(|at| prints.keys(digits, at as u16).len())
                .sum();
            assert_eq!(total, 2000);
        }
    }
}
