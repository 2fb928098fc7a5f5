//! The handle of a running driver.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use iroh::endpoint::{BindOpts, Builder, PortmapperConfig, QuicTransportConfig, VarInt, presets};
use iroh::{Endpoint, NetReportConfig, RelayMode, SecretKey};
use iroh_mdns_address_lookup::MdnsAddressLookup;
use lab_crdt_model::link::{Channel, Lane, Reason};
use lab_crdt_model::{AuthorId, NodeId};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::api::{self, ApiStream, Devices};
use crate::config::NetConfig;
use crate::dial::Dial;
use crate::driver::{Discoveries, Driver};
use crate::error::NetError;
use crate::event::{self, NetEvents};
use crate::gate::Hook;
use crate::lane::{self, PushError};
use crate::link;
use crate::shared::Shared;
use crate::stats::NetStats;

/// Most dials that run at once; further ones fail at once.
const DIAL_COUNT_MAX: usize = 128;
/// Most bytes of one stream that a peer may have on the way, and of all streams of a link.
///
/// The memory a peer can make us hold; 10 MB/s at a round trip of 100 ms.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const LINK_WINDOW_BYTES: u32 = 2 << 20;
/// How long a link may be silent before it is dead, and how often it is kept from being so.
///
/// Liveness is the protocol's business; this only cleans up. iroh itself keeps every path alive at
/// 5 s and gives it up at 15 s.
const IDLE_MS_MAX: u32 = 15_000;
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// How often we ask the local network who is there, at most.
const DISCOVERY_CADENCE: Duration = Duration::from_secs(5);
/// Sessions remembered to make a later handshake cheaper; never for 0-RTT.
const TLS_TICKET_COUNT: usize = 32;

/// The links of one node.
///
/// Calls return at once and never fail: what becomes of them is told by [`NetEvents`]. Dropping the
/// handle ends every link; [`Net::close`] does it and waits until the peers know.
#[derive(Debug)]
pub struct Net {
    shared: Arc<Shared>,
    dials: mpsc::UnboundedSender<Dial>,
    driver: JoinHandle<()>,
    remote: Option<mpsc::Receiver<ApiStream>>,
}

impl Net {
    /// Listens, and starts the driver's task on the current tokio runtime. Nobody is admitted yet.
    ///
    /// # Errors
    ///
    /// [`NetError::Bind`], [`NetError::Discovery`].
    pub async fn start(mut config: NetConfig) -> Result<(Self, NetEvents), NetError> {
        let key = SecretKey::from_bytes(&config.secret_key);
        // The endpoint keeps the only copy.
        config.secret_key = [0; 32];
        let me = NodeId(*key.public().as_bytes());
        let (events, receiver) = event::queue();
        let (devices, remote) = Devices::new();
        let shared = Arc::new(Shared::new(me, config, events, devices));
        let endpoint = bind(key, &shared).await?;
        let discoveries = discover(&endpoint, &shared.config).await?;
        let (dials, asked) = mpsc::unbounded_channel();
        let driver = Driver {
            shared: Arc::clone(&shared),
            endpoint,
            dials: asked,
            discoveries,
        };
        #[expect(
            clippy::disallowed_methods,
            reason = "the root of this crate's tasks; it owns the others"
        )]
        let driver = tokio::spawn(driver.run());
        Ok((
            Self {
                shared,
                dials,
                driver,
                remote: Some(remote),
            },
            receiver,
        ))
    }

    /// Who we are.
    pub fn id(&self) -> NodeId {
        self.shared.me
    }

    /// Queues a frame; dropped and counted if there is no such link.
    ///
    /// A frame that is too long is dropped too. If the lane's queue is full, the peer takes less
    /// than we have for it: the link closes with `Overload` and what was queued is lost, on either
    /// lane.
    pub fn send(&self, peer: NodeId, channel: Channel, lane: Lane, bytes: Bytes) {
        let mut table = self.shared.table();
        let Some(entry) = table.entry((peer, channel)) else {
            return self.shared.counters.unsent.add(1);
        };
        let bytes_max = link::frame_bytes_max(channel, entry.is_ours());
        if bytes.len() > bytes_max {
            let bytes = bytes.len();
            tracing::warn!(peer = %peer.short(), bytes, bytes_max, "frame was too long to send");
            return self.shared.counters.unsent.add(1);
        }
        let pushed = match entry.lanes() {
            Some(lanes) => lanes[usize::from(lane::tag(lane))].push(bytes),
            None => Err(PushError::Closed),
        };
        match pushed {
            Ok(()) => {}
            Err(PushError::Closed) => self.shared.counters.unsent.add(1),
            Err(PushError::Full) => {
                self.shared.counters.unsent.add(1);
                entry.cut(Reason::Overload);
            }
        }
    }

    /// Opens a link, trying all addresses at once; does nothing if it is up or being dialled
    /// already.
    ///
    /// With local discovery, addresses found there are tried too. At most 16 addresses are used.
    pub fn dial(&self, peer: NodeId, channel: Channel, addresses: Vec<SocketAddr>) {
        let ticket = match self.shared.gate.refusal(peer, channel) {
            _ if peer == self.shared.me => Err("that is this node".to_owned()),
            Some(Reason::NotAMember) => Err("not admitted here".to_owned()),
            Some(_) => Err("blocked here".to_owned()),
            None => {
                let mut table = self.shared.table();
                match table.begin_dial((peer, channel), DIAL_COUNT_MAX) {
                    Some(ticket) => Ok(ticket),
                    None if table.dial_count() >= DIAL_COUNT_MAX => {
                        Err("too many dials at once".to_owned())
                    }
                    None => return,
                }
            }
        };
        let _ = self.dials.send(Dial {
            peer,
            channel,
            addresses,
            ticket,
        });
    }

    /// Closes a link, telling the peer why; `Down` follows.
    ///
    /// With `Done` and `Stopping`, what was queued is sent first, for at most 5 s and 300 ms.
    pub fn hangup(&self, peer: NodeId, channel: Channel, why: Reason) {
        if let Some(entry) = self.shared.table().entry((peer, channel)) {
            entry.close(why, link::drain(why));
        }
    }

    /// Sets who may hold a mesh link; links of others close with `Revoked`.
    pub fn admit(&self, members: BTreeSet<NodeId>) {
        let mut table = self.shared.table();
        self.shared.gate.admit(members);
        table.cut_where(|(peer, channel)| {
            let refusal = self.shared.gate.refusal(peer, channel)?;
            Some(if refusal == Reason::NotAMember {
                Reason::Revoked
            } else {
                refusal
            })
        });
    }

    /// Connections of devices that ask over the remote API, each once it passed the gate. Given once; whoever does not
    /// take them makes further ones wait.
    pub fn take_remote(&mut self) -> Option<mpsc::Receiver<ApiStream>> {
        self.remote.take()
    }

    /// Sets whose devices may ask over the remote API; connections of others close with `Revoked`.
    pub fn admit_devices(&self, devices: BTreeSet<AuthorId>) {
        self.shared.gate.admit_devices(devices);
        self.shared
            .devices
            .cut_where(|key| !self.shared.gate.admits_device(key));
    }

    /// Sets whom we pretend not to reach, on any channel, for demonstrations and tests; their links
    /// close.
    pub fn block(&self, peers: BTreeSet<NodeId>) {
        let mut table = self.shared.table();
        self.shared.gate.block(peers.clone());
        table.cut_where(|(peer, _)| peers.contains(&peer).then_some(Reason::Done));
    }

    /// Where this node can be dialled; those of loopback only if it listens nowhere else.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.shared.addresses().clone()
    }

    /// Counters since the start.
    pub fn stats(&self) -> NetStats {
        let (counters, table) = (&self.shared.counters, self.shared.table());
        NetStats {
            mesh_link_count: table.link_count(Channel::Mesh),
            join_link_count: table.link_count(Channel::Join),
            device_count: self.shared.devices.count(),
            dialling_count: table.dial_count(),
            dial_failed_count: counters.dial_failed.read(),
            refused_count: counters.refused.read(),
            overload_count: counters.overload.read(),
            protocol_error_count: counters.protocol_error.read(),
            unsent_count: counters.unsent.read(),
            sent_count: counters.sent.read(),
            sent_bytes: counters.sent_bytes.read(),
            received_count: counters.received.read(),
            received_bytes: counters.received_bytes.read(),
        }
    }

    /// Ends every link with `Stopping` and waits until the peers know, at most about a second.
    pub async fn close(self) {
        let Self {
            shared: _,
            dials,
            driver,
            remote: _,
        } = self;
        drop(dials);
        if let Err(error) = driver.await {
            tracing::warn!(why = %error, "the driver of links ended badly");
        }
    }
}

async fn bind(key: SecretKey, shared: &Arc<Shared>) -> Result<Endpoint, NetError> {
    let sockets = shared.config.sockets();
    let fail = |why: String| NetError::Bind {
        addresses: sockets.iter().map(|(address, _)| *address).collect(),
        why,
    };
    let links = [link::ALPN_MESH, link::ALPN_JOIN, link::ALPN_AUDIT];
    let mut alpns = links.map(<[u8]>::to_vec).to_vec();
    if shared.config.remote_api {
        alpns.push(api::ALPN.to_vec());
    }
    let mut builder: Builder = Endpoint::builder(presets::Minimal)
        .secret_key(key)
        .alpns(alpns)
        .relay_mode(RelayMode::Disabled)
        .portmapper_config(PortmapperConfig::Disabled)
        .net_report_config(NetReportConfig::minimal())
        .transport_config(transport())
        .max_tls_tickets(TLS_TICKET_COUNT)
        .hooks(Hook(Arc::clone(shared)))
        .clear_ip_transports();
    let mut families = BTreeSet::new();
    for (address, is_required) in &sockets {
        let is_first = families.insert(address.is_ipv4());
        let prefix = match (is_first, address.is_ipv4()) {
            (true, _) => 0,
            (false, true) => 24,
            (false, false) => 64,
        };
        let options = BindOpts::default()
            .set_prefix_len(prefix)
            .set_is_required(*is_required)
            .set_is_default_route(is_first);
        builder = builder
            .bind_addr_with_opts(*address, options)
            .map_err(|error| fail(error.to_string()))?;
    }
    builder
        .bind()
        .await
        .map_err(|error| fail(format!("{error:#}")))
}

pub(crate) fn transport() -> QuicTransportConfig {
    QuicTransportConfig::builder()
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(2))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(LINK_WINDOW_BYTES))
        .send_window(u64::from(LINK_WINDOW_BYTES))
        .max_idle_timeout(Some(VarInt::from_u32(IDLE_MS_MAX).into()))
        .keep_alive_interval(KEEP_ALIVE)
        .datagram_receive_buffer_size(None)
        .build()
}

async fn discover(endpoint: &Endpoint, config: &NetConfig) -> Result<Discoveries, NetError> {
    let Some(service) = &config.lan_discovery else {
        return Ok(Box::pin(n0_future::stream::pending()));
    };
    let fail = |why: String| NetError::Discovery {
        service: service.clone(),
        why,
    };
    let lookup = MdnsAddressLookup::builder()
        .service_name(service.clone())
        .discovery_cadence(DISCOVERY_CADENCE)
        .build(endpoint.id())
        .map_err(|error| fail(error.to_string()))?;
    let services = endpoint
        .address_lookup()
        .map_err(|error| fail(error.to_string()))?;
    services.add(lookup.clone());
    Ok(Box::pin(lookup.subscribe().await))
}
