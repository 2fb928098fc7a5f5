//! Texts with placeholders, filled in for one node.
//!
//! `{node.name}` and `{node.ATTR}`, `{fact.NAME}`, `{params.KEY}`, `{vars.NAME}` and `{KEY.NAME}` (the variable that
//! a label with this key, or `all`, gave: `{site.zone}`). `{{` is a `{`. A `{` that is not followed by a name is
//! itself, so most configuration languages pass through. A `}` is always itself.

use lab_crdt_model::limit::VALUE_BYTES_MAX;
use lab_crdt_model::{Span, SpanError, Value};

use crate::effective::{Effective, NodeFacts, Resolved};

/// Why a text could not be filled in. The text is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// The author's fault: nothing is called so.
    #[error("fill in `{{{0}}}`: nothing is called so")]
    Unknown(String),
    /// Nobody's fault: the value is known for other nodes, not for this one.
    #[error("fill in `{{{0}}}`: this node has no such value")]
    Missing(String),
    /// Two labels disagree about the value.
    #[error("fill in `{{{0}}}`: labels disagree about it")]
    Conflict(String),
    /// The value is a list or a map.
    #[error("fill in `{{{0}}}`: it is not a single value")]
    NotText(String),
    /// The values make the text longer than a value may be.
    #[error("fill in `{{{0}}}`: the text gets longer than 32 KiB")]
    TooLong(String),
}

/// A placeholder in a text: its name and where it stands, braces included.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Placeholder<'a> {
    /// What stands between the braces.
    pub name: &'a str,
    /// Where, in bytes of the text.
    pub span: Span,
}

enum Piece<'a> {
    Text(&'a str),
    Placeholder(Placeholder<'a>),
}

fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut out = Vec::new();
    let (mut plain, mut at) = (0, 0);
    while let Some(found) = text[at..].find('{') {
        let open = at + found;
        let rest = &text[open + 1..];
        if rest.starts_with('{') {
            out.push(Piece::Text(&text[plain..=open]));
            (plain, at) = (open + 2, open + 2);
            continue;
        }
        match rest
            .find(|c: char| !is_part(c))
            .filter(|end| rest[*end..].starts_with('}'))
        {
            Some(end) if rest.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') => {
                out.push(Piece::Text(&text[plain..open]));
                let span = Span::new(open, open + end + 2);
                out.push(Piece::Placeholder(Placeholder {
                    name: &rest[..end],
                    span,
                }));
                (plain, at) = (span.end, span.end);
            }
            _ => at = open + 1,
        }
    }
    out.push(Piece::Text(&text[plain..]));
    out
}

const fn is_part(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | ':' | '/')
}

/// The placeholders of a text, in order.
pub fn placeholders(text: &str) -> Vec<Placeholder<'_>> {
    let pieces = pieces(text).into_iter();
    pieces
        .filter_map(|piece| match piece {
            Piece::Placeholder(placeholder) => Some(placeholder),
            Piece::Text(_) => None,
        })
        .collect()
}

/// Fills in a text for a node.
///
/// # Errors
/// The first placeholder that cannot be filled in; nothing is guessed.
pub fn expand(
    text: &str,
    effective: &Effective,
    node: &NodeFacts<'_>,
) -> Result<String, TemplateError> {
    let mut out = String::with_capacity(text.len());
    for piece in pieces(text) {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Placeholder(placeholder) => {
                out.push_str(&lookup(placeholder.name, effective, node)?);
                if out.len() > VALUE_BYTES_MAX {
                    return Err(TemplateError::TooLong(placeholder.name.to_owned()));
                }
            }
        }
    }
    Ok(out)
}

/// Fills in a text that has a brace syntax of its own, such as a query of a monitoring system: only placeholders
/// with a dot count, `{{` stays as it is, and what cannot be filled in is an error all the same.
///
/// # Errors
/// The first placeholder that cannot be filled in.
pub fn expand_foreign(
    text: &str,
    effective: &Effective,
    node: &NodeFacts<'_>,
) -> Result<String, TemplateError> {
    let (mut out, mut at) = (String::with_capacity(text.len()), 0);
    for placeholder in placeholders(text) {
        if !placeholder.name.contains('.') {
            continue;
        }
        out.push_str(&text[at..placeholder.span.start]);
        out.push_str(&lookup(placeholder.name, effective, node)?);
        if out.len() > VALUE_BYTES_MAX {
            return Err(TemplateError::TooLong(placeholder.name.to_owned()));
        }
        at = placeholder.span.end;
    }
    out.push_str(&text[at..]);
    Ok(out)
}

fn lookup(
    name: &str,
    effective: &Effective,
    node: &NodeFacts<'_>,
) -> Result<String, TemplateError> {
    if name == "node.name" {
        return Ok(node.name.to_owned());
    }
    let missing = || TemplateError::Missing(name.to_owned());
    let (space, rest) = name
        .split_once('.')
        .ok_or_else(|| TemplateError::Unknown(name.to_owned()))?;
    let resolved = match space {
        "node" | "fact" => {
            let value = node.attrs.get(name).and_then(|values| values.first());
            return value.cloned().ok_or_else(missing);
        }
        "params" => effective.params.get(rest),
        "vars" => effective.vars.get(rest),
        _ => effective.scoped_vars.get(name),
    };
    print(name, resolved.ok_or_else(missing)?)
}

fn print(name: &str, resolved: &Resolved) -> Result<String, TemplateError> {
    match &resolved.value {
        None => Err(TemplateError::Conflict(name.to_owned())),
        Some(Value::Text(text)) => Ok(text.clone()),
        Some(value @ (Value::Bool(_) | Value::Int(_) | Value::Decimal(_))) => Ok(value.to_string()),
        Some(Value::Null | Value::List(_) | Value::Map(_)) => {
            Err(TemplateError::NotText(name.to_owned()))
        }
    }
}

/// Checks the placeholders of a text while it is declared: spaces that cannot exist are mistakes.
///
/// # Errors
/// The first placeholder without a dot; its span is within `text`.
pub fn check(text: &str) -> Result<(), SpanError> {
    for Placeholder { name, span } in placeholders(text) {
        let help = match name.split_once('.') {
            None => {
                format!("write {{vars.{name}}} for a variable, or {{{{{name}}} for the text itself")
            }
            Some((_, "")) => "a name is missing after the dot".to_owned(),
            Some(_) => continue,
        };
        let message = format!("nothing is called `{{{name}}}`");
        return Err(SpanError::new("D024", message, span, "unknown placeholder").with_help(help));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(text: &str) -> Result<String, TemplateError> {
        let mut effective = Effective::default();
        let resolved = |value| Resolved {
            value: Some(value),
            ..Resolved::default()
        };
        effective
            .params
            .insert("ntp::port".to_owned(), resolved(Value::Int(123)));
        effective
            .params
            .insert("list".to_owned(), resolved(Value::List(Vec::new())));
        effective
            .params
            .insert("torn".to_owned(), Resolved::default());
        effective
            .vars
            .insert("zone".to_owned(), resolved(Value::text("z")));
        effective
            .scoped_vars
            .insert("site.zone".to_owned(), resolved(Value::text("home")));
        let mut node = NodeFacts::new("nuc1", &[]);
        node.attrs
            .insert("node.ip".to_owned(), vec!["10.0.0.1".to_owned()]);
        expand(text, &effective, &node)
    }

    #[test]
    fn placeholders_are_filled_in() {
        for (text, want) in [
            ("", ""),
            ("plain }} {", "plain }} {"),
            ("{node.name}", "nuc1"),
            ("a{site.zone}b{vars.zone}c", "ahomebzc"),
            ("{params.ntp::port}/{node.ip}", "123/10.0.0.1"),
            ("{{node.name}", "{node.name}"),
            ("server { listen 80; }", "server { listen 80; }"),
            ("{\"a\": {}}", "{\"a\": {}}"),
            ("{1..3} {ä} { x }", "{1..3} {ä} { x }"),
            ("{{{node.name}}", "{nuc1}"),
        ] {
            assert_eq!(fill(text).as_deref(), Ok(want), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_filled_in_is_an_error() {
        for (text, want) in [
            ("{hostname}", "nothing is called so"),
            ("{node.serial}", "no such value"),
            ("{role.x}", "no such value"),
            ("{params.list}", "not a single value"),
            ("{params.torn}", "disagree"),
        ] {
            assert!(fill(text).unwrap_err().to_string().contains(want), "{text}");
        }
    }

    #[test]
    fn foreign_braces_stay() {
        let node = NodeFacts::new("nuc1", &[]);
        let text = "up{instance=\"{node.name}\",x=~\"{{ $v }}\"} {job}";
        let want = "up{instance=\"nuc1\",x=~\"{{ $v }}\"} {job}";
        assert_eq!(
            expand_foreign(text, &Effective::default(), &node).as_deref(),
            Ok(want)
        );
    }
}
