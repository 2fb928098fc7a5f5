//! The local socket and the remote API: who may use them, and the way from them to the owner task.

mod credentials;
mod face;
mod remote;
mod socket;

pub(crate) use face::{Ask, Changes, Face};
pub(crate) use remote::{Devices, serve_remote};
pub use socket::SocketError;
pub(crate) use socket::{bind, serve};
