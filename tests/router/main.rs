//! A router that delays, drops, doubles and reorders packets in user space, for kernels without such a queue.
//!
//! ```text
//! lab-router [--seed N] [--profile WORDS] PORT=ADDRESS …
//! ```
//!
//! It runs in a network namespace of its own, as root. Every `PORT` is a link to one host, whose IPv4 address is
//! `ADDRESS` and whose default route is `via 10.255.255.254 … onlink`. What comes in at a port is routed into a TUN
//! device, waits here as its directed pair wants, and is written back to be delivered.
//!
//! `WORDS` are `delay=`, `jitter=` (both microseconds: `5000`, `20000..60000`, or a table of quantiles
//! `100,200,900`), `loss=`, `duplicate=`, `reorder=` (of a thousand), `rate=` (bytes per second) and `queue=`
//! (microseconds). `delay` is drawn once for each directed pair, `jitter` for each packet. What a packet meets
//! depends on the seed, its pair and its number there alone.
//!
//! Hosts are counted from 0 in the order of the ports. Standard input takes a command a line: `profile WORDS`,
//! `pair FROM TO WORDS`, `partition 0,1/2,3`, `block FROM TO`, `unblock FROM TO`, `heal`, `stats`. Each is
//! answered by `ok` or `error WHY`; before its `ok`, `stats` says for every pair that was used
//!
//! ```text
//! pair FROM TO packets N bytes N lost N blocked N full N doubled N
//! router waiting N late N latest_us N
//! ```
//!
//! where `late` counts packets that were written more than a millisecond after their time. The first line is
//! `ready`. The program ends when its standard input does.

mod command;
mod packet;
mod path;
mod profile;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::io::{Error, ErrorKind, Write as _};
use std::net::Ipv4Addr;
use std::num::NonZeroU64;
use std::process::{Command as Process, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::stdio::stdin;
use rustix::time::{ClockId, clock_gettime};
use tun_rs::{DeviceBuilder, SyncDevice};

use crate::command::Command;
use crate::path::Paths;
use crate::profile::{Profile, number};

/// The name of the TUN device.
const TUN: &str = "lab0";
/// What hosts have as their default gateway.
const GATEWAY: &str = "10.255.255.254";
/// The routing table for packets that come from hosts.
const TABLE: &str = "100";
/// Packets that may wait in the kernel for this program.
const KERNEL_QUEUE: &str = "10000";
/// Bytes that may wait here; what comes beyond them vanishes.
const WAITING_BYTES_MAX: usize = 256 << 20;
/// Packets taken in before those that are due are looked at again.
const BATCH: usize = 64;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut seed = 1;
    let mut profile = Profile::clear();
    let mut ports = Vec::new();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || {
            words
                .next()
                .ok_or_else(|| format!("{word}: a value is missing"))
        };
        match word.as_str() {
            "--seed" => seed = number(&value()?, u64::MAX)?,
            "--profile" => profile = value()?.parse()?,
            _ => {
                let (port, address) = word
                    .split_once('=')
                    .ok_or("usage: lab-router [--seed N] [--profile WORDS] PORT=ADDRESS …")?;
                ports.push((port.to_owned(), address.parse::<Ipv4Addr>()?));
            }
        }
    }
    let device = DeviceBuilder::new().name(TUN).mtu(1500).build_sync()?;
    device.set_nonblocking(true)?;
    lay_routes(&ports)?;
    // Timers of this thread are as exact as the kernel can.
    rustix::thread::set_current_timer_slack(NonZeroU64::new(1))?;
    let hosts = ports
        .iter()
        .enumerate()
        .map(|(n, (_, address))| (*address, n));
    let mut router = Router {
        device,
        hosts: hosts.collect(),
        paths: Paths::new(seed, ports.len(), profile),
        waiting: BinaryHeap::new(),
        waiting_bytes: 0,
        sequence: 0,
        late: 0,
        latest_ns: 0,
    };
    say("ready")?;
    router.run()?;
    Ok(())
}

/// Sends what comes from hosts into the TUN device, and what comes out of it to the hosts.
fn lay_routes(ports: &[(String, Ipv4Addr)]) -> Result<(), Box<dyn std::error::Error>> {
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
    for name in ["all", TUN] {
        std::fs::write(format!("/proc/sys/net/ipv4/conf/{name}/rp_filter"), "0")?;
    }
    let mut script = format!(
        "link set {TUN} up txqueuelen {KERNEL_QUEUE}\nroute add default dev {TUN} table {TABLE}\n"
    );
    for (port, address) in ports {
        script += &format!("address add {GATEWAY}/32 dev {port}\nlink set {port} up\n");
        script += &format!("route add {address} dev {port}\nrule add iif {port} lookup {TABLE}\n");
    }
    let mut ip = Process::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .spawn()?;
    if let Some(mut input) = ip.stdin.take() {
        input.write_all(script.as_bytes())?;
    }
    if !ip.wait()?.success() {
        return Err("ip could not set up the routes".into());
    }
    Ok(())
}

/// A packet and when it is due; equal times keep the order of arrival.
type Waiting = Reverse<(u64, u64, Vec<u8>)>;

struct Router {
    device: SyncDevice,
    hosts: BTreeMap<Ipv4Addr, usize>,
    paths: Paths,
    waiting: BinaryHeap<Waiting>,
    waiting_bytes: usize,
    sequence: u64,
    late: u64,
    latest_ns: u64,
}

impl Router {
    fn run(&mut self) -> Result<(), Error> {
        let mut typed = Vec::new();
        loop {
            self.deliver()?;
            let wait = self.waiting.peek().map(|Reverse((at, ..))| {
                let ns = at.saturating_sub(now_ns());
                Timespec {
                    tv_sec: (ns / 1_000_000_000).cast_signed(),
                    tv_nsec: (ns % 1_000_000_000).cast_signed(),
                }
            });
            let (has_packets, has_input) = {
                let mut both = [
                    PollFd::new(&self.device, PollFlags::IN),
                    PollFd::from_borrowed_fd(stdin(), PollFlags::IN),
                ];
                match poll(&mut both, wait.as_ref()) {
                    Ok(_) | Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
                (!both[0].revents().is_empty(), !both[1].revents().is_empty())
            };
            if has_packets {
                self.take_in()?;
            }
            if has_input && !self.obey(&mut typed)? {
                return Ok(());
            }
        }
    }

    /// Reads packets; each waits until its time.
    fn take_in(&mut self) -> Result<(), Error> {
        let mut buffer = [0; 65_536];
        for _ in 0..BATCH {
            let length = match self.device.recv(&mut buffer) {
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            };
            let packet = &buffer[..length];
            let Some((source, target)) = packet::ends(packet) else {
                continue;
            };
            let (Some(from), Some(to)) = (self.hosts.get(&source), self.hosts.get(&target)) else {
                continue;
            };
            let copies = self.paths.send(now_ns(), *from, *to, length);
            for at in copies.into_iter().flatten() {
                if self.waiting_bytes + length <= WAITING_BYTES_MAX {
                    self.waiting_bytes += length;
                    self.sequence += 1;
                    self.waiting
                        .push(Reverse((at, self.sequence, packet.to_vec())));
                }
            }
        }
        Ok(())
    }

    /// Writes what is due.
    fn deliver(&mut self) -> Result<(), Error> {
        loop {
            let now = now_ns();
            let is_due = |Reverse((at, ..)): &Waiting| *at <= now;
            if !self.waiting.peek().is_some_and(is_due) {
                return Ok(());
            }
            let Some(Reverse((at, _, packet))) = self.waiting.pop() else {
                return Ok(());
            };
            self.waiting_bytes -= packet.len();
            let late = now - at;
            self.late += u64::from(late > 1_000_000);
            self.latest_ns = self.latest_ns.max(late);
            match self.device.send(&packet) {
                Ok(_) => {}
                // The kernel takes no such packet, or has no room: it is lost, as on any line.
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::InvalidInput | ErrorKind::WouldBlock
                    ) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Does what standard input says; `false` when it has ended.
    fn obey(&mut self, typed: &mut Vec<u8>) -> Result<bool, Error> {
        let mut buffer = [0; 4096];
        let length = rustix::io::read(stdin(), &mut buffer)?;
        if length == 0 {
            return Ok(false);
        }
        typed.extend_from_slice(&buffer[..length]);
        while let Some(end) = typed.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = typed.drain(..=end).collect();
            match Command::parse(&String::from_utf8_lossy(&line), self.hosts.len()) {
                Ok(command) => say(&(self.act(command) + "ok"))?,
                Err(why) => say(&format!("error {why}"))?,
            }
        }
        Ok(true)
    }

    /// Carries out a command; gives what to say before `ok`.
    fn act(&mut self, command: Command) -> String {
        match command {
            Command::Profile(profile) => self.paths.set(profile),
            Command::Pair(from, to, profile) => self.paths.set_pair(from, to, profile),
            Command::Partition(groups) => self.paths.partition(&groups),
            Command::Block(from, to, is_blocked) => self.paths.block(from, to, is_blocked),
            Command::Heal => self.paths.heal(),
            Command::Stats => return self.stats(),
        }
        String::new()
    }

    fn stats(&self) -> String {
        let mut out = String::new();
        for (from, to, c) in self.paths.counts() {
            out += &format!(
                "pair {from} {to} packets {} bytes {} lost {} blocked {} full {} doubled {}\n",
                c.packets, c.bytes, c.lost, c.blocked, c.full, c.doubled
            );
        }
        let (waiting, latest_us) = (self.waiting.len(), self.latest_ns / 1000);
        out + &format!(
            "router waiting {waiting} late {} latest_us {latest_us}\n",
            self.late
        )
    }
}

/// The monotonic clock, nanoseconds.
fn now_ns() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

/// Answers whoever holds the other end of standard output, at once.
fn say(text: &str) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}
