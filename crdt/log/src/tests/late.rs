//! What comes only after its grant has ended.

use lab_crdt_model::limit::LATE_MS;

use super::*;

/// When the grants of these stories end.
const END: u64 = 1_000_000;
/// When what comes is late.
const AFTER: u64 = END + LATE_MS;

/// An admin, a person with a grant that ends, and nodes that may vouch.
struct Story {
    w: World,
    /// Who was there all the time.
    witness: Log,
    person: SigningKey,
    grant: StatementId,
    nodes: Vec<(SigningKey, StatementId)>,
}

impl Story {
    fn new(nodes: u8) -> Self {
        let mut w = World::new();
        let mut witness = w.replica();
        let admitted = (0..nodes).map(|n| {
            let node = key(50 + n);
            let admit = Admit {
                node: author(&node).node(),
                seal_key: [n; 32],
                name: format!("n{n}"),
                role: Role::Node,
                labels: vec![],
            };
            let id = w.admin_says(&mut witness, Body::Admit(admit));
            (node, id)
        });
        let nodes = admitted.collect();
        let person = key(2);
        let grant = Grant {
            subject: author(&person),
            name: "bob".into(),
            rights: Rights::ALL,
            scope: vec![String::new()],
            not_after: Some(Wall(END)),
        };
        let grant = w.admin_says(&mut witness, Body::Grant(grant));
        Self {
            w,
            witness,
            person,
            grant,
            nodes,
        }
    }

    /// An edit that the person stamps within the grant, on top of what a replica holds.
    fn edit(&mut self, log: &Log, path: &str) -> Bytes {
        self.w
            .draft(log, &self.person.clone(), self.grant, set(path, 1))
    }

    /// What a node says when it is asked at the end of the grant.
    fn vouch(&mut self, log: &mut Log, node: usize) -> Option<Bytes> {
        let (key, join) = self.nodes[node].clone();
        let me = author(&key).node();
        let heads = log.to_vouch(&self.grant, &me).unwrap()?;
        Some(self.vouch_for(log, node, join, heads).unwrap())
    }

    fn vouch_for(
        &self,
        log: &Log,
        node: usize,
        under: StatementId,
        heads: Vec<StatementId>,
    ) -> Result<Bytes, EnvelopeError> {
        let (key, _) = &self.nodes[node];
        let tail = log.tail(&author(key));
        let vouch = Vouch {
            grant: self.grant,
            heads: heads.clone(),
            at: Wall(AFTER),
        };
        let draft = Draft {
            seq: tail.seq,
            prev: tail.prev,
            under,
            hlc: tail.hlc.next(Wall(AFTER)),
            refs: heads,
            body: Body::Vouch(vouch),
        };
        seal(&self.w.root.mesh(), key, &draft)
    }

    /// A replica that hears everything only now.
    fn newcomer(&self, from: &Log, now: u64) -> Log {
        let mut log = self.w.replica();
        log.set_clock(Wall(now));
        hear(&mut log, from);
        log
    }
}

fn hear(log: &mut Log, from: &Log) {
    for _ in 0..3 {
        for id in from.newest().rev() {
            let _known = log.ingest(&from.envelope(&id).unwrap(), Mono(0));
        }
    }
}

fn take(log: &mut Log, bytes: &Bytes) -> StatementId {
    match log.ingest(bytes, Mono(0)).unwrap() {
        Outcome::Stored { ids } => ids[0],
        other => panic!("{other:?}"),
    }
}

fn counting(log: &mut Log) -> usize {
    log.effective_edits().len()
}

#[test]
fn what_comes_after_its_grant_has_ended_waits_for_a_seal() {
    let mut s = Story::new(1);
    let mut witness = s.witness.clone();
    let (first, _) = (s.edit(&witness, "a/x"), witness.set_clock(Wall(END - 1)));
    let first = take(&mut witness, &first);
    // The end of the grant is no secret, and a stamp is its author's word.
    witness.set_clock(Wall(AFTER));
    let backdated = s.edit(&witness, "a/y");
    let backdated = take(&mut witness, &backdated);
    assert_eq!(counting(&mut witness), 1);
    assert!(witness.why_not(&backdated).unwrap().contains("ended"));
    assert_eq!(witness.why_not(&first), None);
    assert_eq!(witness.take_late_marks(), [backdated]);
    assert_eq!(witness.take_late_marks(), []);
    assert_eq!(
        witness.waiting_for_seal().into_values().collect::<Vec<_>>(),
        [vec![backdated]]
    );
    assert_eq!(witness.ends_of(&s.grant), Some((backdated, Some(first))));

    for (head, counts) in [(Some(backdated), 2), (Some(first), 1), (None, 0)] {
        let (mut here, mut away) = (witness.clone(), s.newcomer(&witness, AFTER));
        let grant = s.grant;
        let seal = Body::RevokeGrant(RevokeGrant { grant, head });
        s.w.admin_says(&mut here, seal);
        hear(&mut away, &here);
        assert_eq!((counting(&mut here), counting(&mut away)), (counts, counts));
        assert!(here.waiting_for_seal().is_empty());
    }
}

#[test]
fn within_five_minutes_of_its_end_a_grant_still_counts_what_arrives() {
    let mut s = Story::new(1);
    let mut log = s.witness.clone();
    log.set_clock(Wall(AFTER - 1));
    let edit = s.edit(&log, "a/x");
    take(&mut log, &edit);
    assert_eq!(counting(&mut log), 1);
}

#[test]
fn machines_that_were_away_believe_half_of_those_who_are_asked() {
    for (nodes, need) in [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3)] {
        let mut s = Story::new(nodes);
        let mut log = s.witness.clone();
        log.set_clock(Wall(END - 1));
        let edit = s.edit(&log, "a/x");
        take(&mut log, &edit);
        log.set_clock(Wall(AFTER));
        let mut away = s.newcomer(&log, AFTER);
        for n in 0..usize::from(nodes) {
            let counts = usize::from(n >= need);
            assert_eq!(counting(&mut away), counts, "{n} of {nodes} have vouched");
            let vouch = s.vouch(&mut log, n).expect("something to say");
            take(&mut log, &vouch);
            assert_eq!(s.vouch(&mut log, n), None, "it was said");
            hear(&mut away, &log);
        }
        assert_eq!(counting(&mut away), 1);
    }
}

#[test]
fn a_thief_with_a_node_of_the_mesh_cannot_backdate() {
    let mut s = Story::new(3);
    let mut thief = s.witness.clone();
    let mut honest = s.witness.clone();
    honest.set_clock(Wall(AFTER));
    // On the thief's own replica the clock stands still.
    let edit = s.edit(&thief, "a/x");
    take(&mut thief, &edit);
    for _again in 0..2 {
        let (heads, join) = (vec![thief.ends_of(&s.grant).unwrap().0], s.nodes[0].1);
        let vouch = s.vouch_for(&thief, 0, join, heads).unwrap();
        take(&mut thief, &vouch);
        hear(&mut honest, &thief);
        let mut away = s.newcomer(&thief, AFTER);
        assert_eq!((counting(&mut honest), counting(&mut away)), (0, 0));
    }
    assert_eq!(s.vouch(&mut honest, 1), None, "it had heard nothing");
    let nothing = s.vouch_for(&honest, 1, s.nodes[1].1, vec![]);
    assert_eq!(nothing, Err(EnvelopeError::EmptyVouch));
}

#[test]
fn a_vouch_covers_nothing_that_came_late_to_the_one_who_vouches() {
    let mut s = Story::new(1);
    let mut log = s.witness.clone();
    let edit = s.edit(&log, "a/x");
    let first = take(&mut log, &edit);
    log.set_clock(Wall(AFTER));
    let edit = s.edit(&log, "a/y");
    take(&mut log, &edit);
    // A second grant goes on: what was said under it does not bring in what lies before.
    let grant = Grant {
        subject: author(&s.person),
        name: "bob".into(),
        rights: Rights::ALL,
        scope: vec![String::new()],
        not_after: Some(Wall(2 * END)),
    };
    let again = s.w.admin_says(&mut log, Body::Grant(grant));
    let edit = s.w.draft(&log, &s.person.clone(), again, set("a/z", 1));
    take(&mut log, &edit);
    assert_eq!(counting(&mut log), 2);
    let me = author(&s.nodes[0].0).node();
    assert_eq!(log.to_vouch(&s.grant, &me), Ok(Some(vec![first])));
}

#[test]
fn only_a_few_that_were_members_in_time_vouch() {
    let mut s = Story::new(9);
    let mut log = s.witness.clone();
    let edit = s.edit(&log, "a/x");
    take(&mut log, &edit);
    let asked = (0..9).filter(|n| {
        let me = author(&s.nodes[*n].0).node();
        log.to_vouch(&s.grant, &me).is_ok()
    });
    assert_eq!(asked.count(), 5);
    // A node that came later, by its admission, is not among them, whatever its key.
    let late = key(90);
    let admit = Admit {
        node: author(&late).node(),
        seal_key: [1; 32],
        name: "late".into(),
        role: Role::Node,
        labels: vec![],
    };
    s.w.clock = END + 1;
    s.w.admin_says(&mut log, Body::Admit(admit));
    let me = author(&late).node();
    assert_eq!(log.to_vouch(&s.grant, &me), Err(NotAsked));
}

#[test]
fn a_grant_that_arrives_after_its_own_end_makes_what_was_said_under_it_late() {
    let mut s = Story::new(1);
    let mut up = s.witness.clone();
    let edit = s.edit(&up, "a/x");
    take(&mut up, &edit);
    let mut ids: Vec<StatementId> = up.newest().collect();
    ids.sort_unstable();
    for turn in 0..ids.len() {
        ids.rotate_left(turn);
        let mut away = s.w.replica();
        away.set_clock(Wall(AFTER));
        for id in ids.iter().cycle().take(5 * ids.len()) {
            let _known = away.ingest(&up.envelope(id).unwrap(), Mono(0));
            away.authority();
        }
        assert_eq!(counting(&mut away), 0);
        assert_eq!(away.take_late_marks().len(), 1);
    }
}

#[test]
fn a_restarted_replica_remembers_what_came_late_and_judges_nothing_anew() {
    let mut s = Story::new(1);
    let mut log = s.witness.clone();
    let edit = s.edit(&log, "a/x");
    take(&mut log, &edit);
    log.set_clock(Wall(AFTER));
    let edit = s.edit(&log, "a/y");
    take(&mut log, &edit);
    let marks = log.take_late_marks();
    let mut again = s.w.replica();
    again.set_clock(Wall(AFTER));
    again.restore_all(log.newest().map(|id| log.envelope(&id).unwrap()));
    again.restore_late(marks);
    assert_eq!((counting(&mut again), again.late().count()), (1, 1));
    assert_eq!(again.take_late_marks(), []);
}
