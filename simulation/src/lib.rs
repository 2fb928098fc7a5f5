//! The same agents in a world of numbers: virtual time, virtual links, virtual disks; deterministic.
//!
//! [`World`] drives real [`lab_agent_core::Agent`]s exactly as the daemon does, with a priority queue in place of
//! clock, sockets and store. Equal seeds give equal traces. People are in it too ([`Person`]): they hold keys
//! outside the agents and hand in signed statements over the local socket.

mod person;
mod world;

pub use person::Person;
pub use world::{Disk, World};
