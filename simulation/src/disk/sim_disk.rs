//! The simulated disk under a real database.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::fault::{DiskFault, Modes};
use super::pages::{LENGTH_MAX, PAGE_BYTES, Pages};
use super::platter::{Barrier, CutHabits, Op, Platter};
use crate::seed::{self, Rng};

/// What a sync takes, microseconds.
const SYNC_US: u64 = 400;
/// Bytes written in a microsecond.
const BYTES_PER_US: u64 = 200;

/// A disk with one file, that remembers what a power cut would leave.
///
/// Handles given out by [`SimDisk::plug`] stop working at [`SimDisk::unplug`], so that a database
/// that outlives its process cannot write any more.
#[derive(Clone, Debug)]
pub struct SimDisk(Arc<Mutex<State>>);

/// What a database reads and writes: the disk as one process sees it.
#[derive(Clone, Debug)]
pub struct Plug {
    disk: SimDisk,
    generation: u64,
}

#[derive(Debug)]
struct State {
    platter: Platter,
    /// What the journal begins from.
    base: Platter,
    journal: Vec<Op>,
    modes: Modes,
    /// Pages before the writes that a stale read does not see.
    stale: Pages,
    images: BTreeMap<String, Pages>,
    rng: Rng,
    generation: u64,
    cost_us: u64,
    /// The power fails at this many operations from now.
    fails_in: Option<u64>,
    /// Something happened that excuses a loss, since the last start was compared.
    is_mangled: bool,
    /// Pages that were read, while somebody wants to know.
    reads: Option<BTreeSet<usize>>,
    /// A database was misled while it opened, and may have built sound pages on unsound ones. What
    /// comes of it may show at any later start, until the content is another.
    is_tainted: bool,
    /// Pages that are not what was written, as far as no database has checked them since.
    bad_pages: BTreeSet<usize>,
    /// The database has checked every page that it uses.
    is_checked: bool,
}

impl SimDisk {
    /// An empty disk.
    pub fn new(seed: u64) -> Self {
        Self::holding(Pages::default(), seed)
    }

    pub(crate) fn holding(pages: Pages, seed: u64) -> Self {
        let platter = Platter::holding(pages);
        Self(Arc::new(Mutex::new(State {
            base: platter.clone(),
            platter,
            journal: Vec::new(),
            modes: Modes::default(),
            stale: Pages::default(),
            images: BTreeMap::new(),
            rng: seed::rng(seed, "disk", 0),
            generation: 0,
            cost_us: 0,
            fails_in: None,
            is_mangled: false,
            reads: None,
            is_tainted: false,
            bad_pages: BTreeSet::new(),
            is_checked: false,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A handle for a database.
    pub fn plug(&self) -> Plug {
        let mut state = self.state();
        state.is_checked = false;
        Plug {
            disk: self.clone(),
            generation: state.generation,
        }
    }

    /// Every handle given out so far refuses everything from now on.
    pub fn unplug(&self) {
        self.state().generation += 1;
    }

    /// The process that wrote is gone somewhere in the operations since [`SimDisk::begin`]; the
    /// machine runs on and nothing is lost that was carried out.
    pub(crate) fn kill(&self) {
        let mut state = self.state();
        state.generation += 1;
        state.cut_journal();
        state.begin();
    }

    /// The power is lost somewhere in the operations since [`SimDisk::begin`].
    /// The answer is whether what had been synced may be lost.
    pub(crate) fn crash(&self) -> bool {
        let mut state = self.state();
        let state = &mut *state;
        state.generation += 1;
        state.cut_journal();
        let may_lose_synced = state.platter.may_lose_synced();
        let pages = state.platter.after_cut(&mut state.rng, CutHabits::HONEST);
        state.fails_in = None;
        state.become_pages(pages);
        may_lose_synced
    }

    /// The first operations since [`SimDisk::begin`] are over: no crash or kill may cut there.
    pub(crate) fn settle(&self, op_count: usize) {
        let mut state = self.state();
        if op_count >= state.journal.len() {
            state.begin();
        } else {
            let state = &mut *state;
            for op in state.journal.drain(..op_count) {
                state.base.apply(&op);
            }
        }
    }

    /// From here on a crash or kill may cut.
    pub(crate) fn begin(&self) {
        self.state().begin();
    }

    /// What was done since [`SimDisk::begin`], and from which state.
    pub(crate) fn take_journal(&self) -> (Platter, Vec<Op>) {
        let mut state = self.state();
        let journal = std::mem::take(&mut state.journal);
        let next = state.platter.clone();
        (std::mem::replace(&mut state.base, next), journal)
    }

    pub(crate) fn journal_len(&self) -> usize {
        self.state().journal.len()
    }

    /// Microseconds that the operations since the last call took.
    pub(crate) fn take_cost_us(&self) -> u64 {
        let mut state = self.state();
        std::mem::take(&mut state.cost_us) + state.modes.slow_us
    }

    /// Every operation fails from the one after so many changes on, as if the power were gone.
    pub(crate) fn fail_in(&self, change_count: u64) {
        self.state().fails_in = Some(change_count);
    }

    /// What can be read now.
    pub(crate) fn pages(&self) -> Pages {
        self.state().platter.live().clone()
    }

    /// Another file takes the place of this one, durably.
    pub(crate) fn adopt(&self, pages: Pages) {
        let mut state = self.state();
        state.generation += 1;
        state.is_mangled |= std::mem::take(&mut state.is_tainted);
        state.apply(Op::Adopt(pages));
    }

    /// Puts another content on the disk.
    pub(crate) fn replace(&self, pages: Pages) {
        let mut state = self.state();
        state.generation += 1;
        state.become_pages(pages);
        state.is_tainted = false;
        state.is_mangled = true;
    }

    /// Every page in use was just checked by the database. From here on a page that is not what was
    /// written cannot be read, as on a disk or file system that checks its sectors.
    ///
    /// redb does not check pages again while it runs. Given a mangled one it may panic, and panic
    /// again in a drop while the first panic unwinds; that ends the process, the whole simulation.
    /// A database that ends at the spot and one that cannot read are the same to its agent's next
    /// start.
    pub(crate) fn trust(&self) {
        let mut state = self.state();
        state.bad_pages.clear();
        state.is_checked = true;
    }

    /// Takes note of which pages are read from here on.
    pub(crate) fn note_reads(&self) {
        self.state().reads = Some(BTreeSet::new());
    }

    /// The pages that were read since.
    pub(crate) fn take_reads(&self) -> BTreeSet<usize> {
        self.state().reads.take().unwrap_or_default()
    }

    pub(crate) fn has_image(&self, name: &str) -> bool {
        self.state().images.contains_key(name)
    }

    /// An empty second disk with the same faults.
    pub(crate) fn spare(&self) -> Self {
        let mut state = self.state();
        let spare = Self::new(state.rng.next_u64());
        spare.state().modes = state.modes.clone();
        spare
    }

    /// Applies a fault.
    pub fn apply(&self, fault: &DiskFault) {
        let mut state = self.state();
        if matches!(fault, DiskFault::StaleRead { .. }) {
            state.stale = state.platter.live().clone();
        }
        if state.modes.set(fault) {
            return;
        }
        match fault {
            DiskFault::BitFlips { count } => {
                for _ in 0..*count {
                    state.flip_somewhere();
                }
            }
            DiskFault::Replace => {
                drop(state);
                self.replace(Pages::default());
            }
            DiskFault::Snapshot { name } => {
                let pages = state.platter.live().clone();
                state.images.insert(name.clone(), pages);
            }
            DiskFault::Rollback { to } => {
                if let Some(pages) = state.images.get(to).cloned() {
                    drop(state);
                    self.replace(pages);
                }
            }
            _ => {}
        }
    }

    /// Whether something happened since the last call that makes loss of acknowledged records
    /// nobody's fault; what still waits to strike counts as well, every time.
    pub(crate) fn take_mangled(&self) -> bool {
        let mut state = self.state();
        std::mem::take(&mut state.is_mangled) || state.is_tainted || state.modes.may_mangle()
    }
}

impl State {
    fn begin(&mut self) {
        self.journal.clear();
        self.base = self.platter.clone();
    }

    fn become_pages(&mut self, pages: Pages) {
        self.is_checked = false;
        self.platter = Platter::holding(pages);
        self.begin();
    }

    /// Goes back to somewhere in the journal.
    fn cut_journal(&mut self) {
        if self.journal.is_empty() {
            return;
        }
        let count = self.rng.below(self.journal.len() as u64 + 1) as usize;
        self.platter = self.base.clone();
        for op in &self.journal[..count] {
            self.platter.apply(op);
        }
    }

    fn apply(&mut self, op: Op) {
        self.platter.apply(&op);
        self.journal.push(op);
    }

    fn flip_somewhere(&mut self) {
        let used = self.platter.live().used();
        if used.is_empty() {
            return;
        }
        let page = self.rng.pick(&used).copied().expect("not empty") as u64;
        let bit = self.rng.below(PAGE_BYTES as u64 * 8);
        self.flip(page * PAGE_BYTES as u64 * 8 + bit);
    }

    fn flip(&mut self, bit: u64) {
        self.platter.flip(bit);
        self.base.flip(bit);
        self.is_mangled = true;
        self.bad_pages.insert((bit / 8) as usize / PAGE_BYTES);
    }

    /// Before every change: may it be carried out?
    fn change(&mut self) -> io::Result<()> {
        if let Some(left) = &mut self.fails_in {
            if *left == 0 {
                return Err(io::Error::other("no power"));
            }
            *left -= 1;
        }
        if self.modes.is_read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        Ok(())
    }

    fn has_room(&self, length: u64) -> io::Result<()> {
        let max = self.modes.byte_count_max.unwrap_or(LENGTH_MAX);
        if length > max.min(LENGTH_MAX) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn read(&mut self, at: u64, out: &mut [u8]) -> io::Result<()> {
        if self.modes.read_error_count > 0 {
            self.modes.read_error_count -= 1;
            return Err(io::Error::other("the disk cannot read here"));
        }
        self.check_pages(at, out.len())?;
        if let Some(reads) = &mut self.reads {
            reads.extend(pages_of(at, out.len()));
        }
        self.platter.live().read(at, out)?;
        if self.modes.stale_read_count > 0 {
            let mut stale = vec![0; out.len()];
            if self.stale.read(at, &mut stale).is_ok() && stale != out {
                self.modes.stale_read_count -= 1;
                self.is_mangled = true;
                if self.is_checked {
                    return Err(io::Error::other("the disk read something old"));
                }
                self.is_tainted = true;
                out.copy_from_slice(&stale);
            }
        }
        Ok(())
    }

    fn check_pages(&self, at: u64, byte_count: usize) -> io::Result<()> {
        let is_bad = self.is_checked
            && !self.bad_pages.is_empty()
            && pages_of(at, byte_count).any(|page| self.bad_pages.contains(&page));
        if is_bad {
            return Err(io::Error::other("the disk cannot read here"));
        }
        Ok(())
    }

    fn set_length(&mut self, length: u64) -> io::Result<()> {
        self.change()?;
        if length > self.platter.live().length() {
            self.has_room(length)?;
        }
        self.apply(Op::SetLength(length));
        Ok(())
    }

    fn write(&mut self, at: u64, data: &[u8]) -> io::Result<()> {
        self.change()?;
        let length = self.platter.live().length();
        let end = at.saturating_add(data.len() as u64);
        if end > length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.has_room(end)?;
        self.cost_us += data.len() as u64 / BYTES_PER_US;
        let mut at = at;
        if self.modes.misdirected_count > 0 && length > data.len() as u64 {
            self.modes.misdirected_count -= 1;
            self.is_mangled = true;
            self.is_tainted |= !self.is_checked;
            let sectors = (length - data.len() as u64) / 512 + 1;
            self.bad_pages.extend(pages_of(at, data.len()));
            at = self.rng.below(sectors) * 512;
            self.bad_pages.extend(pages_of(at, data.len()));
        } else if !self.bad_pages.is_empty() {
            // What is written anew is what was written.
            let whole =
                pages_of(at, data.len()).skip(usize::from(!at.is_multiple_of(PAGE_BYTES as u64)));
            for page in whole.filter(|page| ((page + 1) * PAGE_BYTES) as u64 <= end) {
                self.bad_pages.remove(&page);
            }
        }
        let data = data.into();
        self.apply(Op::Write { at, data });
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.change()?;
        self.cost_us += SYNC_US;
        if let Some(is_cached) = self.modes.sync_error.take() {
            self.is_mangled |= self.platter.may_lose_synced();
            self.apply(Op::Sync(Barrier::Failed { is_cached }));
            return Err(io::Error::other("the disk could not sync"));
        }
        let barrier = match self.modes.lying {
            Some((per_mille, epoch_count)) if self.rng.chance(u64::from(per_mille)) => {
                Barrier::Ignored { epoch_count }
            }
            Some(_) | None => Barrier::Honoured,
        };
        self.apply(Op::Sync(barrier));
        Ok(())
    }
}

fn pages_of(at: u64, byte_count: usize) -> std::ops::Range<usize> {
    let at = at as usize;
    at / PAGE_BYTES..(at + byte_count).div_ceil(PAGE_BYTES)
}

impl Plug {
    fn with<T>(&self, work: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.disk.state();
        if state.generation != self.generation {
            return Err(io::Error::other("the disk was unplugged"));
        }
        work(&mut state)
    }
}

/// The same disk under every version of redb.
macro_rules! backend {
    ($redb:ident) => {
        impl $redb::StorageBackend for Plug {
            fn len(&self) -> io::Result<u64> {
                self.with(|state| Ok(state.platter.live().length()))
            }

            fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
                self.with(|state| state.read(offset, out))
            }

            fn set_len(&self, length: u64) -> io::Result<()> {
                self.with(|state| state.set_length(length))
            }

            fn sync_data(&self) -> io::Result<()> {
                self.with(State::sync)
            }

            fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
                self.with(|state| state.write(offset, data))
            }
        }
    };
}

backend!(redb);
#[cfg(any(test, feature = "redb-3-1"))]
backend!(redb_3_1);
