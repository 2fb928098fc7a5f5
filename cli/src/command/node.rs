//! `lab node`: list machines, show one, confirm one, take one out.

use lab_crdt_log::{Body, Confirm};
use lab_crdt_model::span::nearest;
use lab_crdt_model::view::MemberView;
use lab_crdt_model::words;

use super::{Context, revoke};
use crate::args::{NodeConfirmArgs, NodeVerb, QueryArgs};
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
        NodeVerb::Confirm(args) => confirm(context, &args).await,
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

async fn confirm(context: Context<'_>, args: &NodeConfirmArgs) -> Result<Exit, CommandError> {
    let ui = context.ui;
    let session = Session::open(context.global, ui).await?;
    let picture = session.picture().await?;
    let machine = find(&picture, &args.node)?;
    let Some(member) = &machine.member else {
        let message = format!("{} is declared and never joined", machine.name);
        return Err(CommandError::new(Exit::Refused, "M022", message).hint("lab token create"));
    };
    let signer = session.signer(&picture.view)?;
    signer.allow("confirm", &[])?;
    ui.insist(&newcomer(&picture, member));
    if let Some(typed) = &args.words {
        if !is_said(typed, &words::of_node(&member.node)) {
            let what = format!("{} does not show these words", member.name);
            return Err(CommandError::new(Exit::Refused, "M039", what)
                .hint("look again at the screen of the machine")
                .hint(format!(
                    "another one came with its token: lab node rm {}",
                    member.name
                )));
        }
    } else if !ui.confirm(&format!(
        "Does {} itself show these words, and may it be a member?",
        member.name
    ))? {
        return Ok(Exit::Refused);
    }
    let body = Body::Confirm(Confirm { join: member.join });
    session.submit(&signer, vec![body]).await?;
    let tick = ui.paint().green("✓");
    ui.say(&format!("{tick} {} is confirmed", member.name));
    Ok(Exit::Done)
}

/// What is known of a machine that wants to be a member, for a person who stands before it.
fn newcomer(picture: &Picture, member: &MemberView) -> String {
    let mut out = format!(
        "{}  {}\n  words      {}",
        member.name,
        member.node,
        words::of_node(&member.node)
    );
    let mut line = |what: &str, text: String| out.push_str(&format!("\n  {what:<9}  {text}"));
    let Some(join) = picture.view.joins.iter().find(|j| j.node == member.node) else {
        return out;
    };
    if let Some(hardware) = &join.hardware {
        line("hardware", hardware.to_string());
    }
    if let Some(token) = picture.view.invites.iter().find(|i| i.id == join.invite) {
        let made_by = picture.author(&token.author);
        line("token", format!("{}, made by {made_by}", token.token));
    }
    for (node, at) in &join.witnesses {
        line(
            "seen",
            format!("by {} at {at}", picture.author(&node.author())),
        );
    }
    let missing =
        usize::try_from(join.needed).map_or(0, |n| n.saturating_sub(join.witnesses.len()));
    if missing > 0 {
        line("missing", format!("{missing} more that have to see it"));
    }
    out
}

/// Whether somebody typed these words, however they were put apart.
fn is_said(typed: &str, words: &str) -> bool {
    let typed = typed.to_lowercase();
    let typed = typed
        .split(|c: char| !c.is_alphabetic())
        .filter(|w| !w.is_empty());
    typed.eq(words.split(' '))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_the_same_however_they_are_put_apart() {
        let words = "abandon zoo able zone";
        for typed in ["abandon zoo able zone", " Abandon  ZOO-able, zone\n"] {
            assert!(is_said(typed, words), "{typed}");
        }
        for typed in [
            "",
            "abandon zoo able",
            "abandon zoo able zone zone",
            "zoo abandon able zone",
        ] {
            assert!(!is_said(typed, words), "{typed}");
        }
    }
}
