//! The cluster: connecting, arrays, programs, status.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use holo_client::{Cluster, DType, Device, LocalCluster, Options, PublicKey, RunReport};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::array::NativeArray;
use crate::error::{closed, refused, to_python};
use crate::waiting::{runtime, wait};

/// A connection to a cluster, or a local one of our own.
#[pyclass(name = "NativeCluster", module = "holocompute._native", frozen)]
#[derive(Debug)]
pub(crate) struct NativeCluster {
    state: Mutex<Option<State>>,
}

#[derive(Debug)]
struct State {
    cluster: Cluster,
    local: Option<LocalCluster>,
}

/// Fuel, and seconds that a program may take on each node; `None` for the node's own limit.
#[derive(Clone, Copy, Debug, FromPyObject)]
pub(crate) struct Limits(Option<u64>, Option<f64>);

/// Connects to nodes at `addresses`, else to those that the environment names.
#[pyfunction]
#[pyo3(signature = (addresses=None, identity=None, node_keys=None, connect_timeout=None, request_timeout=None))]
pub(crate) fn connect(
    py: Python<'_>,
    addresses: Option<Vec<String>>,
    identity: Option<String>,
    node_keys: Option<Vec<String>>,
    connect_timeout: Option<f64>,
    request_timeout: Option<f64>,
) -> PyResult<NativeCluster> {
    let mut options = match addresses {
        Some(addresses) => Options::new().addresses_from(addresses),
        None => Options::from_env().map_err(|error| to_python(&error))?,
    };
    if let Some(path) = identity.or_else(|| std::env::var(holo_client::ENV_IDENTITY).ok()) {
        options = options.identity(path);
    }
    for key in node_keys.unwrap_or_default() {
        options = options.node_key(PublicKey::from_hex(&key).map_err(refused)?);
    }
    options = with_timeouts(options, connect_timeout, request_timeout)?;
    let cluster = wait(py, Cluster::connect(options))?;
    Ok(NativeCluster { state: Mutex::new(Some(State { cluster, local: None })) })
}

/// Starts nodes on this machine with the program `binary`, or the one that is found.
#[pyfunction]
#[pyo3(signature = (nodes, binary=None, connect_timeout=None, request_timeout=None))]
pub(crate) fn local(
    py: Python<'_>,
    nodes: usize,
    binary: Option<String>,
    connect_timeout: Option<f64>,
    request_timeout: Option<f64>,
) -> PyResult<NativeCluster> {
    let mut options = with_timeouts(Options::new(), connect_timeout, request_timeout)?;
    if let Some(path) = binary {
        options = options.binary(path);
    }
    let local = wait(py, Cluster::local_with(nodes, options))?;
    let state = State { cluster: local.cluster().clone(), local: Some(local) };
    Ok(NativeCluster { state: Mutex::new(Some(state)) })
}

#[pymethods]
impl NativeCluster {
    /// Closes the connections; stops the nodes of a local cluster and waits for them. Twice is the same as once.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let taken = self.state.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(State { cluster, local }) = taken else { return Ok(()) };
        match local {
            Some(local) => wait(py, local.close()),
            None => wait(py, async {
                cluster.disconnect().await;
                Ok(())
            }),
        }
    }

    #[getter]
    fn is_closed(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// Addresses and identity file of a local cluster, for other programs; `None` for one that we only joined.
    fn local_access(&self) -> Option<(Vec<String>, String)> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let local = state.as_ref()?.local.as_ref()?;
        Some((local.addresses().to_vec(), local.identity().display().to_string()))
    }

    #[getter]
    fn cluster_name(&self) -> PyResult<String> {
        Ok(self.cluster()?.view().cluster_name().to_owned())
    }

    /// `[(node id, name, address)]`.
    fn members(&self) -> PyResult<Vec<(String, String, String)>> {
        let view = self.cluster()?.view();
        let members = view.members().iter().map(|view| &view.member);
        Ok(members
            .map(|member| (member.node.to_string(), member.name.clone(), member.address.clone()))
            .collect())
    }

    /// `copies` are the replicas and those of them that must be in sync; 0 stands for the cluster's default.
    #[pyo3(signature = (name, shape, dtype, like=None, shard_elems=None, copies=(0, 0)))]
    #[expect(clippy::too_many_arguments, reason = "the Python half calls it with all of them")]
    fn create(
        &self,
        py: Python<'_>,
        name: &str,
        shape: Vec<u64>,
        dtype: &str,
        like: Option<&str>,
        shard_elems: Option<u64>,
        copies: (u32, u32),
    ) -> PyResult<NativeArray> {
        let made = self.cluster()?.array(name).shape(shape);
        let mut made = made.replicas(copies.0).min_in_sync(copies.1);
        if let Some(like) = like {
            made = made.like(like);
        }
        if let Some(elems) = shard_elems {
            made = made.shard_elems(elems);
        }
        let dtype = DType::parse(dtype).map_err(refused)?;
        let array = wait(py, made.create_any(dtype))?;
        Ok(NativeArray { array })
    }

    fn open(&self, py: Python<'_>, name: &str) -> PyResult<NativeArray> {
        let cluster = self.cluster()?;
        Ok(NativeArray { array: wait(py, cluster.open_any(name))? })
    }

    fn arrays(&self, py: Python<'_>) -> PyResult<Vec<NativeArray>> {
        let cluster = self.cluster()?;
        let arrays = wait(py, cluster.arrays())?;
        Ok(arrays.into_iter().map(|array| NativeArray { array }).collect())
    }

    fn remove(&self, py: Python<'_>, name: &str) -> PyResult<()> {
        let cluster = self.cluster()?;
        wait(py, cluster.remove(name))
    }

    /// Removes an array in the background and tells nobody how it went: for arrays that nobody can reach any more.
    fn forget(&self, name: &str) -> PyResult<()> {
        // At exit the cluster may be closed already; then its arrays are gone or somebody else's.
        let Ok(cluster) = self.cluster() else { return Ok(()) };
        let name = name.to_owned();
        drop(runtime()?.spawn(async move { cluster.remove(&name).await }));
        Ok(())
    }

    /// Waits until every change that was begun so far has ended.
    fn sync(&self, py: Python<'_>) -> PyResult<()> {
        let cluster = self.cluster()?;
        wait(py, cluster.sync())
    }

    /// Runs an expression over `[(name, array)]`, stores it into `output` when there is one.
    #[pyo3(signature = (text, inputs, output=None, device="auto", limits=Limits(None, None)))]
    fn run_expression<'py>(
        &self,
        py: Python<'py>,
        text: &str,
        inputs: Vec<(String, Py<NativeArray>)>,
        output: Option<Py<NativeArray>>,
        device: &str,
        limits: Limits,
    ) -> PyResult<Bound<'py, PyDict>> {
        let mut expression = self.cluster()?.expr(text);
        for (name, array) in &inputs {
            expression = expression.input(name, &array.get().array);
        }
        if let Some(output) = &output {
            expression = expression.store_into(&output.get().array);
        }
        let device = Device::parse(device).map_err(|error| to_python(&error))?;
        expression = expression.device(device).fuel(limits.0.unwrap_or(0));
        if let Some(limit) = limits.1 {
            expression = expression.time_limit(seconds(limit)?);
        }
        let report = wait(py, expression.run())?;
        report_to_python(py, &report)
    }

    /// Runs a WASM module over arrays.
    fn run_module<'py>(
        &self,
        py: Python<'py>,
        module: Vec<u8>,
        inputs: Vec<Py<NativeArray>>,
        outputs: Vec<Py<NativeArray>>,
        params: Vec<u8>,
        limits: Limits,
    ) -> PyResult<Bound<'py, PyDict>> {
        let mut task = self.cluster()?.task(module).params(params);
        for array in &inputs {
            task = task.input(&array.get().array);
        }
        for array in &outputs {
            task = task.output(&array.get().array);
        }
        task = task.fuel(limits.0.unwrap_or(0));
        if let Some(limit) = limits.1 {
            task = task.time_limit(seconds(limit)?);
        }
        let report = wait(py, task.run())?;
        report_to_python(py, &report)
    }

    /// The state of every node: a list of dicts, with `error` instead of the figures where a node does not answer.
    fn status<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let cluster = self.cluster()?;
        let statuses = wait(py, async { Ok(cluster.status().await) })?;
        let described = statuses.iter().map(|status| {
            let dict = PyDict::new(py);
            dict.set_item("node", status.member.node.to_string())?;
            dict.set_item("name", &status.member.name)?;
            dict.set_item("address", &status.member.address)?;
            match &status.outcome {
                Err(error) => {
                    dict.set_item("state", "unreachable")?;
                    dict.set_item("error", error.to_string())?;
                }
                Ok(state) => {
                    dict.set_item("state", &state.state)?;
                    dict.set_item("agent", &state.agent)?;
                    dict.set_item("uptime_ms", state.uptime_ms)?;
                    dict.set_item("frame_bytes", state.frame_bytes)?;
                    dict.set_item("frame_bytes_max", state.frame_bytes_max)?;
                    dict.set_item("reserved_bytes", state.reserved_bytes)?;
                    dict.set_item("shards", state.shards)?;
                    dict.set_item("partitions", state.partitions)?;
                    dict.set_item("resident_bytes", state.resident_bytes)?;
                    let suites: Vec<&str> =
                        state.links.iter().map(|link| link.suite.as_str()).collect();
                    dict.set_item("suites", suites)?;
                }
            }
            Ok(dict)
        });
        described.collect()
    }
}

impl NativeCluster {
    fn cluster(&self) -> PyResult<Cluster> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.as_ref().map(|state| state.cluster.clone()).ok_or_else(closed)
    }
}

fn report_to_python<'py>(py: Python<'py>, report: &RunReport) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("shards", report.shards)?;
    dict.set_item("elems", report.elems)?;
    dict.set_item("fuel", report.fuel)?;
    dict.set_item("seconds", report.elapsed.as_secs_f64())?;
    let nodes: PyResult<Vec<Bound<'py, PyDict>>> = report
        .nodes
        .iter()
        .map(|node| {
            let entry = PyDict::new(py);
            entry.set_item("name", &node.name)?;
            entry.set_item("shards", node.shards)?;
            entry.set_item("elems", node.elems)?;
            entry.set_item("seconds", node.elapsed.as_secs_f64())?;
            entry.set_item("engine", &node.engine)?;
            Ok(entry)
        })
        .collect();
    dict.set_item("nodes", nodes?)?;
    if let Some(value) = report.value {
        let bytes = value.le_bytes();
        dict.set_item("dtype", value.dtype().name())?;
        dict.set_item("value", PyBytes::new(py, &bytes[..value.dtype().size()]))?;
    }
    if let Some(output) = &report.output {
        dict.set_item("output", PyBytes::new(py, output))?;
    }
    let partials: Vec<(u64, Bound<'py, PyBytes>)> = report
        .partials
        .iter()
        .map(|partial| (partial.shard, PyBytes::new(py, &partial.data)))
        .collect();
    dict.set_item("partials", partials)?;
    Ok(dict)
}

fn with_timeouts(
    mut options: Options,
    connect: Option<f64>,
    request: Option<f64>,
) -> PyResult<Options> {
    if let Some(timeout) = connect {
        options = options.connect_timeout(seconds(timeout)?);
    }
    if let Some(timeout) = request {
        options = options.request_timeout(seconds(timeout)?);
    }
    Ok(options)
}

pub(crate) fn seconds(value: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(value).map_err(|source| {
        let message = format!("{value} seconds: {source}");
        refused(holo_client::Failure::new(holo_client::ErrorCode::InvalidArgument, message))
    })
}
