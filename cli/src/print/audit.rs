//! `lab audit`.

use serde_json::{Value as Json, json};

use super::paint::Tone;
use super::table::{Cell, Table};
use super::{Report, Style};
use crate::view::audit::{AuditRow, ChainRow};

/// Records.
pub(crate) struct Audit(pub(crate) Vec<AuditRow>);

impl Report for Audit {
    fn schema(&self) -> &'static str {
        "lab.audit/v1"
    }

    fn data(&self) -> Json {
        json!(self.0)
    }

    fn names(&self) -> Vec<String> {
        self.0.iter().map(|row| row.hash.clone()).collect()
    }

    fn text(&self, style: &Style) -> String {
        let head = [
            "NODE", "SEQ", "AT", "WHO", "VIA", "WHAT", "TARGET", "OUTCOME",
        ];
        let mut table = Table::new(head);
        for row in &self.0 {
            let outcome = match row.what.as_str() {
                "alarm" | "lost" => Cell::new(Tone::Bad, row.outcome.as_str()),
                "refused" | "join-refused" => Cell::new(Tone::Warn, row.outcome.as_str()),
                _ => row.outcome.as_str().into(),
            };
            table.row([
                row.names.node.as_str().into(),
                row.seq.to_string().as_str().into(),
                row.at.replace('T', " ").trim_end_matches('Z').into(),
                row.names.who.as_str().into(),
                row.via.as_deref().unwrap_or_default().into(),
                row.what.as_str().into(),
                row.names.target.as_str().into(),
                outcome,
            ]);
        }
        table.render(style)
    }
}

/// Chains, and whether they are whole.
pub(crate) struct Verified(pub(crate) Vec<ChainRow>);

impl Report for Verified {
    fn schema(&self) -> &'static str {
        "lab.audit-verify/v1"
    }

    fn data(&self) -> Json {
        json!(self.0)
    }

    fn names(&self) -> Vec<String> {
        let bad = self.0.iter().filter(|row| row.fault.is_some());
        bad.map(|row| row.name.clone()).collect()
    }

    fn text(&self, style: &Style) -> String {
        let mut table = Table::new(["NODE", "RECORDS", "FROM", "TO", "RESULT"]);
        for row in &self.0 {
            let result = match (&row.fault, &row.note) {
                (Some(fault), _) => Cell::new(Tone::Bad, format!("✗ {fault}")),
                (None, Some(note)) => Cell::new(Tone::Warn, format!("✓ whole; {note}")),
                (None, None) => "✓ whole".into(),
            };
            table.row([
                row.name.as_str().into(),
                row.count.to_string().as_str().into(),
                row.first.to_string().as_str().into(),
                row.last.to_string().as_str().into(),
                result,
            ]);
        }
        table.render(style)
    }
}
