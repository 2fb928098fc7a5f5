//! What an agent keeps across restarts, as values: tables, keys and batches.
//!
//! The core says what to write; `lab-agent-store` carries it out on redb, the simulator on a model.

/// A table of the store. The discriminants are part of the file format.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Table {
    /// Statement id → envelope bytes.
    Statements = 1,
    /// Node id and section → register bytes.
    Registers = 2,
    /// Name → bytes: root record, own counters, last good config, what files are owned.
    Meta = 3,
    /// Node id → last known addresses.
    Addresses = 4,
    /// What failed its checksum, kept for a person to look at; never read back by the agent.
    Quarantine = 5,
    /// Node id and sequence number (u64be) → audit record; with the record's hash after them, a record that
    /// contradicts the one that is kept.
    Audit = 6,
    /// Ids of statements that came only after their grant had ended → nothing.
    Late = 7,
}

impl Table {
    /// Every table, in the order of the format.
    pub const ALL: [Self; 7] = [
        Self::Statements,
        Self::Registers,
        Self::Meta,
        Self::Addresses,
        Self::Quarantine,
        Self::Audit,
        Self::Late,
    ];
}

/// One change of the store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StoreOp {
    /// Writes a value, replacing what was there.
    Put {
        /// Where.
        table: Table,
        /// Under which key.
        key: Vec<u8>,
        /// What.
        value: Vec<u8>,
    },
    /// Removes a key; no error if it is not there.
    Delete {
        /// Where.
        table: Table,
        /// Which key.
        key: Vec<u8>,
    },
}

/// Changes that become durable together or not at all.
pub type Batch = Vec<StoreOp>;

/// What a store holds, by table: keys and values in ascending order of keys.
pub type Tables = std::collections::BTreeMap<Table, Vec<(Vec<u8>, Vec<u8>)>>;
