//! A world that is nothing but what a test says of it.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use bytes::Bytes;
use ed25519_dalek::SigningKey;
use lab_agent_core::{NodeKeys, ViewMask};
use lab_crdt_log::{Admin, Admit, Body, Draft, Edit, RootRecord, SignedRoot, seal, seal_register};
use lab_crdt_model::report::Section;
use lab_crdt_model::view::{Liveness, PeerView, ReplicaView, Role};
use lab_crdt_model::{AuthorId, Field, Hlc, MeshId, Mono, NodeId, Op, StatementId, Value, Wall};

use crate::oracle::{Audit, Counters, Digests, Note, Seen, What};
use crate::reference::envelope;

/// What a test says of one node.
#[derive(Debug)]
pub(super) struct FakeNode {
    secret: [u8; 32],
    pub(super) is_up: bool,
    pub(super) is_paused: bool,
    pub(super) digests: Digests,
    pub(super) view: ReplicaView,
    pub(super) statements: Vec<Bytes>,
    pub(super) registers: Vec<Bytes>,
    pub(super) audit_chain: Vec<Bytes>,
    pub(super) durable: BTreeSet<StatementId>,
    pub(super) files: BTreeMap<String, Vec<u8>>,
    pub(super) counters: Counters,
    pub(super) memory: u64,
    pub(super) audit: Audit,
    pub(super) is_silent: bool,
}

/// The world of a test: a mesh of one admin, whose nodes she admitted.
#[derive(Debug)]
pub(super) struct Fake {
    now: Mono,
    record: RootRecord,
    mesh: MeshId,
    nodes: Vec<FakeNode>,
    pub(super) opinions: BTreeMap<(usize, usize), Liveness>,
    pub(super) shut: BTreeSet<(usize, usize)>,
    pub(super) queue_len: usize,
    /// Everything that anyone said.
    pub(super) said: Vec<Bytes>,
    chains: BTreeMap<AuthorId, (u64, StatementId)>,
    clock: u64,
}

/// Something that happened at the beginning of time.
pub(super) fn note(node: usize, what: What) -> Note {
    Note {
        at: Mono(0),
        node,
        what,
    }
}

/// The key of whoever has this number.
pub(super) fn key(number: u8) -> SigningKey {
    SigningKey::from_bytes(&[number; 32])
}

/// The admin's number.
pub(super) const ADMIN: u8 = 201;

pub(super) fn author(key: &SigningKey) -> AuthorId {
    AuthorId(key.verifying_key().to_bytes())
}

fn empty_view(mesh: MeshId, me: NodeId) -> ReplicaView {
    ReplicaView {
        mesh,
        mesh_name: "home".into(),
        me,
        at: Wall(0),
        uptime_ms: 0,
        version: "0.1.0".into(),
        digest: [0; 32],
        register_digest: [0; 32],
        heads: vec![],
        statement_count: 0,
        pending_count: 0,
        members: vec![],
        operators: vec![],
        invites: vec![],
        fields: vec![],
        reports: vec![],
        peers: vec![],
        history: vec![],
        refused: vec![],
        issues: vec![],
        bindings: BTreeMap::new(),
        joins: vec![],
        checkpoints: vec![],
        held: vec![],
        chains: vec![],
    }
}

impl Fake {
    /// Nodes that hold their admissions and nothing else.
    pub(super) fn new(count: usize) -> Self {
        let root_key = key(200);
        let record = RootRecord {
            name: "home".into(),
            nonce: [1; 16],
            root_keys: vec![author(&root_key)],
            threshold: 1,
            admins: vec![Admin {
                key: author(&key(ADMIN)),
                name: "ana".into(),
            }],
            min_proto: 1,
            ..RootRecord::default()
        };
        let mesh = SignedRoot::sign(&record, &[&root_key]).mesh();
        let mut fake = Self {
            now: Mono(1_000_000_000),
            record,
            mesh,
            nodes: vec![],
            opinions: BTreeMap::new(),
            shut: BTreeSet::new(),
            queue_len: 0,
            said: vec![],
            chains: BTreeMap::new(),
            clock: 1,
        };
        for n in 0..count {
            let secret = [n as u8 + 1; 32];
            let node = NodeKeys::new(&secret).node();
            fake.nodes.push(FakeNode {
                secret,
                is_up: true,
                is_paused: false,
                digests: Digests::default(),
                view: empty_view(mesh, node),
                statements: vec![],
                registers: vec![],
                audit_chain: vec![],
                durable: BTreeSet::new(),
                files: BTreeMap::new(),
                counters: Counters::default(),
                memory: 0,
                audit: Audit::default(),
                is_silent: false,
            });
            let admit = Admit {
                node,
                seal_key: [0; 32],
                name: format!("n{n}"),
                role: Role::Node,
                labels: vec![],
            };
            fake.sign(ADMIN, Body::Admit(admit));
        }
        for n in 0..count {
            fake.hold_all(n);
        }
        fake
    }

    pub(super) fn node(&mut self, node: usize) -> &mut FakeNode {
        &mut self.nodes[node]
    }

    pub(super) fn pass_ms(&mut self, ms: u64) {
        self.now = self.now.plus_ms(ms);
    }

    /// Someone says something on top of all that they said, relying on the root record; nobody hears it yet.
    pub(super) fn sign(&mut self, who: u8, body: Body) -> Bytes {
        let under = StatementId(self.mesh.0);
        self.sign_under(&key(who), under, vec![], body)
    }

    pub(super) fn sign_under(
        &mut self,
        key: &SigningKey,
        under: StatementId,
        refs: Vec<StatementId>,
        body: Body,
    ) -> Bytes {
        let end = self.chains.get(&author(key)).copied();
        let (seq, prev) = end.map_or((0, StatementId::ZERO), |(seq, id)| (seq + 1, id));
        self.clock += 1;
        let draft = Draft {
            seq,
            prev,
            under,
            hlc: Hlc(self.clock << 16),
            refs,
            body,
        };
        let bytes = seal(&self.mesh, key, &draft).unwrap();
        let id = envelope::id_of(&bytes).unwrap();
        self.chains.insert(author(key), (seq, id));
        self.said.push(bytes.clone());
        bytes
    }

    /// The admin sets a path to true.
    pub(super) fn says(&mut self, path: &str) -> Bytes {
        self.sign(ADMIN, set(path, Value::Bool(true)))
    }

    /// A node holds all that was said.
    pub(super) fn hold_all(&mut self, node: usize) {
        self.nodes[node].statements = self.said.clone();
    }

    /// A report, signed by its node.
    pub(super) fn report(
        &self,
        node: usize,
        section: Section,
        incarnation: u64,
        seq: u64,
    ) -> Bytes {
        let key = SigningKey::from_bytes(&self.nodes[node].secret);
        seal_register(&self.mesh, &key, section, incarnation, seq, b"report")
    }

    /// How one node shows another.
    pub(super) fn show_peer(&mut self, at: usize, peer: usize) -> &mut PeerView {
        let id = self.id(peer);
        let peers = &mut self.nodes[at].view.peers;
        peers.retain(|p| p.node != id);
        peers.push(PeerView {
            node: id,
            liveness: Liveness::Alive,
            since_ms: 0,
            heard_ms: Some(0),
            is_linked: true,
            rtt_us: None,
            is_equal: Some(true),
            address: None,
            clock_ms: None,
        });
        peers.last_mut().unwrap()
    }
}

/// An edit of one path.
pub(super) fn set(path: &str, value: Value) -> Body {
    Body::Edit(Edit {
        message: String::new(),
        ops: vec![Op::Set {
            path: path.parse().unwrap(),
            field: Field::new(value, "person:ana"),
        }],
    })
}

impl Fake {
    /// The key of a node.
    pub(super) fn key(&self, node: usize) -> SigningKey {
        SigningKey::from_bytes(&self.nodes[node].secret)
    }
}

impl Seen for Fake {
    fn now(&self) -> Mono {
        self.now
    }

    fn count(&self) -> usize {
        self.nodes.len()
    }

    fn mesh(&self) -> MeshId {
        self.mesh
    }

    fn root(&self) -> RootRecord {
        self.record.clone()
    }

    fn id(&self, node: usize) -> NodeId {
        NodeKeys::new(&self.nodes[node].secret).node()
    }

    fn wall(&self, _node: usize) -> Wall {
        Wall(self.now.0 / 1_000_000)
    }

    fn is_up(&self, node: usize) -> bool {
        self.nodes[node].is_up
    }

    fn is_paused(&self, node: usize) -> bool {
        self.nodes[node].is_paused
    }

    fn is_open(&self, from: usize, to: usize) -> bool {
        !self.shut.contains(&(from, to))
    }

    fn digests(&mut self, node: usize) -> Option<Digests> {
        let node = &self.nodes[node];
        node.is_up.then_some(node.digests)
    }

    fn view(&mut self, node: usize, _mask: ViewMask) -> Option<Rc<ReplicaView>> {
        let node = &self.nodes[node];
        (node.is_up && !node.is_silent).then(|| Rc::new(node.view.clone()))
    }

    fn statements(&mut self, node: usize) -> Option<Vec<Bytes>> {
        let node = &self.nodes[node];
        node.is_up.then(|| node.statements.clone())
    }

    fn registers(&mut self, node: usize) -> Option<Vec<Bytes>> {
        let node = &self.nodes[node];
        node.is_up.then(|| node.registers.clone())
    }

    fn audit_chain(&mut self, node: usize) -> Option<Vec<Bytes>> {
        let node = &self.nodes[node];
        node.is_up.then(|| node.audit_chain.clone())
    }

    fn durable(&mut self, node: usize) -> Option<BTreeSet<StatementId>> {
        Some(self.nodes[node].durable.clone())
    }

    fn files(&mut self, node: usize) -> BTreeMap<String, Vec<u8>> {
        self.nodes[node].files.clone()
    }

    fn counters(&self, node: usize) -> Counters {
        self.nodes[node].counters
    }

    fn opinion(&mut self, of: usize, about: usize) -> Liveness {
        let known = self.opinions.get(&(of, about));
        known.copied().unwrap_or(Liveness::Alive)
    }

    fn memory(&mut self, node: usize) -> u64 {
        self.nodes[node].memory
    }

    fn queue_len(&self) -> usize {
        self.queue_len
    }

    fn audit(&mut self, node: usize) -> Audit {
        self.nodes[node].audit.clone()
    }
}
