//! Frames and envelopes made by hand: what the product's own encoders refuse to write, or keep to themselves.

use bytes::Bytes;
use ed25519_dalek::{Signer, SigningKey};
use lab_crdt_model::report::Section;
use lab_crdt_model::{AuthorId, Hlc, MeshId, NodeId, StatementId};
use serde::Serialize;

/// Frames of mesh links, by number.
pub const PING: u8 = 2;
/// Answers a ping.
pub const PONG: u8 = 3;
/// Of the overlay.
pub const OVERLAY: u8 = 5;
/// Of a pull.
pub const SYNC: u8 = 6;

/// Digests of both planes.
pub type Both = ([u8; 32], [u8; 32]);

fn frame<T: Serialize>(kind: u8, body: &T) -> Bytes {
    let head = vec![1, kind];
    let bytes = postcard::to_extend(body, head).expect("plain values can be written");
    bytes.into()
}

/// A frame of any version and kind.
pub fn raw(version: u8, kind: u8, body: &[u8]) -> Bytes {
    [&[version, kind], body].concat().into()
}

/// "My digests changed."
pub fn announce(digests: &Both, is_pull: bool) -> Bytes {
    frame(4, &(digests, is_pull))
}

/// A pushed content under its own id.
fn push(content: &[u8]) -> Bytes {
    push_as(blake3::hash(content).as_bytes(), content)
}

/// A pushed content under any id.
pub fn push_as(id: &[u8; 32], content: &[u8]) -> Bytes {
    frame(OVERLAY, &(1u8, 0u8, id, content, 0u8, 0u16))
}

/// "I have these."
pub fn i_have(ids: &[([u8; 32], u16)]) -> Bytes {
    frame(OVERLAY, &(1u8, 3u8, ids))
}

fn payload(tag: u8, bytes: &[u8]) -> Bytes {
    let tagged = [&[tag], bytes].concat();
    let content = postcard::to_stdvec(&(0u8, tagged)).expect("plain values can be written");
    push(&content)
}

/// A pushed statement.
pub fn push_statement(envelope: &[u8]) -> Bytes {
    payload(1, envelope)
}

/// A pushed report.
pub fn push_register(register: &[u8]) -> Bytes {
    payload(2, register)
}

/// "`by` no longer hears `node`", or "nobody refuted it".
pub fn accuse(is_verdict: bool, node: NodeId, counter: u64, by: NodeId, seq: u64) -> Bytes {
    let kind = 1 + u8::from(is_verdict);
    let content = postcard::to_stdvec(&(kind, node, counter, by, seq));
    push(&content.expect("plain values can be written"))
}

/// Statements as a pull brings them, asked for or not; with `more`, their receiver is to say what it has.
pub fn statements(entries: &[Bytes], more: bool) -> Bytes {
    let more = more.then_some((0u8, 0u16));
    frame(SYNC, &(3u8, entries, more))
}

/// Reports as a pull brings them.
pub fn registers(entries: &[Bytes]) -> Bytes {
    frame(SYNC, &(4u8, entries))
}

/// "Send me these statements."
pub fn want(ids: &[StatementId]) -> Bytes {
    frame(SYNC, &(5u8, ids))
}

/// "Of these authors I have nothing else", in a list that asks for the other side's.
pub fn authors(of: &[(AuthorId, Vec<(u64, StatementId)>)]) -> Bytes {
    frame(SYNC, &(1u8, (0u8, 0u16), of, true))
}

/// The prints of sixteen children of the root.
pub fn nodes(prints: u64) -> Bytes {
    let children: Vec<(u8, u64)> = (0..16)
        .map(|d| (d, prints.wrapping_add(u64::from(d))))
        .collect();
    frame(SYNC, &(0u8, 0u8, (0u8, 0u16), children))
}

/// Where the digests of both planes stand in a frame, if it tells any.
pub fn digests_at(frame: &[u8]) -> Option<usize> {
    let number_ends = || {
        frame
            .get(2..)?
            .iter()
            .position(|b| b & 0x80 == 0)
            .map(|n| n + 3)
    };
    let at = match *frame.get(1)? {
        1 => number_ends()?,
        PING | PONG => {
            let option = number_ends()?;
            (*frame.get(option)? == 1).then_some(option + 1)?
        }
        4 => 2,
        _ => return None,
    };
    (frame.len() >= at + 64).then_some(at)
}

/// Whether a frame carries a whole pushed content.
pub fn is_payload(frame: &[u8]) -> bool {
    frame.get(1..4) == Some(&[OVERLAY, 1, 0])
}

/// What the header of a statement says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    /// Number of the kind.
    pub kind: u8,
    /// Position in the chain.
    pub seq: u64,
    /// The statement before.
    pub prev: StatementId,
    /// What it relies on.
    pub under: StatementId,
    /// The stamp.
    pub hlc: Hlc,
    /// References, as they are: in any order, of any number below 256.
    pub refs: Vec<StatementId>,
}

/// Signs any body, within limits or not.
pub fn sign(mesh: &MeshId, key: &SigningKey, header: &Header, body: &[u8]) -> Bytes {
    let mut out = vec![1, header.kind];
    out.extend_from_slice(key.verifying_key().as_bytes());
    out.extend_from_slice(&header.seq.to_be_bytes());
    out.extend_from_slice(&header.prev.0);
    out.extend_from_slice(&header.under.0);
    out.extend_from_slice(&header.hlc.0.to_be_bytes());
    out.push(header.refs.len() as u8);
    for id in &header.refs {
        out.extend_from_slice(&id.0);
    }
    out.extend_from_slice(&(body.len() as u32).to_be_bytes());
    out.extend_from_slice(body);
    let signature = key.sign(&[b"lab/stmt/1\0", &mesh.0[..], &out].concat());
    out.extend_from_slice(&signature.to_bytes());
    out.into()
}

/// Signs a report of any section, within limits or not.
pub fn sign_register(mesh: &MeshId, key: &SigningKey, section: u8, seq: u64, body: &[u8]) -> Bytes {
    let mut out = vec![1, section];
    out.extend_from_slice(key.verifying_key().as_bytes());
    out.extend_from_slice(&1u64.to_be_bytes());
    out.extend_from_slice(&seq.to_be_bytes());
    out.extend_from_slice(&(body.len() as u32).to_be_bytes());
    out.extend_from_slice(body);
    let signature = key.sign(&[b"lab/reg/1\0", &mesh.0[..], &out].concat());
    out.extend_from_slice(&signature.to_bytes());
    out.into()
}

/// The id of an envelope.
pub fn id_of(envelope: &[u8]) -> StatementId {
    let end = envelope.len().saturating_sub(64);
    StatementId(*blake3::hash(&envelope[..end]).as_bytes())
}

/// The number of the newest report of a section among these.
pub fn newest_seq(reports: &[Bytes], node: &NodeId, section: Section) -> u64 {
    let of = reports
        .iter()
        .filter(|r| r.get(1) == Some(&(section as u8)) && r.get(2..34) == Some(&node.0[..]));
    let seq = |r: &Bytes| r.get(42..50)?.first_chunk().map(|b| u64::from_be_bytes(*b));
    of.filter_map(seq).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use lab_crdt_log::{Body, Kind, Register, open};

    use super::*;

    fn golden(name: &str) -> String {
        let all = include_str!("../../../mesh/proto/tests/fixtures/message/v1.txt");
        let line = all
            .lines()
            .find_map(|l| l.strip_prefix(&format!("{name} ")));
        line.expect("a sample").to_owned()
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    #[test]
    fn frames_made_by_hand_are_those_that_nodes_write() {
        let digests = ([1; 32], [2; 32]);
        assert_eq!(hex(&announce(&digests, true)), golden("announce"));
        assert_eq!(hex(&i_have(&[([8; 32], 2)])), golden("ihave"));
        let accusation = accuse(false, NodeId([5; 32]), 6, NodeId([7; 32]), 8);
        let content = &golden("gossip")[72..];
        let content = &content[..content.len() - 4];
        assert!(hex(&accusation).contains(content));
    }

    #[test]
    fn the_digests_of_every_frame_that_tells_them_are_found() {
        for name in ["hello", "ping", "announce"] {
            let text = golden(name);
            let frame: Vec<u8> = (0..text.len() / 2)
                .map(|n| u8::from_str_radix(&text[2 * n..2 * n + 2], 16).unwrap())
                .collect();
            let at = digests_at(&frame).expect(name);
            assert_eq!(frame[at..at + 64], [[1; 32], [2; 32]].concat(), "{name}");
        }
        assert_eq!(digests_at(&raw(1, PONG, &[5, 0])), None);
    }

    #[test]
    fn envelopes_made_by_hand_open() {
        let (mesh, key) = (MeshId([3; 32]), SigningKey::from_bytes(&[4; 32]));
        let header = Header {
            kind: 77,
            seq: 0,
            prev: StatementId::ZERO,
            under: StatementId(mesh.0),
            hlc: Hlc(9),
            refs: vec![],
        };
        let bytes = sign(&mesh, &key, &header, &[1, 2, 3]);
        let statement = open(&mesh, &bytes).unwrap();
        assert_eq!(statement.body, Body::Unknown(Kind(77), vec![1, 2, 3]));
        assert_eq!(statement.id, id_of(&bytes));
        let report = sign_register(&mesh, &key, Section::Facts as u8, 6, &[7]);
        assert_eq!(Register::open(&mesh, &report).unwrap().seq, 6);
        let node = NodeId(key.verifying_key().to_bytes());
        assert_eq!(newest_seq(&[report], &node, Section::Facts), 6);
    }
}
