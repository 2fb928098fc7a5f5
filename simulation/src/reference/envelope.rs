//! A second reader of statements, written from the description of the format.
//!
//! ```text
//!   0 ver = 1 | 1 kind | 2 author 32 | 34 seq u64be | 42 prev 32 | 74 under 32 | 106 hlc u64be
//! 114 nrefs ≤ 16 | refs 32·n | body_len u32be | body (postcard) | signature 64
//! ```

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use ed25519_dalek::{Signature, VerifyingKey};
use lab_crdt_log::{Body, Kind};
use lab_crdt_model::{AuthorId, Hlc, MeshId, StatementId};

use super::known::Known;

/// Signatures remembered at most.
const VERIFIED_MAX: usize = 100_000;
/// Envelopes remembered at most.
const READ_MAX: usize = 20_000;

thread_local! {
    /// What was found out before: references look at the same bytes again and again, and a check is slow.
    static VERIFIED: RefCell<BTreeMap<[u8; 32], bool>> = const { RefCell::new(BTreeMap::new()) };
    static READ: RefCell<BTreeMap<Bytes, Option<Rc<Said>>>> = const { RefCell::new(BTreeMap::new()) };
    static READ_HERE: RefCell<Known<Option<Rc<Said>>>> = const { RefCell::new(Known::new()) };
    static IDS: RefCell<Known<Option<StatementId>>> = const { RefCell::new(Known::new()) };
}

/// The highest kind that this version gives a meaning to.
pub const KIND_KNOWN_MAX: u8 = 16;

/// A statement as it was said.
#[derive(Clone, PartialEq, Debug)]
pub struct Said {
    /// The hash of everything but the signature.
    pub id: StatementId,
    /// The number of its kind.
    pub kind: u8,
    /// Who.
    pub author: AuthorId,
    /// Position in the author's chain, from 0.
    pub seq: u64,
    /// The statement before.
    pub prev: StatementId,
    /// What it relies on.
    pub under: StatementId,
    /// The author's stamp.
    pub hlc: Hlc,
    /// What else the author had seen.
    pub refs: Vec<StatementId>,
    /// What is said.
    pub body: Body,
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    fn byte(&mut self) -> Option<u8> {
        Some(self.take(1)?[0])
    }

    fn hash(&mut self) -> Option<[u8; 32]> {
        self.take(32)?.try_into().ok()
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_be_bytes(self.take(8)?.try_into().ok()?))
    }
}

/// The id of an envelope, whatever its bytes say.
pub fn id_of(bytes: &[u8]) -> Option<StatementId> {
    let signed = bytes.len().checked_sub(64)?;
    Some(StatementId(*blake3::hash(&bytes[..signed]).as_bytes()))
}

/// The same as [`id_of`], for bytes that are looked at again and again.
pub fn id_shared(bytes: &Bytes) -> Option<StatementId> {
    if let Some(known) = IDS.with_borrow(|known| known.get(bytes).copied()) {
        return known;
    }
    let id = id_of(bytes);
    IDS.with_borrow_mut(|known| known.put(bytes, id));
    id
}

/// The same as [`read`], for bytes that are read again and again: on every node, at every look.
pub fn read_shared(bytes: &Bytes) -> Option<Rc<Said>> {
    if let Some(known) = READ_HERE.with_borrow(|known| known.get(bytes).cloned()) {
        return known;
    }
    let said = read_equal(bytes);
    READ_HERE.with_borrow_mut(|known| known.put(bytes, said.clone()));
    said
}

/// Many replicas hold equal bytes.
fn read_equal(bytes: &Bytes) -> Option<Rc<Said>> {
    if let Some(known) = READ.with_borrow(|known| known.get(bytes).cloned()) {
        return known;
    }
    let said = read(bytes).map(Rc::new);
    READ.with_borrow_mut(|known| {
        if known.len() >= READ_MAX {
            known.clear();
        }
        known.insert(bytes.clone(), said.clone());
    });
    said
}

/// Reads an envelope without looking at its signature; `None` when it is not one.
pub fn read(bytes: &[u8]) -> Option<Said> {
    let id = id_of(bytes)?;
    let mut at = Cursor(&bytes[..bytes.len() - 64]);
    if at.byte()? != 1 {
        return None;
    }
    let kind = at.byte()?;
    let longest = if kind == 1 { 64 * 1024 } else { 16 * 1024 };
    if bytes.len() > longest {
        return None;
    }
    let author = AuthorId(at.hash()?);
    let seq = at.u64()?;
    let prev = StatementId(at.hash()?);
    let under = StatementId(at.hash()?);
    let hlc = Hlc(at.u64()?);
    let count = at.byte()?;
    if count > 16 {
        return None;
    }
    let mut refs = Vec::new();
    for _ in 0..count {
        refs.push(StatementId(at.hash()?));
    }
    if refs.windows(2).any(|pair| pair[0] >= pair[1]) {
        return None;
    }
    let length = u32::from_be_bytes(at.take(4)?.try_into().ok()?);
    let body = at.take(usize::try_from(length).ok()?)?;
    if !at.0.is_empty() || (seq == 0) != (prev == StatementId::ZERO) {
        return None;
    }
    let body = Body::decode(Kind(kind), body)?;
    Some(Said {
        id,
        kind,
        author,
        seq,
        prev,
        under,
        hlc,
        refs,
        body,
    })
}

/// Whether the author of an envelope signed it for this mesh.
pub fn is_signed(mesh: &MeshId, bytes: &[u8]) -> bool {
    let Some((signed, signature)) = bytes.split_last_chunk::<64>() else {
        return false;
    };
    let Some(author) = signed.get(2..34).and_then(|a| a.first_chunk::<32>()) else {
        return false;
    };
    is_signature(
        author,
        &[b"lab/stmt/1\0", mesh.0.as_slice(), signed].concat(),
        signature,
    )
}

/// Reads an envelope if its author signed it for this mesh.
pub fn open(mesh: &MeshId, bytes: &Bytes) -> Option<Said> {
    read(bytes).filter(|_| is_signed(mesh, bytes))
}

/// Whether a key signed a message.
pub(in crate::reference) fn is_signature(
    key: &[u8; 32],
    message: &[u8],
    signature: &[u8; 64],
) -> bool {
    let mut hasher = blake3::Hasher::new();
    hasher.update(key).update(signature).update(message);
    let name = *hasher.finalize().as_bytes();
    if let Some(known) = VERIFIED.with_borrow(|known| known.get(&name).copied()) {
        return known;
    }
    let is_good = VerifyingKey::from_bytes(key).is_ok_and(|key| {
        key.verify_strict(message, &Signature::from_bytes(signature))
            .is_ok()
    });
    VERIFIED.with_borrow_mut(|known| {
        if known.len() >= VERIFIED_MAX {
            known.clear();
        }
        known.insert(name, is_good);
    });
    is_good
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;
    use lab_crdt_log::{CoSign, Draft, seal};

    use super::*;

    fn sealed() -> (MeshId, Bytes) {
        let mesh = MeshId([3; 32]);
        let draft = Draft {
            seq: 2,
            prev: StatementId([1; 32]),
            under: StatementId(mesh.0),
            hlc: Hlc(9),
            refs: vec![StatementId([8; 32]), StatementId([5; 32])],
            body: Body::CoSign(CoSign {
                proposal: StatementId([4; 32]),
            }),
        };
        let bytes = seal(&mesh, &SigningKey::from_bytes(&[7; 32]), &draft).unwrap();
        (mesh, bytes)
    }

    #[test]
    fn both_readers_read_the_same() {
        let (mesh, bytes) = sealed();
        let theirs = lab_crdt_log::open(&mesh, &bytes).unwrap();
        let ours = open(&mesh, &bytes).unwrap();
        assert_eq!(
            (ours.id, ours.author, ours.seq, ours.prev, ours.under),
            (
                theirs.id,
                theirs.author,
                theirs.seq,
                theirs.prev,
                theirs.under
            )
        );
        assert_eq!(
            (ours.hlc, ours.refs, ours.body),
            (theirs.hlc, theirs.refs, theirs.body)
        );
    }

    #[test]
    fn both_readers_refuse_every_damage() {
        let (mesh, bytes) = sealed();
        for at in 0..bytes.len() {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 0x10;
            assert_eq!(open(&mesh, &damaged.into()), None, "byte {at}");
            assert_eq!(open(&mesh, &bytes.slice(..at)), None, "cut at {at}");
        }
        assert_eq!(open(&MeshId([4; 32]), &bytes), None);
    }
}
