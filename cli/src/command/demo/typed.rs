//! One command line of the demo: shown, run as its own process, its answer shown.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::report::seconds;
use super::stage::Stage;
use crate::clock::Stopwatch;
use crate::error::{CommandError, Exit};

/// How long one command may take. Applying waits for machines, at most as long as it is told to.
const COMMAND_MAX: Duration = Duration::from_secs(180);
/// Most lines of an answer that are shown.
const LINES_MAX: usize = 40;

/// A command line, not yet run.
#[derive(Clone, Debug)]
pub(super) struct Typed {
    words: Vec<String>,
    into: Option<String>,
    codes: Vec<Exit>,
    shown: Shown,
}

/// What is shown of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Shown {
    All,
    /// Talk, and of the result only its last line.
    Short,
    Nothing,
}

impl Typed {
    /// `lab` with these words; everything is expected to go well.
    pub(super) fn new(words: &[&str]) -> Self {
        Self {
            words: words.iter().map(|&w| w.to_owned()).collect(),
            into: None,
            codes: vec![Exit::Done],
            shown: Shown::All,
        }
    }

    /// At a machine.
    pub(super) fn at(self, machine: &str) -> Self {
        self.with(&["--data", machine])
    }

    /// Signed by a person.
    pub(super) fn by(self, person: &str) -> Self {
        let key = format!("{person}.key");
        self.with(&["--key", &key])
    }

    /// With more words.
    pub(super) fn with(mut self, words: &[&str]) -> Self {
        self.words.extend(words.iter().map(|&w| w.to_owned()));
        self
    }

    /// With the result written to a file.
    pub(super) fn into_file(mut self, file: &str) -> Self {
        self.into = Some(file.to_owned());
        self
    }

    /// Ending with one of these.
    pub(super) fn ends(mut self, codes: &[Exit]) -> Self {
        self.codes = codes.to_vec();
        self
    }

    /// With only the last line of the result shown.
    pub(super) const fn short(mut self) -> Self {
        self.shown = Shown::Short;
        self
    }

    /// Without its answer.
    pub(super) const fn silent(mut self) -> Self {
        self.shown = Shown::Nothing;
        self
    }

    /// What comes after `lab`.
    pub(super) fn words(&self) -> &[String] {
        &self.words
    }

    /// As a person types it.
    pub(super) fn text(&self) -> String {
        let words: Vec<_> = self.words.iter().map(|word| quoted(word)).collect();
        let into = self.into.as_ref().map(|file| format!(" > {file}"));
        format!("lab {}{}", words.join(" "), into.unwrap_or_default())
    }

    /// Shows it, runs it, shows the answer; gives the result.
    pub(super) async fn run(self, stage: &Stage<'_>) -> Result<Answer, CommandError> {
        let text = self.text();
        stage.show_command(&text);
        let failed = |what: &str, error: &(dyn std::error::Error + 'static)| {
            CommandError::new(Exit::Failed, "C041", format!("{what} `{text}`")).because(error)
        };
        let watch = Stopwatch::start();
        let mut command = stage.program();
        command.args(&self.words);
        if stage.is_colour() && self.into.is_none() {
            command.args(["--color", "always"]);
        }
        let running = output(command);
        let output = tokio::time::timeout(COMMAND_MAX, running)
            .await
            .map_err(|elapsed| failed("wait for", &elapsed))?
            .map_err(|error| failed("run", &error))?;
        let took = watch.elapsed();
        let result = String::from_utf8_lossy(&output.stdout).into_owned();
        let talk = String::from_utf8_lossy(&output.stderr).into_owned();
        if let Some(file) = &self.into {
            std::fs::write(stage.path(file), &result).map_err(|error| failed("keep", &error))?;
        }
        let code = output.status.code();
        let is_expected = self
            .codes
            .iter()
            .any(|exit| Some(exit.code().into()) == code);
        match self.shown {
            _ if !is_expected => {
                stage.show_answer(&result, LINES_MAX);
                stage.show_answer(&talk, LINES_MAX);
            }
            Shown::All => {
                if self.into.is_none() {
                    stage.show_answer(&result, LINES_MAX);
                }
                stage.show_answer(&talk, LINES_MAX);
            }
            Shown::Short => {
                let lines: Vec<_> = result.trim_end().lines().collect();
                if let Some((last, before)) = lines.split_last() {
                    if !before.is_empty() {
                        stage.aside(&format!("… {} lines of plan", before.len()));
                    }
                    stage.show_answer(last, LINES_MAX);
                }
                stage.show_answer(&talk, LINES_MAX);
            }
            Shown::Nothing => {}
        }
        if is_expected {
            return Ok(Answer { took });
        }
        let code = code.map_or_else(|| output.status.to_string(), |code| format!("code {code}"));
        let took = seconds(took);
        let message = format!("`{text}` ended with {code} after {took}, which was not expected");
        Err(CommandError::new(Exit::Failed, "C042", message))
    }
}

/// What came of a command.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    /// How long it ran.
    pub(super) took: Duration,
}

async fn output(mut command: Command) -> std::io::Result<std::process::Output> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()
        .await
}

/// A word as a shell wants it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,@%+".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_a_person_types_it() {
        let typed = Typed::new(&["target", "role=web and not @canary"]).at("nas1");
        assert_eq!(
            typed.text(),
            "lab target 'role=web and not @canary' --data nas1"
        );
        let typed = Typed::new(&["token", "create", "nuc1"]).by("ana");
        assert_eq!(
            typed.into_file("nuc1.token").text(),
            "lab token create nuc1 --key ana.key > nuc1.token"
        );
        assert_eq!(quoted("it's"), "'it'\\''s'");
    }
}
