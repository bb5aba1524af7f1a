//! A lowered program and the arithmetic of its launches.

use holo_core::expr::{Reduction, identity};
use holo_core::{DType, Scalar, limits};

use super::carrier::Carrier;
use super::emit;
use crate::GpuError;

/// Place of the low word of the first element's index in `params`.
pub(super) const PARAM_FIRST_LOW: usize = 1;
/// Place of its high word.
pub(super) const PARAM_FIRST_HIGH: usize = 2;
/// Words before the inputs' offsets.
pub(super) const PARAMS_FIXED: usize = 3;
/// Bytes of all inputs of one launch, and of its results: half of what every adapter can bind at once.
const CHUNK_BYTES_MAX: u64 = 64 << 20;
/// Workgroups along x before a launch grows along y; both stay below 65,535.
const GROUPS_X_MAX: u64 = 32_768;

/// A program as WGSL, with what it takes to launch it.
#[derive(Clone, Debug, PartialEq)]
pub struct Kernel {
    source: String,
    constants: Vec<u32>,
    inputs: Vec<DType>,
    stage: Stage,
}

/// What a kernel leaves in its results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The elements of an output array.
    Elements(DType),
    /// One partial value per workgroup.
    Partials {
        /// How they become one.
        reduction: Reduction,
        /// Dtype of the reduced elements.
        element: DType,
    },
}

/// One launch: a run of elements whose inputs and results fit the bindings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// First element, counted from the start of the task.
    pub(crate) start: u64,
    /// Elements.
    pub(crate) elems: u64,
    /// The words of `params`.
    pub(crate) params: Vec<u32>,
    /// Where each input's bytes begin in the data, and how many they are.
    pub(crate) inputs: Vec<(u64, u64)>,
    /// Bytes of the data, whole words.
    pub(crate) data_bytes: u64,
    /// Bytes of the results, whole words.
    pub(crate) result_bytes: u64,
    /// Workgroups along x and y.
    pub(crate) groups: (u32, u32),
}

impl Kernel {
    pub(super) fn new(
        source: String,
        constants: Vec<u32>,
        inputs: Vec<DType>,
        stage: Stage,
    ) -> Self {
        Self { source, constants, inputs, stage }
    }

    /// The WGSL source, entry point `main`, workgroups of 256 invocations.
    ///
    /// Group 0 binds `params` (0), `data` (1) and `results` (2), each an array of words: see `bindings.wgsl`.
    pub fn source(&self) -> &str {
        &self.source
    }

    pub(crate) fn stage(&self) -> Stage {
        self.stage
    }

    pub(crate) fn inputs(&self) -> &[DType] {
        &self.inputs
    }

    /// The launches that together compute `elems` elements, of which the first has the index `first_index`.
    pub(crate) fn chunks(
        &self,
        first_index: u64,
        elems: u64,
    ) -> Result<impl Iterator<Item = Chunk>, GpuError> {
        if first_index.checked_add(elems).is_none_or(|end| end > limits::ARRAY_BYTES_MAX) {
            let message = format!("{elems} elements from index {first_index} are beyond any array");
            return Err(GpuError::InvalidTask(message));
        }
        let step = self.chunk_elems_max();
        Ok((0..elems.div_ceil(step)).map(move |number| {
            let start = number * step;
            self.chunk(first_index, start, step.min(elems - start))
        }))
    }

    /// Elements of the largest launch, a multiple of four so that every chunk begins at a whole word.
    fn chunk_elems_max(&self) -> u64 {
        let input_bytes: u64 = self.inputs.iter().map(|dtype| dtype.size() as u64).sum();
        let result_bytes = match self.stage {
            Stage::Elements(dtype) => dtype.size() as u64,
            Stage::Partials { .. } => 0,
        };
        // One word of padding per input.
        let usable = CHUNK_BYTES_MAX - 4 * limits::RUN_OPERANDS_MAX as u64;
        let fitting = usable / input_bytes.max(result_bytes).max(1);
        fitting.min(limits::SHARD_ELEMS_MAX) / 4 * 4
    }

    #[expect(clippy::cast_possible_truncation, reason = "words of u64, and counts below 2^26")]
    fn chunk(&self, first_index: u64, start: u64, elems: u64) -> Chunk {
        let first = first_index + start;
        let mut params = vec![elems as u32, first as u32, (first >> 32) as u32];
        let mut inputs = Vec::with_capacity(self.inputs.len());
        let mut data_bytes = 0u64;
        for dtype in &self.inputs {
            let bytes = elems * dtype.size() as u64;
            params.push((data_bytes / 4) as u32);
            inputs.push((data_bytes, bytes));
            data_bytes += bytes.next_multiple_of(4);
        }
        params.extend_from_slice(&self.constants);
        let (per_group, words) = match self.stage {
            Stage::Elements(dtype) => {
                (emit::ELEMENTS_PER_GROUP, (elems * dtype.size() as u64).div_ceil(4))
            }
            Stage::Partials { .. } => (emit::SUMMANDS_PER_GROUP, 0),
        };
        let groups = elems.div_ceil(per_group);
        let (x, y) = (groups.min(GROUPS_X_MAX), groups.div_ceil(GROUPS_X_MAX));
        let result_words = match self.stage {
            Stage::Elements(_) => words,
            Stage::Partials { .. } => x * y * self.partial_words() as u64,
        };
        Chunk {
            start,
            elems,
            params,
            inputs,
            data_bytes,
            result_bytes: result_words * 4,
            groups: (x as u32, y as u32),
        }
    }

    /// Words of one partial value.
    pub(crate) fn partial_words(&self) -> usize {
        match self.stage {
            Stage::Elements(_) => 1,
            Stage::Partials { reduction, element } => {
                emit::partial_carrier(reduction, element).map_or(1, Carrier::words)
            }
        }
    }

    /// The accumulator of no elements; `None` where elements are stored.
    pub(crate) fn value_of_nothing(&self) -> Option<Scalar> {
        match self.stage {
            Stage::Elements(_) => None,
            Stage::Partials { reduction, element } => Some(identity(reduction, element)),
        }
    }
}
