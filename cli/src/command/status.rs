//! `lab status`: how every machine stands.

use super::Context;
use crate::args::StatusArgs;
use crate::error::{CommandError, Exit};
use crate::session::Session;
use crate::view::status::StatusView;

/// Shows it.
pub(super) async fn run(context: Context<'_>, args: StatusArgs) -> Result<Exit, CommandError> {
    let session = Session::open(context.global, context.ui).await?;
    let picture = session.picture().await?;
    let selection = picture.select_words(&args.query.query, args.query.allow_unknown)?;
    let is_wanted = |name: &str| {
        selection
            .as_ref()
            .is_none_or(|selection| selection.names.contains(name))
    };
    let is_all = args.all || selection.is_some();
    let view = StatusView::new(&picture, is_wanted, is_all);
    let exit = if args.exit_code && !view.is_ok() {
        Exit::Differs
    } else {
        Exit::Done
    };
    Ok(context.finish(&view, picture.envelope(selection.as_ref()), exit))
}
