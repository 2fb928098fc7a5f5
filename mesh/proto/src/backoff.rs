//! Waiting longer after each failure, never in step with others.

use lab_crdt_model::{Mono, mutant, sometimes};
use rand_core::Rng;

/// `ms` changed by up to ±`percent`.
pub(crate) fn jitter(rng: &mut impl Rng, ms: u64, percent: u64) -> u64 {
    let span = ms.saturating_mul(percent) / 100;
    ms - span.min(ms) + below(rng, span.saturating_mul(2) + 1)
}

/// A number below `n`; zero when `n` is zero. The bias is below 2⁻³² for the small `n` used here.
pub(crate) fn below(rng: &mut impl Rng, n: u64) -> u64 {
    if n == 0 { 0 } else { rng.next_u64() % n }
}

/// Failures in a row and when to try again.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
    not_before: Mono,
}

impl Backoff {
    /// One more failure: waits `min_ms`·2ⁿ up to `max_ms`, half of it at random.
    pub(crate) fn fail(&mut self, now: Mono, min_ms: u64, max_ms: u64, rng: &mut impl Rng) {
        let full = min_ms
            .saturating_mul(1 << self.failures.min(20))
            .min(if mutant!("M39") { u64::MAX } else { max_ms });
        if mutant!("M50") {
            u32::try_from(min_ms << self.failures.min(40)).expect("nobody waits for so long");
        }
        sometimes!(
            full == max_ms,
            "a peer failed so often that waiting grows no more"
        );
        self.failures = self.failures.saturating_add(1);
        self.not_before = now.plus_ms(full / 2 + below(rng, full / 2 + 1));
    }

    /// Waits until `at` at least, without counting a failure.
    pub(crate) fn hold(&mut self, at: Mono) {
        self.not_before = self.not_before.max(at);
    }

    /// When the next try is allowed.
    pub(crate) const fn not_before(&self) -> Mono {
        self.not_before
    }
}

/// So many units per second on average, with a burst.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    level: u64,
    at: Mono,
}

impl Bucket {
    /// Full.
    pub(crate) const fn new(burst: u64, now: Mono) -> Self {
        Self {
            level: burst,
            at: now,
        }
    }

    /// Takes `n` if there is any level left; a single large item may drive the level to zero.
    pub(crate) fn take(&mut self, n: u64, per_s: u64, burst: u64, now: Mono) -> bool {
        let ms = now.ms_since(self.at);
        let gained = ms.saturating_mul(per_s) / 1000;
        if gained > 0 || self.level == burst {
            self.level = self.level.saturating_add(gained).min(burst);
            self.at = now;
        }
        if self.level == 0 || (n > self.level && n <= burst) {
            return false;
        }
        self.level = self.level.saturating_sub(n);
        true
    }

    /// When `n` can be taken.
    pub(crate) fn ready(&self, n: u64, per_s: u64, burst: u64) -> Mono {
        let missing = n.min(burst).max(1).saturating_sub(self.level);
        self.at
            .plus_ms(missing.saturating_mul(1000).div_ceil(per_s.max(1)))
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha12Rng;
    use rand_core::SeedableRng;

    use super::*;

    #[test]
    fn waits_grow_and_stay_below_the_limit() {
        let mut rng = ChaCha12Rng::from_seed([1; 32]);
        let mut backoff = Backoff::default();
        for n in 0..100 {
            backoff.fail(Mono(0), 1000, 60_000, &mut rng);
            let ms = backoff.not_before().ms_since(Mono(0));
            let full = (1000u64 << n.min(20)).min(60_000);
            assert!((full / 2..=full).contains(&ms), "failure {n}: {ms} ms");
        }
    }

    #[test]
    fn a_bucket_gives_its_rate_and_no_more() {
        let mut bucket = Bucket::new(100, Mono(0));
        let (mut now, mut got) = (Mono(0), 0);
        while now < Mono(0).plus_ms(10_000) {
            if bucket.take(10, 50, 100, now) {
                got += 10;
            } else {
                let ready = bucket.ready(10, 50, 100);
                assert!(ready > now);
                now = ready;
            }
        }
        assert!((590..=610).contains(&got), "{got}");
    }

    #[test]
    fn an_item_larger_than_the_burst_passes_when_the_bucket_is_not_empty() {
        let mut bucket = Bucket::new(100, Mono(0));
        assert!(bucket.take(1000, 50, 100, Mono(0)));
        assert!(!bucket.take(1, 50, 100, Mono(0)));
        assert!(bucket.take(1, 50, 100, bucket.ready(1, 50, 100)));
    }

    #[test]
    fn jitter_stays_in_its_range() {
        let mut rng = ChaCha12Rng::from_seed([2; 32]);
        for _ in 0..1000 {
            assert!((900..=1100).contains(&jitter(&mut rng, 1000, 10)));
        }
    }
}
