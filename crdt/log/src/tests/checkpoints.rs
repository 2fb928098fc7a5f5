//! What most admins agreed on, against those who are fewer.

use lab_crdt_model::limit::{AUTHORITY_BYTES_MAX, CHECKPOINT_HEADS_MAX, REFS_MAX};

use super::*;

fn grant(subject: &SigningKey) -> Body {
    Body::Grant(Grant {
        subject: author(subject),
        name: "bob".into(),
        rights: Rights::ALL,
        scope: vec![String::new()],
        not_after: None,
    })
}

fn revoke(who: &SigningKey, head: Option<StatementId>) -> Body {
    Body::Revoke(Revoke {
        key: author(who),
        head,
        reason: String::new(),
    })
}

fn heads(log: &mut Log) -> Body {
    let mut heads: Vec<_> = log
        .checkpoint_heads()
        .into_iter()
        .map(|(_, head, _)| head)
        .collect();
    heads.sort_unstable();
    Body::Checkpoint(Checkpoint { heads })
}

/// A mesh of so many admins, and an operator with two changes.
fn story(count: u8) -> (World, Log, SigningKey, StatementId, [StatementId; 2]) {
    let mut w = World::with_admins(admins(count));
    let mut log = w.replica();
    let bob = key(10);
    let under = w.admin_says(&mut log, grant(&bob));
    let edits = [1, 2].map(|n| w.say(&mut log, &bob, under, set("on/all/params/x", n)));
    (w, log, bob, under, edits)
}

/// The first admins agree on all that is here.
fn agree(w: &mut World, log: &mut Log, count: u8) -> StatementId {
    let body = heads(log);
    let root = w.under_root();
    let proposal = w.admin_says(log, body);
    for n in 2..=count {
        w.say(log, &key(n), root, Body::CoSign(CoSign { proposal }));
    }
    proposal
}

/// A replica that heard the same, latest first.
fn backwards(w: &World, log: &Log) -> Log {
    let mut other = w.replica();
    let all: Vec<_> = log.newest().collect();
    for id in &all {
        let _waits = other.ingest(&log.envelope(id).unwrap(), Mono(0));
    }
    copy(log, &mut other);
    other
}

#[test]
fn what_a_majority_agreed_on_outlives_one_admin_until_a_majority_undoes_it() {
    let (mut w, mut log, bob, under, [first, second]) = story(3);
    let root = w.under_root();
    let checkpoint = agree(&mut w, &mut log, 2);
    assert!(log.authority().checkpoints[&checkpoint].is_effective);
    let third = w.say(&mut log, &bob, under, set("on/all/params/x", 3));
    let proposal = w.say(&mut log, &key(3), root, revoke(&bob, None));

    for mut log in [log.clone(), backwards(&w, &log)] {
        let authority = log.authority();
        assert!(authority.revoked.contains(&author(&bob)), "the key is dead");
        assert!(authority.devices(Wall(0)).0.len() == 3, "and asks nobody");
        assert_eq!(authority.held.len(), 1);
        let held = &authority.held[0];
        assert_eq!(held.statements, BTreeSet::from([first, second]));
        assert_eq!(held.signers, BTreeSet::from([author(&key(3))]));
        assert_eq!(log.why_not(&first), None);
        assert_eq!(log.why_not(&second), None);
        assert_eq!(log.why_not(&third), Some("its key was revoked"));
    }

    w.say(&mut log, &key(2), root, Body::CoSign(CoSign { proposal }));
    for mut log in [log.clone(), backwards(&w, &log)] {
        assert!(log.authority().held.is_empty());
        for id in [first, second, third] {
            assert_eq!(log.why_not(&id), Some("its key was revoked"));
        }
    }
}

#[test]
fn one_admin_is_a_majority_of_one_and_no_majority_of_two() {
    let (mut w, mut log, bob, _, [first, _]) = story(1);
    let checkpoint = agree(&mut w, &mut log, 1);
    assert!(log.authority().checkpoints[&checkpoint].is_effective);
    w.admin_says(&mut log, revoke(&bob, None));
    log.authority();
    assert_eq!(log.why_not(&first), Some("its key was revoked"));

    let (mut w, mut log, bob, _, [first, _]) = story(2);
    let checkpoint = agree(&mut w, &mut log, 1);
    log.authority();
    let why = log.why_not(&checkpoint);
    assert_eq!(why, Some("too few admins have signed it"));
    w.admin_says(&mut log, revoke(&bob, None));
    log.authority();
    assert_eq!(log.why_not(&first), Some("its key was revoked"));
}

#[test]
fn a_grant_that_one_admin_ends_keeps_what_was_agreed_on() {
    let (mut w, mut log, bob, under, [first, second]) = story(3);
    let root = w.under_root();
    agree(&mut w, &mut log, 2);
    let third = w.say(&mut log, &bob, under, set("on/all/params/x", 3));
    let end = Body::RevokeGrant(RevokeGrant {
        grant: under,
        head: None,
    });
    let proposal = w.say(&mut log, &key(3), root, end);
    assert_eq!(log.authority().held[0].grant, Some(under));
    assert_eq!(log.why_not(&second), None);
    assert_eq!(log.why_not(&third), Some("its grant was revoked"));
    w.say(&mut log, &key(2), root, Body::CoSign(CoSign { proposal }));
    log.authority();
    assert_eq!(log.why_not(&first), Some("its grant was revoked"));
}

#[test]
fn two_admins_who_put_each_other_out_leave_what_both_agreed_on() {
    let (mut w, mut log, _, under, edits) = story(2);
    let root = w.under_root();
    agree(&mut w, &mut log, 2);
    let fork = log.clone();
    w.say(&mut log, &key(2), root, revoke(&key(1), None));
    let mut other = fork;
    w.say(&mut other, &key(1), root, revoke(&key(2), None));
    copy(&other, &mut log);

    let authority = log.authority();
    assert!(authority.admins.is_empty());
    assert!(authority.grants.contains_key(&under));
    assert!(edits.iter().all(|id| log.why_not(id).is_none()));
}

#[test]
fn an_admin_whom_fewer_cut_goes_on_standing_behind_a_checkpoint_and_may_sign_one() {
    let (mut w, mut log, bob, _, [first, _]) = story(3);
    let root = w.under_root();
    w.say(&mut log, &key(3), root, revoke(&key(1), None));
    w.say(&mut log, &key(3), root, revoke(&bob, None));
    log.authority();
    assert_eq!(log.why_not(&first), Some("its key was revoked"));
    let mut heads: Vec<_> = log.newest().collect();
    heads.sort_unstable();
    let body = Body::Checkpoint(Checkpoint { heads });
    let bytes = w.draft(&log, &key(1), root, body);
    log.check(std::slice::from_ref(&bytes), Wall(0)).unwrap();
    let Outcome::Stored { ids } = log.ingest(&bytes, Mono(0)).unwrap() else {
        panic!("its past is here")
    };
    let body = Body::CoSign(CoSign { proposal: ids[0] });
    w.say(&mut log, &key(2), root, body);
    assert!(log.authority().checkpoints[&ids[0]].is_effective);
    assert_eq!(log.why_not(&first), None);
    // What a majority says comes first: two who cut the third void what it signs after that.
    let proposal = w.say(&mut log, &key(2), root, revoke(&key(1), None));
    w.say(&mut log, &key(3), root, Body::CoSign(CoSign { proposal }));
    assert!(!log.authority().checkpoints[&ids[0]].is_effective);
}

#[test]
fn what_a_checkpoint_names_is_asked_for_and_counts_once_it_is_here() {
    let (mut w, mut log, bob, _, edits) = story(3);
    let root = w.under_root();
    let mut late = w.replica();
    let before: Vec<_> = log.newest().collect();
    agree(&mut w, &mut log, 2);
    w.say(&mut log, &key(3), root, revoke(&bob, None));
    // Everything but what bob said.
    for id in log.newest().collect::<Vec<_>>().iter().rev() {
        if !edits.contains(id) {
            let _waits = late.ingest(&log.envelope(id).unwrap(), Mono(0));
        }
    }
    late.authority();
    assert!(before.contains(&edits[1]));
    assert!(late.wanted(100).contains(&edits[1]));
    for id in edits {
        late.ingest(&log.envelope(&id).unwrap(), Mono(0)).unwrap();
        late.take_edits();
    }
    copy(&log, &mut late);
    assert_eq!(late.digest(), log.digest());
    assert_eq!(late.effective_edits(), log.effective_edits());
    assert!(edits.iter().all(|id| late.why_not(id).is_none()));
}

#[test]
fn a_branch_that_is_covered_is_told_beside_the_one_that_was_named() {
    let (mut w, mut log, bob, under, [first, second]) = story(3);
    let root = w.under_root();
    agree(&mut w, &mut log, 2);
    let draft = Draft {
        seq: 1,
        prev: first,
        under,
        hlc: Hlc(9),
        refs: vec![],
        body: set("on/all/params/y", 7),
    };
    let stolen = seal(&w.root.mesh(), &bob, &draft).unwrap();
    let Outcome::Stored { ids } = log.ingest(&stolen, Mono(0)).unwrap() else {
        panic!("its past is here")
    };
    w.say(&mut log, &key(3), root, revoke(&bob, Some(ids[0])));
    log.authority();
    assert_eq!(log.why_not(&second), None);
    assert_eq!(log.why_not(&ids[0]), None);
    let told: BTreeSet<_> = log.tips(&author(&bob)).into_iter().collect();
    assert_eq!(told, BTreeSet::from([(1, second), (1, ids[0])]));
    let mut fresh = w.replica();
    copy(&log, &mut fresh);
    fresh.authority();
    assert_eq!(fresh.digest(), log.digest());
    assert!(fresh.contains(&second) && fresh.contains(&ids[0]));
}

#[test]
fn a_laptop_that_one_admin_puts_out_keeps_what_was_agreed_on() {
    let mut w = World::with_admins(admins(3));
    let mut log = w.replica();
    let root = w.under_root();
    let node = w.with_first_node(&mut log);
    let (keys, mut invite) = w.invite(7, "lap");
    (invite.role, invite.lease_ms) = (Role::Laptop, 1_000_000);
    (invite.rights, invite.scope) = (Rights::ALL, vec![String::new()]);
    let invite = w.admin_says(&mut log, Body::Invite(invite));
    let (lap, ana) = (key(60), key(61));
    let join = w.join(&mut log, &lap, &keys, invite, Some(author(&ana)));
    w.witness(&mut log, &node, join);
    let edit = w.say(&mut log, &ana, join, set("on/all/params/x", 1));
    agree(&mut w, &mut log, 2);
    let later = w.say(&mut log, &ana, join, set("on/all/params/x", 2));
    log.authority();
    assert_eq!((log.why_not(&edit), log.why_not(&later)), (None, None));

    let admit = Body::Admit(Admit {
        node: author(&lap).node(),
        seal_key: [0; 32],
        name: "mine".into(),
        role: Role::Node,
        labels: vec![],
    });
    for (body, is_out) in [
        (revoke(&lap, None), true),
        (admit, true),
        // Its token is agreed on, whoever made it.
        (revoke(&key(1), None), false),
    ] {
        let mut log = log.clone();
        w.say(&mut log, &key(3), root, body);
        log.authority();
        assert_eq!(log.why_not(&edit), None);
        assert_eq!(log.why_not(&later).is_some(), is_out);
    }
    // A second machine with the same token: nobody knows which one is meant, and what was agreed on stays.
    let thief = key(62);
    let second = w.join(&mut log, &thief, &keys, invite, Some(author(&key(63))));
    w.witness(&mut log, &node, second);
    log.authority();
    assert_eq!(log.why_not(&edit), None);
    assert!(log.why_not(&later).is_some());
    // Two admins together put it out for good.
    let proposal = w.say(&mut log, &key(3), root, revoke(&ana, None));
    w.say(&mut log, &key(2), root, Body::CoSign(CoSign { proposal }));
    log.authority();
    assert_eq!(log.why_not(&edit), Some("its key was revoked"));
}

#[test]
fn a_full_checkpoint_fits_its_envelope_and_a_longer_or_unsorted_one_is_none() {
    let ids = |n: usize| -> Vec<StatementId> {
        let id = |n: usize| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&(n as u64).to_be_bytes());
            StatementId(bytes)
        };
        (1..=n).map(id).collect()
    };
    let full = Body::Checkpoint(Checkpoint {
        heads: ids(CHECKPOINT_HEADS_MAX),
    });
    let draft = Draft {
        seq: 0,
        prev: StatementId::ZERO,
        under: StatementId::ZERO,
        hlc: Hlc(0),
        refs: ids(REFS_MAX),
        body: full.clone(),
    };
    let bytes = seal(&World::new().root.mesh(), &key(1), &draft).unwrap();
    assert!(bytes.len() <= AUTHORITY_BYTES_MAX);
    assert_eq!(Body::decode(Kind::CHECKPOINT, &full.encode()), Some(full));
    let mut unsorted = ids(3);
    unsorted.swap(0, 1);
    for heads in [ids(CHECKPOINT_HEADS_MAX + 1), unsorted] {
        let bytes = Body::Checkpoint(Checkpoint { heads }).encode();
        assert_eq!(Body::decode(Kind::CHECKPOINT, &bytes), None);
    }
}

#[test]
fn only_admins_hand_in_checkpoints_and_only_of_what_is_here() {
    let (mut w, mut log, bob, under, [first, _]) = story(3);
    let root = w.under_root();
    let of = |heads| Body::Checkpoint(Checkpoint { heads });
    for (who, under, body) in [
        (&bob, under, of(vec![first])),
        (&key(1), root, of(vec![])),
        (&key(1), root, of(vec![StatementId([7; 32])])),
        (&key(2), root, Body::CoSign(CoSign { proposal: first })),
    ] {
        let bytes = w.draft(&log, who, under, body);
        let refused = log.check(&[bytes], Wall(0));
        assert!(matches!(refused, Err(Refusal::Denied(_))), "{refused:?}");
    }
    let proposal = w.say(&mut log, &key(1), root, revoke(&bob, Some(first)));
    let bytes = w.draft(&log, &key(2), root, Body::CoSign(CoSign { proposal }));
    log.check(&[bytes], Wall(0)).unwrap();
}
