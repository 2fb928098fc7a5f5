//! `lab demo`: a mesh of real agents on this machine, from its founding to a partition that heals.
//!
//! Every agent is a process of its own with its own folder and a port on loopback; every command is run as a person
//! would type it and is shown before it runs. Nothing outside the demo's folder is touched, and nothing is left of it.
//! The demo waits for what it can see, and fails when that does not happen in time.

mod cast;
mod declarations;
mod report;
mod stage;
mod story;
mod typed;

use tokio::signal::unix::{Signal, SignalKind, signal};

use self::stage::Stage;
use super::Context;
use crate::args::DemoArgs;
use crate::error::{CommandError, Exit};
use crate::print::Envelope;

/// Plays it.
pub(super) async fn run(context: Context<'_>, args: DemoArgs) -> Result<Exit, CommandError> {
    // Before there is anything to clean up: from here on no signal ends the program by itself.
    let mut stop = Stop::new()?;
    let ui = context.ui;
    let mut stage = Stage::open(ui, args.nodes, args.keep.as_deref())?;
    let played = tokio::select! {
        played = story::play(&mut stage) => played,
        () = stop.asked() => Err(CommandError::new(Exit::Interrupted, "C006", "interrupted")),
    };
    let exit = match played {
        Ok(report) => {
            ui.say("");
            let exit = context.finish(&report, Envelope::default(), Exit::Done);
            if !args.once {
                ui.say(&stage.next());
                stop.asked().await;
                ui.say("");
            }
            Ok(exit)
        }
        Err(error) => Err(error),
    };
    stage.close().await;
    exit
}

/// Whatever asks the demo to end: Ctrl-C, the end of its terminal, a supervisor.
struct Stop([Signal; 3]);

impl Stop {
    fn new() -> Result<Self, CommandError> {
        let on = |kind| {
            signal(kind).map_err(|error| {
                CommandError::new(Exit::Failed, "C040", "listen for Ctrl-C").because(&error)
            })
        };
        Ok(Self([
            on(SignalKind::interrupt())?,
            on(SignalKind::terminate())?,
            on(SignalKind::hangup())?,
        ]))
    }

    async fn asked(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
