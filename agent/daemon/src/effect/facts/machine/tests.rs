use super::*;

struct Tree(tempfile::TempDir);

impl Tree {
    fn new(files: &[(&str, &str)]) -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        for (path, text) in files {
            tree.write(path, text.as_bytes());
        }
        tree
    }

    fn write(&self, path: &str, bytes: &[u8]) {
        let path = self.0.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    fn read(&self) -> Machine {
        read(self.0.path())
    }
}

const NUC: &[(&str, &str)] = &[
    (
        "proc/cpuinfo",
        "processor : 0\nvendor_id : GenuineIntel\nmodel name\t: Intel(R) Core(TM)  i5-8259U CPU @ 2.30GHz\nflags : fpu vme\n",
    ),
    (
        "proc/self/mountinfo",
        "22 1 259:2 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p2 rw\n",
    ),
    ("sys/dev/block/259:2/size", "488000000\n"),
    ("sys/class/dmi/id/sys_vendor", "Intel(R) Client Systems\n"),
    ("sys/class/dmi/id/product_name", "NUC8i5BEH\n"),
    ("sys/class/dmi/id/product_serial", "SECRET-1\n"),
    ("sys/firmware/efi/fw_platform_size", "64\n"),
    (
        "sys/devices/system/cpu/cpu0/topology/core_cpus_list",
        "0,2\n",
    ),
    (
        "sys/devices/system/cpu/cpu1/topology/core_cpus_list",
        "1,3\n",
    ),
    (
        "sys/devices/system/cpu/cpu2/topology/core_cpus_list",
        "0,2\n",
    ),
    (
        "sys/devices/system/cpu/cpu3/topology/core_cpus_list",
        "1,3\n",
    ),
    (
        "sys/devices/system/cpu/cpuidle/topology/core_cpus_list",
        "9\n",
    ),
    (
        "sys/devices/system/clocksource/clocksource0/available_clocksource",
        "tsc hpet acpi_pm\n",
    ),
    ("sys/block/sda/size", "7814037168\n"),
    ("sys/block/sda/device/model", "WDC WD40EFRX-68N\n"),
    ("sys/block/sda/queue/rotational", "1\n"),
    ("sys/block/nvme0n1/size", "488397168\n"),
    ("sys/block/nvme0n1/device/model", "Samsung SSD 970   \n"),
    ("sys/block/nvme0n1/queue/rotational", "0\n"),
    ("sys/block/sdb/size", "1000\n"),
    ("sys/block/sdb/removable", "1\n"),
    ("sys/block/sdb/device/model", "USB stick\n"),
    ("sys/block/loop0/size", "1000\n"),
    ("sys/block/dm-0/size", "1000\n"),
    ("sys/block/zram0/size", "1000\n"),
    ("sys/class/net/eno1/address", "94:c6:91:00:00:01\n"),
    ("sys/class/net/eno1/addr_assign_type", "0\n"),
    ("sys/class/net/eno1/operstate", "up\n"),
    ("sys/class/net/eno1/speed", "1000\n"),
    ("sys/class/net/eno1/device/vendor", "0x8086\n"),
    ("sys/class/net/wlp0/address", "02:00:00:00:00:01\n"),
    ("sys/class/net/wlp0/addr_assign_type", "3\n"),
    ("sys/class/net/wlp0/operstate", "down\n"),
    ("sys/class/net/wlp0/speed", "-1\n"),
    ("sys/class/net/wlp0/device/vendor", "0x8086\n"),
    ("sys/class/net/docker0/address", "02:42:00:00:00:01\n"),
    ("sys/bus/pci/devices/0000:00:02.0/class", "0x030000\n"),
    ("sys/bus/pci/devices/0000:00:02.0/vendor", "0x8086\n"),
    ("sys/bus/pci/devices/0000:00:02.0/device", "0x3ea5\n"),
    ("sys/bus/pci/devices/0000:00:1f.0/class", "0x060100\n"),
    ("sys/bus/pci/devices/0000:00:1f.0/vendor", "0x8086\n"),
    ("sys/bus/pci/devices/0000:00:1f.0/device", "0x9d84\n"),
    ("sys/class/drm/card0/device/class", "0x030000\n"),
    ("sys/class/drm/card0/device/uevent", "DRIVER=i915\n"),
];

#[test]
fn a_small_computer_tells_what_it_is_made_of() {
    let machine = Tree::new(NUC).read();

    let disk = |name: &str, model: &str, sectors: u64, is_rotational| Disk {
        name: name.into(),
        model: model.into(),
        bytes: sectors * 512,
        is_rotational: Some(is_rotational),
    };
    let expected = Machine {
        virtualization: "none".into(),
        vendor: "Intel(R) Client Systems".into(),
        product: "NUC8i5BEH".into(),
        firmware: "uefi".into(),
        cpu_vendor: "intel".into(),
        cpu_model: "Intel(R) Core(TM) i5-8259U CPU @ 2.30GHz".into(),
        core_count: 2,
        root_bytes: 488_000_000 * 512,
        disks: vec![
            disk("nvme0n1", "Samsung SSD 970", 488_397_168, false),
            disk("sda", "WDC WD40EFRX-68N", 7_814_037_168, true),
        ],
        interfaces: vec![
            Interface {
                name: "eno1".into(),
                mac: "94:c6:91:00:00:01".into(),
                speed_mbit: 1000,
            },
            Interface {
                name: "wlp0".into(),
                ..Interface::default()
            },
        ],
        gpus: vec![Gpu {
            vendor: "intel".into(),
            id: "8086:3ea5".into(),
        }],
    };
    assert_eq!(machine, expected);
    assert!(!format!("{machine:?}").contains("SECRET"));
}

#[test]
fn a_board_without_dmi_tells_it_by_its_device_tree() {
    let machine = Tree::new(&[
        (
            "proc/cpuinfo",
            "processor : 0\nCPU implementer : 0x41\nCPU part : 0xd08\n\nModel : Raspberry Pi 4\n",
        ),
        (
            "proc/self/mountinfo",
            "1 1 179:2 / / rw - ext4 /dev/root rw\n",
        ),
        ("sys/dev/block/179:2/size", "60000\n"),
        ("proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.4\0"),
        (
            "proc/device-tree/compatible",
            "raspberrypi,4-model-b\0brcm,bcm2711\0",
        ),
        ("proc/device-tree/serial-number", "100000003d1d1c36\0"),
        (
            "sys/devices/system/cpu/cpu0/topology/thread_siblings_list",
            "0\n",
        ),
        (
            "sys/devices/system/cpu/cpu1/topology/thread_siblings_list",
            "1\n",
        ),
        ("sys/block/mmcblk0/size", "62333952\n"),
        ("sys/block/mmcblk0/device/name", "SD32G\n"),
        ("sys/block/mmcblk0/queue/rotational", "0\n"),
        ("sys/block/mmcblk0boot0/size", "8192\n"),
        ("sys/block/mmcblk0boot0/device/name", "SD32G\n"),
        (
            "sys/class/drm/card0/device/uevent",
            "DRIVER=vc4-drm\nOF_NAME=gpu\n",
        ),
        ("sys/class/drm/card0-HDMI-A-1/device/uevent", "DRIVER=x\n"),
    ])
    .read();

    assert_eq!(
        (&*machine.vendor, &*machine.product),
        ("raspberrypi", "Raspberry Pi 4 Model B Rev 1.4")
    );
    assert_eq!(
        (
            &*machine.cpu_vendor,
            &*machine.cpu_model,
            machine.core_count
        ),
        ("arm", "Cortex-A72", 2)
    );
    assert_eq!((&*machine.virtualization, &*machine.firmware), ("none", ""));
    assert_eq!(machine.root_bytes, 60_000 * 512);
    assert_eq!(machine.disks.len(), 1);
    assert_eq!(machine.disks[0].model, "SD32G");
    assert_eq!(machine.gpus.len(), 1);
    assert_eq!(machine.gpus[0].vendor, "vc4-drm");
    assert!(!format!("{machine:?}").contains("3d1d1c36"));
}

#[test]
fn virtual_machines_are_known_by_their_maker_or_clock() {
    let clocks = "sys/devices/system/clocksource/clocksource0/available_clocksource";
    let guest = ("proc/cpuinfo", "flags : fpu hypervisor\n");
    let vendor = "sys/class/dmi/id/sys_vendor";
    let product = "sys/class/dmi/id/product_name";
    for (files, want) in [
        (
            vec![guest, (vendor, "QEMU\n"), (clocks, "kvm-clock tsc\n")],
            "kvm",
        ),
        (vec![guest, (vendor, "QEMU\n"), (clocks, "tsc\n")], "qemu"),
        (vec![guest, (clocks, "kvm-clock tsc\n")], "kvm"),
        (vec![guest, (vendor, "VMware, Inc.\n")], "vmware"),
        (vec![guest, (vendor, "innotek GmbH\n")], "oracle"),
        (vec![guest, (vendor, "Xen\n")], "xen"),
        (vec![guest, ("sys/hypervisor/type", "xen\n")], "xen"),
        (
            vec![
                guest,
                (vendor, "Microsoft Corporation\n"),
                (product, "Virtual Machine\n"),
            ],
            "microsoft",
        ),
        (
            vec![
                (vendor, "Microsoft Corporation\n"),
                (product, "Surface\n"),
                ("proc/cpuinfo", "x"),
            ],
            "none",
        ),
        (
            vec![guest, (vendor, "Amazon EC2\n"), (product, "t3.small\n")],
            "amazon",
        ),
        (
            vec![
                (vendor, "Amazon EC2\n"),
                (product, "m5.metal\n"),
                ("proc/cpuinfo", "x"),
            ],
            "none",
        ),
        (
            vec![("proc/device-tree/hypervisor/compatible", "linux,kvm\0")],
            "kvm",
        ),
        (
            vec![("proc/device-tree/compatible", "linux,dummy-virt\0")],
            "qemu",
        ),
        (vec![guest], "vm"),
    ] {
        let machine = Tree::new(&files).read();
        assert_eq!(machine.virtualization, want, "{files:?}");
    }
    let bios = Tree::new(&[guest, (vendor, "QEMU\n")]).read();
    assert_eq!(bios.firmware, "bios");
}

#[test]
fn a_container_says_so_whatever_its_host_is() {
    for (file, text, want) in [
        (
            "run/systemd/container",
            "systemd-nspawn\n",
            "systemd-nspawn",
        ),
        ("proc/1/environ", "HOME=/\0container=lxc\0", "lxc"),
        ("proc/1/environ", "container=\u{1b}[2J\0", "container"),
        (".dockerenv", "", "docker"),
        ("run/.containerenv", "", "podman"),
        (
            "proc/sys/kernel/osrelease",
            "5.15.0-microsoft-standard-WSL2\n",
            "wsl",
        ),
    ] {
        let tree = Tree::new(&[
            (
                "proc/self/mountinfo",
                "1 0 0:50 / / rw - overlay overlay rw\n",
            ),
            ("sys/class/dmi/id/sys_vendor", "QEMU\n"),
        ]);
        tree.write(file, text.as_bytes());
        let machine = tree.read();
        assert_eq!(machine.virtualization, want, "{file}");
        assert_eq!((&*machine.firmware, machine.root_bytes), ("", 0));
    }
}

#[test]
fn an_empty_root_tells_nothing() {
    assert_eq!(Tree::new(&[]).read(), Machine::default());
}

#[test]
fn what_makers_left_unfilled_is_not_told() {
    let machine = Tree::new(&[
        ("sys/class/dmi/id/sys_vendor", "To Be Filled By O.E.M.\n"),
        ("sys/class/dmi/id/board_vendor", "ASRock\n"),
        ("sys/class/dmi/id/product_name", "System Product Name\n"),
        ("sys/class/dmi/id/board_name", "J4105-ITX\n"),
    ])
    .read();
    assert_eq!(
        (&*machine.vendor, &*machine.product),
        ("ASRock", "J4105-ITX")
    );
}

#[test]
fn junk_gives_short_harmless_facts_and_no_panic() {
    let junk: Vec<u8> = (0..200_000u32).map(|n| (n * 7 + n / 256) as u8).collect();
    for (path, _) in NUC {
        let tree = Tree::new(NUC);
        tree.write(path, &junk);
        tree.read();
    }
    let tree = Tree::new(&[]);
    for (path, _) in NUC {
        tree.write(path, &junk);
    }
    let long = "\u{1b}[31mü".repeat(1000);
    for n in 0..200 {
        let disk = format!("sys/block/disk{n:03}");
        tree.write(&format!("{disk}/size"), b"99999\n");
        tree.write(&format!("{disk}/device/model"), long.as_bytes());
        tree.write(&format!("sys/class/net/n{n}/device/x"), b"");
        let card = format!("sys/class/drm/card{n}/device/uevent");
        tree.write(&card, format!("DRIVER={long}\n").as_bytes());
    }
    tree.write("sys/block/huge/size", b"99999999999999999999\n");
    tree.write("sys/block/huge2/size", b"9999999999999999999\n");
    tree.write("sys/block/folder/size/x", b"");
    tree.write(
        "proc/self/mountinfo",
        b"1 1 ../../x / / rw - ext4 /dev/../../etc rw\n1 / / /\n",
    );

    let machine = tree.read();

    assert_eq!(machine.disks.len(), DISKS_MAX);
    assert_eq!(machine.interfaces.len(), INTERFACES_MAX);
    assert_eq!(machine.gpus.len(), GPUS_MAX);
    let model = &machine.disks[0].model;
    assert!(model.len() <= TEXT_BYTES_MAX && !model.chars().any(char::is_control));
    assert_eq!(machine.root_bytes, 0);
}

#[test]
fn this_machine_says_the_same_twice() {
    let machine = read(Path::new("/"));
    assert_eq!(machine, read(Path::new("/")));
}
