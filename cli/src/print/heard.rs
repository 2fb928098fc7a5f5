//! Who has heard of a change: `41 of 43 machines have heard of it; nas2, pi1 not`.

use lab_crdt_model::time::age;
use lab_crdt_model::view::MemberState;
use serde::Serialize;
use serde_json::{Value as Json, json};

use super::{Report, Style};
use crate::view::machine::Machine;
use crate::view::picture::Picture;

/// A machine that is not known to hold what the agent here holds.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Deaf {
    name: String,
    /// Seconds since anything was heard of it, unless it is there.
    silent_s: Option<u64>,
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Heard {
    heard: usize,
    of: usize,
    not: Vec<Deaf>,
}

impl Heard {
    /// By digests: a machine whose set of statements is ours holds all that we hold.
    pub(crate) fn new(picture: &Picture) -> Self {
        let is_full = |m: &&Machine| {
            m.member
                .as_ref()
                .is_some_and(|member| member.state == MemberState::Member)
        };
        let members: Vec<&Machine> = picture.machines.iter().filter(is_full).collect();
        let is_linked_and_equal = |m: &Machine| {
            let node = m.member.as_ref().map(|member| member.node);
            let peers = &picture.view.peers;
            peers
                .iter()
                .any(|p| Some(p.node) == node && p.is_equal == Some(true))
        };
        let has_heard = |m: &Machine| {
            let beacon = m.beacon.as_ref();
            m.is_me
                || is_linked_and_equal(m)
                || beacon.is_some_and(|b| b.digest == picture.view.digest)
        };
        let not: Vec<Deaf> = members
            .iter()
            .filter(|m| !has_heard(m))
            .map(|m| Deaf {
                name: m.name.clone(),
                silent_s: (!m.is_heard()).then(|| m.seen_ms.unwrap_or(0) / 1000),
            })
            .collect();
        Self {
            heard: members.len() - not.len(),
            of: members.len(),
            not,
        }
    }

    /// Whether everyone holds it.
    pub(crate) const fn is_complete(&self) -> bool {
        self.not.is_empty()
    }

    /// Whether waiting longer is of no use: who is missing is not there.
    pub(crate) fn is_done(&self) -> bool {
        self.not.iter().all(|deaf| deaf.silent_s.is_some())
    }
}

impl Report for Heard {
    fn schema(&self) -> &'static str {
        "lab.heard/v1"
    }

    fn data(&self) -> Json {
        json!(self)
    }

    fn names(&self) -> Vec<String> {
        self.not.iter().map(|deaf| deaf.name.clone()).collect()
    }

    fn text(&self, _style: &Style) -> String {
        let mut out = format!("{} of {} have heard of it", self.heard, self.of);
        let list: Vec<String> = self
            .not
            .iter()
            .map(|deaf| match deaf.silent_s {
                Some(silent) => format!("{} (silent for {})", deaf.name, age(silent * 1000)),
                None => deaf.name.clone(),
            })
            .collect();
        if !list.is_empty() {
            out.push_str(&format!("; not: {}", list.join(", ")));
        }
        out + "\n"
    }
}
