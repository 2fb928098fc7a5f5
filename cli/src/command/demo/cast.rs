//! Who plays: the machines of the example fleet, and a person's laptop.

use std::path::Path;

use lab_agent_api::Client;
use lab_crdt_model::NodeId;
use tokio::process::Child;

/// The laptop's name.
pub(super) const LAPTOP: &str = "bob-laptop";

/// One machine of the demo.
#[derive(Debug)]
pub(super) struct Machine {
    /// Its name, and that of its folder.
    pub(super) name: String,
    /// Labels that it gets when it joins.
    pub(super) labels: &'static [&'static str],
    /// Its agent, while one runs.
    pub(super) agent: Option<Child>,
    /// The way to ask it, while it runs.
    pub(super) client: Option<Client>,
    /// Its id, once it has run.
    pub(super) id: Option<NodeId>,
}

impl Machine {
    fn new(name: &str, labels: &'static [&'static str]) -> Self {
        Self {
            name: name.to_owned(),
            labels,
            agent: None,
            client: None,
            id: None,
        }
    }

    /// Whether it is a machine of the fleet; the other one is the laptop.
    pub(super) fn is_node(&self) -> bool {
        self.name != LAPTOP
    }

    /// Whether its agent should be running.
    pub(super) const fn is_up(&self) -> bool {
        self.agent.is_some()
    }

    /// Memory that its agent occupies, KiB.
    pub(super) fn memory_kib(&self) -> Option<u64> {
        let pid = self.agent.as_ref()?.id()?;
        let status = std::fs::read_to_string(Path::new("/proc").join(format!("{pid}/status")));
        let status = status.ok()?;
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
        line.trim().strip_suffix("kB")?.trim().parse().ok()
    }
}

/// `nodes` machines, at least three, and the laptop last. The first one founds the mesh, the last machine is the one
/// that gets cut off, the one before it the one that crashes.
pub(super) fn machines(nodes: u16) -> Vec<Machine> {
    let mut out = vec![Machine::new("nas1", &["site=home", "role=storage"])];
    out.extend((1..nodes.saturating_sub(1)).map(|i| {
        let labels: &[&str] = match i {
            2 => &["site=attic", "role=web"],
            3 => &["site=home", "role=db"],
            _ => &["site=home", "role=web"],
        };
        Machine::new(&format!("nuc{i}"), labels)
    }));
    out.push(Machine::new("pi1", &["site=attic", "role=dns"]));
    out.push(Machine::new(LAPTOP, &[]));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(nodes: u16) -> Vec<String> {
        machines(nodes).into_iter().map(|m| m.name).collect()
    }

    #[test]
    fn five_machines_are_called_as_in_the_example_fleet() {
        let five = ["nas1", "nuc1", "nuc2", "nuc3", "pi1", "bob-laptop"];
        assert_eq!(names(5), five);
        assert_eq!(names(3), ["nas1", "nuc1", "pi1", "bob-laptop"]);
        assert_eq!(names(9)[7..], ["nuc7", "pi1", "bob-laptop"]);
    }
}
