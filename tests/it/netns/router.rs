//! The delay router does what it says, with real packets between namespaces.

use std::fs::File;
use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::net::UdpSocket;
use std::os::fd::AsFd as _;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::network::{clear_left_overs, delete, ip, is_left_out};
use crate::support::now;

const PORT: u16 = 4747;

/// Machines behind the router, each in a namespace of its own; gone when it is dropped.
struct Routed {
    id: String,
    machines: usize,
    router: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Routed {
    fn new(machines: usize, profile: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        clear_left_overs();
        let pid = std::process::id();
        let id = format!("labt-{pid}-r{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let hub = format!("{id}-hub");
        ip(&["netns", "add", &hub]);
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &hub, env!("CARGO_BIN_EXE_lab-router")]);
        command.args(["--seed", "7", "--profile", profile]);
        for n in 0..machines {
            let (machine, port) = (format!("{id}-{n}"), format!("p{n}"));
            ip(&["netns", "add", &machine]);
            ip(&[
                "link", "add", &port, "netns", &hub, "type", "veth", "peer", "name", "eth0",
                "netns", &machine,
            ]);
            let inside = |words: &str| {
                let words: Vec<_> = words.split(' ').collect();
                ip(&[&["-n", machine.as_str()], words.as_slice()].concat());
            };
            inside(&format!("address add {}/32 dev eth0", address(n)));
            inside("link set eth0 up");
            inside("route add default via 10.255.255.254 dev eth0 onlink");
            command.arg(format!("{port}={}", address(n)));
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut router = command.spawn().expect("start the router");
        let commands = router.stdin.take().expect("its input");
        let answers = BufReader::new(router.stdout.take().expect("its output"));
        let mut routed = Self {
            id,
            machines,
            router,
            commands,
            answers,
        };
        assert_eq!(routed.line(), "ready");
        routed
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("an answer");
        line.trim_end().to_owned()
    }

    /// Gives a command; what it answers before `ok`.
    fn tell(&mut self, command: &str) -> Vec<String> {
        writeln!(self.commands, "{command}").expect("the router listens");
        let mut lines = Vec::new();
        loop {
            match self.line() {
                line if line == "ok" => return lines,
                line => {
                    assert!(!line.is_empty() && !line.starts_with("error"), "{line}");
                    lines.push(line);
                }
            }
        }
    }

    /// What the router counted for a pair.
    fn count(&mut self, from: usize, to: usize, what: &str) -> u64 {
        let lines = self.tell("stats");
        let head = format!("pair {from} {to} ");
        let line = lines
            .iter()
            .find(|l| l.starts_with(&head))
            .expect("it was used");
        let mut words = line.split(' ').skip_while(|word| *word != what);
        words.nth(1).and_then(|n| n.parse().ok()).expect("a count")
    }

    /// A socket of a machine.
    fn socket(&self, machine: usize) -> UdpSocket {
        let path = format!("/run/netns/{}-{machine}", self.id);
        let namespace = File::open(path).expect("the namespace");
        // Only this short thread moves; the socket stays where it was made.
        std::thread::spawn(move || {
            let network = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(namespace.as_fd(), network).expect("enter the namespace");
            let socket = UdpSocket::bind((address(machine).as_str(), PORT)).expect("a socket");
            let patience = Some(Duration::from_millis(300));
            socket.set_read_timeout(patience).expect("a time limit");
            socket
        })
        .join()
        .expect("a socket")
    }
}

impl Drop for Routed {
    fn drop(&mut self) {
        let _gone = self.router.kill();
        let _reaped = self.router.wait();
        for n in 0..self.machines {
            delete(&format!("{}-{n}", self.id));
        }
        delete(&format!("{}-hub", self.id));
    }
}

fn address(machine: usize) -> String {
    format!("10.88.0.{}", machine + 1)
}

/// Sends a number to the other and waits until it comes back; the time that took, or `None`.
fn ping(from: &UdpSocket, to: usize, number: u64) -> Option<Duration> {
    let begun = now();
    from.send_to(&number.to_be_bytes(), (address(to).as_str(), PORT))
        .expect("the packet leaves");
    let mut buffer = [0; 64];
    loop {
        match from.recv(&mut buffer) {
            Ok(8) if buffer[..8] == number.to_be_bytes() => return Some(now() - begun),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return None;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Sends back what comes while `work` runs.
fn with_echo<T>(socket: &UdpSocket, work: impl FnOnce() -> T) -> T {
    std::thread::scope(|scope| {
        // Dropped when the work is done, or has panicked.
        let (_working, over) = mpsc::channel::<()>();
        scope.spawn(move || {
            let mut buffer = [0; 2048];
            while over.try_recv() == Err(mpsc::TryRecvError::Empty) {
                if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                    socket
                        .send_to(&buffer[..length], from)
                        .expect("the packet leaves");
                }
            }
        });
        work()
    })
}

#[test]
fn the_round_trip_takes_as_long_as_the_router_was_told() {
    if is_left_out() {
        return;
    }
    let mut routed = Routed::new(2, "delay=20000");
    let (here, there) = (routed.socket(0), routed.socket(1));
    let mut medians = Vec::new();
    with_echo(&there, || {
        for profile in ["delay=20000", "delay=2000", "jitter=10000..50000"] {
            routed.tell(&format!("profile {profile}"));
            let mut took: Vec<_> = (0..60).filter_map(|n| ping(&here, 1, n)).collect();
            assert_eq!(took.len(), 60, "{profile}: nothing is lost");
            took.sort_unstable();
            medians.push((took[0], took[30]));
        }
    });
    for ((least, median), (from_ms, ms)) in medians.iter().zip([(40, 40), (4, 4), (20, 60)]) {
        let (from, want) = (Duration::from_millis(from_ms), Duration::from_millis(ms));
        assert!(*least >= from, "a packet came too early: {medians:?}");
        // A median of sixty draws from a triangle is up to a tenth off by chance.
        let slack = Duration::from_millis(1) + want / if ms == from_ms { 20 } else { 7 };
        assert!(median.abs_diff(want) <= slack, "told {want:?}: {medians:?}");
    }
}

#[test]
fn as_many_packets_are_lost_as_the_router_was_told() {
    if is_left_out() {
        return;
    }
    let mut routed = Routed::new(2, "");
    let (here, there) = (routed.socket(0), routed.socket(1));
    assert!(with_echo(&there, || ping(&here, 1, 1).is_some()));
    routed.tell("pair 0 1 loss=100 duplicate=50");
    let begun = routed.count(0, 1, "packets");
    let mut arrived = 0;
    let mut buffer = [0; 64];
    let nothing_more = Some(Duration::from_millis(20));
    there.set_read_timeout(nothing_more).expect("a time limit");
    // A few at a time, so that no buffer of the kernel overflows.
    for _ in 0..40 {
        for _ in 0..50 {
            here.send_to(&[1; 32], (address(1).as_str(), PORT))
                .expect("the packet leaves");
        }
        while there.recv(&mut buffer).is_ok() {
            arrived += 1;
        }
    }
    let sent = routed.count(0, 1, "packets") - begun;
    let (lost, doubled) = (routed.count(0, 1, "lost"), routed.count(0, 1, "doubled"));
    assert_eq!(sent, 2000);
    assert!((150..=250).contains(&lost), "{lost} of 2000");
    assert!((60..=120).contains(&doubled), "{doubled} of 2000");
    assert_eq!(arrived, sent - lost + doubled, "nothing else is lost");
}

#[test]
fn a_partition_blocks_one_side_from_the_other_until_it_heals() {
    if is_left_out() {
        return;
    }
    let mut routed = Routed::new(3, "delay=1000");
    let sockets: Vec<_> = (0..3).map(|n| routed.socket(n)).collect();
    let mut number = 0;
    let mut reaches = |from: usize, to: usize| {
        number += 1;
        with_echo(&sockets[to], || ping(&sockets[from], to, number).is_some())
    };
    assert!(reaches(0, 1) && reaches(0, 2));
    routed.tell("partition 0,1/2");
    assert!(reaches(0, 1) && !reaches(0, 2) && !reaches(2, 1));
    routed.tell("heal");
    assert!(reaches(0, 2) && reaches(2, 1));
    routed.tell("block 2 0");
    assert!(!reaches(0, 2), "the way back is cut");
    assert!(routed.count(2, 0, "blocked") >= 1);
}
