//! `lab label`: what machines are.

use std::collections::BTreeMap;

use lab_crdt_model::Label;

use super::Context;
use crate::args::{LabelChangeArgs, LabelVerb};
use crate::error::{CommandError, Exit};
use crate::print::label::{LabelChange, LabelList};
use crate::session::Session;
use crate::view::effect::between;
use crate::view::label::{LabelEdit, LabelView, labels};
use crate::view::picture::Picture;

/// Runs the verb.
pub(super) async fn run(context: Context<'_>, verb: LabelVerb) -> Result<Exit, CommandError> {
    match verb {
        LabelVerb::List => {
            let session = Session::open(context.global, context.ui).await?;
            let picture = session.picture().await?;
            let list = LabelList(labels(&picture));
            Ok(context.finish(&list, picture.envelope(None), Exit::Done))
        }
        LabelVerb::Show(args) => {
            let label = parse(&args.label)?;
            let session = Session::open(context.global, context.ui).await?;
            let picture = session.picture().await?;
            let view = LabelView::new(&picture, &label);
            if view.nodes.is_empty() && view.gives.is_empty() {
                let message = format!("no machine has the label {label} and nothing hangs on it");
                return Err(
                    CommandError::new(Exit::NoMatch, "Q030", message).hint("lab label list")
                );
            }
            Ok(context.finish(&view, picture.envelope(None), Exit::Done))
        }
        LabelVerb::Add(args) => change(context, args, LabelEdit::add, "add").await,
        LabelVerb::Rm(args) => change(context, args, LabelEdit::remove, "rm").await,
    }
}

/// A label that a person typed.
pub(super) fn parse(text: &str) -> Result<Label, CommandError> {
    text.parse()
        .map_err(|error: lab_crdt_model::label::LabelError| {
            CommandError::new(Exit::Input, "D013", format!("use the label `{text}`"))
                .because(&error)
        })
}

type MakeEdit =
    fn(&Picture, &std::collections::BTreeSet<String>, &[Label], &str, bool) -> LabelEdit;

async fn change(
    context: Context<'_>,
    args: LabelChangeArgs,
    make: MakeEdit,
    verb: &str,
) -> Result<Exit, CommandError> {
    let wanted = args
        .labels
        .iter()
        .map(|l| parse(l))
        .collect::<Result<Vec<_>, _>>()?;
    let session = Session::open(context.global, context.ui).await?;
    let picture = session.picture().await?;
    let selection = picture.select(&args.target, false)?;
    if selection.names.is_empty() {
        let message = format!(
            "`{}` matches no machine, nothing was changed",
            selection.line.normal
        );
        return Err(CommandError::new(Exit::NoMatch, "Q050", message)
            .hint(format!("lab target '{}'", selection.line.normal)));
    }
    let signer = if args.dry_run {
        None
    } else {
        Some(session.signer(&picture.view)?)
    };
    let person = signer.as_ref().map_or("you", |s| s.operator.name.as_str());
    let edit = make(&picture, &selection.names, &wanted, person, args.take);
    refuse(&edit)?;
    if let Some(signer) = &signer {
        signer.allow("labels", &edit.ops.iter().collect::<Vec<_>>())?;
    }
    let after = picture.with_ops(&edit.ops);
    let changes = match &signer {
        Some(signer) if !edit.ops.is_empty() => {
            let default = format!("label {verb} {} -t {}", args.labels.join(" "), args.target);
            let message = args.message.as_deref().unwrap_or(&default);
            let ids = session
                .submit_ops(signer, message, edit.ops.clone())
                .await?;
            ids.iter().map(|id| id.short()).collect()
        }
        Some(_) | None => Vec::new(),
    };
    if edit.ops.is_empty() {
        context.ui.say(&format!(
            "nothing to change on {}",
            crate::print::count(selection.names.len(), "machine")
        ));
    } else if args.dry_run {
        context.ui.say("dry run: nothing was changed");
    }
    let report = LabelChange {
        effects: effects(&picture, &after, &edit),
        groups: groups(&picture, &after),
        changed: edit.changed,
        changes,
    };
    Ok(context.finish(&report, picture.envelope(Some(&selection)), Exit::Done))
}

fn refuse(edit: &LabelEdit) -> Result<(), CommandError> {
    if let Some(first) = edit.unlisted.first() {
        return Err(CommandError::new(Exit::Input, "D014", first.clone())
            .hint("lab label list shows the vocabulary"));
    }
    let Some(first) = edit.owned.first() else {
        return Ok(());
    };
    let at = first
        .source
        .as_deref()
        .map(|s| format!(" ({s})"))
        .unwrap_or_default();
    let message = format!(
        "{} is declared by {}{at}, nothing was changed",
        first.path, first.owner
    );
    Err(CommandError::new(Exit::Conflict, "D031", message)
        .hint("change it there and run: lab apply -f FILE")
        .hint("or take it over: the same command with --take"))
}

fn effects(
    before: &Picture,
    after: &Picture,
    edit: &LabelEdit,
) -> BTreeMap<String, Vec<crate::view::effect::EffectLine>> {
    let lines = edit.changed.keys().filter_map(|name| {
        let (old, new) = (before.machine(name)?, after.machine(name)?);
        let lines = between(&before.effective(old), &after.effective(new));
        (!lines.is_empty()).then(|| (name.clone(), lines))
    });
    lines.collect()
}

fn groups(before: &Picture, after: &Picture) -> Vec<(String, usize, usize)> {
    let sizes = before.groups.keys().map(|group| {
        (
            group.clone(),
            before.members_of(group).len(),
            after.members_of(group).len(),
        )
    });
    sizes.filter(|(_, old, new)| old != new).collect()
}
