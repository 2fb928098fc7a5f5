//! The tree of a query and its normal form.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use std::str::FromStr;

use lab_crdt_model::{Span, SpanError};
use regex::Regex;

use crate::glob::{Glob, is_glob};
use crate::token::ends_word;

/// A parsed query.
///
/// `Display` prints the normal form, which parses back to the same meaning. Two expressions are
/// equal when their normal forms are.
#[derive(Clone, Debug)]
pub struct Expr {
    pub(crate) root: Node,
}

impl Expr {
    /// The normal form with parentheses round every `and` inside an `or` and every `or` inside an
    /// `except`, if the query mixes them; what the echo `reads as: …` shows.
    pub fn reads_as(&self) -> Option<String> {
        let loud = Loud(&self.root).to_string();
        (loud != self.to_string()).then_some(loud)
    }

    /// The keys that conditions and `has` ask for, as written; not those of the groups it names.
    pub fn keys(&self) -> BTreeSet<&str> {
        let mut keys = BTreeSet::new();
        self.root.visit(&mut |node| {
            if let Node::Has(key) | Node::Condition(key, _) = node {
                keys.insert(key.text.as_str());
            }
        });
        keys
    }

    /// The groups it names, as written (perhaps with globs) and without `@`.
    pub fn groups(&self) -> BTreeSet<&str> {
        let mut groups = BTreeSet::new();
        self.root.visit(&mut |node| {
            if let Node::Names(names) = node {
                groups.extend(
                    names
                        .iter()
                        .filter(|n| n.is_group)
                        .map(|n| n.term.text.as_str()),
                );
            }
        });
        groups
    }
}

impl PartialEq for Expr {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

impl Eq for Expr {}

impl FromStr for Expr {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, SpanError> {
        crate::parse(text)
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.root.print(f, 0, false)
    }
}

/// One node of the tree. Chains are flat lists, so the depth of the tree is the nesting of the
/// text.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    All,
    Nothing,
    And(Vec<Self>),
    Or(Vec<Self>),
    /// The first without all the others.
    Except(Vec<Self>),
    Not(Box<Self>),
    Has(Key),
    Condition(Key, Test),
    Names(Vec<Name>),
    On(Box<Self>, Span),
    Uses(Term, Span),
    First(Count, Box<Self>),
    Sample(Count, Box<Self>),
}

#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) text: String,
    pub(crate) span: Span,
}

#[derive(Clone, Debug)]
pub(crate) enum Test {
    Equal(Term),
    In(Vec<Term>),
    Match(Pattern),
    Order(Order, Term),
}

/// A text to compare with: literal, or a glob.
#[derive(Clone, Debug)]
pub(crate) struct Term {
    pub(crate) text: String,
    pub(crate) glob: Option<Glob>,
    pub(crate) span: Span,
}

impl Term {
    pub(crate) fn matches(&self, text: &str) -> bool {
        self.glob
            .as_ref()
            .map_or(text == self.text, |glob| glob.matches(text))
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    /// As it stands between slashes.
    pub(crate) text: String,
    pub(crate) ignores_case: bool,
    pub(crate) regex: Regex,
}

#[derive(Clone, Debug)]
pub(crate) struct Name {
    pub(crate) is_group: bool,
    pub(crate) term: Term,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Order {
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
}

impl Order {
    pub(crate) const fn sign(self) -> &'static str {
        match self {
            Self::Less => "<",
            Self::LessEqual => "<=",
            Self::Greater => ">",
            Self::GreaterEqual => ">=",
        }
    }

    pub(crate) fn holds(self, ordering: std::cmp::Ordering) -> bool {
        match self {
            Self::Less => ordering.is_lt(),
            Self::LessEqual => ordering.is_le(),
            Self::Greater => ordering.is_gt(),
            Self::GreaterEqual => ordering.is_ge(),
        }
    }
}

/// How many: a number or a share.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Count {
    pub(crate) amount: u32,
    pub(crate) is_percent: bool,
}

impl Count {
    /// How many of `len`; a share rounds up.
    pub(crate) fn of(self, len: usize) -> usize {
        let amount = u64::from(self.amount);
        let count = if self.is_percent {
            (len as u64 * amount).div_ceil(100)
        } else {
            amount
        };
        usize::try_from(count).unwrap_or(usize::MAX).min(len)
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}{}",
            self.amount,
            if self.is_percent { "%" } else { "" }
        )
    }
}

/// Whether `text` is a word of the language; matched without case.
pub(crate) fn is_keyword(text: &str) -> bool {
    const KEYWORDS: [&str; 12] = [
        "and", "or", "not", "except", "in", "has", "all", "none", "lt", "le", "gt", "ge",
    ];
    KEYWORDS.iter().any(|k| text.eq_ignore_ascii_case(k))
}

/// Whether `key=text` looks as if the shell had replaced the `~` of `key=~/…/` by a home directory.
pub(crate) fn is_expanded_tilde(key: &str, text: &str) -> bool {
    if matches!(key, "name" | "node.name") {
        return text.starts_with('/');
    }
    ["/root/", "/home/", "/Users/"]
        .iter()
        .any(|home| text.starts_with(home))
        && (text.ends_with('/') || text.ends_with("/i"))
}

/// Prints with parentheses wherever two different connectives meet.
struct Loud<'a>(&'a Node);

impl fmt::Display for Loud<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.print(f, 0, true)
    }
}

impl Node {
    /// Calls `see` for this node and every node below it.
    pub(crate) fn visit<'a>(&'a self, see: &mut impl FnMut(&'a Self)) {
        see(self);
        match self {
            Self::And(items) | Self::Or(items) | Self::Except(items) => {
                items.iter().for_each(|item| item.visit(see));
            }
            Self::Not(inner)
            | Self::On(inner, _)
            | Self::First(_, inner)
            | Self::Sample(_, inner) => {
                inner.visit(see);
            }
            Self::All
            | Self::Nothing
            | Self::Has(_)
            | Self::Condition(..)
            | Self::Names(_)
            | Self::Uses(..) => {}
        }
    }

    fn print(&self, f: &mut fmt::Formatter<'_>, context: u8, is_loud: bool) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Nothing => f.write_str("none"),
            Self::Except(items) => chain(f, items, " except ", 0, context, is_loud),
            Self::Or(items) => chain(f, items, " or ", 1, context, is_loud),
            Self::And(items) => chain(f, items, " and ", 2, context, is_loud),
            Self::Not(inner) => match &**inner {
                Self::Condition(key, Test::Equal(term)) => {
                    write!(f, "{}!=", key.text)?;
                    term.print(f, Some(&key.text))
                }
                Self::Condition(key, Test::In(terms)) => {
                    write!(f, "{} not in (", key.text)?;
                    list(f, terms)
                }
                Self::Condition(key, Test::Match(pattern)) => write!(f, "{}!~{pattern}", key.text),
                other => {
                    f.write_str("not ")?;
                    other.print(f, 3, is_loud)
                }
            },
            Self::Has(key) => write!(f, "has {}", key.text),
            Self::Condition(key, Test::Equal(term)) => {
                write!(f, "{}=", key.text)?;
                term.print(f, Some(&key.text))
            }
            Self::Condition(key, Test::In(terms)) => {
                write!(f, "{} in (", key.text)?;
                list(f, terms)
            }
            Self::Condition(key, Test::Match(pattern)) => write!(f, "{}=~{pattern}", key.text),
            Self::Condition(key, Test::Order(order, term)) => {
                write!(f, "{} {} ", key.text, order.sign())?;
                term.print(f, None)
            }
            Self::Names(names) => {
                for (i, name) in names.iter().enumerate() {
                    f.write_str(if i == 0 { "" } else { "," })?;
                    name.print(f)?;
                }
                Ok(())
            }
            Self::On(inner, _) => call(f, "on(", inner, is_loud),
            Self::Uses(term, _) => write!(f, "uses({})", term.text),
            Self::First(count, inner) => call(f, &format!("first({count}, "), inner, is_loud),
            Self::Sample(count, inner) => call(f, &format!("sample({count}, "), inner, is_loud),
        }
    }
}

fn call(f: &mut fmt::Formatter<'_>, open: &str, inner: &Node, is_loud: bool) -> fmt::Result {
    f.write_str(open)?;
    inner.print(f, 0, is_loud)?;
    f.write_char(')')
}

fn chain(
    f: &mut fmt::Formatter<'_>,
    items: &[Node],
    word: &str,
    level: u8,
    context: u8,
    is_loud: bool,
) -> fmt::Result {
    let is_closed = level < context;
    f.write_str(if is_closed { "(" } else { "" })?;
    for (i, item) in items.iter().enumerate() {
        f.write_str(if i == 0 { "" } else { word })?;
        let inner = if is_loud { 3 } else { level + u8::from(i > 0) };
        item.print(f, inner, is_loud)?;
    }
    f.write_str(if is_closed { ")" } else { "" })
}

fn list(f: &mut fmt::Formatter<'_>, terms: &[Term]) -> fmt::Result {
    for (i, term) in terms.iter().enumerate() {
        f.write_str(if i == 0 { "" } else { ", " })?;
        term.print(f, None)?;
    }
    f.write_char(')')
}

impl Term {
    /// Prints it so that it reads as what it is; `key` is what it follows with `=`.
    fn print(&self, f: &mut fmt::Formatter<'_>, key: Option<&str>) -> fmt::Result {
        let text = self.text.as_str();
        let must_quote = self.glob.is_none()
            && (text.is_empty()
                || text.contains(ends_word)
                || is_glob(text)
                || is_keyword(text)
                || key.is_some_and(|key| is_expanded_tilde(key, text)));
        if must_quote {
            quoted(f, text)
        } else {
            f.write_str(text)
        }
    }
}

impl Name {
    pub(crate) fn print(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_group {
            write!(f, "@{}", self.term.text)
        } else if self.term.glob.is_none() && self.term.text.starts_with('@') {
            quoted(f, &self.term.text)
        } else {
            self.term.print(f, None)
        }
    }
}

fn quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_char('"')?;
    for c in text.chars() {
        if matches!(c, '\\' | '"') {
            f.write_char('\\')?;
        }
        f.write_char(c)?;
    }
    f.write_char('"')
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "/{}/{}",
            self.text,
            if self.ignores_case { "i" } else { "" }
        )
    }
}
