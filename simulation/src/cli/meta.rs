//! `lab-sim meta`: one plan in several processes, compared record by record.
//!
//! Each child differs in all that must not matter: addresses, hash keys, environment, working directory, allocator
//! settings. When digests differ, checkpoints say in which window of records; the children run again and tell that
//! window in full.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::args::MetaArgs;
use super::campaign::this_program;
use super::engine::{self, Source};
use super::exit::{Exit, Failure};
use super::ui::Ui;
use crate::plan::{Plan, run};
use crate::trace::{CHECKPOINT, keep_in_new_worlds};

/// What a child tells.
#[derive(Serialize, Deserialize, PartialEq, Eq, Debug)]
pub(crate) struct Told {
    digest: String,
    checkpoints: Vec<String>,
    records: Vec<(u64, String)>,
    violations: Vec<String>,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The child: runs a plan and tells every checkpoint, and the records of a window.
pub(crate) fn tell(ui: &Ui, plan: &Path, window: Option<(u64, u64)>) -> Result<Exit, Failure> {
    let text = super::exit::read(plan)?;
    let plan = engine::plan_of(Source::Text(&text), &super::args::WorldArgs::default())?;
    if let Some((from, to)) = window {
        keep_in_new_worlds(from..to);
    }
    let outcome = run(&plan, &mut ());
    let told = Told {
        digest: hex(&outcome.digest),
        checkpoints: outcome.checkpoints.iter().map(|c| hex(c)).collect(),
        records: outcome
            .records
            .iter()
            .map(|(n, r)| (*n, r.to_string()))
            .collect(),
        violations: outcome.violations.iter().map(ToString::to_string).collect(),
    };
    ui.out(&serde_json::to_string(&told).unwrap_or_default());
    Ok(Exit::Well)
}

/// How a child differs from the one before it.
fn child(nth: usize, plan: &Path, window: Option<(u64, u64)>) -> Result<Told, Failure> {
    let mut command = this_program()?;
    command.args(["--quiet", "tell"]).arg(plan);
    if let Some((from, to)) = window {
        command.arg("--window").arg(format!("{from}..{to}"));
    }
    if nth > 0 {
        let folder = plan.parent().unwrap_or_else(|| Path::new("/"));
        command
            .current_dir(folder)
            .env_clear()
            .env("LC_ALL", "tr_TR.UTF-8")
            .env("TZ", "Pacific/Apia")
            .env("MALLOC_PERTURB_", "165")
            .env("LAB_SIM_PADDING", "x".repeat(1 + 4093 * nth));
    }
    let output = command
        .output()
        .map_err(|error| Failure::internal(format!("start a process: {error}")))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(Failure::internal(format!("a process failed: {said}")));
    }
    serde_json::from_slice(&output.stdout)
        .map_err(|error| Failure::internal(format!("read what a process told: {error}")))
}

/// The window of records in which two runs part.
fn window(a: &Told, b: &Told) -> (u64, u64) {
    let same = a
        .checkpoints
        .iter()
        .zip(&b.checkpoints)
        .take_while(|(a, b)| a == b)
        .count() as u64;
    (same * CHECKPOINT, (same + 1) * CHECKPOINT)
}

/// Runs one plan in several processes and compares.
pub(crate) fn meta(ui: &Ui, args: &MetaArgs) -> Result<Exit, Failure> {
    let mut failed = 0;
    let mut count = 0;
    for seed in args.seeds() {
        let plan = engine::plan_of(Source::Seed(seed), &args.world)?;
        count += 1;
        failed += usize::from(!compare(ui, seed, &plan)?);
    }
    ui.out(&format!(
        "{count} plans in two processes each: {failed} differ\n"
    ));
    Ok(Exit::of(failed == 0))
}

fn compare(ui: &Ui, seed: u64, plan: &Plan) -> Result<bool, Failure> {
    let folder = std::env::temp_dir().join(format!("lab-sim-meta-{}", std::process::id()));
    std::fs::create_dir_all(&folder)
        .map_err(|error| Failure::internal(format!("make {}: {error}", folder.display())))?;
    let path = folder.join(format!("{seed}.ron"));
    super::exit::write(&path, &plan.write())?;
    let result = (|| {
        let (a, b) = (child(0, &path, None)?, child(1, &path, None)?);
        if a == b {
            ui.say(&format!("seed {seed}: {} twice", &a.digest[..16]));
            return Ok(true);
        }
        let window = window(&a, &b);
        let (a, b) = (
            child(0, &path, Some(window))?,
            child(1, &path, Some(window))?,
        );
        let differs = a.records.iter().zip(&b.records).find(|(a, b)| a != b);
        let text = match differs {
            Some((a, b)) => format!("record {}:\n  {}\n  {}", a.0, a.1, b.1),
            None => format!(
                "one run ends after record {}",
                a.records.len().min(b.records.len()) as u64 + window.0
            ),
        };
        ui.out(&format!("seed {seed}: two processes differ at {text}\n"));
        Ok(false)
    })();
    let _gone = std::fs::remove_dir_all(&folder);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(checkpoints: &[&str]) -> Told {
        Told {
            digest: String::new(),
            checkpoints: checkpoints.iter().map(|c| (*c).to_owned()).collect(),
            records: vec![],
            violations: vec![],
        }
    }

    #[test]
    fn the_window_begins_after_the_last_equal_checkpoint() {
        let (a, b) = (told(&["1", "2", "3", "4"]), told(&["1", "2", "x", "y"]));
        assert_eq!(window(&a, &b), (2 * CHECKPOINT, 3 * CHECKPOINT));
        assert_eq!(window(&a, &told(&["1"])), (CHECKPOINT, 2 * CHECKPOINT));
    }
}
