//! Measurements of whole meshes, for tests and for the table that the example prints.

use std::collections::BTreeSet;

use lab_crdt_model::view::Liveness as Opinion;

use super::{World, id};
use crate::MeshOutput;

/// Sorted values.
#[derive(Clone, Debug, Default)]
pub struct Spread(Vec<u64>);

impl Spread {
    /// Of any values.
    pub fn new(mut values: Vec<u64>) -> Self {
        values.sort_unstable();
        Self(values)
    }

    /// The value that `per_mille` of a thousand do not exceed; 0 of none.
    pub fn at(&self, per_mille: usize) -> u64 {
        let last = self.0.len().saturating_sub(1);
        self.0
            .get(
                (self.0.len() * per_mille)
                    .div_ceil(1000)
                    .saturating_sub(1)
                    .min(last),
            )
            .copied()
            .unwrap_or(0)
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

/// The first seconds.
#[derive(Clone, Debug, Default)]
pub struct Start {
    /// Most links of one node at any time.
    pub links_max: usize,
    /// Dials per node.
    pub dials: f64,
    /// Links per node in the end.
    pub links: f64,
    /// When each node held each other for alive, milliseconds.
    pub alive_ms: Option<u64>,
}

/// Runs the first `ms`.
pub fn start(world: &mut World, ms: u64) -> Start {
    let n = world.nodes.len();
    let mut start = Start::default();
    let mut looked_at = 0;
    while world.now_ms() < ms {
        world.run_ms(250);
        let most = world
            .nodes
            .iter()
            .map(|it| it.mesh.link_count())
            .max()
            .unwrap_or(0);
        start.links_max = start.links_max.max(most);
        if start.alive_ms.is_none() && world.now_ms() >= looked_at + 1_000 {
            looked_at = world.now_ms();
            if all_alive(world) {
                start.alive_ms = Some(looked_at);
            }
        }
    }
    start.dials = world.nodes.iter().map(|it| it.dial_count).sum::<u64>() as f64 / n as f64;
    start.links = world
        .nodes
        .iter()
        .map(|it| it.mesh.link_count())
        .sum::<usize>() as f64
        / n as f64;
    start
}

/// Whether every living node holds every living node for alive.
pub fn all_alive(world: &World) -> bool {
    let alive: Vec<usize> = world.alive().collect();
    alive.iter().all(|a| {
        alive
            .iter()
            .all(|b| a == b || world.opinion(*a, *b) == Opinion::Alive)
    })
}

/// What pushing cost.
#[derive(Clone, Debug, Default)]
pub struct Push {
    /// From the write to each node, milliseconds.
    pub each: Spread,
    /// From the write to the last node, milliseconds.
    pub last: Spread,
    /// Nodes that did not get it within the time.
    pub missed: usize,
    /// Payloads received beyond the first, per node and statement.
    pub copies: f64,
    /// Bytes sent per node and statement, above the idle traffic.
    pub bytes: f64,
    /// Most hops.
    pub hops: u16,
}

/// Writes `count` statements of `len` bytes at nodes in turn, every `every_ms`.
pub fn push(
    world: &mut World,
    first: u32,
    count: u32,
    len: usize,
    every_ms: u64,
    idle_bps: f64,
) -> Push {
    let n = world.nodes.len();
    let payloads = |it: &World| {
        it.nodes
            .iter()
            .map(|it| {
                if len > 2_000 {
                    it.large_count
                } else {
                    it.payload_count
                }
            })
            .sum::<u64>()
    };
    let bytes = |it: &World| it.nodes.iter().map(|it| it.sent_bytes).sum::<u64>();
    let (payloads_before, bytes_before) = (payloads(world), bytes(world));
    world.nodes.iter_mut().for_each(|it| it.hops_max = 0);
    let mut starts = Vec::new();
    let start_ms = world.now_ms();
    for i in 0..count {
        let at = (i as usize * 7919 + first as usize) % n;
        starts.push(world.now_ms());
        world.write(at, first + i, len);
        world.run_ms(every_ms);
    }
    let (mut each, mut last, mut missed) = (Vec::new(), Vec::new(), 0);
    for (i, start) in starts.iter().enumerate() {
        let arrivals = &world.arrivals[&(first + i as u32)];
        let got = arrivals
            .iter()
            .filter(|it| **it != u64::MAX)
            .map(|it| it - start);
        missed += n - got.clone().count();
        last.push(got.clone().max().unwrap_or(0));
        each.extend(got);
    }
    let idle = idle_bps * (world.now_ms() - start_ms) as f64 / 1000.0;
    let per = n as f64 * f64::from(count);
    Push {
        each: Spread::new(each),
        last: Spread::new(last),
        missed,
        copies: (payloads(world) - payloads_before) as f64 / per - (n - 1) as f64 / n as f64,
        bytes: ((bytes(world) - bytes_before) as f64 / n as f64 - idle) / f64::from(count),
        hops: world.nodes.iter().map(|it| it.hops_max).max().unwrap_or(0),
    }
}

/// Bytes and frames sent per node and second during `ms` in which nothing happens.
pub fn idle(world: &mut World, ms: u64) -> (f64, f64) {
    let sum = |it: &World| {
        (
            it.nodes.iter().map(|it| it.sent_bytes).sum::<u64>() as f64,
            it.nodes.iter().map(|it| it.sent_frames).sum::<u64>() as f64,
        )
    };
    let before = sum(world);
    world.run_ms(ms);
    let after = sum(world);
    let per = world.nodes.len() as f64 * ms as f64 / 1000.0;
    ((after.0 - before.0) / per, (after.1 - before.1) / per)
}

/// How deaths were seen.
#[derive(Clone, Debug, Default)]
pub struct Deaths {
    /// From each death until each living node saw it, milliseconds.
    pub each: Spread,
    /// Pairs that did not see it.
    pub missed: usize,
    /// Living nodes called down, once per node that thinks so.
    pub false_count: usize,
}

/// Kills the victims one after the other, every `every_ms`.
pub fn kill(world: &mut World, victims: &[usize], every_ms: u64) -> Deaths {
    world.seen.clear();
    let mut killed_at = vec![None; world.nodes.len()];
    let mut expected = 0;
    for victim in victims {
        killed_at[*victim] = Some(world.now_ms());
        world.kill(*victim);
        expected += world.alive().count();
        world.run_ms(every_ms);
    }
    let mut deaths = Deaths::default();
    let mut each = Vec::new();
    for seen in &world.seen {
        if let MeshOutput::Liveness {
            node,
            state: Opinion::Down,
        } = seen.output
        {
            let of = super::index(node);
            match killed_at[of] {
                Some(at) if killed_at[seen.by].is_none_or(|died| seen.at_ms < died) => {
                    each.push(seen.at_ms - at);
                }
                Some(_) => {}
                None => deaths.false_count += 1,
            }
        }
    }
    deaths.missed = usize::saturating_sub(expected, each.len());
    deaths.each = Spread::new(each);
    deaths
}

/// How often a node was called down since `seen` was cleared.
pub fn kill_count(world: &World) -> usize {
    world
        .seen
        .iter()
        .filter(|it| {
            matches!(
                it.output,
                MeshOutput::Liveness {
                    state: Opinion::Down,
                    ..
                }
            )
        })
        .count()
}

/// Pauses `who` for `pause_ms` and lets them run for `run_ms`, `rounds` times; false accusations of others.
pub fn pauses(
    world: &mut World,
    who: &BTreeSet<usize>,
    pause_ms: u64,
    run_ms: u64,
    rounds: u32,
    is_at_once: bool,
) -> usize {
    world.seen.clear();
    for _ in 0..rounds {
        for (i, node) in who.iter().enumerate() {
            world.pause(
                *node,
                pause_ms + if is_at_once { 0 } else { i as u64 * 37 % 1_000 },
            );
        }
        world.run_ms(pause_ms + run_ms);
    }
    let paused: BTreeSet<_> = who.iter().map(|it| id(*it)).collect();
    world
        .seen
        .iter()
        .filter(|it| matches!(it.output, MeshOutput::Liveness { node, state: Opinion::Down } if !paused.contains(&node)))
        .count()
}

/// What came after a partition.
#[derive(Clone, Copy, Debug, Default)]
pub struct Heal {
    /// Until all have the same statements, milliseconds.
    pub equal_ms: Option<u64>,
    /// Until everyone holds everyone for alive, milliseconds.
    pub alive_ms: Option<u64>,
    /// Dials per node since the heal.
    pub dials: f64,
}

/// Ends a partition and waits until all is well.
pub fn heal(world: &mut World, max_ms: u64) -> Heal {
    let n = world.nodes.len() as f64;
    let dials = |it: &World| it.nodes.iter().map(|it| it.dial_count).sum::<u64>();
    let (before, start) = (dials(world), world.now_ms());
    world.deaf.clear();
    world.split(|_| 0);
    let mut heal = Heal::default();
    while world.now_ms() - start < max_ms && (heal.equal_ms.is_none() || heal.alive_ms.is_none()) {
        world.run_ms(500);
        let took = world.now_ms() - start;
        if heal.equal_ms.is_none() && world.is_converged() {
            heal.equal_ms = Some(took);
        }
        if heal.alive_ms.is_none() && all_alive(world) {
            heal.alive_ms = Some(took);
        }
    }
    heal.dials = (dials(world) - before) as f64 / n;
    heal
}
