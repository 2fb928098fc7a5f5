//! Power that goes away, for a while or for good.

use lab_crdt_log::{Body, Revoke};
use lab_crdt_model::view::{Liveness, MemberState, Role};
use lab_crdt_model::{AuthorId, Value};

use super::Scenario;
use super::home::{Home, LAPTOP, MINI1, MINI2, NAS, PI, VM1, VM2, listed};
use crate::World;
use crate::duration::words;
use crate::timeline::MarkKind;

pub(super) const CUT: Scenario = Scenario {
    name: "power-cut",
    question: "What happens when the power goes out in the whole house?",
    plot: "Ana changes things at several machines. A millisecond after the last \"done\", everything loses power. \
           Ten minutes later it is back and the machines boot one after the other, the file server last.",
    advice: "Nothing.",
    run: power_cut,
};

fn power_cut(home: &mut Home) {
    let ana = home.ana.clone();
    for (n, node) in [MINI1, NAS, VM1, PI, VM2, LAPTOP, MINI2, NAS]
        .into_iter()
        .enumerate()
    {
        if home.set(&ana, node, &format!("on/all/params/change{n}"), n as i64) {
            home.wait(700);
        }
    }
    home.tell(&format!(
        "{} changes were made and confirmed, one at a time",
        home.confirmed()
    ));
    let is_last = home.set(&ana, NAS, "on/all/params/last", 99);
    let word = if is_last { "done" } else { "not done" };
    home.tell(&format!(
        "ana changes one thing more at nas; nas says: {word}"
    ));
    home.wait(1);
    home.fault(None, "the power goes out, everywhere");
    for node in home.up() {
        home.kill(node);
    }
    home.wait(600_000);
    home.fault(None, "the power is back");
    home.wait(9_000);
    home.start(VM1);
    home.wait(3_000);
    let is_alone = home.world.is_member(VM1);
    let held = home
        .fields(VM1)
        .iter()
        .filter(|(p, _)| p.contains("/change"))
        .count();
    home.tell("vm1 is the first machine up; it reaches nobody");
    home.claim(
        is_alone && held >= 8,
        "The first machine up works at once, alone: it knew who it is and what it should be from its own disk.".to_owned(),
        format!("The first machine up did NOT work alone: it holds {held} of 8 changes."),
    );
    for (node, wait) in [
        (MINI1, 2_000),
        (MINI2, 5_000),
        (VM2, 9_000),
        (LAPTOP, 4_000),
        (PI, 21_000),
        (NAS, 1),
    ] {
        home.start(node);
        home.wait(wait);
    }
    home.tell("nas is the last machine up");
    let last_on = home.now() - 1;
    let is_whole = home.wait_until(120_000, |w| w.are_equal() && all_linked(w));
    let took = home.now() - last_on;
    home.claim(
        is_whole.is_some(),
        format!(
            "All machines agree again {} after the last one had power.",
            words(took)
        ),
        "The machines did NOT agree within two minutes after the last one had power.".to_owned(),
    );
    home.claim_nothing_lost();
    home.wait(30_000);
    let wrong = home.accused(last_on + 10_000, &[]);
    home.claim(
        wrong.is_empty(),
        "Ten seconds later nobody takes anybody for dead.",
        format!(
            "Machines that were up were taken for dead: {}.",
            listed(&wrong)
        ),
    );
}

/// Whether everyone takes everyone for alive.
fn all_linked(world: &mut World) -> bool {
    let count = world.len();
    (0..count).all(|a| (0..count).all(|b| a == b || world.opinion(a, b) == Some(Liveness::Alive)))
}

pub(super) const NAS_DIES: Scenario = Scenario {
    name: "nas-dies",
    question: "What happens when the file server dies and never comes back?",
    plot: "Ana changes something at the file server; a second later it dies for good. The others go on. Twenty \
           minutes later ana revokes it and gives a new machine a token with the same label.",
    advice: "Revoke the dead machine (`lab revoke nas`) and join a new one with the same labels.",
    run: nas_dies,
};

fn nas_dies(home: &mut Home) {
    let ana = home.ana.clone();
    let started = home.now();
    let template = Value::text("exported by {node.name}\n");
    let _ = ana.set(
        &mut home.world,
        MINI1,
        "on/role=storage/files/%2Fetc%2Fexports/template",
        template,
    );
    let _ = ana.set(
        &mut home.world,
        MINI1,
        "label/nas/role=storage",
        Value::Bool(true),
    );
    let has_file = |w: &mut World, n: usize| w.files(n).contains_key("/etc/exports");
    let _took = home.wait_until(30_000, |w| has_file(w, NAS));
    let took = home.now() - started;
    home.tell(&format!(
        "nas has the label role=storage and, {} later, the file that goes with it",
        words(took)
    ));
    home.wait(5_000);
    let is_confirmed = home.set(&ana, NAS, "on/all/params/last", 1);
    home.tell(&format!(
        "ana changes something at nas; nas says: {}",
        if is_confirmed { "done" } else { "not done" }
    ));
    home.wait(1_000);
    home.fault(Some(NAS), "nas dies");
    let died = home.now();
    home.lose(NAS);
    let others = home.all_but(&[NAS]);
    let seen = home.wait_until(60_000, |w| {
        others
            .iter()
            .all(|n| w.opinion(*n, NAS) == Some(Liveness::Down))
    });
    home.claim(
        seen.is_some_and(|ms| ms <= 10_000),
        format!(
            "All {} others know it within {}.",
            others.len(),
            words(seen.unwrap_or(0))
        ),
        format!(
            "Not all others knew it within 10 s (within a minute: {}).",
            seen.map_or("no".to_owned(), words)
        ),
    );
    home.claim_nothing_lost();
    let spread = home.spread(&ana, VM1, "on/all/params/after", 2);
    home.claim(
        spread.is_some(),
        format!(
            "The others go on without it: a change reaches all of them in {}.",
            words(spread.unwrap_or(0))
        ),
        "The others did NOT go on without it.",
    );
    home.wait(1_200_000);
    let stands = others
        .iter()
        .all(|n| home.standing(*n, NAS) == Some(MemberState::Member));
    home.claim(
        stands,
        format!("Nothing was deleted or moved on its own: {} later nas is still a member, shown as silent.", words(home.now() - died)),
        "nas was taken out of the mesh although nobody asked for it.",
    );
    let wrong = home.accused(died, &[NAS]);
    home.claim(
        wrong.is_empty(),
        "No other machine was taken for dead.",
        format!("Healthy machines were taken for dead: {}.", listed(&wrong)),
    );
    let key = AuthorId(home.world.id(NAS).0);
    let body = Body::Revoke(Revoke {
        key,
        head: None,
        reason: "broken".into(),
    });
    let _ = home.sign(&ana, MINI2, body, "nas is revoked", MarkKind::Revoke);
    home.tell("ana revokes nas and puts a new machine, nas2, in its place");
    let new = home.add("nas2", Role::Node, &["role=storage"]);
    let ready = home.wait_until(60_000, |w| w.is_member(new) && has_file(w, new));
    home.claim(
        ready.is_some(),
        format!("The new machine is a member and has the file of its label {} after it was given the token.", words(ready.unwrap_or(0))),
        "The new machine did NOT take on what its label says within a minute.",
    );
    home.wait_equal(30_000);
    home.claim_nothing_lost();
}
