//! What a failing or forgetful store may do to the chain.

use lab_crdt_log::audit::{Fault, verify};

use super::*;

const MESH: MeshId = MeshId([1; 32]);

fn key() -> SigningKey {
    SigningKey::from_bytes(&[2; 32])
}

fn me() -> NodeId {
    NodeId(key().verifying_key().to_bytes())
}

const fn at(ms: u64) -> Now {
    Now {
        mono: Mono(ms * 1_000_000),
        wall: Wall(1_000 + ms),
    }
}

fn start(incarnation: u64) -> Act {
    Act::Started {
        incarnation,
        version: "1".into(),
    }
}

/// What a store holds after batches.
#[derive(Default)]
struct Disk(BTreeMap<Vec<u8>, Vec<u8>>);

impl Disk {
    fn write(&mut self, batch: Batch) {
        for op in batch {
            match op {
                StoreOp::Put { key, value, .. } => drop(self.0.insert(key, value)),
                StoreOp::Delete { key, .. } => drop(self.0.remove(&key)),
            }
        }
    }

    fn records(&self) -> Vec<Bytes> {
        self.0.values().map(|v| v.clone().into()).collect()
    }

    fn audit(&self) -> Audit {
        Audit::restore(&me(), self.records())
    }

    fn fault(&self, witnessed: &[AuditHead]) -> Option<Fault> {
        verify(&MESH, &me(), &self.records(), &[], witnessed).err()
    }
}

fn seal(audit: &mut Audit, now: Now) -> (Batch, Option<AuditHead>) {
    let mut batch = Batch::new();
    let head = audit.seal(&MESH, &key(), &mut batch, now);
    (batch, head)
}

/// Records something and makes it durable.
fn record(audit: &mut Audit, disk: &mut Disk, act: Act) {
    audit.note(None, act, at(0));
    let (batch, head) = seal(audit, at(0));
    disk.write(batch);
    audit.stored(head.unwrap());
}

#[test]
fn whichever_batches_a_failing_store_takes_there_is_no_gap() {
    for taken in 0..8u32 {
        let (mut audit, mut disk) = (Audit::default(), Disk::default());
        for n in 0..3 {
            audit.note(None, start(n), at(0));
            let (batch, head) = seal(&mut audit, at(0));
            if taken & (1 << n) != 0 {
                disk.write(batch);
                audit.stored(head.unwrap());
            }
        }
        assert_eq!(disk.fault(&[audit.durable()]), None, "{taken:b}");
    }
}

#[test]
fn the_record_of_a_change_that_the_store_refused_is_taken_back() {
    let (mut audit, mut disk) = (Audit::default(), Disk::default());
    record(&mut audit, &mut disk, start(1));
    let body = AuditBody {
        caller: Some(Caller::Local { uid: 7 }),
        act: start(99),
    };
    let mut refused = Batch::new();
    audit.seal_hand_in(&MESH, &key(), vec![body], &mut refused, at(1));
    audit.note(None, start(2), at(1));
    assert_eq!(seal(&mut audit, at(1)).1, None);

    audit.handed_in(false);
    // A write that failed may be there all the same, until the next one.
    let mut lucky = Disk(disk.0.clone());
    lucky.write(refused);
    assert_eq!(lucky.fault(&[audit.durable()]), None);

    let (batch, _) = seal(&mut audit, at(2));
    for disk in [&mut disk, &mut lucky] {
        disk.write(batch.clone());
        assert_eq!(disk.fault(&[audit.durable()]), None);
        assert_eq!(disk.records().len(), 2);
    }
}

#[test]
fn a_chain_goes_on_after_a_restart_from_what_is_durable() {
    let (mut audit, mut disk) = (Audit::default(), Disk::default());
    record(&mut audit, &mut disk, start(1));
    audit.note(None, start(2), at(0));
    let _lost = seal(&mut audit, at(0));

    let mut again = disk.audit();
    assert_eq!(again.durable().seq, 1);
    record(&mut again, &mut disk, start(3));

    assert_eq!(disk.fault(&[again.durable()]), None);
}

#[test]
fn a_store_that_lost_the_middle_or_the_end_says_so_once() {
    let (mut audit, mut disk) = (Audit::default(), Disk::default());
    for n in 1..=6 {
        record(&mut audit, &mut disk, start(n));
    }
    let told = audit.durable();
    for seq in [2, 6] {
        disk.0.remove(&audit_key(&me(), seq));
    }

    let mut again = disk.audit();
    again.saw_own(&me(), told, at(0));
    record(&mut again, &mut disk, start(7));

    let said: Vec<Act> = (disk.records().iter())
        .filter_map(|bytes| Some(AuditRecord::parse(bytes).unwrap().body()?.act))
        .filter(|act| matches!(act, Act::Lost { .. }))
        .collect();
    let lost = |from, through| Act::Lost { from, through };
    assert_eq!(said, [lost(6, 6), lost(2, 2)]);
    assert_eq!(again.durable().seq, 9);
    let mut third = disk.audit();
    third.saw_own(&me(), told, at(0));
    assert_eq!(seal(&mut third, at(0)).1, None);
    assert!(matches!(
        disk.fault(&[]),
        Some(Fault::Gap { is_told: true, .. })
    ));
}

#[test]
fn a_chain_that_went_on_without_its_lost_end_says_so() {
    let (mut audit, mut disk) = (Audit::default(), Disk::default());
    record(&mut audit, &mut disk, start(1));
    let mut old = Disk(disk.0.clone());
    record(&mut audit, &mut disk, start(2));
    let mut again = old.audit();
    record(&mut again, &mut old, start(3));

    again.saw_own(&me(), audit.durable(), at(0));
    again.saw_own(&me(), audit.durable(), at(0));

    assert_eq!(again.went_back(at(0).wall).count(), 1);
    assert_eq!(seal(&mut again, at(0)).1.unwrap().seq, 3);
}

#[test]
fn what_others_cause_is_recorded_ten_times_a_minute_and_counted() {
    let (mut audit, mut disk) = (Audit::default(), Disk::default());
    let refused = || Act::JoinRefused {
        node: me(),
        code: 403,
        why: String::new(),
    };
    for _ in 0..5_000 {
        audit.note_some(None, refused(), at(120_000));
    }
    disk.write(seal(&mut audit, at(120_000)).0);
    assert_eq!(disk.records().len(), 10);
    assert_eq!(audit.deadline(), Some(at(180_000).mono));

    disk.write(seal(&mut audit, at(180_000)).0);

    let last = AuditRecord::parse(disk.records().last().unwrap()).unwrap();
    let kind = refused().kind();
    let act = Act::LeftOut { kind, count: 4_990 };
    assert_eq!(last.body().unwrap().act, act);
    assert_eq!(audit.deadline(), None);
}

#[test]
fn the_oldest_records_are_trimmed_with_a_record_of_it() {
    let (mut audit, mut disk) = (Audit::default(), Disk::default());
    let first = seal_audit(
        &MESH,
        &key(),
        &AuditHead::default(),
        Wall(1),
        &AuditBody {
            caller: None,
            act: start(1),
        },
    );
    record(&mut audit, &mut disk, start(1));
    // As if there were as many as there may be: signing them all would take long.
    audit.bytes = AUDIT_BYTES_MAX;
    for n in 2..=16 {
        audit.bytes = audit.bytes.min(AUDIT_BYTES_MAX - 10_000);
        record(&mut audit, &mut disk, start(n));
    }
    audit.bytes = AUDIT_BYTES_MAX;
    record(&mut audit, &mut disk, start(17));

    assert_eq!(disk.fault(&[audit.durable(), first.head()]), None);
    assert_eq!(disk.records().len(), 16);
    assert_eq!(disk.audit().head, audit.durable());
    assert!(!disk.audit().is_due());
}

#[test]
fn a_copied_key_that_tells_of_the_last_number_does_not_end_the_chain() {
    let (mut audit, mut disk) = (Audit::default(), Disk::default());
    record(&mut audit, &mut disk, start(1));
    let told = AuditHead {
        seq: u64::MAX,
        hash: [1; 32],
    };
    audit.saw_own(&me(), told, at(0));
    record(&mut audit, &mut disk, start(2));
    assert_eq!(audit.durable().seq, 2);
    assert_eq!(disk.fault(&[]), None);
}
