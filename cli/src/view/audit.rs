//! Audit records as rows, and whether they are whole chains.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use lab_crdt_log::audit::{Fault, KINDS, verify};
use lab_crdt_log::{Act, Alarm, AuditBody, AuditRecord};
use lab_crdt_model::report::AuditHead;
use lab_crdt_model::view::MemberState;
use lab_crdt_model::{AuthorId, MeshId, NodeId, StatementId};
use serde::Serialize;

use super::picture::Picture;
use crate::print::count;
use crate::proposal::{all_hex, unhex};

/// One record. What is written depends on the record alone, so that an exported line can be compared with it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct AuditRow {
    /// Whose chain.
    pub(crate) node: String,
    /// Its place in it, from 1.
    pub(crate) seq: u64,
    /// When, by the clock of the node; RFC 3339.
    pub(crate) at: String,
    /// Who signed what was handed in.
    pub(crate) who: Option<String>,
    /// Who handed it in: `uid N`, or the key of a device.
    pub(crate) via: Option<String>,
    /// What kind of thing happened.
    pub(crate) what: String,
    /// To what.
    pub(crate) target: String,
    /// What came of it.
    pub(crate) outcome: String,
    /// The hash of the record before, in hexadecimal.
    pub(crate) prev: String,
    /// The hash of the record.
    pub(crate) hash: String,
    /// The record itself.
    pub(crate) bytes: String,
    /// For people: the names of who and whose.
    #[serde(skip)]
    pub(crate) names: Names,
}

/// Ids of a row with a name.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Names {
    pub(crate) node: String,
    pub(crate) who: String,
    pub(crate) target: String,
}

impl AuditRow {
    /// The row of a record, without names.
    pub(crate) fn new(record: &AuditRecord) -> Self {
        let body = record.body();
        let (who, what, target, outcome) = words(body.as_ref());
        Self {
            node: record.node.to_string(),
            seq: record.seq,
            at: record.at.to_string(),
            who,
            via: body.and_then(|b| b.caller).map(|c| c.to_string()),
            what,
            target,
            outcome,
            prev: all_hex(&record.prev),
            hash: all_hex(&record.hash),
            bytes: all_hex(&record.bytes),
            names: Names::default(),
        }
    }

    fn named(mut self, picture: &Picture) -> Self {
        let short = |id: &str| match id.split_once(':') {
            Some((kind, rest)) if rest.len() > 8 => match kind {
                "node" => id
                    .parse()
                    .map_or_else(|_| id.to_owned(), |n| name_of(picture, &n)),
                "key" => id
                    .parse()
                    .map_or_else(|_| id.to_owned(), |k: AuthorId| picture.author(&k)),
                _ => rest.chars().take(8).collect(),
            },
            _ => id.to_owned(),
        };
        let all = |text: &str| text.split(' ').map(short).collect::<Vec<_>>().join(" ");
        self.names = Names {
            node: all(&self.node),
            who: self.who.as_deref().map(all).unwrap_or_default(),
            target: all(&self.target),
        };
        self
    }

    /// Whether someone had to do with it: by key, name or number.
    pub(crate) fn is_by(&self, who: &str) -> bool {
        let via = self.via.as_deref().unwrap_or_default();
        self.who.as_deref() == Some(who)
            || self.names.who == who
            || self.names.node == who
            || via == who
            || via.strip_prefix("uid ") == Some(who)
    }
}

/// The name of a member, or the beginning of its key.
pub(crate) fn name_of(picture: &Picture, node: &NodeId) -> String {
    let member = picture.view.members.iter().find(|m| m.node == *node);
    member.map_or_else(|| node.short(), |m| m.name.clone())
}

/// Who, what, to what, and what came of it.
fn words(body: Option<&AuditBody>) -> (Option<String>, String, String, String) {
    let Some(body) = body else {
        let outcome = "said by a later version".to_owned();
        return (None, "unknown".to_owned(), String::new(), outcome);
    };
    let id = |id: &StatementId| id.to_string();
    let records = |from: u64, through: u64| match from == through {
        true => format!("record {from}"),
        false => format!("records {from} to {through}"),
    };
    let mut who = None;
    let (target, outcome) = match &body.act {
        Act::Started { version, .. } => (version.clone(), "started".to_owned()),
        Act::Lost { from, through } => (records(*from, *through), "lost by the store".to_owned()),
        Act::HandedIn {
            author,
            ids,
            kinds,
            count: n,
        } => {
            who = Some(author.to_string());
            let kinds: Vec<_> = kinds.iter().map(|kind| kind_word(*kind)).collect();
            let of = count(*n as usize, "statement");
            let ids: Vec<_> = ids.iter().map(id).collect();
            (ids.join(" "), format!("taken: {of} ({})", kinds.join(", ")))
        }
        Act::Refused {
            author,
            id: first,
            code,
            why,
        } => {
            who = author.map(|author| author.to_string());
            let target = first.as_ref().map(id).unwrap_or_default();
            (target, format!("{code}: {why}"))
        }
        Act::Witnessed { node, join, .. } => (node.to_string(), format!("saw join {}", id(join))),
        Act::JoinRefused { node, code, why } => (node.to_string(), format!("{code}: {why}")),
        Act::MemberChanged { node, name, state } => {
            let state = match state {
                MemberState::Seen => "unknown again",
                MemberState::Member => "a member again",
                MemberState::Suspended => "suspended",
                MemberState::Expired => "expired",
                MemberState::Probation => "on probation",
                MemberState::Revoked => "revoked",
            };
            (node.to_string(), format!("{name} is {state}"))
        }
        Act::Configured {
            hash,
            changed_count,
            failed_count,
            files,
        } => {
            let hash = lab_crdt_model::id::base32(&hash[..5]);
            let outcome = format!("config {hash}: {changed_count} changed, {failed_count} failed");
            (files.join(" "), outcome)
        }
        Act::Alarm(Alarm::Forked { author }) => (
            author.to_string(),
            "its chain of statements has two branches".to_owned(),
        ),
        Act::Alarm(Alarm::WentBack { node, told, tells }) => {
            let outcome = format!(
                "its audit chain went back: record {} {}, then record {} {}",
                told.seq,
                short_hash(told),
                tells.seq,
                short_hash(tells)
            );
            (node.to_string(), outcome)
        }
        Act::Alarm(Alarm::Diverged { peer }) => {
            (peer.to_string(), "stayed unequal for too long".to_owned())
        }
        Act::Trimmed { end } => (
            records(1, end.seq),
            "trimmed: there were too many".to_owned(),
        ),
        Act::Dropped { node, end } => (
            node.to_string(),
            format!("{} dropped here: there were too many", records(1, end.seq)),
        ),
        Act::LeftOut { kind, count } => {
            let kind = KINDS.get(usize::from(*kind)).copied().unwrap_or("unknown");
            (kind.to_owned(), format!("{count} more in a minute"))
        }
    };
    (who, body.act.kind_word().to_owned(), target, outcome)
}

fn short_hash(head: &AuditHead) -> String {
    all_hex(&head.hash[..4])
}

fn kind_word(kind: u8) -> String {
    let words = [
        "edit",
        "grant",
        "revoke-grant",
        "revoke",
        "token",
        "revoke-token",
        "join",
        "witness",
        "confirm",
        "admit",
        "co-sign",
        "root",
    ];
    let word = usize::from(kind)
        .checked_sub(1)
        .and_then(|at| words.get(at));
    word.map_or_else(|| format!("kind {kind}"), |word| (*word).to_owned())
}

/// Records with their names; those that cannot be read are left out.
pub(crate) fn rows(picture: &Picture, records: &[Bytes]) -> Vec<AuditRow> {
    let read = records.iter().filter_map(|b| AuditRecord::parse(b).ok());
    read.map(|record| AuditRow::new(&record).named(picture))
        .collect()
}

/// What is known of one chain.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct ChainRow {
    /// Whose.
    pub(crate) node: String,
    /// Its name.
    pub(crate) name: String,
    /// How many records there are.
    pub(crate) count: usize,
    /// The first and the last of them; 0 for none.
    pub(crate) first: u64,
    /// See `first`.
    pub(crate) last: u64,
    /// The newest record that the node told others of.
    pub(crate) told: u64,
    /// What is wrong; nothing if it is whole.
    pub(crate) fault: Option<String>,
    /// What a person should know besides.
    pub(crate) note: Option<String>,
}

/// Records to be looked at.
pub(crate) struct Chains<'a> {
    pub(crate) picture: &'a Picture,
    /// The mesh that signed them.
    pub(crate) mesh: MeshId,
    /// They come from a file, which may end anywhere.
    pub(crate) is_file: bool,
}

impl Chains<'_> {
    /// Looks at the chains that records are of, and at `also`, of which there may be none.
    pub(crate) fn check(&self, records: &[Bytes], also: Option<NodeId>) -> Vec<ChainRow> {
        let mut chains: BTreeMap<NodeId, Vec<Bytes>> =
            also.map(|node| (node, Vec::new())).into_iter().collect();
        let mut strange = Vec::new();
        for bytes in records {
            match AuditRecord::parse(bytes) {
                Ok(record) => chains.entry(record.node).or_default().push(bytes.clone()),
                Err(error) => strange.push(error),
            }
        }
        let me = self.picture.view.me;
        let dropped = self.dropped(chains.get(&me).map_or(&[][..], Vec::as_slice));
        let mut out: Vec<ChainRow> = chains
            .iter()
            .map(|(node, records)| self.chain(node, records, &dropped))
            .collect();
        if let (Some(error), Some(row)) = (strange.first(), out.first_mut()) {
            row.fault.get_or_insert_with(|| error.to_string());
        }
        out
    }

    /// Up to where this machine dropped records of others, by its own chain.
    fn dropped(&self, own: &[Bytes]) -> BTreeMap<NodeId, Vec<AuditHead>> {
        let mut out: BTreeMap<NodeId, Vec<AuditHead>> = BTreeMap::new();
        for bytes in own.iter().filter(|_| !self.is_file) {
            let record = AuditRecord::open(&self.mesh, bytes).ok();
            if let Some(Act::Dropped { node, end }) = record.and_then(|r| Some(r.body()?.act)) {
                out.entry(node).or_default().push(end);
            }
        }
        out
    }

    fn chain(
        &self,
        node: &NodeId,
        records: &[Bytes],
        dropped: &BTreeMap<NodeId, Vec<AuditHead>>,
    ) -> ChainRow {
        let mut sorted = records.to_vec();
        if !self.is_file {
            // What contradicts a chain comes behind it.
            sorted.sort_by_key(seq_of);
        }
        let reports = &self.picture.view.reports;
        let beacon = reports.iter().find(|r| r.node == *node);
        let told = beacon.and_then(|r| r.beacon.as_ref()).map(|(b, _)| b.audit);
        let told = told.unwrap_or_default();
        let starts = dropped.get(node).map_or(&[][..], Vec::as_slice);
        let (first, last) = (
            sorted.first().map_or(0, seq_of),
            sorted.last().map_or(0, seq_of),
        );
        let (fault, note) = match verify(&self.mesh, node, &sorted, starts, &[told]) {
            Ok(_) => (None, None),
            Err(Fault::Short { end, told }) if self.is_file || *node != self.picture.view.me => {
                let note = if self.is_file {
                    format!(
                        "the file ends with record {end}; the node has told of record {told} since"
                    )
                } else {
                    format!("records {} to {told} are not here yet", end + 1)
                };
                (None, Some(note))
            }
            Err(fault) => (Some(fault.to_string()), None),
        };
        ChainRow {
            node: node.to_string(),
            name: name_of(self.picture, node),
            count: records.len(),
            first,
            last,
            told: told.seq,
            fault,
            note,
        }
    }
}

fn seq_of(bytes: &Bytes) -> u64 {
    AuditRecord::parse(bytes).map_or(0, |record| record.seq)
}

/// The records of an export, and the first line that says something else than its record, in words.
pub(crate) fn read_export(text: &str) -> (Vec<Bytes>, Option<String>) {
    let (mut records, mut fault) = (Vec::new(), None);
    for (at, line) in (1..).zip(text.lines()) {
        if line.trim().is_empty() {
            continue;
        }
        let mut note = |what: &str| {
            fault.get_or_insert_with(|| format!("line {at}: {what}"));
        };
        let Ok(serde_json::Value::Object(said)) = serde_json::from_str(line) else {
            note("it is not a line of an export");
            continue;
        };
        if said.get("type").is_some_and(|kind| kind != "item") {
            continue;
        }
        let bytes = said.get("bytes").and_then(|b| b.as_str()).and_then(unhex);
        let record = bytes
            .map(Bytes::from)
            .map(|bytes| AuditRecord::parse(&bytes));
        let Some(Ok(record)) = record else {
            note("its record cannot be read");
            continue;
        };
        let is = serde_json::to_value(AuditRow::new(&record)).unwrap_or_default();
        let names: BTreeSet<&String> = is.as_object().into_iter().flat_map(|o| o.keys()).collect();
        let other = names.iter().find(|name| said.get(**name) != is.get(**name));
        if let Some(name) = other {
            note(&format!("`{name}` is not what its record says"));
        }
        records.push(record.bytes);
    }
    (records, fault)
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;
    use lab_crdt_log::{Kind, seal_audit};
    use lab_crdt_model::{Caller, Wall};

    use super::*;
    use crate::view::sample;

    fn chain(mesh: &MeshId) -> Vec<AuditRecord> {
        let key = SigningKey::from_bytes(&[5; 32]);
        let mut head = AuditHead::default();
        let acts = [
            Act::Started {
                incarnation: 1,
                version: "0.1.0".into(),
            },
            Act::handed_in(AuthorId([9; 32]), &[(StatementId([4; 32]), Kind::EDIT)]),
            Act::Lost {
                from: 1,
                through: 1,
            },
        ];
        let mut seal = |act| {
            let caller = Some(Caller::Local { uid: 1000 });
            let record = seal_audit(mesh, &key, &head, Wall(1), &AuditBody { caller, act });
            head = record.head();
            record
        };
        acts.map(&mut seal).into()
    }

    fn export(records: &[AuditRecord]) -> String {
        let line = |r| serde_json::to_string(&AuditRow::new(r)).unwrap() + "\n";
        records.iter().map(line).collect()
    }

    fn faults(picture: &Picture, text: &str) -> Vec<String> {
        let (records, fault) = read_export(text);
        let chains = Chains {
            picture,
            mesh: picture.view.mesh,
            is_file: true,
        };
        let rows = chains.check(&records, None);
        fault
            .into_iter()
            .chain(rows.into_iter().filter_map(|r| r.fault))
            .collect()
    }

    #[test]
    fn any_changed_line_of_an_export_is_found_and_a_missing_one_too() {
        let picture = sample::fleet().picture();
        let text = export(&chain(&picture.view.mesh));
        assert_eq!(faults(&picture, &text), Vec::<String>::new());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            faults(&picture, &[lines[0], lines[2]].join("\n")),
            ["record 2 is missing"]
        );
        assert!(!faults(&picture, &[lines[1], lines[2]].join("\n")).is_empty());
        assert!(!faults(&picture, &[lines[1], lines[0], lines[2]].join("\n")).is_empty());
        for (was, is) in [
            ("uid 1000", "uid 0"),
            ("taken", "takem"),
            ("\"seq\":2", "\"seq\":3"),
        ] {
            assert_eq!(faults(&picture, &text.replace(was, is)).len(), 1, "{is}");
        }
        let at = text.find("\"bytes\":\"").unwrap() + 300;
        let mut changed = text.into_bytes();
        changed[at] = if changed[at] == b'0' { b'1' } else { b'0' };
        assert!(!faults(&picture, &String::from_utf8(changed).unwrap()).is_empty());
    }

    #[test]
    fn rows_are_found_by_key_name_and_number() {
        let picture = sample::fleet().picture();
        let records: Vec<Bytes> = chain(&picture.view.mesh)
            .into_iter()
            .map(|r| r.bytes)
            .collect();
        let rows = rows(&picture, &records);
        assert!(
            rows.iter()
                .all(|row| row.is_by("1000") && !row.is_by("100"))
        );
        assert!(rows[1].is_by(&AuthorId([9; 32]).to_string()));
        assert_eq!(
            (rows[1].what.as_str(), rows[1].outcome.as_str()),
            ("change", "taken: 1 statement (edit)")
        );
    }
}
