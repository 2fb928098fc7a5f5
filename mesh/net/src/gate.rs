//! Who may be linked: decided right after every handshake, when the key is proved, in both
//! directions.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use iroh::endpoint::{AfterHandshakeOutcome, Connection, EndpointHooks};
use lab_crdt_model::link::{Channel, Reason};
use lab_crdt_model::{AuthorId, NodeId};

use crate::api;
use crate::link;
use crate::shared::Shared;

/// The rule. Nobody is admitted until somebody is.
#[derive(Debug, Default)]
pub(crate) struct Gate(Mutex<Rules>);

#[derive(Debug, Default)]
struct Rules {
    admitted: BTreeSet<NodeId>,
    blocked: BTreeSet<NodeId>,
    devices: BTreeSet<AuthorId>,
}

impl Gate {
    pub(crate) fn admit_devices(&self, devices: BTreeSet<AuthorId>) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .devices = devices;
    }

    /// Whether a device may ask over the remote API.
    pub(crate) fn admits_device(&self, key: &AuthorId) -> bool {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .devices
            .contains(key)
    }

    pub(crate) fn admit(&self, admitted: BTreeSet<NodeId>) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .admitted = admitted;
    }

    pub(crate) fn block(&self, blocked: BTreeSet<NodeId>) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .blocked = blocked;
    }

    /// Why a peer may not have a link, if so.
    pub(crate) fn refusal(&self, peer: NodeId, channel: Channel) -> Option<Reason> {
        let rules = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match channel {
            _ if rules.blocked.contains(&peer) => Some(Reason::Done),
            Channel::Mesh | Channel::Audit if !rules.admitted.contains(&peer) => {
                Some(Reason::NotAMember)
            }
            Channel::Mesh | Channel::Audit | Channel::Join => None,
        }
    }
}

/// The gate as iroh asks it, before any of our code sees the connection.
#[derive(Debug)]
pub(crate) struct Hook(pub(crate) Arc<Shared>);

impl EndpointHooks for Hook {
    async fn after_handshake<'a>(&'a self, connection: &'a Connection) -> AfterHandshakeOutcome {
        let peer = NodeId(*connection.remote_id().as_bytes());
        let reason = match link::channel_of(connection.alpn()) {
            Some(channel) => self.0.gate.refusal(peer, channel),
            None if connection.alpn() == api::ALPN => {
                let is_in = self.0.gate.admits_device(&AuthorId(peer.0));
                (!is_in).then_some(Reason::NotEntitled)
            }
            None => Some(Reason::Protocol),
        };
        let Some(reason) = reason else {
            return AfterHandshakeOutcome::accept();
        };
        self.0.counters.refused.add(1);
        tracing::debug!(peer = %peer.short(), ?reason, "link was refused");
        AfterHandshakeOutcome::Reject {
            error_code: link::code(reason),
            reason: link::words(reason).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: NodeId = NodeId([1; 32]);

    #[test]
    fn a_stranger_may_only_join() {
        let gate = Gate::default();
        assert_eq!(gate.refusal(PEER, Channel::Mesh), Some(Reason::NotAMember));
        assert_eq!(gate.refusal(PEER, Channel::Audit), Some(Reason::NotAMember));
        assert_eq!(gate.refusal(PEER, Channel::Join), None);
    }

    #[test]
    fn a_device_asks_only_while_it_is_admitted_and_a_member_is_no_device() {
        let (gate, key) = (Gate::default(), AuthorId([1; 32]));
        gate.admit([PEER].into());
        assert!(!gate.admits_device(&key));
        gate.admit_devices([key].into());
        assert!(gate.admits_device(&key));
        gate.admit_devices([AuthorId([2; 32])].into());
        assert!(!gate.admits_device(&key));
    }

    #[test]
    fn a_blocked_member_gets_nothing() {
        let gate = Gate::default();
        gate.admit([PEER].into());
        assert_eq!(gate.refusal(PEER, Channel::Mesh), None);
        gate.block([PEER].into());
        assert!(gate.refusal(PEER, Channel::Mesh).is_some());
        assert!(gate.refusal(PEER, Channel::Join).is_some());
    }
}
