//! Records, and the faults of chains.

use lab_crdt_model::view::MemberState;
use lab_crdt_model::{AuthorId, Caller, StatementId};
use proptest::prelude::*;

use super::*;
use crate::body::Kind;

const MESH: MeshId = MeshId([1; 32]);

fn key() -> SigningKey {
    SigningKey::from_bytes(&[2; 32])
}

fn node() -> NodeId {
    NodeId(key().verifying_key().to_bytes())
}

fn said(act: Act) -> AuditBody {
    AuditBody {
        caller: Some(Caller::Local { uid: 1000 }),
        act,
    }
}

/// The records after `head` that say these.
fn after(mut head: AuditHead, acts: impl IntoIterator<Item = Act>) -> Vec<Bytes> {
    let mut out = Vec::new();
    for act in acts {
        let record = seal_audit(&MESH, &key(), &head, Wall(7_000 + head.seq), &said(act));
        head = record.head();
        out.push(record.bytes);
    }
    out
}

fn starts(count: u64) -> Vec<Act> {
    let start = |incarnation| Act::Started {
        incarnation,
        version: "0.1.0".into(),
    };
    (0..count).map(start).collect()
}

fn chain(count: u64) -> Vec<Bytes> {
    after(AuditHead::default(), starts(count))
}

fn head(bytes: &Bytes) -> AuditHead {
    AuditRecord::parse(bytes).unwrap().head()
}

fn check(records: &[Bytes], witnessed: &[AuditHead]) -> Result<Run, Fault> {
    verify(&MESH, &node(), records, &[], witnessed)
}

#[test]
fn a_record_reads_back_and_any_changed_or_missing_byte_is_refused() {
    let act = Act::handed_in(AuthorId([3; 32]), &[(StatementId([4; 32]), Kind::EDIT)]);
    let record = seal_audit(
        &MESH,
        &key(),
        &AuditHead::default(),
        Wall(5),
        &said(act.clone()),
    );

    assert_eq!(AuditRecord::open(&MESH, &record.bytes), Ok(record.clone()));
    assert_eq!((record.seq, record.at), (1, Wall(5)));
    assert_eq!(record.body(), Some(said(act)));
    assert!(AuditRecord::open(&MeshId([9; 32]), &record.bytes).is_err());
    for at in 0..record.bytes.len() {
        let mut damaged = record.bytes.to_vec();
        damaged[at] ^= 1;
        assert!(AuditRecord::open(&MESH, &damaged.into()).is_err(), "{at}");
        assert!(AuditRecord::open(&MESH, &record.bytes.slice(..at)).is_err());
    }
}

#[test]
fn the_longest_words_fit_into_a_record() {
    let long = || "ü".repeat(40_000);
    let many: Vec<_> = (0..5_000u32)
        .map(|n| (StatementId([n as u8; 32]), Kind(n as u8)))
        .collect();
    let acts = [
        Act::Started {
            incarnation: u64::MAX,
            version: long(),
        },
        Act::handed_in(AuthorId([3; 32]), &many),
        Act::Refused {
            author: Some(AuthorId([1; 32])),
            id: Some(StatementId([1; 32])),
            code: long(),
            why: long(),
        },
        Act::JoinRefused {
            node: node(),
            code: u16::MAX,
            why: long(),
        },
        Act::MemberChanged {
            node: node(),
            name: long(),
            state: MemberState::Revoked,
        },
        Act::Configured {
            hash: [1; 32],
            changed_count: u32::MAX,
            failed_count: u32::MAX,
            files: vec![long(); 100],
        },
    ];
    for act in acts {
        let body = AuditBody {
            caller: Some(Caller::Device(AuthorId([7; 32]))),
            act,
        };
        let head = AuditHead {
            seq: u64::MAX - 1,
            hash: [1; 32],
        };
        let record = seal_audit(&MESH, &key(), &head, Wall(u64::MAX), &body);
        assert!(record.bytes.len() <= AUDIT_RECORD_BYTES_MAX);
        assert!(
            AuditRecord::open(&MESH, &record.bytes)
                .unwrap()
                .body()
                .is_some()
        );
    }
}

#[test]
fn a_record_of_a_later_version_keeps_its_place_in_the_chain() {
    let mut body = said(starts(1).remove(0)).encode();
    // The place of the variant, after the caller.
    let at = body.len() - 1 - "0.1.0".len() - 2;
    body[at] = 99;
    assert_eq!(AuditBody::decode(&body), None);
}

#[test]
fn the_first_gap_is_told_in_words() {
    let all = chain(9);
    assert_eq!(check(&[], &[]).unwrap().end, AuditHead::default());
    assert_eq!(check(&all, &[head(&all[5])]).unwrap().end.seq, 9);
    let told = |fault: Result<Run, Fault>| fault.unwrap_err().to_string();
    let holed = [&all[..3], &all[5..]].concat();
    assert_eq!(told(check(&holed, &[])), "records 4 to 5 are missing");
    assert_eq!(told(check(&all[1..], &[])), "record 1 is missing");
    assert_eq!(
        told(check(&all[..7], &[head(&all[8])])),
        "records 8 to 9 are missing: the node told others of record 9"
    );
}

#[test]
fn a_chain_may_begin_where_it_says_that_it_was_trimmed() {
    let all = chain(5);
    let trimmed = Act::Trimmed { end: head(&all[2]) };
    let rest = [&all[3..], &after(head(&all[4]), [trimmed])].concat();

    assert_eq!(check(&rest, &[head(&all[1])]).unwrap().start, head(&all[2]));
    assert!(check(&rest[1..], &[]).is_err());
    let other = verify(&MESH, &node(), &all[3..], &[head(&all[2])], &[]);
    assert_eq!(other.unwrap().start.seq, 3);
}

#[test]
fn what_a_store_lost_is_a_gap_that_the_node_tells_of() {
    let all = chain(6);
    let lost = Act::Lost {
        from: 4,
        through: 6,
    };
    let rest = [&all[..3], &after(head(&all[5]), [lost])].concat();

    let told = Fault::Gap {
        from: 4,
        through: 6,
        is_told: true,
    };
    assert_eq!(check(&rest, &[head(&all[5])]), Err(told));
    // Who holds the lost records has the whole chain.
    assert!(check(&[&all[..], &rest[3..]].concat(), &[]).is_ok());
}

#[test]
fn a_chain_that_was_written_anew_is_found_by_who_saw_the_old_one() {
    let all = chain(6);
    let other = Act::Alarm(Alarm::Diverged { peer: node() });
    let anew = [&all[..3], &after(head(&all[2]), vec![other; 4])].concat();

    assert!(check(&anew, &[head(&all[2])]).is_ok());
    assert_eq!(
        check(&anew, &[head(&all[5])]),
        Err(Fault::Rewritten { seq: 6 })
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_removed_changed_swapped_or_doubled_record_is_found(
        count in 2..12u64, at in 0..12usize, other in 0..12usize, byte in 0..1024usize, bit in 0..8u8,
    ) {
        let all = chain(count);
        let (at, other) = (at % all.len(), other % all.len());
        let witnessed = [head(&all[all.len() - 1])];
        prop_assert!(check(&all, &witnessed).is_ok());

        let mut removed = all.clone();
        removed.remove(at);
        prop_assert!(check(&removed, &witnessed).is_err());

        let mut changed = all.clone();
        let mut bytes = changed[at].to_vec();
        let place = byte % bytes.len();
        bytes[place] ^= 1 << bit;
        changed[at] = bytes.into();
        prop_assert!(check(&changed, &witnessed).is_err());

        let mut swapped = all.clone();
        swapped.swap(at, other);
        prop_assert_eq!(check(&swapped, &witnessed).is_err(), at != other);

        let mut doubled = all.clone();
        doubled.insert(other, all[at].clone());
        prop_assert!(check(&doubled, &witnessed).is_err());

        let mut signed_again = all.clone();
        signed_again[at] = after(
            if at == 0 { AuditHead::default() } else { head(&all[at - 1]) },
            [Act::Alarm(Alarm::Diverged { peer: node() })],
        ).remove(0);
        prop_assert!(check(&signed_again, &witnessed).is_err());
    }

    #[test]
    fn no_bytes_make_the_reader_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..1100), fix in any::<bool>()) {
        if fix && bytes.len() > 149 {
            let length = (bytes.len() - 149) as u32;
            bytes[0] = 1;
            bytes[81..85].copy_from_slice(&length.to_be_bytes());
        }
        let bytes = Bytes::from(bytes);
        let _ignored = AuditRecord::open(&MESH, &bytes);
        if let Ok(record) = AuditRecord::parse(&bytes) {
            let _ignored = record.body();
        }
        let _ignored = verify(&MESH, &node(), &[bytes], &[], &[]);
    }
}
