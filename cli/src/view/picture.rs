//! Everything one replica says, read once and kept together: intent, machines, groups.

use std::collections::{BTreeMap, BTreeSet};

use lab_agent_core::{config_of, fleet_of, intent_of};
use lab_crdt_config::{Effective, Explanation, Intent, NodeFacts, explain, files};
use lab_crdt_model::fact;
use lab_crdt_model::view::{CandidateView, FieldView, ReplicaView};
use lab_crdt_model::{AuthorId, Field, Hlc, Issue, NodeId, Op, Path, SpanError, StatementId};
use lab_crdt_selector::{Expr, Fleet, Group, OwnedTarget, Trust, parse};

use super::machine::Machine;
use super::replica::{ReplicaLine, mesh_text};
use super::status::{Pillar, sync};
use crate::error::CommandError;
use crate::print::{Envelope, QueryLine, Warning};

/// A replica, understood.
#[derive(Debug)]
pub(crate) struct Picture {
    /// The replica.
    pub(crate) view: ReplicaView,
    /// Its fields, typed.
    pub(crate) intent: Intent,
    /// What is wrong with it.
    pub(crate) issues: Vec<Issue>,
    /// Live members, declared nodes and clusters, by name.
    pub(crate) machines: Vec<Machine>,
    /// The groups as declared.
    pub(crate) groups: BTreeMap<String, Group>,
    /// What config is resolved with: only what intent says, the same on every machine.
    config_fleet: Fleet,
    /// What queries are answered with: also what machines report.
    fleet: Fleet,
    authors: BTreeMap<AuthorId, String>,
    syncs: BTreeMap<String, Pillar>,
}

/// The machines that a query selects.
#[derive(Debug)]
pub(crate) struct Selection {
    /// The query.
    pub(crate) expr: Expr,
    /// As given, in normal form, counted.
    pub(crate) line: QueryLine,
    /// Names.
    pub(crate) names: BTreeSet<String>,
    /// How many match only because they lack the key that was asked for.
    pub(crate) by_absence: usize,
}

impl Picture {
    /// Reads a replica. Never fails; what is not understood is among the issues.
    pub(crate) fn new(view: ReplicaView) -> Self {
        let (intent, mut issues) = intent_of(&view.fields);
        issues.extend(view.issues.iter().cloned());
        let (machines, found) = Machine::all(&view, &intent);
        issues.extend(found);
        let (groups, found) = intent.selector_groups();
        issues.extend(found);

        let nodes = machines
            .iter()
            .filter(|m| m.takes_config())
            .filter_map(|m| {
                m.member
                    .as_ref()
                    .map(|member| (m.name.as_str(), member.labels.as_slice()))
            });
        let (config_fleet, _) = fleet_of(&intent, nodes);
        let authors = authors(&view);
        let fleet = Fleet::new(Vec::new(), groups.clone());
        let syncs = BTreeMap::new();
        let mut picture = Self {
            view,
            intent,
            issues,
            machines,
            groups,
            config_fleet,
            fleet,
            authors,
            syncs,
        };
        let syncs = picture.machines.iter().map(|machine| {
            let expected = machine.takes_config().then(|| picture.effective(machine));
            (machine.name.clone(), sync(machine, expected.as_ref()))
        });
        picture.syncs = syncs.collect();
        let keys: Vec<String> = picture
            .intent
            .vocabulary
            .iter()
            .map(|t| t.key.clone())
            .collect();
        let targets: Vec<_> = picture
            .machines
            .iter()
            .filter(|m| m.is_target())
            .map(|m| target_of(m, &picture.sync(m)))
            .collect();
        picture.fleet = Fleet::new(targets, picture.groups.clone()).with_keys(keys);
        picture.issues.sort();
        picture.issues.dedup();
        picture
    }

    /// The same replica as if `ops` had just been written.
    pub(crate) fn with_ops(&self, ops: &[Op]) -> Self {
        let mut view = self.view.clone();
        let newest = view
            .fields
            .iter()
            .flat_map(|f| &f.candidates)
            .map(|c| c.at)
            .max();
        let at = newest.unwrap_or_default().next(view.at);
        let mut fields: BTreeMap<Path, FieldView> = std::mem::take(&mut view.fields)
            .into_iter()
            .map(|f| (f.path.clone(), f))
            .collect();
        for op in ops {
            match op {
                Op::Unset { path } => drop(fields.remove(path)),
                Op::Set { path, field } => {
                    let candidate = CandidateView {
                        field: field.clone(),
                        statement: StatementId([0xff; 32]),
                        author: AuthorId([0; 32]),
                        at: Hlc(at.0),
                    };
                    let path = path.clone();
                    fields.insert(
                        path.clone(),
                        FieldView {
                            path,
                            candidates: vec![candidate],
                        },
                    );
                }
            }
        }
        view.fields = fields.into_values().collect();
        Self::new(view)
    }

    /// The machine with a name or an id.
    pub(crate) fn machine(&self, name: &str) -> Option<&Machine> {
        if let Ok(at) = self
            .machines
            .binary_search_by(|m| m.name.as_str().cmp(name))
        {
            return Some(&self.machines[at]);
        }
        let node: NodeId = name.parse().ok()?;
        self.machines
            .iter()
            .find(|m| m.member.as_ref().is_some_and(|v| v.node == node))
    }

    /// The groups a machine belongs to by what intent says, sorted.
    pub(crate) fn groups_of(&self, name: &str) -> Vec<String> {
        self.config_fleet
            .groups_of(name)
            .into_iter()
            .map(str::to_owned)
            .collect()
    }

    /// The members of a group at present.
    pub(crate) fn members_of(&self, group: &str) -> BTreeSet<String> {
        let expr = parse(&format!("@{group}")).ok();
        let expr = expr.filter(|expr| self.fleet.check(expr, Trust::Any, true).is_ok());
        expr.map(|expr| self.fleet.select(&expr))
            .unwrap_or_default()
    }

    /// What all labels together mean for a machine, as its own agent resolves it.
    pub(crate) fn effective(&self, machine: &Machine) -> Effective {
        let birth = machine.member.as_ref().map_or(&[][..], |m| &m.labels);
        config_of(&self.intent, &machine.name, birth, Some(&self.config_fleet)).effective
    }

    /// Where each value of a machine's config comes from.
    pub(crate) fn explain(&self, machine: &Machine, key: Option<&str>) -> Explanation {
        let facts = NodeFacts::new(&machine.name, &machine.labels);
        explain(&self.intent, &facts, &self.groups_of(&machine.name), key)
    }

    /// What a file of a machine contains once its placeholders are filled in from what the machine reported, or why
    /// they cannot be; `None` if it has no such file.
    pub(crate) fn rendered(&self, machine: &Machine, path: &str) -> Option<Result<String, String>> {
        let mut effective = self.effective(machine);
        effective.files.retain(|name, _| name == path);
        let mut node = NodeFacts::new(&machine.name, &machine.labels);
        node.attrs = attrs_of(machine);
        let (files, issues) = files(&effective, &node);
        let file = files.into_iter().next();
        let text = file.map(|file| Ok(String::from_utf8_lossy(&file.content).into_owned()));
        text.or_else(|| issues.into_iter().next().map(|issue| Err(issue.message)))
    }

    /// The Sync pillar of a machine.
    pub(crate) fn sync(&self, machine: &Machine) -> Pillar {
        self.syncs
            .get(&machine.name)
            .cloned()
            .unwrap_or_else(|| sync(machine, None))
    }

    /// Who signs with a key, as people call them.
    pub(crate) fn author(&self, key: &AuthorId) -> String {
        self.authors
            .get(key)
            .cloned()
            .unwrap_or_else(|| format!("key:{}", key.short()))
    }

    /// The field in force at a path.
    pub(crate) fn field(&self, path: &Path) -> Option<&Field> {
        let at = self
            .view
            .fields
            .binary_search_by(|f| f.path.cmp(path))
            .ok()?;
        self.view.fields[at].candidates.first().map(|c| &c.field)
    }

    /// Every standing field with its candidates, the one in force first.
    pub(crate) fn standing(&self) -> BTreeMap<Path, Vec<Field>> {
        let fields = self.view.fields.iter();
        fields
            .map(|f| {
                (
                    f.path.clone(),
                    f.candidates.iter().map(|c| c.field.clone()).collect(),
                )
            })
            .collect()
    }

    /// The machines that a query selects. Unknown words are errors unless they are allowed.
    pub(crate) fn select(&self, text: &str, is_any_word: bool) -> Result<Selection, CommandError> {
        let given = text.trim();
        let failed = |error| CommandError::query(&error, given);
        let expr = parse(given).map_err(failed)?;
        self.fleet
            .check(&expr, Trust::Any, is_any_word)
            .map_err(failed)?;
        let names = self.fleet.select(&expr);
        let line = QueryLine {
            given: given.to_owned(),
            normal: expr.to_string(),
            matched: names.len(),
        };
        Ok(Selection {
            by_absence: self.fleet.missing_key_matches(&expr),
            expr,
            line,
            names,
        })
    }

    /// Whether a query makes sense here: its words are known and, if it grants access, it can be trusted.
    pub(crate) fn check(&self, expr: &Expr, trust: Trust) -> Result<(), SpanError> {
        self.fleet.check(expr, trust, false)
    }

    /// The machines of a query given as words, or all.
    pub(crate) fn select_words(
        &self,
        words: &[String],
        is_any_word: bool,
    ) -> Result<Option<Selection>, CommandError> {
        if words.is_empty() {
            return Ok(None);
        }
        self.select(&words.join(" "), is_any_word).map(Some)
    }

    /// Which parts of a query matched a machine.
    pub(crate) fn why(&self, expr: &Expr, name: &str) -> Vec<String> {
        self.fleet.why(expr, name)
    }

    /// The freshness of the replica.
    pub(crate) fn line(&self) -> ReplicaLine {
        ReplicaLine::new(&self.view, &self.machines)
    }

    /// The envelope of an answer from this replica.
    pub(crate) fn envelope(&self, selection: Option<&Selection>) -> Envelope {
        let mut warnings = Vec::new();
        if selection.is_some_and(|s| s.names.is_empty()) {
            warnings.push(Warning::new("Q050", "the query matches no machine"));
        }
        Envelope {
            mesh: Some(mesh_text(&self.view)),
            replica: Some(self.line()),
            query: selection.map(|s| s.line.clone()),
            warnings,
            exit: None,
        }
    }
}

fn target_of(machine: &Machine, sync: &Pillar) -> OwnedTarget {
    let mut attrs = attrs_of(machine);
    let mut put = |key: &str, value: String| drop(attrs.insert(key.to_owned(), vec![value]));
    if let Some(ms) = machine.seen_ms {
        put("node.seen", format!("{}s", ms / 1000));
    }
    put("node.online", machine.is_heard().to_string());
    put("status.sync", sync.word.to_owned());
    OwnedTarget {
        name: machine.name.clone(),
        labels: machine.labels.clone(),
        attrs,
        host: machine.declared.get("host").cloned(),
        uses: BTreeSet::new(),
    }
}

fn attrs_of(machine: &Machine) -> BTreeMap<String, Vec<String>> {
    let declared = &machine.declared;
    let beacon = machine.beacon.as_ref();
    let mut attrs = fact::attrs(
        declared.iter().map(|(k, v)| (k.as_str(), v.as_str())),
        beacon.map(|b| b.version.as_str()),
        beacon.map_or(&[], |b| &b.addresses),
        machine.facts.as_ref(),
    );
    attrs.insert("node.name".to_owned(), vec![machine.name.clone()]);
    attrs.insert("node.kind".to_owned(), vec![machine.kind.word().to_owned()]);
    attrs
}

fn authors(view: &ReplicaView) -> BTreeMap<AuthorId, String> {
    let members = view
        .members
        .iter()
        .map(|m| (m.node.author(), m.name.clone()));
    let operators = view.operators.iter().map(|o| (o.key, o.name.clone()));
    members.chain(operators).collect()
}
