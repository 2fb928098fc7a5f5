//! A net under the purity line: an agent that asks the machine for the time or for randomness is caught in the act.
//!
//! Programs that link this crate have `clock_gettime` and `getrandom` from here. They do what the system's do; and while
//! an agent takes a step on this thread, they also note who called. The world looks after each step and refuses to go
//! on. The lints of the project forbid such calls in our own text; this finds them in what our text calls.

#![expect(
    unsafe_code,
    reason = "the C library's functions can be replaced in no other way"
)]

use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};

use lab_crdt_doc::Document;
use lab_crdt_model::{MeshId, NodeId, Now};
use lab_mesh_proto::Mesh;

/// Who may ask, and why that makes no difference.
const HARMLESS: &[(&str, &str)] = &[(
    "automerge::types::ActorId::random",
    "drawn for every new document, and replaced by ours before anything uses it",
)];

thread_local! {
    static IS_STEPPING: Cell<bool> = const { Cell::new(false) };
    static LEAK: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs one step of an agent under the net.
pub(crate) fn step<R>(run: impl FnOnce() -> R) -> R {
    /// Also when the step panics.
    struct Over(bool);
    impl Drop for Over {
        fn drop(&mut self) {
            IS_STEPPING.set(self.0);
        }
    }
    let _over = Over(IS_STEPPING.replace(true));
    run()
}

/// Lets happen, outside of any step, what is asked of the machine once in a thread or process and never decides
/// anything: the keys of hash maps (their order still differs between processes, and two of them show if it matters),
/// the actor that automerge draws for an empty document, the moment from which the overlay's times count.
pub(crate) fn prepare() {
    let _keys = std::hash::RandomState::new();
    let _actor = Document::new(&MeshId([0; 32]));
    let figures = lab_mesh_proto::Config::homelab();
    let _moment = Mesh::new(NodeId([0; 32]), figures, [0; 32], Now::default());
}

/// Runs something that may ask the machine, inside a step.
#[cfg(test)]
fn aside<R>(run: impl FnOnce() -> R) -> R {
    let before = IS_STEPPING.replace(false);
    let result = run();
    IS_STEPPING.set(before);
    result
}

/// What was caught since the last look: what was asked for, and by whom.
pub fn take() -> Option<String> {
    LEAK.take()
}

fn caught(what: &str) {
    if !IS_STEPPING.get() {
        return;
    }
    // What follows may ask the machine itself.
    IS_STEPPING.set(false);
    let stack = Backtrace::force_capture().to_string();
    if HARMLESS.iter().any(|(caller, _)| stack.contains(caller)) {
        IS_STEPPING.set(true);
        return;
    }
    LEAK.with_borrow_mut(|leak| {
        if leak.is_none() {
            *leak = Some(format!("an agent asked the machine for {what}:\n{stack}"));
        }
    });
    IS_STEPPING.set(true);
}

/// As the C library's; see `man 2 clock_gettime`.
///
/// # Safety
/// `time` must point to room for one `timespec`, as for the function of that name in the C library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: i32, time: *mut rustix::time::Timespec) -> i32 {
    caught("the time");
    let now = match rustix::time::ClockId::try_from(clock) {
        Ok(id) => rustix::time::clock_gettime(id),
        // A clock that this program does not use.
        Err(_) => return -1,
    };
    // SAFETY: the caller hands over room for one, as for the function that this one stands for.
    unsafe { time.write(now) };
    0
}

/// As the C library's; see `man 2 getrandom`.
///
/// # Safety
/// `buffer` must point to `length` writable bytes, as for the function of that name in the C library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut u8, length: usize, flags: u32) -> isize {
    caught("randomness");
    // SAFETY: the caller hands over that many bytes, as for the function that this one stands for.
    let bytes = unsafe { std::slice::from_raw_parts_mut(buffer, length) };
    let flags = rustix::rand::GetRandomFlags::from_bits_retain(flags);
    match rustix::rand::getrandom(bytes, flags) {
        Ok(count) => count as isize,
        Err(_) => -1,
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "what must be caught")]
mod tests {
    use super::*;
    use std::time::{Instant, SystemTime};

    #[test]
    fn a_step_that_asks_for_the_time_is_caught_with_its_name() {
        let _before = take();
        let _outside = Instant::now();
        assert_eq!(take(), None);
        step(SystemTime::now);
        assert!(take().expect("caught").contains("the time"));
        step(Instant::now);
        assert!(take().is_some());
    }

    #[test]
    fn what_is_done_aside_is_not_caught_and_time_still_runs() {
        let _before = take();
        let (a, b) = step(|| {
            let a = aside(Instant::now);
            (a, aside(Instant::now))
        });
        assert!(b >= a);
        assert_eq!(take(), None);
        let year = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .expect("after 1970")
            .as_secs();
        assert!(year > 1_700_000_000);
    }
}
