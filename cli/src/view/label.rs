//! Labels: who has them, what they give, and what changing them would do.

use std::collections::{BTreeMap, BTreeSet};

use lab_crdt_config::TermKind;
use lab_crdt_model::{Field, Label, Op, Path, Value};
use serde::Serialize;

use super::machine::Machine;
use super::picture::Picture;

/// One label key in use or declared.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct LabelRow {
    /// The key.
    pub(crate) key: String,
    /// `one-of`, `many`, `flag`, or nothing if the vocabulary does not list it.
    pub(crate) kind: &'static str,
    /// Its strength: 1 is the weakest of the vocabulary.
    pub(crate) tier: Option<usize>,
    /// Labels with this key and how many machines have each.
    pub(crate) values: BTreeMap<String, usize>,
    /// Machines with this key.
    pub(crate) count: usize,
}

/// Every label key, strongest first, then those the vocabulary does not list.
pub(crate) fn labels(picture: &Picture) -> Vec<LabelRow> {
    let mut rows: BTreeMap<String, LabelRow> = BTreeMap::new();
    let row = |key: &str| LabelRow {
        key: key.to_owned(),
        kind: match picture.intent.term(key).map(|t| &t.kind) {
            Some(TermKind::OneOf(_)) => "one-of",
            Some(TermKind::Many) => "many",
            Some(TermKind::Flag) => "flag",
            None => "",
        },
        tier: picture.intent.strength(key).map(|place| place + 1),
        values: BTreeMap::new(),
        count: 0,
    };
    for term in &picture.intent.vocabulary {
        rows.insert(term.key.clone(), row(&term.key));
    }
    for name in picture.intent.attachments.keys() {
        if let Ok(label) = name.parse::<Label>().map_err(drop)
            && name != "all"
        {
            let entry = rows
                .entry(label.key.clone())
                .or_insert_with(|| row(&label.key));
            entry.values.entry(label.to_string()).or_default();
        }
    }
    for machine in &picture.machines {
        let keys: BTreeSet<_> = machine.labels.iter().map(|l| l.key.as_str()).collect();
        for key in keys {
            rows.entry(key.to_owned()).or_insert_with(|| row(key)).count += 1;
        }
        for label in &machine.labels {
            if let Some(row) = rows.get_mut(&label.key) {
                *row.values.entry(label.to_string()).or_default() += 1;
            }
        }
    }
    let mut rows: Vec<_> = rows.into_values().collect();
    rows.sort_by(|a, b| b.tier.cmp(&a.tier).then_with(|| a.key.cmp(&b.key)));
    rows
}

/// One label: who has it and what it gives.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct LabelView {
    /// The label.
    pub(crate) label: String,
    /// Machines that have it.
    pub(crate) nodes: Vec<String>,
    /// Groups whose queries select every one of them.
    pub(crate) groups: Vec<String>,
    /// What hangs on it: section and item with its value.
    pub(crate) gives: Vec<(String, String)>,
    /// Where that was written.
    pub(crate) sources: BTreeSet<String>,
}

impl LabelView {
    /// What is known about a label, or about all labels of a key.
    pub(crate) fn new(picture: &Picture, label: &Label) -> Self {
        let has = |m: &&Machine| {
            m.labels
                .iter()
                .any(|l| l == label || (label.value.is_none() && l.key == label.key))
        };
        let nodes: Vec<_> = picture
            .machines
            .iter()
            .filter(has)
            .map(|m| m.name.clone())
            .collect();
        let groups = picture.groups.keys().filter(|group| {
            let members = picture.members_of(group);
            !nodes.is_empty() && nodes.iter().all(|n| members.contains(n))
        });
        let prefix = Path::new(["on", &label.to_string()]);
        let below = picture.view.fields.iter().filter(|f| {
            prefix
                .as_ref()
                .is_ok_and(|p| f.path.is_below(p.as_str()) && f.path != *p)
        });
        let mut gives = Vec::new();
        let mut sources = BTreeSet::new();
        for field in below {
            let Some(candidate) = field.candidates.first() else {
                continue;
            };
            let segments: Vec<_> = field.path.segments().skip(2).collect();
            let (section, rest) =
                segments
                    .split_first()
                    .map_or(("", String::new()), |(s, rest)| {
                        (
                            s.as_ref(),
                            rest.iter()
                                .map(AsRef::as_ref)
                                .collect::<Vec<&str>>()
                                .join(" "),
                        )
                    });
            let value = &candidate.field.value;
            let item = match value {
                Value::Bool(true) if !rest.is_empty() => rest,
                _ if rest.is_empty() => super::history::brief(value),
                _ => format!("{rest} = {}", super::history::brief(value)),
            };
            gives.push((section.to_owned(), item));
            sources.extend(candidate.field.source.clone());
        }
        Self {
            label: label.to_string(),
            groups: groups.cloned().collect(),
            nodes,
            gives,
            sources,
        }
    }
}

/// What has to be written so that machines have, or no longer have, some labels.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct LabelEdit {
    /// The edits.
    pub(crate) ops: Vec<Op>,
    /// What changes on each machine.
    pub(crate) changed: BTreeMap<String, LabelDelta>,
    /// Fields that a declaration file owns and that stand in the way: path, owner, source.
    pub(crate) owned: Vec<Owned>,
    /// Values that the vocabulary does not list: the label and what it lists.
    pub(crate) unlisted: Vec<String>,
}

/// A field that someone else owns.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub(crate) struct Owned {
    /// Where.
    pub(crate) path: String,
    /// Whose.
    pub(crate) owner: String,
    /// Where it was written.
    pub(crate) source: Option<String>,
}

/// What changes on one machine.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub(crate) struct LabelDelta {
    /// Labels it gets.
    pub(crate) add: Vec<String>,
    /// Labels it loses.
    pub(crate) remove: Vec<String>,
}

impl LabelEdit {
    /// Puts `labels` on the machines `names`. Other values of a `one-of` key are taken off in the same edit.
    pub(crate) fn add(
        picture: &Picture,
        names: &BTreeSet<String>,
        labels: &[Label],
        person: &str,
        is_taking: bool,
    ) -> Self {
        let mut out = Self::default();
        for label in labels {
            out.check_listed(picture, label);
        }
        for machine in picture.machines.iter().filter(|m| names.contains(&m.name)) {
            for label in labels {
                let is_one_of = picture
                    .intent
                    .term(&label.key)
                    .is_some_and(|t| matches!(t.kind, TermKind::OneOf(_)));
                for rival in standing(picture, machine)
                    .iter()
                    .filter(|l| is_one_of && l.key == label.key)
                {
                    if rival != label {
                        out.take_off(picture, machine, rival, person, is_taking);
                    }
                }
                if !machine.labels.contains(label) {
                    out.put_on(picture, machine, label, person, is_taking);
                }
            }
        }
        out
    }

    /// Takes `labels` off the machines `names`.
    pub(crate) fn remove(
        picture: &Picture,
        names: &BTreeSet<String>,
        labels: &[Label],
        person: &str,
        is_taking: bool,
    ) -> Self {
        let mut out = Self::default();
        for machine in picture.machines.iter().filter(|m| names.contains(&m.name)) {
            let standing = standing(picture, machine);
            for label in labels.iter().filter(|l| standing.contains(l)) {
                out.take_off(picture, machine, label, person, is_taking);
            }
        }
        out
    }

    fn check_listed(&mut self, picture: &Picture, label: &Label) {
        let Some(term) = picture.intent.term(&label.key) else {
            return;
        };
        let wrong = match (&term.kind, &label.value) {
            (TermKind::OneOf(values), Some(value)) if !values.contains(value) => {
                Some(format!("`{}` is one of {}", label.key, values.join(", ")))
            }
            (TermKind::OneOf(_) | TermKind::Many, None) => {
                Some(format!("`{}` needs a value: {}=…", label.key, label.key))
            }
            (TermKind::Flag, Some(_)) => Some(format!("`{}` takes no value", label.key)),
            (TermKind::OneOf(_) | TermKind::Many, Some(_)) | (TermKind::Flag, None) => None,
        };
        self.unlisted.extend(wrong);
    }

    fn put_on(
        &mut self,
        picture: &Picture,
        machine: &Machine,
        label: &Label,
        person: &str,
        is_taking: bool,
    ) {
        let path = Path::label(&machine.name, label);
        if self.is_in_the_way(picture, &path, is_taking) {
            return;
        }
        let field = Field::new(Value::Bool(true), format!("person:{person}"));
        self.ops.push(Op::Set { path, field });
        self.changed
            .entry(machine.name.clone())
            .or_default()
            .add
            .push(label.to_string());
    }

    fn take_off(
        &mut self,
        picture: &Picture,
        machine: &Machine,
        label: &Label,
        person: &str,
        is_taking: bool,
    ) {
        let path = Path::label(&machine.name, label);
        if self.is_in_the_way(picture, &path, is_taking) {
            return;
        }
        let text = label.to_string();
        let is_born = machine
            .member
            .as_ref()
            .is_some_and(|m| m.labels.contains(&text));
        self.ops.push(if is_born {
            let field = Field::new(Value::Bool(false), format!("person:{person}"));
            Op::Set { path, field }
        } else {
            Op::Unset { path }
        });
        self.changed
            .entry(machine.name.clone())
            .or_default()
            .remove
            .push(text);
    }

    fn is_in_the_way(&mut self, picture: &Picture, path: &Path, is_taking: bool) -> bool {
        let Some(field) = picture.field(path).filter(|_| !is_taking) else {
            return false;
        };
        let Some(owner) = field.owners.iter().find(|o| o.starts_with("set:")) else {
            return false;
        };
        self.owned.push(Owned {
            path: path.to_string(),
            owner: owner.clone(),
            source: field.source.clone(),
        });
        true
    }
}

/// The labels that are written for a machine, also those that do not count because another value of their key does.
fn standing(picture: &Picture, machine: &Machine) -> BTreeSet<Label> {
    let born = machine.member.iter().flat_map(|m| &m.labels);
    let mut out: BTreeSet<Label> = born.filter_map(|text| text.parse().ok()).collect();
    let wishes = picture.intent.labels.get(&machine.name);
    for wish in wishes.into_iter().flatten() {
        if wish.is_on {
            out.insert(wish.label.clone());
        } else {
            out.remove(&wish.label);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::view::sample;

    fn vocabulary() -> Value {
        let map = |pairs: &[(&str, Value)]| {
            Value::Map(
                pairs
                    .iter()
                    .map(|(k, v)| ((*k).to_owned(), v.clone()))
                    .collect(),
            )
        };
        Value::List(vec![
            map(&[
                ("key", Value::text("site")),
                (
                    "one-of",
                    Value::List(vec![Value::text("home"), Value::text("attic")]),
                ),
            ]),
            map(&[("key", Value::text("canary")), ("flag", Value::Bool(true))]),
        ])
    }

    fn labels_of(texts: &[&str]) -> Vec<Label> {
        texts.iter().map(|t| t.parse().unwrap()).collect()
    }

    #[test]
    fn another_value_of_a_one_of_key_replaces_the_first_in_one_edit() {
        let mut fleet = sample::fleet().born("b", "site=home");
        fleet.put("vocabulary", vocabulary(), "set:homelab");
        let picture = fleet.picture();
        let edit = LabelEdit::add(
            &picture,
            &["b".into()].into(),
            &labels_of(&["site=attic"]),
            "ana",
            false,
        );
        assert_eq!(edit.ops.len(), 2);
        let after = picture.with_ops(&edit.ops);
        assert_eq!(
            after.machine("b").unwrap().labels,
            labels_of(&["site=attic"])
        );
    }

    #[test]
    fn a_value_that_lost_to_another_one_can_be_taken_off_and_is_replaced() {
        let mut fleet = sample::fleet();
        fleet.put("vocabulary", vocabulary(), "set:homelab");
        for label in ["site=home", "site=attic"] {
            fleet.put(&format!("label/b/{label}"), Value::Bool(true), "person:ana");
        }
        let picture = fleet.picture();
        let names = ["b".to_owned()].into();
        let winner = picture.machine("b").unwrap().labels.clone();
        let both = labels_of(&["site=attic", "site=home"]);
        let loser: Vec<_> = both.into_iter().filter(|l| !winner.contains(l)).collect();
        let removed = LabelEdit::remove(&picture, &names, &loser, "ana", false);
        let added = LabelEdit::add(&picture, &names, &winner, "ana", false);
        for edit in [removed, added] {
            assert_eq!(edit.ops.len(), 1, "{edit:?}");
            let after = picture.with_ops(&edit.ops);
            assert_eq!(after.machine("b").unwrap().labels, winner);
            assert!(after.issues.is_empty(), "{:?}", after.issues);
        }
    }

    #[test]
    fn a_label_from_birth_is_taken_off_and_stays_off() {
        let picture = sample::fleet().born("b", "canary").picture();
        let edit = LabelEdit::remove(
            &picture,
            &["b".into()].into(),
            &labels_of(&["canary"]),
            "ana",
            false,
        );
        assert!(
            matches!(&edit.ops[..], [Op::Set { field, .. }] if field.value == Value::Bool(false))
        );
        assert!(
            picture
                .with_ops(&edit.ops)
                .machine("b")
                .unwrap()
                .labels
                .is_empty()
        );
    }

    #[test]
    fn a_declared_label_is_left_to_its_file_unless_taken() {
        let picture = sample::fleet().set_true("label/b/canary").picture();
        let names = ["b".to_owned()].into();
        let labels = labels_of(&["canary"]);
        let edit = LabelEdit::remove(&picture, &names, &labels, "ana", false);
        assert_eq!(
            (edit.ops.len(), edit.owned[0].owner.as_str()),
            (0, "set:homelab")
        );
        let edit = LabelEdit::remove(&picture, &names, &labels, "ana", true);
        assert_eq!((edit.ops.len(), edit.owned.len()), (1, 0));
    }

    #[test]
    fn a_value_outside_the_vocabulary_is_named() {
        let mut fleet = sample::fleet();
        fleet.put("vocabulary", vocabulary(), "set:homelab");
        let picture = fleet.picture();
        let all: BTreeSet<_> = ["b".to_owned()].into();
        for (label, word) in [
            ("site=moon", "one of"),
            ("site", "needs"),
            ("canary=x", "no value"),
        ] {
            let edit = LabelEdit::add(&picture, &all, &labels_of(&[label]), "ana", false);
            assert!(
                edit.unlisted[0].contains(word),
                "{label}: {:?}",
                edit.unlisted
            );
        }
    }

    #[test]
    fn labels_in_use_are_counted() {
        let picture = sample::fleet()
            .born("b", "role=web")
            .born("c", "role=web")
            .picture();
        let rows = labels(&picture);
        assert_eq!(rows[0].values, BTreeMap::from([("role=web".to_owned(), 2)]));
    }
}
