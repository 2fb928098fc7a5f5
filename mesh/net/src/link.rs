//! One link, from proved connection to told end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use iroh::TransportAddr;
use iroh::endpoint::{Connection, ConnectionError, RecvStream, SendStream, VarInt, WriteError};
use lab_crdt_model::NodeId;
use lab_crdt_model::limit::{FRAME_BYTES_MAX, JOIN_FRAME_BYTES_MAX};
use lab_crdt_model::link::{Channel, Reason};
use tokio::time::{sleep, timeout};
use tracing::debug;

use crate::dial;
use crate::event::{NetEvent, NobodyListens};
use crate::lane::{self, LANES, LaneReceiver, LaneSender};
use crate::shared::Shared;
use crate::table::{Ending, Entered};

/// After `Done`: a welcome over a slow line may be under way.
const DRAIN_DONE: Duration = Duration::from_secs(5);
/// After `Stopping`: an agent stops within a second.
const DRAIN_STOPPING: Duration = Duration::from_millis(300);

pub(crate) const ALPN_MESH: &[u8] = b"lab/1";
pub(crate) const ALPN_JOIN: &[u8] = b"lab/join/1";
pub(crate) const ALPN_AUDIT: &[u8] = b"lab/audit/1";

pub(crate) const fn alpn(channel: Channel) -> &'static [u8] {
    match channel {
        Channel::Mesh => ALPN_MESH,
        Channel::Join => ALPN_JOIN,
        Channel::Audit => ALPN_AUDIT,
    }
}

pub(crate) fn channel_of(alpn: &[u8]) -> Option<Channel> {
    match alpn {
        ALPN_MESH => Some(Channel::Mesh),
        ALPN_JOIN => Some(Channel::Join),
        ALPN_AUDIT => Some(Channel::Audit),
        _ => None,
    }
}

pub(crate) const fn code(reason: Reason) -> VarInt {
    VarInt::from_u32(reason as u32)
}

pub(crate) const fn words(reason: Reason) -> &'static str {
    match reason {
        Reason::Done => "done",
        Reason::Stopping => "stopping",
        Reason::Duplicate => "another link is kept",
        Reason::Protocol => "the protocol was broken",
        Reason::NotAMember => "not a member",
        Reason::NotEntitled => "this key holds no grant here",
        Reason::Revoked => "revoked",
        Reason::Overload => "overload",
    }
}

/// For how long a link that is hung up for a reason may go on sending what was queued.
pub(crate) const fn drain(reason: Reason) -> Duration {
    match reason {
        Reason::Done => DRAIN_DONE,
        Reason::Stopping => DRAIN_STOPPING,
        Reason::Duplicate
        | Reason::Protocol
        | Reason::NotAMember
        | Reason::NotEntitled
        | Reason::Revoked
        | Reason::Overload => Duration::ZERO,
    }
}

pub(crate) fn close(connection: &Connection, reason: Reason) {
    connection.close(code(reason), words(reason).as_bytes());
}

/// Why a connection ended, for people. What the peer sent is cut and cleaned.
pub(crate) fn why(error: &ConnectionError) -> String {
    let ConnectionError::ApplicationClosed(close) = error else {
        return error.to_string();
    };
    let text: String = String::from_utf8_lossy(&close.reason)
        .chars()
        .filter(|c| !c.is_control())
        .take(80)
        .collect();
    let code = close.error_code.into_inner();
    match text.as_str() {
        "" => format!("closed by peer: code {code}"),
        text => format!("closed by peer: {text} ({code})"),
    }
}

/// Longest frame that may go from the dialling end to the accepting one, or back.
///
/// Only a stranger is kept short: a welcome carries statements of up to 64 KiB each.
pub(crate) const fn frame_bytes_max(channel: Channel, is_from_dialler: bool) -> usize {
    match (channel, is_from_dialler) {
        (Channel::Join, true) => JOIN_FRAME_BYTES_MAX,
        (Channel::Join, false) | (Channel::Mesh | Channel::Audit, _) => FRAME_BYTES_MAX,
    }
}

/// Both ends' streams of a connection, by lane.
pub(crate) struct Streams {
    pub(crate) send: [SendStream; 2],
    pub(crate) receive: [RecvStream; 2],
}

/// Opens our two streams; the peer learns of them by [`greet`].
pub(crate) async fn open_streams(connection: &Connection) -> Result<[SendStream; 2], String> {
    let control = connection.open_uni().await.map_err(|error| why(&error))?;
    let bulk = connection.open_uni().await.map_err(|error| why(&error))?;
    // Control goes first whenever both have something to send.
    let _ = control.set_priority(1);
    Ok([control, bulk])
}

/// Writes which lane each of our streams is. From the accepting end it means: the link is taken.
pub(crate) async fn greet(streams: &mut [SendStream; 2]) -> Result<(), WriteError> {
    for (stream, lane) in streams.iter_mut().zip(LANES) {
        stream.write_all(&[lane::tag(lane)]).await?;
    }
    Ok(())
}

/// Waits for the peer's two streams.
pub(crate) async fn accept_streams(connection: &Connection) -> Result<[RecvStream; 2], String> {
    let mut streams = [None, None];
    for _ in LANES {
        let mut stream = connection.accept_uni().await.map_err(|error| why(&error))?;
        let mut tag = [0];
        stream
            .read_exact(&mut tag)
            .await
            .map_err(|error| broken(connection, &error.to_string()))?;
        match streams.get_mut(usize::from(tag[0])) {
            Some(slot @ None) => *slot = Some(stream),
            Some(Some(_)) | None => {
                close(connection, Reason::Protocol);
                return Err(words(Reason::Protocol).to_owned());
            }
        }
    }
    match streams {
        [Some(control), Some(bulk)] => Ok([control, bulk]),
        [_, None] | [None, _] => Err("streams are missing".to_owned()),
    }
}

/// The connection's own words if it ended, otherwise those of the stream.
pub(crate) fn broken(connection: &Connection, stream: &str) -> String {
    connection
        .close_reason()
        .map_or_else(|| stream.to_owned(), |error| why(&error))
}

/// Where the peer is.
pub(crate) fn address_of(connection: &Connection) -> Option<SocketAddr> {
    let paths = connection.paths();
    let path = paths
        .iter()
        .find(|path| path.is_selected())
        .or_else(|| paths.iter().next())?;
    match path.remote_addr() {
        TransportAddr::Ip(address) => Some(*address),
        _ => None,
    }
}

/// The queues of a new link.
pub(crate) fn queues(shared: &Shared) -> ([LaneSender; 2], [LaneReceiver; 2]) {
    let (control, control_out) = lane::queue(shared.config.control_queue_bytes_max);
    let (bulk, bulk_out) = lane::queue(shared.config.bulk_queue_bytes_max);
    ([control, bulk], [control_out, bulk_out])
}

/// A link that was entered into the table.
pub(crate) struct Link {
    pub(crate) shared: Arc<Shared>,
    pub(crate) peer: NodeId,
    pub(crate) channel: Channel,
    pub(crate) is_ours: bool,
    pub(crate) connection: Connection,
    pub(crate) streams: Streams,
    pub(crate) queues: [LaneReceiver; 2],
    pub(crate) entered: Entered,
}

impl Link {
    /// Tells that the link is up, carries its frames, and tells that it is down.
    pub(crate) async fn run(mut self) {
        let (key, serial) = ((self.peer, self.channel), self.entered.serial);
        let shared = Arc::clone(&self.shared);
        if !self.confirm().await {
            close(&self.connection, Reason::Overload);
            if shared.table().give_up(key, serial) {
                dial::failed(
                    &shared,
                    self.peer,
                    self.channel,
                    "the peer gave up".to_owned(),
                )
                .await;
            }
            return;
        }
        if let Some(previous) = self.entered.previous.take() {
            let _ = previous.await;
        }
        let up = NetEvent::Up {
            peer: self.peer,
            channel: self.channel,
            address: address_of(&self.connection),
        };
        if let Err(NobodyListens) = shared.events.emit(up).await {
            close(&self.connection, Reason::Stopping);
            return shared.table().remove(key, serial);
        }
        let why = self.carry().await;
        debug!(peer = %self.peer.short(), why, "link is down");
        // Ending before the event, so that the agent may dial again as soon as it knows; in the
        // table until after it, so that a newer link tells of itself only then.
        shared.table().end(key, serial);
        let down = NetEvent::Down {
            peer: self.peer,
            channel: self.channel,
            why,
        };
        let _ = shared.events.emit(down).await;
        shared.table().remove(key, serial);
        drop(self.entered.gone);
    }

    /// Tells the dialling end that its link is taken, in time.
    async fn confirm(&mut self) -> bool {
        let limit = Duration::from_millis(self.shared.config.dial_ms_max);
        self.is_ours
            || matches!(
                timeout(limit, greet(&mut self.streams.send)).await,
                Ok(Ok(()))
            )
    }

    /// Carries frames until the link ends; says why it did.
    async fn carry(&mut self) -> String {
        let Self {
            shared,
            peer,
            channel,
            is_ours,
            connection,
            streams,
            queues,
            entered,
        } = self;
        let read_max = frame_bytes_max(*channel, !*is_ours);
        let [control_in, bulk_in] = &mut streams.receive;
        let [control_out, bulk_out] = &mut streams.send;
        let [control_queue, bulk_queue] = queues;
        let sent = |length| {
            shared.counters.sent.add(1);
            shared.counters.sent_bytes.add(length);
        };
        let read = async {
            tokio::try_join!(
                take_frames(shared, *peer, *channel, 0, control_in, read_max),
                take_frames(shared, *peer, *channel, 1, bulk_in, read_max),
            )
        };
        let write = async {
            let _ = tokio::join!(
                control_queue.write_to(control_out, sent),
                bulk_queue.write_to(bulk_out, sent),
            );
        };
        let life = async {
            match channel {
                Channel::Join | Channel::Audit if !*is_ours => {
                    sleep(Duration::from_millis(shared.config.join_ms_max)).await;
                }
                Channel::Join | Channel::Audit | Channel::Mesh => std::future::pending().await,
            }
        };
        tokio::pin!(read, write, life);
        let mut is_written = false;
        let reason = loop {
            tokio::select! {
                ended = &mut read => break match ended {
                    Ok(_) => {
                        // Both streams ended: the peer hangs up, or already did.
                        tokio::select! {
                            closed = timeout(DRAIN_DONE, connection.closed()) => {
                                if let Ok(error) = closed { return why(&error) }
                            }
                            () = entered.rush.notified() => {}
                        }
                        Reason::Done
                    }
                    Err(reason) => reason,
                },
                () = &mut write, if !is_written => is_written = true,
                () = &mut life => break Reason::Overload,
                ending = &mut entered.close => {
                    let Ok(Ending { reason, drain }) = ending else { break Reason::Done };
                    if !is_written && !drain.is_zero() {
                        tokio::select! {
                            _ = timeout(drain, &mut write) => {}
                            () = entered.rush.notified() => {}
                        }
                    }
                    break reason;
                }
            }
        };
        if reason == Reason::Protocol {
            shared.counters.protocol_error.add(1);
        }
        if reason == Reason::Overload {
            shared.counters.overload.add(1);
        }
        close(connection, reason);
        words(reason).to_owned()
    }
}

/// Hands frames of one lane to the agent until the lane ends.
async fn take_frames(
    shared: &Shared,
    from: NodeId,
    channel: Channel,
    lane: usize,
    stream: &mut RecvStream,
    bytes_max: usize,
) -> Result<(), Reason> {
    while let Some(bytes) = lane::read_frame(stream, bytes_max).await? {
        shared.counters.received.add(1);
        shared.counters.received_bytes.add(bytes.len());
        let frame = NetEvent::Frame {
            from,
            channel,
            lane: LANES[lane],
            bytes,
        };
        shared.events.emit(frame).await.or(Err(Reason::Stopping))?;
    }
    Ok(())
}
