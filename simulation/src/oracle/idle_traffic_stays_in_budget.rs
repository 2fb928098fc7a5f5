//! While nothing happens, nodes send next to nothing.

use lab_crdt_model::Mono;

use crate::oracle::evidence::Quiet;
use crate::oracle::{Limits, Note, Oracle, Seen, Verdict};

#[derive(Debug)]
pub(super) struct IdleTraffic {
    quiet_ms: u64,
    window_ms: u64,
    bytes_per_s: u64,
    quiet: Quiet,
    /// When the window began and what all nodes had sent by then.
    window: Option<(Mono, u64)>,
}

impl IdleTraffic {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            quiet_ms: limits.quiet_ms,
            window_ms: limits.window_ms.max(1),
            bytes_per_s: limits.idle_bytes_per_s,
            quiet: Quiet::default(),
            window: None,
        }
    }

    fn sent(seen: &dyn Seen) -> u64 {
        (0..seen.count()).map(|n| seen.counters(n).bytes_out).sum()
    }
}

impl Oracle for IdleTraffic {
    fn name(&self) -> &'static str {
        "idle_traffic_stays_in_budget"
    }

    fn note(&mut self, _seen: &mut dyn Seen, note: &Note) -> Verdict {
        self.quiet.note(note);
        Ok(())
    }

    fn sample(&mut self, seen: &mut dyn Seen) -> Verdict {
        let now = seen.now();
        let up = (0..seen.count()).filter(|n| seen.is_up(*n)).count() as u64;
        if self.quiet.ms(now) < self.quiet_ms || up == 0 {
            self.window = None;
            return Ok(());
        }
        let (from, before) = *self.window.get_or_insert((now, Self::sent(seen)));
        let ms = now.ms_since(from);
        if ms < self.window_ms {
            return Ok(());
        }
        let sent = Self::sent(seen) - before;
        self.window = None;
        if sent * 1000 > self.bytes_per_s * up * ms {
            let what = format!(
                "expected at most {} bytes per second and node while nothing happens, seen {} over {} s on {up} nodes",
                self.bytes_per_s,
                sent * 1000 / (up * ms),
                ms / 1000
            );
            return self.broken(seen, None, what);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::fake::{Fake, note};
    use crate::oracle::{Harm, What};

    fn quiet(bytes_per_s: u64, is_broken: bool) -> Verdict {
        let mut fake = Fake::new(2);
        let mut oracle = IdleTraffic::new(&Limits::default());
        let first = if is_broken {
            What::Broken(Harm::Network)
        } else {
            What::Started
        };
        oracle.note(&mut fake, &note(0, first))?;
        for _ in 0..200 {
            fake.pass_ms(1_000);
            fake.node(0).counters.bytes_out += 2 * bytes_per_s;
            oracle.sample(&mut fake)?;
        }
        Ok(())
    }

    #[test]
    fn a_mesh_that_talks_without_cause_is_noticed() {
        assert!(quiet(1_000, false).is_ok());
        assert!(quiet(1_100, false).is_err());
        assert!(quiet(9_000, true).is_ok());
    }
}
