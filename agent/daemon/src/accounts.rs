//! Users and groups of this machine, by name.
//!
//! Read from `/etc/passwd` and `/etc/group`: accounts from a directory service are not seen and are written as
//! numbers instead.

use std::io::{self, Read as _};
use std::path::PathBuf;

/// Longest account file that is read, bytes: tens of thousands of accounts.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Where accounts are listed.
#[derive(Clone, Debug)]
pub(crate) struct Accounts {
    etc: PathBuf,
}

/// Why a name could not be turned into numbers. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AccountError {
    /// No such user here.
    #[error("there is no user `{0}` on this machine")]
    NoUser(String),
    /// No such group here.
    #[error("there is no group `{0}` on this machine")]
    NoGroup(String),
    /// The account files cannot be read.
    #[error("read {file}")]
    Read {
        /// Which.
        file: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl Accounts {
    /// The accounts of this machine.
    pub(crate) fn system() -> Self {
        Self {
            etc: PathBuf::from("/etc"),
        }
    }

    /// Accounts listed in `passwd` and `group` of another folder.
    #[cfg(test)]
    pub(crate) fn in_folder(etc: &std::path::Path) -> Self {
        Self {
            etc: etc.to_owned(),
        }
    }

    /// The user and group ids of `user`, `user:group`, `user:` or `:group`, by name or number.
    ///
    /// A user without group brings its primary group; a numeric user that is not listed leaves the group as it is.
    pub(crate) fn owner(&self, text: &str) -> Result<(Option<u32>, Option<u32>), AccountError> {
        let (user, group) = text.split_once(':').unwrap_or((text, ""));
        let (uid, primary) = if user.is_empty() {
            (None, None)
        } else {
            self.user(user)?
        };
        let gid = if group.is_empty() {
            primary
        } else {
            Some(self.group(group)?)
        };
        Ok((uid, gid))
    }

    /// The id of a group, by name or number.
    pub(crate) fn group(&self, name: &str) -> Result<u32, AccountError> {
        let listed = self.lines("group")?.lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next()? == name).then(|| fields.nth(1)?.parse().ok())?
        });
        listed
            .or_else(|| number(name))
            .ok_or_else(|| AccountError::NoGroup(name.to_owned()))
    }

    /// Whether the user is in the group, as its primary or as a listed member. Unreadable files make nobody a member.
    pub(crate) fn is_member(&self, uid: u32, gid: u32) -> bool {
        let Ok(passwd) = self.lines("passwd") else {
            return false;
        };
        let names: Vec<&str> = passwd
            .lines()
            .filter_map(|line| {
                let mut fields = line.split(':');
                let (name, listed) = (fields.next()?, fields.nth(1)?);
                (listed.parse() == Ok(uid)).then_some(name)
            })
            .collect();
        let Ok(groups) = self.lines("group") else {
            return false;
        };
        groups.lines().any(|line| {
            let mut fields = line.split(':').skip(2);
            let is_group = fields.next().and_then(|id| id.parse().ok()) == Some(gid);
            is_group
                && fields
                    .next()
                    .is_some_and(|list| list.split(',').any(|n| names.contains(&n)))
        })
    }

    fn user(&self, name: &str) -> Result<(Option<u32>, Option<u32>), AccountError> {
        let by_number = number(name);
        let passwd = self.lines("passwd")?;
        let listed = passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            let listed = fields.next()?;
            let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
            (listed == name || Some(uid) == by_number).then_some((uid, gid))
        });
        match (listed, by_number) {
            (Some((uid, gid)), _) => Ok((Some(uid), Some(gid))),
            (None, Some(uid)) => Ok((Some(uid), None)),
            (None, None) => Err(AccountError::NoUser(name.to_owned())),
        }
    }

    fn lines(&self, file: &'static str) -> Result<String, AccountError> {
        let read = || {
            let mut bytes = Vec::new();
            std::fs::File::open(self.etc.join(file))?
                .take(FILE_BYTES_MAX)
                .read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        read().map_err(|source| AccountError::Read { file, source })
    }
}

/// A numeric id; never the reserved "no change" value.
fn number(text: &str) -> Option<u32> {
    let is_digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|id| is_digits && *id != u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn accounts() -> (tempfile::TempDir, Accounts) {
        let etc = tempfile::tempdir().unwrap();
        let passwd = "root:x:0:0:root:/root:/bin/sh\n# comment\nbroken\nalice:x:1000:1001::/home/alice:/bin/sh\n";
        std::fs::write(etc.path().join("passwd"), passwd).unwrap();
        std::fs::write(
            etc.path().join("group"),
            "root:x:0:\nlab:x:55:bob,alice\nalice:x:1001:\n",
        )
        .unwrap();
        let accounts = Accounts::in_folder(etc.path());
        (etc, accounts)
    }

    #[test]
    fn owners_are_found_by_name_and_number() {
        let (_etc, accounts) = accounts();
        for (text, owner) in [
            ("alice", (Some(1000), Some(1001))),
            ("alice:lab", (Some(1000), Some(55))),
            ("1000", (Some(1000), Some(1001))),
            ("4000", (Some(4000), None)),
            ("4000:4001", (Some(4000), Some(4001))),
            (":lab", (None, Some(55))),
            ("root:", (Some(0), Some(0))),
        ] {
            assert_eq!(accounts.owner(text).unwrap(), owner, "{text}");
        }
    }

    #[test]
    fn unknown_names_and_impossible_numbers_are_refused() {
        let (_etc, accounts) = accounts();
        for text in [
            "bob",
            "alice:wheel",
            "-1",
            "4294967295",
            "99999999999",
            "+5",
            " alice",
        ] {
            assert!(accounts.owner(text).is_err(), "{text}");
        }
    }

    #[test]
    fn members_are_those_who_are_listed() {
        let (_etc, accounts) = accounts();
        assert!(accounts.is_member(1000, 55));
        assert!(!accounts.is_member(0, 55));
        assert!(!accounts.is_member(1000, 56));
        assert!(!Accounts::in_folder(Path::new("/nowhere")).is_member(1000, 55));
    }
}
