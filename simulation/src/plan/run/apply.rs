//! Faults of a plan on a world.

use std::collections::BTreeSet;

use crate::ProcessFault;
use crate::clock::ClockFault;
use crate::plan::{DiskFault, Fault, NetworkFault, Scope, Trouble};
use crate::world::World;

type Place<'a> = &'a dyn Fn(usize) -> Option<usize>;

/// A fault begins. `is_ending`: its end comes before everything freezes.
pub(super) fn begin(world: &mut World, fault: &Fault, is_ending: bool, place: Place<'_>) {
    let Some(fault) = fault.renumbered(place) else {
        return;
    };
    if let Trouble::Network(network) = &fault.what {
        let lasting = if fault.for_ms > 0 && is_ending {
            network.clone().lasting(fault.for_ms)
        } else {
            network.clone()
        };
        return world.apply_network(&lasting);
    }
    for node in &fault.nodes {
        match &fault.what {
            Trouble::Network(_) => {}
            Trouble::Disk(fault) => world.apply_disk(*node, fault),
            Trouble::Clock(fault) => world.apply_clock(*node, fault),
            Trouble::Process(fault) => world.apply_process(*node, fault),
        }
    }
}

/// A fault ends.
pub(super) fn end(world: &mut World, fault: &Fault, place: Place<'_>) {
    let nodes: Vec<usize> = fault.nodes.iter().filter_map(|n| place(*n)).collect();
    for node in nodes {
        match &fault.what {
            // The network ends its own.
            Trouble::Network(_) => {}
            Trouble::Disk(_) => world.apply_disk(node, &DiskFault::Heal),
            Trouble::Clock(_) => world.apply_clock(node, &ClockFault::Right),
            Trouble::Process(ProcessFault::Kill | ProcessFault::ShutDown) => {
                world.apply_process(node, &ProcessFault::Start);
            }
            Trouble::Process(ProcessFault::Slow { .. }) => {
                world.apply_process(node, &ProcessFault::Slow { factor: 1 });
            }
            Trouble::Process(_) => {}
        }
    }
}

/// These nodes, and all paths between them, are well again; nothing else is.
pub(super) fn heal(world: &mut World, nodes: &[usize]) {
    let hosts: BTreeSet<usize> = nodes.iter().copied().collect();
    world.apply_network(&NetworkFault::Heal {
        hosts: Scope::Only(hosts),
    });
    heal_nodes(world, nodes);
}

/// Everything is well again.
pub(super) fn heal_all(world: &mut World) {
    let nodes: Vec<usize> = (0..world.len()).collect();
    world.apply_network(&NetworkFault::heal_all());
    heal_nodes(world, &nodes);
}

fn heal_nodes(world: &mut World, nodes: &[usize]) {
    for node in nodes.iter().copied() {
        world.apply_disk(node, &DiskFault::Heal);
        world.apply_clock(node, &ClockFault::Right);
        world.apply_process(node, &ProcessFault::Slow { factor: 1 });
        world.resume(node);
        world.apply_process(node, &ProcessFault::Start);
    }
}
