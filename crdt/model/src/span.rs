//! Errors that point into a text a person wrote.

use serde::{Deserialize, Serialize};

/// A range of bytes in a text: `start..end`.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// One past the last byte; never below `start`.
    pub end: usize,
}

impl Span {
    /// The range `start..end`.
    pub const fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }

    /// The line and column, both from 1, of the start; the column counts characters.
    pub fn line_column(self, text: &str) -> (usize, usize) {
        let before = text.get(..self.start.min(text.len())).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        (line, column)
    }
}

/// A mistake in a text: where, what, and what to write instead.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct SpanError {
    /// Stable code such as `Q019` or `D004`.
    pub code: &'static str,
    /// One sentence without a full stop.
    pub message: String,
    /// Where.
    pub span: Span,
    /// What stands under the marked text.
    pub label: String,
    /// What to do; may be empty.
    pub help: String,
}

impl SpanError {
    /// A mistake without help.
    pub fn new(
        code: &'static str,
        message: impl Into<String>,
        span: Span,
        label: impl Into<String>,
    ) -> Self {
        Self {
            code,
            message: message.into(),
            span,
            label: label.into(),
            help: String::new(),
        }
    }

    /// The same mistake with what to do about it.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = help.into();
        self
    }

    /// The mistake with the line it is in and a mark under it, as plain text ending in a newline.
    ///
    /// `name` is what the text is called: `query`, or a file name, which gets line and column.
    pub fn render(&self, name: &str, text: &str) -> String {
        let start = floor_boundary(text, self.span.start);
        let end = floor_boundary(text, self.span.end.max(start));
        let (line, column) = Span::new(start, end).line_column(text);
        let line_start = text[..start].rfind('\n').map_or(0, |i| i + 1);
        let line_text = text[line_start..]
            .split('\n')
            .next()
            .unwrap_or("")
            .trim_end_matches('\r');
        let pad = text[line_start..start].chars().count();
        let in_line = (line_text.chars().count() + 1).saturating_sub(pad).max(1);
        let width = text[start..end].chars().count().clamp(1, in_line);
        let mid = (width - 1) / 2;
        let place = if name == "query" {
            name.to_owned()
        } else {
            format!("{name}:{line}:{column}")
        };
        let mut out = format!(
            "error[{}]: {}\n  ╭─ {place}\n  │ {line_text}\n",
            self.code, self.message
        );
        let (blank, left, right) = (
            " ".repeat(pad),
            "─".repeat(mid),
            "─".repeat(width - mid - 1),
        );
        out += &format!("  · {blank}{left}┬{right}\n");
        out += &format!("  · {blank}{}╰─ {}\n", " ".repeat(mid), self.label);
        if !self.help.is_empty() {
            out += &format!("  ╰─ help: {}\n", self.help);
        }
        out
    }
}

fn floor_boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// The candidate nearest to `word`, if one is near enough to be meant: at most a third of it differs.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = word.chars().count().div_ceil(3).max(1);
    candidates
        .into_iter()
        .map(|c| (edit_distance(word, c), c))
        .filter(|(d, _)| *d <= limit)
        .min()
        .map(|(_, c)| c)
}

/// Restricted Damerau–Levenshtein distance in characters; texts over 128 characters count as far apart.
fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len() > 128 || b.len() > 128 {
        return usize::MAX;
    }
    let mut rows = vec![vec![0usize; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let same = usize::from(a[i - 1] != b[j - 1]);
                let mut best = (rows[i - 1][j] + 1)
                    .min(rows[i][j - 1] + 1)
                    .min(rows[i - 1][j - 1] + same);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    best = best.min(rows[i - 2][j - 2] + 1);
                }
                best
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_marks_its_text() {
        let error = SpanError::new(
            "Q030",
            "no node has a label `rol`",
            Span::new(0, 3),
            "unknown label key",
        )
        .with_help("did you mean `role`?");
        let want = "error[Q030]: no node has a label `rol`\n  ╭─ query\n  │ rol=web\n  · ─┬─\n  ·  ╰─ unknown label key\n  ╰─ help: did you mean `role`?\n";
        assert_eq!(error.render("query", "rol=web"), want);
    }

    #[test]
    fn rendering_never_panics_on_odd_spans() {
        let text = "ä\nöü\r\n";
        for start in 0..12 {
            for end in 0..12 {
                let error = SpanError::new("D001", "m", Span::new(start, end), "l");
                assert!(error.render("f.yaml", text).contains("f.yaml:"));
            }
        }
    }

    #[test]
    fn the_nearest_word_is_offered_only_when_it_is_near() {
        assert_eq!(nearest("rol", ["role", "site"]), Some("role"));
        assert_eq!(
            nearest("poduction", ["production", "dev"]),
            Some("production")
        );
        assert_eq!(nearest("xyz", ["role", "site"]), None);
    }
}
