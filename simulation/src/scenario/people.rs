//! People who go away, and people who should not be there.

use lab_agent_core::Reply;
use lab_crdt_log::{Body, Confirm, Grant, Revoke, Rights, WitnessRule};
use lab_crdt_model::StatementId;
use lab_crdt_model::token::Token;
use lab_crdt_model::view::{MemberState, Role};

use super::Scenario;
use super::home::{Home, LAPTOP, MINI1, MINI2, NAS, PI, VM1, VM2, listed};
use crate::Person;
use crate::duration::words;
use crate::timeline::{MarkKind, State};

const DAY_MS: u64 = 86_400_000;

/// Lets a person do everything.
pub(super) fn grant(home: &mut Home, name: &str, number: u8) -> Person {
    let ana = home.ana.clone();
    let person = Person::new(number, ana.under, name);
    let body = Body::Grant(Grant {
        subject: person.author(),
        name: name.into(),
        rights: Rights::ALL,
        scope: vec![String::new()],
        not_after: None,
    });
    let reply = home.sign(
        &ana,
        MINI1,
        body,
        &format!("{name} may change things"),
        MarkKind::Edit,
    );
    let under = match reply {
        Reply::Submitted { ids } => ids.last().copied().unwrap_or(StatementId::ZERO),
        _ => StatementId::ZERO,
    };
    Person { under, ..person }
}

pub(super) const LAPTOP_AWAY: Scenario = Scenario {
    name: "laptop-away",
    question: "What happens when the laptop is away for a month?",
    plot: "The laptop leaves. Life at home goes on, with a few changes every three days. On day 12 ana opens the \
           laptop in a train without network and changes something. It comes home after 30 days. (Between those days \
           all machines sleep, so that you need not wait.)",
    advice: "Nothing. A laptop's place in the mesh ends 90 days after it joined; then it needs a new token.",
    run: laptop_away,
};

fn laptop_away(home: &mut Home) {
    let ana = home.ana.clone();
    for (n, node) in [LAPTOP, MINI1, NAS].into_iter().enumerate() {
        home.set(&ana, node, &format!("on/all/params/before{n}"), 1);
        home.wait(1_000);
    }
    home.wait_equal(30_000);
    home.fault(Some(LAPTOP), "the laptop leaves");
    home.kill(LAPTOP);
    let left = home.now();
    let mut changes = 0;
    for visit in 0..10_u64 {
        home.skip(3 * DAY_MS - 60_000);
        for n in 0..3 {
            let node = [MINI1, NAS, VM1, PI, VM2, MINI2][(visit as usize * 3 + n) % 6];
            changes += u32::from(home.set(
                &ana,
                node,
                &format!("on/all/params/v{visit}n{n}"),
                visit as i64,
            ));
            home.wait(2_000);
        }
        if visit == 3 {
            train(home, &ana);
        }
    }
    let away = home.now() - left;
    home.tell(&format!("{changes} changes were made at home"));
    home.fault(Some(LAPTOP), "the laptop is home");
    home.start(LAPTOP);
    let took = home.wait_equal(60_000);
    home.claim(
        took.is_some(),
        format!(
            "After {} away, the laptop has all {changes} changes {} after it is opened at home.",
            words(away),
            words(took.unwrap_or(0))
        ),
        format!(
            "After {} away the laptop did NOT catch up within a minute.",
            words(away)
        ),
    );
    home.claim_nothing_lost();
    let standing = home.standing(NAS, LAPTOP);
    home.claim(
        standing == Some(MemberState::Member),
        "It was a member all the time: nobody forgot it, nobody had to let it in again.",
        format!("It is no full member any more: {standing:?}."),
    );
    home.skip(70 * DAY_MS);
    home.set_state(&[LAPTOP], State::Sick, true);
    home.fault(Some(LAPTOP), "90 days after it joined");
    let reply = home.set(&ana, MINI1, "on/all/params/late", 1);
    home.wait(60_000);
    let hears = home.value(LAPTOP, "on/all/params/late").is_some();
    let standing = home.standing(NAS, LAPTOP);
    home.claim(
        reply && !hears && standing == Some(MemberState::Expired),
        "After 90 days without a new token it is a member no more, and hears nothing new. A stolen laptop is harmless after that at the latest.",
        format!("After 90 days without a new token it still is {standing:?}, and hears new changes: {hears}."),
    );
}

fn train(home: &mut Home, ana: &Person) {
    home.cut(&[LAPTOP]);
    home.start(LAPTOP);
    home.wait(5_000);
    let held = home.fields(LAPTOP).len();
    let is_done = home.set(ana, LAPTOP, "on/all/params/train", 12);
    home.tell(&format!(
        "in a train: the laptop shows the {held} settings it left with and takes a change: {}",
        if is_done { "done" } else { "not done" }
    ));
    home.claim(
        is_done,
        "Away and without network the laptop answers from its own replica and takes changes.",
        "Away and without network the laptop takes NO changes.",
    );
    home.wait(30_000);
    home.kill(LAPTOP);
    home.mend();
}

pub(super) const TOKEN_TWICE: Scenario = Scenario {
    name: "token-leaked",
    question: "What happens when a join token leaks and someone else uses it too?",
    plot: "Ana makes a token for nas2 and uses it; later a thief uses it as well. Then the worst case: the house is \
           cut in two, and nas3 and the thief use one token on either side at the same time.",
    advice: "Look at `lab token list`: it names a token that was used twice. Confirm the right machine with `lab node confirm`, or make it a new token.",
    run: token_twice,
};

fn token_twice(home: &mut Home) {
    let token = home
        .world
        .token(MINI1, "nas2", Role::Node, &[], WitnessRule::Any);
    let again = token.clone();
    let nas2 = home.arrive("nas2", |w| w.join(token, None));
    let joined = home.wait_until(60_000, |w| w.is_member(nas2));
    home.tell("ana makes a token and nas2 joins with it");
    home.wait(60_000);
    let thief = home.arrive("thief", |w| w.join(again, None));
    home.fault(Some(thief), "a thief uses the token");
    home.wait(60_000);
    let is_in = home.world.is_member(thief);
    let why = home
        .world
        .refused_join(thief)
        .unwrap_or("it was not answered")
        .to_owned();
    home.claim(
        joined.is_some() && !is_in,
        format!("A used token is worthless: the thief is told \"{why}\" and gets nothing."),
        "The thief became a member with a token that had been used.",
    );
    home.lose(thief);

    let token = home
        .world
        .token(MINI1, "nas3", Role::Node, &[], WitnessRule::Any);
    // The thief knows a machine on its own side.
    let mut again = token.clone();
    if let Token::Ticket(ticket) = &mut again {
        ticket.addresses = vec![(home.world.id(MINI2), home.world.address(MINI2))];
    }
    home.wait_equal(30_000);
    let cellar = [NAS, MINI1, VM1];
    home.fault(None, "the house is cut in two");
    let split = home.now();
    home.cut(&cellar);
    home.wait(20_000);
    let nas3 = home.arrive("nas3", |w| w.join(token, None));
    let thief = home.arrive("thief2", |w| w.join(again, None));
    // Newcomers stand on one side each.
    let upstairs: Vec<usize> = home.all_but(&[NAS, MINI1, VM1, nas3]);
    home.world.heal();
    home.world.partition(&[NAS, MINI1, VM1, nas3], &upstairs);
    home.set_state(&[nas3], State::Cut, true);
    let both = home.wait_until(120_000, |w| w.is_member(nas3) && w.is_member(thief));
    let (one, other) = (member(home, nas3), member(home, thief));
    home.tell(&format!(
        "on either side one token is used: nas3 {one}, the thief {other}"
    ));
    home.wait(60_000);
    home.fault(None, "the cable is mended");
    let healed = home.now();
    home.mend();
    let settled = home.wait_until(60_000, |w| !w.is_member(thief) || !w.is_member(nas3));
    home.wait(30_000);
    let others = home.all_but(&[nas3, thief]);
    let states = |home: &mut Home, of: usize| -> Vec<Option<MemberState>> {
        others.iter().map(|n| home.standing(*n, of)).collect()
    };
    let (right, wrong) = (states(home, nas3), states(home, thief));
    let is_member = |s: &Option<MemberState>| *s == Some(MemberState::Member);
    let is_out = |states: &[Option<MemberState>]| !states.iter().any(is_member);
    home.claim(
        both.is_some() && settled.is_some() && is_out(&right) && is_out(&wrong),
        format!("In the worst case both get in, each on its side of the cut. {} after it is mended both are suspended, on every machine: nobody can know which one is right.", words(settled.unwrap_or(0))),
        format!("After the cut is mended nas3 is {:?} and the thief {:?} on the machines.", right.first(), wrong.first()),
    );
    let shown = others.iter().all(|n| has_double_use(home, *n));
    home.claim(
        shown,
        "Every machine shows the token as used twice, and by whom.",
        "NOT every machine shows that the token was used twice.",
    );
    home.claim(
        true,
        format!("The price of letting machines in without a server: for the {} of the cut the thief could read what the mesh is told to be.", words(healed - split)),
        "",
    );
    let id = home.world.id(nas3);
    let mask = lab_agent_core::ViewMask {
        roster: true,
        ..Default::default()
    };
    let view = home.world.agent_view(MINI1, mask);
    let join = view.and_then(|v| v.members.iter().find(|m| m.node == id).map(|m| m.join));
    let ana = home.ana.clone();
    let asked = home.now();
    if let Some(join) = join {
        let _ = home.sign(
            &ana,
            MINI1,
            Body::Confirm(Confirm { join }),
            "nas3 is confirmed",
            MarkKind::Join,
        );
    }
    home.tell("ana looks which machine is hers and confirms nas3");
    let _back = home.wait_until(60_000, |w| w.is_member(nas3));
    let back = home.now() - asked;
    home.wait(30_000);
    let (right, wrong) = (states(home, nas3), states(home, thief));
    home.claim(
        right.iter().all(is_member) && is_out(&wrong),
        format!("One word of ana's settles it: nas3 is a full member {} later, and the thief stays out.",
            words(back)),
        format!("After ana's word nas3 is {:?} and the thief {:?}.", right.first(), wrong.first()),
    );
}

fn member(home: &mut Home, node: usize) -> &'static str {
    if home.world.is_member(node) {
        "joined"
    } else {
        "did not join"
    }
}

fn has_double_use(home: &mut Home, node: usize) -> bool {
    let mask = lab_agent_core::ViewMask {
        roster: true,
        ..Default::default()
    };
    let view = home.world.agent_view(node, mask);
    view.is_some_and(|v| {
        v.invites
            .iter()
            .any(|i| i.state == "double use" && i.used_by.len() == 2)
    })
}

pub(super) const KEY_STOLEN: Scenario = Scenario {
    name: "key-stolen",
    question: "What happens when an operator's key is stolen?",
    plot: "Bob works as always. Then a thief with bob's key changes things, at a machine that all can reach and at pi, \
           which has lost its network. Ana notices and revokes bob's key, keeping what bob himself did.",
    advice: "Revoke the key as soon as you notice (`lab revoke bob`), and give bob a new one.",
    run: key_stolen,
};

fn key_stolen(home: &mut Home) {
    let ana = home.ana.clone();
    let bob = grant(home, "bob", 10);
    home.wait_equal(30_000);
    let mut head = None;
    for n in 0..3 {
        if let Reply::Submitted { ids } = home.say(
            &bob,
            [MINI1, VM1, LAPTOP][n],
            &format!("on/all/params/bob{n}"),
            1,
        ) {
            head = ids.last().copied();
        }
        home.wait(5_000);
    }
    home.tell("bob changes three things");
    home.cut(&[PI]);
    home.wait(30_000);
    home.fault(Some(VM2), "a thief uses bob's key");
    let stolen = home.now();
    let _ = home.say(&bob, VM2, "on/all/params/evil0", 666);
    let _ = home.say(&bob, VM2, "on/all/params/bob0", 666);
    let _ = home.say(&bob, PI, "on/all/params/evil1", 666);
    home.wait(600_000);
    let is_evil =
        |v: &(String, Vec<String>)| v.0.contains("evil") || v.1.iter().any(|x| x == "666");
    let hit = home
        .up()
        .into_iter()
        .filter(|n| home.fields(*n).iter().any(is_evil))
        .count();
    home.tell(&format!(
        "what the thief wrote is in force on {hit} machines"
    ));
    let asked = home.now();
    let body = Body::Revoke(Revoke {
        key: bob.author(),
        head,
        reason: "stolen".into(),
    });
    let reply = home.sign(&ana, NAS, body, "bob's key is revoked", MarkKind::Revoke);
    let told = home.now();
    home.tell(&format!(
        "ana revokes bob's key, {} after the theft",
        words(told - stolen)
    ));
    let wired = home.all_but(&[PI]);
    let gone = home.wait_until(30_000, |w| {
        wired.iter().all(|n| {
            w.value(*n, "on/all/params/evil0").is_none()
                && w.value(*n, "on/all/params/bob0").as_deref() == Some("1")
        })
    });
    let undone = home.now() - asked;
    home.claim(
        matches!(reply, Reply::Submitted { .. }) && gone.is_some(),
        format!("Everything the thief did is undone on all {} machines that have a network, {} after the revocation.", wired.len(),
            words(undone)),
        "What the thief did was NOT undone within 30 s.",
    );
    let kept = wired.iter().all(|n| {
        (0..3).all(|k| home.value(*n, &format!("on/all/params/bob{k}")).as_deref() == Some("1"))
    });
    home.claim(
        kept,
        "What bob himself did stays, also where the thief had written over it.",
        "Bob's own changes were lost.",
    );
    let late = home.say(&bob, MINI2, "on/all/params/evil2", 666);
    let offline = home.say(&bob, PI, "on/all/params/evil3", 666);
    home.claim(
        matches!(late, Reply::Refused { .. }),
        "The key is worthless from then on: the next try is refused where it is made.",
        "The thief could still change things.",
    );
    let word = if matches!(offline, Reply::Submitted { .. }) {
        "still takes the thief's changes"
    } else {
        "refuses the thief as well"
    };
    home.tell(&format!(
        "pi, without network, does not know of it yet and {word}"
    ));
    home.wait(60_000);
    home.fault(Some(PI), "pi has its network back");
    home.mend();
    let took = home.wait_equal(60_000);
    let mut evil = home.up();
    evil.retain(|n| home.fields(*n).iter().any(is_evil));
    let evil: Vec<String> = evil.iter().map(|n| home.name(*n).to_owned()).collect();
    home.claim(
        took.is_some() && evil.is_empty(),
        format!("pi, which the thief could still use while it had no network, is clean {} after it is back; nothing of it reached anyone.", words(took.unwrap_or(0))),
        format!("Something of the thief is still in force on {}.", listed(&evil)),
    );
}
