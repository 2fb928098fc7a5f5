//! Random histories with a thief, against what authority promises.
//!
//! Honest people grant, revoke and edit on replicas that hear of each other now and then. Then keys are stolen:
//! the thief forks anywhere, backdates, names any grant, revokes anybody and lies about what it saw.
//!
//! - I1: replicas with the same statements agree on authority and on the edits that count.
//! - I2: keys without a grant change nothing.
//! - I3: a stolen operator key changes nothing outside its scope.
//! - I5: fewer admins than half change nothing that most of them agreed on, whatever they sign, before anybody answers.
//! - I4: once the others have answered, everything is as if the thief had never been, whatever it goes on to do.

use std::collections::BTreeMap;

use super::*;
use crate::resolve::GrantState;

struct Rng(u64);

impl Rng {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % n
    }

    fn of<T: Clone>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())].clone()
    }

    fn percent(&mut self, n: usize) -> bool {
        self.below(100) < n
    }
}

#[derive(Clone)]
struct Said {
    id: StatementId,
    author: u8,
    seq: u64,
    prev: StatementId,
    bytes: Bytes,
}

struct History {
    w: World,
    r: Rng,
    admins: Vec<u8>,
    operators: Vec<u8>,
    replicas: Vec<Log>,
    all: Vec<Said>,
    heads: BTreeMap<u8, usize>,
    grants: BTreeMap<u8, Vec<(StatementId, &'static str)>>,
    clock: u64,
    /// Whether the thief keeps to the branches that every replica keeps.
    is_capped: bool,
}

const NODES: [u8; 2] = [50, 51];
const STRANGER: u8 = 90;

/// Edits that count with their parents, grants, members.
type Outcome = (
    BTreeMap<StatementId, (Vec<StatementId>, Vec<Op>)>,
    BTreeMap<StatementId, GrantState>,
    Vec<Member>,
);

fn outcome(log: &mut Log) -> Outcome {
    let authority = log.authority();
    let members = authority.roster.members.values().cloned().collect();
    let grants = authority.grants.clone();
    log.take_edits();
    let edits = log.effective_edits();
    (
        edits
            .into_iter()
            .map(|e| (e.id, (e.parents, e.ops)))
            .collect(),
        grants,
        members,
    )
}

impl History {
    fn new(seed: u64, is_capped: bool) -> Self {
        let mut r = Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let admins: Vec<u8> = (1..=1 + r.below(5) as u8).collect();
        let operators: Vec<u8> = (10..=10 + r.below(4) as u8).collect();
        let w = World::with_admins(
            admins
                .iter()
                .map(|n| Admin {
                    key: author(&key(*n)),
                    name: String::new(),
                })
                .collect(),
        );
        let replicas = (0..2 + r.below(2)).map(|_| w.replica()).collect();
        let mut h = Self {
            w,
            r,
            admins,
            operators,
            replicas,
            all: Vec::new(),
            heads: BTreeMap::new(),
            grants: BTreeMap::new(),
            clock: 1,
            is_capped,
        };
        for node in NODES {
            let admit = Admit {
                node: author(&key(node)).node(),
                seal_key: [0; 32],
                name: format!("n{node}"),
                role: Role::Node,
                labels: vec![],
            };
            let by = h.r.of(&h.admins.clone());
            h.honest(by, h.w.under_root(), Body::Admit(admit), &[]);
        }
        h
    }

    fn sign(
        &mut self,
        who: u8,
        at: (u64, StatementId),
        under: StatementId,
        hlc: u64,
        refs: &[StatementId],
        body: Body,
    ) -> usize {
        let draft = Draft {
            seq: at.0,
            prev: at.1,
            under,
            hlc: Hlc(hlc),
            refs: refs.to_vec(),
            body,
        };
        let Ok(bytes) = seal(&self.w.root.mesh(), &key(who), &draft) else {
            return self.all.len().saturating_sub(1);
        };
        let id = StatementId(*blake3::hash(&bytes[..bytes.len() - 64]).as_bytes());
        self.all.push(Said {
            id,
            author: who,
            seq: at.0,
            prev: at.1,
            bytes,
        });
        self.all.len() - 1
    }

    fn honest(
        &mut self,
        who: u8,
        under: StatementId,
        body: Body,
        refs: &[StatementId],
    ) -> StatementId {
        let at = self.heads.get(&who).map_or((0, StatementId::ZERO), |h| {
            (self.all[*h].seq + 1, self.all[*h].id)
        });
        self.clock += 1;
        let index = self.sign(who, at, under, self.clock << 16, refs, body);
        self.heads.insert(who, index);
        self.all[index].id
    }

    fn head(&self, who: u8) -> Option<StatementId> {
        self.heads.get(&who).map(|h| self.all[*h].id)
    }

    fn revoke(&self, who: u8, head: Option<StatementId>) -> Body {
        Body::Revoke(Revoke {
            key: author(&key(who)),
            head,
            reason: String::new(),
        })
    }

    fn honest_round(&mut self) {
        let root = self.w.under_root();
        let (admins, operators) = (self.admins.clone(), self.operators.clone());
        match self.r.below(100) {
            0..25 => {
                let (by, of) = (self.r.of(&admins), self.r.of(&operators));
                let scope = self.r.of(&["a", "b"]);
                let grant = Grant {
                    subject: author(&key(of)),
                    name: String::new(),
                    rights: Rights::ALL,
                    scope: vec![scope.into()],
                    not_after: None,
                };
                let id = self.honest(by, root, Body::Grant(grant), &[]);
                self.grants.entry(of).or_default().push((id, scope));
            }
            25..30 => {
                let of = self.r.of(&operators);
                if let Some(head) = self.head(of) {
                    let by = self.r.of(&admins);
                    let body = self.revoke(of, Some(head));
                    self.honest(by, root, body, &[head]);
                }
            }
            30..34 => {
                let of = self.r.of(&operators);
                if let (Some(grants), Some(head)) = (self.grants.get(&of).cloned(), self.head(of)) {
                    let (grant, _) = self.r.of(&grants);
                    let by = self.r.of(&admins);
                    let body = Body::RevokeGrant(RevokeGrant {
                        grant,
                        head: Some(head),
                    });
                    self.honest(by, root, body, &[grant]);
                }
            }
            34..90 => {
                let who = self.r.of(&[operators, admins.clone()].concat());
                let under = if admins.contains(&who) {
                    Some(root)
                } else {
                    let grants = self.grants.get(&who).cloned();
                    grants.map(|g| self.r.of(&g).0)
                };
                if let Some(under) = under {
                    let path = format!("{}/{}", self.r.of(&["a", "b"]), self.r.of(&["x", "y"]));
                    let refs: Vec<_> = (0..self.r.below(3))
                        .map(|_| self.r.of(&self.all).id)
                        .collect();
                    self.honest(who, under, set(&path, self.clock as i64), &refs);
                }
            }
            _ => self.gossip(),
        }
    }

    fn gossip(&mut self) {
        let to = self.r.below(self.replicas.len());
        for _ in 0..self.r.below(self.all.len() + 1) {
            let said = self.r.of(&self.all);
            let _outcome = self.replicas[to].ingest(&said.bytes, Mono(0));
        }
        self.replicas[to].take_edits();
    }

    /// Everything reaches everyone, each in its own order.
    fn flood(&mut self) -> Vec<Outcome> {
        let mut out = Vec::new();
        for n in 0..self.replicas.len() {
            loop {
                let before = self.replicas[n].len();
                let mut order: Vec<usize> = (0..self.all.len()).collect();
                for i in (1..order.len()).rev() {
                    order.swap(i, self.r.below(i + 1));
                }
                for at in order {
                    let _outcome = self.replicas[n].ingest(&self.all[at].bytes, Mono(0));
                }
                self.replicas[n].take_edits();
                if self.replicas[n].len() == before {
                    break;
                }
            }
            out.push(outcome(&mut self.replicas[n]));
        }
        out
    }

    fn parent(&mut self, who: u8) -> (u64, StatementId) {
        let mine: Vec<Said> = self
            .all
            .iter()
            .filter(|s| s.author == who)
            .cloned()
            .collect();
        let has_child = |id: StatementId| mine.iter().any(|s| s.prev == id);
        let tips: Vec<Said> = mine.iter().filter(|s| !has_child(s.id)).cloned().collect();
        let parent = if mine.is_empty() || self.r.percent(20) {
            None
        } else {
            Some(self.r.of(&mine))
        };
        let begins = has_child(parent.as_ref().map_or(StatementId::ZERO, |p| p.id));
        let parent = if self.is_capped && begins && tips.len() >= 4 {
            Some(self.r.of(&tips))
        } else {
            parent
        };
        parent.map_or((0, StatementId::ZERO), |p| (p.seq + 1, p.id))
    }

    fn adversary(&mut self, keys: &[u8], n: usize) {
        for _ in 0..n {
            let who = self.r.of(keys);
            let mut at = self.parent(who);
            if self.r.percent(5) {
                at.0 += 1;
            }
            let mut unders = vec![self.w.under_root(), self.r.of(&self.all).id];
            unders.extend(self.grants.values().flatten().map(|(g, _)| *g));
            let under = self.r.of(&unders);
            let everyone = [&self.admins[..], &self.operators, &NODES].concat();
            let target = self.r.of(&everyone);
            let theirs: Vec<_> = self
                .all
                .iter()
                .filter(|s| s.author == target)
                .map(|s| Some(s.id))
                .chain([None, Some(StatementId([7; 32]))])
                .collect();
            let body = match self.r.below(100) {
                0..35 => {
                    let path =
                        format!("{}/{}", self.r.of(&["a", "b", "c"]), self.r.of(&["x", "y"]));
                    set(&path, -1)
                }
                35..65 => {
                    let head = self.r.of(&theirs);
                    self.revoke(target, head)
                }
                65..76 => Body::CoSign(CoSign {
                    proposal: self.r.of(&self.all).id,
                }),
                76..80 => {
                    let mut heads: Vec<_> = (0..3).map(|_| self.r.of(&self.all).id).collect();
                    heads.sort_unstable();
                    heads.dedup();
                    Body::Checkpoint(Checkpoint { heads })
                }
                80..90 => Body::Grant(Grant {
                    subject: author(&key(self.r.of(keys))),
                    name: String::new(),
                    rights: Rights::ALL,
                    scope: vec![String::new()],
                    not_after: None,
                }),
                _ => Body::RevokeGrant(RevokeGrant {
                    grant: self.r.of(&unders),
                    head: None,
                }),
            };
            let refs: Vec<_> = (0..self.r.of(&[0, 0, 1, 3, 8]))
                .map(|_| self.r.of(&self.all).id)
                .collect();
            let hlc = self
                .r
                .of(&[0, self.clock << 16, (self.clock + 100_000) << 16, u64::MAX]);
            let under = if self.r.percent(50) {
                self.w.under_root()
            } else {
                under
            };
            let index = self.sign(who, at, under, hlc, &refs, body);
            let to = self.r.below(self.replicas.len());
            let _outcome = self.replicas[to].ingest(&self.all[index].bytes, Mono(0));
            if self.r.percent(10) {
                self.replicas[to].take_edits();
            }
        }
    }

    /// A replica that heard only these.
    fn world_of(&self, said: &[Said]) -> Log {
        let mut log = self.w.replica();
        for _ in 0..3 {
            for s in said {
                let _outcome = log.ingest(&s.bytes, Mono(0));
            }
            log.take_edits();
        }
        log
    }
}

fn tell(seed: u64, is_capped: bool) -> &'static str {
    let mut h = History::new(seed, is_capped);
    for _ in 0..5 + h.r.below(36) {
        h.honest_round();
    }
    let honest = h.all.clone();
    let rest = h.flood();
    assert!(rest.iter().all(|o| *o == rest[0]), "I1 before, seed {seed}");
    let base = rest[0].clone();

    // Nodes, strangers and operators that were never granted anything.
    let ungranted: Vec<u8> = h
        .operators
        .iter()
        .filter(|o| !h.grants.contains_key(*o))
        .copied()
        .chain(NODES)
        .chain([STRANGER])
        .collect();
    let n = h.r.below(20);
    h.adversary(&ungranted, n);
    let now = h.flood();
    assert!(now.iter().all(|o| *o == base), "I2, seed {seed}");

    let admins = h.admins.clone();
    let minority = (admins.len() - 1) / 2;
    let (mode, bad) = match h.r.below(3) {
        0 if minority > 0 => {
            let from = h.r.below(admins.len());
            let bad = (0..minority)
                .map(|i| admins[(from + i) % admins.len()])
                .collect();
            ("admin_min", bad)
        }
        1 => {
            let count = admins.len().div_ceil(2);
            (
                "admin_all",
                admins[..count + h.r.below(admins.len() - count + 1)].to_vec(),
            )
        }
        _ => ("op", vec![h.r.of(&h.operators.clone())]),
    };
    let n = 1 + h.r.below(60);
    h.adversary(&bad, n);
    let now = h.flood();
    if is_capped {
        assert!(
            now.iter().all(|o| *o == now[0]),
            "I1 under attack, {mode}, seed {seed}"
        );
    }
    if mode == "op" {
        let scopes: Vec<_> = h
            .grants
            .get(&bad[0])
            .into_iter()
            .flatten()
            .map(|g| g.1)
            .collect();
        for (edits, grants, members) in &now {
            assert_eq!(
                (grants, members),
                (&base.1, &base.2),
                "I3 authority, seed {seed}"
            );
            for (id, (_, ops)) in edits.iter().filter(|(id, _)| !base.0.contains_key(id)) {
                for op in ops {
                    let is_inside = scopes.iter().any(|s| op.path().is_below(s));
                    assert!(is_inside, "I3 {id}, seed {seed}");
                }
            }
            assert!(
                base.0.keys().all(|id| edits.contains_key(id)),
                "I3 kept, seed {seed}"
            );
        }
    }

    // The answer.
    let root = h.w.under_root();
    let from = h.all.len();
    let good: Vec<u8> = admins
        .iter()
        .filter(|a| !bad.contains(a))
        .copied()
        .collect();
    match mode {
        "op" => {
            let body = h.revoke(bad[0], h.head(bad[0]));
            h.honest(admins[0], root, body, &[]);
        }
        "admin_min" => {
            for b in &bad {
                let body = h.revoke(*b, h.head(*b));
                let proposal = h.honest(good[0], root, body, &[]);
                for g in &good[1..] {
                    h.honest(*g, root, Body::CoSign(CoSign { proposal }), &[proposal]);
                }
            }
        }
        _ => {}
    }
    let answer = h.all[from..].to_vec();
    let n = h.r.below(40);
    h.adversary(&bad, n);
    let now = h.flood();
    if mode == "admin_all" {
        if is_capped {
            assert!(
                now.iter().all(|o| *o == now[0]),
                "I1 in the end, seed {seed}"
            );
        }
        return mode;
    }
    let want = outcome(&mut h.world_of(&[honest, answer].concat()));
    for (n, got) in now.iter().enumerate() {
        assert_eq!(got.1, want.1, "I4 grants, {mode}, seed {seed}, replica {n}");
        assert_eq!(got.0, want.0, "I4 edits, {mode}, seed {seed}, replica {n}");
        assert_eq!(
            got.2, want.2,
            "I4 members, {mode}, seed {seed}, replica {n}"
        );
    }
    if mode == "op" {
        let of = |log: &mut Log| log.tips(&author(&key(bad[0])));
        let tips: Vec<_> = h.replicas.iter_mut().map(of).collect();
        assert!(
            tips.iter().all(|t| *t == tips[0]),
            "told of the thief, seed {seed}"
        );
    }
    mode
}

#[test]
fn authority_keeps_its_promises_in_random_histories() {
    let mut modes: BTreeMap<&str, usize> = BTreeMap::new();
    for seed in 1..=120 {
        *modes.entry(tell(seed, true)).or_default() += 1;
    }
    assert!(
        modes.values().all(|n| *n >= 10) && modes.len() == 3,
        "{modes:?}"
    );
}

#[test]
fn a_thief_who_forks_without_end_gains_nothing_that_the_answer_does_not_undo() {
    for seed in 1001..=1060 {
        tell(seed, false);
    }
}

/// Every end of every chain.
fn tips(all: &[Said]) -> Vec<StatementId> {
    let is_inner = |id: StatementId| all.iter().any(|s| s.prev == id);
    let mut tips: Vec<_> = all
        .iter()
        .map(|s| s.id)
        .filter(|id| !is_inner(*id))
        .collect();
    tips.sort_unstable();
    tips
}

/// Most admins agree on all that there is, the others are stolen. Returns how many there are of each.
fn rob(seed: u64) -> (usize, usize) {
    let mut h = History::new(seed, true);
    for _ in 0..5 + h.r.below(36) {
        h.honest_round();
    }
    let admins = h.admins.clone();
    let from = h.r.below(admins.len());
    let (good, bad): (Vec<u8>, Vec<u8>) = (0..admins.len())
        .map(|i| admins[(from + i) % admins.len()])
        .partition(|a| {
            let place = (usize::from(*a) + admins.len() - 1 - from) % admins.len();
            place <= admins.len() / 2
        });
    let root = h.w.under_root();
    let heads = tips(&h.all);
    let agreed: Vec<StatementId> = h.all.iter().map(|s| s.id).collect();
    let proposal = h.honest(good[0], root, Body::Checkpoint(Checkpoint { heads }), &[]);
    for g in &good[1..] {
        h.honest(*g, root, Body::CoSign(CoSign { proposal }), &[proposal]);
    }
    let base = h.flood()[0].clone();
    if bad.is_empty() {
        return (good.len(), 0);
    }
    for _ in 0..3 {
        let n = 1 + h.r.below(30);
        h.adversary(&bad, n);
        for _ in 0..h.r.below(8) {
            h.honest_round();
        }
        for (n, (edits, grants, _)) in h.flood().iter().enumerate() {
            let mine = base.0.iter().filter(|(id, _)| agreed.contains(id));
            for (id, edit) in mine {
                assert_eq!(
                    edits.get(id),
                    Some(edit),
                    "I5 {id}, seed {seed}, replica {n}"
                );
            }
            for (id, grant) in &base.1 {
                let now = grants.get(id).map(|g| (g.subject, g.rights, &g.scope));
                let was = Some((grant.subject, grant.rights, &grant.scope));
                assert_eq!(now, was, "I5 {id}, seed {seed}, replica {n}");
            }
        }
    }
    (good.len(), bad.len())
}

#[test]
fn a_minority_of_admins_changes_nothing_that_a_majority_agreed_on() {
    let mut robbed = 0;
    for seed in 2001..=2120 {
        robbed += usize::from(rob(seed).1 > 0);
    }
    assert!(robbed >= 60, "{robbed}");
}
