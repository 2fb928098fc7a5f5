//! What is on the disk for good, what waits in its cache, and what a power cut makes of the two.

use std::collections::VecDeque;
use std::sync::Arc;

use super::pages::{Pages, SECTOR_BYTES};
use crate::seed::Rng;

/// One thing done to a file.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Write {
        at: u64,
        data: Arc<[u8]>,
    },
    SetLength(u64),
    Sync(Barrier),
    /// Another file took the place of this one, durably.
    Adopt(Pages),
}

/// What came of a sync.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Barrier {
    Honoured,
    /// Nothing was done but to say so; writes reach the disk by themselves this many syncs later.
    Ignored {
        epoch_count: u32,
    },
    /// The disk failed, and what waited was dropped; it can be read until the next power cut if the
    /// cache still has it.
    Failed {
        is_cached: bool,
    },
}

#[derive(Clone, Debug)]
enum Change {
    Write { at: u64, data: Arc<[u8]> },
    SetLength(u64),
}

/// A file on a disk with a cache.
#[derive(Clone, Debug, Default)]
pub(crate) struct Platter {
    durable: Pages,
    live: Pages,
    /// In order, each with the count of syncs before it.
    pending: VecDeque<(u32, Change)>,
    epoch: u32,
    /// Syncs were answered and not done since the last one that was.
    is_lied: bool,
    /// A failed sync left the cache with what the disk does not have.
    is_split: bool,
}

/// How a power cut may treat writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CutHabits {
    /// The first sector, where a database keeps its header, may end as garbage too. No database can
    /// survive that; without it every write of that sector is torn at worst.
    pub may_garble_first_sector: bool,
    /// A file that grew may end in stale bytes in place of zeros.
    pub may_leave_stale_tail: bool,
}

impl CutHabits {
    /// What a disk in order may do.
    pub const HONEST: Self = Self {
        may_garble_first_sector: false,
        may_leave_stale_tail: true,
    };
}

impl Platter {
    pub(crate) fn holding(pages: Pages) -> Self {
        Self {
            durable: pages.clone(),
            live: pages,
            ..Self::default()
        }
    }

    pub(crate) const fn live(&self) -> &Pages {
        &self.live
    }

    /// Whether a power cut may now lose what was synced.
    pub(crate) const fn may_lose_synced(&self) -> bool {
        self.is_lied || self.is_split
    }

    pub(crate) fn apply(&mut self, op: &Op) {
        match op {
            Op::Write { at, data } => {
                self.live.write(*at, data);
                let (at, data) = (*at, Arc::clone(data));
                self.pending
                    .push_back((self.epoch, Change::Write { at, data }));
            }
            Op::SetLength(length) => {
                self.live.set_length(*length);
                self.pending
                    .push_back((self.epoch, Change::SetLength(*length)));
            }
            Op::Sync(Barrier::Honoured) => {
                self.settle_before(u32::MAX);
                self.is_lied = false;
            }
            Op::Sync(Barrier::Ignored { epoch_count }) => {
                self.epoch += 1;
                self.is_lied = true;
                self.settle_before(self.epoch.saturating_sub(*epoch_count));
            }
            Op::Sync(Barrier::Failed { is_cached }) => {
                self.pending.clear();
                if *is_cached {
                    self.is_split = true;
                } else {
                    self.live = self.durable.clone();
                }
            }
            Op::Adopt(pages) => *self = Self::holding(pages.clone()),
        }
    }

    pub(crate) fn flip(&mut self, bit: u64) {
        self.durable.flip(bit);
        self.live.flip(bit);
    }

    /// Makes everything durable that was written before an epoch.
    fn settle_before(&mut self, epoch: u32) {
        while let Some((written, _)) = self.pending.front() {
            if *written >= epoch {
                return;
            }
            match self.pending.pop_front() {
                // A file in full sync shares its pages between both views.
                Some((_, Change::Write { at, data })) if epoch == u32::MAX && !self.is_split => {
                    self.durable.take_pages(&self.live, at, data.len());
                }
                Some((_, Change::Write { at, data })) => self.durable.write(at, &data),
                Some((_, Change::SetLength(length))) => self.durable.set_length(length),
                None => return,
            }
        }
    }

    /// What lies on the disk after a power cut: everything durable, and of what waited any part.
    pub(crate) fn after_cut(&self, rng: &mut Rng, habits: CutHabits) -> Pages {
        let mut cut = Cut::new(self.durable.clone(), rng, habits);
        match cut.rng.below(8) {
            0 => {}
            1 => cut.keep_all(&self.pending),
            2 => cut.keep_prefix(&self.pending),
            3 => cut.keep_but_one(&self.pending),
            4 => cut.keep_one(&self.pending),
            5 => cut.keep_some(&self.pending),
            _ => cut.mix_sectors(&self.pending),
        }
        cut.pages
    }
}

type Pending = VecDeque<(u32, Change)>;

struct Cut<'a> {
    pages: Pages,
    rng: &'a mut Rng,
    habits: CutHabits,
    /// Writes beyond the end make the file longer, as their own change of length might.
    is_extending: bool,
    is_tail_stale: bool,
}

impl<'a> Cut<'a> {
    fn new(pages: Pages, rng: &'a mut Rng, habits: CutHabits) -> Self {
        Self {
            pages,
            is_extending: rng.chance(500),
            is_tail_stale: habits.may_leave_stale_tail && rng.chance(250),
            rng,
            habits,
        }
    }

    fn keep_all(&mut self, pending: &Pending) {
        for (_, change) in pending {
            self.keep(change);
        }
    }

    /// All up to one, which is torn.
    fn keep_prefix(&mut self, pending: &Pending) {
        let count = self.rng.below(pending.len() as u64 + 1) as usize;
        for (_, change) in pending.iter().take(count) {
            self.keep(change);
        }
        if let Some((_, Change::Write { at, data })) = pending.get(count) {
            let kept = self.rng.below(data.len() as u64 + 1) as usize;
            self.write(*at, &data[..kept]);
        }
    }

    fn keep_but_one(&mut self, pending: &Pending) {
        let lost = self.rng.below(pending.len() as u64) as usize;
        for (index, (_, change)) in pending.iter().enumerate() {
            if index != lost {
                self.keep(change);
            }
        }
    }

    fn keep_one(&mut self, pending: &Pending) {
        if !pending.is_empty() {
            let kept = self.rng.below(pending.len() as u64) as usize;
            self.keep(&pending[kept].1);
        }
    }

    /// Whole writes, in any order inside an epoch.
    fn keep_some(&mut self, pending: &Pending) {
        for index in self.order(pending) {
            if self.rng.chance(500) {
                self.keep(&pending[index].1);
            }
        }
    }

    /// Every sector on its own, in any order inside an epoch.
    fn mix_sectors(&mut self, pending: &Pending) {
        for index in self.order(pending) {
            match &pending[index].1 {
                Change::SetLength(_) => {
                    if self.rng.chance(500) {
                        self.keep(&pending[index].1);
                    }
                }
                Change::Write { at, data } => {
                    let mut done = 0;
                    while done < data.len() {
                        let at = *at + done as u64;
                        let room = SECTOR_BYTES - (at % SECTOR_BYTES as u64) as usize;
                        let end = data.len().min(done + room);
                        self.mix_sector(at, &data[done..end]);
                        done = end;
                    }
                }
            }
        }
    }

    fn mix_sector(&mut self, at: u64, data: &[u8]) {
        let is_first = at < SECTOR_BYTES as u64;
        match self.rng.below(16) {
            0..=6 => {}
            7..=12 => self.write(at, data),
            13 if !is_first || self.habits.may_garble_first_sector => {
                let garbage = self.garbage(data.len());
                self.write(at, &garbage);
            }
            _ => {
                let kept = self.rng.below(data.len() as u64 + 1) as usize;
                self.write(at, &data[..kept]);
            }
        }
    }

    /// Indexes of the changes; half of the time shuffled between two syncs.
    fn order(&mut self, pending: &Pending) -> Vec<usize> {
        let mut order: Vec<usize> = (0..pending.len()).collect();
        if self.rng.chance(500) {
            for epoch in order.chunk_by_mut(|a, b| pending[*a].0 == pending[*b].0) {
                self.rng.shuffle(epoch);
            }
        }
        order
    }

    fn keep(&mut self, change: &Change) {
        match change {
            Change::Write { at, data } => self.write(*at, data),
            Change::SetLength(length) => self.set_length(*length),
        }
    }

    fn write(&mut self, at: u64, data: &[u8]) {
        let end = at + data.len() as u64;
        if end > self.pages.length() && self.is_extending && !data.is_empty() {
            self.set_length(end);
        }
        self.pages.write(at, data);
    }

    fn set_length(&mut self, length: u64) {
        let before = self.pages.length();
        self.pages.set_length(length);
        if self.is_tail_stale && length > before {
            // One sector is enough to tell; filling a grown region would only take time.
            let at = before + self.rng.below((length - before).div_ceil(512)) * 512;
            let garbage = self.garbage(SECTOR_BYTES);
            self.pages.write(at, &garbage);
        }
    }

    fn garbage(&mut self, byte_count: usize) -> Vec<u8> {
        let words = byte_count.div_ceil(8);
        let mut out: Vec<u8> = (0..words)
            .flat_map(|_| self.rng.next_u64().to_le_bytes())
            .collect();
        out.truncate(byte_count);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed;

    fn write(at: u64, byte: u8, count: usize) -> Op {
        Op::Write {
            at,
            data: vec![byte; count].into(),
        }
    }

    fn bytes(pages: &Pages) -> Vec<u8> {
        let mut out = vec![0; pages.length() as usize];
        pages.read(0, &mut out).unwrap();
        out
    }

    fn started() -> Platter {
        let mut platter = Platter::default();
        for op in [
            Op::SetLength(8192),
            write(0, 1, 8192),
            Op::Sync(Barrier::Honoured),
        ] {
            platter.apply(&op);
        }
        platter
    }

    #[test]
    fn what_was_synced_survives_every_cut() {
        let mut platter = started();
        platter.apply(&write(4096, 2, 1024));
        let (mut kept, mut lost, mut mixed) = (0, 0, 0);
        for n in 0..500 {
            let image = platter.after_cut(&mut seed::rng(n, "cut", 0), CutHabits::HONEST);
            let bytes = bytes(&image);
            assert!(bytes[..4096].iter().all(|b| *b == 1));
            assert!(bytes[5120..].iter().all(|b| *b == 1));
            match bytes[4096..5120].iter().filter(|b| **b == 2).count() {
                0 => lost += 1,
                1024 => kept += 1,
                _ => mixed += 1,
            }
        }
        assert!(
            kept > 50 && lost > 50 && mixed > 50,
            "{kept} {lost} {mixed}"
        );
    }

    #[test]
    fn a_disk_that_lies_loses_no_more_than_its_last_epochs() {
        let mut platter = started();
        for n in 0..5u8 {
            platter.apply(&write(u64::from(n) * 512, 10 + n, 512));
            platter.apply(&Op::Sync(Barrier::Ignored { epoch_count: 2 }));
        }
        assert!(platter.may_lose_synced());
        let mut has_lost = false;
        for n in 0..200 {
            let image = platter.after_cut(&mut seed::rng(n, "cut", 0), CutHabits::HONEST);
            let bytes = bytes(&image);
            assert!(bytes[0] == 10 && bytes[512] == 11 && bytes[1024] == 12);
            has_lost |= bytes[2048] == 1;
        }
        assert!(has_lost);
        platter.apply(&Op::Sync(Barrier::Honoured));
        assert!(!platter.may_lose_synced());
        let image = platter.after_cut(&mut seed::rng(1, "cut", 0), CutHabits::HONEST);
        assert_eq!(bytes(&image), bytes(platter.live()));
    }

    #[test]
    fn a_failed_sync_drops_what_waited() {
        let mut platter = started();
        platter.apply(&write(0, 7, 512));
        platter.apply(&Op::Sync(Barrier::Failed { is_cached: false }));
        assert_eq!(bytes(platter.live())[0], 1);
        assert!(!platter.may_lose_synced());

        platter.apply(&write(0, 7, 512));
        platter.apply(&Op::Sync(Barrier::Failed { is_cached: true }));
        platter.apply(&Op::Sync(Barrier::Honoured));
        assert_eq!(bytes(platter.live())[0], 7);
        assert!(platter.may_lose_synced());
        let image = platter.after_cut(&mut seed::rng(1, "cut", 0), CutHabits::HONEST);
        assert_eq!(bytes(&image)[0], 1);
    }

    #[test]
    fn a_growth_is_kept_or_lost_on_its_own() {
        let mut platter = started();
        platter.apply(&Op::SetLength(16384));
        platter.apply(&write(8192, 3, 4096));
        let lengths: std::collections::BTreeSet<u64> = (0..300)
            .map(|n| {
                let image = platter.after_cut(&mut seed::rng(n, "cut", 0), CutHabits::HONEST);
                image.length()
            })
            .collect();
        assert!(
            lengths.contains(&8192) && lengths.contains(&16384),
            "{lengths:?}"
        );
        assert!(lengths.len() > 3, "writes may extend the file: {lengths:?}");
    }
}
