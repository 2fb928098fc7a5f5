//! The list of machines, and everything about one of them.

use lab_crdt_model::report::{Facts, ResourceReport};
use lab_crdt_model::view::{Liveness, MemberState};
use serde::Serialize;
use std::collections::BTreeMap;

use super::machine::Machine;
use super::picture::Picture;
use super::status::{Pillar, identity};

/// One machine in a list.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct NodeRow {
    /// Its name.
    pub(crate) name: String,
    /// Its id, if it joined.
    pub(crate) id: Option<String>,
    /// `node`, `laptop` or `cluster`.
    pub(crate) kind: &'static str,
    /// The declared provider.
    pub(crate) provider: Option<String>,
    /// The declared profile.
    pub(crate) profile: Option<String>,
    /// Where it stands in the mesh.
    pub(crate) state: &'static str,
    /// Seconds since it was heard.
    pub(crate) seen_s: Option<u64>,
    /// The Sync pillar.
    pub(crate) sync: Pillar,
    /// The Identity pillar.
    pub(crate) identity: Pillar,
    /// Version of its agent.
    pub(crate) agent: Option<String>,
    /// Its labels.
    pub(crate) labels: Vec<String>,
    /// Its first address.
    pub(crate) address: Option<String>,
    /// Whether it is the machine that was asked.
    pub(crate) is_me: bool,
}

impl NodeRow {
    /// The row of a machine.
    pub(crate) fn new(picture: &Picture, machine: &Machine) -> Self {
        Self {
            name: machine.name.clone(),
            id: machine.member.as_ref().map(|m| m.node.to_string()),
            kind: machine.kind.word(),
            provider: machine.declared.get("provider").cloned(),
            profile: machine.declared.get("profile").cloned(),
            state: state_word(machine),
            seen_s: machine.seen_ms.map(|ms| ms / 1000),
            sync: picture.sync(machine),
            identity: identity(machine, picture.view.at.0),
            agent: machine.beacon.as_ref().map(|b| b.version.clone()),
            labels: machine.labels.iter().map(ToString::to_string).collect(),
            address: machine
                .beacon
                .as_ref()
                .and_then(|b| b.addresses.first())
                .map(ToString::to_string),
            is_me: machine.is_me,
        }
    }
}

/// Everything about one machine.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct NodeView {
    /// As in the list.
    #[serde(flatten)]
    pub(crate) row: NodeRow,
    /// When it joined; RFC 3339.
    pub(crate) joined_at: Option<String>,
    /// `alive`, `suspect`, `down` or `unknown`, in the opinion of the machine that was asked.
    pub(crate) liveness: &'static str,
    /// Since when, seconds.
    pub(crate) liveness_s: u64,
    /// Groups it belongs to, by name.
    pub(crate) groups: Vec<String>,
    /// Where it can be dialled.
    pub(crate) addresses: Vec<String>,
    /// Peers it has a live link to.
    pub(crate) link_count: Option<u16>,
    /// What it is made of.
    pub(crate) facts: Option<Facts>,
    /// Declared attributes.
    pub(crate) declared: BTreeMap<String, String>,
    /// Resources that it manages.
    pub(crate) resource_count: Option<u32>,
    /// Resources that are not simply ok.
    pub(crate) resources: Vec<ResourceReport>,
}

impl NodeView {
    /// Everything about a machine.
    pub(crate) fn new(picture: &Picture, machine: &Machine) -> Self {
        let status = machine.status.as_ref().map(|(s, _)| s);
        Self {
            row: NodeRow::new(picture, machine),
            joined_at: machine
                .member
                .as_ref()
                .map(|m| m.joined_at.wall().to_string()),
            liveness: liveness_word(machine.liveness),
            liveness_s: machine.since_ms / 1000,
            groups: picture.groups_of(&machine.name),
            addresses: machine
                .beacon
                .iter()
                .flat_map(|b| b.addresses.iter().map(ToString::to_string))
                .collect(),
            link_count: machine.beacon.as_ref().map(|b| b.link_count),
            facts: machine.facts.clone(),
            declared: machine.declared.clone(),
            resource_count: status.map(|s| s.resource_count),
            resources: status.map(|s| s.resources.clone()).unwrap_or_default(),
        }
    }
}

/// Where a machine stands in the mesh, in a word.
pub(crate) fn state_word(machine: &Machine) -> &'static str {
    match machine.member.as_ref().map(|m| m.state) {
        None => "declared, never joined",
        Some(MemberState::Seen) => "joined, not witnessed",
        Some(MemberState::Probation) => "on probation",
        Some(MemberState::Member) => "member",
        Some(MemberState::Suspended) => "suspended",
        Some(MemberState::Expired) => "expired",
        Some(MemberState::Revoked) => "revoked",
    }
}

/// An opinion in a word.
pub(crate) const fn liveness_word(liveness: Liveness) -> &'static str {
    match liveness {
        Liveness::Alive => "alive",
        Liveness::Suspect => "suspect",
        Liveness::Down => "down",
        Liveness::Unknown => "unknown",
    }
}
