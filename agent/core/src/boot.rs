//! What an agent is started with.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use curve25519_dalek::MontgomeryPoint;
use ed25519_dalek::SigningKey;
use lab_crdt_log::Memo;
use lab_crdt_model::store::{Table, Tables};
use lab_crdt_model::token::Token;
use lab_crdt_model::{AuthorId, Hardware, NodeId};

/// Figures of the agent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Figures of the mesh protocol.
    pub mesh: lab_mesh_proto::Config,
    /// Version of the program, for people and reports.
    pub version: String,
    /// Time between two beacons in a mesh of up to twelve nodes, milliseconds; grows in proportion to larger meshes,
    /// so that beacons cost a node the same in a mesh of any size. At most a day.
    pub beacon_ms: u64,
    /// Time between two checks that the machine still is as wanted, milliseconds.
    pub converge_ms: u64,
    /// What agents of one process compute together; a daemon has none.
    pub memo: Memo,
}

impl Config {
    /// Machines in a few rooms.
    pub fn homelab(version: &str) -> Self {
        Self {
            mesh: lab_mesh_proto::Config::homelab(),
            version: version.to_owned(),
            beacon_ms: 30_000,
            converge_ms: 60_000,
            memo: Memo::none(),
        }
    }
}

/// The keys of a node. Prints nothing.
#[derive(Clone)]
pub struct NodeKeys {
    pub(crate) signing: SigningKey,
}

impl std::fmt::Debug for NodeKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NodeKeys({})", self.node().short())
    }
}

impl NodeKeys {
    /// The keys that follow from a node's secret.
    pub fn new(secret: &[u8; 32]) -> Self {
        Self {
            signing: SigningKey::from_bytes(secret),
        }
    }

    /// The node.
    pub fn node(&self) -> NodeId {
        NodeId(self.signing.verifying_key().to_bytes())
    }

    /// The X25519 key that secrets for this node are sealed to.
    pub fn seal_key(&self) -> [u8; 32] {
        let secret = blake3::derive_key("lab node seal key 1", self.signing.as_bytes());
        MontgomeryPoint::mul_base_clamped(secret).to_bytes()
    }
}

/// Where a start begins.
#[derive(Debug)]
pub enum Boot {
    /// From what the store holds. Records whose checksum failed are left out by the store.
    Stored {
        /// Every table but the quarantine.
        tables: Tables,
    },
    /// From what the store holds on top of an image that many stores were made from. As if every record of the image
    /// that has no newer one in `tables` were in the store; it is read once for all agents that have it.
    Imaged {
        /// Statements and registers, and whatever else all have.
        image: Arc<Tables>,
        /// What this store has beside it.
        tables: Tables,
    },
    /// With a token, into a mesh that is not known yet.
    Joining {
        /// The token.
        token: Token,
        /// Whom to ask, besides those that the token names.
        via: Vec<(NodeId, SocketAddr)>,
        /// A laptop's operator key.
        operator_key: Option<AuthorId>,
        /// What this machine is made of; told only with a token that asks who comes.
        hardware: Hardware,
    },
}

/// Why an agent cannot start. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The store has no root record: this machine was neither founded nor joined.
    #[error("this machine belongs to no mesh: `lab init` founds one, `lab join` joins one")]
    NoMesh,
    /// The stored root record is damaged.
    #[error("read the stored root record: {0}")]
    Root(#[from] lab_crdt_log::RootError),
}

pub(crate) const META_ROOT: &[u8] = b"root";
pub(crate) const META_SEQ: &[u8] = b"register-seq";
pub(crate) const META_SPONSORS: &[u8] = b"sponsors";
pub(crate) const META_TIME: &[u8] = b"time";
pub(crate) const META_FILES: &[u8] = b"files";
pub(crate) const META_APPLIED: &[u8] = b"applied";

impl Boot {
    /// The records that make a freshly founded machine: its root record and first statements.
    pub fn founding(root: &[u8], statements: &[Bytes]) -> lab_crdt_model::store::Batch {
        let mut batch = vec![crate::replica::put(Table::Meta, META_ROOT, root.to_vec())];
        for bytes in statements {
            let id = blake3::hash(&bytes[..bytes.len().saturating_sub(64)]);
            batch.push(crate::replica::put(
                Table::Statements,
                id.as_bytes(),
                bytes.to_vec(),
            ));
        }
        batch
    }
}
