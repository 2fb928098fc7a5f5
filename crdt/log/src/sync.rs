//! Pull: what two replicas say to find and repair their difference.
//!
//! Either side opens with [`open`]; every message is answered by [`answer`] until no side has anything to say.
//! No state is kept between messages: losing one costs time only, and the next exchange starts from the
//! fingerprints again. One message is at most 256 KiB or one statement; a large difference continues after
//! each portion was taken in.
//!
//! ```text
//! A                                   B
//! Nodes(root) ───────────────────────►  compares, descends
//!     ◄──────────────────── Nodes(1 digit) …          differing prefixes only
//! Items(prefix) ─────────────────────►  sends what A lacks, asks for what B lacks
//!     ◄──────────────── Entries + Items(reply)
//! Entries ───────────────────────────►
//! ```

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use lab_crdt_model::report::Section;
use lab_crdt_model::{AuthorId, NodeId, StatementId, mutant, reached, sometimes};
use serde::{Deserialize, Serialize};

use crate::chain::NO_MORE;
use crate::log::Log;
use crate::prints::DEPTH;
use crate::register::Registers;

/// Longest message, bytes, unless a single entry is longer.
const MESSAGE_BYTES_MAX: usize = 256 * 1024;
/// Below this many items a prefix is listed rather than descended.
const LIST_MAX: u32 = 24;
/// Most statements or registers in one message, ids in a request and messages that answer a request.
const ENTRIES_MAX: usize = 8192;
const WANT_MAX: usize = 256;
const WANT_ANSWERS_MAX: usize = 4;
/// Predecessors sent along with a wanted statement: who lacks one mostly lacks those before it.
const WANT_BEFORE: usize = 64;
/// Most messages that answer one message.
const ANSWERS_MAX: usize = 64;
/// What is told instead of number and hash of a report of which nothing newer is wanted now.
const NOTHING_NEWER: (u64, u64) = (u64::MAX, u64::MAX);

/// What is compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Plane {
    /// Statements, by author.
    Statements,
    /// Registers, by node.
    Registers,
}

/// A prefix of keys: its number of hexadecimal digits and their value.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Prefix {
    digits: u8,
    at: u16,
}

/// An author and the ends of its branches, by position.
type Tips = (AuthorId, Vec<(u64, StatementId)>);
/// A node and its sections: number, sequence, short hash.
type Newest = (NodeId, Vec<(u8, u64, u64)>);

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
enum Message {
    /// Prints of the children of a prefix, complete.
    Nodes {
        plane: Plane,
        prefix: Prefix,
        children: Vec<(u8, u64)>,
    },
    /// Everything below a prefix, in short. Asks for what the sender lacks; with `reply`, for this list in return.
    Authors {
        prefix: Prefix,
        authors: Vec<Tips>,
        reply: bool,
    },
    /// The same for registers.
    Reports {
        prefix: Prefix,
        nodes: Vec<Newest>,
        reply: bool,
    },
    /// Statements in causal order. With `more`, the receiver says again what it has below the prefix.
    Statements {
        entries: Vec<Bytes>,
        more: Option<Prefix>,
    },
    /// Registers.
    Registers { entries: Vec<Bytes> },
    /// Statements that others of the receiver's refer to.
    Want { ids: Vec<StatementId> },
}

/// What a message brought.
#[derive(Debug, Default)]
pub struct Answer {
    /// Messages to send back, in order.
    pub messages: Vec<Bytes>,
    /// Statements to take in, in order.
    pub statements: Vec<Bytes>,
    /// Registers to take in.
    pub registers: Vec<Bytes>,
    /// The message that asks for the statements that the sender has and this replica lacks. It goes after the others,
    /// or nowhere while someone else is sending the same.
    pub ask: Option<Bytes>,
    /// The sender said which statements it has, and this replica lacks none of them.
    pub has_all: bool,
    /// After taking in the statements: call [`resume`] with this.
    pub resume: Option<Resume>,
}

/// A place at which a large exchange continues.
#[derive(Debug, Clone, Copy)]
pub struct Resume(Prefix);

/// A message that is not one. The link should be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the pull message is malformed")]
pub struct Malformed;

/// Opens an exchange.
pub fn open(log: &Log, registers: &Registers) -> Vec<Bytes> {
    let root = Prefix { digits: 0, at: 0 };
    [
        describe(Plane::Statements, log, registers, root, true),
        describe(Plane::Registers, log, registers, root, true),
    ]
    .iter()
    .map(encode)
    .collect()
}

/// Whether what [`open`] says names every author that is held here.
pub fn is_told_at_once(log: &Log) -> bool {
    log.prints().count(0, 0) <= LIST_MAX
}

/// Continues a large exchange once the last portion was taken in.
pub fn resume(log: &Log, registers: &Registers, resume: Resume) -> Bytes {
    encode(&list(Plane::Statements, log, registers, resume.0, false))
}

/// Asks for statements that waiting ones refer to.
pub fn want(ids: Vec<StatementId>) -> Bytes {
    encode(&Message::Want { ids })
}

/// Shows a report to someone who may not know it.
pub fn show(report: Bytes) -> Bytes {
    let entries = vec![report];
    encode(&Message::Registers { entries })
}

/// Answers one message. `log` must have its chains up to date; nothing is changed here.
pub fn answer(log: &Log, registers: &Registers, bytes: &[u8]) -> Result<Answer, Malformed> {
    let (message, rest) =
        postcard::take_from_bytes::<Message>(bytes).map_err(|_cause| Malformed)?;
    if !rest.is_empty() {
        return Err(Malformed);
    }
    let mut out = Answer::default();
    let mut reply: Vec<Message> = Vec::new();
    match message {
        Message::Nodes {
            plane,
            prefix,
            children,
        } => {
            reached!("an exchange compares prints before it lists");
            let prefix = sound(prefix, DEPTH - 1)?;
            if children.len() > 16 || children.iter().any(|(digit, _)| *digit > 15) {
                return Err(Malformed);
            }
            let mine = children_of(plane, log, registers, prefix);
            for digit in 0..16u8 {
                let theirs = children.iter().find(|(d, _)| *d == digit);
                if mine.iter().find(|(d, _)| *d == digit) != theirs {
                    let child = Prefix {
                        digits: prefix.digits + 1,
                        at: prefix.at << 4 | u16::from(digit),
                    };
                    reply.push(describe(plane, log, registers, child, true));
                }
            }
        }
        Message::Authors {
            prefix,
            authors,
            reply: wants_list,
        } => {
            let prefix = sound(prefix, DEPTH)?;
            if authors.iter().any(|(_, tips)| tips.len() > 8) {
                return Err(Malformed);
            }
            let mut missing = Vec::new();
            let mut lacks_any = false;
            let theirs: BTreeMap<_, _> = authors.iter().map(|(a, t)| (*a, &t[..])).collect();
            for key in log.prints().keys(usize::from(prefix.digits), prefix.at) {
                let author = AuthorId(key);
                let known = theirs.get(&author).copied().unwrap_or(&[]);
                let known = if mutant!("M57") { &[] } else { known };
                missing.extend(log.beyond(&author, known));
            }
            for (author, tips) in &authors {
                let chain = log.chain(author);
                lacks_any |= tips
                    .iter()
                    .filter(|(seq, _)| *seq != NO_MORE)
                    .any(|(seq, id)| !chain.is_some_and(|c| c.contains(*seq, id)));
            }
            if !missing.is_empty() {
                reply.push(portion(log, missing, prefix));
            }
            out.has_all = !lacks_any;
            if wants_list && lacks_any {
                let ask = list(Plane::Statements, log, registers, prefix, false);
                out.ask = Some(encode(&ask));
            }
        }
        Message::Reports {
            prefix,
            nodes,
            reply: wants_list,
        } => {
            let prefix = sound(prefix, DEPTH)?;
            let mut entries = Vec::new();
            let mut lacks_any = false;
            let by_node: BTreeMap<_, _> = nodes.iter().map(|(n, s)| (*n, &s[..])).collect();
            for key in keys_of(Plane::Registers, log, registers, prefix) {
                let node = NodeId(key);
                let theirs = by_node.get(&node).copied().unwrap_or(&[]);
                for register in registers.of(&node) {
                    let standing = theirs.iter().find(|(s, _, _)| *s == register.section as u8);
                    if standing.is_none_or(|(_, seq, hash)| {
                        (*seq, *hash) < (register.seq, short(register))
                            || (mutant!("M27") && *seq != register.seq)
                    }) {
                        entries.push(register.bytes.clone());
                    }
                }
            }
            for (node, sections) in &nodes {
                lacks_any |= sections.iter().any(|(section, seq, hash)| {
                    let mine = Section::from_wire(*section).and_then(|s| registers.get(node, s));
                    let is_told = (*seq, *hash) != NOTHING_NEWER;
                    let is_muted = mine.is_some_and(|r| registers.is_muted(node, r.section));
                    is_told && !is_muted && mine.is_none_or(|r| (r.seq, short(r)) < (*seq, *hash))
                });
            }
            for chunk in split(entries) {
                reply.push(Message::Registers { entries: chunk });
            }
            if wants_list && lacks_any {
                reply.push(list(Plane::Registers, log, registers, prefix, false));
            }
        }
        Message::Statements { entries, more } => {
            if entries.len() > ENTRIES_MAX {
                return Err(Malformed);
            }
            sometimes!(more.is_some(), "an exchange needs several portions");
            out.resume = more.map(|p| sound(p, DEPTH)).transpose()?.map(Resume);
            out.statements = entries;
        }
        Message::Registers { entries } if entries.len() > ENTRIES_MAX => return Err(Malformed),
        Message::Registers { entries } => out.registers = entries,
        Message::Want { ids } => {
            reached!("a peer asks for single statements");
            // Each with those before it, latest first: so each is needed by what came before it, and gets in even
            // where nothing more of its author is kept.
            let mut told = BTreeSet::new();
            let mut entries = Vec::new();
            for id in ids.iter().take(WANT_MAX) {
                if let Some(stored) = log.stored(id)
                    && let Some(chain) = log.chain(&stored.author)
                {
                    let before = chain.before(id, stored.seq).take(1 + WANT_BEFORE);
                    entries.extend(
                        before
                            .take_while(|id| told.insert(*id))
                            .filter_map(|id| log.envelope(&id)),
                    );
                }
            }
            for chunk in split(entries).into_iter().take(WANT_ANSWERS_MAX) {
                reply.push(Message::Statements {
                    entries: chunk,
                    more: None,
                });
            }
        }
    }
    reply.truncate(ANSWERS_MAX);
    out.messages = reply.iter().map(encode).collect();
    Ok(out)
}

fn encode(message: &Message) -> Bytes {
    postcard::to_stdvec(message)
        .expect("these messages have no encoding that can fail")
        .into()
}

fn sound(prefix: Prefix, digits_max: usize) -> Result<Prefix, Malformed> {
    let digits = usize::from(prefix.digits);
    let fits =
        digits <= digits_max && (digits == DEPTH || u32::from(prefix.at) < 1 << (4 * digits));
    if fits { Ok(prefix) } else { Err(Malformed) }
}

fn count_of(plane: Plane, log: &Log, registers: &Registers, prefix: Prefix) -> u32 {
    let (digits, at) = (usize::from(prefix.digits), prefix.at);
    match plane {
        Plane::Statements => log.prints().count(digits, at),
        Plane::Registers => registers.count(digits, at),
    }
}

fn children_of(plane: Plane, log: &Log, registers: &Registers, prefix: Prefix) -> Vec<(u8, u64)> {
    let (digits, at) = (usize::from(prefix.digits), prefix.at);
    match plane {
        Plane::Statements => log.prints().children(digits, at),
        Plane::Registers => registers.children(digits, at),
    }
}

fn keys_of(plane: Plane, log: &Log, registers: &Registers, prefix: Prefix) -> Vec<[u8; 32]> {
    let (digits, at) = (usize::from(prefix.digits), prefix.at);
    match plane {
        Plane::Statements => log.prints().keys(digits, at),
        Plane::Registers => registers.keys(digits, at),
    }
}

/// Few items are listed; many are described by the prints of their children.
fn describe(
    plane: Plane,
    log: &Log,
    registers: &Registers,
    prefix: Prefix,
    reply: bool,
) -> Message {
    let is_short = count_of(plane, log, registers, prefix) <= LIST_MAX;
    if usize::from(prefix.digits) >= DEPTH || is_short {
        list(plane, log, registers, prefix, reply)
    } else {
        Message::Nodes {
            plane,
            prefix,
            children: children_of(plane, log, registers, prefix),
        }
    }
}

fn list(plane: Plane, log: &Log, registers: &Registers, prefix: Prefix, reply: bool) -> Message {
    let keys = keys_of(plane, log, registers, prefix);
    let listed: BTreeSet<_> = keys.iter().copied().collect();
    let full = log
        .full()
        .iter()
        .filter(|a| !listed.contains(&a.0) && is_below(&a.0, prefix))
        .copied();
    match plane {
        Plane::Statements => Message::Authors {
            prefix,
            authors: keys
                .into_iter()
                .map(AuthorId)
                .chain(full)
                .map(|author| (author, log.tips_to_tell(&author)))
                .collect(),
            reply,
        },
        Plane::Registers => Message::Reports {
            prefix,
            nodes: keys
                .into_iter()
                .map(|key| {
                    let node = NodeId(key);
                    let of = registers.of(&node).map(|r| {
                        let (seq, hash) = if registers.is_muted(&node, r.section) {
                            NOTHING_NEWER
                        } else {
                            (r.seq, short(r))
                        };
                        (r.section as u8, seq, hash)
                    });
                    (node, of.collect())
                })
                .collect(),
            reply,
        },
    }
}

fn is_below(key: &[u8; 32], prefix: Prefix) -> bool {
    crate::prints::prefix(key, usize::from(prefix.digits)) == prefix.at
}

fn short(register: &crate::register::Register) -> u64 {
    u64::from_be_bytes(std::array::from_fn(|i| register.hash()[i]))
}

/// The first portion of what is missing, in causal order.
fn portion(log: &Log, mut missing: Vec<StatementId>, prefix: Prefix) -> Message {
    missing.sort_by_cached_key(|id| log.stored(id).map(|s| (s.place, *id)));
    let total = missing.len();
    let mut bytes = 0;
    let entries: Vec<Bytes> = missing
        .iter()
        .filter_map(|id| log.envelope(id))
        .take_while(|e| {
            let is_first = bytes == 0;
            bytes += e.len();
            is_first || bytes <= MESSAGE_BYTES_MAX
        })
        .collect();
    let more = (entries.len() < total).then_some(prefix);
    Message::Statements { entries, more }
}

fn split(entries: Vec<Bytes>) -> Vec<Vec<Bytes>> {
    let mut out: Vec<Vec<Bytes>> = Vec::new();
    let mut bytes = MESSAGE_BYTES_MAX;
    for entry in entries {
        if bytes + entry.len() > MESSAGE_BYTES_MAX {
            out.push(Vec::new());
            bytes = 0;
        }
        bytes += entry.len();
        if let Some(last) = out.last_mut() {
            last.push(entry);
        }
    }
    out
}
