//! Who may use the socket.
//!
//! The mode of the socket keeps others out before they connect; this is the second look, at who the kernel says is
//! on the other end, so that a socket whose mode someone loosened stays closed.

use lab_agent_api::{Asker, Role};
use lab_crdt_model::Caller;
use tonic::codegen::http::Extensions;
use tonic::transport::server::UdsConnectInfo;

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
    /// Says who is on the other end of a call's connection, and as what.
    pub(crate) fn identify(&self, noted: &Extensions) -> Result<Asker, String> {
        let peer = noted
            .get::<UdsConnectInfo>()
            .and_then(|info| info.peer_cred)
            .ok_or("the other end of the socket is not known")?;
        let role = self.role(peer.uid(), peer.gid()).ok_or_else(|| {
            let group = self
                .gid
                .map_or_else(String::new, |gid| format!(" or a member of group {gid}"));
            format!(
                "user {} is neither root nor the agent's own user{group}",
                peer.uid()
            )
        })?;
        Ok(Asker {
            caller: Caller::Local { uid: peer.uid() },
            role,
        })
    }

    fn role(&self, uid: u32, gid: u32) -> Option<Role> {
        if uid == 0 || uid == self.own_uid {
            return Some(Role::Owner);
        }
        let group = self.gid?;
        (gid == group || self.accounts.is_member(uid, group)).then_some(Role::Group)
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

        let (owner, group) = (Some(Role::Owner), Some(Role::Group));
        for (uid, gid, role, role_without) in [
            (0, 0, owner, owner),
            (900, 900, owner, owner),
            (1000, 1000, group, None),
            (1001, 55, group, None),
            (1001, 1001, None, None),
            (1001, 900, None, None),
        ] {
            assert_eq!(with_group.role(uid, gid), role, "{uid}:{gid}");
            assert_eq!(without.role(uid, gid), role_without, "{uid}:{gid}");
        }
    }

    #[test]
    fn a_call_of_nobody_is_refused() {
        let admission = Admission {
            own_uid: 0,
            gid: None,
            accounts: Accounts::system(),
        };
        assert!(admission.identify(&Extensions::new()).is_err());
    }
}
