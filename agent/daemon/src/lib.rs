//! The shell of the agent: everything that touches the world, wired to the one thing that decides.
//!
//! [`run`] is the daemon: it opens the folder, the store, the links and the socket, and drives a
//! [`lab_agent_core::Agent`] by its contract until it is asked to stop. [`found`] makes the folder of a mesh's first
//! node, [`join`] that of every other one, [`set_aside`] ends it. Nothing here decides what a node *does*; what grows here beyond wiring
//! belongs below the purity line.
//!
//! ```text
//!   cli ──► serve (socket, who may) ──► face ──┐ Ask                        ┌─► effect (files, facts)
//!                                              ▼                            │
//!   mesh/net ── NetEvent ─────────────►  world: next()  carry_out() ────────┼─► store_writer (group commit)
//!                                              │            ▲               │
//!                                              ▼ Input      │ Output        └─► mesh/net (send, dial, hang up)
//!                                           Agent::handle, Agent::poll
//! ```
//!
//! One task owns the agent; nothing is locked. Blocking work (the disk, files) runs on a few threads, one commit and
//! one effect at a time. A watchdog ends the process when the loop stands still for 30 s.
//!
//! | queue | limit | at the limit |
//! |---|---|---|
//! | questions from the socket | 64, and 256 unanswered | refused as unavailable; further ones wait |
//! | connections at the socket | 64, 16 calls each | further ones wait |
//! | connections of devices | 16, 4 with one key, 16 calls each, closed after 30 s of silence | refused; further calls wait |
//! | submissions of devices | 4 at once, all together, 30 s each | further ones wait unread |
//! | bytes that wait for the disk | 16 MiB | links and socket are not read until it has caught up |
//! | notices of a watcher | one per kind | coalesced |

mod accounts;
pub mod clock;
pub mod config;
mod data_dir;
mod effect;
pub mod entropy;
mod error;
mod found;
mod join;
mod notify;
mod reset;
mod run;
mod serve;
mod signal;
mod store_writer;
pub mod telemetry;
#[cfg(test)]
mod tests;
mod watchdog;
mod world;

pub use config::{ConfigError, ConfigLayer, DaemonConfig};
pub use data_dir::{DataDir, DataDirError};
pub use error::{DaemonError, WorldError};
pub use found::{FoundError, Founding, found};
pub use join::{JoinError, JoinOptions, Joined, join};
pub use reset::{mesh_of, set_aside};
pub use run::{run, runtime};
pub use serve::SocketError;
pub use signal::stop_signal;
