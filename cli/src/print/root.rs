//! `lab root show`.

use lab_crdt_log::RootRecord;
use serde_json::{Value as Json, json};

use super::{Report, Style};

/// The root record in force.
pub(crate) struct RootReport {
    pub(crate) record: RootRecord,
    pub(crate) is_disputed: bool,
}

impl Report for RootReport {
    fn schema(&self) -> &'static str {
        "lab.root/v1"
    }

    fn data(&self) -> Json {
        let record = &self.record;
        let admin = |a: &lab_crdt_log::Admin| json!({"name": a.name, "key": a.key.to_string()});
        let end = |a: &lab_crdt_log::Annul| json!({"key": a.key.to_string(), "head": a.head.map(|h| h.to_string())});
        json!({
            "version": record.version,
            "name": record.name,
            "threshold": record.threshold,
            "root_keys": record.root_keys.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "admins": record.admins.iter().map(admin).collect::<Vec<_>>(),
            "ended": record.annul.iter().map(end).collect::<Vec<_>>(),
            "registrars": record.registrars.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "disputed": self.is_disputed,
        })
    }

    fn names(&self) -> Vec<String> {
        self.record.admins.iter().map(|a| a.name.clone()).collect()
    }

    fn text(&self, _style: &Style) -> String {
        let record = &self.record;
        let mut out = format!(
            "root record {} of {}\n{} of {} root keys sign the next one\n",
            record.version,
            record.name,
            record.threshold,
            record.root_keys.len()
        );
        for key in &record.root_keys {
            out.push_str(&format!("  root   {key}\n"));
        }
        for admin in &record.admins {
            out.push_str(&format!("  admin  {}  {}\n", admin.key, admin.name));
        }
        for node in &record.registrars {
            out.push_str(&format!("  registrar  {node}\n"));
        }
        for end in &record.annul {
            out.push_str(&format!("  ended  {}\n", end.key));
        }
        out
    }
}
