//! `lab-sim`: the simulator for people at a terminal.
//!
//! Results go to standard output, talk and progress to standard error. Exit codes: 0 all is well, 1 something that must
//! hold did not, 2 the command line is wrong, 3 the program could not do its work.

mod args;
mod bench;
mod bug;
mod campaign;
mod engine;
mod exit;
mod measure;
mod meta;
mod mutants;
mod play;
mod progress;
mod run;
mod scribe;
mod table;
mod ui;

use std::process::ExitCode;

use clap::Parser as _;

use args::{Cli, Verb};
use exit::{Exit, Failure};
use ui::Ui;

/// Reads the command line of this process and does what it says.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(message) => {
            // Help that was asked for is a result; anything else is a mistake on the command line.
            let exit = if message.use_stderr() {
                Exit::Usage
            } else {
                Exit::Well
            };
            let _ = message.print();
            return ExitCode::from(exit.code());
        }
    };
    let ui = Ui::new(cli.color, cli.format, cli.quiet);
    let exit = match dispatch(&ui, cli.verb) {
        Ok(exit) => exit,
        Err(failure) => {
            ui.fail(&failure);
            failure.exit
        }
    };
    ExitCode::from(exit.code())
}

fn dispatch(ui: &Ui, verb: Verb) -> Result<Exit, Failure> {
    match verb {
        Verb::Run(args) => run::run(ui, &args),
        Verb::Replay(args) => run::replay(ui, &args),
        Verb::Shrink(args) => run::shrink(ui, &args),
        Verb::Swarm(args) => campaign::swarm(ui, &args),
        Verb::Cover(args) => campaign::cover(ui, &args.folder),
        Verb::Mutants(args) => mutants::mutants(ui, &args),
        Verb::Meta(args) => meta::meta(ui, &args),
        Verb::Tell(args) => meta::tell(ui, &args.plan, args.window),
        Verb::Crash(args) => campaign::crash(ui, &args),
        Verb::Calibrate => campaign::calibrate(ui),
        Verb::Scenario(args) => play::scenario(ui, &args),
        Verb::Measure(args) => measure::measure(ui, &args),
        Verb::Bench(args) => bench::bench(ui, &args),
    }
}
