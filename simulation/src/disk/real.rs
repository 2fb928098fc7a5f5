//! A drive with the real store on a simulated disk.

use std::collections::VecDeque;
use std::io;

use lab_agent_store::{Medium, Store, StoreError};
use lab_crdt_model::Mono;
use lab_crdt_model::store::{Batch, Tables};

use super::fault::DiskFault;
use super::quiet::quietly;
use super::sim_disk::{Plug, SimDisk};

/// Memory that redb may use for pages, bytes. Small, as a thousand stores share one process.
const CACHE_BYTES_MAX: usize = 64 << 10;

/// A simulated disk as the store sees it.
pub(crate) struct DiskMedium {
    disk: SimDisk,
    spare: Option<SimDisk>,
}

impl DiskMedium {
    pub(crate) const fn new(disk: SimDisk) -> Self {
        Self { disk, spare: None }
    }
}

impl Medium for DiskMedium {
    type Backend = Plug;

    fn open(&mut self) -> io::Result<Plug> {
        self.disk.unplug();
        Ok(self.disk.plug())
    }

    fn spare(&mut self) -> io::Result<Self> {
        let spare = self.disk.spare();
        self.spare = Some(spare.clone());
        Ok(Self::new(spare))
    }

    fn adopt_spare(&mut self) -> io::Result<String> {
        let spare = self.spare.take().ok_or(io::ErrorKind::NotFound)?;
        self.disk.adopt(spare.pages());
        Ok("set aside".to_owned())
    }

    fn cache_bytes(&self) -> usize {
        CACHE_BYTES_MAX
    }
}

/// What a start found besides the tables.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Started {
    pub(crate) quarantined_count: u64,
    pub(crate) is_salvaged: bool,
    pub(crate) is_rolled_back: bool,
}

/// Opens the store and reads everything as the daemon does at its start: what is damaged is
/// salvaged, every table but the quarantine is read.
pub(crate) fn start(disk: &SimDisk) -> Result<(Store, Tables, Started), StoreError> {
    let (store, start) = Store::open_and_load_on(DiskMedium::new(disk.clone()))?;
    let salvaged_count = start.salvaged.as_ref().map_or(0, |s| s.damaged_count);
    let started = Started {
        quarantined_count: (start.damaged_count + salvaged_count) as u64,
        is_salvaged: start.salvaged.is_some(),
        is_rolled_back: start.opened.is_rolled_back,
    };
    Ok((store, start.tables, started))
}

/// The real store and its disk.
#[derive(Debug)]
pub(crate) struct Real {
    pub(crate) disk: SimDisk,
    store: Option<Store>,
    /// Writes that are not over yet: until when, and up to where in the disk's journal.
    underway: VecDeque<(Mono, usize)>,
    panic_count: u64,
}

impl Real {
    pub(crate) const fn new(disk: SimDisk) -> Self {
        Self {
            disk,
            store: None,
            underway: VecDeque::new(),
            panic_count: 0,
        }
    }

    pub(crate) const fn is_open(&self) -> bool {
        self.store.is_some()
    }

    /// Panics since the last call, all caught.
    pub(crate) const fn take_panic_count(&mut self) -> u64 {
        std::mem::replace(&mut self.panic_count, 0)
    }

    /// Opens the store and reads everything. After an error nothing is open.
    pub(crate) fn boot(&mut self) -> Result<(Tables, Started), String> {
        let (started, panic_count) = quietly(|| start(&self.disk));
        self.panic_count += panic_count;
        self.disk.begin();
        self.disk.take_cost_us();
        let (store, tables, started) = started.map_err(|error| chain(&error))?;
        self.store = Some(store);
        self.disk.trust();
        Ok((tables, started))
    }

    /// Writes to the open store, from `start` on; after an error the store has opened itself again.
    /// The answer is what came of it and how long it takes, microseconds.
    pub(crate) fn write(
        &mut self,
        now: Mono,
        start: Mono,
        batches: &[Batch],
    ) -> (Result<(), String>, u64) {
        self.settle(now);
        let result = self.commit(batches);
        let takes_us = self.disk.take_cost_us();
        let until = Mono(start.0.saturating_add(takes_us * 1000));
        self.underway.push_back((until, self.disk.journal_len()));
        (result, takes_us)
    }

    fn commit(&mut self, batches: &[Batch]) -> Result<(), String> {
        let Some(store) = &mut self.store else {
            return Err("the store is not open".to_owned());
        };
        let (result, panic_count) = quietly(|| store.commit(batches));
        self.panic_count += panic_count;
        if result.is_err() {
            // It was opened again, and everything in use was checked.
            self.disk.trust();
        }
        result.map_err(|error| chain(&error))
    }

    /// What is over by now cannot be cut short any more.
    fn settle(&mut self, now: Mono) {
        let mut over = None;
        while let Some((until, op_count)) = self.underway.front()
            && *until <= now
        {
            over = Some(*op_count);
            self.underway.pop_front();
        }
        if self.underway.is_empty() {
            self.disk.begin();
        } else if let Some(over) = over {
            self.disk.settle(over);
            for (_, op_count) in &mut self.underway {
                *op_count -= over;
            }
        }
    }

    /// Applies a fault. One that puts another content on the disk ends what is under way.
    pub(crate) fn apply(&mut self, fault: &DiskFault) {
        self.disk.apply(fault);
        if self.disk.journal_len() == 0 {
            self.underway.clear();
        }
    }

    /// The process is gone; its last words no longer reach the disk.
    pub(crate) fn kill(&mut self, now: Mono) {
        self.settle(now);
        self.disk.kill();
        self.drop_store();
    }

    /// The power is lost; the answer is whether what had been synced may be lost.
    pub(crate) fn crash(&mut self, now: Mono) -> bool {
        self.settle(now);
        let may_lose_synced = self.disk.crash();
        self.drop_store();
        may_lose_synced
    }

    /// The process ends in peace.
    pub(crate) fn stop(&mut self) {
        self.drop_store();
        self.settle(Mono(u64::MAX));
    }

    fn drop_store(&mut self) {
        let (_, panic_count) = quietly(|| drop(self.store.take()));
        self.panic_count += panic_count;
        self.underway.clear();
    }
}

/// An error and what it comes from, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut out = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        out.push_str(": ");
        out.push_str(&error.to_string());
        source = error.source();
    }
    out
}
