//! Which marks generated plans reach, and what oracles say of them: `marks FROM TO`.
#![expect(clippy::print_stdout, reason = "a program for people")]

use std::collections::BTreeSet;

use lab_simulation::plan::{Profile, generate, run};

fn main() {
    let mut bounds = std::env::args().skip(1).filter_map(|n| n.parse().ok());
    let (from, to) = match (bounds.next(), bounds.next()) {
        (None, _) => (0, 50),
        (Some(to), None) => (0, to),
        (Some(from), Some(to)) => (from, to),
    };
    let listed: BTreeSet<&str> = include_str!("../marks.txt").lines().collect();
    let mut reached = BTreeSet::new();
    for seed in from..to {
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
