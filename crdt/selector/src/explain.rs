//! Why a node matched.

use std::collections::BTreeMap;

use crate::ast::{Expr, Name, Node};
use crate::eval::{Mode, Tri};
use crate::fleet::Fleet;
use crate::quantity::canonical;

/// Why each node that a query selects matched.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Reasons {
    by_name: BTreeMap<String, Vec<String>>,
}

impl Reasons {
    /// The conditions, names and groups that made `node` match, in reading order and normal form;
    /// empty when it does not match.
    pub fn of(&self, node: &str) -> &[String] {
        self.by_name.get(node).map_or(&[], Vec::as_slice)
    }

    /// Every node that matched, sorted by name, with its reasons.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.by_name
            .iter()
            .map(|(name, reasons)| (name.as_str(), reasons.as_slice()))
    }
}

impl Fleet {
    /// Why `node` matches: see [`Reasons::of`].
    ///
    /// A condition that holds only because the node lacks the key says so: `role!=web (role
    /// missing)`.
    pub fn why(&self, expr: &Expr, node: &str) -> Vec<String> {
        let Some(slot) = self.by_name.get(node) else {
            return Vec::new();
        };
        let traced = self.trace(&expr.root);
        if !traced.tri.must.contains(*slot) {
            return Vec::new();
        }
        self.reasons_of(&traced, *slot)
    }

    /// Why each selected node matches; cheaper than asking for one after the other.
    pub fn reasons(&self, expr: &Expr) -> Reasons {
        let traced = self.trace(&expr.root);
        let selected = self
            .by_name
            .iter()
            .filter(|(_, slot)| traced.tri.must.contains(**slot));
        let by_name = selected
            .map(|(name, slot)| (name.clone(), self.reasons_of(&traced, *slot)))
            .collect();
        Reasons { by_name }
    }

    fn reasons_of(&self, traced: &Traced<'_>, slot: u32) -> Vec<String> {
        let mut out = Vec::new();
        self.collect(traced, slot, &mut out);
        out
    }

    /// Evaluates every part of a query once.
    fn trace<'a>(&self, node: &'a Node) -> Traced<'a> {
        let parts = match node {
            Node::And(items) | Node::Or(items) | Node::Except(items) => {
                items.iter().map(|item| self.trace(item)).collect()
            }
            Node::Not(inner) => vec![self.trace(inner)],
            Node::All
            | Node::Nothing
            | Node::Has(_)
            | Node::Condition(..)
            | Node::Names(_)
            | Node::On(..)
            | Node::Uses(..)
            | Node::First(..)
            | Node::Sample(..) => Vec::new(),
        };
        Traced {
            node,
            tri: self.eval(node, Mode::Plain),
            parts,
        }
    }

    /// Adds why the part is true, or false, for the node.
    fn collect(&self, part: &Traced<'_>, slot: u32, out: &mut Vec<String>) {
        let is_true = part.tri.must.contains(slot);
        let reason = match part.node {
            Node::And(_) | Node::Or(_) => {
                let decisive = part
                    .parts
                    .iter()
                    .filter(|p| p.tri.must.contains(slot) == is_true);
                return decisive.for_each(|p| self.collect(p, slot, out));
            }
            Node::Except(_) if is_true => {
                return part
                    .parts
                    .iter()
                    .take(1)
                    .for_each(|p| self.collect(p, slot, out));
            }
            Node::Not(_) => return part.parts.iter().for_each(|p| self.collect(p, slot, out)),
            Node::Names(names) if is_true => self.matching_names(names, slot),
            node if is_true => Expr { root: node.clone() }.to_string(),
            node => {
                let negated = Expr {
                    root: Node::Not(Box::new(node.clone())),
                }
                .to_string();
                negated + &self.missing_key(node, slot)
            }
        };
        if !out.contains(&reason) {
            out.push(reason);
        }
    }

    fn matching_names(&self, names: &[Name], slot: u32) -> String {
        let is_match = |name: &&Name| {
            let alone = Node::Names(vec![(*name).clone()]);
            self.eval(&alone, Mode::Plain).must.contains(slot)
        };
        Expr {
            root: Node::Names(names.iter().filter(is_match).cloned().collect()),
        }
        .to_string()
    }

    fn missing_key(&self, node: &Node, slot: u32) -> String {
        match node {
            Node::Condition(key, _) if !self.holders(canonical(&key.text)).contains(slot) => {
                format!(" ({} missing)", key.text)
            }
            _ => String::new(),
        }
    }
}

struct Traced<'a> {
    node: &'a Node,
    tri: Tri,
    parts: Vec<Self>,
}
