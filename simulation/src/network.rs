//! The paths between hosts, as a pure model: how long a frame takes, and whether it gets there at all.
//!
//! Nothing here has a clock or a queue of events. The world asks what becomes of a frame ([`Network::send`]) or a
//! dial ([`Network::dial`]), and carries it out. Connections behave like QUIC: frames are never lost on a living
//! connection, only late; each lane keeps its order; a closed path stalls what is sent until it opens.
//!
//! Every draw is a hash of the seed, the two hosts, how many connections they had before, the lane and the number of
//! the frame. So a frame fares the same whatever happens on other paths, and however the world names connections.
//!
//! What the model leaves out: congestion control, packet sizes beyond their number, bandwidth of relays, hosts that
//! move. Link faults act end to end: a relay is no way round a cut. A queue is charged when a frame is sent, not when
//! it gets there, so that one slow sender does not hold up others before a common receiver.

mod bucket;
mod config;
mod draw;
mod fate;
mod fault;
mod flow;
mod geography;
mod host;
mod loss;
mod nat;
mod order;
mod route;
mod rule;
mod table;
#[cfg(test)]
mod tests;

use lab_crdt_model::Mono;

pub use config::{Config, Profile};
pub use fate::{Counts, Dialled, Fate, Killed};
pub use fault::{Fault, Paths, Scope};
pub use geography::Region;
pub use host::{Access, Bandwidth, Host, Site};
pub use nat::{Filter, Gateway, Mapping, Nat};
pub use order::Inbox;

use bucket::Bucket;
use draw::draw;
use flow::{Flows, LANES, Route, Table64, pair};
use loss::{PACKET_BYTES, retransmission_ns};
use rule::{Hosts, NEVER, Rule};

const MS: u64 = 1_000_000;
const LOOPBACK_NS: u64 = 20_000;
/// A sender does not put more on a path than gets out within this; the rest waits with the sender.
const WINDOW_NS: u64 = 2_000 * MS;
/// Waiting senders are called at multiples of this, so that many are called at once.
const CALL_NS: u64 = 100 * MS;
const FLOW: u64 = 0x666c_6f77;

#[derive(Clone, Debug)]
struct Place {
    host: Host,
    up: Bucket,
    down: Bucket,
    last_out: Option<Mono>,
    /// When its box forgot everything.
    rebound_at: Mono,
    /// Living connections.
    open: u32,
}

/// What is remembered of two hosts that have dialled each other.
#[derive(Clone, Debug)]
struct Pair {
    dials: [u64; 2],
    /// Connections so far.
    connections: u64,
    /// When each last dialled the other: from then on its box lets the other one in.
    dialled_at: [Option<Mono>; 2],
    route: Route,
    /// Living direct connections.
    direct: u32,
}

impl Default for Pair {
    fn default() -> Self {
        Self {
            dials: [0; 2],
            connections: 0,
            dialled_at: [None; 2],
            route: Route::None,
            direct: 0,
        }
    }
}

/// All hosts and what lies between them. Hosts are numbered from zero in the order they were added; naming one that
/// was not is a panic. Memory grows with hosts, open connections and pairs that ever dialled, not with all pairs.
#[derive(Clone, Debug)]
pub struct Network {
    seed: u64,
    config: Config,
    places: Vec<Place>,
    rules: Vec<Rule>,
    /// Counts changes to the rules.
    version: u64,
    next_change: Mono,
    /// When a full path has room for a frame that waits.
    room_at: Mono,
    flows: Flows,
    pairs: Table64<u64, Pair>,
    counts: Counts,
}

impl Network {
    /// A network without hosts.
    pub fn new(seed: u64, config: Config) -> Self {
        Self {
            seed,
            config,
            places: Vec::new(),
            rules: Vec::new(),
            version: 0,
            next_change: NEVER,
            room_at: NEVER,
            flows: Flows::default(),
            pairs: Table64::default(),
            counts: Counts::default(),
        }
    }

    /// Adds a host; tells its index. [`Host::of`] knows the hosts of a profile.
    pub fn add_host(&mut self, host: Host) -> usize {
        let bandwidth = host
            .bandwidth
            .or(self.config.bandwidth)
            .unwrap_or(host.access.bandwidth());
        self.places.push(Place {
            host,
            up: Bucket::new(bandwidth.up),
            down: Bucket::new(bandwidth.down),
            last_out: None,
            rebound_at: Mono(0),
            open: 0,
        });
        self.places.len() - 1
    }

    /// How many hosts there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// A host.
    pub fn host(&self, index: usize) -> &Host {
        &self.places[index].host
    }

    /// The figures.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// What has happened so far.
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// How many connections are remembered.
    pub fn connections(&self) -> usize {
        self.flows.len()
    }

    /// What becomes of a frame of `bytes` bytes, sent now. Call in order of time. Frames of one connection, direction
    /// and lane arrive in the order of the calls, each at a later nanosecond. Lanes from the fourth on count as one.
    ///
    /// The first frame of a connection decides its route: that of the last dial of these hosts; without one, the best
    /// there is.
    pub fn send(
        &mut self,
        now: Mono,
        from: usize,
        to: usize,
        connection: u64,
        lane: u8,
        bytes: usize,
    ) -> Fate {
        if from == to {
            return Fate::Arrives(Mono(now.0 + LOOPBACK_NS));
        }
        if now >= self.next_change {
            self.settle(now);
        }
        let slot = match self.flows.find(from, to, connection) {
            Some(slot) => slot,
            None => self.add_flow(now, from, to, connection),
        };
        if self.flows.get(slot).version != self.version {
            self.refresh(now, slot);
        }
        let flow = self.flows.get_mut(slot);
        if flow.is_dead {
            self.counts.lost += 1;
            return Fate::Lost;
        }
        if now.0.saturating_sub(flow.last_used.0) > flow.expires_ns {
            return self.lose(slot);
        }
        let way = &mut flow.ways[usize::from(from > to)];
        if !way.lay.is_open {
            self.counts.stalled += 1;
            return Fate::Stalls;
        }
        flow.last_used = now;
        let (lane, bytes) = (usize::from(lane).min(LANES - 1), bytes as u64);
        let hash = way.draw(lane);
        let lay = &way.lay;
        let mut delay = lay.delay_ns(hash);
        if lay.loss != 0 {
            let packets = bytes / PACKET_BYTES + 1;
            let idle_ns = self.config.idle_ms * MS;
            let wait = retransmission_ns(hash, packets, lay.loss, lay.rto_ns, idle_ns);
            if wait > idle_ns {
                return self.lose(slot);
            }
            self.counts.resent += u64::from(wait != 0);
            delay += wait;
        }
        let backlog_ns = self.places[from].up.backlog_ns(now.0);
        let backlog_ns = backlog_ns.max(self.places[to].down.backlog_ns(now.0));
        let wire_ns = way.wire.wait_ns(now.0, bytes);
        if backlog_ns.max(wire_ns) > WINDOW_NS {
            if wire_ns > WINDOW_NS && way.awaiting.is_none() {
                way.wire.hold(now.0);
                way.awaiting = Some(lane as u8);
            }
            let room_at = now.0.saturating_add(backlog_ns.max(wire_ns) - WINDOW_NS);
            let room_at = Mono(room_at.div_ceil(CALL_NS).saturating_mul(CALL_NS));
            self.room_at = self.room_at.min(room_at);
            self.counts.stalled += 1;
            return Fate::Stalls;
        }
        let mut queue = way.wire.take(now.0, bytes);
        if way.awaiting == Some(lane as u8) {
            way.awaiting = None;
            way.wire.release();
        }
        let sender = &mut self.places[from];
        sender.last_out = Some(now);
        queue = queue.max(sender.up.take(now.0, bytes));
        queue = queue.max(self.places[to].down.take(now.0, bytes));
        let queue_max = self.config.queue_ms * MS;
        if queue > queue_max {
            // Sent again at each time-out until the queue has room; then it still waits for its turn.
            self.counts.overflowed += 1;
            queue = queue.max((queue - queue_max).div_ceil(lay.rto_ns) * lay.rto_ns);
        }
        self.counts.frames += 1;
        self.counts.bytes += bytes;
        Fate::Arrives(way.arrives(lane, now.0.saturating_add(delay).saturating_add(queue)))
    }

    /// Whether frames could get from one host to the other at `now`, on a connection made for it.
    pub fn is_open(&self, now: Mono, from: usize, to: usize) -> bool {
        from == to || !self.closes(now, from, to) && self.best_route(now, from, to) != Route::None
    }

    /// Whether this connection carries frames that way at `now`. To be asked when a frame arrives: if not, it is held
    /// and sent again. A connection not seen before is asked as by [`Network::is_open`].
    pub fn carries(&self, now: Mono, from: usize, to: usize, connection: u64) -> bool {
        let Some(slot) = self.flows.find(from, to, connection) else {
            return self.is_open(now, from, to);
        };
        let flow = self.flows.get(slot);
        if flow.is_dead {
            return false;
        }
        if flow.version == self.version && now < self.next_change {
            return flow.ways[usize::from(from > to)].lay.is_open;
        }
        !self.closes(now, from, to) && self.leads(now, from, to, flow.route)
    }

    /// Whether the connection lives, as far as the network is concerned; one not seen before does.
    pub fn is_alive(&self, a: usize, b: usize, connection: u64) -> bool {
        let slot = self.flows.find(a, b, connection);
        slot.is_none_or(|slot| !self.flows.get(slot).is_dead)
    }

    /// Whether the connection goes through a relay; one not seen before does not.
    pub fn is_relayed(&self, a: usize, b: usize, connection: u64) -> bool {
        let slot = self.flows.find(a, b, connection);
        slot.is_some_and(|slot| matches!(self.flows.get(slot).route, Route::Relayed(_)))
    }

    /// Forgets a connection that is over.
    pub fn close(&mut self, a: usize, b: usize, connection: u64) {
        if let Some(flow) = self.flows.remove(a, b, connection) {
            let route = flow.route;
            self.forget(a, b, route);
        }
    }

    /// Starts a fault, or heals. Tells which connections it killed, sorted; nobody else is told.
    pub fn apply(&mut self, now: Mono, fault: &Fault) -> Vec<Killed> {
        let mut bare = fault;
        while let Fault::For { fault, .. } = bare {
            bare = fault;
        }
        let killed = match bare {
            Fault::Heal { hosts: Scope::All } => {
                self.rules.clear();
                vec![]
            }
            Fault::Heal { hosts } => {
                let hosts = Hosts::new(hosts);
                for rule in &mut self.rules {
                    rule.heal(hosts.clone());
                }
                vec![]
            }
            Fault::NatRebind { hosts } => {
                let hosts = self.rebind(now, hosts);
                self.kill(|low, high, route| {
                    route == Route::Direct && (hosts.has(low) || hosts.has(high))
                })
            }
            Fault::CaptivePortal { hosts } => {
                let hosts = Hosts::new(hosts);
                self.kill(|low, high, _| hosts.has(low) || hosts.has(high))
            }
            _ => vec![],
        };
        self.rules.extend(Rule::new(now, fault, self.places.len()));
        self.settle(now);
        killed
    }

    /// When faults next open or close paths by themselves, or a full path has room again. Ask anew after each stall.
    pub fn next_change(&self) -> Option<Mono> {
        let at = self.next_change.min(self.room_at);
        (at != NEVER).then_some(at)
    }

    /// Lets timed faults go on. To be called at [`Network::next_change`]; paths may have room or be open since.
    pub fn tick(&mut self, now: Mono) {
        if now >= self.room_at {
            self.room_at = NEVER;
        }
        if now >= self.next_change {
            self.settle(now);
        }
    }

    /// Ends faults that are over, and has all paths looked at again; those who wait try anyway.
    fn settle(&mut self, now: Mono) {
        self.room_at = NEVER;
        self.rules.retain(|rule| !rule.is_over(now));
        self.version += 1;
        let next = self.rules.iter().map(|rule| rule.next_change(now)).min();
        self.next_change = next.unwrap_or(NEVER);
    }

    /// A connection dies under a frame.
    #[cold]
    fn lose(&mut self, slot: usize) -> Fate {
        let flow = self.flows.get_mut(slot);
        flow.is_dead = true;
        let (low, high, route) = (flow.low as usize, flow.high as usize, flow.route);
        self.forget(low, high, route);
        self.counts.lost += 1;
        Fate::Lost
    }

    /// Hosts whose box has forgotten everything; none without a box.
    fn rebind(&mut self, now: Mono, scope: &Scope) -> Hosts {
        let boxed = |(host, place): (usize, &Place)| {
            (place.host.nat != Nat::None && scope.contains(host)).then_some(host)
        };
        let hosts: Vec<usize> = self.places.iter().enumerate().filter_map(boxed).collect();
        for host in &hosts {
            let place = &mut self.places[*host];
            (place.last_out, place.rebound_at) = (None, now);
        }
        let hosts = Scope::Only(hosts.into_iter().collect());
        Hosts::new(&hosts)
    }

    fn kill(&mut self, is_hit: impl Fn(usize, usize, Route) -> bool) -> Vec<Killed> {
        let mut killed = Vec::new();
        for flow in self.flows.living() {
            let (low, high) = (flow.low as usize, flow.high as usize);
            if is_hit(low, high, flow.route) {
                flow.is_dead = true;
                let connection = flow.connection;
                killed.push((
                    Killed {
                        low,
                        high,
                        connection,
                    },
                    flow.route,
                ));
            }
        }
        killed.sort_unstable_by_key(|(killed, _)| *killed);
        for (killed, route) in &killed {
            self.forget(killed.low, killed.high, *route);
        }
        killed.into_iter().map(|(killed, _)| killed).collect()
    }

    /// Takes a connection that lived from the counts.
    fn forget(&mut self, a: usize, b: usize, route: Route) {
        for host in [a, b] {
            self.places[host].open -= 1;
        }
        if route == Route::Direct
            && let Some(entry) = self.pairs.get_mut(&pair(a, b))
        {
            entry.direct -= 1;
        }
    }

    #[cold]
    fn add_flow(&mut self, now: Mono, from: usize, to: usize, connection: u64) -> usize {
        let best = self.best_route(now, from, to);
        for host in [from, to] {
            self.places[host].open += 1;
        }
        let entry = self.pairs.entry(pair(from, to)).or_default();
        let route = if entry.route == Route::None {
            best
        } else {
            entry.route
        };
        entry.direct += u32::from(route == Route::Direct);
        let seed = draw(self.seed, FLOW, entry.connections);
        entry.connections += 1;
        self.flows.add(seed, (from, to), connection, route, now)
    }

    #[cold]
    fn refresh(&mut self, now: Mono, slot: usize) {
        let flow = self.flows.get(slot);
        let (low, high, route) = (flow.low as usize, flow.high as usize, flow.route);
        let lays = [
            self.lay(now, low, high, route),
            self.lay(now, high, low, route),
        ];
        let timeout_ns = [low, high]
            .map(|host| self.places[host].host.nat.timeout_ns())
            .into_iter()
            .min()
            .unwrap_or(u64::MAX);
        let keep_alive_ns = self.config.keep_alive_ms * MS;
        let is_kept = keep_alive_ns != 0 && keep_alive_ns < timeout_ns;
        let flow = self.flows.get_mut(slot);
        flow.version = self.version;
        flow.expires_ns = if route == Route::Direct && !is_kept {
            timeout_ns
        } else {
            u64::MAX
        };
        for (way, (lay, pace)) in flow.ways.iter_mut().zip(lays) {
            way.lay = lay;
            way.wire.set_pace(now.0, pace);
        }
    }
}
