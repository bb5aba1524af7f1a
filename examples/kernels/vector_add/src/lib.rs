//! The sum of two float32 arrays, element by element.
#![no_std]

use holo_guest::{Tile, TileMut};

#[holo_guest::kernel(map)]
fn add(x: Tile<'_, f32>, y: Tile<'_, f32>, mut out: TileMut<'_, f32>) {
    for ((out, x), y) in out.iter_mut().zip(x.iter()).zip(y.iter()) {
        *out = x + y;
    }
}
