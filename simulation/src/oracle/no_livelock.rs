//! Nobody works without end for nothing: steps per second, and pulls while no replica changes.

use std::collections::BTreeMap;

use lab_crdt_model::Mono;

use crate::oracle::{Counters, Digests, Limits, Oracle, Seen, Verdict};

#[derive(Debug)]
struct Window {
    from: Mono,
    counters: Counters,
    digests: Option<Digests>,
    /// Whether statements or reports changed in it.
    has_news: bool,
}

#[derive(Debug)]
pub(super) struct Livelock {
    window_ms: u64,
    steps_per_s: u64,
    pulls_per_s: u64,
    windows: BTreeMap<usize, Window>,
}

impl Livelock {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            window_ms: limits.window_ms.max(1),
            steps_per_s: limits.steps_per_s,
            pulls_per_s: limits.pulls_per_s,
            windows: BTreeMap::new(),
        }
    }
}

impl Oracle for Livelock {
    fn name(&self) -> &'static str {
        "no_livelock"
    }

    fn sample(&mut self, seen: &mut dyn Seen) -> Verdict {
        let now = seen.now();
        for node in 0..seen.count() {
            // What a machine of an adversary sends is its own affair.
            if !seen.is_up(node) {
                self.windows.remove(&node);
                continue;
            }
            let (counters, digests) = (seen.counters(node), seen.digests(node));
            let window = self.windows.entry(node).or_insert_with(|| Window {
                from: now,
                counters,
                digests,
                has_news: false,
            });
            window.has_news |= window.digests != digests;
            let ms = now.ms_since(window.from);
            if ms < self.window_ms {
                continue;
            }
            let steps = (counters.steps - window.counters.steps) * 1000 / ms;
            let pulls = (counters.pulls - window.counters.pulls) * 1000 / ms;
            let has_news = window.has_news;
            *window = Window {
                from: now,
                counters,
                digests,
                has_news: false,
            };
            if steps > self.steps_per_s {
                let what = format!(
                    "expected at most {} inputs per second over {} s, seen {steps}",
                    self.steps_per_s,
                    ms / 1000
                );
                return self.broken(seen, Some(node), what);
            }
            if !has_news && pulls > self.pulls_per_s {
                let what = format!(
                    "expected at most {} messages of pull per second while nothing is new, seen {pulls} over {} s with digest {}",
                    self.pulls_per_s,
                    ms / 1000,
                    digests.map_or("none".to_owned(), |d| super::short(&d.statements))
                );
                return self.broken(seen, Some(node), what);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::fake::Fake;

    fn work(steps: u64, pulls: u64, has_news: bool) -> Verdict {
        works(true, steps, pulls, has_news)
    }

    fn works(is_up: bool, steps: u64, pulls: u64, has_news: bool) -> Verdict {
        let mut fake = Fake::new(1);
        fake.node(0).is_up = is_up;
        let mut oracle = Livelock::new(&Limits::default());
        for n in 0..130u8 {
            fake.pass_ms(1_000);
            fake.node(0).counters.steps += steps;
            fake.node(0).counters.pulls += pulls;
            if has_news {
                fake.node(0).digests.statements = [n; 32];
            }
            oracle.sample(&mut fake)?;
        }
        Ok(())
    }

    #[test]
    fn work_without_end_is_noticed() {
        assert!(work(500, 5, false).is_ok());
        assert!(work(2_500, 5, true).is_err());
        assert!(work(500, 50, false).is_err());
        assert!(work(500, 50, true).is_ok());
        assert!(works(false, 2_500, 50, false).is_ok());
    }
}
