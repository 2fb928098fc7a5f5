//! The bytes of a statement, version 1.
//!
//! ```text
//!   0 ver = 1 | 1 kind | 2 author 32 | 34 seq u64be | 42 prev 32 | 74 under 32 | 106 hlc u64be
//! 114 nrefs ≤ 16 | refs 32·n | body_len u32be | body (postcard) | signature 64
//! ```
//!
//! The signature covers `"lab/stmt/1\0" ‖ mesh id ‖ everything before it`; the mesh id is not carried, so a
//! statement replayed into another mesh does not verify. The id is BLAKE3-256 of everything before the
//! signature. `prev` links the author's chain (zero at seq 0), `under` names what the statement relies on: the
//! mesh id for admins and root, otherwise a grant or a join.

use bytes::Bytes;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use lab_crdt_model::limit::{AUTHORITY_BYTES_MAX, REFS_MAX, STATEMENT_BYTES_MAX};
use lab_crdt_model::{AuthorId, Hlc, MeshId, StatementId, mutant};

use crate::body::{Body, Kind};

const CONTEXT: &[u8] = b"lab/stmt/1\0";
const HEADER_BYTES: usize = 115;
const SIGNATURE_BYTES: usize = 64;

/// Why bytes are not a statement of this mesh. Nothing was stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Shorter than its own lengths say, or with bytes left over.
    #[error("the envelope is cut off or has bytes left over")]
    Length,
    /// Longer than the limit of its kind.
    #[error("the envelope has {bytes} bytes, at most {max} are allowed")]
    TooLong {
        /// What it has.
        bytes: usize,
        /// What its kind may have.
        max: usize,
    },
    /// A format this program does not know.
    #[error("envelope format {0} is unknown")]
    Version(u8),
    /// More than 16 references, or not in ascending order without repeats.
    #[error("the references are too many or not in order")]
    Refs,
    /// Not signed by its author for this mesh.
    #[error("the signature does not fit author, content and mesh")]
    Signature,
    /// The body does not decode, or not to its canonical form, or breaks a limit.
    #[error("the body is malformed")]
    Body,
    /// A vouch for nothing: who had heard nothing says nothing.
    #[error("the vouch names nothing that was heard")]
    EmptyVouch,
    /// The first statement of a chain with a predecessor, or a later one without.
    #[error("sequence number and predecessor contradict")]
    Chain,
}

/// What an author is about to sign.
#[derive(Debug, Clone)]
pub struct Draft {
    /// Position in the author's chain, from 0.
    pub seq: u64,
    /// The statement before; zero at position 0.
    pub prev: StatementId,
    /// What it relies on.
    pub under: StatementId,
    /// The author's stamp.
    pub hlc: Hlc,
    /// Newest edits of others that the author had seen; at most 16, in any order.
    pub refs: Vec<StatementId>,
    /// What is said.
    pub body: Body,
}

/// A verified statement.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    /// BLAKE3-256 of the bytes before the signature.
    pub id: StatementId,
    /// Who.
    pub author: AuthorId,
    /// Position in the author's chain, from 0.
    pub seq: u64,
    /// The statement before; zero at position 0.
    pub prev: StatementId,
    /// What it relies on.
    pub under: StatementId,
    /// The author's stamp.
    pub hlc: Hlc,
    /// Newest edits of others that the author had seen, ascending.
    pub refs: Vec<StatementId>,
    /// What is said.
    pub body: Body,
    /// The envelope.
    pub bytes: Bytes,
}

/// Signs a draft. References are sorted; those beyond the sixteenth are a mistake of the caller and refused.
pub fn seal(mesh: &MeshId, key: &SigningKey, draft: &Draft) -> Result<Bytes, EnvelopeError> {
    let body = draft.body.encode();
    let mut refs = draft.refs.clone();
    refs.sort_unstable();
    refs.dedup();
    if refs.len() > REFS_MAX {
        return Err(EnvelopeError::Refs);
    }
    let mut out =
        Vec::with_capacity(HEADER_BYTES + 32 * refs.len() + 4 + body.len() + SIGNATURE_BYTES);
    out.push(1);
    out.push(draft.body.kind().0);
    out.extend_from_slice(key.verifying_key().as_bytes());
    out.extend_from_slice(&draft.seq.to_be_bytes());
    out.extend_from_slice(&draft.prev.0);
    out.extend_from_slice(&draft.under.0);
    out.extend_from_slice(&draft.hlc.0.to_be_bytes());
    out.push(refs.len() as u8);
    for id in &refs {
        out.extend_from_slice(&id.0);
    }
    let length = u32::try_from(body.len()).map_err(|_cause| EnvelopeError::Body)?;
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&body);
    let signature = key.sign(&signed_bytes(mesh, &out));
    out.extend_from_slice(&signature.to_bytes());
    let bytes = Bytes::from(out);
    parse(&bytes)?;
    Ok(bytes)
}

/// Verifies and reads a statement. Lengths are checked first, then the signature, and only then the body.
pub fn open(mesh: &MeshId, bytes: &Bytes) -> Result<Statement, EnvelopeError> {
    let frame = Frame::of(bytes)?;
    if mutant!("M07") {
        return parse(bytes);
    }
    let author =
        VerifyingKey::from_bytes(frame.author).map_err(|_cause| EnvelopeError::Signature)?;
    let signature = Signature::from_bytes(frame.signature);
    author
        .verify_strict(&signed_bytes(mesh, frame.signed), &signature)
        .map_err(|_cause| EnvelopeError::Signature)?;
    parse(bytes)
}

/// Who signed these bytes, if they are a statement at all. Nothing is checked.
pub fn author_of(bytes: &[u8]) -> Option<AuthorId> {
    let key = bytes.get(2..34)?.first_chunk()?;
    Some(AuthorId(*key))
}

/// At which position of its author's chain these bytes stand, if they are a statement at all. Nothing is checked.
pub fn seq_of(bytes: &[u8]) -> Option<u64> {
    let seq = bytes.get(34..42)?.first_chunk()?;
    Some(u64::from_be_bytes(*seq))
}

/// Reads a statement whose signature was checked before it was stored here.
pub(crate) fn parse(bytes: &Bytes) -> Result<Statement, EnvelopeError> {
    parse_with(bytes, Body::decode)
}

/// The same for bytes that were parsed before.
pub(crate) fn parse_again(bytes: &Bytes) -> Result<Statement, EnvelopeError> {
    parse_with(bytes, Body::decode_again)
}

fn parse_with(
    bytes: &Bytes,
    decode: impl FnOnce(Kind, &[u8]) -> Option<Body>,
) -> Result<Statement, EnvelopeError> {
    let frame = Frame::of(bytes)?;
    let kind = Kind(frame.signed[1]);
    let body = decode(kind, frame.body).ok_or(EnvelopeError::Body)?;
    let seq = u64::from_be_bytes(array(&frame.signed[34..42]));
    let prev = StatementId(array(&frame.signed[42..74]));
    if (seq == 0) != (prev == StatementId::ZERO) {
        return Err(EnvelopeError::Chain);
    }
    if matches!(&body, Body::Vouch(vouch) if vouch.heads.is_empty()) {
        return Err(EnvelopeError::EmptyVouch);
    }
    Ok(Statement {
        id: StatementId(*blake3::hash(frame.signed).as_bytes()),
        author: AuthorId(*frame.author),
        seq,
        prev,
        under: StatementId(array(&frame.signed[74..106])),
        hlc: Hlc(u64::from_be_bytes(array(&frame.signed[106..114]))),
        refs: frame.refs,
        body,
        bytes: bytes.clone(),
    })
}

/// Whether a device may hand this in for its holder: what its own key says, and root records, which other keys sign.
///
/// Looks at the header alone; whether it is true is [`open`]'s to say.
pub fn is_carried_by(bytes: &[u8], key: &AuthorId) -> bool {
    match bytes {
        [1, kind, rest @ ..] => Kind(*kind) == Kind::ROOT || rest.first_chunk() == Some(&key.0),
        _ => false,
    }
}

struct Frame<'a> {
    signed: &'a [u8],
    author: &'a [u8; 32],
    refs: Vec<StatementId>,
    body: &'a [u8],
    signature: &'a [u8; 64],
}

impl<'a> Frame<'a> {
    fn of(bytes: &'a [u8]) -> Result<Self, EnvelopeError> {
        let &[version, kind, ..] = bytes else {
            return Err(EnvelopeError::Length);
        };
        if version != 1 {
            return Err(EnvelopeError::Version(version));
        }
        let max = if Kind(kind) == Kind::EDIT {
            STATEMENT_BYTES_MAX
        } else {
            AUTHORITY_BYTES_MAX
        };
        if bytes.len() > max {
            return Err(EnvelopeError::TooLong {
                bytes: bytes.len(),
                max,
            });
        }
        let (signed, signature) = bytes
            .split_last_chunk::<SIGNATURE_BYTES>()
            .ok_or(EnvelopeError::Length)?;
        let refs_at = signed.get(HEADER_BYTES..).ok_or(EnvelopeError::Length)?;
        let count = usize::from(signed[HEADER_BYTES - 1]);
        if count > REFS_MAX {
            return Err(EnvelopeError::Refs);
        }
        let (refs, rest) = refs_at
            .split_at_checked(count * 32)
            .ok_or(EnvelopeError::Length)?;
        let refs: Vec<_> = refs
            .chunks_exact(32)
            .map(|c| StatementId(array(c)))
            .collect();
        if !refs.is_sorted_by(|a, b| a < b) {
            return Err(EnvelopeError::Refs);
        }
        let (length, body) = rest.split_first_chunk::<4>().ok_or(EnvelopeError::Length)?;
        if u32::from_be_bytes(*length) as usize != body.len() {
            return Err(EnvelopeError::Length);
        }
        let author = signed[2..34].first_chunk().ok_or(EnvelopeError::Length)?;
        Ok(Self {
            signed,
            author,
            refs,
            body,
            signature,
        })
    }
}

fn signed_bytes(mesh: &MeshId, bytes: &[u8]) -> Vec<u8> {
    [CONTEXT, &mesh.0, bytes].concat()
}

fn array<const N: usize>(slice: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(slice);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::Edit;
    use lab_crdt_model::{Field, Op, Value};
    use proptest::prelude::*;

    fn sample() -> (MeshId, Bytes) {
        let mesh = MeshId([1; 32]);
        let key = SigningKey::from_bytes(&[7; 32]);
        let op = Op::Set {
            path: "label/nuc1/role=web".parse().unwrap(),
            field: Field::new(Value::Bool(true), "person:ana"),
        };
        let draft = Draft {
            seq: 0,
            prev: StatementId::ZERO,
            under: StatementId(mesh.0),
            hlc: Hlc(77),
            refs: vec![StatementId([9; 32]), StatementId([3; 32])],
            body: Body::Edit(Edit {
                message: "label add".into(),
                ops: vec![op],
            }),
        };
        (mesh, seal(&mesh, &key, &draft).unwrap())
    }

    #[test]
    fn a_statement_reads_back_with_sorted_references() {
        let (mesh, bytes) = sample();

        let statement = open(&mesh, &bytes).unwrap();

        assert_eq!(statement.refs, [StatementId([3; 32]), StatementId([9; 32])]);
        assert_eq!(statement.seq, 0);
        assert_eq!(statement.hlc, Hlc(77));
    }

    #[test]
    fn a_statement_of_another_mesh_does_not_verify() {
        let (_, bytes) = sample();
        assert_eq!(
            open(&MeshId([2; 32]), &bytes),
            Err(EnvelopeError::Signature)
        );
    }

    #[test]
    fn any_changed_or_missing_byte_is_refused() {
        let (mesh, bytes) = sample();
        for at in 0..bytes.len() {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 1;
            assert!(open(&mesh, &damaged.into()).is_err(), "byte {at}");
            assert!(open(&mesh, &bytes.slice(..at)).is_err(), "cut at {at}");
        }
        let longer: Bytes = [&bytes[..], &[0]].concat().into();
        assert!(open(&mesh, &longer).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..600), fix in any::<bool>()) {
            if fix && bytes.len() > 2 {
                bytes[0] = 1;
                bytes[1] %= 16;
            }
            let bytes = Bytes::from(bytes);
            let _ignored = open(&MeshId([1; 32]), &bytes);
            let _ignored = parse(&bytes);
        }
    }
}
