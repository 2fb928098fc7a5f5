//! Writes SVG elements.

use std::fmt::Write as _;

/// A picture being drawn. Coordinates are pixels.
#[derive(Debug)]
pub(super) struct Pen(String);

impl Pen {
    /// An empty picture.
    pub(super) fn new(width: i64, height: i64, style: &str) -> Self {
        Self(format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" role=\"img\">\n<style>{style}</style>\n"
        ))
    }

    /// Elements as they stand.
    pub(super) fn raw(&mut self, text: &str) {
        self.0 += text;
        self.0.push('\n');
    }

    /// The same, without a new line.
    pub(super) fn open(&mut self, text: &str) {
        self.0 += text;
    }

    /// A rectangle.
    pub(super) fn rect(&mut self, class: &str, (x, y): (i64, i64), (w, h): (i64, i64)) {
        let _ = writeln!(
            self.0,
            "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\"/>"
        );
    }

    /// A line.
    pub(super) fn line(&mut self, class: &str, (x1, y1): (i64, i64), (x2, y2): (i64, i64)) {
        let _ = writeln!(
            self.0,
            "<line class=\"{class}\" x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\"/>"
        );
    }

    /// A text with its base line at `y`.
    pub(super) fn text(&mut self, class: &str, (x, y): (i64, i64), text: &str) {
        let _ = writeln!(
            self.0,
            "<text class=\"{class}\" x=\"{x}\" y=\"{y}\">{}</text>",
            escape(text)
        );
    }

    /// A path; nothing when it is empty.
    pub(super) fn path(&mut self, class: &str, path: &str) {
        if !path.is_empty() {
            let _ = writeln!(self.0, "<path class=\"{class}\" d=\"{path}\"/>");
        }
    }

    /// The whole document.
    pub(super) fn done(mut self) -> String {
        self.0 += "</svg>\n";
        self.0
    }
}

/// Text without what XML reads as its own.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace(|c: char| c.is_control(), "·")
}
