//! Kernels that find out what an adapter really does, because drivers promise more than they keep.

use wgpu::Features;

use crate::device::Gpu;
use crate::protocol::Run;
use crate::{Capabilities, GpuError};

/// Iterations of the loop: more than the 65,535 after which Mesa's lavapipe silently ends all loops.
const LOOP_ITERATIONS: u32 = 70_000;
/// What the parts of one buffer hold around the binding that is written past its end.
const UNTOUCHED: u32 = 0x1111_1111;
/// Words of the binding in the test of out-of-bounds writes.
const BOUND_WORDS: u32 = 64;

const HEADER: &str = include_str!("lower/bindings.wgsl");

const LOOP: &str = "@compute @workgroup_size(1)
fn main() {
    var value = data[0];
    for (var k = 0u; k < params[0]; k++) {
        value = value * 1664525u + 1013904223u;
    }
    results[0] = value;
}
";

const INT64: &str = "@compute @workgroup_size(1)
fn main() {
    let product = i64(params[0]) * 3000000000li + i64(data[0]);
    results[0] = u32(product & 0xffffffffli);
    results[1] = u32(product >> 32u);
}
";

const FLOAT64: &str = "@compute @workgroup_size(1)
fn main() {
    let near_one = 1.0lf + f64(params[0]) * 0.000000000001lf;
    results[0] = u32(near_one * 1000000000000.0lf - 1000000000000.0lf + 0.5lf);
    results[1] = data[0];
}
";

const OUT_OF_BOUNDS: &str = "@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) lane: u32) {
    results[lane] = lane + data[lane + 1000000u] * 0u;
    results[lane + params[0]] = 0xdeadbeefu;
}
";

/// Tries everything out. Fails only where the device cannot do what every device must.
pub(crate) fn try_out(gpu: &mut Gpu, features: Features) -> Result<Capabilities, GpuError> {
    let looped = run(gpu, LOOP, &[LOOP_ITERATIONS], 1)?;
    Ok(Capabilities {
        loop_limited: looped.first() != Some(&expected_of_loop(LOOP_ITERATIONS)),
        int64: features.contains(Features::SHADER_INT64) && int64_works(gpu),
        float64: features.contains(Features::SHADER_F64) && float64_works(gpu),
        out_of_bounds_contained: out_of_bounds_contained(gpu)?,
    })
}

/// First word of the data of every canary.
const SEED: u32 = 7;

fn expected_of_loop(iterations: u32) -> u32 {
    (0..iterations).fold(SEED, |value, _| value.wrapping_mul(1_664_525).wrapping_add(1_013_904_223))
}

fn int64_works(gpu: &mut Gpu) -> bool {
    let expected: u64 = 2_000_000_000 * 3_000_000_000 + u64::from(SEED);
    let words = run(gpu, INT64, &[2_000_000_000], 2);
    words.is_ok_and(|words| {
        let product = words.iter().rev().fold(0, |high, word| high << 32 | u64::from(*word));
        product == expected
    })
}

fn float64_works(gpu: &mut Gpu) -> bool {
    run(gpu, FLOAT64, &[12_345], 2).is_ok_and(|words| words.first() == Some(&12_345))
}

/// Runs a kernel whose results are a part of its buffer and looks at the rest.
fn out_of_bounds_contained(gpu: &mut Gpu) -> Result<bool, GpuError> {
    let fill = "@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) lane: u32) {
    for (var k = 0u; k < 16u; k++) {
        results[k * 64u + lane] = params[0] + data[0] * 0u;
    }
}
";
    let look = "@compute @workgroup_size(1)
fn main() {
    results[0] = params[0] + data[0] * 0u;
}
";
    run(gpu, fill, &[UNTOUCHED], 16 * BOUND_WORDS)?;
    run(gpu, OUT_OF_BOUNDS, &[4 * BOUND_WORDS], BOUND_WORDS)?;
    // Binds the whole buffer again and reads it without writing more than its first word.
    let words = run(gpu, look, &[UNTOUCHED], 16 * BOUND_WORDS)?;
    let beyond = BOUND_WORDS as usize;
    Ok(words.len() == 16 * beyond && words[beyond..].iter().all(|word| *word == UNTOUCHED))
}

fn run(gpu: &mut Gpu, body: &str, params: &[u32], words: u32) -> Result<Vec<u32>, GpuError> {
    let run = Run {
        source: [HEADER, body].join("\n"),
        params: params.to_vec(),
        groups_x: 1,
        groups_y: 1,
        result_bytes: u64::from(words) * 4,
    };
    let results = gpu.run(&run, &SEED.to_le_bytes())?;
    let word = |bytes: &[u8]| bytes.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
    Ok(results.chunks_exact(4).map(word).collect())
}
