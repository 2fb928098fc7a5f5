//! Marks: places in the code that a good test campaign must have reached.
//!
//! A simulator can only find what its worlds contain. A mark says in the code itself which situation is meant to
//! occur under test ("two branches of one chain met", "the store refused a write"), and a campaign that never reached
//! it proves less than it seems to. Compiled to nothing unless the feature `marks` is on; never read by the code that
//! carries it.

/// Counts a situation when `condition` holds. The name is a short sentence, unique in the project.
#[macro_export]
macro_rules! sometimes {
    ($condition:expr, $name:literal) => {
        $crate::mark::sometimes($condition, $name)
    };
}

/// Counts that this place was reached.
#[macro_export]
macro_rules! reached {
    ($name:literal) => {
        $crate::mark::sometimes(true, $name)
    };
}

#[cfg(feature = "marks")]
mod counting {
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    thread_local! {
        static COUNTS: RefCell<BTreeMap<&'static str, u64>> = const { RefCell::new(BTreeMap::new()) };
    }

    pub(super) fn count(name: &'static str) {
        COUNTS.with_borrow_mut(|counts| *counts.entry(name).or_default() += 1);
    }

    pub(super) fn take() -> BTreeMap<&'static str, u64> {
        COUNTS.take()
    }
}

/// What [`sometimes!`](crate::sometimes) calls.
#[inline]
pub fn sometimes(condition: bool, name: &'static str) {
    #[cfg(feature = "marks")]
    if condition {
        counting::count(name);
    }
    #[cfg(not(feature = "marks"))]
    let _ = (condition, name);
}

/// What was counted on this thread since the last call, by name; empty without the feature `marks`.
pub fn take() -> std::collections::BTreeMap<&'static str, u64> {
    #[cfg(feature = "marks")]
    {
        counting::take()
    }
    #[cfg(not(feature = "marks"))]
    {
        std::collections::BTreeMap::new()
    }
}

#[cfg(all(test, feature = "marks"))]
mod tests {
    #[test]
    fn marks_count_only_what_happened() {
        let _before = super::take();
        for n in 0..5 {
            sometimes!(n > 2, "more than two");
            sometimes!(n > 9, "more than nine");
        }
        let counts = super::take();
        assert_eq!(counts.get("more than two"), Some(&2));
        assert_eq!(counts.get("more than nine"), None);
    }
}
