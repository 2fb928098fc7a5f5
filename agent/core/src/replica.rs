//! One node's copy of everything: statements, registers and the document made of them.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use lab_crdt_doc::Document;
use lab_crdt_log::{
    Body, Draft, Edits, EffectiveEdit, Log, Memo, Outcome, Refusal, Register, RegisterError,
    RegisterKey, Registers, RootError, SignedRoot, StepKey, Supposed, Tail, author_of, register_of,
    seal, seq_of, step_key,
};
use lab_crdt_model::report::{AuditHead, Beacon, Section};
use lab_crdt_model::store::{Batch, StoreOp, Table, Tables};
use lab_crdt_model::view::RefusedView;
use lab_crdt_model::{
    AuthorId, Issue, Mono, NodeId, Now, Path, StatementId, Wall, mutant, reached, sometimes,
};

use crate::ages::Ages;
use crate::audit::Audit;
use crate::boot::NodeKeys;
use crate::crowd::Crowds;
use crate::lives::{Lives, Word};
use crate::pace::Paces;

const REFUSED_MAX: usize = 100;
/// About what a document costs, bytes: at all, and for each edit.
const DOCUMENT_BYTES: usize = 100_000;
const EDIT_BYTES: usize = 1_000;

pub(crate) fn put(table: Table, key: &[u8], value: Vec<u8>) -> StoreOp {
    StoreOp::Put {
        table,
        key: key.to_vec(),
        value,
    }
}

fn late_id(key: &[u8]) -> Option<StatementId> {
    Some(StatementId(key.try_into().ok()?))
}

pub(crate) fn register_key(node: &NodeId, section: Section) -> Vec<u8> {
    let mut key = node.0.to_vec();
    key.push(section as u8);
    key
}

pub(crate) struct Replica {
    pub(crate) log: Log,
    pub(crate) registers: Registers,
    ages: Ages,
    paces: Paces,
    crowds: Crowds,
    pub(crate) lives: Lives,
    /// Why this node must not continue its own chain now, for people.
    pub(crate) held_back: Option<&'static str>,
    pub(crate) document: Arc<Document>,
    /// One hash of its heads.
    heads: [u8; 32],
    pub(crate) refused: VecDeque<RefusedView>,
    /// What this node records of itself.
    pub(crate) audit: Audit,
    /// Why the document is not up to date; the last one that could be built stays.
    pub(crate) document_issue: Option<Issue>,
    /// What is to be made durable at the end of the turn.
    pub(crate) batch: Batch,
    /// New in this turn, to be pushed on: statements taken in from the local socket or made here.
    has_new_statements: bool,
}

/// A register that was newer than what was here.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    pub(crate) node: NodeId,
    pub(crate) section: Section,
    pub(crate) seq: u64,
    /// It shows that two machines have the key of its node, which was not known.
    pub(crate) is_clone_found: bool,
    /// It is a beacon and says other addresses than the one before.
    pub(crate) has_new_addresses: bool,
    /// It is a beacon that tells of an earlier or another audit chain than the one before.
    pub(crate) went_back: Option<WentBack>,
}

/// The audit chain of a node does not hold what the node had told.
#[derive(Clone, Debug)]
pub(crate) struct WentBack {
    /// The beacon that told it.
    pub(crate) report: Bytes,
    pub(crate) told: AuditHead,
    pub(crate) tells: AuditHead,
}

/// What a turn changed.
#[derive(Debug, Default)]
pub(crate) struct Folded {
    pub(crate) has_new_statements: bool,
    /// Paths whose fields may have changed; `None` = all.
    pub(crate) touched: Option<Vec<Path>>,
}

/// What a store held, taken in.
struct Restored {
    log: Log,
    registers: Registers,
    document: Arc<Document>,
    heads: [u8; 32],
    document_issue: Option<Issue>,
    /// Keeps the place in memory that names this from being used again.
    _base: Option<Arc<Tables>>,
}

/// The document after some edits.
struct Written {
    document: Arc<Document>,
    heads: [u8; 32],
    touched: Option<Vec<Path>>,
    issue: Option<Issue>,
}

/// Registers without those of strangers.
struct Sifted {
    registers: Registers,
    gone: Vec<RegisterKey>,
}

impl Replica {
    pub(crate) fn new(root: SignedRoot, memo: &Memo) -> Result<Self, RootError> {
        let log = Log::with_memo(root, memo.clone())?;
        let mesh = log.mesh();
        let document = memo.step(
            || step_key("no edits", &[&mesh.0]),
            || Document::new(&mesh),
            |_| DOCUMENT_BYTES,
            |a, b| a.heads() == b.heads(),
        );
        Ok(Self {
            log,
            registers: Registers::with_memo(memo.clone()),
            ages: Ages::default(),
            paces: Paces::default(),
            crowds: Crowds::default(),
            lives: Lives::default(),
            held_back: None,
            heads: heads_digest(&document),
            document,
            refused: VecDeque::new(),
            audit: Audit::default(),
            document_issue: None,
            batch: Batch::new(),
            has_new_statements: false,
        })
    }

    /// The same replica as it would be if some keys were at an end; only to look at.
    pub(crate) fn supposing(&self, ends: &[Supposed]) -> Self {
        let mut out = Self {
            log: self.log.supposing(ends),
            registers: self.registers.clone(),
            ages: self.ages.clone(),
            paces: Paces::default(),
            crowds: Crowds::default(),
            lives: Lives::default(),
            held_back: None,
            document: Arc::clone(&self.document),
            heads: self.heads,
            refused: self.refused.clone(),
            audit: Audit::default(),
            document_issue: None,
            batch: Batch::new(),
            has_new_statements: false,
        };
        out.fold();
        out
    }

    /// Takes in what the store held, and before it what many stores held when they were made. Damaged or
    /// contradicting records are left out; the mesh repairs them.
    pub(crate) fn restore(&mut self, base: Option<&Arc<Tables>>, tables: &mut Tables) {
        let mesh = self.log.mesh();
        if let Some(base) = base {
            let place = (Arc::as_ptr(base) as usize).to_le_bytes();
            let name = step_key("base", &[&mesh.0, &place]);
            let records = |table| base.get(&table).into_iter().flatten();
            let copy = |(_, value): &(Vec<u8>, Vec<u8>)| Bytes::copy_from_slice(value);
            self.restore_named(name, Some(base), |replica| {
                replica.restore_from(
                    records(Table::Statements).map(copy),
                    records(Table::Registers).map(copy),
                    records(Table::Late).filter_map(|(key, _)| late_id(key)),
                );
            });
        }
        let statements = tables.remove(&Table::Statements).unwrap_or_default();
        let registers = tables.remove(&Table::Registers).unwrap_or_default();
        let late = tables.remove(&Table::Late).unwrap_or_default();
        let value = |(_, value): (Vec<u8>, Vec<u8>)| Bytes::from(value);
        if base.is_some() || !self.log.memo().is_on() {
            self.restore_from(
                statements.into_iter().map(value),
                registers.into_iter().map(value),
                late.iter().filter_map(|(key, _)| late_id(key)),
            );
        } else {
            let name = name_of(&mesh.0, &[&statements, &registers, &late]);
            self.restore_named(name, None, |replica| {
                replica.restore_from(
                    statements.into_iter().map(value),
                    registers.into_iter().map(value),
                    late.iter().filter_map(|(key, _)| late_id(key)),
                );
            });
        }
    }

    fn restore_from(
        &mut self,
        statements: impl Iterator<Item = Bytes>,
        registers: impl Iterator<Item = Bytes>,
        late: impl Iterator<Item = StatementId>,
    ) {
        let mut is_one_lost = mutant!("M63");
        self.log.restore_all(statements.filter(|bytes| {
            let is_edit = bytes.get(1) == Some(&1);
            !(is_edit && std::mem::take(&mut is_one_lost))
        }));
        self.log.restore_late(late);
        for register in registers {
            let _damaged = self.registers.restore(&register);
        }
    }

    /// The same as `restore` of an empty replica, if that is not known already.
    fn restore_named(
        &mut self,
        name: StepKey,
        base: Option<&Arc<Tables>>,
        restore: impl FnOnce(&mut Self),
    ) {
        let memo = self.log.memo().clone();
        if !memo.is_on() {
            return restore(self);
        }
        let restored = memo.step(
            || name,
            || {
                // What is kept must not keep the memo itself.
                let mut replica = Self {
                    log: self.log.with_memo_of(Memo::none()),
                    registers: Registers::default(),
                    ages: Ages::default(),
                    paces: Paces::default(),
                    crowds: Crowds::default(),
                    lives: Lives::default(),
                    held_back: None,
                    document: Arc::clone(&self.document),
                    heads: self.heads,
                    refused: VecDeque::new(),
                    audit: Audit::default(),
                    document_issue: None,
                    batch: Batch::new(),
                    has_new_statements: false,
                };
                restore(&mut replica);
                replica.fold();
                Restored {
                    log: replica.log,
                    registers: replica.registers,
                    document: replica.document,
                    heads: replica.heads,
                    document_issue: replica.document_issue,
                    _base: base.cloned(),
                }
            },
            |restored| DOCUMENT_BYTES + restored.log.len() * 2_000,
            |a, b| {
                a.log.digest() == b.log.digest()
                    && a.log.len() == b.log.len()
                    && a.registers.digest() == b.registers.digest()
                    && a.heads == b.heads
            },
        );
        self.log = restored.log.with_memo_of(memo.clone());
        self.log.publish();
        self.registers = restored.registers.with_memo_of(memo);
        self.document = Arc::clone(&restored.document);
        self.heads = restored.heads;
        self.document_issue.clone_from(&restored.document_issue);
    }

    /// Takes in a statement from anywhere but the own store. Returns the new ids.
    pub(crate) fn take_statement(
        &mut self,
        bytes: &Bytes,
        from: Option<NodeId>,
        now: Now,
    ) -> Result<Outcome, Refusal> {
        if mutant!("M09") && self.is_late(bytes, now.wall) {
            return Err(Refusal::Denied("its grant had expired"));
        }
        let is_lost = mutant!("M53") && from.is_none();
        self.log.set_clock(now.wall);
        let outcome = self.log.ingest(bytes, now.mono);
        match &outcome {
            Ok(Outcome::Stored { ids }) => {
                self.has_new_statements = true;
                for id in ids.iter().filter(|_| !is_lost) {
                    if let Some(envelope) = self.log.envelope(id) {
                        if let Some((author, seq)) = author_of(&envelope).zip(seq_of(&envelope)) {
                            self.crowds.note(author, seq, now.mono);
                        }
                        self.batch
                            .push(put(Table::Statements, &id.0, envelope.to_vec()));
                    }
                }
            }
            Ok(Outcome::Known(_) | Outcome::Waiting { .. }) => {}
            Err(refusal) => self.note_refusal(bytes, from, refusal.to_string(), now),
        }
        outcome
    }

    /// What an author needs to go on; an edit that builds on it does not wait elsewhere for a flood that comes in here.
    pub(crate) fn tail(&self, author: &AuthorId, now: Mono) -> Tail {
        let fresh = self.crowds.fresh(now);
        sometimes!(
            !fresh.is_empty(),
            "an edit does not build on the newest words of a crowd"
        );
        self.log.tail_without(author, &fresh)
    }

    /// Says `body` as the next statement of this node under its `join`. Returns whether it was said: a node that would
    /// fork its own chain (its store lost the middle of it, or is an old copy, or has a twin) says nothing.
    pub(crate) fn speak(
        &mut self,
        keys: &NodeKeys,
        join: StatementId,
        refs: Vec<StatementId>,
        body: Body,
        now: Now,
    ) -> bool {
        let me = keys.node().author();
        if self.held_back.is_some() {
            return false;
        }
        if self.log.is_behind(&me) {
            reached!("a node does not fork its own chain though its store lost the middle of it");
            return false;
        }
        let tail = self.log.tail(&me);
        let draft = Draft {
            seq: tail.seq,
            prev: tail.prev,
            under: join,
            hlc: crate::agent::sane_stamp(tail.hlc, now.wall).next(now.wall),
            refs,
            body,
        };
        seal(&self.log.mesh(), &keys.signing, &draft)
            .is_ok_and(|bytes| self.take_statement(&bytes, None, now).is_ok())
    }

    /// The seeded bug M09: whether the grant that a statement relies on is over by the clock of this node.
    fn is_late(&self, bytes: &Bytes, now: Wall) -> bool {
        let under = bytes.get(74..106).and_then(|b| b.first_chunk());
        let grants = &self.log.authority_as_resolved().grants;
        let grant = under.and_then(|id| grants.get(&StatementId(*id)));
        grant.is_some_and(|g| g.not_after.is_some_and(|end| now >= end))
    }

    /// Takes in a register from anywhere but the own store. Returns whose and which section it is, if it is newer.
    pub(crate) fn take_register(
        &mut self,
        bytes: &Bytes,
        from: Option<NodeId>,
        now: Now,
    ) -> Option<Taken> {
        let mesh = self.log.mesh();
        let which = register_of(bytes);
        let is_beacon = which.is_some_and(|(_, section)| section == Section::Beacon);
        let former = which
            .filter(|_| is_beacon)
            .and_then(|(node, section)| self.registers.get(&node, section).cloned());
        let newest = which.and_then(|(node, _)| self.newest_word(&node));
        if from.is_some() && !self.has_pace(bytes, now) {
            return None;
        }
        let count = self.registers.node_count();
        let members = &self.log.authority_as_resolved().roster.members;
        let taken = self.registers.ingest(&mesh, bytes, |node| {
            members
                .get(node)
                .is_some_and(|m| m.is_admitted_at(now.wall))
        });
        match taken {
            Ok(Some(register)) => {
                let (node, section, seq) = (register.node, register.section, register.seq);
                if from.is_some() {
                    self.paces.spend(node, section, bytes.len(), now.mono);
                }
                let (place, now_count) = (self.registers.place(&node), self.registers.node_count());
                let is_first = now_count > count;
                self.ages
                    .heard(place, now_count, is_first, section, now.wall);
                self.batch.push(put(
                    Table::Registers,
                    &register_key(&node, section),
                    bytes.to_vec(),
                ));
                let said = former.as_deref().and_then(beacon_of);
                let says = beacon_of(&register).filter(|_| is_beacon);
                let has_new_addresses = is_beacon
                    && says.as_ref().map(|b| &b.addresses) != said.as_ref().map(|b| &b.addresses);
                let heads = said.zip(says).map(|(said, says)| (said.audit, says.audit));
                let is_back = |(told, tells): &(AuditHead, AuditHead)| {
                    tells.seq < told.seq || (tells.seq == told.seq && tells.hash != told.hash)
                };
                let went_back = heads
                    .filter(is_back)
                    .zip(former)
                    .map(|((told, tells), former)| {
                        let report = former.bytes.clone();
                        WentBack {
                            report,
                            told,
                            tells,
                        }
                    });
                let word = Word {
                    incarnation: register.incarnation,
                    seq,
                };
                let is_clone_found =
                    newest.is_some_and(|newest| self.lives.spoke(node, newest, word, now.mono));
                Some(Taken {
                    node,
                    section,
                    seq,
                    is_clone_found,
                    has_new_addresses,
                    went_back,
                })
            }
            // A report can arrive before the statement that makes its node a member: not worth a word.
            Ok(None) | Err(RegisterError::NotAMember) => None,
            Err(error) => {
                self.note_refusal(bytes, from, error.to_string(), now);
                None
            }
        }
    }

    /// Whether reports of this node and section come slowly enough for another one. Those that are no news cost nothing.
    fn has_pace(&self, bytes: &Bytes, now: Now) -> bool {
        let Some((node, section)) = register_of(bytes) else {
            return true;
        };
        let has_room = self.paces.has_room(&node, section, now.mono) || mutant!("M73");
        sometimes!(
            !has_room,
            "a report was left out: its node reports too often"
        );
        has_room
    }

    /// Reports of which no more is taken in now are not asked for either.
    pub(crate) fn mute_reports(&mut self, now: Mono) {
        self.registers.mute(self.paces.full(now));
    }

    /// Forgets what is no longer needed of how often nodes report.
    pub(crate) fn tidy_paces(&mut self, now: Mono) {
        self.paces.tidy(now);
    }

    /// Whether these bytes are the newest report of its node and section.
    pub(crate) fn is_standing(&self, bytes: &Bytes) -> bool {
        let standing =
            register_of(bytes).and_then(|(node, section)| self.registers.get(&node, section));
        standing.is_some_and(|register| register.bytes == *bytes)
    }

    /// What a node said last.
    fn newest_word(&self, node: &NodeId) -> Option<Word> {
        let newest = self.registers.of(node).max_by_key(|it| it.seq)?;
        Some(Word {
            incarnation: newest.incarnation,
            seq: newest.seq,
        })
    }

    /// The newest beacon of a node, if it can be read.
    pub(crate) fn beacon(&self, node: &NodeId) -> Option<Beacon> {
        beacon_of(self.registers.get(node, Section::Beacon)?)
    }

    /// A beacon of this node comes back from others: what they know of its audit chain.
    pub(crate) fn saw_own_beacon(&mut self, me: &NodeId, bytes: &Bytes, now: Now) {
        let told = |bytes: &Bytes| {
            let register = Register::open(&self.log.mesh(), bytes).ok()?;
            (register.node == *me && register.section == Section::Beacon)
                .then(|| beacon_of(&register))?
        };
        // Signatures are checked only of what may be news.
        let is_known = |said: &Beacon| self.audit.has(&said.audit);
        let is_mine = register_of(bytes) == Some((*me, Section::Beacon));
        let peek = is_mine
            .then(|| Register::body_of(bytes))
            .flatten()
            .and_then(|body| postcard::from_bytes::<Beacon>(&body).ok());
        if peek.is_some_and(|said| !is_known(&said))
            && let Some(said) = told(bytes)
        {
            self.audit.saw_own(me, said.audit, now);
        }
    }

    /// When a report of the node at a place was taken in by the clock of this node, to the second; zero if that was
    /// before this start.
    pub(crate) fn heard_at(&self, place: usize, section: Section) -> Wall {
        self.ages.at(place, section)
    }

    /// Forgets reports of whoever may not report any more; returns which.
    pub(crate) fn drop_reports_of_strangers(&mut self, now: Wall) -> Vec<RegisterKey> {
        let name = self.log.name().unwrap_or_default();
        let authority = Arc::clone(self.log.shared_authority());
        let over = authority.roster.leases_over(now) as u64;
        let before = self.registers.clone();
        let sifted = self.log.memo().step(
            || step_key("sift", &[&name, &before.digest(), &over.to_le_bytes()]),
            || {
                let mut registers = before.with_memo_of(Memo::none());
                let gone = registers.retain(|node| {
                    let member = authority.roster.members.get(node);
                    member.is_some_and(|m| m.is_admitted_at(now))
                });
                Sifted { registers, gone }
            },
            |sifted| 200 + 64 * sifted.gone.len(),
            |a, b| a.gone == b.gone && a.registers.digest() == b.registers.digest(),
        );
        if !sifted.gone.is_empty() {
            let mut places: Vec<usize> = sifted
                .gone
                .iter()
                .map(|(node, _)| before.place(node))
                .collect();
            places.sort_unstable();
            places.dedup();
            self.ages.forget(&places);
            self.registers = sifted.registers.with_memo_of(self.log.memo().clone());
        }
        sifted.gone.clone()
    }

    /// One hash of the heads of the document.
    pub(crate) const fn heads_digest(&self) -> [u8; 32] {
        self.heads
    }

    /// About how many bytes this replica alone holds.
    pub(crate) fn own_memory(&self) -> usize {
        let refused: usize = self
            .refused
            .iter()
            .map(|r| size_of_val(r) + r.why.len())
            .sum();
        refused
            + self.ages.memory()
            + self.paces.memory()
            + self.crowds.memory()
            + self.lives.memory()
            + self.audit.memory()
    }

    pub(crate) fn note_refusal(
        &mut self,
        bytes: &Bytes,
        from: Option<NodeId>,
        why: String,
        now: Now,
    ) {
        let author = author_of(bytes);
        let id = id_of(bytes);
        if self
            .refused
            .front()
            .is_some_and(|r| r.id == id && r.why == why)
        {
            return;
        }
        self.refused.truncate(REFUSED_MAX - 1);
        self.refused.push_front(RefusedView {
            at: now.wall,
            author,
            id,
            from,
            why,
        });
    }

    /// Whether there is anything that [`Replica::fold`] has not seen.
    pub(crate) const fn has_new_statements(&self) -> bool {
        self.has_new_statements
    }

    /// Brings authority and document up to date with the statements.
    pub(crate) fn fold(&mut self) -> Folded {
        let has_new_statements = std::mem::take(&mut self.has_new_statements);
        if has_new_statements {
            let late = self.log.take_late_marks();
            let marks = late.iter().map(|id| put(Table::Late, &id.0, Vec::new()));
            self.batch.extend(marks);
        }
        Folded {
            has_new_statements,
            touched: self.fold_document(),
        }
    }

    fn fold_document(&mut self) -> Option<Vec<Path>> {
        let Some(edits) = self.log.edits_name() else {
            let edits = self.log.take_edits();
            if edits == Edits::Unchanged {
                return Some(Vec::new());
            }
            let (touched, issue) = write(&mut self.document, &mut self.log, edits);
            self.document_issue = issue;
            self.heads = heads_digest(&self.document);
            return touched;
        };
        let memo = self.log.memo();
        let written = memo.step(
            || step_key("document", &[&self.heads, &edits]),
            || {
                let (mut log, mut document) = (self.log.clone(), Arc::clone(&self.document));
                let edits = log.take_edits();
                let (touched, issue) = write(&mut document, &mut log, edits);
                let heads = heads_digest(&document);
                // Others may have come to the same by another way.
                let name = step_key("heads", &[&log.mesh().0, &heads]);
                match memo.get::<Document>(&name) {
                    Some(known) => document = known,
                    None => {
                        let bytes = DOCUMENT_BYTES + EDIT_BYTES * document.len();
                        memo.put(name, &document, bytes);
                    }
                }
                Written {
                    document,
                    heads,
                    touched,
                    issue,
                }
            },
            |written| {
                written
                    .touched
                    .as_ref()
                    .map_or(0, |paths| 100 * paths.len())
            },
            |a, b| {
                (a.heads, &a.touched, &a.issue) == (b.heads, &b.touched, &b.issue)
                    && a.heads == heads_digest(&a.document)
            },
        );
        self.log.skip_edits();
        self.document = Arc::clone(&written.document);
        self.heads = written.heads;
        self.document_issue.clone_from(&written.issue);
        written.touched.clone()
    }
}

/// Carries edits into a document; one that cannot take them in is built again. Returns which paths they touched
/// (`None`: all) and why the document is not up to date, if so: the last one that could be built stays then.
fn write(
    document: &mut Arc<Document>,
    log: &mut Log,
    edits: Edits,
) -> (Option<Vec<Path>>, Option<Issue>) {
    let all = match edits {
        Edits::Unchanged => return (Some(Vec::new()), None),
        Edits::Append(edits) => match Arc::make_mut(document).apply(&convert(edits)) {
            Ok(touched) => return (Some(touched), None),
            Err(_) => log.effective_edits(),
        },
        Edits::Rebuild(edits) => {
            reached!("a document was built again");
            edits
        }
    };
    let mut next = Document::new(&log.mesh());
    match next.apply(&convert(all)) {
        Ok(_) => {
            *document = Arc::new(next);
            (None, None)
        }
        Err(error) => {
            let issue = Issue::error(
                "M030",
                "document",
                format!("the document cannot be built: {error}"),
            );
            let issue = issue.with_help("the last good one is used; please report this");
            (None, Some(issue))
        }
    }
}

fn beacon_of(register: &Register) -> Option<Beacon> {
    postcard::from_bytes(&register.body).ok()
}

/// The name of what was handed in or came, whatever it is.
pub(crate) fn id_of(bytes: &Bytes) -> Option<StatementId> {
    let signed = bytes.len().checked_sub(64)?;
    Some(StatementId(*blake3::hash(&bytes[..signed]).as_bytes()))
}

fn heads_digest(document: &Document) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for head in document.heads() {
        hasher.update(&head);
    }
    *hasher.finalize().as_bytes()
}

/// A name of records, by their whole content.
fn name_of(mesh: &[u8; 32], tables: &[&[(Vec<u8>, Vec<u8>)]]) -> StepKey {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"records");
    hasher.update(mesh);
    for table in tables {
        hasher.update(&(table.len() as u64).to_le_bytes());
        for (_, value) in *table {
            hasher.update(&(value.len() as u64).to_le_bytes());
            hasher.update(value);
        }
    }
    *hasher.finalize().as_bytes()
}

fn convert(edits: Vec<EffectiveEdit>) -> Vec<lab_crdt_doc::Edit> {
    edits
        .into_iter()
        .map(|e| lab_crdt_doc::Edit {
            id: e.id,
            author: e.author,
            branch: e.branch,
            at: e.at,
            message: e.message,
            parents: e.parents,
            ops: e.ops,
        })
        .collect()
}
