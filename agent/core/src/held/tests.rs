//! What is kept of others, and whom to ask.

use ed25519_dalek::SigningKey;
use lab_crdt_log::{Act, AuditBody, seal_audit};
use lab_crdt_model::Wall;

use super::*;

const MESH: MeshId = MeshId([1; 32]);

fn key() -> SigningKey {
    SigningKey::from_bytes(&[2; 32])
}

fn node() -> NodeId {
    NodeId(key().verifying_key().to_bytes())
}

/// So many records after a head, of a life with a number.
fn records(mut head: AuditHead, life: u64, count: usize) -> Vec<AuditRecord> {
    let body = AuditBody {
        caller: None,
        act: Act::Started {
            incarnation: life,
            version: "1".into(),
        },
    };
    let mut next = || {
        let record = seal_audit(&MESH, &key(), &head, Wall(1), &body);
        head = record.head();
        record
    };
    (0..count).map(|_| next()).collect()
}

fn bytes(records: &[AuditRecord]) -> Vec<Bytes> {
    records.iter().map(|r| r.bytes.clone()).collect()
}

fn take(held: &mut Held, records: &[AuditRecord], disk: &mut Batch) -> Taken {
    held.take(&MESH, &node(), &bytes(records), disk)
}

fn restored(disk: &Batch) -> Held {
    let mut rows = BTreeMap::new();
    for op in disk {
        match op {
            StoreOp::Put { key, value, .. } => drop(rows.insert(key.clone(), value.clone())),
            StoreOp::Delete { key, .. } => drop(rows.remove(key)),
        }
    }
    let mut held = Held::default();
    held.restore(rows.into_iter().collect());
    held
}

#[test]
fn records_are_kept_once_and_found_again_after_a_restart() {
    let (mut held, mut disk) = (Held::default(), Batch::new());
    let chain = records(AuditHead::default(), 1, 9);

    assert!(take(&mut held, &chain[..5], &mut disk).is_progress);
    assert!(take(&mut held, &chain[3..], &mut disk).is_progress);
    assert!(!take(&mut held, &chain, &mut disk).is_progress);

    assert_eq!(disk.len(), 9);
    let again = restored(&disk);
    assert_eq!(again.head(&node()), chain[8].head());
    assert_eq!(again.records(None).0, bytes(&chain));
    assert!(!again.is_behind(&node(), &chain[4].head()));
    let (rest, is_last) = again.after(&node(), 6, 1 << 20);
    assert_eq!((rest, is_last), (bytes(&chain[6..]), true));
}

#[test]
fn what_the_node_has_not_signed_is_not_kept() {
    let (mut held, mut disk) = (Held::default(), Batch::new());
    let chain = records(AuditHead::default(), 1, 3);
    let mut forged = bytes(&chain);
    let mut one = forged[1].to_vec();
    one[90] ^= 1;
    forged[1] = one.into();
    held.take(&MESH, &node(), &forged, &mut disk);
    held.take(&MESH, &NodeId([9; 32]), &bytes(&chain), &mut disk);
    held.take(&MeshId([9; 32]), &node(), &bytes(&chain), &mut disk);
    assert_eq!(disk.len(), 1);
}

#[test]
fn a_chain_that_was_written_anew_is_kept_beside_the_old_one_and_told_of() {
    let (mut held, mut disk) = (Held::default(), Batch::new());
    let chain = records(AuditHead::default(), 1, 6);
    let anew = records(chain[2].head(), 2, 5);
    take(&mut held, &chain, &mut disk);
    assert!(held.is_behind(&node(), &anew[0].head()));
    assert_eq!(held.begin(&node(), Some(&anew[0].head())), 3);

    let taken = take(&mut held, &anew, &mut disk);

    assert_eq!(taken.contradiction, Some((chain[3].head(), anew[0].head())));
    let again = restored(&disk);
    let (kept, evidence) = again.records(Some(node()));
    assert_eq!(kept[..6], bytes(&chain));
    assert_eq!(kept[6..], bytes(&anew[3..]));
    assert_eq!(evidence, bytes(&anew[..3]));
    assert_eq!(again.contradictions().collect::<Vec<_>>(), [(&node(), 4)]);
    assert!(take(&mut held, &anew, &mut disk).contradiction.is_none());
}

#[test]
fn proof_is_bounded_however_often_a_chain_is_written_anew() {
    let (mut held, mut disk) = (Held::default(), Batch::new());
    let chain = records(AuditHead::default(), 0, 3);
    take(&mut held, &chain, &mut disk);
    for life in 1..100 {
        take(
            &mut held,
            &records(AuditHead::default(), life, 2),
            &mut disk,
        );
    }
    assert_eq!(disk.len(), 3 + AUDIT_EVIDENCE_MAX);
    let other = records(AuditHead::default(), 1_000, 2);
    assert!(!held.is_behind(&node(), &other[1].head()));
}

#[test]
fn at_most_four_are_asked_at_once_and_nobody_again_so_soon() {
    let mut held = Held::default();
    let nodes: Vec<NodeId> = (0..9).map(|n| NodeId([n; 32])).collect();
    let due = held.due(&nodes, Mono(0));
    assert_eq!(due.len(), TALKS_MAX);
    for (node, _) in due {
        assert!(held.begin_talk(node, node, Mono(0)));
    }
    assert!(held.due(&nodes, Mono(0)).is_empty());
    assert_eq!(held.stuck(Mono(0).plus_ms(TALK_MS)).len(), TALKS_MAX);

    held.end_talk(&nodes[0], true, Mono(0));
    held.end_talk(&nodes[1], false, Mono(0));

    assert_eq!(held.due(&nodes[..2], Mono(0)), []);
    assert_eq!(held.look_at, Some(Mono(0).plus_ms(AGAIN_MS)));
    let later = held.due(&nodes[..2], Mono(0).plus_ms(FAILED_MS));
    assert_eq!(later, [(nodes[0], 0), (nodes[1], 1)]);
    for n in 0..9u8 {
        assert_eq!(held.may_ask(NodeId([n; 32])), usize::from(n) < TALKS_MAX);
    }
}

#[test]
fn a_member_that_signs_the_last_number_of_all_harms_nobody() {
    let (mut held, mut disk) = (Held::default(), Batch::new());
    let end = AuditHead {
        seq: u64::MAX - 1,
        hash: [1; 32],
    };
    take(&mut held, &records(end, 1, 1), &mut disk);
    take(&mut held, &records(AuditHead::default(), 2, 3), &mut disk);
    assert_eq!(held.head(&node()).seq, u64::MAX);
    assert_eq!(held.len(), 4);
}
