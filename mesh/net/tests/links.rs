//! Real endpoints on the loopback interface.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use bytes::Bytes;
use iroh::endpoint::{Connection, PortmapperConfig, presets};
use iroh::{Endpoint, EndpointAddr, EndpointId, RelayMode, SecretKey, TransportAddr};
use lab_crdt_model::NodeId;
use lab_crdt_model::limit::{FRAME_BYTES_MAX, JOIN_FRAME_BYTES_MAX};
use lab_crdt_model::link::{Channel, Lane, Reason};
use lab_mesh_net::{Net, NetConfig, NetEvent, NetEvents};
use tokio::time::timeout;

/// Longest wait for anything; far more than it takes.
const PATIENCE: Duration = Duration::from_secs(20);

struct Node {
    net: Net,
    events: NetEvents,
    id: NodeId,
}

impl Node {
    async fn start(seed: u8) -> Self {
        Self::start_with(seed, |_| {}).await
    }

    async fn start_with(seed: u8, change: impl FnOnce(&mut NetConfig)) -> Self {
        let mut config = NetConfig::new([seed; 32]);
        config.bind = vec!["127.0.0.1:0".parse().unwrap()];
        change(&mut config);
        let (net, mut events) = Net::start(config).await.unwrap();
        while net.addresses().is_empty() {
            timeout(PATIENCE, events.recv()).await.unwrap().unwrap();
        }
        Self {
            id: net.id(),
            net,
            events,
        }
    }

    /// Two nodes that admit each other, the lower id first.
    async fn pair(seeds: (u8, u8)) -> (Self, Self) {
        let (a, b) = (Self::start(seeds.0).await, Self::start(seeds.1).await);
        a.net.admit([b.id].into());
        b.net.admit([a.id].into());
        if a.id < b.id { (a, b) } else { (b, a) }
    }

    fn dial(&self, other: &Self, channel: Channel) {
        self.net.dial(other.id, channel, other.net.addresses());
    }

    fn send(&self, other: &Self, channel: Channel, lane: Lane, text: &str) {
        self.net.send(
            other.id,
            channel,
            lane,
            Bytes::copy_from_slice(text.as_bytes()),
        );
    }

    async fn event(&mut self) -> NetEvent {
        loop {
            match timeout(PATIENCE, self.events.recv())
                .await
                .expect("an event in time")
                .unwrap()
            {
                NetEvent::Addresses(_) => {}
                event => return event,
            }
        }
    }

    async fn up(&mut self, peer: NodeId) -> Option<SocketAddr> {
        match self.event().await {
            NetEvent::Up {
                peer: who, address, ..
            } if who == peer => address,
            other => panic!("expected a link to {peer:?}, not {other:?}"),
        }
    }

    async fn down(&mut self) -> String {
        loop {
            match self.event().await {
                NetEvent::Down { why, .. } => return why,
                NetEvent::Frame { .. } => {}
                other => panic!("expected the end of a link, not {other:?}"),
            }
        }
    }

    async fn frame(&mut self) -> (Lane, String) {
        match self.event().await {
            NetEvent::Frame { lane, bytes, .. } => (lane, String::from_utf8_lossy(&bytes).into()),
            other => panic!("expected a frame, not {other:?}"),
        }
    }

    async fn dial_failure(&mut self) -> String {
        match self.event().await {
            NetEvent::DialFailed { why, .. } => why,
            other => panic!("expected a failed dial, not {other:?}"),
        }
    }
}

async fn linked(seeds: (u8, u8)) -> (Node, Node) {
    let (mut a, mut b) = Node::pair(seeds).await;
    a.dial(&b, Channel::Mesh);
    a.up(b.id).await;
    b.up(a.id).await;
    (a, b)
}

/// A peer that follows no rule: plain iroh with our ALPNs.
async fn stranger(seed: u8) -> Endpoint {
    Endpoint::builder(presets::Minimal)
        .secret_key(SecretKey::from_bytes(&[seed; 32]))
        .relay_mode(RelayMode::Disabled)
        .portmapper_config(PortmapperConfig::Disabled)
        .clear_ip_transports()
        .bind_addr("127.0.0.1:0")
        .unwrap()
        .bind()
        .await
        .unwrap()
}

async fn connect(from: &Endpoint, to: &Node, alpn: &[u8]) -> Connection {
    let id = EndpointId::from_bytes(to.id.as_bytes()).unwrap();
    let addresses = to.net.addresses().into_iter().map(TransportAddr::Ip);
    from.connect(EndpointAddr::from_parts(id, addresses), alpn)
        .await
        .unwrap()
}

/// An address where packets vanish: a socket that nobody reads.
fn dead_address() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

#[tokio::test]
async fn members_talk_both_ways_on_both_lanes() {
    let (mut a, mut b) = linked((1, 2)).await;

    for lane in [Lane::Control, Lane::Bulk] {
        a.send(&b, Channel::Mesh, lane, "there");
        b.send(&a, Channel::Mesh, lane, "back");
        assert_eq!(b.frame().await, (lane, "there".to_owned()));
        assert_eq!(a.frame().await, (lane, "back".to_owned()));
    }
}

#[tokio::test]
async fn the_address_of_a_peer_is_one_where_it_can_be_dialled() {
    let (mut a, mut b) = Node::pair((1, 2)).await;
    a.dial(&b, Channel::Mesh);

    assert_eq!(a.up(b.id).await, Some(b.net.addresses()[0]));
    assert_eq!(b.up(a.id).await, Some(a.net.addresses()[0]));
}

#[tokio::test]
async fn frames_of_a_lane_arrive_in_order_and_whole() {
    let (a, mut b) = linked((1, 2)).await;
    let frames: Vec<Bytes> = (0..300usize)
        .map(|n| Bytes::from(vec![n as u8; (n * 977) % 40_000]))
        .collect();
    let longest = Bytes::from(vec![7; FRAME_BYTES_MAX]);

    for frame in frames.iter().chain([&longest]) {
        a.net.send(b.id, Channel::Mesh, Lane::Bulk, frame.clone());
    }

    for frame in frames.iter().chain([&longest]) {
        match b.event().await {
            NetEvent::Frame {
                bytes,
                lane: Lane::Bulk,
                ..
            } => assert!(bytes == frame),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_stranger_is_refused_on_the_mesh_but_may_join() {
    let (mut member, mut stranger) = (Node::start(1).await, Node::start(2).await);
    stranger.net.admit([member.id].into());

    stranger.dial(&member, Channel::Mesh);
    let why = stranger.dial_failure().await;
    assert!(why.contains("not a member") && why.contains("403"), "{why}");

    stranger.dial(&member, Channel::Join);
    stranger.up(member.id).await;
    member.up(stranger.id).await;
    stranger.send(&member, Channel::Join, Lane::Bulk, "let me in");
    assert_eq!(member.frame().await, (Lane::Bulk, "let me in".to_owned()));
    assert_eq!(member.net.stats().refused_count, 1);
}

#[tokio::test]
async fn a_node_does_not_dial_whom_it_does_not_admit() {
    let (mut a, b) = (Node::start(1).await, Node::start(2).await);
    a.dial(&b, Channel::Mesh);
    assert_eq!(a.dial_failure().await, "not admitted here");
    a.net.dial(a.id, Channel::Mesh, a.net.addresses());
    assert_eq!(a.dial_failure().await, "that is this node");
}

#[tokio::test]
async fn the_link_of_a_removed_member_is_closed() {
    let (mut a, mut b) = linked((1, 2)).await;

    a.net.admit(BTreeSet::new());

    assert_eq!(a.down().await, "revoked");
    let why = b.down().await;
    assert!(why.contains("revoked") && why.contains("410"), "{why}");
}

#[tokio::test]
async fn blocking_cuts_and_refuses_until_it_is_lifted() {
    let (mut a, mut b) = linked((1, 2)).await;

    a.net.block([b.id].into());
    a.down().await;
    b.down().await;
    b.dial(&a, Channel::Mesh);
    b.dial_failure().await;
    a.dial(&b, Channel::Join);
    assert_eq!(a.dial_failure().await, "blocked here");

    a.net.block(BTreeSet::new());
    b.dial(&a, Channel::Mesh);
    b.up(a.id).await;
    a.up(b.id).await;
}

#[tokio::test]
async fn an_oversized_frame_closes_the_link() {
    let mut node = Node::start(1).await;
    let peer = stranger(2).await;
    node.net.admit([NodeId(*peer.id().as_bytes())].into());

    let connection = connect(&peer, &node, b"lab/1").await;
    let mut control = connection.open_uni().await.unwrap();
    let mut bulk = connection.open_uni().await.unwrap();
    control.write_all(&[0]).await.unwrap();
    bulk.write_all(&[1]).await.unwrap();
    node.up(NodeId(*peer.id().as_bytes())).await;
    control
        .write_all(&(FRAME_BYTES_MAX as u32 + 1).to_be_bytes())
        .await
        .unwrap();

    assert_eq!(node.down().await, "the protocol was broken");
    let why = timeout(PATIENCE, connection.closed())
        .await
        .unwrap()
        .to_string();
    assert!(why.contains("400"), "{why}");
    assert_eq!(node.net.stats().protocol_error_count, 1);
}

#[tokio::test]
async fn a_stranger_sends_short_frames_only_but_may_be_sent_long_ones() {
    let (mut member, mut joiner) = (Node::start(1).await, Node::start(2).await);
    joiner.dial(&member, Channel::Join);
    joiner.up(member.id).await;
    member.up(joiner.id).await;

    let long = Bytes::from(vec![1; JOIN_FRAME_BYTES_MAX + 1]);
    joiner
        .net
        .send(member.id, Channel::Join, Lane::Bulk, long.clone());
    assert_eq!(joiner.net.stats().unsent_count, 1);
    member
        .net
        .send(joiner.id, Channel::Join, Lane::Bulk, long.clone());

    assert!(matches!(joiner.event().await, NetEvent::Frame { bytes, .. } if bytes == long));
}

#[tokio::test]
async fn a_stream_of_no_lane_closes_the_link() {
    let node = Node::start(1).await;
    let peer = stranger(2).await;
    node.net.admit([NodeId(*peer.id().as_bytes())].into());

    let connection = connect(&peer, &node, b"lab/1").await;
    let mut stream = connection.open_uni().await.unwrap();
    stream.write_all(&[9]).await.unwrap();

    let why = timeout(PATIENCE, connection.closed())
        .await
        .unwrap()
        .to_string();
    assert!(why.contains("400"), "{why}");
}

#[tokio::test]
async fn simultaneous_dials_end_in_one_link() {
    for round in 0..20 {
        let (mut a, mut b) = Node::pair((round, round + 100)).await;
        a.dial(&b, Channel::Mesh);
        b.dial(&a, Channel::Mesh);

        a.up(b.id).await;
        b.up(a.id).await;
        a.send(&b, Channel::Mesh, Lane::Control, "one");
        b.send(&a, Channel::Mesh, Lane::Control, "two");
        assert_eq!(b.frame().await.1, "one", "round {round}");
        assert_eq!(a.frame().await.1, "two", "round {round}");
        // Whatever the losing dial still does, both still speak on the same link afterwards.
        for n in 0..20 {
            a.send(&b, Channel::Mesh, Lane::Bulk, &format!("{n}"));
            assert_eq!(b.frame().await.1, format!("{n}"), "round {round}");
            b.send(&a, Channel::Mesh, Lane::Bulk, &format!("{n}"));
            assert_eq!(a.frame().await.1, format!("{n}"), "round {round}");
        }
        assert_eq!(a.net.stats().mesh_link_count, 1);
        assert_eq!(b.net.stats().mesh_link_count, 1);
        assert_eq!(
            a.net.stats().dialling_count + b.net.stats().dialling_count,
            0
        );
    }
}

#[tokio::test]
async fn a_waiting_link_is_taken_when_the_own_dial_fails() {
    let (mut low, mut high) = Node::pair((1, 2)).await;
    let (_socket, dead) = dead_address();

    low.net.dial(high.id, Channel::Mesh, vec![dead]);
    assert_eq!(low.net.stats().dialling_count, 1);
    high.dial(&low, Channel::Mesh);

    // Whichever dial gives up first, the mesh may ask again; no node is left believing in a link
    // alone.
    loop {
        match low.event().await {
            NetEvent::Up { .. } => break,
            NetEvent::DialFailed { .. } => high.dial(&low, Channel::Mesh),
            other => panic!("{other:?}"),
        }
    }
    loop {
        match high.event().await {
            NetEvent::Up { .. } => break,
            NetEvent::DialFailed { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    low.send(&high, Channel::Mesh, Lane::Control, "hello");
    assert_eq!(high.frame().await.1, "hello");
}

#[tokio::test]
async fn a_restarted_peer_replaces_the_link_it_lost() {
    let (mut low, high) = linked((1, 2)).await;
    // For the other end it is as if the peer had lost its memory: the old link still looks alive.
    let (seed, low_id) = (if high.id == iroh_id(2) { 2 } else { 1 }, low.id);
    let addresses = low.net.addresses();
    std::mem::forget(high);

    let again = Node::start(seed).await;
    again.net.admit([low_id].into());
    let mut again = again;
    loop {
        again.net.dial(low_id, Channel::Mesh, addresses.clone());
        match again.event().await {
            NetEvent::Up { .. } => break,
            // Whoever knocks that often is refused for a while.
            NetEvent::DialFailed { why, .. } => {
                let is_meant = why.contains("another link") || why.contains("refused to accept");
                assert!(is_meant, "{why}");
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
            other => panic!("{other:?}"),
        }
    }

    low.down().await;
    low.up(again.id).await;
    again.net.send(
        low_id,
        Channel::Mesh,
        Lane::Control,
        Bytes::from_static(b"back"),
    );
    assert_eq!(low.frame().await.1, "back");
}

/// A peer that links to `to` and is then as good as dead: its sockets stay, nothing of it runs any more.
fn frozen(seed: u8, to: NodeId, addresses: Vec<SocketAddr>) {
    let (done, is_done) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let _node = runtime.block_on(async {
            let mut node = Node::start(seed).await;
            node.net.admit([to].into());
            node.net.dial(to, Channel::Mesh, addresses);
            node.up(to).await;
            node
        });
        done.send(()).unwrap();
        loop {
            std::thread::park();
        }
    });
    is_done.recv().unwrap();
}

/// A node whose peer died hangs up what is left of the link. The peer, started again, must not wait for that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_peer_does_not_wait_for_the_end_of_its_old_link() {
    let mut low = Node::start(1).await;
    low.net.admit([iroh_id(2)].into());
    let (id, addresses) = (low.id, low.net.addresses());
    let dial_to = addresses.clone();
    tokio::task::spawn_blocking(move || frozen(2, id, dial_to))
        .await
        .unwrap();
    low.up(iroh_id(2)).await;
    low.net.send(
        iroh_id(2),
        Channel::Mesh,
        Lane::Bulk,
        Bytes::from(vec![0; 1 << 19]),
    );
    low.net.hangup(iroh_id(2), Channel::Mesh, Reason::Done);

    let mut again = Node::start(2).await;
    again.net.admit([low.id].into());
    again.net.dial(low.id, Channel::Mesh, addresses);

    let up = timeout(Duration::from_secs(3), async {
        low.down().await;
        low.up(again.id).await;
        again.up(low.id).await;
    });
    up.await
        .expect("within the time that the old link may drain");
}

fn iroh_id(seed: u8) -> NodeId {
    NodeId(*SecretKey::from_bytes(&[seed; 32]).public().as_bytes())
}

#[tokio::test]
async fn a_dead_address_does_not_delay_a_good_one() {
    let (mut a, mut b) = Node::pair((1, 2)).await;
    let (_socket, dead) = dead_address();
    let mut addresses = vec![dead];
    addresses.extend(b.net.addresses());

    let clock = clock();
    a.net.dial(b.id, Channel::Mesh, addresses);
    a.up(b.id).await;
    b.up(a.id).await;

    assert!(
        clock.elapsed() < Duration::from_millis(1500),
        "{:?}",
        clock.elapsed()
    );
}

#[tokio::test]
async fn a_dial_of_a_dead_address_fails_in_time() {
    let (mut a, b) = Node::pair((1, 2)).await;
    let (_socket, dead) = dead_address();

    let clock = clock();
    a.net.dial(b.id, Channel::Mesh, vec![dead]);
    let why = a.dial_failure().await;

    assert!(
        clock.elapsed() < Duration::from_secs(6),
        "{:?}",
        clock.elapsed()
    );
    assert!(why.contains("no answer"), "{why}");
    assert_eq!(a.net.stats().dialling_count, 0);
}

#[tokio::test]
async fn a_dial_without_any_address_fails_at_once() {
    let (mut a, b) = Node::pair((1, 2)).await;
    let clock = clock();
    a.net.dial(b.id, Channel::Mesh, Vec::new());
    a.dial_failure().await;
    assert!(clock.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn somebody_else_at_the_address_is_not_the_peer() {
    let (mut a, other) = Node::pair((1, 2)).await;
    let absent = iroh_id(3);
    a.net.admit([absent].into());

    a.net.dial(absent, Channel::Mesh, other.net.addresses());

    a.dial_failure().await;
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_cut_off_for_overload() {
    let (mut a, b) = linked((1, 2)).await;

    // `b` takes no events, so its reading stops, then the windows fill, then our queue does.
    let frame = Bytes::from(vec![0; FRAME_BYTES_MAX]);
    while a.net.stats().mesh_link_count == 1 {
        a.net.send(b.id, Channel::Mesh, Lane::Bulk, frame.clone());
        tokio::task::yield_now().await;
    }

    assert_eq!(a.down().await, "overload");
    assert!(
        b.net.stats().received_bytes <= 6 << 20,
        "{:?}",
        b.net.stats()
    );
    assert_eq!(a.net.stats().overload_count, 1);
}

#[tokio::test]
async fn hanging_up_sends_first_what_was_queued() {
    let (mut member, mut joiner) = (Node::start(1).await, Node::start(2).await);
    joiner.dial(&member, Channel::Join);
    joiner.up(member.id).await;
    member.up(joiner.id).await;

    for n in 0..4 {
        let frame = Bytes::from(vec![n; FRAME_BYTES_MAX]);
        member.net.send(joiner.id, Channel::Join, Lane::Bulk, frame);
    }
    member.send(&joiner, Channel::Join, Lane::Bulk, "refused");
    member.net.hangup(joiner.id, Channel::Join, Reason::Done);

    for _ in 0..4 {
        joiner.frame().await;
    }
    assert_eq!(joiner.frame().await.1, "refused");
    let why = joiner.down().await;
    assert!(why.contains("done"), "{why}");
    assert_eq!(member.down().await, "done");
}

#[tokio::test]
async fn strangers_hold_few_join_links_and_not_for_long() {
    let mut node = Node::start_with(1, |config| {
        config.join_links_max = 4;
        config.join_ms_max = 1_500;
    })
    .await;
    let mut joiners = Vec::new();
    for seed in 10..13 {
        joiners.push(Node::start(seed).await);
    }

    for joiner in &mut joiners[..2] {
        joiner.dial(&node, Channel::Join);
        joiner.up(node.id).await;
    }
    joiners[2].dial(&node, Channel::Join);
    let why = joiners[2].dial_failure().await;
    assert!(why.contains("overload"), "{why}");

    for joiner in &mut joiners[..2] {
        let why = joiner.down().await;
        assert!(why.contains("overload"), "{why}");
    }
    let mut up_count = 0;
    for _ in 0..4 {
        match node.event().await {
            NetEvent::Up { .. } => up_count += 1,
            NetEvent::Down { .. } => up_count -= 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(up_count, 0);
}

#[tokio::test]
async fn closing_tells_the_peers() {
    let (a, mut b) = linked((1, 2)).await;
    let clock = clock();

    a.net.close().await;

    assert!(
        clock.elapsed() < Duration::from_secs(2),
        "{:?}",
        clock.elapsed()
    );
    let why = b.down().await;
    assert!(why.contains("stopping"), "{why}");
}

#[tokio::test]
async fn dropping_the_handle_ends_the_links_and_the_events() {
    let (a, mut b) = linked((1, 2)).await;
    let Node {
        net, mut events, ..
    } = a;

    drop(net);

    b.down().await;
    while timeout(PATIENCE, events.recv()).await.unwrap().is_some() {}
}

#[expect(
    clippy::disallowed_methods,
    reason = "measures how long a real network took"
)]
fn clock() -> std::time::Instant {
    std::time::Instant::now()
}
