//! Random histories in which anyone may be a thief, and the comparison of both judges on them.
//!
//! Nobody in them is honest all the time: authors fork their chains, backdate, rely on what is not theirs, refer to
//! what they never saw, revoke each other, pass tokens round and let each other in. Only the number of ends of a
//! chain stays within what every replica keeps, so that the whole history is one set.

use std::collections::BTreeSet;

use bytes::Bytes;
use ed25519_dalek::SigningKey;
use lab_crdt_log::{Admin, Body, Draft, RootRecord, SignedRoot, TokenKeys, seal};
use lab_crdt_model::limit::FORK_BRANCHES_MAX;
use lab_crdt_model::token::Seed;
use lab_crdt_model::{AuthorId, Hardware, Hlc, Mac, MeshId, NodeId, StatementId};

use super::envelope;

mod act;
mod compare;

pub use compare::Tally;

const OPERATORS: [u8; 3] = [10, 11, 12];
const NODES: [u8; 5] = [50, 51, 52, 53, 54];
const LAPTOPS: [u8; 2] = [60, 61];
const LAPTOP_KEYS: [u8; 2] = [70, 71];
const STRANGER: u8 = 90;
/// Admins that a later root record may bring.
const NEW_ADMINS: [u8; 2] = [6, 7];
const ROOTS: [u8; 4] = [200, 201, 202, 203];
const TOKENS: usize = 6;
/// Kinds of statements: tokens and joins, without and with what a machine is made of.
const INVITES: [u8; 2] = [5, 15];
const JOINS: [u8; 2] = [7, 16];

/// A small generator: good enough to pick from lists, the same everywhere.
#[derive(Clone, Debug)]
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    fn percent(&mut self, n: usize) -> bool {
        self.below(100) < n
    }

    fn of<T: Clone>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())].clone()
    }

    fn maybe<T: Clone>(&mut self, list: &[T]) -> Option<T> {
        (!list.is_empty()).then(|| self.of(list))
    }
}

#[derive(Clone, Debug)]
struct Entry {
    id: StatementId,
    author: u8,
    seq: u64,
    prev: StatementId,
    kind: u8,
    /// For a grant or join: whom it names.
    names: Option<u8>,
    /// Whether a replica will most likely take it in. What builds on anything else is lost on everyone.
    is_sound: bool,
}

/// A mesh and all that was ever said in it.
#[derive(Clone, Debug)]
pub struct History {
    rng: Rng,
    root: SignedRoot,
    record: RootRecord,
    /// How often somebody replaces the root record.
    root_percent: usize,
    /// How often most of the admins agree on a checkpoint.
    agree_percent: usize,
    /// Records that somebody signed, with the statements that carry them.
    records: Vec<(RootRecord, Option<StatementId>)>,
    admins: Vec<u8>,
    said: Vec<Entry>,
    bytes: Vec<Bytes>,
    standing: BTreeSet<u8>,
    clock: u64,
    /// What came to the replica only after its grant had ended.
    late: BTreeSet<StatementId>,
}

fn key(number: u8) -> SigningKey {
    SigningKey::from_bytes(&[number; 32])
}

fn author(number: u8) -> AuthorId {
    AuthorId(key(number).verifying_key().to_bytes())
}

fn keys(numbers: &[u8]) -> Vec<SigningKey> {
    numbers.iter().map(|n| key(*n)).collect()
}

fn ascending(numbers: &[u8]) -> Vec<AuthorId> {
    let mut ids: Vec<AuthorId> = numbers.iter().map(|n| author(*n)).collect();
    ids.sort_unstable();
    ids
}

/// What a machine is made of. One of three has no serial number that it can read.
fn hardware(number: u8) -> Hardware {
    let macs = [0, 1].map(|n| Mac([2, 0, 0, 0, n, number]));
    let serial = (!number.is_multiple_of(3)).then(|| format!("SN-{number}"));
    Hardware::new(macs, serial)
}

fn token(number: usize) -> TokenKeys {
    TokenKeys::derive(&Seed::Long([number as u8 + 1; 16]))
}

impl History {
    /// The history of a seed.
    pub fn new(seed: u64) -> Self {
        Self::with_roots(seed, 30)
    }

    /// The same without any root record but the first.
    pub fn without_new_roots(seed: u64) -> Self {
        Self::with_roots(seed, 0)
    }

    fn with_roots(seed: u64, new_percent: usize) -> Self {
        let mut rng = Rng(seed);
        let admins: Vec<u8> = (1..=1 + rng.below(4) as u8).collect();
        let registrars: Vec<NodeId> = if rng.percent(20) {
            vec![author(NODES[0]).node(), author(NODES[1]).node()]
        } else {
            vec![]
        };
        let roots: Vec<u8> = ROOTS[..1 + rng.below(3)].to_vec();
        let root_percent = if rng.percent(new_percent) { 15 } else { 0 };
        let agree_percent = if rng.percent(40) { 8 } else { 0 };
        let threshold = 1 + rng.below(roots.len()) as u8;
        let record = RootRecord {
            name: "home".into(),
            nonce: [0; 16],
            root_keys: ascending(&roots),
            threshold,
            admins: admins
                .iter()
                .map(|n| Admin {
                    key: author(*n),
                    name: String::new(),
                })
                .collect(),
            registrars,
            min_proto: 1,
            ..RootRecord::default()
        };
        let mut history = Self {
            rng,
            root: SignedRoot::sign(&record, &keys(&roots).iter().collect::<Vec<_>>()),
            root_percent,
            agree_percent,
            records: vec![(record.clone(), None)],
            record,
            admins,
            said: vec![],
            bytes: vec![],
            standing: BTreeSet::new(),
            clock: 1_000,
            late: BTreeSet::new(),
        };
        history.standing = history.admins.iter().chain(&ROOTS).copied().collect();
        let first = history.admit(NODES[0]);
        history.put(
            1,
            (0, StatementId::ZERO),
            StatementId(history.mesh().0),
            Body::Admit(first),
        );
        for _ in 0..13 + history.rng.below(42) {
            history.step();
        }
        history
    }

    /// The same, with edits that come late and nodes that vouch for some of them.
    pub fn with_late(seed: u64) -> Self {
        let mut history = Self::new(seed);
        for _ in 0..20 {
            history.step();
            if history.rng.percent(60) {
                history.vouch();
            }
        }
        for id in history.of_kind(&[1]) {
            if history.rng.percent(60) {
                history.late.insert(id);
            }
        }
        history
    }

    /// The mesh.
    pub fn mesh(&self) -> MeshId {
        self.root.mesh()
    }

    /// The root record.
    pub const fn record(&self) -> &RootRecord {
        &self.record
    }

    /// All envelopes, in the order in which they were made.
    pub fn bytes(&self) -> &[Bytes] {
        &self.bytes
    }

    fn of_kind(&self, kinds: &[u8]) -> Vec<StatementId> {
        let matching = self
            .said
            .iter()
            .filter(|s| s.is_sound && kinds.contains(&s.kind));
        matching.map(|s| s.id).collect()
    }

    /// Where the next statement of someone goes: mostly the end of the chain, never making a fifth end.
    fn place(&mut self, who: u8, is_join: bool) -> (u64, StatementId) {
        let mine: Vec<Entry> = self
            .said
            .iter()
            .filter(|s| s.author == who && s.is_sound)
            .cloned()
            .collect();
        let after = |s: &Entry| (s.seq + 1, s.id);
        let last = mine.last().map_or((0, StatementId::ZERO), after);
        let all = self.said.iter().filter(|s| s.author == who);
        let ends: Vec<(u64, StatementId)> = all
            .clone()
            .filter(|s| !all.clone().any(|o| o.prev == s.id))
            .map(after)
            .collect();
        if ends.len() >= FORK_BRANCHES_MAX {
            return self.rng.of(&ends);
        }
        match self.rng.below(100) {
            0..5 => self.rng.maybe(&mine).map_or(last, |s| after(&s)),
            5 => (0, StatementId::ZERO),
            // A gap, which nobody can take in.
            6 if last.0 > 0 => (last.0 + 1, last.1),
            _ if is_join => (0, StatementId::ZERO),
            _ => last,
        }
    }

    fn say(&mut self, who: u8, body: Body) {
        let at = self.place(who, matches!(body, Body::Join(_)));
        self.clock += 1 + self.rng.below(5) as u64;
        let root = StatementId(self.mesh().0);
        let mine: Vec<StatementId> = self
            .said
            .iter()
            .filter(|s| s.names == Some(who))
            .map(|s| s.id)
            .collect();
        let under = match self.rng.below(30) {
            0 => self.some(&[2, 7, 16]),
            1 => root,
            _ if self.admins.contains(&who) => root,
            _ => self.rng.maybe(&mine).unwrap_or(root),
        };
        self.put(who, at, under, body);
    }

    fn put(&mut self, who: u8, place: (u64, StatementId), under: StatementId, body: Body) {
        self.put_with(who, place, under, body, None);
    }

    /// Says something that also names `more`, and returns its name.
    fn put_with(
        &mut self,
        who: u8,
        (seq, prev): (u64, StatementId),
        under: StatementId,
        body: Body,
        more: Option<StatementId>,
    ) -> Option<StatementId> {
        let hlc = match self.rng.below(15) {
            0 => 0,
            1 => (self.clock + 100_000) << 16,
            _ => self.clock << 16,
        };
        let sound: Vec<StatementId> = self
            .said
            .iter()
            .filter(|s| s.is_sound)
            .map(|s| s.id)
            .collect();
        let any: Vec<StatementId> = self.said.iter().map(|s| s.id).collect();
        let mut refs: Vec<StatementId> = more.into_iter().collect();
        for _ in 0..self.rng.of(&[0, 0, 0, 1, 1, 2, 4]) {
            let from = if self.rng.percent(2) { &any } else { &sound };
            refs.extend(self.rng.maybe(from));
        }
        let is_root = under == StatementId(self.mesh().0) && self.admins.contains(&who);
        let (names, gives) = match &body {
            Body::Grant(g) => {
                let all = [&OPERATORS[..], &NODES, &LAPTOPS, &LAPTOP_KEYS, &[STRANGER]].concat();
                let subject = all.into_iter().find(|o| author(*o) == g.subject);
                (subject, subject.filter(|_| is_root))
            }
            Body::Join(j) => {
                let key = |k: &u8| Some(author(*k)) == j.operator_key;
                (LAPTOP_KEYS.into_iter().find(key), Some(who))
            }
            Body::Admit(a) => {
                let mut all = [&NODES[..], &LAPTOPS].concat().into_iter();
                (
                    None,
                    all.find(|n| author(*n).node() == a.node)
                        .filter(|_| is_root),
                )
            }
            _ => (None, None),
        };
        let needs_invite = match &body {
            Body::Join(j) => Some(j.invite),
            _ => None,
        };
        let is_known = |id: &StatementId| sound.contains(id);
        let follows = seq == 0
            || self
                .said
                .iter()
                .any(|s| s.id == prev && s.seq + 1 == seq && s.author == who);
        let is_sound = (self.standing.contains(&who) || needs_invite.is_some())
            && follows
            && (seq == 0 || is_known(&prev))
            && refs.iter().all(is_known)
            && needs_invite.is_none_or(|i| is_known(&i) && seq == 0);
        let kind = body.kind().0;
        let draft = Draft {
            seq,
            prev,
            under,
            hlc: Hlc(hlc),
            refs,
            body,
        };
        let bytes = seal(&self.mesh(), &key(who), &draft).ok()?;
        let id = envelope::id_of(&bytes)?;
        if is_sound {
            self.standing.extend(gives);
            if JOINS.contains(&kind) {
                self.standing.extend(names);
            }
        }
        self.said.push(Entry {
            id,
            author: who,
            seq,
            prev,
            kind,
            names,
            is_sound,
        });
        self.bytes.push(bytes);
        Some(id)
    }
}
