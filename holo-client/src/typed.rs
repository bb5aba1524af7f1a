//! Arrays of a Rust type.

use std::marker::PhantomData;
use std::ops::{Deref, RangeBounds};
use std::time::Duration;

use holo_core::expr::Reduction;
use holo_core::{ErrorCode, Scalar, Selection};

use crate::array::zeroed;
use crate::element::{from_scalar, scalar_of};
use crate::{AnyArray, Element, Error, Result, Total, Unwatched};

/// A shared array of elements of `T`. Cheap to clone; the elements stay on the nodes.
///
/// It dereferences to [`AnyArray`] for its name, shape and layout.
#[derive(Clone, Debug)]
pub struct SharedArray<T> {
    any: AnyArray,
    element: PhantomData<T>,
}

impl<T: Element> SharedArray<T> {
    pub(crate) fn new(any: AnyArray) -> Self {
        Self { any, element: PhantomData }
    }

    /// Reads a range of flat C-order elements: `array.read(10..20)`, `array.read(..)`.
    ///
    /// # Errors
    ///
    /// As [`AnyArray::read_bytes`].
    pub async fn read(&self, range: impl RangeBounds<u64> + Send) -> Result<Vec<T>> {
        let elems = self.any.range(range)?;
        let count = self.any.bytes_of(&elems)? / size_of::<T>();
        let mut values = zeroed::<T>(count)?;
        let bytes = bytemuck::cast_slice_mut(&mut values);
        self.any.read_into(elems, bytes, &Unwatched).await?;
        Ok(values)
    }

    /// Writes elements from the element `start` on.
    ///
    /// # Errors
    ///
    /// As [`AnyArray::write_bytes`].
    pub async fn write(&self, start: u64, values: &[T]) -> Result<()> {
        self.any.write_bytes(start, bytemuck::cast_slice(values)).await
    }

    /// One element.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::OutOfRange`]; those of the link.
    pub async fn get(&self, index: u64) -> Result<T> {
        let mut value = T::zeroed();
        let end = index.saturating_add(1);
        self.any.read_into(index..end, bytemuck::bytes_of_mut(&mut value), &Unwatched).await?;
        Ok(value)
    }

    /// Sets one element.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::OutOfRange`]; those of the link.
    pub async fn set(&self, index: u64, value: T) -> Result<()> {
        self.any.write_bytes(index, bytemuck::bytes_of(&value)).await
    }

    /// Reads the elements of a selection, in C order.
    ///
    /// # Errors
    ///
    /// As [`AnyArray::read_selection`].
    pub async fn read_selection(&self, selection: &Selection) -> Result<Vec<T>> {
        let bytes = self.any.read_selection(selection).await?;
        Ok(bytemuck::pod_collect_to_vec(&bytes))
    }

    /// Writes C-order elements over a selection.
    ///
    /// # Errors
    ///
    /// As [`AnyArray::write_selection`].
    pub async fn write_selection(&self, selection: &Selection, values: &[T]) -> Result<()> {
        self.any.write_selection(selection, bytemuck::cast_slice(values)).await
    }

    /// The same array, whose calls each end within `limit`; see [`AnyArray::with_deadline`].
    #[must_use]
    pub fn with_deadline(&self, limit: Duration) -> Self {
        Self::new(self.any.with_deadline(limit))
    }

    /// Sets every element to one value; only the value travels.
    ///
    /// # Errors
    ///
    /// As [`AnyArray::fill`].
    pub async fn fill(&self, value: T) -> Result<()> {
        self.any.fill(scalar_of(value)).await
    }

    /// Sets the elements of a range to one value.
    ///
    /// # Errors
    ///
    /// As [`AnyArray::fill_range`].
    pub async fn fill_range(&self, range: impl RangeBounds<u64> + Send, value: T) -> Result<()> {
        self.any.fill_range(range, scalar_of(value)).await
    }

    /// Sets the elements of a selection to one value.
    ///
    /// # Errors
    ///
    /// As [`AnyArray::fill_selection`].
    pub async fn fill_selection(&self, selection: &Selection, value: T) -> Result<()> {
        self.any.fill_selection(selection, scalar_of(value)).await
    }

    /// Sum of all elements, computed where they lie. Integers wrap at 64 bits.
    ///
    /// # Errors
    ///
    /// As [`AnyArray::reduce`].
    pub async fn sum(&self) -> Result<Total<T>> {
        read_back(self.any.reduce(Reduction::Sum).await?)
    }

    /// Product of all elements. Integers wrap at 64 bits.
    ///
    /// # Errors
    ///
    /// As [`AnyArray::reduce`].
    pub async fn prod(&self) -> Result<Total<T>> {
        read_back(self.any.reduce(Reduction::Prod).await?)
    }

    /// The smallest element; NaN when there is one.
    ///
    /// # Errors
    ///
    /// As [`AnyArray::reduce`].
    pub async fn min(&self) -> Result<T> {
        read_back(self.any.reduce(Reduction::Min).await?)
    }

    /// The largest element; NaN when there is one.
    ///
    /// # Errors
    ///
    /// As [`AnyArray::reduce`].
    pub async fn max(&self) -> Result<T> {
        read_back(self.any.reduce(Reduction::Max).await?)
    }
}

impl<T> Deref for SharedArray<T> {
    type Target = AnyArray;

    fn deref(&self) -> &AnyArray {
        &self.any
    }
}

fn read_back<T: Element>(value: Scalar) -> Result<T> {
    from_scalar(value).ok_or_else(|| {
        let message = format!("the reduced value is {}, not {}", value.dtype(), T::DTYPE);
        Error::new(ErrorCode::Internal, message)
    })
}
