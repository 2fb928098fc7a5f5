//! `lab-sim bench`: how fast the simulator is.

use lab_crdt_model::Value;
use serde_json::json;

use super::args::{BenchArgs, StoreWord};
use super::exit::{Exit, Failure};
use super::progress::{Progress, Reach, short, timed};
use super::table;
use super::ui::Ui;
use crate::{Options, StoreKind, World};

const SLICE_MS: u64 = 1_000;
const EDIT_EVERY_MS: u64 = 10_000;

/// The kind of store of a word on the command line.
pub(super) const fn store(word: StoreWord) -> StoreKind {
    match word {
        StoreWord::Model => StoreKind::Model,
        StoreWord::Real => StoreKind::Real,
        StoreWord::Lean => StoreKind::Lean,
        StoreWord::Mixed(n) => StoreKind::Mixed(n),
    }
}

/// Forms meshes, lets them run with an edit every ten seconds, and tells the speed.
pub(crate) fn bench(ui: &Ui, args: &BenchArgs) -> Result<Exit, Failure> {
    let mut rows = Vec::new();
    let mut documents = Vec::new();
    for nodes in &args.nodes {
        let options = Options {
            store: store(args.store),
            ..Options::homelab(1)
        };
        let (mut world, formed) = timed(|| World::form(options, (*nodes).max(1)));
        let mut progress = Progress::new(ui);
        let admin = world.admin.clone();
        let before = steps(&world);
        let start = world.now_ms();
        while world.now_ms() - start < args.for_ms {
            let at = world.now_ms() - start;
            if at % EDIT_EVERY_MS < SLICE_MS && at > SLICE_MS {
                let path = format!("on/role=nobody/params/b{}", at / EDIT_EVERY_MS);
                let _reply = admin.set(&mut world, at as usize % nodes, &path, Value::Int(1));
            }
            world.run_for(SLICE_MS);
            progress.tick(Reach {
                virtual_ms: world.now_ms() - start,
                nodes: *nodes as u64,
                events: steps(&world) - before,
                violations: 0,
            });
        }
        let real_ms = (progress.done().as_millis() as u64).max(1);
        let virtual_ms = world.now_ms() - start;
        let events = steps(&world) - before;
        let node_seconds = virtual_ms * *nodes as u64 / real_ms;
        let memory: usize = (0..world.len()).map(|n| world.memory(n)).sum();
        rows.push(vec![
            nodes.to_string(),
            format!("{} ms", formed.as_millis()),
            format!("{real_ms} ms"),
            format!("{}×", virtual_ms / real_ms),
            short(node_seconds),
            short(events * 1_000 / real_ms),
            format!("{} kB", memory / nodes / 1_000),
        ]);
        documents.push(json!({
            "nodes": nodes, "virtual_ms": virtual_ms, "real_ms": real_ms, "formed_ms": formed.as_millis() as u64,
            "node_seconds_per_s": node_seconds, "events_per_s": events * 1_000 / real_ms, "bytes_per_node": memory / nodes,
        }));
    }
    if ui.is_json() {
        ui.json(&documents)?;
    } else {
        let head = [
            "nodes",
            "form",
            "real",
            "speed",
            "node-s/s",
            "events/s",
            "agent memory",
        ];
        ui.out(&table::render(&head, &rows, |_, _, text| text.to_owned()));
    }
    Ok(Exit::Well)
}

fn steps(world: &World) -> u64 {
    (0..world.len()).map(|n| world.counters(n).steps).sum()
}
