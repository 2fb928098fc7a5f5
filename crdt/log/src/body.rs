//! What a statement can say, version 1 of each kind, in postcard.
//!
//! A body is accepted only in its canonical encoding (decoding and encoding again gives the same bytes). Kinds
//! that this program does not know are kept and relayed, inert.

use lab_crdt_model::limit::{CHECKPOINT_HEADS_MAX, FORK_BRANCHES_MAX, NAME_BYTES_MAX, OPS_MAX};
use lab_crdt_model::view::Role;
use lab_crdt_model::{AuthorId, Binding, Hardware, Label, NodeId, Op, StatementId, Wall, label};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::root::{SIGNATURES_MAX, SignedRoot};

/// The number of a kind of statement; part of the wire format.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Kind(pub u8);

impl Kind {
    /// Edits of intent; without edits, a merge.
    pub const EDIT: Self = Self(1);
    /// Rights for an operator.
    pub const GRANT: Self = Self(2);
    /// The end of a grant.
    pub const REVOKE_GRANT: Self = Self(3);
    /// The end of a key.
    pub const REVOKE: Self = Self(4);
    /// A join token.
    pub const INVITE: Self = Self(5);
    /// The end of a token.
    pub const REVOKE_INVITE: Self = Self(6);
    /// A new node's first word.
    pub const JOIN: Self = Self(7);
    /// A registrar saw a join.
    pub const WITNESS: Self = Self(8);
    /// A person confirmed a join.
    pub const CONFIRM: Self = Self(9);
    /// An admin made a key a node, without a token.
    pub const ADMIT: Self = Self(10);
    /// Another admin agrees with a revocation or a checkpoint.
    pub const CO_SIGN: Self = Self(11);
    /// A root record after the founding one.
    pub const ROOT: Self = Self(12);
    /// A node says what it had of a key when its grant ended.
    pub const VOUCH: Self = Self(13);
    /// An admin says what the history is.
    pub const CHECKPOINT: Self = Self(14);
    /// A join token for one machine.
    pub const INVITE_BOUND: Self = Self(15);
    /// A new node's first word, with what it is made of.
    pub const JOIN_HARDWARE: Self = Self(16);

    /// Whether this program gives it a meaning.
    pub const fn is_known(self) -> bool {
        matches!(self.0, 1..=16)
    }

    /// Whether it takes authority away or says who has it. Of an admin it is taken in however much its author has
    /// said: a stolen key must not keep its own end out.
    pub const fn is_of_authority(self) -> bool {
        matches!(
            self,
            Self::REVOKE_GRANT | Self::REVOKE | Self::CO_SIGN | Self::ROOT
        )
    }
}

/// What an operator may do; a set of bits. Unknown bits are kept and mean nothing here.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct Rights(pub u32);

impl Rights {
    /// Put labels on nodes.
    pub const LABELS: Self = Self(1);
    /// Everything else of intent.
    pub const CONFIG: Self = Self(2);
    /// Make join tokens.
    pub const INVITE: Self = Self(4);
    /// Confirm joins.
    pub const CONFIRM: Self = Self(8);

    const NAMES: [(Self, &'static str); 4] = [
        (Self::LABELS, "labels"),
        (Self::CONFIG, "config"),
        (Self::INVITE, "invite"),
        (Self::CONFIRM, "confirm"),
    ];

    /// All rights known here.
    pub const ALL: Self = Self(15);

    /// Whether every right of `other` is in `self`.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The names of the known rights, for people.
    pub fn names(self) -> Vec<&'static str> {
        Self::NAMES
            .iter()
            .filter(|(r, _)| self.has(*r))
            .map(|(_, n)| *n)
            .collect()
    }

    /// The right with a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::NAMES
            .iter()
            .find(|(_, n)| *n == name)
            .map(|(r, _)| *r)
    }
}

/// Edits of intent that count together or not at all.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Edit {
    /// The author's words, for example `apply lab.yaml`; at most 200 bytes.
    pub message: String,
    /// At most 4,096, each path at most once.
    pub ops: Vec<Op>,
}

/// Rights for an operator, by an admin.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Grant {
    /// Whose.
    pub subject: AuthorId,
    /// The person or device.
    pub name: String,
    /// What.
    pub rights: Rights,
    /// Path prefixes that may be written; an empty text is everything. At most 32.
    pub scope: Vec<String>,
    /// Statements stamped later do not count.
    pub not_after: Option<Wall>,
}

/// The end of a grant, by an admin.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RevokeGrant {
    /// Which.
    pub grant: StatementId,
    /// The last statement of the subject that still counts; none = nothing counts.
    pub head: Option<StatementId>,
}

/// The end of a key, by an admin.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Revoke {
    /// Whose.
    pub key: AuthorId,
    /// The last statement of that key that still counts (the cut); none = nothing counts.
    pub head: Option<StatementId>,
    /// The admin's words; at most 200 bytes.
    pub reason: String,
}

/// Who must have seen a join before it counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum WitnessRule {
    /// Any member. Works in any partition; double use is detected after a merge.
    Any,
    /// This node. At most one join while it is honest and its disk is not rolled back.
    One(NodeId),
    /// More than half of the registrars of the root record. At most one join while fewer than half of them are
    /// dishonest; in a partition only the side with most of them lets anyone in.
    Quorum,
}

impl WitnessRule {
    /// How many distinct registrars must have seen a join.
    pub const fn need(self, registrars: usize) -> usize {
        match self {
            Self::Any | Self::One(_) => 1,
            Self::Quorum => registrars / 2 + 1,
        }
    }
}

/// A join token, by an admin or an operator with the right `invite`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Invite {
    /// Public half of the key derived from the token.
    pub token_key: [u8; 32],
    /// How many may join with it, 1 to 100.
    pub uses_max: u16,
    /// Witnesses refuse later joins; at most seven days ahead.
    pub not_after: Wall,
    /// What joins.
    pub role: Role,
    /// The name of what joins; without one, the name follows from its key. Only with `uses_max` 1.
    pub name: Option<String>,
    /// Labels of what joins; at most 64. Admin-only keys need an admin.
    pub labels: Vec<Label>,
    /// Rights of a laptop's operator key, within the issuer's own.
    pub rights: Rights,
    /// Scope of a laptop's operator key, within the issuer's own.
    pub scope: Vec<String>,
    /// Milliseconds from the witness until a laptop's membership and grant end; 0 for a node.
    pub lease_ms: u64,
    /// Who must see the join.
    pub witness: WitnessRule,
    /// Whether an operator must confirm the join as well.
    pub confirm: bool,
    /// HMAC-SHA256 over mesh id and token key under the token's bind key: shows a joiner who typed the token that
    /// this mesh made it.
    pub mesh_mac: [u8; 32],
    /// The machine that it is for; only with `uses_max` 1. With it, the statement is of kind [`Kind::INVITE_BOUND`].
    #[serde(skip)]
    pub binding: Option<Binding>,
}

/// The end of a token.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RevokeInvite {
    /// Which.
    pub invite: StatementId,
}

/// The first statement of a new node's own chain.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Join {
    /// With which token.
    pub invite: StatementId,
    /// X25519 key that secrets for this node are sealed to.
    pub seal_key: [u8; 32],
    /// A laptop's operator key.
    pub operator_key: Option<AuthorId>,
    /// By the token key, over mesh, node, seal key and operator key.
    #[serde(with = "signature_bytes")]
    pub token_signature: [u8; 64],
    /// What the node is made of, in its own word. With it, the statement is of kind [`Kind::JOIN_HARDWARE`].
    #[serde(skip)]
    pub hardware: Option<Hardware>,
}

/// A registrar saw a join in time.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Witness {
    /// Which.
    pub join: StatementId,
    /// The registrar's clock.
    pub seen_at: Wall,
}

/// A person confirmed a join.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Confirm {
    /// Which.
    pub join: StatementId,
}

/// An admin made a key a node (the founder's own).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Admit {
    /// Whose key.
    pub node: NodeId,
    /// X25519 key that secrets for this node are sealed to.
    pub seal_key: [u8; 32],
    /// Its name.
    pub name: String,
    /// What it is.
    pub role: Role,
    /// Its labels; at most 64.
    pub labels: Vec<Label>,
}

/// Another admin agrees with the end of a key or a grant, or with a checkpoint.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CoSign {
    /// What it agrees with.
    pub proposal: StatementId,
}

/// An admin says what the history is. Once more than half of the admins stand behind it, no fewer of them can annul what
/// it covers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The last statement of each chain that its author had, at most 480, ascending. Each covers itself and what is before
    /// it in its own chain.
    pub heads: Vec<StatementId>,
}

/// Most ends of one chain that a vouch names: as many branches as are kept.
pub(crate) const VOUCH_HEADS_MAX: usize = FORK_BRANCHES_MAX;

/// A node says what it had heard of the holder of a grant when the grant ended. Replicas that were away take for said in
/// time what half of those had heard who are asked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Vouch {
    /// The grant, or the join of the laptop.
    pub grant: StatementId,
    /// The ends of what was heard of its holder, 1 to 4, ascending. Only those count that the statement also refers to.
    pub heads: Vec<StatementId>,
    /// When, by the clock of the node.
    pub at: Wall,
}

/// What is said.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "each variant is documented at its type")]
pub enum Body {
    Edit(Edit),
    Grant(Grant),
    RevokeGrant(RevokeGrant),
    Revoke(Revoke),
    Invite(Invite),
    RevokeInvite(RevokeInvite),
    Join(Join),
    Witness(Witness),
    Confirm(Confirm),
    Admit(Admit),
    CoSign(CoSign),
    /// A root record after the founding one. Whoever carries it, its own signatures decide.
    Root(SignedRoot),
    Vouch(Vouch),
    Checkpoint(Checkpoint),
    /// A kind of a later version, with its bytes.
    Unknown(Kind, Vec<u8>),
}

impl Body {
    /// Its number.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Edit(_) => Kind::EDIT,
            Self::Grant(_) => Kind::GRANT,
            Self::RevokeGrant(_) => Kind::REVOKE_GRANT,
            Self::Revoke(_) => Kind::REVOKE,
            Self::Invite(body) if body.binding.is_some() => Kind::INVITE_BOUND,
            Self::Invite(_) => Kind::INVITE,
            Self::RevokeInvite(_) => Kind::REVOKE_INVITE,
            Self::Join(body) if body.hardware.is_some() => Kind::JOIN_HARDWARE,
            Self::Join(_) => Kind::JOIN,
            Self::Witness(_) => Kind::WITNESS,
            Self::Confirm(_) => Kind::CONFIRM,
            Self::Admit(_) => Kind::ADMIT,
            Self::CoSign(_) => Kind::CO_SIGN,
            Self::Root(_) => Kind::ROOT,
            Self::Vouch(_) => Kind::VOUCH,
            Self::Checkpoint(_) => Kind::CHECKPOINT,
            Self::Unknown(kind, _) => *kind,
        }
    }

    /// One word for people.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Edit(_) => "edit",
            Self::Grant(_) => "grant",
            Self::RevokeGrant(_) => "revoke-grant",
            Self::Revoke(_) => "revoke",
            Self::Invite(_) => "invite",
            Self::RevokeInvite(_) => "revoke-invite",
            Self::Join(_) => "join",
            Self::Witness(_) => "witness",
            Self::Confirm(_) => "confirm",
            Self::Admit(_) => "admit",
            Self::CoSign(_) => "co-sign",
            Self::Root(_) => "root",
            Self::Vouch(_) => "vouch",
            Self::Checkpoint(_) => "checkpoint",
            Self::Unknown(..) => "unknown",
        }
    }

    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        let encoded = match self {
            Self::Edit(body) => postcard::to_stdvec(body),
            Self::Grant(body) => postcard::to_stdvec(body),
            Self::RevokeGrant(body) => postcard::to_stdvec(body),
            Self::Revoke(body) => postcard::to_stdvec(body),
            Self::Invite(body) => with_more(body, body.binding.as_ref()),
            Self::RevokeInvite(body) => postcard::to_stdvec(body),
            Self::Join(body) => with_more(body, body.hardware.as_ref()),
            Self::Witness(body) => postcard::to_stdvec(body),
            Self::Confirm(body) => postcard::to_stdvec(body),
            Self::Admit(body) => postcard::to_stdvec(body),
            Self::CoSign(body) => postcard::to_stdvec(body),
            Self::Root(body) => postcard::to_stdvec(body),
            Self::Vouch(body) => postcard::to_stdvec(body),
            Self::Checkpoint(body) => postcard::to_stdvec(body),
            Self::Unknown(_, bytes) => Ok(bytes.clone()),
        };
        encoded.expect("these types have no encoding that can fail")
    }

    /// Reads canonical bytes; `None` for anything else or beyond a limit.
    pub fn decode(kind: Kind, bytes: &[u8]) -> Option<Self> {
        if kind == Kind::EDIT && !nesting::is_bounded(bytes) {
            return None;
        }
        let body = match kind {
            Kind::EDIT => Self::Edit(canonical(bytes)?),
            Kind::GRANT => Self::Grant(canonical(bytes)?),
            Kind::REVOKE_GRANT => Self::RevokeGrant(canonical(bytes)?),
            Kind::REVOKE => Self::Revoke(canonical(bytes)?),
            Kind::INVITE => Self::Invite(canonical(bytes)?),
            Kind::REVOKE_INVITE => Self::RevokeInvite(canonical(bytes)?),
            Kind::JOIN => Self::Join(canonical(bytes)?),
            Kind::WITNESS => Self::Witness(canonical(bytes)?),
            Kind::CONFIRM => Self::Confirm(canonical(bytes)?),
            Kind::ADMIT => Self::Admit(canonical(bytes)?),
            Kind::CO_SIGN => Self::CoSign(canonical(bytes)?),
            Kind::ROOT => Self::Root(canonical(bytes)?),
            Kind::INVITE_BOUND => {
                let (body, binding) = canonical::<(Invite, Binding)>(bytes)?;
                let binding = Some(binding);
                Self::Invite(Invite { binding, ..body })
            }
            Kind::JOIN_HARDWARE => {
                let (body, hardware) = canonical::<(Join, Hardware)>(bytes)?;
                let hardware = Some(hardware);
                Self::Join(Join { hardware, ..body })
            }
            Kind::VOUCH => Self::Vouch(canonical(bytes)?),
            Kind::CHECKPOINT => Self::Checkpoint(canonical(bytes)?),
            other => Self::Unknown(other, bytes.to_vec()),
        };
        body.is_within_limits().then_some(body)
    }

    /// The same for bytes that were read before: what they are was found out then.
    pub(crate) fn decode_again(kind: Kind, bytes: &[u8]) -> Option<Self> {
        match kind {
            Kind::EDIT => postcard::from_bytes(bytes).ok().map(Self::Edit),
            other => Self::decode(other, bytes),
        }
    }

    fn is_within_limits(&self) -> bool {
        let text = |t: &str| t.len() <= 200;
        let scope = |s: &[String]| s.len() <= 32 && s.iter().all(|p| p.len() <= 256);
        let labels = |l: &[Label]| {
            l.len() <= 64
                && l.iter().all(|l| {
                    label::is_key(&l.key) && l.value.as_deref().is_none_or(label::is_value)
                })
        };
        match self {
            Self::Edit(Edit { message, ops }) => {
                let mut paths: Vec<_> = ops.iter().map(Op::path).collect();
                paths.sort_unstable();
                text(message)
                    && ops.len() <= OPS_MAX
                    && paths.windows(2).all(|w| w[0] != w[1])
                    && ops.iter().all(|op| match op {
                        Op::Set { field, .. } => {
                            field.value.is_within_limits()
                                && field.owners.len() <= 8
                                && field.owners.iter().all(|o| o.len() <= 80)
                                && field.source.as_deref().is_none_or(text)
                        }
                        Op::Unset { .. } => true,
                    })
            }
            Self::Grant(Grant { name, scope: s, .. }) => name.len() <= NAME_BYTES_MAX && scope(s),
            Self::Revoke(Revoke { reason, .. }) => text(reason),
            Self::Invite(invite) => {
                (1..=100).contains(&invite.uses_max)
                    && invite
                        .name
                        .as_deref()
                        .is_none_or(|n| label::is_name(n) && invite.uses_max == 1)
                    && labels(&invite.labels)
                    && scope(&invite.scope)
                    && invite
                        .binding
                        .as_ref()
                        .is_none_or(|b| b.is_within_limits() && invite.uses_max == 1)
            }
            Self::Join(join) => join
                .hardware
                .as_ref()
                .is_none_or(Hardware::is_within_limits),
            Self::Root(signed) => signed.signatures.len() <= SIGNATURES_MAX,
            Self::Vouch(Vouch { heads, .. }) => {
                heads.len() <= VOUCH_HEADS_MAX && heads.windows(2).all(|w| w[0] < w[1])
            }
            Self::Checkpoint(Checkpoint { heads }) => {
                heads.len() <= CHECKPOINT_HEADS_MAX && heads.windows(2).all(|w| w[0] < w[1])
            }
            Self::Admit(admit) => label::is_name(&admit.name) && labels(&admit.labels),
            Self::RevokeGrant(_)
            | Self::RevokeInvite(_)
            | Self::Witness(_)
            | Self::Confirm(_)
            | Self::CoSign(_)
            | Self::Unknown(..) => true,
        }
    }
}

/// What a kind says that an earlier one did not stands after all that the earlier one says.
fn with_more(body: &impl Serialize, more: Option<&impl Serialize>) -> postcard::Result<Vec<u8>> {
    match more {
        Some(more) => postcard::to_stdvec(&(body, more)),
        None => postcard::to_stdvec(body),
    }
}

fn canonical<T: DeserializeOwned + Serialize>(bytes: &[u8]) -> Option<T> {
    let (body, rest) = postcard::take_from_bytes::<T>(bytes).ok()?;
    (rest.is_empty() && postcard::to_stdvec(&body).ok()? == bytes).then_some(body)
}

/// Looks through the bytes of an edit without reading it. The reader of values calls itself for every level of
/// nesting, and 64 KiB hold enough levels to overflow a stack, so depth is checked before it runs.
mod nesting {
    use lab_crdt_model::limit::VALUE_DEPTH_MAX;

    struct Scan<'a>(&'a [u8]);

    impl Scan<'_> {
        fn varint(&mut self) -> Option<u64> {
            let mut out = 0u64;
            for shift in (0..70).step_by(7) {
                let (first, rest) = self.0.split_first()?;
                self.0 = rest;
                out |= u64::from(first & 0x7f).checked_shl(shift)?;
                if first & 0x80 == 0 {
                    return Some(out);
                }
            }
            None
        }

        fn text(&mut self) -> Option<()> {
            let length = usize::try_from(self.varint()?).ok()?;
            self.0 = self.0.get(length..)?;
            Some(())
        }

        fn value(&mut self) -> Option<()> {
            // How many more values each open list or map holds; a map has a key before each.
            let mut open: Vec<(u64, bool)> = Vec::new();
            loop {
                match self.varint()? {
                    0 => {}
                    1 => self.0 = self.0.get(1..)?,
                    2 => drop(self.varint()?),
                    3 | 4 => self.text()?,
                    tag @ (5 | 6) => {
                        if open.len() >= VALUE_DEPTH_MAX {
                            return None;
                        }
                        open.push((self.varint()?, tag == 6));
                    }
                    _ => return None,
                }
                loop {
                    match open.last_mut() {
                        None => return Some(()),
                        Some((0, _)) => drop(open.pop()),
                        Some((left, is_map)) => {
                            *left -= 1;
                            if *is_map {
                                self.text()?;
                            }
                            break;
                        }
                    }
                }
            }
        }

        fn edit(&mut self) -> Option<()> {
            self.text()?;
            for _ in 0..self.varint()? {
                let tag = self.varint()?;
                self.text()?;
                if tag == 0 {
                    self.value()?;
                    for _ in 0..self.varint()? {
                        self.text()?;
                    }
                    if self.varint()? == 1 {
                        self.text()?;
                    }
                }
            }
            Some(())
        }
    }

    /// Whether the values of an edit nest no deeper than they may, as far as the bytes are an edit at all.
    pub(super) fn is_bounded(bytes: &[u8]) -> bool {
        Scan(bytes).edit().is_some()
    }
}

mod signature_bytes {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8; 64], to: S) -> Result<S::Ok, S::Error> {
        let (a, b) = bytes.split_at(32);
        (a, b).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<[u8; 64], D::Error> {
        let (a, b) = <(Vec<u8>, Vec<u8>)>::deserialize(from)?;
        [a, b]
            .concat()
            .try_into()
            .map_err(|_bytes| serde::de::Error::custom("a signature has 64 bytes"))
    }
}
