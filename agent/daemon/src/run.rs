//! The daemon: one agent in the real world, until it is asked to stop.

use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::time::Duration;

use lab_agent_api::NoticeKind;
use lab_agent_core::{Agent, Boot, Config, Event, NodeKeys};
use lab_agent_store::{Store, StoreError};
use lab_crdt_model::store::Tables;
use lab_crdt_model::view::Liveness;
use lab_crdt_model::{Mono, NodeId};
use lab_mesh_net::{Net, NetConfig, NetError, NetEvents};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::accounts::Accounts;
use crate::config::{DaemonConfig, everywhere};
use crate::data_dir::DataDir;
use crate::effect::Effects;
use crate::error::{DaemonError, WorldError, chain};
use crate::notify::Notifier;
use crate::serve::{Changes, Face};
use crate::watchdog::Pulse;
use crate::world::{Told, World};
use crate::{clock, entropy, serve, watchdog};

/// Version of the program, for people and reports.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Most questions that wait for the owner task; further ones are refused.
const ASKS_MAX: usize = 64;
/// How long a stopping agent waits for its last writes.
const FLUSH_MAX: Duration = Duration::from_millis(400);
/// How long a stopping agent waits for its links and its store to close.
const CLOSE_MAX: Duration = Duration::from_millis(500);

/// The runtime for an agent: one thread and a few for blocking work, unless more are asked for.
///
/// # Errors
/// When the system gives no threads.
pub fn runtime(threads: usize) -> std::io::Result<Runtime> {
    let mut builder = if threads <= 1 {
        Builder::new_current_thread()
    } else {
        Builder::new_multi_thread()
    };
    if threads > 1 {
        builder.worker_threads(threads);
    }
    builder
        .max_blocking_threads(4)
        .thread_keep_alive(Duration::from_secs(10))
        .enable_all()
        .build()
}

/// Runs the agent of a founded or joined folder until `shutdown` completes, then stops within a second.
///
/// # Errors
/// See [`DaemonError`]. Nothing is left behind but the folder.
pub async fn run(
    config: DaemonConfig,
    shutdown: impl Future<Output = ()>,
) -> Result<(), DaemonError> {
    hide_memory();
    let notifier = Notifier::from_manager();
    let data = DataDir::lock(&config.data_dir)?;
    let key = data.read_key()?;
    make_root(&config.root)?;
    let (store, tables) = open_store(&data.store_path())?;
    let keys = NodeKeys::new(&key);
    let me = keys.node();
    let seed = entropy::bytes::<32>()?;
    let mut agent = Agent::new(
        Config::homelab(VERSION),
        keys,
        Boot::Stored { tables },
        *seed,
        clock::now(),
    )?;
    let socket = serve::bind(&config.socket, &config.socket_group, Accounts::system())?;
    let links = Links {
        bind: config.bind.clone(),
        lan_discovery: config.lan_discovery.clone(),
        remote_api: config.remote_api,
    };
    let mut net = open_links(&key, links).await?;
    let streams = net.0.take_remote().filter(|_| config.remote_api);

    let (asks, asked) = mpsc::channel(ASKS_MAX);
    let effects = Effects::new(config.root.clone(), data.path().to_owned());
    let mut world = World::new(net, store, effects, asked);
    if let Some(interval) = notifier.alive_interval() {
        world.nap_at_most(interval);
    }
    let (changed, changes) = watch::channel(Changes::default());
    let face = Face {
        asks,
        changes,
        addresses: world.addresses(),
        allows_faults: config.allow_faults,
    };
    let (stop_serving, stopped) = oneshot::channel::<()>();
    let (stop_answering, stopped_too) = oneshot::channel::<()>();
    let mut tasks = JoinSet::new();
    if let Some(streams) = streams {
        let serve = serve::serve_remote(streams, world.devices(), face.clone(), async {
            let _asked = stopped_too.await;
        });
        tasks.spawn(serve);
    }
    tasks.spawn(serve::serve(socket, face, async {
        // Dropping the sender stops it too.
        let _asked = stopped.await;
    }));
    let mut teller = Teller { changed };
    let mut pulse = LoopPulse {
        pulse: watchdog::start().map_err(DaemonError::Watchdog)?,
        notifier,
        alive_at: Mono(0),
    };

    tracing::info!(me = %me.short(), version = VERSION, socket = %config.socket.display(), "the agent runs");
    pulse.notifier.ready(&format!("{me} runs"));
    let outcome = tokio::select! {
        outcome = turn_for_ever(&mut agent, &mut world, &mut teller, &mut pulse) => outcome,
        served = tasks.join_next() => Err(serve_ended(served)),
        () = shutdown => Ok(()),
    };

    pulse.notifier.stopping();
    pulse.pulse.pause();
    drop(teller);
    drop((stop_serving, stop_answering));
    if outcome.is_ok() {
        agent.stop(world.now());
        let flushed = tokio::time::timeout(FLUSH_MAX, flush(&mut agent, &mut world)).await;
        if flushed.is_err() {
            tracing::warn!("the disk was too slow: the last writes were given up");
        }
        // Answers that were just given leave before the connections do.
        while tokio::time::timeout(Duration::from_millis(50), tasks.join_next())
            .await
            .is_ok_and(|t| t.is_some())
        {}
    }
    if tokio::time::timeout(CLOSE_MAX, world.close())
        .await
        .is_err()
    {
        tracing::debug!("the links did not close in time");
    }
    tasks.shutdown().await;
    tracing::info!(me = %me.short(), "the agent stopped");
    outcome
}

/// The contract, and nothing else.
async fn turn_for_ever(
    agent: &mut Agent,
    world: &mut World,
    teller: &mut Teller,
    pulse: &mut LoopPulse,
) -> Result<(), DaemonError> {
    loop {
        while let Some(output) = agent.poll() {
            world.carry_out(output);
        }
        for told in world.take_told() {
            teller.tell(&told);
        }
        pulse.beat();
        if let Some(input) = world.next(agent.deadline()).await? {
            agent.handle(world.now(), input);
        }
    }
}

/// Turns until nothing waits for the disk, so that whoever handed in a statement hears of it.
async fn flush(agent: &mut Agent, world: &mut World) -> Result<(), WorldError> {
    loop {
        while let Some(output) = agent.poll() {
            world.carry_out(output);
        }
        if world.is_durable() {
            return Ok(());
        }
        if let Some(input) = world.next(agent.deadline()).await? {
            agent.handle(world.now(), input);
        }
    }
}

/// Tells the watchdogs that the loop turns.
struct LoopPulse {
    pulse: Pulse,
    notifier: Notifier,
    alive_at: Mono,
}

impl LoopPulse {
    fn beat(&mut self) {
        self.pulse.beat();
        if let Some(interval) = self.notifier.alive_interval() {
            let now = clock::mono();
            if u128::from(now.ms_since(self.alive_at)) >= interval.as_millis() {
                self.alive_at = now;
                self.notifier.alive();
            }
        }
    }
}

/// Turns what the agent tells into log lines and notices.
struct Teller {
    changed: watch::Sender<Changes>,
}

impl Teller {
    fn tell(&mut self, told: &Told) {
        match told {
            Told::Event(event) => {
                log(event);
                if let Some(kind) = notice(event) {
                    self.changed.send_modify(|changes| changes.note(kind));
                }
            }
            Told::Dialling { peer, addresses } => {
                tracing::debug!(peer = %peer.short(), ?addresses, "a link is being opened");
            }
            Told::DialFailed { peer, why } => {
                tracing::debug!(peer = %peer.short(), why, "a link could not be opened");
            }
        }
    }
}

/// What a watcher is told of an event.
fn notice(event: &Event) -> Option<NoticeKind> {
    match event {
        Event::IntentChanged { .. }
        | Event::NodeJoined { .. }
        | Event::ForkFound { .. }
        | Event::CloneFound { .. } => Some(NoticeKind::Intent),
        Event::ReportArrived { .. } | Event::ConfigApplied { .. } => Some(NoticeKind::Reports),
        Event::PeerChanged { .. } | Event::PeersLearned { .. } | Event::ReplicasDiverged { .. } => {
            Some(NoticeKind::Peers)
        }
        Event::JoinRefused { .. }
        | Event::StatementRefused { .. }
        | Event::AuditWentBack { .. }
        | Event::StoreFailed { .. } => None,
    }
}

fn log(event: &Event) {
    let short = |id: &[u8; 32]| NodeId(*id).short();
    match event {
        Event::IntentChanged { digest } => tracing::debug!(heads = short(digest), "intent changed"),
        Event::ReportArrived { node } => tracing::trace!(peer = %node.short(), "a report arrived"),
        Event::NodeJoined { node, name } => {
            tracing::info!(peer = %node.short(), name, "a node joined");
        }
        Event::JoinRefused { why, is_final } => {
            tracing::warn!(why, is_final, "the mesh refused to join");
        }
        Event::PeerChanged { node, liveness } => match liveness {
            Liveness::Alive | Liveness::Down => {
                tracing::info!(peer = %node.short(), ?liveness, "a peer changed");
            }
            Liveness::Suspect | Liveness::Unknown => {
                tracing::debug!(peer = %node.short(), ?liveness, "a peer changed");
            }
        },
        Event::PeersLearned { alive_count } => {
            tracing::info!(alive_count, "peers are alive, says another");
        }
        Event::StatementRefused { id, why } => tracing::warn!(?id, why, "a statement was refused"),
        Event::ForkFound { author } => {
            tracing::warn!(author = %author.short(), "an author's chain has two branches");
        }
        Event::CloneFound { node } => {
            tracing::warn!(peer = %node.short(), "two machines run with one key");
        }
        Event::ReplicasDiverged { peer, ours, theirs } => {
            tracing::warn!(
                peer = %peer.short(),
                ours = short(ours),
                theirs = short(theirs),
                "a live peer stays unequal"
            );
        }
        Event::ConfigApplied {
            hash,
            changed_count,
            failed_count,
        } => {
            let config = short(hash);
            if *failed_count > 0 {
                tracing::warn!(
                    config,
                    changed_count,
                    failed_count,
                    "config was carried out in part"
                );
            } else if *changed_count > 0 {
                tracing::info!(config, changed_count, "config was carried out");
            } else {
                tracing::debug!(config, "config stands as wanted");
            }
        }
        Event::AuditWentBack { node, told, tells } => tracing::warn!(
            peer = %node.short(),
            told = told.seq,
            tells = tells.seq,
            "the audit chain of a node went back"
        ),
        Event::StoreFailed { why } => tracing::warn!(why, "the store refused a write"),
    }
}

/// How to open the links.
pub(crate) struct Links {
    /// Where to listen.
    pub(crate) bind: Vec<SocketAddr>,
    /// See [`DaemonConfig::lan_discovery`].
    pub(crate) lan_discovery: Option<String>,
    /// See [`DaemonConfig::remote_api`].
    pub(crate) remote_api: bool,
}

/// Opens the links. A machine without IPv6 or multicast does without what it was not explicitly told to use.
pub(crate) async fn open_links(key: &[u8; 32], links: Links) -> Result<(Net, NetEvents), NetError> {
    let mut config = NetConfig {
        bind: links.bind,
        lan_discovery: links.lan_discovery,
        remote_api: links.remote_api,
        ..NetConfig::new(*key)
    };
    loop {
        match Net::start(config.clone()).await {
            Err(NetError::Bind { why, .. }) if config.bind == everywhere() => {
                tracing::warn!(why, "this machine listens on IPv4 only");
                config.bind.retain(SocketAddr::is_ipv4);
            }
            Err(NetError::Discovery { why, .. }) => {
                tracing::warn!(
                    why,
                    "this machine does not look for nodes on the local network"
                );
                config.lan_discovery = None;
            }
            started => return started,
        }
    }
}

/// Opens the store and reads everything the agent starts with; a store that is damaged is set aside, and what is sound
/// in it is kept.
pub(crate) fn open_store(path: &Path) -> Result<(Store, Tables), StoreError> {
    let (store, start) = Store::open_and_load(path)?;
    tracing::debug!(report = ?start.opened, "the store was opened");
    if let Some(report) = &start.salvaged {
        tracing::warn!(
            ?report,
            "the store was damaged: what is sound was kept, the mesh has the rest"
        );
    }
    if start.damaged_count > 0 {
        let count = start.damaged_count;
        tracing::warn!(count, "damaged records were set aside");
    }
    Ok((store, start.tables))
}

fn make_root(root: &Path) -> Result<(), DaemonError> {
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(root);
    made.map_err(|source| DaemonError::Root {
        path: root.to_owned(),
        source,
    })
}

/// Keeps the keys in memory out of core dumps and away from other processes of the same user.
fn hide_memory() {
    let hidden =
        rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    if let Err(error) = hidden {
        tracing::debug!(why = %error, "the memory could not be kept out of core dumps");
    }
}

fn serve_ended(
    served: Option<Result<Result<(), tonic::transport::Error>, tokio::task::JoinError>>,
) -> DaemonError {
    let why = match served {
        Some(Ok(Err(error))) => chain(&error),
        Some(Err(error)) => chain(&error),
        Some(Ok(Ok(()))) | None => "it ended".to_owned(),
    };
    DaemonError::Serve { why }
}
