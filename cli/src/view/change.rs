//! A change among others, by its name.

use lab_crdt_model::view::ChangeView;

/// How far back a change is looked for.
pub(crate) const HISTORY_COUNT: u32 = 100_000;

/// The change that a person calls `wanted`: by its id or by the short form that lists show.
pub(crate) fn find<'a>(
    changes: impl IntoIterator<Item = &'a ChangeView>,
    wanted: &str,
) -> Option<&'a ChangeView> {
    changes
        .into_iter()
        .find(|c| c.id.to_string() == wanted || c.id.short() == wanted)
}
