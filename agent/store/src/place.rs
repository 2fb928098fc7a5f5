//! Where a database lies: a file, or whatever a test hands in.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{Builder, Database, DatabaseError, StorageBackend};

/// Something that can be opened again and again: after every error, redb has to be.
pub(crate) trait Place: Send {
    /// Opens the database, creating an empty one if there is none.
    fn open(&mut self, builder: &Builder) -> Result<Database, DatabaseError>;
    /// Moves what is there out of the way, so that the next `open` starts empty; says where it
    /// went.
    fn set_aside(&mut self) -> io::Result<String>;
    /// For messages.
    fn name(&self) -> String;
}

/// A file on disk.
pub(crate) struct FilePlace(pub(crate) PathBuf);

impl Place for FilePlace {
    fn open(&mut self, builder: &Builder) -> Result<Database, DatabaseError> {
        let is_new = !self.0.try_exists()?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&self.0)?;
        if is_new {
            sync_folder(&self.0)?;
        }
        builder.create_with_backend(FileBackend::new(file)?)
    }

    fn set_aside(&mut self) -> io::Result<String> {
        for n in 1..1000 {
            let aside = self.0.with_extension(format!("damaged-{n}"));
            if !aside.try_exists()? {
                std::fs::rename(&self.0, &aside)?;
                sync_folder(&self.0)?;
                return Ok(aside.display().to_string());
            }
        }
        Err(io::Error::other("1000 damaged files lie there already"))
    }

    fn name(&self) -> String {
        self.0.display().to_string()
    }
}

/// A backend made anew for every open.
pub(crate) struct BackendPlace<F>(pub(crate) F);

impl<B, F> Place for BackendPlace<F>
where
    B: StorageBackend,
    F: FnMut() -> io::Result<B> + Send,
{
    fn open(&mut self, builder: &Builder) -> Result<Database, DatabaseError> {
        builder.create_with_backend((self.0)()?)
    }

    fn set_aside(&mut self) -> io::Result<String> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn name(&self) -> String {
        "the given backend".to_owned()
    }
}

/// Makes the entry of a file in its folder durable.
fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if folder != Path::new("") => File::open(folder)?.sync_all(),
        Some(_) | None => File::open(".")?.sync_all(),
    }
}
