//! What a command ends with.

/// How a command ended. Scripts may rely on the numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Exit {
    /// All is well.
    Well = 0,
    /// Something that must hold did not: a violation, a claim that is false, a bar that was missed.
    Violation = 1,
    /// The command line or a file on it is wrong.
    Usage = 2,
    /// The program could not do its work.
    Internal = 3,
}

impl Exit {
    /// The code for the operating system.
    pub(crate) const fn code(self) -> u8 {
        self as u8
    }

    /// 1 if something is wrong.
    pub(crate) const fn of(is_well: bool) -> Self {
        if is_well { Self::Well } else { Self::Violation }
    }
}

/// A command that could not do its work.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Failure {
    /// How to exit.
    pub(crate) exit: Exit,
    /// What could not be done, and why.
    pub(crate) what: String,
    /// What to do about it.
    pub(crate) hint: Option<String>,
}

impl Failure {
    /// The command line is wrong.
    pub(crate) fn usage(what: impl Into<String>) -> Self {
        Self {
            exit: Exit::Usage,
            what: what.into(),
            hint: None,
        }
    }

    /// The program failed.
    pub(crate) fn internal(what: impl Into<String>) -> Self {
        Self {
            exit: Exit::Internal,
            what: what.into(),
            hint: None,
        }
    }

    /// What to type next.
    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into()),
            ..self
        }
    }
}

/// Reads a file that the command line names.
pub(crate) fn read(path: &std::path::Path) -> Result<String, Failure> {
    std::fs::read_to_string(path)
        .map_err(|error| Failure::usage(format!("read {}: {error}", path.display())))
}

/// Writes a file that the command line names.
pub(crate) fn write(path: &std::path::Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text)
        .map_err(|error| Failure::internal(format!("write {}: {error}", path.display())))
}
