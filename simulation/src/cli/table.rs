//! Columns.

/// Rows under a heading, aligned; numbers to the right. Cells may be painted afterwards by `paint`.
pub(crate) fn render(
    head: &[&str],
    rows: &[Vec<String>],
    paint: impl Fn(usize, usize, &str) -> String,
) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|r| r.get(column));
        cells
            .map(|c| c.chars().count())
            .chain([head[column].chars().count()])
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let is_number = |column: usize| {
        rows.iter().all(|r| {
            r.get(column)
                .is_none_or(|c| c == "-" || c.starts_with(|c: char| c.is_ascii_digit()))
        })
    };
    let line = |cells: &[String], paint: &dyn Fn(usize, &str) -> String| {
        let mut out = String::new();
        for (column, width) in widths.iter().enumerate() {
            let cell = cells.get(column).map_or("", String::as_str);
            let pad = " ".repeat(width.saturating_sub(cell.chars().count()));
            let painted = paint(column, cell);
            out += &if is_number(column) {
                format!("{pad}{painted}")
            } else {
                format!("{painted}{pad}")
            };
            out += "  ";
        }
        format!("{}\n", out.trim_end())
    };
    let head: Vec<String> = head.iter().map(|h| h.to_uppercase()).collect();
    let mut out = line(&head, &|_, text| text.to_owned());
    for (number, row) in rows.iter().enumerate() {
        out += &line(row, &|column, text| paint(number, column, text));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_to_the_right_and_words_to_the_left() {
        let rows = vec![
            vec!["5".to_owned(), "lan".to_owned()],
            vec!["1000".to_owned(), "geography".to_owned()],
        ];
        let text = render(&["nodes", "network"], &rows, |_, _, t| t.to_owned());
        assert_eq!(text, "NODES  NETWORK\n    5  lan\n 1000  geography\n");
    }
}
