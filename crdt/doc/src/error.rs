//! Why a document could not be changed, shown or loaded.

use automerge::AutomergeError;
use lab_crdt_model::{AuthorId, StatementId};

/// Why a document could not be changed, shown or loaded.
#[derive(Debug, thiserror::Error)]
pub enum DocError {
    /// The caller's fault: the edit names a parent that is neither in the document nor earlier in
    /// the same batch. Nothing was changed; apply the parent first.
    #[error("apply {edit}: parent {parent} is unknown")]
    UnknownParent {
        /// The edit.
        edit: StatementId,
        /// Its parent.
        parent: StatementId,
    },
    /// The author wrote two statements that do not follow each other, or the caller left an edit's
    /// own predecessor out of its parents. Nothing was changed; work out the branches and build a
    /// new document from all effective edits.
    #[error("apply {edit}: it does not follow the latest edit of {author} on its branch")]
    Forked {
        /// The edit.
        edit: StatementId,
        /// Its author.
        author: AuthorId,
    },
    /// Nobody's fault: the document holds four thousand million operations. Nothing was changed; it
    /// can still be read.
    #[error("apply edits: the document is full")]
    Full,
    /// The caller's fault: a moment was asked for by a statement that is not in the document.
    /// Nothing was changed.
    #[error("show an earlier moment: {0} is not in the document")]
    UnknownStatement(StatementId),
    /// A bug: automerge refused a change that was built here. The document is unusable; build a new
    /// one.
    #[error("apply edits to the document")]
    Apply(#[source] AutomergeError),
    /// A bug in automerge. While applying: the document is unusable, build a new one. While
    /// loading: nothing was made, build from the edits.
    #[error("{operation}: automerge panicked")]
    Panicked {
        /// What was being done.
        operation: &'static str,
    },
    /// The disk's fault: the saved bytes are not a document. Nothing was made; build it from the
    /// edits.
    #[error("load a saved document")]
    Load(#[source] AutomergeError),
    /// The disk's fault, or a save of another mesh or version: the saved bytes are a document, but
    /// not one that these rules would have made. Nothing was made; build it from the edits.
    #[error("load a saved document: {0}")]
    Foreign(&'static str),
}
