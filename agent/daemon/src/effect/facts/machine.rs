//! What the machine is made of, from `/proc`, `/sys` and DMI below a root.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use lab_crdt_model::Mac;
use lab_crdt_model::fact::{Disk, Gpu, Interface, Machine};

use super::is_placeholder;

/// Longest text, bytes; longer ones are cut.
const TEXT_BYTES_MAX: usize = 128;
/// As much of a file is looked at: the first processor and the root file system stand near the beginning.
const FILE_BYTES_MAX: u64 = 64 * 1024;
const DISKS_MAX: usize = 64;
const INTERFACES_MAX: usize = 32;
const GPUS_MAX: usize = 16;
/// Processors, PCI devices and the like that are looked at.
const ENTRIES_MAX: usize = 4096;

/// Reads it. What cannot be read stays empty or zero.
pub(super) fn read(root: &Path) -> Machine {
    let cpu = text(&root.join("proc/cpuinfo"));
    let container = container(root);
    let is_container = container.is_some();
    let (vendor, product) = maker(root);
    let (cpu_vendor, cpu_model) = processor(&cpu);
    Machine {
        virtualization: container.unwrap_or_else(|| virtualization(root, &cpu)),
        vendor,
        product,
        firmware: firmware(root, is_container),
        cpu_vendor,
        cpu_model,
        core_count: core_count(root),
        root_bytes: root_bytes(root).unwrap_or(0),
        disks: disks(root),
        interfaces: interfaces(root),
        gpus: gpus(root),
    }
}

/// The beginning of a file; empty if there is none.
fn text(path: &Path) -> String {
    let mut bytes = Vec::new();
    // A pipe would make us wait for whoever writes into it.
    if path.is_file()
        && let Ok(file) = File::open(path)
        && file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).is_err()
    {
        bytes.clear();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The entries of a folder, by name.
fn entries(folder: &Path) -> Vec<(String, PathBuf)> {
    let found = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let named = found.filter_map(|e| Some((e.file_name().into_string().ok()?, e.path())));
    let mut all: Vec<_> = named.take(ENTRIES_MAX).collect();
    all.sort();
    all
}

/// One line without control characters and runs of spaces, cut.
fn tidy(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control());
    let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
    let mut tidy = words.join(" ");
    while tidy.len() > TEXT_BYTES_MAX {
        tidy.pop();
    }
    tidy
}

/// A text of DMI, if somebody filled it in.
fn dmi(root: &Path, name: &str) -> String {
    let text = tidy(&text(&root.join("sys/class/dmi/id").join(name)));
    if is_placeholder(&text) {
        String::new()
    } else {
        text
    }
}

/// Who made the machine, and what they call it. Boards without DMI say it in their device tree.
fn maker(root: &Path) -> (String, String) {
    let first = |names: [&str; 2]| {
        let mut all = names.into_iter().map(|name| dmi(root, name));
        all.find(|text| !text.is_empty()).unwrap_or_default()
    };
    let (vendor, product) = (
        first(["sys_vendor", "board_vendor"]),
        first(["product_name", "board_name"]),
    );
    if !vendor.is_empty() || !product.is_empty() {
        return (vendor, product);
    }
    let compatible = text(&root.join("proc/device-tree/compatible"));
    let vendor = compatible.split(['\0', ',']).next().unwrap_or_default();
    let product = text(&root.join("proc/device-tree/model"));
    (tidy(vendor), tidy(&product))
}

/// How the machine starts. A container does not see all of its host, so it cannot tell.
fn firmware(root: &Path, is_container: bool) -> String {
    let is_uefi = root.join("sys/firmware/efi").is_dir();
    let is_pc = root.join("sys/class/dmi/id").is_dir();
    let word = match (is_uefi, is_pc && !is_container) {
        (true, _) => "uefi",
        (false, true) => "bios",
        (false, false) => "",
    };
    word.to_owned()
}

/// In which kind of container this is, if it is in one.
fn container(root: &Path) -> Option<String> {
    let release = text(&root.join("proc/sys/kernel/osrelease")).to_ascii_lowercase();
    if release.contains("microsoft") || release.contains("-wsl") {
        return Some("wsl".to_owned());
    }
    let said = text(&root.join("run/systemd/container"));
    let environ = text(&root.join("proc/1/environ"));
    let variable = environ
        .split('\0')
        .find_map(|v| v.strip_prefix("container="));
    let said = [said.trim(), variable.unwrap_or_default()]
        .into_iter()
        .find(|word| !word.is_empty());
    if let Some(word) = said {
        let is_char = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let is_word = word.len() <= 32 && word.chars().all(is_char);
        let word = if is_word { word } else { "container" };
        return Some(word.to_ascii_lowercase());
    }
    let marks = [(".dockerenv", "docker"), ("run/.containerenv", "podman")];
    let found = marks.into_iter().find(|(path, _)| root.join(path).exists());
    found.map(|(_, word)| word.to_owned())
}

/// On which kind of virtual machine this is; `none` for hardware, empty if there is nothing to go by.
fn virtualization(root: &Path, cpu: &str) -> String {
    let clocks = "sys/devices/system/clocksource/clocksource0/available_clocksource";
    let clocks = text(&root.join(clocks));
    let is_guest = flags(cpu).any(|flag| flag == "hypervisor");
    let known = dmi_word(root)
        .or_else(|| {
            let kind = text(&root.join("sys/hypervisor/type"));
            (kind.trim() == "xen").then_some("xen")
        })
        .or_else(|| tree_word(root));
    let by_clock = [
        ("kvm-clock", "kvm"),
        ("hyperv_clocksource", "microsoft"),
        ("xen", "xen"),
    ];
    let by_clock = by_clock
        .into_iter()
        .find(|(clock, _)| clocks.split_whitespace().any(|c| c.starts_with(clock)))
        .map(|(_, word)| word);
    let word = match (known, by_clock) {
        // It makes the devices of both; which one runs it only the clock says.
        (Some("qemu"), Some("kvm")) => "kvm",
        (Some(word), _) | (None, Some(word)) => word,
        (None, None) if is_guest => "vm",
        (None, None) if cpu.trim().is_empty() => "",
        (None, None) => "none",
    };
    word.to_owned()
}

fn flags(cpu: &str) -> impl Iterator<Item = &str> {
    let flags = value(cpu, "flags").unwrap_or_default();
    flags.split_whitespace()
}

fn dmi_word(root: &Path) -> Option<&'static str> {
    const KNOWN: [(&str, &str); 17] = [
        ("KVM", "kvm"),
        ("OpenStack", "kvm"),
        ("KubeVirt", "kvm"),
        ("Google Compute Engine", "google"),
        ("DigitalOcean", "kvm"),
        ("Hetzner vServer", "kvm"),
        ("vServer", "kvm"),
        ("QEMU", "qemu"),
        ("VMware", "vmware"),
        ("VMW", "vmware"),
        ("innotek GmbH", "oracle"),
        ("VirtualBox", "oracle"),
        ("Xen", "xen"),
        ("Bochs", "bochs"),
        ("Parallels", "parallels"),
        ("BHYVE", "bhyve"),
        ("Apple Virtualization", "apple"),
    ];
    let product = dmi(root, "product_name");
    let vendor = dmi(root, "sys_vendor");
    if vendor == "Amazon EC2" {
        return (!product.contains("metal")).then_some("amazon");
    }
    if vendor == "Microsoft Corporation" && product == "Virtual Machine" {
        return Some("microsoft");
    }
    let said = [
        product,
        vendor,
        dmi(root, "board_vendor"),
        dmi(root, "bios_vendor"),
    ];
    let word = |text: &String| KNOWN.iter().find(|(start, _)| text.starts_with(start));
    said.iter().find_map(word).map(|(_, word)| *word)
}

fn tree_word(root: &Path) -> Option<&'static str> {
    let tree = root.join("proc/device-tree");
    let hypervisor = text(&tree.join("hypervisor/compatible"));
    if hypervisor.contains("linux,kvm") {
        Some("kvm")
    } else if hypervisor.contains("xen") {
        Some("xen")
    } else if hypervisor.contains("vmware") {
        Some("vmware")
    } else if text(&tree.join("compatible")).contains("linux,dummy-virt") {
        Some("qemu")
    } else {
        None
    }
}

/// The first value of a key of `/proc/cpuinfo`.
fn value<'a>(cpu: &'a str, key: &str) -> Option<&'a str> {
    cpu.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key && !value.trim().is_empty()).then(|| value.trim())
    })
}

/// Who made the processor, in a word, and what they call it. Arm processors say it in numbers.
fn processor(cpu: &str) -> (String, String) {
    const ARM_MODELS: [(&str, &str); 10] = [
        ("0xd03", "Cortex-A53"),
        ("0xd04", "Cortex-A35"),
        ("0xd05", "Cortex-A55"),
        ("0xd07", "Cortex-A57"),
        ("0xd08", "Cortex-A72"),
        ("0xd0b", "Cortex-A76"),
        ("0xd0c", "Neoverse-N1"),
        ("0xd40", "Neoverse-V1"),
        ("0xd49", "Neoverse-N2"),
        ("0xd4f", "Neoverse-V2"),
    ];
    const ARM_VENDORS: [(&str, &str); 8] = [
        ("0x41", "arm"),
        ("0x42", "broadcom"),
        ("0x43", "cavium"),
        ("0x48", "hisilicon"),
        ("0x4e", "nvidia"),
        ("0x51", "qualcomm"),
        ("0x61", "apple"),
        ("0xc0", "ampere"),
    ];
    let of = |known: &[(&str, &'static str)], number: &str| {
        let found = known.iter().find(|(n, _)| n.eq_ignore_ascii_case(number));
        found.map(|(_, word)| *word)
    };
    let maker = value(cpu, "CPU implementer").unwrap_or_default();
    let vendor = match value(cpu, "vendor_id") {
        Some("GenuineIntel") => "intel",
        Some("AuthenticAMD") => "amd",
        Some(other) => other,
        None => of(&ARM_VENDORS, maker).unwrap_or_default(),
    };
    let part = value(cpu, "CPU part").unwrap_or_default();
    let part = if maker == "0x41" {
        of(&ARM_MODELS, part)
    } else {
        None
    };
    let model = part
        .or_else(|| value(cpu, "model name"))
        .unwrap_or_default();
    (tidy(&vendor.to_ascii_lowercase()), tidy(model))
}

/// Groups of processors that are one core.
fn core_count(root: &Path) -> u32 {
    let all = entries(&root.join("sys/devices/system/cpu"));
    let cores: BTreeSet<String> = all
        .into_iter()
        .filter(|(name, _)| is_numbered(name, "cpu"))
        .filter_map(|(_, path)| {
            let topology = path.join("topology");
            let names = ["core_cpus_list", "thread_siblings_list"];
            let mut lists = names.map(|n| text(&topology.join(n))).into_iter();
            lists.find(|list| !list.trim().is_empty())
        })
        .collect();
    u32::try_from(cores.len()).unwrap_or(u32::MAX)
}

/// Whether a name is `start` and a number.
fn is_numbered(name: &str, start: &str) -> bool {
    name.strip_prefix(start)
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
}

/// The size of what the root file system is on. What a file system says of its own size moves with what it shares
/// with others; this does not.
fn root_bytes(root: &Path) -> Option<u64> {
    let mounts = text(&root.join("proc/self/mountinfo"));
    // The last one covers the others.
    let line = mounts
        .lines()
        .rfind(|line| line.split(' ').nth(4) == Some("/"))?;
    let (place, kind) = line.split_once(" - ")?;
    let number = place.split(' ').nth(2)?;
    let source = kind.split(' ').nth(1).and_then(|s| s.strip_prefix("/dev/"));
    let of = |folder: &str, name: &str| {
        let is_name = !name.is_empty() && !name.contains(['/', '\0']) && name != "..";
        is_name.then(|| sectors(&root.join(folder).join(name)))?
    };
    // Some file systems span devices and have a number of their own.
    of("sys/dev/block", number).or_else(|| of("sys/class/block", source?))
}

/// The size of a block device.
fn sectors(device: &Path) -> Option<u64> {
    let sectors: u64 = text(&device.join("size")).trim().parse().ok()?;
    sectors.checked_mul(512).filter(|bytes| *bytes > 0)
}

/// Disks that have a device behind them and cannot be pulled out.
fn disks(root: &Path) -> Vec<Disk> {
    let is_no_disk = |name: &str| {
        let starts = ["loop", "ram", "zram", "dm-", "md", "sr", "fd", "nbd", "zd"];
        starts.iter().any(|start| name.starts_with(start))
            || (name.starts_with("mmcblk") && (name.contains("boot") || name.contains("rpmb")))
    };
    let all = entries(&root.join("sys/block")).into_iter();
    let disks = all.filter_map(|(name, path)| {
        let says = |file: &str| text(&path.join(file)).trim().to_owned();
        let is_fixed = says("removable") != "1" && says("hidden") != "1";
        if is_no_disk(&name) || !path.join("device").exists() || !is_fixed {
            return None;
        }
        let models = ["device/model", "device/name"].map(|file| tidy(&says(file)));
        Some(Disk {
            name: tidy(&name),
            model: models
                .into_iter()
                .find(|m| !m.is_empty())
                .unwrap_or_default(),
            bytes: sectors(&path)?,
            is_rotational: match says("queue/rotational").as_str() {
                "1" => Some(true),
                "0" => Some(false),
                _ => None,
            },
        })
    });
    disks.take(DISKS_MAX).collect()
}

/// Interfaces that have a device behind them.
fn interfaces(root: &Path) -> Vec<Interface> {
    let all = entries(&root.join("sys/class/net")).into_iter();
    let real = all.filter(|(_, path)| path.join("device").exists());
    let interfaces = real.map(|(name, path)| {
        let says = |file: &str| text(&path.join(file)).trim().to_owned();
        // One that was made up is another one after every start, or every scan.
        let is_own = matches!(says("addr_assign_type").as_str(), "0" | "");
        let mac: Option<Mac> = says("address").parse().ok();
        let mac = mac.filter(|mac| is_own && *mac != Mac([0; 6]));
        let is_up = says("operstate") == "up";
        let speed: Option<u32> = says("speed").parse().ok().filter(|_| is_up);
        Interface {
            name: tidy(&name),
            mac: mac.map(|mac| mac.to_string()).unwrap_or_default(),
            speed_mbit: speed.filter(|mbit| *mbit < 10_000_000).unwrap_or(0),
        }
    });
    interfaces.take(INTERFACES_MAX).collect()
}

/// Display controllers on PCI, and what else can drive a screen.
fn gpus(root: &Path) -> Vec<Gpu> {
    let known = [
        ("10de", "nvidia"),
        ("1002", "amd"),
        ("8086", "intel"),
        ("1a03", "aspeed"),
        ("102b", "matrox"),
        ("1234", "qemu"),
        ("1af4", "virtio"),
        ("1b36", "qxl"),
        ("15ad", "vmware"),
        ("80ee", "virtualbox"),
        ("1013", "cirrus"),
        ("1414", "microsoft"),
    ];
    let hex = |path: PathBuf| {
        let text = text(&path).trim().to_ascii_lowercase();
        let digits = text.strip_prefix("0x").unwrap_or(&text);
        let is_id = digits.len() == 4 && digits.bytes().all(|b| b.is_ascii_hexdigit());
        is_id.then(|| digits.to_owned())
    };
    let pci = entries(&root.join("sys/bus/pci/devices")).into_iter();
    let on_pci = pci.filter_map(|(_, path)| {
        let is_display = text(&path.join("class")).trim().starts_with("0x03");
        let (vendor, device) = (hex(path.join("vendor"))?, hex(path.join("device"))?);
        let word = known.iter().find(|(id, _)| *id == vendor);
        is_display.then(|| Gpu {
            vendor: word.map_or(&*vendor, |(_, word)| word).to_owned(),
            id: format!("{vendor}:{device}"),
        })
    });
    let cards = entries(&root.join("sys/class/drm")).into_iter();
    let on_board = cards.filter_map(|(name, path)| {
        let device = path.join("device");
        if !is_numbered(&name, "card") || device.join("class").exists() {
            return None;
        }
        let event = text(&device.join("uevent"));
        let driver = event.lines().find_map(|l| l.strip_prefix("DRIVER="))?;
        Some(Gpu {
            vendor: tidy(driver),
            id: String::new(),
        })
    });
    let mut all: Vec<Gpu> = on_pci.chain(on_board).collect();
    all.sort();
    all.truncate(GPUS_MAX);
    all
}

#[cfg(test)]
mod tests;
