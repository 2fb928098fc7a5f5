//! `lab completion`: a static script; it knows commands and flags, not names of machines.

use super::Context;
use crate::args::{CompletionArgs, command};
use crate::error::Exit;

/// Prints the script.
pub(super) fn run(context: Context<'_>, args: &CompletionArgs) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command(), "lab", &mut script);
    context.ui.out(&String::from_utf8_lossy(&script));
    Exit::Done
}
