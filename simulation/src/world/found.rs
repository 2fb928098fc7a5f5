//! How meshes come to be: founded by an admin, grown by tokens, or formed at once.

use std::net::SocketAddr;
use std::sync::Arc;

use ed25519_dalek::SigningKey;
use lab_agent_core::{Boot, Config, Memo, NodeKeys, Reply};
use lab_crdt_log::{
    Admin, Admit, Body, Draft, Invite, Rights, SignedRoot, TokenKeys, WitnessRule, seal,
    seal_register,
};
use lab_crdt_model::report::{Beacon, Facts, Section, Status};
use lab_crdt_model::store::{StoreOp, Table, Tables};
use lab_crdt_model::token::{Seed, Ticket, Token};
use lab_crdt_model::view::Role;
use lab_crdt_model::{AuthorId, Hardware, Hlc, Label, Mac, StatementId, Wall};

use super::*;
use crate::clock::{Clock, WALL_START_MS};
use crate::seed;
use crate::trap;
use crate::world::host::Host;
use crate::world::store::Store;

/// Machines of a fleet formed at once start within this time, milliseconds.
const START_SPREAD_MS: u64 = 2_000;
/// Room for results that agents share, bytes.
const MEMO_BYTES: usize = 1 << 30;
/// One of so many results found is computed again, and must come out the same.
const MEMO_CHECK_ONE_IN: u64 = 1_000;

pub(super) fn address_of(node: usize, port: u16) -> SocketAddr {
    SocketAddr::from((
        [10, (node >> 16) as u8, (node >> 8) as u8, node as u8],
        port,
    ))
}

/// What a machine is.
pub(super) fn facts_of(node: usize) -> Facts {
    Facts {
        hostname: format!("host{node}"),
        ..Facts::default()
    }
}

fn author(key: &SigningKey) -> AuthorId {
    AuthorId(key.verifying_key().to_bytes())
}

impl World {
    /// A mesh of one machine, founded by one admin.
    pub fn found(seed: u64) -> Self {
        Self::found_with(Options::homelab(seed))
    }

    /// The same with other figures of the agents.
    pub fn found_as(seed: u64, agent: Config) -> Self {
        Self::found_with(Options {
            agent,
            ..Options::homelab(seed)
        })
    }

    /// The same of something else.
    pub fn found_with(options: Options) -> Self {
        let mut world = Self::empty(options);
        let (root, admit) = world.founding();
        let first = world.add_host();
        let admit = admit(&world, first, "n0", 0, StatementId::ZERO);
        let batch = Boot::founding(&root, &[admit]);
        let now = world.now;
        let _written = world.hosts[first].store.write(now, &batch);
        world.hosts[first].store.settle();
        world.start(first);
        world
    }

    /// A fleet of `count` machines that are all members from the start and know of each other: what tokens would have
    /// made of them, without the time that it takes. They start within two seconds.
    pub fn form(options: Options, count: usize) -> Self {
        let mut world = Self::empty(options);
        let (root, admit) = world.founding();
        let (mut prev, mut statements) = (StatementId::ZERO, Vec::with_capacity(count));
        for node in 0..count {
            world.add_host();
            let bytes = admit(&world, node, &format!("n{node}"), node as u64, prev);
            prev = StatementId(*blake3::hash(&bytes[..bytes.len() - 64]).as_bytes());
            statements.push(bytes);
        }
        let mut image = Tables::new();
        for op in Boot::founding(&root, &statements) {
            if let StoreOp::Put { table, key, value } = op {
                image.entry(table).or_default().push((key, value));
            }
        }
        let status = Self::settled_status(&world.options);
        let applied = (status.applied, status.applied_at.0);
        let applied = postcard::to_stdvec(&applied).expect("plain values");
        let meta = image.entry(Table::Meta).or_default();
        meta.push((b"applied".to_vec(), applied));
        let reports = image.entry(Table::Registers).or_default();
        for node in 0..count {
            reports.extend(world.last_words(node, &status));
        }
        for records in image.values_mut() {
            records.sort_unstable();
        }
        let image = Arc::new(image);
        for node in 0..count {
            let now = world.now;
            world.hosts[node].store.fill(now, &image);
            let wait = seed::draw(world.options.seed, node as u64, 1) % START_SPREAD_MS;
            let fault = Box::new(host::ProcessFault::Start);
            let node = node as u32;
            world.push_in(wait * 1000, Happening::Process { node, fault });
        }
        world
    }

    /// What a machine says of itself that was told nothing: as the first one of a small mesh does.
    fn settled_status(options: &Options) -> Status {
        let mut small = Self::found_with(Options {
            store: StoreKind::Model,
            network: network::Config::default(),
            is_noted: false,
            ..options.clone()
        });
        small.run_for(5_000);
        let bodies = small.reports(0).unwrap_or_default();
        bodies
            .iter()
            .filter(|bytes| bytes.get(1) == Some(&(Section::Status as u8)))
            .find_map(|bytes| postcard::from_bytes(bytes.get(54..bytes.len() - 64)?).ok())
            .unwrap_or_default()
    }

    /// What a machine said last in an earlier life, as records of its store.
    fn last_words(&self, node: usize, status: &Status) -> Vec<(Vec<u8>, Vec<u8>)> {
        let host = &self.hosts[node];
        let key = SigningKey::from_bytes(&host.secret);
        let beacon = Beacon {
            incarnation: 1,
            wall: Wall(WALL_START_MS),
            digest: [0; 32],
            addresses: vec![host.address],
            link_count: 0,
            version: self.options.agent.version.clone(),
            audit: lab_crdt_model::report::AuditHead::default(),
        };
        let facts = facts_of(node);
        let bodies = [
            (Section::Beacon, postcard::to_stdvec(&beacon)),
            (Section::Facts, postcard::to_stdvec(&facts)),
            (Section::Status, postcard::to_stdvec(status)),
        ];
        bodies
            .into_iter()
            .zip(1..)
            .map(|((section, body), seq)| {
                let body = body.expect("plain values");
                let register = seal_register(&self.mesh, &key, section, 1, seq, &body);
                let mut name = host.id.0.to_vec();
                name.push(section as u8);
                (name, register.to_vec())
            })
            .collect()
    }

    fn empty(mut options: Options) -> Self {
        trap::prepare();
        if options.is_sharing {
            options.agent.memo = Memo::new(MEMO_BYTES, MEMO_CHECK_ONE_IN);
        }
        let (root_key, admin_key) = (
            SigningKey::from_bytes(&[200; 32]),
            SigningKey::from_bytes(&[201; 32]),
        );
        let record = RootRecord {
            name: "home".into(),
            nonce: [1; 16],
            root_keys: vec![author(&root_key)],
            threshold: 1,
            admins: vec![Admin {
                key: author(&admin_key),
                name: "ana".into(),
            }],
            min_proto: 1,
            ..RootRecord::default()
        };
        let root = SignedRoot::sign(&record, &[&root_key]);
        let mesh = root.mesh();
        Self {
            now: Mono(START_NS),
            wheel: crate::wheel::Wheel::default(),
            hosts: Vec::new(),
            by_key: ByKey::default(),
            network: Network::new(
                seed::child(options.seed, "network", 0),
                options.network.clone(),
            ),
            network_change_at: None,
            cores: vec![Mono(0); options.cores],
            links: Vec::new(),
            free_slots: Vec::new(),
            troubled: BTreeSet::new(),
            serial: 0,
            replies: BTreeMap::new(),
            command_id: 0,
            trace: Trace::default(),
            notes: Vec::new(),
            mesh,
            token_count: 0,
            admin: Person {
                key: admin_key,
                under: StatementId(mesh.0),
                name: "ana".into(),
            },
            sent: (0, 0),
            is_gate_open: false,
            root: root.encode(),
            record,
            tampers: BTreeMap::new(),
            views: Vec::new(),
            options,
        }
    }

    /// The root record, and how to admit a machine: its number, its name, the admin's sequence number and statement
    /// before.
    #[expect(clippy::type_complexity, reason = "used at once, twice")]
    fn founding(
        &self,
    ) -> (
        Vec<u8>,
        impl Fn(&Self, usize, &str, u64, StatementId) -> Bytes + use<>,
    ) {
        let admit = |world: &Self, node: usize, name: &str, seq: u64, prev: StatementId| {
            let keys = NodeKeys::new(&world.hosts[node].secret);
            let admit = Admit {
                node: keys.node(),
                seal_key: keys.seal_key(),
                name: name.into(),
                role: Role::Node,
                labels: vec![],
            };
            let draft = Draft {
                seq,
                prev,
                under: StatementId(world.mesh.0),
                hlc: Hlc(Hlc::from_wall(Wall(WALL_START_MS)).0 + seq),
                refs: vec![],
                body: Body::Admit(admit),
            };
            seal(&world.mesh, &world.admin.key, &draft).expect("within limits")
        };
        (self.root.clone(), admit)
    }

    pub(super) fn add_host(&mut self) -> usize {
        let at = self.hosts.len();
        let secret = seed::bytes(self.options.seed, "node", at as u64);
        let id = NodeKeys::new(&secret).node();
        self.by_key.insert(id, at as u32);
        let place = network::Host::of(&self.options.network, at, self.options.seed);
        let added = self.network.add_host(place);
        assert_eq!(added, at, "hosts of world and network go together");
        let disk_seed = seed::child(self.options.seed, "disk", at as u64);
        self.hosts.push(Host {
            secret,
            id,
            agent: None,
            life: 0,
            store: Store::new(self.options.store, at, disk_seed),
            files: BTreeMap::new(),
            clock: Clock::default(),
            address: address_of(at, 4000),
            admitted: Arc::default(),
            devices: Arc::default(),
            links: Vec::new(),
            wake_at: None,
            inbox: std::collections::VecDeque::new(),
            doing: std::collections::VecDeque::new(),
            paused_until: None,
            slow: 1,
            busy_until: Mono(0),
            kill_after: None,
            writes: std::collections::VecDeque::new(),
            is_writing: false,
            events: std::collections::VecDeque::new(),
            refused_join: None,
            counters: Box::default(),
            asked: BTreeMap::new(),
        });
        at
    }

    /// What a machine is made of.
    pub fn hardware(node: usize) -> Hardware {
        let mac = Mac([2, 0, 0, (node >> 16) as u8, (node >> 8) as u8, node as u8]);
        Hardware::new([mac], Some(format!("SN{node}")))
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
        let uses_max = 1;
        let admin = self.admin.clone();
        self.token_of(&admin, at, name, role, labels, witness, uses_max)
            .expect("the admin may invite")
    }

    /// Makes a token at a node, by someone; `Err` is the refusal. It lasts an hour; a laptop's lease a day.
    #[expect(clippy::too_many_arguments, reason = "all that a token says")]
    pub fn token_of(
        &mut self,
        person: &Person,
        at: usize,
        name: &str,
        role: Role,
        labels: &[&str],
        witness: WitnessRule,
        uses_max: u16,
    ) -> Result<Token, Reply> {
        let terms = |invite: &mut Invite| {
            invite.uses_max = uses_max;
            invite.role = role;
            invite.name = (uses_max == 1).then(|| name.to_owned());
            invite.labels = labels
                .iter()
                .map(|l| l.parse::<Label>().expect("a label"))
                .collect();
            invite.witness = witness;
            if role == Role::Laptop {
                invite.rights = Rights::ALL;
                invite.scope = vec![String::new()];
                invite.lease_ms = 86_400_000;
            }
        };
        self.token_with(person, at, terms)
    }

    /// Makes a token for one machine at a node, by someone, on their own terms; it lasts an hour.
    ///
    /// # Errors
    /// The refusal.
    pub fn token_with(
        &mut self,
        person: &Person,
        at: usize,
        terms: impl FnOnce(&mut Invite),
    ) -> Result<Token, Reply> {
        self.token_count += 1;
        let random = seed::bytes(self.options.seed, "token", self.token_count);
        let seed: [u8; 16] = std::array::from_fn(|i| random[i]);
        let keys = TokenKeys::derive(&Seed::Long(seed));
        let mut invite = Invite {
            token_key: keys.public(),
            uses_max: 1,
            not_after: Wall(self.wall(at).0 + 3_600_000),
            role: Role::Node,
            name: None,
            labels: vec![],
            rights: Rights::default(),
            scope: vec![],
            lease_ms: 0,
            witness: WitnessRule::Any,
            confirm: false,
            mesh_mac: keys.mesh_mac(&self.mesh),
            binding: None,
        };
        terms(&mut invite);
        let not_after = invite.not_after;
        let (reply, statements) = person.say_with(self, at, Body::Invite(invite));
        let Reply::Submitted { .. } = reply else {
            return Err(reply);
        };
        Ok(Token::Ticket(Ticket {
            seed: Seed::Long(seed),
            mesh: self.mesh,
            not_after_s: (not_after.0 / 1000) as u32,
            addresses: vec![(self.id(at), self.hosts[at].address)],
            invite: statements.last().map(|b| b.to_vec()).unwrap_or_default(),
        }))
    }

    /// Starts a new machine with a token; it joins as time passes.
    pub fn join(&mut self, token: Token, operator: Option<AuthorId>) -> usize {
        let at = self.add_host();
        self.join_as(at, token, operator);
        at
    }

    /// Starts a machine that exists, and is off, with a token.
    pub fn join_as(&mut self, node: usize, token: Token, operator: Option<AuthorId>) {
        let boot = Boot::Joining {
            token,
            via: vec![],
            operator_key: operator,
            hardware: Self::hardware(node),
        };
        self.boot(node, boot);
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
}
