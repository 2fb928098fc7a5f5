//! One node's copy of everything: statements, registers and the document made of them.

use std::collections::VecDeque;

use bytes::Bytes;
use lab_crdt_doc::Document;
use lab_crdt_log::{
    Edits, EffectiveEdit, Log, Outcome, Refusal, RegisterError, Registers, RootError, SignedRoot,
};
use lab_crdt_model::report::Section;
use lab_crdt_model::store::{Batch, StoreOp, Table, Tables};
use lab_crdt_model::view::RefusedView;
use lab_crdt_model::{AuthorId, Issue, NodeId, Now, Path, StatementId, Wall};

const REFUSED_MAX: usize = 100;

pub(crate) fn put(table: Table, key: &[u8], value: Vec<u8>) -> StoreOp {
    StoreOp::Put {
        table,
        key: key.to_vec(),
        value,
    }
}

pub(crate) fn register_key(node: &NodeId, section: Section) -> Vec<u8> {
    let mut key = node.0.to_vec();
    key.push(section as u8);
    key
}

pub(crate) struct Replica {
    pub(crate) log: Log,
    pub(crate) registers: Registers,
    pub(crate) document: Document,
    pub(crate) refused: VecDeque<RefusedView>,
    /// Why the document is not up to date; the last one that could be built stays.
    pub(crate) document_issue: Option<Issue>,
    /// What is to be made durable at the end of the turn.
    pub(crate) batch: Batch,
    /// New in this turn, to be pushed on: statements taken in from the local socket or made here.
    has_new_statements: bool,
}

/// What a turn changed.
#[derive(Debug, Default)]
pub(crate) struct Folded {
    pub(crate) has_new_statements: bool,
    /// Paths whose fields may have changed; `None` = all.
    pub(crate) touched: Option<Vec<Path>>,
}

impl Replica {
    pub(crate) fn new(root: SignedRoot) -> Result<Self, RootError> {
        let log = Log::new(root)?;
        let document = Document::new(&log.mesh());
        Ok(Self {
            log,
            registers: Registers::default(),
            document,
            refused: VecDeque::new(),
            document_issue: None,
            batch: Batch::new(),
            has_new_statements: false,
        })
    }

    /// Takes in what the store held. Damaged or contradicting records are left out; the mesh repairs them.
    pub(crate) fn restore(&mut self, tables: &mut Tables) {
        let statements = tables.remove(&Table::Statements).unwrap_or_default();
        self.log
            .restore_all(statements.into_iter().map(|(_, v)| v.into()));
        for (_, value) in tables.remove(&Table::Registers).unwrap_or_default() {
            let _damaged = self.registers.restore(&value.into(), Wall::default());
        }
    }

    /// Takes in a statement from anywhere but the own store. Returns the new ids.
    pub(crate) fn take_statement(
        &mut self,
        bytes: &Bytes,
        from: Option<NodeId>,
        now: Now,
    ) -> Result<Outcome, Refusal> {
        let outcome = self.log.ingest(bytes, now.mono);
        match &outcome {
            Ok(Outcome::Stored { ids }) => {
                self.has_new_statements = true;
                for id in ids {
                    if let Some(envelope) = self.log.envelope(id) {
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

    /// Takes in a register from anywhere but the own store. Returns whose and which section it is, if it is newer.
    pub(crate) fn take_register(
        &mut self,
        bytes: &Bytes,
        from: Option<NodeId>,
        now: Now,
    ) -> Option<(NodeId, Section, u64)> {
        let mesh = self.log.mesh();
        let members = &self.log.authority_as_resolved().roster.members;
        let taken = self.registers.ingest(&mesh, bytes, now.wall, |node| {
            members
                .get(node)
                .is_some_and(|m| m.is_admitted_at(now.wall))
        });
        match taken {
            Ok(Some(register)) => {
                let (node, section, seq) = (register.node, register.section, register.seq);
                self.batch.push(put(
                    Table::Registers,
                    &register_key(&node, section),
                    bytes.to_vec(),
                ));
                Some((node, section, seq))
            }
            // A report can arrive before the statement that makes its node a member: not worth a word.
            Ok(None) | Err(RegisterError::NotAMember) => None,
            Err(error) => {
                self.note_refusal(bytes, from, error.to_string(), now);
                None
            }
        }
    }

    pub(crate) fn note_refusal(
        &mut self,
        bytes: &Bytes,
        from: Option<NodeId>,
        why: String,
        now: Now,
    ) {
        let author = bytes
            .get(2..34)
            .and_then(|b| b.first_chunk())
            .map(|b| AuthorId(*b));
        let id = bytes
            .len()
            .checked_sub(64)
            .map(|end| StatementId(*blake3::hash(&bytes[..end]).as_bytes()));
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

    /// Brings authority and document up to date with the statements.
    pub(crate) fn fold(&mut self) -> Folded {
        let has_new_statements = std::mem::take(&mut self.has_new_statements);
        let touched = match self.log.take_edits() {
            Edits::Unchanged => Some(Vec::new()),
            Edits::Append(edits) => match self.document.apply(&convert(edits)) {
                Ok(touched) => {
                    self.document_issue = None;
                    Some(touched)
                }
                Err(_) => self.rebuild(None),
            },
            Edits::Rebuild(edits) => self.rebuild(Some(edits)),
        };
        Folded {
            has_new_statements,
            touched,
        }
    }

    fn rebuild(&mut self, edits: Option<Vec<EffectiveEdit>>) -> Option<Vec<Path>> {
        let edits = edits.unwrap_or_else(|| self.log.effective_edits());
        let mut next = Document::new(&self.log.mesh());
        match next.apply(&convert(edits)) {
            Ok(_) => {
                self.document = next;
                self.document_issue = None;
            }
            Err(error) => {
                let issue = Issue::error(
                    "M030",
                    "document",
                    format!("the document cannot be built: {error}"),
                );
                self.document_issue =
                    Some(issue.with_help("the last good one is used; please report this"));
            }
        }
        None
    }
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
