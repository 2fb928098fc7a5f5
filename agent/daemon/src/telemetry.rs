//! Where log lines go: standard error, which the service manager keeps in its journal.

use std::io::{IsTerminal as _, stderr};

use tracing_subscriber::EnvFilter;

/// Why logging could not be set up. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter is not one.
    #[error("read the log filter `{filter}`")]
    Filter {
        /// As given.
        filter: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Another part of the process set up logging before.
    #[error("start logging: {why}")]
    Taken {
        /// What the library said.
        why: String,
    },
}

/// Starts logging to standard error.
///
/// `filter` is a level (`info`), which is that of our own parts while libraries speak from `warn` up, or a list such as
/// `info,lab_mesh_proto=debug`, which is taken as it is. `is_journal` leaves out the time, which the journal adds itself.
///
/// # Errors
/// See [`TelemetryError`].
pub fn start(filter: &str, is_journal: bool) -> Result<(), TelemetryError> {
    let parsed = EnvFilter::try_new(widened(filter)).map_err(|source| TelemetryError::Filter {
        filter: filter.to_owned(),
        source,
    })?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(parsed)
        .with_writer(stderr)
        .with_ansi(stderr().is_terminal())
        .with_target(false);
    let started = if is_journal {
        lines.without_time().try_init()
    } else {
        lines.try_init()
    };
    started.map_err(|e| TelemetryError::Taken { why: e.to_string() })
}

/// A bare level is meant for us: the crates whose names begin with `lab`.
fn widened(filter: &str) -> String {
    match filter {
        "warn" | "info" | "debug" | "trace" => format!("warn,lab={filter}"),
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_level_leaves_libraries_quiet_and_a_list_is_taken_as_it_is() {
        assert_eq!(widened("info"), "warn,lab=info");
        assert_eq!(widened("error"), "error");
        assert_eq!(widened("debug,iroh=off"), "debug,iroh=off");
    }

    #[test]
    fn what_is_no_filter_is_an_error() {
        assert!(matches!(
            start("lab=loud", false),
            Err(TelemetryError::Filter { .. })
        ));
    }
}
