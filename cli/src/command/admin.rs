//! `lab admin`: who stands in the root record. Changing that takes the root keys.

use lab_agent_api::ViewMask;
use lab_crdt_log::{Admin, Annul};
use lab_crdt_model::AuthorId;

use super::{Context, operator, revoke, root};
use crate::args::{AdminAddArgs, AdminRmArgs, AdminVerb};
use crate::error::{CommandError, Exit};
use crate::print::operator::OperatorList;
use crate::session::Session;

/// Runs the verb.
pub(super) async fn run(context: Context<'_>, verb: AdminVerb) -> Result<Exit, CommandError> {
    match verb {
        AdminVerb::List => {
            let session = Session::open(context.global, context.ui).await?;
            let picture = session.picture().await?;
            let operators = picture.view.operators.iter();
            let list = OperatorList(operators.filter(|o| o.is_admin).cloned().collect());
            Ok(context.finish(&list, picture.envelope(None), Exit::Done))
        }
        AdminVerb::Add(args) => add(context, &args).await,
        AdminVerb::Rm(args) => remove(context, &args).await,
    }
}

async fn add(context: Context<'_>, args: &AdminAddArgs) -> Result<Exit, CommandError> {
    operator::name(&args.name)?;
    let key: AuthorId = args
        .key
        .parse()
        .map_err(|error: lab_crdt_model::ParseIdError| {
            CommandError::new(Exit::Input, "K015", "read the key").because(&error)
        })?;
    let session = Session::open(context.global, context.ui).await?;
    let in_force = root::in_force(&session).await?;
    let refused = |what: String| CommandError::new(Exit::Refused, "K022", what);
    let record = &in_force.record;
    if record.admins.iter().any(|a| a.key == key) {
        return Err(refused(format!("{} is an admin already", args.name)));
    }
    if record.admins.iter().any(|a| a.name == args.name) {
        return Err(refused(format!("an admin is called {} already", args.name)));
    }
    if record.annul.iter().any(|a| a.key == key) {
        let what = "this key was ended by the root keys: whoever comes back gets a new one";
        return Err(refused(what.to_owned()).hint("lab operator key --name NAME"));
    }
    if record.root_keys.contains(&key) {
        return Err(refused("a root key cannot be an admin".to_owned()));
    }
    let admin = Admin {
        key,
        name: args.name.clone(),
    };
    let proposal = root::amended(&session, &in_force, |next| next.admins.push(admin)).await?;
    root::decide(context, &session, &in_force, proposal, &args.ceremony, &[]).await
}

async fn remove(context: Context<'_>, args: &AdminRmArgs) -> Result<Exit, CommandError> {
    let session = Session::open(context.global, context.ui).await?;
    let in_force = root::in_force(&session).await?;
    let record = &in_force.record;
    let wanted: Option<AuthorId> = args.name.parse().ok();
    let found = |a: &&Admin| a.name == args.name || Some(a.key) == wanted;
    let Some(admin) = record.admins.iter().find(found).cloned() else {
        let what = format!("no admin is called `{}`", args.name);
        return Err(CommandError::new(Exit::NoMatch, "M028", what).hint("lab admin list"));
    };
    if record.admins.len() == 1 {
        let what = format!("{} is the only admin", admin.name);
        return Err(CommandError::new(Exit::Refused, "K022", what)
            .hint("add another one first: lab admin add NAME KEY"));
    }
    let mask = ViewMask {
        roster: true,
        ..ViewMask::default()
    };
    let view = session.view(mask).await?;
    let Some(operator) = view.operators.iter().find(|o| o.key == admin.key) else {
        let what = format!("the agent does not show {}", admin.name);
        return Err(CommandError::new(Exit::Failed, "C013", what));
    };
    let why = revoke::Why {
        since: args.since.as_deref(),
        ..revoke::Why::default()
    };
    let head = revoke::last(&session, operator, &why).await?;
    context.ui.say(&revoke::consequence(&admin.name, &why));
    let ends = [(admin.key, head)];
    revoke::preview(context, &session, &ends, None).await?;
    let proposal = root::amended(&session, &in_force, |next| {
        next.admins.retain(|a| a.key != admin.key);
        next.annul.retain(|a| a.key != admin.key);
        next.annul.push(Annul {
            key: admin.key,
            head,
        });
    })
    .await?;
    root::decide(context, &session, &in_force, proposal, &args.ceremony, &[]).await
}
