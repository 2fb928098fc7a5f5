//! One replica's set of statements: what comes in, what waits, what is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use lab_crdt_model::limit::{
    ADMIN_STATEMENTS_MAX, CUT_KEPT_MAX, LATE_MS, NODE_STATEMENTS_MAX, OPERATOR_STATEMENTS_MAX,
    PENDING_MS_MAX, PENDING_PER_AUTHOR_MAX, STATEMENT_BYTES_MAX, TOKENS_MAX,
};
use lab_crdt_model::{
    AuthorId, Hlc, MeshId, Mono, NodeId, StatementId, Wall, mutant, reached, sometimes,
};

use crate::body::{Body, Kind, WitnessRule};
use crate::chain::{Chain, NO_MORE};
use crate::cover::can_be_co_signed;
use crate::edits::{Change, Edits, EffectiveEdit};
use crate::envelope::{EnvelopeError, Statement, author_of, open, parse};
use crate::memo::{Memo, StepKey, step_key};
use crate::prints::Prints;
use crate::resolve::{Authority, is_machine_meant, vouchers};
use crate::root::{RootError, RootRecord, SignedRoot};
use crate::roots::RootState;
use crate::roster::InviteState;
use crate::state::{State, Stored, Supposed, past_of};
use crate::token::is_join_signed;

/// Most bytes kept of one admin, of one operator, and of one node.
const ADMIN_BYTES_MAX: usize = 256 << 20;
const OPERATOR_BYTES_MAX: usize = 16 << 20;
const NODE_BYTES_MAX: usize = 2 << 20;
/// Most bytes of one author that wait for others.
const PENDING_BYTES_MAX: usize = 4 << 20;
/// What others refer to is taken in up to so many times the quota of its author.
const NEEDED_FACTOR: usize = 4;
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
    /// The root record that it carries is not valid.
    #[error("{0}")]
    Root(#[from] RootError),
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

/// Others vouch for what was said under a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAsked;

/// How much of an author waits.
#[derive(Debug, Default, Clone, Copy)]
struct Usage {
    count: usize,
    bytes: usize,
}

#[derive(Debug, Clone)]
struct Waiting {
    statement: Arc<Statement>,
    since: Mono,
}

/// What became of the edits, and the state that came of it.
struct Settled {
    state: Arc<State>,
    change: Change,
}

/// About what one statement copies of a state, bytes.
const COPIED_BYTES: usize = 12_000;
/// About what an authority of its own costs, bytes for each member.
const MEMBER_BYTES: usize = 600;

/// A replica's statements. See the crate manual.
///
/// Clones are cheap. With a [`Memo`], replicas of one process that hold the same statements share them.
#[derive(Debug, Clone)]
pub struct Log {
    state: Arc<State>,
    memo: Memo,
    waiting: BTreeMap<StatementId, Vec<Waiting>>,
    waiting_ids: BTreeSet<StatementId>,
    waiting_of: BTreeMap<AuthorId, Usage>,
    wanted_from: StatementId,
    /// Authors of whom something was refused for good; until [`Log::forget_full`].
    full: BTreeSet<AuthorId>,
    progress: u64,
    /// What happened to the edits since they were taken last.
    untaken: Change,
    /// The clock of this node as it was told last.
    clock: Wall,
    /// Edits under grants that were not known when they came: whether they came late is found out once the grant is
    /// known.
    unsure: BTreeMap<StatementId, Vec<StatementId>>,
    /// What is being restored was judged in a former life.
    is_restoring: bool,
    /// What came late, to be stored.
    late_marks: Vec<StatementId>,
}

impl Log {
    /// An empty replica of the mesh that a root record founds.
    pub fn new(signed_root: SignedRoot) -> Result<Self, RootError> {
        Self::with_memo(signed_root, Memo::none())
    }

    /// The same, to be shared with others of this memo.
    pub fn with_memo(signed_root: SignedRoot, memo: Memo) -> Result<Self, RootError> {
        let state = if memo.is_on() {
            let key = step_key("root", &[&signed_root.encode()]);
            match memo.get::<State>(&key) {
                Some(state) => state,
                None => {
                    let state = Arc::new(State::new(signed_root)?);
                    memo.put(key, &state, COPIED_BYTES);
                    state
                }
            }
        } else {
            Arc::new(State::new(signed_root)?)
        };
        Ok(Self {
            state,
            memo,
            waiting: BTreeMap::new(),
            waiting_ids: BTreeSet::new(),
            waiting_of: BTreeMap::new(),
            wanted_from: StatementId::ZERO,
            full: BTreeSet::new(),
            progress: 0,
            untaken: Change::default(),
            clock: Wall::default(),
            unsure: BTreeMap::new(),
            is_restoring: false,
            late_marks: Vec::new(),
        })
    }

    /// The mesh.
    pub fn mesh(&self) -> MeshId {
        self.state.mesh()
    }

    /// The root record in force.
    pub fn root(&self) -> &RootRecord {
        &self.state.root().record
    }

    /// The same, with what the records before it leave behind.
    pub fn root_state(&self) -> &RootState {
        self.state.root()
    }

    /// A statement that carries the root record in force, which the next one has to name; none carries the founding
    /// one.
    pub fn root_carrier(&self) -> Option<StatementId> {
        let in_force = self.state.root().hash();
        let carries = |s: &&Statement| match &s.body {
            Body::Root(signed) => signed.hash() == in_force,
            _ => false,
        };
        self.state.acts().find(carries).map(|s| s.id)
    }

    /// The founding record with its signatures: what a newcomer needs first.
    pub fn signed_root(&self) -> &SignedRoot {
        self.state.signed_root()
    }

    /// What this replica shares its steps with.
    pub const fn memo(&self) -> &Memo {
        &self.memo
    }

    /// The same replica, sharing its steps with others of a memo from here on.
    #[must_use]
    pub fn with_memo_of(&self, memo: Memo) -> Self {
        Self {
            memo,
            ..self.clone()
        }
    }

    /// The same replica as it would be if these keys were at an end. For showing what a revocation does before anybody
    /// signs it; it shares nothing from here on.
    #[must_use]
    pub fn supposing(&self, ends: &[Supposed]) -> Self {
        let mut log = self.with_memo_of(Memo::none());
        Arc::make_mut(&mut log.state).suppose(ends);
        log
    }

    /// Lets others come upon this state by whatever way they come to it.
    pub fn publish(&mut self) {
        self.refresh();
        let key = *self.state.key();
        match self.memo.get::<State>(&key) {
            Some(known) => self.state = known,
            None => {
                let members = self.state.authority().roster.members.len();
                let bytes = self.state.len() * COPIED_BYTES / 16 + members * MEMBER_BYTES;
                self.memo.put(key, &self.state, bytes);
            }
        }
    }

    /// A name of what is stored here, up to date: equal names mean equal statements, signatures included. `None`
    /// without a memo, which nobody needs it for.
    pub fn name(&mut self) -> Option<StepKey> {
        self.refresh();
        self.memo.is_on().then(|| *self.state.key())
    }

    /// Whether both are one and the same in memory.
    pub fn is_shared_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.state, &other.state)
    }

    /// Tells the time by the clock of this node: what is taken in from here on came at this time. Replicas that are never
    /// told take nothing for late.
    pub fn set_clock(&mut self, now: Wall) {
        if self.clock != now && !self.unsure.is_empty() {
            self.refresh();
        }
        self.clock = now;
    }

    /// What came only after its grant had ended, since this was asked last: to be stored together with it.
    pub fn take_late_marks(&mut self) -> Vec<StatementId> {
        self.refresh();
        std::mem::take(&mut self.late_marks)
    }

    /// Repeats what [`Log::take_late_marks`] said in a former life of this replica.
    pub fn restore_late(&mut self, ids: impl IntoIterator<Item = StatementId>) {
        let ids: Vec<StatementId> = ids.into_iter().collect();
        if !ids.is_empty() {
            Arc::make_mut(&mut self.state).mark_late(&ids);
        }
    }

    /// Of grants that have ended: the changes that came only afterwards and wait for an admin to seal the grant.
    pub fn waiting_for_seal(&mut self) -> BTreeMap<StatementId, Vec<StatementId>> {
        self.refresh();
        let mut out: BTreeMap<StatementId, Vec<StatementId>> = BTreeMap::new();
        for id in self.state.authority().quarantined().flat_map(|(_, q)| q) {
            if let Some((_, under)) = self.state.late().get(id) {
                out.entry(*under).or_default().push(*id);
            }
        }
        let seq = |id: &StatementId| self.state.stored(id).map(|s| s.seq);
        for ids in out.values_mut() {
            ids.sort_by_key(seq);
        }
        out
    }

    /// A digest of what came late and waits; zero when nothing does. Replicas with the same statements that differ in it
    /// may differ in what counts.
    pub fn waiting_digest(&self) -> [u8; 32] {
        let waiting = self.state.authority().quarantined();
        let ids: Vec<u8> = waiting.flat_map(|(_, q)| q).flat_map(|id| id.0).collect();
        if ids.is_empty() {
            return [0; 32];
        }
        *blake3::hash(&ids).as_bytes()
    }

    /// Where the chain of the holder of a grant ends, and where what came in time ends; of several branches the longest.
    pub fn ends_of(&mut self, grant: &StatementId) -> Option<(StatementId, Option<StatementId>)> {
        self.refresh();
        let subject = self.state.authority().grants.get(grant)?.subject;
        let (last, _) = self.state.chain(&subject)?.head()?;
        let in_time = self.state.heads_in_time(&subject, grant);
        let seq = |id: &StatementId| self.state.stored(id).map(|s| s.seq);
        let longest = in_time.into_iter().max_by_key(seq);
        Some((last, longest))
    }

    /// What a checkpoint made here would name: of each author the last statement on the right side of every cut, of several
    /// branches that of the longest, and how many statements the chain has up to there. What waits for an admin is left
    /// out.
    pub fn checkpoint_heads(&mut self) -> Vec<(AuthorId, StatementId, u64)> {
        self.refresh();
        let authority = self.state.authority();
        let ends = self.state.chains().filter_map(|(author, chain)| {
            let (seq, tip) = match authority.allowed(author) {
                None => chain.head().map(|(id, seq)| (seq, id)),
                Some(allowed) => chain.tips_of(allowed).into_iter().max(),
            }?;
            let waiting = authority.waiting_of(author);
            let mut end = None;
            for (id, seq) in chain.before(&tip, seq).zip((0..=seq).rev()) {
                match waiting {
                    None => return Some((*author, tip, seq + 1)),
                    Some(waiting) if waiting.contains(&id) => end = None,
                    Some(_) if end.is_none() => end = Some((*author, id, seq + 1)),
                    Some(_) => {}
                }
            }
            end
        });
        ends.collect()
    }

    /// Of what a checkpoint names: how many statements are not here, and how many lie beyond the cut of their author.
    pub fn doubts(&self, heads: &[StatementId]) -> (usize, usize) {
        let stored: Vec<_> = heads.iter().map(|id| (id, self.state.stored(id))).collect();
        let missing = stored.iter().filter(|(_, s)| s.is_none()).count();
        let is_void = |(id, s): &&(&StatementId, Option<&Stored>)| {
            s.is_some_and(|s| !self.state.authority().is_allowed(&s.author, id))
        };
        (missing, stored.iter().filter(is_void).count())
    }

    /// What is noted here as having come only after its grant had ended, whether it counts by now or not.
    pub fn late(&self) -> impl Iterator<Item = &StatementId> {
        self.state.late().keys()
    }

    /// Takes in bytes from anyone: lengths, author, quota, signature, body and chain are checked, in this order.
    pub fn ingest(&mut self, bytes: &Bytes, now: Mono) -> Result<Outcome, Refusal> {
        let taken = self.ingest_checked(bytes, now);
        // Only what follows from the replica itself or from the author's own signature: junk in another's name must
        // not keep us from asking for what that author really said.
        if let Err(
            Refusal::Quota(_) | Refusal::Cut | Refusal::Fork | Refusal::Token | Refusal::Chain,
        ) = &taken
            && let Some(author) = author_of(bytes)
            && self.full.len() < FULL_MAX
            && self.full.insert(author)
        {
            reached!("no more of an author is asked for in an exchange");
            self.progress += 1;
        }
        taken
    }

    fn ingest_checked(&mut self, bytes: &Bytes, now: Mono) -> Result<Outcome, Refusal> {
        let id = peek_id(bytes).ok_or(EnvelopeError::Length)?;
        if self.state.contains(&id) {
            return Ok(Outcome::Known(id));
        }
        let author = author_of(bytes).ok_or(EnvelopeError::Length)?;
        self.check_standing(&author, Kind(bytes[1]))?;
        let kind = Kind(bytes[1]);
        self.check_quota(&author, kind, bytes.len(), 1)
            .or_else(|refusal| self.unless_needed(&id, &author, kind, bytes.len(), refusal))?;
        let statement = self.opened(bytes, &id)?;
        self.place(statement, now, Source::Mesh)
    }

    /// The statement of these bytes if its author has signed it; of equal ones, the same for everyone.
    fn opened(&self, bytes: &Bytes, id: &StatementId) -> Result<Arc<Statement>, EnvelopeError> {
        if !self.memo.is_on() {
            return open(&self.mesh(), bytes).map(Arc::new);
        }
        let signature = bytes.get(bytes.len() - 64..).unwrap_or_default();
        let key = step_key("statement", &[&self.mesh().0, &id.0, signature]);
        if let Some(known) = self.memo.get::<Statement>(&key) {
            if self.memo.is_check_due() {
                let again = open(&self.mesh(), bytes);
                assert_eq!(
                    again.as_ref(),
                    Ok(&*known),
                    "a remembered statement differs"
                );
            }
            return Ok(known);
        }
        // What is kept must not hold on to the whole frame that it came in.
        let statement = Arc::new(open(&self.mesh(), &Bytes::copy_from_slice(bytes))?);
        let size = size_of::<Statement>() + 3 * bytes.len();
        self.memo.put(key, &statement, size);
        Ok(statement)
    }

    /// Takes in bytes that this replica had stored before; the signature and quotas are not checked again.
    pub fn restore(&mut self, bytes: &Bytes) -> Result<Outcome, Refusal> {
        self.is_restoring = true;
        let statement = parse(bytes)?;
        self.place(Arc::new(statement), Mono::default(), Source::Store)
    }

    /// The same for all that this replica had stored, in any order; work grows with their number only. What is
    /// damaged or lacks its past is left out: the mesh repairs it.
    pub fn restore_all(&mut self, all: impl IntoIterator<Item = Bytes>) {
        self.is_restoring = true;
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
            let _damaged = self.place(Arc::new(s), Mono::default(), Source::Store);
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

    /// Whether something of others here cannot count before it arrives: such a statement is taken in beyond what is
    /// kept of its author. What only its own author refers to is not: nobody may lift their own bounds.
    fn is_needed(&self, id: &StatementId, author: &AuthorId) -> bool {
        let mut seen = BTreeSet::new();
        let mut next = vec![*id];
        while let Some(id) = next.pop() {
            if !seen.insert(id) {
                continue;
            }
            if self.state.authority().awaited.contains(&id) {
                return true;
            }
            for w in self.waiting.get(&id).into_iter().flatten() {
                if w.statement.author != *author {
                    return true;
                }
                next.push(w.statement.id);
            }
        }
        false
    }

    /// Lets what others need in beyond a bound, though not without end: they may be of one mind with its author.
    fn unless_needed(
        &self,
        id: &StatementId,
        author: &AuthorId,
        kind: Kind,
        bytes: usize,
        refusal: Refusal,
    ) -> Result<(), Refusal> {
        if self.is_needed(id, author) {
            self.check_quota(author, kind, bytes, NEEDED_FACTOR)
        } else {
            Err(refusal)
        }
    }

    fn check_standing(&self, author: &AuthorId, kind: Kind) -> Result<(), Refusal> {
        let is_join = matches!(kind, Kind::JOIN | Kind::JOIN_HARDWARE);
        let is_word = matches!(kind, Kind::WITNESS | Kind::VOUCH);
        let for_nodes = is_join || is_word || !kind.is_known();
        match self.state.standing(author) {
            None if is_join => Ok(()),
            None => {
                reached!("a stranger said something");
                Err(Refusal::Stranger)
            }
            Some(standing) if standing.is_operator || for_nodes => Ok(()),
            Some(_) => Err(Refusal::Kind),
        }
    }

    /// Whether an author stays within so many times its quota.
    fn check_quota(
        &self,
        author: &AuthorId,
        kind: Kind,
        more: usize,
        times: usize,
    ) -> Result<(), Refusal> {
        let is_operator = self.state.standing(author).is_some_and(|s| s.is_operator);
        let is_admin = self.state.is_admin(author);
        let (max, bytes_max) = match (is_admin, is_operator) {
            (true, _) if kind.is_of_authority() => return Ok(()),
            (true, _) => (ADMIN_STATEMENTS_MAX, ADMIN_BYTES_MAX),
            (false, true) => (OPERATOR_STATEMENTS_MAX, OPERATOR_BYTES_MAX),
            (false, false) => (NODE_STATEMENTS_MAX, NODE_BYTES_MAX),
        };
        let (max, bytes_max) = (max * times, bytes_max * times);
        let count = self.state.chain(author).map_or(0, Chain::len);
        let bytes = self.state.bytes_of(author);
        if count >= max || bytes + more > bytes_max {
            reached!("an author used up its quota");
            Err(Refusal::Quota(max))
        } else {
            Ok(())
        }
    }

    fn place(
        &mut self,
        statement: Arc<Statement>,
        now: Mono,
        source: Source,
    ) -> Result<Outcome, Refusal> {
        let mut ids = Vec::new();
        let first = statement.id;
        let mut queue = vec![statement];
        while let Some(s) = queue.pop() {
            let id = s.id;
            match self.place_one(s, now, source) {
                Ok(Placed::Stored) => {
                    ids.push(id);
                    for w in self.waiting.remove(&id).unwrap_or_default() {
                        reached!("a statement that waited was released");
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

    fn place_one(
        &mut self,
        s: Arc<Statement>,
        now: Mono,
        source: Source,
    ) -> Result<Placed, Refusal> {
        if self.state.contains(&s.id) {
            return Ok(Placed::Known);
        }
        if let Some(missing) = self.state.missing(&s) {
            return self.wait(s, missing, now);
        }
        if let Body::Unknown(..) = &s.body {
            reached!("a statement of an unknown kind was taken in");
            if mutant!("M28") && source == Source::Mesh {
                return Err(Refusal::Kind);
            }
        }
        let prev = self.state.stored(&s.prev).filter(|_| s.seq > 0);
        if prev.is_some_and(|prev| prev.author != s.author || prev.seq + 1 != s.seq) {
            return Err(Refusal::Chain);
        }
        if let Body::Join(join) = &s.body {
            self.check_join(&s, join, source)?;
        }
        if let Body::Root(signed) = &s.body {
            self.state.check_root(&s, signed)?;
        }
        if source == Source::Mesh
            && let Err(refusal) = self.check_bounds(&s)
        {
            self.unless_needed(&s.id, &s.author, s.body.kind(), s.bytes.len(), refusal)?;
        }
        self.take(&s, source);
        Ok(Placed::Stored)
    }

    fn take(&mut self, s: &Arc<Statement>, source: Source) {
        self.progress += 1;
        let is_edit = matches!(s.body, Body::Edit(_));
        if is_edit && s.under.0 != self.mesh().0 {
            self.unsure.entry(s.under).or_default().push(s.id);
        }
        // What is restored comes in bulk and is named as a whole.
        if !self.memo.is_on() || source == Source::Store {
            return Arc::make_mut(&mut self.state).take(s);
        }
        self.state = self.memo.step(
            || self.state.key_with(s),
            || {
                let mut next = State::clone(&self.state);
                next.take(s);
                next
            },
            |_| COPIED_BYTES,
            State::is_like,
        );
    }

    /// Finds out what came late of what was taken in since the last time. What was restored was judged in a former
    /// life, unless its grant was not known then.
    fn mark_late(&mut self) {
        let is_restored = std::mem::take(&mut self.is_restoring);
        if self.unsure.is_empty() {
            return;
        }
        let grants = &self.state.authority().grants;
        let mut late = Vec::new();
        self.unsure.retain(|under, ids| {
            let Some(grant) = grants.get(under) else {
                return true;
            };
            let is_late = grant
                .not_after
                .is_some_and(|end| self.clock.0 >= end.0.saturating_add(LATE_MS));
            if is_late && !is_restored {
                late.append(ids);
            }
            false
        });
        if late.is_empty() || mutant!("M64") {
            return;
        }
        reached!("edits came after the end of their grant");
        late.sort_unstable();
        self.state = self.memo.step(
            || self.state.key_with_late(&late),
            || {
                let mut next = State::clone(&self.state);
                next.mark_late(&late);
                next
            },
            |_| COPIED_BYTES,
            State::is_like,
        );
        self.late_marks.append(&mut late);
    }

    fn check_join(
        &self,
        s: &Statement,
        join: &crate::body::Join,
        source: Source,
    ) -> Result<(), Refusal> {
        let by = self.state.act(&join.invite);
        let Some((author, Body::Invite(invite))) = by.map(|i| (i.author, &i.body)) else {
            return Err(Refusal::Token);
        };
        if source == Source::Store {
            return Ok(());
        }
        if !self.state.standing(&author).is_some_and(|s| s.may_invite) {
            return Err(Refusal::Stranger);
        }
        let is_signed = self.memo.step(
            || step_key("token", &[&self.mesh().0, &s.id.0, &invite.token_key]),
            || {
                is_join_signed(
                    &invite.token_key,
                    &self.mesh(),
                    &s.author.node(),
                    &join.seal_key,
                    join.operator_key.as_ref(),
                    &join.token_signature,
                )
            },
            |_| 0,
            PartialEq::eq,
        );
        if s.seq != 0 || !*is_signed {
            reached!("a join does not prove that its sender held the token");
            return Err(Refusal::Token);
        }
        let max = usize::from(invite.uses_max) + JOINS_BEYOND_USES_MAX;
        let count = self.state.join_count(&join.invite);
        if count >= max && !self.is_needed(&s.id, &s.author) {
            return Err(Refusal::Quota(max));
        }
        Ok(())
    }

    /// What is kept of an author who forked its chain or was cut, and of tokens.
    fn check_bounds(&self, s: &Statement) -> Result<(), Refusal> {
        self.check_quota(&s.author, s.body.kind(), s.bytes.len(), 1)?;
        let is_invite = matches!(s.body, Body::Invite(_));
        let is_full = self.state.invite_count() >= 50 * TOKENS_MAX;
        if is_invite && is_full && !self.state.is_admin(&s.author) {
            return Err(Refusal::Quota(50 * TOKENS_MAX));
        }
        let Some(chain) = self.state.chain(&s.author) else {
            return Ok(());
        };
        let authority = self.state.authority();
        let allowed = authority.allowed(&s.author);
        if let Some(allowed) = allowed
            && !allowed.contains(&s.id)
        {
            // What a cut admin says against other admins, or on the history, may still weigh something one day.
            let may_weigh = matches!(
                s.body,
                Body::Revoke(_) | Body::CoSign(_) | Body::Checkpoint(_)
            );
            let max = if may_weigh && self.state.is_admin(&s.author) {
                2 * CUT_KEPT_MAX
            } else {
                CUT_KEPT_MAX
            };
            reached!("a cut key goes on speaking");
            if chain.len() >= allowed.len() + max {
                reached!("no more is kept of a cut key");
                return Err(Refusal::Cut);
            }
        }
        // While the branch that counts is awaited, it must get in.
        let is_cut_awaited = allowed.is_none() && authority.revoked.contains(&s.author);
        sometimes!(
            is_cut_awaited,
            "a cut is awaited while its key goes on speaking"
        );
        if mutant!("M43") && chain.is_branching(s.seq, &s.prev) {
            return Err(Refusal::Fork);
        }
        if chain.is_branching(s.seq, &s.prev) && chain.is_full() && !is_cut_awaited {
            reached!("a fifth branch of one chain was refused");
            return Err(Refusal::Fork);
        }
        Ok(())
    }

    /// What to tell a peer of an author: the ends of its branches, and whether no more is wanted.
    pub(crate) fn tips_to_tell(&self, author: &AuthorId) -> Vec<(u64, StatementId)> {
        let mut tips = self.state.tips(author);
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
        self.state.beyond(author, tips)
    }

    /// Starts asking again for what was refused. Call it when an exchange is opened.
    pub fn forget_full(&mut self) {
        self.full.clear();
    }

    /// Grows whenever taking in bytes led to something: an exchange goes on only while it does.
    pub const fn progress(&self) -> u64 {
        self.progress
    }

    fn wait(
        &mut self,
        s: Arc<Statement>,
        missing: StatementId,
        now: Mono,
    ) -> Result<Placed, Refusal> {
        if self.waiting_ids.contains(&s.id) {
            return Ok(Placed::Missing(missing));
        }
        let usage = self.waiting_of.entry(s.author).or_default();
        reached!("a statement waits for what it refers to");
        let is_full = usage.count >= PENDING_PER_AUTHOR_MAX
            || usage.bytes + s.bytes.len() > PENDING_BYTES_MAX;
        if is_full && !mutant!("M21") {
            reached!("too many statements of an author wait");
            return Err(Refusal::Pending);
        }
        usage.count += 1;
        usage.bytes += s.bytes.len();
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
        if let Some(usage) = self.waiting_of.get_mut(&s.author) {
            usage.count -= 1;
            usage.bytes -= s.bytes.len();
            if usage.count == 0 {
                self.waiting_of.remove(&s.author);
            }
        }
    }

    /// Drops statements that have waited longer than ten minutes; returns how many.
    pub fn expire_waiting(&mut self, now: Mono) -> usize {
        let mut gone = Vec::new();
        self.waiting.retain(|_, list| {
            list.retain(|w| {
                let keep = now.ms_since(w.since) <= PENDING_MS_MAX;
                if !keep {
                    gone.push(Arc::clone(&w.statement));
                }
                keep
            });
            !list.is_empty()
        });
        sometimes!(
            !gone.is_empty(),
            "a statement waited for ten minutes in vain"
        );
        for statement in &gone {
            self.forget_waiting(statement);
        }
        gone.len()
    }

    /// What waiting statements need first; at most `max`, others the next time, so that nobody's made-up references
    /// keep what another needs from being asked for.
    pub fn wanted(&mut self, max: usize) -> Vec<StatementId> {
        let is_missing =
            |id: &&StatementId| !self.waiting_ids.contains(*id) && !self.state.contains(id);
        let from = self.wanted_from;
        let after = self.waiting.range(from..).map(|(id, _)| id);
        let before = self.waiting.range(..from).map(|(id, _)| id);
        let out: Vec<StatementId> = after
            .chain(before)
            .chain(&self.state.authority().awaited)
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

    /// Whether statements of an author wait: its chain is longer than what is stored of it.
    pub fn is_behind(&self, author: &AuthorId) -> bool {
        self.waiting_of.contains_key(author)
    }

    /// Since when the statement waits that waits longest.
    pub fn waiting_since(&self) -> Option<Mono> {
        let waiting = self.waiting.values().flatten();
        waiting.map(|w| w.since).min()
    }

    /// How many statements are stored.
    pub fn len(&self) -> usize {
        self.state.len()
    }

    /// Whether nothing is stored.
    pub fn is_empty(&self) -> bool {
        self.state.len() == 0
    }

    /// Whether a statement is stored.
    pub fn contains(&self, id: &StatementId) -> bool {
        self.state.contains(id)
    }

    /// The envelope of a stored statement.
    pub fn envelope(&self, id: &StatementId) -> Option<Bytes> {
        self.state.stored(id).map(|s| s.bytes.clone())
    }

    /// A stored statement, read again.
    pub fn statement(&self, id: &StatementId) -> Option<Statement> {
        self.state.statement(id)
    }

    /// Ids by stamp, newest first, but never a statement before what it had seen. The same order on every replica.
    pub fn newest(&self) -> impl DoubleEndedIterator<Item = StatementId> + '_ {
        self.state.in_order().rev()
    }

    /// Authors whose chain is forked.
    pub fn forked(&self) -> impl ExactSizeIterator<Item = AuthorId> + '_ {
        self.state.forked().iter().copied()
    }

    /// The digest of the set of statements.
    pub fn digest(&self) -> [u8; 32] {
        self.state.prints().digest()
    }

    /// What an author needs to continue its chain, having seen everything that is here.
    pub fn tail(&self, author: &AuthorId) -> Tail {
        self.tail_without(author, &BTreeMap::new())
    }

    /// The same without what some others said from a position on, by author: what is named instead is what they named,
    /// of each chain the last one.
    pub fn tail_without(&self, author: &AuthorId, fresh: &BTreeMap<AuthorId, u64>) -> Tail {
        let head = self.state.chain(author).and_then(Chain::head);
        let edits = self.state.edits();
        let is_fresh = |s: &Stored| fresh.get(&s.author).is_some_and(|from| s.seq >= *from);
        let mut refs = BTreeSet::new();
        // What stands behind what is left out: of each chain the last one is enough.
        let mut behind: BTreeMap<AuthorId, (u64, StatementId)> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        let mut left: Vec<(StatementId, bool)> =
            edits.frontier().iter().map(|id| (*id, true)).collect();
        while let Some((id, is_frontier)) = left.pop() {
            let Some(s) = self.state.stored(&id).filter(|s| s.author != *author) else {
                continue;
            };
            if is_fresh(s) {
                let parents = edits.parents(&id).iter().filter(|id| seen.insert(**id));
                left.extend(parents.map(|id| (*id, false)));
            } else if is_frontier {
                refs.insert(id);
            } else {
                let last = behind.entry(s.author).or_insert((s.seq, id));
                *last = (s.seq, id).max(*last);
            }
        }
        refs.extend(behind.into_values().map(|(_, id)| id));
        let refs = refs.into_iter().collect();
        let (prev, seq) = head.map_or((StatementId::ZERO, 0), |(id, seq)| (id, seq + 1));
        Tail {
            seq,
            prev,
            refs,
            hlc: self.state.hlc(),
        }
    }

    /// Who may say what, resolved if anything changed since.
    pub fn authority(&mut self) -> &Authority {
        self.refresh();
        self.state.authority()
    }

    /// The authority as resolved last; call [`Log::authority`] after taking in statements.
    pub fn authority_as_resolved(&self) -> &Authority {
        self.state.authority()
    }

    /// The same, to keep: while this is the same in memory, nothing about members has changed.
    pub fn shared_authority(&mut self) -> &Arc<Authority> {
        self.refresh();
        self.state.shared_authority()
    }

    fn refresh(&mut self) {
        self.settle();
        self.mark_late();
        self.settle();
    }

    fn settle(&mut self) {
        if self.state.is_settled() {
            return;
        }
        if !self.memo.is_on() {
            let change = Arc::make_mut(&mut self.state).settle();
            return self.changed(&change);
        }
        let before = Arc::clone(self.state.shared_authority());
        let settled = self.memo.step(
            || step_key("settle", &[self.state.key()]),
            || {
                let mut next = State::clone(&self.state);
                let change = next.settle();
                // Others may have come to the same by another way.
                let state = match self.memo.get::<State>(next.key()) {
                    Some(known) => {
                        assert!(known.is_like(&next), "equal statements give unequal states");
                        known
                    }
                    None => Arc::new(next),
                };
                Settled { state, change }
            },
            |settled| {
                let state = &settled.state;
                let is_new = !Arc::ptr_eq(state.shared_authority(), &before);
                let members = state.authority().roster.members.len();
                let bytes = COPIED_BYTES + usize::from(is_new) * members * MEMBER_BYTES;
                self.memo.put(*state.key(), state, bytes);
                COPIED_BYTES
            },
            |a, b| a.change == b.change && a.state.is_like(&b.state),
        );
        self.state = Arc::clone(&settled.state);
        self.changed(&settled.change);
    }

    fn changed(&mut self, change: &Change) {
        if change.is_rebuild {
            reached!("what counted does not count any more, or its past changed");
            self.untaken = Change {
                is_rebuild: true,
                append: Vec::new(),
            };
        }
        self.untaken.append.extend(&change.append);
    }

    /// A name of what [`Log::take_edits`] would say, together with what it would say it of; `None` when that is
    /// nothing, or without a memo.
    pub fn edits_name(&mut self) -> Option<StepKey> {
        let name = self.name()?;
        if self.untaken == Change::default() {
            return None;
        }
        let ids: Vec<u8> = self.untaken.append.iter().flat_map(|id| id.0).collect();
        let is_rebuild = [u8::from(self.untaken.is_rebuild)];
        Some(step_key("edits", &[&name, &is_rebuild, &ids]))
    }

    /// Counts the edits as taken without reading them.
    pub fn skip_edits(&mut self) {
        self.refresh();
        self.untaken = Change::default();
    }

    /// What to do with the document: nothing, append, or build it again.
    pub fn take_edits(&mut self) -> Edits {
        self.refresh();
        let untaken = std::mem::take(&mut self.untaken);
        let edits = self.state.edits();
        if untaken.is_rebuild {
            return Edits::Rebuild(edits.all(&self.state));
        }
        if untaken.append.is_empty() {
            return Edits::Unchanged;
        }
        Edits::Append(edits.read(&self.state, &untaken.append))
    }

    /// All edits that count, in causal order.
    pub fn effective_edits(&mut self) -> Vec<EffectiveEdit> {
        self.refresh();
        self.state.edits().all(&self.state)
    }

    /// Why a stored statement does not count; `None` if it counts.
    pub fn why_not(&self, id: &StatementId) -> Option<&'static str> {
        let authority = self.state.authority();
        if let Some(why) = self.state.edits().why_not(id) {
            return Some(why);
        }
        let s = self.state.act(id)?;
        if !authority.is_allowed(&s.author, &s.id) {
            return Some("its key was revoked");
        }
        let root = StatementId(self.mesh().0);
        let is_admin = authority.is_by_admin(root, s);
        match &s.body {
            Body::Invite(_) => {
                let counts = authority
                    .roster
                    .invites
                    .get(id)
                    .is_some_and(|i| i.is_effective);
                (!counts).then_some("its author may not make such a token")
            }
            Body::Join(join) => {
                let counts = authority
                    .roster
                    .members
                    .get(&s.author.node())
                    .is_some_and(|m| m.join == *id);
                let is_other = |i: &InviteState| !is_machine_meant(&i.invite, join);
                let invite = authority.roster.invites.get(&join.invite);
                if invite.is_some_and(is_other) {
                    Some("its token is for another machine")
                } else {
                    (!counts).then_some("its token does not count")
                }
            }
            Body::Confirm(_) => {
                (!authority.may_confirm(root, s)).then_some("its author may not confirm joins")
            }
            Body::Root(signed) => {
                let is_in_line = self.state.root().line.contains(&signed.hash());
                (!is_in_line).then_some("another root record of its version is in force")
            }
            Body::Checkpoint(_) => {
                let state = authority.checkpoints.get(id);
                let is_effective = state.is_some_and(|c| c.is_effective);
                (!is_effective).then_some("too few admins have signed it")
            }
            Body::Witness(_) | Body::RevokeInvite(_) | Body::Vouch(_) => None,
            _ => (!is_admin).then_some("its author is not an admin"),
        }
    }

    /// The newest stamp of what admins said about authority.
    pub fn admin_stamp(&self) -> Hlc {
        let admins = &self.state.authority().admins;
        let said = self.state.acts().filter(|s| admins.contains(&s.author));
        said.map(|s| s.hlc).max().unwrap_or_default()
    }

    /// The token that a join used.
    pub fn invite_of(&self, join: &StatementId) -> Option<StatementId> {
        self.state.join_invite(join)
    }

    /// What a node has to say about a grant that has ended: the ends of what it had heard of the holder by then. `None`
    /// if it has said so already or had heard nothing.
    ///
    /// # Errors
    /// When the node is not among those who are asked.
    pub fn to_vouch(
        &mut self,
        grant: &StatementId,
        me: &NodeId,
    ) -> Result<Option<Vec<StatementId>>, NotAsked> {
        self.refresh();
        let authority = self.state.authority();
        let Some(state) = authority.grants.get(grant) else {
            return Ok(None);
        };
        if authority.is_vouched_by(grant, me) {
            return Ok(None);
        }
        if !vouchers(&self.state, authority, grant).contains(me) {
            return Err(NotAsked);
        }
        let heads = self.state.heads_in_time(&state.subject, grant);
        Ok(Some(heads).filter(|heads| !heads.is_empty()))
    }

    /// How many joins with a token `author` has witnessed.
    pub fn witness_count(&self, invite: &StatementId, author: &AuthorId) -> usize {
        let of_token = |s: &&Statement| match &s.body {
            Body::Witness(w) => self.state.join_invite(&w.join) == Some(*invite),
            _ => false,
        };
        let mine = self.state.acts().filter(|s| s.author == *author);
        mine.filter(of_token).count()
    }

    /// Whether `author` has witnessed a join already.
    pub fn is_witnessed_by(&self, join: &StatementId, author: &AuthorId) -> bool {
        self.state
            .acts()
            .any(|s| s.author == *author && matches!(&s.body, Body::Witness(w) if w.join == *join))
    }

    /// Checks statements that someone wants to hand in here, all together: each must continue its author's chain
    /// and count. Returns the first that does not, and why; nothing is changed.
    ///
    /// `now` is this node's clock: a grant that is over by it is not used here, whatever its holder's stamps say.
    pub fn check(&mut self, statements: &[Bytes], now: Wall) -> Result<Vec<StatementId>, Refusal> {
        self.refresh();
        let (state, authority) = (&*self.state, self.state.authority());
        let mut heads: BTreeMap<AuthorId, (StatementId, u64)> = BTreeMap::new();
        let mut ids = Vec::new();
        for bytes in statements {
            let s = match peek_id(bytes) {
                Some(id) => self.opened(bytes, &id)?,
                None => open(&self.mesh(), bytes).map(Arc::new)?,
            };
            ids.push(s.id);
            if state.contains(&s.id) {
                continue;
            }
            self.check_standing(&s.author, s.body.kind())?;
            self.check_quota(&s.author, s.body.kind(), s.bytes.len(), 1)?;
            let head = heads
                .get(&s.author)
                .copied()
                .or_else(|| state.chain(&s.author).and_then(Chain::head));
            let follows = head.map_or(s.seq == 0, |(id, seq)| s.prev == id && s.seq == seq + 1);
            if !follows {
                reached!("a statement was handed in that does not continue its chain");
                return Err(Refusal::Behind);
            }
            if s.refs
                .iter()
                .any(|id| !state.contains(id) && !ids.contains(id))
            {
                return Err(Refusal::Behind);
            }
            let root = StatementId(state.mesh().0);
            let is_admin = s.under == root
                && authority.admins.contains(&s.author)
                && !authority.revoked.contains(&s.author);
            let can_be_co_signed = |id: &StatementId| {
                state.act(id).is_some_and(|s| {
                    s.under == root
                        && authority.listed().contains(&s.author)
                        && can_be_co_signed(&s.body)
                })
            };
            // What a cut admin says against other admins may outweigh what cut them, and a checkpoint goes on counting.
            let may_weigh = s.under == root
                && authority.listed().contains(&s.author)
                && match &s.body {
                    Body::Revoke(r) => authority.listed().contains(&r.key) && r.key != s.author,
                    Body::CoSign(c) => can_be_co_signed(&c.proposal),
                    Body::Checkpoint(_) => true,
                    _ => false,
                };
            let verdict = match &s.body {
                _ if authority.revoked.contains(&s.author) && may_weigh => Ok(()),
                _ if authority.revoked.contains(&s.author) => Err("its key was revoked"),
                _ if authority.is_over(&s.under, now) => {
                    reached!("a change was handed in under a grant that is over");
                    Err("its grant had expired")
                }
                Body::Revoke(r)
                    if r.head
                        .is_some_and(|h| state.stored(&h).is_none_or(|s| s.author != r.key)) =>
                {
                    Err("its cut is not a statement of that key that is known here")
                }
                Body::CoSign(c) if !can_be_co_signed(&c.proposal) => {
                    Err("what it agrees with is no revocation and no checkpoint that is known here")
                }
                Body::Checkpoint(c)
                    if c.heads.is_empty() || c.heads.iter().any(|h| !state.contains(h)) =>
                {
                    Err("it names nothing, or a statement that is not known here")
                }
                Body::Revoke(r) if state.root().root_keys.contains(&r.key) => {
                    Err("root keys are replaced by a root record, not revoked")
                }
                Body::Root(signed) => {
                    state.check_root(&s, signed)?;
                    state.check_next_root(signed)?;
                    Ok(())
                }
                Body::Edit(edit) => authority.judge(root, &s, &edit.ops),
                Body::Invite(invite)
                    if invite.witness == WitnessRule::Quorum
                        && state.root().record.registrars.is_empty() =>
                {
                    Err("a quorum needs registrars, and the root record names none")
                }
                Body::Invite(invite) => crate::resolve::judge_invite(authority, root, &s, invite),
                Body::Confirm(_) if authority.may_confirm(root, &s) => Ok(()),
                Body::Confirm(_) => Err("its author may not confirm joins"),
                Body::RevokeInvite(r) => {
                    let invite = authority.roster.invites.get(&r.invite);
                    if is_admin || invite.is_some_and(|i| i.author == s.author) {
                        Ok(())
                    } else {
                        Err("its author neither made the token nor is an admin")
                    }
                }
                Body::Unknown(..) => Err("its kind is unknown"),
                Body::Join(_) | Body::Witness(_) | Body::Vouch(_) => {
                    Err("only nodes say this, by themselves")
                }
                Body::Grant(_)
                | Body::RevokeGrant(_)
                | Body::Revoke(_)
                | Body::Admit(_)
                | Body::CoSign(_)
                | Body::Checkpoint(_) => {
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
        self.state.edits().parents(id)
    }

    pub(crate) fn stored(&self, id: &StatementId) -> Option<&Stored> {
        self.state.stored(id)
    }

    pub(crate) fn chain(&self, author: &AuthorId) -> Option<&Chain> {
        self.state.chain(author)
    }

    pub(crate) fn prints(&self) -> &Prints {
        self.state.prints()
    }

    #[cfg(test)]
    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    #[cfg(test)]
    pub(crate) fn tips(&self, author: &AuthorId) -> Vec<(u64, StatementId)> {
        self.state.tips(author)
    }
}

/// Where a statement comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Source {
    /// From anyone: everything is checked.
    Mesh,
    /// From this replica's own store: it was checked before.
    Store,
}

enum Placed {
    Stored,
    Known,
    Missing(StatementId),
}

fn peek_id(bytes: &Bytes) -> Option<StatementId> {
    if bytes.len() > STATEMENT_BYTES_MAX {
        return None;
    }
    if mutant!("M49") {
        assert!(bytes.len() >= 64, "statements end with a signature");
    }
    let signed = bytes.get(..bytes.len().checked_sub(64)?)?;
    Some(StatementId(*blake3::hash(signed).as_bytes()))
}
