//! Declarations, and what they mean for one node.
//!
//! A person writes YAML (or a program writes JSON); [`parse()`] turns it into fields of intent, each with the place
//! it was written at. [`compare()`] says what has to change in the mesh so that a declaration set is as written,
//! whose fields are in the way, and what the set owned and no longer declares. [`read()`] turns the standing fields
//! of a replica into a typed [`Intent`]; [`effective()`] resolves it for one node: tiers, `without`, `over`, and
//! contradictions as a state that holds back only the value in question. [`files()`] renders the files of that node
//! and [`explain()`] says where every value comes from.
//!
//! ```text
//!  lab.yaml ──parse──▶ Declarations ──compare──▶ ops ──▶ (statements, document) ──▶ fields
//!                                                                                     │read
//!                          files ◀── effective ◀──────────── Intent ◀─────────────────┘
//! ```
//!
//! Everything here is a pure function: no clock, no disk, no order of hashing. Nothing that was read from a
//! replica can make it fail: what is not understood is reported as an issue and left out.
//!
//! ```
//! use lab_crdt_config::{NodeFacts, Source, effective, files, parse, read};
//!
//! let text = r#"{lab: 1, set: demo, labels: {role=web: {files: {/etc/motd: {template: "{node.name}"}}}}}"#;
//! let (declared, diagnostics) = parse(&[Source { name: "lab.yaml", text }]);
//! assert!(diagnostics.is_empty());
//! let (intent, _) = read(declared.fields().iter().map(|(path, field)| (path, field, &[][..])));
//! let labels = ["role=web".parse().expect("a label")];
//! let node = NodeFacts::new("nuc1", &labels);
//! let (rendered, _) = files(&effective(&intent, &node, &[]), &node);
//! assert_eq!(rendered[0].content, b"nuc1");
//! ```

mod tree;

pub mod effective;
pub mod explain;
pub mod file;
pub mod intent;
pub mod own;
pub mod parse;
pub mod template;

pub use effective::{
    Claim, Conflict, Effective, NodeFacts, Removed, Resolved, Section, Tier, effective,
};
pub use explain::{Explanation, Line, LineState, explain};
pub use file::{FileResolved, RenderedFile, files};
pub use intent::{Attachment, Entry, Intent, Standing, Term, TermKind, labels_of, read};
pub use own::{Change, ChangeKind, Comparison, compare};
pub use parse::{Declarations, Diagnostic, Query, Source, parse};
