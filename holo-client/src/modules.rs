//! WASM modules on their way to the nodes that run them.

use bytes::Bytes;
use prost::Message;

use holo_core::wire::{Decode, Kind, ModulePush, ModuleQuery, ModuleStatus};
use holo_core::{ErrorCode, Failure, ModuleId, limits};

use crate::call::Deadline;
use crate::session::{Session, request};
use crate::views::Route;
use crate::{Error, Result};

/// A module and its name.
#[derive(Clone, Debug)]
pub(crate) struct Module {
    id: ModuleId,
    bytes: Bytes,
}

impl Module {
    pub(crate) fn new(bytes: Bytes) -> Self {
        Self { id: ModuleId(*blake3::hash(&bytes).as_bytes()), bytes }
    }

    /// BLAKE3 of its bytes.
    pub(crate) fn id(&self) -> ModuleId {
        self.id
    }

    /// # Errors
    ///
    /// [`ErrorCode::TooLarge`].
    pub(crate) fn check(&self) -> Result<()> {
        if self.bytes.len() <= limits::MODULE_BYTES_MAX {
            return Ok(());
        }
        let message = format!(
            "a module of {} bytes, at most {} are possible",
            self.bytes.len(),
            limits::MODULE_BYTES_MAX
        );
        Err(Error::new(ErrorCode::TooLarge, message))
    }

    /// Sends it to a node unless it has it; twice is as good as once. Returns what the node knows of it.
    pub(crate) async fn push_to(
        &self,
        session: &Session,
        route: &Route,
        deadline: Deadline,
    ) -> Result<ModuleStatus, Failure> {
        let connection = session.link(route, deadline).await?;
        let query = Bytes::from(ModuleQuery { module: self.id.0.to_vec() }.encode_to_vec());
        let query = request(Kind::ModuleQuery, route, query, deadline)?;
        let known = ModuleStatus::decode_body(&connection.call(query).await?)?;
        if known.present {
            return Ok(known);
        }
        let head = Bytes::from(ModulePush { module: self.id.0.to_vec() }.encode_to_vec());
        let push = request(Kind::ModulePush, route, head, deadline)?;
        let (reply, _nothing) = connection.bulk(push, vec![self.bytes.clone()]).await?;
        ModuleStatus::decode_body(&reply)
    }
}
