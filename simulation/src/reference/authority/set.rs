//! Which statements a replica may hold, and in which order they follow from each other.

use std::collections::{BTreeMap, BTreeSet};

use lab_crdt_log::{Body, Rights, RootRecord};
use lab_crdt_model::view::Role;
use lab_crdt_model::{AuthorId, MeshId, StatementId};

use super::Set;
use super::record::{self, Records};
use crate::reference::envelope::{self, Said, is_signature};

/// With or without what the newcomer is made of.
const JOINS: [u8; 2] = [7, 16];
const WITNESS: u8 = 8;
const VOUCH: u8 = 13;

/// What a statement stands on as far as edits go.
pub(super) fn before(s: &Said) -> impl Iterator<Item = StatementId> + '_ {
    let prev = (s.seq > 0).then_some(s.prev);
    prev.into_iter().chain(s.refs.iter().copied())
}

/// What must be known before a statement can be judged.
fn needs(s: &Said) -> Vec<StatementId> {
    let mut out: Vec<StatementId> = before(s).collect();
    if let Body::Join(join) = &s.body {
        out.push(join.invite);
    }
    out
}

/// All statements whose needs are there, each after everything that it needs.
pub(super) fn causal(set: &Set) -> Vec<StatementId> {
    let mut followers: BTreeMap<StatementId, Vec<StatementId>> = BTreeMap::new();
    let mut lacking: BTreeMap<StatementId, usize> = BTreeMap::new();
    let mut ready: Vec<StatementId> = Vec::new();
    for s in set.values() {
        let needs = needs(s);
        if needs.is_empty() {
            ready.push(s.id);
        }
        lacking.insert(s.id, needs.len());
        for need in needs {
            followers.entry(need).or_default().push(s.id);
        }
    }
    let mut out = Vec::new();
    while let Some(id) = ready.pop() {
        out.push(id);
        for follower in followers.remove(&id).unwrap_or_default() {
            if let Some(count) = lacking.get_mut(&follower) {
                *count -= 1;
                if *count == 0 {
                    ready.push(follower);
                }
            }
        }
    }
    out
}

pub(super) fn ends(set: &Set) -> BTreeMap<AuthorId, usize> {
    let inner: BTreeSet<StatementId> = set.values().map(|s| s.prev).collect();
    let mut out = BTreeMap::new();
    for s in set.values().filter(|s| !inner.contains(&s.id)) {
        *out.entry(s.author).or_default() += 1;
    }
    out
}

/// Who may say anything at all.
#[derive(Default)]
struct Standing {
    operators: BTreeSet<AuthorId>,
    inviters: BTreeSet<AuthorId>,
    nodes: BTreeSet<AuthorId>,
}

impl Standing {
    fn of(under_root: StatementId, held: &Set, records: &Records) -> Self {
        let mut out = Self::default();
        let mut admins = BTreeSet::new();
        for valid in records.all() {
            let listed: Vec<AuthorId> = valid.record.admins.iter().map(|a| a.key).collect();
            out.operators.extend(&listed);
            out.operators.extend(&valid.record.root_keys);
            admins.extend(listed);
        }
        out.inviters = out.operators.clone();
        for s in held.values() {
            let is_by_admin = s.under == under_root && admins.contains(&s.author);
            match &s.body {
                Body::Grant(g) if is_by_admin => {
                    out.operators.insert(g.subject);
                    if g.rights.has(Rights::INVITE) {
                        out.inviters.insert(g.subject);
                    }
                }
                Body::Admit(a) if is_by_admin => drop(out.nodes.insert(a.node.author())),
                Body::Join(join) => {
                    out.nodes.insert(s.author);
                    if let Some(Body::Invite(invite)) = held.get(&join.invite).map(|i| &i.body)
                        && invite.role == Role::Laptop
                        && let Some(key) = join.operator_key
                    {
                        out.operators.insert(key);
                        if invite.rights.has(Rights::INVITE) {
                            out.inviters.insert(key);
                        }
                    }
                }
                _ => {}
            }
        }
        out
    }
}

/// What a replica may hold: whatever somebody with any standing said on top of what may be held.
pub(super) fn admissible(mesh: MeshId, founding: &RootRecord, read: Set) -> (Set, Records) {
    let mut records = Records::founded(mesh, founding);
    let mut held = Set::new();
    let order = causal(&read);
    let mut standing = Standing::of(StatementId(mesh.0), &held, &records);
    loop {
        let before = held.len();
        for s in order.iter().map(|id| &read[id]) {
            if held.contains_key(&s.id) {
                continue;
            }
            let follows = s.seq == 0
                || held
                    .get(&s.prev)
                    .is_some_and(|p| p.author == s.author && p.seq + 1 == s.seq);
            let is_whole = needs(s).iter().all(|n| held.contains_key(n));
            if !follows || !is_whole {
                continue;
            }
            let is_for_nodes =
                [WITNESS, VOUCH].contains(&s.kind) || s.kind > envelope::KIND_KNOWN_MAX;
            let may_speak = JOINS.contains(&s.kind)
                || standing.operators.contains(&s.author)
                || standing.nodes.contains(&s.author) && is_for_nodes;
            if may_speak
                && is_true_join(mesh, &held, &standing.inviters, s)
                && is_true_root(mesh, &held, &mut records, s)
            {
                held.insert(s.id, s.clone());
                if !matches!(s.body, Body::Edit(_) | Body::Unknown(..)) {
                    standing = Standing::of(StatementId(mesh.0), &held, &records);
                }
            }
        }
        if held.len() == before {
            return (held, records);
        }
    }
}

/// Whether a root record is valid and what it follows is carried by what its statement names. Others are no records.
fn is_true_root(mesh: MeshId, held: &Set, records: &mut Records, s: &Said) -> bool {
    let Body::Root(signed) = &s.body else {
        return true;
    };
    let last = signed.read().map(|record| record.prev).unwrap_or_default();
    let is_named = before(s).any(|id| match held.get(&id).map(|s| &s.body) {
        Some(Body::Root(signed)) => record::hash(signed) == last,
        _ => false,
    });
    (last == mesh.0 || is_named) && records.add(signed)
}

/// Whether a join shows that its sender held a token of someone who could ever make one. Others are no joins.
fn is_true_join(mesh: MeshId, held: &Set, inviters: &BTreeSet<AuthorId>, s: &Said) -> bool {
    let Body::Join(join) = &s.body else {
        return true;
    };
    let Some((maker, Body::Invite(invite))) = held.get(&join.invite).map(|i| (i.author, &i.body))
    else {
        return false;
    };
    let operator = join.operator_key.map_or([0; 32], |key| key.0);
    let message = [
        b"lab/join/1\0".as_slice(),
        &mesh.0,
        &s.author.0,
        &join.seal_key,
        &operator,
    ]
    .concat();
    s.seq == 0
        && inviters.contains(&maker)
        && is_signature(&invite.token_key, &message, &join.token_signature)
}
