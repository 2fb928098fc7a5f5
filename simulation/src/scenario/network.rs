//! Paths that come and go.

use super::home::{Home, LAPTOP, MINI1, MINI2, NAS, PI, VM1, VM2, listed};
use super::{Scenario, people};
use crate::World;
use crate::duration::words;
use crate::seed;

pub(super) const WIFI_FLAPS: Scenario = Scenario {
    name: "wifi-flaps",
    question: "What happens when the Wi-Fi keeps dropping?",
    plot: "For ten minutes the Wi-Fi of pi and laptop drops twice a minute for 5 to 20 seconds. Ana goes on working, \
           at wired machines and at the laptop.",
    advice: "Nothing.",
    run: wifi_flaps,
};

fn wifi_flaps(home: &mut Home) {
    let ana = home.ana.clone();
    let before = home.bytes_sent();
    home.wait(120_000);
    let idle = (home.bytes_sent() - before) / 120;
    let mut dice = seed::rng(home.world.options().seed, "flaps", 0);
    let (mut drops, mut at_laptop, mut while_cut, mut tries) = (0, 0, 0, 0);
    let (start, before) = (home.now(), home.bytes_sent());
    let mut took = None;
    home.fault(None, "the Wi-Fi begins to drop");
    for round in 0..20_i64 {
        let down = dice.range(5_000..20_000);
        home.cut(&[PI, LAPTOP]);
        drops += 1;
        home.wait(down / 2);
        let node = if round % 3 == 0 {
            LAPTOP
        } else {
            [MINI1, NAS, VM1][round as usize % 3]
        };
        tries += 1;
        let is_done = home.set(&ana, node, &format!("on/all/params/edit{round}"), round);
        if node == LAPTOP && is_done {
            at_laptop += 1;
        }
        while_cut += u32::from(is_done);
        home.wait(down - down / 2);
        home.mend();
        let healed = home.now();
        took = home.wait_equal(30_000 - down);
        home.wait((healed + 30_000 - down).saturating_sub(home.now()));
    }
    home.fault(None, "the Wi-Fi is stable again");
    let (end, traffic) = (home.now(), home.bytes_sent() - before);
    home.tell(&format!(
        "it dropped {drops} times; {at_laptop} changes were made at the laptop while it was cut off"
    ));
    home.claim(
        while_cut == tries,
        format!("Every one of {tries} changes was confirmed at once, also {at_laptop} at the laptop while it had no network."),
        format!("Only {while_cut} of {tries} changes were confirmed."),
    );
    home.claim(
        took.is_some(),
        format!(
            "All machines agree {} after the last drop ended.",
            words(took.unwrap_or(0))
        ),
        "The machines did NOT agree within a minute after the last drop.",
    );
    home.claim_nothing_lost();
    let wrong = home.accused(start, &[PI, LAPTOP]);
    home.claim(
        wrong.is_empty(),
        "No machine on a wire was taken for dead by another one on a wire.",
        format!("Wired machines were taken for dead: {}.", listed(&wrong)),
    );
    let (busy, seconds) = (traffic / ((end - start) / 1_000), (end - start) / 1_000);
    home.claim(
        busy < 7_000 + idle * 4,
        format!("It cost little: {busy} bytes a second in the whole house over {seconds} s, {idle} when it is quiet."),
        format!("It was a storm: {busy} bytes a second in the whole house over {seconds} s, {idle} when it is quiet."),
    );
}

pub(super) const HOUSE_CUT: Scenario = Scenario {
    name: "house-cut",
    question: "What happens when the house is cut in two for an hour?",
    plot: "The cable between cellar (nas, mini1, vm1) and upstairs breaks, the way to the internet with it, for an \
           hour. Ana works in the cellar, bob upstairs; both also change the same thing.",
    advice: "Look at `lab status` once: where two people changed the same thing, it shows both values.",
    run: house_cut,
};

fn house_cut(home: &mut Home) {
    let ana = home.ana.clone();
    let bob = people::grant(home, "bob", 10);
    home.wait_equal(30_000);
    let cellar = [NAS, MINI1, VM1];
    home.fault(None, "the cable breaks");
    home.cut(&cellar);
    home.wait(900_000);
    let mut done = 0;
    for n in 0..5 {
        done += u32::from(home.set(
            &ana,
            cellar[n % 3],
            &format!("on/all/params/cellar{n}"),
            n as i64,
        ));
        done += u32::from(home.set(
            &bob,
            [MINI2, VM2, PI][n % 3],
            &format!("on/all/params/upstairs{n}"),
            n as i64,
        ));
        home.wait(180_000);
    }
    let both = "on/all/params/both";
    done += u32::from(home.set(&ana, NAS, both, 1));
    done += u32::from(home.set(&bob, LAPTOP, both, 2));
    home.tell("ana and bob each changed five things of their own and one that both changed");
    home.claim(
        done == 12,
        "Both halves went on as if nothing had happened: all 12 changes were confirmed at once, 6 on each side.",
        format!("Only {done} of 12 changes were confirmed."),
    );
    let inside = [cellar.to_vec(), home.all_but(&cellar)]
        .iter()
        .all(|half| agree(&mut home.world, half));
    home.claim(
        inside,
        "Each half agreed within itself.",
        "A half did NOT agree within itself.",
    );
    home.wait(1_800_000);
    home.fault(None, "the cable is mended");
    home.mend();
    let took = home.wait_equal(60_000);
    home.claim(
        took.is_some(),
        format!(
            "Both halves agree {} after the cable is mended.",
            words(took.unwrap_or(0))
        ),
        "The halves did NOT agree within a minute after the cable was mended.",
    );
    home.claim_nothing_lost();
    let shown = home.up().into_iter().all(|node| {
        let fields = home.fields(node);
        fields
            .iter()
            .any(|(path, values)| path == both && values.len() == 2)
    });
    home.claim(
        shown,
        "What both changed is shown as a conflict with both values, the same one in force on every machine.",
        "The two values of what both changed are NOT shown on every machine.",
    );
    let mut in_force: Vec<Option<String>> =
        home.up().into_iter().map(|n| home.value(n, both)).collect();
    in_force.dedup();
    home.claim(
        in_force.len() == 1,
        "No machine had to be asked or told anything.",
        "Machines disagree on which value is in force.",
    );
}

/// Whether some machines hold the same.
fn agree(world: &mut World, nodes: &[usize]) -> bool {
    let mut digests: Vec<_> = nodes
        .iter()
        .map(|n| world.digests(*n).map(|d| d.statements))
        .collect();
    digests.dedup();
    digests.len() == 1
}
