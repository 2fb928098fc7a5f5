//! Two clocks and a hybrid stamp, as plain numbers.
//!
//! Nothing below the purity line reads a clock: the driver hands in a [`Now`] with every input.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Nanoseconds on a clock that never goes back; zero is arbitrary. For time-outs only.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct Mono(pub u64);

impl Mono {
    /// This instant and `ms` milliseconds more; saturates.
    pub const fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms.saturating_mul(1_000_000)))
    }

    /// Milliseconds since `earlier`; zero when `earlier` is later.
    pub const fn ms_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0) / 1_000_000
    }
}

/// Milliseconds since the Unix epoch, as this machine believes. For display, expiry and stamps; never for order.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct Wall(pub u64);

impl fmt::Display for Wall {
    /// RFC 3339 in UTC with seconds, for example `2026-11-22T14:02:11Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secs = self.0 / 1000;
        let (days, rest) = (secs / 86_400, secs % 86_400);
        // Civil-from-days, Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
        let z = days as i64 + 719_468;
        let era = z.div_euclid(146_097);
        let doe = z.rem_euclid(146_097);
        let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
        let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
        let mp = (5 * doy + 2) / 153;
        let day = doy - (153 * mp + 2) / 5 + 1;
        let month = if mp < 10 { mp + 3 } else { mp - 9 };
        let year = yoe + era * 400 + i64::from(month <= 2);
        let (h, m, s) = (rest / 3600, rest / 60 % 60, rest % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}Z")
    }
}

/// Both clocks at the moment of an input.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Now {
    /// The clock for time-outs.
    pub mono: Mono,
    /// The clock for people.
    pub wall: Wall,
}

/// A hybrid logical stamp: 48 bits of wall milliseconds, 16 bits of counter.
///
/// Written by an author into a statement; shown to people and used for grant expiry, never to decide which
/// of two values wins.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct Hlc(pub u64);

impl Hlc {
    /// The wall part.
    pub const fn wall(self) -> Wall {
        Wall(self.0 >> 16)
    }

    /// The first stamp of a wall time; times beyond the year 10889 saturate.
    pub const fn from_wall(wall: Wall) -> Self {
        if wall.0 >> 48 != 0 {
            Self(u64::MAX)
        } else {
            Self(wall.0 << 16)
        }
    }

    /// The stamp to use next, after having seen `self`, at local time `wall`.
    pub fn next(self, wall: Wall) -> Self {
        Self::from_wall(wall).max(Self(self.0.saturating_add(1)))
    }
}

/// An age in one or two characters of precision: `4s`, `12m`, `3h`, `5d`.
pub fn age(ms: u64) -> String {
    let s = ms / 1000;
    match s {
        0..=119 => format!("{s}s"),
        120..=7199 => format!("{}m", s / 60),
        7200..=172_799 => format!("{}h", s / 3600),
        _ => format!("{}d", s / 86_400),
    }
}

/// Reads a length of time such as `90s`, `30m`, `12h`, `7d`, `2w`; milliseconds, at most 100 years.
pub fn parse_duration_ms(text: &str) -> Option<u64> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit())?;
    let n: u64 = text[..unit_at].parse().ok()?;
    let unit = match &text[unit_at..] {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "w" => 604_800_000,
        _ => return None,
    };
    n.checked_mul(unit)
        .filter(|ms| *ms <= 100 * 366 * 86_400_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_prints_known_dates() {
        assert_eq!(Wall(0).to_string(), "1970-01-01T00:00:00Z");
        assert_eq!(Wall(951_782_400_000).to_string(), "2000-02-29T00:00:00Z");
        assert_eq!(Wall(1_795_442_531_000).to_string(), "2026-11-23T14:02:11Z");
    }

    #[test]
    fn the_next_stamp_is_always_later_than_what_was_seen() {
        let seen = Hlc::from_wall(Wall(5000));
        assert!(seen.next(Wall(10)) > seen);
        assert_eq!(seen.next(Wall(6000)), Hlc::from_wall(Wall(6000)));
        assert_eq!(Hlc(u64::MAX).next(Wall(1)), Hlc(u64::MAX));
    }

    #[test]
    fn durations_read_as_people_write_them() {
        assert_eq!(parse_duration_ms("30m"), Some(1_800_000));
        assert_eq!(parse_duration_ms("7d"), Some(604_800_000));
        for bad in [
            "",
            "7",
            "d",
            "-1h",
            "1 h",
            "99999999999999999999d",
            "9999w9",
        ] {
            assert_eq!(parse_duration_ms(bad), None, "{bad}");
        }
    }
}
