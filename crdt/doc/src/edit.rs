//! What the document is made of.

use lab_crdt_model::{AuthorId, Hlc, Op, StatementId};

/// One effective edit of intent: a statement that counts, reduced to what shapes the document.
///
/// Its size, values and paths are within the limits of the model: whoever made it effective has
/// checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Edit {
    /// The statement.
    pub id: StatementId,
    /// Who wrote it.
    pub author: AuthorId,
    /// `None` on an unforked chain. After a fork, `None` on the branch whose first statement has
    /// the lowest id and that first statement's id on every other branch. The edits before the fork
    /// keep `None`.
    pub branch: Option<StatementId>,
    /// The author's stamp; shown, and never used for order.
    pub at: Hlc,
    /// The author's own words; may be empty.
    pub message: String,
    /// The nearest effective ancestors that are edits: the author's own previous edit and what it
    /// had seen of others. Order and redundant ancestors change nothing.
    pub parents: Vec<StatementId>,
    /// What it does. When several act on one path the last one counts. None at all is a merge: it
    /// changes no field and joins its parents.
    pub ops: Vec<Op>,
}
