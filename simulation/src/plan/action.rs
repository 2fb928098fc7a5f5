//! What people and machines do.

use lab_crdt_model::Value;
use serde::{Deserialize, Serialize};

/// One thing that someone does.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Action {
    /// When, in milliseconds since the mesh stood.
    pub at_ms: u64,
    /// Who: 0 is the admin, others are operators once they were granted something.
    pub who: u8,
    /// At which node.
    pub node: usize,
    /// What.
    pub what: Act,
}

/// What someone does.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Act {
    /// Puts a label on a node, or takes it away.
    Label {
        /// The node.
        of: usize,
        /// For example `role=web`.
        label: String,
        /// Put on, or taken away.
        is_set: bool,
    },
    /// Sets a field.
    Set {
        /// Where.
        path: String,
        /// What.
        value: Value,
    },
    /// Removes a field.
    Unset {
        /// Where.
        path: String,
    },
    /// Attaches a file to a label: every node with that label writes it.
    File {
        /// The label, or `all`.
        on: String,
        /// Absolute.
        path: String,
        /// May name `{node.name}`.
        text: String,
    },
    /// Sets many fields in one statement: `prefix0`, `prefix1` and so on.
    Bulk {
        /// What the paths begin with.
        prefix: String,
        /// How many, at most 4,096.
        count: u32,
        /// The value of all.
        value: Value,
    },
    /// Sets back what this person edited last.
    Undo,
    /// Makes a join token.
    Token {
        /// What the plan calls it.
        token: u32,
        /// For a laptop: the lease in milliseconds; 0 is a token for a node.
        lease_ms: u64,
        /// How many may join with it.
        uses: u16,
        /// Milliseconds until it ends.
        ends_ms: u64,
        /// Labels of what joins.
        labels: Vec<String>,
        /// Who must see the join.
        witness: Witnesses,
        /// Whether a person must confirm.
        is_confirmed: bool,
    },
    /// A new machine joins with a token. The node of the action is the new machine's number.
    Join {
        /// The plan's name of the token.
        token: u32,
    },
    /// A person confirms the join of a node.
    Confirm {
        /// The node.
        of: usize,
    },
    /// Ends a token.
    RevokeToken {
        /// The plan's name of the token.
        token: u32,
    },
    /// Ends the membership of a node.
    Decommission {
        /// The node.
        of: usize,
    },
    /// Gives rights to a person.
    Grant {
        /// Whom.
        to: u8,
        /// What.
        rights: Vec<Right>,
        /// Path prefixes; an empty text is everything.
        scope: Vec<String>,
        /// Milliseconds until it ends.
        ends_ms: Option<u64>,
    },
    /// Ends the key of a person.
    RevokeOperator {
        /// Whose.
        of: u8,
        /// Whether all that they said so far ends as well.
        is_cut: bool,
    },
    /// The machine goes away in good order, as a laptop does.
    Away,
    /// It comes back.
    Return,
    /// Reads the replica. An answer is expected from every running node.
    Read(Lens),
    /// Hands in again what this person said last: nothing may change.
    Repeat,
    /// Hands in bytes that are no statement.
    Garbage {
        /// How many.
        bytes: u32,
    },
    /// An adversary does something. Nothing happens when no adversary of that name plays.
    Adversary {
        /// Which.
        name: String,
        /// A number for it.
        with: u64,
    },
}

/// Who must see a join.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Witnesses {
    /// Any member.
    Any,
    /// This node.
    One(usize),
}

/// What an operator may do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Right {
    /// Put labels on nodes.
    Labels,
    /// Everything else of intent.
    Config,
    /// Make join tokens.
    Invite,
    /// Confirm joins.
    Confirm,
}

/// Which parts of a replica are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lens {
    /// Members, operators and invites.
    pub roster: bool,
    /// Effective intent.
    pub fields: bool,
    /// Reports of nodes.
    pub reports: bool,
    /// How much history.
    pub history: u32,
}

impl Action {
    /// The number of the machine that joins by this action.
    pub const fn joins(&self) -> Option<usize> {
        match self.what {
            Act::Join { .. } => Some(self.node),
            _ => None,
        }
    }

    /// The nodes that this action names.
    pub fn nodes(&self) -> Vec<usize> {
        let named = match self.what {
            Act::Label { of, .. } | Act::Confirm { of } | Act::Decommission { of } => Some(of),
            Act::Token {
                witness: Witnesses::One(node),
                ..
            } => Some(node),
            _ => None,
        };
        std::iter::once(self.node).chain(named).collect()
    }

    /// Whether this action says something to the mesh.
    pub const fn is_statement(&self) -> bool {
        !matches!(
            self.what,
            Act::Join { .. }
                | Act::Away
                | Act::Return
                | Act::Read(_)
                | Act::Garbage { .. }
                | Act::Adversary { .. }
        )
    }

    /// The same with other numbers for nodes; `None` when a node that it needs has no number any more.
    #[must_use]
    pub fn renumbered(&self, number: &dyn Fn(usize) -> Option<usize>) -> Option<Self> {
        let mut action = self.clone();
        action.node = number(action.node)?;
        match &mut action.what {
            Act::Label { of, .. } | Act::Confirm { of } | Act::Decommission { of } => {
                *of = number(*of)?;
            }
            Act::Token {
                witness: Witnesses::One(node),
                ..
            } => *node = number(*node)?,
            _ => {}
        }
        Some(action)
    }
}
