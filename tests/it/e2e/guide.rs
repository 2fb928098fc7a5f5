//! Guides do what they say: their commands are run as they stand.

use std::process::{Command, Stdio};

use crate::support::{TestLab, binary, run, say};

/// The lines of the `sh` blocks of a document, each with its number, in order.
fn blocks(text: &str) -> Vec<Vec<(usize, &str)>> {
    let mut out = Vec::new();
    let mut open: Option<(bool, Vec<(usize, &str)>)> = None;
    for (number, line) in text.lines().enumerate() {
        let fence = line.trim_start().strip_prefix("```");
        open = match (fence, open.take()) {
            (Some(info), None) => Some((info.split_whitespace().next() == Some("sh"), Vec::new())),
            (Some(_), Some((is_sh, lines))) => {
                out.extend(is_sh.then_some(lines));
                None
            }
            (None, Some((is_sh, mut lines))) => {
                lines.push((number + 1, line));
                Some((is_sh, lines))
            }
            (None, None) => None,
        };
    }
    assert!(open.is_none(), "a block is not closed");
    out
}

#[test]
fn five_machines_in_five_minutes_does_what_it_says() {
    follow("five-machines-in-five-minutes");
}

#[test]
fn keys_and_words_does_what_it_says() {
    follow("keys-and-words");
}

#[test]
fn tokens_do_what_the_guide_says() {
    follow("tokens");
}

#[test]
fn audit_does_what_it_says() {
    follow("audit");
}

fn follow(guide: &str) {
    let path = format!("{}/../docs/guides/{guide}.md", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).expect("the guide");
    let blocks = blocks(&text);
    assert!(!blocks.is_empty(), "the guide has no sh blocks to run");

    // One shell runs all blocks, as a reader does; `set -e` makes every command count. Agents that a block puts into
    // the background are children of that shell and are ended by their process id when it ends.
    let lab = TestLab::empty();
    let mut script = String::from(
        "set -euo pipefail\ntrap 'for p in $(jobs -p); do kill -9 \"$p\" 2>/dev/null || :; done; wait' EXIT\n",
    );
    for line in blocks.concat() {
        let (number, text) = line;
        if !text.trim().is_empty() && !text.trim_start().starts_with('#') {
            script += &format!("# line {number}\n");
        }
        script += &format!("{text}\n");
    }
    let file = lab.write("guide.sh", &script);
    let mut bash = Command::new("bash");
    let tools = binary().parent().expect("a folder").display().to_string();
    bash.args(["-x", &file])
        .env_clear()
        .env(
            "PATH",
            format!("{tools}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        )
        .env("HOME", lab.path("home"))
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .current_dir(lab.path("."));
    let ran = run(bash);
    say(&format!("{}\n{}", ran.out, ran.err));
    ran.ends_with(0);
}
