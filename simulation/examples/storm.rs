//! How a fleet gets up that starts at once, second by second: `storm [NODES] [SECONDS] [SEED]`.
//!
//! What is sent of which kind, and what it costs: in time of a processor (where the system tells it), and in real time.

#![expect(clippy::print_stdout, reason = "a program for people")]
#![expect(
    clippy::disallowed_methods,
    reason = "how fast the simulator runs is told in real time"
)]

use lab_simulation::{Options, StoreKind, World};

/// Kinds of frames on mesh links, by their numbers.
const KINDS: [&str; 9] = [
    "hello", "ping", "pong", "announce", "overlay", "sync", "goodbye", "ask view", "view",
];

fn figures(world: &World) -> Vec<(&'static str, u64)> {
    let mut out = vec![("inputs", 0), ("dials", 0), ("kB", 0), ("downs", 0)];
    out.extend(KINDS.map(|kind| (kind, 0)));
    for node in 0..world.len() {
        let counters = world.counters(node);
        let own = [
            counters.steps,
            counters.dials,
            counters.bytes_out,
            counters.downs_told,
        ];
        let all = own.iter().chain(&counters.frames_by_kind[1..]);
        for ((_, sum), more) in out.iter_mut().zip(all) {
            *sum += more;
        }
    }
    out[2].1 /= 1_000;
    out
}

/// How long this thread had a processor, milliseconds; 0 where nobody says.
fn busy_ms() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let ns = text
        .split_whitespace()
        .next()
        .and_then(|ns| ns.parse().ok());
    ns.unwrap_or(0u64) / 1_000_000
}

fn main() {
    let number = |n: usize, or: u64| {
        let text = std::env::args().nth(n);
        text.and_then(|t| t.parse().ok()).unwrap_or(or)
    };
    let (nodes, seconds, seed) = (number(1, 1_000), number(2, 30), number(3, 1));
    let options = Options {
        store: StoreKind::Lean,
        ..Options::homelab(seed)
    };
    let mut world = World::form(options, nodes as usize);
    let mut before = figures(&world);
    for second in 1..=seconds {
        let (began, busy) = (std::time::Instant::now(), busy_ms());
        world.run_for(1_000);
        let after = figures(&world);
        let (busy, real) = (busy_ms() - busy, began.elapsed().as_millis());
        print!("{second:>4} s {busy:>6} ms of {real:>6}");
        for ((name, now), (_, then)) in after.iter().zip(&before) {
            print!("  {name} {}", now - then);
        }
        println!();
        before = after;
    }
}
