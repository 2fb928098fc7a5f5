//! `lab checkpoint`: admins agree on what the history is.

use lab_agent_api::ViewMask;
use lab_crdt_log::{Body, Checkpoint, CoSign};
use lab_crdt_model::StatementId;
use lab_crdt_model::limit::CHECKPOINT_HEADS_MAX;
use lab_crdt_model::view::CheckpointView;

use super::Context;
use super::held::Majority;
use crate::args::{CheckpointArgs, CheckpointCreateArgs, CheckpointSignArgs, CheckpointVerb};
use crate::error::{CommandError, Exit};
use crate::print::checkpoint::{CheckpointList, NewCheckpoint};
use crate::print::{Envelope, Report, count};
use crate::session::Session;
use crate::view::picture::Picture;

/// How far back the last change that counts is looked for.
const HISTORY_COUNT: u32 = 1_000;

/// Runs the verb.
pub(super) async fn run(context: Context<'_>, args: CheckpointArgs) -> Result<Exit, CommandError> {
    match args.verb {
        None => create(context, args.create).await,
        Some(CheckpointVerb::Create(args)) => create(context, args).await,
        Some(CheckpointVerb::List) => {
            let session = Session::open(context.global, context.ui).await?;
            let picture = session.picture().await?;
            let list = CheckpointList::new(&picture, Majority::of(&picture.view));
            Ok(context.finish(&list, picture.envelope(None), Exit::Done))
        }
        Some(CheckpointVerb::Sign(args)) => sign(context, &args).await,
    }
}

async fn create(context: Context<'_>, args: CheckpointCreateArgs) -> Result<Exit, CommandError> {
    let ui = context.ui;
    let session = Session::open(context.global, ui).await?;
    let mask = ViewMask {
        chains: true,
        ..ViewMask::ALL.with_history(HISTORY_COUNT)
    };
    let picture = Picture::new(session.view(mask).await?);
    let chains = &picture.view.chains;
    if chains.len() > CHECKPOINT_HEADS_MAX {
        let what = format!(
            "{} authors are more than the {CHECKPOINT_HEADS_MAX} that one checkpoint names",
            chains.len()
        );
        return Err(CommandError::new(Exit::Refused, "K025", what)
            .hint("this version makes checkpoints of smaller meshes only"));
    }
    let majority = Majority::of(&picture.view);
    let mut new = NewCheckpoint::new(&picture, majority);
    if args.dry_run {
        return Ok(context.finish(&new, Envelope::default(), Exit::Done));
    }
    let signer = session.signer(&picture.view)?;
    signer.admin_only()?;
    if !ui.is_machine() {
        ui.out(&new.text(&ui.style()));
    }
    if picture.view.issues.iter().any(|issue| issue.code == "M020") {
        ui.warn("a chain has two branches, and the longer one is named: lab doctor says whose");
    }
    if !ui.confirm("Is this the history?")? {
        return Ok(Exit::Refused);
    }
    let mut heads: Vec<StatementId> = chains.iter().map(|c| c.head).collect();
    heads.sort_unstable();
    let body = Body::Checkpoint(Checkpoint { heads });
    let ids = session.submit(&signer, vec![body]).await?;
    let after = session.picture().await?;
    let made = ids.last().and_then(|id| found(&after, id));
    if let Some(made) = made {
        told(context, majority, made);
        new.set_made(made);
    }
    if ui.is_machine() {
        return Ok(context.finish(&new, after.envelope(None), Exit::Done));
    }
    Ok(Exit::Done)
}

async fn sign(context: Context<'_>, args: &CheckpointSignArgs) -> Result<Exit, CommandError> {
    let ui = context.ui;
    let session = Session::open(context.global, ui).await?;
    let picture = session.picture().await?;
    let wanted = named(&picture, &args.id)?;
    let signer = session.signer_cut_or_not(&picture.view)?;
    signer.admin_only()?;
    if wanted.signers.contains(&signer.author()) {
        ui.say("you have signed it already: lab checkpoint list shows who else has");
        return Ok(Exit::Done);
    }
    if wanted.missing_count > 0 {
        let what = format!(
            "{} that it names have not come here yet",
            count(wanted.missing_count as usize, "statement")
        );
        return Err(CommandError::new(Exit::Refused, "K026", what)
            .hint("lab status shows which machines are away"));
    }
    let by = picture.author(&wanted.author);
    let authors = count(wanted.author_count as usize, "author");
    ui.say(&format!(
        "{by} says what {authors} said up to {} is the history",
        wanted.at.wall()
    ));
    if wanted.void_count > 0 {
        ui.warn(&format!(
            "{} that it names do not count here: their authors were revoked",
            count(wanted.void_count as usize, "statement")
        ));
    }
    if !ui.confirm(&format!("Sign checkpoint {}?", wanted.id.short()))? {
        return Ok(Exit::Refused);
    }
    let proposal = wanted.id;
    session
        .submit(&signer, vec![Body::CoSign(CoSign { proposal })])
        .await?;
    let after = session.picture().await?;
    let majority = Majority::of(&after.view);
    if let Some(signed) = found(&after, &proposal) {
        told(context, majority, signed);
    }
    if ui.is_machine() {
        let mut list = CheckpointList::new(&after, majority);
        list.retain(&proposal);
        return Ok(context.finish(&list, after.envelope(None), Exit::Done));
    }
    Ok(Exit::Done)
}

fn told(context: Context<'_>, majority: Majority, checkpoint: &CheckpointView) {
    let name = checkpoint.id.short();
    let have = checkpoint.signers.len();
    if checkpoint.is_effective {
        let mark = context.ui.paint().green("✓");
        context.ui.say(&format!(
            "{mark} checkpoint {name} holds: {have} of {} admins stand behind it",
            majority.admins
        ));
        if majority.admins == 1 {
            context
                .ui
                .say("with one admin it binds nobody: it counts once there are more");
        }
    } else {
        context.ui.say(&format!(
            "checkpoint {name}: {have} of {} admins; {} more must sign it: lab checkpoint sign {name}",
            majority.admins,
            majority.need.saturating_sub(have)
        ));
    }
}

fn found<'a>(picture: &'a Picture, id: &StatementId) -> Option<&'a CheckpointView> {
    picture.view.checkpoints.iter().find(|c| c.id == *id)
}

fn named<'a>(picture: &'a Picture, wanted: &str) -> Result<&'a CheckpointView, CommandError> {
    let is_meant = |c: &&CheckpointView| c.id.to_string() == wanted || c.id.short() == wanted;
    let found = picture.view.checkpoints.iter().find(is_meant);
    found.ok_or_else(|| {
        let what = format!("no checkpoint is called `{wanted}`");
        CommandError::new(Exit::NoMatch, "M049", what).hint("lab checkpoint list")
    })
}
