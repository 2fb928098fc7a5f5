//! Tests of the whole: architecture, habits, documents, formats. One binary.

mod compat;
mod deps;
mod docs;
mod e2e;
mod netns;
mod primitives;
mod source;
mod support;
mod tidy;
