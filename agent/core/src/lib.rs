//! The whole behaviour of one machine, as a value.
//!
//! An [`Agent`] has no clock, no socket, no disk and no randomness of its own. A *driver* gives it [`Input`]s
//! and carries out its [`Output`]s:
//!
//! 1. call [`Agent::handle`] with one input and the current time;
//! 2. call [`Agent::poll`] until it returns `None`, carrying out each output in order;
//! 3. wait for the next input, or for [`Agent::deadline`], whichever is first (at the deadline the input is
//!    [`Input::Wake`]).
//!
//! The daemon and the simulator are two drivers of this contract. Nothing else drives an agent.
//!
//! ```text
//!            Input                                    Output
//!   Frame, Link, Found ──► mesh (who talks to whom) ──► Send, Dial, Hangup, Admit
//!                            │ pushed and pulled bytes
//!                            ▼
//!   Command ─────────────► replica (statements, registers, document) ──► Store, Reply
//!                            │ what is wanted here
//!                            ▼
//!   Done ────────────────► converge (own config, own reports) ──► Run
//! ```
//!
//! Write first, promise later: a reply to `Submit`, a witness and a register number leave only after the store
//! said that they are durable.

mod agent;
mod ages;
mod audit;
mod boot;
mod command;
mod converge;
mod crowd;
mod figures;
mod held;
mod input;
mod join;
mod lives;
mod output;
mod pace;
mod present;
mod rate;
mod replica;
mod report;
mod resolve;
mod time;
mod vouching;

pub use agent::{Agent, Deadline};
pub use boot::{Boot, BootError, Config, NodeKeys};
pub use command::{Command, CommandId, Prepared, Reply, Root, ViewMask};
pub use figures::{Counts, Digests};
pub use input::{EffectResult, FileOutcome, Input, LinkState};
pub use lab_crdt_log::{Memo, MemoFigures};
pub use output::{Effect, EffectId, Event, FileOwned, FileWanted, Output, StoreId};
pub use resolve::{NodeConfig, config_of, fleet_of, intent_of};
