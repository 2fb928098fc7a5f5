//! Searches with made-up failures, and one with a real run.

use lab_crdt_model::Value;
use proptest::prelude::*;

use super::*;
use crate::plan::{Act, Judges, Profile, Violation, generate, generate_sized, run_with};
use crate::world::World;

fn forever() -> bool {
    false
}

fn search(plan: &Plan, runs: u32, fails: &mut dyn FnMut(&Plan) -> bool) -> Shrunk {
    let mut is_over = forever;
    let mut budget = Budget {
        runs,
        is_over: &mut is_over,
    };
    shrink(plan, &mut budget, fails)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn only_what_the_failure_needs_is_left(seed in 0u64..5_000, picks in prop::collection::vec(any::<prop::sample::Index>(), 1..4)) {
        let plan = generate(seed, Profile::Homelab);
        let needed: Vec<Act> = picks.iter().map(|p| p.get(&plan.actions).what.clone()).collect();
        let holds = |candidate: &Plan| needed.iter().all(|act| candidate.actions.iter().any(|a| a.what == *act));
        let mut runs = 0;
        let mut fails = |candidate: &Plan| {
            runs += 1;
            assert_eq!(candidate.check(), Ok(()));
            holds(candidate)
        };
        let shrunk = search(&plan, 5_000, &mut fails);
        prop_assert_eq!(shrunk.runs, runs);
        prop_assert!(shrunk.is_minimal);
        prop_assert!(holds(&shrunk.plan));
        prop_assert!(shrunk.plan.actions.len() <= needed.len());
        prop_assert!(shrunk.plan.faults.is_empty());
        prop_assert_eq!(&Plan::read(&shrunk.plan.write()), &Ok(shrunk.plan.clone()));
        let again = search(&plan, 5_000, &mut |p| holds(p));
        prop_assert_eq!(again, shrunk);
    }

    #[test]
    fn a_search_that_runs_out_gives_a_plan_that_fails(seed in 0u64..5_000, budget in 0u32..40) {
        let plan = generate(seed, Profile::Homelab);
        let least = plan.actions.len() / 2;
        let shrunk = search(&plan, budget, &mut |p| p.actions.len() >= least);
        prop_assert!(shrunk.runs <= budget);
        prop_assert!(shrunk.plan.actions.len() >= least);
    }
}

#[test]
fn a_search_ends_when_its_time_is_up() {
    let plan = generate(3, Profile::Homelab);
    let mut left = 10;
    let mut is_over = || {
        left -= 1;
        left < 0
    };
    let mut budget = Budget {
        runs: u32::MAX,
        is_over: &mut is_over,
    };
    let shrunk = shrink(&plan, &mut budget, &mut |_| true);
    assert!(shrunk.runs <= 10);
    assert!(!shrunk.is_minimal);
}

#[test]
fn nodes_that_leave_a_plan_are_left_out_everywhere() {
    let plan = generate(11, Profile::Small);
    let gone: BTreeSet<usize> = (0..50).filter(|n| n % 3 == 0).collect();
    let less = without_nodes(&plan, &gone);
    assert_eq!(less.options.nodes, 33);
    assert_eq!(less.check(), Ok(()));
    assert!(less.nodes().range(..33).count() == 33);
    assert_eq!(without_nodes(&plan, &BTreeSet::new()), plan);
}

/// Objects to a label, wherever it is seen.
#[derive(Default)]
struct NoDatabases(Vec<Violation>);

impl Judges for NoDatabases {
    fn sample(&mut self, world: &mut World) {
        for node in 0..world.len() {
            let is_there = world.agent_view(
                node,
                lab_agent_core::ViewMask {
                    fields: true,
                    ..lab_agent_core::ViewMask::default()
                },
            );
            let has = is_there.is_some_and(|v| {
                v.fields.iter().any(|f| {
                    f.path.as_str().ends_with("/role=db")
                        && f.candidates
                            .first()
                            .is_some_and(|c| c.field.value == Value::Bool(true))
                })
            });
            if has {
                self.0.push(Violation {
                    oracle: "nobody_is_a_database",
                    at: world.now(),
                    node: Some(node),
                    what: "it is".into(),
                });
            }
        }
    }

    fn take(&mut self) -> Vec<Violation> {
        std::mem::take(&mut self.0)
    }
}

#[test]
fn a_planted_failure_shrinks_to_one_action_at_one_node() {
    let fails = |plan: &Plan| {
        run_with(plan, &mut NoDatabases::default(), &mut (), &mut []).fails("nobody_is_a_database")
    };
    let plan = (0..40)
        .map(|seed| generate_sized(seed, Profile::Homelab, 5))
        .find(|p| {
            p.actions.len() > 20
                && p.actions.iter().any(
                    |a| matches!(&a.what, Act::Label { label, is_set: true, .. } if label == "role=db"),
                )
                && fails(p)
        })
        .expect("some plan makes a database");
    let shrunk = search(&plan, 300, &mut |p| fails(p));
    assert!(shrunk.plan.actions.len() <= 3, "{}", shrunk.plan.write());
    assert!(shrunk.plan.options.nodes <= 3, "{}", shrunk.plan.write());
    assert!(shrunk.plan.faults.is_empty(), "{}", shrunk.plan.write());
    assert!(fails(&shrunk.plan));
}
