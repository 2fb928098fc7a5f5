//! Address translation, in the words of RFC 4787.

use serde::{Deserialize, Serialize};

/// How the outside port of a host is chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Mapping {
    /// One outside port for all peers: what one peer sees, another may be told.
    EndpointIndependent,
    /// Another port for each peer: nobody can be told beforehand.
    EndpointDependent,
}

/// Whose frames are let in through an open mapping.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Filter {
    /// Anyone's.
    Open,
    /// Those from an address that was sent to before.
    Address,
    /// Those from an address and port that were sent to before.
    AddressAndPort,
}

/// What a box that translates addresses does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Gateway {
    /// How outside ports are chosen.
    pub mapping: Mapping,
    /// Who is let in.
    pub filter: Filter,
    /// Seconds of silence after which a mapping is forgotten.
    pub timeout_s: u32,
    /// Two hosts behind the box reach each other by their outside addresses.
    pub is_hairpin: bool,
    /// The box is the carrier's: all hosts of a region with such a gateway are behind the same.
    pub is_carrier: bool,
}

/// What stands between a host and the Internet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Nat {
    /// Nothing: the host has an address of its own.
    #[default]
    None,
    /// Independent of the endpoint in mapping and filter; 300 s; hairpins.
    FullCone,
    /// Independent mapping, filter by address; 120 s; hairpins.
    AddressRestricted,
    /// Independent mapping, filter by address and port; 120 s; hairpins. Most homes.
    PortRestricted,
    /// Dependent mapping, filter by address and port; 60 s; no hairpin. Many offices.
    Symmetric,
    /// A home router behind a carrier's box: independent mapping, filter by address and port; 120 s; no hairpin.
    Carrier,
    /// Anything else.
    Custom(Gateway),
}

impl Nat {
    /// What the box does; none when there is no box.
    pub const fn gateway(self) -> Option<Gateway> {
        let (mapping, filter, timeout_s, is_hairpin, is_carrier) = match self {
            Self::None => return None,
            Self::Custom(gateway) => return Some(gateway),
            Self::FullCone => (Mapping::EndpointIndependent, Filter::Open, 300, true, false),
            Self::AddressRestricted => (
                Mapping::EndpointIndependent,
                Filter::Address,
                120,
                true,
                false,
            ),
            Self::PortRestricted => (
                Mapping::EndpointIndependent,
                Filter::AddressAndPort,
                120,
                true,
                false,
            ),
            Self::Symmetric => (
                Mapping::EndpointDependent,
                Filter::AddressAndPort,
                60,
                false,
                false,
            ),
            Self::Carrier => (
                Mapping::EndpointIndependent,
                Filter::AddressAndPort,
                120,
                false,
                true,
            ),
        };
        Some(Gateway {
            mapping,
            filter,
            timeout_s,
            is_hairpin,
            is_carrier,
        })
    }

    /// Nanoseconds after which a silent mapping is forgotten; `u64::MAX` when there is none.
    pub(super) fn timeout_ns(self) -> u64 {
        self.gateway().map_or(u64::MAX, |g| {
            u64::from(g.timeout_s).saturating_mul(1_000_000_000)
        })
    }

    /// A stranger's first frame comes in, given the outside address.
    pub(super) fn is_open_to_strangers(self) -> bool {
        self.gateway()
            .is_none_or(|g| g.filter == Filter::Open && g.mapping == Mapping::EndpointIndependent)
    }
}

/// Whether two hosts reach each other directly when both send at once, each told what the world sees of the other.
///
/// Whoever has one port for all can be aimed at. Whoever has not can still call, unless the other lets in only ports
/// it has sent to: it cannot know which.
pub(super) fn can_punch(a: Nat, b: Nat) -> bool {
    let (Some(a), Some(b)) = (a.gateway(), b.gateway()) else {
        return true;
    };
    let is_aimable = |g: Gateway| g.mapping == Mapping::EndpointIndependent;
    match (is_aimable(a), is_aimable(b)) {
        (true, true) => true,
        (false, true) => b.filter != Filter::AddressAndPort,
        (true, false) => a.filter != Filter::AddressAndPort,
        (false, false) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [Nat; 6] = [
        Nat::None,
        Nat::FullCone,
        Nat::AddressRestricted,
        Nat::PortRestricted,
        Nat::Carrier,
        Nat::Symmetric,
    ];

    #[test]
    fn each_pair_of_gateways_punches_as_the_known_table_says() {
        // Rows and columns in the order of `KINDS`; only a symmetric one makes trouble, and only with a filter by
        // port at the other end.
        let table = [
            [true, true, true, true, true, true],
            [true, true, true, true, true, true],
            [true, true, true, true, true, true],
            [true, true, true, true, true, false],
            [true, true, true, true, true, false],
            [true, true, true, false, false, false],
        ];
        for (i, a) in KINDS.into_iter().enumerate() {
            for (j, b) in KINDS.into_iter().enumerate() {
                assert_eq!(can_punch(a, b), table[i][j], "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn strangers_come_in_only_without_a_filter() {
        let open: Vec<Nat> = KINDS
            .into_iter()
            .filter(|n| n.is_open_to_strangers())
            .collect();
        assert_eq!(open, [Nat::None, Nat::FullCone]);
    }
}
