//! Plans on disk.

use super::*;
use lab_crdt_model::Value;

fn plan() -> Plan {
    Plan {
        version: VERSION,
        seed: 7,
        story: "two people edit \"one\" field".into(),
        options: Options {
            profile: Profile::Homelab,
            nodes: 3,
            store: Store::Mixed(2),
            network: network::Config {
                loss_per_mille: 5,
                ..network::Config::new(network::Profile::Wifi)
            },
            families: BTreeSet::from([Family::Partition, Family::Clock]),
            biases: BTreeSet::new(),
        },
        phases: Phases {
            warm_up_ms: 1_000,
            chaos_ms: 10_000,
            core: vec![0, 2],
            core_ms: 5_000,
            heal_ms: 60_000,
        },
        limits: Limits {
            is_loss_expected: false,
            idle_bytes: 1_000,
            detect_ms: 15_000,
            sample_ms: 1_000,
        },
        actions: vec![
            Action {
                at_ms: 1_500,
                who: 0,
                node: 2,
                what: Act::Set {
                    path: "on/all/params/x".into(),
                    value: Value::List(vec![Value::Int(-1), Value::text("a\nb")]),
                },
            },
            Action {
                at_ms: 1_501,
                who: 0,
                node: 0,
                what: Act::Undo,
            },
        ],
        faults: vec![Fault {
            at_ms: 1_500,
            plus_us: 250,
            for_ms: 4_000,
            nodes: vec![],
            what: Trouble::Network(NetworkFault::Partition {
                groups: vec![Scope::from([0]), Scope::from([1, 2])],
            }),
        }],
    }
}

#[test]
fn a_plan_reads_back_as_it_was_written() {
    let text = plan().write();
    assert_eq!(Plan::read(&text), Ok(plan()), "{text}");
    assert_eq!(Plan::read(&text).unwrap().write(), text);
}

#[test]
fn an_action_and_a_fault_are_one_line_each() {
    let text = plan().write();
    for start in [
        "(at_ms: 1500, who: 0",
        "(at_ms: 1501, who: 0",
        "(at_ms: 1500, plus_us",
    ] {
        let line = text
            .lines()
            .find(|l| l.trim_start().starts_with(start))
            .unwrap_or_else(|| panic!("{start} begins no line of\n{text}"));
        assert!(line.trim_end().ends_with("),"), "{line}");
    }
}

#[test]
fn an_unknown_field_is_refused_where_it_stands() {
    let text = plan().write().replace("seed: 7,", "seed: 7,\n    sead: 8,");
    let line = text.lines().position(|l| l.contains("sead")).unwrap() + 1;
    match Plan::read(&text) {
        Err(PlanError::Text { line: at, why, .. }) => {
            assert_eq!(at, line, "{why}");
            assert!(why.contains("sead"), "{why}");
        }
        other => panic!("{other:?}"),
    }
    for (from, to) in [
        ("who: 0", "whom: 0"),
        ("nodes: 3", "nodes: 3, bodes: 4"),
        ("groups:", "troops:"),
    ] {
        let text = plan().write().replacen(from, to, 1);
        assert!(
            matches!(Plan::read(&text), Err(PlanError::Text { .. })),
            "{to}"
        );
    }
}

#[test]
fn a_plan_that_makes_no_sense_is_refused() {
    let broken = |change: fn(&mut Plan)| {
        let mut plan = plan();
        change(&mut plan);
        Plan::read(&plan.write())
    };
    assert_eq!(broken(|p| p.version = 9), Err(PlanError::Version(9)));
    for change in [
        (|p| p.options.nodes = 0) as fn(&mut Plan),
        |p| p.actions.reverse(),
        |p| p.phases.core = vec![3],
        |p| p.limits.sample_ms = 0,
    ] {
        assert!(matches!(broken(change), Err(PlanError::Senseless(_))));
    }
}

#[test]
fn phases_follow_each_other() {
    let mut phases = plan().phases;
    assert_eq!(phases.phase(999), Phase::WarmUp);
    assert_eq!(phases.phase(1_000), Phase::Chaos);
    assert_eq!(phases.phase(11_000), Phase::Core);
    assert_eq!(phases.phase(16_000), Phase::Heal);
    assert_eq!(phases.end_at(), 76_000);
    phases.core.clear();
    assert_eq!(phases.phase(11_000), Phase::Heal);
}
