//! Plain structs that people can be shown, each a pure function of a replica.
//!
//! Whoever holds the same replica sees the same, whichever machine it is and whoever else can be reached.

pub(crate) mod audit;
pub(crate) mod change;
pub(crate) mod doctor;
pub(crate) mod effect;
pub(crate) mod history;
pub(crate) mod label;
pub(crate) mod machine;
pub(crate) mod node;
pub(crate) mod part;
pub(crate) mod picture;
pub(crate) mod plan;
pub(crate) mod replica;
#[cfg(test)]
pub(crate) mod sample;
pub(crate) mod status;
pub(crate) mod target;
pub(crate) mod token;
pub(crate) mod undo;
pub(crate) mod undone;
