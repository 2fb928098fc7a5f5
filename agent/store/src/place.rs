//! Where a database lies: a file, or whatever a test hands in.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{Builder, Database, DatabaseError, StorageBackend};

use crate::CACHE_BYTES_MAX;

/// Something that can be opened again and again: after every error, redb has to be.
pub(crate) trait Place: Send {
    /// Opens the database, creating an empty one if there is none.
    fn open(&mut self, builder: &Builder) -> Result<Database, DatabaseError>;
    /// What is here as bytes, for reading only.
    fn backend(&mut self) -> io::Result<Box<dyn StorageBackend>>;
    /// An empty second place, to build the successor of what is here.
    fn spare(&mut self) -> io::Result<Box<dyn Place>>;
    /// Puts what lies in the spare place here, at one stroke and durably; what was here is kept
    /// elsewhere, and the answer says where.
    fn adopt_spare(&mut self) -> io::Result<String>;
    /// For messages.
    fn name(&self) -> String;
    /// Memory for pages, bytes.
    fn cache_bytes(&self) -> usize {
        CACHE_BYTES_MAX
    }
}

/// A file on disk.
pub(crate) struct FilePlace(pub(crate) PathBuf);

impl FilePlace {
    fn spare_path(&self) -> PathBuf {
        self.0.with_extension("salvage")
    }
}

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

    fn backend(&mut self) -> io::Result<Box<dyn StorageBackend>> {
        let backend = FileBackend::new(File::open(&self.0)?).map_err(io::Error::other)?;
        Ok(Box::new(backend))
    }

    fn spare(&mut self) -> io::Result<Box<dyn Place>> {
        let path = self.spare_path();
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(Box::new(Self(path))),
        }
    }

    fn adopt_spare(&mut self) -> io::Result<String> {
        for n in 1..1000 {
            let aside = self.0.with_extension(format!("damaged-{n}"));
            match std::fs::hard_link(&self.0, &aside) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                linked => linked?,
            }
            sync_folder(&self.0)?;
            // At every moment one of the two lies here: an agent that finds no file at all would
            // take itself for a new machine.
            std::fs::rename(self.spare_path(), &self.0)?;
            sync_folder(&self.0)?;
            return Ok(aside.display().to_string());
        }
        Err(io::Error::other("1000 damaged files lie there already"))
    }

    fn name(&self) -> String {
        self.0.display().to_string()
    }
}

/// Where a simulator or test keeps a store, in place of a file.
pub trait Medium: Send + 'static {
    /// What redb reads and writes.
    type Backend: StorageBackend;

    /// Opens it; called at the start and again after every error.
    ///
    /// # Errors
    ///
    /// As for a file that cannot be opened.
    fn open(&mut self) -> io::Result<Self::Backend>;

    /// An empty second medium, to build the successor of a damaged store on.
    ///
    /// # Errors
    ///
    /// `Unsupported` unless the medium can be salvaged.
    fn spare(&mut self) -> io::Result<Self>
    where
        Self: Sized,
    {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Puts what the last spare medium holds in place of what is here, at one stroke and durably;
    /// says where the old went.
    ///
    /// # Errors
    ///
    /// `Unsupported` unless the medium can be salvaged.
    fn adopt_spare(&mut self) -> io::Result<String> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Memory that redb may use for pages, bytes.
    fn cache_bytes(&self) -> usize {
        CACHE_BYTES_MAX
    }
}

/// A place on a medium.
pub(crate) struct MediumPlace<M>(pub(crate) M);

impl<M: Medium> Place for MediumPlace<M> {
    fn open(&mut self, builder: &Builder) -> Result<Database, DatabaseError> {
        builder.create_with_backend(self.0.open()?)
    }

    fn backend(&mut self) -> io::Result<Box<dyn StorageBackend>> {
        Ok(Box::new(self.0.open()?))
    }

    fn spare(&mut self) -> io::Result<Box<dyn Place>> {
        Ok(Box::new(Self(self.0.spare()?)))
    }

    fn adopt_spare(&mut self) -> io::Result<String> {
        self.0.adopt_spare()
    }

    fn name(&self) -> String {
        "the given backend".to_owned()
    }

    fn cache_bytes(&self) -> usize {
        self.0.cache_bytes()
    }
}

/// A backend made anew for every open.
pub(crate) struct MadeAnew<F>(pub(crate) F);

impl<B, F> Medium for MadeAnew<F>
where
    B: StorageBackend,
    F: FnMut() -> io::Result<B> + Send + 'static,
{
    type Backend = B;

    fn open(&mut self) -> io::Result<B> {
        (self.0)()
    }
}

/// Makes the entry of a file in its folder durable.
fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if folder != Path::new("") => File::open(folder)?.sync_all(),
        Some(_) | None => File::open(".")?.sync_all(),
    }
}
