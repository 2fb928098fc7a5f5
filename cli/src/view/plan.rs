//! What a change of intent would do: to the intent, and to every machine.

use std::collections::{BTreeMap, BTreeSet};

use lab_crdt_config::{Change, ChangeKind, Comparison};
use lab_crdt_model::Field;
use lab_crdt_model::report::ResourceState;
use serde::Serialize;

use super::effect::{EffectLine, Mark, between};
use super::history::brief;
use super::label::Owned;
use super::machine::{Kind, Machine};
use super::picture::Picture;
use super::undone::undone;

/// One field of intent that changes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct IntentLine {
    /// What happens.
    pub(crate) mark: Mark,
    /// Where.
    pub(crate) path: String,
    /// What stands there now.
    pub(crate) before: Option<String>,
    /// What will stand there.
    pub(crate) after: Option<String>,
    /// Where it is written, or why it goes.
    pub(crate) note: String,
}

/// How the plan knows what a machine has now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Basis {
    /// The machine's own report.
    Pushed,
    /// Its last report, from before it fell silent.
    Cached,
    /// It never reported: from the declarations.
    Assumed,
}

/// What happens to one machine.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct MachinePlan {
    /// Its name.
    pub(crate) name: String,
    /// Values that change.
    pub(crate) actions: Vec<EffectLine>,
    /// Whether it has not yet done what the mesh already wants.
    pub(crate) is_pending: bool,
    /// Whether it cannot be reached: it will do this by itself when it is back.
    pub(crate) is_deferred: bool,
    /// How its present state is known.
    pub(crate) basis: Basis,
    /// How old that is, seconds.
    pub(crate) age_s: Option<u64>,
    /// Hash of the config it will have, in hexadecimal.
    pub(crate) expect: String,
}

/// A plan. Immutable: it says what would happen from exactly these heads.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Plan {
    /// Hash of heads and edits, shortened: equal plans have equal ids.
    pub(crate) plan: String,
    /// The declaration set, if there is one.
    pub(crate) set: Option<String>,
    /// Freshness, for people.
    #[serde(skip)]
    pub(crate) heading: String,
    /// Machines in its scope.
    pub(crate) targets: Vec<String>,
    /// Fields of intent that change.
    pub(crate) intent: Vec<IntentLine>,
    /// Fields of others that stand in the way.
    pub(crate) owned: Vec<Owned>,
    /// Machines that change.
    pub(crate) machines: Vec<MachinePlan>,
    /// Machines out of scope that change as well.
    pub(crate) pending_elsewhere: usize,
    /// Contradictions on machines in scope, as `MACHINE KEY`.
    pub(crate) conflicts: Vec<String>,
    /// What is declared and nothing acts on yet, counted by the word for it.
    pub(crate) undone: BTreeMap<&'static str, usize>,
}

impl Plan {
    /// The plan from `before` to `after`; they are the same replica when nothing is declared.
    pub(crate) fn new(
        before: &Picture,
        after: &Picture,
        declared: Option<(&str, &Comparison)>,
        scope: Option<&BTreeSet<String>>,
    ) -> Self {
        let is_wanted = |name: &str| scope.is_none_or(|names| names.contains(name));
        let mut machines = Vec::new();
        let mut conflicts = Vec::new();
        let mut pending_elsewhere = 0;
        // A person's device takes on no config.
        let fleet = || after.machines.iter().filter(|m| m.kind != Kind::Laptop);
        for machine in fleet() {
            let Some(plan) = MachinePlan::new(before, after, machine, &mut conflicts) else {
                continue;
            };
            if is_wanted(&machine.name) {
                machines.push(plan);
            } else {
                pending_elsewhere += 1;
            }
        }
        conflicts.retain(|(name, _)| is_wanted(name));
        let changes = declared
            .map(|(_, c)| c.changes.as_slice())
            .unwrap_or_default();
        let in_the_way = declared
            .map(|(_, c)| c.conflicts.as_slice())
            .unwrap_or_default();
        let targets = fleet().map(|m| m.name.clone()).filter(|n| is_wanted(n));
        Self {
            plan: id(before, changes),
            set: declared.map(|(set, _)| set.to_owned()),
            heading: before.line().text(),
            targets: targets.collect(),
            intent: changes.iter().map(IntentLine::new).collect(),
            owned: in_the_way.iter().map(owned).collect(),
            machines,
            pending_elsewhere,
            conflicts: conflicts
                .into_iter()
                .map(|(name, key)| format!("{name} {key}"))
                .collect(),
            undone: undone(&after.view.fields),
        }
    }

    /// What changes when something does not count any more: from the replica as it is to what it would be.
    pub(crate) fn undoing(before: &Picture, after: &Picture) -> Self {
        let mut plan = Self::new(before, after, None, None);
        // What a machine has not done yet is another story.
        plan.machines.retain(|m| !m.actions.is_empty());
        plan.machines.iter_mut().for_each(|m| m.is_pending = false);
        let (had, has) = (before.standing(), after.standing());
        let paths: BTreeSet<_> = had.keys().chain(has.keys()).collect();
        let first = |fields: Option<&Vec<Field>>| fields.and_then(|all| all.first().cloned());
        plan.intent = paths
            .into_iter()
            .filter_map(|path| {
                IntentLine::undoing(path, first(had.get(path)), first(has.get(path)))
            })
            .collect();
        plan.conflicts.clear();
        plan
    }

    /// Whether there is nothing to do.
    pub(crate) fn is_empty(&self) -> bool {
        self.intent.is_empty()
            && self.machines.is_empty()
            && self.owned.is_empty()
            && self.conflicts.is_empty()
    }

    /// Whether two wishes contradict, in the declarations or with another owner.
    pub(crate) fn has_conflict(&self) -> bool {
        !self.conflicts.is_empty() || !self.owned.is_empty()
    }

    /// How many machines have to wait until they are back.
    pub(crate) fn deferred_count(&self) -> usize {
        self.machines.iter().filter(|m| m.is_deferred).count()
    }
}

impl IntentLine {
    fn undoing(
        path: &lab_crdt_model::Path,
        before: Option<Field>,
        after: Option<Field>,
    ) -> Option<Self> {
        let (mark, note) = match (&before, &after) {
            (Some(old), Some(new)) if old.value == new.value => return None,
            (Some(_), Some(_)) => (Mark::Change, "as it was before"),
            (Some(_), None) => (Mark::Destroy, "undone"),
            (None, Some(_)) => (Mark::Create, "comes back"),
            (None, None) => return None,
        };
        let value = |field: &Option<Field>| field.as_ref().map(|f| brief(&f.value));
        Some(Self {
            mark,
            path: path.to_string(),
            before: value(&before),
            after: value(&after),
            note: note.to_owned(),
        })
    }

    fn new(change: &Change) -> Self {
        let value = |field: &Option<Field>| field.as_ref().map(|f| brief(&f.value));
        let source = change
            .after
            .as_ref()
            .and_then(|f| f.source.clone())
            .unwrap_or_default();
        let (mark, note) = match change.kind {
            ChangeKind::Add => (Mark::Create, source),
            ChangeKind::Change => (Mark::Change, source),
            ChangeKind::Remove => (Mark::Destroy, "no longer declared".to_owned()),
            ChangeKind::Release => (Mark::Change, "released: others keep it".to_owned()),
            ChangeKind::CoOwn => (Mark::Change, format!("also owned by {}", change.owner())),
        };
        let (before, after) = (value(&change.before), value(&change.after));
        Self {
            mark,
            path: change.path.to_string(),
            before,
            after,
            note,
        }
    }
}

impl MachinePlan {
    fn new(
        before: &Picture,
        after: &Picture,
        machine: &Machine,
        conflicts: &mut Vec<(String, String)>,
    ) -> Option<Self> {
        let old = before.machine(&machine.name);
        let mut actions = label_lines(old, machine);
        let wanted = after.effective(machine);
        let had = old.map(|m| before.effective(m)).unwrap_or_default();
        actions.extend(between(&had, &wanted));
        conflicts.extend(
            wanted
                .conflicts
                .iter()
                .map(|c| (machine.name.clone(), c.key())),
        );
        if old.is_none() {
            actions.insert(
                0,
                EffectLine {
                    mark: Mark::Create,
                    what: machine.kind.word().to_owned(),
                    before: None,
                    after: None,
                    from: "declared".to_owned(),
                },
            );
        }
        let status = machine.status.as_ref();
        let is_pending = machine.is_node()
            && status.is_none_or(|(s, _)| s.applied != had.hash())
            && old.is_some();
        if actions.is_empty() && !is_pending {
            return None;
        }
        let basis = match (status, machine.is_heard()) {
            (Some(_), true) => Basis::Pushed,
            (Some(_), false) => Basis::Cached,
            (None, _) => Basis::Assumed,
        };
        Some(Self {
            name: machine.name.clone(),
            actions,
            is_pending,
            is_deferred: machine.is_node() && !machine.is_heard(),
            basis,
            age_s: machine.seen_ms.map(|ms| ms / 1000),
            expect: crate::print::hex(&wanted.hash(), 32),
        })
    }
}

/// How far a machine is with the config it should have.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// Not there yet.
    Waiting,
    /// It runs it.
    Done,
    /// Something could not be made so.
    Failed(String),
    /// It holds back a value, because two wishes contradict.
    Conflict(String),
    /// It cannot be heard.
    Silent,
}

/// How far a machine is, by its own report.
pub(crate) fn outcome(picture: &Picture, machine: &Machine) -> Outcome {
    if !machine.is_heard() {
        return Outcome::Silent;
    }
    let expected = picture.effective(machine);
    let Some((status, _)) = machine
        .status
        .as_ref()
        .filter(|(s, _)| s.desired == expected.hash())
    else {
        return Outcome::Waiting;
    };
    let first = |state| status.resources.iter().find(|r| r.state == state);
    if let Some(failed) = first(ResourceState::Failed) {
        return Outcome::Failed(format!("{}: {}", failed.name, failed.message));
    }
    if status.applied != status.desired {
        return Outcome::Waiting;
    }
    match expected.conflicts.first() {
        Some(conflict) => Outcome::Conflict(conflict.key()),
        None => Outcome::Done,
    }
}

fn label_lines(old: Option<&Machine>, new: &Machine) -> Vec<EffectLine> {
    let before = old.map(|m| m.labels.as_slice()).unwrap_or_default();
    let line = |mark, label: &lab_crdt_model::Label| EffectLine {
        mark,
        what: format!("label {label}"),
        before: None,
        after: None,
        from: String::new(),
    };
    let added = new
        .labels
        .iter()
        .filter(|l| !before.contains(l))
        .map(|l| line(Mark::Create, l));
    let gone = before
        .iter()
        .filter(|l| !new.labels.contains(l))
        .map(|l| line(Mark::Destroy, l));
    added.chain(gone).collect()
}

fn owned(change: &Change) -> Owned {
    Owned {
        path: change.path.to_string(),
        owner: change.owner(),
        source: change.before.as_ref().and_then(|f| f.source.clone()),
    }
}

fn id(before: &Picture, changes: &[Change]) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"lab/plan/1");
    for head in &before.view.heads {
        hasher.update(head);
    }
    for change in changes {
        let after = change
            .after
            .as_ref()
            .map(|f| f.value.to_string())
            .unwrap_or_default();
        for part in [change.path.as_str(), &after] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
    }
    format!("p-{}", crate::print::hex(hasher.finalize().as_bytes(), 4))
}

#[cfg(test)]
mod tests {
    use lab_crdt_config::{Source, compare, parse};

    use super::*;
    use crate::view::sample;

    const TEXT: &str = "\
lab: 1
set: homelab
labels:
  role=web:
    params: { x: 6 }
    classes: [nginx]
";

    fn plan(picture: &Picture, text: &str) -> Plan {
        let (declared, diagnostics) = parse(&[Source {
            name: "lab.yaml",
            text,
        }]);
        assert!(declared.is_usable(), "{diagnostics:?}");
        let comparison = compare(&declared, &picture.standing(), &[]);
        let after = picture.with_ops(&comparison.ops());
        Plan::new(picture, &after, Some((declared.set(), &comparison)), None)
    }

    #[test]
    fn a_laptop_takes_on_no_config_and_is_in_no_plan() {
        let mut sample = sample::fleet();
        for member in &mut sample.view.members {
            if member.name == "b" {
                member.role = lab_crdt_model::view::Role::Laptop;
            }
        }
        let text = "lab: 1\nset: homelab\nlabels:\n  all:\n    params: { x: 6 }\n";
        let plan = plan(&sample.picture(), text);
        let names: Vec<_> = plan.machines.iter().map(|m| m.name.as_str()).collect();
        assert!(names.contains(&"a") && !names.contains(&"b"), "{names:?}");
        assert!(!plan.targets.contains(&"b".to_owned()));
    }

    #[test]
    fn a_plan_says_what_changes_where_and_why() {
        let picture = sample::fleet()
            .born("b", "role=web")
            .in_sync("a")
            .in_sync("b")
            .in_sync("c")
            .in_sync("d")
            .picture();
        let plan = plan(&picture, TEXT);
        let names: Vec<_> = plan.machines.iter().map(|m| m.name.as_str()).collect();
        assert_eq!(names, ["b"]);
        assert_eq!(plan.machines[0].basis, Basis::Pushed);
        let whats: Vec<_> = plan.machines[0]
            .actions
            .iter()
            .map(|a| a.what.as_str())
            .collect();
        assert_eq!(whats, ["class nginx", "param x"]);
        assert!(plan.intent.iter().any(|l| l.path == "on/role=web/params/x"));
    }

    #[test]
    fn an_unreachable_machine_is_deferred_with_the_age_of_what_is_known() {
        let picture = sample::fleet()
            .born("b", "role=web")
            .in_sync("b")
            .silent("b", 259_200_000)
            .picture();
        let plan = plan(&picture, TEXT);
        let b = plan.machines.iter().find(|m| m.name == "b").unwrap();
        assert!(b.is_deferred);
        assert_eq!((b.basis, b.age_s), (Basis::Cached, Some(259_200)));
    }

    #[test]
    fn someone_elses_value_stands_in_the_way() {
        let mut fleet = sample::fleet();
        fleet.put(
            "on/role=web/params/x",
            lab_crdt_model::Value::Int(4),
            "person:ana",
        );
        let plan = plan(&fleet.picture(), TEXT);
        assert!(plan.has_conflict());
        assert_eq!(plan.owned[0].owner, "person:ana");
    }

    #[test]
    fn equal_plans_have_equal_ids() {
        let picture = sample::fleet().picture();
        assert_eq!(plan(&picture, TEXT).plan, plan(&picture, TEXT).plan);
        let other = TEXT.replace("x: 6", "x: 7");
        assert_ne!(plan(&picture, TEXT).plan, plan(&picture, &other).plan);
    }

    #[test]
    fn a_second_apply_has_nothing_to_do() {
        let picture = sample::fleet().picture();
        let (declared, _) = parse(&[Source {
            name: "lab.yaml",
            text: TEXT,
        }]);
        let ops = compare(&declared, &picture.standing(), &[]).ops();
        let after = picture.with_ops(&ops);
        let again = compare(&declared, &after.standing(), &[]);
        assert_eq!(again.ops(), []);
        assert_eq!(
            after.standing().keys().collect::<Vec<_>>(),
            declared.fields().keys().collect::<Vec<_>>()
        );
        let _: BTreeMap<_, _> = after.standing();
    }

    #[test]
    fn a_machine_is_done_when_it_reports_the_expected_config() {
        let picture = sample::fleet().in_sync("b").silent("c", 400_000).picture();
        let of = |name: &str| outcome(&picture, picture.machine(name).unwrap());
        assert_eq!(of("b"), Outcome::Done);
        assert_eq!(of("c"), Outcome::Silent);
        assert_eq!(of("d"), Outcome::Waiting);
    }
}
