//! What this node says about itself: numbers its registers, and decides when to say something new.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bytes::Bytes;
use lab_crdt_log::seal_register;
use lab_crdt_model::report::{Beacon, Facts, Section, Status};
use lab_crdt_model::store::{StoreOp, Table};
use lab_crdt_model::{MeshId, Mono, mutant, sometimes};
use serde::Serialize;

use crate::boot::{META_SEQ, NodeKeys};
use crate::pace;
use crate::rate::Bucket;
use crate::replica::put;

/// Register numbers are reserved on disk in blocks, so that none is used twice after a crash.
const BLOCK: u64 = 1000;

/// Most addresses that a beacon tells.
const ADDRESSES_MAX: usize = 8;

pub(crate) struct Reporter {
    pub(crate) incarnation: u64,
    next_seq: u64,
    reserved: u64,
    pub(crate) addresses: Vec<SocketAddr>,
    facts: Option<Facts>,
    /// These facts were said. Looked at in every turn, so it is not found out by comparing them.
    is_facts_said: bool,
    pub(crate) status: Status,
    said_status: Option<Status>,
    /// How much was said of late, so that others never leave out what is said.
    paces: BTreeMap<Section, Bucket>,
    /// Numbers may be used from here on only once the reservation is durable.
    is_reserved: bool,
}

impl Reporter {
    pub(crate) fn new(stored: Option<&[u8]>, incarnation: u64) -> Self {
        let first = stored
            .and_then(|b| b.try_into().ok())
            .filter(|_| !mutant!("M26"))
            .map_or(1, u64::from_be_bytes);
        Self {
            incarnation,
            next_seq: first,
            reserved: first,
            addresses: Vec::new(),
            facts: None,
            is_facts_said: false,
            status: Status::default(),
            said_status: None,
            paces: BTreeMap::new(),
            is_reserved: false,
        }
    }

    /// Whether a block must be reserved before anything more can be said; the write that does it.
    pub(crate) fn reserve(&mut self) -> Option<StoreOp> {
        if self.next_seq.saturating_add(BLOCK / 2) < self.reserved {
            return None;
        }
        self.reserved = self.next_seq.saturating_add(BLOCK);
        Some(put(
            Table::Meta,
            META_SEQ,
            self.reserved.to_be_bytes().to_vec(),
        ))
    }

    /// The first reservation is durable.
    pub(crate) const fn reserved(&mut self) {
        self.is_reserved = true;
    }

    pub(crate) const fn can_speak(&self) -> bool {
        self.is_reserved
    }

    /// A register of ours came back with a number that we have not used: a former life of this disk used it.
    pub(crate) fn saw_own(&mut self, seq: u64) -> bool {
        // At the end of all numbers nothing newer can be said; only whoever copied the key goes there.
        let is_foreign = seq >= self.next_seq && seq < u64::MAX - 4 * BLOCK && !mutant!("M26");
        if is_foreign {
            self.next_seq = seq.saturating_add(1);
            self.is_facts_said = false;
            self.said_status = None;
            self.is_reserved &= self.next_seq < self.reserved;
        }
        is_foreign
    }

    pub(crate) fn seal<T: Serialize>(
        &mut self,
        mesh: &MeshId,
        keys: &NodeKeys,
        section: Section,
        body: &T,
    ) -> Option<Bytes> {
        let body = postcard::to_stdvec(body)
            .ok()
            .filter(|b| b.len() <= section.bytes_max())?;
        let seq = self.next_seq;
        self.next_seq = self.next_seq.saturating_add(1);
        Some(seal_register(
            mesh,
            &keys.signing,
            section,
            self.incarnation,
            seq,
            &body,
        ))
    }

    /// The addresses that a beacon tells.
    pub(crate) fn told_addresses(&self) -> &[SocketAddr] {
        &self.addresses[..self.addresses.len().min(ADDRESSES_MAX)]
    }

    pub(crate) fn beacon(
        &mut self,
        mesh: &MeshId,
        keys: &NodeKeys,
        mut beacon: Beacon,
    ) -> Option<Bytes> {
        beacon.version.truncate(32);
        self.seal(mesh, keys, Section::Beacon, &beacon)
    }

    /// What this machine is, if that is known by now.
    pub(crate) const fn facts(&self) -> Option<&Facts> {
        self.facts.as_ref()
    }

    /// What this machine is, as far as is known by now.
    pub(crate) fn set_facts(&mut self, facts: Option<Facts>) {
        self.is_facts_said &= self.facts == facts;
        self.facts = facts;
    }

    /// Goes on from what an earlier life of this node said last: what is still so is not said again, or every restart
    /// of a fleet would tell everyone everything.
    pub(crate) fn remember(&mut self, facts: Option<Facts>, status: Option<Status>) {
        self.is_facts_said = facts.is_some();
        self.facts = facts;
        if let Some(status) = status {
            self.said_status = Some(status.clone());
            self.status = status;
        }
    }

    /// Whether facts or status differ from what was said last.
    pub(crate) fn has_news(&self) -> bool {
        (self.facts.is_some() && !self.is_facts_said)
            || self.said_status.as_ref() != Some(&self.status)
    }

    /// Facts and status, where they differ from what was said last and may be said by now.
    pub(crate) fn news(&mut self, mesh: &MeshId, keys: &NodeKeys, now: Mono) -> Vec<Bytes> {
        let mut out = Vec::new();
        if !self.is_facts_said
            && self.may_say_at(Section::Facts) <= now
            && let Some(facts) = self.facts.clone()
        {
            out.extend(self.say(mesh, keys, Section::Facts, &facts, now));
            self.is_facts_said = true;
        }
        if self.said_status.as_ref() != Some(&self.status)
            && self.may_say_at(Section::Status) <= now
        {
            let status = self.status.clone();
            out.extend(self.say(mesh, keys, Section::Status, &status, now));
            self.said_status = Some(status);
        }
        out
    }

    /// Seals a section and counts it.
    fn say<T: Serialize>(
        &mut self,
        mesh: &MeshId,
        keys: &NodeKeys,
        section: Section,
        body: &T,
        now: Mono,
    ) -> Option<Bytes> {
        let said = self.seal(mesh, keys, section, body);
        let bytes = said.as_ref().map_or(0, Bytes::len);
        let pace = self.paces.entry(section).or_default();
        pace.spend(pace::cost(bytes), pace::said(section), now);
        said
    }

    /// From when on a section may be said again.
    fn may_say_at(&self, section: Section) -> Mono {
        let pace = self.paces.get(&section).copied().unwrap_or_default();
        pace.ready_at(1, pace::said(section))
    }

    /// When what was left unsaid may be said; none if nothing was.
    pub(crate) fn news_at(&self) -> Option<Mono> {
        let facts =
            (self.facts.is_some() && !self.is_facts_said).then(|| self.may_say_at(Section::Facts));
        let status = (self.said_status.as_ref() != Some(&self.status))
            .then(|| self.may_say_at(Section::Status));
        let at = facts.into_iter().chain(status).min();
        sometimes!(at.is_some(), "a node waits before it reports again");
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copied_key_that_uses_up_all_numbers_does_not_keep_the_node_busy() {
        let mut reporter = Reporter::new(None, 1);
        assert!(reporter.reserve().is_some());
        reporter.reserved();
        assert!(!reporter.saw_own(u64::MAX));
        assert!(reporter.can_speak() && reporter.reserve().is_none());
    }

    #[test]
    fn a_restarted_node_says_again_only_what_is_different() {
        let facts = |hostname: &str| Facts {
            hostname: hostname.into(),
            ..Facts::default()
        };
        let mut reporter = Reporter::new(None, 1);
        reporter.remember(Some(facts("pi")), Some(Status::default()));
        reporter.set_facts(Some(facts("pi")));
        assert!(!reporter.has_news());
        reporter.set_facts(Some(facts("nas")));
        assert!(reporter.has_news());
    }

    #[test]
    fn what_changes_without_end_is_said_at_its_pace_and_the_last_of_it_is_said() {
        let keys = NodeKeys::new(&[3; 32]);
        let mesh = MeshId([1; 32]);
        let mut reporter = Reporter::new(None, 1);
        let mut said = 0;
        for ms in 0..60_000 {
            reporter.status.ok_count = ms;
            said += reporter
                .news(&mesh, &keys, Mono(0).plus_ms(ms.into()))
                .len();
        }
        assert!((64..300).contains(&said), "{said}");
        let at = reporter.news_at().expect("something is left to say");
        assert!(at <= Mono(0).plus_ms(61_000));
        assert_eq!(reporter.news(&mesh, &keys, at).len(), 1);
        assert!(!reporter.has_news() && reporter.news_at().is_none());
    }

    #[test]
    fn numbers_of_a_former_life_are_jumped_over_only_with_a_new_reservation() {
        let mut reporter = Reporter::new(None, 1);
        assert!(reporter.reserve().is_some());
        reporter.reserved();
        assert!(reporter.saw_own(5_000));
        assert!(!reporter.can_speak());
        assert!(reporter.reserve().is_some());
        reporter.reserved();
        assert!(reporter.can_speak());
    }
}
