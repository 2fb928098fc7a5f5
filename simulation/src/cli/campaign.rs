//! Commands over many runs: `swarm`, `cover`, `crash`, and where to find the calibration.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use super::args::{CrashArgs, SwarmArgs, WorldArgs};
use super::engine::{self, How, Source};
use super::exit::{Exit, Failure, read, write};
use super::progress::{Progress, Reach, short, timed};
use super::run::leave;
use super::ui::Ui;
use crate::disk::crash;

/// What a swarm did.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Swarmed {
    /// Seeds that were run.
    pub(crate) seeds: u64,
    /// Virtual milliseconds times nodes.
    pub(crate) node_ms: u64,
    /// Real milliseconds, summed over the processes.
    pub(crate) real_ms: u64,
    /// Seeds that failed, by the oracle that failed first.
    pub(crate) failed: BTreeMap<String, Vec<u64>>,
    /// Situations that were reached, and how often.
    pub(crate) marks: BTreeMap<String, u64>,
}

impl Swarmed {
    fn add(&mut self, other: Self) {
        self.seeds += other.seeds;
        self.node_ms += other.node_ms;
        self.real_ms += other.real_ms;
        for (oracle, seeds) in other.failed {
            self.failed.entry(oracle).or_default().extend(seeds);
        }
        for (mark, count) in other.marks {
            *self.marks.entry(mark).or_default() += count;
        }
    }
}

/// Runs many seeds; a failure is left behind like one of `run`, and the swarm goes on.
pub(crate) fn swarm(ui: &Ui, args: &SwarmArgs) -> Result<Exit, Failure> {
    let (from, to) = match (args.seeds, args.hours) {
        (Some(range), _) => range,
        (None, Some(_)) => (args.from, u64::MAX),
        (None, None) => (args.from, args.from.saturating_add(40)),
    };
    std::fs::create_dir_all(&args.out)
        .map_err(|error| Failure::internal(format!("make {}: {error}", args.out.display())))?;
    let (swarmed, real) = if args.jobs > 1 {
        let (swarmed, real) = timed(|| shared(ui, args, from, to));
        (swarmed?, real)
    } else {
        let (swarmed, real) = timed(|| alone(ui, args, from, to));
        (swarmed?, real)
    };
    let text = serde_json::to_string_pretty(&swarmed)
        .map_err(|error| Failure::internal(format!("write JSON: {error}")))?;
    write(&args.out.join("swarm.json"), &text)?;
    if ui.is_json() {
        ui.json(&swarmed)?;
    } else {
        let real_ms = (real.as_millis() as u64).max(1);
        ui.out(&format!(
            "{} seeds in {} s: {} node-hours ({} node-seconds per second), {} failed, {} situations reached\n",
            swarmed.seeds,
            real.as_secs(),
            swarmed.node_ms / 3_600_000,
            short(swarmed.node_ms / real_ms),
            swarmed.failed.values().map(Vec::len).sum::<usize>(),
            swarmed.marks.len()
        ));
        for (oracle, seeds) in &swarmed.failed {
            let seeds: Vec<String> = seeds.iter().map(u64::to_string).collect();
            ui.out(&format!(
                "  {} {oracle}: seeds {}\n",
                ui.paint.bad("✗"),
                seeds.join(", ")
            ));
        }
    }
    Ok(Exit::of(swarmed.failed.is_empty()))
}

/// One seed after the other, in this process.
fn alone(ui: &Ui, args: &SwarmArgs, from: u64, to: u64) -> Result<Swarmed, Failure> {
    let budget_ms = args.hours.map(|hours| (hours * 3_600_000.0) as u64);
    let mut progress = Progress::new(ui);
    let mut swarmed = Swarmed::default();
    for seed in from..to {
        if budget_ms.is_some_and(|most| swarmed.real_ms >= most) {
            break;
        }
        let source = Source::Seed(seed);
        let (ran, real) = timed(|| engine::run(source, &args.world, How::default(), &mut |_| {}));
        let ran = ran?;
        swarmed.seeds += 1;
        swarmed.node_ms += ran.node_ms;
        swarmed.real_ms += real.as_millis() as u64;
        for (mark, count) in &ran.report.marks {
            *swarmed.marks.entry(mark.clone()).or_default() += count;
        }
        if let Some(objection) = ran.report.objections.first() {
            let failed = swarmed.failed.entry(objection.oracle.clone());
            failed.or_default().push(seed);
            let traced = How {
                is_traced: true,
                ..How::default()
            };
            let mut ran = engine::run(source, &args.world, traced, &mut |_| {})?;
            leave(ui, &mut ran, &args.out)?;
        }
        progress.tick(Reach {
            virtual_ms: swarmed.node_ms,
            nodes: 1,
            events: 0,
            violations: swarmed.failed.values().map(|s| s.len() as u64).sum(),
        });
    }
    progress.done();
    Ok(swarmed)
}

/// Several processes, each with a part of the seeds.
fn shared(ui: &Ui, args: &SwarmArgs, from: u64, to: u64) -> Result<Swarmed, Failure> {
    let jobs = args.jobs as u64;
    let part = (to - from).div_ceil(jobs);
    let mut running = Vec::new();
    for job in 0..jobs {
        let start = from.saturating_add(part.saturating_mul(job)).min(to);
        let end = start.saturating_add(part).min(to);
        if start == end {
            continue;
        }
        let out = args.out.join(format!("job-{job}"));
        let mut command = this_program()?;
        command.args(["--quiet", "swarm", "--out"]).arg(&out);
        match args.hours {
            Some(hours) => {
                command.args(["--hours", &hours.to_string(), "--from", &start.to_string()])
            }
            None => command.args(["--seeds", &format!("{start}..{end}")]),
        };
        world_args(&mut command, &args.world);
        command.stdout(Stdio::null());
        let child = command
            .spawn()
            .map_err(|error| Failure::internal(format!("start a process: {error}")))?;
        running.push((child, out));
    }
    ui.say(&format!("{} processes run", running.len()));
    let mut swarmed = Swarmed::default();
    for (mut child, out) in running {
        let ended = child
            .wait()
            .map_err(|error| Failure::internal(format!("wait for a process: {error}")))?;
        if !matches!(ended.code(), Some(0 | 1)) {
            return Err(Failure::internal(format!(
                "a process ended with {ended}: {}",
                out.display()
            )));
        }
        swarmed.add(load(&out)?);
    }
    Ok(swarmed)
}

/// This program, to be started again.
pub(super) fn this_program() -> Result<Command, Failure> {
    let path = std::env::current_exe()
        .map_err(|error| Failure::internal(format!("find this program: {error}")))?;
    Ok(Command::new(path))
}

/// The same world for a process of our own.
fn world_args(command: &mut Command, world: &WorldArgs) {
    if let Some(profile) = &world.profile {
        command.args(["--profile", profile]);
    }
    if let Some(nodes) = world.nodes {
        command.args(["--nodes", &nodes.to_string()]);
    }
    if let Some(ms) = world.for_ms {
        command.args(["--for", &crate::duration::flag(ms)]);
    }
    if let Some(store) = world.store {
        command.args(["--store", &store.to_string()]);
    }
    if let Some(network) = &world.network {
        command.args(["--network", network]);
    }
}

fn load(folder: &Path) -> Result<Swarmed, Failure> {
    let path = folder.join("swarm.json");
    serde_json::from_str(&read(&path)?)
        .map_err(|error| Failure::usage(format!("read {}: {error}", path.display())))
}

/// What a swarm reached, the rarest first.
pub(crate) fn cover(ui: &Ui, folder: &Path) -> Result<Exit, Failure> {
    let swarmed = load(folder)?;
    if ui.is_json() {
        ui.json(&swarmed.marks)?;
        return Ok(Exit::Well);
    }
    let mut marks: Vec<_> = swarmed.marks.iter().collect();
    marks.sort_by_key(|(name, count)| (**count, name.as_str()));
    ui.out(&format!(
        "{} situations in {} seeds, the rarest first\n",
        marks.len(),
        swarmed.seeds
    ));
    for (name, count) in marks {
        ui.out(&format!("{count:>10}  {name}\n"));
    }
    Ok(Exit::Well)
}

/// Whether the store survives power cuts.
pub(crate) fn crash(ui: &Ui, args: &CrashArgs) -> Result<Exit, Failure> {
    let config = crash::Config::new(args.seed, args.images);
    let (report, real) = timed(|| {
        match args.redb.as_deref() {
        None => Ok(crash::search::<crash::AgentStore>(&config)),
        #[cfg(feature = "redb-3-1")]
        Some(_) => Ok(crash::search::<crash::RawRedb3>(&config)),
        #[cfg(not(feature = "redb-3-1"))]
        Some(_) => Err(Failure::usage("the older redb is not part of this build")
            .hint("cargo run --profile sim -p lab-simulation --features redb-3-1 --bin lab-sim -- crash --redb 3.1")),
    }
    });
    let report = report?;
    let real_ms = (real.as_millis() as u64).max(1);
    ui.out(&format!(
        "{} images in {} s ({} per second): {} failed\n",
        report.image_count,
        real_ms / 1000,
        short(report.image_count * 1000 / real_ms),
        report.failure_count()
    ));
    for example in &report.examples {
        ui.out(&format!(
            "  image {}: {:?}: {}\n",
            example.image, example.failure, example.why
        ));
    }
    Ok(Exit::of(report.failure_count() == 0))
}

/// Whether the simulated network is like a real one.
pub(crate) fn calibrate(ui: &Ui) -> Result<Exit, Failure> {
    ui.out(
        "Real agents are measured behind the delay router of the tests, as root:\n  \
         tests/bench/calibrate.py\n\
         It starts twenty agents in network namespaces, lets the simulator predict them and prints both.\n",
    );
    Ok(Exit::Well)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_swarm_add_up() {
        let part = |seed: u64| Swarmed {
            seeds: 2,
            node_ms: 10,
            real_ms: 1,
            failed: BTreeMap::from([("no_panic".to_owned(), vec![seed])]),
            marks: BTreeMap::from([("a mark".to_owned(), 3)]),
        };
        let mut all = part(1);
        all.add(part(2));
        assert_eq!((all.seeds, all.node_ms), (4, 20));
        assert_eq!(all.failed["no_panic"], [1, 2]);
        assert_eq!(all.marks["a mark"], 6);
    }
}
