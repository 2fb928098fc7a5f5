//! A link beside plain quinn, in the same process and run: throughput of one stream, time to
//! connect.
//!
//! `cargo bench -p lab-mesh-net`. Both ends run in this process over the loopback interface, so a
//! figure is the work of two nodes. It asserts nothing; what the figures should be is in the
//! architecture's chapter on benchmarks.
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![expect(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use lab_crdt_model::NodeId;
use lab_crdt_model::link::{Channel, Lane, Reason};
use lab_mesh_net::{Net, NetConfig, NetEvent, NetEvents};
use tokio::runtime::{Builder, Runtime};

/// Moved per throughput run, bytes.
const TOTAL_BYTES: usize = 1 << 30;
/// Length of one frame, or of one write of quinn, bytes.
const FRAME_BYTES: usize = 256 << 10;
/// What a sender may have under way of our own accord, bytes; below the limit of the bulk queue.
const AHEAD_BYTES: u64 = 4 << 20;
/// Connections per time-to-connect run.
const CONNECT_COUNT: usize = 200;

struct Figures {
    name: &'static str,
    megabytes_per_s: f64,
    connect_p50: Duration,
    connect_p95: Duration,
    rss_mib: f64,
}

fn main() {
    let idle = rss_mib();
    let lab_single = measure("lab, 1 thread", &single(), lab());
    let lab_multi = measure("lab, 2 threads", &multi(), lab());
    let quinn_single = measure("quinn, 1 thread", &single(), quinn_plain());
    let quinn_multi = measure("quinn, 2 threads", &multi(), quinn_plain());

    println!("before anything: {idle:.1} MiB resident");
    println!(
        "{:<18} {:>8} {:>8} {:>12} {:>12} {:>9}",
        "", "MB/s", "ratio", "connect p50", "p95", "MiB RSS"
    );
    for (figures, yardstick) in [
        (&lab_single, &quinn_single),
        (&quinn_single, &quinn_single),
        (&lab_multi, &quinn_multi),
        (&quinn_multi, &quinn_multi),
    ] {
        println!(
            "{:<18} {:>8.0} {:>8.2} {:>9.2} ms {:>9.2} ms {:>9.1}",
            figures.name,
            figures.megabytes_per_s,
            figures.megabytes_per_s / yardstick.megabytes_per_s,
            millis(figures.connect_p50),
            millis(figures.connect_p95),
            figures.rss_mib,
        );
    }
    println!(
        "connect p50, lab to quinn: {:.2} on one thread, {:.2} on two",
        millis(lab_single.connect_p50) / millis(quinn_single.connect_p50),
        millis(lab_multi.connect_p50) / millis(quinn_multi.connect_p50),
    );
}

fn measure(
    name: &'static str,
    runtime: &Runtime,
    run: impl Future<Output = (f64, Vec<Duration>)>,
) -> Figures {
    let (megabytes_per_s, mut connects) = runtime.block_on(run);
    connects.sort_unstable();
    let at = |part: usize| connects[connects.len() * part / 100];
    Figures {
        name,
        megabytes_per_s,
        connect_p50: at(50),
        connect_p95: at(95),
        rss_mib: rss_mib(),
    }
}

async fn lab() -> (f64, Vec<Duration>) {
    let (a, mut a_events) = start(1).await;
    let (b, mut b_events) = start(2).await;
    a.admit([b.id()].into());
    b.admit([a.id()].into());

    let mut connects = Vec::with_capacity(CONNECT_COUNT);
    for _ in 0..CONNECT_COUNT {
        let began = now();
        a.dial(b.id(), Channel::Mesh, b.addresses());
        up(&mut a_events).await;
        connects.push(began.elapsed());
        up(&mut b_events).await;
        a.hangup(b.id(), Channel::Mesh, Reason::Duplicate);
        down(&mut a_events).await;
        down(&mut b_events).await;
    }

    a.dial(b.id(), Channel::Mesh, b.addresses());
    up(&mut a_events).await;
    up(&mut b_events).await;
    let began = now();
    tokio::join!(push(&a, b.id()), take(&mut b_events));
    let rate = rate(began.elapsed());
    a.close().await;
    b.close().await;
    (rate, connects)
}

async fn start(seed: u8) -> (Net, NetEvents) {
    let mut config = NetConfig::new([seed; 32]);
    config.bind = vec![loopback()];
    let (net, mut events) = Net::start(config).await.unwrap();
    while net.addresses().is_empty() {
        events.recv().await.unwrap();
    }
    (net, events)
}

async fn up(events: &mut NetEvents) {
    loop {
        match events.recv().await.unwrap() {
            NetEvent::Up { .. } => return,
            NetEvent::Addresses(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn down(events: &mut NetEvents) {
    while !matches!(events.recv().await.unwrap(), NetEvent::Down { .. }) {}
}

async fn push(net: &Net, to: NodeId) {
    let frame = Bytes::from(vec![7; FRAME_BYTES]);
    let mut queued = 0;
    while queued < TOTAL_BYTES as u64 {
        if queued - net.stats().sent_bytes < AHEAD_BYTES {
            net.send(to, Channel::Mesh, Lane::Bulk, frame.clone());
            queued += FRAME_BYTES as u64;
        } else {
            tokio::task::yield_now().await;
        }
    }
}

async fn take(events: &mut NetEvents) {
    let mut taken = 0;
    while taken < TOTAL_BYTES {
        match events.recv().await.unwrap() {
            NetEvent::Frame { bytes, .. } => taken += bytes.len(),
            other => panic!("{other:?}"),
        }
    }
}

async fn quinn_plain() -> (f64, Vec<Duration>) {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
    let certificate = rustls::pki_types::CertificateDer::from(certified.cert);
    let server =
        quinn::ServerConfig::with_single_cert(vec![certificate.clone()], key.into()).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).unwrap();
    let client = quinn::ClientConfig::with_root_certificates(Arc::new(roots)).unwrap();
    let server = quinn::Endpoint::server(server, loopback()).unwrap();
    let address = server.local_addr().unwrap();
    let mut dialler = quinn::Endpoint::client(loopback()).unwrap();
    dialler.set_default_client_config(client);

    let mut connects = Vec::with_capacity(CONNECT_COUNT);
    let accept = || async { server.accept().await.unwrap().await.unwrap() };
    let connect = || async {
        dialler
            .connect(address, "localhost")
            .unwrap()
            .await
            .unwrap()
    };
    for _ in 0..CONNECT_COUNT {
        let began = now();
        let dial = async {
            let connection = connect().await;
            connects.push(began.elapsed());
            connection
        };
        let (ours, theirs) = tokio::join!(dial, accept());
        ours.close(0u32.into(), b"");
        theirs.closed().await;
    }

    let (ours, theirs) = tokio::join!(connect(), accept());
    let began = now();
    let push = async {
        let frame = Bytes::from(vec![7; FRAME_BYTES]);
        let mut stream = ours.open_uni().await.unwrap();
        for _ in 0..TOTAL_BYTES / FRAME_BYTES {
            stream.write_chunk(frame.clone()).await.unwrap();
        }
        stream.finish().unwrap();
    };
    let take = async {
        let mut stream = theirs.accept_uni().await.unwrap();
        let mut frame = vec![0; FRAME_BYTES];
        for _ in 0..TOTAL_BYTES / FRAME_BYTES {
            stream.read_exact(&mut frame).await.unwrap();
        }
    };
    tokio::join!(push, take);
    (rate(began.elapsed()), connects)
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn single() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn multi() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

fn rate(took: Duration) -> f64 {
    TOTAL_BYTES as f64 / 1e6 / took.as_secs_f64()
}

fn millis(took: Duration) -> f64 {
    took.as_secs_f64() * 1e3
}

fn rss_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn now() -> Instant {
    Instant::now()
}
