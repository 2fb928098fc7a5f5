//! `lab target`: who a query would hit, and why.

use super::Context;
use crate::args::TargetArgs;
use crate::error::{CommandError, Exit};
use crate::session::Session;
use crate::view::target::TargetView;

/// Shows them.
pub(super) async fn run(context: Context<'_>, args: TargetArgs) -> Result<Exit, CommandError> {
    let session = Session::open(context.global, context.ui).await?;
    let picture = session.picture().await?;
    let selection = picture.select(&args.query.join(" "), args.allow_unknown)?;
    let view = TargetView::new(&picture, &selection, args.why);
    Ok(context.finish(&view, picture.envelope(Some(&selection)), Exit::Done))
}
