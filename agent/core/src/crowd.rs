//! Authors of whom more comes in than other machines can have yet.
//!
//! An edit names the newest edits that its author had seen, and waits wherever one of them is missing. While a key floods
//! one machine, every edit made there would wait at the others for the flood. So edits do not build on the last two
//! seconds of an author of whom so much came.

use std::collections::BTreeMap;

use lab_crdt_model::{AuthorId, Mono};

/// Statements of one author within one window, beyond which it is a crowd: more than a person says.
const CROWD: u32 = 64;
const WINDOW_MS: u64 = 1_000;

#[derive(Clone, Copy, Debug)]
struct Window {
    since: Mono,
    count: u32,
    /// Lowest position of what came within it.
    first: u64,
    /// The same of the window before, if that was a crowd and ended when this one began.
    before: Option<u64>,
}

/// Of whom statements were taken in within the last two windows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Crowds(BTreeMap<AuthorId, Window>);

impl Crowds {
    /// A statement of an author at a position was taken in.
    pub(crate) fn note(&mut self, author: AuthorId, seq: u64, now: Mono) {
        let new = Window {
            since: now,
            count: 0,
            first: seq,
            before: None,
        };
        if !self.0.contains_key(&author) {
            self.0.retain(|_, it| !is_over(it, now));
        }
        let window = self.0.entry(author).or_insert(new);
        if now.ms_since(window.since) >= WINDOW_MS {
            let before = (window.count > CROWD && !is_over(window, now)).then_some(window.first);
            *window = Window { before, ..new };
        }
        window.count = window.count.saturating_add(1);
        window.first = window.first.min(seq);
    }

    /// By author, the position from which on edits do not build on what it said.
    pub(crate) fn fresh(&self, now: Mono) -> BTreeMap<AuthorId, u64> {
        let fresh = |it: &Window| {
            let this = (it.count > CROWD).then_some(it.first);
            it.before.into_iter().chain(this).min()
        };
        let windows = self.0.iter().filter(|(_, it)| !is_over(it, now));
        windows
            .filter_map(|(author, it)| Some((*author, fresh(it)?)))
            .collect()
    }

    pub(crate) fn memory(&self) -> usize {
        self.0.len() * size_of::<(AuthorId, Window)>()
    }
}

fn is_over(window: &Window, now: Mono) -> bool {
    now.ms_since(window.since) >= 2 * WINDOW_MS
}

#[cfg(test)]
mod tests {
    use super::*;

    const AUTHOR: AuthorId = AuthorId([1; 32]);

    fn at(ms: u64) -> Mono {
        Mono(0).plus_ms(ms)
    }

    #[test]
    fn what_a_person_says_is_never_a_crowd() {
        let mut crowds = Crowds::default();
        for n in 0..600 {
            crowds.note(AUTHOR, n, at(20 * n));
            assert!(crowds.fresh(at(20 * n)).is_empty());
        }
    }

    #[test]
    fn of_a_crowd_the_last_one_to_two_seconds_are_fresh_and_then_nothing() {
        let mut crowds = Crowds::default();
        for n in 0..5_000 {
            crowds.note(AUTHOR, n, at(n));
            if n > 3_000 {
                let from = crowds.fresh(at(n))[&AUTHOR];
                assert!((n - 2_000..=n - 900).contains(&from), "{n}: {from}");
            }
        }
        assert!(crowds.fresh(at(7_000)).is_empty());
    }

    #[test]
    fn crowds_that_are_over_are_forgotten() {
        let mut crowds = Crowds::default();
        for n in 0..200 {
            crowds.note(AuthorId([n; 32]), 0, at(0));
        }
        assert_eq!(crowds.0.len(), 200);
        crowds.note(AuthorId([200; 32]), 0, at(5_000));
        assert_eq!(crowds.0.len(), 1);
    }
}
