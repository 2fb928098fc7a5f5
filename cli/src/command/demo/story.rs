//! What happens in the demo, in order.

use std::time::Duration;

use lab_crdt_model::view::{Liveness, ReplicaView};

use super::cast::LAPTOP;
use super::declarations::{CACHE, CACHE_FILE, FLEET, MOTD, MOTD_ANA, MOTD_BOB, MOTD_FILE, welcome};
use super::report::{Measured, seconds};
use super::stage::{Seen, Stage};
use super::typed::Typed;
use crate::clock::Stopwatch;
use crate::error::{CommandError, Exit};
use crate::print::{count, safe};

/// How long anything may take that needs a few messages. Far more than it takes: a busy machine is no failure.
const SOON: Duration = Duration::from_secs(60);
/// How long anything may take that begins with finding someone again.
const LATER: Duration = Duration::from_secs(180);
/// Who founds the mesh and is used by ana, its admin.
const FOUNDER: &str = "nas1";

/// Plays everything; fails at the first thing that does not happen.
pub(super) async fn play(stage: &mut Stage<'_>) -> Result<Measured, CommandError> {
    let watch = Stopwatch::start();
    let mut measured = Measured::default();
    let [.., crashing, cut_off, _] = &stage.machines[..] else {
        return Err(CommandError::usage("a demo has at least three machines"));
    };
    let (crashing, cut_off) = (crashing.name.clone(), cut_off.name.clone());
    stage.tell(&format!("everything happens in {}", stage.dir().display()));

    found(stage, &mut measured).await?;
    join(stage, &mut measured).await?;
    declare(stage, &mut measured).await?;
    crash(stage, &crashing, &mut measured).await?;
    split(stage, &cut_off, &mut measured).await?;
    heal(stage, &cut_off, &mut measured).await?;

    let memory = stage.machines.iter().filter_map(|m| m.memory_kib()).max();
    measured.kib("memory of the largest agent", memory.unwrap_or_default());
    measured.total = watch.elapsed();
    Ok(measured)
}

async fn found(stage: &mut Stage<'_>, measured: &mut Measured) -> Result<(), CommandError> {
    stage.act("ana founds a mesh on nas1");
    let mut init = Typed::new(&[
        "init", "--name", "demo", "--node", FOUNDER, "--admin", "ana",
    ]);
    for label in stage.machines[0].labels {
        init = init.with(&["--label", label]);
    }
    let answer = init
        .with(&["--words-file", "root.words", "--no-passphrase"])
        .at(FOUNDER)
        .by("ana")
        .run(stage)
        .await?;
    measured.time("a mesh is founded", answer.took);
    let took = stage.start(FOUNDER).await?;
    measured.time("its first agent answers", took);
    stage.seen(&format!(
        "the agent of nas1 answers after {}",
        seconds(took)
    ));
    Ok(())
}

async fn join(stage: &mut Stage<'_>, measured: &mut Measured) -> Result<(), CommandError> {
    let others: Vec<_> = stage.machines[1..]
        .iter()
        .map(|m| (m.name.clone(), m.labels, m.is_node()))
        .collect();
    stage.act(&format!(
        "{} and bob's laptop join, each with a token that works once",
        count(others.len() - 1, "machine")
    ));
    let watch = Stopwatch::start();
    let mut longest = Duration::ZERO;
    for (name, labels, is_node) in &others {
        let mut create = Typed::new(&["token", "create", name]);
        for label in *labels {
            create = create.with(&["--label", label]);
        }
        if !is_node {
            create = create.with(&["--role", "laptop", "--right", "labels,config"]);
        }
        let file = format!("{name}.token");
        create
            .at(FOUNDER)
            .by("ana")
            .into_file(&file)
            .silent()
            .run(stage)
            .await?;
        let mut join = Typed::new(&["join", "--token-file", &file, "-y"])
            .at(name)
            .with(&["--bind", "127.0.0.1:0", "--no-lan"]);
        if !is_node {
            join = join.with(&["--no-passphrase"]).by("bob");
        }
        let answer = join.silent().run(stage).await?;
        longest = longest.max(answer.took);
        let took = stage.start(name).await?;
        let (joined, took) = (seconds(answer.took), seconds(took));
        stage.seen(&format!(
            "{name} is in after {joined}, its agent answers after {took}"
        ));
    }
    stage
        .until("everyone knows everyone", LATER, async || {
            stage.know_each_other().await
        })
        .await?;
    let up = stage.up();
    stage
        .until("all replicas are equal", LATER, async || {
            stage.are_equal(&up).await
        })
        .await?;
    let took = watch.elapsed();
    stage.seen(&format!(
        "{} know each other and agree, {} after the first token",
        up.len(),
        seconds(took)
    ));
    measured.time("joining takes at most", longest);
    measured.time(
        format!("{} machines joined and know each other", up.len() - 1),
        took,
    );

    let spent = format!("{}.token", others[0].0);
    stage.tell("A token that was used is worth nothing to someone who finds it:");
    Typed::new(&["join", "--token-file", &spent, "-y"])
        .at("thief")
        .with(&["--bind", "127.0.0.1:0", "--no-lan"])
        .ends(&[Exit::Refused])
        .run(stage)
        .await?;
    Ok(())
}

async fn declare(stage: &mut Stage<'_>, measured: &mut Measured) -> Result<(), CommandError> {
    stage.act("ana declares what the fleet should be");
    write(stage, "lab.yaml", FLEET)?;
    let apply = |file: &str| {
        Typed::new(&["apply", "-f", file, "-y", "--timeout", "60s"])
            .at(FOUNDER)
            .by("ana")
            .short()
    };
    stage.tell("Declarations say what labels mean. The example fleet has one contradiction in it:");
    let answer = apply("lab.yaml").ends(&[Exit::Conflict]).run(stage).await?;
    measured.time("the example fleet is applied everywhere", answer.took);
    let key = "profile::base::swappiness";
    Typed::new(&["explain", "nuc1", key])
        .at(FOUNDER)
        .ends(&[Exit::Conflict])
        .run(stage)
        .await?;

    stage.tell("A second set settles that for nuc1, and declares files:");
    write(stage, "ana.yaml", &welcome(MOTD))?;
    let answer = apply("ana.yaml").run(stage).await?;
    let up = stage.up();
    let watch = Stopwatch::start();
    stage
        .until("every machine has its files", SOON, async || {
            nodes(&up).try_for_each(|name| {
                stage.has_file(name, MOTD_FILE, &format!("This is {name}, one of ours"))
            })
        })
        .await?;
    measured.time("files are on every machine", answer.took + watch.elapsed());
    let all: Vec<_> = nodes(&up)
        .map(|name| format!("{name}/root/etc/motd"))
        .collect();
    show_files(stage, &all);
    stage
        .until("all replicas are equal", SOON, async || {
            stage.are_equal(&up).await
        })
        .await?;
    Typed::new(&["status", "-a"]).at(FOUNDER).run(stage).await?;
    Ok(())
}

async fn crash(
    stage: &mut Stage<'_>,
    name: &str,
    measured: &mut Measured,
) -> Result<(), CommandError> {
    stage.act(&format!("{name} crashes"));
    let watch = Stopwatch::start();
    stage.crash(name).await?;
    let up = stage.up();
    stage
        .until("somebody sees it down", SOON, async || {
            let mut seen = Err("nobody looked".to_owned());
            for viewer in &up {
                seen = stage.sees(viewer, &[name], Liveness::Down).await;
                if seen.is_ok() {
                    break;
                }
            }
            seen
        })
        .await?;
    let first = watch.elapsed();
    stage
        .until("everyone sees it down", SOON, async || {
            for viewer in &up {
                stage.sees(viewer, &[name], Liveness::Down).await?;
            }
            Ok(())
        })
        .await?;
    let last = watch.elapsed();
    stage.seen(&format!(
        "the first of {} others sees it down after {}, the last after {}",
        up.len(),
        seconds(first),
        seconds(last)
    ));
    measured.time("a crash is seen by the first", first);
    measured.time("a crash is seen by everyone", last);

    stage.tell("Meanwhile it gets a label, and with it a file:");
    Typed::new(&["label", "add", CACHE, "-t", name])
        .at(FOUNDER)
        .by("ana")
        .run(stage)
        .await?;
    Typed::new(&["status", name]).at(FOUNDER).run(stage).await?;
    stage.tell("It comes back, on another port, and nobody tells it anything twice:");
    let watch = Stopwatch::start();
    stage.start(name).await?;
    stage
        .until("it has caught up", LATER, async || {
            stage.has_file(name, CACHE_FILE, name)
        })
        .await?;
    let took = watch.elapsed();
    show_files(stage, &[format!("{name}/root/{CACHE_FILE}")]);
    let up = stage.up();
    let others: Vec<_> = up.iter().filter(|other| *other != name).collect();
    stage
        .until("everyone sees it alive", LATER, async || {
            for viewer in &others {
                stage.sees(viewer, &[name], Liveness::Alive).await?;
            }
            Ok(())
        })
        .await?;
    stage
        .until("all replicas are equal", SOON, async || {
            stage.are_equal(&up).await
        })
        .await?;
    let all = watch.elapsed();
    stage.seen(&format!(
        "it has its file {} after its start, everyone sees it alive after {}",
        seconds(took),
        seconds(all)
    ));
    measured.time("it is back and has caught up", took);
    measured.time("… everyone sees it alive", all);
    Ok(())
}

async fn split(
    stage: &mut Stage<'_>,
    cut_off: &str,
    measured: &mut Measured,
) -> Result<(), CommandError> {
    let far = [cut_off, LAPTOP];
    stage.act(&format!(
        "{cut_off} and bob's laptop are cut off from the others"
    ));
    stage.tell("(Agents that are told to ignore each other: there is no other command for it.)");
    let up = stage.up();
    let near: Vec<&str> = up
        .iter()
        .map(String::as_str)
        .filter(|n| !far.contains(n))
        .collect();
    let watch = Stopwatch::start();
    stage.cut(&far).await?;
    stage
        .until("no link crosses the cut", SOON, async || {
            for viewer in &near {
                stage.has_no_link(viewer, &far).await?;
            }
            for viewer in far {
                stage.has_no_link(viewer, &near).await?;
            }
            Ok(())
        })
        .await?;
    stage
        .until("each side sees the other down", SOON, async || {
            for viewer in &near {
                stage.sees(viewer, &far, Liveness::Down).await?;
            }
            for viewer in far {
                stage.sees(viewer, &near, Liveness::Down).await?;
            }
            Ok(())
        })
        .await?;
    let took = watch.elapsed();
    stage.seen(&format!(
        "each side sees all of the other down after {}",
        seconds(took)
    ));
    measured.time("a cut is seen by everyone", took);

    stage.tell("Both sides go on working. ana changes things on her side …");
    write(stage, "ana.yaml", &welcome(MOTD_ANA))?;
    Typed::new(&["apply", "-f", "ana.yaml", "-y", "--timeout", "10s"])
        .at(FOUNDER)
        .by("ana")
        .short()
        // The machines on the other side are silent; they will do it when they hear of it.
        .ends(&[Exit::Partial])
        .run(stage)
        .await?;
    Typed::new(&["label", "add", "canary", "-t", "nuc1"])
        .at(FOUNDER)
        .by("ana")
        .run(stage)
        .await?;
    stage.tell("… and bob on his, the same text among them, without a way to know:");
    write(stage, "bob.yaml", &welcome(MOTD_BOB))?;
    Typed::new(&["apply", "-f", "bob.yaml", "-y", "--timeout", "10s"])
        .at(LAPTOP)
        .by("bob")
        .short()
        .ends(&[Exit::Partial])
        .run(stage)
        .await?;
    Typed::new(&["label", "add", CACHE, "-t", cut_off])
        .at(LAPTOP)
        .by("bob")
        .run(stage)
        .await?;
    stage
        .until("each side does what its operator wants", SOON, async || {
            for name in &near {
                stage.has_file(name, MOTD_FILE, "Ana looks after it")?;
            }
            stage.has_file(cut_off, MOTD_FILE, "Bob looks after it")?;
            stage.has_file(cut_off, CACHE_FILE, cut_off)
        })
        .await?;
    show_files(
        stage,
        &[
            format!("{FOUNDER}/root/etc/motd"),
            format!("{cut_off}/root/etc/motd"),
        ],
    );
    Typed::new(&["status"]).at(FOUNDER).run(stage).await?;
    if stage
        .are_equal(&[FOUNDER.to_owned(), cut_off.to_owned()])
        .await
        .is_ok()
    {
        let message = "the two sides are equal: they were never cut off from each other";
        return Err(CommandError::new(Exit::Failed, "C047", message));
    }
    Ok(())
}

async fn heal(
    stage: &mut Stage<'_>,
    cut_off: &str,
    measured: &mut Measured,
) -> Result<(), CommandError> {
    stage.act("the two sides find each other again");
    let up = stage.up();
    let watch = Stopwatch::start();
    stage.cut(&[]).await?;
    stage
        .until("all replicas are equal", LATER, async || {
            stage.are_equal(&up).await
        })
        .await?;
    let equal = watch.elapsed();
    stage
        .until("every machine has the same text", SOON, async || {
            one_text(stage, &up)
        })
        .await?;
    let same = watch.elapsed();
    stage
        .until("everyone knows everyone again", LATER, async || {
            stage.know_each_other().await
        })
        .await?;
    let known = watch.elapsed();
    stage.seen(&format!(
        "all {} replicas are equal after {}",
        up.len(),
        seconds(equal)
    ));
    measured.time("after a cut, all replicas are equal", equal);
    measured.time("… every machine has the same files", same);
    measured.time("… everyone sees everyone alive", known);
    same_to_the_last_field(stage, &up, measured).await?;

    stage.tell("The labels of both are there. Of the text, everyone shows the one written last:");
    show_files(
        stage,
        &[
            format!("{FOUNDER}/root/etc/motd"),
            format!("{cut_off}/root/etc/motd"),
        ],
    );
    stage.tell("That two people wrote it without seeing each other is not hidden:");
    Typed::new(&["doctor"])
        .at(FOUNDER)
        .by("ana")
        .run(stage)
        .await?;
    Typed::new(&["history", "-n", "5"])
        .at(cut_off)
        .run(stage)
        .await?;
    stage.tell("Who writes again has seen both, and that settles it:");
    write(stage, "ana.yaml", &welcome(MOTD))?;
    let answer = Typed::new(&["apply", "-f", "ana.yaml", "-y", "--timeout", "60s"])
        .at(FOUNDER)
        .by("ana")
        .short()
        .run(stage)
        .await?;
    measured.time("a change is applied everywhere", answer.took);
    stage
        .until("all replicas are equal", SOON, async || {
            stage.are_equal(&up).await
        })
        .await?;
    settled(stage, &up).await?;
    Typed::new(&["status"]).at(LAPTOP).run(stage).await?;
    Ok(())
}

/// Compares what all replicas say, field by field and with every value that was written at the same time.
async fn same_to_the_last_field(
    stage: &Stage<'_>,
    up: &[String],
    measured: &mut Measured,
) -> Result<(), CommandError> {
    let first = look(stage, &up[0]).await?;
    for name in &up[1..] {
        let view = look(stage, name).await?;
        let is_same = view.fields == first.fields
            && view.members == first.members
            && view.operators == first.operators;
        if !is_same || view.pending_count > 0 {
            let message = format!("{name} and {} are not equal in every field", up[0]);
            return Err(CommandError::new(Exit::Failed, "C047", message));
        }
    }
    let torn: Vec<_> = first
        .fields
        .iter()
        .filter(|f| f.candidates.len() > 1)
        .collect();
    stage.seen(&format!(
        "they hold {} statements and the same {} fields, {} of them written on both sides",
        first.statement_count,
        first.fields.len(),
        torn.len()
    ));
    if !torn.iter().any(|f| f.path.to_string().contains("motd")) {
        let message = "the text that both sides wrote is not shown as written twice";
        return Err(CommandError::new(Exit::Failed, "C047", message));
    }
    measured.count("statements in each replica", first.statement_count);
    measured.count("fields in each replica", first.fields.len() as u64);
    measured.count("fields written on both sides", torn.len() as u64);
    Ok(())
}

/// Whether no field has a second value any more.
async fn settled(stage: &Stage<'_>, up: &[String]) -> Result<(), CommandError> {
    for name in up {
        let view = look(stage, name).await?;
        if let Some(field) = view.fields.iter().find(|f| f.candidates.len() > 1) {
            let message = format!("to {name}, {} still has two values", field.path);
            return Err(CommandError::new(Exit::Failed, "C047", message));
        }
    }
    stage.seen("no field has two values any more");
    Ok(())
}

async fn look(stage: &Stage<'_>, name: &str) -> Result<ReplicaView, CommandError> {
    stage
        .view(name)
        .await
        .map_err(|why| CommandError::new(Exit::Failed, "C047", why))
}

/// Whether all machines have the text of the same person.
fn one_text(stage: &Stage<'_>, up: &[String]) -> Seen {
    let all = |whose: &str| {
        nodes(up).try_for_each(|name| stage.has_file(name, MOTD_FILE, &format!("{whose} looks")))
    };
    all("Ana").or_else(|_ana| all("Bob"))
}

/// The machines of the fleet among these names.
fn nodes(names: &[String]) -> impl Iterator<Item = &String> {
    names.iter().filter(|name| *name != LAPTOP)
}

fn write(stage: &Stage<'_>, file: &str, text: &str) -> Result<(), CommandError> {
    std::fs::write(stage.path(file), text).map_err(|error| {
        CommandError::new(Exit::Failed, "C048", format!("write {file}")).because(&error)
    })
}

fn show_files(stage: &Stage<'_>, files: &[String]) {
    const FILES_MAX: usize = 8;
    for file in files.iter().take(FILES_MAX) {
        let text = std::fs::read_to_string(stage.path(file)).unwrap_or_default();
        stage.show_answer(&format!("{file}: {}", safe(text.trim_end())), 1);
    }
}
