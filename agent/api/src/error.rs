//! Why a question was not answered.

use std::io;
use std::path::PathBuf;

/// Why a call to the agent failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens at the socket: the agent is not running, or runs with another socket. Nothing was changed.
    #[error("reach the agent at {}", socket.display())]
    NotRunning {
        /// Where it was looked for.
        socket: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The caller may not use this socket. Nothing was changed; become root or a member of the socket's group.
    #[error("use the agent's socket: {why}")]
    Denied {
        /// In the system's or the agent's words.
        why: String,
    },
    /// Nobody who may be trusted answers there: the node does not run, cannot be reached from here, or has no remote API.
    /// Nothing was changed.
    #[error("reach {place}: {why}")]
    Unreachable {
        /// Whom, and where it was looked for.
        place: String,
        /// What was seen.
        why: String,
    },
    /// The node answers, but not to this key: it holds no grant in that mesh, or does not any more. Nothing was changed.
    #[error("ask {place}: {why}")]
    NotEntitled {
        /// Whom.
        place: String,
        /// In the node's words.
        why: String,
    },
    /// The agent understood and said no. Nothing was changed.
    #[error("{why}")]
    Refused {
        /// Stable code: `M0xx`.
        code: String,
        /// Why.
        why: String,
    },
    /// The agent took the call and gave no answer in time, or stopped meanwhile. A submission may or may not have
    /// been taken in: ask for the history before signing it again.
    #[error("wait for the agent's answer: {why}")]
    Unanswered {
        /// What was seen.
        why: String,
    },
    /// The answer made no sense: agent and program are of versions that do not fit, or something else listens there.
    #[error("understand the agent's answer: {why}")]
    Protocol {
        /// What was seen.
        why: String,
    },
}
