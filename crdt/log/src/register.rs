//! What nodes report: signed registers, of which only the newest of each section is kept.
//!
//! ```text
//! 0 ver = 1 | 1 section | 2 node 32 | 34 incarnation u64be | 42 seq u64be | body_len u32be | body | signature 64
//! ```
//!
//! The signature covers `"lab/reg/1\0" ‖ mesh id ‖ everything before it`. Newer is the larger (seq, hash); a node
//! counts its own `seq` up and never reuses one, over restarts as well.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use lab_crdt_model::report::Section;
use lab_crdt_model::{MeshId, NodeId, mutant, reached};

use crate::memo::{Memo, step_key};
use crate::prints::Prints;

const CONTEXT: &[u8] = b"lab/reg/1\0";
const HEADER_BYTES: usize = 54;
/// About what one change copies of the tree.
const COPIED_BYTES: usize = 1_500;

/// Which register.
pub type RegisterKey = (NodeId, Section);

/// Which register these bytes are, if they are one at all. Nothing is checked.
pub fn register_of(bytes: &[u8]) -> Option<RegisterKey> {
    let section = Section::from_wire(*bytes.get(1)?)?;
    let node = bytes.get(2..34)?.first_chunk()?;
    Some((NodeId(*node), section))
}

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

    /// The body of a register that nobody has verified; `None` of bytes that are none.
    pub fn body_of(bytes: &Bytes) -> Option<Bytes> {
        Self::parse(bytes).ok().map(|register| register.body)
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

/// The newest register of each section of one node.
#[derive(Debug, Clone, Default)]
struct Sections([Option<Arc<Register>>; Section::ALL.len()]);

impl Sections {
    const fn place(section: Section) -> usize {
        section as usize - 1
    }

    fn get(&self, section: Section) -> Option<&Arc<Register>> {
        self.0[Self::place(section)].as_ref()
    }

    fn with(mut self, register: Arc<Register>) -> Self {
        let place = Self::place(register.section);
        self.0[place] = Some(register);
        self
    }

    fn print(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        for register in self.0.iter().flatten() {
            hasher.update(&[register.section as u8]);
            hasher.update(&register.hash);
        }
        *hasher.finalize().as_bytes()
    }
}

/// The newest registers of every node.
///
/// Clones share what is equal in them. With a [`Memo`], so do all of one process that hold the same registers, however
/// they came by them.
#[derive(Debug, Clone, Default)]
pub struct Registers {
    newest: Prints<Sections>,
    /// Of which nothing newer is to be asked for now.
    muted: BTreeSet<RegisterKey>,
    memo: Memo,
}

impl Registers {
    /// None, to be shared with others of this memo.
    pub fn with_memo(memo: Memo) -> Self {
        Self {
            newest: Prints::default(),
            muted: BTreeSet::new(),
            memo,
        }
    }

    /// The same registers, to be shared with others of a memo from here on.
    #[must_use]
    pub fn with_memo_of(&self, memo: Memo) -> Self {
        Self {
            newest: self.newest.clone(),
            muted: self.muted.clone(),
            memo,
        }
    }

    /// Takes in a register if it is newer than what is here; returns it then.
    ///
    /// `is_member` says whether its node may report.
    pub fn ingest(
        &mut self,
        mesh: &MeshId,
        bytes: &Bytes,
        is_member: impl FnOnce(&NodeId) -> bool,
    ) -> Result<Option<Arc<Register>>, RegisterError> {
        let shape = Register::parse(bytes)?;
        if !self.is_newer(&shape) {
            return Ok(None);
        }
        if !is_member(&shape.node) {
            reached!("a report arrived of who is no member");
            return Err(RegisterError::NotAMember);
        }
        let register = self.opened(mesh, bytes, &shape)?;
        self.insert(Arc::clone(&register));
        Ok(Some(register))
    }

    /// Takes in a register that this replica had stored before; the signature is not checked again.
    pub fn restore(&mut self, bytes: &Bytes) -> Result<(), RegisterError> {
        let register = Register::parse(bytes)?;
        if self.is_newer(&register) {
            self.insert(Arc::new(register));
        }
        Ok(())
    }

    /// Of these nothing newer is to be asked for in exchanges, until this is called again.
    pub fn mute(&mut self, muted: BTreeSet<RegisterKey>) {
        self.muted = muted;
    }

    pub(crate) fn is_muted(&self, node: &NodeId, section: Section) -> bool {
        !self.muted.is_empty() && self.muted.contains(&(*node, section))
    }

    /// The register of these bytes if its node has signed it; of equal ones, the same for everyone.
    fn opened(
        &self,
        mesh: &MeshId,
        bytes: &Bytes,
        shape: &Register,
    ) -> Result<Arc<Register>, RegisterError> {
        if !self.memo.is_on() {
            return Register::open(mesh, bytes).map(Arc::new);
        }
        let key = step_key("register", &[&mesh.0, &shape.hash]);
        if let Some(known) = self.memo.get::<Register>(&key) {
            if self.memo.is_check_due() {
                assert_eq!(
                    Register::open(mesh, bytes).as_ref(),
                    Ok(&*known),
                    "a remembered register differs"
                );
            }
            return Ok(known);
        }
        // What is kept must not hold on to the whole frame that it came in.
        let register = Arc::new(Register::open(mesh, &Bytes::copy_from_slice(bytes))?);
        self.memo
            .put(key, &register, size_of::<Register>() + bytes.len());
        Ok(register)
    }

    fn is_newer(&self, register: &Register) -> bool {
        self.get(&register.node, register.section)
            .is_none_or(|standing| {
                let is_other = standing.hash != register.hash;
                standing.rank() < register.rank() || (mutant!("M27") && is_other)
            })
    }

    fn insert(&mut self, register: Arc<Register>) {
        let node = register.node;
        let sections = self.newest.get(&node.0).cloned().unwrap_or_default();
        let sections = sections.with(register);
        let print = sections.print();
        if !self.memo.is_on() {
            return self.newest.put(&node.0, &print, sections);
        }
        let key = step_key("registers", &[&self.newest.digest_with(&node.0, &print)]);
        let next = self.memo.step(
            || key,
            || {
                let mut next = self.newest.clone();
                next.put(&node.0, &print, sections);
                next
            },
            |_| COPIED_BYTES,
            |a, b| a.digest() == b.digest() && a.len() == b.len(),
        );
        self.newest = Prints::clone(&next);
    }

    /// Forgets what nodes report that are no longer members; returns the keys that were here.
    pub fn retain(&mut self, mut is_member: impl FnMut(&NodeId) -> bool) -> Vec<RegisterKey> {
        let mut gone = Vec::new();
        for (key, sections) in self.newest.values() {
            let node = NodeId(*key);
            if !is_member(&node) {
                let of = sections.0.iter().flatten();
                gone.extend(of.map(|register| (node, register.section)));
            }
        }
        for (node, _) in &gone {
            self.newest.remove(&node.0);
        }
        gone
    }

    /// The newest register of a node's section.
    pub fn get(&self, node: &NodeId, section: Section) -> Option<&Arc<Register>> {
        self.newest.get(&node.0)?.get(section)
    }

    /// The registers of a node.
    pub fn of(&self, node: &NodeId) -> impl Iterator<Item = &Arc<Register>> {
        self.newest
            .get(&node.0)
            .into_iter()
            .flat_map(|sections| sections.0.iter().flatten())
    }

    /// The registers of each node that has reported, by node; the place of a node is its place here.
    pub fn each(&self) -> impl Iterator<Item = (NodeId, impl Iterator<Item = &Arc<Register>>)> {
        let all = self.newest.values();
        all.into_iter()
            .map(|(node, sections)| (NodeId(*node), sections.0.iter().flatten()))
    }

    /// Nodes that have reported, in order.
    pub fn nodes(&self) -> Vec<NodeId> {
        let all = self.newest.values();
        all.into_iter().map(|(node, _)| NodeId(*node)).collect()
    }

    /// How many nodes have reported.
    pub fn node_count(&self) -> usize {
        self.newest.len()
    }

    /// The place of a node among those that have reported, or that it would have.
    pub fn place(&self, node: &NodeId) -> usize {
        self.newest.rank(&node.0)
    }

    /// The digest of all registers.
    pub const fn digest(&self) -> [u8; 32] {
        self.newest.digest()
    }

    /// Whether both are one and the same in memory.
    pub fn is_shared_with(&self, other: &Self) -> bool {
        self.newest.is_shared_with(&other.newest)
    }

    pub(crate) fn count(&self, digits: usize, at: u16) -> u32 {
        self.newest.count(digits, at)
    }

    pub(crate) fn children(&self, digits: usize, at: u16) -> Vec<(u8, u64)> {
        self.newest.children(digits, at)
    }

    pub(crate) fn keys(&self, digits: usize, at: u16) -> Vec<[u8; 32]> {
        self.newest.keys(digits, at)
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
                registers.ingest(&mesh, &bytes, |_| true).unwrap();
            }
            let (_, node, _) = sealed(0, &[]);
            assert_eq!(registers.get(&node, Section::Status).unwrap().seq, 3);
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
            registers.ingest(&mesh, &bytes, |_| false).err(),
            Some(RegisterError::NotAMember)
        );
        assert_eq!(
            registers.ingest(&MeshId([9; 32]), &bytes, |_| true).err(),
            Some(RegisterError::Signature)
        );
        for at in 0..bytes.len() {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 4;
            assert!(
                registers.ingest(&mesh, &damaged.into(), |_| true).is_err(),
                "{at}"
            );
            assert!(
                registers
                    .ingest(&mesh, &bytes.slice(..at), |_| true)
                    .is_err(),
                "{at}"
            );
        }
        assert_eq!(registers.digest(), empty);
    }
}
