//! YAML text → a tree in which every key and value knows its place.
//!
//! Built from parser events by hand, because the place of every leaf is kept, and because duplicate keys, the
//! strict dialect and its messages are ours. The dialect is YAML 1.2 without anchors, aliases, merge keys, tags
//! and further documents, and without the plain words that YAML 1.1 and 1.2 read differently.

use std::collections::BTreeMap;

use granit_parser::{Event, Options, Parser, ScalarStyle};
use lab_crdt_model::limit::DECLARATION_BYTES_MAX;
use lab_crdt_model::value::is_decimal;
use lab_crdt_model::{Span, SpanError, Value};

/// Deepest nesting of a declaration; values have limits of their own.
const DEPTH_MAX: usize = 32;
/// Most keys and values of one source. A fleet of 10,000 machines with 12 labels each has about 200,000.
const NODES_MAX: usize = 1_000_000;
/// Most mistakes reported for one source; after so many the rest adds nothing.
pub(crate) const DIAGNOSTICS_MAX: usize = 200;

/// Where something stands: bytes for marking it, line and column (from 1) for naming it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Place {
    pub(crate) span: Span,
    pub(crate) line: usize,
    pub(crate) column: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) kind: Kind,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// A value that is no collection. `is_quoted` tells `"12"` from `12`.
    Scalar {
        value: Value,
        is_quoted: bool,
    },
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
    /// Reported already; readers pass over it in silence.
    Bad,
}

#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) text: String,
    pub(crate) place: Place,
}

enum Frame {
    List {
        place: Place,
        items: Vec<Node>,
    },
    Map {
        place: Place,
        entries: Vec<(Key, Node)>,
        key: Option<Key>,
        seen: BTreeMap<String, Place>,
    },
}

/// Reads a text; `None` if it is not YAML at all. Mistakes are added to `errors`.
pub(crate) fn read(text: &str, errors: &mut Vec<SpanError>) -> Option<Node> {
    if text.len() > DECLARATION_BYTES_MAX {
        let message = format!("the file has {} bytes, more than 4 MiB", text.len());
        let error = SpanError::new("D002", message, Span::new(0, 0), "too long");
        errors.push(error.with_help("split it into several files of the same set"));
        return None;
    }
    let mut options = Options::default();
    options.set_emit_comments(false);
    options.flow_nesting_limit = DEPTH_MAX;
    options.block_nesting_limit = DEPTH_MAX;
    let mut builder = Builder {
        errors,
        stack: Vec::new(),
        root: None,
        count: 0,
        documents: 0,
    };
    for event in Parser::new_from_str_with_options(text, options) {
        match event {
            Ok((event, span)) => {
                let place = place(&span, text);
                if !builder.take(event, place, text) {
                    return None;
                }
            }
            Err(error) => {
                let at = error
                    .marker()
                    .byte_offset()
                    .unwrap_or(text.len())
                    .min(text.len());
                let message = format!("this is not YAML: {}", error.kind());
                let error =
                    SpanError::new("D001", message, Span::new(at, at), "the reader stops here");
                let error = error
                    .with_help("look at indentation, quotes and brackets just before this place");
                builder.errors.push(error);
                return None;
            }
        }
    }
    builder.root
}

fn place(span: &granit_parser::Span, text: &str) -> Place {
    let range = span.byte_range().unwrap_or(0..0);
    let end = range.end.min(text.len());
    let mut range = range.start.min(end)..end;
    // The span of a block collection ends where the next token begins.
    if let Some(inner) = text.get(range.clone()) {
        range.end = range.start + inner.trim_end().len().max(usize::from(!inner.is_empty()));
    }
    Place {
        span: Span::new(range.start, range.end),
        line: span.start.line(),
        column: span.start.col() + 1,
    }
}

struct Builder<'a> {
    errors: &'a mut Vec<SpanError>,
    stack: Vec<Frame>,
    root: Option<Node>,
    count: usize,
    documents: usize,
}

impl Builder<'_> {
    /// Takes one event; `false` ends the reading.
    fn take(&mut self, event: Event<'_>, place: Place, text: &str) -> bool {
        self.count += 1;
        if self.count > NODES_MAX {
            let error =
                SpanError::new("D002", "the file has too many values", place.span, "enough");
            self.errors
                .push(error.with_help("split it into several files of the same set"));
            return false;
        }
        if self.errors.len() >= DIAGNOSTICS_MAX {
            return false;
        }
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    let message = "a declaration is one document";
                    self.refuse(
                        message,
                        place,
                        "a second one starts here",
                        "put it into a file of its own",
                    );
                    return false;
                }
            }
            Event::Alias(_) | Event::UnresolvedAlias(_) => {
                self.refuse(
                    "aliases are not part of the dialect",
                    place,
                    "stands for something written elsewhere",
                    "write the value out; sizes have `extends:`, everything else belongs on a label",
                );
                self.put(Node {
                    place,
                    kind: Kind::Bad,
                });
            }
            Event::Scalar(value, style, anchor, tag) => {
                self.check_properties(anchor, tag.is_some(), place);
                if self.wants_key() {
                    self.key(&value, style, place);
                } else {
                    let kind = self.scalar(&value, style, place);
                    self.put(Node { place, kind });
                }
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.check_properties(anchor, tag.is_some(), place);
                if self.wants_key() {
                    return self.bad_key(place);
                }
                self.stack.push(Frame::List {
                    place,
                    items: Vec::new(),
                });
            }
            Event::MappingStart(_, anchor, tag) => {
                self.check_properties(anchor, tag.is_some(), place);
                if self.wants_key() {
                    return self.bad_key(place);
                }
                let (entries, seen) = (Vec::new(), BTreeMap::new());
                self.stack.push(Frame::Map {
                    place,
                    entries,
                    key: None,
                    seen,
                });
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(place, text),
            _ => {}
        }
        true
    }

    fn wants_key(&self) -> bool {
        matches!(self.stack.last(), Some(Frame::Map { key: None, .. }))
    }

    fn bad_key(&mut self, place: Place) -> bool {
        self.refuse(
            "a key is a word",
            place,
            "this is a collection",
            "quote it if it is meant as text",
        );
        false
    }

    fn refuse(&mut self, message: &str, place: Place, label: &str, help: &str) {
        self.errors
            .push(SpanError::new("D009", message, place.span, label).with_help(help));
    }

    fn check_properties(&mut self, anchor: usize, is_tagged: bool, place: Place) {
        if anchor != 0 {
            let message = "anchors are not part of the dialect";
            self.refuse(
                message,
                place,
                "has an anchor",
                "remove `&…` and write the value where it is needed",
            );
        }
        if is_tagged {
            let message = "tags are not part of the dialect";
            self.refuse(
                message,
                place,
                "has a tag",
                "remove `!…`; quote the value if it is meant as text",
            );
        }
    }

    fn key(&mut self, text: &str, style: ScalarStyle, place: Place) {
        let is_plain = style == ScalarStyle::Plain;
        if is_plain && text == "<<" {
            let message = "merge keys are not part of the dialect";
            self.refuse(
                message,
                place,
                "merges another map",
                "write the keys out; sizes have `extends:`",
            );
        } else if is_plain && is_reserved(text) {
            let message = format!("`{text}` cannot be a key");
            let error = SpanError::new(
                "D007",
                message,
                place.span,
                "some programs read this as true or false",
            );
            self.errors
                .push(error.with_help("choose another word, or quote it"));
        }
        let Some(Frame::Map { key, .. }) = self.stack.last_mut() else {
            return;
        };
        *key = Some(Key {
            text: text.to_owned(),
            place,
        });
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, place: Place) -> Kind {
        if style != ScalarStyle::Plain {
            return Kind::Scalar {
                value: Value::text(text),
                is_quoted: true,
            };
        }
        match plain(text) {
            Ok(value) => Kind::Scalar {
                value,
                is_quoted: false,
            },
            Err(error) => {
                self.errors.push(error.into_error(text, place));
                Kind::Bad
            }
        }
    }

    fn put(&mut self, node: Node) {
        match self.stack.last_mut() {
            None => self.root = Some(node),
            Some(Frame::List { items, .. }) => items.push(node),
            Some(Frame::Map {
                entries, key, seen, ..
            }) => {
                // A collection or alias cannot arrive here without a key: `take` ends the reading before.
                let Some(key) = key.take() else { return };
                if let Some(first) = seen.get(&key.text) {
                    let message = format!("`{}` is written twice", key.text);
                    let error = SpanError::new("D004", message, key.place.span, "the second one");
                    let help = format!("the first one is in line {}; keep one of them", first.line);
                    self.errors.push(error.with_help(help));
                    return;
                }
                seen.insert(key.text.clone(), key.place);
                entries.push((key, node));
            }
        }
    }

    fn close(&mut self, end: Place, text: &str) {
        let (place, kind) = match self.stack.pop() {
            Some(Frame::List { place, items }) => (place, Kind::List(items)),
            Some(Frame::Map { place, entries, .. }) => (place, Kind::Map(entries)),
            None => return,
        };
        let start = place.span.start;
        let end = end.span.end.max(place.span.end);
        let inner = text.get(start..end).unwrap_or("").trim_end();
        let span = Span::new(start, start + inner.len());
        self.put(Node {
            place: Place { span, ..place },
            kind,
        });
    }
}

/// Why a plain scalar is refused.
enum Plain {
    Reserved,
    Ambiguous(&'static str),
    Number,
}

impl Plain {
    fn into_error(self, text: &str, place: Place) -> SpanError {
        match self {
            Self::Reserved => SpanError::new(
                "D007",
                format!("`{text}` is read as true or false by some programs and as text by others"),
                place.span,
                "reserved word",
            )
            .with_help(format!("write true or false, or quote it: \"{text}\"")),
            Self::Ambiguous(what) => SpanError::new(
                "D008",
                format!("`{text}` is read as {what} by some programs"),
                place.span,
                "not quoted",
            )
            .with_help(format!("quote it: \"{text}\"")),
            Self::Number => SpanError::new(
                "D008",
                format!("`{text}` is not a number that every program can hold"),
                place.span,
                "outside of the numbers",
            )
            .with_help(format!("quote it if it is meant as text: \"{text}\"")),
        }
    }
}

fn is_reserved(text: &str) -> bool {
    ["on", "off", "yes", "no", "y", "n"]
        .iter()
        .any(|word| text.eq_ignore_ascii_case(word))
}

/// The value of a plain scalar by the YAML 1.2 core schema, less what YAML 1.1 reads differently.
fn plain(text: &str) -> Result<Value, Plain> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Value::Null),
        "true" | "True" | "TRUE" => return Ok(Value::Bool(true)),
        "false" | "False" | "FALSE" => return Ok(Value::Bool(false)),
        _ if is_reserved(text) => return Err(Plain::Reserved),
        _ => {}
    }
    let body = text.strip_prefix(['-', '+']).unwrap_or(text);
    let digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    if digits(body) {
        if body.len() > 1 && body.starts_with('0') {
            return Err(Plain::Ambiguous("an octal number"));
        }
        return text
            .parse()
            .map(Value::Int)
            .map_err(|_overflow| Plain::Number);
    }
    if let Some((prefix, radix)) = [("0x", 16), ("0o", 8), ("0b", 2)]
        .into_iter()
        .find(|(p, _)| body.starts_with(p))
    {
        let number = body.strip_prefix(prefix).unwrap_or_default();
        if number.chars().all(|c| c.is_digit(radix) || c == '_') && !number.is_empty() {
            return Err(Plain::Ambiguous("a number with another base"));
        }
    }
    if [".inf", ".Inf", ".INF", ".nan", ".NaN", ".NAN"].contains(&body) {
        return Err(Plain::Number);
    }
    if body.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && body
            .bytes()
            .all(|b| b.is_ascii_digit() || b".eE+-".contains(&b))
        && body.parse::<f64>().is_ok()
    {
        let is_number = is_decimal(text);
        return is_number
            .then(|| Value::Decimal(text.to_owned()))
            .ok_or(Plain::Ambiguous("a number"));
    }
    let mut parts = body.split(':');
    if body.contains(':') && parts.all(digits) {
        return Err(Plain::Ambiguous("a number of minutes and seconds"));
    }
    let date: Vec<_> = text.splitn(3, '-').collect();
    if let [year, month, day] = date[..]
        && year.len() == 4
        && digits(year)
        && (1..=2).contains(&month.len())
        && digits(month)
        && day.starts_with(|c: char| c.is_ascii_digit())
    {
        return Err(Plain::Ambiguous("a date"));
    }
    if body.contains('_') && digits(&body.replace('_', "")) {
        return Err(Plain::Ambiguous("a number"));
    }
    Ok(Value::text(text))
}

impl Node {
    /// The place of byte `start..end` of a scalar's text, if the text stands in the source as it is; otherwise the
    /// whole scalar.
    pub(crate) fn within(&self, source: &str, inner: Span) -> Span {
        let Kind::Scalar {
            value: Value::Text(text),
            ..
        } = &self.kind
        else {
            return self.place.span;
        };
        let span = self.place.span;
        let raw = source.get(span.start..span.end).unwrap_or("");
        let offset = if raw == text {
            0
        } else if raw.get(1..raw.len().saturating_sub(1)) == Some(text) {
            1
        } else {
            return span;
        };
        let start = span.start + offset + inner.start.min(text.len());
        let end = span.start + offset + inner.end.min(text.len());
        Span::new(start, end.max(start))
    }

    /// What kind of value this is, for messages.
    pub(crate) fn kind_name(&self) -> &'static str {
        match &self.kind {
            Kind::Scalar {
                value: Value::Null, ..
            } => "nothing",
            Kind::Scalar {
                value: Value::Bool(_),
                ..
            } => "true or false",
            Kind::Scalar {
                value: Value::Int(_),
                ..
            } => "a number",
            Kind::Scalar {
                value: Value::Decimal(_),
                ..
            } => "a number with a fraction",
            Kind::List(_) => "a list",
            Kind::Map(_) => "a map",
            Kind::Scalar { .. } | Kind::Bad => "text",
        }
    }

    /// The value as it is written; `None` if a part of it was reported already.
    pub(crate) fn value(&self) -> Option<Value> {
        match &self.kind {
            Kind::Scalar { value, .. } => Some(value.clone()),
            Kind::List(items) => items
                .iter()
                .map(Self::value)
                .collect::<Option<_>>()
                .map(Value::List),
            Kind::Map(entries) => entries
                .iter()
                .map(|(key, node)| Some((key.text.clone(), node.value()?)))
                .collect::<Option<_>>()
                .map(Value::Map),
            Kind::Bad => None,
        }
    }
}
