//! `lab node`: list machines, show one, confirm one, take one out.

use lab_crdt_log::{Body, Confirm};
use lab_crdt_model::span::nearest;

use super::{Context, revoke};
use crate::args::{NodeVerb, QueryArgs};
use crate::error::{CommandError, Exit};
use crate::print::node::NodeList;
use crate::session::Session;
use crate::view::machine::Machine;
use crate::view::node::{NodeRow, NodeView};
use crate::view::picture::Picture;

/// Runs the verb.
pub(super) async fn run(context: Context<'_>, verb: NodeVerb) -> Result<Exit, CommandError> {
    match verb {
        NodeVerb::List(args) => list(context, &args).await,
        NodeVerb::Show(args) => show(context, &args.node).await,
        NodeVerb::Confirm(args) => confirm(context, &args.node).await,
        NodeVerb::Rm(args) => revoke::machine(context, &args.node).await,
    }
}

/// The machine with a name or id; an unknown one is an error with a suggestion.
pub(super) fn find<'a>(picture: &'a Picture, name: &str) -> Result<&'a Machine, CommandError> {
    picture.machine(name).ok_or_else(|| {
        let error = CommandError::new(
            Exit::NoMatch,
            "Q033",
            format!("no machine is called `{name}`"),
        );
        match nearest(name, picture.machines.iter().map(|m| m.name.as_str())) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => error.hint("lab node list"),
        }
    })
}

async fn list(context: Context<'_>, args: &QueryArgs) -> Result<Exit, CommandError> {
    let session = Session::open(context.global, context.ui).await?;
    let picture = session.picture().await?;
    let selection = picture.select_words(&args.query, args.allow_unknown)?;
    let rows = picture
        .machines
        .iter()
        .filter(|m| selection.as_ref().is_none_or(|s| s.names.contains(&m.name)))
        .map(|m| NodeRow::new(&picture, m));
    let list = NodeList(rows.collect());
    if !context.ui.is_machine() {
        context
            .ui
            .say(&context.ui.paint().dim(&picture.line().text()));
    }
    Ok(context.finish(&list, picture.envelope(selection.as_ref()), Exit::Done))
}

async fn show(context: Context<'_>, name: &str) -> Result<Exit, CommandError> {
    let session = Session::open(context.global, context.ui).await?;
    let picture = session.picture().await?;
    let view = NodeView::new(&picture, find(&picture, name)?);
    Ok(context.finish(&view, picture.envelope(None), Exit::Done))
}

async fn confirm(context: Context<'_>, name: &str) -> Result<Exit, CommandError> {
    let session = Session::open(context.global, context.ui).await?;
    let picture = session.picture().await?;
    let machine = find(&picture, name)?;
    let Some(member) = &machine.member else {
        let message = format!("{} is declared and never joined", machine.name);
        return Err(CommandError::new(Exit::Refused, "M022", message).hint("lab token create"));
    };
    let signer = session.signer(&picture.view)?;
    signer.allow("confirm", &[])?;
    let words = lab_crdt_model::words::words(&member.node.0, 6).join(" ");
    context.ui.say(&format!(
        "{} shows these words on its console: {words}",
        member.name
    ));
    if !context
        .ui
        .confirm(&format!("Confirm that {} may be a member?", member.name))?
    {
        return Ok(Exit::Refused);
    }
    let body = Body::Confirm(Confirm { join: member.join });
    session.submit(&signer, vec![body]).await?;
    context.ui.say(&format!(
        "{} {} is confirmed",
        context.ui.paint().green("✓"),
        member.name
    ));
    Ok(Exit::Done)
}
