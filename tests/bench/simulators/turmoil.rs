//! How fast turmoil simulates hosts that ping each other once a second, and nothing else.
//!
//! ```text
//! bench-turmoil WALL_SECONDS HOSTS …
//! ```
//!
//! Prints `turmoil HOSTS VIRTUAL_SECONDS WALL_SECONDS NODE_SECONDS_PER_SECOND` for each number of hosts. A run ends
//! after a virtual minute, or when the wall seconds are over: it is as fast in its first seconds as later.

use std::error::Error;
use std::time::{Duration, Instant};

use turmoil::net::UdpSocket;

const PORT: u16 = 4747;
const VIRTUAL: Duration = Duration::from_secs(60);

fn main() -> Result<(), Box<dyn Error>> {
    let mut numbers = std::env::args().skip(1);
    let wall: u64 = numbers
        .next()
        .ok_or("usage: bench-turmoil WALL_SECONDS HOSTS …")?
        .parse()?;
    for hosts in numbers {
        measure(hosts.parse()?, Duration::from_secs(wall))?;
    }
    Ok(())
}

fn measure(hosts: usize, most: Duration) -> Result<(), Box<dyn Error>> {
    let mut sim = turmoil::Builder::new()
        .simulation_duration(VIRTUAL * 2)
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(5))
        .rng_seed(1)
        .build();
    for host in 0..hosts {
        let next = format!("h{}", (host + 1) % hosts);
        sim.host(format!("h{host}"), move || ping(next.clone()));
    }
    let begun = Instant::now();
    while sim.elapsed() < VIRTUAL && begun.elapsed() < most {
        sim.step()?;
    }
    let (virtual_s, wall_s) = (sim.elapsed().as_secs_f64(), begun.elapsed().as_secs_f64());
    let speed = hosts as f64 * virtual_s / wall_s;
    println!("turmoil {hosts} {virtual_s:.3} {wall_s:.3} {speed:.1}");
    Ok(())
}

/// Asks the next host once a second, and answers whoever asks.
async fn ping(next: String) -> Result<(), Box<dyn Error>> {
    let socket = UdpSocket::bind(("0.0.0.0", PORT)).await?;
    let mut clock = tokio::time::interval(Duration::from_secs(1));
    let mut buffer = [0; 64];
    loop {
        tokio::select! {
            _ = clock.tick() => {
                socket.send_to(b"ping", (next.as_str(), PORT)).await?;
            }
            received = socket.recv_from(&mut buffer) => {
                let (length, from) = received?;
                if &buffer[..length] == b"ping" {
                    socket.send_to(b"pong", from).await?;
                }
            }
        }
    }
}
