//! Watches many agents of one machine at once and says when each of them saw something, for `tests/bench`.
//!
//! ```text
//! watch_many NAME=SOCKET …      ends when its standard input does
//! ```
//!
//! Every line of output is `WORD NAME NANOSECONDS …`, by the monotonic clock of the machine:
//!
//! ```text
//! up     NAME TIME NODE               the agent answers
//! gone   NAME TIME                    it does not any more; it is tried again five times a second
//! intent NAME TIME DIGEST COUNT       it holds these statements; a notice came at TIME and the view agreed
//! peer   NAME TIME NODE LIVENESS      its opinion of another: alive, suspect, down, unknown
//! ```
//!
//! TIME is taken when a notice arrives, before the view that explains it is asked for, as a reader of another
//! agent's event stream would take it.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use lab_agent_api::{Client, ClientError, NoticeKind, ViewMask};
use lab_crdt_model::NodeId;
use lab_crdt_model::view::Liveness;
use rustix::time::{ClockId, clock_gettime};
use tokio::task::JoinSet;
use tokio_stream::StreamExt as _;

/// How long after an agent went away it is tried again.
const RETRY: Duration = Duration::from_millis(200);

/// What was last said of one agent.
#[derive(Default)]
struct Said {
    digest: [u8; 32],
    peers: BTreeMap<NodeId, Liveness>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut agents = Vec::new();
    for argument in std::env::args().skip(1) {
        let (name, socket) = argument
            .split_once('=')
            .ok_or("usage: watch_many NAME=SOCKET …")?;
        agents.push((name.to_owned(), PathBuf::from(socket)));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut tasks = JoinSet::new();
        for (name, socket) in agents {
            tasks.spawn(watch_for_ever(name, socket));
        }
        // Whoever started us may be killed: its end of the pipe closes in any case.
        let closed = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
        let _ended = closed.await;
    });
    runtime.shutdown_background();
    Ok(())
}

async fn watch_for_ever(name: String, socket: PathBuf) {
    let mut said = Said::default();
    loop {
        let mut was_up = false;
        // A restarted agent is another one: everything is said again.
        let _why = watch(&name, &socket, &mut said, &mut was_up).await;
        if was_up {
            say(&format!("gone {name} {}", now_ns()));
            said = Said::default();
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn watch(
    name: &str,
    socket: &PathBuf,
    said: &mut Said,
    was_up: &mut bool,
) -> Result<(), ClientError> {
    let client = Client::connect(socket).await?;
    let node = client.info().await?.node;
    let mut notices = client.watch().await?;
    *was_up = true;
    say(&format!("up {name} {} {node}", now_ns()));
    while let Some(notice) = notices.next().await {
        let at = now_ns();
        let kind = notice?.kind;
        if kind == NoticeKind::Reports {
            continue;
        }
        // Opinions come with the reports; without them a view is a few hundred bytes.
        let mask = ViewMask {
            reports: kind == NoticeKind::Peers,
            ..ViewMask::default()
        };
        let view = client.view(mask).await?;
        if view.digest != said.digest {
            said.digest = view.digest;
            let digest = prefix(&view.digest);
            say(&format!(
                "intent {name} {at} {digest} {}",
                view.statement_count
            ));
        }
        for peer in view.peers {
            if said.peers.insert(peer.node, peer.liveness) != Some(peer.liveness) {
                let word = word(peer.liveness);
                say(&format!("peer {name} {at} {} {word}", peer.node));
            }
        }
    }
    Ok(())
}

const fn word(liveness: Liveness) -> &'static str {
    match liveness {
        Liveness::Alive => "alive",
        Liveness::Suspect => "suspect",
        Liveness::Down => "down",
        Liveness::Unknown => "unknown",
    }
}

/// The beginning of a digest, in hexadecimal: enough to compare.
fn prefix(digest: &[u8; 32]) -> String {
    digest[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn now_ns() -> i128 {
    let time = clock_gettime(ClockId::Monotonic);
    i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
}

/// Prints a line at once; the reader measures with it. A reader that went away is noticed on standard input.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _closed = writeln!(out, "{line}").and_then(|()| out.flush());
}
