//! `lab revoke`: takes away what was given, to a machine, an operator or a token.

use lab_crdt_log::{Body, Revoke, RevokeInvite};
use lab_crdt_model::AuthorId;
use lab_crdt_model::view::{InviteView, MemberState, MemberView, OperatorView};

use super::Context;
use crate::error::{CommandError, Exit};
use crate::session::{Session, Signer, client_error, shorten};
use crate::view::picture::Picture;
use crate::view::token;

/// Revokes whatever is called `name`.
pub(super) async fn run(
    context: Context<'_>,
    name: &str,
    message: Option<&str>,
) -> Result<Exit, CommandError> {
    let session = Session::open(context.global, context.ui).await?;
    let picture = session.picture().await?;
    let (member, operator) = (member(&picture, name), operator(&picture, name));
    match (member, operator, token::find(&picture, name)) {
        (Some(_), Some(_), _) => {
            let what = format!("`{name}` is a machine and an operator");
            Err(CommandError::new(Exit::NoMatch, "M023", what)
                .hint(format!("lab node rm {name}"))
                .hint(format!("lab operator rm {name}")))
        }
        (Some(member), None, _) => {
            revoke_machine(context, &session, &picture, member, message).await
        }
        (None, Some(operator), _) => {
            revoke_operator(context, &session, &picture, operator, message).await
        }
        (None, None, Ok(invite)) => revoke_token(context, &session, &picture, invite).await,
        (None, None, Err(_)) => {
            let what = format!("no machine, operator or token is called `{name}`");
            Err(CommandError::new(Exit::NoMatch, "M024", what)
                .hint("lab node list")
                .hint("lab operator list")
                .hint("lab token list"))
        }
    }
}

/// Revokes a machine.
pub(super) async fn machine(context: Context<'_>, name: &str) -> Result<Exit, CommandError> {
    let session = Session::open(context.global, context.ui).await?;
    let picture = session.picture().await?;
    match member(&picture, name) {
        Some(member) => revoke_machine(context, &session, &picture, member, None).await,
        None => {
            let found = super::node::find(&picture, name)?;
            let what = format!("{} is declared and never joined", found.name);
            Err(CommandError::new(Exit::Refused, "M022", what)
                .hint("remove it from its declaration and run: lab apply -f FILE"))
        }
    }
}

/// Revokes an operator.
pub(super) async fn person(context: Context<'_>, name: &str) -> Result<Exit, CommandError> {
    let session = Session::open(context.global, context.ui).await?;
    let picture = session.picture().await?;
    let Some(operator) = operator(&picture, name) else {
        let what = format!("no operator is called `{name}`");
        return Err(CommandError::new(Exit::NoMatch, "M025", what).hint("lab operator list"));
    };
    revoke_operator(context, &session, &picture, operator, None).await
}

/// Revokes a token.
pub(super) async fn ticket(context: Context<'_>, id: &str) -> Result<Exit, CommandError> {
    let session = Session::open(context.global, context.ui).await?;
    let picture = session.picture().await?;
    revoke_token(context, &session, &picture, token::find(&picture, id)?).await
}

async fn revoke_machine(
    context: Context<'_>,
    session: &Session<'_>,
    picture: &Picture,
    member: &MemberView,
    message: Option<&str>,
) -> Result<Exit, CommandError> {
    let signer = session.signer(&picture.view)?;
    signer.admin_only()?;
    context.ui.say(&format!(
        "{} loses its identity and is no longer part of the mesh.",
        member.name
    ));
    context
        .ui
        .say("This does not delete a virtual machine, and does not clean its disk.");
    if member.node == picture.view.me {
        context
            .ui
            .warn("this is the machine whose agent you are talking to");
    }
    name_typed(context, &member.name)?;
    revoke_key(session, &signer, member.node.author(), message).await?;
    done(context, &member.name);
    Ok(Exit::Done)
}

async fn revoke_operator(
    context: Context<'_>,
    session: &Session<'_>,
    picture: &Picture,
    operator: &OperatorView,
    message: Option<&str>,
) -> Result<Exit, CommandError> {
    let signer = session.signer(&picture.view)?;
    signer.admin_only()?;
    let name = &operator.name;
    context.ui.say(&format!(
        "{name} can change nothing from here on; what {name} did so far stays."
    ));
    if operator.is_admin {
        context
            .ui
            .warn("an admin is revoked only when a second admin agrees, or by the root key");
    }
    name_typed(context, name)?;
    revoke_key(session, &signer, operator.key, message).await?;
    done(context, name);
    Ok(Exit::Done)
}

async fn revoke_token(
    context: Context<'_>,
    session: &Session<'_>,
    picture: &Picture,
    invite: &InviteView,
) -> Result<Exit, CommandError> {
    if invite.state == "revoked" {
        context
            .ui
            .say(&format!("token {} was revoked already", invite.token));
        return Ok(Exit::Done);
    }
    let signer = session.signer(&picture.view)?;
    if invite.author != signer.author() {
        signer.admin_only()?;
    }
    let body = Body::RevokeInvite(RevokeInvite { invite: invite.id });
    session.submit(&signer, vec![body]).await?;
    done(context, &format!("token {}", invite.token));
    if !invite.used_by.is_empty() {
        let names: Vec<_> = invite
            .used_by
            .iter()
            .map(|n| picture.author(&n.author()))
            .collect();
        context
            .ui
            .say(&format!("who joined with it stays: {}", names.join(" ")));
    }
    Ok(Exit::Done)
}

/// Ends a key at the newest statement known here, so that everything it said so far still counts.
async fn revoke_key(
    session: &Session<'_>,
    signer: &Signer,
    key: AuthorId,
    message: Option<&str>,
) -> Result<(), CommandError> {
    let tail = session
        .client
        .prepare(key)
        .await
        .map_err(|error| client_error(&error))?;
    let head = (tail.seq > 0).then_some(tail.prev);
    let reason = shorten(message.unwrap_or_default()).to_owned();
    session
        .submit(signer, vec![Body::Revoke(Revoke { key, head, reason })])
        .await?;
    Ok(())
}

fn name_typed(context: Context<'_>, name: &str) -> Result<(), CommandError> {
    if context.ui.is_yes() {
        return Ok(());
    }
    let typed = context
        .ui
        .ask(&format!("Type the name to revoke it ({name}):"))?;
    if typed.trim() == name {
        return Ok(());
    }
    Err(CommandError::new(
        Exit::Refused,
        "C004",
        format!("`{typed}` is not `{name}`, nothing was changed"),
    ))
}

fn done(context: Context<'_>, what: &str) {
    context.ui.say(&format!(
        "{} {what} is revoked",
        context.ui.paint().green("✓")
    ));
}

fn member<'a>(picture: &'a Picture, name: &str) -> Option<&'a MemberView> {
    let id: Option<lab_crdt_model::NodeId> = name.parse().ok();
    picture
        .view
        .members
        .iter()
        .filter(|m| m.state != MemberState::Revoked)
        .find(|m| m.name == name || id == Some(m.node))
}

fn operator<'a>(picture: &'a Picture, name: &str) -> Option<&'a OperatorView> {
    let id: Option<AuthorId> = name.parse().ok();
    let live = picture.view.operators.iter().filter(|o| !o.is_revoked);
    live.clone()
        .find(|o| id == Some(o.key))
        .or_else(|| live.clone().find(|o| o.name == name))
}
