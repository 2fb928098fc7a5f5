//! The client against a fake agent, over a real Unix socket.

use std::collections::BTreeMap;
use std::future::pending;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use lab_crdt_model::limit::STATEMENT_BYTES_MAX;
use lab_crdt_model::view::ReplicaView;
use lab_crdt_model::{AuthorId, Caller, Hlc, MeshId, NodeId, Standing, StatementId, Wall};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;

use crate::*;

#[derive(Clone, Default)]
struct Fake {
    refusal: Option<Refusal>,
    submitted: Arc<Mutex<Vec<Bytes>>>,
    caller: Arc<Mutex<Option<Caller>>>,
    blocked: Arc<Mutex<Vec<NodeId>>>,
    callers: Arc<Mutex<Vec<Caller>>>,
    /// A submission is answered when this has room.
    room: Option<Arc<Semaphore>>,
    is_deaf: bool,
}

const OWNER: Asker = Asker {
    caller: Caller::Local { uid: 7 },
    role: Role::Owner,
};

impl Fake {
    fn answer<T>(&self, value: T) -> Result<T, Refusal> {
        self.refusal.clone().map_or(Ok(value), Err)
    }
}

impl Handler for Fake {
    async fn info(&self) -> Result<Info, Refusal> {
        if self.is_deaf {
            pending::<()>().await;
        }
        self.answer(info())
    }

    async fn view(&self, mask: ViewMask) -> Result<Box<ReplicaView>, Refusal> {
        let mut view = view();
        view.statement_count = u64::from(mask.history_count);
        if mask.fields {
            view.heads = vec![[1; 32]; 50_000];
        }
        self.answer(Box::new(view))
    }

    async fn suppose(&self, ends: Vec<End>) -> Result<Box<ReplicaView>, Refusal> {
        let mut view = view();
        view.statement_count = ends.len() as u64;
        view.digest = ends[0].key.0;
        view.register_digest = ends[1].head.unwrap().0;
        self.answer(Box::new(view))
    }

    async fn prepare(&self, author: AuthorId) -> Result<Prepared, Refusal> {
        self.answer(prepared(author))
    }

    async fn root(&self) -> Result<Root, Refusal> {
        self.answer(root())
    }

    async fn submit(
        &self,
        caller: Caller,
        statements: Vec<Bytes>,
    ) -> Result<Vec<StatementId>, Refusal> {
        self.callers.lock().unwrap().push(caller);
        if let Some(room) = &self.room {
            room.acquire().await.unwrap().forget();
        }
        let ids = (0..statements.len())
            .map(|i| StatementId([i as u8; 32]))
            .collect();
        self.submitted.lock().unwrap().extend(statements);
        *self.caller.lock().unwrap() = Some(caller);
        self.answer(ids)
    }

    async fn audit(&self, node: Option<NodeId>) -> Result<Vec<Bytes>, Refusal> {
        let count = if node.is_some() { 3 } else { 5_000 };
        self.answer((0..count).map(|n| vec![n as u8; 700].into()).collect())
    }

    async fn watch(&self) -> Result<Notices, Refusal> {
        let notices = NoticeKind::ALL.map(|kind| Notice { version: 9, kind });
        self.answer(Box::pin(tokio_stream::iter(notices)))
    }

    async fn block(&self, peers: Vec<NodeId>) -> Result<(), Refusal> {
        *self.blocked.lock().unwrap() = peers;
        self.answer(())
    }
}

fn info() -> Info {
    Info {
        node: NodeId([1; 32]),
        mesh: MeshId([2; 32]),
        mesh_name: "home".into(),
        version: "0.1.0".into(),
        uptime_ms: 5,
        allows_faults: true,
        addresses: vec!["127.0.0.1:1".parse().unwrap(), "[::1]:2".parse().unwrap()],
        pid: 77,
    }
}

fn view() -> ReplicaView {
    ReplicaView {
        mesh: MeshId([2; 32]),
        mesh_name: "home".into(),
        me: NodeId([1; 32]),
        at: Wall(1),
        uptime_ms: 2,
        version: "0.1.0".into(),
        digest: [0; 32],
        register_digest: [0; 32],
        heads: vec![],
        statement_count: 0,
        pending_count: 0,
        members: vec![],
        operators: vec![],
        invites: vec![],
        fields: vec![],
        reports: vec![],
        peers: vec![],
        history: vec![],
        refused: vec![],
        issues: vec![],
        bindings: BTreeMap::new(),
        joins: vec![],
        checkpoints: vec![],
        held: vec![],
        chains: vec![],
    }
}

fn root() -> Root {
    Root {
        record: Bytes::from_static(b"a record"),
        carrier: Some(StatementId([7; 32])),
        is_disputed: true,
    }
}

fn prepared(author: AuthorId) -> Prepared {
    Prepared {
        author,
        mesh: MeshId([2; 32]),
        seq: 4,
        prev: StatementId([3; 32]),
        refs: vec![StatementId([5; 32]), StatementId([6; 32])],
        hlc: Hlc(u64::MAX),
    }
}

/// A fake agent on a socket and a runtime of its own; it stops, connections and all, when dropped.
struct Running {
    dir: TempDir,
    runtime: Option<Runtime>,
}

impl Running {
    fn start(fake: Fake) -> Self {
        let mut running = Self {
            dir: TempDir::new().unwrap(),
            runtime: None,
        };
        running.restart(fake);
        running
    }

    fn restart(&mut self, fake: Fake) {
        self.stop();
        let listener = std::os::unix::net::UnixListener::bind(self.socket()).unwrap();
        listener.set_nonblocking(true).unwrap();
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let handle = runtime.handle().clone();
        let mut tasks = JoinSet::new();
        tasks.spawn_on(
            async move {
                let connections =
                    UnixListenerStream::new(UnixListener::from_std(listener).unwrap());
                let server = Server::builder().add_service(service(fake, |_: &_| Ok(OWNER)));
                server.serve_with_incoming(connections).await.unwrap();
            },
            &handle,
        );
        tasks.detach_all();
        self.runtime = Some(runtime);
    }

    fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
            std::fs::remove_file(self.socket()).unwrap();
        }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("lab.sock")
    }

    async fn client(&self) -> Client {
        Client::connect(self.socket()).await.unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

#[tokio::test]
async fn every_answer_arrives_as_it_was_given() {
    let fake = Fake::default();
    let running = Running::start(fake.clone());
    let client = running.client().await;
    let author = AuthorId([8; 32]);

    assert_eq!(client.info().await.unwrap(), info());
    let ends = [
        End {
            key: author,
            head: None,
            is_limited: false,
        },
        End {
            key: author,
            head: Some(StatementId([4; 32])),
            is_limited: true,
        },
    ];
    let supposed = client.suppose(&ends).await.unwrap();
    assert_eq!((supposed.statement_count, supposed.digest), (2, author.0));
    assert_eq!(supposed.register_digest, [4; 32]);
    let many = vec![ends[0]; ENDS_MAX + 1];
    assert!(client.suppose(&many).await.is_err());
    assert_eq!(client.root().await.unwrap(), root());
    assert_eq!(client.prepare(author).await.unwrap(), prepared(author));
    assert_eq!(
        client
            .view(ViewMask::ALL.with_history(12))
            .await
            .unwrap()
            .statement_count,
        12
    );
    let statements = vec![Bytes::from_static(b"one"), Bytes::from_static(b"two")];
    let ids = client.submit(statements.clone()).await.unwrap();
    assert_eq!(ids, [StatementId([0; 32]), StatementId([1; 32])]);
    assert_eq!(*fake.submitted.lock().unwrap(), statements);
    assert_eq!(*fake.callers.lock().unwrap(), [OWNER.caller]);
    assert_eq!(client.audit(None).await.unwrap().len(), 5_000);
    let of_one = client.audit(Some(NodeId([1; 32]))).await.unwrap();
    assert_eq!(of_one[2], vec![2; 700]);
    let caller = *fake.caller.lock().unwrap();
    assert!(matches!(caller, Some(Caller::Local { .. })));
    client.block(&[NodeId([4; 32])]).await.unwrap();
    assert_eq!(*fake.blocked.lock().unwrap(), [NodeId([4; 32])]);
}

#[tokio::test]
async fn a_view_of_several_chunks_arrives_whole() {
    let running = Running::start(Fake::default());

    let view = running.client().await.view(ViewMask::ALL).await.unwrap();

    assert_eq!(view.heads.len(), 50_000);
}

#[tokio::test]
async fn a_largest_submission_passes_and_a_larger_one_is_not_delivered() {
    let fake = Fake::default();
    let running = Running::start(fake.clone());
    let client = running.client().await;
    let longest = Bytes::from(vec![7; STATEMENT_BYTES_MAX]);

    let ids = client
        .submit(vec![longest.clone(); SUBMIT_COUNT_MAX])
        .await
        .unwrap();
    assert_eq!(ids.len(), SUBMIT_COUNT_MAX);
    fake.submitted.lock().unwrap().clear();

    let too_long = Bytes::from(vec![7; STATEMENT_BYTES_MAX + 1]);
    for bad in [
        vec![],
        vec![Bytes::new(); SUBMIT_COUNT_MAX + 1],
        vec![too_long],
    ] {
        let error = client.submit(bad).await.unwrap_err();
        assert!(matches!(error, ClientError::Protocol { .. }), "{error:?}");
    }
    assert!(fake.submitted.lock().unwrap().is_empty());
}

#[tokio::test]
async fn notices_arrive_in_order_and_end() {
    let running = Running::start(Fake::default());

    let notices = running.client().await.watch().await.unwrap();
    let notices: Vec<_> = notices.collect().await;

    let kinds: Vec<_> = notices.into_iter().map(|n| n.unwrap().kind).collect();
    assert_eq!(kinds, NoticeKind::ALL);
}

#[tokio::test]
async fn a_refusal_keeps_its_code_and_words() {
    let refusal = Refusal::Refused {
        code: "M042".into(),
        why: "not \"yours\": größer\nthan 5 %".into(),
    };
    let running = Running::start(Fake {
        refusal: Some(refusal.clone()),
        ..Fake::default()
    });
    let client = running.client().await;

    for error in [
        client.info().await.unwrap_err(),
        client.view(ViewMask::ALL).await.unwrap_err(),
        client
            .submit(vec![Bytes::from_static(b"x")])
            .await
            .unwrap_err(),
    ] {
        let ClientError::Refused { code, why } = error else {
            panic!("{error:?}")
        };
        assert_eq!(Refusal::Refused { code, why }, refusal);
    }
}

#[tokio::test]
async fn an_endless_reason_is_cut_at_a_character() {
    let refusal = Refusal::Refused {
        code: "M001".into(),
        why: "ü".repeat(100_000),
    };
    let running = Running::start(Fake {
        refusal: Some(refusal),
        ..Fake::default()
    });

    let error = running.client().await.info().await.unwrap_err();

    let ClientError::Refused { why, .. } = error else {
        panic!("{error:?}")
    };
    assert_eq!(why, "ü".repeat(1000));
}

#[tokio::test]
async fn who_may_not_ask_is_told_so() {
    let refusal = Refusal::Denied {
        why: "uid 1000 is not in group lab".into(),
    };
    let running = Running::start(Fake {
        refusal: Some(refusal),
        ..Fake::default()
    });

    let error = running.client().await.info().await.unwrap_err();

    let ClientError::Denied { why } = error else {
        panic!("{error:?}")
    };
    assert_eq!(why, "uid 1000 is not in group lab");
}

#[tokio::test]
async fn an_absent_or_dead_socket_is_an_agent_that_does_not_run() {
    let dir = TempDir::new().unwrap();
    let absent = dir.path().join("absent.sock");
    let dead = dir.path().join("dead.sock");
    drop(UnixListener::bind(&dead).unwrap());

    for socket in [absent, dead] {
        let error = Client::connect(&socket).await.unwrap_err();
        assert!(matches!(error, ClientError::NotRunning { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn something_else_behind_the_socket_is_no_agent() {
    let dir = TempDir::new().unwrap();
    let socket = dir.path().join("other.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _gone = stream
                .write_all(b"220 mail.example ESMTP ready for your commands\r\n")
                .await;
        }
    });

    let outcome = match Client::connect(&socket).await {
        Ok(client) => client.info().await.map(|_info| ()),
        Err(error) => Err(error),
    };

    let error = outcome.unwrap_err();
    assert!(
        matches!(
            error,
            ClientError::Protocol { .. } | ClientError::Unanswered { .. }
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn an_agent_that_stops_in_mid_call_leaves_it_unanswered() {
    let mut running = Running::start(Fake {
        is_deaf: true,
        ..Fake::default()
    });
    let client = running.client().await;

    let (answer, ()) = tokio::join!(client.info(), async {
        tokio::task::yield_now().await;
        running.stop();
    });

    assert_is_gone(&answer.unwrap_err());
}

#[tokio::test]
async fn a_client_finds_an_agent_that_was_restarted() {
    let mut running = Running::start(Fake::default());
    let client = running.client().await;
    client.info().await.unwrap();

    running.stop();
    assert_is_gone(&client.info().await.unwrap_err());
    assert_is_gone(&client.info().await.unwrap_err());
    running.restart(Fake::default());

    assert_eq!(client.info().await.unwrap(), info());
}

fn assert_is_gone(error: &ClientError) {
    assert!(
        matches!(
            error,
            ClientError::Unanswered { .. } | ClientError::NotRunning { .. }
        ),
        "{error:?}"
    );
}

/// A client that is identified like this, over a stream without an address.
async fn client_as(
    tasks: &mut JoinSet<()>,
    fake: Fake,
    identity: impl Fn() -> Result<Asker, String> + Clone + Send + Sync + 'static,
) -> Client {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let identify = move |_: &_| identity();
    let server = Server::builder().add_service(service(fake, identify).with_hand_ins(2));
    tasks.spawn(async move {
        let incoming = tokio_stream::iter([Ok::<_, std::io::Error>(theirs)]);
        server.serve_with_incoming(incoming).await.unwrap();
    });
    let gone = || std::future::ready(Err(std::io::ErrorKind::NotConnected.into()));
    Client::over(ours, gone, "nuc1").await.unwrap()
}

/// Whether a call was let through, whatever came of it.
async fn is_answered(client: &Client, method: &str) -> bool {
    let end = End {
        key: AuthorId([8; 32]),
        head: Some(StatementId([4; 32])),
        is_limited: true,
    };
    let outcome = match method {
        "Info" => client.info().await.map(drop),
        "View" => client.view(ViewMask::default()).await.map(drop),
        "Suppose" => client.suppose(&[end, end]).await.map(drop),
        "Prepare" => client.prepare(AuthorId([8; 32])).await.map(drop),
        "Root" => client.root().await.map(drop),
        "Submit" => client
            .submit(vec![Bytes::from_static(b"x")])
            .await
            .map(drop),
        "Audit" => client.audit(None).await.map(drop),
        "Watch" => client.watch().await.map(drop),
        "Block" => client.block(&[]).await,
        other => panic!("the test does not know {other}: give it a call and a line below"),
    };
    match outcome {
        Ok(()) => true,
        Err(ClientError::NotEntitled { .. }) => false,
        Err(other) => panic!("{method}: {other}"),
    }
}

#[tokio::test]
async fn every_role_gets_what_the_table_says_and_nothing_else() {
    // Written by hand, and not from the table: owner, group, admin, operator, laptop, node, nobody.
    let expected = [
        ("Info", "yyyy---"),
        ("View", "yyyy---"),
        ("Suppose", "yyyy---"),
        ("Prepare", "yyyy---"),
        ("Root", "yyyy---"),
        ("Submit", "yyyy---"),
        ("Audit", "yyyy---"),
        ("Watch", "yyyy---"),
        ("Block", "y------"),
    ];
    assert_eq!(METHODS.map(|m| m.name), expected.map(|(name, _)| name));
    let mut tasks = JoinSet::new();

    for (at, role) in Role::ALL.into_iter().enumerate() {
        let fake = Fake::default();
        let asker = Asker { role, ..OWNER };
        let client = client_as(&mut tasks, fake.clone(), move || Ok(asker)).await;
        for (method, row) in expected {
            let is_for = row.as_bytes()[at] == b'y';
            let is = is_answered(&client, method).await;
            assert_eq!(is, is_for, "{method} for {role:?}");
        }
        // What was refused did not reach the agent.
        let may_submit = expected[5].1.as_bytes()[at] == b'y';
        assert_eq!(
            fake.submitted.lock().unwrap().len(),
            usize::from(may_submit)
        );
    }
}

#[tokio::test]
async fn a_caller_who_is_not_known_gets_nothing() {
    let mut tasks = JoinSet::new();
    let client = client_as(
        &mut tasks,
        Fake::default(),
        || Err("who is that".to_owned()),
    )
    .await;

    for method in METHODS {
        assert!(!is_answered(&client, method.name).await, "{}", method.name);
    }
}

#[tokio::test]
async fn a_device_that_loses_its_standing_gets_nothing_more_on_the_same_connection() {
    let key = AuthorId([3; 32]);
    let standing = Arc::new(Mutex::new(Some(Standing::Operator)));
    let now = Arc::clone(&standing);
    let mut tasks = JoinSet::new();
    let fake = Fake::default();
    let identity = move || Ok(Asker::device(key, *now.lock().unwrap()));
    let client = client_as(&mut tasks, fake.clone(), identity).await;

    assert!(is_answered(&client, "Submit").await);
    assert_eq!(*fake.callers.lock().unwrap(), [Caller::Device(key)]);
    *standing.lock().unwrap() = None;

    for method in METHODS {
        assert!(!is_answered(&client, method.name).await, "{}", method.name);
    }
}

#[tokio::test]
async fn submissions_beyond_what_may_be_held_at_once_wait_unread_and_reads_do_not() {
    let room = Arc::new(Semaphore::new(0));
    let fake = Fake {
        room: Some(Arc::clone(&room)),
        ..Fake::default()
    };
    let mut tasks = JoinSet::new();
    let client = client_as(&mut tasks, fake.clone(), || Ok(OWNER)).await;
    let mut submissions = JoinSet::new();
    for _ in 0..5 {
        let client = client.clone();
        submissions.spawn(async move { client.submit(vec![Bytes::from_static(b"x")]).await });
    }

    let held = || fake.callers.lock().unwrap().len();
    while held() < 2 {
        client.info().await.unwrap();
    }
    for _ in 0..20 {
        client.info().await.unwrap();
    }
    assert_eq!(held(), 2);

    room.add_permits(5);
    while let Some(answer) = submissions.join_next().await {
        answer.unwrap().unwrap();
    }
    assert_eq!(held(), 5);
}
