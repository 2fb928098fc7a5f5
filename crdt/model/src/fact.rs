//! What a machine is made of, and what its facts are called in queries and templates.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::report::Facts;

/// The names of all facts, sorted.
pub const FACT_KEYS: [&str; 24] = [
    "fact.arch",
    "fact.cpu.cores",
    "fact.cpu.model",
    "fact.cpu.physical",
    "fact.cpu.vendor",
    "fact.disk.count",
    "fact.disk.model",
    "fact.disk.name",
    "fact.disk.size",
    "fact.disk.total",
    "fact.firmware",
    "fact.gpu",
    "fact.gpu.id",
    "fact.hostname",
    "fact.kernel",
    "fact.mem.total",
    "fact.net.mac",
    "fact.net.name",
    "fact.net.speed",
    "fact.os.name",
    "fact.os.version",
    "fact.product",
    "fact.vendor",
    "fact.virt",
];

/// What the machine is made of. What it does not tell is empty or zero. Nothing here changes by itself, or every
/// node would report all the time; and nothing here tells one machine from its twins but the addresses it shows anyway.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Machine {
    /// `kvm`, `vmware`, `docker`, …; `none` for hardware.
    pub virtualization: String,
    /// Who made it.
    pub vendor: String,
    /// What its maker calls it.
    pub product: String,
    /// How it starts: `uefi` or `bios`.
    pub firmware: String,
    /// `intel`, `amd`, `arm`, …
    pub cpu_vendor: String,
    /// What its maker calls the processor.
    pub cpu_model: String,
    /// Physical cores; each may be several logical processors.
    pub core_count: u32,
    /// Bytes of the partition or volume that the root file system is on.
    pub root_bytes: u64,
    /// Disks that stay in the machine, by name.
    pub disks: Vec<Disk>,
    /// Network interfaces that have a device behind them, by name.
    pub interfaces: Vec<Interface>,
    /// What can drive a screen.
    pub gpus: Vec<Gpu>,
}

/// A disk.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct Disk {
    /// `sda`, `nvme0n1`, …
    pub name: String,
    /// What its maker calls it.
    pub model: String,
    /// Its size.
    pub bytes: u64,
    /// Whether it turns, as far as it says.
    pub is_rotational: Option<bool>,
}

/// A network interface.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct Interface {
    /// `eth0`, …
    pub name: String,
    /// The address that it was made with; empty if it shows another.
    pub mac: String,
    /// Megabits per second of the link; 0 if it is down or does not say.
    pub speed_mbit: u32,
}

/// A graphics processor.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct Gpu {
    /// `nvidia`, `amd`, `intel`, …, or the name of its driver.
    pub vendor: String,
    /// Its PCI id, `10de:2204`; empty if it is on another bus.
    pub id: String,
}

impl Facts {
    /// Every fact that has a value, by its name; some have several.
    pub fn attrs(&self) -> impl Iterator<Item = (&'static str, String)> {
        let number = |n: u64| {
            if n == 0 { String::new() } else { n.to_string() }
        };
        let machine = &self.machine;
        let is_told = *machine != Machine::default();
        let mut all = vec![
            ("fact.arch", self.arch.clone()),
            ("fact.cpu.cores", self.cpu_count.to_string()),
            ("fact.cpu.model", machine.cpu_model.clone()),
            ("fact.cpu.physical", number(machine.core_count.into())),
            ("fact.cpu.vendor", machine.cpu_vendor.clone()),
            ("fact.disk.total", number(machine.root_bytes)),
            ("fact.firmware", machine.firmware.clone()),
            ("fact.hostname", self.hostname.clone()),
            ("fact.kernel", self.kernel.clone()),
            ("fact.mem.total", self.memory_bytes.to_string()),
            ("fact.os.name", self.os_name.clone()),
            ("fact.os.version", self.os_version.clone()),
            ("fact.product", machine.product.clone()),
            ("fact.vendor", machine.vendor.clone()),
            ("fact.virt", machine.virtualization.clone()),
        ];
        if is_told {
            all.push(("fact.disk.count", machine.disks.len().to_string()));
        }
        for disk in &machine.disks {
            all.push(("fact.disk.model", disk.model.clone()));
            all.push(("fact.disk.name", disk.name.clone()));
            all.push(("fact.disk.size", number(disk.bytes)));
        }
        for interface in &machine.interfaces {
            all.push(("fact.net.mac", interface.mac.clone()));
            all.push(("fact.net.name", interface.name.clone()));
            all.push(("fact.net.speed", number(interface.speed_mbit.into())));
        }
        for gpu in &machine.gpus {
            all.push(("fact.gpu", gpu.vendor.clone()));
            all.push(("fact.gpu.id", gpu.id.clone()));
        }
        all.into_iter().filter(|(_, value)| !value.is_empty())
    }
}

/// What queries and templates can say about a node, by name: the words of its declaration, its program and
/// addresses, its facts. The same for the node itself and for whoever reads its reports.
pub fn attrs<'a>(
    declared: impl IntoIterator<Item = (&'a str, &'a str)>,
    program: Option<&str>,
    addresses: &[SocketAddr],
    facts: Option<&Facts>,
) -> BTreeMap<String, Vec<String>> {
    let mut attrs: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut put = |key: String, value: String| {
        if !value.is_empty() {
            attrs.entry(key).or_default().push(value);
        }
    };
    for (key, value) in declared {
        if ["provider", "profile", "host", "mac", "image"].contains(&key) {
            put(format!("node.{key}"), value.to_owned());
        }
    }
    if let Some(version) = program {
        put("node.agent".to_owned(), version.to_owned());
    }
    let mut ips: Vec<IpAddr> = addresses.iter().map(SocketAddr::ip).collect();
    ips.sort();
    ips.dedup();
    for ip in ips {
        put("node.ip".to_owned(), ip.to_string());
    }
    for (key, value) in facts.into_iter().flat_map(Facts::attrs) {
        put(key.to_owned(), value);
    }
    attrs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole() -> Facts {
        let text = || "x".to_owned();
        Facts {
            hostname: text(),
            os_name: text(),
            os_version: text(),
            kernel: text(),
            arch: text(),
            cpu_count: 8,
            memory_bytes: 1,
            machine: Machine {
                virtualization: text(),
                vendor: text(),
                product: text(),
                firmware: text(),
                cpu_vendor: text(),
                cpu_model: text(),
                core_count: 4,
                root_bytes: 1,
                disks: vec![
                    Disk {
                        name: "sda".into(),
                        model: text(),
                        bytes: 1,
                        is_rotational: Some(true),
                    },
                    Disk {
                        name: "sdb".into(),
                        ..Disk::default()
                    },
                ],
                interfaces: vec![Interface {
                    name: text(),
                    mac: text(),
                    speed_mbit: 1000,
                }],
                gpus: vec![Gpu {
                    vendor: text(),
                    id: text(),
                }],
            },
        }
    }

    #[test]
    fn every_fact_has_a_name_that_is_known() {
        let mut names: Vec<_> = whole().attrs().map(|(key, _)| key).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names, FACT_KEYS);
    }

    #[test]
    fn what_a_machine_did_not_tell_has_no_value() {
        let names: Vec<_> = Facts::default().attrs().map(|(key, _)| key).collect();
        assert_eq!(names, ["fact.cpu.cores", "fact.mem.total"]);
    }

    #[test]
    fn a_node_has_the_words_of_its_declaration_and_every_value_of_a_fact() {
        let declared = [("provider", "proxmox"), ("labels", "x"), ("host", "")];
        let addresses = ["10.0.0.2:1", "10.0.0.1:1", "10.0.0.2:2"].map(|a| a.parse().unwrap());
        let attrs = attrs(declared, Some("0.1.0"), &addresses, Some(&whole()));
        assert_eq!(attrs["node.provider"], ["proxmox"]);
        assert_eq!(attrs["node.agent"], ["0.1.0"]);
        assert_eq!(attrs["node.ip"], ["10.0.0.1", "10.0.0.2"]);
        assert_eq!(attrs["fact.disk.name"], ["sda", "sdb"]);
        assert_eq!(attrs["fact.disk.count"], ["2"]);
        assert!(!attrs.contains_key("node.labels") && !attrs.contains_key("node.host"));
    }

    #[test]
    fn earlier_and_later_programs_read_each_others_facts() {
        let facts = whole();
        let now = postcard::to_stdvec(&facts).unwrap();
        let first = Facts {
            machine: Machine::default(),
            ..facts.clone()
        };
        let machine = postcard::to_stdvec(&first.machine).unwrap();
        let earlier = postcard::to_stdvec(&first).unwrap();
        let earlier = &earlier[..earlier.len() - machine.len()];
        assert!(now.starts_with(earlier));
        let later = [&now[..], b"more"].concat();

        assert_eq!(postcard::from_bytes(earlier), Ok(first.clone()));
        assert_eq!(postcard::from_bytes(&now), Ok(facts.clone()));
        assert_eq!(postcard::from_bytes(&later), Ok(facts));
        for end in earlier.len()..now.len() {
            assert_eq!(
                postcard::from_bytes(&now[..end]),
                Ok(first.clone()),
                "{end}"
            );
        }
    }
}
