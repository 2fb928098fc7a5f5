//! `lab label list`, `show`, `add` and `rm`.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use super::table::Table;
use super::{Report, Style};
use crate::view::effect::{EffectLine, Mark};
use crate::view::label::{LabelDelta, LabelRow, LabelView};

/// Label keys.
pub(crate) struct LabelList(pub(crate) Vec<LabelRow>);

impl Report for LabelList {
    fn schema(&self) -> &'static str {
        "lab.labels/v1"
    }

    fn data(&self) -> Json {
        json!(self.0)
    }

    fn names(&self) -> Vec<String> {
        self.0
            .iter()
            .flat_map(|row| row.values.keys().cloned())
            .collect()
    }

    fn text(&self, style: &Style) -> String {
        let mut table = Table::new(["KEY", "KIND", "TIER", "NODES", "VALUES"]);
        for row in &self.0 {
            let values = row.values.iter().map(|(label, n)| {
                let value = label.split_once('=').map_or("", |(_, v)| v);
                if value.is_empty() {
                    String::new()
                } else {
                    format!("{value}({n})")
                }
            });
            let values: Vec<_> = values.filter(|v| !v.is_empty()).collect();
            let unused = if row.count == 0 { "unused" } else { "" };
            table.row([
                row.key.as_str().into(),
                if row.kind.is_empty() {
                    "unlisted"
                } else {
                    row.kind
                }
                .into(),
                row.tier.map(|t| t.to_string()).unwrap_or_default().into(),
                row.count.to_string().into(),
                if values.is_empty() {
                    unused.to_owned()
                } else {
                    values.join(" ")
                }
                .into(),
            ]);
        }
        table.render(style)
    }
}

impl Report for LabelView {
    fn schema(&self) -> &'static str {
        "lab.label/v1"
    }

    fn data(&self) -> Json {
        json!(self)
    }

    fn names(&self) -> Vec<String> {
        self.nodes.clone()
    }

    fn text(&self, style: &Style) -> String {
        let groups: Vec<_> = self.groups.iter().map(|g| format!("@{g}")).collect();
        let groups = if groups.is_empty() {
            String::new()
        } else {
            format!("    in groups: {}", groups.join(" "))
        };
        let nodes = super::count(self.nodes.len(), "node");
        let names = if self.nodes.is_empty() {
            String::new()
        } else {
            format!(": {}", self.nodes.join(" "))
        };
        let mut out = format!(
            "{}   {nodes}{names}{groups}\n",
            style.paint.bold(&self.label)
        );
        let mut sections: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (section, item) in &self.gives {
            sections.entry(section).or_default().push(item);
        }
        let mut table = Table::new(["", ""]);
        for (section, items) in sections {
            table.row([format!("  {section}").into(), items.join(", ").into()]);
        }
        out += &table.render(style);
        if let Some(first) = self.sources.first() {
            let more = match self.sources.len() - 1 {
                0 => String::new(),
                n => format!(" and {n} more"),
            };
            out += &style.paint.dim(&format!("  declared in {first}{more}\n"));
        }
        out
    }
}

/// What a change of labels did, or would do.
pub(crate) struct LabelChange {
    /// Labels by machine.
    pub(crate) changed: BTreeMap<String, LabelDelta>,
    /// What follows for its config, by machine.
    pub(crate) effects: BTreeMap<String, Vec<EffectLine>>,
    /// Groups whose size changes: name, before, after.
    pub(crate) groups: Vec<(String, usize, usize)>,
    /// The statements, if anything was written.
    pub(crate) changes: Vec<String>,
}

impl Report for LabelChange {
    fn schema(&self) -> &'static str {
        "lab.label-change/v1"
    }

    fn data(&self) -> Json {
        let changed = self.changed.iter().map(|(node, delta)| {
            json!({ "node": node, "add": delta.add, "remove": delta.remove,
                "effects": self.effects.get(node) })
        });
        let groups = self.groups.iter().map(
            |(name, before, after)| json!({ "group": name, "before": before, "after": after }),
        );
        json!({
            "changed": changed.collect::<Vec<_>>(),
            "groups": groups.collect::<Vec<_>>(),
            "changes": self.changes,
        })
    }

    fn names(&self) -> Vec<String> {
        self.changed.keys().cloned().collect()
    }

    fn text(&self, style: &Style) -> String {
        let mut table = Table::new(["", "", ""]);
        for (node, delta) in &self.changed {
            let added = delta.add.iter().map(|l| format!("+ {l}"));
            let gone = delta.remove.iter().map(|l| format!("- {l}"));
            let effects = self.effects.get(node).map_or("", |_| "gives:");
            let lines: Vec<_> = self
                .effects
                .get(node)
                .into_iter()
                .flatten()
                .map(effect_text)
                .collect();
            let effects = format!("{effects} {}", lines.join(", "));
            table.row([
                node.as_str().into(),
                added.chain(gone).collect::<Vec<_>>().join(" ").into(),
                if lines.is_empty() {
                    String::new()
                } else {
                    effects
                }
                .into(),
            ]);
        }
        let mut out = table.render(style);
        let groups: Vec<_> = self
            .groups
            .iter()
            .map(|(name, before, after)| format!("@{name} {before} → {after}"))
            .collect();
        if !groups.is_empty() {
            out += &format!("groups {}\n", groups.join(", "));
        }
        out
    }
}

fn effect_text(line: &EffectLine) -> String {
    let sign = match line.mark {
        Mark::Create => String::new(),
        Mark::Change | Mark::Destroy | Mark::Conflict | Mark::Deferred => {
            format!("{} ", line.mark.sign())
        }
    };
    match (&line.before, &line.after) {
        (Some(before), Some(after)) => format!("{sign}{} {before} → {after}", line.what),
        (None, Some(after)) => format!("{sign}{} = {after}", line.what),
        _ => format!("{sign}{}", line.what),
    }
}
