//! The few bytes of a packet that a router looks at.

use std::net::Ipv4Addr;

/// Source and target of an IPv4 packet; `None` for anything else.
pub(crate) fn ends(packet: &[u8]) -> Option<(Ipv4Addr, Ipv4Addr)> {
    let header = packet.first_chunk::<20>()?;
    if header[0] >> 4 != 4 {
        return None;
    }
    let address =
        |at: usize| Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3]);
    Some((address(12), address(16)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ipv4_has_ends() {
        let mut packet = [0; 28];
        packet[0] = 0x45;
        packet[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        let (a, b) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
        assert_eq!(ends(&packet), Some((a, b)));
        assert_eq!(ends(&packet[..19]), None);
        packet[0] = 0x60;
        assert_eq!(ends(&packet), None);
    }
}
