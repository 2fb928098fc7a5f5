//! `lab root`: the keys that stand above all others, and the records that they sign.

use std::path::{Path, PathBuf};

use bip39::Mnemonic;
use ed25519_dalek::SigningKey;
use lab_agent_api::ViewMask;
use lab_crdt_log::{Body, RootRecord};
use lab_crdt_model::view::MemberState;
use lab_crdt_model::{AuthorId, NodeId, StatementId};
use serde_json::{Value as Json, json};
use zeroize::Zeroizing;

use super::{Context, init, node};
use crate::args::{
    CeremonyArgs, RootPublishArgs, RootRegistrarsArgs, RootRotateArgs, RootSignArgs, RootTryArgs,
    RootVerb,
};
use crate::error::{CommandError, Exit};
use crate::print::root::RootReport;
use crate::print::{Envelope, Report, Style};
use crate::proposal::Proposal;
use crate::session::{Session, client_error};
use crate::tried::Tried;
use crate::{clock, entropy};

/// Runs the verb.
pub(super) async fn run(context: Context<'_>, verb: RootVerb) -> Result<Exit, CommandError> {
    match verb {
        RootVerb::Show => show(context).await,
        RootVerb::Rotate(args) => rotate(context, args).await,
        RootVerb::Registrars(args) => registrars(context, &args).await,
        RootVerb::Try(args) => attempt(context, &args).await,
        RootVerb::Sign(args) => sign_file(context, &args),
        RootVerb::Publish(args) => publish(context, &args).await,
    }
}

/// The record in force and where it stands.
pub(super) struct InForce {
    pub(super) record: RootRecord,
    carrier: Option<StatementId>,
    pub(super) is_disputed: bool,
}

/// Asks the agent for it.
pub(super) async fn in_force(session: &Session<'_>) -> Result<InForce, CommandError> {
    let root = session.client.root().await;
    let root = root.map_err(|error| client_error(&error))?;
    let record = RootRecord::decode(&root.record).map_err(|error| {
        CommandError::new(Exit::Failed, "C013", "the agent speaks another version").because(&error)
    })?;
    Ok(InForce {
        record,
        carrier: root.carrier,
        is_disputed: root.is_disputed,
    })
}

async fn show(context: Context<'_>) -> Result<Exit, CommandError> {
    let session = Session::open(context.global, context.ui).await?;
    let root = in_force(&session).await?;
    if root.is_disputed {
        context.ui.warn(
            "root keys signed two records of one version: somebody else holds root keys of this mesh",
        );
    }
    let report = RootReport {
        record: root.record,
        is_disputed: root.is_disputed,
    };
    Ok(context.finish(&report, Envelope::default(), Exit::Done))
}

/// Has the words of a root key typed, and keeps that they were right.
async fn attempt(context: Context<'_>, args: &RootTryArgs) -> Result<Exit, CommandError> {
    let ui = context.ui;
    let session = Session::open(context.global, ui).await?;
    let root = in_force(&session).await?;
    let mesh = session.client.info().await;
    let mesh = mesh.map_err(|error| client_error(&error))?.mesh;
    let key = match &args.words_file {
        Some(file) => words_in(file)?,
        None => {
            let typed = Zeroizing::new(ui.ask_hidden("the 24 words of a root key:")?);
            key_of(&typed)?
        }
    };
    let key = author(&key);
    if !root.record.root_keys.contains(&key) {
        let what = format!("these are words of {key}, which is no root key of this mesh");
        return Err(CommandError::new(Exit::Refused, "K017", what)
            .hint("lab root show")
            .hint("words of an earlier root record are worth nothing: throw them away"));
    }
    Tried::note(&session.key_path(&mesh), key, clock::wall())?;
    let report = Good {
        key,
        version: root.record.version,
    };
    Ok(context.finish(&report, Envelope::default(), Exit::Done))
}

/// Words that are those of a root key.
struct Good {
    key: AuthorId,
    version: u32,
}

impl Report for Good {
    fn schema(&self) -> &'static str {
        "lab.root.try/v1"
    }

    fn data(&self) -> Json {
        json!({"key": self.key.to_string(), "version": self.version})
    }

    fn names(&self) -> Vec<String> {
        vec![self.key.to_string()]
    }

    fn text(&self, style: &Style) -> String {
        format!(
            "{} the words are those of {}, a root key of record {}; `lab doctor` asks again in half a year\n",
            style.paint.green("✓"),
            self.key,
            self.version
        )
    }
}

async fn rotate(context: Context<'_>, args: RootRotateArgs) -> Result<Exit, CommandError> {
    let (ui, count) = (context.ui, usize::from(args.keys));
    let threshold = args.threshold.unwrap_or(args.keys / 2 + 1);
    if threshold > args.keys {
        let what = format!("{threshold} of {count} keys cannot sign");
        return Err(CommandError::usage(what).hint("--threshold is at most --keys"));
    }
    let is_written = !args.new_words_files.is_empty();
    if is_written && args.new_words_files.len() != count {
        return Err(CommandError::usage(format!(
            "--new-words-file is needed {count} times, one for each key"
        )));
    }
    let session = Session::open(context.global, ui).await?;
    let root = in_force(&session).await?;
    let mut keys = Vec::new();
    for at in 0..count {
        ui.say(&format!("root key {} of {count}", at + 1));
        let secret = Zeroizing::new(entropy::bytes::<32>()?);
        init::keep_words(
            context,
            &secret,
            args.new_words_files.get(at).map(PathBuf::as_path),
        )?;
        keys.push(SigningKey::from_bytes(&secret));
    }
    let mut root_keys: Vec<AuthorId> = keys.iter().map(author).collect();
    root_keys.sort_unstable();
    let proposal = amended(&session, &root, |next| {
        next.root_keys = root_keys;
        next.threshold = threshold;
    })
    .await?;
    for key in &keys {
        // They were just typed, or written by this program.
        Tried::note(
            &session.key_path(&proposal.mesh),
            author(key),
            clock::wall(),
        )?;
    }
    decide(context, &session, &root, proposal, &args.ceremony, &keys).await
}

async fn registrars(context: Context<'_>, args: &RootRegistrarsArgs) -> Result<Exit, CommandError> {
    let session = Session::open(context.global, context.ui).await?;
    let picture = session.picture().await?;
    let mut nodes: Vec<NodeId> = Vec::new();
    for name in &args.nodes {
        let machine = node::find(&picture, name)?;
        let member = machine
            .member
            .as_ref()
            .filter(|m| m.state == MemberState::Member);
        let Some(member) = member else {
            let what = format!("{name} is no member: it can see no join");
            return Err(CommandError::new(Exit::Refused, "M022", what).hint("lab node list"));
        };
        nodes.push(member.node);
    }
    nodes.sort_unstable();
    nodes.dedup();
    let root = in_force(&session).await?;
    let proposal = amended(&session, &root, |next| next.registrars = nodes).await?;
    decide(context, &session, &root, proposal, &args.ceremony, &[]).await
}

/// The record after the one in force, with a change made to it.
pub(super) async fn amended(
    session: &Session<'_>,
    root: &InForce,
    change: impl FnOnce(&mut RootRecord),
) -> Result<Proposal, CommandError> {
    let info = session.client.info().await;
    let mesh = info.map_err(|error| client_error(&error))?.mesh;
    Ok(Proposal::new(mesh, root.record.clone(), change))
}

/// Shows a record, has it signed, and hands it in; or, while signatures are missing, writes it for the next keeper.
pub(super) async fn decide(
    context: Context<'_>,
    session: &Session<'_>,
    root: &InForce,
    mut proposal: Proposal,
    args: &CeremonyArgs,
    more: &[SigningKey],
) -> Result<Exit, CommandError> {
    let ui = context.ui;
    proposal.says().iter().for_each(|line| ui.insist(line));
    for key in more {
        proposal.sign(key)?;
    }
    let mut keys: Vec<SigningKey> = more.to_vec();
    for file in &args.words_files {
        let key = words_in(file)?;
        proposal.sign(&key)?;
        keys.push(key);
    }
    while proposal.lacks().is_some() && args.words_files.is_empty() && ui.is_interactive() {
        let typed = Zeroizing::new(ui.ask_hidden("the 24 words of a root key (empty to stop):")?);
        if typed.trim().is_empty() {
            break;
        }
        let key = key_of(&typed)?;
        proposal.sign(&key)?;
        keys.push(key);
    }
    if let Some(lack) = proposal.lacks() {
        let Some(out) = &args.out else {
            let what = "the root record is not signed by enough root keys, nothing was changed";
            return Err(CommandError::new(Exit::Refused, "K019", what)
                .because(&lack)
                .hint("--words-file FILE gives the words of a root key, more than once for more")
                .hint("--out FILE keeps what is signed for the keepers of the others"));
        };
        proposal.write_new(out)?;
        ui.say(&format!("written to {}: {lack}", out.display()));
        ui.say(&format!("the others: lab root sign {}", out.display()));
        return Ok(Exit::Done);
    }
    if !ui.confirm("Make this the root record of the mesh?")? {
        return Ok(Exit::Refused);
    }
    hand_in(context, session, root, &proposal, &keys).await
}

/// Hands a signed record in, carried by a root key that is at hand, else by the person's own key.
async fn hand_in(
    context: Context<'_>,
    session: &Session<'_>,
    root: &InForce,
    proposal: &Proposal,
    keys: &[SigningKey],
) -> Result<Exit, CommandError> {
    let refs: Vec<StatementId> = root.carrier.into_iter().collect();
    let body = Body::Root(proposal.signed.clone());
    let under = StatementId(proposal.mesh.0);
    // A new root key has no standing before its record is there.
    let has_standing = |key: &&SigningKey| proposal.last.root_keys.contains(&author(key));
    match keys.iter().find(has_standing) {
        Some(key) => session.submit_with(key, under, refs, body).await?,
        None => {
            let mask = ViewMask {
                roster: true,
                ..ViewMask::default()
            };
            let view = session.view(mask).await?;
            let signer = session.signer(&view)?;
            let under = signer.operator.under;
            session.submit_with(signer.key(), under, refs, body).await?;
        }
    }
    context.ui.say(&format!(
        "{} root record {} is in force",
        context.ui.paint().green("✓"),
        proposal.next.version
    ));
    Ok(Exit::Done)
}

fn sign_file(context: Context<'_>, args: &RootSignArgs) -> Result<Exit, CommandError> {
    let ui = context.ui;
    let mut proposal = Proposal::read(&args.file)?;
    ui.insist(&format!("mesh {}", proposal.mesh));
    proposal.says().iter().for_each(|line| ui.insist(line));
    let key = match &args.words_file {
        Some(file) => words_in(file)?,
        None => {
            let typed = Zeroizing::new(ui.ask_hidden("the 24 words of a root key:")?);
            key_of(&typed)?
        }
    };
    proposal.sign(&key)?;
    if !ui.confirm("Sign this?")? {
        return Ok(Exit::Refused);
    }
    proposal.write_again(&args.file)?;
    match proposal.lacks() {
        Some(lack) => ui.say(&format!("signed; {lack}")),
        None => ui.say(&format!(
            "signed by enough: lab root publish {}",
            args.file.display()
        )),
    }
    Ok(Exit::Done)
}

async fn publish(context: Context<'_>, args: &RootPublishArgs) -> Result<Exit, CommandError> {
    let proposal = Proposal::read(&args.file)?;
    if let Some(lack) = proposal.lacks() {
        let what = format!("{} is not ready", args.file.display());
        return Err(CommandError::new(Exit::Refused, "K019", what)
            .because(&lack)
            .hint(format!("lab root sign {}", args.file.display())));
    }
    let session = Session::open(context.global, context.ui).await?;
    let root = in_force(&session).await?;
    if proposal.last.hash() != root.record.hash() {
        let what = format!(
            "{} follows root record {}, which is not the one in force",
            args.file.display(),
            proposal.last.version
        );
        return Err(CommandError::new(Exit::Refused, "K021", what)
            .hint("lab root show")
            .hint("make it again on top of the record in force"));
    }
    let ui = context.ui;
    proposal.says().iter().for_each(|line| ui.insist(line));
    if !ui.confirm("Make this the root record of the mesh?")? {
        return Ok(Exit::Refused);
    }
    let key = args.words_file.as_deref().map(words_in).transpose()?;
    hand_in(context, &session, &root, &proposal, key.as_slice()).await
}

fn author(key: &SigningKey) -> AuthorId {
    AuthorId(key.verifying_key().to_bytes())
}

fn words_in(file: &Path) -> Result<SigningKey, CommandError> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        let what = format!("read the root words in {}", file.display());
        CommandError::new(Exit::Input, "K020", what).because(&error)
    })?;
    key_of(&Zeroizing::new(text))
}

/// The root key of 24 words, however they are spaced.
fn key_of(words: &str) -> Result<SigningKey, CommandError> {
    let words: Vec<String> = words.split_whitespace().map(str::to_lowercase).collect();
    let words = Zeroizing::new(words.join(" "));
    let wrong = || CommandError::new(Exit::Input, "K020", "these are not the words of a root key");
    let mnemonic = Mnemonic::parse(words.as_str()).map_err(|error| wrong().because(&error))?;
    let entropy = Zeroizing::new(mnemonic.to_entropy());
    let secret: Zeroizing<[u8; 32]> = Zeroizing::new(
        entropy
            .as_slice()
            .try_into()
            .map_err(|_short| wrong().hint("a root key has 24 words"))?,
    );
    Ok(SigningKey::from_bytes(&secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_however_they_are_spaced_and_wrong_ones_are_refused() {
        let mnemonic = Mnemonic::from_entropy(&[7; 32]).unwrap();
        let text = mnemonic.to_string();
        let shouted = format!("  {}\n", text.to_uppercase().replace(' ', "\n "));
        assert_eq!(key_of(&shouted).unwrap().to_bytes(), [7; 32]);
        let short = Mnemonic::from_entropy(&[7; 16]).unwrap().to_string();
        for wrong in [
            "",
            "abandon",
            short.as_str(),
            &text.replacen(' ', " zoo ", 1),
        ] {
            assert_eq!(key_of(wrong).unwrap_err().code, "K020");
        }
    }
}
