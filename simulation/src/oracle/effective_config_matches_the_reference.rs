//! The files of a machine are what the slow evaluator makes of its labels and of what stands.

use std::collections::BTreeMap;

use lab_agent_core::ViewMask;
use lab_crdt_model::Mono;
use lab_crdt_model::view::{MemberState, Role};

use crate::oracle::evidence::{Healing, Rota};
use crate::oracle::{Digests, Limits, Note, Oracle, Phase, Seen, Verdict, What};
use crate::reference::config::{File, files};

#[derive(Debug)]
pub(super) struct ConfigFiles {
    config_ms: u64,
    healing: Healing,
    rota: Rota,
    /// Since when files differ, and with which digest of statements.
    wrong: BTreeMap<usize, (Mono, [u8; 32])>,
    /// What a replica held, and which files lay there, when nothing was wrong: the same is right again.
    right: BTreeMap<usize, (Digests, Files)>,
}

type Files = BTreeMap<String, Vec<u8>>;

impl ConfigFiles {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            config_ms: limits.config_ms,
            healing: Healing::default(),
            rota: Rota::default(),
            wrong: BTreeMap::new(),
            right: BTreeMap::new(),
        }
    }

    /// The first difference between what lies there and what should.
    fn difference(seen: &mut dyn Seen, node: usize) -> Option<(String, [u8; 32])> {
        let mask = ViewMask {
            roster: true,
            fields: true,
            ..ViewMask::default()
        };
        let view = seen.view(node, mask)?;
        let me = view.members.iter().find(|m| m.node == view.me)?;
        if me.role != Role::Node || me.state != MemberState::Member {
            return None;
        }
        let want = files(&me.name, &me.labels, &view.fields)?;
        let have = seen.files(node);
        for (path, file) in &want {
            if let File::Content(content) = file
                && have.get(path) != Some(content)
            {
                let print = |bytes: Option<&Vec<u8>>| match bytes {
                    None => "no such file".to_owned(),
                    Some(bytes) => {
                        let text = String::from_utf8_lossy(bytes);
                        format!("`{}`", text.chars().take(80).collect::<String>())
                    }
                };
                let what = format!(
                    "expected {path} of {} to be {}, seen {}",
                    me.name,
                    print(Some(content)),
                    print(have.get(path))
                );
                return Some((what, view.digest));
            }
        }
        let extra = have.keys().find(|path| !want.contains_key(*path))?;
        let what = format!("expected {extra} of {} to be gone, seen it there", me.name);
        Some((what, view.digest))
    }

    fn check(&mut self, seen: &mut dyn Seen, node: usize) -> Verdict {
        if !seen.is_up(node) || seen.is_paused(node) {
            self.wrong.remove(&node);
            return Ok(());
        }
        let holds = seen.digests(node).map(|held| {
            // Files follow from statements alone.
            let held = Digests {
                registers: [0; 32],
                ..held
            };
            (held, seen.files(node))
        });
        if holds.is_some() && holds.as_ref() == self.right.get(&node) {
            return Ok(());
        }
        let Some((what, digest)) = Self::difference(seen, node) else {
            self.wrong.remove(&node);
            if let Some(holds) = holds {
                self.right.insert(node, holds);
            }
            return Ok(());
        };
        self.right.remove(&node);
        let now = seen.now();
        let standing = self.wrong.entry(node).or_insert((now, digest));
        if standing.1 != digest {
            *standing = (now, digest);
        }
        let ms = now.ms_since(standing.0);
        if ms > self.config_ms {
            return self.broken(seen, Some(node), format!("{what}, for {} s", ms / 1000));
        }
        Ok(())
    }
}

impl Oracle for ConfigFiles {
    fn name(&self) -> &'static str {
        "effective_config_matches_the_reference"
    }

    fn phase(&mut self, seen: &mut dyn Seen, phase: &Phase) {
        self.healing.phase(seen, phase);
        self.wrong.clear();
    }

    fn note(&mut self, _seen: &mut dyn Seen, note: &Note) -> Verdict {
        if matches!(note.what, What::Killed | What::Started) {
            self.wrong.remove(&note.node);
        }
        Ok(())
    }

    fn sample(&mut self, seen: &mut dyn Seen) -> Verdict {
        if self.healing.ms(seen.now()).is_none() {
            return Ok(());
        }
        let nodes = self.healing.nodes(seen);
        for at in self.rota.turn(nodes.len()) {
            self.check(seen, nodes[at])?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use lab_crdt_model::view::{CandidateView, FieldView, MemberView};
    use lab_crdt_model::{AuthorId, Field, Hlc, StatementId, Value};

    use super::*;
    use crate::oracle::fake::Fake;

    fn machine(fake: &mut Fake) {
        let me = fake.id(0);
        let view = &mut fake.node(0).view;
        view.members = vec![MemberView {
            node: me,
            name: "n0".into(),
            role: Role::Node,
            state: MemberState::Member,
            labels: vec!["role=web".into()],
            join: StatementId([1; 32]),
            joined_at: Hlc(0),
            not_after: None,
        }];
        view.fields = vec![FieldView {
            path: "on/role=web/files/%2Fetc%2Fmotd/template".parse().unwrap(),
            candidates: vec![CandidateView {
                field: Field::new(Value::text("I am {node.name}"), "person:ana"),
                statement: StatementId([2; 32]),
                author: AuthorId([3; 32]),
                at: Hlc(0),
            }],
        }];
    }

    fn is_noticed(files: &[(&str, &str)]) -> bool {
        let mut fake = Fake::new(1);
        machine(&mut fake);
        let files = files.iter().map(|(path, text)| {
            let content = text.as_bytes().to_vec();
            ((*path).to_owned(), content)
        });
        fake.node(0).files = files.collect();
        let mut oracle = ConfigFiles::new(&Limits::default());
        oracle.phase(&mut fake, &Phase::Healed);
        assert!(oracle.sample(&mut fake).is_ok());
        fake.pass_ms(121_000);
        oracle.sample(&mut fake).is_err()
    }

    #[test]
    fn a_file_that_differs_is_missing_or_stays_is_noticed() {
        let right = ("/etc/motd", "I am n0");
        assert!(!is_noticed(&[right]));
        assert!(is_noticed(&[]));
        assert!(is_noticed(&[("/etc/motd", "I am n1")]));
        assert!(is_noticed(&[right, ("/etc/old", "x")]));
    }
}
