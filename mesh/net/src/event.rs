//! What happened, and the bounded queue that carries it to the agent.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use lab_crdt_model::NodeId;
use lab_crdt_model::link::{Channel, Lane};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Most events that wait for the agent.
const EVENT_COUNT_MAX: usize = 256;
/// Most bytes of frames that wait for the agent, all links together: four of the longest.
const EVENT_BYTES_MAX: usize = 4 << 20;

/// Something that happened to the links of this node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NetEvent {
    /// A link is ready: the peer proved its key, passed our gate, and we passed its.
    Up {
        /// The other end.
        peer: NodeId,
        /// Which kind of link.
        channel: Channel,
        /// Where the peer is, when known.
        address: Option<SocketAddr>,
    },
    /// A link is gone.
    Down {
        /// The other end.
        peer: NodeId,
        /// Which kind of link.
        channel: Channel,
        /// For people; `closed by peer: …` repeats the peer's reason.
        why: String,
    },
    /// A dial gave no link.
    DialFailed {
        /// Whom we dialled.
        peer: NodeId,
        /// Which kind of link.
        channel: Channel,
        /// For people.
        why: String,
    },
    /// A frame arrived.
    Frame {
        /// From whom.
        from: NodeId,
        /// On which kind of link.
        channel: Channel,
        /// On which lane.
        lane: Lane,
        /// The frame, without its length.
        bytes: Bytes,
    },
    /// Someone announced itself on the local network. Only a link proves that it is who it says.
    Found {
        /// Who it claims to be.
        peer: NodeId,
        /// Where it can be dialled.
        addresses: Vec<SocketAddr>,
    },
    /// Where this node can be dialled, at start and after every change.
    Addresses(Vec<SocketAddr>),
}

/// Gives the events of a [`Net`](crate::Net), in order per link.
///
/// Whoever does not take events makes the peers wait: reading from their links stops.
#[derive(Debug)]
pub struct NetEvents(mpsc::Receiver<Slot>);

pub(crate) type Slot = (NetEvent, Option<OwnedSemaphorePermit>);

impl NetEvents {
    /// The next event; `None` once the driver has ended. Nothing is lost if the wait is given up.
    pub async fn recv(&mut self) -> Option<NetEvent> {
        self.0.recv().await.map(|(event, _)| event)
    }

    /// The next event if one is waiting.
    pub fn try_recv(&mut self) -> Option<NetEvent> {
        self.0.try_recv().ok().map(|(event, _)| event)
    }
}

/// The sending end.
#[derive(Clone, Debug)]
pub(crate) struct EventSender {
    queue: mpsc::Sender<Slot>,
    room: Arc<Semaphore>,
}

/// Nobody listens any more.
#[derive(Debug)]
pub(crate) struct NobodyListens;

pub(crate) fn queue() -> (EventSender, NetEvents) {
    let (queue, events) = mpsc::channel(EVENT_COUNT_MAX);
    let room = Arc::new(Semaphore::new(EVENT_BYTES_MAX));
    (EventSender { queue, room }, NetEvents(events))
}

impl EventSender {
    /// Waits for room for one event that is no frame; `None` if nobody listens any more.
    pub(crate) async fn reserve(&self) -> Option<mpsc::Permit<'_, Slot>> {
        self.queue.reserve().await.ok()
    }

    /// Waits for room, then hands over an event; frames also wait for room for their bytes.
    pub(crate) async fn emit(&self, event: NetEvent) -> Result<(), NobodyListens> {
        let permit = match &event {
            NetEvent::Frame { bytes, .. } => {
                let bytes =
                    u32::try_from(bytes.len().clamp(1, EVENT_BYTES_MAX)).unwrap_or(u32::MAX);
                let permit = Arc::clone(&self.room).acquire_many_owned(bytes);
                tokio::select! {
                    permit = permit => permit.ok(),
                    () = self.queue.closed() => return Err(NobodyListens),
                }
            }
            NetEvent::Up { .. }
            | NetEvent::Down { .. }
            | NetEvent::DialFailed { .. }
            | NetEvent::Found { .. }
            | NetEvent::Addresses(_) => None,
        };
        self.queue
            .send((event, permit))
            .await
            .or(Err(NobodyListens))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_wait_for_room_for_their_bytes() {
        let (sender, mut events) = queue();
        let frame = NetEvent::Frame {
            from: NodeId([1; 32]),
            channel: Channel::Mesh,
            lane: Lane::Bulk,
            bytes: vec![0; EVENT_BYTES_MAX / 2].into(),
        };
        for _ in 0..2 {
            sender.emit(frame.clone()).await.unwrap();
        }
        let mut third = Box::pin(sender.emit(frame));

        let is_waiting = tokio::select! { biased; _ = &mut third => false, () = async {} => true };
        assert!(is_waiting);
        assert!(events.recv().await.is_some());
        third.await.unwrap();
    }

    #[tokio::test]
    async fn nobody_waits_for_an_agent_that_is_gone() {
        let (sender, events) = queue();
        drop(events);
        assert!(sender.emit(NetEvent::Addresses(Vec::new())).await.is_err());
    }
}
