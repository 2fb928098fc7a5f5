//! Figures of simulated meshes: how long an edit takes to reach everyone, what idling costs, how soon a dead node
//! is seen, how long a partition takes to heal.
//!
//! ```text
//! cargo run --release -p lab-simulation --example measure -- 5 25 50 100
//! ```
#![expect(clippy::print_stdout, reason = "a table for people")]
#![expect(
    clippy::disallowed_methods,
    reason = "tells how fast the simulation itself runs"
)]

use std::time::Instant;

use lab_agent_core::ViewMask;
use lab_crdt_model::Value;
use lab_crdt_model::view::Liveness;
use lab_simulation::World;

const ROUNDS: u64 = 20;

fn main() {
    let sizes: Vec<usize> = std::env::args()
        .skip(1)
        .filter_map(|a| a.parse().ok())
        .collect();
    let sizes = if sizes.is_empty() {
        vec![5, 25, 50, 100]
    } else {
        sizes
    };
    println!(
        "| nodes | edit at last node p50 / max ms | idle payload B/s per node | death seen by all ms | heal after 30 min ms | node-seconds per second |"
    );
    println!("|---|---|---|---|---|---|");
    for n in sizes {
        measure(n);
    }
}

fn measure(n: usize) {
    let wall = Instant::now();
    let mut w = World::found(n as u64);
    // One-way latency of a LAN with some Wi-Fi.
    w.latency(500, 5_000);
    w.grow(n);
    w.run_for(60_000);
    let admin = w.admin.clone();

    let before = w.sent.1;
    w.run_for(120_000);
    let idle = (w.sent.1 - before) / 120 / n as u64;

    let mut times = Vec::new();
    for round in 0..ROUNDS {
        let path = format!("on/all/params/p{round}");
        let at = (round as usize * 7) % n;
        admin.set(&mut w, at, &path, Value::Int(round as i64));
        let start = w.now_ms();
        let digest = w.agent_view(at, ViewMask::default()).map(|v| v.digest);
        let all = w.run_until(60_000, |w| {
            (0..n).all(|i| w.agent_view(i, ViewMask::default()).map(|v| v.digest) == digest)
        });
        assert!(all, "an edit did not arrive");
        times.push(w.now_ms() - start);
        w.run_for(1_000);
    }
    times.sort_unstable();

    let victim = n / 2;
    let dead = w.id(victim);
    w.kill(victim);
    let start = w.now_ms();
    let sees = |w: &mut World, i: usize| {
        let mask = ViewMask {
            reports: true,
            ..ViewMask::default()
        };
        w.agent_view(i, mask).is_some_and(|v| {
            v.peers
                .iter()
                .any(|p| p.node == dead && p.liveness == Liveness::Down)
        })
    };
    let is_seen = w.run_until(60_000, |w| {
        (0..n).filter(|i| *i != victim).all(|i| sees(w, i))
    });
    let detect = if is_seen {
        (w.now_ms() - start).to_string()
    } else {
        "-".into()
    };
    w.start(victim);
    w.run_for(30_000);

    let (left, right): (Vec<usize>, Vec<usize>) = (0..n).partition(|i| i % 2 == 0);
    w.partition(&left, &right);
    w.run_for(1_800_000);
    admin.set(&mut w, 0, "on/all/params/split", Value::Int(1));
    w.heal();
    let start = w.now_ms();
    let is_whole = w.run_until(300_000, World::are_equal);
    let heal = if is_whole {
        (w.now_ms() - start).to_string()
    } else {
        "-".into()
    };

    let speed = w.now_ms() as f64 / 1000.0 * n as f64 / wall.elapsed().as_secs_f64();
    println!(
        "| {n} | {} / {} | {idle} | {detect} | {heal} | {speed:.0} |",
        times[times.len() / 2],
        times[times.len() - 1]
    );
}
