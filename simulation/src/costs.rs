//! What real agents take beside the way through the network, microseconds, so that virtual time passes as real time.
//!
//! Measured with an optimised build and 20 agents on a virtual machine with two cores at about 3 GHz and an SSD, by
//! `tests/bench/calibrate.py` unless another program is named; medians. Orders of magnitude for any machine, and no
//! promise: what a prediction is sensitive to is the network, and on a crowded machine [`STEP_US`].

/// One step of an agent, with its share of sockets, encryption and system calls.
///
/// Time that all threads of all agents were on a core within the third of a second round an edit (59 ms), less what
/// they take in a quiet one (11 ms), by the 208 steps that the simulated mesh takes for the same edit. Serving one
/// watcher per agent is in it.
pub const STEP_US: u64 = 230;
/// A durable commit of one statement with a register, on the disk.
///
/// 500 commits by `tests/examples/store_cost.rs`; the 99th percentile is 0.7 to 4 ms.
pub const STORE_US: u64 = 270;
/// From a wish to write to the beginning of the commit, and from its end back to the agent: two changes of thread.
///
/// What is left of "handed in → acknowledged" (1.6 to 1.8 ms) after two steps, the commit, and the socket both ways.
pub const STORE_QUEUE_US: u64 = 400;
/// One way over the local socket, for a question or an answer.
///
/// Half of "begun → end of the chain is known" (0.74 ms) without a step and without [`CONNECT_US`].
pub const ASK_US: u64 = 200;
/// From an agent that tells of a change to a watcher on its socket: one way, as [`ASK_US`].
pub const NOTICE_US: u64 = 200;
/// Connecting to the local socket. An estimate: it is measured only together with the first question.
pub const CONNECT_US: u64 = 100;
/// Signing a statement.
pub const SIGN_US: u64 = 90;
/// The program `lab` until it connects, beside what it asks and waits for.
///
/// What "`lab label add` started → last agent has it" takes longer than the same by a client that runs already
/// (8 to 9 ms). Its end takes another 1 to 2 ms.
pub const COMMAND_US: u64 = 8_500;
