//! `lab history`: who changed what and when.

use lab_agent_api::ViewMask;

use super::Context;
use crate::args::HistoryArgs;
use crate::error::{CommandError, Exit};
use crate::print::history::History;
use crate::session::Session;
use crate::view::history::history;
use crate::view::picture::Picture;

/// How many changes are fetched when only some of them are wanted.
const SEARCHED: u32 = 10_000;

/// Shows it.
pub(super) async fn run(context: Context<'_>, args: HistoryArgs) -> Result<Exit, CommandError> {
    let session = Session::open(context.global, context.ui).await?;
    let count = if args.word.is_some() {
        SEARCHED
    } else {
        args.count
    };
    let view = session.view(ViewMask::ALL.with_history(count)).await?;
    let picture = Picture::new(view);
    let mut rows = history(&picture, args.word.as_deref());
    rows.truncate(usize::try_from(args.count).unwrap_or(usize::MAX));
    Ok(context.finish(&History(rows), picture.envelope(None), Exit::Done))
}
