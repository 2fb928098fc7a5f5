//! Searches power cuts and flipped bits that a store does not survive, on one core; and measures
//! what a drive costs.
//!
//! ```text
//! cargo run --profile sim -p lab-simulation --example crash -- store 1000000
//! cargo run --profile sim -p lab-simulation --example crash -- redb 100000 7
//! cargo run --profile sim -p lab-simulation --example crash --features redb-3-1 -- redb-3-1 100000
//! cargo run --profile sim -p lab-simulation --example crash -- flips 20000
//! cargo run --profile sim -p lab-simulation --example crash -- memory 1000 real
//! ```
#![expect(clippy::print_stdout, reason = "figures for people")]
#![expect(clippy::disallowed_methods, reason = "tells how fast the search is")]

use std::time::Instant;

use lab_crdt_model::Mono;
use lab_crdt_model::store::{Batch, StoreOp, Table};

#[cfg(feature = "redb-3-1")]
use lab_simulation::disk::crash::RawRedb3;
use lab_simulation::disk::crash::{AgentStore, Config, CrashReport, RawRedb, search};
use lab_simulation::disk::{Drive, DriveKind, Ledger, flip};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| args.get(at).and_then(|arg| arg.parse().ok());
    let image_count = number(1).unwrap_or(10_000);
    let config = Config::new(number(2).unwrap_or(1), image_count);
    let start = Instant::now();
    match args.first().map(String::as_str) {
        Some("flips") => {
            println!("{:#?}", flip::search(config.seed, image_count));
            println!(
                "plain redb: {:#?}",
                flip::search_raw(config.seed, image_count)
            );
            println!("{:.1} s", start.elapsed().as_secs_f64());
            return;
        }
        Some("memory") => {
            let is_model = args.get(2).is_some_and(|arg| arg == "model");
            return memory(image_count, is_model);
        }
        _ => {}
    }
    let report: CrashReport = match args.first().map(String::as_str) {
        Some("store") | None => search::<AgentStore>(&config),
        Some("redb") => search::<RawRedb>(&config),
        #[cfg(feature = "redb-3-1")]
        Some("redb-3-1") => search::<RawRedb3>(&config),
        Some(other) => {
            println!("{other}: not one of store, redb, redb-3-1 (a feature), flips, memory");
            return;
        }
    };
    let seconds = start.elapsed().as_secs_f64();
    println!("{report:#?}");
    println!(
        "{} images in {seconds:.1} s, {:.0} images/s, {} failures",
        report.image_count,
        report.image_count as f64 / seconds,
        report.failure_count()
    );
}

/// Resident memory and time of so many drives: empty, then with 200 registers and statements of 300
/// bytes, the same in all.
fn memory(drive_count: u64, is_model: bool) {
    let kind = if is_model {
        DriveKind::Model
    } else {
        DriveKind::Real
    };
    let (before, start) = (resident_kib(), Instant::now());
    let ledger = Ledger::default();
    let mut drives: Vec<Drive> = (0..drive_count)
        .map(|seed| Drive::sharing(kind, seed, &ledger))
        .collect();
    for drive in &mut drives {
        drive.boot(Mono(0)).expect("an empty disk in order");
    }
    let (empty, booted) = (resident_kib(), start.elapsed());
    let start = Instant::now();
    for n in 0..20u64 {
        let batch = some_batch(n);
        for drive in &mut drives {
            let written = drive.write(Mono(n * 1_000_000_000), &batch);
            written.result.expect("a disk in order");
        }
    }
    let (full, written) = (resident_kib(), start.elapsed());
    println!(
        "{kind:?}: {} KiB a drive when empty, {} KiB with 200 records; {} us a start, {} us a write",
        (empty - before) / drive_count,
        (full - before) / drive_count,
        booted.as_micros() as u64 / drive_count,
        written.as_micros() as u64 / drive_count / 20,
    );
}

fn some_batch(n: u64) -> Batch {
    let records = (0..10u64).map(|m| StoreOp::Put {
        table: if m % 2 == 0 {
            Table::Registers
        } else {
            Table::Statements
        },
        key: (n * 10 + m).to_be_bytes().repeat(4),
        value: vec![n as u8; 300],
    });
    records.collect()
}

fn resident_kib() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok());
    pages.map_or(0, |pages: u64| pages * 4)
}
