//! The audit chain of this node: what is waiting to be recorded, what is recorded, and what is durable.
//!
//! Records are sealed at the moment a batch goes to the store, into that very batch. A batch with records carries every
//! record that is not known to be durable yet, so that whichever batches a failing store takes, what it holds has no
//! gap. While a hand-in is under way nothing else is sealed: its record is taken back if the store refuses it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use ed25519_dalek::SigningKey;
use lab_crdt_log::audit::KINDS;
use lab_crdt_log::{Act, Alarm, AuditBody, AuditRecord, seal_audit};
use lab_crdt_model::limit::{AUDIT_BYTES_MAX, AUDIT_RECORDS_MAX};
use lab_crdt_model::report::AuditHead;
use lab_crdt_model::store::{Batch, StoreOp, Table};
use lab_crdt_model::{AuthorId, Caller, MeshId, Mono, NodeId, Now, Wall, mutant, reached};

use crate::replica::put;

/// Most records of a kind within a minute, where others can cause them.
const PER_MINUTE_MAX: u32 = 10;
const MINUTE_MS: u64 = 60_000;
/// Most acts that wait to be sealed; a failing store makes them wait.
const WAITING_MAX: usize = 1_024;
/// Of how many records one is removed when there are too many: an eighth.
const TRIMMED_SHARE: usize = 8;
/// No chain gets so long; only whoever copied the key tells of such a head.
const SEQ_MAX: u64 = 1 << 48;
/// For how long people are told of an alarm, milliseconds: a week.
const ALARM_MS: u64 = 7 * 86_400_000;

pub(crate) fn audit_key(node: &NodeId, seq: u64) -> Vec<u8> {
    [&node.0[..], &seq.to_be_bytes()].concat()
}

/// Something to be recorded.
#[derive(Debug)]
struct Waiting {
    at: Wall,
    body: AuditBody,
}

/// How much of a kind was recorded lately.
#[derive(Debug, Default, Clone, Copy)]
struct Rate {
    since: Mono,
    count: u32,
    left_out: u32,
}

/// What was sealed for a hand-in, to take it back.
#[derive(Debug)]
struct HandIn {
    count: usize,
    head: AuditHead,
}

#[derive(Debug, Default)]
pub(crate) struct Audit {
    /// The records of this node that are kept, oldest first.
    records: VecDeque<AuditRecord>,
    bytes: usize,
    /// The newest that was sealed, and the newest that is durable.
    head: AuditHead,
    durable: AuditHead,
    waiting: VecDeque<Waiting>,
    rates: BTreeMap<u8, Rate>,
    hand_in: Option<HandIn>,
    /// Forked authors that were told of.
    forked: BTreeSet<AuthorId>,
    /// Nodes whose chain went back, since when, and what was seen.
    went_back: BTreeMap<NodeId, (Wall, AuditHead, AuditHead)>,
    /// The newest head of this chain that others hold.
    told: AuditHead,
    /// What was said last of the config.
    configured: Option<([u8; 32], u32)>,
}

impl Audit {
    /// What the store held of this node's chain. Says which records it lost, if it has lost some.
    pub(crate) fn restore(me: &NodeId, stored: Vec<Bytes>) -> Self {
        let mut out = Self::default();
        let mut records: Vec<AuditRecord> = stored
            .iter()
            .filter_map(|bytes| AuditRecord::parse(bytes).ok())
            .filter(|record| record.node == *me)
            .collect();
        records.sort_by_key(|record| record.seq);
        let mut told: Vec<(u64, u64)> = Vec::new();
        for record in &records {
            match record.body().map(|body| body.act) {
                Some(Act::Lost { from, through }) => told.push((from, through)),
                Some(Act::Trimmed { end }) => told.push((1, end.seq)),
                Some(Act::Alarm(alarm)) => out.remember(record.at, &alarm),
                _ => {}
            }
        }
        let mut next = 1;
        let mut lost = Vec::new();
        for record in &records {
            if record.seq > next {
                let (from, through) = (next, record.seq - 1);
                // Of what was trimmed the head of the rest may be lost.
                let is_told = told.iter().any(|(f, t)| *f <= from && through <= *t);
                let trimmed = told.iter().filter(|(f, t)| *f == 1 && *t < through);
                let from = trimmed.map(|(_, t)| t + 1).fold(from, u64::max);
                if !is_told {
                    lost.push((from, through));
                }
            }
            next = record.seq + 1;
        }
        out.bytes = records.iter().map(|r| r.bytes.len()).sum();
        out.head = records
            .last()
            .map_or_else(AuditHead::default, AuditRecord::head);
        if mutant!("M30") && out.head.seq > 0 {
            out.head.seq += 1;
        }
        out.durable = out.head;
        out.records = records.into();
        for (from, through) in lost {
            reached!("a store has lost records of the audit chain");
            out.push(Wall::default(), None, Act::Lost { from, through });
        }
        out
    }

    /// The newest durable record: what may be told to others.
    pub(crate) const fn durable(&self) -> AuditHead {
        self.durable
    }

    /// Every record of this node that is kept and durable.
    pub(crate) fn records(&self) -> impl Iterator<Item = &Bytes> {
        let durable = self.durable.seq;
        let held = self.records.iter().take_while(move |r| r.seq <= durable);
        held.map(|r| &r.bytes)
    }

    /// The records after a number, up to so many bytes, and whether there are no more.
    pub(crate) fn after(&self, seq: u64, bytes_max: usize) -> (Vec<Bytes>, bool) {
        let at = self.records.partition_point(|r| r.seq <= seq);
        portion(
            self.records
                .range(at..)
                .take_while(|r| r.seq <= self.durable.seq)
                .map(|r| &r.bytes),
            bytes_max,
        )
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    pub(crate) fn memory(&self) -> usize {
        self.bytes + self.records.len() * size_of::<AuditRecord>()
    }

    /// When something that was left out is to be recorded.
    pub(crate) fn deadline(&self) -> Option<Mono> {
        let is_due = |rate: &&Rate| rate.left_out > 0 && self.hand_in.is_none();
        let rates = self.rates.values().filter(is_due);
        rates.map(|rate| rate.since.plus_ms(MINUTE_MS)).min()
    }

    fn push(&mut self, at: Wall, caller: Option<Caller>, act: Act) {
        if self.waiting.len() >= WAITING_MAX {
            reached!("more happened than a failing store let the agent record");
            return self.leave_out(act.kind());
        }
        let body = AuditBody { caller, act };
        self.waiting.push_back(Waiting { at, body });
    }

    fn leave_out(&mut self, kind: u8) {
        let rate = self.rates.entry(kind).or_default();
        rate.left_out = rate.left_out.saturating_add(1);
    }

    /// Records something that this node or someone with a right did.
    pub(crate) fn note(&mut self, caller: Option<Caller>, act: Act, now: Now) {
        self.push(now.wall, caller, act);
    }

    /// Records something that others can cause as often as they like: ten of a kind within a minute, and then how many
    /// more there were.
    pub(crate) fn note_some(&mut self, caller: Option<Caller>, act: Act, now: Now) {
        let rate = self.rates.entry(act.kind()).or_default();
        if rate.left_out == 0 && now.mono.ms_since(rate.since) >= MINUTE_MS {
            *rate = Rate {
                since: now.mono,
                ..Rate::default()
            };
        }
        if rate.count >= PER_MINUTE_MAX {
            reached!("more was refused in a minute than is recorded");
            return self.leave_out(act.kind());
        }
        rate.count += 1;
        self.push(now.wall, caller, act);
    }

    /// An author's chain has two branches; recorded once.
    pub(crate) fn note_fork(&mut self, author: AuthorId, now: Now) {
        if self.forked.insert(author) {
            self.note_some(None, Act::Alarm(Alarm::Forked { author }), now);
        }
    }

    /// The chain of a node does not hold what it had told.
    pub(crate) fn note_went_back(
        &mut self,
        node: NodeId,
        told: AuditHead,
        tells: AuditHead,
        now: Now,
    ) {
        reached!("the audit chain of a node went back");
        let alarm = Alarm::WentBack { node, told, tells };
        self.remember(now.wall, &alarm);
        self.note_some(None, Act::Alarm(alarm), now);
    }

    /// What the config came to; the same failure is recorded once.
    pub(crate) fn note_config(
        &mut self,
        hash: [u8; 32],
        changed_count: u32,
        failed_count: u32,
        files: Vec<String>,
        now: Now,
    ) {
        let is_news = changed_count > 0 || self.configured != Some((hash, failed_count));
        self.configured = Some((hash, failed_count));
        if is_news && (changed_count > 0 || failed_count > 0) {
            let act = Act::Configured {
                hash,
                changed_count,
                failed_count,
                files,
            };
            self.note_some(None, act, now);
        }
    }

    fn remember(&mut self, at: Wall, alarm: &Alarm) {
        match alarm {
            Alarm::Forked { author } => {
                self.forked.insert(*author);
            }
            Alarm::WentBack { node, told, tells } => {
                self.went_back.insert(*node, (at, *told, *tells));
            }
            Alarm::Diverged { .. } => {}
        }
    }

    /// Nodes whose chain went back lately: what they had told, and what they told then.
    pub(crate) fn went_back(
        &self,
        now: Wall,
    ) -> impl Iterator<Item = (NodeId, AuditHead, AuditHead)> {
        let lately = self
            .went_back
            .iter()
            .filter(move |(_, (at, _, _))| now.0.saturating_sub(at.0) < ALARM_MS);
        lately.map(|(node, (_, told, tells))| (*node, *told, *tells))
    }

    /// Whether a head that this node told is known here.
    pub(crate) fn has(&self, told: &AuditHead) -> bool {
        let at = self.records.binary_search_by_key(&told.seq, |r| r.seq);
        match at.ok().and_then(|at| self.records.get(at)) {
            Some(record) => record.hash == told.hash,
            None => told.seq <= self.head.seq.max(self.told.seq),
        }
    }

    /// Others hold a head of this node's chain. If it is not in it, the store has lost the end of the chain: it goes on
    /// behind what was lost.
    pub(crate) fn saw_own(&mut self, me: &NodeId, told: AuditHead, now: Now) {
        if told.seq >= SEQ_MAX {
            return;
        }
        if told.seq > self.told.seq {
            self.told = told;
        }
        let at = self.records.binary_search_by_key(&told.seq, |r| r.seq);
        if let Some(record) = at.ok().and_then(|at| self.records.get(at))
            && record.hash != told.hash
            && !self.went_back.contains_key(me)
        {
            // It went on before it heard that its end was lost.
            let tells = record.head();
            self.note_went_back(*me, told, tells, now);
        }
    }

    /// Whether anything is to be sealed, and may be.
    fn is_due(&self) -> bool {
        self.hand_in.is_none() && (!self.waiting.is_empty() || self.told.seq > self.head.seq)
    }

    /// What was left out in minutes that are over.
    pub(crate) fn tell_left_out(&mut self, now: Now) {
        let over: Vec<(u8, u32)> = self
            .rates
            .iter()
            .filter(|(_, r)| r.left_out > 0 && now.mono.ms_since(r.since) >= MINUTE_MS)
            .map(|(kind, rate)| (*kind, rate.left_out))
            .collect();
        for (kind, count) in over {
            let since = now.mono;
            self.rates.insert(
                kind,
                Rate {
                    since,
                    ..Rate::default()
                },
            );
            debug_assert!(usize::from(kind) < KINDS.len());
            self.push(now.wall, None, Act::LeftOut { kind, count });
        }
    }

    /// Seals what waits, and puts all records that are not durable into a batch. Returns the head that is durable when
    /// the batch is; `None` if there is nothing new.
    pub(crate) fn seal(
        &mut self,
        mesh: &MeshId,
        key: &SigningKey,
        batch: &mut Batch,
        now: Now,
    ) -> Option<AuditHead> {
        self.seal_waiting(mesh, key, batch, now)
            .then(|| self.put_all(batch))
    }

    fn seal_waiting(
        &mut self,
        mesh: &MeshId,
        key: &SigningKey,
        batch: &mut Batch,
        now: Now,
    ) -> bool {
        if self.hand_in.is_some() {
            return false;
        }
        self.tell_left_out(now);
        if !self.is_due() {
            return false;
        }
        if self.told.seq > self.head.seq {
            reached!("the store lost the end of the audit chain");
            let (from, through) = (self.head.seq + 1, self.told.seq);
            let act = Act::Lost { from, through };
            self.head = self.told;
            let body = AuditBody { caller: None, act };
            self.append(mesh, key, now.wall, &body);
        }
        while let Some(Waiting { at, body }) = self.waiting.pop_front() {
            // Found at the start, before there was a clock.
            let at = if at == Wall::default() { now.wall } else { at };
            self.append(mesh, key, at, &body);
        }
        self.trim(mesh, key, batch, now);
        true
    }

    /// The same for statements that are handed in, with a record for each author of them. Nothing else is sealed until
    /// [`Audit::handed_in`].
    pub(crate) fn seal_hand_in(
        &mut self,
        mesh: &MeshId,
        key: &SigningKey,
        bodies: Vec<AuditBody>,
        batch: &mut Batch,
        now: Now,
    ) -> AuditHead {
        self.seal_waiting(mesh, key, batch, now);
        let head = self.head;
        let count = bodies.len();
        for body in bodies {
            self.append(mesh, key, now.wall, &body);
        }
        self.hand_in = Some(HandIn { count, head });
        self.put_all(batch)
    }

    /// The store took what was handed in, or refused it.
    pub(crate) fn handed_in(&mut self, is_taken: bool) {
        let Some(HandIn { count, head }) = self.hand_in.take() else {
            return;
        };
        if !is_taken {
            reached!("the record of a change that the store refused is taken back");
            for record in self.records.split_off(self.records.len() - count) {
                self.bytes -= record.bytes.len();
            }
            self.head = head;
        }
    }

    /// Every record up to this one is durable.
    pub(crate) fn stored(&mut self, head: AuditHead) {
        if head.seq > self.durable.seq {
            self.durable = head;
        }
    }

    fn append(&mut self, mesh: &MeshId, key: &SigningKey, at: Wall, body: &AuditBody) {
        let record = seal_audit(mesh, key, &self.head, at, body);
        self.head = record.head();
        self.bytes += record.bytes.len();
        self.records.push_back(record);
    }

    fn put_all(&self, batch: &mut Batch) -> AuditHead {
        let is_new = |r: &&AuditRecord| r.seq > self.durable.seq;
        for record in self.records.iter().rev().take_while(is_new) {
            let key = audit_key(&record.node, record.seq);
            batch.push(put(Table::Audit, &key, record.bytes.to_vec()));
        }
        self.head
    }

    /// Removes the oldest records if there are too many, and records that.
    fn trim(&mut self, mesh: &MeshId, key: &SigningKey, batch: &mut Batch, now: Now) {
        if self.records.len() <= AUDIT_RECORDS_MAX && self.bytes <= AUDIT_BYTES_MAX {
            return;
        }
        reached!("the audit chain was trimmed");
        let share = self.records.len() / TRIMMED_SHARE;
        let mut last = None;
        for _ in 0..share {
            if self
                .records
                .front()
                .is_none_or(|r| r.seq > self.durable.seq)
            {
                break;
            }
            let Some(record) = self.records.pop_front() else {
                break;
            };
            self.bytes -= record.bytes.len();
            batch.push(StoreOp::Delete {
                table: Table::Audit,
                key: audit_key(&record.node, record.seq),
            });
            last = Some(record.head());
        }
        if let Some(end) = last {
            let act = Act::Trimmed { end };
            let body = AuditBody { caller: None, act };
            self.append(mesh, key, now.wall, &body);
        }
    }
}

/// The first of some records, up to so many bytes, and whether these are all.
pub(crate) fn portion<'a>(
    records: impl Iterator<Item = &'a Bytes>,
    bytes_max: usize,
) -> (Vec<Bytes>, bool) {
    let (mut out, mut bytes) = (Vec::new(), 0);
    for record in records {
        bytes += record.len();
        if bytes > bytes_max {
            return (out, false);
        }
        out.push(record.clone());
    }
    (out, true)
}

#[cfg(test)]
mod tests;
