//! Starting, killing, pausing and slowing machines down; faults of disks, clocks and networks.

use std::sync::Arc;

use lab_agent_core::{Agent, Boot, Event, Input, NodeKeys};

use super::host::ProcessFault;
use super::*;
use crate::clock::ClockFault;
use crate::disk::DiskFault;
use crate::network::{Fault, Paths, Scope};
use crate::seed;
use crate::trap;

impl World {
    pub(super) fn boot(&mut self, node: usize, boot: Boot) {
        let host = &mut self.hosts[node];
        host.life += 1;
        host.counters.starts += 1;
        let life = host.life;
        let entity = u64::from(life) << 32 | node as u64;
        let random = seed::bytes(self.options.seed, "boot", entity);
        let now = host.clock.now(self.now);
        let keys = NodeKeys::new(&host.secret);
        let config = self.options.agent.clone();
        let started = trap::step(|| Agent::new(config, keys, boot, random, now));
        Self::refuse_leaks();
        match started {
            Ok(agent) => host.agent = Some(agent),
            Err(error) => {
                let why = error.to_string();
                return self.note(node, What::NotStarted { why });
            }
        }
        host.admitted = Arc::new(BTreeSet::new());
        host.devices = Arc::default();
        host.links.clear();
        host.inbox.clear();
        host.doing.clear();
        host.writes.clear();
        host.is_writing = false;
        host.wake_at = None;
        host.paused_until = None;
        host.busy_until = Mono(0);
        let address = host.address;
        self.record(node, kind::PROCESS, 1, u64::from(life), 0);
        self.note(node, What::Started { life });
        self.drain(node);
        self.input(node, Input::Addresses(vec![address]));
    }

    /// Starts a machine from its disk; nothing happens if it runs.
    pub fn start(&mut self, node: usize) {
        if self.hosts[node].is_up() {
            return;
        }
        match self.hosts[node].store.boot(self.now) {
            Ok(boot) => self.boot(node, boot),
            Err(why) => self.note(node, What::NotStarted { why }),
        }
    }

    /// The power of a machine goes away: what is not on the disk is lost, peers notice nothing at first.
    pub fn kill(&mut self, node: usize) {
        if self.hosts[node].is_up() {
            self.end(node);
            let now = self.now;
            self.hosts[node].store.crash(now);
        }
    }

    /// A machine is shut down: its agent says goodbye and has the time to write, then it is off.
    pub fn shut_down(&mut self, node: usize) {
        if self.hosts[node].is_paused() {
            return self.kill(node);
        }
        let now = self.hosts[node].clock.now(self.now);
        if let Some(agent) = self.hosts[node].agent.as_mut() {
            agent.stop(now);
            self.drain(node);
        }
        if self.hosts[node].is_up() {
            self.end(node);
            self.hosts[node].store.settle();
        }
    }

    /// The process of a machine is killed: what it gave to the machine is written, peers notice nothing at first.
    pub fn crash(&mut self, node: usize) {
        if self.hosts[node].is_up() {
            self.end(node);
            let now = self.now;
            self.hosts[node].store.kill(now);
        }
    }

    fn end(&mut self, node: usize) {
        self.trouble_all(node);
        let host = &mut self.hosts[node];
        host.agent = None;
        host.life += 1;
        host.wake_at = None;
        host.paused_until = None;
        host.kill_after = None;
        host.links.clear();
        host.inbox.clear();
        host.writes.clear();
        host.asked.clear();
        self.record(node, kind::PROCESS, 2, 0, 0);
        self.note(node, What::Killed);
    }

    /// Stops a process for a while: it keeps everything and does nothing; what comes for it waits.
    pub fn pause(&mut self, node: usize, for_ms: u64) {
        if !self.hosts[node].is_up() {
            return;
        }
        let until = self.now.plus_ms(for_ms);
        if !self.hosts[node].is_paused() {
            self.trouble_all(node);
            self.note(node, What::Paused);
        }
        self.hosts[node].paused_until = Some(until);
        self.record(node, kind::PROCESS, 3, for_ms, 0);
        let node = node as u32;
        let paused_until = until;
        self.push(until, Happening::Resume { node, paused_until });
    }

    /// Lets a paused process go on: everything that waited comes at once, timers are late.
    pub fn resume(&mut self, node: usize) {
        if self.hosts[node].paused_until.take().is_none() {
            return;
        }
        self.record(node, kind::PROCESS, 4, 0, 0);
        self.note(node, What::Resumed);
        for end in self.hosts[node].links.clone() {
            self.push(
                self.now,
                Happening::LinkCheck {
                    slot: end.slot,
                    serial: end.serial,
                },
            );
        }
        let host = &mut self.hosts[node];
        let life = host.life;
        // What the process had begun comes first.
        for (_, input) in std::mem::take(&mut host.doing).into_iter().rev() {
            host.inbox.push_front(input);
        }
        while let Some(input) = self.hosts[node].inbox.pop_front() {
            if self.hosts[node].life != life {
                return;
            }
            self.input(node, input);
        }
        self.hosts[node].wake_at = None;
        self.schedule(node);
    }

    /// Carries out a fault of a process.
    pub fn apply_process(&mut self, node: usize, fault: &ProcessFault) {
        self.note(node, What::Fault(format!("{fault:?}")));
        let later = |fault: ProcessFault| Happening::Process {
            node: node as u32,
            fault: Box::new(fault),
        };
        match fault {
            ProcessFault::Kill => self.kill(node),
            ProcessFault::ShutDown => self.shut_down(node),
            ProcessFault::Start => self.start(node),
            ProcessFault::Crash { after_ms } => {
                self.crash(node);
                self.push_in(after_ms * 1000, later(ProcessFault::Start));
            }
            ProcessFault::Restart { after_ms } => {
                self.kill(node);
                self.push_in(after_ms * 1000, later(ProcessFault::Start));
            }
            ProcessFault::KillAtOutput { nth, after_ms } => {
                self.hosts[node].kill_after = Some(((*nth).max(1), *after_ms));
            }
            ProcessFault::Pause { for_ms } => self.pause(node, *for_ms),
            ProcessFault::CrashLoop { period_ms, count } => {
                if *count > 0 {
                    let (period_ms, count) = ((*period_ms).max(1), count - 1);
                    self.crash(node);
                    self.push_in(period_ms * 500, later(ProcessFault::Start));
                    self.push_in(
                        period_ms * 1000,
                        later(ProcessFault::CrashLoop { period_ms, count }),
                    );
                }
            }
            ProcessFault::Slow { factor } => self.hosts[node].slow = (*factor).max(1),
            ProcessFault::Readdress => {
                let count = self.hosts[node].counters.starts + self.now.0;
                let at = seed::draw(self.options.seed, node as u64, count);
                let address = found::address_of(node, (at % 60_000) as u16 + 4_001);
                self.hosts[node].address = address;
                self.input(node, Input::Addresses(vec![address]));
            }
        }
    }

    /// Carries out a fault of a disk. Some take effect at the next crash or start only.
    pub fn apply_disk(&mut self, node: usize, fault: &DiskFault) {
        self.note(node, What::Fault(format!("{fault:?}")));
        self.record(node, kind::FAULT, 1, 0, 0);
        let now = self.now;
        self.hosts[node].store.apply(now, fault);
    }

    /// Carries out a fault of a clock.
    pub fn apply_clock(&mut self, node: usize, fault: &ClockFault) {
        self.note(node, What::Fault(format!("{fault:?}")));
        self.record(node, kind::FAULT, 2, 0, 0);
        let now = self.now;
        self.hosts[node].clock.apply(now, fault);
        // Deadlines by its clock are at other true times now.
        self.hosts[node].wake_at = None;
        self.schedule(node);
    }

    /// Carries out a fault of the network, or its end.
    pub fn apply_network(&mut self, fault: &Fault) {
        self.note(0, What::Fault(format!("{fault:?}")));
        self.record(0, kind::FAULT, 3, 0, 0);
        for killed in self.network.apply(self.now, fault) {
            let (low, high) = (killed.low as u32, killed.high as u32);
            let dead = self.hosts[killed.low].links.iter().find(|end| {
                end.peer == high && self.links[end.slot as usize].name == killed.connection
            });
            if let Some(slot) = dead.map(|end| end.slot) {
                debug_assert_eq!(self.links[slot as usize].low, low);
                self.trouble(slot);
            }
        }
        self.paths_changed();
    }

    /// Machines of `a` and of `b` cannot reach each other until [`World::heal`].
    pub fn partition(&mut self, a: &[usize], b: &[usize]) {
        let [a, b] = [a, b].map(|group| Scope::Only(group.iter().copied().collect()));
        self.apply_network(&Fault::Loss {
            paths: Paths::Between(a, b),
            per_mille: 1000,
        });
    }

    /// Everyone can reach everyone again.
    pub fn heal(&mut self) {
        self.apply_network(&Fault::heal_all());
    }

    /// What a node told, with the virtual millisecond; the newest ten thousand.
    pub fn events(&self, node: usize) -> &std::collections::VecDeque<(u64, Event)> {
        &self.hosts[node].events
    }
}
