//! Meshes of real agents: every test that starts programs does it through a [`TestLab`].
//!
//! A lab lives in one temporary folder. Its agents are processes of the `lab` binary that this module started, are
//! ended by their process id, and are all gone when the lab is dropped. Nothing here waits for a fixed time: what is
//! waited for is looked at until it is so, with a generous limit for a busy machine.
//!
//! ```text
//! let lab = TestLab::of(5);
//! lab.cli(0, &["label", "add", "canary", "-t", "n5"]).ok();
//! lab.until_whole();
//! ```

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use ed25519_dalek::SigningKey;
use lab_agent_api::{Client, ClientError, ViewMask};
use lab_crdt_log::{Body, Draft, Edit, seal};
use lab_crdt_model::id::unbase32;
use lab_crdt_model::view::{Liveness, ReplicaView};
use lab_crdt_model::{AuthorId, Field, Op, StatementId, Value, Wall};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// For what happens within moments on an idle machine.
pub(crate) const SOON: Duration = Duration::from_secs(60);
/// For what takes a minute on an idle machine.
pub(crate) const LATER: Duration = Duration::from_secs(150);
/// Between two looks at something that is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(40);

/// Where an agent runs.
#[derive(Clone, Debug)]
pub(crate) struct Seat {
    /// The address it listens on.
    pub(crate) bind: SocketAddr,
    /// The network namespace it runs in; `None` is that of the test.
    pub(crate) netns: Option<String>,
    /// Whether it looks for members on its local network.
    pub(crate) is_lan: bool,
    /// How far its wall clock is off, for example `-10m`.
    pub(crate) clock: Option<&'static str>,
}

impl Seat {
    /// An address of the loopback network that no other test has: the network is large, and the port is one that the
    /// kernel gives to nobody by itself.
    pub(crate) fn loopback() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let host = NEXT.fetch_add(1, Ordering::Relaxed);
        let pid = std::process::id();
        let octet = |n: u32| u8::try_from(n & 0xff).expect("one byte");
        let ip = [127, 1 + octet(pid >> 8) % 250, octet(pid), octet(host)];
        let port = u16::try_from(10_000 + pid % 20_000).expect("below 30,000");
        Self {
            bind: SocketAddr::from((ip, port)),
            netns: None,
            is_lan: false,
            clock: None,
        }
    }

    /// Lets a command run under the clock of this place.
    fn set_clock(&self, command: &mut Command) {
        let Some(off) = self.clock else { return };
        let library = format!(
            "/usr/lib/{}-linux-gnu/faketime/libfaketimeMT.so.1",
            std::env::consts::ARCH
        );
        assert!(Path::new(&library).exists(), "install faketime");
        command
            .env("LD_PRELOAD", library)
            .env("FAKETIME", off)
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("DONT_FAKE_MONOTONIC", "1");
    }
}

/// One agent: its folder, and its process while it runs.
#[derive(Debug)]
pub(crate) struct Agent {
    /// The name of the node.
    pub(crate) name: String,
    /// Its data folder.
    pub(crate) data: PathBuf,
    /// The folder below which its files are written.
    pub(crate) root: PathBuf,
    /// Where it runs.
    pub(crate) seat: Seat,
    log: PathBuf,
    child: Mutex<Option<Child>>,
}

impl Agent {
    /// Its socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.data.join("lab.sock")
    }

    /// Its process, which is no longer ours to end afterwards.
    fn take_child(&self) -> Option<Child> {
        self.child().take()
    }

    /// The id of its process while it runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child().as_ref().map(Child::id)
    }

    /// How its process ended, if it has.
    fn ended(&self) -> Option<ExitStatus> {
        self.child().as_mut()?.try_wait().ok()?
    }

    fn child(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last lines of its log.
    pub(crate) fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(25)..].join("\n")
    }
}

/// What a command left behind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Ran {
    /// As it was typed.
    pub(crate) line: String,
    /// The exit code; -1 after a signal.
    pub(crate) code: i32,
    /// Standard output.
    pub(crate) out: String,
    /// Standard error.
    pub(crate) err: String,
}

impl Ran {
    /// Its output, after it ended with `code`.
    pub(crate) fn ends_with(self, code: i32) -> Self {
        assert_eq!(
            self.code, code,
            "`{}` ended with another code\n--- stdout\n{}\n--- stderr\n{}",
            self.line, self.out, self.err
        );
        self
    }

    /// Its standard output, after it succeeded.
    pub(crate) fn ok(self) -> String {
        self.ends_with(0).out
    }

    /// The JSON envelope that it printed.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| {
            panic!("`{}` printed no JSON: {error}\n{}", self.line, self.out)
        })
    }

    /// Everything it said, to search in.
    pub(crate) fn said(&self) -> String {
        format!("{}\n{}", self.out, self.err)
    }
}

/// A mesh of real agents.
#[derive(Debug)]
pub(crate) struct TestLab {
    /// The agents, in the order they were made.
    pub(crate) agents: Vec<Agent>,
    /// Further flags of `lab agent run`.
    pub(crate) flags: Vec<String>,
    runtime: Runtime,
    dir: TempDir,
}

impl TestLab {
    /// A lab without agents.
    pub(crate) fn empty() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        Self {
            agents: Vec::new(),
            flags: Vec::new(),
            runtime,
            dir: tempfile::Builder::new()
                .prefix("labt")
                .tempdir()
                .expect("a temporary folder"),
        }
    }

    /// A mesh of `count` agents `n1`, `n2`, … on the loopback network, all running and whole.
    pub(crate) fn of(count: usize) -> Self {
        Self::of_with(count, &[])
    }

    /// The same, with further flags of `lab agent run`.
    pub(crate) fn of_with(count: usize, flags: &[&str]) -> Self {
        let mut lab = Self::empty();
        lab.flags = flags.iter().map(|f| (*f).to_owned()).collect();
        lab.found("n1", Seat::loopback());
        for number in 2..=count {
            lab.join(&format!("n{number}"), Seat::loopback(), &[]);
        }
        lab.until_whole();
        lab
    }

    /// A path in the lab's folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file in the lab's folder.
    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::write(&path, text).expect("write into the lab's folder");
        path.display().to_string()
    }

    /// Founds a mesh and starts its first agent.
    pub(crate) fn found(&mut self, name: &str, seat: Seat) {
        let agent = self.agent(name, seat);
        let mut init = self.command(
            None,
            &[
                "init",
                "--name",
                "test",
                "--admin",
                "ana",
                "--no-passphrase",
            ],
        );
        init.args(["--node", name, "--data"]).arg(&agent.data);
        init.arg("--words-file").arg(self.path("root.words"));
        agent.seat.set_clock(&mut init);
        run(init).ok();
        self.agents.push(agent);
        self.start(self.agents.len() - 1);
    }

    /// Makes a token on the first agent, joins with it and starts the agent; gives its number.
    pub(crate) fn join(&mut self, name: &str, seat: Seat, token_flags: &[&str]) -> usize {
        let token = self.token(0, &[&["create", name], token_flags].concat());
        let agent = self.agent(name, seat);
        self.join_with(&agent, &token).ok();
        self.agents.push(agent);
        let number = self.agents.len() - 1;
        self.start(number);
        number
    }

    /// An agent that is not part of the lab yet.
    pub(crate) fn agent(&self, name: &str, seat: Seat) -> Agent {
        Agent {
            name: name.to_owned(),
            data: self.path(name),
            root: self.path(&format!("{name}.root")),
            log: self.path(&format!("{name}.log")),
            seat,
            child: Mutex::new(None),
        }
    }

    /// Runs `lab token …` quietly; gives what it printed.
    pub(crate) fn token(&self, at: usize, args: &[&str]) -> String {
        let out = self.cli(at, &[&["token", "-q"], args].concat()).ok();
        out.trim().to_owned()
    }

    /// Runs `lab join` for an agent.
    pub(crate) fn join_with(&self, agent: &Agent, token: &str) -> Ran {
        self.join_within(agent, token, "60s")
    }

    /// The same, for at most `timeout`.
    pub(crate) fn join_within(&self, agent: &Agent, token: &str, timeout: &str) -> Ran {
        self.join_with_flags(agent, token, &["--timeout", timeout])
    }

    /// The same, with flags of the command.
    pub(crate) fn join_with_flags(&self, agent: &Agent, token: &str, flags: &[&str]) -> Ran {
        run(self.join_command(agent, token, flags))
    }

    /// The command that lets `agent` join, not yet started.
    pub(crate) fn join_command(&self, agent: &Agent, token: &str, flags: &[&str]) -> Command {
        let mut join = self.command(
            agent.seat.netns.as_deref(),
            &["join", token, "-y", "--no-passphrase"],
        );
        join.args(flags);
        join.arg("--data").arg(&agent.data);
        join.arg("--root").arg(&agent.root);
        join.args(["--bind", &agent.seat.bind.to_string()]);
        if !agent.seat.is_lan {
            join.arg("--no-lan");
        }
        agent.seat.set_clock(&mut join);
        join
    }

    /// Starts an agent and waits until it answers.
    pub(crate) fn start(&self, at: usize) {
        self.spawn(at);
        self.until_up(at);
    }

    /// Starts an agent.
    pub(crate) fn spawn(&self, at: usize) {
        let agent = &self.agents[at];
        let log = File::options()
            .create(true)
            .append(true)
            .open(&agent.log)
            .expect("a log file");
        let mut command = self.agent_command(agent);
        command
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log);
        let mut child = agent.child();
        assert!(child.is_none(), "{} runs already", agent.name);
        *child = Some(command.spawn().expect("start an agent"));
    }

    /// The command that runs an agent in the foreground.
    pub(crate) fn agent_command(&self, agent: &Agent) -> Command {
        let mut command = self.command(agent.seat.netns.as_deref(), &["agent", "run"]);
        agent.seat.set_clock(&mut command);
        command
            .arg("--data")
            .arg(&agent.data)
            .arg("--root")
            .arg(&agent.root);
        command
            .args(["--bind", &agent.seat.bind.to_string()])
            .args(&self.flags);
        if !agent.seat.is_lan {
            command.arg("--no-lan");
        }
        command
    }

    /// Waits until a started agent answers on its socket.
    pub(crate) fn until_up(&self, at: usize) {
        let agent = &self.agents[at];
        let pid = agent.child().as_ref().map(Child::id);
        self.until(&format!("{} answers", agent.name), SOON, || {
            if let Some(status) = agent.ended() {
                panic!("{} ended with {status}:\n{}", agent.name, agent.log_tail());
            }
            let info = self.ask(at, async |client| client.info().await);
            info.is_ok_and(|info| Some(info.pid) == pid)
        });
    }

    /// Ends an agent at once, as a power cut would (`kill -9`).
    pub(crate) fn kill(&self, at: usize) {
        if let Some(mut child) = self.agents[at].take_child() {
            child.kill().expect("kill an agent of ours");
            child.wait().expect("wait for an agent of ours");
        }
    }

    /// Asks an agent to stop, as systemd does; gives how it ended and how long that took.
    pub(crate) fn stop(&self, at: usize) -> (ExitStatus, Duration) {
        let agent = &self.agents[at];
        let pid = agent.child().as_ref().map(Pid::from_child);
        let begun = now();
        kill_process(pid.expect("it runs"), Signal::TERM).expect("signal an agent of ours");
        loop {
            if let Some(status) = agent.ended() {
                agent.take_child();
                return (status, now() - begun);
            }
            let log = || agent.log_tail();
            assert!(
                now() - begun < SOON,
                "{} did not stop:\n{}",
                agent.name,
                log()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether we have started it and not ended it.
    pub(crate) fn is_running(&self, at: usize) -> bool {
        self.agents[at].child().is_some()
    }

    /// The numbers of the agents that run.
    pub(crate) fn running(&self) -> Vec<usize> {
        (0..self.agents.len())
            .filter(|at| self.is_running(*at))
            .collect()
    }

    /// A `lab` command, in the environment of this lab and nothing of that of the test.
    pub(crate) fn command(&self, netns: Option<&str>, args: &[&str]) -> Command {
        let mut command = match netns {
            Some(name) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", name]).arg(binary());
                command
            }
            None => Command::new(binary()),
        };
        let home = self.path("home");
        command
            .args(args)
            .env_clear()
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .env("HOME", &home)
            .env("XDG_CONFIG_HOME", home.join(".config"))
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null())
            .current_dir(self.dir.path());
        command
    }

    /// Runs a command against an agent, as the founder.
    pub(crate) fn cli(&self, at: usize, args: &[&str]) -> Ran {
        let mut command = self.command(None, args);
        command.env("LAB_DATA", &self.agents[at].data);
        self.agents[at].seat.set_clock(&mut command);
        run(command)
    }

    /// Runs a command against an agent with the key of someone else.
    pub(crate) fn cli_as(&self, key: &Path, at: usize, args: &[&str]) -> Ran {
        let mut command = self.command(None, args);
        command
            .env("LAB_DATA", &self.agents[at].data)
            .env("LAB_KEY", key);
        self.agents[at].seat.set_clock(&mut command);
        run(command)
    }

    /// Makes a key for a person and lets an admin allow it; gives the key file, once every running agent knows.
    pub(crate) fn operator(&self, name: &str, flags: &[&str]) -> PathBuf {
        let path = self.path(&format!("{name}.key"));
        let made = self.cli_as(
            &path,
            0,
            &[
                "operator",
                "key",
                "--name",
                name,
                "--no-passphrase",
                "-o",
                "name",
            ],
        );
        let key = made.ok();
        let add = [&["operator", "add", name, key.trim(), "-y"], flags].concat();
        self.cli(0, &add).ok();
        for at in self.running() {
            self.until(&format!("n{} knows {name}", at + 1), SOON, || {
                self.view(at).operators.iter().any(|o| o.name == name)
            });
        }
        path
    }

    /// Talks to an agent over its socket.
    pub(crate) fn ask<T>(
        &self,
        at: usize,
        question: impl AsyncFnOnce(Client) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        let socket = self.agents[at].socket();
        self.runtime
            .block_on(async { question(Client::connect(socket).await?).await })
    }

    /// The replica of an agent.
    pub(crate) fn view(&self, at: usize) -> ReplicaView {
        self.view_of(at, ViewMask::ALL)
    }

    /// The replica of an agent with its whole history.
    pub(crate) fn history(&self, at: usize) -> ReplicaView {
        self.view_of(at, ViewMask::ALL.with_history(100_000))
    }

    fn view_of(&self, at: usize, mask: ViewMask) -> ReplicaView {
        let view = self.ask(at, async |client| client.view(mask).await);
        view.unwrap_or_else(|error| {
            let agent = &self.agents[at];
            panic!("view of {}: {error}\n{}", agent.name, agent.log_tail())
        })
    }

    /// Whether a replica says that a node has a label.
    pub(crate) fn has_label(&self, at: usize, node: &str, label: &str) -> bool {
        let view = self.view(at);
        match field(&view, &format!("label/{node}/{label}")) {
            Some(value) => *value == Value::Bool(true),
            None => {
                let mut members = view.members.iter();
                members.any(|m| m.name == node && m.labels.iter().any(|l| l == label))
            }
        }
    }

    /// Whether every running agent holds the same statements, waits for none, and has a live link.
    pub(crate) fn is_whole(&self) -> bool {
        self.are_equal(&self.running())
    }

    /// Whether these agents hold the same statements and wait for none.
    pub(crate) fn are_equal(&self, agents: &[usize]) -> bool {
        let views: Vec<_> = agents.iter().map(|at| self.view(*at)).collect();
        views
            .iter()
            .all(|v| v.digest == views[0].digest && v.pending_count == 0)
    }

    /// Waits until every running agent holds the same statements.
    pub(crate) fn until_whole(&self) {
        self.until("the mesh is whole", SOON, || self.is_whole());
    }

    /// Waits until an agent believes that another one is alive, or down.
    pub(crate) fn until_seen(&self, at: usize, other: usize, liveness: Liveness) {
        let (who, whom) = (&self.agents[at].name, &self.agents[other].name);
        self.until(&format!("{who} sees {whom} {liveness:?}"), SOON, || {
            self.sees(at, other) == Some(liveness)
        });
    }

    /// What an agent believes of another one.
    pub(crate) fn sees(&self, at: usize, other: usize) -> Option<Liveness> {
        let (view, name) = (self.view(at), &self.agents[other].name);
        let node = view.members.iter().find(|m| m.name == *name)?.node;
        Some(view.peers.iter().find(|p| p.node == node)?.liveness)
    }

    /// Looks until something is so.
    ///
    /// Panics when the time is over, with what the agents know and have logged.
    pub(crate) fn until(&self, what: &str, limit: Duration, mut is_so: impl FnMut() -> bool) {
        let begun = now();
        while !is_so() {
            assert!(
                now() - begun < limit,
                "within {limit:?} it never came to be that {what}\n{}",
                self.describe()
            );
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// What the running agents know, in a few lines each.
    fn describe(&self) -> String {
        let lines = self.running().into_iter().map(|at| {
            let name = &self.agents[at].name;
            match self.ask(at, async |client| client.view(ViewMask::ALL).await) {
                Ok(view) => {
                    let digest: String = view.digest[..4]
                        .iter()
                        .map(|b| format!("{b:02x}"))
                        .collect();
                    let peers: Vec<_> = view
                        .peers
                        .iter()
                        .map(|p| {
                            format!(
                                "{} {:?} link={} equal={:?}",
                                p.node.short(),
                                p.liveness,
                                p.is_linked,
                                p.is_equal
                            )
                        })
                        .collect();
                    format!(
                        "{name} {}: digest {digest}, {} statements, {} pending; {}\n",
                        view.me.short(),
                        view.statement_count,
                        view.pending_count,
                        peers.join("; ")
                    )
                }
                Err(error) => format!("{name}: {error}\n"),
            }
        });
        lines.collect()
    }

    /// Signs a statement on top of what an agent holds, as the CLI does, and hands it in there.
    pub(crate) fn submit(
        &self,
        at: usize,
        key: &SigningKey,
        under: StatementId,
        body: Body,
    ) -> Result<StatementId, ClientError> {
        let bytes = self.sign(at, key, under, body)?;
        self.submit_bytes(at, bytes)
    }

    /// The same without handing it in.
    pub(crate) fn sign(
        &self,
        at: usize,
        key: &SigningKey,
        under: StatementId,
        body: Body,
    ) -> Result<Bytes, ClientError> {
        self.ask(at, async |client| {
            let prepared = client.prepare(author(key)).await?;
            let draft = Draft {
                seq: prepared.seq,
                prev: prepared.prev,
                under,
                hlc: prepared.hlc.next(wall()),
                refs: prepared.refs,
                body,
            };
            Ok(seal(&prepared.mesh, key, &draft).expect("within limits"))
        })
    }

    /// Waits for something on the lab's runtime.
    pub(crate) fn block_on<T>(&self, what: impl Future<Output = T>) -> T {
        self.runtime.block_on(what)
    }

    /// Hands in bytes as they are.
    pub(crate) fn submit_bytes(&self, at: usize, bytes: Bytes) -> Result<StatementId, ClientError> {
        self.ask(at, async |client| Ok(client.submit(vec![bytes]).await?[0]))
    }

    /// The founder's key.
    pub(crate) fn admin_key(&self) -> SigningKey {
        let keys = self.path("home/.config/lab/keys");
        let mut entries = std::fs::read_dir(keys).expect("the founder's keys");
        let path = entries.next().expect("one key").expect("one key").path();
        read_key(&path)
    }
}

impl Drop for TestLab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for agent in &self.agents {
                say(&format!("--- log of {}\n{}", agent.name, agent.log_tail()));
            }
        }
        for agent in &self.agents {
            if let Some(mut child) = agent.take_child() {
                let _gone = child.kill();
                let _reaped = child.wait();
            }
        }
    }
}

/// What stands at a path of a replica.
pub(crate) fn field<'a>(view: &'a ReplicaView, path: &str) -> Option<&'a Value> {
    let found = view.fields.iter().find(|f| f.path.as_str() == path)?;
    Some(&found.candidates.first()?.field.value)
}

/// An edit that sets one field.
pub(crate) fn set(path: &str, value: Value, owner: &str) -> Body {
    let op = Op::Set {
        path: path.parse().expect("a path"),
        field: Field::new(value, owner),
    };
    Body::Edit(Edit {
        message: format!("set {path}"),
        ops: vec![op],
    })
}

/// The public half of a key.
pub(crate) fn author(key: &SigningKey) -> AuthorId {
    AuthorId(key.verifying_key().to_bytes())
}

/// The key in a key file that has no passphrase: a person's, or a node's own.
pub(crate) fn read_key(path: &Path) -> SigningKey {
    let text = std::fs::read_to_string(path).expect("a key file");
    let secret = text
        .split_whitespace()
        .last()
        .expect("the secret comes last");
    SigningKey::from_bytes(&unbase32(secret).expect("base32"))
}

/// The clock on the wall.
#[expect(
    clippy::disallowed_methods,
    reason = "tests of real processes live in real time"
)]
pub(crate) fn wall() -> Wall {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970");
    Wall(u64::try_from(since.as_millis()).expect("before the year 500,000,000"))
}

/// The stopwatch.
#[expect(
    clippy::disallowed_methods,
    reason = "tests of real processes live in real time"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// A variable of the environment, if it is set and not empty.
#[expect(clippy::disallowed_methods, reason = "how tests are told what to use")]
pub(crate) fn env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|v| !v.is_empty())
}

/// Talks to whoever reads the output of the tests.
#[expect(clippy::print_stderr, reason = "shown with a failed test")]
pub(crate) fn say(text: &str) {
    eprintln!("{text}");
}

/// Small random numbers from a seed that is printed, so that a failure can be looked at again: `LAB_TEST_SEED=…`.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    /// From the environment, or from the clock.
    pub(crate) fn seeded() -> Self {
        let seed = env("LAB_TEST_SEED")
            .and_then(|s| s.parse().ok())
            .unwrap_or_else(|| wall().0);
        say(&format!("LAB_TEST_SEED={seed}"));
        Self(seed)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }

    /// One of some.
    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        let at = self.below(of.len() as u64);
        &of[usize::try_from(at).expect("an index")]
    }
}

/// Runs a command to its end.
pub(crate) fn run(mut command: Command) -> Ran {
    let words: Vec<_> = command
        .get_args()
        .map(|a| a.to_string_lossy().into_owned())
        .collect();
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("run {command:?}: {error}"));
    Ran {
        line: format!("lab {}", words.join(" ")),
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The program under test: `LAB_BIN`, or the one beside this test's own executable, which is built if it is not
/// there or older than the sources.
pub(crate) fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(path) = env("LAB_BIN") {
            let path = PathBuf::from(path);
            return path
                .canonicalize()
                .unwrap_or_else(|error| panic!("LAB_BIN={}: {error}", path.display()));
        }
        let own = std::env::current_exe().expect("where this test is");
        let profile = own
            .parent()
            .and_then(Path::parent)
            .expect("target/PROFILE/deps/TEST");
        let path = profile.join("lab");
        if built_at(&path).is_none_or(|built| built < newest_source()) {
            build(profile);
        }
        path
    })
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the workspace")
}

fn build(profile: &Path) {
    let name = profile
        .file_name()
        .and_then(|n| n.to_str())
        .unwrap_or("debug");
    let name = if name == "debug" { "dev" } else { name };
    let mut cargo = Command::new(env("CARGO").unwrap_or_else(|| "cargo".to_owned()));
    cargo.args([
        "build",
        "--quiet",
        "--package",
        "lab-cli",
        "--profile",
        name,
    ]);
    cargo
        .arg("--target-dir")
        .arg(profile.parent().expect("the target folder"));
    let built = cargo.current_dir(workspace()).status().expect("run cargo");
    assert!(built.success(), "the program under test does not build");
}

fn built_at(path: &Path) -> Option<SystemTime> {
    path.metadata().ok()?.modified().ok()
}

/// When the sources of the program were last changed.
fn newest_source() -> SystemTime {
    let mut newest = UNIX_EPOCH;
    let mut folders: Vec<PathBuf> = ["crdt", "mesh", "agent", "cli"]
        .map(|f| workspace().join(f))
        .into();
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries.flatten() {
            let path = entry.path();
            if path.is_dir() {
                let is_program = !["tests", "benches", "examples"]
                    .iter()
                    .any(|n| path.ends_with(n));
                folders.extend(is_program.then_some(path));
            } else if path
                .extension()
                .is_some_and(|e| e == "rs" || e == "proto" || e == "toml")
            {
                newest = newest.max(built_at(&path).unwrap_or(UNIX_EPOCH));
            }
        }
    }
    newest
}
