//! Key files of admins and operators: where they are, how they are sealed, who may read them.
//!
//! A key never leaves the person's device and never enters the agent. The file is text:
//!
//! ```text
//! lab-key 1
//! mesh mesh:…
//! name ana
//! public key:…
//! secret plain BASE32
//! ```
//!
//! or, with a passphrase, `secret argon2id M_KIB T P SALT NONCE CIPHERTEXT` (XChaCha20-Poly1305, all in base32;
//! the lines above are authenticated too).

use std::fs::{self, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::XChaCha20Poly1305;
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use ed25519_dalek::SigningKey;
use lab_crdt_model::id::{base32, unbase32};
use lab_crdt_model::{AuthorId, MeshId};
use zeroize::Zeroizing;

use crate::entropy;
use crate::error::{CommandError, Exit};

/// Longest key file that is read, bytes.
const FILE_BYTES_MAX: u64 = 4096;
/// Most memory that a key file may ask for, KiB.
const MEMORY_KIB_MAX: u32 = 1 << 20;
/// Most passes that a key file may ask for.
const PASSES_MAX: u32 = 16;

/// Why a key file cannot be used. The file was not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeyError {
    /// Not a key file, or damaged.
    #[error("this is not a key file: {0}")]
    Malformed(&'static str),
    /// Made by a later version of the program.
    #[error("the key file has format {0}, this program reads format 1")]
    Format(String),
    /// It asks for more work than is reasonable.
    #[error("the key file asks for {memory_kib} KiB and {passes} passes")]
    Costly {
        /// Memory it asks for.
        memory_kib: u32,
        /// Passes it asks for.
        passes: u32,
    },
    /// Wrong passphrase, or damaged.
    #[error("the passphrase does not open the key file")]
    Passphrase,
}

/// How much work a guess of the passphrase costs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Cost {
    /// Memory, KiB.
    pub(crate) memory_kib: u32,
    /// Passes.
    pub(crate) passes: u32,
}

impl Cost {
    /// About a third of a second on a small computer.
    pub(crate) const NORMAL: Self = Self {
        memory_kib: 64 * 1024,
        passes: 3,
    };
}

/// What a key file says without its passphrase.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct KeyFile {
    /// Of which mesh.
    pub(crate) mesh: MeshId,
    /// Whose.
    pub(crate) name: String,
    /// The public half.
    pub(crate) public: AuthorId,
    secret: Secret,
}

#[derive(Clone, PartialEq, Eq)]
enum Secret {
    Plain(Zeroizing<[u8; 32]>),
    Sealed {
        cost: Cost,
        salt: [u8; 16],
        nonce: [u8; 24],
        text: [u8; 48],
    },
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "Plain(..)",
            Self::Sealed { .. } => "Sealed(..)",
        })
    }
}

impl KeyFile {
    /// A key file for `key`; sealed if a passphrase is given.
    pub(crate) fn new(
        mesh: MeshId,
        name: &str,
        key: &SigningKey,
        passphrase: Option<(&str, Cost)>,
    ) -> Result<Self, CommandError> {
        let public = AuthorId(key.verifying_key().to_bytes());
        let mut file = Self {
            mesh,
            name: name.to_owned(),
            public,
            secret: Secret::Plain(Zeroizing::new(key.to_bytes())),
        };
        if let Some((passphrase, cost)) = passphrase {
            let (salt, nonce) = (entropy::bytes::<16>()?, entropy::bytes::<24>()?);
            let head = file.head();
            let text = stretch(passphrase, &salt, cost)
                .and_then(|cipher| {
                    let payload = Payload {
                        msg: key.as_bytes(),
                        aad: head.as_bytes(),
                    };
                    cipher
                        .encrypt(&nonce.into(), payload)
                        .map_err(|_full| KeyError::Passphrase)
                })
                .and_then(|text| {
                    text.try_into()
                        .map_err(|_invalid| KeyError::Malformed("length"))
                })
                .map_err(|error| {
                    CommandError::new(Exit::Failed, "K001", "seal the key").because(&error)
                })?;
            file.secret = Secret::Sealed {
                cost,
                salt,
                nonce,
                text,
            };
        }
        Ok(file)
    }

    /// Whether a passphrase is needed.
    pub(crate) const fn is_sealed(&self) -> bool {
        matches!(self.secret, Secret::Sealed { .. })
    }

    /// The key; `passphrase` is only looked at if the file is sealed.
    pub(crate) fn open(&self, passphrase: &str) -> Result<SigningKey, KeyError> {
        let bytes = match &self.secret {
            Secret::Plain(bytes) => bytes.clone(),
            Secret::Sealed {
                cost,
                salt,
                nonce,
                text,
            } => {
                let head = self.head();
                let payload = Payload {
                    msg: text,
                    aad: head.as_bytes(),
                };
                let opened = stretch(passphrase, salt, *cost)?
                    .decrypt(&(*nonce).into(), payload)
                    .map_err(|_wrong| KeyError::Passphrase)?;
                let opened = Zeroizing::new(opened);
                let bytes: [u8; 32] = opened
                    .as_slice()
                    .try_into()
                    .map_err(|_invalid| KeyError::Malformed("length"))?;
                Zeroizing::new(bytes)
            }
        };
        let key = SigningKey::from_bytes(&bytes);
        if key.verifying_key().to_bytes() == self.public.0 {
            Ok(key)
        } else {
            Err(KeyError::Malformed("its two halves do not belong together"))
        }
    }

    /// The text of the file.
    pub(crate) fn print(&self) -> Zeroizing<String> {
        let secret = match &self.secret {
            Secret::Plain(bytes) => format!("plain {}", base32(bytes.as_slice())),
            Secret::Sealed {
                cost,
                salt,
                nonce,
                text,
            } => format!(
                "argon2id {} {} 1 {} {} {}",
                cost.memory_kib,
                cost.passes,
                base32(salt),
                base32(nonce),
                base32(text)
            ),
        };
        Zeroizing::new(format!("{}secret {secret}\n", self.head()))
    }

    /// Reads the text of a file.
    pub(crate) fn parse(text: &str) -> Result<Self, KeyError> {
        let mut lines = text.lines();
        let mut line = |key: &'static str| {
            let value = lines
                .next()
                .and_then(|l| l.strip_prefix(key)?.strip_prefix(' '));
            value.ok_or(KeyError::Malformed(key))
        };
        let format = line("lab-key")?;
        if format != "1" {
            return Err(KeyError::Format(format.chars().take(20).collect()));
        }
        let mesh = line("mesh")?
            .parse()
            .map_err(|_invalid| KeyError::Malformed("mesh"))?;
        let name = line("name")?.to_owned();
        let public = line("public")?
            .parse()
            .map_err(|_invalid| KeyError::Malformed("public"))?;
        let secret: Vec<&str> = line("secret")?.split(' ').collect();
        let secret = match secret.as_slice() {
            ["plain", bytes] => Secret::Plain(Zeroizing::new(
                unbase32(bytes).ok_or(KeyError::Malformed("secret"))?,
            )),
            ["argon2id", memory, passes, "1", salt, nonce, text] => {
                let number = |t: &str| t.parse().map_err(|_invalid| KeyError::Malformed("cost"));
                let cost = Cost {
                    memory_kib: number(memory)?,
                    passes: number(passes)?,
                };
                Secret::Sealed {
                    cost,
                    salt: unbase32(salt).ok_or(KeyError::Malformed("salt"))?,
                    nonce: unbase32(nonce).ok_or(KeyError::Malformed("nonce"))?,
                    text: unbase32(text).ok_or(KeyError::Malformed("secret"))?,
                }
            }
            _ => return Err(KeyError::Malformed("secret")),
        };
        Ok(Self {
            mesh,
            name,
            public,
            secret,
        })
    }

    /// Reads a file; refuses one that others can read.
    pub(crate) fn read(path: &Path) -> Result<Self, CommandError> {
        let failed = |error: std::io::Error| {
            let exit = match error.kind() {
                std::io::ErrorKind::PermissionDenied => Exit::Permission,
                _ => Exit::Input,
            };
            CommandError::new(
                exit,
                "K002",
                format!("read the key file {}", path.display()),
            )
            .because(&error)
        };
        let file = fs::File::open(path).map_err(failed)?;
        let mode = file.metadata().map_err(failed)?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(CommandError::new(
                Exit::Permission,
                "K003",
                format!(
                    "others can read the key file {} (mode {:o})",
                    path.display(),
                    mode & 0o777
                ),
            )
            .hint(format!("chmod 600 {}", path.display())));
        }
        let mut text = Zeroizing::new(String::new());
        file.take(FILE_BYTES_MAX)
            .read_to_string(&mut text)
            .map_err(failed)?;
        Self::parse(&text).map_err(|error| {
            CommandError::new(
                Exit::Input,
                "K004",
                format!("use the key file {}", path.display()),
            )
            .because(&error)
        })
    }

    /// Writes a new file that only its owner can read; an existing one is not touched.
    pub(crate) fn write_new(&self, path: &Path) -> Result<(), CommandError> {
        write_secret(path, &self.print())
    }

    fn head(&self) -> String {
        format!(
            "lab-key 1\nmesh {}\nname {}\npublic {}\n",
            self.mesh, self.name, self.public
        )
    }
}

/// Writes a new file with mode 0600, and its directories with 0700; an existing file is not touched.
pub(crate) fn write_secret(path: &Path, text: &str) -> Result<(), CommandError> {
    let failed = |error: std::io::Error| {
        let exit = match error.kind() {
            std::io::ErrorKind::PermissionDenied => Exit::Permission,
            std::io::ErrorKind::AlreadyExists => Exit::Refused,
            _ => Exit::Failed,
        };
        CommandError::new(exit, "K005", format!("write {}", path.display())).because(&error)
    };
    if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(parent)
            .map_err(failed)?;
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(failed)?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(failed)
}

/// Where the key of a mesh is kept unless `--key` says otherwise.
pub(crate) fn default_path(config_dir: &Path, mesh: &MeshId) -> PathBuf {
    config_dir
        .join("keys")
        .join(format!("{}.key", mesh.short()))
}

fn stretch(passphrase: &str, salt: &[u8; 16], cost: Cost) -> Result<XChaCha20Poly1305, KeyError> {
    let Cost { memory_kib, passes } = cost;
    if memory_kib > MEMORY_KIB_MAX || passes > PASSES_MAX {
        return Err(KeyError::Costly { memory_kib, passes });
    }
    let params = Params::new(memory_kib, passes, 1, Some(32))
        .map_err(|_invalid| KeyError::Malformed("cost"))?;
    let mut key = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.as_bytes(), salt, key.as_mut_slice())
        .map_err(|_invalid| KeyError::Malformed("cost"))?;
    Ok(XChaCha20Poly1305::new((&*key).into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: Cost = Cost {
        memory_kib: 64,
        passes: 1,
    };

    fn key() -> SigningKey {
        SigningKey::from_bytes(&[7; 32])
    }

    fn sealed() -> KeyFile {
        KeyFile::new(
            MeshId([1; 32]),
            "ana",
            &key(),
            Some(("correct horse", CHEAP)),
        )
        .unwrap()
    }

    #[test]
    fn a_plain_key_reads_back() {
        let file = KeyFile::new(MeshId([1; 32]), "ana", &key(), None).unwrap();
        let back = KeyFile::parse(&file.print()).unwrap();
        assert_eq!(back, file);
        assert!(!back.is_sealed());
        assert_eq!(back.open("").unwrap(), key());
    }

    #[test]
    fn a_sealed_key_opens_only_with_its_passphrase() {
        let text = sealed().print();
        assert!(!text.contains(&base32(&[7; 32])));
        let back = KeyFile::parse(&text).unwrap();
        assert!(back.is_sealed());
        assert_eq!(back.open("correct horse").unwrap(), key());
        assert_eq!(back.open("wrong"), Err(KeyError::Passphrase));
    }

    #[test]
    fn a_changed_head_is_noticed() {
        let text = sealed().print().replace("name ana", "name bob");
        assert_eq!(
            KeyFile::parse(&text).unwrap().open("correct horse"),
            Err(KeyError::Passphrase)
        );
    }

    #[test]
    fn a_costly_file_is_refused_without_work() {
        let text = sealed()
            .print()
            .replace("argon2id 64 1", "argon2id 4294967295 1");
        let error = KeyFile::parse(&text).unwrap().open("x").unwrap_err();
        assert!(matches!(error, KeyError::Costly { .. }));
    }

    #[test]
    fn damaged_files_are_refused() {
        let text = sealed().print();
        for end in 0..text.len() - 1 {
            assert!(KeyFile::parse(&text[..end]).is_err(), "{end}");
        }
        assert_eq!(
            KeyFile::parse(&text.replace("lab-key 1", "lab-key 2")),
            Err(KeyError::Format("2".into()))
        );
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys/a.key");
        sealed().write_new(&path).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(KeyFile::read(&path).unwrap(), sealed_as_in(&path));
        assert_eq!(sealed().write_new(&path).unwrap_err().exit, Exit::Refused);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = KeyFile::read(&path).unwrap_err();
        assert_eq!(
            (error.exit, error.code.as_str()),
            (Exit::Permission, "K003")
        );
    }

    fn sealed_as_in(path: &Path) -> KeyFile {
        KeyFile::parse(&fs::read_to_string(path).unwrap()).unwrap()
    }
}
