//! Audit records, and what is said on the audit channel.

use bytes::Bytes;
use lab_crdt_log::AuditRecord;
use lab_crdt_log::audit::verify;
use lab_crdt_model::NodeId;
use lab_mesh_proto::audit::{AUDIT_FRAME_BYTES_MAX, AuditFrame};

use crate::World;

/// The first byte says what the rest is: a record, or a frame.
pub fn audit(data: &[u8]) {
    let Some((&way, rest)) = data.split_first() else {
        return;
    };
    let bytes = Bytes::copy_from_slice(rest);
    if way % 2 == 0 {
        return record(&bytes);
    }
    let Ok(frame) = AuditFrame::decode(&bytes) else {
        return;
    };
    let again = frame
        .encode()
        .expect("what was read is within the limits of writing");
    assert!(again.len() <= AUDIT_FRAME_BYTES_MAX);
    assert_eq!(AuditFrame::decode(&again), Ok(frame.clone()));
    if let AuditFrame::Reply(reply) = frame {
        let mesh = World::get().mesh();
        let _fault = verify(&mesh, &reply.node, &reply.records, &[], &[]);
        reply.records.iter().for_each(record);
    }
}

fn record(bytes: &Bytes) {
    let mesh = World::get().mesh();
    let opened = AuditRecord::open(&mesh, bytes);
    let Ok(record) = AuditRecord::parse(bytes) else {
        assert!(opened.is_err());
        return;
    };
    assert_eq!(record.bytes, *bytes);
    assert!(record.seq > 0);
    let _said = record.body();
    let whole = verify(
        &mesh,
        &record.node,
        std::slice::from_ref(bytes),
        &[record.before()],
        &[],
    );
    assert_eq!(whole.is_ok(), opened.is_ok());
    assert!(
        verify(
            &mesh,
            &NodeId([0; 32]),
            std::slice::from_ref(bytes),
            &[],
            &[]
        )
        .is_err()
    );
}
