//! The same agents in a world of numbers: virtual time, virtual links, virtual disks; deterministic.
//!
//! [`World`] drives real [`lab_agent_core::Agent`]s exactly as the daemon does, with a timing wheel in place of clock,
//! sockets and store. Equal seeds give equal traces, in every process. People are in it too ([`Person`]): they hold
//! keys outside the agents and hand in signed statements over the local socket.

pub mod adversary;
pub mod clock;
pub mod costs;
pub mod disk;
pub mod mutants;
pub mod network;
pub mod note;
pub mod oracle;
mod person;
pub mod plan;
pub mod reference;
pub mod seed;
pub mod skew;
pub mod trace;
pub mod trap;
pub mod wheel;
mod world;

pub mod cli;
pub mod duration;
pub mod report;
pub mod scenario;
pub mod svg;
pub mod timeline;

pub use lab_agent_core::Digests;
pub use person::Person;
pub use world::host::{Counters, ProcessFault};
pub use world::tamper::{Passing, Tamper, Traffic, Untouched};
pub use world::{Options, StoreKind, World};
