//! The `lab` binary: one program on every machine. See `args.rs` for what it can do.

mod args;
mod clock;
mod command;
mod entropy;
mod env;
mod error;
mod key;
mod print;
mod proposal;
mod remote;
mod session;
mod tried;
mod ui;
mod view;

use std::process::ExitCode;

use clap::FromArgMatches as _;

use crate::error::Exit;

fn main() -> ExitCode {
    let parsed = args::command()
        .try_get_matches()
        .and_then(|matches| args::Cli::from_arg_matches(&matches));
    let exit = match parsed {
        Ok(cli) => command::main(cli),
        Err(message) => {
            // Help that was asked for is a result; anything else is a mistake on the command line.
            let exit = if message.use_stderr() {
                Exit::Usage
            } else {
                Exit::Done
            };
            let _ = message.print();
            exit
        }
    };
    ExitCode::from(exit.code())
}
