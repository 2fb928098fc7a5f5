//! Where text leaves the program.

use std::io::{self, IsTerminal as _, Write as _};

use anstyle::{AnsiColor, Effects, Style};
use serde::Serialize;

use super::args::{ColorWhen, Form};
use super::exit::Failure;

/// Paints text, or leaves it plain. Without colours every text says the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Paint {
    is_colour: bool,
}

impl Paint {
    /// Without colours.
    #[cfg(test)]
    pub(crate) const fn plain() -> Self {
        Self { is_colour: false }
    }

    fn with(self, style: Style, text: &str) -> String {
        if self.is_colour && !text.is_empty() {
            format!("{style}{text}{style:#}")
        } else {
            text.to_owned()
        }
    }

    /// As it should be.
    pub(crate) fn good(self, text: &str) -> String {
        self.with(AnsiColor::Green.on_default(), text)
    }

    /// Not as it should be.
    pub(crate) fn bad(self, text: &str) -> String {
        self.with(AnsiColor::Red.on_default().effects(Effects::BOLD), text)
    }

    /// Something to type, or a path.
    pub(crate) fn hint(self, text: &str) -> String {
        self.with(AnsiColor::Cyan.on_default(), text)
    }

    /// A heading.
    pub(crate) fn strong(self, text: &str) -> String {
        self.with(Style::new().effects(Effects::BOLD), text)
    }

    /// Less important.
    pub(crate) fn dim(self, text: &str) -> String {
        self.with(Style::new().effects(Effects::DIMMED), text)
    }
}

/// The way out.
#[derive(Clone, Debug)]
pub(crate) struct Ui {
    form: Form,
    is_quiet: bool,
    /// For standard output.
    pub(crate) paint: Paint,
    paint_err: Paint,
}

impl Ui {
    /// As the flags and the terminal say.
    pub(crate) fn new(color: ColorWhen, form: Form, is_quiet: bool) -> Self {
        let is_set = |name| std::env::var_os(name).is_some_and(|v| !v.is_empty());
        let is_plain = is_set("NO_COLOR") || std::env::var_os("TERM").is_some_and(|t| t == "dumb");
        let paint = |is_terminal: bool| Paint {
            is_colour: match color {
                ColorWhen::Always => true,
                ColorWhen::Never => false,
                ColorWhen::Auto => is_terminal && !is_plain,
            },
        };
        Self {
            form,
            is_quiet,
            paint: paint(io::stdout().is_terminal()),
            paint_err: paint(io::stderr().is_terminal()),
        }
    }

    /// Whether results are read by a program.
    pub(crate) fn is_json(&self) -> bool {
        self.form == Form::Json
    }

    /// Whether a line of progress makes sense.
    pub(crate) fn is_watched(&self) -> bool {
        !self.is_quiet && io::stderr().is_terminal()
    }

    /// Writes to standard output. A reader that went away (`| head`) is no error.
    pub(crate) fn out(&self, text: &str) {
        let mut out = io::stdout().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }

    /// Writes one JSON document to standard output.
    pub(crate) fn json(&self, body: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(body)
            .map_err(|error| Failure::internal(format!("write JSON: {error}")))?;
        self.out(&format!("{text}\n"));
        Ok(())
    }

    /// Talks to the person; silent with `-q`.
    pub(crate) fn say(&self, text: &str) {
        if !self.is_quiet {
            self.err(&format!("{text}\n"));
        }
    }

    /// Writes to standard error as it stands.
    pub(crate) fn err(&self, text: &str) {
        let _ = io::stderr().lock().write_all(text.as_bytes());
    }

    /// Shows what failed.
    pub(crate) fn fail(&self, failure: &Failure) {
        self.err(&format!(
            "{} {}\n",
            self.paint_err.bad("error:"),
            failure.what
        ));
        if let Some(hint) = &failure.hint {
            self.err(&format!("hint: {}\n", self.paint_err.hint(hint)));
        }
    }
}
