//! Agents that share their steps do exactly what agents do that compute everything for themselves.

use std::collections::BTreeMap;

use bytes::Bytes;
use ed25519_dalek::SigningKey;
use lab_agent_core::{
    Agent, Boot, Command, CommandId, Config, Effect, EffectResult, Input, LinkState, Memo,
    NodeKeys, Output, Prepared, Reply, ViewMask,
};
use lab_crdt_log::{
    Admin, Admit, Body, Draft, Edit, Grant, Revoke, Rights, RootRecord, SignedRoot, seal,
};
use lab_crdt_model::link::{Channel, Lane};
use lab_crdt_model::store::{StoreOp, Table, Tables};
use lab_crdt_model::view::Role;
use lab_crdt_model::{
    AuthorId, Caller, Field, Hlc, Mono, NodeId, Now, Op, StatementId, Value, Wall,
};
use proptest::prelude::*;
use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};

const START: u64 = 1_800_000_000_000;

type Disk = BTreeMap<(Table, Vec<u8>), Vec<u8>>;
type Frame = (usize, usize, Lane, Bytes);

/// Some agents, everyone linked to everyone, and frames between them that arrive in any order or not at all.
struct Fleet {
    config: Config,
    root: SignedRoot,
    admin: SigningKey,
    operator: SigningKey,
    keys: Vec<NodeKeys>,
    agents: Vec<Agent>,
    disks: Vec<Disk>,
    frames: Vec<Frame>,
    replies: Vec<Reply>,
    now: Now,
    rng: ChaCha12Rng,
    told: Vec<String>,
}

fn author(key: &SigningKey) -> AuthorId {
    AuthorId(key.verifying_key().to_bytes())
}

impl Fleet {
    fn new(count: usize, seed: u64, memo: Memo) -> Self {
        let (root_key, admin) = (
            SigningKey::from_bytes(&[200; 32]),
            SigningKey::from_bytes(&[201; 32]),
        );
        let record = RootRecord {
            name: "fleet".into(),
            nonce: [1; 16],
            root_keys: vec![author(&root_key)],
            threshold: 1,
            admins: vec![Admin {
                key: author(&admin),
                name: "ana".into(),
            }],
            min_proto: 1,
            ..RootRecord::default()
        };
        let root = SignedRoot::sign(&record, &[&root_key]);
        let keys: Vec<NodeKeys> = (0..count)
            .map(|n| NodeKeys::new(&[n as u8 + 1; 32]))
            .collect();
        let mut first = Vec::new();
        let mut prev = StatementId::ZERO;
        for (seq, keys) in (0..).zip(&keys) {
            let body = admit(keys, seq);
            let bytes = sign(&root, &admin, seq, prev, vec![], Hlc(seq + 1), body);
            prev = StatementId(*blake3::hash(&bytes[..bytes.len() - 64]).as_bytes());
            first.push(bytes);
        }
        let mut disk = Disk::new();
        write(&mut disk, Boot::founding(&root.encode(), &first));
        let mut fleet = Self {
            config: Config {
                memo,
                ..Config::homelab("0.1.0")
            },
            root,
            admin,
            operator: SigningKey::from_bytes(&[202; 32]),
            keys,
            agents: Vec::new(),
            disks: vec![disk; count],
            frames: Vec::new(),
            replies: Vec::new(),
            now: Now {
                mono: Mono(1_000_000_000),
                wall: Wall(START),
            },
            rng: ChaCha12Rng::seed_from_u64(seed),
            told: Vec::new(),
        };
        for n in 0..count {
            let agent = fleet.boot(n);
            fleet.agents.push(agent);
        }
        for n in 0..count {
            fleet.drain(n);
        }
        for n in 0..count {
            fleet.link(n);
        }
        fleet
    }

    fn boot(&mut self, n: usize) -> Agent {
        let mut tables = Tables::new();
        for ((table, key), value) in &self.disks[n] {
            let records = tables.entry(*table).or_default();
            records.push((key.clone(), value.clone()));
        }
        let boot = Boot::Stored { tables };
        let mut seed = [9; 32];
        seed[..8].copy_from_slice(&self.rng.next_u64().to_le_bytes());
        let (config, keys) = (self.config.clone(), self.keys[n].clone());
        Agent::new(config, keys, boot, seed, self.now).expect("the disk holds a mesh")
    }

    fn link(&mut self, n: usize) {
        for other in (0..self.agents.len()).filter(|it| *it != n) {
            for (a, b) in [(n, other), (other, n)] {
                let input = Input::Link {
                    peer: self.keys[b].node(),
                    channel: Channel::Mesh,
                    state: LinkState::Up { address: None },
                };
                self.input(a, input);
            }
        }
    }

    fn below(&mut self, n: usize) -> usize {
        (self.rng.next_u64() % n as u64) as usize
    }

    fn input(&mut self, n: usize, input: Input) {
        self.agents[n].handle(self.now, input);
        self.drain(n);
    }

    fn drain(&mut self, n: usize) {
        while let Some(output) = self.agents[n].poll() {
            self.told.push(format!("{n}: {output:?}"));
            match output {
                Output::Send {
                    to, lane, bytes, ..
                } => {
                    if let Some(to) = self.keys.iter().position(|k| k.node() == to) {
                        self.frames.push((n, to, lane, bytes));
                    }
                }
                Output::Store { id, batch } => {
                    write(&mut self.disks[n], batch);
                    let result = Ok(());
                    self.agents[n].handle(self.now, Input::Stored { id, result });
                }
                Output::Run { id, effect } => {
                    let result = match effect {
                        Effect::Facts => EffectResult::Facts(Box::default()),
                        Effect::Files { .. } => EffectResult::Files(vec![]),
                    };
                    self.agents[n].handle(self.now, Input::Done { id, result });
                }
                Output::Reply { reply, .. } => self.replies.push(reply),
                _ => {}
            }
        }
    }

    fn ask(&mut self, n: usize, command: Command) -> Option<Reply> {
        let id = CommandId(self.told.len() as u64);
        self.input(n, Input::Command { id, command });
        self.replies.pop()
    }

    /// Says something at one agent, on top of what that one has heard of: the same key at two agents forks its chain.
    fn say(&mut self, n: usize, key: &SigningKey, under: Option<StatementId>, body: Body) {
        let author = author(key);
        let Some(Reply::Prepared(prepared)) = self.ask(n, Command::Prepare { author }) else {
            return;
        };
        let Prepared {
            seq,
            prev,
            mut refs,
            hlc,
            ..
        } = prepared;
        refs.truncate(16);
        let hlc = hlc.next(self.now.wall);
        let root = &self.root;
        let draft = Draft {
            seq,
            prev,
            under: under.unwrap_or(StatementId(root.mesh().0)),
            hlc,
            refs,
            body,
        };
        let statement = seal(&root.mesh(), key, &draft).expect("within limits");
        let statements = vec![statement];
        self.ask(
            n,
            Command::Submit {
                caller: Caller::Local { uid: 0 },
                statements,
            },
        );
    }

    fn turn(&mut self) {
        let n = self.below(self.agents.len());
        let (admin, operator) = (self.admin.clone(), self.operator.clone());
        match self.below(40) {
            0..=1 => {
                let paths = ["on/all/params/x", "label/n1/role=web", "label/n2/role=db"];
                let path = paths[self.below(3)].parse().expect("a path");
                let value = Value::Int(self.below(5) as i64);
                let op = Op::Set {
                    path,
                    field: Field::new(value, "person:ana"),
                };
                let edit = Body::Edit(Edit {
                    message: "set".into(),
                    ops: vec![op],
                });
                // The operator relies on whatever grant this one has heard of.
                let grant = self.agents[n]
                    .view(ViewMask {
                        roster: true,
                        ..ViewMask::default()
                    })
                    .and_then(|v| v.operators.iter().find(|o| !o.is_admin).map(|o| o.under));
                match grant.filter(|_| self.below(2) == 0) {
                    Some(grant) => self.say(n, &operator, Some(grant), edit),
                    None => self.say(n, &admin, None, edit),
                }
            }
            2 => {
                let grant = Grant {
                    subject: author(&operator),
                    name: "ben".into(),
                    rights: Rights::ALL,
                    scope: vec![String::new()],
                    not_after: None,
                };
                self.say(n, &admin, None, Body::Grant(grant));
            }
            3 if self.below(6) == 0 => {
                let revoke = Revoke {
                    key: author(&operator),
                    head: None,
                    reason: "gone".into(),
                };
                self.say(n, &admin, None, Body::Revoke(revoke));
            }
            4 => {
                let more = NodeKeys::new(&[100 + self.below(3) as u8; 32]);
                self.say(n, &admin, None, admit(&more, 99));
            }
            5 => {
                self.agents[n] = self.boot(n);
                self.drain(n);
                self.link(n);
            }
            6 => {
                let bytes = Bytes::copy_from_slice(&self.rng.next_u64().to_le_bytes());
                let from = self.keys[(n + 1) % self.keys.len()].node();
                let input = Input::Frame {
                    from,
                    channel: Channel::Mesh,
                    lane: Lane::Control,
                    bytes,
                };
                self.input(n, input);
            }
            7 if !self.frames.is_empty() => {
                let at = self.below(self.frames.len());
                self.frames.swap_remove(at);
            }
            8..=11 => {
                let ms = self.below(3_000) as u64;
                self.now.mono = self.now.mono.plus_ms(ms);
                self.now.wall = Wall(self.now.wall.0 + ms);
                for n in 0..self.agents.len() {
                    let is_due = |d: lab_agent_core::Deadline| d.at <= self.now.mono;
                    if self.agents[n].deadline().is_some_and(is_due) {
                        self.input(n, Input::Wake);
                    }
                }
            }
            _ => {
                if !self.frames.is_empty() {
                    let at = self.below(self.frames.len().min(8));
                    let (from, to, lane, bytes) = self.frames.remove(at);
                    let from: NodeId = self.keys[from].node();
                    let input = Input::Frame {
                        from,
                        channel: Channel::Mesh,
                        lane,
                        bytes,
                    };
                    self.input(to, input);
                }
            }
        }
    }

    fn end(mut self) -> Vec<String> {
        let mask = ViewMask {
            roster: true,
            fields: true,
            reports: true,
            history_count: 50,
            chains: false,
        };
        for n in 0..self.agents.len() {
            let view = self.agents[n].view(mask);
            let digests = self.agents[n].digests();
            self.told.push(format!("{n}: {view:?} {digests:?}"));
        }
        self.told
    }
}

fn admit(keys: &NodeKeys, n: u64) -> Body {
    Body::Admit(Admit {
        node: keys.node(),
        seal_key: keys.seal_key(),
        name: format!("n{n}"),
        role: Role::Node,
        labels: vec![],
    })
}

fn sign(
    root: &SignedRoot,
    key: &SigningKey,
    seq: u64,
    prev: StatementId,
    refs: Vec<StatementId>,
    hlc: Hlc,
    body: Body,
) -> Bytes {
    let draft = Draft {
        seq,
        prev,
        under: StatementId(root.mesh().0),
        hlc,
        refs,
        body,
    };
    seal(&root.mesh(), key, &draft).expect("within limits")
}

fn write(disk: &mut Disk, batch: Vec<StoreOp>) {
    for op in batch {
        match op {
            StoreOp::Put { table, key, value } => disk.insert((table, key), value),
            StoreOp::Delete { table, key } => disk.remove(&(table, key)),
        };
    }
}

fn run(count: usize, turns: usize, seed: u64, memo: Memo) -> Vec<String> {
    let mut fleet = Fleet::new(count, seed, memo);
    for _ in 0..turns {
        fleet.turn();
    }
    fleet.end()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sharing_changes_nothing(count in 2usize..5, turns in 50usize..400, seed in any::<u64>(), is_tiny in any::<bool>()) {
        let alone = run(count, turns, seed, Memo::none());
        // A tiny memo forgets all the time. Every result that is found is computed again.
        let memo = Memo::new(if is_tiny { 500_000 } else { 1 << 24 }, 1);
        let shared = run(count, turns, seed, memo.clone());
        prop_assert!(memo.figures().hits > 0);
        for (a, b) in alone.iter().zip(&shared) {
            prop_assert_eq!(a, b);
        }
        prop_assert_eq!(alone.len(), shared.len());
    }
}

#[test]
fn what_one_agent_has_worked_out_costs_the_others_nothing() {
    let memo = Memo::new(1 << 24, 1);
    let mut fleet = Fleet::new(4, 7, memo.clone());
    let admin = fleet.admin.clone();
    let body = Body::Edit(Edit {
        message: "set".into(),
        ops: vec![Op::Set {
            path: "on/all/params/x".parse().unwrap(),
            field: Field::new(Value::Int(1), "person:ana"),
        }],
    });
    let author = author(&admin);
    let Some(Reply::Prepared(Prepared { seq, prev, hlc, .. })) =
        fleet.ask(0, Command::Prepare { author })
    else {
        panic!("no answer");
    };
    let hlc = hlc.next(fleet.now.wall);
    let statement = sign(&fleet.root, &admin, seq, prev, vec![], hlc, body);
    let mut misses = vec![memo.figures().misses];
    for n in 0..4 {
        let statements = vec![statement.clone()];
        let reply = fleet.ask(
            n,
            Command::Submit {
                caller: Caller::Local { uid: 0 },
                statements,
            },
        );
        assert!(matches!(reply, Some(Reply::Submitted { .. })), "{reply:?}");
        misses.push(memo.figures().misses);
    }
    let digests = fleet.agents.iter().filter_map(Agent::digests);
    let digests: Vec<_> = digests.map(|d| (d.statements, d.heads)).collect();
    assert_eq!(digests, [digests[0]; 4]);
    assert!(misses[1] > misses[0], "the first one computes");
    assert_eq!(misses[1..], [misses[1]; 4], "the others find");
}
