//! `lab target`.

use lab_crdt_model::time::age;
use serde_json::{Value as Json, json};

use super::table::Table;
use super::{Report, Style};
use crate::view::target::TargetView;

impl Report for TargetView {
    fn schema(&self) -> &'static str {
        "lab.target/v1"
    }

    fn data(&self) -> Json {
        json!(self.rows)
    }

    fn names(&self) -> Vec<String> {
        self.rows.iter().map(|row| row.name.clone()).collect()
    }

    fn text(&self, style: &Style) -> String {
        let mut out = String::new();
        if let Some(reads_as) = &self.reads_as {
            out += &format!("reads as: {}\n", style.paint.cyan(reads_as));
        }
        let mut table = Table::new(["", ""]);
        for row in &self.rows {
            let why = if self.is_why {
                row.why.join(", ")
            } else {
                String::new()
            };
            table.row([row.name.as_str().into(), why.into()]);
        }
        out += &table.render(style);
        let mut notes = vec![format!("{} of {} machines", self.rows.len(), self.of)];
        if !self.observed.is_empty() {
            notes.push(format!("looks at {}", self.observed.join(", ")));
        }
        if self.by_absence > 0 {
            notes.push(format!(
                "{} only because the key is missing",
                self.by_absence
            ));
        }
        for (name, ms) in &self.silent {
            let ago = ms.map_or("never heard".to_owned(), |ms| {
                format!("last heard {} ago", age(ms))
            });
            notes.push(format!("{name} {ago}"));
        }
        out + &format!("{}\n", style.paint.dim(&notes.join(". ")))
    }
}
