//! The set of statements of one replica, and what follows from it.
//!
//! Once settled ([`State::settle`]), a state is a function of the set and the root record alone: the order of arrival
//! leaves no trace in it. So replicas that hold the same statements can share one. Clones are cheap and share what is
//! equal in them.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use imbl::{OrdMap, OrdSet};
use lab_crdt_model::view::Role;
use lab_crdt_model::{AuthorId, Hlc, MeshId, StatementId, mutant};

use crate::body::{Body, Rights};
use crate::chain::Chain;
use crate::edits::{Change, EditIndex};
use crate::envelope::{Statement, parse_again};
use crate::memo::{StepKey, step_key};
use crate::prints::{Prints, Sum};
use crate::resolve::{Authority, resolve};
use crate::root::{Annul, RootError, RootRecord, SignedRoot};
use crate::roots::{RootState, Roots, Sequel};

/// The end of a key that nobody has said: what if.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Supposed {
    /// Of which key, and where.
    pub end: Annul,
    /// As if too few admins said it to undo what a checkpoint covers; else as if the root keys said it.
    pub is_limited: bool,
}

/// The mesh and the root record that founds it.
#[derive(Debug)]
pub(crate) struct Root {
    pub(crate) mesh: MeshId,
    pub(crate) signed: SignedRoot,
}

/// A place in an order that respects causes and otherwise follows the stamps. The same on every replica.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) struct Place {
    /// The newest stamp among the statement and its past.
    at: Hlc,
    /// One more than the largest in its past.
    depth: u64,
}

#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) bytes: Bytes,
    pub(crate) author: AuthorId,
    pub(crate) seq: u64,
    pub(crate) place: Place,
}

/// What an author may say at all. Only grows, and follows from the set of statements alone: what counts is decided
/// later, but nothing at all is kept of those who never had any standing.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Standing {
    pub(crate) is_operator: bool,
    pub(crate) may_invite: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct State {
    root: Arc<Root>,
    roots: Arc<Roots>,
    in_force: Arc<RootState>,
    supposed: Arc<[Supposed]>,
    /// Admins of any valid root record, in force or not: those who may take part once another one is.
    admins: OrdSet<AuthorId>,
    statements: OrdMap<StatementId, Arc<Stored>>,
    in_order: OrdSet<(Place, StatementId)>,
    chains: OrdMap<AuthorId, Arc<Chain>>,
    forked: OrdSet<AuthorId>,
    acts: OrdMap<StatementId, Arc<Statement>>,
    known: OrdMap<AuthorId, Standing>,
    bytes_of: OrdMap<AuthorId, usize>,
    join_counts: OrdMap<StatementId, usize>,
    invite_count: usize,
    /// What came here only after its grant had ended, with its author and its grant. The one thing that replicas do not
    /// know of each other: who was away cannot tell what was said in time.
    late: OrdMap<StatementId, (AuthorId, StatementId)>,
    prints: Prints,
    hlc: Hlc,
    authority: Arc<Authority>,
    is_stale: bool,
    edits: EditIndex,
    /// Of every statement and its signature.
    content: Sum,
    key: StepKey,
}

impl State {
    /// No statements, in the mesh that a root record founds.
    pub(crate) fn new(signed: SignedRoot) -> Result<Self, RootError> {
        let record = signed.verify()?;
        let mesh = signed.mesh();
        let roots = Roots::new(mesh, record.clone());
        let mut state = Self {
            in_force: Arc::new(roots.in_force()),
            root: Arc::new(Root { mesh, signed }),
            roots: Arc::new(roots),
            supposed: Arc::default(),
            admins: OrdSet::new(),
            statements: OrdMap::new(),
            in_order: OrdSet::new(),
            chains: OrdMap::new(),
            forked: OrdSet::new(),
            acts: OrdMap::new(),
            known: OrdMap::new(),
            bytes_of: OrdMap::new(),
            join_counts: OrdMap::new(),
            invite_count: 0,
            late: OrdMap::new(),
            prints: Prints::default(),
            hlc: Hlc::default(),
            authority: Arc::default(),
            is_stale: true,
            edits: EditIndex::default(),
            content: Sum::default(),
            key: step_key("no statements", &[&mesh.0]),
        };
        state.appoint(&record);
        Ok(state)
    }

    /// Resolves authority from here on as if these keys were at an end.
    pub(crate) fn suppose(&mut self, ends: &[Supposed]) {
        self.supposed = ends.into();
        self.is_stale = true;
    }

    pub(crate) fn supposed(&self) -> &[Supposed] {
        &self.supposed
    }

    /// Gives the keys of a root record their standing.
    fn appoint(&mut self, record: &RootRecord) {
        let all = Standing {
            is_operator: true,
            may_invite: true,
        };
        let admins = record.admins.iter().map(|a| a.key);
        self.admins.extend(admins.clone());
        let keys = admins.chain(record.root_keys.iter().copied());
        self.known.extend(keys.map(|key| (key, all)));
    }

    /// Takes in a statement that was checked and whose past is here.
    pub(crate) fn take(&mut self, s: &Arc<Statement>) {
        self.key = self.key_with(s);
        self.content.add(&Sum::of_bytes(&item(s)));
        let chain = Arc::make_mut(self.chains.entry(s.author).or_default());
        if chain.insert(s.seq, s.id, s.prev) {
            // Branches are named anew.
            self.is_stale = true;
            self.edits.reset();
            self.forked.insert(s.author);
        }
        self.learn(s);
        *self.bytes_of.entry(s.author).or_default() += s.bytes.len();
        self.hlc = self.hlc.max(s.hlc);
        self.edits.store(s);
        let place = self.place_of(s);
        self.in_order.insert((place, s.id));
        let stored = Stored {
            bytes: s.bytes.clone(),
            author: s.author,
            seq: s.seq,
            place,
        };
        self.statements.insert(s.id, Arc::new(stored));
        if matches!(s.body, Body::Edit(_) | Body::Unknown(..)) {
            self.is_stale |= self.authority.awaited.contains(&s.id);
        } else {
            self.is_stale = true;
            self.acts.insert(s.id, Arc::clone(s));
        }
        self.set_print(&s.author);
    }

    /// The name of the state that [`State::take`] would lead to.
    pub(crate) fn key_with(&self, s: &Statement) -> StepKey {
        step_key("take", &[&self.key, &item(s)])
    }

    /// Notes that statements came only after their grant had ended. Returns those of which that was not noted before.
    pub(crate) fn mark_late(&mut self, ids: &[StatementId]) -> Vec<StatementId> {
        self.key = self.key_with_late(ids);
        let mut new = Vec::new();
        for id in ids {
            let Some(s) = self.statement(id) else {
                continue;
            };
            if self.late.insert(*id, (s.author, s.under)).is_none() {
                self.content
                    .add(&Sum::of_bytes(&step_key("late", &[&id.0])));
                new.push(*id);
            }
        }
        self.is_stale |= !new.is_empty();
        new
    }

    /// The name of the state that [`State::mark_late`] would lead to.
    pub(crate) fn key_with_late(&self, ids: &[StatementId]) -> StepKey {
        let ids: Vec<u8> = ids.iter().flat_map(|id| id.0).collect();
        step_key("mark late", &[&self.key, &ids])
    }

    pub(crate) const fn late(&self) -> &OrdMap<StatementId, (AuthorId, StatementId)> {
        &self.late
    }

    /// The ends of what was here of an author before anything came late under a grant, ascending.
    pub(crate) fn heads_in_time(&self, author: &AuthorId, grant: &StatementId) -> Vec<StatementId> {
        let Some(chain) = self.chain(author) else {
            return Vec::new();
        };
        let is_late = |id: &StatementId| self.late.get(id).is_some_and(|(_, under)| under == grant);
        let in_time = chain.tips().iter().filter_map(|(tip, seq)| {
            let mut head = None;
            for id in chain.before(tip, *seq) {
                if is_late(&id) {
                    head = None;
                } else if head.is_none() {
                    head = Some(id);
                }
            }
            head
        });
        in_time.collect::<BTreeSet<_>>().into_iter().collect()
    }

    fn place_of(&self, s: &Statement) -> Place {
        let mut place = Place {
            at: s.hlc,
            depth: 0,
        };
        for past in past_of(s).filter_map(|id| self.statements.get(&id)) {
            place.at = place.at.max(past.place.at);
            place.depth = place.depth.max(past.place.depth + 1);
        }
        place
    }

    /// Who gets standing by a statement.
    fn learn(&mut self, s: &Statement) {
        let is_by_admin = s.under.0 == self.root.mesh.0 && self.is_admin(&s.author);
        match &s.body {
            Body::Grant(g) if is_by_admin => {
                let standing = self.known.entry(g.subject).or_default();
                standing.is_operator = true;
                standing.may_invite |= g.rights.has(Rights::INVITE);
            }
            Body::Admit(a) if is_by_admin => {
                self.known.entry(a.node.author()).or_default();
            }
            Body::Join(j) => {
                self.known.entry(s.author).or_default();
                *self.join_counts.entry(j.invite).or_default() += 1;
                let Some(Body::Invite(invite)) = self.acts.get(&j.invite).map(|i| &i.body) else {
                    return;
                };
                if let Some(key) = j.operator_key.filter(|_| invite.role == Role::Laptop) {
                    let may_invite = invite.rights.has(Rights::INVITE);
                    let standing = self.known.entry(key).or_default();
                    standing.is_operator = true;
                    standing.may_invite |= may_invite;
                }
            }
            Body::Invite(_) => self.invite_count += 1,
            Body::Root(signed) => {
                let Ok(sequel) = self.roots.check(signed) else {
                    return;
                };
                let before = self.admins.clone();
                self.appoint(sequel.record());
                // What they said before may give standing now.
                let new = self.admins.clone().relative_complement(before);
                let said: Vec<Arc<Statement>> = self
                    .acts
                    .values()
                    .filter(|s| new.contains(&s.author))
                    .filter(|s| matches!(s.body, Body::Grant(_) | Body::Admit(_)))
                    .cloned()
                    .collect();
                said.iter().for_each(|s| self.learn(s));
                let roots = Arc::make_mut(&mut self.roots);
                roots.insert(sequel);
                self.in_force = Arc::new(roots.in_force());
            }
            _ => {}
        }
    }

    /// Brings authority, prints and edits up to date.
    pub(crate) fn settle(&mut self) -> Change {
        if std::mem::take(&mut self.is_stale) {
            let next = Arc::new(resolve(self));
            let last = std::mem::replace(&mut self.authority, next);
            self.edits.authority_changed(&last, &self.authority);
            let cut = last.cut_authors().chain(self.authority.cut_authors());
            let recut = cut.filter(|a| last.allowed(a) != self.authority.allowed(a));
            let relisted = last.listed().symmetric_difference(self.authority.listed());
            let changed: BTreeSet<AuthorId> = recut.chain(relisted).copied().collect();
            for author in &changed {
                self.set_print(author);
            }
        }
        let mut edits = std::mem::take(&mut self.edits);
        let change = edits.update(self);
        self.edits = edits;
        self.key = step_key("settled", &[&self.root.mesh.0, &self.content.bytes()]);
        change
    }

    /// Whether everything is up to date.
    pub(crate) fn is_settled(&self) -> bool {
        !self.is_stale && self.edits.is_settled()
    }

    fn set_print(&mut self, author: &AuthorId) {
        let tips = self.tips(author);
        let print = (!tips.is_empty()).then(|| tips_print(&tips));
        self.prints.set(&author.0, print);
    }

    /// What of an author replicas compare and exchange: everything, but of a cut author only what counts, so that
    /// evidence, of which each keeps what came first, does not keep replicas apart. Admins are an exception, because
    /// what a cut one says may still count.
    fn told(&self, author: &AuthorId) -> Option<&BTreeSet<StatementId>> {
        self.authority
            .allowed(author)
            .filter(|_| !self.authority.listed().contains(author))
    }

    /// Ends of what is told of an author, by position.
    pub(crate) fn tips(&self, author: &AuthorId) -> Vec<(u64, StatementId)> {
        let Some(chain) = self.chains.get(author) else {
            return Vec::new();
        };
        match self.told(author) {
            None => chain.tips().iter().map(|(id, seq)| (*seq, *id)).collect(),
            Some(allowed) => chain.tips_of(allowed),
        }
    }

    /// Statements of an author that a peer with these tips lacks.
    pub(crate) fn beyond(
        &self,
        author: &AuthorId,
        tips: &[(u64, StatementId)],
    ) -> Vec<StatementId> {
        let Some(chain) = self.chains.get(author) else {
            return Vec::new();
        };
        let mut out = chain.beyond(tips);
        if let Some(allowed) = self.told(author) {
            out.retain(|id| allowed.contains(id));
        }
        out
    }

    /// What a statement names first that is not here.
    pub(crate) fn missing(&self, s: &Statement) -> Option<StatementId> {
        let count = if mutant!("R14") { 1 } else { usize::MAX };
        past_of(s)
            .take(count)
            .find(|id| !self.statements.contains_key(id))
    }

    /// Whether both say the same, as far as can be told without looking at every statement.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        self.key == other.key
            && self.content == other.content
            && self.statements.len() == other.statements.len()
            && self.in_order.len() == other.in_order.len()
            && self.acts.len() == other.acts.len()
            && self.known.len() == other.known.len()
            && self.prints.digest() == other.prints.digest()
            && self.hlc == other.hlc
            && self.is_stale == other.is_stale
            && self.forked == other.forked
            && self.in_force == other.in_force
            && self.late == other.late
            && self.invite_count == other.invite_count
            && self.edits.is_like(&other.edits)
            && (Arc::ptr_eq(&self.authority, &other.authority) || self.authority == other.authority)
    }

    pub(crate) const fn key(&self) -> &StepKey {
        &self.key
    }

    /// The root record in force.
    pub(crate) fn root(&self) -> &RootState {
        &self.in_force
    }

    /// Verifies a root record that a statement carries. The one before it, unless it founds the mesh, must be carried by
    /// what the statement names: else its turn would depend on the order of arrival.
    pub(crate) fn check_root(
        &self,
        s: &Statement,
        signed: &SignedRoot,
    ) -> Result<Sequel, RootError> {
        let sequel = self.roots.check(signed)?;
        let last = sequel.record().prev;
        let is_named = past_of(s).any(|id| match self.act(&id).map(|s| &s.body) {
            Some(Body::Root(signed)) => signed.hash() == last,
            _ => false,
        });
        if last == self.mesh().0 || is_named {
            Ok(sequel)
        } else {
            Err(RootError::Prev)
        }
    }

    /// Verifies a record that is to follow the one in force.
    pub(crate) fn check_next_root(&self, signed: &SignedRoot) -> Result<(), RootError> {
        if self.roots.check(signed)?.record().prev == self.in_force.hash() {
            Ok(())
        } else {
            Err(RootError::Prev)
        }
    }

    pub(crate) fn signed_root(&self) -> &SignedRoot {
        &self.root.signed
    }

    pub(crate) fn mesh(&self) -> MeshId {
        self.root.mesh
    }

    pub(crate) fn is_admin(&self, author: &AuthorId) -> bool {
        self.admins.contains(author)
    }

    pub(crate) fn standing(&self, author: &AuthorId) -> Option<Standing> {
        self.known.get(author).copied()
    }

    pub(crate) fn bytes_of(&self, author: &AuthorId) -> usize {
        self.bytes_of.get(author).copied().unwrap_or(0)
    }

    pub(crate) fn join_count(&self, invite: &StatementId) -> usize {
        self.join_counts.get(invite).copied().unwrap_or(0)
    }

    pub(crate) const fn invite_count(&self) -> usize {
        self.invite_count
    }

    pub(crate) fn authority(&self) -> &Authority {
        &self.authority
    }

    pub(crate) const fn shared_authority(&self) -> &Arc<Authority> {
        &self.authority
    }

    pub(crate) const fn edits(&self) -> &EditIndex {
        &self.edits
    }

    pub(crate) const fn prints(&self) -> &Prints {
        &self.prints
    }

    pub(crate) const fn hlc(&self) -> Hlc {
        self.hlc
    }

    pub(crate) const fn forked(&self) -> &OrdSet<AuthorId> {
        &self.forked
    }

    pub(crate) fn len(&self) -> usize {
        self.statements.len()
    }

    pub(crate) fn contains(&self, id: &StatementId) -> bool {
        self.statements.contains_key(id)
    }

    pub(crate) fn stored(&self, id: &StatementId) -> Option<&Stored> {
        self.statements.get(id).map(|s| &**s)
    }

    pub(crate) fn chain(&self, author: &AuthorId) -> Option<&Chain> {
        self.chains.get(author).map(|c| &**c)
    }

    pub(crate) fn chains(&self) -> impl Iterator<Item = (&AuthorId, &Chain)> {
        self.chains.iter().map(|(author, chain)| (author, &**chain))
    }

    /// A stored statement, read again.
    pub(crate) fn statement(&self, id: &StatementId) -> Option<Statement> {
        self.act(id)
            .cloned()
            .or_else(|| parse_again(&self.stored(id)?.bytes).ok())
    }

    pub(crate) fn act(&self, id: &StatementId) -> Option<&Statement> {
        self.acts.get(id).map(|s| &**s)
    }

    pub(crate) fn acts(&self) -> impl Iterator<Item = &Statement> {
        self.acts.values().map(|s| &**s)
    }

    /// All ids, causes first.
    pub(crate) fn in_order(&self) -> impl DoubleEndedIterator<Item = StatementId> + '_ {
        self.in_order.iter().map(|(_, id)| *id)
    }

    pub(crate) fn acts_under(&self, id: &StatementId) -> Option<StatementId> {
        self.acts.get(id).map(|s| s.under)
    }

    pub(crate) fn join_invite(&self, join: &StatementId) -> Option<StatementId> {
        match &self.acts.get(join)?.body {
            Body::Join(join) => Some(join.invite),
            _ => None,
        }
    }

    pub(crate) fn ancestors(
        &self,
        author: &AuthorId,
        head: &StatementId,
    ) -> Option<BTreeSet<StatementId>> {
        let stored = self.statements.get(head)?;
        if stored.author != *author {
            return Some(BTreeSet::new());
        }
        let chain = self.chains.get(author)?;
        Some(chain.ancestors(head, stored.seq).into_iter().collect())
    }
}

/// What a statement names: all of it must be here first.
pub(crate) fn past_of(s: &Statement) -> impl Iterator<Item = StatementId> + '_ {
    let invite = match &s.body {
        Body::Join(join) => Some(join.invite),
        _ => None,
    };
    let prev = Some(s.prev).filter(|_| s.seq > 0);
    prev.into_iter().chain(invite).chain(s.refs.iter().copied())
}

/// A statement with its signature, of which there may be more than one.
fn item(s: &Statement) -> [u8; 32] {
    let signature = &s.bytes[s.bytes.len() - 64..];
    step_key("item", &[&s.id.0, signature])
}

fn tips_print(tips: &[(u64, StatementId)]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for (_, id) in tips {
        hasher.update(&id.0);
    }
    *hasher.finalize().as_bytes()
}
