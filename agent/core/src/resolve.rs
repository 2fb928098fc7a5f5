//! From standing fields and members to the config of one node; the same for agent, CLI and simulator.

use std::collections::BTreeMap;

use lab_crdt_config::{Effective, Intent, NodeFacts, Standing, effective, labels_of, read};
use lab_crdt_model::view::{FieldView, MemberState, Role};
use lab_crdt_model::{Issue, Label, Path};
use lab_crdt_selector::{Fleet, OwnedTarget};

/// A node's labels and what they mean.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeConfig {
    /// All its labels.
    pub labels: Vec<Label>,
    /// What is declared of it besides, by name.
    pub declared: BTreeMap<String, String>,
    /// What they mean.
    pub effective: Effective,
    /// Contradicting labels and the like.
    pub issues: Vec<Issue>,
}

/// Reads the fields of a view as typed intent.
pub fn intent_of(fields: &[FieldView]) -> (Intent, Vec<Issue>) {
    let others: Vec<Vec<_>> = fields
        .iter()
        .map(|f| {
            f.candidates
                .iter()
                .skip(1)
                .map(|c| c.field.clone())
                .collect()
        })
        .collect();
    read(fields.iter().zip(&others).filter_map(|(f, others)| {
        let first = f.candidates.first()?;
        Some(Standing {
            path: &f.path,
            field: &first.field,
            others,
            stamp: Some((first.at, first.statement)),
        })
    }))
}

/// The nodes that queries are about: members that are machines, and declared nodes that never joined.
///
/// `members` gives name and birth labels of every live machine.
pub fn fleet_of<'a>(
    intent: &Intent,
    members: impl IntoIterator<Item = (&'a str, &'a [String])>,
) -> (Fleet, Vec<Issue>) {
    let mut birth: BTreeMap<&str, &[String]> = members.into_iter().collect();
    for name in intent.nodes.keys() {
        birth.entry(name).or_insert(&[]);
    }
    let (groups, mut issues) = intent.selector_groups();
    let mut targets = Vec::new();
    for (name, birth) in birth {
        let (labels, more) = labels_of(intent, name, birth);
        issues.extend(more);
        let mut attrs: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut host = None;
        if let Some(node) = intent.nodes.get(name) {
            for (key, entry) in &node.attrs {
                if let Some(text) = entry.text() {
                    attrs.insert(format!("node.{key}"), vec![text.to_owned()]);
                    if key == "host" {
                        host = Some(text.to_owned());
                    }
                }
            }
        }
        targets.push(OwnedTarget {
            name: name.to_owned(),
            labels,
            attrs,
            host,
            ..OwnedTarget::default()
        });
    }
    let keys: Vec<String> = intent
        .vocabulary
        .iter()
        .map(|term| term.key.clone())
        .collect();
    (Fleet::new(targets, groups).with_keys(keys), issues)
}

/// What a node's labels mean. `fleet` is needed only where groups carry parameters.
pub fn config_of(
    intent: &Intent,
    name: &str,
    birth: &[String],
    fleet: Option<&Fleet>,
) -> NodeConfig {
    let (labels, issues) = labels_of(intent, name, birth);
    let groups: Vec<String> = fleet
        .filter(|_| needs_fleet(intent))
        .map(|fleet| {
            fleet
                .groups_of(name)
                .into_iter()
                .map(str::to_owned)
                .collect()
        })
        .unwrap_or_default();
    let effective = effective(intent, &NodeFacts::new(name, &labels), &groups);
    let node = intent.nodes.get(name);
    let declared = node.into_iter().flat_map(|node| &node.attrs);
    let declared = declared.map(|(key, entry)| (key.clone(), entry.shown()));
    NodeConfig {
        labels,
        declared: declared.collect(),
        effective,
        issues,
    }
}

/// Whether a node's config depends on which groups it is in.
pub(crate) fn needs_fleet(intent: &Intent) -> bool {
    intent.groups.values().any(|group| !group.params.is_empty())
}

/// Whether a field can matter to the config of a node.
pub(crate) fn concerns(path: &Path, name: &str) -> bool {
    let mut segments = path.segments();
    match segments.next().as_deref() {
        Some("label" | "node") => segments.next().is_some_and(|n| n == name),
        Some("on" | "group" | "vocabulary") => true,
        _ => false,
    }
}

/// Whether a member is a machine that config is for.
pub(crate) const fn is_machine(role: Role, state: MemberState) -> bool {
    use MemberState::{Probation, Revoked, Seen};
    matches!(role, Role::Node) && !matches!(state, Revoked | Seen | Probation)
}
