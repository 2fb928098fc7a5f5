//! A fault that stands, made ready for fast questions about single paths.

use std::collections::BTreeSet;

use lab_crdt_model::Mono;

use super::draw::{draw, is_below};
use super::fault::{Fault, Paths, Scope};

const MS: u64 = 1_000_000;
/// The group of those who are in none.
const REST: u16 = u16::MAX;

/// A set of hosts, one bit each.
#[derive(Clone, Debug)]
pub(super) enum Hosts {
    All,
    Some(Vec<u64>),
}

impl Hosts {
    pub(super) fn new(scope: &Scope) -> Self {
        let mut bits = Vec::new();
        let mut add = |host: usize| {
            if bits.len() <= host / 64 {
                bits.resize(host / 64 + 1, 0);
            }
            bits[host / 64] |= 1_u64 << (host % 64);
        };
        match scope {
            Scope::All => return Self::All,
            Scope::Span { first, count } => (*first..first + count).for_each(&mut add),
            Scope::Only(hosts) => hosts.iter().copied().for_each(&mut add),
        }
        Self::Some(bits)
    }

    #[inline]
    pub(super) fn has(&self, host: usize) -> bool {
        match self {
            Self::All => true,
            Self::Some(bits) => bits
                .get(host / 64)
                .is_some_and(|word| word >> (host % 64) & 1 == 1),
        }
    }

    fn has_either(&self, a: usize, b: usize) -> bool {
        self.has(a) || self.has(b)
    }

    fn has_both(&self, a: usize, b: usize) -> bool {
        self.has(a) && self.has(b)
    }
}

#[derive(Clone, Debug)]
enum Ways {
    Of(Hosts),
    Between(Hosts, Hosts),
    From(Hosts, Hosts),
}

impl Ways {
    fn new(paths: &Paths) -> Self {
        match paths {
            Paths::Of(a) => Self::Of(Hosts::new(a)),
            Paths::Between(a, b) => Self::Between(Hosts::new(a), Hosts::new(b)),
            Paths::From(a, b) => Self::From(Hosts::new(a), Hosts::new(b)),
        }
    }

    fn has(&self, from: usize, to: usize) -> bool {
        match self {
            Self::Of(a) => a.has_either(from, to),
            Self::Between(a, b) => a.has(from) && b.has(to) || a.has(to) && b.has(from),
            Self::From(a, b) => a.has(from) && b.has(to),
        }
    }
}

#[derive(Clone, Debug)]
enum What {
    Groups(Vec<u16>),
    OneWay(Ways),
    Isolate(Hosts),
    Bridge(Ways, usize),
    /// The place of each host in the ring, how many there are, and how far each reaches.
    Ring(Vec<Option<u32>>, u32, u32),
    Cut(BTreeSet<(usize, usize)>),
    Flap(Hosts, u64, u64),
    Clog(Ways, u32, u64),
    /// Closed from and until, in milliseconds from the start; by host.
    Swizzle(Vec<Option<(u64, u64)>>, u64),
    Grey(Ways, u64, u32),
    Latency(Ways, u64, u64),
    Loss(Ways, u32),
    Bufferbloat(Hosts, u64),
    UdpBlocked(Hosts),
    RelayDown(Vec<usize>),
    CaptivePortal(Hosts),
}

/// What the rules together do to one directed path that is open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Burden {
    /// Nanoseconds on every frame.
    pub fixed_ns: u64,
    /// At most as many nanoseconds again.
    pub spread_ns: u64,
    /// Packets lost out of a thousand.
    pub loss: u32,
    /// Bytes per second; zero is no limit.
    pub bytes_per_s: u64,
}

impl Burden {
    pub(super) fn lose(&mut self, per_mille: u32) {
        let (a, b) = (self.loss.min(1000), per_mille.min(1000));
        self.loss = a + b - a * b / 1000;
    }

    pub(super) fn limit(&mut self, bytes_per_s: u64) {
        if self.bytes_per_s == 0 || bytes_per_s != 0 && bytes_per_s < self.bytes_per_s {
            self.bytes_per_s = bytes_per_s;
        }
    }
}

/// A standing fault.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    what: What,
    starts: Mono,
    /// Never, if [`NEVER`].
    ends: Mono,
    /// Paths within one of these sets are healed.
    healed: Vec<Hosts>,
}

/// A time that does not come.
pub(super) const NEVER: Mono = Mono(u64::MAX);

impl Rule {
    /// What a fault that lasts leaves standing from `now` on; none for those that are over at once.
    pub(super) fn new(now: Mono, fault: &Fault, count: usize) -> Option<Self> {
        let mut ends = NEVER;
        let what = match fault {
            Fault::Partition { groups } => What::Groups(group(groups, count)),
            Fault::OneWay { from, to } => {
                What::OneWay(Ways::From(Hosts::new(from), Hosts::new(to)))
            }
            Fault::Isolate { hosts } => What::Isolate(Hosts::new(hosts)),
            Fault::Bridge {
                left,
                right,
                bridge,
            } => What::Bridge(Ways::Between(Hosts::new(left), Hosts::new(right)), *bridge),
            Fault::Ring { hosts } => ring(hosts, count),
            Fault::Cut { pairs } => {
                What::Cut(pairs.iter().map(|(a, b)| (*a.min(b), *a.max(b))).collect())
            }
            Fault::Flap {
                hosts,
                down_ms,
                up_ms,
            } => What::Flap(Hosts::new(hosts), (*down_ms).max(1), (*up_ms).max(1)),
            Fault::Clog {
                paths,
                per_mille,
                seed,
            } => What::Clog(Ways::new(paths), *per_mille, *seed),
            Fault::Swizzle {
                hosts,
                per_mille,
                step_ms,
                seed,
            } => {
                let step_ms = (*step_ms).max(1);
                let (turns, drawn) = swizzle(hosts, *per_mille, step_ms, *seed, count);
                ends = now.plus_ms(2 * drawn * step_ms);
                What::Swizzle(turns, step_ms)
            }
            Fault::Grey {
                paths,
                bytes_per_s,
                loss_per_mille,
            } => What::Grey(Ways::new(paths), *bytes_per_s, *loss_per_mille),
            Fault::Latency {
                paths,
                ms,
                jitter_ms,
            } => What::Latency(Ways::new(paths), ms * MS, jitter_ms * MS),
            Fault::Loss { paths, per_mille } => What::Loss(Ways::new(paths), *per_mille),
            Fault::Bufferbloat { hosts, queue_ms } => {
                What::Bufferbloat(Hosts::new(hosts), queue_ms * MS / 2)
            }
            Fault::UdpBlocked { hosts } => What::UdpBlocked(Hosts::new(hosts)),
            Fault::RelayDown { relays } => What::RelayDown(relays.clone()),
            Fault::CaptivePortal { hosts } => What::CaptivePortal(Hosts::new(hosts)),
            Fault::For { ms, fault } => {
                let mut rule = Self::new(now, fault, count)?;
                rule.ends = rule.ends.min(now.plus_ms(*ms));
                return Some(rule);
            }
            Fault::NatRebind { .. } | Fault::Heal { .. } => return None,
        };
        Some(Self {
            what,
            starts: now,
            ends,
            healed: Vec::new(),
        })
    }

    /// Leaves alone what has both ends among these hosts.
    pub(super) fn heal(&mut self, hosts: Hosts) {
        self.healed.push(hosts);
    }

    /// It has ended by itself.
    pub(super) fn is_over(&self, now: Mono) -> bool {
        self.ends <= now
    }

    fn covers(&self, now: Mono, from: usize, to: usize) -> bool {
        !self.is_over(now) && !self.healed.iter().any(|set| set.has_both(from, to))
    }

    /// When it next opens or closes something, after `now`.
    pub(super) fn next_change(&self, now: Mono) -> Mono {
        let since_ms = now.0.saturating_sub(self.starts.0) / MS;
        let next_ms = match &self.what {
            What::Flap(_, down, up) => {
                let (round, at) = (since_ms / (down + up), since_ms % (down + up));
                let start = round * (down + up);
                Some(if at < *down {
                    start + down
                } else {
                    start + down + up
                })
            }
            What::Swizzle(_, step) => Some((since_ms / step + 1) * step),
            _ => None,
        };
        next_ms.map_or(self.ends, |ms| self.starts.plus_ms(ms).min(self.ends))
    }

    /// Nothing gets from one host to the other.
    pub(super) fn closes(&self, now: Mono, from: usize, to: usize) -> bool {
        let since_ms = now.0.saturating_sub(self.starts.0) / MS;
        let is_closed = match &self.what {
            What::Groups(groups) => {
                let group = |host: usize| groups.get(host).copied().unwrap_or(REST);
                group(from) != group(to)
            }
            What::OneWay(ways) => ways.has(from, to),
            What::Isolate(hosts) | What::CaptivePortal(hosts) => hosts.has_either(from, to),
            What::Bridge(ways, bridge) => from != *bridge && to != *bridge && ways.has(from, to),
            What::Ring(places, len, reach) => {
                let place = |host: usize| places.get(host).copied().flatten();
                match (place(from), place(to)) {
                    (Some(a), Some(b)) => a.abs_diff(b).min(len - a.abs_diff(b)) > *reach,
                    _ => false,
                }
            }
            What::Cut(pairs) => pairs.contains(&(from.min(to), from.max(to))),
            What::Flap(hosts, down, up) => {
                since_ms % (down + up) < *down && hosts.has_either(from, to)
            }
            What::Clog(ways, per_mille, seed) => {
                ways.has(from, to) && is_below(draw(*seed, from as u64, to as u64), *per_mille)
            }
            What::Swizzle(turns, _) => [from, to].into_iter().any(|host| {
                let turn = turns.get(host).copied().flatten();
                turn.is_some_and(|(closed, open)| (closed..open).contains(&since_ms))
            }),
            What::Loss(ways, per_mille) | What::Grey(ways, _, per_mille) => {
                *per_mille >= 1000 && ways.has(from, to)
            }
            What::Latency(..)
            | What::Bufferbloat(..)
            | What::UdpBlocked(_)
            | What::RelayDown(_) => false,
        };
        is_closed && self.covers(now, from, to)
    }

    /// Adds what it does to an open path.
    pub(super) fn weigh(&self, now: Mono, from: usize, to: usize, burden: &mut Burden) {
        if !self.covers(now, from, to) {
            return;
        }
        match &self.what {
            What::Grey(ways, bytes_per_s, loss) if ways.has(from, to) => {
                burden.limit(*bytes_per_s);
                burden.lose(*loss);
            }
            What::Latency(ways, fixed_ns, spread_ns) if ways.has(from, to) => {
                burden.fixed_ns += fixed_ns;
                burden.spread_ns += spread_ns;
            }
            What::Loss(ways, per_mille) if ways.has(from, to) => burden.lose(*per_mille),
            What::Bufferbloat(hosts, half_ns) if hosts.has_either(from, to) => {
                burden.fixed_ns += half_ns;
                burden.spread_ns += half_ns;
            }
            _ => {}
        }
    }

    /// UDP does not get from one host to the other.
    pub(super) fn blocks_udp(&self, now: Mono, from: usize, to: usize) -> bool {
        matches!(&self.what, What::UdpBlocked(hosts) if hosts.has_either(from, to))
            && self.covers(now, from, to)
    }

    /// A relay does not answer these two.
    pub(super) fn downs_relay(&self, now: Mono, relay: usize, from: usize, to: usize) -> bool {
        matches!(&self.what, What::RelayDown(relays) if relays.is_empty() || relays.contains(&relay))
            && self.covers(now, from, to)
    }

    /// A login page stands between the two.
    pub(super) fn is_captive(&self, now: Mono, from: usize, to: usize) -> bool {
        matches!(self.what, What::CaptivePortal(_)) && self.closes(now, from, to)
    }
}

fn group(groups: &[Scope], count: usize) -> Vec<u16> {
    let named: Vec<Hosts> = groups.iter().map(Hosts::new).collect();
    (0..count)
        .map(|host| {
            let at = named.iter().position(|g| g.has(host));
            at.map_or(REST, |at| at as u16)
        })
        .collect()
}

fn members(scope: &Scope, count: usize) -> Vec<usize> {
    (0..count).filter(|host| scope.contains(*host)).collect()
}

fn ring(scope: &Scope, count: usize) -> What {
    let hosts = members(scope, count);
    let len = hosts.len() as u32;
    let mut places = vec![None; count];
    for (place, host) in (0..).zip(hosts) {
        places[host] = Some(place);
    }
    // A majority is the host itself and as many again on both sides as make it up.
    let others = len / 2;
    What::Ring(places, len, others.div_ceil(2))
}

fn swizzle(
    scope: &Scope,
    per_mille: u32,
    step_ms: u64,
    seed: u64,
    count: usize,
) -> (Vec<Option<(u64, u64)>>, u64) {
    let hosts = members(scope, count);
    let mut drawn: Vec<usize> = hosts
        .iter()
        .copied()
        .filter(|host| is_below(draw(seed, 0, *host as u64), per_mille))
        .collect();
    if drawn.is_empty() {
        let least = hosts.iter().min_by_key(|h| draw(seed, 0, **h as u64));
        drawn.extend(least);
    }
    let len = drawn.len() as u64;
    let mut turns = vec![None; count];
    drawn.sort_by_key(|host| draw(seed, 1, *host as u64));
    for (turn, host) in (0..).zip(&drawn) {
        turns[*host] = Some((turn * step_ms, 0));
    }
    drawn.sort_by_key(|host| draw(seed, 2, *host as u64));
    for (turn, host) in (1..).zip(&drawn) {
        if let Some((_, open)) = &mut turns[*host] {
            *open = (len + turn) * step_ms;
        }
    }
    (turns, len)
}
