//! `lab-sim bench`: how fast the simulator is.
//!
//! Speed is virtual time by the time that this had a processor, so that what else the machine does counts little; real
//! time stands beside it.

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
    "nodes",
    "what",
    "disks",
    "form",
    "start",
    "virtual",
    "real",
    "processor",
    "speed",
    "node-s/s",
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

/// What some work took.
#[derive(Clone, Copy, Default)]
struct Took {
    real: Duration,
    /// Of one processor.
    busy: Duration,
}

fn took<T>(work: impl FnOnce() -> T) -> (T, Took) {
    let before = busy();
    let (out, real) = timed(work);
    let busy = match (before, busy()) {
        (Some(before), Some(after)) => after - before,
        _ => real,
    };
    (out, Took { real, busy })
}

/// What one size gave.
#[derive(Default)]
struct Row {
    nodes: usize,
    what: String,
    disks: String,
    form: Option<Took>,
    start: Option<Took>,
    virtual_ms: u64,
    took: Took,
    inputs: u64,
    memory_bytes: Option<usize>,
    objections: usize,
    resident_kb: u64,
}

impl Row {
    /// Per second of a processor.
    fn rate(&self, count: u64) -> u64 {
        count * 1_000 / (self.took.busy.as_millis() as u64).max(1)
    }

    fn cells(&self) -> Vec<String> {
        let ms = |took: Duration| format!("{} ms", took.as_millis());
        let busy = |took: Option<Took>| took.map_or("-".to_owned(), |it| ms(it.busy));
        let tenths = self.rate(self.virtual_ms) / 100;
        vec![
            self.nodes.to_string(),
            self.what.clone(),
            self.disks.clone(),
            busy(self.form),
            busy(self.start),
            format!("{} s", self.virtual_ms / 1_000),
            ms(self.took.real),
            ms(self.took.busy),
            format!("{}.{}×", tenths / 10, tenths % 10),
            short(self.rate(self.virtual_ms * self.nodes as u64) / 1_000),
            format!("{} MB", self.resident_kb / 1_000),
        ]
    }

    fn document(&self) -> Json {
        let ms = |took: Duration| took.as_millis() as u64;
        let both = |took: Took| json!({ "real_ms": ms(took.real), "processor_ms": ms(took.busy) });
        json!({
            "nodes": self.nodes, "what": self.what, "disks": self.disks, "virtual_ms": self.virtual_ms,
            "form": self.form.map(both), "start": self.start.map(both), "run": both(self.took),
            "node_seconds_per_s": self.rate(self.virtual_ms * self.nodes as u64) / 1_000,
            "inputs_per_s": self.rate(self.inputs),
            "bytes_per_node": self.memory_bytes.map(|b| b / self.nodes), "resident_kb": self.resident_kb,
            "objections": self.objections,
        })
    }
}

/// Chaos under all oracles, then fleets at rest; tells the speed of each, and how busy the machine was meanwhile.
pub(crate) fn bench(ui: &Ui, args: &BenchArgs) -> Result<Exit, Failure> {
    let before = load();
    let mut rows = Vec::new();
    for nodes in args.chaos.iter().filter(|n| **n > 0) {
        rows.push(chaos(ui, (*nodes).max(2), args.seeds));
    }
    for nodes in args.nodes.iter().filter(|n| **n > 0) {
        rows.push(rest(ui, *nodes, args));
    }
    if ui.is_json() {
        ui.json(&rows.iter().map(Row::document).collect::<Vec<_>>())?;
    } else {
        let cells: Vec<Vec<String>> = rows.iter().map(Row::cells).collect();
        ui.out(&table::render(&HEAD, &cells, |_, _, text| text.to_owned()));
        let after = load();
        ui.out(&format!(
            "load of the machine: before {before}, after {after}\n"
        ));
    }
    Ok(Exit::Well)
}

/// Plans in which everything goes wrong, on real disks, under all oracles.
fn chaos(ui: &Ui, nodes: usize, seeds: (u64, u64)) -> Row {
    let mut row = Row {
        nodes,
        disks: "real".to_owned(),
        ..Row::default()
    };
    let ((), took) = took(|| {
        for seed in seeds.0..seeds.1 {
            let plan = generate_full(seed, Profile::Homelab, nodes);
            let outcome = plan::run(&plan, &mut ());
            row.virtual_ms += outcome.stats.virtual_ms;
            row.inputs += outcome.stats.steps;
            for violation in &outcome.violations {
                ui.say(&format!("seed {seed}: {violation}"));
            }
            row.objections += outcome.violations.len();
        }
    });
    row.took = took;
    row.resident_kb = resident_kb();
    row.what = format!(
        "chaos, seeds {}..{}, {} objections",
        seeds.0, seeds.1, row.objections
    );
    row
}

/// A fleet that starts, and then an edit every ten seconds.
fn rest(ui: &Ui, nodes: usize, args: &BenchArgs) -> Row {
    let word = args.store.unwrap_or(if nodes > 200 {
        StoreWord::Lean
    } else {
        StoreWord::Model
    });
    let options = Options {
        store: store(word),
        ..Options::homelab(1)
    };
    let (mut world, form) = took(|| World::form(options, nodes));
    let ((), start) = took(|| world.run_for(START_MS));
    let (before, begin) = (steps(&world), world.now_ms());
    let ((), took) = took(|| go_on(ui, &mut world, args.for_ms));
    Row {
        nodes,
        what: "rest, an edit every 10 s".to_owned(),
        disks: format!("{word:?}").to_lowercase(),
        form: Some(form),
        start: Some(start),
        virtual_ms: world.now_ms() - begin,
        took,
        inputs: steps(&world) - before,
        memory_bytes: Some((0..world.len()).map(|n| world.memory(n)).sum()),
        objections: 0,
        resident_kb: resident_kb(),
    }
}

fn go_on(ui: &Ui, world: &mut World, for_ms: u64) {
    let mut progress = Progress::new(ui);
    let admin = world.admin.clone();
    let (nodes, before, start) = (world.len(), steps(world), world.now_ms());
    while world.now_ms() - start < for_ms {
        let at = world.now_ms() - start;
        if at % EDIT_EVERY_MS < SLICE_MS && at > SLICE_MS {
            let path = format!("on/role=nobody/params/b{}", at / EDIT_EVERY_MS);
            let _reply = admin.set(world, at as usize % nodes, &path, Value::Int(1));
        }
        world.run_for(SLICE_MS);
        progress.tick(Reach {
            virtual_ms: world.now_ms() - start,
            nodes: nodes as u64,
            events: steps(world) - before,
            violations: 0,
        });
    }
    progress.done();
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

/// How long this thread had a processor; `None` where nobody says.
fn busy() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let ns = text.split_whitespace().next()?.parse().ok()?;
    Some(Duration::from_nanos(ns))
}
