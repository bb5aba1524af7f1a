//! Kernels on an adapter, through the real worker process, against the interpreter and against the host's `float64`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../programs/mod.rs"]
mod programs;
#[path = "../worker/mod.rs"]
mod worker;

mod accuracy;
mod arrays;
mod elements;
mod reductions;

use holo_core::expr::{Program, evaluate, reduce_shard};
use holo_core::{DType, Scalar, TileSink, TileSource};
use holo_gpu::{AdapterReport, GpuError, GpuOutput, GpuTask, GpuWorker};
use worker::worker_with_adapter;

/// An adapter and the ways to compare it with the interpreter.
struct Bench {
    worker: GpuWorker,
    report: AdapterReport,
}

impl Bench {
    /// `None`, said aloud, on a machine without adapter.
    fn open(test: &str) -> Option<Self> {
        worker_with_adapter(test).map(|(worker, report)| Self { worker, report })
    }

    fn task(
        &self,
        program: &Program,
        arrays: &[&[u8]],
        first_index: u64,
        elems: usize,
        output: Option<&mut Stored>,
    ) -> Result<GpuOutput, GpuError> {
        let sources: Vec<Bytes> = arrays.iter().map(|bytes| Bytes(bytes.to_vec())).collect();
        let inputs: Vec<&dyn TileSource> =
            sources.iter().map(|source| source as &dyn TileSource).collect();
        let output = output.map(|stored| stored as &mut dyn TileSink);
        let task = GpuTask { first_index, elems: elems as u64, inputs: &inputs, output };
        self.worker.run_shard(program, task)
    }

    /// The stored elements.
    fn elements(
        &self,
        program: &Program,
        arrays: &[&[u8]],
        first_index: u64,
        elems: usize,
    ) -> Vec<u8> {
        let mut stored = Stored(Vec::new());
        let output = self.task(program, arrays, first_index, elems, Some(&mut stored)).unwrap();
        assert_eq!(output, GpuOutput { accumulator: None, adapter: self.report.name.clone() });
        stored.0
    }

    /// The accumulator of a reduction.
    fn accumulator(
        &self,
        program: &Program,
        arrays: &[&[u8]],
        first_index: u64,
        elems: usize,
    ) -> Scalar {
        self.task(program, arrays, first_index, elems, None).unwrap().accumulator.unwrap()
    }

    fn assert_exact(&self, program: &Program, arrays: &[&[u8]], first_index: u64, elems: usize) {
        let stored = self.elements(program, arrays, first_index, elems);
        let expected = evaluate(program, arrays, first_index, elems).unwrap();
        assert_eq!(stored.len(), expected.len());
        let size = program.output_dtype().size();
        for (index, (got, wanted)) in stored.chunks(size).zip(expected.chunks(size)).enumerate() {
            assert!(
                got == wanted,
                "element {index} of {elems}: got {}, expected {}, operands {:?}, {program:?}",
                show(program.output_dtype(), got),
                show(program.output_dtype(), wanted),
                operands(program, arrays, index),
            );
        }
    }

    fn assert_exact_reduction(
        &self,
        program: &Program,
        arrays: &[&[u8]],
        first_index: u64,
        elems: usize,
    ) {
        let got = self.accumulator(program, arrays, first_index, elems);
        let expected = reduce_shard(program, arrays, first_index, elems).unwrap();
        assert_eq!(got, expected, "{elems} elements, got {got}, expected {expected}, {program:?}");
    }
}

fn show(dtype: DType, bytes: &[u8]) -> String {
    Scalar::from_le_bytes(dtype, bytes).unwrap().to_string()
}

fn operands(program: &Program, arrays: &[&[u8]], index: usize) -> Vec<String> {
    let value = |(input, bytes): (&holo_core::expr::Input, &&[u8])| {
        let size = input.dtype.size();
        show(input.dtype, &bytes[index * size..(index + 1) * size])
    };
    program.inputs().iter().zip(arrays).map(value).collect()
}

/// An input array in memory.
struct Bytes(Vec<u8>);

impl TileSource for Bytes {
    fn copy_to(&self, byte_offset: u64, dst: &mut [u8]) {
        let start = usize::try_from(byte_offset).unwrap();
        dst.copy_from_slice(&self.0[start..start + dst.len()]);
    }
}

/// An output array in memory; the contract is bytes in ascending order, each once.
struct Stored(Vec<u8>);

impl TileSink for Stored {
    fn copy_from(&mut self, byte_offset: u64, src: &[u8]) {
        assert_eq!(byte_offset, self.0.len() as u64);
        self.0.extend_from_slice(src);
    }
}

#[test]
fn an_adapter_says_what_it_is_and_what_it_can_do() {
    let Some(bench) = Bench::open("the report of an adapter") else { return };
    let report = bench.report;
    eprintln!("adapter: {report}, {:?}", report.capabilities);
    assert!(!report.name.is_empty());
    assert!(report.storage_binding_bytes_max >= 64 << 20);
    assert!(report.capabilities.out_of_bounds_contained);
    // Mesa's software device is known: the canary must find what we know.
    if report.name.contains("llvmpipe") {
        assert!(report.capabilities.loop_limited);
        assert!(report.capabilities.int64 && report.capabilities.float64);
    }
}
