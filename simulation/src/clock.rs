//! The clocks of one node: what it takes for the time, given the true one.

use lab_crdt_model::{Mono, Now, Wall};
use serde::{Deserialize, Serialize};

/// The true wall time at which worlds begin, milliseconds since 1970: 2027-01-15.
pub const WALL_START_MS: u64 = 1_800_000_000_000;
/// The true time at which worlds begin, nanoseconds.
pub const START_NS: u64 = 1_000_000_000;

/// What can be wrong with a clock.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ClockFault {
    /// The wall clock is off by so much from now on, milliseconds; replaces an earlier offset.
    Offset {
        /// Positive is ahead.
        ms: i64,
    },
    /// The wall clock jumps by so much.
    Step {
        /// Positive is ahead.
        ms: i64,
    },
    /// Both clocks run fast (positive) or slow by parts per million.
    Drift {
        /// At most ±500,000.
        ppm: i32,
    },
    /// The wall clock jumps to and fro by so much, every period.
    Strobe {
        /// How far, milliseconds.
        ms: i64,
        /// How often, milliseconds; at least 1.
        period_ms: u64,
    },
    /// The wall clock stands still.
    Freeze,
    /// The wall clock shows a date, milliseconds since 1970, and runs from there.
    Set {
        /// The date.
        wall_ms: u64,
    },
    /// The right time and the right speed.
    Right,
}

/// Two clocks of a node. The monotonic one counts from the start of the agent's machine.
#[derive(Clone, Debug)]
pub struct Clock {
    /// True time at which the rate last changed, and what the monotonic clock showed then.
    since: u64,
    mono: u64,
    ppm: i32,
    offset_ms: i64,
    strobe: Option<(i64, u64)>,
    frozen_ms: Option<u64>,
}

impl Default for Clock {
    fn default() -> Self {
        Self {
            since: START_NS,
            mono: START_NS,
            ppm: 0,
            offset_ms: 0,
            strobe: None,
            frozen_ms: None,
        }
    }
}

impl Clock {
    fn elapsed(&self, truth: Mono) -> u64 {
        let real = truth.0.saturating_sub(self.since);
        if self.ppm == 0 {
            return real;
        }
        let rate = (1_000_000 + i64::from(self.ppm)).max(1) as u128;
        (u128::from(real) * rate / 1_000_000) as u64
    }

    /// What both clocks show at a true time.
    pub fn now(&self, truth: Mono) -> Now {
        let mono = self.mono + self.elapsed(truth);
        // Drift of the wall clock is that of the monotonic one.
        let drift_ms =
            (mono / 1_000_000) as i64 - (self.mono_without_drift(truth) / 1_000_000) as i64;
        let true_ms = WALL_START_MS + truth.0.saturating_sub(START_NS) / 1_000_000;
        let swing = self.strobe.map_or(0, |(ms, period)| {
            if (truth.0 / 1_000_000 / period.max(1)).is_multiple_of(2) {
                0
            } else {
                ms
            }
        });
        let wall = self.frozen_ms.unwrap_or_else(|| {
            true_ms.saturating_add_signed(
                self.offset_ms
                    .saturating_add(swing)
                    .saturating_add(drift_ms),
            )
        });
        Now {
            mono: Mono(mono),
            wall: Wall(wall),
        }
    }

    fn mono_without_drift(&self, truth: Mono) -> u64 {
        self.mono + truth.0.saturating_sub(self.since)
    }

    /// The true time at which the monotonic clock will show `mono`, rounded up.
    pub fn when(&self, mono: Mono) -> Mono {
        let wait = mono.0.saturating_sub(self.mono);
        if self.ppm == 0 {
            return Mono(self.since.saturating_add(wait));
        }
        let rate = (1_000_000 + i64::from(self.ppm)).max(1) as u128;
        let real = (u128::from(wait) * 1_000_000).div_ceil(rate);
        Mono(
            self.since
                .saturating_add(u64::try_from(real).unwrap_or(u64::MAX)),
        )
    }

    /// Applies a fault at a true time.
    pub fn apply(&mut self, truth: Mono, fault: &ClockFault) {
        let now = self.now(truth);
        let true_ms = WALL_START_MS + truth.0.saturating_sub(START_NS) / 1_000_000;
        let is_at =
            |wall: u64| i64::try_from(i128::from(wall) - i128::from(true_ms)).unwrap_or(i64::MAX);
        // From here on the rate may differ.
        let wall_offset = is_at(now.wall.0);
        (self.since, self.mono) = (truth.0, now.mono.0);
        if self.strobe.is_none() && self.frozen_ms.is_none() {
            self.offset_ms = wall_offset;
        }
        match fault {
            ClockFault::Offset { ms } => self.offset_ms = *ms,
            ClockFault::Step { ms } => self.offset_ms = self.offset_ms.saturating_add(*ms),
            ClockFault::Drift { ppm } => self.ppm = (*ppm).clamp(-500_000, 500_000),
            ClockFault::Strobe { ms, period_ms } => self.strobe = Some((*ms, (*period_ms).max(1))),
            ClockFault::Freeze => self.frozen_ms = Some(now.wall.0),
            ClockFault::Set { wall_ms } => self.offset_ms = is_at(*wall_ms),
            ClockFault::Right => {
                (self.ppm, self.offset_ms) = (0, 0);
                (self.strobe, self.frozen_ms) = (None, None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000_000_000;

    #[test]
    fn a_right_clock_shows_the_truth() {
        let clock = Clock::default();
        let now = clock.now(Mono(START_NS + HOUR));
        assert_eq!(now.mono.0, START_NS + HOUR);
        assert_eq!(now.wall.0, WALL_START_MS + 3_600_000);
    }

    #[test]
    fn a_deadline_of_a_drifting_clock_is_met_by_the_true_time_that_it_names() {
        for ppm in [-300_000, -77, 1, 250, 500_000] {
            let mut clock = Clock::default();
            clock.apply(Mono(START_NS + 5), &ClockFault::Drift { ppm });
            for wait in [1, 999, 123_456_789, HOUR] {
                let deadline = Mono(clock.now(Mono(START_NS + HOUR)).mono.0 + wait);
                let when = clock.when(deadline);
                assert!(clock.now(when).mono >= deadline, "{ppm} {wait}");
                assert!(clock.now(Mono(when.0 - 2)).mono < deadline, "{ppm} {wait}");
            }
        }
    }

    #[test]
    fn the_monotonic_clock_never_goes_back_whatever_is_done_to_the_wall_clock() {
        let mut clock = Clock::default();
        let mut last = Mono(0);
        let faults = [
            ClockFault::Step {
                ms: -315_360_000_000,
            },
            ClockFault::Drift { ppm: -400_000 },
            ClockFault::Strobe {
                ms: 86_400_000,
                period_ms: 10,
            },
            ClockFault::Freeze,
            ClockFault::Drift { ppm: 400_000 },
            ClockFault::Set { wall_ms: 0 },
            ClockFault::Right,
            ClockFault::Offset { ms: i64::MAX },
        ];
        for (n, fault) in faults.iter().enumerate() {
            let truth = Mono(START_NS + n as u64 * HOUR / 7);
            clock.apply(truth, fault);
            for step in 0..50 {
                let now = clock.now(Mono(truth.0 + step * 1_000_000));
                assert!(now.mono >= last);
                last = now.mono;
            }
        }
    }

    #[test]
    fn a_clock_set_right_is_right_again() {
        let mut clock = Clock::default();
        clock.apply(Mono(START_NS + HOUR), &ClockFault::Set { wall_ms: 0 });
        assert_eq!(clock.now(Mono(START_NS + HOUR)).wall.0, 0);
        clock.apply(Mono(START_NS + 2 * HOUR), &ClockFault::Right);
        assert_eq!(
            clock.now(Mono(START_NS + 2 * HOUR)).wall.0,
            WALL_START_MS + 7_200_000
        );
    }
}
