//! Throughput of compiled expressions and of modules beside native loops of the same run, and calls per second.
//!
//! `cargo run --release -p holo-exec --example exec_bench`. One core unless said; 100 million elements in shards of
//! 4 MiB that lie in warm memory.

#![expect(clippy::print_stdout, reason = "a benchmark's table")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::{
    hint::black_box,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Result;
use holo_core::{
    DType, Scalar, TileSink, TileSource,
    expr::{BinaryOp, Input, NodeIndex, Op, Program, Reduction, UnaryOp},
};
use holo_exec::{Engine, EngineOptions, Grants, Limits, Module, RunControl, ShardTask};

const ELEMS: usize = 100_000_000;
const SHARD: usize = 1 << 19;

fn main() -> Result<()> {
    let engine = Engine::new(EngineOptions::default())?;
    integers(&engine)?;
    floats(&engine)?;
    singles(&engine)?;
    modules(&engine)?;
    calls(&engine)
}

/// A shard in memory.
struct Memory<'a>(&'a [u8]);

impl TileSource for Memory<'_> {
    fn copy_to(&self, byte_offset: u64, dst: &mut [u8]) {
        let start = usize::try_from(byte_offset).unwrap_or(usize::MAX);
        dst.copy_from_slice(&self.0[start..][..dst.len()]);
    }
}

struct MemoryMut<'a>(&'a mut [u8]);

impl TileSink for MemoryMut<'_> {
    fn copy_from(&mut self, byte_offset: u64, src: &[u8]) {
        let start = usize::try_from(byte_offset).unwrap_or(usize::MAX);
        self.0[start..][..src.len()].copy_from_slice(src);
    }
}

/// Best of five.
fn best(mut run: impl FnMut() -> Result<()>) -> Result<Duration> {
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let start = Instant::now();
        run()?;
        best = best.min(start.elapsed());
    }
    Ok(best)
}

fn row(name: &str, bytes: usize, time: Duration, native: Option<Duration>) {
    let rate = |time: Duration| bytes as f64 / time.as_secs_f64() / 1e9;
    let native = native.map_or_else(String::new, |native| {
        format!("   native {:6.1} ms {:5.1} GB/s", native.as_secs_f64() * 1e3, rate(native))
    });
    println!("{name:30} {:6.1} ms {:5.1} GB/s{native}", time.as_secs_f64() * 1e3, rate(time));
}

fn quadratic() -> Vec<Op> {
    vec![
        Op::Index,
        Op::Const(Scalar::i64(3)),
        Op::Const(Scalar::i64(1)),
        Op::Binary(BinaryOp::Mul, NodeIndex(0), NodeIndex(0)),
        Op::Binary(BinaryOp::Mul, NodeIndex(1), NodeIndex(0)),
        Op::Binary(BinaryOp::Add, NodeIndex(3), NodeIndex(4)),
        Op::Binary(BinaryOp::Add, NodeIndex(5), NodeIndex(2)),
    ]
}

fn program(dtypes: &[DType], ops: Vec<Op>, reduction: Option<Reduction>) -> Result<Program> {
    let names = ["x", "y"].into_iter().zip(dtypes);
    let inputs = names.map(|(name, dtype)| Input { name: name.into(), dtype: *dtype }).collect();
    let root = NodeIndex(u32::try_from(ops.len() - 1)?);
    Ok(Program::new(inputs, ops, root, reduction)?)
}

/// Runs an expression over arrays, shard by shard.
fn run(engine: &Engine, program: &Program, inputs: &[&[u8]], output: &mut [u8]) -> Result<()> {
    let expression = engine.expression(program)?;
    let size =
        program.inputs().first().map_or_else(|| program.output_dtype(), |input| input.dtype).size();
    let bytes = inputs.first().map_or(output.len(), |input| input.len());
    for start in (0..bytes).step_by(SHARD * size) {
        let end = bytes.min(start + SHARD * size);
        let sources: Vec<Memory<'_>> =
            inputs.iter().map(|bytes| Memory(&bytes[start..end])).collect();
        let sources: Vec<&dyn TileSource> =
            sources.iter().map(|source| source as &dyn TileSource).collect();
        let mut sink = MemoryMut(output.get_mut(start..end).unwrap_or_default());
        let mut sinks: Vec<&mut dyn TileSink> = Vec::new();
        if program.reduction().is_none() {
            sinks.push(&mut sink);
        }
        let task = ShardTask {
            first_index: (start / size) as u64,
            elems: ((end - start) / size) as u64,
            inputs: &sources,
            outputs: &mut sinks,
        };
        black_box(expression.run_shard(task, &RunControl::default())?);
    }
    Ok(())
}

fn integers(engine: &Engine) -> Result<()> {
    let mut a = vec![1u8; ELEMS * 8];
    let fill = program(&[], quadratic(), None)?;
    println!(
        "compile i*i+3i+1: {:?}",
        best(|| {
            let _: () = drop(Engine::new(small())?.expression(&fill)?);
            Ok(())
        })?
    );

    let native = best(|| {
        for (index, value) in (0i64..).zip(a.as_chunks_mut::<8>().0) {
            *value = index
                .wrapping_mul(index)
                .wrapping_add(index.wrapping_mul(3))
                .wrapping_add(1)
                .to_le_bytes();
        }
        Ok(())
    })?;
    row("fill i*i+3i+1, int64", ELEMS * 8, best(|| run(engine, &fill, &[], &mut a))?, Some(native));

    let native = best(|| {
        let values = a.as_chunks::<8>().0.iter().map(|raw| i64::from_le_bytes(*raw));
        black_box(values.fold(0i64, i64::wrapping_add));
        Ok(())
    })?;
    let sum = program(&[DType::I64], vec![Op::Input(0)], Some(Reduction::Sum))?;
    row("sum, int64", ELEMS * 8, best(|| run(engine, &sum, &[&a], &mut []))?, Some(native));
    Ok(())
}

fn floats(engine: &Engine) -> Result<()> {
    let (mut b, mut c) = (vec![1u8; ELEMS * 8], vec![1u8; ELEMS * 8]);
    for (value, raw) in (0u32..).zip(b.as_chunks_mut::<8>().0) {
        *raw = (f64::from(value % 1000) * 0.001).to_le_bytes();
    }
    let native = best(|| {
        let mut lanes = [0f64; 16];
        for chunk in b.as_chunks::<8>().0.chunks_exact(16) {
            for (lane, raw) in lanes.iter_mut().zip(chunk) {
                *lane += f64::from_le_bytes(*raw);
            }
        }
        black_box(lanes);
        Ok(())
    })?;
    let sum = program(&[DType::F64], vec![Op::Input(0)], Some(Reduction::Sum))?;
    row("sum, float64", ELEMS * 8, best(|| run(engine, &sum, &[&b], &mut []))?, Some(native));

    let ops = vec![
        Op::Input(0),
        Op::Const(Scalar::f64(1.0)),
        Op::Binary(BinaryOp::Mul, NodeIndex(0), NodeIndex(0)),
        Op::Binary(BinaryOp::Add, NodeIndex(2), NodeIndex(1)),
        Op::Unary(UnaryOp::Sqrt, NodeIndex(3)),
    ];
    let native = best(|| {
        for (out, raw) in c.as_chunks_mut::<8>().0.iter_mut().zip(b.as_chunks::<8>().0) {
            let x = f64::from_le_bytes(*raw);
            *out = (x * x + 1.0).sqrt().to_le_bytes();
        }
        Ok(())
    })?;
    let root = program(&[DType::F64], ops, None)?;
    row(
        "sqrt(x*x+1), float64, in+out",
        ELEMS * 16,
        best(|| run(engine, &root, &[&b], &mut c))?,
        Some(native),
    );
    Ok(())
}

fn singles(engine: &Engine) -> Result<()> {
    let (mut b, mut c) = (vec![1u8; ELEMS * 8], vec![1u8; ELEMS * 4]);
    let half = ELEMS * 4;
    for (value, raw) in (0u16..1000).cycle().zip(b.as_chunks_mut::<4>().0) {
        *raw = f32::from(value).to_le_bytes();
    }
    let native = best(|| {
        let (x, y) = (b[..half].as_chunks::<4>().0, b[half..].as_chunks::<4>().0);
        for ((out, x), y) in c[..half].as_chunks_mut::<4>().0.iter_mut().zip(x).zip(y) {
            *out = (f32::from_le_bytes(*x) + f32::from_le_bytes(*y)).to_le_bytes();
        }
        Ok(())
    })?;
    let ops =
        vec![Op::Input(0), Op::Input(1), Op::Binary(BinaryOp::Add, NodeIndex(0), NodeIndex(1))];
    let add = program(&[DType::F32; 2], ops, None)?;
    let time = best(|| run(engine, &add, &[&b[..half], &b[half..]], &mut c[..half]))?;
    row("x + y, float32, in+out", half * 3, time, Some(native));

    let native = best(|| {
        let mut lanes = [0f64; 16];
        for chunk in b[..half].as_chunks::<4>().0.chunks_exact(16) {
            for (lane, raw) in lanes.iter_mut().zip(chunk) {
                *lane += f64::from(f32::from_le_bytes(*raw));
            }
        }
        black_box(lanes);
        Ok(())
    })?;
    let sum = program(&[DType::F32], vec![Op::Input(0)], Some(Reduction::Sum))?;
    row("sum, float32", half, best(|| run(engine, &sum, &[&b[..half]], &mut []))?, Some(native));
    Ok(())
}

/// The written-out WAT kernels, metered.
fn modules(engine: &Engine) -> Result<()> {
    let kernels = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/kernels");
    let fill = engine.module(&wat::parse_file(kernels.join("quadratic.wat"))?)?;
    let sum = engine.module(&wat::parse_file(kernels.join("quadratic_sum.wat"))?)?;
    let mut a = vec![1u8; ELEMS * 8];
    let control = RunControl::default();
    let start = |module: &Module| module.start(&[], &Grants::none(), &Limits::default(), &control);
    let shard = |index: usize| index * SHARD * 8..(ELEMS * 8).min((index + 1) * SHARD * 8);
    let shards = ELEMS.div_ceil(SHARD);
    let filled = best(|| {
        for index in 0..shards {
            let mut sink = MemoryMut(&mut a[shard(index)]);
            let elems = (sink.0.len() / 8) as u64;
            let first_index = (index * SHARD) as u64;
            let task = ShardTask { first_index, elems, inputs: &[], outputs: &mut [&mut sink] };
            start(&fill)?.run_shard(task, &[DType::I64], &control)?;
        }
        Ok(())
    })?;
    row("module fill, int64", ELEMS * 8, filled, None);
    let summed = best(|| {
        for index in 0..shards {
            let source = Memory(&a[shard(index)]);
            let elems = (source.0.len() / 8) as u64;
            let task = ShardTask { first_index: 0, elems, inputs: &[&source], outputs: &mut [] };
            let mut instance = start(&sum)?;
            instance.run_shard(task, &[DType::I64], &control)?;
            black_box(instance.finish(&control)?);
        }
        Ok(())
    })?;
    row("module sum, int64", ELEMS * 8, summed, None);
    Ok(())
}

/// Fresh sandboxes per second.
fn calls(engine: &Engine) -> Result<()> {
    let noop = wat::parse_str(
        r#"(module (memory (export "memory") 1) (global (export "holo_abi") i32 (i32.const 1))
            (func (export "holo_task") (param i32 i32) (result i32) (i32.const 0)))"#,
    )?;
    let module = engine.module(&noop)?;
    let (limits, control) = (Limits::default(), RunControl::default());
    let mut times = Vec::with_capacity(50_000);
    for _ in 0..50_000 {
        let start = Instant::now();
        module.call(&[], &Grants::none(), &limits, &control)?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    println!("no-op call: p50 {:?}, p99 {:?}", times[25_000], times[49_500]);
    for threads in [1, 2] {
        let start = Instant::now();
        let counts: Result<Vec<u64>> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads)
                .map(|_| {
                    scope.spawn(|| {
                        let (control, mut count) = (RunControl::default(), 0);
                        while start.elapsed() < Duration::from_secs(1) {
                            module.call(&[], &Grants::none(), &limits, &control)?;
                            count += 1;
                        }
                        Ok(count)
                    })
                })
                .collect();
            workers.into_iter().map(|worker| worker.join().unwrap_or(Ok(0))).collect()
        });
        let rate = counts?.iter().sum::<u64>() as f64 / start.elapsed().as_secs_f64();
        println!("no-op calls, {threads} threads: {rate:.0}/s");
    }
    Ok(())
}

fn small() -> EngineOptions {
    EngineOptions { instances_max: 1, ..EngineOptions::default() }
}
