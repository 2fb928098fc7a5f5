//! What can be seen of a home.

use lab_agent_core::ViewMask;
use lab_crdt_model::view::{Liveness, MemberState};

use super::Home;
use crate::timeline::Sample;

impl Home {
    /// Looks at how equal the replicas are.
    pub(super) fn look(&mut self) {
        let mut sets: Vec<([u8; 32], u32)> = Vec::new();
        let mut up = 0;
        for node in self.up() {
            let Some(digests) = self.world.digests(node) else {
                continue;
            };
            up += 1;
            match sets.iter_mut().find(|s| s.0 == digests.statements) {
                Some(set) => set.1 += 1,
                None => sets.push((digests.statements, 1)),
            }
        }
        let now = self.now();
        let most = sets.iter().map(|s| s.1).max().unwrap_or(0);
        if sets.len() <= 1 {
            self.edited_at_ms = None;
        }
        self.timeline.sample(Sample {
            at_ms: now,
            digests: sets.len() as u32,
            equal_per_mille: most * 1_000 / up.max(1),
            lag_ms: self.edited_at_ms.map_or(0, |at| now - at),
        });
    }

    /// How many fields were confirmed so far.
    pub(in crate::scenario) fn confirmed(&self) -> usize {
        self.confirmed.len()
    }

    /// Confirmed changes that some machine that is up does not hold; a later one of the same field counts alone.
    pub(in crate::scenario) fn missing(&mut self) -> Vec<String> {
        let mut out = Vec::new();
        for node in self.up() {
            let fields = self.fields(node);
            for (n, (path, value)) in self.confirmed.iter().enumerate() {
                let is_newest = self.confirmed[n + 1..].iter().all(|(p, _)| p != path);
                let is_held = fields
                    .iter()
                    .any(|(p, values)| p == path && values.contains(&value.to_string()));
                if is_newest && !is_held {
                    out.push(format!("{path} on {}", self.name(node)));
                }
            }
        }
        out
    }

    /// Claims that every confirmed change is on every machine that is up.
    pub(in crate::scenario) fn claim_nothing_lost(&mut self) {
        let missing = self.missing();
        let (count, up) = (self.confirmed(), self.up().len());
        let all = if count == 1 {
            "the one change is".to_owned()
        } else {
            format!("all {count} changes are")
        };
        self.claim(
            missing.is_empty(),
            format!("Nothing that was confirmed is lost: {all} on all {up} machines that are up."),
            format!(
                "LOST: {} of {count} confirmed changes are missing, {} first.",
                missing.len(),
                missing.first().map_or("-", String::as_str)
            ),
        );
    }

    /// The fields of a machine's replica, each with all its values as text.
    pub(in crate::scenario) fn fields(&mut self, node: usize) -> Vec<(String, Vec<String>)> {
        let mask = ViewMask {
            fields: true,
            ..ViewMask::default()
        };
        let view = self.world.agent_view(node, mask);
        let fields = view.map(|v| v.fields).unwrap_or_default();
        let values = |f: &lab_crdt_model::view::FieldView| {
            f.candidates
                .iter()
                .map(|c| c.field.value.to_string())
                .collect()
        };
        fields
            .iter()
            .map(|f| (f.path.as_str().to_owned(), values(f)))
            .collect()
    }

    /// The value in force at a path of a machine's replica.
    pub(in crate::scenario) fn value(&mut self, node: usize, path: &str) -> Option<String> {
        self.world.value(node, path)
    }

    /// Where `of` stands in `node`'s replica.
    pub(in crate::scenario) fn standing(&mut self, node: usize, of: usize) -> Option<MemberState> {
        let mask = ViewMask {
            roster: true,
            ..ViewMask::default()
        };
        let id = self.world.id(of);
        let view = self.world.agent_view(node, mask)?;
        view.members.iter().find(|m| m.node == id).map(|m| m.state)
    }

    /// Names of machines that some machine took to be down since a moment, apart from `expected`.
    pub(in crate::scenario) fn accused(&self, since_ms: u64, expected: &[usize]) -> Vec<String> {
        let mut out = Vec::new();
        for node in 0..self.world.len() {
            for (at, event) in self.world.events(node) {
                let lab_agent_core::Event::PeerChanged {
                    node: of,
                    liveness: Liveness::Down,
                } = event
                else {
                    continue;
                };
                let of = self.world.node_of(of);
                if let Some(of) = of.filter(|of| {
                    *at >= since_ms && !expected.contains(of) && !expected.contains(&node)
                }) {
                    let text = format!("{} by {}", self.name(of), self.name(node));
                    if !out.contains(&text) {
                        out.push(text);
                    }
                }
            }
        }
        out
    }

    /// Adds up bytes that machines sent.
    pub(in crate::scenario) fn bytes_sent(&self) -> u64 {
        (0..self.world.len())
            .map(|n| self.world.counters(n).bytes_out)
            .sum()
    }
}
