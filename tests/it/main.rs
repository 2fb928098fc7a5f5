//! Tests of the whole: architecture, habits, documents, formats. One binary.

mod compat;
mod deps;
mod docs;
mod e2e;
mod netns;
mod source;
mod support;
mod tidy;
