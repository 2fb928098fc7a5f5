//! What a record says.

use lab_crdt_model::limit::NAME_BYTES_MAX;
use lab_crdt_model::report::AuditHead;
use lab_crdt_model::view::MemberState;
use lab_crdt_model::{AuthorId, Caller, NodeId, StatementId};
use serde::{Deserialize, Serialize};

use crate::body::Kind;

/// Longest reason, bytes; longer ones are cut.
const WHY_BYTES_MAX: usize = 200;
const VERSION_BYTES_MAX: usize = 32;
const CODE_BYTES_MAX: usize = 8;
/// Longest name of a file, bytes, and most of them in one record.
const FILE_BYTES_MAX: usize = 96;
const FILES_MAX: usize = 4;
/// Most statements that one record names: the first ones and the last one.
const IDS_MAX: usize = 8;
const STATEMENT_KINDS_MAX: usize = 32;

/// Body of a record: who asked, and what happened.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AuditBody {
    /// Who asked for it over the interface of the agent; `None` for what the node did or saw by itself.
    pub caller: Option<Caller>,
    /// What.
    pub act: Act,
}

/// What happened. The order of the variants is part of the format: new ones come at the end.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Act {
    /// The agent started.
    Started {
        /// A number that it draws at each start.
        incarnation: u64,
        /// Of the program.
        version: String,
    },
    /// The store of the node has lost records of this chain.
    Lost {
        /// The first of them.
        from: u64,
        /// The last of them.
        through: u64,
    },
    /// Statements were handed in and taken.
    HandedIn {
        /// Who signed them.
        author: AuthorId,
        /// Which: at most eight, the last one among them.
        ids: Vec<StatementId>,
        /// Kinds that are among them, ascending.
        kinds: Vec<u8>,
        /// How many there are.
        count: u32,
    },
    /// Statements were handed in and refused.
    Refused {
        /// Who claims to have signed the first of them, if that much could be read.
        author: Option<AuthorId>,
        /// The first of them, if that much could be read.
        id: Option<StatementId>,
        /// The code that was answered.
        code: String,
        /// The words that were answered.
        why: String,
    },
    /// This node gave its witness to a join.
    Witnessed {
        /// Who joins.
        node: NodeId,
        /// Its join.
        join: StatementId,
        /// The statement that made its token.
        invite: StatementId,
    },
    /// This node refused to let a machine join.
    JoinRefused {
        /// Who.
        node: NodeId,
        /// The code that was answered.
        code: u16,
        /// The words that were answered.
        why: String,
    },
    /// A member was suspended or revoked, or is a member again, as seen here.
    MemberChanged {
        /// Who.
        node: NodeId,
        /// Its name.
        name: String,
        /// What it is now.
        state: MemberState,
    },
    /// The config of this machine was carried out.
    Configured {
        /// The hash of the config.
        hash: [u8; 32],
        /// Resources that were changed.
        changed_count: u32,
        /// Resources that could not be made so.
        failed_count: u32,
        /// Files among them, failed ones first; at most four.
        files: Vec<String>,
    },
    /// Something that must not be.
    Alarm(Alarm),
    /// The oldest records of this chain were removed here; there were too many.
    Trimmed {
        /// The last of them.
        end: AuditHead,
    },
    /// The oldest records that this node held of another one's chain were removed here.
    Dropped {
        /// Whose.
        node: NodeId,
        /// The last of them.
        end: AuditHead,
    },
    /// More happened of a kind within a minute than is recorded.
    LeftOut {
        /// The place of the kind in [`KINDS`].
        kind: u8,
        /// How often.
        count: u32,
    },
}

/// Something that must not be.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Alarm {
    /// An author's chain of statements has two branches.
    Forked {
        /// Whose.
        author: AuthorId,
    },
    /// The audit chain of a node does not hold what the node had told of it.
    WentBack {
        /// Whose.
        node: NodeId,
        /// What it told before.
        told: AuditHead,
        /// What it tells or shows now.
        tells: AuditHead,
    },
    /// A live peer stayed unequal for longer than it should.
    Diverged {
        /// Who.
        peer: NodeId,
    },
}

/// The kinds of records as people name them, by the place of the variant.
pub const KINDS: [&str; 12] = [
    "start",
    "lost",
    "change",
    "refused",
    "witness",
    "join-refused",
    "member",
    "config",
    "alarm",
    "trimmed",
    "dropped",
    "left-out",
];

impl AuditBody {
    pub(super) fn encode(&self) -> Vec<u8> {
        let bounded = Self {
            caller: self.caller,
            act: self.act.clone().bounded(),
        };
        postcard::to_stdvec(&bounded).unwrap_or_default()
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        match postcard::take_from_bytes(bytes) {
            Ok((body, [])) => Some(body),
            _ => None,
        }
    }
}

impl Act {
    /// The place of its kind in [`KINDS`].
    pub const fn kind(&self) -> u8 {
        match self {
            Self::Started { .. } => 0,
            Self::Lost { .. } => 1,
            Self::HandedIn { .. } => 2,
            Self::Refused { .. } => 3,
            Self::Witnessed { .. } => 4,
            Self::JoinRefused { .. } => 5,
            Self::MemberChanged { .. } => 6,
            Self::Configured { .. } => 7,
            Self::Alarm(_) => 8,
            Self::Trimmed { .. } => 9,
            Self::Dropped { .. } => 10,
            Self::LeftOut { .. } => 11,
        }
    }

    /// Its kind as people name it.
    pub fn kind_word(&self) -> &'static str {
        KINDS[usize::from(self.kind())]
    }

    /// Statements of one author that were handed in together.
    pub fn handed_in(author: AuthorId, statements: &[(StatementId, Kind)]) -> Self {
        let mut ids: Vec<StatementId> = statements.iter().map(|(id, _)| *id).collect();
        if let (true, Some(last)) = (ids.len() > IDS_MAX, ids.last().copied()) {
            ids.truncate(IDS_MAX - 1);
            ids.push(last);
        }
        let mut kinds: Vec<u8> = statements.iter().map(|(_, kind)| kind.0).collect();
        kinds.sort_unstable();
        kinds.dedup();
        Self::HandedIn {
            author,
            ids,
            kinds,
            count: statements.len() as u32,
        }
    }

    fn bounded(mut self) -> Self {
        match &mut self {
            Self::Started { version, .. } => cut(version, VERSION_BYTES_MAX),
            Self::HandedIn { ids, kinds, .. } => {
                ids.truncate(IDS_MAX);
                kinds.truncate(STATEMENT_KINDS_MAX);
            }
            Self::Refused { code, why, .. } => {
                cut(code, CODE_BYTES_MAX);
                cut(why, WHY_BYTES_MAX);
            }
            Self::JoinRefused { why, .. } => cut(why, WHY_BYTES_MAX),
            Self::MemberChanged { name, .. } => cut(name, NAME_BYTES_MAX),
            Self::Configured { files, .. } => {
                files.truncate(FILES_MAX);
                for file in files {
                    cut(file, FILE_BYTES_MAX);
                }
            }
            Self::Lost { .. }
            | Self::Witnessed { .. }
            | Self::Alarm(_)
            | Self::Trimmed { .. }
            | Self::Dropped { .. }
            | Self::LeftOut { .. } => {}
        }
        self
    }
}

fn cut(text: &mut String, bytes_max: usize) {
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max - '…'.len_utf8()));
        text.push('…');
    }
}
