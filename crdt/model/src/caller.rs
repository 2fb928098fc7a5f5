//! Who asks an agent for something, and as what.

use serde::{Deserialize, Serialize};

use crate::AuthorId;

/// Who asks an agent for something.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Caller {
    /// A user of this machine, at the socket; the kernel says who.
    Local {
        /// The user's number.
        uid: u32,
    },
    /// A device, over the remote API; it proved this key.
    Device(AuthorId),
}

/// What the key of a device may be at a moment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Standing {
    /// Of an operator or laptop, with a grant that counts and is not over.
    Operator,
    /// Of an admin of the root record in force.
    Admin,
}
