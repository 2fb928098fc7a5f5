//! A small world in virtual time for the tests of this crate: nodes, links with latency, crashes, pauses and
//! partitions, and a replica that is as simple as can be. Of no use but to tests and measurements.

pub mod measure;
mod paths;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use lab_crdt_model::link::Lane;
use lab_crdt_model::view::Liveness as Opinion;
use lab_crdt_model::{Mono, NodeId, Now, Wall};
use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

use crate::backoff::below;
use crate::message::v1::{Message, Overlay, Push, Scope};
use crate::{Config, Mesh, MeshInput, MeshOutput};

pub use paths::Paths;

const MS: u64 = 1_000_000;
/// When the transport gives up a silent link.
const IDLE_MS: u64 = 15_000;
/// When the transport gives up a dial.
const DIAL_MS: u64 = 4_000;
/// Bytes of a packet round a frame: IP, UDP, QUIC, stream, length.
const PACKET_BYTES: u64 = 28 + 27 + 8;
/// Bytes of an acknowledgement.
const ACK_BYTES: u64 = 28 + 27 + 5;
/// Bytes of a handshake on either side, and of a dial that nobody answers.
const HANDSHAKE_BYTES: u64 = 3_000;

/// What replicas say to each other.
#[derive(Serialize, Deserialize)]
enum Say {
    Have {
        statements: BTreeSet<u32>,
        registers: BTreeMap<u32, u64>,
    },
    Take {
        statements: Vec<(u32, Vec<u8>)>,
        registers: BTreeMap<u32, u64>,
    },
    Push {
        statement: Option<(u32, Vec<u8>)>,
        register: Option<(u32, u64)>,
    },
}

/// A set of statements and a counter for each register.
#[derive(Default, Debug)]
pub struct Replica {
    /// By key.
    pub statements: BTreeMap<u32, Vec<u8>>,
    registers: BTreeMap<u32, u64>,
    digests: ([u8; 32], [u8; 32]),
}

impl Replica {
    fn add_statement(&mut self, key: u32, body: Vec<u8>) {
        if self.statements.insert(key, body).is_none() {
            fold(&mut self.digests.0, key, 1);
        }
    }

    /// Whether it is newer than what was there.
    fn add_register(&mut self, key: u32, counter: u64) -> bool {
        let former = self.registers.get(&key).copied().unwrap_or(0);
        if counter <= former {
            return false;
        }
        if former > 0 {
            fold(&mut self.digests.1, key, former);
        }
        fold(&mut self.digests.1, key, counter);
        self.registers.insert(key, counter);
        true
    }
}

fn fold(sum: &mut [u8; 32], key: u32, value: u64) {
    let mut seed = [0; 32];
    seed[..4].copy_from_slice(&key.to_be_bytes());
    seed[8..16].copy_from_slice(&value.to_be_bytes());
    let mut mixed = [0; 32];
    ChaCha12Rng::from_seed(seed).fill_bytes(&mut mixed);
    sum.iter_mut().zip(mixed).for_each(|(s, m)| *s ^= m);
}

#[derive(Debug)]
enum Event {
    Input {
        node: usize,
        life: u32,
        input: MeshInput,
    },
    Frame {
        from: usize,
        to: usize,
        link: u64,
        lane: Lane,
        bytes: Bytes,
    },
    LinkUp {
        node: usize,
        peer: usize,
        link: u64,
    },
    LinkLost {
        a: usize,
        b: usize,
        link: u64,
    },
    Dialed {
        from: usize,
        to: usize,
    },
    Wake {
        node: usize,
        at: u64,
    },
    Beacon {
        node: usize,
        life: u32,
    },
    Silence {
        a: usize,
        b: usize,
        link: u64,
    },
}

#[derive(Debug)]
struct Link {
    id: u64,
    /// When the last frame arrives, by sender and lane: streams keep their order.
    last: [u64; 4],
    up: BTreeSet<usize>,
    stalled: Vec<(usize, usize, Lane, Bytes)>,
    cut_at: Option<u64>,
}

/// One machine.
#[derive(Debug)]
pub struct Node {
    /// What is tested.
    pub mesh: Mesh,
    /// What it carries.
    pub replica: Replica,
    life: u32,
    /// Killed and not restarted.
    pub is_dead: bool,
    paused_until: u64,
    wake_at: u64,
    /// With what the transport adds.
    pub sent_bytes: u64,
    /// Frames.
    pub sent_frames: u64,
    /// Dials.
    pub dial_count: u64,
    /// Payloads of pushes received, known ones too.
    pub payload_count: u64,
    /// The same of more than 2 KB.
    pub large_count: u64,
    /// Most hops of a payload received.
    pub hops_max: u16,
    held: Vec<Event>,
}

/// Something a test looks at: nodes that go down, and more that is rare.
#[derive(Debug)]
pub struct Seen {
    /// When.
    pub at_ms: u64,
    /// By which node.
    pub by: usize,
    /// What.
    pub output: MeshOutput,
}

/// What a world is made of.
#[derive(Clone, Debug)]
pub struct Options {
    /// Nodes.
    pub count: usize,
    /// Decides everything.
    pub seed: u64,
    /// Of every mesh.
    pub config: Config,
    /// Latencies and losses.
    pub paths: Paths,
    /// Mean time between beacons of a node, milliseconds; none at 0.
    pub beacon_ms: u64,
    /// Within what time all start, milliseconds.
    pub start_ms: u64,
}

/// Nodes, links and the time.
#[derive(Debug)]
pub struct World {
    /// Nanoseconds.
    pub now: u64,
    queue: BTreeMap<(u64, u64), Event>,
    seq: u64,
    /// By index.
    pub nodes: Vec<Node>,
    links: BTreeMap<(usize, usize), Link>,
    roster: Arc<BTreeSet<NodeId>>,
    side: Vec<u8>,
    /// Pairs of which the first cannot send to the second.
    pub deaf: BTreeSet<(usize, usize)>,
    rng: ChaCha12Rng,
    config: Config,
    /// Latencies and losses.
    pub paths: Paths,
    /// Frames of pushed payloads are lost.
    pub is_push_lost: bool,
    /// Mean time between beacons of a node, milliseconds; none at 0.
    pub beacon_ms: u64,
    start_ms: u64,
    /// What tests look at.
    pub seen: Vec<Seen>,
    /// When each node got a statement first, milliseconds, by statement.
    pub arrivals: BTreeMap<u32, Vec<u64>>,
    /// Whether outputs are mixed into `trace`.
    pub is_traced: bool,
    /// Of all outputs.
    pub trace: u64,
}

/// The id of a node.
pub fn id(n: usize) -> NodeId {
    let mut bytes = [0; 32];
    ChaCha12Rng::seed_from_u64(n as u64).fill_bytes(&mut bytes);
    bytes[..4].copy_from_slice(
        &u32::try_from(n * 7919 % 10_007)
            .expect("invariant of the world")
            .to_be_bytes(),
    );
    bytes[4..8].copy_from_slice(
        &u32::try_from(n)
            .expect("invariant of the world")
            .to_be_bytes(),
    );
    NodeId(bytes)
}

fn index(node: NodeId) -> usize {
    u32::from_be_bytes(node.0[4..8].try_into().expect("invariant of the world")) as usize
}

fn pair(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

impl World {
    /// Nodes nearby that all start within 200 ms.
    pub fn new(n: usize, seed: u64, config: Config) -> Self {
        Self::with(Options {
            count: n,
            seed,
            config,
            paths: Paths::near(),
            beacon_ms: 60_000,
            start_ms: 200,
        })
    }

    /// Any world.
    pub fn with(options: Options) -> Self {
        let Options {
            count: n,
            seed,
            config,
            paths,
            beacon_ms,
            start_ms,
        } = options;
        let mut rng = ChaCha12Rng::seed_from_u64(seed);
        let nodes = (0..n)
            .map(|i| Self::node(i, &config, &mut rng, 0))
            .collect();
        let mut world = Self {
            now: 0,
            queue: BTreeMap::new(),
            seq: 0,
            nodes,
            links: BTreeMap::new(),
            roster: Arc::new((0..n).map(id).collect()),
            side: vec![0; n],
            deaf: BTreeSet::new(),
            rng,
            config,
            paths,
            is_push_lost: false,
            beacon_ms,
            start_ms,
            seen: Vec::new(),
            arrivals: BTreeMap::new(),
            is_traced: false,
            trace: 0xcbf2_9ce4_8422_2325,
        };
        for i in 0..n {
            world.start(i);
        }
        world
    }

    fn node(i: usize, config: &Config, rng: &mut ChaCha12Rng, now: u64) -> Node {
        let mut seed = [0; 32];
        rng.fill_bytes(&mut seed);
        Node {
            mesh: Mesh::new(id(i), config.clone(), seed, clock(now)),
            replica: Replica::default(),
            life: 0,
            is_dead: false,
            paused_until: 0,
            wake_at: u64::MAX,
            sent_bytes: 0,
            sent_frames: 0,
            dial_count: 0,
            payload_count: 0,
            large_count: 0,
            hops_max: 0,
            held: Vec::new(),
        }
    }

    fn start(&mut self, i: usize) {
        let at = self.now + below(&mut self.rng, self.start_ms.max(1)) * MS;
        let life = self.nodes[i].life;
        let members = Arc::clone(&self.roster);
        let input = MeshInput::Roster { members };
        self.push(
            at,
            Event::Input {
                node: i,
                life,
                input,
            },
        );
        if self.beacon_ms > 0 {
            // One of each at the start would outweigh all that is measured in a large world.
            let first = if self.nodes.len() > 500 {
                below(&mut self.rng, self.beacon_ms)
            } else {
                300
            };
            self.push(at + first * MS, Event::Beacon { node: i, life });
        }
    }

    fn push(&mut self, at: u64, event: Event) {
        self.seq += 1;
        self.queue.insert((at, self.seq), event);
    }

    fn latency(&mut self, a: usize, b: usize) -> u64 {
        self.paths.one_way(a, b, &mut self.rng)
    }

    fn can_talk(&self, a: usize, b: usize) -> bool {
        self.side[a] == self.side[b] && !self.deaf.contains(&(a, b))
    }

    // ---- What tests do ----

    /// Lets time pass.
    pub fn run_ms(&mut self, ms: u64) {
        let end = self.now + ms * MS;
        while let Some((&(at, seq), _)) = self.queue.first_key_value() {
            if at > end {
                break;
            }
            self.now = at;
            let event = self
                .queue
                .remove(&(at, seq))
                .expect("invariant of the world");
            self.step(event);
        }
        self.now = end;
    }

    /// Runs until `done`; the milliseconds it took, or `None` after `max_ms`.
    pub fn run_until(&mut self, max_ms: u64, done: impl Fn(&Self) -> bool) -> Option<u64> {
        let start = self.now;
        while (self.now - start) / MS < max_ms {
            if done(self) {
                return Some((self.now - start) / MS);
            }
            self.run_ms(50);
        }
        done(self).then_some((self.now - start) / MS)
    }

    /// Since the start.
    pub fn now_ms(&self) -> u64 {
        self.now / MS
    }

    /// Writes a statement of `len` bytes at a node and pushes it.
    pub fn write(&mut self, node: usize, statement: u32, len: usize) {
        let body = vec![7; len];
        self.arrived(node, statement);
        self.nodes[node]
            .replica
            .add_statement(statement, body.clone());
        self.tell_digests(node);
        let say = Say::Push {
            statement: Some((statement, body)),
            register: None,
        };
        let payload = postcard::to_stdvec(&say)
            .expect("invariant of the world")
            .into();
        self.input(node, MeshInput::Broadcast { payload });
    }

    /// A power cut.
    pub fn kill(&mut self, node: usize) {
        self.nodes[node].is_dead = true;
        self.nodes[node].life += 1;
        let silent: Vec<_> = self
            .links
            .iter()
            .filter(|((a, b), _)| *a == node || *b == node)
            .map(|((a, b), link)| (*a, *b, link.id))
            .collect();
        for (a, b, link) in silent {
            self.push(self.now + IDLE_MS * MS, Event::LinkLost { a, b, link });
        }
    }

    /// Starts a killed node again, with its replica.
    pub fn restart(&mut self, node: usize) {
        let life = self.nodes[node].life + 1;
        let registers = std::mem::take(&mut self.nodes[node].replica);
        self.nodes[node] = Self::node(node, &self.config, &mut self.rng, self.now);
        self.nodes[node].life = life;
        self.nodes[node].replica = registers;
        // The transport answers for the former life: it has none of these links.
        let lost: Vec<_> = self
            .links
            .iter()
            .filter(|((a, b), _)| *a == node || *b == node)
            .map(|((a, b), link)| (*a, *b, link.id))
            .collect();
        for (a, b, link) in lost {
            self.push(self.now, Event::LinkLost { a, b, link });
        }
        self.tell_digests(node);
        self.start(node);
    }

    /// Nothing runs on the node for so long; what arrives waits.
    pub fn pause(&mut self, node: usize, ms: u64) {
        self.nodes[node].paused_until = self.now + ms * MS;
        self.push(
            self.now + ms * MS,
            Event::Wake {
                node,
                at: self.now + ms * MS,
            },
        );
    }

    /// Splits the world: nodes talk only within their side.
    pub fn split(&mut self, side: impl Fn(usize) -> u8) {
        for i in 0..self.nodes.len() {
            self.side[i] = side(i);
        }
        let mut silent = Vec::new();
        let mut released = Vec::new();
        for (&(a, b), link) in &mut self.links {
            if self.side[a] != self.side[b]
                || self.deaf.contains(&(a, b))
                || self.deaf.contains(&(b, a))
            {
                link.cut_at.get_or_insert(self.now);
                silent.push((a, b, link.id));
            } else if link.cut_at.take().is_some() {
                released.extend(link.stalled.drain(..).map(|it| (link.id, it)));
            }
        }
        for (a, b, link) in silent {
            self.push(self.now + IDLE_MS * MS, Event::Silence { a, b, link });
        }
        for (link, (from, to, lane, bytes)) in released {
            let at = self.now + self.latency(from, to);
            self.push(
                at,
                Event::Frame {
                    from,
                    to,
                    link,
                    lane,
                    bytes,
                },
            );
        }
    }

    /// Breaks the link between two nodes, if there is one.
    pub fn break_link(&mut self, a: usize, b: usize) {
        let (a, b) = pair(a, b);
        if let Some(link) = self.links.get(&(a, b)) {
            let link = link.id;
            self.push(self.now, Event::LinkLost { a, b, link });
        }
    }

    /// Pairs with a link.
    pub fn linked(&self) -> Vec<(usize, usize)> {
        self.links
            .iter()
            .filter(|(_, it)| it.up.len() == 2)
            .map(|(pair, _)| *pair)
            .collect()
    }

    /// What one node thinks of another.
    pub fn opinion(&self, by: usize, of: usize) -> Opinion {
        self.nodes[by].mesh.opinion(&id(of))
    }

    /// Nodes that were not killed.
    pub fn alive(&self) -> impl Iterator<Item = usize> {
        (0..self.nodes.len()).filter(|i| !self.nodes[*i].is_dead)
    }

    /// Whether all have the same statements.
    pub fn is_converged(&self) -> bool {
        let mut all = self
            .alive()
            .map(|i| self.nodes[i].replica.statements.keys());
        let first: Vec<_> = all.next().into_iter().flatten().collect();
        all.all(|it| it.eq(first.iter().copied()))
    }

    /// Components of the graph of links.
    pub fn components(&self) -> usize {
        let mut root: Vec<usize> = (0..self.nodes.len()).collect();
        fn find(root: &[usize], mut i: usize) -> usize {
            while root[i] != i {
                i = root[i];
            }
            i
        }
        for (a, b) in self.linked() {
            let (a, b) = (find(&root, a), find(&root, b));
            root[a] = b;
        }
        self.alive().filter(|i| find(&root, *i) == *i).count()
    }

    /// Hands an input to a node now.
    pub fn input(&mut self, node: usize, input: MeshInput) {
        self.nodes[node].mesh.handle(clock(self.now), input);
        self.drain(node);
    }

    // ---- How it turns ----

    fn tell_digests(&mut self, node: usize) {
        let (statements, registers) = self.nodes[node].replica.digests;
        self.input(
            node,
            MeshInput::Digests {
                statements,
                registers,
            },
        );
    }

    fn beacon(&mut self, node: usize) {
        let key = u32::try_from(node).expect("invariant of the world");
        let counter = self.nodes[node]
            .replica
            .registers
            .get(&key)
            .copied()
            .unwrap_or(0)
            + 1;
        self.nodes[node].replica.add_register(key, counter);
        self.tell_digests(node);
        let say = Say::Push {
            statement: None,
            register: Some((key, counter)),
        };
        let mut payload = postcard::to_stdvec(&say).expect("invariant of the world");
        payload.resize(payload.len().max(300), 0);
        self.input(
            node,
            MeshInput::Broadcast {
                payload: payload.into(),
            },
        );
    }

    fn holder(event: &Event) -> Option<usize> {
        match event {
            Event::Input { node, .. }
            | Event::LinkUp { node, .. }
            | Event::Wake { node, .. }
            | Event::Beacon { node, .. } => Some(*node),
            Event::Frame { to, .. } => Some(*to),
            Event::LinkLost { .. } | Event::Dialed { .. } | Event::Silence { .. } => None,
        }
    }

    fn step(&mut self, event: Event) {
        if let Some(node) = Self::holder(&event) {
            if self.nodes[node].paused_until > self.now {
                self.nodes[node].held.push(event);
                return;
            }
            if !self.nodes[node].held.is_empty() {
                // On waking, the late timer is noticed before the frames that waited.
                let held = std::mem::take(&mut self.nodes[node].held);
                self.input(node, MeshInput::Wake);
                for event in held {
                    self.step(event);
                }
            }
            if self.nodes[node].is_dead {
                return;
            }
        }
        match event {
            Event::Input { node, life, input } => {
                if self.nodes[node].life == life {
                    self.input(node, input);
                }
            }
            Event::Wake { node, at } => {
                if at >= self.nodes[node].wake_at {
                    self.nodes[node].wake_at = u64::MAX;
                    self.input(node, MeshInput::Wake);
                }
            }
            Event::Beacon { node, life } => {
                if self.nodes[node].life == life && self.beacon_ms > 0 {
                    self.beacon(node);
                    // After the one at the start, as if the node had run for long.
                    let key = u32::try_from(node).expect("invariant of the world");
                    let is_first = self.nodes[node].replica.registers.get(&key) == Some(&1);
                    let least = if is_first { 0 } else { self.beacon_ms / 2 };
                    let at = self.now + (least + below(&mut self.rng, self.beacon_ms.max(1))) * MS;
                    self.push(at, Event::Beacon { node, life });
                }
            }
            Event::Frame {
                from,
                to,
                link,
                lane,
                bytes,
            } => {
                let is_up = self
                    .links
                    .get(&pair(from, to))
                    .is_some_and(|it| it.id == link);
                if is_up {
                    self.count(to, &bytes);
                    self.input(
                        to,
                        MeshInput::Frame {
                            from: id(from),
                            lane,
                            bytes,
                        },
                    );
                }
            }
            Event::Dialed { from, to } => self.dialed(from, to),
            Event::LinkUp { node, peer, link } => {
                if let Some(it) = self.links.get_mut(&pair(node, peer))
                    && it.id == link
                    && it.up.insert(node)
                {
                    let address = Some(([127, 0, 0, 1], 1000).into());
                    self.input(
                        node,
                        MeshInput::LinkUp {
                            peer: id(peer),
                            address,
                        },
                    );
                }
            }
            Event::Silence { a, b, link } => {
                if self.links.get(&(a, b)).is_some_and(|it| {
                    it.id == link && it.cut_at.is_some_and(|at| self.now - at >= IDLE_MS * MS)
                }) {
                    self.push(self.now, Event::LinkLost { a, b, link });
                }
            }
            Event::LinkLost { a, b, link } => {
                if self.links.get(&(a, b)).is_some_and(|it| it.id == link) {
                    let up = self
                        .links
                        .remove(&(a, b))
                        .map(|it| it.up)
                        .unwrap_or_default();
                    for (node, peer) in [(a, b), (b, a)] {
                        if up.contains(&node) {
                            let life = self.nodes[node].life;
                            let why = "lost".to_owned();
                            let input = MeshInput::LinkDown {
                                peer: id(peer),
                                why,
                            };
                            self.push(self.now, Event::Input { node, life, input });
                        }
                    }
                }
            }
        }
    }

    fn dialed(&mut self, from: usize, to: usize) {
        let life = self.nodes[from].life;
        let is_answered = !self.nodes[to].is_dead
            && !self.nodes[from].is_dead
            && self.nodes[to].paused_until <= self.now
            && self.can_talk(from, to)
            && self.can_talk(to, from);
        if !is_answered {
            let at = self.now + DIAL_MS * MS;
            let input = MeshInput::DialFailed {
                peer: id(to),
                why: "timed out".to_owned(),
            };
            self.push(
                at,
                Event::Input {
                    node: from,
                    life,
                    input,
                },
            );
            return;
        }
        self.nodes[from].sent_bytes += HANDSHAKE_BYTES;
        self.nodes[to].sent_bytes += HANDSHAKE_BYTES;
        let key = pair(from, to);
        let link = match self.links.get(&key) {
            // The other side's dial won, or this side forgot the link.
            Some(link) if !link.up.contains(&from) => link.id,
            Some(_) => return,
            None => {
                self.seq += 1;
                let id = self.seq;
                self.links.insert(
                    key,
                    Link {
                        id,
                        last: [0; 4],
                        up: BTreeSet::new(),
                        stalled: Vec::new(),
                        cut_at: None,
                    },
                );
                id
            }
        };
        let rtt = self.latency(from, to) * 2;
        self.push(
            self.now + rtt,
            Event::LinkUp {
                node: to,
                peer: from,
                link,
            },
        );
        self.push(
            self.now + rtt,
            Event::LinkUp {
                node: from,
                peer: to,
                link,
            },
        );
    }

    fn drain(&mut self, node: usize) {
        while let Some(output) = self.nodes[node].mesh.poll() {
            self.note(node, &output);
            self.carry_out(node, output);
        }
        if let Some(deadline) = self.nodes[node].mesh.deadline() {
            let at = deadline.at.0.max(self.now);
            if at < self.nodes[node].wake_at || self.nodes[node].wake_at <= self.now {
                self.nodes[node].wake_at = at;
                self.push(at, Event::Wake { node, at });
            }
        }
    }

    fn note(&mut self, node: usize, output: &MeshOutput) {
        if !self.is_traced {
            return;
        }
        let mut mix = |n: u64| {
            self.trace = (self.trace.rotate_left(5) ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        };
        mix(self.now);
        mix(node as u64);
        if let MeshOutput::Send { to, bytes, .. } = output {
            mix(index(*to) as u64);
            bytes
                .chunks(8)
                .for_each(|it| mix(it.iter().fold(0, |n, b| n << 8 | u64::from(*b))));
        } else {
            format!("{output:?}")
                .bytes()
                .for_each(|b| mix(u64::from(b)));
        }
    }

    fn carry_out(&mut self, node: usize, output: MeshOutput) {
        match &output {
            MeshOutput::Send { to, lane, bytes } => {
                self.send(node, index(*to), *lane, bytes.clone());
            }
            MeshOutput::Dial { peer, .. } => {
                self.nodes[node].sent_bytes += 1_200;
                self.nodes[node].dial_count += 1;
                let at = self.now + self.latency(node, index(*peer));
                self.push(
                    at,
                    Event::Dialed {
                        from: node,
                        to: index(*peer),
                    },
                );
            }
            MeshOutput::Hangup { peer, .. } => {
                let peer = index(*peer);
                if let Some(link) = self.links.get_mut(&pair(node, peer)) {
                    link.up.remove(&node);
                    let link = link.id;
                    let (a, b) = pair(node, peer);
                    if self.can_talk(a, b) && self.can_talk(b, a) {
                        let at = self.now + self.latency(a, b);
                        self.push(at, Event::LinkLost { a, b, link });
                    } else {
                        self.push(self.now + IDLE_MS * MS, Event::LinkLost { a, b, link });
                    }
                }
            }
            MeshOutput::Deliver {
                from: _,
                id,
                payload,
            } => {
                self.ingest(node, payload, None);
                let judged = MeshInput::Judged {
                    id: *id,
                    is_good: true,
                };
                self.nodes[node].mesh.handle(clock(self.now), judged);
            }
            MeshOutput::SyncMessage { from, bytes } => self.ingest(node, bytes, Some(*from)),
            MeshOutput::SyncOpen { peer } => {
                let replica = &self.nodes[node].replica;
                let say = Say::Have {
                    statements: replica.statements.keys().copied().collect(),
                    registers: replica.registers.clone(),
                };
                let messages = vec![
                    postcard::to_stdvec(&say)
                        .expect("invariant of the world")
                        .into(),
                ];
                self.nodes[node].mesh.handle(
                    clock(self.now),
                    MeshInput::SyncReply {
                        to: *peer,
                        messages,
                    },
                );
            }
            MeshOutput::RefuteSuspicion => self.beacon(node),
            MeshOutput::Liveness { .. }
            | MeshOutput::Learned { .. }
            | MeshOutput::Diverged { .. } => {}
        }
        if matches!(
            output,
            MeshOutput::Liveness {
                state: Opinion::Down,
                ..
            } | MeshOutput::Diverged { .. }
                | MeshOutput::RefuteSuspicion
        ) {
            self.seen.push(Seen {
                at_ms: self.now / MS,
                by: node,
                output,
            });
        }
    }

    fn send(&mut self, from: usize, to: usize, lane: Lane, bytes: Bytes) {
        if self.is_push_lost && bytes.get(1) == Some(&5) && bytes.get(2) == Some(&1) {
            return;
        }
        let packets = (bytes.len() as u64).div_ceil(1200).max(1);
        self.nodes[from].sent_bytes += bytes.len() as u64 + packets * PACKET_BYTES;
        self.nodes[from].sent_frames += 1;
        let mut at = self.now + self.paths.arrival(from, to, packets, &mut self.rng);
        let can_talk = self.can_talk(from, to);
        let is_dead = self.nodes[to].is_dead;
        if let Some(link) = self.links.get_mut(&pair(from, to)) {
            if !can_talk || is_dead {
                link.stalled.push((from, to, lane, bytes));
                return;
            }
            let last = &mut link.last[usize::from(from > to) * 2 + usize::from(lane == Lane::Bulk)];
            at = at.max(*last);
            *last = at;
            let link = link.id;
            // A ping is acknowledged by the packet of its pong.
            if bytes[1] != 2 {
                self.nodes[to].sent_bytes += packets.div_ceil(2) * ACK_BYTES;
            }
            self.push(
                at,
                Event::Frame {
                    from,
                    to,
                    link,
                    lane,
                    bytes,
                },
            );
        }
    }

    fn count(&mut self, to: usize, bytes: &Bytes) {
        if bytes.get(1..4) != Some(&[5, 1, 0]) {
            return;
        }
        let node = &mut self.nodes[to];
        node.payload_count += 1;
        node.large_count += u64::from(bytes.len() > 2_000);
        if let Ok(Message::Overlay(Overlay::Push(Push::Payload {
            scope: Scope::Swarm(hops),
            ..
        }))) = Message::decode(bytes)
        {
            node.hops_max = node.hops_max.max(hops + 1);
        }
    }

    fn arrived(&mut self, node: usize, statement: u32) {
        let count = self.nodes.len();
        let at_ms = self.now / MS;
        let arrivals = self
            .arrivals
            .entry(statement)
            .or_insert_with(|| vec![u64::MAX; count]);
        arrivals[node] = arrivals[node].min(at_ms);
    }

    fn ingest(&mut self, node: usize, bytes: &[u8], from: Option<NodeId>) {
        let Ok((say, _)) = postcard::take_from_bytes::<Say>(bytes) else {
            return;
        };
        let mut beacons = Vec::new();
        let pulled_from = from.filter(|_| matches!(say, Say::Take { .. }));
        match &say {
            Say::Take { statements, .. } => {
                statements
                    .iter()
                    .for_each(|(key, _)| self.arrived(node, *key));
            }
            Say::Push {
                statement: Some((key, _)),
                ..
            } => self.arrived(node, *key),
            Say::Have { .. } | Say::Push { .. } => {}
        }
        let replica = &mut self.nodes[node].replica;
        match say {
            Say::Have {
                statements,
                registers,
            } => {
                let take = Say::Take {
                    statements: replica
                        .statements
                        .iter()
                        .filter(|(k, _)| !statements.contains(k))
                        .map(|(k, v)| (*k, v.clone()))
                        .collect(),
                    registers: replica
                        .registers
                        .iter()
                        .filter(|(k, v)| registers.get(k).is_none_or(|it| it < v))
                        .map(|(k, v)| (*k, *v))
                        .collect(),
                };
                let to = from.expect("invariant of the world");
                let messages = vec![
                    postcard::to_stdvec(&take)
                        .expect("invariant of the world")
                        .into(),
                ];
                self.nodes[node]
                    .mesh
                    .handle(clock(self.now), MeshInput::SyncReply { to, messages });
                return;
            }
            Say::Take {
                statements,
                registers,
            } => {
                statements
                    .into_iter()
                    .for_each(|(k, v)| replica.add_statement(k, v));
                beacons.extend(
                    registers
                        .into_iter()
                        .filter(|(k, v)| replica.add_register(*k, *v)),
                );
            }
            Say::Push {
                statement,
                register,
            } => {
                statement
                    .into_iter()
                    .for_each(|(k, v)| replica.add_statement(k, v));
                beacons.extend(
                    register
                        .into_iter()
                        .filter(|(k, v)| replica.add_register(*k, *v)),
                );
            }
        }
        for (k, counter) in beacons {
            let input = MeshInput::Beacon {
                node: id(k as usize),
                counter,
                pulled_from,
            };
            self.nodes[node].mesh.handle(clock(self.now), input);
        }
        let (statements, registers) = self.nodes[node].replica.digests;
        let input = MeshInput::Digests {
            statements,
            registers,
        };
        self.nodes[node].mesh.handle(clock(self.now), input);
    }
}

fn clock(now: u64) -> Now {
    Now {
        mono: Mono(now),
        wall: Wall(1_800_000_000_000 + now / MS),
    }
}
