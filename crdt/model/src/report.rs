//! What a node says about itself: the bodies of its registers, version 1 of each section.
//!
//! A register is signed by its node and only the newest of each section is kept. Bodies are postcard; a body
//! that does not decode is shown as an issue and otherwise ignored.

use std::net::SocketAddr;

use serde::{Deserialize, Deserializer, Serialize};

use crate::fact::Machine;
use crate::limit::{BEACON_BYTES_MAX, FACTS_BYTES_MAX, STATUS_BYTES_MAX};
use crate::time::Wall;

/// A section of a node's reports. The discriminants are part of the wire format.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[repr(u8)]
pub enum Section {
    /// "I live", with incarnation, addresses and digest; every 30 s and on change.
    Beacon = 1,
    /// What the machine is.
    Facts = 2,
    /// What the node has taken on.
    Status = 3,
}

impl Section {
    /// Every section.
    pub const ALL: [Self; 3] = [Self::Beacon, Self::Facts, Self::Status];

    /// The section of a wire number.
    pub fn from_wire(n: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|s| *s as u8 == n)
    }

    /// The longest body, bytes.
    pub const fn bytes_max(self) -> usize {
        match self {
            Self::Beacon => BEACON_BYTES_MAX,
            Self::Facts => FACTS_BYTES_MAX,
            Self::Status => STATUS_BYTES_MAX,
        }
    }
}

/// Body of [`Section::Beacon`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Beacon {
    /// Random at each start from an unknown state; two that interleave are a clone.
    pub incarnation: u64,
    /// The sender's wall clock.
    pub wall: Wall,
    /// Digest of the statements it holds.
    pub digest: [u8; 32],
    /// Where it can be dialled; at most 8.
    pub addresses: Vec<SocketAddr>,
    /// Peers it has a live link to.
    pub link_count: u16,
    /// Version of the program, for example `0.1.0`.
    pub version: String,
    /// The newest durable record of its audit chain. Whoever holds the beacon is a witness of it.
    #[serde(deserialize_with = "head_or_none")]
    pub audit: AuditHead,
}

/// The end of a node's audit chain: its newest record.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct AuditHead {
    /// Its sequence number; the first record has 1, and 0 is a chain without records.
    pub seq: u64,
    /// BLAKE3-256 of its bytes; zero without records.
    pub hash: [u8; 32],
}

/// Beacons of programs without an audit chain end before it.
fn head_or_none<'de, D: Deserializer<'de>>(input: D) -> Result<AuditHead, D::Error> {
    Ok(AuditHead::deserialize(input).unwrap_or_default())
}

/// Body of [`Section::Facts`].
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Facts {
    /// Host name as the kernel knows it.
    pub hostname: String,
    /// `ID` of os-release, for example `debian`.
    pub os_name: String,
    /// `VERSION_ID` of os-release.
    pub os_version: String,
    /// Kernel release.
    pub kernel: String,
    /// `amd64`, `arm64`, …
    pub arch: String,
    /// Logical processors.
    pub cpu_count: u32,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// What it is made of.
    #[serde(deserialize_with = "machine_or_none")]
    pub machine: Machine,
}

/// Facts of programs that did not look at the machine end before it.
fn machine_or_none<'de, D: Deserializer<'de>>(input: D) -> Result<Machine, D::Error> {
    Ok(Machine::deserialize(input).unwrap_or_default())
}

/// How one resource of a node stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum ResourceState {
    /// As wanted.
    Ok,
    /// Was put right in the last turn.
    Changed,
    /// Could not be made so; see the message.
    Failed,
    /// Two wishes contradict: the last good one stays.
    Conflict,
}

/// One resource that a node manages, for example `file:/etc/motd`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ResourceReport {
    /// `file:PATH`, `param:KEY`, …
    pub name: String,
    /// How it stands.
    pub state: ResourceState,
    /// Why, when it is not ok; at most 200 bytes.
    pub message: String,
}

/// Body of [`Section::Status`].
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Status {
    /// Digest of the statements the node had when it resolved its config.
    pub digest: [u8; 32],
    /// Hash of the effective config the node wants to have.
    pub desired: [u8; 32],
    /// Hash of the effective config it has carried out last.
    pub applied: [u8; 32],
    /// When it carried that out.
    pub applied_at: Wall,
    /// Resources that are not simply ok, worst first; at most 100.
    pub resources: Vec<ResourceReport>,
    /// How many resources there are in all.
    pub resource_count: u32,
    /// How many of them are ok or changed.
    pub ok_count: u32,
}
