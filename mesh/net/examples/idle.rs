//! What links cost while nobody speaks: resident memory, and bytes per second on the wire.
//!
//! `cargo build --release -p lab-mesh-net --example idle`, then run it in an empty network namespace
//! (`unshare -rn sh -c 'ip link set lo up; target/release/examples/idle'`), for it reads the
//! counters of the loopback interface. Eight nodes in one process link to each other.
#![expect(clippy::print_stdout, reason = "an example prints its figures")]
#![expect(clippy::unwrap_used, reason = "an example fails by panicking")]

use std::time::Duration;

use lab_crdt_model::link::Channel;
use lab_mesh_net::{Net, NetConfig, NetEvent, NetEvents};

const NODE_COUNT: usize = 8;
const WATCH: Duration = Duration::from_secs(60);

#[tokio::main(flavor = "current_thread")]
async fn main() {
    println!("before anything: {:.1} MiB resident", rss_mib());
    let mut nodes: Vec<(Net, NetEvents)> = Vec::new();
    for seed in 1..=NODE_COUNT as u8 {
        let mut config = NetConfig::new([seed; 32]);
        config.bind = vec!["127.0.0.1:0".parse().unwrap()];
        let (net, mut events) = Net::start(config).await.unwrap();
        while net.addresses().is_empty() {
            events.recv().await.unwrap();
        }
        nodes.push((net, events));
        if seed == 1 {
            println!("one endpoint: {:.1} MiB resident", rss_mib());
        }
    }
    println!("{NODE_COUNT} endpoints: {:.1} MiB resident", rss_mib());

    let ids: Vec<_> = nodes.iter().map(|(net, _)| net.id()).collect();
    for (net, _) in &nodes {
        net.admit(ids.iter().copied().filter(|id| *id != net.id()).collect());
    }
    for (at, (net, _)) in nodes.iter().enumerate() {
        for (other, _) in &nodes[at + 1..] {
            net.dial(other.id(), Channel::Mesh, other.addresses());
        }
    }
    for (_, events) in &mut nodes {
        let mut up_count = 0;
        while up_count < NODE_COUNT - 1 {
            match events.recv().await.unwrap() {
                NetEvent::Up { .. } => up_count += 1,
                NetEvent::Addresses(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
    let links = NODE_COUNT * (NODE_COUNT - 1);
    println!("{links} ends of links: {:.1} MiB resident", rss_mib());

    // Handshakes and the discovery of the path's packet size settle first.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let (bytes, packets, cpu) = (loopback(0), loopback(1), cpu_ms());
    tokio::time::sleep(WATCH).await;
    let seconds = WATCH.as_secs_f64();
    let bytes = (loopback(0) - bytes) / seconds / links as f64;
    let packets = (loopback(1) - packets) / seconds / links as f64;
    println!("sent per end of a link: {bytes:.1} B/s with headers, {packets:.2} packets/s");
    println!("sent per node: {:.0} B/s", bytes * (NODE_COUNT - 1) as f64);
    println!(
        "CPU per node: {:.2} ms/s",
        (cpu_ms() - cpu) / seconds / NODE_COUNT as f64
    );
    for (net, _) in nodes {
        net.close().await;
    }
}

/// Counter `field` of what the loopback interface received.
fn loopback(field: usize) -> f64 {
    let text = std::fs::read_to_string("/proc/net/dev").unwrap();
    let line = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("lo:"))
        .unwrap();
    line.split_whitespace().nth(field).unwrap().parse().unwrap()
}

fn rss_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.split_whitespace()
        .next()
        .unwrap()
        .parse::<f64>()
        .unwrap()
        / 1024.0
}

fn cpu_ms() -> f64 {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap();
    text.split_whitespace()
        .next()
        .unwrap()
        .parse::<f64>()
        .unwrap()
        / 1e6
}
