//! What a machine says it is made of, and which machine a token is for.
//!
//! Hardware is the machine's own word: a binding keeps a token from being used on the wrong machine by mistake, and
//! is no proof against somebody who knows what to claim.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::limit::{MACS_MAX, SERIAL_BYTES_MAX};

/// The MAC address of a network interface.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mac({self})")
    }
}

/// A text is not a MAC address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a MAC address is six pairs of hexadecimal digits, like 52:54:00:12:34:56")]
pub struct ParseMacError;

impl FromStr for Mac {
    type Err = ParseMacError;

    /// Pairs may be separated by `:`, `-` or nothing.
    fn from_str(text: &str) -> Result<Self, ParseMacError> {
        let is_spaced = match text.len() {
            12 => false,
            17 => true,
            _ => return Err(ParseMacError),
        };
        let bytes = text.as_bytes();
        let separator = bytes[2];
        if is_spaced && !matches!(separator, b':' | b'-') {
            return Err(ParseMacError);
        }
        let digit = |at: usize| char::from(bytes[at]).to_digit(16).ok_or(ParseMacError);
        let mut out = [0; 6];
        for (n, byte) in out.iter_mut().enumerate() {
            let at = if is_spaced { 3 * n } else { 2 * n };
            *byte = (digit(at)? << 4 | digit(at + 1)?) as u8;
            if is_spaced && n < 5 && bytes[at + 2] != separator {
                return Err(ParseMacError);
            }
        }
        Ok(Self(out))
    }
}

/// What a machine says it is made of.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Hardware {
    /// Of its physical network interfaces, ascending; at most 16.
    pub macs: Vec<Mac>,
    /// Of the machine or its board; at most 64 bytes.
    pub serial: Option<String>,
}

impl Hardware {
    /// Puts what was found into order and within limits: of more than 16 addresses the lowest stay, a serial number that
    /// is too long or unprintable is left out.
    pub fn new(macs: impl IntoIterator<Item = Mac>, serial: Option<String>) -> Self {
        let mut macs: Vec<Mac> = macs.into_iter().collect();
        macs.sort_unstable();
        macs.dedup();
        macs.truncate(MACS_MAX);
        Self {
            macs,
            serial: serial.filter(|s| is_serial(s)),
        }
    }

    /// Whether it may be said.
    pub fn is_within_limits(&self) -> bool {
        self.macs.len() <= MACS_MAX
            && self.macs.is_sorted_by(|a, b| a < b)
            && self.serial.as_deref().is_none_or(is_serial)
    }
}

impl fmt::Display for Hardware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.macs.as_slice() {
            [] => f.write_str("no MAC address")?,
            [first, more @ ..] => {
                write!(f, "MAC {first}")?;
                for mac in more {
                    write!(f, ", {mac}")?;
                }
            }
        }
        match &self.serial {
            Some(serial) => write!(f, " and serial number {serial}"),
            None => f.write_str(" and no readable serial number"),
        }
    }
}

/// The machine that a token is for. At least one part is given.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Binding {
    /// One of its interfaces has this address.
    pub mac: Option<Mac>,
    /// This is its serial number, in upper or lower case; at most 64 bytes.
    pub serial: Option<String>,
}

impl Binding {
    /// Whether it says anything, and that within limits.
    pub fn is_within_limits(&self) -> bool {
        (self.mac.is_some() || self.serial.is_some())
            && self.serial.as_deref().is_none_or(is_serial)
    }

    /// Whether a machine is the one that is meant: every part has to match.
    pub fn fits(&self, hardware: &Hardware) -> bool {
        let is_mac = self.mac.is_none_or(|mac| hardware.macs.contains(&mac));
        let is_serial = self.serial.as_deref().is_none_or(|serial| {
            let has = hardware.serial.as_deref();
            has.is_some_and(|has| has.eq_ignore_ascii_case(serial))
        });
        is_mac && is_serial
    }
}

impl fmt::Display for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.mac, &self.serial) {
            (Some(mac), Some(serial)) => write!(f, "MAC {mac} and serial number {serial}"),
            (Some(mac), None) => write!(f, "MAC {mac}"),
            (None, Some(serial)) => write!(f, "serial number {serial}"),
            (None, None) => f.write_str("nothing"),
        }
    }
}

/// Whether a text can be a serial number: 1 to 64 bytes of printable ASCII.
pub fn is_serial(text: &str) -> bool {
    let is_printable = |b: u8| b == b' ' || b.is_ascii_graphic();
    (1..=SERIAL_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_printable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_address_reads_back_however_it_was_written() {
        let mac = Mac([0x52, 0x54, 0, 0x12, 0x34, 0xAB]);
        for text in [
            "52:54:00:12:34:ab",
            "52-54-00-12-34-AB",
            "5254001234aB",
            &mac.to_string(),
        ] {
            assert_eq!(text.parse(), Ok(mac), "{text}");
        }
        for bad in [
            "",
            "52:54:00:12:34",
            "52:54:00:12:34:a",
            "52:54-00:12:34:ab",
            "52:54:00:12:34:ag",
            "52 54 00 12 34 ab",
            "ää:54:00:12:34:a",
        ] {
            assert_eq!(bad.parse::<Mac>(), Err(ParseMacError), "{bad}");
        }
    }

    #[test]
    fn a_binding_fits_a_machine_only_with_every_part() {
        let [one, two] = [Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2])];
        let machine = Hardware::new([two, one, one], Some("Abc-1".into()));
        assert_eq!(machine.macs, [one, two]);
        let fits = |mac: Option<Mac>, serial: Option<&str>| {
            let serial = serial.map(str::to_owned);
            Binding { mac, serial }.fits(&machine)
        };
        assert!(fits(Some(one), None) && fits(Some(two), None));
        assert!(fits(None, Some("ABC-1")) && fits(Some(one), Some("abc-1")));
        assert!(!fits(Some(Mac([0; 6])), None) && !fits(None, Some("abc")));
        assert!(!fits(Some(one), Some("abc")) && !fits(Some(Mac([0; 6])), Some("abc-1")));
        assert!(
            !Binding {
                mac: None,
                serial: Some("x".into())
            }
            .fits(&Hardware::default())
        );
    }

    #[test]
    fn what_is_too_much_is_left_out_and_refused() {
        let many = (0..40).map(|n| Mac([2, 0, 0, 0, 0, n]));
        let machine = Hardware::new(many, Some("x".repeat(65)));
        assert_eq!((machine.macs.len(), &machine.serial), (16, &None));
        assert!(machine.is_within_limits());
        let twice = Hardware {
            macs: vec![Mac([1; 6]); 2],
            serial: None,
        };
        assert!(!twice.is_within_limits());
        assert!(!is_serial("") && !is_serial("a\u{1b}[31m") && is_serial("To be filled"));
        let empty = Binding {
            mac: None,
            serial: None,
        };
        assert!(!empty.is_within_limits());
    }
}
