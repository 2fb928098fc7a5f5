//! Runs of small plans.

use lab_crdt_model::Value;

use super::*;
use crate::ProcessFault;
use crate::plan::{Lens, Profile, Trouble, generate_sized};

/// Keeps what became of every action.
#[derive(Default)]
struct Log(Vec<(Act, Answer)>);

impl Observer for Log {
    fn acted(&mut self, _at: Mono, action: &Action, answer: &Answer) {
        self.0.push((action.what.clone(), answer.clone()));
    }
}

/// Wants all replicas to be equal at the end.
#[derive(Default)]
pub(crate) struct Equal(Vec<Violation>);

impl Judges for Equal {
    fn end(&mut self, world: &mut World) {
        if !world.are_equal() {
            self.0.push(Violation {
                oracle: "replicas_are_equal_at_the_end",
                at: world.now(),
                node: None,
                what: "they differ".into(),
            });
        }
    }

    fn take(&mut self) -> Vec<Violation> {
        std::mem::take(&mut self.0)
    }
}

fn calm(nodes: usize) -> Plan {
    let mut plan = generate_sized(1, Profile::Homelab, nodes);
    plan.actions.clear();
    plan.faults.clear();
    plan.options.store = Store::Model;
    plan.phases.chaos_ms = 20_000;
    plan.phases.core.clear();
    plan.phases.heal_ms = 20_000;
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

fn play(plan: &Plan) -> (Outcome, Vec<(Act, Answer)>) {
    let mut log = Log::default();
    let outcome = run_with(plan, &mut Equal::default(), &mut log, &mut []);
    (outcome, log.0)
}

fn label(of: usize) -> Act {
    Act::Label {
        of,
        label: "role=web".into(),
        is_set: true,
    }
}

#[test]
fn everything_that_people_do_is_done() {
    let mut plan = calm(3);
    let token = |token, lease_ms| Act::Token {
        token,
        lease_ms,
        uses: 1,
        ends_ms: 3_600_000,
        labels: vec!["canary".into()],
        witness: crate::plan::Witnesses::Any,
        is_confirmed: false,
    };
    let grant = Act::Grant {
        to: 1,
        rights: vec![crate::plan::Right::Config],
        scope: vec!["on".into()],
        ends_ms: None,
    };
    let (path, value) = ("on/all/params/x".to_owned(), Value::Int(1));
    let set = Act::Set {
        path: path.clone(),
        value,
    };
    let read = Act::Read(Lens {
        roster: true,
        fields: true,
        reports: true,
        history: 5,
    });
    plan.actions = vec![
        at(0, 0, 0, label(1)),
        at(500, 0, 1, grant),
        at(1_000, 1, 2, set),
        at(1_500, 1, 2, Act::Undo),
        at(2_000, 0, 1, token(1, 0)),
        at(2_500, 0, 3, Act::Join { token: 1 }),
        at(3_000, 0, 1, token(2, 86_400_000)),
        at(3_500, 0, 4, Act::Join { token: 2 }),
        at(9_000, 104, 4, label(2)),
        at(9_500, 0, 4, Act::Away),
        at(10_000, 0, 3, read),
        at(11_000, 0, 4, Act::Return),
        at(11_500, 0, 2, Act::Decommission { of: 3 }),
        at(12_000, 0, 2, Act::RevokeToken { token: 1 }),
        at(12_500, 0, 2, Act::Repeat),
        at(
            13_000,
            0,
            2,
            Act::RevokeOperator {
                of: 1,
                is_cut: true,
            },
        ),
        at(14_000, 1, 0, Act::Unset { path }),
        at(15_000, 0, 0, Act::Garbage { bytes: 100 }),
    ];
    let (outcome, log) = play(&plan);
    for (act, answer) in &log[..log.len() - 2] {
        assert_eq!(answer, &Answer::Done, "{act:?}");
    }
    for (act, answer) in &log[log.len() - 2..] {
        assert!(
            matches!(answer, Answer::Refused { .. }),
            "{act:?} {answer:?}"
        );
    }
    assert_eq!(log.len(), plan.actions.len());
    assert_eq!(outcome.stats.nodes, 5);
}

#[test]
fn nobody_answers_at_a_machine_that_is_off_and_the_fault_ends_when_it_says() {
    let mut plan = calm(3);
    plan.actions = vec![at(6_000, 0, 1, label(1)), at(9_000, 0, 1, label(2))];
    plan.faults = vec![Fault {
        at_ms: 5_000,
        plus_us: 0,
        for_ms: 2_000,
        nodes: vec![1],
        what: Trouble::Process(ProcessFault::Kill),
    }];
    let (outcome, log) = play(&plan);
    assert_eq!(log[0].1, Answer::Left("the machine is off"));
    assert_eq!(log[1].1, Answer::Done);
    assert_eq!(outcome.violations, []);
}

#[test]
fn a_crash_in_the_middle_of_a_write_leaves_the_answer_open() {
    let mut plan = calm(3);
    plan.actions = vec![at(6_000, 0, 1, label(1))];
    plan.faults = vec![Fault {
        at_ms: 6_000,
        plus_us: 400,
        for_ms: 2_000,
        nodes: vec![1],
        what: Trouble::Process(ProcessFault::Kill),
    }];
    let (outcome, log) = play(&plan);
    assert_eq!(log[0].1, Answer::Unknown);
    assert_eq!(outcome.violations, []);
}

#[test]
fn people_wait_for_their_answer_before_they_go_on_and_fork_nothing() {
    let mut plan = calm(3);
    plan.actions = (0..10).map(|n| at(6_000, 0, 0, label(n % 3))).collect();
    plan.actions.push(at(6_000, 0, 2, label(1)));
    let (outcome, log) = play(&plan);
    assert!(log[..10].iter().all(|(_, a)| *a == Answer::Done), "{log:?}");
    assert_eq!(
        log[10].1,
        Answer::Left("the machine has not heard what they said last")
    );
    assert_eq!(outcome.violations, []);
}

#[test]
fn a_panic_ends_a_run_and_is_a_violation() {
    struct Clumsy;
    impl Adversary for Clumsy {
        fn name(&self) -> &str {
            "clumsy"
        }
        fn act(&mut self, _world: &mut World, turn: &Turn) {
            panic!("dropped {}", turn.with);
        }
    }
    let mut plan = calm(2);
    let what = Act::Adversary {
        name: "clumsy".into(),
        with: 7,
    };
    plan.actions = vec![at(6_000, 0, 1, what)];
    let outcome = run_with(&plan, &mut (), &mut (), &mut [Box::new(Clumsy)]);
    assert!(outcome.fails("no_panic"));
    assert!(outcome.violations[0].what.contains("dropped 7"));
    assert!(outcome.stats.virtual_ms > 6_000);
    assert_eq!(run(&plan, &mut ()).violations, []);
}

#[test]
fn generated_plans_run_the_same_twice_and_mostly_make_sense() {
    let (mut done, mut all, mut marks) = (0, 0, 0);
    for seed in 0..6 {
        let plan = generate_sized(seed, Profile::Homelab, 5);
        let (first, log) = play(&plan);
        let (second, _) = play(&plan);
        assert_eq!(first, second, "seed {seed}");
        assert!(
            !first.fails("no_panic"),
            "seed {seed}: {:?}",
            first.violations
        );
        done += first.stats.done;
        all += plan.actions.len() as u64;
        assert_eq!(log.len(), plan.actions.len(), "seed {seed}");
        marks += first.marks.len();
    }
    assert!(marks > 0, "marks are compiled in");
    assert!(done * 3 > all * 2, "only {done} of {all} actions were done");
}
