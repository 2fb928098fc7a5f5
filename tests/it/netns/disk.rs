//! A disk that is full.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use lab_agent_api::ClientError;
use lab_crdt_model::{StatementId, Value};

use super::network::is_left_out;
use crate::support::{LATER, SOON, Seat, TestLab, run, set};

/// A small file system in memory; unmounted when it is dropped.
#[derive(Debug)]
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn new(path: &Path, size: &str) -> Self {
        std::fs::create_dir_all(path).expect("a mount point");
        let mut mount = Command::new("mount");
        mount
            .args([
                "-t",
                "tmpfs",
                "-o",
                &format!("size={size},mode=0700"),
                "labt",
            ])
            .arg(path);
        let ran = run(mount);
        assert_eq!(ran.code, 0, "mount a tmpfs: {}", ran.err);
        Self(path.to_owned())
    }

    /// Takes what room is left, to the last byte.
    fn fill(&self) {
        let mut file = File::create(self.0.join("ballast")).expect("make a file");
        while file.write_all(&[7; 1 << 16]).is_ok() {}
        while file.write_all(&[7]).is_ok() {}
    }

    fn free(&self) {
        std::fs::remove_file(self.0.join("ballast")).expect("remove a file of ours");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let mut umount = Command::new("umount");
        umount.arg("--lazy").arg(&self.0);
        run(umount);
    }
}

#[test]
fn a_full_disk_refuses_edits_with_a_clear_error_and_loses_nothing() {
    if is_left_out() {
        return;
    }
    let mut lab = TestLab::empty();
    lab.found("n1", Seat::loopback());
    let disk = SmallDisk::new(&lab.path("n2"), "20m");
    let n2 = lab.join("n2", Seat::loopback(), &[]);
    lab.until_whole();
    lab.cli(n2, &["label", "add", "before", "-t", "n1"]).ok();
    disk.fill();

    // Room inside the store is used up first; then edits are refused.
    let (admin, root) = (lab.admin_key(), StatementId(lab.view(0).mesh.0));
    let mut kept = Vec::new();
    let why = loop {
        let path = format!("on/all/params/p{}", kept.len());
        let big = Value::text("x".repeat(30_000));
        let answer = lab.submit(n2, &admin, root, set(&path, big, "person:ana"));
        match answer {
            Ok(_) => kept.push(path),
            Err(ClientError::Refused { code, why }) if code == "M011" => break why,
            Err(error) => panic!("{error}"),
        }
        assert!(kept.len() < 2_000, "the disk is never full");
    };
    assert!(
        why.contains("No space left") || why.contains("no space") || why.contains("full"),
        "{why}"
    );
    let before = lab.view(n2);

    // By hand as well: with its code, and nothing is changed.
    let mut small = 0;
    let refused = loop {
        let ran = lab.cli(n2, &["label", "add", &format!("small{small}"), "-t", "n1"]);
        if ran.code != 0 {
            break ran.ends_with(6);
        }
        small += 1;
        assert!(small < 500, "the disk is never full");
    };
    assert!(refused.err.contains("error[M011]"), "{}", refused.err);
    assert!(refused.err.contains("refused the write"), "{}", refused.err);
    assert!(!lab.has_label(n2, "n1", &format!("small{small}")));
    assert!(lab.view(n2).statement_count - before.statement_count == small);

    // What others write still counts here, and the replica can be read.
    lab.cli(0, &["label", "add", "meanwhile", "-t", "n1"]).ok();
    lab.until("it arrives", SOON, || lab.has_label(n2, "n1", "meanwhile"));
    lab.cli(n2, &["status"]).ok();

    // Killed while its disk is full: it comes back with everything that it has acknowledged.
    lab.kill(n2);
    lab.start(n2);
    let view = lab.view(n2);
    let is_there = |path: &String| view.fields.iter().any(|f| f.path.as_str() == path);
    assert!(
        kept.iter().all(is_there),
        "lost {:?}",
        kept.iter().filter(|p| !is_there(p)).collect::<Vec<_>>()
    );
    assert!(lab.has_label(n2, "n1", "before"));

    disk.free();
    lab.until("edits are taken again", LATER, || {
        lab.cli(n2, &["label", "add", "after", "-t", "n1"]).code == 0
    });
    lab.until_whole();
    lab.kill(n2);
    lab.start(n2);
    lab.until_whole();
    for label in ["before", "meanwhile", "after"] {
        assert!(
            lab.has_label(n2, "n1", label) && lab.has_label(0, "n1", label),
            "{label}"
        );
    }
    lab.kill(n2);
    drop(disk);
}
