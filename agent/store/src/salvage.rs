//! Reads what is sound in a database that may be broken anywhere, without touching it.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;

use lab_crdt_model::store::{Batch, StoreOp, Table};
use redb::{
    BackendError, Builder, ConcurrencyMode, ReadOnlyDatabase, ReadOnlyTable, ReadableDatabase,
    ReadableTable, StorageBackend,
};

use crate::codec;
use crate::store::guard;

type Rows = ReadOnlyTable<&'static [u8], &'static [u8]>;

/// Every sound record, and how many were found that are not. Records that cannot be reached from
/// either end of their table are missing without a trace.
pub(crate) fn read_what_is_sound(
    backend: Box<dyn StorageBackend>,
    cache_bytes: usize,
) -> (Batch, usize) {
    let (mut batch, mut damaged_count) = (Batch::new(), 0);
    let Some(database) = open_unrepaired(backend, cache_bytes) else {
        return (batch, damaged_count);
    };
    for table in Table::ALL {
        let mut found = BTreeMap::new();
        for is_backward in [false, true] {
            let _ = guard(|| {
                let read = database.begin_read().ok()?;
                let rows = read.open_table(codec::definition(table)).ok()?;
                walk(&rows, is_backward, &mut found)
            });
        }
        for (key, stored) in found {
            match codec::open(table as u8, &key, &stored).map(<[u8]>::to_vec) {
                Some(value) => batch.push(StoreOp::Put { table, key, value }),
                None => damaged_count += 1,
            }
        }
    }
    let _ = guard(|| drop(database));
    (batch, damaged_count)
}

/// Opens what is there as it is, as a reader beside a writer does. A repair, due whenever the file
/// was not closed, would refuse it for one damaged page and so lose all the others.
fn open_unrepaired(
    backend: Box<dyn StorageBackend>,
    cache_bytes: usize,
) -> Option<ReadOnlyDatabase> {
    let opened = guard(|| {
        let mut builder = Builder::new();
        builder
            .set_cache_size(cache_bytes)
            .set_concurrency_mode(ConcurrencyMode::SingleWriter);
        builder.open_read_only_with_backend(Untouched(backend))
    });
    opened.ok()?.ok()
}

/// Takes rows from one end on, up to the first that cannot be read or is not where it belongs: a
/// damaged tree may lead back to itself.
fn walk(rows: &Rows, is_backward: bool, found: &mut BTreeMap<Vec<u8>, Vec<u8>>) -> Option<()> {
    let mut rows = rows.iter().ok()?;
    let mut last: Option<Vec<u8>> = None;
    loop {
        let next = if is_backward {
            rows.next_back()
        } else {
            rows.next()
        };
        let (key, stored) = next?.ok()?;
        let key = key.value().to_vec();
        let is_in_order = last.as_ref().is_none_or(|last| match is_backward {
            true => *last > key,
            false => *last < key,
        });
        if !is_in_order || (is_backward && found.contains_key(&key)) {
            return None;
        }
        found.insert(key.clone(), stored.value().to_vec());
        last = Some(key);
    }
}

/// Where the header says in which state the file was left, and the bits that ask for a repair; see
/// the design of redb's file format.
const STATE_OFFSET: usize = 9;
const REPAIR_BITS: u8 = 2 | 8;

/// A backend that is only read, locked by nobody, and looks as if it had been closed.
#[derive(Debug)]
struct Untouched(Box<dyn StorageBackend>);

impl StorageBackend for Untouched {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)?;
        let at = usize::try_from(offset).ok();
        if let Some(state) = at
            .and_then(|at| STATE_OFFSET.checked_sub(at))
            .and_then(|at| out.get_mut(at))
        {
            *state &= !REPAIR_BITS;
        }
        Ok(())
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, _: u64, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn close(&self) -> io::Result<()> {
        self.0.close()
    }

    fn try_lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(true)
    }

    fn try_lock_shared_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(true)
    }

    fn lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }

    fn lock_shared_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }

    fn unlock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }

    fn query_lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(false)
    }
}
