//! The two ways to a link: dialling and accepting.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use iroh::endpoint::{Connection, Incoming};
use iroh::{Endpoint, EndpointAddr, EndpointId, TransportAddr};
use lab_crdt_model::NodeId;
use lab_crdt_model::link::{Channel, Reason};
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::timeout;

use crate::api;
use crate::event::NetEvent;
use crate::link::{self, Link, Streams};
use crate::shared::{self, Shared};
use crate::table::Serial;

/// Most addresses tried for one peer; the rest is left out.
const ADDRESS_COUNT_MAX: usize = 16;

/// A dial as it was asked for.
#[derive(Debug)]
pub(crate) struct Dial {
    pub(crate) peer: NodeId,
    pub(crate) channel: Channel,
    pub(crate) addresses: Vec<SocketAddr>,
    /// Its place in the table and what gives it up, or why it may not begin.
    pub(crate) ticket: Result<(Serial, Arc<Notify>), String>,
}

impl Dial {
    /// Dials, and runs the link that results.
    pub(crate) async fn run(self, shared: Arc<Shared>, endpoint: Endpoint) {
        let (peer, channel) = (self.peer, self.channel);
        let (serial, cancel) = match self.ticket {
            Ok(ticket) => ticket,
            Err(why) => return failed(&shared, peer, channel, why).await,
        };
        let limit = Duration::from_millis(shared.config.dial_ms_max);
        let connected = tokio::select! {
            biased;
            () = cancel.notified() => return,
            connected = timeout(limit, connect(&endpoint, peer, channel, self.addresses)) => connected,
        };
        let opened = match connected {
            Ok(opened) => opened,
            Err(_) => Err(format!("no answer within {} ms", limit.as_millis())),
        };
        let (connection, streams) = match opened {
            Ok(opened) => opened,
            Err(why) => {
                if end_dial(&shared, peer, channel, serial) {
                    failed(&shared, peer, channel, why).await;
                }
                return;
            }
        };
        let refusal = shared.gate.refusal(peer, channel);
        if let Some(reason) = refusal {
            link::close(&connection, reason);
            if end_dial(&shared, peer, channel, serial) {
                failed(&shared, peer, channel, link::words(reason).to_owned()).await;
            }
            return;
        }
        let (lanes, queues) = link::queues(&shared);
        let entered = shared
            .table()
            .enter_dialled((peer, channel), serial, lanes, shared::now());
        shared.dial_ended.notify_waiters();
        let Some(entered) = entered else {
            return link::close(&connection, Reason::Duplicate);
        };
        Link {
            shared,
            peer,
            channel,
            is_ours: true,
            connection,
            streams,
            queues,
            entered,
        }
        .run()
        .await;
    }
}

async fn connect(
    endpoint: &Endpoint,
    peer: NodeId,
    channel: Channel,
    addresses: Vec<SocketAddr>,
) -> Result<(Connection, Streams), String> {
    let id = EndpointId::from_bytes(peer.as_bytes()).or(Err("its id is not a key".to_owned()))?;
    let addresses = addresses
        .into_iter()
        .take(ADDRESS_COUNT_MAX)
        .map(TransportAddr::Ip);
    let connection = endpoint
        .connect(EndpointAddr::from_parts(id, addresses), link::alpn(channel))
        .await
        .map_err(|error| error.to_string())?;
    let mut send = link::open_streams(&connection).await?;
    link::greet(&mut send)
        .await
        .map_err(|error| link::broken(&connection, &error.to_string()))?;
    let receive = link::accept_streams(&connection).await?;
    Ok((connection, Streams { send, receive }))
}

fn end_dial(shared: &Shared, peer: NodeId, channel: Channel, serial: Serial) -> bool {
    let was_wanted = shared.table().end_dial((peer, channel), serial);
    shared.dial_ended.notify_waiters();
    was_wanted
}

/// Answers a dial that gave no link.
pub(crate) async fn failed(shared: &Shared, peer: NodeId, channel: Channel, why: String) {
    shared.counters.dial_failed.add(1);
    let _ = shared
        .events
        .emit(NetEvent::DialFailed { peer, channel, why })
        .await;
}

/// Answers a handshake, and runs the link that results.
pub(crate) async fn accept(shared: Arc<Shared>, incoming: Incoming, permit: OwnedSemaphorePermit) {
    let limit = Duration::from_millis(shared.config.dial_ms_max);
    let shake = async { incoming.accept().ok()?.await.ok() };
    let begun = shared::now();
    let Ok(Some(connection)) = timeout(limit, shake).await else {
        return;
    };
    if connection.alpn() == api::ALPN {
        // It has places of its own from here on.
        drop(permit);
        return api::serve(&shared, connection).await;
    }
    let rest = limit.saturating_sub(begun.elapsed());
    let Ok(Some(link)) = timeout(rest, answer(shared, connection)).await else {
        return;
    };
    drop(permit);
    link.run().await;
}

async fn answer(shared: Arc<Shared>, connection: Connection) -> Option<Link> {
    let peer = NodeId(*connection.remote_id().as_bytes());
    let channel = link::channel_of(connection.alpn())?;
    let receive = link::accept_streams(&connection).await.ok()?;
    let send = link::open_streams(&connection).await.ok()?;
    wait_for_own_dial(&shared, peer, channel, &connection).await?;

    let ip = link::address_of(&connection).map(|address| address.ip());
    let (lanes, queues) = link::queues(&shared);
    let entered = {
        let mut table = shared.table();
        let refusal = shared.gate.refusal(peer, channel).or_else(|| {
            let (all, same) = table.stranger_counts(ip);
            let max = shared.config.join_links_max;
            let is_crowded = channel == Channel::Join && (all >= max || same >= max.div_ceil(2));
            is_crowded.then_some(Reason::Overload)
        });
        match refusal {
            Some(reason) => Err(reason),
            None => table
                .enter_accepted(shared.me, (peer, channel), ip, lanes, shared::now())
                .ok_or(Reason::Duplicate),
        }
    };
    let entered = match entered {
        Ok(entered) => entered,
        Err(reason) => {
            if reason == Reason::Overload {
                shared.counters.overload.add(1);
            }
            link::close(&connection, reason);
            return None;
        }
    };
    let streams = Streams { send, receive };
    Some(Link {
        shared,
        peer,
        channel,
        is_ours: false,
        connection,
        streams,
        queues,
        entered,
    })
}

/// `None` if the peer gave up meanwhile.
async fn wait_for_own_dial(
    shared: &Shared,
    peer: NodeId,
    channel: Channel,
    connection: &Connection,
) -> Option<()> {
    loop {
        let ended = shared.dial_ended.notified();
        tokio::pin!(ended);
        ended.as_mut().enable();
        if !shared.table().must_wait(shared.me, (peer, channel)) {
            return Some(());
        }
        tokio::select! {
            () = ended => {}
            _ = connection.closed() => return None,
        }
    }
}
