//! What all labels together mean for one node.
//!
//! Tiers, weakest first: `all`, labels whose key is not in the vocabulary, the vocabulary in its written order,
//! groups in nesting order, the node itself. Keyed collections are united and merged field by field; the highest
//! tier wins each field. `without` removes what equal or lower tiers add. Two values of the same highest tier are
//! a conflict, unless one of their labels is `over` the other; a conflict holds back that value alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use lab_crdt_model::{Field, Issue, Label, Value};

use crate::file::FileResolved;
use crate::intent::{Attachment, Entry, Intent, Item, brief};

/// Who a node is, as far as its config depends on it.
#[derive(Clone, Debug)]
pub struct NodeFacts<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its labels, in any order.
    pub labels: &'a [Label],
    /// Values of `node.*` and `fact.*` by their full key, for templates; the first one is used.
    pub attrs: BTreeMap<String, Vec<String>>,
}

impl<'a> NodeFacts<'a> {
    /// A node with no known facts.
    pub const fn new(name: &'a str, labels: &'a [Label]) -> Self {
        Self {
            name,
            labels,
            attrs: BTreeMap::new(),
        }
    }
}

/// How strong a wish is; the greatest wins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Tier {
    /// Every node.
    All,
    /// A label whose key is not in the vocabulary.
    Unlisted,
    /// A label whose key has this place in the vocabulary.
    Vocabulary(usize),
    /// A group at this place in nesting order.
    Group(usize),
    /// The node itself.
    Node,
}

/// One wish about one value.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Claim {
    /// How strong it is.
    pub tier: Tier,
    /// Whose it is: `all`, a label such as `role=web`, a group such as `@web`, or `node nuc1`.
    pub from: String,
    /// The value, its owners and its source.
    pub field: Field,
}

/// One value and how it came about.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Resolved {
    /// The value; `None` if wishes contradict, then the last applied one stays.
    pub value: Option<Value>,
    /// The wishes that carry it, strongest first: several labels may want the same.
    pub chosen: Vec<Claim>,
    /// The wishes that lost, strongest first.
    pub beaten: Vec<Claim>,
    /// The wishes that contradict each other; empty unless `value` is `None`.
    pub conflict: Vec<Claim>,
}

/// A part of the config.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Section {
    /// Puppet classes.
    Classes,
    /// Packages.
    Packages,
    /// Parameters.
    Params,
    /// Variables.
    Vars,
    /// Files.
    Files,
    /// Alerts.
    Alerts,
    /// DNS records.
    Dns,
    /// Rollout settings.
    Rollout,
    /// Protection from destruction.
    Protect,
}

impl Section {
    /// Every section, in the order they are shown.
    pub const ALL: [Self; 9] = [
        Self::Classes,
        Self::Packages,
        Self::Params,
        Self::Vars,
        Self::Files,
        Self::Alerts,
        Self::Dns,
        Self::Rollout,
        Self::Protect,
    ];

    /// Its key in a declaration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Classes => "classes",
            Self::Packages => "packages",
            Self::Params => "params",
            Self::Vars => "vars",
            Self::Files => "files",
            Self::Alerts => "alerts",
            Self::Dns => "dns",
            Self::Rollout => "rollout",
            Self::Protect => "protect",
        }
    }
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Wishes of the same strength that contradict each other.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Conflict {
    /// In which part.
    pub section: Section,
    /// About which item.
    pub item: String,
    /// About which of its fields; empty where an item is one value.
    pub field: String,
    /// Who wants what.
    pub claims: Vec<Claim>,
}

impl Conflict {
    /// What it is about, as it is asked for: `profile::base::swappiness`, `/etc/motd content`.
    pub fn key(&self) -> String {
        if self.field.is_empty() {
            self.item.clone()
        } else {
            format!("{} {}", self.item, self.field)
        }
    }

    /// The conflict as an issue of a node.
    pub fn issue(&self, node: &str) -> Issue {
        let wishes: Vec<_> = self
            .claims
            .iter()
            .map(|c| format!("{} = {}", c.from, brief(&c.field.value)))
            .collect();
        let message = format!(
            "two wishes of the same tier disagree on {}: {}",
            self.key(),
            wishes.join("   ")
        );
        Issue::error(
            "D021",
            format!("{node} {} {}", self.section, self.key()),
            message,
        )
        .with_help(self.help(node))
    }

    /// How to settle it.
    pub fn help(&self, node: &str) -> String {
        let over = match &self.claims[..] {
            [first, .., last] => {
                format!("write  over: [{}]  under {}", first.from, last.from)
            }
            _ => "write  over: [LABEL]  under the label that should win".to_owned(),
        };
        if self.section == Section::Params {
            format!("{over}, or give {node} its own value of {}", self.item)
        } else {
            over
        }
    }
}

/// An item that a label would add and another one takes away.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Removed {
    /// From which part.
    pub section: Section,
    /// Which item.
    pub item: String,
    /// Who would add it.
    pub claims: Vec<Claim>,
    /// Whose `without` removes it.
    pub by: Claim,
}

/// The config of one node.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Effective {
    /// Puppet classes by name; the value is `true`.
    pub classes: BTreeMap<String, Resolved>,
    /// Packages by name; the value is `true`.
    pub packages: BTreeMap<String, Resolved>,
    /// Parameters by key.
    pub params: BTreeMap<String, Resolved>,
    /// Variables by name.
    pub vars: BTreeMap<String, Resolved>,
    /// Variables by the label key (or `all`) that gave them and their name, for templates: `site.zone`.
    pub scoped_vars: BTreeMap<String, Resolved>,
    /// Files by path.
    pub files: BTreeMap<String, FileResolved>,
    /// Fields of alerts by name.
    pub alerts: BTreeMap<String, BTreeMap<String, Resolved>>,
    /// Fields of DNS records by name (and type).
    pub dns: BTreeMap<String, BTreeMap<String, Resolved>>,
    /// Rollout settings by key.
    pub rollout: BTreeMap<String, Resolved>,
    /// Whether destruction is refused.
    pub protect: Resolved,
    /// What `without` took away.
    pub removed: Vec<Removed>,
    /// Contradictions, by section and item.
    pub conflicts: Vec<Conflict>,
    /// The conflicts as issues.
    pub issues: Vec<Issue>,
}

impl Effective {
    /// A hash that is equal exactly when the wanted values are equal; owners, sources and beaten wishes do not
    /// count. What a template makes of this node's facts is not part of it.
    pub fn hash(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"lab/effective/1");
        for (section, item, field, resolved) in self.values() {
            for part in [section.as_str(), item, field] {
                hasher.update(&(part.len() as u64).to_le_bytes());
                hasher.update(part.as_bytes());
            }
            let text = resolved
                .value
                .as_ref()
                .map_or("!conflict".to_owned(), Value::to_string);
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        }
        hasher.finalize().into()
    }

    /// Whether destroying this node is refused; so it is while wishes contradict.
    pub fn is_protected(&self) -> bool {
        !self.protect.conflict.is_empty()
            || self.protect.value.as_ref().and_then(Value::as_bool) == Some(true)
    }

    /// Every value with its section, item and field, in the order they are shown.
    pub fn values(&self) -> impl Iterator<Item = (Section, &str, &str, &Resolved)> {
        let single = |section, items| one_level(section, items);
        let mut out = Vec::new();
        out.extend(single(Section::Classes, &self.classes));
        out.extend(single(Section::Packages, &self.packages));
        out.extend(single(Section::Params, &self.params));
        out.extend(single(Section::Vars, &self.vars));
        for (path, file) in &self.files {
            out.extend(
                file.fields()
                    .map(|(f, r)| (Section::Files, path.as_str(), f, r)),
            );
        }
        for (section, items) in [(Section::Alerts, &self.alerts), (Section::Dns, &self.dns)] {
            for (name, fields) in items {
                out.extend(
                    fields
                        .iter()
                        .map(|(f, r)| (section, name.as_str(), f.as_str(), r)),
                );
            }
        }
        out.extend(single(Section::Rollout, &self.rollout));
        if self.protect != Resolved::default() {
            out.push((Section::Protect, "protect", "", &self.protect));
        }
        out.into_iter()
    }
}

fn one_level(
    section: Section,
    items: &BTreeMap<String, Resolved>,
) -> impl Iterator<Item = (Section, &str, &str, &Resolved)> {
    items
        .iter()
        .map(move |(name, resolved)| (section, name.as_str(), "", resolved))
}

/// Resolves the config of a node.
///
/// `groups_of_node` are the groups it belongs to, outermost first; their parameters beat those of labels.
/// The result does not depend on the order of labels or fields.
pub fn effective(intent: &Intent, node: &NodeFacts<'_>, groups_of_node: &[String]) -> Effective {
    let resolver = Resolver::new(intent, node, groups_of_node);
    let mut out = Effective::default();
    for section in [Section::Classes, Section::Packages] {
        let mut wanted = resolver.single(section, &mut out.removed);
        wanted.retain(|_, resolved| resolved.value != Some(Value::Bool(false)));
        match section {
            Section::Classes => out.classes = wanted,
            _ => out.packages = wanted,
        }
    }
    out.params = resolver.single(Section::Params, &mut out.removed);
    out.vars = resolver.single(Section::Vars, &mut out.removed);
    out.scoped_vars = resolver.scoped_vars();
    out.files = resolver
        .keyed(Section::Files, &mut out.removed)
        .into_iter()
        .map(|(path, claims)| (path, FileResolved::new(&resolver, claims)))
        .collect();
    out.alerts = resolver.keyed_fields(Section::Alerts, &mut out.removed);
    out.dns = resolver.keyed_fields(Section::Dns, &mut out.removed);
    out.rollout = resolver.single(Section::Rollout, &mut out.removed);
    let protect = resolver
        .single(Section::Protect, &mut out.removed)
        .remove("protect");
    out.protect = protect.unwrap_or_default();
    out.conflicts = out
        .values()
        .filter(|(.., resolved)| !resolved.conflict.is_empty())
        .map(|(section, item, field, resolved)| Conflict {
            section,
            item: item.to_owned(),
            field: field.to_owned(),
            claims: resolved.conflict.clone(),
        })
        .collect();
    out.issues = out
        .conflicts
        .iter()
        .map(|conflict| conflict.issue(node.name))
        .collect();
    out
}

/// The sources of wishes of one node, weakest first.
pub(crate) struct Resolver<'a> {
    layers: Vec<Layer<'a>>,
}

struct Layer<'a> {
    tier: Tier,
    from: String,
    key: &'a str,
    content: Content<'a>,
}

enum Content<'a> {
    Attachment(&'a Attachment),
    Params(&'a Item),
    Node {
        params: &'a Item,
        protect: Option<&'a Entry>,
    },
}

/// Claims by field name of one keyed item.
pub(crate) type ItemClaims = BTreeMap<String, Vec<Claim>>;

impl<'a> Resolver<'a> {
    fn new(intent: &'a Intent, node: &'a NodeFacts<'_>, groups: &[String]) -> Self {
        let mut layers = Vec::new();
        if let Some(attachment) = intent.attachments.get("all") {
            let content = Content::Attachment(attachment);
            layers.push(Layer {
                tier: Tier::All,
                from: "all".to_owned(),
                key: "all",
                content,
            });
        }
        let labels: BTreeSet<&Label> = node.labels.iter().collect();
        for label in labels {
            let from = label.to_string();
            let Some(attachment) = intent.attachments.get(&from) else {
                continue;
            };
            let tier = intent
                .strength(&label.key)
                .map_or(Tier::Unlisted, Tier::Vocabulary);
            let content = Content::Attachment(attachment);
            layers.push(Layer {
                tier,
                from,
                key: &label.key,
                content,
            });
        }
        for (place, name) in groups.iter().enumerate() {
            let Some(group) = intent.groups.get(name) else {
                continue;
            };
            let (tier, from) = (Tier::Group(place), format!("@{name}"));
            layers.push(Layer {
                tier,
                from,
                key: "",
                content: Content::Params(&group.params),
            });
        }
        if let Some(wishes) = intent.nodes.get(node.name) {
            let (tier, from) = (Tier::Node, format!("node {}", node.name));
            let content = Content::Node {
                params: &wishes.params,
                protect: wishes.attrs.get("protect"),
            };
            layers.push(Layer {
                tier,
                from,
                key: "",
                content,
            });
        }
        layers.sort_by(|a, b| (a.tier, &a.from).cmp(&(b.tier, &b.from)));
        Self { layers }
    }

    fn single(&self, section: Section, removed: &mut Vec<Removed>) -> BTreeMap<String, Resolved> {
        let mut claims = ItemClaims::new();
        for layer in &self.layers {
            for (name, entry) in layer.single(section) {
                claims
                    .entry(name.to_owned())
                    .or_default()
                    .push(layer.claim(entry));
            }
        }
        for (name, claims) in &mut claims {
            self.remove(section, name, claims, removed);
        }
        claims
            .into_iter()
            .filter(|(_, claims)| !claims.is_empty())
            .map(|(name, claims)| (name, self.settle(claims)))
            .collect()
    }

    fn scoped_vars(&self) -> BTreeMap<String, Resolved> {
        let mut all: BTreeMap<_, Vec<Claim>> = BTreeMap::new();
        for layer in self.layers.iter().filter(|layer| !layer.key.is_empty()) {
            for (name, entry) in layer.single(Section::Vars) {
                all.entry((layer.key, name))
                    .or_default()
                    .push(layer.claim(entry));
            }
        }
        for ((_, name), claims) in &mut all {
            self.remove(Section::Vars, name, claims, &mut Vec::new());
        }
        all.into_iter()
            .filter(|(_, claims)| !claims.is_empty())
            .map(|((key, name), claims)| (format!("{key}.{name}"), self.settle(claims)))
            .collect()
    }

    fn keyed(&self, section: Section, removed: &mut Vec<Removed>) -> BTreeMap<String, ItemClaims> {
        let mut items: BTreeMap<String, ItemClaims> = BTreeMap::new();
        for layer in &self.layers {
            for (name, fields) in layer.keyed(section) {
                let item = items.entry(name.clone()).or_default();
                for (field, entry) in fields {
                    item.entry(field.clone())
                        .or_default()
                        .push(layer.claim(entry));
                }
            }
        }
        for (name, item) in &mut items {
            for claims in item.values_mut() {
                self.remove(section, name, claims, removed);
            }
            item.retain(|_, claims| !claims.is_empty());
        }
        items.retain(|_, item| !item.is_empty());
        items
    }

    fn keyed_fields(
        &self,
        section: Section,
        removed: &mut Vec<Removed>,
    ) -> BTreeMap<String, BTreeMap<String, Resolved>> {
        let settle = |item: ItemClaims| {
            item.into_iter()
                .map(|(field, claims)| (field, self.settle(claims)))
                .collect()
        };
        let items = self.keyed(section, removed);
        items
            .into_iter()
            .map(|(name, item)| (name, settle(item)))
            .collect()
    }

    /// Takes away what an equal or higher tier is `without`.
    fn remove(
        &self,
        section: Section,
        item: &str,
        claims: &mut Vec<Claim>,
        removed: &mut Vec<Removed>,
    ) {
        let by = self.layers.iter().rev().find_map(|layer| {
            let Content::Attachment(attachment) = &layer.content else {
                return None;
            };
            let entry = attachment.without.get(section.as_str())?.get(item)?;
            Some(layer.claim(entry))
        });
        let Some(by) = by else { return };
        let (gone, kept) = claims
            .drain(..)
            .partition::<Vec<_>, _>(|claim| claim.tier <= by.tier);
        *claims = kept;
        if gone.is_empty() {
            return;
        }
        match removed
            .last_mut()
            .filter(|last| last.section == section && last.item == item)
        {
            Some(last) => {
                last.claims.extend(gone);
                last.claims.sort();
                last.claims
                    .dedup_by(|a, b| (a.tier, &a.from) == (b.tier, &b.from));
            }
            None => removed.push(Removed {
                section,
                item: item.to_owned(),
                claims: gone,
                by,
            }),
        }
    }

    /// Decides between the wishes about one value; at least one.
    pub(crate) fn settle(&self, mut claims: Vec<Claim>) -> Resolved {
        claims.sort_by(|a, b| b.tier.cmp(&a.tier).then_with(|| a.from.cmp(&b.from)));
        let Some(top) = claims.first().map(|claim| claim.tier) else {
            return Resolved::default();
        };
        let (mut rivals, mut beaten) = claims
            .into_iter()
            .partition::<Vec<_>, _>(|claim| claim.tier == top);
        let agree = |claims: &[Claim]| {
            claims
                .windows(2)
                .all(|w| w[0].field.value == w[1].field.value)
        };
        if !agree(&rivals) {
            let (lost, kept) = rivals.iter().cloned().partition::<Vec<_>, _>(|claim| {
                rivals
                    .iter()
                    .any(|other| self.is_over(&other.from, &claim.from))
            });
            if !kept.is_empty() {
                rivals = kept;
                beaten.splice(0..0, lost);
            }
        }
        if agree(&rivals) {
            let value = rivals.first().map(|claim| claim.field.value.clone());
            Resolved {
                value,
                chosen: rivals,
                beaten,
                conflict: Vec::new(),
            }
        } else {
            Resolved {
                value: None,
                chosen: Vec::new(),
                beaten,
                conflict: rivals,
            }
        }
    }

    fn is_over(&self, winner: &str, loser: &str) -> bool {
        self.layers.iter().any(|layer| {
            layer.from == winner
                && matches!(&layer.content, Content::Attachment(a) if a.over.iter().any(|l| l == loser))
        })
    }
}

impl<'a> Layer<'a> {
    fn claim(&self, entry: &Entry) -> Claim {
        Claim {
            tier: self.tier,
            from: self.from.clone(),
            field: entry.field.clone(),
        }
    }

    fn single(&self, section: Section) -> Vec<(&'a str, &'a Entry)> {
        let items = match (&self.content, section) {
            (Content::Attachment(a), Section::Classes) => &a.classes,
            (Content::Attachment(a), Section::Packages) => &a.packages,
            (Content::Attachment(a), Section::Params) => &a.params,
            (Content::Attachment(a), Section::Vars) => &a.vars,
            (Content::Attachment(a), Section::Rollout) => &a.rollout,
            (Content::Attachment(a), Section::Protect) => {
                return a.protect.iter().map(|entry| ("protect", entry)).collect();
            }
            (Content::Params(params) | Content::Node { params, .. }, Section::Params) => params,
            (Content::Node { protect, .. }, Section::Protect) => {
                return protect.iter().map(|entry| ("protect", *entry)).collect();
            }
            _ => return Vec::new(),
        };
        items
            .iter()
            .map(|(name, entry)| (name.as_str(), entry))
            .collect()
    }

    fn keyed(&self, section: Section) -> impl Iterator<Item = (&'a String, &'a Item)> {
        let items = match (&self.content, section) {
            (Content::Attachment(a), Section::Files) => Some(&a.files),
            (Content::Attachment(a), Section::Alerts) => Some(&a.alerts),
            (Content::Attachment(a), Section::Dns) => Some(&a.dns),
            _ => None,
        };
        items.into_iter().flatten()
    }
}

#[cfg(test)]
mod tests;
