//! What this node takes for the time where something ends: tokens, grants and leases. Never for order, and never for
//! what a revocation cuts.
//!
//! A wall clock may be wrong, jump or go back. What a node has beside it are the wall clocks of others, as their
//! beacons say, counted on by its own clock for time-outs; and times before which it cannot be.

use std::collections::BTreeMap;

use lab_crdt_model::{Mono, NodeId, Now, Wall, mutant, reached};

/// How far a clock may be off before it is called wrong, milliseconds.
pub(crate) const OFF_MS_MAX: u64 = 5 * 60_000;
/// From so many clocks of others on, they overrule the own one.
const PEERS_MIN: usize = 3;
/// Most clocks of others that are kept: those heard last.
const PEERS_MAX: usize = 32;
/// A beacon says the time for so long, milliseconds. Between two of one node lie minutes in large meshes, and a quartz
/// is off by some milliseconds after an hour.
const HEARD_MS_MAX: u64 = 3_600_000;
/// The time is written down again once it has gone on this far, milliseconds.
const WRITE_MS: u64 = 15 * 60_000;

/// A wall clock against the clock for time-outs of this node: the difference stays the same as both go on.
type Offset = i64;

#[derive(Debug, Clone, Copy)]
struct Heard {
    offset: Offset,
    at: Mono,
}

/// The clocks of others, and what follows from them.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    heard: BTreeMap<NodeId, Heard>,
    /// Their offsets in order; looked at in every turn.
    offsets: Vec<Offset>,
    /// When the oldest of them has to be forgotten.
    forget_at: Option<Mono>,
    /// The middle of the clocks of others, once there are enough of them.
    middle: Option<Offset>,
    /// It is not earlier than this.
    floor: Wall,
    written: Wall,
    /// Since when the own clock is known to be off, and by how much.
    off: Option<Offset>,
    last: Offset,
}

const fn ms(mono: Mono) -> i64 {
    (mono.0 / 1_000_000) as i64
}

const fn offset(wall: Wall, mono: Mono) -> Offset {
    // A made-up date is far from every other one, whatever it is.
    let wall = if wall.0 > 1 << 50 { 1 << 50 } else { wall.0 };
    wall as i64 - ms(mono)
}

const fn wall(offset: Offset, mono: Mono) -> Wall {
    let at = offset + ms(mono);
    Wall(if at < 0 { 0 } else { at as u64 })
}

/// The middle of some numbers in order; of two that are in the middle, the one that is nearer to `to`.
fn middle(of: &[i64], to: i64) -> Option<i64> {
    let (low, high) = (of.get(of.len().checked_sub(1)? / 2)?, of.get(of.len() / 2)?);
    Some(if low.abs_diff(to) < high.abs_diff(to) {
        *low
    } else {
        *high
    })
}

impl Clock {
    /// Goes on from what was written down.
    pub(crate) fn from_stored(stored: Option<&[u8]>) -> Self {
        let written = stored
            .and_then(|b| b.try_into().ok())
            .map_or(Wall::default(), |b| Wall(u64::from_be_bytes(b)));
        Self {
            floor: written,
            written,
            ..Self::default()
        }
    }

    /// A beacon came in by push, so it was said just now.
    pub(crate) fn heard(&mut self, node: NodeId, wall: Wall, now: Mono) {
        let heard = Heard {
            offset: offset(wall, now),
            at: now,
        };
        self.heard.insert(node, heard);
        if self.heard.len() > PEERS_MAX
            && let Some(oldest) = self.heard.iter().min_by_key(|(_, it)| it.at)
        {
            let oldest = *oldest.0;
            self.heard.remove(&oldest);
        }
        self.sort();
    }

    fn sort(&mut self) {
        self.offsets.clear();
        self.offsets.extend(self.heard.values().map(|it| it.offset));
        self.offsets.sort_unstable();
        let oldest = self.heard.values().map(|it| it.at).min();
        self.forget_at = oldest.map(|at| at.plus_ms(HEARD_MS_MAX));
    }

    /// Who may not report any more has no say about the time either.
    pub(crate) fn retain(&mut self, mut is_member: impl FnMut(&NodeId) -> bool) {
        self.heard.retain(|node, _| is_member(node));
        self.sort();
    }

    /// It cannot be earlier than an admin's newest stamp; but an admin's clock may be wrong as well, so that counts
    /// as far as the middle of what all others last said.
    pub(crate) fn said(&mut self, by_admin: Wall, last_beacons: Vec<Wall>) {
        if last_beacons.len() < PEERS_MIN {
            return;
        }
        let walls = last_beacons.into_iter().map(|it| it.0.min(1 << 50) as i64);
        let mut walls: Vec<i64> = walls.collect();
        walls.sort_unstable();
        let believed = middle(&walls, 0).map_or(0, |it| it as u64);
        self.floor = self.floor.max(Wall(by_admin.0.min(believed)));
    }

    /// What the time is; says as well whether it jumped, so that ends have to be looked at again.
    pub(crate) fn now(&mut self, now: Now) -> (Wall, bool) {
        let own = offset(now.wall, now.mono);
        if self.forget_at.is_some_and(|at| at < now.mono) {
            self.heard
                .retain(|_, it| now.mono.ms_since(it.at) <= HEARD_MS_MAX);
            self.sort();
        }
        let count = self.offsets.len();
        let is_overruled = count >= PEERS_MIN && !mutant!("M72");
        self.middle = middle(&self.offsets, own).filter(|_| is_overruled);
        let off = self
            .middle
            .map(|middle| own - middle)
            .filter(|off| off.unsigned_abs() > OFF_MS_MAX);
        if off.is_some() && self.off.is_none() {
            reached!("a node found that its own clock is wrong");
        }
        self.off = off;
        let best = wall(own - off.unwrap_or(0), now.mono);
        let agrees = |it: &Heard| it.offset.abs_diff(own) <= OFF_MS_MAX;
        let is_agreed = || count > 0 && self.heard.values().all(agrees);
        if best.0 + OFF_MS_MAX < self.floor.0 && (self.middle.is_some() || is_agreed()) {
            // What was written down, it was by a clock that was ahead.
            reached!("the time before which it cannot be was wrong");
            self.floor = best;
        }
        let eff = if mutant!("M72") {
            now.wall
        } else {
            best.max(self.floor)
        };
        self.floor = self.floor.max(eff);
        let is_jump = offset(eff, now.mono).abs_diff(self.last) > 1_000;
        self.last = offset(eff, now.mono);
        (eff, is_jump)
    }

    /// What is to be written down, if it is time for it.
    pub(crate) fn write_down(&mut self) -> Option<Vec<u8>> {
        if self.floor.0.abs_diff(self.written.0) < WRITE_MS {
            return None;
        }
        self.written = self.floor;
        Some(self.floor.0.to_be_bytes().to_vec())
    }

    /// By how much the own clock is off, and how many others say so.
    pub(crate) fn is_off(&self) -> Option<(i64, usize)> {
        self.off.map(|off| (off, self.heard.len()))
    }

    /// By how much the clock of another is ahead of the time here, as far as it was heard of late.
    pub(crate) fn ahead_of(&self, node: &NodeId) -> Option<i64> {
        self.heard.get(node).map(|it| it.offset - self.last)
    }

    /// Whose clock is off against the time here, and by how much.
    pub(crate) fn others_off(&self) -> impl Iterator<Item = (NodeId, i64)> + '_ {
        let off = |it: &Heard| it.offset - self.last;
        self.heard
            .iter()
            .map(move |(node, it)| (*node, off(it)))
            .filter(|(_, off)| off.unsigned_abs() > OFF_MS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRUE_MS: u64 = 1_800_000_000_000;
    const HOUR: u64 = 3_600_000;

    fn at(mono_ms: u64, wall_ms: u64) -> Now {
        Now {
            mono: Mono(mono_ms * 1_000_000),
            wall: Wall(wall_ms),
        }
    }

    fn heard_by(clock: &mut Clock, walls: &[u64], mono_ms: u64) {
        for (n, wall) in walls.iter().enumerate() {
            clock.heard(NodeId([n as u8; 32]), Wall(*wall), at(mono_ms, 0).mono);
        }
    }

    #[test]
    fn alone_the_own_clock_counts_but_never_backwards() {
        let mut clock = Clock::default();
        assert_eq!(clock.now(at(0, TRUE_MS)).0, Wall(TRUE_MS));
        assert_eq!(clock.now(at(1_000, TRUE_MS - HOUR)).0, Wall(TRUE_MS));
        assert_eq!(clock.is_off(), None);
    }

    #[test]
    fn three_others_overrule_a_clock_and_two_do_not() {
        for wrong in [TRUE_MS - 9 * HOUR, TRUE_MS + 9 * HOUR, 5_000] {
            let mut clock = Clock::default();
            heard_by(&mut clock, &[TRUE_MS; 2], 0);
            assert_eq!(clock.now(at(1_000, wrong)).0, Wall(wrong), "{wrong}");
            let mut clock = Clock::default();
            heard_by(&mut clock, &[TRUE_MS; 3], 0);
            // It goes on with the clock for time-outs.
            assert_eq!(
                clock.now(at(1_000, wrong)).0,
                Wall(TRUE_MS + 1_000),
                "{wrong}"
            );
            assert_eq!(clock.is_off().unwrap().1, 3);
        }
    }

    #[test]
    fn fewer_than_half_of_the_others_lie_in_vain() {
        let mut clock = Clock::default();
        heard_by(
            &mut clock,
            &[0, u64::MAX, TRUE_MS, TRUE_MS + 10, TRUE_MS - 10],
            0,
        );
        assert_eq!(clock.now(at(0, 5_000)).0, Wall(TRUE_MS));
        assert_eq!(clock.others_off().count(), 2);
        assert_eq!(clock.ahead_of(&NodeId([3; 32])), Some(10));
        assert_eq!(clock.ahead_of(&NodeId([9; 32])), None);
    }

    #[test]
    fn a_small_difference_is_nobodys_business() {
        let mut clock = Clock::default();
        heard_by(&mut clock, &[TRUE_MS; 5], 0);
        let own = TRUE_MS + OFF_MS_MAX - 1;
        assert_eq!(clock.now(at(0, own)), (Wall(own), true));
        assert!(!clock.now(at(500, own + 500)).1);
        assert_eq!(clock.is_off(), None);
    }

    #[test]
    fn what_was_written_down_holds_until_others_say_that_it_was_wrong() {
        let mut ahead = Clock::default();
        ahead.now(at(0, TRUE_MS + 9 * HOUR));
        let written = ahead.write_down().unwrap();
        assert_eq!(ahead.write_down(), None);

        let mut clock = Clock::from_stored(Some(&written));
        assert_eq!(clock.now(at(0, TRUE_MS)).0, Wall(TRUE_MS + 9 * HOUR));
        heard_by(&mut clock, &[TRUE_MS, 7], 0);
        assert_eq!(clock.now(at(0, TRUE_MS)).0, Wall(TRUE_MS + 9 * HOUR));
        heard_by(&mut clock, &[TRUE_MS, TRUE_MS], 0);
        assert_eq!(clock.now(at(0, TRUE_MS)).0, Wall(TRUE_MS));
        assert!(clock.write_down().is_some());
    }

    #[test]
    fn an_admin_says_how_late_it_is_at_least_as_far_as_the_others_bear_it_out() {
        let mut clock = Clock::default();
        clock.said(Wall(TRUE_MS + 9 * HOUR), vec![Wall(TRUE_MS); 2]);
        assert_eq!(clock.now(at(0, 5_000)).0, Wall(5_000));
        clock.said(Wall(TRUE_MS + 9 * HOUR), vec![Wall(TRUE_MS); 3]);
        assert_eq!(clock.now(at(0, 5_000)).0, Wall(TRUE_MS));
        clock.said(Wall(TRUE_MS - HOUR), vec![Wall(TRUE_MS); 3]);
        assert_eq!(clock.now(at(0, 5_000)).0, Wall(TRUE_MS));
    }

    #[test]
    fn beacons_of_long_ago_say_nothing() {
        let mut clock = Clock::default();
        heard_by(&mut clock, &[TRUE_MS; 3], 0);
        assert_eq!(clock.now(at(HOUR + 1, 5_000)).0, Wall(5_000));
        for n in 0..100 {
            clock.heard(NodeId([n; 32]), Wall(TRUE_MS), Mono(u64::from(n)));
        }
        assert_eq!(clock.heard.len(), PEERS_MAX);
    }
}
