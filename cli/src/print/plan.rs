//! `lab plan`, and what `lab apply` asks about.

use lab_crdt_model::time::age;
use serde_json::{Value as Json, json};

use super::paint::Tone;
use super::table::{Cell, Table};
use super::{Report, Style, count};
use crate::view::effect::{EffectLine, Mark};
use crate::view::plan::{MachinePlan, Plan};
use crate::view::undone;

/// Most fields of intent that are listed; `-o wide` lists all.
const INTENT_LINES_MAX: usize = 20;

const fn tone(mark: Mark) -> Tone {
    match mark {
        Mark::Create => Tone::Good,
        Mark::Change | Mark::Deferred => Tone::Warn,
        Mark::Destroy | Mark::Conflict => Tone::Bad,
    }
}

impl Report for Plan {
    fn schema(&self) -> &'static str {
        "lab.plan/v1"
    }

    fn data(&self) -> Json {
        json!(self)
    }

    fn names(&self) -> Vec<String> {
        self.machines.iter().map(|m| m.name.clone()).collect()
    }

    fn text(&self, style: &Style) -> String {
        let set = self
            .set
            .as_ref()
            .map(|s| format!("   set {s}"))
            .unwrap_or_default();
        let head = format!("plan {}{set}   targets {}", self.plan, self.targets.len());
        let mut out = format!("{}   {}\n", style.paint.bold(&head), self.heading);
        out += &intent(self, style);
        for machine in &self.machines {
            out += &format!("\n{}", machine_text(machine, style));
        }
        for owned in &self.owned {
            let mark = style.paint.red("✗");
            let at = owned
                .source
                .as_deref()
                .map(|s| format!(" ({s})"))
                .unwrap_or_default();
            out += &format!(
                "\n{mark} {}   is {}'s{at}: left alone\n",
                owned.path, owned.owner
            );
        }
        out += &standing_conflicts(self, style);
        if self.is_empty() {
            out += "\nnothing to do\n";
        } else {
            out += &format!("\n{}", summary(self));
        }
        if let Some(line) = undone::line(&self.undone) {
            out += &format!("{}\n", style.paint.dim(&line));
        }
        out
    }
}

/// Conflicts of machines that have nothing to do and so are not listed with them.
fn standing_conflicts(plan: &Plan, style: &Style) -> String {
    let is_listed = |name: &str| plan.machines.iter().any(|m| m.name == name);
    let lines = plan.conflicts.iter().filter(|conflict| {
        let name = conflict.split(' ').next().unwrap_or_default();
        !is_listed(name)
    });
    lines
        .map(|conflict| {
            let command = style.paint.cyan(&format!("lab explain {conflict}"));
            let mark = style.paint.red("✗");
            format!("\n{mark} {conflict}   in conflict: {command}\n")
        })
        .collect()
}

fn intent(plan: &Plan, style: &Style) -> String {
    if plan.intent.is_empty() {
        return String::new();
    }
    let mut table = Table::new(["", "", ""]);
    let max = if style.is_wide {
        usize::MAX
    } else {
        INTENT_LINES_MAX
    };
    for line in plan.intent.iter().take(max) {
        let value = match (&line.before, &line.after) {
            (Some(before), Some(after)) if before != after => format!("  {before} → {after}"),
            (_, Some(after)) if after != "true" => format!("  {after}"),
            _ => String::new(),
        };
        table.row([
            Cell::new(
                tone(line.mark),
                format!("  {} {}", line.mark.sign(), line.path),
            ),
            value.into(),
            Cell::new(Tone::Dim, &line.note),
        ]);
    }
    let mut out = format!("\nintent\n{}", table.render(style));
    if let Some(more) = plan.intent.len().checked_sub(max).filter(|n| *n > 0) {
        out += &format!("  … and {more} more (-o wide)\n");
    }
    out
}

fn machine_text(machine: &MachinePlan, style: &Style) -> String {
    let seen = match (machine.age_s, machine.is_deferred) {
        (Some(s), true) => format!("last heard {} ago", age(s * 1000)),
        (None, true) => "never heard".to_owned(),
        (Some(s), false) => format!("seen {}", age(s * 1000)),
        (None, false) => "never joined".to_owned(),
    };
    let mut out = format!(
        "{}   {}\n",
        style.paint.bold(&machine.name),
        style.paint.dim(&seen)
    );
    let mut table = Table::new(["", "", ""]);
    for line in &machine.actions {
        table.row(action(line, machine.is_deferred));
    }
    if machine.is_pending {
        let (mark, what) = if machine.is_deferred {
            (Mark::Deferred, "has not done what is already wanted")
        } else {
            (Mark::Change, "is still taking on what is already wanted")
        };
        table.row([
            Cell::new(tone(mark), format!("  {} {what}", mark.sign())),
            "".into(),
            "".into(),
        ]);
    }
    out += &table.render(style);
    if machine.is_deferred {
        let basis = match machine.age_s {
            Some(s) => format!("shown from what was known {} ago", age(s * 1000)),
            None => "shown from the declarations alone".to_owned(),
        };
        out += &style.paint.dim(&format!(
            "    deferred: runs by itself when it is back; {basis}\n"
        ));
    }
    out
}

fn action(line: &EffectLine, is_deferred: bool) -> [Cell; 3] {
    let is_conflict = line.mark == Mark::Conflict;
    let mark = if is_deferred && !is_conflict {
        Mark::Deferred
    } else {
        line.mark
    };
    let was = match (mark, line.mark) {
        (Mark::Deferred, Mark::Create) => "+ ",
        (Mark::Deferred, Mark::Destroy) => "- ",
        _ => "",
    };
    let value = match (&line.before, &line.after) {
        _ if is_conflict => format!("conflict {}: keeps what it has", line.from),
        (Some(before), Some(after)) => format!("{before} → {after}"),
        (None, Some(after)) => after.clone(),
        (Some(before), None) if line.mark == Mark::Destroy => format!("was {before}"),
        (Some(_) | None, None) => String::new(),
    };
    let from = if is_conflict { "" } else { line.from.as_str() };
    [
        Cell::new(tone(mark), format!("  {} {was}{}", mark.sign(), line.what)),
        value.into(),
        Cell::new(Tone::Dim, from),
    ]
}

/// The counts at the end.
pub(crate) fn summary(plan: &Plan) -> String {
    let of = |mark| plan.intent.iter().filter(|l| l.mark == mark).count();
    let mut parts = Vec::new();
    if !plan.intent.is_empty() {
        parts.push(format!(
            "{} of intent: {} create, {} change, {} destroy",
            count(plan.intent.len(), "change"),
            of(Mark::Create),
            of(Mark::Change),
            of(Mark::Destroy)
        ));
    }
    parts.push(format!(
        "{} affected",
        count(plan.machines.len(), "machine")
    ));
    for (n, word) in [
        (plan.deferred_count(), "deferred"),
        (plan.owned.len(), "owned by others"),
        (plan.conflicts.len(), "in conflict"),
    ] {
        if n > 0 {
            parts.push(format!("{n} {word}"));
        }
    }
    let mut out = format!("{}\n", parts.join(" · "));
    if plan.pending_elsewhere > 0 {
        out += &format!(
            "not in this target: {} more affected\n",
            plan.pending_elsewhere
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use lab_crdt_config::{Source, compare, parse};

    use super::*;
    use crate::view::sample;

    #[test]
    fn a_plan_reads_like_a_plan() {
        let text = "{lab: 1, set: homelab, labels: {role=web: {params: {x: 6}, classes: [nginx]}}}";
        let fleet = sample::fleet()
            .born("b", "role=web")
            .born("c", "role=web")
            .set("on/role=web/params/x", "4")
            .in_sync("a")
            .in_sync("b")
            .in_sync("c")
            .in_sync("d")
            .silent("c", 259_200_000);
        let picture = fleet.picture();
        let (declared, _) = parse(&[Source {
            name: "lab.yaml",
            text,
        }]);
        let comparison = compare(&declared, &picture.standing(), &[]);
        let after = picture.with_ops(&comparison.ops());
        let plan = Plan::new(&picture, &after, Some((declared.set(), &comparison)), None);
        let shown = plan.text(&Style::plain());
        let machines = shown.split_once("\nb   ").unwrap().1;
        let want = "\
seen 5s
  + class nginx         role=web
  ~ param x      4 → 6  role=web

c   last heard 3d ago
  ? + class nginx         role=web
  ? param x        4 → 6  role=web
    deferred: runs by itself when it is back; shown from what was known 3d ago
";
        assert!(machines.starts_with(want), "{machines}");
        assert!(
            shown.contains("2 machines affected · 1 deferred\n"),
            "{shown}"
        );
    }
}
