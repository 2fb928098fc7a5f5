//! Clocks that are wrong.

use super::Scenario;
use super::home::{Home, LAPTOP, MINI1, NAS, PI, VM1, VM2, listed};
use crate::clock::ClockFault;
use crate::duration::words;
use crate::timeline::State;

pub(super) const WRONG: Scenario = Scenario {
    name: "wrong-clock",
    question: "What happens when a machine boots with a wrong clock?",
    plot: "pi has no clock of its own and boots in 1970, without a time server; at the same time vm2 wakes up two years \
           ahead. Ana works at both and at the others. A quarter of an hour later both clocks are set.",
    advice: "Nothing in the mesh depends on it; set up a time server for everything else.",
    run: wrong,
};

fn wrong(home: &mut Home) {
    let ana = home.ana.clone();
    let same = "on/all/params/same";
    home.set(&ana, NAS, same, 1);
    home.wait_equal(30_000);
    home.kill(PI);
    home.wait(30_000);
    let start = home.now();
    home.world
        .apply_clock(PI, &ClockFault::Set { wall_ms: 5_000 });
    home.world.apply_clock(
        VM2,
        &ClockFault::Step {
            ms: 2 * 365 * 86_400_000,
        },
    );
    home.start(PI);
    home.set_state(&[PI, VM2], State::Sick, true);
    home.fault(Some(PI), "pi boots in 1970");
    home.tell("vm2 is two years ahead");
    let took = home.wait_back(&[PI, VM2], 60_000);
    home.claim(
        took.is_some(),
        format!(
            "pi is back in the mesh and equal {} after it boots, in 1970.",
            words(took.unwrap_or(0))
        ),
        "pi did NOT come back into the mesh.",
    );
    let mut done = 0;
    for n in 0..4 {
        done += u32::from(home.set(
            &ana,
            [PI, VM2, MINI1, LAPTOP][n],
            &format!("on/all/params/clock{n}"),
            n as i64,
        ));
        home.wait(2_000);
    }
    done += u32::from(home.set(&ana, VM2, same, 2));
    home.wait_equal(30_000);
    let spread = home.spread(&ana, PI, same, 3);
    done += u32::from(spread.is_some());
    home.claim(
        done == 6 && spread.is_some(),
        format!("Work goes on: all 6 changes are confirmed, also at pi and vm2; the last one reaches all machines in {}.", words(spread.unwrap_or(0))),
        format!("Only {done} of 6 changes were confirmed, or they did not spread."),
    );
    let wins: Vec<Option<String>> = home.up().into_iter().map(|n| home.value(n, same)).collect();
    home.claim(
        wins.iter().all(|v| v.as_deref() == Some("3")),
        "Who changed something last wins, not whose clock is ahead: pi's change from 1970 replaces vm2's from two years ahead.",
        format!("The machine with the clock ahead won: {wins:?}."),
    );
    let wrong = home.accused(start + 10_000, &[]);
    home.claim(
        wrong.is_empty(),
        "No machine was taken for dead because of a clock.",
        format!("Machines were taken for dead: {}.", listed(&wrong)),
    );
    home.wait(900_000);
    home.fault(None, "both clocks are set");
    home.world.apply_clock(PI, &ClockFault::Right);
    home.world.apply_clock(VM2, &ClockFault::Right);
    home.set_state(&[PI, VM2], State::Sick, false);
    let spread = home.spread(&ana, VM1, same, 4);
    let wins: Vec<Option<String>> = home.up().into_iter().map(|n| home.value(n, same)).collect();
    home.claim(
        spread.is_some() && wins.iter().all(|v| v.as_deref() == Some("4")),
        "Nothing is left of it once the clocks are right: a change made then counts everywhere.",
        format!("After the clocks were set, a new change does NOT count everywhere: {wins:?}."),
    );
    home.claim_nothing_lost();
}
