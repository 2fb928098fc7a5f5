//! Meshes of many nodes in virtual time.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::world::{Options, Paths, World, id, measure};

fn world(n: usize, seed: u64) -> World {
    World::new(n, seed, Config::homelab())
}

fn downs(world: &World) -> impl Iterator<Item = (u64, usize, NodeId)> {
    world.seen.iter().filter_map(|it| match it.output {
        MeshOutput::Liveness {
            node,
            state: Opinion::Down,
        } => Some((it.at_ms, it.by, node)),
        _ => None,
    })
}

#[test]
fn two_nodes_link_and_share_a_statement() {
    let mut world = world(2, 1);
    let took = world
        .run_until(5_000, |it| it.linked().len() == 1)
        .expect("a link");
    assert!(took < 1_500, "{took} ms");
    world.run_ms(500);
    world.write(0, 1, 100);
    let took = world
        .run_until(5_000, World::is_converged)
        .expect("both have it");
    assert!(took <= 100, "{took} ms");
    assert_eq!(world.opinion(0, 1), Opinion::Alive);
}

#[test]
fn a_small_mesh_is_a_full_mesh() {
    let mut world = world(8, 2);
    let took = world.run_until(10_000, |it| it.linked().len() == 28);
    assert!(took.is_some(), "{} links", world.linked().len());
    world.run_ms(10_000);
    for node in &world.nodes {
        assert_eq!(node.mesh.gossip.neighbours().len(), 7);
    }
}

#[test]
fn a_pushed_statement_reaches_a_hundred_nodes_within_a_second() {
    let mut world = world(100, 3);
    world.run_ms(20_000);
    assert_eq!(world.components(), 1);
    for statement in 0..5 {
        world.write(statement as usize * 11, statement, 500);
        let took = world
            .run_until(10_000, World::is_converged)
            .expect("all have it");
        assert!(took <= 1_000, "{took} ms");
        world.run_ms(3_000);
    }
}

#[test]
fn a_statement_too_large_to_push_spreads_by_pulls_within_two_seconds() {
    let mut world = world(50, 4);
    world.run_ms(30_000);
    world.write(7, 1, 50_000);
    let took = world
        .run_until(10_000, World::is_converged)
        .expect("all have it");
    assert!(took <= 2_000, "{took} ms");
}

#[test]
fn losing_every_push_costs_only_latency() {
    let mut world = world(30, 5);
    world.is_push_lost = true;
    world.run_ms(30_000);
    world.write(3, 1, 100);
    let took = world
        .run_until(60_000, World::is_converged)
        .expect("all have it");
    assert!(took <= 20_000, "{took} ms");
}

#[test]
fn a_killed_node_is_seen_by_all_within_six_seconds() {
    for seed in 0..3 {
        let mut world = world(50, 100 + seed);
        world.run_ms(25_000);
        world.seen.clear();
        let victim = 13;
        world.kill(victim);
        let start = world.now_ms();
        world.run_ms(8_000);
        let mut told: Vec<u64> = downs(&world)
            .filter(|(_, _, node)| *node == id(victim))
            .map(|(at, ..)| at - start)
            .collect();
        told.sort_unstable();
        assert_eq!(told.len(), 49, "seed {seed}: all see it once");
        println!("seed {seed}: p50 {} ms, last {} ms", told[24], told[48]);
        assert!(
            told[48] <= 6_000,
            "seed {seed}: the last after {} ms",
            told[48]
        );
        assert!(
            downs(&world).all(|(_, _, node)| node == id(victim)),
            "seed {seed}"
        );
    }
}

#[test]
fn a_node_that_returns_is_alive_for_all_within_seconds() {
    let mut world = world(20, 6);
    world.run_ms(30_000);
    world.kill(4);
    world.run_ms(10_000);
    assert_eq!(world.opinion(9, 4), Opinion::Down);
    world.restart(4);
    let took = world.run_until(60_000, |it| {
        (0..20).all(|i| i == 4 || it.opinion(i, 4) == Opinion::Alive)
    });
    assert!(took.expect("all see it") <= 20_000, "{took:?}");
}

#[test]
fn sixteen_paused_nodes_of_a_hundred_bring_no_false_accusation() {
    let mut world = world(100, 7);
    world.run_ms(12_000);
    world.seen.clear();
    let paused: BTreeSet<NodeId> = (0..16).map(|i| id(i * 6)).collect();
    for ms in [400, 9_000] {
        for i in 0..16 {
            world.pause(i * 6, ms + (i as u64 * 37) % 100);
        }
        world.run_ms(ms + 5_000);
    }
    let (right, wrong): (Vec<_>, Vec<_>) =
        downs(&world).partition(|(_, _, node)| paused.contains(node));
    assert!(wrong.is_empty(), "{wrong:?}");
    assert!(
        right.len() >= 16 * 84,
        "the long pauses are noticed: {}",
        right.len()
    );
    for i in 0..100 {
        for j in (0..100).step_by(6) {
            assert!(
                i == j || world.opinion(i, j) == Opinion::Alive,
                "{i} of {j}"
            );
        }
    }
}

#[test]
fn a_partition_of_half_an_hour_heals_within_a_minute() {
    for (n, at) in [(2, 1), (7, 3), (16, 8)] {
        let mut world = world(n, 8 + n as u64 + at as u64);
        world.run_ms(30_000);
        world.split(|i| u8::from(i >= at));
        world.run_ms(10_000);
        world.write(0, 1, 100);
        world.write(n - 1, 2, 100);
        world.run_ms(30 * 60_000);
        assert!(!world.is_converged());
        assert_eq!(world.opinion(0, n - 1), Opinion::Down);
        world.split(|_| 0);
        let took = world
            .run_until(300_000, World::is_converged)
            .expect("the replicas meet");
        assert!(
            took <= 60_000,
            "{n} nodes cut at {at}: equal after {took} ms"
        );
        let all_alive = |it: &World| {
            (0..n).all(|i| (0..n).all(|j| i == j || it.opinion(i, j) == Opinion::Alive))
        };
        assert!(
            world.run_until(60_000, all_alive).is_some(),
            "{n} nodes cut at {at}: all alive"
        );
        assert_eq!(world.components(), 1);
    }
}

#[test]
fn an_idle_mesh_of_a_hundred_costs_less_than_a_kilobyte_per_second() {
    let mut world = world(100, 9);
    // A beacon per node every 3 s times the number of nodes is what the mesh is dimensioned for.
    world.beacon_ms = 300_000;
    world.run_ms(60_000);
    let before: Vec<(u64, u64)> = world
        .nodes
        .iter()
        .map(|it| (it.sent_bytes, it.sent_frames))
        .collect();
    world.run_ms(60_000);
    let rate = |i: usize| (world.nodes[i].sent_bytes - before[i].0) / 60;
    let mean = (0..100).map(rate).sum::<u64>() / 100;
    let frames: u64 = (0..100)
        .map(|i| world.nodes[i].sent_frames - before[i].1)
        .sum();
    println!(
        "idle: {mean} B/s per node sent, {:.2} frames/s",
        frames as f64 / 6_000.0
    );
    assert!(
        mean <= 700,
        "with beacons, packets and acknowledgements: {mean} B/s sent"
    );
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let run = |seed| {
        let mut world = world(16, seed);
        world.is_traced = true;
        world.run_ms(10_000);
        world.write(1, 1, 200);
        world.kill(5);
        world.split(|i| u8::from(i > 10));
        world.run_ms(30_000);
        world.split(|_| 0);
        world.restart(5);
        world.write(2, 2, 20_000);
        world.run_ms(30_000);
        world.trace
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn broken_links_come_back() {
    let mut world = world(12, 10);
    world.run_ms(30_000);
    for round in 0..20u32 {
        for (a, b) in world.linked() {
            if (a + b + round as usize).is_multiple_of(3) {
                world.break_link(a, b);
            }
        }
        world.write(round as usize % 12, round, 100);
        world.run_ms(1_000);
    }
    assert!(world.run_until(30_000, World::is_converged).is_some());
    world.run_ms(30_000);
    assert_eq!(world.components(), 1);
    assert_eq!(downs(&world).count(), 0, "a lost link is not a lost node");
}

#[test]
fn a_node_that_stops_is_down_for_all_within_two_seconds() {
    let mut world = world(20, 11);
    world.run_ms(20_000);
    world.input(3, MeshInput::Stop);
    world.run_ms(50);
    world.kill(3);
    let all_down = |it: &World| (0..20).all(|i| i == 3 || it.opinion(i, 3) == Opinion::Down);
    let took = world.run_until(10_000, all_down).expect("all see it");
    assert!(took <= 2_000, "{took} ms");
}

fn earth(count: usize, seed: u64, beacon_ms: u64, loss_per_mille: u64) -> World {
    World::with(Options {
        count,
        seed,
        config: Config::homelab(),
        paths: Paths::earth(loss_per_mille),
        beacon_ms,
        start_ms: 1_000,
    })
}

#[test]
fn over_the_earth_and_with_losses_a_change_reaches_all_within_a_second() {
    let mut world = earth(100, 20, 0, 20);
    world.run_ms(10_000);
    let small = measure::push(&mut world, 100, 10, 400, 1_500, 0.0);
    let large = measure::push(&mut world, 200, 10, 3_000, 1_500, 0.0);
    println!("{small:?} {large:?}");
    for push in [&small, &large] {
        assert_eq!(push.missed, 0);
        assert!(push.last.at(1_000) <= 1_000, "{} ms", push.last.at(1_000));
    }
    assert!(large.copies < 0.5, "{} copies", large.copies);
}

#[test]
fn nodes_that_start_at_once_open_few_links_and_soon_know_that_all_live() {
    let mut world = earth(80, 21, 0, 20);
    let start = measure::start(&mut world, 12_000);
    println!("{start:?}");
    assert!(
        start.links_max <= 20,
        "{} links at one node",
        start.links_max
    );
    assert!(start.dials <= 8.0, "{} dials per node", start.dials);
    assert!(
        start.alive_ms.is_some_and(|ms| ms <= 10_000),
        "{:?}",
        start.alive_ms
    );
}

#[test]
fn who_starts_among_many_that_start_is_not_accused() {
    let mut world = World::with(Options {
        count: 60,
        seed: 24,
        config: Config::homelab(),
        paths: Paths::near(),
        beacon_ms: 180_000,
        start_ms: 6_000,
    });
    world.run_ms(40_000);
    // Who hears that it is suspected, refutes it.
    let doubts = world.seen.iter().filter(|it| {
        matches!(
            it.output,
            MeshOutput::RefuteSuspicion | MeshOutput::Liveness { .. }
        )
    });
    assert_eq!(doubts.count(), 0);
    assert!(measure::all_alive(&world));
}

#[test]
fn the_last_two_of_nine_find_each_other_within_a_minute() {
    for seed in 0..12 {
        let mut world = world(9, 900 + seed);
        world.run_ms(30_000);
        (2..9).for_each(|node| world.kill(node));
        world.split(|i| u8::from(i > 0));
        world.run_ms(10 * 60_000);
        assert_eq!(world.opinion(0, 1), Opinion::Down);
        world.split(|_| 0);
        let meet = |it: &World| it.opinion(0, 1) == Opinion::Alive;
        assert!(world.run_until(60_000, meet).is_some(), "seed {seed}");
    }
}

#[test]
fn a_dial_that_failed_says_nothing_about_who_was_heard_since_it_began() {
    let config = Config::homelab();
    let at = |s: u64| Mono(0).plus_ms(s * 1_000);
    let mut live = Liveness::new(id(0), ChaCha12Rng::from_seed([1; 32]), 0, at(0));
    let members = (0..20).map(id).collect();
    live.roster.replace(Arc::new(members), at(0));
    live.beacon(id(2), 1, false, at(40));
    live.dial_failed(id(2), at(36), &config, at(50));
    assert_eq!(live.opinion(&id(2)), Opinion::Alive);
    live.dial_failed(id(2), at(51), &config, at(55));
    assert_eq!(live.opinion(&id(2)), Opinion::Suspect);
}

#[test]
fn a_dial_that_failed_says_nothing_about_strangers_while_all_may_be_starting() {
    let config = Config::homelab();
    let at = |s: u64| Mono(0).plus_ms(s * 1_000);
    for (count, early) in [(20, Opinion::Unknown), (5, Opinion::Down)] {
        let mut live = Liveness::new(id(0), ChaCha12Rng::from_seed([1; 32]), 0, at(0));
        let members = (0..count).map(id).collect();
        live.roster.replace(Arc::new(members), at(0));
        live.dial_failed(id(1), at(1), &config, at(5));
        assert_eq!(live.opinion(&id(1)), early, "one of {count}");
        live.dial_failed(id(1), at(40), &config, at(44));
        assert_eq!(live.opinion(&id(1)), Opinion::Down);
    }
}

#[test]
fn when_all_reboot_at_once_each_dials_a_few_times() {
    let mut world = earth(40, 22, 0, 20);
    world.run_ms(10_000);
    (0..40).for_each(|node| world.kill(node));
    world.run_ms(5_000);
    (0..40).for_each(|node| world.restart(node));
    let back = measure::heal(&mut world, 60_000);
    let dials: u64 = world.nodes.iter().map(|it| it.dial_count).sum();
    assert!(back.alive_ms.is_some_and(|ms| ms <= 15_000), "{back:?}");
    assert!(dials <= 40 * 9, "{dials} dials");
}

#[test]
fn heavy_loss_brings_no_false_accusation() {
    let mut world = earth(50, 23, 0, 150);
    world.run_ms(70_000);
    assert_eq!(measure::kill_count(&world), 0);
}

#[test]
fn one_that_cannot_send_is_back_soon_after_it_can() {
    let mut world = earth(24, 24, 60_000, 0);
    world.run_ms(10_000);
    world.deaf = (1..24).map(|to| (0, to)).collect();
    world.split(|_| 0);
    world.run_ms(120_000);
    world.write(0, 1, 100);
    world.write(9, 2, 100);
    let heal = measure::heal(&mut world, 60_000);
    assert!(
        heal.equal_ms.is_some() && heal.alive_ms.is_some(),
        "{heal:?}"
    );
}

#[test]
fn a_view_of_thousands_leaves_no_room_behind() {
    let members: Arc<BTreeSet<NodeId>> = Arc::new((0..5_000).map(id).collect());
    let mut mesh = Mesh::new(id(0), Config::homelab(), [5; 32], Now::default());
    let mut say = |input| {
        mesh.handle(Now::default(), input);
        let count = std::iter::from_fn(|| mesh.poll()).count();
        (count, mesh.outbox.capacity(), mesh.live.roster.digest())
    };
    let (_, _, roster) = say(MeshInput::Roster { members });
    let peer = id(1);
    say(MeshInput::LinkUp {
        peer,
        address: None,
    });
    let mut told = |alive: &[u8], down: &[u8]| {
        let view = View {
            roster,
            alive: Bytes::copy_from_slice(alive),
            down: Bytes::copy_from_slice(down),
        };
        say(MeshInput::Frame {
            from: peer,
            lane: Lane::Control,
            bytes: Message::View(view).encode(),
        })
    };
    let (count, ..) = told(&[255; 125], &[]);
    assert!(count < 10, "who lives is told at once, not {count} times");
    let (count, capacity, _) = told(&[], &[255; 625]);
    assert!(count >= 3_990, "{count}");
    assert!(capacity <= 2 * OUTBOX_KEPT, "{capacity}");
}

#[test]
fn what_is_overdue_is_no_pause() {
    let mut world = world(20, 25);
    world.run_ms(20_000);
    for node in 0..20 {
        assert_eq!(world.nodes[node].mesh.counts().health, 0, "node {node}");
    }
}

#[test]
fn those_who_return_are_not_swamped_by_all_others() {
    let mut world = earth(100, 26, 0, 0);
    world.run_ms(10_000);
    (0..4).for_each(|node| world.pause(node * 20, 20_000));
    world.run_ms(20_000);
    let mut links_max = 0;
    for _ in 0..40 {
        world.run_ms(250);
        let links = (0..4).map(|node| world.nodes[node * 20].mesh.link_count());
        links_max = links_max.max(links.max().unwrap_or(0));
    }
    assert!(links_max <= 20, "{links_max} links");
    let dials: u64 = world.nodes.iter().map(|it| it.dial_count).sum();
    assert!(dials < 100 * 9, "{dials} dials");
}

#[test]
fn however_many_watch_a_dead_node_few_accuse_it() {
    let config = Config {
        full_mesh_max: 30,
        ..Config::homelab()
    };
    let mut world = World::with(Options {
        count: 24,
        seed: 27,
        config,
        paths: Paths::near(),
        beacon_ms: 0,
        start_ms: 200,
    });
    world.run_ms(10_000);
    let payloads = |it: &World| it.nodes.iter().map(|it| it.payload_count).sum::<u64>();
    let before = payloads(&world);
    world.kill(3);
    world.run_ms(8_000);
    assert_eq!(downs(&world).count(), 23);
    // Each content reaches each node over every tie.
    let contents = (payloads(&world) - before) / (23 * 21);
    assert!(contents <= 10, "{contents} accusations and verdicts");
}

/// One mesh with a linked peer that a test plays itself.
struct Pair {
    mesh: Mesh,
    now: Now,
    peer: NodeId,
}

impl Pair {
    fn new() -> Self {
        let (now, peer) = (Now::default(), id(1));
        let mut mesh = Mesh::new(id(0), Config::homelab(), [5; 32], now);
        mesh.handle(
            now,
            MeshInput::Roster {
                members: Arc::new([peer].into()),
            },
        );
        mesh.handle(
            now,
            MeshInput::LinkUp {
                peer,
                address: None,
            },
        );
        let mut pair = Self { mesh, now, peer };
        pair.outputs();
        pair
    }

    fn outputs(&mut self) -> Vec<MeshOutput> {
        std::iter::from_fn(|| self.mesh.poll()).collect()
    }

    fn input(&mut self, input: MeshInput) -> Vec<MeshOutput> {
        self.mesh.handle(self.now, input);
        self.outputs()
    }

    fn frame(&mut self, bytes: Bytes) -> Vec<MeshOutput> {
        self.input(MeshInput::Frame {
            from: self.peer,
            lane: Lane::Control,
            bytes,
        })
    }

    fn ping(&mut self, statements: [u8; 32]) -> Vec<MeshOutput> {
        let digests = Some(Digests {
            statements,
            registers: [0; 32],
        });
        self.frame(Message::Ping(Ping { seq: 1, digests }).encode())
    }

    /// Goes through every deadline of the next `ms`.
    fn run_ms(&mut self, ms: u64) -> Vec<MeshOutput> {
        let end = self.now.mono.plus_ms(ms);
        let mut out = Vec::new();
        while let Some(due) = self.mesh.deadline().filter(|it| it.at <= end) {
            assert!(due.at >= self.now.mono, "{due:?} lies in the past");
            self.now.mono = due.at;
            out.extend(self.input(MeshInput::Wake));
        }
        self.now.mono = end;
        out
    }
}

#[test]
fn a_peer_that_stays_unequal_is_reported_once_with_both_digests() {
    let mut pair = Pair::new();
    pair.input(MeshInput::Digests {
        statements: [1; 32],
        registers: [0; 32],
    });
    let mut seen = Vec::new();
    for _ in 0..90 {
        seen.extend(pair.ping([2; 32]));
        seen.extend(pair.run_ms(2_000));
    }
    let diverged: Vec<_> = seen
        .iter()
        .filter(|it| matches!(it, MeshOutput::Diverged { .. }))
        .collect();
    let (ours, theirs) = ([1; 32], [2; 32]);
    assert_eq!(
        diverged,
        [&MeshOutput::Diverged {
            peer: pair.peer,
            ours,
            theirs
        }]
    );
    let opened = seen
        .iter()
        .filter(|it| matches!(it, MeshOutput::SyncOpen { .. }))
        .count();
    assert!(
        (8..=40).contains(&opened),
        "it kept pulling, ever slower: {opened}"
    );
    assert_eq!(pair.mesh.peers(pair.now)[0].is_equal, Some(false));
    pair.ping([1; 32]);
    assert_eq!(pair.mesh.peers(pair.now)[0].is_equal, Some(true));
}

#[test]
fn equal_digests_start_no_exchange() {
    let mut pair = Pair::new();
    pair.input(MeshInput::Digests {
        statements: [1; 32],
        registers: [0; 32],
    });
    let mut seen = pair.ping([1; 32]);
    seen.extend(pair.run_ms(2_000));
    assert!(
        !seen
            .iter()
            .any(|it| matches!(it, MeshOutput::SyncOpen { .. }))
    );
}

#[test]
fn a_large_payload_becomes_a_hint_that_makes_the_peer_pull() {
    let mut pair = Pair::new();
    pair.input(MeshInput::Digests {
        statements: [1; 32],
        registers: [0; 32],
    });
    pair.input(MeshInput::Broadcast {
        payload: vec![0; PUSH_BYTES_MAX + 1].into(),
    });
    let out = pair.run_ms(100);
    let [MeshOutput::Send { bytes, .. }] = &out[..] else {
        panic!("{out:?}")
    };
    let Ok(Message::Announce(announce)) = Message::decode(bytes) else {
        panic!("{bytes:?}")
    };
    assert!(announce.is_pull);

    let mut other = Pair::new();
    other.frame(bytes.clone());
    let out = other.run_ms(100);
    assert!(
        out.contains(&MeshOutput::SyncOpen { peer: other.peer }),
        "{out:?}"
    );
}

#[test]
fn bulk_keeps_to_its_budget_and_drops_what_does_not_fit() {
    let mut pair = Pair::new();
    let message = Bytes::from(vec![0; 1_000_000]);
    let messages = vec![message; 30];
    let to = pair.peer;
    let at_once = pair.input(MeshInput::SyncReply { to, messages });
    let count = |out: &[MeshOutput]| {
        out.iter()
            .filter(|it| {
                matches!(
                    it,
                    MeshOutput::Send {
                        lane: Lane::Bulk,
                        ..
                    }
                )
            })
            .count()
    };
    assert_eq!(count(&at_once), 4, "the burst");
    assert!(pair.mesh.counts().dropped_sync >= 10);
    let later = count(&pair.run_ms(500));
    assert!(
        (7..=9).contains(&later),
        "{later} MB in half a second at 16 MiB/s"
    );
}

#[test]
fn a_removed_member_loses_its_link_as_revoked() {
    let mut pair = Pair::new();
    let peer = pair.peer;
    let out = pair.input(MeshInput::Roster {
        members: Arc::default(),
    });
    assert!(out.contains(&MeshOutput::Hangup {
        peer,
        why: Reason::Revoked
    }));
    let out = pair.input(MeshInput::LinkUp {
        peer,
        address: None,
    });
    assert_eq!(
        out,
        [MeshOutput::Hangup {
            peer,
            why: Reason::NotAMember
        }]
    );
}

#[test]
fn a_blocked_peer_is_neither_linked_nor_dialled() {
    let mut pair = Pair::new();
    let peer = pair.peer;
    let out = pair.input(MeshInput::Block([peer].into()));
    assert!(out.contains(&MeshOutput::Hangup {
        peer,
        why: Reason::Done
    }));
    let out = pair.run_ms(300_000);
    assert!(
        !out.iter().any(|it| matches!(it, MeshOutput::Dial { .. })),
        "{out:?}"
    );
    let out = pair.input(MeshInput::Block(BTreeSet::new()));
    assert!(
        out.iter().any(|it| matches!(it, MeshOutput::Dial { .. })),
        "{out:?}"
    );
}

#[test]
fn a_blocked_peer_is_soon_believed_down() {
    let mut pair = Pair::new();
    let peer = pair.peer;
    pair.input(MeshInput::Block([peer].into()));
    let out = pair.run_ms(15_000);
    assert!(
        out.contains(&MeshOutput::Liveness {
            node: peer,
            state: Opinion::Down
        }),
        "{out:?}"
    );
}

#[test]
fn failed_dials_slow_down_but_never_end() {
    let mut pair = Pair::new();
    let peer = pair.peer;
    pair.input(MeshInput::LinkDown {
        peer,
        why: "test".to_owned(),
    });
    let (mut dials, mut hour) = (0, 0);
    while hour < 3_600 {
        for out in pair.run_ms(1_000) {
            if matches!(out, MeshOutput::Dial { .. }) {
                dials += 1;
                pair.input(MeshInput::DialFailed {
                    peer,
                    why: "test".to_owned(),
                });
            }
        }
        hour += 1;
    }
    assert!((60..=180).contains(&dials), "{dials} dials in an hour");
}

#[test]
fn a_node_that_was_paused_accuses_nobody_on_waking() {
    let mut pair = Pair::new();
    pair.ping([0; 32]);
    pair.now.mono = pair.now.mono.plus_ms(60_000);
    let out = pair.input(MeshInput::Wake);
    assert!(
        !out.iter()
            .any(|it| matches!(it, MeshOutput::Liveness { .. })),
        "{out:?}"
    );
    assert!(pair.mesh.counts().health > 0);
}

/// A machine that was paused for long pulled what a peer had said before it died, and took the dead for alive.
#[test]
fn an_old_beacon_brings_no_dead_node_back_to_life() {
    for (is_pulled, expected) in [(true, Opinion::Unknown), (false, Opinion::Alive)] {
        let mut pair = Pair::new();
        let (peer, dead) = (pair.peer, id(2));
        pair.input(MeshInput::Roster {
            members: Arc::new([peer, dead].into()),
        });
        pair.input(MeshInput::DialFailed {
            peer: dead,
            why: "test".to_owned(),
        });
        assert_eq!(pair.mesh.opinion(&dead), Opinion::Down);

        let out = pair.input(MeshInput::Beacon {
            node: dead,
            counter: 7,
            pulled_from: is_pulled.then_some(peer),
        });

        assert!(
            out.contains(&MeshOutput::Liveness {
                node: dead,
                state: expected
            }),
            "{out:?}"
        );
        let asks = pair.run_ms(1_000).into_iter().any(
            |it| matches!(it, MeshOutput::Send { to, bytes, .. } if to == peer && bytes == Message::AskView.encode()),
        );
        assert_eq!(asks, is_pulled);
    }
}

/// Of nine, those who are no neighbours are not dialled after a pause: one that died meanwhile stayed alive for minutes.
#[test]
fn after_a_long_pause_a_peer_is_asked_who_lives() {
    for (pause_ms, expected) in [(5_000, Opinion::Alive), (60_000, Opinion::Unknown)] {
        let mut pair = Pair::new();
        let (peer, other) = (pair.peer, id(2));
        pair.input(MeshInput::Roster {
            members: Arc::new([peer, other].into()),
        });
        pair.input(MeshInput::Beacon {
            node: other,
            counter: 7,
            pulled_from: None,
        });
        pair.now.mono = pair.now.mono.plus_ms(pause_ms);

        pair.input(MeshInput::Wake);

        assert_eq!(pair.mesh.opinion(&other), expected);
        for (counter, pulled_from) in [(8, Some(peer)), (9, None)] {
            pair.input(MeshInput::Beacon {
                node: other,
                counter,
                pulled_from,
            });
            assert_eq!(pair.mesh.opinion(&other), expected, "that may be older");
        }
        let asks = pair.run_ms(1_000).into_iter().any(
            |it| matches!(it, MeshOutput::Send { to, bytes, .. } if to == peer && bytes == Message::AskView.encode()),
        );
        assert_eq!(asks, expected == Opinion::Unknown);
    }
}

#[test]
fn a_suspected_node_is_asked_to_refute_but_not_for_every_word() {
    let mut pair = Pair::new();
    let suspect = |seq| Content::Suspect {
        node: id(0),
        counter: 0,
        by: id(1),
        seq,
    };
    let now = pair.now.mono;
    for seq in 0..10 {
        let config = Config::homelab();
        pair.mesh.live.told(&suspect(seq), &config, now);
    }
    let out = pair.input(MeshInput::Wake);
    assert_eq!(
        out.iter()
            .filter(|it| **it == MeshOutput::RefuteSuspicion)
            .count(),
        1
    );
}

#[test]
fn unreadable_frames_close_the_link_and_unknown_kinds_do_not() {
    let mut pair = Pair::new();
    for _ in 0..1_000 {
        assert_eq!(pair.frame(Bytes::from_static(&[1, 200, 1, 2, 3])), []);
        assert_eq!(pair.frame(Bytes::from_static(&[9])).len(), 0);
        if pair.mesh.counts().bad_frames == u64::from(BAD_FRAMES_MAX) - 1 {
            break;
        }
    }
    let out = pair.frame(Bytes::from_static(&[1, 2]));
    assert!(out.contains(&MeshOutput::Hangup {
        peer: pair.peer,
        why: Reason::Protocol
    }));
}

#[test]
fn a_flood_of_announced_ids_is_rationed() {
    let mut pair = Pair::new();
    for n in 0..100_000u32 / 256 {
        let ids = (0..256u32).map(|i| {
            let mut id = [0; 32];
            id[..4].copy_from_slice(&(n * 256 + i).to_be_bytes());
            (id, 1)
        });
        pair.frame(Message::Overlay(Overlay::Push(Push::IHave(ids.collect()))).encode());
    }
    assert!(pair.mesh.counts().rationed > 300);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_frame_of_a_peer_panics_or_stops_the_clock(
        frames in proptest::collection::vec(
            (0u8..9, proptest::collection::vec(any::<u8>(), 0..80), 0u64..3_000),
            1..60,
        ),
    ) {
        let mut pair = Pair::new();
        for (kind, body, ms) in frames {
            let mut bytes = vec![1, kind];
            bytes.extend(body);
            pair.frame(bytes.into());
            pair.run_ms(ms);
        }
    }

    #[test]
    fn no_overlay_message_panics(
        messages in proptest::collection::vec(
            (0u8..2, 0u8..6, proptest::collection::vec(0u8..3, 0..110)),
            1..60,
        ),
    ) {
        let mut pair = Pair::new();
        for (layer, kind, body) in messages {
            let mut bytes = vec![1, 5, layer, kind];
            bytes.extend(body);
            pair.frame(bytes.into());
            pair.run_ms(100);
        }
    }
}
