//! Frames on one stream: four bytes of length, then the frame.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};
use iroh::endpoint::{ReadError, ReadExactError, RecvStream, SendStream, WriteError};
use lab_crdt_model::link::{Lane, Reason};
use tokio::sync::mpsc;

/// Most frames that wait on one lane of one link.
const FRAME_COUNT_MAX: usize = 4096;
/// Room taken at once for a frame that has only been announced, bytes; more comes as its bytes
/// arrive.
const ANNOUNCED_BYTES_MAX: usize = 64 * 1024;

/// The lanes, in the order in which pairs of them are kept.
pub(crate) const LANES: [Lane; 2] = [Lane::Control, Lane::Bulk];

/// The byte with which the stream of a lane begins; its index in [`LANES`].
pub(crate) const fn tag(lane: Lane) -> u8 {
    match lane {
        Lane::Control => 0,
        Lane::Bulk => 1,
    }
}

/// The sending end of a lane's bounded queue.
#[derive(Debug)]
pub(crate) struct LaneSender {
    queue: mpsc::Sender<Bytes>,
    waiting_bytes: Arc<AtomicUsize>,
    bytes_max: usize,
}

/// The end that the link's task takes frames from.
#[derive(Debug)]
pub(crate) struct LaneReceiver {
    queue: mpsc::Receiver<Bytes>,
    waiting_bytes: Arc<AtomicUsize>,
}

/// The queue is full, or nobody empties it any more.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PushError {
    Full,
    Closed,
}

pub(crate) fn queue(bytes_max: usize) -> (LaneSender, LaneReceiver) {
    let (sender, receiver) = mpsc::channel(FRAME_COUNT_MAX);
    let waiting_bytes = Arc::new(AtomicUsize::new(0));
    (
        LaneSender {
            queue: sender,
            waiting_bytes: Arc::clone(&waiting_bytes),
            bytes_max,
        },
        LaneReceiver {
            queue: receiver,
            waiting_bytes,
        },
    )
}

impl LaneSender {
    pub(crate) fn push(&self, frame: Bytes) -> Result<(), PushError> {
        let length = frame.len();
        if self
            .waiting_bytes
            .load(Ordering::Relaxed)
            .saturating_add(length)
            > self.bytes_max
        {
            return Err(PushError::Full);
        }
        self.waiting_bytes.fetch_add(length, Ordering::Relaxed);
        self.queue.try_send(frame).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => PushError::Full,
            mpsc::error::TrySendError::Closed(_) => PushError::Closed,
        })
    }
}

impl LaneReceiver {
    /// Writes frames until the queue is dropped, then ends the stream and waits until all of it
    /// arrived.
    pub(crate) async fn write_to(
        &mut self,
        stream: &mut SendStream,
        sent: impl Fn(usize),
    ) -> Result<(), WriteError> {
        while let Some(frame) = self.queue.recv().await {
            let length = frame.len();
            let announced = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
            stream.write_all(&announced).await?;
            stream.write_chunk(frame).await?;
            self.waiting_bytes.fetch_sub(length, Ordering::Relaxed);
            sent(length);
        }
        let _ = stream.finish();
        let _ = stream.stopped().await;
        Ok(())
    }
}

/// Reads one frame. `None` when the stream or the link ended between frames.
pub(crate) async fn read_frame(
    stream: &mut RecvStream,
    bytes_max: usize,
) -> Result<Option<Bytes>, Reason> {
    let mut announced = [0; 4];
    match stream.read_exact(&mut announced).await {
        Ok(()) => {}
        Err(ReadExactError::FinishedEarly(0)) => return Ok(None),
        Err(ReadExactError::FinishedEarly(_)) => return Err(Reason::Protocol),
        Err(ReadExactError::ReadError(error)) => return ended(&error),
    }
    let length = u32::from_be_bytes(announced) as usize;
    if length > bytes_max {
        return Err(Reason::Protocol);
    }
    let mut frame = BytesMut::with_capacity(length.min(ANNOUNCED_BYTES_MAX));
    while frame.len() < length {
        match stream.read_chunk(length - frame.len()).await {
            Ok(Some(part)) => frame.extend_from_slice(&part),
            Ok(None) => return Err(Reason::Protocol),
            Err(error) => return ended(&error),
        }
    }
    Ok(Some(frame.freeze()))
}

/// A link that broke ends its lanes in order; a stream that the peer abandoned alone is a broken
/// promise.
fn ended(error: &ReadError) -> Result<Option<Bytes>, Reason> {
    match error {
        ReadError::ConnectionLost(_) => Ok(None),
        ReadError::Reset(_) | ReadError::ClosedStream | ReadError::ZeroRttRejected => {
            Err(Reason::Protocol)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_refuses_the_next_frame() {
        let (sender, receiver) = queue(10);

        assert_eq!(sender.push(Bytes::from_static(b"12345678")), Ok(()));
        assert_eq!(
            sender.push(Bytes::from_static(b"123")),
            Err(PushError::Full)
        );
        assert_eq!(sender.push(Bytes::from_static(b"12")), Ok(()));
        drop(receiver);
        assert_eq!(sender.push(Bytes::new()), Err(PushError::Closed));
    }

    #[test]
    fn empty_frames_are_counted_too() {
        let (sender, _receiver) = queue(10);
        for _ in 0..FRAME_COUNT_MAX {
            assert_eq!(sender.push(Bytes::new()), Ok(()));
        }
        assert_eq!(sender.push(Bytes::new()), Err(PushError::Full));
    }
}
