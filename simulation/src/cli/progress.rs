//! One line on a terminal that says how far a run is.
#![expect(
    clippy::disallowed_methods,
    reason = "how fast the simulator runs is told in real time"
)]

use std::time::{Duration, Instant};

use super::ui::Ui;
use crate::duration::words;

/// Time between two lines.
const EVERY: Duration = Duration::from_millis(200);

/// How far a run is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Reach {
    /// Virtual milliseconds since the run began.
    pub(crate) virtual_ms: u64,
    /// Nodes in it.
    pub(crate) nodes: u64,
    /// Inputs handled so far.
    pub(crate) events: u64,
    /// Violations so far.
    pub(crate) violations: u64,
}

/// The line.
#[derive(Debug)]
pub(crate) struct Progress<'a> {
    ui: &'a Ui,
    began: Instant,
    drawn: Option<Instant>,
}

impl<'a> Progress<'a> {
    /// Begins now.
    pub(crate) fn new(ui: &'a Ui) -> Self {
        Self {
            ui,
            began: Instant::now(),
            drawn: None,
        }
    }

    /// Shows how far it is, now and then.
    pub(crate) fn tick(&mut self, reach: Reach) {
        let now = Instant::now();
        if !self.ui.is_watched() || self.drawn.is_some_and(|at| now - at < EVERY) {
            return;
        }
        self.drawn = Some(now);
        let line = line(reach, self.began.elapsed());
        self.ui.err(&format!("\r\x1b[2K{line}"));
    }

    /// Takes the line away; returns the real time that passed.
    pub(crate) fn done(self) -> Duration {
        if self.drawn.is_some() {
            self.ui.err("\r\x1b[2K");
        }
        self.began.elapsed()
    }
}

/// How long something takes in real time.
pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let began = Instant::now();
    let out = work();
    (out, began.elapsed())
}

/// Whether so many real milliseconds are over, from now on.
pub(crate) fn until(ms: u64) -> impl FnMut() -> bool {
    let began = Instant::now();
    move || began.elapsed() >= Duration::from_millis(ms)
}

fn line(reach: Reach, real: Duration) -> String {
    let real_ms = (real.as_millis() as u64).max(1);
    let rate = |count: u64| short(count.saturating_mul(1_000) / real_ms);
    let node_seconds = reach.virtual_ms / 1_000 * reach.nodes;
    let bad = match reach.violations {
        0 => String::new(),
        1 => "  1 violation".to_owned(),
        n => format!("  {n} violations"),
    };
    format!(
        "{:>14}  {}× real  {} node-s/s  {} events/s{bad}",
        words(reach.virtual_ms),
        short(reach.virtual_ms / real_ms),
        rate(node_seconds),
        rate(reach.events)
    )
}

/// A number in three digits or so: `950`, `12.3k`, `4.5M`.
pub(crate) fn short(n: u64) -> String {
    match n {
        0..1_000 => n.to_string(),
        1_000..1_000_000 => format!("{}.{}k", n / 1_000, n % 1_000 / 100),
        1_000_000..1_000_000_000 => format!("{}.{}M", n / 1_000_000, n % 1_000_000 / 100_000),
        _ => format!("{}.{}G", n / 1_000_000_000, n % 1_000_000_000 / 100_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_tells_time_speed_and_what_is_wrong() {
        let reach = Reach {
            virtual_ms: 600_000,
            nodes: 10,
            events: 123_456,
            violations: 1,
        };
        let text = line(reach, Duration::from_millis(500));
        assert_eq!(
            text,
            "        10 min  1.2k× real  12.0k node-s/s  246.9k events/s  1 violation"
        );
        assert!(line(Reach::default(), Duration::ZERO).contains("0× real"));
    }
}
