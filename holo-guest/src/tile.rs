//! The operands of one tile.

use core::ops::{Deref, DerefMut};

/// Elements of one tile of an input.
#[derive(Clone, Copy, Debug)]
pub struct Tile<'a, T>(&'a [T]);

impl<'a, T> Tile<'a, T> {
    /// A tile of these elements; the host's tiles are made by the macros.
    pub fn new(elements: &'a [T]) -> Self {
        Self(elements)
    }
}

impl<T> Deref for Tile<'_, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        self.0
    }
}

/// Elements of one tile of an output. They hold anything until they are written.
#[derive(Debug)]
pub struct TileMut<'a, T>(&'a mut [T]);

impl<'a, T> TileMut<'a, T> {
    /// A tile of these elements; the host's tiles are made by the macros.
    pub fn new(elements: &'a mut [T]) -> Self {
        Self(elements)
    }
}

impl<T> Deref for TileMut<'_, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        self.0
    }
}

impl<T> DerefMut for TileMut<'_, T> {
    fn deref_mut(&mut self) -> &mut [T] {
        self.0
    }
}

/// Flat C-order index, in the whole array, of a tile's first element. A kernel may ask for it as any parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirstIndex(pub u64);

/// A type of elements. Bool arrays are read as `u8`, 0 or 1.
pub trait Element: Copy + sealed::Sealed {
    /// Whether an operand of this dtype byte may be read as this type.
    fn is_dtype(dtype: u16) -> bool;
}

/// Any bits are a value, and there is no padding.
pub(crate) mod sealed {
    /// Closed: what crosses the sandbox's border is plain numbers.
    #[expect(unnameable_types, reason = "so that no other crate can implement it")]
    pub trait Sealed {}
}

macro_rules! elements {
    ($($type:ident $($dtype:literal)|+;)*) => {
        $(
            impl sealed::Sealed for $type {}
            impl Element for $type {
                fn is_dtype(dtype: u16) -> bool {
                    matches!(dtype, $($dtype)|+)
                }
            }
        )*
    };
}

elements! {
    i8 2;
    i16 3;
    i32 4;
    i64 5;
    u8 1 | 6;
    u16 7;
    u32 8;
    u64 9;
    f32 10;
    f64 11;
}
