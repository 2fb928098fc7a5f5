//! Declarations: strict YAML (or JSON) → fields of intent, each with its place.
//!
//! The dialect is YAML 1.2 less everything that has two readings: no anchors, aliases, merge keys or tags, one
//! document, no key twice, no unknown key, no unquoted `on off yes no y n`, octal-looking numbers, dates and times.
//! Keys that start with `x-` are ignored where keys are ours. JSON, as programs generate it, is part of it.
//!
//! | code | means |
//! |---|---|
//! | D001 | not YAML |
//! | D002 | too large, too deep, too many mistakes |
//! | D003 | unknown key |
//! | D004 | written twice |
//! | D005 | wrong type |
//! | D006 | something is missing |
//! | D007 | reserved word |
//! | D008 | has to be quoted |
//! | D009 | not part of the dialect |
//! | D010 | format version |
//! | D011 | set name |
//! | D012 | name |
//! | D013 | label |
//! | D014 | label against the vocabulary |
//! | D015 | vocabulary entry |
//! | D016 | declared twice with different values |
//! | D017 | refers to something that is not declared |
//! | D018 | circle |
//! | D019 | form of a value: size, duration, mode, path, … |
//! | D020 | value or path too long |
//! | D021 | two labels of a tier disagree (a state) |
//! | D022 | two values of a one-of label (a state) |
//! | D023 | written at the same time (a state) |
//! | D024 | placeholder |
//! | D025 | file without content |
//! | D026 | field not understood (a state) |
//!
//! Mistakes in embedded queries keep their `Q` codes and point into the file.

mod attachment;
mod check;
mod form;
mod head;
mod reader;
mod section;

use std::collections::BTreeMap;

use lab_crdt_model::{Field, Path, Severity, Span, SpanError};
use lab_crdt_selector::Expr;

/// A text to read, with the name it is called by in messages and sources, for example `lab.yaml`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Source<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its text, at most 4 MiB.
    pub text: &'a str,
}

/// A mistake in a source.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diagnostic {
    /// Errors make the declarations unusable, warnings do not.
    pub severity: Severity,
    /// The name of the source.
    pub source: String,
    /// What and where; the span is in the text of the source.
    pub error: SpanError,
}

/// A query that stands in a declaration.
#[derive(Clone, PartialEq, Debug)]
pub struct Query {
    /// The field it is the value of.
    pub path: Path,
    /// The query.
    pub expr: Expr,
    /// Whether it decides about access, so that nothing a machine reports itself may count.
    pub is_trusted: bool,
    source: String,
    /// The whole value, and where its text begins if it stands in the file as it is.
    span: Span,
    offset: Option<usize>,
}

impl Query {
    /// A mistake in the query as a mistake in the file.
    pub fn locate(&self, severity: Severity, error: SpanError) -> Diagnostic {
        let span = match self.offset {
            Some(offset) => {
                let clamp = |at: usize| (offset + at).clamp(self.span.start, self.span.end);
                Span::new(clamp(error.span.start), clamp(error.span.end))
            }
            None => self.span,
        };
        Diagnostic {
            severity,
            source: self.source.clone(),
            error: SpanError { span, ..error },
        }
    }
}

/// What a set declares.
#[derive(Clone, PartialEq, Debug)]
pub struct Declarations {
    set: String,
    fields: BTreeMap<Path, Field>,
    queries: Vec<Query>,
    is_usable: bool,
}

impl Declarations {
    /// A set that declares nothing: applying it removes everything it owned.
    pub fn empty(set: &str) -> Self {
        Self {
            set: set.to_owned(),
            fields: BTreeMap::new(),
            queries: Vec::new(),
            is_usable: true,
        }
    }

    /// The name of the set; empty if it could not be read.
    pub fn set(&self) -> &str {
        &self.set
    }

    /// The fields, owned by `set:NAME`, with sources such as `lab.yaml:67:75`.
    pub const fn fields(&self) -> &BTreeMap<Path, Field> {
        &self.fields
    }

    /// The queries among the values, for checking them against a fleet.
    pub fn queries(&self) -> &[Query] {
        &self.queries
    }

    /// Whether there was no error; only then may they be applied, since what could not be read would be pruned.
    pub const fn is_usable(&self) -> bool {
        self.is_usable
    }
}

/// Reads the sources of one set.
///
/// Reads on after a mistake, so that all of them are shown; at most 200 per source. The diagnostics are ordered by
/// source, then place.
pub fn parse(sources: &[Source<'_>]) -> (Declarations, Vec<Diagnostic>) {
    reader::read(sources)
}

#[cfg(test)]
mod tests;
