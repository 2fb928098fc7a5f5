//! The program `lab-sim`; see `lab_simulation::cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    lab_simulation::cli::main()
}
