//! Who may ask an agent for what: one table, and nothing is answered without a row.

use lab_crdt_model::{AuthorId, Caller, Standing};

/// As what somebody asks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Role {
    /// Root, or the user that the agent runs as, at the socket.
    Owner,
    /// A member of the socket's group, at the socket.
    Group,
    /// A device with the key of an admin in force.
    Admin,
    /// A device with a key whose grant counts and is not over: an operator's, or a laptop user's.
    Operator,
    /// A device with the node key of a laptop.
    Laptop,
    /// A device with the node key of a machine.
    Node,
    /// Anybody else.
    Nobody,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 7] = [
        Self::Owner,
        Self::Group,
        Self::Admin,
        Self::Operator,
        Self::Laptop,
        Self::Node,
        Self::Nobody,
    ];

    /// Its name, for people.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Owner => "the agent's own user",
            Self::Group => "a member of the socket's group",
            Self::Admin => "an admin's device",
            Self::Operator => "an operator's device",
            Self::Laptop => "a laptop",
            Self::Node => "a machine",
            Self::Nobody => "a stranger",
        }
    }
}

/// Who asks, and as what; every call carries one before it is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Asker {
    /// Who.
    pub caller: Caller,
    /// As what.
    pub role: Role,
}

impl Asker {
    /// A device whose key stands like this at the moment; `None` is a stranger's.
    pub const fn device(key: AuthorId, standing: Option<Standing>) -> Self {
        let role = match standing {
            Some(Standing::Admin) => Role::Admin,
            Some(Standing::Operator) => Role::Operator,
            None => Role::Nobody,
        };
        Self {
            caller: Caller::Device(key),
            role,
        }
    }
}

/// One method, and who may ask it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Method {
    /// Its name in `proto/lab.proto`.
    pub name: &'static str,
    /// Who may; everybody else may not.
    pub roles: &'static [Role],
    /// Why, for people.
    pub why: &'static str,
}

const READERS: &[Role] = &[Role::Owner, Role::Group, Role::Admin, Role::Operator];

/// All methods.
///
/// Reads are not scoped: whoever holds an effective grant holds the whole replica, or could by letting a laptop join,
/// whatever the paths of the grant. The key of a node reads nothing here: a node has a replica of its own. A grant's
/// rights and paths decide what a statement may say, and each replica judges that again.
pub const METHODS: [Method; 9] = [
    Method {
        name: "Info",
        roles: READERS,
        why: "who answers is shown to those who may read the replica",
    },
    Method {
        name: "View",
        roles: READERS,
        why: "the replica is read by those who may say something in it",
    },
    Method {
        name: "Suppose",
        roles: READERS,
        why: "what a revocation would do follows from the replica",
    },
    Method {
        name: "Prepare",
        roles: READERS,
        why: "the end of a chain is part of the replica",
    },
    Method {
        name: "Root",
        roles: READERS,
        why: "the root record is part of the replica",
    },
    Method {
        name: "Submit",
        roles: READERS,
        why: "statements are signed by who says them; a device hands in only what its own key signed",
    },
    Method {
        name: "Audit",
        roles: READERS,
        why: "what a machine recorded is shown to those who may read the replica",
    },
    Method {
        name: "Watch",
        roles: READERS,
        why: "that the replica changed is known by reading it again and again",
    },
    Method {
        name: "Block",
        roles: &[Role::Owner],
        why: "faults are made by whoever could as well stop the agent",
    },
];

/// Looks up who asks for a path, as HTTP/2 carries it.
///
/// # Errors
/// Why not, for people: there is no such method, or it is not for this role.
pub(crate) fn judge(path: &str, role: Role) -> Result<&'static Method, String> {
    let name = path.strip_prefix("/lab.agent.v1.Agent/");
    let method = METHODS.iter().find(|method| Some(method.name) == name);
    let Some(method) = method else {
        return Err("there is no such method".to_owned());
    };
    if method.roles.contains(&role) {
        return Ok(method);
    }
    Err(format!(
        "{} may not ask for {}: {}",
        role.words(),
        method.name,
        method.why
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_of_the_interface_has_one_row_and_no_other_has() {
        let interface = include_str!("../proto/lab.proto");
        let methods = interface.lines().filter_map(|line| {
            let (name, _) = line.trim().strip_prefix("rpc ")?.split_once('(')?;
            Some(name)
        });
        let rows: Vec<&str> = METHODS.iter().map(|method| method.name).collect();
        assert_eq!(rows, methods.collect::<Vec<_>>());
    }

    #[test]
    fn a_method_without_a_row_is_for_nobody() {
        for path in [
            "/lab.agent.v1.Agent/Shutdown",
            "/lab.agent.v1.Other/Info",
            "/Info",
            "",
        ] {
            assert!(judge(path, Role::Owner).is_err(), "{path}");
        }
        assert!(judge("/lab.agent.v1.Agent/Info", Role::Owner).is_ok());
    }
}
