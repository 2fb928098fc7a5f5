//! The remote API's transport: one stream of bytes between a device and a node, by keys.
//!
//! A device proves its key by TLS, as every peer does. The gate lets in keys that were
//! [admitted](crate::Net::admit_devices), and nobody else gets a stream. What runs on the stream is not known here.
//!
//! ```text
//!   device                                                node
//!     │ QUIC, ALPN lab/api/1 ──────────────────────────► gate ── NotEntitled (404)
//!     │                                                    │
//!     │ one two-way stream: the byte 1 ─────────────────►  │ place: at most 16, 4 per key ── Overload (429)
//!     │ ◄───────────────────────────────── the byte 1      │
//!     │ ◄──────────── bytes of both ────────────────────►  │ until idle for 30 s, or cut: Revoked (410)
//! ```

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use iroh::endpoint::{
    BindOpts, Connection, ConnectionError, PortmapperConfig, RecvStream, SendStream, VarInt,
    presets,
};
use iroh::{
    Endpoint, EndpointAddr, EndpointId, NetReportConfig, RelayMode, SecretKey, TransportAddr,
};
use lab_crdt_model::link::Reason;
use lab_crdt_model::{AuthorId, NodeId};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Sleep, sleep, timeout};

use crate::link;
use crate::net;
use crate::shared::{self, Shared};

pub(crate) const ALPN: &[u8] = b"lab/api/1";

/// Most connections of devices at once.
pub const DEVICE_COUNT_MAX: usize = 16;
/// Most connections with one key at once.
pub const DEVICES_PER_KEY_MAX: usize = 4;

/// First byte of each direction.
const GREETING: u8 = 1;
/// How long a device may take to open its stream.
const GREETING_MAX: Duration = Duration::from_secs(4);
/// How long what was written last may be on its way once the node is done with a connection.
const DRAIN: Duration = Duration::from_secs(2);
/// How long a device tries to reach a node, all addresses together.
const REACH_MAX: Duration = Duration::from_secs(5);
/// How long a device waits for the node to hear that it goes.
const CLOSE_MAX: Duration = Duration::from_millis(500);
/// Most addresses that a device tries.
const ADDRESS_COUNT_MAX: usize = 16;

/// The connections of devices that stand, and where they go.
#[derive(Debug)]
pub(crate) struct Devices {
    table: Mutex<Table>,
    streams: mpsc::Sender<ApiStream>,
}

#[derive(Debug, Default)]
struct Table {
    standing: BTreeMap<u64, (AuthorId, Connection)>,
    last: u64,
    is_stopping: bool,
}

/// A place among the connections; given back when dropped.
struct Place<'a> {
    devices: &'a Devices,
    serial: u64,
}

impl Devices {
    pub(crate) fn new() -> (Self, mpsc::Receiver<ApiStream>) {
        let (streams, taken) = mpsc::channel(1);
        let table = Mutex::default();
        (Self { table, streams }, taken)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a connection, or says why not. `is_admitted` is asked while nobody can be cut.
    fn enter(
        &self,
        key: AuthorId,
        connection: &Connection,
        is_admitted: impl FnOnce() -> bool,
    ) -> Result<Place<'_>, Reason> {
        let mut table = self.table();
        if table.is_stopping {
            return Err(Reason::Stopping);
        }
        if !is_admitted() {
            return Err(Reason::NotEntitled);
        }
        let of_key = table.standing.values().filter(|(k, _)| *k == key).count();
        if table.standing.len() >= DEVICE_COUNT_MAX || of_key >= DEVICES_PER_KEY_MAX {
            return Err(Reason::Overload);
        }
        table.last += 1;
        let serial = table.last;
        table.standing.insert(serial, (key, connection.clone()));
        Ok(Place {
            devices: self,
            serial,
        })
    }

    /// Closes the connections of keys that may not have one any more.
    pub(crate) fn cut_where(&self, may_not: impl Fn(&AuthorId) -> bool) {
        for (key, connection) in self.table().standing.values() {
            if may_not(key) {
                tracing::info!(key = %key.short(), "a device's connection was cut");
                link::close(connection, Reason::Revoked);
            }
        }
    }

    /// Closes every connection once what was written last had time to leave, and takes no more.
    pub(crate) fn stop(&self) {
        self.table().is_stopping = true;
    }

    pub(crate) fn count(&self) -> usize {
        self.table().standing.len()
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.devices.table().standing.remove(&self.serial);
    }
}

/// Takes a device's connection, which passed the gate, and keeps it until it ends.
pub(crate) async fn serve(shared: &Shared, connection: Connection) {
    let key = AuthorId(*connection.remote_id().as_bytes());
    let is_admitted = || shared.gate.admits_device(&key);
    let place = match shared.devices.enter(key, &connection, is_admitted) {
        Ok(place) => place,
        Err(reason) => {
            let counter = match reason {
                Reason::Overload => &shared.counters.overload,
                _ => &shared.counters.refused,
            };
            counter.add(1);
            return link::close(&connection, reason);
        }
    };
    let greeted = timeout(GREETING_MAX, greeted(&connection)).await;
    let Ok(Ok((send, receive))) = greeted else {
        shared.counters.protocol_error.add(1);
        return link::close(&connection, Reason::Protocol);
    };
    let (done, is_done) = oneshot::channel();
    let limit = Duration::from_millis(shared.config.api_idle_ms);
    let stream = ApiStream {
        peer: key.0,
        send,
        receive,
        connection: connection.clone(),
        idle: Some(Idle {
            limit,
            over: Box::pin(sleep(limit)),
        }),
        _done: Some(done),
    };
    let taken = tokio::select! {
        taken = shared.devices.streams.send(stream) => taken.is_ok(),
        _ = connection.closed() => return,
    };
    if taken {
        tokio::select! {
            _ = connection.closed() => return,
            // Its end was dropped: whoever answered is done.
            _ = is_done => {}
        }
        let _ = timeout(DRAIN, connection.closed()).await;
    }
    link::close(&connection, Reason::Done);
    drop(place);
}

/// The device's stream, once it greeted.
async fn greeted(connection: &Connection) -> Result<(SendStream, RecvStream), ()> {
    connection.set_max_concurrent_uni_streams(VarInt::from_u32(0));
    connection.set_max_concurrent_bi_streams(VarInt::from_u32(1));
    let (mut send, mut receive) = connection.accept_bi().await.map_err(drop)?;
    let mut greeting = [0];
    receive.read_exact(&mut greeting).await.map_err(drop)?;
    // What came before the handshake was complete could be a replay.
    if greeting != [GREETING] || receive.is_0rtt() {
        return Err(());
    }
    send.write_all(&[GREETING]).await.map_err(drop)?;
    Ok((send, receive))
}

/// The bytes between a device and a node. Dropped, it ends.
#[derive(Debug)]
pub struct ApiStream {
    peer: [u8; 32],
    send: SendStream,
    receive: RecvStream,
    connection: Connection,
    /// Runs out when nothing was carried for too long; a node's alone.
    idle: Option<Idle>,
    _done: Option<oneshot::Sender<()>>,
}

#[derive(Debug)]
struct Idle {
    limit: Duration,
    over: Pin<Box<Sleep>>,
}

impl ApiStream {
    /// The key that a device proved; on a device, that of the node.
    pub const fn key(&self) -> AuthorId {
        AuthorId(self.peer)
    }

    fn carried(&mut self) {
        if let Some(idle) = &mut self.idle {
            idle.over.as_mut().reset(shared::now() + idle.limit);
        }
    }

    /// What the other end said when it closed, instead of what the stream says.
    fn broken(&self, error: io::Error) -> io::Error {
        self.connection.close_reason().map_or(error, |reason| {
            let kind = match refused_by(&reason) {
                Some(Reason::NotEntitled | Reason::Revoked) => io::ErrorKind::PermissionDenied,
                _ => io::ErrorKind::ConnectionReset,
            };
            io::Error::new(kind, link::why(&reason))
        })
    }
}

/// Why the other end closed a connection, if that is one of our reasons about keys and places.
fn refused_by(error: &ConnectionError) -> Option<Reason> {
    let ConnectionError::ApplicationClosed(close) = error else {
        return None;
    };
    [Reason::NotEntitled, Reason::Revoked, Reason::Overload]
        .into_iter()
        .find(|reason| link::code(*reason) == close.error_code)
}

impl AsyncRead for ApiStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        match AsyncRead::poll_read(Pin::new(&mut this.receive), context, buffer) {
            Poll::Ready(outcome) => {
                this.carried();
                Poll::Ready(outcome.map_err(|error| this.broken(error)))
            }
            Poll::Pending => {
                if let Some(idle) = &mut this.idle {
                    ready!(idle.over.as_mut().poll(context));
                    link::close(&this.connection, Reason::Done);
                    let error = io::Error::new(io::ErrorKind::TimedOut, "nothing was carried");
                    return Poll::Ready(Err(error));
                }
                Poll::Pending
            }
        }
    }
}

impl AsyncWrite for ApiStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let written = ready!(AsyncWrite::poll_write(
            Pin::new(&mut this.send),
            context,
            bytes
        ));
        this.carried();
        Poll::Ready(written.map_err(|error| this.broken(error)))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(Pin::new(&mut self.send), context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_shutdown(Pin::new(&mut self.send), context)
    }
}

/// Why a device has no stream to a node. Nothing was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// This machine has no network, or the node's id is no key.
    #[error("{why}")]
    Local {
        /// What the system said.
        why: String,
    },
    /// Nobody who has the node's key answers at these addresses, or it offers no remote API.
    #[error("{why}")]
    Unreachable {
        /// What was seen.
        why: String,
    },
    /// The node answers, but not to this key.
    #[error("the node lets nobody ask with this key")]
    NotEntitled,
    /// The node has no place: 16 connections in all, 4 with one key. Try again.
    #[error("the node talks to as many devices as it may")]
    Busy,
}

impl From<ApiError> for io::Error {
    fn from(error: ApiError) -> Self {
        let kind = match &error {
            ApiError::Local { .. } => io::ErrorKind::Other,
            ApiError::Unreachable { .. } => io::ErrorKind::ConnectionRefused,
            ApiError::NotEntitled => io::ErrorKind::PermissionDenied,
            ApiError::Busy => io::ErrorKind::ConnectionReset,
        };
        Self::new(kind, error.to_string())
    }
}

/// A device's way to one node. Cheap to clone; [`Remote::close`] ends all its streams.
#[derive(Clone, Debug)]
pub struct Remote {
    endpoint: Endpoint,
    node: NodeId,
    addresses: Vec<SocketAddr>,
}

impl Remote {
    /// Makes ready to reach `node` with the key of a device. Nothing is sent yet.
    ///
    /// # Errors
    /// [`ApiError::Local`].
    pub async fn new(
        secret_key: &[u8; 32],
        node: NodeId,
        addresses: Vec<SocketAddr>,
    ) -> Result<Self, ApiError> {
        let local = |why: String| ApiError::Local { why };
        let mut builder = Endpoint::builder(presets::Minimal)
            .secret_key(SecretKey::from_bytes(secret_key))
            .relay_mode(RelayMode::Disabled)
            .portmapper_config(PortmapperConfig::Disabled)
            .net_report_config(NetReportConfig::minimal())
            .transport_config(net::transport())
            .max_tls_tickets(0)
            .clear_ip_transports();
        for (ip, is_required) in [
            (Ipv4Addr::UNSPECIFIED.into(), true),
            (Ipv6Addr::UNSPECIFIED.into(), false),
        ] {
            let options = BindOpts::default()
                .set_is_required(is_required)
                .set_is_default_route(true);
            builder = builder
                .bind_addr_with_opts(SocketAddr::new(ip, 0), options)
                .map_err(|error| local(error.to_string()))?;
        }
        let endpoint = builder
            .bind()
            .await
            .map_err(|error| local(format!("{error:#}")))?;
        Ok(Self {
            endpoint,
            node,
            addresses,
        })
    }

    /// Opens a stream, trying all addresses at once, for at most 5 s.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn connect(&self) -> Result<ApiStream, ApiError> {
        let unreachable = |why: String| ApiError::Unreachable { why };
        let id = EndpointId::from_bytes(&self.node.0).map_err(|_invalid| ApiError::Local {
            why: "the id of the node is no key".to_owned(),
        })?;
        let addresses = self.addresses.iter().take(ADDRESS_COUNT_MAX).copied();
        let address = EndpointAddr::from_parts(id, addresses.map(TransportAddr::Ip));
        let opened = timeout(REACH_MAX, async {
            let connection = self
                .endpoint
                .connect(address, ALPN)
                .await
                .map_err(|error| unreachable(words(&error)))?;
            let broken = |stream: &str| match connection.close_reason() {
                Some(reason) => match refused_by(&reason) {
                    Some(Reason::Overload) => ApiError::Busy,
                    Some(_) => ApiError::NotEntitled,
                    None => unreachable(link::why(&reason)),
                },
                None => unreachable(stream.to_owned()),
            };
            let opened = connection.open_bi().await;
            let (mut send, mut receive) = opened.map_err(|error| broken(&error.to_string()))?;
            let sent = send.write_all(&[GREETING]).await;
            sent.map_err(|error| broken(&error.to_string()))?;
            let mut greeting = [0];
            let greeted = receive.read_exact(&mut greeting).await;
            greeted.map_err(|error| broken(&error.to_string()))?;
            if greeting != [GREETING] {
                return Err(unreachable("it does not greet back".to_owned()));
            }
            Ok((send, receive, connection))
        });
        let (send, receive, connection) = opened
            .await
            .map_err(|_elapsed| unreachable(format!("no answer within {REACH_MAX:?}")))??;
        Ok(ApiStream {
            peer: self.node.0,
            send,
            receive,
            connection,
            idle: None,
            _done: None,
        })
    }

    /// Ends all streams and tells the node, which gets half a second for it.
    pub async fn close(&self) {
        let _ = timeout(CLOSE_MAX, self.endpoint.close()).await;
    }
}

/// An error of a dial, for people.
fn words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = error.to_string();
        source = error.source();
    }
    // 120 is TLS's `no_application_protocol`.
    if text.contains("handshake failed: error 120") {
        return "it offers no remote API".to_owned();
    }
    text
}
