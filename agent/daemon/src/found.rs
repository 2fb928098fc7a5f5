//! The first node of a mesh: a folder with the root record and the statements that admit it.

use std::fmt;
use std::path::Path;

use bytes::Bytes;
use lab_agent_core::{Agent, Boot, BootError, Config, NodeKeys};
use lab_agent_store::{Store, StoreError};
use lab_crdt_model::NodeId;
use zeroize::Zeroizing;

use crate::data_dir::{DataDir, DataDirError};
use crate::run::{VERSION, open_store};
use crate::{clock, entropy};

/// What the founder made, signed elsewhere.
pub struct Founding {
    /// The signed root record, version 0.
    pub root: Vec<u8>,
    /// The secret key of the first node.
    pub node_key: Zeroizing<[u8; 32]>,
    /// Signed statements in order; among them the one that admits the first node.
    pub statements: Vec<Vec<u8>>,
}

impl fmt::Debug for Founding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Founding({} statements)", self.statements.len())
    }
}

/// Why a mesh could not be founded. The folder has no node, and founding can be tried again.
#[derive(Debug, thiserror::Error)]
pub enum FoundError {
    /// The folder cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The root record is not valid.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// There is no randomness.
    #[error(transparent)]
    Entropy(#[from] entropy::EntropyError),
}

/// Makes a folder with the first node of a mesh, ready for [`run`](crate::run). Blocks for the disk.
///
/// # Errors
/// See [`FoundError`]; [`DataDirError::Occupied`] if there is a node already.
pub fn found(data_dir: &Path, founding: &Founding) -> Result<NodeId, FoundError> {
    let data = DataDir::lock(data_dir)?;
    data.clear()?;
    let (mut store, _report) = Store::open(&data.store_path())?;
    let statements: Vec<Bytes> = founding
        .statements
        .iter()
        .map(|bytes| Bytes::copy_from_slice(bytes))
        .collect();
    store.commit(&[Boot::founding(&founding.root, &statements)])?;

    store.close()?;

    // An agent that cannot start from it must be noticed now, while nothing relies on it.
    let (store, tables) = open_store(&data.store_path())?;
    let keys = NodeKeys::new(&founding.node_key);
    let node = keys.node();
    let seed = entropy::bytes::<32>()?;
    let _agent = Agent::new(
        Config::homelab(VERSION),
        keys,
        Boot::Stored { tables },
        *seed,
        clock::now(),
    )?;
    store.close()?;
    data.write_key(&founding.node_key)?;
    Ok(node)
}
