//! A root record on its way: what it follows, what it says, and who of the root keys signed it so far. A file of JSON
//! that is carried from one keeper of root words to the next.

use std::path::Path;

use ed25519_dalek::SigningKey;
use lab_crdt_log::{Annul, RootError, RootRecord, SignedRoot};
use lab_crdt_model::{AuthorId, MeshId};
use serde::{Deserialize, Serialize};

use crate::error::{CommandError, Exit};
use crate::key::write_secret;
use crate::print::hex;

const FORM: &str = "lab root proposal 1";
/// Longest file read, bytes: two records and their signatures in hexadecimal.
const FILE_BYTES_MAX: u64 = 128 * 1024;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Proposal {
    pub(crate) mesh: MeshId,
    /// The record that it follows.
    pub(crate) last: RootRecord,
    /// The record.
    pub(crate) next: RootRecord,
    pub(crate) signed: SignedRoot,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    form: String,
    mesh: String,
    /// For people; nobody reads it back.
    says: Vec<String>,
    last: String,
    signed: String,
}

impl Proposal {
    /// The record after `last` with a change made to it, unsigned.
    pub(crate) fn new(
        mesh: MeshId,
        last: RootRecord,
        change: impl FnOnce(&mut RootRecord),
    ) -> Self {
        let mut next = RootRecord {
            version: last.version + 1,
            prev: last.hash(),
            ..last.clone()
        };
        change(&mut next);
        next.annul.sort_unstable();
        let signed = SignedRoot::sign(&next, &[]);
        Self {
            mesh,
            last,
            next,
            signed,
        }
    }

    /// Adds a signature; refuses a key that is in neither record.
    pub(crate) fn sign(&mut self, key: &SigningKey) -> Result<(), CommandError> {
        let by = AuthorId(key.verifying_key().to_bytes());
        if !self.last.root_keys.contains(&by) && !self.next.root_keys.contains(&by) {
            let what = format!("{by} is no root key of this mesh");
            return Err(CommandError::new(Exit::Refused, "K017", what).hint("lab root show"));
        }
        self.signed.add(key);
        Ok(())
    }

    /// What is missing until the mesh takes it, if anything.
    pub(crate) fn lacks(&self) -> Option<RootError> {
        let listed = self.last.admins.iter().map(|a| a.key);
        let ended = self.last.annul.iter().map(|a| a.key);
        let all = listed.chain(ended).collect();
        self.signed.verify_after(&self.last, &all).err()
    }

    /// What it changes, a line each.
    pub(crate) fn says(&self) -> Vec<String> {
        let (last, next) = (&self.last, &self.next);
        let mut out = vec![format!("root record {}", next.version)];
        let mut say = |line: String| out.push(line);
        for admin in next.admins.iter().filter(|a| !last.admins.contains(a)) {
            say(format!("+ admin {} {}", admin.name, admin.key));
        }
        for admin in last.admins.iter().filter(|a| !next.admins.contains(a)) {
            say(format!("- admin {} {}", admin.name, admin.key));
        }
        for Annul { key, head } in next.annul.iter().filter(|a| !last.annul.contains(a)) {
            say(match head {
                Some(head) => format!("- {key} ends with {}", head.short()),
                None => format!("- {key} ends, and nothing of it counts"),
            });
        }
        for Annul { key, .. } in last.annul.iter().filter(|a| !next.annul.contains(a)) {
            say(format!("+ {key} is not ended any more"));
        }
        for key in next
            .root_keys
            .iter()
            .filter(|k| !last.root_keys.contains(k))
        {
            say(format!("+ root {key}"));
        }
        for key in last
            .root_keys
            .iter()
            .filter(|k| !next.root_keys.contains(k))
        {
            say(format!("- root {key}"));
        }
        for node in next
            .registrars
            .iter()
            .filter(|n| !last.registrars.contains(n))
        {
            say(format!("+ registrar {node}"));
        }
        for node in last
            .registrars
            .iter()
            .filter(|n| !next.registrars.contains(n))
        {
            say(format!("- registrar {node}"));
        }
        if last.threshold != next.threshold || last.root_keys != next.root_keys {
            let count = next.root_keys.len();
            say(format!(
                "= {} of {count} root keys sign the next one",
                next.threshold
            ));
        }
        out
    }

    /// Reads one from a file.
    pub(crate) fn read(path: &Path) -> Result<Self, CommandError> {
        let damaged = |why: &str| {
            let what = format!("{} is no root record to sign: {why}", path.display());
            CommandError::new(Exit::Input, "K018", what)
                .hint("lab admin add and lab root rotate write one with --out FILE")
        };
        let unread = |error: std::io::Error| {
            let what = format!("read {}", path.display());
            CommandError::new(Exit::Input, "K018", what).because(&error)
        };
        if std::fs::metadata(path).map_err(unread)?.len() > FILE_BYTES_MAX {
            return Err(damaged("it is too long"));
        }
        let text = std::fs::read_to_string(path).map_err(unread)?;
        let file: File = serde_json::from_str(&text).map_err(|e| damaged(&e.to_string()))?;
        if file.form != FORM {
            return Err(damaged("it has another form"));
        }
        let mesh = file.mesh.parse().map_err(|_error| damaged("its mesh"))?;
        let bytes = |text: &str| unhex(text).ok_or_else(|| damaged("it is cut off"));
        let last = RootRecord::decode(&bytes(&file.last)?).map_err(|e| damaged(&e.to_string()))?;
        let signed =
            SignedRoot::decode(&bytes(&file.signed)?).map_err(|e| damaged(&e.to_string()))?;
        let next = signed.read().map_err(|e| damaged(&e.to_string()))?;
        if next.prev != last.hash() || next.version != last.version.saturating_add(1) {
            return Err(damaged("its records do not follow each other"));
        }
        Ok(Self {
            mesh,
            last,
            next,
            signed,
        })
    }

    /// Writes a new file; an existing one is not touched.
    pub(crate) fn write_new(&self, path: &Path) -> Result<(), CommandError> {
        write_secret(path, &self.print())
    }

    /// Writes the file anew, with one more signature.
    pub(crate) fn write_again(&self, path: &Path) -> Result<(), CommandError> {
        let temporary = path.with_extension("signing");
        let _stale = std::fs::remove_file(&temporary);
        write_secret(&temporary, &self.print())?;
        std::fs::rename(&temporary, path).map_err(|error| {
            CommandError::new(Exit::Failed, "K005", format!("write {}", path.display()))
                .because(&error)
        })
    }

    fn print(&self) -> String {
        let file = File {
            form: FORM.to_owned(),
            mesh: self.mesh.to_string(),
            says: self.says(),
            last: all_hex(&self.last.encode()),
            signed: all_hex(&self.signed.encode()),
        };
        serde_json::to_string_pretty(&file).unwrap_or_default() + "\n"
    }
}

pub(crate) fn all_hex(bytes: &[u8]) -> String {
    hex(bytes, bytes.len())
}

pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).ok();
    (0..text.len()).step_by(2).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use lab_crdt_log::Admin;

    use super::*;

    fn key(n: u8) -> SigningKey {
        SigningKey::from_bytes(&[n; 32])
    }

    fn id(n: u8) -> AuthorId {
        AuthorId(key(n).verifying_key().to_bytes())
    }

    fn founding() -> RootRecord {
        let mut root_keys = vec![id(101), id(102)];
        root_keys.sort_unstable();
        RootRecord {
            name: "home".into(),
            root_keys,
            threshold: 2,
            admins: vec![Admin {
                key: id(1),
                name: "ana".into(),
            }],
            ..RootRecord::default()
        }
    }

    fn proposal() -> Proposal {
        Proposal::new(MeshId(founding().hash()), founding(), |next| {
            next.admins = vec![Admin {
                key: id(2),
                name: "ben".into(),
            }];
            next.annul = vec![Annul {
                key: id(1),
                head: None,
            }];
        })
    }

    #[test]
    fn it_is_whole_once_enough_root_keys_signed_it_one_after_the_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("next.json");
        let mut first = proposal();
        first.sign(&key(101)).unwrap();
        assert_eq!(
            first.lacks(),
            Some(RootError::Threshold { have: 1, need: 2 })
        );
        first.write_new(&path).unwrap();
        assert!(first.write_new(&path).is_err());

        let mut second = Proposal::read(&path).unwrap();
        assert_eq!(second.sign(&key(7)).unwrap_err().code, "K017");
        second.sign(&key(102)).unwrap();
        second.write_again(&path).unwrap();
        assert_eq!(Proposal::read(&path).unwrap().lacks(), None);
    }

    #[test]
    fn it_says_what_it_changes() {
        let says = proposal().says();
        let is_said = |start: &str| says.iter().any(|line| line.starts_with(start));
        assert!(is_said("+ admin ben key:"), "{says:?}");
        assert!(is_said("- admin ana key:"), "{says:?}");
        assert!(
            says.iter()
                .any(|line| line.ends_with("nothing of it counts"))
        );
        assert!(!is_said("="), "{says:?}");
    }

    #[test]
    fn a_file_that_is_cut_changed_or_of_something_else_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("next.json");
        let whole = proposal().print();
        for text in [
            &whole[..whole.len() / 2],
            &whole.replace(FORM, "lab root proposal 2"),
            &whole.replacen("\"last\": \"", "\"last\": \"0", 1),
            &whole.replacen("\"last\": \"", "\"last\": \"€", 1),
            "",
        ] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(Proposal::read(&path).unwrap_err().code, "K018");
        }
        assert_eq!(
            Proposal::read(&dir.path().join("none")).unwrap_err().code,
            "K018"
        );
    }
}
