//! Problems found in data that did not stop us.

use serde::{Deserialize, Serialize};

/// How much an [`Issue`] matters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Works, but someone should look.
    Warning,
    /// A part was left out, or two wishes contradict.
    Error,
}

/// A problem in data: what, where, and what to do. The data around it stays usable.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Issue {
    /// Stable code: `D0xx` declaration, `M0xx` mesh.
    pub code: String,
    /// How bad.
    pub severity: Severity,
    /// What it is about: a path, a node name, a statement id.
    pub subject: String,
    /// One sentence without a full stop.
    pub message: String,
    /// What to do or type next; may be empty.
    pub help: String,
}

impl Issue {
    /// An issue of severity error.
    pub fn error(code: &str, subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(code, Severity::Error, subject, message)
    }

    /// An issue of severity warning.
    pub fn warning(code: &str, subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(code, Severity::Warning, subject, message)
    }

    /// An issue without help.
    pub fn new(
        code: &str,
        severity: Severity,
        subject: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            code: code.to_owned(),
            severity,
            subject: subject.into(),
            message: message.into(),
            help: String::new(),
        }
    }

    /// The same issue with what to do about it.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = help.into();
        self
    }
}
