use super::*;

const LOW: NodeId = NodeId([1; 32]);
const HIGH: NodeId = NodeId([2; 32]);

fn lanes() -> [LaneSender; 2] {
    [crate::lane::queue(100).0, crate::lane::queue(100).0]
}

fn start() -> Instant {
    crate::shared::now()
}

fn dialled(table: &mut Table, key: Key, now: Instant) -> Entered {
    let (serial, _) = table.begin_dial(key, 8).unwrap();
    table.enter_dialled(key, serial, lanes(), now).unwrap()
}

fn accepted(table: &mut Table, me: NodeId, key: Key, now: Instant) -> Option<Entered> {
    table.enter_accepted(me, key, None, lanes(), now)
}

#[test]
fn nobody_is_dialled_twice_at_once() {
    let (mut table, key) = (Table::default(), (HIGH, Channel::Mesh));

    let (serial, _) = table.begin_dial(key, 8).unwrap();
    assert!(table.begin_dial(key, 8).is_none());
    assert!(table.begin_dial((HIGH, Channel::Join), 8).is_some());
    assert!(table.end_dial(key, serial));
    assert!(!table.end_dial(key, serial));
    assert!(table.begin_dial(key, 8).is_some());
}

#[test]
fn dials_are_limited() {
    let mut table = Table::default();
    assert!(table.begin_dial((HIGH, Channel::Mesh), 1).is_some());
    assert!(table.begin_dial((LOW, Channel::Mesh), 1).is_none());
}

#[test]
fn the_lower_id_lets_the_peers_link_wait_for_its_own_dial() {
    let mut table = Table::default();
    table.begin_dial((HIGH, Channel::Mesh), 8).unwrap();
    table.begin_dial((LOW, Channel::Mesh), 8).unwrap();
    let between = NodeId({
        let mut id = [1; 32];
        id[31] = 9;
        id
    });

    assert!(table.must_wait(between, (HIGH, Channel::Mesh)));
    assert!(!table.must_wait(between, (LOW, Channel::Mesh)));
    assert!(!table.must_wait(between, (HIGH, Channel::Join)));
}

#[test]
fn a_young_link_of_the_lower_id_stands() {
    let (mut table, key, now) = (Table::default(), (HIGH, Channel::Mesh), start());
    let mut ours = dialled(&mut table, key, now);

    assert!(accepted(&mut table, LOW, key, now + YOUNG / 2).is_none());
    assert!(ours.close.try_recv().is_err());
}

#[test]
fn an_old_link_gives_way_to_a_peer_that_lost_it() {
    let (mut table, key, now) = (Table::default(), (HIGH, Channel::Mesh), start());
    let mut ours = dialled(&mut table, key, now);

    let theirs = accepted(&mut table, LOW, key, now + YOUNG).unwrap();

    assert_eq!(ours.close.try_recv().unwrap().reason, Reason::Duplicate);
    assert!(theirs.previous.is_some());
}

#[test]
fn the_higher_id_takes_the_peers_link_and_gives_up_its_dial() {
    let (mut table, key, now) = (Table::default(), (LOW, Channel::Mesh), start());
    let (serial, _cancel) = table.begin_dial(key, 8).unwrap();

    assert!(accepted(&mut table, HIGH, key, now).is_some());

    assert!(table.enter_dialled(key, serial, lanes(), now).is_none());
    assert_eq!(table.link_count(Channel::Mesh), 1);
}

#[test]
fn a_dial_that_gave_way_is_answered_when_the_other_link_never_comes_up() {
    let (mut table, key, now) = (Table::default(), (LOW, Channel::Mesh), start());
    table.begin_dial(key, 8).unwrap();
    let theirs = accepted(&mut table, HIGH, key, now).unwrap();
    assert!(table.give_up(key, theirs.serial));

    let theirs = accepted(&mut table, HIGH, key, now).unwrap();
    assert!(table.begin_dial(key, 8).is_none());
    assert!(table.give_up(key, theirs.serial));

    let theirs = accepted(&mut table, HIGH, key, now).unwrap();
    assert!(!table.give_up(key, theirs.serial));
    assert!(!table.is_up(key));
}

#[test]
fn a_peer_that_dials_again_replaces_its_own_link() {
    let (mut table, key, now) = (Table::default(), (HIGH, Channel::Mesh), start());
    let mut first = accepted(&mut table, LOW, key, now).unwrap();

    let second = accepted(&mut table, LOW, key, now).unwrap();

    assert_eq!(first.close.try_recv().unwrap().reason, Reason::Duplicate);
    table.end(key, first.serial);
    table.remove(key, first.serial);
    assert!(
        table.is_up(key),
        "the end of the old link leaves the new one alone"
    );
    table.end(key, second.serial);
    assert!(!table.is_up(key));
}

#[test]
fn a_link_that_ends_may_be_dialled_again_at_once() {
    let (mut table, key, now) = (Table::default(), (HIGH, Channel::Mesh), start());
    dialled(&mut table, key, now);
    assert!(table.begin_dial(key, 8).is_none());

    table
        .entry(key)
        .unwrap()
        .close(Reason::Done, Duration::ZERO);

    assert!(table.begin_dial(key, 8).is_some());
}

#[test]
fn strangers_are_counted_by_address() {
    let (mut table, now) = (Table::default(), start());
    let here: Option<IpAddr> = Some("10.0.0.1".parse().unwrap());
    let there: Option<IpAddr> = Some("10.0.0.2".parse().unwrap());
    for (n, address) in [here, here, there].into_iter().enumerate() {
        let key = (NodeId([n as u8 + 10; 32]), Channel::Join);
        table
            .enter_accepted(LOW, key, address, lanes(), now)
            .unwrap();
    }
    dialled(&mut table, (HIGH, Channel::Join), now);

    assert_eq!(table.stranger_counts(here), (3, 2));
}
