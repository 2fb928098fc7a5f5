//! Colours. Without them every text says the same.

use anstyle::{AnsiColor, Effects, Style};

/// Paints text, or leaves it plain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Paint {
    is_colour: bool,
}

/// What a text means.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Tone {
    /// Nothing special.
    #[default]
    Plain,
    /// Done, well.
    Good,
    /// Attention.
    Warn,
    /// Failed.
    Bad,
    /// Old or unimportant.
    Dim,
    /// A path, a name, something to type.
    Hint,
    /// A heading.
    Strong,
}

impl Paint {
    /// With colours.
    pub(crate) const fn colour() -> Self {
        Self { is_colour: true }
    }

    /// Without.
    pub(crate) const fn plain() -> Self {
        Self { is_colour: false }
    }

    /// `text` as its meaning asks.
    pub(crate) fn tone(self, tone: Tone, text: &str) -> String {
        let style = match tone {
            Tone::Plain => return text.to_owned(),
            Tone::Good => AnsiColor::Green.on_default(),
            Tone::Warn => AnsiColor::Yellow.on_default(),
            Tone::Bad => AnsiColor::Red.on_default(),
            Tone::Dim => Style::new().effects(Effects::DIMMED),
            Tone::Hint => AnsiColor::Cyan.on_default(),
            Tone::Strong => Style::new().effects(Effects::BOLD),
        };
        if self.is_colour && !text.is_empty() {
            format!("{style}{text}{style:#}")
        } else {
            text.to_owned()
        }
    }

    /// Done.
    pub(crate) fn green(self, text: &str) -> String {
        self.tone(Tone::Good, text)
    }

    /// Failed.
    pub(crate) fn red(self, text: &str) -> String {
        self.tone(Tone::Bad, text)
    }

    /// Attention.
    pub(crate) fn yellow(self, text: &str) -> String {
        self.tone(Tone::Warn, text)
    }

    /// Something to type.
    pub(crate) fn cyan(self, text: &str) -> String {
        self.tone(Tone::Hint, text)
    }

    /// A heading.
    pub(crate) fn bold(self, text: &str) -> String {
        self.tone(Tone::Strong, text)
    }

    /// Old or unimportant.
    pub(crate) fn dim(self, text: &str) -> String {
        self.tone(Tone::Dim, text)
    }
}
