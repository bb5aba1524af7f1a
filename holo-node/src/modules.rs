//! Modules that tenants have pushed, by hash.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use holo_core::{Authorized, ErrorCode, Failure, ModuleId, TenantId, action, limits};
use holo_exec::{Engine, Module};
use parking_lot::Mutex;

/// Compiled modules, apart for every tenant: knowing a hash is no permission.
#[derive(Debug, Default)]
pub(crate) struct Modules {
    tenants: Mutex<BTreeMap<TenantId, TenantModules>>,
}

#[derive(Debug, Default)]
struct TenantModules {
    by_id: BTreeMap<ModuleId, Arc<Module>>,
    /// Oldest first.
    order: VecDeque<ModuleId>,
}

impl Modules {
    /// The module with this id.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NotFound`] when this tenant has not pushed it.
    pub(crate) fn find(
        &self,
        may: &Authorized<action::Run>,
        id: ModuleId,
    ) -> Result<Arc<Module>, Failure> {
        let tenants = self.tenants.lock();
        tenants.get(&may.tenant()).and_then(|modules| modules.by_id.get(&id)).cloned().ok_or_else(
            || {
                Failure::new(
                    ErrorCode::NotFound,
                    format!("module {}: not found on this node", id.short()),
                )
                .help("push it first")
            },
        )
    }

    /// Checks the bytes against the id, compiles and keeps them; the oldest module of a full shelf gives way.
    /// Compiling takes milliseconds to seconds: call it on a worker.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Corrupt`] when the bytes are not those of the id, [`ErrorCode::ModuleInvalid`] when they are no
    /// module that may run here.
    pub(crate) fn add(
        &self,
        engine: &Engine,
        may: &Authorized<action::Run>,
        id: ModuleId,
        bytes: &[u8],
    ) -> Result<Arc<Module>, Failure> {
        let actual = ModuleId(*blake3::hash(bytes).as_bytes());
        if actual != id {
            let message =
                format!("module bytes hash to {}, pushed as {}", actual.short(), id.short());
            return Err(Failure::new(ErrorCode::Corrupt, message).help("push it again"));
        }
        let module = engine.module(bytes)?;
        let mut tenants = self.tenants.lock();
        let modules = tenants.entry(may.tenant()).or_default();
        if modules.by_id.insert(id, Arc::clone(&module)).is_none() {
            modules.order.push_back(id);
        }
        if modules.order.len() > limits::MODULES_PER_TENANT_MAX
            && let Some(oldest) = modules.order.pop_front()
        {
            modules.by_id.remove(&oldest);
        }
        Ok(module)
    }
}
