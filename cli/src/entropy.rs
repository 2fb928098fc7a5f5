//! Randomness for keys, tokens and nonces: the only place of this crate that asks the system for it.

use crate::error::{CommandError, Exit};

/// Random bytes from the operating system.
#[expect(
    clippy::disallowed_methods,
    reason = "the command line is where keys are made"
)]
pub(crate) fn bytes<const N: usize>() -> Result<[u8; N], CommandError> {
    let mut out = [0; N];
    getrandom::fill(&mut out).map_err(|error| {
        CommandError::new(Exit::Failed, "C009", "the system gave no random bytes").because(&error)
    })?;
    Ok(out)
}
