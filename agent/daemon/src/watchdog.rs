//! Ends the process when its one loop no longer turns, so that the service manager starts a fresh one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

/// How often the watchdog looks.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// How many looks in a row must have seen no turn: 30 s.
///
/// Looks are counted, not seconds, because a process that was stopped or slept with its machine finds much time
/// gone and no turn made; it had no chance, and gets one.
const LOOKS_MAX: u32 = 6;

/// The pulse of a loop: who owns it calls [`beat`](Self::beat) once a turn.
#[derive(Debug)]
pub(crate) struct Pulse {
    turns: Arc<AtomicU64>,
    is_paused: Arc<AtomicBool>,
    /// Ends the watchdog when dropped.
    _alive: Sender<()>,
}

impl Pulse {
    /// The loop turned.
    pub(crate) fn beat(&self) {
        self.turns.fetch_add(1, Ordering::Relaxed);
    }

    /// The loop is over and what follows has its own bound.
    pub(crate) fn pause(&self) {
        self.is_paused.store(true, Ordering::Relaxed);
    }
}

/// Starts a watchdog that aborts the process.
///
/// # Errors
/// When the system gives no thread.
pub(crate) fn start() -> std::io::Result<Pulse> {
    start_with(LOOK_INTERVAL, || {
        tracing::error!("the loop has not turned for 30 s: aborting");
        std::process::abort()
    })
}

fn start_with(
    interval: Duration,
    on_stuck: impl FnOnce() + Send + 'static,
) -> std::io::Result<Pulse> {
    let turns = Arc::new(AtomicU64::new(0));
    let is_paused = Arc::new(AtomicBool::new(false));
    let (alive, gone) = channel();
    let watched = (Arc::clone(&turns), Arc::clone(&is_paused));
    thread::Builder::new()
        .name("watchdog".to_owned())
        .stack_size(128 * 1024)
        .spawn(move || {
            let (turns, is_paused) = watched;
            let mut watch = Watch::default();
            while gone.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                if watch.is_stuck(turns.load(Ordering::Relaxed))
                    && !is_paused.load(Ordering::Relaxed)
                {
                    return on_stuck();
                }
            }
        })?;
    Ok(Pulse {
        turns,
        is_paused,
        _alive: alive,
    })
}

/// Counts looks without a turn.
#[derive(Debug, Default)]
struct Watch {
    seen: u64,
    looks: u32,
}

impl Watch {
    fn is_stuck(&mut self, turns: u64) -> bool {
        if turns == self.seen {
            self.looks += 1;
        } else {
            *self = Self {
                seen: turns,
                looks: 0,
            };
        }
        self.looks >= LOOKS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_looks_in_a_row_without_a_turn_count() {
        let mut watch = Watch::default();
        let mut looks = |turns: &[u64]| turns.iter().any(|t| watch.is_stuck(*t));

        assert!(!looks(&[0, 0, 0, 0, 0]));
        assert!(!looks(&[1, 1, 1, 1, 1, 1]));
        assert!(!looks(&[2, 2, 2, 2, 2, 2]));
        assert!(looks(&[2]));
    }

    #[test]
    fn a_loop_that_stands_still_is_ended() {
        let (stuck, told) = channel();
        let pulse = start_with(Duration::from_millis(1), move || stuck.send(()).unwrap()).unwrap();
        pulse.beat();

        told.recv_timeout(Duration::from_secs(20)).unwrap();
    }

    #[test]
    fn the_watchdog_leaves_with_its_loop() {
        let (stuck, told) = channel::<()>();
        let pulse = start_with(Duration::from_secs(3600), move || drop(stuck)).unwrap();

        drop(pulse);

        // The thread drops its end of the channel when it leaves.
        assert_eq!(
            told.recv_timeout(Duration::from_secs(20)),
            Err(RecvTimeoutError::Disconnected)
        );
    }
}
