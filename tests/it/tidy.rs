//! Habits that no compiler checks, each a few lines. A message says where and what to do.

use std::fs;

use crate::source;

/// Crates whose name does not follow from their folder, as `(folder, name)`.
const NAMED_OTHERWISE: &[(&str, &str)] = &[
    ("tests/fuzz", "lab-fuzz"),
    ("tests/bench/simulators", "lab-simulators"),
];
/// File names that say nothing.
const BANNED_STEMS: &[&str] = &[
    "utils",
    "util",
    "helpers",
    "helper",
    "common",
    "misc",
    "manager",
    "shared_utils",
];
/// Most packages in `Cargo.lock`. Raise it in the commit that needs it, and say there what the new ones are for.
const LOCKED_MAX: usize = 560;

fn assert_none(broken: &[String], rule: &str) {
    assert!(broken.is_empty(), "{rule}:\n{}", broken.join("\n"));
}

fn rust() -> Vec<String> {
    source::files()
        .into_iter()
        .filter(|path| path.ends_with(".rs"))
        .collect()
}

/// Lines of Rust, comments and literals blanked, for which `is_bad` holds, as `file:line: text`.
fn code_where(is_bad: impl Fn(&str) -> bool) -> Vec<String> {
    let mut out = Vec::new();
    for path in rust() {
        let text = source::blank(&source::read(&path));
        for line in source::lines_where(&text, &is_bad) {
            let shown = text.lines().nth(line - 1).unwrap_or_default().trim();
            out.push(format!("{path}:{line}: {shown}"));
        }
    }
    out
}

#[test]
fn a_crate_is_named_after_its_folder() {
    let mut broken = Vec::new();
    for krate in source::crates() {
        let folder = krate.folder.as_str();
        let exception = NAMED_OTHERWISE.iter().find(|(f, _)| *f == folder);
        let want = exception.map_or_else(
            || format!("lab-{}", folder.replace('/', "-")),
            |(_, n)| (*n).to_owned(),
        );
        if !krate.manifest.contains(&format!("name = \"{want}\"\n")) {
            broken.push(format!(
                "{folder}/Cargo.toml: the crate should be called {want}"
            ));
        }
    }
    assert_none(&broken, "path is name");
}

#[test]
fn every_crate_has_a_class_and_the_lints_of_the_workspace() {
    let mut broken = Vec::new();
    for krate in source::crates() {
        if source::class(&krate.manifest).is_none() {
            broken.push(format!(
                "{}/Cargo.toml: no class below [package.metadata.lab]",
                krate.folder
            ));
        }
        if !krate.manifest.contains("[lints]\nworkspace = true\n") {
            broken.push(format!(
                "{}/Cargo.toml: no [lints] workspace = true",
                krate.folder
            ));
        }
    }
    assert_none(&broken, "manifests");
}

#[test]
fn modules_are_a_file_and_a_folder_of_one_name() {
    let broken: Vec<_> = rust()
        .into_iter()
        .filter(|path| path.ends_with("/mod.rs"))
        .collect();
    assert_none(&broken, "call it foo.rs, not foo/mod.rs");
}

#[test]
fn file_names_say_what_is_inside() {
    let is_banned = |path: &String| {
        let name = path.rsplit('/').next().unwrap_or(path);
        BANNED_STEMS.contains(&name.trim_end_matches(".rs"))
    };
    let broken: Vec<_> = rust().into_iter().filter(is_banned).collect();
    assert_none(&broken, "name the noun inside");
}

#[test]
fn every_file_of_a_core_begins_with_what_it_is() {
    let mut broken = Vec::new();
    for krate in source::crates() {
        if !matches!(source::class(&krate.manifest), Some("core" | "word")) {
            continue;
        }
        for path in source::rust_files(&krate.folder) {
            let text = source::read(&path);
            let first = text
                .lines()
                .find(|line| !line.trim().is_empty() && !line.starts_with("#!["));
            if !first.is_some_and(|line| line.starts_with("//!")) {
                broken.push(format!("{path}: begin with //! and one sentence"));
            }
        }
    }
    assert_none(&broken, "file docs");
}

#[test]
fn what_is_exported_is_named() {
    let is_glob = |line: &str| {
        let line = line.trim();
        line.starts_with("pub use ") && line.ends_with("::*;")
    };
    assert_none(
        &code_where(is_glob),
        "no `pub use …::*`: name what is exported",
    );
}

#[test]
fn no_test_is_switched_off() {
    let is_ignored = |line: &str| line.trim_start().starts_with("#[ignore");
    assert_none(
        &code_where(is_ignored),
        "assert what happens, with FIXME(why), instead of #[ignore]",
    );
}

#[test]
fn what_is_left_to_do_has_a_reason() {
    let mut broken = Vec::new();
    for path in rust().iter().filter(|path| *path != "tests/it/tidy.rs") {
        let text = source::read(path);
        for word in ["TODO", "FIXME", "XXX"] {
            let is_bare =
                |line: &str| source::has_word(line, word) && !line.contains(&format!("{word}("));
            for line in source::lines_where(&text, is_bare) {
                broken.push(format!("{path}:{line}: write {word}(why)"));
            }
        }
    }
    assert_none(&broken, "no bare reminders");
}

#[test]
fn nothing_is_left_unimplemented() {
    let is_left = |line: &str| {
        ["todo!", "unimplemented!", "dbg!"]
            .iter()
            .any(|m| source::has_word(line, m))
    };
    assert_none(
        &code_where(is_left),
        "write it, or leave it out and say so in docs/not-yet.md",
    );
}

/// The words that the glossary rules out, in the line that begins `Never in a public name:`.
fn ruled_out() -> Vec<String> {
    let glossary = source::read("docs/GLOSSARY.md");
    let paragraph = glossary
        .split("Never in a public name:")
        .nth(1)
        .expect("the glossary's list");
    let paragraph = paragraph.split("\n\n").next().unwrap_or_default();
    paragraph
        .split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

/// The words of a name: `SyncOpen` and `sync_open` are both `sync`, `open`.
fn words(name: &str) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut was_lower = false;
    for c in name.chars() {
        if c == '_' || (c.is_uppercase() && was_lower) {
            out.push(String::new());
        }
        was_lower = c.is_lowercase() || c.is_ascii_digit();
        if c != '_' {
            match out.last_mut() {
                Some(last) => last.extend(c.to_lowercase()),
                None => out.push(c.to_lowercase().collect()),
            }
        }
    }
    out
}

/// The name that a line of code gives to something public.
fn public_name(line: &str) -> Option<&str> {
    let rest = line.trim_start().strip_prefix("pub ")?;
    let mut rest = rest;
    for keyword in [
        "const ", "async ", "unsafe ", "fn ", "struct ", "enum ", "trait ", "type ", "static ",
        "mod ",
    ] {
        rest = rest.strip_prefix(keyword).unwrap_or(rest);
    }
    let end = rest
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(rest.len());
    (end > 0 && !matches!(&rest[..end], "use" | "crate" | "in")).then_some(&rest[..end])
}

#[test]
fn public_names_use_the_words_of_the_glossary() {
    let ruled_out = ruled_out();
    assert!(ruled_out.len() > 10, "the glossary's list was not found");
    let is_bad = |line: &str| {
        public_name(line).is_some_and(|name| words(name).iter().any(|w| ruled_out.contains(w)))
    };
    assert_none(
        &code_where(is_bad),
        "docs/GLOSSARY.md has another word for this",
    );
}

#[test]
fn nothing_refers_to_the_place_it_was_written_at() {
    let needles = [concat!("/wo", "rk/"), concat!("sha", "red/")];
    let mut broken = Vec::new();
    for path in source::files() {
        // Binary fixtures and the lock file of crates have no prose.
        if path.ends_with(".redb") || path == "Cargo.lock" || path.starts_with("tests/fuzz/corpus/")
        {
            continue;
        }
        let text = source::read(&path);
        for line in source::lines_where(&text, |line| {
            needles.iter().any(|needle| mentions(line, needle))
        }) {
            broken.push(format!("{path}:{line}"));
        }
    }
    assert_none(&broken, "no paths of one machine");
}

/// Whether a line has `needle` where a path begins.
fn mentions(line: &str, needle: &str) -> bool {
    line.match_indices(needle).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | '}'))
    })
}

#[test]
fn no_file_of_tests_is_forgotten() {
    let main = source::read("tests/it/main.rs");
    let mut broken = Vec::new();
    for entry in fs::read_dir(source::root().join("tests/it")).expect("the folder of tests") {
        let name = entry
            .expect("an entry")
            .file_name()
            .to_string_lossy()
            .into_owned();
        let module = name.trim_end_matches(".rs");
        if module != "main" && !main.contains(&format!("mod {module};")) {
            broken.push(format!(
                "tests/it/{name}: no `mod {module};` in tests/it/main.rs"
            ));
        }
    }
    assert_none(&broken, "one binary for all tests");
}

#[test]
fn the_lock_file_grows_on_purpose_only() {
    let count = source::read("Cargo.lock").matches("[[package]]").count();
    assert!(
        count <= LOCKED_MAX,
        "{count} packages, at most {LOCKED_MAX}: see `LOCKED_MAX` in tests/it/tidy.rs"
    );
}

#[test]
fn the_checks_see_what_they_look_for() {
    assert_eq!(words("SyncOpen"), ["sync", "open"]);
    assert_eq!(words("max_bytes_v1"), ["max", "bytes", "v1"]);
    assert_eq!(
        public_name("    pub const fn job_count(&self) -> u64 {"),
        Some("job_count")
    );
    assert_eq!(public_name("    pub peers: Vec<NodeId>,"), Some("peers"));
    assert_eq!(public_name("pub use a::b;"), None);
    assert_eq!(public_name("pub(crate) fn x()"), None);
    assert!(mentions(concat!("see /wo", "rk/x"), concat!("/wo", "rk/")));
    assert!(!mentions(
        concat!("cgroup/wo", "rk/x"),
        concat!("/wo", "rk/")
    ));
    assert!(source::has_word("x(#[ignore])", "ignore") && !source::has_word("ignored", "ignore"));
}
