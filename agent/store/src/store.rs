//! The store itself.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lab_crdt_model::store::{Batch, StoreOp, Table};
use redb::{
    Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, ReadableTableMetadata,
    StorageBackend, TableError,
};
use tracing::{info, warn};

use crate::codec;
use crate::error::StoreError;
use crate::place::{BackendPlace, FilePlace, Place};
use crate::{
    CACHE_BYTES_MAX, FORMAT_VERSION, KEY_BYTES_MAX, QUARANTINE_COUNT_MAX, VALUE_BYTES_MAX,
};

/// One open database.
///
/// It has one owner; reading and writing block, so a driver calls it from a blocking thread.
pub struct Store {
    place: Box<dyn Place>,
    /// `None` after an error, until the next operation manages to open it again.
    database: Option<Database>,
}

/// What was found when a store was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OpenReport {
    /// There was nothing; an empty store was made.
    pub is_new: bool,
    /// The newest commit in the file was not sound, so the one before it stands.
    ///
    /// Only after a crash: it is the commit that was under way and never acknowledged, or, if the
    /// disk rotted as well, the last acknowledged one. Rot in a file that was closed cleanly is
    /// [`StoreError::Damaged`].
    pub is_rolled_back: bool,
}

/// A key and its value.
pub type Record = (Vec<u8>, Vec<u8>);

/// The records of one table, by key.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Loaded {
    /// Keys and values; every one matched its checksum.
    pub records: Vec<Record>,
    /// How many did not, and were moved to quarantine.
    pub damaged_count: usize,
}

/// What a check found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CheckReport {
    /// The file's own checksums did not match and redb went back to an earlier sound commit.
    pub is_repaired: bool,
    /// Records that did not match their checksum, and were moved to quarantine.
    pub damaged_count: usize,
}

/// What a salvage saved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SalvageReport {
    /// Where the damaged file is.
    pub set_aside: String,
    /// How many records were copied.
    pub saved_count: usize,
    /// How many were found and did not match their checksum. Others may be lost without a trace.
    pub damaged_count: usize,
}

impl Store {
    /// Opens the store in a file, making it if there is none; readable by its owner only.
    ///
    /// Verifies the whole file against redb's own checksums first: 81 % of single flipped bits
    /// would otherwise be read back as good data.
    ///
    /// # Errors
    ///
    /// [`StoreError::InUse`], [`StoreError::NewerFormat`], [`StoreError::Damaged`],
    /// [`StoreError::Open`].
    pub fn open(path: &Path) -> Result<(Self, OpenReport), StoreError> {
        Self::start(Box::new(FilePlace(path.to_owned())))
    }

    /// Opens the store on any backend of redb, for tests and simulators; `make` is called at every
    /// open.
    ///
    /// # Errors
    ///
    /// As [`Store::open`].
    pub fn open_with_backend<B, F>(make: F) -> Result<(Self, OpenReport), StoreError>
    where
        B: StorageBackend,
        F: FnMut() -> std::io::Result<B> + Send + 'static,
    {
        Self::start(Box::new(BackendPlace(make)))
    }

    /// Sets a damaged file aside and makes a new one with every record that still matches its
    /// checksum.
    ///
    /// What could not be read is missing, among it perhaps the newest: an agent must not count on
    /// its own counters after it.
    ///
    /// # Errors
    ///
    /// [`StoreError::SetAside`], or those of [`Store::open`] and [`Store::commit`] on the new file.
    pub fn salvage(path: &Path) -> Result<(Self, SalvageReport), StoreError> {
        let mut place = FilePlace(path.to_owned());
        let (batch, damaged_count) = guard(|| read_what_is_sound(&mut place)).unwrap_or_default();
        let set_aside = place.set_aside().map_err(|source| StoreError::SetAside {
            place: place.name(),
            source,
        })?;
        let (mut store, _) = Self::start(Box::new(place))?;
        let saved_count = batch.len();
        store.commit(&[batch])?;
        warn!(
            saved_count,
            damaged_count, "damaged store was set aside and salvaged"
        );
        Ok((
            store,
            SalvageReport {
                set_aside,
                saved_count,
                damaged_count,
            },
        ))
    }

    fn start(mut place: Box<dyn Place>) -> Result<(Self, OpenReport), StoreError> {
        let (database, report) = open_checked(&mut *place)?;
        Ok((
            Self {
                place,
                database: Some(database),
            },
            report,
        ))
    }

    /// Makes batches durable, together or not at all; later ones see earlier ones.
    ///
    /// # Errors
    ///
    /// [`StoreError::TooLarge`] before anything is written. After any other error the batches may
    /// or may not be there and the file has been opened again: the caller writes them again.
    pub fn commit(&mut self, batches: &[Batch]) -> Result<(), StoreError> {
        let ops = || batches.iter().flatten();
        for op in ops() {
            check_size(op)?;
        }
        let op_count = ops().count();
        if op_count == 0 {
            return Ok(());
        }
        let done = self.run("commit", |database| write(database, ops()));
        done.map_err(|failure| failure.into_error(|source| StoreError::Commit { op_count, source }))
    }

    /// Reads a whole table, in the order of its keys; moves damaged records to quarantine.
    ///
    /// # Errors
    ///
    /// [`StoreError::Load`] or [`StoreError::Panicked`]; the file has been opened again.
    pub fn load(&mut self, table: Table) -> Result<Loaded, StoreError> {
        let (loaded, damaged) = self.read(table, true)?;
        self.quarantine(table, &damaged)?;
        Ok(loaded)
    }

    /// Checks the whole file and every record; for a schedule, some times a day at most.
    ///
    /// Reads everything and blocks writers meanwhile: about 40 ms per 100,000 records on a fast
    /// disk.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] if the file cannot be trusted any more; the others as
    /// [`Store::load`].
    pub fn check(&mut self) -> Result<CheckReport, StoreError> {
        let place = self.place.name();
        let is_sound = self
            .run("check", |database| database.check_integrity().map_err(wide))
            .map_err(|failure| failure.into_error(|why| damaged_or_open(place, *why)))?;
        let mut damaged_count = 0;
        for table in Table::ALL {
            let (_, damaged) = self.read(table, false)?;
            damaged_count += damaged.len();
            self.quarantine(table, &damaged)?;
        }
        Ok(CheckReport {
            is_repaired: !is_sound,
            damaged_count,
        })
    }

    /// Closes the file cleanly, so that the next open needs no repair. Dropping does the same,
    /// unseen.
    ///
    /// # Errors
    ///
    /// [`StoreError::Open`] if the last write of the file failed; nothing that was committed is
    /// lost.
    pub fn close(mut self) -> Result<(), StoreError> {
        let Some(database) = self.database.take() else {
            return Ok(());
        };
        let place = self.place.name();
        match guard(|| database.close()) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(StoreError::Open {
                place,
                source: Box::new(error.into()),
            }),
            Err(why) => Err(StoreError::Panicked {
                operation: "close",
                why,
            }),
        }
    }

    fn read(
        &mut self,
        table: Table,
        with_values: bool,
    ) -> Result<(Loaded, Vec<Record>), StoreError> {
        let found = self.run("load", |database| scan(database, table, with_values));
        found.map_err(|failure| failure.into_error(|source| StoreError::Load { table, source }))
    }

    fn quarantine(&mut self, table: Table, damaged: &[Record]) -> Result<(), StoreError> {
        if damaged.is_empty() {
            return Ok(());
        }
        warn!(
            ?table,
            count = damaged.len(),
            "damaged records were moved to quarantine"
        );
        let op_count = damaged.len();
        self.run("quarantine", |database| {
            move_damaged(database, table, damaged)
        })
        .map_err(|failure| failure.into_error(|source| StoreError::Commit { op_count, source }))
    }

    /// Does one thing with the open database. After a failure it is closed and opened again.
    fn run<T>(
        &mut self,
        operation: &'static str,
        work: impl FnOnce(&mut Database) -> Result<T, Box<redb::Error>>,
    ) -> Result<T, Failure> {
        let mut database = match self.database.take() {
            Some(database) => database,
            None => open_checked(&mut *self.place).map_err(Failure::Reopen)?.0,
        };
        let done = guard(|| work(&mut database));
        let failure = match done {
            Ok(Ok(value)) => {
                self.database = Some(database);
                return Ok(value);
            }
            Ok(Err(error)) => Failure::Redb(error),
            Err(why) => Failure::Panic(operation, why),
        };
        // The drop writes too, and has to be over before the file is opened again.
        let _ = guard(|| drop(database));
        match open_checked(&mut *self.place) {
            Ok((database, _)) => self.database = Some(database),
            Err(error) => warn!(why = %error, "store could not be opened again; will retry"),
        }
        Err(failure)
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("place", &self.place.name())
            .field("is_open", &self.database.is_some())
            .finish()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = guard(|| drop(self.database.take()));
    }
}

/// How an operation ended that did not succeed.
enum Failure {
    Reopen(StoreError),
    Redb(Box<redb::Error>),
    Panic(&'static str, String),
}

impl Failure {
    fn into_error(self, wrap: impl FnOnce(Box<redb::Error>) -> StoreError) -> StoreError {
        match self {
            Self::Reopen(error) => error,
            Self::Redb(source) => wrap(source),
            Self::Panic(operation, why) => StoreError::Panicked { operation, why },
        }
    }
}

/// Runs what may panic inside redb; the panic's message is the error.
fn guard<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic: Box<dyn Any + Send>| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        text.or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "no message".to_owned())
    })
}

fn open_checked(place: &mut dyn Place) -> Result<(Database, OpenReport), StoreError> {
    let name = place.name();
    let is_rolled_back = Arc::new(AtomicBool::new(false));
    let opened = guard(|| {
        let seen = Arc::clone(&is_rolled_back);
        let mut builder = Builder::new();
        builder
            .set_cache_size(CACHE_BYTES_MAX)
            .set_check_integrity_on_open(true)
            .set_repair_callback(move |check| {
                // The check reports 0.0, 0.6 and 0.9; and 0.3 only when it gives up the newest
                // commit.
                seen.fetch_or((0.1..0.5).contains(&check.progress()), Ordering::Relaxed);
            });
        place.open(&builder)
    });
    let database = match opened {
        Ok(Ok(database)) => database,
        Ok(Err(DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch)) => {
            return Err(StoreError::InUse { place: name });
        }
        Ok(Err(error)) => return Err(damaged_or_open(name, error.into())),
        Err(why) => return Err(StoreError::Damaged { place: name, why }),
    };
    let found = match guard(|| format_version(&database)) {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => return Err(damaged_or_open(name, *error)),
        Err(why) => return Err(StoreError::Damaged { place: name, why }),
    };
    match found {
        Format::Version(version) if version > FORMAT_VERSION => Err(StoreError::NewerFormat {
            place: name,
            found: version,
            known: FORMAT_VERSION,
        }),
        Format::Version(_) | Format::New => {
            let is_rolled_back = is_rolled_back.load(Ordering::Relaxed);
            if is_rolled_back {
                info!("newest commit of the store was not complete, went back to the one before");
            }
            Ok((
                database,
                OpenReport {
                    is_new: matches!(found, Format::New),
                    is_rolled_back,
                },
            ))
        }
        Format::Unreadable => Err(StoreError::Damaged {
            place: name,
            why: "no readable format version".to_owned(),
        }),
    }
}

enum Format {
    New,
    Version(u32),
    Unreadable,
}

/// Reads the version of the format; writes ours, with every table, into a database that has no
/// table at all.
fn format_version(database: &Database) -> Result<Format, Box<redb::Error>> {
    let read = database.begin_read().map_err(wide)?;
    match read.open_table(codec::FORMAT) {
        Ok(table) => {
            let Some(stored) = table.get(codec::FORMAT_KEY).map_err(wide)? else {
                return Ok(Format::Unreadable);
            };
            let version = codec::open(codec::FORMAT_TAG, codec::FORMAT_KEY, stored.value())
                .and_then(|value| value.try_into().ok())
                .map(u32::from_le_bytes);
            return Ok(version.map_or(Format::Unreadable, Format::Version));
        }
        Err(TableError::TableDoesNotExist(_)) => {}
        Err(error) => return Err(wide(error)),
    }
    if read.list_tables().map_err(wide)?.next().is_some() {
        return Ok(Format::Unreadable);
    }
    let write = database.begin_write().map_err(wide)?;
    {
        let stored = codec::seal(
            codec::FORMAT_TAG,
            codec::FORMAT_KEY,
            &FORMAT_VERSION.to_le_bytes(),
        );
        let mut table = write.open_table(codec::FORMAT).map_err(wide)?;
        table
            .insert(codec::FORMAT_KEY, stored.as_slice())
            .map_err(wide)?;
    }
    for table in Table::ALL {
        write.open_table(codec::definition(table)).map_err(wide)?;
    }
    write.commit().map_err(wide)?;
    Ok(Format::New)
}

fn check_size(op: &StoreOp) -> Result<(), StoreError> {
    let (table, key_bytes, value_bytes) = match op {
        StoreOp::Put { table, key, value } => (*table, key.len(), value.len()),
        StoreOp::Delete { table, key } => (*table, key.len(), 0),
    };
    if key_bytes > KEY_BYTES_MAX || value_bytes > VALUE_BYTES_MAX {
        return Err(StoreError::TooLarge {
            table,
            key_bytes,
            value_bytes,
        });
    }
    Ok(())
}

fn write<'a>(
    database: &Database,
    ops: impl Iterator<Item = &'a StoreOp>,
) -> Result<(), Box<redb::Error>> {
    let write = database.begin_write().map_err(wide)?;
    {
        let mut open: [Option<redb::Table<'_, &[u8], &[u8]>>; Table::ALL.len()] =
            Default::default();
        for op in ops {
            let table = match op {
                StoreOp::Put { table, .. } | StoreOp::Delete { table, .. } => *table,
            };
            let slot = &mut open[table as usize - 1];
            let rows = match slot {
                Some(rows) => rows,
                None => slot.insert(write.open_table(codec::definition(table)).map_err(wide)?),
            };
            match op {
                StoreOp::Put { key, value, .. } => {
                    let stored = codec::seal(table as u8, key, value);
                    rows.insert(key.as_slice(), stored.as_slice())
                        .map_err(wide)?;
                }
                StoreOp::Delete { key, .. } => {
                    rows.remove(key.as_slice()).map_err(wide)?;
                }
            }
        }
    }
    write.commit().map_err(wide)
}

/// Sound records, and damaged ones as they are stored.
fn scan(
    database: &Database,
    table: Table,
    with_values: bool,
) -> Result<(Loaded, Vec<Record>), Box<redb::Error>> {
    let (mut loaded, mut damaged) = (Loaded::default(), Vec::new());
    let read = database.begin_read().map_err(wide)?;
    let rows = match read.open_table(codec::definition(table)) {
        Ok(rows) => rows,
        Err(TableError::TableDoesNotExist(_)) => return Ok((loaded, damaged)),
        Err(error) => return Err(wide(error)),
    };
    for row in rows.iter().map_err(wide)? {
        let (key, stored) = row.map_err(wide)?;
        match codec::open(table as u8, key.value(), stored.value()) {
            Some(value) if with_values => {
                loaded.records.push((key.value().to_vec(), value.to_vec()));
            }
            Some(_) => {}
            None => damaged.push((key.value().to_vec(), stored.value().to_vec())),
        }
    }
    loaded.damaged_count = damaged.len();
    Ok((loaded, damaged))
}

fn move_damaged(
    database: &Database,
    table: Table,
    damaged: &[Record],
) -> Result<(), Box<redb::Error>> {
    let write = database.begin_write().map_err(wide)?;
    {
        let mut rows = write.open_table(codec::definition(table)).map_err(wide)?;
        for (key, _) in damaged {
            rows.remove(key.as_slice()).map_err(wide)?;
        }
    }
    if table != Table::Quarantine {
        let mut kept = write
            .open_table(codec::definition(Table::Quarantine))
            .map_err(wide)?;
        let room = QUARANTINE_COUNT_MAX.saturating_sub(kept.len().map_err(wide)?);
        for (key, stored) in damaged
            .iter()
            .take(usize::try_from(room).unwrap_or(usize::MAX))
        {
            let key = codec::quarantine_key(table, key);
            let stored = codec::seal(Table::Quarantine as u8, &key, stored);
            kept.insert(key.as_slice(), stored.as_slice())
                .map_err(wide)?;
        }
    }
    write.commit().map_err(wide)
}

/// Every sound record of a database that may be broken anywhere: stops at what cannot be read.
fn read_what_is_sound(place: &mut dyn Place) -> (Batch, usize) {
    let (mut batch, mut damaged_count) = (Batch::new(), 0);
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES_MAX);
    let Ok(database) = place.open(&builder) else {
        return (batch, damaged_count);
    };
    for table in Table::ALL {
        let _ = guard(|| {
            let read = database.begin_read().ok()?;
            let rows = read.open_table(codec::definition(table)).ok()?;
            for row in rows.iter().ok()? {
                let (key, stored) = row.ok()?;
                match codec::open(table as u8, key.value(), stored.value()) {
                    Some(value) => batch.push(StoreOp::Put {
                        table,
                        key: key.value().to_vec(),
                        value: value.to_vec(),
                    }),
                    None => damaged_count += 1,
                }
            }
            Some(())
        });
    }
    let _ = guard(|| drop(database));
    (batch, damaged_count)
}

/// Tells a file that cannot be trusted from a machine that does not let us read it.
fn damaged_or_open(place: String, error: redb::Error) -> StoreError {
    match error {
        redb::Error::Corrupted(why) => StoreError::Damaged { place, why },
        redb::Error::UpgradeRequired(version) => StoreError::Damaged {
            place,
            why: format!("written by redb format {version}"),
        },
        redb::Error::Io(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof
            ) =>
        {
            StoreError::Damaged {
                place,
                why: error.to_string(),
            }
        }
        other => StoreError::Open {
            place,
            source: Box::new(other),
        },
    }
}

fn wide(error: impl Into<redb::Error>) -> Box<redb::Error> {
    Box::new(error.into())
}

#[cfg(test)]
mod tests;
