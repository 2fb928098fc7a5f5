//! A person with a key: prepares, signs and hands in, as the CLI does.

use bytes::Bytes;
use ed25519_dalek::SigningKey;
use lab_agent_core::{Command, Prepared, Reply};
use lab_crdt_log::{Body, Draft, Edit, seal};
use lab_crdt_model::limit::REFS_MAX;
use lab_crdt_model::{AuthorId, Caller, Field, MeshId, Op, StatementId, Value, Wall};

use crate::world::World;

/// Someone who may sign statements.
#[derive(Clone, Debug)]
pub struct Person {
    /// The key; never inside an agent.
    pub key: SigningKey,
    /// What the statements rely on.
    pub under: StatementId,
    /// For ownership of fields.
    pub name: String,
}

impl Person {
    /// A person whose key follows from a number.
    pub fn new(number: u8, under: StatementId, name: &str) -> Self {
        Self {
            key: SigningKey::from_bytes(&[number; 32]),
            under,
            name: name.to_owned(),
        }
    }

    /// The public key.
    pub fn author(&self) -> AuthorId {
        AuthorId(self.key.verifying_key().to_bytes())
    }

    /// Signs on top of what a replica holds; more than 16 heads are merged first.
    pub fn sign(&self, prepared: &Prepared, wall: Wall, body: Body) -> Vec<Bytes> {
        let mesh: MeshId = prepared.mesh;
        let (mut seq, mut prev, mut hlc) = (prepared.seq, prepared.prev, prepared.hlc);
        let mut refs = prepared.refs.clone();
        let mut out = Vec::new();
        let mut next = |refs: Vec<StatementId>, body: Body, out: &mut Vec<Bytes>| {
            hlc = hlc.next(wall);
            let bytes = seal(
                &mesh,
                &self.key,
                &Draft {
                    seq,
                    prev,
                    under: self.under,
                    hlc,
                    refs,
                    body,
                },
            )
            .expect("within limits");
            prev = StatementId(*blake3::hash(&bytes[..bytes.len() - 64]).as_bytes());
            seq += 1;
            out.push(bytes);
        };
        while refs.len() > REFS_MAX {
            let rest = refs.split_off(REFS_MAX);
            next(
                std::mem::replace(&mut refs, rest),
                Body::Edit(Edit {
                    message: "merge".into(),
                    ops: vec![],
                }),
                &mut out,
            );
        }
        next(refs, body, &mut out);
        out
    }

    /// Says something at a node and waits for the answer.
    pub fn say(&self, world: &mut World, node: usize, body: Body) -> Reply {
        self.say_with(world, node, body).0
    }

    /// The same, with the statements that were signed.
    pub fn say_with(&self, world: &mut World, node: usize, body: Body) -> (Reply, Vec<Bytes>) {
        let author = self.author();
        match world.ask(node, Command::Prepare { author }) {
            Reply::Prepared(prepared) => {
                let statements = self.sign(&prepared, world.wall(node), body);
                let command = Command::Submit {
                    caller: Caller::Local { uid: 0 },
                    statements: statements.clone(),
                };
                (world.ask(node, command), statements)
            }
            other => (other, Vec::new()),
        }
    }

    /// Sets one field.
    pub fn set(&self, world: &mut World, node: usize, path: &str, value: Value) -> Reply {
        let op = Op::Set {
            path: path.parse().expect("a path"),
            field: Field::new(value, format!("person:{}", self.name)),
        };
        self.say(
            world,
            node,
            Body::Edit(Edit {
                message: format!("set {path}"),
                ops: vec![op],
            }),
        )
    }
}
