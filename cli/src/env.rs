//! The environment variables that `lab` reads: all of them, in one place.

use std::io::IsTerminal as _;
use std::path::PathBuf;

/// Where the agent keeps its data; as `--data`.
pub(crate) const DATA: &str = "LAB_DATA";
/// The agent's socket; as `--socket`.
pub(crate) const SOCKET: &str = "LAB_SOCKET";
/// The machine to ask; as `--at`.
pub(crate) const AT: &str = "LAB_AT";
/// The key file that signs; as `--key`.
pub(crate) const KEY: &str = "LAB_KEY";
/// A file with the passphrase of the key file, for scripts.
pub(crate) const KEY_PASSPHRASE_FILE: &str = "LAB_KEY_PASSPHRASE_FILE";
/// Set by systemd when output goes to the journal.
pub(crate) const JOURNAL_STREAM: &str = "JOURNAL_STREAM";
/// Where a person's programs keep what lives as long as they are logged in.
pub(crate) const RUNTIME_DIR: &str = "XDG_RUNTIME_DIR";
/// Set to anything but nothing: no colour.
pub(crate) const NO_COLOR: &str = "NO_COLOR";

/// A variable that is set and not empty.
#[expect(
    clippy::disallowed_methods,
    reason = "the command line is where the environment enters"
)]
pub(crate) fn text(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|v| !v.is_empty())
}

/// A variable that names a file or directory.
pub(crate) fn path(name: &str) -> Option<PathBuf> {
    std::env::var_os(name)
        .filter(|v| !v.is_empty())
        .map(PathBuf::from)
}

/// The directory for a person's settings: `$XDG_CONFIG_HOME/lab` or `~/.config/lab`.
pub(crate) fn config_dir() -> PathBuf {
    path("XDG_CONFIG_HOME")
        .or_else(|| path("HOME").map(|home| home.join(".config")))
        .unwrap_or_else(|| PathBuf::from("/etc"))
        .join("lab")
}

/// Whether standard output is a terminal.
pub(crate) fn is_stdout_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// Whether a person can be asked: both standard input and standard error are terminals.
pub(crate) fn is_interactive() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// The width of the terminal, in characters, if standard output is one.
pub(crate) fn terminal_width() -> Option<usize> {
    rustix::termios::tcgetwinsize(std::io::stdout())
        .ok()
        .map(|size| usize::from(size.ws_col))
        .filter(|width| *width > 0)
}

/// The name this person is logged in with, also behind `sudo`.
pub(crate) fn login() -> Option<String> {
    text("SUDO_USER")
        .or_else(|| text("USER"))
        .or_else(|| text("LOGNAME"))
}

/// The host name of this machine without its domain, in lower case.
pub(crate) fn hostname() -> String {
    let name = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .to_lowercase();
    name.split('.').next().unwrap_or_default().to_owned()
}
