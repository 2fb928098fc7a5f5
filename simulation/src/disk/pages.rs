//! Bytes of a file as sparse pages, shared between copies until one is written.

use std::io;
use std::sync::Arc;

/// Bytes of a page. Pages of zeros take no memory.
pub(crate) const PAGE_BYTES: usize = 4096;
/// What a disk writes whole or not at all, bytes.
pub(crate) const SECTOR_BYTES: usize = 512;
/// Longest file, bytes. A damaged header may ask for any length.
pub(crate) const LENGTH_MAX: u64 = 1 << 30;

/// The content of a file.
#[derive(Clone, PartialEq, Eq, Default)]
pub(crate) struct Pages {
    pages: Vec<Option<Arc<[u8; PAGE_BYTES]>>>,
    length: u64,
}

impl std::fmt::Debug for Pages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pages({} bytes)", self.length)
    }
}

impl Pages {
    pub(crate) const fn length(&self) -> u64 {
        self.length
    }

    /// Indexes of the pages that hold anything but zeros.
    pub(crate) fn used(&self) -> Vec<usize> {
        let used = self.pages.iter().enumerate();
        used.filter(|(_, page)| page.is_some())
            .map(|(index, _)| index)
            .collect()
    }

    pub(crate) fn read(&self, at: u64, out: &mut [u8]) -> io::Result<()> {
        if at.saturating_add(out.len() as u64) > self.length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for (index, offset, part) in parts(at, out.len()) {
            let out = &mut out[part.clone()];
            match self.pages.get(index) {
                Some(Some(page)) => out.copy_from_slice(&page[offset..offset + out.len()]),
                Some(None) | None => out.fill(0),
            }
        }
        Ok(())
    }

    /// Writes inside the length; what lies beyond it is cut off.
    pub(crate) fn write(&mut self, at: u64, data: &[u8]) {
        let room = self.length.saturating_sub(at);
        let data = &data[..data.len().min(usize::try_from(room).unwrap_or(usize::MAX))];
        for (index, offset, part) in parts(at, data.len()) {
            let data = &data[part];
            if self.pages.len() <= index {
                self.pages.resize(index + 1, None);
            }
            let slot = &mut self.pages[index];
            if let Ok(whole) = <&[u8; PAGE_BYTES]>::try_from(data) {
                *slot = Some(Arc::new(*whole));
                continue;
            }
            let page = slot.get_or_insert_with(|| Arc::new([0; PAGE_BYTES]));
            Arc::make_mut(page)[offset..offset + data.len()].copy_from_slice(data);
        }
    }

    /// Cuts the file off, or lets it grow by zeros.
    pub(crate) fn set_length(&mut self, length: u64) {
        if length < self.length {
            let kept = usize::try_from(length).unwrap_or(usize::MAX);
            self.pages.truncate(kept.div_ceil(PAGE_BYTES));
            let tail = kept % PAGE_BYTES;
            if tail > 0
                && let Some(Some(page)) = self.pages.get_mut(kept / PAGE_BYTES)
            {
                Arc::make_mut(page)[tail..].fill(0);
            }
        }
        self.length = length;
    }

    /// Takes over what another file holds in a range of bytes, page by page.
    pub(crate) fn take_pages(&mut self, from: &Self, at: u64, byte_count: usize) {
        for (index, _, _) in parts(at, byte_count) {
            if self.pages.len() <= index {
                self.pages.resize(index + 1, None);
            }
            self.pages[index] = from.pages.get(index).cloned().flatten();
        }
    }

    pub(crate) fn flip(&mut self, bit: u64) {
        let mut byte = [0];
        if self.read(bit / 8, &mut byte).is_ok() {
            byte[0] ^= 1 << (bit % 8);
            self.write(bit / 8, &byte);
        }
    }
}

/// Page by page: its index, the offset in it, and which part of the caller's bytes lies there.
fn parts(
    at: u64,
    byte_count: usize,
) -> impl Iterator<Item = (usize, usize, std::ops::Range<usize>)> {
    let at = usize::try_from(at).unwrap_or(usize::MAX);
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == byte_count {
            return None;
        }
        let offset = (at + done) % PAGE_BYTES;
        let end = byte_count.min(done + PAGE_BYTES - offset);
        let part = done..end;
        let index = (at + done) / PAGE_BYTES;
        done = end;
        Some((index, offset, part))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed;

    #[test]
    fn sparse_pages_hold_what_a_plain_file_would() {
        let mut rng = seed::rng(1, "pages", 0);
        let (mut pages, mut plain) = (Pages::default(), Vec::<u8>::new());
        for n in 0..2000u64 {
            let length = rng.below(40_000);
            if rng.chance(100) {
                pages.set_length(length);
                plain.resize(length as usize, 0);
            } else if !plain.is_empty() {
                let at = rng.below(plain.len() as u64) as usize;
                let count = (rng.below(9000) as usize).min(plain.len() - at);
                pages.write(at as u64, &vec![n as u8; count]);
                plain[at..at + count].fill(n as u8);
            }
            let mut found = vec![0; plain.len()];
            pages.read(0, &mut found).unwrap();
            assert!(found == plain, "step {n}");
        }
        assert!(pages.read(plain.len() as u64, &mut [0]).is_err());
    }

    #[test]
    fn a_write_beyond_the_end_is_cut_off() {
        let mut pages = Pages::default();
        pages.set_length(10);
        pages.write(8, &[1; 8]);
        pages.set_length(20);
        let mut found = [9; 20];
        pages.read(0, &mut found).unwrap();
        assert_eq!(&found[8..12], &[1, 1, 0, 0]);
    }
}
