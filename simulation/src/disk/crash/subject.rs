//! What is searched: the agent's store, and plain redb in several versions.

use lab_agent_store::Store;
use lab_crdt_model::store::{Batch, StoreOp, Table, Tables};

use crate::disk::real::DiskMedium;
use crate::disk::sim_disk::SimDisk;

/// A way to keep tables on a simulated disk.
pub trait Subject {
    /// What is open.
    type Open;

    /// Opens what is there, or makes it.
    ///
    /// # Errors
    ///
    /// What the database said; damage is an error.
    fn open(disk: &SimDisk) -> Result<Self::Open, String>;

    /// Makes a batch durable.
    ///
    /// # Errors
    ///
    /// What the database said.
    fn commit(open: &mut Self::Open, batch: &Batch) -> Result<(), String>;

    /// Reads every table but the quarantine.
    ///
    /// # Errors
    ///
    /// What the database said; a damaged record is an error.
    fn read(open: &mut Self::Open) -> Result<Tables, String>;
}

/// The agent's store. Nothing is salvaged: a power cut alone damages nothing.
#[derive(Clone, Copy, Debug)]
pub struct AgentStore;

impl Subject for AgentStore {
    type Open = Store;

    fn open(disk: &SimDisk) -> Result<Store, String> {
        let opened = Store::open_on(DiskMedium::new(disk.clone()));
        opened.map(|(store, _)| store).map_err(|e| e.to_string())
    }

    fn commit(open: &mut Store, batch: &Batch) -> Result<(), String> {
        let done = open.commit(std::slice::from_ref(batch));
        done.map_err(|e| e.to_string())
    }

    fn read(open: &mut Store) -> Result<Tables, String> {
        let tables = TABLES.into_iter().map(|table| {
            let loaded = open.load(table).map_err(|e| e.to_string())?;
            match loaded.damaged_count {
                0 => Ok((table, loaded.records)),
                count => Err(format!("{count} damaged records in {table:?}")),
            }
        });
        tables.collect()
    }
}

const TABLES: [Table; 6] = [
    Table::Statements,
    Table::Registers,
    Table::Meta,
    Table::Addresses,
    Table::Late,
    Table::Audit,
];

const fn name(table: Table) -> &'static str {
    match table {
        Table::Statements => "statements",
        Table::Registers => "registers",
        Table::Meta => "meta",
        Table::Addresses => "addresses",
        Table::Quarantine => "quarantine",
        Table::Late => "late",
        Table::Audit => "audit",
    }
}

/// The same transactions on redb without the store around it.
macro_rules! raw {
    ($subject:ident, $redb:ident, $what:literal) => {
        #[doc = $what]
        #[derive(Clone, Copy, Debug)]
        pub struct $subject;

        impl Subject for $subject {
            type Open = $redb::Database;

            fn open(disk: &SimDisk) -> Result<$redb::Database, String> {
                disk.unplug();
                $redb::Builder::new()
                    .set_cache_size(64 << 10)
                    .create_with_backend(disk.plug())
                    .map_err(|e| e.to_string())
            }

            fn commit(open: &mut $redb::Database, batch: &Batch) -> Result<(), String> {
                let write = open.begin_write().map_err(|e| e.to_string())?;
                for op in batch {
                    let (StoreOp::Put { table, key, .. } | StoreOp::Delete { table, key }) = op;
                    let definition = $redb::TableDefinition::<&[u8], &[u8]>::new(name(*table));
                    let mut rows = write.open_table(definition).map_err(|e| e.to_string())?;
                    let done = match op {
                        StoreOp::Put { value, .. } => rows.insert(key.as_slice(), value.as_slice()),
                        StoreOp::Delete { .. } => rows.remove(key.as_slice()),
                    };
                    done.map_err(|e| e.to_string())?;
                }
                write.commit().map_err(|e| e.to_string())
            }

            fn read(open: &mut $redb::Database) -> Result<Tables, String> {
                use $redb::{ReadableDatabase, ReadableTable};
                let read = open.begin_read().map_err(|e| e.to_string())?;
                let mut tables = Tables::new();
                for table in TABLES {
                    let records = tables.entry(table).or_default();
                    let definition = $redb::TableDefinition::<&[u8], &[u8]>::new(name(table));
                    let rows = match read.open_table(definition) {
                        Ok(rows) => rows,
                        Err($redb::TableError::TableDoesNotExist(_)) => continue,
                        Err(error) => return Err(error.to_string()),
                    };
                    for row in rows.iter().map_err(|e| e.to_string())? {
                        let (key, value) = row.map_err(|e| e.to_string())?;
                        records.push((key.value().to_vec(), value.value().to_vec()));
                    }
                }
                Ok(tables)
            }
        }
    };
}

raw!(RawRedb, redb, "The version of redb that the agent uses.");
#[cfg(any(test, feature = "redb-3-1"))]
raw!(
    RawRedb3,
    redb_3_1,
    "redb 3.1.0, which does not survive every power cut."
);
