//! Which marks generated plans reach: `marks SEEDS`.
#![expect(clippy::print_stdout, reason = "a program for people")]

use std::collections::BTreeSet;

use lab_simulation::plan::{Profile, generate, run};

fn main() {
    let seeds = std::env::args().nth(1).and_then(|n| n.parse().ok());
    let listed: BTreeSet<&str> = include_str!("../marks.txt").lines().collect();
    let mut reached = BTreeSet::new();
    for seed in 0..seeds.unwrap_or(50) {
        let outcome = run(&generate(seed, Profile::Homelab), &mut ());
        reached.extend(outcome.marks.into_keys());
        for violation in outcome.violations {
            println!("seed {seed}: {violation}");
        }
        println!("{seed}: {} of {} marks", reached.len(), listed.len());
    }
    for name in listed.iter().filter(|name| !reached.contains(**name)) {
        println!("never: {name}");
    }
}
