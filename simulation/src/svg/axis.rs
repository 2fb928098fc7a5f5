//! Where a moment lies on the paper.

use crate::duration::words;

/// Round steps between two labels, milliseconds.
const STEPS: [u64; 20] = [
    10,
    50,
    100,
    500,
    1_000,
    2_000,
    5_000,
    10_000,
    30_000,
    60_000,
    120_000,
    300_000,
    600_000,
    1_800_000,
    3_600_000,
    14_400_000,
    43_200_000,
    86_400_000,
    432_000_000,
    2_592_000_000,
];
const TICKS_MAX: u64 = 12;

/// From time to the horizontal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    end_ms: u64,
    left: i64,
    right: i64,
}

impl Axis {
    /// From 0 to `end_ms`, between two abscissae.
    pub(super) fn new(end_ms: u64, left: i64, right: i64) -> Self {
        Self {
            end_ms: end_ms.max(1),
            left,
            right,
        }
    }

    /// Where a moment lies; what is past the end lies on it.
    pub(super) fn x(self, at_ms: u64) -> i64 {
        let wide = (self.right - self.left) as u128;
        let along = u128::from(at_ms.min(self.end_ms)) * wide / u128::from(self.end_ms);
        self.left + along as i64
    }

    /// Begin and width of a stretch, wide enough to be seen.
    pub(super) fn stretch(self, from_ms: u64, to_ms: u64) -> (i64, i64) {
        let x = self.x(from_ms);
        (x, (self.x(to_ms) - x).max(2))
    }

    /// Labels at round moments.
    pub(super) fn ticks(self) -> Vec<(i64, String)> {
        let is_few = |step: &u64| self.end_ms / step <= TICKS_MAX;
        let step = STEPS.into_iter().find(is_few).unwrap_or(self.end_ms);
        (0..=self.end_ms / step)
            .map(|n| {
                let label = if n == 0 {
                    "0".to_owned()
                } else {
                    words(n * step)
                };
                (self.x(n * step), label)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_round_and_few_at_every_length() {
        for end in [
            1,
            900,
            61_000,
            720_000,
            3_600_000,
            86_400_000,
            31 * 86_400_000,
            u64::MAX,
        ] {
            let ticks = Axis::new(end, 100, 1_100).ticks();
            assert!((1..=14).contains(&ticks.len()), "{end}: {ticks:?}");
            assert!(
                ticks.windows(2).all(|w| w[1].0 - w[0].0 > 40),
                "{end}: {ticks:?}"
            );
        }
        let labels: Vec<String> = Axis::new(720_000, 0, 1_000)
            .ticks()
            .into_iter()
            .map(|t| t.1)
            .collect();
        assert_eq!(labels[..3], ["0", "1 min", "2 min"]);
    }

    #[test]
    fn a_short_stretch_can_still_be_seen() {
        let axis = Axis::new(86_400_000, 0, 1_000);
        assert_eq!(axis.stretch(43_200_000, 43_200_001), (500, 2));
    }
}
