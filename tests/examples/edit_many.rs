//! Edits at any of many agents of one machine and says how long each step took, for `tests/bench`.
//!
//! ```text
//! edit_many KEYFILE NAME=SOCKET …      ends when its standard input does
//! ```
//!
//! Every line of input is `NAME PATH`: at that agent, the field at the path becomes true. Every line of output is
//! the answer to one, times in nanoseconds of the machine's monotonic clock:
//!
//! ```text
//! edited NAME BEGUN PREPARED SIGNED ACKNOWLEDGED
//! ```
//!
//! This is what the program `lab` does between reading its arguments and printing; the key has no passphrase and
//! is that of an admin who founded the mesh.

use std::collections::BTreeMap;
use std::io::{BufRead as _, Write as _};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use ed25519_dalek::SigningKey;
use lab_agent_api::Client;
use lab_crdt_log::{Body, Draft, Edit, seal};
use lab_crdt_model::id::unbase32;
use lab_crdt_model::{AuthorId, Field, Op, StatementId, Value, Wall};
use rustix::time::{ClockId, clock_gettime};

type Failed = Box<dyn std::error::Error>;

fn main() -> Result<(), Failed> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: edit_many KEYFILE NAME=SOCKET …";
    let text = std::fs::read_to_string(arguments.next().ok_or(usage)?)?;
    let secret = text.split_whitespace().last().ok_or("an empty key file")?;
    let key = SigningKey::from_bytes(&unbase32(secret).ok_or("no key in the key file")?);
    let mut sockets = BTreeMap::new();
    for argument in arguments {
        let (name, socket) = argument.split_once('=').ok_or(usage)?;
        sockets.insert(name.to_owned(), PathBuf::from(socket));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (name, path) = line.split_once(' ').ok_or("NAME PATH is expected")?;
        let socket = sockets.get(name).ok_or("no such agent")?;
        let times = runtime.block_on(edit(&key, socket, path))?;
        let mut out = std::io::stdout().lock();
        writeln!(
            out,
            "edited {name} {}",
            times.map(|t| t.to_string()).join(" ")
        )?;
        out.flush()?;
    }
    Ok(())
}

async fn edit(key: &SigningKey, socket: &PathBuf, path: &str) -> Result<[i128; 4], Failed> {
    let begun = now_ns();
    let client = Client::connect(socket).await?;
    let prepared = client
        .prepare(AuthorId(key.verifying_key().to_bytes()))
        .await?;
    let has_prepared = now_ns();
    let op = Op::Set {
        path: path.parse()?,
        field: Field::new(Value::Bool(true), "person:ana"),
    };
    let draft = Draft {
        seq: prepared.seq,
        prev: prepared.prev,
        // An admin of the root relies on the root.
        under: StatementId(prepared.mesh.0),
        hlc: prepared.hlc.next(wall()?),
        refs: prepared.refs,
        body: Body::Edit(Edit {
            message: format!("set {path}"),
            ops: vec![op],
        }),
    };
    let bytes = seal(&prepared.mesh, key, &draft).map_err(|e| format!("{e:?}"))?;
    let has_signed = now_ns();
    client.submit(vec![bytes]).await?;
    Ok([begun, has_prepared, has_signed, now_ns()])
}

#[expect(
    clippy::disallowed_methods,
    reason = "the wall clock of a person at a real agent"
)]
fn wall() -> Result<Wall, Failed> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(Wall(u64::try_from(since.as_millis())?))
}

fn now_ns() -> i128 {
    let time = clock_gettime(ClockId::Monotonic);
    i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
}
