//! One node's disk: what is written to it, what power cuts and faults leave, what a start finds.
//!
//! A [`Drive`] survives its process. It is either a model (rows in memory, fast, batches whole or
//! not at all) or the real store of the agent on a [`SimDisk`], which keeps every write apart until
//! a sync and lets a power cut keep, lose, tear or garble each of their sectors.
//!
//! ```text
//! World ──▶ Drive ──┬──▶ Model                      rows, undo of what is not durable
//!             │     └──▶ Store (redb) ──▶ SimDisk   sparse pages, pending writes, journal
//!             └──▶ Record                           what was acknowledged: for oracles
//! ```
//!
//! Beside the store lies a record of what was acknowledged, which no fault can touch. Every
//! [`Drive::boot`] is compared with it: [`Reports::lost`] and [`Reports::unknown`] have to stay
//! empty.
//!
//! * [`crash`]: searches millions of power cuts for one that the store does not survive.
//! * [`flip`]: flips bits one by one and counts what comes of it.

pub mod crash;
mod fault;
pub mod flip;
mod model;
mod pages;
mod platter;
mod quiet;
mod real;
mod record;
mod sim_disk;

use std::collections::BTreeMap;

use lab_crdt_model::Mono;
use lab_crdt_model::store::{Batch, Tables};
use serde::{Deserialize, Serialize};

pub use fault::DiskFault;
pub use platter::CutHabits;
pub use record::{Content, Ledger, Place, Places};
pub use sim_disk::{Plug, SimDisk};

use model::Model;
use real::Real;
use record::Record;

/// What a drive is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum DriveKind {
    /// Rows in memory.
    Model,
    /// The agent's store on redb on a simulated disk.
    Real,
}

/// What came of a write.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Written {
    /// Whether the disk said that it is durable. After an error it may be there or not, whole.
    pub result: Result<(), String>,
    /// How long it takes, microseconds, with the writes before it that are not over yet.
    pub takes_us: u64,
}

/// What the store of a drive said and did so far.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Reports {
    /// Starts that gave tables.
    pub boot_count: u64,
    /// Starts that failed, out loud.
    pub refused_boot_count: u64,
    /// Writes that failed; the store was opened again after each.
    pub failed_write_count: u64,
    /// Starts that found the file damaged and saved what was sound.
    pub salvage_count: u64,
    /// Starts that found the newest commit incomplete, and went back to the one before.
    pub rollback_count: u64,
    /// Records that failed their checksum and were set aside.
    pub quarantined_count: u64,
    /// Panics inside redb, all caught.
    pub panic_count: u64,
    /// Acknowledged and not there at a start (or deleted and there), though the disk did nothing
    /// that excuses it. Has to stay empty.
    pub lost: Places,
    /// Found at a start though nobody ever wrote it. Has to stay empty, whatever the disk does.
    pub unknown: Places,
    /// Faults that a model cannot have.
    pub ignored_fault_count: u64,
}

/// One node's disk; survives its process.
#[derive(Debug)]
pub struct Drive {
    seed: u64,
    inner: Inner,
    record: Option<Record>,
    reports: Reports,
    /// When the last write is over.
    busy_until: Mono,
    /// Something happened since the last start that excuses the loss of acknowledged records.
    is_excused: bool,
}

#[derive(Debug)]
enum Inner {
    Model(Box<Model>),
    Real(Real),
}

impl Drive {
    /// An empty drive.
    pub fn new(kind: DriveKind, seed: u64) -> Self {
        Self::sharing(kind, seed, &Ledger::default())
    }

    /// An empty drive whose record of what was ever written is shared with others.
    pub fn sharing(kind: DriveKind, seed: u64, ledger: &Ledger) -> Self {
        Self {
            seed,
            inner: match kind {
                DriveKind::Model => Inner::Model(Box::new(Model::new(seed))),
                DriveKind::Real => Inner::Real(Real::new(SimDisk::new(seed))),
            },
            record: Some(Record::sharing(ledger)),
            reports: Reports::default(),
            busy_until: Mono::default(),
            is_excused: false,
        }
    }

    /// The same drive without a record: nothing is compared, [`Drive::acknowledged`] stays empty.
    /// For very large worlds.
    #[must_use]
    pub fn without_record(mut self) -> Self {
        self.record = None;
        self
    }

    /// What it is made of.
    pub const fn kind(&self) -> DriveKind {
        match self.inner {
            Inner::Model(_) => DriveKind::Model,
            Inner::Real(_) => DriveKind::Real,
        }
    }

    /// Makes a batch durable, or not, or says so and lies. A store that is not open is opened
    /// first.
    pub fn write(&mut self, now: Mono, batch: &Batch) -> Written {
        self.write_all(now, std::slice::from_ref(batch))
    }

    /// Makes batches durable together, as an agent does with what gathered while the disk was busy.
    pub fn write_all(&mut self, now: Mono, batches: &[Batch]) -> Written {
        if let Inner::Real(real) = &self.inner
            && !real.is_open()
            && let Err(why) = self.boot(now)
        {
            self.reports.failed_write_count += 1;
            return Written {
                result: Err(why),
                takes_us: 0,
            };
        }
        let start = self.busy_until.max(now);
        let (result, takes_us) = match &mut self.inner {
            Inner::Model(model) => model.write(start, batches),
            Inner::Real(real) => {
                let (result, takes_us) = real.write(now, start, batches);
                self.reports.panic_count += real.take_panic_count();
                (result, takes_us)
            }
        };
        self.busy_until = Mono(start.0.saturating_add(takes_us * 1000));
        self.reports.failed_write_count += u64::from(result.is_err());
        if let Some(record) = &mut self.record {
            record.settle(now);
            record.wrote(self.busy_until, batches, result.is_ok());
        }
        Written {
            result,
            takes_us: (self.busy_until.0 - now.0) / 1000,
        }
    }

    /// The power is lost: unsynced writes are kept, lost, torn, reordered; a write that was under
    /// way stops anywhere. The drive has to be booted again.
    pub fn crash(&mut self, now: Mono) {
        self.is_excused |= match &mut self.inner {
            Inner::Model(model) => model.crash(now),
            Inner::Real(real) => real.crash(now),
        };
        self.end_writes(now);
    }

    /// The process is gone and the machine runs on: a write that was under way stops anywhere,
    /// nothing else is lost. Killing what does not run changes nothing.
    pub fn kill(&mut self, now: Mono) {
        match &mut self.inner {
            Inner::Model(model) => model.kill(now),
            Inner::Real(real) => real.kill(now),
        }
        self.end_writes(now);
    }

    /// The process ends in peace, every write is carried out, the store is closed cleanly.
    pub fn stop(&mut self) {
        match &mut self.inner {
            Inner::Model(model) => model.finish(Mono::default()),
            Inner::Real(real) => real.stop(),
        }
        self.busy_until = Mono::default();
        if let Some(record) = &mut self.record {
            record.settle(Mono(u64::MAX));
        }
    }

    fn end_writes(&mut self, now: Mono) {
        self.busy_until = now;
        if let Some(record) = &mut self.record {
            record.cut(now);
        }
    }

    /// Opens the store and reads everything, as the daemon does at its start: a damaged store is
    /// salvaged, damaged records go to quarantine. What still runs is killed first.
    ///
    /// # Errors
    ///
    /// What the store said. Nothing is open then; the start can be tried again.
    pub fn boot(&mut self, now: Mono) -> Result<Tables, String> {
        self.kill(now);
        let booted = match &mut self.inner {
            Inner::Model(model) => model.boot().map(|(tables, damaged_count)| {
                self.reports.quarantined_count += damaged_count;
                tables
            }),
            Inner::Real(real) => {
                let booted = real.boot();
                self.reports.panic_count += real.take_panic_count();
                booted.map(|(tables, started)| {
                    self.reports.quarantined_count += started.quarantined_count;
                    self.reports.salvage_count += u64::from(started.is_salvaged);
                    self.reports.rollback_count += u64::from(started.is_rolled_back);
                    tables
                })
            }
        };
        let is_mangled = match &mut self.inner {
            Inner::Model(model) => model.take_mangled(),
            Inner::Real(real) => real.disk.take_mangled(),
        };
        self.is_excused |= is_mangled;
        match booted {
            Ok(tables) => {
                self.reports.boot_count += 1;
                self.compare(&tables);
                Ok(tables)
            }
            Err(why) => {
                self.reports.refused_boot_count += 1;
                Err(why)
            }
        }
    }

    fn compare(&mut self, tables: &Tables) {
        let is_excused = std::mem::replace(&mut self.is_excused, false);
        let Some(record) = &mut self.record else {
            return;
        };
        let (lost, unknown) = record.compare(tables);
        if !is_excused {
            self.reports.lost.merge(lost);
        }
        self.reports.unknown.merge(unknown);
    }

    /// Applies a fault. One that a model cannot have is counted in the reports, nothing else.
    ///
    /// A running store whose disk is replaced or rolled back notices at its next write.
    pub fn apply(&mut self, now: Mono, fault: &DiskFault) {
        let is_other_content = match (fault, &self.inner) {
            (DiskFault::Replace, _) => true,
            (DiskFault::Rollback { to }, Inner::Model(model)) => model.has_image(to),
            (DiskFault::Rollback { to }, Inner::Real(real)) => real.disk.has_image(to),
            _ => false,
        };
        if is_other_content {
            self.end_writes(now);
        }
        match &mut self.inner {
            Inner::Model(model) => {
                self.reports.ignored_fault_count += u64::from(!model.apply(fault));
            }
            Inner::Real(real) => real.apply(fault),
        }
    }

    /// The drive becomes a copy of another node's disk, as a cloned machine has; it has to be
    /// booted then.
    pub fn become_copy_of(&mut self, other: &Self, now: Mono) {
        self.end_writes(now);
        self.inner = match &other.inner {
            Inner::Model(model) => Inner::Model(Box::new(model.copy_of(self.seed))),
            Inner::Real(real) => {
                let disk = SimDisk::new(self.seed);
                disk.replace(real.disk.pages());
                Inner::Real(Real::new(disk))
            }
        };
        if let (Some(mine), Some(theirs)) = (&mut self.record, &other.record) {
            mine.learn_from(theirs);
        }
        self.is_excused = true;
    }

    /// What was acknowledged: for every place the hash of its value, or `None` if it was deleted
    /// since the last start. Whatever is not here was never acknowledged or is gone for good.
    pub fn acknowledged(&self) -> &BTreeMap<Place, Content> {
        static NONE: BTreeMap<Place, Content> = BTreeMap::new();
        self.record.as_ref().map_or(&NONE, Record::acknowledged)
    }

    /// What the store said and did.
    pub const fn reports(&self) -> &Reports {
        &self.reports
    }
}

#[cfg(test)]
mod tests;
