//! Randomness as a tree: every draw follows from one number and from what it is for.
//!
//! A stream belongs to a domain and an entity (`("boot", node 3)`), so that taking one action out of a plan does not
//! shift the draws of all others; what happens per message is drawn from the message's own numbers.

/// A small fast generator (SplitMix64; Steele, Lea and Flood, "Fast splittable pseudorandom number generators",
/// OOPSLA 2014). For choices of the simulation, never for keys of a real mesh.
#[derive(Clone, Debug)]
pub struct Rng(u64);

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The seed of a part.
pub fn child(seed: u64, domain: &str, entity: u64) -> u64 {
    let mut hasher = blake3::Hasher::new_derive_key("lab simulation seed 1");
    hasher.update(&seed.to_le_bytes());
    hasher.update(&(domain.len() as u64).to_le_bytes());
    hasher.update(domain.as_bytes());
    hasher.update(&entity.to_le_bytes());
    u64::from_le_bytes(std::array::from_fn(|i| hasher.finalize().as_bytes()[i]))
}

/// 32 bytes for a part, for what wants a whole key.
pub fn bytes(seed: u64, domain: &str, entity: u64) -> [u8; 32] {
    *blake3::hash(&child(seed, domain, entity).to_le_bytes()).as_bytes()
}

/// The stream of a part.
pub fn rng(seed: u64, domain: &str, entity: u64) -> Rng {
    Rng(child(seed, domain, entity))
}

/// One draw from numbers that name what it is for.
pub const fn draw(seed: u64, a: u64, b: u64) -> u64 {
    mix(mix(seed ^ a.wrapping_mul(GOLDEN)).wrapping_add(b.wrapping_mul(GOLDEN)))
}

/// A number for bytes: equal bytes, equal numbers. Against accidents, not against people.
pub fn fold(bytes: &[u8]) -> u64 {
    let mut hash = GOLDEN ^ bytes.len() as u64;
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        hash = (hash ^ u64::from_le_bytes(*word)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash ^= hash >> 32;
    }
    for byte in rest {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    }
    mix(hash)
}

impl Rng {
    /// A stream that begins at a number.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub const fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0)
    }

    /// A number below `n`; 0 for `n` = 0.
    pub const fn below(&mut self, n: u64) -> u64 {
        ((self.next_u64() as u128 * n as u128) >> 64) as u64
    }

    /// A number of a range; its start if it is empty.
    pub const fn range(&mut self, range: std::ops::Range<u64>) -> u64 {
        range.start + self.below(range.end.saturating_sub(range.start))
    }

    /// True so many times in a thousand.
    pub const fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    /// One of a list; `None` of an empty one.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        of.get(self.below(of.len() as u64) as usize)
    }

    /// Puts a list in random order.
    pub const fn shuffle<T>(&mut self, list: &mut [T]) {
        let mut n = list.len();
        while n > 1 {
            let other = self.below(n as u64) as usize;
            n -= 1;
            list.swap(n, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_of_different_parts_differ_and_equal_ones_agree() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..10 {
            for domain in ["boot", "link", "li", "nkboot"] {
                for entity in 0..10 {
                    assert!(seen.insert(child(seed, domain, entity)));
                    assert_eq!(
                        rng(seed, domain, entity).next_u64(),
                        rng(seed, domain, entity).next_u64()
                    );
                }
            }
        }
    }

    #[test]
    fn draws_below_a_bound_are_even() {
        let mut rng = Rng::new(1);
        let mut counts = [0u32; 10];
        for _ in 0..100_000 {
            counts[rng.below(10) as usize] += 1;
        }
        assert!(
            counts.iter().all(|c| (9_500..10_500).contains(c)),
            "{counts:?}"
        );
    }

    #[test]
    fn a_changed_byte_changes_the_number_of_bytes() {
        let bytes: Vec<u8> = (0..37).collect();
        for at in 0..bytes.len() {
            let mut other = bytes.clone();
            other[at] ^= 1;
            assert_ne!(fold(&bytes), fold(&other));
            assert_ne!(fold(&bytes), fold(&bytes[..at]));
        }
    }
}
