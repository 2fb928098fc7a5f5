//! What is remembered of one connection: its route, what its two directions are like now, and how far its lanes are.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use lab_crdt_model::Mono;

use super::bucket::Bucket;
use super::draw::{STEP, draw, mix};
use super::table::Table;

/// Lanes told apart; higher numbers share the last.
pub(super) const LANES: usize = 4;

/// How frames get from one host to the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Route {
    /// Within a building, past no box.
    Local,
    /// From address to address, perhaps through boxes.
    Direct,
    /// Through the relay of this number.
    Relayed(u16),
    /// Not at all.
    None,
}

/// What one direction is like, until something changes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lay {
    pub is_open: bool,
    pub fixed_ns: u64,
    pub spread_ns: u64,
    /// `Nothing` only at the end.
    pub tables: [Table; 4],
    pub rto_ns: u64,
    pub loss: u32,
}

impl Lay {
    /// The time one frame takes, without queues and losses.
    #[inline]
    pub(super) fn delay_ns(&self, hash: u64) -> u64 {
        let mut at = hash;
        let mut ns = self.fixed_ns;
        for table in self.tables {
            if table == Table::Nothing {
                break;
            }
            ns += table.at(at);
            at >>= 10;
        }
        if self.spread_ns != 0 {
            // What the tables did not use: 24 bits.
            ns += ((u128::from(self.spread_ns) * u128::from(hash >> 40)) >> 24) as u64;
        }
        ns
    }

    /// The time an ordinary frame takes.
    pub(super) fn typical_ns(&self) -> u64 {
        let tables: u64 = self.tables.iter().map(|t| t.median()).sum();
        self.fixed_ns + self.spread_ns / 2 + tables
    }
}

// Aligned so that a frame touches few lines of the cache: most of what a frame costs is waiting for memory.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(super) struct Way {
    key: u64,
    pub lay: Lay,
    pub wire: Bucket,
    /// The lane whose next frame waits for the wire.
    pub awaiting: Option<u8>,
    /// The latest arrival of each lane.
    last: [Mono; LANES],
    /// How many frames each has carried; it may wrap.
    nth: [u32; LANES],
}

impl Way {
    fn new(key: u64) -> Self {
        Self {
            key,
            lay: Lay::default(),
            wire: Bucket::default(),
            awaiting: None,
            last: [Mono(0); LANES],
            nth: [0; LANES],
        }
    }

    /// The draw of the next frame of a lane.
    #[inline]
    pub(super) fn draw(&self, lane: usize) -> u64 {
        let lane_key = self.key ^ (lane as u64).wrapping_mul(0xd6e8_feb8_6659_fd93);
        mix(lane_key.wrapping_add(u64::from(self.nth[lane]).wrapping_mul(STEP)))
    }

    /// The next frame of a lane arrives then, or just after the one before it.
    #[inline]
    pub(super) fn arrives(&mut self, lane: usize, at_ns: u64) -> Mono {
        self.last[lane] = Mono(at_ns.max(self.last[lane].0 + 1));
        self.nth[lane] = self.nth[lane].wrapping_add(1);
        self.last[lane]
    }
}

/// One connection. `ways[0]` leads from the host with the lower index.
#[derive(Clone, Debug)]
pub(super) struct Flow {
    pub low: u32,
    pub high: u32,
    pub connection: u64,
    pub route: Route,
    pub is_dead: bool,
    /// The state of the network that the lays were made for.
    pub version: u64,
    pub last_used: Mono,
    /// Nanoseconds of silence after which a box forgets it.
    pub expires_ns: u64,
    pub ways: [Way; 2],
}

/// A hasher for keys that are numbers already.
#[derive(Debug, Default)]
pub(super) struct Mixer(u64);

impl Hasher for Mixer {
    #[inline]
    fn finish(&self) -> u64 {
        mix(self.0)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    #[inline]
    fn write_u64(&mut self, n: u64) {
        self.0 = (self.0.rotate_left(29) ^ n).wrapping_mul(STEP);
    }
}

pub(super) type Table64<K, V> = HashMap<K, V, BuildHasherDefault<Mixer>>;

/// Both hosts in one number, the lower first.
#[inline]
pub(super) const fn pair(a: usize, b: usize) -> u64 {
    let (low, high) = if a < b { (a, b) } else { (b, a) };
    (low as u64) << 32 | high as u64
}

/// All connections. As many as are not closed.
#[derive(Clone, Debug, Default)]
pub(super) struct Flows {
    slots: Vec<Flow>,
    free: Vec<u32>,
    by_key: Table64<(u64, u64), u32>,
}

impl Flows {
    #[inline]
    pub(super) fn find(&self, a: usize, b: usize, connection: u64) -> Option<usize> {
        self.by_key
            .get(&(pair(a, b), connection))
            .map(|slot| *slot as usize)
    }

    pub(super) fn add(
        &mut self,
        seed: u64,
        (a, b): (usize, usize),
        connection: u64,
        route: Route,
        now: Mono,
    ) -> usize {
        let (low, high) = (a.min(b) as u64, a.max(b) as u64);
        let key = |from: u64, to: u64| draw(seed, from, to);
        let flow = Flow {
            low: low as u32,
            high: high as u32,
            connection,
            route,
            is_dead: false,
            version: u64::MAX,
            last_used: now,
            expires_ns: u64::MAX,
            ways: [Way::new(key(low, high)), Way::new(key(high, low))],
        };
        let slot = if let Some(slot) = self.free.pop() {
            self.slots[slot as usize] = flow;
            slot
        } else {
            self.slots.push(flow);
            (self.slots.len() - 1) as u32
        };
        self.by_key.insert((pair(a, b), connection), slot);
        slot as usize
    }

    pub(super) fn remove(&mut self, a: usize, b: usize, connection: u64) -> Option<&Flow> {
        let slot = self.by_key.remove(&(pair(a, b), connection))?;
        self.free.push(slot);
        let flow = &mut self.slots[slot as usize];
        let was_dead = flow.is_dead;
        flow.is_dead = true;
        (!was_dead).then_some(flow)
    }

    #[inline]
    pub(super) fn get(&self, slot: usize) -> &Flow {
        &self.slots[slot]
    }

    #[inline]
    pub(super) fn get_mut(&mut self, slot: usize) -> &mut Flow {
        &mut self.slots[slot]
    }

    /// All living ones.
    pub(super) fn living(&mut self) -> impl Iterator<Item = &mut Flow> {
        self.slots.iter_mut().filter(|flow| !flow.is_dead)
    }

    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_takes_five_lines_of_the_cache() {
        assert_eq!((size_of::<Way>(), size_of::<Flow>()), (128, 320));
    }
}
