//! Meshes on networks of their own, made of namespaces: they need root.
//!
//! Without root these tests fail and say so; `LAB_SKIP_NETNS=1` leaves them out, which is for a developer's machine
//! and never for the pipeline.

mod disk;
mod lan;
mod network;
mod router;
mod storm;
