//! Agents that die at the worst moment.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lab_crdt_model::view::Liveness;

use crate::support::{Dice, SOON, TestLab, now};

#[test]
fn an_acknowledged_label_survives_kill_9_of_its_agent() {
    let mut dice = Dice::seeded();
    // Alone: what is there after the kill was on its own disk.
    let lab = TestLab::of(1);
    let mut acknowledged: Vec<String> = Vec::new();
    for round in 0..8 {
        let life = Duration::from_millis(dice.below(400));
        let is_over = AtomicBool::new(false);
        let new: Vec<String> = std::thread::scope(|scope| {
            let editor = scope.spawn(|| {
                let mut done = Vec::new();
                for n in 0.. {
                    if is_over.load(Ordering::Relaxed) {
                        break;
                    }
                    let label = format!("k{round}-{n}");
                    if lab.cli(0, &["label", "add", &label, "-t", "n1"]).code == 0 {
                        done.push(label);
                    }
                }
                done
            });
            let begun = now();
            lab.until("its life is over", SOON, || now() - begun > life);
            lab.kill(0);
            is_over.store(true, Ordering::Relaxed);
            editor.join().unwrap()
        });
        acknowledged.extend(new);

        lab.start(0);
        for label in &acknowledged {
            assert!(
                lab.has_label(0, "n1", label),
                "{label} was acknowledged and is lost after kill {round}"
            );
        }
        assert_eq!(lab.view(0).pending_count, 0);
    }
    assert!(
        acknowledged.len() >= 8,
        "only {} labels were acknowledged",
        acknowledged.len()
    );
    let view = lab.history(0);
    assert_eq!(view.history.len() as u64, view.statement_count);
    assert!(
        view.history.iter().all(|c| c.is_effective),
        "{:?}",
        view.history
    );
    lab.cli(0, &["doctor", "--exit-code"]).ok();
}

#[test]
fn what_a_killed_agent_acknowledged_is_in_the_whole_mesh_when_it_is_back() {
    let lab = TestLab::of(3);
    for round in 0..3 {
        let label = format!("r{round}");
        lab.cli(1, &["label", "add", &label, "-t", "n3"]).ok();
        lab.kill(1);
        lab.until_seen(0, 1, Liveness::Down);
        lab.start(1);
        lab.until("all have the label", SOON, || {
            (0..3).all(|at| lab.has_label(at, "n3", &label))
        });
        lab.until_whole();
    }
}

#[test]
fn an_agent_that_was_off_during_edits_catches_up() {
    let lab = TestLab::of(3);
    lab.kill(2);
    for n in 0..30 {
        lab.cli(n % 2, &["label", "add", &format!("e{n}"), "-t", "n3"])
            .ok();
        lab.until("the two that are left are equal", SOON, || {
            lab.are_equal(&[0, 1])
        });
    }
    let plan = lab.cli(0, &["plan"]);
    assert!(plan.code == 0 || plan.code == 4, "{}", plan.said());
    lab.start(2);
    lab.until_whole();
    assert!((0..30).all(|n| lab.has_label(2, "n3", &format!("e{n}"))));
}

#[test]
fn a_whole_mesh_that_loses_power_comes_back_whole() {
    let lab = TestLab::of(3);
    lab.cli(0, &["label", "add", "role=web", "-t", "n1,n2,n3"])
        .ok();
    lab.until_whole();
    let digest = lab.view(0).digest;
    for at in 0..3 {
        lab.kill(at);
    }
    for at in 0..3 {
        lab.spawn(at);
    }
    for at in 0..3 {
        lab.until_up(at);
    }
    assert!((0..3).all(|at| lab.view(at).digest == digest));
    lab.cli(2, &["label", "add", "canary", "-t", "n1"]).ok();
    lab.until_whole();
    assert!((0..3).all(|at| lab.has_label(at, "n1", "canary")));
}
