//! Statements that exchanges brought and that wait to be taken in.
//!
//! One message may carry thousands of statements, and each costs the check of a signature. They are taken in piece by
//! piece, one piece a turn and the peers in turn, and a driver puts whatever else happened before the next piece: so
//! nobody's pings, commands and edits wait for more than one piece of someone's flood.

use super::*;

use lab_crdt_log::author_of;

use crate::rate::{Bucket, Rate};

/// Statements taken in within one turn: some milliseconds of a processor.
const PIECE: usize = 16;
/// Bytes that wait of one peer. What comes beyond is dropped, and pulled if it is needed.
const WAITING_BYTES_MAX: usize = 2 << 20;
/// Statements of one peer that cost the check of a signature and led to nothing. Beyond this, those authors of whom
/// they were are not listened to from this peer.
const VAIN: Rate = Rate {
    burst: 2_000,
    each_ms: 10,
};
/// Most such authors remembered of one peer; with more, nobody is listened to from it.
const VAIN_AUTHORS_MAX: usize = 64;
/// Refusals told in logs.
const TOLD: Rate = Rate {
    burst: 20,
    each_ms: 10_000,
};

/// What one message brought.
#[derive(Debug)]
pub(super) struct Portion {
    pub(super) statements: VecDeque<Bytes>,
    pub(super) registers: Vec<Bytes>,
    pub(super) resume: Option<sync::Resume>,
    /// [`lab_crdt_log::Log::progress`] before the first of them.
    pub(super) progress: Option<u64>,
    pub(super) has_statements: bool,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Source {
    portions: VecDeque<Portion>,
    bytes: usize,
    vain: Bucket,
    vain_authors: BTreeSet<AuthorId>,
}

/// What waits, by peer.
#[derive(Debug, Default)]
pub(super) struct Intake {
    sources: BTreeMap<NodeId, Source>,
    /// Who had its turn last.
    last: Option<NodeId>,
    told: Bucket,
}

impl Intake {
    /// Whether anything waits.
    pub(super) fn is_waiting(&self) -> bool {
        self.sources.values().any(|it| !it.portions.is_empty())
    }

    /// Whether anything of a peer waits.
    pub(super) fn is_waiting_of(&self, peer: &NodeId) -> bool {
        let source = self.sources.get(peer);
        source.is_some_and(|it| !it.portions.is_empty())
    }

    /// Whether a message of so many bytes may be read: not while too much of its sender waits.
    pub(super) fn has_room(&self, peer: &NodeId, bytes: usize) -> bool {
        let waiting = self.sources.get(peer).map_or(0, |it| it.bytes);
        waiting == 0 || waiting + bytes <= WAITING_BYTES_MAX
    }

    /// Bytes that wait, of all.
    pub(super) fn bytes(&self) -> usize {
        self.sources.values().map(|it| it.bytes).sum()
    }

    /// A peer is gone, and what it sent may be lost: whoever has it will send it again.
    pub(super) fn forget(&mut self, peer: &NodeId, now: Mono) {
        if let Some(source) = self.sources.get_mut(peer) {
            (source.portions, source.bytes) = (VecDeque::new(), 0);
        }
        // What was in vain stays, so that a new link gives nothing back.
        self.sources
            .retain(|_, it| !it.portions.is_empty() || !it.vain.is_full(now));
    }

    fn put(&mut self, peer: NodeId, portion: Portion) {
        let source = self.sources.entry(peer).or_default();
        source.bytes += portion.bytes;
        source.portions.push_back(portion);
    }

    /// Whose turn it is.
    fn next(&self) -> Option<NodeId> {
        let is_waiting = |it: &(&NodeId, &Source)| !it.1.portions.is_empty();
        let after = self.last.map_or_else(
            || self.sources.range(..),
            |last| {
                use std::ops::Bound::{Excluded, Unbounded};
                self.sources.range((Excluded(last), Unbounded))
            },
        );
        let mut all = after.chain(self.sources.iter());
        all.find(is_waiting).map(|it| *it.0)
    }

    /// Whether a statement is to be looked at, for all that came of its author from this peer.
    fn is_heard(&mut self, peer: &NodeId, bytes: &Bytes, now: Mono) -> bool {
        let Some(source) = self.sources.get_mut(peer) else {
            return true;
        };
        if !source.vain.is_empty(VAIN, now) {
            return true;
        }
        let author = author_of(bytes);
        let is_heard = source.vain_authors.len() < VAIN_AUTHORS_MAX
            && author.is_none_or(|it| !source.vain_authors.contains(&it));
        sometimes!(!is_heard, "a peer is not listened to about an author");
        is_heard
    }

    /// Counts a statement that led to nothing.
    fn note_vain(&mut self, peer: NodeId, bytes: &Bytes, now: Mono) {
        let source = self.sources.entry(peer).or_default();
        if source.vain.is_full(now) {
            source.vain_authors.clear();
        }
        source.vain.spend(1, VAIN, now);
        if let Some(author) = author_of(bytes)
            && source.vain_authors.len() < VAIN_AUTHORS_MAX
        {
            source.vain_authors.insert(author);
        }
    }
}

impl Portion {
    pub(super) fn new(
        statements: Vec<Bytes>,
        registers: Vec<Bytes>,
        resume: Option<sync::Resume>,
    ) -> Self {
        let of = |all: &[Bytes]| all.iter().map(Bytes::len).sum::<usize>();
        Self {
            bytes: of(&statements) + of(&registers),
            has_statements: !statements.is_empty(),
            statements: statements.into(),
            registers,
            resume,
            progress: None,
        }
    }
}

impl Agent {
    /// Keeps what a message brought until its turn comes.
    pub(super) fn queue_portion(&mut self, from: NodeId, portion: Portion) {
        if let Stage::Member(m) = &mut self.stage {
            m.intake.put(from, portion);
        }
    }

    /// Takes in one piece of what waits.
    pub(super) fn take_piece(&mut self) {
        let Stage::Member(m) = &mut self.stage else {
            return;
        };
        let Some(peer) = m.intake.next() else { return };
        m.intake.last = Some(peer);
        let mut left = PIECE;
        while left > 0
            && let Stage::Member(m) = &mut self.stage
            && let Some(source) = m.intake.sources.get_mut(&peer)
            && let Some(mut portion) = source.portions.pop_front()
        {
            portion.progress.get_or_insert(m.replica.log.progress());
            let count = portion.statements.len().min(left);
            left -= count;
            for bytes in portion.statements.drain(..count) {
                if let Stage::Member(m) = &mut self.stage
                    && m.intake.is_heard(&peer, &bytes, self.now.mono)
                {
                    self.take_statement(&bytes, peer);
                }
            }
            let Stage::Member(m) = &mut self.stage else {
                return;
            };
            let source = m.intake.sources.entry(peer).or_default();
            if portion.statements.is_empty() {
                source.bytes -= portion.bytes;
                self.end_portion(peer, portion);
            } else {
                source.portions.push_front(portion);
            }
        }
    }

    /// Takes in a statement. Returns whether others may want it: it is held here, or waits for what it refers to.
    pub(super) fn take_statement(&mut self, bytes: &Bytes, from: NodeId) -> bool {
        let now = self.now;
        let Stage::Member(m) = &mut self.stage else {
            return false;
        };
        let refusal = match m.replica.take_statement(bytes, Some(from), now) {
            Ok(Outcome::Stored { .. } | Outcome::Waiting { .. }) => return true,
            // What is known was not verified again.
            Ok(Outcome::Known(id)) => return m.replica.log.envelope(&id).as_ref() == Some(bytes),
            Err(refusal) => refusal,
        };
        use lab_crdt_log::Refusal::{Kind, Quota, Stranger};
        // These cost no check of a signature.
        if !matches!(refusal, Stranger | Kind | Quota(_)) {
            m.intake.note_vain(from, bytes, now.mono);
        }
        if m.intake.told.take(1, TOLD, now.mono) {
            let why = refusal.to_string();
            self.outbox
                .push_back(Output::Tell(Event::StatementRefused { id: None, why }));
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn portion(bytes: usize) -> Portion {
        Portion::new(vec![vec![0; bytes].into()], vec![], None)
    }

    #[test]
    fn peers_have_their_turns_one_after_the_other() {
        let mut intake = Intake::default();
        for n in [1, 2, 3] {
            intake.put(NodeId([n; 32]), portion(10));
        }
        let turns: Vec<u8> = (0..5)
            .map(|_| {
                intake.last = intake.next();
                intake.last.unwrap().0[0]
            })
            .collect();
        assert_eq!(turns, [1, 2, 3, 1, 2]);
    }

    #[test]
    fn what_waits_of_one_peer_is_bounded_and_leaves_room_for_others() {
        let (mut intake, peer, other) = (Intake::default(), NodeId([1; 32]), NodeId([2; 32]));
        let mut count = 0;
        while intake.has_room(&peer, 300_000) {
            intake.put(peer, portion(300_000));
            count += 1;
        }
        assert_eq!(count, WAITING_BYTES_MAX / 300_000);
        assert!(intake.has_room(&other, 1 << 20));
        intake.forget(&peer, Mono(0));
        assert!(intake.has_room(&peer, 1 << 20) && !intake.is_waiting());
    }

    #[test]
    fn a_peer_that_brings_junk_of_one_author_is_heard_about_others() {
        let (mut intake, peer, other) = (Intake::default(), NodeId([1; 32]), NodeId([2; 32]));
        let of = |author: u8| Bytes::from(vec![author; 100]);
        for _ in 0..VAIN.burst {
            assert!(intake.is_heard(&peer, &of(7), Mono(0)));
            intake.note_vain(peer, &of(7), Mono(0));
        }
        assert!(!intake.is_heard(&peer, &of(7), Mono(0)));
        assert!(intake.is_heard(&peer, &of(8), Mono(0)));
        assert!(intake.is_heard(&other, &of(7), Mono(0)));
        assert!(intake.is_heard(&peer, &of(7), Mono(0).plus_ms(VAIN.each_ms)));
    }
}
