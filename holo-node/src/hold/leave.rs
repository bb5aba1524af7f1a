//! The end of a process that was told to stop: what it holds goes to disk, for as long as that takes.

use std::sync::Arc;
use std::time::Duration;

use holo_core::replication::Incarnation;
use holo_core::{Count, Failure};

use super::Kept;
use crate::data::LeftBehind;
use crate::links::pause_for;
use crate::workers::blocking;

/// Pause before what could not be written is tried again.
const DISK_PAUSE: Duration = Duration::from_secs(1);
/// Tries between two words about it.
const TRIES_UNTOLD: u32 = 30;

/// Writes down what a life leaves; gives how many groups and bytes are on disk. A group that nobody else has and that
/// cannot be written is tried again, without end: it is here as long as this process is, and no longer. Dropping this ends
/// it with the page that is being written.
///
/// # Errors
///
/// [`holo_core::ErrorCode::FileFailed`] when groups could not be written of which others or earlier files have copies.
pub(crate) async fn leave(
    kept: Kept,
    life: Incarnation,
    mut groups: Vec<LeftBehind>,
) -> Result<(usize, u64), Failure> {
    let wanted = Arc::new(());
    let (mut count, mut bytes) = (0, 0);
    for tries in 0u32.. {
        let still_wanted = Arc::downgrade(&wanted);
        let goes_on = move || still_wanted.strong_count() > 0;
        let here = kept.clone();
        let written = blocking(move || Ok(here.write(life, groups, goes_on))).await?;
        count += written.groups;
        bytes += written.bytes;
        let Some((_, why)) = written.failed.first() else { break };
        let left = Count(written.failed.len() as u64).of("group");
        let alone = written.failed.iter().filter(|(left, _)| left.is_alone).count();
        if alone == 0 {
            let message = format!(
                "{left} could not be written down, of which others or earlier files have copies"
            );
            return Err(why.clone().context(message));
        }
        if tries.is_multiple_of(TRIES_UNTOLD) {
            tracing::error!(
                groups = alone, code = %why.code, message = %why.message,
                "nobody else has these groups, and they cannot be written down: this process goes on trying, a second signal ends it and loses them"
            );
        }
        groups = written.failed.into_iter().map(|(left, _)| left).collect();
        pause_for(DISK_PAUSE).await;
    }
    Ok((count, bytes))
}
