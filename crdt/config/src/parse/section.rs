//! The sections of named items: what keys they have and which fields they become.

use lab_crdt_model::label::is_name;
use lab_crdt_model::{Path, Value};

use super::form::Form;
use super::reader::{NAME_HELP, Reader, ours};
use crate::tree::{Key, Node};

const SECTIONS: &[&str] = &[
    "lab",
    "set",
    "vocabulary",
    "providers",
    "profiles",
    "labels",
    "groups",
    "secrets",
    "dns",
    "nodes",
    "clusters",
    "stacks",
    "manifests",
];

pub(super) type Schema = &'static [(&'static str, Form)];

const PROFILE: Schema = &[
    ("extends", Form::Ref("profile")),
    ("cpu", Form::Int(1, 4096)),
    ("memory", Form::Size),
    ("disk", Form::Size),
];
const SECRET: Schema = &[
    ("about", Form::Text),
    ("rotate", Form::Duration),
    ("generate", Form::Map),
    ("readers", Form::Query(true)),
];
const NODE: Schema = &[
    ("provider", Form::Ref("provider")),
    ("profile", Form::Ref("profile")),
    ("mac", Form::Mac),
    ("expect", Form::Word(&["intermittent"])),
    ("host", Form::Ref("node")),
    ("image", Form::Text),
    ("protect", Form::Bool),
];
const CLUSTER: Schema = &[("provider", Form::Ref("provider"))];
const STACK: Schema = &[
    ("provider", Form::Ref("provider")),
    ("endpoint", Form::Text),
    ("compose", Form::Text),
];
const MANIFEST: Schema = &[("cluster", Form::Ref("cluster")), ("path", Form::Text)];
const GROUP: Schema = &[
    ("include", Form::Query(false)),
    ("exclude", Form::Query(false)),
];
impl Reader<'_> {
    pub(super) fn body(&mut self, entries: &[(Key, Node)]) {
        for (key, node) in entries {
            match key.text.as_str() {
                "lab" | "set" | "vocabulary" => {}
                "providers" => self.named(node, "provider", Self::provider),
                "profiles" => self.named(node, "profile", Self::profile),
                "labels" => self.labels(node),
                "groups" => self.named(node, "group", Self::group),
                "secrets" => self.named(node, "secret", Self::secret),
                "dns" => self.dns(node),
                "nodes" => self.named(node, "node", Self::node),
                "clusters" => self.named(node, "cluster", Self::cluster),
                "stacks" => self.named(node, "stack", Self::stack),
                "manifests" => self.named(node, "manifest", Self::manifest),
                _ => self.unknown_key(key, SECTIONS),
            }
        }
    }

    /// Reads a section of named items; each gets its marker `KIND/NAME` and goes to `item`.
    pub(super) fn named(
        &mut self,
        node: &Node,
        kind: &str,
        item: fn(&mut Self, &Key, &[(Key, Node)]),
    ) {
        let Some(entries) = self.map(node) else {
            return;
        };
        for (key, node) in ours(entries) {
            if !is_name(&key.text) {
                let message = format!("`{}` cannot be the name of a {kind}", key.text);
                self.error("D012", key.place, message, "not a name", NAME_HELP);
                continue;
            }
            self.put(&[kind, &key.text], Value::Bool(true), key.place);
            if let Some(entries) = self.map(node) {
                item(self, key, entries);
            }
        }
    }

    /// Reads the keys of a schema; what is not in it goes to `rest`.
    pub(super) fn fields(
        &mut self,
        prefix: &[&str],
        entries: &[(Key, Node)],
        schema: Schema,
        others: &[&str],
        mut rest: impl FnMut(&mut Self, &Key, &Node),
    ) {
        for (key, node) in ours(entries) {
            let form = schema
                .iter()
                .find(|(name, _)| *name == key.text)
                .map(|(_, form)| *form);
            if let Some(form) = form {
                self.field(&[prefix, &[&key.text]].concat(), node, form);
            } else if others.contains(&key.text.as_str()) {
                rest(self, key, node);
            } else {
                let names: Vec<_> = schema
                    .iter()
                    .map(|(name, _)| *name)
                    .chain(others.iter().copied())
                    .collect();
                self.unknown_key(key, &names);
            }
        }
    }

    pub(super) fn plain_fields(
        &mut self,
        prefix: &[&str],
        entries: &[(Key, Node)],
        schema: Schema,
    ) {
        self.fields(prefix, entries, schema, &[], |_, _, _| {});
    }

    pub(super) fn provider(&mut self, name: &Key, entries: &[(Key, Node)]) {
        for (key, node) in ours(entries) {
            let form = match key.text.as_str() {
                "executor" => Form::Query(true),
                "guard" => Form::Word(&["auto", "pinned", "quorum"]),
                _ => {
                    self.check_secrets(node);
                    Form::Any
                }
            };
            self.field(&["provider", &name.text, &key.text], node, form);
        }
    }

    pub(super) fn profile(&mut self, name: &Key, entries: &[(Key, Node)]) {
        self.fields(
            &["profile", &name.text],
            entries,
            PROFILE,
            &["per"],
            |reader, _, node| {
                for (provider, node) in reader.map(node).into_iter().flatten() {
                    let prefix = ["profile", &name.text, "per", &provider.text];
                    reader.refer("provider", &provider.text, provider.place);
                    reader.put(&prefix, Value::Bool(true), provider.place);
                    for (key, node) in reader.map(node).into_iter().flatten() {
                        let form = if key.text == "match" {
                            Form::Query(false)
                        } else {
                            Form::Any
                        };
                        reader.field(&[&prefix[..], &[&key.text]].concat(), node, form);
                    }
                }
            },
        );
    }

    pub(super) fn group(&mut self, name: &Key, entries: &[(Key, Node)]) {
        let prefix = ["group", name.text.as_str()];
        self.fields(
            &prefix,
            entries,
            GROUP,
            &["members", "params"],
            |reader, key, node| {
                if key.text == "params" {
                    reader.params(&prefix, node);
                    return;
                }
                for (member, place) in reader.names(node) {
                    if is_name(member) {
                        reader.put(
                            &["group", &name.text, "members", member],
                            Value::Bool(true),
                            place,
                        );
                    } else {
                        let message = format!("`{member}` cannot be the name of a node");
                        reader.error("D012", place, message, "not a name", NAME_HELP);
                    }
                }
            },
        );
    }

    pub(super) fn secret(&mut self, name: &Key, entries: &[(Key, Node)]) {
        self.plain_fields(&["secret", &name.text], entries, SECRET);
    }

    pub(super) fn dns(&mut self, node: &Node) {
        for (key, node) in self.map(node).into_iter().flatten() {
            if key.text.starts_with("x-") {
                continue;
            }
            if key.text != "zones" {
                self.unknown_key(key, &["zones"]);
                continue;
            }
            for (zone, node) in self.map(node).into_iter().flatten() {
                self.put(&["dns", "zones", &zone.text], Value::Bool(true), zone.place);
                for (key, node) in self.map(node).into_iter().flatten() {
                    self.check_secrets(node);
                    self.field(&["dns", "zones", &zone.text, &key.text], node, Form::Any);
                }
            }
        }
    }

    pub(super) fn node(&mut self, name: &Key, entries: &[(Key, Node)]) {
        let prefix = ["node", name.text.as_str()];
        self.fields(
            &prefix,
            entries,
            NODE,
            &["labels", "params"],
            |reader, key, node| {
                if key.text == "params" {
                    reader.params(&prefix, node);
                } else {
                    reader.labels_of(&name.text, node);
                }
            },
        );
    }

    pub(super) fn cluster(&mut self, name: &Key, entries: &[(Key, Node)]) {
        let path = Path::new(["node", &name.text]);
        if path.is_ok_and(|path| self.fields.contains_key(&path)) {
            let message = format!("`{}` is a node and a cluster", name.text);
            let help = "targets share their names: choose another one";
            self.error(
                "D016",
                name.place,
                message,
                "already the name of a node",
                help,
            );
        }
        let prefix = ["cluster", name.text.as_str()];
        self.fields(&prefix, entries, CLUSTER, &["labels"], |reader, _, node| {
            reader.labels_of(&name.text, node);
        });
    }

    pub(super) fn stack(&mut self, name: &Key, entries: &[(Key, Node)]) {
        let prefix = ["stack", name.text.as_str()];
        self.fields(&prefix, entries, STACK, &["env"], |reader, _, node| {
            for (key, node) in reader.map(node).into_iter().flatten() {
                reader.check_secrets(node);
                reader.field(&["stack", &name.text, "env", &key.text], node, Form::Any);
            }
        });
    }

    pub(super) fn manifest(&mut self, name: &Key, entries: &[(Key, Node)]) {
        self.plain_fields(&["manifest", &name.text], entries, MANIFEST);
    }
}
