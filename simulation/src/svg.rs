//! A run as a picture: one lane per node, and below it on the same axis how equal the replicas were.
//!
//! Hand-made SVG with classes only, so that it follows a light or dark screen; it brings its own ground and stays
//! legible where style sheets are ignored half-way. Colours are told apart by people who see few of them, and every
//! colour has a shape or a pattern beside it.

mod axis;
mod pen;

use std::collections::BTreeMap;

use crate::duration::{moment, words};
use crate::timeline::{LANES_MAX, Mark, MarkKind, Sample, Span, State, Timeline};
use axis::Axis;
use pen::{Pen, escape};

const WIDTH: i64 = 1_200;
const LEFT: i64 = 120;
const RIGHT: i64 = 28;
const HEAD: i64 = 88;
const LANE: i64 = 20;
const LANE_SMALL: i64 = 12;
const PANEL: i64 = 76;
const GAP: i64 = 30;
const FOOT: i64 = 62;

const STYLE: &str = "\
svg{font-family:'DejaVu Sans',Verdana,Helvetica,Arial,sans-serif;font-size:11px}\
.g{fill:#ffffff}.t{fill:#1c2128}.d{fill:#5c6670}.h{fill:#1c2128;font-size:16px;font-weight:bold}\
.n{text-anchor:end}.m{text-anchor:middle}\
.ax{stroke:#c9d1d9;stroke-width:1}.up{stroke:#9aa5b1;stroke-width:2}.band{fill:#e69f00;fill-opacity:.10}\
.down{fill:#d55e00}.cut{fill:#0072b2}.cutp{stroke:#ffffff;stroke-width:2.5}.sick{fill:#cc79a7}.paused{fill:#e69f00}\
.halo{stroke:#ffffff;stroke-width:6}.edit{stroke:#1c2128;stroke-width:2}.join{fill:#009e73}.revoke{fill:#8250df}.fault{stroke:#8b949e;stroke-width:1;stroke-dasharray:3 3}\
.bad{stroke:#d1242f;stroke-width:2;fill:none}.badt{fill:#d1242f;font-weight:bold}\
.eq{fill:#009e73;fill-opacity:.18;stroke:#009e73;stroke-width:1.5}.ds{fill:none;stroke:#0072b2;stroke-width:1.5}\
.lag{fill:#d55e00;fill-opacity:.18;stroke:#d55e00;stroke-width:1.5}\
@media(prefers-color-scheme:dark){\
.g{fill:#0d1117}.t,.h{fill:#e6edf3}.d{fill:#9198a1}.ax{stroke:#3d444d}.up{stroke:#656c76}.band{fill:#e69f00;fill-opacity:.16}\
.cut{fill:#58a6d6}.cutp,.halo{stroke:#0d1117}.edit{stroke:#e6edf3}.join{fill:#2fc69a}.revoke{fill:#b392f0}\
.bad{stroke:#ff7b72}.badt{fill:#ff7b72}.eq{fill:#2fc69a;stroke:#2fc69a;fill-opacity:.22}.ds{stroke:#58a6d6}.lag{fill:#ff8c42;stroke:#ff8c42;fill-opacity:.22}\
}";

/// Draws a timeline.
pub fn draw(timeline: &Timeline) -> String {
    let lanes = timeline.names.len().min(LANES_MAX);
    let rest = timeline.names.len() - lanes;
    let lane = if lanes > 16 { LANE_SMALL } else { LANE };
    let lanes_end = HEAD + lane * (lanes as i64 + i64::from(rest > 0) * 2);
    let panels = lanes_end + GAP;
    let height = panels + 3 * (PANEL + GAP) - GAP + FOOT;
    let axis = Axis::new(timeline.end_ms, LEFT, WIDTH - RIGHT);
    let mut pen = Pen::new(WIDTH, height, STYLE);
    pen.raw("<defs><pattern id=\"hatch\" width=\"7\" height=\"7\" patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\"><rect class=\"cut\" width=\"7\" height=\"7\"/><line class=\"cutp\" x1=\"0\" y1=\"0\" x2=\"0\" y2=\"7\"/></pattern></defs>");
    pen.rect("g", (0, 0), (WIDTH, height));
    pen.text("h", (LEFT, 26), &timeline.title);
    legend(&mut pen, timeline);
    bands(&mut pen, timeline, axis, height - FOOT);
    grid(&mut pen, axis, height - FOOT);
    for (n, name) in timeline.names.iter().take(lanes).enumerate() {
        let y = HEAD + lane * n as i64;
        pen.text("t n", (LEFT - 10, y + lane / 2 + 4), &short(name));
        node_lane(&mut pen, timeline, axis, n, y, lane);
    }
    if rest > 0 {
        crowd(
            &mut pen,
            timeline,
            axis,
            (lanes, rest),
            HEAD + lane * lanes as i64 + lane / 2,
            lane,
        );
    }
    world_marks(&mut pen, timeline, axis, height - FOOT);
    let curves = Curves::of(&timeline.samples, axis);
    let top = |n: i64| panels + n * (PANEL + GAP);
    curves.share(&mut pen, top(0));
    curves.digests(&mut pen, top(1));
    curves.lag(&mut pen, top(2));
    pen.done()
}

fn short(name: &str) -> String {
    match name.char_indices().nth(14) {
        Some((at, _)) => format!("{}…", &name[..at]),
        None => name.to_owned(),
    }
}

const fn class(state: State) -> &'static str {
    match state {
        State::Absent => "g",
        State::Cut => "cut",
        State::Sick => "sick",
        State::Paused => "paused",
        State::Down => "down",
    }
}

/// Only what occurs is explained.
fn legend(pen: &mut Pen, timeline: &Timeline) {
    let mut x = LEFT;
    let y = 44;
    for state in [State::Down, State::Paused, State::Cut, State::Sick] {
        if timeline.spans.iter().any(|s| s.state == state) {
            bar(pen, state, (x, y), (22, 10), "");
            pen.text("d", (x + 28, y + 9), state.name());
            x += 44 + 7 * state.name().len() as i64;
        }
    }
    for (kind, name) in [
        (MarkKind::Edit, "edit"),
        (MarkKind::Join, "join"),
        (MarkKind::Revoke, "revocation"),
        (MarkKind::Violation, "violation"),
    ] {
        if timeline.marks.iter().any(|m| m.kind == kind) {
            sign(pen, kind, x + 5, y + 5, "");
            pen.text("d", (x + 16, y + 9), name);
            x += 34 + 7 * name.len() as i64;
        }
    }
}

fn bar(pen: &mut Pen, state: State, at: (i64, i64), size: (i64, i64), hint: &str) {
    if state == State::Cut {
        pen.open(&format!("<g>{}", title(hint)));
        pen.rect("cut", at, size);
        pen.raw(&format!(
            "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"url(#hatch)\"/></g>",
            at.0, at.1, size.0, size.1
        ));
    } else {
        pen.open(&format!("<g>{}", title(hint)));
        pen.rect(class(state), at, size);
        pen.raw("</g>");
    }
}

fn title(hint: &str) -> String {
    match hint {
        "" => String::new(),
        _ => format!("<title>{}</title>", escape(hint)),
    }
}

fn sign(pen: &mut Pen, kind: MarkKind, x: i64, y: i64, hint: &str) {
    let shape = match kind {
        MarkKind::Edit => {
            let line = format!("M{x} {}V{}", y - 6, y + 6);
            format!("<path class=\"halo\" d=\"{line}\"/><path class=\"edit\" d=\"{line}\"/>")
        }
        MarkKind::Join => format!(
            "<path class=\"join\" d=\"M{} {}L{} {}L{} {}Z\"/>",
            x - 5,
            y + 5,
            x + 5,
            y + 5,
            x,
            y - 5
        ),
        MarkKind::Revoke => format!(
            "<path class=\"revoke\" d=\"M{x} {}L{} {y}L{x} {}L{} {y}Z\"/>",
            y - 6,
            x + 6,
            y + 6,
            x - 6
        ),
        MarkKind::Violation => format!(
            "<path class=\"bad\" d=\"M{} {}L{} {}M{} {}L{} {}\"/>",
            x - 5,
            y - 5,
            x + 5,
            y + 5,
            x - 5,
            y + 5,
            x + 5,
            y - 5
        ),
        MarkKind::Fault | MarkKind::Note => return,
    };
    pen.raw(&format!("<g>{}{shape}</g>", title(hint)));
}

/// Times in which anything was wrong, over the whole height.
fn bands(pen: &mut Pen, timeline: &Timeline, axis: Axis, bottom: i64) {
    let mut spans: Vec<(u64, u64)> = timeline
        .spans
        .iter()
        // What is gone for good is no trouble any more.
        .filter(|s| s.state != State::Absent && (s.to_ms.is_some() || s.state != State::Down))
        .map(|s| (s.from_ms, s.to_ms.unwrap_or(timeline.end_ms)))
        .collect();
    spans.sort_unstable();
    let mut joined: Vec<(u64, u64)> = Vec::new();
    for (from, to) in spans {
        match joined.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(to),
            _ => joined.push((from, to)),
        }
    }
    for (from, to) in joined {
        let (x, w) = axis.stretch(from, to);
        pen.rect("band", (x, HEAD - 6), (w, bottom - HEAD + 6));
    }
}

fn grid(pen: &mut Pen, axis: Axis, bottom: i64) {
    for (x, label) in axis.ticks() {
        pen.line("ax", (x, HEAD - 6), (x, bottom + 4));
        pen.text("d m", (x, bottom + 20), &label);
    }
    pen.text(
        "d m",
        ((LEFT + WIDTH - RIGHT) / 2, bottom + 42),
        "virtual time",
    );
}

fn node_lane(pen: &mut Pen, timeline: &Timeline, axis: Axis, node: usize, y: i64, lane: i64) {
    let mine: Vec<&Span> = timeline.spans.iter().filter(|s| s.node == node).collect();
    let born = mine
        .iter()
        .filter(|s| s.state == State::Absent)
        .filter_map(|s| s.to_ms)
        .max()
        .unwrap_or(0);
    let middle = y + lane / 2;
    pen.line(
        "up",
        (axis.x(born), middle),
        (axis.x(timeline.end_ms), middle),
    );
    for state in [State::Sick, State::Cut, State::Paused, State::Down] {
        for span in mine.iter().filter(|s| s.state == state) {
            let to = span.to_ms.unwrap_or(timeline.end_ms);
            let (x, w) = axis.stretch(span.from_ms, to);
            let hint = format!(
                "{} for {}, from {}",
                state.name(),
                words(to.saturating_sub(span.from_ms)),
                moment(span.from_ms)
            );
            bar(pen, state, (x, y + 3), (w, lane - 6), &hint);
        }
    }
    for mark in timeline.marks.iter().filter(|m| m.node == Some(node)) {
        let hint = format!("{} {}", moment(mark.at_ms), mark.text);
        sign(pen, mark.kind, axis.x(mark.at_ms), middle, &hint);
    }
}

/// Nodes without a lane: how many of them were not up, as a darkening bar.
fn crowd(
    pen: &mut Pen,
    timeline: &Timeline,
    axis: Axis,
    (from, count): (usize, usize),
    y: i64,
    lane: i64,
) {
    pen.text(
        "d n",
        (LEFT - 10, y + lane / 2 + 4),
        &format!("{count} more"),
    );
    pen.line(
        "up",
        (axis.x(0), y + lane / 2),
        (axis.x(timeline.end_ms), y + lane / 2),
    );
    for state in [State::Sick, State::Cut, State::Paused, State::Down] {
        // How many begin and end at each pixel; drawn in runs of equal depth, so that nothing is painted twice.
        let mut steps: BTreeMap<i64, i64> = BTreeMap::new();
        for span in timeline
            .spans
            .iter()
            .filter(|s| s.node >= from && s.state == state)
        {
            let (x, w) = axis.stretch(span.from_ms, span.to_ms.unwrap_or(timeline.end_ms));
            *steps.entry(x).or_default() += 1;
            *steps.entry(x + w).or_default() -= 1;
        }
        let mut runs: Vec<(i64, i64, i64)> = Vec::new();
        let mut many = 0;
        let mut since = None;
        for (x, change) in steps {
            if let Some(since) = since.filter(|_| many > 0) {
                let deep = 20 + (many * 8 + count as i64 - 1) / count as i64 * 10;
                match runs.last_mut() {
                    Some(last) if last.1 == since && last.2 == deep => last.1 = x,
                    _ => runs.push((since, x, deep)),
                }
            }
            many += change;
            since = Some(x);
        }
        for (x, end, deep) in runs {
            let hint = format!(
                "up to {} % of {count} {}",
                (deep - 20) * 10 / 8,
                state.name()
            );
            pen.raw(&format!(
                "<rect class=\"{}\" fill-opacity=\"{}.{:02}\" x=\"{x}\" y=\"{}\" width=\"{}\" height=\"{}\">{}</rect>",
                class(state),
                deep / 100,
                deep % 100,
                y + 1,
                end - x,
                lane - 2,
                title(&hint)
            ));
        }
    }
    for mark in timeline
        .marks
        .iter()
        .filter(|m| m.node.is_some_and(|n| n >= from))
    {
        let hint = format!("{} {}", moment(mark.at_ms), mark.text);
        sign(pen, mark.kind, axis.x(mark.at_ms), y + lane / 2, &hint);
    }
}

/// What concerns all: faults as dashed lines with a word at the top, violations in red over the whole height.
fn world_marks(pen: &mut Pen, timeline: &Timeline, axis: Axis, bottom: i64) {
    let mut free_from = 0;
    let is_shown = |m: &&Mark| matches!(m.kind, MarkKind::Fault | MarkKind::Violation);
    let mut shown: Vec<&Mark> = timeline.marks.iter().filter(is_shown).collect();
    shown.sort_by_key(|m| m.at_ms);
    for mark in shown {
        let x = axis.x(mark.at_ms);
        let is_bad = mark.kind == MarkKind::Violation;
        pen.line(
            if is_bad { "bad" } else { "fault" },
            (x, HEAD - 6),
            (x, bottom),
        );
        let wide = 6 * mark.text.chars().count() as i64 + 12;
        // A word that would run off the right end ends at its line instead.
        let is_left = x + wide > WIDTH - 4;
        let from = if is_left { x - wide } else { x };
        if from >= free_from {
            let class = match (is_bad, is_left) {
                (true, true) => "badt n",
                (true, false) => "badt",
                (false, true) => "d n",
                (false, false) => "d",
            };
            let at = if is_left { x - 4 } else { x + 4 };
            pen.text(class, (at, HEAD - 10), &mark.text);
            free_from = from + wide;
        }
    }
}

/// Samples, one per pixel at most: the worst of those that fall together.
struct Curves {
    points: Vec<(i64, Sample)>,
    end: i64,
}

impl Curves {
    fn of(samples: &[Sample], axis: Axis) -> Self {
        let mut points: Vec<(i64, Sample)> = Vec::new();
        for sample in samples {
            let x = axis.x(sample.at_ms);
            match points.last_mut() {
                Some((last, worst)) if *last == x => {
                    worst.digests = worst.digests.max(sample.digests);
                    worst.equal_per_mille = worst.equal_per_mille.min(sample.equal_per_mille);
                    worst.lag_ms = worst.lag_ms.max(sample.lag_ms);
                }
                _ => points.push((x, *sample)),
            }
        }
        let end = points.last().map_or(LEFT, |p| p.0);
        Self { points, end }
    }

    fn frame(pen: &mut Pen, y: i64, title: &str, high: &str, low: &str) {
        pen.text("t", (LEFT, y - 7), title);
        pen.line("ax", (LEFT, y), (WIDTH - RIGHT, y));
        pen.line("ax", (LEFT, y + PANEL), (WIDTH - RIGHT, y + PANEL));
        pen.text("d n", (LEFT - 10, y + 8), high);
        pen.text("d n", (LEFT - 10, y + PANEL), low);
    }

    /// A stepped path; `level` gives tenths of a pixel above the floor.
    fn steps(&self, y: i64, is_area: bool, level: impl Fn(&Sample) -> i64) -> String {
        let floor = y + PANEL;
        let mut path = String::new();
        for (n, (x, sample)) in self.points.iter().enumerate() {
            let tenths = floor * 10 - level(sample);
            let at = format!("{}.{}", tenths / 10, tenths % 10);
            path += &match (n, is_area) {
                (0, true) => format!("M{x} {floor}V{at}"),
                (0, false) => format!("M{x} {at}"),
                _ => format!("H{x}V{at}"),
            };
        }
        if !path.is_empty() && is_area {
            path += &format!("H{}V{floor}Z", self.end);
        }
        path
    }

    fn share(&self, pen: &mut Pen, y: i64) {
        Self::frame(pen, y, "live nodes that hold the same", "all", "none");
        let path = self.steps(y, true, |s| i64::from(s.equal_per_mille) * PANEL / 100);
        pen.path("eq", &path);
    }

    fn digests(&self, pen: &mut Pen, y: i64) {
        let most = self
            .points
            .iter()
            .map(|p| p.1.digests)
            .max()
            .unwrap_or(1)
            .max(2);
        Self::frame(pen, y, "different replicas", &most.to_string(), "1");
        let path = self.steps(y, false, |s| {
            i64::from(s.digests.max(1) - 1) * PANEL * 10 / i64::from(most - 1)
        });
        pen.path("ds", &path);
    }

    fn lag(&self, pen: &mut Pen, y: i64) {
        let most = self
            .points
            .iter()
            .map(|p| p.1.lag_ms)
            .max()
            .unwrap_or(0)
            .max(1_000);
        Self::frame(
            pen,
            y,
            "age of the oldest edit that some live node lacks",
            &words(most),
            "0 s",
        );
        let path = self.steps(y, true, |s| {
            (s.lag_ms as i64).saturating_mul(PANEL * 10) / most as i64
        });
        pen.path("lag", &path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lane_state_and_sign_is_in_the_picture() {
        let svg = draw(&crate::timeline::tests::sample());
        for part in [
            "laptop",
            "class=\"down\"",
            "url(#hatch)",
            "class=\"paused\"",
            "class=\"sick\"",
            "class=\"revoke\"",
            "class=\"bad\"",
            "class=\"join\"",
            "class=\"lag\"",
            "prefers-color-scheme",
        ] {
            assert!(svg.contains(part), "{part}");
        }
        assert_eq!(svg.matches("<g>").count(), svg.matches("</g>").count());
    }

    #[test]
    fn a_thousand_nodes_get_forty_lanes_and_a_crowd() {
        let mut t = crate::timeline::tests::sample();
        t.names = (0..1_000).map(|n| format!("n{n}")).collect();
        for n in 40..700 {
            t.begin(100_000 + n as u64 * 100, n, State::Down);
            t.end(300_000 + n as u64 * 200, n, State::Down);
        }
        let svg = draw(&t);
        assert!(svg.contains("960 more") && svg.contains("n39<") && !svg.contains("n40<"));
        assert!(svg.contains("of 960 down"));
        assert!(svg.len() < 600_000, "{}", svg.len());
    }

    #[test]
    fn names_cannot_break_the_picture() {
        let mut t = Timeline::new("<script>&\"");
        t.names = vec!["<b>".to_owned()];
        t.mark(5, None, MarkKind::Fault, "a < b & c");
        let svg = draw(&t);
        assert!(!svg.contains("<script>") && !svg.contains("<b>"), "{svg}");
        assert!(svg.contains("a &lt; b &amp; c"));
    }

    #[test]
    fn an_empty_run_is_drawn_as_well() {
        assert!(draw(&Timeline::default()).ends_with("</svg>\n"));
    }
}
