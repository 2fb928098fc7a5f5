//! What was found out about bytes, so that the next look at the very same bytes finds it at once.
//!
//! The bytes of statements and reports never change, and replicas hold them for long while oracles come by every
//! second. They are told apart by where they lie: what is known keeps them there, so nothing else can come to lie in
//! their place. Only ever asked for one by one: the order of places follows from nothing.

use std::collections::BTreeMap;

use bytes::Bytes;

/// Bytes remembered at most; beyond it everything is found out again.
const KNOWN_MAX: usize = 50_000;

#[derive(Debug)]
pub(crate) struct Known<T>(BTreeMap<(usize, usize), (Bytes, T)>);

impl<T> Default for Known<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Known<T> {
    pub(crate) const fn new() -> Self {
        Self(BTreeMap::new())
    }

    pub(crate) fn get(&self, bytes: &Bytes) -> Option<&T> {
        Some(&self.0.get(&place(bytes))?.1)
    }

    pub(crate) fn put(&mut self, bytes: &Bytes, what: T) {
        if self.0.len() >= KNOWN_MAX {
            self.0.clear();
        }
        self.0.insert(place(bytes), (bytes.clone(), what));
    }
}

/// Longest list that is kept for later looks.
const KEPT_MAX: usize = 1_000;

/// A list to compare with later; nothing of one that is too long to be kept for every node.
pub(crate) fn kept(list: Vec<Bytes>) -> Vec<Bytes> {
    if list.len() > KEPT_MAX {
        Vec::new()
    } else {
        list
    }
}

/// Whether both are the very same bytes in the same places, in the same order: then nothing new can be learned.
pub(crate) fn are_same(a: &[Bytes], b: &[Bytes]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| place(a) == place(b))
}

fn place(bytes: &Bytes) -> (usize, usize) {
    (bytes.as_ptr() as usize, bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_known_of_these_bytes_only() {
        let mut known = Known::new();
        let (bytes, copy) = (Bytes::from(vec![1, 2, 3]), Bytes::from(vec![1, 2, 3]));
        known.put(&bytes, 'a');
        assert_eq!(known.get(&bytes.clone()), Some(&'a'));
        assert_eq!(known.get(&copy), None, "equal, but lies elsewhere");
        assert_eq!(known.get(&bytes.slice(..2)), None);
        assert_eq!(known.get(&bytes.slice(1..)), None);
    }

    #[test]
    fn bytes_that_are_known_are_never_taken_for_later_ones() {
        let mut known = Known::new();
        for n in 0..2 * KNOWN_MAX {
            let bytes = Bytes::from(n.to_le_bytes().to_vec());
            assert_eq!(known.get(&bytes), None, "its place was in use all along");
            known.put(&bytes, ());
        }
    }

    #[test]
    fn lists_are_the_same_only_piece_by_piece() {
        let all: Vec<Bytes> = (0..4_u8).map(|n| Bytes::from(vec![n; 8])).collect();
        assert!(are_same(&all, &all.clone()));
        assert!(!are_same(&all, &all[..3]));
        let mut other = all.clone();
        other[2] = Bytes::copy_from_slice(&other[2]);
        assert!(!are_same(&all, &other));
        other.clone_from(&all);
        other.swap(0, 1);
        assert!(!are_same(&all, &other));
    }
}
