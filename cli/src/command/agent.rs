//! `lab agent run`: the agent of this machine, in the foreground.

use lab_agent_daemon::{ConfigLayer, DaemonError, DataDirError, runtime, stop_signal, telemetry};

use super::Context;
use crate::args::{AgentRunArgs, AgentVerb};
use crate::env;
use crate::error::{CommandError, Exit};
use crate::session::agent_config;

/// Runs the verb.
pub(super) fn run(context: Context<'_>, verb: AgentVerb) -> Result<Exit, CommandError> {
    let AgentVerb::Run(args) = verb;
    let config = agent_config(context.global, layer(&args), args.config.as_ref())?;
    telemetry::start(&config.log, env::text(env::JOURNAL_STREAM).is_some()).map_err(|error| {
        CommandError::new(Exit::Usage, "C023", "use the log filter").because(&error)
    })?;
    let failed = |error: &std::io::Error| {
        CommandError::new(Exit::Failed, "C005", "start the agent").because(error)
    };
    let runtime = runtime(config.threads).map_err(|error| failed(&error))?;
    runtime.block_on(async {
        let stop = stop_signal().map_err(|error| failed(&error))?;
        lab_agent_daemon::run(config, stop)
            .await
            .map_err(|error| stopped(&error))
    })?;
    Ok(Exit::Done)
}

fn layer(args: &AgentRunArgs) -> ConfigLayer {
    ConfigLayer {
        bind: (!args.bind.is_empty()).then(|| args.bind.clone()),
        root: args
            .root
            .as_deref()
            .and_then(|root| std::path::absolute(root).ok()),
        lan_discovery: args.no_lan.then(String::new),
        remote_api: args.no_remote_api.then_some(false),
        allow_faults: args.allow_faults.then_some(true),
        log: args.log.clone(),
        ..ConfigLayer::default()
    }
}

fn stopped(error: &DaemonError) -> CommandError {
    let failed = CommandError::new(Exit::Failed, "C030", "run the agent").because(error);
    match error {
        DaemonError::DataDir(error) => data_dir(error),
        _ => failed,
    }
}

/// A failure of the agent's folder as a person should read it.
pub(super) fn data_dir(error: &DataDirError) -> CommandError {
    let (exit, code) = match error {
        DataDirError::Empty { .. } | DataDirError::Occupied { .. } | DataDirError::InUse { .. } => {
            (Exit::Refused, "C031")
        }
        DataDirError::Exposed { .. } => (Exit::Permission, "C032"),
        DataDirError::Key { .. } => (Exit::Input, "C033"),
        DataDirError::System { source, .. } => match source.kind() {
            std::io::ErrorKind::PermissionDenied => (Exit::Permission, "C034"),
            _ => (Exit::Failed, "C034"),
        },
    };
    let out = CommandError::new(exit, code, "use the agent's folder").because(error);
    match error {
        DataDirError::Empty { .. } => out.hint("lab init --name NAME").hint("lab join TOKEN"),
        DataDirError::Occupied { .. } => out.hint("another folder: --data DIR").hint("lab status"),
        DataDirError::InUse { .. } => out.hint("systemctl status lab-agent"),
        DataDirError::System { .. } if exit == Exit::Permission => {
            out.hint("use sudo, or a folder of your own: --data DIR")
        }
        DataDirError::Exposed { .. } | DataDirError::Key { .. } | DataDirError::System { .. } => {
            out
        }
    }
}
