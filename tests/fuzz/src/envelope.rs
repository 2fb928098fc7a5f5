//! Statements and registers, from anyone, from the store and from an operator who signs nonsense.

use bytes::Bytes;
use lab_crdt_log::{Body, Kind, Log, Outcome, Register, Registers, open};
use lab_crdt_model::fact::FACT_KEYS;
use lab_crdt_model::report::Facts;
use lab_crdt_model::{Mono, Wall};

use crate::World;

/// Envelopes and registers. The first byte says which of these to try; the rest is the bytes.
pub fn envelope(data: &[u8]) {
    let Some((&way, rest)) = data.split_first() else {
        return;
    };
    let world = World::get();
    let bytes = Bytes::copy_from_slice(rest);
    match way % 4 {
        0 => heard(&mut world.replica(usize::MAX), &bytes),
        1 => restored(&mut world.replica(usize::MAX), &bytes),
        2 => {
            let Some((&who, rest)) = rest.split_first() else {
                return;
            };
            // Kind, then what follows the author: 80 bytes, the number of references, the references.
            let refs = rest.get(81).map_or(0, |n| usize::from(*n).min(16));
            let (header, body) = rest.split_at(rest.len().min(82 + 32 * refs));
            let signed = world.sign_anything([1, 10, 50, 60][usize::from(who % 4)], header, body);
            heard(&mut world.replica(usize::MAX), &signed);
            decoded(header.first().copied().unwrap_or(1), body);
        }
        _ => reported(&bytes),
    }
}

/// Whatever came in, the replica stays one that can be asked.
fn heard(log: &mut Log, bytes: &Bytes) {
    let (before, count) = (log.digest(), log.len());
    let checked = log.check(std::slice::from_ref(bytes), Wall(0)).is_ok();
    assert_eq!(log.digest(), before, "a check changes nothing");
    let outcome = log.ingest(bytes, Mono(0));
    match &outcome {
        Ok(Outcome::Stored { ids }) => {
            assert!(!ids.is_empty());
            assert!(ids.iter().all(|id| log.contains(id)));
        }
        Ok(Outcome::Known(_) | Outcome::Waiting { .. }) | Err(_) => {
            assert_eq!(
                (log.digest(), log.len()),
                (before, count),
                "what was not stored changes nothing"
            );
        }
    }
    if checked {
        assert!(
            outcome.is_ok(),
            "what the check lets through is taken in: {outcome:?}"
        );
    }
    asked(log);
    if let Ok(statement) = open(&log.mesh(), bytes) {
        assert_eq!(statement.bytes, bytes);
    }
}

fn restored(log: &mut Log, bytes: &Bytes) {
    let _outcome = log.restore(bytes);
    asked(log);
}

fn asked(log: &mut Log) {
    log.authority();
    let mut appended = match log.take_edits() {
        lab_crdt_log::Edits::Unchanged => Vec::new(),
        lab_crdt_log::Edits::Append(edits) | lab_crdt_log::Edits::Rebuild(edits) => edits,
    };
    appended.retain(|edit| !log.contains(&edit.id));
    assert!(appended.is_empty(), "an edit that counts is stored");
    let newest: Vec<_> = log.newest().collect();
    for id in newest {
        let _reason = log.why_not(&id);
        assert!(log.statement(&id).is_some());
    }
    log.expire_waiting(Mono(u64::MAX));
}

fn decoded(kind: u8, body: &[u8]) {
    if let Some(read) = Body::decode(Kind(kind), body) {
        assert_eq!(read.encode(), body, "only the canonical form is read");
    }
}

fn reported(bytes: &Bytes) {
    let mesh = World::get().mesh();
    let mut registers: Registers = World::get().reports();
    let before = registers.digest();
    if registers.ingest(&mesh, bytes, |_| true).is_err() {
        assert_eq!(registers.digest(), before);
    }
    if let Ok(register) = Register::open(&mesh, bytes) {
        assert_eq!(register.bytes, bytes);
    }
    if let Ok(facts) = postcard::from_bytes::<Facts>(bytes) {
        let written = postcard::to_stdvec(&facts).expect("facts have a written form");
        assert_eq!(postcard::from_bytes(&written), Ok(facts.clone()));
        assert!(facts.attrs().all(|(key, _)| FACT_KEYS.contains(&key)));
    }
    let _outcome = registers.restore(bytes);
    registers.retain(|_| false);
    assert_eq!(
        registers.digest(),
        Registers::default().digest(),
        "an emptied set is an empty set"
    );
}
