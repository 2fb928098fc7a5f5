//! What a machine belongs to, and the end of that, while no agent runs.

use std::path::{Path, PathBuf};

use lab_agent_core::{Agent, Boot, Config, NodeKeys};
use lab_crdt_model::MeshId;

use crate::clock;
use crate::data_dir::{DataDir, DataDirError};
use crate::entropy;
use crate::found::FoundError;
use crate::run::{VERSION, open_store};

/// Reads from a folder which mesh its node belongs to. Blocks for the disk.
///
/// # Errors
/// See [`FoundError`]; [`DataDirError::Empty`] without a node, [`DataDirError::InUse`] while an agent runs.
pub fn mesh_of(data_dir: &Path) -> Result<MeshId, FoundError> {
    let data = existing(data_dir)?;
    let key = data.read_key()?;
    let keys = NodeKeys::new(&key);
    let (store, tables) = open_store(&data.store_path())?;
    let seed = entropy::bytes::<32>()?;
    let agent = Agent::new(
        Config::homelab(VERSION),
        keys,
        Boot::Stored { tables },
        *seed,
        clock::now(),
    )?;
    store.close()?;
    agent.mesh().ok_or_else(|| empty(data_dir).into())
}

/// Moves a node's folder aside, whole, so that the machine can join another mesh; gives where it is now.
///
/// # Errors
/// See [`DataDirError`]; nothing was moved.
pub fn set_aside(data_dir: &Path, name: &str) -> Result<PathBuf, DataDirError> {
    let data = existing(data_dir)?;
    let from = data.path().to_owned();
    let folder = from.file_name().unwrap_or_default().to_string_lossy();
    let to = (1..)
        .map(|n| match n {
            1 => from.with_file_name(format!("{folder}.{name}")),
            n => from.with_file_name(format!("{folder}.{name}-{n}")),
        })
        .find(|path| !path.exists())
        .unwrap_or_default();
    std::fs::rename(&from, &to).map_err(|source| DataDirError::System {
        step: "move aside",
        path: from,
        source,
    })?;
    Ok(to)
}

/// Locks the folder of a node, which must be there.
fn existing(data_dir: &Path) -> Result<DataDir, DataDirError> {
    if !data_dir.exists() {
        return Err(empty(data_dir));
    }
    let data = DataDir::lock(data_dir)?;
    if data.has_key() {
        Ok(data)
    } else {
        Err(empty(data_dir))
    }
}

fn empty(data_dir: &Path) -> DataDirError {
    DataDirError::Empty {
        path: data_dir.to_owned(),
    }
}
