//! What strangers send on the join channel.

use bytes::Bytes;
use lab_crdt_model::limit::JOIN_FRAME_BYTES_MAX;
use lab_mesh_proto::join::JoinFrame;

/// A frame of the join conversation.
pub fn join_frame(data: &[u8]) {
    let Ok(frame) = JoinFrame::decode(&Bytes::copy_from_slice(data)) else {
        return;
    };

    let again = frame
        .encode()
        .expect("what was read is within the limits of writing");

    assert!(again.len() <= JOIN_FRAME_BYTES_MAX);
    assert_eq!(JoinFrame::decode(&again), Ok(frame));
}
