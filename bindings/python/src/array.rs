//! One array: its descriptor, and its bytes as NumPy arrays of `uint8`.

use holo_client::{
    AnyArray, AxisIndex, ErrorCode, Failure, Scalar, Selection, Slice, Unwatched, UpdateKind,
};
use numpy::{PyArray1, PyReadonlyArray1};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::cluster::seconds;
use crate::error::refused;
use crate::waiting::wait;

/// A handle to an array on the cluster.
#[pyclass(name = "NativeArray", module = "holocompute._native", frozen)]
#[derive(Debug)]
pub(crate) struct NativeArray {
    pub(crate) array: AnyArray,
}

#[pymethods]
impl NativeArray {
    #[getter]
    fn name(&self) -> &str {
        self.array.name()
    }

    #[getter]
    fn shape(&self) -> Vec<u64> {
        self.array.shape().to_vec()
    }

    #[getter]
    fn dtype(&self) -> &'static str {
        self.array.dtype().name()
    }

    #[getter]
    fn shards(&self) -> u64 {
        self.array.layout().shards()
    }

    #[getter]
    fn shard_elems(&self) -> u64 {
        self.array.layout().shard_elems()
    }

    #[getter]
    fn array_id(&self) -> u64 {
        self.array.descriptor().id.0
    }

    #[getter]
    fn colocation(&self) -> u64 {
        self.array.descriptor().colocation.0
    }

    #[getter]
    fn replicas(&self) -> u8 {
        self.array.descriptor().class().replicas
    }

    #[getter]
    fn min_in_sync(&self) -> u8 {
        self.array.descriptor().class().min_in_sync
    }

    /// Shards per node, by the node that orders their writes: `[(name, shards)]`, in the order of the members. Shards
    /// that nobody holds any more are not counted.
    fn placement(&self) -> Vec<(String, u64)> {
        let view = self.array.cluster().view();
        let mut counts = vec![0u64; view.members().len()];
        for shard in (0..self.array.layout().shards()).map(holo_core::ShardIndex) {
            let primary = view.primary_of(self.array.descriptor(), shard);
            if let Some(count) = primary.ok().and_then(|(index, _)| counts.get_mut(index)) {
                *count += 1;
            }
        }
        view.members().iter().map(|view| view.member.name.clone()).zip(counts).collect()
    }

    /// The bytes of the flat elements `start..stop`.
    fn read<'py>(
        &self,
        py: Python<'py>,
        start: u64,
        stop: u64,
    ) -> PyResult<Bound<'py, PyArray1<u8>>> {
        let bytes = wait(py, self.array.read_bytes(start..stop))?;
        Ok(PyArray1::from_vec(py, bytes))
    }

    /// Writes bytes of whole elements from the flat element `start` on.
    fn write(&self, py: Python<'_>, start: u64, bytes: PyReadonlyArray1<'_, u8>) -> PyResult<()> {
        let bytes = contiguous(&bytes)?;
        wait(py, self.array.write_bytes_with(start, bytes, &Unwatched))
    }

    /// The bytes of a selection, packed in C order. One `(start, stop, step)` or index for each axis.
    fn read_selection<'py>(
        &self,
        py: Python<'py>,
        axes: Vec<Axis>,
    ) -> PyResult<Bound<'py, PyArray1<u8>>> {
        let selection = self.selection(&axes)?;
        let bytes = wait(py, self.array.read_selection(&selection))?;
        Ok(PyArray1::from_vec(py, bytes))
    }

    /// Writes packed bytes over a selection.
    fn write_selection(
        &self,
        py: Python<'_>,
        axes: Vec<Axis>,
        bytes: PyReadonlyArray1<'_, u8>,
    ) -> PyResult<()> {
        let selection = self.selection(&axes)?;
        let bytes = contiguous(&bytes)?;
        wait(py, self.array.write_selection(&selection, bytes))
    }

    /// Sets every element to the value with these little-endian bytes.
    fn fill(&self, py: Python<'_>, value: &[u8]) -> PyResult<()> {
        wait(py, self.array.fill(self.scalar(value)?))
    }

    /// Sets the elements of a selection to the value with these little-endian bytes.
    fn fill_selection(&self, py: Python<'_>, axes: Vec<Axis>, value: &[u8]) -> PyResult<()> {
        let selection = self.selection(&axes)?;
        wait(py, self.array.fill_selection(&selection, self.scalar(value)?))
    }

    /// Changes the element with a flat index, and gives back the bytes that it had before. `kind` is one of `add`,
    /// `min`, `max`, `and`, `or`, `swap` and, with `expected`, `compare_exchange`.
    #[pyo3(signature = (index, kind, operand, expected=None))]
    fn update<'py>(
        &self,
        py: Python<'py>,
        index: u64,
        kind: &str,
        operand: &[u8],
        expected: Option<&[u8]>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let kind = update_kind(kind)?;
        let operand = self.scalar(operand)?;
        let expected = expected.map(|bytes| self.scalar(bytes)).transpose()?;
        let previous = wait(py, self.array.update(index, kind, operand, expected))?;
        Ok(PyBytes::new(py, &previous.le_bytes()[..previous.dtype().size()]))
    }

    /// The same array, whose calls each end within so many seconds.
    fn with_deadline(&self, limit: f64) -> PyResult<Self> {
        Ok(Self { array: self.array.with_deadline(seconds(limit)?) })
    }
}

impl NativeArray {
    fn scalar(&self, bytes: &[u8]) -> PyResult<Scalar> {
        Scalar::from_le_bytes(self.array.dtype(), bytes).map_err(refused)
    }

    fn selection(&self, axes: &[Axis]) -> PyResult<Selection> {
        let axes: Vec<AxisIndex> = axes.iter().map(Axis::index).collect();
        Selection::new(&axes, self.array.layout().shape()).map_err(refused)
    }
}

/// One axis of a selection, as Python writes it: resolved, never negative.
#[derive(Clone, Copy, Debug, FromPyObject)]
pub(crate) enum Axis {
    /// `start, stop, step`.
    Range(i64, i64, u64),
    /// An index; the axis disappears.
    At(i64),
}

impl Axis {
    fn index(&self) -> AxisIndex {
        match *self {
            Self::At(index) => AxisIndex::At(index),
            Self::Range(start, stop, step) => {
                AxisIndex::Slice(Slice { start: Some(start), stop: Some(stop), step })
            }
        }
    }
}

fn update_kind(name: &str) -> PyResult<UpdateKind> {
    Ok(match name {
        "add" => UpdateKind::FetchAdd,
        "min" => UpdateKind::FetchMin,
        "max" => UpdateKind::FetchMax,
        "and" => UpdateKind::FetchAnd,
        "or" => UpdateKind::FetchOr,
        "swap" => UpdateKind::Swap,
        "compare_exchange" => UpdateKind::CompareExchange,
        _ => {
            let message = format!("{name:?} is no update");
            return Err(refused(Failure::new(ErrorCode::InvalidArgument, message)));
        }
    })
}

fn contiguous<'a>(bytes: &'a PyReadonlyArray1<'_, u8>) -> PyResult<&'a [u8]> {
    bytes.as_slice().map_err(|source| {
        refused(Failure::new(ErrorCode::InvalidArgument, format!("bytes to write: {source}")))
    })
}
