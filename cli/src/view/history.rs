//! Who changed what and when.

use lab_crdt_model::view::ChangeView;
use lab_crdt_model::{Op, Value};
use serde::Serialize;

use super::picture::Picture;

/// One change.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct HistoryRow {
    /// Its id, shortened.
    pub(crate) change: String,
    /// Its id.
    pub(crate) id: String,
    /// When, by the author's clock; RFC 3339.
    pub(crate) at: String,
    /// Who.
    pub(crate) by: String,
    /// What kind of statement.
    pub(crate) kind: String,
    /// In the author's words, or a summary.
    pub(crate) what: String,
    /// What it did, one line per edit.
    pub(crate) edits: Vec<String>,
    /// Whether it counts.
    pub(crate) is_effective: bool,
    /// Why it does not.
    pub(crate) why_not: Option<String>,
    /// Whether it was made at the same time as an earlier listed one.
    pub(crate) is_concurrent: bool,
}

/// The changes of a replica, newest first, that touch `word` (all if there is none).
pub(crate) fn history(picture: &Picture, word: Option<&str>) -> Vec<HistoryRow> {
    picture
        .view
        .history
        .iter()
        .filter(|change| word.is_none_or(|word| touches(change, word)))
        .map(|change| HistoryRow {
            change: change.id.short(),
            id: change.id.to_string(),
            at: change.at.wall().to_string(),
            by: picture.author(&change.author),
            kind: change.kind.clone(),
            what: what(change),
            edits: change.ops.iter().map(op_text).collect(),
            is_effective: change.is_effective,
            why_not: change.why_not.clone(),
            is_concurrent: change.is_concurrent,
        })
        .collect()
}

/// One edit in a line: `label/nuc1/canary = true`, `- group/old`.
pub(crate) fn op_text(op: &Op) -> String {
    match op {
        Op::Set { path, field } => format!("{path} = {}", brief(&field.value)),
        Op::Unset { path } => format!("- {path}"),
    }
}

/// A value on one line of at most 60 characters.
pub(crate) fn brief(value: &Value) -> String {
    let text = match value {
        Value::Text(text) if !text.contains(['\n', '\r']) => text.clone(),
        _ => value.to_string(),
    };
    if text.chars().count() <= 60 {
        return text;
    }
    text.chars().take(59).chain(['…']).collect()
}

fn what(change: &ChangeView) -> String {
    match (change.message.as_str(), change.ops.as_slice()) {
        ("", []) => change.kind.clone(),
        ("", [one]) => op_text(one),
        ("", many) => format!("{} edits", many.len()),
        (message, _) => message.to_owned(),
    }
}

fn touches(change: &ChangeView, word: &str) -> bool {
    change.id.to_string().contains(word)
        || change.message.split_whitespace().any(|w| w == word)
        || change.ops.iter().any(|op| {
            op.path().is_below(word) || op.path().segments().any(|segment| segment == word)
        })
}

#[cfg(test)]
mod tests {
    use lab_crdt_model::{AuthorId, Field, Hlc, StatementId};

    use super::*;
    use crate::view::sample;

    fn change(message: &str, path: &str) -> ChangeView {
        let field = Field::new(Value::Bool(true), "person:ana");
        ChangeView {
            id: StatementId([1; 32]),
            author: AuthorId([9; 32]),
            at: Hlc::default(),
            kind: "edit".into(),
            message: message.into(),
            ops: vec![Op::Set {
                path: path.parse().unwrap(),
                field,
            }],
            is_effective: true,
            why_not: None,
            is_concurrent: false,
        }
    }

    #[test]
    fn changes_are_found_by_name_label_or_path() {
        let mut fleet = sample::fleet();
        fleet.view.history = vec![
            change("", "label/b/role=web"),
            change("words", "on/all/params/x"),
        ];
        let picture = fleet.picture();
        assert_eq!(history(&picture, None).len(), 2);
        assert_eq!(
            history(&picture, Some("b"))[0].what,
            "label/b/role=web = true"
        );
        assert_eq!(history(&picture, Some("role=web")).len(), 1);
        assert_eq!(history(&picture, Some("on/all")).len(), 1);
        assert!(history(&picture, Some("nothing")).is_empty());
    }
}
