//! What this machine is.

mod machine;

use std::path::Path;

use lab_crdt_model::report::Facts;
use lab_crdt_model::{Hardware, Mac, hardware};

/// Longest text fact, bytes; longer ones are cut.
const TEXT_BYTES_MAX: usize = 256;

/// Reads the facts. What cannot be read stays empty or zero.
pub(crate) fn read() -> Facts {
    read_below(Path::new("/"))
}

/// Reads what this machine is made of: addresses of interfaces that have a device behind them and did not make theirs
/// up, and the first serial number that somebody filled in. Serial numbers are for the superuser's eyes on most machines.
pub(crate) fn hardware(root: &Path) -> Hardware {
    let text = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
    let folder = root.join("sys/class/net");
    let interfaces = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let macs = interfaces.map(|entry| entry.path()).filter_map(|of| {
        let is_own = matches!(text(&of.join("addr_assign_type")).trim(), "0" | "");
        let is_device = of.join("device").exists();
        let mac: Mac = text(&of.join("address")).trim().parse().ok()?;
        (is_own && is_device && mac != Mac([0; 6])).then_some(mac)
    });
    let serials = [
        "sys/class/dmi/id/product_serial",
        "sys/class/dmi/id/board_serial",
        "sys/class/dmi/id/chassis_serial",
        "proc/device-tree/serial-number",
    ];
    let serial = serials
        .into_iter()
        .map(|path| text(&root.join(path)))
        .map(|text| {
            text.trim_matches(|c: char| c.is_whitespace() || c == '\0')
                .to_owned()
        })
        .find(|serial| hardware::is_serial(serial) && !is_placeholder(serial));
    Hardware::new(macs, serial)
}

/// Whether a text is what makers leave who do not fill it in.
fn is_placeholder(text: &str) -> bool {
    let known = [
        "0",
        "none",
        "n/a",
        "default string",
        "not specified",
        "not applicable",
        "o.e.m.",
        "system manufacturer",
        "system product name",
        "system serial number",
        "to be filled by o.e.m.",
        "unknown",
    ];
    known.contains(&text.to_ascii_lowercase().as_str())
}

fn read_below(root: &Path) -> Facts {
    let text = |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_default();
    let os = ["etc/os-release", "usr/lib/os-release"]
        .map(text)
        .into_iter()
        .find(|t| !t.is_empty());
    let os = os.unwrap_or_default();
    Facts {
        hostname: tidy(&text("proc/sys/kernel/hostname")),
        os_name: os_value(&os, "ID").unwrap_or_else(|| "linux".to_owned()),
        os_version: os_value(&os, "VERSION_ID").unwrap_or_default(),
        kernel: tidy(&text("proc/sys/kernel/osrelease")),
        arch: arch(std::env::consts::ARCH).to_owned(),
        cpu_count: cpu_count(&text("sys/devices/system/cpu/online")),
        memory_bytes: memory_bytes(&text("proc/meminfo")),
        machine: machine::read(root),
    }
}

/// The value of a key of os-release, a list of shell assignments.
fn os_value(text: &str, key: &str) -> Option<String> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
    let line = line.trim();
    let quoted = ['"', '\'']
        .iter()
        .find_map(|q| line.strip_prefix(*q)?.strip_suffix(*q));
    Some(tidy(quoted.unwrap_or(line)))
}

/// Debian's names of architectures.
fn arch(rust: &str) -> &str {
    match rust {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "arm" => "armhf",
        "x86" => "i386",
        other => other,
    }
}

/// Counts a list such as `0-3,8`.
fn cpu_count(online: &str) -> u32 {
    let count = online.trim().split(',').try_fold(0u32, |count, part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        count.checked_add(last.checked_sub(first)?.checked_add(1)?)
    });
    count.unwrap_or_else(|| {
        std::thread::available_parallelism()
            .map_or(0, |n| u32::try_from(n.get()).unwrap_or(u32::MAX))
    })
}

/// Total memory, from lines such as `MemTotal:  16318412 kB`.
fn memory_bytes(meminfo: &str) -> u64 {
    let kib = meminfo.lines().find_map(|line| {
        line.strip_prefix("MemTotal:")?
            .trim()
            .strip_suffix("kB")?
            .trim()
            .parse::<u64>()
            .ok()
    });
    kib.unwrap_or(0).saturating_mul(1024)
}

fn tidy(text: &str) -> String {
    let mut tidy: String = text.trim().chars().filter(|c| !c.is_control()).collect();
    while tidy.len() > TEXT_BYTES_MAX {
        tidy.pop();
    }
    tidy
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_of_this_machine_are_not_empty() {
        let facts = read();
        assert!(!facts.hostname.is_empty());
        assert!(!facts.kernel.is_empty());
        assert!(!facts.arch.is_empty());
        assert!(facts.cpu_count > 0);
        assert!(facts.memory_bytes > 1 << 20);
    }

    #[test]
    fn facts_of_a_known_machine_read_as_written() {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in [
            (
                "usr/lib/os-release",
                "NAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\nID=debian\nID_LIKE=x\n",
            ),
            ("proc/sys/kernel/hostname", "nuc1\n"),
            ("proc/sys/kernel/osrelease", "6.1.0-18-amd64\n"),
            (
                "proc/meminfo",
                "MemTotal:       16318412 kB\nMemFree: 1 kB\n",
            ),
            ("sys/devices/system/cpu/online", "0-3,8\n"),
        ] {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }

        let facts = read_below(root.path());

        let expected = Facts {
            hostname: "nuc1".into(),
            os_name: "debian".into(),
            os_version: "12".into(),
            kernel: "6.1.0-18-amd64".into(),
            arch: arch(std::env::consts::ARCH).into(),
            cpu_count: 5,
            memory_bytes: 16_318_412 * 1024,
            machine: lab_crdt_model::fact::Machine::default(),
        };
        assert_eq!(facts, expected);
    }

    #[test]
    fn hardware_is_what_has_a_device_and_a_number_that_somebody_filled_in() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        assert_eq!(hardware(root.path()), Hardware::default());
        for (name, mac, kind, has_device) in [
            ("eth0", "52:54:00:12:34:56\n", "0\n", true),
            ("wlan0", "52:54:00:00:00:01\n", "3\n", true),
            ("lo", "00:00:00:00:00:00\n", "0\n", true),
            ("docker0", "02:42:00:00:00:01\n", "0\n", false),
            ("ib0", "80:00:00:48:fe:80:00:00\n", "0\n", true),
        ] {
            let of = format!("sys/class/net/{name}");
            write(&format!("{of}/address"), mac);
            write(&format!("{of}/addr_assign_type"), kind);
            if has_device {
                write(&format!("{of}/device/vendor"), "0x1af4\n");
            }
        }
        write(
            "sys/class/dmi/id/product_serial",
            "To Be Filled By O.E.M.\n",
        );
        write("sys/class/dmi/id/board_serial", "\u{1b}[2J\n");
        write("proc/device-tree/serial-number", "100000003d1d1c36\0");

        let machine = hardware(root.path());

        assert_eq!(machine.macs, ["52:54:00:12:34:56".parse::<Mac>().unwrap()]);
        assert_eq!(machine.serial.as_deref(), Some("100000003d1d1c36"));
    }

    #[test]
    fn strange_files_give_short_harmless_facts() {
        assert_eq!(memory_bytes("MemTotal: -5 kB"), 0);
        assert_eq!(memory_bytes("MemTotal: 99999999999999999 kB"), u64::MAX);
        assert!(cpu_count("4-1") > 0);
        assert!(cpu_count("0-4294967295") > 0);
        assert_eq!(tidy(&format!("\u{1b}[31m{}", "ü".repeat(1000))).len(), 256);
        assert_eq!(os_value("ID='arch'\n", "ID"), Some("arch".into()));
        assert_eq!(os_value("ID=\"", "ID"), Some("\"".into()));
    }
}
