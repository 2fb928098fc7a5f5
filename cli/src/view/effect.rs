//! What a change of intent does to the config of one machine.

use std::collections::BTreeMap;

use lab_crdt_config::{Effective, Resolved, Section};
use serde::Serialize;

use super::history::brief;

/// What happens to one value.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mark {
    /// New.
    Create,
    /// Another value.
    Change,
    /// Gone.
    Destroy,
    /// Two wishes contradict; the last good value stays.
    Conflict,
    /// Will happen when the machine is back.
    Deferred,
}

impl Mark {
    /// The sign that plans use.
    pub(crate) const fn sign(self) -> char {
        match self {
            Self::Create => '+',
            Self::Change => '~',
            Self::Destroy => '-',
            Self::Conflict => '✗',
            Self::Deferred => '?',
        }
    }
}

/// One value of one machine's config that changes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct EffectLine {
    /// What happens.
    pub(crate) mark: Mark,
    /// To what: `class nginx`, `param ntp::servers`, `label canary`.
    pub(crate) what: String,
    /// The value before.
    pub(crate) before: Option<String>,
    /// The value after.
    pub(crate) after: Option<String>,
    /// Who wants it: `role=web`.
    pub(crate) from: String,
}

/// What differs between two configs, in the order they are shown.
pub(crate) fn between(before: &Effective, after: &Effective) -> Vec<EffectLine> {
    let (old, new) = (by_key(before), by_key(after));
    let mut keys: Vec<_> = old.keys().chain(new.keys()).collect();
    keys.sort();
    keys.dedup();
    keys.into_iter()
        .filter_map(|key| line(key, old.get(key).copied(), new.get(key).copied()))
        .collect()
}

type Key<'a> = (Section, &'a str, &'a str);

fn by_key(effective: &Effective) -> BTreeMap<Key<'_>, &Resolved> {
    effective
        .values()
        .map(|(section, item, field, r)| ((section, item, field), r))
        .collect()
}

fn line(
    &(section, item, field): &Key<'_>,
    old: Option<&Resolved>,
    new: Option<&Resolved>,
) -> Option<EffectLine> {
    let what = [noun(section), item, field]
        .into_iter()
        .filter(|t| !t.is_empty());
    let what = what.collect::<Vec<_>>().join(" ");
    let what = if section == Section::Protect {
        "protect".to_owned()
    } else {
        what
    };
    let is_flag = matches!(section, Section::Classes | Section::Packages);
    let text = |r: &Resolved| r.value.as_ref().filter(|_| !is_flag).map(brief);
    let from = |r: &Resolved| r.chosen.first().map(|c| c.from.clone()).unwrap_or_default();
    match (old, new) {
        (None, None) => None,
        (old, Some(new)) if !new.conflict.is_empty() => {
            if old.is_some_and(|old| !old.conflict.is_empty()) {
                return None;
            }
            let wishes: Vec<_> = new
                .conflict
                .iter()
                .map(|c| format!("{} {}", c.from, brief(&c.field.value)))
                .collect();
            Some(EffectLine {
                mark: Mark::Conflict,
                what,
                before: old.and_then(text),
                after: None,
                from: wishes.join(" / "),
            })
        }
        (None, Some(new)) => Some(EffectLine {
            mark: Mark::Create,
            what,
            before: None,
            after: text(new),
            from: from(new),
        }),
        (Some(old), None) => Some(EffectLine {
            mark: Mark::Destroy,
            what,
            before: text(old),
            after: None,
            from: from(old),
        }),
        (Some(old), Some(new)) if old.value != new.value => Some(EffectLine {
            mark: Mark::Change,
            what,
            before: text(old),
            after: text(new),
            from: from(new),
        }),
        (Some(_), Some(_)) => None,
    }
}

const fn noun(section: Section) -> &'static str {
    match section {
        Section::Classes => "class",
        Section::Packages => "package",
        Section::Params => "param",
        Section::Vars => "var",
        Section::Files => "file",
        Section::Alerts => "alert",
        Section::Dns => "dns",
        Section::Rollout => "rollout",
        Section::Protect => "protect",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::sample;

    #[test]
    fn a_change_shows_only_what_differs() {
        let before = sample::fleet()
            .born("b", "role=web")
            .set("on/role=web/params/x", "4")
            .picture();
        let after = sample::fleet()
            .born("b", "role=web")
            .set("on/role=web/params/x", "6")
            .set_true("on/role=web/classes/nginx")
            .picture();
        let effective = |p: &crate::view::picture::Picture| p.effective(p.machine("b").unwrap());
        let lines = between(&effective(&before), &effective(&after));
        let texts: Vec<_> = lines
            .iter()
            .map(|l| {
                (
                    l.mark.sign(),
                    l.what.as_str(),
                    l.before.as_deref(),
                    l.after.as_deref(),
                )
            })
            .collect();
        assert_eq!(
            texts,
            [
                ('+', "class nginx", None, None),
                ('~', "param x", Some("4"), Some("6"))
            ]
        );
        assert_eq!(lines[0].from, "role=web");
    }

    #[test]
    fn two_labels_that_disagree_are_a_conflict_line() {
        let base = || sample::fleet().born("b", "role=web").born("b", "role=dns");
        let before = base().set("on/role=web/params/x", "10").picture();
        let after = base()
            .set("on/role=web/params/x", "10")
            .set("on/role=dns/params/x", "1")
            .picture();
        let effective = |p: &crate::view::picture::Picture| p.effective(p.machine("b").unwrap());
        let lines = between(&effective(&before), &effective(&after));
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].mark, Mark::Conflict);
        assert!(lines[0].from.contains("role=web 10"), "{}", lines[0].from);
    }
}
