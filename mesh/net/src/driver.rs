//! The one task that owns every other one: it accepts, begins dials, and watches addresses.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use iroh::endpoint::{Incoming, IncomingAddr};
use iroh::{Endpoint, EndpointAddr, Watcher};
use iroh_mdns_address_lookup::DiscoveryEvent;
use lab_crdt_model::NodeId;
use lab_crdt_model::link::Reason;
use n0_future::{Stream, StreamExt};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{debug, warn};

use crate::dial::{self, Dial};
use crate::event::NetEvent;
use crate::knocks::{Knocks, Verdict};
use crate::link;
use crate::shared::{self, Shared};

/// Most handshakes that are answered at once.
const HANDSHAKE_COUNT_MAX: usize = 64;
/// From how many handshakes on a peer must first prove that it receives at its address.
const HANDSHAKE_COUNT_EASY: usize = 16;
/// Most events about the local network that wait for the agent; further ones are dropped.
const FOUND_COUNT_MAX: usize = 64;
/// How long links may take to end when the driver stops, and how long their peers are waited for.
const STOP_LINKS: Duration = Duration::from_millis(400);
const STOP_ENDPOINT: Duration = Duration::from_millis(400);

pub(crate) type Discoveries = Pin<Box<dyn Stream<Item = DiscoveryEvent> + Send>>;

pub(crate) struct Driver {
    pub(crate) shared: Arc<Shared>,
    pub(crate) endpoint: Endpoint,
    pub(crate) dials: mpsc::UnboundedReceiver<Dial>,
    pub(crate) discoveries: Discoveries,
}

impl Driver {
    /// Runs until every [`Net`](crate::Net) handle is gone, then ends every link.
    pub(crate) async fn run(mut self) {
        let mut tasks = JoinSet::new();
        let mut knocks = Knocks::default();
        let handshakes = Arc::new(Semaphore::new(HANDSHAKE_COUNT_MAX));
        let mut watcher = self.endpoint.watch_addr();
        let mut news = VecDeque::new();
        self.take_addresses(&watcher.get(), &mut news);
        loop {
            tokio::select! {
                incoming = self.endpoint.accept() => match incoming {
                    Some(incoming) => self.answer(incoming, &mut knocks, &handshakes, &mut tasks),
                    None => break,
                },
                dial = self.dials.recv() => match dial {
                    Some(dial) => {
                        tasks.spawn(dial.run(Arc::clone(&self.shared), self.endpoint.clone()));
                    }
                    None => break,
                },
                Some(ended) = tasks.join_next() => {
                    if let Err(error) = ended {
                        warn!(why = %error, "a link's task ended badly");
                    }
                }
                Ok(address) = watcher.updated() => self.take_addresses(&address, &mut news),
                Some(discovery) = self.discoveries.next() => take_discovery(discovery, &mut news),
                room = self.shared.events.reserve(), if !news.is_empty() => {
                    if let (Some(room), Some(event)) = (room, news.pop_front()) {
                        room.send((event, None));
                    }
                }
            }
        }
        self.stop(tasks).await;
    }

    fn answer(
        &self,
        incoming: Incoming,
        knocks: &mut Knocks,
        handshakes: &Arc<Semaphore>,
        tasks: &mut JoinSet<()>,
    ) {
        let is_proved = incoming.remote_addr_validated();
        let ip = match incoming.remote_addr() {
            IncomingAddr::Ip(address) => Some(address.ip()),
            _ => None,
        };
        let verdict = knocks.judge(ip, is_proved, shared::now());
        if verdict == Verdict::Refuse {
            self.shared.counters.refused.add(1);
            return incoming.refuse();
        }
        let free = handshakes.available_permits();
        let is_busy = HANDSHAKE_COUNT_MAX - free >= HANDSHAKE_COUNT_EASY;
        if (is_busy || verdict == Verdict::Prove) && !is_proved {
            if let Err(error) = incoming.retry() {
                debug!(why = %error, "a handshake could not be put off");
            }
            return;
        }
        match Arc::clone(handshakes).try_acquire_owned() {
            Ok(permit) => {
                tasks.spawn(dial::accept(Arc::clone(&self.shared), incoming, permit));
            }
            Err(_) => incoming.refuse(),
        }
    }

    fn take_addresses(&self, address: &EndpointAddr, news: &mut VecDeque<NetEvent>) {
        let is_loopback_only = self.shared.config.is_loopback_only();
        let dialable = |address: &&SocketAddr| {
            is_loopback_only || !(address.ip().is_loopback() || address.ip().is_unspecified())
        };
        let addresses: Vec<SocketAddr> = address.ip_addrs().filter(dialable).copied().collect();
        let mut known = self.shared.addresses();
        if *known != addresses {
            known.clone_from(&addresses);
            news.retain(|event| !matches!(event, NetEvent::Addresses(_)));
            news.push_back(NetEvent::Addresses(addresses));
        }
    }

    async fn stop(self, mut tasks: JoinSet<()>) {
        self.shared
            .table()
            .close_all(Reason::Stopping, link::drain(Reason::Stopping));
        self.shared.devices.stop();
        let ended = async { while tasks.join_next().await.is_some() {} };
        if timeout(STOP_LINKS, ended).await.is_err() {
            tasks.abort_all();
        }
        if timeout(STOP_ENDPOINT, self.endpoint.close()).await.is_err() {
            debug!("peers did not confirm the end in time");
        }
    }
}

fn take_discovery(discovery: DiscoveryEvent, news: &mut VecDeque<NetEvent>) {
    let DiscoveryEvent::Discovered { endpoint_info, .. } = discovery else {
        return;
    };
    let address = endpoint_info.to_endpoint_addr();
    let peer = NodeId(*address.id.as_bytes());
    let addresses: Vec<SocketAddr> = address.ip_addrs().copied().collect();
    if !addresses.is_empty() && news.len() < FOUND_COUNT_MAX {
        news.push_back(NetEvent::Found { peer, addresses });
    }
}
