//! What happened, as one hash, and as a record to compare two runs by.
//!
//! A record is 40 bytes, little-endian: `time u64 | number u64 | node u32 | kind u16 | flags u16 | a u64 | b u64`. A
//! running BLAKE3 over all records is the digest of a run; equal plans must give equal digests in every process. Every
//! 4,096 records the digest so far is kept, so that two runs that differ can be searched for the first record that does.

/// Records between two checkpoints.
pub const CHECKPOINT: u64 = 4096;
const RECORD_BYTES: usize = 40;
const BUFFER_BYTES: usize = 512 * RECORD_BYTES;

/// One thing that happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record {
    /// Virtual nanoseconds.
    pub at: u64,
    /// Which node; `u32::MAX` for none.
    pub node: u32,
    /// What: see [`kind`].
    pub kind: u16,
    /// Details of the kind.
    pub flags: u16,
    /// First detail.
    pub a: u64,
    /// Second detail.
    pub b: u64,
}

/// Kinds of records.
pub mod kind {
    /// A frame was handed to an agent: a = sender and length, b = a number for its bytes.
    pub const FRAME: u16 = 1;
    /// An agent woke by itself.
    pub const WAKE: u16 = 2;
    /// A link came up, went down or could not be made: a = peer, flags = which.
    pub const LINK: u16 = 3;
    /// A write ended: a = its number, flags = 1 if it failed.
    pub const STORED: u16 = 4;
    /// An effect ended.
    pub const DONE: u16 = 5;
    /// A command was handed in.
    pub const COMMAND: u16 = 6;
    /// A fault or its end.
    pub const FAULT: u16 = 7;
    /// An agent started, stopped, was paused or went on.
    pub const PROCESS: u16 = 8;
    /// Other inputs.
    pub const OTHER: u16 = 9;
    /// What an agent put out in one turn: a = a number for it.
    pub const OUTPUT: u16 = 10;
}

thread_local! {
    static NEXT: std::cell::Cell<(u64, u64)> = const { std::cell::Cell::new((0, 0)) };
}

/// Worlds made on this thread from now on keep the records with these numbers in full.
pub fn keep_in_new_worlds(window: std::ops::Range<u64>) {
    NEXT.set((window.start, window.end));
}

/// The running record of a run.
#[derive(Debug)]
pub struct Trace {
    hasher: blake3::Hasher,
    buffer: Vec<u8>,
    count: u64,
    checkpoints: Vec<[u8; 32]>,
    /// Records kept in full: a window by number.
    window: std::ops::Range<u64>,
    kept: Vec<(u64, Record)>,
}

impl Default for Trace {
    fn default() -> Self {
        Self {
            hasher: blake3::Hasher::new(),
            buffer: Vec::with_capacity(BUFFER_BYTES),
            count: 0,
            checkpoints: Vec::new(),
            window: NEXT.get().0..NEXT.get().1,
            kept: Vec::new(),
        }
    }
}

impl Trace {
    /// Adds a record.
    pub fn add(&mut self, record: Record) {
        let number = self.count;
        self.count += 1;
        if self.window.contains(&number) {
            self.kept.push((number, record));
        }
        let mut bytes = [0; RECORD_BYTES];
        bytes[..8].copy_from_slice(&record.at.to_le_bytes());
        bytes[8..16].copy_from_slice(&number.to_le_bytes());
        bytes[16..20].copy_from_slice(&record.node.to_le_bytes());
        bytes[20..22].copy_from_slice(&record.kind.to_le_bytes());
        bytes[22..24].copy_from_slice(&record.flags.to_le_bytes());
        bytes[24..32].copy_from_slice(&record.a.to_le_bytes());
        bytes[32..].copy_from_slice(&record.b.to_le_bytes());
        self.buffer.extend_from_slice(&bytes);
        if self.buffer.len() >= BUFFER_BYTES {
            self.hasher.update(&self.buffer);
            self.buffer.clear();
        }
        if self.count.is_multiple_of(CHECKPOINT) {
            let digest = self.digest();
            self.checkpoints.push(digest);
        }
    }

    /// The digest of everything so far.
    pub fn digest(&self) -> [u8; 32] {
        let mut hasher = self.hasher.clone();
        hasher.update(&self.buffer);
        *hasher.finalize().as_bytes()
    }

    /// How many records there are.
    pub const fn len(&self) -> u64 {
        self.count
    }

    /// Whether nothing happened yet.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Digests after every [`CHECKPOINT`] records.
    pub fn checkpoints(&self) -> &[[u8; 32]] {
        &self.checkpoints
    }

    /// The records that were kept, with their numbers.
    pub fn kept(&self) -> &[(u64, Record)] {
        &self.kept
    }
}

impl std::fmt::Display for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = match self.kind {
            kind::FRAME => "frame",
            kind::WAKE => "wake",
            kind::LINK => "link",
            kind::STORED => "stored",
            kind::DONE => "done",
            kind::COMMAND => "command",
            kind::FAULT => "fault",
            kind::PROCESS => "process",
            kind::OUTPUT => "output",
            _ => "other",
        };
        write!(
            f,
            "{:>14.6} s  node {:>4}  {what:<8} flags {:<3} {:016x} {:016x}",
            self.at as f64 / 1e9,
            i64::from(self.node as i32),
            self.flags,
            self.a,
            self.b
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(a: u64) -> Record {
        Record {
            at: 1,
            node: 2,
            kind: kind::FRAME,
            flags: 0,
            a,
            b: 0,
        }
    }

    #[test]
    fn one_different_record_changes_every_later_checkpoint_and_no_earlier_one() {
        let run = |odd: u64| {
            let mut trace = Trace::default();
            for n in 0..5 * CHECKPOINT {
                trace.add(record(u64::from(n == odd)));
            }
            trace
        };
        let (a, b) = (run(u64::MAX), run(2 * CHECKPOINT + 7));
        assert_ne!(a.digest(), b.digest());
        let same: Vec<bool> = a
            .checkpoints()
            .iter()
            .zip(b.checkpoints())
            .map(|(a, b)| a == b)
            .collect();
        assert_eq!(same, [true, true, false, false, false]);
    }
}
