//! The state of reading, single values and shapes.

use std::collections::{BTreeMap, BTreeSet};

use lab_crdt_model::label::is_name;
use lab_crdt_model::span::nearest;
use lab_crdt_model::{Field, Path, PathError, Severity, Span, SpanError, Value};

use super::form::Form;
use super::{Declarations, Diagnostic, Query, Source};
use crate::intent::Term;
use crate::template;
use crate::tree::{self, DIAGNOSTICS_MAX, Key, Kind, Node, Place};

pub(super) const NAME_HELP: &str = "lower-case letters, digits, `-`, `_` and `.`, starting with a letter or digit, at most 63 bytes";
pub(super) const LABEL_HELP: &str = "write key or key=value: a letter or `_`, then letters, digits, `_ . / -`; values also `:`; at most 63 bytes each";

/// Something that has to be declared somewhere.
pub(super) struct Reference {
    pub(super) kind: &'static str,
    pub(super) name: String,
    pub(super) source: usize,
    pub(super) span: Span,
}

pub(super) struct Reader<'a> {
    pub(super) sources: &'a [Source<'a>],
    /// The source that is read.
    pub(super) at: usize,
    pub(super) set: Option<String>,
    pub(super) vocabulary: Vec<Term>,
    pub(super) fields: BTreeMap<Path, Field>,
    pub(super) queries: Vec<Query>,
    pub(super) references: Vec<Reference>,
    /// By source.
    pub(super) diagnostics: Vec<Vec<Diagnostic>>,
}

pub(super) fn read(sources: &[Source<'_>]) -> (Declarations, Vec<Diagnostic>) {
    let mut reader = Reader {
        sources,
        at: 0,
        set: None,
        vocabulary: Vec::new(),
        fields: BTreeMap::new(),
        queries: Vec::new(),
        references: Vec::new(),
        diagnostics: vec![Vec::new(); sources.len()],
    };
    let mut roots = Vec::new();
    for (at, source) in sources.iter().enumerate() {
        let mut errors = Vec::new();
        roots.push(tree::read(source.text, &mut errors));
        reader.at = at;
        for error in errors {
            reader.push(Severity::Error, error);
        }
    }
    for (at, root) in roots.iter().enumerate() {
        reader.at = at;
        reader.header(root.as_ref());
    }
    for (at, root) in roots.iter().enumerate() {
        reader.at = at;
        if let Some(Node {
            kind: Kind::Map(entries),
            ..
        }) = root
        {
            reader.body(entries);
        }
    }
    reader.check_queries();
    reader.check_references();
    reader.check_extends();
    reader.finish()
}
impl Reader<'_> {
    pub(super) fn finish(self) -> (Declarations, Vec<Diagnostic>) {
        let mut diagnostics = self.diagnostics;
        for of_source in &mut diagnostics {
            of_source.sort_by_key(|d| (d.error.span, d.error.code));
        }
        let diagnostics: Vec<_> = diagnostics.into_iter().flatten().collect();
        let has_error = diagnostics.iter().any(|d| d.severity == Severity::Error);
        let is_usable = !has_error && self.set.is_some();
        let set = self.set.unwrap_or_default();
        (
            Declarations {
                set,
                fields: self.fields,
                queries: self.queries,
                is_usable,
            },
            diagnostics,
        )
    }

    pub(super) fn push(&mut self, severity: Severity, error: SpanError) {
        self.push_at(self.at, severity, error);
    }

    pub(super) fn push_at(&mut self, at: usize, severity: Severity, error: SpanError) {
        let (Some(list), Some(source)) = (self.diagnostics.get_mut(at), self.sources.get(at))
        else {
            return;
        };
        if list.len() < DIAGNOSTICS_MAX {
            list.push(Diagnostic {
                severity,
                source: source.name.to_owned(),
                error,
            });
        }
    }

    pub(super) fn error(
        &mut self,
        code: &'static str,
        place: Place,
        message: String,
        label: &str,
        help: &str,
    ) {
        self.push(
            Severity::Error,
            SpanError::new(code, message, place.span, label).with_help(help),
        );
    }
    pub(super) fn field(&mut self, segments: &[&str], node: &Node, form: Form) {
        if let Err(misfit) = form.check(node) {
            self.error(
                misfit.code,
                node.place,
                misfit.message,
                "here",
                &misfit.help,
            );
            return;
        }
        let Some(value) = node.value() else { return };
        if !value.is_within_limits() {
            let message = "the value is longer than 32 KiB or deeper than 8 levels".to_owned();
            self.error(
                "D020",
                node.place,
                message,
                "too much",
                "split it, or put it into a file of its own",
            );
            return;
        }
        match (form, value.as_text()) {
            (Form::Query(is_trusted), Some(text))
                if !self.query(segments, node, text, is_trusted) =>
            {
                return;
            }
            (Form::Template, Some(text)) => {
                if let Err(mut error) = template::check(text) {
                    error.span = node.within(self.sources[self.at].text, error.span);
                    self.push(Severity::Error, error);
                    return;
                }
            }
            (Form::Ref(kind), Some(text)) => self.refer(kind, text, node.place),
            _ => {}
        }
        self.put(segments, value, node.place);
    }

    pub(super) fn query(
        &mut self,
        segments: &[&str],
        node: &Node,
        text: &str,
        is_trusted: bool,
    ) -> bool {
        match lab_crdt_selector::parse(text) {
            Ok(expr) => {
                let Ok(path) = Path::new(segments) else {
                    return true;
                };
                let source = &self.sources[self.at];
                let start = node.within(source.text, Span::new(0, 0));
                let offset = (start.start == start.end || text.is_empty()).then_some(start.start);
                let (source, span) = (source.name.to_owned(), node.place.span);
                self.queries.push(Query {
                    path,
                    expr,
                    is_trusted,
                    source,
                    span,
                    offset,
                });
                true
            }
            Err(mut error) => {
                error.span = node.within(self.sources[self.at].text, error.span);
                self.push(Severity::Error, error);
                false
            }
        }
    }

    pub(super) fn put(&mut self, segments: &[&str], value: Value, place: Place) {
        let source = &self.sources[self.at];
        let owner = format!("set:{}", self.set.as_deref().unwrap_or_default());
        let origin = format!("{}:{}:{}", source.name, place.line, place.column);
        let path = match Path::new(segments) {
            Ok(path) => path,
            Err(PathError::TooLong(bytes)) => {
                let message = format!("the name of this field has {bytes} bytes, more than 256");
                self.error("D020", place, message, "too long", "choose shorter names");
                return;
            }
            Err(PathError::Malformed(_)) => {
                let message = "an empty name, or one with control characters".to_owned();
                self.error(
                    "D012",
                    place,
                    message,
                    "not a name",
                    "give it a name that can be typed",
                );
                return;
            }
        };
        if let Some(first) = self.fields.get(&path) {
            if first.value != value {
                let before = first.source.clone().unwrap_or_default();
                let message = format!("`{path}` is declared twice with different values");
                let help = format!("the first one is at {before}; keep one of them");
                self.error("D016", place, message, "the second one", &help);
            }
            return;
        }
        let mut field = Field::new(value, owner);
        field.source = Some(origin);
        self.fields.insert(path, field);
    }

    pub(super) fn refer(&mut self, kind: &'static str, name: &str, place: Place) {
        let (name, source, span) = (name.to_owned(), self.at, place.span);
        self.references.push(Reference {
            kind,
            name,
            source,
            span,
        });
    }

    /// Finds `${secret.NAME}` in a value; any other `${` is a mistake.
    pub(super) fn check_secrets(&mut self, node: &Node) {
        match &node.kind {
            Kind::List(items) => items.iter().for_each(|item| self.check_secrets(item)),
            Kind::Map(entries) => entries
                .iter()
                .for_each(|(_, node)| self.check_secrets(node)),
            Kind::Scalar {
                value: Value::Text(text),
                ..
            } => {
                let mut rest = text.as_str();
                while let Some(at) = rest.find("${") {
                    rest = &rest[at + 2..];
                    let name = rest
                        .strip_prefix("secret.")
                        .and_then(|rest| rest.split_once('}'))
                        .map(|(name, _)| name)
                        .filter(|name| is_name(name));
                    match name {
                        Some(name) => self.refer("secret", name, node.place),
                        None => {
                            let message = "only secrets can be put in with `${…}`".to_owned();
                            let help = "write ${secret.NAME}";
                            self.error("D024", node.place, message, "not a secret", help);
                        }
                    }
                }
            }
            Kind::Scalar { .. } | Kind::Bad => {}
        }
    }
    /// The entries of a map; nothing at all counts as an empty one.
    pub(super) fn map<'n>(&mut self, node: &'n Node) -> Option<&'n [(Key, Node)]> {
        match &node.kind {
            Kind::Map(entries) => Some(entries),
            Kind::Scalar {
                value: Value::Null, ..
            } => Some(&[]),
            Kind::Bad => None,
            Kind::List(_) | Kind::Scalar { .. } => {
                let message = format!("expected a map, found {}", node.kind_name());
                self.error(
                    "D005",
                    node.place,
                    message,
                    "not a map",
                    "write keys and values: { key: value }",
                );
                None
            }
        }
    }

    pub(super) fn list<'n>(&mut self, node: &'n Node) -> Option<&'n [Node]> {
        match &node.kind {
            Kind::List(items) => Some(items),
            Kind::Scalar {
                value: Value::Null, ..
            } => Some(&[]),
            Kind::Bad => None,
            Kind::Map(_) | Kind::Scalar { .. } => {
                let message = format!("expected a list, found {}", node.kind_name());
                self.error(
                    "D005",
                    node.place,
                    message,
                    "not a list",
                    "write it like [one, two]",
                );
                None
            }
        }
    }

    pub(super) fn text<'n>(&mut self, node: &'n Node) -> Option<&'n str> {
        match &node.kind {
            Kind::Scalar {
                value: Value::Text(text),
                ..
            } => Some(text),
            Kind::Bad => None,
            Kind::List(_) | Kind::Map(_) | Kind::Scalar { .. } => {
                let message = format!("expected text, found {}", node.kind_name());
                self.error("D005", node.place, message, "not text", "quote it");
                None
            }
        }
    }

    /// The texts of a list, each once.
    pub(super) fn names<'n>(&mut self, node: &'n Node) -> Vec<(&'n str, Place)> {
        let mut seen = BTreeSet::new();
        let mut out = Vec::new();
        for item in self.list(node).into_iter().flatten() {
            let Some(text) = self.text(item) else {
                continue;
            };
            if seen.insert(text) {
                out.push((text, item.place));
            } else {
                let message = format!("`{text}` is listed twice");
                self.error(
                    "D004",
                    item.place,
                    message,
                    "the second one",
                    "keep one of them",
                );
            }
        }
        out
    }

    pub(super) fn unknown_key(&mut self, key: &Key, known: &[&str]) {
        if key.text.starts_with("x-") {
            return;
        }
        let help = match nearest(&key.text, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known here: {}", known.join(", ")),
        };
        let message = format!("unknown key `{}`", key.text);
        self.error("D003", key.place, message, "not known here", &help);
    }
}

/// The entries that are not extensions of someone else.
pub(super) fn ours(entries: &[(Key, Node)]) -> impl Iterator<Item = &(Key, Node)> {
    entries
        .iter()
        .filter(|(key, _)| !key.text.starts_with("x-"))
}
