//! The inner product of two float64 arrays.
#![no_std]

use holo_guest::Tile;

/// Partial sums side by side: fuel metering spills fewer than eight accumulators every iteration.
const LANES: usize = 16;

#[holo_guest::kernel(reduce, start = [0.0; LANES], combine = join)]
fn dot(sums: &mut [f64; LANES], x: Tile<'_, f64>, y: Tile<'_, f64>) {
    let (x, x_rest) = x.as_chunks::<LANES>();
    let (y, y_rest) = y.as_chunks::<LANES>();
    for (x, y) in x.iter().zip(y) {
        for ((sum, x), y) in sums.iter_mut().zip(x).zip(y) {
            *sum += x * y;
        }
    }
    for ((sum, x), y) in sums.iter_mut().zip(x_rest).zip(y_rest) {
        *sum += x * y;
    }
}

/// The caller adds the sixteen sums of the last partial result.
fn join(mut a: [f64; LANES], b: [f64; LANES]) -> [f64; LANES] {
    for (a, b) in a.iter_mut().zip(b) {
        *a += b;
    }
    a
}
