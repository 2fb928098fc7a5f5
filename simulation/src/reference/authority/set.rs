//! Which statements a replica may hold, and in which order they follow from each other.

use std::collections::{BTreeMap, BTreeSet};

use lab_crdt_log::{Body, Rights};
use lab_crdt_model::view::Role;
use lab_crdt_model::{AuthorId, StatementId};

use super::{Root, Set};
use crate::reference::envelope::{self, Said, is_signature};

const JOIN: u8 = 7;
const WITNESS: u8 = 8;

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

/// What a replica may hold: whatever somebody with any standing said on top of what may be held.
pub(super) fn admissible(root: &Root, read: Set) -> Set {
    let all: BTreeSet<AuthorId> = root.admins.union(&root.keys).copied().collect();
    let (mut operators, mut inviters) = (all.clone(), all);
    let mut nodes: BTreeSet<AuthorId> = BTreeSet::new();
    let mut held = Set::new();
    let order = causal(&read);
    loop {
        let before = held.len();
        for s in order.iter().map(|id| &read[id]) {
            let is_for_nodes = s.kind == WITNESS || s.kind > envelope::KIND_KNOWN_MAX;
            let has_standing = s.kind == JOIN
                || operators.contains(&s.author)
                || nodes.contains(&s.author) && is_for_nodes;
            let follows = s.seq == 0
                || held
                    .get(&s.prev)
                    .is_some_and(|p| p.author == s.author && p.seq + 1 == s.seq);
            let is_whole = needs(s).iter().all(|n| held.contains_key(n));
            let is_new = !held.contains_key(&s.id) && has_standing && follows && is_whole;
            if !is_new || !is_true_join(root, &held, &inviters, s) {
                continue;
            }
            let is_by_admin = s.under == root.under && root.admins.contains(&s.author);
            match &s.body {
                Body::Grant(g) if is_by_admin => {
                    operators.insert(g.subject);
                    if g.rights.has(Rights::INVITE) {
                        inviters.insert(g.subject);
                    }
                }
                Body::Admit(a) if is_by_admin => drop(nodes.insert(a.node.author())),
                Body::Join(join) => {
                    nodes.insert(s.author);
                    if let Some(Body::Invite(invite)) = held.get(&join.invite).map(|i| &i.body)
                        && invite.role == Role::Laptop
                        && let Some(key) = join.operator_key
                    {
                        operators.insert(key);
                        if invite.rights.has(Rights::INVITE) {
                            inviters.insert(key);
                        }
                    }
                }
                _ => {}
            }
            held.insert(s.id, s.clone());
        }
        if held.len() == before {
            return held;
        }
    }
}

/// Whether a join shows that its sender held a token of someone who could ever make one. Others are no joins.
fn is_true_join(root: &Root, held: &Set, inviters: &BTreeSet<AuthorId>, s: &Said) -> bool {
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
        &root.mesh.0,
        &s.author.0,
        &join.seal_key,
        &operator,
    ]
    .concat();
    s.seq == 0
        && inviters.contains(&maker)
        && is_signature(&invite.token_key, &message, &join.token_signature)
}
