//! Fingerprints of a set of keyed items: equal sets have equal digests, and a difference is found by descent.
//!
//! A tree of fan-out 16 over the hexadecimal digits of the key, at most four levels deep; few items stay together in
//! one leaf. Changing an item costs two hashes; finding one difference among 100,000 items costs four messages of at
//! most 16 × 9 bytes each way. The shape follows from the set alone. Clones share what is equal in them: a change
//! copies the way to it.

use std::sync::Arc;

/// Levels below the root.
pub(crate) const DEPTH: usize = 4;
/// More items than this below one prefix are split by their next digit.
const LEAF_MAX: usize = 16;

/// Items by key, with a fingerprint for every prefix of up to four hexadecimal digits.
#[derive(Debug, Clone)]
pub struct Prints<V = ()> {
    root: Node<V>,
    digest: [u8; 32],
}

/// A sum of hashes modulo 2^256, so that adding and removing an item does not look at the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Sum([u64; 4]);

impl Sum {
    fn of(key: &[u8; 32], print: &[u8; 32]) -> Self {
        let mut bytes = [0; 75];
        bytes[..11].copy_from_slice(b"lab/print/1");
        bytes[11..43].copy_from_slice(key);
        bytes[43..].copy_from_slice(print);
        Self::of_bytes(blake3::hash(&bytes).as_bytes())
    }

    pub(crate) fn of_bytes(b: &[u8; 32]) -> Self {
        Self(std::array::from_fn(|i| {
            u64::from_le_bytes(std::array::from_fn(|j| b[8 * i + j]))
        }))
    }

    pub(crate) fn add(&mut self, other: &Self) {
        let mut carry = false;
        for (a, b) in self.0.iter_mut().zip(other.0) {
            let (x, c1) = a.overflowing_add(b);
            let (y, c2) = x.overflowing_add(u64::from(carry));
            (*a, carry) = (y, c1 || c2);
        }
    }

    fn subtract(&mut self, other: &Self) {
        let mut borrow = false;
        for (a, b) in self.0.iter_mut().zip(other.0) {
            let (x, c1) = a.overflowing_sub(b);
            let (y, c2) = x.overflowing_sub(u64::from(borrow));
            (*a, borrow) = (y, c1 || c2);
        }
    }

    pub(crate) fn bytes(&self) -> [u8; 32] {
        std::array::from_fn(|i| self.0[i / 8].to_le_bytes()[i % 8])
    }
}

/// Sum and count of some items.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Total {
    sum: Sum,
    count: u32,
}

impl Total {
    fn digest(&self) -> [u8; 32] {
        let mut bytes = [0; 36];
        bytes[..32].copy_from_slice(&self.sum.bytes());
        bytes[32..].copy_from_slice(&self.count.to_be_bytes());
        *blake3::hash(&bytes).as_bytes()
    }

    /// Takes one item out and another in, or only one of the two.
    fn exchange(&mut self, old: Option<&Sum>, new: Option<&Sum>) {
        if let Some(old) = old {
            self.sum.subtract(old);
            self.count -= 1;
        }
        if let Some(new) = new {
            self.sum.add(new);
            self.count += 1;
        }
    }
}

#[derive(Debug)]
struct Item<V> {
    key: [u8; 32],
    sum: Sum,
    value: V,
}

#[derive(Debug)]
enum Node<V> {
    /// Ascending by key.
    Leaf(Vec<Arc<Item<V>>>),
    Branch(Arc<Branch<V>>),
}

impl<V> Clone for Node<V> {
    fn clone(&self) -> Self {
        match self {
            Self::Leaf(items) => Self::Leaf(items.clone()),
            Self::Branch(branch) => Self::Branch(Arc::clone(branch)),
        }
    }
}

#[derive(Debug)]
struct Branch<V> {
    total: Total,
    children: [Node<V>; 16],
}

impl<V> Clone for Branch<V> {
    fn clone(&self) -> Self {
        Self {
            total: self.total,
            children: self.children.clone(),
        }
    }
}

/// The digit of a key at a level.
fn digit(key: &[u8; 32], level: usize) -> usize {
    let byte = key[level / 2];
    usize::from(if level.is_multiple_of(2) {
        byte >> 4
    } else {
        byte & 15
    })
}

pub(crate) fn prefix(key: &[u8; 32], digits: usize) -> u16 {
    let all = u16::from_be_bytes([key[0], key[1]]);
    if digits == 0 {
        0
    } else {
        all >> (16 - 4 * digits)
    }
}

impl<V> Node<V> {
    const fn empty() -> Self {
        Self::Leaf(Vec::new())
    }

    fn total(&self) -> Total {
        match self {
            Self::Branch(branch) => branch.total,
            Self::Leaf(items) => total_of(items),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Branch(branch) => branch.total.count as usize,
            Self::Leaf(items) => items.len(),
        }
    }

    fn get(&self, key: &[u8; 32]) -> Option<&Arc<Item<V>>> {
        let (mut node, mut level) = (self, 0);
        loop {
            match node {
                Self::Branch(branch) => {
                    node = &branch.children[digit(key, level)];
                    level += 1;
                }
                Self::Leaf(items) => {
                    let at = items.binary_search_by(|item| item.key.cmp(key)).ok()?;
                    return Some(&items[at]);
                }
            }
        }
    }

    /// Puts an item in the place of the one with its key, or takes that one out.
    fn set(&mut self, level: usize, key: &[u8; 32], old: Option<&Sum>, new: Option<Arc<Item<V>>>) {
        match self {
            Self::Branch(shared) => {
                let branch = Arc::make_mut(shared);
                branch
                    .total
                    .exchange(old, new.as_ref().map(|item| &item.sum));
                branch.children[digit(key, level)].set(level + 1, key, old, new);
                if branch.total.count as usize <= LEAF_MAX {
                    let mut items = Vec::with_capacity(branch.total.count as usize);
                    for child in &branch.children {
                        child.collect(&mut items);
                    }
                    *self = Self::Leaf(items);
                }
            }
            Self::Leaf(items) => {
                match (items.binary_search_by(|item| item.key.cmp(key)), new) {
                    (Ok(at), Some(new)) => items[at] = new,
                    (Ok(at), None) => {
                        items.remove(at);
                    }
                    (Err(at), Some(new)) => items.insert(at, new),
                    (Err(_), None) => {}
                }
                if items.len() > LEAF_MAX && level < DEPTH {
                    *self = Self::grown(level, std::mem::take(items));
                }
            }
        }
    }

    /// The node of items that are in order.
    fn grown(level: usize, items: Vec<Arc<Item<V>>>) -> Self {
        if items.len() <= LEAF_MAX || level >= DEPTH {
            return Self::Leaf(items);
        }
        let total = total_of(&items);
        let mut parts: [Vec<Arc<Item<V>>>; 16] = Default::default();
        for item in items {
            parts[digit(&item.key, level)].push(item);
        }
        let children = parts.map(|items| Self::grown(level + 1, items));
        Self::Branch(Arc::new(Branch { total, children }))
    }

    fn collect(&self, out: &mut Vec<Arc<Item<V>>>) {
        match self {
            Self::Leaf(items) => out.extend(items.iter().cloned()),
            Self::Branch(branch) => branch.children.iter().for_each(|it| it.collect(out)),
        }
    }

    fn visit<'a>(&'a self, visit: &mut impl FnMut(&'a Item<V>)) {
        match self {
            Self::Leaf(items) => items.iter().for_each(|item| visit(item)),
            Self::Branch(branch) => branch.children.iter().for_each(|it| it.visit(visit)),
        }
    }

    /// Whether both are one and the same in memory, so that nothing below has to be looked at.
    fn is_shared_with(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Branch(a), Self::Branch(b)) => Arc::ptr_eq(a, b),
            (Self::Leaf(a), Self::Leaf(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| Arc::ptr_eq(a, b))
            }
            (Self::Leaf(_), Self::Branch(_)) | (Self::Branch(_), Self::Leaf(_)) => false,
        }
    }
}

fn total_of<V>(items: &[Arc<Item<V>>]) -> Total {
    let mut total = Total::default();
    for item in items {
        total.exchange(None, Some(&item.sum));
    }
    total
}

impl<V> Default for Prints<V> {
    fn default() -> Self {
        Self {
            root: Node::empty(),
            digest: Total::default().digest(),
        }
    }
}

impl Prints {
    /// Sets the print of an item; `None` removes it.
    pub fn set(&mut self, key: &[u8; 32], print: Option<[u8; 32]>) {
        match print {
            Some(print) => self.put(key, &print, ()),
            None => self.remove(key),
        }
    }
}

impl<V> Prints<V> {
    /// Sets an item and its print.
    pub(crate) fn put(&mut self, key: &[u8; 32], print: &[u8; 32], value: V) {
        let sum = Sum::of(key, print);
        let old = self.root.get(key).map(|item| item.sum);
        let item = Item {
            key: *key,
            sum,
            value,
        };
        self.root.set(0, key, old.as_ref(), Some(Arc::new(item)));
        if old != Some(sum) {
            self.digest = self.root.total().digest();
        }
    }

    pub(crate) fn remove(&mut self, key: &[u8; 32]) {
        if let Some(old) = self.root.get(key).map(|item| item.sum) {
            self.root.set(0, key, Some(&old), None);
            self.digest = self.root.total().digest();
        }
    }

    pub(crate) fn get(&self, key: &[u8; 32]) -> Option<&V> {
        self.root.get(key).map(|item| &item.value)
    }

    /// How many keys are below this one, in order.
    pub(crate) fn rank(&self, key: &[u8; 32]) -> usize {
        let (mut node, mut level, mut rank) = (&self.root, 0, 0);
        loop {
            match node {
                Node::Branch(branch) => {
                    let at = digit(key, level);
                    rank += branch.children[..at].iter().map(Node::len).sum::<usize>();
                    node = &branch.children[at];
                    level += 1;
                }
                Node::Leaf(items) => return rank + items.partition_point(|item| item.key < *key),
            }
        }
    }

    /// The digest of everything.
    pub const fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// The digest that there would be with this print in the place of the item's.
    pub(crate) fn digest_with(&self, key: &[u8; 32], print: &[u8; 32]) -> [u8; 32] {
        let mut total = self.root.total();
        let old = self.root.get(key).map(|item| &item.sum);
        total.exchange(old, Some(&Sum::of(key, print)));
        total.digest()
    }

    /// Whether two trees are the same in memory.
    pub(crate) fn is_shared_with(&self, other: &Self) -> bool {
        self.root.is_shared_with(&other.root)
    }

    /// The node of a prefix, with what of the prefix is left to be looked at in it: a leaf may stand for a shorter one.
    fn below(&self, digits: usize, at: u16) -> &Node<V> {
        let mut node = &self.root;
        for level in 0..digits {
            let Node::Branch(branch) = node else { break };
            node = &branch.children[usize::from(at >> (4 * (digits - 1 - level)) & 15)];
        }
        node
    }

    /// How many items there are below a prefix of `digits` digits.
    pub(crate) fn count(&self, digits: usize, at: u16) -> u32 {
        match self.below(digits, at) {
            Node::Branch(branch) => branch.total.count,
            Node::Leaf(items) => {
                let is_below = |item: &&Arc<Item<V>>| prefix(&item.key, digits) == at;
                items.iter().filter(is_below).count() as u32
            }
        }
    }

    /// Short prints of the (up to 16) children of a prefix that have items.
    pub(crate) fn children(&self, digits: usize, at: u16) -> Vec<(u8, u64)> {
        if digits >= DEPTH {
            return Vec::new();
        }
        let mut totals = [Total::default(); 16];
        match self.below(digits, at) {
            Node::Branch(branch) => {
                for (total, child) in totals.iter_mut().zip(&branch.children) {
                    *total = child.total();
                }
            }
            Node::Leaf(items) => {
                for item in items.iter().filter(|item| prefix(&item.key, digits) == at) {
                    totals[digit(&item.key, digits)].exchange(None, Some(&item.sum));
                }
            }
        }
        (0..16u8)
            .zip(totals)
            .filter(|(_, total)| total.count > 0)
            .map(|(child, Total { sum, .. })| (child, sum.0[0] ^ sum.0[1] ^ sum.0[2] ^ sum.0[3]))
            .collect()
    }

    /// The keys below a prefix.
    pub(crate) fn keys(&self, digits: usize, at: u16) -> Vec<[u8; 32]> {
        let mut out = Vec::new();
        self.below(digits, at).visit(&mut |item| {
            if prefix(&item.key, digits) == at {
                out.push(item.key);
            }
        });
        out
    }

    /// All values, by key.
    pub(crate) fn values(&self) -> Vec<(&[u8; 32], &V)> {
        let mut out = Vec::with_capacity(self.root.len());
        self.root
            .visit(&mut |item| out.push((&item.key, &item.value)));
        out
    }

    pub(crate) fn len(&self) -> usize {
        self.root.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn key(n: u32) -> [u8; 32] {
        *blake3::hash(&n.to_be_bytes()).as_bytes()
    }

    /// The same by the book: every prefix from scratch.
    fn plain_children(
        items: &BTreeMap<[u8; 32], [u8; 32]>,
        digits: usize,
        at: u16,
    ) -> Vec<(u8, u64)> {
        let mut sums: BTreeMap<u8, Sum> = BTreeMap::new();
        for (key, print) in items {
            if prefix(key, digits) == at {
                let child = (prefix(key, digits + 1) & 15) as u8;
                sums.entry(child).or_default().add(&Sum::of(key, print));
            }
        }
        sums.into_iter()
            .map(|(child, sum)| (child, sum.0[0] ^ sum.0[1] ^ sum.0[2] ^ sum.0[3]))
            .collect()
    }

    proptest! {
        #[test]
        fn the_digest_depends_on_the_set_alone(items in proptest::collection::btree_map(0u32..500, any::<[u8; 32]>(), 0..80), extra in 0u32..500) {
            let mut a = Prints::default();
            let mut b = Prints::default();
            for (k, v) in &items { a.set(&key(*k), Some(*v)); }
            b.set(&key(extra), Some([1; 32]));
            for (k, v) in items.iter().rev() { b.set(&key(*k), Some([9; 32])); b.set(&key(*k), Some(*v)); }
            b.set(&key(extra), items.get(&extra).copied());
            prop_assert_eq!(a.digest(), b.digest());
            let mut below = 0;
            for (child, _) in a.children(0, 0) { below += a.count(1, u16::from(child)); }
            prop_assert_eq!(below as usize, items.len());
        }

        #[test]
        fn every_prefix_says_what_a_plain_list_says(
            ops in proptest::collection::vec((0u32..200, proptest::option::weighted(0.6, any::<[u8; 32]>())), 0..120),
            narrow in any::<bool>(),
        ) {
            // Narrow: all keys share three digits, so that the tree is deep.
            let key = |n: u32| { let mut k = key(n); if narrow { k[0] = 0xab; k[1] = 0xc0 | (k[1] & 3); } k };
            let (mut tree, mut plain) = (Prints::default(), BTreeMap::new());
            for (n, print) in ops {
                let former = tree.clone();
                let was = former.digest();
                if let Some(print) = print {
                    prop_assert_eq!(tree.digest_with(&key(n), &print), { let mut t = tree.clone(); t.set(&key(n), Some(print)); t.digest() });
                }
                tree.set(&key(n), print);
                prop_assert_eq!(former.digest(), was);
                match print { Some(p) => { plain.insert(key(n), p); } None => { plain.remove(&key(n)); } }
            }
            let mut again = Prints::default();
            for (k, p) in plain.iter().rev() { again.set(k, Some(*p)); }
            prop_assert_eq!(again.digest(), tree.digest());
            prop_assert_eq!(tree.len(), plain.len());
            for (rank, k) in plain.keys().enumerate() { prop_assert_eq!(tree.rank(k), rank); }
            let mut prefixes: Vec<(usize, u16)> = vec![(0, 0)];
            for k in plain.keys() { for d in 1..=DEPTH { prefixes.push((d, prefix(k, d))); } }
            for (digits, at) in prefixes {
                let keys: Vec<_> = plain.keys().filter(|k| prefix(k, digits) == at).copied().collect();
                prop_assert_eq!(tree.count(digits, at) as usize, keys.len());
                prop_assert_eq!(tree.keys(digits, at), keys);
                if digits < DEPTH {
                    prop_assert_eq!(tree.children(digits, at), plain_children(&plain, digits, at));
                    prop_assert_eq!(again.children(digits, at), plain_children(&plain, digits, at));
                }
            }
        }
    }

    #[test]
    fn keys_below_a_prefix_are_complete() {
        let mut prints = Prints::default();
        for n in 0..2000 {
            prints.set(&key(n), Some([1; 32]));
        }
        for digits in 0..=DEPTH {
            let ends = 1u32 << (4 * digits);
            let total: usize = (0..ends)
                .map(|at| prints.keys(digits, at as u16).len())
                .sum();
            assert_eq!(total, 2000);
        }
    }
}
