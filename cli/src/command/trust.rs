//! `lab trust`: which mesh this machine trusts, in words that two people can compare, and the end of that trust.

use lab_agent_daemon::config::ConfigLayer;
use lab_agent_daemon::{FoundError, mesh_of, set_aside};
use lab_crdt_model::{MeshId, ParseIdError, words};
use serde_json::{Value as Json, json};

use super::Context;
use super::agent::data_dir;
use crate::args::{TrustResetArgs, TrustVerb};
use crate::error::{CommandError, Exit};
use crate::print::{Envelope, Report, Style};
use crate::remote;
use crate::session::{Session, agent_config};

/// Runs it.
pub(super) async fn run(context: Context<'_>, verb: TrustVerb) -> Result<Exit, CommandError> {
    match verb {
        TrustVerb::Words => show(context).await,
        TrustVerb::Reset(args) => reset(context, &args),
    }
}

/// Shows the words of the mesh: from the agent, or from the folder of one that does not run.
async fn show(context: Context<'_>) -> Result<Exit, CommandError> {
    let report = match Session::open(context.global, context.ui).await {
        Ok(session) => {
            let info = session.client.info().await;
            let info = info.map_err(|error| crate::session::client_error(&error))?;
            Trusted {
                mesh: info.mesh,
                name: Some(info.mesh_name),
            }
        }
        Err(error) if error.exit == Exit::NoAgent && remote::at(context.global).is_none() => {
            let folder = agent_config(context.global, ConfigLayer::default(), None)?.data_dir;
            // Without a node here either, that no agent answers says more.
            let mesh = mesh_of(&folder).map_err(|_other| error)?;
            Trusted { mesh, name: None }
        }
        Err(error) => return Err(error),
    };
    Ok(context.finish(&report, Envelope::default(), Exit::Done))
}

/// Ends the trust of this machine in its mesh: its folder is moved aside.
fn reset(context: Context<'_>, args: &TrustResetArgs) -> Result<Exit, CommandError> {
    remote::only_here(context.global, "lab trust reset")?;
    let ui = context.ui;
    let new: MeshId = args.mesh.parse().map_err(|error: ParseIdError| {
        CommandError::new(Exit::Usage, "C001", "read the id of the new mesh").because(&error)
    })?;
    let folder = agent_config(context.global, ConfigLayer::default(), None)?.data_dir;
    let old = match mesh_of(&folder) {
        Ok(old) => Some(old),
        Err(FoundError::DataDir(error)) => {
            let failure = data_dir(&error);
            return Err(match error {
                lab_agent_daemon::DataDirError::InUse { .. } => {
                    failure.hint("stop it first: systemctl stop lab-agent")
                }
                _ => failure,
            });
        }
        // A store that cannot be read is a reason the more.
        Err(FoundError::Store(_) | FoundError::Boot(_) | FoundError::Entropy(_)) => None,
    };
    if old == Some(new) {
        let what = format!("this machine trusts {new} already");
        return Err(CommandError::new(Exit::Refused, "M015", what).hint("lab trust words"));
    }
    let name = old.map_or_else(|| "old".to_owned(), |old| old.short());
    ui.insist(&match old {
        Some(old) => format!("this machine trusts {old}\n  {}", words_of(&old)),
        None => "what this machine trusts cannot be read".to_owned(),
    });
    ui.insist(&format!("from now on {new}\n  {}", words_of(&new)));
    ui.insist("The old mesh loses this machine: take it out there too, if that mesh still lives.");
    if !ui
        .confirm("Do the words of the new mesh agree, and shall this machine leave the old one?")?
    {
        return Ok(Exit::Refused);
    }
    let aside = set_aside(&folder, &name).map_err(|error| data_dir(&error))?;
    ui.say(&format!(
        "{} nothing here trusts the old mesh any more; its folder is {}",
        ui.paint().green("✓"),
        aside.display()
    ));
    ui.say("join the new one: lab token create (there), then lab join TOKEN (here)");
    let report = Reset {
        mesh: new,
        old,
        aside: aside.display().to_string(),
    };
    Ok(context.finish(&report, Envelope::default(), Exit::Done))
}

fn words_of(mesh: &MeshId) -> String {
    words::words(&mesh.0, 6).join(" ")
}

struct Trusted {
    mesh: MeshId,
    name: Option<String>,
}

impl Report for Trusted {
    fn schema(&self) -> &'static str {
        "lab.trust/v1"
    }

    fn data(&self) -> Json {
        json!({"mesh": self.mesh.to_string(), "name": self.name, "words": words_of(&self.mesh)})
    }

    fn names(&self) -> Vec<String> {
        vec![words_of(&self.mesh)]
    }

    fn text(&self, style: &Style) -> String {
        let name = self.name.as_deref().unwrap_or("(no agent runs)");
        format!(
            "{}\n{name}  {}\n",
            style.paint.bold(&words_of(&self.mesh)),
            self.mesh
        )
    }
}

struct Reset {
    mesh: MeshId,
    old: Option<MeshId>,
    aside: String,
}

impl Report for Reset {
    fn schema(&self) -> &'static str {
        "lab.trust.reset/v1"
    }

    fn data(&self) -> Json {
        json!({
            "mesh": self.mesh.to_string(),
            "old": self.old.map(|old| old.to_string()),
            "aside": self.aside,
        })
    }

    fn names(&self) -> Vec<String> {
        vec![self.aside.clone()]
    }

    fn text(&self, _style: &Style) -> String {
        String::new()
    }
}
