//! The transport of the remote API over real sockets: who gets a stream, how many, and for how long.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

use std::net::SocketAddr;
use std::time::Duration;

use iroh::SecretKey;
use lab_crdt_model::link::{Channel, Lane};
use lab_crdt_model::{AuthorId, NodeId};
use lab_mesh_net::{
    ApiError, ApiStream, DEVICE_COUNT_MAX, DEVICES_PER_KEY_MAX, Net, NetConfig, NetEvent,
    NetEvents, Remote,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Longest wait for anything; far more than it takes.
const PATIENCE: Duration = Duration::from_secs(20);

struct Node {
    net: Net,
    events: NetEvents,
    streams: mpsc::Receiver<ApiStream>,
    addresses: Vec<SocketAddr>,
}

impl Node {
    async fn start(seed: u8, change: impl FnOnce(&mut NetConfig)) -> Self {
        let mut config = NetConfig::new([seed; 32]);
        config.bind = vec!["127.0.0.1:0".parse().unwrap()];
        config.remote_api = true;
        change(&mut config);
        let (mut net, mut events) = Net::start(config).await.unwrap();
        let streams = net.take_remote().unwrap();
        while net.addresses().is_empty() {
            timeout(PATIENCE, events.recv()).await.unwrap().unwrap();
        }
        let addresses = net.addresses();
        Self {
            net,
            events,
            streams,
            addresses,
        }
    }

    async fn with_remote_api(seed: u8) -> Self {
        Self::start(seed, |_| {}).await
    }

    async fn device(&self, seed: u8) -> Remote {
        Remote::new(&[seed; 32], self.net.id(), self.addresses.clone())
            .await
            .unwrap()
    }

    async fn stream(&mut self) -> ApiStream {
        timeout(PATIENCE, self.streams.recv())
            .await
            .unwrap()
            .unwrap()
    }

    async fn frame(&mut self) -> NetEvent {
        loop {
            match timeout(PATIENCE, self.events.recv()).await.unwrap() {
                Some(frame @ NetEvent::Frame { .. }) => return frame,
                Some(_) => {}
                None => panic!("the driver ended"),
            }
        }
    }
}

fn key(seed: u8) -> AuthorId {
    AuthorId(*SecretKey::from_bytes(&[seed; 32]).public().as_bytes())
}

/// What ends a stream, in words.
async fn end(stream: &mut ApiStream) -> String {
    let mut rest = Vec::new();
    match timeout(PATIENCE, stream.read_to_end(&mut rest))
        .await
        .unwrap()
    {
        Ok(_) => "its end".to_owned(),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn an_admitted_device_gets_a_stream_that_knows_its_key() {
    let mut node = Node::with_remote_api(1).await;
    node.net.admit_devices([key(7)].into());
    let device = node.device(7).await;

    let mut ours = device.connect().await.unwrap();
    let mut theirs = node.stream().await;
    assert_eq!(theirs.key(), key(7));
    assert_eq!(NodeId(ours.key().0), node.net.id());

    ours.write_all(b"who?").await.unwrap();
    let mut asked = [0; 4];
    theirs.read_exact(&mut asked).await.unwrap();
    // What is written last still arrives, although the node is done with the stream.
    theirs.write_all(b"you").await.unwrap();
    theirs.shutdown().await.unwrap();
    drop(theirs);
    let mut answer = String::new();
    ours.read_to_string(&mut answer).await.unwrap();
    assert_eq!((&asked, answer.as_str()), (b"who?", "you"));
}

#[tokio::test]
async fn strangers_members_and_former_devices_get_none() {
    let node = Node::with_remote_api(1).await;
    node.net.admit([NodeId(key(8).0)].into());
    node.net.admit_devices([key(7)].into());

    for seed in [8, 9] {
        let refused = node.device(seed).await.connect().await;
        assert_eq!(refused.unwrap_err(), ApiError::NotEntitled, "{seed}");
    }
    node.net.admit_devices([].into());
    let refused = node.device(7).await.connect().await;
    assert_eq!(refused.unwrap_err(), ApiError::NotEntitled);
    assert_eq!(node.net.stats().device_count, 0);
    assert!(node.net.stats().refused_count >= 3);
}

#[tokio::test]
async fn a_device_that_may_no_longer_ask_is_cut_off_at_once_and_no_other_is() {
    let mut node = Node::with_remote_api(1).await;
    node.net.admit_devices([key(7), key(8)].into());
    let (first, second) = (node.device(7).await, node.device(8).await);
    let (mut gone, mut kept) = (
        first.connect().await.unwrap(),
        second.connect().await.unwrap(),
    );
    let streams = [node.stream().await, node.stream().await];

    node.net.admit_devices([key(8)].into());

    let why = end(&mut gone).await;
    assert!(why.contains("revoked (410)"), "{why}");
    let [a, b] = streams;
    let mut theirs = if a.key() == key(8) { a } else { b };
    kept.write_all(b"still").await.unwrap();
    let mut asked = [0; 5];
    theirs.read_exact(&mut asked).await.unwrap();
    assert_eq!(&asked, b"still");
}

#[tokio::test]
async fn connections_are_bounded_per_key_and_in_all_and_the_mesh_does_not_notice() {
    let mut node = Node::with_remote_api(1).await;
    let mut peer = Node::with_remote_api(2).await;
    let keys = DEVICE_COUNT_MAX.div_ceil(DEVICES_PER_KEY_MAX) as u8;
    node.net.admit_devices((10..=10 + keys).map(key).collect());
    let mut held = Vec::new();
    let mut taken = Vec::new();

    for seed in 10..10 + keys {
        let device = node.device(seed).await;
        for _ in 0..DEVICES_PER_KEY_MAX {
            held.push(device.connect().await.unwrap());
            taken.push(node.stream().await);
        }
        let one_more = device.connect().await;
        assert_eq!(one_more.unwrap_err(), ApiError::Busy);
    }
    assert_eq!(node.net.stats().device_count, DEVICE_COUNT_MAX);
    let late = node.device(10 + keys).await;
    assert_eq!(late.connect().await.unwrap_err(), ApiError::Busy);

    // Peers still get their links, and frames pass.
    let (one, two) = (node.net.id(), peer.net.id());
    node.net.admit([two].into());
    peer.net.admit([one].into());
    peer.net.dial(one, Channel::Mesh, node.addresses.clone());
    while peer.net.stats().mesh_link_count == 0 {
        timeout(PATIENCE, peer.events.recv())
            .await
            .unwrap()
            .unwrap();
    }
    peer.net
        .send(one, Channel::Mesh, Lane::Control, "ping".into());
    assert!(matches!(node.frame().await, NetEvent::Frame { from, .. } if from == two));

    // A place is free again as soon as one goes.
    drop(taken.pop());
    drop(held.pop());
    let stream = timeout(PATIENCE, async {
        loop {
            match late.connect().await {
                Ok(stream) => return stream,
                Err(ApiError::Busy) => {}
                // Whoever knocks that often is refused for a while.
                Err(error) => assert!(error.to_string().contains("refused"), "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    });
    assert_eq!(NodeId(stream.await.unwrap().key().0), one);
}

#[tokio::test]
async fn a_connection_that_carries_nothing_is_closed() {
    let mut node = Node::start(1, |config| config.api_idle_ms = 100).await;
    node.net.admit_devices([key(7)].into());
    let device = node.device(7).await;
    let mut ours = device.connect().await.unwrap();
    let mut theirs = node.stream().await;

    let why = end(&mut theirs).await;
    assert!(why.contains("nothing was carried"), "{why}");
    let why = end(&mut ours).await;
    assert!(why.contains("done (0)"), "{why}");
}

#[tokio::test]
async fn a_node_without_remote_api_does_not_speak_of_it() {
    let node = Node::start(1, |config| config.remote_api = false).await;
    node.net.admit_devices([key(7)].into());

    let refused = node.device(7).await.connect().await.unwrap_err();

    let ApiError::Unreachable { why } = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(why, "it offers no remote API");
}

#[tokio::test]
async fn another_node_at_the_address_is_not_talked_to() {
    let node = Node::with_remote_api(1).await;
    node.net.admit_devices([key(7)].into());
    let wrong = NodeId(key(2).0);
    let device = Remote::new(&[7; 32], wrong, node.addresses.clone()).await;

    let refused = device.unwrap().connect().await.unwrap_err();

    assert!(
        matches!(refused, ApiError::Unreachable { .. }),
        "{refused:?}"
    );
    assert_eq!(node.net.stats().device_count, 0);
}
