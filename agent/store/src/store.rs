//! The store itself.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lab_crdt_model::store::{Batch, StoreOp, Table, Tables};
use lab_crdt_model::{mutant, reached};
use redb::{
    Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, ReadableTableMetadata,
    StorageBackend, TableError,
};
use tracing::{info, warn};

use crate::codec;
use crate::error::StoreError;
use crate::place::{FilePlace, MadeAnew, Medium, MediumPlace, Place};
use crate::salvage::read_what_is_sound;
use crate::{FORMAT_VERSION, KEY_BYTES_MAX, QUARANTINE_COUNT_MAX, VALUE_BYTES_MAX};

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

/// What a start found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Start {
    /// Every table but the quarantine.
    pub tables: Tables,
    /// Records that did not match their checksum, and were moved to quarantine.
    pub damaged_count: usize,
    /// What was found when the file, or the salvaged one, was opened.
    pub opened: OpenReport,
    /// What was saved, if the file was damaged.
    pub salvaged: Option<SalvageReport>,
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
        Self::open_on(MadeAnew(make))
    }

    /// Opens the store on a medium, for simulators.
    ///
    /// # Errors
    ///
    /// As [`Store::open`].
    pub fn open_on<M: Medium>(medium: M) -> Result<(Self, OpenReport), StoreError> {
        Self::start(Box::new(MediumPlace(medium)))
    }

    /// Sets a damaged file aside and makes a new one with every record that still matches its
    /// checksum.
    ///
    /// The new file takes the place of the old one only when it is complete: a power cut on the way
    /// leaves the damaged one, to be salvaged again. What could not be read is missing, among it
    /// perhaps the newest: an agent must not count on its own counters after it.
    ///
    /// # Errors
    ///
    /// [`StoreError::SetAside`], or those of [`Store::open`] and [`Store::commit`] on the new file.
    pub fn salvage(path: &Path) -> Result<(Self, SalvageReport), StoreError> {
        Self::salvage_place(Box::new(FilePlace(path.to_owned())))
    }

    /// [`Store::salvage`] on a medium, for simulators.
    ///
    /// # Errors
    ///
    /// As [`Store::salvage`].
    pub fn salvage_on<M: Medium>(medium: M) -> Result<(Self, SalvageReport), StoreError> {
        Self::salvage_place(Box::new(MediumPlace(medium)))
    }

    fn salvage_place(mut place: Box<dyn Place>) -> Result<(Self, SalvageReport), StoreError> {
        let report = salvage_in(&mut *place)?;
        Ok((Self::start(place)?.0, report))
    }

    /// What a start does: opens the store and reads every table but the quarantine. A file that
    /// turns out to be damaged, at the opening or by what is read, is salvaged first.
    ///
    /// Opening alone is not enough: a file may pass every check of redb and still not let a record
    /// be read or moved.
    ///
    /// # Errors
    ///
    /// As [`Store::open`], [`Store::load`] and [`Store::salvage`]; damage only if the salvaged file
    /// is damaged again.
    pub fn open_and_load(path: &Path) -> Result<(Self, Start), StoreError> {
        Self::open_and_load_place(Box::new(FilePlace(path.to_owned())))
    }

    /// [`Store::open_and_load`] on a medium, for simulators.
    ///
    /// # Errors
    ///
    /// As [`Store::open_and_load`].
    pub fn open_and_load_on<M: Medium>(medium: M) -> Result<(Self, Start), StoreError> {
        Self::open_and_load_place(Box::new(MediumPlace(medium)))
    }

    fn open_and_load_place(mut place: Box<dyn Place>) -> Result<(Self, Start), StoreError> {
        let mut salvaged = None;
        let (database, opened) = match open_checked(&mut *place) {
            Err(error) if error.is_damage() => {
                salvaged = Some(salvage_in(&mut *place)?);
                open_checked(&mut *place)?
            }
            opened => opened?,
        };
        let mut store = Self {
            place,
            database: Some(database),
        };
        let mut loaded = store.load_all();
        // Read wrong once, it may read well again: the file was opened anew meanwhile.
        if loaded.as_ref().is_err_and(StoreError::is_damage) {
            loaded = store.load_all();
        }
        if salvaged.is_none() && loaded.as_ref().is_err_and(StoreError::is_damage) {
            let _ = guard(|| drop(store.database.take()));
            salvaged = Some(salvage_in(&mut *store.place)?);
            loaded = store.load_all();
        }
        let (tables, damaged_count) = loaded?;
        Ok((
            store,
            Start {
                tables,
                damaged_count,
                opened,
                salvaged,
            },
        ))
    }

    fn load_all(&mut self) -> Result<(Tables, usize), StoreError> {
        let (mut tables, mut damaged_count) = (Tables::new(), 0);
        for table in Table::ALL {
            if table != Table::Quarantine {
                let loaded = self.load(table)?;
                damaged_count += loaded.damaged_count;
                tables.insert(table, loaded.records);
            }
        }
        Ok((tables, damaged_count))
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
            None if mutant!("M05") => {
                return Err(Failure::Panic(operation, "the store is closed".to_owned()));
            }
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
        if mutant!("M05") {
            return Err(failure);
        }
        reached!("the store was opened again after an error");
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
pub(crate) fn guard<T>(work: impl FnOnce() -> T) -> Result<T, String> {
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
            .set_cache_size(place.cache_bytes())
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
    match check_format(&database, name) {
        Ok(is_new) => {
            let is_rolled_back = is_rolled_back.load(Ordering::Relaxed);
            if is_rolled_back {
                info!("newest commit of the store was not complete, went back to the one before");
            }
            Ok((
                database,
                OpenReport {
                    is_new,
                    is_rolled_back,
                },
            ))
        }
        Err(error) => {
            // The drop writes too, and may panic on a damaged file.
            let _ = guard(|| drop(database));
            Err(error)
        }
    }
}

/// Whether the format was written just now.
fn check_format(database: &Database, place: String) -> Result<bool, StoreError> {
    match guard(|| format_version(database)) {
        Ok(Ok(Format::New)) => Ok(true),
        Ok(Ok(Format::Version(found))) if found > FORMAT_VERSION => Err(StoreError::NewerFormat {
            place,
            found,
            known: FORMAT_VERSION,
        }),
        Ok(Ok(Format::Version(_))) => Ok(false),
        Ok(Ok(Format::Unreadable)) => Err(StoreError::Damaged {
            place,
            why: "no readable format version".to_owned(),
        }),
        Ok(Err(error)) => Err(damaged_or_open(place, *error)),
        Err(why) => Err(StoreError::Damaged { place, why }),
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
    ops: impl Iterator<Item = &'a StoreOp> + Clone,
) -> Result<(), Box<redb::Error>> {
    let write = database.begin_write().map_err(wide)?;
    // One table after the other: if redb panics while it opens one, the drop of another one that is
    // open panics too, and a panic while a panic unwinds ends the process.
    for table in Table::ALL {
        let mut ops = ops.clone().filter(|op| table_of(op) == table).peekable();
        if ops.peek().is_none() {
            continue;
        }
        let mut rows = write.open_table(codec::definition(table)).map_err(wide)?;
        for op in ops {
            let (StoreOp::Put { key, .. } | StoreOp::Delete { key, .. }) = op;
            // A damaged tree may lead back to itself. To read one is an error at some depth; to
            // write would go down until the stack is full, which ends the process.
            drop(rows.get(key.as_slice()).map_err(wide)?);
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

const fn table_of(op: &StoreOp) -> Table {
    match op {
        StoreOp::Put { table, .. } | StoreOp::Delete { table, .. } => *table,
    }
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
    let mut last: Option<Vec<u8>> = None;
    for row in rows.iter().map_err(wide)? {
        let (key, stored) = row.map_err(wide)?;
        // A tree that was built on a damaged page may hold a record twice, the old one as well.
        if last.as_deref().is_some_and(|last| last >= key.value()) {
            let why = "keys are out of order".to_owned();
            return Err(Box::new(redb::Error::Corrupted(why)));
        }
        last = Some(key.value().to_vec());
        match codec::open(table as u8, key.value(), stored.value()) {
            Some(value) if with_values => {
                loaded.records.push((key.value().to_vec(), value.to_vec()));
            }
            Some(_) => {}
            None => {
                reached!("a record does not match its checksum");
                damaged.push((key.value().to_vec(), stored.value().to_vec()));
            }
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
            drop(rows.get(key.as_slice()).map_err(wide)?);
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

/// Builds a new file from every sound record and puts it in the place of the old one.
fn salvage_in(place: &mut dyn Place) -> Result<SalvageReport, StoreError> {
    let backend = place.backend().map_err(|error| StoreError::Open {
        place: place.name(),
        source: Box::new(error.into()),
    })?;
    let (batch, damaged_count) = read_what_is_sound(backend, place.cache_bytes());
    let name = place.name();
    let failed = |source| StoreError::SetAside {
        place: name,
        source,
    };
    let saved_count = batch.len();
    let set_aside = match place.spare() {
        Ok(spare) => {
            let (mut store, _) = Store::start(spare)?;
            store.commit(&[batch])?;
            store.close()?;
            place.adopt_spare().map_err(failed)?
        }
        Err(error) => return Err(failed(error)),
    };
    warn!(
        saved_count,
        damaged_count, "damaged store was set aside and salvaged"
    );
    Ok(SalvageReport {
        set_aside,
        saved_count,
        damaged_count,
    })
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
