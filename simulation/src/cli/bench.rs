//! `lab-sim bench`: how fast the simulator is.

use std::time::Duration;

use lab_crdt_model::Value;
use serde_json::{Value as Json, json};

use super::args::{BenchArgs, StoreWord};
use super::exit::{Exit, Failure};
use super::progress::{Progress, Reach, short, timed};
use super::table;
use super::ui::Ui;
use crate::plan::{self, Profile, generate_full};
use crate::{Options, StoreKind, World};

const SLICE_MS: u64 = 1_000;
const EDIT_EVERY_MS: u64 = 10_000;
/// How long a fleet is given to get up before it counts as standing, milliseconds.
const START_MS: u64 = 30_000;
const HEAD: [&str; 11] = [
    "nodes", "what", "disks", "form", "start", "virtual", "real", "speed", "node-s/s", "inputs/s",
    "resident",
];

/// The kind of store of a word on the command line.
pub(super) const fn store(word: StoreWord) -> StoreKind {
    match word {
        StoreWord::Model => StoreKind::Model,
        StoreWord::Real => StoreKind::Real,
        StoreWord::Lean => StoreKind::Lean,
        StoreWord::Mixed(n) => StoreKind::Mixed(n),
    }
}

/// What one size gave.
#[derive(Default)]
struct Row {
    nodes: usize,
    what: String,
    disks: String,
    formed: Option<Duration>,
    started: Option<Duration>,
    virtual_ms: u64,
    real: Duration,
    inputs: u64,
    memory_bytes: Option<usize>,
    objections: usize,
}

impl Row {
    fn real_ms(&self) -> u64 {
        (self.real.as_millis() as u64).max(1)
    }

    fn node_seconds(&self) -> u64 {
        self.virtual_ms * self.nodes as u64 / self.real_ms()
    }

    /// Virtual time by real time, in tenths.
    fn speed_tenths(&self) -> u64 {
        self.virtual_ms * 10 / self.real_ms()
    }

    fn cells(&self) -> Vec<String> {
        let ms =
            |it: Option<Duration>| it.map_or("-".to_owned(), |d| format!("{} ms", d.as_millis()));
        let tenths = self.speed_tenths();
        vec![
            self.nodes.to_string(),
            self.what.clone(),
            self.disks.clone(),
            ms(self.formed),
            ms(self.started),
            format!("{} s", self.virtual_ms / 1_000),
            ms(Some(self.real)),
            format!("{}.{}×", tenths / 10, tenths % 10),
            short(self.node_seconds()),
            short(self.inputs * 1_000 / self.real_ms()),
            format!("{} MB", resident_kb() / 1_000),
        ]
    }

    fn document(&self) -> Json {
        json!({
            "nodes": self.nodes, "what": self.what, "disks": self.disks,
            "virtual_ms": self.virtual_ms, "real_ms": self.real_ms(),
            "formed_ms": self.formed.map(|d| d.as_millis() as u64),
            "started_ms": self.started.map(|d| d.as_millis() as u64),
            "node_seconds_per_s": self.node_seconds(), "inputs_per_s": self.inputs * 1_000 / self.real_ms(),
            "bytes_per_node": self.memory_bytes.map(|b| b / self.nodes), "resident_kb": resident_kb(),
            "objections": self.objections,
        })
    }
}

/// Chaos under all oracles, then fleets at rest; tells the speed of each, and how busy the machine was meanwhile.
pub(crate) fn bench(ui: &Ui, args: &BenchArgs) -> Result<Exit, Failure> {
    let load = load();
    let mut rows = Vec::new();
    for nodes in args.chaos.iter().filter(|n| **n > 0) {
        rows.push(chaos(ui, *nodes, args.seeds));
    }
    for nodes in args.nodes.iter().filter(|n| **n > 0) {
        rows.push(rest(ui, *nodes, args));
    }
    let documents: Vec<Json> = rows.iter().map(|(row, _)| row.document()).collect();
    if ui.is_json() {
        ui.json(&documents)?;
    } else {
        let cells: Vec<Vec<String>> = rows.into_iter().map(|(_, cells)| cells).collect();
        ui.out(&table::render(&HEAD, &cells, |_, _, text| text.to_owned()));
        ui.out(&format!(
            "load of the machine before {load}, after {}\n",
            self::load()
        ));
    }
    Ok(Exit::Well)
}

/// Plans in which everything goes wrong, on real disks, under all oracles.
fn chaos(ui: &Ui, nodes: usize, seeds: (u64, u64)) -> (Row, Vec<String>) {
    let mut row = Row {
        nodes,
        disks: "real".to_owned(),
        ..Row::default()
    };
    let progress = Progress::new(ui);
    for seed in seeds.0..seeds.1 {
        let plan = generate_full(seed, Profile::Homelab, nodes.max(2));
        let outcome = plan::run(&plan, &mut ());
        row.virtual_ms += outcome.stats.virtual_ms;
        row.inputs += outcome.stats.steps;
        row.objections += outcome.violations.len();
    }
    row.real = progress.done();
    row.what = format!(
        "chaos, seeds {}..{}, {} objections",
        seeds.0, seeds.1, row.objections
    );
    let cells = row.cells();
    (row, cells)
}

/// A fleet that starts, and then an edit every ten seconds.
fn rest(ui: &Ui, nodes: usize, args: &BenchArgs) -> (Row, Vec<String>) {
    let word = args.store.unwrap_or(if nodes > 200 {
        StoreWord::Lean
    } else {
        StoreWord::Model
    });
    let options = Options {
        store: store(word),
        ..Options::homelab(1)
    };
    let (mut world, formed) = timed(|| World::form(options, nodes));
    let ((), started) = timed(|| world.run_for(START_MS));
    let mut progress = Progress::new(ui);
    let admin = world.admin.clone();
    let (before, start) = (steps(&world), world.now_ms());
    while world.now_ms() - start < args.for_ms {
        let at = world.now_ms() - start;
        if at % EDIT_EVERY_MS < SLICE_MS && at > SLICE_MS {
            let path = format!("on/role=nobody/params/b{}", at / EDIT_EVERY_MS);
            let _reply = admin.set(&mut world, at as usize % nodes, &path, Value::Int(1));
        }
        world.run_for(SLICE_MS);
        progress.tick(Reach {
            virtual_ms: world.now_ms() - start,
            nodes: nodes as u64,
            events: steps(&world) - before,
            violations: 0,
        });
    }
    let row = Row {
        nodes,
        what: "rest, an edit every 10 s".to_owned(),
        disks: format!("{word:?}").to_lowercase(),
        formed: Some(formed),
        started: Some(started),
        virtual_ms: world.now_ms() - start,
        real: progress.done(),
        inputs: steps(&world) - before,
        memory_bytes: Some((0..world.len()).map(|n| world.memory(n)).sum()),
        objections: 0,
    };
    let cells = row.cells();
    (row, cells)
}

fn steps(world: &World) -> u64 {
    (0..world.len()).map(|n| world.counters(n).steps).sum()
}

/// Processes that want a processor, over the last 1, 5 and 15 minutes; empty where nobody says.
fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// The most memory that this process held so far, kB; 0 where nobody says.
fn resident_kb() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.and_then(|l| l.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}
