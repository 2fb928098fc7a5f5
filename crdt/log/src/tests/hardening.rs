//! What an enrolled attacker, a thief or bad luck could do, and may not.

use super::*;

fn grant(subject: &SigningKey, rights: Rights, scope: &str) -> Body {
    Body::Grant(Grant {
        subject: author(subject),
        name: "bob".into(),
        rights,
        scope: vec![scope.into()],
        not_after: None,
    })
}

fn revoke(key: AuthorId, head: Option<StatementId>) -> Body {
    Body::Revoke(Revoke {
        key,
        head,
        reason: String::new(),
    })
}

/// Signs anything, anywhere.
fn forge(
    w: &World,
    key: &SigningKey,
    at: Option<(u64, StatementId)>,
    under: StatementId,
    hlc: u64,
    body: Body,
) -> (StatementId, Bytes) {
    let (seq, prev) = at.map_or((0, StatementId::ZERO), |(seq, id)| (seq + 1, id));
    let draft = Draft {
        seq,
        prev,
        under,
        hlc: Hlc(hlc),
        refs: vec![],
        body,
    };
    let bytes = seal(&w.root.mesh(), key, &draft).unwrap();
    let id = *blake3::hash(&bytes[..bytes.len() - 64]).as_bytes();
    (StatementId(id), bytes)
}

fn nested(depth: usize) -> Body {
    let value = (0..depth).fold(Value::Null, |v, _| Value::List(vec![v]));
    let op = Op::Set {
        path: "on/all/params/x".parse().unwrap(),
        field: Field::new(value, "p"),
    };
    Body::Edit(Edit {
        message: String::new(),
        ops: vec![op],
    })
}

#[test]
fn what_an_admin_did_up_to_its_cut_goes_on_counting() {
    let mut w = World::with_admins(admins(3));
    let mut log = w.replica();
    let root = w.under_root();
    let first = w.with_first_node(&mut log);
    let (keys, invite) = w.invite(7, "nuc1");
    let invite = w.admin_says(&mut log, Body::Invite(invite));
    let joiner = key(60);
    let join = w.join(&mut log, &joiner, &keys, invite, None);
    w.witness(&mut log, &first, join);
    let edit = w.admin_says(&mut log, set("on/all/params/x", 1));
    let stolen = w.admin_says(&mut log, set("on/all/params/x", 666));

    let proposal = w.say(&mut log, &key(2), root, revoke(author(&key(1)), Some(edit)));
    w.say(&mut log, &key(3), root, Body::CoSign(CoSign { proposal }));

    let members = &log.authority().roster.members;
    assert_eq!(members.len(), 2);
    assert!(members.values().all(|m| m.state == MemberState::Member));
    assert_eq!(log.why_not(&edit), None);
    assert_eq!(log.why_not(&stolen), Some("its key was revoked"));
    assert_eq!(log.why_not(&invite), None);
    let more = w.draft(&log, &key(1), root, set("on/all/params/x", 2));
    assert!(matches!(
        log.check(&[more], Wall(0)),
        Err(Refusal::Denied(_))
    ));
}

#[test]
fn a_thief_cannot_have_the_history_of_a_key_dropped_by_forking_it() {
    let mut w = World::new();
    let mut log = w.replica();
    let op = key(10);
    let under = w.admin_says(&mut log, grant(&op, Rights::ALL, ""));
    let mut honest = Vec::new();
    for n in 0..200 {
        honest.push(w.say(&mut log, &op, under, set("on/all/params/x", n)));
    }
    let mut refused = 0;
    for n in 0..40 {
        let (_, bytes) = forge(&w, &op, None, under, n, set("on/all/params/x", -1));
        refused += usize::from(log.ingest(&bytes, Mono(0)) == Err(Refusal::Fork));
    }
    assert_eq!(refused, 37);
    assert!(honest.iter().all(|id| log.contains(id)));

    // A replica that met the thief first gets the branch that counts once the cut names it.
    let mut late = w.replica();
    late.ingest(&log.envelope(&under).unwrap(), Mono(0))
        .unwrap();
    for n in 100..140 {
        let (_, bytes) = forge(&w, &op, None, under, n, set("on/all/params/x", -1));
        let _full = late.ingest(&bytes, Mono(0));
    }
    copy(&log, &mut late);
    assert!(!late.contains(&honest[0]));
    w.admin_says(&mut log, revoke(author(&op), honest.last().copied()));
    log.authority();
    for _ in 0..3 {
        late.forget_full();
        copy(&log, &mut late);
        late.authority();
    }
    assert!(honest.iter().all(|id| late.contains(id)));
    assert_eq!(late.digest(), log.digest());
    let ids = |log: &mut Log| {
        let mut ids: Vec<_> = log.effective_edits().iter().map(|e| e.id).collect();
        ids.sort_unstable();
        ids
    };
    let mut want = honest.clone();
    want.sort_unstable();
    assert_eq!(ids(&mut log), want);
    assert_eq!(ids(&mut late), want);
}

#[test]
fn a_later_branch_with_a_lower_id_builds_the_document_anew() {
    let w = World::new();
    let root = w.under_root();
    let mut all: Vec<_> = (0..4)
        .map(|n| forge(&w, &key(1), None, root, n, set("on/all/params/x", n as i64)))
        .collect();
    all.sort_by_key(|(id, _)| std::cmp::Reverse(*id));
    let mut log = w.replica();
    for (at, (_, bytes)) in all.iter().enumerate() {
        log.ingest(bytes, Mono(0)).unwrap();
        assert!(
            at == 0 || matches!(log.take_edits(), Edits::Rebuild(_)),
            "{at}"
        );
    }
    let mut fresh = w.replica();
    for (_, bytes) in all.iter().rev() {
        fresh.ingest(bytes, Mono(0)).unwrap();
    }
    let sorted = |log: &mut Log| {
        let mut edits = log.effective_edits();
        edits.sort_by_key(|e| e.id);
        edits
    };
    assert_eq!(sorted(&mut log), sorted(&mut fresh));
}

#[test]
fn deep_nesting_is_refused_without_reading_it() {
    let w = World::new();
    let ok = forge(&w, &key(1), None, w.under_root(), 1, nested(8)).1;
    assert!(open(&w.root.mesh(), &ok).is_ok());
    // Made by hand: an encoder that nests as deep would overflow the stack here already.
    let inner: Vec<u8> = [5, 1].repeat(31_000);
    let shallow = nested(0).encode();
    let at = shallow.len() - 5;
    assert_eq!(shallow[at], 0, "the value's tag");
    let body = [&shallow[..at], &inner, &shallow[at..]].concat();
    assert!(Body::decode(Kind::EDIT, &body).is_none());
}

#[test]
fn a_node_says_nothing_but_joins_and_witnesses() {
    let mut w = World::new();
    let mut log = w.replica();
    let node = w.with_first_node(&mut log);
    let root = w.under_root();
    for body in [
        set("on/all/params/x", 1),
        grant(&key(77), Rights::ALL, ""),
        Body::Invite(w.invite(3, "x").1),
        Body::Confirm(Confirm { join: root }),
        revoke(author(&key(1)), None),
    ] {
        let bytes = w.draft(&log, &node, root, body);
        assert_eq!(log.ingest(&bytes, Mono(0)), Err(Refusal::Kind));
    }
    // Nor does a grant by anyone but an admin make its subject someone to store things for.
    let op = key(10);
    let under = w.admin_says(&mut log, grant(&op, Rights::ALL, ""));
    w.say(&mut log, &op, under, grant(&key(78), Rights::ALL, ""));
    let bytes = w.draft(&log, &key(78), under, set("on/all/params/x", 1));
    assert_eq!(log.ingest(&bytes, Mono(0)), Err(Refusal::Stranger));
}

#[test]
fn a_token_that_got_about_does_not_fill_the_replica_with_joins() {
    let mut w = World::new();
    let mut log = w.replica();
    let (keys, invite) = w.invite(7, "nuc1");
    let invite = w.admin_says(&mut log, Body::Invite(invite));
    let mut stored = 0;
    for n in 0..200u8 {
        let node = SigningKey::from_bytes(&std::array::from_fn(|i| if i == 0 { n } else { 9 }));
        let id = NodeId(author(&node).0);
        let token_signature = keys.sign_join(&w.root.mesh(), &id, &[3; 32], None);
        let join = Join {
            invite,
            seal_key: [3; 32],
            operator_key: None,
            token_signature,
            hardware: None,
        };
        let bytes = w.draft(&log, &node, invite, Body::Join(join));
        stored += usize::from(log.ingest(&bytes, Mono(0)).is_ok());
    }
    assert_eq!(stored, 17);
}

#[test]
fn tokens_of_those_who_may_never_make_any_admit_nobody_to_the_store() {
    let mut w = World::new();
    let mut log = w.replica();
    let op = key(10);
    let under = w.admin_says(&mut log, grant(&op, Rights::CONFIG, ""));
    let (keys, invite) = w.invite(7, "x");
    let invite = w.say(&mut log, &op, under, Body::Invite(invite));
    let node = key(60);
    let id = NodeId(author(&node).0);
    let token_signature = keys.sign_join(&w.root.mesh(), &id, &[3; 32], None);
    let join = Join {
        invite,
        seal_key: [3; 32],
        operator_key: None,
        token_signature,
        hardware: None,
    };
    let bytes = w.draft(&log, &node, invite, Body::Join(join));
    assert_eq!(log.ingest(&bytes, Mono(0)), Err(Refusal::Stranger));
}

#[test]
fn an_operator_cannot_outlive_its_grant_by_a_laptop_token() {
    let mut w = World::new();
    let mut log = w.replica();
    let first = w.with_first_node(&mut log);
    let op = key(10);
    let under = w.admin_says(
        &mut log,
        Body::Grant(Grant {
            subject: author(&op),
            name: "bob".into(),
            rights: Rights::ALL,
            scope: vec![String::new()],
            not_after: Some(Wall(5000)),
        }),
    );
    for (seed, lease_ms, counts) in [(7, 0, false), (8, 900_000, true)] {
        let (keys, mut invite) = w.invite(seed, "bob-laptop");
        invite.role = Role::Laptop;
        invite.rights = Rights::ALL;
        invite.scope = vec![String::new()];
        invite.labels = vec![];
        invite.lease_ms = lease_ms;
        let invite = w.say(&mut log, &op, under, Body::Invite(invite));
        let (device, operator) = (key(60 + seed), key(80 + seed));
        let join = w.join(&mut log, &device, &keys, invite, Some(author(&operator)));
        w.witness(&mut log, &first, join);
        let edit = w.say(&mut log, &operator, join, set("on/all/params/x", 1));
        log.authority();
        assert_eq!(log.why_not(&edit).is_none(), counts);
        w.clock = 6000;
        let late = w.say(&mut log, &operator, join, set("on/all/params/x", 2));
        log.authority();
        assert!(log.why_not(&late).is_some());
        w.clock = 3000;
        log = {
            let mut next = w.replica();
            for id in log.newest().rev().take(4) {
                next.ingest(&log.envelope(&id).unwrap(), Mono(0)).unwrap();
            }
            next
        };
    }
}

#[test]
fn whoever_waits_for_a_confirmation_vouches_for_nobody() {
    let mut w = World::new();
    let mut log = w.replica();
    let first = w.with_first_node(&mut log);
    let (keys, mut invite) = w.invite(7, "pxe1");
    invite.confirm = true;
    let invite = w.admin_says(&mut log, Body::Invite(invite));
    let waiting = key(60);
    let join = w.join(&mut log, &waiting, &keys, invite, None);
    w.witness(&mut log, &first, join);
    let (keys, other) = w.invite(8, "x1");
    let other = w.admin_says(&mut log, Body::Invite(other));
    let joiner = key(61);
    let late = w.join(&mut log, &joiner, &keys, other, None);
    w.say(
        &mut log,
        &waiting,
        join,
        Body::Witness(Witness {
            join: late,
            seen_at: Wall(1),
        }),
    );
    let state = |log: &mut Log| log.authority().roster.members[&NodeId(author(&key(61)).0)].state;
    assert_eq!(state(&mut log), MemberState::Seen);
    w.admin_says(&mut log, Body::Confirm(Confirm { join }));
    assert_eq!(state(&mut log), MemberState::Member);
}

#[test]
fn whoever_waits_for_a_confirmation_is_on_probation_and_has_spent_the_token() {
    let mut w = World::new();
    let mut log = w.replica();
    let first = w.with_first_node(&mut log);
    let (keys, mut invite) = w.invite(7, "pxe1");
    (invite.confirm, invite.role, invite.lease_ms) = (true, Role::Laptop, 1_000);
    let invite = w.admin_says(&mut log, Body::Invite(invite));
    let (laptop, operator) = (key(60), author(&key(70)));
    let join = w.join(&mut log, &laptop, &keys, invite, Some(operator));
    let unseen = log.authority().roster.joins[&join].clone();
    assert!(!unseen.is_witnessed() && unseen.is_confirm_due);
    assert_eq!(
        log.authority().roster.invites[&invite].word_at(Wall(0)),
        "open"
    );

    w.witness(&mut log, &first, join);

    let roster = &log.authority().roster;
    let member = &roster.members[&author(&laptop).node()];
    let waiting = &roster.joins[&join];
    assert_eq!(member.state, MemberState::Probation);
    assert!(member.is_admitted_at(Wall(3_000)) && !member.is_admitted_at(Wall(3_001)));
    assert_eq!(
        waiting.witnesses.keys().copied().collect::<Vec<_>>(),
        [author(&first).node()]
    );
    assert!(waiting.is_witnessed() && waiting.is_confirm_due);
    assert_eq!(roster.invites[&invite].word_at(Wall(0)), "used");
    assert!(!log.authority().grants.contains_key(&join));

    w.admin_says(&mut log, Body::Confirm(Confirm { join }));
    let authority = log.authority();
    assert!(authority.roster.joins.is_empty() && authority.grants.contains_key(&join));
}

#[test]
fn a_confirmation_counts_as_long_as_the_grant_did() {
    let mut w = World::new();
    let mut log = w.replica();
    let first = w.with_first_node(&mut log);
    let op = key(10);
    let under = w.admin_says(
        &mut log,
        Body::Grant(Grant {
            subject: author(&op),
            name: "bob".into(),
            rights: Rights::CONFIRM,
            scope: vec![],
            not_after: Some(Wall(5000)),
        }),
    );
    let (keys, mut invite) = w.invite(7, "pxe1");
    invite.confirm = true;
    let invite = w.admin_says(&mut log, Body::Invite(invite));
    let node = key(60);
    let join = w.join(&mut log, &node, &keys, invite, None);
    w.witness(&mut log, &first, join);
    let state = |log: &mut Log| log.authority().roster.members[&NodeId(author(&key(60)).0)].state;

    let mut expired = w.replica();
    copy(&log, &mut expired);
    w.clock = 6000;
    w.say(&mut expired, &op, under, Body::Confirm(Confirm { join }));
    assert_eq!(state(&mut expired), MemberState::Probation);

    w.clock = 3000;
    let confirm = w.say(&mut log, &op, under, Body::Confirm(Confirm { join }));
    assert_eq!(state(&mut log), MemberState::Member);
    w.admin_says(
        &mut log,
        Body::RevokeGrant(RevokeGrant {
            grant: under,
            head: Some(confirm),
        }),
    );
    assert_eq!(state(&mut log), MemberState::Member);
}

#[test]
fn a_token_of_an_operator_does_not_take_over_the_name_of_a_machine() {
    for seed in 0..12 {
        let mut w = World::new();
        let mut log = w.replica();
        let first = w.with_first_node(&mut log);
        let op = key(10);
        let under = w.admin_says(&mut log, grant(&op, Rights::INVITE, ""));
        let (keys, mut invite) = w.invite(seed, "nas1");
        invite.labels = vec![];
        let invite = w.say(&mut log, &op, under, Body::Invite(invite));
        let node = key(60 + seed);
        let join = w.join(&mut log, &node, &keys, invite, None);
        w.witness(&mut log, &first, join);
        let members = &log.authority().roster.members;
        assert_eq!(members[&NodeId(author(&first).0)].name, "nas1");
        assert_eq!(members[&NodeId(author(&node).0)].name, "nas1-2");
    }
}

#[test]
fn a_full_author_ends_an_exchange_and_holds_up_nobody_else() {
    let mut w = World::new();
    let mut a = w.replica();
    let op = key(10);
    let under = w.admin_says(&mut a, grant(&op, Rights::ALL, ""));
    let mut b = w.replica();
    copy(&a, &mut b);
    // The thief's megabytes are at `a`; `b` knows that the key is cut.
    for n in 0..100 {
        let op_set = Op::Set {
            path: format!("on/all/params/p{n}").parse().unwrap(),
            field: Field::new(Value::Text("x".repeat(20_000)), "p"),
        };
        let body = Body::Edit(Edit {
            message: String::new(),
            ops: vec![op_set],
        });
        w.say(&mut a, &op, under, body);
    }
    let merge = Edit {
        message: "m".into(),
        ops: vec![],
    };
    let honest = w.admin_says(&mut a, Body::Edit(merge));
    w.admin_says(&mut b, Body::CoSign(CoSign { proposal: under }));
    w.admin_says(&mut b, revoke(author(&op), None));
    b.authority();

    copy(&a, &mut b);

    copy(&b, &mut a);
    a.authority();
    b.authority();
    for _ in 0..3 {
        b.forget_full();
        a.forget_full();
        copy(&a, &mut b);
        copy(&b, &mut a);
    }
    // The admin's edit refers to the thief's: it gets in with what it refers to.
    assert!(b.contains(&honest));
    assert_eq!(a.digest(), b.digest());
}

#[test]
fn everything_is_back_after_a_restart_whatever_the_stamps_say() {
    let mut w = World::new();
    let mut log = w.replica();
    let op = key(10);
    let under = w.admin_says(&mut log, grant(&op, Rights::ALL, ""));
    let mut at = None;
    for n in 0..3000u64 {
        let (id, bytes) = forge(
            &w,
            &op,
            at,
            under,
            1 << 40 >> (n % 30),
            set("on/all/params/x", n as i64),
        );
        log.ingest(&bytes, Mono(0)).unwrap();
        at = Some((n, id));
    }
    for n in 0..3 {
        let (_, bytes) = forge(
            &w,
            &op,
            None,
            under,
            50 + n,
            set("on/all/params/y", n as i64),
        );
        log.ingest(&bytes, Mono(0)).unwrap();
    }
    w.admin_says(&mut log, set("on/all/params/z", 1));
    let mut back = w.replica();
    let mut all: Vec<_> = log
        .newest()
        .rev()
        .filter_map(|id| log.envelope(&id))
        .collect();
    all.sort();
    all.push(Bytes::from_static(b"damaged"));
    back.restore_all(all);
    assert_eq!((back.len(), back.waiting_len()), (log.len(), 0));
    assert_eq!(back.digest(), log.digest());
    assert_eq!(back.authority(), log.authority());
    let sorted = |log: &mut Log| {
        let mut edits = log.effective_edits();
        edits.sort_by_key(|e| e.id);
        edits
    };
    assert_eq!(sorted(&mut back), sorted(&mut log));
}

#[test]
fn a_cut_that_is_not_known_here_is_not_handed_in() {
    let mut w = World::new();
    let mut log = w.replica();
    let root = w.under_root();
    let bytes = w.draft(&log, &key(1), root, revoke(author(&key(10)), Some(root)));
    assert!(matches!(
        log.check(&[bytes], Wall(0)),
        Err(Refusal::Denied(_))
    ));
}

#[test]
fn a_grant_that_is_over_is_not_used_here_whatever_the_stamps_say() {
    let mut w = World::new();
    let mut log = w.replica();
    let op = key(10);
    let under = w.admin_says(
        &mut log,
        Body::Grant(Grant {
            subject: author(&op),
            name: "bob".into(),
            rights: Rights::ALL,
            scope: vec![String::new()],
            not_after: Some(Wall(5000)),
        }),
    );
    let backdated = w.draft(&log, &op, under, set("on/all/params/x", 1));
    assert!(
        log.check(std::slice::from_ref(&backdated), Wall(4999))
            .is_ok()
    );
    assert!(matches!(
        log.check(&[backdated], Wall(5000)),
        Err(Refusal::Denied(_))
    ));
}

#[test]
fn junk_in_the_name_of_a_node_does_not_keep_its_word_from_being_asked_for() {
    let mut w = World::new();
    let mut log = w.replica();
    let node = w.with_first_node(&mut log);
    let mut junk = vec![0; 200];
    (junk[0], junk[1]) = (1, Kind::EDIT.0);
    junk[2..34].copy_from_slice(&author(&node).0);
    assert_eq!(log.ingest(&junk.into(), Mono(0)), Err(Refusal::Kind));
    assert!(log.full().is_empty());
}

#[test]
fn made_up_references_do_not_keep_others_from_being_asked_for() {
    let mut w = World::new();
    let mut log = w.replica();
    let op = key(10);
    let under = w.admin_says(&mut log, grant(&op, Rights::ALL, ""));
    for n in 0..200u64 {
        let mut made_up = [0; 32];
        made_up[..8].copy_from_slice(&n.to_be_bytes());
        let draft = Draft {
            seq: 0,
            prev: StatementId::ZERO,
            under,
            hlc: Hlc(1),
            refs: vec![StatementId(made_up)],
            body: set("on/all/params/x", 1),
        };
        let bytes = seal(&w.root.mesh(), &op, &draft).unwrap();
        assert!(matches!(
            log.ingest(&bytes, Mono(0)),
            Ok(Outcome::Waiting { .. })
        ));
    }
    let tail = log.tail(&author(&key(1)));
    let missing = StatementId([255; 32]);
    let draft = Draft {
        seq: tail.seq,
        prev: tail.prev,
        under: w.under_root(),
        hlc: Hlc(1),
        refs: vec![missing],
        body: set("on/all/params/x", 1),
    };
    let honest = seal(&w.root.mesh(), &key(1), &draft).unwrap();
    log.ingest(&honest, Mono(0)).unwrap();
    assert!((0..5).any(|_| log.wanted(64).contains(&missing)));
}

#[test]
fn an_admin_has_a_quota_of_its_own_and_what_it_says_about_authority_is_beyond_it() {
    let w = World::new();
    let mut log = w.replica();
    let (root, admin) = (w.under_root(), w.admin.clone());
    let mut end = None;
    let mut all = Vec::new();
    for n in 0..lab_crdt_model::limit::ADMIN_STATEMENTS_MAX as u64 {
        let at = end.map(|id| (n - 1, id));
        let (id, bytes) = forge(&w, &admin, at, root, n, nested(1));
        all.push(bytes);
        end = Some(id);
    }
    let at = end.map(|id| (all.len() as u64 - 1, id));
    log.restore_all(all);
    let beyond = |body| forge(&w, &admin, at, root, 1 << 40, body).1;

    let edit = beyond(set("on/all/params/x", 1));
    let max = lab_crdt_model::limit::ADMIN_STATEMENTS_MAX;
    assert_eq!(log.ingest(&edit, Mono(0)), Err(Refusal::Quota(max)));
    assert_eq!(log.check(&[edit], Wall(0)), Err(Refusal::Quota(max)));
    let revoke = beyond(revoke(author(&key(10)), None));
    assert!(log.check(std::slice::from_ref(&revoke), Wall(0)).is_ok());
    assert!(log.ingest(&revoke, Mono(0)).is_ok());
}
