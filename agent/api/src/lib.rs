//! The face of an agent: what can be asked of it, by whom, and the way from one to the other.
//!
//! The interface file is `proto/lab.proto`; nothing but this crate sees its generated types. A program asks
//! through a [`Client`]; whoever answers (the daemon, or a fake in a test) implements [`Handler`] and serves
//! [`service`]. Both sides speak in the words of `lab-crdt-model`.
//!
//! ```text
//!   cli ── Client ──(gRPC, HTTP/2)──┬─ Unix socket: a user of this machine ──┐
//!                                   └─ QUIC `lab/api/1`: a device, by its key ┴─► Guarded ─► Handler ─► the agent
//! ```
//!
//! [`METHODS`] says who may ask for what. It is looked at before anything of a call is read, for every call, and a
//! method without a row is for nobody.
//!
//! Neither way can create intent: a change is a statement that was signed on the caller's side, so that a stolen
//! socket reads, and forges nothing.

mod audit;
mod client;
mod error;
mod guard;
mod methods;
mod server;
#[cfg(test)]
mod tests;
mod types;
mod view;
mod wire;

pub use client::Client;
pub use error::ClientError;
pub use guard::{Guarded, Identify};
pub use methods::{Asker, METHODS, Method, Role};
pub use server::{Handler, Notices, Refusal, service};
pub use types::{End, Info, Notice, NoticeKind, Prepared, Root, ViewMask};
pub use view::{VIEW_CHUNK_BYTES, VIEW_VERSION, ViewDecodeError, ViewDecoder, encode_view};
pub use wire::{ENDS_MAX, MESSAGE_BYTES_MAX, SUBMIT_COUNT_MAX};
