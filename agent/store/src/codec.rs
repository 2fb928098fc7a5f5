//! The stored form of one record: checksum, then value.

use lab_crdt_model::mutant;
use lab_crdt_model::store::Table;
use redb::TableDefinition;

/// Length of the checksum in front of every stored value, bytes.
const CHECKSUM_BYTES: usize = 16;
const CONTEXT: &str = "lab store record 1";

/// Where the version of the format is kept, and under which key.
pub(crate) const FORMAT: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("format");
pub(crate) const FORMAT_KEY: &[u8] = b"version";
/// Stands for the table `format` in checksums; the tables of the vocabulary begin at 1.
pub(crate) const FORMAT_TAG: u8 = 0;

/// The redb table of a table. The names are part of the format.
pub(crate) const fn definition(
    table: Table,
) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
    TableDefinition::new(match table {
        Table::Statements => "statements",
        Table::Registers => "registers",
        Table::Meta => "meta",
        Table::Addresses => "addresses",
        Table::Quarantine => "quarantine",
        Table::Late => "late",
        Table::Audit => "audit",
    })
}

/// Puts the checksum in front of a value.
pub(crate) fn seal(tag: u8, key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut stored = Vec::with_capacity(CHECKSUM_BYTES + value.len());
    stored.extend_from_slice(&checksum(tag, key, value));
    stored.extend_from_slice(value);
    stored
}

/// The value of a stored record, or `None` if any byte of it, its key or its table is not what was
/// written.
pub(crate) fn open<'a>(tag: u8, key: &[u8], stored: &'a [u8]) -> Option<&'a [u8]> {
    let (sum, value) = stored.split_at_checked(CHECKSUM_BYTES)?;
    (sum == checksum(tag, key, value) || mutant!("M06")).then_some(value)
}

/// Under which key a damaged record is kept in quarantine: its table, then its key.
pub(crate) fn quarantine_key(table: Table, key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + key.len());
    out.push(table as u8);
    out.extend_from_slice(key);
    out
}

fn checksum(tag: u8, key: &[u8], value: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
    hasher.update(&[tag]);
    hasher.update(&(key.len() as u64).to_le_bytes());
    hasher.update(key);
    hasher.update(value);
    let mut out = [0; CHECKSUM_BYTES];
    out.copy_from_slice(&hasher.finalize().as_bytes()[..CHECKSUM_BYTES]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_opens_only_where_it_was_written() {
        let stored = seal(1, b"key", b"value");

        assert_eq!(open(1, b"key", &stored), Some(&b"value"[..]));
        assert_eq!(open(2, b"key", &stored), None);
        assert_eq!(open(1, b"kez", &stored), None);
        assert_eq!(open(1, b"", &stored), None);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let stored = seal(3, b"a", b"some value");
        for bit in 0..stored.len() * 8 {
            let mut bad = stored.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open(3, b"a", &bad), None, "bit {bit}");
        }
        for len in 0..stored.len() {
            assert_eq!(open(3, b"a", &stored[..len]), None, "length {len}");
        }
    }

    #[test]
    fn bytes_cannot_move_between_key_and_value() {
        let stored = seal(1, b"ab", b"c");
        assert_eq!(
            open(1, b"a", &[&stored[..CHECKSUM_BYTES], b"bc"].concat()),
            None
        );
    }
}
