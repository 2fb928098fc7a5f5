//! A node that comes back receives what it missed, not the whole replica again.

use std::collections::BTreeMap;

use bytes::Bytes;
use lab_crdt_model::{Mono, StatementId};

use crate::oracle::{Limits, Note, Oracle, Seen, Verdict, What};
use crate::reference::envelope;

#[derive(Debug)]
struct Return {
    at: Mono,
    bytes_in: u64,
    held: BTreeMap<StatementId, u64>,
}

#[derive(Debug)]
pub(super) struct ReconnectCost {
    after_ms: u64,
    per_node: u64,
    per_statement: u64,
    /// What a mesh says anyway; on bad paths it is never quiet.
    idle_bytes_per_s: u64,
    returns: BTreeMap<usize, Return>,
}

impl ReconnectCost {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            after_ms: limits.heal_ms,
            per_node: limits.reconnect_bytes_per_node,
            per_statement: limits.reconnect_bytes_per_statement,
            idle_bytes_per_s: limits.idle_bytes_per_s,
            returns: BTreeMap::new(),
        }
    }

    /// What it holds, with lengths in bytes.
    fn held(seen: &mut dyn Seen, node: usize) -> Option<BTreeMap<StatementId, u64>> {
        let all = seen.statements(node)?;
        let item = |b: &Bytes| Some((envelope::id_of(b)?, b.len() as u64));
        Some(all.iter().filter_map(item).collect())
    }
}

impl Oracle for ReconnectCost {
    fn name(&self) -> &'static str {
        "reconnecting_costs_what_changed"
    }

    fn note(&mut self, seen: &mut dyn Seen, note: &Note) -> Verdict {
        match note.what {
            What::Started => {
                let bytes_in = seen.counters(note.node).bytes_in;
                // A newcomer holds nothing and needs all.
                if let Some(held) = Self::held(seen, note.node).filter(|held| !held.is_empty()) {
                    let back = Return {
                        at: note.at,
                        bytes_in,
                        held,
                    };
                    self.returns.insert(note.node, back);
                }
            }
            What::Killed => drop(self.returns.remove(&note.node)),
            _ => {}
        }
        Ok(())
    }

    fn sample(&mut self, seen: &mut dyn Seen) -> Verdict {
        let now = seen.now();
        let due: Vec<usize> = self
            .returns
            .iter()
            .filter(|(_, r)| now.ms_since(r.at) >= self.after_ms)
            .map(|(node, _)| *node)
            .collect();
        for node in due {
            let Some(back) = self.returns.remove(&node) else {
                continue;
            };
            let Some(held) = Self::held(seen, node) else {
                continue;
            };
            let missed = held.iter().filter(|(id, _)| !back.held.contains_key(id));
            let (news, news_bytes) = missed.fold((0, 0), |(n, sum), (_, len)| (n + 1, sum + len));
            let received = seen.counters(node).bytes_in - back.bytes_in;
            // A long statement may come from two peers at once.
            let most = self.per_node * seen.count() as u64
                + self.per_statement * news
                + 2 * news_bytes
                + self.idle_bytes_per_s * now.ms_since(back.at) / 1000;
            if received > most {
                let what = format!(
                    "expected at most {most} bytes in {} s after coming back to {} nodes with {news} statements missing, seen {received}",
                    now.ms_since(back.at) / 1000,
                    seen.count()
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

    fn back(news: usize, bytes: u64) -> Verdict {
        let mut fake = Fake::new(2);
        let mut oracle = ReconnectCost::new(&Limits::default());
        let started = Note {
            at: fake.now(),
            node: 1,
            what: What::Started,
        };
        oracle.note(&mut fake, &started)?;
        for n in 0..news {
            fake.says(&format!("on/all/params/p{n}"));
        }
        fake.hold_all(1);
        fake.node(1).counters.bytes_in += bytes;
        fake.pass_ms(61_000);
        oracle.sample(&mut fake)
    }

    #[test]
    fn a_whole_replica_for_one_statement_is_noticed() {
        assert!(back(1, 20 << 10).is_ok());
        assert!(
            back(0, 70 << 10).is_ok(),
            "a minute of idle traffic is no replica"
        );
        assert!(back(1, 200 << 10).is_err());
        assert!(back(40, 200 << 10).is_ok());
    }
}
