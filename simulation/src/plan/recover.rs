//! Whether a plan leaves a copy of everything that was acknowledged.
//!
//! A node answers "done" once a change is on its disk, before anyone else has it. A disk that lies, rots or goes back
//! can therefore lose the only copy of what was said at that very node, and of nothing else: what others have heard,
//! they keep.

use std::collections::BTreeSet;

use crate::plan::{DiskFault, Plan, Trouble};

/// Whether a disk with this fault may forget what it acknowledged.
const fn forgets(fault: &DiskFault) -> bool {
    match fault {
        DiskFault::Full { .. }
        | DiskFault::Slow { .. }
        | DiskFault::ReadOnly
        | DiskFault::Snapshot { .. }
        | DiskFault::Heal
        | DiskFault::SyncError { is_cached: false } => false,
        DiskFault::LyingFsync { .. }
        | DiskFault::SyncError { is_cached: true }
        | DiskFault::ReadError { .. }
        | DiskFault::BitFlips { .. }
        | DiskFault::Misdirected { .. }
        | DiskFault::StaleRead { .. }
        | DiskFault::Replace
        | DiskFault::Rollback { .. } => true,
    }
}

/// The nodes whose disks may forget what they acknowledged.
pub(crate) fn forgetful(plan: &Plan) -> BTreeSet<usize> {
    let of_disk = plan.faults.iter().filter(|f| match &f.what {
        Trouble::Disk(fault) => forgets(fault),
        _ => false,
    });
    of_disk.flat_map(|f| f.nodes.iter().copied()).collect()
}

/// Whether the faults of a plan may destroy every copy of an acknowledged change.
pub fn loss_is_possible(plan: &Plan) -> bool {
    let forgetful = forgetful(plan);
    plan.actions
        .iter()
        .any(|a| a.is_statement() && forgetful.contains(&a.node))
}
