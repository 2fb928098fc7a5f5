//! Tells the service manager how we are, in the protocol of `sd_notify(3)`.
//!
//! One datagram per message to the socket that the manager named. Without a manager every call does nothing;
//! a message that cannot be delivered is lost, which the manager notices by its own watchdog.

use std::ffi::OsString;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Where to send.
#[derive(Debug)]
pub(crate) struct Notifier {
    target: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// Reads the manager's variables: `NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`.
    pub(crate) fn from_manager() -> Self {
        // They address this process rather than configure it, so that no registry of settings lists them.
        let number = |name| std::env::var_os(name)?.to_str()?.parse::<u64>().ok();
        let is_ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC")
            .filter(|_| is_ours)
            .map(Duration::from_micros);
        Self::new(std::env::var_os("NOTIFY_SOCKET"), watchdog)
    }

    fn new(socket: Option<OsString>, watchdog: Option<Duration>) -> Self {
        let target = socket.and_then(|name| {
            let address = match name.as_bytes().split_first()? {
                (b'@', name) => SocketAddr::from_abstract_name(name).ok()?,
                _ => SocketAddr::from_pathname(&name).ok()?,
            };
            let socket = UnixDatagram::unbound().ok()?;
            // A manager that does not read must not hold up the loop.
            socket.set_nonblocking(true).ok()?;
            Some((socket, address))
        });
        Self { target, watchdog }
    }

    /// How often the manager wants to hear [`Self::alive`], halved for safety; `None` if it does not.
    pub(crate) fn alive_interval(&self) -> Option<Duration> {
        self.target
            .as_ref()
            .and(self.watchdog)
            .map(|interval| interval / 2)
    }

    /// The agent answers and takes part in the mesh.
    pub(crate) fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={}", status.replace('\n', " ")));
    }

    /// The loop turns.
    pub(crate) fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    /// The agent was asked to stop and does.
    pub(crate) fn stopping(&self) {
        self.send("STOPPING=1");
    }

    fn send(&self, text: &str) {
        if let Some((socket, address)) = &self.target
            && let Err(error) = socket.send_to_addr(text.as_bytes(), address)
        {
            tracing::debug!(why = %error, "the service manager was not told");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manager_hears_every_message() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier::new(Some(path.into()), Some(Duration::from_secs(60)));

        notifier.ready("2 peers\nlinked");
        notifier.alive();
        notifier.stopping();

        let mut heard = Vec::new();
        for _ in 0..3 {
            let mut buffer = [0; 100];
            let length = manager.recv(&mut buffer).unwrap();
            heard.push(String::from_utf8(buffer[..length].to_vec()).unwrap());
        }
        assert_eq!(
            heard,
            ["READY=1\nSTATUS=2 peers linked", "WATCHDOG=1", "STOPPING=1"]
        );
        assert_eq!(notifier.alive_interval(), Some(Duration::from_secs(30)));
    }

    #[test]
    fn without_a_manager_nothing_happens() {
        for socket in [None, Some(OsString::new()), Some("/nowhere/at/all".into())] {
            let notifier = Notifier::new(socket, None);
            notifier.ready("");
            notifier.alive();
            assert_eq!(notifier.alive_interval(), None);
        }
    }
}
