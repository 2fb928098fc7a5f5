//! Whoever holds these statements builds this document, however it came to hold them: piece by piece, in any order,
//! or all at once after a crash.

use std::collections::BTreeMap;

use crate::oracle::{Oracle, Seen, Verdict, short};

/// Most sets of statements remembered.
const SETS_MAX: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct Rebuilds {
    /// By what is held, and what of it waits because it came late.
    heads: BTreeMap<[[u8; 32]; 2], ([u8; 32], usize)>,
}

impl Rebuilds {
    fn check(&mut self, seen: &mut dyn Seen) -> Verdict {
        if self.heads.len() > SETS_MAX {
            self.heads.clear();
        }
        for node in 0..seen.count() {
            let Some(digests) = seen.digests(node) else {
                continue;
            };
            let first = self
                .heads
                .entry([digests.statements, digests.late])
                .or_insert((digests.heads, node));
            if first.0 != digests.heads {
                let what = format!(
                    "expected of statements {} the document {}, as on node {}, seen {}",
                    short(&digests.statements),
                    short(&first.0),
                    first.1,
                    short(&digests.heads)
                );
                return self.broken(seen, Some(node), what);
            }
        }
        Ok(())
    }
}

impl Oracle for Rebuilds {
    fn name(&self) -> &'static str {
        "restart_equals_no_crash"
    }

    fn sample(&mut self, seen: &mut dyn Seen) -> Verdict {
        self.check(seen)
    }

    fn end(&mut self, seen: &mut dyn Seen) -> Verdict {
        self.check(seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::fake::Fake;

    #[test]
    fn another_document_of_the_same_statements_is_noticed_even_later() {
        let mut fake = Fake::new(2);
        let mut oracle = Rebuilds::default();
        fake.node(0).digests.statements = [1; 32];
        fake.node(0).digests.heads = [2; 32];
        assert!(oracle.sample(&mut fake).is_ok());
        fake.node(0).is_up = false;
        fake.node(1).digests.statements = [1; 32];
        fake.node(1).digests.heads = [2; 32];
        assert!(oracle.sample(&mut fake).is_ok());
        fake.node(1).digests.heads = [3; 32];
        assert_eq!(oracle.sample(&mut fake).unwrap_err().node, Some(1));
    }
}
