//! A small mesh with fixed keys, so that bytes can get beyond "a stranger".

use std::sync::LazyLock;

use bytes::Bytes;
use ed25519_dalek::{Signer, SigningKey};
use lab_crdt_log::{
    Act, Admin, Admit, AuditBody, AuditRecord, Body, Draft, Edit, Grant, Invite, Join, Kind, Log,
    Registers, Rights, RootRecord, SignedRoot, TokenKeys, Witness, WitnessRule, open, seal,
    seal_audit, seal_register,
};
use lab_crdt_model::report::{AuditHead, Section};
use lab_crdt_model::token::Seed;
use lab_crdt_model::view::Role;
use lab_crdt_model::{
    AuthorId, Binding, Caller, Field, Hardware, Hlc, Mac, MeshId, Mono, NodeId, Op, StatementId,
    Value, Wall,
};

static WORLD: LazyLock<World> = LazyLock::new(World::make);

/// One mesh: an admin, an operator, a node, a token that was used and edits of admin and operator.
#[derive(Debug)]
pub struct World {
    root: SignedRoot,
    statements: Vec<Bytes>,
    registers: Vec<Bytes>,
}

impl World {
    /// The one of this process.
    pub fn get() -> &'static Self {
        &WORLD
    }

    /// The key of somebody in this mesh: 1 is the admin, 10 the operator, 50 the first node, 60 the second one.
    pub fn key(n: u8) -> SigningKey {
        SigningKey::from_bytes(&[n; 32])
    }

    /// The mesh.
    pub fn mesh(&self) -> MeshId {
        self.root.mesh()
    }

    /// Its founding record.
    pub const fn root(&self) -> &SignedRoot {
        &self.root
    }

    /// What was said in it, in order.
    pub fn statements(&self) -> &[Bytes] {
        &self.statements
    }

    /// What its nodes reported.
    pub fn registers(&self) -> &[Bytes] {
        &self.registers
    }

    /// A replica that has heard the first `count` statements.
    pub fn replica(&self, count: usize) -> Log {
        let mut log = Log::new(self.root.clone()).expect("a sound root record");
        for bytes in self.statements.iter().take(count) {
            log.restore(bytes).expect("a sound statement");
        }
        log.authority();
        log
    }

    /// The reports as a replica keeps them.
    pub fn reports(&self) -> Registers {
        let mut registers = Registers::default();
        for bytes in &self.registers {
            registers.restore(bytes).expect("a sound register");
        }
        registers
    }

    /// What a node recorded of itself.
    pub fn audit_chain(&self) -> Vec<AuditRecord> {
        let started = Act::Started {
            incarnation: 7,
            version: "0.1.0".into(),
        };
        let taken = Act::handed_in(author(1), &[(StatementId([4; 32]), Kind::EDIT)]);
        let caller = Some(Caller::Local { uid: 1000 });
        let mut head = AuditHead::default();
        let mut seal = |act| {
            let body = AuditBody { caller, act };
            let record = seal_audit(&self.mesh(), &Self::key(50), &head, Wall(9), &body);
            head = record.head();
            record
        };
        [started, taken].map(&mut seal).into()
    }

    /// A statement of whoever `n` is, with any header after the author and any body, truly signed.
    pub fn sign_anything(&self, n: u8, header: &[u8], body: &[u8]) -> Bytes {
        let key = Self::key(n);
        let mut out = vec![1, header.first().copied().unwrap_or(1)];
        out.extend_from_slice(key.verifying_key().as_bytes());
        out.extend_from_slice(header.get(1..).unwrap_or_default());
        out.extend_from_slice(&(body.len() as u32).to_be_bytes());
        out.extend_from_slice(body);
        let message = [b"lab/stmt/1\0".as_slice(), &self.mesh().0, &out].concat();
        out.extend_from_slice(&key.sign(&message).to_bytes());
        out.into()
    }

    fn make() -> Self {
        let record = RootRecord {
            name: "home".into(),
            nonce: [0; 16],
            root_keys: vec![author(100)],
            threshold: 1,
            admins: vec![Admin {
                key: author(1),
                name: "ana".into(),
            }],
            min_proto: 1,
            ..RootRecord::default()
        };
        let root = SignedRoot::sign(&record, &[&Self::key(100)]);
        let mut said = Said {
            mesh: root.mesh(),
            log: Log::new(root.clone()).expect("a sound root"),
            all: vec![],
        };
        let under = StatementId(root.mesh().0);
        let admit = Admit {
            node: node(50),
            seal_key: [0; 32],
            name: "nas1".into(),
            role: Role::Node,
            labels: vec![],
        };
        let admitted = said.say(1, under, Body::Admit(admit));
        let grant = Grant {
            subject: author(10),
            name: "bob".into(),
            rights: Rights::ALL,
            scope: vec!["on".into(), "label".into()],
            not_after: Some(Wall(1_000_000)),
        };
        let grant = said.say(1, under, Body::Grant(grant));
        said.say(1, under, edit("on/all/params/x", Value::Int(1)));
        said.say(10, grant, edit("label/nas1/role=web", Value::Bool(true)));
        said.say(10, grant, edit("on/all/params/x", Value::text("two")));
        let tokens = TokenKeys::derive(&Seed::Long([9; 16]));
        let invite = Invite {
            token_key: tokens.public(),
            uses_max: 1,
            not_after: Wall(1_000_000),
            role: Role::Node,
            name: Some("nuc1".into()),
            labels: vec!["role=web".parse().expect("a label")],
            rights: Rights::default(),
            scope: vec![],
            lease_ms: 0,
            witness: WitnessRule::Any,
            confirm: false,
            mesh_mac: tokens.mesh_mac(&root.mesh()),
            binding: None,
        };
        let first = said.say(1, under, Body::Invite(invite.clone()));
        let token_signature = tokens.sign_join(&root.mesh(), &node(60), &[3; 32], None);
        let join = Join {
            invite: first,
            seal_key: [3; 32],
            operator_key: None,
            token_signature,
            hardware: None,
        };
        let seen = said.say(60, first, Body::Join(join.clone()));
        said.say(
            50,
            admitted,
            Body::Witness(Witness {
                join: seen,
                seen_at: Wall(2000),
            }),
        );
        said.say(1, under, Body::Unknown(Kind(200), vec![1, 2, 3]));
        let hardware = Hardware::new([Mac([2, 0, 0, 0, 0, 1])], Some("SN1".into()));
        let bound = Invite {
            name: Some("nuc2".into()),
            binding: Some(Binding {
                mac: hardware.macs.first().copied(),
                serial: hardware.serial.clone(),
            }),
            ..invite
        };
        let bound = said.say(1, under, Body::Invite(bound));
        let join = Join {
            invite: bound,
            token_signature: tokens.sign_join(&root.mesh(), &node(61), &[3; 32], None),
            hardware: Some(hardware),
            ..join
        };
        said.say(61, bound, Body::Join(join));
        let registers = [
            (50, Section::Beacon),
            (50, Section::Status),
            (60, Section::Beacon),
        ]
        .into_iter()
        .map(|(n, section)| seal_register(&root.mesh(), &Self::key(n), section, 7, 1, b"body"))
        .collect();
        Self {
            root,
            statements: said.all,
            registers,
        }
    }
}

struct Said {
    mesh: MeshId,
    log: Log,
    all: Vec<Bytes>,
}

impl Said {
    fn say(&mut self, n: u8, under: StatementId, body: Body) -> StatementId {
        self.log.authority();
        let tail = self.log.tail(&author(n));
        let hlc = Hlc::from_wall(Wall(1000 + self.all.len() as u64));
        let draft = Draft {
            seq: tail.seq,
            prev: tail.prev,
            under,
            hlc,
            refs: tail.refs,
            body,
        };
        let bytes = seal(&self.mesh, &World::key(n), &draft).expect("a sound draft");
        self.log
            .ingest(&bytes, Mono(0))
            .expect("it continues its chain");
        let id = open(&self.mesh, &bytes).expect("a true signature").id;
        self.all.push(bytes);
        id
    }
}

fn edit(path: &str, value: Value) -> Body {
    let op = Op::Set {
        path: path.parse().expect("a path"),
        field: Field::new(value, "person:ana"),
    };
    Body::Edit(Edit {
        message: String::new(),
        ops: vec![op],
    })
}

fn author(n: u8) -> AuthorId {
    AuthorId(World::key(n).verifying_key().to_bytes())
}

fn node(n: u8) -> NodeId {
    author(n).node()
}
