//! The agent: routes inputs to its parts and owns the outbox. Decides nothing that a part could decide.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use bytes::Bytes;
use lab_crdt_log::{Outcome, SignedRoot, sync};
use lab_crdt_model::link::{Channel, Lane, Reason};
use lab_crdt_model::report::{Beacon, Section};
use lab_crdt_model::store::{Batch, StoreOp, Table, Tables};
use lab_crdt_model::view::PeerView;
use lab_crdt_model::{Hlc, MeshId, Mono, NodeId, Now, Wall};
use lab_mesh_proto::{Mesh, MeshInput, MeshOutput};
use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};

use crate::boot::{Boot, BootError, Config, META_ROOT, META_SEQ, META_SPONSORS, NodeKeys};
use crate::command::{Command, CommandId, Prepared, Reply, ViewMask};
use crate::converge::Converge;
use crate::input::{EffectResult, Input, LinkState};
use crate::join::{Joiner, JoinerWish, Sponsoring, Word, witness_asked};
use crate::output::{Effect, EffectId, Event, Output, StoreId};
use crate::present;
use crate::replica::{Replica, put, register_key};
use crate::report::Reporter;

/// A pushed payload starts with what it is.
const PUSH_STATEMENT: u8 = 1;
const PUSH_REGISTER: u8 = 2;

/// Bytes waiting for a store that refuses them; beyond this, handed-in statements are refused at once.
const UNSTORED_BYTES_MAX: usize = 64 << 20;
const STORE_RETRY_MS: u64 = 1_000;
/// Dropping statements that wait for nothing that will come, and asking for what waiting ones need.
const TIDY_MS: u64 = 30_000;
const WANTED_MAX: usize = 64;
/// Beacons of a mesh of this many nodes come at the configured rate; in larger ones, each node slows down.
const BEACON_NODES: u64 = 12;
const BEACON_MS_MAX: u64 = 3_600_000;
/// At most one beacon on demand (suspicion, new addresses) in this time.
const BEACON_MS_MIN: u64 = 1_000;
/// How far ahead of this node's clock a stamp may be that is handed on to the next author. Beyond it a clock is wrong
/// or someone lies, and every grant with an end would be over for whoever counts on from there.
const STAMP_AHEAD_MS_MAX: u64 = 5 * 60_000;
/// News about this node wait at least this long, and up to so much longer per node of the mesh, milliseconds.
const NEWS_MS_MIN: u64 = 20;
const NEWS_MS_PER_NODE: u64 = 10;
const NEWS_MS_MAX: u64 = 30_000;
const QUEUED_COMMANDS_MAX: usize = 256;

/// When the agent wants to be woken, and what for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Deadline {
    /// At this time or as soon after it as possible.
    pub at: Mono,
    /// For logs and traces.
    pub why: &'static str,
}

/// One machine. See the [crate] for the contract.
pub struct Agent {
    config: Config,
    keys: NodeKeys,
    rng: ChaCha12Rng,
    started: Mono,
    now: Now,
    outbox: VecDeque<Output>,
    stage: Stage,
    next_id: u64,
    stores: Stores,
    facts_effect: Option<EffectId>,
    files_effect: Option<EffectId>,
}

impl std::fmt::Debug for Agent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Agent")
            .field("node", &self.keys.node())
            .finish_non_exhaustive()
    }
}

enum Stage {
    Joining(Box<Joining>),
    Member(Box<Member>),
}

struct Joining {
    joiner: Joiner,
    addresses: Vec<SocketAddr>,
    facts: Option<lab_crdt_model::report::Facts>,
}

struct Member {
    replica: Replica,
    mesh: Mesh,
    reporter: Reporter,
    converge: Converge,
    sponsoring: Sponsoring,
    /// Whom a newcomer may talk to until it can tell members by itself.
    sponsors: BTreeMap<NodeId, Vec<SocketAddr>>,
    known_addresses: BTreeMap<NodeId, Vec<SocketAddr>>,
    admitted: BTreeSet<NodeId>,
    was_joined: bool,
    joined_told: bool,
    beacon_at: Mono,
    last_beacon: Mono,
    news_at: Option<Mono>,
    tidy_at: Mono,
    /// When the next lease of a member ends, so that the gate closes then.
    lease_at: Option<Mono>,
    broadcasts: Vec<Bytes>,
    /// A submission that is being made durable; later ones wait.
    submitting: bool,
    queued: VecDeque<(CommandId, Command)>,
    fork_count: usize,
}

/// Writes under way, and what may happen only after them.
#[derive(Default)]
struct Stores {
    under_way: BTreeMap<StoreId, Pending>,
    /// What failed, and what must not be written before it.
    retry: BTreeMap<StoreId, Pending>,
    retry_at: Option<Mono>,
    bytes: usize,
}

struct Pending {
    batch: Batch,
    after: Vec<After>,
}

enum After {
    Output(Output),
    Submit {
        id: CommandId,
        statements: Vec<Bytes>,
    },
    Reserved,
    Files(Effect),
}

fn batch_bytes(batch: &Batch) -> usize {
    batch
        .iter()
        .map(|op| match op {
            StoreOp::Put { key, value, .. } => key.len() + value.len(),
            StoreOp::Delete { key, .. } => key.len(),
        })
        .sum()
}

impl Agent {
    /// An agent at its start.
    ///
    /// `seed` feeds every random choice (jitter, whom to ask): equal seeds and inputs give equal outputs. It never
    /// makes a key.
    ///
    /// # Errors
    /// [`BootError`] when the store holds no mesh or a damaged one.
    pub fn new(
        config: Config,
        keys: NodeKeys,
        boot: Boot,
        seed: [u8; 32],
        now: Now,
    ) -> Result<Self, BootError> {
        let rng = ChaCha12Rng::from_seed(seed);
        let mut agent = Self {
            config,
            keys,
            rng,
            started: now.mono,
            now,
            outbox: VecDeque::new(),
            stage: Stage::Joining(Box::new(Joining {
                joiner: Joiner::new(
                    lab_crdt_model::token::Token::Typed(lab_crdt_model::token::Seed::Long([0; 16])),
                    vec![],
                    None,
                    [0; 16],
                ),
                addresses: vec![],
                facts: None,
            })),
            next_id: 1,
            stores: Stores::default(),
            facts_effect: None,
            files_effect: None,
        };
        match boot {
            Boot::Joining {
                token,
                via,
                operator_key,
            } => {
                let mut nonce = [0; 16];
                agent.rng.fill_bytes(&mut nonce);
                let joiner = Joiner::new(token, via, operator_key, nonce);
                agent.stage = Stage::Joining(Box::new(Joining {
                    joiner,
                    addresses: vec![],
                    facts: None,
                }));
            }
            Boot::Stored { mut tables } => {
                let meta: BTreeMap<_, _> = tables
                    .remove(&Table::Meta)
                    .unwrap_or_default()
                    .into_iter()
                    .collect();
                let root = meta.get(META_ROOT).ok_or(BootError::NoMesh)?;
                let member = agent.member(SignedRoot::decode(root)?, &meta, &mut tables)?;
                agent.stage = Stage::Member(Box::new(member));
            }
        }
        let id = agent.effect_id();
        agent.facts_effect = Some(id);
        agent.outbox.push_back(Output::Run {
            id,
            effect: Effect::Facts,
        });
        agent.settle(true);
        Ok(agent)
    }

    fn member(
        &mut self,
        root: SignedRoot,
        meta: &BTreeMap<Vec<u8>, Vec<u8>>,
        tables: &mut Tables,
    ) -> Result<Member, BootError> {
        let now = self.now;
        let mut replica = Replica::new(root)?;
        replica.restore(tables);
        let decode = |bytes: &Vec<u8>| postcard::from_bytes::<Vec<SocketAddr>>(bytes).ok();
        let known_addresses = tables
            .remove(&Table::Addresses)
            .unwrap_or_default()
            .iter()
            .filter_map(|(key, value)| {
                Some((NodeId(key.as_slice().try_into().ok()?), decode(value)?))
            })
            .collect();
        let sponsors: BTreeMap<NodeId, Vec<SocketAddr>> = meta
            .get(META_SPONSORS)
            .and_then(|b| postcard::from_bytes(b).ok())
            .unwrap_or_default();
        let mut reporter =
            Reporter::new(meta.get(META_SEQ).map(Vec::as_slice), self.rng.next_u64());
        for (register, _) in replica.registers.of(&self.keys.node()) {
            reporter.saw_own(register.seq);
        }
        let converge = Converge::new(meta, &mut reporter.status, now.mono);
        let mut mesh_seed = [0; 32];
        self.rng.fill_bytes(&mut mesh_seed);
        let mesh = Mesh::new(self.keys.node(), self.config.mesh.clone(), mesh_seed, now);
        Ok(Member {
            replica,
            mesh,
            reporter,
            converge,
            sponsoring: Sponsoring::default(),
            sponsors,
            known_addresses,
            admitted: BTreeSet::new(),
            was_joined: false,
            joined_told: false,
            beacon_at: now.mono,
            last_beacon: Mono::default(),
            news_at: None,
            tidy_at: now.mono.plus_ms(TIDY_MS),
            lease_at: None,
            broadcasts: Vec::new(),
            submitting: false,
            queued: VecDeque::new(),
            fork_count: 0,
        })
    }

    /// This node.
    pub fn node(&self) -> NodeId {
        self.keys.node()
    }

    /// The mesh, once it is known.
    pub fn mesh(&self) -> Option<MeshId> {
        match &self.stage {
            Stage::Member(member) => Some(member.replica.log.mesh()),
            Stage::Joining(_) => None,
        }
    }

    /// Digests of statements and registers, for harnesses and metrics.
    pub fn digests(&self) -> Option<([u8; 32], [u8; 32])> {
        match &self.stage {
            Stage::Member(m) => Some((m.replica.log.digest(), m.replica.registers.digest())),
            Stage::Joining(_) => None,
        }
    }

    /// The mesh as seen from here.
    pub fn peers(&self) -> Vec<PeerView> {
        match &self.stage {
            Stage::Member(member) => member.mesh.peers(self.now),
            Stage::Joining(_) => Vec::new(),
        }
    }

    /// Takes one input in. Afterwards, call [`Agent::poll`] until it returns `None`.
    pub fn handle(&mut self, now: Now, input: Input) {
        self.now = Now {
            mono: now.mono.max(self.now.mono),
            wall: now.wall,
        };
        let is_wake = matches!(input, Input::Wake);
        match input {
            Input::Frame {
                from,
                channel: Channel::Mesh,
                lane,
                bytes,
            } => {
                self.mesh_input(MeshInput::Frame { from, lane, bytes });
            }
            Input::Frame {
                from,
                channel: Channel::Join,
                lane: _,
                bytes,
            } => self.join_frame(from, &bytes),
            Input::Link {
                peer,
                channel: Channel::Mesh,
                state,
            } => self.mesh_link(peer, state),
            Input::Link {
                peer,
                channel: Channel::Join,
                state,
            } => self.join_link(peer, &state),
            Input::Found { peer, addresses } => match &mut self.stage {
                Stage::Joining(joining) => joining.joiner.found(peer, addresses),
                Stage::Member(_) => self.mesh_input(MeshInput::Found { peer, addresses }),
            },
            Input::Addresses(addresses) => match &mut self.stage {
                Stage::Joining(joining) => joining.addresses = addresses,
                Stage::Member(member) => {
                    if member.reporter.addresses != addresses {
                        member.reporter.addresses = addresses;
                        member.beacon_at = self.now.mono;
                    }
                }
            },
            Input::Command { id, command } => self.command(id, command),
            Input::Stored { id, result } => self.stored(id, result),
            Input::Done { id, result } => self.done(id, &result),
            Input::Wake => self.mesh_input(MeshInput::Wake),
        }
        self.settle(is_wake);
    }

    /// The next thing to carry out, in order.
    pub fn poll(&mut self) -> Option<Output> {
        self.outbox.pop_front()
    }

    /// When to call [`Agent::handle`] with [`Input::Wake`] if nothing else happens.
    pub fn deadline(&self) -> Option<Deadline> {
        if !self.outbox.is_empty() {
            return Some(Deadline {
                at: self.now.mono,
                why: "outputs wait",
            });
        }
        let mut best: Option<Deadline> = None;
        let mut offer = |at: Option<Mono>, why| {
            if let Some(at) = at
                && best.is_none_or(|b| at < b.at)
            {
                best = Some(Deadline { at, why });
            }
        };
        offer(self.stores.retry_at, "write again");
        match &self.stage {
            Stage::Joining(joining) => offer(joining.joiner.deadline(), "ask a sponsor"),
            Stage::Member(m) => {
                if let Some(deadline) = m.mesh.deadline() {
                    offer(Some(deadline.at), deadline.why);
                }
                offer(Some(m.tidy_at), "tidy");
                offer(m.lease_at, "end a lease");
                offer(m.sponsoring.deadline(), "answer a joiner");
                if m.was_joined && m.reporter.can_speak() {
                    offer(Some(m.beacon_at), "beacon");
                    offer(m.news_at, "tell news");
                }
                if m.was_joined && !m.converge.is_running() && m.converge.desired().is_some() {
                    offer(Some(m.converge.next_at), "check the machine");
                }
            }
        }
        best
    }

    /// The replica for people.
    pub fn view(&mut self, mask: ViewMask) -> Option<lab_crdt_model::view::ReplicaView> {
        let Stage::Member(member) = &mut self.stage else {
            return None;
        };
        let facts = present::Facts {
            me: self.keys.node(),
            now: self.now,
            uptime_ms: self.now.mono.ms_since(self.started),
            version: &self.config.version,
            peers: if mask.reports {
                member.mesh.peers(self.now)
            } else {
                Vec::new()
            },
        };
        Some(present::view(&mut member.replica, mask, facts))
    }

    fn effect_id(&mut self) -> EffectId {
        self.next_id += 1;
        EffectId(self.next_id)
    }

    fn store(&mut self, batch: Batch, after: Vec<After>) {
        self.next_id += 1;
        let id = StoreId(self.next_id);
        self.stores.bytes += batch_bytes(&batch);
        let pending = Pending { batch, after };
        if self.stores.retry.is_empty() {
            self.write(id, pending);
        } else {
            // Behind what failed: an older value must never be written over a newer one.
            self.stores.retry.insert(id, pending);
        }
    }

    fn write(&mut self, id: StoreId, pending: Pending) {
        self.outbox.push_back(Output::Store {
            id,
            batch: pending.batch.clone(),
        });
        self.stores.under_way.insert(id, pending);
    }

    fn stored(&mut self, id: StoreId, result: Result<(), String>) {
        let Some(mut pending) = self.stores.under_way.remove(&id) else {
            return;
        };
        match result {
            Ok(()) => {
                let after = std::mem::take(&mut pending.after);
                let has_earlier = self.stores.retry.range(..id).next().is_some();
                if has_earlier {
                    // What failed before it will be written again, and this again after that.
                    self.stores.retry.insert(id, pending);
                } else {
                    self.stores.bytes -= batch_bytes(&pending.batch);
                }
                for after in after {
                    self.after(after);
                }
            }
            Err(why) => {
                self.outbox
                    .push_back(Output::Tell(Event::StoreFailed { why: why.clone() }));
                let is_submit = |after: &After| matches!(after, After::Submit { .. });
                // Nothing was taken in: whoever handed it in is told, and may try again.
                if let Some(at) = pending.after.iter().position(is_submit)
                    && let After::Submit { id, .. } = pending.after.swap_remove(at)
                {
                    self.stores.bytes -= batch_bytes(&pending.batch);
                    let why = format!("the store of this node refused the write: {why}");
                    self.refuse(id, "M011", why);
                    return self.submit_done();
                }
                self.stores.retry.insert(id, pending);
                let at = self.now.mono.plus_ms(STORE_RETRY_MS);
                self.stores.retry_at = Some(self.stores.retry_at.unwrap_or(at));
            }
        }
    }

    /// Writes again what failed, and after it what came later, as one batch: of each key the last value only, so
    /// that a store that fails for long costs no more memory than what it would hold.
    fn write_again(&mut self) {
        self.stores.retry_at = None;
        let mut values: BTreeMap<(Table, Vec<u8>), StoreOp> = BTreeMap::new();
        let mut all = Pending {
            batch: Batch::new(),
            after: Vec::new(),
        };
        let mut submits = Vec::new();
        for (id, pending) in std::mem::take(&mut self.stores.retry) {
            if matches!(pending.after.first(), Some(After::Submit { .. })) {
                submits.push((id, pending));
                continue;
            }
            self.stores.bytes -= batch_bytes(&pending.batch);
            for op in pending.batch {
                let (StoreOp::Put { table, key, .. } | StoreOp::Delete { table, key }) = &op;
                values.insert((*table, key.clone()), op);
            }
            all.after.extend(pending.after);
        }
        all.batch = values.into_values().collect();
        self.stores.bytes += batch_bytes(&all.batch);
        self.next_id += 1;
        self.write(StoreId(self.next_id), all);
        for (_, pending) in submits {
            self.next_id += 1;
            self.write(StoreId(self.next_id), pending);
        }
    }

    fn after(&mut self, after: After) {
        match after {
            After::Output(output) => self.outbox.push_back(output),
            After::Submit { id, statements } => self.submit_durable(id, &statements),
            After::Reserved => {
                if let Stage::Member(m) = &mut self.stage {
                    m.reporter.reserved();
                }
            }
            After::Files(effect) => {
                let id = self.effect_id();
                self.files_effect = Some(id);
                self.outbox.push_back(Output::Run { id, effect });
            }
        }
    }

    fn refuse(&mut self, id: CommandId, code: &'static str, why: String) {
        self.outbox.push_back(Output::Reply {
            id,
            reply: Reply::Refused { code, why },
        });
    }

    fn command(&mut self, id: CommandId, command: Command) {
        let Stage::Member(member) = &mut self.stage else {
            return self.refuse(
                id,
                "M001",
                "this machine has not joined its mesh yet".to_owned(),
            );
        };
        match command {
            Command::View(mask) => {
                if let Some(view) = self.view(mask) {
                    self.outbox.push_back(Output::Reply {
                        id,
                        reply: Reply::View(Box::new(view)),
                    });
                }
            }
            Command::Block { peers } => {
                member
                    .mesh
                    .handle(self.now, MeshInput::Block(peers.into_iter().collect()));
                self.outbox.push_back(Output::Reply {
                    id,
                    reply: Reply::Ok,
                });
            }
            Command::Prepare { .. } | Command::Submit { .. } if member.submitting => {
                if member.queued.len() >= QUEUED_COMMANDS_MAX {
                    return self.refuse(
                        id,
                        "M012",
                        "too many changes wait for the store of this node".to_owned(),
                    );
                }
                member.queued.push_back((id, command));
            }
            Command::Prepare { author } => {
                let tail = member.replica.log.tail(&author);
                let mesh = member.replica.log.mesh();
                let prepared = Prepared {
                    mesh,
                    seq: tail.seq,
                    prev: tail.prev,
                    refs: tail.refs,
                    hlc: sane_stamp(tail.hlc, self.now.wall),
                };
                self.outbox.push_back(Output::Reply {
                    id,
                    reply: Reply::Prepared(prepared),
                });
            }
            Command::Submit { statements } => self.submit(id, statements),
        }
    }

    fn submit(&mut self, id: CommandId, statements: Vec<Bytes>) {
        let Stage::Member(member) = &mut self.stage else {
            return;
        };
        let ids = match member.replica.log.check(&statements, self.now.wall) {
            Ok(ids) => ids,
            Err(refusal) => {
                let why = refusal.to_string();
                if let Some(bytes) = statements.first() {
                    member
                        .replica
                        .note_refusal(bytes, None, why.clone(), self.now);
                }
                let code = if matches!(refusal, lab_crdt_log::Refusal::Behind) {
                    "M013"
                } else {
                    "M010"
                };
                self.outbox.push_back(Output::Tell(Event::StatementRefused {
                    id: None,
                    why: why.clone(),
                }));
                return self.refuse(id, code, why);
            }
        };
        if self.stores.bytes > UNSTORED_BYTES_MAX {
            return self.refuse(
                id,
                "M011",
                "the store of this node refuses writes".to_owned(),
            );
        }
        let batch = ids
            .iter()
            .zip(&statements)
            .map(|(id, bytes)| put(Table::Statements, &id.0, bytes.to_vec()))
            .collect();
        member.submitting = true;
        self.store(batch, vec![After::Submit { id, statements }]);
    }

    fn submit_durable(&mut self, id: CommandId, statements: &[Bytes]) {
        let mut ids = Vec::new();
        if let Stage::Member(member) = &mut self.stage {
            for bytes in statements {
                match member.replica.take_statement(bytes, None, self.now) {
                    Ok(Outcome::Stored { ids: new }) => ids.extend(new.first()),
                    Ok(Outcome::Known(known)) => ids.push(known),
                    Ok(Outcome::Waiting { .. }) | Err(_) => {}
                }
                member.broadcasts.push(push(PUSH_STATEMENT, bytes));
            }
        }
        self.outbox.push_back(Output::Reply {
            id,
            reply: Reply::Submitted { ids },
        });
        self.submit_done();
    }

    fn submit_done(&mut self) {
        let Stage::Member(member) = &mut self.stage else {
            return;
        };
        member.submitting = false;
        while let Stage::Member(member) = &mut self.stage
            && !member.submitting
            && let Some((id, command)) = member.queued.pop_front()
        {
            self.command(id, command);
        }
    }

    fn done(&mut self, id: EffectId, result: &EffectResult) {
        match result {
            EffectResult::Facts(facts) if self.facts_effect == Some(id) => {
                self.facts_effect = None;
                match &mut self.stage {
                    Stage::Member(m) => m.reporter.facts = Some(facts.clone()),
                    Stage::Joining(j) => j.facts = Some(facts.clone()),
                }
            }
            EffectResult::Files(outcomes) if self.files_effect == Some(id) => {
                self.files_effect = None;
                let Stage::Member(m) = &mut self.stage else {
                    return;
                };
                let jitter = self.rng.next_u64() % (self.config.converge_ms / 4 + 1);
                m.converge.next_at = self.now.mono.plus_ms(self.config.converge_ms + jitter);
                if let Some(applied) =
                    m.converge
                        .finish(outcomes, &mut m.reporter.status, self.now.wall)
                {
                    m.replica.batch.extend(applied.batch);
                    if applied.changed_count > 0 || applied.failed_count > 0 {
                        self.outbox.push_back(Output::Tell(Event::ConfigApplied {
                            hash: applied.hash,
                            changed_count: applied.changed_count,
                            failed_count: applied.failed_count,
                        }));
                    }
                }
            }
            EffectResult::Facts(_) | EffectResult::Files(_) => {}
        }
    }

    fn mesh_input(&mut self, input: MeshInput) {
        match &mut self.stage {
            Stage::Member(m) => m.mesh.handle(self.now, input),
            Stage::Joining(joining) => {
                if matches!(input, MeshInput::Wake) {
                    let wishes = joining.joiner.wake(self.now.mono);
                    self.carry_out(wishes);
                }
            }
        }
    }

    fn mesh_link(&mut self, peer: NodeId, state: LinkState) {
        if let (
            Stage::Member(m),
            LinkState::Up {
                address: Some(address),
            },
        ) = (&mut self.stage, &state)
        {
            // The address book outlives restarts and says where a peer was really reached.
            let book = m.known_addresses.entry(peer).or_default();
            if book.first() != Some(address) {
                book.retain(|a| a != address);
                book.insert(0, *address);
                book.truncate(4);
                let value = postcard::to_stdvec(&*book).unwrap_or_default();
                m.replica.batch.push(put(Table::Addresses, &peer.0, value));
            }
        }
        self.mesh_input(match state {
            LinkState::Up { address } => MeshInput::LinkUp { peer, address },
            LinkState::Down { why } => MeshInput::LinkDown { peer, why },
            LinkState::DialFailed { why } => MeshInput::DialFailed { peer, why },
        });
    }

    fn join_link(&mut self, peer: NodeId, state: &LinkState) {
        let (keys, now) = (self.keys.clone(), self.now);
        match &mut self.stage {
            Stage::Joining(joining) => match state {
                LinkState::Up { .. } => {
                    let wishes = joining.joiner.linked(peer, &keys);
                    self.carry_out(wishes);
                }
                LinkState::Down { .. } | LinkState::DialFailed { .. } => {
                    joining.joiner.lost(&peer, now.mono);
                }
            },
            Stage::Member(m) => {
                if !matches!(state, LinkState::Up { .. }) {
                    m.sponsoring.lost(&peer);
                }
            }
        }
    }

    fn join_frame(&mut self, from: NodeId, bytes: &Bytes) {
        let (keys, now) = (self.keys.clone(), self.now);
        match &mut self.stage {
            Stage::Joining(joining) => {
                let wishes = joining.joiner.frame(from, bytes, &keys);
                self.carry_out(wishes);
            }
            Stage::Member(m) => {
                let words = m.sponsoring.frame(&mut m.replica, &keys, from, bytes, now);
                self.say(words);
            }
        }
    }

    fn say(&mut self, words: Vec<Word>) {
        for word in words {
            let output = Output::Send {
                to: word.to,
                channel: Channel::Join,
                lane: Lane::Bulk,
                bytes: word.frame,
            };
            if !word.is_after_store {
                self.outbox.push_back(output);
                continue;
            }
            let batch = match &mut self.stage {
                Stage::Member(m) => std::mem::take(&mut m.replica.batch),
                Stage::Joining(_) => Batch::new(),
            };
            self.store(batch, vec![After::Output(output)]);
        }
    }

    fn carry_out(&mut self, wishes: Vec<JoinerWish>) {
        for wish in wishes {
            match wish {
                JoinerWish::Dial(peer, addresses) => {
                    self.outbox.push_back(Output::Dial {
                        peer,
                        channel: Channel::Join,
                        addresses,
                    });
                }
                JoinerWish::Send(to, bytes) => {
                    self.outbox.push_back(Output::Send {
                        to,
                        channel: Channel::Join,
                        lane: Lane::Bulk,
                        bytes,
                    });
                }
                JoinerWish::Refused {
                    why,
                    is_final,
                    from,
                } => {
                    self.outbox
                        .push_back(Output::Tell(Event::JoinRefused { why, is_final }));
                    self.outbox.push_back(Output::Hangup {
                        peer: from,
                        channel: Channel::Join,
                        why: Reason::Done,
                    });
                    if let Stage::Joining(joining) = &mut self.stage {
                        joining.joiner.lost(&from, self.now.mono);
                    }
                }
                JoinerWish::Enter { root, members } => self.enter(root, members),
            }
        }
    }

    /// The mesh let us in: from here on this is a member that has heard nothing yet.
    fn enter(&mut self, root: SignedRoot, members: Vec<(NodeId, Vec<SocketAddr>)>) {
        let Stage::Joining(joining) = &mut self.stage else {
            return;
        };
        let (addresses, facts) = (std::mem::take(&mut joining.addresses), joining.facts.take());
        let me = self.keys.node();
        let sponsors: BTreeMap<_, _> = members
            .into_iter()
            .filter(|(node, _)| *node != me)
            .collect();
        let encoded = root.encode();
        let Ok(mut member) = self.member(root, &BTreeMap::new(), &mut Tables::new()) else {
            return;
        };
        member.reporter.addresses = addresses;
        member.reporter.facts = facts;
        member
            .replica
            .batch
            .push(put(Table::Meta, META_ROOT, encoded));
        let record = postcard::to_stdvec(&sponsors).unwrap_or_default();
        member
            .replica
            .batch
            .push(put(Table::Meta, META_SPONSORS, record));
        for peer in sponsors.keys() {
            self.outbox.push_back(Output::Hangup {
                peer: *peer,
                channel: Channel::Join,
                why: Reason::Done,
            });
        }
        member.sponsors = sponsors;
        self.stage = Stage::Member(Box::new(member));
    }

    /// Ends a turn: works off what the inputs started until nothing more follows from it.
    fn settle(&mut self, is_wake: bool) {
        if is_wake {
            self.wake();
        }
        // Each round can only be caused by something new in the replica or the mesh; the bound is a safety net.
        for _round in 0..64 {
            self.drain_mesh();
            if !self.fold() {
                break;
            }
        }
        self.speak();
        self.drain_mesh();
        self.converge();
        self.flush();
    }

    fn wake(&mut self) {
        let now = self.now.mono;
        if self.stores.retry_at.is_some_and(|at| at <= now) {
            self.write_again();
        }
        let Stage::Member(m) = &mut self.stage else {
            return;
        };
        if m.tidy_at <= now {
            m.tidy_at = now.plus_ms(TIDY_MS);
            m.replica.log.expire_waiting(now);
        }
    }

    fn drain_mesh(&mut self) {
        let Stage::Member(m) = &mut self.stage else {
            return;
        };
        for payload in std::mem::take(&mut m.broadcasts) {
            m.mesh.handle(self.now, MeshInput::Broadcast { payload });
        }
        while let Stage::Member(m) = &mut self.stage
            && let Some(output) = m.mesh.poll()
        {
            self.mesh_output(output);
        }
    }

    fn mesh_output(&mut self, output: MeshOutput) {
        let Stage::Member(m) = &mut self.stage else {
            return;
        };
        let now = self.now;
        match output {
            MeshOutput::Send { to, lane, bytes } => {
                self.outbox.push_back(Output::Send {
                    to,
                    channel: Channel::Mesh,
                    lane,
                    bytes,
                });
            }
            MeshOutput::Dial { peer, addresses } => {
                let mut all = addresses;
                for address in m.known_addresses.get(&peer).into_iter().flatten() {
                    if !all.contains(address) {
                        all.push(*address);
                    }
                }
                self.outbox.push_back(Output::Dial {
                    peer,
                    channel: Channel::Mesh,
                    addresses: all,
                });
            }
            MeshOutput::Hangup { peer, why } => {
                self.outbox.push_back(Output::Hangup {
                    peer,
                    channel: Channel::Mesh,
                    why,
                });
            }
            MeshOutput::Deliver { from, payload } => match payload.split_first() {
                Some((&PUSH_STATEMENT, _)) => self.take_statement(&payload.slice(1..), from),
                Some((&PUSH_REGISTER, _)) => self.take_register(&payload.slice(1..), from),
                _ => {}
            },
            MeshOutput::SyncOpen { peer } => {
                m.replica.log.forget_full();
                let mut messages = sync::open(&m.replica.log, &m.replica.registers);
                let wanted = m.replica.log.wanted(WANTED_MAX);
                if !wanted.is_empty() {
                    messages.push(sync::want(wanted));
                }
                m.mesh
                    .handle(now, MeshInput::SyncReply { to: peer, messages });
            }
            MeshOutput::SyncMessage { from, bytes } => self.sync_message(from, &bytes),
            MeshOutput::RefuteSuspicion => {
                let soon = now.mono.max(m.last_beacon.plus_ms(BEACON_MS_MIN));
                m.beacon_at = m.beacon_at.min(soon);
            }
            MeshOutput::Liveness { node, state } => {
                self.outbox.push_back(Output::Tell(Event::PeerChanged {
                    node,
                    liveness: state,
                }));
            }
            MeshOutput::Diverged { peer, ours, theirs } => {
                self.outbox
                    .push_back(Output::Tell(Event::ReplicasDiverged { peer, ours, theirs }));
            }
        }
    }

    fn sync_message(&mut self, from: NodeId, bytes: &Bytes) {
        let Stage::Member(m) = &mut self.stage else {
            return;
        };
        let Ok(answer) = sync::answer(&m.replica.log, &m.replica.registers, bytes) else {
            self.outbox.push_back(Output::Hangup {
                peer: from,
                channel: Channel::Mesh,
                why: Reason::Protocol,
            });
            return;
        };
        let mut messages = answer.messages;
        let progress = m.replica.log.progress();
        let has_statements = !answer.statements.is_empty();
        for statement in &answer.statements {
            self.take_statement(statement, from);
        }
        if has_statements && let Stage::Member(m) = &mut self.stage {
            // Reports of newcomers count only once their joins do.
            m.replica.log.authority();
        }
        for register in &answer.registers {
            self.take_register(register, from);
        }
        let Stage::Member(m) = &mut self.stage else {
            return;
        };
        // An exchange goes on only while it leads to something: what is refused here would be sent for ever.
        let is_progress = m.replica.log.progress() != progress;
        if let Some(resume) = answer.resume.filter(|_| is_progress) {
            messages.push(sync::resume(&m.replica.log, &m.replica.registers, resume));
        }
        if is_progress {
            let wanted = m.replica.log.wanted(WANTED_MAX);
            if !wanted.is_empty() {
                messages.push(sync::want(wanted));
            }
        }
        if !messages.is_empty() {
            m.mesh
                .handle(self.now, MeshInput::SyncReply { to: from, messages });
        }
    }

    fn take_statement(&mut self, bytes: &Bytes, from: NodeId) {
        let Stage::Member(m) = &mut self.stage else {
            return;
        };
        if let Err(refusal) = m.replica.take_statement(bytes, Some(from), self.now) {
            let why = refusal.to_string();
            self.outbox
                .push_back(Output::Tell(Event::StatementRefused { id: None, why }));
        }
    }

    fn take_register(&mut self, bytes: &Bytes, from: NodeId) {
        let Stage::Member(m) = &mut self.stage else {
            return;
        };
        let Some((node, section, seq)) = m.replica.take_register(bytes, Some(from), self.now)
        else {
            return;
        };
        if node == self.keys.node() {
            if m.reporter.saw_own(seq) {
                m.beacon_at = self.now.mono;
            }
            return;
        }
        if section == Section::Beacon {
            m.mesh
                .handle(self.now, MeshInput::Beacon { node, counter: seq });
            m.refresh_roster(self.now);
        }
        self.outbox
            .push_back(Output::Tell(Event::ReportArrived { node }));
    }

    /// Brings everything that follows from the replica up to date. Returns whether anything changed.
    fn fold(&mut self) -> bool {
        let me = self.keys.node();
        let (keys, now) = (self.keys.clone(), self.now);
        let Stage::Member(m) = &mut self.stage else {
            return false;
        };
        let is_lease_over = m.lease_at.is_some_and(|at| at <= now.mono);
        let mut folded = m.replica.fold();
        let is_first = m.admitted.is_empty() && !m.joined_told;
        if folded.has_new_statements && witness_asked(&mut m.replica, &keys, now) {
            let more = m.replica.fold();
            folded.touched = folded
                .touched
                .zip(more.touched)
                .map(|(a, b)| [a, b].concat());
        }
        let words = m.sponsoring.settle(&mut m.replica, now, || {
            m.mesh
                .peers(now)
                .iter()
                .filter(|p| p.is_linked)
                .map(|p| (p.node, p.address.into_iter().collect()))
                .collect()
        });
        let has_words = !words.is_empty();
        if folded.has_new_statements || is_first || is_lease_over {
            let digest = m.replica.log.digest();
            let admit = m.gate(&me, now);
            if admit != m.admitted {
                m.admitted = admit.clone();
                self.outbox.push_back(Output::Admit(admit));
            }
            m.refresh_roster(now);
            for key in m.drop_reports_of_strangers(now) {
                m.replica.batch.push(StoreOp::Delete {
                    table: Table::Registers,
                    key,
                });
            }
            m.converge.refresh(
                &me,
                &m.replica.log,
                &m.replica.document,
                folded.touched.as_deref(),
                now.wall,
            );
            if let Some(desired) = m.converge.desired() {
                m.reporter.status.desired = desired;
            }
            let member = m
                .replica
                .log
                .authority_as_resolved()
                .roster
                .members
                .get(&me);
            m.was_joined = member.is_some_and(|s| s.is_admitted_at(now.wall));
            if m.was_joined && !m.joined_told {
                m.joined_told = true;
                let name = member.map(|s| s.name.clone()).unwrap_or_default();
                if !m.sponsors.is_empty() {
                    m.sponsors.clear();
                    m.replica.batch.push(StoreOp::Delete {
                        table: Table::Meta,
                        key: META_SPONSORS.to_vec(),
                    });
                }
                // Told once the replica that says so is durable.
                let batch = std::mem::take(&mut m.replica.batch);
                self.store(
                    batch,
                    vec![After::Output(Output::Tell(Event::NodeJoined {
                        node: me,
                        name,
                    }))],
                );
            }
            self.outbox
                .push_back(Output::Tell(Event::IntentChanged { digest }));
            let Stage::Member(m) = &mut self.stage else {
                return false;
            };
            let forked: Vec<_> = m.replica.log.forked().collect();
            if forked.len() > m.fork_count {
                m.fork_count = forked.len();
                for author in forked {
                    self.outbox
                        .push_back(Output::Tell(Event::ForkFound { author }));
                }
            }
        }
        self.say(words);
        let Stage::Member(m) = &mut self.stage else {
            return false;
        };
        m.mesh.handle(
            now,
            MeshInput::Digests {
                statements: m.replica.log.digest(),
                registers: m.replica.registers.digest(),
            },
        );
        folded.has_new_statements || has_words
    }

    /// Says what is new about this node.
    fn speak(&mut self) {
        let now = self.now;
        let Stage::Member(m) = &mut self.stage else {
            return;
        };
        if let Some(op) = m.reporter.reserve() {
            self.store(vec![op], vec![After::Reserved]);
        }
        let Stage::Member(m) = &mut self.stage else {
            return;
        };
        if !m.was_joined || !m.reporter.can_speak() {
            return;
        }
        let mesh = m.replica.log.mesh();
        let mut sealed = Vec::new();
        if m.reporter.has_news() {
            // What one edit changes on every node is told spread out, or all would speak at the same moment; and what
            // is wanted and what was done about it is told together.
            let nodes = m.admitted.len() as u64 + 1;
            let spread = (nodes * NEWS_MS_PER_NODE).min(NEWS_MS_MAX);
            let at = *m.news_at.get_or_insert_with(|| {
                now.mono
                    .plus_ms(NEWS_MS_MIN + self.rng.next_u64() % (spread + 1))
            });
            if at <= now.mono {
                m.news_at = None;
                sealed = m.reporter.news(&mesh, &self.keys);
            }
        } else {
            m.news_at = None;
        }
        if m.beacon_at <= now.mono {
            let nodes = m.admitted.len() as u64 + 1;
            let period =
                (self.config.beacon_ms * nodes.div_ceil(BEACON_NODES).max(1)).min(BEACON_MS_MAX);
            let jitter = self.rng.next_u64() % (period / 5 + 1);
            m.beacon_at = now.mono.plus_ms(period + jitter);
            m.last_beacon = now.mono;
            let beacon = Beacon {
                incarnation: m.reporter.incarnation,
                wall: now.wall,
                digest: m.replica.log.digest(),
                addresses: m.reporter.addresses.clone(),
                link_count: m.mesh.peers(now).iter().filter(|p| p.is_linked).count() as u16,
                version: self.config.version.clone(),
            };
            sealed.extend(m.reporter.beacon(&mesh, &self.keys, beacon));
        }
        for bytes in sealed {
            m.replica.take_register(&bytes, None, now);
            m.broadcasts.push(push(PUSH_REGISTER, &bytes));
        }
        m.mesh.handle(
            now,
            MeshInput::Digests {
                statements: m.replica.log.digest(),
                registers: m.replica.registers.digest(),
            },
        );
    }

    fn converge(&mut self) {
        let now = self.now;
        let Stage::Member(m) = &mut self.stage else {
            return;
        };
        if !m.was_joined {
            return;
        }
        let digest = m.replica.log.digest();
        if let Some((effect, batch)) = m.converge.start(digest, now.mono) {
            if batch.is_empty() {
                self.after(After::Files(effect));
            } else {
                self.store(batch, vec![After::Files(effect)]);
            }
        }
    }

    fn flush(&mut self) {
        let Stage::Member(m) = &mut self.stage else {
            return;
        };
        let batch = std::mem::take(&mut m.replica.batch);
        if !batch.is_empty() {
            self.store(batch, Vec::new());
        }
    }

    /// Tells the peers that this agent stops; drain [`Agent::poll`] afterwards.
    pub fn stop(&mut self, now: Now) {
        self.now = now;
        self.mesh_input(MeshInput::Stop);
        self.drain_mesh();
    }
}

/// The newest stamp seen, as far as it can be believed.
pub(crate) fn sane_stamp(seen: Hlc, wall: Wall) -> Hlc {
    seen.min(Hlc::from_wall(Wall(
        wall.0.saturating_add(STAMP_AHEAD_MS_MAX),
    )))
}

fn push(what: u8, bytes: &[u8]) -> Bytes {
    [&[what], bytes].concat().into()
}

impl Member {
    /// Who may hold a mesh link.
    fn gate(&mut self, me: &NodeId, now: Now) -> BTreeSet<NodeId> {
        let roster = &self.replica.log.authority().roster;
        let mut admit: BTreeSet<NodeId> = roster
            .members
            .values()
            .filter(|m| m.is_admitted_at(now.wall))
            .map(|m| m.node)
            .collect();
        let ends = roster
            .members
            .values()
            .filter(|m| m.is_admitted_at(now.wall))
            .filter_map(|m| m.not_after);
        self.lease_at = ends
            .min()
            .map(|end| now.mono.plus_ms(end.0.saturating_sub(now.wall.0) + 1));
        if !admit.contains(me) {
            admit.extend(self.sponsors.keys());
        }
        admit.remove(me);
        admit
    }

    fn refresh_roster(&mut self, now: Now) {
        let mut members = BTreeMap::new();
        for node in &self.admitted {
            let mut issues = Vec::new();
            let beacon = present::body::<Beacon>(&self.replica, node, Section::Beacon, &mut issues);
            let mut addresses = beacon.map(|(b, _)| b.addresses).unwrap_or_default();
            for known in [self.known_addresses.get(node), self.sponsors.get(node)]
                .into_iter()
                .flatten()
                .flatten()
            {
                if !addresses.contains(known) {
                    addresses.push(*known);
                }
            }
            addresses.truncate(8);
            members.insert(*node, addresses);
        }
        self.mesh.handle(now, MeshInput::Roster { members });
    }

    fn drop_reports_of_strangers(&mut self, now: Now) -> Vec<Vec<u8>> {
        let members = &self.replica.log.authority_as_resolved().roster.members;
        let keep = |node: &NodeId| {
            members
                .get(node)
                .is_some_and(|m| m.is_admitted_at(now.wall))
        };
        self.replica
            .registers
            .retain(keep)
            .iter()
            .map(|(node, section)| register_key(node, *section))
            .collect()
    }
}
