//! A place on the network: where it is, how it is attached, what stands before it.

use serde::{Deserialize, Serialize};

use super::geography::Region;
use super::nat::Nat;
use super::table::Table;

/// Where a host is.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct Site {
    /// The city.
    pub region: Region,
    /// The building: hosts of one building and region, if wired or on Wi-Fi, share a local network.
    pub building: u32,
}

/// How a host is attached to its first router.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub enum Access {
    /// Ethernet: 1 Gbit/s both ways, no loss.
    #[default]
    Wired,
    /// Wi-Fi: 200 Mbit/s both ways, 1 ‰ lost.
    Wifi,
    /// Mobile: 10 Mbit/s up, 40 down, 2 ‰ lost.
    Lte,
    /// Geostationary satellite: 3 Mbit/s up, 25 down, 5 ‰ lost.
    Satellite,
}

/// Bytes per second; zero is no limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Bandwidth {
    /// Out of the host.
    pub up: u64,
    /// Into the host.
    pub down: u64,
}

impl Access {
    pub(super) const fn table(self) -> Table {
        match self {
            Self::Wired => Table::Wired,
            Self::Wifi => Table::Wifi,
            Self::Lte => Table::Lte,
            Self::Satellite => Table::Satellite,
        }
    }

    /// Packets lost out of a thousand.
    pub const fn loss_per_mille(self) -> u32 {
        match self {
            Self::Wired => 0,
            Self::Wifi => 1,
            Self::Lte => 2,
            Self::Satellite => 5,
        }
    }

    /// What it carries.
    pub const fn bandwidth(self) -> Bandwidth {
        let (up, down) = match self {
            Self::Wired => (125_000_000, 125_000_000),
            Self::Wifi => (25_000_000, 25_000_000),
            Self::Lte => (1_250_000, 5_000_000),
            Self::Satellite => (375_000, 3_125_000),
        };
        Bandwidth { up, down }
    }

    /// Hosts of one building see each other without a router.
    pub(super) const fn is_local(self) -> bool {
        matches!(self, Self::Wired | Self::Wifi)
    }
}

/// One host.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Host {
    /// Where it is.
    pub site: Site,
    /// How it is attached.
    pub access: Access,
    /// What stands between it and the Internet. Hosts of one building are behind the same.
    pub nat: Nat,
    /// It does not see the hosts of its own building, as on a guest Wi-Fi.
    pub is_isolated: bool,
    /// What it may send and receive; without it, what the access carries.
    pub bandwidth: Option<Bandwidth>,
}

impl Host {
    /// On one local network with `other`, whatever stands before them.
    pub(super) fn is_beside(&self, other: &Self) -> bool {
        self.site == other.site
            && self.access.is_local()
            && other.access.is_local()
            && !self.is_isolated
            && !other.is_isolated
    }

    /// Behind the same box as `other`, though not on one local network: only a hairpin leads there.
    pub(super) fn needs_hairpin(&self, other: &Self) -> bool {
        let (Some(a), Some(b)) = (self.nat.gateway(), other.nat.gateway()) else {
            return false;
        };
        let is_one_carrier = a.is_carrier && b.is_carrier && self.site.region == other.site.region;
        self.site == other.site || is_one_carrier
    }
}
