//! What hangs on labels, and labels themselves.

use std::collections::BTreeMap;

use lab_crdt_model::span::nearest;
use lab_crdt_model::{Label, Path, Severity, SpanError, Value};

use super::form::Form;
use super::reader::{LABEL_HELP, Reader, ours};
use super::section::Schema;
use crate::file::check_path;
use crate::intent::{Term, TermKind};
use crate::tree::{Key, Kind, Node, Place};

const ATTACHMENT: &[&str] = &[
    "classes", "packages", "params", "vars", "files", "alerts", "dns", "rollout", "protect",
    "over", "without",
];
const REMOVABLE: &[&str] = &[
    "classes", "packages", "params", "vars", "files", "alerts", "dns", "rollout",
];
const FILE: Schema = &[
    ("content", Form::Text),
    ("template", Form::Template),
    ("mode", Form::Mode),
    ("owner", Form::Owner),
];
const ALERT: Schema = &[
    ("when", Form::Query(false)),
    ("severity", Form::Word(&["info", "warning", "critical"])),
    ("for", Form::Duration),
    ("about", Form::Text),
    ("prometheus", Form::TextOrMap),
    ("naemon", Form::TextOrMap),
    ("cloudwatch", Form::TextOrMap),
];
const RECORD: Schema = &[
    ("name", Form::Template),
    ("zone", Form::Template),
    (
        "type",
        Form::Word(&["A", "AAAA", "CNAME", "TXT", "MX", "SRV", "PTR"]),
    ),
    ("from", Form::Text),
    ("value", Form::Template),
    ("ttl", Form::Int(1, 2_147_483_647)),
    ("ptr", Form::Bool),
];
const ROLLOUT: Schema = &[
    ("canary", Form::Query(false)),
    ("batch", Form::Batch),
    ("max-unavailable", Form::Count),
    ("soak", Form::Duration),
    ("gate", Form::Words(&["puppet", "health"])),
    ("on-failure", Form::Word(&["pause", "continue", "rollback"])),
    ("approve", Form::BoolOrCount),
    ("window", Form::Text),
];

impl Reader<'_> {
    pub(super) fn labels(&mut self, node: &Node) {
        for (key, node) in self.map(node).into_iter().flatten() {
            if key.text.starts_with("x-") {
                continue;
            }
            if key.text != "all" && self.label(&key.text, key.place).is_none() {
                continue;
            }
            let on = ["on", key.text.as_str()];
            self.put(&on, Value::Bool(true), key.place);
            let Some(entries) = self.map(node) else {
                continue;
            };
            for (section, node) in ours(entries) {
                self.attachment(&on, section, node);
            }
        }
    }

    pub(super) fn attachment(&mut self, on: &[&str], section: &Key, node: &Node) {
        let label = on[1];
        let prefix = [on, &[&section.text]].concat();
        match section.text.as_str() {
            "classes" | "packages" => {
                for (name, place) in self.names(node) {
                    let is_sound = if section.text == "classes" {
                        is_class(name)
                    } else {
                        is_package(name)
                    };
                    if is_sound {
                        self.put(&[&prefix[..], &[name]].concat(), Value::Bool(true), place);
                    } else {
                        let (what, help) = if section.text == "classes" {
                            (
                                "class",
                                "lower-case words joined by `::`, like profile::web",
                            )
                        } else {
                            ("package", "letters, digits and + - . _ : @ /")
                        };
                        let message = format!("`{name}` cannot be the name of a {what}");
                        self.error("D012", place, message, "not a name", help);
                    }
                }
            }
            "params" => self.params(on, node),
            "vars" => {
                for (key, node) in self.map(node).into_iter().flatten() {
                    if is_variable(&key.text) {
                        self.field(&[&prefix[..], &[&key.text]].concat(), node, Form::Any);
                    } else {
                        let message = format!("`{}` cannot be the name of a variable", key.text);
                        let help = "a letter or `_`, then letters, digits, `_` and `-`";
                        self.error("D012", key.place, message, "not a name", help);
                    }
                }
            }
            "files" => {
                for (path, node) in self.map(node).into_iter().flatten() {
                    self.file(&prefix, path, node);
                }
            }
            "alerts" => {
                for (name, node) in self.map(node).into_iter().flatten() {
                    let Some(entries) = self.map(node) else {
                        continue;
                    };
                    if entries.is_empty() {
                        let message = format!("the alert `{}` says nothing", name.text);
                        let help =
                            "give it a severity, or remove it with  without: { alerts: [NAME] }";
                        self.error("D006", name.place, message, "empty", help);
                    }
                    self.plain_fields(&[&prefix[..], &[&name.text]].concat(), entries, ALERT);
                }
            }
            "dns" => {
                for item in self.list(node).into_iter().flatten() {
                    self.record(&prefix, item);
                }
            }
            "rollout" => {
                if let Some(entries) = self.map(node) {
                    self.plain_fields(&prefix, entries, ROLLOUT);
                }
            }
            "protect" => self.field(&prefix, node, Form::Bool),
            "over" => {
                let mut labels = Vec::new();
                for (text, place) in self.names(node) {
                    if self.label(text, place).is_none() {
                        continue;
                    }
                    if text == label {
                        let message = format!("`{text}` cannot be over itself");
                        self.error(
                            "D018",
                            place,
                            message,
                            "the same label",
                            "name the label that should lose",
                        );
                    }
                    labels.push(Value::text(text));
                }
                self.put(&prefix, Value::List(labels), node.place);
            }
            "without" => {
                for (section, node) in self.map(node).into_iter().flatten() {
                    if !REMOVABLE.contains(&section.text.as_str()) {
                        self.unknown_key(section, REMOVABLE);
                        continue;
                    }
                    for (name, place) in self.names(node) {
                        let path = [&prefix[..], &[&section.text, name]].concat();
                        self.put(&path, Value::Bool(true), place);
                    }
                }
            }
            _ => self.unknown_key(section, ATTACHMENT),
        }
    }

    pub(super) fn file(&mut self, prefix: &[&str], path: &Key, node: &Node) {
        if let Err(why) = check_path(&path.text) {
            let message = format!("`{}` cannot be written: {why}", path.text);
            let help = "an absolute path such as /etc/motd";
            self.error("D019", path.place, message, "not the path of a file", help);
            return;
        }
        let Some(entries) = self.map(node) else {
            return;
        };
        let bodies: Vec<_> = entries
            .iter()
            .filter(|(key, _)| matches!(key.text.as_str(), "content" | "template"))
            .collect();
        if entries.is_empty() {
            let message = format!("the file `{}` has no content", path.text);
            let help = "give it  content: TEXT  or  template: TEXT";
            self.error("D025", path.place, message, "empty", help);
        } else if let [_, second] = &bodies[..] {
            let message = format!("the file `{}` has content and a template", path.text);
            self.error(
                "D025",
                second.0.place,
                message,
                "the second one",
                "keep one of them",
            );
        }
        self.plain_fields(&[prefix, &[&path.text]].concat(), entries, FILE);
    }

    pub(super) fn record(&mut self, prefix: &[&str], item: &Node) {
        let Some(entries) = self.map(item) else {
            return;
        };
        let text = |name: &str| {
            entries
                .iter()
                .find(|(key, _)| key.text == name)
                .and_then(|(_, node)| match &node.kind {
                    Kind::Scalar {
                        value: Value::Text(text),
                        ..
                    } if !text.is_empty() => Some(text.as_str()),
                    _ => None,
                })
        };
        let Some(name) = text("name") else {
            let help = "write it like  - { name: www, zone: home.example.org, from: node.ip }";
            let message = "a record needs a name".to_owned();
            self.error("D006", item.place, message, "no `name:` here", help);
            return;
        };
        let key = match text("type") {
            None | Some("A") => name.to_owned(),
            Some(other) => format!("{name} {other}"),
        };
        let prefix = [prefix, &[&key]].concat();
        let name_path = Path::new([&prefix[..], &["name"]].concat());
        if name_path.is_ok_and(|path| self.fields.contains_key(&path)) {
            let message = format!("the record `{key}` is declared twice");
            self.error(
                "D004",
                item.place,
                message,
                "the second one",
                "keep one of them",
            );
            return;
        }
        for needed in ["zone"] {
            if !entries.iter().any(|(key, _)| key.text == needed) {
                let message = format!("the record `{key}` needs a {needed}");
                let help = "write  zone: NAME  or  zone: \"{site.zone}\"";
                self.error(
                    "D006",
                    item.place,
                    message,
                    &format!("no `{needed}:` here"),
                    help,
                );
            }
        }
        if let Some(zone) = text("zone").filter(|zone| !zone.contains('{')) {
            let place = entries
                .iter()
                .find(|(key, _)| key.text == "zone")
                .map(|(_, node)| node.place);
            self.refer("zone", zone, place.unwrap_or(item.place));
        }
        self.plain_fields(&prefix, entries, RECORD);
    }

    pub(super) fn params(&mut self, prefix: &[&str], node: &Node) {
        for (key, node) in self.map(node).into_iter().flatten() {
            if key.text.is_empty()
                || key
                    .text
                    .chars()
                    .any(|c| c.is_whitespace() || c.is_control())
            {
                let message = format!("`{}` cannot be the name of a parameter", key.text);
                self.error(
                    "D012",
                    key.place,
                    message,
                    "not a name",
                    "write it like nginx::worker_processes",
                );
                continue;
            }
            self.field(&[prefix, &["params", &key.text]].concat(), node, Form::Any);
        }
    }

    pub(super) fn labels_of(&mut self, name: &str, node: &Node) {
        let mut one_of: BTreeMap<String, String> = BTreeMap::new();
        for (text, place) in self.names(node) {
            let Some(label) = self.label(text, place) else {
                continue;
            };
            let term = self.vocabulary.iter().find(|term| term.key == label.key);
            if matches!(
                term,
                Some(Term {
                    kind: TermKind::OneOf(_),
                    ..
                })
            ) && let Some(first) = one_of.insert(label.key.clone(), text.to_owned())
            {
                let message = format!(
                    "`{name}` has two values of `{}`: `{first}` and `{text}`",
                    label.key
                );
                let help = format!(
                    "`{}` is one-of in the vocabulary: keep one of them",
                    label.key
                );
                self.error("D014", place, message, "the second value", &help);
                continue;
            }
            self.put(&["label", name, text], Value::Bool(true), place);
        }
    }

    /// Checks a label against grammar and vocabulary.
    pub(super) fn label(&mut self, text: &str, place: Place) -> Option<Label> {
        let label: Label = match text.parse() {
            Ok(label) => label,
            Err(_) => {
                let message = format!("`{text}` is not a label");
                self.error("D013", place, message, "not a label", LABEL_HELP);
                return None;
            }
        };
        if label.key == "all" {
            let message = "`all` cannot be a label key".to_owned();
            self.error(
                "D013",
                place,
                message,
                "means every node",
                "choose another word",
            );
            return None;
        }
        let Some(term) = self
            .vocabulary
            .iter()
            .find(|term| term.key == label.key)
            .cloned()
        else {
            let keys = self.vocabulary.iter().map(|term| term.key.as_str());
            if let Some(near) = nearest(&label.key, keys) {
                let message = format!("the vocabulary has no label key `{}`", label.key);
                let help = format!("did you mean `{near}`?");
                let error =
                    SpanError::new("D014", message, place.span, "looks like a typing mistake");
                self.push(Severity::Warning, error.with_help(help));
            }
            return Some(label);
        };
        let (message, mark, help) = match (&term.kind, &label.value) {
            (TermKind::OneOf(values), Some(value)) => {
                if values.contains(value) {
                    return Some(label);
                }
                let help = match nearest(value, values.iter().map(String::as_str)) {
                    Some(near) => format!("did you mean `{}={near}`?", label.key),
                    None => format!("one of: {}", values.join(", ")),
                };
                (
                    format!("`{value}` is not a value of `{}`", label.key),
                    "not in the vocabulary",
                    help,
                )
            }
            (TermKind::Many, Some(_)) | (TermKind::Flag, None) => return Some(label),
            (TermKind::OneOf(_) | TermKind::Many, None) => (
                format!("`{}` needs a value", label.key),
                "no value",
                format!("write it like {}=VALUE", label.key),
            ),
            (TermKind::Flag, Some(_)) => (
                format!("`{}` is a flag and has no value", label.key),
                "has a value",
                format!("write  {}", label.key),
            ),
        };
        self.error("D014", place, message, mark, &help);
        None
    }
}

fn is_class(name: &str) -> bool {
    let name = name.strip_prefix("::").unwrap_or(name);
    name.split("::").all(|part| {
        part.starts_with(|c: char| c.is_ascii_lowercase())
            && part
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    })
}

fn is_package(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"+-._:@/".contains(&b))
}

fn is_variable(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
}
