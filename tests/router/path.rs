//! The directed paths between hosts: when a packet arrives, if it does. Pure: time comes in, times come out.

use std::collections::BTreeMap;

use crate::profile::Profile;

/// What became of the packets of one directed pair.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Counts {
    /// Packets that were sent, whatever became of them.
    pub(crate) packets: u64,
    /// Their bytes, with IP headers.
    pub(crate) bytes: u64,
    /// Lost by chance.
    pub(crate) lost: u64,
    /// Dropped because the pair is cut off.
    pub(crate) blocked: u64,
    /// Dropped because the queue for bandwidth was full.
    pub(crate) full: u64,
    /// Delivered twice.
    pub(crate) doubled: u64,
}

#[derive(Clone, Default, Debug)]
struct Pair {
    counts: Counts,
    is_blocked: bool,
    /// When the line has sent what was given to it.
    free_at: u64,
    /// When the last packet in order arrives.
    last_at: u64,
}

/// All paths. Hosts are counted from 0; times are nanoseconds of one clock.
#[derive(Debug)]
pub(crate) struct Paths {
    seed: u64,
    hosts: usize,
    profile: Profile,
    own: BTreeMap<(usize, usize), Profile>,
    pairs: Vec<Pair>,
}

impl Paths {
    /// Paths between `hosts` hosts, all of one profile.
    pub(crate) fn new(seed: u64, hosts: usize, profile: Profile) -> Self {
        Self {
            seed,
            hosts,
            profile,
            own: BTreeMap::new(),
            pairs: vec![Pair::default(); hosts * hosts],
        }
    }

    /// Changes the profile of every pair.
    pub(crate) fn set(&mut self, profile: Profile) {
        self.profile = profile;
        self.own.clear();
    }

    /// Changes the profile of one directed pair.
    pub(crate) fn set_pair(&mut self, from: usize, to: usize, profile: Profile) {
        self.own.insert((from, to), profile);
    }

    /// When the copies of a packet arrive that is sent now.
    pub(crate) fn send(
        &mut self,
        now: u64,
        from: usize,
        to: usize,
        bytes: usize,
    ) -> [Option<u64>; 2] {
        let index = from * self.hosts + to;
        let profile = self.own.get(&(from, to)).unwrap_or(&self.profile);
        let pair = &mut self.pairs[index];
        let nth = pair.counts.packets;
        let draw = |what: u64| draw(self.seed, index as u64, nth, what);
        let happens = |what: u64, per_mille: u64| draw(what) % 1000 < per_mille;
        pair.counts.packets += 1;
        pair.counts.bytes += bytes as u64;
        if pair.is_blocked {
            pair.counts.blocked += 1;
            return [None; 2];
        }
        let mut sent_at = now;
        if let Some(rate) = profile.rate {
            let begins = now.max(pair.free_at);
            if begins - now > profile.queue * 1000 {
                pair.counts.full += 1;
                return [None; 2];
            }
            pair.free_at = begins + bytes as u64 * 1_000_000_000 / rate;
            sent_at = pair.free_at;
        }
        if happens(0, profile.loss) {
            pair.counts.lost += 1;
            return [None; 2];
        }
        // The delay of a pair is that of its packet before the first.
        let base = profile
            .delay
            .at(self::draw(self.seed, index as u64, u64::MAX, 1));
        let mut at = sent_at + base + profile.jitter.at(draw(2));
        if !happens(3, profile.reorder) {
            at = at.max(pair.last_at);
            pair.last_at = at;
        }
        if !happens(4, profile.duplicate) {
            return [Some(at), None];
        }
        pair.counts.doubled += 1;
        [Some(at), Some(sent_at + base + profile.jitter.at(draw(5)))]
    }

    /// Cuts hosts of different groups off from each other; hosts that are in no group reach everyone.
    pub(crate) fn partition(&mut self, groups: &[Vec<usize>]) {
        for (n, group) in groups.iter().enumerate() {
            let others = groups.iter().enumerate().filter(|(m, _)| *m != n);
            for to in others.flat_map(|(_, other)| other) {
                for from in group {
                    self.block(*from, *to, true);
                }
            }
        }
    }

    /// Cuts one direction, or mends it.
    pub(crate) fn block(&mut self, from: usize, to: usize, is_blocked: bool) {
        self.pairs[from * self.hosts + to].is_blocked = is_blocked;
    }

    /// Everyone reaches everyone.
    pub(crate) fn heal(&mut self) {
        for pair in &mut self.pairs {
            pair.is_blocked = false;
        }
    }

    /// Directed pairs that were used, with what became of their packets.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (usize, usize, Counts)> {
        let used = self
            .pairs
            .iter()
            .enumerate()
            .filter(|(_, p)| p.counts.packets > 0);
        used.map(|(index, pair)| (index / self.hosts, index % self.hosts, pair.counts))
    }
}

/// A number that depends on nothing but these four.
fn draw(seed: u64, pair: u64, nth: u64, what: u64) -> u64 {
    let mut mixed = seed;
    for word in [pair, nth, what] {
        mixed = (mixed ^ word).wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
    }
    mixed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(profile: &str) -> Paths {
        Paths::new(7, 3, profile.parse().unwrap())
    }

    #[test]
    fn packets_of_a_pair_keep_their_order_unless_they_are_allowed_not_to() {
        let arrivals = |profile: &str| -> Vec<u64> {
            let mut paths = paths(profile);
            (0..500)
                .map(|n| paths.send(n * 1000, 0, 1, 100)[0].unwrap())
                .collect()
        };
        assert!(arrivals("jitter=1000..9000").is_sorted());
        assert!(!arrivals("jitter=1000..9000 reorder=100").is_sorted());
    }

    #[test]
    fn one_pair_draws_without_regard_to_the_others() {
        let (mut alone, mut beside) = (paths("jitter=0..9000"), paths("jitter=0..9000"));
        for n in 0..50 {
            beside.send(n * 1_000_000, 2, 1, 100);
            let now = n * 20_000_000;
            assert_eq!(alone.send(now, 0, 1, 100), beside.send(now, 0, 1, 100));
        }
    }

    #[test]
    fn the_delay_of_a_pair_stays_and_differs_between_pairs() {
        let mut paths = paths("delay=1000..90000");
        let mut took = |now, from, to| paths.send(now, from, to, 100)[0].unwrap() - now;
        let first = took(0, 0, 1);
        assert_eq!(first, took(1_000_000_000, 0, 1));
        assert_ne!(first, took(2_000_000_000, 1, 0));
    }

    #[test]
    fn loss_and_doubling_are_as_often_as_was_said() {
        let mut paths = paths("loss=100 duplicate=200");
        for n in 0..10_000 {
            paths.send(n, 0, 1, 10);
        }
        let (_, _, counts) = paths.counts().next().unwrap();
        assert!((900..1100).contains(&counts.lost), "{counts:?}");
        assert!((1650..1950).contains(&counts.doubled), "{counts:?}");
        assert_eq!(counts.bytes, 100_000);
    }

    #[test]
    fn bandwidth_is_time_and_a_full_queue_drops() {
        let mut paths = paths("rate=1000000 queue=2500");
        let at: Vec<_> = (0..5).map(|_| paths.send(0, 0, 1, 1000)[0]).collect();
        assert_eq!(
            at,
            [
                Some(1_000_000),
                Some(2_000_000),
                Some(3_000_000),
                None,
                None
            ]
        );
    }

    #[test]
    fn a_partition_blocks_between_its_groups_only_and_heals() {
        let mut paths = paths("");
        let reached = |paths: &mut Paths, from, to| paths.send(0, from, to, 1)[0].is_some();
        paths.partition(&[vec![0], vec![1]]);
        assert!(!reached(&mut paths, 0, 1) && !reached(&mut paths, 1, 0));
        assert!(reached(&mut paths, 0, 2) && reached(&mut paths, 2, 1));
        paths.heal();
        paths.block(1, 0, true);
        assert!(reached(&mut paths, 0, 1) && !reached(&mut paths, 1, 0));
    }
}
