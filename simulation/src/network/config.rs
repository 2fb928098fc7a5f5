//! What a network is like before anything goes wrong.

use serde::{Deserialize, Serialize};

use super::draw::draw;
use super::geography::Region;
use super::host::{Access, Bandwidth, Host, Site};
use super::nat::Nat;

/// Where the hosts are and how they are attached.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub enum Profile {
    /// One building, all wired. One way: p50 about 0.2 ms, p99 about 0.8 ms.
    #[default]
    Lan,
    /// One building, all on Wi-Fi. One way: p50 about 4.7 ms, p99 about 50 ms.
    Wifi,
    /// Buildings of one city, wired, with addresses of their own. One way: p50 about 3.3 ms, p99
    /// about 10 ms.
    Metro,
    /// Nineteen regions in turn, wired, with addresses of their own.
    Geography,
    /// Phones of one city behind their carrier, so through a relay. One way: p50 about 60 ms, p99 about 0.3 s.
    Lte,
    /// Behind a geostationary satellite. One way between two of them: p50 about 0.6 s.
    Satellite,
    /// Servers, homes, offices, phones and a few satellites all over the world.
    Mixed,
}

/// The figures of a network.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the hosts are and how they are attached.
    pub profile: Profile,
    /// Packets lost out of a thousand on every path, beside what the access loses.
    pub loss_per_mille: u32,
    /// Microseconds on every path, one way, beside what the path takes.
    pub latency_us: u64,
    /// At most as many microseconds again, drawn evenly for each frame.
    pub jitter_us: u64,
    /// What each host may send and receive, in place of what its access carries.
    pub bandwidth: Option<Bandwidth>,
    /// Bytes per second of each connection and direction; zero is no limit.
    pub path_bytes_per_s: u64,
    /// Milliseconds of backlog a queue holds. What finds it full is lost and sent again; large values are bufferbloat.
    pub queue_ms: u64,
    /// Where relays stand. They introduce hosts to each other, and carry for those who cannot meet.
    pub relays: Vec<Region>,
    /// Milliseconds after which a silent connection sends something of its own; zero is never.
    pub keep_alive_ms: u64,
    /// Milliseconds without a word after which a connection is dead.
    pub idle_ms: u64,
    /// Milliseconds after which a dial gives up.
    pub dial_timeout_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            profile: Profile::Lan,
            loss_per_mille: 0,
            latency_us: 0,
            jitter_us: 0,
            bandwidth: None,
            path_bytes_per_s: 0,
            queue_ms: 200,
            relays: Vec::new(),
            keep_alive_ms: 10_000,
            idle_ms: 15_000,
            dial_timeout_ms: 4_000,
        }
    }
}

impl Config {
    /// The usual figures of a profile; relays where hosts could not do without.
    pub fn new(profile: Profile) -> Self {
        let relays = match profile {
            Profile::Lte => vec![Region::Frankfurt],
            Profile::Mixed => vec![Region::Frankfurt, Region::Ashburn, Region::Singapore],
            _ => vec![],
        };
        Self {
            profile,
            relays,
            ..Self::default()
        }
    }
}

impl Host {
    /// The host of this index in the profile; depends on nothing else.
    pub fn of(config: &Config, index: usize, seed: u64) -> Self {
        let building = index as u32;
        let (region, building, access, nat) = match config.profile {
            Profile::Lan => (Region::Frankfurt, 0, Access::Wired, Nat::None),
            Profile::Wifi => (Region::Frankfurt, 0, Access::Wifi, Nat::None),
            Profile::Metro => (Region::Frankfurt, building, Access::Wired, Nat::None),
            Profile::Geography => {
                let region = Region::ALL[index % Region::ALL.len()];
                (region, building, Access::Wired, Nat::None)
            }
            Profile::Lte => (Region::Frankfurt, building, Access::Lte, Nat::Carrier),
            Profile::Satellite => (Region::Frankfurt, building, Access::Satellite, Nat::None),
            Profile::Mixed => return mixed(seed, index),
        };
        Self {
            site: Site { region, building },
            access,
            nat,
            ..Self::default()
        }
    }
}

/// Three hosts in turn share a building, and everything that a building has.
fn mixed(seed: u64, index: usize) -> Host {
    let building = (index / 3) as u32;
    let of_building = draw(seed, 1, u64::from(building));
    let of_host = draw(seed, 2, index as u64);
    let region = Region::ALL[(of_building >> 32) as usize % Region::ALL.len()];
    let either = if of_host.is_multiple_of(2) {
        Access::Wired
    } else {
        Access::Wifi
    };
    let (access, nat) = match of_building % 100 {
        0..40 => (Access::Wired, Nat::None),
        40..50 => (either, Nat::FullCone),
        50..55 => (either, Nat::AddressRestricted),
        55..75 => (either, Nat::PortRestricted),
        75..85 => (either, Nat::Symmetric),
        85..97 => (Access::Lte, Nat::Carrier),
        _ => (Access::Satellite, Nat::PortRestricted),
    };
    Host {
        site: Site { region, building },
        access,
        nat,
        ..Host::default()
    }
}
