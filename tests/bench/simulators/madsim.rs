//! How fast madsim simulates hosts that ping each other once a second, and nothing else.
//!
//! ```text
//! bench-madsim WALL_SECONDS HOSTS …
//! ```
//!
//! Prints `madsim HOSTS VIRTUAL_SECONDS WALL_SECONDS NODE_SECONDS_PER_SECOND` for each number of hosts. A run ends
//! after a virtual minute, or after the virtual second in which the wall seconds are over. Must be built with
//! `RUSTFLAGS="--cfg madsim"`, as everything that uses madsim.

#[cfg(not(madsim))]
fn main() {
    eprintln!("bench-madsim was not built with --cfg madsim");
}

#[cfg(madsim)]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut numbers = std::env::args().skip(1);
    let wall: u64 = numbers
        .next()
        .ok_or("usage: bench-madsim WALL_SECONDS HOSTS …")?
        .parse()?;
    for hosts in numbers {
        sim::measure(hosts.parse()?, std::time::Duration::from_secs(wall));
    }
    Ok(())
}

#[cfg(madsim)]
mod sim {
    use std::net::{IpAddr, Ipv4Addr, SocketAddr};
    use std::time::{Duration, Instant};

    use madsim::net::UdpSocket;
    use madsim::runtime::Runtime;
    use madsim::time::{interval, sleep};

    const PORT: u16 = 4747;
    const VIRTUAL_S: u32 = 60;

    fn address(host: usize) -> IpAddr {
        Ipv4Addr::new(10, (host >> 16) as u8, (host >> 8) as u8, host as u8 + 1).into()
    }

    pub(crate) fn measure(hosts: usize, most: Duration) {
        let runtime = Runtime::new();
        for host in 0..hosts {
            let (own, next) = (address(host * 2), address((host + 1) % hosts * 2));
            let node = runtime.create_node().ip(own).build();
            node.spawn(ping(own, next));
        }
        // Inside the runtime every clock is a virtual one: the wall is looked at between virtual seconds.
        let begun = Instant::now();
        let mut virtual_s = 0;
        while virtual_s < VIRTUAL_S && begun.elapsed() < most {
            runtime.block_on(async { sleep(Duration::from_secs(1)).await });
            virtual_s += 1;
        }
        let wall_s = begun.elapsed().as_secs_f64();
        let speed = hosts as f64 * f64::from(virtual_s) / wall_s;
        println!("madsim {hosts} {virtual_s}.000 {wall_s:.3} {speed:.1}");
    }

    /// Asks the next host once a second, and answers whoever asks.
    async fn ping(own: IpAddr, next: IpAddr) {
        let socket = UdpSocket::bind(SocketAddr::new(own, PORT))
            .await
            .expect("a socket");
        let mut clock = interval(Duration::from_secs(1));
        let mut buffer = [0; 64];
        loop {
            tokio::select! {
                _ = clock.tick() => {
                    let _lost = socket.send_to(SocketAddr::new(next, PORT), b"ping").await;
                }
                received = socket.recv_from(&mut buffer) => {
                    let Ok((length, from)) = received else { continue };
                    if &buffer[..length] == b"ping" {
                        let _lost = socket.send_to(from, b"pong").await;
                    }
                }
            }
        }
    }
}
