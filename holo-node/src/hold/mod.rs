//! What a node has on disk while the whole cluster is shut down: the pages of the groups that it held in sync.
//!
//! - `file`: one group in one file, encrypted, every page with its BLAKE3
//! - `keeper`: writes them when the cluster closes, offers them back when it starts again, deletes them when it is open

mod file;
mod keeper;

pub(crate) use keeper::keep;

/// The folder of these files in a node's directory.
const FOLDER: &str = "hold";
