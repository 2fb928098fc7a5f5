//! What a command ends with: an exit code, and for a failure what to show and what to type next.

use std::error::Error;
use std::fmt::Write as _;
use std::ops::{Deref, DerefMut};

use lab_crdt_model::SpanError;
use serde::Serialize;

/// How a command ended. The numbers are stable; scripts may rely on them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Done.
    Done = 0,
    /// Failed.
    Failed = 1,
    /// Differences exist; only with `--exit-code`.
    Differs = 2,
    /// Nothing matched, or a name, key or group is unknown.
    NoMatch = 3,
    /// Everything reachable succeeded, some targets are silent.
    Partial = 4,
    /// Refused by a guard.
    Refused = 6,
    /// An unresolved conflict touches the targets.
    Conflict = 7,
    /// The command line is wrong.
    Usage = 64,
    /// A file or query is wrong.
    Input = 65,
    /// No agent is running here.
    NoAgent = 69,
    /// Not allowed.
    Permission = 77,
    /// Interrupted by the keyboard.
    Interrupted = 130,
}

impl Exit {
    /// The code for the operating system.
    pub(crate) const fn code(self) -> u8 {
        self as u8
    }

    /// The one that matters more: an unusable input first, then failures, conflicts, refusals, silence.
    pub(crate) fn worst(self, other: Self) -> Self {
        if self.rank() >= other.rank() {
            self
        } else {
            other
        }
    }

    const fn rank(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Differs => 1,
            Self::NoMatch => 2,
            Self::Partial => 3,
            Self::Refused => 4,
            Self::Conflict => 5,
            Self::Failed => 6,
            Self::Usage | Self::Input | Self::NoAgent | Self::Permission => 7,
            Self::Interrupted => 8,
        }
    }
}

/// A command that could not do its work. Small to pass on; what is known is behind it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct CommandError(Box<Failure>);

/// What is known about a failure.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Failure {
    /// How to exit.
    #[serde(skip)]
    pub(crate) exit: Exit,
    /// Stable code: `C0xx` command line, `K0xx` keys, `M0xx` mesh, `Q0xx` query, `D0xx` declaration.
    pub(crate) code: String,
    /// What failed, without a full stop.
    pub(crate) message: String,
    /// Why, outermost first.
    pub(crate) causes: Vec<String>,
    /// What to type next.
    pub(crate) hints: Vec<String>,
    /// The place in a text that a person wrote, already drawn.
    pub(crate) snippet: Option<String>,
}

impl CommandError {
    /// A failure without cause and hints.
    pub(crate) fn new(exit: Exit, code: &str, message: impl Into<String>) -> Self {
        Self(Box::new(Failure {
            exit,
            code: code.to_owned(),
            message: message.into(),
            causes: Vec::new(),
            hints: Vec::new(),
            snippet: None,
        }))
    }

    /// The command line contradicts itself or misses something; exit 64.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "C001", message)
    }

    /// A mistake in a query. An unknown word exits 3, a malformed query 65.
    pub(crate) fn query(error: &SpanError, text: &str) -> Self {
        let is_unknown = matches!(error.code, "Q030" | "Q032" | "Q033");
        let exit = if is_unknown {
            Exit::NoMatch
        } else {
            Exit::Input
        };
        let mut out = Self::new(exit, error.code, error.message.clone());
        out.snippet = Some(error.render("query", text));
        out
    }

    /// The same failure with its causes: `error` and whatever is behind it.
    #[must_use]
    pub(crate) fn because(mut self, error: &(dyn Error + 'static)) -> Self {
        let mut next = Some(error);
        while let Some(cause) = next {
            let text = cause.to_string();
            if self.causes.last() != Some(&text) {
                self.causes.push(text);
            }
            next = cause.source();
        }
        self
    }

    /// The same failure with one more thing to try.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// The failure as people read it, ending in a newline, without colour.
    pub(crate) fn text(&self) -> String {
        let mut out = match &self.snippet {
            Some(snippet) => snippet.clone(),
            None => format!("error[{}]: {}\n", self.code, self.message),
        };
        for cause in &self.causes {
            let _ = writeln!(out, "  because: {cause}");
        }
        if !self.hints.is_empty() {
            out.push('\n');
        }
        for hint in &self.hints {
            let _ = writeln!(out, "hint: {hint}");
        }
        out
    }
}

impl Deref for CommandError {
    type Target = Failure;

    fn deref(&self) -> &Failure {
        &self.0
    }
}

impl DerefMut for CommandError {
    fn deref_mut(&mut self) -> &mut Failure {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use lab_crdt_model::Span;

    use super::*;

    #[test]
    fn the_worst_exit_wins() {
        assert_eq!(Exit::Partial.worst(Exit::Conflict), Exit::Conflict);
        assert_eq!(Exit::Conflict.worst(Exit::Refused), Exit::Conflict);
        assert_eq!(Exit::Failed.worst(Exit::Conflict), Exit::Failed);
        assert_eq!(Exit::Done.worst(Exit::Differs), Exit::Differs);
        assert_eq!(Exit::Input.worst(Exit::Failed), Exit::Input);
    }

    #[test]
    fn an_unknown_word_exits_three_and_a_broken_query_sixty_five() {
        let error = |code| SpanError::new(code, "m", Span::new(0, 1), "l");
        assert_eq!(CommandError::query(&error("Q033"), "x").exit, Exit::NoMatch);
        assert_eq!(CommandError::query(&error("Q019"), "x").exit, Exit::Input);
    }

    #[test]
    fn an_error_ends_with_what_to_type_next() {
        let text = CommandError::new(Exit::NoAgent, "C010", "no agent answers")
            .because(&std::io::Error::other("refused"))
            .hint("lab agent run")
            .text();
        assert_eq!(
            text,
            "error[C010]: no agent answers\n  because: refused\n\nhint: lab agent run\n"
        );
    }
}
