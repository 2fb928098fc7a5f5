//! What should be, said slowly: models that share no logic with the agent.
//!
//! They read statements and reports byte by byte by themselves and work everything out from the whole set each
//! time. The types of bodies are those of the log, because they are plain data.

pub mod audit;
pub mod authority;
pub mod config;
pub mod envelope;
pub mod history;
pub(crate) mod known;
pub mod registers;
