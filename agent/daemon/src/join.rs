//! Becoming a member: an agent that holds a token is driven until the mesh has admitted it.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use lab_agent_core::{Agent, Boot, BootError, Command, Config, Event, NodeKeys, Reply, ViewMask};
use lab_agent_store::StoreError;
use lab_crdt_model::store::Tables;
use lab_crdt_model::token::{Seed, Token};
use lab_crdt_model::view::{MemberState, MemberView, ReplicaView};
use lab_crdt_model::{AuthorId, MeshId, Mono, NodeId, words};
use lab_mesh_net::NetError;
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use crate::data_dir::{DataDir, DataDirError};
use crate::effect::{Effects, hardware};
use crate::entropy::{self, EntropyError};
use crate::error::WorldError;
use crate::run::{Links, VERSION, open_links, open_store};
use crate::world::{Told, World};
use crate::{clock, config};

/// How long others may still admit us after one has refused for good, milliseconds.
const OTHERS_MS: u64 = 3_000;

/// How to join.
#[derive(Clone, Debug)]
pub struct JoinOptions {
    /// Where the node will live; made if it is not there.
    pub data_dir: PathBuf,
    /// UDP addresses to listen on.
    pub bind: Vec<SocketAddr>,
    /// The mDNS service name under which members of the mesh are looked for; `None` is off.
    pub lan_discovery: Option<String>,
    /// What was handed out.
    pub token: Token,
    /// Members to ask, besides those that the token names.
    pub via: Vec<(NodeId, SocketAddr)>,
    /// The operator key that a laptop brings along.
    pub operator_key: Option<AuthorId>,
    /// Below which folder the machine's `/sys` and `/proc` lie, where what it is made of is read.
    pub root: PathBuf,
    /// How long to try, and to wait for a person who has to confirm.
    pub timeout: Duration,
}

impl JoinOptions {
    /// Joins from the usual folder and addresses, for two minutes.
    pub fn new(token: Token) -> Self {
        Self {
            data_dir: config::DATA_DIR.into(),
            bind: config::everywhere(),
            lan_discovery: Some("lab".to_owned()),
            token,
            via: Vec::new(),
            operator_key: None,
            root: "/".into(),
            timeout: Duration::from_secs(120),
        }
    }
}

/// Who we are now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Joined {
    /// The node.
    pub node: NodeId,
    /// Its name in the mesh.
    pub name: String,
    /// The mesh.
    pub mesh: MeshId,
    /// The mesh's name.
    pub mesh_name: String,
    /// Others or a person still have to agree. Nothing has to be done here for it: the agent becomes a member by itself.
    pub is_on_probation: bool,
}

/// Why this machine did not join. Trying again with the same token goes on with the same key.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The folder cannot be used; [`DataDirError::Occupied`] if there is a node already.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The agent cannot start.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// The links cannot be had.
    #[error(transparent)]
    Net(#[from] NetError),
    /// There is no randomness.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// Something broke on the way.
    #[error(transparent)]
    World(#[from] WorldError),
    /// The mesh said no, and will say so again: ask for a new token.
    #[error("join: {why}")]
    Refused {
        /// In the sponsor's words.
        why: String,
    },
    /// Nobody admitted us in time.
    #[error("join within {waited_s} s: {why}")]
    Timeout {
        /// How long it was tried.
        waited_s: u64,
        /// What was seen last.
        why: String,
    },
}

/// Joins, and leaves a folder that is ready for [`run`](crate::run).
///
/// Whoever is on probation when the time is over has joined all the same.
///
/// `progress` is told what happens, in sentences for people.
///
/// # Errors
/// See [`JoinError`].
pub async fn join(
    options: JoinOptions,
    mut progress: impl FnMut(String),
) -> Result<Joined, JoinError> {
    let data = DataDir::lock(&options.data_dir)?;
    if data.has_key() {
        return Err(DataDirError::Occupied {
            path: data.path().to_owned(),
        }
        .into());
    }
    let token = fingerprint(options.token.seed());
    let key = match data.read_joining(&token)? {
        Some(key) => {
            progress("going on where joining was broken off".to_owned());
            key
        }
        None => {
            let key = entropy::bytes::<32>()?;
            data.begin_joining(&token, &key)?;
            key
        }
    };
    let me = NodeKeys::new(&key).node();
    progress(format!("this machine shows: {}", words::of_node(&me)));
    let (store, tables) = open_store(&data.store_path())?;
    let agent = start(&options, &key, tables)?;

    let links = Links {
        bind: options.bind.clone(),
        lan_discovery: options.lan_discovery.clone(),
        remote_api: false,
    };
    let net = open_links(&key, links).await?;
    // Nothing is declared for a node that is not there yet; what is converged at all waits for `run`.
    let effects = Effects::facts_only();
    let (_nobody_asks, asked) = mpsc::channel(1);
    let mut candidate = Candidate {
        me,
        agent,
        world: World::new(net, store, effects, asked),
        last: "nobody answered".to_owned(),
        probation: None,
        refused: None,
    };
    let attempt =
        tokio::time::timeout(options.timeout, candidate.until_admitted(&mut progress)).await;
    let attempt = match (attempt, candidate.probation.take()) {
        (Err(_elapsed), Some(joined)) => Ok(Ok(joined)),
        (attempt, _) => attempt,
    };
    let outcome = match attempt {
        Ok(Ok(joined)) => {
            data.end_joining(&key)?;
            Ok(joined)
        }
        Ok(Err(error)) => Err(error),
        Err(_elapsed) => {
            let waited_s = options.timeout.as_secs();
            Err(JoinError::Timeout {
                waited_s,
                why: std::mem::take(&mut candidate.last),
            })
        }
    };
    candidate.world.close().await;
    outcome
}

/// Starts from what an earlier attempt stored if it got so far, with the token otherwise.
fn start(options: &JoinOptions, key: &[u8; 32], tables: Tables) -> Result<Agent, JoinError> {
    let seed = entropy::bytes::<32>()?;
    let new = |boot| {
        Agent::new(
            Config::homelab(VERSION),
            NodeKeys::new(key),
            boot,
            *seed,
            clock::now(),
        )
    };
    match new(Boot::Stored { tables }) {
        Ok(agent) => Ok(agent),
        Err(BootError::NoMesh) => Ok(new(Boot::Joining {
            token: options.token.clone(),
            via: options.via.clone(),
            operator_key: options.operator_key,
            hardware: hardware(&options.root),
        })?),
        Err(error) => Err(error.into()),
    }
}

/// A machine that wants to be a node.
struct Candidate {
    me: NodeId,
    agent: Agent,
    world: World,
    /// What was seen last, for when the time is over.
    last: String,
    /// Who we are while others or a person still have to agree, once that is durable.
    probation: Option<Joined>,
    /// The first refusal that will not change, and when others have had their chance.
    refused: Option<(String, Mono)>,
}

impl fmt::Debug for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Candidate({})", self.me.short())
    }
}

impl Candidate {
    /// Turns until the roster has us as a member and everything is durable.
    async fn until_admitted(
        &mut self,
        progress: &mut impl FnMut(String),
    ) -> Result<Joined, JoinError> {
        let mut answer = None;
        // An earlier attempt may have been admitted and not have lived to see it.
        let mut is_to_ask = true;
        loop {
            while let Some(output) = self.agent.poll() {
                self.world.carry_out(output);
            }
            for told in self.world.take_told() {
                is_to_ask |= self.heed(&told, progress)?;
            }
            if let Some(waiting) = &mut answer
                && let Ok(reply) = tokio::sync::oneshot::Receiver::try_recv(waiting)
            {
                answer = None;
                let joined = self.joined(&reply, progress);
                let (waiting, done) =
                    joined
                        .filter(|_| self.world.is_durable())
                        .map_or((None, None), |it| match it.is_on_probation {
                            true => (Some(it), None),
                            false => (None, Some(it)),
                        });
                self.probation = waiting;
                if let Some(joined) = done {
                    progress(format!("joined {} as {}", joined.mesh_name, joined.name));
                    return Ok(joined);
                }
            }
            if is_to_ask && answer.is_none() {
                is_to_ask = false;
                let mask = ViewMask {
                    roster: true,
                    ..ViewMask::default()
                };
                answer = Some(self.world.ask(Command::View(mask)));
            }
            if let Some((why, until)) = &self.refused
                && clock::mono() >= *until
            {
                return Err(JoinError::Refused { why: why.clone() });
            }
            let input = self.world.next(self.agent.deadline()).await?;
            // Whatever became durable may have been the last thing missing.
            is_to_ask |= matches!(input, Some(lab_agent_core::Input::Stored { .. }));
            if let Some(input) = input {
                self.agent.handle(self.world.now(), input);
            }
        }
    }

    /// Passes on what people may want to know; `true` if we may have been admitted.
    fn heed(&mut self, told: &Told, progress: &mut impl FnMut(String)) -> Result<bool, JoinError> {
        match told {
            Told::Event(Event::JoinRefused {
                why,
                is_final: true,
            }) => {
                if self.refused.is_none() {
                    progress(format!("refused: {why}"));
                    // Whoever answers first on the local network need not be of our mesh.
                    let until = clock::mono().plus_ms(OTHERS_MS);
                    self.refused = Some((why.clone(), until));
                    self.world
                        .nap_at_most(Duration::from_millis(OTHERS_MS / 10));
                }
            }
            Told::Event(Event::JoinRefused {
                why,
                is_final: false,
            }) => {
                if self.last != *why {
                    progress(format!("not yet: {why}"));
                }
                self.last.clone_from(why);
            }
            Told::Event(Event::NodeJoined { .. } | Event::IntentChanged { .. }) => return Ok(true),
            Told::Event(event) => tracing::debug!(?event, "while joining"),
            Told::Dialling { peer, addresses } => {
                let places: Vec<_> = addresses.iter().map(ToString::to_string).collect();
                let place = if places.is_empty() {
                    String::new()
                } else {
                    format!(" at {}", places.join(", "))
                };
                progress(format!("asking {}{place}", peer.short()));
            }
            // Another member that has not heard of the join yet: nothing that a person should act on.
            Told::DialFailed { why, .. } if why.contains("not a member") => {}
            Told::DialFailed { peer, why } => {
                self.last = format!("{} could not be reached: {why}", peer.short());
                progress(self.last.clone());
            }
        }
        Ok(false)
    }

    /// Who we are, if the replica has us as one who may stay. What is still waited for is told.
    fn joined(&mut self, reply: &Reply, progress: &mut impl FnMut(String)) -> Option<Joined> {
        let Reply::View(view) = reply else {
            return None;
        };
        let view: &ReplicaView = view;
        let member = view.members.iter().find(|member| member.node == self.me)?;
        let why = match member.state {
            MemberState::Member => None,
            MemberState::Probation => Some(waiting(view, member)),
            MemberState::Suspended => Some(
                "suspended: the token was used more than once; an admin says whose machine this is"
                    .to_owned(),
            ),
            MemberState::Seen | MemberState::Expired | MemberState::Revoked => return None,
        };
        if let Some(why) = why.as_ref().filter(|why| self.last != **why) {
            progress(why.clone());
            self.last.clone_from(why);
        }
        (member.state != MemberState::Suspended).then(|| Joined {
            node: self.me,
            name: member.name.clone(),
            mesh: view.mesh,
            mesh_name: view.mesh_name.clone(),
            is_on_probation: why.is_some(),
        })
    }
}

/// What somebody on probation waits for.
fn waiting(view: &ReplicaView, me: &MemberView) -> String {
    let join = view.joins.iter().find(|join| join.node == me.node);
    let (seen, needed) = join.map_or((0, 0), |j| (j.witnesses.len(), j.needed));
    if usize::try_from(needed).is_ok_and(|needed| seen < needed) {
        return format!("waiting for more registrars: {seen} of {needed} have seen this machine");
    }
    format!(
        "waiting for confirmation: compare these words: {} (lab node confirm {}); the mesh shows: {}",
        words::of_node(&me.node),
        me.name,
        words::of_mesh(&view.mesh),
    )
}

/// Tells tokens apart on disk without keeping them.
fn fingerprint(seed: &Seed) -> [u8; 32] {
    let bytes: Zeroizing<Vec<u8>> = Zeroizing::new(match seed {
        Seed::Typed(bytes) => bytes.to_vec(),
        Seed::Long(bytes) => bytes.to_vec(),
    });
    blake3::derive_key("lab joining token 1", &bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_told_apart_without_being_kept() {
        let long = fingerprint(&Seed::Long([7; 16]));
        assert_ne!(long, fingerprint(&Seed::Long([8; 16])));
        assert_ne!(long, fingerprint(&Seed::Typed([7; 10])));
        assert!(!long.windows(4).any(|w| w == [7; 4]));
    }
}
