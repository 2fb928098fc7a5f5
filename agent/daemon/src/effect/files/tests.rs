use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use tempfile::TempDir;

use super::*;

struct Machine {
    dir: TempDir,
    files: Files,
}

impl Machine {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        for folder in ["root", "data", "outside", "etc"] {
            std::fs::create_dir(dir.path().join(folder)).unwrap();
        }
        let me = format!(
            "me:x:{}:{}::/:/bin/sh\nother:x:1234:1235::/:/bin/sh\n",
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw()
        );
        std::fs::write(dir.path().join("etc/passwd"), me).unwrap();
        std::fs::write(dir.path().join("etc/group"), "web:x:1236:\n").unwrap();
        let accounts = Accounts::in_folder(&dir.path().join("etc"));
        let files = Files::new(dir.path().join("root"), dir.path().join("data"), accounts);
        Self { dir, files }
    }

    /// Where a declared path is on this disk.
    fn at(&self, path: &str) -> PathBuf {
        self.dir
            .path()
            .join("root")
            .join(path.trim_start_matches('/'))
    }

    fn outside(&self) -> PathBuf {
        self.dir.path().join("outside")
    }

    fn make(&self, wanted: &FileWanted) -> FileOutcome {
        self.files
            .carry_out(std::slice::from_ref(wanted), &[])
            .remove(0)
    }

    fn release(&self, path: &str, content: &str) -> FileOutcome {
        let owned = FileOwned {
            path: path.into(),
            hash: *blake3::hash(content.as_bytes()).as_bytes(),
        };
        self.files.carry_out(&[], &[owned]).remove(0)
    }

    fn text(&self, path: &str) -> String {
        std::fs::read_to_string(self.at(path)).unwrap()
    }

    fn mode(&self, path: &str) -> u32 {
        std::fs::metadata(self.at(path))
            .unwrap()
            .permissions()
            .mode()
            & 0o7777
    }

    fn names(&self, folder: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.at(folder)).unwrap();
        let mut names: Vec<_> = entries
            .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

fn wanted(path: &str, content: &str) -> FileWanted {
    FileWanted {
        path: path.into(),
        content: content.into(),
        mode: 0o644,
        owner: None,
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[track_caller]
fn assert_made(outcome: &FileOutcome) {
    assert!(outcome.is_changed && outcome.error.is_none(), "{outcome:?}");
}

#[track_caller]
fn assert_untouched(outcome: &FileOutcome) {
    assert!(
        !outcome.is_changed && outcome.error.is_none(),
        "{outcome:?}"
    );
}

#[track_caller]
fn assert_refused(outcome: &FileOutcome, why: &str) {
    assert!(!outcome.is_changed, "{outcome:?}");
    assert!(
        outcome.error.as_ref().is_some_and(|e| e.contains(why)),
        "{outcome:?}"
    );
}

#[test]
fn a_file_is_made_with_its_folders_and_left_alone_afterwards() {
    let machine = Machine::new();
    let file = wanted("/etc/app/conf.d/main.conf", "x = 1\n");

    assert_made(&machine.make(&file));
    assert_eq!(machine.text("/etc/app/conf.d/main.conf"), "x = 1\n");
    assert_eq!(machine.mode("/etc/app/conf.d/main.conf"), 0o644);
    let inode = std::fs::metadata(machine.at(&file.path)).unwrap().ino();

    assert_untouched(&machine.make(&file));
    assert_eq!(
        std::fs::metadata(machine.at(&file.path)).unwrap().ino(),
        inode
    );
    assert_eq!(machine.names("/etc/app/conf.d"), ["main.conf"]);
}

#[test]
fn other_content_or_mode_is_put_right() {
    let machine = Machine::new();
    let file = wanted("/motd", "hello\n");
    machine.make(&file);

    for drift in ["hell", "hello\nmore", "HELLO\n", ""] {
        std::fs::write(machine.at("/motd"), drift).unwrap();
        assert_made(&machine.make(&file));
        assert_eq!(machine.text("/motd"), "hello\n");
    }
    std::fs::set_permissions(machine.at("/motd"), std::fs::Permissions::from_mode(0o666)).unwrap();
    assert_made(&machine.make(&file));
    assert_eq!(machine.mode("/motd"), 0o644);
}

#[test]
fn an_empty_file_and_the_largest_file_are_made() {
    let machine = Machine::new();

    assert_made(&machine.make(&wanted("/empty", "")));
    assert_untouched(&machine.make(&wanted("/empty", "")));
    let largest = "x".repeat(VALUE_BYTES_MAX);
    assert_made(&machine.make(&wanted("/largest", &largest)));
    assert_untouched(&machine.make(&wanted("/largest", &largest)));

    assert_refused(
        &machine.make(&wanted("/larger", &format!("{largest}x"))),
        "at most 32768",
    );
    assert!(!machine.at("/larger").exists());
}

#[test]
fn the_mode_does_not_depend_on_the_umask_and_special_bits_survive() {
    let machine = Machine::new();
    for mode in [0o600, 0o666, 0o777, 0o4755, 0o2755, 0o1777, 0o000] {
        let file = FileWanted {
            mode,
            ..wanted("/bin/tool", "#!/bin/sh\n")
        };
        assert_made(&machine.make(&file));
        assert_eq!(machine.mode("/bin/tool"), mode, "{mode:o}");
    }
    let odd = FileWanted {
        mode: 0o100_644,
        ..wanted("/bin/tool", "")
    };
    assert_refused(&machine.make(&odd), "no permissions");
}

#[test]
fn the_owner_is_set_by_name() {
    let machine = Machine::new();
    let of = |owner: &str| FileWanted {
        owner: Some(owner.into()),
        ..wanted("/owned", "x")
    };
    assert_made(&machine.make(&of("me")));
    assert_untouched(&machine.make(&of("me")));
    assert_refused(
        &machine.make(&of("nobody-here")),
        "there is no user `nobody-here`",
    );
    assert_refused(
        &machine.make(&of("me:nowhere")),
        "there is no group `nowhere`",
    );

    let theirs = FileWanted {
        mode: 0o4750,
        ..of("other:web")
    };
    let outcome = machine.make(&theirs);

    if is_root() {
        assert_made(&outcome);
        let metadata = std::fs::metadata(machine.at("/owned")).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (1234, 1236));
        assert_eq!(machine.mode("/owned"), 0o4750);
        assert_untouched(&machine.make(&theirs));
    } else {
        assert_refused(&outcome, "set the owner");
        assert_eq!(
            machine.names("/"),
            ["owned"],
            "no temporary file is left behind"
        );
    }
}

#[test]
fn a_reader_keeps_the_old_file_and_hard_links_are_cut() {
    let machine = Machine::new();
    std::fs::write(machine.at("/motd"), "old").unwrap();
    std::fs::hard_link(machine.at("/motd"), machine.outside().join("twin")).unwrap();
    let mut reader = File::open(machine.at("/motd")).unwrap();

    assert_made(&machine.make(&wanted("/motd", "new")));

    let mut seen = String::new();
    reader.read_to_string(&mut seen).unwrap();
    assert_eq!(seen, "old");
    assert_eq!(
        std::fs::read_to_string(machine.outside().join("twin")).unwrap(),
        "old"
    );
}

#[test]
fn what_a_power_cut_left_behind_is_cleaned_up() {
    let machine = Machine::new();
    let hash = blake3::hash(b"motd").to_hex();
    std::fs::write(machine.at(&format!(".lab-{}.tmp", &hash[..16])), "half").unwrap();

    assert_made(&machine.make(&wanted("/motd", "whole")));

    assert_eq!(machine.names("/"), ["motd"]);
}

#[test]
fn a_planted_temporary_link_is_not_written_through() {
    let machine = Machine::new();
    let victim = machine.outside().join("victim");
    std::fs::write(&victim, "precious").unwrap();
    let hash = blake3::hash(b"motd").to_hex();
    symlink(&victim, machine.at(&format!(".lab-{}.tmp", &hash[..16]))).unwrap();

    assert_made(&machine.make(&wanted("/motd", "new")));

    assert_eq!(std::fs::read_to_string(victim).unwrap(), "precious");
}

#[test]
fn paths_that_are_none_are_refused() {
    let machine = Machine::new();
    let long = format!("/{}", "x/".repeat(3000));
    for path in [
        "",
        "/",
        "etc/motd",
        "//etc",
        "/etc/",
        "/etc//motd",
        "/./motd",
        "/etc/../motd",
        "/..",
        "/a\0b",
        "/a\nb",
        long.as_str(),
    ] {
        assert_refused(
            &machine.make(&wanted(path, "x")),
            "the path is not absolute",
        );
        assert_refused(&machine.release(path, "x"), "the path is not absolute");
    }
    assert_refused(
        &machine.make(&wanted(&format!("/{}", "x".repeat(256)), "x")),
        "too long",
    );
    assert!(machine.names("/").is_empty());
}

#[test]
fn links_out_of_the_root_are_refused() {
    let machine = Machine::new();
    symlink(machine.outside(), machine.at("/absolute")).unwrap();
    symlink("../outside", machine.at("/relative")).unwrap();
    std::fs::create_dir(machine.at("/sub")).unwrap();
    symlink("../../../outside", machine.at("/sub/deep")).unwrap();
    symlink("relative", machine.at("/twice")).unwrap();
    std::fs::write(machine.outside().join("file"), "x").unwrap();

    for folder in ["/absolute", "/relative", "/sub/deep", "/twice"] {
        let path = format!("{folder}/file");
        assert_refused(&machine.make(&wanted(&path, "y")), "leads out of the root");
        assert_refused(&machine.release(&path, "x"), "leads out of the root");
    }
    assert_eq!(
        std::fs::read_to_string(machine.outside().join("file")).unwrap(),
        "x"
    );
}

#[test]
fn links_inside_the_root_are_followed() {
    let machine = Machine::new();
    std::fs::create_dir_all(machine.at("/run/lock")).unwrap();
    std::fs::create_dir(machine.at("/var")).unwrap();
    symlink("../run/./lock", machine.at("/var/lock")).unwrap();

    assert_made(&machine.make(&wanted("/var/lock/held", "yes")));

    assert_eq!(machine.text("/run/lock/held"), "yes");
}

#[test]
fn links_of_ordinary_users_are_not_followed() {
    if !is_root() {
        return; // Only root can plant a link in another's name.
    }
    let machine = Machine::new();
    std::fs::create_dir(machine.at("/home")).unwrap();
    std::fs::create_dir(machine.at("/etc")).unwrap();
    symlink("../etc", machine.at("/home/conf")).unwrap();
    std::os::unix::fs::lchown(machine.at("/home/conf"), Some(1234), None).unwrap();

    assert_refused(
        &machine.make(&wanted("/home/conf/passwd", "x")),
        "a symbolic link of user 1234",
    );

    assert!(machine.names("/etc").is_empty());
}

#[test]
fn links_in_a_circle_end() {
    let machine = Machine::new();
    symlink("b", machine.at("/a")).unwrap();
    symlink("a", machine.at("/b")).unwrap();
    symlink("self/self/self/self", machine.at("/self")).unwrap();

    for folder in ["/a", "/self"] {
        assert_refused(
            &machine.make(&wanted(&format!("{folder}/file"), "x")),
            "symbolic links on the way",
        );
    }
}

#[test]
fn a_link_in_the_place_of_the_file_is_replaced_and_not_followed() {
    let machine = Machine::new();
    let victim = machine.outside().join("victim");
    std::fs::write(&victim, "precious").unwrap();
    symlink(&victim, machine.at("/motd")).unwrap();

    assert_untouched(&machine.release("/motd", "precious"));
    assert_made(&machine.make(&wanted("/motd", "new")));

    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
    assert!(
        std::fs::symlink_metadata(machine.at("/motd"))
            .unwrap()
            .is_file()
    );
}

#[test]
fn folders_pipes_and_sockets_are_left_alone() {
    let machine = Machine::new();
    std::fs::create_dir(machine.at("/folder")).unwrap();
    let mode = Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(
        rustix::fs::CWD,
        machine.at("/pipe"),
        FileType::Fifo,
        mode,
        0,
    )
    .unwrap();
    let _listener = UnixListener::bind(machine.at("/socket")).unwrap();
    std::fs::write(machine.at("/file"), "x").unwrap();

    for path in ["/folder", "/pipe", "/socket"] {
        assert_refused(&machine.make(&wanted(path, "x")), "not a file");
        assert_refused(&machine.release(path, "x"), "not a file");
    }
    for path in ["/file/below", "/pipe/below"] {
        assert_refused(&machine.make(&wanted(path, "x")), "is not a folder");
    }
}

#[test]
fn the_agents_own_folder_is_never_written_by_whatever_name() {
    let machine = Machine::new();
    let files = Files::new(
        machine.dir.path().into(),
        machine.dir.path().join("data"),
        Accounts::system(),
    );
    symlink("../data", machine.at("/link")).unwrap();

    for path in ["/data/node.key", "/data/deep/er", "/root/link/node.key"] {
        assert_refused(
            &files.carry_out(&[wanted(path, "x")], &[])[0],
            "belongs to the agent",
        );
    }
    assert_made(&files.carry_out(&[wanted("/database", "x")], &[])[0]);
    let own = Files::new(
        machine.dir.path().join("data"),
        machine.dir.path().join("data"),
        Accounts::system(),
    );
    assert_refused(
        &own.carry_out(&[wanted("/node.key", "x")], &[])[0],
        "belongs to the agent",
    );
    assert_eq!(
        std::fs::read_dir(machine.dir.path().join("data"))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn a_released_file_goes_only_if_it_is_still_ours() {
    let machine = Machine::new();
    machine.make(&wanted("/etc/a", "ours"));
    machine.make(&wanted("/etc/b", "ours"));
    std::fs::write(machine.at("/etc/b"), "theirs").unwrap();
    std::fs::write(machine.at("/etc/c"), "x".repeat(VALUE_BYTES_MAX + 1)).unwrap();

    assert_made(&machine.release("/etc/a", "ours"));
    assert_untouched(&machine.release("/etc/a", "ours"));
    assert_untouched(&machine.release("/etc/b", "ours"));
    assert_untouched(&machine.release("/etc/c", "ours"));
    assert_untouched(&machine.release("/never/was", "ours"));

    assert_eq!(machine.names("/etc"), ["b", "c"]);
    assert!(!machine.at("/never").exists());
}

#[test]
fn outcomes_come_in_the_order_of_the_request_and_one_failure_stops_nobody() {
    let machine = Machine::new();
    machine.make(&wanted("/old", "old"));
    let hash = *blake3::hash(b"old").as_bytes();
    let list = [
        wanted("/one", "1"),
        wanted("bad", "2"),
        wanted("/old", "old"),
        wanted("/three", "3"),
    ];
    let release = [
        FileOwned {
            path: "/old".into(),
            hash,
        },
        FileOwned {
            path: "/gone".into(),
            hash,
        },
    ];

    let outcomes = machine.files.carry_out(&list, &release);

    let paths: Vec<_> = outcomes.iter().map(|o| o.path.as_str()).collect();
    assert_eq!(paths, ["/one", "bad", "/old", "/three", "/old", "/gone"]);
    let changed: Vec<_> = outcomes.iter().map(|o| o.is_changed).collect();
    assert_eq!(changed, [true, false, false, true, false, false]);
    assert!(outcomes[1].error.is_some());
    assert_eq!(
        machine.text("/old"),
        "old",
        "what is wanted is not released"
    );
}

#[test]
fn a_root_that_is_gone_is_an_error_of_each_file() {
    let machine = Machine::new();
    std::fs::remove_dir(machine.dir.path().join("root")).unwrap();

    assert_refused(&machine.make(&wanted("/motd", "x")), "open the root");
}
