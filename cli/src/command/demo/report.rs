//! What the demo found out.

use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::print::table::{Cell, Table};
use crate::print::{Report, Style};

/// Measured times and sizes, in the order of the story.
#[derive(Clone, Debug, Default)]
pub(super) struct Measured {
    rows: Vec<Row>,
    /// From the first command to the last check.
    pub(super) total: Duration,
}

#[derive(Clone, Debug)]
struct Row {
    what: String,
    how_much: Amount,
}

#[derive(Clone, Copy, Debug)]
enum Amount {
    Time(Duration),
    Kib(u64),
    Count(u64),
}

impl Measured {
    /// Notes how long something took.
    pub(super) fn time(&mut self, what: impl Into<String>, took: Duration) {
        self.push(what, Amount::Time(took));
    }

    /// Notes how much memory something takes, KiB.
    pub(super) fn kib(&mut self, what: impl Into<String>, kib: u64) {
        self.push(what, Amount::Kib(kib));
    }

    /// Notes how many there are.
    pub(super) fn count(&mut self, what: impl Into<String>, n: u64) {
        self.push(what, Amount::Count(n));
    }

    fn push(&mut self, what: impl Into<String>, how_much: Amount) {
        self.rows.push(Row {
            what: what.into(),
            how_much,
        });
    }
}

impl Amount {
    fn text(self) -> String {
        match self {
            Self::Time(took) => seconds(took),
            Self::Kib(kib) => format!("{:.1} MiB", kib as f64 / 1024.0),
            Self::Count(n) => n.to_string(),
        }
    }

    fn json(self) -> Json {
        match self {
            Self::Time(took) => json!({ "ms": ms(took) }),
            Self::Kib(kib) => json!({ "kib": kib }),
            Self::Count(n) => json!({ "count": n }),
        }
    }
}

fn ms(took: Duration) -> u64 {
    u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
}

/// A length of time as in the story: `0.04 s`.
pub(super) fn seconds(took: Duration) -> String {
    format!("{:.2} s", took.as_secs_f64())
}

impl Report for Measured {
    fn schema(&self) -> &'static str {
        "lab.demo/v1"
    }

    fn data(&self) -> Json {
        let rows = self.rows.iter().map(|row| {
            let mut out = json!({ "what": row.what });
            if let (Json::Object(out), Json::Object(more)) = (&mut out, row.how_much.json()) {
                out.extend(more);
            }
            out
        });
        json!({
            "measured": rows.collect::<Vec<_>>(),
            "total_ms": ms(self.total),
        })
    }

    fn names(&self) -> Vec<String> {
        self.rows.iter().map(|row| row.what.clone()).collect()
    }

    fn text(&self, style: &Style) -> String {
        let mut table = Table::new(["WHAT", "HOW MUCH"]);
        for row in &self.rows {
            // Numbers line up at the right, units at the left.
            let text = row.how_much.text();
            let (number, unit) = text.split_once(' ').unwrap_or((&text, ""));
            table.row([
                row.what.as_str().into(),
                Cell::from(format!("{number:>6} {unit}").trim_end()),
            ]);
        }
        let verdict = style.paint.green("✓ everything was seen to happen");
        let total = seconds(self.total);
        format!("{}{verdict}, {total} in all\n", table.render(style))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measured_values_are_shown_to_people_and_to_programs() {
        let mut measured = Measured::default();
        measured.time("all replicas are equal", Duration::from_millis(1234));
        measured.kib("memory", 20_480);
        measured.count("statements", 31);
        let text = measured.text(&Style::plain());
        let lines: Vec<_> = text.lines().take(4).collect();
        assert_eq!(
            lines,
            [
                "WHAT                    HOW MUCH",
                "all replicas are equal    1.23 s",
                "memory                    20.0 MiB",
                "statements                  31",
            ]
        );
        assert_eq!(measured.data()["measured"][0]["ms"], 1234);
        assert_eq!(measured.data()["measured"][1]["kib"], 20_480);
    }
}
