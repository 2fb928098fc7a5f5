//! The nodes and groups that queries are about, indexed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::OnceLock;

use lab_crdt_model::Label;

use crate::ast::{Expr, Node};
use crate::bits::Bits;
use crate::eval::Tri;
use crate::glob::{GLOB_STATES_MAX, Glob, is_glob};
use crate::quantity::{is_observed, is_trusted};

/// How much a query may rely on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trust {
    /// Everything, observations too.
    Any,
    /// Only what operators and tokens declared: labels, names, and groups made of these. For
    /// secrets, executors, approvals and scopes.
    Trusted,
}

/// A node as queries see it, borrowed.
#[derive(Clone, Debug)]
pub struct Target<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its labels; a label without value has the value `""`.
    pub labels: &'a [Label],
    /// Observed values by key: `node.…`, `fact.…`, `status.…`. Other keys and `node.name` are
    /// ignored.
    pub attrs: BTreeMap<String, Vec<String>>,
    /// The node it is a guest of.
    pub host: Option<&'a str>,
    /// What it uses, as `secret/NAME` or `class/NAME`.
    pub uses: BTreeSet<String>,
}

/// A node as queries see it, owned. See [`Target`] for the fields.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct OwnedTarget {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: Vec<Label>,
    /// Observed values by key.
    pub attrs: BTreeMap<String, Vec<String>>,
    /// The node it is a guest of.
    pub host: Option<String>,
    /// What it uses.
    pub uses: BTreeSet<String>,
}

impl From<Target<'_>> for OwnedTarget {
    fn from(target: Target<'_>) -> Self {
        Self {
            name: target.name.to_owned(),
            labels: target.labels.to_vec(),
            attrs: target.attrs,
            host: target.host.map(str::to_owned),
            uses: target.uses,
        }
    }
}

/// A named query: (`include` ∪ `members`) without `exclude`.
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// Nodes that belong to it.
    pub include: Option<Expr>,
    /// Nodes that do not, whatever else says so.
    pub exclude: Option<Expr>,
    /// Names of nodes that belong to it; unknown names are ignored.
    pub members: BTreeSet<String>,
}

impl Group {
    pub(crate) fn exprs(&self) -> impl Iterator<Item = &Expr> {
        self.include.iter().chain(&self.exclude)
    }
}

/// The nodes and groups of a mesh, indexed by label.
///
/// The index is kept up to date by [`Fleet::upsert`] and [`Fleet::remove`]; the nodes of a group
/// are found once after each change. Groups that refer to each other in a circle, and those that
/// refer to such groups, have unknown members: neither they nor their negation select anything.
#[derive(Debug, Default)]
pub struct Fleet {
    pub(crate) nodes: Vec<Option<OwnedTarget>>,
    pub(crate) by_name: BTreeMap<String, u32>,
    /// Order of `sample`, by slot.
    pub(crate) ranks: Vec<u64>,
    pub(crate) live: Bits,
    /// Key → value → slots in ascending order.
    pub(crate) index: BTreeMap<String, BTreeMap<String, Vec<u32>>>,
    pub(crate) uses: BTreeMap<String, Vec<u32>>,
    pub(crate) groups: BTreeMap<String, GroupState>,
    pub(crate) extra_keys: BTreeSet<String>,
    free: Vec<u32>,
}

/// A group and what was found out about it.
#[derive(Debug)]
pub(crate) struct GroupState {
    pub(crate) group: Group,
    /// Existing groups it refers to.
    pub(crate) refers_to: BTreeSet<String>,
    /// Whether it is in a circle or leads to one.
    pub(crate) is_circular: bool,
    /// The first thing in its own definition that does not come from operators.
    pub(crate) untrusted: Option<String>,
    /// Its nodes in each [`Mode`](crate::eval::Mode).
    pub(crate) nodes: [OnceLock<Tri>; 3],
}

impl Fleet {
    /// A fleet of these nodes and groups. Of nodes with the same name the last one counts.
    pub fn new(nodes: Vec<OwnedTarget>, groups: BTreeMap<String, Group>) -> Self {
        let mut fleet = Self::default();
        let mut nodes = nodes;
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        for node in nodes {
            fleet.upsert(node);
        }
        fleet.set_groups(groups);
        fleet
    }

    /// The same fleet with label keys that are known although no node has them, such as declared
    /// ones.
    #[must_use]
    pub fn with_keys(mut self, keys: impl IntoIterator<Item = String>) -> Self {
        self.extra_keys.extend(keys);
        self
    }

    /// Adds a node, or replaces the one of the same name.
    pub fn upsert(&mut self, node: OwnedTarget) {
        if self
            .by_name
            .get(&node.name)
            .is_some_and(|slot| self.nodes[*slot as usize].as_ref() == Some(&node))
        {
            return;
        }
        self.remove(&node.name);
        let slot = self.free.pop().unwrap_or_else(|| {
            self.nodes.push(None);
            self.ranks.push(0);
            u32::try_from(self.nodes.len() - 1).expect("memory ends before 2^32 nodes")
        });
        for (key, value) in entries(&node) {
            insert(self.index.entry(key.to_owned()).or_default(), value, slot);
        }
        for item in &node.uses {
            insert(&mut self.uses, item, slot);
        }
        self.ranks[slot as usize] = rank(&node.name);
        self.live.insert(slot);
        self.by_name.insert(node.name.clone(), slot);
        self.nodes[slot as usize] = Some(node);
        self.forget_members();
    }

    /// Removes the node called `name`; nothing happens if there is none.
    pub fn remove(&mut self, name: &str) {
        let Some(slot) = self.by_name.remove(name) else {
            return;
        };
        let node = self.nodes[slot as usize]
            .take()
            .expect("by_name holds live slots");
        for (key, value) in entries(&node) {
            if let Some(values) = self.index.get_mut(key) {
                remove(values, value, slot);
                if values.is_empty() {
                    self.index.remove(key);
                }
            }
        }
        for item in &node.uses {
            remove(&mut self.uses, item, slot);
        }
        self.live.remove(slot);
        self.free.push(slot);
        self.forget_members();
    }

    /// Replaces all groups.
    pub fn set_groups(&mut self, groups: BTreeMap<String, Group>) {
        let names: BTreeSet<&str> = groups.keys().map(String::as_str).collect();
        let refers_to: Vec<BTreeSet<String>> =
            groups.values().map(|g| references(g, &names)).collect();
        let mut states: BTreeMap<String, GroupState> = BTreeMap::new();
        for ((name, group), refers_to) in groups.into_iter().zip(refers_to) {
            let untrusted = group.exprs().find_map(|e| untrusted(&e.root));
            let nodes = [OnceLock::new(), OnceLock::new(), OnceLock::new()];
            states.insert(
                name,
                GroupState {
                    group,
                    refers_to,
                    is_circular: true,
                    untrusted,
                    nodes,
                },
            );
        }
        mark_straight(&mut states);
        self.groups = states;
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there is no node.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// The names of all nodes, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    /// The names of the groups that `node` is in, sorted.
    pub fn groups_of(&self, node: &str) -> Vec<&str> {
        let Some(slot) = self.by_name.get(node) else {
            return Vec::new();
        };
        let groups = self.groups.keys().map(String::as_str);
        groups
            .filter(|g| self.members(g).is_some_and(|m| m.contains(*slot)))
            .collect()
    }

    fn forget_members(&mut self) {
        for state in self.groups.values_mut() {
            state.nodes = [OnceLock::new(), OnceLock::new(), OnceLock::new()];
        }
    }
}

/// Every key and value of a node.
fn entries(node: &OwnedTarget) -> impl Iterator<Item = (&str, &str)> {
    let labels = node
        .labels
        .iter()
        .filter(|l| !is_observed(&l.key) && l.key != "name");
    let labels = labels.map(|l| (l.key.as_str(), l.value.as_deref().unwrap_or("")));
    let attrs = node
        .attrs
        .iter()
        .filter(|(key, _)| is_observed(key) && *key != "node.name");
    let attrs =
        attrs.flat_map(|(key, values)| values.iter().map(move |v| (key.as_str(), v.as_str())));
    let host = node.host.iter().map(|host| ("node.host", host.as_str()));
    [("node.name", node.name.as_str())]
        .into_iter()
        .chain(labels)
        .chain(attrs)
        .chain(host)
}

fn insert(values: &mut BTreeMap<String, Vec<u32>>, value: &str, slot: u32) {
    if !values.contains_key(value) {
        values.insert(value.to_owned(), Vec::new());
    }
    let slots = values.get_mut(value).expect("inserted above");
    if let Err(at) = slots.binary_search(&slot) {
        slots.insert(at, slot);
    }
}

fn remove(values: &mut BTreeMap<String, Vec<u32>>, value: &str, slot: u32) {
    let Some(slots) = values.get_mut(value) else {
        return;
    };
    if let Ok(at) = slots.binary_search(&slot) {
        slots.remove(at);
    }
    if slots.is_empty() {
        values.remove(value);
    }
}

/// A number that orders names in a way nobody chose.
fn rank(name: &str) -> u64 {
    let hash = blake3::hash(name.as_bytes());
    let (first, _) = hash
        .as_bytes()
        .split_first_chunk::<8>()
        .expect("a hash has 32 bytes");
    u64::from_be_bytes(*first)
}

/// The existing groups that `group` refers to.
fn references(group: &Group, names: &BTreeSet<&str>) -> BTreeSet<String> {
    let mut out = BTreeSet::new();
    for text in group.exprs().flat_map(Expr::groups) {
        if !is_glob(text) {
            out.extend(names.get(text).map(|name| (*name).to_owned()));
        } else if let Ok(glob) = Glob::new(text, GLOB_STATES_MAX) {
            out.extend(
                names
                    .iter()
                    .filter(|name| glob.matches(name))
                    .map(|name| (*name).to_owned()),
            );
        }
    }
    out
}

/// The first part of a query that access may not hang on.
fn untrusted(root: &Node) -> Option<String> {
    let mut found = None;
    root.visit(&mut |node| {
        let text = match node {
            Node::Has(key) | Node::Condition(key, _)
                if !is_trusted(crate::quantity::canonical(&key.text)) =>
            {
                key.text.clone()
            }
            Node::On(..) => "on()".to_owned(),
            Node::Uses(..) => "uses()".to_owned(),
            _ => return,
        };
        found.get_or_insert(text);
    });
    found
}

/// Clears `is_circular` of every group that neither is in a circle nor leads to one.
fn mark_straight(states: &mut BTreeMap<String, GroupState>) {
    let mut referred_by: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut open_count: BTreeMap<String, usize> = BTreeMap::new();
    let mut ready = VecDeque::new();
    for (name, state) in &*states {
        open_count.insert(name.clone(), state.refers_to.len());
        if state.refers_to.is_empty() {
            ready.push_back(name.clone());
        }
        for other in &state.refers_to {
            referred_by
                .entry(other.clone())
                .or_default()
                .push(name.clone());
        }
    }
    while let Some(name) = ready.pop_front() {
        if let Some(state) = states.get_mut(&name) {
            state.is_circular = false;
        }
        for other in referred_by.get(&name).into_iter().flatten() {
            let count = open_count.get_mut(other).expect("every group is counted");
            *count -= 1;
            if *count == 0 {
                ready.push_back(other.clone());
            }
        }
    }
}
