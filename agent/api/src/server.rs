//! The answering side: model types in, model types out; the wire stays here.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use lab_crdt_model::limit::STATEMENT_BYTES_MAX;
use lab_crdt_model::view::ReplicaView;
use lab_crdt_model::{AuthorId, Caller, NodeId, StatementId};
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Code, Request, Response, Status};

use crate::audit::audit_chunks;
use crate::guard::{Guarded, Identify};
use crate::methods::Asker;
use crate::types::{End, Info, Notice, NoticeKind, Prepared, Root, ViewMask};
use crate::view::encode_view;
use crate::wire::pb::agent_server::{Agent, AgentServer};
use crate::wire::{
    CODE_KEY, ENDS_MAX, MESSAGE_BYTES_MAX, SUBMIT_COUNT_MAX, bytes32, id32, ids32, pb,
};

/// A stream of change notices; it ends when the agent stops.
pub type Notices = Pin<Box<dyn Stream<Item = Notice> + Send>>;

/// Why a question was not answered, as the agent sees it. Nothing was changed, unless it says otherwise.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The agent said no.
    Refused {
        /// Stable code: `M0xx`.
        code: String,
        /// Why; at most 2,000 bytes are sent.
        why: String,
    },
    /// The caller is not allowed to ask this.
    Denied {
        /// Why.
        why: String,
    },
    /// The agent stops, or has more questions waiting than it allows.
    Unavailable {
        /// Why.
        why: String,
    },
}

/// Who answers. The daemon is one; tests have another.
pub trait Handler: Send + Sync + 'static {
    /// Says who answers.
    fn info(&self) -> impl Future<Output = Result<Info, Refusal>> + Send;
    /// Shows the replica.
    fn view(
        &self,
        mask: ViewMask,
    ) -> impl Future<Output = Result<Box<ReplicaView>, Refusal>> + Send;
    /// Shows the whole replica as it would be if some keys were at an end: at most [`ENDS_MAX`].
    fn suppose(
        &self,
        ends: Vec<End>,
    ) -> impl Future<Output = Result<Box<ReplicaView>, Refusal>> + Send;
    /// Says what an author needs to sign its next statement.
    fn prepare(&self, author: AuthorId) -> impl Future<Output = Result<Prepared, Refusal>> + Send;
    /// The root record in force.
    fn root(&self) -> impl Future<Output = Result<Root, Refusal>> + Send;
    /// Takes in signed statements, all or none, and answers once they are durable: 1 to [`SUBMIT_COUNT_MAX`] of
    /// at most `STATEMENT_BYTES_MAX` bytes, which was checked. A device hands in only what its own key signed, and root
    /// records, which was not.
    fn submit(
        &self,
        caller: Caller,
        statements: Vec<Bytes>,
    ) -> impl Future<Output = Result<Vec<StatementId>, Refusal>> + Send;
    /// Audit records that are kept here: of one node, or of all.
    fn audit(
        &self,
        node: Option<NodeId>,
    ) -> impl Future<Output = Result<Vec<Bytes>, Refusal>> + Send;
    /// Says when something changes.
    fn watch(&self) -> impl Future<Output = Result<Notices, Refusal>> + Send;
    /// Behaves as if these peers could not be reached.
    fn block(&self, peers: Vec<NodeId>) -> impl Future<Output = Result<(), Refusal>> + Send;
}

/// Wraps a handler for a tonic server, behind [the table of methods](crate::METHODS).
pub fn service<H: Handler, I: Identify>(
    handler: H,
    identify: I,
) -> Guarded<AgentServer<impl Agent>, I> {
    let server = AgentServer::new(Adapter { handler }).max_decoding_message_size(MESSAGE_BYTES_MAX);
    Guarded::new(server, identify)
}

/// Who asks, as the guard noted it.
fn asker<T>(request: &Request<T>) -> Result<Asker, Status> {
    let asker = request.extensions().get::<Asker>().copied();
    asker.ok_or_else(|| Status::permission_denied("who asks is not known"))
}

type Chunks = Pin<Box<dyn Stream<Item = Result<pb::Chunk, Status>> + Send>>;

fn chunks(view: &ReplicaView) -> Result<Response<Chunks>, Status> {
    let chunks = encode_view(view);
    if chunks.is_empty() {
        return Err(Status::out_of_range(
            "the view is too large to send: ask for fewer parts",
        ));
    }
    let chunks = chunks.into_iter().map(|bytes| Ok(pb::Chunk { bytes }));
    Ok(Response::new(Box::pin(tokio_stream::iter(chunks))))
}

struct Adapter<H> {
    handler: H,
}

#[tonic::async_trait]
impl<H: Handler> Agent for Adapter<H> {
    type ViewStream = Chunks;
    type SupposeStream = Chunks;
    type AuditStream = Chunks;
    type WatchStream = Pin<Box<dyn Stream<Item = Result<pb::Notice, Status>> + Send>>;

    async fn info(
        &self,
        _request: Request<pb::InfoRequest>,
    ) -> Result<Response<pb::InfoReply>, Status> {
        let info = self.handler.info().await?;
        Ok(Response::new(pb::InfoReply {
            node: bytes32(&info.node.0),
            mesh: bytes32(&info.mesh.0),
            mesh_name: info.mesh_name,
            version: info.version,
            uptime_ms: info.uptime_ms,
            allows_faults: info.allows_faults,
            addresses: info.addresses.iter().map(ToString::to_string).collect(),
            pid: info.pid,
        }))
    }

    async fn view(
        &self,
        request: Request<pb::ViewRequest>,
    ) -> Result<Response<Self::ViewStream>, Status> {
        let mask = request.into_inner();
        let mask = ViewMask {
            roster: mask.roster,
            fields: mask.fields,
            reports: mask.reports,
            history_count: mask.history_count,
            chains: mask.chains,
        };
        chunks(&*self.handler.view(mask).await?)
    }

    async fn suppose(
        &self,
        request: Request<pb::SupposeRequest>,
    ) -> Result<Response<Self::SupposeStream>, Status> {
        let ends = request.into_inner().ends;
        if ends.len() > ENDS_MAX {
            let why = format!("at most {ENDS_MAX} keys are considered at a time");
            return Err(Status::invalid_argument(why));
        }
        let ends = ends
            .iter()
            .map(|end| {
                let head = match &end.head[..] {
                    [] => None,
                    id => Some(StatementId(id32("head", id)?)),
                };
                let key = AuthorId(id32("key", &end.key)?);
                Ok(End {
                    key,
                    head,
                    is_limited: end.limited,
                })
            })
            .collect::<Result<Vec<_>, Status>>()?;
        chunks(&*self.handler.suppose(ends).await?)
    }

    async fn prepare(
        &self,
        request: Request<pb::PrepareRequest>,
    ) -> Result<Response<pb::PrepareReply>, Status> {
        let author = AuthorId(id32("author", &request.into_inner().author)?);
        let prepared = self.handler.prepare(author).await?;
        Ok(Response::new(pb::PrepareReply {
            mesh: bytes32(&prepared.mesh.0),
            seq: prepared.seq,
            prev: bytes32(&prepared.prev.0),
            refs: prepared.refs.iter().map(|id| bytes32(&id.0)).collect(),
            hlc: prepared.hlc.0,
        }))
    }

    async fn root(
        &self,
        _request: Request<pb::RootRequest>,
    ) -> Result<Response<pb::RootReply>, Status> {
        let root = self.handler.root().await?;
        Ok(Response::new(pb::RootReply {
            record: root.record,
            carrier: root.carrier.map(|id| bytes32(&id.0)).unwrap_or_default(),
            is_disputed: root.is_disputed,
        }))
    }

    async fn submit(
        &self,
        request: Request<pb::SubmitRequest>,
    ) -> Result<Response<pb::SubmitReply>, Status> {
        let caller = asker(&request)?.caller;
        let statements = request.into_inner().statements;
        if statements.is_empty() || statements.len() > SUBMIT_COUNT_MAX {
            let why = format!("a submission has 1 to {SUBMIT_COUNT_MAX} statements");
            return Err(Status::invalid_argument(why));
        }
        if let Some(long) = statements
            .iter()
            .find(|bytes| bytes.len() > STATEMENT_BYTES_MAX)
        {
            let why = format!(
                "a statement has at most {STATEMENT_BYTES_MAX} bytes, one has {}",
                long.len()
            );
            return Err(Status::invalid_argument(why));
        }
        let ids = self.handler.submit(caller, statements).await?;
        Ok(Response::new(pb::SubmitReply {
            ids: ids.iter().map(|id| bytes32(&id.0)).collect(),
        }))
    }

    async fn audit(
        &self,
        request: Request<pb::AuditRequest>,
    ) -> Result<Response<Self::AuditStream>, Status> {
        let node = match &request.into_inner().node[..] {
            [] => None,
            id => Some(NodeId(id32("node", id)?)),
        };
        let records = self.handler.audit(node).await?;
        let chunks = audit_chunks(records).map(|bytes| Ok(pb::Chunk { bytes }));
        Ok(Response::new(Box::pin(tokio_stream::iter(chunks))))
    }

    async fn watch(
        &self,
        _request: Request<pb::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let notices = self.handler.watch().await?;
        let notices = notices.map(|notice| {
            let kind = match notice.kind {
                NoticeKind::Intent => pb::NoticeKind::Intent,
                NoticeKind::Reports => pb::NoticeKind::Reports,
                NoticeKind::Peers => pb::NoticeKind::Peers,
            };
            Ok(pb::Notice {
                version: notice.version,
                kind: kind.into(),
            })
        });
        Ok(Response::new(Box::pin(notices)))
    }

    async fn block(
        &self,
        request: Request<pb::BlockRequest>,
    ) -> Result<Response<pb::BlockReply>, Status> {
        let peers = ids32("peer", &request.into_inner().peers)?;
        self.handler
            .block(peers.into_iter().map(NodeId).collect())
            .await?;
        Ok(Response::new(pb::BlockReply {}))
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Refused { code, why } => {
                let mut status = Self::new(Code::FailedPrecondition, cut(why));
                if let Ok(code) = code.parse() {
                    status.metadata_mut().insert(CODE_KEY, code);
                }
                status
            }
            Refusal::Denied { why } => Self::new(Code::PermissionDenied, cut(why)),
            Refusal::Unavailable { why } => Self::new(Code::Unavailable, cut(why)),
        }
    }
}

/// Shortens a reason to what fits into a header.
fn cut(mut why: String) -> String {
    const WHY_BYTES_MAX: usize = 2000;
    if why.len() > WHY_BYTES_MAX {
        why.truncate(
            (0..=WHY_BYTES_MAX)
                .rev()
                .find(|at| why.is_char_boundary(*at))
                .unwrap_or(0),
        );
    }
    why
}
