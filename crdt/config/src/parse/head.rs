//! The head of a source: `lab`, `set` and `vocabulary`.

use lab_crdt_model::label::{is_key, is_name, is_value};
use lab_crdt_model::{Span, Value};

use super::reader::{LABEL_HELP, NAME_HELP, Reader};
use crate::intent::{Term, TermKind};
use crate::tree::{Key, Kind, Node, Place};

impl Reader<'_> {
    pub(super) fn header(&mut self, root: Option<&Node>) {
        let Some(root) = root else {
            let is_silent = self.diagnostics[self.at].is_empty();
            if is_silent {
                let help = "begin with  lab: 1  and  set: NAME";
                self.error(
                    "D006",
                    Place::default(),
                    "the file is empty".to_owned(),
                    "nothing here",
                    help,
                );
            }
            return;
        };
        let Kind::Map(entries) = &root.kind else {
            let help = "begin with  lab: 1  and  set: NAME";
            let message = format!("a declaration is a map, found {}", root.kind_name());
            self.error("D005", root.place, message, "not a map", help);
            return;
        };
        let find = |name| entries.iter().find(|(key, _)| key.text == name);
        let start = Place {
            span: Span::new(root.place.span.start, root.place.span.start),
            ..root.place
        };
        match find("lab") {
            None => {
                let message = "the format version is missing".to_owned();
                self.error(
                    "D006",
                    start,
                    message,
                    "no `lab:` in this file",
                    "begin with  lab: 1",
                );
            }
            Some((_, node)) => match &node.kind {
                Kind::Scalar {
                    value: Value::Int(1),
                    ..
                }
                | Kind::Bad => {}
                _ => {
                    let message = "this program reads format version 1".to_owned();
                    self.error(
                        "D010",
                        node.place,
                        message,
                        "another version",
                        "write  lab: 1",
                    );
                }
            },
        }
        match find("set") {
            None => {
                let message = "the name of the set is missing".to_owned();
                let help = "write  set: NAME ; it owns what is declared here";
                self.error("D006", start, message, "no `set:` in this file", help);
            }
            Some((_, node)) => self.set_name(node),
        }
        if let Some((_, node)) = find("vocabulary") {
            self.read_vocabulary(node);
        }
    }

    pub(super) fn set_name(&mut self, node: &Node) {
        let Some(name) = self.text(node) else { return };
        if !is_name(name) {
            let message = format!("`{name}` cannot be the name of a set");
            self.error("D011", node.place, message, "not a name", NAME_HELP);
            return;
        }
        match &self.set {
            Some(first) if first != name => {
                let message = format!("two sets in one declaration: `{first}` and `{name}`");
                self.error(
                    "D011",
                    node.place,
                    message,
                    "another set",
                    "apply each set for itself",
                );
            }
            Some(_) => {}
            None => {
                self.set = Some(name.to_owned());
                let files = self
                    .sources
                    .iter()
                    .map(|source| Value::text(source.name))
                    .collect();
                let value = Value::Map([("files".to_owned(), Value::List(files))].into());
                self.put(&["set", name], value, node.place);
            }
        }
    }

    pub(super) fn read_vocabulary(&mut self, node: &Node) {
        let Some(items) = self.list(node) else { return };
        let mut terms: Vec<Term> = Vec::new();
        for item in items {
            let help = "write it like  - role: { many: true }";
            let entry = match &item.kind {
                Kind::Map(entries) => match &entries[..] {
                    [one] => one,
                    _ => {
                        let message = "one label key per item, since their order is their strength";
                        self.error("D015", item.place, message.to_owned(), "not one key", help);
                        continue;
                    }
                },
                Kind::Bad => continue,
                Kind::List(_) | Kind::Scalar { .. } => {
                    let message = format!(
                        "expected a label key and its kind, found {}",
                        item.kind_name()
                    );
                    self.error("D015", item.place, message, "not a map", help);
                    continue;
                }
            };
            let (key, kind) = entry;
            if !is_key(&key.text) || key.text == "all" {
                let message = format!("`{}` cannot be a label key", key.text);
                self.error("D013", key.place, message, "not a label key", LABEL_HELP);
                continue;
            }
            if terms.iter().any(|term| term.key == key.text) {
                let message = format!("`{}` is in the vocabulary twice", key.text);
                self.error(
                    "D004",
                    key.place,
                    message,
                    "the second one",
                    "keep one of them",
                );
                continue;
            }
            if let Some(term) = self.term(key, kind) {
                terms.push(term);
            }
        }
        let value = Value::List(terms.iter().map(Term::to_value).collect());
        self.put(&["vocabulary"], value, node.place);
        if self.vocabulary.is_empty() {
            self.vocabulary = terms;
        }
    }

    pub(super) fn term(&mut self, key: &Key, node: &Node) -> Option<Term> {
        let entries = self.map(node)?;
        let (mut kinds, mut privileged) = (Vec::new(), None);
        for (name, node) in entries {
            match name.text.as_str() {
                "one-of" => {
                    let mut values: Vec<String> = Vec::new();
                    for item in self.list(node)? {
                        let Some(text) = self.text(item) else {
                            continue;
                        };
                        if !is_value(text) {
                            let message = format!("`{text}` cannot be the value of a label");
                            self.error(
                                "D013",
                                item.place,
                                message,
                                "not a label value",
                                LABEL_HELP,
                            );
                        } else if values.iter().any(|value| value == text) {
                            let message = format!("`{text}` is listed twice");
                            self.error(
                                "D004",
                                item.place,
                                message,
                                "the second one",
                                "keep one of them",
                            );
                        } else {
                            values.push(text.to_owned());
                        }
                    }
                    kinds.push(TermKind::OneOf(values));
                }
                "many" | "flag" => {
                    let is_true = matches!(
                        node.kind,
                        Kind::Scalar {
                            value: Value::Bool(true),
                            ..
                        } | Kind::Bad
                    );
                    if !is_true {
                        let message = format!("expected true, found {}", node.kind_name());
                        let help = format!("write  {}: {{ {}: true }}", key.text, name.text);
                        self.error("D005", node.place, message, "not true", &help);
                    }
                    let kind = if name.text == "many" {
                        TermKind::Many
                    } else {
                        TermKind::Flag
                    };
                    kinds.push(kind);
                }
                "privileged" => privileged = self.text(node).map(str::to_owned),
                _ => self.unknown_key(name, &["one-of", "many", "flag", "privileged"]),
            }
        }
        let [kind] = &kinds[..] else {
            let message = format!("`{}` needs exactly one of one-of, many and flag", key.text);
            let help =
                "one-of: [home, attic]  has one value,  many: true  several,  flag: true  none";
            self.error(
                "D015",
                key.place,
                message,
                "which kind of label is it?",
                help,
            );
            return None;
        };
        Some(Term {
            key: key.text.clone(),
            kind: kind.clone(),
            privileged,
        })
    }
}
