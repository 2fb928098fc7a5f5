//! The receiving end of an ordered lane.
//!
//! [`Network::send`](super::Network::send) gives the frames of a lane rising arrival times. But a frame may find its
//! path closed when it arrives; the world then holds it and sends it again after the heal, while later frames of the
//! lane are still on their way. QUIC would keep those back until the gap is filled, and so does this.

use std::collections::BTreeMap;

/// Frames of one lane of one connection and direction, let out in the order of their numbers.
#[derive(Clone, Debug)]
pub struct Inbox<T> {
    next: u64,
    early: BTreeMap<u64, T>,
}

impl<T> Default for Inbox<T> {
    fn default() -> Self {
        Self {
            next: 0,
            early: BTreeMap::new(),
        }
    }
}

impl<T> Inbox<T> {
    /// A frame has arrived. Frames are numbered from zero as they were first sent; one that came before is dropped.
    pub fn put(&mut self, nth: u64, frame: T) {
        if nth >= self.next {
            self.early.entry(nth).or_insert(frame);
        }
    }

    /// The next frame to deliver, if it is there.
    pub fn take(&mut self) -> Option<T> {
        let frame = self.early.remove(&self.next)?;
        self.next += 1;
        Some(frame)
    }

    /// How many frames wait for an earlier one.
    pub fn waiting(&self) -> usize {
        self.early.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_frames_wait_for_the_gap_to_fill() {
        let mut inbox = Inbox::default();
        inbox.put(1, 'b');
        assert_eq!((inbox.take(), inbox.waiting()), (None, 1));
        inbox.put(0, 'a');
        inbox.put(0, 'x');
        assert_eq!(
            [inbox.take(), inbox.take(), inbox.take()],
            [Some('a'), Some('b'), None]
        );
        inbox.put(1, 'y');
        assert_eq!((inbox.take(), inbox.waiting()), (None, 0));
    }
}
