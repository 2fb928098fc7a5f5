//! `lab audit`: what machines recorded of what happened, and whether these records are whole.

use std::path::Path;

use lab_agent_api::ViewMask;
use lab_crdt_model::NodeId;
use lab_crdt_model::time::parse_duration_ms;

use super::Context;
use crate::args::{AuditArgs, AuditVerb, AuditVerifyArgs};
use crate::error::{CommandError, Exit};
use crate::print::audit::{Audit, Verified};
use crate::session::{Session, client_error};
use crate::view::audit::{Chains, read_export, rows};
use crate::view::picture::Picture;

/// Shows records, or verifies them.
pub(super) async fn run(context: Context<'_>, args: AuditArgs) -> Result<Exit, CommandError> {
    let session = Session::open(context.global, context.ui).await?;
    let mask = ViewMask::ALL.with_history(0);
    let picture = Picture::new(session.view(mask).await?);
    if let Some(AuditVerb::Verify(args)) = &args.verb {
        return verify(context, &session, &picture, args).await;
    }
    let records = fetch(&session, &picture, args.node.as_deref()).await?;
    let mut rows = rows(&picture, &records);
    if let Some(who) = &args.who {
        rows.retain(|row| row.is_by(who));
    }
    if let Some(what) = &args.what {
        rows.retain(|row| row.what == *what);
    }
    if let Some(since) = &args.since {
        let since = instant(since)?;
        rows.retain(|row| row.at >= since);
    }
    if !context.ui.is_machine() {
        rows.sort_by(|a, b| a.at.cmp(&b.at));
    }
    Ok(context.finish(&Audit(rows), picture.envelope(None), Exit::Done))
}

async fn verify(
    context: Context<'_>,
    session: &Session<'_>,
    picture: &Picture,
    args: &AuditVerifyArgs,
) -> Result<Exit, CommandError> {
    let mut chains = Chains {
        picture,
        mesh: picture.view.mesh,
        is_file: args.file.is_some(),
    };
    let node = args
        .node
        .as_deref()
        .map(|name| named(picture, name))
        .transpose()?;
    let mut rows = match &args.file {
        None => {
            let records = fetch(session, picture, args.node.as_deref()).await?;
            chains.check(&records, node.or(Some(picture.view.me)))
        }
        Some(path) => {
            chains.is_file = true;
            let (records, fault) = read_export(&read(path)?);
            let mut rows = chains.check(&records, node);
            if rows.is_empty() || fault.is_some() {
                let fault = fault.unwrap_or_else(|| "there is no record in it".to_owned());
                return Err(broken(&fault));
            }
            if let Some(node) = node {
                rows.retain(|row| row.node == node.to_string());
            }
            rows
        }
    };
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    let exit = if rows.iter().any(|row| row.fault.is_some()) {
        Exit::Failed
    } else {
        Exit::Done
    };
    Ok(context.finish(&Verified(rows), picture.envelope(None), exit))
}

fn broken(fault: &str) -> CommandError {
    CommandError::new(
        Exit::Failed,
        "C050",
        format!("the export is not whole: {fault}"),
    )
}

fn read(path: &Path) -> Result<String, CommandError> {
    let text = if path == Path::new("-") {
        std::io::read_to_string(std::io::stdin())
    } else {
        std::fs::read_to_string(path)
    };
    text.map_err(|error| {
        let what = format!("read {}", path.display());
        CommandError::new(Exit::Input, "C051", what).because(&error)
    })
}

async fn fetch(
    session: &Session<'_>,
    picture: &Picture,
    node: Option<&str>,
) -> Result<Vec<bytes::Bytes>, CommandError> {
    let node = node.map(|name| named(picture, name)).transpose()?;
    let records = session.client.audit(node).await;
    records.map_err(|error| client_error(&error))
}

fn named(picture: &Picture, name: &str) -> Result<NodeId, CommandError> {
    let member = picture.view.members.iter().find(|m| m.name == name);
    member
        .map(|m| m.node)
        .or_else(|| name.parse().ok())
        .ok_or_else(|| {
            CommandError::new(Exit::NoMatch, "C052", format!("there is no machine {name}"))
                .hint("the members: lab node list")
        })
}

/// The beginning of a time, as records write it.
fn instant(text: &str) -> Result<String, CommandError> {
    if let Some(ms) = parse_duration_ms(text) {
        let now = crate::clock::wall().0;
        return Ok(lab_crdt_model::Wall(now.saturating_sub(ms)).to_string());
    }
    let is_date = text.len() >= 10
        && text.is_ascii()
        && text.starts_with(|c: char| c.is_ascii_digit())
        && text.as_bytes().get(4) == Some(&b'-');
    if is_date {
        return Ok(text.replace(' ', "T"));
    }
    Err(
        CommandError::usage(format!("`{text}` is no time (--since)"))
            .hint("write it like 2h, 7d, 2026-11-24 or 2026-11-24T16:00:00Z"),
    )
}
