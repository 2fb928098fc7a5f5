//! Nodes, links, disks and time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use bytes::Bytes;
use ed25519_dalek::SigningKey;
use lab_agent_core::{
    Agent, Boot, Command, CommandId, Config, Effect, EffectResult, Event, FileOutcome, Input,
    LinkState, NodeKeys, Output, Reply, StoreId, ViewMask,
};
use lab_crdt_log::{
    Admin, Admit, Body, Draft, Invite, Rights, RootRecord, SignedRoot, TokenKeys, WitnessRule, seal,
};
use lab_crdt_model::link::{Channel, Lane};
use lab_crdt_model::report::Facts;
use lab_crdt_model::store::{Batch, StoreOp, Table, Tables};
use lab_crdt_model::token::{Seed, Ticket, Token};
use lab_crdt_model::view::{ReplicaView, Role};
use lab_crdt_model::{AuthorId, Hlc, Label, MeshId, Mono, NodeId, Now, StatementId, Wall};
use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};

use crate::person::Person;

const WALL_START_MS: u64 = 1_800_000_000_000;
const STORE_US: u64 = 1_000;
const EFFECT_US: u64 = 500;
const DIAL_FAILS_MS: u64 = 4_000;
/// A link on which nothing arrives is dead after this long, as QUIC's idle time-out has it.
const LINK_IDLE_MS: u64 = 15_000;

/// What a node has on its disk; survives [`World::kill`].
#[derive(Clone, Debug, Default)]
pub struct Disk {
    tables: BTreeMap<(Table, Vec<u8>), Vec<u8>>,
    /// Files under the agent's root.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Every write is refused.
    pub is_full: bool,
    /// Writes are acknowledged and forgotten, as by a disk that lies about flushing.
    pub is_lying: bool,
}

impl Disk {
    fn apply(&mut self, batch: &Batch) {
        for op in batch {
            match op {
                StoreOp::Put { table, key, value } => {
                    self.tables.insert((*table, key.clone()), value.clone());
                }
                StoreOp::Delete { table, key } => {
                    self.tables.remove(&(*table, key.clone()));
                }
            }
        }
    }

    fn boot(&self) -> Boot {
        let mut tables = Tables::new();
        for ((table, key), value) in &self.tables {
            tables
                .entry(*table)
                .or_default()
                .push((key.clone(), value.clone()));
        }
        Boot::Stored { tables }
    }
}

struct Node {
    secret: [u8; 32],
    agent: Option<Agent>,
    life: u32,
    disk: Disk,
    admitted: BTreeSet<NodeId>,
    wake_at: Option<Mono>,
    events: Vec<(u64, Event)>,
    refused_join: Option<String>,
}

struct Link {
    life: u64,
    /// Frames held back while the two ends cannot reach each other.
    held: Vec<(NodeId, Lane, Bytes)>,
    cut_at: Option<Mono>,
}

type LinkKey = (NodeId, NodeId, Channel);

#[derive(Debug)]
enum Happening {
    Wake {
        node: usize,
        life: u32,
    },
    Input {
        node: usize,
        life: u32,
        input: Input,
    },
    Frame {
        link: LinkKey,
        life: u64,
        from: NodeId,
        to: NodeId,
        lane: Lane,
        bytes: Bytes,
    },
    Connect {
        from: usize,
        life: u32,
        to: NodeId,
        channel: Channel,
    },
    Stored {
        node: usize,
        life: u32,
        id: StoreId,
        batch: Batch,
    },
    LinkDead {
        link: LinkKey,
        life: u64,
    },
}

/// A world of agents. Times are milliseconds of virtual time.
pub struct World {
    now: Mono,
    queue: BTreeMap<(Mono, u64), Happening>,
    sequence: u64,
    rng: ChaCha12Rng,
    nodes: Vec<Node>,
    by_id: BTreeMap<NodeId, usize>,
    links: BTreeMap<LinkKey, Link>,
    link_life: u64,
    last_arrival: BTreeMap<(NodeId, NodeId, Channel, Lane), Mono>,
    /// Pairs of nodes that cannot reach each other.
    cut: BTreeSet<(NodeId, NodeId)>,
    replies: BTreeMap<CommandId, Reply>,
    command_id: u64,
    trace: blake3::Hasher,
    latency_us: (u64, u64),
    mesh: MeshId,
    /// The admin who founded the mesh.
    pub admin: Person,
    /// Frames and bytes sent by all nodes.
    pub sent: (u64, u64),
    /// Everyone may link to everyone, members or not: a gate that was forgotten.
    pub is_gate_open: bool,
    config: Config,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World")
            .field("now", &self.now)
            .field("nodes", &self.nodes.len())
            .finish_non_exhaustive()
    }
}

fn pair(a: NodeId, b: NodeId) -> (NodeId, NodeId) {
    if a < b { (a, b) } else { (b, a) }
}

fn address(node: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, (node >> 8) as u8, node as u8], 4000))
}

impl World {
    /// A mesh of one node, founded by one admin.
    pub fn found(seed: u64) -> Self {
        Self::found_with(seed, Config::homelab("0.1.0"))
    }

    /// The same with other figures.
    pub fn found_with(seed: u64, config: Config) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_be_bytes());
        let rng = ChaCha12Rng::from_seed(bytes);
        let (root_key, admin_key) = (
            SigningKey::from_bytes(&[200; 32]),
            SigningKey::from_bytes(&[201; 32]),
        );
        let author = |key: &SigningKey| AuthorId(key.verifying_key().to_bytes());
        let record = RootRecord {
            version: 0,
            prev: [0; 32],
            name: "home".into(),
            nonce: [1; 16],
            root_keys: vec![author(&root_key)],
            threshold: 1,
            admins: vec![Admin {
                key: author(&admin_key),
                name: "ana".into(),
            }],
            registrars: vec![],
            min_proto: 1,
        };
        let root = SignedRoot::sign(&record, &[&root_key]);
        let mesh = root.mesh();
        let under = StatementId(mesh.0);
        let mut world = Self {
            now: Mono(1_000_000_000),
            queue: BTreeMap::new(),
            sequence: 0,
            rng,
            nodes: Vec::new(),
            by_id: BTreeMap::new(),
            links: BTreeMap::new(),
            link_life: 0,
            last_arrival: BTreeMap::new(),
            cut: BTreeSet::new(),
            replies: BTreeMap::new(),
            command_id: 0,
            trace: blake3::Hasher::new(),
            latency_us: (300, 900),
            mesh,
            admin: Person {
                key: admin_key.clone(),
                under,
                name: "ana".into(),
            },
            sent: (0, 0),
            is_gate_open: false,
            config,
        };
        let first = world.add_node();
        let node = world.id(first);
        let keys = NodeKeys::new(&world.nodes[first].secret);
        let admit = Admit {
            node,
            seal_key: keys.seal_key(),
            name: "n0".into(),
            role: Role::Node,
            labels: vec![],
        };
        let draft = Draft {
            seq: 0,
            prev: StatementId::ZERO,
            under,
            hlc: Hlc::from_wall(Wall(WALL_START_MS)),
            refs: vec![],
            body: Body::Admit(admit),
        };
        let admit = seal(&mesh, &admin_key, &draft).expect("within limits");
        let batch = Boot::founding(&root.encode(), &[admit]);
        world.nodes[first].disk.apply(&batch);
        world.start(first);
        world
    }

    fn add_node(&mut self) -> usize {
        let at = self.nodes.len();
        let mut secret = [7; 32];
        secret[..8].copy_from_slice(&(at as u64 + 1).to_be_bytes());
        let id = NodeKeys::new(&secret).node();
        self.by_id.insert(id, at);
        self.nodes.push(Node {
            secret,
            agent: None,
            life: 0,
            disk: Disk::default(),
            admitted: BTreeSet::new(),
            wake_at: None,
            events: Vec::new(),
            refused_join: None,
        });
        at
    }

    /// How many nodes there are, dead ones included.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Never: a world begins with one node.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// A node's key.
    pub fn id(&self, node: usize) -> NodeId {
        NodeKeys::new(&self.nodes[node].secret).node()
    }

    /// Virtual milliseconds since the world began.
    pub fn now_ms(&self) -> u64 {
        self.now.0 / 1_000_000
    }

    /// A node's wall clock.
    pub fn wall(&self, _node: usize) -> Wall {
        Wall(WALL_START_MS + self.now_ms())
    }

    /// Sets the one-way latency of every link, microseconds from..to.
    pub fn latency(&mut self, from: u64, to: u64) {
        self.latency_us = (from, to.max(from + 1));
    }

    /// A hash of everything that happened.
    pub fn trace_hash(&self) -> [u8; 32] {
        *self.trace.finalize().as_bytes()
    }

    /// Makes a token at a node, by the admin.
    pub fn token(
        &mut self,
        at: usize,
        name: &str,
        role: Role,
        labels: &[&str],
        witness: WitnessRule,
    ) -> Token {
        let mut seed = [0; 16];
        self.rng.fill_bytes(&mut seed);
        let keys = TokenKeys::derive(&Seed::Long(seed));
        let not_after = Wall(self.wall(at).0 + 3_600_000);
        let invite = Invite {
            token_key: keys.public(),
            uses_max: 1,
            not_after,
            role,
            name: Some(name.to_owned()),
            labels: labels
                .iter()
                .map(|l| l.parse::<Label>().expect("a label"))
                .collect(),
            rights: if role == Role::Laptop {
                Rights::ALL
            } else {
                Rights::default()
            },
            scope: if role == Role::Laptop {
                vec![String::new()]
            } else {
                vec![]
            },
            lease_ms: if role == Role::Laptop { 86_400_000 } else { 0 },
            witness,
            confirm: false,
            mesh_mac: keys.mesh_mac(&self.mesh),
        };
        let admin = self.admin.clone();
        let reply = admin.say(self, at, Body::Invite(invite));
        let Reply::Submitted { ids } = reply else {
            panic!("{reply:?}")
        };
        let invite = self
            .agent_view(at, ViewMask::default())
            .map(|_| ids[ids.len() - 1]);
        let envelope = invite.and_then(|id| {
            self.nodes[at]
                .disk
                .tables
                .get(&(Table::Statements, id.0.to_vec()))
                .cloned()
        });
        Token::Ticket(Ticket {
            seed: Seed::Long(seed),
            mesh: self.mesh,
            not_after_s: (not_after.0 / 1000) as u32,
            addresses: vec![(self.id(at), address(at))],
            invite: envelope.unwrap_or_default(),
        })
    }

    /// Starts a new machine with a token; it joins as time passes.
    pub fn join(&mut self, token: Token, operator: Option<AuthorId>) -> usize {
        let at = self.add_node();
        let boot = Boot::Joining {
            token,
            via: vec![],
            operator_key: operator,
        };
        self.boot(at, boot);
        at
    }

    /// Adds machines by token until there are `count`, and waits until all are members and equal.
    pub fn grow(&mut self, count: usize) {
        while self.len() < count {
            let name = format!("n{}", self.len());
            let token = self.token(0, &name, Role::Node, &[], WitnessRule::Any);
            self.join(token, None);
        }
        assert!(
            self.run_until(120_000, |w| (0..w.len()).all(|n| w.is_member(n))
                && w.are_equal()),
            "the mesh did not form"
        );
    }

    /// Whether a node's own replica says that it is a member.
    pub fn is_member(&mut self, node: usize) -> bool {
        let id = self.id(node);
        self.agent_view(
            node,
            ViewMask {
                roster: true,
                ..ViewMask::default()
            },
        )
        .is_some_and(|v| {
            v.members
                .iter()
                .any(|m| m.node == id && m.state == lab_crdt_model::view::MemberState::Member)
        })
    }

    /// A node's replica, for people.
    pub fn agent_view(&mut self, node: usize, mask: ViewMask) -> Option<ReplicaView> {
        self.nodes[node].agent.as_mut()?.view(mask)
    }

    /// The value in force at a path of a node's replica, as JSON.
    pub fn value(&mut self, node: usize, path: &str) -> Option<String> {
        let view = self.agent_view(
            node,
            ViewMask {
                fields: true,
                ..ViewMask::default()
            },
        )?;
        let field = view.fields.iter().find(|f| f.path.as_str() == path)?;
        Some(field.candidates.first()?.field.value.to_string())
    }

    /// Whether all live nodes hold the same statements and build the same document.
    pub fn are_equal(&mut self) -> bool {
        let mut seen = BTreeSet::new();
        for node in 0..self.len() {
            if self.nodes[node].agent.is_some() {
                seen.insert(
                    self.agent_view(node, ViewMask::default())
                        .map(|v| (v.digest, v.heads)),
                );
            }
        }
        seen.len() <= 1 && !seen.contains(&None)
    }

    /// What a node told, with the virtual millisecond.
    pub fn events(&self, node: usize) -> &[(u64, Event)] {
        &self.nodes[node].events
    }

    /// Why a node's join was refused last.
    pub fn refused_join(&self, node: usize) -> Option<&str> {
        self.nodes[node].refused_join.as_deref()
    }

    /// A node's disk.
    pub fn disk(&mut self, node: usize) -> &mut Disk {
        &mut self.nodes[node].disk
    }

    /// Asks a node something over its local socket and waits for the answer, at most ten virtual seconds.
    pub fn ask(&mut self, node: usize, command: Command) -> Reply {
        self.command_id += 1;
        let id = CommandId(self.command_id);
        self.input(node, Input::Command { id, command });
        self.run_until(10_000, |w| w.replies.contains_key(&id));
        self.replies.remove(&id).unwrap_or(Reply::Refused {
            code: "SIM",
            why: "no answer".into(),
        })
    }

    /// The power of a node goes away: what is not on the disk is lost, peers notice nothing at first.
    pub fn kill(&mut self, node: usize) {
        let id = self.id(node);
        self.nodes[node].agent = None;
        self.nodes[node].wake_at = None;
        let keys: Vec<LinkKey> = self
            .links
            .keys()
            .filter(|(a, b, _)| *a == id || *b == id)
            .copied()
            .collect();
        for key in keys {
            let life = self.links[&key].life;
            self.push(LINK_IDLE_MS * 1000, Happening::LinkDead { link: key, life });
        }
    }

    /// Starts a node again from its disk.
    pub fn start(&mut self, node: usize) {
        let boot = self.nodes[node].disk.boot();
        self.boot(node, boot);
    }

    /// Nodes of `a` and of `b` cannot reach each other until [`World::heal`].
    pub fn partition(&mut self, a: &[usize], b: &[usize]) {
        for x in a {
            for y in b {
                self.cut.insert(pair(self.id(*x), self.id(*y)));
            }
        }
        let now = self.now;
        let mut dead = Vec::new();
        for (key, link) in &mut self.links {
            if self.cut.contains(&pair(key.0, key.1)) && link.cut_at.is_none() {
                link.cut_at = Some(now);
                dead.push((*key, link.life));
            }
        }
        for (link, life) in dead {
            self.push(LINK_IDLE_MS * 1000, Happening::LinkDead { link, life });
        }
    }

    /// Everyone can reach everyone again.
    pub fn heal(&mut self) {
        self.cut.clear();
        let mut held = Vec::new();
        for (key, link) in &mut self.links {
            link.cut_at = None;
            for (from, lane, bytes) in link.held.drain(..) {
                held.push((*key, link.life, from, lane, bytes));
            }
        }
        for (key, life, from, lane, bytes) in held {
            let to = if key.0 == from { key.1 } else { key.0 };
            let delay = self.delay();
            self.push(
                delay,
                Happening::Frame {
                    link: key,
                    life,
                    from,
                    to,
                    lane,
                    bytes,
                },
            );
        }
    }

    /// Lets `ms` milliseconds pass.
    pub fn run_for(&mut self, ms: u64) {
        let end = self.now.plus_ms(ms);
        while self.step(end) {}
        self.now = end;
    }

    /// Lets time pass until `done`, at most `ms` milliseconds; returns whether it came true.
    pub fn run_until(&mut self, ms: u64, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        let end = self.now.plus_ms(ms);
        let mut next_check = self.now;
        loop {
            if self.now >= next_check {
                if done(self) {
                    return true;
                }
                next_check = self.now.plus_ms(5);
            }
            if !self.step(end) {
                self.now = end;
                return done(self);
            }
        }
    }

    fn boot(&mut self, node: usize, boot: Boot) {
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        let now = self.now_of(node);
        let keys = NodeKeys::new(&self.nodes[node].secret);
        let agent =
            Agent::new(self.config.clone(), keys, boot, seed, now).expect("the disk holds a mesh");
        self.nodes[node].agent = Some(agent);
        self.nodes[node].life += 1;
        self.nodes[node].admitted.clear();
        self.drain(node);
        self.input(node, Input::Addresses(vec![address(node)]));
    }

    fn now_of(&self, node: usize) -> Now {
        Now {
            mono: self.now,
            wall: self.wall(node),
        }
    }

    fn push(&mut self, delay_us: u64, happening: Happening) {
        self.sequence += 1;
        self.queue.insert(
            (Mono(self.now.0 + delay_us * 1000), self.sequence),
            happening,
        );
    }

    fn delay(&mut self) -> u64 {
        let (from, to) = self.latency_us;
        from + self.rng.next_u64() % (to - from)
    }

    fn step(&mut self, end: Mono) -> bool {
        let Some(entry) = self.queue.first_entry() else {
            return false;
        };
        let (at, _) = *entry.key();
        if at > end {
            return false;
        }
        let happening = entry.remove();
        self.now = self.now.max(at);
        self.trace.update(&self.now.0.to_be_bytes());
        match happening {
            Happening::Wake { node, life } => {
                if self.nodes[node].life == life
                    && self.nodes[node].wake_at.is_some_and(|at| at <= self.now)
                {
                    self.nodes[node].wake_at = None;
                    self.input(node, Input::Wake);
                }
            }
            Happening::Input { node, life, input } => {
                if self.nodes[node].life == life {
                    self.input(node, input);
                }
            }
            Happening::Stored {
                node,
                life,
                id,
                batch,
            } => {
                if self.nodes[node].life == life && self.nodes[node].agent.is_some() {
                    let result = if self.nodes[node].disk.is_full {
                        Err("no space left on device".to_owned())
                    } else {
                        if !self.nodes[node].disk.is_lying {
                            self.nodes[node].disk.apply(&batch);
                        }
                        Ok(())
                    };
                    self.input(node, Input::Stored { id, result });
                }
            }
            Happening::Frame {
                link,
                life,
                from,
                to,
                lane,
                bytes,
            } => {
                self.trace.update(&from.0[..4]);
                self.trace.update(&bytes);
                let Some(state) = self.links.get_mut(&link).filter(|l| l.life == life) else {
                    return true;
                };
                if self.cut.contains(&pair(from, to)) {
                    state.held.push((from, lane, bytes));
                } else if let Some(node) = self.by_id.get(&to).copied() {
                    self.input(
                        node,
                        Input::Frame {
                            from,
                            channel: link.2,
                            lane,
                            bytes,
                        },
                    );
                }
            }
            Happening::Connect {
                from,
                life,
                to,
                channel,
            } => {
                if self.nodes[from].life == life {
                    self.connect(from, to, channel);
                }
            }
            Happening::LinkDead { link, life } => {
                let is_dead = |w: &Self, id: NodeId| {
                    w.by_id.get(&id).is_none_or(|n| w.nodes[*n].agent.is_none())
                };
                let stays = self.links.get(&link).is_none_or(|l| {
                    l.life != life
                        || (l.cut_at.is_none() && !is_dead(self, link.0) && !is_dead(self, link.1))
                });
                if !stays {
                    self.unlink(link, "timed out");
                }
            }
        }
        true
    }

    fn connect(&mut self, from: usize, to: NodeId, channel: Channel) {
        let a = self.id(from);
        let target = self
            .by_id
            .get(&to)
            .copied()
            .filter(|n| self.nodes[*n].agent.is_some());
        let Some(target) = target.filter(|_| !self.cut.contains(&pair(a, to))) else {
            let input = Input::Link {
                peer: to,
                channel,
                state: LinkState::DialFailed {
                    why: "no answer".into(),
                },
            };
            let life = self.nodes[from].life;
            return self.push(
                DIAL_FAILS_MS * 1000,
                Happening::Input {
                    node: from,
                    life,
                    input,
                },
            );
        };
        let is_welcome = channel == Channel::Join
            || self.is_gate_open
            || (self.nodes[target].admitted.contains(&a)
                && self.nodes[from].admitted.contains(&to));
        if !is_welcome {
            let state = LinkState::DialFailed {
                why: "not a member".into(),
            };
            return self.input(
                from,
                Input::Link {
                    peer: to,
                    channel,
                    state,
                },
            );
        }
        let (low, high) = pair(a, to);
        let key = (low, high, channel);
        if !self.links.contains_key(&key) {
            self.link_life += 1;
            self.links.insert(
                key,
                Link {
                    life: self.link_life,
                    held: Vec::new(),
                    cut_at: None,
                },
            );
            let up = |n| LinkState::Up {
                address: Some(address(n)),
            };
            self.input(
                target,
                Input::Link {
                    peer: a,
                    channel,
                    state: up(from),
                },
            );
        }
        self.input(
            from,
            Input::Link {
                peer: to,
                channel,
                state: LinkState::Up {
                    address: Some(address(target)),
                },
            },
        );
    }

    fn unlink(&mut self, key: LinkKey, why: &str) {
        if self.links.remove(&key).is_none() {
            return;
        }
        for (node, peer) in [(key.0, key.1), (key.1, key.0)] {
            if let Some(n) = self.by_id.get(&node).copied() {
                let life = self.nodes[n].life;
                let state = LinkState::Down {
                    why: why.to_owned(),
                };
                let delay = self.delay();
                self.push(
                    delay,
                    Happening::Input {
                        node: n,
                        life,
                        input: Input::Link {
                            peer,
                            channel: key.2,
                            state,
                        },
                    },
                );
            }
        }
    }

    fn input(&mut self, node: usize, input: Input) {
        let now = self.now_of(node);
        let Some(agent) = self.nodes[node].agent.as_mut() else {
            return;
        };
        agent.handle(now, input);
        self.drain(node);
    }

    fn drain(&mut self, node: usize) {
        let mut todo = VecDeque::new();
        if let Some(agent) = self.nodes[node].agent.as_mut() {
            while let Some(output) = agent.poll() {
                todo.push_back(output);
            }
        }
        while let Some(output) = todo.pop_front() {
            self.carry_out(node, output);
        }
        let deadline = self.nodes[node].agent.as_ref().and_then(Agent::deadline);
        if let Some(deadline) = deadline {
            let at = deadline.at.max(self.now);
            if self.nodes[node]
                .wake_at
                .is_none_or(|standing| at < standing || standing < self.now)
            {
                self.nodes[node].wake_at = Some(at);
                let life = self.nodes[node].life;
                self.sequence += 1;
                self.queue
                    .insert((at, self.sequence), Happening::Wake { node, life });
            }
        }
    }

    fn carry_out(&mut self, node: usize, output: Output) {
        let (me, life) = (self.id(node), self.nodes[node].life);
        match output {
            Output::Send {
                to,
                channel,
                lane,
                bytes,
            } => {
                let (low, high) = pair(me, to);
                let key = (low, high, channel);
                if let Some(link_life) = self.links.get(&key).map(|l| l.life) {
                    self.sent.0 += 1;
                    self.sent.1 += bytes.len() as u64;
                    // A stream is ordered: later frames do not overtake.
                    let at = Mono(self.now.0 + self.delay() * 1000);
                    let last = self
                        .last_arrival
                        .entry((me, to, channel, lane))
                        .or_default();
                    *last = at.max(Mono(last.0 + 1));
                    let at = *last;
                    self.sequence += 1;
                    let frame = Happening::Frame {
                        link: key,
                        life: link_life,
                        from: me,
                        to,
                        lane,
                        bytes,
                    };
                    self.queue.insert((at, self.sequence), frame);
                }
            }
            Output::Dial { peer, channel, .. } => {
                let delay = 2 * self.delay();
                self.push(
                    delay,
                    Happening::Connect {
                        from: node,
                        life,
                        to: peer,
                        channel,
                    },
                );
            }
            Output::Hangup {
                peer,
                channel,
                why: _,
            } => {
                let (low, high) = pair(me, peer);
                self.unlink((low, high, channel), "hung up");
            }
            Output::Admit(admitted) => {
                let gone: Vec<LinkKey> = self
                    .links
                    .keys()
                    .filter(|(a, b, c)| {
                        *c == Channel::Mesh
                            && (*a == me && !admitted.contains(b)
                                || *b == me && !admitted.contains(a))
                    })
                    .copied()
                    .collect();
                self.nodes[node].admitted = admitted;
                for key in gone {
                    if !self.is_gate_open {
                        self.unlink(key, "revoked");
                    }
                }
            }
            Output::Store { id, batch } => self.push(
                STORE_US,
                Happening::Stored {
                    node,
                    life,
                    id,
                    batch,
                },
            ),
            Output::Run { id, effect } => {
                let result = self.effect(node, effect);
                self.push(
                    EFFECT_US,
                    Happening::Input {
                        node,
                        life,
                        input: Input::Done { id, result },
                    },
                );
            }
            Output::Reply { id, reply } => {
                self.replies.insert(id, reply);
            }
            Output::Tell(event) => {
                if let Event::JoinRefused { why, .. } = &event {
                    self.nodes[node].refused_join = Some(why.clone());
                }
                let at = self.now_ms();
                self.nodes[node].events.push((at, event));
            }
        }
    }

    fn effect(&mut self, node: usize, effect: Effect) -> EffectResult {
        match effect {
            Effect::Facts => EffectResult::Facts(Facts {
                hostname: format!("host{node}"),
                ..Facts::default()
            }),
            Effect::Files { wanted, release } => {
                let disk = &mut self.nodes[node].disk;
                let mut out = Vec::new();
                for file in wanted {
                    let is_changed = disk.files.get(&file.path) != Some(&file.content);
                    disk.files.insert(file.path.clone(), file.content);
                    out.push(FileOutcome {
                        path: file.path,
                        is_changed,
                        error: None,
                    });
                }
                for file in release {
                    let is_ours = disk
                        .files
                        .get(&file.path)
                        .is_some_and(|c| *blake3::hash(c).as_bytes() == file.hash);
                    if is_ours {
                        disk.files.remove(&file.path);
                    }
                    out.push(FileOutcome {
                        path: file.path,
                        is_changed: is_ours,
                        error: None,
                    });
                }
                EffectResult::Files(out)
            }
        }
    }
}
