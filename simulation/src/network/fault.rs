//! What may go wrong on the way, as plain data for plans.
//!
//! A fault lasts until it is healed, or as long as [`Fault::For`] says. Faults add up: a path is open when none of
//! them closes it. A path that is closed loses nothing: what is sent stalls, as on a connection that keeps trying.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// A set of hosts, by index.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Scope {
    /// All, those added later too.
    #[default]
    All,
    /// `count` hosts from `first` on.
    Span {
        /// The first.
        first: usize,
        /// How many.
        count: usize,
    },
    /// Just these.
    Only(BTreeSet<usize>),
}

impl Scope {
    /// Whether a host is among them.
    pub fn contains(&self, host: usize) -> bool {
        match self {
            Self::All => true,
            Self::Span { first, count } => host >= *first && host - first < *count,
            Self::Only(hosts) => hosts.contains(&host),
        }
    }
}

impl<const N: usize> From<[usize; N]> for Scope {
    fn from(hosts: [usize; N]) -> Self {
        Self::Only(hosts.into())
    }
}

impl From<&[usize]> for Scope {
    fn from(hosts: &[usize]) -> Self {
        Self::Only(hosts.iter().copied().collect())
    }
}

impl From<BTreeSet<usize>> for Scope {
    fn from(hosts: BTreeSet<usize>) -> Self {
        Self::Only(hosts)
    }
}

/// A set of directed paths.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Paths {
    /// To and from each of these hosts.
    Of(Scope),
    /// Between a host of the first and a host of the second set, both ways.
    Between(Scope, Scope),
    /// From a host of the first set to a host of the second.
    From(Scope, Scope),
}

/// Something that goes wrong, or is put right.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Fault {
    /// Only hosts of one group reach each other. Hosts in no group are one more group; the first group that names a
    /// host has it.
    Partition {
        /// The groups.
        groups: Vec<Scope>,
    },
    /// Nothing gets from the first to the second; the way back is open. No new connections either way.
    OneWay {
        /// Senders.
        from: Scope,
        /// Receivers.
        to: Scope,
    },
    /// Each of these hosts is alone.
    Isolate {
        /// The hosts.
        hosts: Scope,
    },
    /// Left and right do not reach each other, but one host reaches both.
    Bridge {
        /// One half.
        left: Scope,
        /// The other half.
        right: Scope,
        /// The host that joins them; in either half, or in none.
        bridge: usize,
    },
    /// The hosts stand in a ring, and each reaches just over half of them: those next to it. No two see the same
    /// majority. Nothing is cut among three or fewer.
    Ring {
        /// The hosts, in order of their index.
        hosts: Scope,
    },
    /// Single pairs do not reach each other, though others reach both.
    Cut {
        /// The pairs, in either order.
        pairs: Vec<(usize, usize)>,
    },
    /// All paths of the hosts are closed, then open, then closed, in step.
    Flap {
        /// The hosts.
        hosts: Scope,
        /// Milliseconds closed, first; at least 1.
        down_ms: u64,
        /// Milliseconds open; at least 1.
        up_ms: u64,
    },
    /// Directed paths drawn at random are closed; for each pair and direction the draw falls on its own.
    Clog {
        /// Those that may be drawn.
        paths: Paths,
        /// How many are, out of a thousand.
        per_mille: u32,
        /// Decides which.
        seed: u64,
    },
    /// Hosts drawn at random lose all their paths one after another, and get them back one after another in another
    /// order. Ends by itself.
    Swizzle {
        /// Those that may be drawn.
        hosts: Scope,
        /// How many are, out of a thousand; at least one.
        per_mille: u32,
        /// Milliseconds from one host to the next; at least 1.
        step_ms: u64,
        /// Decides which, and the orders.
        seed: u64,
    },
    /// Paths that work, but hardly: each connection and direction gets so many bytes per second, and loses much.
    Grey {
        /// Which.
        paths: Paths,
        /// Bytes per second; zero is no limit.
        bytes_per_s: u64,
        /// Packets lost out of a thousand.
        loss_per_mille: u32,
    },
    /// Frames take longer.
    Latency {
        /// Which.
        paths: Paths,
        /// Milliseconds more, one way.
        ms: u64,
        /// At most as many milliseconds again, drawn evenly for each frame.
        jitter_ms: u64,
    },
    /// Packets are lost. At 1000 the paths are closed.
    Loss {
        /// Which.
        paths: Paths,
        /// Out of a thousand.
        per_mille: u32,
    },
    /// Others keep the queues before these hosts full: each frame to or from them waits between half of this and all
    /// of it.
    Bufferbloat {
        /// The hosts.
        hosts: Scope,
        /// Milliseconds.
        queue_ms: u64,
    },
    /// A firewall drops UDP to and from these hosts, on the local network too. Direct connections stall; new ones go
    /// through a relay.
    UdpBlocked {
        /// The hosts.
        hosts: Scope,
    },
    /// The boxes before these hosts forget all mappings: their direct connections through a box are dead, and nobody
    /// is told. Happens once. Nothing happens to hosts without a box.
    NatRebind {
        /// The hosts.
        hosts: Scope,
    },
    /// Relays do not answer. What they carried stalls.
    RelayDown {
        /// By their place in [`Config::relays`](super::Config::relays); empty is all.
        relays: Vec<usize>,
    },
    /// A login page answers for the whole world: existing connections are dead, new ones fail at once.
    CaptivePortal {
        /// The hosts behind it.
        hosts: Scope,
    },
    /// A fault that ends after a time.
    For {
        /// Milliseconds.
        ms: u64,
        /// The fault.
        fault: Box<Self>,
    },
    /// What was done so far is undone for all paths with both ends among these hosts. Later faults count again; dead
    /// connections stay dead.
    Heal {
        /// The hosts.
        hosts: Scope,
    },
}

impl Fault {
    /// The same, ending after so many milliseconds.
    pub fn lasting(self, ms: u64) -> Self {
        Self::For {
            ms,
            fault: Box::new(self),
        }
    }

    /// The end of all faults.
    pub const fn heal_all() -> Self {
        Self::Heal { hosts: Scope::All }
    }
}
