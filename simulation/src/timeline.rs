//! What happened in a run, for people: when which node was down, cut off or edited, and how equal the replicas were.
//!
//! Filled while a world runs; read by [`crate::svg`] and by [`Timeline::text`]. Knows nothing of agents.

use std::fmt::Write as _;

use serde::Serialize;

use crate::duration::moment;

/// Nodes that have a column or lane of their own; the others are counted together.
pub const LANES_MAX: usize = 40;

/// In which way a node was not simply up.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub enum State {
    /// Not part of the world yet.
    Absent,
    /// Cut off from some others.
    Cut,
    /// Its disk, clock or link misbehaves.
    Sick,
    /// Its process stands still.
    Paused,
    /// No power, or the process is dead.
    Down,
}

impl State {
    /// One character for the text form.
    pub const fn sign(self) -> char {
        match self {
            Self::Absent => ' ',
            Self::Cut => '/',
            Self::Sick => '~',
            Self::Paused => 'p',
            Self::Down => 'x',
        }
    }

    /// In words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Absent => "not there yet",
            Self::Cut => "cut off",
            Self::Sick => "sick",
            Self::Paused => "paused",
            Self::Down => "down",
        }
    }
}

/// A stretch in which a node was not simply up; `to_ms` is exclusive.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Span {
    /// Which node.
    pub node: usize,
    /// In which way.
    pub state: State,
    /// From when, milliseconds.
    pub from_ms: u64,
    /// Until when; `None` while it lasts.
    pub to_ms: Option<u64>,
}

/// What a mark stands for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub enum MarkKind {
    /// Someone changed intent.
    Edit,
    /// A machine became a member.
    Join,
    /// A key was revoked.
    Revoke,
    /// Something was done to the world.
    Fault,
    /// Something worth a line, not worth a sign.
    Note,
    /// An oracle objected.
    Violation,
}

/// One moment of note.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Mark {
    /// When, milliseconds.
    pub at_ms: u64,
    /// Where; `None` is the whole world.
    pub node: Option<usize>,
    /// What kind.
    pub kind: MarkKind,
    /// In words.
    pub text: String,
}

/// How equal the replicas were at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Sample {
    /// When, milliseconds.
    pub at_ms: u64,
    /// How many different sets of statements the live nodes hold.
    pub digests: u32,
    /// Live nodes that hold the most common set, per mille.
    pub equal_per_mille: u32,
    /// Age of the oldest edit that some live node lacks, milliseconds.
    pub lag_ms: u64,
}

/// A run as people look at it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Timeline {
    /// What it is about.
    pub title: String,
    /// Names of the nodes, by number.
    pub names: Vec<String>,
    /// Where the axis ends, milliseconds.
    pub end_ms: u64,
    /// When nodes were not simply up.
    pub spans: Vec<Span>,
    /// Moments of note.
    pub marks: Vec<Mark>,
    /// Equality over time.
    pub samples: Vec<Sample>,
}

impl Timeline {
    /// An empty one.
    pub fn new(title: &str) -> Self {
        Self {
            title: title.to_owned(),
            ..Self::default()
        }
    }

    /// Begins a stretch; nothing if it lasts already.
    pub fn begin(&mut self, at_ms: u64, node: usize, state: State) {
        self.see(at_ms);
        let is_open = |s: &Span| s.node == node && s.state == state && s.to_ms.is_none();
        if !self.spans.iter().any(is_open) {
            self.spans.push(Span {
                node,
                state,
                from_ms: at_ms,
                to_ms: None,
            });
        }
    }

    /// Ends a stretch that lasts.
    pub fn end(&mut self, at_ms: u64, node: usize, state: State) {
        self.see(at_ms);
        for span in &mut self.spans {
            if span.node == node && span.state == state && span.to_ms.is_none() {
                span.to_ms = Some(at_ms);
            }
        }
    }

    /// Notes a moment.
    pub fn mark(&mut self, at_ms: u64, node: Option<usize>, kind: MarkKind, text: &str) {
        self.see(at_ms);
        self.marks.push(Mark {
            at_ms,
            node,
            kind,
            text: text.to_owned(),
        });
    }

    /// Notes how equal the replicas are.
    pub fn sample(&mut self, sample: Sample) {
        self.see(sample.at_ms);
        self.samples.push(sample);
    }

    /// The axis reaches this far.
    pub fn see(&mut self, at_ms: u64) {
        self.end_ms = self.end_ms.max(at_ms);
    }

    /// How a node was at a moment; the worst of what lasted then. `None` is up.
    pub fn state(&self, node: usize, at_ms: u64) -> Option<State> {
        self.spans
            .iter()
            .filter(|s| s.node == node && s.from_ms <= at_ms && s.to_ms.is_none_or(|t| at_ms < t))
            .map(|s| s.state)
            .max()
    }

    /// One line per transition, in fixed columns: when, how all nodes are after it, how many different replicas
    /// there are, where, and what.
    pub fn text(&self) -> String {
        let lanes = self.names.len().min(LANES_MAX);
        let strip = lanes.max(5);
        let mut out = format!("# {}\n# ", self.title);
        for (n, name) in self.names.iter().take(LANES_MAX).enumerate() {
            let gap = if n == 0 { "" } else { ", " };
            let _ = write!(out, "{gap}{}={name}", n + 1);
        }
        if self.names.len() > LANES_MAX {
            let _ = write!(out, ", and {} more", self.names.len() - LANES_MAX);
        }
        out += "\n# nodes: . up, x down, p paused, / cut off, ~ sick; sets: how many different replicas\n";
        let wide = self
            .names
            .iter()
            .map(|n| n.chars().count())
            .max()
            .unwrap_or(0);
        let wide = wide.clamp(4, 12);
        let _ = writeln!(
            out,
            "{:>16}  {:strip$}  {:>4}  {:wide$}  what",
            "time", "nodes", "sets", "node"
        );
        // By time; what is said comes before what it changes.
        let mut changes: Vec<(u64, u8, Option<usize>, String)> = Vec::new();
        for span in &self.spans {
            if span.from_ms > 0 {
                let what = format!("{} from here", span.state.name());
                changes.push((span.from_ms, 1, Some(span.node), what));
            }
            if let Some(to) = span.to_ms {
                let word = match span.state {
                    State::Absent => "is there",
                    State::Cut => "reaches the others again",
                    State::Sick => "well again",
                    State::Paused => "goes on",
                    State::Down => "starts",
                };
                changes.push((to, 2, Some(span.node), word.to_owned()));
            }
        }
        for mark in &self.marks {
            let sign = if mark.kind == MarkKind::Violation {
                "VIOLATION "
            } else {
                ""
            };
            changes.push((mark.at_ms, 0, mark.node, format!("{sign}{}", mark.text)));
        }
        changes.sort_by_key(|(at, rank, node, _)| (*at, *rank, *node));
        for (at, _, node, what) in &changes {
            let states: String = (0..lanes)
                .map(|n| self.state(n, *at).map_or('.', State::sign))
                .collect();
            let name = node
                .and_then(|n| self.names.get(n))
                .map_or("-", String::as_str);
            let sets = self.digests_at(*at);
            let at = moment(*at);
            let _ = writeln!(
                out,
                "{at:>16}  {states:strip$}  {sets:>4}  {name:wide$}  {what}"
            );
        }
        out
    }

    fn digests_at(&self, at_ms: u64) -> String {
        let before = self.samples.partition_point(|s| s.at_ms <= at_ms);
        match before.checked_sub(1).and_then(|n| self.samples.get(n)) {
            Some(sample) => sample.digests.to_string(),
            None => "-".to_owned(),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Twelve minutes of seven machines.
    pub(crate) fn sample() -> Timeline {
        let mut t = Timeline::new("What happens when everything happens?");
        t.names = ["pi", "nas", "mini1", "mini2", "vm1", "vm2", "laptop"]
            .map(str::to_owned)
            .to_vec();
        t.begin(0, 6, State::Absent);
        t.mark(40_000, Some(6), MarkKind::Join, "laptop joins");
        t.end(40_000, 6, State::Absent);
        t.mark(100_000, Some(2), MarkKind::Edit, "ana sets motd");
        t.mark(120_000, None, MarkKind::Fault, "power fails in the cellar");
        t.begin(120_000, 1, State::Down);
        t.end(300_000, 1, State::Down);
        for n in 4..6 {
            t.begin(200_000, n, State::Cut);
            t.end(420_000, n, State::Cut);
        }
        t.begin(450_000, 3, State::Paused);
        t.end(480_000, 3, State::Paused);
        t.begin(500_000, 0, State::Sick);
        t.end(560_000, 0, State::Sick);
        t.mark(250_000, Some(4), MarkKind::Edit, "ana sets motd");
        t.mark(600_000, Some(0), MarkKind::Revoke, "bob's key is revoked");
        t.mark(
            650_000,
            Some(5),
            MarkKind::Violation,
            "replicas_are_equal_after_heal: vm2 differs",
        );
        for s in 0..720_u64 {
            let is_split = (250..425).contains(&s) || s > 600;
            t.sample(Sample {
                at_ms: s * 1_000,
                digests: if is_split {
                    2 + u32::from(s % 50 < 10)
                } else {
                    1
                },
                equal_per_mille: if is_split { 714 } else { 1_000 },
                lag_ms: if is_split {
                    s.saturating_sub(250).min(200) * 1_000
                } else {
                    0
                },
            });
        }
        t
    }

    #[test]
    fn the_worst_of_what_lasts_is_what_a_node_is() {
        let mut t = sample();
        assert_eq!(t.state(1, 119_999), None);
        assert_eq!(t.state(1, 120_000), Some(State::Down));
        assert_eq!(t.state(1, 300_000), None);
        t.begin(150_000, 1, State::Cut);
        assert_eq!(t.state(1, 160_000), Some(State::Down));
        assert_eq!(t.state(1, 310_000), Some(State::Cut));
    }

    #[test]
    fn the_text_has_one_line_per_transition_in_fixed_columns() {
        let text = sample().text();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[3].trim_start().starts_with("time"), "{text}");
        assert!(
            text.contains("    00:02:00.000  .x.....     1  nas     down from here"),
            "{text}"
        );
        assert!(
            text.contains("    00:03:20.000  .x..//.     1  vm1     cut off from here"),
            "{text}"
        );
        assert!(
            text.contains("VIOLATION replicas_are_equal_after_heal"),
            "{text}"
        );
        // Spans end twice as often as they begin at zero.
        assert_eq!(lines.len(), 4 + 5 + 6 + 6, "{text}");
    }

    #[test]
    fn a_stretch_that_lasts_is_not_begun_twice() {
        let mut t = Timeline::new("x");
        t.begin(1, 0, State::Down);
        t.begin(2, 0, State::Down);
        t.end(3, 0, State::Down);
        assert_eq!(t.spans.len(), 1);
        assert_eq!(t.spans[0].to_ms, Some(3));
    }
}
