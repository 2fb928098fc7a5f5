//! Which reports a replica should show: of each node and section the one with the largest (number, hash).
//!
//! ```text
//! 0 ver = 1 | 1 section | 2 node 32 | 34 incarnation u64be | 42 seq u64be | body_len u32be | body | signature 64
//! ```

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use lab_crdt_model::report::Section;
use lab_crdt_model::{MeshId, NodeId};

use super::envelope::is_signature;
use super::known::Known;

thread_local! {
    static READ: RefCell<Known<Option<Rc<Report>>>> = const { RefCell::new(Known::new()) };
    static OPENED: RefCell<Known<(MeshId, Option<Rc<Report>>)>> = const { RefCell::new(Known::new()) };
}

/// A report as it was sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// Whose.
    pub node: NodeId,
    /// Which section.
    pub section: Section,
    /// Its incarnation when it wrote this.
    pub incarnation: u64,
    /// Larger is newer.
    pub seq: u64,
    /// Of the whole.
    pub hash: [u8; 32],
}

/// Reads a report if its node signed it for this mesh.
pub fn open(mesh: &MeshId, bytes: &Bytes) -> Option<Report> {
    let (signed, signature) = bytes.split_last_chunk::<64>()?;
    let report = read(bytes)?;
    let message = [b"lab/reg/1\0", mesh.0.as_slice(), signed].concat();
    is_signature(&report.node.0, &message, signature).then_some(report)
}

/// The same as [`open`], for bytes that are looked at again and again.
pub fn open_shared(mesh: &MeshId, bytes: &Bytes) -> Option<Rc<Report>> {
    let known = OPENED.with_borrow(|known| {
        let (of, report) = known.get(bytes)?;
        (of == mesh).then(|| report.clone())
    });
    known.unwrap_or_else(|| {
        let report = open(mesh, bytes).map(Rc::new);
        OPENED.with_borrow_mut(|known| known.put(bytes, (*mesh, report.clone())));
        report
    })
}

/// The same as [`read`], for bytes that are looked at again and again.
pub fn read_shared(bytes: &Bytes) -> Option<Rc<Report>> {
    READ.with_borrow(|known| known.get(bytes).cloned())
        .unwrap_or_else(|| {
            let report = read(bytes).map(Rc::new);
            READ.with_borrow_mut(|known| known.put(bytes, report.clone()));
            report
        })
}

/// Reads a report without looking at its signature.
pub fn read(bytes: &[u8]) -> Option<Report> {
    let (signed, _) = bytes.split_last_chunk::<64>()?;
    let (head, body) = signed.split_at_checked(54)?;
    let section = match head[1] {
        1 => Section::Beacon,
        2 => Section::Facts,
        3 => Section::Status,
        _ => return None,
    };
    let node: [u8; 32] = head[2..34].try_into().ok()?;
    let number = |at: usize| {
        head[at..at + 8]
            .iter()
            .fold(0u64, |n, b| n << 8 | u64::from(*b))
    };
    let length = head[50..54]
        .iter()
        .fold(0usize, |n, b| n << 8 | usize::from(*b));
    let is_whole = head[0] == 1 && length == body.len() && length <= section.bytes_max();
    is_whole.then(|| Report {
        node: NodeId(node),
        section,
        incarnation: number(34),
        seq: number(42),
        hash: *blake3::hash(bytes).as_bytes(),
    })
}

/// The newest of each; what is no report is left out.
pub fn newest(mesh: &MeshId, all: &[Bytes]) -> BTreeMap<(NodeId, Section), Rc<Report>> {
    let mut out: BTreeMap<(NodeId, Section), Rc<Report>> = BTreeMap::new();
    for report in all.iter().filter_map(|bytes| open_shared(mesh, bytes)) {
        let key = (report.node, report.section);
        let is_newer = out
            .get(&key)
            .is_none_or(|other| (other.seq, other.hash) < (report.seq, report.hash));
        if is_newer {
            out.insert(key, report);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;
    use lab_crdt_log::{Registers, seal_register};

    use super::*;

    #[test]
    fn both_keep_the_same_reports() {
        let mesh = MeshId([1; 32]);
        let mut all = Vec::new();
        for n in 0..60u64 {
            let key = SigningKey::from_bytes(&[2 + (n % 3) as u8; 32]);
            let section = Section::ALL[(n / 3 % 3) as usize];
            all.push(seal_register(
                &mesh,
                &key,
                section,
                n,
                n * 7 % 5,
                &[n as u8],
            ));
        }
        let mut damaged = all[0].to_vec();
        damaged[44] ^= 1;
        all.push(damaged.into());
        let mut theirs = Registers::default();
        for bytes in &all {
            let _refused = theirs.ingest(&mesh, bytes, |_| true);
        }
        let ours = newest(&mesh, &all);
        assert_eq!(ours.len(), 9);
        for ((node, section), report) in &ours {
            let register = theirs.get(node, *section).unwrap();
            assert_eq!(
                (
                    register.seq,
                    register.incarnation,
                    *blake3::hash(&register.bytes).as_bytes()
                ),
                (report.seq, report.incarnation, report.hash)
            );
        }
    }
}
