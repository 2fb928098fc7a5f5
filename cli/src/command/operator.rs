//! `lab operator`: who may change things.

use ed25519_dalek::SigningKey;
use lab_crdt_log::{Body, Grant, Rights};
use lab_crdt_model::{AuthorId, Wall, label};
use serde_json::{Value as Json, json};

use super::apply::duration;
use super::{Context, revoke, seal};
use crate::args::{OperatorAddArgs, OperatorKeyArgs, OperatorVerb};
use crate::entropy;
use crate::error::{CommandError, Exit};
use crate::key::{Cost, KeyFile};
use crate::print::operator::OperatorList;
use crate::print::{Envelope, Report, Style};
use crate::session::{Session, key_path, new_passphrase};

/// Runs the verb.
pub(super) async fn run(context: Context<'_>, verb: OperatorVerb) -> Result<Exit, CommandError> {
    match verb {
        OperatorVerb::List => {
            let session = Session::open(context.global, context.ui).await?;
            let picture = session.picture().await?;
            let list = OperatorList(picture.view.operators.clone());
            Ok(context.finish(&list, picture.envelope(None), Exit::Done))
        }
        OperatorVerb::Key(args) => key(context, &args).await,
        OperatorVerb::Add(args) => add(context, args).await,
        OperatorVerb::Rm(args) => revoke::person(context, &args.operator).await,
        OperatorVerb::Seal(args) => seal::run(context, &args).await,
    }
}

/// The rights with these names.
pub(super) fn rights(names: &[String]) -> Result<Rights, CommandError> {
    names.iter().try_fold(Rights::default(), |rights, name| {
        Rights::named(name)
            .map(|right| rights.and(right))
            .ok_or_else(|| {
                CommandError::usage(format!("there is no right `{name}`"))
                    .hint(format!("the rights are {}", Rights::ALL.names().join(", ")))
            })
    })
}

/// A name of a node, operator or mesh that a person typed.
pub(super) fn name(text: &str) -> Result<(), CommandError> {
    if label::is_name(text) {
        return Ok(());
    }
    Err(
        CommandError::new(Exit::Input, "D012", format!("`{text}` cannot be a name")).hint(
            "lower-case letters, digits, `-`, `_` and `.`, a letter or digit first, at most 63",
        ),
    )
}

async fn key(context: Context<'_>, args: &OperatorKeyArgs) -> Result<Exit, CommandError> {
    name(&args.name)?;
    let mesh = match &args.mesh {
        Some(mesh) => mesh
            .parse()
            .map_err(|error: lab_crdt_model::ParseIdError| {
                CommandError::new(Exit::Usage, "C001", "read the id of the mesh").because(&error)
            })?,
        None => {
            let session = Session::open(context.global, context.ui).await?;
            let info = session.client.info().await;
            let info = info.map_err(|error| crate::session::client_error(&error))?;
            info.mesh
        }
    };
    let path = key_path(context.global, &mesh);
    let passphrase = new_passphrase(context.ui, args.no_passphrase)?;
    let key = SigningKey::from_bytes(&entropy::bytes()?);
    let sealed = passphrase.as_deref().map(|p| (p, Cost::NORMAL));
    let file = KeyFile::new(mesh, &args.name, &key, sealed)?;
    file.write_new(&path)?;
    context.ui.say(&format!(
        "{} key written to {}",
        context.ui.paint().green("✓"),
        path.display()
    ));
    context.ui.say(&format!(
        "an admin allows it: lab operator add {} {}",
        args.name, file.public
    ));
    let report = NewKey {
        key: file.public,
        path: path.display().to_string(),
    };
    Ok(context.finish(&report, Envelope::default(), Exit::Done))
}

async fn add(context: Context<'_>, args: OperatorAddArgs) -> Result<Exit, CommandError> {
    name(&args.name)?;
    let subject: AuthorId = args
        .key
        .parse()
        .map_err(|error: lab_crdt_model::ParseIdError| {
            CommandError::new(Exit::Input, "K015", "read the key").because(&error)
        })?;
    let rights = rights(&args.rights)?;
    let session = Session::open(context.global, context.ui).await?;
    let picture = session.picture().await?;
    let not_after = match &args.ttl {
        Some(ttl) => {
            let ms = u64::try_from(duration("--ttl", ttl)?.as_millis()).unwrap_or(u64::MAX);
            Some(Wall(picture.view.at.0.saturating_add(ms)))
        }
        None => None,
    };
    if picture
        .view
        .operators
        .iter()
        .any(|o| o.name == args.name && o.key != subject && !o.is_revoked)
    {
        context
            .ui
            .warn(&format!("there is another operator called {}", args.name));
    }
    let signer = session.signer(&picture.view)?;
    signer.admin_only()?;
    let scope = if args.scopes.is_empty() {
        vec![String::new()]
    } else {
        args.scopes
    };
    let what = if scope == [""] {
        "everything".to_owned()
    } else {
        scope.join(", ")
    };
    let question = format!(
        "Allow {} to change {what} ({})?",
        args.name,
        rights.names().join(", ")
    );
    if !context.ui.confirm(&question)? {
        return Ok(Exit::Refused);
    }
    let grant = Grant {
        subject,
        name: args.name.clone(),
        rights,
        scope,
        not_after,
    };
    session.submit(&signer, vec![Body::Grant(grant)]).await?;
    context.ui.say(&format!(
        "{} {} is an operator",
        context.ui.paint().green("✓"),
        args.name
    ));
    Ok(Exit::Done)
}

struct NewKey {
    key: AuthorId,
    path: String,
}

impl Report for NewKey {
    fn schema(&self) -> &'static str {
        "lab.key/v1"
    }

    fn data(&self) -> Json {
        json!({ "key": self.key.to_string(), "path": self.path })
    }

    fn names(&self) -> Vec<String> {
        vec![self.key.to_string()]
    }

    fn text(&self, _style: &Style) -> String {
        format!("{}\n", self.key)
    }
}
