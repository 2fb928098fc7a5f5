//! What one question to the network model costs.
//!
//! ```text
//! cargo run --profile sim -p lab-simulation --example network
//! ```
#![expect(clippy::print_stdout, reason = "a table for people")]
#![expect(
    clippy::disallowed_methods,
    reason = "tells how fast the model itself runs"
)]

use std::time::Instant;

use lab_crdt_model::Mono;
use lab_simulation::network::{Config, Fate, Fault, Host, Network, Paths, Profile, Scope};

const SENDS: usize = 4_000_000;
const LINKS: usize = 10;

fn main() {
    println!("| network | hosts | connections | ns per send | ns per carries |");
    println!("|---|---|---|---|---|");
    let quiet = |_: &mut Network| {};
    measure("LAN", Config::new(Profile::Lan), 10, quiet);
    measure("LAN", Config::new(Profile::Lan), 1_000, quiet);
    measure("LAN", Config::new(Profile::Lan), 10_000, quiet);
    measure("Wi-Fi", Config::new(Profile::Wifi), 1_000, quiet);
    measure("mixed", Config::new(Profile::Mixed), 1_000, quiet);
    measure("mixed", Config::new(Profile::Mixed), 10_000, quiet);
    measure(
        "LAN, 20 faults",
        Config::new(Profile::Lan),
        1_000,
        |network| {
            for first in 0..20 {
                let paths = Paths::Of(Scope::Span { first, count: 5 });
                network.apply(
                    Mono(0),
                    &Fault::Latency {
                        paths,
                        ms: 1,
                        jitter_ms: 1,
                    },
                );
            }
        },
    );
}

/// Nanoseconds of processor this program has had, where the system tells; otherwise those that have passed.
fn spent_ns(start: Instant) -> u64 {
    let told = std::fs::read_to_string("/proc/self/schedstat").ok();
    let first = told.and_then(|text| text.split(' ').next()?.parse().ok());
    first.unwrap_or_else(|| start.elapsed().as_nanos() as u64)
}

fn measure(name: &str, config: Config, count: usize, prepare: impl Fn(&mut Network)) {
    let mut network = Network::new(1, config.clone());
    for index in 0..count {
        network.add_host(Host::of(&config, index, 1));
    }
    prepare(&mut network);
    // Each host talks to some others, and the senders take turns as events would have them.
    let talks: Vec<(usize, usize)> = (0..LINKS)
        .flat_map(|link| (0..count).map(move |from| (from, (from + 1 + link * 37) % count)))
        .filter(|(from, to)| from != to)
        .collect();
    let clock = Instant::now();
    let mut now = Mono(1_000_000_000);
    let mut arrived = 0;
    let mut run = |network: &mut Network, sends: usize| {
        let started = spent_ns(clock);
        for nth in 0..sends {
            let (from, to) = talks[nth % talks.len()];
            now.0 += 20_000;
            if let Fate::Arrives(at) = network.send(now, from, to, 1, 0, 300) {
                arrived ^= at.0;
            }
        }
        (spent_ns(clock) - started) / sends as u64
    };
    run(&mut network, talks.len());
    let per_send = run(&mut network, SENDS);
    let started = spent_ns(clock);
    let mut open = 0_usize;
    for nth in 0..SENDS {
        let (from, to) = talks[nth % talks.len()];
        open += usize::from(network.carries(now, from, to, 1));
    }
    let per_question = (spent_ns(clock) - started) / SENDS as u64;
    assert!(open > 0 && arrived != 0, "nothing got through");
    println!(
        "| {name} | {count} | {} | {per_send} | {per_question} |",
        network.connections()
    );
}
