//! What happened in a world, for oracles, timelines and people.

use bytes::Bytes;
use lab_agent_core::{CommandId, Event};
use lab_crdt_model::link::Channel;
use lab_crdt_model::{Mono, StatementId};

/// Something that happened at a node.
#[derive(Clone, Debug)]
pub struct Note {
    /// When, true time.
    pub at: Mono,
    /// Where; the first node of a fault that concerns several.
    pub node: usize,
    /// What.
    pub what: What,
}

/// What can happen.
#[derive(Clone, Debug)]
pub enum What {
    /// The agent started, for the n-th time.
    Started {
        /// Counts up from 1.
        life: u32,
    },
    /// The agent could not start from its disk.
    NotStarted {
        /// In the words of store or agent.
        why: String,
    },
    /// The power went away, or the process was killed.
    Killed,
    /// The process was stopped: it takes part in nothing and keeps everything.
    Paused,
    /// The process goes on.
    Resumed,
    /// A link came up.
    LinkUp {
        /// With whom.
        peer: usize,
        /// Which kind.
        channel: Channel,
    },
    /// A link went away.
    LinkDown {
        /// With whom.
        peer: usize,
        /// Which kind.
        channel: Channel,
    },
    /// A dial failed.
    DialFailed {
        /// Whom.
        peer: usize,
        /// Why.
        why: &'static str,
    },
    /// Someone asked for a view of the replica.
    Asked {
        /// With which command.
        command: CommandId,
    },
    /// The view was shown.
    Shown {
        /// With which command.
        command: CommandId,
    },
    /// Statements were handed in.
    Submitted {
        /// With which command.
        command: CommandId,
        /// Envelopes.
        statements: Vec<Bytes>,
    },
    /// Statements that were handed in are durable and on their way.
    Acked {
        /// With which command.
        command: CommandId,
        /// Their ids.
        ids: Vec<StatementId>,
    },
    /// A command was refused.
    Refused {
        /// Which.
        command: CommandId,
        /// Stable code.
        code: &'static str,
        /// Why.
        why: String,
    },
    /// A write ended.
    Stored {
        /// Whether it is durable, as the disk says.
        is_ok: bool,
    },
    /// The agent told something.
    Told(Event),
    /// A fault began or ended.
    Fault(String),
}
