//! What an agent keeps across restarts, on one redb file.
//!
//! The core says what to write as [`Batch`](lab_crdt_model::store::Batch)es of the vocabulary; this
//! crate makes them durable and gives them back. It decides nothing: not what a record means, not
//! what to do when one is lost. It is *not* a cache and keeps no copy in memory beyond redb's own
//! bounded one.
//!
//! ```text
//! Store::open ──▶ load(Statements) … load(Meta)        once, at start
//!      ▲                                               then, per turn of the agent:
//!      └── reopened by itself after any error ◀── commit(batches) ──▶ Ok = durable
//! ```
//!
//! # What is promised
//!
//! * **All or nothing.** One [`Store::commit`] is one durable transaction. After `Ok` it survives a
//!   power cut. After `Err` it may or may not be there: whoever asked writes it again.
//! * **Nothing rotten is returned.** Every record carries a checksum over its table, key and value.
//!   One that does not match is moved to
//!   [`Table::Quarantine`](lab_crdt_model::store::Table::Quarantine), counted in the answer, and
//!   fetched again from the mesh by whoever missed it.
//! * **An error is not the end.** redb refuses every write after the first failed one, so the file
//!   is closed and opened again; a panic inside redb is an error like any other.
//! * **Damage is named, never papered over.** A file that cannot be trusted is
//!   [`StoreError::Damaged`]; a person or the daemon then calls [`Store::salvage`], which sets the
//!   file aside and saves what still matches its checksum.
//!
//! # Format
//!
//! Version 1: a redb 4 file with one table per [`Table`](lab_crdt_model::store::Table), keys and
//! values as plain bytes, and a table `format` with the record `version`.
//!
//! ```text
//! stored value = ┌──────────────┬─────────┐   checksum = first 16 bytes of BLAKE3, context
//!                │ checksum  16 │ value … │   "lab store record 1", over table ‖ key length ‖ key ‖ value
//!                └──────────────┴─────────┘
//! ```
//!
//! The quick repair of redb is left off: it doubles the cost of every commit to save some 40 ms per
//! 100,000 records at the first start after a crash, and a start reads every record anyway.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use lab_agent_store::Store;
//! use lab_crdt_model::store::{StoreOp, Table};
//!
//! let folder = tempfile::tempdir()?;
//! let (mut store, report) = Store::open(&folder.path().join("agent.redb"))?;
//! assert!(report.is_new);
//! let batch = vec![StoreOp::Put { table: Table::Meta, key: b"name".to_vec(), value: b"nuc1".to_vec() }];
//! store.commit(&[batch])?;
//! assert_eq!(store.load(Table::Meta)?.records, [(b"name".to_vec(), b"nuc1".to_vec())]);
//! # Ok(())
//! # }
//! ```

mod codec;
mod error;
mod place;
mod salvage;
mod store;

pub use error::StoreError;
pub use place::Medium;
pub use store::{CheckReport, Loaded, OpenReport, Record, SalvageReport, Start, Store};

/// Version of the file format that this program writes.
pub const FORMAT_VERSION: u32 = 1;
/// Longest key, bytes. Ours are ids and short names.
pub const KEY_BYTES_MAX: usize = 1024;
/// Longest value, bytes. The largest we know is a register of facts, 256 KiB.
pub const VALUE_BYTES_MAX: usize = 16 << 20;
/// Memory redb may use for pages, bytes. Its own default is 1 GiB.
pub const CACHE_BYTES_MAX: usize = 8 << 20;
/// Most records kept in quarantine. Beyond it a damaged record is removed and only counted.
pub const QUARANTINE_COUNT_MAX: u64 = 1024;
