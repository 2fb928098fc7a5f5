//! Whole daemons on loopback, with real links, stores and sockets.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use ed25519_dalek::SigningKey;
use lab_agent_api::{Client, ClientError, ViewMask};
use lab_agent_core::NodeKeys;
use lab_crdt_log::{
    Admin, Admit, Body, Draft, Edit, Invite, Rights, RootRecord, SignedRoot, TokenKeys,
    WitnessRule, seal,
};
use lab_crdt_model::token::{Seed, Ticket, Token};
use lab_crdt_model::view::{ReplicaView, Role};
use lab_crdt_model::{AuthorId, Field, Hlc, MeshId, NodeId, Op, Path, StatementId, Value, Wall};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_stream::StreamExt as _;
use zeroize::Zeroizing;

use crate::*;

/// Longest wait for anything in these tests.
const PATIENCE: Duration = Duration::from_secs(60);

/// A mesh with one admin, founded in a folder of its own.
struct Founder {
    dir: TempDir,
    admin: SigningKey,
    mesh: MeshId,
    node: NodeId,
}

impl Founder {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let (root, admin) = (
            SigningKey::from_bytes(&[1; 32]),
            SigningKey::from_bytes(&[2; 32]),
        );
        let node_key = entropy::bytes::<32>().unwrap();
        let record = RootRecord {
            name: "home".into(),
            nonce: *entropy::bytes().unwrap(),
            root_keys: vec![author(&root)],
            threshold: 1,
            admins: vec![Admin {
                key: author(&admin),
                name: "ann".into(),
            }],
            min_proto: 1,
            ..RootRecord::default()
        };
        let signed = SignedRoot::sign(&record, &[&root]);
        let mesh = signed.mesh();
        let keys = NodeKeys::new(&node_key);
        let admit = Body::Admit(Admit {
            node: keys.node(),
            seal_key: keys.seal_key(),
            name: "nuc1".into(),
            role: Role::Node,
            labels: vec![],
        });
        let draft = Draft {
            seq: 0,
            prev: StatementId::ZERO,
            under: StatementId(mesh.0),
            hlc: Hlc::from_wall(clock::now().wall),
            refs: vec![],
            body: admit,
        };
        let admit = seal(&mesh, &admin, &draft).unwrap();
        let founding = Founding {
            root: signed.encode(),
            node_key: Zeroizing::new(*node_key),
            statements: vec![admit.to_vec()],
        };
        let node = found(&dir.path().join("nuc1"), &founding).unwrap();
        let again = found(&dir.path().join("nuc1"), &founding);
        assert!(matches!(
            again,
            Err(FoundError::DataDir(DataDirError::Occupied { .. }))
        ));
        Self {
            dir,
            admin,
            mesh,
            node,
        }
    }

    fn config(&self, name: &str) -> DaemonConfig {
        let layer = ConfigLayer {
            data_dir: Some(self.dir.path().join(name)),
            root: Some(self.root(name)),
            bind: Some(vec![SocketAddr::from(([127, 0, 0, 1], 0))]),
            lan_discovery: Some(String::new()),
            ..ConfigLayer::default()
        };
        DaemonConfig::from_layers(ConfigLayer::default(), layer).unwrap()
    }

    fn root(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("{name}.root"))
    }

    /// Signs as the admin and hands in.
    async fn submit(&self, client: &Client, body: Body) -> StatementId {
        let prepared = client.prepare(author(&self.admin)).await.unwrap();
        assert_eq!(prepared.mesh, self.mesh);
        let draft = Draft {
            seq: prepared.seq,
            prev: prepared.prev,
            under: StatementId(self.mesh.0),
            hlc: prepared.hlc.next(clock::now().wall),
            refs: prepared.refs,
            body,
        };
        let statement = seal(&self.mesh, &self.admin, &draft).unwrap();
        client.submit(vec![statement]).await.unwrap()[0]
    }

    /// Makes a token, as pasted.
    async fn token(
        &self,
        client: &Client,
        name: &str,
        addresses: Vec<(NodeId, SocketAddr)>,
    ) -> Token {
        let seed = Seed::Long(*entropy::bytes().unwrap());
        let keys = TokenKeys::derive(&seed);
        let not_after = Wall(clock::now().wall.0 + 3_600_000);
        let invite = Body::Invite(Invite {
            token_key: keys.public(),
            uses_max: 1,
            not_after,
            role: Role::Node,
            name: Some(name.into()),
            labels: vec!["role=web".parse().unwrap()],
            rights: Rights::default(),
            scope: vec![],
            lease_ms: 0,
            witness: WitnessRule::Any,
            confirm: false,
            mesh_mac: keys.mesh_mac(&self.mesh),
            binding: None,
        });
        self.submit(client, invite).await;
        let not_after_s = u32::try_from(not_after.0 / 1000).unwrap();
        Token::Ticket(Ticket {
            seed,
            mesh: self.mesh,
            not_after_s,
            addresses,
            invite: vec![],
        })
    }
}

fn author(key: &SigningKey) -> AuthorId {
    AuthorId(key.verifying_key().to_bytes())
}

fn set(path: &[&str], value: Value) -> Op {
    Op::Set {
        path: Path::new(path).unwrap(),
        field: Field::new(value, "person:ann"),
    }
}

fn edit(ops: Vec<Op>) -> Body {
    Body::Edit(Edit {
        message: "a test".into(),
        ops,
    })
}

/// A daemon as a task of the test's runtime.
struct Daemon {
    stop: oneshot::Sender<()>,
    task: JoinSet<Result<(), DaemonError>>,
    socket: PathBuf,
}

impl Daemon {
    fn start(config: DaemonConfig) -> Self {
        let (stop, stopped) = oneshot::channel();
        let socket = config.socket.clone();
        let mut task = JoinSet::new();
        task.spawn(run(config, async {
            let _asked = stopped.await;
        }));
        Self { stop, task, socket }
    }

    async fn client(&mut self) -> Client {
        let connected = async {
            loop {
                if let Ok(client) = Client::connect(&self.socket).await {
                    return client;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            client = connected => client,
            ended = self.task.join_next() => panic!("the daemon ended: {ended:?}"),
        }
    }

    async fn stop(mut self) {
        let before = clock::mono();
        self.stop.send(()).unwrap();
        self.task.join_next().await.unwrap().unwrap().unwrap();
        let took_ms = clock::mono().ms_since(before);
        assert!(took_ms < 5_000, "stopping took {took_ms} ms");
        assert!(!self.socket.exists());
    }
}

/// Watches until the view is as wanted.
async fn until(client: &Client, what: &str, is_so: impl Fn(&ReplicaView) -> bool) -> ReplicaView {
    let mut last = None;
    let seen = tokio::time::timeout(PATIENCE, async {
        let mut notices = client.watch().await.unwrap();
        loop {
            let view = client.view(ViewMask::ALL).await.unwrap();
            if is_so(&view) {
                return view;
            }
            last = Some(view);
            // Not everything that a view shows is announced.
            let _notice = tokio::time::timeout(Duration::from_millis(200), notices.next()).await;
        }
    });
    match seen.await {
        Ok(view) => view,
        Err(_elapsed) => panic!("{what} did not happen: {last:?}"),
    }
}

#[tokio::test]
async fn a_founded_node_answers_keeps_what_it_was_given_and_stops_at_once() {
    let founder = Founder::new();
    let mut daemon = Daemon::start(founder.config("nuc1"));
    let client = daemon.client().await;

    let info = client.info().await.unwrap();
    assert_eq!((info.node, info.mesh), (founder.node, founder.mesh));
    assert_eq!(info.mesh_name, "home");
    let id = founder
        .submit(
            &client,
            edit(vec![set(&["label", "nuc1", "role=web"], Value::Bool(true))]),
        )
        .await;
    let second = Daemon::start(founder.config("nuc1"))
        .task
        .join_next()
        .await
        .unwrap()
        .unwrap();
    assert!(
        matches!(
            second,
            Err(DaemonError::DataDir(DataDirError::InUse { .. }))
        ),
        "{second:?}"
    );
    daemon.stop().await;

    let mut daemon = Daemon::start(founder.config("nuc1"));
    let client = daemon.client().await;
    let view = client.view(ViewMask::ALL.with_history(10)).await.unwrap();
    assert!(
        view.history
            .iter()
            .any(|change| change.id == id && change.is_effective)
    );
    assert_eq!(view.fields.len(), 1);
    daemon.stop().await;
}

#[tokio::test]
async fn a_declared_file_is_written_below_the_root_and_goes_when_it_is_released() {
    let founder = Founder::new();
    let mut daemon = Daemon::start(founder.config("nuc1"));
    let client = daemon.client().await;
    let path = ["on", "all", "files", "/etc/motd", "content"];
    let on = set(&["on", "all"], Value::Bool(true));

    founder
        .submit(
            &client,
            edit(vec![on, set(&path, Value::text("welcome\n"))]),
        )
        .await;
    let file = founder.root("nuc1").join("etc/motd");
    until(&client, "the file", |_| {
        std::fs::read_to_string(&file).is_ok_and(|text| text == "welcome\n")
    })
    .await;

    founder
        .submit(
            &client,
            edit(vec![Op::Unset {
                path: Path::new(path).unwrap(),
            }]),
        )
        .await;
    until(&client, "the release", |_| !file.exists()).await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_machine_joins_and_both_replicas_become_equal() {
    let founder = Founder::new();
    let mut first = Daemon::start(founder.config("nuc1"));
    let client = first.client().await;
    let at = client.info().await.unwrap().addresses;
    let token = founder
        .token(
            &client,
            "web-1",
            at.iter().map(|a| (founder.node, *a)).collect(),
        )
        .await;

    let config = founder.config("web-1");
    let options = JoinOptions {
        data_dir: config.data_dir.clone(),
        bind: config.bind.clone(),
        lan_discovery: None,
        timeout: PATIENCE,
        ..JoinOptions::new(token.clone())
    };
    let mut lines = Vec::new();
    let joined = join(options.clone(), |line| lines.push(line))
        .await
        .unwrap_or_else(|e| panic!("{e:?} {lines:?}"));
    assert_eq!((joined.name.as_str(), joined.mesh), ("web-1", founder.mesh));
    assert!(
        lines
            .iter()
            .any(|line| line.contains("joined home as web-1")),
        "{lines:?}"
    );
    let again = join(options, |_| {}).await;
    assert!(matches!(
        again,
        Err(JoinError::DataDir(DataDirError::Occupied { .. }))
    ));

    let mut second = Daemon::start(config);
    let other = second.client().await;
    founder
        .submit(
            &other,
            edit(vec![set(
                &["label", "web-1", "os=debian"],
                Value::Bool(true),
            )]),
        )
        .await;
    let view = until(&client, "the edit at the first node", |view| {
        view.fields.len() == 1
    })
    .await;
    assert!(
        view.members
            .iter()
            .any(|m| m.name == "web-1" && m.labels == ["role=web"])
    );
    let digest = view.digest;
    until(&other, "equal replicas", |view| view.digest == digest).await;
    second.stop().await;
    first.stop().await;

    let spent = JoinOptions {
        data_dir: founder.dir.path().join("thief"),
        bind: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
        lan_discovery: None,
        timeout: Duration::from_millis(300),
        ..JoinOptions::new(token)
    };
    let nobody = join(spent, |_| {}).await;
    assert!(
        matches!(nobody, Err(JoinError::Timeout { .. })),
        "{nobody:?}"
    );
}

#[tokio::test]
async fn a_spent_token_is_refused_for_good() {
    let founder = Founder::new();
    let mut first = Daemon::start(founder.config("nuc1"));
    let client = first.client().await;
    let at = client.info().await.unwrap().addresses;
    let token = founder
        .token(
            &client,
            "web-1",
            at.iter().map(|a| (founder.node, *a)).collect(),
        )
        .await;
    let options = |name: &str| JoinOptions {
        data_dir: founder.dir.path().join(name),
        bind: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
        lan_discovery: None,
        timeout: PATIENCE,
        ..JoinOptions::new(token.clone())
    };
    join(options("web-1"), |_| {}).await.unwrap();

    let refused = join(options("thief"), |_| {}).await;

    assert!(
        matches!(&refused, Err(JoinError::Refused { why }) if why.contains("used already")),
        "{refused:?}"
    );
    first.stop().await;
}

#[tokio::test]
async fn what_is_not_signed_by_someone_who_may_is_refused_and_nothing_changes() {
    let founder = Founder::new();
    let mut daemon = Daemon::start(founder.config("nuc1"));
    let client = daemon.client().await;
    let before = client.view(ViewMask::ALL).await.unwrap();

    let refused = client
        .submit(vec![Bytes::from_static(b"no statement")])
        .await
        .unwrap_err();

    assert!(
        matches!(refused, ClientError::Refused { .. }),
        "{refused:?}"
    );
    let after = client.view(ViewMask::ALL).await.unwrap();
    assert_eq!(
        (after.digest, after.statement_count),
        (before.digest, before.statement_count)
    );
    daemon.stop().await;
}

#[tokio::test]
async fn faults_are_refused_unless_the_agent_was_started_with_them() {
    let founder = Founder::new();
    let mut daemon = Daemon::start(founder.config("nuc1"));
    let client = daemon.client().await;
    assert!(matches!(
        client.block(&[NodeId([9; 32])]).await,
        Err(ClientError::Denied { .. })
    ));
    daemon.stop().await;

    let mut daemon = Daemon::start(DaemonConfig {
        allow_faults: true,
        ..founder.config("nuc1")
    });
    let client = daemon.client().await;
    client.block(&[NodeId([9; 32])]).await.unwrap();
    daemon.stop().await;
}

#[tokio::test]
async fn a_watcher_does_not_hold_up_the_stop() {
    let founder = Founder::new();
    let mut daemon = Daemon::start(founder.config("nuc1"));
    let client = daemon.client().await;
    let mut notices = client.watch().await.unwrap();
    assert!(notices.next().await.unwrap().is_ok());

    daemon.stop().await;

    while let Some(Ok(_notice)) = notices.next().await {}
    assert!(client.info().await.is_err());
}

#[tokio::test]
async fn an_empty_folder_has_no_node_to_run() {
    let dir = TempDir::new().unwrap();
    let layer = ConfigLayer {
        data_dir: Some(dir.path().join("empty")),
        root: Some(dir.path().join("root")),
        ..ConfigLayer::default()
    };
    let config = DaemonConfig::from_layers(ConfigLayer::default(), layer).unwrap();

    let outcome = run(config, std::future::pending()).await;

    assert!(
        matches!(
            outcome,
            Err(DaemonError::DataDir(DataDirError::Empty { .. }))
        ),
        "{outcome:?}"
    );
}
