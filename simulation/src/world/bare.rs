//! What nodes hold, as bytes: for judges that read them by themselves.

use lab_crdt_log::RootRecord;

use super::*;

impl World {
    /// The record that founded the mesh.
    pub fn root(&self) -> RootRecord {
        self.record.clone()
    }

    /// The envelopes that a node's replica holds; `None` while it is down.
    pub fn envelopes(&self, node: usize) -> Option<Vec<Bytes>> {
        Some(self.hosts[node].agent.as_ref()?.envelopes())
    }

    /// The audit records that a node keeps, of itself and of others; `None` while it is down.
    pub fn audit_records(&self, node: usize) -> Option<Vec<Bytes>> {
        Some(self.hosts[node].agent.as_ref()?.audit_records())
    }

    /// The reports that a node's replica holds; `None` while it is down.
    pub fn reports(&self, node: usize) -> Option<Vec<Bytes>> {
        Some(self.hosts[node].agent.as_ref()?.reports())
    }
}
