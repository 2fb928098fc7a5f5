//! The parts of the simulator behind the commands: plans, their runs, and how they are judged.
//!
//! Thin on purpose: a command speaks to these functions, and these speak to the parts.

use std::collections::BTreeMap;

use lab_agent_core::ViewMask;

use super::args::{StoreWord, WorldArgs};
use super::exit::Failure;
use super::progress::Reach;
use super::scribe::Scribe;
use crate::adversary;
use crate::duration::words;
use crate::network;
use crate::plan::{self, Judges, Outcome, Plan, Profile, Store, Trouble, generate_sized};
use crate::report::{Objection, Report};
use crate::scenario::measure::{NETWORKS, network_name};
use crate::timeline::Timeline;

/// Runs that a search for a shorter plan may take.
const SHRINK_RUNS: u32 = 2_000;

/// Where a plan comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source<'a> {
    /// Made from a seed.
    Seed(u64),
    /// The text of a plan file.
    Text(&'a str),
}

/// A run.
#[derive(Debug, Default)]
pub(crate) struct Ran {
    /// The plan as text.
    pub(crate) plan: String,
    /// What people read.
    pub(crate) report: Report,
    /// What happened.
    pub(crate) timeline: Timeline,
    /// Virtual milliseconds times nodes.
    pub(crate) node_ms: u64,
    /// What a node held at the end, as JSON, when that was asked for.
    pub(crate) dump: Option<String>,
}

/// How a plan is run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct How {
    /// Stop at this moment, virtual milliseconds since the mesh stood.
    pub(crate) until_ms: Option<u64>,
    /// Keep every transition.
    pub(crate) is_traced: bool,
    /// Keep what this node holds at the end.
    pub(crate) dump: Option<usize>,
}

/// Who judges a run, and how many they are.
fn judges(plan: &Plan) -> (Box<dyn Judges>, usize) {
    let panel = plan.panel();
    let count = panel.names().len();
    (Box::new(panel), count)
}

/// The plan of a source, with what the command line says otherwise.
pub(crate) fn plan_of(source: Source<'_>, world: &WorldArgs) -> Result<Plan, Failure> {
    let mut plan = match source {
        Source::Text(text) => {
            Plan::read(text).map_err(|error| Failure::usage(format!("read the plan: {error}")))?
        }
        Source::Seed(seed) => {
            let name = world.profile.as_deref().unwrap_or("homelab");
            let profile = Profile::named(name).unwrap_or(Profile::Homelab);
            let nodes = world.nodes.unwrap_or_else(|| profile.nodes());
            if nodes < 2 {
                return Err(Failure::usage("--nodes: at least 2"));
            }
            generate_sized(seed, profile, nodes)
        }
    };
    if let Some(store) = world.store {
        plan.options.store = match store {
            StoreWord::Model => Store::Model,
            StoreWord::Real => Store::Real,
            StoreWord::Lean => Store::Lean,
            StoreWord::Mixed(n) => Store::Mixed(u32::try_from(n).unwrap_or(u32::MAX)),
        };
    }
    if let Some(name) = &world.network {
        let profile = NETWORKS.iter().find(|(n, _)| n == name);
        plan.options.network = network::Config {
            loss_per_mille: plan.options.network.loss_per_mille,
            ..network::Config::new(profile.map_or(network::Profile::Lan, |(_, p)| *p))
        };
    }
    if let Some(ms) = world.for_ms {
        let end = plan.phases.chaos_at() + ms;
        plan.phases.chaos_ms = ms;
        plan.actions.retain(|a| a.at_ms < end);
        plan.faults.retain(|f| f.at_ms < end);
    }
    plan.check()
        .map_err(|error| Failure::usage(error.to_string()))?;
    Ok(plan)
}

/// The part of a plan before a moment: the same up to there, and then nothing.
fn cut(plan: &Plan, until_ms: u64) -> Plan {
    let mut plan = plan.clone();
    if until_ms < plan.phases.core_at() {
        plan.phases.warm_up_ms = plan.phases.warm_up_ms.min(until_ms);
        plan.phases.chaos_ms = until_ms - plan.phases.warm_up_ms;
        plan.phases.core.clear();
        plan.phases.heal_ms = 0;
    } else if until_ms < plan.phases.heal_at() {
        plan.phases.core_ms = until_ms - plan.phases.core_at();
        plan.phases.heal_ms = 0;
    } else {
        let heal_at = plan.phases.heal_at();
        plan.phases.heal_ms = plan.phases.heal_ms.min(until_ms - heal_at);
    }
    plan.actions.retain(|a| a.at_ms <= until_ms);
    plan.faults.retain(|f| f.at_ms <= until_ms);
    plan
}

/// Runs a plan; tells how far it is.
pub(crate) fn run(
    source: Source<'_>,
    world: &WorldArgs,
    how: How,
    tick: &mut dyn FnMut(Reach),
) -> Result<Ran, Failure> {
    let whole = plan_of(source, world)?;
    let plan = match how.until_ms {
        Some(until_ms) => cut(&whole, until_ms),
        None => whole.clone(),
    };
    let (mut judges, oracle_count) = judges(&plan);
    let mut scribe = Scribe::new(&plan, how.is_traced, how.dump, tick);
    let outcome = plan::run_with(&plan, judges.as_mut(), &mut scribe, &mut adversary::all());
    let base_ms = scribe.base_ms();
    let (mut timeline, dump) = scribe.done();
    let report = report(&plan, &outcome, base_ms, oracle_count);
    for objection in &report.objections {
        timeline.mark(
            objection.at_ms,
            objection.node,
            crate::timeline::MarkKind::Violation,
            &format!("{}: {}", objection.oracle, objection.what),
        );
    }
    Ok(Ran {
        plan: whole.write(),
        report,
        timeline,
        node_ms: outcome.stats.virtual_ms * outcome.stats.nodes,
        dump,
    })
}

/// A run for people. Moments are counted from when the mesh stood, `base_ms` after the world began.
pub(crate) fn report(plan: &Plan, outcome: &Outcome, base_ms: u64, oracle_count: usize) -> Report {
    let stats = &outcome.stats;
    let options = &plan.options;
    let mut done: BTreeMap<String, u64> = BTreeMap::new();
    for fault in &plan.faults {
        *done.entry(fault_name(&fault.what)).or_default() += 1;
    }
    for action in &plan.actions {
        let what = format!("{} by a person", first_word(&action.what));
        *done.entry(what).or_default() += 1;
    }
    let objections = outcome.violations.iter().map(|v| Objection {
        oracle: v.oracle.to_owned(),
        at_ms: (v.at.0 / 1_000_000).saturating_sub(base_ms),
        node: v.node,
        what: v.what.clone(),
    });
    let figures = [
        ("frames", stats.frames),
        ("payload bytes", stats.bytes),
        ("inputs handled", stats.steps),
        ("starts of agents", stats.starts),
        ("actions done", stats.done),
        ("actions refused", stats.refused),
        ("actions that nobody answered", stats.unknown),
        ("actions not tried", stats.left),
    ];
    let digest: String = outcome.digest[..16]
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    let story = plan.story.trim();
    let mut simulated = vec![
        format!(
            "{} machines ({}), network {}, {} disks",
            options.nodes,
            options.profile.name(),
            network_name(options.network.profile),
            format!("{:?}", options.store).to_lowercase(),
        ),
        format!(
            "{} of virtual time, seed {}",
            words(stats.virtual_ms),
            plan.seed
        ),
    ];
    if !story.is_empty() {
        simulated.push(story.to_owned());
    }
    Report {
        simulated,
        done: done.into_iter().collect(),
        objections: objections.collect(),
        oracle_count,
        figures: figures
            .iter()
            .map(|(n, v)| ((*n).to_owned(), v.to_string()))
            .collect(),
        marks: outcome
            .marks
            .iter()
            .map(|(k, v)| ((*k).to_owned(), *v))
            .collect(),
        digest,
        replay: Vec::new(),
    }
}

/// What goes wrong, in a word or two.
pub(super) fn fault_name(what: &Trouble) -> String {
    match what {
        Trouble::Network(fault) => format!("network: {}", first_word(fault)),
        Trouble::Disk(fault) => format!("disk: {}", first_word(fault)),
        Trouble::Clock(fault) => format!("clock: {}", first_word(fault)),
        Trouble::Process(fault) => format!("machine: {}", first_word(fault)),
    }
}

/// The name of a variant as words: `KillAtOutput` is "kill at output".
pub(super) fn first_word(what: &impl std::fmt::Debug) -> String {
    let text = format!("{what:?}");
    let end = text.find(|c: char| !c.is_alphanumeric());
    let mut out = String::new();
    for c in text[..end.unwrap_or(text.len())].chars() {
        if c.is_uppercase() && !out.is_empty() {
            out.push(' ');
        }
        out.extend(c.to_lowercase());
    }
    out
}

/// A shorter plan that fails the same oracle, or an error if the plan does not fail.
pub(crate) fn shrink(text: &str, is_over: &mut dyn FnMut() -> bool) -> Result<Plan, Failure> {
    let plan = plan_of(Source::Text(text), &WorldArgs::default())?;
    let run = |plan: &Plan| {
        let (mut judges, _) = judges(plan);
        plan::run_with(plan, judges.as_mut(), &mut (), &mut adversary::all())
    };
    let outcome = run(&plan);
    let Some(oracle) = outcome.violations.first().map(|v| v.oracle) else {
        return Err(Failure::usage(
            "the plan does not fail, there is nothing to shrink",
        ));
    };
    let mut budget = plan::Budget {
        runs: SHRINK_RUNS,
        is_over,
    };
    let shrunk = plan::shrink(&plan, &mut budget, &mut |plan| run(plan).fails(oracle));
    Ok(shrunk.plan)
}

/// A regression test for a plan that fails an oracle.
pub(crate) fn repro(text: &str, oracle: &str) -> Option<String> {
    let plan = Plan::read(text).ok()?;
    Some(plan::repro(&plan, oracle))
}

/// Everything a person can be shown of a node's replica, as JSON.
pub(super) fn dump(world: &mut crate::World, node: usize) -> String {
    let mask = ViewMask {
        roster: true,
        fields: true,
        reports: true,
        history_count: 100,
        chains: false,
    };
    let view = (node < world.len())
        .then(|| world.agent_view(node, mask))
        .flatten();
    match view {
        Some(view) => serde_json::to_string_pretty(&view).unwrap_or_default(),
        None => "null".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> WorldArgs {
        WorldArgs {
            nodes: Some(3),
            for_ms: Some(20_000),
            store: Some(StoreWord::Model),
            ..WorldArgs::default()
        }
    }

    #[test]
    fn a_seed_gives_a_report_a_timeline_and_the_same_digest_again() {
        let how = How {
            is_traced: true,
            ..How::default()
        };
        let mut ticks = 0;
        let ran = run(Source::Seed(7), &small(), how, &mut |_| ticks += 1).expect("it runs");
        assert!(ticks > 0 && ran.node_ms > 60_000);
        assert_eq!(ran.timeline.names.len(), 3);
        assert!(!ran.timeline.samples.is_empty());
        let again = run(
            Source::Text(&ran.plan),
            &WorldArgs::default(),
            How::default(),
            &mut |_| {},
        );
        assert_eq!(again.expect("it runs").report.digest, ran.report.digest);
    }

    #[test]
    fn a_replay_stops_where_it_is_told_and_shows_a_node() {
        let how = How {
            until_ms: Some(9_000),
            is_traced: true,
            dump: Some(1),
        };
        let ran = run(Source::Seed(7), &small(), how, &mut |_| {}).expect("it runs");
        assert!(ran.timeline.end_ms <= 9_000, "{}", ran.timeline.end_ms);
        assert!(ran.dump.is_some_and(|d| d.contains("\"members\"")));
    }

    #[test]
    fn adversaries_play_their_part() {
        let mut plan = generate_sized(7, Profile::Homelab, 3);
        plan.faults.clear();
        plan.phases.core.clear();
        plan.actions = vec![plan::Action {
            at_ms: 6_000,
            who: 0,
            node: 2,
            what: plan::Act::Adversary {
                name: "liar".to_owned(),
                with: 0,
            },
        }];
        let how = How {
            until_ms: Some(9_000),
            is_traced: true,
            dump: None,
        };
        let text = plan.write();
        let ran = run(Source::Text(&text), &WorldArgs::default(), how, &mut |_| {});
        let told = ran.expect("it runs").timeline.text();
        assert!(told.contains("adversary"), "{told}");
        assert!(!told.contains("not tried"), "{told}");
    }

    #[test]
    fn a_plan_that_cannot_be_read_is_wrong_usage() {
        let failure = plan_of(Source::Text("(x"), &WorldArgs::default()).expect_err("no plan");
        assert!(failure.what.contains("line 1"), "{}", failure.what);
    }
}
