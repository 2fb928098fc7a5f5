//! Time for the edge: what a person's machine believes, and how long a command has run.

use std::time::{Duration, UNIX_EPOCH};

use lab_crdt_model::Wall;

/// The wall clock of this machine.
#[expect(
    clippy::disallowed_methods,
    reason = "the command line is a driver: time enters here"
)]
pub(crate) fn wall() -> Wall {
    let since = std::time::SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Wall(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// A stopwatch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopwatch(std::time::Instant);

impl Stopwatch {
    /// Starts now.
    #[expect(
        clippy::disallowed_methods,
        reason = "the command line is a driver: time enters here"
    )]
    pub(crate) fn start() -> Self {
        Self(std::time::Instant::now())
    }

    /// How long it has run.
    pub(crate) fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}
