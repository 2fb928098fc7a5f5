//! What a machine keeps across restarts: a simulated disk, or a lean stand-in for fleets of thousands.

use std::collections::BTreeMap;
use std::sync::Arc;

use lab_agent_core::Boot;
use lab_crdt_model::Mono;
use lab_crdt_model::store::{Batch, StoreOp, Table, Tables};

use crate::disk::{DiskFault, Drive, DriveKind, Written};

/// How long a write of a lean store takes, microseconds.
const LEAN_US: u64 = 500;

/// How the disks of a world are made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum StoreKind {
    /// Maps with atomic batches.
    #[default]
    Model,
    /// The store of the product, redb, on simulated sectors.
    Real,
    /// The first `n` nodes real, the others model.
    Mixed(usize),
    /// Maps that share what all nodes held at the start and keep statements and own records only; reports of others
    /// are asked for again after a restart. For fleets that would not fit otherwise.
    Lean,
}

#[derive(Debug)]
pub(crate) enum Store {
    Drive(Box<Drive>),
    Lean(Lean),
}

/// Statements and own records over a base that many share.
#[derive(Debug, Default)]
pub(crate) struct Lean {
    base: Arc<Tables>,
    own: BTreeMap<(Table, Vec<u8>), Option<Vec<u8>>>,
}

impl Lean {
    fn write(&mut self, batch: &Batch) {
        for op in batch {
            let (StoreOp::Put { table, key, .. } | StoreOp::Delete { table, key }) = op;
            if matches!(table, Table::Registers | Table::Addresses) {
                continue;
            }
            let value = match op {
                StoreOp::Put { value, .. } => Some(value.clone()),
                StoreOp::Delete { .. } => None,
            };
            self.own.insert((*table, key.clone()), value);
        }
    }

    fn boot(&self) -> Boot {
        let mut tables = Tables::new();
        for ((table, key), value) in &self.own {
            if let Some(value) = value {
                let records = tables.entry(*table).or_default();
                records.push((key.clone(), value.clone()));
            }
        }
        Boot::Imaged {
            image: self.base.clone(),
            tables,
        }
    }
}

impl Store {
    pub(crate) fn new(kind: StoreKind, node: usize, seed: u64) -> Self {
        let kind = match kind {
            StoreKind::Lean => return Self::Lean(Lean::default()),
            StoreKind::Real => DriveKind::Real,
            StoreKind::Mixed(n) if node < n => DriveKind::Real,
            StoreKind::Model | StoreKind::Mixed(_) => DriveKind::Model,
        };
        Self::Drive(Box::new(Drive::new(kind, seed)))
    }

    /// Puts records there that were never written: what a machine begins with.
    pub(crate) fn fill(&mut self, now: Mono, image: &Arc<Tables>) {
        match self {
            Self::Lean(lean) => lean.base = image.clone(),
            Self::Drive(drive) => {
                let put = |(table, (key, value)): (&Table, &(Vec<u8>, Vec<u8>))| StoreOp::Put {
                    table: *table,
                    key: key.clone(),
                    value: value.clone(),
                };
                let records = image
                    .iter()
                    .flat_map(|(table, records)| records.iter().map(move |r| (table, r)));
                let _written = drive.write(now, &records.map(put).collect());
                drive.stop();
            }
        }
    }

    /// What was written is there, whatever happens next.
    pub(crate) fn settle(&mut self) {
        if let Self::Drive(drive) = self {
            drive.stop();
        }
    }

    pub(crate) fn write(&mut self, now: Mono, batch: &Batch) -> Written {
        match self {
            Self::Drive(drive) => drive.write(now, batch),
            Self::Lean(lean) => {
                lean.write(batch);
                Written {
                    result: Ok(()),
                    takes_us: LEAN_US,
                }
            }
        }
    }

    pub(crate) fn crash(&mut self, now: Mono) {
        if let Self::Drive(drive) = self {
            drive.crash(now);
        }
    }

    pub(crate) fn kill(&mut self, now: Mono) {
        if let Self::Drive(drive) = self {
            drive.kill(now);
        }
    }

    pub(crate) fn boot(&mut self, now: Mono) -> Result<Boot, String> {
        match self {
            Self::Drive(drive) => drive.boot(now).map(|tables| Boot::Stored { tables }),
            Self::Lean(lean) => Ok(lean.boot()),
        }
    }

    pub(crate) fn apply(&mut self, now: Mono, fault: &DiskFault) {
        if let Self::Drive(drive) = self {
            drive.apply(now, fault);
        }
    }

    pub(crate) fn drive(&mut self) -> Option<&mut Drive> {
        match self {
            Self::Drive(drive) => Some(drive),
            Self::Lean(_) => None,
        }
    }
}
