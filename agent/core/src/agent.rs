//! The agent: routes inputs to its parts and owns the outbox. Decides nothing that a part could decide.

mod asked;
mod auditing;
mod fetching;
mod figures;
mod handed;
mod intake;
mod joining;
mod mending;
mod meshing;
mod settling;
mod storing;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use lab_crdt_log::{Act, Alarm, Authority, Outcome, SignedRoot, step_key, sync};
use lab_crdt_model::link::{Channel, Lane, Reason};
use lab_crdt_model::report::{AuditHead, Beacon, Facts, Section};
use lab_crdt_model::store::{Batch, StoreOp, Table, Tables};
use lab_crdt_model::view::{MemberState, PeerView};
use lab_crdt_model::{
    AuthorId, Caller, Hardware, Hlc, Issue, MeshId, Mono, NodeId, Now, Standing, Wall, mutant,
    reached, sometimes,
};
use lab_mesh_proto::{Mesh, MeshInput, MeshOutput};
use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};

use crate::boot::{
    Boot, BootError, Config, META_ROOT, META_SEQ, META_SPONSORS, META_TIME, NodeKeys,
};
use crate::command::{Command, CommandId, Prepared, Reply, ViewMask};
use crate::converge::{Converge, Observed};
use crate::held::Held;
use crate::input::{EffectResult, Input, LinkState};
use crate::join::{Joiner, JoinerWish, Sponsoring, Word, witness_asked};
use crate::output::{Effect, EffectId, Event, Output, StoreId};
use crate::present;
use crate::replica::{Replica, WentBack, put, register_key};
use crate::report::Reporter;
use crate::time::Clock;
use crate::vouching::Vouching;

use fetching::Fetch;
use handed::Handed;
use intake::Intake;
use mending::Loss;

/// A pushed payload starts with what it is.
const PUSH_STATEMENT: u8 = 1;
const PUSH_REGISTER: u8 = 2;

/// Bytes waiting for a store that refuses them; beyond this, handed-in statements are refused at once.
const UNSTORED_BYTES_MAX: usize = 64 << 20;
const STORE_RETRY_MS: u64 = 1_000;
/// Dropping statements that wait for nothing that will come, and asking for what waiting ones need.
const TIDY_MS: u64 = 30_000;
/// Looking at what the machine is; at most once per look at its files.
const FACTS_MS: u64 = 600_000;
const WANTED_MAX: usize = 64;
/// Beacons of a mesh of this many nodes come at the configured rate; in larger ones, each node slows down.
const BEACON_NODES: u64 = 12;
/// Reached at 34,560 nodes; beyond them all together speak more often.
const BEACON_MS_MAX: u64 = 24 * 3_600_000;
/// At most one beacon on demand (suspicion, new addresses) in this time.
const BEACON_MS_MIN: u64 = 1_000;
/// How far ahead of this node's clock a stamp may be that is handed on to the next author. Beyond it a clock is wrong
/// or someone lies, and every grant with an end would be over for whoever counts on from there.
const STAMP_AHEAD_MS_MAX: u64 = 5 * 60_000;
/// News about this node wait at least this long, and up to so much longer per node of the mesh, milliseconds.
const NEWS_MS_MIN: u64 = 20;
const NEWS_MS_PER_NODE: u64 = 10;
const NEWS_MS_MAX: u64 = 30_000;
/// Most addresses that one dial tries.
const DIAL_ADDRESSES_MAX: usize = 8;
/// How long a node that started waits for someone who may know what it said in a former life, milliseconds; and how long
/// for someone with whom it becomes equal.
const ALONE_MS: u64 = 10_000;
const UNSURE_MS_MAX: u64 = 60_000;
const QUEUED_COMMANDS_MAX: usize = 256;
/// Places for outputs that are kept while there are none: opinions of all members may come at once.
const OUTBOX_KEPT: usize = 64;

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
    /// The time as far as it is known; see [`Clock`].
    now: Now,
    /// What the clock of this machine says.
    wall: Wall,
    outbox: VecDeque<Output>,
    stage: Stage,
    next_id: u64,
    stores: Stores,
    facts_effect: Option<EffectId>,
    facts_at: Mono,
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
    facts: Option<Facts>,
}

struct Member {
    replica: Replica,
    mesh: Mesh,
    reporter: Reporter,
    converge: Converge,
    sponsoring: Sponsoring,
    vouching: Vouching,
    /// Whom a newcomer may talk to until it can tell members by itself.
    sponsors: BTreeMap<NodeId, Vec<SocketAddr>>,
    known_addresses: BTreeMap<NodeId, Vec<SocketAddr>>,
    /// Who may hold a mesh link; this node as well.
    admitted: Arc<BTreeSet<NodeId>>,
    clock: Clock,
    /// Of which stamp of an admin the clock was told last.
    told_stamp: Hlc,
    /// The store lost records, and they are not back yet.
    loss: Option<Loss>,
    /// A peer would have told it if this node had said more in a former life than is here.
    is_sure: bool,
    /// Who was asked last for statements and may still be sending them.
    fetching: Option<Fetch>,
    /// What exchanges brought and was not taken in yet.
    intake: Intake,
    /// Waiting statements needed others when an exchange was last opened.
    was_wanting: bool,
    was_joined: bool,
    joined_told: bool,
    beacon_at: Mono,
    last_beacon: Mono,
    news_at: Option<Mono>,
    tidy_at: Mono,
    /// When the next lease of a member ends, so that the gate closes then.
    lease_at: Option<Mono>,
    /// Whose devices may ask over the remote API.
    devices: Arc<BTreeMap<AuthorId, Standing>>,
    /// When the next of their grants ends.
    grant_at: Option<Mono>,
    /// What `admitted` follows from: the authority, and how many leases are over.
    gate_of: Option<(Arc<Authority>, usize)>,
    /// A report was taken in of someone who is not in `admitted`.
    has_odd_reports: bool,
    /// What the mesh was told last of what the replica holds.
    told_digests: Option<[[u8; 32]; 2]>,
    broadcasts: Vec<Bytes>,
    /// A submission that is being made durable; later ones wait.
    submitting: bool,
    queued: VecDeque<(CommandId, Command)>,
    /// How much was handed in here of late, by author.
    handed: Handed,
    fork_count: usize,
    /// Audit chains of others.
    held: Held,
    /// This node has the label that makes it hold them.
    is_audit_node: bool,
    /// Members that are suspended or revoked, and the authority that says so.
    out: Option<(Arc<Authority>, OutOfMesh)>,
}

/// Members that are suspended or revoked.
type OutOfMesh = Arc<BTreeMap<NodeId, MemberState>>;

/// Writes under way, and what may happen only after them.
#[derive(Default)]
struct Stores {
    under_way: BTreeMap<StoreId, Pending>,
    /// What failed, and what must not be written before it.
    retry: BTreeMap<StoreId, Pending>,
    retry_at: Option<Mono>,
    /// Why the store takes no writes; until it takes one again.
    why: Option<String>,
    bytes: usize,
}

impl Stores {
    /// What a person has to know of it.
    fn issue(&self) -> Option<Issue> {
        let what = format!(
            "the disk of this machine takes no writes: {}",
            self.why.as_ref()?
        );
        Some(
            Issue::error("M041", "store", what)
                .with_help("make room or replace the disk, then restart the agent"),
        )
    }
}

struct Pending {
    batch: Batch,
    after: Vec<After>,
}

enum After {
    Output(Output),
    Submit {
        id: CommandId,
        caller: Caller,
        /// Of the audit chain, with the record of it.
        head: AuditHead,
        statements: Vec<Bytes>,
    },
    /// The audit chain is durable up to here.
    Audited(AuditHead),
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
            wall: now.wall,
            outbox: VecDeque::new(),
            stage: Stage::Joining(Box::new(Joining {
                joiner: Joiner::new(
                    lab_crdt_model::token::Token::Typed(lab_crdt_model::token::Seed::Long([0; 16])),
                    vec![],
                    None,
                    Hardware::default(),
                    [0; 16],
                ),
                addresses: vec![],
                facts: None,
            })),
            next_id: 1,
            stores: Stores::default(),
            facts_effect: None,
            facts_at: now.mono,
            files_effect: None,
        };
        match boot {
            Boot::Joining {
                token,
                via,
                operator_key,
                hardware,
            } => {
                let mut nonce = [0; 16];
                agent.rng.fill_bytes(&mut nonce);
                let joiner = Joiner::new(token, via, operator_key, hardware, nonce);
                agent.stage = Stage::Joining(Box::new(Joining {
                    joiner,
                    addresses: vec![],
                    facts: None,
                }));
            }
            Boot::Stored { tables } => agent.boot_stored(None, tables)?,
            Boot::Imaged { image, tables } => agent.boot_stored(Some(&image), tables)?,
        }
        agent.read_facts();
        agent.settle(true);
        Ok(agent)
    }

    /// Looks what this machine is, and again later: names, disks and links change while an agent runs.
    fn read_facts(&mut self) {
        let id = self.effect_id();
        self.facts_effect = Some(id);
        self.facts_at = self.now.mono.plus_ms(FACTS_MS);
        self.outbox.push_back(Output::Run {
            id,
            effect: Effect::Facts,
        });
    }

    fn boot_stored(
        &mut self,
        image: Option<&Arc<Tables>>,
        mut tables: Tables,
    ) -> Result<(), BootError> {
        let of_all = image.and_then(|image| image.get(&Table::Meta));
        let own = tables.remove(&Table::Meta).unwrap_or_default();
        let meta: BTreeMap<_, _> = of_all.into_iter().flatten().cloned().chain(own).collect();
        let root = meta.get(META_ROOT).ok_or(BootError::NoMesh)?;
        let audit = tables.remove(&Table::Audit).unwrap_or_default();
        let mut member = self.member(SignedRoot::decode(root)?, &meta, image, &mut tables)?;
        member.restore_audit(&self.keys.node(), audit, self.now);
        member.note_start(&self.config.version, self.now);
        member.observe(&self.config.version);
        member.look_for_losses(&self.keys.node());
        member.tell_clock(&self.keys.node());
        self.stage = Stage::Member(Box::new(member));
        self.look_at_clock(self.now);
        Ok(())
    }

    fn member(
        &mut self,
        root: SignedRoot,
        meta: &BTreeMap<Vec<u8>, Vec<u8>>,
        image: Option<&Arc<Tables>>,
        tables: &mut Tables,
    ) -> Result<Member, BootError> {
        let now = self.now;
        let mut replica = Replica::new(root, &self.config.memo)?;
        replica.restore(image, tables);
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
        for register in replica.registers.of(&self.keys.node()) {
            reporter.saw_own(register.seq);
        }
        let me = self.keys.node();
        let mut issues = Vec::new();
        let facts = present::body(&replica, &me, Section::Facts, &mut issues);
        let status = present::body(&replica, &me, Section::Status, &mut issues);
        reporter.remember(facts, status);
        let converge = Converge::new(meta, &mut reporter.status, now.mono);
        // All at once, and every node would hear of every other in the same moment. Nobody waits for it: who was missed
        // hears that from its first peers.
        let said = present::body::<Beacon>(&replica, &me, Section::Beacon, &mut issues);
        let is_old_news = said
            .as_ref()
            .is_some_and(|b| b.version == self.config.version);
        // Others, and they are said at once.
        reporter.addresses = said.map(|b| b.addresses).unwrap_or_default();
        let spread = match replica.log.authority().roster.members.len() as u64 {
            0..=BEACON_NODES => 0,
            nodes if is_old_news => beacon_period(self.config.beacon_ms, nodes),
            nodes => (nodes * NEWS_MS_PER_NODE).min(NEWS_MS_MAX),
        };
        let wait = self.rng.next_u64() % (spread + 1);
        let mut mesh_seed = [0; 32];
        self.rng.fill_bytes(&mut mesh_seed);
        let mesh = Mesh::new(self.keys.node(), self.config.mesh.clone(), mesh_seed, now);
        Ok(Member {
            replica,
            mesh,
            reporter,
            converge,
            sponsoring: Sponsoring::default(),
            vouching: Vouching::default(),
            sponsors,
            known_addresses,
            admitted: Arc::default(),
            clock: Clock::from_stored(meta.get(META_TIME).map(Vec::as_slice)),
            told_stamp: Hlc::default(),
            loss: None,
            is_sure: false,
            fetching: None,
            intake: Intake::default(),
            was_wanting: false,
            was_joined: false,
            joined_told: false,
            beacon_at: now.mono.plus_ms(wait),
            last_beacon: Mono::default(),
            news_at: None,
            tidy_at: now.mono.plus_ms(TIDY_MS),
            lease_at: None,
            devices: Arc::default(),
            grant_at: None,
            gate_of: None,
            has_odd_reports: false,
            told_digests: None,
            broadcasts: Vec::new(),
            submitting: false,
            queued: VecDeque::new(),
            handed: Handed::default(),
            fork_count: 0,
            held: Held::default(),
            is_audit_node: false,
            out: None,
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

    /// The mesh as seen from here.
    pub fn peers(&self) -> Vec<PeerView> {
        match &self.stage {
            Stage::Member(member) => member.peers(self.now),
            Stage::Joining(_) => Vec::new(),
        }
    }

    /// Takes one input in. Afterwards, call [`Agent::poll`] until it returns `None`.
    pub fn handle(&mut self, now: Now, input: Input) {
        self.look_at_clock(now);
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
            Input::Frame {
                from,
                channel: Channel::Audit,
                lane: _,
                bytes,
            } => self.audit_frame(from, &bytes),
            Input::Link {
                peer,
                channel: Channel::Audit,
                state,
            } => self.audit_link(peer, &state),
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
                        member.observe(&self.config.version);
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

    fn look_at_clock(&mut self, now: Now) {
        let mono = now.mono.max(self.now.mono);
        let mut now = Now { mono, ..now };
        self.wall = now.wall;
        if let Stage::Member(m) = &mut self.stage {
            let (wall, is_jump) = m.clock.now(now);
            now.wall = wall;
            if is_jump && m.lease_at.is_some() {
                m.lease_at = Some(mono);
            }
            if let Some(value) = m.clock.write_down() {
                m.replica.batch.push(put(Table::Meta, META_TIME, value));
            }
        }
        self.now = now;
    }

    /// The next thing to carry out, in order.
    pub fn poll(&mut self) -> Option<Output> {
        let next = self.outbox.pop_front();
        if next.is_none() && self.outbox.capacity() > OUTBOX_KEPT {
            self.outbox.shrink_to(OUTBOX_KEPT);
        }
        next
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
                offer(
                    m.intake.is_waiting().then_some(self.now.mono),
                    "take statements in",
                );
                offer(Some(m.tidy_at), "tidy");
                offer(m.lease_at, "end a lease");
                offer(m.grant_at, "end a grant");
                offer(m.vouch_at(), "vouch");
                offer(m.replica.audit.deadline(), "record what was left out");
                offer(m.held.deadline(), "ask for audit records");
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
                member.peers(self.now)
            } else {
                Vec::new()
            },
        };
        let mut view = present::view(&mut member.replica, mask, facts);
        view.issues.extend(member.loss_issue(&self.keys.node()));
        view.issues.extend(member.clock_issues());
        view.issues.extend(member.clone_issues(self.now.mono));
        view.issues.extend(member.audit_issues(self.now));
        view.issues.extend(self.stores.issue());
        Some(view)
    }

    fn effect_id(&mut self) -> EffectId {
        self.next_id += 1;
        EffectId(self.next_id)
    }

    fn done(&mut self, id: EffectId, result: &EffectResult) {
        match result {
            EffectResult::Facts(facts) if self.facts_effect == Some(id) => {
                self.facts_effect = None;
                match &mut self.stage {
                    Stage::Member(m) => {
                        m.reporter.set_facts(Some(Facts::clone(facts)));
                        m.observe(&self.config.version);
                    }
                    Stage::Joining(j) => j.facts = Some(Facts::clone(facts)),
                }
            }
            EffectResult::Files(outcomes) if self.files_effect == Some(id) => {
                self.files_effect = None;
                let Stage::Member(m) = &mut self.stage else {
                    return;
                };
                let files = auditing::files_of(outcomes);
                let jitter = self.rng.next_u64() % (self.config.converge_ms / 4 + 1);
                m.converge.next_at = self.now.mono.plus_ms(self.config.converge_ms + jitter);
                if let Some(applied) =
                    m.converge
                        .finish(outcomes, &mut m.reporter.status, self.now.wall)
                {
                    m.replica.batch.extend(applied.batch);
                    m.replica.audit.note_config(
                        applied.hash,
                        applied.changed_count,
                        applied.failed_count,
                        files,
                        self.now,
                    );
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

    /// Tells the peers that this agent stops; drain [`Agent::poll`] afterwards.
    pub fn stop(&mut self, now: Now) {
        self.look_at_clock(now);
        self.mesh_input(MeshInput::Stop);
        self.drain_mesh();
    }
}

/// The newest stamp seen, as far as it can be believed.
pub(crate) fn sane_stamp(seen: Hlc, wall: Wall) -> Hlc {
    sometimes!(
        seen > Hlc::from_wall(wall),
        "a stamp is ahead of the clock of this node"
    );
    seen.min(Hlc::from_wall(Wall(
        wall.0.saturating_add(STAMP_AHEAD_MS_MAX),
    )))
}

/// Time between two beacons of a node in a mesh of so many.
fn beacon_period(beacon_ms: u64, nodes: u64) -> u64 {
    (beacon_ms * nodes.div_ceil(BEACON_NODES).max(1)).min(BEACON_MS_MAX)
}

fn push(what: u8, bytes: &[u8]) -> Bytes {
    [&[what], bytes].concat().into()
}

impl Member {
    /// Lets files say what this node reports of itself.
    fn observe(&mut self, version: &str) {
        self.converge.observe(Observed {
            facts: self.reporter.facts().cloned(),
            addresses: self.reporter.told_addresses().to_vec(),
            version: version.to_owned(),
        });
    }

    /// Who may hold a mesh link.
    fn gate(&mut self, me: &NodeId, now: Now) -> Arc<BTreeSet<NodeId>> {
        let name = self.replica.log.name().unwrap_or_default();
        let authority = Arc::clone(self.replica.log.shared_authority());
        let roster = &authority.roster;
        let over = roster.leases_over(now.wall);
        self.lease_at = roster
            .lease_ends
            .get(over)
            .map(|end| now.mono.plus_ms(end.0.saturating_sub(now.wall.0) + 1));
        let is_same = self
            .gate_of
            .as_ref()
            .is_some_and(|(a, n)| Arc::ptr_eq(a, &authority) && *n == over);
        if is_same && self.admitted.contains(me) {
            return Arc::clone(&self.admitted);
        }
        let mut admit = self.replica.log.memo().step(
            || step_key("gate", &[&name, &(over as u64).to_le_bytes()]),
            || {
                let members = roster.members.values();
                let admitted = members.filter(|m| m.is_admitted_at(now.wall));
                admitted.map(|m| m.node).collect::<BTreeSet<NodeId>>()
            },
            |admitted| 50 * admitted.len(),
            PartialEq::eq,
        );
        if !admit.contains(me) && !self.sponsors.is_empty() {
            Arc::make_mut(&mut admit).extend(self.sponsors.keys());
        }
        self.admit_former(&authority, &mut admit);
        self.gate_of = Some((authority, over));
        admit
    }

    /// Tells the clock how late it is at least, if an admin said something since.
    fn tell_clock(&mut self, me: &NodeId) {
        let stamp = self.replica.log.admin_stamp();
        if stamp <= self.told_stamp {
            return;
        }
        self.told_stamp = stamp;
        let nodes = self.replica.registers.nodes();
        let others = nodes.iter().filter(|node| *node != me);
        let walls = others.filter_map(|node| self.replica.beacon(node).map(|b| b.wall));
        let walls = walls.collect();
        self.clock.said(stamp.wall(), walls);
    }

    /// Whether two machines run with the key of a node, as far as is known here.
    fn is_cloned(&self, node: &NodeId, now: Mono) -> bool {
        self.replica.lives.is_cloned(node, now)
    }

    /// Sees whether this node may continue its own chain; returns whether it may only from now on.
    ///
    /// An old copy of its disk does not know what it said since. It asks first; where nobody answers, nobody can tell.
    fn hold_back(&mut self, me: &NodeId, started: Mono, now: Mono) -> bool {
        let was_sure = self.is_sure;
        if !was_sure {
            let is_alone = self.admitted.iter().all(|node| node == me);
            let mut linked = self.mesh.linked();
            let is_told = linked.any(|(node, _)| self.mesh.is_equal(&node) == Some(true));
            let patience_ms = if self.mesh.link_count() == 0 {
                ALONE_MS
            } else {
                UNSURE_MS_MAX
            };
            let is_late = now.ms_since(started) >= patience_ms;
            self.is_sure = is_alone || is_told || is_late;
        }
        self.replica.held_back = if self.is_cloned(me, now) {
            Some("two machines run with the key of this node: ask another one")
        } else if !self.is_sure {
            Some("this node has just started and asks the others first: try again")
        } else {
            None
        };
        self.is_sure && !was_sure
    }

    /// What people should know of machines with one key.
    fn clone_issues(&self, now: Mono) -> Vec<Issue> {
        let members = &self.replica.log.authority_as_resolved().roster.members;
        let name = |node| members.get(node).map_or("?", |m| m.name.as_str());
        let issue = |name: &str| {
            let what =
                format!("two machines run with the key of {name}: one was copied from the other");
            let help = format!(
                "stop the copy and let it join with a key of its own, or put both out: lab revoke {name}"
            );
            Issue::error("M046", name, what).with_help(help)
        };
        self.replica
            .lives
            .cloned(now)
            .map(|node| issue(name(node)))
            .collect()
    }

    /// What people should know of clocks.
    fn clock_issues(&self) -> Vec<Issue> {
        let mut issues = Vec::new();
        let far = |ms: i64| {
            let way = if ms < 0 { "behind" } else { "ahead" };
            format!("{} {way}", lab_crdt_model::time::age(ms.unsigned_abs()))
        };
        if let Some((off, count)) = self.clock.is_off() {
            let what = format!(
                "the clock of this machine is {} of what {count} others say: theirs is used where something ends",
                far(off)
            );
            issues.push(
                Issue::warning("M045", "clock", what)
                    .with_help("set the clock; a time server keeps it right"),
            );
        }
        let members = &self.replica.log.authority_as_resolved().roster.members;
        for (node, off) in self.clock.others_off() {
            let name = members.get(&node).map_or("?", |m| m.name.as_str());
            let what = format!("the clock of {name} is {}", far(off));
            issues.push(
                Issue::warning("M045", name, what)
                    .with_help("set its clock; a time server keeps it right"),
            );
        }
        issues
    }

    /// Whose devices may ask over the remote API: nobody's, of a machine that is no member itself.
    fn device_gate(&mut self, now: Now) -> BTreeMap<AuthorId, Standing> {
        self.grant_at = None;
        if !self.was_joined {
            return BTreeMap::new();
        }
        let (devices, end) = self.replica.log.authority().devices(now.wall);
        let wait = |end: Wall| now.mono.plus_ms(end.0.saturating_sub(now.wall.0));
        self.grant_at = end.map(wait);
        devices
    }

    /// When this node has something to say of a grant that has ended. Who lost records does not know what it had heard.
    fn vouch_at(&self) -> Option<Mono> {
        self.vouching.deadline().filter(|_| self.loss.is_none())
    }

    /// How many members there are, with this node.
    fn member_count(&self, me: &NodeId) -> u64 {
        self.admitted.len() as u64 + u64::from(!self.admitted.contains(me))
    }

    /// Where a peer may be, best first: where it was reached last, where it was found, what it says itself, where it
    /// was reached earlier, what a sponsor said.
    fn addresses_of(&self, node: &NodeId, found: &[SocketAddr]) -> Vec<SocketAddr> {
        let book = self
            .known_addresses
            .get(node)
            .map_or(&[][..], Vec::as_slice);
        let beacon = self
            .replica
            .beacon(node)
            .map(|b| b.addresses)
            .unwrap_or_default();
        let sponsor = self.sponsors.get(node).map_or(&[][..], Vec::as_slice);
        let mut out: Vec<SocketAddr> = Vec::new();
        for address in book
            .iter()
            .take(1)
            .chain(found)
            .chain(&beacon)
            .chain(book)
            .chain(sponsor)
        {
            if out.len() < DIAL_ADDRESSES_MAX && !out.contains(address) {
                out.push(*address);
            }
        }
        out
    }

    /// Every other member as this node sees it.
    fn peers(&self, now: Now) -> Vec<PeerView> {
        let mut peers = self.mesh.peers(now);
        for peer in &mut peers {
            if peer.address.is_none() {
                peer.address = self.addresses_of(&peer.node, &[]).first().copied();
            }
            peer.clock_ms = self.clock.ahead_of(&peer.node);
        }
        peers
    }

    fn tell_digests(&mut self, now: Now) {
        let (statements, registers) = (self.replica.log.digest(), self.replica.registers.digest());
        if self.told_digests != Some([statements, registers]) {
            self.told_digests = Some([statements, registers]);
            self.mesh.handle(
                now,
                MeshInput::Digests {
                    statements,
                    registers,
                },
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beacons_of_all_together_come_at_one_rate_in_meshes_of_any_size() {
        for nodes in [12, 120, 1_200, 12_000, 34_560] {
            assert_eq!(beacon_period(30_000, nodes) / nodes, 2_500, "{nodes} nodes");
        }
        assert_eq!(beacon_period(30_000, 1), 30_000);
        assert_eq!(beacon_period(30_000, 1_000_000), BEACON_MS_MAX);
    }
}
