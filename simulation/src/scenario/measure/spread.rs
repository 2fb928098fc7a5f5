//! What a change costs, and what it costs when there is none.

use lab_agent_core::{Event, Reply};
use lab_crdt_model::Value;

use super::{Figure, Setup, form, percentile, watch};
use crate::World;
use crate::network::Profile;
use crate::note::What;

const EDITS: usize = 20;
/// Long enough to be pushed whole, and to drown what surrounds it.
const EDIT_BYTES: usize = 2_000;

fn bytes_out(world: &World) -> u64 {
    (0..world.len()).map(|n| world.counters(n).bytes_out).sum()
}

fn frames_out(world: &World) -> u64 {
    (0..world.len()).map(|n| world.counters(n).frames_out).sum()
}

/// Payload bytes that all nodes send in a second.
fn idle_rate(world: &mut World, ms: u64) -> u64 {
    let before = bytes_out(world);
    watch(world, ms, |_| false);
    (bytes_out(world) - before) * 1_000 / ms
}

/// Edits that change no node's config, of 2 kB each.
pub(super) fn propagation(setup: &Setup) -> Vec<Figure> {
    let mut world = form(setup);
    let admin = world.admin.clone();
    let idle = idle_rate(&mut world, 60_000);
    let (mut each, mut last, mut lost) = (Vec::new(), Vec::new(), 0);
    let (mut extra, mut elapsed) = (0, 0);
    for edit in 0..EDITS {
        let node = edit * 7 % setup.nodes;
        let path = format!("on/role=nobody/params/p{edit}");
        let value = Value::text("x".repeat(EDIT_BYTES));
        let (start, before) = (world.now(), bytes_out(&world));
        let reply = admin.set(&mut world, node, &path, value);
        let digest = world.digests(node).map(|d| d.statements);
        if !matches!(reply, Reply::Submitted { .. }) {
            lost += 1;
            continue;
        }
        let mut heard = vec![None; setup.nodes];
        let mut left = setup.nodes;
        let is_whole = watch(&mut world, 60_000, |note| {
            let What::Told(Event::IntentChanged { digest: now }) = &note.what else {
                return false;
            };
            if Some(*now) == digest && heard[note.node].is_none() {
                heard[note.node] = Some((note.at.0 - start.0) / 1_000);
                left -= 1;
            }
            left == 0
        });
        let times = heard.iter().enumerate().filter(|(n, _)| *n != node);
        let times: Vec<u64> = times.filter_map(|(_, t)| *t).collect();
        last.extend(times.iter().max().copied().filter(|_| is_whole));
        lost += u64::from(!is_whole);
        each.extend(times);
        // What repairs and confirms comes a little later and belongs to the edit as well.
        watch(&mut world, 5_000, |_| false);
        extra += bytes_out(&world) - before;
        elapsed += (world.now().0 - start.0) / 1_000_000;
    }
    each.sort_unstable();
    last.sort_unstable();
    let ms = |us: Option<u64>| us.map(|us| us.div_ceil(1_000));
    let others = (setup.nodes.max(2) - 1) as u64;
    let cost = extra.saturating_sub(idle * elapsed / 1_000) / EDITS as u64;
    let size = EDIT_BYTES as u64 + 200;
    let copies = (cost * 1_000 / (size * others)).saturating_sub(1_000);
    let is_far = matches!(
        setup.network,
        Profile::Lan | Profile::Wifi | Profile::Metro | Profile::Geography
    );
    let most = if setup.nodes > 1_000 { 2_000 } else { 1_000 };
    vec![
        Figure::time("node p50", ms(percentile(&each, 50))),
        Figure::time("node p99", ms(percentile(&each, 99))),
        Figure::time("last p50", ms(percentile(&last, 50))),
        Figure::time("last p99", ms(percentile(&last, 99))).at_most_if(
            is_far,
            most,
            &format!("{} s", most / 1_000),
        ),
        Figure::time("last max", ms(last.last().copied())),
        Figure::count("lost", lost, "").at_most(0, "0"),
        Figure::ratio("extra copies", copies).at_most_if(setup.loss_per_mille == 0, 500, "0.5"),
        Figure::count("per edit and node", cost / setup.nodes as u64, "B"),
    ]
}

/// Nothing happens for ten minutes.
pub(super) fn idle(setup: &Setup) -> Vec<Figure> {
    const MS: u64 = 600_000;
    let mut world = form(setup);
    let nodes = setup.nodes as u64;
    let (frames, steps) = (frames_out(&world), steps(&world));
    let rate = idle_rate(&mut world, MS) / nodes;
    let per_minute = |n: u64| n * 60_000 / MS / nodes;
    let most = if setup.nodes > 100 { 2_000 } else { 1_000 };
    let links: usize = (0..world.len()).map(|n| world.links(n)).sum();
    vec![
        Figure::count("sent per node", rate, "B/s")
            .at_most(most, &format!("{} kB/s", most / 1_000)),
        Figure::count("frames", per_minute(frames_out(&world) - frames), "/min"),
        Figure::count("wake-ups", per_minute(self::steps(&world) - steps), "/min"),
        Figure::count("links", links as u64 / nodes, ""),
    ]
}

fn steps(world: &World) -> u64 {
    (0..world.len()).map(|n| world.counters(n).steps).sum()
}
