//! Why bytes from a peer were not used.

/// Why a frame could not be read. The frame was dropped; nothing else changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FrameError {
    /// Longer than its channel allows.
    #[error("the frame has {len} bytes, at most {max} are allowed")]
    TooLong {
        /// What it has, bytes.
        len: usize,
        /// What is allowed, bytes.
        max: usize,
    },
    /// Shorter than a header.
    #[error("the frame ends in its header")]
    TooShort,
    /// A version of the protocol that this program does not speak.
    #[error("the frame has version {0}, which this program does not know")]
    Version(u8),
    /// A kind that this program does not know; a newer peer may send it, and it is ignored.
    #[error("the frame has kind {0}, which this program does not know")]
    Kind(u8),
    /// The body is not what its kind says.
    #[error("the frame's body is malformed")]
    Malformed,
    /// A list or text in it is longer than allowed.
    #[error("the frame lists more {what} than the {max} that are allowed")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// What is allowed.
        max: usize,
    },
}
