//! What harnesses and metrics read off an agent. Nothing here changes it.

use lab_crdt_model::view::Liveness;

use super::*;
use crate::figures::{Counts, Digests};

impl Agent {
    /// Digests of what the replica holds; `None` before this machine has joined. Costs no more than a few hashes.
    pub fn digests(&self) -> Option<Digests> {
        let Stage::Member(m) = &self.stage else {
            return None;
        };
        Some(Digests {
            statements: m.replica.log.digest(),
            registers: m.replica.registers.digest(),
            heads: m.replica.heads_digest(),
            late: m.replica.log.waiting_digest(),
        })
    }

    /// What this node thinks of another; unknown of strangers, `None` before this machine has joined.
    pub fn opinion(&self, node: &NodeId) -> Option<Liveness> {
        match &self.stage {
            Stage::Member(m) => Some(m.mesh.opinion(node)),
            Stage::Joining(_) => None,
        }
    }

    /// What is bounded in this agent, as it stands now.
    pub fn counts(&self) -> Counts {
        let stores = Counts {
            unstored_bytes: self.stores.bytes,
            writes: self.stores.under_way.len(),
            rewrites: self.stores.retry.len(),
            outputs: self.outbox.len(),
            ..Counts::default()
        };
        let Stage::Member(m) = &self.stage else {
            return stores;
        };
        Counts {
            refused: m.replica.refused.len(),
            statements: m.replica.log.len(),
            waiting: m.replica.log.waiting_len(),
            reported: m.replica.registers.node_count(),
            queued_commands: m.queued.len(),
            sponsored: m.sponsoring.len(),
            links: m.mesh.link_count(),
            audit_records: m.replica.audit.len() + m.held.len(),
            addresses: m.known_addresses.values().map(Vec::len).sum(),
            ..stores
        }
    }

    /// About how many bytes of memory this agent alone holds, beyond what it shares with others of its process.
    ///
    /// An estimate by counts and sizes of the larger parts, without the allocator's own cost.
    pub fn memory(&self) -> usize {
        let outbox = self.outbox.capacity() * size_of::<Output>();
        let stores = self.stores.bytes
            + (self.stores.under_way.len() + self.stores.retry.len()) * size_of::<Pending>();
        let own = size_of::<Self>() + outbox + stores;
        let Stage::Member(m) = &self.stage else {
            return own + size_of::<Joining>();
        };
        let book: usize = m
            .known_addresses
            .values()
            .map(|a| size_of::<NodeId>() + a.capacity() * size_of::<SocketAddr>())
            .sum();
        own + size_of::<Member>()
            + book
            + m.intake.bytes()
            + m.replica.own_memory()
            + m.held.memory()
    }
}

impl Agent {
    /// The envelopes of all statements that the replica holds, oldest here first; empty before this machine has joined.
    pub fn envelopes(&self) -> Vec<Bytes> {
        let Stage::Member(m) = &self.stage else {
            return Vec::new();
        };
        let log = &m.replica.log;
        let mut out: Vec<Bytes> = log.newest().filter_map(|id| log.envelope(&id)).collect();
        out.reverse();
        out
    }

    /// All audit records that are kept: chains by node and number, then what contradicts them; empty before this machine
    /// has joined.
    pub fn audit_records(&self) -> Vec<Bytes> {
        match &self.stage {
            Stage::Member(m) => m.audit_records(&self.keys.node(), None),
            Stage::Joining(_) => Vec::new(),
        }
    }

    /// The bytes of all reports that the replica holds, by node; empty before this machine has joined.
    pub fn reports(&self) -> Vec<Bytes> {
        let Stage::Member(m) = &self.stage else {
            return Vec::new();
        };
        let all = m.replica.registers.each().flat_map(|(_, of)| of);
        all.map(|register| register.bytes.clone()).collect()
    }
}
