//! `lab-sim run`, `replay` and `shrink`.

use std::path::Path;

use super::args::{ReplayArgs, RunArgs, ShrinkArgs, WorldArgs};
use super::bug::Bug;
use super::engine::{self, How, Ran, Source};
use super::exit::{Exit, Failure, read, write};
use super::progress::{Progress, short, timed, until};
use super::ui::{Paint, Ui};
use crate::plan::Plan;
use crate::report::Ink;
use crate::svg;

/// Real time that is spent on a shorter plan after a failure, milliseconds.
const SHRINK_MS: u64 = 120_000;

impl Ink for Paint {
    fn strong(&self, text: &str) -> String {
        Self::strong(*self, text)
    }
    fn good(&self, text: &str) -> String {
        Self::good(*self, text)
    }
    fn bad(&self, text: &str) -> String {
        Self::bad(*self, text)
    }
    fn hint(&self, text: &str) -> String {
        Self::hint(*self, text)
    }
}

fn watched(ui: &Ui, source: Source<'_>, world: &WorldArgs, how: How) -> Result<Ran, Failure> {
    let mut progress = Progress::new(ui);
    let ran = engine::run(source, world, how, &mut |reach| progress.tick(reach));
    let real_ms = (progress.done().as_millis() as u64).max(1);
    let ran = ran?;
    let speed = format!("{} node-seconds per second", short(ran.node_ms / real_ms));
    ui.say(&format!("{real_ms} ms real, {speed}"));
    Ok(ran)
}

/// Runs a plan and reports.
pub(crate) fn run(ui: &Ui, args: &RunArgs) -> Result<Exit, Failure> {
    let text = args.plan.as_deref().map(read).transpose()?;
    let source = match (&text, args.seed) {
        (Some(text), _) => Source::Text(text),
        (None, seed) => Source::Seed(seed.unwrap_or(0)),
    };
    // The first run is blind; what fails is run again with everything kept.
    let is_kept = args.svg.is_some() || args.trace.is_some();
    let how = How {
        is_traced: is_kept,
        ..How::default()
    };
    let mut ran = watched(ui, source, &args.world, how)?;
    let exit = Exit::of(ran.report.is_well());
    if exit == Exit::Violation {
        if !is_kept {
            let again = How {
                is_traced: true,
                ..How::default()
            };
            ran = watched(ui, source, &args.world, again)?;
        }
        leave(ui, &mut ran, &args.out)?;
    }
    if ran.report.replay.is_empty() {
        ran.report.replay.push(again(args));
    }
    if let Some(path) = &args.svg {
        write(path, &svg::draw(&ran.timeline))?;
    }
    if let Some(path) = &args.trace {
        write(path, &ran.timeline.text())?;
    }
    if let Some(path) = &args.report {
        write(path, &ran.report.text(&()))?;
    }
    if ui.is_json() {
        ui.json(&ran.report)?;
    } else {
        ui.out(&ran.report.text(&ui.paint));
    }
    Ok(exit)
}

/// What to type to see a run again.
fn again(args: &RunArgs) -> String {
    let mut line = match (&args.plan, args.seed) {
        (Some(plan), _) => format!("lab-sim run --plan {}", plan.display()),
        (None, seed) => format!("lab-sim run --seed {}", seed.unwrap_or(0)),
    };
    let world = &args.world;
    let mut add = |flag: &str, value: Option<String>| {
        if let Some(value) = value {
            line += &format!(" --{flag} {value}");
        }
    };
    add("profile", world.profile.clone());
    add("nodes", world.nodes.map(|n| n.to_string()));
    add("for", world.for_ms.map(crate::duration::flag));
    add("store", world.store.map(|s| s.to_string()));
    add("network", world.network.clone());
    line
}

/// Leaves what is needed to look into a failure behind.
pub(crate) fn leave(ui: &Ui, ran: &mut Ran, below: &Path) -> Result<(), Failure> {
    ui.say("it fails: looking for a shorter plan that fails the same way");
    let shrunk = engine::shrink(&ran.plan, &mut until(SHRINK_MS)).ok();
    let shrunk = shrunk.map(|plan| plan.write());
    let name = if shrunk.is_some() {
        "shrunk.ron"
    } else {
        "plan.ron"
    };
    let bug = Bug {
        plan: &ran.plan,
        shrunk: shrunk.as_deref(),
        report: &ran.report,
        timeline: &ran.timeline,
    };
    let file = bug.folder(below).join(name);
    let replay = format!("lab-sim replay {} --step", file.display());
    ran.report.replay.push(replay);
    let bug = Bug {
        report: &ran.report,
        plan: &ran.plan,
        shrunk: shrunk.as_deref(),
        timeline: &ran.timeline,
    };
    let folder = bug.write(below)?;
    ui.say(&format!("everything about it is in {}", folder.display()));
    Ok(())
}

/// Runs a plan again, to look at it.
pub(crate) fn replay(ui: &Ui, args: &ReplayArgs) -> Result<Exit, Failure> {
    let text = read(&args.plan)?;
    let how = How {
        until_ms: args.until,
        is_traced: true,
        dump: args.dump,
    };
    let ran = watched(ui, Source::Text(&text), &WorldArgs::default(), how)?;
    if let Some(path) = &args.svg {
        write(path, &svg::draw(&ran.timeline))?;
    }
    if args.step {
        ui.out(&format!("{}\n", ran.timeline.text()));
    }
    if let Some(dump) = &ran.dump {
        ui.out(&format!("{dump}\n"));
    } else {
        ui.out(&ran.report.text(&ui.paint));
    }
    Ok(Exit::of(ran.report.is_well()))
}

/// Makes a plan shorter.
pub(crate) fn shrink(ui: &Ui, args: &ShrinkArgs) -> Result<Exit, Failure> {
    let text = read(&args.plan)?;
    let (shrunk, real) = timed(|| engine::shrink(&text, &mut until(args.budget)));
    let shrunk = shrunk?;
    let before = engine::plan_of(Source::Text(&text), &WorldArgs::default())?;
    let size = |plan: &Plan| {
        format!(
            "{} actions, {} faults, {} nodes",
            plan.actions.len(),
            plan.faults.len(),
            plan.options.nodes
        )
    };
    let (was, is) = (size(&before), size(&shrunk));
    let shrunk = shrunk.write();
    let beside = || args.plan.with_file_name("shrunk.ron");
    let path = args.out.clone().unwrap_or_else(beside);
    write(&path, &shrunk)?;
    ui.out(&format!(
        "{}: {is} (from {was}), {} s\n",
        path.display(),
        real.as_secs()
    ));
    Ok(Exit::Well)
}
