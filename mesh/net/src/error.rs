//! Why the driver could not start.

use std::net::SocketAddr;

/// Why links cannot be had on this machine.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The operator's or the machine's fault: the port is taken or the address is not ours. Nothing
    /// was started; free the port or choose another one.
    #[error("listen on {addresses:?}: {why}")]
    Bind {
        /// Where we wanted to listen.
        addresses: Vec<SocketAddr>,
        /// What iroh said.
        why: String,
    },
    /// The machine's fault: it has no multicast. Nothing was started; start without local
    /// discovery.
    #[error("look for nodes on the local network as {service}: {why}")]
    Discovery {
        /// Name of the service.
        service: String,
        /// What iroh said.
        why: String,
    },
}
