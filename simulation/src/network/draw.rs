//! Stateless draws: a hash in place of a generator, so that one message more does not shift the others.

/// The step of the splitmix64 sequence: odd, and far from any small multiple of a power of two.
pub(super) const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The finaliser of splitmix64: every bit of the result depends on every bit of `x`.
#[inline]
pub(super) const fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A number from a seed and two names.
#[inline]
pub(super) const fn draw(seed: u64, a: u64, b: u64) -> u64 {
    mix(mix(seed.wrapping_add(a.wrapping_mul(STEP))).wrapping_add(b.wrapping_mul(STEP)))
}

/// `per_mille` of all draws are below; uses the high half of `hash`.
#[inline]
pub(super) const fn is_below(hash: u64, per_mille: u32) -> bool {
    ((hash >> 32) * 1000) >> 32 < per_mille as u64
}
