//! Machines whose frames are not those of their agents.

use lab_agent_core::Input;
use lab_crdt_model::link::Lane;

use super::*;

/// A frame on its way to or from a machine that is tampered with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Passing {
    /// Whom it goes to, or comes from.
    pub peer: usize,
    /// On which kind of link.
    pub channel: Channel,
    /// In which lane.
    pub lane: Lane,
    /// What.
    pub bytes: Bytes,
}

/// Frames that leave a machine, and frames that its agent gets to see.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Traffic {
    /// Sent, in order; those without a link are lost.
    pub out: Vec<Passing>,
    /// Handed to the agent, in order.
    pub inward: Vec<Passing>,
}

/// Sees every frame of one machine, and may drop, change, double and invent.
pub trait Tamper: Send {
    /// The agent sends a frame; what is not put into `traffic` is dropped.
    fn sends(&mut self, now: Mono, frame: Passing, traffic: &mut Traffic) {
        let _ = now;
        traffic.out.push(frame);
    }

    /// A frame arrives; what is not put into `traffic` is dropped.
    fn hears(&mut self, now: Mono, frame: Passing, traffic: &mut Traffic) {
        let _ = now;
        traffic.inward.push(frame);
    }
}

/// Changes nothing: for machines that are only no longer to be trusted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Untouched;

impl Tamper for Untouched {}

impl World {
    /// From now on a machine is an adversary's, and its frames pass through `tamper`. Oracles trust it no more.
    pub fn corrupt(&mut self, node: usize, tamper: Box<dyn Tamper>) {
        self.record(node, kind::FAULT, 4, 0, 0);
        self.note(node, What::Fault("Corrupt".into()));
        self.tampers.insert(node as u32, tamper);
    }

    /// Whether a machine is an adversary's.
    pub fn is_corrupt(&self, node: usize) -> bool {
        self.tampers.contains_key(&(node as u32))
    }

    /// Sends a frame over the link that stands between two machines, as if the agent had; returns whether there is one.
    pub fn inject(
        &mut self,
        from: usize,
        to: usize,
        channel: Channel,
        lane: Lane,
        bytes: Bytes,
    ) -> bool {
        let host = &self.hosts[from];
        let is_there = host.is_up() && !host.is_paused() && host.end(to as u32, channel).is_some();
        if is_there {
            self.put_out(from as u32, to as u32, channel, lane, bytes);
        }
        is_there
    }

    /// Whom a machine has a link to, on the mesh.
    pub fn peers(&self, node: usize) -> Vec<usize> {
        let ends = self.hosts[node].links.iter();
        let mut peers: Vec<usize> = ends
            .filter(|end| end.channel == Channel::Mesh)
            .map(|end| end.peer as usize)
            .collect();
        peers.sort_unstable();
        peers
    }

    /// Lets an adversary have a frame that its agent sends; `None`: it is nobody's.
    pub(super) fn tampered_out(&mut self, node: u32, frame: Passing) -> Option<Passing> {
        let Some(mut tamper) = self.tampers.remove(&node) else {
            return Some(frame);
        };
        let mut traffic = Traffic::default();
        tamper.sends(self.now, frame, &mut traffic);
        self.tampers.insert(node, tamper);
        self.pass(node, traffic);
        None
    }

    /// The same for a frame that arrives.
    pub(super) fn tampered_in(&mut self, node: u32, frame: Passing) -> Option<Passing> {
        let Some(mut tamper) = self.tampers.remove(&node) else {
            return Some(frame);
        };
        let mut traffic = Traffic::default();
        tamper.hears(self.now, frame, &mut traffic);
        self.tampers.insert(node, tamper);
        self.pass(node, traffic);
        None
    }

    fn pass(&mut self, node: u32, traffic: Traffic) {
        for frame in traffic.out {
            self.put_out(
                node,
                frame.peer as u32,
                frame.channel,
                frame.lane,
                frame.bytes,
            );
        }
        for frame in traffic.inward {
            let input = Input::Frame {
                from: self.hosts[frame.peer].id,
                channel: frame.channel,
                lane: frame.lane,
                bytes: frame.bytes,
            };
            self.input(node as usize, input);
        }
    }
}
