//! What strangers can send, as functions of bytes that must never panic.
//!
//! Each target takes any bytes, hands them to the product where such bytes arrive, and asserts what has to hold
//! afterwards: what was read is written the same, limits are kept, work is bounded. The functions run in three
//! ways:
//!
//! * `cargo test -p lab-fuzz` replays the corpus, and bytes made of it and of nothing;
//! * `tests/fuzz/run TARGET SECONDS` lets libFuzzer look for new ones;
//! * a file that it found is added to `corpus/TARGET`, and replayed for ever.

mod audit;
mod declaration;
mod envelope;
mod frame;
mod join_frame;
mod root;
mod selector;
mod sync_message;
mod token;
mod world;

pub use audit::audit;
pub use declaration::declaration;
pub use envelope::envelope;
pub use frame::frame;
pub use join_frame::join_frame;
pub use root::root;
pub use selector::selector;
pub use sync_message::sync_message;
pub use token::token;
pub use world::World;

/// A function of bytes that must never panic.
pub type Target = fn(&[u8]);

/// Every target, by the name of its folder in the corpus.
pub const TARGETS: &[(&str, Target)] = &[
    ("audit", audit),
    ("declaration", declaration),
    ("envelope", envelope),
    ("frame", frame),
    ("join_frame", join_frame),
    ("root", root),
    ("selector", selector),
    ("sync_message", sync_message),
    ("token", token),
];
