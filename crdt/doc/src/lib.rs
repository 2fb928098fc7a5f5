//! Effective edits of intent, materialised as one automerge document.
//!
//! What counts is decided elsewhere (`lab-crdt-log`): this crate takes the [`Edit`]s that do, in
//! any order that respects their causes, and turns them into automerge changes. It never judges
//! authority, never checks a signature and never hands automerge a byte that came from another
//! machine.
//!
//! **Every replica builds the same changes.** A change is a pure function of its edit and of the
//! edits in that edit's own past, never of the order of arrival:
//!
//! ```text
//! actor      first 16 bytes of BLAKE3("lab/actor/1" ‖ mesh ‖ author ‖ branch of a fork, if any)
//! sequence   1 + the edits of that actor in the past
//! start_op   1 + the largest operation counter in the past
//! deps       hashes of the heads of the past; of the genesis change when the past is empty
//! preds      values of the key that were visible in the past
//! time       the author's stamp, milliseconds; message as written
//! extra      the statement id and what is missing to read the edit back
//! ```
//!
//! so equal sets of edits give equal [`heads`](Document::heads). Saved bytes differ between
//! replicas: compare heads, never saves.
//!
//! **Shape.** A fixed genesis change makes 256 maps under the root; a path lives in the map named
//! by the first byte of its BLAKE3 hash, under its own text, as the JSON text of its `Field`. No
//! map is ever made later, so no two authors can make the same one at once and lose what is in it;
//! and automerge, which walks a map from its beginning, walks a short one.
//!
//! **Reading.** [`Document::get`] and [`Document::fields`] read a plain map that is kept beside the
//! document and updated from the paths of each edit. [`Document::read`] takes the long way through
//! automerge and must say the same. [`Document::at`] shows any earlier moment.
//!
//! Values written at the same time by authors who could not see each other all stay, the one in
//! force first: the one with the largest operation counter, then the largest actor, as automerge
//! decides. Removing removes what its author could see, nothing else.
//!
//! ```
//! use lab_crdt_doc::{Document, Edit};
//! use lab_crdt_model::{AuthorId, Field, Hlc, MeshId, Op, StatementId, Value};
//!
//! let path: lab_crdt_model::Path = "label/nuc1/role=web".parse().expect("a path");
//! let mut document = Document::new(&MeshId([1; 32]));
//! document
//!     .apply(&[Edit {
//!         id: StatementId([2; 32]),
//!         author: AuthorId([3; 32]),
//!         branch: None,
//!         at: Hlc(0),
//!         message: "web on nuc1".into(),
//!         parents: vec![],
//!         ops: vec![Op::Set {
//!             path: path.clone(),
//!             field: Field::new(Value::Bool(true), "person:ada"),
//!         }],
//!     }])
//!     .expect("an edit without parents");
//! assert_eq!(document.get(&path)[0].field.value, Value::Bool(true));
//! ```

mod change;
mod document;
mod edit;
mod error;
mod genesis;
mod graph;
mod read;
mod view;

pub use document::Document;
pub use edit::Edit;
pub use error::DocError;
pub use lab_crdt_model::view::CandidateView as Candidate;
pub use read::Snapshot;
