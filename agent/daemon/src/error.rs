//! Why an agent could not run, be founded or join.

use lab_agent_core::BootError;
use lab_agent_store::StoreError;
use lab_mesh_net::NetError;

use crate::data_dir::DataDirError;
use crate::entropy::EntropyError;
use crate::serve::SocketError;

/// The world broke while an agent ran in it. What was answered as durable is durable; start again.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    /// A bug: the driver of the links ended by itself.
    #[error("keep the links open: their driver ended")]
    NetEnded,
    /// A bug: a part panicked on its thread.
    #[error("go on after a panic of {what}")]
    Panicked {
        /// Which part.
        what: &'static str,
        /// What the runtime said.
        source: tokio::task::JoinError,
    },
}

/// Why an agent does not run (any more).
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// Its folder cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// Its store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What the store holds is no member of a mesh.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// The socket cannot be opened.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The links cannot be had.
    #[error(transparent)]
    Net(#[from] NetError),
    /// There is no randomness.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// The folder for declared files cannot be made.
    #[error("make the root {}", path.display())]
    Root {
        /// Where.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The machine gives no thread for the watchdog.
    #[error("start the watchdog")]
    Watchdog(#[source] std::io::Error),
    /// It ran, and something broke.
    #[error(transparent)]
    World(#[from] WorldError),
    /// The server of the socket ended by itself.
    #[error("answer at the socket: {why}")]
    Serve {
        /// What it said.
        why: String,
    },
}

/// An error with what is under it, for log lines.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
