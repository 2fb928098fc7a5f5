//! A run as people read it: what was simulated, what was done to it, what the oracles say, and how to see it again.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use crate::duration::moment;

/// What one oracle objected to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Objection {
    /// The oracle's name: a sentence in snake case.
    pub oracle: String,
    /// When, virtual milliseconds.
    pub at_ms: u64,
    /// Where; `None` is the mesh.
    pub node: Option<usize>,
    /// What was expected, and what was seen.
    pub what: String,
}

/// A run.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Report {
    /// What was simulated, in sentences.
    pub simulated: Vec<String>,
    /// What was done to it, and how often.
    pub done: Vec<(String, u64)>,
    /// What the oracles objected to.
    pub objections: Vec<Objection>,
    /// How many oracles looked at it.
    pub oracle_count: usize,
    /// Figures, each with its unit.
    pub figures: Vec<(String, String)>,
    /// Situations that were reached, and how often.
    pub marks: BTreeMap<String, u64>,
    /// A hash of everything that happened, in hexadecimal.
    pub digest: String,
    /// What to type to see it again.
    pub replay: Vec<String>,
}

/// How parts of a text are painted.
pub trait Ink {
    /// A heading.
    fn strong(&self, text: &str) -> String;
    /// As it should be.
    fn good(&self, text: &str) -> String;
    /// Not as it should be.
    fn bad(&self, text: &str) -> String;
    /// Something to type.
    fn hint(&self, text: &str) -> String;
}

/// No paint.
impl Ink for () {
    fn strong(&self, text: &str) -> String {
        text.to_owned()
    }
    fn good(&self, text: &str) -> String {
        text.to_owned()
    }
    fn bad(&self, text: &str) -> String {
        text.to_owned()
    }
    fn hint(&self, text: &str) -> String {
        text.to_owned()
    }
}

/// The name of an oracle as a sentence: `replicas_converge` is "replicas converge".
pub fn sentence(oracle: &str) -> String {
    oracle.replace('_', " ")
}

impl Report {
    /// Whether nobody objected.
    pub fn is_well(&self) -> bool {
        self.objections.is_empty()
    }

    /// The text for people.
    pub fn text(&self, ink: &dyn Ink) -> String {
        let mut out = String::new();
        let _ = writeln!(out, "{}", ink.strong("What was simulated"));
        for line in &self.simulated {
            let _ = writeln!(out, "  {line}");
        }
        if !self.done.is_empty() {
            let _ = writeln!(out, "\n{}", ink.strong("What was done to it"));
            for (what, count) in &self.done {
                let _ = writeln!(out, "  {count:>6} × {what}");
            }
        }
        let _ = writeln!(out, "\n{}", ink.strong("What the oracles say"));
        if self.is_well() {
            let _ = writeln!(
                out,
                "  {} none of {} objects",
                ink.good("✓"),
                self.oracle_count
            );
        }
        for objection in &self.objections {
            let place = objection
                .node
                .map_or_else(|| "the mesh".to_owned(), |n| format!("n{n}"));
            let _ = writeln!(
                out,
                "  {} It must hold that {}. At {}, {place}: {}",
                ink.bad("✗"),
                sentence(&objection.oracle),
                moment(objection.at_ms),
                objection.what
            );
        }
        if !self.figures.is_empty() {
            let _ = writeln!(out, "\n{}", ink.strong("Figures"));
            let wide = self
                .figures
                .iter()
                .map(|f| f.0.chars().count())
                .max()
                .unwrap_or(0);
            for (name, value) in &self.figures {
                let _ = writeln!(out, "  {name:wide$}  {value}");
            }
        }
        if !self.marks.is_empty() {
            let _ = writeln!(
                out,
                "\n{}",
                ink.strong(&format!("Reached {} situations", self.marks.len()))
            );
            let mut rare: Vec<_> = self.marks.iter().collect();
            rare.sort_by_key(|(_, count)| **count);
            for (mark, count) in rare.iter().take(8) {
                let _ = writeln!(out, "  {count:>6} × {mark}");
            }
            if rare.len() > 8 {
                let _ = writeln!(out, "         and {} more often", rare.len() - 8);
            }
        }
        let _ = writeln!(out, "\n{}", ink.strong("See it again"));
        for line in &self.replay {
            let _ = writeln!(out, "  {}", ink.hint(line));
        }
        let _ = writeln!(out, "  digest {}", self.digest);
        out
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A run that failed.
    pub(crate) fn sample() -> Report {
        Report {
            simulated: vec!["7 machines for 10 min, seed 4711".into()],
            done: vec![("power cut".into(), 3)],
            objections: vec![Objection {
                oracle: "replicas_converge_when_links_heal".into(),
                at_ms: 83_200,
                node: Some(3),
                what: "n3 lacks two statements".into(),
            }],
            oracle_count: 20,
            figures: vec![("frames".into(), "12,345".into())],
            marks: BTreeMap::from([("two branches of one chain met".into(), 2)]),
            digest: "3f9ab2".into(),
            replay: vec!["lab-sim replay bug-3f9ab2/plan.ron".into()],
        }
    }

    #[test]
    fn an_objection_is_a_sentence_with_time_and_place() {
        let text = sample().text(&());
        assert!(
            text.contains("✗ It must hold that replicas converge when links heal. At 00:01:23.200, n3: n3 lacks two statements"),
            "{text}"
        );
        assert!(text.contains("     3 × power cut") && text.contains("digest 3f9ab2"));
    }

    #[test]
    fn a_run_without_objections_says_who_looked() {
        let report = Report {
            objections: vec![],
            ..sample()
        };
        assert!(report.text(&()).contains("✓ none of 20 objects"));
    }
}
