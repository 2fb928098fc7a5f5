//! The agent's own folder: its key, its store, and a lock so that only one agent lives in it.
//!
//! ```text
//! DIR/               0700
//!   agent.lock       held while an agent runs; stays when it stops
//!   node.key         0600, one line: `lab node key 1 ` and 52 characters of base32; with it, a node is here
//!   joining.key      0600, two lines: the key as above, then `lab token ` and what tells the token; until joined
//!   agent.redb       0600, the store
//!   lab.sock         the local socket, unless it is elsewhere
//! ```

use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};

use lab_crdt_model::id::{base32, unbase32};
use zeroize::Zeroizing;

const KEY_PREFIX: &str = "lab node key 1 ";
const TOKEN_PREFIX: &str = "lab token ";
/// Longest key file that is read, bytes.
const KEY_FILE_BYTES_MAX: u64 = 256;

/// Why the agent's folder cannot be used. Nothing was changed, unless it says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Nobody founded or joined here yet.
    #[error("find a node in {}: there is none; found a mesh or join one first", path.display())]
    Empty {
        /// Where.
        path: PathBuf,
    },
    /// There is a node here already; it was left alone.
    #[error("make a node in {}: there is one already", path.display())]
    Occupied {
        /// Where.
        path: PathBuf,
    },
    /// Another agent runs in this folder.
    #[error("lock {}: another agent is running there", path.display())]
    InUse {
        /// Where.
        path: PathBuf,
    },
    /// Others may read or replace the key: whoever could has to be ruled out first.
    #[error("trust {}: {why}", path.display())]
    Exposed {
        /// Which file or folder.
        path: PathBuf,
        /// What is wrong with its mode or owner.
        why: String,
    },
    /// The key file is damaged or was written by a later version.
    #[error("read {}: this is no node key of version 1", path.display())]
    Key {
        /// Which file.
        path: PathBuf,
    },
    /// The machine's fault.
    #[error("{step} {}", path.display())]
    System {
        /// What was being done.
        step: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The agent's folder, locked as long as this lives.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Opens and locks a folder, making it if it is not there.
    ///
    /// # Errors
    /// See [`DataDirError`].
    pub fn lock(path: &Path) -> Result<Self, DataDirError> {
        let failed = |step| {
            move |source| DataDirError::System {
                step,
                path: path.to_owned(),
                source,
            }
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(failed("make"))?;
        let path = path.canonicalize().map_err(failed("find"))?;
        let metadata = path.metadata().map_err(failed("look at"))?;
        let (owner, me) = (metadata.uid(), rustix::process::geteuid().as_raw());
        if owner != me {
            let why = format!("it belongs to user {owner}, the agent runs as user {me}");
            return Err(DataDirError::Exposed { path, why });
        }
        if metadata.permissions().mode() & 0o077 != 0 {
            std::fs::set_permissions(&path, Permissions::from_mode(0o700))
                .map_err(failed("close"))?;
        }
        let lock_path = path.join("agent.lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&lock_path);
        let lock = lock.map_err(failed("open the lock of"))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(DataDirError::InUse { path }),
            Err(TryLockError::Error(source)) => Err(DataDirError::System {
                step: "lock",
                path: lock_path,
                source,
            }),
        }
    }

    /// Where it is, without symbolic links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the store is.
    pub fn store_path(&self) -> PathBuf {
        self.path.join("agent.redb")
    }

    /// Whether there is a node here.
    pub fn has_key(&self) -> bool {
        self.key_path().exists()
    }

    /// Reads the node's secret key.
    ///
    /// # Errors
    /// [`DataDirError::Empty`] without one, [`DataDirError::Exposed`] if others could have read it.
    pub fn read_key(&self) -> Result<Zeroizing<[u8; 32]>, DataDirError> {
        let path = self.key_path();
        let text = read_closed(&path)?.ok_or_else(|| DataDirError::Empty {
            path: self.path.clone(),
        })?;
        parse_key(text.trim_end()).ok_or(DataDirError::Key { path })
    }

    /// Writes the node's secret key, durably. Made last of all that a new node needs: with it, the node is there.
    ///
    /// # Errors
    /// [`DataDirError::Occupied`] if there is one already.
    pub fn write_key(&self, key: &[u8; 32]) -> Result<(), DataDirError> {
        self.refuse_occupied()?;
        self.write(&self.key_path(), &print_key(key))
    }

    /// The key with which joining with this token was begun, if it was.
    ///
    /// A token is spent on a key, so that a joining that was broken off can only go on with the same one.
    pub(crate) fn read_joining(
        &self,
        token: &[u8; 32],
    ) -> Result<Option<Zeroizing<[u8; 32]>>, DataDirError> {
        let path = self.joining_path();
        let Some(text) = read_closed(&path)? else {
            return Ok(None);
        };
        let Some((key, of)) = text.split_once('\n') else {
            return Ok(None);
        };
        let is_same = of.trim_end().strip_prefix(TOKEN_PREFIX) == Some(base32(token).as_str());
        Ok(parse_key(key).filter(|_| is_same))
    }

    /// Begins to join: forgets an earlier attempt with another token and keeps the key until the node is there.
    pub(crate) fn begin_joining(
        &self,
        token: &[u8; 32],
        key: &[u8; 32],
    ) -> Result<(), DataDirError> {
        self.clear()?;
        let key = print_key(key);
        let text = Zeroizing::new(format!("{}{TOKEN_PREFIX}{}\n", key.as_str(), base32(token)));
        self.write(&self.joining_path(), &text)
    }

    /// The node has joined: its key takes the place it has for good.
    pub(crate) fn end_joining(&self, key: &[u8; 32]) -> Result<(), DataDirError> {
        self.write_key(key)?;
        let path = self.joining_path();
        std::fs::remove_file(&path).map_err(|source| DataDirError::System {
            step: "remove",
            path,
            source,
        })
    }

    /// Forgets what a broken-off founding or joining left behind; never a node.
    pub(crate) fn clear(&self) -> Result<(), DataDirError> {
        self.refuse_occupied()?;
        for path in [self.joining_path(), self.store_path()] {
            match std::fs::remove_file(&path) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(source) => {
                    return Err(DataDirError::System {
                        step: "remove",
                        path,
                        source,
                    });
                }
            }
        }
        Ok(())
    }

    fn refuse_occupied(&self) -> Result<(), DataDirError> {
        if self.has_key() {
            Err(DataDirError::Occupied {
                path: self.path.clone(),
            })
        } else {
            Ok(())
        }
    }

    /// Writes a file that nobody else may read, durably and whole.
    fn write(&self, path: &Path, text: &str) -> Result<(), DataDirError> {
        let beside = path.with_extension("new");
        let failed = |step| {
            let path = path.to_owned();
            move |source| DataDirError::System { step, path, source }
        };
        let options = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&beside);
        let written = options.and_then(|mut file| {
            file.set_permissions(Permissions::from_mode(0o600))?;
            file.write_all(text.as_bytes())?;
            file.sync_all()
        });
        written.map_err(failed("write"))?;
        std::fs::rename(&beside, path).map_err(failed("put in place"))?;
        let folder = File::open(&self.path).and_then(|folder| folder.sync_all());
        folder.map_err(failed("make durable"))
    }

    fn joining_path(&self) -> PathBuf {
        self.path.join("joining.key")
    }

    fn key_path(&self) -> PathBuf {
        self.path.join("node.key")
    }
}

fn print_key(key: &[u8; 32]) -> Zeroizing<String> {
    let digits = Zeroizing::new(base32(key));
    Zeroizing::new(format!("{KEY_PREFIX}{}\n", digits.as_str()))
}

fn parse_key(line: &str) -> Option<Zeroizing<[u8; 32]>> {
    line.strip_prefix(KEY_PREFIX)
        .and_then(unbase32::<32>)
        .map(Zeroizing::new)
}

/// Reads a file with a secret, if it is there and closed to others. What is no text reads as empty.
fn read_closed(path: &Path) -> Result<Option<Zeroizing<String>>, DataDirError> {
    let failed = |step| {
        let path = path.to_owned();
        move |source| DataDirError::System { step, path, source }
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(failed("open")(source)),
    };
    let mode = file
        .metadata()
        .map_err(failed("look at"))?
        .permissions()
        .mode()
        & 0o777;
    if mode & 0o077 != 0 {
        let why = format!("its mode is {mode:03o}, others may have read the key; it must be 600");
        return Err(DataDirError::Exposed {
            path: path.to_owned(),
            why,
        });
    }
    let mut text = Zeroizing::new(String::with_capacity(KEY_FILE_BYTES_MAX as usize));
    match file.take(KEY_FILE_BYTES_MAX).read_to_string(&mut text) {
        Ok(_length) => {}
        Err(e) if e.kind() == io::ErrorKind::InvalidData => text.clear(),
        Err(source) => return Err(failed("read")(source)),
    }
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_key_reads_back_and_is_closed_to_others() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::lock(&dir.path().join("a/b")).unwrap();
        assert!(matches!(data.read_key(), Err(DataDirError::Empty { .. })));

        data.write_key(&[7; 32]).unwrap();

        assert_eq!(*data.read_key().unwrap(), [7; 32]);
        assert_eq!(mode(&data.path().join("node.key")), 0o600);
        assert_eq!(mode(data.path()), 0o700);
    }

    #[test]
    fn a_key_is_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::lock(dir.path()).unwrap();
        data.write_key(&[7; 32]).unwrap();

        assert!(matches!(
            data.write_key(&[8; 32]),
            Err(DataDirError::Occupied { .. })
        ));

        assert_eq!(*data.read_key().unwrap(), [7; 32]);
    }

    #[test]
    fn two_agents_cannot_share_a_folder() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDir::lock(dir.path()).unwrap();

        assert!(matches!(
            DataDir::lock(dir.path()),
            Err(DataDirError::InUse { .. })
        ));

        drop(first);
        assert!(DataDir::lock(dir.path()).is_ok());
    }

    #[test]
    fn an_exposed_or_damaged_key_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::lock(dir.path()).unwrap();
        data.write_key(&[7; 32]).unwrap();
        let path = data.path().join("node.key");

        std::fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(data.read_key(), Err(DataDirError::Exposed { .. })));
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();

        let good = std::fs::read_to_string(&path).unwrap();
        let newer = good.replace("key 1", "key 2");
        for bad in [
            "",
            "lab node key 1 ",
            &good[..40],
            newer.as_str(),
            "\u{fffd}",
        ] {
            std::fs::write(&path, bad).unwrap();
            assert!(
                matches!(data.read_key(), Err(DataDirError::Key { .. })),
                "{bad:?}"
            );
        }
        std::fs::write(&path, b"lab node key 1 \xff\xfe").unwrap();
        assert!(matches!(data.read_key(), Err(DataDirError::Key { .. })));
    }

    #[test]
    fn an_open_folder_is_closed_to_others() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();

        let data = DataDir::lock(dir.path()).unwrap();

        assert_eq!(mode(data.path()), 0o700);
    }

    #[test]
    fn joining_goes_on_with_the_same_token_and_begins_anew_with_another() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::lock(dir.path()).unwrap();
        assert!(data.read_joining(&[1; 32]).unwrap().is_none());

        data.begin_joining(&[1; 32], &[7; 32]).unwrap();
        std::fs::write(data.store_path(), "half").unwrap();

        assert_eq!(
            **data.read_joining(&[1; 32]).unwrap().as_ref().unwrap(),
            [7; 32]
        );
        assert!(data.read_joining(&[2; 32]).unwrap().is_none());
        assert!(!data.has_key());

        data.begin_joining(&[2; 32], &[8; 32]).unwrap();
        assert!(!data.store_path().exists());
        data.end_joining(&[8; 32]).unwrap();
        assert_eq!(*data.read_key().unwrap(), [8; 32]);
        assert!(data.read_joining(&[2; 32]).unwrap().is_none());
        assert!(matches!(
            data.begin_joining(&[3; 32], &[9; 32]),
            Err(DataDirError::Occupied { .. })
        ));
    }
}
