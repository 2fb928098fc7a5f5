//! A bucket of tokens: so many at once, so many per second.

use lab_crdt_model::Mono;

/// How much may be done at once, and how quickly it may be done again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Rate {
    /// At once.
    pub(crate) burst: u64,
    /// Afterwards: one in so many milliseconds.
    pub(crate) each_ms: u64,
}

/// What is left of a rate. A full one need not be kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Bucket {
    /// When it will be full again.
    full_at: Mono,
}

impl Bucket {
    /// Takes `count` if there is any room; a larger count than the burst passes while the bucket is full.
    pub(crate) fn take(&mut self, count: u64, rate: Rate, now: Mono) -> bool {
        if self.ready_at(count, rate) > now {
            return false;
        }
        self.spend(count, rate, now);
        true
    }

    /// Takes `count` whether there is room or not; no debt is deeper than one burst.
    pub(crate) fn spend(&mut self, count: u64, rate: Rate, now: Mono) {
        let full_at = self.full_at.max(now);
        let deepest = now.plus_ms(2 * rate.burst * rate.each_ms);
        self.full_at = full_at.plus_ms(count * rate.each_ms).min(deepest);
    }

    /// When `count` may be taken.
    pub(crate) fn ready_at(&self, count: u64, rate: Rate) -> Mono {
        let room_ms = rate.burst.saturating_sub(count) * rate.each_ms;
        Mono(self.full_at.0.saturating_sub(room_ms * 1_000_000))
    }

    /// Whether nothing is left.
    pub(crate) fn is_empty(&self, rate: Rate, now: Mono) -> bool {
        self.ready_at(1, rate) > now
    }

    /// Whether nothing was taken that is not back.
    pub(crate) fn is_full(&self, now: Mono) -> bool {
        self.full_at <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        burst: 10,
        each_ms: 100,
    };

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let mut bucket = Bucket::default();
        let mut got = 0;
        for ms in 0..10_000 {
            got += u64::from(bucket.take(1, RATE, Mono(0).plus_ms(ms)));
        }
        assert_eq!(got, 10 + 99);
        assert!(!bucket.is_full(Mono(0).plus_ms(10_000)));
        assert!(bucket.is_full(Mono(0).plus_ms(11_000)));
    }

    #[test]
    fn the_time_at_which_there_is_room_again_is_told() {
        let mut bucket = Bucket::default();
        assert!(bucket.take(10, RATE, Mono(0)));
        assert!(bucket.is_empty(RATE, Mono(0)));
        let at = bucket.ready_at(3, RATE);
        assert_eq!(at, Mono(0).plus_ms(300));
        assert!(bucket.take(3, RATE, at));
    }

    #[test]
    fn more_than_the_burst_passes_a_full_bucket_and_no_debt_is_for_ever() {
        let mut bucket = Bucket::default();
        assert!(bucket.take(1_000, RATE, Mono(0)));
        assert!(!bucket.take(1, RATE, Mono(0).plus_ms(1_000)));
        assert!(bucket.take(1, RATE, Mono(0).plus_ms(1_100)));
    }
}
