//! The typed view of the standing fields, and the labels of a node.

use std::collections::{BTreeMap, BTreeSet};

use lab_crdt_model::label::is_key;
use lab_crdt_model::{Field, Hlc, Issue, Label, Path, Severity, SpanError, StatementId, Value};
use lab_crdt_selector::Group;

/// A standing field as [`read`] takes it.
///
/// Made from `(path, field, others)`, or from `(path, field, others, (at, statement))` where it is known who wrote
/// last; without a stamp a contradiction between labels is settled by the order of their texts.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    /// Where.
    pub path: &'a Path,
    /// What is in force.
    pub field: &'a Field,
    /// What was written at the same time by someone who could not see it.
    pub others: &'a [Field],
    /// When and by which statement `field` was written.
    pub stamp: Option<(Hlc, StatementId)>,
}

impl<'a> From<(&'a Path, &'a Field, &'a [Field])> for Standing<'a> {
    fn from((path, field, others): (&'a Path, &'a Field, &'a [Field])) -> Self {
        Self {
            path,
            field,
            others,
            stamp: None,
        }
    }
}

impl<'a> From<(&'a Path, &'a Field, &'a [Field], (Hlc, StatementId))> for Standing<'a> {
    fn from(
        (path, field, others, stamp): (&'a Path, &'a Field, &'a [Field], (Hlc, StatementId)),
    ) -> Self {
        Self {
            path,
            field,
            others,
            stamp: Some(stamp),
        }
    }
}

/// A field that says something, with its place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Where it stands.
    pub path: Path,
    /// The value in force, its owners and its source.
    pub field: Field,
    /// Different values written at the same time; empty when nobody disagreed.
    pub others: Vec<Field>,
}

impl Entry {
    /// The value as text, if it is one.
    pub fn text(&self) -> Option<&str> {
        self.field.value.as_text()
    }

    /// The value as people read it: text without quotes.
    pub fn shown(&self) -> String {
        self.text()
            .map_or_else(|| self.field.value.to_string(), str::to_owned)
    }
}

/// Fields of one item by name; nested names are joined by `/` (`per/aws/instance`).
pub type Item = BTreeMap<String, Entry>;

/// A label key of the vocabulary.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Term {
    /// The key.
    pub key: String,
    /// Which values it takes.
    pub kind: TermKind,
    /// What holding it entitles to, for example `secrets`.
    pub privileged: Option<String>,
}

/// Which values a label key takes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum TermKind {
    /// One of these, never two at a time.
    OneOf(Vec<String>),
    /// Any values, several at a time.
    Many,
    /// No value: it is there or not.
    Flag,
}

impl Term {
    /// Reads one item of the `vocabulary` field; `None` if it is not one.
    pub fn from_value(value: &Value) -> Option<Self> {
        let map = value.as_map()?;
        let key = map.get("key")?.as_text().filter(|k| is_key(k))?.to_owned();
        let kind = if let Some(values) = map.get("one-of") {
            let values = values
                .as_list()?
                .iter()
                .map(|v| v.as_text().map(str::to_owned));
            TermKind::OneOf(values.collect::<Option<_>>()?)
        } else if map.get("flag").and_then(Value::as_bool) == Some(true) {
            TermKind::Flag
        } else {
            TermKind::Many
        };
        let privileged = map
            .get("privileged")
            .and_then(Value::as_text)
            .map(str::to_owned);
        Some(Self {
            key,
            kind,
            privileged,
        })
    }

    /// The item of the `vocabulary` field.
    pub fn to_value(&self) -> Value {
        let mut map = BTreeMap::from([("key".to_owned(), Value::text(&self.key))]);
        match &self.kind {
            TermKind::OneOf(values) => {
                let values = values.iter().map(Value::text).collect();
                map.insert("one-of".to_owned(), Value::List(values));
            }
            TermKind::Many => _ = map.insert("many".to_owned(), Value::Bool(true)),
            TermKind::Flag => _ = map.insert("flag".to_owned(), Value::Bool(true)),
        }
        if let Some(privileged) = &self.privileged {
            map.insert("privileged".to_owned(), Value::text(privileged));
        }
        Value::Map(map)
    }
}

/// What hangs on a label.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Attachment {
    /// Puppet classes by name; `true` adds.
    pub classes: Item,
    /// Packages by name; `true` adds.
    pub packages: Item,
    /// Parameters by key.
    pub params: Item,
    /// Variables by name.
    pub vars: Item,
    /// Fields of files by path.
    pub files: BTreeMap<String, Item>,
    /// Fields of alerts by name.
    pub alerts: BTreeMap<String, Item>,
    /// Fields of DNS records by name, followed by a space and the type when that is not `A`.
    pub dns: BTreeMap<String, Item>,
    /// Rollout settings by key.
    pub rollout: Item,
    /// Whether destruction is refused.
    pub protect: Option<Entry>,
    /// Labels of the same tier that this one beats.
    pub over: Vec<String>,
    /// What is removed, by section, then item.
    pub without: BTreeMap<String, Item>,
}

/// A group.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GroupIntent {
    /// Query of those that belong to it.
    pub include: Option<Entry>,
    /// Query of those that do not.
    pub exclude: Option<Entry>,
    /// Nodes that belong to it by name.
    pub members: BTreeSet<String>,
    /// Parameters of its nodes.
    pub params: Item,
}

/// A declared node.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NodeIntent {
    /// Whether `node/NAME` itself stands; without it only single attributes were set.
    pub is_declared: bool,
    /// `provider`, `profile`, `mac`, `host`, `image`, `expect`, `protect`.
    pub attrs: Item,
    /// Parameters settled for this node.
    pub params: Item,
}

/// What one field says about a label of a node.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct LabelWish {
    /// Which label.
    pub label: Label,
    /// There, or taken away.
    pub is_on: bool,
    /// When and by which statement it was written.
    pub stamp: Option<(Hlc, StatementId)>,
}

/// All intent, typed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Intent {
    /// Label keys, weakest first.
    pub vocabulary: Vec<Term>,
    /// Wishes about labels by node (or cluster), ordered by label.
    pub labels: BTreeMap<String, Vec<LabelWish>>,
    /// What hangs on labels, by label text or `all`.
    pub attachments: BTreeMap<String, Attachment>,
    /// Groups by name.
    pub groups: BTreeMap<String, GroupIntent>,
    /// Sizes by name; see [`Intent::profile`] for `extends`.
    pub profiles: BTreeMap<String, Item>,
    /// Nodes by name.
    pub nodes: BTreeMap<String, NodeIntent>,
    /// Providers by name.
    pub providers: BTreeMap<String, Item>,
    /// Secrets by name; never values.
    pub secrets: BTreeMap<String, Item>,
    /// DNS zones by name.
    pub zones: BTreeMap<String, Item>,
    /// Clusters by name.
    pub clusters: BTreeMap<String, Item>,
    /// Stacks by name.
    pub stacks: BTreeMap<String, Item>,
    /// Manifests by name.
    pub manifests: BTreeMap<String, Item>,
    /// Declaration sets and where they came from.
    pub sets: BTreeMap<String, Value>,
}

/// Reads standing fields as typed intent.
///
/// Never fails: a field that is not understood is left out and reported, so one bad field cannot blind a node.
/// The result does not depend on the order of `fields`. A node that only needs its own config may leave out
/// `label/…` fields of others.
pub fn read<'a, S: Into<Standing<'a>>>(
    fields: impl IntoIterator<Item = S>,
) -> (Intent, Vec<Issue>) {
    let mut intent = Intent::default();
    let mut issues = Vec::new();
    for standing in fields {
        intent.take(standing.into(), &mut issues);
    }
    for wishes in intent.labels.values_mut() {
        wishes.sort();
    }
    issues.sort();
    (intent, issues)
}

impl Intent {
    /// The strength of a label key: its place in the vocabulary, `None` if it is not listed.
    pub fn strength(&self, key: &str) -> Option<usize> {
        self.vocabulary.iter().position(|term| term.key == key)
    }

    /// The vocabulary entry of a label key.
    pub fn term(&self, key: &str) -> Option<&Term> {
        self.vocabulary.iter().find(|term| term.key == key)
    }

    /// The groups for a targeting fleet. A query that cannot be read leaves its half of the group empty: a group
    /// whose `exclude` cannot be read gets no members at all, so nothing is hit that was meant to be left out.
    pub fn selector_groups(&self) -> (BTreeMap<String, Group>, Vec<Issue>) {
        let mut issues = Vec::new();
        let mut groups = BTreeMap::new();
        for (name, group) in &self.groups {
            let mut query = |entry: &Option<Entry>| -> Result<_, SpanError> {
                let Some(text) = entry.as_ref().and_then(Entry::text) else {
                    return Ok(None);
                };
                lab_crdt_selector::parse(text).map(Some).inspect_err(|e| {
                    let issue = Issue::error(e.code, format!("group/{name}"), e.message.clone());
                    issues.push(issue.with_help(e.help.clone()));
                })
            };
            let (include, exclude) = (query(&group.include), query(&group.exclude));
            let read = match (include, exclude) {
                (include, Ok(exclude)) => {
                    let include = include.unwrap_or_default();
                    Group {
                        include,
                        exclude,
                        members: group.members.clone(),
                    }
                }
                (_, Err(_)) => Group {
                    include: None,
                    exclude: None,
                    members: BTreeSet::new(),
                },
            };
            groups.insert(name.clone(), read);
        }
        (groups, issues)
    }

    /// The fields of a profile together with those it extends; nearer ones win. Circles and unknown bases end
    /// the chain and are reported.
    pub fn profile(&self, name: &str) -> (Item, Vec<Issue>) {
        let (mut item, mut issues) = (Item::new(), Vec::new());
        let mut seen = BTreeSet::new();
        let mut at = name;
        loop {
            if !seen.insert(at) {
                let message = format!("profile `{name}` extends itself");
                issues.push(Issue::error("D018", format!("profile/{name}"), message));
                break;
            }
            let Some(fields) = self.profiles.get(at) else {
                let message = format!("there is no profile `{at}`");
                issues.push(Issue::error("D017", format!("profile/{name}"), message));
                break;
            };
            for (key, entry) in fields {
                item.entry(key.clone()).or_insert_with(|| entry.clone());
            }
            match fields.get("extends").and_then(Entry::text) {
                Some(base) => at = base,
                None => break,
            }
        }
        item.remove("extends");
        (item, issues)
    }

    fn take(&mut self, standing: Standing<'_>, issues: &mut Vec<Issue>) {
        let segments: Vec<_> = standing.path.segments().collect();
        let segments: Vec<&str> = segments.iter().map(AsRef::as_ref).collect();
        let entry = || entry(standing);
        match self.place(&segments, standing, entry) {
            Ok(()) => {
                let others = disagreeing(standing);
                if !others.is_empty() {
                    issues.push(concurrent(standing, &others));
                }
            }
            Err(why) => {
                let issue = Issue::new(
                    "D026",
                    why.severity(),
                    standing.path.as_str(),
                    why.to_string(),
                );
                issues.push(issue);
            }
        }
    }

    fn place(
        &mut self,
        segments: &[&str],
        standing: Standing<'_>,
        entry: impl Fn() -> Entry,
    ) -> Result<(), Unread> {
        let value = &standing.field.value;
        let flag = || value.as_bool().ok_or(Unread::Type("true or false"));
        match segments {
            ["label", node, label] => {
                let label = label.parse().ok().ok_or(Unread::Name("a label"))?;
                let wish = LabelWish {
                    label,
                    is_on: flag()?,
                    stamp: standing.stamp,
                };
                self.labels
                    .entry((*node).to_owned())
                    .or_default()
                    .push(wish);
            }
            ["node", node] => {
                let is_declared = flag()?;
                self.nodes
                    .entry((*node).to_owned())
                    .or_default()
                    .is_declared = is_declared;
            }
            ["node", node, "params", key] => {
                let node = self.nodes.entry((*node).to_owned()).or_default();
                node.params.insert((*key).to_owned(), entry());
            }
            ["node", node, attr] => {
                let node = self.nodes.entry((*node).to_owned()).or_default();
                node.attrs.insert((*attr).to_owned(), entry());
            }
            ["on", label, rest @ ..] => {
                if *label != "all" && label.parse::<Label>().is_err() {
                    return Err(Unread::Name("a label"));
                }
                let attachment = self.attachments.entry((*label).to_owned()).or_default();
                attachment.place(rest, value, entry)?;
            }
            ["group", name, rest @ ..] => {
                let group = self.groups.entry((*name).to_owned()).or_default();
                match rest {
                    [] => _ = flag()?,
                    ["include"] => group.include = Some(text(value, entry)?),
                    ["exclude"] => group.exclude = Some(text(value, entry)?),
                    ["members", node] => {
                        if flag()? {
                            group.members.insert((*node).to_owned());
                        }
                    }
                    ["params", key] => _ = group.params.insert((*key).to_owned(), entry()),
                    _ => return Err(Unread::Unknown),
                }
            }
            ["profile", name, rest @ ..] => item(&mut self.profiles, name, rest, entry),
            ["provider", name, rest @ ..] => item(&mut self.providers, name, rest, entry),
            ["secret", name, rest @ ..] => item(&mut self.secrets, name, rest, entry),
            ["cluster", name, rest @ ..] => item(&mut self.clusters, name, rest, entry),
            ["stack", name, rest @ ..] => item(&mut self.stacks, name, rest, entry),
            ["manifest", name, rest @ ..] => item(&mut self.manifests, name, rest, entry),
            ["dns", "zones", zone, rest @ ..] => item(&mut self.zones, zone, rest, entry),
            ["vocabulary"] => {
                let items = value.as_list().ok_or(Unread::Type("a list"))?;
                let terms = items.iter().map(Term::from_value).collect::<Option<_>>();
                self.vocabulary = terms.ok_or(Unread::Type("a list of label keys"))?;
            }
            ["set", name] => _ = self.sets.insert((*name).to_owned(), value.clone()),
            _ => return Err(Unread::Unknown),
        }
        Ok(())
    }
}

impl Attachment {
    fn place(
        &mut self,
        rest: &[&str],
        value: &Value,
        entry: impl Fn() -> Entry,
    ) -> Result<(), Unread> {
        let flag = || value.as_bool().ok_or(Unread::Type("true or false"));
        match rest {
            [] => _ = flag()?,
            ["classes", name] => {
                flag()?;
                self.classes.insert((*name).to_owned(), entry());
            }
            ["packages", name] => {
                flag()?;
                self.packages.insert((*name).to_owned(), entry());
            }
            ["params", key] => _ = self.params.insert((*key).to_owned(), entry()),
            ["vars", key] => _ = self.vars.insert((*key).to_owned(), entry()),
            ["files", path, field] => keyed(&mut self.files, path, field, entry),
            ["alerts", name, field] => keyed(&mut self.alerts, name, field, entry),
            ["dns", name, field] => keyed(&mut self.dns, name, field, entry),
            ["rollout", key] => _ = self.rollout.insert((*key).to_owned(), entry()),
            ["protect"] => {
                flag()?;
                self.protect = Some(entry());
            }
            ["over"] => {
                let labels = value.as_list().ok_or(Unread::Type("a list of labels"))?;
                let labels = labels.iter().map(|v| v.as_text().map(str::to_owned));
                let labels = labels.collect::<Option<_>>();
                self.over = labels.ok_or(Unread::Type("a list of labels"))?;
            }
            ["without", section, name] => {
                if flag()? {
                    keyed(&mut self.without, section, name, entry);
                }
            }
            _ => return Err(Unread::Unknown),
        }
        Ok(())
    }
}

/// The labels of a member: those it was born with, and what the fields `label/MEMBER/…` add and take away.
///
/// Of a `one-of` key one value stays: the one written last (a birth label counts as written first), by stamp, then
/// by statement, then by text. That two stand is reported as a state; nothing fails. Sorted.
pub fn labels_of(intent: &Intent, member_name: &str, birth: &[String]) -> (Vec<Label>, Vec<Issue>) {
    let mut issues = Vec::new();
    let mut labels: BTreeMap<Label, Option<(Hlc, StatementId)>> = BTreeMap::new();
    let mut written: BTreeSet<Label> = BTreeSet::new();
    for text in birth {
        match text.parse::<Label>() {
            Ok(label) => _ = labels.insert(label, None),
            Err(e) => issues.push(Issue::warning("D013", member_name, e.to_string())),
        }
    }
    for wish in intent.labels.get(member_name).into_iter().flatten() {
        if wish.is_on {
            labels.insert(wish.label.clone(), wish.stamp);
            written.insert(wish.label.clone());
        } else {
            labels.remove(&wish.label);
        }
    }
    for term in &intent.vocabulary {
        let TermKind::OneOf(_) = term.kind else {
            continue;
        };
        let mut rivals: Vec<_> = labels
            .iter()
            .filter(|(label, _)| label.key == term.key)
            .map(|(label, stamp)| ((written.contains(label), *stamp), label.clone()))
            .collect();
        rivals.sort();
        let Some((_, winner)) = rivals.pop() else {
            continue;
        };
        if rivals.is_empty() {
            continue;
        }
        let losers: Vec<String> = rivals
            .iter()
            .map(|(_, label)| format!("`{label}`"))
            .collect();
        let losers = losers.join(", ");
        let message = format!(
            "`{member_name}` has more than one value of `{}`: `{winner}` counts, {losers} does not",
            term.key
        );
        let first = &rivals[0].1;
        issues.push(
            Issue::warning("D022", Path::label(member_name, &winner).as_str(), message)
                .with_help(format!("lab label rm {first} -t {member_name}")),
        );
        for (_, label) in rivals {
            labels.remove(&label);
        }
    }
    (labels.into_keys().collect(), issues)
}

/// Why a field was left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
enum Unread {
    /// Written by a newer version, or not ours.
    #[error("this version does not know what this field means; it is kept and left out")]
    Unknown,
    /// The value has the wrong type.
    #[error("expected {0} here; the field is left out")]
    Type(&'static str),
    /// A name inside the path is not one.
    #[error("expected the name of {0} in the path; the field is left out")]
    Name(&'static str),
}

impl Unread {
    const fn severity(self) -> Severity {
        match self {
            Self::Unknown => Severity::Info,
            Self::Type(_) | Self::Name(_) => Severity::Warning,
        }
    }
}

fn entry(standing: Standing<'_>) -> Entry {
    let others = disagreeing(standing).into_iter().cloned().collect();
    Entry {
        path: standing.path.clone(),
        field: standing.field.clone(),
        others,
    }
}

fn disagreeing(standing: Standing<'_>) -> Vec<&Field> {
    standing
        .others
        .iter()
        .filter(|other| other.value != standing.field.value)
        .collect()
}

fn concurrent(standing: Standing<'_>, others: &[&Field]) -> Issue {
    let owner = standing.field.owners.join(", ");
    let others: Vec<_> = others
        .iter()
        .map(|other| format!("{} ({})", brief(&other.value), other.owners.join(", ")))
        .collect();
    let message = format!(
        "written at the same time: {} ({owner}) counts, {} does not",
        brief(&standing.field.value),
        others.join(", "),
    );
    Issue::warning("D023", standing.path.as_str(), message)
        .with_help("write the value you want once more; that settles it")
}

/// A value on one line of at most 48 characters, lists and maps as in a declaration.
pub(crate) fn brief(value: &Value) -> String {
    let mut text = String::new();
    write_brief(value, &mut text);
    if text.chars().count() > 48 {
        text = text.chars().take(47).chain(['…']).collect();
    }
    text
}

fn write_brief(value: &Value, out: &mut String) {
    if out.len() > 256 {
        return;
    }
    match value {
        Value::Text(text) if !text.is_empty() && !text.contains(char::is_control) => {
            out.extend(text.chars().take(64));
        }
        Value::List(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                out.push_str(if i > 0 { ", " } else { "" });
                write_brief(item, out);
            }
            out.push(']');
        }
        Value::Map(map) => {
            out.push('{');
            for (i, (key, value)) in map.iter().enumerate() {
                out.push_str(if i > 0 { ", " } else { "" });
                out.push_str(key);
                out.push_str(": ");
                write_brief(value, out);
            }
            out.push('}');
        }
        Value::Text(_) | Value::Null | Value::Bool(_) | Value::Int(_) | Value::Decimal(_) => {
            out.extend(value.to_string().chars().take(64));
        }
    }
}

fn text(value: &Value, entry: impl Fn() -> Entry) -> Result<Entry, Unread> {
    value.as_text().map(|_| entry()).ok_or(Unread::Type("text"))
}

fn item(items: &mut BTreeMap<String, Item>, name: &str, rest: &[&str], entry: impl Fn() -> Entry) {
    let item = items.entry(name.to_owned()).or_default();
    if !rest.is_empty() {
        item.insert(rest.join("/"), entry());
    }
}

fn keyed(items: &mut BTreeMap<String, Item>, name: &str, field: &str, entry: impl Fn() -> Entry) {
    items
        .entry(name.to_owned())
        .or_default()
        .insert(field.to_owned(), entry());
}

#[cfg(test)]
mod tests;
