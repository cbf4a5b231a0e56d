//! Parts of segments as players ask for them: those listed, and the one that is hinted at and comes next.

use std::sync::Arc;
use std::time::Duration;

use starling_proto::wire::Announcement;
use tokio::time::{Instant, timeout_at};

use crate::media::Media;

/// How long a request for a part that is yet to come is held. Longer than any usual target duration; a guess.
const HELD: Duration = Duration::from_secs(8);

/// What was announced of the segment that `find` finds, with its position, once it holds part `index`. `None` if it grows no
/// more without that part, or if the part didn't come in time. A segment that isn't known is waited for, too: players are
/// hinted at the first part of the next.
pub async fn announced(
    media: &Media,
    index: usize,
    find: impl Fn() -> Option<(u64, Arc<Announcement>)>,
) -> Option<(u64, Arc<Announcement>)> {
    let deadline = Instant::now() + HELD;
    let mut changes = media.changes();
    loop {
        changes.mark_unchanged();
        match find() {
            Some((position, announcement)) if index < announcement.parts.len() => {
                return Some((position, announcement));
            }
            Some((_, announcement)) if !announcement.growing => return None,
            None if index > 0 => return None,
            Some(_) | None => timeout_at(deadline, changes.changed()).await.ok()?.ok()?,
        }
    }
}
