//! Counters, for people and metrics.

use std::sync::atomic::{AtomicU64, Ordering};

/// What the driver did since its start. Counts only grow, except those of links.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NetStats {
    /// Mesh links that are up.
    pub mesh_link_count: usize,
    /// Join links that are up.
    pub join_link_count: usize,
    /// Connections of devices that ask over the remote API.
    pub device_count: usize,
    /// Dials in progress.
    pub dialling_count: usize,
    /// Dials that gave no link.
    pub dial_failed_count: u64,
    /// Links that the gate refused, ours and theirs.
    pub refused_count: u64,
    /// Links closed because a queue was full or strangers were too many.
    pub overload_count: u64,
    /// Links closed because the peer broke the framing.
    pub protocol_error_count: u64,
    /// Frames we were asked to send and could not: too long, or no such link.
    pub unsent_count: u64,
    /// Frames handed to QUIC.
    pub sent_count: u64,
    /// Their bytes, without lengths and what QUIC adds.
    pub sent_bytes: u64,
    /// Frames handed to the agent.
    pub received_count: u64,
    /// Their bytes.
    pub received_bytes: u64,
}

/// The same as counters that tasks share.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) dial_failed: Counter,
    pub(crate) refused: Counter,
    pub(crate) overload: Counter,
    pub(crate) protocol_error: Counter,
    pub(crate) unsent: Counter,
    pub(crate) sent: Counter,
    pub(crate) sent_bytes: Counter,
    pub(crate) received: Counter,
    pub(crate) received_bytes: Counter,
}

/// A number that grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: usize) {
        self.0.fetch_add(count as u64, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
