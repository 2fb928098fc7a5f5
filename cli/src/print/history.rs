//! `lab history`.

use serde_json::{Value as Json, json};

use super::paint::Tone;
use super::table::{Cell, Table};
use super::{Report, Style};
use crate::view::history::HistoryRow;

/// Changes, newest first.
pub(crate) struct History(pub(crate) Vec<HistoryRow>);

impl Report for History {
    fn schema(&self) -> &'static str {
        "lab.history/v1"
    }

    fn data(&self) -> Json {
        json!(self.0)
    }

    fn names(&self) -> Vec<String> {
        self.0.iter().map(|row| row.id.clone()).collect()
    }

    fn text(&self, style: &Style) -> String {
        let mut table = Table::new(["CHANGE", "AT", "BY", "KIND", "WHAT", ""]);
        for row in &self.0 {
            let note = match (&row.why_not, row.is_effective, row.is_concurrent) {
                (Some(why), false, _) => Cell::new(Tone::Bad, format!("✗ does not count: {why}")),
                (None, false, _) => Cell::new(Tone::Bad, "✗ does not count"),
                (_, true, true) => Cell::new(Tone::Warn, "⑂ at the same time as another"),
                (_, true, false) => Cell::default(),
            };
            table.row([
                row.change.as_str().into(),
                row.at.replace('T', " ").trim_end_matches('Z').into(),
                row.by.as_str().into(),
                row.kind.as_str().into(),
                row.what.as_str().into(),
                note,
            ]);
            let is_told = row.edits.len() == 1 && row.edits.first() == Some(&row.what);
            if style.is_wide && !is_told {
                for edit in &row.edits {
                    let edit = Cell::new(Tone::Dim, format!("  {edit}"));
                    table.row(["".into(), "".into(), "".into(), "".into(), edit, "".into()]);
                }
            }
        }
        table.render(style)
    }
}
