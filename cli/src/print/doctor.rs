//! `lab doctor`.

use serde_json::{Value as Json, json};

use super::paint::Tone;
use super::table::{Cell, Table};
use super::{Report, Style};
use crate::view::doctor::{Check, Verdict};

/// Checks.
pub(crate) struct Checkup(pub(crate) Vec<Check>);

impl Checkup {
    /// The worst of them.
    pub(crate) fn worst(&self) -> Verdict {
        self.0.iter().map(|c| c.state).max().unwrap_or(Verdict::Ok)
    }
}

impl Report for Checkup {
    fn schema(&self) -> &'static str {
        "lab.doctor/v1"
    }

    fn data(&self) -> Json {
        json!(self.0)
    }

    fn names(&self) -> Vec<String> {
        let bad = self.0.iter().filter(|c| c.state != Verdict::Ok);
        bad.map(|c| c.check.to_owned()).collect()
    }

    fn text(&self, style: &Style) -> String {
        let mut table = Table::new(["", "", "", ""]);
        for check in &self.0 {
            let tone = match check.state {
                Verdict::Ok => Tone::Good,
                Verdict::Warn => Tone::Warn,
                Verdict::Fail => Tone::Bad,
            };
            let fix = if check.fix.is_empty() {
                String::new()
            } else {
                format!("→ {}", check.fix)
            };
            table.row([
                Cell::new(tone, check.state.word()),
                check.check.into(),
                check.detail.as_str().into(),
                Cell::new(Tone::Hint, fix),
            ]);
        }
        table.render(style)
    }
}
