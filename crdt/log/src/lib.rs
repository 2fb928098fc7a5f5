//! Signed statements, and who may say what.
//!
//! A *statement* is one act of one author: an edit of intent, a grant, a revocation, a join. Its envelope is
//! signed, names its predecessor in the author's own chain and what else the author had seen, so the
//! statements of a mesh form a hash-linked graph. A replica's set of them only grows; what *counts* is a pure
//! function of the set and the root record ([`Authority`]), independent of the order of arrival.
//!
//! This crate is not a transport and not a document: it never says when to talk to whom, and it hands
//! effective edits on ([`Log::take_edits`]) without interpreting what stands at a path.
//!
//! ```text
//! bytes ─ ingest ─► chains (tree per author) ─ resolve ─► Authority: cuts, grants, invites, members
//!            │                                    │
//!            └► pending (waits for prev, refs)    └─► edits: effective, with their nearest effective ancestors
//! ```

pub mod audit;
mod body;
mod chain;
mod cover;
mod edits;
mod envelope;
mod log;
mod memo;
mod prints;
mod register;
mod resolve;
mod root;
mod roots;
mod roster;
mod state;
pub mod sync;
mod token;

pub use audit::{Act, Alarm, AuditBody, AuditRecord, seal_audit};
pub use body::{
    Admit, Body, Checkpoint, CoSign, Confirm, Edit, Grant, Invite, Join, Kind, Revoke, RevokeGrant,
    RevokeInvite, Rights, Vouch, Witness, WitnessRule,
};
pub use cover::{CheckpointState, Held};
pub use edits::{Edits, EffectiveEdit};
pub use envelope::{Draft, EnvelopeError, Statement, author_of, is_carried_by, open, seal, seq_of};
pub use log::{Log, NotAsked, Outcome, Refusal, Tail};
pub use memo::{Memo, MemoFigures, StepKey, step_key};
pub use prints::Prints;
pub use register::{Register, RegisterError, RegisterKey, Registers, register_of, seal_register};
pub use resolve::{Authority, GrantState, Proposal};
pub use root::{Admin, Annul, RootError, RootRecord, SignedRoot};
pub use roots::RootState;
pub use roster::{InviteState, JoinState, Member, Roster};
pub use state::Supposed;
pub use token::{TokenKeys, token_id};

#[cfg(test)]
mod tests;
