//! Set algebra over the index, with three values.
//!
//! Every part of a query becomes two sets: the nodes that match *whatever the unknown may be*, and
//! those that
//! *may* match. Without unknowns they are the same. `not` swaps them, so an unknown never turns
//! into a yes by being negated.

use std::collections::BTreeSet;

use crate::ast::{Count, Expr, Key, Name, Node, Term, Test};
use crate::bits::Bits;
use crate::fleet::Fleet;
use crate::quantity::{Meaning, canonical, is_trusted};

/// What counts as unknown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    /// Nothing but circular groups.
    Plain = 0,
    /// Everything observed.
    Trusted = 1,
    /// A condition on a key that the node does not have.
    Present = 2,
}

/// Which nodes match for certain, and which may; the first is part of the second.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Tri {
    pub(crate) must: Bits,
    /// `None`: the same as `must`.
    may: Option<Bits>,
}

impl Tri {
    pub(crate) const fn known(must: Bits) -> Self {
        Self { must, may: None }
    }

    pub(crate) fn may(&self) -> &Bits {
        self.may.as_ref().unwrap_or(&self.must)
    }

    fn between(must: Bits, may: Bits) -> Self {
        let may = (may != must).then_some(may);
        Self { must, may }
    }

    fn apply(&mut self, must: impl Fn(&mut Bits), may: impl Fn(&mut Bits), is_split: bool) {
        if is_split && self.may.is_none() {
            self.may = Some(self.must.clone());
        }
        must(&mut self.must);
        self.may.iter_mut().for_each(may);
    }

    fn and(&mut self, other: &Self) {
        let split = other.may.is_some();
        self.apply(
            |m| m.intersect(&other.must),
            |m| m.intersect(other.may()),
            split,
        );
    }

    pub(crate) fn or(&mut self, other: &Self) {
        let split = other.may.is_some();
        self.apply(|m| m.union(&other.must), |m| m.union(other.may()), split);
    }

    pub(crate) fn without(&mut self, other: &Self) {
        let split = other.may.is_some();
        self.apply(
            |m| m.subtract(other.may()),
            |m| m.subtract(&other.must),
            split,
        );
    }
}

impl Fleet {
    /// The names of the nodes that match. Unknown names, groups and keys match nothing.
    pub fn select(&self, expr: &Expr) -> BTreeSet<String> {
        self.names_of(&self.eval(&expr.root, Mode::Plain).must)
    }

    /// How many nodes match.
    pub fn count(&self, expr: &Expr) -> usize {
        self.eval(&expr.root, Mode::Plain).must.count()
    }

    /// Whether the node called `node` matches.
    pub fn matches(&self, expr: &Expr, node: &str) -> bool {
        let slot = self.by_name.get(node);
        slot.is_some_and(|slot| self.eval(&expr.root, Mode::Plain).must.contains(*slot))
    }

    /// The names of the nodes that match whatever the observed values are.
    ///
    /// For decisions about access: everything a machine says about itself (`fact.`, `status.`,
    /// `node.` but for `node.name`), where it is placed (`on`) and what it uses (`uses`) counts as
    /// unknown, and so do groups that do not exist or run in a circle. Only certainty entitles,
    /// also below `not` and `except`.
    pub fn entitles(&self, expr: &Expr) -> BTreeSet<String> {
        self.names_of(&self.eval(&expr.root, Mode::Trusted).must)
    }

    /// How many nodes match only because they lack a key that the query asks about, as with
    /// `role!=web`.
    pub fn missing_key_matches(&self, expr: &Expr) -> usize {
        let mut matches = self.eval(&expr.root, Mode::Plain).must;
        matches.subtract(&self.eval(&expr.root, Mode::Present).must);
        matches.count()
    }

    /// The nodes of a group, if there is such a group and it is not circular.
    pub(crate) fn members(&self, group: &str) -> Option<&Bits> {
        let state = self.groups.get(group).filter(|state| !state.is_circular)?;
        self.find_members(group, Mode::Plain);
        state.nodes[Mode::Plain as usize].get().map(|tri| &tri.must)
    }

    fn names_of(&self, slots: &Bits) -> BTreeSet<String> {
        slots
            .iter()
            .filter_map(|slot| self.nodes[slot as usize].as_ref())
            .map(|n| n.name.clone())
            .collect()
    }

    pub(crate) fn eval(&self, node: &Node, mode: Mode) -> Tri {
        match node {
            Node::All => Tri::known(self.live.clone()),
            Node::Nothing => Tri::known(self.nothing()),
            Node::And(items) => self.fold(items, mode, Tri::and),
            Node::Or(items) => self.fold(items, mode, Tri::or),
            Node::Except(items) => self.fold(items, mode, Tri::without),
            Node::Not(inner) => {
                let mut all = Tri::known(self.live.clone());
                all.without(&self.eval(inner, mode));
                all
            }
            Node::Has(key) => self.has(key, mode),
            Node::Condition(key, test) => self.condition(key, test, mode),
            Node::Names(names) => {
                let mut out = Tri::known(self.nothing());
                names.iter().for_each(|name| out.or(&self.name(name, mode)));
                out
            }
            Node::On(inner, _) => self.guests(inner, mode),
            Node::Uses(term, _) => self.uses(term, mode),
            Node::First(count, inner) => {
                let by_name = self.by_name.values().copied();
                self.take(*count, self.eval(inner, mode), by_name)
            }
            Node::Sample(count, inner) => {
                let candidates = self.eval(inner, mode);
                let mut by_rank: Vec<u32> = candidates.may().iter().collect();
                by_rank.sort_by_cached_key(|slot| {
                    let name = self.nodes[*slot as usize].as_ref().map(|n| n.name.as_str());
                    (self.ranks[*slot as usize], name)
                });
                self.take(*count, candidates, by_rank.into_iter())
            }
        }
    }

    fn fold(&self, items: &[Node], mode: Mode, join: impl Fn(&mut Tri, &Tri)) -> Tri {
        let mut items = items.iter();
        let first = items.next().map(|item| self.eval(item, mode));
        let mut out = first.unwrap_or_else(|| Tri::known(self.nothing()));
        items.for_each(|item| join(&mut out, &self.eval(item, mode)));
        out
    }

    fn nothing(&self) -> Bits {
        Bits::none(self.nodes.len())
    }

    fn unknown(&self) -> Tri {
        Tri::between(self.nothing(), self.live.clone())
    }

    /// The nodes that have any value for `key`.
    pub(crate) fn holders(&self, key: &str) -> Bits {
        let mut out = self.nothing();
        self.index
            .get(key)
            .into_iter()
            .flatten()
            .for_each(|(_, slots)| out.insert_all(slots));
        out
    }

    fn has(&self, key: &Key, mode: Mode) -> Tri {
        let key = canonical(&key.text);
        if mode == Mode::Trusted && !is_trusted(key) {
            return self.unknown();
        }
        Tri::known(self.holders(key))
    }

    fn condition(&self, key: &Key, test: &Test, mode: Mode) -> Tri {
        let key = canonical(&key.text);
        if mode == Mode::Trusted && !is_trusted(key) {
            return self.unknown();
        }
        let mut hits = self.nothing();
        let meaning = Meaning::of(key);
        if let Some(values) = self.index.get(key) {
            match test {
                Test::Equal(term) if meaning.is_none() && term.glob.is_none() => {
                    hits.insert_all(values.get(&term.text).map_or(&[], Vec::as_slice));
                }
                Test::In(terms) if meaning.is_none() && terms.iter().all(|t| t.glob.is_none()) => {
                    let slots = terms.iter().filter_map(|term| values.get(&term.text));
                    slots.for_each(|slots| hits.insert_all(slots));
                }
                test => {
                    let matching = values
                        .iter()
                        .filter(|(value, _)| holds(test, meaning, value));
                    matching.for_each(|(_, slots)| hits.insert_all(slots));
                }
            }
        }
        if mode != Mode::Present {
            return Tri::known(hits);
        }
        let mut may = self.live.clone();
        may.subtract(&self.holders(key));
        may.union(&hits);
        Tri::between(hits, may)
    }

    fn name(&self, name: &Name, mode: Mode) -> Tri {
        let term = &name.term;
        if name.is_group {
            return self.group(term, mode);
        }
        let mut hits = self.nothing();
        match &term.glob {
            None => hits.insert_all(
                self.by_name
                    .get(&term.text)
                    .map_or(&[], std::slice::from_ref),
            ),
            Some(glob) => {
                let from = self.by_name.range(glob.prefix().to_owned()..);
                let near = from.take_while(|(name, _)| name.starts_with(glob.prefix()));
                near.filter(|(name, _)| glob.matches(name))
                    .for_each(|(_, slot)| hits.insert(*slot));
            }
        }
        Tri::known(hits)
    }

    fn group(&self, term: &Term, mode: Mode) -> Tri {
        let Some(glob) = &term.glob else {
            let is_unknown = mode == Mode::Trusted && !self.groups.contains_key(&term.text);
            return if is_unknown {
                self.unknown()
            } else {
                self.group_nodes(&term.text, mode)
            };
        };
        let mut out = Tri::known(self.nothing());
        for name in self.groups.keys().filter(|name| glob.matches(name)) {
            out.or(&self.group_nodes(name, mode));
        }
        out
    }

    fn group_nodes(&self, name: &str, mode: Mode) -> Tri {
        let Some(state) = self.groups.get(name) else {
            return Tri::known(self.nothing());
        };
        if state.is_circular {
            return self.unknown();
        }
        self.find_members(name, mode);
        state.nodes[mode as usize]
            .get()
            .cloned()
            .unwrap_or_else(|| self.unknown())
    }

    /// Finds the nodes of a group that is not circular, and first those of every group it refers
    /// to.
    fn find_members(&self, name: &str, mode: Mode) {
        let mut open = vec![(name, false)];
        while let Some((name, is_ready)) = open.pop() {
            let Some(state) = self.groups.get(name) else {
                continue;
            };
            let cell = &state.nodes[mode as usize];
            if cell.get().is_some() {
                continue;
            }
            if !is_ready {
                open.push((name, true));
                open.extend(state.refers_to.iter().map(|other| (other.as_str(), false)));
                continue;
            }
            let mut nodes = Tri::known(self.nothing());
            let members = state
                .group
                .members
                .iter()
                .filter_map(|member| self.by_name.get(member));
            members.for_each(|slot| nodes.must.insert(*slot));
            if let Some(include) = &state.group.include {
                nodes.or(&self.eval(&include.root, mode));
            }
            if let Some(exclude) = &state.group.exclude {
                nodes.without(&self.eval(&exclude.root, mode));
            }
            // A second writer would have found the same nodes.
            let _ = cell.set(nodes);
        }
    }

    fn guests(&self, inner: &Node, mode: Mode) -> Tri {
        if mode == Mode::Trusted {
            return self.unknown();
        }
        let hosts = self.eval(inner, mode);
        let (mut must, mut may) = (self.nothing(), self.nothing());
        for (slot, node) in self.nodes.iter().enumerate() {
            let host = node
                .as_ref()
                .and_then(|node| self.by_name.get(node.host.as_ref()?));
            let (Some(host), Ok(slot)) = (host, u32::try_from(slot)) else {
                continue;
            };
            if hosts.must.contains(*host) {
                must.insert(slot);
            }
            if hosts.may().contains(*host) {
                may.insert(slot);
            }
        }
        Tri::between(must, may)
    }

    fn uses(&self, term: &Term, mode: Mode) -> Tri {
        if mode == Mode::Trusted {
            return self.unknown();
        }
        let mut hits = self.nothing();
        match &term.glob {
            None => hits.insert_all(self.uses.get(&term.text).map_or(&[], Vec::as_slice)),
            Some(_) => {
                let matching = self.uses.iter().filter(|(item, _)| term.matches(item));
                matching.for_each(|(_, slots)| hits.insert_all(slots));
            }
        }
        Tri::known(hits)
    }

    /// The first `count` of `candidates` in the given order.
    ///
    /// A node is certainly among them when it would be even if every unknown one before it were a
    /// candidate, and possibly when it would be if none of them were.
    fn take(&self, count: Count, candidates: Tri, order: impl Iterator<Item = u32>) -> Tri {
        let least = count.of(candidates.must.count());
        let most = count.of(candidates.may().count());
        let (mut must, mut may) = (self.nothing(), self.nothing());
        let (mut must_before, mut may_before) = (0, 0);
        for slot in order.filter(|slot| candidates.may().contains(*slot)) {
            let is_certain = candidates.must.contains(slot);
            if must_before >= most {
                break;
            }
            may.insert(slot);
            if is_certain && may_before < least {
                must.insert(slot);
            }
            must_before += usize::from(is_certain);
            may_before += 1;
        }
        Tri::between(must, may)
    }
}

/// Whether `value` passes the test.
fn holds(test: &Test, meaning: Option<Meaning>, value: &str) -> bool {
    match test {
        Test::Equal(term) => is_equal(term, meaning, value),
        Test::In(terms) => terms.iter().any(|term| is_equal(term, meaning, value)),
        Test::Match(pattern) => pattern.regex.is_match(value),
        Test::Order(order, term) => {
            let meaning = meaning.unwrap_or(Meaning::Number);
            meaning
                .compare(value, &term.text)
                .is_some_and(|ordering| order.holds(ordering))
        }
    }
}

fn is_equal(term: &Term, meaning: Option<Meaning>, value: &str) -> bool {
    let by_meaning = if term.glob.is_none() {
        meaning.and_then(|m| m.equals(value, &term.text))
    } else {
        None
    };
    by_meaning.unwrap_or_else(|| term.matches(value))
}
