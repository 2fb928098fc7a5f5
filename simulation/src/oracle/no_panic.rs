//! No code path panics, whatever happened before.

use crate::oracle::{Note, Oracle, Seen, Verdict, What};

#[derive(Debug)]
pub(super) struct NoPanic;

impl Oracle for NoPanic {
    fn name(&self) -> &'static str {
        "no_panic"
    }

    fn note(&mut self, seen: &mut dyn Seen, note: &Note) -> Verdict {
        match &note.what {
            What::Panicked(why) => self.broken(
                seen,
                Some(note.node),
                format!("expected no panic, seen: {why}"),
            ),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::fake::{Fake, note};

    #[test]
    fn a_panic_is_a_violation_and_nothing_else_is() {
        let mut fake = Fake::new(1);
        assert!(NoPanic.note(&mut fake, &note(0, What::Killed)).is_ok());
        let panicked = note(0, What::Panicked("index out of bounds".into()));
        let violation = NoPanic.note(&mut fake, &panicked).unwrap_err();
        assert!(violation.to_string().contains("index out of bounds"));
    }
}
