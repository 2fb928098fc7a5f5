//! What `tests/bench/calibrate.py` measures with real agents, predicted: the same number of agents, the same paths,
//! the same edits, kills and cuts, in virtual time. Prints JSON.
//!
//! ```text
//! predict --agents 20 --rounds 40 --latency-us 20000..60000 --loss 0 --cut-seconds 60 --seeds 5
//! ```
#![expect(clippy::print_stdout, reason = "figures for a script")]

use std::collections::BTreeMap;
use std::error::Error;

use lab_agent_core::{Command, CommandId, Event, Reply};
use lab_crdt_log::{Body, Draft, Edit, Grant, Rights, seal};
use lab_crdt_model::view::Liveness;
use lab_crdt_model::{Caller, Field, Mono, Op, StatementId, Value};
use lab_simulation::note::{Note, What};
use lab_simulation::{Options, Person, StoreKind, World, costs, network, seed};

/// What was asked for.
struct Asked {
    agents: usize,
    rounds: usize,
    latency_us: (u64, u64),
    loss_per_mille: u32,
    cut_ms: u64,
    seeds: u64,
    kills: usize,
    cores: usize,
    step_us: u64,
}

type Figures = BTreeMap<&'static str, Vec<f64>>;

fn main() -> Result<(), Box<dyn Error>> {
    let asked = read_arguments()?;
    let mut figures = Figures::new();
    for n in 1..=asked.seeds {
        predict(&asked, n, &mut figures);
    }
    let lists = figures.iter().map(|(name, values)| {
        let values: Vec<_> = values.iter().map(|v| format!("{v:.3}")).collect();
        format!("\"{name}\": [{}]", values.join(", "))
    });
    println!("{{{}}}", lists.collect::<Vec<_>>().join(",\n "));
    Ok(())
}

fn read_arguments() -> Result<Asked, Box<dyn Error>> {
    let mut asked = Asked {
        agents: 20,
        rounds: 40,
        latency_us: (20_000, 60_000),
        loss_per_mille: 0,
        cut_ms: 60_000,
        seeds: 5,
        kills: 4,
        cores: 2,
        step_us: costs::STEP_US,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words
            .next()
            .ok_or_else(|| format!("{word}: a value is missing"))?;
        match word.as_str() {
            "--agents" => asked.agents = value.parse()?,
            "--rounds" => asked.rounds = value.parse()?,
            "--latency-us" => {
                let (from, to) = value.split_once("..").ok_or("FROM..TO is expected")?;
                asked.latency_us = (from.parse()?, to.parse()?);
            }
            "--loss" => asked.loss_per_mille = value.parse()?,
            "--cut-seconds" => asked.cut_ms = value.parse::<u64>()? * 1000,
            "--seeds" => asked.seeds = value.parse()?,
            "--cores" => asked.cores = value.parse()?,
            "--step-us" => asked.step_us = value.parse()?,
            "--kills" => asked.kills = value.parse()?,
            _ => return Err(format!("{word}: unknown").into()),
        }
    }
    Ok(asked)
}

fn predict(asked: &Asked, number: u64, figures: &mut Figures) {
    let (from, to) = asked.latency_us;
    let network = network::Config {
        // What a wired building takes comes on top, and is far less than what the router adds.
        latency_us: from,
        jitter_us: to - from,
        loss_per_mille: asked.loss_per_mille,
        ..network::Config::default()
    };
    let mut world = World::found_with(Options {
        network,
        // Nothing fails here, and only the time of a commit counts.
        store: StoreKind::Lean,
        is_noted: true,
        step_ns: asked.step_us * 1000,
        cores: asked.cores,
        ..Options::homelab(number)
    });
    world.grow(asked.agents);
    world.run_for(20_000);
    let mut rng = seed::rng(number, "predict", 0);
    let mut figure = |name, value: f64| figures.entry(name).or_default().push(value);

    for round in 0..asked.rounds {
        world.run_for(500 + rng.below(1_000));
        let steps = all(&world, |c| c.steps);
        let frames = all(&world, |c| c.frames_out);
        let origin = rng.below(asked.agents as u64) as usize;
        let edit = edit(&mut world, origin, round);
        world.run_for(300);
        figure("steps", (all(&world, |c| c.steps) - steps) as f64);
        figure("frames", (all(&world, |c| c.frames_out) - frames) as f64);
        figure("submit_ms", ms(edit.signed, edit.acked));
        let others = &edit.others;
        let last = others[others.len() - 1];
        figure("acked_ms", ms(edit.acked, last));
        figure("begun_ms", ms(edit.begun, last));
        figure(
            "cli_ms",
            ms(edit.begun, last) + costs::COMMAND_US as f64 / 1000.0,
        );
        figure("half_ms", ms(edit.acked, others[others.len() / 2]));
        figure("first_ms", ms(edit.acked, others[0]));
    }

    for _ in 0..asked.kills {
        world.run_for(1_000 + rng.below(3_000));
        let victim = 1 + rng.below(asked.agents as u64 - 1) as usize;
        let dead = world.id(victim);
        world.take_notes();
        let start = world.now();
        world.kill(victim);
        let mut seen = BTreeMap::new();
        world.run_until(90_000, |w| {
            for note in w.take_notes() {
                if let What::Told(Event::PeerChanged { node, liveness }) = &note.what
                    && *node == dead
                    && *liveness == Liveness::Down
                {
                    seen.entry(note.node).or_insert(note.at);
                }
            }
            seen.len() + 1 == w.len()
        });
        let mut at: Vec<Mono> = seen.into_values().collect();
        at.sort_unstable();
        if at.len() + 1 == asked.agents {
            figure("first_s", ms(start, at[0]) / 1000.0);
            figure("last_s", ms(start, at[at.len() - 1]) / 1000.0);
        }
        world.start(victim);
        world.run_for(25_000);
    }

    // The second operator, for the other side.
    let bob = Person::new(77, StatementId::ZERO, "bob");
    let bob = enrol(&mut world, bob);
    world.run_for(5_000);
    let (left, right): (Vec<usize>, Vec<usize>) = (0..asked.agents).partition(|i| i % 2 == 0);
    world.partition(&left, &right);
    world.run_for(asked.cut_ms * 3 / 4);
    let admin = world.admin.clone();
    admin.set(&mut world, 0, "label/n0/bench0", Value::Bool(true));
    bob.set(&mut world, 1, "label/n1/bench1", Value::Bool(true));
    world.run_for(asked.cut_ms / 4);
    world.heal();
    let start = world.now();
    let (mut data, mut members) = (None, None);
    let mut next_look = start;
    world.run_until(180_000, |w| {
        if data.is_none() && w.are_equal() {
            data = Some(w.now());
        }
        if members.is_none() && w.now() >= next_look {
            next_look = w.now().plus_ms(100);
            let n = w.len();
            let is_down =
                (0..n).any(|a| (0..n).any(|b| a != b && w.opinion(a, b) == Some(Liveness::Down)));
            members = (!is_down).then(|| w.now());
        }
        data.is_some() && members.is_some()
    });
    if let (Some(data), Some(members)) = (data, members) {
        figure("data_s", ms(start, data) / 1000.0);
        figure("members_s", ms(start, members) / 1000.0);
    }
}

/// When each step of an edit was done, and when the other agents told of it.
struct Edited {
    begun: Mono,
    signed: Mono,
    acked: Mono,
    others: Vec<Mono>,
}

/// One edit, with the times that a person's program takes between its steps.
fn edit(world: &mut World, origin: usize, round: usize) -> Edited {
    let admin = world.admin.clone();
    let op = Op::Set {
        path: format!("label/n0/calibrate{round}")
            .parse()
            .expect("a path"),
        field: Field::new(Value::Bool(true), "person:ana"),
    };
    let begun = world.now();
    pass(world, costs::CONNECT_US);
    let author = admin.author();
    let Reply::Prepared(prepared) = ask(world, origin, Command::Prepare { author }) else {
        panic!("no end of a chain")
    };
    pass(world, costs::ASK_US + costs::SIGN_US);
    let draft = Draft {
        seq: prepared.seq,
        prev: prepared.prev,
        under: admin.under,
        hlc: prepared.hlc.next(world.wall(origin)),
        refs: prepared.refs,
        body: Body::Edit(Edit {
            message: format!("set calibrate{round}"),
            ops: vec![op],
        }),
    };
    let bytes = seal(&prepared.mesh, &admin.key, &draft).expect("within limits");
    let signed = world.now();
    pass(world, costs::ASK_US);
    world.take_notes();
    let statements = vec![bytes];
    let command = world.send_command(
        origin,
        Command::Submit {
            caller: Caller::Local { uid: 0 },
            statements,
        },
    );
    let mut told: BTreeMap<usize, Mono> = BTreeMap::new();
    let mut acked = None;
    world.run_until(30_000, |w| {
        for Note { at, node, what } in w.take_notes() {
            match what {
                What::Acked { command: c, .. } if c == command => acked = Some(at),
                What::Told(Event::IntentChanged { .. }) if node != origin => {
                    told.entry(node).or_insert(at);
                }
                _ => {}
            }
        }
        acked.is_some() && told.len() + 1 == w.len()
    });
    let later = |at: Mono, us: u64| Mono(at.0 + us * 1000);
    let mut others: Vec<Mono> = told
        .into_values()
        .map(|at| later(at, costs::NOTICE_US))
        .collect();
    others.sort_unstable();
    assert_eq!(others.len() + 1, world.len(), "the edit is everywhere");
    Edited {
        begun,
        signed,
        acked: later(acked.expect("an acknowledged edit"), costs::ASK_US),
        others,
    }
}

/// Lets so many microseconds pass.
fn pass(world: &mut World, us: u64) {
    world.run_to(Mono(world.now().0 + us * 1000));
}

/// Asks and waits, to the moment.
fn ask(world: &mut World, node: usize, command: Command) -> Reply {
    let id: CommandId = world.send_command(node, command);
    let end = world.now().plus_ms(10_000);
    loop {
        if let Some(reply) = world.take_reply(id) {
            return reply;
        }
        assert!(world.step(end), "an answer within ten seconds");
    }
}

/// Lets the admin allow a person to edit labels.
fn enrol(world: &mut World, person: Person) -> Person {
    let admin = world.admin.clone();
    let grant = Grant {
        subject: person.author(),
        name: person.name.clone(),
        rights: Rights::ALL,
        scope: vec![String::new()],
        not_after: None,
    };
    let reply = admin.say(world, 0, Body::Grant(grant));
    let Reply::Submitted { ids } = reply else {
        panic!("{reply:?}")
    };
    Person {
        under: ids[ids.len() - 1],
        ..person
    }
}

fn all(world: &World, of: impl Fn(&lab_simulation::Counters) -> u64) -> u64 {
    (0..world.len()).map(|n| of(world.counters(n))).sum()
}

fn ms(from: Mono, to: Mono) -> f64 {
    (to.0 as f64 - from.0 as f64) / 1e6
}
