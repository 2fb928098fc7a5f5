//! One machine: its agent, its clock, its disk, its process.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use lab_agent_core::{Agent, CommandId, Event, Input, StoreId};
use lab_crdt_model::link::Channel;
use lab_crdt_model::store::Batch;
use lab_crdt_model::{AuthorId, Mono, NodeId, Standing};
use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::world::store::Store;

/// Kinds of frames counted one by one; larger ones are counted as the last.
pub(crate) const KINDS: usize = 16;
/// Events kept per node.
pub(crate) const EVENTS_MAX: usize = 10_000;
/// The same in fleets: as each node hears of each, their events would be as many as the square of the nodes.
pub(crate) const EVENTS_MAX_LEAN: usize = 64;

/// What can happen to a process.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ProcessFault {
    /// The power goes away.
    Kill,
    /// The machine is shut down: its agent says goodbye, and everything is written.
    ShutDown,
    /// The process is killed while the machine runs on: what it wrote is written. It is started again.
    Crash {
        /// After so long, milliseconds.
        after_ms: u64,
    },
    /// The power goes away and comes back.
    Restart {
        /// After so long, milliseconds.
        after_ms: u64,
    },
    /// The power goes away before the n-th output from now on is carried out, and comes back.
    KillAtOutput {
        /// Counts from 1.
        nth: u64,
        /// Comes back after so long, milliseconds.
        after_ms: u64,
    },
    /// The machine starts, if it is off.
    Start,
    /// The process gets no time, and goes on by itself after a while.
    Pause {
        /// Milliseconds.
        for_ms: u64,
    },
    /// The process dies and starts again, over and over.
    CrashLoop {
        /// Time between two deaths, milliseconds; at least 1.
        period_ms: u64,
        /// How many deaths.
        count: u32,
    },
    /// Every step takes so many times as long; 1 is normal.
    Slow {
        /// Factor.
        factor: u32,
    },
    /// The machine gets another address.
    Readdress,
}

/// What a node did, since the world began.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Inputs handled.
    pub steps: u64,
    /// Times it woke by itself.
    pub wakes: u64,
    /// Frames received.
    pub frames_in: u64,
    /// Frames sent.
    pub frames_out: u64,
    /// Payload bytes received.
    pub bytes_in: u64,
    /// Payload bytes sent.
    pub bytes_out: u64,
    /// Frames sent on mesh links, by kind.
    pub frames_by_kind: [u64; KINDS],
    /// Payload bytes sent on mesh links, by kind.
    pub bytes_by_kind: [u64; KINDS],
    /// Dials begun.
    pub dials: u64,
    /// Links that came up.
    pub links_up: u64,
    /// Links that went down.
    pub links_down: u64,
    /// Writes begun.
    pub stores: u64,
    /// Bytes written.
    pub stored_bytes: u64,
    /// Times the agent started.
    pub starts: u64,
    /// Opinions that changed to "down".
    pub downs_told: u64,
}

/// One end of a link, as this machine's driver sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinkEnd {
    pub(crate) peer: u32,
    pub(crate) channel: Channel,
    /// Names the link for ever.
    pub(crate) serial: u64,
    /// Where it stands.
    pub(crate) slot: u32,
}

pub(crate) struct Host {
    pub(crate) secret: [u8; 32],
    pub(crate) id: NodeId,
    pub(crate) agent: Option<Agent>,
    /// Counts starts; what was meant for an earlier life is dropped.
    pub(crate) life: u32,
    pub(crate) store: Store,
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    pub(crate) clock: Clock,
    pub(crate) address: SocketAddr,
    pub(crate) admitted: Arc<BTreeSet<NodeId>>,
    /// Whose devices it lets ask over the remote API.
    pub(crate) devices: Arc<BTreeMap<AuthorId, Standing>>,
    pub(crate) links: Vec<LinkEnd>,
    /// True time of the wake-up that stands.
    pub(crate) wake_at: Option<Mono>,
    /// Inputs that wait for a paused process.
    pub(crate) inbox: VecDeque<Input>,
    /// Steps that take their time: when each is done, and its input. In order.
    pub(crate) doing: VecDeque<(Mono, Input)>,
    pub(crate) paused_until: Option<Mono>,
    pub(crate) slow: u32,
    pub(crate) busy_until: Mono,
    /// Outputs until the power goes away, and how long it stays away.
    pub(crate) kill_after: Option<(u64, u64)>,
    /// Writes wait here for their turn at the disk.
    pub(crate) writes: VecDeque<(StoreId, Batch)>,
    pub(crate) is_writing: bool,
    pub(crate) events: VecDeque<(u64, Event)>,
    pub(crate) refused_join: Option<String>,
    pub(crate) counters: Box<Counters>,
    /// Commands that were not answered yet, and what they handed in.
    pub(crate) asked: BTreeMap<CommandId, bool>,
}

impl Host {
    pub(crate) fn is_paused(&self) -> bool {
        self.paused_until.is_some()
    }

    /// Whether a frame for this life would be taken in, now or later.
    pub(crate) fn is_up(&self) -> bool {
        self.agent.is_some()
    }

    pub(crate) fn end(&self, peer: u32, channel: Channel) -> Option<LinkEnd> {
        self.links
            .iter()
            .find(|e| e.peer == peer && e.channel == channel)
            .copied()
    }

    /// Keeps an event; of all, the newest `most`.
    pub(crate) fn tell(&mut self, at_ms: u64, event: Event, most: usize) {
        if self.events.len() >= most {
            self.events.pop_front();
        }
        self.events.push_back((at_ms, event));
    }
}
