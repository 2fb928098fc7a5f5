//! What agents ask for, carried out on the models.

use lab_agent_core::{Effect, EffectResult, Event, FileOutcome, Input, LinkState, Output};
use lab_crdt_model::view::Liveness;

use super::link::Framed;
use super::tamper::Passing;
use lab_crdt_model::link::Lane;

use super::*;
use crate::network::{Dialled, Fate};

/// How long an effect takes, microseconds.
const EFFECT_US: u64 = 500;
/// From the agent's wish to the disk, microseconds.
const QUEUE_US: u64 = 100;
/// What a dial without an address that anyone answers takes, milliseconds.
const DIAL_FAILS_MS: u64 = 4_000;

pub(super) const fn lane_number(lane: Lane) -> u8 {
    match lane {
        Lane::Control => 0,
        Lane::Bulk => 1,
    }
}

impl World {
    pub(super) fn carry_out(&mut self, node: usize, output: Output) {
        match output {
            Output::Send {
                to,
                channel,
                lane,
                bytes,
            } => {
                if let Some(peer) = self.by_key.get(&to).copied() {
                    self.send(node as u32, peer, channel, lane, bytes);
                }
            }
            Output::Dial {
                peer,
                channel,
                addresses,
            } => self.dial(node, peer, channel, &addresses),
            Output::Hangup {
                peer,
                channel,
                why: _,
            } => {
                if let Some(peer) = self.by_key.get(&peer).copied()
                    && let Some(end) = self.hosts[node].end(peer, channel)
                {
                    self.unlink(end.slot, end.serial, "hung up");
                }
            }
            Output::Admit(admitted) => self.admit(node, admitted),
            Output::AdmitDevices(devices) => self.hosts[node].devices = devices,
            Output::Store { id, batch } => {
                let host = &mut self.hosts[node];
                host.writes.push_back((id, batch));
                if !host.is_writing {
                    self.write_soon(node);
                }
            }
            Output::Run { id, effect } => {
                let result = self.effect(node, effect);
                let input = Box::new(Input::Done { id, result });
                let life = self.hosts[node].life;
                let node = node as u32;
                self.push_in(EFFECT_US, Happening::Input { node, life, input });
            }
            Output::Reply { id, reply } => {
                let is_submit = self.hosts[node].asked.remove(&id).unwrap_or(false);
                match &reply {
                    Reply::Submitted { ids } if is_submit => self.note(
                        node,
                        What::Acked {
                            command: id,
                            ids: ids.clone(),
                        },
                    ),
                    Reply::View(_) => self.note(node, What::Shown { command: id }),
                    Reply::Refused { code, why } => self.note(
                        node,
                        What::Refused {
                            command: id,
                            code,
                            why: why.clone(),
                        },
                    ),
                    _ => {}
                }
                self.replies.insert(id, reply);
            }
            Output::Tell(event) => {
                let at = self.now_ms();
                let host = &mut self.hosts[node];
                if let Event::JoinRefused { why, .. } = &event {
                    host.refused_join = Some(why.clone());
                }
                if let Event::PeerChanged {
                    liveness: Liveness::Down,
                    ..
                } = &event
                {
                    host.counters.downs_told += 1;
                }
                if self.options.is_noted {
                    self.note(node, What::Told(event.clone()));
                }
                let most = match self.options.store {
                    StoreKind::Lean => host::EVENTS_MAX_LEAN,
                    _ => host::EVENTS_MAX,
                };
                self.hosts[node].tell(at, event, most);
            }
        }
    }

    fn dial(
        &mut self,
        node: usize,
        peer: NodeId,
        channel: Channel,
        addresses: &[std::net::SocketAddr],
    ) {
        let life = self.hosts[node].life;
        self.hosts[node].counters.dials += 1;
        let target = self.by_key.get(&peer).copied();
        let is_known = target.is_some_and(|t| addresses.contains(&self.hosts[t as usize].address));
        let (Some(to), true) = (target, is_known) else {
            return self.dial_fails(node, life, peer, channel, "no answer");
        };
        match self.network.dial(self.now, node, to as usize) {
            Dialled::Answers { at, is_relayed } => {
                let from = node as u32;
                self.push(
                    at,
                    Happening::Connect {
                        from,
                        life,
                        to,
                        channel,
                        is_relayed,
                    },
                );
            }
            Dialled::Fails { at, why } => self.dial_fails_at(at, node, life, peer, channel, why),
        }
    }

    pub(super) fn dial_fails(
        &mut self,
        node: usize,
        life: u32,
        peer: NodeId,
        channel: Channel,
        why: &'static str,
    ) {
        self.dial_fails_at(
            self.now.plus_ms(DIAL_FAILS_MS),
            node,
            life,
            peer,
            channel,
            why,
        );
    }

    fn dial_fails_at(
        &mut self,
        at: Mono,
        node: usize,
        life: u32,
        peer: NodeId,
        channel: Channel,
        why: &'static str,
    ) {
        if let (true, Some(peer)) = (self.options.is_noted, self.by_key.get(&peer)) {
            let peer = *peer as usize;
            self.note(node, What::DialFailed { peer, why });
        }
        let state = LinkState::DialFailed { why: why.into() };
        let input = Box::new(Input::Link {
            peer,
            channel,
            state,
        });
        let node = node as u32;
        self.push(at, Happening::Input { node, life, input });
    }

    fn send(&mut self, from: u32, to: u32, channel: Channel, lane: Lane, bytes: Bytes) {
        if self.tampers.is_empty() {
            return self.put_out(from, to, channel, lane, bytes);
        }
        let peer = to as usize;
        let frame = Passing {
            peer,
            channel,
            lane,
            bytes,
        };
        if let Some(frame) = self.tampered_out(from, frame) {
            self.put_out(from, to, channel, lane, frame.bytes);
        }
    }

    /// Sends a frame over the link that stands; without one it is lost.
    pub(super) fn put_out(
        &mut self,
        from: u32,
        to: u32,
        channel: Channel,
        lane: Lane,
        bytes: Bytes,
    ) {
        let Some(end) = self.hosts[from as usize].end(to, channel) else {
            return;
        };
        let counters = &mut self.hosts[from as usize].counters;
        counters.frames_out += 1;
        counters.bytes_out += bytes.len() as u64;
        if channel == Channel::Mesh {
            let kind = bytes
                .get(1)
                .map_or(0, |k| usize::from(*k))
                .min(host::KINDS - 1);
            counters.frames_by_kind[kind] += 1;
            counters.bytes_by_kind[kind] += bytes.len() as u64;
        }
        self.sent.0 += 1;
        self.sent.1 += bytes.len() as u64;
        let is_to_high = to > from;
        let link = &mut self.links[end.slot as usize];
        if link.serial != end.serial {
            // The other end has closed it and we do not know yet.
            return;
        }
        let next = &mut link.next_out[usize::from(is_to_high)][usize::from(lane_number(lane))];
        let frame = Framed {
            lane,
            nth: *next,
            bytes,
        };
        *next += 1;
        self.transmit(end.slot, end.serial, is_to_high, frame);
    }

    /// Puts a frame on its way, or holds it while there is none.
    pub(super) fn transmit(&mut self, slot: u32, serial: u64, is_to_high: bool, frame: Framed) {
        let link = &self.links[slot as usize];
        let (from, to) = link.ends(is_to_high);
        let (from, to) = (from as usize, to as usize);
        let lane = lane_number(frame.lane);
        let bytes = frame.bytes.len();
        match self
            .network
            .send(self.now, from, to, link.name, lane, bytes)
        {
            Fate::Arrives(at) => self.push(
                at,
                Happening::Frame {
                    slot,
                    serial,
                    is_to_high,
                    frame,
                },
            ),
            Fate::Stalls | Fate::Lost => self.hold(slot, is_to_high, frame),
        }
    }

    /// Lets the next batch go to the disk, if one waits.
    pub(super) fn write_soon(&mut self, node: usize) {
        let host = &mut self.hosts[node];
        host.is_writing = !host.writes.is_empty();
        if host.is_writing {
            let life = host.life;
            let node = node as u32;
            self.push_in(QUEUE_US, Happening::Write { node, life });
        }
    }

    pub(super) fn write_next(&mut self, node: usize, life: u32) {
        let now = self.now;
        let host = &mut self.hosts[node];
        if host.life != life || !host.is_up() {
            return;
        }
        let Some((id, batch)) = host.writes.pop_front() else {
            return;
        };
        host.counters.stores += 1;
        host.counters.stored_bytes += batch
            .iter()
            .map(|op| match op {
                lab_crdt_model::store::StoreOp::Put { key, value, .. } => key.len() + value.len(),
                lab_crdt_model::store::StoreOp::Delete { key, .. } => key.len(),
            } as u64)
            .sum::<u64>();
        let written = host.store.write(now, &batch);
        let result = Box::new(written.result);
        let node = node as u32;
        self.push_in(
            written.takes_us,
            Happening::Stored {
                node,
                life,
                id,
                result,
            },
        );
    }

    fn effect(&mut self, node: usize, effect: Effect) -> EffectResult {
        match effect {
            Effect::Facts => EffectResult::Facts(Box::new(found::facts_of(node))),
            Effect::Files { wanted, release } => {
                let files = &mut self.hosts[node].files;
                let mut out = Vec::new();
                for file in wanted {
                    let is_changed = files.get(&file.path) != Some(&file.content);
                    files.insert(file.path.clone(), file.content);
                    out.push(FileOutcome {
                        path: file.path,
                        is_changed,
                        error: None,
                    });
                }
                for file in release {
                    let is_ours = files
                        .get(&file.path)
                        .is_some_and(|c| *blake3::hash(c).as_bytes() == file.hash);
                    if is_ours {
                        files.remove(&file.path);
                    }
                    out.push(FileOutcome {
                        path: file.path,
                        is_changed: is_ours,
                        error: None,
                    });
                }
                EffectResult::Files(out)
            }
        }
    }
}
