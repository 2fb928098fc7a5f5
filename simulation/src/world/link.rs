//! Links between machines, with the manners of QUIC: ordered lanes, an idle time-out, and a suffix that is lost when a
//! connection dies although its sender saw it go.

use std::sync::Arc;

use lab_agent_core::{Input, LinkState};

use lab_crdt_model::link::Lane;

use super::tamper::Passing;
use super::*;
use crate::network::Fate;
use crate::seed;

/// A link on which nothing arrives is dead after this long, as QUIC's idle time-out has it.
pub(super) const IDLE_MS: u64 = 15_000;
/// Frames that were held go out again so long after the path is back, at most: a retransmission timer that has backed
/// off.
const RETRY_MS: u64 = 500;
/// The size of a packet that says that a connection is over, bytes.
const CLOSE_BYTES: usize = 40;

/// A frame with its place in its lane.
#[derive(Debug)]
pub(crate) struct Framed {
    pub(crate) lane: Lane,
    pub(crate) nth: u32,
    pub(crate) bytes: Bytes,
}

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) low: u32,
    pub(crate) high: u32,
    pub(crate) channel: Channel,
    /// Names this link for ever; 0 while the slot is free.
    pub(crate) serial: u64,
    /// The network's name for it: follows from what it is, not from how many there were before.
    pub(crate) name: u64,
    /// Lives of both ends at the time it was made.
    lives: (u32, u32),
    /// Frames held back while there is no path: towards low, towards high.
    pub(crate) held: [Vec<Framed>; 2],
    /// Numbers of the next frame out and in, by direction and lane.
    pub(super) next_out: [[u32; 2]; 2],
    next_in: [[u32; 2]; 2],
    /// Frames that came before an earlier one of their lane, which was held and sent again.
    early: BTreeMap<(bool, u8, u32), Bytes>,
    /// Since when an end hears nothing.
    silent_since: Option<Mono>,
}

impl Link {
    /// Sender and receiver of a direction.
    pub(crate) const fn ends(&self, is_to_high: bool) -> (u32, u32) {
        if is_to_high {
            (self.low, self.high)
        } else {
            (self.high, self.low)
        }
    }
}

impl World {
    fn link(&self, slot: u32, serial: u64) -> Option<&Link> {
        self.links
            .get(slot as usize)
            .filter(|link| link.serial == serial)
    }

    /// Whether both machines still are the ones that made the link, and run.
    fn is_manned(&self, link: &Link) -> bool {
        let is_there = |node: u32, life: u32| {
            let host = &self.hosts[node as usize];
            host.life == life && host.is_up() && !host.is_paused()
        };
        is_there(link.low, link.lives.0) && is_there(link.high, link.lives.1)
    }

    fn is_path_open(&self, link: &Link) -> bool {
        let (low, high) = (link.low as usize, link.high as usize);
        self.network.is_alive(low, high, link.name)
            && self.network.carries(self.now, low, high, link.name)
            && self.network.carries(self.now, high, low, link.name)
    }

    /// A dial got through.
    pub(super) fn connect(&mut self, from: u32, to: u32, channel: Channel, _is_relayed: bool) {
        let (me, peer) = (self.hosts[from as usize].id, self.hosts[to as usize].id);
        let life = self.hosts[from as usize].life;
        let target = &self.hosts[to as usize];
        if !target.is_up() || target.is_paused() {
            return self.dial_fails(from as usize, life, peer, channel, "no answer");
        }
        let is_welcome = channel == Channel::Join
            || self.is_gate_open
            || (target.admitted.contains(&me)
                && self.hosts[from as usize].admitted.contains(&peer));
        if !is_welcome {
            let why = "not a member".into();
            let state = LinkState::DialFailed { why };
            return self.input(
                from as usize,
                Input::Link {
                    peer,
                    channel,
                    state,
                },
            );
        }
        let standing = self.hosts[from as usize].end(to, channel);
        let is_standing = standing.is_some_and(|end| {
            self.link(end.slot, end.serial)
                .is_some_and(|link| self.is_manned(link))
                && self.hosts[to as usize]
                    .end(from, channel)
                    .is_some_and(|other| other.serial == end.serial)
        });
        if !is_standing {
            self.make(from, to, channel);
            self.up(to, from, channel);
        }
        self.up(from, to, channel);
    }

    fn up(&mut self, node: u32, peer: u32, channel: Channel) {
        self.hosts[node as usize].counters.links_up += 1;
        let address = Some(self.hosts[peer as usize].address);
        let id = self.hosts[peer as usize].id;
        self.record(node as usize, kind::LINK, 1, u64::from(peer), 0);
        self.note(
            node as usize,
            What::LinkUp {
                peer: peer as usize,
                channel,
            },
        );
        self.input(
            node as usize,
            Input::Link {
                peer: id,
                channel,
                state: LinkState::Up { address },
            },
        );
    }

    /// Replaces whatever link there was: a peer that dials while we hold an old one has lost it.
    fn make(&mut self, a: u32, b: u32, channel: Channel) {
        for (node, peer) in [(a, b), (b, a)] {
            if let Some(end) = self.hosts[node as usize].end(peer, channel) {
                self.hosts[node as usize]
                    .links
                    .retain(|e| e.serial != end.serial);
                self.release(end.slot, end.serial);
            }
        }
        self.serial += 1;
        let (low, high) = (a.min(b), a.max(b));
        let lives = (
            self.hosts[low as usize].life,
            self.hosts[high as usize].life,
        );
        let pair = u64::from(low) << 32 | u64::from(high);
        let what = u64::from(lives.0) << 33 ^ u64::from(lives.1) << 1 ^ channel as u64;
        let link = Link {
            low,
            high,
            channel,
            serial: self.serial,
            name: seed::draw(pair, what, self.now.0),
            lives,
            held: [Vec::new(), Vec::new()],
            next_out: [[0; 2]; 2],
            next_in: [[0; 2]; 2],
            early: BTreeMap::new(),
            silent_since: None,
        };
        let slot = if let Some(slot) = self.free_slots.pop() {
            self.links[slot as usize] = link;
            slot
        } else {
            self.links.push(link);
            (self.links.len() - 1) as u32
        };
        let serial = self.serial;
        for (node, peer) in [(a, b), (b, a)] {
            self.hosts[node as usize].links.push(host::LinkEnd {
                peer,
                channel,
                serial,
                slot,
            });
        }
    }

    fn release(&mut self, slot: u32, serial: u64) {
        if self.link(slot, serial).is_some() {
            let link = &mut self.links[slot as usize];
            self.network
                .close(link.low as usize, link.high as usize, link.name);
            link.serial = 0;
            link.held = [Vec::new(), Vec::new()];
            link.early.clear();
            self.troubled.remove(&slot);
            self.free_slots.push(slot);
        }
    }

    /// Ends a link. Each end learns of it: the one that closes at once, the other when the word arrives or when it has
    /// heard nothing for long.
    pub(super) fn unlink(&mut self, slot: u32, serial: u64, why: &'static str) {
        let Some(link) = self.link(slot, serial) else {
            return;
        };
        let (low, high, channel, lives) = (link.low, link.high, link.channel, link.lives);
        let name = link.name;
        for (node, peer, life) in [(low, high, lives.0), (high, low, lives.1)] {
            let lane = 3;
            let fate = self.network.send(
                self.now,
                peer as usize,
                node as usize,
                name,
                lane,
                CLOSE_BYTES,
            );
            let at = match fate {
                Fate::Arrives(at) => at.min(self.now.plus_ms(IDLE_MS)),
                Fate::Stalls | Fate::Lost => self.now.plus_ms(IDLE_MS),
            };
            let at = if why == "timed out" { self.now } else { at };
            self.push(
                at,
                Happening::Down {
                    node,
                    life,
                    peer,
                    channel,
                    serial,
                    why,
                },
            );
        }
        self.release(slot, serial);
    }

    pub(super) fn link_down(
        &mut self,
        node: u32,
        life: u32,
        peer: u32,
        channel: Channel,
        serial: u64,
        why: &'static str,
    ) {
        let id = self.hosts[peer as usize].id;
        let host = &mut self.hosts[node as usize];
        if host.life != life {
            return;
        }
        let Some(at) = host.links.iter().position(|e| e.serial == serial) else {
            return;
        };
        host.links.remove(at);
        host.counters.links_down += 1;
        self.record(node as usize, kind::LINK, 2, u64::from(peer), 0);
        self.note(
            node as usize,
            What::LinkDown {
                peer: peer as usize,
                channel,
            },
        );
        let state = LinkState::Down { why: why.into() };
        self.input(
            node as usize,
            Input::Link {
                peer: id,
                channel,
                state,
            },
        );
    }

    pub(super) fn frame_arrives(
        &mut self,
        slot: u32,
        serial: u64,
        is_to_high: bool,
        frame: Framed,
    ) {
        let Some(link) = self.link(slot, serial) else {
            return;
        };
        let ((from, to), name) = (link.ends(is_to_high), link.name);
        if !self
            .network
            .carries(self.now, from as usize, to as usize, name)
        {
            return self.hold(slot, is_to_high, frame);
        }
        let lane = carry::lane_number(frame.lane);
        let link = &mut self.links[slot as usize];
        let next = &mut link.next_in[usize::from(is_to_high)][usize::from(lane)];
        if frame.nth != *next {
            link.early
                .insert((is_to_high, lane, frame.nth), frame.bytes);
            return;
        }
        *next += 1;
        self.deliver(slot, serial, is_to_high, frame.lane, frame.bytes);
        loop {
            let Some(link) = self
                .links
                .get_mut(slot as usize)
                .filter(|l| l.serial == serial)
            else {
                return;
            };
            let next = &mut link.next_in[usize::from(is_to_high)][usize::from(lane)];
            let Some(bytes) = link.early.remove(&(is_to_high, lane, *next)) else {
                return;
            };
            *next += 1;
            self.deliver(slot, serial, is_to_high, frame.lane, bytes);
        }
    }

    fn deliver(&mut self, slot: u32, serial: u64, is_to_high: bool, lane: Lane, bytes: Bytes) {
        let Some(link) = self.link(slot, serial) else {
            return;
        };
        let (from, to) = link.ends(is_to_high);
        let life = if is_to_high {
            link.lives.1
        } else {
            link.lives.0
        };
        let channel = link.channel;
        let sender = self.hosts[from as usize].id;
        let host = &mut self.hosts[to as usize];
        if host.life != life || !host.is_up() {
            return;
        }
        host.counters.frames_in += 1;
        host.counters.bytes_in += bytes.len() as u64;
        let a = u64::from(from) << 32 | bytes.len() as u64;
        let b = seed::fold(&bytes);
        let flags = u16::from(carry::lane_number(lane));
        self.record(to as usize, kind::FRAME, flags, a, b);
        let mut bytes = bytes;
        if !self.tampers.is_empty() {
            let frame = Passing {
                peer: from as usize,
                channel,
                lane,
                bytes,
            };
            match self.tampered_in(to, frame) {
                Some(frame) => bytes = frame.bytes,
                None => return,
            }
        }
        let input = Input::Frame {
            from: sender,
            channel,
            lane,
            bytes,
        };
        self.input(to as usize, input);
    }

    /// Keeps a frame until there is a path again.
    pub(super) fn hold(&mut self, slot: u32, is_to_high: bool, frame: Framed) {
        self.links[slot as usize].held[usize::from(is_to_high)].push(frame);
        self.trouble(slot);
        self.watch_network();
    }

    /// A link may be in trouble: its silence is watched.
    pub(super) fn trouble(&mut self, slot: u32) {
        let now = self.now;
        self.troubled.insert(slot);
        let link = &mut self.links[slot as usize];
        if link.silent_since.is_none() {
            link.silent_since = Some(now);
            let serial = link.serial;
            self.push(now.plus_ms(IDLE_MS), Happening::LinkCheck { slot, serial });
        }
    }

    pub(super) fn check_link(&mut self, slot: u32, serial: u64) {
        let Some(link) = self.link(slot, serial) else {
            return;
        };
        let Some(since) = link.silent_since else {
            return;
        };
        if self.is_manned(link) && self.is_path_open(link) {
            let link = &mut self.links[slot as usize];
            link.silent_since = None;
            if link.held.iter().all(Vec::is_empty) {
                self.troubled.remove(&slot);
            } else {
                self.retry(slot, serial);
            }
            return;
        }
        let due = since.plus_ms(IDLE_MS);
        if self.now >= due {
            self.unlink(slot, serial, "timed out");
        } else {
            self.push(due, Happening::LinkCheck { slot, serial });
        }
    }

    /// Watches every link of a machine that has fallen silent.
    pub(super) fn trouble_all(&mut self, node: usize) {
        let slots: Vec<u32> = self.hosts[node]
            .links
            .iter()
            .filter(|end| self.link(end.slot, end.serial).is_some())
            .map(|end| end.slot)
            .collect();
        for slot in slots {
            self.trouble(slot);
        }
    }

    /// After paths changed: what is cut off now is watched, what is back is sent again.
    pub(super) fn paths_changed(&mut self) {
        let slots: Vec<u32> = (0..self.links.len() as u32)
            .filter(|slot| self.links[*slot as usize].serial != 0)
            .collect();
        for slot in slots {
            let link = &self.links[slot as usize];
            let is_open = self.is_path_open(link);
            if !is_open {
                self.trouble(slot);
            } else if self.troubled.contains(&slot) && self.is_manned(link) {
                let serial = link.serial;
                let wait = seed::draw(self.options.seed, serial, self.now.0) % RETRY_MS;
                self.links[slot as usize].silent_since = None;
                self.push(self.now.plus_ms(wait), Happening::Retry { slot, serial });
            }
        }
        self.watch_network();
    }

    pub(super) fn watch_network(&mut self) {
        if let Some(at) = self.network.next_change()
            && self.network_change_at.is_none_or(|standing| at < standing)
        {
            self.network_change_at = Some(at);
            self.push(at, Happening::NetworkChange);
        }
    }

    pub(super) fn retry(&mut self, slot: u32, serial: u64) {
        if self.link(slot, serial).is_none() {
            return;
        }
        self.troubled.remove(&slot);
        for is_to_high in [false, true] {
            let held = std::mem::take(&mut self.links[slot as usize].held[usize::from(is_to_high)]);
            for frame in held {
                self.transmit(slot, serial, is_to_high, frame);
            }
        }
    }

    pub(super) fn admit(&mut self, node: usize, admitted: Arc<BTreeSet<NodeId>>) {
        let gone: Vec<host::LinkEnd> = self.hosts[node]
            .links
            .iter()
            .filter(|end| {
                end.channel == Channel::Mesh
                    && !admitted.contains(&self.hosts[end.peer as usize].id)
            })
            .copied()
            .collect();
        self.hosts[node].admitted = admitted;
        if !self.is_gate_open {
            for end in gone {
                self.unlink(end.slot, end.serial, "revoked");
            }
        }
    }
}
