//! `lab operator seal`: an admin says up to where a grant that has ended was used.

use lab_agent_api::{End, ViewMask};
use lab_crdt_log::{Body, CoSign, RevokeGrant};
use lab_crdt_model::StatementId;
use lab_crdt_model::view::{ChangeView, HeldView, LateView, OperatorView};
use serde_json::{Value as Json, json};

use super::Context;
use super::held::{Majority, begun, tell};
use crate::args::OperatorSealArgs;
use crate::error::{CommandError, Exit};
use crate::print::paint::Tone;
use crate::print::table::{Cell, Table};
use crate::print::{Envelope, Report, Style, count};
use crate::session::{Session, client_error};
use crate::view::change::{self, HISTORY_COUNT};
use crate::view::picture::Picture;

/// Shows what came late, asks, and seals.
pub(super) async fn run(
    context: Context<'_>,
    args: &OperatorSealArgs,
) -> Result<Exit, CommandError> {
    let ui = context.ui;
    let session = Session::open(context.global, ui).await?;
    let mask = ViewMask::ALL.with_history(HISTORY_COUNT);
    let picture = Picture::new(session.view(mask).await?);
    let (name, open) = open(&picture, &args.operator)?;
    let late = Late::new(&picture, &name, &open);
    if args.dry_run {
        return Ok(context.finish(&late, Envelope::default(), Exit::Done));
    }
    if open.is_empty()
        && let Some(held) = begun_seal(&picture, &args.operator)
    {
        return agree(context, &session, &picture, &name, held).await;
    }
    if open.is_empty() {
        ui.say(&format!("nothing of {name} came late"));
        return Ok(Exit::Done);
    }
    if !ui.is_machine() {
        ui.out(&late.text(&ui.style()));
    }
    let signer = session.signer(&picture.view)?;
    signer.admin_only()?;
    let until = match &args.until {
        Some(wanted) => Some(late.find(wanted)?),
        None => None,
    };
    let question = match until {
        Some(id) => format!("Let them count up to {}, and nothing after it?", id.short()),
        None if args.none => format!("Let none of them count, for good ({name})?"),
        None => format!("Let all of them count ({name})?"),
    };
    let head_of = |late: &LateView| match until {
        Some(id) => Some(id),
        None if args.none => late.in_time,
        None => Some(late.last),
    };
    let majority = Majority::of(&picture.view);
    let key = |grant: &StatementId| {
        let of_grant = picture.view.operators.iter().find(|o| o.under == *grant);
        of_grant.map(|o| o.key)
    };
    let ends = open.iter().filter_map(|(grant, late)| {
        Some(End {
            key: key(grant)?,
            head: head_of(late),
            is_limited: true,
        })
    });
    if majority.need > 1 {
        let supposed = session.client.suppose(&ends.collect::<Vec<_>>()).await;
        let supposed = supposed.map_err(|error| client_error(&error))?;
        let held = supposed.held.iter().filter(|h| h.revocation.is_none());
        let command = format!("lab operator seal {name}");
        tell(context, majority, 1, held.map(|h| h.count).sum(), &command);
    }
    if !ui.confirm(&question)? {
        return Ok(Exit::Refused);
    }
    let bodies = open.iter().map(|(grant, late)| {
        Body::RevokeGrant(RevokeGrant {
            grant: *grant,
            head: head_of(late),
        })
    });
    session.submit(&signer, bodies.collect()).await?;
    let seals = count(open.len(), "grant");
    ui.say(&format!(
        "{} {seals} of {name} sealed",
        ui.paint().green("✓")
    ));
    if ui.is_machine() {
        return Ok(context.finish(&late, Envelope::default(), Exit::Done));
    }
    Ok(Exit::Done)
}

/// A seal of another admin that a checkpoint holds.
fn begun_seal<'a>(picture: &'a Picture, wanted: &str) -> Option<&'a HeldView> {
    let operators = picture.view.operators.iter();
    let meant = operators.filter(|o| o.name == wanted || o.key.to_string() == wanted);
    meant
        .filter_map(|o| begun(&picture.view, &o.key, Some(&o.under), None))
        .next()
}

/// Agrees with a seal of another admin.
async fn agree(
    context: Context<'_>,
    session: &Session<'_>,
    picture: &Picture,
    name: &str,
    begun: &HeldView,
) -> Result<Exit, CommandError> {
    let signer = session.signer(&picture.view)?;
    signer.admin_only()?;
    let majority = Majority::of(&picture.view);
    let command = format!("lab operator seal {name}");
    let signers = begun.signers.len();
    tell(context, majority, signers, begun.count, &command);
    let (false, Some(proposal)) = (begun.signers.contains(&signer.author()), begun.revocation)
    else {
        return Ok(Exit::Partial);
    };
    let by: Vec<_> = begun.signers.iter().map(|a| picture.author(a)).collect();
    let until = begun
        .head
        .map_or_else(|| "the first".to_owned(), |h| h.short());
    let question = format!(
        "Agree with {} that {name} ends at {until}?",
        by.join(" and ")
    );
    if !context.ui.confirm(&question)? {
        return Ok(Exit::Refused);
    }
    session
        .submit(&signer, vec![Body::CoSign(CoSign { proposal })])
        .await?;
    let mark = context.ui.paint().green("✓");
    let all = majority.admins;
    context
        .ui
        .say(&format!("{mark} {} of {all} admins agree", signers + 1));
    Ok(Exit::Done)
}

/// The grants of an operator under which something came late.
fn open(
    picture: &Picture,
    wanted: &str,
) -> Result<(String, Vec<(StatementId, LateView)>), CommandError> {
    let is_meant = |o: &&OperatorView| o.name == wanted || o.key.to_string() == wanted;
    let of: Vec<&OperatorView> = picture.view.operators.iter().filter(is_meant).collect();
    let Some(first) = of.first() else {
        let what = format!("no operator is called `{wanted}`");
        return Err(CommandError::new(Exit::NoMatch, "M025", what).hint("lab operator list"));
    };
    if of.iter().any(|o| o.key != first.key && o.late.is_some()) {
        let what = format!("several operators are called `{wanted}`");
        return Err(CommandError::new(Exit::NoMatch, "M025", what)
            .hint("name the key instead: lab operator list -o wide"));
    }
    let open = of
        .iter()
        .filter_map(|o| Some((o.under, o.late.clone()?)))
        .collect();
    Ok((first.name.clone(), open))
}

/// What came late of an operator.
struct Late {
    name: String,
    count: u32,
    changes: Vec<ChangeView>,
}

impl Late {
    fn new(picture: &Picture, name: &str, open: &[(StatementId, LateView)]) -> Self {
        let named = open.iter().flat_map(|(_, late)| &late.changes);
        let history = &picture.view.history;
        let changes = named.filter_map(|id| history.iter().find(|c| c.id == *id).cloned());
        Self {
            name: name.to_owned(),
            count: open.iter().map(|(_, late)| late.count).sum(),
            changes: changes.collect(),
        }
    }

    fn find(&self, wanted: &str) -> Result<StatementId, CommandError> {
        let found = change::find(&self.changes, wanted).ok_or_else(|| {
            let what = format!("no change called `{wanted}` came late of {}", self.name);
            let hint = format!("lab operator seal {} --dry-run", self.name);
            CommandError::new(Exit::NoMatch, "M027", what).hint(&hint)
        })?;
        Ok(found.id)
    }
}

impl Report for Late {
    fn schema(&self) -> &'static str {
        "lab.late/v1"
    }

    fn data(&self) -> Json {
        let row = |c: &ChangeView| {
            json!({
                "id": c.id.to_string(),
                "at": c.at.wall().to_string(),
                "message": c.message,
                "paths": c.ops.iter().map(|op| op.path().to_string()).collect::<Vec<_>>(),
            })
        };
        json!({
            "operator": self.name,
            "count": self.count,
            "changes": self.changes.iter().map(row).collect::<Vec<_>>(),
        })
    }

    fn text(&self, style: &Style) -> String {
        let mut table = Table::new(["CHANGE", "STAMPED", "FIELDS", "MESSAGE"]);
        for c in &self.changes {
            table.row([
                c.id.short().into(),
                c.at.wall().to_string().into(),
                c.ops.len().to_string().into(),
                Cell::new(Tone::Plain, &c.message),
            ]);
        }
        let more = (self.count as usize).saturating_sub(self.changes.len());
        let mut text = table.render(style);
        if more > 0 {
            text.push_str(&format!("and {more} more\n"));
        }
        text
    }
}
