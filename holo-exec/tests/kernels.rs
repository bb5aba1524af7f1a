//! The kernels of `examples/kernels`: those in Rust are built here as a user builds them, then run on shards.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod operands;

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use holo_core::{DType, ErrorCode, Failure, TileSink, TileSource};
use holo_exec::{Engine, EngineOptions, ExecError, Grants, Limits, RunControl, ShardTask};
use operands::{Draw, Sink, Source, plain};

const TARGET: &str = "wasm32-unknown-unknown";

fn engine() -> Engine {
    Engine::new(EngineOptions { instances_max: 4, ..EngineOptions::default() }).unwrap()
}

fn kernels() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/kernels")
}

/// Builds every Rust kernel once.
fn built(name: &str) -> Vec<u8> {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let folder = BUILT.get_or_init(|| {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kernels");
        let build = Command::new(env!("CARGO"))
            .args(["build", "--release", "--locked", "--target", TARGET])
            .current_dir(kernels())
            .env("CARGO_TARGET_DIR", &target)
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .output()
            .unwrap();
        assert!(
            build.status.success(),
            "the kernels do not build; the target may be missing: `rustup target add {TARGET}`\n{}",
            String::from_utf8_lossy(&build.stderr)
        );
        target.join(TARGET).join("release")
    });
    std::fs::read(folder.join(name).with_extension("wasm")).unwrap()
}

fn wat(name: &str) -> Vec<u8> {
    wat::parse_file(kernels().join(name)).unwrap()
}

struct Run<'a> {
    inputs: &'a [(DType, &'a [u8])],
    outputs: &'a [DType],
    elems: usize,
}

/// Outputs, partial result, fuel.
type Ran = (Vec<Vec<u8>>, Vec<u8>, u64);

/// Runs a tile kernel over one shard in a fresh sandbox.
fn run(module: &[u8], run: &Run<'_>) -> Result<Ran, ExecError> {
    let module = engine().module(module).unwrap();
    let control = RunControl::default();
    let mut instance = module.start(&[], &Grants::none(), &Limits::default(), &control)?;
    let sources: Vec<Source<'_>> = run.inputs.iter().map(|(_, bytes)| Source(bytes)).collect();
    let sources: Vec<&dyn TileSource> =
        sources.iter().map(|source| source as &dyn TileSource).collect();
    let mut sinks: Vec<Sink> = run.outputs.iter().map(|_| Sink::default()).collect();
    let mut outputs: Vec<&mut dyn TileSink> =
        sinks.iter_mut().map(|sink| sink as &mut dyn TileSink).collect();
    let task = ShardTask {
        first_index: FIRST,
        elems: run.elems as u64,
        inputs: &sources,
        outputs: &mut outputs,
    };
    let dtypes: Vec<DType> =
        run.inputs.iter().map(|(dtype, _)| *dtype).chain(run.outputs.iter().copied()).collect();
    instance.run_shard(task, &dtypes, &control)?;
    let finished = instance.finish(&control)?;
    Ok((sinks.into_iter().map(|sink| sink.0).collect(), finished.output, finished.fuel))
}

const FIRST: u64 = (1 << 33) + 5;

#[test]
fn vector_add_built_from_rust_adds_as_a_native_loop_does() {
    let module = built("vector_add");
    let mut draw = Draw(1);
    for elems in [0, 1, 5, 32_768, 100_003] {
        let (x, y) = (plain(DType::F32, elems, &mut draw), plain(DType::F32, elems, &mut draw));
        let native: Vec<u8> =
            floats32(&x).zip(floats32(&y)).flat_map(|(x, y)| (x + y).to_le_bytes()).collect();
        let operands =
            Run { inputs: &[(DType::F32, &x), (DType::F32, &y)], outputs: &[DType::F32], elems };
        let (outputs, _, fuel) = run(&module, &operands).unwrap();
        assert!(outputs[0] == native, "{elems} elements");
        assert_eq!(run(&module, &operands).unwrap().2, fuel, "the same run burns the same fuel");
    }
}

#[test]
fn a_kernel_refuses_operands_of_other_dtypes_in_its_own_words() {
    let bytes = [0; 8];
    let error = run(
        &built("vector_add"),
        &Run {
            inputs: &[(DType::F64, &bytes), (DType::F64, &bytes)],
            outputs: &[DType::F64],
            elems: 1,
        },
    )
    .unwrap_err();
    assert!(error.to_string().contains("another dtype"), "{error}");
    let missing = Run { inputs: &[(DType::F32, &bytes)], outputs: &[DType::F32], elems: 2 };
    let failure = Failure::from(run(&built("vector_add"), &missing).unwrap_err());
    assert_eq!(failure.code, ErrorCode::TaskFailed);
}

#[test]
fn a_kernel_that_computes_only_imports_nothing_but_fail() {
    let module = engine().module(&built("vector_add")).unwrap();
    assert_eq!(module.imports(), ["holo.fail"]);
    assert!(module.needs().is_empty());
}

#[test]
fn dot_products_of_shards_combine_in_a_fixed_tree() {
    let module = built("dot");
    let mut draw = Draw(2);
    let shards: Vec<(Vec<u8>, Vec<u8>)> = [70_000, 4_096, 17, 0, 1]
        .into_iter()
        .map(|elems| (plain(DType::F64, elems, &mut draw), plain(DType::F64, elems, &mut draw)))
        .collect();
    let partial = |(x, y): &(Vec<u8>, Vec<u8>)| {
        let operands =
            Run { inputs: &[(DType::F64, x), (DType::F64, y)], outputs: &[], elems: x.len() / 8 };
        run(&module, &operands).unwrap().1
    };
    let partials: Vec<Vec<u8>> = shards.iter().map(partial).collect();
    let native: Vec<Vec<f64>> = shards
        .iter()
        .map(|(x, y)| {
            let mut lanes = vec![0.0; 16];
            // Every tile but the last has a multiple of 16 elements, so lanes go on from tile to tile.
            for (index, (x, y)) in floats64(x).zip(floats64(y)).enumerate() {
                lanes[index % 16] += x * y;
            }
            lanes
        })
        .collect();
    for (partial, native) in partials.iter().zip(&native) {
        assert_eq!(floats64(partial).collect::<Vec<_>>(), *native);
    }
    let join = |a: &[f64], b: &[f64]| -> Vec<f64> { a.iter().zip(b).map(|(a, b)| a + b).collect() };
    let (left, right) = (join(&native[0], &native[1]), join(&native[2], &native[3]));
    let expected = join(&join(&left, &right), &native[4]);
    let combined = engine()
        .module(&module)
        .unwrap()
        .combine(&[], &partials, &Grants::none(), &Limits::default(), &RunControl::default())
        .unwrap();
    assert_eq!(floats64(&combined.output).collect::<Vec<_>>(), expected);
    let one = engine().module(&module).unwrap().combine(
        &[],
        &partials[..1],
        &Grants::none(),
        &Limits::default(),
        &RunControl::default(),
    );
    assert_eq!(one.unwrap().output, partials[0]);
}

#[test]
fn noop_returns_nothing_whatever_its_arguments() {
    let module = engine().module(&built("noop")).unwrap();
    for args in [&b""[..], b"x", &[7; 100_000]] {
        let output =
            module.call(args, &Grants::none(), &Limits::default(), &RunControl::default()).unwrap();
        assert!(output.output.is_empty());
        assert!(output.fuel > 0);
    }
}

#[test]
fn the_written_out_quadratic_fills_and_sums() {
    let (fill, sum) = (wat("quadratic.wat"), wat("quadratic_sum.wat"));
    for elems in [0usize, 1, 7, 8, 31, 33, 16_384, 50_001] {
        let native: Vec<i64> = (0..elems as u64)
            .map(|i| {
                let i = (FIRST + i).cast_signed();
                i.wrapping_mul(i).wrapping_add(3i64.wrapping_mul(i)).wrapping_add(1)
            })
            .collect();
        let bytes: Vec<u8> = native.iter().flat_map(|value| value.to_le_bytes()).collect();
        let filled = run(&fill, &Run { inputs: &[], outputs: &[DType::I64], elems }).unwrap();
        assert!(filled.0[0] == bytes, "{elems} elements");
        let summed =
            run(&sum, &Run { inputs: &[(DType::I64, &bytes)], outputs: &[], elems }).unwrap();
        let expected = native.iter().fold(0i64, |sum, value| sum.wrapping_add(*value));
        assert_eq!(summed.1, expected.to_le_bytes(), "{elems} elements");
        let partials = [summed.1.clone(), summed.1.clone(), summed.1];
        let combined = engine()
            .module(&sum)
            .unwrap()
            .combine(&[], &partials, &Grants::none(), &Limits::default(), &RunControl::default())
            .unwrap();
        assert_eq!(combined.output, expected.wrapping_mul(3).to_le_bytes());
    }
    let wrong = Run { inputs: &[], outputs: &[DType::F64], elems: 4 };
    assert!(matches!(run(&fill, &wrong).unwrap_err(), ExecError::GuestStatus { status: -2, .. }));
}

fn floats32(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.chunks_exact(4).map(|raw| f32::from_le_bytes(raw.try_into().unwrap()))
}

fn floats64(bytes: &[u8]) -> impl Iterator<Item = f64> {
    bytes.chunks_exact(8).map(|raw| f64::from_le_bytes(raw.try_into().unwrap()))
}
