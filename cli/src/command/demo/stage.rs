//! Where the demo plays: a folder, the agents' processes, and the way to see what they know.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use lab_agent_api::{Client, ViewMask};
use lab_crdt_model::NodeId;
use lab_crdt_model::view::{Liveness, MemberState, ReplicaView};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::cast::{LAPTOP, Machine, machines};
use super::report::seconds;
use super::typed::Typed;
use crate::clock::Stopwatch;
use crate::env;
use crate::error::{CommandError, Exit};
use crate::print::paint::Paint;
use crate::print::safe;
use crate::ui::Ui;

/// How often the demo looks.
const LOOK_EVERY: Duration = Duration::from_millis(25);
/// How long an agent may take until it answers.
const START_MAX: Duration = Duration::from_secs(60);
/// How long an agent may take to stop by itself.
const STOP_MAX: Duration = Duration::from_secs(3);
/// Up to this many machines, everyone has a link to everyone.
const FULL_MESH_MAX: usize = 8;
/// From when on it is told what a wait was for.
const LONG: Duration = Duration::from_secs(10);
/// Longest folder, bytes: sockets in it have at most 107.
const DIR_BYTES_MAX: usize = 80;

/// The demo's folder and everything that runs in it.
#[derive(Debug)]
pub(super) struct Stage<'a> {
    ui: &'a Ui,
    program: PathBuf,
    dir: PathBuf,
    is_kept: bool,
    act: u32,
    /// Everyone, the founder first and the laptop last.
    pub(super) machines: Vec<Machine>,
}

/// What was to be seen, or what is there instead.
pub(super) type Seen = Result<(), String>;

impl<'a> Stage<'a> {
    /// Makes the folder.
    pub(super) fn open(ui: &'a Ui, nodes: u16, keep: Option<&Path>) -> Result<Self, CommandError> {
        let program = std::env::current_exe().map_err(|error| {
            CommandError::new(Exit::Failed, "C043", "find this program").because(&error)
        })?;
        let dir = match keep {
            Some(dir) => named(dir)?,
            None => temporary()?,
        };
        Ok(Self {
            ui,
            program,
            dir,
            is_kept: keep.is_some(),
            act: 0,
            machines: machines(nodes),
        })
    }

    /// A path in the folder.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The folder.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// This program, in the folder, with nothing of the person's own settings.
    pub(super) fn program(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .current_dir(&self.dir)
            .env("XDG_CONFIG_HOME", self.dir.join("config"))
            .env("USER", "bob")
            .kill_on_drop(true);
        for name in [
            env::DATA,
            env::SOCKET,
            env::KEY,
            env::KEY_PASSPHRASE_FILE,
            env::JOURNAL_STREAM,
            "NOTIFY_SOCKET",
            "SUDO_USER",
        ] {
            command.env_remove(name);
        }
        command
    }

    // ---- telling --------------------------------------------------------------------------------------------------

    /// Begins a new act.
    pub(super) fn act(&mut self, title: &str) {
        self.act += 1;
        let title = format!("{}  {title}", self.act);
        self.ui.say(&format!("\n{}", self.paint().bold(&title)));
    }

    /// Tells what happens.
    pub(super) fn tell(&self, text: &str) {
        self.ui.say(&format!("   {text}"));
    }

    /// Tells what was seen to happen.
    pub(super) fn seen(&self, text: &str) {
        self.ui.say(&format!(" {} {text}", self.paint().green("✓")));
    }

    /// Tells something that matters less.
    pub(super) fn aside(&self, text: &str) {
        self.ui.say(&format!("     {}", self.paint().dim(text)));
    }

    /// Shows a command line.
    pub(super) fn show_command(&self, text: &str) {
        let (dollar, text) = (self.paint().dim("$"), self.paint().cyan(text));
        self.ui.say(&format!("   {dollar} {text}"));
    }

    /// Shows at most `max` lines of an answer.
    pub(super) fn show_answer(&self, text: &str, max: usize) {
        let lines: Vec<_> = text.trim_end().lines().collect();
        for line in lines.iter().take(max) {
            self.ui.say(format!("     {line}").trim_end());
        }
        if lines.len() > max {
            self.aside(&format!("… {} more lines", lines.len() - max));
        }
    }

    /// Whether what commands say is to be coloured.
    pub(super) fn is_colour(&self) -> bool {
        self.paint() == Paint::colour()
    }

    fn paint(&self) -> Paint {
        self.ui.paint()
    }

    // ---- agents ---------------------------------------------------------------------------------------------------

    /// The place of a machine among [`Self::machines`].
    pub(super) fn index(&self, name: &str) -> usize {
        let found = self.machines.iter().position(|m| m.name == name);
        found.expect("the story names machines that play in it")
    }

    /// Names of machines whose agents run.
    pub(super) fn up(&self) -> Vec<String> {
        let up = self.machines.iter().filter(|m| m.is_up());
        up.map(|m| m.name.clone()).collect()
    }

    /// Starts an agent and waits until it answers.
    pub(super) async fn start(&mut self, name: &str) -> Result<Duration, CommandError> {
        let root = self.dir.join(name).join("root");
        let typed = Typed::new(&["agent", "run"])
            .at(name)
            .with(&["--bind", "127.0.0.1:0", "--root", &root.to_string_lossy()])
            .with(&["--no-lan", "--allow-faults"]);
        self.show_command(&format!("{} &", typed.text()));
        let failed = |error: &io::Error| {
            CommandError::new(Exit::Failed, "C045", format!("start the agent of {name}"))
                .because(error)
        };
        let watch = Stopwatch::start();
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log(name))
            .map_err(|error| failed(&error))?;
        let child = self
            .program()
            .args(typed.words())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            // Ctrl-C is for the demo: it ends its agents in its own way.
            .process_group(0)
            .spawn()
            .map_err(|error| failed(&error))?;
        let at = self.index(name);
        self.machines[at].agent = Some(child);
        loop {
            if let Ok(client) = Client::connect(self.socket(name)).await
                && let Ok(info) = client.info().await
            {
                self.machines[at].id = Some(info.node);
                self.machines[at].client = Some(client);
                return Ok(watch.elapsed());
            }
            let agent = self.machines[at].agent.as_mut();
            let ended = agent.and_then(|child| child.try_wait().ok().flatten());
            if let Some(status) = ended {
                return Err(self.failure(format!("the agent of {name} ended: {status}"), &[name]));
            }
            if watch.elapsed() > START_MAX {
                let message = format!("the agent of {name} gave no answer");
                return Err(self.failure(message, &[name]));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Ends an agent without a chance to say goodbye.
    pub(super) async fn crash(&mut self, name: &str) -> Result<u32, CommandError> {
        let failed = |error: &io::Error| {
            CommandError::new(Exit::Failed, "C046", format!("kill the agent of {name}"))
                .because(error)
        };
        let at = self.index(name);
        self.machines[at].client = None;
        let Some(mut child) = self.machines[at].agent.take() else {
            return Err(failed(&io::Error::other("it does not run")));
        };
        let pid = child.id().unwrap_or_default();
        self.show_command(&format!("kill -9 {pid}"));
        child.kill().await.map_err(|error| failed(&error))?;
        Ok(pid)
    }

    /// Cuts the machines in `far` off from all others, or lets everyone talk again when there are none.
    pub(super) async fn cut(&self, far: &[&str]) -> Result<(), CommandError> {
        let is_far = |machine: &Machine| far.contains(&machine.name.as_str());
        for machine in &self.machines {
            let Some(client) = &machine.client else {
                continue;
            };
            let others = self
                .machines
                .iter()
                .filter(|m| is_far(m) != is_far(machine));
            let others: Vec<NodeId> = match far {
                [] => Vec::new(),
                [..] => others.filter_map(|m| m.id).collect(),
            };
            client
                .block(&others)
                .await
                .map_err(|error| crate::session::client_error(&error))?;
        }
        Ok(())
    }

    // ---- looking --------------------------------------------------------------------------------------------------

    /// Looks until `look` sees what it looks for; gives how long that took.
    pub(super) async fn until(
        &self,
        what: &str,
        limit: Duration,
        mut look: impl AsyncFnMut() -> Seen,
    ) -> Result<Duration, CommandError> {
        let watch = Stopwatch::start();
        let mut last = String::new();
        loop {
            let seen = look().await;
            let took = watch.elapsed();
            match seen {
                Ok(()) => {
                    if took > LONG {
                        self.aside(&format!("for {} it was so: {last}", seconds(took)));
                    }
                    return Ok(took);
                }
                Err(instead) if took > limit => {
                    let limit = limit.as_secs();
                    let message = format!("it was not seen within {limit} s that {what}");
                    let up = self.up();
                    let up: Vec<_> = up.iter().map(String::as_str).collect();
                    let error = self.failure(message, &up);
                    return Err(error.because(&io::Error::other(instead)));
                }
                Err(instead) => last = instead,
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// What a machine knows.
    pub(super) async fn view(&self, name: &str) -> Result<ReplicaView, String> {
        self.masked(name, ViewMask::ALL).await
    }

    async fn masked(&self, name: &str, mask: ViewMask) -> Result<ReplicaView, String> {
        let client = self.machines[self.index(name)].client.as_ref();
        let client = client.ok_or_else(|| format!("{name} does not run"))?;
        client
            .view(mask)
            .await
            .map_err(|error| format!("{name}: {error}"))
    }

    /// Whether these machines hold the same statements and have read the same document from them.
    pub(super) async fn are_equal(&self, names: &[String]) -> Seen {
        let mut first: Option<(&str, ReplicaView)> = None;
        for name in names {
            let view = self.masked(name, ViewMask::default()).await?;
            let Some((other, before)) = &first else {
                first = Some((name, view));
                continue;
            };
            if (view.digest, &view.heads) != (before.digest, &before.heads) {
                return Err(format!(
                    "{name} holds {} statements, {other} holds {}",
                    view.statement_count, before.statement_count
                ));
            }
        }
        Ok(())
    }

    /// Whether every running machine is a member to every running machine, and alive. In a mesh in which not everyone
    /// has a link to everyone, a machine need not have heard of all others yet, but may hold none for down.
    pub(super) async fn know_each_other(&self) -> Seen {
        let up: Vec<_> = self.machines.iter().filter(|m| m.is_up()).collect();
        for machine in &up {
            let mask = ViewMask {
                roster: true,
                reports: true,
                ..ViewMask::default()
            };
            let view = self.masked(&machine.name, mask).await?;
            for other in &up {
                let member = view.members.iter().find(|m| Some(m.node) == other.id);
                let state = member.map(|m| m.state);
                if state != Some(MemberState::Member) {
                    let state = state.map_or_else(|| "unknown".to_owned(), |s| format!("{s:?}"));
                    return Err(format!("to {}, {} is {state}", machine.name, other.name));
                }
            }
            for other in up.iter().filter(|m| m.name != machine.name) {
                let seen = self.thinks(&view, other, Liveness::Alive);
                if up.len() <= FULL_MESH_MAX {
                    seen?;
                } else if seen.is_err() && self.thinks(&view, other, Liveness::Unknown).is_err() {
                    return seen;
                }
            }
        }
        Ok(())
    }

    /// Whether `viewer` takes all of `about` for `liveness`.
    pub(super) async fn sees(&self, viewer: &str, about: &[&str], liveness: Liveness) -> Seen {
        let mask = ViewMask {
            reports: true,
            ..ViewMask::default()
        };
        let view = self.masked(viewer, mask).await?;
        about.iter().try_for_each(|name| {
            let other = &self.machines[self.index(name)];
            self.thinks(&view, other, liveness)
        })
    }

    /// Whether `viewer` has no link to any of `about`.
    pub(super) async fn has_no_link(&self, viewer: &str, about: &[&str]) -> Seen {
        let mask = ViewMask {
            reports: true,
            ..ViewMask::default()
        };
        let view = self.masked(viewer, mask).await?;
        about.iter().try_for_each(|name| {
            let id = self.machines[self.index(name)].id;
            let peer = view.peers.iter().find(|p| Some(p.node) == id);
            match peer {
                Some(peer) if peer.is_linked => Err(format!("{viewer} has a link to {name}")),
                Some(_) | None => Ok(()),
            }
        })
    }

    fn thinks(&self, view: &ReplicaView, about: &Machine, liveness: Liveness) -> Seen {
        let opinion = view
            .peers
            .iter()
            .find(|p| Some(p.node) == about.id)
            .map_or(Liveness::Unknown, |p| p.liveness);
        if opinion == liveness {
            return Ok(());
        }
        let viewer = self.machines.iter().find(|m| m.id == Some(view.me));
        let viewer = viewer.map_or("someone", |m| m.name.as_str());
        Err(format!("to {viewer}, {} is {opinion:?}", about.name))
    }

    /// Whether a machine has a file with this text in it.
    pub(super) fn has_file(&self, machine: &str, path: &str, text: &str) -> Seen {
        let file = self.dir.join(machine).join("root").join(path);
        match fs::read_to_string(&file) {
            Ok(content) if content.contains(text) => Ok(()),
            Ok(content) => Err(format!(
                "{machine} has `{}` in /{path}",
                safe(content.trim_end())
            )),
            Err(error) => Err(format!("{machine} has no /{path}: {error}")),
        }
    }

    // ---- ending ---------------------------------------------------------------------------------------------------

    /// What to try while the agents run.
    pub(super) fn next(&self) -> String {
        let paint = self.paint();
        let cut_off = &self.machines[self.machines.len() - 2].name;
        let lines = [
            (format!("cd {}", self.dir.display()), ""),
            (
                "lab status -a --socket nas1/lab.sock".to_owned(),
                "how it stands, as nas1 sees it",
            ),
            (
                format!("lab status -a --socket {LAPTOP}/lab.sock"),
                "… as the laptop sees it",
            ),
            (
                "lab target 'role=web and not @canary' --socket nas1/lab.sock".to_owned(),
                "whom a query selects",
            ),
            (
                "lab explain nuc1 --socket nas1/lab.sock".to_owned(),
                "where each value comes from",
            ),
            (
                "lab label add canary -t pi1 --socket nas1/lab.sock --key ana.key".to_owned(),
                "a change by ana",
            ),
            (
                format!("lab label add role=web -t nas1 --socket {LAPTOP}/lab.sock --key bob.key"),
                "a change by bob",
            ),
            (
                "lab apply -f ana.yaml --socket nas1/lab.sock --key ana.key".to_owned(),
                "after you have edited it",
            ),
            (
                "lab history --socket nas1/lab.sock".to_owned(),
                "who changed what",
            ),
            (
                format!("cat {cut_off}/root/etc/motd"),
                "what an agent wrote",
            ),
            (
                format!("lab doctor --socket {cut_off}/lab.sock"),
                "what an agent thinks of itself",
            ),
        ];
        let width = lines.iter().map(|(line, _)| line.chars().count()).max();
        let mut out = format!(
            "{}\n",
            paint.bold("The mesh stays up. Try in another terminal:")
        );
        for (line, what) in &lines {
            let gap = " ".repeat(width.unwrap_or_default() - line.chars().count() + 2);
            let tail = if what.is_empty() {
                String::new()
            } else {
                format!("{gap}{}", paint.dim(what))
            };
            out += &format!("  {}{tail}\n", paint.cyan(line));
        }
        let program = self.program.display();
        out += &paint.dim(&format!(
            "lab is {program}; what an agent logs is in NAME.log"
        ));
        let end = if self.is_kept {
            "and keeps the folder"
        } else {
            "and removes everything"
        };
        out += &format!("\n{}", paint.bold(&format!("Ctrl-C ends the demo {end}.")));
        out
    }

    /// Ends every agent and removes the folder.
    pub(super) async fn close(mut self) {
        let agents: Vec<Child> = self
            .machines
            .iter_mut()
            .filter_map(|m| m.agent.take())
            .collect();
        for agent in &agents {
            let pid = agent.id().and_then(|pid| i32::try_from(pid).ok());
            if let Some(pid) = pid.and_then(Pid::from_raw) {
                let _ = kill_process(pid, Signal::TERM);
            }
        }
        let watch = Stopwatch::start();
        for mut agent in agents {
            let left = STOP_MAX.saturating_sub(watch.elapsed());
            if tokio::time::timeout(left, agent.wait()).await.is_err() {
                let _ = agent.kill().await;
            }
        }
        if self.is_kept {
            self.ui.say(&format!("kept: {}", self.dir.display()));
        } else {
            self.remove();
        }
    }

    fn remove(&self) {
        if self.is_kept {
            return;
        }
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            self.ui
                .warn(&format!("{} stays: {error}", self.dir.display()));
        }
    }

    fn socket(&self, name: &str) -> PathBuf {
        self.dir.join(name).join("lab.sock")
    }

    fn log(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.log"))
    }

    /// A failure, after the last lines that these machines logged.
    fn failure(&self, message: String, names: &[&str]) -> CommandError {
        const LINES: usize = 8;
        for name in names {
            let log = fs::read_to_string(self.log(name)).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            self.aside(&format!("the end of {name}.log:"));
            for line in &lines[lines.len().saturating_sub(LINES)..] {
                self.aside(&safe(line));
            }
        }
        let error = CommandError::new(Exit::Failed, "C047", message);
        if self.is_kept {
            error.hint(format!("everything is still in {}", self.dir.display()))
        } else {
            error.hint("lab demo --keep DIR keeps folders and logs")
        }
    }
}

/// A folder that the person named: new, or empty.
fn named(dir: &Path) -> Result<PathBuf, CommandError> {
    let failed = |error: &io::Error| {
        CommandError::new(Exit::Failed, "C048", format!("use {}", dir.display())).because(error)
    };
    let dir = std::path::absolute(dir).map_err(|error| failed(&error))?;
    if dir.as_os_str().len() > DIR_BYTES_MAX {
        let message = format!("{} is too long for sockets in it", dir.display());
        let hint = format!("--keep DIR with at most {DIR_BYTES_MAX} bytes");
        return Err(CommandError::new(Exit::Input, "C044", message).hint(hint));
    }
    private()
        .recursive(true)
        .create(&dir)
        .map_err(|error| failed(&error))?;
    let dir = dir.canonicalize().map_err(|error| failed(&error))?;
    let mut entries = fs::read_dir(&dir).map_err(|error| failed(&error))?;
    if entries.next().is_some() {
        let message = format!("{} is not empty", dir.display());
        return Err(CommandError::new(Exit::Refused, "C049", message).hint("--keep NEW-DIR"));
    }
    Ok(dir)
}

/// A new folder that nobody else can look into.
fn temporary() -> Result<PathBuf, CommandError> {
    // What a demo left behind that was killed may have the number of this process.
    let pid = std::process::id();
    let names = ["", "-2", "-3", "-4"].map(|suffix| format!("lab-demo-{pid}{suffix}"));
    let own = env::path(env::RUNTIME_DIR).unwrap_or_else(|| "/tmp".into());
    let parents = [own.as_path(), Path::new("/tmp")];
    let dirs = names
        .into_iter()
        .flat_map(|name| parents.map(|parent| parent.join(&name)));
    let mut last = io::Error::other("no name is free");
    for dir in dirs.filter(|dir| dir.as_os_str().len() <= DIR_BYTES_MAX) {
        match private().create(&dir) {
            Ok(()) => return Ok(dir),
            Err(error) => last = error,
        }
    }
    let error = CommandError::new(Exit::Failed, "C048", "make a folder in /tmp");
    Err(error.because(&last).hint("--keep DIR"))
}

fn private() -> fs::DirBuilder {
    let mut builder = fs::DirBuilder::new();
    builder.mode(0o700);
    builder
}
