//! The mesh protocol as a pure state machine: who talks to whom, and when.
//!
//! [`Mesh`] carries opaque bytes. It keeps an overlay of few links and pushes small payloads over it
//! (`gossip.rs`), repairs whatever push lost by comparing digests over every link (`antientropy.rs`), watches
//! the peers it is linked to (`liveness.rs`) and decides whom to dial (`session.rs`). It has no clock, socket
//! or randomness of its own: a driver hands in [`MeshInput`]s with the time and carries out [`MeshOutput`]s.
//! The same inputs at the same times with the same seed give the same outputs, bit for bit.
//!
//! Correctness rests on the pull alone. Losing every pushed message costs latency and nothing else.
//! Liveness is an opinion: nothing here removes a member.
//!
//! ```
//! use std::sync::Arc;
//!
//! use lab_crdt_model::{Mono, NodeId, Now};
//! use lab_mesh_proto::{Config, Mesh, MeshInput, MeshOutput};
//!
//! let (me, peer) = (NodeId([1; 32]), NodeId([2; 32]));
//! let mut mesh = Mesh::new(me, Config::homelab(), [7; 32], Now::default());
//! mesh.handle(Now::default(), MeshInput::Roster { members: Arc::new([me, peer].into()) });
//! assert!(matches!(mesh.poll(), Some(MeshOutput::Dial { .. })));
//! assert!(mesh.deadline().is_some_and(|deadline| deadline.at >= Mono(0)));
//! ```

mod antientropy;
pub mod audit;
mod backoff;
pub mod config;
pub mod error;
pub mod frame;
mod gossip;
pub mod join;
mod liveness;
pub mod mesh;
mod message;
mod roster;
mod session;

#[cfg(any(test, feature = "world"))]
#[doc(hidden)]
pub mod world;

pub use config::Config;
pub use error::FrameError;
pub use mesh::{Counts, Deadline, Mesh, MeshInput, MeshOutput};
