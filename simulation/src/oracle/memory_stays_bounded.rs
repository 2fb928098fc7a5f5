//! An agent holds no more memory than its mesh and its statements account for.

use crate::oracle::evidence::Rota;
use crate::oracle::{Limits, Oracle, Seen, Verdict};

#[derive(Debug)]
pub(super) struct Memory {
    base: u64,
    per_node: u64,
    per_statement: u64,
    rota: Rota,
}

impl Memory {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            base: limits.memory_base_bytes,
            per_node: limits.memory_per_node_bytes,
            per_statement: limits.memory_per_statement_bytes,
            rota: Rota::default(),
        }
    }
}

impl Oracle for Memory {
    fn name(&self) -> &'static str {
        "memory_stays_bounded"
    }

    fn sample(&mut self, seen: &mut dyn Seen) -> Verdict {
        let nodes = seen.count();
        for node in self.rota.turn(nodes) {
            let bytes = seen.memory(node);
            if bytes <= self.base {
                continue;
            }
            let statements = seen.statements(node).map_or(0, |all| all.len());
            let most =
                self.base + self.per_node * nodes as u64 + self.per_statement * statements as u64;
            if bytes > most {
                let what = format!(
                    "expected at most {most} bytes with {nodes} nodes and {statements} statements, seen {bytes}"
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
    fn memory_beyond_what_is_held_is_noticed() {
        let limits = Limits::default();
        let mut fake = Fake::new(2);
        let mut oracle = Memory::new(&limits);
        let fair = limits.memory_base_bytes
            + 2 * limits.memory_per_node_bytes
            + 2 * limits.memory_per_statement_bytes;
        fake.node(1).memory = fair;
        assert!(oracle.sample(&mut fake).is_ok());
        fake.node(1).memory = fair + 1;
        assert_eq!(oracle.sample(&mut fake).unwrap_err().node, Some(1));
    }
}
