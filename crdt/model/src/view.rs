//! What a person can be shown of one replica: plain data, made by the agent core, read by every face.
//!
//! Everything that decides (targeting, effective config, plan, status words) is a pure function of a
//! [`ReplicaView`], so any machine with the same replica shows the same.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::fact::Machine;
use crate::hardware::{Binding, Hardware};
use crate::id::{AuthorId, MeshId, NodeId, StatementId};
use crate::issue::Issue;
use crate::path::Path;
use crate::report::{Beacon, Facts, Status};
use crate::time::{Hlc, Wall};
use crate::value::{Field, Op};

/// One replica at one moment.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ReplicaView {
    /// The mesh.
    pub mesh: MeshId,
    /// Its name, from the root record.
    pub mesh_name: String,
    /// The node whose replica this is.
    pub me: NodeId,
    /// That node's clock.
    pub at: Wall,
    /// Milliseconds since its agent started.
    pub uptime_ms: u64,
    /// Version of its program.
    pub version: String,
    /// Digest of the statements it holds; equal on two nodes exactly when their sets are equal.
    pub digest: [u8; 32],
    /// Digest of the registers it holds.
    pub register_digest: [u8; 32],
    /// Heads of the fleet document.
    pub heads: Vec<[u8; 32]>,
    /// How many statements it holds.
    pub statement_count: u64,
    /// How many statements wait for what they refer to.
    pub pending_count: u64,
    /// Everyone who ever joined, by name.
    pub members: Vec<MemberView>,
    /// Admins and operators.
    pub operators: Vec<OperatorView>,
    /// Join tokens.
    pub invites: Vec<InviteView>,
    /// Effective intent, by path.
    pub fields: Vec<FieldView>,
    /// Newest reports, by node.
    pub reports: Vec<ReportView>,
    /// The mesh as this node sees it, by node.
    pub peers: Vec<PeerView>,
    /// Statements, newest first, when they were asked for.
    pub history: Vec<ChangeView>,
    /// What was refused lately, newest first; at most 100.
    pub refused: Vec<RefusedView>,
    /// Problems found while reading the replica.
    pub issues: Vec<Issue>,
    /// Tokens that are for one machine, and for which. Not in the first format: see [`MoreView`].
    #[serde(skip)]
    pub bindings: BTreeMap<StatementId, Binding>,
    /// Joins that are not settled, by node. As new as `bindings`.
    #[serde(skip)]
    pub joins: Vec<JoinView>,
    /// Checkpoints, oldest first. Not in the second format: see [`AgreedView`].
    #[serde(skip)]
    pub checkpoints: Vec<CheckpointView>,
    /// Ends of keys and grants that a checkpoint holds in part. As new as `checkpoints`.
    #[serde(skip)]
    pub held: Vec<HeldView>,
    /// What a checkpoint made here would name, by author. As new as `checkpoints`.
    #[serde(skip)]
    pub chains: Vec<ChainView>,
}

/// What a view says that the first format did not; it stands after all that that says.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct MoreView {
    /// See [`ReplicaView::bindings`].
    pub bindings: BTreeMap<StatementId, Binding>,
    /// See [`ReplicaView::joins`].
    pub joins: Vec<JoinView>,
}

/// What a view says that the second format did not; it stands after all that that says.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct AgreedView {
    /// See [`ReplicaView::checkpoints`].
    pub checkpoints: Vec<CheckpointView>,
    /// See [`ReplicaView::held`].
    pub held: Vec<HeldView>,
    /// See [`ReplicaView::chains`].
    pub chains: Vec<ChainView>,
}

/// What a view says that the third format did not: what the machines are made of, which [`ReplicaView::reports`] tell
/// on both sides.
pub type MachinesView = BTreeMap<NodeId, Machine>;

/// An admin's word on what the history is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CheckpointView {
    /// The statement.
    pub id: StatementId,
    /// Who made it.
    pub author: AuthorId,
    /// When, by its author's stamp.
    pub at: Hlc,
    /// How many authors it names.
    pub author_count: u32,
    /// How many of the statements that it names are not here yet.
    pub missing_count: u32,
    /// How many of them do not count here, because their author was cut before.
    pub void_count: u32,
    /// Admins of the root record in force who stand behind it.
    pub signers: Vec<AuthorId>,
    /// They are more than half of the admins.
    pub is_effective: bool,
}

/// The end of a key or a grant by too few admins to undo all that they name.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HeldView {
    /// The statement that ends it; `None` for one that was only supposed.
    pub revocation: Option<StatementId>,
    /// Whose statements.
    pub key: AuthorId,
    /// The grant that it ends; `None` when it ends the key.
    pub grant: Option<StatementId>,
    /// The last statement that should still count.
    pub head: Option<StatementId>,
    /// Admins of the root record in force who say so.
    pub signers: Vec<AuthorId>,
    /// How many statements count all the same.
    pub count: u32,
}

/// One author's chain, as far as a checkpoint made here would cover it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ChainView {
    /// Whose.
    pub author: AuthorId,
    /// Its last statement; of several branches, that of the longest.
    pub head: StatementId,
    /// How many statements it has up to there.
    pub count: u64,
}

/// What a member may be.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Role {
    /// A machine of the fleet.
    Node,
    /// A person's device: a replica, no config of its own.
    Laptop,
}

/// Where a member stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum MemberState {
    /// Joined, no witness yet.
    Seen,
    /// Full member.
    Member,
    /// Its token was used twice, or a clone was seen.
    Suspended,
    /// Its lease is over (a laptop).
    Expired,
    /// Revoked.
    Revoked,
    /// Seen by a member, but not by all that its token asks for, or nobody has confirmed it yet.
    Probation,
}

/// Someone who joined.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MemberView {
    /// Its key.
    pub node: NodeId,
    /// Its name, from the token or the operator; unique among live members (a later one gets `-2`, …).
    pub name: String,
    /// What it is.
    pub role: Role,
    /// Where it stands.
    pub state: MemberState,
    /// Labels that its token (or the founder) gave it; a field `label/NAME/LABEL = false` takes one away.
    pub labels: Vec<String>,
    /// Its join statement.
    pub join: StatementId,
    /// The stamp of the join.
    pub joined_at: Hlc,
    /// When a laptop's lease ends.
    pub not_after: Option<Wall>,
}

/// How far someone has come who joined and is no full member.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JoinView {
    /// Its key.
    pub node: NodeId,
    /// The statement that made its token.
    pub invite: StatementId,
    /// What it says that it is made of.
    pub hardware: Option<Hardware>,
    /// Who of those whom the token asks for saw it, and when by their clocks.
    pub witnesses: Vec<(NodeId, Wall)>,
    /// How many of them have to.
    pub needed: u32,
    /// Whether a person has to confirm it and has not.
    pub is_confirm_due: bool,
}

/// Someone who may change intent.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OperatorView {
    /// The key.
    pub key: AuthorId,
    /// The person or device.
    pub name: String,
    /// Listed in the root record.
    pub is_admin: bool,
    /// Rights: `labels`, `config`, `invite`, `confirm`; admins have all.
    pub rights: Vec<String>,
    /// Path prefixes it may write; `""` is everything.
    pub scope: Vec<String>,
    /// When the grant ends.
    pub not_after: Option<Wall>,
    /// Revoked, expired or cut.
    pub is_revoked: bool,
    /// The grant, join or root record its statements rely on.
    pub under: StatementId,
    /// Of an admin: who wants them out.
    pub proposals: Vec<ProposalView>,
    /// What was said under the grant and came only after it had ended, if an admin has to say whether it counts.
    pub late: Option<LateView>,
}

/// Admins want another admin out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ProposalView {
    /// The revocation.
    pub id: StatementId,
    /// The last statement that would still count.
    pub head: Option<StatementId>,
    /// Who agrees.
    pub signers: Vec<AuthorId>,
}

/// Changes that came after the end of their grant, and do not count.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LateView {
    /// How many.
    pub count: u32,
    /// The first of them, in the order of the chain; at most 100.
    pub changes: Vec<StatementId>,
    /// The end of the operator's chain: to let all of them count.
    pub last: StatementId,
    /// The end of what came in time: to let none of them count.
    pub in_time: Option<StatementId>,
}

/// A join token.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct InviteView {
    /// The statement that made it.
    pub id: StatementId,
    /// Eight bytes in hexadecimal: the public name of the token.
    pub token: String,
    /// Who made it.
    pub author: AuthorId,
    /// For a machine or a person.
    pub role: Role,
    /// The name its user will have.
    pub name: Option<String>,
    /// Labels its user will have.
    pub labels: Vec<String>,
    /// Uses so far.
    pub used_count: u32,
    /// Uses allowed.
    pub uses_max: u32,
    /// When witnesses begin to refuse it.
    pub not_after: Wall,
    /// `any`, or `one NODE`.
    pub witness: String,
    /// `open`, `used`, `expired`, `revoked` or `double use`.
    pub state: String,
    /// Who joined with it.
    pub used_by: Vec<NodeId>,
}

/// What stands at one path.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FieldView {
    /// Where.
    pub path: Path,
    /// What; the first one is in force, the others were written at the same time by someone who could not see it.
    pub candidates: Vec<CandidateView>,
}

/// One value of a field.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CandidateView {
    /// The value, its owners and its source.
    pub field: Field,
    /// The statement that wrote it.
    pub statement: StatementId,
    /// Who wrote it.
    pub author: AuthorId,
    /// When, by the author's stamp.
    pub at: Hlc,
}

/// The newest reports of one node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ReportView {
    /// Who.
    pub node: NodeId,
    /// Its beacon and when this replica took it in, by this node's clock.
    pub beacon: Option<(Beacon, Wall)>,
    /// Its facts.
    #[serde(with = "first_facts")]
    pub facts: Option<Facts>,
    /// Its status and when this replica took it in.
    pub status: Option<(Status, Wall)>,
}

/// Facts as in the first format of a view.
mod first_facts {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::report::Facts;

    pub(super) fn serialize<S: Serializer>(
        facts: &Option<Facts>,
        output: S,
    ) -> Result<S::Ok, S::Error> {
        let first = facts.as_ref().map(|f| {
            let texts = (&f.hostname, &f.os_name, &f.os_version, &f.kernel, &f.arch);
            (texts, f.cpu_count, f.memory_bytes)
        });
        first.serialize(output)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        input: D,
    ) -> Result<Option<Facts>, D::Error> {
        type Texts = (String, String, String, String, String);
        let first = Option::<(Texts, u32, u64)>::deserialize(input)?;
        Ok(first.map(|(texts, cpu_count, memory_bytes)| {
            let (hostname, os_name, os_version, kernel, arch) = texts;
            Facts {
                hostname,
                os_name,
                os_version,
                kernel,
                arch,
                cpu_count,
                memory_bytes,
                ..Facts::default()
            }
        }))
    }
}

/// How this node sees another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Liveness {
    /// Heard lately.
    Alive,
    /// Missed pings; others were asked.
    Suspect,
    /// Nobody hears it.
    Down,
    /// Never heard since this agent started.
    Unknown,
}

/// One other node, as this one sees it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PeerView {
    /// Who.
    pub node: NodeId,
    /// Opinion.
    pub liveness: Liveness,
    /// Milliseconds since this opinion began.
    pub since_ms: u64,
    /// Milliseconds since anything was heard of it, by link or by a newer beacon.
    pub heard_ms: Option<u64>,
    /// Whether there is a live link.
    pub is_linked: bool,
    /// Round trip of the last answered ping, microseconds.
    pub rtt_us: Option<u64>,
    /// Whether its newest digest of statements, seen over a link, equals ours.
    pub is_equal: Option<bool>,
    /// Where it was last reached.
    pub address: Option<SocketAddr>,
    /// By how much its clock is ahead of the time here, milliseconds; `None` unless it said the time within the last hour.
    pub clock_ms: Option<i64>,
}

/// One statement, for the history.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ChangeView {
    /// Which.
    pub id: StatementId,
    /// Who.
    pub author: AuthorId,
    /// When, by the author's stamp.
    pub at: Hlc,
    /// `edit`, `grant`, `revoke`, `invite`, `join`, `witness`, `confirm`, …
    pub kind: String,
    /// The author's own words, or a summary.
    pub message: String,
    /// The edits, if it is one.
    pub ops: Vec<Op>,
    /// Whether it counts.
    pub is_effective: bool,
    /// Why not.
    pub why_not: Option<String>,
    /// Whether its author had not seen an earlier listed edit (they were made at the same time).
    pub is_concurrent: bool,
}

/// A statement or register that changed nothing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RefusedView {
    /// When, by this node's clock.
    pub at: Wall,
    /// Who signed it, if that much could be read.
    pub author: Option<AuthorId>,
    /// Which, if that much could be read.
    pub id: Option<StatementId>,
    /// The peer it came from; `None` for the local socket.
    pub from: Option<NodeId>,
    /// Why.
    pub why: String,
}
