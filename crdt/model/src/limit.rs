//! Every size and count limit of the system, with its unit and reason.

/// Longest statement envelope, bytes (header, body, signature). One frame carries many.
pub const STATEMENT_BYTES_MAX: usize = 64 * 1024;
/// Longest envelope of an authority kind (grant, revoke, invite, join, witness, confirm), bytes.
pub const AUTHORITY_BYTES_MAX: usize = 16 * 1024;
/// Most references of one statement. An author who has seen more heads merges them first.
pub const REFS_MAX: usize = 16;
/// Longest path of a field, bytes of text.
pub const PATH_BYTES_MAX: usize = 256;
/// Longest value of a field, bytes as JSON.
pub const VALUE_BYTES_MAX: usize = 32 * 1024;
/// Deepest nesting of a value.
pub const VALUE_DEPTH_MAX: usize = 8;
/// Most edits (set, unset) in one statement.
pub const OPS_MAX: usize = 4096;
/// Most statements of one author that wait for a predecessor or a reference.
pub const PENDING_PER_AUTHOR_MAX: usize = 1000;
/// How long a statement may wait for what it refers to, milliseconds, before it is dropped and asked for again.
pub const PENDING_MS_MAX: u64 = 10 * 60 * 1000;
/// Most branches of one author that are kept once it forked its chain: those that came first.
pub const FORK_BRANCHES_MAX: usize = 4;
/// Most statements kept of an author beyond the head at which it was cut.
pub const CUT_KEPT_MAX: usize = 64;
/// Most live statements of one operator.
pub const OPERATOR_STATEMENTS_MAX: usize = 10_000;
/// Most statements of one admin; revocations and root records are taken in beyond it.
pub const ADMIN_STATEMENTS_MAX: usize = 100_000;
/// Most statements of one node (a join, witnesses).
pub const NODE_STATEMENTS_MAX: usize = 2_000;
/// How long after the end of a grant what is said under it is still taken for said in time, milliseconds: it may have
/// been on its way, and clocks differ. Those who watch a grant end vouch for what they had heard after this time.
pub const LATE_MS: u64 = 5 * 60 * 1000;
/// Most nodes that vouch for one grant when the root record names no registrars.
pub const VOUCHERS_MAX: usize = 5;
/// Most chains that one checkpoint names: they fit into 16 KiB together with the header of the statement.
pub const CHECKPOINT_HEADS_MAX: usize = 480;
/// Most live join tokens.
pub const TOKENS_MAX: usize = 1000;
/// Longest life of a join token, milliseconds: seven days.
pub const TOKEN_MS_MAX: u64 = 7 * 86_400_000;
/// Most MAC addresses that a newcomer tells.
pub const MACS_MAX: usize = 16;
/// Longest serial number of a machine, bytes.
pub const SERIAL_BYTES_MAX: usize = 64;
/// Longest register section, bytes of body: `facts`.
pub const FACTS_BYTES_MAX: usize = 256 * 1024;
/// Longest register section, bytes of body: `status`.
pub const STATUS_BYTES_MAX: usize = 32 * 1024;
/// Longest register section, bytes of body: `beacon`.
pub const BEACON_BYTES_MAX: usize = 512;
/// Longest frame we accept from a peer, bytes. Longer frames close the link.
pub const FRAME_BYTES_MAX: usize = 1 << 20;
/// Longest frame from a stranger on the join channel, bytes.
pub const JOIN_FRAME_BYTES_MAX: usize = 64 * 1024;
/// Longest payload that is pushed whole; larger ones travel as a hint and are pulled.
pub const PUSH_BYTES_MAX: usize = 3 * 1024;
/// Longest declaration file, bytes.
pub const DECLARATION_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Longest targeting query, bytes.
pub const QUERY_BYTES_MAX: usize = 4096;
/// Deepest nesting of a targeting query.
pub const QUERY_DEPTH_MAX: usize = 64;
/// Longest name of a node, operator, group or set, bytes.
pub const NAME_BYTES_MAX: usize = 63;
/// Longest record of an audit chain, bytes.
pub const AUDIT_RECORD_BYTES_MAX: usize = 1024;
/// Most records that a node keeps of its own audit chain, and most bytes of them; older ones are trimmed.
pub const AUDIT_RECORDS_MAX: usize = 100_000;
/// See [`AUDIT_RECORDS_MAX`].
pub const AUDIT_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Most records that an audit node keeps of the chain of each other node.
pub const AUDIT_HELD_MAX: usize = 10_000;
/// Most records kept of a chain as proof that it does not extend what was held.
pub const AUDIT_EVIDENCE_MAX: usize = 16;
