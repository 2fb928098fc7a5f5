//! The asking side.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper_util::rt::TokioIo;
use lab_crdt_model::view::ReplicaView;
use lab_crdt_model::{AuthorId, Hlc, MeshId, NodeId, StatementId};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use crate::audit::AuditDecoder;
use crate::error::ClientError;
use crate::types::{End, Info, Notice, NoticeKind, Prepared, Root, ViewMask};
use crate::view::ViewDecoder;
use crate::wire::pb::agent_client::AgentClient;
use crate::wire::{CODE_KEY, MESSAGE_BYTES_MAX, bytes32, id32, ids32, pb};

/// How long an answer may take. A submission waits for the disk, a view of a large mesh for its encoding.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the first exchange on a new connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a remote agent is asked for a sign of life while a call runs.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// A connection to an agent. Cheap to clone; clones share the connection.
#[derive(Clone, Debug)]
pub struct Client {
    place: Place,
    agent: AgentClient<Channel>,
}

/// Where an agent is.
#[derive(Clone, Debug)]
enum Place {
    Socket(PathBuf),
    Remote {
        name: String,
        /// What the other end said when it refused the key.
        refusal: Refusal,
    },
}

impl Client {
    /// Connects to the agent at `socket`.
    ///
    /// # Errors
    /// [`ClientError::NotRunning`] if nobody listens there, [`ClientError::Denied`] if the socket's mode forbids it,
    /// [`ClientError::Protocol`] if what listens there is not an agent.
    pub async fn connect(socket: impl AsRef<Path>) -> Result<Self, ClientError> {
        let socket = socket.as_ref().to_owned();
        let first = UnixStream::connect(&socket)
            .await
            .map_err(|e| unreachable(&socket, e))?;
        let first = Arc::new(Mutex::new(Some(first)));
        let path = socket.clone();
        let connector = tower::service_fn(move |_uri| {
            let first = first.lock().unwrap_or_else(PoisonError::into_inner).take();
            let path = path.clone();
            async move {
                let stream = match first {
                    Some(stream) => stream,
                    None => UnixStream::connect(path).await?,
                };
                Ok::<_, io::Error>(TokioIo::new(stream))
            }
        });
        let endpoint = Endpoint::from_static("http://agent.invalid")
            .connect_timeout(CONNECT_TIMEOUT)
            .initial_stream_window_size(1 << 20);
        let channel =
            tokio::time::timeout(CONNECT_TIMEOUT, endpoint.connect_with_connector(connector))
                .await
                .map_err(|_elapsed| ClientError::Unanswered {
                    why: "it does not greet back".to_owned(),
                })?
                .map_err(|e| ClientError::Protocol { why: chain(&e) })?;
        let agent = AgentClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let place = Place::Socket(socket);
        Ok(Self { place, agent })
    }

    /// Speaks over a stream to the agent of another machine, which proved who it is; `place` names it for people. When
    /// the stream has ended, the next call opens another one with `dial`; an error of kind `PermissionDenied` says that
    /// the key was refused.
    ///
    /// # Errors
    /// [`ClientError::NotEntitled`] if the stream ends as the key is refused, [`ClientError::Protocol`] if what answers
    /// is not an agent.
    pub async fn over<S, D, F>(first: S, dial: D, place: &str) -> Result<Self, ClientError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
        D: Fn() -> F + Clone + Send + Sync + 'static,
        F: Future<Output = io::Result<S>> + Send + 'static,
    {
        let refusal = Refusal::default();
        let noted = refusal.clone();
        let first = Arc::new(Mutex::new(Some(first)));
        let connector = tower::service_fn(move |_uri| {
            let first = first.lock().unwrap_or_else(PoisonError::into_inner).take();
            let dial = dial.clone();
            let refusal = noted.clone();
            async move {
                let stream = match first {
                    Some(stream) => stream,
                    None => dial().await.inspect_err(|error| refusal.note(error))?,
                };
                Ok::<_, io::Error>(TokioIo::new(Noting { stream, refusal }))
            }
        });
        let endpoint = Endpoint::from_static("http://agent.invalid")
            .connect_timeout(CONNECT_TIMEOUT)
            .initial_stream_window_size(1 << 20)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(false);
        let connected = endpoint.connect_with_connector(connector);
        let channel = tokio::time::timeout(CONNECT_TIMEOUT, connected)
            .await
            .map_err(|_elapsed| ClientError::Unanswered {
                why: "it does not greet back".to_owned(),
            })?
            .map_err(|e| ClientError::Protocol { why: chain(&e) })?;
        let agent = AgentClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let name = place.to_owned();
        let place = Place::Remote { name, refusal };
        Ok(Self { place, agent })
    }

    /// Asks who answers.
    ///
    /// # Errors
    /// See [`ClientError`]; the same holds for every call below.
    pub async fn info(&self) -> Result<Info, ClientError> {
        let reply = self
            .agent
            .clone()
            .info(limited(pb::InfoRequest {}))
            .await
            .map_err(|e| self.failed(&e))?;
        let info = reply.into_inner();
        Ok(Info {
            node: NodeId(id32("node", &info.node).map_err(|e| protocol(&e))?),
            mesh: MeshId(id32("mesh", &info.mesh).map_err(|e| protocol(&e))?),
            mesh_name: info.mesh_name,
            version: info.version,
            uptime_ms: info.uptime_ms,
            allows_faults: info.allows_faults,
            addresses: info
                .addresses
                .iter()
                .filter_map(|text| text.parse().ok())
                .collect(),
            pid: info.pid,
        })
    }

    /// Fetches the replica.
    pub async fn view(&self, mask: ViewMask) -> Result<ReplicaView, ClientError> {
        let request = pb::ViewRequest {
            roster: mask.roster,
            fields: mask.fields,
            reports: mask.reports,
            history_count: mask.history_count,
            chains: mask.chains,
        };
        let reply = self.agent.clone().view(limited(request)).await;
        self.collect(reply.map_err(|e| self.failed(&e))?.into_inner())
            .await
    }

    /// Fetches the whole replica as it would be if some keys were at an end, at most [`ENDS_MAX`](crate::ENDS_MAX).
    pub async fn suppose(&self, ends: &[End]) -> Result<ReplicaView, ClientError> {
        let ends = ends.iter().map(|end| pb::End {
            key: bytes32(&end.key.0),
            head: end.head.map(|id| bytes32(&id.0)).unwrap_or_default(),
            limited: end.is_limited,
        });
        let request = pb::SupposeRequest {
            ends: ends.collect(),
        };
        let reply = self.agent.clone().suppose(limited(request)).await;
        self.collect(reply.map_err(|e| self.failed(&e))?.into_inner())
            .await
    }

    async fn collect(
        &self,
        mut chunks: tonic::Streaming<pb::Chunk>,
    ) -> Result<ReplicaView, ClientError> {
        let mut decoder = ViewDecoder::default();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|e| self.failed(&e))?;
            decoder
                .push(&chunk.bytes)
                .map_err(|e| ClientError::Protocol { why: e.to_string() })?;
        }
        decoder
            .finish()
            .map_err(|e| ClientError::Protocol { why: e.to_string() })
    }

    /// Asks what `author` needs to sign its next statement.
    pub async fn prepare(&self, author: AuthorId) -> Result<Prepared, ClientError> {
        let request = pb::PrepareRequest {
            author: bytes32(&author.0),
        };
        let reply = self
            .agent
            .clone()
            .prepare(limited(request))
            .await
            .map_err(|e| self.failed(&e))?;
        let reply = reply.into_inner();
        Ok(Prepared {
            author,
            mesh: MeshId(id32("mesh", &reply.mesh).map_err(|e| protocol(&e))?),
            seq: reply.seq,
            prev: StatementId(id32("prev", &reply.prev).map_err(|e| protocol(&e))?),
            refs: statements("ref", &reply.refs)?,
            hlc: Hlc(reply.hlc),
        })
    }

    /// Asks for the root record in force.
    pub async fn root(&self) -> Result<Root, ClientError> {
        let reply = self
            .agent
            .clone()
            .root(limited(pb::RootRequest {}))
            .await
            .map_err(|e| self.failed(&e))?;
        let reply = reply.into_inner();
        let carrier = match &reply.carrier[..] {
            [] => None,
            id => Some(StatementId(id32("carrier", id).map_err(|e| protocol(&e))?)),
        };
        Ok(Root {
            record: reply.record,
            carrier,
            is_disputed: reply.is_disputed,
        })
    }

    /// Hands in signed statements, in order, all or none; returns once they are durable on this node, with their ids.
    pub async fn submit(&self, statements: Vec<Bytes>) -> Result<Vec<StatementId>, ClientError> {
        let sent = statements.len();
        let request = pb::SubmitRequest { statements };
        let reply = self
            .agent
            .clone()
            .submit(limited(request))
            .await
            .map_err(|e| self.failed(&e))?;
        let ids = self::statements("id", &reply.into_inner().ids)?;
        if ids.len() == sent {
            Ok(ids)
        } else {
            let why = format!(
                "{sent} statements were handed in, {} were answered",
                ids.len()
            );
            Err(ClientError::Protocol { why })
        }
    }

    /// Fetches the audit records that are kept here: of one node, or of all. Nothing of them was verified.
    pub async fn audit(&self, node: Option<NodeId>) -> Result<Vec<Bytes>, ClientError> {
        let request = pb::AuditRequest {
            node: node.map(|node| bytes32(&node.0)).unwrap_or_default(),
        };
        let reply = self.agent.clone().audit(limited(request)).await;
        let mut chunks = reply.map_err(|e| self.failed(&e))?.into_inner();
        let mut decoder = AuditDecoder::default();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|e| self.failed(&e))?;
            decoder.push(&chunk.bytes);
        }
        decoder.finish().ok_or_else(|| ClientError::Protocol {
            why: "the audit records are cut off or of a later version".to_owned(),
        })
    }

    /// Watches for changes. The first notice of each kind comes at once, so that what is fetched after it misses
    /// nothing; later ones are coalesced. The stream ends with an error when the agent stops.
    pub async fn watch(
        &self,
    ) -> Result<impl Stream<Item = Result<Notice, ClientError>> + Unpin + use<>, ClientError> {
        let reply = self
            .agent
            .clone()
            .watch(Request::new(pb::WatchRequest {}))
            .await;
        let notices = reply.map_err(|e| self.failed(&e))?.into_inner();
        let client = self.clone();
        Ok(notices.map(move |notice| {
            let notice = notice.map_err(|e| client.failed(&e))?;
            let kind = match notice.kind() {
                pb::NoticeKind::Intent => NoticeKind::Intent,
                pb::NoticeKind::Reports => NoticeKind::Reports,
                pb::NoticeKind::Peers => NoticeKind::Peers,
                pb::NoticeKind::Unspecified => {
                    return Err(ClientError::Protocol {
                        why: "a notice of no known kind".to_owned(),
                    });
                }
            };
            Ok(Notice {
                version: notice.version,
                kind,
            })
        }))
    }

    /// Makes the agent behave as if `peers` could not be reached; replaces the earlier set. For tests and the demo.
    pub async fn block(&self, peers: &[NodeId]) -> Result<(), ClientError> {
        let request = pb::BlockRequest {
            peers: peers.iter().map(|id| bytes32(&id.0)).collect(),
        };
        self.agent
            .clone()
            .block(limited(request))
            .await
            .map_err(|e| self.failed(&e))?;
        Ok(())
    }

    /// Turns a failed call into what the caller can act on.
    fn failed(&self, status: &Status) -> ClientError {
        let why = status.message().to_owned();
        match status.code() {
            Code::FailedPrecondition => {
                let code = status
                    .metadata()
                    .get(CODE_KEY)
                    .and_then(|v| v.to_str().ok())
                    .unwrap_or("M000");
                ClientError::Refused {
                    code: code.to_owned(),
                    why,
                }
            }
            Code::PermissionDenied => match &self.place {
                Place::Socket(_) => ClientError::Denied { why },
                Place::Remote { name, .. } => ClientError::NotEntitled {
                    place: name.clone(),
                    why,
                },
            },
            _ if let Place::Remote { name, refusal } = &self.place
                && let Some(why) = refusal.words() =>
            {
                ClientError::NotEntitled {
                    place: name.clone(),
                    why,
                }
            }
            Code::Unavailable
                if let Place::Socket(socket) = &self.place
                    && io_source(status).is_some_and(|e| is_absent(e.kind())) =>
            {
                ClientError::NotRunning {
                    socket: socket.clone(),
                    source: io::Error::new(io::ErrorKind::NotFound, why),
                }
            }
            Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded => {
                ClientError::Unanswered { why }
            }
            Code::Unknown if std::error::Error::source(status).is_some() => {
                ClientError::Unanswered {
                    why: "the connection broke".to_owned(),
                }
            }
            Code::Ok
            | Code::Unknown
            | Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::ResourceExhausted
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::Internal
            | Code::DataLoss
            | Code::Unauthenticated => ClientError::Protocol {
                why: format!("{:?}: {why}", status.code()),
            },
        }
    }
}

fn limited<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(ANSWER_TIMEOUT);
    request
}

fn statements(field: &'static str, list: &[Bytes]) -> Result<Vec<StatementId>, ClientError> {
    let ids = ids32(field, list).map_err(|e| protocol(&e))?;
    Ok(ids.into_iter().map(StatementId).collect())
}

fn protocol(status: &Status) -> ClientError {
    ClientError::Protocol {
        why: status.message().to_owned(),
    }
}

fn unreachable(socket: &Path, source: io::Error) -> ClientError {
    if source.kind() == io::ErrorKind::PermissionDenied {
        return ClientError::Denied {
            why: format!("{} is not open to this user", socket.display()),
        };
    }
    ClientError::NotRunning {
        socket: socket.to_owned(),
        source,
    }
}

fn is_absent(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}

/// Whether and why the other end refused the key, seen where the transport says it: HTTP/2 forgets it on the way.
#[derive(Clone, Debug, Default)]
struct Refusal(Arc<Mutex<Option<String>>>);

impl Refusal {
    fn note(&self, error: &io::Error) {
        if error.kind() == io::ErrorKind::PermissionDenied {
            let mut words = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            *words = Some(error.to_string());
        }
    }

    fn words(&self) -> Option<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// A stream whose refusal is noted.
struct Noting<S> {
    stream: S,
    refusal: Refusal,
}

impl<S: AsyncRead + Unpin> AsyncRead for Noting<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        read.map(|read| read.inspect_err(|error| self.refusal.note(error)))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Noting<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        written.map(|written| written.inspect_err(|error| self.refusal.note(error)))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// The system's error under a failed call, if there is one.
fn io_source(status: &Status) -> Option<&io::Error> {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return Some(io);
        }
        source = error.source();
    }
    None
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
