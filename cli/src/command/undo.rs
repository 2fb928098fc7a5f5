//! `lab undo`: takes a change back.

use lab_agent_api::ViewMask;
use lab_crdt_model::Op;

use super::Context;
use crate::args::UndoArgs;
use crate::error::{CommandError, Exit};
use crate::print::{Envelope, Report, count};
use crate::session::Session;
use crate::view::change::{self, HISTORY_COUNT};
use crate::view::picture::Picture;
use crate::view::plan::Plan;
use crate::view::undo::{newest, undo};

/// Shows what would stand again, asks, and writes it.
pub(super) async fn run(context: Context<'_>, args: UndoArgs) -> Result<Exit, CommandError> {
    let ui = context.ui;
    let session = Session::open(context.global, ui).await?;
    let mask = ViewMask::ALL.with_history(HISTORY_COUNT);
    let picture = Picture::new(session.view(mask).await?);
    let signer = session.signer(&picture.view)?;
    let history = &picture.view.history;
    let change = match &args.change {
        Some(wanted) => change::find(history, wanted).ok_or_else(|| {
            let what = format!("no change is called `{wanted}`");
            CommandError::new(Exit::NoMatch, "M027", what).hint("lab history")
        })?,
        None => {
            let id = newest(history, &signer.author());
            let found = history.iter().find(|c| Some(c.id) == id);
            found.ok_or_else(|| {
                let what = format!("{} has changed nothing", signer.operator.name);
                CommandError::new(Exit::NoMatch, "M027", what).hint("lab history")
            })?
        }
    };
    if change.ops.is_empty() {
        let what = format!("a {} cannot be taken back", change.kind);
        return Err(CommandError::new(Exit::Refused, "M036", what)
            .hint("a grant, a key or a token: lab revoke NAME"));
    }
    if !change.is_effective {
        let why = change.why_not.clone().unwrap_or_default();
        let what = format!("change {} does not count anyway: {why}", change.id.short());
        return Err(CommandError::new(Exit::Refused, "M036", what));
    }
    let undone = undo(history, &change.id).unwrap_or_default();
    let plan = Plan::undoing(&picture, &picture.with_ops(&undone.ops));
    if !ui.is_machine() && !args.dry_run {
        ui.out(&plan.text(&ui.style()));
    }
    for (path, by) in &undone.since {
        ui.warn(&format!("{} has changed {path} since", picture.author(by)));
    }
    if args.dry_run {
        return Ok(context.finish(&plan, Envelope::default(), Exit::Done));
    }
    if plan.is_empty() {
        ui.say("nothing is left of it");
        return Ok(Exit::Done);
    }
    let (labels, config): (Vec<_>, Vec<_>) = undone
        .ops
        .iter()
        .partition(|op: &&Op| op.path().is_below("label"));
    for (right, ops) in [("labels", labels), ("config", config)] {
        if !ops.is_empty() {
            signer.allow(right, &ops)?;
        }
    }
    if !undone.since.is_empty() && !args.force {
        let what = "others have changed the same since, nothing was changed";
        return Err(CommandError::new(Exit::Conflict, "M037", what)
            .hint("--force writes what stood before it all the same"));
    }
    let fields = count(plan.intent.len(), "field");
    let id = change.id.short();
    if !ui.confirm(&format!("Take back {id} ({fields})?"))? {
        return Ok(Exit::Refused);
    }
    let ids = session
        .submit_ops(&signer, &format!("undo {id}"), undone.ops)
        .await?;
    let shorts: Vec<_> = ids.iter().map(|id| id.short()).collect();
    ui.say(&format!(
        "{} {id} is taken back by {}",
        ui.paint().green("✓"),
        shorts.join(" ")
    ));
    if ui.is_machine() {
        return Ok(context.finish(&plan, Envelope::default(), Exit::Done));
    }
    Ok(Exit::Done)
}
