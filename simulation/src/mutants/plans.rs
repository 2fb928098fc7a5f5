//! Plans that lead straight to where a seeded bug shows.
//!
//! Small meshes on a quiet network, in which just that goes wrong which the bug needs. Times are milliseconds.

use lab_crdt_model::Value;

use crate::network::{Config, Profile as Ground};
use crate::plan::{
    Act, Action, ClockFault, DiskFault, Fault, Lens, NetworkFault, Paths, Plan, ProcessFault,
    Profile, Right, Scope, Store, Trouble, Witnesses, generate_sized,
};

/// Until the end of chaos, whatever happens.
const LONG_MS: u64 = 3_600_000;

/// A mesh to which nothing happens for so long.
fn calm(seed: u64, nodes: usize, chaos_ms: u64) -> Plan {
    let mut plan = generate_sized(seed, Profile::Homelab, nodes);
    plan.actions.clear();
    plan.faults.clear();
    plan.options.store = Store::Model;
    plan.options.network = Config::new(Ground::Lan);
    plan.options.families.clear();
    plan.options.biases.clear();
    plan.phases.chaos_ms = chaos_ms;
    plan.phases.core.clear();
    plan.phases.heal_ms = 90_000;
    plan.limits.is_loss_expected = false;
    plan
}

fn with(mut plan: Plan, actions: Vec<Action>, faults: Vec<Fault>) -> Plan {
    plan.actions = actions;
    plan.faults = faults;
    plan
}

fn at(at_ms: u64, who: u8, node: usize, what: Act) -> Action {
    Action {
        at_ms,
        who,
        node,
        what,
    }
}

fn fault(at_ms: u64, for_ms: u64, nodes: &[usize], what: Trouble) -> Fault {
    Fault {
        at_ms,
        plus_us: 0,
        for_ms,
        nodes: nodes.to_vec(),
        what,
    }
}

fn alone(at_ms: u64, for_ms: u64, host: usize) -> Fault {
    let hosts = Scope::from([host]);
    fault(
        at_ms,
        for_ms,
        &[],
        Trouble::Network(NetworkFault::Isolate { hosts }),
    )
}

fn parted(at_ms: u64, for_ms: u64, left: &[usize]) -> Fault {
    let groups = vec![Scope::from(left)];
    fault(
        at_ms,
        for_ms,
        &[],
        Trouble::Network(NetworkFault::Partition { groups }),
    )
}

fn killed(at_ms: u64, for_ms: u64, node: usize) -> Fault {
    fault(at_ms, for_ms, &[node], Trouble::Process(ProcessFault::Kill))
}

fn disk(at_ms: u64, for_ms: u64, node: usize, what: DiskFault) -> Fault {
    fault(at_ms, for_ms, &[node], Trouble::Disk(what))
}

fn set(value: i64) -> Act {
    Act::Set {
        path: "on/all/params/x".to_owned(),
        value: Value::Int(value),
    }
}

fn bulk(prefix: &str, count: u32) -> Act {
    Act::Bulk {
        prefix: format!("on/all/params/{prefix}"),
        count,
        value: Value::text("a value of some length, as people have them"),
    }
}

fn grant(rights: &[Right], ends_ms: Option<u64>) -> Act {
    Act::Grant {
        to: 1,
        rights: rights.to_vec(),
        scope: vec![String::new()],
        ends_ms,
    }
}

fn token(lease_ms: u64, ends_ms: u64, is_confirmed: bool) -> Act {
    Act::Token {
        token: 1,
        lease_ms,
        uses: 1,
        ends_ms,
        labels: Vec::new(),
        witness: Witnesses::Any,
        is_confirmed,
    }
}

fn adversary(name: &str, with: u64) -> Act {
    let name = name.to_owned();
    Act::Adversary { name, with }
}

/// Whatever the generator makes.
pub(super) fn anything(seed: u64) -> Plan {
    generate_sized(seed, Profile::Homelab, 7)
}

/// A machine without company loses its power while it writes a change, slowly.
pub(super) fn power_cut_at_write(seed: u64) -> Plan {
    let slow = DiskFault::Slow { us: 200_000 };
    let faults = vec![
        alone(9_000, 20_000, 1),
        disk(9_500, 4_000, 1, slow),
        killed(10_050, 4_000, 1),
    ];
    with(
        calm(seed, 3, 40_000),
        vec![at(10_000, 0, 1, set(1))],
        faults,
    )
}

/// The same, with an edit that takes several statements.
pub(super) fn power_cut_at_large_edit(seed: u64) -> Plan {
    let mut plan = power_cut_at_write(seed);
    plan.actions[0].what = bulk("b", 2_000);
    plan
}

/// A machine without company takes a change in that its disk refuses, and starts again.
pub(super) fn refused_write(seed: u64) -> Plan {
    let faults = vec![
        alone(9_000, 20_000, 1),
        disk(9_500, 1_400, 1, DiskFault::ReadOnly),
        killed(12_000, 3_000, 1),
    ];
    with(
        calm(seed, 3, 40_000),
        vec![at(10_000, 0, 1, set(1))],
        faults,
    )
}

/// A machine without company takes a change in and starts again.
pub(super) fn restart_alone(seed: u64) -> Plan {
    let faults = vec![alone(9_000, 20_000, 1), killed(12_000, 3_000, 1)];
    let actions = vec![at(10_000, 0, 1, set(1)), at(10_500, 0, 1, set(2))];
    with(calm(seed, 3, 40_000), actions, faults)
}

/// A real disk refuses every write for three seconds.
pub(super) fn refusing_disk(seed: u64) -> Plan {
    let mut plan = calm(seed, 3, 50_000);
    plan.options.store = Store::Real;
    let actions = (0..4).map(|n| at(10_500 + n * 10_000, 0, 1, set(n as i64)));
    let full = disk(10_000, 3_000, 1, DiskFault::ReadOnly);
    with(plan, actions.collect(), vec![full])
}

/// Bits flip on real disks of machines that are off.
pub(super) fn rotten_disks(seed: u64) -> Plan {
    let mut plan = calm(seed, 5, 50_000);
    plan.options.store = Store::Real;
    let mut faults = Vec::new();
    for node in [1, 2, 3] {
        faults.push(killed(20_000, 10_000, node));
    }
    for node in [1, 2, 3] {
        faults.push(disk(25_000, 0, node, DiskFault::BitFlips { count: 12 }));
    }
    let actions = vec![
        at(8_000, 0, 0, bulk("a", 500)),
        at(9_000, 0, 0, bulk("b", 500)),
    ];
    plan.limits.is_loss_expected = true;
    with(plan, actions, faults)
}

/// Someone does something that no honest person does, at node 1.
fn one_adversary(seed: u64, name: &str) -> Plan {
    with(
        calm(seed, 4, 30_000),
        vec![at(10_000, 0, 1, adversary(name, 0))],
        Vec::new(),
    )
}

pub(super) fn forgery(seed: u64) -> Plan {
    one_adversary(seed, "forger")
}

pub(super) fn unknown_kind(seed: u64) -> Plan {
    one_adversary(seed, "newer")
}

pub(super) fn hoard(seed: u64) -> Plan {
    one_adversary(seed, "hoarder")
}

/// Two changes at once at a machine whose disk refuses them.
pub(super) fn hasty(seed: u64) -> Plan {
    let mut plan = one_adversary(seed, "hasty");
    plan.faults = vec![disk(9_500, 2_000, 1, DiskFault::ReadOnly)];
    plan
}

/// A token for one machine is used by two at once, at two sponsors.
pub(super) fn shared_token(seed: u64) -> Plan {
    let actions = vec![
        at(6_000, 0, 0, adversary("sharer", 2)),
        at(12_000, 0, 0, adversary("sharer", 2)),
    ];
    with(calm(seed, 4, 40_000), actions, Vec::new())
}

/// Someone who may set labels sets something else.
pub(super) fn narrow_right(seed: u64) -> Plan {
    let actions = vec![
        at(6_000, 0, 0, grant(&[Right::Labels], None)),
        at(10_000, 1, 1, set(1)),
    ];
    with(calm(seed, 3, 20_000), actions, Vec::new())
}

/// Someone changes something when their grant is over.
pub(super) fn grant_over(seed: u64) -> Plan {
    let all = [Right::Labels, Right::Config];
    let actions = vec![
        at(6_000, 0, 0, grant(&all, Some(5_000))),
        at(20_000, 1, 1, set(1)),
    ];
    with(calm(seed, 3, 30_000), actions, Vec::new())
}

/// A change made in time arrives somewhere when the grant is over.
pub(super) fn late_arrival(seed: u64) -> Plan {
    let all = [Right::Labels, Right::Config];
    let actions = vec![
        at(6_000, 0, 0, grant(&all, Some(20_000))),
        at(15_000, 1, 1, set(1)),
    ];
    with(
        calm(seed, 4, 40_000),
        actions,
        vec![alone(12_000, 20_000, 3)],
    )
}

/// A change made in time on a machine that is alone arrives everywhere long after the grant is over.
pub(super) fn held_back(seed: u64) -> Plan {
    let all = [Right::Labels, Right::Config];
    let actions = vec![
        at(6_000, 0, 0, grant(&all, Some(20_000))),
        at(18_000, 1, 3, set(1)),
    ];
    with(
        calm(seed, 4, 400_000),
        actions,
        vec![alone(14_000, 360_000, 3)],
    )
}

/// A change made in time arrives on one machine, which was off, long after the grant is over.
pub(super) fn slept_through(seed: u64) -> Plan {
    let all = [Right::Labels, Right::Config];
    let actions = vec![
        at(6_000, 0, 0, grant(&all, Some(20_000))),
        at(18_000, 1, 1, set(1)),
    ];
    with(
        calm(seed, 4, 400_000),
        actions,
        vec![killed(14_000, 360_000, 3)],
    )
}

/// Someone comes with a token that is over.
pub(super) fn token_over(seed: u64) -> Plan {
    let actions = vec![
        at(6_000, 0, 0, token(0, 3_000, false)),
        at(15_000, 0, 3, Act::Join { token: 1 }),
    ];
    with(calm(seed, 3, 40_000), actions, Vec::new())
}

/// A machine joins that a person has to confirm, and nobody does.
pub(super) fn unconfirmed(seed: u64) -> Plan {
    let actions = vec![
        at(6_000, 0, 0, token(0, LONG_MS, true)),
        at(8_000, 0, 3, Act::Join { token: 1 }),
    ];
    with(calm(seed, 3, 40_000), actions, Vec::new())
}

/// The lease of a laptop ends.
pub(super) fn short_lease(seed: u64) -> Plan {
    let actions = vec![
        at(6_000, 0, 0, token(20_000, LONG_MS, false)),
        at(8_000, 0, 3, Act::Join { token: 1 }),
    ];
    with(calm(seed, 3, 60_000), actions, Vec::new())
}

/// Someone speaks with the key of another machine, in turns with it.
pub(super) fn copied_key(seed: u64) -> Plan {
    let times = (0..5).map(|n| 12_000 + 6_000 * n);
    let copier = |ms| at(ms, 0, 1, adversary("copier", 2));
    // It stands still meanwhile, or it would answer before anyone looks.
    let pause = || Trouble::Process(ProcessFault::Pause { for_ms: 2_000 });
    let paused = |ms| fault(ms - 200, 2_000, &[2], pause());
    let faults = times.clone().map(paused).collect();
    let mut plan = with(calm(seed, 4, 60_000), times.map(copier).collect(), faults);
    // What it says of itself is no longer one story.
    plan.limits.is_loss_expected = true;
    plan
}

/// A machine reports as fast as it can for most of a minute.
pub(super) fn shouting(seed: u64) -> Plan {
    let times = (0..40).map(|n| 10_000 + 1_000 * n);
    let shout = |ms| at(ms, 0, 1, adversary("shouter", 100));
    with(calm(seed, 5, 60_000), times.map(shout).collect(), vec![])
}

/// A laptop's lease ends while the clock of one machine is an hour behind.
pub(super) fn clock_behind(seed: u64) -> Plan {
    let actions = vec![
        at(6_000, 0, 0, token(300_000, LONG_MS, false)),
        at(8_000, 0, 5, Act::Join { token: 1 }),
    ];
    let behind = ClockFault::Step { ms: -3_600_000 };
    let faults = vec![fault(120_000, LONG_MS, &[0], Trouble::Clock(behind))];
    with(calm(seed, 5, 900_000), actions, faults)
}

/// A person is revoked with all that they said, and goes on.
pub(super) fn cut(seed: u64) -> Plan {
    let revoke = Act::RevokeOperator {
        of: 1,
        is_cut: true,
    };
    let actions = vec![
        at(6_000, 0, 0, grant(&[Right::Labels, Right::Config], None)),
        at(10_000, 1, 1, set(1)),
        at(14_000, 0, 0, revoke),
        at(14_001, 1, 2, set(2)),
    ];
    with(calm(seed, 4, 30_000), actions, Vec::new())
}

/// A machine is decommissioned.
pub(super) fn decommissioned(seed: u64) -> Plan {
    let actions = vec![at(10_000, 0, 0, Act::Decommission { of: 3 })];
    with(calm(seed, 4, 30_000), actions, Vec::new())
}

/// Someone who got no answer says it again elsewhere, and the first word was written after all.
pub(super) fn fork(seed: u64) -> Plan {
    let slow = DiskFault::Slow { us: 50_000 };
    let faults = vec![
        alone(8_000, 30_000, 1),
        disk(9_500, 3_000, 1, slow),
        killed(10_040, 15_000, 1),
    ];
    let grant = grant(&[Right::Labels, Right::Config], None);
    let actions = vec![
        at(6_000, 0, 0, grant),
        at(7_000, 1, 1, set(1)),
        at(10_000, 1, 1, set(2)),
        at(15_000, 1, 2, set(3)),
    ];
    with(calm(seed, 4, 50_000), actions, faults)
}

/// Changes on both sides of a partition.
pub(super) fn partition(seed: u64) -> Plan {
    let all = [Right::Labels, Right::Config];
    let actions = vec![
        at(6_000, 0, 0, grant(&all, None)),
        at(40_000, 0, 0, set(1)),
        at(41_000, 1, 3, bulk("y", 20)),
    ];
    with(
        calm(seed, 4, 100_000),
        actions,
        vec![parted(10_000, 80_000, &[0, 1])],
    )
}

/// The same in a mesh in which not everyone has a link to everyone.
pub(super) fn large_partition(seed: u64) -> Plan {
    let all = [Right::Labels, Right::Config];
    let actions = vec![
        at(6_000, 0, 0, grant(&all, None)),
        at(40_000, 0, 0, set(1)),
        at(41_000, 1, 15, bulk("y", 20)),
    ];
    let left: Vec<usize> = (0..8).collect();
    with(
        calm(seed, 16, 120_000),
        actions,
        vec![parted(10_000, 100_000, &left)],
    )
}

/// Two machines that do not reach each other for a quarter of an hour.
pub(super) fn long_partition(seed: u64) -> Plan {
    let mut plan = calm(seed, 2, 960_000);
    plan.phases.heal_ms = 70_000;
    let actions = vec![at(60_000, 0, 0, set(1))];
    with(plan, actions, vec![parted(10_000, 945_000, &[0])])
}

/// A machine that is off for half an hour.
pub(super) fn long_dead(seed: u64) -> Plan {
    with(
        calm(seed, 2, 1_900_000),
        Vec::new(),
        vec![killed(10_000, 1_880_000, 1)],
    )
}

/// A machine dies for good.
pub(super) fn dead(seed: u64) -> Plan {
    let mut plan = calm(seed, 4, 40_000);
    plan.phases.core = vec![0, 1, 2];
    plan.phases.core_ms = 60_000;
    with(plan, Vec::new(), vec![killed(20_000, LONG_MS, 3)])
}

/// A machine starts again.
pub(super) fn restart(seed: u64) -> Plan {
    let actions = vec![at(8_000, 0, 0, set(1)), at(30_000, 0, 0, set(2))];
    with(
        calm(seed, 3, 80_000),
        actions,
        vec![killed(20_000, 3_000, 1)],
    )
}

/// A machine comes back to a mesh that holds much and changed little.
pub(super) fn comeback(seed: u64) -> Plan {
    let actions = (0..2)
        .map(|n| at(6_000 + n * 1_000, 0, 0, bulk(&format!("b{n}-"), 1_000)))
        .chain([at(35_000, 0, 0, set(1))]);
    with(
        calm(seed, 7, 120_000),
        actions.collect(),
        vec![killed(30_000, 10_000, 1)],
    )
}

/// Much has to go over a path that carries little.
pub(super) fn grey(seed: u64) -> Plan {
    let paths = Paths::Of(Scope::from([3]));
    let grey = NetworkFault::Grey {
        paths,
        bytes_per_s: 4_000,
        loss_per_mille: 0,
    };
    let actions = (0..3).map(|n| at(14_000 + n * 500, 0, 0, bulk(&format!("b{n}-"), 1_000)));
    let faults = vec![fault(12_000, 100_000, &[], Trouble::Network(grey))];
    with(calm(seed, 4, 120_000), actions.collect(), faults)
}

/// One edit in a mesh that is at rest.
pub(super) fn edit_at_rest(seed: u64) -> Plan {
    with(
        calm(seed, 7, 110_000),
        vec![at(90_000, 0, 0, set(1))],
        Vec::new(),
    )
}

/// Nothing at all.
pub(super) fn idle(seed: u64) -> Plan {
    calm(seed, 7, 140_000)
}

/// Nothing at all, among phones.
pub(super) fn idle_phones(seed: u64) -> Plan {
    let mut plan = calm(seed, 7, 140_000);
    plan.options.network = Config::new(Ground::Lte);
    plan
}

/// One edit.
pub(super) fn edit(seed: u64) -> Plan {
    let mut plan = calm(seed, 3, 10_000);
    plan.phases.heal_ms = 5_000;
    with(plan, vec![at(8_000, 0, 0, set(1))], Vec::new())
}

/// Two values at once for one field.
pub(super) fn both(seed: u64) -> Plan {
    let actions = vec![
        at(6_000, 0, 0, grant(&[Right::Config], None)),
        at(10_000, 0, 1, set(1)),
        at(10_000, 1, 2, set(2)),
    ];
    with(calm(seed, 3, 20_000), actions, Vec::new())
}

/// Bytes that are no statement.
pub(super) fn garbage(seed: u64) -> Plan {
    let mut plan = calm(seed, 3, 10_000);
    plan.phases.heal_ms = 5_000;
    with(
        plan,
        vec![at(8_000, 0, 0, Act::Garbage { bytes: 20 })],
        Vec::new(),
    )
}

fn file(on: &str) -> Act {
    Act::File {
        on: on.to_owned(),
        path: "/etc/motd".to_owned(),
        text: "I am {node.name}\n".to_owned(),
    }
}

/// A file that nothing asks for any more.
pub(super) fn file_undone(seed: u64) -> Plan {
    let mut plan = calm(seed, 3, 20_000);
    plan.phases.heal_ms = 130_000;
    let actions = vec![at(8_000, 0, 0, file("all")), at(14_000, 0, 0, Act::Undo)];
    with(plan, actions, Vec::new())
}

/// A label that brings a file.
pub(super) fn file_by_label(seed: u64) -> Plan {
    let mut plan = calm(seed, 3, 20_000);
    plan.phases.heal_ms = 130_000;
    let label = Act::Label {
        of: 1,
        label: "role=web".to_owned(),
        is_set: true,
    };
    let actions = vec![at(8_000, 0, 0, file("role=web")), at(14_000, 0, 0, label)];
    with(plan, actions, Vec::new())
}

/// Someone reads where a change is being written, slowly.
pub(super) fn read_at_write(seed: u64) -> Plan {
    let read = Act::Read(Lens {
        roster: true,
        fields: true,
        reports: true,
        history: 10,
    });
    let actions = vec![at(10_000, 0, 1, set(1)), at(10_100, 0, 1, read)];
    let slow = DiskFault::Slow { us: 4_000_000 };
    with(
        calm(seed, 3, 40_000),
        actions,
        vec![disk(9_000, 10_000, 1, slow)],
    )
}

/// A machine reports something that only one of the others hears. Who has no neighbour at all keeps what it has to say.
pub(super) fn unheard_report(seed: u64) -> Plan {
    let mut plan = calm(seed, 4, 60_000);
    plan.phases.heal_ms = 130_000;
    with(
        plan,
        vec![at(20_000, 0, 3, set(1))],
        vec![parted(10_000, 45_000, &[2, 3])],
    )
}

/// One edit, and then nothing for minutes.
pub(super) fn idle_after_edit(seed: u64) -> Plan {
    with(
        calm(seed, 3, 150_000),
        vec![at(8_000, 0, 0, set(1))],
        Vec::new(),
    )
}
