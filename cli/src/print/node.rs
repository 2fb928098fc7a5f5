//! `lab node list` and `lab node show`.

use lab_crdt_model::fact::{Disk, Interface};
use lab_crdt_model::report::Facts;
use lab_crdt_model::time::age;
use serde_json::{Value as Json, json};

use super::status::{pillar, seen};
use super::table::{Cell, Table};
use super::{Report, Style};
use crate::view::node::{NodeRow, NodeView};

/// Machines.
pub(crate) struct NodeList(pub(crate) Vec<NodeRow>);

impl Report for NodeList {
    fn schema(&self) -> &'static str {
        "lab.nodes/v1"
    }

    fn data(&self) -> Json {
        json!(self.0)
    }

    fn names(&self) -> Vec<String> {
        self.0.iter().map(|row| row.name.clone()).collect()
    }

    fn text(&self, style: &Style) -> String {
        let mut table = Table::new([
            "NAME", "PROVIDER", "PROFILE", "SEEN", "SYNC", "STATE", "IDENTITY", "AGENT", "ADDRESS",
            "LABELS",
        ]);
        for row in &self.0 {
            let wide = |text: Option<&String>| {
                if style.is_wide {
                    Cell::or_dash(text)
                } else {
                    Cell::default()
                }
            };
            table.row([
                row.name.as_str().into(),
                wide(row.provider.as_ref()),
                wide(row.profile.as_ref()),
                seen(row.seen_s),
                pillar(&row.sync),
                row.state.into(),
                pillar(&row.identity),
                wide(row.agent.as_ref()),
                wide(row.address.as_ref()),
                row.labels.join(" ").into(),
            ]);
        }
        table.render(style)
    }
}

impl Report for NodeView {
    fn schema(&self) -> &'static str {
        "lab.node/v1"
    }

    fn data(&self) -> Json {
        json!(self)
    }

    fn names(&self) -> Vec<String> {
        vec![self.row.name.clone()]
    }

    fn text(&self, style: &Style) -> String {
        let row = &self.row;
        let me = if row.is_me { " (this machine)" } else { "" };
        let mut out = format!("{}{me}\n", style.paint.bold(&row.name));
        let mut table = Table::new(["", ""]);
        let mut line = |key: &str, value: Option<String>| {
            if let Some(value) = value.filter(|v| !v.is_empty()) {
                table.row([format!("  {key}").into(), value.into()]);
            }
        };
        line("id", row.id.clone());
        line("state", Some(row.state.to_owned()));
        line("joined", self.joined_at.clone());
        line("seen", row.seen_s.map(|s| format!("{} ago", age(s * 1000))));
        let since = age(self.liveness_s * 1000);
        line(
            "liveness",
            row.id
                .as_ref()
                .map(|_| format!("{} for {since}", self.liveness)),
        );
        line("links", self.link_count.map(|n| n.to_string()));
        line("addresses", Some(self.addresses.join(" ")));
        line("labels", Some(row.labels.join(" ")));
        line("groups", Some(prefixed(&self.groups)));
        for (key, value) in &self.declared {
            line(key, Some(value.clone()));
        }
        line("agent", row.agent.clone());
        if let Some(facts) = &self.facts {
            let machine = &facts.machine;
            line("host name", Some(facts.hostname.clone()));
            let system = [&facts.os_name, &facts.os_version, &facts.arch];
            line("system", Some(words(system)));
            line("kernel", Some(facts.kernel.clone()));
            line("machine", Some(words([&machine.vendor, &machine.product])));
            line("virtual", Some(machine.virtualization.clone()));
            line("firmware", Some(machine.firmware.clone()));
            line("processor", Some(processor(facts)));
            line("memory", Some(size(facts.memory_bytes)));
            let root = Some(machine.root_bytes).filter(|bytes| *bytes > 0);
            line("root disk", root.map(size));
            for disk in &machine.disks {
                line("disk", Some(disk_text(disk)));
            }
            for interface in &machine.interfaces {
                line("network", Some(interface_text(interface)));
            }
            for gpu in &machine.gpus {
                line("graphics", Some(words([&gpu.vendor, &gpu.id])));
            }
        }
        let sync = [vec![row.sync.text()], row.sync.detail.clone()]
            .concat()
            .join(": ");
        line("sync", Some(sync));
        line("identity", Some(row.identity.text()));
        line("resources", self.resource_count.map(|n| n.to_string()));
        for resource in &self.resources {
            let state = format!("{:?}", resource.state).to_lowercase();
            let text = if resource.message.is_empty() {
                state
            } else {
                format!("{state}: {}", resource.message)
            };
            line(&resource.name, Some(text));
        }
        out += &table.render(style);
        out
    }
}

/// What there is of `parts`.
fn words<const N: usize>(parts: [&String; N]) -> String {
    let parts = parts.into_iter().map(String::as_str);
    let parts: Vec<_> = parts.filter(|part| !part.is_empty()).collect();
    parts.join(" ")
}

fn processor(facts: &Facts) -> String {
    let machine = &facts.machine;
    let threads = facts.cpu_count;
    let count = match machine.core_count {
        0 => threads.to_string(),
        cores if cores == threads => format!("{cores} cores"),
        cores => format!("{cores} cores, {threads} threads"),
    };
    let name = if machine.cpu_model.is_empty() {
        &machine.cpu_vendor
    } else {
        &machine.cpu_model
    };
    words([&count, name])
}

fn disk_text(disk: &Disk) -> String {
    let kind = match disk.is_rotational {
        Some(true) => "turning",
        Some(false) => "solid",
        None => "",
    };
    let (size, kind) = (size(disk.bytes), kind.to_owned());
    words([&disk.name, &size, &kind, &disk.model])
}

fn interface_text(interface: &Interface) -> String {
    let speed = match interface.speed_mbit {
        0 => String::new(),
        mbit => format!("{mbit} Mbit/s"),
    };
    words([&interface.name, &interface.mac, &speed])
}

fn prefixed(groups: &[String]) -> String {
    groups
        .iter()
        .map(|g| format!("@{g}"))
        .collect::<Vec<_>>()
        .join(" ")
}

fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    UNITS.iter().find(|(_, unit)| bytes >= *unit).map_or_else(
        || format!("{bytes} B"),
        |(name, unit)| {
            let tenths = bytes.saturating_mul(10) / unit;
            if tenths.is_multiple_of(10) {
                format!("{} {name}", tenths / 10)
            } else {
                format!("{}.{} {name}", tenths / 10, tenths % 10)
            }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::sample;

    #[test]
    fn a_machine_is_shown_with_all_that_is_known() {
        let picture = sample::fleet().born("b", "role=web").in_sync("b").picture();
        let view = NodeView::new(&picture, picture.machine("b").unwrap());
        let text = view.text(&Style::plain());
        for part in [
            "b\n",
            "state",
            "member",
            "role=web",
            "sync",
            "ok",
            "alive for 50s",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn what_a_machine_is_made_of_is_listed_and_what_it_does_not_tell_left_out() {
        let picture = sample::fleet().picture();
        let mut view = NodeView::new(&picture, picture.machine("b").unwrap());
        let mut facts = Facts {
            os_name: "debian".into(),
            arch: "arm64".into(),
            cpu_count: 8,
            memory_bytes: 16 << 30,
            ..Facts::default()
        };
        view.facts = Some(facts.clone());
        let text = view.text(&Style::plain());
        assert!(
            text.contains("debian arm64") && !text.contains("virtual"),
            "{text}"
        );

        facts.machine.virtualization = "none".into();
        facts.machine.product = "NUC8i5BEH".into();
        facts.machine.cpu_model = "i5-8259U".into();
        facts.machine.core_count = 4;
        facts.machine.root_bytes = 32 << 30;
        facts.machine.disks = vec![Disk {
            name: "sda".into(),
            model: "WD40".into(),
            bytes: 4 << 30,
            is_rotational: Some(true),
        }];
        facts.machine.interfaces = vec![Interface {
            name: "eno1".into(),
            mac: "94:c6:91:00:00:01".into(),
            speed_mbit: 1000,
        }];
        view.facts = Some(facts);
        let text = view.text(&Style::plain());
        for part in [
            "NUC8i5BEH",
            "none",
            "4 cores, 8 threads i5-8259U",
            "32 GiB",
            "sda 4 GiB turning WD40",
            "eno1 94:c6:91:00:00:01 1000 Mbit/s",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let data = view.data();
        assert_eq!(data["facts"]["machine"]["disks"][0]["name"], "sda");
    }

    #[test]
    fn what_was_never_reported_is_a_dash() {
        let picture = sample::fleet().set_true("node/new1").picture();
        let row = NodeRow::new(&picture, picture.machine("new1").unwrap());
        let text = NodeList(vec![row]).text(&Style::plain());
        assert_eq!(
            text.lines().nth(1).unwrap(),
            "new1  -     absent  declared, never joined  none"
        );
    }

    #[test]
    fn sizes_read_as_people_say_them() {
        assert_eq!(size(16 << 30), "16 GiB");
        assert_eq!(size(3 << 29), "1.5 GiB");
        assert_eq!(size(12), "12 B");
    }
}
