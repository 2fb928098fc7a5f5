//! The forms that values take.

use lab_crdt_model::Value;
use lab_crdt_model::span::nearest;

use crate::file::{is_owner, parse_mode};
use crate::tree::{Kind, Node};

/// What a value has to look like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Form {
    /// Anything within the limits, but not nothing.
    Any,
    /// Text of any kind.
    Text,
    /// Text with placeholders.
    Template,
    /// Text or a map.
    TextOrMap,
    /// A map.
    Map,
    /// True or false.
    Bool,
    /// True or false, or a number of people.
    BoolOrCount,
    /// A whole number in a range.
    Int(i64, i64),
    /// `30s`, `5m`, `2h`, `60d`, `1w` or several of them.
    Duration,
    /// `512MiB`, `8GiB`, `1TiB`.
    Size,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A list of these words.
    Words(&'static [&'static str]),
    /// A targeting query; `true` if it decides about access.
    Query(bool),
    /// Permission bits as quoted octal text.
    Mode,
    /// `user` or `user:group`.
    Owner,
    /// A hardware address, quoted.
    Mac,
    /// The name of something in another section.
    Ref(&'static str),
    /// A whole number or a share in percent.
    Count,
    /// A count, or a list of counts.
    Batch,
}

/// Why a value does not have its form: a code, what was expected, and help.
pub(super) struct Misfit {
    pub(super) code: &'static str,
    pub(super) message: String,
    pub(super) help: String,
}

impl Form {
    /// Checks a value; queries, placeholders and references are checked by the caller.
    pub(super) fn check(self, node: &Node) -> Result<(), Misfit> {
        let Kind::Scalar { value, is_quoted } = &node.kind else {
            return match (self, &node.kind) {
                (Self::Any | Self::TextOrMap | Self::Map, Kind::Map(_)) => Ok(()),
                (Self::Any, Kind::List(_)) | (_, Kind::Bad) => Ok(()),
                (Self::Batch, Kind::List(items)) if !items.is_empty() => {
                    items.iter().try_for_each(|item| Self::Count.check(item))
                }
                (Self::Words(words), Kind::List(items)) => items
                    .iter()
                    .try_for_each(|item| Self::Word(words).check(item)),
                _ => Err(self.wrong_type(node)),
            };
        };
        match (self, value) {
            (Self::Any, Value::Null) => Err(self.wrong_type(node)),
            (Self::Any, _)
            | (Self::Text | Self::Template | Self::TextOrMap | Self::Query(_), Value::Text(_))
            | (Self::Bool | Self::BoolOrCount, Value::Bool(_)) => Ok(()),
            (Self::Ref(_), Value::Text(text)) if !text.is_empty() => Ok(()),
            (Self::BoolOrCount, Value::Int(n)) if (1..=100).contains(n) => Ok(()),
            (Self::Int(min, max), Value::Int(n)) if (min..=max).contains(n) => Ok(()),
            (Self::Int(min, max), Value::Int(n)) => Err(misfit(
                "D019",
                format!("{n} is out of range"),
                format!("between {min} and {max}"),
            )),
            (Self::Count | Self::Batch, Value::Int(n)) if *n >= 1 => Ok(()),
            (Self::Count | Self::Batch, Value::Text(text)) if is_percent(text) => Ok(()),
            (Self::Count | Self::Batch, Value::Int(_) | Value::Text(_)) => {
                let message = format!("`{value}` is not a count");
                Err(misfit(
                    "D019",
                    message.replace('"', ""),
                    "write a whole number from 1, or 1% to 100%",
                ))
            }
            (Self::Duration, Value::Text(text)) if is_duration(text) => Ok(()),
            (Self::Duration, Value::Text(text)) => Err(misfit(
                "D019",
                format!("`{text}` is not a duration"),
                "write it like 30s, 5m, 2h or 60d",
            )),
            (Self::Duration, Value::Int(n)) => Err(misfit(
                "D019",
                format!("`{n}` has no unit"),
                format!("write it like {n}s, {n}m, {n}h or {n}d"),
            )),
            (Self::Size, Value::Text(text)) if is_size(text) => Ok(()),
            (Self::Size, Value::Text(text)) => Err(misfit(
                "D019",
                format!("`{text}` is not a size"),
                "write it like 512MiB, 8GiB or 1TiB",
            )),
            (Self::Size, Value::Int(n)) => Err(misfit(
                "D019",
                format!("`{n}` has no unit"),
                format!("write it like {n}MiB or {n}GiB"),
            )),
            (Self::Word(words) | Self::Words(words), Value::Text(text)) => {
                let is_word = matches!(self, Self::Word(_));
                if is_word && words.contains(&text.as_str()) {
                    return Ok(());
                }
                if !is_word {
                    return Err(self.wrong_type(node));
                }
                let help = match nearest(text, words.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("one of: {}", words.join(", ")),
                };
                Err(misfit(
                    "D019",
                    format!("`{text}` is not possible here"),
                    help,
                ))
            }
            (Self::Mode, Value::Text(text)) if *is_quoted && parse_mode(text).is_some() => Ok(()),
            (Self::Mode, Value::Text(text)) => Err(misfit(
                "D019",
                format!("`{text}` is not a mode"),
                "three or four octal digits up to 0777: \"0644\"",
            )),
            (Self::Mode, Value::Int(n)) => Err(misfit(
                "D008",
                format!("a mode has to be quoted, or {n} is read as a decimal number"),
                format!("write \"{n:04}\""),
            )),
            (Self::Owner, Value::Text(text)) if is_owner(text) => Ok(()),
            (Self::Owner, Value::Text(text)) => Err(misfit(
                "D019",
                format!("`{text}` is not an owner"),
                "write user or user:group, like root:root",
            )),
            (Self::Mac, Value::Text(text)) if !is_quoted => Err(misfit(
                "D008",
                "a hardware address has to be quoted",
                format!("quote it: \"{text}\""),
            )),
            (Self::Mac, Value::Text(text)) if is_mac(text) => Ok(()),
            (Self::Mac, Value::Text(text)) => {
                let help = "six pairs of hexadecimal digits: \"1c:69:7a:00:00:11\"";
                Err(misfit(
                    "D019",
                    format!("`{text}` is not a hardware address"),
                    help,
                ))
            }
            _ => Err(self.wrong_type(node)),
        }
    }

    fn wrong_type(self, node: &Node) -> Misfit {
        let (what, help) = self.describe();
        let found = node.kind_name();
        let is_number = matches!(&node.kind, Kind::Scalar { value, .. }
            if matches!(value, Value::Int(_) | Value::Decimal(_) | Value::Bool(_)));
        let wants_text = matches!(
            self,
            Self::Text | Self::Template | Self::TextOrMap | Self::Ref(_) | Self::Query(_)
        );
        let help = if wants_text && is_number {
            "quote it"
        } else {
            help
        };
        misfit("D005", format!("expected {what}, found {found}"), help)
    }

    const fn describe(self) -> (&'static str, &'static str) {
        match self {
            Self::Any => ("a value", "write a value, or leave the key out"),
            Self::Text | Self::Template => {
                ("text", "write it on one line, or as a block after `|`")
            }
            Self::TextOrMap => ("text or a map", "write text, or keys and values"),
            Self::Map => ("a map", "write keys and values: { key: value }"),
            Self::Bool => ("true or false", "write true or false, not quoted"),
            Self::BoolOrCount => (
                "true, false or a number of people",
                "write true or false, not quoted",
            ),
            Self::Int(..) => ("a whole number", "write digits, not quoted"),
            Self::Duration => ("a duration", "write it like 30s, 5m, 2h or 60d"),
            Self::Size => ("a size", "write it like 512MiB, 8GiB or 1TiB"),
            Self::Word(_) => ("a word", "write one word"),
            Self::Words(_) => ("a list of words", "write it like [one, two]"),
            Self::Query(_) => ("a query", "write it like \"role=web\""),
            Self::Mode => ("a mode", "three or four octal digits, quoted: \"0644\""),
            Self::Owner => ("an owner", "write user or user:group, like root:root"),
            Self::Mac => (
                "a hardware address",
                "six pairs of hexadecimal digits: \"1c:69:7a:00:00:11\"",
            ),
            Self::Ref(_) => ("a name", "write the name of one that is declared"),
            Self::Count => ("a count", "write a whole number from 1, or 1% to 100%"),
            Self::Batch => (
                "a count or a list of counts",
                "write it like 5, 25% or [1, 5, 20%]",
            ),
        }
    }
}

fn misfit(code: &'static str, message: impl Into<String>, help: impl Into<String>) -> Misfit {
    Misfit {
        code,
        message: message.into(),
        help: help.into(),
    }
}

fn is_percent(text: &str) -> bool {
    let number = text
        .strip_suffix('%')
        .filter(|n| n.bytes().all(|b| b.is_ascii_digit()));
    number
        .and_then(|n| n.parse::<u32>().ok())
        .is_some_and(|n| (1..=100).contains(&n))
}

fn is_duration(text: &str) -> bool {
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 || digits > 9 {
            return false;
        }
        match rest[digits..].strip_prefix(['s', 'm', 'h', 'd', 'w']) {
            Some(more) => rest = more,
            None => return false,
        }
    }
    !text.is_empty()
}

fn is_size(text: &str) -> bool {
    let number = ["MiB", "GiB", "TiB"]
        .iter()
        .find_map(|unit| text.strip_suffix(unit));
    number.is_some_and(|n| (1..=9).contains(&n.len()) && n.bytes().all(|b| b.is_ascii_digit()))
}

fn is_mac(text: &str) -> bool {
    let pairs: Vec<_> = text.split(':').collect();
    pairs.len() == 6
        && pairs
            .iter()
            .all(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()))
}
