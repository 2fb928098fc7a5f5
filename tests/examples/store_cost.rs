//! How long the real store takes to make one edit durable, for `simulation/src/costs.rs`.
//!
//! ```text
//! store_cost FOLDER      on the file system that is asked about
//! ```
//!
//! Prints the median and the 99th percentile of 500 commits of a statement with its register, microseconds.
#![expect(clippy::print_stdout, reason = "figures for people")]

use std::path::PathBuf;

use lab_agent_store::Store;
use lab_crdt_model::store::{StoreOp, Table};
use rustix::time::{ClockId, clock_gettime};

const COMMITS: u64 = 500;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().nth(1).ok_or("usage: store_cost FOLDER")?;
    let file = PathBuf::from(folder).join("store_cost.redb");
    let (mut store, _) = Store::open(&file)?;
    let mut took = Vec::new();
    for n in 0..COMMITS {
        let put = |table, key: Vec<u8>, bytes| StoreOp::Put {
            table,
            key,
            value: vec![n as u8; bytes],
        };
        let key = n.to_be_bytes().repeat(4);
        let batch = vec![
            put(Table::Statements, key, 350),
            put(Table::Registers, vec![1; 32], 300),
        ];
        let begun = now_us();
        store.commit(&[batch])?;
        took.push(now_us() - begun);
    }
    store.close()?;
    std::fs::remove_file(&file)?;
    took.sort_unstable();
    let at = |per_cent: usize| took[took.len() * per_cent / 100];
    println!("commit: p50 {} us, p99 {} us", at(50), at(99));
    Ok(())
}

fn now_us() -> i64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec * 1_000_000 + time.tv_nsec / 1000
}
