//! Mutants: seeded bugs that prove that an oracle can fail.
//!
//! `if mutant!("M08") { … }` puts a known bug next to the right code. It is compiled only with the feature `mutants`,
//! which no shipped program has, and sleeps until the simulator wakes exactly one of them.

/// Whether the seeded bug of this name is awake; always `false` without the feature `mutants`.
#[macro_export]
macro_rules! mutant {
    ($name:literal) => {
        $crate::mutant::is_awake($name)
    };
}

#[cfg(feature = "mutants")]
mod awake {
    use std::cell::Cell;

    thread_local! {
        pub(super) static NAME: Cell<Option<&'static str>> = const { Cell::new(None) };
    }
}

/// What [`mutant!`](crate::mutant!) calls.
#[inline]
#[must_use]
pub fn is_awake(name: &'static str) -> bool {
    #[cfg(feature = "mutants")]
    {
        awake::NAME.get() == Some(name)
    }
    #[cfg(not(feature = "mutants"))]
    {
        let _ = name;
        false
    }
}

/// Wakes one bug on this thread, or none.
#[cfg(feature = "mutants")]
pub fn wake(name: Option<&'static str>) {
    awake::NAME.set(name);
}
