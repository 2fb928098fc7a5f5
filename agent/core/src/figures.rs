//! What harnesses and metrics read off an agent: digests to compare, counts to bound.

/// What a replica holds, each as one hash: equal hashes are equal contents.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Digests {
    /// Of the statements, as peers compare them.
    pub statements: [u8; 32],
    /// Of the registers, as peers compare them.
    pub registers: [u8; 32],
    /// Of the heads of the document.
    pub heads: [u8; 32],
    /// Of what came after the end of its grant and waits; zero when nothing does.
    pub late: [u8; 32],
}

/// What is bounded in an agent, as it stands now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Refusals kept for people to look at; at most 100.
    pub refused: usize,
    /// Statements stored.
    pub statements: usize,
    /// Statements that wait for others.
    pub waiting: usize,
    /// Nodes that have reported.
    pub reported: usize,
    /// Bytes handed to the store and not known to be durable.
    pub unstored_bytes: usize,
    /// Writes under way.
    pub writes: usize,
    /// Writes that failed, or that come after one that did.
    pub rewrites: usize,
    /// Commands that wait for the store.
    pub queued_commands: usize,
    /// Joins of others that are not decided yet.
    pub sponsored: usize,
    /// Outputs that nobody has polled.
    pub outputs: usize,
    /// Links that are up.
    pub links: usize,
    /// Audit records that are kept, this node's own and those of others.
    pub audit_records: usize,
    /// Addresses kept of other nodes.
    pub addresses: usize,
}
