//! Programs: pushed, found, called, run over shards.

use std::sync::Arc;

use bytes::Bytes;
use holo_core::wire::{
    CallModule, CallReply, CombineModule, Decode, ModulePush, ModuleQuery, ModuleStatus, RunShards,
};
use holo_core::{ErrorCode, Failure, ModuleId, ShardIndex, action, limits};
use holo_exec::{CallOutput, Module, RunControl};
use holo_net::{BulkReader, BulkReply, Peer, Response};

use super::{NodeService, encode};
use crate::compute::{CancelOnDrop, Compute, module_resource, parse_grants, requested_limits};
use crate::data::DataPlane;
use crate::run::seed;

impl NodeService {
    pub(super) fn module_query(&self, peer: &Peer, body: Bytes) -> Result<Bytes, Failure> {
        let request = ModuleQuery::decode_body(&body)?;
        let id = ModuleId::from_slice(&request.module)?;
        let may = self
            .data()?
            .arrays
            .policy()
            .authorize::<action::Run>(peer.key, &module_resource(id))?;
        Ok(encode(match self.compute.modules.find(&may, id) {
            Ok(module) => module_status(&module),
            Err(_) => ModuleStatus::default(),
        }))
    }

    pub(super) fn run_shards(&self, peer: &Arc<Peer>, body: Bytes) -> Response {
        let (data, compute, key) = (self.data().cloned(), Arc::clone(&self.compute), peer.key);
        Response::WhileConnected(Box::pin(async move {
            let request = RunShards::decode_body(&body)?;
            bounded(encode(compute.run(data?, key, request).await?))
        }))
    }

    pub(super) fn call_module(&self, peer: &Arc<Peer>, body: Bytes) -> Response {
        let request = CallModule::decode_body(&body);
        self.on_module(
            peer,
            request,
            |request| &request.module,
            |module, request, control| {
                let limits = requested_limits(request.fuel, request.time_ms, request.memory_bytes)?;
                let grants = parse_grants(&request.grants)?;
                let grants = grants.seed(seed(module, &request.args, ShardIndex(0)));
                Ok(module.call(&request.args, &grants, &limits, control)?)
            },
        )
    }

    pub(super) fn combine_module(&self, peer: &Arc<Peer>, body: Bytes) -> Response {
        let request = CombineModule::decode_body(&body);
        self.on_module(
            peer,
            request,
            |request| &request.module,
            |module, mut request, control| {
                request.partials.sort_by_key(|partial| partial.shard);
                let partials: Vec<Vec<u8>> =
                    request.partials.into_iter().map(|partial| partial.data).collect();
                let limits = requested_limits(request.fuel, request.time_ms, request.memory_bytes)?;
                let grants = parse_grants(&request.grants)?;
                Ok(module.combine(&request.params, &partials, &grants, &limits, control)?)
            },
        )
    }

    /// Runs something of the module that a request names, on a worker, for as long as the requester is there.
    fn on_module<R: Send + 'static>(
        &self,
        peer: &Peer,
        request: Result<R, Failure>,
        id: impl FnOnce(&R) -> &[u8],
        job: impl FnOnce(&Module, R, &RunControl) -> Result<CallOutput, Failure> + Send + 'static,
    ) -> Response {
        let prepared = request.and_then(|request| {
            let module = self.granted_module(peer, id(&request))?;
            Ok((request, module))
        });
        match prepared {
            Ok((request, module)) => {
                let workers = Arc::clone(&self.compute.workers);
                Response::WhileConnected(Box::pin(async move {
                    let cancel = CancelOnDrop::default();
                    let control =
                        RunControl { cancel: Arc::clone(&cancel.0), ..RunControl::default() };
                    workers.run(move || reply_bytes(job(&module, request, &control)?)).await
                }))
            }
            Err(failure) => Response::Now(Err(failure)),
        }
    }

    fn granted_module(&self, peer: &Peer, id: &[u8]) -> Result<Arc<Module>, Failure> {
        let id = ModuleId::from_slice(id)?;
        let may = self
            .data()?
            .arrays
            .policy()
            .authorize::<action::Run>(peer.key, &module_resource(id))?;
        self.compute.modules.find(&may, id)
    }
}

pub(super) async fn module_push(
    data: &DataPlane,
    compute: Arc<Compute>,
    peer: &Peer,
    body: Bytes,
    mut incoming: BulkReader,
) -> Result<BulkReply, Failure> {
    let request = ModulePush::decode_body(&body)?;
    let id = ModuleId::from_slice(&request.module)?;
    let may = data.arrays.policy().authorize::<action::Run>(peer.key, &module_resource(id))?;
    let len = usize::try_from(incoming.remaining()).unwrap_or(usize::MAX);
    if len > limits::MODULE_BYTES_MAX {
        let message = format!("a module of {len} bytes, at most {}", limits::MODULE_BYTES_MAX);
        return Err(Failure::new(ErrorCode::TooLarge, message));
    }
    let mut bytes = vec![0u8; len];
    incoming.read_exact(&mut bytes).await?;
    let workers = Arc::clone(&compute.workers);
    let module =
        workers.run(move || compute.modules.add(&compute.engine, &may, id, &bytes)).await?;
    Ok(BulkReply { body: encode(module_status(&module)), bulk: Vec::new() })
}

fn module_status(module: &Module) -> ModuleStatus {
    ModuleStatus { present: true, imports: module.imports(), exports: module.exports() }
}

fn reply_bytes(CallOutput { output, fuel, log }: CallOutput) -> Result<Bytes, Failure> {
    // The engine has bounded the log already.
    let log = log.into_iter().map(|line| line.text).collect();
    bounded(encode(CallReply { output: Bytes::from(output), fuel, log }))
}

/// A reply that is larger than a message may be would only break the connection.
fn bounded(reply: Bytes) -> Result<Bytes, Failure> {
    if reply.len() > limits::BODY_BYTES_MAX as usize {
        let message =
            format!("a reply of {} bytes, at most {} may be", reply.len(), limits::BODY_BYTES_MAX);
        return Err(
            Failure::new(ErrorCode::OutputLimit, message).help("write large results to an array")
        );
    }
    Ok(reply)
}
