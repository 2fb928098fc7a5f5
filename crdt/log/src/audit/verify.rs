//! Whether records are one whole chain.

use std::collections::BTreeMap;

use bytes::Bytes;
use lab_crdt_model::report::AuditHead;
use lab_crdt_model::{MeshId, NodeId};

use super::{Act, AuditError, AuditRecord};

/// Records that are one whole chain, from a first one to a last one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Run {
    /// The chain ended so before the first of them: number 0, or where it was trimmed.
    pub start: AuditHead,
    /// The last of them.
    pub end: AuditHead,
    /// The newest witnessed head that they hold.
    pub witnessed: Option<AuditHead>,
}

/// The first thing that is wrong with records.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Fault {
    /// Bytes that are no record of this mesh.
    #[error("entry {place}: {error}")]
    Record {
        /// Where, from 1.
        place: usize,
        /// Why.
        error: AuditError,
    },
    /// A record of another node.
    #[error("entry {place} is a record of {node}")]
    Stranger {
        /// Where, from 1.
        place: usize,
        /// Whose.
        node: NodeId,
    },
    /// Records that are missing before the first or between two.
    #[error("{}{}", missing(*from, *through), if *is_told { "; the node says that its store lost them" } else { "" })]
    Gap {
        /// The first of them.
        from: u64,
        /// The last of them.
        through: u64,
        /// The node itself recorded that they are lost.
        is_told: bool,
    },
    /// A record that comes where an earlier or the same one has been.
    #[error("record {seq} comes after record {after}")]
    Order {
        /// Its number.
        seq: u64,
        /// The number before.
        after: u64,
    },
    /// Two different records of one number: the chain was written anew.
    #[error("there are two records {seq}: the chain was written anew from there")]
    Forked {
        /// Their number.
        seq: u64,
    },
    /// A record that names another predecessor than the one that is there.
    #[error(
        "record {seq} does not follow the record before it: one of them was changed or replaced"
    )]
    Broken {
        /// Its number.
        seq: u64,
    },
    /// Another record has the number of one that others have witnessed.
    #[error("record {seq} is not the one that the node told others of: the chain was written anew")]
    Rewritten {
        /// Its number.
        seq: u64,
    },
    /// The node told others of later records.
    #[error("{}: the node told others of record {told}", missing(*end + 1, *told))]
    Short {
        /// The last record that is there.
        end: u64,
        /// The newest that was told of.
        told: u64,
    },
}

fn missing(from: u64, through: u64) -> String {
    if from == through {
        format!("record {from} is missing")
    } else {
        format!("records {from} to {through} are missing")
    }
}

/// Looks whether `records`, in the order given, are the whole chain of `node`: each verified, none missing, doubled, out
/// of order or changed, from the first record of all or from one before which the chain may have been cut; and whether
/// they hold every head in `witnessed`.
///
/// A chain may begin after a head in `starts`, and after one that a record of it names as trimmed. Without records, it
/// is whole unless someone has witnessed one.
///
/// # Errors
/// The first fault, in the order of the records; those about witnessed heads come last.
pub fn verify(
    mesh: &MeshId,
    node: &NodeId,
    records: &[Bytes],
    starts: &[AuditHead],
    witnessed: &[AuditHead],
) -> Result<Run, Fault> {
    let mut opened: Vec<AuditRecord> = Vec::with_capacity(records.len());
    for (place, bytes) in (1..).zip(records) {
        let record =
            AuditRecord::open(mesh, bytes).map_err(|error| Fault::Record { place, error })?;
        if record.node != *node {
            return Err(Fault::Stranger {
                place,
                node: record.node,
            });
        }
        opened.push(record);
    }
    let acts = || opened.iter().filter_map(AuditRecord::body).map(|b| b.act);
    let gap = |from, through| {
        let is_told = acts().any(
            |act| matches!(act, Act::Lost { from: f, through: t } if f <= from && through <= t),
        );
        Fault::Gap {
            from,
            through,
            is_told,
        }
    };
    let start = opened
        .first()
        .map_or_else(AuditHead::default, AuditRecord::before);
    let is_trimmed = || acts().any(|act| matches!(act, Act::Trimmed { end } if end == start));
    if start.seq > 0 && !starts.contains(&start) && !is_trimmed() {
        return Err(gap(1, start.seq));
    }
    for pair in opened.windows(2) {
        let (before, next) = (&pair[0], &pair[1]);
        if next.seq == before.seq && next.hash != before.hash {
            return Err(Fault::Forked { seq: next.seq });
        }
        if next.seq <= before.seq {
            return Err(Fault::Order {
                seq: next.seq,
                after: before.seq,
            });
        }
        if next.seq > before.seq + 1 {
            return Err(gap(before.seq + 1, next.seq - 1));
        }
        if next.prev != before.hash {
            return Err(Fault::Broken { seq: next.seq });
        }
    }
    let end = opened.last().map_or(start, AuditRecord::head);
    let hashes: BTreeMap<u64, [u8; 32]> = opened.iter().map(|r| (r.seq, r.hash)).collect();
    let mut held = None;
    for head in witnessed.iter().filter(|head| head.seq > 0) {
        match hashes.get(&head.seq) {
            Some(hash) if *hash == head.hash => held = held.max(Some(*head)),
            Some(_) => return Err(Fault::Rewritten { seq: head.seq }),
            None if head.seq > end.seq => {
                return Err(Fault::Short {
                    end: end.seq,
                    told: head.seq,
                });
            }
            // It was trimmed.
            None => {}
        }
    }
    Ok(Run {
        start,
        end,
        witnessed: held,
    })
}
