//! Panics as findings: with message and place, and without the noise on the terminal.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

thread_local! {
    static IS_CATCHING: Cell<bool> = const { Cell::new(false) };
    static LAST: RefCell<String> = const { RefCell::new(String::new()) };
}

static HOOK: Once = Once::new();

/// What `run` gives, or the message and place of the panic that ended it.
pub(super) fn catch<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if IS_CATCHING.get() {
                let text = info
                    .payload()
                    .downcast_ref::<&str>()
                    .map(|s| (*s).to_owned())
                    .or_else(|| info.payload().downcast_ref::<String>().cloned())
                    .unwrap_or_default();
                let place = info
                    .location()
                    .map(|l| format!(" ({}:{})", l.file(), l.line()))
                    .unwrap_or_default();
                // The first line; what follows, such as a stack, differs from run to run.
                let line = text.lines().next().unwrap_or_default();
                LAST.set(format!("{line}{place}"));
            } else {
                before(info);
            }
        }));
    });
    let before = IS_CATCHING.replace(true);
    let result = catch_unwind(AssertUnwindSafe(run));
    IS_CATCHING.set(before);
    result.map_err(|_payload| LAST.take())
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_panic_is_told_with_its_place() {
        assert_eq!(super::catch(|| 7), Ok(7));
        let told = super::catch(|| assert_eq!(1, 2, "numbers differ")).unwrap_err();
        assert!(told.contains("numbers differ"), "{told}");
        assert!(told.contains("panics.rs"), "{told}");
    }
}
