use std::path::{Path, PathBuf};

use super::*;
use crate::oracle::{Limits, Panel};

/// Every name that one of these macros has in the sources of the project, and how often.
fn names(macros: &[&str]) -> BTreeMap<String, usize> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut out = BTreeMap::new();
    for folder in ["crdt", "agent", "mesh", "simulation/src"] {
        scan(&root.join(folder), macros, &mut out);
    }
    out
}

fn scan(folder: &Path, macros: &[&str], out: &mut BTreeMap<String, usize>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && name != "tests" {
            scan(&path, macros, out);
        } else if name.ends_with(".rs") && !path.ends_with("mutants/tests.rs") {
            if path.ends_with("model/src/mark.rs") || path.ends_with("model/src/mutant.rs") {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            for found in macros.iter().flat_map(|m| calls(&text, m)) {
                *out.entry(found).or_default() += 1;
            }
        }
    }
}

/// The last text in the parentheses of each call.
fn calls(text: &str, macro_name: &str) -> Vec<String> {
    let mut out = Vec::new();
    for (at, _) in text.match_indices(macro_name) {
        let rest = &text[at + macro_name.len()..];
        let mut depth = 0;
        let end = rest.find(|c: char| {
            depth += i32::from(c == '(') - i32::from(c == ')');
            depth == 0
        });
        let Some(inside) = end.and_then(|end| rest.get(1..end)) else {
            continue;
        };
        let mut parts = inside.rsplit('"');
        if parts.next().is_some()
            && let Some(name) = parts.next()
        {
            out.push(name.to_owned());
        }
    }
    out
}

#[test]
fn every_seeded_bug_is_in_the_table_and_the_other_way_round() {
    let planted: BTreeSet<String> = names(&["mutant!"]).into_keys().collect();
    let names = MUTANTS.iter().map(|m| m.name);
    let all: Vec<&str> = names
        .chain(RESOLVER.iter().map(|(name, _)| *name))
        .collect();
    let listed: BTreeSet<String> = all.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(planted, listed);
    assert_eq!(listed.len(), all.len(), "names are unique");
    assert!(listed.len() >= 28);
}

#[test]
fn every_mutant_tells_its_story_and_names_oracles_that_exist() {
    let mut oracles = Panel::new(&Limits::default()).names();
    oracles.push(META);
    for mutant in MUTANTS {
        assert!(mutant.story.ends_with('.'), "{}", mutant.name);
        assert!(oracles.contains(&mutant.oracle), "{}", mutant.name);
        for (oracle, why) in mutant.also {
            assert!(
                oracles.contains(oracle) && !why.is_empty(),
                "{}",
                mutant.name
            );
        }
        let plan = (mutant.plan)(0);
        assert_eq!(plan.check(), Ok(()), "{}", mutant.name);
        assert_eq!(Plan::read(&plan.write()), Ok(plan), "{}", mutant.name);
    }
}

#[test]
fn every_mark_is_a_sentence_of_its_own_and_listed() {
    let planted = names(&["sometimes!", "reached!"]);
    let twice: Vec<_> = planted.iter().filter(|(_, n)| **n > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    assert!(planted.keys().all(|name| name.contains(' ')));
    assert!(planted.len() >= 60, "{}", planted.len());
    let list = include_str!("../../marks.txt");
    let listed: Vec<&str> = list.lines().collect();
    let planted: Vec<&str> = planted.keys().map(String::as_str).collect();
    assert_eq!(listed, planted);
}

#[test]
fn without_the_feature_no_bug_is_there() {
    assert_eq!(are_here(), cfg!(feature = "mutants"));
}

#[cfg(feature = "mutants")]
#[test]
fn every_seeded_bug_of_the_resolver_is_seen_by_the_other_judge() {
    use crate::reference::history::History;
    /// Histories that showed a bug when all were tried in turn. What draws them may change: then others do.
    const FOUND: [u64; 15] = [
        0, 2, 5, 10, 11, 19, 20, 28, 80, 109, 126, 151, 727, 1065, 2376,
    ];
    let mut unseen = Vec::new();
    for (name, story) in RESOLVER {
        lab_crdt_model::mutant::wake(Some(name));
        // What came late matters to these alone, and takes several times as long to judge.
        let of: fn(u64) -> History = match *name {
            "R17" | "R18" | "R19" => History::with_late,
            _ => History::new,
        };
        // Most show at the end of a history; to look after each of its statements costs as much as many histories.
        let seeds = || FOUND.into_iter().chain(0..3_000);
        let at_end = seeds().find(|seed| of(*seed).compare().is_err());
        let (seen, how) = match at_end {
            Some(seed) => (Some(seed), "at its end"),
            None => (
                seeds().find(|seed| of(*seed).compare_stepwise().is_err()),
                "on its way",
            ),
        };
        lab_crdt_model::mutant::wake(None);
        println!("{name} history {seen:?} {how}: {story}");
        if seen.is_none() {
            unseen.push(name);
        }
    }
    assert!(unseen.is_empty(), "{unseen:?}");
}

#[cfg(feature = "mutants")]
#[test]
fn some_bugs_are_seen_by_their_oracles() {
    let mut controls = Controls::default();
    for name in ["M08", "M35", "M49", "M70", "M71", "M72", "M73"] {
        let mutant = named(name).unwrap();
        let fate = kill(mutant, 20_000, &mut controls);
        assert_eq!(fate.oracle, Some(mutant.oracle), "{name}: {fate:?}");
        assert!(fate.spoiled.is_empty(), "{name}: {:?}", fate.spoiled);
    }
}
