//! What this machine should be, what it was made to be, and the difference.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use lab_crdt_config::{Intent, NodeFacts, Standing, files, read};
use lab_crdt_doc::{Candidate, Document};
use lab_crdt_log::{Authority, step_key};
use lab_crdt_model::fact;
use lab_crdt_model::report::{Facts, ResourceReport, ResourceState, Status};
use lab_crdt_model::store::{StoreOp, Table};
use lab_crdt_model::view::{MemberState, Role};
use lab_crdt_model::{Field, Label, Mono, NodeId, Path, Wall, mutant, reached, sometimes};
use lab_crdt_selector::Fleet;

use crate::boot::{META_APPLIED, META_FILES};
use crate::input::FileOutcome;
use crate::output::{Effect, FileOwned, FileWanted};
use crate::replica::{Replica, put};
use crate::resolve::{NodeConfig, concerns, config_of, fleet_of, needs_fleet};

const RESOURCES_MAX: usize = 100;
const MESSAGE_BYTES_MAX: usize = 200;

/// Who this node is, as its config sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Identity {
    name: String,
    birth: Vec<String>,
    /// For everyone else it is no machine of the fleet yet; for itself it is.
    is_on_probation: bool,
}

/// What this node observes of itself, as far as files may say it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Observed {
    pub(crate) facts: Option<Facts>,
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) version: String,
}

pub(crate) struct Converge {
    identity: Option<Identity>,
    observed: Observed,
    config: Option<NodeConfig>,
    /// Its hash.
    desired: Option<[u8; 32]>,
    wanted: Vec<FileWanted>,
    unrendered: Vec<ResourceReport>,
    /// Files that we wrote, or were about to write when the agent stopped.
    owned: BTreeMap<String, [u8; 32]>,
    is_dirty: bool,
    running: Option<Running>,
    pub(crate) next_at: Mono,
}

struct Running {
    wanted: Vec<FileWanted>,
    release: Vec<FileOwned>,
    desired: [u8; 32],
    digest: [u8; 32],
}

/// What came of carrying a config out.
pub(crate) struct Applied {
    pub(crate) hash: [u8; 32],
    pub(crate) changed_count: u32,
    pub(crate) failed_count: u32,
    pub(crate) batch: Vec<StoreOp>,
}

impl Converge {
    pub(crate) fn new(meta: &BTreeMap<Vec<u8>, Vec<u8>>, status: &mut Status, now: Mono) -> Self {
        let owned = meta
            .get(META_FILES)
            .and_then(|b| postcard::from_bytes(b).ok())
            .unwrap_or_default();
        if let Some((applied, at)) = meta
            .get(META_APPLIED)
            .and_then(|b| postcard::from_bytes::<([u8; 32], u64)>(b).ok())
        {
            status.applied = applied;
            status.applied_at = Wall(at);
        }
        Self {
            identity: None,
            observed: Observed::default(),
            config: None,
            desired: None,
            wanted: Vec::new(),
            unrendered: Vec::new(),
            owned,
            is_dirty: false,
            running: None,
            next_at: now,
        }
    }

    /// Looks again at what is wanted, if what changed can matter. `touched` is `None` when everything may have.
    pub(crate) fn refresh(
        &mut self,
        me: &NodeId,
        replica: &mut Replica,
        touched: Option<&[Path]>,
        now: Wall,
    ) {
        let authority = replica.log.authority_as_resolved();
        let identity = authority
            .roster
            .members
            .get(me)
            .filter(|m| m.role == Role::Node && m.is_admitted_at(now))
            .map(|m| Identity {
                name: m.name.clone(),
                birth: m.labels.iter().map(Label::to_string).collect(),
                is_on_probation: m.state == MemberState::Probation,
            });
        let is_same = identity == self.identity;
        let Some(identity) = identity else {
            sometimes!(
                self.identity.is_some(),
                "a machine is no longer one of the mesh"
            );
            // Not (or no longer) a machine of this mesh: what it was made to be stays.
            self.identity = None;
            return;
        };
        let is_blind = |p: &Path| mutant!("M62") && p.segments().next() != Some("on".into());
        let matters = touched.is_none_or(|paths| {
            let mut paths = paths.iter();
            paths.any(|p| concerns(p, &identity.name) && !is_blind(p))
        });
        if is_same && !matters && self.config.is_some() {
            return;
        }
        let config = resolve(&identity, replica);
        self.identity = Some(identity);
        self.take(config);
    }

    /// Renders the files again if this node observes something else of itself than before.
    pub(crate) fn observe(&mut self, observed: Observed) {
        if observed == self.observed {
            return;
        }
        self.observed = observed;
        // Of a machine that is no longer one of the mesh nothing is rendered again.
        if self.identity.is_some()
            && let Some(config) = self.config.clone()
        {
            self.take(config);
        }
    }

    fn take(&mut self, config: NodeConfig) {
        let name = self.identity.as_ref().map_or("", |i| i.name.as_str());
        let declared = config
            .declared
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()));
        let Observed {
            facts,
            addresses,
            version,
        } = &self.observed;
        let mut node = NodeFacts::new(name, &config.labels);
        node.attrs = fact::attrs(declared, Some(version), addresses, facts.as_ref());
        node.attrs
            .insert("node.kind".to_owned(), vec!["node".to_owned()]);
        let (rendered, issues) = files(&config.effective, &node);
        let wanted: Vec<_> = rendered
            .into_iter()
            .map(|f| FileWanted {
                path: f.path,
                content: f.content,
                mode: f.mode,
                owner: f.owner,
            })
            .collect();
        self.is_dirty |= wanted != self.wanted;
        self.wanted = wanted;
        // That labels disagree (D021) is told below, of files like of everything else.
        self.unrendered = issues
            .iter()
            .filter(|i| i.code != "D021")
            .map(|i| {
                report(
                    format!("file:{}", i.subject.split_once(' ').map_or("", |(_, p)| p)),
                    ResourceState::Failed,
                    &i.message,
                )
            })
            .collect();
        let conflicts = config.effective.conflicts.iter();
        self.unrendered.extend(conflicts.map(|c| {
            report(
                format!("{}:{}", c.section, c.key()),
                ResourceState::Conflict,
                "labels disagree: the last good value stays",
            )
        }));
        if self.config.as_ref() != Some(&config) {
            self.is_dirty = true;
            self.desired = Some(config.effective.hash());
        }
        self.config = Some(config);
    }

    /// Whether something is being carried out, or recorded to be.
    pub(crate) const fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// The hash of what is wanted.
    pub(crate) const fn desired(&self) -> Option<[u8; 32]> {
        self.desired
    }

    /// What is to be done, with the record of what we are about to own: that must be durable first.
    pub(crate) fn start(&mut self, digest: [u8; 32], now: Mono) -> Option<(Effect, Vec<StoreOp>)> {
        let is_due = self.is_dirty || now >= self.next_at;
        let config = self.config.as_ref()?;
        if self.running.is_some() || !is_due {
            return None;
        }
        self.is_dirty = false;
        let release: Vec<FileOwned> = self
            .owned
            .iter()
            .filter(|(path, _)| !config.effective.files.contains_key(*path) && !mutant!("M45"))
            .map(|(path, hash)| FileOwned {
                path: path.clone(),
                hash: *hash,
            })
            .collect();
        let mut owned = self.owned.clone();
        for file in &self.wanted {
            owned.insert(file.path.clone(), *blake3::hash(&file.content).as_bytes());
        }
        let batch = if owned == self.owned {
            Vec::new()
        } else {
            vec![owned_record(&owned)]
        };
        self.owned = owned;
        let desired = self.desired.unwrap_or_default();
        self.running = Some(Running {
            wanted: self.wanted.clone(),
            release: release.clone(),
            desired,
            digest,
        });
        Some((
            Effect::Files {
                wanted: self.wanted.clone(),
                release,
            },
            batch,
        ))
    }

    /// Takes in what became of it.
    pub(crate) fn finish(
        &mut self,
        outcomes: &[FileOutcome],
        status: &mut Status,
        now: Wall,
    ) -> Option<Applied> {
        let running = self.running.take()?;
        let mut resources = self.unrendered.clone();
        let (mut changed_count, mut failed_count, mut batch) = (0, 0, Vec::new());
        for outcome in outcomes
            .iter()
            .take(running.wanted.len() + running.release.len())
        {
            changed_count += u32::from(outcome.is_changed);
            if let Some(error) = &outcome.error {
                failed_count += 1;
                resources.push(report(
                    format!("file:{}", outcome.path),
                    ResourceState::Failed,
                    error,
                ));
            } else if outcome.is_changed {
                resources.push(report(
                    format!("file:{}", outcome.path),
                    ResourceState::Changed,
                    "",
                ));
            }
        }
        let released: Vec<_> = outcomes
            .iter()
            .skip(running.wanted.len())
            .filter(|o| o.error.is_none())
            .collect();
        if !released.is_empty() {
            reached!("a file that nothing asks for any more was let go");
            for outcome in released {
                self.owned.remove(&outcome.path);
            }
            batch.push(owned_record(&self.owned));
        }
        let rank = |r: &ResourceReport| match r.state {
            ResourceState::Failed => 0,
            ResourceState::Conflict => 1,
            ResourceState::Changed => 2,
            ResourceState::Ok => 3,
        };
        resources.sort_by_key(|r| (rank(r), r.name.clone()));
        resources.truncate(RESOURCES_MAX);
        let conflict_count = self.unrendered.len() as u32;
        status.resource_count = running.wanted.len() as u32 + conflict_count;
        status.ok_count = (running.wanted.len() as u32).saturating_sub(failed_count);
        // A periodic check that changed nothing says nothing new, so that idle meshes stay idle.
        let is_news = changed_count > 0
            || status.desired != running.desired
            || status.applied != running.desired;
        status.resources = if is_news || status.resources.len() != resources.len() {
            resources
        } else {
            std::mem::take(&mut status.resources)
        };
        status.desired = running.desired;
        status.digest = if is_news {
            running.digest
        } else {
            status.digest
        };
        if failed_count == 0 && status.applied != running.desired && !mutant!("M46") {
            reached!("a machine became what it should be");
            status.applied = running.desired;
            status.applied_at = now;
            let record = postcard::to_stdvec(&(status.applied, now.0)).unwrap_or_default();
            batch.push(put(Table::Meta, META_APPLIED, record));
        }
        Some(Applied {
            hash: running.desired,
            changed_count,
            failed_count,
            batch,
        })
    }
}

fn owned_record(owned: &BTreeMap<String, [u8; 32]>) -> StoreOp {
    put(
        Table::Meta,
        META_FILES,
        postcard::to_stdvec(owned).unwrap_or_default(),
    )
}

fn report(name: String, state: ResourceState, message: &str) -> ResourceReport {
    let mut end = message.len().min(MESSAGE_BYTES_MAX);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    ResourceReport {
        name: name.chars().take(MESSAGE_BYTES_MAX).collect(),
        state,
        message: message[..end].to_owned(),
    }
}

/// The whole of intent and the machines that it is about.
struct Whole {
    intent: Intent,
    fleet: Fleet,
}

fn resolve(identity: &Identity, replica: &mut Replica) -> NodeConfig {
    let own = read_intent(concerning(&replica.document, &identity.name));
    if !needs_fleet(&own) {
        return config_of(&own, &identity.name, &identity.birth, None);
    }
    let name = replica.log.name().unwrap_or_default();
    let heads = replica.heads_digest();
    let (log, document) = (&replica.log, &replica.document);
    let newcomer = identity.is_on_probation.then_some(identity);
    let newcomer_name = newcomer.map_or(&[][..], |it| it.name.as_bytes());
    let whole = log.memo().step(
        || step_key("fleet", &[&name, &heads, newcomer_name]),
        || whole(log.authority_as_resolved(), document, newcomer),
        |whole| 1_000 * whole.intent.nodes.len() + 10_000,
        |a, b| a.intent == b.intent,
    );
    config_of(
        &whole.intent,
        &identity.name,
        &identity.birth,
        Some(&whole.fleet),
    )
}

fn whole(authority: &Authority, document: &Document, newcomer: Option<&Identity>) -> Whole {
    let intent = read_intent(document.fields());
    let birth: Vec<(String, Vec<String>)> = authority
        .roster
        .members
        .values()
        .filter(|m| crate::resolve::is_machine(m.role, m.state))
        .map(|m| {
            (
                m.name.clone(),
                m.labels.iter().map(Label::to_string).collect(),
            )
        })
        .collect();
    let newcomer = newcomer.map(|it| (it.name.clone(), it.birth.clone()));
    let (fleet, _) = fleet_of(
        &intent,
        birth
            .iter()
            .chain(&newcomer)
            .map(|(name, labels)| (name.as_str(), labels.as_slice())),
    );
    Whole { intent, fleet }
}

/// The fields that can matter to the config of a node, by path.
fn concerning<'a>(
    document: &'a Document,
    name: &'a str,
) -> impl Iterator<Item = (&'a Path, &'a [Candidate])> {
    ["group", "label", "node", "on", "vocabulary"]
        .into_iter()
        .flat_map(move |kind| {
            let is_of_node = matches!(kind, "label" | "node");
            let first = if is_of_node {
                Path::new([kind, name])
            } else {
                Path::new([kind])
            };
            first
                .map(|first| document.fields_below(first))
                .into_iter()
                .flatten()
        })
        .filter(move |(path, _)| concerns(path, name))
}

fn read_intent<'a>(fields: impl Iterator<Item = (&'a Path, &'a [Candidate])>) -> Intent {
    let kept: Vec<_> = fields.collect();
    let others: Vec<Vec<Field>> = kept
        .iter()
        .map(|(_, c)| c.iter().skip(1).map(|c| c.field.clone()).collect())
        .collect();
    let standing = kept
        .iter()
        .zip(&others)
        .filter_map(|((path, candidates), others)| {
            let first = candidates.first()?;
            Some(Standing {
                path,
                field: &first.field,
                others,
                stamp: Some((first.at, first.statement)),
            })
        });
    let (intent, _issues) = read(standing);
    intent
}

#[cfg(test)]
mod tests {
    use lab_crdt_config::{Effective, FileResolved, Resolved};
    use lab_crdt_model::Value;

    use super::*;

    fn observed(hostname: &str) -> Observed {
        Observed {
            facts: Some(Facts {
                hostname: hostname.to_owned(),
                ..Facts::default()
            }),
            addresses: vec!["10.0.0.1:1".parse().unwrap()],
            version: "0.1.0".to_owned(),
        }
    }

    fn file(template: &str) -> FileResolved {
        let map = [("template".to_owned(), Value::text(template))].into();
        FileResolved {
            body: Resolved {
                value: Some(Value::Map(map)),
                ..Resolved::default()
            },
            ..FileResolved::default()
        }
    }

    #[test]
    fn a_file_is_rendered_again_when_what_it_says_of_the_machine_changes() {
        let mut converge = Converge::new(&BTreeMap::new(), &mut Status::default(), Mono(0));
        converge.next_at = Mono(u64::MAX);
        converge.identity = Some(Identity {
            name: "nuc1".to_owned(),
            birth: vec![],
            is_on_probation: false,
        });
        let mut effective = Effective::default();
        let motd = file("{node.name} {fact.hostname} {node.ip} {node.agent} {node.provider}");
        effective.files.insert("/etc/motd".to_owned(), motd);
        let declared = [("provider".to_owned(), "home".to_owned())].into();
        converge.take(NodeConfig {
            labels: vec![],
            declared,
            effective,
            issues: vec![],
        });
        let said = |converge: &Converge| {
            let text = |f: &FileWanted| String::from_utf8(f.content.clone()).unwrap();
            converge.wanted.first().map(text)
        };
        let starts = |converge: &mut Converge| {
            let is_due = converge.start([0; 32], Mono(1)).is_some();
            converge.running = None;
            is_due
        };

        // Nothing is known yet: the file stays as it is, and why is told.
        assert_eq!(said(&converge), None);
        assert_eq!(converge.unrendered[0].name, "file:/etc/motd");
        assert!(starts(&mut converge));

        converge.observe(observed("a"));
        let first = "nuc1 a 10.0.0.1 0.1.0 home";
        assert_eq!(said(&converge).as_deref(), Some(first));
        assert!(converge.unrendered.is_empty() && starts(&mut converge));

        // The same again, or what no file says, is no work.
        let mut more = observed("a");
        converge.observe(more.clone());
        more.facts.as_mut().unwrap().kernel = "6.1".to_owned();
        converge.observe(more);
        assert!(!starts(&mut converge));

        converge.observe(observed("b"));
        assert_eq!(said(&converge), Some(first.replace(" a ", " b ")));
        assert!(starts(&mut converge));
    }
}
