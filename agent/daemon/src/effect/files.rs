//! Declared files, made so.
//!
//! Each file is replaced as a whole: a temporary file beside it is written, given its owner and mode, made durable
//! and renamed into place, so that a reader or a power cut sees the old content or the new one. Folders are opened
//! one by one from the root and never by path, so that nobody who moves a folder or plants a symbolic link can lead
//! a write elsewhere.

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use lab_agent_core::FileOutcome;
use lab_agent_core::{FileOwned, FileWanted};
use lab_crdt_model::limit::VALUE_BYTES_MAX;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::accounts::{AccountError, Accounts};

/// Longest path, bytes, as the kernel has it.
const PATH_BYTES_MAX: usize = 4096;
/// Most symbolic links on the way to a file, as the kernel has it.
const LINKS_MAX: usize = 40;
/// Mode of folders that have to be made on the way to a file.
const FOLDER_MODE: u32 = 0o755;

/// Why a file could not be made as wanted. What was there before is still there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// The declaration's fault: no path of a file.
    #[error("the path is not absolute, or has an empty, `.` or `..` component or an odd character")]
    Path,
    /// The declaration's fault: more than a file may have.
    #[error("the content has {0} bytes, at most {VALUE_BYTES_MAX} are allowed")]
    TooLong(usize),
    /// The declaration's fault: more than permission bits.
    #[error("the mode {0:o} has bits that are no permissions")]
    Mode(u32),
    /// The declaration's fault: this machine does not know the owner.
    #[error(transparent)]
    Owner(#[from] AccountError),
    /// Something on this machine leads out of the root.
    #[error("`{0}` leads out of the root")]
    Escapes(String),
    /// Possibly an attack: an ordinary user placed a symbolic link on the way.
    #[error(
        "`{name}` on the way is a symbolic link of user {uid}: only links of root and of the agent are followed"
    )]
    ForeignLink {
        /// Its name.
        name: String,
        /// Whose.
        uid: u32,
    },
    /// Links that lead to each other.
    #[error("there are more than {LINKS_MAX} symbolic links on the way")]
    Links,
    /// A folder of the path is something else.
    #[error("`{0}` on the way is not a folder")]
    NotAFolder(String),
    /// A folder, device, pipe or socket has the name of the file.
    #[error("there is something that is not a file")]
    NotAFile,
    /// The agent's own state is not config.
    #[error("the folder belongs to the agent")]
    Agents,
    /// The machine's fault: permissions, a full or failing disk.
    #[error("{step}: {source}")]
    System {
        /// What was being done.
        step: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// Makes files as declared, below one root.
#[derive(Debug)]
pub(crate) struct Files {
    root: PathBuf,
    data_dir: PathBuf,
    accounts: Accounts,
}

/// What is at a path.
#[derive(Debug)]
enum Standing {
    Nothing,
    Link,
    File {
        content: Option<Vec<u8>>,
        mode: u32,
        uid: u32,
        gid: u32,
    },
}

impl Files {
    /// Files go below `root` and never into `data_dir`.
    pub(crate) fn new(root: PathBuf, data_dir: PathBuf, accounts: Accounts) -> Self {
        Self {
            root,
            data_dir,
            accounts,
        }
    }

    /// One outcome per file: wanted ones first, then those to release. A path that is both is wanted.
    pub(crate) fn carry_out(
        &self,
        wanted: &[FileWanted],
        release: &[FileOwned],
    ) -> Vec<FileOutcome> {
        let kept: BTreeSet<&str> = wanted.iter().map(|file| file.path.as_str()).collect();
        let made = wanted
            .iter()
            .map(|file| outcome(&file.path, self.make(file)));
        let released = release.iter().map(|file| {
            let is_kept = kept.contains(file.path.as_str());
            outcome(
                &file.path,
                if is_kept {
                    Ok(false)
                } else {
                    self.release(file)
                },
            )
        });
        made.chain(released).collect()
    }

    /// Makes one file as wanted; `true` if it had to be written.
    fn make(&self, wanted: &FileWanted) -> Result<bool, FileError> {
        if wanted.content.len() > VALUE_BYTES_MAX {
            return Err(FileError::TooLong(wanted.content.len()));
        }
        if wanted.mode & !0o7777 != 0 {
            return Err(FileError::Mode(wanted.mode));
        }
        let (folders, name) = split(&wanted.path)?;
        let (uid, gid) = match &wanted.owner {
            Some(owner) => self.accounts.owner(owner)?,
            None => (None, None),
        };
        let folder = self
            .open_folder(&folders, true)?
            .ok_or(FileError::NotAFile)?;

        let is_owner = |uid_is: u32, gid_is: u32| {
            uid.is_none_or(|uid| uid == uid_is) && gid.is_none_or(|gid| gid == gid_is)
        };
        match standing(&folder, name, wanted.content.len())? {
            Standing::File {
                content: Some(content),
                mode,
                uid,
                gid,
            } if content == wanted.content && mode == wanted.mode && is_owner(uid, gid) => {
                Ok(false)
            }
            Standing::Nothing | Standing::Link | Standing::File { .. } => {
                replace(&folder, name, wanted, uid, gid)?;
                Ok(true)
            }
        }
    }

    /// Removes a file that we wrote, if it still is what we wrote; `true` if it was removed.
    fn release(&self, owned: &FileOwned) -> Result<bool, FileError> {
        let (folders, name) = split(&owned.path)?;
        let Some(folder) = self.open_folder(&folders, false)? else {
            return Ok(false);
        };
        let Standing::File {
            content: Some(content),
            ..
        } = standing(&folder, name, VALUE_BYTES_MAX)?
        else {
            return Ok(false);
        };
        if *blake3::hash(&content).as_bytes() != owned.hash {
            tracing::info!(
                path = owned.path,
                "a released file was changed by someone else and stays"
            );
            return Ok(false);
        }
        rustix::fs::unlinkat(&folder, name, AtFlags::empty()).map_err(system("remove"))?;
        rustix::fs::fsync(&folder).map_err(system("make the removal durable"))?;
        Ok(true)
    }

    /// Opens the folder of a file; `None` if it does not exist and is not to be made.
    fn open_folder(&self, folders: &[&OsStr], makes: bool) -> Result<Option<OwnedFd>, FileError> {
        let root = open_path(&self.root).map_err(system("open the root"))?;
        let data_dir = std::fs::metadata(&self.data_dir)
            .ok()
            .map(|m| (m.dev(), m.ino()));
        let is_whole_machine = self.root == Path::new("/");
        if id(&root)? == data_dir {
            return Err(FileError::Agents);
        }
        let mut way = vec![root];
        let mut ahead: VecDeque<Vec<u8>> = folders.iter().map(|f| f.as_bytes().to_vec()).collect();
        let mut links = 0;
        while let Some(name) = ahead.pop_front() {
            let name = OsStr::from_bytes(&name);
            if name.is_empty() || name == "." {
                continue;
            }
            if name == ".." {
                if way.len() > 1 {
                    way.pop();
                } else if !is_whole_machine {
                    return Err(FileError::Escapes(show(name)));
                }
                continue;
            }
            let here = way.last().expect("the root is never left").as_fd();
            match open_folder_at(here, name) {
                Ok(folder) => {
                    if id(&folder)? == data_dir {
                        return Err(FileError::Agents);
                    }
                    way.push(folder);
                }
                Err(Errno::NOENT) if !makes => return Ok(None),
                Err(Errno::NOENT) => {
                    let made = rustix::fs::mkdirat(here, name, Mode::from_raw_mode(FOLDER_MODE));
                    if let Err(error) = made
                        && error != Errno::EXIST
                    {
                        return Err(system("make the folder")(error));
                    }
                    rustix::fs::fsync(here).map_err(system("make the folder durable"))?;
                    let folder =
                        open_folder_at(here, name).map_err(system("open the new folder"))?;
                    way.push(folder);
                }
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    let target = follow(here, name)?;
                    links += 1;
                    if links > LINKS_MAX {
                        return Err(FileError::Links);
                    }
                    if target.starts_with(b"/") {
                        if !is_whole_machine {
                            return Err(FileError::Escapes(show(name)));
                        }
                        way.truncate(1);
                    }
                    for part in target.split(|b| *b == b'/').rev() {
                        ahead.push_front(part.to_vec());
                    }
                    if ahead.len() > PATH_BYTES_MAX {
                        return Err(FileError::Links);
                    }
                }
                Err(error) => return Err(system("open the folder")(error)),
            }
        }
        Ok(way.pop())
    }
}

/// Where a link leads, if it may be followed.
fn follow(folder: impl rustix::fd::AsFd, name: &OsStr) -> Result<Vec<u8>, FileError> {
    let stat = rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(system("look at the folder"))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
        return Err(FileError::NotAFolder(show(name)));
    }
    let uid = stat.st_uid;
    if uid != 0 && uid != rustix::process::geteuid().as_raw() {
        return Err(FileError::ForeignLink {
            name: show(name),
            uid,
        });
    }
    let target =
        rustix::fs::readlinkat(&folder, name, Vec::new()).map_err(system("read the link"))?;
    Ok(target.into_bytes())
}

/// Looks at what has the name. The content is `None` when it is longer than `length`.
fn standing(folder: &OwnedFd, name: &OsStr, length: usize) -> Result<Standing, FileError> {
    let flags =
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(Standing::Nothing),
        Err(error) => return Err(system("look at the file")(error)),
        Ok(stat) => match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {}
            FileType::Symlink => return Ok(Standing::Link),
            FileType::Directory
            | FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => return Err(FileError::NotAFile),
        },
    }
    let file = match rustix::fs::openat(folder, name, flags, Mode::empty()) {
        Ok(fd) => File::from(fd),
        Err(Errno::NOENT) => return Ok(Standing::Nothing),
        Err(Errno::LOOP) => return Ok(Standing::Link),
        Err(error) => return Err(system("open the file")(error)),
    };
    let metadata = file.metadata().map_err(system_io("look at the file"))?;
    if !metadata.is_file() {
        return Err(FileError::NotAFile);
    }
    let mut content = Vec::new();
    let bound = (length as u64).saturating_add(1);
    file.take(bound)
        .read_to_end(&mut content)
        .map_err(system_io("read the file"))?;
    Ok(Standing::File {
        content: (content.len() <= length).then_some(content),
        mode: metadata.permissions().mode() & 0o7777,
        uid: metadata.uid(),
        gid: metadata.gid(),
    })
}

/// Writes a file beside and renames it into place.
fn replace(
    folder: &OwnedFd,
    name: &OsStr,
    wanted: &FileWanted,
    uid: Option<u32>,
    gid: Option<u32>,
) -> Result<(), FileError> {
    // The same name every time, so that what a power cut left behind is found and removed.
    let hash = blake3::hash(name.as_bytes()).to_hex();
    let beside = format!(".lab-{}.tmp", &hash[..16]);
    let beside = OsStr::new(&beside);
    match rustix::fs::unlinkat(folder, beside, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(system("remove an old temporary file")(error)),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(folder, beside, flags, Mode::from_raw_mode(0o600))
        .map_err(system("make a temporary file"))?;
    let written = fill(File::from(fd), wanted, uid, gid).and_then(|()| {
        rustix::fs::renameat(folder, beside, folder, name).map_err(system("put the file in place"))
    });
    if written.is_err() {
        // It is of no use to anyone; if it cannot be removed, the next attempt tries again.
        let _left = rustix::fs::unlinkat(folder, beside, AtFlags::empty());
        return written;
    }
    rustix::fs::fsync(folder).map_err(system("make the file durable"))
}

fn fill(
    mut file: File,
    wanted: &FileWanted,
    uid: Option<u32>,
    gid: Option<u32>,
) -> Result<(), FileError> {
    file.write_all(&wanted.content)
        .map_err(system_io("write the content"))?;
    let metadata = file
        .metadata()
        .map_err(system_io("look at the temporary file"))?;
    let differs = |want: Option<u32>, is: u32| want.is_some_and(|want| want != is);
    if differs(uid, metadata.uid()) || differs(gid, metadata.gid()) {
        fchown(&file, uid, gid).map_err(system_io("set the owner"))?;
    }
    // After the owner: a change of owner takes special bits away.
    let mode = std::fs::Permissions::from_mode(wanted.mode);
    file.set_permissions(mode)
        .map_err(system_io("set the mode"))?;
    file.sync_all()
        .map_err(system_io("make the content durable"))
}

/// The folders and the name of a path.
fn split(path: &str) -> Result<(Vec<&OsStr>, &OsStr), FileError> {
    let is_odd = path.len() > PATH_BYTES_MAX || path.chars().any(char::is_control);
    let below = path
        .strip_prefix('/')
        .filter(|_| !is_odd)
        .ok_or(FileError::Path)?;
    let mut parts: Vec<&OsStr> = below.split('/').map(OsStr::new).collect();
    if parts
        .iter()
        .any(|part| part.is_empty() || *part == "." || *part == "..")
    {
        return Err(FileError::Path);
    }
    let name = parts.pop().ok_or(FileError::Path)?;
    Ok((parts, name))
}

fn open_path(path: &Path) -> rustix::io::Result<OwnedFd> {
    rustix::fs::open(
        path,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

fn open_folder_at(folder: impl rustix::fd::AsFd, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(folder, name, flags, Mode::empty())
}

/// What tells a folder from every other one, however it is called.
fn id(folder: &OwnedFd) -> Result<Option<(u64, u64)>, FileError> {
    let stat = rustix::fs::fstat(folder).map_err(system("look at the folder"))?;
    Ok(Some((stat.st_dev, stat.st_ino)))
}

fn show(name: &OsStr) -> String {
    name.to_string_lossy().into_owned()
}

fn system(step: &'static str) -> impl Fn(Errno) -> FileError {
    move |errno| FileError::System {
        step,
        source: errno.into(),
    }
}

fn system_io(step: &'static str) -> impl Fn(io::Error) -> FileError {
    move |source| FileError::System { step, source }
}

fn outcome(path: &str, result: Result<bool, FileError>) -> FileOutcome {
    let path = path.to_owned();
    match result {
        Ok(is_changed) => FileOutcome {
            path,
            is_changed,
            error: None,
        },
        Err(error) => FileOutcome {
            path,
            is_changed: false,
            error: Some(error.to_string()),
        },
    }
}
