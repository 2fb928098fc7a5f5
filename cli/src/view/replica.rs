//! One line about the replica: when it was read and how much of the mesh it has heard lately.

use lab_crdt_model::time::age;
use lab_crdt_model::view::{MemberState, ReplicaView, Role};
use serde::Serialize;

use super::machine::Machine;
use crate::print::hex;

/// Freshness of a replica.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct ReplicaLine {
    /// Heads of its document, shortened.
    pub(crate) heads: Vec<String>,
    /// Digest of its statements.
    pub(crate) digest: String,
    /// When it was read, by its node's clock; RFC 3339.
    pub(crate) at: String,
    /// Machines that are in touch, this one included.
    pub(crate) heard: usize,
    /// Machines in all.
    pub(crate) of: usize,
    /// The one heard longest ago.
    pub(crate) oldest: Option<Oldest>,
}

/// The machine that was heard longest ago.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Oldest {
    /// Its name.
    pub(crate) node: String,
    /// How long ago, seconds; `None` if it was never heard.
    pub(crate) age_s: Option<u64>,
}

impl ReplicaLine {
    /// The line of `view`, whose machines are `machines`.
    pub(crate) fn new(view: &ReplicaView, machines: &[Machine]) -> Self {
        let nodes: Vec<&Machine> = machines
            .iter()
            .filter(|m| {
                m.member.as_ref().is_some_and(|member| {
                    member.role == Role::Node && member.state != MemberState::Revoked
                })
            })
            .collect();
        let is_heard = |m: &&&Machine| m.is_heard();
        let oldest = nodes
            .iter()
            .filter(|m| !m.is_me && !is_heard(m))
            .max_by_key(|m| m.seen_ms.unwrap_or(u64::MAX))
            .map(|m| Oldest {
                node: m.name.clone(),
                age_s: m.seen_ms.map(|ms| ms / 1000),
            });
        Self {
            heads: view.heads.iter().map(|h| hex(h, 4)).collect(),
            digest: hex(&view.digest, 32),
            at: view.at.to_string(),
            heard: nodes.iter().filter(is_heard).count(),
            of: nodes.len(),
            oldest,
        }
    }

    /// As people read it: `replica 14:02:11, heard 9/10, oldest pi1 3d`.
    pub(crate) fn text(&self) -> String {
        let clock = self.at.get(11..19).unwrap_or(&self.at);
        let mut out = format!("replica {clock}Z, heard {}/{}", self.heard, self.of);
        if let Some(oldest) = &self.oldest {
            let ago = oldest
                .age_s
                .map_or("never heard".to_owned(), |s| age(s * 1000));
            out.push_str(&format!(", oldest {} {ago}", oldest.node));
        }
        out
    }
}

/// The name of a mesh with the beginning of its id: `home-7c2f`.
pub(crate) fn mesh_text(view: &ReplicaView) -> String {
    format!(
        "{}-{}",
        view.mesh_name,
        view.mesh.short().get(..4).unwrap_or_default()
    )
}
