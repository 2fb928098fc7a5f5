//! What goes wrong.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

pub use crate::ProcessFault;
pub use crate::clock::ClockFault;
pub use crate::disk::DiskFault;
pub use crate::network::{Fault as NetworkFault, Paths, Scope};

/// One thing that goes wrong for a while.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// When it begins, in milliseconds since the mesh stood.
    pub at_ms: u64,
    /// Microseconds on top, to hit a moment exactly.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub plus_us: u64,
    /// How long it lasts; 0 for what happens in a moment. What lasts longer than chaos lasts until its healing.
    pub for_ms: u64,
    /// Which nodes; empty for faults of the network, which name theirs themselves.
    pub nodes: Vec<usize>,
    /// What.
    pub what: Trouble,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl Fault {
    /// When it begins, in microseconds.
    pub const fn start(&self) -> u64 {
        self.at_ms * 1000 + self.plus_us
    }

    /// When it ends, in microseconds; `None` for what happens in a moment.
    pub const fn end(&self) -> Option<u64> {
        if self.for_ms == 0 {
            None
        } else {
            Some(self.start() + self.for_ms * 1000)
        }
    }
}

/// What goes wrong.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Trouble {
    /// Between nodes; the fault names them.
    Network(NetworkFault),
    /// Under a node.
    Disk(DiskFault),
    /// With its clock.
    Clock(ClockFault),
    /// With the program. What is killed starts again when the fault ends.
    Process(ProcessFault),
}

impl Fault {
    /// The same with other numbers for nodes; `None` when nobody is left that it concerns.
    #[must_use]
    pub fn renumbered(&self, number: &dyn Fn(usize) -> Option<usize>) -> Option<Self> {
        let mut fault = self.clone();
        if let Trouble::Network(network) = &mut fault.what {
            renumber(network, number).then_some(fault)
        } else {
            fault.nodes = fault.nodes.iter().filter_map(|n| number(*n)).collect();
            (!fault.nodes.is_empty()).then_some(fault)
        }
    }
}

/// Renumbers the hosts of a scope; returns whether there are any left.
fn rescope(scope: &mut Scope, number: &dyn Fn(usize) -> Option<usize>) -> bool {
    let old: BTreeSet<usize> = match scope {
        Scope::All => return true,
        Scope::Span { first, count } => (*first..*first + *count).collect(),
        Scope::Only(hosts) => std::mem::take(hosts),
    };
    let new: BTreeSet<usize> = old.into_iter().filter_map(number).collect();
    let is_some = !new.is_empty();
    *scope = Scope::Only(new);
    is_some
}

fn repath(paths: &mut Paths, number: &dyn Fn(usize) -> Option<usize>) -> bool {
    match paths {
        Paths::Of(scope) => rescope(scope, number),
        Paths::Between(a, b) | Paths::From(a, b) => rescope(a, number) && rescope(b, number),
    }
}

fn renumber(fault: &mut NetworkFault, number: &dyn Fn(usize) -> Option<usize>) -> bool {
    match fault {
        NetworkFault::Partition { groups } => {
            groups.retain_mut(|g| rescope(g, number));
            !groups.is_empty()
        }
        NetworkFault::OneWay { from, to } => rescope(from, number) && rescope(to, number),
        NetworkFault::Bridge {
            left,
            right,
            bridge,
        } => {
            let is_there = number(*bridge).map(|n| *bridge = n).is_some();
            is_there && rescope(left, number) && rescope(right, number)
        }
        NetworkFault::Cut { pairs } => {
            *pairs = pairs
                .iter()
                .filter_map(|(a, b)| Some((number(*a)?, number(*b)?)))
                .collect();
            !pairs.is_empty()
        }
        NetworkFault::Isolate { hosts }
        | NetworkFault::Ring { hosts }
        | NetworkFault::Flap { hosts, .. }
        | NetworkFault::Swizzle { hosts, .. }
        | NetworkFault::Bufferbloat { hosts, .. }
        | NetworkFault::UdpBlocked { hosts }
        | NetworkFault::NatRebind { hosts }
        | NetworkFault::CaptivePortal { hosts }
        | NetworkFault::Heal { hosts } => rescope(hosts, number),
        NetworkFault::Clog { paths, .. }
        | NetworkFault::Grey { paths, .. }
        | NetworkFault::Latency { paths, .. }
        | NetworkFault::Loss { paths, .. } => repath(paths, number),
        NetworkFault::RelayDown { .. } => true,
        NetworkFault::For { fault, .. } => renumber(fault, number),
    }
}
