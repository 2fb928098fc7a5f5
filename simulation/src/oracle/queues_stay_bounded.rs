//! Nothing piles up: happenings of the world, statements that wait for others.

use lab_agent_core::ViewMask;

use crate::oracle::evidence::Rota;
use crate::oracle::{Limits, Oracle, Seen, Verdict};

#[derive(Debug)]
pub(super) struct Queues {
    per_node: u64,
    pending_max: u64,
    rota: Rota,
}

impl Queues {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            per_node: limits.queue_per_node,
            pending_max: limits.pending_max,
            rota: Rota::default(),
        }
    }
}

impl Oracle for Queues {
    fn name(&self) -> &'static str {
        "queues_stay_bounded"
    }

    fn sample(&mut self, seen: &mut dyn Seen) -> Verdict {
        let (have, most) = (
            seen.queue_len() as u64,
            self.per_node * seen.count().max(1) as u64,
        );
        if have > most {
            let what = format!("expected at most {most} happenings under way, seen {have}");
            return self.broken(seen, None, what);
        }
        for node in self.rota.turn(seen.count()) {
            let pending = seen
                .view(node, ViewMask::default())
                .map_or(0, |v| v.pending_count);
            if pending > self.pending_max {
                let what = format!(
                    "expected at most {} statements that wait, seen {pending}",
                    self.pending_max
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

    #[test]
    fn queues_that_pile_up_are_noticed() {
        let limits = Limits::default();
        let mut fake = Fake::new(2);
        let mut oracle = Queues::new(&limits);
        fake.queue_len = 2 * limits.queue_per_node as usize;
        fake.node(1).view.pending_count = limits.pending_max;
        assert!(oracle.sample(&mut fake).is_ok());
        fake.node(1).view.pending_count += 1;
        assert_eq!(oracle.sample(&mut fake).unwrap_err().node, Some(1));
        fake.queue_len += 1;
        assert_eq!(oracle.sample(&mut fake).unwrap_err().node, None);
    }
}
