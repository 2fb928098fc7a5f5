//! The plans that are kept in `seeds/`: regressions and examples. Every one is replayed.

use std::collections::BTreeSet;
use std::path::PathBuf;

use lab_agent_core::ViewMask;
use lab_crdt_model::view::MemberState;
use lab_simulation::plan::{
    Act, Action, Answer, Judges, Plan, Profile, Violation, generate, regressions, run_with,
};
use lab_simulation::{World, adversary};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("seeds")
}

fn files() -> Vec<(String, String)> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(folder()).expect("the folder is there") {
        let path = entry.expect("it can be listed").path();
        if path.extension().is_some_and(|e| e == "ron") {
            let name = path.file_name().expect("a file has a name");
            let text = std::fs::read_to_string(&path).expect("it can be read");
            out.push((name.to_string_lossy().into_owned(), text));
        }
    }
    out.sort();
    out
}

fn read(name: &str, text: &str) -> Plan {
    Plan::read(text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn every_plan_that_is_kept_reads_back_byte_for_byte() {
    for (name, text) in files() {
        assert_eq!(read(&name, &text).write(), text, "{name}");
    }
}

#[test]
fn every_regression_names_a_plan_that_is_kept_and_every_plan_has_a_story() {
    let list = std::fs::read_to_string(folder().join("regressions.txt")).unwrap();
    let names: BTreeSet<String> = files().into_iter().map(|(name, _)| name).collect();
    for line in regressions(&list).unwrap() {
        assert!(names.contains(&line.file), "{} is not there", line.file);
    }
    for (name, text) in files() {
        assert!(!read(&name, &text).story.is_empty(), "{name} has no story");
    }
}

/// Wants all replicas to be equal at the end, and every read to be answered.
#[derive(Default)]
struct Basics(Vec<Violation>);

impl Judges for Basics {
    fn acted(&mut self, world: &mut World, action: &Action, answer: &Answer) {
        if matches!(action.what, Act::Read(_))
            && matches!(answer, Answer::Refused { code, .. } if *code != "M001")
        {
            self.0.push(Violation {
                oracle: "reads_are_always_answered",
                at: world.now(),
                node: Some(action.node),
                what: format!("{answer:?}"),
            });
        }
    }

    fn end(&mut self, world: &mut World) {
        // Who was sent away hears nothing more, and need not be equal.
        let up: Vec<usize> = (0..world.len())
            .filter(|n| world.is_up(*n) && !world.is_corrupt(*n))
            .collect();
        let mask = ViewMask {
            roster: true,
            ..ViewMask::default()
        };
        let mut sent_away = BTreeSet::new();
        for node in &up {
            let members = world.agent_view(*node, mask).map(|v| v.members);
            for member in members.into_iter().flatten() {
                if member.state != MemberState::Member {
                    sent_away.insert(member.node);
                }
            }
        }
        let digests: BTreeSet<_> = up
            .into_iter()
            .filter(|n| !sent_away.contains(&world.id(*n)))
            .filter_map(|n| world.digests(n))
            .map(|d| (d.statements, d.heads))
            .collect();
        if digests.len() > 1 {
            self.0.push(Violation {
                oracle: "replicas_are_equal_at_the_end",
                at: world.now(),
                node: None,
                what: format!("{} different replicas", digests.len()),
            });
        }
    }

    fn take(&mut self) -> Vec<Violation> {
        std::mem::take(&mut self.0)
    }
}

#[test]
fn every_plan_that_is_kept_holds() {
    for (name, text) in files() {
        let plan = read(&name, &text);
        let mut judges = (plan.panel(), Basics::default());
        let outcome = run_with(&plan, &mut judges, &mut (), &mut adversary::all());
        assert_eq!(outcome.violations, [], "{name}");
    }
}

#[test]
fn plans_of_large_meshes_are_made_quickly_and_read_back() {
    for profile in Profile::ALL {
        let plan = generate(77, profile);
        assert_eq!(plan.options.nodes, profile.nodes());
        assert_eq!(Plan::read(&plan.write()), Ok(plan));
    }
}
