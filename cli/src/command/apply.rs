//! `lab apply`: makes declarations effective, then watches the machines take them on.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lab_crdt_config::Comparison;
use lab_crdt_model::time::parse_duration_ms;
use serde_json::{Value as Json, json};

use super::Context;
use super::follow::follow;
use super::plan::{exit_of, make, read};
use crate::args::ApplyArgs;
use crate::error::{CommandError, Exit};
use crate::print::plan::summary;
use crate::print::{Report, Style, count};
use crate::session::Session;
use crate::view::picture::Picture;
use crate::view::plan::{Outcome, outcome};

/// Applies and watches.
pub(super) async fn run(context: Context<'_>, args: ApplyArgs) -> Result<Exit, CommandError> {
    let ui = context.ui;
    let timeout = duration("--timeout", &args.timeout)?;
    let declared = read(context, &args.scope.files)?;
    let session = Session::open(context.global, ui).await?;
    let made = make(context, session.picture().await?, declared, &args.scope)?;
    let plan = &made.plan;

    if ui.is_stream() {
        ui.event("hello", &json!({ "schema": "lab.events/v1" }));
        ui.event("plan", plan);
    } else if !ui.is_machine() {
        ui.out(&plan.text(&ui.style()));
    }
    let ops = made
        .comparison
        .as_ref()
        .map(Comparison::ops)
        .unwrap_or_default();
    let mut ids = Vec::new();
    if !ops.is_empty() {
        let signer = session.signer(&made.picture.view)?;
        let (labels, config): (Vec<_>, Vec<_>) =
            ops.iter().partition(|op| op.path().is_below("label"));
        if !labels.is_empty() {
            signer.allow("labels", &labels)?;
        }
        if !config.is_empty() {
            signer.allow("config", &config)?;
        }
        let machines = count(plan.machines.len(), "machine");
        let changes = count(ops.len(), "change");
        if !ui.confirm(&format!("Apply {changes} on {machines}?"))? {
            ui.say("nothing was changed");
            return Ok(Exit::Refused);
        }
        let files: Vec<_> = args
            .scope
            .files
            .iter()
            .map(|f| f.display().to_string())
            .collect();
        let default = format!("apply -f {}", files.join(" -f "));
        let message = args.message.as_deref().unwrap_or(&default);
        ids = session.submit_ops(&signer, message, ops).await?;
        let shorts: Vec<_> = ids.iter().map(|id| id.short()).collect();
        ui.say(&format!(
            "{} written as {}",
            ui.paint().green("✓"),
            shorts.join(" ")
        ));
    }
    let mut report = Applied {
        plan: plan.plan.clone(),
        changes: ids.iter().map(ToString::to_string).collect(),
        outcomes: BTreeMap::new(),
        summary: if plan.is_empty() {
            String::new()
        } else {
            summary(plan)
        },
    };
    let targets: BTreeSet<String> = made
        .after
        .machines
        .iter()
        .filter(|m| m.takes_config() && plan.machines.iter().any(|p| p.name == m.name))
        .map(|m| m.name.clone())
        .collect();
    let mut exit = if plan.has_conflict() {
        Exit::Conflict
    } else {
        Exit::Done
    };
    if args.no_wait {
        exit = exit.worst(exit_of(plan));
    } else {
        report.outcomes = watch(context, &session, &targets, timeout).await?;
        for outcome in report.outcomes.values() {
            exit = exit.worst(match outcome {
                Outcome::Done => Exit::Done,
                Outcome::Failed(_) => Exit::Failed,
                Outcome::Conflict(_) => Exit::Conflict,
                Outcome::Silent | Outcome::Waiting => Exit::Partial,
            });
        }
    }
    let mut envelope = made.picture.envelope(made.selection.as_ref());
    if ui.is_stream() {
        envelope.exit = Some(exit);
        ui.event("summary", &envelope.json(&report));
        return Ok(exit);
    }
    if ui.is_machine() {
        return Ok(context.finish(&report, envelope, exit));
    }
    let text = report.text(&ui.style());
    if !text.is_empty() {
        ui.say(text.trim_end());
    }
    Ok(exit)
}

/// Reads a length of time from a flag.
pub(super) fn duration(flag: &str, text: &str) -> Result<Duration, CommandError> {
    parse_duration_ms(text)
        .map(Duration::from_millis)
        .ok_or_else(|| {
            CommandError::usage(format!("`{text}` is not a length of time ({flag})"))
                .hint("write it like 90s, 30m, 12h or 7d")
        })
}

/// Watches until every target is done, failed or silent, or the time is over. One line per machine, when it ends.
async fn watch(
    context: Context<'_>,
    session: &Session<'_>,
    targets: &BTreeSet<String>,
    timeout: Duration,
) -> Result<BTreeMap<String, Outcome>, CommandError> {
    let mut outcomes: BTreeMap<String, Outcome> = targets
        .iter()
        .map(|name| (name.clone(), Outcome::Waiting))
        .collect();
    if targets.is_empty() {
        return Ok(outcomes);
    }
    let mut took = Duration::ZERO;
    follow(session, timeout, |picture, elapsed| {
        look(context, picture, &mut outcomes, elapsed);
        took = elapsed;
        outcomes.values().all(|o| *o != Outcome::Waiting)
    })
    .await?;
    for (name, outcome) in &outcomes {
        if *outcome == Outcome::Waiting {
            tell(context, name, outcome, took);
        }
    }
    Ok(outcomes)
}

fn look(
    context: Context<'_>,
    picture: &Picture,
    outcomes: &mut BTreeMap<String, Outcome>,
    elapsed: Duration,
) {
    for (name, known) in outcomes {
        let Some(machine) = picture.machine(name) else {
            continue;
        };
        let now = outcome(picture, machine);
        if now != *known {
            *known = now;
            if *known != Outcome::Waiting {
                tell(context, name, known, elapsed);
            }
        }
    }
}

fn tell(context: Context<'_>, name: &str, outcome: &Outcome, elapsed: Duration) {
    let ui = context.ui;
    let tenths = elapsed.as_millis() / 100;
    let took = format!("{}.{}s", tenths / 10, tenths % 10);
    if ui.is_stream() {
        let (word, detail) = word(outcome);
        let body = json!({ "node": name, "outcome": word, "detail": detail, "after": took });
        ui.event(&format!("action.{word}"), &body);
        return;
    }
    let paint = ui.paint();
    let detail = crate::print::safe(word(outcome).1);
    let line = match outcome {
        Outcome::Done => format!("{} {name}  applied after {took}", paint.green("✓")),
        Outcome::Failed(_) => format!("{} {name}  failed: {detail}", paint.red("✗")),
        Outcome::Conflict(_) => {
            format!(
                "{} {name}  conflict: keeps what it has of {detail}",
                paint.yellow("✗")
            )
        }
        Outcome::Silent => {
            format!(
                "{} {name}  silent: will do it when it is back",
                paint.yellow("?")
            )
        }
        Outcome::Waiting => format!("{} {name}  no answer after {took}", paint.yellow("?")),
    };
    ui.say(&line);
}

fn word(outcome: &Outcome) -> (&'static str, &str) {
    match outcome {
        Outcome::Done => ("done", ""),
        Outcome::Failed(why) => ("failed", why),
        Outcome::Conflict(key) => ("conflict", key),
        Outcome::Silent => ("deferred", "not heard"),
        Outcome::Waiting => ("waiting", "no answer in time"),
    }
}

struct Applied {
    plan: String,
    changes: Vec<String>,
    outcomes: BTreeMap<String, Outcome>,
    summary: String,
}

impl Report for Applied {
    fn schema(&self) -> &'static str {
        "lab.apply/v1"
    }

    fn data(&self) -> Json {
        let outcomes = self.outcomes.iter().map(|(name, outcome)| {
            let (word, detail) = word(outcome);
            json!({ "node": name, "outcome": word, "detail": detail })
        });
        let counts =
            self.outcomes
                .values()
                .fold(BTreeMap::<&str, usize>::new(), |mut counts, o| {
                    *counts.entry(word(o).0).or_default() += 1;
                    counts
                });
        json!({
            "plan": self.plan,
            "changes": self.changes,
            "counts": counts,
            "outcomes": outcomes.collect::<Vec<_>>(),
        })
    }

    fn names(&self) -> Vec<String> {
        self.outcomes.keys().cloned().collect()
    }

    fn text(&self, _style: &Style) -> String {
        if self.outcomes.is_empty() {
            return self.summary.clone();
        }
        let of = |kind: &str| self.outcomes.values().filter(|o| word(o).0 == kind).count();
        let parts =
            ["done", "failed", "conflict", "deferred", "waiting"].map(|kind| (of(kind), kind));
        let parts: Vec<_> = parts
            .iter()
            .filter(|(n, _)| *n > 0)
            .map(|(n, kind)| format!("{n} {kind}"))
            .collect();
        format!("{}\n", parts.join(", "))
    }
}
