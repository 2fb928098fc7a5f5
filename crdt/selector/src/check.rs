//! Whether the words of a query exist, fit their types and may be relied on.

use std::collections::BTreeSet;

use lab_crdt_model::SpanError;
use lab_crdt_model::span::nearest;

use crate::ast::{Expr, Key, Name, Node, Term, Test};
use crate::fleet::{Fleet, GroupState, Trust};
use crate::quantity::{Meaning, canonical, is_observed, is_trusted, known_keys};

/// What to do about a query that access may not hang on.
const TRUST_HELP: &str = "secret and access rules may use labels, names and @groups only";

impl Fleet {
    /// Checks the words of a query against what exists.
    ///
    /// With `allow_unknown`, keys, groups and names that do not exist are accepted. With
    /// [`Trust::Trusted`] the definitions of the groups are looked at too, however deep.
    ///
    /// # Errors
    /// The first mistake in reading order: Q030 key, Q031 type, Q032 group, Q033 name, Q034 circle,
    /// Q040 trust.
    pub fn check(&self, expr: &Expr, trust: Trust, allow_unknown: bool) -> Result<(), SpanError> {
        Check {
            fleet: self,
            trust,
            allow_unknown,
        }
        .node(&expr.root)
    }

    /// Every key that a query may ask for, sorted.
    pub fn keys(&self) -> BTreeSet<&str> {
        let mut keys: BTreeSet<&str> = known_keys().collect();
        keys.extend(
            self.index
                .keys()
                .chain(&self.extra_keys)
                .map(String::as_str),
        );
        keys
    }

    fn has_key(&self, key: &str) -> bool {
        self.index.contains_key(key)
            || self.extra_keys.contains(key)
            || known_keys().any(|k| k == key)
    }
}

struct Check<'a> {
    fleet: &'a Fleet,
    trust: Trust,
    allow_unknown: bool,
}

impl Check<'_> {
    fn node(&self, node: &Node) -> Result<(), SpanError> {
        match node {
            Node::All | Node::Nothing => Ok(()),
            Node::And(items) | Node::Or(items) | Node::Except(items) => {
                items.iter().try_for_each(|item| self.node(item))
            }
            Node::Not(inner) | Node::First(_, inner) | Node::Sample(_, inner) => self.node(inner),
            Node::Has(key) => self.key(key),
            Node::Condition(key, test) => {
                self.key(key)?;
                self.test(key, test)
            }
            Node::Names(names) => names.iter().try_for_each(|name| self.name(name)),
            Node::On(inner, span) => {
                if self.trust == Trust::Trusted {
                    let label = "reported by the machine it runs on, not declared";
                    return Err(SpanError::new(
                        "Q040",
                        "placement cannot grant access",
                        *span,
                        label,
                    )
                    .with_help(TRUST_HELP));
                }
                self.node(inner)
            }
            Node::Uses(_, span) => {
                if self.trust == Trust::Trusted {
                    let message = "what a machine uses cannot grant access";
                    let label = "follows from what it may read, so it cannot decide it";
                    return Err(SpanError::new("Q040", message, *span, label).with_help(TRUST_HELP));
                }
                Ok(())
            }
        }
    }

    fn key(&self, key: &Key) -> Result<(), SpanError> {
        let text = canonical(&key.text);
        if self.trust == Trust::Trusted && !is_trusted(text) {
            let label = "reported by the machine itself, so the machine could lie";
            return Err(
                SpanError::new("Q040", "facts cannot grant access", key.span, label)
                    .with_help(TRUST_HELP),
            );
        }
        if self.allow_unknown || self.fleet.has_key(text) {
            return Ok(());
        }
        let (message, label) = if is_observed(text) {
            (
                format!("no node reports `{text}`"),
                "unknown fact or status",
            )
        } else {
            (format!("no node has a label `{text}`"), "unknown label key")
        };
        let hint = match nearest(text, self.fleet.keys()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "list keys with: lab label list".to_owned(),
        };
        Err(SpanError::new("Q030", message, key.span, label)
            .with_help(format!("{hint}  (--allow-unknown accepts it)")))
    }

    fn test(&self, key: &Key, test: &Test) -> Result<(), SpanError> {
        let meaning = Meaning::of(canonical(&key.text));
        match test {
            Test::Match(_) => Ok(()),
            Test::Order(_, _) if meaning == Some(Meaning::Address) => {
                let label = "this is an address";
                Err(
                    SpanError::new("Q031", "addresses cannot be ordered", key.span, label)
                        .with_help("use `node.ip in 10.0.0.0/8`"),
                )
            }
            Test::Order(_, term) => value(key, meaning.unwrap_or(Meaning::Number), term),
            Test::Equal(term) if meaning == Some(Meaning::Address) => {
                value(key, Meaning::Address, term)
            }
            Test::In(terms) if meaning == Some(Meaning::Address) => terms
                .iter()
                .try_for_each(|term| value(key, Meaning::Address, term)),
            Test::Equal(_) | Test::In(_) => Ok(()),
        }
    }

    fn name(&self, name: &Name) -> Result<(), SpanError> {
        if name.is_group {
            return self.group(&name.term);
        }
        let (term, text) = (&name.term, name.term.text.as_str());
        let fleet = self.fleet;
        if self.allow_unknown || term.glob.is_some() || fleet.by_name.contains_key(text) {
            return Ok(());
        }
        let help = if fleet.groups.contains_key(text) {
            format!("`{text}` is a group: write `@{text}`")
        } else if fleet.has_key(text) {
            format!("`{text}` is a label key: write `has {text}` or `{text}=VALUE`")
        } else if let Some(near) = nearest(text, fleet.names()) {
            format!("did you mean `{near}`?")
        } else {
            "list nodes with: lab node list".to_owned()
        };
        let message = format!("no node is called `{text}`");
        Err(SpanError::new("Q033", message, term.span, "unknown name").with_help(help))
    }

    fn group(&self, term: &Term) -> Result<(), SpanError> {
        let mut is_known = false;
        for (name, state) in self
            .fleet
            .groups
            .iter()
            .filter(|(name, _)| term.matches(name))
        {
            is_known = true;
            if state.is_circular {
                let message = "groups refer to each other in a circle";
                return Err(SpanError::new(
                    "Q034",
                    message,
                    term.span,
                    self.circle(name),
                ));
            }
            if self.trust == Trust::Trusted
                && let Some(label) = self.untrusted(name)
            {
                return Err(
                    SpanError::new("Q040", "facts cannot grant access", term.span, label)
                        .with_help(TRUST_HELP),
                );
            }
        }
        if is_known || self.allow_unknown {
            return Ok(());
        }
        let text = &term.text;
        let help = match nearest(text, self.fleet.groups.keys().map(String::as_str)) {
            Some(near) => format!("did you mean `@{near}`?"),
            None => "lab status lists the groups".to_owned(),
        };
        let message = format!("no group `@{text}`");
        Err(SpanError::new("Q032", message, term.span, "unknown group").with_help(help))
    }

    /// The circle that a circular group is in or leads to, as `@a → @b → @a`.
    fn circle(&self, start: &str) -> String {
        let mut path: Vec<&str> = Vec::new();
        let mut at = start;
        while !path.contains(&at) {
            path.push(at);
            let next = self.fleet.groups.get(at).and_then(|state| {
                let is_circular =
                    |g: &&String| self.fleet.groups.get(*g).is_some_and(|s| s.is_circular);
                state.refers_to.iter().find(is_circular)
            });
            let Some(next) = next else { break };
            at = next;
        }
        let from = path.iter().position(|g| *g == at).unwrap_or(0);
        let circle = path[from..].iter().chain([&at]);
        circle
            .map(|g| format!("@{g}"))
            .collect::<Vec<_>>()
            .join(" → ")
    }

    /// What in the definition of a group, however deep, may not grant access.
    fn untrusted(&self, start: &str) -> Option<String> {
        let mut seen = BTreeSet::from([start]);
        let mut open = vec![start];
        while let Some(name) = open.pop() {
            let Some(state) = self.fleet.groups.get(name) else {
                continue;
            };
            let GroupState {
                untrusted,
                refers_to,
                ..
            } = state;
            if let Some(what) = untrusted {
                return Some(format!(
                    "`@{name}` uses `{what}`, which is not declared by an operator"
                ));
            }
            open.extend(
                refers_to
                    .iter()
                    .map(String::as_str)
                    .filter(|other| seen.insert(other)),
            );
        }
        None
    }
}

fn value(key: &Key, meaning: Meaning, term: &Term) -> Result<(), SpanError> {
    let is_text = meaning == Meaning::Address && term.glob.is_some();
    if is_text || meaning.accepts(&term.text) {
        return Ok(());
    }
    let (what, example) = meaning.words();
    let message = format!("`{}` is not {what}", term.text);
    let label = format!("`{}` is {what}", key.text);
    Err(SpanError::new("Q031", message, term.span, label)
        .with_help(format!("write it like {example}")))
}
