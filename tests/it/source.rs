//! Reading the repository as text: which files there are, and Rust without its comments and literals.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A crate of the workspace as its folder shows it.
#[derive(Debug)]
pub(crate) struct Crate {
    /// Relative to the root, for example `crdt/log`.
    pub(crate) folder: String,
    /// The manifest.
    pub(crate) manifest: String,
}

/// A Rust file without what a compiler does not compile into the product.
#[derive(Debug)]
pub(crate) struct Code {
    /// Relative to the root.
    pub(crate) path: String,
    /// The text, with comments and the insides of literals as blanks; line numbers are kept.
    pub(crate) text: String,
}

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest
        .parent()
        .expect("tests/ lies in the root")
        .to_owned()
}

/// The text of a file, by its path from the root.
pub(crate) fn read(path: &str) -> String {
    let bytes = fs::read(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Every file of the repository, by its path from the root, in order. Build output and `.git` are not of it.
pub(crate) fn files() -> Vec<String> {
    let mut out = Vec::new();
    walk(&root(), "", &mut out);
    out.sort();
    out
}

fn walk(folder: &Path, prefix: &str, out: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("a folder of the repository") {
        let entry = entry.expect("an entry of the repository");
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        if name == ".git" || path == "target" {
            continue;
        }
        let kind = entry.file_type().expect("the type of an entry");
        if kind.is_dir() {
            walk(&entry.path(), &format!("{path}/"), out);
        } else if kind.is_file() {
            out.push(path);
        }
    }
}

/// Every crate of the workspace.
pub(crate) fn crates() -> Vec<Crate> {
    let manifests = files().into_iter().filter_map(|path| {
        let folder = path.strip_suffix("/Cargo.toml")?.to_owned();
        Some(Crate {
            manifest: read(&path),
            folder,
        })
    });
    manifests.collect()
}

/// The class that a manifest declares.
pub(crate) fn class(manifest: &str) -> Option<&str> {
    let (_, rest) = manifest.split_once("[package.metadata.lab]")?;
    let (_, rest) = rest.split_once("class = \"")?;
    Some(rest.split_once('"')?.0)
}

/// The Rust files below `folder`, whole.
pub(crate) fn rust_files(folder: &str) -> Vec<String> {
    let prefix = format!("{folder}/");
    let is_wanted = |path: &String| path.starts_with(&prefix) && path.ends_with(".rs");
    files().into_iter().filter(is_wanted).collect()
}

/// What of a crate goes into the product: `src` without test modules.
pub(crate) fn product(folder: &str) -> Vec<Code> {
    let paths = rust_files(&format!("{folder}/src"));
    let codes: Vec<Code> = paths
        .into_iter()
        .map(|path| Code {
            text: blank(&read(&path)),
            path,
        })
        .collect();
    let mut test_only = BTreeSet::new();
    for code in &codes {
        let stem = code.path.trim_end_matches(".rs");
        let home = match stem.rsplit_once('/') {
            Some((folder, "lib" | "main")) => folder,
            _ => stem,
        };
        let mut lines = code.text.lines().peekable();
        while let Some(line) = lines.next() {
            if line.trim() == "#[cfg(test)]"
                && let Some(next) = lines.peek()
                && let Some(name) = next
                    .trim()
                    .strip_prefix("mod ")
                    .and_then(|m| m.strip_suffix(';'))
            {
                test_only.insert(format!("{home}/{name}"));
            }
        }
    }
    let is_test = |path: &str| {
        let stem = path.trim_end_matches(".rs");
        test_only.iter().any(|t| {
            stem == t
                || stem
                    .strip_prefix(t.as_str())
                    .is_some_and(|r| r.starts_with('/'))
        })
    };
    let kept = codes.into_iter().filter(|code| !is_test(&code.path));
    kept.map(|code| Code {
        text: before_tests(&code.text).to_owned(),
        path: code.path,
    })
    .collect()
}

/// The part of a file before its test module, which stands last.
fn before_tests(text: &str) -> &str {
    let mut from = 0;
    while let Some(at) = text[from..].find("#[cfg(test)]").map(|at| from + at) {
        let after = text[at + "#[cfg(test)]".len()..].trim_start();
        if after.starts_with("mod ")
            && after
                .split_once('\n')
                .is_some_and(|(l, _)| l.ends_with('{'))
        {
            return &text[..at];
        }
        from = at + 1;
    }
    text
}

/// Blanks comments and the insides of string and character literals. Line breaks stay.
pub(crate) fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let rest = &chars[at..];
        let end = at
            + match rest {
                ['/', '/', ..] => rest.iter().position(|c| *c == '\n').unwrap_or(rest.len()),
                ['/', '*', ..] => comment_length(rest),
                ['"', ..] => text_length(rest),
                ['r', '"' | '#', ..] if !is_word_before(&chars, at) => {
                    raw_length(rest).unwrap_or(0)
                }
                ['\'', '\\', ..] => rest[2..]
                    .iter()
                    .skip(1)
                    .position(|c| *c == '\'')
                    .map_or(0, |n| n + 4),
                ['\'', c, '\'', ..] if *c != '\'' => 3,
                _ => 0,
            };
        if end == at {
            out.push(chars[at]);
            at += 1;
            continue;
        }
        out.extend(
            chars[at..end]
                .iter()
                .map(|c| if *c == '\n' { '\n' } else { ' ' }),
        );
        at = end;
    }
    out
}

fn is_word_before(chars: &[char], at: usize) -> bool {
    // `br"…"` is a raw literal as well; its `b` stays behind.
    at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_') && chars[at - 1] != 'b'
}

fn comment_length(rest: &[char]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match rest[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn text_length(rest: &[char]) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != '"' {
        at += if rest[at] == '\\' { 2 } else { 1 };
    }
    rest.len().min(at + 1)
}

fn raw_length(rest: &[char]) -> Option<usize> {
    let hashes = rest[1..].iter().take_while(|c| **c == '#').count();
    if rest.get(1 + hashes) != Some(&'"') {
        return None;
    }
    let close: Vec<char> = std::iter::once('"')
        .chain(std::iter::repeat_n('#', hashes))
        .collect();
    let body = &rest[2 + hashes..];
    let end = body
        .windows(close.len())
        .position(|w| w == close)
        .unwrap_or(body.len());
    Some(rest.len().min(2 + hashes + end + close.len()))
}

/// Line numbers, from 1, of the lines of `text` for which `is_bad` holds.
pub(crate) fn lines_where(text: &str, is_bad: impl Fn(&str) -> bool) -> Vec<usize> {
    text.lines()
        .enumerate()
        .filter(|(_, line)| is_bad(line))
        .map(|(n, _)| n + 1)
        .collect()
}

/// Whether `word` stands in `line` with no letter, digit or underscore at either side.
pub(crate) fn has_word(line: &str, word: &str) -> bool {
    let is_inside = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(word).any(|(at, _)| {
        !is_inside(line[..at].chars().next_back())
            && !is_inside(line[at + word.len()..].chars().next())
    })
}

#[test]
fn comments_and_literals_are_blanked_and_lines_kept() {
    let text = "let a = \"std::fs\"; // std::env\n/* x\n/* y */ */ let c = '\\'';\nlet r = r#\"a\"b\"#; 'l: loop {}\n";
    let want = "let a =          ;            \n    \n             let c =     ;\nlet r =         ; 'l: loop {}\n";
    assert_eq!(
        blank(text).split_whitespace().collect::<Vec<_>>(),
        want.split_whitespace().collect::<Vec<_>>()
    );
    assert_eq!(blank(text).lines().count(), text.lines().count());
    assert!(blank(text).contains("'l: loop"));
}

#[test]
fn what_stands_in_a_test_module_is_not_product() {
    assert_eq!(before_tests("a\n#[cfg(test)]\nmod tests {\nb\n}\n"), "a\n");
    assert_eq!(
        before_tests("a\n#[cfg(test)]\nmod tests;\nb\n"),
        "a\n#[cfg(test)]\nmod tests;\nb\n"
    );
}
