//! Delays as integer inverse distribution functions: 1024 points each, no floats, no logarithms.
//!
//! A draw picks one of the 1024 points. Between the quantiles given here the points lie on straight lines. Figures
//! are rounded from what is commonly measured; they are one way, from a host to its first router (`Wired`, `Wifi`,
//! `Lte`, `Satellite`) or across what lies between two routers (`Metro`, `Backbone`).
//!
//! | table | p50 | p90 | p99 | largest |
//! |---|---|---|---|---|
//! | `Wired` | 100 µs | 180 µs | 400 µs | 2 ms |
//! | `Wifi` | 1.5 ms | 5 ms | 25 ms | 120 ms |
//! | `Lte` | 22 ms | 45 ms | 120 ms | 800 ms |
//! | `Satellite` (geostationary) | 290 ms | 340 ms | 420 ms | 1.2 s |
//! | `Metro` | 3 ms | 5 ms | 9 ms | 30 ms |
//! | `Backbone` (beside the time of the distance) | 200 µs | 900 µs | 4 ms | 40 ms |

/// How many points a table has.
pub(super) const POINTS: usize = 1024;

/// Which table a part of a path draws from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub(super) enum Table {
    #[default]
    Nothing,
    Wired,
    Wifi,
    Lte,
    Satellite,
    Metro,
    Backbone,
}

/// Quantiles in microseconds: the least, p10, p50, p90, p99, p99.9 and the largest.
const QUANTILES: [[u32; 7]; 7] = [
    [0, 0, 0, 0, 0, 0, 0],
    [40, 70, 100, 180, 400, 1_000, 2_000],
    [500, 900, 1_500, 5_000, 25_000, 60_000, 120_000],
    [10_000, 15_000, 22_000, 45_000, 120_000, 350_000, 800_000],
    [
        255_000, 270_000, 290_000, 340_000, 420_000, 700_000, 1_200_000,
    ],
    [1_000, 2_000, 3_000, 5_000, 9_000, 16_000, 30_000],
    [0, 50, 200, 900, 4_000, 12_000, 40_000],
];

/// Where those quantiles lie among the points.
const PLACES: [usize; 7] = [0, 102, 511, 921, 1013, 1022, 1023];

const fn fill() -> [[u32; POINTS]; 7] {
    let mut tables = [[0; POINTS]; 7];
    let mut t = 0;
    while t < tables.len() {
        let mut q = 0;
        while q + 1 < PLACES.len() {
            let (from, to) = (PLACES[q], PLACES[q + 1]);
            let (low, high) = (QUANTILES[t][q] as u64, QUANTILES[t][q + 1] as u64);
            let mut i = from;
            while i <= to {
                let us_1000 =
                    low * 1000 + (high - low) * 1000 * (i - from) as u64 / (to - from) as u64;
                tables[t][i] = us_1000 as u32;
                i += 1;
            }
            q += 1;
        }
        t += 1;
    }
    tables
}

/// All tables, in nanoseconds.
static TABLES: [[u32; POINTS]; 7] = fill();

impl Table {
    /// The delay at one of the points, in nanoseconds; the low ten bits of `point` count.
    #[inline]
    pub(super) fn at(self, point: u64) -> u64 {
        u64::from(TABLES[self as usize][point as usize % POINTS])
    }

    /// The median, in nanoseconds.
    pub(super) fn median(self) -> u64 {
        self.at(511)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::draw::draw;

    const ALL: [Table; 6] = [
        Table::Wired,
        Table::Wifi,
        Table::Lte,
        Table::Satellite,
        Table::Metro,
        Table::Backbone,
    ];

    #[test]
    fn every_table_rises() {
        for table in ALL {
            for i in 1..POINTS as u64 {
                assert!(table.at(i) >= table.at(i - 1), "{table:?} at {i}");
            }
        }
    }

    #[test]
    fn drawn_quantiles_are_the_documented_ones() {
        for (table, p50_us, p90_us, p99_us, max_us) in [
            (Table::Wired, 100, 180, 400, 2_000),
            (Table::Wifi, 1_500, 5_000, 25_000, 120_000),
            (Table::Lte, 22_000, 45_000, 120_000, 800_000),
            (Table::Satellite, 290_000, 340_000, 420_000, 1_200_000),
            (Table::Metro, 3_000, 5_000, 9_000, 30_000),
            (Table::Backbone, 200, 900, 4_000, 40_000),
        ] {
            let mut drawn: Vec<u64> = (0..200_000).map(|n| table.at(draw(7, 1, n))).collect();
            drawn.sort_unstable();
            for (per_mille, us) in [(500, p50_us), (900, p90_us), (990, p99_us)] {
                let got = drawn[drawn.len() * per_mille / 1000] / 1000;
                assert!(
                    got.abs_diff(us) * 100 <= us * 6,
                    "{table:?} p{per_mille}: {got} µs, not {us}"
                );
            }
            assert_eq!(drawn.last().copied(), Some(max_us * 1000), "{table:?}");
        }
    }
}
