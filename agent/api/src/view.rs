//! A replica's view as a stream of chunks.
//!
//! ```text
//! chunk*       joined:  version u8 = 4 | postcard of ReplicaView | postcard of MoreView | postcard of AgreedView
//!                       | postcard of MachinesView
//! ```
//!
//! An earlier agent writes version 3 and nothing after the third part, or version 2 and nothing after the first or the
//! second.

use bytes::Bytes;
use lab_crdt_model::fact::Machine;
use lab_crdt_model::view::{AgreedView, MachinesView, MoreView, ReplicaView};

/// Version of the encoding; the first byte of the stream.
pub const VIEW_VERSION: u8 = 4;
/// Earliest version that is read.
const VIEW_VERSION_MIN: u8 = 2;
/// Longest chunk, bytes.
pub const VIEW_CHUNK_BYTES: usize = 1 << 20;
/// Longest view, bytes: 10,000 nodes with 100 fields each of 300 bytes. A longer one is refused on both sides.
const VIEW_BYTES_MAX: usize = 512 << 20;

/// Why a stream of chunks is not a view. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ViewDecodeError {
    /// More bytes than any view has.
    #[error("the view is longer than {VIEW_BYTES_MAX} bytes")]
    TooLong,
    /// The stream was empty.
    #[error("the view is empty")]
    Empty,
    /// Written by a later program.
    #[error(
        "the view has format {0}, this program reads format {VIEW_VERSION}: update this program"
    )]
    Version(u8),
    /// Not a view, or cut off.
    #[error("the view is damaged or cut off")]
    Damaged,
}

/// Cuts a view into chunks of at most [`VIEW_CHUNK_BYTES`]. Views longer than 512 MiB give no chunks.
pub fn encode_view(view: &ReplicaView) -> Vec<Bytes> {
    let more = MoreView {
        bindings: view.bindings.clone(),
        joins: view.joins.clone(),
    };
    let agreed = AgreedView {
        checkpoints: view.checkpoints.clone(),
        held: view.held.clone(),
        chains: view.chains.clone(),
    };
    let told = view.reports.iter().filter_map(|report| {
        let machine = &report.facts.as_ref()?.machine;
        (*machine != Machine::default()).then(|| (report.node, machine.clone()))
    });
    let machines: MachinesView = told.collect();
    let whole = (view, more, agreed, machines);
    let Ok(bytes) = postcard::to_extend(&whole, vec![VIEW_VERSION]) else {
        return Vec::new();
    };
    if bytes.len() > VIEW_BYTES_MAX {
        return Vec::new();
    }
    let mut rest = Bytes::from(bytes);
    let mut chunks = Vec::with_capacity(rest.len().div_ceil(VIEW_CHUNK_BYTES));
    while !rest.is_empty() {
        chunks.push(rest.split_to(rest.len().min(VIEW_CHUNK_BYTES)));
    }
    chunks
}

/// Puts chunks back together.
#[derive(Debug, Default)]
pub struct ViewDecoder {
    bytes: Vec<u8>,
}

impl ViewDecoder {
    /// Takes the next chunk.
    ///
    /// # Errors
    /// When the whole would be longer than any view.
    pub fn push(&mut self, chunk: &[u8]) -> Result<(), ViewDecodeError> {
        if self.bytes.len().saturating_add(chunk.len()) > VIEW_BYTES_MAX {
            return Err(ViewDecodeError::TooLong);
        }
        self.bytes.extend_from_slice(chunk);
        Ok(())
    }

    /// Reads the view after the last chunk.
    ///
    /// # Errors
    /// When the bytes are not exactly one view of a version that this program reads.
    pub fn finish(self) -> Result<ReplicaView, ViewDecodeError> {
        let (&version, body) = self.bytes.split_first().ok_or(ViewDecodeError::Empty)?;
        if !(VIEW_VERSION_MIN..=VIEW_VERSION).contains(&version) {
            return Err(ViewDecodeError::Version(version));
        }
        let damaged = |_| ViewDecodeError::Damaged;
        let (mut view, rest) = postcard::take_from_bytes::<ReplicaView>(body).map_err(damaged)?;
        if rest.is_empty() {
            return Ok(view);
        }
        let (more, rest) = postcard::take_from_bytes::<MoreView>(rest).map_err(damaged)?;
        (view.bindings, view.joins) = (more.bindings, more.joins);
        if rest.is_empty() {
            return Ok(view);
        }
        let (agreed, rest) = postcard::take_from_bytes::<AgreedView>(rest).map_err(damaged)?;
        view.checkpoints = agreed.checkpoints;
        view.held = agreed.held;
        view.chains = agreed.chains;
        if rest.is_empty() {
            return Ok(view);
        }
        let (mut machines, rest) =
            postcard::take_from_bytes::<MachinesView>(rest).map_err(damaged)?;
        if !rest.is_empty() {
            return Err(ViewDecodeError::Damaged);
        }
        for report in &mut view.reports {
            if let (Some(facts), Some(machine)) = (&mut report.facts, machines.remove(&report.node))
            {
                facts.machine = machine;
            }
        }
        Ok(view)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use lab_crdt_model::report::Facts;
    use lab_crdt_model::view::{
        ChainView, CheckpointView, HeldView, JoinView, MemberState, MemberView, ReportView, Role,
    };
    use lab_crdt_model::{AuthorId, Binding, Hardware, Hlc, MeshId, NodeId, StatementId, Wall};

    use super::*;

    pub(crate) fn view(members: u32) -> ReplicaView {
        ReplicaView {
            mesh: MeshId([1; 32]),
            mesh_name: "home".into(),
            me: NodeId([2; 32]),
            at: Wall(5),
            uptime_ms: 7,
            version: "0.1.0".into(),
            digest: [3; 32],
            register_digest: [4; 32],
            heads: vec![[5; 32]],
            statement_count: 6,
            pending_count: 0,
            members: (0..members)
                .map(|i| MemberView {
                    node: NodeId([i as u8; 32]),
                    name: format!("node-{i}"),
                    role: Role::Node,
                    state: MemberState::Member,
                    labels: vec!["role=web".into()],
                    join: StatementId([i as u8; 32]),
                    joined_at: Hlc(9),
                    not_after: None,
                })
                .collect(),
            operators: vec![],
            invites: vec![],
            fields: vec![],
            reports: vec![],
            peers: vec![],
            history: vec![],
            refused: vec![],
            issues: vec![],
            bindings: BTreeMap::new(),
            joins: vec![],
            checkpoints: vec![],
            held: vec![],
            chains: vec![],
        }
    }

    fn decode(chunks: &[Bytes]) -> Result<ReplicaView, ViewDecodeError> {
        let mut decoder = ViewDecoder::default();
        for chunk in chunks {
            decoder.push(chunk)?;
        }
        decoder.finish()
    }

    #[test]
    fn a_view_of_many_chunks_reads_back() {
        let view = view(20_000);

        let chunks = encode_view(&view);

        assert!(chunks.len() > 1);
        assert!(
            chunks
                .iter()
                .all(|c| c.len() <= VIEW_CHUNK_BYTES && !c.is_empty())
        );
        assert_eq!(decode(&chunks), Ok(view));
    }

    #[test]
    fn what_the_first_format_did_not_say_reads_back_or_is_not_there() {
        let first = view(2);
        let binding = Binding {
            mac: None,
            serial: Some("SN1".into()),
        };
        let whole = ReplicaView {
            bindings: BTreeMap::from([(StatementId([9; 32]), binding)]),
            joins: vec![JoinView {
                node: NodeId([2; 32]),
                invite: StatementId([9; 32]),
                hardware: Some(Hardware::default()),
                witnesses: vec![(NodeId([1; 32]), Wall(3))],
                needed: 2,
                is_confirm_due: true,
            }],
            ..first.clone()
        };
        assert_eq!(decode(&encode_view(&whole)), Ok(whole.clone()));
        let agreed = ReplicaView {
            checkpoints: vec![CheckpointView {
                id: StatementId([7; 32]),
                author: AuthorId([1; 32]),
                at: Hlc(5),
                author_count: 4,
                missing_count: 1,
                void_count: 2,
                signers: vec![AuthorId([1; 32])],
                is_effective: false,
            }],
            held: vec![HeldView {
                revocation: None,
                key: AuthorId([2; 32]),
                grant: Some(StatementId([3; 32])),
                head: None,
                signers: vec![],
                count: 9,
            }],
            chains: vec![ChainView {
                author: AuthorId([1; 32]),
                head: StatementId([4; 32]),
                count: 2,
            }],
            ..whole.clone()
        };
        assert_eq!(decode(&encode_view(&agreed)), Ok(agreed.clone()));
        let facts = Facts {
            hostname: "nuc1".into(),
            cpu_count: 4,
            machine: Machine {
                virtualization: "none".into(),
                ..Machine::default()
            },
            ..Facts::default()
        };
        let mut told = agreed;
        told.reports = vec![ReportView {
            node: NodeId([2; 32]),
            beacon: None,
            facts: Some(facts),
            status: None,
        }];
        assert_eq!(decode(&encode_view(&told)), Ok(told));

        let bytes = postcard::to_extend(&first, vec![VIEW_VERSION_MIN]).unwrap();
        assert_eq!(decode(&[bytes.into()]), Ok(first));
        let more = MoreView {
            bindings: whole.bindings.clone(),
            joins: whole.joins.clone(),
        };
        let bytes = postcard::to_extend(&(&whole, more), vec![VIEW_VERSION_MIN]).unwrap();
        assert_eq!(decode(&[bytes.into()]), Ok(whole));
    }

    #[test]
    fn a_cut_or_longer_or_newer_view_is_refused() {
        let whole = encode_view(&view(3))[0].clone();

        assert_eq!(decode(&[]), Err(ViewDecodeError::Empty));
        // The parts that an earlier agent leaves out are empty here: two lists, then three, then one.
        let first = postcard::to_stdvec(&view(3)).unwrap().len() + 1;
        for end in (1..whole.len()).filter(|end| ![first, first + 2, first + 5].contains(end)) {
            assert_eq!(
                decode(&[whole.slice(..end)]),
                Err(ViewDecodeError::Damaged),
                "{end}"
            );
        }
        assert_eq!(
            decode(&[whole.clone(), Bytes::from_static(b"x")]),
            Err(ViewDecodeError::Damaged)
        );
        let newer = [&[VIEW_VERSION + 1], &whole[1..]].concat();
        assert_eq!(
            decode(&[newer.into()]),
            Err(ViewDecodeError::Version(VIEW_VERSION + 1))
        );
    }
}
