//! Agents are killed all the time while people edit.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::network::{is_left_out, mesh};
use crate::support::{Dice, LATER, SOON, now};

const LENGTH: Duration = Duration::from_secs(20);

#[test]
fn a_storm_of_kill_9_loses_no_acknowledged_edit() {
    if is_left_out() {
        return;
    }
    let mut dice = Dice::seeded();
    let (lab, network) = mesh(5);
    let people: Vec<(usize, PathBuf)> = [(1, "bob"), (3, "eva")]
        .map(|(at, name)| (at, lab.operator(name, &[])))
        .into();
    let is_over = AtomicBool::new(false);
    let edit = |at: usize, key: &PathBuf, who: &str| {
        let mut done = Vec::new();
        for n in 0.. {
            if is_over.load(Ordering::Relaxed) {
                break;
            }
            let label = format!("{who}{n}");
            let ran = lab.cli_as(key, at, &["label", "add", &label, "-t", "n5"]);
            if ran.code == 0 {
                done.push(label);
            }
        }
        done
    };
    let acknowledged: Vec<String> = std::thread::scope(|scope| {
        let editors: Vec<_> = people
            .iter()
            .enumerate()
            .map(|(n, (at, key))| scope.spawn(move || edit(*at, key, &format!("w{n}-"))))
            .collect();
        let begun = now();
        let mut kills = 0;
        while now() - begun < LENGTH {
            let at = *dice.pick(&[0, 1, 2, 3, 4]);
            let life = Duration::from_millis(dice.below(1_500));
            lab.kill(at);
            kills += 1;
            let dead_since = now();
            lab.until("it has been dead for a while", SOON, || {
                now() - dead_since > life / 3
            });
            lab.start(at);
            let alive_since = now();
            lab.until("it has lived for a while", SOON, || {
                now() - alive_since > life
            });
        }
        is_over.store(true, Ordering::Relaxed);
        assert!(kills >= 5, "only {kills} kills");
        editors
            .into_iter()
            .flat_map(|e| e.join().unwrap())
            .collect()
    });
    assert!(
        acknowledged.len() >= 20,
        "only {} edits were acknowledged",
        acknowledged.len()
    );

    lab.until("the mesh is whole", LATER, || lab.is_whole());
    for at in 0..5 {
        let view = lab.view(at);
        for label in &acknowledged {
            let path = format!("label/n5/{label}");
            assert!(
                view.fields.iter().any(|f| f.path.as_str() == path),
                "n{} lost {label}",
                at + 1
            );
        }
        assert_eq!(view.pending_count, 0);
    }
    let history = lab.history(4).history;
    assert!(
        history.iter().all(|c| c.is_effective),
        "{:?}",
        history.iter().find(|c| !c.is_effective)
    );
    drop((lab, network));
}
