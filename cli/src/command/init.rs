//! `lab init`: makes a mesh on this machine.

use std::path::Path;

use bip39::Mnemonic;
use ed25519_dalek::SigningKey;
use lab_agent_api::Prepared;
use lab_agent_core::NodeKeys;
use lab_agent_daemon::{ConfigLayer, DataDirError, FoundError, Founding, found};
use lab_crdt_log::{Admin, Admit, Body, RootRecord, SignedRoot};
use lab_crdt_model::view::Role;
use lab_crdt_model::{AuthorId, Hlc, MeshId, StatementId, label, words};
use serde_json::{Value as Json, json};
use zeroize::Zeroizing;

use super::agent::data_dir;
use super::{Context, label as label_command, operator};
use crate::args::InitArgs;
use crate::error::{CommandError, Exit};
use crate::key::{Cost, KeyFile, write_secret};
use crate::print::{Envelope, Report, Style};
use crate::session::{agent_config, key_path, new_passphrase, sign};
use crate::{entropy, env};

/// Makes it.
pub(super) fn run(context: Context<'_>, args: InitArgs) -> Result<Exit, CommandError> {
    let ui = context.ui;
    operator::name(&args.name)?;
    let node_name = node_name(args.node.as_deref())?;
    let admin_name = admin_name(args.admin.as_deref())?;
    let labels = args
        .labels
        .iter()
        .map(|l| label_command::parse(l))
        .collect::<Result<Vec<_>, _>>()?;
    let config = agent_config(context.global, ConfigLayer::default(), None)?;
    if config.data_dir.join("node.key").exists() {
        return Err(data_dir(&DataDirError::Occupied {
            path: config.data_dir,
        }));
    }
    if args.words_file.is_none() && !ui.is_interactive() && !ui.is_yes() {
        return Err(CommandError::new(
            Exit::Refused,
            "C002",
            "nobody is here to write down the root words",
        )
        .hint("--words-file FILE writes them to a new file, to be kept elsewhere"));
    }

    let root_secret = Zeroizing::new(entropy::bytes::<32>()?);
    let root = SigningKey::from_bytes(&root_secret);
    let admin = SigningKey::from_bytes(&entropy::bytes()?);
    let node_key = Zeroizing::new(entropy::bytes::<32>()?);
    let record = RootRecord {
        name: args.name.clone(),
        nonce: entropy::bytes()?,
        root_keys: vec![author(&root)],
        threshold: 1,
        admins: vec![Admin {
            key: author(&admin),
            name: admin_name.clone(),
        }],
        min_proto: 1,
        ..RootRecord::default()
    };
    let signed = SignedRoot::sign(&record, &[&root]);
    let mesh = signed.mesh();
    let keys = NodeKeys::new(&node_key);
    let admit = Body::Admit(Admit {
        node: keys.node(),
        seal_key: keys.seal_key(),
        name: node_name.clone(),
        role: Role::Node,
        labels,
    });
    let statements = sign(
        &admin,
        StatementId(mesh.0),
        &first(&admin, mesh),
        vec![admit],
    )?;

    let passphrase = new_passphrase(ui, args.no_passphrase)?;
    keep_words(context, &root_secret, args.words_file.as_deref())?;
    let sealed = passphrase.as_deref().map(|p| (p, Cost::NORMAL));
    let key_file = KeyFile::new(mesh, &admin_name, &admin, sealed)?;
    let key_path = key_path(context.global, &mesh);
    let founding = Founding {
        root: signed.encode(),
        node_key,
        statements: statements.iter().map(|s| s.to_vec()).collect(),
    };
    let made = key_file.write_new(&key_path).and_then(|()| {
        found(&config.data_dir, &founding).map_err(|error| {
            // The key opens nothing without its mesh.
            let _ = std::fs::remove_file(&key_path);
            match &error {
                FoundError::DataDir(error) => data_dir(error),
                FoundError::Store(_) | FoundError::Boot(_) | FoundError::Entropy(_) => {
                    CommandError::new(Exit::Failed, "C035", "found the mesh").because(&error)
                }
            }
        })
    });
    if let Err(error) = made {
        if let Some(words) = &args.words_file {
            let _ = std::fs::remove_file(words);
        }
        return Err(error);
    }

    let report = Founded {
        mesh,
        mesh_name: args.name,
        node: keys.node().to_string(),
        node_name,
        admin: author(&admin),
        key_path: key_path.display().to_string(),
        data: config.data_dir.display().to_string(),
    };
    ui.say(&report.next(context));
    Ok(context.finish(&report, Envelope::default(), Exit::Done))
}

fn author(key: &SigningKey) -> AuthorId {
    AuthorId(key.verifying_key().to_bytes())
}

/// The beginning of a chain in a mesh where nothing was said yet.
fn first(admin: &SigningKey, mesh: MeshId) -> Prepared {
    Prepared {
        author: author(admin),
        mesh,
        seq: 0,
        prev: StatementId::ZERO,
        refs: Vec::new(),
        hlc: Hlc::default(),
    }
}

fn node_name(given: Option<&str>) -> Result<String, CommandError> {
    let name = given.map_or_else(env::hostname, str::to_owned);
    operator::name(&name).map_err(|error| error.hint("--node NAME"))?;
    Ok(name)
}

fn admin_name(given: Option<&str>) -> Result<String, CommandError> {
    match given {
        Some(name) => operator::name(name).map(|()| name.to_owned()),
        None => {
            let login = env::login().filter(|name| label::is_name(name));
            Ok(login.unwrap_or_else(|| "admin".to_owned()))
        }
    }
}

/// Hands the words of the root key to the person: to a file, or shown once and typed back.
pub(super) fn keep_words(
    context: Context<'_>,
    secret: &[u8; 32],
    file: Option<&Path>,
) -> Result<(), CommandError> {
    let ui = context.ui;
    let mnemonic = Mnemonic::from_entropy(secret).map_err(|error| {
        CommandError::new(Exit::Failed, "K016", "write the root key as words").because(&error)
    })?;
    let words = Zeroizing::new(mnemonic.to_string());
    if let Some(file) = file {
        write_secret(file, &format!("{}\n", words.as_str()))?;
        ui.say(&format!(
            "the 24 words of the root key are in {}: keep them offline and delete the file",
            file.display()
        ));
        return Ok(());
    }
    ui.insist("These 24 words are the root key. They are shown once and stored nowhere.");
    ui.insist("Write them down: without them, a lost admin key cannot be replaced.\n");
    let list: Vec<&str> = words.split(' ').collect();
    for (row, line) in list.chunks(6).enumerate() {
        let line: Vec<_> = line
            .iter()
            .enumerate()
            .map(|(i, w)| format!("{:>2} {w:<9}", row * 6 + i + 1))
            .collect();
        ui.insist(line.join(" ").trim_end());
    }
    if ui.is_yes() {
        return Ok(());
    }
    for _ in 0..3 {
        let typed = Zeroizing::new(ui.ask("\nType the 24 words:")?);
        if typed
            .split_whitespace()
            .map(str::to_lowercase)
            .eq(list.iter().map(|w| (*w).to_owned()))
        {
            return Ok(());
        }
        ui.warn("these are not the words that were shown");
    }
    Err(CommandError::new(
        Exit::Refused,
        "C007",
        "the words were not typed back; nothing was made",
    ))
}

struct Founded {
    mesh: MeshId,
    mesh_name: String,
    node: String,
    node_name: String,
    admin: AuthorId,
    key_path: String,
    data: String,
}

impl Founded {
    fn next(&self, context: Context<'_>) -> String {
        let paint = context.ui.paint();
        let tick = paint.green("✓");
        format!(
            "{tick} mesh {} founded, this machine is {}\n{tick} your admin key is {}\n\nNext:  {}   start the agent (or: systemctl enable --now lab-agent)\n       {}   add a machine",
            self.mesh_name,
            self.node_name,
            self.key_path,
            paint.cyan("lab agent run"),
            paint.cyan("lab token create"),
        )
    }
}

impl Report for Founded {
    fn schema(&self) -> &'static str {
        "lab.init/v1"
    }

    fn data(&self) -> Json {
        json!({
            "mesh": self.mesh.to_string(),
            "mesh_name": self.mesh_name,
            "mesh_words": words::of_mesh(&self.mesh),
            "node": self.node,
            "node_name": self.node_name,
            "admin": self.admin.to_string(),
            "key": self.key_path,
            "data": self.data,
        })
    }

    fn names(&self) -> Vec<String> {
        vec![self.mesh.to_string()]
    }

    fn text(&self, _style: &Style) -> String {
        format!(
            "{}\nmesh words: {}\n",
            self.mesh,
            words::of_mesh(&self.mesh)
        )
    }
}
