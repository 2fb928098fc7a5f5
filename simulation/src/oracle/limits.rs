//! The figures of the oracles, with their units; a plan may say others.

use serde::{Deserialize, Serialize};

/// Bounds that oracles judge by. Every field has a default, so plans name only what differs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// From the healing until replicas of the healed nodes are equal, milliseconds.
    pub heal_ms: u64,
    /// From the death of a node, or the healing, until everyone says that it is down, milliseconds.
    pub death_ms: u64,
    /// How long a node is in good health before an accusation counts, milliseconds.
    pub health_ms: u64,
    /// Until an answer to a read, milliseconds.
    pub read_ms: u64,
    /// Until an answer to a write while the disk works, milliseconds.
    pub write_ms: u64,
    /// How long a node may show a living peer as equal while it is not, milliseconds.
    pub false_equal_ms: u64,
    /// How long something may be stuck before its cause must be shown, milliseconds.
    pub stuck_ms: u64,
    /// How long a disconnected or revoked key may stay linked where its revocation is known, milliseconds.
    pub revoked_link_ms: u64,
    /// Memory of one agent: bytes whatever it holds.
    pub memory_base_bytes: u64,
    /// Memory of one agent: bytes for each node of the mesh.
    pub memory_per_node_bytes: u64,
    /// Memory of one agent: bytes for each statement.
    pub memory_per_statement_bytes: u64,
    /// Happenings of the world that wait, for each node.
    pub queue_per_node: u64,
    /// Statements that wait for what they refer to, on one node.
    pub pending_max: u64,
    /// Without news, bytes sent by one node per second, averaged over nodes.
    pub idle_bytes_per_s: u64,
    /// How long nothing may have happened before traffic counts as idle, milliseconds.
    pub quiet_ms: u64,
    /// Shortest time over which idle traffic is measured, milliseconds.
    pub window_ms: u64,
    /// Frames that one edit costs beyond idle traffic, for each node of the mesh.
    pub edit_frames_per_node: u64,
    /// How long frames are put to an edit's account, milliseconds.
    pub edit_ms: u64,
    /// Bytes that a reconnecting node receives whatever it missed, for each node of the mesh.
    pub reconnect_bytes_per_node: u64,
    /// Bytes that a reconnecting node receives for each statement that it missed.
    pub reconnect_bytes_per_statement: u64,
    /// Inputs handled by one node per second, averaged over the window.
    pub steps_per_s: u64,
    /// Messages of the pull exchange sent by one node per second while no replica changes.
    pub pulls_per_s: u64,
    /// Reports of one node that another takes in within a minute.
    pub reports_per_minute: u64,
    /// How long files may differ from what the replica asks for, milliseconds.
    pub config_ms: u64,
    /// Samples between two full checks of a replica against the slow references.
    pub reference_every: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            heal_ms: 60_000,
            death_ms: 25_000,
            health_ms: 30_000,
            read_ms: 1_000,
            write_ms: 10_000,
            false_equal_ms: 30_000,
            stuck_ms: 120_000,
            revoked_link_ms: 1_000,
            memory_base_bytes: 16 << 20,
            memory_per_node_bytes: 64 << 10,
            memory_per_statement_bytes: 32 << 10,
            queue_per_node: 2_000,
            pending_max: 4_000,
            idle_bytes_per_s: 1_024,
            quiet_ms: 60_000,
            window_ms: 60_000,
            edit_frames_per_node: 24,
            edit_ms: 5_000,
            reconnect_bytes_per_node: 8 << 10,
            reconnect_bytes_per_statement: 8 << 10,
            steps_per_s: 2_000,
            pulls_per_s: 20,
            reports_per_minute: 2_000,
            config_ms: 120_000,
            reference_every: 16,
        }
    }
}
