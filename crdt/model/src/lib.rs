//! The vocabulary of `lab`: ids, times, labels, paths, values, limits and the shapes that cross crates.
//!
//! Every other crate imports this one; it depends on nothing but serde and small pure helpers. It holds
//! *words*, not behaviour: who is a member is decided in `lab-crdt-log`, what a label means in
//! `lab-crdt-config`, who talks to whom in `lab-mesh-proto`.
//!
//! ```
//! use lab_crdt_model::{Label, Path};
//! let label: Label = "role=web".parse().expect("a label");
//! assert_eq!(Path::label("nuc1", &label).as_str(), "label/nuc1/role=web");
//! ```

pub mod caller;
pub mod fact;
pub mod hardware;
pub mod id;
pub mod issue;
pub mod label;
pub mod limit;
pub mod link;
pub mod mark;
pub mod mutant;
pub mod path;
pub mod report;
pub mod span;
pub mod store;
pub mod time;
pub mod token;
pub mod value;
pub mod view;
pub mod words;

pub use caller::{Caller, Standing};
pub use hardware::{Binding, Hardware, Mac};
pub use id::{AuthorId, MeshId, NodeId, ParseIdError, StatementId};
pub use issue::{Issue, Severity};
pub use label::{Label, LabelError};
pub use path::{Path, PathError};
pub use span::{Span, SpanError};
pub use time::{Hlc, Mono, Now, Wall};
pub use value::{Field, Op, Value};
