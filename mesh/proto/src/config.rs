//! What may be tuned, with its unit and what changing it costs.

/// Figures of the mesh protocol. All members should use the same preset: a member with a shorter
/// [`ping_ms`](Self::ping_ms) pings more for both ends of its links.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Links that the overlay keeps per node once the mesh is larger than [`full_mesh_max`](Self::full_mesh_max).
    /// Meshes of 500 keep one more, those of 5,000 two. More links mean a faster push, more watchers per node and proportionally more idle traffic.
    pub neighbours_max: usize,
    /// Up to this many members (with this node), everyone keeps a link to everyone.
    pub full_mesh_max: usize,

    /// A link on which nothing was heard for about this long is pinged, milliseconds (±10 %). One ping serves
    /// both ends. The first term of the time to detect a dead node.
    pub ping_ms: u64,
    /// How long the first ping waits for any sign of life, milliseconds; the second waits half of it. Grows
    /// with the measured round trip and with bad local health.
    pub ping_timeout_ms: u64,
    /// How long a suspicion that two others confirmed may be refuted, milliseconds.
    pub suspicion_min_ms: u64,
    /// How long a suspicion that nobody confirmed may be refuted, milliseconds.
    pub suspicion_max_ms: u64,
    /// A timer that fires this much too late means that this machine was paused or starved, milliseconds. It
    /// then accuses nobody on what it missed.
    pub late_ms: u64,

    /// Mean time between two dials of a member that is not a neighbour while some member is not known to be
    /// alive, milliseconds (±33 %). This is what ends a partition; it bounds the traffic to dead addresses too. The
    /// fewer are in doubt out of many, the rarer, down to [`rejoin_idle_ms`](Self::rejoin_idle_ms).
    pub rejoin_ms: u64,
    /// The same while every member is believed alive, milliseconds.
    pub rejoin_idle_ms: u64,
    /// The same at first after neighbours were lost, milliseconds; doubles up to [`rejoin_ms`](Self::rejoin_ms).
    pub rejoin_lonely_ms: u64,
    /// First wait after a failed dial of a peer, milliseconds; doubles with each failure, with jitter.
    pub dial_backoff_min_ms: u64,
    /// Longest wait after failed dials of a peer, milliseconds.
    pub dial_backoff_max_ms: u64,
    /// Most dials under way at once. Others wait their turn.
    pub dials_max: usize,
    /// A link that nothing needs is closed after this long, milliseconds.
    pub linger_ms: u64,

    /// How long unequal digests may stand before a pull starts, milliseconds (±50 %): the time in which push
    /// usually makes them equal.
    pub pull_grace_ms: u64,
    /// Wait before the second pull from a peer that stays unequal, milliseconds; doubles up to eight times this.
    pub pull_retry_ms: u64,
    /// An exchange in which nothing was sent or received for this long is over, milliseconds.
    pub pull_idle_ms: u64,
    /// Most exchanges that this node has opened at once.
    pub pulls_max: usize,
    /// Most peers whose exchanges are answered at once; messages of further ones are dropped, they try again.
    pub serves_max: usize,
    /// Bulk bytes sent per second on one link, on average.
    pub link_bytes_per_s: u64,
    /// Bulk bytes that may go at once on one link.
    pub link_burst_bytes: u64,
    /// Bulk bytes that may wait for one link. Further messages are dropped; the next pull asks for them again.
    pub link_queue_bytes: usize,
    /// A live peer whose digests stayed unequal this long is reported, milliseconds.
    pub diverged_ms: u64,

    /// Shortest time for which a node that heard of a pushed payload waits for the payload itself before it asks
    /// for it, milliseconds. Within the two bounds, the wait follows how late payloads came after the first word
    /// of them, and before any came late, round trips.
    pub graft_ms: u64,
    /// Longest such time, milliseconds: a broken branch of the push tree delays what is behind it by this much.
    pub graft_max_ms: u64,

    /// Pushed bytes accepted from one peer per second, on average, with a burst of four seconds' worth. What is
    /// above it is dropped, and pulled later.
    pub push_bytes_per_s: u64,
}

impl Config {
    /// Machines in a few rooms: round trips of milliseconds, bandwidth to spare.
    ///
    /// A killed node is seen by all within 6 s; idle traffic is about 0.5 kB/s each way per node,
    /// if every node publishes a beacon of 300 bytes every 3 s times the number of nodes, and at most once a
    /// minute. Liveness does not depend on how often that is.
    pub const fn homelab() -> Self {
        Self {
            neighbours_max: 5,
            full_mesh_max: 8,
            ping_ms: 3_000,
            ping_timeout_ms: 600,
            suspicion_min_ms: 1_200,
            suspicion_max_ms: 2_400,
            late_ms: 250,
            rejoin_ms: 30_000,
            rejoin_idle_ms: 180_000,
            rejoin_lonely_ms: 1_000,
            dial_backoff_min_ms: 1_000,
            dial_backoff_max_ms: 60_000,
            dials_max: 4,
            linger_ms: 10_000,
            pull_grace_ms: 1_000,
            pull_retry_ms: 2_000,
            pull_idle_ms: 3_000,
            pulls_max: 4,
            serves_max: 16,
            link_bytes_per_s: 16 << 20,
            link_burst_bytes: 4 << 20,
            link_queue_bytes: 16 << 20,
            diverged_ms: 60_000,
            graft_ms: 30,
            graft_max_ms: 500,
            push_bytes_per_s: 256 << 10,
        }
    }

    /// Sites joined by slow or metered lines: rarer pings, longer patience, a tenth of the bandwidth.
    ///
    /// A killed node is seen by all within 20 s.
    pub const fn wan() -> Self {
        Self {
            ping_ms: 6_000,
            ping_timeout_ms: 2_000,
            suspicion_min_ms: 4_000,
            suspicion_max_ms: 8_000,
            rejoin_lonely_ms: 2_000,
            pull_grace_ms: 2_000,
            pull_retry_ms: 5_000,
            pull_idle_ms: 8_000,
            link_bytes_per_s: 1 << 20,
            link_burst_bytes: 1 << 20,
            link_queue_bytes: 4 << 20,
            graft_max_ms: 1_000,
            push_bytes_per_s: 64 << 10,
            ..Self::homelab()
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::homelab()
    }
}
