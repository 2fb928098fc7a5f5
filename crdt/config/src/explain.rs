//! Where a value of the effective config comes from.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use lab_crdt_model::{Issue, Label, Value};

use crate::effective::{
    Claim, Conflict, Effective, NodeFacts, Removed, Resolved, Section, effective,
};
use crate::intent::{Intent, brief};

/// How one value stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum LineState {
    /// Decided.
    Ok,
    /// Two wishes of the same tier disagree.
    Conflict,
    /// Taken away by a `without`.
    Removed,
}

/// One value and how it came about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    /// In which part.
    pub section: Section,
    /// Which item.
    pub item: String,
    /// Which of its fields; empty where an item is one value.
    pub field: String,
    /// How it stands.
    pub state: LineState,
    /// The value, if it is decided.
    pub value: Option<Value>,
    /// Who carries it.
    pub chosen: Vec<Claim>,
    /// Who lost, strongest first; for a removed item, who would add it.
    pub beaten: Vec<Claim>,
    /// Who disagrees.
    pub conflict: Vec<Claim>,
    /// Whose `without` took it away.
    pub removed_by: Option<Claim>,
}

/// The effective config of a node, or a part of it, with where it comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Explanation {
    /// The node.
    pub node: String,
    /// Its labels, weakest tier first.
    pub labels: Vec<Label>,
    /// What was asked for; `None` is everything.
    pub key: Option<String>,
    /// Hash of the whole effective config.
    pub desired: [u8; 32],
    /// The values, by section and item; empty if nothing is called like the key.
    pub lines: Vec<Line>,
    /// Problems of the whole config.
    pub issues: Vec<Issue>,
}

/// Explains the config of a node.
///
/// `key` is an item (`nginx::worker_processes`, `/etc/motd`, `node-gone`), an item and a field (`/etc/motd mode`)
/// or a section (`params`). Groups as for [`effective`].
pub fn explain(
    intent: &Intent,
    node: &NodeFacts<'_>,
    groups_of_node: &[String],
    key: Option<&str>,
) -> Explanation {
    let effective = effective(intent, node, groups_of_node);
    let mut labels = node.labels.to_vec();
    labels.sort_by(|a, b| {
        let strength = |label: &Label| intent.strength(&label.key).map_or(0, |place| place + 1);
        (strength(a), a).cmp(&(strength(b), b))
    });
    labels.dedup();
    let mut lines: Vec<_> = effective
        .values()
        .map(|(s, i, f, r)| Line::decided(s, i, f, r))
        .collect();
    lines.extend(effective.removed.iter().map(Line::removed));
    lines.sort_by(|a, b| {
        (a.section, &a.item, &a.field, a.state).cmp(&(b.section, &b.item, &b.field, b.state))
    });
    if let Some(key) = key {
        lines.retain(|line| line.answers(key));
    }
    let desired = effective.hash();
    let Effective { issues, .. } = effective;
    let (node, key) = (node.name.to_owned(), key.map(str::to_owned));
    Explanation {
        node,
        labels,
        key,
        desired,
        lines,
        issues,
    }
}

impl Line {
    fn decided(section: Section, item: &str, field: &str, resolved: &Resolved) -> Self {
        let state = if resolved.conflict.is_empty() {
            LineState::Ok
        } else {
            LineState::Conflict
        };
        Self {
            section,
            item: item.to_owned(),
            field: field.to_owned(),
            state,
            value: resolved.value.clone(),
            chosen: resolved.chosen.clone(),
            beaten: resolved.beaten.clone(),
            conflict: resolved.conflict.clone(),
            removed_by: None,
        }
    }

    fn removed(removed: &Removed) -> Self {
        Self {
            section: removed.section,
            item: removed.item.clone(),
            field: String::new(),
            state: LineState::Removed,
            value: None,
            chosen: Vec::new(),
            beaten: removed.claims.clone(),
            conflict: Vec::new(),
            removed_by: Some(removed.by.clone()),
        }
    }

    /// The item, with the field if it has one.
    pub fn name(&self) -> String {
        if self.field.is_empty() {
            self.item.clone()
        } else {
            format!("{} {}", self.item, self.field)
        }
    }

    fn answers(&self, key: &str) -> bool {
        key == self.item || key == self.section.as_str() || key == self.name()
    }

    /// Whose value it is: `role=web`, or several.
    fn from(&self) -> String {
        let from: Vec<_> = self
            .chosen
            .iter()
            .map(|claim| claim.from.as_str())
            .collect();
        from.join(" ")
    }
}

impl Explanation {
    /// How many values are held back by disagreement.
    pub fn conflict_count(&self) -> usize {
        self.lines
            .iter()
            .filter(|line| line.state == LineState::Conflict)
            .count()
    }

    /// As text: one table for everything, one paragraph per value for a key. Ends in a newline.
    pub fn render(&self) -> String {
        if self.key.is_some() {
            self.paragraphs()
        } else {
            self.table()
        }
    }

    fn table(&self) -> String {
        let labels: Vec<_> = self.labels.iter().map(Label::to_string).collect();
        let desired: String = self.desired[..4]
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        let mut out = format!(
            "{}  labels {}  desired {desired}\n",
            self.node,
            labels.join(" ")
        );
        let sections: Vec<_> = Section::ALL
            .into_iter()
            .map(|section| (section, self.rows(section)))
            .collect();
        let widest = |width: fn(&Row) -> usize| {
            let rows = sections.iter().flat_map(|(_, rows)| rows);
            rows.map(width).max().unwrap_or(0)
        };
        let left_width = widest(|row| row.left.chars().count()).min(46);
        let from_width = widest(|row| row.from.chars().count());
        for (section, rows) in sections {
            let mut title = section.as_str();
            for Row {
                mark,
                left,
                from,
                note,
            } in rows
            {
                let mark = if mark { "✗" } else { " " };
                let line =
                    format!("{title:<8}{mark} {left:<left_width$}  {from:<from_width$}  {note}");
                out += line.trim_end();
                out.push('\n');
                title = "";
            }
        }
        let first = self
            .lines
            .iter()
            .find(|line| line.state == LineState::Conflict);
        if let Some(first) = first {
            let count = self.conflict_count();
            let plural = if count == 1 { "" } else { "s" };
            _ = writeln!(
                out,
                "{count} conflict{plural}   lab explain {} {}",
                self.node, first.item
            );
        }
        out
    }

    fn rows(&self, section: Section) -> Vec<Row> {
        let lines = || self.lines.iter().filter(|line| line.section == section);
        let mut rows = Vec::new();
        if matches!(section, Section::Classes | Section::Packages) {
            let mut by_source: BTreeMap<_, (String, Vec<&str>)> = BTreeMap::new();
            for line in lines().filter(|line| line.state == LineState::Ok) {
                let tier = line.chosen.first().map(|claim| claim.tier);
                let entry = by_source.entry((tier, line.from())).or_default();
                entry.0 = line.from();
                entry.1.push(&line.item);
            }
            rows.extend(by_source.into_values().map(|(from, names)| Row {
                mark: false,
                left: names.join(" "),
                from,
                note: String::new(),
            }));
        }
        for line in lines() {
            let is_name_only = matches!(section, Section::Classes | Section::Packages);
            match line.state {
                LineState::Ok if is_name_only => {}
                LineState::Ok => {
                    let value = line.value.as_ref().map(brief).unwrap_or_default();
                    let left = format!("{} = {value}", line.name());
                    let beaten: Vec<_> = line
                        .beaten
                        .iter()
                        .map(|claim| format!("{} = {}", claim.from, brief(&claim.field.value)))
                        .collect();
                    let note = match &beaten[..] {
                        [] => String::new(),
                        beaten => format!("beats {}", beaten.join("   ")),
                    };
                    rows.push(Row {
                        mark: false,
                        left,
                        from: line.from(),
                        note,
                    });
                }
                LineState::Conflict => {
                    let wishes: Vec<_> = line
                        .conflict
                        .iter()
                        .map(|claim| format!("{} = {}", claim.from, brief(&claim.field.value)))
                        .collect();
                    let (from, note) = ("CONFLICT".to_owned(), wishes.join("   "));
                    rows.push(Row {
                        mark: true,
                        left: line.name(),
                        from,
                        note,
                    });
                }
                LineState::Removed => {
                    let by = line
                        .removed_by
                        .as_ref()
                        .map(|claim| claim.from.as_str())
                        .unwrap_or_default();
                    let wanted: Vec<_> = line
                        .beaten
                        .iter()
                        .map(|claim| claim.from.as_str())
                        .collect();
                    let note = format!("without, by {by}");
                    let (left, from) = (format!("- {}", line.name()), wanted.join(" "));
                    rows.push(Row {
                        mark: false,
                        left,
                        from,
                        note,
                    });
                }
            }
        }
        rows
    }

    fn paragraphs(&self) -> String {
        let mut out = String::new();
        for line in &self.lines {
            let name = line.name();
            match line.state {
                LineState::Ok => {
                    let value = line.value.as_ref().map(brief).unwrap_or_default();
                    _ = writeln!(out, "{name} on {} is {value}", self.node);
                    for claim in &line.chosen {
                        out += &claim_line("from", claim);
                    }
                    for claim in &line.beaten {
                        out += &claim_line("beats", claim);
                    }
                }
                LineState::Conflict => {
                    let conflict = Conflict {
                        section: line.section,
                        item: line.item.clone(),
                        field: line.field.clone(),
                        claims: line.conflict.clone(),
                    };
                    _ = writeln!(
                        out,
                        "error[D021]: two wishes of the same tier disagree on {name}"
                    );
                    for claim in &line.conflict {
                        out += &claim_line("wish", claim);
                    }
                    for claim in &line.beaten {
                        out += &claim_line("beaten", claim);
                    }
                    _ = writeln!(out, "  {} keeps what it applied last", self.node);
                    _ = writeln!(out, "  help: {}", conflict.help(&self.node));
                }
                LineState::Removed => {
                    _ = writeln!(out, "{name} is removed from {}", self.node);
                    if let Some(claim) = &line.removed_by {
                        out += &claim_line("by", claim);
                    }
                    for claim in &line.beaten {
                        out += &claim_line("beats", claim);
                    }
                }
            }
        }
        out
    }
}

struct Row {
    mark: bool,
    left: String,
    from: String,
    note: String,
}

fn claim_line(verb: &str, claim: &Claim) -> String {
    let value = brief(&claim.field.value);
    let source = claim.field.source.as_deref().unwrap_or("");
    let owners = claim.field.owners.join(", ");
    let line = format!(
        "  {verb:<6} {:<14} {value:<24} {source:<20} {owners}",
        claim.from
    );
    format!("{}\n", line.trim_end())
}

#[cfg(test)]
mod tests;
