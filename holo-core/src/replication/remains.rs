//! What is left of a replica when its process ends in order: enough for the next life of its node to go on in its place.

use std::sync::Arc;

use super::config::GroupId;
use super::dedup::SessionWindows;
use super::messages::LogPosition;

/// The end of a replica, beside its data: all that it held is applied.
#[derive(Clone, Debug, PartialEq)]
pub struct Remains {
    /// The group.
    pub group: GroupId,
    /// The last entry in the data.
    pub at: LogPosition,
    /// The answered requests of all sessions, as of `at`.
    pub windows: Arc<SessionWindows>,
}
