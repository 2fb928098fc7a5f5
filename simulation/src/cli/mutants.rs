//! `lab-sim mutants`: whether an oracle sees every seeded bug.

use serde_json::json;

use super::args::MutantsArgs;
use super::exit::{Exit, Failure};
use super::table;
use super::ui::Ui;
use crate::mutants::{Controls, Fate, MUTANTS, Mutant, are_here, kill, named};

/// How a build gets its seeded bugs.
const BUILD: &str =
    "cargo run --profile sim -p lab-simulation --features mutants --bin lab-sim -- mutants";

/// Wakes one bug after the other and prints what saw it.
pub(crate) fn mutants(ui: &Ui, args: &MutantsArgs) -> Result<Exit, Failure> {
    if !are_here() {
        return Err(Failure::usage("this build has no seeded bugs").hint(BUILD));
    }
    let which: Vec<&Mutant> = if args.names.is_empty() {
        MUTANTS.iter().collect()
    } else {
        let find = |name: &String| {
            named(name).ok_or_else(|| Failure::usage(format!("there is no mutant `{name}`")))
        };
        args.names.iter().map(find).collect::<Result<_, _>>()?
    };
    let mut controls = Controls::default();
    let mut fates: Vec<(&Mutant, Fate)> = Vec::new();
    for mutant in which {
        let fate = kill(mutant, args.budget, &mut controls);
        ui.say(&line(mutant, &fate));
        fates.push((mutant, fate));
    }
    let is_well = fates
        .iter()
        .all(|(_, fate)| fate.oracle.is_some() && fate.spoiled.is_empty());
    if ui.is_json() {
        let rows: Vec<_> = fates
            .iter()
            .map(|(mutant, fate)| {
                json!({
                    "name": mutant.name, "story": mutant.story, "expected": mutant.oracle,
                    "oracle": fate.oracle, "what": fate.what, "seeds": fate.seeds,
                    "cpu_ms": fate.cpu_ms, "others": fate.others,
                    "without_bug": fate.spoiled.values().map(ToString::to_string).collect::<Vec<_>>(),
                })
            })
            .collect();
        ui.json(&rows)?;
    } else {
        ui.out(&text(ui, &fates));
    }
    Ok(Exit::of(is_well))
}

fn seconds(ms: u64) -> String {
    format!("{}.{}", ms / 1_000, ms % 1_000 / 100)
}

fn line(mutant: &Mutant, fate: &Fate) -> String {
    let seen = fate.oracle.unwrap_or("SURVIVED");
    let mut out = format!("{} {seen} {} s", mutant.name, seconds(fate.cpu_ms));
    for (seed, violation) in &fate.spoiled {
        out += &format!("\n  without the bug, seed {seed}: {violation}");
    }
    if fate.oracle.is_none() {
        out += &format!("; expected {}, seen {:?}", mutant.oracle, fate.others);
    }
    out
}

fn text(ui: &Ui, fates: &[(&Mutant, Fate)]) -> String {
    let rows: Vec<Vec<String>> = fates
        .iter()
        .map(|(mutant, fate)| {
            vec![
                mutant.name.to_owned(),
                mutant.story.to_owned(),
                fate.oracle.unwrap_or("survived").to_owned(),
                fate.seeds.to_string(),
                seconds(fate.cpu_ms),
            ]
        })
        .collect();
    let head = ["mutant", "story", "oracle", "seeds", "cpu s"];
    table::render(&head, &rows, |row, column, text| match column {
        2 if fates[row].1.oracle.is_none() => ui.paint.bad(text),
        2 if fates[row].1.oracle != Some(fates[row].0.oracle) => ui.paint.hint(text),
        _ => text.to_owned(),
    })
}
