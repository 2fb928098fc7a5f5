//! The local face of an agent: what can be asked of it over its Unix socket, and by whom it can be answered.
//!
//! The interface file is `proto/lab.proto`; nothing but this crate sees its generated types. A program asks
//! through a [`Client`]; whoever answers (the daemon, or a fake in a test) implements [`Handler`] and serves
//! [`service`]. Both sides speak in the words of `lab-crdt-model`.
//!
//! ```text
//!   cli ── Client ──(gRPC, HTTP/2, Unix socket)── service(Handler) ── the agent's owner task
//! ```
//!
//! The socket cannot create intent: a change is a statement that was signed on the caller's side, so that a
//! stolen socket reads, and forges nothing.

mod audit;
mod client;
mod error;
mod server;
#[cfg(test)]
mod tests;
mod types;
mod view;
mod wire;

pub use client::Client;
pub use error::ClientError;
pub use server::{Handler, Notices, Refusal, service};
pub use types::{End, Info, Notice, NoticeKind, Prepared, Root, ViewMask};
pub use view::{VIEW_CHUNK_BYTES, VIEW_VERSION, ViewDecodeError, ViewDecoder, encode_view};
pub use wire::{ENDS_MAX, MESSAGE_BYTES_MAX, SUBMIT_COUNT_MAX};
