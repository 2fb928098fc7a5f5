//! Prints what a mesh does in virtual time: `mesh_world [count ...] [--seed n] [--quick] [--near] [--only part]`, where
//! part is one of push, pause, loss, kill, heal, boot; or what frames cost in real time: `mesh_world --costs`.
#![expect(clippy::print_stdout, reason = "an example that prints a table")]

use std::collections::BTreeSet;
use std::sync::Arc;

use lab_crdt_model::link::Lane;
use lab_crdt_model::{Mono, Now};

use lab_mesh_proto::world::measure::{self, Heal};
use lab_mesh_proto::world::{Options, Paths, World, id};
use lab_mesh_proto::{Config, Mesh, MeshInput, MeshOutput};

fn main() {
    let mut counts = Vec::new();
    let (mut seed, mut is_quick, mut is_near, mut only) = (1, false, false, None);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--seed" => seed = args.next().and_then(|it| it.parse().ok()).unwrap_or(1),
            "--only" => only = args.next(),
            "--quick" => is_quick = true,
            "--costs" => return costs(),
            "--near" => is_near = true,
            other => counts.extend(other.parse::<usize>()),
        }
    }
    if counts.is_empty() {
        counts = vec![25, 100];
    }
    for count in counts {
        let places: &[(&str, Paths)] = &[
            ("near 1-20 ms, 0 %", Paths::near()),
            ("earth 2-135 ms, 2 %", Paths::earth(20)),
        ];
        for (name, paths) in places {
            if (*name == places[0].0) == is_near {
                measure_all(count, seed, name, paths, is_quick, only.as_deref());
            }
        }
    }
}

fn measure_all(
    count: usize,
    seed: u64,
    name: &str,
    paths: &Paths,
    is_quick: bool,
    only: Option<&str>,
) {
    let is_wanted = |what: &str| only.is_none_or(|it| it == what);
    let world = |paths: &Paths| {
        World::with(Options {
            count,
            seed,
            config: Config::homelab(),
            paths: paths.clone(),
            // What the agent does: so that all together send one in 3 s.
            beacon_ms: if count > 2_000 {
                0
            } else {
                3_000 * count as u64
            },
            start_ms: 1_000,
        })
    };
    println!("== {count} nodes, {name}, seed {seed}");
    let mut it = world(paths);
    let start = measure::start(&mut it, 40_000);
    println!(
        "start: at most {} links, {:.1} dials per node, {:.2} links per node later, all alive after {:?} ms",
        start.links_max, start.dials, start.links, start.alive_ms
    );
    if let Ok(status) = std::fs::read_to_string("/proc/self/status")
        && let Some(line) = status.lines().find(|it| it.starts_with("VmRSS"))
    {
        println!("memory of the process: {line}");
    }
    let (bps, fps) = measure::idle(&mut it, 60_000);
    println!("idle: {bps:.0} B/s and {fps:.2} frames/s sent per node");
    if is_wanted("push") {
        for (first, len) in [(1_000, 400), (2_000, 3_000)] {
            let writes = if is_quick { 20 } else { 100 };
            let push = measure::push(&mut it, first, writes, len, 2_500, bps);
            println!(
                "push of {len} B: each p50 {} p99 {} ms, last p50 {} p99 {} max {} ms, missed {}, {:.2} copies, {} hops, {:.0} B per node",
                push.each.at(500),
                push.each.at(990),
                push.last.at(500),
                push.last.at(990),
                push.last.at(1000),
                push.missed,
                push.copies,
                push.hops,
                push.bytes
            );
        }
    }
    if is_wanted("pause") && count >= 25 {
        for (at_once, ms) in [(false, 32_000), (true, 32_000), (false, 4_000)] {
            let paused: BTreeSet<usize> = (0..(count * 16 / 100).min(16))
                .map(|i| i * (count / 16).max(1))
                .collect();
            let rounds = if is_quick { 2 } else { 5 };
            let wrong = measure::pauses(&mut it, &paused, ms, 10_000, rounds, at_once);
            println!(
                "{} nodes paused for {ms} ms, {rounds} times, at once {at_once}: {wrong} false",
                paused.len()
            );
        }
        it.run_ms(30_000);
    }
    if is_wanted("loss") {
        let former = it.paths.loss_per_mille;
        it.paths.loss_per_mille = 150;
        it.seen.clear();
        let deaths = measure::kill(&mut it, &[], 0);
        it.run_ms(120_000);
        let late = measure::kill_count(&it);
        println!(
            "15 % loss for two minutes: {} false",
            deaths.false_count + late
        );
        it.paths.loss_per_mille = former;
        it.run_ms(10_000);
    }
    if is_wanted("kill") {
        let kills = if is_quick { 3 } else { 10.min(count / 4) };
        let victims: Vec<usize> = (0..kills).map(|i| (i * 37 + 5) % count).collect();
        let deaths = measure::kill(&mut it, &victims, 15_000);
        println!(
            "death: p50 {} p99 {} max {} ms, unseen {}, false {}",
            deaths.each.at(500),
            deaths.each.at(990),
            deaths.each.at(1000),
            deaths.missed,
            deaths.false_count
        );
        for victim in victims {
            it.restart(victim);
        }
        let back = measure::heal(&mut it, 60_000);
        println!("return: all alive after {:?} ms", back.alive_ms);
    }
    if is_wanted("heal") {
        let minutes = if count >= 1_000 { 5 } else { 30 };
        let show = |name: &str, heal: Heal| {
            println!(
                "{name} for {minutes} min: equal after {:?}, all alive after {:?} ms, {:.1} dials per node",
                heal.equal_ms, heal.alive_ms, heal.dials
            );
        };
        let half = count / 2;
        let split = |it: &mut World, side: &dyn Fn(usize) -> u8, key: u32| {
            it.split(side);
            it.run_ms(10_000);
            it.write(0, key, 100);
            it.write(count - 1, key + 1, 100);
            it.run_ms(minutes * 60_000);
            measure::heal(it, 300_000)
        };
        let heal = split(&mut it, &|i| u8::from(i >= half), 1);
        show("halves", heal);
        if !is_quick {
            let heal = split(&mut it, &|i| (i * 3 / count) as u8, 3);
            show("thirds", heal);
            let heal = split(&mut it, &|i| u8::from(i == count - 1), 5);
            show("one alone", heal);
            it.deaf = (1..count).map(|i| (0, i)).collect();
            let heal = split(&mut it, &|_| 0, 7);
            show("one that cannot send", heal);
        }
    }
    if is_wanted("boot") {
        for node in 0..count {
            it.kill(node);
        }
        it.run_ms(5_000);
        for node in 0..count {
            it.restart(node);
        }
        let back = measure::heal(&mut it, 120_000);
        let dials: u64 = it.nodes.iter().map(|it| it.dial_count).sum();
        println!(
            "all rebooted: all alive after {:?} ms, {:.1} dials per node",
            back.alive_ms,
            dials as f64 / count as f64
        );
    }
}

/// Microseconds of one node's work per frame, with outputs taken.
#[expect(clippy::disallowed_methods, reason = "it measures real time")]
fn costs() {
    for members in [100, 10_000] {
        let roster: Arc<BTreeSet<_>> = Arc::new((0..members).map(id).collect());
        let mut now = Now::default();
        let mut mesh = Mesh::new(id(0), Config::homelab(), [1; 32], now);
        let take = |mesh: &mut Mesh, now: Now, input: MeshInput| {
            mesh.handle(now, input);
            std::iter::from_fn(|| mesh.poll())
                .filter(|it| matches!(it, MeshOutput::Send { .. }))
                .count()
        };
        let start = std::time::Instant::now();
        take(
            &mut mesh,
            now,
            MeshInput::Roster {
                members: Arc::clone(&roster),
            },
        );
        println!("{members} members: first roster {:?}", start.elapsed());
        for peer in 1..=5 {
            let up = MeshInput::LinkUp {
                peer: id(peer),
                address: None,
            };
            take(&mut mesh, now, up);
            // It asks to be a neighbour.
            frame(&mut mesh, now, peer, vec![1, 5, 0, 0, 0], &take);
        }
        let count = 200_000_u32;
        for (what, make) in frames() {
            let mut frames = (0..count).map(make).collect::<Vec<_>>().into_iter();
            let start = std::time::Instant::now();
            let mut sent = 0;
            for n in 0..count {
                now.mono = Mono(now.mono.0 + 10_000_000);
                let peer = 1 + n as usize % 5;
                sent += frame(
                    &mut mesh,
                    now,
                    peer,
                    frames.next().unwrap_or_default(),
                    &take,
                );
            }
            let us = start.elapsed().as_secs_f64() * 1e6 / f64::from(count);
            println!(
                "{members} members: {what} {us:.2} us, {:.2} frames sent",
                f64::from(sent as u32) / f64::from(count)
            );
        }
    }
}

type Make = fn(u32) -> Vec<u8>;

fn frames() -> [(&'static str, Make); 3] {
    [
        ("ping", |n| vec![1, 2, (n % 128) as u8, 0]),
        ("announced id", |n| {
            let mut frame = vec![1, 5, 1, 3, 1];
            frame.extend_from_slice(&n.to_be_bytes().repeat(8));
            frame.push(1);
            frame
        }),
        ("payload of 400 B", |n| {
            let mut content = vec![0, 0x8d, 3];
            content.extend_from_slice(&n.to_be_bytes().repeat(100)[..397]);
            let mut frame = vec![1, 5, 1, 0];
            frame.extend_from_slice(blake3::hash(&content).as_bytes());
            frame.extend_from_slice(&[0x90, 3]);
            frame.extend_from_slice(&content);
            frame.extend_from_slice(&[0, 0]);
            frame
        }),
    ]
}

fn frame(
    mesh: &mut Mesh,
    now: Now,
    peer: usize,
    bytes: Vec<u8>,
    take: &impl Fn(&mut Mesh, Now, MeshInput) -> usize,
) -> usize {
    let (from, lane, bytes) = (id(peer), Lane::Control, bytes.into());
    take(mesh, now, MeshInput::Frame { from, lane, bytes })
}
