//! Columns.

use super::paint::Tone;
use super::{Style, safe};

/// Rows under a heading, aligned; nothing is cut unless the terminal is too narrow.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    head: Vec<String>,
    rows: Vec<Vec<Cell>>,
}

/// A text with its meaning. Control characters are shown as `·`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A cell with a meaning.
    pub(crate) fn new(tone: Tone, text: impl AsRef<str>) -> Self {
        Self {
            text: safe(text.as_ref()),
            tone,
        }
    }

    /// A cell with text, or `-` for what was never reported.
    pub(crate) fn or_dash(text: Option<impl AsRef<str>>) -> Self {
        match text {
            Some(text) if !text.as_ref().is_empty() => Self::new(Tone::Plain, text),
            Some(_) | None => Self::new(Tone::Dim, "-"),
        }
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(Tone::Plain, text)
    }
}

impl Table {
    /// A table with these headings; columns whose cells are all empty are left out.
    pub(crate) fn new<const N: usize>(head: [&str; N]) -> Self {
        Self {
            head: head.map(str::to_owned).to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row; missing cells are empty.
    pub(crate) fn row<const N: usize>(&mut self, cells: [Cell; N]) {
        self.rows.push(cells.into());
    }

    /// Whether there are no rows.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table as text, ending in a newline; empty without rows.
    pub(crate) fn render(&self, style: &Style) -> String {
        if self.is_empty() {
            return String::new();
        }
        let empty = Cell::default();
        let columns: Vec<usize> = (0..self.head.len())
            .filter(|i| {
                self.rows
                    .iter()
                    .any(|r| r.get(*i).is_some_and(|c| !c.text.is_empty()))
            })
            .collect();
        let widths: Vec<usize> = columns
            .iter()
            .map(|i| {
                let cells = self
                    .rows
                    .iter()
                    .map(|r| r.get(*i).unwrap_or(&empty).text.as_str());
                cells
                    .chain([self.head[*i].as_str()])
                    .map(|t| t.chars().count())
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        let mut out = String::new();
        if self.head.iter().any(|h| !h.is_empty()) {
            let head: Vec<Cell> = columns
                .iter()
                .map(|i| Cell::new(Tone::Dim, &self.head[*i]))
                .collect();
            line(&mut out, style, &widths, &head.iter().collect::<Vec<_>>());
        }
        for row in &self.rows {
            let cells: Vec<&Cell> = columns
                .iter()
                .map(|i| row.get(*i).unwrap_or(&empty))
                .collect();
            line(&mut out, style, &widths, &cells);
        }
        out
    }
}

fn line(out: &mut String, style: &Style, widths: &[usize], cells: &[&Cell]) {
    let last = cells.iter().rposition(|c| !c.text.is_empty()).unwrap_or(0);
    let mut used = 0;
    for (i, (cell, width)) in cells.iter().zip(widths).enumerate().take(last + 1) {
        let mut text = cell.text.clone();
        if let Some(limit) = style.width {
            let room = limit.saturating_sub(used);
            if text.chars().count() > room {
                text = text
                    .chars()
                    .take(room.saturating_sub(1))
                    .chain(['…'])
                    .collect();
            }
        }
        let length = text.chars().count();
        out.push_str(&style.paint.tone(cell.tone, &text));
        used += width + 2;
        if style.width.is_some_and(|limit| used >= limit) {
            break;
        }
        if i < last {
            out.extend(std::iter::repeat_n(' ', (width + 2).saturating_sub(length)));
        }
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::super::paint::Paint;
    use super::*;

    fn sample() -> Table {
        let mut table = Table::new(["NAME", "NOTHING", "STATE"]);
        table.row(["nuc1".into(), "".into(), Cell::new(Tone::Good, "ok")]);
        table.row(["a-long-name".into(), "".into(), "conflict\u{7}".into()]);
        table
    }

    #[test]
    fn columns_line_up_and_empty_ones_are_left_out() {
        let want = "NAME         STATE\nnuc1         ok\na-long-name  conflict·\n";
        assert_eq!(sample().render(&Style::plain()), want);
    }

    #[test]
    fn colour_does_not_move_columns() {
        let style = Style {
            paint: Paint::colour(),
            ..Style::plain()
        };
        let text = sample().render(&style);
        assert!(
            text.contains("nuc1         \u{1b}[32mok\u{1b}[0m\n"),
            "{text:?}"
        );
    }

    #[test]
    fn a_narrow_terminal_cuts_with_a_mark() {
        let style = Style {
            width: Some(16),
            ..Style::plain()
        };
        assert!(
            sample()
                .render(&style)
                .lines()
                .all(|l| l.chars().count() <= 16)
        );
        assert!(sample().render(&style).contains('…'));
    }
}
