//! A member whose lease is over by the true time is let in nowhere, whatever a single clock says.
//!
//! Judged where it can be known: at a node that has reached, for some minutes, three others whose clocks were right all
//! the while, and more of them than of those that were not.

use std::collections::BTreeMap;

use lab_agent_core::ViewMask;
use lab_crdt_model::view::MemberState;
use lab_crdt_model::{Mono, Wall};

use crate::clock::{START_NS, WALL_START_MS};
use crate::oracle::evidence::Rota;
use crate::oracle::{Oracle, Seen, Verdict};

/// A clock that is off by more is not right.
const RIGHT_MS: u64 = 60_000;
/// For so long after it was wrong, what it said may still be believed.
const WRONG_MS: u64 = 3_600_000 + 300_000;
/// What a node may be off without being overruled, and some.
const TOLERANCE_MS: u64 = 6 * 60_000;
/// How long the others have to be reached; more in meshes of more than twelve, where beacons are rarer.
const REACHED_MS: u64 = 180_000;
const PEERS_MIN: usize = 3;
/// Larger meshes are not looked at: every pair of nodes is.
const NODES_MAX: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Leases {
    /// When a clock was wrong last.
    wrong: BTreeMap<usize, Mono>,
    /// Since when enough of the others are reached.
    since: BTreeMap<usize, Mono>,
    rota: Rota,
}

impl Leases {
    fn is_right(&self, node: usize, now: Mono) -> bool {
        let wrong = self.wrong.get(&node);
        wrong.is_none_or(|at| now.ms_since(*at) > WRONG_MS)
    }

    /// Whether a node can know the time.
    fn look(&mut self, seen: &dyn Seen, node: usize) -> bool {
        let now = seen.now();
        let is_running = |n: usize| seen.is_up(n) && !seen.is_paused(n);
        let (mut right, mut other) = (0, 0);
        for peer in (0..seen.count()).filter(|peer| *peer != node) {
            let is_reached = seen.is_open(peer, node) && seen.is_open(node, peer);
            if self.is_right(peer, now) && is_running(peer) && is_reached {
                right += 1;
            } else {
                other += 1;
            }
        }
        if !is_running(node) || right < PEERS_MIN || right <= other {
            self.since.remove(&node);
            return false;
        }
        let since = *self.since.entry(node).or_insert(now);
        now.ms_since(since) > REACHED_MS * (seen.count() as u64).div_ceil(12)
    }
}

impl Oracle for Leases {
    fn name(&self) -> &'static str {
        "expired_members_stay_out"
    }

    fn sample(&mut self, seen: &mut dyn Seen) -> Verdict {
        let now = seen.now();
        if seen.count() > NODES_MAX {
            return Ok(());
        }
        let truth = WALL_START_MS + now.0.saturating_sub(START_NS) / 1_000_000;
        for node in 0..seen.count() {
            if seen.wall(node).0.abs_diff(truth) > RIGHT_MS {
                self.wrong.insert(node, now);
            }
        }
        let knowing: Vec<usize> = (0..seen.count())
            .filter(|node| self.look(seen, *node))
            .collect();
        for node in self.rota.turn(seen.count()) {
            if !knowing.contains(&node) {
                continue;
            }
            let mask = ViewMask {
                roster: true,
                reports: true,
                ..ViewMask::default()
            };
            let Some(view) = seen.view(node, mask) else {
                continue;
            };
            let is_over = |end: Wall| truth > end.0.saturating_add(TOLERANCE_MS);
            for member in &view.members {
                let Some(end) = member.not_after.filter(|end| is_over(*end)) else {
                    continue;
                };
                let is_in = member.state == MemberState::Member;
                let mut linked = view.peers.iter().filter(|p| p.is_linked);
                let is_linked = linked.any(|p| p.node == member.node);
                if member.node != seen.id(node) && (is_in || is_linked) {
                    let what = format!(
                        "expected {} to stay out since its lease ended at {} ms, seen {:?} at {truth} ms{}",
                        member.name,
                        end.0,
                        member.state,
                        if is_linked { " with a link" } else { "" },
                    );
                    return self.broken(seen, Some(node), what);
                }
            }
        }
        Ok(())
    }
}
