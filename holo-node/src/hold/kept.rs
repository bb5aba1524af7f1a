//! What a node that stops alone leaves on disk for its next life: the pages of the groups that it held.
//!
//! Nobody relies on any of it. The next life begins as a learner like any newcomer, and compares every page that it has
//! with its primary's digest: what is the same does not travel, what is older or gone does. So it does not matter when
//! the pages were written down, whether all of them were, and what became of the groups meanwhile.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use holo_core::catalog::CloseId;
use holo_core::group::Seq;
use holo_core::replication::{GroupId, NodeNumber};
use holo_core::{ClusterId, Epoch, ErrorCode, Failure};

use super::file::{self, Page, Subject};
use super::write_group;
use crate::data::Frozen;
use crate::home::{Home, make_directory};
use crate::links::pause_for;
use crate::workers::blocking;

/// The folder of these files in a node's directory.
const FOLDER: &str = "kept";
/// Groups that have not come back after so long went elsewhere.
const USEFUL_FOR: Duration = Duration::from_secs(3600);

/// Pages for the next life of a node, and from its last one.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    home: Home,
    folder: PathBuf,
    cluster: ClusterId,
    node: NodeNumber,
}

impl Kept {
    /// Those of a node's directory.
    pub(crate) fn new(home: Home, cluster: ClusterId, node: NodeNumber) -> Self {
        let folder = home.file(FOLDER);
        Self { home, folder, cluster, node }
    }

    /// Writes down one group after the other as long as `goes_on`, which is asked at every page; gives how many groups and
    /// bytes are on disk.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::FileFailed`]; what was written before stays.
    pub(crate) fn write(
        &self,
        groups: Vec<(GroupId, Frozen)>,
        goes_on: impl Fn() -> bool,
    ) -> Result<(usize, u64), Failure> {
        make_directory(&self.folder)?;
        let key = self.home.catalog_key()?;
        let (mut count, mut bytes) = (0, 0);
        for (group, frozen) in groups {
            match write_group(&self.folder, &key, &self.subject(group), &frozen, &goes_on) {
                Ok(written) => {
                    bytes += written;
                    count += 1;
                }
                Err(failure) if failure.code == ErrorCode::Cancelled => break,
                Err(failure) => return Err(failure),
            }
        }
        Ok((count, bytes))
    }

    /// Whether there are pages of a group.
    pub(crate) fn has(&self, group: GroupId) -> bool {
        self.place(group).exists()
    }

    /// Hands out the pages of a group.
    ///
    /// # Errors
    ///
    /// Those of reading the file, and of `take`. The pages that were handed out are of no use then.
    pub(crate) fn read(
        &self,
        group: GroupId,
        take: impl FnMut(Page<'_>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let key = self.home.catalog_key()?;
        file::read(&self.folder, &key, &self.subject(group), take)
    }

    /// Deletes the pages of a group. Those that stay cost room, and are compared in vain another time.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::FileFailed`].
    pub(crate) fn forget(&self, group: GroupId) -> Result<(), Failure> {
        let place = self.place(group);
        fs::remove_file(&place).map_err(|source| file::failed(&place, &source))
    }

    /// Deletes, after a while, what nobody asked for.
    pub(crate) async fn expire(self) {
        pause_for(USEFUL_FOR).await;
        if let Err(failure) = blocking(move || file::remove_folder(&self.folder)).await {
            tracing::warn!(code = %failure.code, message = %failure.message, "pages of an earlier life are not deleted");
        }
    }

    fn place(&self, group: GroupId) -> PathBuf {
        self.folder.join(self.subject(group).file_name())
    }

    /// What is in a file is compared page by page, so nothing hangs on the state that the group was in.
    fn subject(&self, group: GroupId) -> Subject {
        let (cluster, node) = (self.cluster, self.node);
        Subject { cluster, node, close: CloseId::default(), group, epoch: Epoch(0), seq: Seq(0) }
    }
}

#[cfg(test)]
mod tests;
