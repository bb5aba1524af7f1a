//! A compiled module: what it offers, and the ways to run it.

use std::sync::Arc;

use holo_core::{ModuleId, limits};
use wasmtime::{InstancePre, ModuleExport};

use super::{
    CallOutput, Capability, Grants, Host, Instance, Limits, abi,
    admission::{self, Admitted},
    host::capability_of,
};
use crate::{ExecError, RunControl, engine::Runtime};

/// A module that was admitted and compiled. Running it makes a fresh sandbox each time.
pub struct Module {
    id: ModuleId,
    imports: Vec<String>,
    exports: Vec<String>,
    needs: Vec<(String, Capability)>,
    pub(super) memory_bytes_min: u64,
    pub(super) runtime: Arc<Runtime>,
    pub(super) pre: InstancePre<Host>,
    pub(super) memory: ModuleExport,
    pub(super) reserve: Option<ModuleExport>,
    pub(super) init: Option<ModuleExport>,
    pub(super) tile: Option<ModuleExport>,
    pub(super) finish: Option<ModuleExport>,
    pub(super) combine: Option<ModuleExport>,
    pub(super) task: Option<ModuleExport>,
}

impl Module {
    /// Checks bounds and ABI, then compiles.
    ///
    /// # Errors
    ///
    /// [`ExecError::ModuleTooLarge`], [`ExecError::ModuleInvalid`], [`ExecError::ImportUnknown`] or
    /// [`ExecError::ImportNotYet`].
    pub(crate) fn compile(runtime: &Arc<Runtime>, bytes: &[u8]) -> Result<Self, ExecError> {
        let Admitted { imports, exports, memory_bytes_min } =
            admission::admit(bytes, runtime.memory_bytes_max)?;
        let needs = imports
            .iter()
            .filter_map(|import| Some((format!("holo.{import}"), capability_of(import)??)))
            .collect();
        let refuse =
            |error: wasmtime::Error| ExecError::ModuleInvalid { why: format!("{error:#}") };
        let compiled = wasmtime::Module::from_binary(&runtime.metered, bytes).map_err(refuse)?;
        let pre = runtime.linker.instantiate_pre(&compiled).map_err(refuse)?;
        let export = |name: &str| compiled.get_export_index(name);
        let missing = |name: &str| ExecError::ModuleInvalid { why: format!("no export {name}") };
        Ok(Self {
            id: ModuleId(*blake3::hash(bytes).as_bytes()),
            imports: imports.iter().map(|import| format!("holo.{import}")).collect(),
            exports,
            needs,
            memory_bytes_min,
            runtime: Arc::clone(runtime),
            memory: export(abi::MEMORY).ok_or_else(|| missing(abi::MEMORY))?,
            reserve: export(abi::RESERVE),
            init: export(abi::INIT),
            tile: export(abi::TILE),
            finish: export(abi::FINISH),
            combine: export(abi::COMBINE),
            task: export(abi::TASK),
            pre,
        })
    }

    /// BLAKE3 of its bytes.
    pub fn id(&self) -> ModuleId {
        self.id
    }

    /// Host functions that it imports, as `holo.name`.
    pub fn imports(&self) -> Vec<String> {
        self.imports.clone()
    }

    /// Everything that it exports, in its own order.
    pub fn exports(&self) -> Vec<String> {
        self.exports.clone()
    }

    /// Capabilities that it cannot run without.
    pub fn needs(&self) -> Vec<Capability> {
        self.needs.iter().map(|(_, capability)| *capability).collect()
    }

    /// Makes a fresh sandbox for tiles and hands `params` to `holo_init`.
    ///
    /// # Errors
    ///
    /// [`ExecError::TaskInvalid`] when it has no `holo_tile` or the parameters are too long,
    /// [`ExecError::CapabilityDenied`], [`ExecError::Overloaded`], and whatever stops the start function or
    /// `holo_init`.
    pub fn start(
        &self,
        params: &[u8],
        grants: &Grants,
        limits: &Limits,
        control: &RunControl,
    ) -> Result<Instance, ExecError> {
        self.check_export(self.tile.as_ref(), abi::TILE)?;
        self.open(params, grants, limits, control)
    }

    /// Runs `holo_task` on `args` in a fresh sandbox; the output is what it gave to `holo.result`.
    ///
    /// # Errors
    ///
    /// As [`Module::start`], and whatever stops the task.
    pub fn call(
        &self,
        args: &[u8],
        grants: &Grants,
        limits: &Limits,
        control: &RunControl,
    ) -> Result<CallOutput, ExecError> {
        self.check_export(self.task.as_ref(), abi::TASK)?;
        check_args(args)?;
        self.check_grants(grants)?;
        let mut instance = Instance::open(self, grants, limits, control)?;
        instance.run_task(args, control)
    }

    /// Joins partial results by `holo_combine` in a fresh sandbox.
    ///
    /// The order is a fixed balanced tree over the order given: neighbours 0 and 1, 2 and 3, and so on, then the same
    /// with their results; the last one of an odd round moves up as it is. A single partial is the result.
    ///
    /// # Errors
    ///
    /// As [`Module::start`]; [`ExecError::TaskInvalid`] also for no partials or one longer than 128 KiB.
    pub fn combine(
        &self,
        params: &[u8],
        partials: &[Vec<u8>],
        grants: &Grants,
        limits: &Limits,
        control: &RunControl,
    ) -> Result<CallOutput, ExecError> {
        self.check_export(self.combine.as_ref(), abi::COMBINE)?;
        if partials.is_empty() {
            return Err(ExecError::TaskInvalid { why: "no partial results to combine".into() });
        }
        let longest = partials.iter().map(Vec::len).max().unwrap_or(0);
        if longest > abi::PARTIAL_BYTES_MAX as usize {
            let why = format!(
                "a partial result of {longest} bytes, at most {} are possible",
                abi::PARTIAL_BYTES_MAX
            );
            return Err(ExecError::TaskInvalid { why });
        }
        let mut instance = self.open(params, grants, limits, control)?;
        instance.run_combine(partials, control)
    }

    fn open(
        &self,
        params: &[u8],
        grants: &Grants,
        limits: &Limits,
        control: &RunControl,
    ) -> Result<Instance, ExecError> {
        check_args(params)?;
        self.check_grants(grants)?;
        let mut instance = Instance::open(self, grants, limits, control)?;
        instance.run_init(params, control)?;
        Ok(instance)
    }

    fn check_export(&self, export: Option<&ModuleExport>, name: &str) -> Result<(), ExecError> {
        match export {
            Some(_) => Ok(()),
            None => {
                let why = format!("module {} does not export {name}", self.id.short());
                Err(ExecError::TaskInvalid { why })
            }
        }
    }

    fn check_grants(&self, grants: &Grants) -> Result<(), ExecError> {
        match self.needs.iter().find(|(_, capability)| !grants.has(*capability)) {
            None => Ok(()),
            Some((import, capability)) => {
                Err(ExecError::CapabilityDenied { import: import.clone(), capability: *capability })
            }
        }
    }
}

impl std::fmt::Debug for Module {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Module")
            .field("id", &self.id)
            .field("imports", &self.imports)
            .finish_non_exhaustive()
    }
}

fn check_args(args: &[u8]) -> Result<(), ExecError> {
    if args.len() > limits::TASK_ARGS_BYTES_MAX {
        let why = format!(
            "arguments of {} bytes, at most {} are possible",
            args.len(),
            limits::TASK_ARGS_BYTES_MAX
        );
        return Err(ExecError::TaskInvalid { why });
    }
    Ok(())
}
