//! Turns view structs into text: tables for people, one envelope for programs.

pub(crate) mod audit;
pub(crate) mod checkpoint;
pub(crate) mod doctor;
pub(crate) mod heard;
pub(crate) mod history;
pub(crate) mod label;
pub(crate) mod node;
pub(crate) mod operator;
pub(crate) mod paint;
pub(crate) mod plan;
pub(crate) mod root;
pub(crate) mod status;
pub(crate) mod table;
pub(crate) mod target;
pub(crate) mod token;

use serde::Serialize;
use serde_json::{Value as Json, json};

use crate::error::Exit;
use crate::view::replica::ReplicaLine;
use paint::Paint;

/// How text for people looks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    /// Colours, or none.
    pub(crate) paint: Paint,
    /// More columns.
    pub(crate) is_wide: bool,
    /// Characters per line; `None` when nothing has to fit.
    pub(crate) width: Option<usize>,
}

impl Style {
    /// Plain and narrow, as in a pipe.
    #[cfg(test)]
    pub(crate) const fn plain() -> Self {
        Self {
            paint: Paint::plain(),
            is_wide: false,
            width: None,
        }
    }
}

/// The result of a command.
pub(crate) trait Report {
    /// Name and version of the shape of `data`, for example `lab.status/v1`.
    fn schema(&self) -> &'static str;
    /// For programs.
    fn data(&self) -> Json;
    /// For people.
    fn text(&self, style: &Style) -> String;
    /// Only the names in it.
    fn names(&self) -> Vec<String> {
        Vec::new()
    }
}

/// What surrounds a result.
#[derive(Clone, Debug, Default)]
pub(crate) struct Envelope {
    /// Name and beginning of the id of the mesh.
    pub(crate) mesh: Option<String>,
    /// Which replica was read and how fresh it is.
    pub(crate) replica: Option<ReplicaLine>,
    /// The query and what it selected.
    pub(crate) query: Option<QueryLine>,
    /// What a person should know besides.
    pub(crate) warnings: Vec<Warning>,
    /// The exit code.
    pub(crate) exit: Option<Exit>,
}

/// A query as given and as understood.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct QueryLine {
    /// As typed.
    pub(crate) given: String,
    /// Its normal form.
    pub(crate) normal: String,
    /// How many machines it selects.
    pub(crate) matched: usize,
}

/// Something worth knowing that did not stop the command.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Warning {
    /// Stable code.
    pub(crate) code: String,
    /// One sentence without a full stop.
    pub(crate) message: String,
}

impl Warning {
    /// A warning.
    pub(crate) fn new(code: &str, message: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            message: message.into(),
        }
    }
}

impl Envelope {
    /// The envelope round the data of `report`.
    pub(crate) fn json(&self, report: &dyn Report) -> Json {
        let mut out = serde_json::Map::new();
        out.insert("schema".to_owned(), Json::from(report.schema()));
        if let Some(mesh) = &self.mesh {
            out.insert("mesh".to_owned(), json!(mesh));
        }
        if let Some(replica) = &self.replica {
            out.insert("replica".to_owned(), json!(replica));
        }
        if let Some(query) = &self.query {
            out.insert("query".to_owned(), json!(query));
        }
        out.insert("data".to_owned(), report.data());
        out.insert("warnings".to_owned(), json!(self.warnings));
        out.insert(
            "exit".to_owned(),
            json!(self.exit.unwrap_or(Exit::Done).code()),
        );
        Json::Object(out)
    }
}

/// The singular or plural of a thing, with its count: `1 node`, `3 nodes`.
pub(crate) fn count(n: usize, one: &str) -> String {
    match (
        n,
        one.ends_with("change") || !one.ends_with(['s', 'h', 'x']),
    ) {
        (1, _) => format!("1 {one}"),
        (n, true) => format!("{n} {one}s"),
        (n, false) => format!("{n} {one}es"),
    }
}

/// Text from others without anything that a terminal would obey.
pub(crate) fn safe(text: &str) -> String {
    let is_trick =
        |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars()
        .map(|c| if is_trick(c) { '·' } else { c })
        .collect()
}

/// Hexadecimal of the first `n` bytes.
pub(crate) fn hex(bytes: &[u8], n: usize) -> String {
    bytes.iter().take(n).map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_others_cannot_drive_the_terminal() {
        assert_eq!(safe("a\u{1b}[31mb\r\n\u{202e}c"), "a·[31mb···c");
    }

    #[test]
    fn things_are_counted_in_words() {
        assert_eq!(count(1, "machine"), "1 machine");
        assert_eq!(count(0, "change"), "0 changes");
    }
}
