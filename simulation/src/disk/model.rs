//! A drive without a database: rows in memory, batches whole or not at all.

use std::collections::{BTreeMap, VecDeque};

use lab_crdt_model::store::{Batch, StoreOp, Table, Tables};
use lab_crdt_model::{Mono, mutant, reached, sometimes};

use super::fault::{DiskFault, Modes};
use super::record::Place;
use crate::seed::{self, Rng};

const WRITE_US: u64 = 900;
const BYTES_PER_US: u64 = 100;
/// What a record takes besides its key and value, bytes.
const RECORD_BYTES: u64 = 64;
/// What an empty store takes, bytes.
const EMPTY_BYTES: u64 = 64 << 10;

type Rows = BTreeMap<Place, Vec<u8>>;

/// What it takes to undo one write.
#[derive(Clone, Debug)]
struct Undo {
    until: Mono,
    /// The disk said that it was durable, and it is not.
    is_lied: bool,
    before: Vec<(Place, Option<Vec<u8>>)>,
}

/// The model.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    rows: Rows,
    byte_count: u64,
    undo: VecDeque<Undo>,
    modes: Modes,
    images: BTreeMap<String, Rows>,
    rng: Rng,
    /// Records that rotted and will be found so at the next start.
    rot_count: u32,
    is_mangled: bool,
}

impl Model {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            rows: Rows::new(),
            byte_count: EMPTY_BYTES,
            undo: VecDeque::new(),
            modes: Modes::default(),
            images: BTreeMap::new(),
            rng: seed::rng(seed, "disk model", 0),
            rot_count: 0,
            is_mangled: false,
        }
    }

    /// Writes batches together; the answer is how long it takes, microseconds.
    pub(crate) fn write(&mut self, now: Mono, batches: &[Batch]) -> (Result<(), String>, u64) {
        let bytes: u64 = batches.iter().flatten().map(op_bytes).sum();
        let takes_us = WRITE_US + bytes / BYTES_PER_US + self.modes.slow_us;
        if self.modes.is_read_only {
            return (Err("read-only file system".to_owned()), takes_us);
        }
        self.settle(now);
        let is_failed = self.modes.sync_error.take().is_some();
        // A write that failed may be there all the same.
        if is_failed && self.rng.chance(500) {
            return (Err("the disk could not sync".to_owned()), takes_us);
        }
        let before = self.carry_out(batches);
        if (self.modes.byte_count_max).is_some_and(|max| self.byte_count > max) {
            self.take_back(before);
            return (Err("no space left on the disk".to_owned()), takes_us);
        }
        let is_lied = match self.modes.lying {
            Some((per_mille, _)) => self.rng.chance(u64::from(per_mille)),
            None => false,
        };
        let until = Mono(now.0.saturating_add(takes_us * 1000));
        self.undo.push_back(Undo {
            until,
            is_lied,
            before,
        });
        let result = if is_failed {
            Err("the disk could not sync".to_owned())
        } else {
            Ok(())
        };
        (result, takes_us)
    }

    /// The power is lost; the answer is whether something acknowledged was lost by a lie.
    pub(crate) fn crash(&mut self, now: Mono) -> bool {
        self.settle(now);
        self.lose_last(now, self.undo.len())
    }

    /// The process is gone, the machine runs on: at most what was under way is lost.
    pub(crate) fn kill(&mut self, now: Mono) {
        let underway = self.undo.iter().filter(|undo| undo.until > now).count();
        self.lose_last(now, underway);
        self.finish(now);
    }

    /// Every write is over: what the page cache has cannot be cut short any more.
    pub(crate) fn finish(&mut self, now: Mono) {
        for undo in &mut self.undo {
            undo.until = undo.until.min(now);
        }
        self.settle(now);
    }

    fn lose_last(&mut self, now: Mono, count_max: usize) -> bool {
        let mut is_lie_told = false;
        for _ in 0..self.rng.below(count_max as u64 + 1) {
            if let Some(mut undo) = self.undo.pop_back() {
                reached!("a power cut lost a write");
                if mutant!("M37") {
                    undo.before.drain(..undo.before.len() / 2);
                }
                is_lie_told |= undo.is_lied && undo.until <= now;
                sometimes!(is_lie_told, "a disk lost what it had acknowledged");
                self.take_back(undo.before);
            }
        }
        is_lie_told
    }

    /// Reads everything, as a start does; also how many records were damaged.
    pub(crate) fn boot(&mut self) -> Result<(Tables, u64), String> {
        if self.modes.read_error_count > 0 {
            self.modes.read_error_count -= 1;
            return Err("the disk cannot read here".to_owned());
        }
        if self.modes.is_read_only {
            return Err("read-only file system".to_owned());
        }
        let mut damaged_count = 0;
        for _ in 0..std::mem::take(&mut self.rot_count) {
            let at = self.rng.below(self.rows.len() as u64) as usize;
            // The other half of the flips hits free space.
            if self.rng.chance(500)
                && let Some(place) = self.rows.keys().nth(at).cloned()
            {
                self.remove(&place);
                damaged_count += 1;
            }
        }
        let mut tables: Tables = Table::ALL
            .into_iter()
            .filter(|table| *table != Table::Quarantine)
            .map(|table| (table, Vec::new()))
            .collect();
        for ((table, key), value) in &self.rows {
            if let Some(records) = tables.get_mut(table) {
                records.push((key.clone(), value.clone()));
            }
        }
        Ok((tables, damaged_count))
    }

    /// Applies a fault; `false` if the model cannot have it.
    pub(crate) fn apply(&mut self, fault: &DiskFault) -> bool {
        if matches!(
            fault,
            DiskFault::Misdirected { .. } | DiskFault::StaleRead { .. }
        ) {
            return false;
        }
        if self.modes.set(fault) {
            return true;
        }
        match fault {
            DiskFault::BitFlips { count } => {
                self.rot_count += count;
                self.is_mangled = true;
            }
            DiskFault::Replace => self.replace(Rows::new()),
            DiskFault::Snapshot { name } => {
                self.images.insert(name.clone(), self.rows.clone());
            }
            DiskFault::Rollback { to } => {
                if let Some(rows) = self.images.get(to).cloned() {
                    self.replace(rows);
                }
            }
            _ => return false,
        }
        true
    }

    pub(crate) fn has_image(&self, name: &str) -> bool {
        self.images.contains_key(name)
    }

    pub(crate) fn copy_of(&self, seed: u64) -> Self {
        let mut copy = Self::new(seed);
        copy.replace(self.rows.clone());
        copy
    }

    pub(crate) const fn take_mangled(&mut self) -> bool {
        std::mem::replace(&mut self.is_mangled, false)
    }

    fn replace(&mut self, rows: Rows) {
        let sizes = rows.iter().map(|((_, key), value)| row_bytes(key, value));
        self.byte_count = EMPTY_BYTES + sizes.sum::<u64>();
        self.rows = rows;
        self.undo.clear();
        self.is_mangled = true;
    }

    /// Forgets how to undo what cannot be lost any more.
    fn settle(&mut self, now: Mono) {
        let is_safe = |undo: &Undo| undo.until <= now && !undo.is_lied;
        if let Some(last) = self.undo.iter().rposition(is_safe) {
            self.undo.drain(..=last);
        }
        let lies_max = self
            .modes
            .lying
            .map_or(usize::MAX, |(_, epochs)| epochs as usize);
        while self.undo.len() > lies_max && self.undo[0].until <= now {
            self.undo.pop_front();
        }
    }

    fn carry_out(&mut self, batches: &[Batch]) -> Vec<(Place, Option<Vec<u8>>)> {
        let mut before = Vec::new();
        for op in batches.iter().flatten() {
            let (place, old) = match op {
                StoreOp::Put { table, key, value } => {
                    let place = (*table, key.clone());
                    self.byte_count += row_bytes(key, value);
                    let old = self.rows.insert(place.clone(), value.clone());
                    if let Some(old) = &old {
                        self.byte_count -= row_bytes(key, old);
                    }
                    (place, old)
                }
                StoreOp::Delete { table, key } => {
                    let place = (*table, key.clone());
                    let old = self.remove(&place);
                    (place, old)
                }
            };
            before.push((place, old));
        }
        before
    }

    fn remove(&mut self, place: &Place) -> Option<Vec<u8>> {
        let old = self.rows.remove(place)?;
        self.byte_count -= row_bytes(&place.1, &old);
        Some(old)
    }

    fn take_back(&mut self, before: Vec<(Place, Option<Vec<u8>>)>) {
        for (place, old) in before.into_iter().rev() {
            self.remove(&place);
            if let Some(old) = old {
                self.byte_count += row_bytes(&place.1, &old);
                self.rows.insert(place, old);
            }
        }
    }
}

fn row_bytes(key: &[u8], value: &[u8]) -> u64 {
    RECORD_BYTES + key.len() as u64 + value.len() as u64
}

fn op_bytes(op: &StoreOp) -> u64 {
    match op {
        StoreOp::Put { key, value, .. } => row_bytes(key, value),
        StoreOp::Delete { key, .. } => row_bytes(key, &[]),
    }
}
