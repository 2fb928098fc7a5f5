//! One file per verb: reads arguments, asks the agent, builds a view, shows it.

mod admin;
mod agent;
mod apply;
mod audit;
mod checkpoint;
mod completion;
mod demo;
mod doctor;
mod explain;
mod follow;
mod held;
mod history;
mod init;
mod join;
mod label;
mod node;
mod operator;
mod plan;
mod revoke;
mod root;
mod seal;
mod status;
mod target;
mod token;
mod trust;
mod undo;

pub(crate) use held::Majority;

use crate::args::{Cli, Global, Verb};
use crate::error::{CommandError, Exit};
use crate::print::{Envelope, Report};
use crate::remote;
use crate::ui::Ui;

/// What every command gets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context<'a> {
    /// The flags that every command takes.
    pub(crate) global: &'a Global,
    /// The way out.
    pub(crate) ui: &'a Ui,
}

impl Context<'_> {
    /// Shows a result and ends with `exit`.
    pub(crate) fn finish(&self, report: &dyn Report, mut envelope: Envelope, exit: Exit) -> Exit {
        envelope.exit = Some(exit);
        self.ui.show(report, &envelope);
        exit
    }
}

/// Runs a command to its exit code. Failures are shown here, and only here.
pub(crate) fn main(cli: Cli) -> Exit {
    let ui = Ui::new(&cli.global);
    match block_on(cli, &ui) {
        Ok(exit) => exit,
        Err(error) => {
            ui.fail(&error);
            error.exit
        }
    }
}

fn block_on(cli: Cli, ui: &Ui) -> Result<Exit, CommandError> {
    let Cli { global, verb } = cli;
    let context = Context {
        global: &global,
        ui,
    };
    if let Verb::Completion(args) = &verb {
        return Ok(completion::run(context, args));
    }
    let verb = match verb {
        Verb::Agent(args) => {
            remote::only_here(context.global, "lab agent")?;
            return agent::run(context, args);
        }
        other => other,
    };
    // Another machine takes whoever does not answer for gone: questions to a person must not keep links waiting.
    let mut builder = match remote::at(context.global) {
        Some(_) => tokio::runtime::Builder::new_multi_thread(),
        None => tokio::runtime::Builder::new_current_thread(),
    };
    let runtime = builder
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| {
            CommandError::new(Exit::Failed, "C005", "start the program").because(&error)
        })?;
    runtime.block_on(async {
        let outcome = run(context, verb).await;
        context.global.open.close().await;
        outcome
    })
}

async fn run(context: Context<'_>, verb: Verb) -> Result<Exit, CommandError> {
    match verb {
        Verb::Init(args) => {
            remote::only_here(context.global, "lab init")?;
            init::run(context, args)
        }
        Verb::Join(args) => {
            remote::only_here(context.global, "lab join")?;
            join::run(context, args).await
        }
        Verb::Checkpoint(args) => checkpoint::run(context, args).await,
        Verb::Token(verb) => token::run(context, verb).await,
        Verb::Node(verb) => node::run(context, verb).await,
        Verb::Operator(verb) => operator::run(context, verb).await,
        Verb::Admin(verb) => admin::run(context, verb).await,
        Verb::Root(verb) => root::run(context, verb).await,
        Verb::Trust(verb) => trust::run(context, verb).await,
        Verb::Label(verb) => label::run(context, verb).await,
        Verb::Target(args) => target::run(context, args).await,
        Verb::Plan(args) => plan::run(context, args).await,
        Verb::Apply(args) => apply::run(context, args).await,
        Verb::Explain(args) => explain::run(context, args).await,
        Verb::Status(args) => status::run(context, args).await,
        Verb::History(args) => history::run(context, args).await,
        Verb::Audit(args) => audit::run(context, args).await,
        Verb::Undo(args) => undo::run(context, args).await,
        Verb::Doctor(args) => doctor::run(context, args).await,
        Verb::Revoke(args) => {
            let why = revoke::Why {
                message: args.message.as_deref(),
                since: args.since.as_deref(),
                is_dry: args.dry_run,
                timeout: apply::duration("--timeout", &args.timeout)?,
            };
            revoke::run(context, &args.name, &why).await
        }
        Verb::Demo(args) => {
            remote::only_here(context.global, "lab demo")?;
            demo::run(context, args).await
        }
        Verb::Agent(_) | Verb::Completion(_) => Ok(Exit::Done),
    }
}
