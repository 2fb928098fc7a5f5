//! What several oracles have to remember.

use std::collections::BTreeSet;

use lab_crdt_model::Mono;

use crate::oracle::{Ask, Harm, Note, Phase, Seen, What};

/// Which disks kept their promises so far. A node whose disk ever broke one may lose what it acknowledged.
#[derive(Clone, Debug, Default)]
pub(super) struct Trust {
    doubtful: BTreeSet<usize>,
}

impl Trust {
    pub(super) fn note(&mut self, note: &Note) {
        if note.what == What::Broken(Harm::LossyDisk) {
            self.doubtful.insert(note.node);
        }
    }

    pub(super) fn is_honest(&self, node: usize) -> bool {
        !self.doubtful.contains(&node)
    }
}

/// Since when nobody asked, failed or was failed.
#[derive(Clone, Debug, Default)]
pub(super) struct Quiet {
    since: Option<Mono>,
    broken: BTreeSet<(Harm, usize)>,
}

impl Quiet {
    pub(super) fn note(&mut self, note: &Note) {
        match &note.what {
            What::Broken(harm) => drop(self.broken.insert((*harm, note.node))),
            What::Mended(Harm::Network) => self.broken.retain(|(harm, _)| *harm != Harm::Network),
            What::Mended(mended) => self.broken.retain(|(harm, node)| {
                let is_disk = |h| matches!(h, Harm::Disk | Harm::LossyDisk);
                *node != note.node || (harm != mended && !(is_disk(*harm) && is_disk(*mended)))
            }),
            What::Started
            | What::Killed
            | What::Paused
            | What::Resumed
            | What::Acked { .. }
            | What::Asked {
                ask: Ask::Write(_), ..
            } => {}
            _ => return,
        }
        self.since = Some(note.at);
    }

    /// Milliseconds since the last of it; zero while a fault lasts.
    pub(super) fn ms(&self, now: Mono) -> u64 {
        if self.broken.is_empty() {
            now.ms_since(self.since.unwrap_or_default())
        } else {
            0
        }
    }
}

/// Who must get on, and since when.
#[derive(Clone, Debug, Default)]
pub(super) struct Healing {
    phase: Option<(Mono, Phase)>,
}

impl Healing {
    pub(super) fn phase(&mut self, seen: &dyn Seen, phase: &Phase) {
        self.phase = Some((seen.now(), phase.clone()));
    }

    /// Milliseconds since the healing; `None` before it.
    pub(super) fn ms(&self, now: Mono) -> Option<u64> {
        let (at, phase) = self.phase.as_ref()?;
        phase.is_healed().then(|| now.ms_since(*at))
    }

    /// When the healing was.
    pub(super) fn since(&self) -> Option<Mono> {
        let (at, phase) = self.phase.as_ref()?;
        phase.is_healed().then_some(*at)
    }

    /// Nodes that run and must get on.
    pub(super) fn nodes(&self, seen: &dyn Seen) -> Vec<usize> {
        let Some((_, phase)) = &self.phase else {
            return Vec::new();
        };
        (0..seen.count())
            .filter(|n| phase.has(*n) && seen.is_up(*n) && !seen.is_paused(*n))
            .collect()
    }
}

/// Whose turn it is to be looked at closely: a few nodes per sample, so that a sample costs the same in any mesh.
#[derive(Clone, Debug, Default)]
pub(super) struct Rota {
    next: usize,
}

impl Rota {
    const AT_ONCE: usize = 8;

    /// Nodes whose turn it is now.
    pub(super) fn turn(&mut self, count: usize) -> Vec<usize> {
        let many = count.min(Self::AT_ONCE);
        let from = self.next;
        self.next = if count == 0 { 0 } else { (from + many) % count };
        (0..many).map(|n| (from + n) % count).collect()
    }
}
