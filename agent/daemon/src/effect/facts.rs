//! What this machine is.

use std::path::Path;

use lab_crdt_model::report::Facts;

/// Longest text fact, bytes; longer ones are cut.
const TEXT_BYTES_MAX: usize = 256;

/// Reads the facts. What cannot be read stays empty or zero.
pub(crate) fn read() -> Facts {
    read_below(Path::new("/"))
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
        };
        assert_eq!(facts, expected);
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
