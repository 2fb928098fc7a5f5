//! How long frames take in the world of tests: a uniform spread, or nineteen regions of the earth; with loss.

use rand_chacha::ChaCha12Rng;
use rand_core::Rng;

use crate::backoff::below;

const US: u64 = 1_000;
const MS: u64 = 1_000_000;

/// Latitude and longitude of nineteen regions that clouds sell, degrees.
const REGIONS: [(f64, f64); 19] = [
    (50.1, 8.7),
    (51.5, -0.1),
    (48.9, 2.4),
    (59.3, 18.1),
    (40.4, -3.7),
    (52.2, 21.0),
    (39.0, -77.5),
    (41.9, -87.6),
    (32.8, -96.8),
    (37.4, -121.9),
    (43.7, -79.4),
    (-23.5, -46.6),
    (-33.4, -70.6),
    (-26.2, 28.0),
    (19.1, 72.9),
    (1.3, 103.8),
    (35.7, 139.7),
    (22.3, 114.2),
    (-33.9, 151.2),
];

/// Latencies and losses.
#[derive(Clone, Debug)]
pub struct Paths {
    /// One way between nodes of no region: from, to, milliseconds, anew for each frame.
    pub spread_ms: (u64, u64),
    /// One way between regions, microseconds; empty without geography.
    table_us: Vec<u64>,
    /// Packets lost of a thousand, each sent again after a round trip and a half and 25 ms.
    pub loss_per_mille: u64,
}

impl Paths {
    /// One way between 1 and 20 ms, nothing lost.
    pub const fn near() -> Self {
        Self {
            spread_ms: (1, 20),
            table_us: Vec::new(),
            loss_per_mille: 0,
        }
    }

    /// One way between 1 and about 135 ms by the distance of regions, at which nodes lie in turn.
    pub fn earth(loss_per_mille: u64) -> Self {
        let one_way = |a: &(f64, f64), b: &(f64, f64)| {
            let [la, lb] = [a.0.to_radians(), b.0.to_radians()];
            let turn = (b.1 - a.1).to_radians();
            let cosine = la.sin() * lb.sin() + la.cos() * lb.cos() * turn.cos();
            let km = 6_371.0 * cosine.clamp(-1.0, 1.0).acos();
            // A round trip of 4 ms and 1 ms per 75 km, which is what public measurements of clouds come to.
            (2_000.0 + km / 150.0 * 1_000.0) as u64
        };
        let table_us = REGIONS
            .iter()
            .flat_map(|a| REGIONS.iter().map(move |b| one_way(a, b)))
            .collect();
        Self {
            spread_ms: (1, 1),
            table_us,
            loss_per_mille,
        }
    }

    /// Nanoseconds one way, if nothing is lost.
    pub(crate) fn one_way(&self, a: usize, b: usize, rng: &mut ChaCha12Rng) -> u64 {
        let n = REGIONS.len();
        match self.table_us.get(a % n * n + b % n) {
            Some(us) => us * US + below(rng, US * 500),
            None => {
                let (min, max) = self.spread_ms;
                min * MS + below(rng, (max - min) * MS + 1)
            }
        }
    }

    /// Nanoseconds until a frame has arrived.
    pub(crate) fn arrival(&self, a: usize, b: usize, packets: u64, rng: &mut ChaCha12Rng) -> u64 {
        let one_way = self.one_way(a, b, rng);
        if self.loss_per_mille == 0 {
            return one_way;
        }
        let again = one_way * 3 + 25 * MS;
        let mut latest = 0;
        for _ in 0..packets {
            let (mut late, mut wait) = (0, again);
            while rng.next_u64() % 1_000 < self.loss_per_mille && late < 60_000 * MS {
                late += wait;
                wait *= 2;
            }
            latest = latest.max(late);
        }
        one_way + latest
    }
}
