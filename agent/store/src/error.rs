//! Why the store could not do what was asked.

use lab_crdt_model::store::Table;

/// Why an operation of the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Nobody's fault: another process holds the file. Nothing was touched; stop the other one
    /// first.
    #[error("open {place}: another agent is running on it")]
    InUse {
        /// Which file.
        place: String,
    },
    /// The operator's doing: the file was written by a newer `lab`. Nothing was touched; run that
    /// version.
    #[error("open {place}: its format is version {found}, this program knows up to {known}")]
    NewerFormat {
        /// Which file.
        place: String,
        /// Version in the file.
        found: u32,
        /// Newest version this program reads.
        known: u32,
    },
    /// The disk's fault, or the file is not ours: it cannot be trusted as a whole. Nothing was
    /// changed; [`Store::salvage`](crate::Store::salvage) sets it aside and saves what is sound.
    #[error("read {place}: the file is damaged: {why}")]
    Damaged {
        /// Which file.
        place: String,
        /// What redb said.
        why: String,
    },
    /// The machine's fault: permissions, a full or failing disk. Nothing was changed; try again
    /// later.
    #[error("open {place}")]
    Open {
        /// Which file.
        place: String,
        /// What the system said.
        source: Box<redb::Error>,
    },
    /// The machine's fault: the batches may or may not be there. The file was opened again; write
    /// them again.
    #[error("commit {op_count} changes")]
    Commit {
        /// How many changes were in the batches.
        op_count: usize,
        /// What redb said.
        source: Box<redb::Error>,
    },
    /// The machine's fault: nothing was read. The file was opened again; read again.
    #[error("read table {table:?}")]
    Load {
        /// Which table.
        table: Table,
        /// What redb said.
        source: Box<redb::Error>,
    },
    /// A bug in redb, or damage that it did not notice. The file was opened again, as after any
    /// error.
    #[error("{operation}: the database panicked: {why}")]
    Panicked {
        /// What was being done.
        operation: &'static str,
        /// The panic's message.
        why: String,
    },
    /// The caller's fault: a key or value beyond the limits. Nothing was written.
    #[error(
        "write to table {table:?}: {key_bytes} bytes of key, {value_bytes} of value is too long"
    )]
    TooLarge {
        /// Which table.
        table: Table,
        /// Length of the key, bytes.
        key_bytes: usize,
        /// Length of the value, bytes.
        value_bytes: usize,
    },
    /// The machine's fault: the damaged file could not be moved out of the way. Nothing was
    /// changed.
    #[error("set aside {place}")]
    SetAside {
        /// Which file.
        place: String,
        /// What the system said.
        source: std::io::Error,
    },
}

impl StoreError {
    /// Whether the file itself is to blame, so that trying again will not help and a salvage may.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Damaged { .. } | Self::Panicked { .. } => true,
            Self::Commit { source, .. } | Self::Load { source, .. } => {
                matches!(**source, redb::Error::Corrupted(_))
            }
            Self::InUse { .. }
            | Self::NewerFormat { .. }
            | Self::Open { .. }
            | Self::TooLarge { .. }
            | Self::SetAside { .. } => false,
        }
    }
}
