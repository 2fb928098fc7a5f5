//! The long way: reading typed data out of the automerge document.

use std::collections::BTreeMap;

use automerge::{ActorId, Automerge, ChangeHash, ObjId, ReadDoc, ScalarValueRef, ValueRef};
use lab_crdt_model::{Issue, Path};

use crate::graph::{Actor, Graph};
use crate::{Candidate, change, genesis};

/// Everything that stood at one moment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Snapshot {
    /// What stood, by path; the one in force first.
    pub fields: BTreeMap<Path, Vec<Candidate>>,
}

/// Reads the whole document, now or at earlier heads. Issues follow the order of the maps.
pub(crate) fn read(
    automerge: &Automerge,
    graph: &Graph,
    genesis: &ActorId,
    heads: Option<&[ChangeHash]>,
) -> (Snapshot, Vec<Issue>) {
    let actors: BTreeMap<&ActorId, &Actor> = graph.actors().iter().map(|a| (&a.id, a)).collect();
    let reader = Reader {
        automerge,
        graph,
        actors,
        heads,
    };
    let (mut snapshot, mut issues) = (Snapshot::default(), Vec::new());
    for shard in 0..=u8::MAX {
        reader.read_map(
            &genesis::shard_object(genesis, shard),
            &mut snapshot,
            &mut issues,
        );
    }
    (snapshot, issues)
}

struct Reader<'a> {
    automerge: &'a Automerge,
    graph: &'a Graph,
    actors: BTreeMap<&'a ActorId, &'a Actor>,
    heads: Option<&'a [ChangeHash]>,
}

impl Reader<'_> {
    fn read_map(&self, map: &ObjId, snapshot: &mut Snapshot, issues: &mut Vec<Issue>) {
        let items = match self.heads {
            None => self.automerge.map_range(map, ..),
            Some(heads) => self.automerge.map_range_at(map, .., heads),
        };
        for item in items {
            let Ok(path) = item.key.parse::<Path>() else {
                issues.push(unreadable(&item.key, "its path is malformed"));
                continue;
            };
            let mut candidates = Vec::new();
            if item.conflict {
                let all = match self.heads {
                    None => self.automerge.get_all(map, item.key.as_ref()),
                    Some(heads) => self.automerge.get_all_at(map, item.key.as_ref(), heads),
                };
                // Automerge gives the one in force last.
                for (value, id) in all.into_iter().flatten().rev() {
                    self.read_value(&path, value.as_str(), &id, &mut candidates, issues);
                }
            } else {
                let text = match &item.value {
                    ValueRef::Scalar(ScalarValueRef::Str(text)) => Some(text.as_ref()),
                    ValueRef::Scalar(_) | ValueRef::Object(_) => None,
                };
                self.read_value(&path, text, &item.id(), &mut candidates, issues);
            }
            if !candidates.is_empty() {
                snapshot.fields.insert(path, candidates);
            }
        }
    }

    fn read_value(
        &self,
        path: &Path,
        text: Option<&str>,
        id: &ObjId,
        candidates: &mut Vec<Candidate>,
        issues: &mut Vec<Issue>,
    ) {
        let Some(field) = text.and_then(change::read_field) else {
            issues.push(unreadable(path.as_str(), "its value is not a field"));
            return;
        };
        let Some((actor, edit)) = self.writer(id) else {
            issues.push(unreadable(path.as_str(), "nobody wrote it"));
            return;
        };
        let node = self.graph.node(edit);
        candidates.push(Candidate {
            field,
            statement: node.id,
            author: actor.author,
            at: node.at,
        });
    }

    fn writer(&self, id: &ObjId) -> Option<(&Actor, u32)> {
        let ObjId::Id(op, actor, _) = id else {
            return None;
        };
        let actor = self.actors.get(actor)?;
        Some((actor, self.graph.writer(actor, u32::try_from(*op).ok()?)?))
    }
}

fn unreadable(subject: &str, why: &str) -> Issue {
    Issue::error(
        "M020",
        subject,
        format!("this entry of the document was left out: {why}"),
    )
    .with_help("update lab on this machine; a newer version may have written it")
}
