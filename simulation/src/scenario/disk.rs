//! Disks that are full, rotten, or from last week.

use lab_agent_core::{Event, Reply, ViewMask};
use lab_crdt_model::Severity;
use lab_crdt_model::view::Role;

use super::Scenario;
use super::home::{Home, MINI1, NAS, PI, VM1, VM2};
use crate::disk::DiskFault;
use crate::duration::words;
use crate::timeline::State;

const DAY_MS: u64 = 86_400_000;

pub(super) const FULL: Scenario = Scenario {
    name: "disk-full",
    question: "What happens when the SD card of a machine is full?",
    plot: "The card of pi is full. Ana tries to change something at pi, then elsewhere. Half an hour later she makes room; \
           right after that pi loses power.",
    advice: "Make room. `lab status` says which machine cannot write.",
    run: full,
};

fn full(home: &mut Home) {
    let ana = home.ana.clone();
    home.set(&ana, MINI1, "on/all/params/before", 1);
    home.wait_equal(30_000);
    home.fault(Some(PI), "the card of pi is full");
    home.world.apply_disk(PI, &DiskFault::Full { bytes: 0 });
    home.set_state(&[PI], State::Sick, true);
    home.wait(1_000);
    let reply = home.say(&ana, PI, "on/all/params/at-pi", 1);
    let why = match &reply {
        Reply::Refused { why, .. } => why.clone(),
        _ => String::new(),
    };
    home.claim(
        !why.is_empty(),
        format!("pi takes no change that it cannot keep, and says so: \"{why}\"."),
        "pi confirmed a change that it could not write down.",
    );
    let mut done = 0;
    for n in 0..5 {
        done += u32::from(home.set(
            &ana,
            [NAS, VM1, VM2][n % 3],
            &format!("on/all/params/room{n}"),
            n as i64,
        ));
        home.wait(1_000);
    }
    let took = home.wait_equal(30_000);
    home.claim(
        done == 5 && took.is_some(),
        "It still hears what is changed elsewhere and acts on it: all five later changes count on pi too.",
        "pi does NOT take on what is changed elsewhere.",
    );
    home.wait(1_800_000);
    let told = home
        .world
        .events(PI)
        .iter()
        .filter(|(_, e)| matches!(e, Event::StoreFailed { .. }))
        .count();
    home.claim(
        told > 0,
        format!("pi complains in its log: {told} times in half an hour."),
        "pi does NOT complain in its log.",
    );
    home.fault(Some(PI), "ana makes room");
    home.world.apply_disk(PI, &DiskFault::Heal);
    home.set_state(&[PI], State::Sick, false);
    home.wait(60_000);
    home.fault(Some(PI), "pi loses power");
    home.kill(PI);
    home.cut(&[PI]);
    home.wait(5_000);
    home.start(PI);
    home.wait(3_000);
    let missing = home.missing();
    home.claim(
        missing.is_empty(),
        "Once there was room it wrote down all that it had missed: after a power cut, and before it reached anybody, it holds everything.",
        format!("After the power cut pi lacks {} changes that it had heard.", missing.len()),
    );
    home.mend();
    let took = home.wait_back(&[PI], 60_000);
    home.claim(
        took.is_some(),
        format!(
            "It is back among the others, and equal, {} later.",
            words(took.unwrap_or(0))
        ),
        "It does NOT agree with the others.",
    );
    let refused = home
        .fields(NAS)
        .iter()
        .any(|(path, _)| path.ends_with("/at-pi"));
    home.claim(
        !refused,
        "The change that was refused is nowhere.",
        "The change that was refused is in force all the same.",
    );
}

pub(super) const ROT: Scenario = Scenario {
    name: "card-rots",
    question: "What happens when the SD card of a machine rots?",
    plot: "Twelve bad cards, one after the other, all with what pi has written on its own: 1, 2, 3 … 12 bits flip on them \
           and pi loses power. Each time it starts without network first, so that nobody can help it. In the end pi gets a \
           new card, with nothing on it.",
    advice: "Buy a new card; if pi does not start any more, join it again with a new token (`lab token create pi`).",
    run: rot,
};

fn rot(home: &mut Home) {
    const CARDS: u32 = 12;
    let ana = home.ana.clone();
    for n in 0..40 {
        home.set(
            &ana,
            [MINI1, NAS, PI][n % 3],
            &format!("on/all/params/setting{n}"),
            n as i64,
        );
        home.wait(200);
    }
    home.wait_equal(30_000);
    home.wait(60_000);
    home.tell("ana makes 40 settings");
    let good = "good".to_owned();
    home.kill(PI);
    home.world
        .apply_disk(PI, &DiskFault::Snapshot { name: good.clone() });
    let (mut intact, mut lame, mut dead, mut worst) = (0, 0, 0, 0);
    let (mut wrong, mut failed, mut lost) = (Vec::new(), Vec::new(), Vec::new());
    for card in 1..=CARDS {
        home.world
            .apply_disk(PI, &DiskFault::Rollback { to: good.clone() });
        home.world
            .apply_disk(PI, &DiskFault::BitFlips { count: card });
        home.cut(&[PI]);
        home.wait(5_000);
        let before = set_aside_count(home);
        let started = home.try_start(PI);
        let is_up = started.is_ok();
        home.wait(5_000);
        let truth = home.fields(NAS);
        let held = home.fields(PI);
        wrong.extend(
            held.iter()
                .filter(|f| !truth.contains(f))
                .map(|f| f.0.clone()),
        );
        let found = set_aside_count(home) - before;
        home.mark(PI, &card.to_string());
        match started {
            Err(_) => dead += 1,
            Ok(()) if held.len() < truth.len() || found > 0 => lame += 1,
            Ok(()) => intact += 1,
        }
        home.mend();
        if is_up {
            let took = home.wait_back(&[PI], 120_000);
            let (mine, theirs) = (home.fields(PI), home.fields(NAS));
            if took.is_none() || mine != theirs {
                let equal = home.world.are_equal();
                let view = home.world.agent_view(PI, ViewMask::default());
                let view = view.expect("pi runs");
                match view.issues.iter().find(|i| i.severity == Severity::Error) {
                    Some(issue) => lost.push(format!("{} ({})", issue.message, issue.help)),
                    None => failed.push(format!(
                        "with card {card} it has {} of {} settings, equal {equal}, {} statements and {} that wait for lost ones",
                        mine.len(),
                        theirs.len(),
                        view.statement_count,
                        view.pending_count
                    )),
                }
            }
            worst = worst.max(took.unwrap_or(0));
            home.wait(5_000);
            home.kill(PI);
        }
    }
    home.claim(
        wrong.is_empty(),
        format!("Never is a wrong value in force on pi: it starts as if nothing were with {intact} of {CARDS} cards, leaves out what is damaged with {lame}, and refuses to start with {dead}."),
        format!("WRONG values were in force on pi: {}.", wrong.join(", ")),
    );
    home.claim(
        failed.is_empty(),
        if lost.is_empty() {
            format!("Whenever it starts, it is complete again at most {} after it has its network: the others have everything.", words(worst))
        } else {
            format!("When it starts with a name of the others left, it is complete again at most {} after it has its network. {} of {CARDS} cards have none, and it says so: \"{}\".", words(worst), lost.len(), lost[0])
        },
        format!("pi did NOT become whole again each time it started: {}.", failed.join("; ")),
    );
    home.world.apply_disk(PI, &DiskFault::Replace);
    home.fault(Some(PI), "pi gets a new card");
    let why = home.try_start(PI).err();
    home.claim(
        why.is_some(),
        format!(
            "With a card that is empty or unusable it does not pretend: \"{}\".",
            why.unwrap_or_default()
        ),
        "pi started from an empty card.",
    );
    home.lose(PI);
    let start = home.now();
    let new = home.add("pi2", Role::Node, &[]);
    let took = home.wait_until(60_000, |w| w.is_member(new) && w.are_equal());
    let took = took.map(|_| home.now() - start);
    home.claim(
        took.is_some(),
        format!(
            "With a new token it is a member again and holds everything {} later.",
            words(took.unwrap_or(0))
        ),
        "With a new token it did NOT become a member again.",
    );
    home.claim_nothing_lost();
}

/// Damaged records that pi's store has set aside so far.
fn set_aside_count(home: &mut Home) -> u64 {
    home.world
        .drive(PI)
        .map_or(0, |d| d.reports().quarantined_count)
}

pub(super) const OLD_SNAPSHOT: Scenario = Scenario {
    name: "old-snapshot",
    question: "What happens when a virtual machine is restored from an old snapshot?",
    plot: "A snapshot of vm1 is taken. Ana works, also at vm1. A week later vm1 is broken and restored from the snapshot, \
           at first without network: it knows nothing of that week, and ana changes something at it before it reaches anybody.",
    advice: "Nothing. But wait until `lab status` says that the machine is equal before you change something at it.",
    run: old_snapshot,
};

fn old_snapshot(home: &mut Home) {
    let ana = home.ana.clone();
    home.set(&ana, MINI1, "on/all/params/first", 1);
    home.wait_equal(30_000);
    home.kill(VM1);
    let name = "monday".to_owned();
    home.world
        .apply_disk(VM1, &DiskFault::Snapshot { name: name.clone() });
    home.start(VM1);
    home.wait(10_000);
    home.tell("a snapshot of vm1 is taken");
    for day in 0..7_u64 {
        home.skip(DAY_MS - 60_000);
        home.set(
            &ana,
            [VM1, NAS, VM2][day as usize % 3],
            &format!("on/all/params/day{day}"),
            day as i64,
        );
        home.wait(2_000);
    }
    home.wait_equal(30_000);
    let count = home.confirmed();
    home.kill(VM1);
    home.world
        .apply_disk(VM1, &DiskFault::Rollback { to: name });
    home.cut(&[VM1]);
    home.fault(Some(VM1), "vm1 is restored from the snapshot");
    home.start(VM1);
    home.wait(3_000);
    let held = home
        .fields(VM1)
        .iter()
        .filter(|(p, _)| p.contains("/day"))
        .count();
    home.tell(&format!("vm1 holds {held} of 7 changes of that week"));
    let early = home.say(&ana, VM1, "on/all/params/early", 1);
    let is_early = matches!(early, Reply::Submitted { .. });
    home.tell(&format!(
        "ana changes something at vm1, which does not know better: {}",
        if is_early { "done" } else { "refused" }
    ));
    home.wait(30_000);
    home.mend();
    home.tell("vm1 has its network again");
    let back = home.now();
    let took = home.wait_equal(120_000);
    home.claim(
        took.is_some(),
        format!(
            "vm1 is equal to the others {} after it has its network again.",
            words(took.unwrap_or(0))
        ),
        "vm1 did NOT become equal within two minutes.",
    );
    home.wait(60_000);
    let missing = home.missing();
    home.claim(
        missing.is_empty(),
        format!("Nothing is lost: all {count} confirmed changes of before and of the week are on all machines, on vm1 too."),
        format!("LOST: {} of {count} changes are missing: {}.", missing.len(), missing.first().map_or("-", String::as_str)),
    );
    let forks = home
        .up()
        .into_iter()
        .filter(|n| {
            home.world
                .events(*n)
                .iter()
                .any(|(at, e)| *at >= back && matches!(e, Event::ForkFound { .. }))
        })
        .count();
    let values: Vec<Option<String>> = home
        .up()
        .into_iter()
        .map(|n| home.value(n, "on/all/params/early"))
        .collect();
    let is_same = values.windows(2).all(|w| w[0] == w[1]);
    let fate = if values.first().is_some_and(Option::is_some) {
        "counts"
    } else {
        "does not count"
    };
    home.claim(
        is_same && (forks > 0 || !is_early),
        format!("Ana's key now has two histories that begin at one point, and {forks} machines say so; what was changed at the restored machine before it knew better {fate}, on every machine alike."),
        format!("What was changed at the restored machine before it knew better is not treated alike: {values:?}, {forks} machines tell of it."),
    );
    let id = home.world.id(VM1);
    let heard = home.wait_until(180_000, |w| {
        let truth = w.now_ms();
        w.agent_view(
            NAS,
            ViewMask {
                reports: true,
                ..Default::default()
            },
        )
        .is_some_and(|v| {
            let report = v.reports.iter().find(|r| r.node == id);
            let at = report
                .and_then(|r| r.beacon.as_ref())
                .map_or(0, |(b, _)| b.wall.0);
            at >= crate::clock::WALL_START_MS + truth - 60_000
        })
    });
    home.claim(
        heard.is_some(),
        "Others believe what vm1 reports of itself again: the numbers of its reports went on where they had been.".to_owned(),
        "Others do NOT believe what vm1 reports of itself any more.",
    );
}
