//! What an audit node holds of the chains of others, and whom it asks for more.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use lab_crdt_log::AuditRecord;
use lab_crdt_model::limit::{AUDIT_EVIDENCE_MAX, AUDIT_HELD_MAX};
use lab_crdt_model::report::AuditHead;
use lab_crdt_model::store::{Batch, StoreOp, Table};
use lab_crdt_model::{MeshId, Mono, NodeId, reached};

use crate::audit::{audit_key, portion};
use crate::replica::put;

/// Most conversations at once, and most members that are answered at once.
pub(crate) const TALKS_MAX: usize = 4;
/// A conversation without progress is given up after this long, milliseconds.
const TALK_MS: u64 = 10_000;
/// A node is not asked again so soon, milliseconds: after it answered, and after it did not.
const AGAIN_MS: u64 = 10_000;
const FAILED_MS: u64 = 30_000;
/// Of how many records one is removed when there are too many: an eighth.
const DROPPED_SHARE: usize = 8;

/// The chain of another node.
#[derive(Debug, Default)]
struct Chain {
    records: VecDeque<AuditRecord>,
    /// Records that contradict those above.
    evidence: Vec<AuditRecord>,
}

impl Chain {
    fn head(&self) -> AuditHead {
        let last = self.records.back();
        last.map_or_else(AuditHead::default, AuditRecord::head)
    }

    fn get(&self, seq: u64) -> Option<&AuditRecord> {
        let at = self.records.binary_search_by_key(&seq, |r| r.seq);
        self.records.get(at.ok()?)
    }

    /// Whether a head cannot be one of a chain that goes on from what is held.
    fn contradicts(&self, head: &AuditHead) -> bool {
        let held = self.get(head.seq);
        held.is_some_and(|record| record.hash != head.hash)
            && self.evidence.len() < AUDIT_EVIDENCE_MAX
            && !self.evidence.iter().any(|r| r.hash == head.hash)
    }
}

/// A conversation that this node began.
#[derive(Debug)]
struct Talk {
    /// Whose records it is about.
    node: NodeId,
    until: Mono,
}

/// When a node may be asked for again.
#[derive(Debug, Default, Clone, Copy)]
struct Wait {
    until: Mono,
    failures: u32,
}

/// What a portion of records brought.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// The chain was written anew: what was held, and what came.
    pub(crate) contradiction: Option<(AuditHead, AuditHead)>,
    /// The oldest records were removed up to here.
    pub(crate) dropped: Option<AuditHead>,
    /// Something was not known yet.
    pub(crate) is_progress: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Held {
    chains: BTreeMap<NodeId, Chain>,
    /// By whom is asked.
    talks: BTreeMap<NodeId, Talk>,
    waits: BTreeMap<NodeId, Wait>,
    /// Audit links that are up.
    pub(crate) linked: BTreeSet<NodeId>,
    /// Members that ask this node.
    asking: BTreeSet<NodeId>,
    /// When to look for chains that went on.
    pub(crate) look_at: Option<Mono>,
}

impl Held {
    /// What the store held.
    pub(crate) fn restore(&mut self, stored: Vec<(Vec<u8>, Vec<u8>)>) {
        for (key, value) in stored {
            let bytes = Bytes::from(value);
            let Ok(record) = AuditRecord::parse(&bytes) else {
                continue;
            };
            let chain = self.chains.entry(record.node).or_default();
            if key == audit_key(&record.node, record.seq) {
                // Keys are in order.
                chain.records.push_back(record);
            } else {
                chain.evidence.push(record);
            }
        }
    }

    /// The end of what is held of a chain.
    pub(crate) fn head(&self, node: &NodeId) -> AuditHead {
        let chain = self.chains.get(node);
        chain.map_or_else(AuditHead::default, Chain::head)
    }

    /// Whether a node tells of records that are not held.
    pub(crate) fn is_behind(&self, node: &NodeId, told: &AuditHead) -> bool {
        let is_other = self.chains.get(node).is_some_and(|c| c.contradicts(told));
        told.seq > self.head(node).seq || is_other
    }

    /// Where to begin when a node tells of a head: behind what is held, or before a head that contradicts it.
    fn begin(&self, node: &NodeId, told: Option<&AuditHead>) -> u64 {
        let held = self.head(node).seq;
        told.map_or(held, |told| held.min(told.seq.saturating_sub(1)))
    }

    /// All records that are held, of one node or of all: chains first, then what contradicts them.
    pub(crate) fn records(&self, node: Option<NodeId>) -> (Vec<Bytes>, Vec<Bytes>) {
        let of = |of: &&NodeId| node.is_none_or(|node| node == **of);
        let chains = || self.chains.iter().filter(|(n, _)| of(n)).map(|(_, c)| c);
        (
            chains()
                .flat_map(|c| &c.records)
                .map(|r| r.bytes.clone())
                .collect(),
            chains()
                .flat_map(|c| &c.evidence)
                .map(|r| r.bytes.clone())
                .collect(),
        )
    }

    /// The records of a chain after a number, up to so many bytes, and whether there are no more.
    pub(crate) fn after(&self, node: &NodeId, seq: u64, bytes_max: usize) -> (Vec<Bytes>, bool) {
        let Some(chain) = self.chains.get(node) else {
            return (Vec::new(), true);
        };
        let at = chain.records.partition_point(|r| r.seq <= seq);
        portion(chain.records.range(at..).map(|r| &r.bytes), bytes_max)
    }

    /// Chains that were written anew, as far as is held.
    pub(crate) fn contradictions(&self) -> impl Iterator<Item = (&NodeId, u64)> {
        let chains = self.chains.iter();
        chains.filter_map(|(node, c)| Some((node, c.evidence.iter().map(|r| r.seq).min()?)))
    }

    pub(crate) fn len(&self) -> usize {
        let chains = self.chains.values();
        chains.map(|c| c.records.len() + c.evidence.len()).sum()
    }

    pub(crate) fn memory(&self) -> usize {
        let records = self
            .chains
            .values()
            .flat_map(|c| c.records.iter().chain(&c.evidence));
        records
            .map(|r| r.bytes.len() + size_of::<AuditRecord>())
            .sum()
    }

    /// Takes in records of a node, each only if the node has signed it.
    pub(crate) fn take(
        &mut self,
        mesh: &MeshId,
        node: &NodeId,
        records: &[Bytes],
        batch: &mut Batch,
    ) -> Taken {
        let mut out = Taken::default();
        for bytes in records {
            // What is kept must not hold on to the whole frame that it came in.
            let bytes = Bytes::copy_from_slice(bytes);
            let Ok(record) = AuditRecord::open(mesh, &bytes).and_then(|record| {
                (record.node == *node)
                    .then_some(record)
                    .ok_or(lab_crdt_log::audit::AuditError::Malformed)
            }) else {
                reached!("an audit record came that its node has not signed");
                break;
            };
            let chain = self.chains.entry(*node).or_default();
            let head = chain.head();
            let is_known = |r: &AuditRecord| r.hash == record.hash;
            if chain.get(record.seq).is_some_and(is_known) || chain.evidence.iter().any(is_known) {
                continue;
            }
            out.is_progress = true;
            let is_next = record.seq > head.seq;
            // Behind a gap there is nothing to compare with; the gap itself shows in the chain.
            let follows = record.seq > head.seq.saturating_add(1) || record.prev == head.hash;
            let is_first = chain.records.is_empty();
            if !(is_first || is_next && follows) {
                reached!("an audit chain does not extend what was held of it");
                let told = chain.get(record.seq).map_or(head, AuditRecord::head);
                out.contradiction.get_or_insert((told, record.head()));
            }
            let mut key = audit_key(node, record.seq);
            if is_next {
                chain.records.push_back(record);
            } else if chain.evidence.len() < AUDIT_EVIDENCE_MAX {
                key.extend_from_slice(&record.hash);
                chain.evidence.push(record);
            } else {
                continue;
            }
            batch.push(put(Table::Audit, &key, bytes.to_vec()));
        }
        out.dropped = self.drop_oldest(node, batch);
        out
    }

    fn drop_oldest(&mut self, node: &NodeId, batch: &mut Batch) -> Option<AuditHead> {
        let chain = self.chains.get_mut(node)?;
        if chain.records.len() <= AUDIT_HELD_MAX {
            return None;
        }
        reached!("the oldest records of another node's audit chain were dropped");
        let gone = chain.records.drain(..AUDIT_HELD_MAX / DROPPED_SHARE);
        let mut last = None;
        for record in gone {
            batch.push(StoreOp::Delete {
                table: Table::Audit,
                key: audit_key(node, record.seq),
            });
            last = Some(record.head());
        }
        last
    }

    /// A node tells of a head; it is asked for what is not held.
    pub(crate) fn told(&mut self, node: &NodeId, head: &AuditHead, now: Mono) {
        if self.is_behind(node, head) {
            self.look_soon(now);
        }
    }

    pub(crate) fn look_soon(&mut self, now: Mono) {
        self.look_at = Some(self.look_at.map_or(now, |at| at.min(now)));
    }

    /// When something is due.
    pub(crate) fn deadline(&self) -> Option<Mono> {
        let talks = self.talks.values().map(|talk| talk.until).min();
        [self.look_at, talks].into_iter().flatten().min()
    }

    /// Of nodes that are ahead of what is held, those to ask for now, and how often they were asked in vain.
    pub(crate) fn due(&mut self, ahead: &[NodeId], now: Mono) -> Vec<(NodeId, u32)> {
        self.look_at = None;
        let mut out = Vec::new();
        for node in ahead {
            let wait = self.waits.get(node).copied().unwrap_or_default();
            let is_talked = self.talks.values().any(|talk| talk.node == *node);
            if is_talked {
                continue;
            }
            if wait.until > now {
                self.look_at = Some(self.look_at.map_or(wait.until, |at| at.min(wait.until)));
            } else {
                out.push((*node, wait.failures));
            }
        }
        out.truncate(TALKS_MAX.saturating_sub(self.talks.len()));
        out
    }

    /// Begins a conversation; `false` if one with the peer is under way.
    pub(crate) fn begin_talk(&mut self, peer: NodeId, node: NodeId, now: Mono) -> bool {
        if self.talks.contains_key(&peer) {
            return false;
        }
        let until = now.plus_ms(TALK_MS);
        self.talks.insert(peer, Talk { node, until });
        true
    }

    /// What a peer is to be asked now: whose chain, after which record.
    pub(crate) fn request(
        &self,
        peer: &NodeId,
        told: impl Fn(&NodeId) -> Option<AuditHead>,
    ) -> Option<(NodeId, u64)> {
        let node = self.talks.get(peer)?.node;
        Some((node, self.begin(&node, told(&node).as_ref())))
    }

    /// Whether a peer was asked for records of a node.
    pub(crate) fn is_asked(&self, peer: &NodeId, node: &NodeId) -> bool {
        self.talks.get(peer).is_some_and(|talk| talk.node == *node)
    }

    pub(crate) fn goes_on(&mut self, peer: &NodeId, now: Mono) {
        if let Some(talk) = self.talks.get_mut(peer) {
            talk.until = now.plus_ms(TALK_MS);
        }
    }

    /// A conversation is over, with an answer or without.
    pub(crate) fn end_talk(&mut self, peer: &NodeId, is_answered: bool, now: Mono) {
        let Some(talk) = self.talks.remove(peer) else {
            return;
        };
        let failures = self.waits.get(&talk.node).map_or(0, |w| w.failures);
        let wait = if is_answered {
            Wait {
                until: now.plus_ms(AGAIN_MS),
                failures: 0,
            }
        } else {
            Wait {
                until: now.plus_ms(FAILED_MS),
                failures: failures.saturating_add(1),
            }
        };
        self.waits.insert(talk.node, wait);
        self.look_soon(now);
    }

    /// Conversations that made no progress for too long.
    pub(crate) fn stuck(&self, now: Mono) -> Vec<NodeId> {
        let talks = self.talks.iter();
        talks
            .filter(|(_, t)| t.until <= now)
            .map(|(peer, _)| *peer)
            .collect()
    }

    /// Whether a member that asks may be answered: at most four at once.
    pub(crate) fn may_ask(&mut self, peer: NodeId) -> bool {
        if self.asking.len() >= TALKS_MAX && !self.asking.contains(&peer) {
            return false;
        }
        self.asking.insert(peer);
        true
    }

    pub(crate) fn is_asking(&self, peer: &NodeId) -> bool {
        self.asking.contains(peer)
    }

    pub(crate) fn unlinked(&mut self, peer: &NodeId) {
        self.linked.remove(peer);
        self.asking.remove(peer);
    }

    /// Forgets waits of nodes that are no members any more; what was held of them stays.
    pub(crate) fn forget_strangers(&mut self, is_member: impl Fn(&NodeId) -> bool) {
        self.waits.retain(|node, _| is_member(node));
    }
}

#[cfg(test)]
mod tests;
