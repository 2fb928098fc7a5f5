//! What join tokens promise, told in virtual time: who gets in with one, who does not, and what is seen of it.

use ed25519_dalek::SigningKey;
use lab_agent_core::{Reply, ViewMask};
use lab_crdt_log::{Body, Confirm, RootRecord, SignedRoot, WitnessRule};
use lab_crdt_model::token::Token;
use lab_crdt_model::view::{MemberState, ReplicaView, Role};
use lab_crdt_model::{Binding, StatementId, Value, Wall};
use lab_simulation::World;
use lab_simulation::clock::ClockFault;

/// The token of a machine: of its MAC address, its serial number or both.
fn bound(of: usize, has_mac: bool, has_serial: bool) -> Binding {
    let machine = World::hardware(of);
    Binding {
        mac: machine.macs.first().copied().filter(|_| has_mac),
        serial: machine.serial.filter(|_| has_serial),
    }
}

#[test]
fn a_token_for_one_machine_refuses_another_for_good_and_is_not_spent() {
    for (has_mac, has_serial) in [(true, false), (false, true), (true, true)] {
        let mut w = World::found(90);
        w.grow(3);
        let admin = w.admin.clone();
        let meant = bound(4, has_mac, has_serial);
        let token = w.token_with(&admin, 0, |invite| invite.binding = Some(meant.clone()));
        let token = token.expect("the admin may invite");

        let other = w.join(token.clone(), None);
        assert_eq!(other, 3);
        w.run_for(30_000);

        assert!(!w.is_member(other));
        let why = w.refused_join(other).expect("a refusal").to_owned();
        assert!(
            why.starts_with(&format!(
                "this token is for the machine with {meant}; this one has MAC "
            )),
            "{why}"
        );
        w.kill(other);

        let right = w.join(token, None);
        assert!(w.run_until(30_000, |w| w.is_member(right)));
    }
}

/// Five members, the first three of them registrars.
fn mesh(seed: u64) -> World {
    let mut w = World::found(seed);
    w.grow(5);
    let founding = w.root();
    let mut registrars = [0, 1, 2].map(|n| w.id(n)).to_vec();
    registrars.sort_unstable();
    let next = RootRecord {
        version: founding.version + 1,
        prev: founding.hash(),
        registrars,
        ..founding
    };
    let root_key = SigningKey::from_bytes(&[200; 32]);
    let admin = w.admin.clone();
    let reply = admin.say(&mut w, 0, Body::Root(SignedRoot::sign(&next, &[&root_key])));
    assert!(matches!(reply, Reply::Submitted { .. }), "{reply:?}");
    assert!(w.run_until(30_000, |w| w.are_equal()));
    w
}

/// Every way in which a join can be witnessed; the one witness is the second machine.
fn rules(w: &World) -> [WitnessRule; 3] {
    [
        WitnessRule::Any,
        WitnessRule::One(w.id(1)),
        WitnessRule::Quorum,
    ]
}

/// The same token, in the hands of someone who knows another member.
fn via(token: &Token, w: &World, node: usize) -> Token {
    let mut token = token.clone();
    if let Token::Ticket(ticket) = &mut token {
        ticket.addresses = vec![(w.id(node), w.address(node))];
    }
    token
}

/// How `of` stands in the eyes of a machine.
fn standing(w: &mut World, at: usize, of: usize) -> Option<MemberState> {
    let id = w.id(of);
    let view = roster(w, at);
    view.members.iter().find(|m| m.node == id).map(|m| m.state)
}

fn roster(w: &mut World, at: usize) -> ReplicaView {
    let mask = ViewMask {
        roster: true,
        reports: true,
        ..ViewMask::default()
    };
    w.agent_view(at, mask).expect("it runs")
}

fn join_of(w: &mut World, at: usize, of: usize) -> StatementId {
    let id = w.id(of);
    let view = roster(w, at);
    let member = view.members.iter().find(|m| m.node == id);
    member.expect("it joined").join
}

fn confirm(w: &mut World, at: usize, of: usize) {
    let join = join_of(w, at, of);
    let admin = w.admin.clone();
    let reply = admin.say(w, at, Body::Confirm(Confirm { join }));
    assert!(matches!(reply, Reply::Submitted { .. }), "{reply:?}");
}

#[test]
fn a_token_used_twice_in_one_partition_lets_in_the_first_whoever_has_to_see_it() {
    for n in 0..3 {
        let mut w = mesh(91);
        let rule = rules(&w)[n];
        let token = w.token(0, "nas", Role::Node, &[], rule);
        let first = w.join(token.clone(), None);
        assert!(w.run_until(60_000, |w| w.is_member(first)), "{rule:?}");
        assert!(w.run_until(30_000, |w| w.are_equal()));

        let second = w.join(via(&token, &w, 2), None);
        w.run_for(60_000);

        let why = w.refused_join(second).unwrap_or_default();
        assert!(why.contains("used already, by nas"), "{rule:?}: {why}");
        for at in 0..5 {
            assert_eq!(standing(&mut w, at, first), Some(MemberState::Member));
            assert_eq!(standing(&mut w, at, second), None, "{rule:?}");
        }
    }
}

#[test]
fn a_token_used_by_two_at_once_lets_in_at_most_one_where_one_or_a_quorum_has_to_see_it() {
    for n in 1..3 {
        for seed in 0..4 {
            let mut w = mesh(100 + seed);
            let rule = rules(&w)[n];
            let token = w.token(0, "nas", Role::Node, &[], rule);
            assert!(w.run_until(30_000, |w| w.are_equal()));
            let one = w.join(via(&token, &w, 0), None);
            let other = w.join(via(&token, &w, 2), None);
            for _ in 0..120 {
                w.run_for(1_000);
                for at in 0..5 {
                    let states = [one, other].map(|of| standing(&mut w, at, of));
                    let is_in = |s: &&Option<MemberState>| **s == Some(MemberState::Member);
                    assert!(
                        states.iter().filter(is_in).count() <= 1,
                        "{rule:?}: {states:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_token_used_in_two_partitions_does_what_its_rule_promises() {
    use MemberState::{Member, Probation, Suspended};
    for n in 0..3 {
        let mut w = mesh(92);
        let rule = rules(&w)[n];
        let token = w.token(0, "nas", Role::Node, &[], rule);
        assert!(w.run_until(30_000, |w| w.are_equal()));
        let (mine, thief) = (5, 6);
        // Two of the three registrars, the one witness among them, are on the side of the right machine.
        w.partition(&[0, 1, mine], &[2, 3, 4, thief]);
        assert_eq!(w.join(via(&token, &w, 0), None), mine);
        assert_eq!(w.join(via(&token, &w, 2), None), thief);
        assert!(w.run_until(60_000, |w| w.is_member(mine)), "{rule:?}");
        w.run_for(30_000);
        let there = standing(&mut w, 2, thief);
        let expected = match rule {
            WitnessRule::Any => Some(Member),
            WitnessRule::One(_) => Some(MemberState::Seen),
            WitnessRule::Quorum => Some(Probation),
        };
        assert_eq!(there, expected, "{rule:?}");

        w.heal();
        w.run_for(90_000);

        for at in 0..5 {
            let states = [mine, thief].map(|of| standing(&mut w, at, of).expect("known"));
            match rule {
                WitnessRule::Any => {
                    assert_eq!(states, [Suspended, Suspended], "at {at}");
                    let issues = roster(&mut w, at).issues;
                    assert!(issues.iter().any(|i| i.code == "M048"), "{issues:?}");
                }
                WitnessRule::One(_) => assert_eq!(states, [Member, MemberState::Seen], "at {at}"),
                WitnessRule::Quorum => assert_eq!(states, [Member, Probation], "at {at}"),
            }
        }
        if rule == WitnessRule::Any {
            confirm(&mut w, 0, mine);
            assert!(w.run_until(30_000, |w| w.is_member(mine)));
            w.run_for(10_000);
            assert_eq!(standing(&mut w, 3, thief), Some(Suspended));
        }
    }
}

#[test]
fn a_token_ends_by_the_clocks_of_those_who_have_to_see_it_and_by_no_other() {
    let hour = 3_600_000;
    let soon = |w: &mut World, rule: WitnessRule| {
        let admin = w.admin.clone();
        let end = Wall(w.wall(0).0 + 60_000);
        let token = w.token_with(&admin, 0, |invite| {
            (invite.witness, invite.not_after) = (rule, end);
        });
        let token = token.expect("the admin may invite");
        assert!(w.run_until(30_000, |w| w.are_equal()));
        token
    };
    let off_by = |w: &mut World, node: usize, ms: i64| {
        w.apply_clock(node, &ClockFault::Offset { ms });
    };
    for n in 0..3 {
        // Who joins may believe what it likes.
        let mut w = mesh(93);
        let rule = rules(&w)[n];
        let token = soon(&mut w, rule);
        let fast = w.join(token.clone(), None);
        off_by(&mut w, fast, 2 * hour);
        assert!(w.run_until(50_000, |w| w.is_member(fast)), "{rule:?}");

        let mut w = mesh(94);
        let rule = rules(&w)[n];
        let token = soon(&mut w, rule);
        w.run_for(90_000);
        let slow = w.join(token.clone(), None);
        off_by(&mut w, slow, -2 * hour);
        w.run_for(60_000);
        let why = w.refused_join(slow).unwrap_or_default().to_owned();
        assert!(
            !w.is_member(slow) && why.contains("expired"),
            "{rule:?}: {why}"
        );

        // A witness whose clock is ahead refuses at most until it has heard enough others.
        let mut w = mesh(95);
        let rule = rules(&w)[n];
        let token = soon(&mut w, rule);
        off_by(&mut w, 2, 2 * hour);
        let early = w.join(via(&token, &w, 2), None);
        let is_in = w.run_until(50_000, |w| w.is_member(early));
        assert!(is_in, "{rule:?}: {:?}", w.refused_join(early));

        // A witness whose clock is behind lets nobody in late once it has.
        let mut w = mesh(96);
        let rule = rules(&w)[n];
        let token = soon(&mut w, rule);
        let slow = if n == 1 { 1 } else { 2 };
        off_by(&mut w, slow, -2 * hour);
        w.run_for(120_000);
        let late = w.join(via(&token, &w, slow), None);
        w.run_for(60_000);
        let why = w.refused_join(late).unwrap_or_default().to_owned();
        assert!(
            !w.is_member(late) && why.contains("expired"),
            "{rule:?}: {why}"
        );
    }
}

#[test]
fn a_confirmed_machine_is_not_hurt_when_its_token_is_used_again() {
    let mut w = mesh(97);
    let token = w.token(0, "nas", Role::Node, &[], WitnessRule::Any);
    assert!(w.run_until(30_000, |w| w.are_equal()));
    let (mine, thief) = (5, 6);
    w.partition(&[0, 1, mine], &[2, 3, 4, thief]);
    w.join(via(&token, &w, 0), None);
    assert!(w.run_until(60_000, |w| standing(w, 1, mine)
        == Some(MemberState::Member)));
    confirm(&mut w, 1, mine);
    w.join(via(&token, &w, 2), None);
    assert!(w.run_until(60_000, |w| w.is_member(thief)));

    w.heal();

    for _ in 0..90 {
        w.run_for(1_000);
        assert!(w.is_member(mine));
    }
    for at in 0..5 {
        let states = [mine, thief].map(|of| standing(&mut w, at, of));
        let expected = [MemberState::Member, MemberState::Suspended].map(Some);
        assert_eq!(states, expected, "at {at}");
    }
}

#[test]
fn a_machine_on_probation_hears_and_does_its_own_and_is_nobodys_target_until_it_is_confirmed() {
    let mut w = World::found(98);
    w.grow(3);
    let admin = w.admin.clone();
    let motd = "on/role=web/files/%2Fetc%2Fmotd/template";
    admin.set(&mut w, 0, motd, Value::text("hello {node.name}"));
    let token = w.token_with(&admin, 0, |invite| {
        (invite.confirm, invite.name) = (true, Some("pxe1".into()));
        invite.labels = vec!["role=web".parse().expect("a label")];
    });
    let token = token.expect("the admin may invite");
    let new = w.join(token.clone(), None);

    assert!(w.run_until(30_000, |w| w.are_equal()
        && w.files(new).contains_key("/etc/motd")));

    assert_eq!(w.files(new)["/etc/motd"], b"hello pxe1");
    let id = w.id(new);
    for at in 0..4 {
        assert_eq!(standing(&mut w, at, new), Some(MemberState::Probation));
        let view = roster(&mut w, at);
        let join = view.joins.iter().find(|j| j.node == id).expect("it waits");
        assert_eq!(join.hardware, Some(World::hardware(new)));
        assert!(join.is_confirm_due && join.witnesses.len() == 1 && join.needed == 1);
    }

    let reports = |w: &mut World| {
        let of = roster(w, 0).reports.into_iter().find(|r| r.node == id);
        of.is_some_and(|r| r.facts.is_some() && r.status.is_some())
    };
    assert!(w.run_until(60_000, reports));

    // It vouches for nobody, and its token is spent.
    let other = w.token(0, "nas", Role::Node, &[], WitnessRule::Any);
    assert!(w.run_until(30_000, |w| w.are_equal()));
    let asking = w.join(via(&other, &w, new), None);
    let second = w.join(via(&token, &w, 1), None);
    w.run_for(60_000);
    assert!(!w.is_member(asking) && !w.is_member(second));
    let why = w.refused_join(second).unwrap_or_default();
    assert!(why.contains("used already, by pxe1"), "{why}");
    w.kill(asking);
    w.kill(second);

    // It waits as long as it takes, and through a restart.
    w.kill(new);
    w.run_for(30_000);
    w.start(new);
    assert!(w.run_until(30_000, |w| w.are_equal()));
    assert_eq!(standing(&mut w, new, new), Some(MemberState::Probation));
    confirm(&mut w, 2, new);
    assert!(w.run_until(30_000, |w| w.is_member(new)));
    assert!(w.run_until(30_000, |w| !roster(w, 0).joins.iter().any(|j| j.node == id)));
}
