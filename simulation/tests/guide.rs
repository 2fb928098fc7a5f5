//! The guide "what happens when …" does what it says: its commands are run, and print what stands below them.
//!
//! Figures may differ (they change with every change of the protocol), words may not.
//! `LAB_BLESS=1 cargo test -p lab-simulation --test guide` writes what is printed into the guide.

use std::process::Command;

const GUIDE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../docs/guides/what-happens-when.md"
);

/// Each command with what the guide says it prints: the `text` block after its `sh` block.
fn pairs(text: &str) -> Vec<(String, String)> {
    let mut out = Vec::new();
    for part in text.split("```sh\n").skip(1) {
        let (command, rest) = part.split_once("```").expect("a closed block");
        let (_, shown) = rest.split_once("```text\n").expect("what it prints");
        let (shown, _) = shown.split_once("```").expect("a closed block");
        out.push((command.trim().to_owned(), shown.to_owned()));
    }
    out
}

/// What a command of the guide prints, and whether all was as it should be.
fn run(command: &str) -> (String, bool) {
    let words = command
        .strip_prefix("cargo lab-sim ")
        .expect("a command of this program");
    let out = Command::new(env!("CARGO_BIN_EXE_lab-sim"))
        .args(words.split_whitespace())
        .env("NO_COLOR", "1")
        .output()
        .expect("it runs");
    let text = String::from_utf8(out.stdout).expect("text");
    (text, out.status.code() == Some(0))
}

/// Words without the figures between them and without line breaks: times, counts and hashes are one sign each.
fn words(text: &str) -> Vec<String> {
    let units = ["ms", "s", "min", "h", "day", "days", "d"];
    let mut out: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let core = word.trim_matches(|c: char| !c.is_alphanumeric());
        let is_figure = core.starts_with(|c: char| c.is_ascii_digit())
            || (core.len() == 16 && core.chars().all(|c| c.is_ascii_hexdigit()));
        let is_unit = units.contains(&core) && out.last().is_some_and(|w| w == "#");
        if !is_figure && !is_unit {
            out.push(word.to_owned());
        } else if out.last().is_none_or(|w| w != "#") {
            out.push("#".to_owned());
        }
    }
    out
}

#[test]
fn the_guide_prints_what_it_says() {
    let mut text = std::fs::read_to_string(GUIDE).expect("the guide");
    let pairs = pairs(&text);
    assert!(pairs.len() > 10, "the commands were not found");
    let is_blessing = std::env::var_os("LAB_BLESS").is_some();
    let mut broken = Vec::new();
    for (command, shown) in pairs {
        let (printed, is_well) = run(&command);
        if !is_well {
            broken.push(format!("{command}: not as it should be\n{printed}"));
        }
        if is_blessing {
            let old = format!("```sh\n{command}\n```\n\n```text\n{shown}```");
            let new = format!("```sh\n{command}\n```\n\n```text\n{printed}```");
            assert!(
                text.contains(&old),
                "{command}: one empty line between the blocks"
            );
            text = text.replace(&old, &new);
        } else if words(&shown) != words(&printed) {
            broken.push(format!(
                "{command} prints something else; LAB_BLESS=1 writes it:\n{printed}"
            ));
        }
    }
    if is_blessing {
        std::fs::write(GUIDE, text).expect("the guide can be written");
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn every_scenario_is_in_the_guide() {
    let text = std::fs::read_to_string(GUIDE).expect("the guide");
    for scenario in lab_simulation::scenario::ALL {
        let command = format!("cargo lab-sim scenario {}\n", scenario.name);
        assert!(text.contains(&command), "{}", scenario.name);
    }
}

#[test]
fn figures_are_let_pass_and_words_are_not() {
    let base = words("✓ All agree again 3.2 s after 10 machines had power.");
    assert_eq!(
        base,
        words("✓ All agree again 2 min 5 s\n  after 9 machines had power.")
    );
    assert_ne!(
        base,
        words("✗ They do NOT agree after 10 machines had power.")
    );
}
