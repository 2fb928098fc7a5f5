//! Who asks an agent for something.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::AuthorId;

/// Whoever is on the other end of a call. Only proved facts: a uid that the kernel names, or a key that the link proved.
/// The order of the variants is part of the format of audit records.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Caller {
    /// A program of this machine, over the local socket.
    Local {
        /// The user that it runs as.
        uid: u32,
    },
    /// A person's device, over the network.
    Device(AuthorId),
}

impl fmt::Display for Caller {
    /// `uid 1000`, or the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local { uid } => write!(f, "uid {uid}"),
            Self::Device(key) => write!(f, "{key}"),
        }
    }
}

/// What the key of a device may be at a moment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Standing {
    /// Of an operator or laptop, with a grant that counts and is not over.
    Operator,
    /// Of an admin of the root record in force.
    Admin,
}
