//! What the tasks of one driver share.

use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lab_crdt_model::NodeId;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::api::Devices;
use crate::config::NetConfig;
use crate::event::EventSender;
use crate::gate::Gate;
use crate::stats::Counters;
use crate::table::Table;

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) me: NodeId,
    pub(crate) config: NetConfig,
    pub(crate) gate: Gate,
    pub(crate) events: EventSender,
    pub(crate) counters: Counters,
    /// Connections of devices.
    pub(crate) devices: Devices,
    /// Rings whenever a dial has ended, for incoming links that wait for it.
    pub(crate) dial_ended: Notify,
    addresses: Mutex<Vec<SocketAddr>>,
    table: Mutex<Table>,
}

impl Shared {
    pub(crate) fn new(
        me: NodeId,
        config: NetConfig,
        events: EventSender,
        devices: Devices,
    ) -> Self {
        Self {
            me,
            config,
            gate: Gate::default(),
            events,
            counters: Counters::default(),
            devices,
            dial_ended: Notify::new(),
            addresses: Mutex::default(),
            table: Mutex::default(),
        }
    }

    /// The links and dials. Held for a few instructions only, never across an await.
    pub(crate) fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where we can be dialled.
    pub(crate) fn addresses(&self) -> MutexGuard<'_, Vec<SocketAddr>> {
        self.addresses
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// This instant, for the age of links; it decides nothing that has to be repeatable.
#[expect(
    clippy::disallowed_methods,
    reason = "a shell: the age of a socket is not the agent's time"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}
