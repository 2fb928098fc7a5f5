//! How an agent is told what it needs to know of its machine.
//!
//! Three layers, later ones win: what is built in, the file (`/etc/lab/lab.toml` unless another is named), and the
//! flags of the command line. An unknown key in the file is an error. What the *fleet* should be is never here: that
//! is intent, and is replicated.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Where the file is looked for when none is named. It may be absent.
pub const CONFIG_PATH: &str = "/etc/lab/lab.toml";
/// Where the agent's folder is, unless told otherwise.
pub const DATA_DIR: &str = "/var/lib/lab";
/// Where the socket is when the agent's folder is the usual one; otherwise it is `lab.sock` in the folder.
pub const SOCKET: &str = "/run/lab/lab.sock";
/// The UDP port, unless told otherwise.
pub const PORT: u16 = 4747;

/// Everything the daemon needs to know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DaemonConfig {
    /// The agent's folder: key and store. Made with mode 0700. Default `/var/lib/lab`.
    pub data_dir: PathBuf,
    /// Where programs of this machine reach the agent. At most 107 bytes. Default `/run/lab/lab.sock`, or `lab.sock`
    /// in the agent's folder if that is not the usual one.
    pub socket: PathBuf,
    /// The group whose members may use the socket, by name or number. Default `lab`; a group that is not there leaves
    /// the socket to the agent's own user and root.
    pub socket_group: String,
    /// UDP addresses to listen on. Default every address of both families, port 4747; port 0 takes any free one.
    pub bind: Vec<SocketAddr>,
    /// The folder below which declared files are written. Default `/`.
    pub root: PathBuf,
    /// The mDNS service name under which agents of a local network find each other; `None` is off. Default `lab`.
    pub lan_discovery: Option<String>,
    /// Whether `block` is allowed over the socket: for tests and the demo. Default no.
    pub allow_faults: bool,
    /// Whether devices may ask over the remote API, each with the key of an admin or operator. Default yes.
    pub remote_api: bool,
    /// Threads of the runtime; 1 keeps everything but blocking work on one, which needs the least memory. Default 1,
    /// at most 64.
    pub threads: usize,
    /// Level or filter of log lines. Default `info`.
    pub log: String,
}

/// One layer: what it leaves out comes from the layers below.
///
/// The names are those of the keys in `lab.toml`; there an empty `lan_discovery` is off.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigLayer {
    /// See [`DaemonConfig::data_dir`].
    pub data_dir: Option<PathBuf>,
    /// See [`DaemonConfig::socket`].
    pub socket: Option<PathBuf>,
    /// See [`DaemonConfig::socket_group`].
    pub socket_group: Option<String>,
    /// See [`DaemonConfig::bind`].
    pub bind: Option<Vec<SocketAddr>>,
    /// See [`DaemonConfig::root`].
    pub root: Option<PathBuf>,
    /// See [`DaemonConfig::lan_discovery`]; empty is off.
    pub lan_discovery: Option<String>,
    /// See [`DaemonConfig::allow_faults`].
    pub allow_faults: Option<bool>,
    /// See [`DaemonConfig::remote_api`].
    pub remote_api: Option<bool>,
    /// See [`DaemonConfig::threads`].
    pub threads: Option<usize>,
    /// See [`DaemonConfig::log`].
    pub log: Option<String>,
}

/// Why there is no configuration. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file says something that is not configuration; the source shows where.
    #[error("understand {}", path.display())]
    Malformed {
        /// Which.
        path: PathBuf,
        /// What and where.
        source: Box<toml::de::Error>,
    },
    /// A value is out of its range, in whatever layer.
    #[error("use `{key}`: {why}")]
    Value {
        /// Which.
        key: &'static str,
        /// What is wrong.
        why: String,
    },
}

impl DaemonConfig {
    /// Puts the layers together. Without a named file the usual one is read if it is there; a named one must be.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn load(file: Option<&Path>, flags: ConfigLayer) -> Result<Self, ConfigError> {
        let file_layer = match file {
            Some(path) => ConfigLayer::read(path)?,
            None => match ConfigLayer::read(Path::new(CONFIG_PATH)) {
                Err(ConfigError::Read { source, .. })
                    if source.kind() == io::ErrorKind::NotFound =>
                {
                    ConfigLayer::default()
                }
                other => other?,
            },
        };
        Self::from_layers(file_layer, flags)
    }

    /// Puts layers together; the last one wins.
    ///
    /// # Errors
    /// [`ConfigError::Value`].
    pub fn from_layers(file: ConfigLayer, flags: ConfigLayer) -> Result<Self, ConfigError> {
        let lan_discovery = flags
            .lan_discovery
            .or(file.lan_discovery)
            .unwrap_or_else(|| "lab".to_owned());
        // A folder that was named by a flag brings its own socket along, whatever the file says.
        let named_socket = flags
            .socket
            .or_else(|| file.socket.filter(|_| flags.data_dir.is_none()));
        let data_dir = flags
            .data_dir
            .or(file.data_dir)
            .unwrap_or_else(|| DATA_DIR.into());
        let config = Self {
            socket: named_socket.unwrap_or_else(|| socket_of(&data_dir)),
            data_dir,
            socket_group: flags
                .socket_group
                .or(file.socket_group)
                .unwrap_or_else(|| "lab".to_owned()),
            bind: flags.bind.or(file.bind).unwrap_or_else(everywhere),
            root: flags.root.or(file.root).unwrap_or_else(|| "/".into()),
            lan_discovery: Some(lan_discovery).filter(|name| !name.is_empty()),
            allow_faults: flags.allow_faults.or(file.allow_faults).unwrap_or(false),
            remote_api: flags.remote_api.or(file.remote_api).unwrap_or(true),
            threads: flags.threads.or(file.threads).unwrap_or(1),
            log: flags.log.or(file.log).unwrap_or_else(|| "info".to_owned()),
        };
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        const SOCKET_BYTES_MAX: usize = 107;
        let refuse = |key, why: String| Err(ConfigError::Value { key, why });
        if self.socket.as_os_str().len() > SOCKET_BYTES_MAX {
            let path = self.socket.display();
            return refuse(
                "socket",
                format!("{path} is longer than {SOCKET_BYTES_MAX} bytes"),
            );
        }
        if !self.root.is_absolute() {
            return refuse("root", format!("{} is not absolute", self.root.display()));
        }
        if self.bind.is_empty() || self.bind.len() > 16 {
            return refuse(
                "bind",
                format!("{} addresses; 1 to 16 are allowed", self.bind.len()),
            );
        }
        if self.threads == 0 || self.threads > 64 {
            return refuse("threads", format!("{}; 1 to 64 are allowed", self.threads));
        }
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if let Some(name) = &self.lan_discovery
            && (name.len() > 15 || !name.chars().all(is_name))
        {
            let why = format!("`{name}`; up to 15 of a-z, 0-9 and - are allowed, nothing is off");
            return refuse("lan_discovery", why);
        }
        Ok(())
    }
}

impl ConfigLayer {
    /// Reads a file.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        toml::from_str(&text).map_err(|source| ConfigError::Malformed {
            path: path.to_owned(),
            source: Box::new(source),
        })
    }
}

/// Where the socket of an agent with this folder is, unless told otherwise.
pub fn socket_of(data_dir: &Path) -> PathBuf {
    if data_dir == Path::new(DATA_DIR) {
        SOCKET.into()
    } else {
        data_dir.join("lab.sock")
    }
}

/// Every address of both families.
pub fn everywhere() -> Vec<SocketAddr> {
    vec![
        SocketAddr::from(([0; 4], PORT)),
        SocketAddr::from(([0u16; 8], PORT)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(text: &str) -> ConfigLayer {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn what_nobody_says_is_built_in() {
        let config =
            DaemonConfig::from_layers(ConfigLayer::default(), ConfigLayer::default()).unwrap();
        let expected = DaemonConfig {
            data_dir: "/var/lib/lab".into(),
            socket: "/run/lab/lab.sock".into(),
            socket_group: "lab".into(),
            bind: vec![
                "0.0.0.0:4747".parse().unwrap(),
                "[::]:4747".parse().unwrap(),
            ],
            root: "/".into(),
            lan_discovery: Some("lab".into()),
            allow_faults: false,
            remote_api: true,
            threads: 1,
            log: "info".into(),
        };
        assert_eq!(config, expected);
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_what_is_built_in() {
        let file = layer(
            "data_dir = \"/srv/lab\"\nbind = [\"10.0.0.1:1\"]\nthreads = 2\nlan_discovery = \"\"",
        );
        let flags = ConfigLayer {
            threads: Some(3),
            ..ConfigLayer::default()
        };

        let config = DaemonConfig::from_layers(file, flags).unwrap();

        assert_eq!(config.data_dir, Path::new("/srv/lab"));
        assert_eq!(config.socket, Path::new("/srv/lab/lab.sock"));
        assert_eq!(config.bind, ["10.0.0.1:1".parse().unwrap()]);
        assert_eq!(config.threads, 3);
        assert_eq!(config.lan_discovery, None);
    }

    #[test]
    fn a_folder_named_by_a_flag_brings_its_socket() {
        let file = || layer("socket = \"/run/lab/other.sock\"");
        let flags = ConfigLayer {
            data_dir: Some("/tmp/n1".into()),
            ..ConfigLayer::default()
        };

        let usual = DaemonConfig::from_layers(file(), ConfigLayer::default()).unwrap();
        let named = DaemonConfig::from_layers(file(), flags).unwrap();

        assert_eq!(usual.socket, Path::new("/run/lab/other.sock"));
        assert_eq!(named.socket, Path::new("/tmp/n1/lab.sock"));
    }

    #[test]
    fn an_unknown_key_and_a_wrong_type_are_errors_that_show_where() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lab.toml");
        for (text, expected) in [
            ("thread = 2", "unknown field `thread`"),
            ("threads = \"two\"", "invalid type"),
            ("bind = [\"everywhere\"]", "invalid socket address"),
            ("threads = 1\nthreads = 2", "duplicate key"),
            ("threads", "TOML parse error at line 1"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = DaemonConfig::load(Some(&path), ConfigLayer::default()).unwrap_err();
            let ConfigError::Malformed { source, .. } = error else {
                panic!("{error:?}")
            };
            assert!(source.to_string().contains(expected), "{source}");
            assert!(source.span().is_some());
        }
    }

    #[test]
    fn a_named_file_must_be_there() {
        let error =
            DaemonConfig::load(Some(Path::new("/nowhere/lab.toml")), ConfigLayer::default());
        assert!(matches!(error, Err(ConfigError::Read { .. })));
    }

    #[test]
    fn values_out_of_range_are_refused() {
        let long = format!("socket = \"/{}\"", "x".repeat(107));
        for text in [
            "threads = 0",
            "threads = 65",
            "bind = []",
            "root = \"srv\"",
            "lan_discovery = \"_lab._udp\"",
            &long,
        ] {
            let result = DaemonConfig::from_layers(layer(text), ConfigLayer::default());
            assert!(matches!(result, Err(ConfigError::Value { .. })), "{text}");
        }
    }
}
