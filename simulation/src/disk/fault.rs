//! What can go wrong with a disk.

use serde::{Deserialize, Serialize};

/// A fault of one node's disk, from the moment it is applied.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum DiskFault {
    /// There is room for so many bytes in all; writing beyond is refused, growing too. Lasts.
    Full {
        /// Size of the disk, bytes.
        bytes: u64,
    },
    /// Syncs are answered and not done. Lasts; costs something only at a power cut.
    LyingFsync {
        /// How many syncs of a thousand.
        per_mille: u16,
        /// After so many more syncs what was written is durable by itself.
        epochs: u32,
    },
    /// The next sync fails once, and what waited for it is dropped.
    SyncError {
        /// What was dropped can still be read until the next power cut, as from a page cache, so
        /// that everybody believes it is there. An acknowledged record may then be lost.
        is_cached: bool,
    },
    /// The next reads fail.
    ReadError {
        /// How many.
        count: u32,
    },
    /// Bits flip in pages that hold something.
    BitFlips {
        /// How many.
        count: u32,
    },
    /// The next writes end up somewhere else in the file.
    Misdirected {
        /// How many.
        count: u32,
    },
    /// Reads of pages that are written from here on give what was there before.
    StaleRead {
        /// How many.
        count: u32,
    },
    /// Every write takes so much longer. Lasts.
    Slow {
        /// Microseconds.
        us: u64,
    },
    /// Every write is refused. Lasts.
    ReadOnly,
    /// The disk is replaced by an empty one.
    Replace,
    /// Keeps an image of the disk, for [`DiskFault::Rollback`].
    Snapshot {
        /// Its name; an older one of that name is forgotten.
        name: String,
    },
    /// The disk holds again what an image held; nothing happens if there is none of that name.
    Rollback {
        /// Name of the image.
        to: String,
    },
    /// Ends what lasts and what has not struck yet. What was damaged or lost stays so.
    Heal,
}

/// What lasts, and what waits to strike.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Modes {
    pub(crate) byte_count_max: Option<u64>,
    pub(crate) lying: Option<(u16, u32)>,
    /// Whether the page cache keeps what the failed sync dropped.
    pub(crate) sync_error: Option<bool>,
    pub(crate) read_error_count: u32,
    pub(crate) misdirected_count: u32,
    pub(crate) stale_read_count: u32,
    pub(crate) slow_us: u64,
    pub(crate) is_read_only: bool,
}

impl Modes {
    /// Takes over a fault that is a mode; `false` if it is something that happens at once.
    pub(crate) fn set(&mut self, fault: &DiskFault) -> bool {
        match *fault {
            DiskFault::Full { bytes } => self.byte_count_max = Some(bytes),
            DiskFault::LyingFsync { per_mille, epochs } => self.lying = Some((per_mille, epochs)),
            DiskFault::SyncError { is_cached } => self.sync_error = Some(is_cached),
            DiskFault::ReadError { count } => self.read_error_count = count,
            DiskFault::Misdirected { count } => self.misdirected_count = count,
            DiskFault::StaleRead { count } => self.stale_read_count = count,
            DiskFault::Slow { us } => self.slow_us = us,
            DiskFault::ReadOnly => self.is_read_only = true,
            DiskFault::Heal => *self = Self::default(),
            DiskFault::BitFlips { .. }
            | DiskFault::Replace
            | DiskFault::Snapshot { .. }
            | DiskFault::Rollback { .. } => return false,
        }
        true
    }

    /// Whether something waits that makes the disk return or keep what nobody wrote there.
    pub(crate) const fn may_mangle(&self) -> bool {
        self.misdirected_count > 0 || self.stale_read_count > 0
    }
}
