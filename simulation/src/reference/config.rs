//! What files a machine should have, from its labels and the standing fields: a slow second opinion.
//!
//! Modelled are labels, the vocabulary, and of what hangs on `all` and on labels: files, parameters, variables,
//! `over` and `without`; and the parameters of a node itself. Groups with parameters are not: [`files`] then
//! returns `None`.

use std::collections::{BTreeMap, BTreeSet};

use lab_crdt_model::limit::VALUE_BYTES_MAX;
use lab_crdt_model::view::FieldView;
use lab_crdt_model::{Hlc, Label, StatementId, Value};

/// What should become of one file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum File {
    /// It has this content.
    Content(Vec<u8>),
    /// It stays as it is, whatever that is: labels disagree, or it cannot be made.
    Held,
}

/// One wish: how strong, whose, what.
type Wish = (usize, String, Value);

/// What stands, by raw segments of its path.
struct Standing<'a>(Vec<(Vec<String>, &'a Value, (Hlc, StatementId))>);

impl<'a> Standing<'a> {
    fn of(fields: &'a [FieldView]) -> Self {
        let rows = fields.iter().filter_map(|f| {
            let first = f.candidates.first()?;
            let path = f.path.segments().map(|s| s.into_owned()).collect();
            Some((path, &first.field.value, (first.at, first.statement)))
        });
        Self(rows.collect())
    }

    fn get(&self, path: &[&str]) -> Option<&'a Value> {
        self.0.iter().find(|(p, ..)| p == path).map(|(_, v, _)| *v)
    }

    /// The rest of every path below a prefix, with its value.
    fn below<'s>(
        &'s self,
        prefix: &[&str],
    ) -> impl Iterator<Item = (&'s [String], &'a Value)> + use<'s, 'a> {
        let length = prefix.len();
        let prefix: Vec<String> = prefix.iter().map(|s| (*s).to_owned()).collect();
        self.0
            .iter()
            .filter(move |(path, ..)| path.len() > length && path[..length] == prefix)
            .map(move |(path, value, _)| (&path[length..], *value))
    }

    /// Label keys by strength, with whether they take one value only.
    fn vocabulary(&self) -> Vec<(String, bool)> {
        let Some(Value::List(items)) = self.get(&["vocabulary"]) else {
            return Vec::new();
        };
        let term = |item: &Value| {
            let map = item.as_map()?;
            let key = map.get("key")?.as_text()?;
            let key = lab_crdt_model::label::is_key(key).then(|| key.to_owned())?;
            let is_one_of = match map.get("one-of") {
                None => false,
                Some(Value::List(values)) if values.iter().all(|v| v.as_text().is_some()) => true,
                Some(_) => return None,
            };
            Some((key, is_one_of))
        };
        let terms: Option<Vec<_>> = items.iter().map(term).collect();
        terms.unwrap_or_default()
    }

    /// The labels of a machine: those it was born with, and what was written since.
    fn labels(&self, name: &str, birth: &[String]) -> BTreeSet<Label> {
        type Rank = (bool, Option<(Hlc, StatementId)>);
        let mut have: BTreeMap<Label, Rank> = BTreeMap::new();
        for label in birth.iter().filter_map(|text| text.parse().ok()) {
            have.insert(label, (false, None));
        }
        for (path, value, stamp) in &self.0 {
            let [kind, whose, text] = &path[..] else {
                continue;
            };
            let label: Option<Label> = text.parse().ok();
            let Some(label) = label.filter(|_| kind == "label" && whose == name) else {
                continue;
            };
            match value {
                Value::Bool(true) => drop(have.insert(label, (true, Some(*stamp)))),
                Value::Bool(false) => drop(have.remove(&label)),
                _ => {}
            }
        }
        for (key, _) in self.vocabulary().into_iter().filter(|(_, one)| *one) {
            let rivals = have.iter().filter(|(label, _)| label.key == key);
            let winner = rivals.max_by_key(|(label, rank)| (**rank, (*label).clone()));
            if let Some(winner) = winner.map(|(label, _)| label.clone()) {
                have.retain(|label, _| label.key != key || *label == winner);
            }
        }
        have.into_keys().collect()
    }
}

/// Everything that speaks for one machine: strength, name in `over`, prefix of its fields.
struct Layers<'a> {
    standing: Standing<'a>,
    on: Vec<(usize, String)>,
    node: String,
}

const NODE: usize = usize::MAX;

impl Layers<'_> {
    /// Wishes about `SECTION/ITEM` or `SECTION/ITEM/FIELD`, without those that are taken away.
    fn wishes(&self, section: &str, rest: &[&str]) -> Vec<Wish> {
        let mut out = Vec::new();
        for (tier, label) in &self.on {
            let path = [&["on", label, section], rest].concat();
            if let Some(value) = self.standing.get(&path) {
                out.push((*tier, label.clone(), value.clone()));
            }
        }
        let without = self
            .on
            .iter()
            .filter(|(_, label)| {
                let path = ["on", label, "without", section, rest[0]];
                self.standing.get(&path) == Some(&Value::Bool(true))
            })
            .map(|(tier, _)| *tier)
            .max();
        if section == "params" && rest.len() == 1 {
            let path = ["node", &self.node, "params", rest[0]];
            if let Some(value) = self.standing.get(&path) {
                out.push((NODE, format!("node {}", self.node), value.clone()));
            }
        }
        out.retain(|(tier, ..)| without.is_none_or(|without| *tier > without));
        out
    }

    fn is_over(&self, winner: &str, loser: &str) -> bool {
        let list = self.standing.get(&["on", winner, "over"]);
        let Some(Value::List(items)) = list.filter(|_| self.on.iter().any(|(_, l)| l == winner))
        else {
            return false;
        };
        let texts: Option<Vec<&str>> = items.iter().map(Value::as_text).collect();
        texts.is_some_and(|texts| texts.contains(&loser))
    }

    /// The value that wins; `Err` when labels disagree, `None` when nobody wants anything.
    fn settle(&self, wishes: &[Wish]) -> Result<Option<Value>, ()> {
        let Some(top) = wishes.iter().map(|(tier, ..)| *tier).max() else {
            return Ok(None);
        };
        let rivals: Vec<&Wish> = wishes.iter().filter(|(tier, ..)| *tier == top).collect();
        let agree = |rivals: &[&Wish]| rivals.iter().all(|(_, _, v)| *v == rivals[0].2);
        if agree(&rivals) {
            return Ok(Some(rivals[0].2.clone()));
        }
        let kept: Vec<&Wish> = rivals
            .iter()
            .filter(|(_, from, _)| !rivals.iter().any(|(_, other, _)| self.is_over(other, from)))
            .copied()
            .collect();
        if !kept.is_empty() && agree(&kept) {
            Ok(Some(kept[0].2.clone()))
        } else {
            Err(())
        }
    }

    /// The text that stands for a placeholder; `None` when there is none.
    fn lookup(&self, name: &str) -> Option<String> {
        if name == "node.name" {
            return Some(self.node.clone());
        }
        let (space, rest) = name.split_once('.')?;
        let wishes = match space {
            "node" | "fact" => return None,
            "params" | "vars" => self.wishes(space, &[rest]),
            key => {
                let is_of = |from: &str| {
                    from == "all" && key == "all"
                        || from.parse::<Label>().is_ok_and(|label| label.key == key)
                };
                let mut wishes = self.wishes("vars", &[rest]);
                wishes.retain(|(_, from, _)| is_of(from));
                wishes
            }
        };
        match self.settle(&wishes).ok()?? {
            Value::Text(text) => Some(text),
            value @ (Value::Bool(_) | Value::Int(_) | Value::Decimal(_)) => Some(value.to_string()),
            Value::Null | Value::List(_) | Value::Map(_) => None,
        }
    }

    /// A template filled in, character by character.
    fn fill(&self, template: &str) -> Option<String> {
        let mut out = String::new();
        let mut rest = template;
        while let Some(c) = rest.chars().next() {
            let after = &rest[c.len_utf8()..];
            if c != '{' {
                out.push(c);
                rest = after;
            } else if let Some(after) = after.strip_prefix('{') {
                out.push('{');
                rest = after;
            } else if let Some(name) = name_of(after) {
                out.push_str(&self.lookup(name)?);
                rest = &after[name.len() + 1..];
            } else {
                out.push('{');
                rest = after;
            }
        }
        Some(out)
    }

    fn file(&self, path: &str) -> File {
        self.content(path).map_or(File::Held, File::Content)
    }

    fn content(&self, path: &str) -> Option<Vec<u8>> {
        let mut bodies = Vec::new();
        for kind in ["content", "template"] {
            for (tier, from, value) in self.wishes("files", &[path, kind]) {
                bodies.push((tier, from, Value::List(vec![Value::text(kind), value])));
            }
        }
        let body = self.settle(&bodies).ok()??;
        let [kind, Value::Text(text)] = body.as_list()? else {
            return None;
        };
        let content = if kind.as_text() == Some("template") {
            self.fill(text)?
        } else {
            text.clone()
        };
        let is_octal = |t: &str| {
            matches!(t.len(), 3 | 4)
                && t.bytes().all(|b| b"01234567".contains(&b))
                && (t.len() == 3 || t.starts_with('0'))
        };
        let mode = self.settle(&self.wishes("files", &[path, "mode"])).ok()?;
        let owner = self.settle(&self.wishes("files", &[path, "owner"])).ok()?;
        let is_mode = mode.is_none_or(|m| m.as_text().is_some_and(is_octal));
        let is_owner = owner.is_none_or(|o| o.as_text().is_some_and(is_owner));
        let is_fine = is_mode && is_owner && is_path(path) && content.len() <= VALUE_BYTES_MAX;
        is_fine.then(|| content.into_bytes())
    }
}

/// The name up to a closing brace, if it is one.
fn name_of(text: &str) -> Option<&str> {
    let (name, _) = text.split_once('}')?;
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_.-:/".contains(&b));
    is_name.then_some(name)
}

fn is_owner(text: &str) -> bool {
    let mut parts = text.splitn(2, ':');
    parts.all(|part| {
        (1..=32).contains(&part.len())
            && part.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
    })
}

fn is_path(path: &str) -> bool {
    path.len() <= 4096
        && !path.chars().any(char::is_control)
        && path
            .strip_prefix('/')
            .is_some_and(|rest| rest.split('/').all(|part| !matches!(part, "" | "." | "..")))
}

/// The files of a machine by path; `None` when something stands that is not modelled here.
///
/// `birth` are the labels that it was let in with, `fields` what stands, the value in force first.
pub fn files(name: &str, birth: &[String], fields: &[FieldView]) -> Option<BTreeMap<String, File>> {
    let standing = Standing::of(fields);
    let has_params = |(rest, _): (&[String], &Value)| rest.get(1).is_some_and(|s| s == "params");
    if standing.below(&["group"]).any(has_params) {
        return None;
    }
    let vocabulary = standing.vocabulary();
    let mut on = vec![(0, "all".to_owned())];
    for label in standing.labels(name, birth) {
        let place = vocabulary.iter().position(|(key, _)| *key == label.key);
        on.push((place.map_or(1, |place| place + 2), label.to_string()));
    }
    let mut paths: BTreeSet<String> = BTreeSet::new();
    for (_, label) in &on {
        for (rest, _) in standing.below(&["on", label, "files"]) {
            if let [path, _field] = rest {
                paths.insert(path.clone());
            }
        }
    }
    let layers = Layers {
        standing,
        on,
        node: name.to_owned(),
    };
    let wanted = |path: &String| {
        // An item all of whose fields are taken away is not declared.
        let fields: BTreeSet<String> = layers
            .on
            .iter()
            .flat_map(|(_, label)| layers.standing.below(&["on", label, "files", path]))
            .map(|(rest, _)| rest[0].clone())
            .collect();
        fields
            .iter()
            .any(|field| !layers.wishes("files", &[path, field]).is_empty())
    };
    let declared = paths.into_iter().filter(wanted);
    Some(declared.map(|p| (p.clone(), layers.file(&p))).collect())
}

#[cfg(test)]
mod tests;
