//! `lab checkpoint`.

use lab_crdt_model::StatementId;
use lab_crdt_model::view::CheckpointView;
use serde_json::{Value as Json, json};

use super::paint::Tone;
use super::table::{Cell, Table};
use super::{Report, Style, count};
use crate::command::Majority;
use crate::view::picture::Picture;

/// What a checkpoint made now covers.
pub(crate) struct NewCheckpoint {
    statements: u64,
    authors: usize,
    up_to: Option<(StatementId, String)>,
    majority: Majority,
    made: Option<(StatementId, bool)>,
}

impl NewCheckpoint {
    pub(crate) fn new(picture: &Picture, majority: Majority) -> Self {
        let view = &picture.view;
        let last = view
            .history
            .iter()
            .find(|c| c.kind == "edit" && c.is_effective);
        let say = |c: &lab_crdt_model::view::ChangeView| {
            let by = picture.author(&c.author);
            format!("{} of {by}, {}", c.id.short(), c.at.wall())
        };
        Self {
            statements: view.chains.iter().map(|c| c.count).sum(),
            authors: view.chains.len(),
            up_to: last.map(|c| (c.id, say(c))),
            majority,
            made: None,
        }
    }

    pub(crate) fn set_made(&mut self, made: &CheckpointView) {
        self.made = Some((made.id, made.is_effective));
    }
}

impl Report for NewCheckpoint {
    fn schema(&self) -> &'static str {
        "lab.checkpoint/v1"
    }

    fn data(&self) -> Json {
        json!({
            "id": self.made.map(|(id, _)| id.to_string()),
            "statements": self.statements,
            "authors": self.authors,
            "up_to": self.up_to.as_ref().map(|(id, _)| id.to_string()),
            "admins": self.majority.admins,
            "needed": self.majority.need,
            "effective": self.made.is_some_and(|(_, is_effective)| is_effective),
        })
    }

    fn names(&self) -> Vec<String> {
        self.made.iter().map(|(id, _)| id.to_string()).collect()
    }

    fn text(&self, _style: &Style) -> String {
        let authors = count(self.authors, "author");
        let statements = count(
            usize::try_from(self.statements).unwrap_or(usize::MAX),
            "statement",
        );
        let up_to = self
            .up_to
            .as_ref()
            .map(|(_, what)| format!(", up to change {what}"));
        format!(
            "{statements} of {authors}{}\nit holds once {} of {} have signed it; no fewer can undo what it covers\n",
            up_to.unwrap_or_default(),
            self.majority.need,
            count(self.majority.admins, "admin"),
        )
    }
}

/// Checkpoints, newest first.
pub(crate) struct CheckpointList {
    rows: Vec<(CheckpointView, String, Vec<String>)>,
    majority: Majority,
}

impl CheckpointList {
    pub(crate) fn new(picture: &Picture, majority: Majority) -> Self {
        let row = |c: &CheckpointView| {
            let signers = c.signers.iter().map(|a| picture.author(a)).collect();
            (c.clone(), picture.author(&c.author), signers)
        };
        let rows = picture.view.checkpoints.iter().rev().map(row).collect();
        Self { rows, majority }
    }

    /// Leaves one of them.
    pub(crate) fn retain(&mut self, id: &StatementId) {
        self.rows.retain(|(c, ..)| c.id == *id);
    }
}

impl Report for CheckpointList {
    fn schema(&self) -> &'static str {
        "lab.checkpoints/v1"
    }

    fn data(&self) -> Json {
        let row = |(c, by, signers): &(CheckpointView, String, Vec<String>)| {
            json!({
                "id": c.id.to_string(),
                "at": c.at.wall().to_string(),
                "by": by,
                "authors": c.author_count,
                "signers": signers,
                "admins": self.majority.admins,
                "needed": self.majority.need,
                "effective": c.is_effective,
            })
        };
        self.rows.iter().map(row).collect()
    }

    fn names(&self) -> Vec<String> {
        self.rows.iter().map(|(c, ..)| c.id.to_string()).collect()
    }

    fn text(&self, style: &Style) -> String {
        let mut table = Table::new(["CHECKPOINT", "AT", "BY", "AUTHORS", "SIGNED BY", "STATE"]);
        for (c, by, signers) in &self.rows {
            let state = if c.is_effective {
                Cell::new(Tone::Good, "effective")
            } else {
                let (have, all) = (c.signers.len(), self.majority.admins);
                Cell::new(Tone::Warn, format!("{have} of {all} admins"))
            };
            let id = if style.is_wide {
                c.id.to_string()
            } else {
                c.id.short()
            };
            table.row([
                id.into(),
                c.at.wall().to_string().into(),
                by.as_str().into(),
                c.author_count.to_string().into(),
                signers.join(" ").into(),
                state,
            ]);
        }
        table.render(style)
    }
}
