//! One replica's set of statements: what comes in, what waits, what is refused.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use lab_crdt_model::limit::{
    CUT_KEPT_MAX, NODE_STATEMENTS_MAX, OPERATOR_STATEMENTS_MAX, PENDING_MS_MAX,
    PENDING_PER_AUTHOR_MAX, TOKENS_MAX,
};
use lab_crdt_model::{AuthorId, Hlc, MeshId, Mono, StatementId};

use crate::body::Body;
use crate::chain::Chain;
use crate::edits::EditIndex;
use crate::envelope::{EnvelopeError, Statement, open, parse};
use crate::prints::Prints;
use crate::resolve::{Authority, resolve};
use crate::root::{RootError, RootRecord, SignedRoot};
use crate::token::is_join_signed;

/// What became of bytes that are a statement of this mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Stored, with those that had waited for it, in causal order; and what a fork put beyond its bounds.
    Stored {
        /// New here.
        ids: Vec<StatementId>,
        /// No longer kept.
        dropped: Vec<StatementId>,
    },
    /// Was here already.
    Known(StatementId),
    /// Kept aside until what it refers to arrives.
    Waiting {
        /// The statement.
        id: StatementId,
        /// What is missing first.
        missing: StatementId,
    },
}

/// Why a statement was not taken in. The replica is unchanged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not a statement of this mesh.
    #[error("{0}")]
    Envelope(#[from] EnvelopeError),
    /// Its author never held a grant, a token or a place in the root record, as far as is known here.
    #[error("its author is a stranger to this mesh")]
    Stranger,
    /// The predecessor belongs to another author or position.
    #[error("it does not continue its author's chain")]
    Chain,
    /// The join is not signed by the key of its token.
    #[error("the join does not prove that its sender held the token")]
    Token,
    /// The author has as many statements as it may.
    #[error("its author has used up its {0} statements")]
    Quota(usize),
    /// The author was cut and has used up what is kept as evidence.
    #[error("its author's key was revoked")]
    Cut,
    /// Beyond what is kept of a forked chain.
    #[error("its author's chain is forked and this branch is full")]
    Fork,
    /// Handed in locally: the chain has grown since, or it refers to what is not here. Prepare and sign again.
    #[error("the chain of its author has grown since it was signed")]
    Behind,
    /// Handed in locally: it would not count.
    #[error("{0}")]
    Denied(&'static str),
    /// Too many statements of this author wait already.
    #[error("too many statements of its author wait for others")]
    Pending,
}

/// What an author needs to continue its chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tail {
    /// Position of the next statement.
    pub seq: u64,
    /// The statement before it, or zero.
    pub prev: StatementId,
    /// Newest edits of others.
    pub refs: Vec<StatementId>,
    /// The newest stamp seen anywhere.
    pub hlc: Hlc,
}

#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) bytes: Bytes,
    pub(crate) author: AuthorId,
    pub(crate) seq: u64,
    pub(crate) order: u64,
}

#[derive(Debug)]
struct Waiting {
    statement: Statement,
    since: Mono,
}

/// A replica's statements. See the crate manual.
#[derive(Debug)]
pub struct Log {
    mesh: MeshId,
    root: RootRecord,
    signed_root: SignedRoot,
    statements: BTreeMap<StatementId, Stored>,
    by_order: BTreeMap<u64, StatementId>,
    next_order: u64,
    chains: BTreeMap<AuthorId, Chain>,
    acts: BTreeMap<StatementId, Statement>,
    known: BTreeSet<AuthorId>,
    waiting: BTreeMap<StatementId, Vec<Waiting>>,
    waiting_count: BTreeMap<AuthorId, usize>,
    prints: Prints,
    hlc: Hlc,
    authority: Authority,
    is_stale: bool,
    edits: EditIndex,
}

impl Log {
    /// An empty replica of the mesh that a root record founds.
    pub fn new(signed_root: SignedRoot) -> Result<Self, RootError> {
        let root = signed_root.verify()?;
        let known = root
            .admins
            .iter()
            .map(|a| a.key)
            .chain(root.root_keys.iter().copied())
            .collect();
        Ok(Self {
            mesh: signed_root.mesh(),
            root,
            signed_root,
            statements: BTreeMap::new(),
            by_order: BTreeMap::new(),
            next_order: 0,
            chains: BTreeMap::new(),
            acts: BTreeMap::new(),
            known,
            waiting: BTreeMap::new(),
            waiting_count: BTreeMap::new(),
            prints: Prints::default(),
            hlc: Hlc::default(),
            authority: Authority::default(),
            is_stale: true,
            edits: EditIndex::default(),
        })
    }

    /// The mesh.
    pub const fn mesh(&self) -> MeshId {
        self.mesh
    }

    /// The root record.
    pub const fn root(&self) -> &RootRecord {
        &self.root
    }

    /// The root record with its signatures.
    pub const fn signed_root(&self) -> &SignedRoot {
        &self.signed_root
    }

    /// Takes in bytes from anyone: lengths, author, signature, body and chain are checked, in this order.
    pub fn ingest(&mut self, bytes: &Bytes, now: Mono) -> Result<Outcome, Refusal> {
        if let Some(id) = self.peek_known(bytes) {
            return Ok(Outcome::Known(id));
        }
        let is_join = bytes.get(1) == Some(&crate::Kind::JOIN.0);
        let author = bytes
            .get(2..34)
            .and_then(|b| b.first_chunk())
            .ok_or(EnvelopeError::Length)?;
        if !is_join && !self.known.contains(&AuthorId(*author)) {
            return Err(Refusal::Stranger);
        }
        self.check_quota(&AuthorId(*author))?;
        let statement = open(&self.mesh, bytes)?;
        self.place(statement, now)
    }

    /// Takes in bytes that this replica had stored before; the signature is not checked again.
    pub fn restore(&mut self, bytes: &Bytes) -> Result<Outcome, Refusal> {
        let statement = parse(bytes)?;
        self.place(statement, Mono::default())
    }

    fn peek_known(&self, bytes: &Bytes) -> Option<StatementId> {
        let signed = bytes.get(..bytes.len().checked_sub(64)?)?;
        if bytes.len() > lab_crdt_model::limit::STATEMENT_BYTES_MAX {
            return None;
        }
        let id = StatementId(*blake3::hash(signed).as_bytes());
        self.statements.contains_key(&id).then_some(id)
    }

    fn check_quota(&self, author: &AuthorId) -> Result<(), Refusal> {
        let is_admin = self.root.admins.iter().any(|a| a.key == *author);
        let is_node = self.authority.roster.members.contains_key(&author.node());
        let max = if is_node {
            NODE_STATEMENTS_MAX
        } else {
            OPERATOR_STATEMENTS_MAX
        };
        let count = self.chains.get(author).map_or(0, Chain::len);
        if !is_admin && count >= max {
            Err(Refusal::Quota(max))
        } else {
            Ok(())
        }
    }

    fn place(&mut self, statement: Statement, now: Mono) -> Result<Outcome, Refusal> {
        let mut ids = Vec::new();
        let mut dropped = Vec::new();
        let first = statement.id;
        let mut queue = vec![statement];
        while let Some(s) = queue.pop() {
            let id = s.id;
            match self.place_one(s, now) {
                Ok(Placed::Stored(gone)) => {
                    ids.push(id);
                    dropped.extend(gone);
                    for w in self.waiting.remove(&id).unwrap_or_default() {
                        self.forget_waiting(&w.statement.author);
                        queue.push(w.statement);
                    }
                }
                Ok(Placed::Known) if id == first => return Ok(Outcome::Known(id)),
                Ok(Placed::Missing(missing)) if id == first => {
                    return Ok(Outcome::Waiting { id, missing });
                }
                Err(refusal) if id == first => return Err(refusal),
                // A released statement that waits for something else or breaks a rule stops nobody.
                Ok(Placed::Known | Placed::Missing(_)) | Err(_) => {}
            }
        }
        ids.retain(|id| self.statements.contains_key(id));
        Ok(Outcome::Stored { ids, dropped })
    }

    fn place_one(&mut self, s: Statement, now: Mono) -> Result<Placed, Refusal> {
        if self.statements.contains_key(&s.id) {
            return Ok(Placed::Known);
        }
        if let Some(missing) = self.missing(&s) {
            return self.wait(s, missing, now);
        }
        if s.seq > 0 {
            let prev = &self.statements[&s.prev];
            if prev.author != s.author || prev.seq + 1 != s.seq {
                return Err(Refusal::Chain);
            }
        }
        if let Body::Join(join) = &s.body {
            let Some(Body::Invite(invite)) = self.acts.get(&join.invite).map(|i| &i.body) else {
                return Err(Refusal::Token);
            };
            let node = s.author.node();
            let operator = join.operator_key.as_ref();
            let signature = &join.token_signature;
            if s.seq != 0
                || !is_join_signed(
                    &invite.token_key,
                    &self.mesh,
                    &node,
                    &join.seal_key,
                    operator,
                    signature,
                )
            {
                return Err(Refusal::Token);
            }
        }
        if matches!(s.body, Body::Invite(_))
            && self
                .acts
                .values()
                .filter(|a| matches!(a.body, Body::Invite(_)))
                .count()
                >= 50 * TOKENS_MAX
        {
            return Err(Refusal::Quota(50 * TOKENS_MAX));
        }
        if self.authority.is_cut(&s.author) && !self.authority.is_allowed(&s.author, &s.id) {
            let beyond = self.chains.get(&s.author).map_or(0, |c| {
                c.tips()
                    .iter()
                    .flat_map(|(id, seq)| c.ancestors(id, *seq))
                    .filter(|id| !self.authority.is_allowed(&s.author, id))
                    .count()
            });
            if beyond >= CUT_KEPT_MAX {
                return Err(Refusal::Cut);
            }
        }
        let chain = self.chains.entry(s.author).or_default();
        let was_forked = chain.is_forked();
        let dropped = chain.insert(s.seq, s.id, s.prev);
        let is_newly_forked = chain.is_forked() != was_forked;
        let print = tips_print(&chain.tips());
        if dropped.contains(&s.id) {
            return Err(Refusal::Fork);
        }
        self.prints.set(&s.author.0, Some(print));
        self.store(s);
        for id in &dropped {
            self.unstore(id);
        }
        if is_newly_forked || !dropped.is_empty() {
            self.is_stale = true;
            self.edits.reset();
        }
        Ok(Placed::Stored(dropped))
    }

    fn missing(&self, s: &Statement) -> Option<StatementId> {
        let prev = Some(s.prev).filter(|_| s.seq > 0);
        let invite = match &s.body {
            Body::Join(join) => Some(join.invite),
            _ => None,
        };
        prev.into_iter()
            .chain(invite)
            .chain(s.refs.iter().copied())
            .find(|id| !self.statements.contains_key(id))
    }

    fn wait(&mut self, s: Statement, missing: StatementId, now: Mono) -> Result<Placed, Refusal> {
        let count = self.waiting_count.entry(s.author).or_default();
        if self
            .waiting
            .get(&missing)
            .is_some_and(|w| w.iter().any(|w| w.statement.id == s.id))
        {
            return Ok(Placed::Missing(missing));
        }
        if *count >= PENDING_PER_AUTHOR_MAX {
            return Err(Refusal::Pending);
        }
        *count += 1;
        self.waiting.entry(missing).or_default().push(Waiting {
            statement: s,
            since: now,
        });
        Ok(Placed::Missing(missing))
    }

    fn forget_waiting(&mut self, author: &AuthorId) {
        if let Some(count) = self.waiting_count.get_mut(author) {
            *count -= 1;
            if *count == 0 {
                self.waiting_count.remove(author);
            }
        }
    }

    fn store(&mut self, s: Statement) {
        match &s.body {
            Body::Grant(g) => {
                self.known.insert(g.subject);
            }
            Body::Admit(a) => {
                self.known.insert(a.node.author());
            }
            Body::Join(j) => {
                self.known.insert(s.author);
                self.known.extend(j.operator_key);
            }
            _ => {}
        }
        self.hlc = self.hlc.max(s.hlc);
        self.edits.store(&s);
        let order = self.next_order;
        self.next_order += 1;
        self.by_order.insert(order, s.id);
        let (author, seq, bytes) = (s.author, s.seq, s.bytes.clone());
        self.statements.insert(
            s.id,
            Stored {
                bytes,
                author,
                seq,
                order,
            },
        );
        if matches!(s.body, Body::Edit(_) | Body::Unknown(..)) {
            self.is_stale |= self.authority.awaited.contains(&s.id);
        } else {
            self.is_stale = true;
            self.acts.insert(s.id, s);
        }
    }

    fn unstore(&mut self, id: &StatementId) {
        if let Some(stored) = self.statements.remove(id) {
            self.by_order.remove(&stored.order);
            self.acts.remove(id);
            self.edits.unstore(id);
        }
    }

    /// Drops statements that have waited longer than ten minutes; returns how many.
    pub fn expire_waiting(&mut self, now: Mono) -> usize {
        let mut gone = Vec::new();
        self.waiting.retain(|_, list| {
            list.retain(|w| {
                let keep = now.ms_since(w.since) <= PENDING_MS_MAX;
                if !keep {
                    gone.push(w.statement.author);
                }
                keep
            });
            !list.is_empty()
        });
        for author in &gone {
            self.forget_waiting(author);
        }
        gone.len()
    }

    /// What waiting statements need first; at most `max`.
    pub fn wanted(&self, max: usize) -> Vec<StatementId> {
        self.waiting
            .keys()
            .filter(|id| !self.is_waiting(id))
            .take(max)
            .copied()
            .collect()
    }

    fn is_waiting(&self, id: &StatementId) -> bool {
        self.waiting
            .values()
            .flatten()
            .any(|w| w.statement.id == *id)
    }

    /// How many statements wait.
    pub fn waiting_len(&self) -> usize {
        self.waiting_count.values().sum()
    }

    /// How many statements are stored.
    pub fn len(&self) -> usize {
        self.statements.len()
    }

    /// Whether nothing is stored.
    pub fn is_empty(&self) -> bool {
        self.statements.is_empty()
    }

    /// Whether a statement is stored.
    pub fn contains(&self, id: &StatementId) -> bool {
        self.statements.contains_key(id)
    }

    /// The envelope of a stored statement.
    pub fn envelope(&self, id: &StatementId) -> Option<Bytes> {
        self.statements.get(id).map(|s| s.bytes.clone())
    }

    /// A stored statement, read again.
    pub fn statement(&self, id: &StatementId) -> Option<Statement> {
        self.acts
            .get(id)
            .cloned()
            .or_else(|| parse(&self.statements.get(id)?.bytes).ok())
    }

    /// Ids in the order of arrival, newest first.
    pub fn newest(&self) -> impl Iterator<Item = StatementId> + '_ {
        self.by_order.values().rev().copied()
    }

    /// Authors whose chain is forked.
    pub fn forked(&self) -> impl Iterator<Item = AuthorId> + '_ {
        self.chains
            .iter()
            .filter(|(_, c)| c.is_forked())
            .map(|(a, _)| *a)
    }

    /// The digest of the set of statements.
    pub fn digest(&self) -> [u8; 32] {
        self.prints.digest()
    }

    /// What an author needs to continue its chain, having seen everything that is here.
    pub fn tail(&self, author: &AuthorId) -> Tail {
        let head = self.chains.get(author).and_then(Chain::head);
        let refs = self
            .edits
            .frontier()
            .iter()
            .filter(|id| {
                self.statements
                    .get(*id)
                    .is_some_and(|s| s.author != *author)
            })
            .copied()
            .collect();
        let (prev, seq) = head.map_or((StatementId::ZERO, 0), |(id, seq)| (id, seq + 1));
        Tail {
            seq,
            prev,
            refs,
            hlc: self.hlc,
        }
    }

    /// Who may say what, resolved if anything changed since.
    pub fn authority(&mut self) -> &Authority {
        self.refresh();
        &self.authority
    }

    /// The authority as resolved last; call [`Log::authority`] after taking in statements.
    pub const fn authority_as_resolved(&self) -> &Authority {
        &self.authority
    }

    fn refresh(&mut self) {
        if self.is_stale {
            self.is_stale = false;
            let next = resolve(self);
            let last = std::mem::replace(&mut self.authority, next);
            self.edits.authority_changed(&last, &self.authority);
        }
        let mut edits = std::mem::take(&mut self.edits);
        edits.update(self);
        self.edits = edits;
    }

    /// What to do with the document: nothing, append, or build it again.
    pub fn take_edits(&mut self) -> crate::edits::Edits {
        self.refresh();
        let mut edits = std::mem::take(&mut self.edits);
        let out = edits.take(self);
        self.edits = edits;
        out
    }

    /// All edits that count, in causal order.
    pub fn effective_edits(&mut self) -> Vec<crate::edits::EffectiveEdit> {
        self.refresh();
        self.edits.all(self)
    }

    /// Why a stored statement does not count; `None` if it counts.
    pub fn why_not(&self, id: &StatementId) -> Option<&'static str> {
        if let Some(why) = self.edits.why_not(id) {
            return Some(why);
        }
        let s = self.acts.get(id)?;
        if !self.authority.is_allowed(&s.author, &s.id) {
            return Some("its key was revoked");
        }
        let is_admin = s.under.0 == self.mesh.0 && self.authority.admins.contains(&s.author);
        match &s.body {
            Body::Invite(_) => {
                let counts = self
                    .authority
                    .roster
                    .invites
                    .get(id)
                    .is_some_and(|i| i.is_effective);
                (!counts).then_some("its author may not make such a token")
            }
            Body::Join(_) => {
                let counts = self
                    .authority
                    .roster
                    .members
                    .get(&s.author.node())
                    .is_some_and(|m| m.join == *id);
                (!counts).then_some("its token does not count")
            }
            Body::Witness(_) | Body::RevokeInvite(_) | Body::Confirm(_) => None,
            _ => (!is_admin).then_some("its author is not an admin"),
        }
    }

    /// Whether `author` has witnessed a join already.
    pub fn is_witnessed_by(&self, join: &StatementId, author: &AuthorId) -> bool {
        self.acts
            .values()
            .any(|s| s.author == *author && matches!(&s.body, Body::Witness(w) if w.join == *join))
    }

    /// Checks statements that someone wants to hand in here, all together: each must continue its author's chain
    /// and count. Returns the first that does not, and why; nothing is changed.
    pub fn check(&mut self, statements: &[Bytes]) -> Result<Vec<StatementId>, Refusal> {
        self.refresh();
        let mut heads: BTreeMap<AuthorId, (StatementId, u64)> = BTreeMap::new();
        let mut ids = Vec::new();
        for bytes in statements {
            let s = open(&self.mesh, bytes)?;
            ids.push(s.id);
            if self.statements.contains_key(&s.id) {
                continue;
            }
            if !self.known.contains(&s.author) {
                return Err(Refusal::Stranger);
            }
            self.check_quota(&s.author)?;
            let head = heads
                .get(&s.author)
                .copied()
                .or_else(|| self.chains.get(&s.author).and_then(Chain::head));
            let follows = head.map_or(s.seq == 0, |(id, seq)| s.prev == id && s.seq == seq + 1);
            if !follows {
                return Err(Refusal::Behind);
            }
            if s.refs
                .iter()
                .any(|id| !self.statements.contains_key(id) && !ids.contains(id))
            {
                return Err(Refusal::Behind);
            }
            let root = StatementId(self.mesh.0);
            let is_admin = s.under == root
                && self.authority.admins.contains(&s.author)
                && !self.authority.is_cut(&s.author);
            let verdict = match &s.body {
                Body::Edit(edit) => self.authority.judge(root, &s, &edit.ops),
                Body::Invite(invite) => {
                    crate::resolve::judge_invite(&self.authority, root, &s, invite)
                }
                Body::Confirm(_) | Body::RevokeInvite(_) => {
                    let is_operator = self
                        .authority
                        .grants
                        .get(&s.under)
                        .is_some_and(|g| g.subject == s.author && !g.is_revoked());
                    if is_admin || is_operator {
                        Ok(())
                    } else {
                        Err("its author is not an operator")
                    }
                }
                Body::Unknown(..) => Err("its kind is unknown"),
                Body::Join(_) | Body::Witness(_) => Err("only nodes say this, by themselves"),
                Body::Grant(_)
                | Body::RevokeGrant(_)
                | Body::Revoke(_)
                | Body::Admit(_)
                | Body::CoSign(_) => {
                    if is_admin {
                        Ok(())
                    } else {
                        Err("its author is not an admin")
                    }
                }
            };
            verdict.map_err(Refusal::Denied)?;
            heads.insert(s.author, (s.id, s.seq));
        }
        Ok(ids)
    }

    /// The nearest edits that an edit had seen, whether they count or not.
    pub fn edit_parents(&self, id: &StatementId) -> &[StatementId] {
        self.edits.parents(id).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn acts(&self) -> impl Iterator<Item = &Statement> {
        self.acts.values()
    }

    pub(crate) fn stored(&self, id: &StatementId) -> Option<&Stored> {
        self.statements.get(id)
    }

    pub(crate) fn chain(&self, author: &AuthorId) -> Option<&Chain> {
        self.chains.get(author)
    }

    pub(crate) fn in_order(&self) -> impl Iterator<Item = (u64, StatementId)> + '_ {
        self.by_order.iter().map(|(order, id)| (*order, *id))
    }

    pub(crate) const fn prints(&self) -> &Prints {
        &self.prints
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
        Some(
            self.chains
                .get(author)?
                .ancestors(head, stored.seq)
                .into_iter()
                .collect(),
        )
    }
}

enum Placed {
    Stored(Vec<StatementId>),
    Known,
    Missing(StatementId),
}

fn tips_print(tips: &[(StatementId, u64)]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for (id, _) in tips {
        hasher.update(&id.0);
    }
    *hasher.finalize().as_bytes()
}
