//! What a wire carries in a second: a token bucket, kept as the time at which the wire is free again.

/// The largest burst that passes at once: what a wire carries in this time, and at most [`BURST_BYTES`].
const BURST_NS: u64 = 20_000_000;
const BURST_BYTES: u64 = 16 * 1024;

/// Nanoseconds per byte, with 16 bits after the point; zero is no limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Pace(u64);

impl Pace {
    pub(super) const fn new(bytes_per_s: u64) -> Self {
        if bytes_per_s == 0 {
            return Self(0);
        }
        // Rounded up: nothing is so fast that it would cost nothing.
        Self((1_000_000_000_u64 << 16).div_ceil(bytes_per_s))
    }

    pub(super) const fn is_limited(self) -> bool {
        self.0 != 0
    }

    const fn cost_ns(self, bytes: u64) -> u64 {
        let fine = self.0 as u128 * bytes as u128;
        (fine >> 16) as u64
    }

    fn burst_ns(self) -> u32 {
        self.cost_ns(BURST_BYTES).min(BURST_NS) as u32
    }
}

/// One wire in one direction.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bucket {
    pace: Pace,
    burst_ns: u32,
    free_at_ns: u64,
    /// Somebody waits: what the wire could have carried since is not lost.
    is_awaited: bool,
}

impl Bucket {
    pub(super) fn new(bytes_per_s: u64) -> Self {
        let pace = Pace::new(bytes_per_s);
        Self {
            pace,
            burst_ns: pace.burst_ns(),
            free_at_ns: 0,
            is_awaited: false,
        }
    }

    /// Another pace from now on; the backlog keeps its bytes.
    pub(super) fn set_pace(&mut self, now_ns: u64, pace: Pace) {
        if self.pace == pace {
            return;
        }
        let backlog = u128::from(self.free_at_ns.saturating_sub(now_ns));
        if backlog > 0 {
            let scaled = backlog * u128::from(pace.0) / u128::from(self.pace.0.max(1));
            self.free_at_ns = now_ns.saturating_add(scaled.try_into().unwrap_or(u64::MAX));
        }
        self.pace = pace;
        self.burst_ns = pace.burst_ns();
        self.is_awaited &= pace.is_limited();
    }

    /// Nanoseconds until what it has taken is out.
    #[inline]
    pub(super) const fn backlog_ns(&self, now_ns: u64) -> u64 {
        self.free_at_ns.saturating_sub(now_ns)
    }

    fn start_ns(&self, now_ns: u64) -> u64 {
        if self.is_awaited {
            self.free_at_ns
        } else {
            self.free_at_ns
                .max(now_ns.saturating_sub(u64::from(self.burst_ns)))
        }
    }

    /// Nanoseconds a frame would wait until its last byte is out.
    #[inline]
    pub(super) fn wait_ns(&self, now_ns: u64, bytes: u64) -> u64 {
        if !self.pace.is_limited() {
            return 0;
        }
        let end = self
            .start_ns(now_ns)
            .saturating_add(self.pace.cost_ns(bytes));
        end.saturating_sub(now_ns)
    }

    /// Takes a frame; tells how many nanoseconds it waits until its last byte is out.
    #[inline]
    pub(super) fn take(&mut self, now_ns: u64, bytes: u64) -> u64 {
        if !self.pace.is_limited() {
            return 0;
        }
        let start = self.start_ns(now_ns);
        self.free_at_ns = start.saturating_add(self.pace.cost_ns(bytes));
        self.free_at_ns.saturating_sub(now_ns)
    }

    /// A frame waits outside from now on; the wire works for it.
    pub(super) fn hold(&mut self, now_ns: u64) {
        if self.pace.is_limited() {
            self.free_at_ns = self.start_ns(now_ns);
            self.is_awaited = true;
        }
    }

    /// Nobody waits any more.
    #[inline]
    pub(super) const fn release(&mut self) {
        self.is_awaited = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_carries_what_was_said() {
        for bytes_per_s in [1_000, 125_000, 1_250_000, 125_000_000] {
            let mut bucket = Bucket::new(bytes_per_s);
            let (now, bytes) = (5_000_000_000, 1_000);
            let wait = (0..10_000).map(|_| bucket.take(now, bytes)).last();
            let wanted = 10_000 * bytes * 1_000_000_000 / bytes_per_s;
            let wait = wait.expect("something was sent") + u64::from(bucket.burst_ns);
            assert!(
                wait.abs_diff(wanted) * 100 < wanted,
                "{bytes_per_s}: {wait}"
            );
        }
    }

    #[test]
    fn a_free_wire_takes_a_burst_at_once_and_no_limit_costs_nothing() {
        let mut bucket = Bucket::new(1_250_000);
        assert_eq!(bucket.take(1_000_000_000, 10_000), 0);
        assert!(bucket.take(1_000_000_000, 10_000) > 0);
        assert_eq!(Bucket::new(0).take(1, 1 << 40), 0);
    }
}
