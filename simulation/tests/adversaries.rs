//! Stories of those who break rules with valid but limited keys, and of programs of later versions.

use bytes::Bytes;
use ed25519_dalek::SigningKey;
use lab_agent_core::{Reply, ViewMask};
use lab_crdt_log::{Alarm, AuditRecord, Body, Grant, Revoke, Rights, WitnessRule};
use lab_crdt_model::report::Section;
use lab_crdt_model::token::Token;
use lab_crdt_model::view::{Liveness, MemberState, ReplicaView, Role};
use lab_crdt_model::{StatementId, Value, Wall};
use lab_simulation::adversary::{
    Cyclist, Dater, Equivocator, Flatterer, Flooder, Forger, Forwarder, Giant, Hole, Liar, Pen,
    Replayer, Rooted, Talker, Unstoppable, forge, tell_all,
};
use lab_simulation::clock::ClockFault;
use lab_simulation::disk::DiskFault;
use lab_simulation::oracle::{Limits, Panel, Phase};
use lab_simulation::plan::{Act, Adversary, Family, Profile, Turn, generate_sized, run};
use lab_simulation::skew::{FIRST_KIND, FIRST_SECTION, Future};
use lab_simulation::{Options, Person, World};

/// The machine that is the adversary's.
const THEIRS: usize = 3;
const NODES: usize = 5;

fn world(seed: u64, nodes: usize) -> World {
    let mut world = World::form(
        Options {
            is_noted: true,
            ..Options::homelab(seed)
        },
        nodes,
    );
    let has_formed = |w: &mut World| (0..nodes).all(|n| w.is_up(n)) && w.are_equal();
    assert!(world.run_until(30_000, has_formed));
    world.run_for(15_000);
    world
}

/// Someone with all rights of an operator, whose key is stolen.
fn robbed(world: &mut World) -> Person {
    let admin = world.admin.clone();
    let bob = Person::new(17, admin.under, "bob");
    let grant = Grant {
        subject: bob.author(),
        name: "bob".into(),
        rights: Rights::ALL,
        scope: vec![String::new()],
        not_after: None,
    };
    let Reply::Submitted { ids } = admin.say(world, 0, Body::Grant(grant)) else {
        panic!("the grant was refused")
    };
    assert!(world.run_until(5_000, |w| w.are_equal()));
    let under = ids[0];
    Person { under, ..bob }
}

fn turn(person: &Person, with: u64) -> Turn {
    Turn {
        node: THEIRS,
        person: person.clone(),
        with,
    }
}

fn honest(world: &World) -> Vec<usize> {
    (0..world.len()).filter(|n| !world.is_corrupt(*n)).collect()
}

fn are_equal(world: &World) -> bool {
    let of = |n: &usize| world.digests(*n).map(|d| (d.statements, d.heads));
    let all: Vec<_> = honest(world).iter().map(of).collect();
    all.iter().all(|d| d.is_some() && *d == all[0])
}

fn view(world: &mut World, node: usize) -> ReplicaView {
    let mask = ViewMask {
        roster: true,
        fields: true,
        reports: true,
        history_count: u32::MAX,
        chains: false,
    };
    world.agent_view(node, mask).expect("it runs")
}

/// Milliseconds from an honest edit until every honest node shows it.
fn latency(world: &mut World, node: usize, name: &str) -> u64 {
    let admin = world.admin.clone();
    let path = format!("on/all/params/{name}");
    let reply = admin.set(world, node, &path, Value::Int(1));
    assert!(matches!(reply, Reply::Submitted { .. }), "{reply:?}");
    let from = world.now_ms();
    let nodes = honest(world);
    let arrived = world.run_until(600_000, |w| {
        nodes.iter().all(|n| w.value(*n, &path).is_some())
    });
    assert!(arrived, "{name} did not arrive everywhere");
    world.now_ms() - from
}

/// Lets an adversary act some times under all oracles that cost does not concern; returns the world after it.
fn story(
    seed: u64,
    adversary: &mut dyn Adversary,
    with: &[u64],
    mut between: impl FnMut(&mut World, &Person, usize),
) -> World {
    let mut w = world(seed, NODES);
    let bob = robbed(&mut w);
    let mut panel = Panel::new(&Limits::default());
    panel.without(&[
        "idle_traffic_stays_in_budget",
        "an_edit_costs_at_most_so_many_messages",
        "reconnecting_costs_what_changed",
    ]);
    w.take_notes();
    panel.phase(&mut w, &Phase::WarmUp);
    panel.watch(&mut w, 1_000, 500);
    panel.phase(&mut w, &Phase::Chaos);
    for (n, with) in with.iter().enumerate() {
        adversary.act(&mut w, &turn(&bob, *with));
        panel.watch(&mut w, 2_000, 500);
        between(&mut w, &bob, n);
        latency(&mut w, n % 3, &format!("honest{n}"));
    }
    panel.phase(&mut w, &Phase::Healed);
    panel.watch(&mut w, 100_000, 2_000);
    panel.end(&mut w);
    let told: Vec<String> = panel.violations().iter().map(ToString::to_string).collect();
    assert!(told.is_empty(), "{}: {told:#?}", adversary.name());
    assert!(are_equal(&w), "{}", adversary.name());
    for node in honest(&w) {
        let counts = w.counts(node).expect("it runs");
        assert!(
            counts.waiting <= 2_000 && counts.refused <= 100,
            "{counts:?}"
        );
        assert!(w.memory(node) < 16 << 20, "{} bytes", w.memory(node));
    }
    w
}

fn nothing(_: &mut World, _: &Person, _: usize) {}

#[test]
fn both_faces_of_an_equivocator_are_kept_everywhere() {
    let mut w = story(1, &mut Equivocator::default(), &[0, 1, 2], nothing);
    let view = view(&mut w, 0);
    let field = view
        .fields
        .iter()
        .find(|f| f.path.as_str() == "on/all/params/two-faced");
    assert!(field.is_some_and(|f| f.candidates.len() >= 2));
}

#[test]
fn nothing_that_a_forger_changes_is_taken_in() {
    let with: Vec<u64> = (0..6).collect();
    let mut w = story(2, &mut Forger, &with, nothing);
    assert_eq!(w.value(0, "on/all/params/forged"), None);
    let view = view(&mut w, 0);
    // Six honest edits, the grant, the admissions.
    assert_eq!(view.history.len(), 6 + 1 + NODES);
}

#[test]
fn what_was_said_thirty_days_ago_changes_nothing_when_it_is_said_again() {
    let mut replayer = Replayer::default();
    let mut w = story(3, &mut replayer, &[0, 0, 0, 0], |w, _, n| {
        if n == 0 {
            for node in 0..NODES {
                w.apply_clock(
                    node,
                    &ClockFault::Step {
                        ms: 30 * 86_400_000,
                    },
                );
            }
        }
        if n == 1 {
            // What is left of an earlier life is said to a later one.
            w.kill(1);
            w.run_for(3_000);
            w.start(1);
        }
    });
    let view = view(&mut w, 0);
    assert!(
        view.peers
            .iter()
            .all(|p| p.liveness == Liveness::Alive || p.node == w.id(0))
    );
}

#[test]
fn stamps_from_the_ends_of_time_have_no_lasting_power() {
    let mut w = story(4, &mut Dater::default(), &[0, 1, 2, 3, 4], nothing);
    // Someone whose grant ends can still say things: nobody else's stamp counts for them.
    let admin = w.admin.clone();
    let eve = Person::new(18, admin.under, "eve");
    let grant = Grant {
        subject: eve.author(),
        name: "eve".into(),
        rights: Rights::ALL,
        scope: vec![String::new()],
        not_after: Some(Wall(w.wall(0).0 + 3_600_000)),
    };
    let Reply::Submitted { ids } = admin.say(&mut w, 0, Body::Grant(grant)) else {
        panic!("the grant was refused")
    };
    let eve = Person {
        under: ids[0],
        ..eve
    };
    let reply = eve.set(&mut w, 0, "on/all/params/dated0", Value::Int(77));
    assert!(matches!(reply, Reply::Submitted { .. }), "{reply:?}");
    assert!(
        w.run_until(10_000, |w| w.value(1, "on/all/params/dated0").as_deref()
            == Some("77"))
    );
}

#[test]
fn edits_of_others_arrive_as_ever_while_a_flooder_floods() {
    let mut w = world(5, NODES);
    let bob = robbed(&mut w);
    let usual = (0..5)
        .map(|n| latency(&mut w, n % 3, &format!("calm{n}")))
        .max()
        .unwrap();
    let mut flooder = Flooder::default();
    let mut worst = 0;
    for n in 0..10 {
        flooder.act(&mut w, &turn(&bob, 40));
        worst = worst.max(latency(&mut w, n % 3, &format!("flooded{n}")));
    }
    assert!(
        worst <= 2 * usual.max(20),
        "{worst} ms instead of {usual} ms"
    );
    assert!(w.run_until(60_000, |w| are_equal(w)));
    for node in honest(&w) {
        assert!(w.memory(node) < 16 << 20, "{} bytes", w.memory(node));
    }
}

#[test]
fn a_flooder_spoils_nothing() {
    story(6, &mut Flooder::default(), &[59, 59, 59, 59], nothing);
}

#[test]
fn the_largest_is_kept_and_the_larger_is_refused() {
    let mut w = story(7, &mut Giant::default(), &[0, 1, 2], nothing);
    assert!(
        w.value(0, "on/all/params/wide")
            .is_some_and(|v| v.len() > 32_000)
    );
    assert!(
        w.value(1, "on/all/params/deep")
            .is_some_and(|v| v.starts_with("[[[[[[[[null"))
    );
    assert_eq!(w.value(0, "on/all/params/crowded"), None);
}

#[test]
fn groups_that_contain_each_other_harm_nobody() {
    let mut w = story(8, &mut Cyclist::default(), &[0, 1, 2, 3, 11], nothing);
    let view = view(&mut w, 0);
    assert!(
        view.fields
            .iter()
            .any(|f| f.path.as_str().starts_with("group/ring"))
    );
}

#[test]
fn an_operator_who_goes_on_after_the_revocation_says_nothing_that_counts() {
    let mut w = story(
        9,
        &mut Unstoppable::default(),
        &[5, 89, 89, 3],
        |w, bob, n| {
            if n == 0 {
                let revoke = Revoke {
                    key: bob.author(),
                    head: None,
                    reason: "stolen".into(),
                };
                let admin = w.admin.clone();
                admin.say(w, 0, Body::Revoke(revoke));
            }
        },
    );
    let view = view(&mut w, 0);
    assert!(
        view.fields
            .iter()
            .all(|f| !f.path.as_str().contains("still"))
    );
    let bob = Person::new(17, w.admin.under, "bob").author();
    let kept = view.history.iter().filter(|c| c.author == bob).count();
    assert!(
        kept <= 6 + 64,
        "{kept} statements of a revoked key are kept"
    );
}

#[test]
fn a_stolen_token_used_on_both_sides_of_a_partition_admits_one() {
    let mut w = world(10, 4);
    let token = w.token(0, "nx", Role::Node, &[], WitnessRule::Any);
    assert!(w.run_until(5_000, |w| w.are_equal()));
    w.partition(&[0, 1, 4], &[2, 3, 5]);
    let first = w.join(token.clone(), None);
    let second = w.join(token, None);
    w.run_for(40_000);
    w.heal();
    w.run_for(120_000);
    let members = |w: &mut World, node| {
        let ids = [w.id(first), w.id(second)];
        let view = view(w, node);
        let of = view.members.iter().filter(|m| ids.contains(&m.node));
        of.filter(|m| m.state == MemberState::Member).count()
    };
    for node in 0..4 {
        assert!(members(&mut w, node) <= 1, "node {node}");
    }
}

#[test]
fn a_liar_delays_nobody() {
    story(11, &mut Liar, &[0, 7], nothing);
}

#[test]
fn a_flatterer_keeps_nothing_from_anyone() {
    story(12, &mut Flatterer, &[0], nothing);
}

#[test]
fn exchanges_that_never_end_keep_no_others_from_ending() {
    story(13, &mut Talker, &[0], nothing);
}

#[test]
fn what_a_forwarder_drops_arrives_by_other_ways() {
    story(14, &mut Forwarder, &[0], nothing);
    story(15, &mut Forwarder, &[1], nothing);
}

#[test]
fn a_victim_all_of_whose_neighbours_are_adversaries_still_hears() {
    let mut w = world(16, 14);
    let victim = 13;
    let around = w.peers(victim);
    assert!(around.len() < 12, "{around:?}");
    for node in &around {
        let victims = vec![victim];
        w.corrupt(
            *node,
            Box::new(Hole {
                victims,
                is_deaf: true,
            }),
        );
    }
    let far = (0..13)
        .find(|n| !around.contains(n))
        .expect("someone is far");
    let ms = latency(&mut w, far, "eclipsed");
    println!("heard after {ms} ms");
    assert!(ms < 400_000);
}

/// Seconds of opinions of healthy nodes on healthy nodes: suspected, down, all.
fn opinions(w: &mut World, seconds: u64, mut act: impl FnMut(&mut World)) -> [u64; 3] {
    let mut seen = [0; 3];
    for _ in 0..seconds {
        act(w);
        w.run_for(100);
        let nodes = honest(w);
        for a in &nodes {
            for b in nodes.iter().filter(|b| *b != a) {
                let opinion = w.opinion(*a, *b);
                seen[0] += u64::from(opinion == Some(Liveness::Suspect));
                seen[1] += u64::from(opinion == Some(Liveness::Down));
                seen[2] += 1;
            }
        }
    }
    seen
}

#[test]
fn false_accusations_never_make_a_healthy_node_stay_down() {
    for nodes in [NODES, 14] {
        let mut w = world(17, nodes);
        let mut rooted = Rooted::default();
        w.corrupt(THEIRS, Box::new(lab_simulation::Untouched));
        let [suspected, down, all] = opinions(&mut w, 30, |w| {
            rooted.accuse(w, THEIRS, false);
            w.run_for(700);
            rooted.accuse(w, THEIRS, true);
        });
        println!("{nodes} nodes: suspected {suspected}, down {down} of {all}");
        // Who has a link sees for themselves; of others, a verdict may stand until the refutation is there.
        assert!(nodes > NODES || down == 0, "{down} of {all}");
        assert!(10 * down <= all, "{down} of {all}");
        w.run_for(35_000);
        let [_, down, _] = opinions(&mut w, 5, |w| w.run_for(900));
        assert_eq!(down, 0, "{nodes} nodes");
    }
}

#[test]
fn a_rooted_node_speaks_for_nobody_else() {
    let mut w = story(18, &mut Rooted::default(), &[0, 1, 2, 3], nothing);
    assert_eq!(w.value(0, "on/all/params/rooted"), None);
    let admin = w.admin.clone();
    let reply = admin.set(&mut w, 0, "on/all/params/after", Value::Int(1));
    assert!(matches!(reply, Reply::Submitted { .. }), "{reply:?}");
    let reports = w.reports(0).expect("it runs");
    for node in honest(&w) {
        let seq = forge::newest_seq(&reports, &w.id(node), Section::Beacon);
        assert!(seq < 1_000_000, "a forged beacon of {node} counts");
    }
}

#[test]
fn a_machine_that_rewinds_its_audit_chain_is_noticed_by_all_and_nobody_else_is_blamed() {
    let mut w = story(18, &mut Rooted::default(), &[0, 1, 2, 3], nothing);
    let rooted = w.id(THEIRS);
    for node in honest(&w) {
        let issues = view(&mut w, node).issues;
        let of: Vec<_> = issues.iter().filter(|i| i.code == "M043").collect();
        let blamed: Vec<_> = of.iter().map(|i| i.subject.as_str()).collect();
        assert_eq!(blamed, [rooted.to_string()], "node {node}");
        let records = w.audit_records(node).expect("it runs");
        let is_recorded = records.iter().any(|bytes| {
            let body = AuditRecord::open(&w.mesh(), bytes)
                .ok()
                .and_then(|r| r.body());
            body.is_some_and(|body| {
                matches!(body.act, lab_crdt_log::Act::Alarm(Alarm::WentBack { node, .. }) if node == rooted)
            })
        });
        assert!(is_recorded, "node {node}");
    }
}

/// An author whose quota is used up may not go on by referring to what is beyond it.
#[test]
fn statements_that_others_wait_for_do_not_lift_what_is_kept_of_a_revoked_key() {
    let mut w = world(19, 3);
    let bob = robbed(&mut w);
    w.corrupt(2, Box::new(lab_simulation::Untouched));
    let revoke = Revoke {
        key: bob.author(),
        head: None,
        reason: "stolen".into(),
    };
    let admin = w.admin.clone();
    admin.say(&mut w, 0, Body::Revoke(revoke));
    w.run_for(3_000);
    // One statement that refers to the end of a long chain, then that chain from its end to its beginning.
    let mut pen = Pen::default();
    let chain = pen.write(&mut w, 2, &bob, 600, |_| {
        Body::Unknown(lab_crdt_log::Kind(99), vec![]).encode()
    });
    let chain: Vec<Bytes> = chain
        .iter()
        .scan((0, StatementId::ZERO), |(seq, prev), _| {
            let header = forge::Header {
                kind: 99,
                seq: *seq,
                prev: *prev,
                under: bob.under,
                hlc: lab_crdt_model::Hlc(1 << 50),
                refs: vec![],
            };
            let bytes = forge::sign(&w.mesh(), &bob.key, &header, &[1]);
            (*seq, *prev) = (*seq + 1, forge::id_of(&bytes));
            Some(bytes)
        })
        .collect();
    let hook = forge::Header {
        kind: 99,
        seq: 0,
        prev: StatementId::ZERO,
        under: bob.under,
        hlc: lab_crdt_model::Hlc(1 << 50),
        refs: vec![forge::id_of(&chain[chain.len() - 1])],
    };
    let hook = forge::sign(&w.mesh(), &bob.key, &hook, &[2]);
    tell_all(&mut w, 2, &[forge::statements(&[hook], false)]);
    let backwards: Vec<Bytes> = chain.into_iter().rev().collect();
    for part in backwards.chunks(100) {
        tell_all(&mut w, 2, &[forge::statements(part, false)]);
    }
    w.run_for(10_000);
    let kept = view(&mut w, 0)
        .history
        .iter()
        .filter(|c| c.author == bob.author())
        .count();
    println!("{kept} statements kept of a revoked key");
    assert!(kept <= 64, "{kept} statements of a revoked key are kept");
}

#[test]
fn statements_of_unknown_kinds_pass_through_old_nodes_byte_for_byte_and_mean_nothing() {
    let mut w = world(20, NODES);
    let bob = robbed(&mut w);
    let mut future = Future::default();
    let before = view(&mut w, 0).fields.len();
    let mut said = Vec::new();
    for (n, length) in [0, 1, 300, 2_000, 15_000].into_iter().enumerate() {
        let kind = [FIRST_KIND, 77, 128, 254, 255][n];
        said.extend(future.say(&mut w, &turn(&bob, 0), kind, &vec![n as u8; length]));
    }
    assert_eq!(said.len(), 5);
    w.run_for(5_000);
    // Whoever comes later hears of them from old nodes only.
    w.kill(THEIRS);
    let token = w.token(0, "late", Role::Node, &[], WitnessRule::Any);
    let late = w.join(token, None);
    assert!(w.run_until(60_000, |w| w.is_member(late) && w.are_equal()));
    for node in [0, 1, 2, 4, late] {
        let held = w.envelopes(node).expect("it runs");
        assert!(said.iter().all(|s| held.contains(s)), "node {node}");
    }
    assert_eq!(view(&mut w, late).fields.len(), before);
    // Its author goes on with what everyone understands.
    let reply = bob.set(&mut w, 0, "on/all/params/now", Value::Int(1));
    assert!(matches!(reply, Reply::Submitted { .. }), "{reply:?}");
    assert!(w.run_until(5_000, |w| w.value(late, "on/all/params/now").is_some()));
}

#[test]
fn what_a_later_version_says_to_an_old_one_harms_nobody() {
    story(
        21,
        &mut Future::default(),
        &[1, 0x12_34_56, 0xff_ff_ff_ff, 77],
        nothing,
    );
}

/// What happens now: a section that nobody knows is neither kept nor passed on.
#[test]
fn reports_of_unknown_sections_are_not_kept() {
    let mut w = world(22, NODES);
    let report = Future::report(&w, THEIRS, FIRST_SECTION, 1);
    let frames = [
        forge::push_register(&report),
        forge::registers(std::slice::from_ref(&report)),
    ];
    tell_all(&mut w, THEIRS, &frames);
    w.run_for(5_000);
    for node in 0..NODES {
        assert!(!w.reports(node).expect("it runs").contains(&report));
    }
}

/// What happens now: an edit with an operation of a later version is refused as malformed, and all that its author
/// says after it waits. Later versions have to use a new kind for it.
#[test]
fn an_edit_with_an_unknown_operation_keeps_back_what_its_author_says_after_it() {
    let mut w = world(23, NODES);
    let bob = robbed(&mut w);
    let mut future = Future::default();
    let later = future.say(&mut w, &turn(&bob, 0), 1, &Future::later_edit());
    let after = future.say(&mut w, &turn(&bob, 0), 99, &[1]);
    assert!(later.is_some() && after.is_some());
    w.run_for(5_000);
    assert!(w.are_equal());
    let held = w.envelopes(0).expect("it runs");
    assert!(!held.contains(&later.unwrap()) && !held.contains(&after.unwrap()));
    assert_eq!(w.counts(0).expect("it runs").waiting, 1);
    latency(&mut w, 0, "others");
}

#[test]
fn rights_of_later_versions_are_kept_and_give_nothing() {
    let mut w = world(24, 3);
    let admin = w.admin.clone();
    let eve = Person::new(18, admin.under, "eve");
    let grant = Grant {
        subject: eve.author(),
        name: "eve".into(),
        rights: Rights(0xffff_fff0),
        scope: vec![String::new()],
        not_after: None,
    };
    let Reply::Submitted { ids } = admin.say(&mut w, 0, Body::Grant(grant)) else {
        panic!("the grant was refused")
    };
    let eve = Person {
        under: ids[0],
        ..eve
    };
    let reply = eve.set(&mut w, 0, "on/all/params/eve", Value::Int(1));
    assert!(matches!(reply, Reply::Refused { .. }), "{reply:?}");
    assert!(w.run_until(5_000, |w| w.are_equal()));
}

#[test]
fn adversaries_break_nothing_in_plans_that_hold_without_them() {
    let mut plans = 0;
    let mut failed = Vec::new();
    for seed in 0..40 {
        let plan = generate_sized(seed, Profile::Homelab, 5);
        let families = &plan.options.families;
        if !families.contains(&Family::Adversary) || families.contains(&Family::DiskLie) {
            continue;
        }
        let acts = plan
            .actions
            .iter()
            .filter(|a| matches!(a.what, Act::Adversary { .. }));
        assert!(acts.count() > 0, "seed {seed}");
        let outcome = run(&plan, &mut ());
        let mut calm = plan.clone();
        calm.actions
            .retain(|a| !matches!(a.what, Act::Adversary { .. }));
        let before = run(&calm, &mut ());
        for violation in &outcome.violations {
            if !before.fails(violation.oracle) {
                failed.push(format!("seed {seed}: {violation}"));
            }
        }
        plans += 1;
        if plans == 1 {
            assert_eq!(run(&plan, &mut ()), outcome);
        }
        if plans == 3 {
            break;
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn a_stolen_machine_key_is_the_key_of_that_machine() {
    let w = world(25, 3);
    let key = SigningKey::from_bytes(&w.secret(1));
    assert_eq!(key.verifying_key().to_bytes(), w.id(1).0);
}

/// Makes a machine theirs that goes on as before.
fn take(world: &mut World) {
    let nobody = Hole {
        victims: vec![usize::MAX],
        is_deaf: false,
    };
    world.corrupt(THEIRS, Box::new(nobody));
}

/// Statements of one chain, signed past every agent.
fn chain(world: &World, person: &Person, count: u64) -> Vec<Bytes> {
    let (mesh, wall) = (world.mesh(), world.wall(0));
    let mut header = forge::Header {
        kind: 1,
        seq: 0,
        prev: StatementId::ZERO,
        under: person.under,
        hlc: lab_crdt_model::Hlc::from_wall(wall),
        refs: vec![],
    };
    let body = |n: u64| {
        let op = lab_crdt_model::Op::Set {
            path: "on/all/params/flood".parse().expect("a path"),
            field: lab_crdt_model::Field::new(Value::Int(n as i64), "person:bob"),
        };
        let (message, ops) = (String::new(), vec![op]);
        Body::Edit(lab_crdt_log::Edit { message, ops }).encode()
    };
    let mut said = Vec::new();
    for n in 0..count {
        let bytes = forge::sign(&mesh, &person.key, &header, &body(n));
        header.prev = forge::id_of(&bytes);
        header.seq += 1;
        said.push(bytes);
    }
    said
}

/// A world in which every input takes a millisecond, robbed of bob's key.
fn slow(seed: u64) -> (World, Person) {
    let mut options = Options::homelab(seed);
    options.step_ns = 1_000_000;
    let mut w = World::form(options, NODES);
    let has_formed = |w: &mut World| (0..NODES).all(|n| w.is_up(n)) && w.are_equal();
    assert!(w.run_until(60_000, has_formed));
    w.run_for(15_000);
    let bob = robbed(&mut w);
    (w, bob)
}

/// Milliseconds from an admin's hand-in at a machine until all honest ones have the same.
fn honest_edit(w: &mut World, node: usize, n: i64) -> u64 {
    let admin = w.admin.clone();
    let begun = w.now();
    let op = lab_crdt_model::Op::Set {
        path: "on/all/params/good".parse().expect("a path"),
        field: lab_crdt_model::Field::new(Value::Int(n), "person:ana"),
    };
    let (message, ops) = (String::new(), vec![op]);
    let edit = Body::Edit(lab_crdt_log::Edit { message, ops });
    assert!(matches!(admin.say(w, node, edit), Reply::Submitted { .. }));
    let want = format!("{n}");
    let has_all = |w: &mut World| {
        honest(w).iter().all(|n| {
            w.value(*n, "on/all/params/good")
                .is_some_and(|v| v.contains(&want))
        })
    };
    assert!(
        w.run_until(20_000, has_all),
        "an honest edit does not arrive"
    );
    w.now().ms_since(begun)
}

#[test]
fn a_flood_of_one_key_delays_nobody_and_fills_nobody() {
    let (mut w, bob) = slow(51);
    let before = honest_edit(&mut w, 0, 1_000_001);
    let memory: Vec<usize> = (0..NODES).map(|n| w.memory(n)).collect();
    take(&mut w);
    let said = chain(&w, &bob, 6_000);
    for (n, chunk) in said.chunks(1_500).enumerate() {
        // The same again, and junk in the name of the admin.
        let mut junk = chunk.to_vec();
        for bytes in &mut junk {
            let mut forged = bytes.to_vec();
            forged[2..34].copy_from_slice(&w.admin.author().0);
            *bytes = forged.into();
        }
        let frames = [chunk, &junk, chunk].map(|all| forge::statements(all, false));
        tell_all(&mut w, THEIRS, &frames);
        w.run_for(5);
        let took = honest_edit(&mut w, n % 3, 2_000_000 + n as i64);
        assert!(took <= 2 * before + 200, "{before} -> {took} ms");
        for node in honest(&w) {
            let more = w.memory(node).saturating_sub(memory[node]);
            assert!(more < 8 << 20, "{more} bytes wait at {node}");
        }
    }
    assert!(w.run_until(60_000, |w| are_equal(w)));
}

#[test]
fn forks_without_end_are_bounded_and_replicas_become_equal() {
    let (mut w, bob) = slow(52);
    let before = honest_edit(&mut w, 0, 1_000_001);
    take(&mut w);
    let count = w.counts(0).unwrap().statements;
    let mesh = w.mesh();
    let forks: Vec<Bytes> = (0..4_000_u64)
        .map(|n| {
            let header = forge::Header {
                kind: 1,
                seq: 0,
                prev: StatementId::ZERO,
                under: bob.under,
                hlc: lab_crdt_model::Hlc(n),
                refs: vec![],
            };
            let ops = Vec::new();
            let message = format!("{n}");
            let body = Body::Edit(lab_crdt_log::Edit { message, ops }).encode();
            forge::sign(&mesh, &bob.key, &header, &body)
        })
        .collect();
    for (n, chunk) in forks.chunks(1_000).enumerate() {
        let frames = [forge::statements(chunk, false)];
        tell_all(&mut w, THEIRS, &frames);
        w.run_for(5);
        let took = honest_edit(&mut w, n % 3, 2_000_000 + n as i64);
        assert!(took <= 2 * before + 200, "{before} -> {took} ms");
    }
    w.run_for(30_000);
    for node in honest(&w) {
        let more = w.counts(node).unwrap().statements - count;
        assert!(more <= 4 + 4, "{more} statements are kept at {node}");
    }
}

#[test]
fn an_operator_who_hands_in_without_end_is_told_when_to_go_on() {
    let mut w = world(53, NODES);
    let bob = robbed(&mut w);
    let said = chain(&w, &bob, 700);
    let mut refused = None;
    for (n, bytes) in said.iter().enumerate() {
        let statements = vec![bytes.clone()];
        match w.ask(
            1,
            lab_agent_core::Command::Submit {
                caller: lab_crdt_model::Caller::Local { uid: 0 },
                statements,
            },
        ) {
            Reply::Submitted { .. } => {}
            Reply::Refused { code, why } => {
                refused = Some((n, code, why));
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    let (count, code, why) = refused.expect("not without end");
    assert!((600..=610).contains(&count), "{count}");
    assert_eq!(code, "M014");
    assert!(why.ends_with("try again in 1 s"), "{why}");
    w.run_for(2_000);
    let statements = vec![said[count].clone()];
    let again = w.ask(
        1,
        lab_agent_core::Command::Submit {
            caller: lab_crdt_model::Caller::Local { uid: 0 },
            statements,
        },
    );
    assert!(matches!(again, Reply::Submitted { .. }), "{again:?}");
    assert!(
        w.run_until(30_000, |w| are_equal(w)),
        "all of it is everywhere"
    );
}

#[test]
fn a_machine_that_was_copied_with_its_key_is_told_of_and_lets_nobody_in() {
    let mut w = world(54, NODES);
    let victim = 1;
    let (mesh, id) = (w.mesh(), w.id(victim));
    let key = SigningKey::from_bytes(&w.secret(victim));
    take(&mut w);
    for _ in 0..3 {
        let reports = w.reports(THEIRS).unwrap();
        let newest = Section::ALL.map(|s| forge::newest_seq(&reports, &id, s));
        let seq = newest.into_iter().max().unwrap() + 1;
        let body = reports
            .iter()
            .find(|r| r[1] == Section::Beacon as u8 && r[2..34] == id.0)
            .map(|r| r[54..r.len() - 64].to_vec())
            .unwrap();
        let report = forge::sign_register(&mesh, &key, Section::Beacon as u8, seq, &body);
        tell_all(&mut w, THEIRS, &[forge::push_register(&report)]);
        w.run_for(5_000);
    }
    for node in honest(&w) {
        let view = view(&mut w, node);
        let found = view.issues.iter().filter(|i| i.code == "M046").count();
        assert_eq!(found, 1, "{node}: {:?}", view.issues);
    }
    let Token::Ticket(mut ticket) = w.token(0, "guest", Role::Node, &[], WitnessRule::Any) else {
        panic!("a ticket")
    };
    w.run_for(5_000);
    ticket.addresses = vec![(w.id(victim), w.address(victim))];
    let guest = w.join(Token::Ticket(ticket), None);
    w.run_for(20_000);
    let why = w.refused_join(guest).unwrap_or_default().to_owned();
    assert!(why.contains("two machines run with the key"), "{why}");
}

#[test]
fn a_machine_that_starts_again_is_not_taken_for_two() {
    let mut w = world(55, NODES);
    for _ in 0..4 {
        w.kill(1);
        w.run_for(2_000);
        w.start(1);
        w.run_for(10_000);
    }
    for node in 0..NODES {
        assert!(!view(&mut w, node).issues.iter().any(|i| i.code == "M046"));
    }
}

#[test]
fn a_machine_that_was_rolled_back_does_not_fork_its_chain() {
    let mut w = world(56, NODES);
    let let_in = |w: &mut World, name: &str, at: usize| {
        let Token::Ticket(mut ticket) = w.token(0, name, Role::Node, &[], WitnessRule::Any) else {
            panic!("a ticket")
        };
        ticket.addresses = vec![(w.id(at), w.address(at))];
        w.run_for(3_000);
        w.join(Token::Ticket(ticket), None)
    };
    let name = "old".to_owned();
    let first = let_in(&mut w, "first", 1);
    assert!(w.run_until(30_000, |w| w.is_member(first)));
    w.run_for(3_000);
    w.apply_disk(1, &DiskFault::Snapshot { name: name.clone() });
    let second = let_in(&mut w, "second", 1);
    assert!(w.run_until(30_000, |w| w.is_member(second)));
    w.run_for(3_000);
    // From here on its disk does not know whom it saw last.
    let third = {
        let third = let_in(&mut w, "third", 1);
        w.kill(1);
        w.apply_disk(1, &DiskFault::Rollback { to: name });
        w.start(1);
        third
    };
    assert!(w.run_until(120_000, |w| w.is_member(third)));
    w.run_for(10_000);
    for node in (0..w.len()).filter(|n| w.is_up(*n)).collect::<Vec<_>>() {
        let view = view(&mut w, node);
        assert!(
            !view.issues.iter().any(|i| i.code == "M020"),
            "{:?}",
            view.issues
        );
    }
}
