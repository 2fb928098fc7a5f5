//! What takes a change back: the values that stood before it, written again.

use std::collections::BTreeMap;

use lab_crdt_model::view::ChangeView;
use lab_crdt_model::{AuthorId, Op, Path, StatementId};

/// How a change is taken back.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Undo {
    /// What to write.
    pub(crate) ops: Vec<Op>,
    /// Paths that somebody has changed since, and who did so last.
    pub(crate) since: BTreeMap<Path, AuthorId>,
}

/// The newest edit of an author that counts and is no undo itself.
pub(crate) fn newest(history: &[ChangeView], author: &AuthorId) -> Option<StatementId> {
    let of_author = |c: &&ChangeView| c.author == *author && c.is_effective && !c.ops.is_empty();
    history.iter().find(of_author).map(|c| c.id)
}

/// Takes back the change `id` of a history, newest first. `None` if the history does not reach back to it.
pub(crate) fn undo(history: &[ChangeView], id: &StatementId) -> Option<Undo> {
    let at = history.iter().position(|c| c.id == *id)?;
    let (later, rest) = history.split_at(at);
    let (change, earlier) = rest.split_first()?;
    let touching = |changes: &[ChangeView], path: &Path| -> Option<(AuthorId, Op)> {
        changes.iter().filter(|c| c.is_effective).find_map(|c| {
            let op = c.ops.iter().find(|op| op.path() == path)?;
            Some((c.author, op.clone()))
        })
    };
    let mut out = Undo::default();
    for op in &change.ops {
        let path = op.path();
        if let Some((by, _)) = touching(later, path) {
            out.since.insert(path.clone(), by);
        }
        out.ops.push(match touching(earlier, path) {
            Some((_, before @ Op::Set { .. })) => before,
            Some((_, Op::Unset { .. })) | None => Op::Unset { path: path.clone() },
        });
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use lab_crdt_model::{Field, Hlc, Value};

    use super::*;

    fn path(text: &str) -> Path {
        text.parse().unwrap()
    }

    fn set(at: &str, value: i64) -> Op {
        Op::Set {
            path: path(at),
            field: Field::new(Value::Int(value), "person:ana"),
        }
    }

    fn change(n: u8, by: u8, ops: Vec<Op>) -> ChangeView {
        ChangeView {
            id: StatementId([n; 32]),
            author: AuthorId([by; 32]),
            at: Hlc(u64::from(n)),
            kind: "edit".into(),
            message: String::new(),
            ops,
            is_effective: true,
            why_not: None,
            is_concurrent: false,
        }
    }

    #[test]
    fn what_stood_before_is_written_again_and_what_is_new_goes() {
        let history = [
            change(3, 1, vec![set("a/x", 3), set("a/y", 3)]),
            change(2, 2, vec![set("a/z", 2)]),
            change(1, 1, vec![set("a/x", 1)]),
        ];
        let undone = undo(&history, &StatementId([3; 32])).unwrap();
        assert_eq!(undone.ops, [set("a/x", 1), Op::Unset { path: path("a/y") }]);
        assert!(undone.since.is_empty());
        assert_eq!(
            newest(&history, &AuthorId([2; 32])),
            Some(StatementId([2; 32]))
        );
        assert_eq!(undo(&history, &StatementId([9; 32])), None);
    }

    #[test]
    fn who_changed_the_same_since_is_told_and_what_does_not_count_is_no_value() {
        let mut void = change(2, 2, vec![set("a/x", 666)]);
        void.is_effective = false;
        let history = [
            change(5, 2, vec![Op::Unset { path: path("a/x") }]),
            change(4, 1, vec![set("a/x", 4), set("a/y", 4)]),
            void,
            change(1, 1, vec![set("a/x", 1), set("a/y", 1)]),
        ];
        let undone = undo(&history, &StatementId([4; 32])).unwrap();
        assert_eq!(undone.ops, [set("a/x", 1), set("a/y", 1)]);
        assert_eq!(undone.since, [(path("a/x"), AuthorId([2; 32]))].into());
    }
}
