//! Which way leads from host to host, how long it is, and what a dial makes of it.

use lab_crdt_model::Mono;

use super::bucket::Pace;
use super::draw::draw;
use super::flow::{Lay, Route, pair};
use super::geography::Region;
use super::host::Host;
use super::loss::retransmission_ns;
use super::nat::{Nat, can_punch};
use super::rule::Burden;
use super::table::Table;
use super::{Dialled, LOOPBACK_NS, MS, Network};

/// What a relay takes to pass a frame on.
const RELAY_NS: u64 = 500_000;
/// How long a receiver may wait with its acknowledgement.
const ACK_NS: u64 = 25 * MS;
/// A dial sends its first packet again after this, then after twice as long, and so on.
const DIAL_RTO_MS: u64 = 1_000;
const CAPTIVE_MS: u64 = 200;
const DIAL: u64 = 0x6469_616c;

impl Network {
    /// What becomes of a dial that starts now. It takes a round trip, and some more where a relay must introduce the
    /// two; it is tried again until the time-out, so a path that is known to open in time is found.
    ///
    /// Whether it is direct, relayed or in vain depends on the boxes at both ends: a host with an open box is simply
    /// called. All others must send at the same time, which a relay arranges; without a relay it works only if the
    /// other end has dialled lately, or is connected already.
    pub fn dial(&mut self, now: Mono, from: usize, to: usize) -> Dialled {
        if from == to {
            return Dialled::Answers {
                at: Mono(now.0 + LOOPBACK_NS),
                is_relayed: false,
            };
        }
        if now >= self.next_change {
            self.settle(now);
        }
        let side = usize::from(from > to);
        let entry = self.pairs.entry(pair(from, to)).or_default();
        let nth = entry.dials[side];
        entry.dials[side] += 1;
        let timeout = now.plus_ms(self.config.dial_timeout_ms);
        entry.dialled_at[side] = Some(now);
        self.places[from].last_out = Some(now);
        if self.rules.iter().any(|r| r.is_captive(now, from, to)) {
            return Dialled::Fails {
                at: now.plus_ms(CAPTIVE_MS),
                why: "a login page answers",
            };
        }
        let hash = draw(draw(self.seed, DIAL, pair(from, to)), side as u64, nth);
        let mut why = "no answer";
        let mut offset_ms = 0;
        while offset_ms < self.config.dial_timeout_ms {
            let at = now.plus_ms(offset_ms);
            let hash = draw(hash, 1, offset_ms);
            offset_ms = offset_ms * 2 + DIAL_RTO_MS;
            if self.closes(at, from, to) || self.closes(at, to, from) {
                continue;
            }
            let (route, is_introduced) = self.route_of_dial(at, from, to);
            if route == Route::None {
                why = "no relay, and no direct path";
                continue;
            }
            let took = self.handshake_ns(at, from, to, route, is_introduced, hash);
            let at = Mono(at.0.saturating_add(took));
            if at >= timeout {
                continue;
            }
            self.pairs.entry(pair(from, to)).or_default().route = route;
            return Dialled::Answers {
                at,
                is_relayed: matches!(route, Route::Relayed(_)),
            };
        }
        Dialled::Fails { at: timeout, why }
    }

    pub(super) fn closes(&self, now: Mono, from: usize, to: usize) -> bool {
        self.rules.iter().any(|rule| rule.closes(now, from, to))
    }

    fn blocks_udp(&self, now: Mono, from: usize, to: usize) -> bool {
        self.rules.iter().any(|rule| rule.blocks_udp(now, from, to))
    }

    fn downs_relay(&self, now: Mono, relay: usize, from: usize, to: usize) -> bool {
        let mut rules = self.rules.iter();
        rules.any(|rule| rule.downs_relay(now, relay, from, to))
    }

    /// A route that was chosen still leads there, cuts aside.
    pub(super) fn leads(&self, now: Mono, from: usize, to: usize, route: Route) -> bool {
        match route {
            Route::Local | Route::Direct => !self.blocks_udp(now, from, to),
            Route::Relayed(relay) => !self.downs_relay(now, usize::from(relay), from, to),
            Route::None => false,
        }
    }

    /// The relay next to the one who is called.
    fn relay(&self, now: Mono, from: usize, to: usize) -> Option<u16> {
        let region = self.places[to].host.site.region;
        let relays = self.config.relays.iter().zip(0_u16..);
        relays
            .filter(|(_, relay)| !self.downs_relay(now, usize::from(*relay), from, to))
            .min_by_key(|(at, relay)| (region.km(**at), *relay))
            .map(|(_, relay)| relay)
    }

    /// The boxes let the two meet, if both send at once.
    fn can_meet(&self, from: usize, to: usize) -> bool {
        let (a, b) = (&self.places[from].host, &self.places[to].host);
        let is_hairpin = |host: &Host| host.nat.gateway().is_some_and(|g| g.is_hairpin);
        can_punch(a.nat, b.nat) && (!a.needs_hairpin(b) || is_hairpin(a) && is_hairpin(b))
    }

    /// The best route, once the two have been introduced.
    pub(super) fn best_route(&self, now: Mono, from: usize, to: usize) -> Route {
        if !self.blocks_udp(now, from, to) {
            if self.places[from].host.is_beside(&self.places[to].host) {
                return Route::Local;
            }
            if self.can_meet(from, to) {
                return Route::Direct;
            }
        }
        self.relay(now, from, to)
            .map_or(Route::None, Route::Relayed)
    }

    /// The route of a dial, and whether a relay must introduce the two.
    fn route_of_dial(&self, now: Mono, from: usize, to: usize) -> (Route, bool) {
        let route = self.best_route(now, from, to);
        if route != Route::Direct || self.lets_in(now, from, to) {
            return (route, false);
        }
        match self.relay(now, from, to) {
            Some(_) => (Route::Direct, true),
            None => (Route::None, false),
        }
    }

    /// The box of `to` lets in what `from` sends, with no help.
    fn lets_in(&self, now: Mono, from: usize, to: usize) -> bool {
        let place = &self.places[to];
        if place.host.nat == Nat::None {
            return true;
        }
        let timeout_ns = place.host.nat.timeout_ns();
        let keep_alive_ns = self.config.keep_alive_ms * MS;
        let is_kept = place.open > 0 && keep_alive_ns != 0 && keep_alive_ns < timeout_ns;
        let is_fresh = place
            .last_out
            .is_some_and(|at| now.0.saturating_sub(at.0) <= timeout_ns);
        if place.host.nat.is_open_to_strangers() && (is_kept || is_fresh) {
            return true;
        }
        let entry = self.pairs.get(&pair(from, to));
        entry.is_some_and(|entry| {
            // Until the dial gave up it kept the hole open; from then on the box counts.
            let dialled_at = entry.dialled_at[usize::from(to > from)];
            let open_ns = timeout_ns.saturating_add(self.config.dial_timeout_ms * MS);
            let is_punched = dialled_at
                .is_some_and(|at| at > place.rebound_at && now.0.saturating_sub(at.0) <= open_ns);
            entry.direct > 0 || is_punched
        })
    }

    /// What a direction is like now, and what it carries.
    pub(super) fn lay(&self, now: Mono, from: usize, to: usize, route: Route) -> (Lay, Pace) {
        if self.closes(now, from, to) || !self.leads(now, from, to, route) {
            return Default::default();
        }
        let (a, b) = (&self.places[from].host, &self.places[to].host);
        let mut burden = Burden {
            fixed_ns: self.config.latency_us * 1_000,
            spread_ns: self.config.jitter_us * 1_000,
            loss: self.config.loss_per_mille,
            bytes_per_s: self.config.path_bytes_per_s,
        };
        burden.lose(a.access.loss_per_mille());
        burden.lose(b.access.loss_per_mille());
        for rule in &self.rules {
            rule.weigh(now, from, to, &mut burden);
        }
        let mut tables = [
            a.access.table(),
            b.access.table(),
            Table::Nothing,
            Table::Nothing,
        ];
        match route {
            Route::Local | Route::None => {}
            Route::Direct => {
                let (table, ns) = across(a.site.region, b.site.region);
                tables[2] = table;
                burden.fixed_ns += ns;
            }
            Route::Relayed(relay) => {
                let relay = self.config.relays[usize::from(relay)];
                let (up, up_ns) = across(a.site.region, relay);
                let (down, down_ns) = across(relay, b.site.region);
                (tables[2], tables[3]) = (up, down);
                burden.fixed_ns += up_ns + RELAY_NS + down_ns;
            }
        }
        let mut lay = Lay {
            is_open: true,
            fixed_ns: burden.fixed_ns,
            spread_ns: burden.spread_ns,
            tables,
            rto_ns: 0,
            loss: burden.loss.min(999),
        };
        lay.rto_ns = 3 * lay.typical_ns() + ACK_NS;
        (lay, Pace::new(burden.bytes_per_s))
    }

    /// A round trip with its losses; before it, where the two are introduced, a message through the relay.
    fn handshake_ns(
        &self,
        now: Mono,
        from: usize,
        to: usize,
        route: Route,
        is_introduced: bool,
        hash: u64,
    ) -> u64 {
        let mut legs = vec![(from, to, route), (to, from, route)];
        if is_introduced && let Some(relay) = self.relay(now, from, to) {
            legs.push((from, to, Route::Relayed(relay)));
        }
        let (rto_ns, limit_ns) = (DIAL_RTO_MS * MS, self.config.dial_timeout_ms * MS);
        let legs = legs.into_iter().zip(1..);
        legs.map(|((from, to, route), leg)| {
            let (lay, _) = self.lay(now, from, to, route);
            let hash = draw(hash, 2, leg);
            let wait = retransmission_ns(hash, 1, lay.loss, rto_ns, limit_ns);
            lay.delay_ns(hash).saturating_add(wait)
        })
        .fold(0, u64::saturating_add)
    }
}

/// What lies between two regions: a table, and nanoseconds beside it.
fn across(from: Region, to: Region) -> (Table, u64) {
    if from == to {
        (Table::Metro, 0)
    } else {
        (Table::Backbone, from.one_way_ns(to))
    }
}
