//! A [`World`] as oracles see it.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use bytes::Bytes;
use lab_agent_core::ViewMask;
use lab_crdt_log::RootRecord;
use lab_crdt_model::id::base32;
use lab_crdt_model::store::Table;
use lab_crdt_model::view::{Liveness, ReplicaView};
use lab_crdt_model::{MeshId, Mono, NodeId, StatementId, Wall};

use crate::disk::Places;
use crate::note;
use crate::oracle::{Ask, Audit, Counters, Digests, Harm, Note, Panel, Seen, What};
use crate::reference::envelope;
use crate::world::World;

/// Kind of the frames of a pull exchange.
const SYNC: usize = 6;

/// A machine of an adversary is to oracles as one that is off: nothing that it shows is evidence.
impl Seen for World {
    fn now(&self) -> Mono {
        Self::now(self)
    }

    fn count(&self) -> usize {
        self.len()
    }

    fn mesh(&self) -> MeshId {
        Self::mesh(self)
    }

    fn root(&self) -> RootRecord {
        Self::root(self)
    }

    fn id(&self, node: usize) -> NodeId {
        Self::id(self, node)
    }

    fn wall(&self, node: usize) -> Wall {
        Self::wall(self, node)
    }

    fn is_up(&self, node: usize) -> bool {
        Self::is_up(self, node) && !self.is_corrupt(node)
    }

    fn is_paused(&self, node: usize) -> bool {
        Self::is_paused(self, node)
    }

    fn is_open(&self, from: usize, to: usize) -> bool {
        self.is_reachable(from, to)
    }

    fn digests(&mut self, node: usize) -> Option<Digests> {
        if self.is_corrupt(node) {
            return None;
        }
        let digests = Self::digests(self, node)?;
        Some(Digests {
            statements: digests.statements,
            registers: digests.registers,
            heads: digests.heads,
            late: digests.late,
        })
    }

    fn view(&mut self, node: usize, mask: ViewMask) -> Option<Rc<ReplicaView>> {
        if self.is_corrupt(node) {
            return None;
        }
        self.shared_view(node, mask)
    }

    fn statements(&mut self, node: usize) -> Option<Vec<Bytes>> {
        self.envelopes(node).filter(|_| !self.is_corrupt(node))
    }

    fn registers(&mut self, node: usize) -> Option<Vec<Bytes>> {
        self.reports(node).filter(|_| !self.is_corrupt(node))
    }

    fn audit_chain(&mut self, node: usize) -> Option<Vec<Bytes>> {
        let id = Self::id(self, node);
        let records = self
            .audit_records(node)
            .filter(|_| !self.is_corrupt(node))?;
        let is_own = |bytes: &Bytes| bytes.get(1..33) == Some(&id.0);
        Some(records.into_iter().filter(is_own).collect())
    }

    fn durable(&mut self, node: usize) -> Option<BTreeSet<StatementId>> {
        let drive = self.drive(node)?;
        let there = drive.acknowledged().iter().filter(|(_, c)| c.is_some());
        let ids = there.filter_map(|((table, key), _)| {
            let is_statement = *table == Table::Statements;
            let id = key.as_slice().try_into().ok().filter(|_| is_statement)?;
            Some(StatementId(id))
        });
        Some(ids.collect())
    }

    fn files(&mut self, node: usize) -> BTreeMap<String, Vec<u8>> {
        Self::files(self, node).clone()
    }

    fn counters(&self, node: usize) -> Counters {
        let counters = Self::counters(self, node);
        Counters {
            frames_in: counters.frames_in,
            frames_out: counters.frames_out,
            bytes_in: counters.bytes_in,
            bytes_out: counters.bytes_out,
            pulls: counters.frames_by_kind[SYNC],
            steps: counters.steps,
        }
    }

    fn opinion(&mut self, of: usize, about: usize) -> Liveness {
        if self.is_corrupt(of) || self.is_corrupt(about) {
            return Liveness::Unknown;
        }
        Self::opinion(self, of, about).unwrap_or(Liveness::Unknown)
    }

    fn memory(&mut self, node: usize) -> u64 {
        if self.is_corrupt(node) {
            return 0;
        }
        Self::memory(self, node) as u64
    }

    fn queue_len(&self) -> usize {
        Self::queue_len(self)
    }

    fn audit(&mut self, node: usize) -> Audit {
        let Some(drive) = self.drive(node) else {
            return Audit::default();
        };
        let words = |places: &Places| {
            let all = places.first.iter();
            all.map(|(table, key)| format!("{table:?}/{}", base32(key)))
                .collect()
        };
        Audit {
            invented: words(&drive.reports().unknown),
            lost: words(&drive.reports().lost),
        }
    }
}

impl Note {
    /// What a note of a world means to oracles; `None` for what none of them looks at.
    pub fn of(note: &note::Note) -> Option<Self> {
        let what = match &note.what {
            note::What::Started { .. } => What::Started,
            note::What::Killed => What::Killed,
            note::What::Paused => What::Paused,
            note::What::Resumed => What::Resumed,
            note::What::Submitted {
                command,
                statements,
            } => What::Asked {
                command: *command,
                ask: Ask::Write(
                    statements
                        .iter()
                        .filter_map(|b| envelope::id_of(b))
                        .collect(),
                ),
            },
            note::What::Asked { command } => What::Asked {
                command: *command,
                ask: Ask::Read,
            },
            note::What::Shown { command } => What::Shown { command: *command },
            note::What::Acked { command, ids } => What::Acked {
                command: *command,
                ids: ids.clone(),
            },
            note::What::Refused { command, code, why } => What::Refused {
                command: *command,
                code: (*code).to_owned(),
                why: why.clone(),
            },
            note::What::Stored { is_ok } => What::Stored { is_ok: *is_ok },
            note::What::Told(event) => What::Told(event.clone()),
            note::What::Fault(text) => fault(text)?,
            _ => return None,
        };
        Some(Self {
            at: note.at,
            node: note.node,
            what,
        })
    }
}

/// What a fault reaches, by its first word.
fn fault(text: &str) -> Option<What> {
    let word = text.split([' ', '{', '(']).next().unwrap_or_default();
    Some(match word {
        "Full" | "ReadOnly" | "ReadError" => What::Broken(Harm::Disk),
        "Lying" | "LyingFsync" | "SyncError" | "BitFlips" | "Misdirected" | "StaleRead"
        | "Replace" | "Rollback" | "Clone" | "Corrupt" => What::Broken(Harm::LossyDisk),
        "Offset" | "Step" | "Drift" | "Strobe" | "Freeze" | "Set" => What::Broken(Harm::Clock),
        "Slow" if text.contains("us:") => What::Broken(Harm::Disk),
        "Slow" if text.contains("factor: 1 ") => What::Mended(Harm::Process),
        "Slow" => What::Broken(Harm::Process),
        "Heal" if text.contains("All") => What::Mended(Harm::Network),
        "Heal" if text == "Heal" => What::Mended(Harm::Disk),
        "Right" => What::Mended(Harm::Clock),
        "Partition" | "OneWay" | "Isolate" | "Bridge" | "Ring" | "Cut" | "Flap" | "Clog"
        | "Swizzle" | "Grey" | "Latency" | "Loss" | "Bufferbloat" | "UdpBlocked" | "NatRebind"
        | "RelayDown" | "CaptivePortal" | "For" => What::Broken(Harm::Network),
        _ => return None,
    })
}

impl Panel {
    /// Lets time pass in a world whose notes are kept, and looks around every so many milliseconds.
    ///
    /// Plans are run by an engine of their own; this is for stories told in code.
    pub fn watch(&mut self, world: &mut World, ms: u64, every_ms: u64) {
        let mut left = ms;
        while left > 0 {
            let step = every_ms.clamp(1, left);
            world.run_for(step);
            left -= step;
            for note in world.take_notes().iter().filter_map(Note::of) {
                self.note(world, &note);
            }
            self.sample(world);
        }
    }
}
