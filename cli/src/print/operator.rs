//! `lab operator list`.

use lab_crdt_model::view::OperatorView;
use serde_json::{Value as Json, json};

use super::paint::Tone;
use super::table::{Cell, Table};
use super::{Report, Style};

/// Admins and operators.
pub(crate) struct OperatorList(pub(crate) Vec<OperatorView>);

impl Report for OperatorList {
    fn schema(&self) -> &'static str {
        "lab.operators/v1"
    }

    fn data(&self) -> Json {
        let row = |o: &OperatorView| {
            json!({
                "name": o.name,
                "key": o.key.to_string(),
                "admin": o.is_admin,
                "rights": o.rights,
                "scope": o.scope,
                "not_after": o.not_after.map(|t| t.to_string()),
                "revoked": o.is_revoked,
                "late": o.late.as_ref().map(|l| l.count),
                "wanted_out_by": o.proposals.iter().map(|p| p.signers.len()).max(),
            })
        };
        self.0.iter().map(row).collect()
    }

    fn names(&self) -> Vec<String> {
        self.0.iter().map(|o| o.name.clone()).collect()
    }

    fn text(&self, style: &Style) -> String {
        let mut table = Table::new(["NAME", "KEY", "RIGHTS", "SCOPE", "UNTIL", "STATE"]);
        for o in &self.0 {
            let key = if style.is_wide {
                o.key.to_string()
            } else {
                format!("key:{}", o.key.short())
            };
            let rights = if o.is_admin {
                "admin".to_owned()
            } else {
                o.rights.join(" ")
            };
            let scope: Vec<_> = o
                .scope
                .iter()
                .map(|s| if s.is_empty() { "everything" } else { s })
                .collect();
            let agree = o.proposals.iter().map(|p| p.signers.len()).max();
            let state = match (agree, &o.late) {
                (Some(n), _) if o.is_revoked => {
                    Cell::new(Tone::Dim, format!("revoked by {n} admins"))
                }
                (Some(n), _) => Cell::new(Tone::Warn, format!("{n} admins want them out")),
                (None, _) if o.is_revoked => Cell::new(Tone::Dim, "revoked"),
                (None, Some(late)) => {
                    Cell::new(Tone::Warn, format!("{} changes came late", late.count))
                }
                (None, None) => Cell::new(Tone::Good, "ok"),
            };
            table.row([
                o.name.as_str().into(),
                key.into(),
                rights.into(),
                scope.join(" ").into(),
                o.not_after
                    .map(|t| t.to_string())
                    .unwrap_or_default()
                    .into(),
                state,
            ]);
        }
        table.render(style)
    }
}
