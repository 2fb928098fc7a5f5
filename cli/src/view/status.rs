//! How machines stand: one word per pillar, with its age and its evidence.

use std::collections::BTreeMap;

use lab_crdt_config::Effective;
use lab_crdt_model::report::{ResourceState, Status};
use lab_crdt_model::time::age;
use lab_crdt_model::view::MemberState;
use serde::Serialize;

use super::machine::{INTERMITTENT_MS, Kind, Machine};
use super::part::{Part, parts};
use super::picture::Picture;
use super::undone::undone;

/// How much a word matters. Silence is not health: no data is worse than a warning.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Grade {
    /// Does not apply.
    None,
    /// As it should be.
    Ok,
    /// Worth knowing, nothing to do.
    Info,
    /// Someone should look.
    Warn,
    /// Nobody knows.
    Unknown,
    /// Wrong.
    Bad,
    /// As wrong as it gets.
    Worst,
}

/// One pillar of one machine.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Pillar {
    /// One word.
    pub(crate) word: &'static str,
    /// How much it matters.
    pub(crate) grade: Grade,
    /// How old the evidence is, seconds.
    pub(crate) age_s: Option<u64>,
    /// The evidence.
    pub(crate) detail: Vec<String>,
}

impl Pillar {
    fn new(word: &'static str, grade: Grade) -> Self {
        Self {
            word,
            grade,
            age_s: None,
            detail: Vec::new(),
        }
    }

    fn aged(mut self, ms: Option<u64>) -> Self {
        self.age_s = ms.map(|ms| ms / 1000);
        self
    }

    fn because(mut self, detail: impl Into<String>) -> Self {
        self.detail.push(detail.into());
        self
    }

    /// The word, with its age unless it is fine.
    pub(crate) fn text(&self) -> String {
        match (self.age_s, self.grade) {
            (Some(s), Grade::Info | Grade::Warn | Grade::Unknown | Grade::Bad | Grade::Worst) => {
                format!("{} {}", self.word, age(s * 1000))
            }
            _ => self.word.to_owned(),
        }
    }
}

/// Does the machine know and run what is wanted? `expected` is the config it should have.
pub(crate) fn sync(machine: &Machine, expected: Option<&Effective>) -> Pillar {
    let Some(member) = &machine.member else {
        return match machine.kind {
            Kind::Cluster => Pillar::new("none", Grade::None),
            Kind::Node | Kind::Laptop => {
                Pillar::new("absent", Grade::Info).because("declared, never joined")
            }
        };
    };
    if machine.kind == Kind::Laptop {
        return Pillar::new("none", Grade::None);
    }
    match member.state {
        MemberState::Seen => {
            return Pillar::new("joining", Grade::Info).because("joined, no witness yet");
        }
        MemberState::Probation => {
            return Pillar::new("probation", Grade::Info)
                .because("no target before it is a full member");
        }
        _ => {}
    }
    if !machine.is_heard() {
        let is_expected =
            machine.is_intermittent && machine.seen_ms.is_some_and(|ms| ms < INTERMITTENT_MS);
        let grade = if is_expected {
            Grade::Info
        } else {
            Grade::Unknown
        };
        let detail = if machine.seen_ms.is_some() {
            "not heard"
        } else {
            "never heard"
        };
        return Pillar::new("stale", grade)
            .aged(machine.seen_ms)
            .because(detail);
    }
    let Some((status, ms)) = &machine.status else {
        return Pillar::new("unknown", Grade::Unknown).because("has not reported its config yet");
    };
    compare(status, expected).aged(Some(*ms))
}

fn compare(status: &Status, expected: Option<&Effective>) -> Pillar {
    let of = |state| status.resources.iter().filter(move |r| r.state == state);
    let failed: Vec<_> = of(ResourceState::Failed).collect();
    if !failed.is_empty() {
        let mut pillar = Pillar::new("failed", Grade::Bad);
        pillar.detail = failed
            .iter()
            .map(|r| format!("{}: {}", r.name, r.message))
            .collect();
        return pillar;
    }
    let conflicts = expected.map(|e| e.conflicts.as_slice()).unwrap_or_default();
    if !conflicts.is_empty() {
        let mut pillar = Pillar::new("conflict", Grade::Bad);
        pillar.detail = conflicts.iter().map(|c| c.key()).collect();
        return pillar;
    }
    if let Some(first) = of(ResourceState::Conflict).next() {
        let detail = format!("{}: {}", first.name, first.message);
        return Pillar::new("conflict", Grade::Bad).because(detail);
    }
    if expected.is_some_and(|e| e.hash() != status.desired) {
        return Pillar::new("behind", Grade::Warn)
            .because("wants another config than this replica");
    }
    if status.applied != status.desired {
        return Pillar::new("pending", Grade::Info).because("knows its config, not done yet");
    }
    Pillar::new("ok", Grade::Ok)
}

/// Is it who it says, and for how long?
pub(crate) fn identity(machine: &Machine, now_ms: u64) -> Pillar {
    let Some(member) = &machine.member else {
        return Pillar::new("none", Grade::None);
    };
    match member.state {
        MemberState::Suspended => Pillar::new("suspended", Grade::Worst)
            .because("its token was used twice, or a clone was seen"),
        MemberState::Expired => Pillar::new("expired", Grade::Bad),
        MemberState::Revoked => Pillar::new("revoked", Grade::Worst),
        MemberState::Seen => Pillar::new("unseen", Grade::Info),
        MemberState::Probation => Pillar::new("probation", Grade::Warn).because(format!(
            "confirm it, or wait for registrars: lab node confirm {}",
            machine.name
        )),
        MemberState::Member => match member.not_after.map(|t| t.0.saturating_sub(now_ms)) {
            Some(left) if left < 7 * 86_400_000 => {
                Pillar::new("expiring", Grade::Warn).because(format!("in {}", age(left)))
            }
            Some(_) | None => Pillar::new("ok", Grade::Ok),
        },
    }
}

/// How one machine stands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct StatusRow {
    /// Its name.
    pub(crate) name: String,
    /// `node`, `laptop` or `cluster`.
    pub(crate) kind: &'static str,
    /// Seconds since it was heard.
    pub(crate) seen_s: Option<u64>,
    /// The four pillars.
    pub(crate) pillars: Pillars,
    /// Version of its agent.
    pub(crate) agent: Option<String>,
    /// By how much its clock is ahead of that of the machine that was asked, milliseconds, if it was heard of late.
    pub(crate) clock_ms: Option<i64>,
    /// Its labels.
    pub(crate) labels: Vec<String>,
}

/// Four questions about a machine.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Pillars {
    /// Does it know and run what is wanted?
    pub(crate) sync: Pillar,
    /// Did its last configuration run succeed?
    pub(crate) puppet: Pillar,
    /// Does it serve?
    pub(crate) health: Pillar,
    /// Is it who it says?
    pub(crate) identity: Pillar,
}

impl Pillars {
    fn worst(&self) -> Grade {
        let all = [&self.sync, &self.puppet, &self.health, &self.identity];
        all.into_iter()
            .map(|p| p.grade)
            .max()
            .unwrap_or(Grade::None)
    }
}

/// How a group stands: the worst word of each pillar with its count.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct GroupRow {
    /// With its `@`.
    pub(crate) name: String,
    /// How many machines it has.
    pub(crate) count: usize,
    /// Worst word of Sync and how many have it.
    pub(crate) sync: (String, usize),
    /// Its grade.
    pub(crate) grade: Grade,
}

/// How everything stands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct StatusView {
    /// Heading: mesh and freshness.
    #[serde(skip)]
    pub(crate) heading: String,
    /// Machines, worst first.
    pub(crate) machines: Vec<StatusRow>,
    /// Groups by name.
    pub(crate) groups: Vec<GroupRow>,
    /// Who is in touch with whom.
    pub(crate) parts: Vec<Part>,
    /// Contradictions, as `MACHINE KEY`.
    pub(crate) conflicts: Vec<String>,
    /// How many problems the replica has.
    pub(crate) issue_count: usize,
    /// What is declared and nothing acts on yet, counted by the word for it.
    pub(crate) undone: BTreeMap<&'static str, usize>,
    /// Whether every machine is listed, or only those that are not ok.
    #[serde(skip)]
    pub(crate) is_all: bool,
}

impl StatusView {
    /// How the machines that `is_wanted` stand.
    pub(crate) fn new(picture: &Picture, is_wanted: impl Fn(&str) -> bool, is_all: bool) -> Self {
        let now = picture.view.at.0;
        let mut conflicts = Vec::new();
        let mut machines: Vec<StatusRow> = Vec::new();
        for machine in picture.machines.iter().filter(|m| is_wanted(&m.name)) {
            let sync = picture.sync(machine);
            if sync.word == "conflict" {
                conflicts.extend(
                    sync.detail
                        .iter()
                        .map(|key| format!("{} {key}", machine.name)),
                );
            }
            let pillars = Pillars {
                sync,
                puppet: Pillar::new("none", Grade::None),
                health: Pillar::new("none", Grade::None),
                identity: identity(machine, now),
            };
            machines.push(StatusRow {
                name: machine.name.clone(),
                kind: machine.kind.word(),
                seen_s: machine.seen_ms.map(|ms| ms / 1000),
                pillars,
                agent: machine.beacon.as_ref().map(|b| b.version.clone()),
                clock_ms: machine.clock_ms,
                labels: machine.labels.iter().map(ToString::to_string).collect(),
            });
        }
        machines.sort_by(|a, b| (b.pillars.worst(), &a.name).cmp(&(a.pillars.worst(), &b.name)));
        let groups = picture.groups.keys().filter_map(|group| {
            let members = picture.members_of(group);
            let rows: Vec<_> = machines
                .iter()
                .filter(|m| members.contains(&m.name))
                .collect();
            let worst = rows
                .iter()
                .map(|r| &r.pillars.sync)
                .max_by_key(|p| p.grade)?;
            let count = rows
                .iter()
                .filter(|r| r.pillars.sync.word == worst.word)
                .count();
            Some(GroupRow {
                name: format!("@{group}"),
                count: rows.len(),
                sync: (worst.word.to_owned(), count),
                grade: worst.grade,
            })
        });
        let line = picture.line();
        let mesh = super::replica::mesh_text(&picture.view);
        Self {
            heading: format!(
                "{mesh}   {}   {}",
                crate::print::count(machines.len(), "machine"),
                line.text()
            ),
            groups: groups.collect(),
            machines,
            parts: parts(&picture.machines),
            conflicts,
            issue_count: picture.issues.len(),
            undone: undone(&picture.view.fields),
            is_all,
        }
    }

    /// Whether nothing needs a look.
    pub(crate) fn is_ok(&self) -> bool {
        self.machines
            .iter()
            .all(|m| m.pillars.worst() <= Grade::Info)
    }

    /// The machines to list.
    pub(crate) fn listed(&self) -> impl Iterator<Item = &StatusRow> {
        self.machines
            .iter()
            .filter(|m| self.is_all || m.pillars.worst() > Grade::Ok)
    }

    /// How many are left out because they are ok.
    pub(crate) fn ok_count(&self) -> usize {
        self.machines.len() - self.listed().count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::sample;

    fn word(picture: &Picture, name: &str) -> &'static str {
        picture.sync(picture.machine(name).unwrap()).word
    }

    #[test]
    fn a_machine_that_runs_what_is_wanted_is_ok() {
        let picture = sample::fleet().in_sync("b").picture();
        assert_eq!(word(&picture, "b"), "ok");
        assert!(StatusView::new(&picture, |n| n == "b", false).is_ok());
    }

    #[test]
    fn silence_beats_an_old_good_report() {
        let picture = sample::fleet()
            .in_sync("b")
            .silent("b", 259_200_000)
            .picture();
        let pillar = picture.sync(picture.machine("b").unwrap());
        assert_eq!((pillar.word, pillar.grade), ("stale", Grade::Unknown));
        assert_eq!(pillar.text(), "stale 3d");
    }

    #[test]
    fn a_machine_that_the_mesh_has_lost_is_not_ok() {
        let picture = sample::fleet().in_sync("b").silent("b", 8_000).picture();
        assert_eq!(word(&picture, "b"), "stale");
        assert_eq!((picture.line().heard, picture.line().of), (3, 4));
    }

    #[test]
    fn a_machine_that_has_not_heard_of_a_change_is_behind() {
        let picture = sample::fleet()
            .in_sync("b")
            .set("on/all/params/x", "1")
            .picture();
        assert_eq!(word(&picture, "b"), "behind");
    }

    #[test]
    fn a_declared_machine_that_never_joined_is_no_fault() {
        let picture = sample::fleet().set_true("node/new1").picture();
        let pillar = picture.sync(picture.machine("new1").unwrap());
        assert_eq!((pillar.word, pillar.grade), ("absent", Grade::Info));
        assert_eq!(pillar.detail, ["declared, never joined"]);
    }

    #[test]
    fn the_worst_machines_come_first_and_ok_ones_are_counted() {
        let fleet = sample::fleet()
            .in_sync("b")
            .in_sync("c")
            .silent("d", 400_000);
        let view = StatusView::new(&fleet.picture(), |n| n != "a", false);
        assert_eq!(view.machines[0].name, "d");
        assert_eq!(view.ok_count(), 2);
        assert!(!view.is_ok());
    }
}
