//! Panics that are expected and caught must not flood the output, and want to be counted.

use std::cell::Cell;
use std::sync::Once;

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    static PANIC_COUNT: Cell<u64> = const { Cell::new(0) };
}

/// Does something in which panics are caught inside; says how many there were. Their messages are
/// not printed.
pub(crate) fn quietly<T>(work: impl FnOnce() -> T) -> (T, u64) {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if DEPTH.get() == 0 {
                before(info);
            } else {
                PANIC_COUNT.set(PANIC_COUNT.get() + 1);
            }
        }));
    });
    struct Depth;
    impl Drop for Depth {
        fn drop(&mut self) {
            DEPTH.set(DEPTH.get() - 1);
        }
    }
    DEPTH.set(DEPTH.get() + 1);
    let _depth = Depth;
    let count_before = PANIC_COUNT.get();
    let done = work();
    (done, PANIC_COUNT.get() - count_before)
}
