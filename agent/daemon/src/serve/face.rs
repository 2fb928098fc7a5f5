//! What the socket's calls become: questions to the owner task, one at a time.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use lab_agent_api::{
    End, Handler, Info, Notice, NoticeKind, Notices, Prepared, Refusal, Root, ViewMask,
};
use lab_agent_core::{Command, Reply};
use lab_crdt_model::view::ReplicaView;
use lab_crdt_model::{AuthorId, Caller, NodeId, StatementId};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_stream::Stream;
use tokio_stream::wrappers::WatchStream;

/// A question to the owner task.
#[derive(Debug)]
pub(crate) struct Ask {
    /// What.
    pub(crate) command: Command,
    /// Where the answer goes. Dropped when the agent stops.
    pub(crate) reply: oneshot::Sender<Reply>,
}

/// How often each kind of thing changed, as one counter for all.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Changes {
    count: u64,
    intent: u64,
    reports: u64,
    peers: u64,
}

impl Changes {
    /// Something of this kind changed.
    pub(crate) fn note(&mut self, kind: NoticeKind) {
        self.count += 1;
        let count = self.count;
        *self.of_mut(kind) = count;
    }

    fn of_mut(&mut self, kind: NoticeKind) -> &mut u64 {
        match kind {
            NoticeKind::Intent => &mut self.intent,
            NoticeKind::Reports => &mut self.reports,
            NoticeKind::Peers => &mut self.peers,
        }
    }
}

/// The daemon's side of the socket and of the remote API.
#[derive(Clone, Debug)]
pub(crate) struct Face {
    /// To the owner task. At 64 waiting questions further ones are refused as unavailable.
    pub(crate) asks: mpsc::Sender<Ask>,
    /// What changed, coalesced.
    pub(crate) changes: watch::Receiver<Changes>,
    /// Where the agent can be dialled.
    pub(crate) addresses: watch::Receiver<Vec<SocketAddr>>,
    /// Whether `block` is allowed.
    pub(crate) allows_faults: bool,
}

impl Face {
    async fn ask(&self, command: Command) -> Result<Reply, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.asks
            .try_send(Ask { command, reply })
            .map_err(|e| match e {
                mpsc::error::TrySendError::Full(_) => unavailable("the agent is busy: try again"),
                mpsc::error::TrySendError::Closed(_) => unavailable("the agent stops"),
            })?;
        match answer.await {
            Ok(Reply::Refused { code, why }) => Err(Refusal::Refused {
                code: code.to_owned(),
                why,
            }),
            Ok(reply) => Ok(reply),
            Err(_gone) => Err(unavailable("the agent stops")),
        }
    }
}

impl Handler for Face {
    async fn info(&self) -> Result<Info, Refusal> {
        let view = self.view(ViewMask::default()).await?;
        Ok(Info {
            node: view.me,
            mesh: view.mesh,
            mesh_name: view.mesh_name,
            version: view.version,
            uptime_ms: view.uptime_ms,
            allows_faults: self.allows_faults,
            addresses: self.addresses.borrow().clone(),
            pid: std::process::id(),
        })
    }

    async fn view(&self, mask: ViewMask) -> Result<Box<ReplicaView>, Refusal> {
        let mask = lab_agent_core::ViewMask {
            roster: mask.roster,
            fields: mask.fields,
            reports: mask.reports,
            history_count: mask.history_count,
            chains: mask.chains,
        };
        match self.ask(Command::View(mask)).await? {
            Reply::View(view) => Ok(view),
            other => Err(unexpected(&other)),
        }
    }

    async fn suppose(&self, ends: Vec<End>) -> Result<Box<ReplicaView>, Refusal> {
        let command = Command::Suppose {
            ends: ends
                .iter()
                .map(|end| (end.key, end.head, end.is_limited))
                .collect(),
            mask: lab_agent_core::ViewMask {
                roster: true,
                fields: true,
                reports: true,
                history_count: 0,
                chains: false,
            },
        };
        match self.ask(command).await? {
            Reply::View(view) => Ok(view),
            other => Err(unexpected(&other)),
        }
    }

    async fn prepare(&self, author: AuthorId) -> Result<Prepared, Refusal> {
        match self.ask(Command::Prepare { author }).await? {
            Reply::Prepared(prepared) => Ok(Prepared {
                author,
                mesh: prepared.mesh,
                seq: prepared.seq,
                prev: prepared.prev,
                refs: prepared.refs,
                hlc: prepared.hlc,
            }),
            other => Err(unexpected(&other)),
        }
    }

    async fn root(&self) -> Result<Root, Refusal> {
        match self.ask(Command::Root).await? {
            Reply::Root(root) => Ok(Root {
                record: root.record.into(),
                carrier: root.carrier,
                is_disputed: root.is_disputed,
            }),
            other => Err(unexpected(&other)),
        }
    }

    async fn submit(
        &self,
        caller: Caller,
        statements: Vec<Bytes>,
    ) -> Result<Vec<StatementId>, Refusal> {
        match self.ask(Command::Submit { caller, statements }).await? {
            Reply::Submitted { ids } => Ok(ids),
            other => Err(unexpected(&other)),
        }
    }

    async fn audit(&self, node: Option<NodeId>) -> Result<Vec<Bytes>, Refusal> {
        match self.ask(Command::Audit { node }).await? {
            Reply::Audit(records) => Ok(records),
            other => Err(unexpected(&other)),
        }
    }

    async fn watch(&self) -> Result<Notices, Refusal> {
        Ok(Box::pin(NoticeStream::new(self.changes.clone())))
    }

    async fn block(&self, peers: Vec<NodeId>) -> Result<(), Refusal> {
        if !self.allows_faults {
            let why = "this agent was not started with faults allowed".to_owned();
            return Err(Refusal::Denied { why });
        }
        match self.ask(Command::Block { peers }).await? {
            Reply::Ok => Ok(()),
            other => Err(unexpected(&other)),
        }
    }
}

fn unavailable(why: &str) -> Refusal {
    Refusal::Unavailable {
        why: why.to_owned(),
    }
}

/// The agent answered another question than was asked: a bug that costs one call.
fn unexpected(reply: &Reply) -> Refusal {
    tracing::error!(?reply, "the agent gave an answer of another kind");
    Refusal::Unavailable {
        why: "the agent gave an answer of another kind".to_owned(),
    }
}

/// Turns counters into notices. Holds at most one notice per kind, however slow its reader is.
struct NoticeStream {
    changes: WatchStream<Changes>,
    seen: Changes,
    is_fresh: bool,
    ready: VecDeque<Notice>,
}

impl NoticeStream {
    fn new(changes: watch::Receiver<Changes>) -> Self {
        let changes = WatchStream::new(changes);
        Self {
            changes,
            seen: Changes::default(),
            is_fresh: true,
            ready: VecDeque::new(),
        }
    }

    fn take_in(&mut self, mut changes: Changes) {
        for kind in NoticeKind::ALL {
            let version = *changes.of_mut(kind);
            if self.is_fresh || version != *self.seen.of_mut(kind) {
                self.ready.push_back(Notice { version, kind });
            }
        }
        self.is_fresh = false;
        self.seen = changes;
    }
}

impl Stream for NoticeStream {
    type Item = Notice;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Notice>> {
        loop {
            if let Some(notice) = self.ready.pop_front() {
                return Poll::Ready(Some(notice));
            }
            match Pin::new(&mut self.changes).poll_next(context) {
                Poll::Ready(Some(changes)) => self.take_in(changes),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio_stream::StreamExt as _;

    use super::*;

    fn face(waiting: usize) -> (Face, mpsc::Receiver<Ask>, watch::Sender<Changes>) {
        let (asks, asked) = mpsc::channel(waiting);
        let (changed, changes) = watch::channel(Changes::default());
        let (_address, addresses) = watch::channel(vec![]);
        (
            Face {
                asks,
                changes,
                addresses,
                allows_faults: false,
            },
            asked,
            changed,
        )
    }

    #[tokio::test]
    async fn the_first_notice_of_each_kind_comes_at_once_and_later_ones_are_coalesced() {
        let (face, _asked, changed) = face(1);
        let mut notices = face.watch().await.unwrap();
        for kind in NoticeKind::ALL {
            assert_eq!(notices.next().await, Some(Notice { version: 0, kind }));
        }

        for _ in 0..1000 {
            changed.send_modify(|c| c.note(NoticeKind::Reports));
        }
        changed.send_modify(|c| c.note(NoticeKind::Intent));
        drop(changed);

        let rest: Vec<_> = notices.collect().await;
        let expected = [
            Notice {
                version: 1001,
                kind: NoticeKind::Intent,
            },
            Notice {
                version: 1000,
                kind: NoticeKind::Reports,
            },
        ];
        assert_eq!(rest, expected);
    }

    #[tokio::test]
    async fn an_answer_goes_to_who_asked() {
        let (face, mut asked, _changed) = face(1);
        let caller = Caller::Device(AuthorId([6; 32]));
        let owner = async {
            let ask = asked.recv().await.unwrap();
            let Command::Submit { caller: by, .. } = ask.command else {
                panic!("{:?}", ask.command);
            };
            assert_eq!(by, caller);
            ask.reply
                .send(Reply::Submitted {
                    ids: vec![StatementId([4; 32])],
                })
                .unwrap();
        };

        let (answer, ()) = tokio::join!(face.submit(caller, vec![Bytes::from_static(b"x")]), owner);

        assert_eq!(answer, Ok(vec![StatementId([4; 32])]));
    }

    #[tokio::test]
    async fn a_refusal_of_the_agent_keeps_its_code() {
        let (face, mut asked, _changed) = face(1);
        let owner = async {
            let ask = asked.recv().await.unwrap();
            ask.reply
                .send(Reply::Refused {
                    code: "M017",
                    why: "no".into(),
                })
                .unwrap();
        };

        let (answer, ()) = tokio::join!(face.prepare(AuthorId([1; 32])), owner);

        assert_eq!(
            answer,
            Err(Refusal::Refused {
                code: "M017".into(),
                why: "no".into()
            })
        );
    }

    #[tokio::test]
    async fn a_busy_or_stopped_agent_is_unavailable() {
        let (face, mut asked, _changed) = face(1);
        face.asks
            .try_send(Ask {
                command: Command::Block { peers: vec![] },
                reply: oneshot::channel().0,
            })
            .unwrap();

        let full = face.prepare(AuthorId([1; 32])).await;
        assert!(matches!(full, Err(Refusal::Unavailable { .. })));
        let _first = asked.recv().await;
        let (dropped, ()) = tokio::join!(face.prepare(AuthorId([1; 32])), async {
            drop(asked.recv().await);
        });
        assert!(matches!(dropped, Err(Refusal::Unavailable { .. })));
        drop(asked);
        let closed = face.prepare(AuthorId([1; 32])).await;
        assert!(matches!(closed, Err(Refusal::Unavailable { .. })));
    }

    #[tokio::test]
    async fn faults_are_refused_unless_allowed() {
        let (face, _asked, _changed) = face(1);
        assert!(matches!(
            face.block(vec![]).await,
            Err(Refusal::Denied { .. })
        ));
    }
}
