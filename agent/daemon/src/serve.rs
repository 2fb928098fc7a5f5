//! The local socket: who may use it, and the way from it to the owner task.

mod credentials;
mod face;
mod socket;

pub(crate) use face::{Ask, Changes, Face};
pub use socket::SocketError;
pub(crate) use socket::{bind, serve};
