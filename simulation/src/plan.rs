//! Plans: everything a run needs, written down.
//!
//! ```text
//! seed ─generate─► Plan ─run─► Outcome (digest, violations, marks)
//!                   │ ▲             │
//!              RON on disk          └─shrink─► a shorter Plan that fails the same oracle ─repro─► a test
//! ```
//!
//! The engine executes plans only, never dice: a plan is replayed without the generator that made it, edited by hand,
//! shortened, mutated and kept. Times are virtual milliseconds since the mesh stood, nodes are numbers (node `3` is
//! called `n3`), people are numbers (`0` is the admin who founded the mesh).

mod action;
mod corpus;
mod fault;
mod generate;
mod judge;
mod mutate;
mod panel;
mod panics;
mod recover;
mod run;
mod shrink;
mod swarm;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::network;

pub use action::{Act, Action, Lens, Right, Witnesses};
pub use corpus::{Regression, name, regressions, repro};
pub use fault::{ClockFault, DiskFault, Fault, NetworkFault, Paths, ProcessFault, Scope, Trouble};
pub use generate::{generate, generate_full, generate_sized};
pub use judge::{Adversary, Answer, Judges, Observer, Turn, Violation};
pub use mutate::{mutate, splice};
pub use recover::loss_is_possible;
pub use run::{Outcome, Stats, run, run_with};
pub use shrink::{Budget, Shrunk, shrink};
pub use swarm::{Finding, Report, Swarm, swarm};

/// The format of plan files that this program writes and reads.
pub const VERSION: u32 = 1;

/// Everything a run needs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The format, [`VERSION`].
    pub version: u32,
    /// The seed of all randomness that a plan does not write down, such as the latency of a frame.
    pub seed: u64,
    /// For people: what this plan is about; may be empty.
    pub story: String,
    /// What the world is made of.
    pub options: Options,
    /// When what happens.
    pub phases: Phases,
    /// What the oracles expect.
    pub limits: Limits,
    /// What people and machines do, in order of time.
    pub actions: Vec<Action>,
    /// What goes wrong, in order of time.
    pub faults: Vec<Fault>,
}

/// What the world is made of.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// For which size of mesh the plan was made.
    pub profile: Profile,
    /// How many nodes the mesh has when the plan begins; they are `0..nodes`.
    pub nodes: usize,
    /// What is under the agents.
    pub store: Store,
    /// What is between them.
    pub network: network::Config,
    /// Which families of faults this plan draws from.
    pub families: BTreeSet<Family>,
    /// Which dangerous moments this plan seeks.
    pub biases: BTreeSet<Bias>,
}

/// For which size of mesh a plan is made.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Profile {
    /// 7 nodes and a laptop.
    Homelab,
    /// 50 nodes.
    Small,
    /// 1,000 nodes.
    Fleet,
    /// 10,000 nodes.
    Region,
}

impl Profile {
    /// All of them, smallest first.
    pub const ALL: [Self; 4] = [Self::Homelab, Self::Small, Self::Fleet, Self::Region];

    /// How many nodes its meshes have.
    pub const fn nodes(self) -> usize {
        match self {
            Self::Homelab => 7,
            Self::Small => 50,
            Self::Fleet => 1_000,
            Self::Region => 10_000,
        }
    }

    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Homelab => "homelab",
            Self::Small => "small",
            Self::Fleet => "fleet",
            Self::Region => "region",
        }
    }

    /// The profile of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.name() == name)
    }
}

/// What is under the agents.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Store {
    /// A table in memory: fast, for large meshes.
    Model,
    /// The real store on a simulated disk.
    Real,
    /// The real store under the first so many nodes, the table under the rest.
    Mixed(u32),
    /// A table that shares what all nodes began with, for the largest meshes; its disks have no faults.
    Lean,
}

/// A family of faults.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Family {
    /// Nodes that cannot reach each other.
    Partition,
    /// Paths that are slow, lossy or in one direction only.
    Grey,
    /// Routers, relays and address translation.
    Nat,
    /// Machines that stop and start.
    Crash,
    /// Machines that stand still for a while.
    Pause,
    /// Disks that are full, slow or refuse.
    DiskError,
    /// Disks that lie, rot or go back in time.
    DiskLie,
    /// Clocks that are wrong.
    Clock,
    /// People and machines that break rules.
    Adversary,
    /// Programs of later versions.
    Future,
}

impl Family {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Partition,
        Self::Grey,
        Self::Nat,
        Self::Crash,
        Self::Pause,
        Self::DiskError,
        Self::DiskLie,
        Self::Clock,
        Self::Adversary,
        Self::Future,
    ];
}

/// A dangerous moment that a plan seeks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Bias {
    /// A node crashes within a millisecond of a write.
    CrashAtStore,
    /// A partition begins within 5 ms of an edit.
    PartitionAtEdit,
    /// A node crashes right after it joined.
    CrashAtJoin,
    /// A clock steps around the end of a token, grant or lease.
    ClockAtEnd,
    /// A node is killed between an edit and its effect on files.
    KillBeforeEffect,
}

impl Bias {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::CrashAtStore,
        Self::PartitionAtEdit,
        Self::CrashAtJoin,
        Self::ClockAtEnd,
        Self::KillBeforeEffect,
    ];
}

/// When what happens. Lengths in milliseconds, one after the other.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phases {
    /// Nothing goes wrong.
    pub warm_up_ms: u64,
    /// Actions and faults; only what must never happen is judged.
    pub chaos_ms: u64,
    /// Which nodes heal first, while everything else stays as broken as it is. Empty: there is no such phase.
    pub core: Vec<usize>,
    /// How long the core has to agree.
    pub core_ms: u64,
    /// How long everyone has to agree once all is healed: the deadline.
    pub heal_ms: u64,
}

impl Phases {
    /// When chaos begins.
    pub const fn chaos_at(&self) -> u64 {
        self.warm_up_ms
    }

    /// When the core heals.
    pub const fn core_at(&self) -> u64 {
        self.chaos_at() + self.chaos_ms
    }

    /// When everything heals.
    pub const fn heal_at(&self) -> u64 {
        self.core_at()
            + if self.core.is_empty() {
                0
            } else {
                self.core_ms
            }
    }

    /// The deadline.
    pub const fn end_at(&self) -> u64 {
        self.heal_at() + self.heal_ms
    }

    /// In which phase a moment is.
    pub const fn phase(&self, at_ms: u64) -> Phase {
        if at_ms < self.chaos_at() {
            Phase::WarmUp
        } else if at_ms < self.core_at() {
            Phase::Chaos
        } else if at_ms < self.heal_at() {
            Phase::Core
        } else {
            Phase::Heal
        }
    }
}

/// A part of a run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Phase {
    /// Nothing goes wrong yet.
    WarmUp,
    /// Everything may go wrong.
    Chaos,
    /// A core is healed, the rest is frozen.
    Core,
    /// All is healed.
    Heal,
}

/// What the oracles expect of this plan.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Whether the faults may destroy every copy of an acknowledged change. Then a loss is no violation, a loss that
    /// nobody reports is.
    pub is_loss_expected: bool,
    /// Payload bytes per second and node that an idle mesh may cost.
    pub idle_bytes: u64,
    /// Milliseconds within which a dead node is seen as down.
    pub detect_ms: u64,
    /// Milliseconds between two looks at all nodes.
    pub sample_ms: u64,
}

/// Why a plan cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The text is not a plan; says where.
    #[error("line {line}, column {column}: {why}")]
    Text {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// In the reader's words.
        why: String,
    },
    /// A later format.
    #[error("the plan has format {0}, this program reads format {VERSION}")]
    Version(u32),
    /// A plan that makes no sense.
    #[error("{0}")]
    Senseless(String),
}

impl Plan {
    /// Reads a plan. Unknown fields are refused, with their position.
    pub fn read(text: &str) -> Result<Self, PlanError> {
        let plan: Self = ron::from_str(text).map_err(|error| PlanError::Text {
            line: error.span.start.line,
            column: error.span.start.col,
            why: error.code.to_string(),
        })?;
        plan.check()?;
        Ok(plan)
    }

    /// The text of a plan: one action and one fault a line.
    pub fn write(&self) -> String {
        let pretty = ron::ser::PrettyConfig::new()
            .depth_limit(2)
            .struct_names(false)
            .new_line("\n".to_owned())
            .compact_arrays(false);
        let mut text = ron::ser::to_string_pretty(self, pretty).expect("plans are plain data");
        text.push('\n');
        text
    }

    /// Whether the plan can be run.
    pub fn check(&self) -> Result<(), PlanError> {
        let senseless = |why: String| Err(PlanError::Senseless(why));
        if self.version != VERSION {
            return Err(PlanError::Version(self.version));
        }
        let nodes = self.options.nodes;
        if !(1..=100_000).contains(&nodes) {
            return senseless(format!("a mesh of {nodes} nodes: 1 to 100000 are possible"));
        }
        if self.limits.sample_ms == 0 {
            return senseless("sample_ms is 0".to_owned());
        }
        if let Some(core) = self.phases.core.iter().find(|n| **n >= nodes) {
            return senseless(format!("node {core} of the core is not one of {nodes}"));
        }
        if let Some(at) = self
            .actions
            .windows(2)
            .position(|w| w[1].at_ms < w[0].at_ms)
        {
            let (first, second) = (self.actions[at].at_ms, self.actions[at + 1].at_ms);
            return senseless(format!("action at {second} ms after action at {first} ms"));
        }
        if let Some(at) = self
            .faults
            .windows(2)
            .position(|w| w[1].start() < w[0].start())
        {
            let (first, second) = (self.faults[at].at_ms, self.faults[at + 1].at_ms);
            return senseless(format!("fault at {second} ms after fault at {first} ms"));
        }
        Ok(())
    }

    /// Every node that the plan knows: those it begins with and those that join.
    pub fn nodes(&self) -> BTreeSet<usize> {
        let joined = self.actions.iter().filter_map(Action::joins);
        (0..self.options.nodes).chain(joined).collect()
    }

    /// Puts actions and faults in order of time; equal times keep their order.
    pub fn sort(&mut self) {
        self.actions.sort_by_key(|a| a.at_ms);
        self.faults.sort_by_key(Fault::start);
    }
}

#[cfg(test)]
mod tests;
