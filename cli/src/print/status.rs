//! `lab status`.

use lab_crdt_model::time::age;
use serde_json::{Value as Json, json};

use super::paint::Tone;
use super::table::{Cell, Table};
use super::{Report, Style, count};
use crate::view::part::Part;
use crate::view::status::{Grade, Pillar, StatusView};
use crate::view::undone;

/// How a word of a grade looks.
pub(crate) const fn tone(grade: Grade) -> Tone {
    match grade {
        Grade::None | Grade::Unknown => Tone::Dim,
        Grade::Ok => Tone::Good,
        Grade::Info => Tone::Plain,
        Grade::Warn => Tone::Warn,
        Grade::Bad | Grade::Worst => Tone::Bad,
    }
}

/// A pillar in a cell.
pub(crate) fn pillar(pillar: &Pillar) -> Cell {
    Cell::new(tone(pillar.grade), pillar.text())
}

/// Seconds since something was heard.
pub(crate) fn seen(seconds: Option<u64>) -> Cell {
    Cell::or_dash(seconds.map(|s| age(s * 1000)))
}

/// By how much a clock is ahead, to the second: `+3s`, `-6m`.
fn clock(ms: i64) -> String {
    let sign = if ms < 0 { '-' } else { '+' };
    let seconds = (ms.unsigned_abs() + 500) / 1000;
    format!("{sign}{}", age(seconds * 1000))
}

impl Report for StatusView {
    fn schema(&self) -> &'static str {
        "lab.status/v1"
    }

    fn data(&self) -> Json {
        json!(self)
    }

    fn names(&self) -> Vec<String> {
        self.listed().map(|row| row.name.clone()).collect()
    }

    fn text(&self, style: &Style) -> String {
        let mut out = format!("{}\n", style.paint.bold(&self.heading));
        out += &parts(&self.parts, style);
        let mut groups = Table::new(["GROUP", "COUNT", "SYNC"]);
        for group in &self.groups {
            let (word, n) = &group.sync;
            let text = if group.grade <= Grade::Ok {
                word.clone()
            } else {
                format!("{word} {n}")
            };
            groups.row([
                group.name.as_str().into(),
                group.count.to_string().into(),
                Cell::new(tone(group.grade), text),
            ]);
        }
        if !groups.is_empty() {
            out += &format!("\n{}", groups.render(style));
        }
        let mut table = Table::new([
            "NODE", "SEEN", "SYNC", "IDENTITY", "AGENT", "CLOCK", "LABELS", "WHY",
        ]);
        for row in self.listed() {
            let wide = |text: String| {
                if style.is_wide {
                    Cell::from(text)
                } else {
                    Cell::default()
                }
            };
            let is_plain = row.pillars.sync.grade <= Grade::Ok;
            let why = if is_plain {
                String::new()
            } else {
                row.pillars.sync.detail.join("; ")
            };
            table.row([
                row.name.as_str().into(),
                seen(row.seen_s),
                pillar(&row.pillars.sync),
                pillar(&row.pillars.identity),
                wide(row.agent.clone().unwrap_or_else(|| "-".to_owned())),
                if style.is_wide {
                    Cell::or_dash(row.clock_ms.map(clock))
                } else {
                    Cell::default()
                },
                wide(row.labels.join(" ")),
                why.into(),
            ]);
        }
        if !table.is_empty() {
            out += &format!("\n{}", table.render(style));
        }
        out + &footer(self, style)
    }
}

fn footer(view: &StatusView, style: &Style) -> String {
    let mut notes = Vec::new();
    match view.ok_count() {
        0 => {}
        n if view.listed().next().is_some() => notes.push(format!("{n} more ok (-a to list)")),
        n => notes.push(format!("all {n} ok (-a to list)")),
    }
    if let Some(first) = view.conflicts.first() {
        let more = count(view.conflicts.len(), "conflict");
        notes.push(format!(
            "{more}: {}",
            style.paint.cyan(&format!("lab explain {first}"))
        ));
    }
    if view.issue_count > 0 {
        let issues = count(view.issue_count, "issue");
        notes.push(format!("{issues}: {}", style.paint.cyan("lab doctor")));
    }
    let mut out = String::new();
    if !notes.is_empty() {
        out += &format!("{}\n", notes.join("   "));
    }
    if let Some(line) = undone::line(&view.undone) {
        out += &format!("{}\n", style.paint.dim(&line));
    }
    out
}

fn parts(parts: &[Part], style: &Style) -> String {
    if parts.len() < 2 {
        return String::new();
    }
    let mut out = String::new();
    for part in parts {
        let names = part.nodes.join(" ");
        if part.is_here {
            out += &format!("in touch  {names}\n");
            continue;
        }
        let since = part.since_s.map_or("never heard".to_owned(), |s| {
            format!("{} ago", age(s * 1000))
        });
        let together = if part.nodes.len() > 1 {
            ", together (a partition?)"
        } else {
            ""
        };
        out += &format!(
            "{}    {names}   {since}{together}\n",
            style.paint.yellow("silent")
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::sample;

    #[test]
    fn status_shows_parts_ages_and_what_to_do() {
        let fleet = sample::fleet()
            .in_sync("a")
            .in_sync("b")
            .silent("c", 720_000)
            .silent("d", 721_000);
        let view = StatusView::new(&fleet.picture(), |_| true, false);
        let want = "\
home-a4db   4 machines   replica 14:02:11Z, heard 2/4, oldest d 12m
in touch  a b
silent    c d   12m ago, together (a partition?)

NODE  SEEN  SYNC       IDENTITY  WHY
c     12m   stale 12m  ok        not heard
d     12m   stale 12m  ok        not heard
2 more ok (-a to list)
";
        assert_eq!(
            view.text(&Style::plain())
                .replace(&fleet.view.mesh.short()[..4], "a4db"),
            want
        );
    }

    #[test]
    fn clocks_are_shown_to_the_second_where_there_is_room() {
        assert_eq!(
            [3_400, 499, -360_000, -2_600].map(clock),
            ["+3s", "+0s", "-6m", "-3s"]
        );
        let fleet = sample::fleet().in_sync("a").in_sync("b");
        let view = StatusView::new(&fleet.picture(), |_| true, true);
        let wide = Style {
            is_wide: true,
            ..Style::plain()
        };
        assert!(!view.text(&Style::plain()).contains("CLOCK"));
        let text = view.text(&wide);
        assert!(text.contains("CLOCK") && text.contains("-6m"), "{text}");
    }

    #[test]
    fn a_fleet_that_is_fine_is_short() {
        let fleet = sample::fleet()
            .in_sync("a")
            .in_sync("b")
            .in_sync("c")
            .in_sync("d");
        let view = StatusView::new(&fleet.picture(), |_| true, false);
        let text = view.text(&Style::plain());
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.ends_with("all 4 ok (-a to list)\n"), "{text}");
    }
}
