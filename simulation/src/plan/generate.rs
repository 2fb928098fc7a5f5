//! Makes plans from seeds.
//!
//! Swarm style: every seed draws its own few families of faults and at most three dangerous moments. A plan in which
//! everything goes wrong at once finds less than many plans in which little does: faults hide each other.

mod crowd;
mod guest;
mod rare;
mod trouble;

use std::collections::BTreeSet;

use crate::network::{self, Profile as Ground};
use crate::plan::recover::loss_is_possible;
use crate::plan::{Bias, Family, Limits, Options, Phases, Plan, Profile, Store, VERSION};
use crate::seed::{Rng, rng};

/// One of several.
trait Choose {
    /// One of a list that is not empty.
    fn choose<'a, T>(&mut self, of: &'a [T]) -> &'a T;
}

impl Choose for Rng {
    fn choose<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        self.pick(of).expect("nobody chooses among nothing")
    }
}

/// Largest number of dangerous moments that one plan seeks.
const BIASES_MAX: u64 = 3;

/// The plan of a seed. Equal arguments give equal plans.
pub fn generate(seed: u64, profile: Profile) -> Plan {
    generate_sized(seed, profile, profile.nodes())
}

/// The plan of a seed for a mesh of another size than the profile's own.
pub fn generate_sized(seed: u64, profile: Profile, nodes: usize) -> Plan {
    let mut dice = rng(seed, "plan", 0);
    let options = options(&mut dice, seed, profile, nodes);
    plan_with(dice, options, seed)
}

/// The same with all that can go wrong going wrong, on real disks: what a run can cost at most.
pub fn generate_full(seed: u64, profile: Profile, nodes: usize) -> Plan {
    let mut dice = rng(seed, "plan", 0);
    let drawn = options(&mut dice, seed, profile, nodes);
    let options = Options {
        families: Family::ALL.into_iter().collect(),
        store: Store::Real,
        ..drawn
    };
    plan_with(dice, options, seed)
}

fn plan_with(mut dice: Rng, options: Options, seed: u64) -> Plan {
    let (profile, nodes) = (options.profile, options.nodes);
    let mut plan = Plan {
        version: VERSION,
        seed,
        story: String::new(),
        phases: phases(&mut dice, profile),
        limits: Limits {
            is_loss_expected: false,
            idle_bytes: 1_024,
            detect_ms: 25_000,
            sample_ms: if nodes > 200 { 5_000 } else { 1_000 },
        },
        options,
        actions: Vec::new(),
        faults: Vec::new(),
    };
    // Most seeds spare whoever takes statements in; some do not, and the oracles then expect a report of the loss.
    // Nobody speaks at the machines of adversaries: what is said there may be kept from everyone.
    let is_sparing = !dice.chance(100) | plan.options.families.contains(&Family::Adversary);
    let rotten = rotten(&mut dice, nodes);
    trouble::add(&mut rng(seed, "plan faults", 0), &mut plan, &rotten);
    plan.sort();
    let spared = if is_sparing {
        &rotten
    } else {
        &BTreeSet::new()
    };
    let crowd = crowd::Crowd::new(rng(seed, "plan actions", 0), &plan, spared);
    let (actions, decommissioned) = crowd.play();
    plan.actions = actions;
    guest::add(&mut rng(seed, "plan guests", 0), &mut plan, &rotten);
    trouble::add_dangerous(&mut rng(seed, "plan biases", 0), &mut plan);
    rare::add(&mut rng(seed, "plan rarities", 0), &mut plan, &rotten);
    plan.phases.core = core(&mut dice, nodes, &rotten, &decommissioned);
    plan.sort();
    plan.limits.is_loss_expected = loss_is_possible(&plan);
    plan
}

fn options(dice: &mut Rng, seed: u64, profile: Profile, nodes: usize) -> Options {
    let mut families = BTreeSet::new();
    // Families that came later draw from a stream of their own, so that old seeds keep what they had.
    let mut later = rng(seed, "plan families", 0);
    for family in Family::ALL {
        let is_drawn = match family {
            Family::Adversary | Family::Future => later.chance(400),
            _ => dice.chance(400),
        };
        if is_drawn {
            families.insert(family);
        }
    }
    let mut biases = BTreeSet::new();
    for _ in 0..dice.below(BIASES_MAX + 1) {
        biases.insert(*dice.choose(&Bias::ALL));
    }
    let grounds: &[Ground] = match profile {
        Profile::Homelab => &[
            Ground::Lan,
            Ground::Lan,
            Ground::Wifi,
            Ground::Metro,
            Ground::Mixed,
        ],
        Profile::Small => &[
            Ground::Lan,
            Ground::Wifi,
            Ground::Metro,
            Ground::Lte,
            Ground::Mixed,
        ],
        Profile::Fleet | Profile::Region => &[Ground::Geography, Ground::Mixed],
    };
    let loss_per_mille = if dice.chance(500) {
        0
    } else {
        dice.range(1..50) as u32
    };
    let network = network::Config {
        loss_per_mille,
        ..network::Config::new(*dice.choose(grounds))
    };
    Options {
        profile,
        nodes,
        store: match nodes {
            0..=60 if dice.chance(300) => Store::Real,
            0..=2_000 => Store::Model,
            _ => Store::Lean,
        },
        network,
        families,
        biases,
    }
}

fn phases(dice: &mut Rng, profile: Profile) -> Phases {
    let (chaos, core_ms, heal_ms) = match profile {
        Profile::Homelab => (60_000..300_000, 90_000, 120_000),
        Profile::Small => (60_000..240_000, 90_000, 120_000),
        Profile::Fleet => (60_000..120_000, 120_000, 180_000),
        Profile::Region => (30_000..60_000, 120_000, 240_000),
    };
    Phases {
        warm_up_ms: 5_000,
        chaos_ms: dice.range(chaos),
        core: Vec::new(),
        core_ms,
        heal_ms,
    }
}

/// Nodes whose disks may lie, rot or go back: less than half of all.
fn rotten(dice: &mut Rng, nodes: usize) -> BTreeSet<usize> {
    let mut all: Vec<usize> = (0..nodes).collect();
    dice.shuffle(&mut all);
    all.truncate(nodes.saturating_sub(1) / 2);
    all.into_iter().collect()
}

/// Who heals first: at least two nodes with honest disks that are still members, at most half of all.
fn core(
    dice: &mut Rng,
    nodes: usize,
    rotten: &BTreeSet<usize>,
    decommissioned: &BTreeSet<usize>,
) -> Vec<usize> {
    let mut able: Vec<usize> = (0..nodes)
        .filter(|n| !rotten.contains(n) && !decommissioned.contains(n))
        .collect();
    dice.shuffle(&mut able);
    let most = (able.len() as u64).min(nodes as u64 / 2 + 1);
    able.truncate(dice.range(2..most.max(2) + 1) as usize);
    able.sort_unstable();
    if able.len() < 2 { Vec::new() } else { able }
}

#[cfg(test)]
mod tests;
