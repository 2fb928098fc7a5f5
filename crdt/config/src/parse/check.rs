//! What can only be checked when everything was read: references, queries, circles.

use std::collections::{BTreeMap, BTreeSet};

use lab_crdt_model::span::nearest;
use lab_crdt_model::{Severity, Span, SpanError};
use lab_crdt_selector::{Fleet, Group, Trust};

use super::Diagnostic;
use super::reader::{Reader, Reference};

/// What the program can talk to without being told.
const BUILT_IN_PROVIDERS: &[&str] = &["ssh", "baremetal", "portainer", "k8s", "aws", "xcpng"];

impl Reader<'_> {
    pub(super) fn check_references(&mut self) {
        let mut declared: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for path in self.fields.keys() {
            let segments: Vec<_> = path.segments().collect();
            match &segments[..] {
                [kind, name] => {
                    for known in ["profile", "provider", "secret", "cluster", "node"] {
                        if kind == known {
                            declared.entry(known).or_default().insert(name.to_string());
                        }
                    }
                }
                [dns, zones, zone] if dns == "dns" && zones == "zones" => {
                    declared.entry("zone").or_default().insert(zone.to_string());
                }
                _ => {}
            }
        }
        for reference in std::mem::take(&mut self.references) {
            let Reference {
                kind,
                name,
                source,
                span,
            } = reference;
            let known = declared.get(kind);
            let is_built_in = kind == "provider" && BUILT_IN_PROVIDERS.contains(&name.as_str());
            // Another set may declare what this one never speaks of.
            let Some(known) = known.filter(|known| !known.contains(&name) && !is_built_in) else {
                continue;
            };
            let near = nearest(&name, known.iter().map(String::as_str));
            let severity = if near.is_some() {
                Severity::Error
            } else {
                Severity::Warning
            };
            let help = match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!(
                    "declare it, unless another set does; known: {}",
                    brief_list(known)
                ),
            };
            let message = format!("there is no {kind} `{name}` here");
            self.push_at(
                source,
                severity,
                SpanError::new("D017", message, span, "not declared in this set").with_help(help),
            );
        }
    }

    /// Types, circles and trust of the queries; whether their words exist depends on the fleet they are applied to.
    pub(super) fn check_queries(&mut self) {
        let mut groups: BTreeMap<String, Group> = BTreeMap::new();
        for path in self.fields.keys() {
            if let [kind, name] = &path.segments().collect::<Vec<_>>()[..]
                && kind == "group"
            {
                groups.insert(name.to_string(), Group::default());
            }
        }
        for query in &self.queries {
            if let [kind, name, half] = &query.path.segments().collect::<Vec<_>>()[..]
                && kind == "group"
                && let Some(group) = groups.get_mut(name.as_ref())
            {
                let expr = Some(query.expr.clone());
                if half == "include" {
                    group.include = expr;
                } else {
                    group.exclude = expr;
                }
            }
        }
        let names: BTreeSet<String> = groups.keys().cloned().collect();
        let fleet = Fleet::new(Vec::new(), groups);
        let mut found = Vec::new();
        for query in &self.queries {
            let trust = if query.is_trusted {
                Trust::Trusted
            } else {
                Trust::Any
            };
            if let Err(error) = fleet.check(&query.expr, trust, true) {
                found.push(query.locate(Severity::Error, error));
            }
            for group in query.expr.groups() {
                if names.is_empty() || names.contains(group) {
                    continue;
                }
                let near = nearest(group, names.iter().map(String::as_str));
                let (severity, help) = match near {
                    Some(near) => (Severity::Error, format!("did you mean `@{near}`?")),
                    None => (
                        Severity::Warning,
                        "declare it, unless another set does".to_owned(),
                    ),
                };
                let message = format!("there is no group `{group}` here");
                let error = SpanError::new("D017", message, query.span, "not declared in this set");
                let (source, error) = (query.source.clone(), error.with_help(help));
                found.push(Diagnostic {
                    severity,
                    source,
                    error,
                });
            }
        }
        for Diagnostic {
            severity,
            source,
            error,
        } in found
        {
            if let Some(at) = self.sources.iter().position(|s| s.name == source) {
                self.push_at(at, severity, error);
            }
        }
    }

    pub(super) fn check_extends(&mut self) {
        let mut bases: BTreeMap<String, (String, Option<String>)> = BTreeMap::new();
        for (path, field) in &self.fields {
            let segments: Vec<_> = path.segments().collect();
            if let [kind, name, key] = &segments[..]
                && kind == "profile"
                && key == "extends"
                && let Some(base) = field.value.as_text()
            {
                bases.insert(name.to_string(), (base.to_owned(), field.source.clone()));
            }
        }
        for name in bases.keys() {
            let (mut at, mut steps) = (name, 0);
            while let Some((base, _)) = bases.get(at) {
                (at, steps) = (base, steps + 1);
                if at == name || steps > bases.len() {
                    break;
                }
            }
            if at == name && steps > 0 {
                let source = bases[name].1.clone().unwrap_or_default();
                self.circle(name, &source);
            }
        }
    }

    pub(super) fn circle(&mut self, name: &str, origin: &str) {
        let mut parts = origin.rsplitn(3, ':');
        let (column, line) = (parts.next(), parts.next());
        let file = parts.next().unwrap_or_default();
        let Some(at) = self.sources.iter().position(|source| source.name == file) else {
            return;
        };
        let number = |part: Option<&str>| part.and_then(|p| p.parse::<usize>().ok()).unwrap_or(1);
        let text = self.sources[at].text;
        let start = byte_of(text, number(line), number(column));
        let message = format!("the profile `{name}` extends itself in a circle");
        let error = SpanError::new("D018", message, Span::new(start, start), "leads back here");
        self.push_at(
            at,
            Severity::Error,
            error.with_help("let one of them extend nothing"),
        );
    }
}

fn brief_list(names: &BTreeSet<String>) -> String {
    let mut out: Vec<_> = names.iter().take(8).map(String::as_str).collect();
    if names.len() > 8 {
        out.push("…");
    }
    out.join(", ")
}

fn byte_of(text: &str, line: usize, column: usize) -> usize {
    let start: usize = text
        .split_inclusive('\n')
        .take(line.saturating_sub(1))
        .map(str::len)
        .sum();
    let rest = text.get(start..).unwrap_or("");
    start
        + rest
            .char_indices()
            .nth(column.saturating_sub(1))
            .map_or(0, |(at, _)| at)
}
