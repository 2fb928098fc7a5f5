//! One replica's set of statements: what comes in, what waits, what is refused.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use lab_crdt_model::limit::{
    CUT_KEPT_MAX, NODE_STATEMENTS_MAX, OPERATOR_STATEMENTS_MAX, PENDING_MS_MAX,
    PENDING_PER_AUTHOR_MAX, STATEMENT_BYTES_MAX, TOKENS_MAX,
};
use lab_crdt_model::view::Role;
use lab_crdt_model::{AuthorId, Hlc, MeshId, Mono, StatementId, Wall};

use crate::body::{Body, Kind, Rights};
use crate::chain::{Chain, NO_MORE};
use crate::edits::EditIndex;
use crate::envelope::{EnvelopeError, Statement, open, parse};
use crate::prints::Prints;
use crate::resolve::{Authority, resolve};
use crate::root::{RootError, RootRecord, SignedRoot};
use crate::token::is_join_signed;

/// Most bytes kept of one operator, and of one node.
const OPERATOR_BYTES_MAX: usize = 16 << 20;
const NODE_BYTES_MAX: usize = 2 << 20;
/// Most bytes of one author that wait for others.
const PENDING_BYTES_MAX: usize = 4 << 20;
/// Most joins kept beyond the uses of their token; the surplus of a token that got about.
const JOINS_BEYOND_USES_MAX: usize = 16;
/// Most authors of which no more is asked for in an exchange.
const FULL_MAX: usize = 1024;
/// Most ends of one chain told to a peer.
const TIPS_TOLD_MAX: usize = 7;

/// What became of bytes that are a statement of this mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Stored, with those that had waited for it, in causal order.
    Stored {
        /// New here.
        ids: Vec<StatementId>,
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
    /// The author is a node, and nodes do not say this.
    #[error("nodes do not say this")]
    Kind,
    /// The author was cut and has used up what is kept as evidence.
    #[error("its author's key was revoked")]
    Cut,
    /// Beyond what is kept of a forked chain.
    #[error("its author's chain is forked and no further branch is kept")]
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

/// What an author may say at all. Only grows, and follows from the set of statements alone: what counts is decided
/// later, but nothing at all is kept of those who never had any standing.
#[derive(Debug, Default, Clone, Copy)]
struct Standing {
    is_operator: bool,
    may_invite: bool,
}

/// How much of an author is kept.
#[derive(Debug, Default, Clone, Copy)]
struct Usage {
    bytes: usize,
    waiting: usize,
    waiting_bytes: usize,
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
    known: BTreeMap<AuthorId, Standing>,
    usage: BTreeMap<AuthorId, Usage>,
    waiting: BTreeMap<StatementId, Vec<Waiting>>,
    waiting_ids: BTreeSet<StatementId>,
    wanted_from: StatementId,
    invite_count: usize,
    join_counts: BTreeMap<StatementId, usize>,
    /// Authors of whom something was refused for good; until [`Log::forget_full`].
    full: BTreeSet<AuthorId>,
    progress: u64,
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
            .map(|key| {
                let all = Standing {
                    is_operator: true,
                    may_invite: true,
                };
                (key, all)
            })
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
            usage: BTreeMap::new(),
            waiting: BTreeMap::new(),
            waiting_ids: BTreeSet::new(),
            wanted_from: StatementId::ZERO,
            invite_count: 0,
            join_counts: BTreeMap::new(),
            full: BTreeSet::new(),
            progress: 0,
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

    /// Takes in bytes from anyone: lengths, author, quota, signature, body and chain are checked, in this order.
    pub fn ingest(&mut self, bytes: &Bytes, now: Mono) -> Result<Outcome, Refusal> {
        let taken = self.ingest_checked(bytes, now);
        // Only what follows from the replica itself or from the author's own signature: junk in another's name must
        // not keep us from asking for what that author really said.
        if let Err(
            Refusal::Quota(_) | Refusal::Cut | Refusal::Fork | Refusal::Token | Refusal::Chain,
        ) = &taken
            && let Some(author) = bytes.get(2..34).and_then(|b| b.first_chunk())
            && self.full.len() < FULL_MAX
            && self.full.insert(AuthorId(*author))
        {
            self.progress += 1;
        }
        taken
    }

    fn ingest_checked(&mut self, bytes: &Bytes, now: Mono) -> Result<Outcome, Refusal> {
        let id = peek_id(bytes).ok_or(EnvelopeError::Length)?;
        if self.statements.contains_key(&id) {
            return Ok(Outcome::Known(id));
        }
        let author = bytes
            .get(2..34)
            .and_then(|b| b.first_chunk())
            .ok_or(EnvelopeError::Length)?;
        self.check_standing(&AuthorId(*author), Kind(bytes[1]))?;
        if !self.is_needed(&id) {
            self.check_quota(&AuthorId(*author), bytes.len())?;
        }
        let statement = open(&self.mesh, bytes)?;
        self.place(statement, now, false)
    }

    /// Takes in bytes that this replica had stored before; the signature and quotas are not checked again.
    pub fn restore(&mut self, bytes: &Bytes) -> Result<Outcome, Refusal> {
        let statement = parse(bytes)?;
        self.place(statement, Mono::default(), true)
    }

    /// The same for all that this replica had stored, in any order; work grows with their number only. What is
    /// damaged or lacks its past is left out: the mesh repairs it.
    pub fn restore_all(&mut self, all: impl IntoIterator<Item = Bytes>) {
        let mut statements: BTreeMap<StatementId, Statement> = BTreeMap::new();
        for bytes in all {
            if let Ok(s) = parse(&bytes) {
                statements.insert(s.id, s);
            }
        }
        // Causal order: each statement once everything it names is here. Among those that may come next the one
        // with the earliest stamp does, which is near the order in which they were made.
        let mut followers: BTreeMap<StatementId, Vec<StatementId>> = BTreeMap::new();
        let mut lacking: BTreeMap<StatementId, usize> = BTreeMap::new();
        let mut ready: BTreeSet<(Hlc, StatementId)> = BTreeSet::new();
        for (id, s) in &statements {
            let mut past: Vec<StatementId> =
                past_of(s).filter(|p| statements.contains_key(p)).collect();
            past.sort_unstable();
            past.dedup();
            if past.is_empty() {
                ready.insert((s.hlc, *id));
            }
            lacking.insert(*id, past.len());
            for p in past {
                followers.entry(p).or_default().push(*id);
            }
        }
        while let Some((_, id)) = ready.pop_first() {
            let Some(s) = statements.remove(&id) else {
                continue;
            };
            let _damaged = self.place(s, Mono::default(), true);
            for follower in followers.remove(&id).unwrap_or_default() {
                if let Some(count) = lacking.get_mut(&follower) {
                    *count -= 1;
                    if *count == 0
                        && let Some(s) = statements.get(&follower)
                    {
                        ready.insert((s.hlc, follower));
                    }
                }
            }
        }
    }

    /// Whether something here cannot count before it arrives: such a statement is taken in beyond every quota.
    fn is_needed(&self, id: &StatementId) -> bool {
        self.waiting.contains_key(id) || self.authority.awaited.contains(id)
    }

    fn is_admin(&self, author: &AuthorId) -> bool {
        self.root.admins.iter().any(|a| a.key == *author)
    }

    fn check_standing(&self, author: &AuthorId, kind: Kind) -> Result<(), Refusal> {
        let for_nodes = matches!(kind, Kind::JOIN | Kind::WITNESS) || kind > Kind::CO_SIGN;
        match self.known.get(author) {
            None if kind == Kind::JOIN => Ok(()),
            None => Err(Refusal::Stranger),
            Some(standing) if standing.is_operator || for_nodes => Ok(()),
            Some(_) => Err(Refusal::Kind),
        }
    }

    fn check_quota(&self, author: &AuthorId, more: usize) -> Result<(), Refusal> {
        let (max, bytes_max) = if self.known.get(author).is_some_and(|s| s.is_operator) {
            (OPERATOR_STATEMENTS_MAX, OPERATOR_BYTES_MAX)
        } else {
            (NODE_STATEMENTS_MAX, NODE_BYTES_MAX)
        };
        let count = self.chains.get(author).map_or(0, Chain::len);
        let bytes = self.usage.get(author).map_or(0, |u| u.bytes);
        if !self.is_admin(author) && (count >= max || bytes + more > bytes_max) {
            Err(Refusal::Quota(max))
        } else {
            Ok(())
        }
    }

    fn place(
        &mut self,
        statement: Statement,
        now: Mono,
        was_here: bool,
    ) -> Result<Outcome, Refusal> {
        let mut ids = Vec::new();
        let first = statement.id;
        let mut queue = vec![statement];
        while let Some(s) = queue.pop() {
            let id = s.id;
            match self.place_one(s, now, was_here) {
                Ok(Placed::Stored) => {
                    ids.push(id);
                    for w in self.waiting.remove(&id).unwrap_or_default() {
                        self.forget_waiting(&w.statement);
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
        Ok(Outcome::Stored { ids })
    }

    fn place_one(&mut self, s: Statement, now: Mono, was_here: bool) -> Result<Placed, Refusal> {
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
            self.check_join(&s, join, was_here)?;
        }
        if !was_here && !self.is_needed(&s.id) {
            self.check_bounds(&s)?;
        }
        let chain = self.chains.entry(s.author).or_default();
        if chain.insert(s.seq, s.id, s.prev) {
            // Branches are named anew.
            self.is_stale = true;
            self.edits.reset();
        }
        let author = s.author;
        self.store(s);
        self.set_print(&author);
        Ok(Placed::Stored)
    }

    fn check_join(
        &self,
        s: &Statement,
        join: &crate::body::Join,
        was_here: bool,
    ) -> Result<(), Refusal> {
        let by = self.acts.get(&join.invite);
        let Some((author, Body::Invite(invite))) = by.map(|i| (i.author, &i.body)) else {
            return Err(Refusal::Token);
        };
        if was_here {
            return Ok(());
        }
        if !self.known.get(&author).is_some_and(|s| s.may_invite) {
            return Err(Refusal::Stranger);
        }
        let is_signed = is_join_signed(
            &invite.token_key,
            &self.mesh,
            &s.author.node(),
            &join.seal_key,
            join.operator_key.as_ref(),
            &join.token_signature,
        );
        if s.seq != 0 || !is_signed {
            return Err(Refusal::Token);
        }
        let max = usize::from(invite.uses_max) + JOINS_BEYOND_USES_MAX;
        let count = self.join_counts.get(&join.invite).copied().unwrap_or(0);
        if count >= max && !self.is_needed(&s.id) {
            return Err(Refusal::Quota(max));
        }
        Ok(())
    }

    /// What is kept of an author who forked its chain or was cut, and of tokens.
    fn check_bounds(&self, s: &Statement) -> Result<(), Refusal> {
        self.check_quota(&s.author, s.bytes.len())?;
        let is_invite = matches!(s.body, Body::Invite(_));
        if is_invite && self.invite_count >= 50 * TOKENS_MAX && !self.is_admin(&s.author) {
            return Err(Refusal::Quota(50 * TOKENS_MAX));
        }
        let Some(chain) = self.chains.get(&s.author) else {
            return Ok(());
        };
        let allowed = self.authority.allowed(&s.author);
        if let Some(allowed) = allowed
            && !allowed.contains(&s.id)
        {
            // What a cut admin says against other admins may still weigh something one day.
            let may_weigh = matches!(s.body, Body::Revoke(_) | Body::CoSign(_));
            let max = if may_weigh && self.is_admin(&s.author) {
                2 * CUT_KEPT_MAX
            } else {
                CUT_KEPT_MAX
            };
            if chain.len() >= allowed.len() + max {
                return Err(Refusal::Cut);
            }
        }
        // While the branch that counts is awaited, it must get in.
        let is_cut_awaited = allowed.is_none() && self.authority.revoked.contains(&s.author);
        if chain.is_branching(s.seq, &s.prev) && chain.is_full() && !is_cut_awaited {
            return Err(Refusal::Fork);
        }
        Ok(())
    }

    /// What of an author replicas compare and exchange: everything, but of a cut author only what counts, so that
    /// evidence, of which each keeps what came first, does not keep replicas apart. Admins are an exception, because
    /// what a cut one says may still count.
    fn told(&self, author: &AuthorId) -> Option<&BTreeSet<StatementId>> {
        self.authority
            .allowed(author)
            .filter(|_| !self.is_admin(author))
    }

    /// Ends of what is told of an author, by position.
    pub(crate) fn tips(&self, author: &AuthorId) -> Vec<(u64, StatementId)> {
        let Some(chain) = self.chains.get(author) else {
            return Vec::new();
        };
        match self.told(author) {
            None => chain.tips().iter().map(|(id, seq)| (*seq, *id)).collect(),
            // Cuts meet in one path from the start of the chain, so its length gives its end.
            Some(allowed) => (allowed.len() as u64)
                .checked_sub(1)
                .and_then(|seq| {
                    let end = chain.at(seq).find(|id| allowed.contains(id));
                    end.map(|id| (seq, id))
                })
                .into_iter()
                .collect(),
        }
    }

    /// What to tell a peer of an author: the ends of its branches, and whether no more is wanted.
    pub(crate) fn tips_to_tell(&self, author: &AuthorId) -> Vec<(u64, StatementId)> {
        let mut tips = self.tips(author);
        tips.truncate(TIPS_TOLD_MAX);
        if self.full.contains(author) {
            tips.push((NO_MORE, StatementId::ZERO));
        }
        tips
    }

    /// Authors of whom no more is wanted for now.
    pub(crate) const fn full(&self) -> &BTreeSet<AuthorId> {
        &self.full
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

    /// Starts asking again for what was refused. Call it when an exchange is opened.
    pub fn forget_full(&mut self) {
        self.full.clear();
    }

    /// Grows whenever taking in bytes led to something: an exchange goes on only while it does.
    pub const fn progress(&self) -> u64 {
        self.progress
    }

    fn set_print(&mut self, author: &AuthorId) {
        let tips = self.tips(author);
        let print = (!tips.is_empty()).then(|| tips_print(&tips));
        self.prints.set(&author.0, print);
    }

    fn missing(&self, s: &Statement) -> Option<StatementId> {
        past_of(s).find(|id| !self.statements.contains_key(id))
    }

    fn wait(&mut self, s: Statement, missing: StatementId, now: Mono) -> Result<Placed, Refusal> {
        if self.waiting_ids.contains(&s.id) {
            return Ok(Placed::Missing(missing));
        }
        let usage = self.usage.entry(s.author).or_default();
        if usage.waiting >= PENDING_PER_AUTHOR_MAX
            || usage.waiting_bytes + s.bytes.len() > PENDING_BYTES_MAX
        {
            return Err(Refusal::Pending);
        }
        usage.waiting += 1;
        usage.waiting_bytes += s.bytes.len();
        self.waiting_ids.insert(s.id);
        self.progress += 1;
        self.waiting.entry(missing).or_default().push(Waiting {
            statement: s,
            since: now,
        });
        Ok(Placed::Missing(missing))
    }

    fn forget_waiting(&mut self, s: &Statement) {
        self.waiting_ids.remove(&s.id);
        if let Some(usage) = self.usage.get_mut(&s.author) {
            usage.waiting -= 1;
            usage.waiting_bytes -= s.bytes.len();
        }
    }

    /// Who gets standing by a statement.
    fn learn(&mut self, s: &Statement) {
        let is_by_admin = s.under.0 == self.mesh.0 && self.is_admin(&s.author);
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
            _ => {}
        }
    }

    fn store(&mut self, s: Statement) {
        self.learn(&s);
        self.progress += 1;
        self.usage.entry(s.author).or_default().bytes += s.bytes.len();
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

    /// Drops statements that have waited longer than ten minutes; returns how many.
    pub fn expire_waiting(&mut self, now: Mono) -> usize {
        let mut gone = Vec::new();
        self.waiting.retain(|_, list| {
            list.retain(|w| {
                let keep = now.ms_since(w.since) <= PENDING_MS_MAX;
                if !keep {
                    gone.push(w.statement.clone());
                }
                keep
            });
            !list.is_empty()
        });
        for statement in &gone {
            self.forget_waiting(statement);
        }
        gone.len()
    }

    /// What waiting statements need first; at most `max`, others the next time, so that nobody's made-up references
    /// keep what another needs from being asked for.
    pub fn wanted(&mut self, max: usize) -> Vec<StatementId> {
        let is_missing = |id: &&StatementId| {
            !self.waiting_ids.contains(*id) && !self.statements.contains_key(*id)
        };
        let from = self.wanted_from;
        let after = self.waiting.range(from..).map(|(id, _)| id);
        let before = self.waiting.range(..from).map(|(id, _)| id);
        let out: Vec<StatementId> = after
            .chain(before)
            .chain(&self.authority.awaited)
            .filter(is_missing)
            .take(max)
            .copied()
            .collect();
        if out.len() == max
            && let Some(last) = out.last()
        {
            self.wanted_from = *last;
        }
        out
    }

    /// How many statements wait.
    pub fn waiting_len(&self) -> usize {
        self.waiting_ids.len()
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
            let cut = last.cut_authors().chain(self.authority.cut_authors());
            let changed: BTreeSet<AuthorId> = cut
                .filter(|a| last.allowed(a) != self.authority.allowed(a))
                .copied()
                .collect();
            for author in &changed {
                self.set_print(author);
            }
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
        let root = StatementId(self.mesh.0);
        let is_admin = self.authority.is_by_admin(root, s);
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
            Body::Confirm(_) => {
                (!self.authority.may_confirm(root, s)).then_some("its author may not confirm joins")
            }
            Body::Witness(_) | Body::RevokeInvite(_) => None,
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
    ///
    /// `now` is this node's clock: a grant that is over by it is not used here, whatever its holder's stamps say.
    pub fn check(&mut self, statements: &[Bytes], now: Wall) -> Result<Vec<StatementId>, Refusal> {
        self.refresh();
        let mut heads: BTreeMap<AuthorId, (StatementId, u64)> = BTreeMap::new();
        let mut ids = Vec::new();
        for bytes in statements {
            let s = open(&self.mesh, bytes)?;
            ids.push(s.id);
            if self.statements.contains_key(&s.id) {
                continue;
            }
            self.check_standing(&s.author, s.body.kind())?;
            self.check_quota(&s.author, s.bytes.len())?;
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
                && !self.authority.revoked.contains(&s.author);
            let verdict = match &s.body {
                _ if self.authority.revoked.contains(&s.author) => Err("its key was revoked"),
                _ if self.authority.is_over(&s.under, now) => Err("its grant had expired"),
                Body::Revoke(r)
                    if r.head.is_some_and(|h| {
                        self.statements.get(&h).is_none_or(|s| s.author != r.key)
                    }) =>
                {
                    Err("its cut is not a statement of that key that is known here")
                }
                Body::Edit(edit) => self.authority.judge(root, &s, &edit.ops),
                Body::Invite(invite) => {
                    crate::resolve::judge_invite(&self.authority, root, &s, invite)
                }
                Body::Confirm(_) if self.authority.may_confirm(root, &s) => Ok(()),
                Body::Confirm(_) => Err("its author may not confirm joins"),
                Body::RevokeInvite(r) => {
                    let invite = self.authority.roster.invites.get(&r.invite);
                    if is_admin || invite.is_some_and(|i| i.author == s.author) {
                        Ok(())
                    } else {
                        Err("its author neither made the token nor is an admin")
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
    Stored,
    Known,
    Missing(StatementId),
}

/// What a statement names: all of it must be here first.
fn past_of(s: &Statement) -> impl Iterator<Item = StatementId> + '_ {
    let invite = match &s.body {
        Body::Join(join) => Some(join.invite),
        _ => None,
    };
    let prev = Some(s.prev).filter(|_| s.seq > 0);
    prev.into_iter().chain(invite).chain(s.refs.iter().copied())
}

fn peek_id(bytes: &Bytes) -> Option<StatementId> {
    if bytes.len() > STATEMENT_BYTES_MAX {
        return None;
    }
    let signed = bytes.get(..bytes.len().checked_sub(64)?)?;
    Some(StatementId(*blake3::hash(signed).as_bytes()))
}

fn tips_print(tips: &[(u64, StatementId)]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for (_, id) in tips {
        hasher.update(&id.0);
    }
    *hasher.finalize().as_bytes()
}
