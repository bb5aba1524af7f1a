//! A compiled expression, and running it over shards.

use holo_core::expr::Program;

use crate::{ExecError, RunControl, ShardOutput, ShardTask};

/// A compiled expression. Threads share it; each runs in an instance of its own, kept for the next run.
#[derive(Debug)]
pub struct Expression {}

impl Expression {
    pub(crate) fn compile(
        _engine: &wasmtime::Engine,
        _program: &Program,
    ) -> Result<Self, ExecError> {
        Ok(Self {})
    }

    /// Computes one shard.
    pub fn run_shard(
        &self,
        _task: ShardTask<'_, '_>,
        _control: &RunControl,
    ) -> Result<ShardOutput, ExecError> {
        Err(ExecError::TaskInvalid { why: "no".into() })
    }
}
