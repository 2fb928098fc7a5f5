//! Values that compare by meaning: sizes, durations, versions, numbers, addresses.

use std::cmp::Ordering;
use std::net::IpAddr;

use lab_crdt_model::fact::FACT_KEYS;

/// What the values of a key mean.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Meaning {
    Size,
    Duration,
    Version,
    Number,
    Address,
}

/// Observed keys that always exist beside the facts, whether or not a node reports them.
const OBSERVED: [&str; 13] = [
    "name",
    "node.agent",
    "node.host",
    "node.image",
    "node.ip",
    "node.kind",
    "node.mac",
    "node.name",
    "node.online",
    "node.profile",
    "node.provider",
    "node.seen",
    "status.sync",
];

/// The keys that are known whatever the fleet.
pub(crate) fn known_keys() -> impl Iterator<Item = &'static str> {
    OBSERVED.into_iter().chain(FACT_KEYS)
}

/// Whether `key` is in a space that holds observations, not labels.
pub(crate) fn is_observed(key: &str) -> bool {
    ["node.", "fact.", "status."]
        .iter()
        .any(|space| key.starts_with(space))
}

/// Whether `key` says only what was declared, so that access may hang on it.
pub(crate) fn is_trusted(key: &str) -> bool {
    key == "node.name" || !is_observed(key)
}

/// The one spelling of a key.
pub(crate) fn canonical(key: &str) -> &str {
    if key == "name" { "node.name" } else { key }
}

impl Meaning {
    /// What the values of `key` mean, if it is more than text.
    pub(crate) fn of(key: &str) -> Option<Self> {
        match key {
            "fact.mem.total" | "fact.disk.size" | "fact.disk.total" => Some(Self::Size),
            "node.seen" => Some(Self::Duration),
            "fact.os.version" | "fact.kernel" | "node.agent" => Some(Self::Version),
            "fact.cpu.cores" | "fact.cpu.physical" | "fact.disk.count" | "fact.net.speed" => {
                Some(Self::Number)
            }
            "node.ip" => Some(Self::Address),
            _ => None,
        }
    }

    /// What it is called, with its article, and one way to write it.
    pub(crate) const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Size => ("a size", "16GiB"),
            Self::Duration => ("a duration", "7d"),
            Self::Version => ("a version", "12.5"),
            Self::Number => ("a number", "8"),
            Self::Address => ("an address or network", "10.0.20.5 or 10.0.20.0/24"),
        }
    }

    /// Whether a person may write `text` for it; addresses also as networks.
    pub(crate) fn accepts(self, text: &str) -> bool {
        match self {
            Self::Size => size(text).is_some(),
            Self::Duration => duration(text).is_some(),
            Self::Version => version(text).is_some(),
            Self::Number => number(text).is_some(),
            Self::Address => Network::parse(text).is_some(),
        }
    }

    /// How the observed `text` compares with the written `with`; `None` when either is not what it
    /// should be.
    pub(crate) fn compare(self, text: &str, with: &str) -> Option<Ordering> {
        match self {
            Self::Size => size(text)?.partial_cmp(&size(with)?),
            Self::Duration => duration(text)?.partial_cmp(&duration(with)?),
            Self::Version => Some(observed_version(text)?.cmp(&version(with)?)),
            Self::Number => number(text)?.partial_cmp(&number(with)?),
            Self::Address => None,
        }
    }

    /// Whether the observed `text` is what `with` says; `None` when they can only be compared as
    /// text.
    pub(crate) fn equals(self, text: &str, with: &str) -> Option<bool> {
        match self {
            Self::Size => Some(size(text)?.total_cmp(&size(with)?).is_eq()),
            Self::Version => Some(observed_version(text)?.starts_with(&version(with)?)),
            Self::Address => Some(Network::parse(with)?.contains(text.parse().ok()?)),
            Self::Duration | Self::Number => None,
        }
    }
}

/// A decimal number without sign, exponent or bare dot.
fn decimal(text: &str) -> Option<f64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let is_digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    if is_digits(whole) && is_digits(part) {
        text.parse().ok()
    } else {
        None
    }
}

fn number(text: &str) -> Option<f64> {
    match text.strip_prefix('-') {
        Some(rest) => decimal(rest).map(|n| -n),
        None => decimal(text),
    }
}

/// Bytes; `16GiB`, `16g`, `1.5 TB`, `1024`.
fn size(text: &str) -> Option<f64> {
    let lower = text.to_ascii_lowercase();
    let end = lower
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(lower.len());
    let (digits, unit) = lower.split_at(end);
    let unit = unit.trim_start();
    let factor = match unit.strip_suffix('b').unwrap_or(unit) {
        "" => 1.0,
        "k" => 1e3,
        "m" => 1e6,
        "g" => 1e9,
        "t" => 1e12,
        "p" => 1e15,
        "ki" => 1024.0,
        "mi" => 1_048_576.0,
        "gi" => 1_073_741_824.0,
        "ti" => 1_099_511_627_776.0,
        "pi" => 1_125_899_906_842_624.0,
        _ => return None,
    };
    decimal(digits).map(|n| n * factor)
}

/// Seconds; `90s`, `15m`, `1.5h`, `7d`, `2w`.
fn duration(text: &str) -> Option<f64> {
    let factor = match text.chars().next_back()? {
        's' => 1.0,
        'm' => 60.0,
        'h' => 3600.0,
        'd' => 86_400.0,
        'w' => 604_800.0,
        _ => return None,
    };
    decimal(&text[..text.len() - 1]).map(|n| n * factor)
}

/// The components of `12`, `12.5`, `v1.2.3`.
fn version(text: &str) -> Option<Vec<u64>> {
    let component = |c: &str| {
        let is_digits = !c.is_empty() && c.len() <= 18 && c.bytes().all(|b| b.is_ascii_digit());
        if is_digits { c.parse().ok() } else { None }
    };
    text.strip_prefix('v')
        .unwrap_or(text)
        .split('.')
        .map(component)
        .collect()
}

/// The components of a version as machines report it: `6.1.0-18-amd64` is 6.1.0.
fn observed_version(text: &str) -> Option<Vec<u64>> {
    version(text.split(['-', '+', '~', ' ']).next().unwrap_or(text))
}

/// An address or a network; bits beyond the prefix are ignored.
struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text
            .split_once('/')
            .map_or((text, None), |(a, p)| (a, Some(p)));
        let address: IpAddr = address.parse().ok()?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => bits,
            Some(p) if p.len() <= 3 && p.bytes().all(|b| b.is_ascii_digit()) => p.parse().ok()?,
            Some(_) => return None,
        };
        (prefix <= bits).then_some(Self { address, prefix })
    }

    fn contains(&self, other: IpAddr) -> bool {
        match (self.address, other) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                let shift = 32 - u32::from(self.prefix);
                (a.to_bits() ^ b.to_bits()).checked_shr(shift).unwrap_or(0) == 0
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                let shift = 128 - u32::from(self.prefix);
                (a.to_bits() ^ b.to_bits()).checked_shr(shift).unwrap_or(0) == 0
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compares(meaning: Meaning, text: &str, with: &str) -> Option<Ordering> {
        meaning.compare(text, with)
    }

    #[test]
    fn sizes_compare_across_units() {
        assert_eq!(
            compares(Meaning::Size, "16GiB", "16384MiB"),
            Some(Ordering::Equal)
        );
        assert_eq!(
            compares(Meaning::Size, "16GB", "16GiB"),
            Some(Ordering::Less)
        );
        assert_eq!(
            compares(Meaning::Size, "1.5 tb", "1500000000000"),
            Some(Ordering::Equal)
        );
        assert_eq!(Meaning::Size.equals("17179869184", "16GiB"), Some(true));
        for bad in ["", "GiB", "1.GiB", ".5G", "1e3", "16XB", "-1G", "16bb"] {
            assert!(!Meaning::Size.accepts(bad), "{bad}");
        }
    }

    #[test]
    fn durations_compare_across_units() {
        assert_eq!(
            compares(Meaning::Duration, "24h", "1d"),
            Some(Ordering::Equal)
        );
        assert_eq!(
            compares(Meaning::Duration, "90s", "1.5m"),
            Some(Ordering::Equal)
        );
        assert_eq!(
            compares(Meaning::Duration, "2w", "13d"),
            Some(Ordering::Greater)
        );
        for bad in ["", "d", "7", "7 d", "7y", "ä"] {
            assert!(!Meaning::Duration.accepts(bad), "{bad}");
        }
    }

    #[test]
    fn versions_compare_by_component() {
        assert_eq!(
            compares(Meaning::Version, "12.10", "12.9"),
            Some(Ordering::Greater)
        );
        assert_eq!(
            compares(Meaning::Version, "6.1.0-18-amd64", "6.1"),
            Some(Ordering::Greater)
        );
        assert_eq!(Meaning::Version.equals("12.5", "12"), Some(true));
        assert_eq!(Meaning::Version.equals("12.5", "v12.5"), Some(true));
        assert_eq!(Meaning::Version.equals("12", "12.5"), Some(false));
        assert_eq!(Meaning::Version.equals("trixie", "12"), None);
        assert!(!Meaning::Version.accepts("12."));
    }

    #[test]
    fn addresses_are_in_networks_of_their_family() {
        assert_eq!(
            Meaning::Address.equals("10.0.20.11", "10.0.20.0/24"),
            Some(true)
        );
        assert_eq!(
            Meaning::Address.equals("10.0.21.11", "10.0.20.99/24"),
            Some(false)
        );
        assert_eq!(
            Meaning::Address.equals("10.0.20.11", "0.0.0.0/0"),
            Some(true)
        );
        assert_eq!(Meaning::Address.equals("fd00::1", "::/0"), Some(true));
        assert_eq!(Meaning::Address.equals("10.0.20.11", "::/0"), Some(false));
        assert_eq!(Meaning::Address.equals("fd00::1", "fd00::1"), Some(true));
        for bad in ["10.0.0.0/33", "10.0.0/8", "10.0.0.0/+8", "10.0.0.0/", "x"] {
            assert!(!Meaning::Address.accepts(bad), "{bad}");
        }
    }
}
