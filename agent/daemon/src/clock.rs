//! The only reader of clocks in the product.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lab_crdt_model::{Mono, Now, Wall};
use rustix::time::{ClockId, Timespec, clock_gettime};

/// Both clocks, now.
///
/// `mono` counts nanoseconds since the machine booted and goes on while it sleeps, so that a laptop that wakes up
/// notices at once that its time-outs are over. `wall` is what this machine believes.
#[expect(
    clippy::disallowed_methods,
    reason = "through the C library, so that a test can run an agent under a wrong clock"
)]
pub fn now() -> Now {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH);
    let ms = wall.unwrap_or_default().as_millis();
    Now {
        mono: mono(),
        wall: Wall(u64::try_from(ms).unwrap_or(u64::MAX)),
    }
}

/// The clock for time-outs, now.
pub fn mono() -> Mono {
    let nanos = duration(clock_gettime(ClockId::Boottime)).as_nanos();
    Mono(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// How long to sleep until `at`, never longer than `most`.
///
/// The runtime's timers stand still while the machine sleeps, so that a bound on each nap is what makes the agent
/// look at its own clock soon after waking.
pub(crate) fn nap_until(at: Option<Mono>, now: Mono, most: Duration) -> Duration {
    at.map_or(most, |at| {
        Duration::from_nanos(at.0.saturating_sub(now.0)).min(most)
    })
}

/// A time before 1970 reads as 1970.
fn duration(time: Timespec) -> Duration {
    Duration::try_from(time).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_for_time_outs_never_goes_back() {
        let mut last = mono();
        for _ in 0..1000 {
            let next = now().mono;
            assert!(next >= last);
            last = next;
        }
        assert!(now().wall > Wall(1_700_000_000_000));
    }

    #[test]
    fn a_nap_ends_at_the_deadline_or_at_the_bound() {
        let most = Duration::from_secs(5);
        let now = Mono(10_000_000_000);

        assert_eq!(nap_until(None, now, most), most);
        assert_eq!(nap_until(Some(Mono(0)), now, most), Duration::ZERO);
        assert_eq!(
            nap_until(Some(now.plus_ms(7)), now, most),
            Duration::from_millis(7)
        );
        assert_eq!(nap_until(Some(Mono(u64::MAX)), now, most), most);
    }
}
