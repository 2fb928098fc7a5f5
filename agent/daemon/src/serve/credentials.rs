//! Who may use the socket.
//!
//! The mode of the socket keeps others out before they connect; this is the second look, at who the kernel says is
//! on the other end, so that a socket whose mode someone loosened stays closed.

use tonic::transport::server::UdsConnectInfo;
use tonic::{Request, Status};

use crate::accounts::Accounts;

/// Users that are let in.
#[derive(Clone, Debug)]
pub(crate) struct Admission {
    /// The user the agent runs as.
    pub(crate) own_uid: u32,
    /// The group of the socket, if it was given to one.
    pub(crate) gid: Option<u32>,
    /// Where members of the group are listed.
    pub(crate) accounts: Accounts,
}

impl Admission {
    /// Checks the other end of a call's connection.
    pub(crate) fn check(&self, request: &Request<()>) -> Result<(), Status> {
        let peer = request
            .extensions()
            .get::<UdsConnectInfo>()
            .and_then(|info| info.peer_cred);
        let Some(peer) = peer else {
            return Err(Status::permission_denied(
                "the other end of the socket is not known",
            ));
        };
        if self.admits(peer.uid(), peer.gid()) {
            return Ok(());
        }
        let group = self
            .gid
            .map_or_else(String::new, |gid| format!(" or a member of group {gid}"));
        let why = format!(
            "user {} is neither root nor the agent's own user{group}",
            peer.uid()
        );
        Err(Status::permission_denied(why))
    }

    fn admits(&self, uid: u32, gid: u32) -> bool {
        uid == 0
            || uid == self.own_uid
            || self
                .gid
                .is_some_and(|group| gid == group || self.accounts.is_member(uid, group))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_the_agents_user_and_the_group_are_let_in_and_nobody_else() {
        let etc = tempfile::tempdir().unwrap();
        std::fs::write(etc.path().join("passwd"), "alice:x:1000:1000::/:/bin/sh\n").unwrap();
        std::fs::write(etc.path().join("group"), "lab:x:55:alice\n").unwrap();
        let accounts = Accounts::in_folder(etc.path());
        let with_group = Admission {
            own_uid: 900,
            gid: Some(55),
            accounts: accounts.clone(),
        };
        let without = Admission {
            own_uid: 900,
            gid: None,
            accounts,
        };

        for (uid, gid, is_in, is_in_without) in [
            (0, 0, true, true),
            (900, 900, true, true),
            (1000, 1000, true, false),
            (1001, 55, true, false),
            (1001, 1001, false, false),
            (1001, 900, false, false),
        ] {
            assert_eq!(with_group.admits(uid, gid), is_in, "{uid}:{gid}");
            assert_eq!(without.admits(uid, gid), is_in_without, "{uid}:{gid}");
        }
    }

    #[test]
    fn a_call_of_nobody_is_refused() {
        let admission = Admission {
            own_uid: 0,
            gid: None,
            accounts: Accounts::system(),
        };
        assert_eq!(
            admission.check(&Request::new(())).unwrap_err().code(),
            tonic::Code::PermissionDenied
        );
    }
}
