//! What a node has on disk while it does not run: the pages of the groups that it held.
//!
//! - `file`: one group in one file, encrypted, every page with its BLAKE3
//! - `keeper`: writes them when the whole cluster closes, offers them back when it starts again, deletes them when it is
//!   open; they are the data then
//! - `kept`: what this node writes when it stops by itself, one file for each group and life; `leave`: sees to it that it
//!   is written
//! - `resume`: offers them when it starts again; they are the data where the life that left them is in sync still, and
//!   elsewhere a learner begins with them, so that only what differs is copied

mod file;
mod keeper;
mod kept;
mod leave;
mod resume;

use std::path::Path;

use holo_core::{ErrorCode, Failure};

pub(crate) use file::fuzzing::hold_file;
pub(crate) use keeper::keep;
pub(crate) use kept::{Kept, check_kept, keeps_any};
pub(crate) use leave::leave;
pub(crate) use resume::resume;

use self::file::{Page, Subject, Writer};
use crate::data::Frozen;

/// The folder of these files in a node's directory.
const FOLDER: &str = "hold";

/// Writes a group into its file, with what else there is to know of it; gives the bytes of its pages. Who relies on the
/// file has still to sync the folder.
///
/// # Errors
///
/// [`ErrorCode::FileFailed`]; [`ErrorCode::Cancelled`] when it does not go on: then there is no file.
fn write_group(
    folder: &Path,
    key: &[u8; 32],
    subject: &Subject,
    frozen: &Frozen,
    state: Option<&[u8]>,
    goes_on: impl Fn() -> bool,
) -> Result<u64, Failure> {
    let mut writer = Writer::new(folder, key, subject)?;
    let written = frozen.for_each_page(|array, shard, index, run| {
        if !goes_on() {
            return Err(Failure::new(ErrorCode::Cancelled, "no time is left for this group"));
        }
        let digests = run.digests();
        let Some((digest, _)) = digests.split_first_chunk::<32>() else { return Ok(()) };
        let bytes: Vec<u8> = run.slices().flatten().copied().collect();
        writer.put(&Page { array, shard, index, digest: *digest, bytes: &bytes })
    });
    let written = written.and_then(|()| state.map_or(Ok(()), |state| writer.put_state(state)));
    match written {
        Ok(()) => writer.finish(),
        Err(failure) => {
            writer.give_up();
            Err(failure)
        }
    }
}
