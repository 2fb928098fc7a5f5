//! How a path treats packets: delay, loss and the rest, in integers.

use std::num::NonZeroU64;

/// A distribution of times: its quantiles, evenly spaced from the least to the greatest, microseconds.
///
/// Two of them are a uniform distribution, one is a constant; a draw between two is interpolated.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Quantiles(Vec<u64>);

impl Quantiles {
    /// Always the same.
    pub(crate) fn constant(us: u64) -> Self {
        Self(vec![us])
    }

    /// The value at a place between 0 and 2^64, nanoseconds.
    pub(crate) fn at(&self, draw: u64) -> u64 {
        let place = u128::from(draw) * (self.0.len() as u128 - 1);
        let (index, fraction) = ((place >> 64) as usize, place as u64);
        let low = self.0[index] * 1000;
        let high = self.0.get(index + 1).map_or(low, |us| us * 1000);
        low + ((u128::from(high - low) * u128::from(fraction)) >> 64) as u64
    }
}

impl std::str::FromStr for Quantiles {
    type Err = String;

    /// `5000`, `20000..60000`, or `100,120,150,900` for a table.
    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = match text.split_once("..") {
            Some((from, to)) => vec![from, to],
            None => text.split(',').collect(),
        };
        let times: Vec<u64> = parts
            .iter()
            .map(|p| number(p, 3_600_000_000))
            .collect::<Result<_, _>>()?;
        if !times.is_sorted() {
            return Err(format!("{text}: quantiles do not fall"));
        }
        Ok(Self(times))
    }
}

/// What happens to the packets of one direction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Profile {
    /// Drawn once per directed pair.
    pub(crate) delay: Quantiles,
    /// Drawn for every packet, and added. Packets of a pair stay in order all the same.
    pub(crate) jitter: Quantiles,
    /// Packets that vanish, of a thousand.
    pub(crate) loss: u64,
    /// Packets that arrive twice, of a thousand.
    pub(crate) duplicate: u64,
    /// Packets that need not keep the order, of a thousand.
    pub(crate) reorder: u64,
    /// Bandwidth, bytes per second; without it there is no limit.
    pub(crate) rate: Option<NonZeroU64>,
    /// Longest time in the queue for bandwidth, microseconds; what would wait longer vanishes.
    pub(crate) queue: u64,
}

impl Profile {
    /// Packets pass at once.
    pub(crate) fn clear() -> Self {
        Self {
            delay: Quantiles::constant(0),
            jitter: Quantiles::constant(0),
            loss: 0,
            duplicate: 0,
            reorder: 0,
            rate: None,
            queue: 200_000,
        }
    }
}

impl std::str::FromStr for Profile {
    type Err = String;

    /// Words such as `delay=20000..60000 jitter=0..500 loss=10`; what is not said is as in [`Profile::clear`].
    fn from_str(text: &str) -> Result<Self, String> {
        let mut profile = Self::clear();
        for word in text.split_whitespace() {
            let (key, value) = word
                .split_once('=')
                .ok_or_else(|| format!("{word}: KEY=VALUE is expected"))?;
            match key {
                "delay" => profile.delay = value.parse()?,
                "jitter" => profile.jitter = value.parse()?,
                "loss" => profile.loss = number(value, 1000)?,
                "duplicate" => profile.duplicate = number(value, 1000)?,
                "reorder" => profile.reorder = number(value, 1000)?,
                "rate" => {
                    profile.rate = NonZeroU64::new(number(value, u64::from(u32::MAX))?);
                }
                "queue" => profile.queue = number(value, 3_600_000_000)?,
                _ => return Err(format!("{key}: no such property of a path")),
            }
        }
        Ok(profile)
    }
}

/// A whole number up to a limit.
pub(crate) fn number(text: &str, most: u64) -> Result<u64, String> {
    match text.parse() {
        Ok(number) if number <= most => Ok(number),
        _ => Err(format!("{text}: a whole number up to {most} is expected")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_quantiles_are_a_uniform_distribution() {
        let uniform: Quantiles = "20000..60000".parse().unwrap();
        assert_eq!(uniform.at(0), 20_000_000);
        assert_eq!(uniform.at(1 << 63), 40_000_000);
        assert!((59_999_999..=60_000_000).contains(&uniform.at(u64::MAX)));
        let constant: Quantiles = "7".parse().unwrap();
        assert_eq!((constant.at(0), constant.at(u64::MAX)), (7_000, 7_000));
    }

    #[test]
    fn a_table_is_interpolated_between_its_quantiles() {
        let table: Quantiles = "0,10,1000".parse().unwrap();
        assert_eq!(table.at(1 << 62), 5_000);
        assert_eq!(table.at(1 << 63), 10_000);
        assert_eq!(table.at(3 << 62), 505_000);
    }

    #[test]
    fn what_is_no_profile_is_refused() {
        for bad in [
            "delay",
            "speed=1",
            "loss=1001",
            "delay=9..3",
            "jitter=",
            "rate=-1",
        ] {
            assert!(bad.parse::<Profile>().is_err(), "{bad}");
        }
        let profile: Profile = "loss=10 delay=5".parse().unwrap();
        assert_eq!((profile.loss, profile.delay.at(9)), (10, 5_000));
    }
}
