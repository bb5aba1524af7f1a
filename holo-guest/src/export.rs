//! What the macros' exports are made of; kernels do not call it.
#![allow(unsafe_code, reason = "operands arrive as addresses")]

use core::{cell::Cell, marker::PhantomData};

use crate::tile::{Element, FirstIndex, Tile, TileMut, sealed::Sealed};

/// The operands of a tile descriptor, taken one by one.
#[derive(Debug)]
pub struct Operands<'a> {
    descriptor: *const u8,
    taken: usize,
    tile: PhantomData<&'a [u8]>,
}

impl Operands<'_> {
    /// The operands of a descriptor.
    ///
    /// # Safety
    ///
    /// It is a descriptor of ABI v1; its windows do not overlap and stay as they are for `'a`.
    pub unsafe fn new(descriptor: *const u8) -> Self {
        Self { descriptor, taken: 0, tile: PhantomData }
    }

    /// Fails the run when operands are left over.
    pub fn finish(&self) {
        if self.number(4) as usize != self.taken {
            refuse("the run binds another number of operands than the kernel has parameters");
        }
    }

    /// Address and length of the next operand, which has to be of the type and the mode.
    fn next<T: Element>(&mut self, mode: u16) -> (*mut T, usize) {
        if self.taken >= self.number(4) as usize {
            refuse("the run binds fewer operands than the kernel has parameters");
        }
        let at = 24 + 16 * self.taken;
        self.taken += 1;
        let [dtype, found] = [self.number(at + 8) & 0xffff, self.number(at + 8) >> 16];
        if !u16::try_from(dtype).is_ok_and(T::is_dtype) {
            refuse("an operand is of another dtype than the kernel's parameter");
        }
        if found != u32::from(mode) {
            refuse("an operand is an input where the kernel has an output, or the other way round");
        }
        (core::ptr::with_exposed_provenance_mut(self.number(at) as usize), self.number(16) as usize)
    }

    fn number(&self, offset: usize) -> u32 {
        let field = self.descriptor.wrapping_add(offset).cast::<u32>();
        // SAFETY: the descriptor covers its operands, of which `next` reads no more than there are.
        unsafe { field.read_unaligned() }
    }
}

/// A parameter of a kernel.
pub trait Argument<'a> {
    /// Takes it from the operands that are left.
    fn take(operands: &mut Operands<'a>) -> Self;
}

impl<'a, T: Element> Argument<'a> for Tile<'a, T> {
    fn take(operands: &mut Operands<'a>) -> Self {
        let (elements, count) = operands.next::<T>(0);
        // SAFETY: the host checked the window and leaves it alone for `'a`; any bits are a value.
        Self::new(unsafe { core::slice::from_raw_parts(elements, count) })
    }
}

impl<'a, T: Element> Argument<'a> for TileMut<'a, T> {
    fn take(operands: &mut Operands<'a>) -> Self {
        let (elements, count) = operands.next::<T>(1);
        // SAFETY: as above, and windows do not overlap, so this is the only reference.
        Self::new(unsafe { core::slice::from_raw_parts_mut(elements, count) })
    }
}

impl<'a> Argument<'a> for FirstIndex {
    fn take(operands: &mut Operands<'a>) -> Self {
        Self(u64::from(operands.number(12)) << 32 | u64::from(operands.number(8)))
    }
}

/// A partial result: numbers and arrays of them.
pub trait State: Copy + Sealed {}
impl<T: Element> State for T {}
impl<T: Sealed, const N: usize> Sealed for [T; N] {}
impl<T: State, const N: usize> State for [T; N] where [T; N]: Sealed {}

/// The partial result of the shard so far.
#[derive(Debug)]
pub struct Partial<S: Copy>(Cell<S>);

// SAFETY: a module without threads; elsewhere the macros write no exports, so nobody shares one.
unsafe impl<S: Copy> Sync for Partial<S> {}

impl<S: State> Partial<S> {
    /// That of no elements.
    pub const fn new(start: S) -> Self {
        Self(Cell::new(start))
    }

    /// Changes it.
    pub fn update(&self, change: impl FnOnce(&mut S)) {
        let mut partial = self.0.get();
        change(&mut partial);
        self.0.set(partial);
    }

    /// Its value.
    pub fn value(&self) -> S {
        self.0.get()
    }
}

/// Writes a partial result; its length or a negative status.
///
/// # Safety
///
/// `out` has room for `cap` bytes.
pub unsafe fn write<S: State>(value: S, out: *mut u8, cap: usize) -> i32 {
    let length = size_of::<S>();
    if length > cap {
        return -1;
    }
    // SAFETY: `length` bytes fit.
    unsafe { out.cast::<S>().write_unaligned(value) };
    i32::try_from(length).unwrap_or(-1)
}

/// Reads a partial result that [`write()`] wrote.
///
/// # Safety
///
/// `bytes` has `length` bytes.
pub unsafe fn read<S: State>(bytes: *const u8, length: usize) -> S {
    if length != size_of::<S>() {
        refuse("a partial result has another length than the kernel's");
    }
    // SAFETY: it is all there, and any bits are a value.
    unsafe { bytes.cast::<S>().read_unaligned() }
}

/// The arguments of a task.
///
/// # Safety
///
/// `bytes` has `length` bytes that stay as they are for `'a`.
pub unsafe fn bytes<'a>(bytes: *const u8, length: usize) -> &'a [u8] {
    if length == 0 {
        return &[];
    }
    // SAFETY: as promised.
    unsafe { core::slice::from_raw_parts(bytes, length) }
}

/// How a task ends.
pub trait Outcome {
    /// The status for the host.
    fn end(self) -> i32;
}

impl Outcome for () {
    fn end(self) -> i32 {
        0
    }
}

impl Outcome for Result<(), &'static str> {
    fn end(self) -> i32 {
        match self {
            Ok(()) => 0,
            Err(message) => refuse(message),
        }
    }
}

#[cfg(target_arch = "wasm32")]
fn refuse(message: &'static str) -> ! {
    crate::fail(1, message)
}

#[cfg(not(target_arch = "wasm32"))]
#[expect(clippy::panic, reason = "natively there are only tests")]
fn refuse(message: &'static str) -> ! {
    panic!("{message}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A descriptor with windows in the test's own memory: only for the checks before a window is touched.
    fn descriptor(operands: &[(u16, u16)]) -> [u32; 32] {
        let mut words = [0; 32];
        words[1] = u32::try_from(operands.len()).unwrap();
        words[2] = 0x8000_0001;
        words[3] = 7;
        for (index, (dtype, mode)) in operands.iter().enumerate() {
            words[6 + 4 * index] = 64;
            words[6 + 4 * index + 2] = u32::from(*mode) << 16 | u32::from(*dtype);
        }
        words
    }

    fn operands(words: &[u32; 32]) -> Operands<'_> {
        // SAFETY: no elements, so no window is read.
        unsafe { Operands::new(words.as_ptr().cast()) }
    }

    #[test]
    fn operands_are_taken_in_order_by_type() {
        let words = descriptor(&[(10, 0), (5, 1)]);
        let mut operands = operands(&words);
        assert_eq!(FirstIndex::take(&mut operands), FirstIndex(0x7_8000_0001));
        assert!(Tile::<f32>::take(&mut operands).is_empty());
        assert!(TileMut::<i64>::take(&mut operands).is_empty());
        operands.finish();
    }

    #[test]
    #[should_panic(expected = "another dtype")]
    fn an_operand_of_another_dtype_is_refused() {
        let words = descriptor(&[(11, 0)]);
        Tile::<f32>::take(&mut operands(&words));
    }

    #[test]
    #[should_panic(expected = "the other way round")]
    fn an_input_is_no_output() {
        let words = descriptor(&[(10, 0)]);
        TileMut::<f32>::take(&mut operands(&words));
    }

    #[test]
    #[should_panic(expected = "another number of operands")]
    fn an_operand_left_over_is_refused() {
        let words = descriptor(&[(10, 0), (10, 0)]);
        let mut operands = operands(&words);
        Tile::<f32>::take(&mut operands);
        operands.finish();
    }

    #[test]
    fn partial_results_go_there_and_back() {
        let partial = Partial::new([0u32; 3]);
        partial.update(|counts| counts[1] += 5);
        let mut bytes = [0; 16];
        // SAFETY: the buffer has 16 bytes.
        let written = unsafe { write(partial.value(), bytes.as_mut_ptr(), 16) };
        assert_eq!(written, 12);
        // SAFETY: the buffer has 12 bytes.
        assert_eq!(unsafe { read::<[u32; 3]>(bytes.as_ptr(), 12) }, [0, 5, 0]);
        // SAFETY: nothing is written where it does not fit.
        assert_eq!(unsafe { write(partial.value(), bytes.as_mut_ptr(), 11) }, -1);
    }
}
