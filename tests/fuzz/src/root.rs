//! Root records.

use lab_crdt_log::{Log, RootRecord, SignedRoot};

use crate::World;

/// A signed root record. The first byte says whether the rest is one, or a record to be truly signed.
pub fn root(data: &[u8]) {
    let Some((&way, rest)) = data.split_first() else {
        return;
    };
    if way % 2 == 0 {
        if let Ok(signed) = SignedRoot::decode(rest) {
            looked_at(&signed);
        }
        return;
    }
    if let Ok(record) = postcard::from_bytes::<RootRecord>(rest) {
        looked_at(&SignedRoot::sign(
            &record,
            &[&World::key(100), &World::key(101)],
        ));
    }
}

fn looked_at(signed: &SignedRoot) {
    assert_eq!(
        SignedRoot::decode(&signed.encode()).map_or(signed.mesh(), |again| again.mesh()),
        signed.mesh()
    );
    let Ok(record) = signed.verify() else {
        assert!(Log::new(signed.clone()).is_err());
        return;
    };
    assert!((1..=record.root_keys.len()).contains(&usize::from(record.threshold)));
    assert_eq!(record.version, 0, "only a founding record founds a mesh");
    let mut log = Log::new(signed.clone()).expect("a verified record");
    log.authority();
    assert_eq!(log.mesh(), signed.mesh());
}
