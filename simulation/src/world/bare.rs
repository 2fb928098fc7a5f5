//! What nodes hold, as bytes: for judges that read them by themselves.

use lab_crdt_log::{RootRecord, SignedRoot};

use super::*;

impl World {
    /// The record that founded the mesh.
    pub fn root(&self) -> RootRecord {
        let signed = SignedRoot::decode(&self.root).expect("the world signed it");
        signed.verify().expect("the world signed it")
    }

    /// The envelopes that a node's replica holds; `None` while it is down.
    pub fn envelopes(&self, node: usize) -> Option<Vec<Bytes>> {
        Some(self.hosts[node].agent.as_ref()?.envelopes())
    }

    /// The reports that a node's replica holds; `None` while it is down.
    pub fn reports(&self, node: usize) -> Option<Vec<Bytes>> {
        Some(self.hosts[node].agent.as_ref()?.reports())
    }
}
