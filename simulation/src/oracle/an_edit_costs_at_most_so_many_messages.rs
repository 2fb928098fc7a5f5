//! One edit in a quiet mesh costs a number of frames in proportion to the mesh, beyond what it sends anyway.

use lab_crdt_model::Mono;

use crate::oracle::evidence::Quiet;
use crate::oracle::{Ask, Limits, Note, Oracle, Seen, Verdict, What};

#[derive(Debug)]
enum State {
    /// Something happens.
    Busy,
    /// Nothing has happened since then, with what was sent by then.
    Idle { from: Mono, frames: u64 },
    /// One edit was made then; what was sent by then, and what idle traffic would be, per second.
    Edited {
        at: Mono,
        frames: u64,
        idle_per_s: u64,
    },
}

#[derive(Debug)]
pub(super) struct EditCost {
    quiet_ms: u64,
    edit_ms: u64,
    per_node: u64,
    quiet: Quiet,
    state: State,
}

impl EditCost {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            quiet_ms: limits.quiet_ms,
            edit_ms: limits.edit_ms,
            per_node: limits.edit_frames_per_node,
            quiet: Quiet::default(),
            state: State::Busy,
        }
    }

    fn sent(seen: &dyn Seen) -> u64 {
        (0..seen.count()).map(|n| seen.counters(n).frames_out).sum()
    }
}

impl Oracle for EditCost {
    fn name(&self) -> &'static str {
        "an_edit_costs_at_most_so_many_messages"
    }

    fn note(&mut self, seen: &mut dyn Seen, note: &Note) -> Verdict {
        let is_edit = matches!(note.what, What::Acked { .. });
        let was_quiet = self.quiet.ms(note.at);
        self.quiet.note(note);
        // What a node tells and stores of an edit at the same moment is part of it.
        let is_part = matches!(
            note.what,
            What::Told(_) | What::Stored { .. } | What::Shown { .. }
        ) || matches!(&note.what, What::Asked { ask: Ask::Read, .. });
        if is_part || self.quiet.ms(note.at) > 0 {
            // Nothing that disturbs.
            return Ok(());
        }
        self.state = match self.state {
            State::Idle { from, frames } if is_edit => {
                let now = Self::sent(seen);
                let s = note.at.ms_since(from).max(1);
                State::Edited {
                    at: note.at,
                    frames: now,
                    idle_per_s: (now - frames) * 1000 / s,
                }
            }
            // A person asks, and a moment later is answered: that is one edit.
            State::Idle { .. } if was_quiet > 0 && matches!(note.what, What::Asked { .. }) => {
                return Ok(());
            }
            _ => State::Busy,
        };
        Ok(())
    }

    fn sample(&mut self, seen: &mut dyn Seen) -> Verdict {
        let now = seen.now();
        match self.state {
            State::Busy if self.quiet.ms(now) >= self.quiet_ms => {
                self.state = State::Idle {
                    from: now,
                    frames: Self::sent(seen),
                };
            }
            State::Edited {
                at,
                frames,
                idle_per_s,
            } if now.ms_since(at) >= self.edit_ms => {
                self.state = State::Busy;
                let ms = now.ms_since(at);
                let sent = Self::sent(seen) - frames;
                let most = self.per_node * seen.count() as u64 + idle_per_s * ms * 2 / 1000;
                if sent > most {
                    let what = format!(
                        "expected at most {most} frames within {ms} ms of one edit, {} of them idle traffic, seen {sent}",
                        idle_per_s * ms / 1000
                    );
                    return self.broken(seen, None, what);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use lab_agent_core::CommandId;

    use super::*;
    use crate::oracle::Ask;
    use crate::oracle::fake::Fake;

    fn edit(frames: u64) -> Verdict {
        let mut fake = Fake::new(4);
        let mut oracle = EditCost::new(&Limits::default());
        for _ in 0..150 {
            fake.pass_ms(1_000);
            fake.node(0).counters.frames_out += 10;
            oracle.sample(&mut fake)?;
        }
        let at = fake.now();
        let command = CommandId(1);
        let asked = What::Asked {
            command,
            ask: Ask::Write(vec![]),
        };
        let acked = What::Acked {
            command,
            ids: vec![],
        };
        for what in [asked, acked] {
            oracle.note(&mut fake, &Note { at, node: 1, what })?;
        }
        fake.node(2).counters.frames_out += frames;
        for _ in 0..10 {
            fake.pass_ms(1_000);
            fake.node(0).counters.frames_out += 10;
            oracle.sample(&mut fake)?;
        }
        Ok(())
    }

    #[test]
    fn an_edit_that_floods_the_mesh_is_noticed() {
        assert!(edit(96).is_ok());
        assert!(edit(200).is_err());
    }
}
