//! One array: its descriptor, and its bytes as NumPy arrays of `uint8`.

use holo_client::{AnyArray, AxisIndex, ErrorCode, Failure, Scalar, Selection, Slice, Unwatched};
use numpy::{PyArray1, PyReadonlyArray1};
use pyo3::prelude::*;

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

    /// Shards per node: `[(name, shards)]`, in the order of the members.
    fn placement(&self) -> Vec<(String, u64)> {
        let membership = self.array.cluster().membership();
        let mut counts = vec![0u64; membership.members().len()];
        for shard in 0..self.array.layout().shards() {
            let shard = holo_core::ShardIndex(shard);
            let (index, _) = membership.primary_of(self.array.descriptor(), shard);
            if let Some(count) = counts.get_mut(index) {
                *count += 1;
            }
        }
        membership.members().iter().map(|member| member.name.clone()).zip(counts).collect()
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
        let value = Scalar::from_le_bytes(self.array.dtype(), value).map_err(refused)?;
        wait(py, self.array.fill(value))
    }
}

impl NativeArray {
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

fn contiguous<'a>(bytes: &'a PyReadonlyArray1<'_, u8>) -> PyResult<&'a [u8]> {
    bytes.as_slice().map_err(|source| {
        refused(Failure::new(ErrorCode::InvalidArgument, format!("bytes to write: {source}")))
    })
}
