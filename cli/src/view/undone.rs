//! What is declared and not carried out: it is kept, replicated, planned and explained, and nothing acts on it yet.

use std::collections::{BTreeMap, BTreeSet};

use lab_crdt_model::view::FieldView;

/// How many things of each kind are declared that no agent of this version carries out, by the word for them.
pub(crate) fn undone(fields: &[FieldView]) -> BTreeMap<&'static str, usize> {
    let mut found: BTreeMap<&'static str, BTreeSet<String>> = BTreeMap::new();
    for field in fields {
        let segments: Vec<_> = field.path.segments().collect();
        let segments: Vec<&str> = segments.iter().map(AsRef::as_ref).collect();
        if let Some((kind, name)) = thing(&segments) {
            found.entry(kind).or_default().insert(name.to_owned());
        }
    }
    found
        .into_iter()
        .map(|(kind, names)| (kind, names.len()))
        .collect()
}

/// The line that says so; `None` if everything declared is carried out.
pub(crate) fn line(undone: &BTreeMap<&'static str, usize>) -> Option<String> {
    let parts: Vec<_> = undone
        .iter()
        .map(|(kind, n)| format!("{n} {kind}"))
        .collect();
    let list = parts.join(", ");
    (!parts.is_empty()).then(|| format!("declared, not carried out by this version: {list}"))
}

fn thing<'a>(segments: &[&'a str]) -> Option<(&'static str, &'a str)> {
    match segments {
        ["provider", name, ..] => Some(("providers", name)),
        ["profile", name, ..] => Some(("profiles", name)),
        ["secret", name, ..] => Some(("secrets", name)),
        ["cluster", name, ..] => Some(("clusters", name)),
        ["stack", name, ..] => Some(("stacks", name)),
        ["manifest", name, ..] => Some(("manifests", name)),
        ["dns", "zones", name, ..] => Some(("dns zones", name)),
        ["on", _, "classes", name, ..] => Some(("classes", name)),
        ["on", _, "packages", name, ..] => Some(("packages", name)),
        ["on", _, "alerts", name, ..] => Some(("alerts", name)),
        ["on", _, "dns", name, ..] => Some(("dns records", name)),
        ["on", label, "rollout", ..] => Some(("rollouts", label)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::sample;

    #[test]
    fn what_nothing_acts_on_is_counted_by_name() {
        let fleet = sample::fleet()
            .set("provider/aws/region", "eu")
            .set_true("provider/aws")
            .set_true("on/role=web/classes/nginx")
            .set_true("on/role=dns/classes/nginx")
            .set("on/all/params/x", "1")
            .set("on/all/files/%2Fetc%2Fmotd/content", "hi");
        let undone = undone(&fleet.view.fields);
        assert_eq!(undone, BTreeMap::from([("providers", 1), ("classes", 1)]));
        let want = "declared, not carried out by this version: 1 classes, 1 providers";
        assert_eq!(line(&undone).as_deref(), Some(want));
        assert_eq!(line(&BTreeMap::new()), None);
    }
}
