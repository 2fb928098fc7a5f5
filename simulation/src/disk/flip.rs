//! Flips one bit of a stored database after the other and counts what a start makes of it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use lab_crdt_model::store::Tables;

use super::crash::{self, AgentStore, RawRedb, Subject};
use super::pages::{PAGE_BYTES, Pages};
use super::quiet::quietly;
use super::real;
use super::sim_disk::SimDisk;
use crate::seed;

/// Flips in one stored database before the next is made.
const FLIPS_PER_ROUND: u64 = 500;
const BATCHES_PER_ROUND: u64 = 120;

/// What came of flips. Each flip is counted once, except for panics.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FlipReport {
    /// Bits flipped, each in a fresh copy.
    pub flip_count: u64,
    /// Everything was there as before.
    pub no_effect_count: u64,
    /// Records were moved to quarantine, all others were there.
    pub quarantined_count: u64,
    /// The file was salvaged.
    pub salvaged_count: u64,
    /// Records that a salvage saved, and those that there were.
    pub salvaged_records: (u64, u64),
    /// The newest commit was given up, out loud, and the one before was whole.
    pub rolled_back_count: u64,
    /// The newest commit was given up without a word, and the one before was whole. Only of a store
    /// that was not closed: a rotten commit slot in the header looks like one that a power cut tore.
    pub unsaid_rollback_count: u64,
    /// The start was refused.
    pub refused_count: u64,
    /// Flips at which something panicked and was caught.
    pub panic_count: u64,
    /// Something was missing without a word, or there that nobody had written.
    pub silently_wrong_count: u64,
}

enum Outcome {
    NoEffect,
    Quarantined,
    Salvaged(u64),
    RolledBack,
    UnsaidRollback,
    Refused,
    SilentlyWrong,
}

impl FlipReport {
    fn add(&mut self, outcome: &Outcome, record_count: u64, panic_count: u64) {
        self.flip_count += 1;
        self.panic_count += u64::from(panic_count > 0);
        match outcome {
            Outcome::NoEffect => self.no_effect_count += 1,
            Outcome::Quarantined => self.quarantined_count += 1,
            Outcome::Salvaged(saved_count) => {
                self.salvaged_count += 1;
                self.salvaged_records.0 += saved_count;
                self.salvaged_records.1 += record_count;
            }
            Outcome::RolledBack => self.rolled_back_count += 1,
            Outcome::UnsaidRollback => self.unsaid_rollback_count += 1,
            Outcome::Refused => self.refused_count += 1,
            Outcome::SilentlyWrong => self.silently_wrong_count += 1,
        }
    }
}

/// Flips bits in the agent's store and starts it as the daemon does.
pub fn search(seed: u64, flip_count: u64) -> FlipReport {
    search_with::<AgentStore>(seed, flip_count, |disk, run, is_closed| {
        let Ok((store, tables, started)) = real::start(disk) else {
            return Outcome::Refused;
        };
        // The last words of a store cost time and do not matter any more.
        disk.unplug();
        drop(store);
        if !run.is_known(&tables) {
            return Outcome::SilentlyWrong;
        }
        if started.is_salvaged {
            return Outcome::Salvaged(count(&tables));
        }
        match (tables == *run.newest(), started.quarantined_count) {
            (true, _) => Outcome::NoEffect,
            (false, 1..) => Outcome::Quarantined,
            (false, 0) if run.is_last_but_one(&tables) && started.is_rolled_back => {
                Outcome::RolledBack
            }
            (false, 0) if run.is_last_but_one(&tables) && !is_closed => Outcome::UnsaidRollback,
            (false, 0) => Outcome::SilentlyWrong,
        }
    })
}

/// The same on redb without the store around it and opened plainly: shows what the checksums of the
/// store are for, and that the search can find something.
pub fn search_raw(seed: u64, flip_count: u64) -> FlipReport {
    search_with::<RawRedb>(seed, flip_count, |disk, run, _| {
        let opened = RawRedb::open(disk).and_then(|mut open| {
            let tables = RawRedb::read(&mut open);
            disk.unplug();
            tables
        });
        match opened {
            Err(_) => Outcome::Refused,
            Ok(tables) if tables == *run.newest() => Outcome::NoEffect,
            Ok(_) => Outcome::SilentlyWrong,
        }
    })
}

fn search_with<S: Subject>(
    seed: u64,
    flip_count: u64,
    start: impl Fn(&SimDisk, &crash::Run, bool) -> Outcome,
) -> FlipReport {
    let mut report = FlipReport::default();
    while report.flip_count < flip_count {
        let round = report.flip_count / FLIPS_PER_ROUND;
        let config = crash::Config {
            batch_count: BATCHES_PER_ROUND,
            ..crash::Config::new(seed, 0)
        };
        let run = crash::Run::record::<S>(&config, round);
        let mut rng = seed::rng(seed, "flips", round);
        // Half of them were closed in peace; the others were not, and are repaired at the start.
        let is_closed = round.is_multiple_of(2);
        let pages = run.end(is_closed);
        let used = used_pages::<S>(&pages);
        for _ in 0..FLIPS_PER_ROUND.min(flip_count - report.flip_count) {
            let page = *rng.pick(&used).expect("a store uses pages") as u64;
            let bit = (page * PAGE_BYTES as u64 * 8) + rng.below(PAGE_BYTES as u64 * 8);
            let disk = SimDisk::holding(flipped(&pages, bit), rng.next_u64());
            let (done, panic_count) =
                quietly(|| catch_unwind(AssertUnwindSafe(|| start(&disk, &run, is_closed))));
            let outcome = done.unwrap_or(Outcome::Refused);
            report.add(&outcome, count(run.newest()), panic_count);
        }
    }
    report
}

/// The pages that a start reads.
fn used_pages<S: Subject>(pages: &Pages) -> Vec<usize> {
    let disk = SimDisk::holding(pages.clone(), 0);
    disk.note_reads();
    let mut open = S::open(&disk).expect("what a run left opens");
    S::read(&mut open).expect("what a run left can be read");
    disk.take_reads().into_iter().collect()
}

fn flipped(pages: &Pages, bit: u64) -> Pages {
    let mut pages = pages.clone();
    pages.flip(bit);
    pages
}

fn count(tables: &Tables) -> u64 {
    tables.values().map(|records| records.len() as u64).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_flipped_bit_of_the_store_goes_unnoticed() {
        let report = search(1, 1500);
        assert_eq!(report.silently_wrong_count, 0, "{report:?}");
        assert_eq!(report.refused_count, 0, "{report:?}");
        assert!(report.salvaged_count > 300, "{report:?}");
        assert!(report.no_effect_count > 100, "{report:?}");
    }

    #[test]
    fn without_the_store_many_flipped_bits_go_unnoticed() {
        let report = search_raw(1, 500);
        assert!(report.silently_wrong_count > 100, "{report:?}");
    }
}
