//! `lab join`: becomes a member with a token.

use std::io::Read as _;
use std::net::SocketAddr;
use std::path::PathBuf;

use bytes::Bytes;
use ed25519_dalek::SigningKey;
use lab_agent_daemon::{ConfigLayer, JoinError, JoinOptions, Joined, join};
use lab_crdt_log::{Body, Invite, open};
use lab_crdt_model::token::{Seed, Token};
use lab_crdt_model::view::Role;
use lab_crdt_model::{AuthorId, MeshId, NodeId, words};
use serde_json::{Value as Json, json};

use super::Context;
use super::agent::data_dir;
use super::apply::duration;
use crate::args::JoinArgs;
use crate::error::{CommandError, Exit};
use crate::key::{Cost, KeyFile};
use crate::print::{Envelope, Report, Style, hex, safe};
use crate::session::{agent_config, key_path, new_passphrase, open_key};
use crate::{entropy, env};

/// Longest token text that is read, bytes.
const TOKEN_BYTES_MAX: u64 = 64 * 1024;

/// Joins.
pub(super) async fn run(context: Context<'_>, args: JoinArgs) -> Result<Exit, CommandError> {
    let ui = context.ui;
    let timeout = duration("--timeout", &args.timeout)?;
    let via = args
        .via
        .iter()
        .map(|v| parse_via(v))
        .collect::<Result<Vec<_>, _>>()?;
    let token = Token::parse(&token_text(&args)?).map_err(|error| {
        CommandError::new(Exit::Input, "M030", "read the token")
            .because(&error)
            .hint("make a new one where you can: lab token create")
    })?;
    let invite = invite_of(&token);
    let is_bound = args.bind.is_some();
    let layer = ConfigLayer {
        bind: args.bind.map(|address| vec![address]),
        lan_discovery: args.no_lan.then(String::new),
        ..ConfigLayer::default()
    };
    let config = agent_config(context.global, layer, None)?;
    if let Token::Ticket(ticket) = &token {
        let words = words::of_mesh(&ticket.mesh);
        ui.say(&format!("this token is for the mesh: {words}"));
        if !ui.confirm("Join this mesh?")? {
            return Ok(Exit::Refused);
        }
    }

    let is_laptop = args.laptop || invite.as_ref().is_some_and(|i| i.role == Role::Laptop);
    let pending = if is_laptop {
        Some(Pending::open(context, &token, args.no_passphrase)?)
    } else {
        None
    };
    let options = JoinOptions {
        data_dir: config.data_dir.clone(),
        // The conversation needs no fixed port: the agent's own may be taken by another one on this machine.
        bind: if is_bound {
            config.bind.clone()
        } else {
            any_port(&config.bind)
        },
        lan_discovery: config.lan_discovery.clone(),
        via,
        operator_key: pending
            .as_ref()
            .map(|p| AuthorId(p.key.verifying_key().to_bytes())),
        root: args.root,
        timeout,
        ..JoinOptions::new(token)
    };
    let joined = join(options, |line| ui.say(&safe(&line)))
        .await
        .map_err(|error| failed(&error))?;

    let mut key = None;
    if let Some(pending) = pending {
        let path = key_path(context.global, &joined.mesh);
        pending.settle(&joined, &path)?;
        ui.say(&format!(
            "{} your key is {}",
            ui.paint().green("✓"),
            path.display()
        ));
        key = Some(path.display().to_string());
    }
    let report = JoinReport {
        joined,
        key,
        data: config.data_dir.display().to_string(),
    };
    let (probation, later) = if report.joined.is_on_probation {
        let what = ", on probation";
        (
            what,
            "\nIt becomes a member by itself when the others agree; nothing is to be done again here.",
        )
    } else {
        ("", "")
    };
    ui.say(&format!(
        "{} this machine is {} in {} ({}){probation}\nNext:  {}   (or: systemctl enable --now lab-agent){later}",
        ui.paint().green("✓"),
        report.joined.name,
        safe(&report.joined.mesh_name),
        words::of_mesh(&report.joined.mesh),
        ui.paint().cyan("lab agent run"),
    ));
    Ok(context.finish(&report, Envelope::default(), Exit::Done))
}

fn any_port(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    addresses
        .iter()
        .map(|a| SocketAddr::new(a.ip(), 0))
        .collect()
}

fn token_text(args: &JoinArgs) -> Result<String, CommandError> {
    let path = match (&args.token, &args.token_file) {
        (Some(text), _) if text != "-" => return Ok(text.clone()),
        (_, Some(path)) => path.clone(),
        (Some(_) | None, None) => PathBuf::from("-"),
    };
    let mut text = String::new();
    let read = if path.as_os_str() == "-" {
        std::io::stdin()
            .take(TOKEN_BYTES_MAX)
            .read_to_string(&mut text)
    } else {
        std::fs::File::open(&path)
            .and_then(|file| file.take(TOKEN_BYTES_MAX).read_to_string(&mut text))
    };
    read.map_err(|error| {
        let what = format!("read the token from {}", path.display());
        CommandError::new(Exit::Input, "C021", what).because(&error)
    })?;
    Ok(text)
}

/// The invite that a pasted token carries, if its signature fits.
fn invite_of(token: &Token) -> Option<Invite> {
    let Token::Ticket(ticket) = token else {
        return None;
    };
    match open(&ticket.mesh, &Bytes::copy_from_slice(&ticket.invite))
        .ok()?
        .body
    {
        Body::Invite(invite) => Some(invite),
        _ => None,
    }
}

fn parse_via(text: &str) -> Result<(NodeId, SocketAddr), CommandError> {
    let bad = || {
        CommandError::usage(format!("`{text}` is not a member and its address"))
            .hint("write it like node:k3f9…@10.0.0.1:4747; lab node show NODE prints both")
    };
    let (node, address) = text.rsplit_once('@').ok_or_else(bad)?;
    Ok((
        node.parse().map_err(|_invalid| bad())?,
        address.parse().map_err(|_invalid| bad())?,
    ))
}

fn failed(error: &JoinError) -> CommandError {
    match error {
        JoinError::DataDir(error) => data_dir(error),
        JoinError::Refused { .. } => CommandError::new(
            Exit::Refused,
            "M031",
            "the mesh does not take this machine in",
        )
        .because(error)
        .hint("make a new token on a member: lab token create"),
        JoinError::Timeout { .. } => {
            CommandError::new(Exit::Failed, "M032", "nobody answered in time")
                .because(error)
                .hint("the same command goes on where it was broken off")
                .hint("--via NODE@ADDRESS names a member to ask")
        }
        JoinError::Store(_)
        | JoinError::Boot(_)
        | JoinError::Net(_)
        | JoinError::Entropy(_)
        | JoinError::World(_) => CommandError::new(Exit::Failed, "M033", "join").because(error),
    }
}

/// The operator key of a laptop that is joining. It is kept on disk before the first attempt, so that a second one
/// brings the same key along; a token is spent on it.
struct Pending {
    key: SigningKey,
    path: PathBuf,
    name: String,
    passphrase: Option<String>,
}

impl Pending {
    fn open(context: Context<'_>, token: &Token, is_plain: bool) -> Result<Self, CommandError> {
        let seed = match token.seed() {
            Seed::Typed(seed) => seed.to_vec(),
            Seed::Long(seed) => seed.to_vec(),
        };
        let of = hex(&blake3::derive_key("lab cli joining key 1", &seed), 8);
        let path = env::config_dir()
            .join("keys")
            .join(format!("joining-{of}.key"));
        let name = env::login().unwrap_or_else(|| "laptop".to_owned());
        let passphrase = new_passphrase(context.ui, is_plain)?;
        if path.exists() {
            let key = open_key(&KeyFile::read(&path)?, context.ui)?;
            return Ok(Self {
                key,
                path,
                name,
                passphrase,
            });
        }
        let key = SigningKey::from_bytes(&entropy::bytes()?);
        let sealed = passphrase.as_deref().map(|p| (p, Cost::NORMAL));
        KeyFile::new(MeshId([0; 32]), &name, &key, sealed)?.write_new(&path)?;
        Ok(Self {
            key,
            path,
            name,
            passphrase,
        })
    }

    /// Puts the key where commands look for it.
    fn settle(&self, joined: &Joined, path: &std::path::Path) -> Result<(), CommandError> {
        let sealed = self.passphrase.as_deref().map(|p| (p, Cost::NORMAL));
        KeyFile::new(joined.mesh, &self.name, &self.key, sealed)?
            .write_new(path)
            .map_err(|error| error.hint(format!("the key is still in {}", self.path.display())))?;
        let _ = std::fs::remove_file(&self.path);
        Ok(())
    }
}

struct JoinReport {
    joined: Joined,
    key: Option<String>,
    data: String,
}

impl Report for JoinReport {
    fn schema(&self) -> &'static str {
        "lab.join/v1"
    }

    fn data(&self) -> Json {
        json!({
            "mesh": self.joined.mesh.to_string(),
            "mesh_name": self.joined.mesh_name,
            "node": self.joined.node.to_string(),
            "node_name": self.joined.name,
            "node_words": words::of_node(&self.joined.node),
            "is_on_probation": self.joined.is_on_probation,
            "key": self.key,
            "data": self.data,
        })
    }

    fn names(&self) -> Vec<String> {
        vec![self.joined.name.clone()]
    }

    fn text(&self, _style: &Style) -> String {
        format!("{}\n", self.joined.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_and_its_address_are_read() {
        let node = NodeId([4; 32]);
        let parsed = parse_via(&format!("{node}@[::1]:4747")).unwrap();
        assert_eq!(parsed, (node, "[::1]:4747".parse().unwrap()));
        for bad in [
            "",
            "@",
            "node:x@1.2.3.4:1",
            &node.to_string(),
            &format!("{node}@host:1"),
        ] {
            assert_eq!(parse_via(bad).unwrap_err().exit, Exit::Usage, "{bad}");
        }
    }
}
