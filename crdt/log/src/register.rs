//! What nodes report: signed registers, of which only the newest of each section is kept.
//!
//! ```text
//! 0 ver = 1 | 1 section | 2 node 32 | 34 incarnation u64be | 42 seq u64be | body_len u32be | body | signature 64
//! ```
//!
//! The signature covers `"lab/reg/1\0" ‖ mesh id ‖ everything before it`. Newer is the larger (seq, hash); a node
//! counts its own `seq` up and never reuses one, over restarts as well.

use std::collections::BTreeMap;

use bytes::Bytes;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use lab_crdt_model::report::Section;
use lab_crdt_model::{MeshId, NodeId, Wall};

use crate::prints::Prints;

const CONTEXT: &[u8] = b"lab/reg/1\0";
const HEADER_BYTES: usize = 54;

/// Which register.
pub type RegisterKey = (NodeId, Section);

/// A verified register.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Register {
    /// Whose.
    pub node: NodeId,
    /// Which of its sections.
    pub section: Section,
    /// The node's incarnation when it wrote this.
    pub incarnation: u64,
    /// Larger is newer.
    pub seq: u64,
    /// postcard of the section's body.
    pub body: Bytes,
    /// The whole.
    pub bytes: Bytes,
    hash: [u8; 32],
}

/// Why bytes were not taken as a register. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegisterError {
    /// Cut off, too long for its section, of an unknown format or section.
    #[error("the register is malformed")]
    Malformed,
    /// Not signed by its node for this mesh.
    #[error("the signature does not fit node, content and mesh")]
    Signature,
    /// The node is not a member.
    #[error("its node is not a member")]
    NotAMember,
}

/// Signs a register.
pub fn seal_register(
    mesh: &MeshId,
    key: &SigningKey,
    section: Section,
    incarnation: u64,
    seq: u64,
    body: &[u8],
) -> Bytes {
    let mut out = Vec::with_capacity(HEADER_BYTES + body.len() + 64);
    out.extend_from_slice(&[1, section as u8]);
    out.extend_from_slice(key.verifying_key().as_bytes());
    out.extend_from_slice(&incarnation.to_be_bytes());
    out.extend_from_slice(&seq.to_be_bytes());
    out.extend_from_slice(&(body.len() as u32).to_be_bytes());
    out.extend_from_slice(body);
    let signature = key.sign(&[CONTEXT, &mesh.0, &out].concat());
    out.extend_from_slice(&signature.to_bytes());
    out.into()
}

impl Register {
    /// Verifies and reads one.
    pub fn open(mesh: &MeshId, bytes: &Bytes) -> Result<Self, RegisterError> {
        let register = Self::parse(bytes)?;
        let signed = &bytes[..bytes.len() - 64];
        let signature = bytes[bytes.len() - 64..]
            .first_chunk()
            .ok_or(RegisterError::Malformed)?;
        let key = VerifyingKey::from_bytes(&register.node.0)
            .map_err(|_cause| RegisterError::Signature)?;
        key.verify_strict(
            &[CONTEXT, &mesh.0, signed].concat(),
            &Signature::from_bytes(signature),
        )
        .map_err(|_cause| RegisterError::Signature)?;
        Ok(register)
    }

    fn parse(bytes: &Bytes) -> Result<Self, RegisterError> {
        let fixed = bytes.get(..HEADER_BYTES).ok_or(RegisterError::Malformed)?;
        let section = Section::from_wire(fixed[1]).ok_or(RegisterError::Malformed)?;
        let length = u32::from_be_bytes([fixed[50], fixed[51], fixed[52], fixed[53]]) as usize;
        if fixed[0] != 1
            || length > section.bytes_max()
            || bytes.len() != HEADER_BYTES + length + 64
        {
            return Err(RegisterError::Malformed);
        }
        let u64_at = |at: usize| u64::from_be_bytes(std::array::from_fn(|i| fixed[at + i]));
        Ok(Self {
            node: NodeId(std::array::from_fn(|i| fixed[2 + i])),
            section,
            incarnation: u64_at(34),
            seq: u64_at(42),
            body: bytes.slice(HEADER_BYTES..HEADER_BYTES + length),
            bytes: bytes.clone(),
            hash: *blake3::hash(bytes).as_bytes(),
        })
    }

    pub(crate) const fn hash(&self) -> &[u8; 32] {
        &self.hash
    }

    fn rank(&self) -> (u64, [u8; 32]) {
        (self.seq, self.hash)
    }
}

/// The newest registers of every node.
#[derive(Debug, Default)]
pub struct Registers {
    newest: BTreeMap<RegisterKey, (Register, Wall)>,
    prints: Prints,
}

impl Registers {
    /// Takes in a register if it is newer than what is here; returns it then.
    ///
    /// `is_member` says whether its node may report. `at` is this node's clock, for showing ages.
    pub fn ingest(
        &mut self,
        mesh: &MeshId,
        bytes: &Bytes,
        at: Wall,
        is_member: impl FnOnce(&NodeId) -> bool,
    ) -> Result<Option<&Register>, RegisterError> {
        let shape = Register::parse(bytes)?;
        if !self.is_newer(&shape) {
            return Ok(None);
        }
        if !is_member(&shape.node) {
            return Err(RegisterError::NotAMember);
        }
        let register = Register::open(mesh, bytes)?;
        Ok(Some(self.insert(register, at)))
    }

    /// Takes in a register that this replica had stored before; the signature is not checked again.
    pub fn restore(&mut self, bytes: &Bytes, at: Wall) -> Result<(), RegisterError> {
        let register = Register::parse(bytes)?;
        if self.is_newer(&register) {
            self.insert(register, at);
        }
        Ok(())
    }

    fn is_newer(&self, register: &Register) -> bool {
        self.newest
            .get(&(register.node, register.section))
            .is_none_or(|(standing, _)| standing.rank() < register.rank())
    }

    fn insert(&mut self, register: Register, at: Wall) -> &Register {
        let (node, section) = (register.node, register.section);
        self.newest.insert((node, section), (register, at));
        let print = self.print(&node);
        self.prints.set(&node.0, print);
        &self.newest[&(node, section)].0
    }

    fn print(&self, node: &NodeId) -> Option<[u8; 32]> {
        let mut hasher = blake3::Hasher::new();
        let mut is_empty = true;
        for (register, _) in self.of(node) {
            hasher.update(&[register.section as u8]);
            hasher.update(&register.hash);
            is_empty = false;
        }
        (!is_empty).then(|| *hasher.finalize().as_bytes())
    }

    /// Forgets what nodes report that are no longer members; returns the keys that were here.
    pub fn retain(&mut self, mut is_member: impl FnMut(&NodeId) -> bool) -> Vec<RegisterKey> {
        let gone: Vec<_> = self
            .newest
            .keys()
            .filter(|(node, _)| !is_member(node))
            .copied()
            .collect();
        for key in &gone {
            self.newest.remove(key);
            self.prints.set(&key.0.0, None);
        }
        gone
    }

    /// The newest register of a node's section, with when it was taken in.
    pub fn get(&self, node: &NodeId, section: Section) -> Option<(&Register, Wall)> {
        self.newest.get(&(*node, section)).map(|(r, at)| (r, *at))
    }

    /// The registers of a node.
    pub fn of(&self, node: &NodeId) -> impl Iterator<Item = &(Register, Wall)> {
        let (from, to) = ((*node, Section::Beacon), (*node, Section::Status));
        self.newest.range(from..=to).map(|(_, value)| value)
    }

    /// Nodes that have reported.
    pub fn nodes(&self) -> Vec<NodeId> {
        let mut nodes: Vec<_> = self.newest.keys().map(|(node, _)| *node).collect();
        nodes.dedup();
        nodes
    }

    /// The digest of all registers.
    pub fn digest(&self) -> [u8; 32] {
        self.prints.digest()
    }

    pub(crate) const fn prints(&self) -> &Prints {
        &self.prints
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(seq: u64, body: &[u8]) -> (MeshId, NodeId, Bytes) {
        let (mesh, key) = (MeshId([1; 32]), SigningKey::from_bytes(&[2; 32]));
        let bytes = seal_register(&mesh, &key, Section::Status, 7, seq, body);
        (mesh, NodeId(key.verifying_key().to_bytes()), bytes)
    }

    #[test]
    fn only_the_newest_register_is_kept_in_any_order() {
        let mut digests = Vec::new();
        for order in [[1, 2, 3], [3, 1, 2], [2, 3, 1]] {
            let mut registers = Registers::default();
            for seq in order {
                let (mesh, _, bytes) = sealed(seq, &[seq as u8]);
                registers.ingest(&mesh, &bytes, Wall(0), |_| true).unwrap();
            }
            let (_, node, _) = sealed(0, &[]);
            assert_eq!(registers.get(&node, Section::Status).unwrap().0.seq, 3);
            digests.push(registers.digest());
        }
        assert!(digests.windows(2).all(|w| w[0] == w[1]));
    }

    #[test]
    fn strangers_and_damage_change_nothing() {
        let mut registers = Registers::default();
        let (mesh, _, bytes) = sealed(1, b"body");
        let empty = registers.digest();
        assert_eq!(
            registers.ingest(&mesh, &bytes, Wall(0), |_| false).err(),
            Some(RegisterError::NotAMember)
        );
        assert_eq!(
            registers
                .ingest(&MeshId([9; 32]), &bytes, Wall(0), |_| true)
                .err(),
            Some(RegisterError::Signature)
        );
        for at in 0..bytes.len() {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 4;
            assert!(
                registers
                    .ingest(&mesh, &damaged.into(), Wall(0), |_| true)
                    .is_err(),
                "{at}"
            );
            assert!(
                registers
                    .ingest(&mesh, &bytes.slice(..at), Wall(0), |_| true)
                    .is_err(),
                "{at}"
            );
        }
        assert_eq!(registers.digest(), empty);
    }
}
