//! Draws what goes wrong.

use std::collections::BTreeSet;

use super::Choose;
use crate::plan::{
    Act, Action, Bias, ClockFault, DiskFault, Family, Fault, NetworkFault, Paths, Plan,
    ProcessFault, Scope, Trouble,
};
use crate::seed::Rng;

/// Adds faults of the families that the plan has, all during chaos.
pub(super) fn add(dice: &mut Rng, plan: &mut Plan, rotten: &BTreeSet<usize>) {
    let nodes = plan.options.nodes;
    let most = match nodes {
        0..=10 => 3,
        11..=100 => 6,
        101..=2_000 => 12,
        _ => 24,
    };
    for family in plan.options.families.clone() {
        for _ in 0..dice.range(1..most + 1) {
            let for_ms = length(dice);
            let drawn = match family {
                Family::Partition => Some((vec![], Trouble::Network(partition(dice, nodes)))),
                Family::Grey => Some((vec![], Trouble::Network(grey(dice, nodes)))),
                Family::Nat => Some((vec![], Trouble::Network(routers(dice, nodes)))),
                Family::Crash => Some(crash(dice, nodes, for_ms)),
                Family::Pause => Some(pause(dice, nodes, for_ms)),
                Family::DiskError => {
                    Some((some(dice, nodes, 300), Trouble::Disk(disk_error(dice))))
                }
                Family::DiskLie => {
                    one_of(dice, rotten).map(|n| (vec![n], Trouble::Disk(disk_lie(dice))))
                }
                Family::Clock => Some((some(dice, nodes, 300), Trouble::Clock(clock(dice)))),
                Family::Adversary | Family::Future => None,
            };
            let Some((of, what)) = drawn else { continue };
            let at_ms = dice.range(plan.phases.chaos_at()..plan.phases.core_at());
            plan.faults.push(Fault {
                at_ms,
                plus_us: 0,
                for_ms,
                nodes: of,
                what,
            });
        }
    }
}

/// Most faults are short, some outlast chaos.
fn length(dice: &mut Rng) -> u64 {
    match dice.below(10) {
        0..=2 => dice.range(10..1_000),
        3..=6 => dice.range(1_000..20_000),
        7..=8 => dice.range(20_000..90_000),
        _ => 3_600_000,
    }
}

/// Up to so many nodes in a thousand, at least one.
fn some(dice: &mut Rng, nodes: usize, per_mille: u64) -> Vec<usize> {
    let most = (nodes as u64 * per_mille / 1_000).max(1);
    // Few at a time, as a rule.
    let most = if dice.chance(800) { most.min(4) } else { most };
    let count = dice.range(1..most + 1) as usize;
    let mut out = BTreeSet::new();
    while out.len() < count {
        out.insert(dice.below(nodes as u64) as usize);
    }
    out.into_iter().collect()
}

fn one_of(dice: &mut Rng, set: &BTreeSet<usize>) -> Option<usize> {
    let all: Vec<usize> = set.iter().copied().collect();
    (!all.is_empty()).then(|| *dice.choose(&all))
}

fn hosts(dice: &mut Rng, nodes: usize, per_mille: u64) -> Scope {
    Scope::Only(some(dice, nodes, per_mille).into_iter().collect())
}

/// Two or three groups: halves, one against all, or anything between. Whoever is named by none is the last group.
fn split(dice: &mut Rng, nodes: usize) -> Vec<Scope> {
    let mut all: Vec<usize> = (0..nodes).collect();
    dice.shuffle(&mut all);
    let most = (nodes as u64 / 2).max(1);
    let count = if dice.chance(700) { 1 } else { 2 };
    let mut groups = Vec::new();
    for _ in 0..count {
        let size = dice.range(1..most + 1) as usize / count;
        let rest = all.split_off(size.clamp(1, all.len()));
        groups.push(Scope::Only(all.into_iter().collect()));
        all = rest;
        if all.is_empty() {
            break;
        }
    }
    groups
}

fn partition(dice: &mut Rng, nodes: usize) -> NetworkFault {
    match dice.below(10) {
        0 => NetworkFault::Isolate {
            hosts: hosts(dice, nodes, 300),
        },
        1 => NetworkFault::Ring { hosts: Scope::All },
        2 => {
            let middle = nodes / 2;
            NetworkFault::Bridge {
                left: Scope::Only((0..middle).collect()),
                right: Scope::Only((middle..nodes).collect()),
                bridge: dice.below(nodes as u64) as usize,
            }
        }
        3 => NetworkFault::OneWay {
            from: hosts(dice, nodes, 500),
            to: hosts(dice, nodes, 500),
        },
        4 => NetworkFault::Cut {
            pairs: (0..dice.range(1..6))
                .map(|_| {
                    (
                        dice.below(nodes as u64) as usize,
                        dice.below(nodes as u64) as usize,
                    )
                })
                .filter(|(a, b)| a != b)
                .collect(),
        },
        5 => NetworkFault::Swizzle {
            hosts: Scope::All,
            per_mille: dice.range(100..800) as u32,
            step_ms: dice.range(10..2_000),
            seed: dice.next_u64(),
        },
        _ => NetworkFault::Partition {
            groups: split(dice, nodes),
        },
    }
}

fn grey(dice: &mut Rng, nodes: usize) -> NetworkFault {
    let paths = match dice.below(3) {
        0 => Paths::Of(Scope::All),
        1 => Paths::Of(hosts(dice, nodes, 300)),
        _ => Paths::From(hosts(dice, nodes, 300), Scope::All),
    };
    match dice.below(6) {
        0 => NetworkFault::Grey {
            paths,
            bytes_per_s: dice.range(500..20_000),
            loss_per_mille: dice.range(0..300) as u32,
        },
        1 => NetworkFault::Latency {
            paths,
            ms: dice.range(10..2_000),
            jitter_ms: dice.range(1..1_000),
        },
        2 => NetworkFault::Loss {
            paths,
            per_mille: dice.range(10..600) as u32,
        },
        3 => NetworkFault::Clog {
            paths,
            per_mille: dice.range(50..700) as u32,
            seed: dice.next_u64(),
        },
        4 => NetworkFault::Flap {
            hosts: hosts(dice, nodes, 300),
            down_ms: dice.range(100..10_000),
            up_ms: dice.range(100..10_000),
        },
        _ => NetworkFault::Bufferbloat {
            hosts: hosts(dice, nodes, 300),
            queue_ms: dice.range(100..5_000),
        },
    }
}

fn routers(dice: &mut Rng, nodes: usize) -> NetworkFault {
    let hosts = hosts(dice, nodes, 400);
    match dice.below(4) {
        0 => NetworkFault::UdpBlocked { hosts },
        1 => NetworkFault::NatRebind { hosts },
        2 => NetworkFault::CaptivePortal { hosts },
        _ => NetworkFault::RelayDown { relays: vec![] },
    }
}

fn crash(dice: &mut Rng, nodes: usize, for_ms: u64) -> (Vec<usize>, Trouble) {
    // Now and then the power of everyone goes away.
    let most = if dice.chance(100) { 1_000 } else { 250 };
    let of = some(dice, nodes, most);
    let fault = match dice.below(10) {
        0..=4 => ProcessFault::Kill,
        5..=7 => ProcessFault::KillAtOutput {
            nth: dice.range(1..200),
            after_ms: for_ms.min(60_000),
        },
        8 => ProcessFault::CrashLoop {
            period_ms: dice.range(50..10_000),
            count: dice.range(2..8) as u32,
        },
        _ => ProcessFault::Readdress,
    };
    (of, Trouble::Process(fault))
}

fn pause(dice: &mut Rng, nodes: usize, for_ms: u64) -> (Vec<usize>, Trouble) {
    let of = some(dice, nodes, 250);
    let fault = if dice.chance(700) {
        ProcessFault::Pause { for_ms }
    } else {
        ProcessFault::Slow {
            factor: dice.range(2..100) as u32,
        }
    };
    (of, Trouble::Process(fault))
}

/// A disk that says so when it cannot.
fn disk_error(dice: &mut Rng) -> DiskFault {
    match dice.below(5) {
        0 => DiskFault::Full { bytes: 0 },
        1 => DiskFault::Full {
            bytes: dice.range(65_536..1_048_576),
        },
        2 => DiskFault::SyncError { is_cached: false },
        3 => DiskFault::Slow {
            us: dice.range(1_000..5_000_000),
        },
        _ => DiskFault::ReadOnly,
    }
}

/// A disk that forgets, rots or goes back in time.
fn disk_lie(dice: &mut Rng) -> DiskFault {
    let count = dice.range(1..8) as u32;
    match dice.below(9) {
        0 | 1 => DiskFault::LyingFsync {
            per_mille: dice.range(1..1_001) as u16,
            epochs: dice.range(1..20) as u32,
        },
        2 => DiskFault::SyncError { is_cached: true },
        3 => DiskFault::ReadError { count },
        4 => DiskFault::BitFlips { count },
        5 => DiskFault::Misdirected { count },
        6 => DiskFault::StaleRead { count },
        7 => DiskFault::Snapshot {
            name: "early".into(),
        },
        _ => DiskFault::Rollback { to: "early".into() },
    }
}

fn clock(dice: &mut Rng) -> ClockFault {
    let far = |dice: &mut Rng| match dice.below(4) {
        0 => dice.range(1..1_000),
        1 => dice.range(1_000..60_000),
        2 => dice.range(60_000..86_400_000),
        // Ten years.
        _ => 315_360_000_000,
    } as i64;
    let ms = far(dice);
    let ms = if dice.chance(500) { ms } else { -ms };
    match dice.below(8) {
        0 => ClockFault::Drift {
            ppm: if ms > 0 { 1 } else { -1 } * dice.range(1..200_000) as i32,
        },
        1 => ClockFault::Strobe {
            ms,
            period_ms: dice.range(10..10_000),
        },
        2 => ClockFault::Freeze,
        // Before 1970 there is nothing; these are the day itself, 2038 and 2106.
        3 => ClockFault::Set {
            wall_ms: *dice.choose(&[0, 2_147_483_648_000, 4_294_967_296_000]),
        },
        4 => ClockFault::Offset { ms },
        _ => ClockFault::Step { ms },
    }
}

/// Adds faults at the dangerous moments that the plan seeks.
pub(super) fn add_dangerous(dice: &mut Rng, plan: &mut Plan) {
    let in_chaos = plan.phases.chaos_at()..plan.phases.core_at();
    for bias in plan.options.biases.clone() {
        let moments: Vec<Action> = plan
            .actions
            .iter()
            .filter(|a| in_chaos.contains(&a.at_ms) && is_moment(bias, &a.what))
            .cloned()
            .collect();
        if moments.is_empty() {
            continue;
        }
        for _ in 0..dice.range(1..4) {
            let action = dice.choose(&moments).clone();
            let fault = dangerous(dice, bias, &action, plan.options.nodes);
            plan.faults.push(fault);
        }
    }
}

const fn is_moment(bias: Bias, act: &Act) -> bool {
    match bias {
        Bias::CrashAtStore | Bias::PartitionAtEdit => matches!(
            act,
            Act::Label { .. }
                | Act::Set { .. }
                | Act::File { .. }
                | Act::Bulk { .. }
                | Act::Unset { .. }
        ),
        Bias::CrashAtJoin => matches!(act, Act::Join { .. }),
        Bias::ClockAtEnd => matches!(
            act,
            Act::Token { .. }
                | Act::Grant {
                    ends_ms: Some(_),
                    ..
                }
        ),
        Bias::KillBeforeEffect => matches!(act, Act::File { .. }),
    }
}

fn dangerous(dice: &mut Rng, bias: Bias, action: &Action, nodes: usize) -> Fault {
    let kill = || Trouble::Process(ProcessFault::Kill);
    let (delay_ms, plus_us, for_ms, of, what) = match bias {
        Bias::CrashAtStore => (
            0,
            dice.below(2_000),
            dice.range(10..20_000),
            vec![action.node],
            kill(),
        ),
        Bias::PartitionAtEdit => (
            dice.below(6),
            0,
            dice.range(1_000..60_000),
            vec![],
            Trouble::Network(partition(dice, nodes)),
        ),
        Bias::CrashAtJoin => (
            dice.below(500),
            0,
            dice.range(10..20_000),
            vec![action.node],
            kill(),
        ),
        Bias::ClockAtEnd => {
            let ends_ms = match action.what {
                Act::Token { ends_ms, .. } => ends_ms,
                Act::Grant { ends_ms, .. } => ends_ms.unwrap_or_default(),
                _ => 0,
            };
            let ms = ends_ms as i64 + *dice.choose(&[-1_000, -1, 0, 1, 1_000]);
            let what = Trouble::Clock(ClockFault::Step { ms });
            (
                dice.below(200),
                0,
                dice.range(1_000..20_000),
                vec![action.node],
                what,
            )
        }
        Bias::KillBeforeEffect => {
            let victim = dice.below(nodes as u64) as usize;
            (
                dice.below(20),
                dice.below(1_000),
                dice.range(10..20_000),
                vec![victim],
                kill(),
            )
        }
    };
    Fault {
        at_ms: action.at_ms + delay_ms,
        plus_us,
        for_ms,
        nodes: of,
        what,
    }
}
