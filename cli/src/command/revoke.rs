//! `lab revoke`: takes away what was given, to a machine, an operator or a token.

use std::time::Duration;

use lab_agent_api::{End, ViewMask};
use lab_crdt_log::{Body, CoSign, Revoke, RevokeInvite};
use lab_crdt_model::view::{HeldView, InviteView, MemberState, MemberView, OperatorView};
use lab_crdt_model::{AuthorId, StatementId};

use super::Context;
use super::follow::follow;
use super::held::{Majority, begun, tell};
use crate::error::{CommandError, Exit};
use crate::print::heard::Heard;
use crate::print::{Envelope, Report};
use crate::session::{Session, Signer, client_error, shorten};
use crate::view::change::{self, HISTORY_COUNT};
use crate::view::picture::Picture;
use crate::view::plan::Plan;
use crate::view::token;

/// What a person said about a revocation.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Why<'a> {
    /// For the history.
    pub(super) message: Option<&'a str>,
    /// The first change that must not count any more.
    pub(super) since: Option<&'a str>,
    /// Only show what would happen.
    pub(super) is_dry: bool,
    /// How long to wait for the machines to hear of it.
    pub(super) timeout: Duration,
}

impl Why<'_> {
    fn reason(&self) -> String {
        shorten(self.message.unwrap_or_default()).to_owned()
    }
}

/// Revokes whatever is called `name`.
pub(super) async fn run(
    context: Context<'_>,
    name: &str,
    why: &Why<'_>,
) -> Result<Exit, CommandError> {
    let session = Session::open(context.global, context.ui).await?;
    let picture = session.picture().await?;
    let (member, operator) = (member(&picture, name), operator(&picture, name));
    match (member, operator, token::find(&picture, name)) {
        (Some(member), Some(operator), _) if operator.under == member.join => {
            revoke_laptop(context, &session, &picture, (member, operator), why).await
        }
        (Some(_), Some(_), _) => {
            let what = format!("`{name}` is a machine and an operator");
            Err(CommandError::new(Exit::NoMatch, "M023", what)
                .hint(format!("lab node rm {name}"))
                .hint(format!("lab operator rm {name}")))
        }
        (Some(_), None, _) | (None, None, Ok(_)) if why.since.is_some() => {
            let what = "--since goes with an operator: only people make changes that can be undone";
            Err(CommandError::usage(what).hint("lab operator list"))
        }
        (Some(member), None, _) => revoke_machine(context, &session, &picture, member, why).await,
        (None, Some(operator), _) => {
            revoke_operator(context, &session, &picture, operator, why).await
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
        Some(member) => revoke_machine(context, &session, &picture, member, &Why::default()).await,
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
    revoke_operator(context, &session, &picture, operator, &Why::default()).await
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
    why: &Why<'_>,
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
    let head = newest(session, member.node.author()).await?;
    let keys = vec![(member.node.author(), head)];
    end(context, session, &signer, &member.name, keys, why).await
}

async fn revoke_operator(
    context: Context<'_>,
    session: &Session<'_>,
    picture: &Picture,
    operator: &OperatorView,
    why: &Why<'_>,
) -> Result<Exit, CommandError> {
    if operator.is_admin {
        return revoke_admin(context, session, picture, operator, why).await;
    }
    let signer = session.signer(&picture.view)?;
    signer.admin_only()?;
    let name = &operator.name;
    if let Some(begun) = begun(&picture.view, &operator.key, None, None)
        && why.since.is_none()
    {
        return agree(context, session, &signer, picture, (name, begun), why).await;
    }
    let head = last(session, operator, why).await?;
    if let Some(begun) = begun(&picture.view, &operator.key, None, Some(head)) {
        return agree(context, session, &signer, picture, (name, begun), why).await;
    }
    context.ui.say(&consequence(name, why));
    end(
        context,
        session,
        &signer,
        name,
        vec![(operator.key, head)],
        why,
    )
    .await
}

/// Admins against an admin: the more of them agree, the more it weighs. Whoever comes second agrees with the first,
/// unless they name another change. One who was cut by the other may still speak.
async fn revoke_admin(
    context: Context<'_>,
    session: &Session<'_>,
    picture: &Picture,
    admin: &OperatorView,
    why: &Why<'_>,
) -> Result<Exit, CommandError> {
    let signer = session.signer_cut_or_not(&picture.view)?;
    signer.admin_only()?;
    let (me, name) = (signer.author(), &admin.name);
    let heaviest = admin.proposals.iter().max_by_key(|p| p.signers.len());
    let (head, agreed) = match heaviest {
        Some(proposal) if why.since.is_none() => (proposal.head, Some(proposal)),
        _ => (last(session, admin, why).await?, None),
    };
    let agreed = agreed.or_else(|| admin.proposals.iter().find(|p| p.head == head));
    if agreed.is_some_and(|p| p.signers.contains(&me)) {
        context.ui.say(&format!(
            "you have said so already: lab admin list shows who agrees on {name}"
        ));
        return Ok(Exit::Done);
    }
    context.ui.say(&consequence(name, why));
    if let Some(proposal) = agreed {
        let by: Vec<_> = proposal.signers.iter().map(|a| picture.author(a)).collect();
        context
            .ui
            .say(&format!("You agree with {}.", by.join(" and ")));
    }
    context.ui.warn(
        "admins who revoke each other are all out when as many agree on each side; root words decide then",
    );
    let majority = Majority::of(&picture.view);
    let signers = 1 + agreed.map_or(0, |p| p.signers.len());
    let body = match agreed {
        Some(proposal) => Body::CoSign(CoSign {
            proposal: proposal.id,
        }),
        None => Body::Revoke(Revoke {
            key: admin.key,
            head,
            reason: why.reason(),
        }),
    };
    let keys = [(admin.key, head)];
    let voice = Voice { name, signers, why };
    if !say(context, session, &signer, &keys, vec![body], &voice).await? {
        return Ok(Exit::Done);
    }
    let after = session.picture().await?;
    let admins: Vec<_> = after.view.operators.iter().filter(|o| o.is_admin).collect();
    let now = admins.iter().find(|o| o.key == admin.key);
    let weight = now.map_or(0, |o| {
        let weights = o.proposals.iter().map(|p| p.signers.len());
        weights.max().unwrap_or(0)
    });
    let is_out = now.is_none_or(|o| o.is_revoked);
    let am_i_out = admins.iter().any(|o| o.key == me && o.is_revoked);
    let count = admins.len();
    if !is_out {
        context.ui.warn(&format!(
            "{weight} of {count} admins want {name} out, which is outweighed: another admin agrees with lab revoke {name}"
        ));
        return Ok(Exit::Partial);
    }
    done(
        context,
        &format!("{name} ({weight} of {count} admins agree)"),
    );
    let stays = held_of(&after, &admin.key);
    tell(context, majority, weight, stays, &command(name, why));
    if am_i_out {
        context.ui.warn(&format!(
            "you are out as well: as many want you out. Another admin agrees with lab revoke {name}, or root words decide: lab admin rm {name}"
        ));
        return Ok(Exit::Partial);
    }
    heard(context, session, why.timeout).await
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

/// Revokes a laptop: the device and the key of its person.
async fn revoke_laptop(
    context: Context<'_>,
    session: &Session<'_>,
    picture: &Picture,
    (member, operator): (&MemberView, &OperatorView),
    why: &Why<'_>,
) -> Result<Exit, CommandError> {
    let signer = session.signer(&picture.view)?;
    signer.admin_only()?;
    let name = &member.name;
    let head = last(session, operator, why).await?;
    context.ui.say(&consequence(name, why));
    context
        .ui
        .say(&format!("The device {name} is no longer part of the mesh."));
    let device = member.node.author();
    let keys = vec![
        (operator.key, head),
        (device, newest(session, device).await?),
    ];
    end(context, session, &signer, name, keys, why).await
}

pub(super) fn consequence(name: &str, why: &Why<'_>) -> String {
    match why.since {
        None => format!("{name} can change nothing from here on; what {name} did so far stays."),
        Some(since) => {
            format!(
                "{name} can change nothing from here on; what {name} did from {since} on is undone."
            )
        }
    }
}

/// The last change of an operator that still counts.
pub(super) async fn last(
    session: &Session<'_>,
    operator: &OperatorView,
    why: &Why<'_>,
) -> Result<Option<StatementId>, CommandError> {
    let Some(since) = why.since else {
        return newest(session, operator.key).await;
    };
    let view = session
        .view(ViewMask::default().with_history(HISTORY_COUNT))
        .await?;
    let own: Vec<_> = view
        .history
        .iter()
        .filter(|c| c.author == operator.key)
        .collect();
    let first = change::find(own.iter().copied(), since).ok_or_else(|| {
        let what = format!("{} made no change called `{since}`", operator.name);
        CommandError::new(Exit::NoMatch, "M027", what).hint("lab history shows who changed what")
    })?;
    let mut before = own.iter().skip_while(|c| c.id != first.id).skip(1);
    Ok(before.next().map(|c| c.id))
}

/// The newest statement of a key known here: everything it said so far still counts.
pub(super) async fn newest(
    session: &Session<'_>,
    key: AuthorId,
) -> Result<Option<StatementId>, CommandError> {
    let tail = session
        .client
        .prepare(key)
        .await
        .map_err(|error| client_error(&error))?;
    Ok((tail.seq > 0).then_some(tail.prev))
}

/// Ends keys, each at the last statement that still counts, and tells who has heard of it.
async fn end(
    context: Context<'_>,
    session: &Session<'_>,
    signer: &Signer,
    name: &str,
    keys: Vec<(AuthorId, Option<StatementId>)>,
    why: &Why<'_>,
) -> Result<Exit, CommandError> {
    let revoke = |(key, head): &(AuthorId, Option<StatementId>)| {
        Body::Revoke(Revoke {
            key: *key,
            head: *head,
            reason: why.reason(),
        })
    };
    let bodies = keys.iter().map(revoke).collect();
    let signers = 1;
    let voice = Voice { name, signers, why };
    if !say(context, session, signer, &keys, bodies, &voice).await? {
        return Ok(Exit::Done);
    }
    done(context, name);
    heard(context, session, why.timeout).await
}

/// Agrees with what another admin began to undo and a checkpoint holds.
async fn agree(
    context: Context<'_>,
    session: &Session<'_>,
    signer: &Signer,
    picture: &Picture,
    (name, begun): (&str, &HeldView),
    why: &Why<'_>,
) -> Result<Exit, CommandError> {
    let majority = Majority::of(&picture.view);
    if begun.signers.contains(&signer.author()) {
        context.ui.say("you have said so already");
        let signers = begun.signers.len();
        tell(context, majority, signers, begun.count, &command(name, why));
        return Ok(Exit::Partial);
    }
    let by: Vec<_> = begun.signers.iter().map(|a| picture.author(a)).collect();
    context
        .ui
        .say(&format!("You agree with {}.", by.join(" and ")));
    let Some(proposal) = begun.revocation else {
        return Ok(Exit::Refused);
    };
    let keys = [(begun.key, begun.head)];
    let signers = begun.signers.len() + 1;
    let bodies = vec![Body::CoSign(CoSign { proposal })];
    let voice = Voice { name, signers, why };
    if !say(context, session, signer, &keys, bodies, &voice).await? {
        return Ok(Exit::Done);
    }
    done(
        context,
        &format!("{name} ({signers} of {} admins agree)", majority.admins),
    );
    heard(context, session, why.timeout).await
}

/// How many statements of a key a checkpoint holds against its end.
fn held_of(picture: &Picture, key: &AuthorId) -> u32 {
    let of_key = picture.view.held.iter().filter(|h| h.key == *key);
    of_key.map(|h| h.count).max().unwrap_or(0)
}

/// What another admin types to say the same.
fn command(name: &str, why: &Why<'_>) -> String {
    match why.since {
        Some(since) => format!("lab revoke {name} --since {since}"),
        None => format!("lab revoke {name}"),
    }
}

/// Admins who put somebody out.
pub(super) struct Voice<'a> {
    /// Whom.
    name: &'a str,
    /// How many of them say so by then.
    signers: usize,
    why: &'a Why<'a>,
}

/// Shows what is undone when keys end, asks for the name, and says so; `false` if it was only to be looked at.
async fn say(
    context: Context<'_>,
    session: &Session<'_>,
    signer: &Signer,
    keys: &[(AuthorId, Option<StatementId>)],
    bodies: Vec<Body>,
    voice: &Voice<'_>,
) -> Result<bool, CommandError> {
    if voice.why.is_dry {
        let plan = suppose(context, session, keys, Some(voice)).await?;
        context.finish(&plan, Envelope::default(), Exit::Done);
        return Ok(false);
    }
    preview(context, session, keys, Some(voice)).await?;
    name_typed(context, voice.name)?;
    session.submit(signer, bodies).await?;
    Ok(true)
}

/// What changes on which machine when keys end, as a plan: by the root keys, or by admins. Tells what a checkpoint holds
/// against them.
async fn suppose(
    context: Context<'_>,
    session: &Session<'_>,
    keys: &[(AuthorId, Option<StatementId>)],
    voice: Option<&Voice<'_>>,
) -> Result<Plan, CommandError> {
    let before = session.picture().await?;
    let majority = Majority::of(&before.view);
    let ends: Vec<End> = keys
        .iter()
        .map(|(key, head)| End {
            key: *key,
            head: *head,
            is_limited: voice.is_some_and(|voice| voice.signers < majority.need),
        })
        .collect();
    let after = session.client.suppose(&ends).await;
    let after = Picture::new(after.map_err(|error| client_error(&error))?);
    if let Some(Voice { name, signers, why }) = voice {
        let supposed = after.view.held.iter().filter(|h| h.revocation.is_none());
        let stays = supposed.map(|h| h.count).sum();
        tell(context, majority, *signers, stays, &command(name, why));
    }
    Ok(Plan::undoing(&before, &after))
}

/// Shows the person what changes on which machine when keys end.
pub(super) async fn preview(
    context: Context<'_>,
    session: &Session<'_>,
    keys: &[(AuthorId, Option<StatementId>)],
    voice: Option<&Voice<'_>>,
) -> Result<(), CommandError> {
    let plan = suppose(context, session, keys, voice).await?;
    if !context.ui.is_machine() {
        let text = if plan.is_empty() {
            "No machine changes.".to_owned()
        } else {
            plan.text(&context.ui.style())
        };
        context.ui.say(text.trim_end());
    }
    Ok(())
}

/// Waits until the machines hold the same statements as the agent here, and tells who does not.
async fn heard(
    context: Context<'_>,
    session: &Session<'_>,
    timeout: Duration,
) -> Result<Exit, CommandError> {
    let picture = follow(session, timeout, |picture, _| Heard::new(picture).is_done()).await?;
    let report = Heard::new(&picture);
    let exit = if report.is_complete() {
        Exit::Done
    } else {
        Exit::Partial
    };
    Ok(context.finish(&report, picture.envelope(None), exit))
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
    let live = picture.view.operators.iter().filter(|o| {
        // One that a checkpoint holds is not done with.
        o.is_admin || !o.is_revoked || begun(&picture.view, &o.key, None, None).is_some()
    });
    live.clone()
        .find(|o| id == Some(o.key))
        .or_else(|| live.clone().find(|o| o.name == name))
}
