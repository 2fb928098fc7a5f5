//! What can be seen from outside: views, digests, counters, files.

use std::rc::Rc;

use lab_agent_core::{Agent, Counts, Digests, ViewMask};
use lab_crdt_model::Wall;
use lab_crdt_model::view::{Liveness, MemberState, ReplicaView};

use super::host::Counters;
use super::*;
use crate::disk::Drive;

/// When a view was made, and by what an agent could have changed since.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Moment {
    at: Mono,
    wall: Wall,
    life: u32,
    steps: u64,
}

/// A view that was made.
#[derive(Debug)]
pub(super) struct ViewOf {
    node: usize,
    mask: ViewMask,
    moment: Moment,
    view: Rc<ReplicaView>,
}

impl ViewOf {
    /// Whether everything that a mask asks for is in it.
    const fn covers(&self, mask: ViewMask) -> bool {
        (self.mask.roster || !mask.roster)
            && (self.mask.fields || !mask.fields)
            && (self.mask.reports || !mask.reports)
            && (self.mask.chains || !mask.chains)
            && self.mask.history_count >= mask.history_count
    }
}

impl World {
    /// A node's key.
    pub fn id(&self, node: usize) -> NodeId {
        self.hosts[node].id
    }

    /// The secret of a machine, for whoever stole it.
    pub fn secret(&self, node: usize) -> [u8; 32] {
        self.hosts[node].secret
    }

    /// The machine with a key.
    pub fn node_of(&self, id: &NodeId) -> Option<usize> {
        self.by_key.get(id).map(|n| *n as usize)
    }

    /// Where a machine can be reached.
    pub fn address(&self, node: usize) -> std::net::SocketAddr {
        self.hosts[node].address
    }

    /// A node's wall clock, right or not.
    pub fn wall(&self, node: usize) -> Wall {
        self.hosts[node].clock.now(self.now).wall
    }

    /// Whether an agent runs there, paused or not.
    pub fn is_up(&self, node: usize) -> bool {
        self.hosts[node].is_up()
    }

    /// Whether its process is stopped.
    pub fn is_paused(&self, node: usize) -> bool {
        self.hosts[node].is_paused()
    }

    /// How often it started.
    pub fn life(&self, node: usize) -> u32 {
        self.hosts[node].life
    }

    /// Whether a frame from `a` can reach `b` now.
    pub fn is_reachable(&self, a: usize, b: usize) -> bool {
        self.network.is_open(self.now, a, b)
    }

    /// Whether a node's own replica says that it is a member.
    pub fn is_member(&mut self, node: usize) -> bool {
        let id = self.id(node);
        let mask = ViewMask {
            roster: true,
            ..ViewMask::default()
        };
        self.agent_view(node, mask).is_some_and(|v| {
            v.members
                .iter()
                .any(|m| m.node == id && m.state == MemberState::Member)
        })
    }

    /// A node's replica, for people; `None` while it is down, paused or no member yet.
    pub fn agent_view(&mut self, node: usize, mask: ViewMask) -> Option<ReplicaView> {
        let host = &mut self.hosts[node];
        if host.is_paused() {
            return None;
        }
        host.agent.as_mut()?.view(mask)
    }

    /// The same, made once for all who look while nothing happens there; one with more in it does as well.
    pub fn shared_view(&mut self, node: usize, mask: ViewMask) -> Option<Rc<ReplicaView>> {
        let host = &self.hosts[node];
        let moment = Moment {
            at: self.now,
            wall: host.clock.now(self.now).wall,
            life: host.life,
            steps: host.counters.steps,
        };
        self.views.retain(|it| it.moment.at == self.now);
        let fits = |it: &&ViewOf| it.node == node && it.moment == moment && it.covers(mask);
        if host.is_paused() || host.agent.is_none() {
            return None;
        }
        if let Some(it) = self.views.iter().find(fits) {
            return Some(Rc::clone(&it.view));
        }
        let view = Rc::new(self.agent_view(node, mask)?);
        self.views.push(ViewOf {
            node,
            mask,
            moment,
            view: Rc::clone(&view),
        });
        Some(view)
    }

    /// The value in force at a path of a node's replica, as JSON.
    pub fn value(&mut self, node: usize, path: &str) -> Option<String> {
        let mask = ViewMask {
            fields: true,
            ..ViewMask::default()
        };
        let view = self.agent_view(node, mask)?;
        let field = view.fields.iter().find(|f| f.path.as_str() == path)?;
        Some(field.candidates.first()?.field.value.to_string())
    }

    /// What a node's replica holds, as hashes; `None` while it is down or no member yet.
    pub fn digests(&self, node: usize) -> Option<Digests> {
        self.hosts[node].agent.as_ref()?.digests()
    }

    /// What is bounded in a node's agent, as it stands.
    pub fn counts(&self, node: usize) -> Option<Counts> {
        Some(self.hosts[node].agent.as_ref()?.counts())
    }

    /// About how many bytes a node's agent alone holds.
    pub fn memory(&self, node: usize) -> usize {
        self.hosts[node].agent.as_ref().map_or(0, Agent::memory)
    }

    /// Whether all live nodes hold the same statements and build the same document.
    pub fn are_equal(&self) -> bool {
        let mut first = None;
        for node in 0..self.len() {
            if !self.is_up(node) {
                continue;
            }
            let Some(digests) = self.digests(node) else {
                return false;
            };
            let seen = (digests.statements, digests.heads);
            if *first.get_or_insert(seen) != seen {
                return false;
            }
        }
        true
    }

    /// What `a` thinks of `b`; `None` while `a` is down, paused or no member yet.
    pub fn opinion(&self, a: usize, b: usize) -> Option<Liveness> {
        let host = &self.hosts[a];
        if host.is_paused() {
            return None;
        }
        host.agent.as_ref()?.opinion(&self.id(b))
    }

    /// How many links a node's driver holds.
    pub fn links(&self, node: usize) -> usize {
        self.hosts[node].links.len()
    }

    /// What a node did so far.
    pub fn counters(&self, node: usize) -> &Counters {
        &self.hosts[node].counters
    }

    /// Why a node's join was refused last.
    pub fn refused_join(&self, node: usize) -> Option<&str> {
        self.hosts[node].refused_join.as_deref()
    }

    /// A node's files, as its agent wrote them.
    pub fn files(&mut self, node: usize) -> &mut BTreeMap<String, Vec<u8>> {
        &mut self.hosts[node].files
    }

    /// A node's disk; `None` for the lean stand-in.
    pub fn drive(&mut self, node: usize) -> Option<&mut Drive> {
        self.hosts[node].store.drive()
    }

    /// The agent itself, to look at.
    pub fn agent(&self, node: usize) -> Option<&Agent> {
        self.hosts[node].agent.as_ref()
    }
}
