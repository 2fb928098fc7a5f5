//! Documents that are true: links and paths lead somewhere, named tests exist, examples are read by the program.

use std::collections::BTreeSet;

use lab_crdt_config::{Source, parse};

use crate::source;

/// Every document, by its path from the root, with its text.
fn documents() -> Vec<(String, String)> {
    let is_ours = |path: &String| path.ends_with(".md");
    source::files()
        .into_iter()
        .filter(is_ours)
        .map(|path| (path.clone(), source::read(&path)))
        .collect()
}

/// A document outside its fenced blocks.
fn prose(text: &str) -> String {
    let mut out = String::new();
    let mut is_fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            is_fenced = !is_fenced;
        } else if !is_fenced {
            out += line;
        }
        out.push('\n');
    }
    out
}

/// What stands between backticks, with its line.
fn code_words(text: &str) -> Vec<(usize, String)> {
    let prose = prose(text);
    let lines = prose.lines().enumerate().flat_map(|(n, line)| {
        let words = line.split('`').skip(1).step_by(2);
        words
            .map(move |word| (n + 1, word.to_owned()))
            .collect::<Vec<_>>()
    });
    lines.collect()
}

/// The names of all functions that are tests.
fn tests() -> BTreeSet<String> {
    let mut out = BTreeSet::new();
    for path in source::files().iter().filter(|path| path.ends_with(".rs")) {
        let text = source::blank(&source::read(path));
        let mut is_test = false;
        for line in text.lines().map(str::trim) {
            is_test |= line.contains("#[test]") || line.contains("::test");
            if let Some((before, after)) = line.split_once("fn ")
                && (before.is_empty() || before.ends_with(' '))
            {
                if is_test {
                    out.extend(after.split(['(', '<']).next().map(str::to_owned));
                }
                is_test = false;
            }
        }
    }
    out
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// `a/b/../c` without its dots.
fn normal(path: &str) -> String {
    let mut out: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(out.pop()),
            part => out.push(part),
        }
    }
    out.join("/")
}

#[test]
fn every_link_leads_somewhere() {
    let mut broken = Vec::new();
    for (path, text) in documents() {
        for (n, line) in prose(&text).lines().enumerate() {
            for part in line.split("](").skip(1) {
                let target = part.split(')').next().unwrap_or_default();
                let file = target.split('#').next().unwrap_or_default();
                if file.is_empty() || target.contains("://") {
                    continue;
                }
                let full = normal(&format!("{}/{file}", parent(&path)));
                if !source::root().join(&full).exists() {
                    broken.push(format!("{path}:{}: {target}", n + 1));
                }
            }
        }
    }
    assert!(
        broken.is_empty(),
        "links to nothing:\n{}",
        broken.join("\n")
    );
}

#[test]
fn every_file_that_a_document_names_exists() {
    let roots = [
        "agent/",
        "cli/",
        "crdt/",
        "docs/",
        "mesh/",
        "simulation/",
        "tests/",
        "adr/",
    ];
    let ends = [".rs", ".md", ".toml", ".yaml", ".py", ".service", ".txt"];
    let mut broken = Vec::new();
    for (path, text) in documents() {
        for (line, word) in code_words(&text) {
            let is_path =
                roots.iter().any(|r| word.starts_with(r)) && ends.iter().any(|e| word.ends_with(e));
            if is_path && !word.contains(['*', ' ']) && !source::root().join(&word).exists() {
                broken.push(format!("{path}:{line}: {word}"));
            }
        }
    }
    assert!(
        broken.is_empty(),
        "named and not there:\n{}",
        broken.join("\n")
    );
}

/// A sentence in snake case is the name of a test.
fn is_test_name(word: &str) -> bool {
    let is_plain = word
        .chars()
        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    is_plain && word.matches('_').count() >= 3
}

#[test]
fn every_test_that_a_document_names_exists() {
    let tests = tests();
    assert!(
        tests.contains("every_test_that_a_document_names_exists"),
        "the search finds this test"
    );
    let mut broken = Vec::new();
    let mut count = 0;
    for (path, text) in documents() {
        // An example of a name, not a name.
        for (line, word) in code_words(&text)
            .iter()
            .filter(|(_, word)| is_test_name(word))
        {
            count += 1;
            if !tests.contains(word) && word != "expired_token_is_refused_without_spending_it" {
                broken.push(format!("{path}:{line}: {word}"));
            }
        }
    }
    assert!(
        broken.is_empty(),
        "no test is called so:\n{}",
        broken.join("\n")
    );
    assert!(
        count > 40,
        "only {count} tests are named: the search is broken"
    );
}

#[test]
fn every_invariant_names_a_test() {
    let text = source::read("docs/ARCHITECTURE.md");
    let section = text
        .split("## Invariants")
        .nth(1)
        .and_then(|t| t.split("\n## ").next())
        .expect("the section");
    let rows = section
        .lines()
        .filter(|line| line.starts_with("| "))
        .skip(1);
    let bare: Vec<_> = rows
        .filter(|row| !row.split('`').any(is_test_name))
        .collect();
    assert!(
        bare.is_empty(),
        "invariants without a test:\n{}",
        bare.join("\n")
    );
}

#[test]
fn the_code_map_has_a_paragraph_for_every_crate() {
    let text = source::read("docs/ARCHITECTURE.md");
    let map = text
        .split("## Code map")
        .nth(1)
        .and_then(|t| t.split("\n## ").next())
        .expect("the section");
    for krate in source::crates() {
        assert!(
            map.contains(&format!("**`{}`**", krate.folder)),
            "docs/ARCHITECTURE.md says nothing of {}",
            krate.folder
        );
    }
}

#[test]
fn a_decision_says_what_it_cost_and_how_it_would_be_noticed_to_be_wrong() {
    let parts = [
        "**Status:**",
        "## Context",
        "## Decision",
        "## Alternatives and why not",
        "## Consequences",
        "## How we will notice it was wrong",
        "## Test that holds it",
    ];
    let mut numbers = Vec::new();
    for (path, text) in documents() {
        let Some(name) = path.strip_prefix("docs/adr/") else {
            continue;
        };
        let number: usize = name[..4]
            .parse()
            .unwrap_or_else(|_| panic!("{path} begins with four digits"));
        numbers.push(number);
        assert!(
            text.starts_with(&format!("# {number:04}: ")),
            "{path} begins with its number and the decision"
        );
        for part in parts {
            assert!(text.contains(part), "{path} lacks {part}");
        }
    }
    assert_eq!(
        numbers,
        (1..=numbers.len()).collect::<Vec<_>>(),
        "decisions are numbered without gaps"
    );
}

#[test]
fn the_declarations_of_the_guides_are_read_without_a_mistake() {
    let mut count = 0;
    for (path, text) in documents() {
        for block in text.split("```yaml\n").skip(1) {
            let block = block.split("```").next().unwrap_or_default();
            let (declared, diagnostics) = parse(&[Source {
                name: &path,
                text: block,
            }]);
            let shown: Vec<_> = diagnostics
                .iter()
                .map(|d| d.error.render(&path, block))
                .collect();
            assert!(
                declared.is_usable() && shown.is_empty(),
                "{path}:\n{}",
                shown.join("\n")
            );
            count += 1;
        }
    }
    assert!(count >= 4, "the blocks were not found");
}

#[test]
fn the_fuzz_targets_are_those_that_have_a_corpus() {
    let manifest = source::read("tests/fuzz/Cargo.toml");
    let folders: BTreeSet<String> = source::files()
        .into_iter()
        .filter_map(|path| {
            Some(
                path.strip_prefix("tests/fuzz/corpus/")?
                    .split('/')
                    .next()?
                    .to_owned(),
            )
        })
        .collect();
    for folder in &folders {
        let bin = format!("path = \"src/bin/{folder}.rs\"");
        assert!(
            manifest.contains(&bin),
            "tests/fuzz/Cargo.toml has no program for {folder}"
        );
    }
    assert_eq!(manifest.matches("[[bin]]").count(), folders.len());
}
