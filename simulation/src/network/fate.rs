//! What the network answers.

use lab_crdt_model::Mono;

/// What becomes of a frame on an established connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It arrives then, if the path is open at that time ([`Network::carries`](super::Network::carries)).
    Arrives(Mono),
    /// There is no path now, or it is full. Whoever holds the frame sends it again, in the order of the lane: after
    /// faults change, and at [`Network::next_change`](super::Network::next_change), which tells also when a full path
    /// has room.
    Stalls,
    /// The connection is dead, and neither end knows yet.
    Lost,
}

/// What becomes of a dial.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dialled {
    /// The peer's answer is back then, if the peer is up and the path still open.
    Answers {
        /// When.
        at: Mono,
        /// Through a relay.
        is_relayed: bool,
    },
    /// The dialler gives up then.
    Fails {
        /// When.
        at: Mono,
        /// For people; a real dialler often cannot tell.
        why: &'static str,
    },
}

/// A connection that died without anybody being told: frames on it are [`Fate::Lost`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Killed {
    /// The host with the lower index.
    pub low: usize,
    /// The other host.
    pub high: usize,
    /// The world's name for the connection.
    pub connection: u64,
}

/// What has happened so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Frames that arrive or will.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Frames of which a packet was lost and sent again.
    pub resent: u64,
    /// Frames that found a queue full.
    pub overflowed: u64,
    /// Times that a frame found its path closed, or full.
    pub stalled: u64,
    /// Frames on dead connections.
    pub lost: u64,
}
