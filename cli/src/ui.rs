//! Where text leaves the program: results to standard output, talk to standard error.

use std::io::{self, BufRead as _, Read as _, Write as _};

use serde::Serialize;
use serde_json::{Value as Json, json};

use crate::args::{ColorWhen, Format, Global};
use crate::env;
use crate::error::{CommandError, Exit};
use crate::print::paint::Paint;
use crate::print::{Envelope, Report, Style};

/// The way out, and the way to ask.
#[derive(Clone, Debug)]
pub(crate) struct Ui {
    format: Format,
    is_quiet: bool,
    paint_out: Paint,
    paint_err: Paint,
    width: Option<usize>,
    is_interactive: bool,
    is_yes: bool,
}

impl Ui {
    /// As the flags and the terminal say.
    pub(crate) fn new(global: &Global) -> Self {
        let is_plain = env::text(env::NO_COLOR).is_some()
            || env::text("TERM").is_some_and(|term| term == "dumb");
        let colour = |is_terminal: bool| match global.color {
            ColorWhen::Always => Paint::colour(),
            ColorWhen::Never => Paint::plain(),
            ColorWhen::Auto if is_terminal && !is_plain => Paint::colour(),
            ColorWhen::Auto => Paint::plain(),
        };
        let is_terminal = env::is_stdout_terminal();
        Self {
            format: global.output,
            is_quiet: global.quiet,
            paint_out: colour(is_terminal),
            paint_err: colour(io::IsTerminal::is_terminal(&io::stderr())),
            width: if is_terminal {
                env::terminal_width()
            } else {
                None
            },
            is_interactive: env::is_interactive() && !global.no_input,
            is_yes: global.yes,
        }
    }

    /// How text for people looks on standard output.
    pub(crate) fn style(&self) -> Style {
        Style {
            paint: self.paint_out,
            is_wide: self.format == Format::Wide,
            width: self.width,
        }
    }

    /// How text for people looks on standard error.
    pub(crate) const fn paint(&self) -> Paint {
        self.paint_err
    }

    /// Whether results are read by a program.
    pub(crate) const fn is_machine(&self) -> bool {
        matches!(self.format, Format::Json | Format::Yaml | Format::Ndjson)
    }

    /// Whether results come line by line as they happen.
    pub(crate) fn is_stream(&self) -> bool {
        self.format == Format::Ndjson
    }

    /// Whether a person can be asked.
    pub(crate) const fn is_interactive(&self) -> bool {
        self.is_interactive
    }

    /// Whether questions are answered already.
    pub(crate) const fn is_yes(&self) -> bool {
        self.is_yes
    }

    /// Shows a result in the form that was asked for.
    pub(crate) fn show(&self, report: &dyn Report, envelope: &Envelope) {
        for warning in &envelope.warnings {
            if !self.is_machine() {
                self.warn(&warning.message);
            }
        }
        match self.format {
            Format::Table | Format::Wide => self.out(&report.text(&self.style())),
            Format::Name => {
                let lines: String = report.names().iter().map(|n| format!("{n}\n")).collect();
                self.out(&lines);
            }
            Format::Json => self.out(&format!("{:#}\n", envelope.json(report))),
            Format::Yaml => self.out(&yaml(&envelope.json(report))),
            Format::Ndjson => {
                self.event("hello", &json!({ "schema": report.schema() }));
                match report.data() {
                    Json::Array(items) => items.iter().for_each(|item| self.event("item", item)),
                    data => self.event("item", &data),
                }
                let mut summary = envelope.json(report);
                if let Json::Object(map) = &mut summary {
                    map.remove("data");
                }
                self.event("summary", &summary);
            }
        }
    }

    /// One line of a stream: an object with its kind first.
    pub(crate) fn event(&self, kind: &str, body: &impl Serialize) {
        let mut line = serde_json::Map::from_iter([("type".to_owned(), Json::from(kind))]);
        match serde_json::to_value(body) {
            Ok(Json::Object(map)) => line.extend(map),
            Ok(other) => drop(line.insert("value".to_owned(), other)),
            Err(_unrepresentable) => {}
        }
        self.out(&format!("{}\n", Json::Object(line)));
    }

    /// Writes to standard output. A reader that went away (`| head`) is no error.
    pub(crate) fn out(&self, text: &str) {
        let mut out = io::stdout().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }

    /// Talks to the person; silent with `-q`.
    pub(crate) fn say(&self, text: &str) {
        if !self.is_quiet {
            self.err(&format!("{text}\n"));
        }
    }

    /// Warns the person.
    pub(crate) fn warn(&self, text: &str) {
        self.say(&format!("{} {text}", self.paint_err.yellow("warning:")));
    }

    /// Shows what failed: as an envelope for programs, with marks and hints for people.
    pub(crate) fn fail(&self, error: &CommandError) {
        if self.is_machine() {
            let body = json!({
                "schema": "lab.error/v1",
                "errors": [error],
                "exit": error.exit.code(),
            });
            match self.format {
                Format::Json => self.out(&format!("{body:#}\n")),
                Format::Yaml => self.out(&yaml(&body)),
                Format::Table | Format::Wide | Format::Ndjson | Format::Name => {
                    self.event("diagnostic", &body);
                }
            }
            return;
        }
        let text = error.text();
        let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
        self.err(&format!("{}\n{rest}", self.paint_err.red(first)));
    }

    /// Asks a yes-or-no question; the answer is no unless it is a clear yes.
    ///
    /// `-y` answers yes. Where nobody can be asked, it is refused with exit code 6.
    pub(crate) fn confirm(&self, question: &str) -> Result<bool, CommandError> {
        if self.is_yes {
            return Ok(true);
        }
        let answer = self.ask(&format!("{question} [y/N] "))?;
        Ok(matches!(
            answer.trim().to_ascii_lowercase().as_str(),
            "y" | "yes"
        ))
    }

    /// Asks for a line of text.
    pub(crate) fn ask(&self, question: &str) -> Result<String, CommandError> {
        if !self.is_interactive {
            let what = question.trim_end_matches([' ', ':']).replace(" [y/N]", "");
            return Err(CommandError::new(
                Exit::Refused,
                "C002",
                format!("nobody is here to answer: {what}"),
            )
            .hint("add -y to answer yes"));
        }
        self.err(&format!("{} ", self.paint_err.bold(question.trim_end())));
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line).map_err(|error| {
            CommandError::new(Exit::Failed, "C003", "read the answer").because(&error)
        })?;
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    }

    /// Asks for a text that is not shown while it is typed.
    pub(crate) fn ask_hidden(&self, question: &str) -> Result<String, CommandError> {
        use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
        if !self.is_interactive {
            return self.ask(question);
        }
        let failed = |error: rustix::io::Errno| {
            CommandError::new(Exit::Failed, "C003", "hide what is typed").because(&error)
        };
        let before = tcgetattr(io::stdin()).map_err(failed)?;
        let mut hidden = before.clone();
        // Ctrl-C is read as a byte as well: it must not end the program while the terminal hides what is typed.
        hidden
            .local_modes
            .remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        tcsetattr(io::stdin(), OptionalActions::Flush, &hidden).map_err(failed)?;
        self.err(&format!("{} ", self.paint_err.bold(question.trim_end())));
        let answer = read_hidden();
        let restored = tcsetattr(io::stdin(), OptionalActions::Flush, &before).map_err(failed);
        self.err("\n");
        restored.and(answer)
    }

    /// Shows what must be seen, even with `-q`.
    pub(crate) fn insist(&self, text: &str) {
        self.err(&format!("{text}\n"));
    }

    fn err(&self, text: &str) {
        let _ = io::stderr().lock().write_all(text.as_bytes());
    }
}

/// Reads bytes up to the end of the line; backspace takes one back, Ctrl-C interrupts.
fn read_hidden() -> Result<String, CommandError> {
    let mut typed = zeroize::Zeroizing::new(Vec::new());
    for byte in io::stdin().lock().bytes() {
        let byte = byte.map_err(|error| {
            CommandError::new(Exit::Failed, "C003", "read the answer").because(&error)
        })?;
        match byte {
            b'\n' | b'\r' | 4 => break,
            3 => return Err(CommandError::new(Exit::Interrupted, "C006", "interrupted")),
            8 | 127 => while typed.pop().is_some_and(|b| b & 0xc0 == 0x80) {},
            byte if typed.len() < 1024 => typed.push(byte),
            _ => {}
        }
    }
    String::from_utf8(typed.to_vec())
        .map_err(|_invalid| CommandError::new(Exit::Failed, "C003", "this is not text"))
}

fn yaml(value: &Json) -> String {
    serde_saphyr::to_string(value).unwrap_or_else(|_unrepresentable| format!("{value:#}\n"))
}
