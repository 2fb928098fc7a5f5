//! Who is taken for dead, and how soon.

use std::collections::BTreeSet;

use lab_agent_core::Event;
use lab_crdt_model::NodeId;
use lab_crdt_model::view::Liveness;

use super::{Figure, Setup, form, percentile, watch};
use crate::note::{Note, What};

const VICTIMS: usize = 10;
/// How long a machine stands still, and how long it then runs.
const STILL_MS: u64 = 8_000;
const RUNS_MS: u64 = 2_000;
const CYCLES: u64 = 12;

fn accused(note: &Note) -> Option<NodeId> {
    match &note.what {
        What::Told(Event::PeerChanged {
            node,
            liveness: Liveness::Down,
        }) => Some(*node),
        _ => None,
    }
}

/// Ten nodes lose power, one after the other, and come back a minute later.
pub(super) fn detection(setup: &Setup) -> Vec<Figure> {
    let mut world = form(setup);
    let (mut each, mut last, mut missed, mut wrong) = (Vec::new(), Vec::new(), 0, 0);
    for round in 0..VICTIMS.min(setup.nodes / 2) {
        let victim = (round * 7 + 3) % setup.nodes;
        let dead = world.id(victim);
        let start = world.now();
        world.kill(victim);
        let mut seen = BTreeSet::new();
        let everyone = setup.nodes - 1;
        watch(&mut world, 60_000, |note| {
            match accused(note) {
                Some(node) if node != dead => wrong += 1,
                Some(_) if seen.insert(note.node) => {
                    each.push((note.at.0 - start.0) / 1_000_000);
                }
                Some(_) => {}
                None => {}
            }
            seen.len() == everyone
        });
        if seen.len() == everyone {
            last.push((world.now().0 - start.0) / 1_000_000);
        } else {
            missed += 1;
        }
        world.start(victim);
        watch(&mut world, 60_000, |note| {
            wrong += u64::from(accused(note).is_some_and(|node| node != dead));
            false
        });
    }
    each.sort_unstable();
    last.sort_unstable();
    let most = if setup.nodes > 100 { 8_000 } else { 6_000 };
    vec![
        Figure::time("first", each.first().copied()),
        Figure::time("node p50", percentile(&each, 50)),
        Figure::time("node p99", percentile(&each, 99))
            .at_most(most, &format!("{} s", most / 1_000)),
        Figure::time("last max", last.last().copied()),
        Figure::count("not noticed", missed, "").at_most(0, "0"),
        Figure::count("wrong", wrong, "").at_most(0, "0"),
    ]
}

/// Sixteen of a hundred stand still for eight seconds and run for two, for two minutes.
pub(super) fn accusations(setup: &Setup) -> Vec<Figure> {
    let mut world = form(setup);
    let count = (setup.nodes * 16).div_ceil(100);
    let still: Vec<usize> = (0..count).map(|n| n * setup.nodes / count).collect();
    let ids: BTreeSet<NodeId> = still.iter().map(|n| world.id(*n)).collect();
    let (mut by_healthy, mut by_any, mut right) = (0, 0, 0);
    let mut count_note = |note: &Note| {
        match accused(note) {
            Some(node) if ids.contains(&node) => right += 1,
            Some(_) if still.contains(&note.node) => by_any += 1,
            Some(_) => {
                by_any += 1;
                by_healthy += 1;
            }
            None => {}
        }
        false
    };
    for _ in 0..CYCLES {
        for node in &still {
            world.pause(*node, STILL_MS);
        }
        watch(&mut world, STILL_MS + RUNS_MS, &mut count_note);
    }
    watch(&mut world, 60_000, &mut count_note);
    let is_whole = world.run_until(60_000, |w| {
        let mut all = 0..w.len();
        w.are_equal() && all.all(|n| w.links(n) > 0)
    });
    vec![
        Figure::count("standing still", count as u64, ""),
        Figure::count("wrong by healthy", by_healthy, "").at_most(0, "0"),
        Figure::count("wrong by any", by_any, "").at_most(0, "0"),
        Figure::count("right", right, ""),
        Figure::count("whole after", u64::from(is_whole), ""),
    ]
}
