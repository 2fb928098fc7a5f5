//! What the next edit builds on.

use std::collections::BTreeMap;

use super::*;

/// Edits that are in the past of some statements, those included.
fn past(log: &Log, of: &[StatementId]) -> BTreeSet<StatementId> {
    let (mut seen, mut left) = (BTreeSet::new(), of.to_vec());
    while let Some(id) = left.pop() {
        if seen.insert(id) {
            left.extend(log.state().edits().parents(&id));
        }
    }
    seen
}

#[test]
fn an_edit_does_not_build_on_what_a_crowd_says_but_on_what_the_crowd_had_seen() {
    let mut w = World::with_admins(admins(4));
    let mut log = w.replica();
    let root = w.under_root();
    let mut say = |n: u8| w.say(&mut log, &key(n), root, set("on/all/params/x", 1));
    let before = say(2);
    let seen = say(3);
    let crowd: Vec<StatementId> = (0..100).map(|_| say(2)).collect();

    assert_eq!(log.tail(&author(&key(4))).refs, [crowd[99]]);
    let fresh = BTreeMap::from([(author(&key(2)), 1)]);
    let tail = log.tail_without(&author(&key(4)), &fresh);
    let refs: BTreeSet<StatementId> = tail.refs.into_iter().collect();
    assert_eq!(refs, [before, seen].into());
    // Who said so much builds on it.
    assert_eq!(log.tail_without(&author(&key(2)), &fresh).prev, crowd[99]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is left out of one author, all that the others said is in the past of the next edit.
    #[test]
    fn nothing_but_a_crowd_is_left_out(
        steps in proptest::collection::vec((1u8..=4, any::<bool>()), 1..40),
        from in 0u64..12,
        who in 2u8..=4,
    ) {
        let mut w = World::with_admins(admins(4));
        let mut logs = [w.replica(), w.replica()];
        let root = w.under_root();
        for (n, is_copied) in steps {
            // Each of them edits at one place only.
            w.say(&mut logs[usize::from(n % 2)], &key(n), root, set("on/all/params/x", 1));
            if is_copied {
                let [a, b] = &mut logs;
                copy(a, b);
                copy(b, a);
            }
        }
        let log = &logs[1];
        let me = author(&key(1));
        let fresh = BTreeMap::from([(author(&key(who)), from)]);
        let tail = log.tail_without(&me, &fresh);
        prop_assert!(tail.refs.len() <= 4);
        let mut heads = tail.refs.clone();
        heads.extend((tail.seq > 0).then_some(tail.prev));
        let built_on = past(log, &heads);
        let frontier: Vec<StatementId> = log.state().edits().frontier().iter().copied().collect();
        for id in past(log, &frontier) {
            let s = log.state().stored(&id).unwrap();
            let is_fresh = fresh.get(&s.author).is_some_and(|from| s.seq >= *from);
            prop_assert!(is_fresh || built_on.contains(&id));
        }
        prop_assert_eq!(log.tail_without(&me, &BTreeMap::new()), log.tail(&me));
    }
}
