//! A set of slots of a fleet, one bit each.

/// Slots of one fleet. Sets of the same fleet have the same length.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Bits {
    words: Vec<u64>,
}

impl Bits {
    /// No slot of `len`.
    pub(crate) fn none(len: usize) -> Self {
        Self {
            words: vec![0; len.div_ceil(64)],
        }
    }

    /// Adds `slot`, growing as needed.
    pub(crate) fn insert(&mut self, slot: u32) {
        let word = slot as usize / 64;
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= 1 << (slot % 64);
    }

    pub(crate) fn remove(&mut self, slot: u32) {
        if let Some(word) = self.words.get_mut(slot as usize / 64) {
            *word &= !(1 << (slot % 64));
        }
    }

    pub(crate) fn contains(&self, slot: u32) -> bool {
        self.words
            .get(slot as usize / 64)
            .is_some_and(|word| word >> (slot % 64) & 1 == 1)
    }

    pub(crate) fn insert_all(&mut self, slots: &[u32]) {
        slots.iter().for_each(|slot| self.insert(*slot));
    }

    pub(crate) fn union(&mut self, other: &Self) {
        self.zip(other, |a, b| a | b);
    }

    pub(crate) fn intersect(&mut self, other: &Self) {
        self.zip(other, |a, b| a & b);
    }

    pub(crate) fn subtract(&mut self, other: &Self) {
        self.zip(other, |a, b| a & !b);
    }

    pub(crate) fn count(&self) -> usize {
        self.words
            .iter()
            .map(|word| word.count_ones() as usize)
            .sum()
    }

    /// The slots in ascending order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> {
        self.words.iter().zip(0u32..).flat_map(|(word, i)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                let bit = rest.trailing_zeros();
                if bit == 64 {
                    return None;
                }
                rest &= rest - 1;
                Some(i * 64 + bit)
            })
        })
    }

    fn zip(&mut self, other: &Self, join: impl Fn(u64, u64) -> u64) {
        let rest = std::iter::repeat(&0);
        self.words
            .iter_mut()
            .zip(other.words.iter().chain(rest))
            .for_each(|(a, b)| *a = join(*a, *b));
    }
}
