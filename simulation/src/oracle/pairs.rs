//! Pairs of runs that have to end alike although something was different that must not matter.
//!
//! Each function is given a run as a closure, and calls it with variants of what it is told to vary. What a run
//! returns is compared as it is: whatever names nodes by their keys must be left out of it, [`standing`] does so.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use lab_crdt_model::Op;
use lab_crdt_model::view::FieldView;

use crate::seed;

/// Two runs that should have ended alike.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// What must not matter, as a sentence in snake case.
    pub pair: &'static str,
    /// The variant, in words.
    pub variant: String,
    /// What the plain run gave.
    pub plain: String,
    /// What the variant gave.
    pub varied: String,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            pair,
            variant,
            plain,
            varied,
        } = self;
        write!(f, "{pair}: with {variant} seen {varied}, without {plain}")
    }
}

fn compare<R: PartialEq + Debug>(
    pair: &'static str,
    plain: &R,
    variant: impl FnOnce() -> String,
    varied: &R,
) -> Result<(), Difference> {
    if plain == varied {
        return Ok(());
    }
    Err(Difference {
        pair,
        variant: variant(),
        plain: format!("{plain:?}"),
        varied: format!("{varied:?}"),
    })
}

/// What stands, without who said it: paths and values.
pub fn standing(fields: &[FieldView]) -> BTreeMap<String, BTreeSet<String>> {
    let values = |f: &FieldView| {
        let all = f.candidates.iter();
        all.map(|c| c.field.value.to_string()).collect()
    };
    fields
        .iter()
        .map(|f| (f.path.as_str().to_owned(), values(f)))
        .collect()
}

/// Which node does what must not matter: `run` is given, for each part in the plan, the node that plays it.
///
/// # Errors
/// The first permutation that ends differently.
pub fn node_ids_do_not_matter<R: PartialEq + Debug>(
    nodes: usize,
    seed: u64,
    tries: u64,
    mut run: impl FnMut(&[usize]) -> R,
) -> Result<(), Difference> {
    let mut order: Vec<usize> = (0..nodes).collect();
    let plain = run(&order);
    for n in 0..tries {
        seed::rng(seed, "permuted nodes", n).shuffle(&mut order);
        let varied = run(&order);
        let variant = || format!("nodes {order:?}");
        compare("node_ids_do_not_matter", &plain, variant, &varied)?;
    }
    Ok(())
}

/// A member that nobody can reach must not matter to the others: `run` is told whether there is one.
///
/// # Errors
/// The run with it ends differently.
pub fn an_isolated_node_does_not_matter<R: PartialEq + Debug>(
    mut run: impl FnMut(bool) -> R,
) -> Result<(), Difference> {
    let (plain, varied) = (run(false), run(true));
    let variant = || "an isolated node".to_owned();
    compare("an_isolated_node_does_not_matter", &plain, variant, &varied)
}

/// One statement with many edits, and many statements with one each, must give the same: `run` is given the edits,
/// statement by statement.
///
/// # Errors
/// The run with single edits, or one with a random split, ends differently.
pub fn a_bulk_edit_equals_its_parts<R: PartialEq + Debug>(
    ops: &[Op],
    seed: u64,
    tries: u64,
    mut run: impl FnMut(&[Vec<Op>]) -> R,
) -> Result<(), Difference> {
    let plain = run(&[ops.to_vec()]);
    for n in 0..=tries {
        let mut rng = seed::rng(seed, "split edit", n);
        let mut parts: Vec<Vec<Op>> = Vec::new();
        for op in ops {
            // The first split is the finest one.
            let is_new = n == 0 || parts.is_empty() || rng.chance(400);
            if is_new {
                parts.push(Vec::new());
            }
            if let Some(last) = parts.last_mut() {
                last.push(op.clone());
            }
        }
        let varied = run(&parts);
        let variant = || {
            let sizes: Vec<usize> = parts.iter().map(Vec::len).collect();
            format!("statements of {sizes:?} edits")
        };
        compare("a_bulk_edit_equals_its_parts", &plain, variant, &varied)?;
    }
    Ok(())
}

/// Actions that commute may change places: neighbours for which `commute` says so are swapped at random.
///
/// # Errors
/// The first order that ends differently.
pub fn commuting_actions_may_change_places<A: Clone + Debug, R: PartialEq + Debug>(
    actions: &[A],
    seed: u64,
    tries: u64,
    commute: impl Fn(&A, &A) -> bool,
    mut run: impl FnMut(&[A]) -> R,
) -> Result<(), Difference> {
    let plain = run(actions);
    for n in 0..tries {
        let mut rng = seed::rng(seed, "swapped actions", n);
        let mut order = actions.to_vec();
        for _ in 0..4 * order.len() {
            let at = rng.below(order.len().max(2) as u64 - 1) as usize;
            if at + 1 < order.len() && commute(&order[at], &order[at + 1]) {
                order.swap(at, at + 1);
            }
        }
        let varied = run(&order);
        let variant = || format!("the order {order:?}");
        compare(
            "commuting_actions_may_change_places",
            &plain,
            variant,
            &varied,
        )?;
    }
    Ok(())
}

/// A crash at any point, with a start after it, must not matter: `run` is told at which output of the node it
/// crashes, or not at all.
///
/// # Errors
/// The first crash after which the run ends differently.
pub fn a_crash_does_not_matter<R: PartialEq + Debug>(
    points: impl IntoIterator<Item = u64>,
    mut run: impl FnMut(Option<u64>) -> R,
) -> Result<(), Difference> {
    let plain = run(None);
    for point in points {
        let varied = run(Some(point));
        let variant = || format!("a crash at output {point}");
        compare("a_crash_does_not_matter", &plain, variant, &varied)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
