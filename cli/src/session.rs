//! A conversation with an agent, of this machine or another: reads its replica, signs on the person's side, hands in.

use std::path::PathBuf;

use bytes::Bytes;
use ed25519_dalek::SigningKey;
use lab_agent_api::{Client, ClientError, Prepared, ViewMask};
use lab_agent_daemon::config::{ConfigLayer, DaemonConfig};
use lab_crdt_log::{Body, Draft, Edit, open, seal};
use lab_crdt_model::limit::{OPS_MAX, REFS_MAX, STATEMENT_BYTES_MAX};
use lab_crdt_model::view::{OperatorView, ReplicaView};
use lab_crdt_model::{AuthorId, MeshId, Op, StatementId};

use crate::args::Global;
use crate::error::{CommandError, Exit};
use crate::key::{self, KeyFile};
use crate::ui::Ui;
use crate::view::picture::Picture;
use crate::{clock, env, remote};

/// Room that one statement leaves for its header, references, message and signature, bytes.
const STATEMENT_ROOM: usize = 2048;

/// An open conversation.
#[derive(Debug)]
pub(crate) struct Session<'a> {
    pub(crate) client: Client,
    ui: &'a Ui,
    global: &'a Global,
}

/// Someone who may sign.
pub(crate) struct Signer {
    key: SigningKey,
    /// Who it is, as the mesh knows them.
    pub(crate) operator: OperatorView,
}

impl Signer {
    /// The key itself.
    pub(crate) const fn key(&self) -> &SigningKey {
        &self.key
    }

    /// The public key.
    pub(crate) fn author(&self) -> AuthorId {
        AuthorId(self.key.verifying_key().to_bytes())
    }

    /// Refuses what the mesh would not count: a right that was not given, a path outside the scope.
    pub(crate) fn allow(&self, right: &str, paths: &[&Op]) -> Result<(), CommandError> {
        let operator = &self.operator;
        if operator.is_admin {
            return Ok(());
        }
        let denied = |what: String| {
            CommandError::new(Exit::Permission, "K010", what)
                .hint("ask an admin: lab operator list")
        };
        if !operator.rights.iter().any(|r| r == right) {
            return Err(denied(format!(
                "{} has no right to change {right}",
                operator.name
            )));
        }
        let outside = paths
            .iter()
            .find(|op| !operator.scope.iter().any(|s| op.path().is_below(s)));
        match outside {
            Some(op) => Err(denied(format!(
                "{} is outside the scope of {}: {}",
                op.path(),
                operator.name,
                operator.scope.join(", ")
            ))),
            None => Ok(()),
        }
    }

    /// Refuses everyone but admins.
    pub(crate) fn admin_only(&self) -> Result<(), CommandError> {
        if self.operator.is_admin {
            return Ok(());
        }
        let what = format!(
            "only an admin may do this, {} is an operator",
            self.operator.name
        );
        Err(CommandError::new(Exit::Permission, "K011", what).hint("lab operator list"))
    }
}

/// The layered configuration of the agent of this machine, as far as flags and files say.
pub(crate) fn agent_config(
    global: &Global,
    more: ConfigLayer,
    file: Option<&PathBuf>,
) -> Result<DaemonConfig, CommandError> {
    let data_dir = global.data.clone().or_else(|| env::path(env::DATA));
    let socket = global.socket.clone().or_else(|| env::path(env::SOCKET));
    let layer = ConfigLayer {
        data_dir,
        socket,
        ..more
    };
    DaemonConfig::load(file.map(PathBuf::as_path), layer).map_err(|error| {
        CommandError::new(Exit::Input, "C020", "use the agent's configuration")
            .because(&error)
            .hint("lab agent run --help shows what can be set")
    })
}

impl<'a> Session<'a> {
    /// Connects to the agent of this machine, or of the one that `--at` names.
    pub(crate) async fn open(global: &'a Global, ui: &'a Ui) -> Result<Self, CommandError> {
        if let Some(at) = remote::at(global) {
            let client = remote::client(global, ui, &at).await?;
            return Ok(Self { client, ui, global });
        }
        let socket = agent_config(global, ConfigLayer::default(), None)?.socket;
        let client = Client::connect(&socket)
            .await
            .map_err(|error| client_error(&error))?;
        Ok(Self { client, ui, global })
    }

    /// The replica, understood.
    pub(crate) async fn picture(&self) -> Result<Picture, CommandError> {
        self.view(ViewMask::ALL).await.map(Picture::new)
    }

    /// Parts of the replica.
    pub(crate) async fn view(&self, mask: ViewMask) -> Result<ReplicaView, CommandError> {
        let view = self.client.view(mask).await;
        let view = view.map_err(|error| client_error(&error))?;
        self.global.open.note(mask, &view);
        Ok(view)
    }

    /// Where the key for a mesh is.
    pub(crate) fn key_path(&self, mesh: &MeshId) -> PathBuf {
        let asking = self.global.open.key_path(mesh);
        asking.unwrap_or_else(|| key_path(self.global, mesh))
    }

    /// The person's key, opened, and what the mesh lets it do.
    pub(crate) fn signer(&self, view: &ReplicaView) -> Result<Signer, CommandError> {
        let (file, operator) = self.own_key(view)?;
        if operator.is_revoked {
            return Err(out_of_rights(operator, "were revoked"));
        }
        self.open_signer(&file, operator)
    }

    /// The same for those who were revoked as well: what an admin says against other admins may outweigh that.
    pub(crate) fn signer_cut_or_not(&self, view: &ReplicaView) -> Result<Signer, CommandError> {
        let (file, operator) = self.own_key(view)?;
        self.open_signer(&file, operator)
    }

    /// The file of the person's key, not opened, and who they are to the mesh. What is wrong is found here: nobody types
    /// a passphrase to hear of it.
    fn own_key<'v>(
        &self,
        view: &'v ReplicaView,
    ) -> Result<(KeyFile, &'v OperatorView), CommandError> {
        let path = self.key_path(&view.mesh);
        if !path.exists() {
            let message = format!("there is no key for this mesh at {}", path.display());
            return Err(CommandError::new(Exit::Permission, "K002", message)
                .hint("if the key is elsewhere: --key FILE")
                .hint("to make one for an admin to allow: lab operator key --name YOU"));
        }
        let file = KeyFile::read(&path)?;
        if file.mesh != view.mesh {
            let message = format!("{} is a key of another mesh", path.display());
            return Err(CommandError::new(Exit::Input, "K006", message));
        }
        let operator = view
            .operators
            .iter()
            .find(|o| o.key == file.public)
            .ok_or_else(|| {
                let message = format!("this mesh does not know the key of {}", file.name);
                CommandError::new(Exit::Permission, "K007", message).hint(format!(
                    "an admin can add it: lab operator add {} {}",
                    file.name, file.public
                ))
            })?;
        let is_over = operator.not_after.is_some_and(|end| view.at > end);
        if is_over {
            return Err(out_of_rights(operator, "expired"));
        }
        Ok((file, operator))
    }

    fn open_signer(&self, file: &KeyFile, operator: &OperatorView) -> Result<Signer, CommandError> {
        let key = match self.global.open.key(&file.public) {
            Some(key) => key,
            None => open_key(file, self.ui)?,
        };
        Ok(Signer {
            key,
            operator: operator.clone(),
        })
    }

    /// Signs `bodies` as the next statements of the signer, hands them in, and gives their ids.
    pub(crate) async fn submit(
        &self,
        signer: &Signer,
        bodies: Vec<Body>,
    ) -> Result<Vec<StatementId>, CommandError> {
        let prepared = self
            .client
            .prepare(signer.author())
            .await
            .map_err(|error| client_error(&error))?;
        let merges = prepared.refs.len().saturating_sub(1) / REFS_MAX;
        let statements = sign(&signer.key, signer.operator.under, &prepared, bodies)?;
        let mut ids = self
            .client
            .submit(statements)
            .await
            .map_err(|error| client_error(&error))?;
        Ok(ids.split_off(merges.min(ids.len())))
    }

    /// Signs one statement that names `refs` and nothing else that this replica has seen, and hands it in.
    pub(crate) async fn submit_with(
        &self,
        key: &SigningKey,
        under: StatementId,
        refs: Vec<StatementId>,
        body: Body,
    ) -> Result<(), CommandError> {
        let author = AuthorId(key.verifying_key().to_bytes());
        let prepared = self.client.prepare(author).await;
        let mut prepared = prepared.map_err(|error| client_error(&error))?;
        prepared.refs = refs;
        let statements = sign(key, under, &prepared, vec![body])?;
        let submitted = self.client.submit(statements).await;
        submitted.map(drop).map_err(|error| client_error(&error))
    }

    /// Signs one statement without handing it in; merges that it needs come before it.
    pub(crate) async fn sign_one(
        &self,
        signer: &Signer,
        body: Body,
    ) -> Result<Vec<Bytes>, CommandError> {
        let prepared = self.client.prepare(signer.author()).await;
        let prepared = prepared.map_err(|error| client_error(&error))?;
        sign(&signer.key, signer.operator.under, &prepared, vec![body])
    }

    /// Signs and hands in edits, in as many statements as they need.
    pub(crate) async fn submit_ops(
        &self,
        signer: &Signer,
        message: &str,
        ops: Vec<Op>,
    ) -> Result<Vec<StatementId>, CommandError> {
        let message = shorten(message);
        let bodies = chunks(ops).into_iter().map(|ops| {
            Body::Edit(Edit {
                message: message.to_owned(),
                ops,
            })
        });
        self.submit(signer, bodies.collect()).await
    }
}

fn out_of_rights(operator: &OperatorView, how: &str) -> CommandError {
    let message = format!("the rights of {} {how}", operator.name);
    CommandError::new(Exit::Permission, "K008", message).hint("lab operator list")
}

/// Where the key for a mesh is: `--key`, `LAB_KEY`, or the usual place.
pub(crate) fn key_path(global: &Global, mesh: &MeshId) -> PathBuf {
    let named = global.key.clone().or_else(|| env::path(env::KEY));
    named.unwrap_or_else(|| key::default_path(&env::config_dir(), mesh))
}

/// Opens a key file, with the passphrase from the file for scripts or from the person.
pub(crate) fn open_key(file: &KeyFile, ui: &Ui) -> Result<SigningKey, CommandError> {
    let passphrase = match (file.is_sealed(), env::path(env::KEY_PASSPHRASE_FILE)) {
        (false, _) => String::new(),
        (true, Some(path)) => read_passphrase(&path)?,
        (true, None) => ui
            .ask_hidden(&format!("passphrase of {}:", file.name))
            .map_err(|error| {
                error.hint(format!("{}=FILE for scripts", env::KEY_PASSPHRASE_FILE))
            })?,
    };
    file.open(&passphrase).map_err(|error| {
        CommandError::new(
            Exit::Permission,
            "K009",
            format!("open the key of {}", file.name),
        )
        .because(&error)
    })
}

/// The passphrase for a new key: from the file for scripts, else asked twice; none if it is empty.
pub(crate) fn new_passphrase(ui: &Ui, is_none: bool) -> Result<Option<String>, CommandError> {
    if is_none {
        return Ok(None);
    }
    if let Some(path) = env::path(env::KEY_PASSPHRASE_FILE) {
        return read_passphrase(&path).map(Some);
    }
    if !ui.is_interactive() {
        return Err(CommandError::new(
            Exit::Refused,
            "C002",
            "nobody is here to choose a passphrase",
        )
        .hint("--no-passphrase keeps the key as it is, readable by its owner only")
        .hint(format!(
            "{}=FILE takes it from a file",
            env::KEY_PASSPHRASE_FILE
        )));
    }
    let first = ui.ask_hidden("passphrase for the new key (empty for none):")?;
    if first.is_empty() {
        return Ok(None);
    }
    if ui.ask_hidden("once more:")? == first {
        Ok(Some(first))
    } else {
        Err(CommandError::new(
            Exit::Failed,
            "K012",
            "the two passphrases differ",
        ))
    }
}

fn read_passphrase(path: &std::path::Path) -> Result<String, CommandError> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        let what = format!("read the passphrase from {}", path.display());
        CommandError::new(Exit::Input, "K013", what).because(&error)
    })?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// Signs statements on top of what was prepared; more references than one statement holds are merged first.
pub(crate) fn sign(
    key: &SigningKey,
    under: StatementId,
    prepared: &Prepared,
    bodies: Vec<Body>,
) -> Result<Vec<Bytes>, CommandError> {
    let failed = |error: lab_crdt_log::EnvelopeError| {
        CommandError::new(Exit::Failed, "K014", "sign the change").because(&error)
    };
    let mut refs: Vec<_> = prepared
        .refs
        .chunks(REFS_MAX)
        .map(<[StatementId]>::to_vec)
        .collect();
    let last_refs = refs.pop().unwrap_or_default();
    let merges = refs.into_iter().map(|refs| {
        let merge = Edit {
            message: "merge".to_owned(),
            ops: Vec::new(),
        };
        (refs, Body::Edit(merge))
    });
    let mut bodies = bodies.into_iter();
    let first = bodies.next().map(|body| (last_refs, body));
    let drafts = merges
        .chain(first)
        .chain(bodies.map(|body| (Vec::new(), body)));
    let (mut seq, mut prev, mut hlc) = (prepared.seq, prepared.prev, prepared.hlc);
    let mut out = Vec::new();
    for (refs, body) in drafts {
        hlc = hlc.next(clock::wall());
        let draft = Draft {
            seq,
            prev,
            under,
            hlc,
            refs,
            body,
        };
        let bytes = seal(&prepared.mesh, key, &draft).map_err(failed)?;
        prev = open(&prepared.mesh, &bytes).map_err(failed)?.id;
        seq += 1;
        out.push(bytes);
    }
    Ok(out)
}

/// The beginning of a text, at most the 200 bytes that a statement may carry.
pub(crate) fn shorten(text: &str) -> &str {
    let mut end = text.len().min(200);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Cuts edits so that each part fits one statement.
fn chunks(ops: Vec<Op>) -> Vec<Vec<Op>> {
    let mut out: Vec<Vec<Op>> = Vec::new();
    let mut room = 0;
    for op in ops {
        let size = size_of(&op);
        match out.last_mut() {
            Some(last) if size <= room && last.len() < OPS_MAX => last.push(op),
            _ => {
                out.push(vec![op]);
                room = STATEMENT_BYTES_MAX - STATEMENT_ROOM;
            }
        }
        room = room.saturating_sub(size);
    }
    out
}

/// At least as many bytes as an edit takes in a statement.
fn size_of(op: &Op) -> usize {
    let edit = Edit {
        message: String::new(),
        ops: vec![op.clone()],
    };
    Body::Edit(edit).encode().len()
}

/// Something that was seen, in words.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Cause(String);

/// A failure of the way to the agent as a person should read it.
pub(crate) fn client_error(error: &ClientError) -> CommandError {
    match error {
        ClientError::NotRunning { socket, source } => {
            let message = format!("no agent answers at {}", socket.display());
            CommandError::new(Exit::NoAgent, "C010", message)
                .because(source)
                .hint("start it: lab agent run (or: systemctl start lab-agent)")
                .hint("another agent: --socket PATH or --data DIR")
        }
        ClientError::Denied { .. } => CommandError::new(
            Exit::Permission,
            "C011",
            "the agent does not talk to this user",
        )
        .because(error)
        .hint("use sudo, or join the group of the socket"),
        ClientError::Unreachable { place, why } => {
            let message = format!("{place} cannot be reached");
            CommandError::new(Exit::NoAgent, "C051", message)
                .because(&Cause(why.clone()))
                .hint("is it on, and may its UDP port be reached from here?")
                .hint("another machine, or an address: --at NODEID@IP:PORT")
        }
        ClientError::NotEntitled { place, why } => {
            let message = format!("{place} does not talk to this key");
            CommandError::new(Exit::Permission, "C052", message)
                .because(&Cause(why.clone()))
                .hint("an admin sees who may: lab operator list")
        }
        ClientError::Refused { code, why } => CommandError::new(Exit::Refused, code, why.clone()),
        ClientError::Unanswered { .. } => {
            CommandError::new(Exit::Failed, "C012", "the agent gave no answer")
                .because(error)
                .hint("lab history shows whether a change was taken in")
        }
        ClientError::Protocol { .. } => {
            CommandError::new(Exit::Failed, "C013", "the agent speaks another version")
                .because(error)
                .hint("restart the agent: systemctl restart lab-agent")
        }
    }
}

#[cfg(test)]
mod tests {
    use lab_crdt_model::{Field, Hlc, Value};

    use super::*;

    fn set(path: &str, value: Value) -> Op {
        Op::Set {
            path: path.parse().unwrap(),
            field: Field::new(value, "person:ana"),
        }
    }

    fn prepared(refs: usize) -> Prepared {
        Prepared {
            author: AuthorId([0; 32]),
            mesh: MeshId([7; 32]),
            seq: 4,
            prev: StatementId([9; 32]),
            refs: (0..refs)
                .map(|i| StatementId([u8::try_from(i).unwrap(); 32]))
                .collect(),
            hlc: Hlc(u64::MAX >> 1),
        }
    }

    #[test]
    fn large_changes_are_cut_into_statements_that_fit() {
        let key = SigningKey::from_bytes(&[1; 32]);
        let ops: Vec<_> = (0..9)
            .map(|i| {
                set(
                    &format!("on/all/params/{i}"),
                    Value::text("x".repeat(30_000)),
                )
            })
            .collect();
        let parts = chunks(ops.clone());
        assert_eq!(parts.concat(), ops);
        assert_eq!(parts.len(), 5);
        let bodies = parts.into_iter().map(|ops| {
            Body::Edit(Edit {
                message: "m".repeat(200),
                ops,
            })
        });
        assert_eq!(
            sign(&key, StatementId::ZERO, &prepared(16), bodies.collect())
                .unwrap()
                .len(),
            5
        );
    }

    #[test]
    fn a_message_is_cut_between_characters() {
        assert_eq!(shorten(&"ä".repeat(150)).len(), 200);
        assert_eq!(shorten(&format!("x{}", "ä".repeat(150))).len(), 199);
    }

    #[test]
    fn many_small_edits_stay_within_the_count() {
        let ops: Vec<_> = (0..5000)
            .map(|i| set(&format!("a/{i}"), Value::Null))
            .collect();
        assert!(chunks(ops).iter().all(|part| part.len() <= OPS_MAX));
    }

    #[test]
    fn statements_are_chained_and_too_many_references_are_merged_first() {
        let key = SigningKey::from_bytes(&[1; 32]);
        let body = || {
            Body::Edit(Edit {
                message: "one".into(),
                ops: vec![],
            })
        };
        let signed = sign(&key, StatementId::ZERO, &prepared(20), vec![body(), body()]).unwrap();
        let opened: Vec<_> = signed
            .iter()
            .map(|b| open(&MeshId([7; 32]), b).unwrap())
            .collect();
        let shape: Vec<_> = opened.iter().map(|s| (s.seq, s.refs.len())).collect();
        assert_eq!(shape, [(4, 16), (5, 4), (6, 0)]);
        assert_eq!(opened[0].prev, StatementId([9; 32]));
        assert!(
            opened
                .windows(2)
                .all(|w| w[1].prev == w[0].id && w[1].hlc > w[0].hlc)
        );
    }
}
