//! Labels: `key` or `key=value` on a node; the universal handle.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::limit::NAME_BYTES_MAX;

/// A label, for example `role=web` or `canary`.
///
/// Keys start with a letter or `_`, then letters, digits, `_ . / -`; values are letters, digits, `_ . : / -`
/// and may not be empty when an `=` is written. Each at most 63 bytes. Ordered by key, then value.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Label {
    /// What is said.
    pub key: String,
    /// Which one; `None` for a flag.
    pub value: Option<String>,
}

/// Why a text is not a label. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// The key is empty, too long or has a character that labels do not allow.
    #[error(
        "`{0}` is not a label key: a letter or `_`, then letters, digits, `_ . / -`, at most 63 bytes"
    )]
    Key(String),
    /// The value is empty, too long or has a character that labels do not allow.
    #[error("`{0}` is not a label value: letters, digits, `_ . : / -`, 1 to 63 bytes")]
    Value(String),
}

/// Whether `text` can be the key of a label.
pub fn is_key(text: &str) -> bool {
    text.len() <= NAME_BYTES_MAX
        && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text
            .bytes()
            .all(|c| c.is_ascii_alphanumeric() || b"_./-".contains(&c))
}

/// Whether `text` can be the value of a label.
pub fn is_value(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= NAME_BYTES_MAX
        && text
            .bytes()
            .all(|c| c.is_ascii_alphanumeric() || b"_.:/-".contains(&c))
}

/// Whether `text` can be the name of a node, group, set or operator.
///
/// Lower-case letters, digits, `-`, `_` and `.`, starting with a letter or digit; at most 63 bytes.
pub fn is_name(text: &str) -> bool {
    text.len() <= NAME_BYTES_MAX
        && text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && text
            .bytes()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || b"-_.".contains(&c))
}

impl FromStr for Label {
    type Err = LabelError;

    fn from_str(text: &str) -> Result<Self, LabelError> {
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (text, None),
        };
        if !is_key(key) {
            return Err(LabelError::Key(key.chars().take(80).collect()));
        }
        if let Some(value) = value.filter(|v| !is_value(v)) {
            return Err(LabelError::Value(value.chars().take(80).collect()));
        }
        Ok(Self {
            key: key.to_owned(),
            value: value.map(str::to_owned),
        })
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{}={value}", self.key),
            None => f.write_str(&self.key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_print_what_they_read() {
        for text in [
            "role=web",
            "canary",
            "lab.role/holder",
            "zone=a:b/c.d-e_f",
            "_x=1",
        ] {
            assert_eq!(text.parse::<Label>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn damaged_labels_are_refused() {
        for text in [
            "",
            "=web",
            "role=",
            "1role=web",
            "role=we b",
            "ro le",
            "rôle=web",
            &"k".repeat(64),
        ] {
            assert!(text.parse::<Label>().is_err(), "{text}");
        }
    }
}
