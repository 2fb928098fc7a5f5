//! `--at`: the agent of another machine, asked with the person's key, with or without an agent here.
//!
//! Whom to ask is a name, the beginning of a node id, or `NODEID@IP:PORT`. A name is looked up in the replica of the
//! agent here if there is one, else in a small file beside the key, in which every answer leaves who is where:
//!
//! ```text
//! lab-nodes 1
//! mesh mesh:…
//! node:… nuc1 192.0.2.7:4747 [2001:db8::7]:4747
//! ```

use std::cell::RefCell;
use std::fmt::Write as _;
use std::fs;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use ed25519_dalek::SigningKey;
use lab_agent_api::{Client, ClientError, ViewMask};
use lab_agent_daemon::config::ConfigLayer;
use lab_crdt_model::view::{MemberState, ReplicaView};
use lab_crdt_model::{AuthorId, MeshId, NodeId};
use lab_mesh_net::{ApiError, Remote};

use crate::args::Global;
use crate::env;
use crate::error::{CommandError, Exit};
use crate::key::{self, KeyFile};
use crate::session::{agent_config, client_error, open_key};
use crate::ui::Ui;

/// Longest file of known nodes, bytes; most nodes in it, and addresses of each.
const FILE_BYTES_MAX: u64 = 1 << 20;
const NODES_MAX: usize = 4000;
const ADDRESSES_MAX: usize = 4;
/// Shortest beginning of a node id that is looked for.
const PREFIX_MIN: usize = 4;

/// What a command holds open at another machine, so that it asks and dials once.
#[derive(Clone, Default)]
pub(crate) struct Open(Rc<RefCell<Option<Opened>>>);

struct Opened {
    client: Client,
    remote: Remote,
    key: SigningKey,
    path: PathBuf,
    mesh: MeshId,
}

impl std::fmt::Debug for Open {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match &*self.0.borrow() {
            Some(_) => "Open(..)",
            None => "Open",
        })
    }
}

impl Open {
    fn client(&self) -> Option<Client> {
        self.0.borrow().as_ref().map(|open| open.client.clone())
    }

    /// The key that was opened already, if it is this one.
    pub(crate) fn key(&self, public: &AuthorId) -> Option<SigningKey> {
        let open = self.0.borrow();
        let key = open.as_ref().map(|open| &open.key);
        key.filter(|key| key.verifying_key().to_bytes() == public.0)
            .cloned()
    }

    /// The file of the key that was opened already, if it is for this mesh.
    pub(crate) fn key_path(&self, mesh: &MeshId) -> Option<PathBuf> {
        let open = self.0.borrow();
        let open = open.as_ref().filter(|open| open.mesh == *mesh);
        open.map(|open| open.path.clone())
    }

    /// Remembers who is where, for the next time. Whatever keeps it from being written costs only that.
    pub(crate) fn note(&self, mask: ViewMask, view: &ReplicaView) {
        if let Some(open) = &*self.0.borrow()
            && mask.roster
            && mask.reports
        {
            let _not_kept = Known::of(view).write(&beside(&open.path));
        }
    }

    /// Tells the other machine that the command is done.
    pub(crate) async fn close(&self) {
        let open = self.0.borrow_mut().take();
        if let Some(open) = open {
            drop(open.client);
            open.remote.close().await;
        }
    }
}

/// Which machine is to be asked, if not this one: `--at` or `LAB_AT`.
pub(crate) fn at(global: &Global) -> Option<String> {
    global.at.clone().or_else(|| env::text(env::AT))
}

/// Refuses `--at` for what only this machine can do.
pub(crate) fn only_here(global: &Global, what: &str) -> Result<(), CommandError> {
    match &global.at {
        Some(at) => Err(CommandError::usage(format!(
            "{what} is about this machine, not about {at}"
        ))),
        None => Ok(()),
    }
}

/// Connects to the agent of another machine.
pub(crate) async fn client(global: &Global, ui: &Ui, at: &str) -> Result<Client, CommandError> {
    if let Some(client) = global.open.client() {
        return Ok(client);
    }
    let local = local(global).await;
    let (path, file) = key_for(global, local.as_ref(), at)?;
    let nearby = local.filter(|known| known.mesh == file.mesh);
    let known = match nearby {
        Some(known) => Some(known),
        None => Known::read(&beside(&path)).filter(|known| known.mesh == file.mesh),
    };
    let node = find(at, known.as_ref())?;
    let key = open_key(&file, ui)?;
    let remote = Remote::new(&key.to_bytes(), node.id, node.addresses.clone()).await;
    let remote = remote.map_err(|error| dial_error(&node, &file, &error))?;
    let opened = greet(&remote, &node, &file).await;
    let client = match opened {
        Ok(client) => client,
        Err(error) => {
            remote.close().await;
            return Err(error);
        }
    };
    *global.open.0.borrow_mut() = Some(Opened {
        client: client.clone(),
        remote,
        key,
        path,
        mesh: file.mesh,
    });
    Ok(client)
}

/// Opens a stream, and makes sure of the mesh.
async fn greet(remote: &Remote, node: &Node, file: &KeyFile) -> Result<Client, CommandError> {
    let stream = remote.connect().await;
    let stream = stream.map_err(|error| dial_error(node, file, &error))?;
    let again = remote.clone();
    let dial = move || {
        let again = again.clone();
        async move { again.connect().await.map_err(std::io::Error::from) }
    };
    let client = Client::over(stream, dial, &node.name)
        .await
        .map_err(|error| client_error(&error))?;
    let info = client.info().await.map_err(|error| client_error(&error))?;
    if info.mesh == file.mesh {
        return Ok(client);
    }
    let what = format!(
        "{} belongs to the mesh {} ({}), the key of {} is for {}",
        node.name, info.mesh_name, info.mesh, file.name, file.mesh
    );
    Err(CommandError::new(Exit::Input, "C053", what).hint("the key for that mesh: --key FILE"))
}

/// Who is where, as the agent of this machine says, if there is one that talks to us.
async fn local(global: &Global) -> Option<Known> {
    let socket = agent_config(global, ConfigLayer::default(), None)
        .ok()?
        .socket;
    let client = Client::connect(&socket).await.ok()?;
    let mask = ViewMask {
        roster: true,
        reports: true,
        ..ViewMask::default()
    };
    client.view(mask).await.ok().map(|view| Known::of(&view))
}

/// The key to ask with: the one that was named, that of the mesh of this machine, or the only one that fits.
fn key_for(
    global: &Global,
    local: Option<&Known>,
    at: &str,
) -> Result<(PathBuf, KeyFile), CommandError> {
    let named = global.key.clone().or_else(|| env::path(env::KEY));
    let of_mesh = || local.map(|known| key::default_path(&env::config_dir(), &known.mesh));
    if let Some(path) = named.or_else(|| of_mesh().filter(|path| path.exists())) {
        let file = KeyFile::read(&path)?;
        return Ok((path, file));
    }
    let folder = env::config_dir().join("keys");
    let mut paths = keys_in(&folder);
    if paths.len() > 1 {
        let knows = |path: &PathBuf| {
            Known::read(&beside(path)).is_some_and(|known| find(at, Some(&known)).is_ok())
        };
        let fitting: Vec<PathBuf> = paths.iter().filter(|p| knows(p)).cloned().collect();
        if fitting.len() == 1 {
            paths = fitting;
        }
    }
    match paths.as_slice() {
        [path] => Ok((path.clone(), KeyFile::read(path)?)),
        [] => {
            let what = format!(
                "asking another machine takes a key, and there is none in {}",
                folder.display()
            );
            Err(CommandError::new(Exit::Permission, "K002", what)
                .hint("if the key is elsewhere: --key FILE")
                .hint("to make one for an admin to allow: lab operator key --name YOU --mesh ID"))
        }
        _ => {
            let what = format!(
                "there are {} keys in {}, and which one {at} knows is not known",
                paths.len(),
                folder.display()
            );
            Err(CommandError::new(Exit::Usage, "C054", what).hint("name one: --key FILE"))
        }
    }
}

fn keys_in(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut keys: Vec<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|e| e == "key"))
        .collect();
    keys.sort();
    keys
}

/// The file of known nodes that belongs to a key.
fn beside(key: &Path) -> PathBuf {
    key.with_extension("nodes")
}

/// A machine and where it may be.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Node {
    id: NodeId,
    name: String,
    addresses: Vec<SocketAddr>,
}

/// Who is where in a mesh.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Known {
    mesh: MeshId,
    nodes: Vec<Node>,
}

impl Known {
    /// Live members, as a replica knows them.
    fn of(view: &ReplicaView) -> Self {
        let is_live = |state| matches!(state, MemberState::Member | MemberState::Suspended);
        let members = view.members.iter().filter(|m| is_live(m.state));
        let nodes = members.filter_map(|member| {
            let reached = view.peers.iter().find(|p| p.node == member.node);
            let report = view.reports.iter().find(|r| r.node == member.node);
            let beacon = report.and_then(|r| r.beacon.as_ref());
            let mut addresses: Vec<SocketAddr> = Vec::new();
            let said = beacon.map_or(&[][..], |(b, _)| &b.addresses);
            for address in reached.and_then(|p| p.address).iter().chain(said) {
                if addresses.len() < ADDRESSES_MAX && !addresses.contains(address) {
                    addresses.push(*address);
                }
            }
            let is_name = !member.name.is_empty() && !member.name.contains(char::is_whitespace);
            (is_name && !addresses.is_empty()).then(|| Node {
                id: member.node,
                name: member.name.clone(),
                addresses,
            })
        });
        Self {
            mesh: view.mesh,
            nodes: nodes.take(NODES_MAX).collect(),
        }
    }

    fn print(&self) -> String {
        let mut out = format!("lab-nodes 1\nmesh {}\n", self.mesh);
        for node in &self.nodes {
            let _ = write!(out, "{} {}", node.id, node.name);
            for address in &node.addresses {
                let _ = write!(out, " {address}");
            }
            out.push('\n');
        }
        out
    }

    /// Reads what was printed; a line that is not understood is left out.
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        if lines.next() != Some("lab-nodes 1") {
            return None;
        }
        let mesh = lines.next()?.strip_prefix("mesh ")?.parse().ok()?;
        let node = |line: &str| {
            let mut words = line.split_whitespace();
            let (id, name) = (words.next()?.parse().ok()?, words.next()?.to_owned());
            let addresses = words.filter_map(|word| word.parse().ok());
            Some(Node {
                id,
                name,
                addresses: addresses.take(ADDRESSES_MAX).collect(),
            })
        };
        let nodes = lines.filter_map(node).take(NODES_MAX).collect();
        Some(Self { mesh, nodes })
    }

    fn read(path: &Path) -> Option<Self> {
        let mut text = String::new();
        let file = fs::File::open(path).ok()?;
        file.take(FILE_BYTES_MAX).read_to_string(&mut text).ok()?;
        Self::parse(&text)
    }

    fn write(&self, path: &Path) -> std::io::Result<()> {
        if Self::read(path).as_ref() == Some(self) {
            return Ok(());
        }
        let new = path.with_extension(format!("nodes.{}", std::process::id()));
        fs::write(&new, self.print())?;
        fs::rename(&new, path).inspect_err(|_failed| drop(fs::remove_file(&new)))
    }
}

/// Finds a machine: by name, by the beginning of its id, or as it was spelled out.
fn find(at: &str, known: Option<&Known>) -> Result<Node, CommandError> {
    if let Some((id, address)) = at.split_once('@') {
        let wrong = |error: &(dyn std::error::Error + 'static)| {
            CommandError::new(Exit::Usage, "C055", format!("`{at}` is not NODEID@IP:PORT"))
                .because(error)
                .hint("both are shown by: lab node show NODE")
        };
        return Ok(Node {
            id: id.parse().map_err(|error| wrong(&error))?,
            name: id.to_owned(),
            addresses: vec![address.parse().map_err(|error| wrong(&error))?],
        });
    }
    let nodes = known.map_or(&[][..], |known| &known.nodes);
    let is_meant = |node: &&Node| {
        let id = node.id.to_string();
        let bare = id.strip_prefix("node:").unwrap_or(&id);
        let wanted = at.strip_prefix("node:").unwrap_or(at);
        node.name == at || (wanted.len() >= PREFIX_MIN && bare.starts_with(wanted))
    };
    let named = nodes.iter().find(|node| node.name == at);
    let mut meant = nodes.iter().filter(is_meant);
    let found = match (named, meant.next(), meant.next()) {
        (Some(node), _, _) | (None, Some(node), None) => node,
        (None, Some(_), Some(_)) => {
            let what = format!("several machines have an id that begins with {at}");
            return Err(CommandError::new(Exit::NoMatch, "C050", what).hint("type more of it"));
        }
        (None, None, _) => {
            let what = format!("where {at} is, is not known here");
            let error = CommandError::new(Exit::NoMatch, "C050", what)
                .hint("the first time, spell it out: --at NODEID@IP:PORT");
            let names: Vec<&str> = nodes.iter().map(|n| n.name.as_str()).take(20).collect();
            return Err(match names.as_slice() {
                [] => error,
                names => error.hint(format!("known are: {}", names.join(", "))),
            });
        }
    };
    Ok(found.clone())
}

fn dial_error(node: &Node, file: &KeyFile, error: &ApiError) -> CommandError {
    let place = &node.name;
    match error {
        ApiError::NotEntitled => {
            let failure = ClientError::NotEntitled {
                place: place.clone(),
                why: format!("the key of {} holds no grant in that mesh", file.name),
            };
            client_error(&failure).hint(format!(
                "an admin can add it: lab operator add {} {}",
                file.name, file.public
            ))
        }
        ApiError::Local { why } | ApiError::Unreachable { why } => {
            let addresses: Vec<String> = node.addresses.iter().map(ToString::to_string).collect();
            client_error(&ClientError::Unreachable {
                place: format!("{place} at {}", addresses.join(", ")),
                why: why.clone(),
            })
        }
        ApiError::Busy => {
            let what = format!("{place} talks to as many devices as it may");
            CommandError::new(Exit::Failed, "C056", what)
                .because(error)
                .hint("try again, or another machine")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(seed: u8, name: &str) -> Node {
        Node {
            id: NodeId([seed; 32]),
            name: name.to_owned(),
            addresses: vec![
                "10.0.0.1:4747".parse().unwrap(),
                "[fd00::1]:4747".parse().unwrap(),
            ],
        }
    }

    fn known() -> Known {
        Known {
            mesh: MeshId([9; 32]),
            nodes: vec![node(1, "nuc1"), node(2, "nuc2")],
        }
    }

    #[test]
    fn known_nodes_read_back_and_lines_of_something_else_are_left_out() {
        let text = known().print();
        assert_eq!(Known::parse(&text), Some(known()));
        assert_eq!(
            Known::parse(&format!("{text}node:x nuc3\n\u{0}\n")),
            Some(known())
        );
        assert_eq!(
            Known::parse(&text.replace("lab-nodes 1", "lab-nodes 2")),
            None
        );
        assert_eq!(Known::parse(""), None);
    }

    #[test]
    fn a_machine_is_found_by_name_by_the_beginning_of_its_id_or_as_spelled_out() {
        let known = known();
        let found = |at: &str| find(at, Some(&known)).map(|n| n.id.0[0]);
        let id = NodeId([2; 32]).to_string();
        assert_eq!(found("nuc1").unwrap(), 1);
        assert_eq!(found(&id).unwrap(), 2);
        assert_eq!(found(&id[..12]).unwrap(), 2);
        assert_eq!(found(&id[5..12]).unwrap(), 2);
        assert_eq!(found(&format!("{id}@127.0.0.1:7")).unwrap(), 2);
        for (at, code) in [
            ("nuc3", "C050"),
            ("a", "C050"),
            ("nuc1@127.0.0.1:7", "C055"),
            (&format!("{id}@nuc2"), "C055"),
        ] {
            assert_eq!(found(at).unwrap_err().code, code, "{at}");
        }
        assert_eq!(find("nuc1", None).unwrap_err().code, "C050");
    }
}
