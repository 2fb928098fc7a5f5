//! What peers say to each other on a mesh link. Each version owns its structs.

pub(crate) mod v1;
