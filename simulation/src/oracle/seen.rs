//! What an oracle may look at: a world as facts, not as logic.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use bytes::Bytes;
use lab_agent_core::{CommandId, Event, ViewMask};
use lab_crdt_log::RootRecord;
use lab_crdt_model::view::{Liveness, ReplicaView};
use lab_crdt_model::{MeshId, Mono, NodeId, StatementId, Wall};

/// Hashes that say what a replica holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Digests {
    /// Of its statements.
    pub statements: [u8; 32],
    /// Of its reports.
    pub registers: [u8; 32],
    /// Of the heads of the document that it built.
    pub heads: [u8; 32],
    /// Of what came after the end of its grant and waits; zero when nothing does.
    pub late: [u8; 32],
}

/// What a node did since the world began; restarts do not reset it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Frames that arrived.
    pub frames_in: u64,
    /// Frames that were sent.
    pub frames_out: u64,
    /// Bytes of frames that arrived.
    pub bytes_in: u64,
    /// Bytes of frames that were sent.
    pub bytes_out: u64,
    /// Messages of the pull exchange that were sent.
    pub pulls: u64,
    /// Inputs that were handled.
    pub steps: u64,
}

/// What a boot read from a disk, against what was ever written there.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Audit {
    /// Records that the boot returned and nobody ever wrote, in words.
    pub invented: Vec<String>,
    /// Records that were acknowledged and are gone although the disk was honest, in words.
    pub lost: Vec<String>,
}

/// A world, as far as oracles look at it. Nodes are numbered from 0; times are of the world, not of a node.
///
/// A world that cannot tell something returns the default of its type; the oracles that need it then stay silent.
pub trait Seen {
    /// Now, by the clock of the world.
    fn now(&self) -> Mono;
    /// How many nodes there are, dead ones included.
    fn count(&self) -> usize;
    /// The mesh.
    fn mesh(&self) -> MeshId;
    /// The record that founded it.
    fn root(&self) -> RootRecord;
    /// A node's key.
    fn id(&self, node: usize) -> NodeId;
    /// A node's own wall clock.
    fn wall(&self, node: usize) -> Wall;
    /// Whether its agent runs; a paused one does.
    fn is_up(&self, node: usize) -> bool;
    /// Whether its process stands still.
    fn is_paused(&self, node: usize) -> bool;
    /// Whether frames get through from one node to another now.
    fn is_open(&self, from: usize, to: usize) -> bool;
    /// What its replica holds; `None` while it is down or joins. Cheap.
    fn digests(&mut self, node: usize) -> Option<Digests>;
    /// What its replica shows people; `None` while it is down or joins. May show more than was asked for.
    fn view(&mut self, node: usize, mask: ViewMask) -> Option<Rc<ReplicaView>>;
    /// The envelopes that its replica holds, in any order; `None` when this is not known.
    fn statements(&mut self, node: usize) -> Option<Vec<Bytes>>;
    /// The reports that its replica holds; `None` when this is not known.
    fn registers(&mut self, node: usize) -> Option<Vec<Bytes>>;
    /// The durable records of its own audit chain, oldest first; `None` when this is not known.
    fn audit_chain(&mut self, node: usize) -> Option<Vec<Bytes>>;
    /// The statements on its disk, whether its agent runs or not; `None` when this is not known.
    fn durable(&mut self, node: usize) -> Option<BTreeSet<StatementId>>;
    /// The files below the agent's root.
    fn files(&mut self, node: usize) -> BTreeMap<String, Vec<u8>>;
    /// What it did so far.
    fn counters(&self, node: usize) -> Counters;
    /// What one node thinks of another.
    fn opinion(&mut self, of: usize, about: usize) -> Liveness;
    /// Bytes that its agent holds, by its own estimate; 0 when unknown.
    fn memory(&mut self, node: usize) -> u64;
    /// Happenings that the world has yet to carry out.
    fn queue_len(&self) -> usize;
    /// What its last boot read, against what was written; empty when unknown.
    fn audit(&mut self, node: usize) -> Audit;
}

/// Something that happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note {
    /// When, by the clock of the world.
    pub at: Mono,
    /// Where; for what concerns no single node, any.
    pub node: usize,
    /// What.
    pub what: What,
}

/// What a command is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ask {
    /// It changes nothing.
    Read,
    /// It hands in these statements, together.
    Write(Vec<StatementId>),
}

/// What a fault reaches.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Harm {
    /// Paths between nodes.
    Network,
    /// A disk that refuses or is slow, and keeps its promises.
    Disk,
    /// A disk that breaks promises: it lies, forgets, is rolled back, replaced or copied, or is an adversary's. Over
    /// when the disk is.
    LossyDisk,
    /// A wall clock.
    Clock,
    /// A process other than by killing or pausing it.
    Process,
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum What {
    /// An agent was started from its disk.
    Started,
    /// An agent lost its power.
    Killed,
    /// A process stands still.
    Paused,
    /// A process goes on.
    Resumed,
    /// A person asked for something.
    Asked {
        /// Repeated in the answer.
        command: CommandId,
        /// What for.
        ask: Ask,
    },
    /// A read was answered.
    Shown {
        /// Which.
        command: CommandId,
    },
    /// Statements are durable and on their way.
    Acked {
        /// Which command.
        command: CommandId,
        /// Their ids, in order.
        ids: Vec<StatementId>,
    },
    /// Nothing was changed, says the agent.
    Refused {
        /// Which command.
        command: CommandId,
        /// The stable code.
        code: String,
        /// In its words.
        why: String,
    },
    /// The disk finished a write, or refused it.
    Stored {
        /// Whether it is durable.
        is_ok: bool,
    },
    /// The agent told this.
    Told(Event),
    /// A fault begins.
    Broken(Harm),
    /// A fault ends.
    Mended(Harm),
    /// The code panicked.
    Panicked(String),
}

/// Where a run stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Phase {
    /// No faults yet.
    WarmUp,
    /// Any fault at any time: only what must always hold is judged.
    Chaos,
    /// These nodes are up and reach each other; faults of the others stay as they are.
    Core(BTreeSet<usize>),
    /// All faults are over.
    Healed,
}

impl Phase {
    /// Whether a node is among those that must get on.
    pub fn has(&self, node: usize) -> bool {
        match self {
            Self::WarmUp | Self::Chaos => false,
            Self::Core(core) => core.contains(&node),
            Self::Healed => true,
        }
    }

    /// Whether anybody must get on.
    pub const fn is_healed(&self) -> bool {
        matches!(self, Self::Core(_) | Self::Healed)
    }
}
