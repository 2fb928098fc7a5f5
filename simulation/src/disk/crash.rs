//! Searches power cuts for one that a store does not survive.
//!
//! One round records the journal of a real run: batches as an agent writes them, restarts in peace
//! and by kill between them. Then images are made of it: the power fails after any operation, and
//! what was not synced is kept, lost, torn, garbled or reordered sector by sector. Each image is
//! opened and read. It has to hold exactly what was acknowledged, or that and the one batch that
//! was under way; now and then the power fails again in the middle of the repair, and now and then
//! one more batch is written.
//!
//! Everything follows from the seed: an image is found again by its number.

mod subject;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use lab_crdt_model::store::{Batch, StoreOp, Table, Tables};

#[cfg(any(test, feature = "redb-3-1"))]
pub use subject::RawRedb3;
pub use subject::{AgentStore, RawRedb, Subject};

use super::fault::DiskFault;
use super::pages::Pages;
use super::platter::{CutHabits, Op, Platter};
use super::quiet::quietly;
use super::sim_disk::SimDisk;
use crate::seed::{self, Rng};

/// Most examples of failures that a report holds.
const EXAMPLES_MAX: usize = 8;
/// What to search.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Config {
    /// Everything follows from it.
    pub seed: u64,
    /// How many images to open.
    pub image_count: u64,
    /// How many batches each recorded run writes.
    pub batch_count: u64,
    /// How many images are made of each recorded run; at least one.
    pub images_per_run: u64,
    /// What a power cut may do.
    pub habits: CutHabits,
    /// Ends at the first failure.
    pub is_over_at_failure: bool,
    /// The disk does not do what it is asked to sync. No store survives that: proof that the search
    /// finds losses.
    pub is_lying: bool,
}

impl Config {
    /// A search on a disk in order.
    pub const fn new(seed: u64, image_count: u64) -> Self {
        Self {
            seed,
            image_count,
            batch_count: 24,
            images_per_run: 2000,
            habits: CutHabits::HONEST,
            is_over_at_failure: false,
            is_lying: false,
        }
    }
}

/// How an image failed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Failure {
    /// It could not be opened or read.
    Refused,
    /// The database panicked.
    Panicked,
    /// Something that was acknowledged was missing, or half a batch was there.
    Lost,
    /// Something was there that nobody had written.
    Unknown,
    /// It was opened, and did not take another batch.
    Unusable,
}

/// An image that failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Example {
    /// Its number; the same configuration finds it again.
    pub image: u64,
    /// After which operation of the run the power failed.
    pub cut: usize,
    /// How.
    pub failure: Failure,
    /// What the database said.
    pub why: String,
    pages: Pages,
}

impl Example {
    /// The disk as the power cut left it.
    pub fn disk(&self) -> SimDisk {
        SimDisk::holding(self.pages.clone(), self.image)
    }
}

/// What a search found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CrashReport {
    /// Images that were opened or tried.
    pub image_count: u64,
    /// Images in which the power failed a second time, during the repair.
    pub twice_cut_count: u64,
    /// Images that took another batch afterwards.
    pub written_count: u64,
    /// Images that held the batch that was under way.
    pub kept_underway_count: u64,
    /// Images that could not be opened or read.
    pub refused_count: u64,
    /// Images on which the database panicked.
    pub panicked_count: u64,
    /// Images without something acknowledged, or with half a batch.
    pub lost_count: u64,
    /// Images with something nobody had written.
    pub unknown_count: u64,
    /// Images that were opened and did not take another batch.
    pub unusable_count: u64,
    /// The first failures.
    pub examples: Vec<Example>,
}

impl CrashReport {
    /// Images that failed in any way.
    pub const fn failure_count(&self) -> u64 {
        self.refused_count
            + self.panicked_count
            + self.lost_count
            + self.unknown_count
            + self.unusable_count
    }

    fn add(&mut self, example: Example) {
        *match example.failure {
            Failure::Refused => &mut self.refused_count,
            Failure::Panicked => &mut self.panicked_count,
            Failure::Lost => &mut self.lost_count,
            Failure::Unknown => &mut self.unknown_count,
            Failure::Unusable => &mut self.unusable_count,
        } += 1;
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(example);
        }
    }
}

/// Searches power cuts for one that a store does not survive.
pub fn search<S: Subject>(config: &Config) -> CrashReport {
    let mut report = CrashReport::default();
    while report.image_count < config.image_count {
        let images_per_run = config.images_per_run.max(1);
        let round = report.image_count / images_per_run;
        let run = Run::record::<S>(config, round);
        let left = config.image_count - report.image_count;
        run.search::<S>(config, left.min(images_per_run), &mut report);
        if config.is_over_at_failure && report.failure_count() > 0 {
            break;
        }
    }
    report
}

/// Opens what is on a disk and reads it. A panic is an error like any other.
///
/// # Errors
///
/// What the database said.
pub fn try_open<S: Subject>(disk: &SimDisk) -> Result<Tables, String> {
    let tried = caught(|| S::open(disk).and_then(|mut open| S::read(&mut open)));
    tried.unwrap_or_else(|(_, why)| Err(why))
}

/// Does something; a panic is a failure.
fn caught<T>(work: impl FnOnce() -> T) -> Result<T, (Failure, String)> {
    let (done, _) = quietly(|| catch_unwind(AssertUnwindSafe(work)));
    done.map_err(|panic| (Failure::Panicked, panic_message(&*panic)))
}

/// The journal of one run of a store.
pub(super) struct Run {
    start: Platter,
    ops: Vec<Op>,
    /// What the tables hold after each batch; before the first one at index 0.
    states: Vec<Tables>,
    /// For each batch after which operation it was begun, and after which it was acknowledged.
    spans: Vec<(usize, usize)>,
    /// What each batch wrote, for telling lost from unknown.
    ever: BTreeSet<(Table, Vec<u8>, Vec<u8>)>,
}

impl Run {
    pub(super) fn record<S: Subject>(config: &Config, round: u64) -> Self {
        let mut rng = seed::rng(config.seed, "crash run", round);
        let disk = SimDisk::new(rng.next_u64());
        let mut open = S::open(&disk).expect("an empty disk in order takes a new store");
        disk.begin();
        if config.is_lying {
            let (per_mille, epochs) = (1000, 4);
            disk.apply(&DiskFault::LyingFsync { per_mille, epochs });
        }
        let mut run = Self {
            start: Platter::holding(disk.pages()),
            ops: Vec::new(),
            states: vec![S::read(&mut open).expect("a disk in order can be read")],
            spans: Vec::new(),
            ever: BTreeSet::new(),
        };
        for n in 0..config.batch_count {
            match rng.below(10) {
                // A restart in peace writes as well; a kill leaves the repair to the next start.
                0 => drop(open),
                1 => {
                    disk.unplug();
                    drop(open);
                }
                _ => {
                    run.write::<S>(&disk, &mut open, &mut rng, n);
                    continue;
                }
            }
            open = S::open(&disk).expect("a disk in order opens again");
            run.write::<S>(&disk, &mut open, &mut rng, n);
        }
        drop(open);
        (run.start, run.ops) = disk.take_journal();
        run
    }

    fn write<S: Subject>(&mut self, disk: &SimDisk, open: &mut S::Open, rng: &mut Rng, n: u64) {
        let batch = agent_batch(rng, n);
        let begun = disk.journal_len();
        S::commit(open, &batch).expect("a disk in order takes a batch");
        self.spans.push((begun, disk.journal_len()));
        self.states
            .push(S::read(open).expect("what was written can be read"));
        for op in batch {
            if let StoreOp::Put { table, key, value } = op {
                self.ever.insert((table, key, value));
            }
        }
    }

    /// What is on the disk after the last batch, or after the store was closed.
    pub(super) fn end(&self, is_closed: bool) -> Pages {
        let op_count = match self.spans.last() {
            Some((_, acknowledged)) if !is_closed => *acknowledged,
            Some(_) | None => self.ops.len(),
        };
        let mut platter = self.start.clone();
        for op in &self.ops[..op_count] {
            platter.apply(op);
        }
        platter.live().clone()
    }

    /// What the tables hold at the end.
    pub(super) fn newest(&self) -> &Tables {
        &self.states[self.states.len() - 1]
    }

    /// Whether the tables held that before the last batch.
    pub(super) fn is_last_but_one(&self, tables: &Tables) -> bool {
        self.states.iter().rev().nth(1) == Some(tables)
    }

    /// Whether every record was written by somebody.
    pub(super) fn is_known(&self, tables: &Tables) -> bool {
        tables.iter().all(|(table, records)| {
            let is_known = |(key, value): &(Vec<u8>, Vec<u8>)| {
                self.ever.contains(&(*table, key.clone(), value.clone()))
            };
            records.iter().all(is_known)
        })
    }

    /// Hands out images in the order of their numbers, until `visit` says that it is enough.
    fn each_image(
        &self,
        config: &Config,
        first: u64,
        image_count: u64,
        mut visit: impl FnMut(u64, usize, Pages, Rng) -> bool,
    ) {
        let mut rng = seed::rng(config.seed, "crash cuts", first);
        // Most waits for a sync when it begins, so half of the cuts are there.
        let is_sync = |at: &usize| matches!(self.ops[*at], Op::Sync(_));
        let syncs: Vec<usize> = (0..self.ops.len()).filter(is_sync).collect();
        let mut cuts: Vec<usize> = (0..image_count)
            .map(|n| match n % 2 {
                0 if !syncs.is_empty() => *rng.pick(&syncs).expect("not empty"),
                _ => rng.below(self.ops.len() as u64 + 1) as usize,
            })
            .collect();
        cuts.sort_unstable();
        let (mut platter, mut done) = (self.start.clone(), 0);
        for (image, cut) in (first..).zip(cuts) {
            for op in &self.ops[done..cut] {
                platter.apply(op);
            }
            done = cut;
            let mut rng = seed::rng(config.seed, "crash image", image);
            let pages = platter.after_cut(&mut rng, config.habits);
            if !visit(image, cut, pages, rng) {
                return;
            }
        }
    }

    fn search<S: Subject>(&self, config: &Config, image_count: u64, report: &mut CrashReport) {
        let first = report.image_count;
        self.each_image(config, first, image_count, |image, cut, pages, mut rng| {
            report.image_count += 1;
            let disk = SimDisk::holding(pages, rng.next_u64());
            if rng.chance(125) {
                report.twice_cut_count += 1;
                disk.fail_in(rng.below(12));
                let _ = caught(|| drop(S::open(&disk)));
                disk.crash();
            }
            let pages = disk.pages();
            let tried = caught(|| self.try_image::<S>(&disk, cut, &mut rng, report));
            let Err((failure, why)) = tried.unwrap_or_else(Err) else {
                return true;
            };
            report.add(Example {
                image,
                cut,
                failure,
                why,
                pages,
            });
            !config.is_over_at_failure
        });
    }

    fn try_image<S: Subject>(
        &self,
        disk: &SimDisk,
        cut: usize,
        rng: &mut Rng,
        report: &mut CrashReport,
    ) -> Result<(), (Failure, String)> {
        let mut open = S::open(disk).map_err(|why| (Failure::Refused, why))?;
        let found = S::read(&mut open).map_err(|why| (Failure::Refused, why))?;
        let acknowledged_count = self.spans.partition_point(|span| span.1 <= cut);
        let is_underway = self
            .spans
            .get(acknowledged_count)
            .is_some_and(|s| s.0 < cut);
        if found != self.states[acknowledged_count] {
            if !is_underway || found != self.states[acknowledged_count + 1] {
                return Err(self.difference(&found, acknowledged_count));
            }
            report.kept_underway_count += 1;
        }
        if rng.chance(60) {
            report.written_count += 1;
            let batch = agent_batch(rng, u64::from(u32::MAX));
            let written = S::commit(&mut open, &batch).and_then(|()| S::read(&mut open));
            written.map_err(|why| (Failure::Unusable, why))?;
        }
        // The last words of a store cost time and do not matter any more.
        disk.unplug();
        drop(open);
        Ok(())
    }

    fn difference(&self, found: &Tables, acknowledged_count: usize) -> (Failure, String) {
        for (table, records) in found {
            for (key, value) in records {
                if !self.ever.contains(&(*table, key.clone(), value.clone())) {
                    return (Failure::Unknown, format!("{table:?} {key:?}"));
                }
            }
        }
        let is_older = self.states.iter().rposition(|state| state == found);
        let why = match is_older {
            Some(count) => format!("batch {count} of {acknowledged_count}"),
            None => "half a batch".to_owned(),
        };
        (Failure::Lost, why)
    }
}

/// A batch as an agent writes them: statements that stay, registers that are replaced, its own
/// counters, addresses that come and go.
fn agent_batch(rng: &mut Rng, n: u64) -> Batch {
    let put = |table, key: u64, value| StoreOp::Put {
        table,
        key: key.to_be_bytes().repeat(4),
        value,
    };
    let bytes = |rng: &mut Rng, max: u64| {
        let length = 1 + rng.below(max) as usize;
        vec![n as u8; length]
    };
    let mut batch = vec![put(Table::Meta, 0, n.to_le_bytes().to_vec())];
    for m in 0..rng.below(4) {
        batch.push(put(Table::Statements, n * 16 + m, bytes(rng, 400)));
    }
    for _ in 0..rng.below(4) {
        let max = if rng.chance(50) { 12_000 } else { 300 };
        batch.push(put(Table::Registers, rng.below(12), bytes(rng, max)));
    }
    if rng.chance(300) {
        batch.push(put(Table::Addresses, rng.below(6), bytes(rng, 60)));
    }
    if rng.chance(300) {
        let (table, key) = if rng.chance(500) {
            (Table::Addresses, rng.below(6))
        } else {
            (Table::Statements, rng.below(n + 1) * 16)
        };
        let key = key.to_be_bytes().repeat(4);
        batch.push(StoreOp::Delete { table, key });
    }
    batch
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests;
