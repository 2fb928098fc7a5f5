//! Watching the replica of an agent until something has come about.

use std::time::Duration;

use tokio_stream::StreamExt as _;

use crate::clock::Stopwatch;
use crate::error::CommandError;
use crate::session::{Session, client_error};
use crate::view::picture::Picture;

/// Shortest time between two looks at the replica.
const LOOK_EVERY: Duration = Duration::from_millis(150);
/// Longest time between two looks, when nothing is heard.
const LOOK_AT_LEAST_EVERY: Duration = Duration::from_secs(1);

/// Shows `look` the replica at once, whenever the agent has heard of something, and now and then besides, with how long
/// that took; until `look` has seen enough or the time is over. Returns what it saw last.
pub(super) async fn follow(
    session: &Session<'_>,
    timeout: Duration,
    mut look: impl FnMut(&Picture, Duration) -> bool,
) -> Result<Picture, CommandError> {
    let watch = Stopwatch::start();
    let notices = session.client.watch().await;
    let mut notices = notices.map_err(|error| client_error(&error))?;
    loop {
        let picture = session.picture().await?;
        let is_enough = look(&picture, watch.elapsed());
        let left = timeout.saturating_sub(watch.elapsed());
        if is_enough || left.is_zero() {
            return Ok(picture);
        }
        tokio::time::sleep(LOOK_EVERY.min(left)).await;
        let patience = LOOK_AT_LEAST_EVERY.min(timeout.saturating_sub(watch.elapsed()));
        match tokio::time::timeout(patience, notices.next()).await {
            Ok(Some(Ok(_notice))) => drain(&mut notices).await,
            Ok(Some(Err(error))) => return Err(client_error(&error)),
            Ok(None) | Err(_) => {}
        }
    }
}

/// Takes the notices that are there already, so that one look answers them all.
async fn drain<S: tokio_stream::Stream + Unpin>(notices: &mut S) {
    let now = Duration::ZERO;
    while let Ok(Some(_)) = tokio::time::timeout(now, notices.next()).await {}
}
