//! Values of intent: the JSON data model, with bounds, in a form that encodes the same everywhere.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::limit::{VALUE_BYTES_MAX, VALUE_DEPTH_MAX};
use crate::path::Path;

/// A value. Maps are ordered by key, so equal values have equal bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Value {
    /// Nothing.
    Null,
    /// Yes or no.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number with a fraction, kept as the text it was written in (`0.5`).
    Decimal(String),
    /// Text.
    Text(String),
    /// A list, in order.
    List(Vec<Self>),
    /// Keys and values.
    Map(BTreeMap<String, Self>),
}

impl Value {
    /// A text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// The text, if this is one.
    pub fn as_text(&self) -> Option<&str> {
        if let Self::Text(text) = self {
            Some(text)
        } else {
            None
        }
    }

    /// Yes or no, if this is one.
    pub fn as_bool(&self) -> Option<bool> {
        if let Self::Bool(yes) = self {
            Some(*yes)
        } else {
            None
        }
    }

    /// The number, if this is a whole one.
    pub fn as_int(&self) -> Option<i64> {
        if let Self::Int(n) = self {
            Some(*n)
        } else {
            None
        }
    }

    /// The list, if this is one.
    pub fn as_list(&self) -> Option<&[Self]> {
        if let Self::List(items) = self {
            Some(items)
        } else {
            None
        }
    }

    /// The map, if this is one.
    pub fn as_map(&self) -> Option<&BTreeMap<String, Self>> {
        if let Self::Map(map) = self {
            Some(map)
        } else {
            None
        }
    }

    /// Whether size and nesting are within the limits (32 KiB as JSON, 8 levels).
    pub fn is_within_limits(&self) -> bool {
        self.depth_within(VALUE_DEPTH_MAX) && self.to_string().len() <= VALUE_BYTES_MAX
    }

    fn depth_within(&self, left: usize) -> bool {
        match self {
            Self::List(items) => left > 0 && items.iter().all(|v| v.depth_within(left - 1)),
            Self::Map(map) => left > 0 && map.values().all(|v| v.depth_within(left - 1)),
            Self::Decimal(text) => is_decimal(text),
            Self::Null | Self::Bool(_) | Self::Int(_) | Self::Text(_) => true,
        }
    }
}

/// Whether `text` is a JSON number.
pub fn is_decimal(text: &str) -> bool {
    let digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    let body = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = body
        .split_once(['e', 'E'])
        .map_or((body, None), |(m, e)| (m, Some(e)));
    let (whole, fraction) = mantissa
        .split_once('.')
        .map_or((mantissa, None), |(w, f)| (w, Some(f)));
    digits(whole)
        && (whole.len() == 1 || !whole.starts_with('0'))
        && fraction.is_none_or(digits)
        && exponent.is_none_or(|e| digits(e.strip_prefix(['+', '-']).unwrap_or(e)))
}

impl fmt::Display for Value {
    /// Compact JSON.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(yes) => write!(f, "{yes}"),
            Self::Int(n) => write!(f, "{n}"),
            Self::Decimal(text) => f.write_str(text),
            Self::Text(text) => write_json_text(f, text),
            Self::List(items) => {
                f.write_str("[")?;
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        f.write_str(",")?;
                    }
                    item.fmt(f)?;
                }
                f.write_str("]")
            }
            Self::Map(map) => {
                f.write_str("{")?;
                for (i, (key, value)) in map.iter().enumerate() {
                    if i > 0 {
                        f.write_str(",")?;
                    }
                    write_json_text(f, key)?;
                    f.write_str(":")?;
                    value.fmt(f)?;
                }
                f.write_str("}")
            }
        }
    }
}

fn write_json_text(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str("\"")?;
    for c in text.chars() {
        match c {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            c if c < ' ' => write!(f, "\\u{:04x}", u32::from(c))?,
            c => write!(f, "{c}")?,
        }
    }
    f.write_str("\"")
}

/// What stands at a path: a value, who owns it, and where it was written.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Field {
    /// The value.
    pub value: Value,
    /// Who owns the field: `set:NAME`, `person:NAME`, `token:ID`. Sorted, usually one; several co-own it.
    pub owners: Vec<String>,
    /// Where it was written, for example `lab.yaml:67:75`; for explanations only.
    pub source: Option<String>,
}

impl Field {
    /// A field of one owner with no source.
    pub fn new(value: Value, owner: impl Into<String>) -> Self {
        Self {
            value,
            owners: vec![owner.into()],
            source: None,
        }
    }
}

/// One edit of intent.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Op {
    /// Puts a field at a path; supersedes what the author could see there.
    Set {
        /// Where.
        path: Path,
        /// What.
        field: Field,
    },
    /// Removes what the author could see at a path.
    Unset {
        /// Where.
        path: Path,
    },
}

impl Op {
    /// Where this edit acts.
    pub const fn path(&self) -> &Path {
        match self {
            Self::Set { path, .. } | Self::Unset { path } => path,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_print_as_json() {
        let map = BTreeMap::from([
            (
                "b".to_owned(),
                Value::List(vec![Value::Int(-1), Value::Null, Value::Bool(true)]),
            ),
            ("a\"\n".to_owned(), Value::text("x\\\u{1}")),
        ]);
        assert_eq!(
            Value::Map(map).to_string(),
            r#"{"a\"\n":"x\\\u0001","b":[-1,null,true]}"#
        );
    }

    #[test]
    fn deep_and_long_values_are_out_of_bounds() {
        let nest = |n| (0..n).fold(Value::Null, |v, _| Value::List(vec![v]));
        assert!(nest(8).is_within_limits());
        assert!(!nest(9).is_within_limits());
        assert!(!Value::text("x".repeat(VALUE_BYTES_MAX)).is_within_limits());
        assert!(!Value::Decimal("1e".into()).is_within_limits());
        assert!(Value::Decimal("-0.5e+3".into()).is_within_limits());
    }
}
