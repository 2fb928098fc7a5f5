//! Audit records as a stream of chunks.
//!
//! ```text
//! chunk*       joined:  version u8 = 1 | (length u32be | record)*
//! ```

use bytes::{Buf as _, Bytes, BytesMut};

use crate::view::VIEW_CHUNK_BYTES;

/// Version of the encoding; the first byte of the stream.
const AUDIT_VERSION: u8 = 1;

/// Cuts records into chunks of at most [`VIEW_CHUNK_BYTES`], unless one record is longer.
pub(crate) fn audit_chunks(records: Vec<Bytes>) -> impl Iterator<Item = Bytes> + Send {
    let mut records = records.into_iter().peekable();
    let mut is_first = true;
    std::iter::from_fn(move || {
        let mut chunk = BytesMut::new();
        if std::mem::take(&mut is_first) {
            chunk.extend_from_slice(&[AUDIT_VERSION]);
        }
        while let Some(record) = records.next_if(|record| {
            chunk.len() <= 1 || chunk.len() + 4 + record.len() <= VIEW_CHUNK_BYTES
        }) {
            chunk.extend_from_slice(&(record.len() as u32).to_be_bytes());
            chunk.extend_from_slice(&record);
        }
        (!chunk.is_empty()).then(|| chunk.freeze())
    })
}

/// Puts chunks back together.
#[derive(Debug, Default)]
pub(crate) struct AuditDecoder {
    bytes: BytesMut,
    is_read: bool,
    records: Vec<Bytes>,
    is_bad: bool,
}

impl AuditDecoder {
    pub(crate) fn push(&mut self, chunk: &[u8]) {
        self.bytes.extend_from_slice(chunk);
        if !self.is_read && !self.bytes.is_empty() {
            self.is_read = true;
            self.is_bad = self.bytes.get_u8() != AUDIT_VERSION;
        }
        while !self.is_bad
            && let Some(length) = self.bytes.first_chunk::<4>()
            && let length = u32::from_be_bytes(*length) as usize
            && self.bytes.len() - 4 >= length
        {
            self.bytes.advance(4);
            self.records.push(self.bytes.split_to(length).freeze());
        }
    }

    /// The records; `None` if the stream was cut off or is of a later version.
    pub(crate) fn finish(self) -> Option<Vec<Bytes>> {
        let is_whole = self.is_read && !self.is_bad && self.bytes.is_empty();
        is_whole.then_some(self.records)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_many_chunks_read_back_however_they_are_cut() {
        let records: Vec<Bytes> = (0..4_000usize)
            .map(|n| vec![n as u8; n % 1_025].into())
            .collect();
        let chunks: Vec<Bytes> = audit_chunks(records.clone()).collect();
        assert!(chunks.len() > 1);
        assert!(chunks.iter().all(|c| c.len() <= VIEW_CHUNK_BYTES));
        let whole = chunks.concat();
        for length in [1, 7, 100_000, whole.len()] {
            let mut decoder = AuditDecoder::default();
            whole.chunks(length).for_each(|c| decoder.push(c));
            assert_eq!(decoder.finish(), Some(records.clone()));
        }
        let mut cut = AuditDecoder::default();
        cut.push(&whole[..whole.len() - 1]);
        assert_eq!(cut.finish(), None);
        assert_eq!(AuditDecoder::default().finish(), None);
    }
}
