//! When the words of each root key were last typed: a small file beside the key of the person who tried them.
//!
//! ```text
//! lab-tried 1
//! key:… 1764000000000
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use lab_crdt_model::{AuthorId, Wall};

use crate::error::{CommandError, Exit};

/// Longest file that is read, bytes.
const FILE_BYTES_MAX: u64 = 1 << 16;
/// How long words may lie untried, milliseconds: half a year.
pub(crate) const TRIED_MS_MAX: u64 = 180 * 86_400_000;

/// When words were typed, by root key.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Tried(BTreeMap<AuthorId, Wall>);

impl Tried {
    /// Where it is kept for a key file.
    fn beside(key: &Path) -> PathBuf {
        key.with_extension("tried")
    }

    /// What is kept beside a key file; a line that is not understood is left out.
    pub(crate) fn read(key: &Path) -> Self {
        let mut text = String::new();
        let read = fs::File::open(Self::beside(key))
            .and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text));
        let lines = text.strip_prefix("lab-tried 1\n");
        let entry = |line: &str| {
            let (key, at) = line.split_once(' ')?;
            Some((key.parse().ok()?, Wall(at.parse().ok()?)))
        };
        match (read, lines) {
            (Ok(_), Some(lines)) => Self(lines.lines().filter_map(entry).collect()),
            _ => Self::default(),
        }
    }

    /// Keeps that the words of a root key were typed.
    pub(crate) fn note(key: &Path, root: AuthorId, at: Wall) -> Result<(), CommandError> {
        let mut tried = Self::read(key);
        tried.0.insert(root, at);
        let mut text = "lab-tried 1\n".to_owned();
        for (root, at) in &tried.0 {
            let _ = writeln!(text, "{root} {}", at.0);
        }
        let path = Self::beside(key);
        let new = path.with_extension("tried.new");
        let folder = path.parent().map_or(Ok(()), fs::create_dir_all);
        folder
            .and_then(|()| fs::write(&new, text))
            .and_then(|()| fs::rename(&new, &path))
            .map_err(|error| {
                let what = format!("keep in {} that the words were tried", path.display());
                CommandError::new(Exit::Failed, "K024", what).because(&error)
            })
    }

    /// Root keys whose words lay untried for longer than half a year, and for how long; `since` is when there was a key
    /// first.
    pub(crate) fn overdue(
        &self,
        root_keys: &[AuthorId],
        since: Wall,
        now: Wall,
    ) -> Vec<(AuthorId, u64)> {
        let age = |key: &AuthorId| {
            let last = self.0.get(key).copied().unwrap_or(since);
            (*key, now.0.saturating_sub(last.0))
        };
        let ages = root_keys.iter().map(age);
        ages.filter(|(_, ms)| *ms > TRIED_MS_MAX).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400_000;

    #[test]
    fn words_are_overdue_half_a_year_after_they_were_typed_or_the_mesh_was_founded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys/x.key");
        let (a, b) = (AuthorId([1; 32]), AuthorId([2; 32]));
        let overdue = |now: u64| {
            let tried = Tried::read(&path);
            let list = tried.overdue(&[a, b], Wall(0), Wall(now * DAY));
            list.iter().map(|(key, _)| key.0[0]).collect::<Vec<_>>()
        };
        assert_eq!(overdue(180), [] as [u8; 0]);
        assert_eq!(overdue(181), [1, 2]);

        Tried::note(&path, a, Wall(100 * DAY)).unwrap();
        assert_eq!(overdue(200), [2]);
        Tried::note(&path, b, Wall(200 * DAY)).unwrap();
        assert_eq!(overdue(200), [] as [u8; 0]);
        assert_eq!(overdue(281), [1]);
    }

    #[test]
    fn a_damaged_file_is_as_good_as_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.key");
        fs::write(dir.path().join("x.tried"), "lab-tried 1\nkey:x 3\n\n7").unwrap();
        assert_eq!(Tried::read(&path), Tried::default());
        fs::write(dir.path().join("x.tried"), [0xff; 9]).unwrap();
        assert_eq!(Tried::read(&path), Tried::default());
    }
}
