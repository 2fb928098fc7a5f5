//! What the driver is told at its start.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// How to run the links of one node.
#[derive(Clone)]
pub struct NetConfig {
    /// The node's Ed25519 secret key; its public key is the node's id.
    pub secret_key: [u8; 32],
    /// Where to listen. The first of each family also routes whatever no other one fits. Port 0
    /// takes a free one. Default: any address of both families; IPv6 may be missing on the machine.
    pub bind: Vec<SocketAddr>,
    /// Name of the mDNS service under which nodes of this mesh find each other on the local
    /// network. `None`, the default, sends and answers no multicast.
    pub lan_discovery: Option<String>,
    /// Whether devices may ask over the remote API. Default no; without it, nobody is told that there is one.
    pub remote_api: bool,
    /// How long a device's connection may carry nothing before it is closed, milliseconds. Default 30,000.
    pub api_idle_ms: u64,
    /// How long a dial may take over all addresses together, milliseconds. Default 4000: QUIC alone
    /// would wait 30 s for an address where nobody listens.
    pub dial_ms_max: u64,
    /// Most join links that strangers may hold open. Default 16; half of them from one address.
    pub join_links_max: usize,
    /// How long a stranger's join link may live, milliseconds. Default 30,000.
    pub join_ms_max: u64,
    /// Most bytes that wait on the control lane of one link. Default 1 MiB.
    pub control_queue_bytes_max: usize,
    /// Most bytes that wait on the bulk lane of one link. Default 8 MiB: a welcome into a large
    /// mesh is handed over at once.
    pub bulk_queue_bytes_max: usize,
}

impl NetConfig {
    /// The defaults, for a key.
    pub const fn new(secret_key: [u8; 32]) -> Self {
        Self {
            secret_key,
            bind: Vec::new(),
            lan_discovery: None,
            remote_api: false,
            api_idle_ms: 30_000,
            dial_ms_max: 4_000,
            join_links_max: 16,
            join_ms_max: 30_000,
            control_queue_bytes_max: 1 << 20,
            bulk_queue_bytes_max: 8 << 20,
        }
    }

    /// Where to listen, with the default filled in, and whether it must succeed.
    pub(crate) fn sockets(&self) -> Vec<(SocketAddr, bool)> {
        if self.bind.is_empty() {
            return vec![
                (SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)), true),
                (SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)), false),
            ];
        }
        self.bind.iter().map(|address| (*address, true)).collect()
    }

    /// Whether nobody but this machine can reach us.
    pub(crate) fn is_loopback_only(&self) -> bool {
        !self.bind.is_empty() && self.bind.iter().all(|address| address.ip().is_loopback())
    }
}

impl fmt::Debug for NetConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NetConfig")
            .field("bind", &self.bind)
            .field("lan_discovery", &self.lan_discovery)
            .field("dial_ms_max", &self.dial_ms_max)
            .field("join_links_max", &self.join_links_max)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_key_is_not_printed() {
        let text = format!("{:?}", NetConfig::new([173; 32]));
        assert!(!text.contains("173"), "{text}");
    }

    #[test]
    fn any_address_is_not_loopback() {
        let mut config = NetConfig::new([1; 32]);
        assert!(!config.is_loopback_only());
        config.bind = vec!["127.0.0.1:0".parse().unwrap()];
        assert!(config.is_loopback_only());
        config.bind.push("10.0.0.1:0".parse().unwrap());
        assert!(!config.is_loopback_only());
    }
}
