//! How many handshakes are answered of each place: whoever knocks without end leaves little behind.
//!
//! What a handshake leaves in iroh stays for a minute, whether its key was admitted or not. A place is an IPv4 address
//! or an IPv6 network of 64 bits.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

/// Handshakes answered at once of one place: a house full of machines behind one address comes back.
const BURST: u32 = 64;
/// Afterwards, one in so much time.
const EACH: Duration = Duration::from_millis(200);
/// Places that are kept apart; further ones share what is left of one.
const PLACES_MAX: usize = 1024;

/// What became of a knock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// The handshake may go on.
    Answer,
    /// It has to show first that it receives at its address.
    Prove,
    /// It comes too soon.
    Refuse,
}

/// When the budget of each place will be whole again.
#[derive(Debug, Default)]
pub(crate) struct Knocks(BTreeMap<Option<IpAddr>, Instant>);

impl Knocks {
    /// Judges a knock. Whoever did not show that it receives at its address uses up no more than half of its budget:
    /// the address may be someone else's.
    pub(crate) fn judge(&mut self, ip: Option<IpAddr>, is_proved: bool, now: Instant) -> Verdict {
        if self.0.len() >= PLACES_MAX {
            self.0.retain(|_, whole_at| *whole_at > now);
        }
        let mut place = ip.map(place);
        if self.0.len() >= PLACES_MAX && !self.0.contains_key(&place) {
            place = None;
        }
        let whole_at = self.0.get(&place).map_or(now, |at| (*at).max(now)) + EACH;
        let burst = if is_proved { BURST } else { BURST / 2 };
        if whole_at.duration_since(now) > EACH * burst {
            return if is_proved {
                Verdict::Refuse
            } else {
                Verdict::Prove
            };
        }
        self.0.insert(place, whole_at);
        Verdict::Answer
    }
}

fn place(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => IpAddr::V4(ip),
        IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() >> 64 << 64).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::now;

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn a_place_has_its_burst_and_then_its_rate() {
        let (mut knocks, begun) = (Knocks::default(), now());
        let mut answered = 0;
        for ms in 0..10_000 {
            let at = begun + Duration::from_millis(ms);
            answered += u32::from(knocks.judge(ip("10.0.0.1"), true, at) == Verdict::Answer);
        }
        assert_eq!(answered, BURST + 49);
        assert_eq!(knocks.judge(ip("10.0.0.2"), true, begun), Verdict::Answer);
    }

    #[test]
    fn who_shows_no_address_leaves_half_to_whoever_has_it() {
        let (mut knocks, at) = (Knocks::default(), now());
        for _ in 0..BURST / 2 {
            assert_eq!(knocks.judge(ip("10.0.0.1"), false, at), Verdict::Answer);
        }
        assert_eq!(knocks.judge(ip("10.0.0.1"), false, at), Verdict::Prove);
        for _ in 0..BURST / 2 {
            assert_eq!(knocks.judge(ip("10.0.0.1"), true, at), Verdict::Answer);
        }
        assert_eq!(knocks.judge(ip("10.0.0.1"), true, at), Verdict::Refuse);
    }

    #[test]
    fn a_network_of_ipv6_is_one_place_and_places_are_bounded() {
        let (mut knocks, at) = (Knocks::default(), now());
        for n in 0..BURST {
            let host = ip(&format!("2001:db8::{n:x}"));
            assert_eq!(knocks.judge(host, true, at), Verdict::Answer);
        }
        assert_eq!(knocks.judge(ip("2001:db8::1:1"), true, at), Verdict::Refuse);
        for n in 0..3 * PLACES_MAX {
            knocks.judge(ip(&format!("10.1.{}.{}", n / 256, n % 256)), true, at);
        }
        assert!(knocks.0.len() <= PLACES_MAX + 1);
    }
}
