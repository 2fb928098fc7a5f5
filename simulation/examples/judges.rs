//! Both judges of authority on as many random histories as asked for: `judges [FROM] [COUNT]`.
//!
//! Prints what the histories held; ends with an error at the first difference.

#![expect(clippy::print_stdout, reason = "a program for people")]

use lab_simulation::reference::history::{History, Tally};

fn main() -> Result<(), String> {
    let number = |n: usize, or: u64| {
        let text = std::env::args().nth(n);
        text.and_then(|t| t.parse().ok()).unwrap_or(or)
    };
    let (from, count) = (number(1, 0), number(2, 10_000));
    let mut tally = Tally::default();
    for seed in from..from + count {
        let more = History::new(seed).compare();
        tally.merge(&more.map_err(|why| format!("seed {seed}: {why}"))?);
    }
    for (what, count) in &tally.0 {
        println!("{count:>10}  {what}");
    }
    Ok(())
}
