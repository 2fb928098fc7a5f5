//! The loop: one thing happens, one agent gets one input, its outputs are carried out.

use std::hash::BuildHasher as _;

use lab_agent_core::{Agent, Input, LinkState};
use lab_crdt_model::{Mono, mutant};

use super::*;
use crate::trap;

impl World {
    /// Lets the next thing happen, if it comes at `end` or earlier; returns whether it did.
    pub fn step(&mut self, end: Mono) -> bool {
        let Some((at, _, happening)) = self.wheel.pop(end.0) else {
            return false;
        };
        self.now = self.now.max(Mono(at));
        match happening {
            Happening::Wake { node } => self.wake(node as usize),
            Happening::Frame {
                slot,
                serial,
                is_to_high,
                frame,
            } => self.frame_arrives(slot, serial, is_to_high, frame),
            Happening::Input { node, life, input } => {
                if self.hosts[node as usize].life == life {
                    self.record_input(node as usize, &input);
                    self.input(node as usize, *input);
                }
            }
            Happening::Step { node, life } => self.end_step(node as usize, life),
            Happening::Connect {
                from,
                life,
                to,
                channel,
                is_relayed,
            } => {
                if self.hosts[from as usize].life == life && self.hosts[from as usize].is_up() {
                    self.connect(from, to, channel, is_relayed);
                }
            }
            Happening::Write { node, life } => self.write_next(node as usize, life),
            Happening::Stored {
                node,
                life,
                id,
                result,
            } => {
                if self.hosts[node as usize].life == life {
                    let is_ok = result.is_ok();
                    self.record(node as usize, kind::STORED, u16::from(!is_ok), id.0, 0);
                    self.note(node as usize, What::Stored { is_ok });
                    self.write_soon(node as usize);
                    self.input(
                        node as usize,
                        Input::Stored {
                            id,
                            result: *result,
                        },
                    );
                }
            }
            Happening::Down {
                node,
                life,
                peer,
                channel,
                serial,
                why,
            } => self.link_down(node, life, peer, channel, serial, why),
            Happening::LinkCheck { slot, serial } => self.check_link(slot, serial),
            Happening::Retry { slot, serial } => self.retry(slot, serial),
            Happening::NetworkChange => {
                self.network_change_at = None;
                self.network.tick(self.now);
                self.paths_changed();
            }
            Happening::Resume { node, paused_until } => {
                if self.hosts[node as usize].paused_until == Some(paused_until) {
                    self.resume(node as usize);
                }
            }
            Happening::Process { node, fault } => self.apply_process(node as usize, &fault),
        }
        true
    }

    fn record_input(&mut self, node: usize, input: &Input) {
        let (kind, flags) = match input {
            Input::Link { state, .. } => {
                let flags = match state {
                    LinkState::Up { .. } => 1,
                    LinkState::Down { .. } => 2,
                    LinkState::DialFailed { .. } => 3,
                };
                (kind::LINK, flags)
            }
            Input::Done { .. } => (kind::DONE, 0),
            _ => (kind::OTHER, 0),
        };
        self.record(node, kind, flags, 0, 0);
    }

    fn wake(&mut self, node: usize) {
        let host = &mut self.hosts[node];
        if host.wake_at != Some(self.now) {
            // An earlier one came in between, or the machine started anew.
            return;
        }
        host.wake_at = None;
        if host.is_paused() {
            return;
        }
        let Some(deadline) = host.agent.as_ref().and_then(Agent::deadline) else {
            return;
        };
        let due = host.clock.when(deadline.at);
        if due > self.now {
            host.wake_at = Some(due);
            return self.push(due, Happening::Wake { node: node as u32 });
        }
        host.counters.wakes += 1;
        self.record(node, kind::WAKE, 0, 0, 0);
        self.input(node, Input::Wake);
    }

    /// Hands an input in, now or as soon as the process takes it.
    pub(super) fn input(&mut self, node: usize, input: Input) {
        let host = &mut self.hosts[node];
        if !host.is_up() {
            return;
        }
        if host.is_paused() {
            return host.inbox.push_back(input);
        }
        let cost = self.options.step_ns * u64::from(host.slow);
        if cost == 0 && host.doing.is_empty() {
            return self.handle(node, input);
        }
        let mut begins = self.now.max(host.busy_until);
        let core = self.cores.iter_mut().min();
        begins = core
            .as_ref()
            .map_or(begins, |free_at| begins.max(**free_at));
        let done = Mono(begins.0 + cost.max(1));
        if let Some(free_at) = core {
            *free_at = done;
        }
        host.busy_until = done;
        host.doing.push_back((done, input));
        let (node, life) = (node as u32, host.life);
        self.push(done, Happening::Step { node, life });
    }

    /// Ends the step that is due, if it was not put off by a pause.
    fn end_step(&mut self, node: usize, life: u32) {
        let host = &mut self.hosts[node];
        let is_due = host.doing.front().is_some_and(|(at, _)| *at == self.now);
        if host.life == life
            && is_due
            && !host.is_paused()
            && let Some((_, input)) = host.doing.pop_front()
        {
            self.handle(node, input);
        }
    }

    fn handle(&mut self, node: usize, input: Input) {
        let host = &mut self.hosts[node];
        let now = host.clock.now(self.now);
        let Some(agent) = host.agent.as_mut() else {
            return;
        };
        host.counters.steps += 1;
        trap::step(|| {
            if mutant!("M35") {
                #[expect(clippy::disallowed_methods, reason = "a seeded bug")]
                let _now = std::time::Instant::now();
            }
            agent.handle(now, input);
        });
        Self::refuse_leaks();
        self.drain(node);
    }

    pub(super) fn refuse_leaks() {
        if let Some(leak) = trap::take() {
            panic!("{leak}");
        }
    }

    /// Carries out what an agent asks for and sees to its next wake-up.
    pub(super) fn drain(&mut self, node: usize) {
        let life = self.hosts[node].life;
        loop {
            let host = &mut self.hosts[node];
            // Carrying out may end the machine.
            if host.life != life {
                return;
            }
            let Some(output) = host.agent.as_mut().and_then(|a| trap::step(|| a.poll())) else {
                break;
            };
            if let Some((left, after_ms)) = &mut host.kill_after {
                *left -= 1;
                if *left == 0 {
                    let after_ms = *after_ms;
                    host.kill_after = None;
                    self.kill(node);
                    let fault = Box::new(host::ProcessFault::Start);
                    let node = node as u32;
                    return self.push_in(after_ms * 1000, Happening::Process { node, fault });
                }
            }
            self.carry_out(node, output);
        }
        self.schedule(node);
    }

    pub(super) fn schedule(&mut self, node: usize) {
        let host = &mut self.hosts[node];
        // It wakes already.
        if host.doing.iter().any(|(_, i)| matches!(i, Input::Wake)) {
            return;
        }
        let Some(deadline) = host.agent.as_ref().and_then(Agent::deadline) else {
            return;
        };
        let due = host
            .clock
            .when(deadline.at)
            .max(self.now)
            .max(host.busy_until);
        let due = if mutant!("M33") {
            let keys = std::hash::RandomState::new();
            Mono(due.0 + keys.hash_one(node) % 1_000_000)
        } else {
            due
        };
        if host.wake_at.is_none_or(|at| due < at) {
            host.wake_at = Some(due);
            self.push(due, Happening::Wake { node: node as u32 });
        }
    }
}
