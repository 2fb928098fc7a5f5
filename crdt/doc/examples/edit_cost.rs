//! What an edit costs, by the size of the fleet: `cargo run --release -p lab-crdt-doc --example
//! edit_cost`.
//!
//! Each size runs in a process of its own, so that memory is its own. The fleet has twelve labels
//! per machine and was written in one edit per machine, by one author.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![expect(clippy::print_stdout, reason = "a benchmark prints")]

use std::process::Command;
use std::time::Instant;

use lab_crdt_doc::{Document, Edit};
use lab_crdt_model::{AuthorId, Field, Hlc, MeshId, Op, Path, StatementId, Value};

const MESH: MeshId = MeshId([1; 32]);
const LABELS: [&str; 12] = [
    "role=web",
    "site=home",
    "rack=r1",
    "tier=gold",
    "os=debian",
    "arch=amd64",
    "owner=ada",
    "zone=z1",
    "power=low",
    "disk=ssd",
    "net=lan",
    "stage=prod",
];

fn main() {
    if let Some(machines) = std::env::args().nth(1).and_then(|text| text.parse().ok()) {
        measure(machines);
        return;
    }
    println!(
        "{:>8} {:>8} | {:>9} {:>9} {:>9} | {:>9} {:>9} {:>9} | {:>9} {:>9} {:>9} {:>9} | {:>8} {:>8}",
        "machines",
        "fields",
        "edit ms",
        "12 ops ms",
        "concur ms",
        "build ms",
        "1 by 1 ms",
        "save MB",
        "save ms",
        "load ms",
        "read ms",
        "at ms",
        "MB",
        "peak MB",
    );
    let program = std::env::current_exe().expect("this program has a path");
    for machines in ["100", "1000", "10000"] {
        let status = Command::new(&program)
            .arg(machines)
            .status()
            .expect("this program starts");
        assert!(status.success(), "{machines} machines failed");
    }
}

fn measure(machines: u32) {
    let fleet: Vec<Edit> = (0..machines).map(|n| write_machine(n, n, true)).collect();
    let before = memory_mb("VmRSS");
    let (mut document, build_ms) = timed(|| {
        let mut document = Document::new(&MESH);
        document.apply(&fleet).expect("a line of edits");
        document
    });
    let (memory, peak) = (memory_mb("VmRSS") - before, memory_mb("VmHWM") - before);
    let fields = document.fields().count();

    let (save, save_ms) = timed(|| document.save());
    let (loaded, load_ms) = timed(|| Document::load(&MESH, &save).expect("our own save"));
    assert_eq!(loaded.heads(), document.heads());
    drop(loaded);
    let (_, read_ms) = timed(|| document.read());
    let middle = fleet[fleet.len() / 2].id;
    let (_, at_ms) = timed(|| document.at(&[middle]).expect("an edit of the fleet"));

    let (_, one_by_one_ms) = timed(|| {
        let mut document = Document::new(&MESH);
        for edit in &fleet {
            document
                .apply(std::slice::from_ref(edit))
                .expect("a line of edits");
        }
    });

    let mut next = machines;
    let small: Vec<Edit> = (0..1000)
        .map(|n| label(next + n, n * 7919 % machines))
        .collect();
    next += 1000;
    let edit_ms = each(&mut document, &small);
    let large: Vec<Edit> = (0..300)
        .map(|n| write_machine(next + n, n * 7919 % machines, false))
        .collect();
    next += 300;
    let large_ms = each(&mut document, &large);
    // Someone who last heard of the fleet halfway through works on alone: no edit sees everything.
    let mut parents = vec![middle];
    let mut away = Vec::new();
    for n in 0..1000 {
        let edit = Edit {
            author: AuthorId([3; 32]),
            parents,
            ..label(next + n, n * 7919 % machines)
        };
        parents = vec![edit.id];
        away.push(edit);
    }
    let concurrent_ms = each(&mut document, &away);

    println!(
        "{machines:>8} {fields:>8} | {edit_ms:>9.3} {large_ms:>9.3} {concurrent_ms:>9.3} | {build_ms:>9.0} \
         {one_by_one_ms:>9.0} {:>9.3} | {save_ms:>9.1} {load_ms:>9.1} {read_ms:>9.1} {at_ms:>9.1} | \
         {memory:>8.1} {peak:>8.1}",
        save.len() as f64 / 1e6,
    );
}

/// Edit number `n` of the first author writes the labels of a machine.
fn write_machine(n: u32, machine: u32, value: bool) -> Edit {
    let op = |label: &&str| Op::Set {
        path: path(machine, label),
        field: Field::new(Value::Bool(value), "set:home"),
    };
    edit(n, LABELS.iter().map(op).collect())
}

/// Edit number `n` of the first author takes one label from a machine.
fn label(n: u32, machine: u32) -> Edit {
    let path = path(machine, LABELS[(n % 12) as usize]);
    edit(
        n,
        vec![Op::Set {
            path,
            field: Field::new(Value::Bool(false), "person:ada"),
        }],
    )
}

fn edit(n: u32, ops: Vec<Op>) -> Edit {
    Edit {
        id: id(n),
        author: AuthorId([2; 32]),
        branch: None,
        at: Hlc((1_700_000_000_000 + u64::from(n) * 1237) << 16),
        message: "label machines".into(),
        parents: n.checked_sub(1).map(id).into_iter().collect(),
        ops,
    }
}

fn id(n: u32) -> StatementId {
    StatementId(*blake3::hash(&n.to_be_bytes()).as_bytes())
}

fn path(machine: u32, label: &str) -> Path {
    format!("label/machine-{machine:05}/{label}")
        .parse()
        .expect("a path")
}

fn each(document: &mut Document, edits: &[Edit]) -> f64 {
    let ((), ms) = timed(|| {
        for edit in edits {
            document
                .apply(std::slice::from_ref(edit))
                .expect("known parents");
        }
    });
    ms / edits.len() as f64
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let start = Instant::now();
    let result = work();
    (result, start.elapsed().as_secs_f64() * 1e3)
}

/// A line of this process's status, in megabytes; zero where there is none.
fn memory_mb(line: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kb = |text: &str| text.split_whitespace().nth(1)?.parse::<f64>().ok();
    status
        .lines()
        .find(|text| text.starts_with(line))
        .and_then(kb)
        .unwrap_or(0.0)
        / 1024.0
}
