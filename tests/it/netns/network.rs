//! A switch with cables, made of network namespaces: one for the switch, one per machine.
//!
//! Names carry the process id of the test, so that tests do not meet; what a test that was killed has left behind is
//! removed by the next one.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::support::{Seat, TestLab, env, run, say};

/// Whether these tests are to be left out. Without root it is an error not to have said so.
pub(super) fn is_left_out() -> bool {
    if env("LAB_SKIP_NETNS").is_some_and(|v| v == "1") {
        say("left out: LAB_SKIP_NETNS=1");
        return true;
    }
    assert!(
        rustix::process::geteuid().is_root(),
        "this test makes network namespaces and needs root: run it as root, or set LAB_SKIP_NETNS=1 to leave it out"
    );
    false
}

/// A switch; gone with everything plugged in when it is dropped.
#[derive(Debug)]
pub(super) struct Network {
    id: String,
    subnet: u8,
    machines: u8,
}

impl Network {
    /// A switch without machines.
    pub(super) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        clear_left_overs();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let pid = std::process::id();
        let network = Self {
            id: format!("labt-{pid}-{number}"),
            subnet: u8::try_from((pid + number) % 250 + 1).expect("below 251"),
            machines: 0,
        };
        ip(&["netns", "add", &network.switch()]);
        // The second bridge is the other side of a partition.
        for bridge in ["br0", "br1"] {
            network.on_switch(&[
                "link",
                "add",
                bridge,
                "type",
                "bridge",
                "mcast_snooping",
                "0",
                "forward_delay",
                "0",
            ]);
            network.on_switch(&["link", "set", bridge, "up"]);
        }
        network
    }

    /// Plugs in one more machine and gives its seat.
    pub(super) fn seat(&mut self) -> Seat {
        self.machines += 1;
        let (machine, port) = (self.machine(self.machines), format!("p{}", self.machines));
        ip(&["netns", "add", &machine]);
        let cable = [
            "link",
            "add",
            &port,
            "netns",
            &self.switch(),
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            &machine,
        ];
        ip(&cable);
        self.on_switch(&["link", "set", &port, "master", "br0", "up"]);
        let address = format!("10.77.{}.{}", self.subnet, self.machines + 10);
        ip(&[
            "-n",
            &machine,
            "address",
            "add",
            &format!("{address}/24"),
            "brd",
            "+",
            "dev",
            "eth0",
        ]);
        ip(&["-n", &machine, "link", "set", "lo", "up"]);
        ip(&["-n", &machine, "link", "set", "eth0", "up"]);
        ip(&["-n", &machine, "route", "add", "default", "dev", "eth0"]);
        Seat {
            clock: None,
            bind: format!("{address}:4747")
                .parse::<SocketAddr>()
                .expect("an address"),
            netns: Some(machine),
            is_lan: true,
        }
    }

    /// Moves these machines (counted from 0) to the other side: they reach each other and nobody else.
    pub(super) fn partition(&self, others: &[usize]) {
        for machine in others {
            self.on_switch(&["link", "set", &format!("p{}", machine + 1), "master", "br1"]);
        }
    }

    /// Everybody reaches everybody.
    pub(super) fn heal(&self) {
        for machine in 1..=self.machines {
            self.on_switch(&["link", "set", &format!("p{machine}"), "master", "br0"]);
        }
    }

    fn switch(&self) -> String {
        format!("{}-sw", self.id)
    }

    fn machine(&self, number: u8) -> String {
        format!("{}-{number}", self.id)
    }

    fn on_switch(&self, args: &[&str]) {
        ip(&[&["-n", &self.switch()], args].concat());
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for number in 1..=self.machines {
            delete(&self.machine(number));
        }
        delete(&self.switch());
    }
}

/// A mesh of machines on one network, all running and whole.
pub(super) fn mesh(count: usize) -> (TestLab, Network) {
    let (mut lab, mut network) = (TestLab::empty(), Network::new());
    lab.found("n1", network.seat());
    for number in 2..=count {
        lab.join(&format!("n{number}"), network.seat(), &[]);
    }
    lab.until_whole();
    (lab, network)
}

pub(super) fn ip(args: &[&str]) {
    let mut command = Command::new("ip");
    command.args(args);
    let ran = run(command);
    assert_eq!(ran.code, 0, "ip {}: {}", args.join(" "), ran.err);
}

pub(super) fn delete(netns: &str) {
    let mut command = Command::new("ip");
    command.args(["netns", "delete", netns]);
    run(command);
}

/// Removes the namespaces of tests that are no longer there.
pub(super) fn clear_left_overs() {
    let mut list = Command::new("ip");
    list.args(["netns", "list"]);
    let ran = run(list);
    for name in ran.out.lines().filter_map(|l| l.split_whitespace().next()) {
        let pid = name
            .strip_prefix("labt-")
            .and_then(|rest| rest.split('-').next());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            delete(name);
        }
    }
}
